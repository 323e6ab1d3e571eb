/* SPDX-License-Identifier: Apache-2.0 */
/* unzero consolidate: a sharded checkpoint becomes whole weights. */
#include <unzero/consolidate.h>

#include <getopt.h>
#include <stdio.h>

#include "cli/command.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/signals.h"

enum { MAX_THREADS = 1024 };

enum option_id {
    OPT_FORMAT = OPTS_NO_LETTER,
    OPT_DTYPE,
    OPT_MAX_SHARD_SIZE,
    OPT_EXCLUDE_FROZEN,
    OPT_THREADS,
    OPT_MAX_MEMORY,
    OPT_SYNC,
    OPT_JSON,
    OPT_VERSION,
};

static const struct opts_row rows[] = {
    {'t', "tag", "NAME", "tag folder to read (default: what `latest` names)"},
    {OPT_FORMAT, "format", "NAME", "safetensors (default, and all there is so far)"},
    {OPT_DTYPE, "dtype", "TYPE",
     "fp32 (default): the master weights as they are\n"
     "bf16, fp16: the masters rounded to nearest even\n"
     "keep: rounded to what the model was trained in"},
    {OPT_MAX_SHARD_SIZE, "max-shard-size", "SIZE",
     "tensor bytes of a file (default 5GB; 0: one file)"},
    {OPT_EXCLUDE_FROZEN, "exclude-frozen", NULL, "leave frozen parameters out"},
    {OPT_EXCLUDE_FROZEN, "exclude-frozen-parameters", NULL, NULL}, /* as in zero_to_fp32.py */
    {OPT_THREADS, "threads", "N", "default 0: as many as there are processors"},
    {OPT_MAX_MEMORY, "max-memory", "SIZE", "make do with that much (default 0: no bound)"},
    {OPT_SYNC, "sync", "WHEN",
     "full (default): all is on the disk at the end\n"
     "data: a file is on the disk before it has its name\n"
     "none: when the system likes"},
    {'n', "dry-run", NULL,
     "check all metadata, tell what would be written,\n"
     "write nothing"},
    {'f', "force", NULL,
     "replace model files that OUT holds; their stale\n"
     "shards go, other files stay"},
    {OPT_JSON, "json", NULL, "the summary as a JSON object; no progress"},
    {'q', "quiet", NULL, "no summary, no progress; warnings stay"},
    {'v', "verbose", NULL, "tell what was found, list files and tied names"},
    {'h', "help", NULL, "this text"},
    {OPT_VERSION, "version", NULL, "the version"},
};

static const struct opts_command command = {
    .name = "consolidate",
    .intro = "usage: unzero consolidate [OPTION]... CHECKPOINT OUT\n"
             "\n"
             "Joins the shards of a DeepSpeed ZeRO checkpoint into whole weights.\n"
             "CHECKPOINT is the folder that holds `latest`, or a tag folder in it.\n"
             "OUT is a folder, or a file named *.safetensors.\n"
             "\n"
             "Examples:\n"
             "  unzero consolidate checkpoint-500 out/\n"
             "      fp32: model.safetensors, or shards of at most 5 GB and their index\n"
             "  unzero consolidate checkpoint-500 weights.safetensors\n"
             "      a single file of that name\n"
             "  unzero consolidate --dtype bf16 checkpoint-500 out/\n"
             "      rounded to bfloat16: half the size\n"
             "  unzero consolidate --tag global_step400 --dry-run checkpoint-500 out/\n"
             "      another step; only look whether it can be done, and how large it gets\n",
    .outro = "\n"
             "SIZE is a number of bytes or has a unit: B, KB, MB, GB, TB are powers of 1000,\n"
             "KiB, MiB, GiB, TiB of 1024. In names of options _ and - are the same.\n"
             "\n"
             "Exit codes: 0 done; 2 wrong usage; 3 trouble: input that is unreadable, damaged\n"
             "or not supported, or output that cannot be written. A run that fails or is\n"
             "interrupted leaves the files in OUT as they were.\n",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
};

/* The first four are the names for reports, in the order of enum uz_precision. */
static const struct opts_word dtypes[] = {
    {"fp32", UZ_PRECISION_FP32},    {"bf16", UZ_PRECISION_BF16},    {"fp16", UZ_PRECISION_FP16},
    {"keep", UZ_PRECISION_KEEP},    {"float32", UZ_PRECISION_FP32}, {"bfloat16", UZ_PRECISION_BF16},
    {"float16", UZ_PRECISION_FP16},
};

static const struct opts_word syncs[] = {
    {"none", UZ_DURABLE_NONE},
    {"data", UZ_DURABLE_DATA},
    {"full", UZ_DURABLE_FULL},
};

enum format { FORMAT_SAFETENSORS, FORMAT_PT };

static const struct opts_word formats[] = {
    {"safetensors", FORMAT_SAFETENSORS},
    {"pt", FORMAT_PT},
};

/* What the command line asks for. */
struct request {
    struct uz_consolidate_options options;
    const char *checkpoint, *out;
    bool dry_run, json, quiet, verbose, help, version;
};

static int take_format(const char *value)
{
    int format;
    int rc = opts_read_word(&command, "format", value, formats, 2, 1, &format);
    if (rc == 0 && format == FORMAT_PT)
        return message_usage(command.name, "--format pt: not supported yet; safetensors is");
    return rc;
}

