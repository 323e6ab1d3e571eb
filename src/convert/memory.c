/* SPDX-License-Identifier: Apache-2.0 */
/* Fits buffers and threads to a bound on memory. */
#include "convert/memory.h"

#include <limits.h>

/* What the process takes before any input is read: code, libraries, stacks. */
#define BASE_NBYTES ((uint64_t)6 * 1024 * 1024)

enum { LARGEST_BUFFER = 4 * 1024 * 1024, SMALLEST_BUFFER = 64 * 1024 };

/* An entry of the map from names to tensors, with its share of buckets. */
enum { NAME_NBYTES = 96, LARGEST_CHUNK_ENTRY = sizeof(struct uz_copy) + sizeof(struct uz_tile) };

static uint64_t blobs_memory(const struct uz_out_file *file)
{
    uint64_t nbytes = file->n_blobs * sizeof *file->blobs + file->n_crcs * sizeof *file->crcs;
    for (size_t i = 0; i < file->n_blobs; i++)
        nbytes += file->blobs[i].nbytes;
    return nbytes;
}

uint64_t uz_model_memory(const struct uz_model *model)
{
    return uz_arena_used(model->arena) + model->cap_places * sizeof *model->places +
           model->cap_tensors * (sizeof *model->tensors + NAME_NBYTES) +
           model->cap_pieces * sizeof *model->pieces +
           model->cap_lp_pieces * sizeof *model->lp_pieces +
           model->cap_layers * sizeof *model->layers +
           model->cap_layer_pieces * sizeof *model->layer_pieces +
           model->cap_partitions * sizeof *model->partitions +
           model->cap_aliases * sizeof *model->aliases;
}

uint64_t uz_out_memory(const struct uz_out *out)
{
    uint64_t nbytes = out->cap_targets * sizeof *out->targets + out->cap_files * sizeof *out->files;
    for (size_t i = 0; i < out->n_files; i++)
        nbytes += out->files[i].head_nbytes + blobs_memory(&out->files[i]);
    return nbytes;
}

uint64_t uz_tables_memory(const struct uz_model *model, const struct uz_items *items,
                          const struct uz_out *out)
{
    uint64_t nbytes = uz_model_memory(model) + uz_out_memory(out);
    nbytes += items->n * sizeof *items->items + items->n_dropped * sizeof *items->dropped +
              items->n_left_out * sizeof *items->left_out +
              items->n_renamed * sizeof *items->renamed + uz_arena_used(items->arena);
    /* what one chunk draws on, if tensors were spread evenly, and some more */
    uint64_t n_chunks = out->data_nbytes / LARGEST_BUFFER + 1;
    return nbytes + 4 * (model->n_pieces + out->n_targets) / n_chunks * LARGEST_CHUNK_ENTRY;
}

uint64_t uz_stream_memory(const struct uz_model *model)
{
    uint64_t most = 0;
    for (size_t i = 0; i < model->n_places; i++)
        if (model->places[i].packing == UZ_PACKED_ZSTD && model->places[i].stream_nbytes > most)
            most = model->places[i].stream_nbytes;
    return most;
}

uint64_t uz_run_memory(const struct uz_engine_options *engine, uint64_t tables_nbytes)
{
    return BASE_NBYTES + tables_nbytes + uz_engine_memory(engine);
}

int uz_fit_memory(unsigned threads, uint64_t max_memory, uint64_t tables_nbytes,
                  struct uz_engine_options *engine, struct uz_error *err)
{
    engine->threads = threads;
    engine->buffer_nbytes = LARGEST_BUFFER;
    engine->cpu_mask = UINT_MAX;
    while (max_memory && uz_run_memory(engine, tables_nbytes) > max_memory) {
        if (engine->buffer_nbytes > SMALLEST_BUFFER)
            engine->buffer_nbytes /= 2;
        else if (engine->threads > 1)
            engine->threads--;
        else
            return uz_fail(err, UZ_LIMIT,
                           "--max-memory allows %llu bytes, this checkpoint needs at least %llu",
                           (unsigned long long)max_memory,
                           (unsigned long long)uz_run_memory(engine, tables_nbytes));
    }
    return UZ_OK;
}
