/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of damage, and what must be said of each. */
#include "verify_subject.h"

#define PATH(buf, s, name) path_of(buf, "%s/%s", (s)->dir, name)

/* ---- Whole files ---- */

static bool blame(struct subject *s, int file)
{
    if (file < 0)
        return false;
    s->blamed[s->blamed[0] ? 1 : 0] = s->files[file].name;
    return true;
}

static bool put_prefix(struct subject *s, int file, size_t nbytes)
{
    return blame(s, file) && subject_put(s, s->files[file].name, s->files[file].data, nbytes);
}

static bool cut_in_half(struct subject *s)
{
    return s->optim0 >= 0 && put_prefix(s, s->optim0, s->files[s->optim0].nbytes / 2);
}

static bool cut_last_byte(struct subject *s)
{
    return put_prefix(s, s->model, s->files[s->model].nbytes - 1);
}

static bool make_empty(struct subject *s)
{
    return s->optim0 >= 0 && put_prefix(s, s->optim0, 0);
}

static bool replace_by_text(struct subject *s)
{
    return blame(s, s->optim0) && subject_put(s, s->files[s->optim0].name, "<html>\n", 7);
}

static bool replace_by_link(struct subject *s, const char *to)
{
    char path[PATH_NBYTES];
    return blame(s, s->model) && unlink(PATH(path, s, s->files[s->model].name)) == 0 &&
           symlink(to, path) == 0;
}

static bool loop_link(struct subject *s)
{
    return replace_by_link(s, s->files[s->model].name);
}

static bool dangle_link(struct subject *s)
{
    return replace_by_link(s, "elsewhere.pt");
}

static bool replace_by_folder(struct subject *s)
{
    char path[PATH_NBYTES];
    return blame(s, s->model) && unlink(PATH(path, s, s->files[s->model].name)) == 0 &&
           mkdir(path, 0755) == 0;
}

static bool drop(struct subject *s, int file)
{
    char path[PATH_NBYTES];
    return blame(s, file) && unlink(PATH(path, s, s->files[file].name)) == 0;
}

static bool drop_first_rank(struct subject *s)
{
    return s->optim1 >= 0 && drop(s, s->optim0);
}

static bool drop_last_rank(struct subject *s)
{
    return drop(s, s->optim1);
}

static bool drop_model(struct subject *s)
{
    return s->n_files > 1 && drop(s, s->model);
}

static bool drop_expert(struct subject *s)
{
    bool done = drop(s, s->expert);
    s->blamed[0] = NULL;
    return done;
}

static bool copy_over(struct subject *s, int from, int to)
{
    return from >= 0 && blame(s, to) &&
           subject_put(s, s->files[to].name, s->files[from].data, s->files[from].nbytes);
}

static bool duplicate_rank(struct subject *s)
{
    return copy_over(s, s->optim0, s->optim1);
}

static bool swap_ranks(struct subject *s)
{
    return copy_over(s, s->optim0, s->optim1) && copy_over(s, s->optim1, s->optim0);
}

static bool model_as_optim(struct subject *s)
{
    return copy_over(s, s->model, s->optim0);
}

/* A file of the name with one number replaced. */
static bool add_rank(struct subject *s)
{
    static char name[128];
    const struct subject_file *from = &s->files[s->optim0 < 0 ? 0 : s->optim0];
    const char *at = strstr(from->name, "rank_0_mp");
    if (!at)
        return false;
    (void)snprintf(name, sizeof name, "%.*srank_77_mp%s", (int)(at - from->name), from->name,
                   at + strlen("rank_0_mp"));
    s->blamed[0] = name;
    return subject_put(s, name, from->data, from->nbytes);
}

static bool add_second_name(struct subject *s)
{
    static char name[128];
    if (s->optim0 < 0)
        return false;
    const struct subject_file *from = &s->files[s->optim0];
    bool prefixed = strncmp(from->name, "bf16_", 5) == 0;
    (void)snprintf(name, sizeof name, "%s%s", prefixed ? "" : "bf16_",
                   from->name + (prefixed ? 5 : 0));
    s->blamed[0] = name;
    s->blamed[1] = from->name;
    return subject_put(s, name, from->data, from->nbytes);
}

