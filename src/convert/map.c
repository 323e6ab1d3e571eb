/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint's model, seen as tensors with fragments and as partitions with fragments. */
#include <unzero/map.h>

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/order.h"
#include "base/parallel.h"
#include "base/regex.h"
#include "input/open.h"
#include "zero/shard_name.h"

struct uz_fragment_map {
    struct uz_model model;
    struct uz_input_info source;
    struct uz_notes notes;
    struct uz_map_tensor *tensors;
    size_t n_tensors;
    struct uz_map_fragment *fragments;
    size_t n_fragments;
    struct uz_map_partition *partitions;
    size_t n_partitions;
    size_t *order;
    struct uz_map_view view;
};

/* A fragment whose partition is not numbered yet. */
struct placed {
    uint32_t place;
    uint64_t first; /* element of the place */
    size_t fragment;
    enum uz_dtype dtype;
};

void uz_fragment_map_options_default(struct uz_map_options *options)
{
    *options = (struct uz_map_options){0};
    uz_input_options_default(&options->input);
}

/* ---- Which tensors ---- */

struct choice {
    const char *state, *exact;
    struct uz_regex *regex;
};

static bool has_name(const struct uz_model *model, const char *name)
{
    uint32_t tensor;
    if (uz_model_find(model, name, strlen(name), &tensor))
        return true;
    for (size_t i = 0; i < model->n_aliases; i++)
        if (!strcmp(model->aliases[i].name, name))
            return true;
    return false;
}

static int name_matches(struct choice *choice, const char *name, bool *yes, struct uz_error *err)
{
    *yes = true;
    if (choice->exact)
        *yes = !strcmp(choice->exact, name);
    else if (choice->regex)
        return uz_regex_find(choice->regex, name, strlen(name), 0, UZ_REGEX_SEARCH, yes, err);
    return UZ_OK;
}

/* A tensor is meant by its name or by one that is tied to it. */
static int is_chosen(struct choice *choice, const struct uz_model *model, uint32_t index,
                     bool *chosen, struct uz_error *err)
{
    const struct uz_tensor *tensor = &model->tensors[index];
    *chosen = false;
    if ((tensor->role == UZ_ROLE_STATE) != (choice->state != NULL))
        return UZ_OK;
    UZ_TRY(name_matches(choice, tensor->name, chosen, err));
    for (size_t i = 0; i < model->n_aliases && !*chosen; i++)
        if (model->aliases[i].tensor == tensor->param)
            UZ_TRY(name_matches(choice, model->aliases[i].name, chosen, err));
    return UZ_OK;
}

/* ---- Tensors and fragments ---- */

static void add_fragment(struct uz_fragment_map *map, struct placed *placed,
                         const struct uz_piece *piece, enum uz_dtype dtype)
{
    struct uz_map_fragment *fragment = &map->fragments[map->n_fragments];
    uint64_t end;
    *fragment = (struct uz_map_fragment){
        .tensor = map->n_tensors,
        .n_elems = piece->n_elems,
        .strided = piece->map != NULL,
        .partition_first = piece->src,
    };
    uz_piece_span(piece, &fragment->first, &end);
    fragment->last = end - 1;
    placed[map->n_fragments] = (struct placed){
        .place = piece->storage, .first = piece->src, .fragment = map->n_fragments, .dtype = dtype};
    map->n_fragments++;
}

static void add_tensor(struct uz_fragment_map *map, struct placed *placed, uint32_t index)
{
    const struct uz_model *model = &map->model;
    const struct uz_tensor *tensor = &model->tensors[index];
    struct uz_map_tensor *added = &map->tensors[map->n_tensors];
    *added = (struct uz_map_tensor){
        .name = tensor->name,
        .role = uz_role_name(tensor->role),
        .state = tensor->role == UZ_ROLE_STATE ? model->states[tensor->state] : NULL,
        .dtype = tensor->dtype,
        .ndim = tensor->ndim,
        .shape = tensor->shape,
        .numel = tensor->numel,
        .first_fragment = map->n_fragments,
    };
    for (uint64_t i = 0; i < tensor->n_pieces; i++)
        add_fragment(map, placed, &model->pieces[tensor->first_piece + i], tensor->dtype);
    added->n_fragments = map->n_fragments - added->first_fragment;
    map->n_tensors++;
}

static int list_tensors(struct uz_fragment_map *map, struct choice *choice, struct placed *placed,
                        struct uz_error *err)
{
    UZ_TRY(uz_alloc(&map->tensors, map->model.n_tensors, sizeof *map->tensors, err));
    UZ_TRY(uz_alloc(&map->fragments, map->model.n_pieces, sizeof *map->fragments, err));
    for (uint32_t i = 0; i < map->model.n_tensors; i++) {
        bool chosen;
        UZ_TRY(is_chosen(choice, &map->model, i, &chosen, err));
        if (chosen)
            add_tensor(map, placed, i);
    }
    return UZ_OK;
}

/* ---- Partitions ---- */

/* Files were added in the order of ranks. */
static int by_partition(const void *a, const void *b, void *places)
{
    const struct placed *x = a, *y = b;
    const struct uz_place *p = (const struct uz_place *)places + x->place;
    const struct uz_place *q = (const struct uz_place *)places + y->place;
    int order = uz_compare_u64(p->file, q->file);
    if (order == 0)
        order = uz_compare_u64(p->packing, q->packing);
    if (order == 0)
        order =
            uz_compare_u64(p->packing ? p->entry : p->offset, q->packing ? q->entry : q->offset);
    return order ? order : uz_compare_u64(x->first, y->first);
}

