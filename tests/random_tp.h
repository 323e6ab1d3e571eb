/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random tensors, split over pipeline stages, tensor ranks and partitions by plain loops, as models
 * of each model-parallel rank, with the rules to join them as a JSON file.
 */
#ifndef UZ_TESTS_RANDOM_TP_H
#define UZ_TESTS_RANDOM_TP_H

#include <stdlib.h>
#include <string.h>

#include "layout/model.h"
#include "rng.h"
#include "scratch.h"

enum {
    RT_MAX_TP = 4,
    RT_MAX_PP = 3,
    RT_MAX_TENSORS = 12,
    RT_MAX_NUMEL = 4096,
    RT_MAX_PARTS = 24,
    RT_MAX_HELD = 3 * RT_MAX_NUMEL
};

enum rt_kind {
    RT_COLUMNS,
    RT_ROWS,
    RT_REPLICATED,
    RT_MEAN,
    RT_HALVES,
    RT_SUBPARAMS,
    RT_COUNTED,  /* sub-parameters by the legacy count */
    RT_SEGMENTS, /* affine_map: segments along a dimension, some on several ranks, some scaled */
    RT_PACKED,   /* affine_map: blocks one behind another, turned round */
    RT_KINDS
};

/* One rank's shard: where in the whole tensor each of its elements stands. */
struct rt_shard {
    unsigned ndim;
    uint64_t shape[3];
    uint64_t n;
    uint32_t whole[RT_MAX_HELD];
    float values[RT_MAX_HELD];
};

struct rt_tensor {
    char name[48];
    enum rt_kind kind;
    unsigned ndim;
    uint64_t shape[3], stride[3], numel; /* before padding of a vocabulary is stripped */
    uint64_t kept_rows;                  /* == shape[0] unless it is a vocabulary */
    bool is_vocabulary;
    float scale; /* 1 unless the shards hold the tensor times it */
    float values[RT_MAX_NUMEL];
    struct rt_shard shards[RT_MAX_TP];
    uint32_t stages; /* bits of the stages that hold it */
};

struct random_tp {
    uint32_t pp, tp;
    size_t n;
    uint64_t kept_rows; /* of all vocabularies */
    struct rt_tensor tensors[RT_MAX_TENSORS];
    struct uz_model slices[RT_MAX_PP * RT_MAX_TP];
    const struct uz_model *models[RT_MAX_PP * RT_MAX_TP];
    char path[PATH_NBYTES], map_path[PATH_NBYTES];
    unsigned char *bytes; /* of the one file that all storages are in */
    size_t used;
    /* one element that a fault can be put into: of a copy that is compared */
    bool has_copy;
    size_t copy_at;
    char copy_name[48];
};

enum { RT_FILE_NBYTES = 8 << 20 };

static inline void rt_must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        abort();
    }
}

static inline void rt_row_major(unsigned ndim, const uint64_t *shape, uint64_t *stride)
{
    uint64_t step = 1;
    for (unsigned j = ndim; j-- > 0; step *= shape[j])
        stride[j] = step;
}

/* Appends the elements of box [at, at + size) of the whole to a shard, in row-major order. */
static inline void rt_hold_box(const struct rt_tensor *t, struct rt_shard *shard,
                               const uint64_t *at, const uint64_t *size)
{
    uint64_t n = 1;
    for (unsigned j = 0; j < t->ndim; j++)
        n *= size[j];
    for (uint64_t i = 0; i < n; i++) {
        uint64_t rest = i, flat = 0;
        for (unsigned j = t->ndim; j-- > 0; rest /= size[j])
            flat += (at[j] + rest % size[j]) * t->stride[j];
        rt_must(shard->n < RT_MAX_HELD, "RT_MAX_HELD");
        shard->whole[shard->n++] = (uint32_t)flat;
    }
}

/* Splits `total` into n random widths, some of which may be 0. */
static inline void rt_split(uint64_t total, uint64_t n, uint64_t *widths)
{
    uint64_t left = total;
    for (uint64_t i = 0; i + 1 < n; i++) {
        widths[i] = rng_one_in(4) ? 0 : rng_range(0, left);
        left -= widths[i];
    }
    widths[n - 1] = left;
}

