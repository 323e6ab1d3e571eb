/* SPDX-License-Identifier: Apache-2.0 */
/* unzero verify: is this checkpoint sound? */
#include <unzero/verify.h>

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/opts_input.h"
#include "cli/progress.h"
#include "cli/report_verify.h"
#include "cli/signals.h"

enum option_id { OPT_DATA = OPTS_NO_LETTER, OPT_FORMAT, OPT_MANIFEST };

static const struct opts_row rows[] = {
    {OPT_DATA, "data", NULL,
     "read all bytes, too: checksums, NaN and Inf, and\n"
     "whether 16-bit weights are the rounded masters"},
    {OPT_MANIFEST, "manifest", "write|check FILE",
     "write digests of all files and tensors to FILE,\n"
     "or tell what is not as FILE says"},
    {OPT_FORMAT, "format", "NAME", "text (default), json, github (annotations), junit"},
};

enum { FORMAT_TEXT, FORMAT_JSON, FORMAT_GITHUB, FORMAT_JUNIT };

static const struct opts_word formats[] = {
    {"text", FORMAT_TEXT},
    {"json", FORMAT_JSON},
    {"github", FORMAT_GITHUB},
    {"junit", FORMAT_JUNIT},
};

static const struct opts_word modes[] = {
    {"write", UZ_MANIFEST_WRITE},
    {"check", UZ_MANIFEST_CHECK},
};

/* What the command line asks for. */
struct request {
    struct opts_input input;
    struct opts_talk talk;
    struct uz_verify_options options;
    int format, manifest_mode;
    const char *path;
};

static int take(void *to, const struct opts_command *cmd, int id, const char *value)
{
    struct request *request = to;
    if (id == OPT_MANIFEST)
        return opts_read_word(cmd, "manifest", value, modes, 2, 2, &request->manifest_mode);
    if (id == OPT_FORMAT)
        return opts_read_word(cmd, "format", value, formats, 4, 4, &request->format);
    request->options.data = true;
    return 0;
}

static const struct opts_group group = {
    .heading = "What is looked at, and how it is told",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .take = take,
};

static const struct opts_group *const groups[] = {&group, &opts_input_group, &opts_talk_group};

static const struct opts_command command = {
    .name = "verify",
    .intro = "usage: unzero verify [OPTION]... PATH\n"
             "\n"
             "Tells whether a checkpoint is sound: all files there and whole, all of one save,\n"
             "every tensor inside its file, every partition accounted for. PATH may also be a\n"
             "universal checkpoint, a safetensors or PyTorch file, or a folder of them. What is\n"
             "wrong is listed with a stable code, the file, the rank, and what to do.\n"
             "\n"
             "Examples:\n"
             "  unzero verify checkpoint-500\n"
             "      metadata only: fast enough to run after every save\n"
             "  unzero verify --data models/llama\n"
             "      a folder of weights: index, files and values\n"
             "  unzero verify --data checkpoint-500\n"
             "      read every byte: before the older checkpoint is deleted\n"
             "  unzero verify --quiet checkpoint-500 || echo damaged\n"
             "      in a script: the exit code tells\n"
             "  unzero verify --format junit checkpoint-500 > verify.xml\n"
             "      for GitLab and Jenkins; --format github for annotations\n"
             "  unzero verify --manifest write step500.json checkpoint-500\n"
             "  unzero verify --manifest check step500.json out/\n"
             "      does what was consolidated hold the very values of the checkpoint?\n",
    .outro = "\n"
             "With --strict a warning makes the answer no, too.\n"
             "\n"
             "Exit codes: 0 sound; 1 not sound; 2 wrong usage; 3 trouble: nothing could be\n"
             "looked at.\n",
    .groups = groups,
    .n_groups = sizeof groups / sizeof groups[0],
};

