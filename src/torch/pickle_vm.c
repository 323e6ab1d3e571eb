/* SPDX-License-Identifier: Apache-2.0 */
/* The pickle machine: fetches opcodes and dispatches them, and owns stack and memo. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "torch/opcodes.h"
#include "torch/pickle.h"
#include "torch/pickle_vm.h"

enum { MAX_PROTOCOL = 5 };

static int op_proto(struct uz_vm *vm)
{
    uint8_t version;
    UZ_TRY(uz_get_u8(vm->cur, &version, vm->err));
    if (version > MAX_PROTOCOL)
        return uz_vm_fail(vm, UZ_UNSUPPORTED, "pickle protocol %u; protocols 0 to 5 are known",
                          version);
    return UZ_OK;
}

static int op_frame(struct uz_vm *vm)
{
    uint64_t nbytes;
    UZ_TRY(uz_get_le64(vm->cur, &nbytes, vm->err));
    if (vm->frame_end != 0)
        return uz_vm_fail(vm, UZ_CORRUPT, "a frame inside a frame");
    if (nbytes > uz_cursor_left(vm->cur))
        return uz_vm_fail(vm, UZ_CORRUPT, "a frame of %llu bytes, but only %llu are left",
                          (unsigned long long)nbytes, (unsigned long long)uz_cursor_left(vm->cur));
    vm->frame_end = vm->cur->pos + nbytes;
    return UZ_OK;
}

static int op_stop(struct uz_vm *vm)
{
    if (vm->n_stack != 1 || vm->n_marks != 0)
        return uz_vm_fail(vm, UZ_CORRUPT, "%zu values and %zu marks are left, not one value",
                          vm->n_stack, vm->n_marks);
    vm->stopped = true;
    return UZ_OK;
}

static int op_unsupported(struct uz_vm *vm)
{
    return uz_vm_fail(vm, UZ_UNSUPPORTED, "it needs the program that wrote the file");
}

struct op {
    const char *name;
    int (*run)(struct uz_vm *vm);
};

static const struct op ops[256] = {
    [UZ_OP_MARK] = {"MARK", uz_op_mark},
    [UZ_OP_EMPTY_TUPLE] = {"EMPTY_TUPLE", uz_op_empty},
    [UZ_OP_STOP] = {"STOP", op_stop},
    [UZ_OP_POP] = {"POP", uz_op_pop},
    [UZ_OP_POP_MARK] = {"POP_MARK", uz_op_pop_mark},
    [UZ_OP_DUP] = {"DUP", uz_op_dup},
    [UZ_OP_BINBYTES] = {"BINBYTES", uz_op_text},
    [UZ_OP_SHORT_BINBYTES] = {"SHORT_BINBYTES", uz_op_text},
    [UZ_OP_FLOAT] = {"FLOAT", uz_op_float_line},
    [UZ_OP_BINFLOAT] = {"BINFLOAT", uz_op_binfloat},
    [UZ_OP_INT] = {"INT", uz_op_int_line},
    [UZ_OP_BININT] = {"BININT", uz_op_binint},
    [UZ_OP_BININT1] = {"BININT1", uz_op_binint},
    [UZ_OP_LONG] = {"LONG", uz_op_int_line},
    [UZ_OP_BININT2] = {"BININT2", uz_op_binint},
    [UZ_OP_NONE] = {"NONE", uz_op_none},
    [UZ_OP_PERSID] = {"PERSID", op_unsupported},
    [UZ_OP_BINPERSID] = {"BINPERSID", uz_op_binpersid},
    [UZ_OP_REDUCE] = {"REDUCE", uz_op_reduce},
    [UZ_OP_STRING] = {"STRING", uz_op_string_line},
    [UZ_OP_BINSTRING] = {"BINSTRING", uz_op_text},
    [UZ_OP_SHORT_BINSTRING] = {"SHORT_BINSTRING", uz_op_text},
    [UZ_OP_UNICODE] = {"UNICODE", uz_op_unicode_line},
    [UZ_OP_BINUNICODE] = {"BINUNICODE", uz_op_text},
    [UZ_OP_EMPTY_LIST] = {"EMPTY_LIST", uz_op_empty},
    [UZ_OP_APPEND] = {"APPEND", uz_op_append},
    [UZ_OP_BUILD] = {"BUILD", uz_op_build},
    [UZ_OP_GLOBAL] = {"GLOBAL", uz_op_global},
    [UZ_OP_DICT] = {"DICT", uz_op_dict},
    [UZ_OP_APPENDS] = {"APPENDS", uz_op_appends},
    [UZ_OP_GET] = {"GET", uz_op_get},
    [UZ_OP_BINGET] = {"BINGET", uz_op_get},
    [UZ_OP_INST] = {"INST", uz_op_inst},
    [UZ_OP_LONG_BINGET] = {"LONG_BINGET", uz_op_get},
    [UZ_OP_LIST] = {"LIST", uz_op_sequence},
    [UZ_OP_OBJ] = {"OBJ", uz_op_obj},
    [UZ_OP_PUT] = {"PUT", uz_op_put},
    [UZ_OP_BINPUT] = {"BINPUT", uz_op_put},
    [UZ_OP_LONG_BINPUT] = {"LONG_BINPUT", uz_op_put},
    [UZ_OP_SETITEM] = {"SETITEM", uz_op_setitem},
    [UZ_OP_TUPLE] = {"TUPLE", uz_op_sequence},
    [UZ_OP_SETITEMS] = {"SETITEMS", uz_op_setitems},
    [UZ_OP_EMPTY_DICT] = {"EMPTY_DICT", uz_op_empty},
    [UZ_OP_PROTO] = {"PROTO", op_proto},
    [UZ_OP_NEWOBJ] = {"NEWOBJ", uz_op_reduce},
    [UZ_OP_EXT1] = {"EXT1", op_unsupported},
    [UZ_OP_EXT2] = {"EXT2", op_unsupported},
    [UZ_OP_EXT4] = {"EXT4", op_unsupported},
    [UZ_OP_TUPLE1] = {"TUPLE1", uz_op_small_tuple},
    [UZ_OP_TUPLE2] = {"TUPLE2", uz_op_small_tuple},
    [UZ_OP_TUPLE3] = {"TUPLE3", uz_op_small_tuple},
    [UZ_OP_NEWTRUE] = {"NEWTRUE", uz_op_bool},
    [UZ_OP_NEWFALSE] = {"NEWFALSE", uz_op_bool},
    [UZ_OP_LONG1] = {"LONG1", uz_op_long},
    [UZ_OP_LONG4] = {"LONG4", uz_op_long},
    [UZ_OP_SHORT_BINUNICODE] = {"SHORT_BINUNICODE", uz_op_text},
    [UZ_OP_BINUNICODE8] = {"BINUNICODE8", uz_op_text},
    [UZ_OP_BINBYTES8] = {"BINBYTES8", uz_op_text},
    [UZ_OP_EMPTY_SET] = {"EMPTY_SET", uz_op_empty},
    [UZ_OP_ADDITEMS] = {"ADDITEMS", uz_op_appends},
    [UZ_OP_FROZENSET] = {"FROZENSET", uz_op_sequence},
    [UZ_OP_NEWOBJ_EX] = {"NEWOBJ_EX", uz_op_newobj_ex},
    [UZ_OP_STACK_GLOBAL] = {"STACK_GLOBAL", uz_op_stack_global},
    [UZ_OP_MEMOIZE] = {"MEMOIZE", uz_op_put},
    [UZ_OP_FRAME] = {"FRAME", op_frame},
    [UZ_OP_BYTEARRAY8] = {"BYTEARRAY8", uz_op_text},
    [UZ_OP_NEXT_BUFFER] = {"NEXT_BUFFER", op_unsupported},
    [UZ_OP_READONLY_BUFFER] = {"READONLY_BUFFER", op_unsupported},
};

const char *uz_opcode_name(uint8_t opcode)
{
    return ops[opcode].name;
}

int uz_vm_fail(struct uz_vm *vm, int status, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return uz_fail_at(vm->err, status, vm->cur->file, vm->offset, "pickle opcode %s: %s",
                      ops[vm->opcode].name, text);
}

/* Names the place of a failure that came from the cursor or from memory. */
static int add_place(struct uz_vm *vm, int status)
{
    if (vm->err && strncmp(vm->err->message, "pickle opcode", strlen("pickle opcode")) != 0) {
        if (vm->err->offset == UZ_NO_OFFSET)
            vm->err->offset = vm->offset;
        uz_context(vm->err, status, "pickle opcode %s", ops[vm->opcode].name);
    }
    return uz_error_in_file(vm->err, status, vm->cur->file);
}

