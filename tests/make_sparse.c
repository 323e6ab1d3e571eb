/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a ZeRO checkpoint of any number of ranks: real metadata, and data that is all holes, so
 * that it can be huge; or, with --random, master weights whose values anyone can compute again.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "made_checkpoint.h"
#include "torch_writer.h"

enum { STEPS = 1000 };

/* Parameter number i of a Llama of width `hidden`, as it is on each of tp tensor ranks. */
static struct param make_param(const struct checkpoint *c, uint64_t i, uint64_t hidden)
{
    static const struct {
        const char *name;
        uint64_t rows, columns; /* in eighths of the width; 0 columns: a vector */
        int split;              /* as AutoTP does it */
    } layer[] = {
        {"self_attn.q_proj.weight", 8, 8, 0},
        {"self_attn.k_proj.weight", 1, 8, 0},
        {"self_attn.v_proj.weight", 1, 8, 0},
        {"self_attn.o_proj.weight", 8, 8, 1},
        {"mlp.gate_proj.weight", 28, 8, 0},
        {"mlp.up_proj.weight", 28, 8, 0},
        {"mlp.down_proj.weight", 8, 28, 1},
        {"input_layernorm.weight", 8, 0, NOT_SPLIT},
        {"post_attention_layernorm.weight", 8, 0, NOT_SPLIT},
    };
    const uint64_t per_layer = sizeof layer / sizeof(layer[0]);
    struct param p = {.ndim = 2, .split = NOT_SPLIT, .whole = {c->vocabulary, hidden}};

    if (i == 0) {
        (void)snprintf(p.name, sizeof(p.name), "model.embed_tokens.weight");
    } else if (i + 1 == c->n_params) {
        (void)snprintf(p.name, sizeof(p.name), "lm_head.weight");
        p.split = 0;
    } else {
        size_t at = (size_t)((i - 1) % per_layer);
        (void)snprintf(p.name, sizeof(p.name), "model.layers.%" PRIu64 ".%s", (i - 1) / per_layer,
                       layer[at].name);
        p.ndim = layer[at].columns > 0 ? 2 : 1;
        p.split = layer[at].split;
        p.whole[0] = layer[at].rows * hidden / 8;
        p.whole[1] = layer[at].columns * hidden / 8;
    }
    if (c->rows_only && p.ndim == 2)
        p.split = 1;
    p.shape[0] = p.whole[0] / (p.split == 0 ? c->tp : 1);
    p.shape[1] = p.whole[1] / (p.split == 1 ? c->tp : 1);
    p.numel = p.shape[0] * (p.ndim == 2 ? p.shape[1] : 1);
    return p;
}

/* Sets the model's width; returns how many elements it has on each tensor rank. */
static uint64_t set_width(struct checkpoint *c, uint64_t hidden)
{
    uint64_t numel = 0;

    c->totals[0] = c->totals[1] = 0;
    for (uint64_t i = 0; i < c->n_params; i++) {
        c->params[i] = make_param(c, i, hidden);
        c->totals[group_of(&c->params[i])] += c->params[i].numel;
        numel += c->params[i].numel;
    }
    return numel;
}

/* The given width, or that which makes the checkpoint at least `gib` GiB large. */
static void make_model(struct checkpoint *c, uint64_t gib, uint64_t width)
{
    uint64_t bytes_per_elem = c->stage == 3 ? 12 : 14, step = 8 * c->tp;

    c->params = grow(NULL, c->n_params * sizeof *c->params);
    if (width > 0) {
        if (width % step != 0 || c->vocabulary % c->tp != 0)
            die("the width must be a multiple of %" PRIu64 ", the vocabulary of %" PRIu64, step,
                c->tp);
        (void)set_width(c, width);
        return;
    }
    for (uint64_t hidden = step; set_width(c, hidden) * c->tp * bytes_per_elem >> 30 < gib;)
        hidden += step;
}

static void ds_config(struct pickle *p, const struct checkpoint *c)
{
    pk_key(p, "ds_config");
    pk_made(p, "}");
    pk_ops(p, "(");
    pk_key_int(p, "train_micro_batch_size_per_gpu", 1);
    pk_key_int(p, "gradient_accumulation_steps", 8);
    pk_key_real(p, "gradient_clipping", 1.0);
    pk_key(p, "zero_optimization");
    pk_made(p, "}");
    pk_ops(p, "(");
    pk_key_int(p, "stage", (uint64_t)c->stage);
    pk_key_int(p, "reduce_bucket_size", 500000000);
    pk_key_ops(p, "overlap_comm", "\x88");
    pk_key_ops(p, "contiguous_gradients", "\x88");
    pk_ops(p, "u");
    pk_key(p, "bf16");
    pk_made(p, "}");
    pk_key_ops(p, "enabled", "\x88");
    pk_ops(p, "su");
    pk_key(p, "ds_version");
    pk_key(p, "0.19.8");
}

