/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors: from PyTorch's rebuild calls to checked views of storages in the file. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "torch/file_impl.h"
#include "torch/storage_class.h"
#include "torch/tensor_impl.h"

/* Wrappers around one tensor: a parameter in a subclass in ... two occur. */
enum { MAX_WRAPPERS = 8 };

/* A call that would make a tensor. */
struct call {
    const struct uz_node *node; /* for the place in messages */
    const struct uz_node *function;
    const struct uz_seq *args;
    const char *what;
};

static bool has_prefix(const struct uz_text *text, const char *prefix)
{
    size_t nbytes = strlen(prefix);
    return text->nbytes >= nbytes && memcmp(text->data, prefix, nbytes) == 0;
}

bool uz_torch_is_tensor(const struct uz_node *node)
{
    const struct uz_node *function = uz_node_class(node);
    if (!function)
        return false;
    const struct uz_global *global = &function->u.global;
    if (has_prefix(&global->module, "torch.nn.parameter"))
        return true;
    return has_prefix(&global->module, "torch.") && has_prefix(&global->name, "_rebuild_");
}

/* Takes parameter and subclass wrappers off until a call is left that names a storage. */
static int unwrap(const struct uz_torch_file *file, struct call *call, struct uz_error *err)
{
    const struct uz_node *function = call->function;
    const struct uz_node *inner = NULL;
    if (!call->args || !function || function->kind != UZ_NODE_GLOBAL)
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "a broken call where a tensor must stand");
    if (uz_node_is_global(function, "torch._utils", "_rebuild_parameter") ||
        uz_node_is_global(function, "torch._utils", "_rebuild_parameter_with_state")) {
        if (call->args->n > 0)
            inner = call->args->items[0];
        if (!uz_node_class(inner))
            return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                               "a parameter that holds no tensor");
        call->node = inner;
        call->function = inner->u.object->callable;
        call->args = uz_node_list(inner->u.object->args);
        return 1;
    }
    if (uz_node_is_global(function, "torch._tensor", "_rebuild_from_type_v2") ||
        uz_node_is_global(function, "torch._tensor", "_rebuild_from_type")) {
        if (call->args->n != 4)
            return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                               "a tensor subclass of %zu values, not 4", call->args->n);
        call->function = call->args->items[0];
        call->args = uz_node_list(call->args->items[2]);
        return 1;
    }
    return UZ_OK;
}

static int find_call(const struct uz_torch_file *file, const struct uz_node *node, const char *what,
                     struct call *call, struct uz_error *err)
{
    char kind[300];
    if (!uz_node_class(node))
        return fail_tensor(file, node, what, UZ_CORRUPT, err, "%s stands where a tensor must",
                           uz_node_describe(node, kind, sizeof kind));
    *call = (struct call){node, node->u.object->callable, uz_node_list(node->u.object->args), what};
    for (int i = 0; i < MAX_WRAPPERS; i++) {
        int rc = unwrap(file, call, err);
        if (rc <= 0)
            return rc;
    }
    return fail_tensor(file, node, what, UZ_UNSUPPORTED, err, "more than %d wrappers around it",
                       MAX_WRAPPERS);
}

static int read_sizes(const struct uz_torch_file *file, const struct uz_node *node,
                      const char *what, const char *noun, unsigned *ndim,
                      uint64_t sizes[UZ_MAX_NDIM], struct uz_error *err)
{
    char kind[300];
    const struct uz_seq *seq = uz_node_list(node);
    if (uz_node_is_object(node, "torch", "Size")) {
        const struct uz_seq *args = uz_node_list(node->u.object->args);
        seq = args->n == 1 ? uz_node_list(args->items[0]) : NULL;
    }
    if (!seq)
        return fail_tensor(file, node, what, UZ_CORRUPT, err, "%s stands where its %s must",
                           uz_node_describe(node, kind, sizeof kind), noun);
    if (seq->n > UZ_MAX_NDIM)
        return fail_tensor(file, node, what, UZ_UNSUPPORTED, err, "%zu dimensions, the most are %d",
                           seq->n, UZ_MAX_NDIM);
    for (size_t i = 0; i < seq->n; i++) {
        const struct uz_node *item = seq->items[i];
        if (item->kind != UZ_NODE_INT)
            return fail_tensor(file, item, what, UZ_CORRUPT, err, "%s number %zu is %s", noun, i,
                               uz_node_describe(item, kind, sizeof kind));
        if (item->u.integer < 0)
            return fail_tensor(file, item, what, UZ_CORRUPT, err, "%s number %zu is %" PRId64, noun,
                               i, item->u.integer);
        sizes[i] = (uint64_t)item->u.integer;
    }
    *ndim = (unsigned)seq->n;
    return UZ_OK;
}

