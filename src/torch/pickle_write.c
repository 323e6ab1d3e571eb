/* SPDX-License-Identifier: Apache-2.0 */
/* The opcodes of protocol 2 with their arguments, chosen as CPython's pickler chooses them. */
#include "torch/pickle_write.h"

#include <string.h>

enum { PROTOCOL = 2 };

void uz_pickle_op(struct uz_pickler *pickler, enum uz_opcode opcode)
{
    uz_bytes_le(pickler->to, opcode, 1);
}

/* An opcode with a little-endian argument of n_bytes. */
static void op_le(struct uz_pickler *pickler, enum uz_opcode opcode, uint64_t arg, unsigned n_bytes)
{
    uz_pickle_op(pickler, opcode);
    uz_bytes_le(pickler->to, arg, n_bytes);
}

void uz_pickle_start(struct uz_pickler *pickler, struct uz_bytes *to)
{
    *pickler = (struct uz_pickler){.to = to};
    op_le(pickler, UZ_OP_PROTO, PROTOCOL, 1);
}

/* The argument of a LONG_BINPUT has 32 bits; a pickle with more entries would have 2^33 bytes. */
static void memo(struct uz_pickler *pickler, enum uz_opcode small, enum uz_opcode large,
                 uint64_t number)
{
    if (number <= UINT8_MAX)
        op_le(pickler, small, number, 1);
    else if (number <= UINT32_MAX)
        op_le(pickler, large, number, 4);
    else
        pickler->to->failed = true;
}

uint64_t uz_pickle_put(struct uz_pickler *pickler)
{
    memo(pickler, UZ_OP_BINPUT, UZ_OP_LONG_BINPUT, pickler->n_memo);
    return pickler->n_memo++;
}

void uz_pickle_get(struct uz_pickler *pickler, uint64_t number)
{
    memo(pickler, UZ_OP_BINGET, UZ_OP_LONG_BINGET, number);
}

void uz_pickle_bool(struct uz_pickler *pickler, bool value)
{
    uz_pickle_op(pickler, value ? UZ_OP_NEWTRUE : UZ_OP_NEWFALSE);
}

/* Bytes of a number in two's complement, as few as keep its sign. */
static unsigned long_nbytes(int64_t value)
{
    unsigned n = 1;
    while (n < 8 && (value < -((int64_t)1 << (8 * n - 1)) || value >= (int64_t)1 << (8 * n - 1)))
        n++;
    return n;
}

void uz_pickle_int(struct uz_pickler *pickler, int64_t value)
{
    if (value >= 0 && value <= UINT8_MAX) {
        op_le(pickler, UZ_OP_BININT1, (uint64_t)value, 1);
    } else if (value >= 0 && value <= UINT16_MAX) {
        op_le(pickler, UZ_OP_BININT2, (uint64_t)value, 2);
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
        op_le(pickler, UZ_OP_BININT, (uint64_t)value, 4);
    } else {
        unsigned n = long_nbytes(value);
        op_le(pickler, UZ_OP_LONG1, n, 1);
        uz_bytes_le(pickler->to, (uint64_t)value, n);
    }
}

void uz_pickle_str(struct uz_pickler *pickler, const char *text, size_t nbytes)
{
    if (nbytes > UINT32_MAX) { /* beyond protocol 2, and beyond any name */
        pickler->to->failed = true;
        return;
    }
    op_le(pickler, UZ_OP_BINUNICODE, nbytes, 4);
    uz_bytes_add(pickler->to, text, nbytes);
}

void uz_pickle_global(struct uz_pickler *pickler, const char *module, const char *name)
{
    uz_pickle_op(pickler, UZ_OP_GLOBAL);
    uz_bytes_text(pickler->to, module);
    uz_bytes_text(pickler->to, "\n");
    uz_bytes_text(pickler->to, name);
    uz_bytes_text(pickler->to, "\n");
}

void uz_pickle_open_tuple(struct uz_pickler *pickler, size_t n)
{
    if (n > 3)
        uz_pickle_op(pickler, UZ_OP_MARK);
}

void uz_pickle_close_tuple(struct uz_pickler *pickler, size_t n)
{
    static const enum uz_opcode small[] = {UZ_OP_EMPTY_TUPLE, UZ_OP_TUPLE1, UZ_OP_TUPLE2,
                                           UZ_OP_TUPLE3};
    uz_pickle_op(pickler, n <= 3 ? small[n] : UZ_OP_TUPLE);
}
