/* SPDX-License-Identifier: Apache-2.0 */
/* Loading fixtures, and the conversion with all that is asked of it. */
#include "damage_run.h"

#include <errno.h>
#include <stdarg.h>
#include <time.h>

#include <unzero/consolidate.h>

enum {
    MAX_CPU_SECONDS = 2,   /* of one conversion */
    MAX_WALL_SECONDS = 60, /* of one conversion, on a machine that is busy with other things */
};

uint64_t damage_hash(uint64_t hash, const void *data, size_t nbytes)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < nbytes; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

void damage_failed(struct report *report, const char *format, ...)
{
    if (report->n_failures < MAX_SHOWN) {
        char *text = report->failures[report->n_failures];
        int n = snprintf(text, sizeof report->failures[0], "%s: ", report->now);
        va_list args;
        va_start(args, format);
        (void)vsnprintf(text + n, sizeof report->failures[0] - (size_t)n, format, args);
        va_end(args);
    }
    report->n_failures++;
}

/* Hash of the output files; 0 if the folder is not as a finished conversion leaves it. */
static uint64_t hash_output(const struct uz_consolidate_summary *summary, const char *out)
{
    uint64_t hash = 0xcbf29ce484222325;
    if (count_entries(out) != summary->n_files)
        return 0;
    for (size_t i = 0; i < summary->n_files; i++) {
        char path[PATH_NBYTES];
        size_t nbytes;
        char *data = slurp(path_of(path, "%s/%s", out, summary->files[i].name), &nbytes);
        if (!data || nbytes != summary->files[i].nbytes)
            hash = 0;
        else
            hash = damage_hash(hash, data, nbytes);
        free(data);
        (void)unlink(path);
    }
    return hash;
}

static void small_options(struct uz_consolidate_options *options, unsigned threads)
{
    uz_consolidate_options_default(options);
    options->durability = UZ_DURABLE_NONE;
    options->input.threads = threads;
    options->input.limits.max_pickle_bytes = 16 << 20;
    options->input.limits.max_pickle_nodes = 1 << 20;
    options->input.limits.max_pickle_arena = 64 << 20;
    options->input.limits.max_pickle_stack = 1 << 20;
    options->input.limits.max_pickle_memo = 1 << 20;
    options->input.limits.max_zip_entries = 1 << 16;
    options->input.limits.max_name_bytes = 4096;
    options->input.limits.max_tensors = 1 << 16;
    options->input.limits.max_shards = 4096;
    options->input.limits.max_header_bytes = 1 << 20;
}

