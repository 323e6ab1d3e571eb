/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zip archives through libzip. libzip tells names and sizes but not where data begins, so it reads
 * the file through a source of ours, which notes where it looks for an entry's local header and
 * for its data. Both are then checked against the header itself.
 */
#include "torch/zip.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>
#include <zip.h>

#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "torch/zip_source.h"

enum {
    LOCAL_HEADER_NBYTES = 30,
    DEFLATE_MAX_RATIO = 1032,
    MAX_EXTRA_FIELDS = 64, /* of one local header; two are usual */
};

struct uz_zip {
    const char *path;
    zip_t *archive;
    struct uz_map *names;
    uint64_t *offsets; /* of entries already found; UINT64_MAX: not yet */
    struct uz_zip_source source;
};

/* Hands on why a read failed. */
static int fail_read(const struct uz_zip *zip, struct uz_error *err)
{
    if (err)
        *err = zip->source.read_error;
    return zip->source.read_rc;
}

/* A failure of libzip: that of a read if one failed, else the archive's. */
static int fail_zip(struct uz_zip *zip, zip_error_t *error, const char *what, struct uz_error *err)
{
    if (zip->source.read_rc < 0)
        return fail_read(zip, err);
    switch (zip_error_code_zip(error)) {
    case ZIP_ER_MEMORY:
        return uz_fail_nomem(err, 0);
    case ZIP_ER_MULTIDISK:
        return uz_fail_at(err, UZ_UNSUPPORTED, zip->path, UZ_NO_OFFSET,
                          "a zip archive split over several disks");
    case ZIP_ER_NOZIP:
        return uz_fail_at(err, UZ_CORRUPT, zip->path, UZ_NO_OFFSET,
                          "begins like a zip archive, but has no end record: it was cut short, or "
                          "is still being written");
    default:
        return uz_fail_at(err, UZ_CORRUPT, zip->path, UZ_NO_OFFSET, "%s: %s", what,
                          zip_error_strerror(error));
    }
}

static int open_archive(struct uz_zip *zip, struct uz_error *err)
{
    zip_error_t error;
    zip_error_init(&error);
    int rc = UZ_OK;
    zip_source_t *src = uz_zip_source_new(&zip->source, &error);
    if (!src) {
        zip_error_fini(&error);
        return uz_fail_nomem(err, 0);
    }
    /* A lying directory may send libzip back and forth through the file, but not without end. */
    if (!uz_mul_u64(zip->source.file_nbytes, 4, &zip->source.budget))
        zip->source.budget = UINT64_MAX;
    /* No ZIP_CHECKCONS: it reads every local header, which costs a disk access for each entry. */
    zip->archive = zip_open_from_source(src, ZIP_RDONLY, &error);
    if (!zip->archive) {
        rc = fail_zip(zip, &error, "broken central directory", err);
        zip_source_free(src);
    }
    zip->source.budget = UINT64_MAX;
    zip_error_fini(&error);
    return rc;
}

static int index_names(struct uz_zip *zip, const struct uz_limits *limits, struct uz_error *err)
{
    uint64_t n = uz_zip_count(zip);
    if (n > limits->max_zip_entries)
        return uz_fail_at(err, UZ_LIMIT, zip->path, UZ_NO_OFFSET,
                          "%llu entries, the cap is %llu (max_zip_entries)", (unsigned long long)n,
                          (unsigned long long)limits->max_zip_entries);
    zip->names = uz_map_new();
    if (!zip->names)
        return uz_fail_nomem(err, 0);
    UZ_TRY(uz_alloc(&zip->offsets, n, sizeof *zip->offsets, err));
    memset(zip->offsets, 0xff, (size_t)n * sizeof *zip->offsets);
    for (uint64_t i = 0; i < n; i++) {
        const char *name = uz_zip_name(zip, i);
        size_t nbytes = strlen(name);
        bool present;
        if (nbytes > limits->max_name_bytes)
            return uz_fail_at(err, UZ_LIMIT, zip->path, UZ_NO_OFFSET,
                              "an entry name of %zu bytes, the cap is %llu (max_name_bytes)",
                              nbytes, (unsigned long long)limits->max_name_bytes);
        UZ_TRY(uz_map_add(zip->names, name, nbytes, i, &present, err));
        if (present) {
            char shown[256];
            return uz_fail_at(err, UZ_CORRUPT, zip->path, UZ_NO_OFFSET, "two entries named '%s'",
                              uz_printable(shown, sizeof shown, name, nbytes));
        }
    }
    return UZ_OK;
}

