/* SPDX-License-Identifier: Apache-2.0 */
/* unzero consolidate: a sharded checkpoint becomes whole weights. */
#include <unzero/consolidate.h>

#include <getopt.h>
#include <stdio.h>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/opts_input.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/signals.h"

enum option_id {
    OPT_FORMAT = OPTS_NO_LETTER,
    OPT_DTYPE,
    OPT_MAX_SHARD_SIZE,
    OPT_STATE,
    OPT_BUFFERS,
    OPT_UNTIE,
    OPT_EXCLUDE_FROZEN,
    OPT_CACHE,
    OPT_COPY_CONFIG,
    OPT_SAFE,
};

static const struct opts_row rows[] = {
    {OPT_FORMAT, "format", "NAME",
     "safetensors (default)\n"
     "pt: pytorch_model.bin, as torch.save writes it\n"
     "A file's name says it as well: *.bin, *.pt, *.pth"},
    {OPT_DTYPE, "dtype", "TYPE",
     "fp32 (default): the master weights as they are\n"
     "bf16, fp16: the masters rounded to nearest even\n"
     "keep: what the model was trained in; the default\n"
     "with --source lp"},
    {OPT_MAX_SHARD_SIZE, "max-shard-size", "SIZE",
     "tensor bytes of a file (default 5GB; 0: one file)"},
    {OPT_STATE, "state", "NAME",
     "an optimizer state, such as exp_avg, instead of the\n"
     "weights (fp32, the default), under their names;\n"
     "all: both, named fp32/NAME, exp_avg/NAME, ..."},
    {OPT_BUFFERS, "buffers", "TYPE", "keep (default): as stored; fp32: float ones widened"},
    {OPT_UNTIE, "untie", NULL, "write tied weights under all their names"},
    {OPT_EXCLUDE_FROZEN, "exclude-frozen", NULL, "leave frozen parameters out"},
    {OPT_CACHE, "cache", "WHAT",
     "keep (default): what is read and written may stay\n"
     "in memory; drop: it leaves, so that nothing that\n"
     "others use is displaced"},
    {OPT_COPY_CONFIG, "copy-config", NULL,
     "put config.json, the tokenizer and what else\n"
     "transformers wants beside the weights, as far as\n"
     "they are in the folder that holds `latest`"},
    /* As in zero_to_fp32.py; --max_shard_size, -t and --tag are the same anyway. */
    {OPT_EXCLUDE_FROZEN, "exclude-frozen-parameters", NULL, NULL},
    {OPT_SAFE, "safe-serialization", NULL, NULL},
};

static int take(void *to, const struct opts_command *command, int id, const char *value);

static const struct opts_group group = {
    .heading = "Output",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .take = take,
};

static const struct opts_group *const groups[] = {
    &group,
    &opts_write_group,
    &opts_memory_group,
    &opts_names_group,
    &opts_input_group,
    &opts_source_group,
    &opts_talk_group,
};

static const struct opts_command command = {
    .name = "consolidate",
    .intro = "usage: unzero consolidate [OPTION]... CHECKPOINT OUT\n"
             "\n"
             "Joins the shards of a DeepSpeed ZeRO checkpoint into whole weights.\n"
             "CHECKPOINT is the folder that holds `latest`, or a tag folder in it.\n"
             "OUT is a folder, or a file named *.safetensors, *.bin, *.pt or *.pth.\n"
             "\n"
             "Examples:\n"
             "  unzero consolidate checkpoint-500 out/\n"
             "      fp32: model.safetensors, or shards of at most 5 GB and their index\n"
             "  unzero consolidate --copy-config checkpoint-500 out/\n"
             "      and with what transformers' from_pretrained(\"out\") wants\n"
             "  unzero consolidate checkpoint-500 weights.safetensors\n"
             "      a single file of that name\n"
             "  unzero consolidate --format pt checkpoint-500 out/\n"
             "      pytorch_model.bin, or shards and their index\n"
             "  unzero consolidate --dtype bf16 checkpoint-500 out/\n"
             "      rounded to bfloat16: half the size\n"
             "  unzero consolidate --state exp_avg checkpoint-500 moments/\n"
             "      Adam's first moments instead of the weights, under the same names\n"
             "  unzero consolidate --include '^model\\.vision' --strip-prefix model. ckpt out/\n"
             "      a part of the model, and without a prefix\n"
             "  unzero consolidate --rename 's/layers\\.(\\d+)/h.\\1/' checkpoint-500 out/\n"
             "      layers.0.weight becomes h.0.weight\n"
             "  unzero consolidate --tag global_step400 --dry-run checkpoint-500 out/\n"
             "      another step; only look whether it can be done, and how large it gets\n",
    .outro = "\n"
             "SIZE is a number of bytes or has a unit: B, KB, MB, GB, TB are powers of 1000,\n"
             "KiB, MiB, GiB, TiB of 1024. In names of options _ and - are the same.\n"
             "\n"
             "Exit codes: 0 done; 2 wrong usage; 3 trouble: input that is unreadable, damaged\n"
             "or not supported, or output that cannot be written. A run that fails or is\n"
             "interrupted leaves the files in OUT as they were.\n",
    .groups = groups,
    .n_groups = sizeof groups / sizeof groups[0],
};

