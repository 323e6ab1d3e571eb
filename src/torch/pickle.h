/* SPDX-License-Identifier: Apache-2.0 */
/* The pickle machine: bytes -> value graph, without running anything. */
#ifndef UZ_TORCH_PICKLE_H
#define UZ_TORCH_PICKLE_H

#include <unzero/limits.h>

#include "base/cursor.h"
#include "base/mem.h"
#include "torch/node.h"

/*
 * Reads one pickle (protocols 0 to 5; format: CPython's pickletools documentation) from the
 * cursor, up to and including its STOP, and gives its value. Nodes and their text live in `arena`;
 * text is copied, so the cursor's bytes may go. Fails with UZ_CORRUPT (offset in the file, opcode),
 * UZ_UNSUPPORTED (an opcode that needs code: EXT*, out-of-band buffers), UZ_LIMIT or UZ_NOMEM.
 */
int uz_pickle_read(struct uz_cursor *cur, const struct uz_limits *limits, struct uz_arena *arena,
                   const struct uz_node **root, struct uz_error *err);

/*
 * What a pickle names, in the order of the stream, whether or not its value has it in the end. A
 * reader appends to the lists; their items are malloc'ed, the nodes live in its arena.
 */
struct uz_pickle_lists {
    struct uz_seq ids;     /* the persistent ids: PERSID nodes */
    struct uz_seq globals; /* the classes and functions: GLOBAL nodes */
};

/* The same, and appends to *lists (NULL: nobody asks); free them after failures, too. */
int uz_pickle_read_lists(struct uz_cursor *cur, const struct uz_limits *limits,
                         struct uz_arena *arena, const struct uz_node **root,
                         struct uz_pickle_lists *lists, struct uz_error *err);

void uz_pickle_lists_free(struct uz_pickle_lists *lists);

#endif
