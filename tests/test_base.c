/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of what everything stands on: errors, cursors, memory, maps, text, threads, files. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <unzero/limits.h>
#include <unzero/version.h>

#include "base/cursor.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/notes.h"
#include "base/parallel.h"
#include "base/utf8.h"
#include "check.h"
#include "scratch.h"

/* ---- Errors ---- */

static void test_error_text(void)
{
    char text[3072], cut[12];
    struct uz_error err;
    uz_error_clear(&err);
    CHECK_EQ_STR(uz_error_format(&err, text, sizeof text), "");
    CHECK_EQ_I64(uz_fail(&err, UZ_ARG, "no %s", "way"), UZ_ARG);
    CHECK_EQ_STR(uz_error_format(&err, text, sizeof text), "no way");
    CHECK_EQ_I64(uz_fail_at(&err, UZ_CORRUPT, "a/b.pt", 12, "is %d", 7), UZ_CORRUPT);
    CHECK_EQ_STR(uz_error_format(&err, text, sizeof text), "a/b.pt: at byte 12: is 7");
    CHECK_EQ_STR(uz_error_format(&err, cut, sizeof cut), "a/b.pt: at ");
    CHECK_EQ_I64(uz_context(&err, UZ_CORRUPT, "rank %d", 3), UZ_CORRUPT);
    CHECK_EQ_STR(err.message, "rank 3: is 7");
    CHECK_EQ_I64(uz_error_in_file(&err, UZ_CORRUPT, "other"), UZ_CORRUPT);
    CHECK_EQ_STR(err.file, "a/b.pt"); /* the first one stays */
    CHECK_EQ_I64(uz_fail_errno(&err, ENOSPC, "f", "cannot be %s", "made"), UZ_IO);
    CHECK_EQ_STR(uz_error_format(&err, text, sizeof text),
                 "f: cannot be made: No space left on device");
    CHECK_EQ_I64(err.sys_errno, ENOSPC);
    CHECK_EQ_I64(uz_fail_errno(&err, ENOMEM, NULL, "x"), UZ_NOMEM);
    CHECK_EQ_I64(uz_fail(NULL, UZ_LIMIT, "nobody looks"), UZ_LIMIT);
    CHECK_EQ_I64(uz_context(NULL, UZ_LIMIT, "nobody looks"), UZ_LIMIT);
    CHECK_EQ_STR(uz_status_name(UZ_CANCELLED), "CANCELLED");
    CHECK_EQ_STR(uz_status_name(UZ_CANCELLED - 1), "UNKNOWN");
    CHECK_EQ_STR(uz_status_name(1), "UNKNOWN");
    CHECK_EQ_STR(uz_version(), UZ_VERSION_STRING);
}

static void test_error_escapes(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"plain \\ text", "plain \\ text"},
        {"\x1b[31mred\a", "\\x1b[31mred\\x07"},
        {"line\nline\r\t\x7f", "line\\x0aline\\x0d\\x09\\x7f"},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xff\xc3(", "\\xff\\xc3("}, /* not UTF-8 */
        {"\xc2\x9b"
         "1m",
         "\\xc2\\x9b"
         "1m"},                              /* a C1 control: CSI */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* a surrogate */
        {"\xc3", "\\xc3"},                   /* cut */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uz_error err;
        struct uz_notes notes = {0};
        (void)uz_fail_at(&err, UZ_FORMAT, cases[i].text, UZ_NO_OFFSET, "%s", cases[i].text);
        CHECK_EQ_STR(err.message, cases[i].want);
        CHECK_EQ_STR(err.file, cases[i].want);
        CHECK_EQ_I64(uz_warn(&notes, &err, "%s", cases[i].text), UZ_OK);
        CHECK_EQ_STR(notes.items[0], cases[i].want);
        uz_notes_free(&notes);
    }
}

