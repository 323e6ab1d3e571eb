/* SPDX-License-Identifier: Apache-2.0 */
/* unzero reshard: ZeRO shards for another number of ranks or another stage. */
#include <unzero/reshard.h>

#include <getopt.h>
#include <limits.h>
#include <stdio.h>

#include "cli/command.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/opts_input.h"
#include "cli/progress.h"
#include "cli/reshard_report.h"
#include "cli/signals.h"

enum option_id { OPT_DP = OPTS_NO_LETTER, OPT_STAGE, OPT_DS_CONFIG };

static const struct opts_row rows[] = {
    {OPT_DP, "dp", "N", "data-parallel ranks that will load it; required"},
    {OPT_STAGE, "stage", "STAGE", "ZeRO stage: 1, 2 or 3 (default: as configured)"},
    {OPT_DS_CONFIG, "ds-config", "FILE",
     "DeepSpeed's JSON configuration of the run to come\n"
     "(default: the checkpoint's own ds_config)"},
};

/* What the command line asks for. */
struct request {
    struct opts_input input;
    struct opts_write write;
    struct opts_memory memory;
    struct opts_talk talk;
    struct uz_reshard_options options; /* complete when the line has been read */
    const char *checkpoint, *out;
};

static int take(void *to, const struct opts_command *command, int id, const char *value)
{
    struct request *request = to;
    unsigned number = 0;
    int rc;
    if (id == OPT_DS_CONFIG) {
        request->options.ds_config = value;
        return 0;
    }
    rc = opts_read_number(command, id == OPT_DP ? "dp" : "stage", value,
                          id == OPT_DP ? UINT_MAX : 3, &number);
    if (rc == 0 && number == 0)
        rc = message_usage(command->name, "--%s 0: %s", id == OPT_DP ? "dp" : "stage",
                           id == OPT_DP ? "a world has at least one rank"
                                        : "there are no shards without ZeRO");
    if (rc == 0 && id == OPT_DP)
        request->options.world_size = number;
    else if (rc == 0)
        request->options.stage = (int)number;
    return rc;
}

static const struct opts_group group = {
    .heading = "Output",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .take = take,
};

static const struct opts_group *const groups[] = {&group, &opts_new_group, &opts_memory_group,
                                                  &opts_input_group, &opts_talk_group};

static const struct opts_command command = {
    .name = "reshard",
    .intro =
        "usage: unzero reshard [OPTION]... CHECKPOINT OUT --dp N\n"
        "\n"
        "Makes the checkpoint OUT out of CHECKPOINT (ZeRO 1, 2, 3, or universal) as DeepSpeed "
        "would\n"
        "have saved it on N ranks, in the same or another ZeRO stage: the stock engine loads it "
        "with\n"
        "load_checkpoint and trains on. Weights and optimizer states keep every bit, padding is "
        "zero,\n"
        "counters, scheduler and your own values come along. OUT must not exist.\n"
        "\n"
        "Examples:\n"
        "  unzero reshard ckpt ckpt-4 --dp 4             # saved by 8 ranks, to go on with 4\n"
        "  unzero reshard ckpt ckpt-z3 --dp 8 --stage 3 --ds-config z3.json\n"
        "  unzero reshard ckpt ckpt-6 --dp 6 --dry-run   # files, partitions, padding\n",
    .outro = "\n"
             "Exit codes: 0 done; 2 wrong usage; 3 trouble: a layout that is not supported, or a\n"
             "checkpoint that is unreadable or damaged.\n",
    .groups = groups,
    .n_groups = sizeof groups / sizeof groups[0],
};

static int read_options(struct request *request, int argc, char **argv)
{
    void *const targets[] = {request, &request->write, &request->memory, &request->input,
                             &request->talk};
    _Static_assert(sizeof targets / sizeof targets[0] == sizeof groups / sizeof groups[0],
                   "a target for each group");
    uz_reshard_options_default(&request->options);
    opts_input_init(&request->input);
    int rc = opts_parse(&command, argc, argv, targets);
    request->options.input = request->input.options;
    request->options.durability = request->write.durability;
    request->options.max_memory = request->memory.max_nbytes;
    return rc;
}

static int read_arguments(struct request *request, int argc, char **argv)
{
    int n = argc - optind;
    if (n < 2)
        return message_usage(command.name, "%s",
                             n ? "OUT is missing: where should the new checkpoint go?"
                               : "CHECKPOINT and OUT are missing");
    if (n > 2)
        return message_usage(command.name, "one argument too many: '%s'", argv[optind + 2]);
    if (!request->options.world_size)
        return message_usage(command.name, "--dp N is missing: how many ranks will load it?");
    request->checkpoint = argv[optind];
    request->out = argv[optind + 1];
    return opts_folder_check(request->out, &command);
}

static int run(struct uz_resharding *job, const struct request *request, struct uz_error *err)
{
    struct progress progress;
    progress_start(&progress, !request->talk.quiet && !request->talk.json);
    signals_catch();
    int rc = uz_resharding_run(job, progress_tick, &progress, err);
    progress_clear(&progress);
    return rc;
}

static int reshard(const struct request *request)
{
    struct uz_resharding *job;
    struct uz_error err;
    struct reshard_report report = {
        .checkpoint = request->checkpoint,
        .out = request->out,
        .dry_run = request->write.dry_run,
        .verbose = request->talk.verbose,
    };
    const double started = clock_seconds();
    int rc = uz_resharding_plan(&job, request->checkpoint, request->out, &request->options, &err);
    if (rc < 0)
        return reshard_report_failure(request->talk.json, &err);
    report.summary = uz_resharding_summary(job);
    for (size_t i = 0; i < report.summary->n_warnings; i++)
        message_warning(report.summary->warnings[i]);
    if (!report.dry_run)
        rc = run(job, request, &err);
    report.seconds = clock_seconds() - started;
    int code = EXIT_DONE;
    if (rc < 0)
        code = reshard_report_failure(request->talk.json, &err);
    else if (request->talk.json)
        code = reshard_report_json(&report);
    else if (!request->talk.quiet)
        reshard_report_text(&report);
    uz_resharding_free(job);
    return code;
}

int cmd_reshard(int argc, char **argv)
{
    struct request request = {0};
    int rc = read_options(&request, argc, argv);
    if (rc == 0 && !opts_talk_help(&request.talk, &command)) {
        rc = read_arguments(&request, argc, argv);
        if (rc == 0)
            rc = reshard(&request);
    }
    opts_input_free(&request.input);
    return rc;
}
