/* SPDX-License-Identifier: Apache-2.0 */
/* The law of memory: a base, the model, and two buffers for each thread. */
#ifndef UZ_CONVERT_MEMORY_H
#define UZ_CONVERT_MEMORY_H

#include "engine/engine.h"
#include "layout/model.h"
#include "out/items.h"
#include "out/target.h"

/* Bytes that a finished model takes, and the layout of an output. */
uint64_t uz_model_memory(const struct uz_model *model);
uint64_t uz_out_memory(const struct uz_out *out);

/* Bytes that a finished model, the selected items, and the layout of the output take. */
uint64_t uz_tables_memory(const struct uz_model *model, const struct uz_items *items,
                          const struct uz_out *out);

/* Bytes that a run takes in all. */
uint64_t uz_run_memory(const struct uz_engine_options *engine, uint64_t tables_nbytes);

/*
 * Bytes that a thread takes while it goes through a source that is compressed whole: the decoder's
 * window, what is kept of the content, and the value graph. 0 if there is none.
 */
uint64_t uz_stream_memory(const struct uz_model *model);

/*
 * Chooses buffer size and threads: 4 MiB for each buffer, less (then fewer threads) if max_memory
 * (bytes, 0: no bound) asks for it. engine->stream_nbytes is set already. UZ_LIMIT if even the
 * smallest run needs more.
 */
int uz_fit_memory(unsigned threads, uint64_t max_memory, uint64_t tables_nbytes,
                  struct uz_engine_options *engine, struct uz_error *err);

#endif