/* ---- `latest` and leftovers ---- */

static bool put_latest(struct subject *s, const char *text)
{
    s->blamed[0] = "latest";
    return write_file(s->latest, text, strlen(text));
}

static bool latest_missing(struct subject *s)
{
    s->blamed[0] = "latest";
    return unlink(s->latest) == 0;
}

static bool latest_empty(struct subject *s)
{
    return put_latest(s, "");
}

static bool latest_dangling(struct subject *s)
{
    return put_latest(s, "global_step99999");
}

static bool latest_leads_out(struct subject *s)
{
    return put_latest(s, "../elsewhere");
}

static bool leave_staging(struct subject *s)
{
    char path[PATH_NBYTES];
    s->blamed[0] = ".unzero-partial";
    return mkdir(PATH(path, s, ".unzero-partial"), 0755) == 0;
}

static bool leave_part(struct subject *s)
{
    s->blamed[0] = "mp_rank_00_model_states.pt.tmp";
    return subject_put(s, "mp_rank_00_model_states.pt.tmp", "PK", 2);
}

static bool add_foreign_file(struct subject *s)
{
    return subject_put(s, "tokenizer.json", "{}", 2);
}

/* ---- Bytes ---- */

static uint8_t *copy_of(const struct subject_file *file)
{
    uint8_t *data = malloc(file->nbytes);
    if (!data)
        abort();
    memcpy(data, file->data, file->nbytes);
    return data;
}

/* The largest tensor of a file. */
static struct range largest(const struct subject_file *file)
{
    struct range best = {0, 0};
    for (size_t i = 0; i < file->map.n_data; i++)
        if (file->map.data[i].hi - file->map.data[i].lo > best.hi - best.lo)
            best = file->map.data[i];
    return best;
}

/* Where the directory keeps the CRC-32 of what lies in the range; 0: it is not there, or 0. */
static size_t crc_place(const struct subject_file *file, struct range content)
{
    size_t at = file->map.directory.lo;
    while (at + 46 <= file->map.directory.hi && !memcmp(file->data + at, "PK\1\2", 4)) {
        uint64_t nbytes, header;
        zip_entry_place(file->data, at, &nbytes, &header);
        size_t begin = (size_t)(header + 30 + le_at(file->data, header + 26, 2) +
                                le_at(file->data, header + 28, 2));
        if (begin == content.lo && le_at(file->data, at + 10, 2) == 0 &&
            crc32_of(file->data + content.lo, content.hi - content.lo) ==
                le_at(file->data, at + 16, 4))
            return at + 16;
        at += 46 + (size_t)(le_at(file->data, at + 28, 2) + le_at(file->data, at + 30, 2) +
                            le_at(file->data, at + 32, 2));
    }
    return 0;
}

static void set_crc(const struct subject_file *file, uint8_t *data, struct range content)
{
    size_t at = crc_place(file, content);
    uint32_t crc = crc32_of(data + content.lo, content.hi - content.lo);
    for (unsigned i = 0; at && i < 4; i++)
        data[at + i] = (uint8_t)(crc >> 8 * i);
}

/* Puts changed bytes on the disk and frees them. */
static bool put_changed(struct subject *s, int file, uint8_t *data)
{
    bool done = blame(s, file) && subject_put(s, s->files[file].name, data, s->files[file].nbytes);
    free(data);
    return done;
}

static bool flip_data(struct subject *s)
{
    int i = s->optim0;
    if (i < 0 || largest(&s->files[i]).hi == 0 || !crc_place(&s->files[i], largest(&s->files[i])))
        return false;
    uint8_t *data = copy_of(&s->files[i]);
    data[largest(&s->files[i]).lo + 1] ^= 0x10;
    return put_changed(s, i, data);
}

