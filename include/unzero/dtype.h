/* SPDX-License-Identifier: Apache-2.0 */
/* Element types of tensors, with their names in PyTorch and in safetensors. */
#ifndef UNZERO_DTYPE_H
#define UNZERO_DTYPE_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Element types that can be stored and copied. Complex and quantised types have none. The values
 * rise with alignment and then as in the safetensors library, whose writer puts tensors of higher
 * dtypes first.
 */
enum uz_dtype {
    UZ_DTYPE_INVALID = 0,
    UZ_DTYPE_BOOL,
    UZ_DTYPE_U8,
    UZ_DTYPE_I8,
    UZ_DTYPE_F8_E5M2,
    UZ_DTYPE_F8_E4M3FN,
    UZ_DTYPE_F8_E8M0,
    UZ_DTYPE_F8_E4M3FNUZ,
    UZ_DTYPE_F8_E5M2FNUZ,
    UZ_DTYPE_I16,
    UZ_DTYPE_U16,
    UZ_DTYPE_F16,
    UZ_DTYPE_BF16,
    UZ_DTYPE_I32,
    UZ_DTYPE_U32,
    UZ_DTYPE_F32,
    UZ_DTYPE_F64,
    UZ_DTYPE_I64,
    UZ_DTYPE_U64,
    UZ_DTYPE_COUNT
};

/** Bytes of one element: 1, 2, 4 or 8; 0 for UZ_DTYPE_INVALID and values out of range. */
UZ_API size_t uz_dtype_size(enum uz_dtype dtype);

/** Short name as on the command line: "fp32", "bf16", "int64", "bool"; "invalid" otherwise. */
UZ_API const char *uz_dtype_name(enum uz_dtype dtype);

/** Name in PyTorch ("float32", "bfloat16"), NULL for UZ_DTYPE_INVALID and values out of range. */
UZ_API const char *uz_dtype_torch_name(enum uz_dtype dtype);

/** Name in a safetensors header ("F32", "BF16"), NULL if that format has none for it. */
UZ_API const char *uz_dtype_safetensors_name(enum uz_dtype dtype);

/** numpy's code without the byte order ("f4"), NULL if it has none. */
UZ_API const char *uz_dtype_npy_code(enum uz_dtype dtype);

/** Dtype of a short name; the long PyTorch spellings ("float32", "bfloat16") work too. */
UZ_API enum uz_dtype uz_dtype_parse(const char *name);

/** True for fp16, bf16 and fp32: the types that casts convert between. */
UZ_API bool uz_dtype_is_castable(enum uz_dtype dtype);

/** True for every floating-point type, fp8 and fp64 included. */
UZ_API bool uz_dtype_is_float(enum uz_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif
