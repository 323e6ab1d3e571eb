/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the PyTorch reader: the bytes are read as a pickle and as a whole file. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "torch/file.h"
#include "torch/pickle.h"

/* Nodes visited at most; a graph may be cyclic, or endless when expanded. */
enum { MAX_VISITS = 4096, MAX_PENDING = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);

/* Small, so that what hits a cap in real use hits it here, too. */
static void small_limits(struct uz_limits *limits)
{
    uz_limits_default(limits);
    limits->max_pickle_bytes = 1 << 16;
    limits->max_pickle_nodes = 1 << 12;
    limits->max_pickle_arena = 1 << 20;
    limits->max_pickle_stack = 1 << 10;
    limits->max_pickle_memo = 1 << 11;
    limits->max_zip_entries = 1 << 8;
    limits->max_name_bytes = 1 << 8;
}

struct walk {
    const struct uz_node *pending[MAX_PENDING];
    size_t n_pending, n_visits;
};

static void later(struct walk *walk, const struct uz_node *node)
{
    if (node && walk->n_pending < MAX_PENDING)
        walk->pending[walk->n_pending++] = node;
}

static void later_seq(struct walk *walk, const struct uz_seq *seq)
{
    for (size_t i = 0; i < seq->n; i++)
        later(walk, seq->items[i]);
}

static void later_dict(struct walk *walk, const struct uz_dict *dict)
{
    for (size_t i = 0; i < dict->n; i++) {
        later(walk, dict->pairs[i].key);
        later(walk, dict->pairs[i].value);
    }
}

static void later_children(struct walk *walk, const struct uz_node *node)
{
    switch (node->kind) {
    case UZ_NODE_TUPLE:
    case UZ_NODE_LIST:
    case UZ_NODE_SET:
    case UZ_NODE_FROZENSET:
        later_seq(walk, &node->u.seq);
        break;
    case UZ_NODE_DICT:
        later_dict(walk, &node->u.dict);
        break;
    case UZ_NODE_PERSID:
        later(walk, node->u.persid);
        break;
    case UZ_NODE_OBJECT:
        later(walk, node->u.object->callable);
        later(walk, node->u.object->args);
        later(walk, node->u.object->kwargs);
        later(walk, node->u.object->state);
        later_seq(walk, &node->u.object->list);
        later_dict(walk, &node->u.object->dict);
        break;
    default:
        break;
    }
}

/* What a reader of checkpoints asks of a node. */
static void look_at(struct uz_torch_file *file, const struct uz_node *node)
{
    char text[64];
    int64_t integer;
    double number;
    unsigned ndim;
    uint64_t shape[UZ_MAX_NDIM];
    struct uz_view view;
    struct uz_error err;

    uz_error_clear(&err);
    uz_node_describe(node, text, sizeof text);
    uz_node_get(node, "module");
    uz_node_get_int(node, 0);
    uz_node_int(node, &integer);
    if (!file)
        return;
    if (uz_torch_tensor(file, node, "tensor", &view, &err) == UZ_OK) {
        /* The promise: a view lies in its storage. Reading beyond would be caught by the reader's
         * own checks, so a lie must be caught here. */
        uint64_t last = view.first;
        for (unsigned i = 0; view.numel > 0 && i < view.ndim; i++)
            last += (view.shape[i] - 1) * view.stride[i];
        if (view.numel > 0 && last >= view.storage.nbytes / uz_dtype_size(view.dtype))
            abort();
    } else if (err.status == UZ_OK || err.message[0] == '\0') {
        abort(); /* a failure without a reason */
    }
    uz_torch_shape(file, node, "shape", &ndim, shape, &err);
    uz_torch_number(file, node, "number", &number, &err);
}

static void walk_graph(struct uz_torch_file *file, const struct uz_node *root)
{
    static struct walk walk;
    walk.n_pending = 0;
    walk.n_visits = 0;
    later(&walk, root);
    while (walk.n_pending > 0 && walk.n_visits++ < MAX_VISITS) {
        const struct uz_node *node = walk.pending[--walk.n_pending];
        look_at(file, node);
        later_children(&walk, node);
    }
}

static void as_pickle(const uint8_t *data, size_t nbytes, const struct uz_limits *limits)
{
    const struct uz_node *root;
    struct uz_cursor cur;
    struct uz_error err;
    struct uz_arena *arena = uz_arena_new(limits->max_pickle_arena);
    if (!arena)
        return;
    uz_error_clear(&err);
    uz_cursor_init(&cur, data, nbytes, "pickle", 0);
    int rc = uz_pickle_read(&cur, limits, arena, &root, &err);
    if (rc == UZ_OK)
        walk_graph(NULL, root);
    else if (err.status != rc || err.message[0] == '\0')
        abort();
    uz_arena_free(arena);
}

static void as_file(const uint8_t *data, size_t nbytes, const struct uz_limits *limits)
{
    char path[64];
    struct uz_torch_file *file;
    struct uz_error err;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0)
        return;
    uz_error_clear(&err);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (write(fd, data, nbytes) == (ssize_t)nbytes &&
        uz_torch_open(&file, path, limits, &err) == UZ_OK) {
        walk_graph(file, uz_torch_root(file));
        uz_torch_close(file);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    struct uz_limits limits;
    small_limits(&limits);
    as_pickle(data, nbytes, &limits);
    as_file(data, nbytes, &limits);
    return 0;
}
