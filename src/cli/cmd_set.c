/* SPDX-License-Identifier: Apache-2.0 */
/* unzero set: a new checkpoint with other values of one tensor. */
#include <unzero/set.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/opts_input.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/text.h"

enum option_id { OPT_STATE = OPTS_NO_LETTER };

static const struct opts_row rows[] = {
    {'o', "output", "NEW", "the folder to make; it must not exist"},
    {OPT_STATE, "state", "NAME",
     "an optimizer state, such as exp_avg, instead of the\n"
     "weight (fp32, the default)"},
    {'n', "dry-run", NULL, "check everything, write nothing"},
};

/* What the command line asks for. */
struct request {
    struct opts_input input;
    struct opts_talk talk;
    struct uz_set_options options; /* complete when the line has been read */
    const char *checkpoint, *name, *values, *output;
    bool dry_run;
};

static int take(void *to, const struct opts_command *cmd, int id, const char *value)
{
    struct request *request = to;
    (void)cmd;
    switch (id) {
    case 'o':
        request->output = value;
        break;
    case OPT_STATE:
        request->options.state = opts_state(value);
        break;
    default:
        request->dry_run = true;
        break;
    }
    return 0;
}

static const struct opts_group group = {
    .heading = "Tensor and output",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .take = take,
};

static const struct opts_group *const groups[] = {&group, &opts_input_group, &opts_talk_group};

static const struct opts_command command = {
    .name = "set",
    .intro = "usage: unzero set [OPTION]... CHECKPOINT NAME FILE --output NEW\n"
             "\n"
             "Makes a new checkpoint in which tensor NAME has the values of FILE (.npy, or\n"
             ".safetensors or .pt with one tensor or one of that name): written into all copies\n"
             "and fragments of every rank, low-precision ones rounded from them, checksums\n"
             "renewed. Training resumes from it. The old checkpoint stays as it is. Files that\n"
             "don't change are shared with it, as hard links where nothing better works: what\n"
             "writes into one in place changes both.\n"
             "\n"
             "Examples:\n"
             "  unzero get ckpt lm_head.weight -o w.npy       # change w.npy with numpy, then\n"
             "  unzero set ckpt lm_head.weight w.npy --output ckpt-new\n"
             "  unzero set ckpt lm_head.weight zeros.npy --state exp_avg --output ckpt-reset\n",
    .outro =
        "\n"
        "Exit codes: 0 done; 2 wrong usage; 3 trouble: no such tensor, values that do not fit,\n"
        "or a checkpoint that is unreadable, damaged or not supported.\n",
    .groups = groups,
    .n_groups = sizeof groups / sizeof groups[0],
};

static int read_options(struct request *request, int argc, char **argv)
{
    void *const targets[] = {request, &request->input, &request->talk};
    _Static_assert(sizeof targets / sizeof targets[0] == sizeof groups / sizeof groups[0],
                   "a target for each group");
    uz_set_options_default(&request->options);
    opts_input_init(&request->input);
    int rc = opts_parse(&command, argc, argv, targets);
    request->options.input = request->input.options;
    return rc;
}

static int read_arguments(struct request *request, int argc, char **argv)
{
    static const char *const missing[] = {"CHECKPOINT, NAME and FILE are missing",
                                          "NAME and FILE are missing", "FILE is missing"};
    int n = argc - optind;
    if (n < 3)
        return message_usage(command.name, "%s", missing[n]);
    if (n > 3)
        return message_usage(command.name, "one argument too many: '%s'", argv[optind + 3]);
    if (!request->output)
        return message_usage(command.name, "--output NEW is missing: where should the new "
                                           "checkpoint go?");
    request->checkpoint = argv[optind];
    request->name = argv[optind + 1];
    request->values = argv[optind + 2];
    return 0;
}

static int fail(const struct request *request, const struct uz_error *err)
{
    return json_report_failure(command.name, request->talk.json, "interrupted: nothing was changed",
                               err);
}

