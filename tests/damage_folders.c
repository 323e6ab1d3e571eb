/* SPDX-License-Identifier: Apache-2.0 */
/* Damage to folders: files that are missing, of another kind, of another rank. */
#include <errno.h>
#include <sys/stat.h>

#include "damage_run.h"

/* What a trick works on: a shard, and the paths of two of the optimizer's. */
struct place {
    struct fixture *fixture;
    const struct file *file;
    char path[PATH_NBYTES];
    const struct file *optim[2];
    char optim_paths[2][PATH_NBYTES];
    size_t n_optim;
};

static void must(struct place *place, bool done)
{
    if (!done)
        damage_failed(place->fixture->report, "the damage cannot be done: %s", strerror(errno));
}

static void trick_missing(struct place *p)
{
    must(p, unlink(p->path) == 0);
}

static void trick_empty(struct place *p)
{
    must(p, truncate(p->path, 0) == 0);
}

static void trick_folder(struct place *p)
{
    must(p, unlink(p->path) == 0 && mkdir(p->path, 0777) == 0);
}

static void trick_pipe(struct place *p)
{
    must(p, unlink(p->path) == 0 && mkfifo(p->path, 0666) == 0);
}

static void trick_device(struct place *p)
{
    must(p, unlink(p->path) == 0 && symlink("/dev/zero", p->path) == 0);
}

static void trick_loop(struct place *p)
{
    must(p, unlink(p->path) == 0 && symlink(p->path, p->path) == 0);
}

static void trick_dangling(struct place *p)
{
    must(p, unlink(p->path) == 0 && symlink("nowhere", p->path) == 0);
}

static void trick_unreadable(struct place *p)
{
    must(p, chmod(p->path, 0) == 0);
}

static void trick_text(struct place *p)
{
    must(p, write_file(p->path, "<html>404</html>\n", 17));
}

static void trick_pointer(struct place *p)
{
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    must(p, write_file(p->path, pointer, sizeof pointer - 1));
}

/* The name of an optimizer shard with another rank. */
static void rank_path(const struct place *p, unsigned rank, char path[PATH_NBYTES])
{
    const char *name = p->optim[0]->name;
    const char *at = strstr(name, "pp_rank_") + strlen("pp_rank_");
    path_of(path, "%s/%.*s%u%s", p->fixture->dir, (int)(at - name), name, rank,
            at + strspn(at, "0123456789"));
}

static void trick_rank_added(struct place *p)
{
    char path[PATH_NBYTES];
    rank_path(p, (unsigned)p->n_optim, path);
    must(p, write_file(path, p->optim[0]->data, p->optim[0]->nbytes));
}

static void trick_rank_renamed(struct place *p)
{
    char path[PATH_NBYTES];
    rank_path(p, (unsigned)p->n_optim + 6, path);
    must(p, rename(p->optim_paths[0], path) == 0);
}

static void trick_rank_huge(struct place *p)
{
    char path[PATH_NBYTES];
    rank_path(p, UINT32_MAX, path);
    must(p, rename(p->optim_paths[0], path) == 0);
}

/* The same rank under two spellings of its name. */
static void trick_rank_twice(struct place *p)
{
    char path[PATH_NBYTES];
    const char *name = p->optim[0]->name;
    path_of(path, "%s/%s%s", p->fixture->dir, strncmp(name, "bf16_", 5) ? "bf16_" : "",
            strncmp(name, "bf16_", 5) ? name : name + 5);
    must(p, write_file(path, p->optim[0]->data, p->optim[0]->nbytes));
}

static void trick_ranks_swapped(struct place *p)
{
    fixture_put(p->fixture, p->optim[0]->name, p->optim[1]->data, p->optim[1]->nbytes);
    fixture_put(p->fixture, p->optim[1]->name, p->optim[0]->data, p->optim[0]->nbytes);
}

static void trick_rank_copied(struct place *p)
{
    fixture_put(p->fixture, p->optim[1]->name, p->optim[0]->data, p->optim[0]->nbytes);
}

static void trick_kinds_swapped(struct place *p)
{
    fixture_put(p->fixture, p->file->name, p->optim[0]->data, p->optim[0]->nbytes);
    fixture_put(p->fixture, p->optim[0]->name, p->file->data, p->file->nbytes);
}

static void trick_tag_file(struct place *p)
{
    remove_tree(p->fixture->dir);
    must(p, write_file(p->fixture->dir, "", 0));
}

static void trick_tag_loop(struct place *p)
{
    remove_tree(p->fixture->dir);
    must(p, symlink(p->fixture->dir, p->fixture->dir) == 0);
}

static void trick_tag_empty(struct place *p)
{
    remove_tree(p->fixture->dir);
    must(p, mkdir(p->fixture->dir, 0777) == 0);
}

static void trick_foreign(struct place *p)
{
    fixture_put(p->fixture, "rng_state_0.pth", "junk", 4);
    fixture_put(p->fixture, "zero_to_fp32.py", "", 0);
    fixture_put(p->fixture, "zero_pp_rank_x_mp_rank_00_optim_states.pt", "junk", 4);
}

static void write_latest(struct place *p, const char *text)
{
    must(p, write_file(p->fixture->latest, text, strlen(text)));
}

static void latest_up(struct place *p)
{
    write_latest(p, "../x");
}

