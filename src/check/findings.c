/* SPDX-License-Identifier: Apache-2.0 */
/* The list of findings. */
#include "check/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT_NBYTES = 4096, MAX_ALL_NBYTES = 1 << 30 };

static const struct {
    const char *code, *name, *advice;
    enum uz_severity severity;
} table[UZ_FIND_COUNT] = {
#define UZ_FINDING(SYMBOL, code, name, severity, advice)                                           \
    [UZ_FIND_##SYMBOL] = {code, name, advice, UZ_SEVERITY_##severity},
#include "check/findings.def"
#undef UZ_FINDING
};

int uz_findings_init(struct uz_findings *findings, struct uz_error *err)
{
    *findings = (struct uz_findings){.texts = uz_arena_new(MAX_ALL_NBYTES)};
    pthread_mutex_init(&findings->lock, NULL);
    return findings->texts ? UZ_OK : uz_fail_nomem(err, sizeof *findings);
}

void uz_findings_free(struct uz_findings *findings)
{
    free(findings->items);
    uz_arena_free(findings->texts);
    pthread_mutex_destroy(&findings->lock);
    *findings = (struct uz_findings){0};
}

/* An escaped copy; NULL stays NULL. */
static int copy(struct uz_findings *findings, const char *text, const char **out,
                struct uz_error *err)
{
    char shown[MAX_TEXT_NBYTES];
    *out = NULL;
    if (!text)
        return UZ_OK;
    uz_printable(shown, sizeof shown, text, strlen(text));
    return uz_arena_strndup(findings->texts, shown, strlen(shown), out, err);
}

static int append(struct uz_findings *findings, enum uz_find what, const struct uz_where *where,
                  const char *text, struct uz_error *err)
{
    struct uz_finding finding = {
        .code = table[what].code,
        .name = table[what].name,
        .severity = table[what].severity,
        .dp_rank = where->dp,
        .mp_rank = where->mp,
        .offset = where->offset,
        .advice = table[what].advice,
    };
    UZ_TRY(copy(findings, where->file, &finding.file, err));
    UZ_TRY(copy(findings, where->tensor, &finding.tensor, err));
    UZ_TRY(copy(findings, text, &finding.message, err));
    UZ_TRY(uz_reserve(&findings->items, &findings->cap, (uint64_t)findings->n + 1,
                      sizeof *findings->items, err));
    findings->items[findings->n++] = finding;
    return UZ_OK;
}

int uz_find(struct uz_findings *findings, enum uz_find what, const struct uz_where *where,
            struct uz_error *err, const char *fmt, ...)
{
    char text[MAX_TEXT_NBYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    pthread_mutex_lock(&findings->lock);
    int rc = append(findings, what, where, text, err);
    pthread_mutex_unlock(&findings->lock);
    return rc;
}

int uz_find_failure(struct uz_findings *findings, enum uz_find what, const struct uz_where *where,
                    const struct uz_error *failure, struct uz_error *err)
{
    struct uz_where at = *where;
    switch (failure->status) {
    case UZ_CORRUPT:
    case UZ_MISMATCH:
        break;
    case UZ_IO:
        what = UZ_FIND_UNREADABLE_FILE;
        break;
    case UZ_FORMAT:
        what = UZ_FIND_WRONG_CONTENT;
        break;
    case UZ_UNSUPPORTED:
    case UZ_LIMIT:
        what = UZ_FIND_NOT_CHECKED;
        break;
    default:
        if (err)
            *err = *failure;
        return failure->status;
    }
    if (at.offset == UZ_NO_OFFSET)
        at.offset = failure->offset;
    if (!at.file && *failure->file)
        at.file = failure->file;
    return uz_find(findings, what, &at, err, "%s", failure->message);
}

bool uz_findings_reach(struct uz_findings *findings, enum uz_severity severity)
{
    bool reached = false;
    pthread_mutex_lock(&findings->lock);
    for (size_t i = 0; i < findings->n && !reached; i++)
        reached = findings->items[i].severity >= severity;
    pthread_mutex_unlock(&findings->lock);
    return reached;
}

bool uz_findings_whole(struct uz_findings *findings)
{
    bool whole = true;
    pthread_mutex_lock(&findings->lock);
    for (size_t i = 0; i < findings->n && whole; i++)
        whole = strcmp(findings->items[i].code, table[UZ_FIND_NOT_CHECKED].code) != 0 &&
                strcmp(findings->items[i].code, table[UZ_FIND_UNSUPPORTED].code) != 0 &&
                strcmp(findings->items[i].code, table[UZ_FIND_OTHER_DTYPE].code) != 0;
    pthread_mutex_unlock(&findings->lock);
    return whole;
}

bool uz_findings_blame(struct uz_findings *findings, const char *file)
{
    bool blamed = false;
    pthread_mutex_lock(&findings->lock);
    for (size_t i = 0; i < findings->n && !blamed; i++)
        blamed = findings->items[i].severity == UZ_SEVERITY_ERROR && findings->items[i].file &&
                 !strcmp(findings->items[i].file, file);
    pthread_mutex_unlock(&findings->lock);
    return blamed;
}

static int compare_texts(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

static int compare_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare(const void *a, const void *b)
{
    const struct uz_finding *x = a, *y = b;
    int order = compare_numbers((int64_t)y->severity, (int64_t)x->severity);
    if (order == 0)
        order = strcmp(x->code, y->code);
    if (order == 0)
        order = compare_numbers(x->mp_rank, y->mp_rank);
    if (order == 0)
        order = compare_numbers(x->dp_rank, y->dp_rank);
    if (order == 0)
        order = compare_texts(x->file, y->file);
    if (order == 0)
        order = compare_texts(x->tensor, y->tensor);
    return order != 0 ? order : strcmp(x->message, y->message);
}

void uz_findings_sort(struct uz_findings *findings)
{
    size_t n = 0;
    if (findings->n == 0)
        return;
    qsort(findings->items, findings->n, sizeof *findings->items, compare);
    for (size_t i = 0; i < findings->n; i++) {
        if (n == 0 || compare(&findings->items[n - 1], &findings->items[i]) != 0)
            findings->items[n++] = findings->items[i];
    }
    findings->n = n;
}
