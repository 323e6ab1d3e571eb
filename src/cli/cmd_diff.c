/* SPDX-License-Identifier: Apache-2.0 */
/* unzero diff: do two things hold the same values? */
#include <unzero/diff.h>

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"
#include "cli/diff_report.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/opts_input.h"
#include "cli/progress.h"
#include "cli/signals.h"

enum option_id { OPT_ATOL = OPTS_NO_LETTER, OPT_RTOL, OPT_ULP, OPT_STATE };

static const struct opts_row rows[] = {
    {OPT_ATOL, "atol", "NUMBER", "let pass what differs by at most that ..."},
    {OPT_RTOL, "rtol", "NUMBER", "... plus that times the value of B"},
    {OPT_ULP, "ulp", "N",
     "or by N units in the last place of the smaller\n"
     "dtype; 0: equal after rounding"},
    {OPT_STATE, "state", "NAME",
     "an optimizer state, such as exp_avg, instead of the\n"
     "weights (fp32, the default); all: both"},
};

static int take(void *to, const struct opts_command *command, int id, const char *value);

static const struct opts_group group = {
    .heading = "Comparison",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .take = take,
};

static const struct opts_group *const groups[] = {&group, &opts_names_group, &opts_input_group,
                                                  &opts_source_group, &opts_talk_group};

static const struct opts_command command = {
    .name = "diff",
    .intro = "usage: unzero diff [OPTION]... A B\n"
             "\n"
             "Compares the tensors of A and B by name: ZeRO checkpoints, PyTorch or\n"
             "safetensors files, or folders of them, in any sharding, stage and dtype.\n"
             "Lists what is not equal, the most different first.\n"
             "\n"
             "Examples:\n"
             "  unzero diff checkpoint-500 out/model.safetensors\n"
             "      are these the weights of that checkpoint, to the bit?\n"
             "  unzero diff --ulp 0 checkpoint-500 out-bf16/\n"
             "      or those, rounded to bf16?\n"
             "  unzero diff --rtol 1e-5 --atol 1e-8 run1/checkpoint-500 run2/checkpoint-500\n"
             "      did two runs come to nearly the same?\n"
             "  unzero diff --state exp_avg zero2/checkpoint-500 zero3/checkpoint-500\n"
             "      and their first moments?\n"
             "  unzero diff --strip-prefix model. checkpoint-500 renamed.safetensors\n"
             "      names of A are changed as consolidate changes them\n",
    .outro = "\n"
             "Without a tolerance every bit counts; in different dtypes, the values do. Tied\n"
             "weights that one side has under one name are not missing.\n"
             "\n"
             "Exit codes: 0 same, within the tolerance; 1 different; 2 wrong usage; 3 trouble.\n",
    .groups = groups,
    .n_groups = sizeof groups / sizeof groups[0],
};

struct request {
    struct opts_input input;
    struct opts_names names;
    struct opts_talk talk;
    struct uz_diff_options options;
    const char *a, *b;
};

/* A number that is not negative. */
static int take_real(struct request *request, const char *name, const char *value, double *to)
{
    char *end;
    errno = 0;
    double number = strtod(value, &end);
    if (end == value || *end || errno || !isfinite(number) || number < 0)
        return message_usage(command.name, "--%s '%s': not a number from 0 on", name, value);
    *to = number;
    request->options.has_tolerance = true;
    return 0;
}

static int take_ulp(struct request *request, const char *value)
{
    unsigned ulp;
    int rc = opts_read_number(&command, "ulp", value, 1U << 30, &ulp);
    if (rc == 0) {
        request->options.ulp = ulp;
        request->options.has_ulp = true;
    }
    return rc;
}

static int take(void *to, const struct opts_command *cmd, int id, const char *value)
{
    struct request *request = to;
    (void)cmd;
    switch (id) {
    case OPT_ATOL:
        return take_real(request, "atol", value, &request->options.atol);
    case OPT_RTOL:
        return take_real(request, "rtol", value, &request->options.rtol);
    case OPT_ULP:
        return take_ulp(request, value);
    default:
        request->options.state = opts_state(value);
        return 0;
    }
}

static int read_options(struct request *request, int argc, char **argv)
{
    void *const targets[] = {request, &request->names, &request->input, &request->input,
                             &request->talk};
    _Static_assert(sizeof targets / sizeof targets[0] == sizeof groups / sizeof groups[0],
                   "a target for each group");
    uz_diff_options_default(&request->options);
    opts_input_init(&request->input);
    int rc = opts_parse(&command, argc, argv, targets);
    request->options.input = request->input.options;
    request->options.names = request->names.rules;
    request->options.scratch_dir = opts_scratch_dir(request->options.scratch_dir);
    return rc;
}

static int read_arguments(struct request *request, int argc, char **argv)
{
    int n = argc - optind;
    if (n < 2)
        return message_usage(command.name, "two paths are needed, A and B");
    if (n > 2)
        return message_usage(command.name, "one argument too many: '%s'", argv[optind + 2]);
    request->a = argv[optind];
    request->b = argv[optind + 1];
    return 0;
}

static int fail(const struct request *request, const struct uz_error *err)
{
    return json_report_failure(command.name, request->talk.json, "interrupted", err);
}

static int report(const struct request *request, const struct uz_diff_result *result)
{
    for (size_t i = 0; i < result->n_warnings; i++)
        message_warning(result->warnings[i]);
    int code = EXIT_DONE;
    if (request->talk.json)
        code = diff_json(request->a, request->b, result, request->talk.verbose);
    else
        diff_text(result, request->talk.verbose, !request->talk.quiet);
    return code == EXIT_DONE && !result->same ? EXIT_NO : code;
}

static int compare(const struct request *request)
{
    struct uz_diff *diff;
    struct uz_error err;
    struct progress progress;
    progress_start(&progress, !request->talk.quiet && !request->talk.json);
    signals_catch();
    int rc = uz_diff_run(&diff, request->a, request->b, &request->options, progress_tick, &progress,
                         &err);
    progress_clear(&progress);
    if (rc < 0)
        return fail(request, &err);
    int code = report(request, uz_diff_result(diff));
    uz_diff_free(diff);
    return code;
}

int cmd_diff(int argc, char **argv)
{
    struct request request = {0};
    int rc = read_options(&request, argc, argv);
    if (rc == 0 && !opts_talk_help(&request.talk, &command)) {
        rc = read_arguments(&request, argc, argv);
        if (rc == 0)
            rc = opts_state_check(&request.input, request.options.state, &command);
        if (rc == 0)
            rc = opts_names_check(&request.names, &command);
        if (rc == 0)
            rc = compare(&request);
    }
    opts_names_free(&request.names);
    opts_input_free(&request.input);
    return rc;
}
