/* SPDX-License-Identifier: Apache-2.0 */
/* unzero inspect: what is this? */
#include <unzero/inspect.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/command.h"
#include "cli/inspect_report.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/opts_input.h"
#include "cli/text.h"

enum option_id { OPT_TENSORS = OPTS_NO_LETTER, OPT_TREE };

static const struct opts_row rows[] = {
    {OPT_TENSORS, "tensors", NULL, "list names, shapes, dtypes and sizes, too"},
    {OPT_TREE, "tree", NULL,
     "show the values of a PyTorch file instead: PATH,\n"
     "or the shard FILE of the checkpoint PATH"},
};

static int take(void *to, const struct opts_command *command, int id, const char *value);

static const struct opts_group group = {
    .heading = "What is shown",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .take = take,
};

static const struct opts_group *const groups[] = {&group, &opts_input_group, &opts_source_group,
                                                  &opts_talk_group};

static const struct opts_command command = {
    .name = "inspect",
    .intro = "usage: unzero inspect [OPTION]... PATH\n"
             "       unzero inspect --tree [OPTION]... PATH [FILE]\n"
             "\n"
             "Says what PATH is: a ZeRO checkpoint, a universal one, a PyTorch or safetensors\n"
             "file, or a folder of them. Reads metadata alone, and runs no code of pickles:\n"
             "the classes that loading them would import are listed.\n"
             "\n"
             "Examples:\n"
             "  unzero inspect checkpoint-500\n"
             "      stage, world, optimizer, parameters, bytes, classes; and why other\n"
             "      commands would refuse it, if they would\n"
             "  unzero inspect --tensors out/model.safetensors\n"
             "      a table of all tensors\n"
             "  unzero inspect --json checkpoint-500 | jq .world\n"
             "      for scripts\n"
             "  unzero inspect --tree checkpoint-500 mp_rank_00_model_states.pt\n"
             "      every value of that file\n",
    .outro = "\n"
             "Exit codes: 0 done, also where files are damaged or not supported, as long as\n"
             "something could be read; 2 wrong usage; 3 trouble.\n",
    .groups = groups,
    .n_groups = sizeof groups / sizeof groups[0],
};

struct request {
    struct opts_input input;
    struct opts_talk talk;
    bool tensors, tree;
    const char *path, *file;
};

static int take(void *to, const struct opts_command *cmd, int id, const char *value)
{
    struct request *request = to;
    (void)cmd;
    (void)value;
    if (id == OPT_TENSORS)
        request->tensors = true;
    else
        request->tree = true;
    return 0;
}

static int read_arguments(struct request *request, int argc, char **argv)
{
    int n = argc - optind;
    if (n == 0)
        return message_usage(command.name, "PATH is missing: what should be inspected?");
    if (n > (request->tree ? 2 : 1))
        return message_usage(command.name, "one argument too many: '%s'", argv[argc - 1]);
    if (request->tree && (request->talk.json || request->tensors))
        return message_usage(command.name, "--tree goes with neither --json nor --tensors");
    request->path = argv[optind];
    request->file = n > 1 ? argv[optind + 1] : NULL;
    return 0;
}

static int fail(const struct request *request, const struct uz_error *err)
{
    return json_report_failure(command.name, request->talk.json, "interrupted", err);
}

static int show_line(void *cookie, const struct uz_tree_line *line)
{
    (void)cookie;
    printf("%6" PRIu64 "  %*s", line->number, (int)(2 * line->depth), "");
    text_print(stdout, line->key);
    fputs(*line->key ? ": " : "", stdout);
    text_print(stdout, line->value);
    if (line->same_as)
        printf("  (line %" PRIu64 ")", line->same_as);
    putchar('\n');
    return ferror(stdout) != 0;
}

static int show_tree(const struct request *request)
{
    struct uz_tree_options options;
    struct uz_error err;
    uz_tree_options_default(&options);
    if (uz_inspect_tree(request->path, request->file, &request->input.options, &options, show_line,
                        NULL, &err) < 0 &&
        err.status != UZ_CANCELLED)
        return fail(request, &err);
    return EXIT_DONE; /* output that cannot be written is noticed when it is closed */
}

static int inspect(const struct request *request)
{
    struct uz_inspection *inspection;
    struct uz_error err;
    if (uz_inspection_open(&inspection, request->path, &request->input.options, &err) < 0)
        return fail(request, &err);
    const struct uz_inspect_summary *summary = uz_inspection_summary(inspection);
    int code = EXIT_DONE;
    if (request->talk.json)
        code = inspect_json(request->path, summary, request->tensors);
    else
        inspect_text(request->path, summary, request->tensors || request->talk.verbose);
    uz_inspection_free(inspection);
    return code;
}

int cmd_inspect(int argc, char **argv)
{
    struct request request = {0};
    void *const targets[] = {&request, &request.input, &request.input, &request.talk};
    _Static_assert(sizeof targets / sizeof targets[0] == sizeof groups / sizeof groups[0],
                   "a target for each group");
    opts_input_init(&request.input);
    int rc = opts_parse(&command, argc, argv, targets);
    if (rc == 0 && !opts_talk_help(&request.talk, &command)) {
        rc = read_arguments(&request, argc, argv);
        if (rc == 0)
            rc = request.tree ? show_tree(&request) : inspect(&request);
    }
    opts_input_free(&request.input);
    return rc;
}
