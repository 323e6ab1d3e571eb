/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of the options that commands share. */
#include "cli/opts_input.h"

#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/message.h"

enum { MAX_THREADS = 1024 };

#define N_ITEMS(array) (sizeof(array) / sizeof(array)[0])

/* ---- What is read ---- */

enum input_id { INPUT_DIR = OPTS_NO_LETTER, INPUT_STRICT, INPUT_THREADS, INPUT_TP_MAP };

static const struct opts_row input_rows[] = {
    {'t', "tag", "NAME", "tag folder to read (default: what `latest` names)"},
    {INPUT_DIR, "input-dir", "DIR",
     "a further folder with shards of the same\n"
     "checkpoint; may be given more than once"},
    {INPUT_TP_MAP, "tp-map", "FILE",
     "JSON with the keys of universal_checkpoint_info:\n"
     "how tensor-parallel shards are joined, where the\n"
     "checkpoint does not record it, or in its place"},
    {INPUT_STRICT, "strict", NULL, "take no warning about data: stop there instead"},
    {INPUT_THREADS, "threads", "N", "default 0: as many as there are processors"},
};

static int take_dir(struct opts_input *input, const char *value)
{
    int rc = opts_list_add(&input->dirs, value);
    input->options.input_dirs = input->dirs.items;
    input->options.n_input_dirs = input->dirs.n;
    return rc;
}

static int take_input(void *to, const struct opts_command *command, int id, const char *value)
{
    struct opts_input *input = to;
    switch (id) {
    case 't':
        input->options.tag = value;
        return 0;
    case INPUT_DIR:
        return take_dir(input, value);
    case INPUT_TP_MAP:
        input->options.tp_map = value;
        return 0;
    case INPUT_THREADS:
        return opts_read_number(command, "threads", value, MAX_THREADS, &input->options.threads);
    default:
        input->options.strict = true;
        return 0;
    }
}

const struct opts_group opts_input_group = {
    .heading = "Input",
    .rows = input_rows,
    .n_rows = N_ITEMS(input_rows),
    .take = take_input,
};

static const struct opts_row source_rows[] = {
    {OPTS_NO_LETTER, "source", "WHICH",
     "masters (default): the optimizer's full weights\n"
     "lp: the 16-bit weights of the model states, ZeRO\n"
     "0 to 2; works when optimizer shards are gone"},
};

static const struct opts_word sources[] = {
    {"masters", UZ_SOURCE_MASTERS},
    {"lp", UZ_SOURCE_LP},
};

static int take_source(void *to, const struct opts_command *command, int id, const char *value)
{
    struct opts_input *input = to;
    int source;
    (void)id;
    int rc = opts_read_word(command, "source", value, sources, N_ITEMS(sources), N_ITEMS(sources),
                            &source);
    if (rc == 0)
        input->options.source = (enum uz_source)source;
    return rc;
}

const struct opts_group opts_source_group = {
    .rows = source_rows,
    .n_rows = N_ITEMS(source_rows),
    .take = take_source,
};

void opts_input_init(struct opts_input *input)
{
    *input = (struct opts_input){0};
    uz_input_options_default(&input->options);
}

void opts_input_free(struct opts_input *input)
{
    opts_list_free(&input->dirs);
    input->options.input_dirs = NULL;
    input->options.n_input_dirs = 0;
}

const char *opts_state(const char *value)
{
    return strcmp(value, "fp32") ? value : NULL;
}

int opts_state_check(const struct opts_input *input, const char *state,
                     const struct opts_command *command)
{
    if (!state || input->options.source != UZ_SOURCE_LP)
        return 0;
    return message_usage(command->name,
                         "--state %s with --source lp: the model states, which that reads, hold no "
                         "optimizer states",
                         state);
}

const char *opts_scratch_dir(const char *otherwise)
{
    const char *dir = getenv("TMPDIR");
    return dir && *dir ? dir : otherwise;
}

/* ---- Which names ---- */

enum names_id { NAMES_INCLUDE = OPTS_NO_LETTER, NAMES_EXCLUDE, NAMES_STRIP, NAMES_RENAME };

static const struct opts_row names_rows[] = {
    {NAMES_INCLUDE, "include", "REGEX", "only names that match (Python's re, anywhere)"},
    {NAMES_EXCLUDE, "exclude", "REGEX", "but not those that match"},
    {NAMES_STRIP, "strip-prefix", "TEXT", "taken off names that begin so, as `module.`"},
    {NAMES_RENAME, "rename", "s/RE/TO/",
     "replace the first match in each name; \\1 is group\n"
     "1; s/RE/TO/g replaces all; s|RE|TO| is the same"},
};

static int take_names(void *to, const struct opts_command *command, int id, const char *value)
{
    struct opts_names *names = to;
    int rc;
    (void)command;
    switch (id) {
    case NAMES_INCLUDE:
        rc = opts_list_add(&names->includes, value);
        break;
    case NAMES_EXCLUDE:
        rc = opts_list_add(&names->excludes, value);
        break;
    case NAMES_STRIP:
        rc = opts_list_add(&names->strip_prefixes, value);
        break;
    default:
        rc = opts_list_add(&names->renames, value);
        break;
    }
    names->rules = (struct uz_name_rules){
        .includes = names->includes.items,
        .n_includes = names->includes.n,
        .excludes = names->excludes.items,
        .n_excludes = names->excludes.n,
        .strip_prefixes = names->strip_prefixes.items,
        .n_strip_prefixes = names->strip_prefixes.n,
        .renames = names->renames.items,
        .n_renames = names->renames.n,
    };
    return rc;
}

