/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes for messages. */
#ifndef UZ_LAYOUT_SHAPE_TEXT_H
#define UZ_LAYOUT_SHAPE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Writes "[67, 24] (1608 elements)" to buf, cut to size. Returns buf. */
const char *uz_shape_text(char *buf, size_t size, unsigned ndim, const uint64_t *shape,
                          uint64_t numel);

#endif
