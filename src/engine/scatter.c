/* SPDX-License-Identifier: Apache-2.0 */
/* Scatter order: a storage is read once, from front to back. */
#include "base/file.h"
#include "engine/convert.h"
#include "engine/worker.h"
#include "torch/entry_stream.h"

/* Reads from the storage of a stream: inflating, or from its place in the file. */
static int read_stream(struct uz_worker *worker, const struct uz_place *place,
                       struct uz_entry_stream *inflater, uint64_t first, size_t nbytes,
                       struct uz_error *err)
{
    const char *path = worker->plan->model->files[place->file];
    int fd;
    if (inflater)
        return uz_entry_stream_read(inflater, place->offset + first, worker->scratch, nbytes, err);
    UZ_TRY(uz_fd_cache_get(&worker->sources, place->file, path, &fd, err));
    return uz_pread_all(fd, worker->scratch, nbytes, place->offset + first, path, err);
}

static int scatter_piece(struct uz_worker *worker, const struct uz_place *place,
                         struct uz_entry_stream *inflater, const struct uz_stream_piece *piece,
                         uint64_t *nbytes_written, struct uz_error *err)
{
    uint64_t from_size = uz_dtype_size(piece->from), to_size = uz_dtype_size(piece->to);
    uint64_t larger = from_size > to_size ? from_size : to_size;
    uint64_t elems_at_once = worker->buffer_nbytes / larger;
    const char *path = worker->paths[piece->file];
    int fd;
    for (uint64_t done = 0; done < piece->n_elems;) {
        uint64_t left = piece->n_elems - done;
        uint64_t n = left < elems_at_once ? left : elems_at_once;
        UZ_TRY(read_stream(worker, place, inflater, piece->src + done * from_size,
                           (size_t)(n * from_size), err));
        worker->n_overflows += uz_convert_elems(worker->ops, worker->out, piece->to,
                                                worker->scratch, piece->from, (size_t)n);
        UZ_TRY(uz_fd_cache_get(&worker->outputs, piece->file, path, &fd, err));
        UZ_TRY(uz_pwrite_all(fd, worker->out, (size_t)(n * to_size), piece->dst + done * to_size,
                             path, err));
        *nbytes_written += n * to_size;
        done += n;
    }
    return UZ_OK;
}

int uz_worker_scatter(struct uz_worker *worker, const struct uz_stream *stream,
                      uint64_t *nbytes_written, struct uz_error *err)
{
    const struct uz_place *place = &worker->plan->model->places[stream->place];
    struct uz_entry_stream *inflater = NULL;
    *nbytes_written = 0;
    if (place->packing)
        UZ_TRY(uz_entry_stream_open(&inflater, worker->plan->model->files[place->file],
                                    place->entry, err));
    int rc = UZ_OK;
    for (size_t i = 0; i < stream->n && rc == UZ_OK; i++)
        rc = scatter_piece(worker, place, inflater, &worker->plan->stream_pieces[stream->first + i],
                           nbytes_written, err);
    uz_entry_stream_close(inflater);
    return rc;
}