int uz_zip_open(struct uz_zip **out, struct uz_content *content, const struct uz_limits *limits,
                struct uz_error *err)
{
    struct uz_zip *zip;
    UZ_TRY(uz_alloc(&zip, 1, sizeof *zip, err));
    zip->path = uz_content_path(content);
    int rc = uz_zip_source_init(&zip->source, content, err);
    if (rc == UZ_OK)
        rc = open_archive(zip, err);
    if (rc == UZ_OK)
        rc = index_names(zip, limits, err);
    if (rc < 0) {
        uz_zip_close(zip);
        return rc;
    }
    *out = zip;
    return UZ_OK;
}

void uz_zip_close(struct uz_zip *zip)
{
    if (!zip)
        return;
    uz_map_free(zip->names);
    free(zip->offsets);
    if (zip->archive)
        zip_discard(zip->archive);
    zip_error_fini(&zip->source.error);
    free(zip);
}

uint64_t uz_zip_count(const struct uz_zip *zip)
{
    zip_int64_t n = zip_get_num_entries(zip->archive, ZIP_FL_UNCHANGED);
    return n < 0 ? 0 : (uint64_t)n;
}

const char *uz_zip_name(const struct uz_zip *zip, uint64_t index)
{
    const char *name = zip_get_name(zip->archive, index, ZIP_FL_ENC_RAW | ZIP_FL_UNCHANGED);
    return name ? name : "";
}

bool uz_zip_find(const struct uz_zip *zip, const char *name, uint64_t *index)
{
    return uz_map_get(zip->names, name, strlen(name), index);
}

/* A failure about one entry, which is named. */
static int UZ_PRINTF(6, 7) fail_entry(const struct uz_zip *zip, uint64_t index, int status,
                                      uint64_t offset, struct uz_error *err, const char *fmt, ...)
{
    char shown[256], why[256];
    const char *name = uz_zip_name(zip, index);
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    return uz_fail_at(err, status, zip->path, offset, "zip entry '%s': %s",
                      uz_printable(shown, sizeof shown, name, strlen(name)), why);
}

int uz_zip_stat(struct uz_zip *zip, uint64_t index, struct uz_zip_entry *entry,
                struct uz_error *err)
{
    const zip_uint64_t needed =
        ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_CRC;
    zip_stat_t st;
    if (zip_stat_index(zip->archive, index, ZIP_FL_UNCHANGED, &st) < 0 ||
        (st.valid & needed) != needed)
        return fail_entry(zip, index, UZ_CORRUPT, UZ_NO_OFFSET, err,
                          "its directory record is broken");
    if ((st.valid & ZIP_STAT_ENCRYPTION_METHOD) && st.encryption_method != ZIP_EM_NONE)
        return fail_entry(zip, index, UZ_UNSUPPORTED, UZ_NO_OFFSET, err, "is encrypted");
    if (st.comp_method != ZIP_CM_STORE && st.comp_method != ZIP_CM_DEFLATE)
        return fail_entry(zip, index, UZ_UNSUPPORTED, UZ_NO_OFFSET, err,
                          "compression method %u, which is neither stored nor deflate",
                          st.comp_method);
    entry->nbytes = st.size;
    entry->packed_nbytes = st.comp_size;
    entry->crc = st.crc;
    entry->deflated = st.comp_method == ZIP_CM_DEFLATE;
    if (entry->packed_nbytes > zip->source.file_nbytes)
        return fail_entry(zip, index, UZ_CORRUPT, UZ_NO_OFFSET, err, "is larger than the file");
    if (!entry->deflated && entry->nbytes != entry->packed_nbytes)
        return fail_entry(zip, index, UZ_CORRUPT, UZ_NO_OFFSET, err,
                          "is stored, but has two different sizes");
    if (entry->deflated && entry->nbytes / DEFLATE_MAX_RATIO > entry->packed_nbytes)
        return fail_entry(zip, index, UZ_CORRUPT, UZ_NO_OFFSET, err,
                          "claims to be larger than deflated data can become");
    return UZ_OK;
}

