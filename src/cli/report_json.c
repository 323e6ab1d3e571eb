/* SPDX-License-Identifier: Apache-2.0 */
/* The summary as JSON. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/report.h"
#include "cli/text.h"

enum { SCHEMA = 1 };

/* Every function below may be given NULL where memory ran out, and remembers it here. */
struct builder {
    bool failed;
};

/* Adds item to an object (under key) or to an array (key NULL), which owns it then. */
static void put(struct builder *b, cJSON *to, const char *key, cJSON *item)
{
    bool added =
        item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item));
    if (!added) {
        cJSON_Delete(item);
        b->failed = true;
    }
}

static void put_text(struct builder *b, cJSON *to, const char *key, const char *text)
{
    char *utf8 = text_to_utf8(text);
    put(b, to, key, utf8 ? cJSON_CreateString(utf8) : NULL);
    free(utf8);
}

/* All 64 bits: cJSON's own numbers are doubles. */
static void put_number(struct builder *b, cJSON *to, const char *key, uint64_t n)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, n);
    put(b, to, key, cJSON_CreateRaw(digits));
}

static void put_seconds(struct builder *b, cJSON *to, double seconds)
{
    char digits[48];
    snprintf(digits, sizeof digits, "%.3f", seconds);
    put(b, to, "seconds", cJSON_CreateRaw(digits));
}

static cJSON *make_files(struct builder *b, const struct uz_consolidate_summary *summary)
{
    cJSON *files = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_files; i++) {
        cJSON *file = cJSON_CreateObject();
        put_text(b, file, "name", summary->files[i].name);
        put_number(b, file, "bytes", summary->files[i].nbytes);
        put_number(b, file, "tensors", summary->files[i].n_tensors);
        put(b, files, NULL, file);
    }
    return files;
}

static cJSON *make_tied(struct builder *b, const struct uz_consolidate_summary *summary)
{
    cJSON *tied = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_tied; i++) {
        cJSON *pair = cJSON_CreateObject();
        put_text(b, pair, "name", summary->tied[2 * i]);
        put_text(b, pair, "kept", summary->tied[2 * i + 1]);
        put(b, tied, NULL, pair);
    }
    return tied;
}

static cJSON *make_left_out(struct builder *b, const struct uz_consolidate_summary *summary)
{
    static const char *const reasons[] = {
        [UZ_LEFT_OUT_FROZEN] = "frozen",
        [UZ_LEFT_OUT_BY_RULES] = "rules",
        [UZ_LEFT_OUT_STATELESS] = "stateless",
    };
    cJSON *left_out = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_left_out; i++) {
        cJSON *name = cJSON_CreateObject();
        put_text(b, name, "name", summary->left_out[i].name);
        put_text(b, name, "why", reasons[summary->left_out[i].why]);
        put(b, left_out, NULL, name);
    }
    return left_out;
}

static cJSON *make_renamed(struct builder *b, const struct uz_consolidate_summary *summary)
{
    cJSON *renamed = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_renamed; i++) {
        cJSON *pair = cJSON_CreateObject();
        put_text(b, pair, "from", summary->renamed[2 * i]);
        put_text(b, pair, "to", summary->renamed[2 * i + 1]);
        put(b, renamed, NULL, pair);
    }
    return renamed;
}

static cJSON *make_warnings(struct builder *b, const struct uz_consolidate_summary *summary)
{
    cJSON *warnings = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_warnings; i++)
        put_text(b, warnings, NULL, summary->warnings[i]);
    return warnings;
}

static void put_source(struct builder *b, cJSON *to, const struct report *report)
{
    const struct uz_consolidate_summary *summary = report->summary;
    put_text(b, to, "checkpoint", report->checkpoint);
    put_text(b, to, "out", report->out);
    put_text(b, to, "out_dir", summary->out_dir);
    put_text(b, to, "tag", summary->tag);
    if (*summary->ds_version)
        put_text(b, to, "ds_version", summary->ds_version);
    else
        put(b, to, "ds_version", cJSON_CreateNull());
    put_number(b, to, "zero_stage", (uint64_t)summary->zero_stage);
    put_number(b, to, "world_size", summary->world_size);
    put_text(b, to, "dtype", report->dtype);
    put(b, to, "dry_run", cJSON_CreateBool(report->dry_run));
}

static void put_result(struct builder *b, cJSON *to, const struct report *report)
{
    const struct uz_consolidate_summary *summary = report->summary;
    put(b, to, "files", make_files(b, summary));
    put_number(b, to, "tensors", summary->n_tensors);
    put_number(b, to, "data_bytes", summary->data_nbytes);
    put_number(b, to, "file_bytes", summary->file_nbytes);
    put_number(b, to, "memory_bytes", summary->memory_nbytes);
    put_number(b, to, "threads", summary->threads);
    put(b, to, "tied", make_tied(b, summary));
    put_number(b, to, "frozen_excluded", summary->n_frozen_excluded);
    put(b, to, "left_out", make_left_out(b, summary));
    put(b, to, "renamed", make_renamed(b, summary));
    put_number(b, to, "overflows", summary->n_overflows);
    put(b, to, "warnings", make_warnings(b, summary));
    put_seconds(b, to, report->seconds);
}

static cJSON *start(struct builder *b, const char *command)
{
    cJSON *root = cJSON_CreateObject();
    put_number(b, root, "schema", SCHEMA);
    put_text(b, root, "command", command);
    return root;
}

/* Prints and frees. */
static int finish(const struct builder *b, cJSON *root)
{
    char *text = b->failed ? NULL : cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (!text)
        return -1;
    puts(text);
    cJSON_free(text);
    return 0;
}

int report_json(const struct report *report)
{
    struct builder b = {0};
    cJSON *root = start(&b, "consolidate");
    put_source(&b, root, report);
    put_result(&b, root, report);
    return finish(&b, root);
}

int report_json_failure(const char *command, const struct uz_error *err)
{
    struct builder b = {0};
    cJSON *root = start(&b, command);
    cJSON *error = cJSON_CreateObject();
    put_text(&b, error, "status", uz_status_name(err->status));
    put_text(&b, error, "message", err->message);
    if (*err->file)
        put_text(&b, error, "file", err->file);
    else
        put(&b, error, "file", cJSON_CreateNull());
    if (err->offset != UZ_NO_OFFSET)
        put_number(&b, error, "offset", err->offset);
    else
        put(&b, error, "offset", cJSON_CreateNull());
    put(&b, root, "error", error);
    return finish(&b, root);
}
