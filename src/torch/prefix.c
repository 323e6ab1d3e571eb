/* SPDX-License-Identifier: Apache-2.0 */
#include "torch/prefix.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"

enum { FIRST_NBYTES = 256 * 1024 };

static int grow(struct uz_content *content, uint64_t offset, uint64_t most, uz_parse_fn parse,
                void *cookie, uint8_t **bytes, struct uz_error *err)
{
    size_t n = 0, cap = 0, got;
    for (uint64_t want = FIRST_NBYTES;; want *= 2) {
        struct uz_cursor cur;
        want = want < most ? want : most;
        UZ_TRY(uz_reserve(bytes, &cap, want, 1, err));
        UZ_TRY(uz_content_read_some(content, *bytes + n, (size_t)want - n, offset + n, &got, err));
        n += got;
        uz_cursor_init(&cur, *bytes, n, uz_content_path(content), offset);
        int rc = parse(cookie, &cur, err);
        if (rc != UZ_CORRUPT || n < want)
            return rc;
        if (n == most)
            return uz_fail_at(err, UZ_LIMIT, uz_content_path(content), offset,
                              "the value has more than %" PRIu64
                              " bytes, or is damaged; the cap is "
                              "max_pickle_bytes",
                              most);
    }
}

int uz_read_prefix(struct uz_content *content, uint64_t offset, uint64_t most, uz_parse_fn parse,
                   void *cookie, struct uz_error *err)
{
    uint8_t *bytes = NULL;
    int rc = grow(content, offset, most, parse, cookie, &bytes, err);
    free(bytes);
    return rc;
}
