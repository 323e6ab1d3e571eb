/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of CUnit as tests/check.h uses, for programs built for a machine whose libraries are not
 * here (tests/cross.sh).
 */
#ifndef UZ_TESTS_CROSS_CUNIT_H
#define UZ_TESTS_CROSS_CUNIT_H

#include <stdio.h>

typedef void (*CU_TestFunc)(void);

typedef struct {
    const char *name;
    CU_TestFunc run;
} CU_TestInfo;

typedef struct {
    const char *name;
    int (*init)(void);
    int (*clean_up)(void);
    void (*set_up)(void);
    void (*tear_down)(void);
    CU_TestInfo *tests;
} CU_SuiteInfo;

#define CU_TEST_INFO_NULL                                                                          \
    {                                                                                              \
        NULL, NULL                                                                                 \
    }
#define CU_SUITE_INFO_NULL                                                                         \
    {                                                                                              \
        NULL, NULL, NULL, NULL, NULL, NULL                                                         \
    }

enum { CU_FALSE, CUE_SUCCESS = 0, CU_BRM_NORMAL = 0 };

static const CU_SuiteInfo *cu_suite;
static unsigned cu_asserts, cu_failures;

static inline int CU_assertImplementation(int ok, unsigned line, const char *condition,
                                          const char *file, const char *function, int fatal)
{
    (void)fatal;
    cu_asserts++;
    if (!ok && ++cu_failures <= 20)
        printf("%s:%u: %s: %s\n", file, line, function, condition);
    return ok;
}

static inline int CU_initialize_registry(void)
{
    return CUE_SUCCESS;
}

static inline int CU_register_suites(const CU_SuiteInfo *suites)
{
    cu_suite = suites;
    return CUE_SUCCESS;
}

static inline const char *CU_get_error_msg(void)
{
    return "";
}

static inline void CU_basic_set_mode(int mode)
{
    (void)mode;
}

static inline int CU_basic_run_tests(void)
{
    for (const CU_TestInfo *test = cu_suite->tests; test->name; test++) {
        unsigned before = cu_failures;
        test->run();
        printf("%s: %s: %s\n", cu_suite->name, test->name,
               cu_failures == before ? "passed" : "FAILED");
    }
    return CUE_SUCCESS;
}

static inline unsigned CU_get_number_of_asserts(void)
{
    return cu_asserts;
}

static inline unsigned CU_get_number_of_failures(void)
{
    return cu_failures;
}

static inline unsigned CU_get_number_of_tests_failed(void)
{
    return cu_failures;
}

static inline void CU_cleanup_registry(void)
{
}

#endif