/* Text that does not fit: paths lose their head, messages their end, characters stay whole. */
static void test_error_cuts(void)
{
    static const struct {
        const char *part;
        size_t n;
    } cases[] = {{"a", 1015},       {"a", 1016},       {"a", 1017},   {"a", 5000},
                 {"\x01", 200},     {"\x01", 300},     {"\x01", 900}, {"\xc3\xa4", 505},
                 {"\xc3\xa4", 507}, {"a\xc3\xa4", 900}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[8192] = "", again[8192];
        struct uz_error err;
        for (size_t k = 0; k < cases[i].n; k++)
            (void)strcat(path, cases[i].part);
        (void)strcat(path, "/file.pt");
        (void)uz_fail_at(&err, UZ_FORMAT, path, 5, "%s", path);
        size_t n = strlen(err.file);
        CHECK_F(n > 8 && !strcmp(err.file + n - 8, "/file.pt"), "case %zu: ends in %s", i,
                err.file + (n > 8 ? n - 8 : 0));
        bool whole =
            strlen(uz_printable(again, sizeof again, path, strlen(path))) < sizeof err.file;
        CHECK_F(whole ? !strcmp(err.file, again) : !strncmp(err.file, "...", 3), "case %zu", i);
        CHECK(whole || n > sizeof err.file - 6);
        for (unsigned k = 0; k < 5; k++)
            (void)uz_context(&err, UZ_FORMAT, "%.*s\xc3\xa4", (int)k, path);
        CHECK(uz_utf8_valid(err.message, strlen(err.message)));
        (void)uz_fail_errno(&err, ENOENT, path, "%s", path);
        CHECK(uz_utf8_valid(err.message, strlen(err.message)));
    }
}

/* ---- Cursors ---- */

static void test_cursor(void)
{
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 0xf0, 'a', 'b', '\n', 'c', '\n', '\n', 'd'};
    struct uz_cursor cur;
    struct uz_error err;
    uint8_t u8 = 0;
    uint16_t u16 = 0;
    uint32_t u32 = 0;
    uint64_t u64 = 0, n = 77;
    const uint8_t *p = NULL;
    uz_cursor_init(&cur, bytes, sizeof bytes, "f.pkl", 100);
    CHECK(uz_get_le16(&cur, &u16, &err) == UZ_OK && u16 == 0x0201);
    cur.pos = 0;
    CHECK(uz_get_le32(&cur, &u32, &err) == UZ_OK && u32 == 0x04030201);
    cur.pos = 1;
    CHECK(uz_get_le64(&cur, &u64, &err) == UZ_OK && u64 == 0xf008070605040302);
    cur.pos = 0;
    CHECK(uz_get_be64(&cur, &u64, &err) == UZ_OK && u64 == 0x0102030405060708);
    CHECK(uz_get_u8(&cur, &u8, &err) == UZ_OK && u8 == 0xf0);
    CHECK(uz_get_line(&cur, &p, &n, &err) == UZ_OK && n == 2 && p[1] == 'b');
    CHECK(uz_get_line(&cur, &p, &n, &err) == UZ_OK && n == 1 && p[0] == 'c');
    CHECK(uz_get_line(&cur, &p, &n, &err) == UZ_OK && n == 0);
    CHECK_EQ_U64(uz_cursor_left(&cur), 1);
    CHECK_EQ_I64(uz_get_line(&cur, &p, &n, &err), UZ_CORRUPT);
    CHECK_EQ_I64(uz_get_le16(&cur, &u16, &err), UZ_CORRUPT);
    CHECK_EQ_STR(err.file, "f.pkl");
    CHECK_EQ_U64(err.offset, 115);
    CHECK_EQ_I64(uz_get_bytes(&cur, UINT64_MAX, &p, &err), UZ_CORRUPT);
    CHECK_EQ_U64(uz_cursor_offset(&cur), 115); /* nothing moved */
    CHECK_EQ_I64(uz_get_bytes(&cur, 1, &p, &err), UZ_OK);
    CHECK_EQ_I64(uz_get_bytes(&cur, 0, &p, &err), UZ_OK);
    CHECK_EQ_I64(uz_get_u8(&cur, &u8, &err), UZ_CORRUPT);
    CHECK_EQ_I64(uz_get_le32(&cur, &u32, &err), UZ_CORRUPT);
    CHECK_EQ_I64(uz_get_le64(&cur, &u64, &err), UZ_CORRUPT);
    CHECK_EQ_I64(uz_get_be64(&cur, &u64, &err), UZ_CORRUPT);
    CHECK_EQ_I64(uz_get_line(&cur, &p, &n, &err), UZ_CORRUPT);
}