/* Sorts a shard that is several boxes along dimension `dim` into one row-major array. */
static inline void rt_interleave(const struct rt_tensor *t, struct rt_shard *shard, unsigned dim,
                                 const uint64_t *starts, const uint64_t *widths, size_t n_boxes)
{
    uint64_t coord[3], at = 0;
    memcpy(shard->shape, t->shape, sizeof shard->shape);
    shard->ndim = t->ndim;
    shard->shape[dim] = 0;
    for (size_t k = 0; k < n_boxes; k++)
        shard->shape[dim] += widths[k];
    uint64_t n = 1;
    for (unsigned j = 0; j < t->ndim; j++)
        n *= shard->shape[j];
    shard->n = n;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t rest = i, flat = 0;
        for (unsigned j = t->ndim; j-- > 0; rest /= shard->shape[j])
            coord[j] = rest % shard->shape[j];
        uint64_t along = coord[dim], k = 0;
        while (along >= widths[k])
            along -= widths[k++];
        coord[dim] = starts[k] + along;
        for (unsigned j = 0; j < t->ndim; j++)
            flat += coord[j] * t->stride[j];
        shard->whole[at++] = (uint32_t)flat;
    }
}

static inline void rt_print_list(FILE *f, const uint64_t *numbers, size_t n)
{
    fputc('[', f);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s%llu", i ? "," : "", (unsigned long long)numbers[i]);
    fputc(']', f);
}

/* What the JSON file says, in parts that are put together at the end. */
struct rt_json {
    FILE *replicated, *mean, *halves, *rows, *vocabulary, *subparams, *widths, *affine;
    char *text[8];
    size_t nbytes[8];
};

static inline void rt_pattern(FILE *f, const char *name)
{
    bool literal = rng_one_in(2);
    fprintf(f, "%s\"", ftell(f) > 0 ? "," : "");
    for (const char *c = literal ? "^" : ""; *c; c++)
        fputc(*c, f);
    for (const char *c = name; *c; c++)
        fprintf(f, *c == '.' && literal ? "\\\\." : "%c", *c);
    fprintf(f, "$\"");
}

/* Equal parts along a dimension, of what is divisible. */
static inline void rt_make_counted(struct random_tp *r, struct rt_tensor *t, struct rt_json *json)
{
    uint64_t n = rng_range(1, 3), width = rng_range(1, 3), starts[3], widths[3];
    unsigned dim = (unsigned)rng_below(t->ndim);
    t->shape[dim] = n * width * r->tp;
    for (uint32_t rank = 0; rank < r->tp; rank++) {
        for (uint64_t i = 0; i < n; i++) {
            starts[i] = i * width * r->tp + rank * width;
            widths[i] = width;
        }
        t->numel = 1;
        for (unsigned j = 0; j < t->ndim; j++)
            t->numel *= t->shape[j];
        rt_row_major(t->ndim, t->shape, t->stride);
        rt_interleave(t, &t->shards[rank], dim, starts, widths, n);
    }
    fprintf(json->subparams, "%s{\"patterns\":[", ftell(json->subparams) > 0 ? "," : "");
    fprintf(json->subparams, "\"^%s$\"],\"partition_dim\":%u,\"shape\":[", t->name, dim);
    for (unsigned j = 0; j < t->ndim; j++) {
        uint64_t size = j == dim ? n : t->shape[j];
        bool infer = j != dim && (dim == 0 ? j == 1 : j == 0);
        fprintf(json->subparams, "%s", j ? "," : "");
        fprintf(json->subparams, infer ? "-1" : "%llu", (unsigned long long)size);
    }
    fprintf(json->subparams, "]}");
}

