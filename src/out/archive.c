/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and directory of a stored zip archive. Format: PKWARE's APPNOTE 6.3, sections 4.3-4.5. */
#include "out/archive.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

enum {
    ALIGNMENT = 64,
    LOCAL_HEADER_NBYTES = 30,
    EXTRA_HEADER_NBYTES = 4,
    ZIP64_ID = 0x0001,
    PADDING_ID = 0x4246, /* "FB", as PyTorch pads */
    PADDING_BYTE = 'Z',
    FLAG_DESCRIPTOR = 0x0008, /* sizes and checksum follow the contents */
    FLAG_UTF8 = 0x0800,
    MAX_NAME_NBYTES = 1024, /* a file's stem and what we put behind it: far below */
};

#define LOCAL_HEADER_ID  UINT32_C(0x04034b50)
#define DESCRIPTOR_ID    UINT32_C(0x08074b50)
#define DIRECTORY_ID     UINT32_C(0x02014b50)
#define ZIP64_END_ID     UINT32_C(0x06064b50)
#define ZIP64_LOCATOR_ID UINT32_C(0x07064b50)
#define END_ID           UINT32_C(0x06054b50)

#define SERIALIZATION_ID ".data/serialization_id"

/* An entry while it is being added. */
struct entry {
    const char *name;   /* without the root */
    size_t name_nbytes; /* with it */
    uint64_t nbytes, header_offset;
    bool large, far; /* its size, its offset takes zip64 */
    uint32_t crc;
};

