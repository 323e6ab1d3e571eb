/* SPDX-License-Identifier: Apache-2.0 */
/* Reads one optimizer file. */
#include "zero/optim_shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "layout/linkage.h"
#include "layout/split.h"
#include "zero/optim_state.h"
#include "zero/slice_mapping.h"

/* What the functions below share while they read one file. */
struct reader {
    struct uz_torch_file *file;
    const struct uz_node *state; /* optimizer_state_dict */
    struct uz_optim_shard *shard;
    const struct uz_optim_request *request;
    const struct uz_params *params;
    uint64_t rank;
    size_t *order; /* where each group of rank 0 stands in this file; NULL: at its own place */
};

/* More groups than this are not looked for by name; they must be in one order on all ranks. */
enum { MAX_NAMED_GROUPS = 512 };

/* Index of a group of rank 0 in this file's lists. */
static size_t stored(const struct reader *r, size_t group)
{
    return r->order ? r->order[group] : group;
}

static int fail(const struct reader *r, struct uz_error *err, int status, const char *message)
{
    return uz_fail_at(err, status, uz_torch_path(r->file), UZ_NO_OFFSET, "%s", message);
}

/* Layouts that are known and not read yet, by the keys that only they have. */
static int refuse_by_keys(const struct reader *r, struct uz_error *err)
{
    static const struct {
        const char *key, *message;
    } refusals[] = {
        {"zenflow", "ZenFlow optimizer states are not supported"},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (uz_node_get(r->state, refusals[i].key))
            return fail(r, err, UZ_UNSUPPORTED, refusals[i].message);
    return UZ_OK;
}

static int read_stage(const struct reader *r, struct uz_error *err)
{
    const struct uz_node *node = uz_node_get(r->state, "zero_stage");
    int64_t stage;
    if (!node && uz_node_get(r->state, "single_partition_of_fp32_groups")) {
        r->shard->stage = 1;
        r->shard->bf16_optimizer = true;
        return UZ_OK;
    }
    if (!uz_node_int(node, &stage))
        return fail(r, err, UZ_UNSUPPORTED,
                    "has no 'zero_stage'; not a ZeRO optimizer shard of a "
                    "known layout");
    if (stage < 1 || stage > 3) {
        char message[64];
        snprintf(message, sizeof message, "records the unknown ZeRO stage %lld", (long long)stage);
        return fail(r, err, UZ_UNSUPPORTED, message);
    }
    r->shard->stage = (int)stage;
    return UZ_OK;
}

static int read_flat_view(const struct reader *r, const struct uz_node *node, const char *list,
                          size_t group, struct uz_flat_view *flat, struct uz_error *err)
{
    char what[96];
    struct uz_view view;
    snprintf(what, sizeof what, "%s[%zu]", list, group);
    UZ_TRY(uz_torch_tensor(r->file, node, what, &view, err));
    if (view.ndim != 1 || !view.contiguous)
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(r->file), UZ_NO_OFFSET,
                          "%s is not a contiguous tensor of one dimension", what);
    if (!uz_dtype_is_float(view.dtype))
        return uz_fail_at(err, UZ_UNSUPPORTED, uz_torch_path(r->file), UZ_NO_OFFSET,
                          "%s has elements of type %s, floating-point ones are expected", what,
                          uz_dtype_name(view.dtype));
    *flat = uz_flat_view_of(&view);
    return UZ_OK;
}

/* Reads the partitions of all groups from the list `key`. */
static int read_groups(const struct reader *r, const char *key, struct uz_error *err)
{
    const struct uz_seq *groups = uz_node_list(uz_node_get(r->state, key));
    if (!groups) {
        char message[160];
        snprintf(message, sizeof message,
                 "has no list '%s': the fp32 weights are elsewhere (offloaded to NVMe?) or of an "
                 "unknown layout",
                 key);
        return fail(r, err, UZ_UNSUPPORTED, message);
    }
    UZ_TRY(uz_alloc(&r->shard->groups, groups->n, sizeof *r->shard->groups, err));
    r->shard->n_groups = groups->n;
    if (r->order && groups->n != r->params->n_groups)
        return fail(r, err, UZ_MISMATCH, "has not one partition for each of its parameter groups");
    for (size_t g = 0; g < groups->n; g++)
        UZ_TRY(
            read_flat_view(r, groups->items[stored(r, g)], key, g, &r->shard->groups[g].fp32, err));
    return UZ_OK;
}

