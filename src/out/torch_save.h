/* SPDX-License-Identifier: Apache-2.0 */
/* The format of torch.save: one file, or several with the Hugging Face index. */
#ifndef UZ_OUT_TORCH_SAVE_H
#define UZ_OUT_TORCH_SAVE_H

#include "out/files.h"

/*
 * Lays the items out as torch.save would write an OrderedDict of them, in their order, on a
 * little-endian machine. Items that share another's data are the same object under two names. Free
 * with uz_out_free, after failures too. max_header_bytes does not count.
 *
 * Only the entry `.data/serialization_id` differs from PyTorch's: it is made of the same things
 * (names and checksums of all entries) in another way.
 */
int uz_torch_save_layout(struct uz_out *out, const struct uz_items *items,
                         const struct uz_model *model, const struct uz_files_options *options,
                         struct uz_error *err);

#endif