static void tell(const struct request *request, const struct uz_set_summary *summary)
{
    text_print(stdout, request->name);
    if (request->options.state)
        printf(" (%s)", request->options.state);
    printf(": %s in %s of ", text_count(summary->n_elems, "element").text,
           text_count(summary->n_fragments, "fragment").text);
    printf("%s%s\n", text_count(summary->n_files_changed, "file").text,
           summary->lp_updated ? ", low-precision copy included" : "");
    if (request->dry_run)
        return;
    text_print(stdout, request->output);
    printf(": %s written, ", text_count(summary->n_files_changed, "file").text);
    printf("%" PRIu64 " shared with the old checkpoint (%s)", summary->n_files_shared,
           text_count(summary->n_files_linked, "hard link").text);
    printf(", %" PRIu64 " copied\n", summary->n_files_copied);
}

static int tell_json(const struct request *request, const struct uz_set_summary *summary)
{
    struct json b = {0};
    cJSON *root = json_start(&b, command.name);
    json_put_text(&b, root, "checkpoint", request->checkpoint);
    json_put_text(&b, root, "output", request->output);
    json_put_text(&b, root, "tag", summary->source.tag);
    json_put_text(&b, root, "name", request->name);
    json_put_text(&b, root, "stored_name", summary->stored_name);
    json_put_text(&b, root, "state", request->options.state);
    json_put_bool(&b, root, "dry_run", request->dry_run);
    json_put_number(&b, root, "elements", summary->n_elems);
    json_put_number(&b, root, "fragments", summary->n_fragments);
    json_put_number(&b, root, "files_changed", summary->n_files_changed);
    json_put_number(&b, root, "files_shared", summary->n_files_shared);
    json_put_number(&b, root, "files_linked", summary->n_files_linked);
    json_put_number(&b, root, "files_copied", summary->n_files_copied);
    json_put_bool(&b, root, "lp_updated", summary->lp_updated);
    json_put_number(&b, root, "overflows", summary->n_overflows);
    json_put_texts(&b, root, "warnings", summary->warnings, summary->n_warnings);
    return json_finish(&b, root);
}

static int report(const struct request *request, const struct uz_set_summary *summary)
{
    if (request->talk.json)
        return tell_json(request, summary);
    if (!request->talk.quiet)
        tell(request, summary);
    return EXIT_DONE;
}

/* Shows the warnings from number `first` on; more come up while the job runs. */
static void tell_warnings(const struct uz_set_summary *summary, size_t first)
{
    for (size_t i = first; i < summary->n_warnings; i++)
        message_warning(summary->warnings[i]);
}

static int run(struct uz_setting *job, const struct request *request, struct uz_error *err)
{
    struct progress progress;
    progress_start(&progress, !request->talk.quiet && !request->talk.json);
    signals_catch();
    int rc = uz_setting_run(job, progress_tick, &progress, err);
    progress_clear(&progress);
    return rc;
}

static int set(const struct request *request)
{
    struct uz_setting *job;
    struct uz_error err;
    if (uz_setting_plan(&job, request->checkpoint, request->name, request->values, request->output,
                        &request->options, &err) < 0)
        return fail(request, &err);
    const struct uz_set_summary *summary = uz_setting_summary(job);
    if (request->talk.verbose)
        message_source(request->checkpoint, &summary->source);
    tell_warnings(summary, 0);
    size_t n_told = summary->n_warnings;
    int rc = request->dry_run ? UZ_OK : run(job, request, &err), code;
    if (rc < 0) {
        code = fail(request, &err);
    } else {
        tell_warnings(summary, n_told);
        code = report(request, summary);
    }
    uz_setting_free(job);
    return code;
}

int cmd_set(int argc, char **argv)
{
    struct request request = {0};
    int rc = read_options(&request, argc, argv);
    if (rc == 0 && !opts_talk_help(&request.talk, &command)) {
        rc = read_arguments(&request, argc, argv);
        if (rc == 0)
            rc = set(&request);
    }
    opts_input_free(&request.input);
    return rc;
}