/* Opens an entry in libzip; `header` (may be NULL) is where libzip looked for its local header. */
static int open_entry(struct uz_zip *zip, uint64_t index, uint64_t *header, zip_file_t **file,
                      struct uz_error *err)
{
    zip->source.lowest_seek = UINT64_MAX;
    zip->source.read_rc = UZ_OK;
    zip_error_clear(zip->archive);
    *file = zip_fopen_index(zip->archive, index, ZIP_FL_UNCHANGED);
    if (!*file) {
        int rc = fail_zip(zip, zip_get_error(zip->archive), "cannot be opened", err);
        return rc == UZ_CORRUPT ? fail_entry(zip, index, UZ_CORRUPT, UZ_NO_OFFSET, err,
                                             "its local header is not where it should be")
                                : rc;
    }
    if (header)
        *header = zip->source.lowest_seek;
    return UZ_OK;
}

/* Where libzip finds an entry's local header and its data. */
static int locate(struct uz_zip *zip, uint64_t index, uint64_t *header, uint64_t *data,
                  struct uz_error *err)
{
    zip_file_t *file = NULL;
    uint8_t first;
    UZ_TRY(open_entry(zip, index, header, &file, err));
    zip->source.last_read = UINT64_MAX;
    zip_int64_t n = zip_fread(file, &first, 1);
    *data = zip->source.last_read;
    zip_fclose(file);
    if (zip->source.read_rc < 0)
        return fail_read(zip, err);
    if (n < 0 || *data == UINT64_MAX || *header == UINT64_MAX)
        return fail_entry(zip, index, UZ_CORRUPT, UZ_NO_OFFSET, err, "its data cannot be found");
    return UZ_OK;
}

/* True if `name` stands at `pos` of the file. */
static int name_stands_at(struct uz_zip *zip, const char *name, uint64_t pos, bool *same,
                          struct uz_error *err)
{
    size_t nbytes = strlen(name);
    *same = true;
    while (nbytes > 0 && *same) {
        char part[256];
        size_t n = nbytes < sizeof part ? nbytes : sizeof part;
        UZ_TRY(uz_content_read(zip->source.content, part, n, pos, err));
        *same = memcmp(part, name, n) == 0;
        name += n;
        pos += n;
        nbytes -= n;
    }
    return UZ_OK;
}

