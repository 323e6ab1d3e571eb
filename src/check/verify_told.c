/* SPDX-License-Identifier: Apache-2.0 */
/* One finding for a file and a kind, however many tensors it is about. */
#include "check/verify_told.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "check/rounding.h"

/* Elements of one kind in a file's spans. */
struct tally {
    uint64_t n_elems, n_spans;
    const struct uz_span *first;
};

static void add(struct tally *tally, const struct uz_span *span, uint64_t n)
{
    if (n > 0 && !tally->first)
        tally->first = span;
    tally->n_elems += n;
    tally->n_spans += n > 0;
}

static int tell_tally(struct uz_verify_run *run, const struct uz_record *record,
                      const struct tally *tally, enum uz_find what, const char *noun,
                      struct uz_error *err)
{
    struct uz_where where = uz_record_where(record);
    if (tally->n_elems == 0)
        return UZ_OK;
    where.tensor = tally->first->name;
    return uz_find(&run->findings, what, &where, err,
                   "%" PRIu64 " %s in %" PRIu64 " of its tensors, the first is %s%s%s",
                   tally->n_elems, noun, tally->n_spans,
                   tally->first->state ? tally->first->state : "",
                   tally->first->state ? " of " : "", tally->first->name);
}

static int tell_census(struct uz_verify_run *run, const struct uz_record *record,
                       const struct uz_spans *spans, struct uz_error *err)
{
    struct tally nan = {0}, inf = {0}, denormal = {0};
    for (size_t i = 0; i < spans->n; i++) {
        add(&nan, &spans->items[i], spans->items[i].n_nan);
        add(&inf, &spans->items[i], spans->items[i].n_inf);
        add(&denormal, &spans->items[i], spans->items[i].n_denormal);
    }
    UZ_TRY(tell_tally(run, record, &nan, UZ_FIND_NAN_VALUES, "NaN", err));
    UZ_TRY(tell_tally(run, record, &inf, UZ_FIND_INF_VALUES, "infinities", err));
    return tell_tally(run, record, &denormal, UZ_FIND_DENORMALS, "denormals", err);
}

static double share_of(const struct uz_span *span)
{
    return span->n_compared ? (double)span->n_differ / (double)span->n_compared : 0;
}

static int tell_lp(struct uz_verify_run *run, const struct uz_record *record,
                   const struct uz_spans *spans, struct uz_error *err)
{
    uint64_t n_compared = 0, n_differ = 0;
    const struct uz_span *worst = NULL;
    for (size_t i = 0; i < spans->n; i++) {
        const struct uz_span *span = &spans->items[i];
        n_compared += span->n_compared;
        n_differ += span->n_differ;
        if (span->n_differ && (!worst || share_of(span) > share_of(worst)))
            worst = span;
    }
    run->n_compared += n_compared;
    if (!worst)
        return UZ_OK;
    struct uz_where where = uz_record_where(record);
    where.tensor = worst->name;
    bool many = uz_rounding_is_bad(n_differ, n_compared);
    return uz_find(&run->findings, many ? UZ_FIND_LP_DIFFERS : UZ_FIND_LP_DIFFERS_SLIGHTLY, &where,
                   err,
                   "%" PRIu64 " of %" PRIu64 " masters (%.3g%%) do not round to the 16-bit weights "
                   "in %s; most of them in %s",
                   n_differ, n_compared, 100 * (double)n_differ / (double)n_compared,
                   worst->lp_record->shard.name, worst->name);
}

/* ---- Tensors of zeros ---- */

/* Names for one message. */
struct names {
    char text[512];
    size_t used, n, n_listed;
};

static void add_name(struct names *names, const char *name)
{
    size_t n = strlen(name);
    names->n++;
    if (names->n_listed + 1 < names->n || names->used + n + 3 > sizeof names->text)
        return;
    names->used += (size_t)snprintf(names->text + names->used, sizeof names->text - names->used,
                                    "%s%s", names->used ? ", " : "", name);
    names->n_listed++;
}