static bool zero_block(struct subject *s)
{
    int i = s->optim0;
    if (i < 0 || largest(&s->files[i]).hi == 0 || !crc_place(&s->files[i], largest(&s->files[i])))
        return false;
    struct range at = largest(&s->files[i]);
    uint8_t *data = copy_of(&s->files[i]);
    memset(data + at.lo, 0, at.hi - at.lo);
    return memcmp(data, s->files[i].data, s->files[i].nbytes) ? put_changed(s, i, data)
                                                              : (free(data), false);
}

static bool flip_pickle(struct subject *s)
{
    int i = s->model;
    if (i < 0 || !crc_place(&s->files[i], s->files[i].map.pickle))
        return false;
    uint8_t *data = copy_of(&s->files[i]);
    data[(s->files[i].map.pickle.lo + s->files[i].map.pickle.hi) / 2] ^= 0x04;
    return put_changed(s, i, data);
}

static bool flip_at(struct subject *s, int file, size_t at)
{
    if (file < 0)
        return false;
    uint8_t *data = copy_of(&s->files[file]);
    data[at] ^= 0x41;
    return put_changed(s, file, data);
}

static bool flip_directory(struct subject *s)
{
    return s->optim0 >= 0 && flip_at(s, s->optim0, s->files[s->optim0].map.directory.lo + 1);
}

static bool flip_end(struct subject *s)
{
    return flip_at(s, s->model, s->files[s->model].nbytes - 22);
}

static bool flip_header(struct subject *s)
{
    return s->optim0 >= 0 && flip_at(s, s->optim0, s->files[s->optim0].map.headers[0].lo + 1);
}

/* The weights of the module, changed before the checksum was made. */
static bool change_weights(struct subject *s)
{
    int i = s->model;
    if (i < 0 || !s->has_copies || s->optim0 < 0 || largest(&s->files[i]).hi == 0 ||
        strstr(s->fixture, "deflated") || strstr(s->fixture, "pp2")) /* weights in layer files */
        return false;
    struct range at = largest(&s->files[i]);
    uint8_t *data = copy_of(&s->files[i]);
    for (size_t k = at.lo; k < at.hi; k++)
        data[k] = (uint8_t)(data[k] ^ 1);
    set_crc(&s->files[i], data, at);
    bool done = put_changed(s, i, data);
    s->blamed[0] = NULL; /* nobody knows which of the copies is right */
    return done;
}

/* A NaN at the beginning of every tensor of that many bytes or more, with checksums that fit. */
static bool put_nan(struct subject *s, int file, size_t min_nbytes)
{
    static const uint8_t nan[] = {0xc1, 0x7f, 0xc1, 0x7f}; /* as fp32, fp16 and bf16 */
    bool any = false;
    if (file < 0)
        return false;
    uint8_t *data = copy_of(&s->files[file]);
    for (size_t i = 0; i < s->files[file].map.n_data; i++) {
        struct range at = s->files[file].map.data[i];
        if (at.hi - at.lo < min_nbytes || !crc_place(&s->files[file], at))
            continue;
        memcpy(data + at.lo, nan, sizeof nan);
        set_crc(&s->files[file], data, at);
        any = true;
    }
    return any ? put_changed(s, file, data) : (free(data), false);
}

/* Model states of ZeRO 3 hold frozen slices and buffers, no other values. */
static bool nan_in_frozen(struct subject *s)
{
    return s->is_stage3 && strstr(s->fixture, "frozen-tied") && put_nan(s, s->model, 1);
}

/* The largest tensors of stage 0 in one file are its masters and states. */
static bool nan_in_masters(struct subject *s)
{
    return strstr(s->fixture, "good-z0-") && !strstr(s->fixture, "fp32") && s->model >= 0 &&
           !strstr(s->fixture, "pp2") && /* the largest of a pipeline's need not be a master */
           put_nan(s, s->model, largest(&s->files[s->model]).hi - largest(&s->files[s->model]).lo);
}

/* ---- Values of the pickle ---- */

static size_t find_text(const uint8_t *data, struct range in, const char *text)
{
    size_t n = strlen(text);
    for (size_t at = in.lo; at + n <= in.hi; at++)
        if (!memcmp(data + at, text, n))
            return at;
    return 0;
}