static inline void rt_make_subparams(struct random_tp *r, struct rt_tensor *t, struct rt_json *json)
{
    uint64_t sizes[3], all[3][RT_MAX_TP], n = rng_range(1, 3), starts[3], widths[3];
    unsigned dim = (unsigned)rng_below(t->ndim);
    rt_split(t->shape[dim], n, sizes);
    for (uint64_t i = 0; i < n; i++)
        rt_split(sizes[i], r->tp, all[i]);
    for (uint32_t rank = 0; rank < r->tp; rank++) {
        uint64_t first = 0;
        for (uint64_t i = 0; i < n; first += sizes[i], i++) {
            starts[i] = first;
            for (uint32_t before = 0; before < rank; before++)
                starts[i] += all[i][before];
            widths[i] = all[i][rank];
        }
        rt_interleave(t, &t->shards[rank], dim, starts, widths, n);
    }
    FILE *f = json->subparams;
    fprintf(f, "%s{\"patterns\":[\"%s\"],\"partition_dim\":%u,\"shape\":[", ftell(f) > 0 ? "," : "",
            t->name, dim);
    for (unsigned j = 0; j < t->ndim; j++) {
        fprintf(f, "%s", j ? "," : "");
        if (j == dim)
            rt_print_list(f, sizes, n);
        else
            fprintf(f, "%llu", (unsigned long long)t->shape[j]);
    }
    fprintf(f, "]}");
    fprintf(json->widths, "%s\"%s\":[", ftell(json->widths) > 0 ? "," : "", t->name);
    for (uint64_t i = 0; i < n; i++) {
        fprintf(json->widths, "%s", i ? "," : "");
        rt_print_list(json->widths, all[i], r->tp);
    }
    fprintf(json->widths, "]");
}

struct rt_piece {
    uint64_t shape[3], src, src_stride[3], dst, dst_stride[3];
    uint32_t holders; /* bits */
};

static inline void rt_print_piece(FILE *f, const struct rt_tensor *t, const struct rt_piece *p)
{
    uint64_t holders[RT_MAX_TP];
    size_t n = 0;
    for (uint32_t rank = 0; rank < RT_MAX_TP; rank++)
        if (p->holders >> rank & 1)
            holders[n++] = rank;
    fprintf(f, "{\"shape\":");
    rt_print_list(f, p->shape, t->ndim);
    fprintf(f, ",\"source\":[%llu,", (unsigned long long)p->src);
    rt_print_list(f, p->src_stride, t->ndim);
    fprintf(f, "],\"dest\":[%llu,", (unsigned long long)p->dst);
    rt_print_list(f, p->dst_stride, t->ndim);
    fprintf(f, "],\"locations\":");
    rt_print_list(f, holders, n);
    if (t->scale > 1 || t->scale < 1)
        fprintf(f, ",\"scale\":%.9g", (double)t->scale);
    fprintf(f, "}");
}

