/* SPDX-License-Identifier: Apache-2.0 */
/* unzero get: one tensor of a checkpoint. */
#include <unzero/get.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/opts_input.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/text.h"

enum option_id { OPT_STATE = OPTS_NO_LETTER, OPT_DTYPE, OPT_SLICE };

static const struct opts_row rows[] = {
    {OPT_STATE, "state", "NAME",
     "an optimizer state, such as exp_avg, instead of the\n"
     "weight (fp32, the default)"},
    {OPT_DTYPE, "dtype", "TYPE", "fp32, bf16, fp16 (default: as stored)"},
    {OPT_SLICE, "slice", "RANGES",
     "a part, as numpy writes it: 0 or 2:10 or ::2 for\n"
     "each dimension, commas between; steps are positive"},
    {'o', "output", "FILE",
     "write it to FILE.npy or FILE.safetensors, or (-) as\n"
     ".npy to standard output"},
    {'f', "force", NULL, "replace FILE if it exists"},
};

/* What the command line asks for. */
struct request {
    struct opts_input input;
    struct opts_talk talk;
    struct uz_get_options options; /* complete when the line has been read */
    const char *checkpoint, *name, *output;
    bool force;
};

static int take_dtype(struct request *request, const struct opts_command *cmd, const char *value)
{
    enum uz_dtype dtype = uz_dtype_parse(value);
    if (!uz_dtype_is_castable(dtype))
        return message_usage(cmd->name, "--dtype '%s': not one of: fp32, bf16, fp16", value);
    request->options.dtype = dtype;
    return 0;
}

static int take_slice(struct request *request, const struct opts_command *cmd, const char *value)
{
    struct uz_error err;
    request->options.slice = value;
    return uz_get_slice_check(value, &err) == UZ_OK
               ? 0
               : message_usage(cmd->name, "--slice: %s", err.message);
}

static int take(void *to, const struct opts_command *cmd, int id, const char *value)
{
    struct request *request = to;
    switch (id) {
    case OPT_STATE:
        request->options.state = opts_state(value);
        return 0;
    case OPT_DTYPE:
        return take_dtype(request, cmd, value);
    case OPT_SLICE:
        return take_slice(request, cmd, value);
    case 'o':
        request->output = value;
        return 0;
    default:
        request->force = true;
        return 0;
    }
}

static const struct opts_group group = {
    .heading = "Tensor",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .take = take,
};

static const struct opts_group *const groups[] = {&group, &opts_input_group, &opts_source_group,
                                                  &opts_talk_group};

static const struct opts_command command = {
    .name = "get",
    .intro =
        "usage: unzero get [OPTION]... CHECKPOINT NAME\n"
        "\n"
        "Assembles one tensor from all ranks: the fp32 weight, or an optimizer state. Without\n"
        "--output tells what it is like: shape, smallest, largest, mean, norm, NaN and Inf.\n"
        "\n"
        "Examples:\n"
        "  unzero get checkpoint-500 model.embed_tokens.weight\n"
        "      what the values are like\n"
        "  unzero get checkpoint-500 lm_head.weight --state exp_avg -o m.npy\n"
        "      an optimizer state, for numpy\n"
        "  unzero get checkpoint-500 lm_head.weight --slice 0:4,:8 -o - | python3 -c \\\n"
        "      'import io, sys, numpy; print(numpy.load(io.BytesIO(sys.stdin.buffer.read())))'\n"
        "      a corner of it\n",
    .outro = "\n"
             "Exit codes: 0 done; 2 wrong usage; 3 trouble: no such tensor or state, or a\n"
             "checkpoint that is unreadable, damaged or not supported.\n",
    .groups = groups,
    .n_groups = sizeof groups / sizeof groups[0],
};

static int read_options(struct request *request, int argc, char **argv)
{
    void *const targets[] = {request, &request->input, &request->input, &request->talk};
    _Static_assert(sizeof targets / sizeof targets[0] == sizeof groups / sizeof groups[0],
                   "a target for each group");
    uz_get_options_default(&request->options);
    opts_input_init(&request->input);
    int rc = opts_parse(&command, argc, argv, targets);
    request->options.input = request->input.options;
    request->options.scratch_dir = opts_scratch_dir(request->options.scratch_dir);
    return rc;
}

static int read_arguments(struct request *request, int argc, char **argv)
{
    int n = argc - optind;
    if (n == 0)
        return message_usage(command.name, "CHECKPOINT and NAME are missing");
    if (n == 1)
        return message_usage(command.name,
                             "NAME is missing: which tensor? `unzero map %s` lists them",
                             argv[optind]);
    if (n > 2)
        return message_usage(command.name, "one argument too many: '%s'", argv[optind + 2]);
    request->checkpoint = argv[optind];
    request->name = argv[optind + 1];
    return 0;
}

static int fail(const struct request *request, const struct uz_error *err)
{
    return json_report_failure(command.name, request->talk.json, "interrupted: nothing was changed",
                               err);
}

/* ---- What is told ---- */