int uz_vm_node(struct uz_vm *vm, enum uz_node_kind kind, struct uz_node **out)
{
    if (vm->n_nodes >= vm->limits->max_pickle_nodes)
        return uz_vm_fail(vm, UZ_LIMIT, "more than %llu values (max_pickle_nodes)",
                          (unsigned long long)vm->limits->max_pickle_nodes);
    struct uz_node *node;
    UZ_TRY(uz_arena_alloc(vm->arena, 1, sizeof *node, &node, vm->err));
    memset(node, 0, sizeof *node);
    node->kind = kind;
    node->opcode = vm->opcode;
    node->offset = vm->offset;
    vm->n_nodes++;
    *out = node;
    return UZ_OK;
}

int uz_vm_push(struct uz_vm *vm, struct uz_node *node)
{
    if (vm->n_stack >= vm->limits->max_pickle_stack)
        return uz_vm_fail(vm, UZ_LIMIT, "more than %llu values on the stack (max_pickle_stack)",
                          (unsigned long long)vm->limits->max_pickle_stack);
    UZ_TRY(uz_reserve(&vm->stack, &vm->stack_cap, (uint64_t)vm->n_stack + 1,
                      sizeof(struct uz_node *), vm->err));
    vm->stack[vm->n_stack++] = node;
    return UZ_OK;
}