/* A number for each group: a list, or (ZeRO-3) one number for all. False if absent. */
static bool group_number(const struct uz_node *node, size_t group, uint64_t *value)
{
    const struct uz_seq *list = uz_node_list(node);
    if (list)
        return group < list->n && uz_node_u64(list->items[group], value);
    return uz_node_u64(node, value);
}

/* AutoEP under ZeRO 3: over how many ranks each sub-group is cut, and which part this rank has. */
static int read_partition_groups(const struct reader *r, struct uz_error *err)
{
    const struct uz_node *node = uz_node_get(r->state, "ds_zero_partition_groups");
    const struct uz_seq *list = uz_node_list(node);
    if (!node || uz_node_is_none(node))
        return UZ_OK;
    if (!list || list->n != r->shard->n_groups)
        return fail(r, err, UZ_CORRUPT, "has no proper 'ds_zero_partition_groups'");
    for (size_t g = 0; g < list->n; g++) {
        struct uz_optim_group *group = &r->shard->groups[g];
        group->has_part = true;
        if (!uz_node_u64(uz_node_get_small(list->items[g], "partition_count"),
                         &group->partition_count) ||
            !uz_node_u64(uz_node_get_small(list->items[g], "partition_rank"), &group->part) ||
            group->partition_count == 0 || group->part >= group->partition_count)
            return fail(r, err, UZ_CORRUPT, "has no proper 'ds_zero_partition_groups'");
    }
    return UZ_OK;
}

static int read_partition_counts(const struct reader *r, struct uz_error *err)
{
    const struct uz_node *counts = uz_node_get(r->state, "partition_count");
    for (size_t g = 0; g < r->shard->n_groups; g++)
        if (!group_number(counts, stored(r, g), &r->shard->groups[g].partition_count) ||
            r->shard->groups[g].partition_count == 0 ||
            r->shard->groups[g].partition_count > INT32_MAX)
            return fail(r, err, UZ_CORRUPT, "has no proper 'partition_count'");
    return UZ_OK;
}

/* The n-th group of that name, counted from 0; the number of groups if there is none. */
static size_t find_group(const struct uz_seq *groups, const char *name, size_t n)
{
    size_t g = 0;
    for (; g < groups->n; g++)
        if (uz_node_is_str(uz_node_get_small(groups->items[g], "name"), name) && n-- == 0)
            break;
    return g;
}

/*
 * Ranks may have the groups of experts in different orders: DeepSpeed makes them from a set of
 * names (moe/utils.py), whose order depends on the process. Groups of one name keep theirs.
 */
static int find_order(struct reader *r, const struct uz_node *param_groups, struct uz_error *err)
{
    const struct uz_seq *groups = uz_node_list(param_groups);
    const char *const *names = r->params->group_names;
    if (!groups || !names || groups->n != r->params->n_groups || groups->n > MAX_NAMED_GROUPS)
        return UZ_OK;
    for (size_t g = 0; g < groups->n; g++)
        if (!names[g])
            return UZ_OK;
    UZ_TRY(uz_alloc(&r->order, groups->n, sizeof *r->order, err));
    for (size_t g = 0; g < groups->n; g++) {
        size_t before = 0;
        for (size_t i = 0; i < g; i++)
            before += !strcmp(names[i], names[g]);
        r->order[g] = find_group(groups, names[g], before);
        if (r->order[g] == groups->n)
            return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(r->file), UZ_NO_OFFSET,
                              "has no parameter group '%s', which rank 0 has", names[g]);
    }
    return UZ_OK;
}

/*
 * Groups that the optimizer marks as those of experts must be those that param_shapes gives experts
 * to, over as many ranks as their name tells (moe/utils.py: "ep_size_<N>").
 */