/* Shapes of the parameters of each group. */
static void param_shapes(struct pickle *p, const struct checkpoint *c)
{
    pk_key(p, "param_shapes");
    pk_made(p, "]");
    pk_ops(p, "(");
    for (size_t g = 0; g < N_GROUPS; g++) {
        pk_ordered_dict(p);
        pk_ops(p, "(");
        for (uint64_t i = 0; i < c->n_params; i++) {
            const struct param *param = &c->params[i];
            if (group_of(param) != g)
                continue;
            pk_text(p, param->name);
            pk_global(p, "torch\nSize\n");
            pk_tuple_of(p, param->ndim, param->shape);
            pk_made(p, "\x85");
            pk_made(p, "R");
        }
        pk_ops(p, "u");
    }
    pk_ops(p, "e");
}

/* The versions that nn.Module.state_dict notes beside its tensors. */
static void module_metadata(struct pickle *p, const struct checkpoint *c)
{
    pk_made(p, "}");
    pk_key(p, "_metadata");
    pk_ordered_dict(p);
    pk_ops(p, "(");
    for (uint64_t i = 0; i < c->n_params; i++) {
        char name[96];
        memcpy(name, c->params[i].name, sizeof name);
        *strrchr(name, '.') = '\0';
        pk_text(p, name);
        pk_made(p, "}");
        pk_key_int(p, "version", 1);
        pk_ops(p, "s");
    }
    pk_ops(p, "usb");
}

/* ZeRO 1 and 2: views of one bf16 storage for each group; ZeRO 3: empty placeholders. */
static void module(struct pickle *p, const struct checkpoint *c)
{
    uint64_t first[N_GROUPS] = {0}, numels[N_GROUPS], none = 0;
    size_t flat[N_GROUPS] = {0};

    for (size_t g = 0; g < N_GROUPS; g++) {
        numels[g] = part_size(c, g) * c->ranks;
        if (c->stage != 3)
            flat[g] = pk_new_storage(p, 2 * numels[g], 0);
    }
    pk_key(p, "module");
    pk_ordered_dict(p);
    pk_ops(p, "(");
    for (uint64_t i = 0; i < c->n_params; i++) {
        const struct param *param = &c->params[i];
        size_t g = group_of(param);
        pk_text(p, param->name);
        if (c->stage == 3) {
            pk_tensor(p, "torch\nBFloat16Storage\n", pk_new_storage(p, 0, 0), 0, 0, 1, &none);
        } else {
            pk_tensor(p, "torch\nBFloat16Storage\n", flat[g], numels[g], first[g], param->ndim,
                      param->shape);
            first[g] += param->numel;
        }
    }
    pk_ops(p, "u");
    module_metadata(p, c);
}

static void model_states(struct pickle *p, const struct checkpoint *c)
{
    static const char *const nothings[] = {"lr_scheduler", "data_sampler", "random_ltd"};

    pk_ops(p, "\x80\x02");
    pk_made(p, "}");
    pk_ops(p, "(");
    module(p, c);
    pk_key(p, "buffer_names");
    pk_made(p, "]");
    pk_key_ops(p, "optimizer", "N");
    param_shapes(p, c);
    pk_key(p, "frozen_param_shapes");
    pk_ordered_dict(p);
    pk_key(p, "shared_params");
    pk_made(p, "}");
    pk_key(p, "frozen_param_fragments");
    pk_ordered_dict(p);
    for (size_t i = 0; i < sizeof nothings / sizeof(nothings[0]); i++)
        pk_key_ops(p, nothings[i], "N");
    pk_key_int(p, "skipped_steps", 0);
    pk_key_int(p, "global_steps", STEPS);
    pk_key_int(p, "global_samples", STEPS * 8 * c->ranks);
    pk_key_int(p, "dp_world_size", c->ranks);
    pk_key_int(p, "mp_world_size", c->tp);
    ds_config(p, c);
    pk_ops(p, "u.");
}