/* ---- Memory ---- */

static void test_arena(void)
{
    struct uz_error err;
    struct uz_arena *arena = uz_arena_new(100000);
    uint64_t total = 0;
    const char *text = NULL;
    unsigned char *p = NULL;
    for (size_t n = 0; n < 300; n++) { /* small and large by turns; none may overlap */
        size_t nbytes = n % 7 ? n : 20 * n;
        int rc = uz_arena_alloc(arena, nbytes, 1, &p, &err);
        total += (nbytes + 15) / 16 * 16;
        CHECK_EQ_I64(rc, total <= 100000 ? UZ_OK : UZ_LIMIT);
        if (rc < 0)
            break;
        CHECK((uintptr_t)p % 16 == 0);
        memset(p, (int)n, nbytes);
    }
    CHECK(total > 100000);
    CHECK(uz_arena_used(arena) <= 100000 && uz_arena_used(arena) > 90000);
    uz_arena_free(arena);
    arena = uz_arena_new(UINT64_MAX);
    CHECK_EQ_I64(uz_arena_strndup(arena, "abc\0def", 7, &text, &err), UZ_OK);
    CHECK_EQ_MEM(text, "abc\0def", 8);
    CHECK(uz_arena_alloc(arena, UINT64_MAX - 3, 1, &p, &err) < 0); /* rounding up would wrap */
    CHECK(uz_arena_alloc(arena, (uint64_t)1 << 62, 4, &p, &err) < 0);
    CHECK_EQ_MEM(text, "abc\0def", 8);
    uz_arena_free(arena);
    uz_arena_free(NULL);
}

static void test_arrays(void)
{
    struct uz_error err;
    uint32_t *items = NULL, *slot = NULL, *before;
    size_t n = 0, cap = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        CHECK_EQ_I64(UZ_APPEND(items, n, cap, &slot, &err), UZ_OK);
        CHECK_EQ_U64(*slot, 0);
        *slot = i;
    }
    for (uint32_t i = 0; i < 1000; i++)
        CHECK_EQ_U64(items[i], i);
    before = items;
    size_t cap_before = cap;
    CHECK_EQ_I64(uz_reserve(&items, &cap, UINT64_MAX, sizeof *items, &err), UZ_NOMEM);
    CHECK_EQ_I64(uz_reserve(&items, &cap, (uint64_t)1 << 62, sizeof *items, &err), UZ_NOMEM);
    CHECK_EQ_I64(uz_reserve(&items, &cap, (uint64_t)1 << 61, sizeof *items, &err), UZ_NOMEM);
    CHECK(items == before && cap == cap_before);
    CHECK_EQ_I64(uz_reserve(&items, &cap, n, sizeof *items, &err), UZ_OK);
    CHECK(items == before && cap == cap_before);
    free(items);
    CHECK_EQ_I64(uz_alloc(&items, UINT64_MAX / 2, 4, &err), UZ_NOMEM);
    CHECK_EQ_I64(uz_alloc(&items, (uint64_t)1 << 62, 4, &err), UZ_NOMEM);
    CHECK_EQ_I64(uz_alloc(&items, 0, 4, &err), UZ_OK);
    CHECK(items != NULL);
    free(items);
}

/* ---- Maps, hashes, text ---- */