/* Where the argument of the first number behind a key is; 0 if something else stands there. */
static size_t number_after(const struct subject_file *file, const char *key)
{
    size_t p = find_text(file->data, file->map.pickle, key);
    size_t end = p + strlen(key) + 160;
    for (p = p ? p + strlen(key) : end; p < end && p < file->map.pickle.hi;) {
        switch (file->data[p]) {
        case 'K':
        case 'M':
            return p + 1;
        case 'q':
        case 'h':
            p += 2;
            break;
        case 'r':
            p += 5;
            break;
        case ']':
        case '(':
            p++;
            break;
        case 'c':
            for (int lines = 0; lines < 2 && p < end; p++)
                lines += file->data[p] == '\n';
            break;
        default:
            return 0;
        }
    }
    return 0;
}

/* Changes a byte of the pickle and makes its checksum right. */
static bool change_pickle(struct subject *s, int file, size_t at, uint8_t to)
{
    if (file < 0 || at == 0 || !s->files[file].map.pickle_crc)
        return false;
    uint8_t *data = copy_of(&s->files[file]);
    data[at] = to;
    set_crc(&s->files[file], data, s->files[file].map.pickle);
    return put_changed(s, file, data);
}

static bool change_number(struct subject *s, int file, const char *key, uint8_t to)
{
    size_t at = file < 0 ? 0 : number_after(&s->files[file], key);
    return at && s->files[file].data[at] != to && change_pickle(s, file, at, to);
}

static bool change_stage(struct subject *s)
{
    return s->optim1 >= 0 && blame(s, s->optim0) &&
           change_number(s, s->optim1, "zero_stage", s->is_stage3 ? 2 : 3);
}

static bool change_world(struct subject *s)
{
    return s->optim0 >= 0 && change_number(s, s->model, "dp_world_size", 9) &&
           ((s->blamed[0] = NULL), true);
}

static bool change_partition_count(struct subject *s)
{
    bool unused = s->is_stage3 && strstr(s->fixture, "autoep"); /* every sub-group tells its own */
    return s->optim1 >= 0 && !unused && blame(s, s->optim0) &&
           change_number(s, s->optim1, "partition_count", 9);
}

static bool change_padding(struct subject *s)
{
    return s->optim1 >= 0 && change_number(s, s->optim0, "group_paddings", 77) &&
           ((s->blamed[0] = NULL), true);
}

/* The version text is made another of the same length; rank 0 may be taken for the odd one. */
static bool change_version(struct subject *s)
{
    int i = s->optim1;
    size_t at = i < 0 ? 0 : find_text(s->files[i].data, s->files[i].map.pickle, "ds_version");
    for (size_t end = at + 40; at && at < end; at++)
        if (s->files[i].data[at] == 'X') { /* BINUNICODE */
            s->blamed[0] = NULL;
            bool done = change_pickle(s, i, at + 5, '9');
            s->blamed[0] = NULL;
            return done;
        }
    return false;
}

/* The first tensor of one dimension that begins its storage: opcodes Q, K 0, K or M n, TUPLE1. */
static size_t flat_view(const struct subject_file *file, bool *is_short)
{
    for (size_t p = file->map.pickle.lo; p + 8 < file->map.pickle.hi; p++) {
        const uint8_t *at = file->data + p;
        if (memcmp(at, "QK\0", 3))
            continue;
        *is_short = at[3] == 'K' && at[5] == 0x85;
        if (*is_short || (at[3] == 'M' && at[6] == 0x85))
            return p;
    }
    return 0;
}

static bool move_view(struct subject *s)
{
    bool is_short;
    size_t at = s->optim0 < 0 ? 0 : flat_view(&s->files[s->optim0], &is_short);
    return at && change_pickle(s, s->optim0, at + 2, 0xff);
}

static bool change_numel(struct subject *s)
{
    bool is_short;
    bool compressed =
        strstr(s->fixture, "states-") != NULL; /* not values: any number may be right */
    size_t at = s->optim1 < 0 || compressed ? 0 : flat_view(&s->files[s->optim0], &is_short);
    return at &&
           change_pickle(s, s->optim0, at + 4, (uint8_t)(s->files[s->optim0].data[at + 4] - 1)) &&
           ((s->blamed[0] = NULL), true);
}

