/* SPDX-License-Identifier: Apache-2.0 */
/* The checkpoint that make_sparse makes: its parameters, how they are cut, and their values. */
#ifndef UZ_TESTS_MADE_CHECKPOINT_H
#define UZ_TESTS_MADE_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    N_GROUPS = 2, /* parameters with weight decay, and those without */
    NOT_SPLIT = -1,
};

struct param {
    char name[96];
    unsigned ndim;
    int split; /* the dimension that tensor ranks divide, or NOT_SPLIT: all have the same */
    uint64_t shape[2], whole[2]; /* on one tensor rank, and joined */
    uint64_t numel;              /* of `shape` */
};

struct checkpoint {
    uint64_t ranks, tp; /* data-parallel and tensor ranks */
    uint64_t n_params, vocabulary;
    int stage;
    bool random;    /* masters have values; else all data are holes */
    bool rows_only; /* tensor ranks divide the second dimension of every matrix */
    struct param *params;
    uint64_t totals[N_GROUPS]; /* elements of each group on one tensor rank */
    char dir[2048];
};

/* What one rank holds of a group. */
struct part {
    uint64_t mp, rank;
    size_t group;
};

static inline size_t group_of(const struct param *param)
{
    return param->ndim == 2 ? 0 : 1;
}

static inline uint64_t ceil_div(uint64_t n, uint64_t d)
{
    return n / d + (n % d != 0);
}

/* Elements of a rank's partition of a group, padding included. */
uint64_t part_size(const struct checkpoint *c, size_t group);

/* For fill_part, to be freed; the checkpoint is borrowed. */
void *made_part(const struct checkpoint *c, struct part part);

/*
 * Bytes of a part, from a whole element on: fp32 values that are a hash of the parameter's number
 * and the element's place in the joined parameter; 0 in padding.
 */
void fill_part(void *data, const void *made_part, uint64_t first, size_t nbytes);

/* Writes DIR/model.safetensors: all parameters, joined, to hold conversions against. */
void write_expected(const struct checkpoint *c, const char *dir);

#endif