/* The first four are the names for reports, in the order of enum uz_precision. */
static const struct opts_word dtypes[] = {
    {"fp32", UZ_PRECISION_FP32},    {"bf16", UZ_PRECISION_BF16},    {"fp16", UZ_PRECISION_FP16},
    {"keep", UZ_PRECISION_KEEP},    {"float32", UZ_PRECISION_FP32}, {"bfloat16", UZ_PRECISION_BF16},
    {"float16", UZ_PRECISION_FP16},
};

static const struct opts_word formats[] = {
    {"safetensors", UZ_FORMAT_SAFETENSORS},
    {"pt", UZ_FORMAT_PT},
};

/* What the command line asks for. */
struct request {
    struct opts_input input;
    struct opts_names names;
    struct opts_write write;
    struct opts_memory memory;
    struct opts_talk talk;
    struct uz_consolidate_options options; /* complete when the line has been read */
    const char *checkpoint, *out;
    bool shards; /* --max-shard-size was given */
};

static int take_format(struct request *request, const struct opts_command *cmd, const char *value)
{
    int format;
    int rc = opts_read_word(cmd, "format", value, formats, 2, 2, &format);
    if (rc == 0)
        request->options.format = (enum uz_format)format;
    return rc;
}

static int take_dtype(struct request *request, const struct opts_command *cmd, const char *value)
{
    int precision;
    int rc = opts_read_word(cmd, "dtype", value, dtypes, sizeof dtypes / sizeof dtypes[0], 4,
                            &precision);
    if (rc == 0)
        request->options.precision = (enum uz_precision)precision;
    return rc;
}

static int take_buffers(struct request *request, const struct opts_command *cmd, const char *value)
{
    static const struct opts_word words[] = {{"keep", false}, {"fp32", true}};
    int widen;
    int rc = opts_read_word(cmd, "buffers", value, words, 2, 2, &widen);
    if (rc == 0)
        request->options.widen_buffers = widen;
    return rc;
}

static int take_cache(struct request *request, const struct opts_command *cmd, const char *value)
{
    static const struct opts_word words[] = {{"keep", false}, {"drop", true}};
    int drop;
    int rc = opts_read_word(cmd, "cache", value, words, 2, 2, &drop);
    if (rc == 0)
        request->options.drop_cache = drop;
    return rc;
}

static int take(void *to, const struct opts_command *cmd, int id, const char *value)
{
    struct request *request = to;
    switch (id) {
    case OPT_FORMAT:
        return take_format(request, cmd, value);
    case OPT_DTYPE:
        return take_dtype(request, cmd, value);
    case OPT_MAX_SHARD_SIZE:
        request->shards = true;
        return opts_read_size(cmd, "max-shard-size", value, &request->options.max_shard_bytes);
    case OPT_STATE:
        request->options.state = opts_state(value);
        return 0;
    case OPT_BUFFERS:
        return take_buffers(request, cmd, value);
    case OPT_UNTIE:
        request->options.untie = true;
        return 0;
    case OPT_CACHE:
        return take_cache(request, cmd, value);
    case OPT_COPY_CONFIG:
        request->options.copy_config = true;
        return 0;
    case OPT_SAFE:
        return take_format(request, cmd, "safetensors");
    default:
        request->options.exclude_frozen = true;
        return 0;
    }
}

