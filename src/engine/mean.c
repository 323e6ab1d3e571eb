/* SPDX-License-Identifier: Apache-2.0 */
/* Adds up what the ranks hold, block by block. */
#include "engine/mean.h"

#include <stdlib.h>

#include "engine/arith.h"
#include "engine/convert.h"

/* Two blocks of elements of any size: reads of 256 KiB of fp32. */
enum { MAX_ELEM_NBYTES = 8, BLOCK_ELEMS = UZ_MEAN_NBYTES / 2 / MAX_ELEM_NBYTES };

/* What the pieces of one summand hold of a block, as stored. */
static int read_layer(struct uz_gather *gather, struct uz_copies *copies,
                      const struct uz_region *region, unsigned char *to, struct uz_error *err)
{
    copies->n = 0;
    UZ_TRY(uz_copies_add(copies, gather->model, region, region->from, 0, err));
    return uz_gather_copies(gather, copies->items, copies->n, to, err);
}

static int sum_layers(struct uz_gather *gather, struct uz_copies *copies,
                      const struct uz_tensor *tensor, uint64_t lo, uint64_t hi,
                      struct uz_error *err)
{
    const struct uz_model *model = gather->model;
    unsigned char *sum = gather->summands;
    unsigned char *next = sum + (size_t)BLOCK_ELEMS * MAX_ELEM_NBYTES;
    struct uz_region region = {
        .pieces = &model->pieces[tensor->first_piece],
        .n_pieces = tensor->n_pieces,
        .from = tensor->dtype,
        .lo = lo,
        .hi = hi,
    };
    size_t n = (size_t)(hi - lo), n_summands = 1;
    UZ_TRY(read_layer(gather, copies, &region, sum, err));
    uz_arith_add_number(gather->ops, tensor->dtype, sum, n, 0); /* -0 + 0 is 0 */
    for (uint32_t i = 0; i < tensor->n_layers; i++) {
        const struct uz_layer *layer = &model->layers[tensor->first_layer + i];
        if (layer->op != UZ_LAYER_MEAN)
            continue;
        region.pieces = &model->layer_pieces[layer->first_piece];
        region.n_pieces = layer->n_pieces;
        UZ_TRY(read_layer(gather, copies, &region, next, err));
        uz_arith_add(gather->ops, tensor->dtype, sum, next, n);
        n_summands++;
    }
    uz_arith_divide(gather->ops, tensor->dtype, sum, n, (double)n_summands);
    return UZ_OK;
}

int uz_gather_mean(struct uz_gather *gather, struct uz_copies *copies, uint32_t index, uint64_t lo,
                   uint64_t hi, enum uz_dtype to, unsigned char *out, struct uz_error *err)
{
    const struct uz_tensor *tensor = &gather->model->tensors[index];
    const struct uz_conversion how = {.from = tensor->dtype, .to = to};
    if (!uz_arith_knows(tensor->dtype))
        return uz_fail(err, UZ_UNSUPPORTED, "%s is to be averaged, but its elements are %s",
                       tensor->name, uz_dtype_name(tensor->dtype));
    if (!gather->summands)
        UZ_TRY(uz_alloc(&gather->summands, 2 * (uint64_t)BLOCK_ELEMS, MAX_ELEM_NBYTES, err));
    for (uint64_t end; lo < hi; lo = end) {
        end = hi - lo > BLOCK_ELEMS ? lo + BLOCK_ELEMS : hi;
        UZ_TRY(sum_layers(gather, copies, tensor, lo, end, err));
        gather->n_overflows +=
            uz_convert_elems(gather->ops, how, out, gather->summands, (size_t)(end - lo));
        out += (end - lo) * uz_dtype_size(to);
    }
    return UZ_OK;
}
