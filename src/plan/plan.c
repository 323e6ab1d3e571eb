/* SPDX-License-Identifier: Apache-2.0 */
/* Divides an output into chunks and stream jobs. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "plan/streams.h"

static uint64_t target_end(const struct uz_target *target)
{
    return target->offset + target->n_elems * uz_dtype_size(target->dtype);
}

/* Bytes from the end of a file's head to the end of its last target. */
static uint64_t data_nbytes(const struct uz_out *out, const struct uz_out_file *file)
{
    if (file->n_targets == 0)
        return 0;
    return target_end(&out->targets[file->first_target + file->n_targets - 1]) - file->head_nbytes;
}

/*
 * By how much the first chunk of a file is shorter than the others, so that these begin at the
 * beginning of a page of the file (or, if elements do not, a few bytes behind it): the system then
 * works with whole pages.
 */
static uint64_t lead_nbytes(const struct uz_out_file *file, uint64_t chunk_nbytes)
{
    enum { PAGE_NBYTES = 4096, LARGEST_ELEM = 8 };
    uint64_t align = chunk_nbytes < PAGE_NBYTES ? chunk_nbytes : PAGE_NBYTES;
    return file->head_nbytes % align / LARGEST_ELEM * LARGEST_ELEM;
}

static uint64_t count_chunks(const struct uz_out *out, const struct uz_out_file *file,
                             uint64_t chunk_nbytes)
{
    uint64_t data = data_nbytes(out, file);
    return data == 0 ? 0 : (data - 1 + lead_nbytes(file, chunk_nbytes)) / chunk_nbytes + 1;
}

int uz_plan_build(struct uz_plan *plan, const struct uz_model *model, const struct uz_out *out,
                  uint64_t chunk_nbytes, struct uz_error *err)
{
    *plan = (struct uz_plan){.model = model, .out = out, .chunk_nbytes = chunk_nbytes};
    UZ_TRY(uz_check_pieces(model, err));
    UZ_TRY(
        uz_alloc(&plan->first_chunk, (uint64_t)out->n_files + 1, sizeof *plan->first_chunk, err));
    for (size_t i = 0; i < out->n_files; i++)
        plan->first_chunk[i + 1] =
            plan->first_chunk[i] + count_chunks(out, &out->files[i], chunk_nbytes);
    plan->n_chunks = plan->first_chunk[out->n_files];
    plan->nbytes = out->data_nbytes;
    return uz_plan_streams(plan, err);
}

void uz_plan_free(struct uz_plan *plan)
{
    free(plan->first_chunk);
    free(plan->streamed);
    free(plan->stream_jobs);
    free(plan->stream_storages);
    free(plan->stream_pieces);
    *plan = (struct uz_plan){0};
}

void uz_chunk_free(struct uz_chunk *chunk)
{
    uz_copies_free(&chunk->copies);
    free(chunk->means);
    free(chunk->spans);
    free(chunk->parts);
    *chunk = (struct uz_chunk){0};
}

/* The file that chunk `index` belongs to: the last whose first chunk is not after it. */
static uint32_t file_of_chunk(const struct uz_plan *plan, uint64_t index)
{
    size_t low = 0, high = plan->out->n_files;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (plan->first_chunk[mid] <= index)
            low = mid;
        else
            high = mid;
    }
    return (uint32_t)low;
}