static int check_moe(const struct reader *r, const struct uz_node *param_groups,
                     struct uz_error *err)
{
    const struct uz_seq *groups = uz_node_list(param_groups);
    for (size_t g = 0; groups && g < groups->n && g < r->params->n_groups; g++) {
        int64_t moe = 0;
        char want[40];
        const struct uz_node *name = uz_node_get_small(groups->items[stored(r, g)], "name");
        uz_node_int(uz_node_get_small(groups->items[stored(r, g)], "moe"), &moe);
        snprintf(want, sizeof want, "ep_size_%llu",
                 (unsigned long long)r->params->group_ranks[g].ep);
        if ((moe != 0) != r->params->group_has_experts[g])
            return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(r->file), UZ_NO_OFFSET,
                              "group %zu is %s experts, by param_shapes it is not", g,
                              moe ? "one of" : "none of");
        if (moe && name && name->kind == UZ_NODE_STR && !uz_node_is_str(name, want))
            return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(r->file), UZ_NO_OFFSET,
                              "group %zu is '%.*s', but its experts are spread over %llu ranks", g,
                              (int)name->u.text.nbytes, name->u.text.data,
                              (unsigned long long)r->params->group_ranks[g].ep);
    }
    return UZ_OK;
}

/*
 * The optimizer's step: of the first state that has one, else of the first parameter group. Used
 * to tell whether shards were saved together.
 */
static int read_step(const struct reader *r, const struct uz_node *base, struct uz_error *err)
{
    const struct uz_dict *states = uz_node_dict(uz_node_get(base, "state"));
    const struct uz_seq *elastic = uz_node_list(base);
    const struct uz_node *step = NULL;
    for (size_t i = 0; states && !step && i < states->n; i++)
        step = uz_node_get_small(states->pairs[i].value, "step");
    for (size_t i = 0; elastic && !step && i < elastic->n; i++)
        step = uz_node_get_small(elastic->items[i], "step");
    const struct uz_seq *groups = uz_node_list(uz_node_get(base, "param_groups"));
    r->shard->step_is_of_state = step != NULL;
    if (!step && elastic)
        step = uz_node_get(r->state, "base_optimizer_state_step");
    if (!step && groups && groups->n > 0)
        step = uz_node_get_small(groups->items[0], "step");
    if (!step || uz_node_is_none(step))
        return UZ_OK;
    UZ_TRY(uz_torch_number(r->file, step, "the optimizer's step", &r->shard->step, err));
    r->shard->has_step = true;
    return UZ_OK;
}

static int read_paddings(const struct reader *r, struct uz_error *err)
{
    const struct uz_node *paddings = uz_node_get(r->state, "group_paddings");
    for (size_t g = 0; paddings && g < r->shard->n_groups; g++) {
        struct uz_optim_group *group = &r->shard->groups[g];
        group->has_padding = group_number(paddings, stored(r, g), &group->padding);
        if (!group->has_padding || group->padding > INT32_MAX)
            return fail(r, err, UZ_CORRUPT, "has no proper 'group_paddings'");
    }
    return UZ_OK;
}

/* param_alignment_paddings: from DeepSpeed 0.19.7 on, a list of paddings for each group. */
static int read_alignment(const struct reader *r, struct uz_error *err)
{
    const struct uz_node *node = uz_node_get(r->state, "param_alignment_paddings");
    const struct uz_seq *lists = uz_node_list(node);
    if (!node || uz_node_is_none(node))
        return UZ_OK;
    if (!lists || lists->n != r->shard->n_groups)
        return fail(r, err, UZ_CORRUPT, "has no proper 'param_alignment_paddings'");
    for (size_t g = 0; g < lists->n; g++) {
        const struct uz_seq *list = uz_node_list(lists->items[stored(r, g)]);
        if (!list || list->n != uz_params_in_group(r->params, g))
            return fail(r, err, UZ_MISMATCH,
                        "param_alignment_paddings has not one number for each parameter of its "
                        "group in param_shapes");
        uint64_t *numbers;
        UZ_TRY(uz_alloc(&numbers, list->n, sizeof *numbers, err));
        r->shard->groups[g].alignment = numbers;
        for (size_t i = 0; i < list->n; i++)
            if (!uz_node_u64(list->items[i], &numbers[i]) || numbers[i] > INT32_MAX)
                return fail(r, err, UZ_CORRUPT, "has no proper 'param_alignment_paddings'");
    }
    return UZ_OK;
}

