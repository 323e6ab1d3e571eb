/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of slices against Python's rules, written out as loops. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "layout/slice.h"
#include "rng.h"

enum { MAX_NDIM = 4, MAX_SIZE = 6 };

/* A dimension as it is asked for; which of the numbers are written. */
struct asked {
    bool range, has_start, has_stop, has_step;
    int start, stop, step;
};

static int draw(int size)
{
    return (int)rng_below(2 * (uint64_t)size + 5) - size - 2;
}

static struct asked draw_asked(uint64_t size)
{
    struct asked a = {.range = size == 0 || !rng_one_in(3)};
    a.has_start = rng_one_in(2);
    a.has_stop = rng_one_in(2);
    a.has_step = rng_one_in(3);
    a.start = a.range ? draw((int)size) : (int)rng_below(2 * size) - (int)size;
    a.stop = draw((int)size);
    a.step = 1 + (int)rng_below(3);
    return a;
}

static void print_asked(char *text, size_t size, const struct asked *a)
{
    char start[16] = "", stop[16] = "", step[16] = "";
    if (a->has_start || !a->range)
        snprintf(start, sizeof start, "%d", a->start);
    if (a->has_stop)
        snprintf(stop, sizeof stop, "%d", a->stop);
    if (a->has_step)
        snprintf(step, sizeof step, ":%d", a->step);
    snprintf(text, size, "%s%s%s%s", start, a->range ? ":" : "", a->range ? stop : "",
             a->range ? step : "");
}

/* Python's slice.indices, one element after another. */
static bool is_in(const struct asked *a, int size, int i)
{
    int start = a->has_start ? a->start : 0, stop = a->has_stop ? a->stop : size;
    int step = a->has_step ? a->step : 1;
    if (!a->range)
        return i == (a->start < 0 ? a->start + size : a->start);
    start = start < 0 ? start + size : start;
    stop = stop < 0 ? stop + size : stop;
    start = start < 0 ? 0 : start > size ? size : start;
    stop = stop < 0 ? 0 : stop > size ? size : stop;
    return i >= start && i < stop && (i - start) % step == 0;
}

/* The elements of the tensor that are in the part, in order. */
static size_t list_elems(const struct asked *asked, unsigned ndim, const uint64_t *shape,
                         uint64_t *elems)
{
    uint64_t numel = 1;
    size_t n = 0;
    for (unsigned j = 0; j < ndim; j++)
        numel *= shape[j];
    for (uint64_t e = 0; e < numel; e++) {
        uint64_t rest = e;
        bool in = true;
        for (unsigned j = ndim; j-- > 0;) {
            in &= is_in(&asked[j], (int)shape[j], (int)(rest % shape[j]));
            rest /= shape[j];
        }
        if (in)
            elems[n++] = e;
    }
    return n;
}

static void check_runs(const struct uz_slice *slice, const uint64_t *want, size_t n)
{
    CHECK_EQ_U64(slice->numel, n);
    for (uint64_t first = 0; first < n; first++) {
        struct uz_slice_run run = uz_slice_run_at(slice, first);
        CHECK(run.n_elems > 0 && run.n_elems <= n - first);
        for (uint64_t i = 0; i < run.n_elems && first + i < n; i++)
            CHECK_EQ_U64(run.first + i * run.step, want[first + i]);
    }
}

static void check_one(void)
{
    struct asked asked[MAX_NDIM];
    uint64_t shape[MAX_NDIM] = {0}, elems[MAX_SIZE * MAX_SIZE * MAX_SIZE * MAX_SIZE];
    unsigned ndim = (unsigned)rng_below(MAX_NDIM + 1), given = (unsigned)rng_below(ndim + 1);
    char text[256] = "";
    struct uz_slice slice;
    struct uz_error err;
    for (unsigned j = 0; j < ndim; j++) {
        size_t at = strlen(text);
        shape[j] = rng_below(MAX_SIZE + 1);
        asked[j] = j < given ? draw_asked(shape[j]) : (struct asked){.range = true};
        if (j < given && j > 0)
            snprintf(text + at, sizeof text - at, rng_one_in(2) ? "," : " , ");
        at = strlen(text);
        if (j < given)
            print_asked(text + at, sizeof text - at, &asked[j]);
    }
    int rc = uz_slice_parse(&slice, text, ndim, shape, &err);
    if (CHECK_F(rc == UZ_OK, "%s: %s", text, err.message))
        check_runs(&slice, elems, list_elems(asked, ndim, shape, elems));
}

static void test_random(void)
{
    for (unsigned i = 0; i < 20000; i++)
        check_one();
}

static void test_shapes(void)
{
    const uint64_t shape[] = {4, 5, 6};
    struct uz_slice slice;
    CHECK_EQ_I64(uz_slice_parse(&slice, "1,:,::2", 3, shape, NULL), UZ_OK);
    CHECK_EQ_U64(slice.out_ndim, 2);
    CHECK_EQ_U64(slice.out_shape[0], 5);
    CHECK_EQ_U64(slice.out_shape[1], 3);
    CHECK_EQ_I64(uz_slice_parse(&slice, NULL, 3, shape, NULL), UZ_OK);
    CHECK_EQ_U64(slice.out_ndim, 3);
    CHECK_EQ_U64(slice.run_elems, 120);
    CHECK_EQ_I64(uz_slice_parse(&slice, "1:3", 3, shape, NULL), UZ_OK);
    CHECK_EQ_U64(slice.run_elems, 60);
    CHECK_EQ_I64(uz_slice_parse(&slice, NULL, 0, NULL, NULL), UZ_OK);
    CHECK_EQ_U64(slice.numel, 1);
}

static void test_refused(void)
{
    static const char *const texts[] = {
        "4",
        "-5",
        "0,0,0,0",
        "a",
        "1.5",
        "0x2",
        "1::0",
        "::-1",
        "1:2:3:4",
        "1,,2",
        "-",
        ":,",
        "+1",
        "99999999999999999999",
        ",",
        "1 2",
        "9223372036854775807",
    };
    const uint64_t shape[] = {4, 5, 6};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct uz_slice slice;
        struct uz_error err;
        int rc = uz_slice_parse(&slice, texts[i], 3, shape, &err);
        CHECK_F(rc == UZ_ARG, "'%s': %d", texts[i], rc);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"random slices", test_random},
        {"shapes", test_shapes},
        {"what is refused", test_refused},
        CU_TEST_INFO_NULL,
    };
    rng_init();
    return check_run("slice", tests);
}
