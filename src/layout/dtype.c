/* SPDX-License-Identifier: Apache-2.0 */
/* The dtype table: one row per element type. */
#include <unzero/dtype.h>

#include <string.h>

struct row {
    size_t nbytes;
    const char *name, *torch_name, *safetensors_name, *npy_code;
    bool is_float;
};

static const struct row rows[UZ_DTYPE_COUNT] = {
    [UZ_DTYPE_BOOL] = {1, "bool", "bool", "BOOL", "b1", false},
    [UZ_DTYPE_U8] = {1, "uint8", "uint8", "U8", "u1", false},
    [UZ_DTYPE_I8] = {1, "int8", "int8", "I8", "i1", false},
    [UZ_DTYPE_F8_E5M2] = {1, "fp8_e5m2", "float8_e5m2", "F8_E5M2", NULL, true},
    [UZ_DTYPE_F8_E4M3FN] = {1, "fp8_e4m3", "float8_e4m3fn", "F8_E4M3", NULL, true},
    [UZ_DTYPE_F8_E5M2FNUZ] = {1, "fp8_e5m2fnuz", "float8_e5m2fnuz", "F8_E5M2FNUZ", NULL, true},
    [UZ_DTYPE_F8_E4M3FNUZ] = {1, "fp8_e4m3fnuz", "float8_e4m3fnuz", "F8_E4M3FNUZ", NULL, true},
    [UZ_DTYPE_F8_E8M0] = {1, "fp8_e8m0", "float8_e8m0fnu", "F8_E8M0", NULL, true},
    [UZ_DTYPE_I16] = {2, "int16", "int16", "I16", "i2", false},
    [UZ_DTYPE_U16] = {2, "uint16", "uint16", "U16", "u2", false},
    [UZ_DTYPE_F16] = {2, "fp16", "float16", "F16", "f2", true},
    [UZ_DTYPE_BF16] = {2, "bf16", "bfloat16", "BF16", NULL, true},
    [UZ_DTYPE_I32] = {4, "int32", "int32", "I32", "i4", false},
    [UZ_DTYPE_U32] = {4, "uint32", "uint32", "U32", "u4", false},
    [UZ_DTYPE_F32] = {4, "fp32", "float32", "F32", "f4", true},
    [UZ_DTYPE_F64] = {8, "fp64", "float64", "F64", "f8", true},
    [UZ_DTYPE_I64] = {8, "int64", "int64", "I64", "i8", false},
    [UZ_DTYPE_U64] = {8, "uint64", "uint64", "U64", "u8", false},
};

static const struct row *row_of(enum uz_dtype dtype)
{
    static const struct row invalid = {0, "invalid", NULL, NULL, NULL, false};
    if (dtype <= UZ_DTYPE_INVALID || dtype >= UZ_DTYPE_COUNT)
        return &invalid;
    return &rows[dtype];
}

size_t uz_dtype_size(enum uz_dtype dtype)
{
    return row_of(dtype)->nbytes;
}

const char *uz_dtype_name(enum uz_dtype dtype)
{
    return row_of(dtype)->name;
}

const char *uz_dtype_torch_name(enum uz_dtype dtype)
{
    return row_of(dtype)->torch_name;
}

const char *uz_dtype_safetensors_name(enum uz_dtype dtype)
{
    return row_of(dtype)->safetensors_name;
}

const char *uz_dtype_npy_code(enum uz_dtype dtype)
{
    return row_of(dtype)->npy_code;
}

enum uz_dtype uz_dtype_parse(const char *name)
{
    for (enum uz_dtype dtype = 1; dtype < UZ_DTYPE_COUNT; dtype++)
        if (!strcmp(name, rows[dtype].name) || !strcmp(name, rows[dtype].torch_name))
            return dtype;
    return UZ_DTYPE_INVALID;
}

bool uz_dtype_is_castable(enum uz_dtype dtype)
{
    return dtype == UZ_DTYPE_F32 || dtype == UZ_DTYPE_F16 || dtype == UZ_DTYPE_BF16;
}

bool uz_dtype_is_float(enum uz_dtype dtype)
{
    return row_of(dtype)->is_float;
}
