/* SPDX-License-Identifier: Apache-2.0 */
/* The layout, its groups and files, in words and as JSON. */
#include "cli/reshard_report.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli/json.h"
#include "cli/text.h"

/* ---- Words ---- */

static void print_layout(const struct uz_reshard_summary *summary)
{
    printf("  layout: ZeRO stage %d, %s", summary->stage,
           text_count(summary->world_size, "rank").text);
    if (summary->bf16_optimizer)
        printf(", BF16_Optimizer");
    if (summary->round_robin)
        printf(", round_robin_gradients");
    if (summary->parameter_alignment)
        printf(", parameter_alignment");
    if (summary->stage == 3)
        printf(", sub_group_size %" PRIu64, summary->sub_group_size);
    putchar('\n');
}

static void print_groups(const struct uz_reshard_summary *summary)
{
    for (size_t i = 0; i < summary->n_groups; i++) {
        const struct uz_reshard_group *group = &summary->groups[i];
        printf("  %s %zu: %s, ", summary->stage == 3 ? "sub-group" : "group", i,
               text_count(group->n_params, "parameter").text);
        printf("partitions of %s, ", text_count(group->partition_numel, "element").text);
        printf("%" PRIu64 " of padding", group->padding);
        if (group->n_ranks_of_padding > 0)
            printf(", %s nothing else", group->n_ranks_of_padding == 1
                                            ? "one rank has"
                                            : text_count(group->n_ranks_of_padding, "rank").text);
        putchar('\n');
    }
}

static void print_files(const struct uz_reshard_summary *summary)
{
    for (size_t i = 0; i < summary->n_files; i++) {
        fputs("  ", stdout);
        text_print(stdout, summary->files[i].name);
        printf("  %s\n", text_nbytes(summary->files[i].nbytes).text);
    }
}

static void print_ranks(const struct uz_reshard_summary *summary)
{
    if (summary->copied_rank_values)
        printf("  each rank's own values (buffers, a client's) come along; %s: those of rank 0\n",
               text_count(summary->n_new_ranks, "new rank").text);
    if (summary->n_random_states_copied > 0)
        printf("  random states of %s (rng_state): those of rank 0\n",
               text_count(summary->n_random_states_copied, "new rank").text);
}

void reshard_report_text(const struct reshard_report *report)
{
    const struct uz_reshard_summary *summary = report->summary;
    text_print(stdout, report->checkpoint);
    printf(": %sZeRO stage %d, %s, tag ", summary->from_universal ? "universal, from " : "",
           summary->old_stage, text_count(summary->old_world_size, "rank").text);
    text_print(stdout, summary->tag);
    putchar('\n');
    print_layout(summary);
    if (report->dry_run || report->verbose) {
        print_groups(summary);
        print_files(summary);
    }
    print_ranks(summary);
    text_print(stdout, report->out);
    printf(": %s, %s, ", text_count(summary->n_files, "file").text,
           text_nbytes(summary->file_nbytes).text);
    printf("%s of a rank", text_nbytes(summary->rank_nbytes).text);
    if (report->dry_run)
        printf(" would be written\n");
    else
        printf(" written in %s (%s)\n", text_seconds(report->seconds).text,
               text_rate(summary->file_nbytes, report->seconds).text);
}

/* ---- JSON ---- */

static cJSON *make_groups(struct json *b, const struct uz_reshard_summary *summary)
{
    cJSON *groups = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_groups; i++) {
        const struct uz_reshard_group *group = &summary->groups[i];
        cJSON *item = cJSON_CreateObject();
        json_put_number(b, item, "optimizer_group", group->optimizer_group);
        json_put_number(b, item, "parameters", group->n_params);
        json_put_number(b, item, "elements", group->numel);
        json_put_number(b, item, "partition_elements", group->partition_numel);
        json_put_number(b, item, "padding_elements", group->padding);
        json_put_number(b, item, "ranks_of_padding", group->n_ranks_of_padding);
        json_put(b, groups, NULL, item);
    }
    return groups;
}

static cJSON *make_files(struct json *b, const struct uz_reshard_summary *summary)
{
    cJSON *files = cJSON_CreateArray();
    for (size_t i = 0; i < summary->n_files; i++) {
        cJSON *file = cJSON_CreateObject();
        json_put_text(b, file, "name", summary->files[i].name);
        json_put_number(b, file, "bytes", summary->files[i].nbytes);
        json_put(b, files, NULL, file);
    }
    return files;
}

int reshard_report_json(const struct reshard_report *report)
{
    const struct uz_reshard_summary *summary = report->summary;
    struct json b = {0};
    cJSON *root = json_start(&b, "reshard");
    json_put_text(&b, root, "checkpoint", report->checkpoint);
    json_put_text(&b, root, "output", report->out);
    json_put_text(&b, root, "tag", summary->tag);
    json_put_text(&b, root, "ds_version", *summary->ds_version ? summary->ds_version : NULL);
    json_put_bool(&b, root, "dry_run", report->dry_run);
    json_put_bool(&b, root, "from_universal", summary->from_universal);
    json_put_number(&b, root, "old_stage", (uint64_t)summary->old_stage);
    json_put_number(&b, root, "old_world_size", summary->old_world_size);
    json_put_number(&b, root, "stage", (uint64_t)summary->stage);
    json_put_number(&b, root, "world_size", summary->world_size);
    json_put_bool(&b, root, "bf16_optimizer", summary->bf16_optimizer);
    json_put_bool(&b, root, "round_robin_gradients", summary->round_robin);
    json_put_bool(&b, root, "parameter_alignment", summary->parameter_alignment);
    json_put_number(&b, root, "sub_group_size", summary->sub_group_size);
    json_put(&b, root, "groups", make_groups(&b, summary));
    json_put(&b, root, "files", make_files(&b, summary));
    json_put_number(&b, root, "bytes", summary->file_nbytes);
    json_put_number(&b, root, "bytes_of_a_rank", summary->rank_nbytes);
    json_put_number(&b, root, "new_ranks", summary->n_new_ranks);
    json_put_bool(&b, root, "copied_rank_values", summary->copied_rank_values);
    json_put_number(&b, root, "random_states_copied", summary->n_random_states_copied);
    json_put_number(&b, root, "memory_bytes", summary->memory_nbytes);
    json_put_number(&b, root, "threads", summary->threads);
    json_put_real(&b, root, "seconds", report->seconds, 3);
    json_put_texts(&b, root, "warnings", summary->warnings, summary->n_warnings);
    return json_finish(&b, root);
}

int reshard_report_failure(bool json, const struct uz_error *err)
{
    return json_report_failure("reshard", json, "interrupted: nothing was written", err);
}
