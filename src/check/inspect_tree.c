/* SPDX-License-Identifier: Apache-2.0 */
/* Shows the value graph of a file, line by line. */
#include <unzero/inspect.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "check/node_set.h"
#include "check/value_json.h"
#include "input/kind.h"
#include "layout/shape_text.h"
#include "torch/file.h"
#include "zero/topology.h"

enum { TEXT_NBYTES = 600, N_PARTS = 6 };

/* A container that is being shown: which of its children is next. */
struct level {
    const struct uz_node *node;
    unsigned part; /* of an object: arguments, keyword arguments, state, items, pairs */
    size_t next;   /* within the part */
};

struct tree {
    struct uz_torch_file *file;
    const struct uz_tree_options *options;
    uz_tree_fn show;
    void *cookie;
    struct level *levels;
    size_t n_levels, cap_levels;
    struct uz_node_set shown;
    uint64_t n_lines;
};

/* A child of a container. */
struct child {
    const struct uz_node *node;
    char key[TEXT_NBYTES];
};

void uz_tree_options_default(struct uz_tree_options *options)
{
    *options = (struct uz_tree_options){.max_lines = 100000, .max_items = 1000, .max_depth = 32};
}

static const struct uz_seq *seq_of(const struct uz_node *node)
{
    return node->kind == UZ_NODE_OBJECT ? &node->u.object->list : uz_node_seq(node);
}

static const struct uz_dict *dict_of(const struct uz_node *node)
{
    if (node->kind == UZ_NODE_OBJECT)
        return &node->u.object->dict;
    return node->kind == UZ_NODE_DICT ? &node->u.dict : NULL;
}

/* ---- What a value is, in one line ---- */

static void describe_text(char buf[TEXT_NBYTES], const struct uz_node *node)
{
    char shown[TEXT_NBYTES - 40];
    const struct uz_text *text = &node->u.text;
    if (node->kind != UZ_NODE_STR) {
        (void)snprintf(buf, TEXT_NBYTES, "%zu bytes", text->nbytes);
        return;
    }
    uz_printable(shown, sizeof shown, text->data, text->nbytes);
    (void)snprintf(buf, TEXT_NBYTES, "\"%s\"%s", shown,
                   strlen(shown) + 1 < sizeof shown ? "" : "...");
}

static void describe_tensor(struct tree *t, char buf[TEXT_NBYTES], const struct uz_node *node)
{
    struct uz_view view;
    struct uz_error why;
    char shape[200];
    uz_error_clear(&why);
    if (uz_torch_tensor(t->file, node, "tensor", &view, &why) < 0) {
        (void)snprintf(buf, TEXT_NBYTES, "%.*s", TEXT_NBYTES - 1, why.message);
        return;
    }
    (void)snprintf(buf, TEXT_NBYTES,
                   "tensor %s %s of storage %" PRIu64 ", from element %" PRIu64 "%s",
                   uz_dtype_name(view.dtype),
                   uz_shape_text(shape, sizeof shape, view.ndim, view.shape, view.numel),
                   view.storage.key, view.first, view.contiguous ? "" : ", strided");
}

static void describe_count(char buf[TEXT_NBYTES], const struct uz_node *node)
{
    char what[300];
    const struct uz_seq *seq = seq_of(node);
    const struct uz_dict *dict = dict_of(node);
    uz_node_describe(node, what, sizeof what);
    size_t n = seq && seq->n ? seq->n : dict ? dict->n : 0;
    (void)snprintf(buf, TEXT_NBYTES, "%s of %zu", strncmp(what, "a ", 2) ? what : what + 2, n);
}

static void describe(struct tree *t, char buf[TEXT_NBYTES], const struct uz_node *node)
{
    switch (node->kind) {
    case UZ_NODE_BOOL:
        (void)snprintf(buf, TEXT_NBYTES, "%s", node->u.boolean ? "True" : "False");
        return;
    case UZ_NODE_INT:
        (void)snprintf(buf, TEXT_NBYTES, "%" PRId64, node->u.integer);
        return;
    case UZ_NODE_FLOAT:
        uz_real_text(buf, node->u.real);
        return;
    case UZ_NODE_STR:
    case UZ_NODE_BYTES:
    case UZ_NODE_BYTEARRAY:
        describe_text(buf, node);
        return;
    case UZ_NODE_TUPLE:
    case UZ_NODE_LIST:
    case UZ_NODE_SET:
    case UZ_NODE_FROZENSET:
    case UZ_NODE_DICT:
        describe_count(buf, node);
        return;
    default:
        if (uz_torch_is_tensor(node))
            describe_tensor(t, buf, node);
        else if (uz_node_dict(node))
            describe_count(buf, node);
        else
            (void)uz_node_describe(node, buf, TEXT_NBYTES);
        return;
    }
}

