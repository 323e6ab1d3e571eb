/* SPDX-License-Identifier: Apache-2.0 */
/* Maps of checkpoints for people. */
#ifndef UZ_CLI_MAP_TEXT_H
#define UZ_CLI_MAP_TEXT_H

#include <unzero/map.h>

/* Every tensor with its fragments, on standard output. */
void map_text_table(const struct uz_map_view *map);

/* A picture of each partition of a data-parallel rank, with a legend. */
void map_text_pictures(const struct uz_map_view *map, uint32_t dp_rank);

#endif