static unsigned le16(const uint8_t *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

/*
 * True if the extra fields at `pos` fill their nbytes exactly. libzip lets up to three zero bytes
 * pass behind them; with a damaged length, data that begins with zeros would seem to begin later.
 */
static int extra_is_whole(struct uz_zip *zip, uint64_t pos, size_t nbytes, bool *whole,
                          struct uz_error *err)
{
    *whole = true;
    for (int n_fields = 0; nbytes > 0 && *whole; n_fields++) {
        uint8_t field[4];
        *whole = nbytes >= sizeof field && n_fields < MAX_EXTRA_FIELDS;
        if (!*whole)
            break;
        UZ_TRY(uz_content_read(zip->source.content, field, sizeof field, pos, err));
        size_t n = sizeof field + le16(field + 2);
        *whole = n <= nbytes;
        pos += n;
        nbytes -= *whole ? n : 0;
    }
    return UZ_OK;
}

/* Proves that the entry's local header stands at `header` and ends at `data`. */
static int check_header(struct uz_zip *zip, uint64_t index, uint64_t header, uint64_t data,
                        bool deflated, struct uz_error *err)
{
    uint8_t h[LOCAL_HEADER_NBYTES];
    UZ_TRY(uz_content_read(zip->source.content, h, sizeof h, header, err));
    if (memcmp(h, "PK\3\4", 4) != 0)
        return fail_entry(zip, index, UZ_CORRUPT, header, err, "no local header stands here");
    const char *name = uz_zip_name(zip, index);
    size_t name_nbytes = le16(h + 26), extra_nbytes = le16(h + 28);
    bool same = name_nbytes == strlen(name);
    if (same)
        UZ_TRY(name_stands_at(zip, name, header + LOCAL_HEADER_NBYTES, &same, err));
    if (!same)
        return fail_entry(zip, index, UZ_CORRUPT, header, err, "its local header has another name");
    if (le16(h + 8) != (deflated ? 8 : 0))
        return fail_entry(zip, index, UZ_CORRUPT, header, err,
                          "its local header has another compression method");
    bool whole;
    uint64_t extra = header + LOCAL_HEADER_NBYTES + name_nbytes;
    UZ_TRY(extra_is_whole(zip, extra, extra_nbytes, &whole, err));
    if (!whole)
        return fail_entry(zip, index, UZ_CORRUPT, extra, err,
                          "its local header's extra fields are broken");
    if (extra + extra_nbytes != data)
        return fail_entry(zip, index, UZ_CORRUPT, header, err,
                          "its data does not follow its local header");
    return UZ_OK;
}

int uz_zip_offset(struct uz_zip *zip, uint64_t index, uint64_t *offset, struct uz_error *err)
{
    struct uz_zip_entry entry;
    uint64_t header = 0, data = 0;
    if (zip->offsets[index] != UINT64_MAX) {
        *offset = zip->offsets[index];
        return UZ_OK;
    }
    UZ_TRY(uz_zip_stat(zip, index, &entry, err));
    if (entry.packed_nbytes == 0) {
        *offset = 0;
        return UZ_OK;
    }
    UZ_TRY(locate(zip, index, &header, &data, err));
    UZ_TRY(check_header(zip, index, header, data, entry.deflated, err));
    if (data > zip->source.file_nbytes || entry.packed_nbytes > zip->source.file_nbytes - data)
        return fail_entry(zip, index, UZ_CORRUPT, data, err, "its data leaves the file");
    zip->offsets[index] = data;
    *offset = data;
    return UZ_OK;
}

/* Reads n bytes of an open entry; fewer are a failure. */
static int read_entry(struct uz_zip *zip, uint64_t index, zip_file_t *file, uint8_t *data,
                      uint64_t nbytes, struct uz_error *err)
{
    uint64_t done = 0;
    while (done < nbytes) {
        zip_int64_t n = zip_fread(file, data + done, nbytes - done);
        if (n > 0) {
            done += (uint64_t)n;
            continue;
        }
        if (zip->source.read_rc < 0)
            return fail_read(zip, err);
        zip_error_t *error = zip_file_get_error(file);
        if (n < 0 && zip_error_code_zip(error) == ZIP_ER_MEMORY)
            return uz_fail_nomem(err, 0);
        return fail_entry(zip, index, UZ_CORRUPT, UZ_NO_OFFSET, err, "%s",
                          n == 0 ? "has fewer bytes than it claims" : zip_error_strerror(error));
    }
    return UZ_OK;
}

/* The end of a deflated entry: libzip checks the CRC when it is asked for more than there is. */
static int read_end(struct uz_zip *zip, uint64_t index, zip_file_t *file, struct uz_error *err)
{
    uint8_t extra;
    zip_int64_t n = zip_fread(file, &extra, 1);
    if (n == 0)
        return UZ_OK;
    return fail_entry(zip, index, UZ_CORRUPT, UZ_NO_OFFSET, err, "%s",
                      n > 0 ? "has more bytes than it claims"
                            : zip_error_strerror(zip_file_get_error(file)));
}

static int read_deflated(struct uz_zip *zip, uint64_t index, uint8_t *data, uint64_t nbytes,
                         struct uz_error *err)
{
    uint64_t offset;
    zip_file_t *file = NULL;
    UZ_TRY(uz_zip_offset(zip, index, &offset, err));
    UZ_TRY(open_entry(zip, index, NULL, &file, err));
    int rc = read_entry(zip, index, file, data, nbytes, err);
    if (rc == UZ_OK)
        rc = read_end(zip, index, file, err);
    zip_fclose(file);
    return rc;
}

static int read_stored(struct uz_zip *zip, uint64_t index, const struct uz_zip_entry *entry,
                       uint8_t *data, struct uz_error *err)
{
    uint64_t offset = 0;
    UZ_TRY(uz_zip_offset(zip, index, &offset, err));
    UZ_TRY(uz_content_read(zip->source.content, data, (size_t)entry->nbytes, offset, err));
    if (entry->crc != 0 && libdeflate_crc32(0, data, (size_t)entry->nbytes) != entry->crc)
        return fail_entry(zip, index, UZ_CORRUPT, offset, err,
                          "its bytes do not match their CRC-32: the file was damaged");
    return UZ_OK;
}

int uz_zip_read(struct uz_zip *zip, uint64_t index, uint64_t max_nbytes, uint8_t **data,
                uint64_t *nbytes, struct uz_error *err)
{
    struct uz_zip_entry entry;
    UZ_TRY(uz_zip_stat(zip, index, &entry, err));
    if (entry.nbytes > max_nbytes)
        return fail_entry(zip, index, UZ_LIMIT, UZ_NO_OFFSET, err,
                          "%llu bytes, of which at most %llu are read",
                          (unsigned long long)entry.nbytes, (unsigned long long)max_nbytes);
    uint8_t *buf;
    UZ_TRY(uz_alloc(&buf, entry.nbytes, 1, err));
    int rc = entry.deflated ? read_deflated(zip, index, buf, entry.nbytes, err)
                            : read_stored(zip, index, &entry, buf, err);
    if (rc < 0) {
        free(buf);
        return rc;
    }
    *data = buf;
    *nbytes = entry.nbytes;
    return UZ_OK;
}

static int skip(struct uz_zip *zip, uint64_t index, zip_file_t *file, uint64_t nbytes,
                struct uz_error *err)
{
    uint8_t waste[4096];
    while (nbytes > 0) {
        uint64_t n = nbytes < sizeof waste ? nbytes : sizeof waste;
        UZ_TRY(read_entry(zip, index, file, waste, n, err));
        nbytes -= n;
    }
    return UZ_OK;
}

int uz_zip_read_at(struct uz_zip *zip, uint64_t index, uint64_t first, void *buf, size_t nbytes,
                   struct uz_error *err)
{
    struct uz_zip_entry entry;
    uint64_t offset = 0;
    UZ_TRY(uz_zip_stat(zip, index, &entry, err));
    if (first > entry.nbytes || nbytes > entry.nbytes - first)
        return fail_entry(zip, index, UZ_CORRUPT, UZ_NO_OFFSET, err, "is too short");
    UZ_TRY(uz_zip_offset(zip, index, &offset, err));
    if (!entry.deflated)
        return uz_content_read(zip->source.content, buf, nbytes, offset + first, err);
    zip_file_t *file = NULL;
    UZ_TRY(open_entry(zip, index, NULL, &file, err));
    int rc = skip(zip, index, file, first, err);
    if (rc == UZ_OK)
        rc = read_entry(zip, index, file, buf, nbytes, err);
    zip_fclose(file);
    return rc;
}
