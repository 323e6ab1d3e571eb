/* SPDX-License-Identifier: Apache-2.0 */
/* The safetensors format: one file, or several with the Hugging Face index. */
#ifndef UZ_OUT_SAFETENSORS_H
#define UZ_OUT_SAFETENSORS_H

#include "out/files.h"

/*
 * Lays the items out. Within a file tensors are ordered as the safetensors library orders them: by
 * dtype, widest first, then by name; so every tensor is aligned and the bytes equal what that
 * library writes for the same tensors. Names that were dropped stand in __metadata__ with the name
 * that was kept. Free with uz_out_free, after failures too. UZ_UNSUPPORTED for a dtype that the
 * format has no name for, UZ_LIMIT for a header beyond max_header_bytes.
 */
int uz_safetensors_layout(struct uz_out *out, const struct uz_items *items,
                          const struct uz_model *model, const struct uz_files_options *options,
                          struct uz_error *err);

#endif
