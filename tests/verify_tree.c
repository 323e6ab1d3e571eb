/* SPDX-License-Identifier: Apache-2.0 */
/* Copies folders, and damages them in the ways that suit weights and universal checkpoints. */
#include "verify_tree.h"

#define PATH(buf, t, name) path_of(buf, "%s/%s", (t)->root, name)

enum { ANY = TREE_SAFETENSORS | TREE_TORCH, UNIVERSAL = TREE_UNIVERSAL | TREE_UNIVERSAL3 };

/* ---- The folder ---- */

static struct tree *loading;
static size_t loading_root;

static int load_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    struct tree_file *file = &loading->files[loading->n_files];
    (void)st;
    (void)walk;
    if (type != FTW_F || loading->n_files == TREE_MAX_FILES)
        return 0;
    (void)snprintf(file->name, sizeof file->name, "%.250s", path + loading_root + 1);
    file->data = (uint8_t *)slurp(path, &file->nbytes);
    loading->n_files += file->data != NULL;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct tree_file *)a)->name, ((const struct tree_file *)b)->name);
}

bool tree_open(struct tree *tree, const char *from, const char *root)
{
    path_of(tree->root, "%s", root);
    loading = tree;
    loading_root = strlen(from);
    if (nftw(from, load_one, 16, FTW_PHYS) != 0 || tree->n_files == 0)
        return false;
    qsort(tree->files, tree->n_files, sizeof *tree->files, compare_names);
    tree_restore(tree);
    return true;
}

void tree_close(struct tree *tree)
{
    for (size_t i = 0; i < tree->n_files; i++)
        free(tree->files[i].data);
    remove_tree(tree->root);
}