/* Blocks along a dimension; each is on one rank or on several. */
static inline void rt_make_affine(struct random_tp *r, struct rt_tensor *t, struct rt_json *json)
{
    uint64_t sizes[5], n = rng_range(1, 5);
    unsigned dim = (unsigned)rng_below(t->ndim);
    uint32_t holders[5];
    FILE *f = json->affine;
    t->scale = rng_one_in(2) ? 1.0f : rng_one_in(2) ? 0.25f : 3.0f;
    rt_split(t->shape[dim], n, sizes);
    for (uint64_t i = 0; i < n; i++) {
        holders[i] = 1u << rng_below(r->tp);
        if (rng_one_in(3))
            holders[i] |= (uint32_t)rng_below(1u << r->tp);
    }
    fprintf(f, "%s\"%s\":{\"logical_shape\":", ftell(f) > 0 ? "," : "", t->name);
    rt_print_list(f, t->shape, t->ndim);
    fprintf(f, ",\"ranks\":{");
    for (uint32_t rank = 0; rank < r->tp; rank++) {
        struct rt_shard *shard = &t->shards[rank];
        uint64_t starts[5], widths[5], first = 0, at = 0, stride[3];
        for (uint64_t i = 0; i < n; first += sizes[i], i++) {
            starts[i] = first;
            widths[i] = holders[i] >> rank & 1 ? sizes[i] : 0;
        }
        rt_interleave(t, shard, dim, starts, widths, n);
        rt_row_major(t->ndim, shard->shape, stride);
        fprintf(f, "%s\"%u\":{\"shard_shape\":", rank ? "," : "", rank);
        rt_print_list(f, shard->shape, t->ndim);
        fprintf(f, ",\"pieces\":[");
        shard->n = t->kind == RT_PACKED ? 0 : shard->n;
        bool comma = false;
        for (uint64_t i = 0; i < n; i++) {
            if (!(holders[i] >> rank & 1))
                continue;
            struct rt_piece p = {.src = starts[i] * t->stride[dim], .holders = holders[i]};
            memcpy(p.shape, t->shape, sizeof p.shape);
            p.shape[dim] = sizes[i];
            memcpy(p.src_stride, t->stride, sizeof p.src_stride);
            memcpy(p.dst_stride, stride, sizeof p.dst_stride);
            p.dst = at * stride[dim];
            if (t->kind == RT_PACKED) { /* its dimensions in the opposite order, on its own */
                uint64_t step = 1, numel = 1;
                for (unsigned j = 0; j < t->ndim; j++) {
                    p.dst_stride[j] = step;
                    step *= p.shape[j];
                    numel *= p.shape[j];
                }
                p.dst = shard->n;
                for (uint64_t e = 0; e < numel; e++) {
                    uint64_t rest = e, flat = p.src;
                    for (unsigned j = 0; j < t->ndim; rest /= p.shape[j], j++)
                        flat += rest % p.shape[j] * t->stride[j];
                    shard->whole[shard->n++] = (uint32_t)flat;
                }
            }
            fprintf(f, "%s", comma ? "," : "");
            comma = true;
            rt_print_piece(f, t, &p);
            at += sizes[i];
        }
        fprintf(f, "]}");
    }
    fprintf(f, "}}");
}

/* Along a dimension, whole on all ranks, or in halves. */
static inline void rt_make_simple(struct random_tp *r, struct rt_tensor *t, struct rt_json *json)
{
    unsigned dim = t->kind == RT_ROWS ? 1 : 0;
    uint64_t widths[RT_MAX_TP], first = 0, zero[3] = {0};
    rt_split(t->shape[dim], r->tp, widths);
    if (t->kind == RT_ROWS)
        rt_pattern(json->rows, t->name);
    if (t->kind == RT_REPLICATED)
        rt_pattern(json->replicated, t->name);
    if (t->kind == RT_MEAN)
        rt_pattern(json->mean, t->name);
    if (t->kind == RT_HALVES)
        rt_pattern(json->halves, t->name);
    uint64_t n_first = 0;
    for (uint32_t rank = 0; rank < r->tp; rank++)
        n_first += (widths[rank] + 1) / 2;
    uint64_t second = n_first;
    for (uint32_t rank = 0; rank < r->tp; rank++) {
        struct rt_shard *shard = &t->shards[rank];
        uint64_t h = (widths[rank] + 1) / 2;
        uint64_t starts[2] = {first, second}, parts[2] = {widths[rank], 0};
        if (t->kind == RT_HALVES) {
            parts[0] = h;
            parts[1] = widths[rank] - h;
        }
        if (t->kind == RT_REPLICATED || t->kind == RT_MEAN) {
            shard->ndim = t->ndim;
            memcpy(shard->shape, t->shape, sizeof shard->shape);
            shard->n = 0;
            rt_hold_box(t, shard, zero, t->shape);
        } else {
            rt_interleave(t, shard, dim, starts, parts, 2);
        }
        first += t->kind == RT_HALVES ? parts[0] : widths[rank];
        second += parts[1];
    }
}

static inline float rt_value(void)
{
    return (float)((int64_t)(rng_u64() % 2000001) - 1000000) / 64.0f;
}