int uz_vm_list(struct uz_vm *vm, struct uz_node *node)
{
    if (!vm->lists)
        return UZ_OK;
    struct uz_seq *list = node->kind == UZ_NODE_PERSID ? &vm->lists->ids : &vm->lists->globals;
    UZ_TRY(
        uz_reserve(&list->items, &list->cap, (uint64_t)list->n + 1, sizeof *list->items, vm->err));
    list->items[list->n++] = node;
    return UZ_OK;
}

int uz_vm_push_new(struct uz_vm *vm, enum uz_node_kind kind, struct uz_node **out)
{
    struct uz_node *node;
    UZ_TRY(uz_vm_node(vm, kind, &node));
    UZ_TRY(uz_vm_push(vm, node));
    *out = node;
    return UZ_OK;
}

/* An opcode that begins in a frame must end in it, or the frame's length is a lie. */
static int check_frame(struct uz_vm *vm)
{
    if (vm->frame_end == 0 || vm->cur->pos < vm->frame_end)
        return UZ_OK;
    if (vm->cur->pos > vm->frame_end)
        return uz_vm_fail(vm, UZ_CORRUPT, "it crosses the end of its frame");
    vm->frame_end = 0;
    return UZ_OK;
}

static int run(struct uz_vm *vm)
{
    while (!vm->stopped) {
        vm->offset = uz_cursor_offset(vm->cur);
        int rc = uz_get_u8(vm->cur, &vm->opcode, vm->err);
        if (rc < 0)
            return uz_context(vm->err, rc, "pickle without a STOP");
        const struct op *op = &ops[vm->opcode];
        if (!op->run)
            return uz_fail_at(vm->err, UZ_CORRUPT, vm->cur->file, vm->offset,
                              "byte 0x%02x is no pickle opcode", vm->opcode);
        rc = op->run(vm);
        if (rc < 0)
            return add_place(vm, rc);
        UZ_TRY(check_frame(vm));
    }
    return UZ_OK;
}

int uz_pickle_read_lists(struct uz_cursor *cur, const struct uz_limits *limits,
                         struct uz_arena *arena, const struct uz_node **root,
                         struct uz_pickle_lists *lists, struct uz_error *err)
{
    struct uz_vm vm = {.cur = cur, .limits = limits, .arena = arena, .lists = lists, .err = err};
    int rc;
    if (uz_cursor_left(cur) > limits->max_pickle_bytes)
        return uz_fail_at(err, UZ_LIMIT, cur->file, uz_cursor_offset(cur),
                          "a pickle of %llu bytes, the cap is %llu (max_pickle_bytes)",
                          (unsigned long long)uz_cursor_left(cur),
                          (unsigned long long)limits->max_pickle_bytes);
    /* A stack from the start: opcodes of no values form pointers to it, too. */
    rc = uz_reserve(&vm.stack, &vm.stack_cap, 1, sizeof(struct uz_node *), err);
    if (rc == UZ_OK)
        rc = run(&vm);
    if (rc == UZ_OK)
        *root = vm.stack[0];
    free(vm.stack);
    free(vm.marks);
    free(vm.memo);
    return rc;
}

int uz_pickle_read(struct uz_cursor *cur, const struct uz_limits *limits, struct uz_arena *arena,
                   const struct uz_node **root, struct uz_error *err)
{
    return uz_pickle_read_lists(cur, limits, arena, root, NULL, err);
}

void uz_pickle_lists_free(struct uz_pickle_lists *lists)
{
    free(lists->ids.items);
    free(lists->globals.items);
    *lists = (struct uz_pickle_lists){0};
}