static int take_dtype(struct request *request, const char *value)
{
    int precision;
    int rc = opts_read_word(&command, "dtype", value, dtypes, sizeof dtypes / sizeof dtypes[0], 4,
                            &precision);
    if (rc == 0)
        request->options.precision = (enum uz_precision)precision;
    return rc;
}

static int take_sync(struct request *request, const char *value)
{
    int durability;
    int rc = opts_read_word(&command, "sync", value, syncs, 3, 3, &durability);
    if (rc == 0)
        request->options.durability = (enum uz_durability)durability;
    return rc;
}

static int take_flag(struct request *request, int id)
{
    switch (id) {
    case OPT_EXCLUDE_FROZEN:
        request->options.exclude_frozen = true;
        break;
    case 'n':
        request->dry_run = true;
        break;
    case 'f':
        request->options.force = true;
        break;
    case OPT_JSON:
        request->json = true;
        break;
    case 'q':
        request->quiet = true;
        break;
    case 'v':
        request->verbose = true;
        break;
    case 'h':
        request->help = true;
        break;
    default:
        request->version = true;
        break;
    }
    return 0;
}

static int take(void *cookie, int id, const char *value)
{
    struct request *request = cookie;
    switch (id) {
    case 't':
        request->options.input.tag = value;
        return 0;
    case OPT_FORMAT:
        return take_format(value);
    case OPT_DTYPE:
        return take_dtype(request, value);
    case OPT_MAX_SHARD_SIZE:
        return opts_read_size(&command, "max-shard-size", value, &request->options.max_shard_bytes);
    case OPT_THREADS:
        return opts_read_number(&command, "threads", value, MAX_THREADS,
                                &request->options.input.threads);
    case OPT_MAX_MEMORY:
        return opts_read_size(&command, "max-memory", value, &request->options.max_memory);
    case OPT_SYNC:
        return take_sync(request, value);
    default:
        return take_flag(request, id);
    }
}

static int read_command_line(struct request *request, int argc, char **argv)
{
    uz_consolidate_options_default(&request->options);
    int rc = opts_parse(&command, argc, argv, take, request);
    if (rc || request->help || request->version)
        return rc;
    int n = argc - optind;
    if (n == 0)
        return message_usage(command.name, "CHECKPOINT and OUT are missing");
    if (n == 1)
        return message_usage(command.name, "OUT is missing: where should the weights go?");
    if (n > 2)
        return message_usage(command.name, "one argument too many: '%s'", argv[optind + 2]);
    request->checkpoint = argv[optind];
    request->out = argv[optind + 1];
    return 0;
}

/* People search for these words: zero_to_fp32.py prints them. */
static void tell_source(const char *checkpoint, const struct uz_consolidate_summary *summary)
{
    message_detail("Processing zero checkpoint '%s', tag '%s'", checkpoint, summary->tag);
    message_detail("Detected checkpoint of type zero stage %d, world_size: %llu",
                   summary->zero_stage, (unsigned long long)summary->world_size);
    if (*summary->ds_version)
        message_detail("Parsing checkpoint created by deepspeed==%s", summary->ds_version);
}

/* Shows the warnings from number `first` on; more come up while the job runs. */
static void tell_warnings(const struct uz_consolidate_summary *summary, size_t first)
{
    for (size_t i = first; i < summary->n_warnings; i++)
        message_warning(summary->warnings[i]);
}

static int on_progress(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total)
{
    progress_draw(cookie, nbytes_done, nbytes_total);
    return signals_pending() != 0;
}

static int run(struct uz_consolidation *job, const struct request *request, struct uz_error *err)
{
    struct progress progress;
    progress_start(&progress, !request->quiet && !request->json);
    signals_catch();
    int rc = uz_consolidation_run(job, on_progress, &progress, err);
    progress_clear(&progress);
    return rc;
}

static int fail(const struct request *request, const struct uz_error *err)
{
    int code = EXIT_TROUBLE;
    if (err->status == UZ_CANCELLED)
        message("%s: interrupted: nothing was changed", request->out);
    else
        code = message_failure(err);
    if (request->json && report_json_failure(command.name, err) < 0)
        message("out of memory");
    return code;
}

static int report(const struct request *request, const struct uz_consolidate_summary *summary,
                  double seconds)
{
    struct report report = {
        .checkpoint = request->checkpoint,
        .out = request->out,
        .dtype = dtypes[request->options.precision].word,
        .summary = summary,
        .dry_run = request->dry_run,
        .verbose = request->verbose,
        .seconds = seconds,
    };
    if (request->json) {
        if (report_json(&report) == 0)
            return EXIT_DONE;
        message("out of memory");
        return EXIT_TROUBLE;
    }
    if (!request->quiet)
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
    if (request->verbose)
        tell_source(request->checkpoint, summary);
    tell_warnings(summary, 0);
    size_t n_told = summary->n_warnings;
    int rc = request->dry_run ? UZ_OK : run(job, request, &err);
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
    int rc = read_command_line(&request, argc, argv);
    if (rc)
        return rc;
    if (request.help) {
        opts_print_help(&command);
        return EXIT_DONE;
    }
    if (request.version) {
        print_version();
        return EXIT_DONE;
    }
    return convert(&request);
}
