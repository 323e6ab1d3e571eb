/* SPDX-License-Identifier: Apache-2.0 */
/* unzero universal: a sharded checkpoint becomes one that DeepSpeed loads on any world. */
#include <unzero/universal.h>

#include <getopt.h>
#include <stdio.h>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/opts_input.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/text.h"

enum option_id { OPT_DIALECT = OPTS_NO_LETTER, OPT_INJECT, OPT_SYNC };

static const struct opts_row rows[] = {
    {OPT_DIALECT, "dialect", "NAME",
     "any (default): loads under ZeRO 1, 2 and 3\n"
     "deepspeed: the files that ds_to_universal.py of\n"
     "DeepSpeed 0.19.8 makes, for the stage it was saved in"},
    {OPT_INJECT, "inject-missing-state", NULL,
     "add universal_checkpoint_info, or fail where it\n"
     "cannot be known (tensor or pipeline parallelism)"},
    {OPT_SYNC, "sync", "WHEN",
     "full (default): wait until all is on the disk\n"
     "data: until contents are; none: do not wait"},
    {'n', "dry-run", NULL, "check everything, write nothing"},
};

static const struct opts_word dialects[] = {
    {"any", UZ_UNIVERSAL_ANY},
    {"deepspeed", UZ_UNIVERSAL_DEEPSPEED},
};

static const struct opts_word syncs[] = {
    {"full", UZ_DURABLE_FULL},
    {"data", UZ_DURABLE_DATA},
    {"none", UZ_DURABLE_NONE},
};

/* What the command line asks for. */
struct request {
    struct opts_input input;
    struct opts_memory memory;
    struct opts_talk talk;
    struct uz_universal_options options; /* complete when the line has been read */
    const char *checkpoint, *out;
    bool dry_run;
};

static int take(void *to, const struct opts_command *cmd, int id, const char *value)
{
    struct request *request = to;
    int word, rc;
    switch (id) {
    case OPT_DIALECT:
        rc = opts_read_word(cmd, "dialect", value, dialects, 2, 2, &word);
        if (rc == 0)
            request->options.dialect = (enum uz_universal_dialect)word;
        return rc;
    case OPT_SYNC:
        rc = opts_read_word(cmd, "sync", value, syncs, 3, 3, &word);
        if (rc == 0)
            request->options.durability = (enum uz_durability)word;
        return rc;
    case OPT_INJECT:
        request->options.inject_missing_state = true;
        return 0;
    default:
        request->dry_run = true;
        return 0;
    }
}

static const struct opts_group group = {
    .heading = "Output",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .take = take,
};

static const struct opts_group *const groups[] = {&group, &opts_memory_group, &opts_input_group,
                                                  &opts_talk_group};

static const struct opts_command command = {
    .name = "universal",
    .intro =
        "usage: unzero universal [OPTION]... CHECKPOINT OUT\n"
        "\n"
        "Makes a universal checkpoint, which DeepSpeed loads on any number of ranks and, unless\n"
        "--dialect says otherwise, under any ZeRO stage, with all optimizer states.\n"
        "OUT is the folder to make; it must not exist. Beside it, latest_universal gets its name.\n"
        "\n"
        "Examples:\n"
        "  unzero universal ckpt ckpt/global_step500_universal\n"
        "      the step that ckpt/latest names; then in the new job's configuration\n"
        "      \"checkpoint\": {\"load_universal\": true}, and engine.load_checkpoint(\"ckpt\")\n"
        "  unzero universal --tag global_step400 ckpt ckpt/global_step400_universal\n"
        "      another step\n"
        "  unzero universal --dialect deepspeed ckpt/global_step500 ckpt/uc500\n"
        "      the very files of DeepSpeed's converter\n"
        "  unzero universal --dry-run ckpt ckpt/universal\n"
        "      whether it can be done, and how large it gets\n",
    .outro =
        "\n"
        "Exit codes: 0 done; 2 wrong usage; 3 trouble: input that is unreadable, damaged or not\n"
        "supported, or output that cannot be written. A run that fails or is interrupted leaves\n"
        "no OUT, and latest_universal as it was.\n",
    .groups = groups,
    .n_groups = sizeof groups / sizeof groups[0],
};

static int read_options(struct request *request, int argc, char **argv)
{
    void *const targets[] = {request, &request->memory, &request->input, &request->talk};
    _Static_assert(sizeof targets / sizeof targets[0] == sizeof groups / sizeof groups[0],
                   "a target for each group");
    uz_universal_options_default(&request->options);
    opts_input_init(&request->input);
    int rc = opts_parse(&command, argc, argv, targets);
    request->options.input = request->input.options;
    request->options.max_memory = request->memory.max_nbytes;
    return rc;
}