/* A storage class whose name is as long, and whose elements are not. */
static bool change_dtype(struct subject *s)
{
    int i = s->optim0;
    size_t at = i < 0 ? 0 : find_text(s->files[i].data, s->files[i].map.pickle, "FloatStorage");
    if (!at || !s->files[i].map.pickle_crc)
        return false;
    uint8_t *data = copy_of(&s->files[i]);
    memcpy(data + at, "Short", 5);
    set_crc(&s->files[i], data, s->files[i].map.pickle);
    return put_changed(s, i, data);
}

/* A size in param_shapes: K n, TUPLE1 */
static bool change_shape(struct subject *s)
{
    int i = s->model;
    size_t at = i < 0 ? 0 : find_text(s->files[i].data, s->files[i].map.pickle, "param_shapes");
    for (size_t p = at; at && p + 3 < s->files[i].map.pickle.hi; p++)
        if (s->files[i].data[p] == 'K' && s->files[i].data[p + 1] > 1 &&
            s->files[i].data[p + 2] == 0x85) {
            bool done = change_pickle(s, i, p + 1, (uint8_t)(s->files[i].data[p + 1] + 90));
            s->blamed[0] = NULL; /* what does not fit may be told of the partitions */
            return done;
        }
    return false;
}

/* Both archives get the name of the other: nothing in the metadata tells. */
static bool swap_renamed(struct subject *s)
{
    if (s->optim0 < 0 || s->optim1 < 0 || s->is_stage3)
        return false;
    for (int from = s->optim0, to = s->optim1, k = 0; k < 2; k++) {
        uint8_t *data = copy_of(&s->files[from]);
        for (size_t p = 0; p + 16 < s->files[from].nbytes; p++)
            if (!memcmp(data + p, "zero_pp_rank_", 13) && !memcmp(data + p + 14, "_mp", 3))
                data[p + 13] = k == 0 ? '1' : '0';
        bool done = blame(s, to) && subject_put(s, s->files[to].name, data, s->files[from].nbytes);
        free(data);
        if (!done)
            return false;
        int swap = from;
        from = to;
        to = swap;
    }
    if (strstr(s->fixture, "moe")) /* ranks that share experts are held against each other */
        s->blamed[0] = s->blamed[1] = NULL;
    return true;
}

/* ---- Files of other saves ---- */

static bool take_other(struct subject *s, int file, const char *folder)
{
    char path[PATH_NBYTES];
    size_t nbytes;
    if (!blame(s, file))
        return false;
    char *data = slurp(path_of(path, "%s/%s", folder, s->files[file].name), &nbytes);
    bool done =
        data &&
        (nbytes != s->files[file].nbytes || memcmp(data, s->files[file].data, nbytes) != 0) &&
        subject_put(s, s->files[file].name, data, nbytes);
    free(data);
    return done;
}

static bool older_shard(struct subject *s)
{
    char folder[PATH_NBYTES];
    return blame(s, s->optim0) &&
           take_other(s, s->optim1, path_of(folder, "%s/global_step3", s->fixture));
}

static bool older_model(struct subject *s)
{
    char folder[PATH_NBYTES];
    s->blamed[1] = s->optim0 >= 0 ? s->files[s->optim0].name : NULL;
    if (s->model < 0 || !strcmp(s->tag, "global_step3"))
        return false;
    bool done = take_other(s, s->model, path_of(folder, "%s/global_step3", s->fixture));
    s->blamed[0] = s->blamed[1] = NULL; /* steps are held against each other */
    return done;
}

static bool other_model(struct subject *s)
{
    char folder[PATH_NBYTES];
    const char *name =
        strstr(s->fixture, "z2-bf16-w2-sgd") ? "good-z2-bf16-w2-llama" : "good-z2-bf16-w2-sgd";
    size_t n = strlen(s->fixture) - strlen(strrchr(s->fixture, '/'));
    bool done =
        take_other(s, s->optim0, path_of(folder, "%.*s/%s/global_step3", (int)n, s->fixture, name));
    s->blamed[0] = NULL;
    return done;
}