/* The option has two values; the parser knows only one: FILE is taken off the list here. */
static int take_manifest(struct request *request, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        int file = !strcmp(argv[i], "--manifest")                            ? i + 2
                   : !strncmp(argv[i], "--manifest=", strlen("--manifest=")) ? i + 1
                                                                             : argc;
        if (file >= argc)
            continue;
        request->options.manifest = argv[file];
        memmove(argv + file, argv + file + 1, (size_t)(argc - file) * sizeof *argv);
        return argc - 1;
    }
    return argc;
}

static int read_command_line(struct request *request, int argc, char **argv)
{
    void *const targets[] = {request, &request->input, &request->talk};
    _Static_assert(sizeof targets / sizeof targets[0] == sizeof groups / sizeof groups[0],
                   "a target for each group");
    uz_verify_options_default(&request->options);
    opts_input_init(&request->input);
    argc = take_manifest(request, argc, argv);
    int rc = opts_parse(&command, argc, argv, targets);
    if (rc || request->talk.help || request->talk.version)
        return rc;
    request->options.input = request->input.options;
    request->options.scratch_dir = opts_scratch_dir(request->options.scratch_dir);
    if (request->talk.json && request->format != FORMAT_TEXT && request->format != FORMAT_JSON)
        return message_usage(command.name, "--json and --format %s contradict each other",
                             formats[request->format].word);
    if (request->talk.json)
        request->format = FORMAT_JSON;
    request->options.manifest_mode = (enum uz_manifest_mode)request->manifest_mode;
    if (argc - optind == 0)
        return message_usage(command.name, "PATH is missing");
    if (request->manifest_mode && !request->options.manifest)
        return message_usage(command.name, "--manifest needs write or check, and a FILE");
    if (argc - optind > 1)
        return message_usage(command.name, "one argument too many: '%s'", argv[optind + 1]);
    request->path = argv[optind];
    return 0;
}

static int fail(const struct request *request, const struct uz_error *err)
{
    return json_report_failure(command.name, request->format == FORMAT_JSON, "interrupted", err);
}

static int print(const struct request *request, const struct report_verify *report)
{
    switch (request->format) {
    case FORMAT_JSON:
        return report_verify_json(report);
    case FORMAT_GITHUB:
        report_verify_github(report);
        return EXIT_DONE;
    case FORMAT_JUNIT:
        report_verify_junit(report);
        return EXIT_DONE;
    default:
        if (!request->talk.quiet || !report->sound)
            report_verify_text(report);
        return EXIT_DONE;
    }
}

static int verify(const struct request *request)
{
    struct uz_verification *verification;
    struct uz_error err;
    struct progress progress;
    double started = clock_seconds();
    progress_start(&progress, !request->talk.quiet && request->format == FORMAT_TEXT);
    signals_catch();
    int rc =
        uz_verify(&verification, request->path, &request->options, progress_tick, &progress, &err);
    progress_clear(&progress);
    if (rc < 0)
        return fail(request, &err);
    const struct uz_verify_report *found = uz_verification_report(verification);
    struct report_verify report = {
        .path = request->path,
        .found = found,
        .sound = found->n_by_severity[UZ_SEVERITY_ERROR] == 0 &&
                 (!request->options.input.strict || found->n_by_severity[UZ_SEVERITY_WARNING] == 0),
        .data = request->options.data,
        .manifest_mode = request->options.manifest_mode,
        .manifest = request->options.manifest,
        .quiet = request->talk.quiet,
        .verbose = request->talk.verbose,
        .seconds = clock_seconds() - started,
    };
    int code = print(request, &report);
    if (code == EXIT_DONE && !report.sound)
        code = EXIT_NO;
    uz_verification_free(verification);
    return code;
}

int cmd_verify(int argc, char **argv)
{
    struct request request = {0};
    int rc = read_command_line(&request, argc, argv);
    if (rc == 0 && !opts_talk_help(&request.talk, &command))
        rc = verify(&request);
    opts_input_free(&request.input);
    return rc;
}