static int read_arguments(struct request *request, int argc, char **argv)
{
    int n = argc - optind;
    if (n == 0)
        return message_usage(command.name, "CHECKPOINT and OUT are missing");
    if (n == 1)
        return message_usage(command.name, "OUT is missing: which folder should be made?");
    if (n > 2)
        return message_usage(command.name, "one argument too many: '%s'", argv[optind + 2]);
    request->checkpoint = argv[optind];
    request->out = argv[optind + 1];
    return opts_folder_check(request->out, &command);
}

static int fail(const struct request *request, const struct uz_error *err)
{
    return json_report_failure(command.name, request->talk.json, "interrupted: nothing was changed",
                               err);
}

/* ---- Reports ---- */

static void tell(const struct request *request, const struct uz_universal_summary *summary,
                 double seconds)
{
    text_print(stdout, request->out);
    printf(": %s (", text_count(summary->n_params, "parameter").text);
    for (size_t i = 0; i < summary->n_states; i++) {
        printf("%s", i ? ", " : "");
        text_print(stdout, summary->states[i]);
    }
    printf("%s) in %s, %s", summary->has_step ? ", step" : "",
           text_count(summary->n_files, "file").text, text_nbytes(summary->file_nbytes).text);
    if (request->dry_run)
        printf(": nothing was written\n");
    else
        printf(", in %s\n", text_seconds(seconds).text);
    if (request->dry_run)
        return;
    text_print(stdout, summary->latest);
    printf(" names it: load it with \"checkpoint\": {\"load_universal\": true}\n");
}

static int tell_json(const struct request *request, const struct uz_universal_summary *summary,
                     double seconds)
{
    struct json b = {0};
    cJSON *root = json_start(&b, command.name);
    json_put_text(&b, root, "checkpoint", request->checkpoint);
    json_put_text(&b, root, "out", request->out);
    json_put_text(&b, root, "tag", summary->tag);
    json_put_text(&b, root, "ds_version", *summary->ds_version ? summary->ds_version : NULL);
    json_put_number(&b, root, "zero_stage", (uint64_t)summary->zero_stage);
    json_put_number(&b, root, "world_size", summary->world_size);
    json_put_number(&b, root, "tp_size", summary->tp_size);
    json_put_number(&b, root, "pp_size", summary->pp_size);
    json_put_text(&b, root, "dialect", dialects[request->options.dialect].word);
    json_put_text(&b, root, "latest_universal", summary->latest);
    json_put_bool(&b, root, "dry_run", request->dry_run);
    json_put_texts(&b, root, "states", summary->states, summary->n_states);
    json_put_bool(&b, root, "step", summary->has_step);
    json_put_bool(&b, root, "info_injected", summary->info_injected);
    json_put_number(&b, root, "parameters", summary->n_params);
    json_put_number(&b, root, "files", summary->n_files);
    json_put_number(&b, root, "data_bytes", summary->data_nbytes);
    json_put_number(&b, root, "file_bytes", summary->file_nbytes);
    json_put_number(&b, root, "memory_bytes", summary->memory_nbytes);
    json_put_number(&b, root, "threads", summary->threads);
    json_put_texts(&b, root, "warnings", summary->warnings, summary->n_warnings);
    json_put_real(&b, root, "seconds", seconds, 3);
    return json_finish(&b, root);
}

static int report(const struct request *request, const struct uz_universal_summary *summary,
                  double seconds)
{
    if (request->talk.json)
        return tell_json(request, summary, seconds);
    if (!request->talk.quiet)
        tell(request, summary, seconds);
    return EXIT_DONE;
}

static int run(struct uz_universal_job *job, const struct request *request, struct uz_error *err)
{
    struct progress progress;
    progress_start(&progress, !request->talk.quiet && !request->talk.json);
    signals_catch();
    int rc = uz_universal_run(job, progress_tick, &progress, err);
    progress_clear(&progress);
    return rc;
}

static int convert(const struct request *request)
{
    struct uz_universal_job *job;
    struct uz_error err;
    double started = clock_seconds();
    if (uz_universal_plan(&job, request->checkpoint, request->out, &request->options, &err) < 0)
        return fail(request, &err);
    const struct uz_universal_summary *summary = uz_universal_summary(job);
    for (size_t i = 0; i < summary->n_warnings; i++)
        message_warning(summary->warnings[i]);
    int rc = request->dry_run ? UZ_OK : run(job, request, &err);
    int code = rc < 0 ? fail(request, &err) : report(request, summary, clock_seconds() - started);
    uz_universal_free(job);
    return code;
}

int cmd_universal(int argc, char **argv)
{
    struct request request = {0};
    int rc = read_options(&request, argc, argv);
    if (rc == 0 && !opts_talk_help(&request.talk, &command)) {
        rc = read_arguments(&request, argc, argv);
        if (rc == 0)
            rc = convert(&request);
    }
    opts_input_free(&request.input);
    return rc;
}
