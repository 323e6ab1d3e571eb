/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint in memory and on the disk, which is damaged, verified and restored. */
#ifndef UZ_TESTS_VERIFY_SUBJECT_H
#define UZ_TESTS_VERIFY_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "damage.h"
#include "scratch.h"

enum { SUBJECT_MAX_FILES = 64, SUBJECT_MAX_BLAMED = 2 };

struct subject_file {
    char name[128];
    uint8_t *data;
    size_t nbytes;
    struct zip_map map;
};

struct subject {
    const char *fixture; /* folder it comes from */
    char tag[128];
    char root[PATH_NBYTES], dir[PATH_NBYTES], latest[PATH_NBYTES];
    struct subject_file files[SUBJECT_MAX_FILES]; /* of the tag folder, by name */
    size_t n_files;
    int model, expert, optim0, optim1; /* places of files; -1: there is none */
    bool is_stage3, has_copies;
    const char *blamed[SUBJECT_MAX_BLAMED]; /* names; a finding must be about one of them */
};

bool subject_open(struct subject *subject, const char *fixture, const char *root);
void subject_close(struct subject *subject);
void subject_restore(struct subject *subject);

/* Writes a file of the tag folder. */
bool subject_put(const struct subject *subject, const char *name, const void *data, size_t nbytes);

/* A way to damage a checkpoint. */
struct harm {
    const char *what; /* in the words of docs/verify.md */
    /* codes that tell it, "" if it is not told; of several, one is enough */
    const char *quick, *data;
    bool (*apply)(struct subject *subject); /* false: cannot be done to this one */
};

extern const struct harm harms[];
extern const size_t n_harms;

#endif
