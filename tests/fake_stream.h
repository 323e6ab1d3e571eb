/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands before src/torch/stream.c (link with --wrap): serves the file compressed whole of a random
 * model from memory, in the order of its list, and may misbehave; deflated entries go through.
 */
#ifndef UZ_TESTS_FAKE_STREAM_H
#define UZ_TESTS_FAKE_STREAM_H

#include "random_model.h"
#include "torch/stream.h"

enum fake_fault {
    FAKE_GOOD,
    FAKE_MISSING, /* storage `chosen` is passed over */
    FAKE_TWICE,   /* storage `chosen` comes twice */
    FAKE_BAD_END, /* the end of the file is found to be damaged */
};

static struct {
    const struct random_model *model;
    enum fake_fault fault;
    uint64_t chosen; /* an entry */
    unsigned n_opened, n_ends;
    size_t largest_read;
    void (*on_read)(void); /* may be NULL */
} fake;

/* Every stream is one of these; the engine never looks into it. */
struct fake_stream {
    struct uz_stream *real;
    size_t next;                     /* in the model's list */
    const struct rm_packed *current; /* NULL between storages */
    uint64_t pos;
    bool repeated;
};

int __real_uz_stream_open(struct uz_stream **out, const char *path, enum uz_packing packing,
                          uint64_t entry, const struct uz_limits *limits, struct uz_error *err);
void __real_uz_stream_close(struct uz_stream *stream);
int __real_uz_stream_next(struct uz_stream *stream, uint64_t *entry, uint64_t *nbytes, bool *found,
                          struct uz_error *err);
int __real_uz_stream_read(struct uz_stream *stream, void *buf, size_t nbytes, struct uz_error *err);
int __real_uz_stream_skip(struct uz_stream *stream, uint64_t nbytes, struct uz_error *err);

int __wrap_uz_stream_open(struct uz_stream **out, const char *path, enum uz_packing packing,
                          uint64_t entry, const struct uz_limits *limits, struct uz_error *err);
void __wrap_uz_stream_close(struct uz_stream *stream);
int __wrap_uz_stream_next(struct uz_stream *stream, uint64_t *entry, uint64_t *nbytes, bool *found,
                          struct uz_error *err);
int __wrap_uz_stream_read(struct uz_stream *stream, void *buf, size_t nbytes, struct uz_error *err);
int __wrap_uz_stream_skip(struct uz_stream *stream, uint64_t nbytes, struct uz_error *err);

static inline struct fake_stream *fake_of(struct uz_stream *stream)
{
    return (struct fake_stream *)(void *)stream;
}

int __wrap_uz_stream_open(struct uz_stream **out, const char *path, enum uz_packing packing,
                          uint64_t entry, const struct uz_limits *limits, struct uz_error *err)
{
    struct fake_stream *stream = rm_alloc(sizeof *stream);
    int rc = UZ_OK;
    *stream = (struct fake_stream){0};
    if (packing == UZ_PACKED_DEFLATE)
        rc = __real_uz_stream_open(&stream->real, path, packing, entry, limits, err);
    else if (packing != UZ_PACKED_ZSTD || strcmp(path, fake.model->zstd_path) != 0)
        rc = uz_fail_at(err, UZ_ARG, path, UZ_NO_OFFSET, "is not the fake's file");
    else
        fake.n_opened++; /* one pass, so one thread */
    if (rc == UZ_OK)
        *out = (struct uz_stream *)(void *)stream;
    else
        free(stream);
    return rc;
}

void __wrap_uz_stream_close(struct uz_stream *stream)
{
    if (stream)
        __real_uz_stream_close(fake_of(stream)->real);
    free(stream);
}

static inline int fake_end(const struct rm_packed **current, bool *found, struct uz_error *err)
{
    *current = NULL;
    *found = false;
    fake.n_ends++;
    return fake.fault == FAKE_BAD_END
               ? uz_fail_at(err, UZ_CORRUPT, fake.model->zstd_path, UZ_NO_OFFSET, "a bad end")
               : UZ_OK;
}

int __wrap_uz_stream_next(struct uz_stream *opened, uint64_t *entry, uint64_t *nbytes, bool *found,
                          struct uz_error *err)
{
    struct fake_stream *stream = fake_of(opened);
    if (stream->real)
        return __real_uz_stream_next(stream->real, entry, nbytes, found, err);
    bool repeat = fake.fault == FAKE_TWICE && stream->current && !stream->repeated &&
                  stream->current->entry == fake.chosen;
    stream->repeated |= repeat;
    for (; !repeat && stream->next <= fake.model->n_packed; stream->next++) {
        if (stream->next == fake.model->n_packed)
            return fake_end(&stream->current, found, err);
        stream->current = &fake.model->packed[stream->next];
        bool missing = fake.fault == FAKE_MISSING && stream->current->entry == fake.chosen;
        if (stream->current->packing == UZ_PACKED_ZSTD && !missing) {
            stream->next++;
            break;
        }
    }
    stream->pos = 0;
    *found = true;
    *entry = stream->current->entry;
    *nbytes = stream->current->nbytes;
    return UZ_OK;
}

/* Reads, or passes over if buf is NULL. */
static inline int fake_go_on(struct fake_stream *stream, void *buf, uint64_t nbytes,
                             struct uz_error *err)
{
    if (!stream->current || nbytes > stream->current->nbytes - stream->pos)
        return uz_fail_at(err, UZ_CORRUPT, fake.model->zstd_path, UZ_NO_OFFSET, "too short");
    if (buf)
        memcpy(buf, stream->current->bytes + stream->pos, nbytes);
    stream->pos += nbytes;
    return UZ_OK;
}

int __wrap_uz_stream_read(struct uz_stream *opened, void *buf, size_t nbytes, struct uz_error *err)
{
    struct fake_stream *stream = fake_of(opened);
    if (stream->real)
        return __real_uz_stream_read(stream->real, buf, nbytes, err);
    if (fake.on_read)
        fake.on_read();
    if (nbytes > fake.largest_read)
        fake.largest_read = nbytes;
    return fake_go_on(stream, buf, nbytes, err);
}

int __wrap_uz_stream_skip(struct uz_stream *opened, uint64_t nbytes, struct uz_error *err)
{
    struct fake_stream *stream = fake_of(opened);
    if (stream->real)
        return __real_uz_stream_skip(stream->real, nbytes, err);
    return fake_go_on(stream, NULL, nbytes, err);
}

#endif