/* Weights that are in parts on several ranks. */
struct parts {
    struct uz_map *index; /* name -> number */
    const char **names;
    bool *nonzero;
    size_t n, cap_names, cap_nonzero;
};

static int note_part(struct parts *parts, const struct uz_span *span, struct uz_error *err)
{
    uint64_t number = parts->n;
    if (!uz_map_get(parts->index, span->name, strlen(span->name), &number)) {
        UZ_TRY(uz_map_add(parts->index, span->name, strlen(span->name), number, NULL, err));
        UZ_TRY(uz_reserve(&parts->names, &parts->cap_names, number + 1, sizeof *parts->names, err));
        UZ_TRY(uz_reserve(&parts->nonzero, &parts->cap_nonzero, number + 1, sizeof *parts->nonzero,
                          err));
        parts->names[number] = span->name;
        parts->nonzero[number] = false;
        parts->n++;
    }
    parts->nonzero[number] |= span->has_nonzero;
    return UZ_OK;
}

static int note_parts(const struct uz_verify_run *run, const struct uz_spans *spans, uint32_t mp,
                      struct parts *parts, struct uz_error *err)
{
    for (size_t r = 0; r < run->n_records; r++)
        for (size_t i = 0; run->records[r].shard.mp == mp && i < spans[r].n; i++)
            if (spans[r].items[i].is_part)
                UZ_TRY(note_part(parts, &spans[r].items[i], err));
    return UZ_OK;
}

/* ZeRO 3: a parameter is zero if all of its parts are. */
static int list_zero_params(const struct uz_verify_run *run, const struct uz_spans *spans,
                            uint32_t mp, struct names *names, struct uz_error *err)
{
    struct parts parts = {.index = uz_map_new()};
    int rc =
        parts.index ? note_parts(run, spans, mp, &parts, err) : uz_fail_nomem(err, sizeof parts);
    for (size_t i = 0; rc == UZ_OK && i < parts.n; i++)
        if (!parts.nonzero[i])
            add_name(names, parts.names[i]);
    uz_map_free(parts.index);
    free(parts.names);
    free(parts.nonzero);
    return rc;
}

/* Others: by the low-precision weights, which are whole; counters may well be 0. */
static void list_zero_wholes(const struct uz_record *record, const struct uz_spans *spans,
                             struct names *names)
{
    if ((!record->is_loose && record->shard.kind == UZ_SHARD_OPTIM) || record->is_copy)
        return;
    for (size_t i = 0; i < spans->n; i++) {
        const struct uz_span *span = &spans->items[i];
        if (!span->has_nonzero && !span->is_part && !span->is_nameless &&
            uz_dtype_is_float(span->dtype))
            add_name(names, span->name);
    }
}

static int tell_zeros(struct uz_verify_run *run, const struct uz_spans *spans, struct uz_error *err)
{
    struct names names = {.text = ""};
    struct uz_where where = UZ_NOWHERE;
    for (uint32_t mp = 0; run->is_stage3 && mp < run->n_mp; mp++)
        UZ_TRY(list_zero_params(run, spans, mp, &names, err));
    for (size_t r = 0; r < run->n_records; r++)
        if (run->kind != UZ_INPUT_UNIVERSAL || run->records[r].is_loose) /* else they stand twice */
            list_zero_wholes(&run->records[r], &spans[r], &names);
    where.file = run->dir;
    if (names.n == 0)
        return UZ_OK;
    return uz_find(&run->findings, UZ_FIND_ALL_ZERO, &where, err, "%zu tensor%s all zeros: %s%s",
                   names.n, names.n == 1 ? " is" : "s are", names.text,
                   names.n_listed < names.n ? ", ..." : "");
}

int uz_verify_tell_values(struct uz_verify_run *run, const struct uz_spans *spans,
                          struct uz_error *err)
{
    for (size_t r = 0; r < run->n_records; r++) {
        UZ_TRY(tell_census(run, &run->records[r], &spans[r], err));
        UZ_TRY(tell_lp(run, &run->records[r], &spans[r], err));
    }
    return tell_zeros(run, spans, err);
}