static void latest_odd(struct place *p)
{
    write_latest(p, "\33[2J\xff\xfe\n\t");
}

static void latest_empty(struct place *p)
{
    write_latest(p, " \n");
}

static void latest_elsewhere(struct place *p)
{
    write_latest(p, "global_step999");
}

static void latest_missing(struct place *p)
{
    must(p, unlink(p->fixture->latest) == 0);
}

static void latest_folder(struct place *p)
{
    must(p, unlink(p->fixture->latest) == 0 && mkdir(p->fixture->latest, 0777) == 0);
}

static void latest_pipe(struct place *p)
{
    must(p, unlink(p->fixture->latest) == 0 && mkfifo(p->fixture->latest, 0666) == 0);
}

static void latest_loop(struct place *p)
{
    must(p, unlink(p->fixture->latest) == 0 && symlink("latest", p->fixture->latest) == 0);
}

enum { ALWAYS = 0, TWO_RANKS = 1, NO_ROOT = 2, SUCCEEDS = 4 };

static const struct trick {
    const char *name;
    void (*apply)(struct place *p);
    unsigned needs; /* TWO_RANKS; NO_ROOT: the user is not root. SUCCEEDS: all others fail */
} tricks[] = {
    {"shard missing", trick_missing, ALWAYS},
    {"shard empty", trick_empty, ALWAYS},
    {"shard is a folder", trick_folder, ALWAYS},
    {"shard is a pipe", trick_pipe, ALWAYS},
    {"shard is a device", trick_device, ALWAYS},
    {"shard is a loop of links", trick_loop, ALWAYS},
    {"shard is a dangling link", trick_dangling, ALWAYS},
    {"shard unreadable", trick_unreadable, NO_ROOT},
    {"shard is a web page", trick_text, ALWAYS},
    {"shard is an LFS pointer", trick_pointer, ALWAYS},
    {"one rank too many", trick_rank_added, ALWAYS},
    {"rank renamed", trick_rank_renamed, ALWAYS},
    {"rank beyond 31 bits", trick_rank_huge, ALWAYS},
    {"rank twice", trick_rank_twice, ALWAYS},
    {"ranks swapped", trick_ranks_swapped, TWO_RANKS},
    {"rank copied", trick_rank_copied, TWO_RANKS},
    {"kinds swapped", trick_kinds_swapped, ALWAYS},
    {"tag folder is a file", trick_tag_file, ALWAYS},
    {"tag folder is a loop", trick_tag_loop, ALWAYS},
    {"tag folder empty", trick_tag_empty, ALWAYS},
    {"foreign files", trick_foreign, SUCCEEDS},
    {"latest climbs", latest_up, ALWAYS},
    {"latest odd", latest_odd, ALWAYS},
    {"latest empty", latest_empty, ALWAYS},
    {"latest elsewhere", latest_elsewhere, ALWAYS},
    {"latest missing", latest_missing, ALWAYS},
    {"latest is a folder", latest_folder, ALWAYS},
    {"latest is a pipe", latest_pipe, ALWAYS},
    {"latest is a loop", latest_loop, ALWAYS},
};

enum { N_TRICKS = sizeof tricks / sizeof tricks[0] };

const char *damage_folder_name(unsigned trick)
{
    return trick < N_TRICKS ? tricks[trick].name : NULL;
}

/* The shard that a trick works on: in turn each; never the optimizer's first, which has its own. */
static void choose(struct place *p, struct fixture *fixture, unsigned turn)
{
    *p = (struct place){.fixture = fixture};
    for (size_t i = 0; i < fixture->n_files; i++) {
        const struct file *file = &fixture->files[i];
        if (!strstr(file->name, "zero_pp_rank_") || !strstr(file->name, "_optim_states"))
            continue;
        if (p->n_optim < 2) {
            p->optim[p->n_optim] = file;
            path_of(p->optim_paths[p->n_optim], "%s/%s", fixture->dir, file->name);
        }
        p->n_optim++;
    }
    do
        p->file = &fixture->files[turn++ % fixture->n_files];
    while (p->file == p->optim[0]);
    path_of(p->path, "%s/%s", fixture->dir, p->file->name);
}

static void try_trick(struct fixture *fixture, unsigned trick, unsigned row)
{
    struct place place;
    struct report *report = fixture->report;
    choose(&place, fixture, trick);
    (void)snprintf(report->now, sizeof report->now, "%s: %s (%s)", fixture->name,
                   tricks[trick].name, place.file->name);
    tricks[trick].apply(&place);
    int outcome = damage_convert(fixture, 2);
    report->counts[row][outcome]++;
    if ((outcome == OUTCOME_SAME) != (tricks[trick].needs == SUCCEEDS))
        damage_failed(report, "%s", outcome <= OUTCOME_OTHER ? "success" : "failure");
    fixture_restore(fixture);
}

void damage_folders(struct fixture *fixture, unsigned first_row)
{
    struct place place;
    choose(&place, fixture, 0);
    if (place.n_optim == 0)
        return; /* stage 0: the tricks are about optimizer shards */
    for (unsigned trick = 0; trick < N_TRICKS; trick++)
        if ((tricks[trick].needs != TWO_RANKS || place.n_optim > 1) &&
            (tricks[trick].needs != NO_ROOT || geteuid() != 0))
            try_trick(fixture, trick, first_row + trick);
}
