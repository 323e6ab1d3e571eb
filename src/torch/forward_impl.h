/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of an archive read forwards, shared by forward*.c. */
#ifndef UZ_TORCH_FORWARD_IMPL_H
#define UZ_TORCH_FORWARD_IMPL_H

#include "base/map.h"
#include "base/mem.h"
#include "torch/forward.h"

enum { UZ_FORWARD_MAX_NAME = 512, UZ_FORWARD_MAX_BYTEORDER = 64 };

/* An entry that was passed. */
struct uz_forward_entry {
    uint64_t header, nbytes;
    uint64_t name; /* hash */
    uint32_t crc;
};

/* A storage that the value refers to. */
struct uz_known_storage {
    uint64_t nbytes;
    uint64_t offset; /* UINT64_MAX: it was not met yet */
};

/* A local header. */
struct uz_local_header {
    uint64_t header, data;
    uint64_t nbytes; /* valid unless a descriptor follows the data */
    uint32_t crc;
    bool has_descriptor, is_stored;
    char name[UZ_FORWARD_MAX_NAME];
    size_t name_nbytes;
};

struct uz_forward {
    struct uz_content *content;
    uint64_t max_entries, max_keys_nbytes;
    char *root;
    struct uz_local_header current; /* the entry that is being passed */
    uint64_t pos;                   /* of the next header */
    bool has_signature;             /* which was read already */
    uint8_t signature[4];
    size_t open;   /* the storage whose header was read, */
    bool is_given; /* and whether the caller knows of it */
    bool at_end;   /* the directory was read */
    char byteorder[UZ_FORWARD_MAX_BYTEORDER];
    bool has_byteorder;
    struct uz_known_storage *storages;
    size_t n_storages, cap_storages;
    struct uz_map *by_key; /* keys are in the arena */
    struct uz_arena *keys;
    struct uz_forward_entry *entries;
    size_t n_entries, cap_entries;
};

/* A failure about the entry that is being passed, or (no entry) about the archive. */
int uz_forward_fail(const struct uz_forward *fw, int status, uint64_t offset, struct uz_error *err,
                    const char *fmt, ...) UZ_PRINTF(5, 6);

static inline uint32_t uz_le(const uint8_t *p, unsigned n_bytes)
{
    uint32_t value = 0;
    for (unsigned i = n_bytes; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

static inline uint64_t uz_le64(const uint8_t *p)
{
    return (uint64_t)uz_le(p + 4, 4) << 32 | uz_le(p, 4);
}

/* The local header at fw->pos. *found is false if something else stands there. */
int uz_forward_header(struct uz_forward *fw, bool *found, struct uz_error *err);

/* What extra fields may replace: numbers that are all ones in the header. */
struct uz_zip64 {
    uint64_t *numbers[3]; /* in the order of the field */
    size_t n;
};

/* Reads extra fields, which must fill their nbytes, and takes the numbers of a zip64 field. */
int uz_forward_extra(const struct uz_forward *fw, uint64_t pos, size_t nbytes,
                     const struct uz_zip64 *wanted, struct uz_error *err);

/* Passes the entry that is being passed, whose data are known to be nbytes; *crc is what it says.*/
int uz_forward_pass(struct uz_forward *fw, uint64_t nbytes, uint32_t *crc, struct uz_error *err);

/* Passes a small entry of unknown size; its bytes go to `data`, of which there is room. */
int uz_forward_pass_small(struct uz_forward *fw, uint8_t *data, size_t room, size_t *nbytes,
                          struct uz_error *err);

/* Holds the directory at fw->pos against the entries, and finds that nothing follows it. */
int uz_forward_directory(struct uz_forward *fw, struct uz_error *err);

#endif
