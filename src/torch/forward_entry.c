/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of an archive that is read forwards: local headers, and the descriptors that follow data
 * whose size was not known when the header was written (all that PyTorch writes). Format: PKWARE's
 * APPNOTE, 4.3.7 and 4.3.9.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <libdeflate.h>

#include "base/hash.h"
#include "torch/forward_impl.h"

enum {
    HEADER_NBYTES = 30,
    FIELD_NBYTES = 4,
    MAX_EXTRA_FIELDS = 64,
    ZIP64_FIELD = 1,
    IS_ENCRYPTED = 1,
    HAS_DESCRIPTOR = 8,
    DESCRIPTOR_NBYTES = 16,   /* with its signature; */
    DESCRIPTOR64_NBYTES = 24, /* with sizes of 8 bytes */
    MAX_SMALL_NBYTES = 4096,
};

static const uint64_t all_ones = 0xffffffff; /* a size that stands in the zip64 field */

int uz_forward_fail(const struct uz_forward *fw, int status, uint64_t offset, struct uz_error *err,
                    const char *fmt, ...)
{
    char why[256], shown[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    if (fw->current.name_nbytes == 0)
        return uz_fail_at(err, status, uz_content_path(fw->content), offset, "%s", why);
    uz_printable(shown, sizeof shown, fw->current.name, fw->current.name_nbytes);
    return uz_fail_at(err, status, uz_content_path(fw->content), offset, "zip entry '%s': %s",
                      shown, why);
}

/* ---- Headers ---- */

static int take_zip64(const struct uz_forward *fw, uint64_t pos, size_t nbytes,
                      const struct uz_zip64 *wanted, struct uz_error *err)
{
    uint8_t number[8];
    for (size_t i = 0; i < wanted->n; i++, pos += sizeof number, nbytes -= sizeof number) {
        if (nbytes < sizeof number)
            return uz_forward_fail(fw, UZ_CORRUPT, pos, err, "its zip64 field is too short");
        UZ_TRY(uz_content_read(fw->content, number, sizeof number, pos, err));
        *wanted->numbers[i] = uz_le64(number);
    }
    return UZ_OK;
}

int uz_forward_extra(const struct uz_forward *fw, uint64_t pos, size_t nbytes,
                     const struct uz_zip64 *wanted, struct uz_error *err)
{
    bool met = wanted->n == 0;
    for (int n_fields = 0; nbytes > 0; n_fields++) {
        uint8_t field[FIELD_NBYTES];
        size_t n = 0;
        if (nbytes >= sizeof field && n_fields < MAX_EXTRA_FIELDS) {
            UZ_TRY(uz_content_read(fw->content, field, sizeof field, pos, err));
            n = sizeof field + uz_le(field + 2, 2);
        }
        if (n == 0 || n > nbytes)
            return uz_forward_fail(fw, UZ_CORRUPT, pos, err, "its extra fields are broken");
        if (!met && uz_le(field, 2) == ZIP64_FIELD) {
            UZ_TRY(take_zip64(fw, pos + sizeof field, n - sizeof field, wanted, err));
            met = true;
        }
        pos += n;
        nbytes -= n;
    }
    return met ? UZ_OK : uz_forward_fail(fw, UZ_CORRUPT, pos, err, "it has no zip64 field");
}

static int read_signature(struct uz_forward *fw, struct uz_error *err)
{
    if (fw->has_signature)
        return UZ_OK;
    UZ_TRY(uz_content_read(fw->content, fw->signature, sizeof fw->signature, fw->pos, err));
    fw->has_signature = true;
    return UZ_OK;
}

/* Takes what the header's fixed part says; the name and the extra fields follow it. */
static int take_header(struct uz_forward *fw, const uint8_t *h, struct uz_error *err)
{
    struct uz_local_header *current = &fw->current;
    unsigned flags = uz_le(h + 6, 2);
    size_t extra_nbytes = uz_le(h + 28, 2);
    uint64_t packed = uz_le(h + 18, 4);
    *current = (struct uz_local_header){
        .header = fw->pos,
        .crc = uz_le(h + 14, 4),
        .nbytes = uz_le(h + 22, 4),
        .has_descriptor = flags & HAS_DESCRIPTOR,
        .is_stored = uz_le(h + 8, 2) == 0,
    };
    size_t name_nbytes = uz_le(h + 26, 2);
    uint64_t pos = fw->pos + HEADER_NBYTES;
    if (name_nbytes == 0 || name_nbytes > sizeof current->name)
        return uz_forward_fail(fw, UZ_UNSUPPORTED, fw->pos, err,
                               "an entry whose name has %zu bytes; decompress the file first: "
                               "zstd -d",
                               name_nbytes);
    UZ_TRY(uz_content_read(fw->content, current->name, name_nbytes, pos, err));
    current->name_nbytes = name_nbytes;
    struct uz_zip64 wanted = {.n = 0};
    if (current->nbytes == all_ones)
        wanted.numbers[wanted.n++] = &current->nbytes;
    if (packed == all_ones)
        wanted.numbers[wanted.n++] = &packed;
    pos += name_nbytes;
    UZ_TRY(uz_forward_extra(fw, pos, extra_nbytes, &wanted, err));
    current->data = pos + extra_nbytes;
    if (flags & IS_ENCRYPTED)
        return uz_forward_fail(fw, UZ_UNSUPPORTED, fw->pos, err, "is encrypted");
    if (current->is_stored && packed != current->nbytes)
        return uz_forward_fail(fw, UZ_CORRUPT, fw->pos, err,
                               "is stored, but has two different sizes");
    return UZ_OK;
}

int uz_forward_header(struct uz_forward *fw, bool *found, struct uz_error *err)
{
    uint8_t h[HEADER_NBYTES];
    fw->current.name_nbytes = 0;
    UZ_TRY(read_signature(fw, err));
    *found = memcmp(fw->signature, "PK\3\4", 4) == 0;
    if (!*found)
        return UZ_OK;
    memcpy(h, fw->signature, sizeof fw->signature);
    UZ_TRY(uz_content_read(fw->content, h + sizeof fw->signature, sizeof h - sizeof fw->signature,
                           fw->pos + sizeof fw->signature, err));
    fw->has_signature = false;
    return take_header(fw, h, err);
}

/* ---- Passing them ---- */

static int note_entry(struct uz_forward *fw, uint64_t nbytes, uint32_t crc, struct uz_error *err)
{
    struct uz_forward_entry *entry;
    if (fw->n_entries >= fw->max_entries)
        return uz_forward_fail(fw, UZ_LIMIT, fw->current.header, err,
                               "more entries than the cap, %llu (max_zip_entries)",
                               (unsigned long long)fw->max_entries);
    UZ_TRY(UZ_APPEND(fw->entries, fw->n_entries, fw->cap_entries, &entry, err));
    *entry = (struct uz_forward_entry){
        .header = fw->current.header,
        .nbytes = nbytes,
        .name = uz_hash_bytes(0, fw->current.name, fw->current.name_nbytes),
        .crc = crc,
    };
    return UZ_OK;
}

static bool is_descriptor(const uint8_t *d, uint64_t nbytes)
{
    return memcmp(d, "PK\7\10", 4) == 0 && uz_le(d + 8, 4) == nbytes && uz_le(d + 12, 4) == nbytes;
}

static bool is_descriptor64(const uint8_t *d, uint64_t nbytes)
{
    return memcmp(d, "PK\7\10", 4) == 0 && uz_le64(d + 8) == nbytes && uz_le64(d + 16) == nbytes;
}

/*
 * The descriptor at `pos`. Both forms begin alike; of data without bytes all sizes are 0, and what
 * follows tells: a signature, or four bytes more of zero.
 */
static int read_descriptor(struct uz_forward *fw, uint64_t pos, uint64_t nbytes, uint32_t *crc,
                           struct uz_error *err)
{
    uint8_t d[DESCRIPTOR64_NBYTES];
    bool is_short;
    UZ_TRY(uz_content_read(fw->content, d, DESCRIPTOR_NBYTES, pos, err));
    is_short = is_descriptor(d, nbytes);
    fw->pos = pos + DESCRIPTOR_NBYTES;
    if (is_short && nbytes == 0) {
        UZ_TRY(read_signature(fw, err));
        is_short = memcmp(fw->signature, "PK", 2) == 0;
        memcpy(d + DESCRIPTOR_NBYTES, fw->signature, sizeof fw->signature);
        fw->has_signature = is_short;
    } else if (!is_short) {
        UZ_TRY(uz_content_read(fw->content, d + DESCRIPTOR_NBYTES, 4, fw->pos, err));
    }
    if (!is_short) {
        UZ_TRY(uz_content_read(fw->content, d + DESCRIPTOR_NBYTES + 4, 4, fw->pos + 4, err));
        fw->pos = pos + DESCRIPTOR64_NBYTES;
        if (!is_descriptor64(d, nbytes))
            return uz_forward_fail(fw, UZ_CORRUPT, pos, err,
                                   "it is not of %llu bytes, as the value says",
                                   (unsigned long long)nbytes);
    }
    *crc = uz_le(d + 4, 4);
    return UZ_OK;
}

int uz_forward_pass(struct uz_forward *fw, uint64_t nbytes, uint32_t *crc, struct uz_error *err)
{
    const struct uz_local_header *current = &fw->current;
    uint64_t end;
    if (!uz_add_u64(current->data, nbytes, &end) || end > INT64_MAX)
        return uz_forward_fail(fw, UZ_CORRUPT, current->data, err, "its size is no size");
    *crc = current->crc;
    fw->pos = end;
    if (current->has_descriptor)
        UZ_TRY(read_descriptor(fw, end, nbytes, crc, err));
    else if (nbytes != current->nbytes)
        return uz_forward_fail(fw, UZ_CORRUPT, current->header, err,
                               "it is of %llu bytes, and not of %llu, as the value says",
                               (unsigned long long)current->nbytes, (unsigned long long)nbytes);
    return note_entry(fw, nbytes, *crc, err);
}

/* Bytes of a descriptor that ends the n bytes and fits what is before it; 0: none does. */
static size_t descriptor_at_end(const uint8_t *bytes, size_t n)
{
    static const size_t wide = DESCRIPTOR64_NBYTES, narrow = DESCRIPTOR_NBYTES;
    if (n >= wide && is_descriptor64(bytes + n - wide, n - wide))
        return wide;
    return n >= narrow && is_descriptor(bytes + n - narrow, n - narrow) ? narrow : 0;
}

/* Goes through data of unknown size as far as the first descriptor that fits. */
static int find_descriptor(struct uz_forward *fw, uint8_t *bytes, size_t room, size_t *nbytes,
                           uint32_t *crc, struct uz_error *err)
{
    for (size_t n = 0; n < room;) {
        UZ_TRY(uz_content_read(fw->content, bytes + n, 1, fw->current.data + n, err));
        size_t tail = descriptor_at_end(bytes, ++n);
        if (tail == 0)
            continue;
        *nbytes = n - tail;
        *crc = uz_le(bytes + *nbytes + 4, 4);
        fw->pos = fw->current.data + n;
        if (*crc == 0 || *crc == libdeflate_crc32(0, bytes, *nbytes))
            return UZ_OK;
        return uz_forward_fail(fw, UZ_CORRUPT, fw->current.data, err,
                               "its bytes do not match their CRC-32: the file was damaged");
    }
    return uz_forward_fail(fw, UZ_UNSUPPORTED, fw->current.header, err,
                           "where it ends cannot be told in a file that is compressed whole; "
                           "decompress the file first: zstd -d");
}

int uz_forward_pass_small(struct uz_forward *fw, uint8_t *data, size_t room, size_t *nbytes,
                          struct uz_error *err)
{
    const struct uz_local_header *current = &fw->current;
    uint8_t bytes[MAX_SMALL_NBYTES + DESCRIPTOR64_NBYTES];
    uint32_t crc = current->crc;
    uint64_t all = current->nbytes;
    *nbytes = 0;
    if (!current->has_descriptor) {
        *nbytes = all < room ? (size_t)all : room;
        UZ_TRY(uz_content_read(fw->content, data, *nbytes, current->data, err));
        return uz_forward_pass(fw, all, &crc, err);
    }
    size_t n = 0;
    UZ_TRY(find_descriptor(fw, bytes, sizeof bytes, &n, &crc, err));
    *nbytes = n < room ? n : room;
    memcpy(data, bytes, *nbytes);
    return note_entry(fw, n, crc, err);
}
