/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pass over all bytes: each is read once, summed, and looked at while it is in the cache. Only
 * low-precision copies are read a second time, beside their masters.
 */
#include <fcntl.h>
#include <libdeflate.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/parallel.h"
#include "check/verify_sections.h"
#include "check/verify_told.h"
#include "check/verify_values.h"
#include "torch/stream.h"

struct pass {
    struct uz_verify_run *run;
    struct uz_spans *spans; /* of each record */
    struct uz_map **lp_names;
    struct uz_sections sections;
    struct uz_values **workers;
    uint32_t *crcs;  /* of each job */
    bool *was_read;  /* of each job */
    uint64_t n_done; /* bytes */
};

/* ---- Reading ---- */

static int read_chunk(struct pass *p, struct uz_values *v, const struct uz_section *section,
                      uint64_t job, struct uz_error *err)
{
    const struct uz_record *record = &p->run->records[section->record];
    uint64_t at = (job - section->first_job) * UZ_SECTION_CHUNK;
    uint64_t end =
        section->nbytes - at < UZ_SECTION_CHUNK ? section->nbytes : at + UZ_SECTION_CHUNK;
    uint32_t crc = 0;
    for (; at < end; at += UZ_VALUES_BLOCK) {
        size_t n = end - at < UZ_VALUES_BLOCK ? (size_t)(end - at) : UZ_VALUES_BLOCK;
        struct uz_block block = {section->storage, at, n, v->block, record->is_big_endian};
        int fd;
        UZ_TRY(uz_fd_cache_get(&v->fds, (uint32_t)section->record, record->path, &fd, err));
        UZ_TRY(uz_pread_all(fd, v->block, n, section->storage + at, record->path, err));
        if (section->has_crc)
            crc = libdeflate_crc32(crc, v->block, n);
        UZ_TRY(uz_values_look(v, &p->spans[section->record], &block, err));
        __atomic_fetch_add(&p->n_done, n, __ATOMIC_RELAXED);
    }
    p->crcs[job] = crc;
    p->was_read[job] = true;
    return UZ_OK;
}

static int read_storage(struct pass *p, struct uz_values *v, size_t record,
                        struct uz_stream *stream, uint64_t entry, uint64_t nbytes,
                        struct uz_error *err)
{
    for (uint64_t at = 0, n; at < nbytes; at += n) {
        n = nbytes - at < UZ_VALUES_BLOCK ? nbytes - at : UZ_VALUES_BLOCK;
        struct uz_block block = {entry, at, (size_t)n, v->block,
                                 p->run->records[record].is_big_endian};
        UZ_TRY(uz_stream_read(stream, v->block, (size_t)n, err));
        UZ_TRY(uz_values_look(v, &p->spans[record], &block, err));
    }
    return UZ_OK;
}

/* Reads a stream to its end, where its own checksum is. */
static int read_stream(struct pass *p, struct uz_values *v, const struct uz_section *section,
                       struct uz_error *err)
{
    struct uz_stream *stream;
    const char *path = p->run->records[section->record].path;
    UZ_TRY(uz_stream_open(&stream, path, section->packing, section->storage,
                          &p->run->options->input.limits, err));
    int rc = UZ_OK;
    for (bool found = true; rc == UZ_OK && found;) {
        uint64_t entry, nbytes;
        rc = uz_stream_next(stream, &entry, &nbytes, &found, err);
        if (rc == UZ_OK && found)
            rc = read_storage(p, v, section->record, stream, entry, nbytes, err);
    }
    uz_stream_close(stream);
    if (rc == UZ_OK)
        __atomic_fetch_add(&p->run->n_checked_nbytes, section->nbytes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&p->n_done, section->nbytes, __ATOMIC_RELAXED);
    return rc;
}

static int read_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    struct pass *p = cookie;
    const struct uz_section *section = uz_section_of(&p->sections, job);
    struct uz_error why = {0};
    int rc = section->packing == UZ_PACKED_STORED
                 ? read_chunk(p, p->workers[worker], section, job, &why)
                 : read_stream(p, p->workers[worker], section, &why);
    if (rc == UZ_OK)
        return UZ_OK;
    struct uz_where where = uz_record_where(&p->run->records[section->record]);
    enum uz_find what = section->packing == UZ_PACKED_STORED ? UZ_FIND_DAMAGED_FILE : UZ_FIND_CRC;
    return uz_find_failure(&p->run->findings, what, &where, &why, err);
}

static int tick(void *cookie)
{
    const struct pass *p = cookie;
    if (!p->run->progress)
        return 0;
    return p->run->progress(p->run->cookie, __atomic_load_n(&p->n_done, __ATOMIC_RELAXED),
                            p->sections.nbytes);
}

/* ---- Sums ---- */