/* The state of the base optimizer: steps and two moments a group. */
static void adam_state(struct pickle *p, const uint64_t parts[N_GROUPS])
{
    static const char *const moments[] = {"exp_avg", "exp_avg_sq"};

    pk_key(p, "state");
    pk_made(p, "}");
    pk_ops(p, "(");
    for (size_t g = 0; g < N_GROUPS; g++) {
        pk_integer(p, g);
        pk_made(p, "}");
        pk_ops(p, "(");
        pk_key(p, "step");
        pk_tensor(p, "torch\nFloatStorage\n", pk_new_storage(p, 4, STEPS), 1, 0, 0, NULL);
        for (size_t i = 0; i < 2; i++) {
            pk_key(p, moments[i]);
            pk_tensor(p, "torch\nFloatStorage\n", pk_new_storage(p, 4 * parts[g], 0), parts[g], 0,
                      1, &parts[g]);
        }
        pk_ops(p, "u");
    }
    pk_ops(p, "u");
    pk_key(p, "param_groups");
    pk_made(p, "]");
    pk_ops(p, "(");
    for (size_t g = 0; g < N_GROUPS; g++) {
        pk_made(p, "}");
        pk_ops(p, "(");
        pk_key_real(p, "lr", 1e-4);
        pk_key_real(p, "eps", 1e-8);
        pk_key_real(p, "weight_decay", g == 0 ? 0.1 : 0.0);
        pk_key(p, "params");
        pk_made(p, "]");
        pk_integer(p, g);
        pk_ops(p, "au");
    }
    pk_ops(p, "e");
}

static void loss_scaler(struct pickle *p)
{
    pk_key(p, "loss_scaler");
    pk_global(p, "deepspeed.runtime.fp16.loss_scaler\nLossScaler\n");
    pk_made(p, ")\x81");
    pk_made(p, "}");
    pk_ops(p, "(");
    pk_key_real(p, "cur_scale", 1.0);
    pk_key_ops(p, "dynamic", "\x89");
    pk_ops(p, "ub");
    pk_key_ops(p, "dynamic_loss_scale", "\x89");
    pk_key_ops(p, "overflow", "\x89");
}

static void zero_stage(struct pickle *p, const struct checkpoint *c)
{
    pk_key(p, "zero_stage");
    pk_global(p, "deepspeed.runtime.zero.config\nZeroStageEnum\n");
    pk_integer(p, (uint64_t)c->stage);
    pk_made(p, "\x85");
    pk_made(p, "R");
}

/* fragment_address(numel, start) of what the rank holds of a group's parameters. */
static void slice_mapping(struct pickle *p, const struct checkpoint *c, uint64_t rank, size_t group)
{
    uint64_t part = part_size(c, group), begin = rank * part, end = begin + part, offset = 0;

    pk_ordered_dict(p);
    pk_ops(p, "(");
    for (uint64_t i = 0; i < c->n_params; i++) {
        const struct param *param = &c->params[i];
        if (group_of(param) != group)
            continue;
        uint64_t lo = offset > begin ? offset : begin;
        uint64_t hi = offset + param->numel < end ? offset + param->numel : end;
        offset += param->numel;
        if (lo >= hi)
            continue;
        pk_text(p, param->name);
        pk_global(p, "deepspeed.utils.tensor_fragment\nfragment_address\n");
        pk_made(p, ")\x81");
        pk_made(p, "}");
        pk_ops(p, "(");
        pk_key_int(p, "numel", hi - lo);
        pk_key_int(p, "start", lo - begin);
        pk_ops(p, "ub");
    }
    pk_ops(p, "u");
}

/* param_alignment_paddings: a zero for each parameter. */
static void alignment_paddings(struct pickle *p, const struct checkpoint *c)
{
    pk_key(p, "param_alignment_paddings");
    pk_made(p, "]");
    pk_ops(p, "(");
    for (size_t g = 0; g < N_GROUPS; g++) {
        pk_made(p, "]");
        pk_ops(p, "(");
        for (uint64_t i = 0; i < c->n_params; i++)
            if (group_of(&c->params[i]) == g)
                pk_integer(p, 0);
        pk_ops(p, "e");
    }
    pk_ops(p, "e");
}

/* The storage of a rank's partition of a group. */
static size_t master_storage(struct pickle *p, const struct checkpoint *c, struct part part)
{
    size_t storage = pk_new_storage(p, 4 * part_size(c, part.group), 0);

    if (c->random)
        pk_fill_storage(p, storage, fill_part, made_part(c, part));
    return storage;
}

