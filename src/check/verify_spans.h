/* SPDX-License-Identifier: Apache-2.0 */
/* Which bytes of the files are whose values. */
#ifndef UZ_CHECK_VERIFY_SPANS_H
#define UZ_CHECK_VERIFY_SPANS_H

#include "check/verify_run.h"

/* Elements of one tensor that lie together in a storage; padding is in no span. */
struct uz_span {
    uint64_t storage; /* where the storage begins in the file; its entry, if it is packed */
    uint64_t at;      /* byte of the storage */
    uint64_t n_elems;
    enum uz_dtype dtype;
    const char *name;  /* of the tensor */
    const char *state; /* NULL: a weight or buffer itself */
    bool is_part;      /* ZeRO 3: a rank's part of a weight, or of a frozen one */
    bool is_nameless;  /* a master or state of stage 0: named by what it stands under */
    /* The low-precision copy: elements from lp_first on of a whole tensor; NULL if there is none */
    const struct uz_whole *lp;
    const struct uz_record *lp_record;
    uint64_t lp_first;
    /* What was found, added up by several threads. */
    uint64_t n_nan, n_inf, n_denormal, n_compared, n_differ;
    bool has_nonzero;
};

/* The spans of one file, by storage and place. */
struct uz_spans {
    struct uz_span *items;
    size_t n, cap;
    uint64_t *ends; /* of each: where it and all before it in its storage have ended */
};

/* The spans of record number `index`. To be freed, after failures too. */
int uz_spans_make(struct uz_spans *spans, struct uz_verify_run *run, size_t index,
                  struct uz_map *const *lp_names, struct uz_error *err);
void uz_spans_free(struct uz_spans *spans);

/* Spans [*first, *end) are those of a storage. */
void uz_spans_of(const struct uz_spans *spans, uint64_t storage, size_t *first, size_t *end);

/*
 * For each model-parallel rank a map from names to low-precision tensors: record number << 32 |
 * number of the whole. n_mp maps, to be freed with uz_lp_names_free, after failures too.
 */
int uz_lp_names_make(const struct uz_verify_run *run, struct uz_map ***names, struct uz_error *err);
void uz_lp_names_free(const struct uz_verify_run *run, struct uz_map **names);

#endif
