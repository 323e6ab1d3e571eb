/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors: from PyTorch's rebuild calls to checked views of storages in the file. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "torch/file_impl.h"
#include "torch/storage_class.h"

/* Wrappers around one tensor: a parameter in a subclass in ... two occur. */
enum { MAX_WRAPPERS = 8, MAX_KEY_NBYTES = 200 };

/* A call that would make a tensor. */
struct call {
    const struct uz_node *node; /* for the place in messages */
    const struct uz_node *function;
    const struct uz_seq *args;
    const char *what;
};

/* A failure about the tensor, at the opcode that made `node`; a macro for uz_fail's reason. */
#define fail_tensor(file, node, what, status, err, ...)                                            \
    (describe_failure((file), (node), (what), (status), (err), __VA_ARGS__), (int)(status))

static void UZ_PRINTF(6, 7)
    describe_failure(const struct uz_torch_file *file, const struct uz_node *node, const char *what,
                     int status, struct uz_error *err, const char *fmt, ...)
{
    char text[768];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    uz_fill_error(err, status, uz_content_path(file->content), node ? node->offset : UZ_NO_OFFSET,
                  "%s: %s", what, text);
}

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

/* The storage of a file in the old container. */
static int place_old_storage(struct uz_torch_file *file, const struct call *call,
                             const struct uz_node *key, uint64_t nbytes, struct uz_storage *storage,
                             struct uz_error *err)
{
    char kind[300];
    uint64_t index;
    if (key->kind != UZ_NODE_STR ||
        !uz_legacy_find(file->legacy, key->u.text.data, key->u.text.nbytes, &index))
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "its storage, %s, is not in the file's list of storages",
                           uz_node_describe(key, kind, sizeof kind));
    const struct uz_legacy_storage *old = uz_legacy_storage(file->legacy, index);
    if (old->nbytes != nbytes)
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "its storage needs %" PRIu64 " bytes, the file has %" PRIu64, nbytes,
                           old->nbytes);
    bool packed = uz_content_is_packed(file->content);
    *storage = (struct uz_storage){
        .key = index,
        .offset = packed ? 0 : old->offset,
        .nbytes = nbytes,
        .entry = index,
        .packing = packed ? UZ_PACKED_ZSTD : UZ_PACKED_STORED,
    };
    return UZ_OK;
}

/* The index of the archive's entry ROOT/data/KEY. */
static int find_entry(const struct uz_torch_file *file, const struct call *call,
                      const struct uz_node *key, uint64_t *index, struct uz_error *err)
{
    char name[MAX_KEY_NBYTES + 8], kind[300];
    if (key->kind != UZ_NODE_STR || key->u.text.nbytes > MAX_KEY_NBYTES ||
        memchr(key->u.text.data, '\0', key->u.text.nbytes))
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "%s stands where the key of its storage must",
                           uz_node_describe(key, kind, sizeof kind));
    snprintf(name, sizeof name, "data/%.*s", (int)key->u.text.nbytes, key->u.text.data);
    char *full = uz_path_join(file->archive_root, name);
    if (!full)
        return uz_fail_nomem(err, sizeof name);
    bool found = uz_zip_find(file->zip, full, index);
    free(full);
    if (!found)
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "its storage '%s' is not in the archive", name);
    return UZ_OK;
}

/* Where the bytes of entry `index` lie; it must hold `nbytes`. */
static int place_storage(struct uz_torch_file *file, const struct call *call, uint64_t index,
                         uint64_t nbytes, struct uz_storage *storage, struct uz_error *err)
{
    struct uz_zip_entry entry;
    uint64_t offset = 0;
    int rc = uz_zip_stat(file->zip, index, &entry, err);
    if (rc == UZ_OK && entry.nbytes != nbytes)
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "its storage needs %" PRIu64 " bytes, the archive's entry '%s' has "
                           "%" PRIu64,
                           nbytes, uz_zip_name(file->zip, index), entry.nbytes);
    if (rc == UZ_OK)
        rc = uz_zip_offset(file->zip, index, &offset, err);
    if (rc < 0)
        return uz_context(err, rc, "%s", call->what);
    bool packed = uz_content_is_packed(file->content);
    if (packed && entry.deflated)
        return fail_tensor(file, call->node, call->what, UZ_UNSUPPORTED, err,
                           "deflated in a file that is compressed whole: decompress the file "
                           "first, zstd -d");
    *storage = (struct uz_storage){
        .key = index,
        .offset = packed || entry.deflated ? 0 : offset,
        .nbytes = nbytes,
        .entry = index,
        .packing = packed           ? UZ_PACKED_ZSTD
                   : entry.deflated ? UZ_PACKED_DEFLATE
                                    : UZ_PACKED_STORED,
        .big_endian = file->big_endian,
    };
    return UZ_OK;
}

