/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions for CUnit that print both values, and the runner that every test program ends with. */

#ifndef UZ_TESTS_CHECK_H
#define UZ_TESTS_CHECK_H

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/*
 * Each macro records one assertion and yields whether it holds, so a test that cannot go on may
 * say `if (!CHECK(p != NULL)) return;`. What the code under test gave comes first, what it should
 * have given second; each argument is evaluated once. On the main thread only, as CUnit wants it.
 *
 * CHECK_F says in printf's words what failed: for a check in a loop, name the case.
 */
#define CHECK(expr)      CHECK_F((expr), "%s", #expr)
#define CHECK_F(ok, ...) check_record((ok), CHECK_SITE, __VA_ARGS__)
#define CHECK_EQ_U64(got, want)                                                                    \
    check_eq_u64((uint64_t)(got), (uint64_t)(want), #got, #want, CHECK_SITE)
#define CHECK_EQ_I64(got, want)                                                                    \
    check_eq_i64((int64_t)(got), (int64_t)(want), #got, #want, CHECK_SITE)
#define CHECK_EQ_STR(got, want)    check_eq_str((got), (want), #got, #want, CHECK_SITE)
#define CHECK_EQ_MEM(got, want, n) check_eq_mem((got), (want), (n), #got, #want, CHECK_SITE)

#define CHECK_SITE ((struct check_site){__FILE__, __func__, __LINE__})

struct check_site {
    const char *file;
    const char *function;
    unsigned line;
};

__attribute__((format(printf, 3, 4))) static inline bool check_record(bool ok,
                                                                      struct check_site site,
                                                                      const char *format, ...)
{
    char message[1024] = "";

    if (!ok) {
        va_list args;

        va_start(args, format);
        (void)vsnprintf(message, sizeof(message), format, args);
        va_end(args);
    }
    (void)CU_assertImplementation(ok, site.line, message, site.file, site.function, CU_FALSE);
    return ok;
}

static inline bool check_eq_u64(uint64_t got, uint64_t want, const char *got_expr,
                                const char *want_expr, struct check_site site)
{
    return check_record(got == want, site,
                        "%s == %s: got %" PRIu64 " (0x%" PRIx64 "), want %" PRIu64 " (0x%" PRIx64
                        ")",
                        got_expr, want_expr, got, got, want, want);
}

static inline bool check_eq_i64(int64_t got, int64_t want, const char *got_expr,
                                const char *want_expr, struct check_site site)
{
    return check_record(got == want, site, "%s == %s: got %" PRId64 ", want %" PRId64, got_expr,
                        want_expr, got, want);
}

/* NULL equals NULL only. */
static inline bool check_eq_str(const char *got, const char *want, const char *got_expr,
                                const char *want_expr, struct check_site site)
{
    bool same = got == NULL || want == NULL ? got == want : strcmp(got, want) == 0;

    return check_record(same, site, "%s == %s: got \"%s\", want \"%s\"", got_expr, want_expr,
                        got == NULL ? "(NULL)" : got, want == NULL ? "(NULL)" : want);
}

/* Up to 8 bytes of `p` from `at` as hex. */
static inline const char *check_hex(char out[32], const void *p, size_t at, size_t n)
{
    const unsigned char *bytes = p;
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = at; i < n && i < at + 8; i++) {
        used += (size_t)snprintf(out + used, 32 - used, "%02x ", bytes[i]);
    }
    return out;
}

static inline bool check_eq_mem(const void *got, const void *want, size_t n, const char *got_expr,
                                const char *want_expr, struct check_site site)
{
    const unsigned char *a = got;
    const unsigned char *b = want;
    char got_hex[32], want_hex[32];
    size_t at = 0;

    if (n == 0 || memcmp(a, b, n) == 0) {
        return check_record(true, site, "%s", "");
    }
    while (a[at] == b[at]) {
        at++;
    }
    return check_record(false, site, "%s == %s: byte %zu of %zu: got %s.., want %s..", got_expr,
                        want_expr, at, n, check_hex(got_hex, got, at, n),
                        check_hex(want_hex, want, at, n));
}

/*
 * Runs `tests`, which CU_TEST_INFO_NULL ends, as one suite, and prints a summary. Returns the exit
 * status for main(): 0 only if at least one assertion ran and all of them held.
 */
static inline int check_run(const char *suite_name, CU_TestInfo *tests)
{
    CU_SuiteInfo suites[] = {
        {suite_name, NULL, NULL, NULL, NULL, tests},
        CU_SUITE_INFO_NULL,
    };
    bool good;

    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        (void)fprintf(stderr, "%s: %s\n", suite_name, CU_get_error_msg());
        return 1;
    }
    CU_basic_set_mode(CU_BRM_NORMAL);
    good = CU_basic_run_tests() == CUE_SUCCESS && CU_get_number_of_asserts() > 0 &&
           CU_get_number_of_failures() == 0 && CU_get_number_of_tests_failed() == 0;
    CU_cleanup_registry();
    return good ? 0 : 1;
}

#endif
