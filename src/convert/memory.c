/* SPDX-License-Identifier: Apache-2.0 */
/* Fits buffers and threads to a bound on memory. */
#include "convert/memory.h"

#include <limits.h>

/* What the process takes before any input is read: code, libraries, stacks. */
#define BASE_NBYTES ((uint64_t)6 * 1024 * 1024)

enum { LARGEST_BUFFER = 4 * 1024 * 1024, SMALLEST_BUFFER = 64 * 1024 };

uint64_t uz_model_memory(const struct uz_model *model)
{
    return uz_arena_used(model->arena) + model->cap_places * sizeof *model->places +
           model->cap_tensors * (sizeof *model->tensors + sizeof(struct uz_alias)) +
           model->cap_pieces * sizeof *model->pieces +
           model->cap_lp_pieces * sizeof *model->lp_pieces;
}

uint64_t uz_run_memory(const struct uz_engine_options *engine, uint64_t model_nbytes)
{
    return BASE_NBYTES + model_nbytes + uz_engine_memory(engine);
}

int uz_fit_memory(unsigned threads, uint64_t max_memory, uint64_t model_nbytes,
                  struct uz_engine_options *engine, struct uz_error *err)
{
    engine->threads = threads;
    engine->buffer_nbytes = LARGEST_BUFFER;
    engine->cpu_mask = UINT_MAX;
    while (max_memory && uz_run_memory(engine, model_nbytes) > max_memory) {
        if (engine->buffer_nbytes > SMALLEST_BUFFER)
            engine->buffer_nbytes /= 2;
        else if (engine->threads > 1)
            engine->threads--;
        else
            return uz_fail(err, UZ_LIMIT,
                           "--max-memory allows %llu bytes, this checkpoint needs at least %llu",
                           (unsigned long long)max_memory,
                           (unsigned long long)uz_run_memory(engine, model_nbytes));
    }
    return UZ_OK;
}