/* Which of a group's partitions this rank has. */
static uint64_t part_of(const struct reader *r, size_t group)
{
    uint64_t ep_rank, part;
    uz_expert_place(&r->params->group_ranks[group], r->rank, &ep_rank, &part);
    return part;
}

/*
 * Size of the partitions of a group: what this rank stores and records, unless it is the last one,
 * which may book more padding than its partition holds (uz_books_of_last_rank). BF16_Optimizer
 * stores partitions whole.
 */
static int partition_size(const struct reader *r, size_t g, uint64_t *size, struct uz_error *err)
{
    const struct uz_optim_group *group = &r->shard->groups[g];
    uint64_t part = part_of(r, g);
    if (r->shard->bf16_optimizer) {
        *size = group->fp32.numel;
    } else if (group->has_padding && part + 1 < group->partition_count) {
        *size = group->fp32.numel + group->padding;
    } else {
        uint64_t total;
        UZ_TRY(uz_flat_group_offsets(uz_params_in_group(r->params, g),
                                     r->params->numels + r->params->group_first[g],
                                     group->alignment, NULL, &total, err));
        *size = uz_partition_size(total, group->partition_count);
    }
    uint64_t end;
    if (!uz_mul_u64(*size, part + 1, &end) || end > INT64_MAX)
        return fail(r, err, UZ_CORRUPT, "a partition's size is beyond 63 bits");
    return UZ_OK;
}

static int compare_mappings(const struct reader *r, struct uz_error *err)
{
    const struct uz_node *node = uz_node_get(r->state, "param_slice_mappings");
    const struct uz_seq *mappings = uz_node_list(node);
    if (!node || uz_node_is_none(node))
        return UZ_OK;
    if (!mappings || mappings->n != r->shard->n_groups)
        return fail(r, err, UZ_CORRUPT, "has no proper 'param_slice_mappings'");
    for (size_t g = 0; g < mappings->n; g++) {
        uint64_t size = 0;
        UZ_TRY(partition_size(r, g, &size, err));
        struct uz_part partition = {.rank = r->rank, .part = part_of(r, g), .size = size};
        int rc = uz_compare_slice_mapping(mappings->items[stored(r, g)], r->params, g,
                                          &r->shard->groups[g], &partition,
                                          &r->shard->groups[g].mapping, err);
        if (rc < 0)
            return uz_error_in_file(err, rc, uz_torch_path(r->file));
    }
    return UZ_OK;
}

/* Takes a state of a partition that it belongs to element by element. */
static int add_state(const struct reader *r, const struct uz_dict *states, size_t index,
                     uint64_t size, struct uz_optim_group *group, struct uz_error *err)
{
    const struct uz_text *name = &states->pairs[index].key->u.text;
    struct uz_view view = {.ndim = 0};
    struct uz_optim_state *state;
    bool found;
    UZ_TRY(uz_state_read(r->file, states, index, r->request->state, &view, &found,
                         &r->shard->compressed, err));
    bool fits = view.numel == group->fp32.numel || view.numel == size || group->is_muon;
    if (!found || view.ndim != 1 || !view.contiguous || !fits) {
        if (found && view.numel > 1 &&
            uz_state_is_wanted(r->request->state, name->data, name->nbytes))
            uz_printable(r->shard->misfit, sizeof r->shard->misfit, name->data, name->nbytes);
        return UZ_OK;
    }
    UZ_TRY(UZ_APPEND(group->states, group->n_states, group->cap_states, &state, err));
    state->view = uz_flat_view_of(&view);
    state->name = strndup(name->data, name->nbytes);
    return state->name ? UZ_OK : uz_fail_nomem(err, name->nbytes);
}

/* The states of each group; they have the size of the partition, with its padding or without. */
static int read_states(const struct reader *r, const struct uz_node *base, struct uz_error *err)
{
    for (size_t g = 0; r->request->state && g < r->shard->n_groups; g++) {
        struct uz_optim_group *group = &r->shard->groups[g];
        uint64_t size = group->fp32.numel;
        int64_t id = r->shard->stage == 3 ? -1 : uz_state_id(base, stored(r, g), 0);
        if (r->shard->stage != 3) {
            UZ_TRY(partition_size(r, g, &size, err));
            group->is_muon = uz_states_are_muon(base, stored(r, g));
        }
        const struct uz_dict *states =
            uz_node_dict(uz_states_of(base, id >= 0 ? id : (int64_t)stored(r, g)));
        for (size_t i = 0; states && i < states->n; i++)
            UZ_TRY(add_state(r, states, i, size, group, err));
    }
    return UZ_OK;
}