/* The shards' values from the whole's, and for means the whole's from the shards'. */
static inline void rt_fill(const struct random_tp *r, struct rt_tensor *t)
{
    for (uint64_t i = 0; i < t->numel; i++)
        t->values[i] = rng_one_in(20) ? -0.0f : rt_value();
    for (uint32_t rank = 0; rank < r->tp; rank++)
        for (uint64_t i = 0; i < t->shards[rank].n; i++)
            t->shards[rank].values[i] =
                t->kind == RT_MEAN ? rt_value() : t->values[t->shards[rank].whole[i]] * t->scale;
    if (t->kind == RT_MEAN)
        for (uint64_t i = 0; i < t->numel; i++) {
            volatile float sum = 0;
            for (uint32_t rank = 0; rank < r->tp; rank++)
                sum = sum + t->shards[rank].values[i];
            t->values[i] = sum / (float)r->tp;
        }
    else if (t->scale > 1 || t->scale < 1)
        for (uint32_t rank = 0; rank < r->tp; rank++)
            for (uint64_t i = 0; i < t->shards[rank].n; i++)
                t->values[t->shards[rank].whole[i]] = t->shards[rank].values[i] / t->scale;
}

static inline void rt_make_tensor(struct random_tp *r, size_t index, struct rt_json *json)
{
    struct rt_tensor *t = &r->tensors[index];
    memset(t, 0, offsetof(struct rt_tensor, values));
    t->kind = (enum rt_kind)rng_below(RT_KINDS);
    snprintf(t->name, sizeof t->name, "layers.%zu.t%u", index, (unsigned)t->kind);
    t->ndim = (unsigned)rng_range(t->kind == RT_ROWS ? 2 : 1, 3);
    for (unsigned j = 0; j < t->ndim; j++)
        t->shape[j] = rng_range(1, 10);
    t->is_vocabulary = t->ndim >= 2 && t->kind != RT_COUNTED && rng_one_in(5);
    t->numel = 1;
    for (unsigned j = 0; j < t->ndim; j++)
        t->numel *= t->shape[j];
    rt_row_major(t->ndim, t->shape, t->stride);
    t->scale = 1;
    if (t->kind == RT_SUBPARAMS)
        rt_make_subparams(r, t, json);
    else if (t->kind == RT_COUNTED)
        rt_make_counted(r, t, json);
    else if (t->kind >= RT_SEGMENTS)
        rt_make_affine(r, t, json);
    else
        rt_make_simple(r, t, json);
    if (t->is_vocabulary)
        rt_pattern(json->vocabulary, t->name);
    rt_fill(r, t);
    t->kept_rows = t->is_vocabulary && t->shape[0] > r->kept_rows ? r->kept_rows : t->shape[0];
    t->stages = 1u << rng_below(r->pp);
    if (rng_one_in(3))
        t->stages |= (uint32_t)rng_below(1u << r->pp);
}

/* Puts a shard, cut into partitions, into a stage's model and the file. */
static inline void rt_store(struct random_tp *r, const struct rt_tensor *t, uint32_t slice,
                            uint32_t rank, bool is_copy)
{
    const struct rt_shard *shard = &t->shards[rank];
    struct uz_model *model = &r->slices[slice];
    uint32_t tensor, place;
    rt_must(!uz_model_add_tensor(model, t->name, strlen(t->name), UZ_ROLE_PARAM, UZ_DTYPE_F32,
                                 shard->ndim, shard->shape, &tensor, NULL),
            "tensor");
    for (uint64_t lo = 0, n; lo < shard->n; lo += n) {
        n = rng_range(1, shard->n - lo);
        uint64_t gap = rng_below(5);
        const struct uz_place made = {.offset = r->used, .nbytes = (gap + n) * 4};
        rt_must(r->used + made.nbytes <= RT_FILE_NBYTES, "RT_FILE_NBYTES");
        memcpy(r->bytes + r->used + gap * 4, shard->values + lo, n * 4);
        if (is_copy && !r->has_copy && rng_one_in(3)) {
            r->has_copy = true;
            r->copy_at = r->used + gap * 4 + rng_below(n * 4);
            snprintf(r->copy_name, sizeof r->copy_name, "%s", t->name);
        }
        r->used += made.nbytes;
        rt_must(!uz_model_add_place(model, &made, &place, NULL), "place");
        const struct uz_piece piece = {
            .tensor = tensor, .storage = place, .lo = lo, .n_elems = n, .src = gap};
        rt_must(!uz_model_add_piece(model, &piece, NULL), "piece");
    }
}

