/* SPDX-License-Identifier: Apache-2.0 */
/* The summary as JSON. */
#include <stdio.h>

#include "cli/json.h"
#include "cli/report.h"

static cJSON *make_files(struct json *b, const struct uz_consolidate_summary *summary)
{
    cJSON *files = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_files; i++) {
        cJSON *file = cJSON_CreateObject();
        json_put_text(b, file, "name", summary->files[i].name);
        json_put_number(b, file, "bytes", summary->files[i].nbytes);
        json_put_number(b, file, "tensors", summary->files[i].n_tensors);
        json_put(b, files, NULL, file);
    }
    return files;
}

static cJSON *make_tied(struct json *b, const struct uz_consolidate_summary *summary)
{
    cJSON *tied = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_tied; i++) {
        cJSON *pair = cJSON_CreateObject();
        json_put_text(b, pair, "name", summary->tied[2 * i]);
        json_put_text(b, pair, "kept", summary->tied[2 * i + 1]);
        json_put(b, tied, NULL, pair);
    }
    return tied;
}

static cJSON *make_left_out(struct json *b, const struct uz_consolidate_summary *summary)
{
    static const char *const reasons[] = {
        [UZ_LEFT_OUT_FROZEN] = "frozen",
        [UZ_LEFT_OUT_BY_RULES] = "rules",
        [UZ_LEFT_OUT_STATELESS] = "stateless",
    };
    cJSON *left_out = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_left_out; i++) {
        cJSON *name = cJSON_CreateObject();
        json_put_text(b, name, "name", summary->left_out[i].name);
        json_put_text(b, name, "why", reasons[summary->left_out[i].why]);
        json_put(b, left_out, NULL, name);
    }
    return left_out;
}

static cJSON *make_renamed(struct json *b, const struct uz_consolidate_summary *summary)
{
    cJSON *renamed = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_renamed; i++) {
        cJSON *pair = cJSON_CreateObject();
        json_put_text(b, pair, "from", summary->renamed[2 * i]);
        json_put_text(b, pair, "to", summary->renamed[2 * i + 1]);
        json_put(b, renamed, NULL, pair);
    }
    return renamed;
}

static void put_source(struct json *b, cJSON *to, const struct report *report)
{
    const struct uz_consolidate_summary *summary = report->summary;
    json_put_text(b, to, "checkpoint", report->checkpoint);
    json_put_text(b, to, "out", report->out);
    json_put_text(b, to, "out_dir", summary->out_dir);
    json_put_text(b, to, "tag", summary->source.tag);
    json_put_text(b, to, "ds_version",
                  *summary->source.ds_version ? summary->source.ds_version : NULL);
    json_put_number(b, to, "zero_stage", (uint64_t)summary->source.zero_stage);
    json_put_number(b, to, "world_size", summary->source.world_size);
    json_put_text(b, to, "format", summary->format == UZ_FORMAT_PT ? "pt" : "safetensors");
    json_put_text(b, to, "dtype", report->dtype);
    json_put_bool(b, to, "dry_run", report->dry_run);
}

static void put_result(struct json *b, cJSON *to, const struct report *report)
{
    const struct uz_consolidate_summary *summary = report->summary;
    json_put(b, to, "files", make_files(b, summary));
    json_put_number(b, to, "tensors", summary->n_tensors);
    json_put_number(b, to, "data_bytes", summary->data_nbytes);
    json_put_number(b, to, "file_bytes", summary->file_nbytes);
    json_put_number(b, to, "memory_bytes", summary->memory_nbytes);
    json_put_number(b, to, "threads", summary->threads);
    json_put(b, to, "tied", make_tied(b, summary));
    json_put_number(b, to, "frozen_excluded", summary->n_frozen_excluded);
    json_put(b, to, "left_out", make_left_out(b, summary));
    json_put(b, to, "renamed", make_renamed(b, summary));
    json_put_number(b, to, "config_files_left", summary->n_config_left);
    json_put_number(b, to, "overflows", summary->n_overflows);
    json_put_texts(b, to, "warnings", summary->warnings, summary->n_warnings);
    json_put_real(b, to, "seconds", report->seconds, 3);
}

int report_json(const struct report *report)
{
    struct json b = {0};
    cJSON *root = json_start(&b, "consolidate");
    put_source(&b, root, report);
    put_result(&b, root, report);
    return json_finish(&b, root);
}