static int read_options(struct request *request, int argc, char **argv)
{
    void *const targets[] = {request,         &request->write, &request->memory, &request->names,
                             &request->input, &request->input, &request->talk};
    _Static_assert(sizeof targets / sizeof targets[0] == sizeof groups / sizeof groups[0],
                   "a target for each group");
    uz_consolidate_options_default(&request->options);
    opts_input_init(&request->input);
    int rc = opts_parse(&command, argc, argv, targets);
    request->options.input = request->input.options;
    request->options.names = request->names.rules;
    request->options.max_memory = request->memory.max_nbytes;
    request->options.durability = request->write.durability;
    request->options.force = request->write.force;
    return rc;
}

/* What OUT is called must be possible, and agree with --format and --max-shard-size. */
static int check_out(const struct request *request)
{
    struct uz_error err;
    char text[sizeof err.file + sizeof err.message + 64];
    if (uz_output_name_check(request->out, &err) < 0)
        return message_usage(command.name, "%s", uz_error_format(&err, text, sizeof text));
    enum uz_format asked = request->options.format, named = uz_output_file_format(request->out);
    if (named != UZ_FORMAT_AUTO && request->shards && request->options.max_shard_bytes)
        return message_usage(command.name,
                             "--max-shard-size makes several files, but '%s' names one: give a "
                             "folder",
                             request->out);
    if (asked == UZ_FORMAT_AUTO || named == UZ_FORMAT_AUTO || asked == named)
        return 0;
    return message_usage(command.name, "--format %s, but '%s' is named as a file of the other one",
                         asked == UZ_FORMAT_PT ? "pt" : "safetensors", request->out);
}

static int read_arguments(struct request *request, int argc, char **argv)
{
    int n = argc - optind;
    if (n == 0)
        return message_usage(command.name, "CHECKPOINT and OUT are missing");
    if (n == 1)
        return message_usage(command.name, "OUT is missing: where should the weights go?");
    if (n > 2)
        return message_usage(command.name, "one argument too many: '%s'", argv[optind + 2]);
    request->checkpoint = argv[optind];
    request->out = argv[optind + 1];
    return check_out(request);
}

/* Shows the warnings from number `first` on; more come up while the job runs. */
static void tell_warnings(const struct uz_consolidate_summary *summary, size_t first)
{
    for (size_t i = first; i < summary->n_warnings; i++)
        message_warning(summary->warnings[i]);
}

static int run(struct uz_consolidation *job, const struct request *request, struct uz_error *err)
{
    struct progress progress;
    progress_start(&progress, !request->talk.quiet && !request->talk.json);
    signals_catch();
    int rc = uz_consolidation_run(job, progress_tick, &progress, err);
    progress_clear(&progress);
    return rc;
}

static int fail(const struct request *request, const struct uz_error *err)
{
    return json_report_failure(command.name, request->talk.json, "interrupted: nothing was changed",
                               err);
}

static int report(const struct request *request, const struct uz_consolidate_summary *summary,
                  double seconds)
{
    struct report report = {
        .checkpoint = request->checkpoint,
        .out = request->out,
        .dtype = dtypes[summary->precision].word,
        .summary = summary,
        .dry_run = request->write.dry_run,
        .verbose = request->talk.verbose,
        .seconds = seconds,
    };
    if (request->talk.json)
        return report_json(&report);
    if (!request->talk.quiet)
        report_text(&report);
    return EXIT_DONE;
}

static int convert(const struct request *request)
{
    struct uz_consolidation *job;
    struct uz_error err;
    double started = clock_seconds();
    if (uz_consolidation_plan(&job, request->checkpoint, request->out, &request->options, &err) < 0)
        return fail(request, &err);
    const struct uz_consolidate_summary *summary = uz_consolidation_summary(job);
    if (request->talk.verbose)
        message_source(request->checkpoint, &summary->source);
    tell_warnings(summary, 0);
    size_t n_told = summary->n_warnings;
    int rc = request->write.dry_run ? UZ_OK : run(job, request, &err);
    int code;
    if (rc < 0) {
        code = fail(request, &err);
    } else {
        tell_warnings(summary, n_told);
        code = report(request, summary, clock_seconds() - started);
    }
    uz_consolidation_free(job);
    return code;
}

int cmd_consolidate(int argc, char **argv)
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
            rc = convert(&request);
    }
    opts_names_free(&request.names);
    opts_input_free(&request.input);
    return rc;
}
