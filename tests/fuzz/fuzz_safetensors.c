/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the safetensors reader: the bytes are a whole file, or the header of one. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "input/safetensors_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);

/* The promise: tensors follow one another from the header to the end of the file. */
static void check(const struct uz_safetensors *file, int rc, const struct uz_error *err)
{
    uint64_t end = file->data_offset;
    if (rc < 0 && (err->status != rc || err->message[0] == '\0'))
        abort(); /* a failure without a reason */
    if (rc < 0)
        return;
    for (size_t i = 0; i < file->n_entries; i++) {
        const struct uz_safetensors_entry *entry = &file->entries[i];
        if (entry->offset != end || entry->nbytes > file->file_nbytes - end ||
            entry->nbytes != entry->numel * uz_dtype_size(entry->dtype))
            abort();
        end += entry->nbytes;
    }
    if (end != file->file_nbytes)
        abort();
}

static void as_header(const uint8_t *data, size_t nbytes, const struct uz_limits *limits)
{
    struct uz_safetensors file;
    struct uz_error err;
    uz_error_clear(&err);
    int rc = uz_safetensors_parse(&file, data, nbytes, 8 + nbytes + 24, "header", limits, &err);
    check(&file, rc, &err);
    uz_safetensors_free(&file);
}

static void as_file(const uint8_t *data, size_t nbytes, const struct uz_limits *limits)
{
    char path[64];
    struct uz_safetensors file;
    struct uz_error err;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0)
        return;
    uz_error_clear(&err);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (write(fd, data, nbytes) == (ssize_t)nbytes) {
        int rc = uz_safetensors_read(&file, path, limits, &err);
        check(&file, rc, &err);
        uz_safetensors_free(&file);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    struct uz_limits limits;
    uz_limits_default(&limits);
    limits.max_header_bytes = 1 << 16;
    limits.max_name_bytes = 1 << 8;
    limits.max_tensors = 1 << 8;
    limits.max_pickle_arena = 1 << 20;
    as_header(data, nbytes, &limits);
    as_file(data, nbytes, &limits);
    return 0;
}
