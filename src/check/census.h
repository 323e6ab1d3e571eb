/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what PyTorch files hold, whatever their layout: tensors by purpose, classes, dead bytes.
 */
#ifndef UZ_CHECK_CENSUS_H
#define UZ_CHECK_CENSUS_H

#include <pthread.h>

#include <unzero/inspect.h>

#include "base/map.h"
#include "base/mem.h"
#include "torch/file.h"

/* What a file is, which tells what its tensors are for. */
enum uz_census_role {
    UZ_CENSUS_MODEL,   /* model states: a dictionary with `module` */
    UZ_CENSUS_OPTIM,   /* an optimizer shard */
    UZ_CENSUS_LP,      /* low-precision weights by name: layers, experts */
    UZ_CENSUS_WEIGHTS, /* any other file */
};

/* The sum over all files. Texts live in its arena. */
struct uz_census {
    pthread_mutex_t lock; /* guards what follows while files are added */
    struct uz_arena *arena;
    struct uz_map *class_names; /* -> index of classes */
    struct uz_named_class *classes;
    size_t n_classes, cap_classes;
    struct uz_stored *contents;
    size_t n_contents, cap_contents;
    uint64_t dead_nbytes;
};

int uz_census_init(struct uz_census *census, struct uz_error *err);

/* One that was zeroed and never initialised is allowed. */
void uz_census_free(struct uz_census *census);

/*
 * Adds what an open file holds; several threads may add different files. A tensor that cannot be
 * resolved is passed over, with what is wrong in *fault (UZ_OK if nothing is); the result is
 * negative for what makes the counts useless: no memory.
 */
int uz_census_add(struct uz_census *census, struct uz_torch_file *file, enum uz_census_role role,
                  struct uz_error *fault, struct uz_error *err);

/* Adds tensors that were counted elsewhere. */
int uz_census_add_content(struct uz_census *census, const struct uz_stored *content,
                          struct uz_error *err);

/* Brings classes and contents into their documented order, when all is added. */
void uz_census_sort(struct uz_census *census);

#endif
