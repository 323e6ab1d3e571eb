/* SPDX-License-Identifier: Apache-2.0 */
/* Collects the checksums of parts and combines them. */
#include "engine/checksums.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/mem.h"

void uz_checksums_free(struct uz_checksums *checksums)
{
    free(checksums->items);
    *checksums = (struct uz_checksums){0};
}

int uz_checksums_add(struct uz_checksums *checksums, size_t target, uint64_t first,
                     const void *bytes, size_t nbytes, struct uz_error *err)
{
    struct uz_checksum *last = checksums->n ? &checksums->items[checksums->n - 1] : NULL;
    if (!last || last->target != target || last->first + last->nbytes != first) {
        UZ_TRY(UZ_APPEND(checksums->items, checksums->n, checksums->cap, &last, err));
        *last = (struct uz_checksum){.target = target, .first = first};
    }
    last->crc = libdeflate_crc32(last->crc, bytes, nbytes);
    last->nbytes += nbytes;
    return UZ_OK;
}

int uz_checksums_join(struct uz_checksums *checksums, struct uz_checksums *from,
                      struct uz_error *err)
{
    if (from->n > 0) {
        UZ_TRY(uz_reserve(&checksums->items, &checksums->cap, (uint64_t)checksums->n + from->n,
                          sizeof *checksums->items, err));
        memcpy(checksums->items + checksums->n, from->items, from->n * sizeof *from->items);
        checksums->n += from->n;
    }
    uz_checksums_free(from);
    return UZ_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct uz_checksum *x = a, *y = b;
    if (x->target != y->target)
        return x->target < y->target ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* The first of the sorted checksums that is of no earlier target. */
static size_t first_of_target(const struct uz_checksums *checksums, size_t target)
{
    size_t low = 0, high = checksums->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (checksums->items[mid].target < target)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int combine(const struct uz_checksums *checksums, const struct uz_out *out, size_t target,
                   uint32_t *crc, struct uz_error *err)
{
    const struct uz_target *t = &out->targets[target];
    uint64_t done = 0, nbytes = t->n_elems * uz_dtype_size(t->dtype);
    *crc = 0;
    for (size_t i = first_of_target(checksums, target);
         i < checksums->n && checksums->items[i].target == target; i++) {
        const struct uz_checksum *part = &checksums->items[i];
        if (part->first != done)
            break;
        *crc = (uint32_t)crc32_combine(*crc, part->crc, (z_off_t)part->nbytes);
        done += part->nbytes;
        if (done == nbytes && (i + 1 == checksums->n || checksums->items[i + 1].target != target))
            return UZ_OK;
    }
    return uz_fail(err, UZ_MISMATCH,
                   "what was written of a tensor's %llu bytes has a gap or an overlap at byte %llu",
                   (unsigned long long)nbytes, (unsigned long long)done);
}

static int fill_file(const struct uz_checksums *checksums, const struct uz_out *out,
                     const struct uz_out_file *file, struct uz_error *err)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < file->n_crcs; i++) {
        const struct uz_crc_slot *slot = &file->crcs[i];
        if (i == 0 || slot->target != file->crcs[i - 1].target) {
            int rc = combine(checksums, out, slot->target, &crc, err);
            if (rc < 0)
                return uz_error_in_file(err, rc, file->name);
        }
        for (unsigned b = 0; b < 4; b++)
            slot->at[b] = (char)(unsigned char)(crc >> 8 * b);
    }
    return UZ_OK;
}

int uz_checksums_fill(struct uz_checksums *checksums, const struct uz_out *out,
                      struct uz_error *err)
{
    if (checksums->n > 1)
        qsort(checksums->items, checksums->n, sizeof *checksums->items, by_place);
    for (size_t i = 0; i < out->n_files; i++) {
        UZ_TRY(fill_file(checksums, out, &out->files[i], err));
        uz_seal_file(&out->files[i]);
    }
    return UZ_OK;
}
