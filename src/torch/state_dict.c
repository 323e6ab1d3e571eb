/* SPDX-License-Identifier: Apache-2.0 */
/* The pickle of a state dict: what torch.save makes of an OrderedDict of tensors. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "torch/file.h"
#include "torch/pickle_write.h"
#include "torch/storage_class.h"

/* CPython's pickler hands items over in batches of that many. */
enum { BATCH = 1000 };

#define NOT_YET UINT64_MAX

/* Numbers in the memo of what comes more than once; NOT_YET before its first time. */
struct words {
    uint64_t ordered_dict, storage, cpu, untyped_storage;
    uint64_t rebuild_v2, rebuild_v3;
    uint64_t storage_class[UZ_DTYPE_COUNT];
    uint64_t dtype[UZ_DTYPE_COUNT];
};

struct state_dict {
    struct uz_pickler pickler;
    struct words words;
    uint64_t *objects; /* memo numbers of the tensors */
    uint64_t n_storages;
};

/* Pushes a class or function: by name the first time, by its number later. */
static void push_global(struct uz_pickler *pickler, uint64_t *number, const char *module,
                        const char *name)
{
    if (*number != NOT_YET) {
        uz_pickle_get(pickler, *number);
        return;
    }
    uz_pickle_global(pickler, module, name);
    *number = uz_pickle_put(pickler);
}

static void push_word(struct uz_pickler *pickler, uint64_t *number, const char *text)
{
    if (*number != NOT_YET) {
        uz_pickle_get(pickler, *number);
        return;
    }
    uz_pickle_str(pickler, text, strlen(text));
    *number = uz_pickle_put(pickler);
}

static void push_empty_ordered_dict(struct state_dict *dict)
{
    push_global(&dict->pickler, &dict->words.ordered_dict, "collections", "OrderedDict");
    uz_pickle_op(&dict->pickler, UZ_OP_EMPTY_TUPLE);
    uz_pickle_op(&dict->pickler, UZ_OP_REDUCE);
    uz_pickle_put(&dict->pickler);
}

static uint64_t numel_of(const struct uz_saved_tensor *tensor)
{
    uint64_t numel = 1;
    for (unsigned j = 0; j < tensor->ndim; j++)
        numel *= tensor->shape[j]; /* readers have proven that its bytes fit 63 bits */
    return numel;
}

/* ('storage', class, key, 'cpu', size): in elements, or in bytes if the class has no dtype. */
static void push_storage(struct state_dict *dict, const struct uz_saved_tensor *tensor)
{
    struct uz_pickler *pickler = &dict->pickler;
    const char *class = uz_storage_class(tensor->dtype);
    uint64_t numel = numel_of(tensor);
    char key[24];
    int n = snprintf(key, sizeof key, "%" PRIu64, dict->n_storages++);
    uz_pickle_open_tuple(pickler, 5);
    push_word(pickler, &dict->words.storage, "storage");
    if (class)
        push_global(pickler, &dict->words.storage_class[tensor->dtype], "torch", class);
    else
        push_global(pickler, &dict->words.untyped_storage, "torch.storage", "UntypedStorage");
    uz_pickle_str(pickler, key, (size_t)n);
    uz_pickle_put(pickler);
    push_word(pickler, &dict->words.cpu, "cpu");
    uz_pickle_int(pickler, (int64_t)(class ? numel : numel * uz_dtype_size(tensor->dtype)));
    uz_pickle_close_tuple(pickler, 5);
    uz_pickle_put(pickler);
    uz_pickle_op(pickler, UZ_OP_BINPERSID);
}

static void push_sizes(struct uz_pickler *pickler, const uint64_t *sizes, unsigned n)
{
    uz_pickle_open_tuple(pickler, n);
    for (unsigned j = 0; j < n; j++)
        uz_pickle_int(pickler, (int64_t)sizes[j]);
    uz_pickle_close_tuple(pickler, n);
    if (n > 0)
        uz_pickle_put(pickler);
}

/* PyTorch counts a dimension without elements as one of one element. */
static void push_strides(struct uz_pickler *pickler, const struct uz_saved_tensor *tensor)
{
    uint64_t strides[UZ_MAX_NDIM] = {0}, stride = 1;
    for (unsigned j = tensor->ndim; j-- > 0;) {
        strides[j] = stride;
        stride *= tensor->shape[j] ? tensor->shape[j] : 1;
    }
    push_sizes(pickler, strides, tensor->ndim);
}

