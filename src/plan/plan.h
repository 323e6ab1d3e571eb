/* SPDX-License-Identifier: Apache-2.0 */
/* The plan: source pieces x target pieces -> chunks of output. Immutable once built. */
#ifndef UZ_PLAN_PLAN_H
#define UZ_PLAN_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout/model.h"
#include "out/target.h"
#include "plan/copies.h"

/*
 * Work is divided by output: what lies in each file between its head and the end of its last target
 * is cut into chunks of chunk_nbytes, the first of a file shorter, so that the others begin with a
 * page of the file. What must be read for a chunk is computed when the chunk is
 * worked on, so a plan's size depends on the numbers of tensors, pieces and files, not on bytes.
 *
 * Targets that draw on a storage which can't be read at any place (in a compressed zip entry or a
 * file compressed whole) are left out of the chunks. For them the plan has stream jobs: one for
 * each entry or file that must be gone through from front to back.
 */
struct uz_plan {
    const struct uz_model *model; /* borrowed */
    const struct uz_out *out;     /* borrowed */
    uint64_t chunk_nbytes;
    uint64_t n_chunks;
    uint64_t *first_chunk; /* of each file; n_files + 1 entries */
    bool *streamed;        /* of each target: written by stream jobs, not by chunks; NULL: none */
    struct uz_stream_job *stream_jobs;
    size_t n_stream_jobs;
    struct uz_stream_storage *stream_storages;
    size_t n_stream_storages;
    struct uz_stream_piece *stream_pieces;
    size_t n_stream_pieces;
    uint64_t nbytes; /* that chunks and stream jobs write in all */
};

/*
 * Elements of a piece that go to one target and follow one another on both sides. Their dtypes are
 * those of the target and its tensor.
 */
struct uz_stream_piece {
    uint32_t place;
    uint32_t file; /* output file */
    size_t target; /* index into out->targets */
    uint64_t src;  /* byte in the storage, a multiple of the element size */
    uint64_t dst;  /* byte in the target */
    uint64_t n_elems;
    double divisor; /* see struct uz_copy */
};

/* stream_pieces [first, first + n) draw on one storage, with ascending `src`. */
struct uz_stream_storage {
    uint64_t entry; /* of their places */
    size_t first, n;
};

/*
 * One pass over a source: stream_storages [first, first + n), with ascending `entry`, of a file. A
 * zip entry, or storage that is not packed (it has parts of the same targets), is a job of its own.
 */
struct uz_stream_job {
    uint32_t place; /* of any of its pieces: tells file and packing */
    size_t first, n;
};

/* Bytes [begin, end) of a chunk. */
struct uz_span {
    uint64_t begin, end;
};

/* Bytes [begin, end) of a chunk that are those of a target from byte `first` of it on. */
struct uz_target_part {
    size_t target;
    uint64_t first;
    uint64_t begin, end;
};

/* Elements [lo, hi) of a tensor that is a mean (uz_tensor.is_mean), from byte `dst` of a chunk on.
 */
struct uz_mean {
    uint32_t tensor;
    enum uz_dtype to;
    uint64_t lo, hi;
    uint64_t dst;
};

/* One chunk, described; reused from chunk to chunk by one thread. */
struct uz_chunk {
    uint32_t file;
    uint64_t offset; /* of the chunk in the output file */
    uint64_t nbytes;
    struct uz_copies copies; /* with the means they cover the spans exactly */
    struct uz_mean *means;
    size_t n_means, cap_means;
    struct uz_span *spans; /* what is to be written; usually the whole chunk */
    size_t n_spans, cap_spans;
    struct uz_target_part *parts; /* what the spans hold, if the file has checksums; else none */
    size_t n_parts, cap_parts;
};

/*
 * Builds a plan; chunk_nbytes must be a multiple of 64. Every piece is checked to lie inside its
 * storage. Free with uz_plan_free, after failures too.
 */
int uz_plan_build(struct uz_plan *plan, const struct uz_model *model, const struct uz_out *out,
                  uint64_t chunk_nbytes, struct uz_error *err);

void uz_plan_free(struct uz_plan *plan);

/*
 * Describes chunk number `index`, which may hold nothing; *chunk was zeroed before its first use.
 * Thread-safe.
 */
int uz_plan_chunk(const struct uz_plan *plan, uint64_t index, struct uz_chunk *chunk,
                  struct uz_error *err);

void uz_chunk_free(struct uz_chunk *chunk);

#endif
