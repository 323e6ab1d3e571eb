/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Converts thousands of damaged checkpoints: each must end soon, in success or in an error that
 * says what is wrong, and leave nothing behind.
 *
 * The damage is made from the good fixtures and a seed, so it is always the same. A failure names
 * its case; `test_damage FIXTURE CASE` runs that one alone and keeps its files. UZ_DAMAGE_CASES
 * sets the number of cases of each fixture, UZ_TEST_SEED the seed.
 */
#include <glob.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <unzero/error.h>

#include "check.h"
#include "damage.h"
#include "damage_run.h"
#include "scratch.h"

/* Of tests/fuzz/fuzz_torch.c: reads bytes as a pickle and as a whole file, and aborts on a lie. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

enum {
    CASES_PER_FIXTURE = 72,
    MAX_PROCESSES = 4,
    MAX_RSS_KIB = 128 << 10,
    MAX_AS_BYTES = 1 << 30,
};

enum target {
    TARGET_END,
    TARGET_DIRECTORY,
    TARGET_HEADER,
    TARGET_PICKLE,
    TARGET_PICKLE_CRC, /* the CRC made right again, so that the damage gets through */
    TARGET_DATA,
    TARGET_ANYWHERE,
    TARGET_LATEST,
    N_TARGETS
};

static const char *const target_names[N_TARGETS] = {
    "zip end records",   "zip directory", "zip local headers", "pickle",
    "pickle, CRC right", "tensor data",   "anywhere",          "latest",
};

/* Rows of the table: targets, kinds of damage, and what is done to folders. */
enum { ROW_DAMAGE = N_TARGETS, ROW_FOLDER = N_TARGETS + N_DAMAGES };

static uint64_t seed = 0x756e7a65726f;
static glob_t fixtures;

static void make_crc_right(uint8_t *data, const struct zip_map *map)
{
    uint32_t crc = crc32_of(data + map->pickle.lo, map->pickle.hi - map->pickle.lo);
    for (unsigned i = 0; i < 4; i++)
        data[map->pickle_crc + i] = (uint8_t)(crc >> (8 * i));
}

/* The bytes that are aimed at. */
static struct range aim(enum target target, const struct zip_map *map, size_t nbytes)
{
    switch (target) {
    case TARGET_END:
        return map->end;
    case TARGET_DIRECTORY:
        return map->directory;
    case TARGET_HEADER:
        return map->headers[rng_below(map->n_headers)];
    case TARGET_PICKLE:
    case TARGET_PICKLE_CRC:
        return map->pickle;
    case TARGET_DATA:
        if (map->n_data > 0)
            return map->data[rng_below(map->n_data)];
        return map->pickle;
    default:
        return (struct range){0, nbytes};
    }
}

/* Chooses a case's file, place and kind of damage, and writes the damaged file. */
static void damage_file(struct fixture *fixture, unsigned number, enum target *target,
                        enum damage *damage)
{
    struct zip_map map;
    const struct file *file = &fixture->files[rng_below(fixture->n_files)];
    *target = (enum target)(number % N_TARGETS);
    *damage = (enum damage)rng_below(*target == TARGET_PICKLE_CRC ? DAMAGE_CUT : N_DAMAGES);
    bool latest = *target == TARGET_LATEST;
    size_t nbytes = latest ? strlen(fixture->tag) : file->nbytes;
    uint8_t *data = calloc(1, nbytes + DAMAGE_MAX_GROWTH);
    (void)snprintf(fixture->report->now, sizeof fixture->report->now, "%s %u: %s of %s, %s",
                   fixture->name, number, latest ? "text" : target_names[*target],
                   latest ? "latest" : file->name, damage_names[*damage]);
    if (!data || (!latest && !zip_map_make(&map, file->data, file->nbytes))) {
        damage_failed(fixture->report, "cannot be damaged");
        free(data);
        return;
    }
    memcpy(data, latest ? (const uint8_t *)fixture->tag : file->data, nbytes);
    damage_do(*damage, data, &nbytes, aim(*target, &map, nbytes));
    if (*target == TARGET_PICKLE_CRC && map.pickle_crc)
        make_crc_right(data, &map);
    if (!latest) {
        fixture_put(fixture, file->name, data, nbytes);
        LLVMFuzzerTestOneInput(data, nbytes);
    } else if (!write_file(fixture->latest, data, nbytes)) {
        damage_failed(fixture->report, "%s: cannot be written", fixture->latest);
    }
    free(data);
}