/* What only ZeRO 1 and 2 have: one partition of each group, its padding cut off. */
static void partitions(struct pickle *p, const struct checkpoint *c, uint64_t rank, uint64_t mp)
{
    uint64_t paddings[N_GROUPS];

    pk_key(p, "single_partition_of_fp32_groups");
    pk_made(p, "]");
    pk_ops(p, "(");
    for (size_t g = 0; g < N_GROUPS; g++) {
        uint64_t part = part_size(c, g), end = (rank + 1) * part;
        paddings[g] = end <= c->totals[g] ? 0 : end - c->totals[g];
        paddings[g] = paddings[g] < part ? paddings[g] : part;
        uint64_t numel = part - paddings[g];
        pk_tensor(p, "torch\nFloatStorage\n",
                  master_storage(p, c, (struct part){.mp = mp, .rank = rank, .group = g}), part, 0,
                  1, &numel);
    }
    pk_ops(p, "e");
    zero_stage(p, c);
    pk_key(p, "group_paddings");
    pk_made(p, "]");
    pk_ops(p, "(");
    for (size_t g = 0; g < N_GROUPS; g++)
        pk_integer(p, paddings[g]);
    pk_ops(p, "e");
    alignment_paddings(p, c);
    pk_key(p, "partition_count");
    pk_made(p, "]");
    pk_ops(p, "(");
    for (size_t g = 0; g < N_GROUPS; g++)
        pk_integer(p, c->ranks);
    pk_ops(p, "e");
    pk_key(p, "ds_version");
    pk_key(p, "0.19.8");
    pk_key(p, "param_slice_mappings");
    pk_made(p, "]");
    pk_ops(p, "(");
    for (size_t g = 0; g < N_GROUPS; g++)
        slice_mapping(p, c, rank, g);
    pk_ops(p, "e");
}

/* What only ZeRO 3 has: one flat group for each, wrapped as a tensor with attributes. */
static void flat_groups(struct pickle *p, const struct checkpoint *c, uint64_t rank, uint64_t mp)
{
    pk_key(p, "fp32_flat_groups");
    pk_made(p, "]");
    pk_ops(p, "(");
    for (size_t g = 0; g < N_GROUPS; g++) {
        pk_global(p, "torch._tensor\n_rebuild_from_type_v2\n");
        pk_ops(p, "(");
        pk_global(p, REBUILD_TENSOR);
        pk_global(p, "torch\nTensor\n");
        uint64_t part = part_size(c, g);
        pk_tensor_args(p, "torch\nFloatStorage\n",
                       master_storage(p, c, (struct part){.mp = mp, .rank = rank, .group = g}),
                       part, 0, 1, &part);
        pk_made(p, "}");
        pk_key(p, "ds_id");
        pk_text(p, g == 0 ? "0_299" : "300_499");
        pk_ops(p, "s");
        pk_made(p, "t");
        pk_made(p, "R");
    }
    pk_ops(p, "e");
}

static void optim_states(struct pickle *p, const struct checkpoint *c, uint64_t rank, uint64_t mp)
{
    uint64_t parts[N_GROUPS];

    for (size_t g = 0; g < N_GROUPS; g++)
        parts[g] = part_size(c, g);
    pk_ops(p, "\x80\x02");
    pk_made(p, "}");
    pk_ops(p, "(");
    pk_key(p, "optimizer_state_dict");
    pk_made(p, "}");
    pk_ops(p, "(");
    if (c->stage == 3)
        zero_stage(p, c);
    loss_scaler(p);
    pk_key_real(p, "clip_grad", 1.0);
    if (c->stage == 3)
        pk_key_int(p, "partition_count", c->ranks);
    pk_key(p, c->stage == 3 ? "optimizer_state_dict" : "base_optimizer_state");
    pk_made(p, "}");
    pk_ops(p, "(");
    adam_state(p, parts);
    pk_ops(p, "u");
    if (c->stage == 3)
        flat_groups(p, c, rank, mp);
    else
        partitions(p, c, rank, mp);
    pk_ops(p, "u");
    ds_config(p, c);
    pk_ops(p, "u.");
}