/* An error must say what is wrong, and where if it is about a file. */
static void check_error(struct fixture *fixture, int rc, const struct uz_error *err)
{
    bool about_file = rc == UZ_IO || rc == UZ_FORMAT || rc == UZ_CORRUPT;
    if (rc != err->status)
        damage_failed(fixture->report, "returned %s, the error says %s", uz_status_name(rc),
                      uz_status_name(err->status));
    if (rc > UZ_IO || rc < UZ_MISMATCH)
        damage_failed(fixture->report, "status %s: %s", uz_status_name(rc), err->message);
    if (!err->message[0])
        damage_failed(fixture->report, "%s without a message", uz_status_name(rc));
    if (about_file && !err->file[0])
        damage_failed(fixture->report, "%s without a file: %s", uz_status_name(rc), err->message);
    for (const char *c = err->message; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            damage_failed(fixture->report, "a message with control characters");
    if (path_exists(fixture->out))
        damage_failed(fixture->report, "left an output behind");
}

int damage_convert(struct fixture *fixture, unsigned threads)
{
    struct uz_consolidate_options options;
    struct uz_consolidation *job = NULL;
    struct uz_error err;
    uint64_t output = 0;
    small_options(&options, threads);
    (void)alarm(MAX_WALL_SECONDS);
    clock_t begin = clock();
    int rc = uz_consolidation_plan(&job, fixture->root, fixture->out, &options, &err);
    if (rc == UZ_OK)
        rc = uz_consolidation_run(job, NULL, NULL, &err);
    double cpu = (double)(clock() - begin) / CLOCKS_PER_SEC;
    (void)alarm(0);
    if (rc == UZ_OK) {
        output = hash_output(uz_consolidation_summary(job), fixture->out);
        if (output == 0)
            damage_failed(fixture->report, "success, but the output is not whole");
        (void)rmdir(fixture->out);
    } else {
        check_error(fixture, rc, &err);
    }
    uz_consolidation_free(job);
    if (cpu > fixture->report->worst_cpu)
        fixture->report->worst_cpu = cpu;
    if (cpu > MAX_CPU_SECONDS)
        damage_failed(fixture->report, "took %.1f s of CPU", cpu);
    fixture->report->n_cases++;
    if (rc == UZ_OK && fixture->output == 0)
        fixture->output = output;
    if (rc == UZ_OK)
        return output == fixture->output ? OUTCOME_SAME : OUTCOME_OTHER;
    return OUTCOME_NOMEM + (rc < UZ_CANCELLED ? 8 : UZ_NOMEM - rc);
}

static bool is_shard(const char *name)
{
    size_t n = strlen(name);
    return n > 3 && strcmp(name + n - 3, ".pt") == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

/* Reads the tag folder; false if it cannot be. Buffers have room for damage. */
static bool load_files(struct fixture *fixture, const char *dir)
{
    char path[PATH_NBYTES];
    DIR *listing = opendir(dir);
    if (!listing)
        return false;
    for (const struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) {
        struct file *file = &fixture->files[fixture->n_files];
        size_t n = strlen(entry->d_name);
        if (!is_shard(entry->d_name) || n >= sizeof file->name || fixture->n_files == MAX_FILES)
            continue;
        memcpy(file->name, entry->d_name, n + 1);
        file->data = (uint8_t *)slurp(path_of(path, "%s/%s", dir, file->name), &file->nbytes);
        fixture->n_files += file->data != NULL;
    }
    (void)closedir(listing);
    qsort(fixture->files, fixture->n_files, sizeof *fixture->files, by_name);
    return fixture->n_files > 0;
}

void fixture_close(struct fixture *fixture)
{
    for (size_t i = 0; i < fixture->n_files; i++)
        free(fixture->files[i].data);
}

void fixture_put(struct fixture *fixture, const char *name, const void *data, size_t nbytes)
{
    char path[PATH_NBYTES];
    if (!write_file(path_of(path, "%s/%s", fixture->dir, name), data, nbytes))
        damage_failed(fixture->report, "%s: cannot be written: %s", path, strerror(errno));
}

void fixture_restore(struct fixture *fixture)
{
    remove_tree(fixture->root);
    if (mkdir(fixture->root, 0777) < 0 || mkdir(fixture->dir, 0777) < 0 ||
        !write_file(fixture->latest, fixture->tag, strlen(fixture->tag)))
        damage_failed(fixture->report, "%s: cannot be made: %s", fixture->root, strerror(errno));
    for (size_t i = 0; i < fixture->n_files; i++)
        fixture_put(fixture, fixture->files[i].name, fixture->files[i].data,
                    fixture->files[i].nbytes);
}

bool fixture_open(struct fixture *fixture, const char *path, const char *root,
                  struct report *report)
{
    char from[PATH_NBYTES];
    size_t nbytes;
    memset(fixture, 0, sizeof *fixture);
    fixture->name = strrchr(path, '/') + 1;
    fixture->report = report;
    (void)snprintf(report->now, sizeof report->now, "%s", fixture->name);
    char *latest = slurp(path_of(from, "%s/latest", path), &nbytes);
    if (latest)
        (void)snprintf(fixture->tag, sizeof fixture->tag, "%.*s", (int)strcspn(latest, " \r\n"),
                       latest);
    free(latest);
    path_of(fixture->root, "%s", root);
    path_of(fixture->dir, "%s/%s", root, fixture->tag);
    path_of(fixture->latest, "%s/latest", root);
    path_of(fixture->out, "%s.out", root);
    if (!load_files(fixture, path_of(from, "%s/%s", path, fixture->tag))) {
        damage_failed(report, "cannot be read");
        return false;
    }
    fixture_restore(fixture);
    if (damage_convert(fixture, 1) > OUTCOME_OTHER)
        damage_failed(report, "is not converted when it is sound");
    return fixture->output != 0;
}