/* ---- Children ---- */

/* A dictionary's key, by which its value is found. */
static void key_text(struct tree *t, char buf[TEXT_NBYTES], const struct uz_node *key)
{
    char text[TEXT_NBYTES];
    describe(t, text, key);
    (void)snprintf(buf, TEXT_NBYTES, key->kind == UZ_NODE_STR ? "%.*s" : "[%.*s]", TEXT_NBYTES - 3,
                   text);
}

/* True and the child number `next` of part `part`; false when the part has no more. */
static bool get_child(struct tree *t, const struct level *level, struct child *child)
{
    static const char *const names[] = {".args", ".kwargs", ".state"};
    const struct uz_node *node = level->node;
    const struct uz_seq *seq = seq_of(node);
    const struct uz_dict *dict = dict_of(node);
    if (level->part < 3) {
        const struct uz_object *object = node->kind == UZ_NODE_OBJECT ? node->u.object : NULL;
        const struct uz_node *parts[3] = {NULL, NULL, NULL};
        if (object && !uz_node_dict(node)) {
            parts[0] = object->args;
            parts[1] = object->kwargs;
        }
        if (object)
            parts[2] = object->state;
        child->node = parts[level->part];
        (void)snprintf(child->key, sizeof child->key, "%s", names[level->part]);
        return level->next == 0 && child->node;
    }
    if (level->part == 3 && seq && level->next < seq->n) {
        child->node = seq->items[level->next];
        (void)snprintf(child->key, sizeof child->key, "[%zu]", level->next);
        return true;
    }
    if (level->part == 4 && dict && level->next < dict->n) {
        child->node = dict->pairs[level->next].value;
        key_text(t, child->key, dict->pairs[level->next].key);
        return true;
    }
    if (level->part == 5 && node->kind == UZ_NODE_PERSID && level->next == 0) {
        child->node = node->u.persid;
        (void)snprintf(child->key, sizeof child->key, ".id");
        return true;
    }
    return false;
}

static size_t left_in_part(const struct level *level)
{
    const struct uz_seq *seq = seq_of(level->node);
    const struct uz_dict *dict = dict_of(level->node);
    size_t n = level->part == 3 && seq ? seq->n : level->part == 4 && dict ? dict->n : 0;
    return n - level->next;
}

/* Tensors are shown whole in their own line. */
static bool is_container(const struct uz_node *node)
{
    return (node->kind >= UZ_NODE_TUPLE && node->kind != UZ_NODE_GLOBAL) &&
           !uz_torch_is_tensor(node);
}

/* ---- The walk ---- */

static int show(struct tree *t, unsigned depth, const char *key, const char *value,
                uint64_t same_as, struct uz_error *err)
{
    struct uz_tree_line line = {t->n_lines, depth, key, value, same_as};
    if (t->show(t->cookie, &line) != 0)
        return uz_fail(err, UZ_CANCELLED, "stopped");
    return UZ_OK;
}

static int descend(struct tree *t, const struct uz_node *node, struct uz_error *err)
{
    UZ_TRY(
        uz_reserve(&t->levels, &t->cap_levels, (uint64_t)t->n_levels + 1, sizeof *t->levels, err));
    t->levels[t->n_levels++] = (struct level){.node = node};
    return UZ_OK;
}

static int show_value(struct tree *t, const struct child *child, struct uz_error *err)
{
    char value[TEXT_NBYTES];
    unsigned depth = (unsigned)t->n_levels;
    bool container = is_container(child->node), present = false;
    uint64_t line = ++t->n_lines;
    if (container || uz_torch_is_tensor(child->node))
        UZ_TRY(uz_node_set_add(&t->shown, child->node, &line, &present, err));
    describe(t, value, child->node);
    UZ_TRY(show(t, depth, child->key, value, present ? line : 0, err));
    if (!container || present)
        return UZ_OK;
    if (depth >= t->options->max_depth) {
        t->n_lines++;
        return show(t, depth + 1, "", "... deeper than is shown", 0, err);
    }
    return descend(t, child->node, err);
}

