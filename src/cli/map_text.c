/* SPDX-License-Identifier: Apache-2.0 */
/* Prints maps of checkpoints. */
#include "cli/map_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/text.h"

enum { BAR_COLUMNS = 72 };

/* One for each fragment of a picture, then over again. */
static const char marks[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

enum { N_MARKS = sizeof marks - 1 };

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void print_tensor(const struct uz_map_tensor *tensor)
{
    char shape[TEXT_SHAPE_NBYTES];
    text_print(stdout, tensor->name);
    if (tensor->state)
        printf(" (%s)", tensor->state);
    printf("  %s %s %s", tensor->role, uz_dtype_name(tensor->dtype),
           text_shape(shape, sizeof shape, tensor->ndim, tensor->shape));
}

static void print_rank(const struct uz_map_partition *partition)
{
    if (partition->dp_rank == UZ_MAP_NO_RANK) {
        fputs("           ", stdout);
        return;
    }
    printf("  rank %4" PRIu32, partition->dp_rank);
    if (partition->mp_rank > 0)
        printf(" of model-parallel rank %" PRIu32, partition->mp_rank);
}

/* Bytes [begin, end) of the file, or elements of what is compressed in it. */
static void print_bytes(const struct uz_map_partition *partition,
                        const struct uz_map_fragment *fragment)
{
    uint64_t size = uz_dtype_size(partition->dtype);
    uint64_t begin = fragment->partition_first, end = begin + fragment->n_elems;
    if (partition->offset == UINT64_MAX)
        printf("  elements %" PRIu64 "..%" PRIu64 " of a storage (%s)", begin, end,
               partition->packing);
    else if (fragment->strided)
        printf("  from byte %" PRIu64 " on", partition->offset + begin * size);
    else
        printf("  bytes %" PRIu64 "..%" PRIu64, partition->offset + begin * size,
               partition->offset + end * size);
}

static void print_fragment(const struct uz_map_view *map, const struct uz_map_fragment *fragment)
{
    const struct uz_map_partition *partition = &map->partitions[fragment->partition];
    printf("  %12" PRIu64 "..%-12" PRIu64, fragment->first, fragment->last + 1);
    if (fragment->strided)
        printf(" (%" PRIu64 " elements of it)", fragment->n_elems);
    print_rank(partition);
    print_bytes(partition, fragment);
    fputs("  ", stdout);
    text_print(stdout, file_name(partition->path));
    putchar('\n');
}

void map_text_table(const struct uz_map_view *map)
{
    for (size_t i = 0; i < map->n_tensors; i++) {
        const struct uz_map_tensor *tensor = &map->tensors[i];
        print_tensor(tensor);
        printf("  %s\n", text_count(tensor->numel, "element").text);
        for (size_t k = 0; k < tensor->n_fragments; k++)
            print_fragment(map, &map->fragments[tensor->first_fragment + k]);
    }
}

/* Column c of the bar stands for the element in its middle. */
static void draw_bar(const struct uz_map_view *map, const struct uz_map_partition *partition)
{
    char bar[BAR_COLUMNS + 1];
    memset(bar, '.', BAR_COLUMNS);
    bar[BAR_COLUMNS] = '\0';
    for (size_t k = 0; k < partition->n_fragments; k++) {
        const struct uz_map_fragment *fragment =
            &map->fragments[map->order[partition->first_in_order + k]];
        for (unsigned c = 0; c < BAR_COLUMNS; c++) {
            double at = (c + 0.5) / BAR_COLUMNS * (double)partition->n_elems;
            if (at >= (double)fragment->partition_first &&
                at < (double)(fragment->partition_first + fragment->n_elems))
                bar[c] = marks[k % N_MARKS];
        }
    }
    printf("  |%s|\n", bar);
}

static void print_gap(uint64_t begin, uint64_t end)
{
    if (begin < end)
        printf("  . %12" PRIu64 "..%-12" PRIu64
               "  of no tensor that was asked for: padding, or dead\n",
               begin, end);
}

/* A parameter that a rank's boundary cuts is marked where it goes on. */
static void print_legend(const struct uz_map_view *map, const struct uz_map_partition *partition)
{
    uint64_t end = 0;
    for (size_t k = 0; k < partition->n_fragments; k++) {
        const struct uz_map_fragment *fragment =
            &map->fragments[map->order[partition->first_in_order + k]];
        const struct uz_map_tensor *tensor = &map->tensors[fragment->tensor];
        print_gap(end, fragment->partition_first);
        printf("  %c %12" PRIu64 "..%-12" PRIu64 "  ", marks[k % N_MARKS],
               fragment->partition_first, fragment->partition_first + fragment->n_elems);
        print_tensor(tensor);
        if (fragment->n_elems < tensor->numel)
            printf("  %s%" PRIu64 "..%" PRIu64 "%s of %" PRIu64, fragment->first > 0 ? "<" : "",
                   fragment->first, fragment->last + 1,
                   fragment->last + 1 < tensor->numel ? ">" : "", tensor->numel);
        putchar('\n');
        if (fragment->partition_first + fragment->n_elems > end)
            end = fragment->partition_first + fragment->n_elems;
    }
    print_gap(end, partition->n_elems);
}

void map_text_pictures(const struct uz_map_view *map, uint32_t dp_rank)
{
    for (size_t i = 0; i < map->n_partitions; i++) {
        const struct uz_map_partition *partition = &map->partitions[i];
        if (partition->dp_rank != dp_rank)
            continue;
        text_print(stdout, file_name(partition->path));
        printf(": %s of %s", text_count(partition->n_elems, "element").text,
               uz_dtype_name(partition->dtype));
        if (partition->offset == UINT64_MAX)
            printf(", compressed (%s)\n", partition->packing);
        else
            printf(" from byte %" PRIu64 " on\n", partition->offset);
        draw_bar(map, partition);
        print_legend(map, partition);
    }
}
