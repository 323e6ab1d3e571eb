/* SPDX-License-Identifier: Apache-2.0 */
/* Writing pickles of protocol 2, as torch.save makes them. */
#ifndef UZ_TORCH_PICKLE_WRITE_H
#define UZ_TORCH_PICKLE_WRITE_H

#include <unzero/dtype.h>

#include "base/bytes.h"
#include "torch/opcodes.h"

/* A pickle in the making. Its calls have no result: `to` says at the end whether all went well. */
struct uz_pickler {
    struct uz_bytes *to;
    uint64_t n_memo; /* entries of the memo so far; the next one's number */
};

/* Begins a pickle at the end of `to`, which must outlive the pickler. */
void uz_pickle_start(struct uz_pickler *pickler, struct uz_bytes *to);

/* An opcode without an argument. */
void uz_pickle_op(struct uz_pickler *pickler, enum uz_opcode opcode);

/* Puts the value on top of the stack into the memo; returns its number there. */
uint64_t uz_pickle_put(struct uz_pickler *pickler);

/* Pushes a value of the memo. */
void uz_pickle_get(struct uz_pickler *pickler, uint64_t number);

/* These push a value and put nothing into the memo. */
void uz_pickle_bool(struct uz_pickler *pickler, bool value);
void uz_pickle_int(struct uz_pickler *pickler, int64_t value);
void uz_pickle_str(struct uz_pickler *pickler, const char *text, size_t nbytes);
void uz_pickle_global(struct uz_pickler *pickler, const char *module, const char *name);

/*
 * Ends a tuple of n values on the stack; before more than three of them a mark must have been set
 * (uz_pickle_open_tuple does that).
 */
void uz_pickle_open_tuple(struct uz_pickler *pickler, size_t n);
void uz_pickle_close_tuple(struct uz_pickler *pickler, size_t n);

/* A tensor of a state dict, contiguous and alone in its storage. */
struct uz_saved_tensor {
    const char *name; /* UTF-8 */
    enum uz_dtype dtype;
    unsigned ndim;
    const uint64_t *shape;
    size_t same_as; /* an earlier tensor that is the same object, or its own index */
};

/*
 * Adds to `to` the pickle that torch.save makes of an OrderedDict of these tensors. Those that are
 * no earlier one's object have the storages "0", "1", ... in their order. An object under two names
 * is written once and referred to the second time. Same bytes as PyTorch 2.13, but for names of one
 * character and the words "storage" and "cpu", which CPython may write as references.
 */
int uz_pickle_state_dict(struct uz_bytes *to, const struct uz_saved_tensor *tensors, size_t n,
                         struct uz_error *err);

#endif
