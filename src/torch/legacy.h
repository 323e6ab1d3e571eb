/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container of PyTorch before 1.6 (and of _use_new_zipfile_serialization=False): five pickles
 * one after another (a magic number, the protocol, sys_info, the value, the keys of storages), then
 * for each key an int64 number of elements and the elements. Both are little-endian on every
 * machine. Source: torch/serialization.py (_legacy_save), torch/csrc/serialization.cpp.
 */
#ifndef UZ_TORCH_LEGACY_H
#define UZ_TORCH_LEGACY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unzero/limits.h>

#include "base/error.h"
#include "base/mem.h"
#include "torch/content.h"
#include "torch/node.h"

struct uz_legacy;

struct uz_legacy_storage {
    uint64_t offset, nbytes; /* of its elements, in the content */
    uint64_t numel;          /* as the value says */
    size_t itemsize;
};

/* True if the first bytes of a file are the container's pickled magic number. */
bool uz_legacy_is_magic(const uint8_t *head, size_t nbytes);

/*
 * Reads the pickles and finds all storages: no data but the numbers of elements is read (of a file
 * compressed whole not even these: see uz_legacy_check_count). Gives the value and the arena that
 * holds it (free it after uz_legacy_close, after failures too). Borrows the content while it runs.
 */
int uz_legacy_open(struct uz_legacy **out, struct uz_content *content,
                   const struct uz_limits *limits, struct uz_arena **arena,
                   const struct uz_node **root, struct uz_error *err);

/* NULL is allowed. */
void uz_legacy_close(struct uz_legacy *legacy);

/* The classes and functions that all its pickles name: GLOBAL nodes. */
const struct uz_seq *uz_legacy_globals(const struct uz_legacy *legacy);

size_t uz_legacy_count(const struct uz_legacy *legacy);

/* Storage number `index`, in the order of the file. */
const struct uz_legacy_storage *uz_legacy_storage(const struct uz_legacy *legacy, size_t index);

/* Holds the number of elements before a storage against what the value says. */
int uz_legacy_check_count(const struct uz_legacy_storage *storage, struct uz_content *content,
                          struct uz_error *err);

/* True and the number of the storage that has this key. */
bool uz_legacy_find(const struct uz_legacy *legacy, const char *key, size_t key_nbytes,
                    uint64_t *index);

#endif
