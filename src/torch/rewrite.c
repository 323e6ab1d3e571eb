/* SPDX-License-Identifier: Apache-2.0 */
/* Notes the storages that a pickle names while it is written. */
#include "torch/rewrite.h"

#include <stdlib.h>
#include <string.h>

struct rewriting {
    struct uz_rewrite *rewrite;
    struct uz_torch_file *file;
    struct uz_maker *maker;
    const struct uz_node_write_options *options;
    struct uz_error *err;
    int rc;
};

static int add_storage(struct rewriting *r, const struct uz_node *node, const struct uz_text *key)
{
    struct uz_rewrite *rewrite = r->rewrite;
    struct uz_rewritten_storage *storage;
    struct uz_storage_ref ref = {0};
    bool present;
    if (node->opcode != 0) /* not one that was made, for a storage without elements */
        UZ_TRY(uz_torch_storage(r->file, node, "a tensor", &ref, r->err));
    if (ref.nbytes != ref.storage.nbytes)
        return uz_fail_at(r->err, UZ_UNSUPPORTED, uz_torch_path(r->file), node->offset,
                          "a storage that is a view of another one cannot be written again");
    const struct uz_node *copy = uz_make_strn(r->maker, key->data, key->nbytes);
    UZ_TRY(uz_maker_check(r->maker, r->err));
    UZ_TRY(uz_map_add(rewrite->keys, copy->u.text.data, copy->u.text.nbytes, rewrite->n, &present,
                      r->err));
    UZ_TRY(UZ_APPEND(rewrite->storages, rewrite->n, rewrite->cap, &storage, r->err));
    *storage = (struct uz_rewritten_storage){copy->u.text.data, ref};
    return UZ_OK;
}

/* The old container's ids have a sixth member, which new ones have no room for. */
static const struct uz_node *without_view(struct rewriting *r, const struct uz_seq *id)
{
    return uz_make_persid(r->maker, uz_make_tuple(r->maker, 5, id->items));
}

static const struct uz_node *note_storage(struct rewriting *r, const struct uz_node *node)
{
    const struct uz_seq *id = uz_node_list(node->u.persid);
    if (!id || id->n < 5 || id->items[2]->kind != UZ_NODE_STR) {
        r->rc = uz_fail_at(r->err, UZ_CORRUPT, uz_torch_path(r->file), node->offset,
                           "a persistent id that is no storage's");
        return node;
    }
    const struct uz_text *key = &id->items[2]->u.text;
    if (!uz_map_get(r->rewrite->keys, key->data, key->nbytes, NULL))
        r->rc = add_storage(r, node, key);
    return id->n > 5 ? without_view(r, id) : node;
}

static const struct uz_node *replace(void *cookie, const struct uz_node *node)
{
    struct rewriting *r = cookie;
    if (r->options->replace)
        node = r->options->replace(r->options->cookie, node);
    if (r->rc < 0 || node->kind != UZ_NODE_PERSID)
        return node;
    return note_storage(r, node);
}

int uz_torch_rewrite(struct uz_rewrite *rewrite, struct uz_torch_file *file,
                     const struct uz_node *root, struct uz_maker *maker,
                     const struct uz_node_write_options *options, struct uz_error *err)
{
    struct rewriting r = {
        .rewrite = rewrite, .file = file, .maker = maker, .options = options, .err = err};
    const struct uz_node_write_options own = {
        .limits = options->limits, .replace = replace, .cookie = &r};
    rewrite->keys = uz_map_new();
    if (!rewrite->keys)
        return uz_fail_nomem(err, sizeof(void *));
    int rc = uz_maker_check(maker, err);
    if (rc == UZ_OK)
        rc = uz_pickle_write_node(&rewrite->pickle, root, &own, err);
    UZ_TRY(r.rc); /* which came first */
    UZ_TRY(rc);
    return uz_maker_check(maker, err);
}

void uz_rewrite_free(struct uz_rewrite *rewrite)
{
    uz_bytes_free(&rewrite->pickle);
    uz_map_free(rewrite->keys);
    free(rewrite->storages);
    *rewrite = (struct uz_rewrite){0};
}
