/* SPDX-License-Identifier: Apache-2.0 */
/* From the root of a value graph to all its tensors; where one stands tells what it is for. */
#include "check/census_walk.h"

#include <stdlib.h>
#include <string.h>

#include "check/node_set.h"

/* Where in a file a value stands. */
enum place {
    AT_MODEL,      /* the root of model states */
    AT_OPTIM_FILE, /* the root of an optimizer shard */
    AT_OPTIM,      /* DeepSpeed's optimizer */
    AT_BASE,       /* the optimizer inside of it */
    AT_STATES,     /* states by parameter */
    AT_STATE,      /* states by name */
    AT_MODULE,     /* tensors by name, some of them buffers or frozen */
    AT_VALUE,      /* all below is of one kind */
};

struct item {
    const struct uz_node *node;
    const char *state; /* name of the state it belongs to */
    enum place place;
    enum uz_stored_kind kind;
};

/* The bytes of a storage that a tensor covers. */
struct cover {
    uint64_t key, storage_nbytes, begin, end;
    size_t content;
    uint64_t numel;
};

struct walk {
    struct uz_file_census *found;
    struct uz_torch_file *file;
    struct uz_error *fault, *err;
    struct item *items;
    size_t n_items, cap_items;
    struct cover *covers;
    size_t n_covers, cap_covers;
    struct uz_node_set seen;
    struct uz_map *buffers, *frozen; /* names, in the module */
};

static int later(struct walk *w, const struct uz_node *node, enum place place,
                 enum uz_stored_kind kind, const char *state)
{
    if (!node || node->kind < UZ_NODE_TUPLE || node->kind == UZ_NODE_GLOBAL)
        return UZ_OK;
    UZ_TRY(
        uz_reserve(&w->items, &w->cap_items, (uint64_t)w->n_items + 1, sizeof *w->items, w->err));
    w->items[w->n_items++] = (struct item){node, state, place, kind};
    return UZ_OK;
}

static int same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

/* The slot of a kind, state and dtype. */
static int find_content(struct walk *w, const struct item *item, enum uz_dtype dtype, size_t *index)
{
    struct uz_file_census *found = w->found;
    struct uz_stored *slot;
    for (size_t i = 0; i < found->n_contents; i++)
        if (found->contents[i].kind == item->kind && found->contents[i].dtype == dtype &&
            same_text(found->contents[i].state, item->state)) {
            *index = i;
            return UZ_OK;
        }
    *index = found->n_contents;
    UZ_TRY(UZ_APPEND(found->contents, found->n_contents, found->cap_contents, &slot, w->err));
    *slot = (struct uz_stored){.kind = item->kind, .state = item->state, .dtype = dtype};
    return UZ_OK;
}

static uint64_t end_of(const struct uz_view *view)
{
    uint64_t last = view->first;
    for (unsigned i = 0; i < view->ndim; i++)
        last += (view->shape[i] - 1) * view->stride[i]; /* proven to lie in the storage */
    return last + 1;
}

static int add_tensor(struct walk *w, const struct item *item)
{
    struct uz_view view;
    struct uz_error why;
    struct cover *cover;
    size_t content = 0;
    uz_error_clear(&why);
    if (uz_torch_tensor(w->file, item->node, "a tensor", &view, &why) < 0) {
        if (w->fault && w->fault->status == UZ_OK)
            *w->fault = why;
        return UZ_OK;
    }
    if (view.numel == 0)
        return UZ_OK;
    UZ_TRY(find_content(w, item, view.dtype, &content));
    UZ_TRY(UZ_APPEND(w->covers, w->n_covers, w->cap_covers, &cover, w->err));
    uint64_t size = uz_dtype_size(view.dtype);
    *cover = (struct cover){
        .key = view.storage.key,
        .storage_nbytes = view.storage.nbytes,
        .begin = view.first * size,
        .end = end_of(&view) * size,
        .content = content,
        .numel = view.numel,
    };
    return UZ_OK;
}

static bool key_in(const struct uz_map *names, const struct uz_node *key)
{
    return key->kind == UZ_NODE_STR &&
           uz_map_get(names, key->u.text.data, key->u.text.nbytes, NULL);
}

static bool is_any(const struct uz_node *key, const char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        if (uz_node_is_str(key, names[i]))
            return true;
    return false;
}

/* The name of a state, kept. */
static int state_name(struct walk *w, const struct uz_node *key, const char **name)
{
    char text[128] = "?";
    if (key->kind == UZ_NODE_STR)
        uz_printable(text, sizeof text, key->u.text.data, key->u.text.nbytes);
    for (size_t i = 0; i < w->found->n_contents; i++) /* most were seen */
        if (same_text(w->found->contents[i].state, text)) {
            *name = w->found->contents[i].state;
            return UZ_OK;
        }
    return uz_arena_strndup(w->found->arena, text, strlen(text), name, w->err);
}

static int later_in_module(struct walk *w, const struct uz_pair *pair, enum uz_stored_kind kind)
{
    if (key_in(w->buffers, pair->key))
        kind = UZ_STORED_BUFFER;
    else if (key_in(w->frozen, pair->key))
        kind = UZ_STORED_FROZEN;
    return later(w, pair->value, AT_VALUE, kind, NULL);
}

/* What the key of a pair makes of its value. */
static int later_pair(struct walk *w, const struct item *item, const struct uz_pair *pair)
{
    static const char *const masters[] = {"single_partition_of_fp32_groups", "fp32_flat_groups",
                                          "fp32_groups", "fp32_groups_flat", NULL};
    static const char *const bases[] = {"base_optimizer_state", "optimizer_state_dict", NULL};
    static const char *const optimizers[] = {"optimizer", "optimizer_state_dict", NULL};
    const struct uz_node *key = pair->key;
    const char *name;
    switch (item->place) {
    case AT_MODEL:
        if (uz_node_is_str(key, "module"))
            return later(w, pair->value, AT_MODULE, UZ_STORED_LP, NULL);
        if (uz_node_is_str(key, "frozen_param_fragments"))
            return later(w, pair->value, AT_VALUE, UZ_STORED_FROZEN, NULL);
        if (uz_node_is_str(key, "optimizer"))
            return later(w, pair->value, AT_OPTIM, UZ_STORED_OTHER, NULL);
        break;
    case AT_OPTIM_FILE:
        if (is_any(key, optimizers))
            return later(w, pair->value, AT_OPTIM, UZ_STORED_OTHER, NULL);
        break;
    case AT_OPTIM:
        if (is_any(key, masters))
            return later(w, pair->value, AT_VALUE, UZ_STORED_MASTERS, NULL);
        if (is_any(key, bases))
            return later(w, pair->value, AT_BASE, UZ_STORED_OTHER, NULL);
        if (uz_node_is_str(key, "state")) /* an optimizer of PyTorch itself */
            return later(w, pair->value, AT_STATES, UZ_STORED_OTHER, NULL);
        break;
    case AT_BASE:
        if (uz_node_is_str(key, "state"))
            return later(w, pair->value, AT_STATES, UZ_STORED_OTHER, NULL);
        break;
    case AT_STATES:
        return later(w, pair->value, AT_STATE, UZ_STORED_OTHER, NULL);
    case AT_STATE:
        UZ_TRY(state_name(w, key, &name));
        return later(w, pair->value, AT_VALUE, UZ_STORED_STATE, name);
    case AT_MODULE:
        return later_in_module(w, pair, item->kind);
    case AT_VALUE:
        return later(w, pair->value, AT_VALUE, item->kind, item->state);
    }
    return later(w, pair->value, AT_VALUE, UZ_STORED_OTHER, NULL);
}

/* Items of lists: elastic checkpoints keep a list of states where others keep the optimizer. */
static int later_items(struct walk *w, const struct item *item, const struct uz_seq *seq)
{
    enum place place = item->place == AT_BASE ? AT_STATE : AT_VALUE;
    for (size_t i = 0; i < seq->n; i++)
        UZ_TRY(later(w, seq->items[i], place, item->kind, item->state));
    return UZ_OK;
}

static int later_pairs(struct walk *w, const struct item *item, const struct uz_dict *dict)
{
    for (size_t i = 0; i < dict->n; i++) {
        struct item plain = {.place = AT_VALUE, .kind = UZ_STORED_OTHER};
        UZ_TRY(later(w, dict->pairs[i].key, plain.place, plain.kind, NULL));
        UZ_TRY(later_pair(w, item, &dict->pairs[i]));
    }
    return UZ_OK;
}

static int later_object(struct walk *w, const struct item *item)
{
    const struct uz_object *object = item->node->u.object;
    UZ_TRY(later(w, object->args, AT_VALUE, item->kind, item->state));
    UZ_TRY(later(w, object->kwargs, AT_VALUE, item->kind, item->state));
    UZ_TRY(later(w, object->state, AT_VALUE, item->kind, item->state));
    UZ_TRY(later_items(w, item, &object->list));
    return later_pairs(w, item, &object->dict);
}

/* A tensor's arguments are not gone into: they are part of it. */
static int visit(struct walk *w, const struct item *item)
{
    switch (item->node->kind) {
    case UZ_NODE_TUPLE:
    case UZ_NODE_LIST:
    case UZ_NODE_SET:
    case UZ_NODE_FROZENSET:
        return later_items(w, item, &item->node->u.seq);
    case UZ_NODE_DICT:
        return later_pairs(w, item, &item->node->u.dict);
    case UZ_NODE_OBJECT:
        return uz_torch_is_tensor(item->node) ? add_tensor(w, item) : later_object(w, item);
    default:
        return UZ_OK;
    }
}