static int read_stage12(struct reader *r, struct uz_error *err)
{
    const struct uz_node *base = uz_node_get(r->state, "base_optimizer_state");
    UZ_TRY(find_order(r, uz_node_get(base, "param_groups"), err));
    UZ_TRY(check_moe(r, uz_node_get(base, "param_groups"), err));
    UZ_TRY(read_groups(r, "single_partition_of_fp32_groups", err));
    if (r->shard->n_groups != r->params->n_groups)
        return uz_fail_at(err, UZ_MISMATCH, uz_torch_path(r->file), UZ_NO_OFFSET,
                          "has %zu parameter groups, param_shapes has %zu", r->shard->n_groups,
                          r->params->n_groups);
    UZ_TRY(read_partition_counts(r, err));
    UZ_TRY(read_paddings(r, err));
    UZ_TRY(read_alignment(r, err));
    UZ_TRY(read_step(r, base, err));
    UZ_TRY(read_states(r, base, err));
    return compare_mappings(r, err);
}

static int read_stage3(const struct reader *r, struct uz_error *err)
{
    const struct uz_node *base = uz_node_get(r->state, "optimizer_state_dict");
    UZ_TRY(read_groups(r, "fp32_flat_groups", err));
    UZ_TRY(read_partition_counts(r, err));
    UZ_TRY(read_partition_groups(r, err));
    UZ_TRY(read_step(r, base, err));
    return read_states(r, base, err);
}

static int read_shard(struct reader *r, struct uz_error *err)
{
    const struct uz_node *root = uz_torch_root(r->file);
    r->state = uz_node_get(root, "optimizer_state_dict");
    if (!uz_node_dict(r->state))
        return fail(r, err, UZ_FORMAT, "has no 'optimizer_state_dict'; not a ZeRO optimizer shard");
    const struct uz_node *version = uz_node_get(root, "ds_version");
    if (version && version->kind == UZ_NODE_STR)
        uz_printable(r->shard->ds_version, sizeof r->shard->ds_version, version->u.text.data,
                     version->u.text.nbytes);
    const char *folder = uz_torch_archive_root(r->file);
    if (folder)
        uz_printable(r->shard->archive_root, sizeof r->shard->archive_root, folder, strlen(folder));
    UZ_TRY(refuse_by_keys(r, err));
    UZ_TRY(read_stage(r, err));
    return r->shard->stage == 3 ? read_stage3(r, err) : read_stage12(r, err);
}

int uz_optim_shard_read_open(struct uz_optim_shard *shard, struct uz_torch_file *file,
                             uint64_t rank, const struct uz_optim_request *request,
                             struct uz_error *err)
{
    struct reader r = {
        .file = file, .shard = shard, .request = request, .params = request->params, .rank = rank};
    *shard = (struct uz_optim_shard){0};
    int rc = read_shard(&r, err);
    free(r.order);
    return rc;
}

int uz_optim_shard_read(struct uz_optim_shard *shard, const char *path, uint64_t rank,
                        const struct uz_optim_request *request, struct uz_error *err)
{
    struct uz_torch_file *file;
    *shard = (struct uz_optim_shard){0};
    UZ_TRY(uz_torch_open(&file, path, request->limits, err));
    int rc = uz_optim_shard_read_open(shard, file, rank, request, err);
    uz_torch_close(file);
    return rc;
}

static void free_group(struct uz_optim_group *group)
{
    for (size_t i = 0; i < group->n_states; i++)
        free(group->states[i].name);
    free(group->states);
    free(group->alignment);
}

void uz_optim_shard_free(struct uz_optim_shard *shard)
{
    for (size_t g = 0; g < shard->n_groups; g++)
        free_group(&shard->groups[g]);
    free(shard->groups);
    *shard = (struct uz_optim_shard){0};
}