int uz_torch_shape(const struct uz_torch_file *file, const struct uz_node *node, const char *what,
                   unsigned *ndim, uint64_t shape[UZ_MAX_NDIM], struct uz_error *err)
{
    return read_sizes(file, node, what, "size", ndim, shape, err);
}

/* The conj and neg bits change what the bytes mean; refuse what is not plain data. */
static int check_metadata(const struct uz_torch_file *file, const struct call *call,
                          const struct uz_node *metadata, struct uz_error *err)
{
    const struct uz_dict *dict = uz_node_dict(metadata);
    char kind[300];
    if (uz_node_is_none(metadata))
        return UZ_OK;
    if (!dict)
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "%s stands where its metadata must",
                           uz_node_describe(metadata, kind, sizeof kind));
    for (size_t i = 0; i < dict->n; i++) {
        const struct uz_node *key = dict->pairs[i].key, *value = dict->pairs[i].value;
        bool off = value->kind == UZ_NODE_BOOL && !value->u.boolean;
        if (!off && (uz_node_is_str(key, "conj") || uz_node_is_str(key, "neg")))
            return fail_tensor(file, call->node, call->what, UZ_UNSUPPORTED, err,
                               "a view that changes values: its '%.*s' bit is set",
                               (int)key->u.text.nbytes, key->u.text.data);
    }
    return UZ_OK;
}

static int read_dtype(const struct uz_torch_file *file, const struct call *call,
                      const struct uz_node *node, enum uz_dtype *dtype, struct uz_error *err)
{
    char kind[300];
    *dtype = UZ_DTYPE_INVALID;
    if (node->kind == UZ_NODE_GLOBAL && uz_node_is_global(node, "torch", node->u.global.name.data))
        *dtype = uz_dtype_parse(node->u.global.name.data);
    if (*dtype == UZ_DTYPE_INVALID)
        return fail_tensor(file, call->node, call->what, UZ_UNSUPPORTED, err, "unknown dtype: %s",
                           uz_node_describe(node, kind, sizeof kind));
    return UZ_OK;
}

/* What each known rebuild function takes after (storage, offset, size, stride). */
struct rebuild {
    const char *name;
    size_t n_min, n_max;
    size_t dtype_at, metadata_at; /* 0: none */
};

static int find_rebuild(const struct uz_torch_file *file, const struct call *call,
                        const struct rebuild **out, struct uz_error *err)
{
    static const struct rebuild rebuilds[] = {
        {"_rebuild_tensor_v2", 6, 7, 0, 6},
        {"_rebuild_tensor_v3", 7, 8, 6, 7},
        {"_rebuild_tensor", 4, 4, 0, 0},
    };
    char kind[300];
    for (size_t i = 0; i < sizeof rebuilds / sizeof rebuilds[0]; i++) {
        if (!uz_node_is_global(call->function, "torch._utils", rebuilds[i].name))
            continue;
        if (call->args->n < rebuilds[i].n_min || call->args->n > rebuilds[i].n_max)
            return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                               "%s with %zu arguments", rebuilds[i].name, call->args->n);
        *out = &rebuilds[i];
        return UZ_OK;
    }
    return fail_tensor(file, call->node, call->what, UZ_UNSUPPORTED, err,
                       "a tensor of a kind that is not plain data: %s",
                       uz_node_describe(call->function, kind, sizeof kind));
}

/* Number of elements, and whether they lie row-major without gaps. */
static int measure(const struct uz_torch_file *file, const struct call *call, struct uz_view *view,
                   struct uz_error *err)
{
    uint64_t numel = 1;
    bool empty = false;
    for (unsigned i = 0; i < view->ndim; i++)
        empty = empty || view->shape[i] == 0;
    view->contiguous = true;
    view->numel = 0;
    if (empty)
        return UZ_OK;
    for (unsigned i = view->ndim; i > 0; i--) {
        if (view->shape[i - 1] != 1 && view->stride[i - 1] != numel)
            view->contiguous = false;
        if (!uz_mul_u64(numel, view->shape[i - 1], &numel))
            return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                               "its size does not fit 64 bits");
    }
    view->numel = numel;
    return UZ_OK;
}

