/* SPDX-License-Identifier: Apache-2.0 */
/* DeepSpeed's file names. */
#ifndef UZ_ZERO_SHARD_NAME_H
#define UZ_ZERO_SHARD_NAME_H

#include <stdbool.h>

#include "zero/topology.h"

/* True and the fields of *shard (all but `name`) if the name is that of a shard. */
bool uz_parse_shard_name(const char *name, struct uz_shard_file *shard);

/* True if it is that of a part of a shard: a shard's name, and -RANK.N. */
bool uz_is_writer_part(const char *name);

#endif