static void test_map(void)
{
    enum { N = 100000, KEY = 12 };
    char(*keys)[KEY] = malloc((size_t)N * KEY);
    struct uz_map *map = uz_map_new();
    uint64_t value, n_wrong = 0;
    bool present = false;
    if (!keys || !map)
        abort();
    for (uint64_t i = 0; i < N; i++) {
        (void)snprintf(keys[i], KEY, "k.%" PRIu64, i);
        n_wrong += uz_map_add(map, keys[i], strlen(keys[i]), i * 3, &present, NULL) < 0 || present;
    }
    for (uint64_t i = 0; i < N; i++)
        n_wrong += !uz_map_get(map, keys[i], strlen(keys[i]), &value) || value != i * 3;
    CHECK_EQ_U64(n_wrong, 0);
    CHECK(!uz_map_get(map, "k.", 2, &value));
    CHECK(!uz_map_get(map, "", 0, NULL));
    CHECK_EQ_I64(uz_map_add(map, "k.5", 3, 77, &present, NULL), UZ_OK);
    CHECK(present);
    CHECK(uz_map_get(map, "k.5", 3, &value) && value == 15); /* stays as it was */
    CHECK_EQ_I64(uz_map_add(map, "a\0b", 3, 1, &present, NULL), UZ_OK);
    CHECK_EQ_I64(uz_map_add(map, "a\0c", 3, 2, NULL, NULL), UZ_OK);
    CHECK_EQ_I64(uz_map_add(map, "", 0, 3, &present, NULL), UZ_OK);
    CHECK(!present && uz_map_get(map, "a\0c", 3, &value) && value == 2);
    CHECK(uz_map_get(map, "", 0, &value) && value == 3);
    uz_map_free(map);
    uz_map_free(NULL);
    free(keys);
}

static void test_hash(void)
{
    uint64_t ab = uz_hash_bytes(uz_hash_bytes(0, "a", 1), "b", 1);
    CHECK(ab == uz_hash_bytes(uz_hash_bytes(0, "a", 1), "b", 1));
    CHECK(ab != uz_hash_bytes(uz_hash_bytes(0, "b", 1), "a", 1));
    CHECK(uz_hash_u64(ab, 1) != uz_hash_u64(ab, 2));
    CHECK(uz_hash_u64(1, 0) != uz_hash_u64(2, 0));
}

/* Encodes without asking whether one may. */
static void encode(uint32_t code, size_t n, unsigned char *bytes)
{
    static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; code >>= 6)
        bytes[i] = (unsigned char)(0x80 | (code & 0x3f));
    bytes[0] = (unsigned char)(leads[n] | code);
}

/* Every form that 1 to 4 bytes can have: only the shortest of a character is right. */
static void test_utf8(void)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000, 0x200000};
    uint64_t n_wrong = 0;
    unsigned char bytes[4];
    for (size_t n = 1; n <= 4; n++)
        for (uint32_t code = 0; code < least[n + 1]; code++) {
            bool good = code >= least[n] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
            encode(code, n, bytes);
            n_wrong += uz_utf8_char(bytes, n) != (good ? n : 0);
            n_wrong += n > 1 && uz_utf8_char(bytes, n - 1) != 0;
        }
    for (unsigned lead = 0x80; lead < 0x100; lead++) {
        memset(bytes, (int)lead, 4); /* no tails follow, or it is a tail itself */
        n_wrong += uz_utf8_char(bytes, 4) != 0;
    }
    CHECK_EQ_U64(n_wrong, 0);
    CHECK_EQ_U64(uz_utf8_char(bytes, 0), 0);
    CHECK(uz_utf8_valid("", 0) && uz_utf8_valid("a\0\xc3\xa4", 4));
    CHECK(!uz_utf8_valid("a\xc3", 2) && !uz_utf8_valid("\xf8\x88\x80\x80\x80", 5));
}

/* ---- Threads ---- */

enum { N_JOBS = 1000, MAX_THREADS = 8 };

struct jobs {
    atomic_uint done[N_JOBS];
    atomic_uint busy[MAX_THREADS]; /* jobs that a worker is at */
    atomic_uint n_wrong;
    atomic_bool late_failed;
    unsigned n_threads, n_ticks, cancel_at;
};

