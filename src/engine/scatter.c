/* SPDX-License-Identifier: Apache-2.0 */
/* Scatter order: a source is gone through once, from front to back. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/convert.h"
#include "engine/worker.h"
#include "torch/stream.h"

/* Blocks begin at multiples of this, the largest element size, so that they hold whole elements. */
enum { BLOCK_ALIGN = 8 };

/* One storage being gone through. */
struct pass {
    struct uz_worker *worker;
    const struct uz_place *place; /* of any piece: tells the file */
    struct uz_stream *stream;     /* NULL: not packed, read from its place */
    const struct uz_stream_piece *pieces;
    size_t n_pieces;
    size_t next;          /* pieces before this one have begun */
    uint64_t pos, nbytes; /* the block of the storage that the scratch holds */
};

static enum uz_dtype dtype_from(const struct pass *pass, const struct uz_stream_piece *piece)
{
    const struct uz_plan *plan = pass->worker->plan;
    return plan->model->tensors[plan->out->targets[piece->target].tensor].dtype;
}

static uint64_t src_end(const struct pass *pass, const struct uz_stream_piece *piece)
{
    return piece->src + piece->n_elems * uz_dtype_size(dtype_from(pass, piece));
}

/* Writes bytes that belong into a target, from byte `first` of it on. */
static int write_target(struct uz_worker *worker, const struct uz_stream_piece *piece,
                        uint64_t first, const unsigned char *bytes, size_t nbytes,
                        struct uz_error *err)
{
    const struct uz_out *out = worker->plan->out;
    const char *path = worker->paths[piece->file];
    int fd;
    UZ_TRY(uz_fd_cache_get(&worker->outputs, piece->file, path, &fd, err));
    UZ_TRY(uz_pwrite_all(fd, bytes, nbytes, out->targets[piece->target].offset + first, path, err));
    uz_advise_written(&worker->gather.advice, fd, out->targets[piece->target].offset + first,
                      nbytes);
    if (out->files[piece->file].n_crcs > 0)
        UZ_TRY(uz_checksums_add(&worker->checksums, piece->target, first, bytes, nbytes, err));
    uz_worker_wrote(worker, nbytes);
    return UZ_OK;
}

/* Serves a piece with what the block holds of it. */
static int serve_piece(struct pass *pass, const struct uz_stream_piece *piece, struct uz_error *err)
{
    struct uz_worker *worker = pass->worker;
    const struct uz_plan *plan = worker->plan;
    struct uz_conversion how = {.from = dtype_from(pass, piece),
                                .to = plan->out->targets[piece->target].dtype};
    how.divisor = piece->divisor;
    how.swap = uz_place_swaps(&plan->model->places[piece->place], how.from);
    size_t from_size = uz_dtype_size(how.from), to_size = uz_dtype_size(how.to);
    uint64_t begin = piece->src > pass->pos ? piece->src : pass->pos;
    uint64_t end = src_end(pass, piece);
    if (end > pass->pos + pass->nbytes)
        end = pass->pos + pass->nbytes;
    const unsigned char *src = worker->gather.scratch + (begin - pass->pos);
    uint64_t dst = piece->dst + (begin - piece->src) / from_size * to_size;
    size_t n_elems = (size_t)(end - begin) / from_size;
    size_t elems_at_once = (size_t)worker->buffer_nbytes / to_size;
    if (how.from == how.to && !how.swap && !uz_divides(how.divisor))
        return write_target(worker, piece, dst, src, n_elems * to_size, err);
    for (size_t done = 0, n; done < n_elems; done += n) {
        n = n_elems - done < elems_at_once ? n_elems - done : elems_at_once;
        worker->n_overflows +=
            uz_convert_elems(worker->gather.ops, how, worker->out, src + done * from_size, n);
        UZ_TRY(write_target(worker, piece, dst + done * to_size, worker->out, n * to_size, err));
    }
    return UZ_OK;
}

/*
 * Serves all pieces that reach into the block. Those that reach into the next block too stay in
 * worker->open_pieces: several targets may draw on the same bytes.
 */
static int serve_block(struct pass *pass, struct uz_error *err)
{
    struct uz_worker *worker = pass->worker;
    uint64_t end = pass->pos + pass->nbytes;
    size_t n_left = 0;
    for (; pass->next < pass->n_pieces && pass->pieces[pass->next].src < end; pass->next++) {
        UZ_TRY(uz_reserve(&worker->open_pieces, &worker->cap_open_pieces,
                          (uint64_t)worker->n_open_pieces + 1, sizeof *worker->open_pieces, err));
        worker->open_pieces[worker->n_open_pieces++] = pass->next;
    }
    for (size_t i = 0; i < worker->n_open_pieces; i++) {
        const struct uz_stream_piece *piece = &pass->pieces[worker->open_pieces[i]];
        UZ_TRY(serve_piece(pass, piece, err));
        if (src_end(pass, piece) > end)
            worker->open_pieces[n_left++] = worker->open_pieces[i];
    }
    worker->n_open_pieces = n_left;
    return UZ_OK;
}

/* Passes over bytes that nobody wants. */
static int skip_to(struct pass *pass, uint64_t pos, struct uz_error *err)
{
    if (pass->stream && pos > pass->pos)
        UZ_TRY(uz_stream_skip(pass->stream, pos - pass->pos, err));
    pass->pos = pos;
    return UZ_OK;
}

static int read_block(struct pass *pass, struct uz_error *err)
{
    struct uz_worker *worker = pass->worker;
    int fd;
    if (pass->stream)
        return uz_stream_read(pass->stream, worker->gather.scratch, (size_t)pass->nbytes, err);
    if (pass->place->file == UZ_NONE) {
        memset(worker->gather.scratch, 0, (size_t)pass->nbytes);
        return UZ_OK;
    }
    const char *path = worker->plan->model->files[pass->place->file];
    UZ_TRY(uz_fd_cache_get(&worker->gather.sources, pass->place->file, path, &fd, err));
    return uz_pread_all(fd, worker->gather.scratch, (size_t)pass->nbytes,
                        pass->place->offset + pass->pos, path, err);
}

/* Reads the storage that the stream, if there is one, is at; as far as it is wanted. */
static int scatter_storage(struct uz_worker *worker, const struct uz_stream_storage *storage,
                           struct uz_stream *stream, struct uz_error *err)
{
    struct pass pass = {.worker = worker,
                        .stream = stream,
                        .pieces = &worker->plan->stream_pieces[storage->first],
                        .n_pieces = storage->n};
    uint64_t last = 0, room = worker->buffer_nbytes / BLOCK_ALIGN * BLOCK_ALIGN;
    pass.place = &worker->plan->model->places[pass.pieces[0].place];
    for (size_t i = 0; i < pass.n_pieces; i++)
        last = src_end(&pass, &pass.pieces[i]) > last ? src_end(&pass, &pass.pieces[i]) : last;
    worker->n_open_pieces = 0;
    while (worker->n_open_pieces > 0 || pass.next < pass.n_pieces) {
        if (uz_worker_stopped(worker))
            return UZ_OK;
        if (worker->n_open_pieces == 0)
            UZ_TRY(skip_to(&pass, pass.pieces[pass.next].src / BLOCK_ALIGN * BLOCK_ALIGN, err));
        pass.nbytes = last - pass.pos < room ? last - pass.pos : room;
        UZ_TRY(read_block(&pass, err));
        UZ_TRY(serve_block(&pass, err));
        pass.pos += pass.nbytes;
    }
    return UZ_OK;
}

/* The job's storage with this number; NULL if it wants nothing of it. */
static const struct uz_stream_storage *find_storage(const struct uz_plan *plan,
                                                    const struct uz_stream_job *job, uint64_t entry)
{
    size_t low = job->first, high = job->first + job->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (plan->stream_storages[mid].entry < entry)
            low = mid + 1;
        else
            high = mid;
    }
    bool found = low < job->first + job->n && plan->stream_storages[low].entry == entry;
    return found ? &plan->stream_storages[low] : NULL;
}

/* Goes to the end of the stream, even if nothing more is wanted: only then has it been checked. */
static int scatter_stream(struct uz_worker *worker, const struct uz_stream_job *job,
                          struct uz_stream *stream, bool *met, struct uz_error *err)
{
    const struct uz_plan *plan = worker->plan;
    const struct uz_stream_storage *storages = &plan->stream_storages[job->first];
    const char *path = plan->model->files[plan->model->places[job->place].file];
    while (!uz_worker_stopped(worker)) {
        uint64_t entry, nbytes;
        bool found;
        UZ_TRY(uz_stream_next(stream, &entry, &nbytes, &found, err));
        if (!found)
            break;
        const struct uz_stream_storage *storage = find_storage(plan, job, entry);
        if (!storage)
            continue;
        if (met[storage - storages])
            return uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET,
                              "storage %llu is in the file twice", (unsigned long long)entry);
        met[storage - storages] = true;
        UZ_TRY(scatter_storage(worker, storage, stream, err));
    }
    for (size_t i = 0; i < job->n && !uz_worker_stopped(worker); i++)
        if (!met[i])
            return uz_fail_at(err, UZ_CORRUPT, path, UZ_NO_OFFSET,
                              "storage %llu is not in the file",
                              (unsigned long long)storages[i].entry);
    return UZ_OK;
}

int uz_worker_scatter(struct uz_worker *worker, const struct uz_stream_job *job,
                      struct uz_error *err)
{
    const struct uz_plan *plan = worker->plan;
    const struct uz_place *place = &plan->model->places[job->place];
    struct uz_stream *stream = NULL;
    bool *met;
    if (!place->packing)
        return scatter_storage(worker, &plan->stream_storages[job->first], NULL, err);
    UZ_TRY(uz_alloc(&met, job->n, sizeof *met, err));
    int rc = uz_stream_open(&stream, plan->model->files[place->file], place->packing, place->entry,
                            worker->limits, err);
    if (rc == UZ_OK)
        rc = scatter_stream(worker, job, stream, met, err);
    uz_stream_close(stream);
    free(met);
    return rc;
}
