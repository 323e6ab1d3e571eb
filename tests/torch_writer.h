/* SPDX-License-Identifier: Apache-2.0 */
/* Writes files as torch.save does, for tests; data may be holes, so that files can be huge. */
#ifndef UZ_TESTS_TORCH_WRITER_H
#define UZ_TESTS_TORCH_WRITER_H

#include <stddef.h>
#include <stdint.h>

/* All of these end the program with a message when memory or the system fails. */
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);
void *grow(void *old, size_t nbytes);

struct bytes {
    uint8_t *data;
    size_t n, cap;
};

/* Makes bytes [first, first + nbytes) of a storage. */
typedef void (*fill_fn)(void *data, const void *cookie, uint64_t first, size_t nbytes);

struct storage {
    uint64_t nbytes;
    float value;  /* content of a storage of four bytes */
    fill_fn fill; /* of others, which are holes if there is none */
    void *cookie; /* of `fill`; malloc'ed */
};

enum { MAX_WORDS = 256 };

/* A pickle of protocol 2 in the making, as Python's pickler would write it; zeroed at first. */
struct pickle {
    struct bytes b;
    uint32_t n_memo;
    const char *words[MAX_WORDS]; /* memoized constants: keys and classes */
    uint32_t word_memo[MAX_WORDS];
    size_t n_words;
    struct storage *storages; /* by key */
    size_t n_storages, cap_storages;
};

void pickle_free(struct pickle *p);

/* Opcodes as they are. */
void pk_ops(struct pickle *p, const char *opcodes);

/* A string that occurs once, and a constant: fetched from the memo after its first time. */
void pk_text(struct pickle *p, const char *s);
void pk_key(struct pickle *p, const char *s);

/* A class or function: "module\nname\n". */
void pk_global(struct pickle *p, const char *module_and_name);

void pk_integer(struct pickle *p, uint64_t value);
void pk_real(struct pickle *p, double value);

/* A key with its value; `opcodes`: "N", "\x88" (True), "\x89" (False). */
void pk_key_int(struct pickle *p, const char *name, uint64_t value);
void pk_key_real(struct pickle *p, const char *name, double value);
void pk_key_ops(struct pickle *p, const char *name, const char *opcodes);

/* Opcodes that make a value, with its memo entry: "}", "]", ")R" after a class, "t". */
void pk_made(struct pickle *p, const char *opcodes);
void pk_ordered_dict(struct pickle *p);

/* A tuple of at most two numbers. */
void pk_tuple_of(struct pickle *p, unsigned ndim, const uint64_t *numbers);

/* Gives the key of a new storage. */
size_t pk_new_storage(struct pickle *p, uint64_t nbytes, float value);

/* Says what is in a storage; takes over the cookie, which free() will give back. */
void pk_fill_storage(struct pickle *p, size_t storage, fill_fn fill, void *cookie);

#define REBUILD_TENSOR "torch._utils\n_rebuild_tensor_v2\n"

/*
 * A row-major view that begins at element `first`: the arguments of REBUILD_TENSOR, and its call.
 * `class` is a storage class as for pk_global().
 */
void pk_tensor_args(struct pickle *p, const char *class, size_t storage, uint64_t storage_numel,
                    uint64_t first, unsigned ndim, const uint64_t *shape);
void pk_tensor(struct pickle *p, const char *class, size_t storage, uint64_t storage_numel,
               uint64_t first, unsigned ndim, const uint64_t *shape);

/* Writes DIR/STEM.pt, archive root STEM: the pickle and its storages. */
void torch_save(const char *dir, const char *stem, const struct pickle *p);

#endif