static void push_tensor(struct state_dict *dict, const struct uz_saved_tensor *tensor)
{
    struct uz_pickler *pickler = &dict->pickler;
    bool typed = uz_storage_class(tensor->dtype) != NULL;
    if (typed)
        push_global(pickler, &dict->words.rebuild_v2, "torch._utils", "_rebuild_tensor_v2");
    else
        push_global(pickler, &dict->words.rebuild_v3, "torch._utils", "_rebuild_tensor_v3");
    uz_pickle_op(pickler, UZ_OP_MARK);
    push_storage(dict, tensor);
    uz_pickle_int(pickler, 0);
    push_sizes(pickler, tensor->shape, tensor->ndim);
    push_strides(pickler, tensor);
    uz_pickle_bool(pickler, false); /* requires_grad */
    push_empty_ordered_dict(dict);  /* hooks */
    if (!typed)
        push_global(pickler, &dict->words.dtype[tensor->dtype], "torch",
                    uz_dtype_torch_name(tensor->dtype));
    uz_pickle_op(pickler, UZ_OP_TUPLE);
    uz_pickle_put(pickler);
    uz_pickle_op(pickler, UZ_OP_REDUCE);
}

static void push_item(struct state_dict *dict, const struct uz_saved_tensor *tensors, size_t i)
{
    uz_pickle_str(&dict->pickler, tensors[i].name, strlen(tensors[i].name));
    uz_pickle_put(&dict->pickler);
    if (tensors[i].same_as != i) {
        uz_pickle_get(&dict->pickler, dict->objects[tensors[i].same_as]);
        return;
    }
    push_tensor(dict, &tensors[i]);
    dict->objects[i] = uz_pickle_put(&dict->pickler);
}

static void push_items(struct state_dict *dict, const struct uz_saved_tensor *tensors, size_t n)
{
    for (size_t first = 0; first < n; first += BATCH) {
        size_t n_batch = n - first < BATCH ? n - first : BATCH;
        if (n_batch > 1)
            uz_pickle_op(&dict->pickler, UZ_OP_MARK);
        for (size_t i = 0; i < n_batch; i++)
            push_item(dict, tensors, first + i);
        uz_pickle_op(&dict->pickler, n_batch > 1 ? UZ_OP_SETITEMS : UZ_OP_SETITEM);
    }
}

/* Sizes, strides and numbers of elements must be numbers that PyTorch can hold: 63 bits. */
static int check_tensor(const struct uz_saved_tensor *tensors, size_t i, struct uz_error *err)
{
    const struct uz_saved_tensor *tensor = &tensors[i];
    uint64_t product = 1;
    bool fits = tensor->ndim <= UZ_MAX_NDIM;
    for (unsigned j = 0; fits && j < tensor->ndim; j++)
        fits = uz_mul_u64(product, tensor->shape[j] ? tensor->shape[j] : 1, &product) &&
               product <= INT64_MAX / 8;
    if (!fits)
        return uz_fail(err, UZ_UNSUPPORTED, "%s has a shape that PyTorch cannot hold",
                       tensor->name);
    if (!uz_dtype_torch_name(tensor->dtype))
        return uz_fail(err, UZ_UNSUPPORTED, "PyTorch has no dtype %s, which %s has",
                       uz_dtype_name(tensor->dtype), tensor->name);
    return UZ_OK;
}

int uz_pickle_state_dict(struct uz_bytes *to, const struct uz_saved_tensor *tensors, size_t n,
                         struct uz_error *err)
{
    struct state_dict dict = {0};
    for (size_t i = 0; i < n; i++)
        UZ_TRY(check_tensor(tensors, i, err));
    UZ_TRY(uz_alloc(&dict.objects, n, sizeof *dict.objects, err));
    memset(&dict.words, 0xff, sizeof dict.words); /* NOT_YET, all of them */
    uz_pickle_start(&dict.pickler, to);
    push_empty_ordered_dict(&dict);
    push_items(&dict, tensors, n);
    uz_pickle_op(&dict.pickler, UZ_OP_STOP);
    free(dict.objects);
    return uz_bytes_check(to, err);
}
