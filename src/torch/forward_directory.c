/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The central directory of an archive that was read forwards: it must list the entries that were
 * passed, in their order, and end the file. Format: PKWARE's APPNOTE, 4.3.12 to 4.3.16.
 */
#include <string.h>

#include "base/hash.h"
#include "torch/forward_impl.h"

enum {
    RECORD_NBYTES = 46,
    END64_NBYTES = 56,
    LOCATOR_NBYTES = 20,
    END_NBYTES = 22,
    SIGNATURE_NBYTES = 4,
};

static const uint32_t all_ones = 0xffffffff;

/* Where the directory is read. */
struct reading {
    struct uz_forward *fw;
    uint64_t pos; /* of the record whose signature was read */
};

static int fail(const struct reading *r, struct uz_error *err, const char *what)
{
    return uz_forward_fail(r->fw, UZ_CORRUPT, r->pos, err, "broken central directory: %s", what);
}

static int read_signature(struct reading *r, struct uz_error *err)
{
    r->fw->has_signature = true;
    return uz_content_read(r->fw->content, r->fw->signature, SIGNATURE_NBYTES, r->pos, err);
}

static bool is_signature(const struct reading *r, const char *signature)
{
    return memcmp(r->fw->signature, signature, SIGNATURE_NBYTES) == 0;
}

/* Reads the rest of a record. */
static int read_record(const struct reading *r, uint8_t *record, size_t nbytes,
                       struct uz_error *err)
{
    memcpy(record, r->fw->signature, SIGNATURE_NBYTES);
    return uz_content_read(r->fw->content, record + SIGNATURE_NBYTES, nbytes - SIGNATURE_NBYTES,
                           r->pos + SIGNATURE_NBYTES, err);
}

/* The name's hash; names are as short as those of local headers. */
static int hash_name(const struct reading *r, size_t nbytes, uint64_t *hash, struct uz_error *err)
{
    char name[UZ_FORWARD_MAX_NAME];
    if (nbytes > sizeof name)
        return fail(r, err, "a name that no entry has");
    UZ_TRY(uz_content_read(r->fw->content, name, nbytes, r->pos + RECORD_NBYTES, err));
    *hash = uz_hash_bytes(0, name, nbytes);
    return UZ_OK;
}

/* Holds the record against the entry, and moves on behind it. */
static int check_record(struct reading *r, const struct uz_forward_entry *entry,
                        struct uz_error *err)
{
    uint8_t h[RECORD_NBYTES];
    UZ_TRY(read_record(r, h, sizeof h, err));
    uint64_t hash = 0, packed = uz_le(h + 20, 4), nbytes = uz_le(h + 24, 4),
             header = uz_le(h + 42, 4);
    size_t name_nbytes = uz_le(h + 28, 2), extra_nbytes = uz_le(h + 30, 2);
    struct uz_zip64 wanted = {.n = 0};
    uint64_t *numbers[] = {&nbytes, &packed, &header};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (*numbers[i] == all_ones)
            wanted.numbers[wanted.n++] = numbers[i];
    UZ_TRY(hash_name(r, name_nbytes, &hash, err));
    uint64_t pos = r->pos + RECORD_NBYTES + name_nbytes;
    UZ_TRY(uz_forward_extra(r->fw, pos, extra_nbytes, &wanted, err));
    if (hash != entry->name || header != entry->header)
        return fail(r, err, "it does not list the entries in the order in which they lie");
    if (nbytes != entry->nbytes || packed != entry->nbytes || uz_le(h + 16, 4) != entry->crc)
        return fail(r, err, "an entry has another size or CRC-32 in it than where it lies");
    r->pos = pos + extra_nbytes + uz_le(h + 32, 2);
    return UZ_OK;
}

/* The zip64 end record and its locator, where they are; other ends may leave numbers to them. */
static int check_end64(struct reading *r, uint64_t first, bool *is_there, struct uz_error *err)
{
    uint8_t end[END64_NBYTES], locator[LOCATOR_NBYTES];
    uint64_t at = r->pos;
    *is_there = is_signature(r, "PK\6\6");
    if (!*is_there)
        return UZ_OK;
    UZ_TRY(read_record(r, end, sizeof end, err));
    if (uz_le64(end + 32) != r->fw->n_entries || uz_le64(end + 48) != first ||
        uz_le64(end + 4) + 12 != END64_NBYTES)
        return fail(r, err, "its zip64 end record does not fit");
    r->pos += END64_NBYTES;
    UZ_TRY(read_signature(r, err));
    if (!is_signature(r, "PK\6\7"))
        return fail(r, err, "it has no zip64 locator");
    UZ_TRY(read_record(r, locator, sizeof locator, err));
    if (uz_le64(locator + 8) != at)
        return fail(r, err, "its zip64 locator does not fit");
    r->pos += LOCATOR_NBYTES;
    return read_signature(r, err);
}

/* True if a number is as wanted, or stands in the zip64 record. */
static bool fits(uint64_t number, uint64_t want, unsigned n_bytes, bool has_end64)
{
    return number == want || (has_end64 && number == all_ones >> (32 - 8 * n_bytes));
}

static int check_end(struct reading *r, uint64_t first, struct uz_error *err)
{
    uint8_t end[END_NBYTES], more;
    bool has_end64;
    size_t n;
    UZ_TRY(check_end64(r, first, &has_end64, err));
    if (!is_signature(r, "PK\5\6"))
        return fail(r, err, "it lists fewer entries than there are, or more");
    UZ_TRY(read_record(r, end, sizeof end, err));
    if (!fits(uz_le(end + 10, 2), r->fw->n_entries, 2, has_end64) ||
        !fits(uz_le(end + 16, 4), first, 4, has_end64))
        return fail(r, err, "its end record does not fit");
    uint64_t past = r->pos + END_NBYTES + uz_le(end + 20, 2);
    if (past > r->pos + END_NBYTES) /* all of a comment must be there */
        UZ_TRY(uz_content_read(r->fw->content, &more, 1, past - 1, err));
    UZ_TRY(uz_content_read_some(r->fw->content, &more, 1, past, &n, err));
    return n == 0 ? UZ_OK : fail(r, err, "something follows it");
}

int uz_forward_directory(struct uz_forward *fw, struct uz_error *err)
{
    struct reading r = {fw, fw->pos};
    uint64_t first = fw->pos;
    for (size_t i = 0; i < fw->n_entries; i++) {
        if (!is_signature(&r, "PK\1\2"))
            return fail(&r, err,
                        i ? "it lists fewer entries than there are"
                          : "neither it nor an entry follows the last entry");
        UZ_TRY(check_record(&r, &fw->entries[i], err));
        UZ_TRY(read_signature(&r, err));
    }
    return check_end(&r, first, err);
}
