/* SPDX-License-Identifier: Apache-2.0 */
/* What all that read a rank share: notes of states, and the end. */
#include "zero/reading.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void uz_reading_note_state(struct uz_reading *r, const char *name, size_t nbytes)
{
    char shown[128];
    size_t used = strlen(r->seen_states);
    uz_printable(shown, sizeof shown, name, nbytes);
    const char *at = strstr(r->seen_states, shown);
    size_t n = strlen(shown);
    for (; at; at = strstr(at + n, shown)) /* whole names only: exp_avg is a part of exp_avg_sq */
        if ((at == r->seen_states || at[-1] == ' ') && (at[n] == ',' || at[n] == '\0'))
            return;
    snprintf(r->seen_states + used, sizeof r->seen_states - used, "%s%s", used ? ", " : "", shown);
}

int uz_reading_need_seen(struct uz_reading *r, struct uz_error *err)
{
    if (!r->has_seen)
        UZ_TRY(uz_seen_init(&r->seen, err));
    r->has_seen = true;
    return UZ_OK;
}

void uz_reading_free(struct uz_reading *r)
{
    uz_experts_free(&r->experts);
    uz_params_free(&r->params);
    if (r->has_shapes)
        uz_model_free(&r->shapes);
    if (r->owns_layers) {
        uz_stage0_layers_free(r->layers);
        free(r->layers);
    }
    for (uint64_t rank = 0; r->shards && rank < r->world; rank++)
        uz_optim_shard_free(&r->shards[rank]);
    for (uint64_t rank = 0; r->frozen_slices && rank < r->world; rank++)
        free(r->frozen_slices[rank]);
    if (r->has_seen)
        uz_seen_free(&r->seen);
    free(r->frozen_slices);
    free(r->shards);
    free(r->optim_files);
    free(r->model_files);
    free(r->metadata);
    free(r->buffers);
}