static int walk_graph(struct walk *w)
{
    while (w->n_items > 0) {
        struct item item = w->items[--w->n_items];
        bool present;
        uint64_t number = 0;
        UZ_TRY(uz_node_set_add(&w->seen, item.node, &number, &present, w->err));
        if (!present)
            UZ_TRY(visit(w, &item));
    }
    return UZ_OK;
}

static int by_storage(const void *a, const void *b)
{
    const struct cover *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    if (x->numel != y->numel)
        return x->numel < y->numel ? -1 : 1;
    return x->content < y->content ? -1 : x->content > y->content;
}

static bool same_elements(const struct cover *a, const struct cover *b)
{
    return a->key == b->key && a->begin == b->begin && a->end == b->end && a->numel == b->numel;
}

/* Counts each tensor once, and the bytes of each storage that none covers. */
static void sum_up(struct walk *w)
{
    uint64_t covered = 0; /* end of what is covered of this storage */
    if (w->n_covers > 0)
        qsort(w->covers, w->n_covers, sizeof *w->covers, by_storage);
    for (size_t i = 0; i < w->n_covers; i++) {
        const struct cover *cover = &w->covers[i];
        const struct cover *before = i ? cover - 1 : NULL;
        bool again = before && same_elements(before, cover);
        bool same_storage = before && before->key == cover->key;
        struct uz_stored *content = &w->found->contents[cover->content];
        if (!again) {
            content->n_tensors++;
            content->n_elems += cover->numel;
            content->nbytes += cover->numel * uz_dtype_size(content->dtype);
        }
        if (!same_storage) {
            w->found->dead_nbytes += before ? before->storage_nbytes - covered : 0;
            covered = 0;
        }
        if (cover->begin > covered)
            w->found->dead_nbytes += cover->begin - covered;
        covered = cover->end > covered ? cover->end : covered;
    }
    if (w->n_covers > 0)
        w->found->dead_nbytes += w->covers[w->n_covers - 1].storage_nbytes - covered;
}

/* The texts of a list, or the keys of a dictionary. */
static int index_names(struct walk *w, const struct uz_node *node, struct uz_map *names)
{
    const struct uz_seq *list = uz_node_list(node);
    const struct uz_dict *dict = uz_node_dict(node);
    size_t n = list ? list->n : dict ? dict->n : 0;
    for (size_t i = 0; i < n; i++) {
        const struct uz_node *name = list ? list->items[i] : dict->pairs[i].key;
        if (name->kind == UZ_NODE_STR)
            UZ_TRY(uz_map_add(names, name->u.text.data, name->u.text.nbytes, i, NULL, w->err));
    }
    return UZ_OK;
}

static int start(struct walk *w, enum uz_census_role role)
{
    static const struct item roots[] = {
        [UZ_CENSUS_MODEL] = {.place = AT_MODEL, .kind = UZ_STORED_OTHER},
        [UZ_CENSUS_OPTIM] = {.place = AT_OPTIM_FILE, .kind = UZ_STORED_OTHER},
        [UZ_CENSUS_LP] = {.place = AT_VALUE, .kind = UZ_STORED_LP},
        [UZ_CENSUS_WEIGHTS] = {.place = AT_VALUE, .kind = UZ_STORED_WEIGHTS},
    };
    const struct uz_node *root = uz_torch_root(w->file);
    if (!w->buffers || !w->frozen || !w->found->arena)
        return uz_fail_nomem(w->err, sizeof(void *));
    if (role == UZ_CENSUS_MODEL) {
        UZ_TRY(index_names(w, uz_node_get(root, "buffer_names"), w->buffers));
        UZ_TRY(index_names(w, uz_node_get(root, "frozen_param_shapes"), w->frozen));
    }
    return later(w, root, roots[role].place, roots[role].kind, NULL);
}

int uz_census_walk(struct uz_file_census *found, struct uz_torch_file *file,
                   enum uz_census_role role, struct uz_error *fault, struct uz_error *err)
{
    *found = (struct uz_file_census){.arena = uz_arena_new(UINT64_MAX)};
    struct walk w = {
        .found = found,
        .file = file,
        .fault = fault,
        .err = err,
        .buffers = uz_map_new(),
        .frozen = uz_map_new(),
    };
    int rc = start(&w, role);
    if (rc == UZ_OK)
        rc = walk_graph(&w);
    if (rc == UZ_OK)
        sum_up(&w);
    uz_node_set_free(&w.seen);
    uz_map_free(w.buffers);
    uz_map_free(w.frozen);
    free(w.items);
    free(w.covers);
    return rc;
}

void uz_file_census_free(struct uz_file_census *found)
{
    free(found->contents);
    uz_arena_free(found->arena);
    *found = (struct uz_file_census){0};
}