/* Case `number` of a fixture depends on nothing but these two and the seed. */
static int run_case(struct fixture *fixture, unsigned number)
{
    enum target target;
    enum damage damage;
    rng_state = damage_hash(seed + number, fixture->name, strlen(fixture->name));
    damage_file(fixture, number, &target, &damage);
    int outcome = damage_convert(fixture, 1 + number % 2);
    bool guarded = target < TARGET_PICKLE_CRC && !strstr(fixture->name, "no-crc");
    if (guarded && outcome == OUTCOME_OTHER)
        damage_failed(fixture->report, "damage that a checksum or a header gives away changed the "
                                       "output without a word");
    fixture->report->counts[target][outcome]++;
    fixture->report->counts[ROW_DAMAGE + damage][outcome]++;
    return outcome;
}

/*
 * The length of a local header made a little larger where the data behind it begins with zeros:
 * libzip forgives that, and would find the data later than it is.
 */
static void shift_data(struct fixture *fixture, const struct file *file)
{
    struct zip_map map;
    bool mapped = zip_map_make(&map, file->data, file->nbytes);
    for (size_t i = 0; mapped && i < map.n_headers; i++) {
        uint8_t *length = file->data + map.headers[i].lo + 28;
        const uint8_t *data = file->data + map.headers[i].hi;
        uint8_t keep = *length;
        for (unsigned n = 1; n <= 3 && data[n - 1] == 0 && keep + n <= UINT8_MAX; n++) {
            (void)snprintf(fixture->report->now, sizeof fixture->report->now,
                           "%s: local header %zu of %s, %u bytes longer", fixture->name, i,
                           file->name, n);
            *length = (uint8_t)(keep + n);
            fixture_put(fixture, file->name, file->data, file->nbytes);
            int outcome = damage_convert(fixture, 1);
            fixture->report->counts[TARGET_HEADER][outcome]++;
            if (outcome == OUTCOME_OTHER)
                damage_failed(fixture->report, "the output changed without a word");
        }
        *length = keep;
    }
    fixture_put(fixture, file->name, file->data, file->nbytes);
}

static void run_cases(struct fixture *fixture)
{
    const char *text = getenv("UZ_DAMAGE_CASES");
    unsigned n = text ? (unsigned)strtoul(text, NULL, 10) : CASES_PER_FIXTURE;
    for (unsigned number = 0; number < n; number++) {
        (void)run_case(fixture, number);
        fixture_restore(fixture);
    }
}

/* ---- Processes: a crash or a hang ends one of them only ---- */

static void limit_memory(void)
{
    struct rlimit limit = {MAX_AS_BYTES, MAX_AS_BYTES};
    if (!SANITIZED)
        (void)setrlimit(RLIMIT_AS, &limit);
}

static void run_fixture(const char *path, unsigned process, struct report *report)
{
    struct fixture fixture;
    char root[PATH_NBYTES];
    if (fixture_open(&fixture, path, path_of(root, "%s/%u", scratch_dir, process), report)) {
        run_cases(&fixture);
        for (size_t i = 0; i < fixture.n_files; i++)
            shift_data(&fixture, &fixture.files[i]);
        damage_folders(&fixture, ROW_FOLDER);
    }
    fixture_close(&fixture);
}

/* The damage is done to zip archives; test_containers damages every byte of the others. */
static bool is_of_zips(const char *path)
{
    const char *name = strrchr(path, '/');
    return !strstr(name, "-legacy") && !strstr(name, "-zst");
}

/* Every n_processes-th fixture. */
static void run_process(unsigned process, unsigned n_processes, struct report *report)
{
    struct rusage usage;
    limit_memory();
    for (size_t i = process; i < fixtures.gl_pathc; i += n_processes)
        if (is_of_zips(fixtures.gl_pathv[i]))
            run_fixture(fixtures.gl_pathv[i], process, report);
    if (!SANITIZED && getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > MAX_RSS_KIB)
        damage_failed(report, "%ld KiB of memory were used", usage.ru_maxrss);
    scratch_dir[0] = '\0'; /* the parent's to remove */
}

