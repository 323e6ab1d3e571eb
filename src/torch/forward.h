/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A torch.save archive read from its beginning, for files that are compressed whole. Its directory
 * lies at the end, but what is needed lies in the order in which it is: the value first, which
 * tells the size of every storage, then the storages behind their local headers. What was gone
 * through is held against the directory when that is reached.
 */
#ifndef UZ_TORCH_FORWARD_H
#define UZ_TORCH_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/limits.h>

#include "base/error.h"
#include "torch/content.h"
#include "torch/node.h"

struct uz_forward;

/*
 * Reads the first local header of the archive that `content` (borrowed) is. *out is NULL if it is
 * not that of ROOT/data.pkl, stored: then only the directory tells where what is.
 */
int uz_forward_open(struct uz_forward **out, struct uz_content *content,
                    const struct uz_limits *limits, struct uz_error *err);

/* NULL is allowed. Leaves the content open. */
void uz_forward_close(struct uz_forward *forward);

/* Name of the archive's root folder. */
const char *uz_forward_root(const struct uz_forward *forward);

/* Byte of the content where data.pkl begins; where it ends is known when it has been read. */
uint64_t uz_forward_pickle(const struct uz_forward *forward);

/* What was read of data.pkl. */
struct uz_forward_value {
    uint64_t nbytes;
    uint32_t crc;
    const struct uz_seq *ids; /* its persistent ids; they are not needed later */
};

/*
 * Passes over data.pkl and goes on to the first storage. *known is false if a storage's class, and
 * so its size, is unknown: then only the directory tells where what is.
 */
int uz_forward_begin(struct uz_forward *forward, const struct uz_forward_value *value, bool *known,
                     struct uz_error *err);

/* Content of the entry `byteorder`; "" if there is none. */
const char *uz_forward_byteorder(const struct uz_forward *forward);

/* True, the number, and the size of the storage that has this key. */
bool uz_forward_find(const struct uz_forward *forward, const char *key, size_t key_nbytes,
                     uint64_t *index, uint64_t *nbytes);

/* A storage in the archive. */
struct uz_forward_storage {
    uint64_t index, offset, nbytes;
    uint32_t crc_before; /* CRC-32 that is noted of the storage before this one; 0: none is */
};

/*
 * The next storage of the archive. At its end, *found is false, and the directory has been found to
 * list what was there, and to be the end of the content. Storages that no tensor refers to are
 * passed over.
 */
int uz_forward_next(struct uz_forward *forward, struct uz_forward_storage *storage, bool *found,
                    struct uz_error *err);

/* Bytes of storage number `index`: goes on as far as it, or back. */
int uz_forward_read(struct uz_forward *forward, uint64_t index, uint64_t first, void *buf,
                    size_t nbytes, struct uz_error *err);

#endif