static inline uint32_t rt_first_stage(const struct rt_tensor *t)
{
    return (uint32_t)__builtin_ctz(t->stages);
}

static inline void rt_store_all(struct random_tp *r)
{
    struct uz_limits limits;
    uint32_t file;
    uz_limits_default(&limits);
    for (uint32_t i = 0; i < r->pp * r->tp; i++) {
        r->models[i] = &r->slices[i];
        rt_must(!uz_model_init(&r->slices[i], &limits, NULL), "model");
        rt_must(!uz_model_add_file(&r->slices[i], r->path, &file, NULL), "file");
    }
    for (size_t i = 0; i < r->n; i++) {
        const struct rt_tensor *t = &r->tensors[i];
        for (uint32_t pp = 0; pp < r->pp; pp++)
            for (uint32_t rank = 0; (t->stages >> pp & 1) && rank < r->tp; rank++)
                rt_store(r, t, pp * r->tp + rank, rank,
                         (!t->is_vocabulary && t->scale >= 1 && t->scale <= 1 &&
                          (pp != rt_first_stage(t) || (t->kind == RT_REPLICATED && rank > 0))));
    }
    for (uint32_t i = 0; i < r->pp * r->tp; i++)
        rt_must(!uz_model_finish(&r->slices[i], NULL), "finish");
    rt_must(write_file(r->path, r->bytes, r->used), "file");
}

static inline void rt_write_map(struct random_tp *r, struct rt_json *json)
{
    FILE *parts[] = {json->replicated, json->mean,      json->halves, json->rows,
                     json->vocabulary, json->subparams, json->widths, json->affine};
    for (size_t i = 0; i < 8; i++)
        fclose(parts[i]);
    FILE *f = fopen(r->map_path, "w");
    rt_must(f != NULL, "map");
    fprintf(f,
            "{\"original_vocab_size\": %llu, \"tp_replicated_parameter_patterns\": [%s],\n"
            "\"parameter_to_average_patterns\": [%s],\n"
            "\"parameter_with_2_sub_params_cat_dim_0\": [%s],\n"
            "\"parameter_with_row_parallelism_patterns\": [%s],\n"
            "\"vocabulary_parameter_patterns\": [%s],\n\"parameter_with_sub_params\": [%s],\n",
            (unsigned long long)r->kept_rows, json->text[0], json->text[1], json->text[2],
            json->text[3], json->text[4], json->text[5]);
    fprintf(f,
            "\"sub_param_shard_widths\": {%s},\n\"affine_map\": {\"version\": 1, \"params\": "
            "{%s}}}\n",
            json->text[6], json->text[7]);
    fclose(f);
    for (size_t i = 0; i < 8; i++)
        free(json->text[i]);
}

static inline void rt_make(struct random_tp *r)
{
    struct rt_json json;
    FILE **parts[] = {&json.replicated, &json.mean,      &json.halves, &json.rows,
                      &json.vocabulary, &json.subparams, &json.widths, &json.affine};
    r->pp = (uint32_t)rng_range(1, RT_MAX_PP);
    r->tp = (uint32_t)rng_range(1, RT_MAX_TP);
    r->n = (size_t)rng_range(1, RT_MAX_TENSORS);
    r->kept_rows = rng_range(1, 6);
    r->used = 0;
    r->has_copy = false;
    r->bytes = calloc(1, RT_FILE_NBYTES);
    rt_must(r->bytes != NULL, "calloc");
    path_of(r->path, "%s/tp.bin", scratch_dir);
    path_of(r->map_path, "%s/tp.json", scratch_dir);
    for (size_t i = 0; i < 8; i++) {
        *parts[i] = open_memstream(&json.text[i], &json.nbytes[i]);
        rt_must(*parts[i] != NULL, "open_memstream");
    }
    for (size_t i = 0; i < r->n; i++)
        rt_make_tensor(r, i, &json);
    rt_write_map(r, &json);
    rt_store_all(r);
}

static inline void rt_free(struct random_tp *r)
{
    for (uint32_t i = 0; i < r->pp * r->tp; i++)
        uz_model_free(&r->slices[i]);
    free(r->bytes);
}

#endif