/* Checks the persistent id ('storage', class, key, location, numel[, view]) as far as its class. */
static int storage_id(const struct uz_torch_file *file, const struct call *call,
                      const struct uz_node *node, const struct uz_seq **id, enum uz_dtype *dtype,
                      struct uz_error *err)
{
    char kind[300];
    const struct uz_seq *seq = node->kind == UZ_NODE_PERSID ? uz_node_list(node->u.persid) : NULL;
    if (!seq || seq->n < 5 || seq->n > 6 || !uz_node_is_str(seq->items[0], "storage"))
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "%s stands where its storage must",
                           uz_node_describe(node, kind, sizeof kind));
    bool known;
    *dtype = uz_storage_class_dtype(seq->items[1], &known);
    if (!known)
        return fail_tensor(file, call->node, call->what, UZ_UNSUPPORTED, err,
                           "unknown storage class %s",
                           uz_node_describe(seq->items[1], kind, sizeof kind));
    *id = seq;
    return UZ_OK;
}

/* The bytes of a storage that a tensor may use. */
struct part {
    uint64_t first, nbytes;
};

/*
 * PyTorch before 0.4 had storages that are views of others: (key, offset, size) in elements. The
 * view is a part of the storage that is in the file.
 */
static int read_part(const struct uz_torch_file *file, const struct call *call,
                     const struct uz_seq *id, uint64_t numel, size_t itemsize, struct part *part,
                     struct uz_error *err)
{
    *part = (struct part){0, numel * itemsize};
    if (id->n < 6 || uz_node_is_none(id->items[5]))
        return UZ_OK;
    const struct uz_seq *view = uz_node_list(id->items[5]);
    uint64_t first, n_elems;
    if (!view || view->n != 3 || !uz_node_u64(view->items[1], &first) ||
        !uz_node_u64(view->items[2], &n_elems) || first > numel || n_elems > numel - first)
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "its storage is no proper view of another storage");
    *part = (struct part){first * itemsize, n_elems * itemsize};
    return UZ_OK;
}

/* Resolves the storage. view->dtype is what the call says, or INVALID: as the storage's class. */
static int resolve_storage(struct uz_torch_file *file, const struct call *call,
                           const struct uz_node *node, struct uz_view *view, struct part *part,
                           struct uz_error *err)
{
    const struct uz_seq *id = NULL;
    enum uz_dtype dtype = UZ_DTYPE_INVALID;
    uint64_t numel, nbytes, index = 0;

    UZ_TRY(storage_id(file, call, node, &id, &dtype, err));
    if (dtype == UZ_DTYPE_INVALID && view->dtype == UZ_DTYPE_INVALID)
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "an untyped storage, and no dtype");
    if (view->dtype == UZ_DTYPE_INVALID)
        view->dtype = dtype;
    size_t itemsize = dtype == UZ_DTYPE_INVALID ? 1 : uz_dtype_size(dtype);
    if (id->items[4]->kind != UZ_NODE_INT || !uz_node_u64(id->items[4], &numel) ||
        !uz_mul_u64(numel, itemsize, &nbytes))
        return fail_tensor(file, call->node, call->what, UZ_CORRUPT, err,
                           "the size of its storage is no size");
    UZ_TRY(read_part(file, call, id, numel, itemsize, part, err));
    if (file->legacy)
        return place_old_storage(file, call, id->items[2], nbytes, &view->storage, err);
    UZ_TRY(find_entry(file, call, id->items[2], &index, err));
    return place_storage(file, call, index, nbytes, &view->storage, err);
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

int uz_torch_tensor(struct uz_torch_file *file, const struct uz_node *node, const char *what,
                    struct uz_view *view, struct uz_error *err)
{
    struct call call;
    const struct rebuild *rebuild = NULL;
    struct uz_view v = {.dtype = UZ_DTYPE_INVALID};
    struct part part;
    unsigned n_strides = 0;

    UZ_TRY(find_call(file, node, what, &call, err));
    UZ_TRY(find_rebuild(file, &call, &rebuild, err));
    const struct uz_node *const *args = call.args->items;
    if (rebuild->dtype_at)
        UZ_TRY(read_dtype(file, &call, args[rebuild->dtype_at], &v.dtype, err));
    if (rebuild->metadata_at && rebuild->metadata_at < call.args->n)
        UZ_TRY(check_metadata(file, &call, args[rebuild->metadata_at], err));
    UZ_TRY(resolve_storage(file, &call, args[0], &v, &part, err));
    if (args[1]->kind != UZ_NODE_INT || !uz_node_u64(args[1], &v.first))
        return fail_tensor(file, call.node, what, UZ_CORRUPT, err, "its offset is no offset");
    UZ_TRY(read_sizes(file, args[2], what, "size", &v.ndim, v.shape, err));
    UZ_TRY(read_sizes(file, args[3], what, "stride", &n_strides, v.stride, err));
    if (n_strides != v.ndim)
        return fail_tensor(file, call.node, what, UZ_CORRUPT, err, "%u sizes, but %u strides",
                           v.ndim, n_strides);
    UZ_TRY(measure(file, &call, &v, err));
    UZ_TRY(check_bounds(file, &call, &v, part.nbytes, err));
    if (part.first % uz_dtype_size(v.dtype))
        return fail_tensor(file, call.node, what, UZ_UNSUPPORTED, err,
                           "its storage begins in the middle of an element of another");
    v.first += part.first / uz_dtype_size(v.dtype);
    *view = v;
    return UZ_OK;
}
