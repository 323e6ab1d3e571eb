/* SPDX-License-Identifier: Apache-2.0 */
/* Real checkpoints: where they are, and a check that is run on each. */
#ifndef UZ_TESTS_FIXTURES_H
#define UZ_TESTS_FIXTURES_H

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "scratch.h"

static char fixtures_dir[PATH_NBYTES];

/* $UNZERO_FIXTURES, or the folder beside the tests. */
static inline void fixtures_find(void)
{
    const char *srcdir = getenv("srcdir"), *from = getenv("UNZERO_FIXTURES");
    if (from)
        path_of(fixtures_dir, "%s", from);
    else
        path_of(fixtures_dir, "%s/fixtures", srcdir ? srcdir : ".");
}

/* Names what fails. Returns how many match, which is at least one if nothing failed. */
static inline size_t each_fixture(const char *pattern, void (*check)(const char *path))
{
    char full[PATH_NBYTES];
    glob_t found;
    int rc = glob(path_of(full, "%s/%s", fixtures_dir, pattern), 0, NULL, &found);
    if (!CHECK_F(rc == 0 && found.gl_pathc > 0, "there is no %s", full))
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        unsigned n_before = CU_get_number_of_failures();
        check(found.gl_pathv[i]);
        if (CU_get_number_of_failures() > n_before)
            printf("\n    failed: %s", found.gl_pathv[i]);
    }
    size_t n = found.gl_pathc;
    globfree(&found);
    return n;
}

#endif