/* The view must not leave its storage: its last element is the farthest, as no stride is < 0. */
static int check_bounds(const struct uz_torch_file *file, const struct call *call,
                        const struct uz_view *view, uint64_t storage_nbytes, struct uz_error *err)
{
    uint64_t n_elems = storage_nbytes / uz_dtype_size(view->dtype);
    uint64_t last = view->first;
    bool inside = view->numel > 0 || view->first <= n_elems;
    for (unsigned i = 0; inside && view->numel > 0 && i < view->ndim; i++) {
        uint64_t step;
        inside =
            uz_mul_u64(view->shape[i] - 1, view->stride[i], &step) && uz_add_u64(last, step, &last);
    }
    if (view->numel > 0)
        inside = inside && last < n_elems;
    if (!inside)
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "its view, from element %" PRIu64 " on, leaves its storage of %" PRIu64
                           " elements",
                           view->first, n_elems);
    return UZ_OK;
}

/* Storages whose elements are no plain numbers, or of no known type, are refused before their sizes
 * are looked at. */
static int check_class(const struct uz_torch_file *file, const struct call *call,
                       const struct uz_node *storage, enum uz_dtype dtype, struct uz_error *err)
{
    const struct uz_seq *id =
        storage->kind == UZ_NODE_PERSID ? uz_node_list(storage->u.persid) : NULL;
    char kind[300];
    bool plain;
    if (!id || id->n < 2)
        return UZ_OK; /* no storage at all, which is found when it is resolved */
    enum uz_dtype of_class = uz_storage_class_dtype(id->items[1], &plain);
    if (plain && of_class == UZ_DTYPE_INVALID && dtype == UZ_DTYPE_INVALID)
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "an untyped storage, and no dtype");
    if (!plain)
        return fail_tensor(file, call->node, call->what, UZ_UNSUPPORTED, err,
                           "unknown storage class %s",
                           uz_node_describe(id->items[1], kind, sizeof kind));
    return UZ_OK;
}

int uz_torch_tensor(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                    struct uz_view *view, struct uz_error *err)
{
    struct call call;
    const struct rebuild *rebuild = NULL;
    struct uz_view v = {.dtype = UZ_DTYPE_INVALID};
    struct uz_storage_ref ref;
    unsigned n_strides = 0;

    UZ_TRY(find_call(file, node, what, &call, err));
    UZ_TRY(find_rebuild(file, &call, &rebuild, err));
    const struct uz_node *const *args = call.args->items;
    if (rebuild->dtype_at)
        UZ_TRY(read_dtype(file, &call, args[rebuild->dtype_at], &v.dtype, err));
    if (rebuild->metadata_at && rebuild->metadata_at < call.args->n)
        UZ_TRY(check_metadata(file, &call, args[rebuild->metadata_at], err));
    UZ_TRY(check_class(file, &call, args[0], v.dtype, err));
    UZ_TRY(uz_torch_storage(file, args[0], what, &ref, err));
    if (v.dtype == UZ_DTYPE_INVALID)
        v.dtype = ref.dtype;
    v.storage = ref.storage;
    if (args[1]->kind != UZ_NODE_INT || !uz_node_u64(args[1], &v.first))
        return fail_tensor(file, call.node, what, UZ_CORRUPT, err, "its offset is no offset");
    UZ_TRY(read_sizes(file, args[2], what, "size", &v.ndim, v.shape, err));
    UZ_TRY(read_sizes(file, args[3], what, "stride", &n_strides, v.stride, err));
    if (n_strides != v.ndim)
        return fail_tensor(file, call.node, what, UZ_CORRUPT, err, "%u sizes, but %u strides",
                           v.ndim, n_strides);
    UZ_TRY(measure(file, &call, &v, err));
    UZ_TRY(check_bounds(file, &call, &v, ref.nbytes, err));
    if (ref.first % uz_dtype_size(v.dtype))
        return fail_tensor(file, call.node, what, UZ_UNSUPPORTED, err,
                           "its storage begins in the middle of an element of another");
    v.first += ref.first / uz_dtype_size(v.dtype);
    *view = v;
    return UZ_OK;
}
