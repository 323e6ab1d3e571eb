/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a ZeRO checkpoint, lists its tensors, and shows for each parameter which rank holds what of
 * it, and its first elements and optimizer states.
 *
 *     cc read_checkpoint.c $(pkg-config --cflags --libs unzero) && ./a.out CHECKPOINT [NAME]
 */
#include <stdio.h>
#include <stdlib.h>

#include <unzero/checkpoint.h>

enum { N_SHOWN = 3 };

static void must(int rc, const struct uz_error *err)
{
    char text[2048];
    if (rc == UZ_OK)
        return;
    fprintf(stderr, "%s\n", uz_error_format(err, text, sizeof text));
    exit(1);
}

/* The first elements of a weight (`state` NULL) or a state, without reading the rest. */
static void show_values(struct uz_checkpoint *checkpoint, size_t index, const char *state)
{
    struct uz_error err;
    struct uz_tensor_info info = uz_checkpoint_tensor(checkpoint, index);
    float values[N_SHOWN];
    uint64_t n = info.numel < N_SHOWN ? info.numel : N_SHOWN;
    must(uz_checkpoint_read(checkpoint, index, state, 0, n, UZ_DTYPE_F32, values, &err), &err);
    printf("  %s:", state ? state : "fp32");
    for (uint64_t i = 0; i < n; i++)
        printf(" %g", (double)values[i]);
    printf("%s\n", n < info.numel ? " ..." : "");
}

/* Which elements are on which rank; then every state that the optimizer keeps. */
static void show_linkage(struct uz_checkpoint *checkpoint, size_t index)
{
    struct uz_error err;
    struct uz_linked_param *linked;
    const char *keys[16];
    size_t n_keys = 0;
    must(uz_checkpoint_link(checkpoint, index, &linked, &err), &err);
    for (size_t rank = 0; rank < linked->n_ranks; rank++) {
        const struct uz_hp_mapping *mapping = linked->ranks[rank].hp_mapping;
        if (!mapping)
            continue;
        printf("  rank %zu: %llu elements from %llu on, at %llu of group %zu\n", rank,
               (unsigned long long)mapping->lp_fragment_address.numel,
               (unsigned long long)mapping->lp_fragment_address.start,
               (unsigned long long)mapping->hp_fragment_address.start, mapping->param_group_index);
        n_keys = uz_get_optim_state_keys(mapping, keys, 16);
    }
    for (size_t i = 0; i < n_keys && i < 16; i++)
        show_values(checkpoint, index, keys[i]);
    uz_linked_param_free(linked);
}

static void show_tensor(struct uz_checkpoint *checkpoint, size_t index)
{
    static const char *const kinds[] = {"parameter", "frozen parameter", "buffer"};
    struct uz_tensor_info info = uz_checkpoint_tensor(checkpoint, index);
    printf("%s: %s, %s, %llu elements\n", info.name, kinds[info.kind], uz_dtype_name(info.dtype),
           (unsigned long long)info.numel);
    if (uz_dtype_is_castable(info.dtype))
        show_values(checkpoint, index, NULL);
    if (info.kind == UZ_TENSOR_PARAM && uz_checkpoint_info(checkpoint)->zero_stage > 0)
        show_linkage(checkpoint, index);
}

int main(int argc, char **argv)
{
    struct uz_checkpoint *checkpoint;
    struct uz_checkpoint_options options;
    struct uz_error err;
    if (argc < 2) {
        fprintf(stderr, "usage: %s CHECKPOINT [NAME]\n", argv[0]);
        return 2;
    }
    uz_checkpoint_options_default(&options);
    must(uz_checkpoint_open(&checkpoint, argv[1], &options, &err), &err);
    const struct uz_checkpoint_info *info = uz_checkpoint_info(checkpoint);
    printf("%s: ZeRO stage %d on %llu ranks, %zu tensors\n", info->tag, info->zero_stage,
           (unsigned long long)info->world_size, info->n_tensors);
    if (argc > 2) {
        size_t index;
        must(uz_checkpoint_find(checkpoint, argv[2], &index, &err), &err);
        show_tensor(checkpoint, index);
    } else {
        for (size_t i = 0; i < info->n_tensors; i++)
            show_tensor(checkpoint, i);
    }
    uz_checkpoint_close(checkpoint);
    return 0;
}
