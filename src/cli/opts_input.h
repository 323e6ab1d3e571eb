/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of options that commands share, each with the structure it is read into. */
#ifndef UZ_CLI_OPTS_INPUT_H
#define UZ_CLI_OPTS_INPUT_H

#include <stdbool.h>

#include <unzero/consolidate.h>
#include <unzero/input.h>
#include <unzero/names.h>

#include "cli/opts.h"

/* --tag, --input-dir, --tp-map, --strict, --threads: every command that reads a checkpoint. */
struct opts_input {
    struct uz_input_options options;
    struct opts_list dirs; /* owns the list that options.input_dirs points to */
};

extern const struct opts_group opts_input_group;
extern const struct opts_group opts_source_group; /* --source, into the same structure */
void opts_input_init(struct opts_input *input);
void opts_input_free(struct opts_input *input);

/* The value of --state: NULL for fp32, which is the weight itself. */
const char *opts_state(const char *value);

/* Can a state (NULL: the weight) be had from the source? Returns 0, or EXIT_USAGE after a message.
 */
int opts_state_check(const struct opts_input *input, const char *state,
                     const struct opts_command *command);

/* Where compressed shards may be unpacked: $TMPDIR, or `otherwise`. */
const char *opts_scratch_dir(const char *otherwise);

/* --include, --exclude, --strip-prefix, --rename: which tensors, and under which names. */
struct opts_names {
    struct uz_name_rules rules;
    struct opts_list includes, excludes, strip_prefixes, renames; /* own the lists of rules */
};

extern const struct opts_group opts_names_group; /* a structure of zeros is none given */
void opts_names_free(struct opts_names *names);

/* Can the rules be read? Returns 0, or an exit code after a message. */
int opts_names_check(const struct opts_names *names, const struct opts_command *command);

/* --sync, --dry-run, --force: commands that write. */
struct opts_write {
    enum uz_durability durability;
    bool dry_run, force;
};

extern const struct opts_group opts_write_group;

/* --sync, --dry-run: commands whose output is a new folder. */
extern const struct opts_group opts_new_group;

/* --max-memory: commands that run the engine. */
struct opts_memory {
    uint64_t max_nbytes; /* 0: no bound */
};

extern const struct opts_group opts_memory_group;

/*
 * A command that makes a folder is not given the name of a file, or `-`, by mistake. A slash at the
 * end makes any name a folder's. Returns 0, or EXIT_USAGE after a message.
 */
int opts_folder_check(const char *out, const struct opts_command *command);

/* --json, --quiet, --verbose, --help, --version: what is told, by every command. */
struct opts_talk {
    bool json, quiet, verbose, help, version;
};

extern const struct opts_group opts_talk_group;

/* After the options were read: does what --help or --version ask for. True if that was all. */
bool opts_talk_help(const struct opts_talk *talk, const struct opts_command *command);

#endif
