/* SPDX-License-Identifier: Apache-2.0 */
/* Random outputs: targets cut and doubled, gaps with blobs, checksum slots; and their true bytes.
 */
#ifndef UZ_TESTS_RANDOM_OUT_H
#define UZ_TESTS_RANDOM_OUT_H

#include "cast_oracle.h"
#include "out/items.h"
#include "out/target.h"
#include "random_model.h"

enum { RO_MAX_FILES = 3, RO_MAX_BLOBS = 200, RO_BLOB_NBYTES = 1 << 17 };

static inline void ro_blob(struct uz_out_file *file, uint64_t nbytes, uint64_t *used)
{
    struct uz_blob *blob = &file->blobs[file->n_blobs++];
    rm_must(file->n_blobs <= RO_MAX_BLOBS && *used + nbytes <= RO_BLOB_NBYTES, "RO_MAX_BLOBS");
    *blob =
        (struct uz_blob){.offset = file->nbytes, .nbytes = nbytes, .data = file->blob_data + *used};
    *used += nbytes;
    file->nbytes += nbytes;
}

/* A slot in the first bytes of the last blob, or in the head. */
static inline void ro_slot(struct uz_out_file *file, size_t target, bool in_blob, char *in_head)
{
    struct uz_crc_slot *slot = &file->crcs[file->n_crcs++];
    rm_must(file->n_crcs <= RO_MAX_BLOBS, "RO_MAX_BLOBS");
    *slot =
        (struct uz_crc_slot){target, in_blob ? file->blobs[file->n_blobs - 1].data + 1 : in_head};
}

/* Puts a target behind what the file has, and a gap before it perhaps. */
static inline void ro_target(struct uz_out *out, struct uz_out_file *file, struct uz_target target,
                             bool slots, uint64_t *used)
{
    size_t size = uz_dtype_size(target.dtype), n_blobs = file->n_blobs, index = out->n_targets;
    uint64_t gap = rng_one_in(2) ? 0 : rng_one_in(5) ? rng_below(9000) : rng_below(60);
    gap += (size - (file->nbytes + gap - file->head_nbytes) % size) % size;
    if (gap > 20 && rng_one_in(3)) {
        ro_blob(file, 7, used);
        gap -= 7;
    }
    if (gap > 0)
        ro_blob(file, gap, used);
    bool in_blob = file->n_blobs > n_blobs && file->blobs[file->n_blobs - 1].nbytes > 5;
    if (slots && rng_below(5) > 0) {
        ro_slot(file, index, false, file->head + 5 * index);
        if (in_blob)
            ro_slot(file, index, true, NULL);
    }
    target.offset = file->nbytes;
    file->nbytes += target.n_elems * size;
    out->data_nbytes += target.n_elems * size;
    out->targets[out->n_targets++] = target;
    file->n_targets++;
}

/* A target for an item, or two halves of it, in any order; or all of it twice. */
static inline void ro_item(struct uz_out *out, struct uz_out_file *file, const struct uz_item *item,
                           uint64_t numel, bool slots, uint64_t *used)
{
    struct uz_target whole = {.tensor = item->tensor, .dtype = item->dtype, .n_elems = numel};
    uint64_t cut = numel > 1 && rng_one_in(3) ? rng_range(1, numel - 1) : 0;
    struct uz_target first = whole, second = whole;
    first.n_elems = cut;
    second.lo = cut;
    second.n_elems -= cut;
    bool backwards = rng_one_in(2);
    if (numel == 0)
        return;
    if (cut > 0 && !backwards)
        ro_target(out, file, first, slots, used);
    ro_target(out, file, second, slots, used);
    if (cut > 0 && backwards)
        ro_target(out, file, first, slots, used);
    if (rng_one_in(4))
        ro_target(out, file, whole, slots, used);
}

