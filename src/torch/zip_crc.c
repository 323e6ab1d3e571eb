/* SPDX-License-Identifier: Apache-2.0 */
/* Walks through the central directory, which libzip does not give the places of. */
#include "torch/zip_crc.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum {
    END_NBYTES = 22,
    END64_NBYTES = 56,
    LOCATOR_NBYTES = 20,
    LOCAL_NBYTES = 30,
    CENTRAL_NBYTES = 46,
    MAX_COMMENT = 0xffff,
    DESCRIPTOR_FLAG = 8,
    BLOCK_NBYTES = 1 << 20,
    MAX_DIRECTORY = 1 << 30
};

#define SIGNATURE_END        0x06054b50u
#define SIGNATURE_END64      0x06064b50u
#define SIGNATURE_LOCATOR    0x07064b50u
#define SIGNATURE_CENTRAL    0x02014b50u
#define SIGNATURE_LOCAL      0x04034b50u
#define SIGNATURE_DESCRIPTOR 0x08074b50u

struct archive {
    const char *path;
    int fd;
    uint64_t nbytes;
    uint64_t directory_offset, directory_nbytes;
    unsigned char *directory;
};

/* An entry as its central header tells. */
struct entry {
    uint64_t header; /* where the central header lies in the file */
    uint64_t local, nbytes, packed_nbytes;
    uint32_t crc;
    unsigned flags, method;
    uint64_t data;
};

static int corrupt(const struct archive *archive, uint64_t offset, const char *what,
                   struct uz_error *err)
{
    return uz_fail_at(err, UZ_CORRUPT, archive->path, offset, "%s", what);
}

static uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static unsigned le16(const unsigned char *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

static uint64_t le64(const unsigned char *p)
{
    return le32(p) | (uint64_t)le32(p + 4) << 32;
}

/* ---- Finding the directory ---- */

/* The zip64 end record, if a locator stands before the end record. */
static int read_end64(struct archive *archive, uint64_t end, struct uz_error *err)
{
    unsigned char locator[LOCATOR_NBYTES], record[END64_NBYTES];
    if (end < LOCATOR_NBYTES)
        return UZ_OK;
    UZ_TRY(uz_pread_all(archive->fd, locator, sizeof locator, end - LOCATOR_NBYTES, archive->path,
                        err));
    if (le32(locator) != SIGNATURE_LOCATOR)
        return UZ_OK;
    UZ_TRY(uz_pread_all(archive->fd, record, sizeof record, le64(locator + 8), archive->path, err));
    if (le32(record) != SIGNATURE_END64)
        return corrupt(archive, le64(locator + 8), "no zip64 end record stands here", err);
    archive->directory_nbytes = le64(record + 40);
    archive->directory_offset = le64(record + 48);
    return UZ_OK;
}

static int find_directory(struct archive *archive, struct uz_error *err)
{
    uint64_t n =
        archive->nbytes < END_NBYTES + MAX_COMMENT ? archive->nbytes : END_NBYTES + MAX_COMMENT;
    unsigned char *tail;
    UZ_TRY(uz_alloc(&tail, n, 1, err));
    int rc = uz_pread_all(archive->fd, tail, (size_t)n, archive->nbytes - n, archive->path, err);
    uint64_t at = n < END_NBYTES ? 0 : n - END_NBYTES + 1;
    while (rc == UZ_OK && at > 0 && le32(tail + at - 1) != SIGNATURE_END)
        at--;
    if (rc == UZ_OK && at == 0)
        rc = corrupt(archive, UZ_NO_OFFSET, "has no end record of a zip archive", err);
    if (rc == UZ_OK) {
        archive->directory_nbytes = le32(tail + at - 1 + 12);
        archive->directory_offset = le32(tail + at - 1 + 16);
        rc = read_end64(archive, archive->nbytes - n + at - 1, err);
    }
    free(tail);
    return rc;
}

static int read_directory(struct archive *archive, struct uz_error *err)
{
    UZ_TRY(find_directory(archive, err));
    if (archive->directory_nbytes > MAX_DIRECTORY)
        return uz_fail_at(err, UZ_LIMIT, archive->path, UZ_NO_OFFSET,
                          "its zip directory has %llu bytes",
                          (unsigned long long)archive->directory_nbytes);
    if (archive->directory_offset > archive->nbytes ||
        archive->directory_nbytes > archive->nbytes - archive->directory_offset)
        return corrupt(archive, UZ_NO_OFFSET, "its zip directory reaches past its end", err);
    UZ_TRY(uz_alloc(&archive->directory, archive->directory_nbytes, 1, err));
    return uz_pread_all(archive->fd, archive->directory, (size_t)archive->directory_nbytes,
                        archive->directory_offset, archive->path, err);
}

/* ---- Entries ---- */

/* Takes the numbers that did not fit 32 bits from the zip64 field, in the order of APPNOTE 4.5.3.
 */
static int read_extra(const struct archive *archive, struct entry *entry,
                      const unsigned char *extra, size_t n, struct uz_error *err)
{
    for (size_t at = 0; at + 4 <= n;) {
        unsigned id = le16(extra + at), size = le16(extra + at + 2);
        if (size > n - at - 4)
            break;
        if (id == 1) {
            uint64_t *numbers[] = {&entry->nbytes, &entry->packed_nbytes, &entry->local};
            size_t used = 0;
            for (unsigned i = 0; i < 3; i++) {
                if (*numbers[i] != UINT32_MAX)
                    continue;
                if (size - used < 8)
                    return corrupt(archive, entry->header, "a zip64 field is too short", err);
                *numbers[i] = le64(extra + at + 4 + used);
                used += 8;
            }
        }
        at += 4 + size;
    }
    return UZ_OK;
}

/* The entry whose header is at byte *at of the directory; *at moves behind it. */
static int next_entry(const struct archive *archive, uint64_t *at, struct entry *entry,
                      struct uz_error *err)
{
    const unsigned char *p = archive->directory + *at;
    uint64_t left = archive->directory_nbytes - *at;
    *entry = (struct entry){.header = archive->directory_offset + *at};
    if (left < CENTRAL_NBYTES || le32(p) != SIGNATURE_CENTRAL)
        return corrupt(archive, entry->header, "no entry of the zip directory stands here", err);
    size_t n_name = le16(p + 28), n_extra = le16(p + 30), n_comment = le16(p + 32);
    if (left - CENTRAL_NBYTES < n_name + n_extra + n_comment)
        return corrupt(archive, entry->header, "an entry of the zip directory is cut", err);
    entry->flags = le16(p + 8);
    entry->method = le16(p + 10);
    entry->crc = le32(p + 16);
    entry->packed_nbytes = le32(p + 20);
    entry->nbytes = le32(p + 24);
    entry->local = le32(p + 42);
    *at += CENTRAL_NBYTES + n_name + n_extra + n_comment;
    return read_extra(archive, entry, p + CENTRAL_NBYTES + n_name, n_extra, err);
}

static int find_data(const struct archive *archive, struct entry *entry, struct uz_error *err)
{
    unsigned char p[LOCAL_NBYTES];
    UZ_TRY(uz_pread_all(archive->fd, p, sizeof p, entry->local, archive->path, err));
    if (le32(p) != SIGNATURE_LOCAL)
        return corrupt(archive, entry->local, "no local zip header stands here", err);
    entry->data = entry->local + LOCAL_NBYTES + le16(p + 26) + le16(p + 28);
    if (entry->data > archive->nbytes || entry->nbytes > archive->nbytes - entry->data)
        return corrupt(archive, entry->local, "an entry's data reach past the file's end", err);
    return UZ_OK;
}

/* ---- Checksums ---- */

static int checksum(const struct archive *archive, const struct entry *entry, uint32_t *crc,
                    struct uz_error *err)
{
    unsigned char *block;
    int rc = UZ_OK;
    UZ_TRY(uz_alloc(&block, BLOCK_NBYTES, 1, err));
    *crc = 0;
    for (uint64_t done = 0; done < entry->nbytes && rc == UZ_OK;) {
        uint64_t left = entry->nbytes - done;
        size_t n = left < BLOCK_NBYTES ? (size_t)left : BLOCK_NBYTES;
        rc = uz_pread_all(archive->fd, block, n, entry->data + done, archive->path, err);
        *crc = libdeflate_crc32(*crc, block, n);
        done += n;
    }
    free(block);
    return rc;
}

/* Where beside the directory the checksum stands: in the local header, or behind the data. */
static int find_copy(const struct archive *archive, const struct entry *entry, uint64_t *offset,
                     struct uz_error *err)
{
    unsigned char p[4];
    *offset = entry->local + 14;
    if (!(entry->flags & DESCRIPTOR_FLAG))
        return UZ_OK;
    *offset = entry->data + entry->nbytes;
    UZ_TRY(uz_pread_all(archive->fd, p, sizeof p, *offset, archive->path, err));
    if (le32(p) == SIGNATURE_DESCRIPTOR)
        *offset += 4;
    return UZ_OK;
}

static int write_crc(const struct archive *archive, uint64_t offset, uint32_t old, uint32_t crc,
                     struct uz_error *err)
{
    unsigned char p[4];
    UZ_TRY(uz_pread_all(archive->fd, p, sizeof p, offset, archive->path, err));
    if (le32(p) != old)
        return corrupt(archive, offset, "an entry's two CRC-32s differ", err);
    for (unsigned i = 0; i < 4; i++)
        p[i] = (unsigned char)(crc >> (8 * i));
    return uz_pwrite_all(archive->fd, p, sizeof p, offset, archive->path, err);
}

static int renew(const struct archive *archive, const struct entry *entry, struct uz_error *err)
{
    uint64_t copy;
    uint32_t crc;
    if (entry->method != 0 || entry->packed_nbytes != entry->nbytes)
        return corrupt(archive, entry->header, "a changed entry is not stored plainly", err);
    UZ_TRY(checksum(archive, entry, &crc, err));
    UZ_TRY(find_copy(archive, entry, &copy, err));
    UZ_TRY(write_crc(archive, copy, entry->crc, crc, err));
    return write_crc(archive, entry->header + 16, entry->crc, crc, err);
}

static int any_crc(const struct archive *archive, bool *any, struct uz_error *err)
{
    *any = false;
    for (uint64_t at = 0; at < archive->directory_nbytes && !*any;) {
        struct entry entry;
        UZ_TRY(next_entry(archive, &at, &entry, err));
        *any = entry.crc != 0;
    }
    return UZ_OK;
}

static int renew_all(const struct archive *archive, const uint64_t *offsets, size_t n,
                     struct uz_error *err)
{
    bool any;
    UZ_TRY(any_crc(archive, &any, err));
    for (uint64_t at = 0; any && at < archive->directory_nbytes;) {
        struct entry entry;
        bool changed = false;
        UZ_TRY(next_entry(archive, &at, &entry, err));
        UZ_TRY(find_data(archive, &entry, err));
        for (size_t i = 0; i < n && !changed; i++)
            changed = offsets[i] >= entry.data && offsets[i] - entry.data < entry.nbytes;
        if (changed)
            UZ_TRY(renew(archive, &entry, err));
    }
    return UZ_OK;
}

int uz_zip_renew_crcs(const char *path, const uint64_t *offsets, size_t n, struct uz_error *err)
{
    struct archive archive = {.path = path, .fd = open(path, O_RDWR | O_CLOEXEC)};
    struct stat st;
    if (archive.fd < 0)
        return uz_fail_errno(err, errno, path, "cannot be opened");
    int rc =
        fstat(archive.fd, &st) < 0 ? uz_fail_errno(err, errno, path, "cannot be examined") : UZ_OK;
    if (rc == UZ_OK) {
        archive.nbytes = (uint64_t)st.st_size;
        rc = read_directory(&archive, err);
    }
    if (rc == UZ_OK)
        rc = renew_all(&archive, offsets, n, err);
    free(archive.directory);
    if (close(archive.fd) < 0 && rc == UZ_OK)
        rc = uz_fail_errno(err, errno, path, "cannot be written");
    return rc;
}