static void tell(const struct uz_got_info *info, const struct uz_statistics *s)
{
    char shape[TEXT_SHAPE_NBYTES];
    text_print(stdout, info->name);
    if (info->state)
        printf(" (%s)", info->state);
    printf(": %s %s %s", info->role, uz_dtype_name(info->dtype),
           text_shape(shape, sizeof shape, info->ndim, info->shape));
    printf(", %s\n", text_count(info->numel, "element").text);
    if (strcmp(info->name, info->stored_name)) {
        fputs("  stored as ", stdout);
        text_print(stdout, info->stored_name);
        putchar('\n');
    }
    printf("  min %.9g  max %.9g  mean %.9g  norm %.9g\n", s->min, s->max, s->mean, s->norm);
    printf("  zeros %" PRIu64 "  NaN %" PRIu64 "  Inf %" PRIu64 "\n", s->n_zero, s->n_nan,
           s->n_inf);
}

static void put_statistics(struct json *b, cJSON *root, const struct uz_statistics *s)
{
    json_put_real(b, root, "min", s->min, -1);
    json_put_real(b, root, "max", s->max, -1);
    json_put_real(b, root, "mean", s->mean, -1);
    json_put_real(b, root, "norm", s->norm, -1);
    json_put_number(b, root, "zeros", s->n_zero);
    json_put_number(b, root, "nan", s->n_nan);
    json_put_number(b, root, "inf", s->n_inf);
}

/* `s` is NULL when the tensor was written. */
static int tell_json(const struct request *request, const struct uz_got_info *info,
                     const struct uz_statistics *s)
{
    struct json b = {0};
    cJSON *root = json_start(&b, command.name);
    json_put_text(&b, root, "checkpoint", request->checkpoint);
    json_put_text(&b, root, "name", info->name);
    json_put_text(&b, root, "stored_name", info->stored_name);
    json_put_text(&b, root, "role", info->role);
    json_put_text(&b, root, "state", info->state);
    json_put_text(&b, root, "stored_dtype", uz_dtype_name(info->stored));
    json_put_text(&b, root, "dtype", uz_dtype_name(info->dtype));
    json_put_shape(&b, root, "shape", info->ndim, info->shape);
    json_put_number(&b, root, "elements", info->numel);
    json_put_text(&b, root, "output", request->output);
    if (s)
        put_statistics(&b, root, s);
    json_put_texts(&b, root, "warnings", info->warnings, info->n_warnings);
    return json_finish(&b, root);
}

/* ---- The command ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n > n_end && !strcmp(text + n - n_end, end);
}

static int write_array(struct uz_got *got, const struct request *request, struct progress *progress,
                       struct uz_error *err)
{
    bool npy = !ends_with(request->output, ".safetensors");
    if (!strcmp(request->output, "-"))
        return uz_got_write(got, STDOUT_FILENO, UZ_ARRAY_NPY, "standard output", progress_tick,
                            progress, err);
    return uz_got_save(got, request->output, npy ? UZ_ARRAY_NPY : UZ_ARRAY_SAFETENSORS,
                       request->force, progress_tick, progress, err);
}

static int write_output(struct uz_got *got, const struct request *request, struct uz_error *err)
{
    struct progress progress;
    progress_start(&progress, !request->talk.quiet && !request->talk.json);
    signals_catch();
    int rc = write_array(got, request, &progress, err);
    progress_clear(&progress);
    return rc;
}

static int give(struct uz_got *got, const struct request *request)
{
    const struct uz_got_info *info = uz_got_info(got);
    struct uz_statistics statistics;
    struct uz_error err;
    int rc = request->output ? write_output(got, request, &err)
                             : uz_got_statistics(got, &statistics, &err);
    if (rc < 0)
        return fail(request, &err);
    if (request->talk.json)
        return tell_json(request, info, request->output ? NULL : &statistics);
    if (!request->output)
        tell(info, &statistics);
    return EXIT_DONE;
}

/* Refuses what could only go wrong, before anything is read. */
static int check_output(const struct request *request)
{
    if (!request->output)
        return 0;
    bool stream = !strcmp(request->output, "-");
    if (stream && request->talk.json)
        return message_usage(command.name, "--json and --output - both want standard output");
    if (stream && isatty(STDOUT_FILENO))
        return message_usage(command.name,
                             "--output -: standard output is a terminal; send it to a pipe");
    if (!stream && !ends_with(request->output, ".npy") &&
        !ends_with(request->output, ".safetensors"))
        return message_usage(command.name, "--output '%s': ends in neither .npy nor .safetensors",
                             request->output);
    return 0;
}

static int get(const struct request *request)
{
    struct uz_got *got;
    struct uz_error err;
    int code = check_output(request);
    if (code)
        return code;
    if (uz_get(&got, request->checkpoint, request->name, &request->options, &err) < 0)
        return fail(request, &err);
    const struct uz_got_info *info = uz_got_info(got);
    if (request->talk.verbose)
        message_source(request->checkpoint, &info->source);
    for (size_t i = 0; i < info->n_warnings; i++)
        message_warning(info->warnings[i]);
    code = give(got, request);
    uz_got_free(got);
    return code;
}

int cmd_get(int argc, char **argv)
{
    struct request request = {0};
    int rc = read_options(&request, argc, argv);
    if (rc == 0 && !opts_talk_help(&request.talk, &command)) {
        rc = read_arguments(&request, argc, argv);
        if (rc == 0)
            rc = opts_state_check(&request.input, request.options.state, &command);
        if (rc == 0)
            rc = get(&request);
    }
    opts_input_free(&request.input);
    return rc;
}
