/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the kernel that turns bytes round, at all alignments, against a plain loop. */

#include "check.h"
#include "guard.h"
#include "kernels/bswap.h"
#include "rng.h"

#include <stdlib.h>

/* One page for each side; `want_page` is what the destination's page must look like afterwards. */
struct place {
    struct guard_buf src, dst;
    unsigned char *want_page;
};

enum { CANARY = 0xa5 };

/* What must stand behind uz_bswap_copy, byte by byte. */
static void swap_naively(unsigned char *dst, const unsigned char *src, size_t elem_nbytes,
                         size_t nbytes)
{
    for (size_t i = 0; i < nbytes; i++) {
        dst[i] = src[i - i % elem_nbytes + (elem_nbytes - 1 - i % elem_nbytes)];
    }
}

static bool swap_at(const struct place *p, size_t elem_nbytes, size_t src_at, size_t dst_at,
                    size_t nbytes)
{
    memset(p->dst.data, CANARY, p->dst.nbytes);
    memset(p->want_page, CANARY, p->dst.nbytes);
    swap_naively(p->want_page + dst_at, p->src.data + src_at, elem_nbytes, nbytes);
    uz_bswap_copy(p->dst.data + dst_at, p->src.data + src_at, elem_nbytes, nbytes / elem_nbytes);
    return memcmp(p->dst.data, p->want_page, p->dst.nbytes) == 0;
}

/* All offsets of both sides against words, behind a guard page and before one. */
static bool check_swap(const struct place *p, size_t elem_nbytes, size_t nbytes)
{
    enum { N_OFFSETS = 16 };

    for (size_t k = 0; k < (size_t)N_OFFSETS * N_OFFSETS; k++) {
        size_t s = k / N_OFFSETS;
        size_t d = k % N_OFFSETS;
        bool head = swap_at(p, elem_nbytes, s, d, nbytes);
        bool tail =
            swap_at(p, elem_nbytes, p->src.nbytes - nbytes - s, p->dst.nbytes - nbytes - d, nbytes);

        if (!CHECK_F(head && tail, "%zu elements of %zu bytes, offsets %zu and %zu",
                     nbytes / elem_nbytes, elem_nbytes, s, d)) {
            return false;
        }
    }
    return true;
}

static void test_swap(void)
{
    struct place p = {0};
    bool good = true;

    uz_bswap_copy(NULL, NULL, 4, 0);
    if (!CHECK(guard_alloc(&p.src, 1024)) || !CHECK(guard_alloc(&p.dst, 1024))) {
        return;
    }
    p.want_page = malloc(p.dst.nbytes);
    if (CHECK(p.want_page != NULL)) {
        for (size_t i = 0; i < p.src.nbytes; i++) {
            p.src.data[i] = (unsigned char)rng_u64();
        }
        for (size_t elem_nbytes = 1; elem_nbytes <= 8; elem_nbytes *= 2) {
            for (size_t n = 0; n <= 70 && good; n++) {
                good = check_swap(&p, elem_nbytes, n * elem_nbytes);
            }
        }
    }
    free(p.want_page);
    guard_free(&p.src);
    guard_free(&p.dst);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"all sizes, lengths and offsets", test_swap},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    return check_run("bswap", tests);
}