/* To be freed by uz_out_free. */
static inline void ro_make(struct uz_out *out, const struct uz_items *items,
                           const struct uz_model *model)
{
    const size_t most = 3 * (items->n + 1); /* targets; the first item may be in two files */
    memset(out, 0, sizeof *out);
    out->n_files = out->cap_files = rng_range(1, RO_MAX_FILES);
    out->files = calloc(out->n_files, sizeof *out->files);
    out->targets = rm_alloc(most * sizeof *out->targets);
    rm_must(out->files != NULL, "calloc");
    for (size_t i = 0; i < out->n_files; i++) {
        struct uz_out_file *file = &out->files[i];
        bool slots = rng_below(3) > 0;
        uint64_t used = 0;
        char name[32];
        (void)snprintf(name, sizeof name, "out-%u", (unsigned)i);
        file->name = strdup(name);
        file->head_nbytes = 5 * most + rng_below(100);
        file->head = (char *)rm_junk(file->head_nbytes);
        file->blobs = rm_alloc(RO_MAX_BLOBS * sizeof *file->blobs);
        file->blob_data = (char *)rm_junk(RO_BLOB_NBYTES);
        file->crcs = rm_alloc(RO_MAX_BLOBS * sizeof *file->crcs);
        file->first_target = out->n_targets;
        file->nbytes = file->head_nbytes;
        for (size_t k = 0; k < items->n; k++)
            if (k % out->n_files == i || (k == 0 && out->n_files == 2))
                ro_item(out, file, &items->items[k], model->tensors[items->items[k].tensor].numel,
                        slots, &used);
        if (rng_one_in(2))
            ro_blob(file, rng_range(1, 300), &used);
    }
}

/* CRC-32 of zip files, bit by bit. */
static inline uint32_t ro_crc(const unsigned char *bytes, size_t nbytes)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < nbytes; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static inline size_t ro_format(enum uz_dtype dtype)
{
    return dtype == UZ_DTYPE_F32 ? FORMAT_F32 : dtype == UZ_DTYPE_BF16 ? FORMAT_BF16 : FORMAT_F16;
}

static inline void ro_elements(const struct random_model *m, const struct uz_target *target,
                               unsigned char *to, uint64_t *n_overflows)
{
    enum uz_dtype from = m->model.tensors[target->tensor].dtype;
    size_t size = uz_dtype_size(from), to_size = uz_dtype_size(target->dtype);
    const unsigned char *truth = m->truth[target->tensor] + target->lo * size;
    for (uint64_t e = 0; e < target->n_elems; e++) {
        uint32_t bits = 0, code;
        bool overflow = false;
        if (from == target->dtype) {
            memcpy(to + e * size, truth + e * size, size);
            continue;
        }
        memcpy(&bits, truth + e * size, size);
        code = oracle(ro_format(from), ro_format(target->dtype), bits, &overflow);
        memcpy(to + e * to_size, &code, to_size);
        *n_overflows += overflow;
    }
}

/* What a file must hold, to be freed. */
static inline unsigned char *ro_expected(const struct random_model *m, const struct uz_out *out,
                                         size_t i, uint64_t *n_overflows)
{
    const struct uz_out_file *file = &out->files[i];
    unsigned char *bytes = rm_alloc(file->nbytes);
    memcpy(bytes, file->head, file->head_nbytes);
    for (size_t k = 0; k < file->n_blobs; k++)
        memcpy(bytes + file->blobs[k].offset, file->blobs[k].data, file->blobs[k].nbytes);
    for (size_t k = file->first_target; k < file->first_target + file->n_targets; k++)
        ro_elements(m, &out->targets[k], bytes + out->targets[k].offset, n_overflows);
    for (size_t k = 0; k < file->n_crcs; k++) {
        const struct uz_crc_slot *slot = &file->crcs[k];
        const struct uz_target *target = &out->targets[slot->target];
        uint32_t crc =
            ro_crc(bytes + target->offset, target->n_elems * uz_dtype_size(target->dtype));
        uint64_t at = UINT64_MAX;
        if (slot->at >= file->head && slot->at < file->head + file->head_nbytes)
            at = (uint64_t)(slot->at - file->head);
        for (size_t b = 0; b < file->n_blobs; b++)
            if (slot->at >= file->blobs[b].data &&
                slot->at < file->blobs[b].data + file->blobs[b].nbytes)
                at = file->blobs[b].offset + (uint64_t)(slot->at - file->blobs[b].data);
        for (unsigned b = 0; b < 4; b++)
            bytes[at + b] = (unsigned char)(crc >> 8 * b);
    }
    return bytes;
}

#endif