static void check_report(const struct report *report, int status)
{
    CHECK_F(WIFEXITED(status) || WIFSIGNALED(status), "a process ended oddly");
    CHECK_F(!WIFSIGNALED(status), "%s: signal %d", report->now, WTERMSIG(status));
    CHECK_F(!WIFEXITED(status) || WEXITSTATUS(status) == 0, "%s: exit status %d", report->now,
            WEXITSTATUS(status));
    for (unsigned i = 0; i < report->n_failures && i < MAX_SHOWN; i++)
        CHECK_F(false, "%s", report->failures[i]);
    CHECK_F(report->n_failures <= MAX_SHOWN, "and %u failures more",
            report->n_failures - MAX_SHOWN);
}

static const char *row_name(unsigned row)
{
    if (row < N_TARGETS)
        return target_names[row];
    return row < ROW_FOLDER ? damage_names[row - ROW_DAMAGE] : damage_folder_name(row - ROW_FOLDER);
}

static void print_table(const struct report *reports, unsigned n)
{
    printf("\n%-26s%8s%8s", "", "same", "other");
    for (int status = UZ_NOMEM; status >= UZ_CANCELLED; status--)
        printf(" %11s", uz_status_name(status));
    for (unsigned row = 0; row_name(row); row++) {
        printf("%s%-26s", row == ROW_DAMAGE || row == ROW_FOLDER ? "\n\n" : "\n", row_name(row));
        for (int outcome = 0; outcome < N_OUTCOMES; outcome++) {
            unsigned sum = 0;
            for (unsigned i = 0; i < n; i++)
                sum += reports[i].counts[row][outcome];
            printf(outcome < OUTCOME_NOMEM ? "%8u" : " %11u", sum);
        }
    }
    printf("\n");
}

static void test_damaged_checkpoints(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = processors < 1               ? 1
                 : processors > MAX_PROCESSES ? MAX_PROCESSES
                                              : (unsigned)processors;
    unsigned n_cases = 0;
    double worst_cpu = 0;
    pid_t pids[MAX_PROCESSES];
    struct report *reports =
        mmap(NULL, n * sizeof *reports, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(reports != MAP_FAILED))
        return;
    (void)fflush(NULL);
    for (unsigned i = 0; i < n; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            run_process(i, n, &reports[i]);
            exit(0); /* not _exit: a sanitizer looks for leaks now */
        }
        CHECK(pids[i] > 0);
    }
    for (unsigned i = 0; i < n; i++) {
        int status = 0;
        if (CHECK(waitpid(pids[i], &status, 0) == pids[i]))
            check_report(&reports[i], status);
        n_cases += reports[i].n_cases;
        worst_cpu = reports[i].worst_cpu > worst_cpu ? reports[i].worst_cpu : worst_cpu;
    }
    print_table(reports, n);
    printf("%u conversions, the slowest took %.3f s of CPU\n", n_cases, worst_cpu);
    CHECK_F(n_cases > 2000 || getenv("UZ_DAMAGE_CASES"), "only %u cases", n_cases);
    (void)munmap(reports, n * sizeof *reports);
}

/* One case again; its files stay. */
static int replay(const char *path, unsigned number)
{
    static struct report report;
    struct fixture fixture;
    char root[PATH_NBYTES];
    if (fixture_open(&fixture, path, path_of(root, "%s/0", scratch_dir), &report))
        (void)run_case(&fixture, number);
    printf("%s\nfiles: %s\n", report.now, root);
    for (unsigned i = 0; i < report.n_failures && i < MAX_SHOWN; i++)
        printf("%s\n", report.failures[i]);
    fixture_close(&fixture);
    scratch_dir[0] = '\0';
    return report.n_failures > 0;
}

int main(int argc, char **argv)
{
    static CU_TestInfo tests[] = {
        {"damaged checkpoints", test_damaged_checkpoints},
        CU_TEST_INFO_NULL,
    };
    char pattern[PATH_NBYTES];
    const char *srcdir = getenv("srcdir"), *text = getenv("UZ_TEST_SEED");
    seed = text ? strtoull(text, NULL, 0) : seed;
    printf("UZ_TEST_SEED=0x%" PRIx64 "\n", seed);
    scratch_make();
    path_of(pattern, "%s/fixtures/%s", srcdir ? srcdir : ".", argc > 1 ? argv[1] : "good-*");
    if (glob(pattern, 0, NULL, &fixtures) != 0) {
        (void)fprintf(stderr, "%s: no fixtures\n", pattern);
        return 99;
    }
    int status = argc > 2 ? replay(fixtures.gl_pathv[0], (unsigned)strtoul(argv[2], NULL, 10))
                          : check_run("damage", tests);
    globfree(&fixtures);
    return status;
}