/* True and the CRC-32 of the section if all of it was read. */
static bool sum_section(const struct pass *p, const struct uz_section *section, uint32_t *sum)
{
    uint64_t left = section->nbytes;
    *sum = 0;
    for (uint64_t i = 0; i < section->n_jobs; i++) {
        uint64_t n = left < UZ_SECTION_CHUNK ? left : UZ_SECTION_CHUNK;
        if (!p->was_read[section->first_job + i])
            return false;
        *sum = (uint32_t)crc32_combine(*sum, p->crcs[section->first_job + i], (z_off_t)n);
        left -= n;
    }
    return true;
}

/* Sections [first, end) are of one file; if all of its sums are wrong it was saved without. */
static int check_sums(struct pass *p, size_t first, size_t end, struct uz_error *err)
{
    const struct uz_record *record = &p->run->records[p->sections.items[first].record];
    struct uz_where where = uz_record_where(record);
    size_t n_wrong = 0, n_sums = 0;
    for (int round = 0; round < 2; round++) {
        for (size_t i = first; i < end; i++) {
            const struct uz_section *section = &p->sections.items[i];
            uint32_t sum;
            if (!section->has_crc || !sum_section(p, section, &sum))
                continue;
            bool wrong = sum != section->crc;
            n_sums += round == 0;
            n_wrong += round == 0 && wrong;
            if (round == 1 && wrong) {
                where.offset = section->storage;
                where.tensor = NULL;
                UZ_TRY(uz_find(&p->run->findings, UZ_FIND_CRC, &where, err,
                               "entry %s, %llu bytes: CRC-32 is %08x, the directory has %08x",
                               section->name, (unsigned long long)section->nbytes, sum,
                               section->crc));
            }
            if (round == 1 && !wrong)
                p->run->n_checked_nbytes += section->nbytes;
        }
        if (n_wrong > 1 && n_wrong == n_sums)
            return uz_find(&p->run->findings, UZ_FIND_NO_CRC, &where, err,
                           "was saved without checksums: none of %zu fits", n_sums);
    }
    return UZ_OK;
}

static int check_all_sums(struct pass *p, struct uz_error *err)
{
    for (size_t first = 0, end; first < p->sections.n; first = end) {
        end = first;
        while (end < p->sections.n &&
               p->sections.items[end].record == p->sections.items[first].record)
            end++;
        UZ_TRY(check_sums(p, first, end, err));
    }
    return UZ_OK;
}

/* ---- The order of the steps ---- */

static int make_workers(struct pass *p, struct uz_error *err)
{
    unsigned slots = uz_fd_slots_for(p->run->threads);
    UZ_TRY(uz_alloc(&p->workers, p->run->threads, sizeof *p->workers, err));
    for (unsigned i = 0; i < p->run->threads; i++) {
        UZ_TRY(uz_alloc(&p->workers[i], 1, sizeof **p->workers, err));
        p->workers[i]->run = p->run;
        p->workers[i]->ops = uz_cast_ops_for(UINT_MAX);
        p->workers[i]->census = uz_census_for(UINT_MAX);
        uz_fd_cache_init(&p->workers[i]->fds, O_RDONLY, slots);
    }
    return UZ_OK;
}

static int run_pass(struct pass *p, struct uz_error *err)
{
    struct uz_verify_run *run = p->run;
    UZ_TRY(uz_lp_names_make(run, &p->lp_names, err));
    UZ_TRY(uz_alloc(&p->spans, run->n_records, sizeof *p->spans, err));
    for (size_t i = 0; i < run->n_records; i++)
        if (run->records[i].was_opened) {
            UZ_TRY(uz_spans_make(&p->spans[i], run, i, p->lp_names, err));
            UZ_TRY(uz_sections_add(&p->sections, run, i, &p->spans[i], err));
        }
    UZ_TRY(make_workers(p, err));
    UZ_TRY(uz_alloc(&p->crcs, p->sections.n_jobs, sizeof *p->crcs, err));
    UZ_TRY(uz_alloc(&p->was_read, p->sections.n_jobs, sizeof *p->was_read, err));
    UZ_TRY(uz_parallel(run->threads, p->sections.n_jobs, read_job, tick, p, err));
    UZ_TRY(check_all_sums(p, err));
    return uz_verify_tell_values(run, p->spans, err);
}

static void free_pass(struct pass *p)
{
    for (unsigned i = 0; p->workers && i < p->run->threads; i++) {
        if (p->workers[i])
            uz_fd_cache_close(&p->workers[i]->fds);
        free(p->workers[i]);
    }
    for (size_t i = 0; p->spans && i < p->run->n_records; i++)
        uz_spans_free(&p->spans[i]);
    uz_lp_names_free(p->run, p->lp_names);
    uz_sections_free(&p->sections);
    free(p->workers);
    free(p->spans);
    free(p->crcs);
    free(p->was_read);
}

int uz_verify_data(struct uz_verify_run *run, struct uz_error *err)
{
    struct pass p = {.run = run};
    int rc = run_pass(&p, err);
    free_pass(&p);
    return rc;
}
