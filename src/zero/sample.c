/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the first elements of a stored tensor. */
#include "zero/sample.h"

static void swap_elems(unsigned char *bytes, size_t n_elems, size_t size)
{
    for (size_t i = 0; i < n_elems; i++)
        for (size_t k = 0; k < size / 2; k++) {
            unsigned char kept = bytes[i * size + k];
            bytes[i * size + k] = bytes[(i + 1) * size - 1 - k];
            bytes[(i + 1) * size - 1 - k] = kept;
        }
}

/* Element number `index`, row-major, of a strided array: where it lies. */
static uint64_t strided_place(unsigned ndim, const uint64_t *shape, const uint64_t *stride,
                              uint64_t index)
{
    uint64_t place = 0;
    for (unsigned j = ndim; j-- > 0;) {
        place += index % shape[j] * stride[j];
        index /= shape[j];
    }
    return place;
}

int uz_sample_read(struct uz_torch_file *file, const struct uz_view *view, uint64_t skip,
                   uint32_t n, unsigned char *bytes, struct uz_error *err)
{
    const struct uz_storage *storage = &view->storage;
    const uint64_t *stride = view->contiguous ? NULL : view->stride;
    uint64_t first = view->first + skip;
    size_t size = uz_dtype_size(view->dtype);
    if (!stride)
        UZ_TRY(uz_torch_read(file, storage, first * size, bytes, n * size, err));
    for (uint32_t i = 0; stride && i < n; i++)
        UZ_TRY(uz_torch_read(file, storage,
                             (first + strided_place(view->ndim, view->shape, stride, i)) * size,
                             bytes + i * size, size, err));
    if (storage->big_endian)
        swap_elems(bytes, n, size);
    return UZ_OK;
}