/* The files of all data-parallel ranks of one tensor rank. */
static void save_ranks(const struct checkpoint *c, uint64_t mp)
{
    struct pickle p = {0};
    char stem[96];

    model_states(&p, c);
    (void)snprintf(stem, sizeof stem, "mp_rank_%02" PRIu64 "_model_states", mp);
    for (uint64_t rank = 0; rank < (c->stage == 3 ? c->ranks : 1); rank++) {
        if (c->stage == 3)
            (void)snprintf(stem, sizeof stem,
                           "zero_pp_rank_%" PRIu64 "_mp_rank_%02" PRIu64 "_model_states", rank, mp);
        torch_save(c->dir, stem, &p);
    }
    pickle_free(&p);
    for (uint64_t rank = 0; rank < c->ranks; rank++) {
        (void)snprintf(stem, sizeof stem,
                       "bf16_zero_pp_rank_%" PRIu64 "_mp_rank_%02" PRIu64 "_optim_states", rank,
                       mp);
        optim_states(&p, c, rank, mp);
        torch_save(c->dir, stem, &p);
        pickle_free(&p);
    }
}

static void make_dir(const char *path)
{
    if (mkdir(path, 0777) < 0 && errno != EEXIST)
        die("%s: cannot be made: %s", path, strerror(errno));
}

/* OUT/latest and the tag folder. */
static void make_dirs(struct checkpoint *c, const char *out)
{
    char latest[2048];

    make_dir(out);
    if (snprintf(latest, sizeof latest, "%s/latest", out) >= (int)sizeof latest - 16)
        die("%s: the path is too long", out);
    (void)snprintf(c->dir, sizeof(c->dir), "%s/global_step%d", out, (int)STEPS);
    make_dir(c->dir);
    FILE *file = fopen(latest, "w");
    if (file == NULL || fprintf(file, "global_step%d", (int)STEPS) < 0 || fclose(file) != 0)
        die("%s: cannot be written: %s", latest, strerror(errno));
}

static uint64_t number_of(const char *option, const char *digits, uint64_t least, uint64_t most)
{
    char *end;

    errno = 0;
    uint64_t value = strtoull(digits, &end, 10);
    if (errno != 0 || end == digits || *end != '\0' || value < least || value > most)
        die("--%s takes a number from %" PRIu64 " to %" PRIu64, option, least, most);
    return value;
}

static const struct option options[] = {
    {"ranks", required_argument, NULL, 'r'},
    {"tensors", required_argument, NULL, 't'},
    {"stage", required_argument, NULL, 's'},
    {"gib", required_argument, NULL, 'g'},
    {"width", required_argument, NULL, 'w'},
    {"vocabulary", required_argument, NULL, 'v'},
    {"tp", required_argument, NULL, 'p'},
    {"random", no_argument, NULL, 'R'},
    {"rows-only", no_argument, NULL, 'o'},
    {"expected-only", no_argument, NULL, 'e'},
    {NULL, 0, NULL, 0},
};

int main(int argc, char **argv)
{
    struct checkpoint c = {.ranks = 1024, .n_params = 500, .stage = 2, .tp = 1};
    uint64_t gib = 100, width = 0;
    bool expected_only = false;
    int option;

    c.vocabulary = 128256;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (option == 'r')
            c.ranks = number_of("ranks", optarg, 1, 1000000);
        else if (option == 't')
            c.n_params = number_of("tensors", optarg, 9, 1000000);
        else if (option == 's')
            c.stage = (int)number_of("stage", optarg, 1, 3);
        else if (option == 'g')
            gib = number_of("gib", optarg, 1, 1000000);
        else if (option == 'w')
            width = number_of("width", optarg, 8, 1000000);
        else if (option == 'v')
            c.vocabulary = number_of("vocabulary", optarg, 1, 1000000);
        else if (option == 'p')
            c.tp = number_of("tp", optarg, 1, 64);
        else if (option == 'R')
            c.random = true;
        else if (option == 'e')
            expected_only = true;
        else if (option == 'o')
            c.rows_only = true;
        else
            return 2;
    if (optind + 1 != argc)
        die("usage: make_sparse [--ranks N] [--tensors N] [--stage 1|2|3] [--tp N]\n"
            "                   [--gib N | --width N] [--vocabulary N]\n"
            "                   [--random] [--rows-only] [--expected-only] OUT");
    make_model(&c, gib, width);
    if (expected_only) {
        make_dir(argv[optind]);
        write_expected(&c, argv[optind]);
    } else {
        make_dirs(&c, argv[optind]);
        for (uint64_t mp = 0; mp < c.tp; mp++)
            save_ranks(&c, mp);
    }
    free(c.params);
    return 0;
}
