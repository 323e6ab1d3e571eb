/* SPDX-License-Identifier: Apache-2.0 */
/* Values that are a function of where an element stands in the model, however it is cut. */
#include "made_checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "torch_writer.h"

uint64_t part_size(const struct checkpoint *c, size_t group)
{
    uint64_t sum = 0;

    if (c->stage != 3)
        return 2 * ceil_div(c->totals[group], 2 * c->ranks);
    for (size_t i = 0; i < c->n_params; i++)
        if (group_of(&c->params[i]) == group)
            sum += ceil_div(c->params[i].numel, c->ranks);
    return sum;
}

/* The bits of a finite fp32 of ordinary size: splitmix64 (Steele, Lea, Flood) of the place. */
static uint32_t value_of(uint64_t param, uint64_t elem)
{
    uint64_t h = (param << 40) + elem + UINT64_C(0x9e3779b97f4a7c15);

    h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
    h ^= h >> 31;
    uint32_t exponent = 112 + (uint32_t)(h >> 32) % 16;
    return ((uint32_t)h & UINT32_C(0x807fffff)) | exponent << 23;
}

/* Elements [first, first + n) of a parameter as tensor rank mp has it. */
static void fill_param(uint32_t *out, const struct checkpoint *c, uint64_t param, uint64_t mp,
                       uint64_t first, uint64_t n)
{
    const struct param *p = &c->params[param];
    uint64_t columns = p->ndim == 2 ? p->shape[1] : 1;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t elem = first + i;
        if (p->split == 0)
            elem += mp * p->numel;
        else if (p->split == 1)
            elem = elem / columns * p->whole[1] + mp * columns + elem % columns;
        out[i] = value_of(param, elem);
    }
}

struct made_part {
    const struct checkpoint *c;
    struct part part;
};

void *made_part(const struct checkpoint *c, struct part part)
{
    struct made_part *made = grow(NULL, sizeof *made);

    *made = (struct made_part){.c = c, .part = part};
    return made;
}

/*
 * Which elements of its parameter number `param` a part has ([*lo, *lo + *n)), and where, counted
 * from the part's beginning: *at, which goes up from parameter to parameter. *offset is the sum of
 * the parameters before it.
 */
static void place_of(const struct made_part *made, uint64_t param, uint64_t *offset, uint64_t *at,
                     uint64_t *lo, uint64_t *n)
{
    const struct checkpoint *c = made->c;
    uint64_t numel = c->params[param].numel, rank = made->part.rank;
    uint64_t begin =
        c->stage == 3 ? rank * ceil_div(numel, c->ranks) : rank * part_size(c, made->part.group);
    uint64_t end =
        c->stage == 3 ? begin + ceil_div(numel, c->ranks) : begin + part_size(c, made->part.group);
    uint64_t base = c->stage == 3 ? 0 : *offset; /* where the parameter begins in what is cut */

    *lo = begin > base ? begin - base : 0;
    *lo = *lo < numel ? *lo : numel;
    uint64_t hi = end > base ? end - base : 0;
    hi = hi < numel ? hi : numel;
    *n = hi > *lo ? hi - *lo : 0;
    *at = c->stage == 3 ? *offset : base + *lo - begin;
    *offset += c->stage == 3 ? ceil_div(numel, c->ranks) : numel;
}

void fill_part(void *data, const void *made_part, uint64_t first_byte, size_t nbytes)
{
    const struct made_part *made = made_part;
    uint64_t first = first_byte / sizeof(uint32_t), last = first + nbytes / sizeof(uint32_t);
    uint64_t offset = 0, at, lo, n;
    uint32_t *out = data;

    memset(data, 0, nbytes);
    for (uint64_t i = 0; i < made->c->n_params; i++) {
        if (group_of(&made->c->params[i]) != made->part.group)
            continue;
        place_of(made, i, &offset, &at, &lo, &n);
        if (n == 0 || at >= last || at + n <= first)
            continue;
        uint64_t skip = at < first ? first - at : 0;
        uint64_t to = at + skip - first;
        uint64_t left = n - skip < last - first - to ? n - skip : last - first - to;
        fill_param(out + to, made->c, i, made->part.mp, lo + skip, left);
    }
}

static uint64_t whole_numel(const struct param *p)
{
    return p->whole[0] * (p->ndim == 2 ? p->whole[1] : 1);
}

static void write_header(FILE *file, const struct checkpoint *c)
{
    char *text = NULL;
    size_t size;
    uint64_t offset = 0;
    FILE *header = open_memstream(&text, &size);

    if (header == NULL)
        die("no memory");
    for (uint64_t i = 0; i < c->n_params; i++) {
        const struct param *p = &c->params[i];
        uint64_t next = offset + 4 * whole_numel(p);
        (void)fprintf(header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%" PRIu64, i > 0 ? "," : "{",
                      p->name, p->whole[0]);
        if (p->ndim == 2)
            (void)fprintf(header, ",%" PRIu64, p->whole[1]);
        (void)fprintf(header, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset, next);
        offset = next;
    }
    (void)fputc('}', header);
    (void)fclose(header);
    uint64_t nbytes = size;
    (void)fwrite(&nbytes, sizeof nbytes, 1, file);
    (void)fwrite(text, 1, size, file);
    free(text);
}

void write_expected(const struct checkpoint *c, const char *dir)
{
    char path[4096];
    static uint32_t block[1 << 18];
    const uint64_t cap = sizeof block / sizeof(block[0]);

    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        die("%s: cannot be made: %s", path, strerror(errno));
    write_header(file, c);
    for (uint64_t i = 0; i < c->n_params; i++) {
        uint64_t numel = whole_numel(&c->params[i]);
        for (uint64_t done = 0, n; done < numel; done += n) {
            n = numel - done < cap ? numel - done : cap;
            for (uint64_t k = 0; k < n; k++)
                block[k] = value_of(i, done + k);
            (void)fwrite(block, sizeof(block[0]), (size_t)n, file);
        }
    }
    if (ferror(file) || fclose(file) != 0)
        die("%s: cannot be written: %s", path, strerror(errno));
}