/* The next child of the innermost container, or out of it. */
static int step(struct tree *t, struct uz_error *err)
{
    struct level *level = &t->levels[t->n_levels - 1];
    struct child child;
    char more[64];
    if (level->part == N_PARTS) {
        t->n_levels--;
        return UZ_OK;
    }
    if (level->next >= t->options->max_items && left_in_part(level) > 0) {
        (void)snprintf(more, sizeof more, "... and %zu more", left_in_part(level));
        level->part++;
        level->next = 0;
        t->n_lines++;
        return show(t, (unsigned)t->n_levels, "", more, 0, err);
    }
    if (!get_child(t, level, &child)) {
        level->part++;
        level->next = 0;
        return UZ_OK;
    }
    level->next++;
    return show_value(t, &child, err);
}

static int walk(struct tree *t, struct uz_error *err)
{
    struct child root = {.node = uz_torch_root(t->file)};
    UZ_TRY(show_value(t, &root, err));
    while (t->n_levels > 0) {
        UZ_TRY(step(t, err));
        if (t->n_lines >= t->options->max_lines && t->n_levels > 0) {
            t->n_lines++;
            return show(t, 0, "", "... more than is shown", 0, err);
        }
    }
    return UZ_OK;
}

/* ---- Which file ---- */

/* malloc'ed path of a shard of a checkpoint: the one named, or the first model states. */
static int find_shard(char **found, const char *path, const char *name,
                      const struct uz_input_options *input, struct uz_error *err)
{
    struct uz_topology topology;
    struct uz_topology_request request = {
        .path = path,
        .tag = input->tag,
        .input_dirs = input->input_dirs,
        .n_input_dirs = input->n_input_dirs,
        .max_shards = input->limits.max_shards,
    };
    int rc = uz_topology_open(&topology, &request, err);
    const struct uz_shard_file *shard = NULL;
    for (size_t i = 0; rc == UZ_OK && i < topology.n_shards && !shard; i++)
        if (!name || !strcmp(topology.shards[i].name, name))
            shard = &topology.shards[i];
    if (rc == UZ_OK && !shard)
        rc = uz_fail_at(err, UZ_ARG, topology.dir, UZ_NO_OFFSET, "holds no shard named '%s'", name);
    if (rc == UZ_OK) {
        *found = uz_shard_path(&topology, shard);
        rc = *found ? UZ_OK : uz_fail_nomem(err, 0);
    }
    uz_topology_free(&topology);
    return rc;
}

static int find_file(char **found, const char *path, const char *name,
                     const struct uz_input_options *input, struct uz_error *err)
{
    enum uz_input_kind kind;
    UZ_TRY(uz_input_kind(path, input->tag, &kind, err));
    if (kind == UZ_INPUT_ZERO)
        return find_shard(found, path, name, input, err);
    if (name)
        return uz_fail_at(err, UZ_ARG, path, UZ_NO_OFFSET, "is no ZeRO checkpoint; give one path");
    if (kind != UZ_INPUT_TORCH)
        return uz_fail_at(err, UZ_FORMAT, path, UZ_NO_OFFSET,
                          "a tree is shown of a PyTorch file; this is none");
    *found = strdup(path);
    return *found ? UZ_OK : uz_fail_nomem(err, strlen(path));
}

int uz_inspect_tree(const char *path, const char *file, const struct uz_input_options *input,
                    const struct uz_tree_options *options, uz_tree_fn show_line, void *cookie,
                    struct uz_error *err)
{
    struct tree t = {.options = options, .show = show_line, .cookie = cookie};
    char *found = NULL;
    uz_error_clear(err);
    UZ_TRY(find_file(&found, path, file, input, err));
    int rc = uz_torch_open(&t.file, found, &input->limits, err);
    if (rc == UZ_OK) {
        rc = walk(&t, err);
        uz_torch_close(t.file);
    }
    uz_node_set_free(&t.shown);
    free(t.levels);
    free(found);
    return rc;
}