static bool same_partition(const struct uz_place *p, const struct uz_place *q)
{
    return p->file == q->file && p->packing == q->packing && p->offset == q->offset &&
           p->entry == q->entry;
}

static struct uz_map_partition describe_partition(const struct uz_fragment_map *map,
                                                  const struct placed *placed, size_t first)
{
    static const char *const packings[] = {
        [UZ_PACKED_STORED] = "stored",
        [UZ_PACKED_DEFLATE] = "deflate",
        [UZ_PACKED_ZSTD] = "zstd",
    };
    const struct uz_place *place = &map->model.places[placed->place];
    struct uz_map_partition partition = {
        .path = map->model.files[place->file],
        .dp_rank = UZ_MAP_NO_RANK,
        .mp_rank = UZ_MAP_NO_RANK,
        .dtype = placed->dtype,
        .n_elems = place->nbytes / uz_dtype_size(placed->dtype),
        .offset = place->packing ? UINT64_MAX : place->offset,
        .packing = packings[place->packing],
        .first_in_order = first,
    };
    struct uz_shard_file shard;
    if (uz_parse_shard_name(uz_path_name(partition.path), &shard)) {
        partition.dp_rank = shard.dp;
        partition.mp_rank = shard.mp;
    }
    return partition;
}

static int list_partitions(struct uz_fragment_map *map, struct placed *placed, struct uz_error *err)
{
    const struct uz_place *places = map->model.places;
    UZ_TRY(uz_alloc(&map->partitions, map->n_fragments, sizeof *map->partitions, err));
    UZ_TRY(uz_alloc(&map->order, map->n_fragments, sizeof *map->order, err));
    if (map->n_fragments > 0)
        qsort_r(placed, map->n_fragments, sizeof *placed, by_partition, map->model.places);
    for (size_t i = 0; i < map->n_fragments; i++) {
        if (i == 0 || !same_partition(&places[placed[i - 1].place], &places[placed[i].place]))
            map->partitions[map->n_partitions++] = describe_partition(map, &placed[i], i);
        map->partitions[map->n_partitions - 1].n_fragments++;
        map->order[i] = placed[i].fragment;
        map->fragments[placed[i].fragment].partition = map->n_partitions - 1;
    }
    return UZ_OK;
}

/* ---- All of it ---- */

static int list_all(struct uz_fragment_map *map, struct choice *choice, struct uz_error *err)
{
    struct placed *placed;
    UZ_TRY(uz_alloc(&placed, map->model.n_pieces, sizeof *placed, err));
    int rc = list_tensors(map, choice, placed, err);
    if (rc == UZ_OK)
        rc = list_partitions(map, placed, err);
    free(placed);
    return rc;
}

static int make(struct uz_fragment_map *map, const char *checkpoint,
                const struct uz_map_options *options, struct uz_error *err)
{
    struct uz_input_options input = options->input;
    struct choice choice = {.state = options->state};
    if (!input.threads)
        input.threads = uz_usable_processors();
    map->notes.strict = options->input.strict;
    UZ_TRY(uz_input_open(checkpoint, &input, options->state, &map->model, &map->source, &map->notes,
                         err));
    if (options->param && has_name(&map->model, options->param))
        choice.exact = options->param;
    else if (options->param)
        UZ_TRY(uz_regex_new(&choice.regex, options->param, strlen(options->param), err));
    int rc = list_all(map, &choice, err);
    uz_regex_free(choice.regex);
    UZ_TRY(rc);
    if (map->n_tensors == 0 && options->param)
        return uz_fail(err, UZ_ARG, "no tensor's name is '%s' or matches it%s%s", options->param,
                       options->state ? " and has the state " : "",
                       options->state ? options->state : "");
    map->view = (struct uz_map_view){
        .tensors = map->tensors,
        .n_tensors = map->n_tensors,
        .fragments = map->fragments,
        .n_fragments = map->n_fragments,
        .partitions = map->partitions,
        .n_partitions = map->n_partitions,
        .order = map->order,
        .source = uz_zero_source(&map->source.zero),
        .warnings = (const char *const *)map->notes.items,
        .n_warnings = map->notes.n,
    };
    return UZ_OK;
}

int uz_fragment_map_new(struct uz_fragment_map **out, const char *checkpoint,
                        const struct uz_map_options *options, struct uz_error *err)
{
    struct uz_fragment_map *map;
    uz_error_clear(err);
    UZ_TRY(uz_alloc(&map, 1, sizeof *map, err));
    int rc = make(map, checkpoint, options, err);
    if (rc < 0) {
        uz_fragment_map_free(map);
        return rc;
    }
    *out = map;
    return UZ_OK;
}

const struct uz_map_view *uz_fragment_map_view(const struct uz_fragment_map *map)
{
    return &map->view;
}

void uz_fragment_map_free(struct uz_fragment_map *map)
{
    if (!map)
        return;
    uz_model_free(&map->model);
    uz_input_info_free(&map->source);
    uz_notes_free(&map->notes);
    free(map->tensors);
    free(map->fragments);
    free(map->partitions);
    free(map->order);
    free(map);
}