static int count_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    struct jobs *jobs = cookie;
    (void)err;
    if (worker >= jobs->n_threads || job >= N_JOBS || atomic_fetch_add(&jobs->busy[worker], 1) > 0)
        atomic_fetch_add(&jobs->n_wrong, 1);
    atomic_fetch_add(&jobs->done[job], 1);
    atomic_fetch_sub(&jobs->busy[worker], 1);
    return UZ_OK;
}

static int count_tick(void *cookie)
{
    struct jobs *jobs = cookie;
    return ++jobs->n_ticks == jobs->cancel_at;
}

static void test_parallel(void)
{
    static const unsigned threads[] = {1, 2, 8};
    for (size_t i = 0; i < 3; i++)
        for (uint64_t n_jobs = 0; n_jobs <= N_JOBS; n_jobs = n_jobs * 10 + 1) {
            struct jobs jobs = {.n_threads = threads[i]};
            struct uz_error err;
            CHECK_EQ_I64(uz_parallel(threads[i], n_jobs, count_job, count_tick, &jobs, &err),
                         UZ_OK);
            for (uint64_t k = 0; k < N_JOBS; k++)
                if (atomic_load(&jobs.done[k]) != (k < n_jobs))
                    CHECK_F(false, "job %d of %d", (int)k, (int)n_jobs);
            CHECK_EQ_U64(atomic_load(&jobs.n_wrong), 0);
            CHECK(jobs.n_ticks >= 1);
        }
}

static void nap(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    (void)nanosleep(&pause, NULL);
}

/* Job 9 fails first, then job 5, which waited for it. */
static int fail_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    struct jobs *jobs = cookie;
    (void)worker;
    for (unsigned i = 0; job == 5 && jobs->n_threads > 1 && i < 5000; i++) {
        if (atomic_load(&jobs->late_failed))
            break;
        nap();
    }
    if (job != 5 && job != 9)
        return UZ_OK;
    if (job == 9)
        atomic_store(&jobs->late_failed, true);
    return uz_fail(err, job == 5 ? UZ_CORRUPT : UZ_IO, "job %d", (int)job);
}

static void test_parallel_failures(void)
{
    static const unsigned threads[] = {1, 2, 8};
    for (size_t i = 0; i < 3; i++) {
        struct jobs jobs = {.n_threads = threads[i]};
        struct uz_error err;
        uz_error_clear(&err);
        CHECK_EQ_I64(uz_parallel(threads[i], N_JOBS, fail_job, NULL, &jobs, &err), UZ_CORRUPT);
        CHECK_EQ_STR(err.message, "job 5");
        CHECK_EQ_I64(uz_parallel(threads[i], N_JOBS, fail_job, NULL, &jobs, NULL), UZ_CORRUPT);
    }
}

static int slow_job(void *cookie, uint64_t job, unsigned worker, struct uz_error *err)
{
    nap();
    return count_job(cookie, job, worker, err);
}

static void test_parallel_cancel(void)
{
    struct jobs jobs = {.n_threads = 2, .cancel_at = 1};
    struct uz_error err;
    unsigned n_done = 0;
    CHECK_EQ_I64(uz_parallel(2, N_JOBS, slow_job, count_tick, &jobs, &err), UZ_CANCELLED);
    CHECK_EQ_I64(err.status, UZ_CANCELLED);
    for (unsigned i = 0; i < N_JOBS; i++)
        n_done += atomic_load(&jobs.done[i]);
    CHECK_F(n_done < N_JOBS, "all jobs ran on");
}

/* ---- Files ---- */