static uint32_t cut32(uint64_t number)
{
    return number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

void uz_archive_start(struct uz_archive *archive, const char *root)
{
    *archive = (struct uz_archive){.root = root, .target_ended = true};
}

/* Begins a new run of bytes if the file ends with a target. */
static int open_run(struct uz_archive *archive, struct uz_error *err)
{
    struct uz_archive_run *run;
    if (!archive->target_ended)
        return UZ_OK;
    UZ_TRY(UZ_APPEND(archive->runs, archive->n_runs, archive->cap_runs, &run, err));
    *run = (struct uz_archive_run){.offset = archive->nbytes, .first = archive->bytes.n};
    archive->target_ended = false;
    return UZ_OK;
}

/* What the run's bytes have added to the file since `first` was their number. */
static void count(struct uz_archive *archive, size_t first)
{
    archive->nbytes += archive->bytes.n - first;
}

static size_t zip64_nbytes(const struct entry *entry)
{
    if (!entry->large && !entry->far)
        return 0;
    return EXTRA_HEADER_NBYTES + (entry->large ? 16U : 0U) + (entry->far ? 8U : 0U);
}

/* PyTorch leaves the second size 0 in local headers; readers that look there had better find it. */
static void put_zip64(struct uz_bytes *to, const struct entry *entry)
{
    size_t nbytes = zip64_nbytes(entry);
    if (nbytes == 0)
        return;
    uz_bytes_le(to, ZIP64_ID, 2);
    uz_bytes_le(to, nbytes - EXTRA_HEADER_NBYTES, 2);
    if (entry->large) {
        uz_bytes_le(to, entry->nbytes, 8);
        uz_bytes_le(to, entry->nbytes, 8);
    }
    if (entry->far)
        uz_bytes_le(to, entry->header_offset, 8);
}

static void put_name(struct uz_bytes *to, const struct uz_archive *archive,
                     const struct entry *entry)
{
    uz_bytes_text(to, archive->root);
    uz_bytes_text(to, "/");
    uz_bytes_text(to, entry->name);
}

static unsigned flags_of(const struct entry *entry)
{
    return FLAG_UTF8 | (entry->nbytes > 0 ? FLAG_DESCRIPTOR : 0);
}

/* The header before the contents, padded so that they begin at a multiple of the alignment. */
static void put_local_header(struct uz_archive *archive, const struct entry *entry)
{
    struct uz_bytes *to = &archive->bytes;
    size_t first = to->n, zip64 = zip64_nbytes(entry);
    uint64_t begin = entry->header_offset + LOCAL_HEADER_NBYTES + entry->name_nbytes + zip64 +
                     EXTRA_HEADER_NBYTES;
    size_t padding = (size_t)((ALIGNMENT - begin % ALIGNMENT) % ALIGNMENT);
    uz_bytes_le(to, LOCAL_HEADER_ID, 4);
    uz_bytes_le(to, 0, 2); /* version needed */
    uz_bytes_le(to, flags_of(entry), 2);
    uz_bytes_fill(to, 0, 18); /* stored; no time; checksum and sizes come later */
    uz_bytes_le(to, entry->name_nbytes, 2);
    uz_bytes_le(to, zip64 + EXTRA_HEADER_NBYTES + padding, 2);
    put_name(to, archive, entry);
    put_zip64(to, entry);
    uz_bytes_le(to, PADDING_ID, 2);
    uz_bytes_le(to, padding, 2);
    uz_bytes_fill(to, PADDING_BYTE, padding);
    count(archive, first);
}

/* Returns where in the bytes the checksum stands. */
static size_t put_descriptor(struct uz_archive *archive, const struct entry *entry)
{
    struct uz_bytes *to = &archive->bytes;
    size_t first = to->n;
    unsigned width = entry->large || entry->far ? 8 : 4;
    if (entry->nbytes == 0)
        return first;
    uz_bytes_le(to, DESCRIPTOR_ID, 4);
    uz_bytes_le(to, entry->crc, 4);
    uz_bytes_le(to, entry->nbytes, width);
    uz_bytes_le(to, entry->nbytes, width);
    count(archive, first);
    return first + 4;
}

/* Returns where in the directory the checksum stands. */
static size_t put_directory(struct uz_archive *archive, const struct entry *entry)
{
    struct uz_bytes *to = &archive->directory;
    size_t first = to->n;
    uz_bytes_le(to, DIRECTORY_ID, 4);
    uz_bytes_fill(to, 0, 4); /* versions made by and needed */
    uz_bytes_le(to, flags_of(entry), 2);
    uz_bytes_fill(to, 0, 6); /* stored; no time */
    uz_bytes_le(to, entry->crc, 4);
    uz_bytes_le(to, cut32(entry->nbytes), 4);
    uz_bytes_le(to, cut32(entry->nbytes), 4);
    uz_bytes_le(to, entry->name_nbytes, 2);
    uz_bytes_le(to, zip64_nbytes(entry), 2);
    uz_bytes_fill(to, 0, 10); /* comment, disk, attributes */
    uz_bytes_le(to, cut32(entry->header_offset), 4);
    put_name(to, archive, entry);
    put_zip64(to, entry);
    return first + 16;
}

static int begin_entry(struct uz_archive *archive, struct entry *entry, const char *name,
                       uint64_t nbytes, struct uz_error *err)
{
    uint64_t end;
    *entry = (struct entry){
        .name = name,
        .name_nbytes = strlen(archive->root) + 1 + strlen(name),
        .nbytes = nbytes,
        .header_offset = archive->nbytes,
        .large = nbytes >= UINT32_MAX,
        .far = archive->nbytes >= UINT32_MAX,
    };
    if (entry->name_nbytes > MAX_NAME_NBYTES)
        return uz_fail(err, UZ_ARG, "the name of the entry %s is too long", name);
    if (!uz_add_u64(archive->nbytes, nbytes, &end) || end > INT64_MAX / 2)
        return uz_fail(err, UZ_LIMIT, "the archive would be larger than any file can be");
    UZ_TRY(open_run(archive, err));
    archive->hash = uz_hash_bytes(archive->hash, name, strlen(name));
    archive->hash = uz_hash_u64(archive->hash, nbytes);
    put_local_header(archive, entry);
    archive->n_entries++;
    return UZ_OK;
}

/* Adds an entry whose contents are known; where they and their checksums are goes to *crc. */
static int add_bytes(struct uz_archive *archive, const char *name, const void *data, size_t nbytes,
                     struct uz_archive_crc *crc, size_t *contents, struct uz_error *err)
{
    struct entry entry;
    UZ_TRY(begin_entry(archive, &entry, name, nbytes, err));
    *contents = archive->bytes.n;
    entry.crc = nbytes ? libdeflate_crc32(0, data, nbytes) : 0;
    uz_bytes_add(&archive->bytes, data, nbytes);
    archive->nbytes += nbytes;
    crc->at = put_descriptor(archive, &entry);
    crc->in_directory = put_directory(archive, &entry);
    return uz_bytes_check(&archive->bytes, err);
}

int uz_archive_add(struct uz_archive *archive, const char *name, const void *data, size_t nbytes,
                   struct uz_error *err)
{
    struct uz_archive_crc crc = {0};
    size_t contents;
    UZ_TRY(add_bytes(archive, name, data, nbytes, &crc, &contents, err));
    if (nbytes > 0)
        archive->hash = uz_hash_bytes(archive->hash, data, nbytes);
    return UZ_OK;
}

int uz_archive_add_target(struct uz_archive *archive, const char *name, uint64_t nbytes,
                          size_t target, uint64_t *offset, struct uz_error *err)
{
    struct entry entry;
    struct uz_archive_crc *crc;
    UZ_TRY(UZ_APPEND(archive->crcs, archive->n_crcs, archive->cap_crcs, &crc, err));
    UZ_TRY(begin_entry(archive, &entry, name, nbytes, err));
    *offset = archive->nbytes;
    archive->nbytes += nbytes;
    archive->target_ended = true;
    UZ_TRY(open_run(archive, err));
    crc->target = target;
    crc->at = put_descriptor(archive, &entry);
    crc->in_directory = put_directory(archive, &entry);
    return uz_bytes_check(&archive->bytes, err);
}

char *uz_archive_root_for(const char *file_name)
{
    const char *dot = strrchr(file_name, '.');
    size_t n = dot ? (size_t)(dot - file_name) : strlen(file_name);
    bool usable = n > 0 && strspn(file_name, ".") < n;
    for (size_t i = 0; i < n; i++)
        usable &= file_name[i] > ' ' - 1 && file_name[i] < 0x7f && file_name[i] != '\\';
    return usable ? strndup(file_name, n) : strdup("archive");
}

int uz_archive_add_pickle(struct uz_archive *archive, const struct uz_bytes *pickle,
                          struct uz_error *err)
{
    UZ_TRY(uz_archive_add(archive, "data.pkl", pickle->data, pickle->n, err));
    UZ_TRY(uz_archive_add(archive, ".format_version", "1", 1, err));
    UZ_TRY(uz_archive_add(archive, ".storage_alignment", "64", 2, err));
    return uz_archive_add(archive, "byteorder", "little", 6, err);
}

int uz_archive_add_version(struct uz_archive *archive, struct uz_error *err)
{
    return uz_archive_add(archive, "version", "3\n", 2, err);
}

/* The records behind the directory: the zip64 ones always, as PyTorch writes them. */
static void put_end(struct uz_archive *archive, uint64_t directory_offset)
{
    struct uz_bytes *to = &archive->bytes;
    uint64_t n = archive->n_entries, nbytes = archive->directory.n, zip64_offset = archive->nbytes;
    size_t first = to->n;
    uz_bytes_le(to, ZIP64_END_ID, 4);
    uz_bytes_le(to, 44, 8);     /* bytes of this record from here on */
    uz_bytes_le(to, 0x031e, 2); /* made by: Unix, 3.0 */
    uz_bytes_le(to, 45, 2);     /* version needed: zip64 */
    uz_bytes_fill(to, 0, 8);    /* disks */
    uz_bytes_le(to, n, 8);
    uz_bytes_le(to, n, 8);
    uz_bytes_le(to, nbytes, 8);
    uz_bytes_le(to, directory_offset, 8);
    uz_bytes_le(to, ZIP64_LOCATOR_ID, 4);
    uz_bytes_fill(to, 0, 4);
    uz_bytes_le(to, zip64_offset, 8);
    uz_bytes_le(to, 1, 4); /* disks in all */
    uz_bytes_le(to, END_ID, 4);
    uz_bytes_fill(to, 0, 4);
    uz_bytes_le(to, n < UINT16_MAX ? n : UINT16_MAX, 2);
    uz_bytes_le(to, n < UINT16_MAX ? n : UINT16_MAX, 2);
    uz_bytes_le(to, cut32(nbytes), 4);
    uz_bytes_le(to, cut32(directory_offset), 4);
    uz_bytes_fill(to, 0, 2); /* comment */
    count(archive, first);
}

/* Copies the first run to the head and the others to blobs. */
static int hand_over_bytes(const struct uz_archive *archive, struct uz_out_file *file,
                           struct uz_error *err)
{
    size_t n_blobs = archive->n_runs - 1;
    size_t n_head = n_blobs ? archive->runs[1].first : archive->bytes.n;
    UZ_TRY(uz_alloc(&file->head, n_head, 1, err));
    UZ_TRY(uz_alloc(&file->blob_data, archive->bytes.n - n_head, 1, err));
    UZ_TRY(uz_alloc(&file->blobs, n_blobs, sizeof *file->blobs, err));
    memcpy(file->head, archive->bytes.data, n_head);
    if (n_blobs)
        memcpy(file->blob_data, archive->bytes.data + n_head, archive->bytes.n - n_head);
    for (size_t i = 0; i < n_blobs; i++) {
        const struct uz_archive_run *run = &archive->runs[i + 1];
        size_t end = i + 1 < n_blobs ? run[1].first : archive->bytes.n;
        file->blobs[i] = (struct uz_blob){
            .offset = run->offset,
            .nbytes = end - run->first,
            .data = file->blob_data + (run->first - n_head),
        };
    }
    file->head_nbytes = n_head;
    file->n_blobs = n_blobs;
    file->nbytes = archive->nbytes;
    return UZ_OK;
}

/* Where byte number `at` of the archive's bytes is now. */
static char *byte_of(const struct uz_out_file *file, size_t at)
{
    return at < file->head_nbytes ? file->head + at : file->blob_data + (at - file->head_nbytes);
}

/* Slots for all targets; `directory` is where the directory begins in the bytes. */
static int hand_over_crcs(const struct uz_archive *archive, size_t directory,
                          struct uz_out_file *file, struct uz_error *err)
{
    UZ_TRY(uz_alloc(&file->crcs, 2 * (uint64_t)archive->n_crcs, sizeof *file->crcs, err));
    for (size_t i = 0; i < archive->n_crcs; i++) {
        const struct uz_archive_crc *crc = &archive->crcs[i];
        file->crcs[2 * i] = (struct uz_crc_slot){crc->target, byte_of(file, crc->at)};
        file->crcs[2 * i + 1] =
            (struct uz_crc_slot){crc->target, byte_of(file, directory + crc->in_directory)};
    }
    file->n_crcs = 2 * archive->n_crcs;
    return UZ_OK;
}

int uz_archive_finish(struct uz_archive *archive, struct uz_out_file *file, struct uz_error *err)
{
    static const char zeros[UZ_SEAL_ID_NBYTES];
    struct uz_archive_crc crc = {0};
    size_t id;
    uint64_t hash = archive->hash;
    UZ_TRY(add_bytes(archive, SERIALIZATION_ID, zeros, sizeof zeros, &crc, &id, err));
    size_t directory = archive->bytes.n;
    uint64_t directory_offset = archive->nbytes;
    uz_bytes_add(&archive->bytes, archive->directory.data, archive->directory.n);
    count(archive, directory);
    put_end(archive, directory_offset);
    UZ_TRY(uz_bytes_check(&archive->directory, err));
    UZ_TRY(uz_bytes_check(&archive->bytes, err));
    UZ_TRY(hand_over_bytes(archive, file, err));
    UZ_TRY(hand_over_crcs(archive, directory, file, err));
    file->seal = (struct uz_seal){
        .hash = hash,
        .id = byte_of(file, id),
        .crcs = {byte_of(file, crc.at), byte_of(file, directory + crc.in_directory)},
    };
    uz_seal_file(file);
    return UZ_OK;
}

void uz_archive_free(struct uz_archive *archive)
{
    uz_bytes_free(&archive->bytes);
    uz_bytes_free(&archive->directory);
    free(archive->runs);
    free(archive->crcs);
    *archive = (struct uz_archive){0};
}