const struct harm harms[] = {
    {"file cut in half", "UZV022", "UZV022", cut_in_half},
    {"last byte lost", "UZV022", "UZV022", cut_last_byte},
    {"file empty", "UZV020", "UZV020", make_empty},
    {"file replaced by text", "UZV022", "UZV022", replace_by_text},
    {"link that leads to itself", "UZV021", "UZV021", loop_link},
    {"link that leads nowhere", "UZV021", "UZV021", dangle_link},
    {"folder in place of a file", "UZV021", "UZV021", replace_by_folder},
    {"first rank lost", "UZV010", "UZV010", drop_first_rank},
    {"other rank lost", "UZV010", "UZV010", drop_last_rank},
    {"model states lost", "UZV010", "UZV010", drop_model},
    {"file of an expert lost", "UZV042", "UZV042", drop_expert},
    {"rank replaced by a copy of another", "UZV026", "UZV026", duplicate_rank},
    {"files of two ranks swapped", "UZV026", "UZV026", swap_ranks},
    {"optimizer shard replaced by model states", "UZV023", "UZV023", model_as_optim},
    {"file of a rank too many", "UZV011 UZV026", "UZV011 UZV026", add_rank},
    {"two files of one rank", "UZV012", "UZV012", add_second_name},
    {"`latest` missing", "UZV001", "UZV001", latest_missing},
    {"`latest` empty", "UZV002", "UZV002", latest_empty},
    {"`latest` names no folder", "UZV003", "UZV003", latest_dangling},
    {"`latest` leads out of the checkpoint", "UZV002", "UZV002", latest_leads_out},
    {"staging folder left behind", "UZV004", "UZV004", leave_staging},
    {"half-written file left behind", "UZV004", "UZV004", leave_part},
    {"foreign file", "", "", add_foreign_file},
    {"bit flipped in a tensor", "", "UZV050", flip_data},
    {"tensor overwritten with zeros", "", "UZV050", zero_block},
    {"bit flipped in data.pkl", "UZV022", "UZV022", flip_pickle},
    {"bit flipped in the zip directory", "UZV022", "UZV022", flip_directory},
    {"bit flipped in the zip's end record", "UZV022", "UZV022", flip_end},
    {"bit flipped in a local header", "UZV022 UZV024", "UZV022 UZV024", flip_header},
    {"weights changed, checksum right (ZeRO 1, 2)", "", "UZV056", change_weights},
    {"NaN in frozen slices (ZeRO 3), checksum right", "", "UZV052", nan_in_frozen},
    {"NaN in masters (stage 0), checksum right", "UZV042", "UZV052", nan_in_masters},
    {"stage differs", "UZV032", "UZV032", change_stage},
    {"world size wrong", "UZV033 UZV010", "UZV033 UZV010", change_world},
    {"partition_count wrong", "UZV033 UZV040 UZV042", "UZV033 UZV040 UZV042",
     change_partition_count},
    {"padding wrong (ZeRO 1, 2)", "UZV040 UZV042", "UZV040 UZV042", change_padding},
    {"version differs", "UZV031 UZV042", "UZV031 UZV042", change_version},
    {"view past the end of its storage", "UZV024", "UZV024", move_view},
    {"number of elements wrong", "UZV024 UZV034 UZV040 UZV042", "UZV024 UZV034 UZV040 UZV042",
     change_numel},
    {"storage of another dtype", "UZV024", "UZV024", change_dtype},
    {"shape wrong", "UZV034 UZV040 UZV042", "UZV034 UZV040 UZV042", change_shape},
    {"two ranks swapped with their archive roots (ZeRO 1, 2)", "UZV040 UZV042", "UZV040 UZV042",
     swap_renamed},
    {"shard of an older save", "UZV030", "UZV030", older_shard},
    {"model states of an older save", "UZV035", "UZV035", older_model},
    {"shard of another model", "UZV031 UZV034 UZV040 UZV042", "UZV031 UZV034 UZV040 UZV042",
     other_model},
};

const size_t n_harms = sizeof harms / sizeof harms[0];