static void test_files(void)
{
    char path[PATH_NBYTES], got[8];
    struct uz_error err;
    int fd = -1;
    uint64_t nbytes = 0;
    size_t n = 0;
    char *data = NULL;
    path_of(path, "%s/file", scratch_dir);
    CHECK(write_file(path, "0123456789", 10));
    CHECK_EQ_I64(uz_open_read(path, &fd, &nbytes, &err), UZ_OK);
    CHECK_EQ_U64(nbytes, 10);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_EQ_I64(uz_pread_all(fd, got, 4, 3, path, &err), UZ_OK);
    CHECK_EQ_MEM(got, "3456", 4);
    CHECK_EQ_I64(uz_pread_all(fd, got, 8, 6, path, &err), UZ_CORRUPT);
    CHECK_EQ_U64(err.offset, 10);
    CHECK_EQ_STR(err.file, path);
    CHECK_EQ_I64(uz_pwrite_all(fd, "x", 1, 0, path, &err), UZ_IO); /* opened for reading */
    CHECK_EQ_I64(err.sys_errno, EBADF);
    close(fd);
    CHECK_EQ_I64(uz_read_file(path, 10, &data, &n, &err), UZ_OK);
    CHECK_EQ_U64(n, 10);
    CHECK_EQ_STR(data, "0123456789");
    free(data);
    CHECK_EQ_I64(uz_read_file(path, 9, &data, &n, &err), UZ_LIMIT);
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_EQ_I64(uz_pwrite_all(fd, "ab", 2, 9, path, &err), UZ_OK);
    close(fd);
    data = slurp(path, &n);
    CHECK_EQ_STR(data, "012345678ab");
    free(data);
}

/* A pipe without a writer would block an open for ever. */
static void test_files_of_other_kinds(void)
{
    char path[PATH_NBYTES];
    struct uz_error err;
    int fd = -1;
    path_of(path, "%s/pipe", scratch_dir);
    CHECK_EQ_I64(mkfifo(path, 0600), 0);
    alarm(20);
    CHECK_EQ_I64(uz_open_read(path, &fd, NULL, &err), UZ_FORMAT);
    alarm(0);
    CHECK_EQ_STR(err.file, path);
    CHECK_EQ_I64(uz_open_read(scratch_dir, &fd, NULL, &err), UZ_FORMAT);
    CHECK_EQ_I64(uz_open_read("/dev/null", &fd, NULL, &err), UZ_FORMAT);
    path_of(path, "%s/none", scratch_dir);
    CHECK_EQ_I64(uz_open_read(path, &fd, NULL, &err), UZ_IO);
    CHECK_EQ_I64(err.sys_errno, ENOENT);
    CHECK_EQ_I64(fd, -1);
}

static void test_paths(void)
{
    static const struct {
        const char *dir, *name, *want;
    } cases[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < 3; i++) {
        char *path = uz_path_join(cases[i].dir, cases[i].name);
        CHECK_EQ_STR(path, cases[i].want);
        free(path);
    }
    CHECK_EQ_STR(uz_path_name("a/b.c"), "b.c");
    CHECK_EQ_STR(uz_path_name("b"), "b");
    CHECK_EQ_STR(uz_path_name("a/"), "");
}

static void test_default_limits(void)
{
    struct uz_limits limits;
    uz_limits_default(&limits);
    CHECK_EQ_U64(limits.max_header_bytes, 100000000);
    CHECK_EQ_U64(limits.max_pickle_bytes, (uint64_t)256 << 20);
    CHECK_EQ_U64(limits.max_pickle_arena, (uint64_t)1 << 30);
    CHECK_EQ_U64(limits.max_name_bytes, 65536);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"text of errors", test_error_text},
        {"errors are fit for a terminal", test_error_escapes},
        {"errors that are too long", test_error_cuts},
        {"cursor", test_cursor},
        {"arena", test_arena},
        {"growing arrays", test_arrays},
        {"map", test_map},
        {"hash", test_hash},
        {"UTF-8", test_utf8},
        {"parallel jobs", test_parallel},
        {"parallel jobs that fail", test_parallel_failures},
        {"parallel jobs that are cancelled", test_parallel_cancel},
        {"files", test_files},
        {"what is no file", test_files_of_other_kinds},
        {"paths", test_paths},
        {"default limits", test_default_limits},
        CU_TEST_INFO_NULL,
    };
    scratch_make();
    return check_run("base", tests);
}
