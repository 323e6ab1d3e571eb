/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of classes that are expected in checkpoints. */
#include "check/class_origin.h"

#include <string.h>

/* A name, or all names of a module that begin with it if it ends in '*'. */
struct row {
    const char *module, *name;
    enum uz_class_origin origin;
};

static const struct row rows[] = {
    {"collections", "OrderedDict", UZ_CLASS_PYTHON},
    {"collections", "defaultdict", UZ_CLASS_PYTHON},
    {"collections", "deque", UZ_CLASS_PYTHON},
    {"collections", "Counter", UZ_CLASS_PYTHON},
    {"argparse", "Namespace", UZ_CLASS_PYTHON},
    {"types", "SimpleNamespace", UZ_CLASS_PYTHON},
    {"datetime", "*", UZ_CLASS_PYTHON},
    {"_codecs", "encode", UZ_CLASS_PYTHON},
    {"torch", "Size", UZ_CLASS_PYTORCH},
    {"torch", "device", UZ_CLASS_PYTORCH},
    {"torch", "Tensor", UZ_CLASS_PYTORCH},
    {"torch", "Generator", UZ_CLASS_PYTORCH},
    {"torch", "strided", UZ_CLASS_PYTORCH},
    {"torch", "per_tensor_affine", UZ_CLASS_PYTORCH},
    {"torch", "per_channel_affine", UZ_CLASS_PYTORCH},
    {"torch._utils", "_rebuild_*", UZ_CLASS_PYTORCH},
    {"torch._tensor", "_rebuild_*", UZ_CLASS_PYTORCH},
    {"torch.storage", "UntypedStorage", UZ_CLASS_PYTORCH},
    {"torch.storage", "TypedStorage", UZ_CLASS_PYTORCH},
    {"torch.nn.parameter", "Parameter", UZ_CLASS_PYTORCH},
    {"torch.nn.parameter", "Buffer", UZ_CLASS_PYTORCH},
    {"torch.serialization", "_get_layout", UZ_CLASS_PYTORCH},
    {"numpy", "ndarray", UZ_CLASS_NUMPY},
    {"numpy", "dtype", UZ_CLASS_NUMPY},
    {"numpy.core.multiarray", "*", UZ_CLASS_NUMPY},
    {"numpy._core.multiarray", "*", UZ_CLASS_NUMPY},
    {"numpy.core.numeric", "_frombuffer", UZ_CLASS_NUMPY},
    {"numpy._core.numeric", "_frombuffer", UZ_CLASS_NUMPY},
    {"numpy.dtypes", "*", UZ_CLASS_NUMPY},
    {"numpy.random._pickle", "*", UZ_CLASS_NUMPY},
};

/* Plain types of the module `builtins`, which Python 2 and pickle protocol 2 call __builtin__. */
static const char *const builtins[] = {
    "set",  "frozenset", "list",  "dict",   "tuple",     "int",   "float", "str",     "bytes",
    "bool", "complex",   "slice", "object", "bytearray", "range", "long",  "unicode",
};

/* How names of dtypes in the module `torch` begin; those of typed storages end in Storage. */
static const char *const torch_prefixes[] = {"float", "bfloat", "int",  "uint",    "half", "double",
                                             "long",  "short",  "bool", "complex", "qint", "quint"};

static bool is_text(const struct uz_text *text, const char *want)
{
    return text->nbytes == strlen(want) && !memcmp(text->data, want, text->nbytes);
}

static bool begins(const struct uz_text *text, const char *want, size_t n)
{
    return text->nbytes >= n && !memcmp(text->data, want, n);
}

static bool ends(const struct uz_text *text, const char *want)
{
    size_t n = strlen(want);
    return text->nbytes >= n && !memcmp(text->data + text->nbytes - n, want, n);
}

static bool fits_row(const struct uz_global *global, const struct row *row)
{
    size_t n = strlen(row->name);
    if (!is_text(&global->module, row->module))
        return false;
    if (row->name[n - 1] == '*')
        return begins(&global->name, row->name, n - 1);
    return is_text(&global->name, row->name);
}

static bool is_builtin(const struct uz_global *global)
{
    if (!is_text(&global->module, "builtins") && !is_text(&global->module, "__builtin__"))
        return false;
    for (size_t i = 0; i < sizeof builtins / sizeof builtins[0]; i++)
        if (is_text(&global->name, builtins[i]))
            return true;
    return false;
}

static bool is_torch_type(const struct uz_global *global)
{
    if (!is_text(&global->module, "torch"))
        return false;
    if (ends(&global->name, "Storage"))
        return true;
    for (size_t i = 0; i < sizeof torch_prefixes / sizeof torch_prefixes[0]; i++)
        if (begins(&global->name, torch_prefixes[i], strlen(torch_prefixes[i])))
            return true;
    return false;
}

enum uz_class_origin uz_class_origin(const struct uz_node *node)
{
    const struct uz_global *global = &node->u.global;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (fits_row(global, &rows[i]))
            return rows[i].origin;
    if (is_builtin(global))
        return UZ_CLASS_PYTHON;
    if (is_torch_type(global))
        return UZ_CLASS_PYTORCH;
    if (is_text(&global->module, "deepspeed") ||
        begins(&global->module, "deepspeed.", strlen("deepspeed.")))
        return UZ_CLASS_DEEPSPEED;
    return UZ_CLASS_FOREIGN;
}

const char *uz_class_origin_name(enum uz_class_origin origin)
{
    static const char *const names[] = {
        [UZ_CLASS_PYTHON] = "python",   [UZ_CLASS_PYTORCH] = "pytorch",
        [UZ_CLASS_NUMPY] = "numpy",     [UZ_CLASS_DEEPSPEED] = "deepspeed",
        [UZ_CLASS_FOREIGN] = "foreign",
    };
    return (size_t)origin < sizeof names / sizeof names[0] ? names[origin] : "unknown";
}