const struct opts_group opts_names_group = {
    .heading = "Names, each option as often as you like, in this order",
    .rows = names_rows,
    .n_rows = N_ITEMS(names_rows),
    .take = take_names,
};

void opts_names_free(struct opts_names *names)
{
    opts_list_free(&names->includes);
    opts_list_free(&names->excludes);
    opts_list_free(&names->strip_prefixes);
    opts_list_free(&names->renames);
    names->rules = (struct uz_name_rules){0};
}

int opts_names_check(const struct opts_names *names, const struct opts_command *command)
{
    struct uz_error err;
    if (uz_name_rules_check(&names->rules, &err) == UZ_OK)
        return 0;
    if (err.status == UZ_ARG)
        return message_usage(command->name, "%s", err.message);
    return message_failure(&err);
}

/* ---- Writing and memory ---- */

enum write_id { WRITE_SYNC = OPTS_NO_LETTER };

static const struct opts_row write_rows[] = {
    {'n', "dry-run", NULL,
     "check all metadata, tell what would be written,\n"
     "write nothing"},
    {'f', "force", NULL,
     "replace model files that OUT holds; their stale\n"
     "shards go, other files stay"},
    {WRITE_SYNC, "sync", "WHEN",
     "full (default): all is on the disk at the end\n"
     "data: a file is on the disk before it has its name\n"
     "none: when the system likes"},
};

/* For a folder that must be new there is nothing to replace. */
static const struct opts_row new_rows[] = {
    {'n', "dry-run", NULL,
     "check all metadata, tell what would be written,\n"
     "write nothing"},
    {WRITE_SYNC, "sync", "WHEN",
     "full (default): all is on the disk at the end\n"
     "data: it is on the disk before it has its name\n"
     "none: when the system likes"},
};

static const struct opts_word syncs[] = {
    {"none", UZ_DURABLE_NONE},
    {"data", UZ_DURABLE_DATA},
    {"full", UZ_DURABLE_FULL},
};

static int take_write(void *to, const struct opts_command *command, int id, const char *value)
{
    struct opts_write *write = to;
    int durability, rc = 0;
    if (id == 'n') {
        write->dry_run = true;
    } else if (id == 'f') {
        write->force = true;
    } else {
        rc = opts_read_word(command, "sync", value, syncs, N_ITEMS(syncs), N_ITEMS(syncs),
                            &durability);
        if (rc == 0)
            write->durability = (enum uz_durability)durability;
    }
    return rc;
}

const struct opts_group opts_new_group = {
    .rows = new_rows, .n_rows = N_ITEMS(new_rows), .take = take_write};

const struct opts_group opts_write_group = {
    .rows = write_rows,
    .n_rows = N_ITEMS(write_rows),
    .take = take_write,
};

static const struct opts_row memory_rows[] = {
    {OPTS_NO_LETTER, "max-memory", "SIZE", "make do with that much (default 0: no bound)"},
};

static int take_memory(void *to, const struct opts_command *command, int id, const char *value)
{
    struct opts_memory *memory = to;
    (void)id;
    return opts_read_size(command, "max-memory", value, &memory->max_nbytes);
}

const struct opts_group opts_memory_group = {
    .rows = memory_rows,
    .n_rows = N_ITEMS(memory_rows),
    .take = take_memory,
};

int opts_folder_check(const char *out, const struct opts_command *command)
{
    struct uz_error err;
    if (uz_output_file_format(out) == UZ_FORMAT_AUTO && uz_output_name_check(out, &err) == UZ_OK)
        return 0;
    return message_usage(command->name,
                         "'%s' is no name of a folder; with a slash at its end every name is", out);
}

/* ---- What is told ---- */

enum talk_id { TALK_JSON = OPTS_NO_LETTER, TALK_VERSION };

static const struct opts_row talk_rows[] = {
    {TALK_JSON, "json", NULL, "the result, or the error, as JSON; no progress"},
    {'q', "quiet", NULL, "no summary, no progress; what was asked for and\nwarnings stay"},
    {'v', "verbose", NULL, "tell what was found, list files and names"},
    {'h', "help", NULL, "this text"},
    {TALK_VERSION, "version", NULL, "the version"},
};

static int take_talk(void *to, const struct opts_command *command, int id, const char *value)
{
    struct opts_talk *talk = to;
    (void)command;
    (void)value;
    switch (id) {
    case TALK_JSON:
        talk->json = true;
        break;
    case 'q':
        talk->quiet = true;
        break;
    case 'v':
        talk->verbose = true;
        break;
    case 'h':
        talk->help = true;
        break;
    default:
        talk->version = true;
        break;
    }
    return 0;
}

const struct opts_group opts_talk_group = {
    .heading = "Messages",
    .rows = talk_rows,
    .n_rows = N_ITEMS(talk_rows),
    .take = take_talk,
};

bool opts_talk_help(const struct opts_talk *talk, const struct opts_command *command)
{
    if (talk->help)
        opts_print_help(command);
    else if (talk->version)
        print_version();
    return talk->help || talk->version;
}
