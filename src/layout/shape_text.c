/* SPDX-License-Identifier: Apache-2.0 */
/* Prints shapes. */
#include "layout/shape_text.h"

#include <inttypes.h>
#include <stdio.h>

const char *uz_shape_text(char *buf, size_t size, unsigned ndim, const uint64_t *shape,
                          uint64_t numel)
{
    size_t used = (size_t)snprintf(buf, size, "[");
    for (unsigned j = 0; j < ndim && used < size; j++)
        used += (size_t)snprintf(buf + used, size - used, "%s%" PRIu64, j ? ", " : "", shape[j]);
    if (used < size)
        snprintf(buf + used, size - used, "] (%" PRIu64 " elements)", numel);
    return buf;
}