/* Writes a file, making its folders. */
static bool put(const struct tree *tree, const char *name, const void *data, size_t nbytes)
{
    char path[PATH_NBYTES];
    PATH(path, tree, name);
    for (char *slash = strchr(path + strlen(tree->root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    (void)unlink(path);
    return write_file(path, data, nbytes);
}

void tree_restore(struct tree *tree)
{
    remove_tree(tree->root);
    if (mkdir(tree->root, 0755) < 0)
        abort();
    for (size_t i = 0; i < tree->n_files; i++)
        if (!put(tree, tree->files[i].name, tree->files[i].data, tree->files[i].nbytes))
            abort();
    tree->blamed[0] = '\0';
}

struct tree_file *tree_find(struct tree *tree, const char *end)
{
    size_t n = strlen(end);
    for (size_t i = 0; i < tree->n_files; i++) {
        size_t length = strlen(tree->files[i].name);
        if (length >= n && !strcmp(tree->files[i].name + length - n, end))
            return &tree->files[i];
    }
    return NULL;
}

/* ---- Whole files ---- */

static bool blame(struct tree *tree, const struct tree_file *file)
{
    if (file)
        (void)snprintf(tree->blamed, sizeof tree->blamed, "%s", file->name);
    return file != NULL;
}

/* The file that is damaged: the second shard, or a weight. */
static struct tree_file *victim(struct tree *tree)
{
    struct tree_file *file = tree_find(tree, "emb.weight/fp32.pt");
    for (size_t i = 0; i < tree->n_files && !file; i++)
        if (strstr(tree->files[i].name, "-00002-of-"))
            file = &tree->files[i];
    return blame(tree, file) ? file : NULL;
}

static struct tree_file *first_shard(struct tree *tree)
{
    for (size_t i = 0; i < tree->n_files; i++)
        if (strstr(tree->files[i].name, "-00001-of-"))
            return &tree->files[i];
    return NULL;
}

static bool put_prefix(struct tree *tree, const struct tree_file *file, size_t nbytes)
{
    return file && put(tree, file->name, file->data, nbytes);
}

static bool cut_in_half(struct tree *tree)
{
    const struct tree_file *file = victim(tree);
    return file && put_prefix(tree, file, file->nbytes / 2);
}

static bool cut_last_byte(struct tree *tree)
{
    const struct tree_file *file = victim(tree);
    return file && put_prefix(tree, file, file->nbytes - 1);
}

static bool make_empty(struct tree *tree)
{
    return put_prefix(tree, victim(tree), 0);
}

static bool replace_by_text(struct tree *tree)
{
    const struct tree_file *file = victim(tree);
    return file && put(tree, file->name, "<html>\n", 7);
}

static bool drop(struct tree *tree, const struct tree_file *file)
{
    char path[PATH_NBYTES];
    return blame(tree, file) && unlink(PATH(path, tree, file->name)) == 0;
}

static bool drop_victim(struct tree *tree)
{
    return drop(tree, victim(tree));
}

static bool loop_link(struct tree *tree)
{
    char path[PATH_NBYTES];
    const struct tree_file *file = victim(tree);
    return drop(tree, file) &&
           symlink(strrchr(file->name, '/') ? strrchr(file->name, '/') + 1 : file->name,
                   PATH(path, tree, file->name)) == 0;
}

static bool copy_over(struct tree *tree, const struct tree_file *from, const struct tree_file *to)
{
    return from && to && put(tree, to->name, from->data, from->nbytes);
}

static bool replace_by_other(struct tree *tree)
{
    const struct tree_file *to = victim(tree);
    tree->blamed[0] = '\0';
    return copy_over(tree, first_shard(tree), to);
}

static bool swap_shards(struct tree *tree)
{
    struct tree_file *from = first_shard(tree), *to = victim(tree);
    tree->blamed[0] = '\0';
    return copy_over(tree, from, to) && copy_over(tree, to, from);
}

static bool add_named(struct tree *tree, const char *name)
{
    const struct tree_file *file = first_shard(tree);
    (void)snprintf(tree->blamed, sizeof tree->blamed, "%s", name);
    return file && put(tree, name, file->data, file->nbytes);
}

static bool add_stale(struct tree *tree)
{
    return add_named(tree, tree->kind == TREE_TORCH ? "pytorch_model-00009-of-00009.bin"
                                                    : "model-00009-of-00009.safetensors");
}

static bool add_single(struct tree *tree)
{
    return add_named(tree, tree->kind == TREE_TORCH ? "pytorch_model.bin" : "model.safetensors");
}

static bool add_foreign(struct tree *tree)
{
    return put(tree, "tokenizer.json", "{}", 2) && put(tree, "training_args.bin", "x", 1);
}

static bool leave_staging(struct tree *tree)
{
    char path[PATH_NBYTES];
    (void)snprintf(tree->blamed, sizeof tree->blamed, ".unzero-partial");
    return mkdir(PATH(path, tree, ".unzero-partial"), 0755) == 0;
}

/* ---- Bytes ---- */

static uint8_t *copy_of(const struct tree_file *file)
{
    uint8_t *data = malloc(file->nbytes + 1);
    if (!data)
        abort();
    memcpy(data, file->data, file->nbytes);
    data[file->nbytes] = '\0';
    return data;
}

static bool put_changed(struct tree *tree, const struct tree_file *file, uint8_t *data)
{
    bool done = put(tree, file->name, data, file->nbytes);
    free(data);
    return done;
}

static bool flip_header_length(struct tree *tree)
{
    const struct tree_file *file = victim(tree);
    uint8_t *data = copy_of(file);
    data[2] ^= 0x40;
    return put_changed(tree, file, data);
}

static bool flip_header(struct tree *tree)
{
    const struct tree_file *file = victim(tree);
    uint8_t *data = copy_of(file);
    data[9] ^= 0x08;
    return put_changed(tree, file, data);
}

/* Bytes of the header's text, which can be searched: it begins with '{' and holds no NUL. */
static char *header_of(uint8_t *data, const char *text)
{
    size_t end = 8 + (size_t)le_at(data, 0, 8);
    for (size_t at = 8; at + strlen(text) <= end; at++)
        if (!memcmp(data + at, text, strlen(text)))
            return (char *)data + at;
    return NULL;
}

/* A digit of the first `field`, made another one. */
static bool change_digit(struct tree *tree, const char *field, bool last)
{
    const struct tree_file *file = victim(tree);
    uint8_t *data = copy_of(file);
    char *at = header_of(data, field);
    char *digit = at ? at + strlen(field) : NULL;
    while (digit && last && digit[1] != ']')
        digit++;
    if (!digit || *digit < '0' || *digit > '9') {
        free(data);
        return false;
    }
    *digit = *digit == '9' ? '8' : '9';
    return put_changed(tree, file, data);
}

static bool change_shape(struct tree *tree)
{
    return change_digit(tree, "\"shape\":[", false);
}

static bool change_end(struct tree *tree)
{
    return change_digit(tree, "\"data_offsets\":[", true);
}

/* The first tensor begins elsewhere, and as long as it is it ends inside another, or outside. */
static bool move_tensor(struct tree *tree)
{
    const struct tree_file *file = victim(tree);
    uint8_t *data = copy_of(file);
    static const char field[] = "\"data_offsets\":[0,";
    char *at = header_of(data, field), *next;
    long end = at ? strtol(at + strlen(field), &next, 10) : 0;
    char moved[64];
    int n = snprintf(moved, sizeof moved, "\"data_offsets\":[4,%ld", end + 4);
    bool fits = end > 0 && (size_t)n == (size_t)(next - at);
    if (fits)
        memcpy(at, moved, (size_t)n);
    else
        free(data);
    return fits && put_changed(tree, file, data);
}

/* Of an archive: the bytes of its largest tensor. */
static struct range largest(const struct tree_file *file)
{
    struct zip_map map;
    struct range best = {0, 0};
    if (!zip_map_make(&map, file->data, file->nbytes))
        return best;
    for (size_t i = 0; i < map.n_data; i++)
        if (map.data[i].hi - map.data[i].lo > best.hi - best.lo)
            best = map.data[i];
    return best;
}

static bool flip_data(struct tree *tree)
{
    const struct tree_file *file = victim(tree);
    struct range at = file ? largest(file) : (struct range){0, 0};
    if (at.hi == 0)
        return false;
    uint8_t *data = copy_of(file);
    data[at.lo] ^= 0x10;
    return put_changed(tree, file, data);
}

static bool flip_plain_data(struct tree *tree)
{
    const struct tree_file *file = victim(tree);
    uint8_t *data = copy_of(file);
    data[file->nbytes - 4] ^= 0x10;
    return put_changed(tree, file, data);
}

static bool put_nan(struct tree *tree)
{
    const struct tree_file *file = victim(tree);
    uint8_t *data = copy_of(file);
    memcpy(data + file->nbytes - 4, "\xff\xff\xff\x7f", 4);
    return put_changed(tree, file, data);
}

/* ---- The index ---- */

static struct tree_file *index_of(struct tree *tree)
{
    struct tree_file *file = tree_find(tree, ".index.json");
    return blame(tree, file) ? file : NULL;
}

static bool drop_index(struct tree *tree)
{
    bool done = drop(tree, index_of(tree));
    tree->blamed[0] = '\0'; /* the folder lacks it */
    return done;
}

static bool cut_index(struct tree *tree)
{
    const struct tree_file *file = index_of(tree);
    return file && put_prefix(tree, file, file->nbytes / 2);
}

/* Puts `to` where the first `from` is, as long. */
static bool change_index(struct tree *tree, const char *from, const char *to)
{
    const struct tree_file *file = index_of(tree);
    uint8_t *data = file ? copy_of(file) : NULL;
    char *at = data ? strstr((char *)data, from) : NULL;
    if (!at) {
        free(data);
        return false;
    }
    memcpy(at, to, strlen(to));
    return put_changed(tree, file, data);
}

static bool map_elsewhere(struct tree *tree)
{
    return change_index(tree, "-00001-of", "-00002-of");
}

static bool map_outside(struct tree *tree)
{
    return change_index(tree, "model-00001", "../l-00001");
}

static bool rename_entry(struct tree *tree)
{
    return change_index(tree, "\"emb.weight\"", "\"emb.weighT\"");
}

static bool lose_entry(struct tree *tree)
{
    bool done = rename_entry(tree);
    tree->blamed[0] = '\0'; /* told of the file that has the tensor */
    return done;
}

static bool change_total(struct tree *tree)
{
    const struct tree_file *file = index_of(tree);
    uint8_t *data = file ? copy_of(file) : NULL;
    char *at = data ? strstr((char *)data, "\"total_size\":") : NULL;
    at = at ? at + strcspn(at, "0123456789") : NULL;
    if (!at || !*at) {
        free(data);
        return false;
    }
    *at = *at == '9' ? '8' : '9';
    return put_changed(tree, file, data);
}

/* ---- Universal checkpoints ---- */

static bool drop_file(struct tree *tree, const char *end, const char *blamed)
{
    bool done = drop(tree, tree_find(tree, end));
    (void)snprintf(tree->blamed, sizeof tree->blamed, "%s", blamed);
    return done;
}

static bool drop_state(struct tree *tree)
{
    return drop_file(tree, "zero/head.weight/exp_avg_sq.pt", "zero/head.weight");
}

static bool drop_weight(struct tree *tree)
{
    return drop_file(tree, "zero/head.weight/fp32.pt", "zero/head.weight");
}

static bool drop_folder(struct tree *tree)
{
    bool any = false;
    for (size_t i = 0; i < tree->n_files; i++)
        if (strstr(tree->files[i].name, "zero/head.weight/"))
            any |= drop(tree, &tree->files[i]);
    (void)snprintf(tree->blamed, sizeof tree->blamed, "zero/head.weight");
    return any;
}

static bool drop_models(struct tree *tree)
{
    bool any = false;
    for (size_t i = 0; i < tree->n_files; i++)
        if (strstr(tree->files[i].name, "model_states"))
            any |= drop(tree, &tree->files[i]);
    tree->blamed[0] = '\0';
    return any;
}

static bool drop_latest(struct tree *tree)
{
    return drop(tree, tree_find(tree, "latest_universal"));
}

static bool dangle_latest(struct tree *tree)
{
    struct tree_file *file = tree_find(tree, "latest_universal");
    return blame(tree, file) && put(tree, file->name, "nowhere", 7);
}

static bool other_shape(struct tree *tree)
{
    struct tree_file *to = tree_find(tree, "zero/emb.weight/exp_avg.pt");
    return blame(tree, to) && copy_over(tree, tree_find(tree, "zero/odd/exp_avg.pt"), to);
}

/* Two parameters of one shape: only their values tell. */
static bool swap_params(struct tree *tree)
{
    struct tree_file *a = tree_find(tree, "zero/blocks.0.ln.weight/fp32.pt");
    struct tree_file *b = tree_find(tree, "zero/blocks.0.ln.bias/fp32.pt");
    return copy_over(tree, a, b) && copy_over(tree, b, a);
}

const struct tree_harm tree_harms[] = {
    {"file cut in half", ANY | UNIVERSAL, "UZV022", "UZV022", cut_in_half},
    {"last byte lost", ANY | UNIVERSAL, "UZV022", "UZV022", cut_last_byte},
    {"file empty", ANY | UNIVERSAL, "UZV020", "UZV020", make_empty},
    {"file replaced by text", ANY | UNIVERSAL, "UZV022", "UZV022", replace_by_text},
    {"link that leads to itself", ANY | UNIVERSAL, "UZV021", "UZV021", loop_link},
    {"bit flipped in a tensor (PyTorch)", TREE_TORCH | UNIVERSAL, "", "UZV050", flip_data},
    {"bit flipped in a tensor (safetensors)", TREE_SAFETENSORS, "", "", flip_plain_data},
    {"NaN (safetensors)", TREE_SAFETENSORS, "", "UZV052", put_nan},
    {"bit flipped in the header's length", TREE_SAFETENSORS, "UZV022", "UZV022",
     flip_header_length},
    {"bit flipped in the header", TREE_SAFETENSORS, "UZV022", "UZV022", flip_header},
    {"shape wrong", TREE_SAFETENSORS, "UZV022", "UZV022", change_shape},
    {"end of a tensor wrong", TREE_SAFETENSORS, "UZV022", "UZV022", change_end},
    {"tensors overlap, or one ends outside the file", TREE_SAFETENSORS, "UZV022", "UZV022",
     move_tensor},
    {"file of the index lost", ANY, "UZV061", "UZV061", drop_victim},
    {"file replaced by another of the index: tensors in two files", ANY, "UZV062", "UZV062",
     replace_by_other},
    {"two files swapped", ANY, "UZV063", "UZV063", swap_shards},
    {"file of another save", ANY, "UZV066", "UZV066", add_stale},
    {"whole model beside the index", ANY, "UZV066", "UZV066", add_single},
    {"foreign files", ANY, "", "", add_foreign},
    {"staging folder left behind", ANY, "UZV004", "UZV004", leave_staging},
    {"index lost", ANY, "UZV060", "UZV060", drop_index},
    {"index cut in half", ANY, "UZV060", "UZV060", cut_index},
    {"index leads out of the folder", ANY, "UZV060", "UZV060", map_outside},
    {"index names another file", ANY, "UZV063", "UZV063", map_elsewhere},
    {"index names a tensor that is nowhere", ANY, "UZV063", "UZV063", rename_entry},
    {"index lacks a tensor", ANY, "UZV064", "UZV064", lose_entry},
    {"total_size wrong", ANY, "UZV065", "UZV065", change_total},
    {"parameter's folder lost", UNIVERSAL, "UZV045", "UZV045", drop_folder},
    {"parameter's weight lost", UNIVERSAL, "UZV046", "UZV046", drop_weight},
    {"parameter's state lost", UNIVERSAL, "UZV046", "UZV046", drop_state},
    {"state of another shape", UNIVERSAL, "UZV044", "UZV044", other_shape},
    {"weights of two parameters swapped (ZeRO 1, 2)", TREE_UNIVERSAL, "", "UZV056", swap_params},
    {"model states lost", UNIVERSAL, "UZV010", "UZV010", drop_models},
    {"`latest_universal` missing", UNIVERSAL, "UZV001", "UZV001", drop_latest},
    {"`latest_universal` names no folder", UNIVERSAL, "UZV003", "UZV003", dangle_latest},
};

const size_t n_tree_harms = sizeof tree_harms / sizeof tree_harms[0];
