/* SPDX-License-Identifier: Apache-2.0 */
/* Fixtures that are damaged on the disk and converted, and the report of how that went. */
#ifndef UZ_TESTS_DAMAGE_RUN_H
#define UZ_TESTS_DAMAGE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scratch.h"

/* Columns: success with the same output, with another one, and the statuses from UZ_NOMEM on. */
enum { OUTCOME_SAME, OUTCOME_OTHER, OUTCOME_NOMEM, N_OUTCOMES = OUTCOME_NOMEM + 9 };

enum {
    MAX_FILES = 32,
    MAX_SHOWN = 8, /* failures a process tells */
    MAX_ROWS = 64, /* of the table: what was damaged, or how */
};

/* What one process tells; in memory that the parent shares, so it outlives a crash. */
struct report {
    unsigned counts[MAX_ROWS][N_OUTCOMES];
    unsigned n_cases, n_failures;
    double worst_cpu;
    char now[512]; /* the case at work */
    char failures[MAX_SHOWN][1024];
};

struct file {
    char name[128];
    uint8_t *data;
    size_t nbytes;
};

/* A fixture in memory; its copy on the disk is damaged and restored. */
struct fixture {
    const char *name;
    char tag[128];
    struct file files[MAX_FILES]; /* of the tag folder, by name */
    size_t n_files;
    char root[PATH_NBYTES], dir[PATH_NBYTES], latest[PATH_NBYTES], out[PATH_NBYTES];
    uint64_t output; /* hash of the sound output */
    struct report *report;
};

uint64_t damage_hash(uint64_t hash, const void *data, size_t nbytes);

/* Notes a failure of the case at work. */
__attribute__((format(printf, 2, 3))) void damage_failed(struct report *report, const char *format,
                                                         ...);

/*
 * Loads the fixture at `path`, puts a copy of it at `root`, and converts that for the output that
 * is right. To be closed even if it fails.
 */
bool fixture_open(struct fixture *fixture, const char *path, const char *root,
                  struct report *report);
void fixture_close(struct fixture *fixture);

/* Puts the sound checkpoint on the disk, in place of whatever is there. */
void fixture_restore(struct fixture *fixture);

/* Writes a file of the tag folder. */
void fixture_put(struct fixture *fixture, const char *name, const void *data, size_t nbytes);

/* Converts what is on the disk, notes all that must not be, and gives the outcome. */
int damage_convert(struct fixture *fixture, unsigned threads);

/* Names of the ways in which folders are damaged; NULL after the last. */
const char *damage_folder_name(unsigned trick);

/* Damages a folder in every way that suits it, counting from row first_row on. */
void damage_folders(struct fixture *fixture, unsigned first_row);

#endif