/* The first target of the file that ends after byte `offset`. */
static size_t first_target_after(const struct uz_plan *plan, const struct uz_out_file *file,
                                 uint64_t offset)
{
    size_t low = file->first_target, high = file->first_target + file->n_targets;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (target_end(&plan->out->targets[mid]) <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The part of a target that lies in the chunk. */
static int add_target(const struct uz_plan *plan, struct uz_chunk *chunk,
                      const struct uz_target *target, struct uz_error *err)
{
    uint64_t size = uz_dtype_size(target->dtype);
    uint64_t begin = target->offset > chunk->offset ? target->offset : chunk->offset;
    uint64_t end = target_end(target);
    if (end > chunk->offset + chunk->nbytes)
        end = chunk->offset + chunk->nbytes;
    const struct uz_tensor *tensor = &plan->model->tensors[target->tensor];
    const struct uz_region region = {
        .pieces = &plan->model->pieces[tensor->first_piece],
        .n_pieces = tensor->n_pieces,
        .from = tensor->dtype,
        .lo = target->lo + (begin - target->offset) / size,
        .hi = target->lo + (end - target->offset) / size,
    };
    if (tensor->is_mean) {
        struct uz_mean *mean;
        UZ_TRY(UZ_APPEND(chunk->means, chunk->n_means, chunk->cap_means, &mean, err));
        *mean = (struct uz_mean){.tensor = target->tensor,
                                 .to = target->dtype,
                                 .lo = region.lo,
                                 .hi = region.hi,
                                 .dst = begin - chunk->offset};
        return UZ_OK;
    }
    return uz_copies_add(&chunk->copies, plan->model, &region, target->dtype, begin - chunk->offset,
                         err);
}

/* Notes that the chunk's bytes of target number `index` will be there to be written. */
static int add_span(const struct uz_plan *plan, struct uz_chunk *chunk, size_t index,
                    struct uz_error *err)
{
    const struct uz_target *target = &plan->out->targets[index];
    uint64_t begin = target->offset > chunk->offset ? target->offset - chunk->offset : 0;
    uint64_t end = target_end(target) - chunk->offset;
    if (end > chunk->nbytes)
        end = chunk->nbytes;
    if (plan->out->files[chunk->file].n_crcs > 0) {
        struct uz_target_part *part;
        UZ_TRY(UZ_APPEND(chunk->parts, chunk->n_parts, chunk->cap_parts, &part, err));
        *part = (struct uz_target_part){.target = index,
                                        .first = chunk->offset + begin - target->offset,
                                        .begin = begin,
                                        .end = end};
    }
    if (chunk->n_spans > 0 && chunk->spans[chunk->n_spans - 1].end == begin) {
        chunk->spans[chunk->n_spans - 1].end = end;
        return UZ_OK;
    }
    UZ_TRY(uz_reserve(&chunk->spans, &chunk->cap_spans, (uint64_t)chunk->n_spans + 1,
                      sizeof *chunk->spans, err));
    chunk->spans[chunk->n_spans++] = (struct uz_span){begin, end};
    return UZ_OK;
}

/* Where the chunk lies in its file. */
static void place_chunk(const struct uz_plan *plan, uint64_t index, struct uz_chunk *chunk)
{
    const struct uz_out_file *file = &plan->out->files[chunk->file];
    uint64_t lead = lead_nbytes(file, plan->chunk_nbytes), data = data_nbytes(plan->out, file);
    uint64_t begin = (index - plan->first_chunk[chunk->file]) * plan->chunk_nbytes;
    uint64_t end = begin + plan->chunk_nbytes - lead;
    begin -= begin > 0 ? lead : 0;
    chunk->offset = file->head_nbytes + begin;
    chunk->nbytes = (end < data ? end : data) - begin;
}

int uz_plan_chunk(const struct uz_plan *plan, uint64_t index, struct uz_chunk *chunk,
                  struct uz_error *err)
{
    chunk->file = file_of_chunk(plan, index);
    const struct uz_out_file *file = &plan->out->files[chunk->file];
    place_chunk(plan, index, chunk);
    chunk->copies.n = 0;
    chunk->n_means = 0;
    chunk->n_spans = 0;
    chunk->n_parts = 0;
    size_t end = file->first_target + file->n_targets;
    for (size_t i = first_target_after(plan, file, chunk->offset); i < end; i++) {
        const struct uz_target *target = &plan->out->targets[i];
        if (target->offset >= chunk->offset + chunk->nbytes)
            break;
        if (plan->streamed && plan->streamed[i])
            continue;
        UZ_TRY(add_target(plan, chunk, target, err));
        UZ_TRY(add_span(plan, chunk, i, err));
    }
    return UZ_OK;
}
