/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of the pickle machine, shared by its source files only. */
#ifndef UZ_TORCH_PICKLE_VM_H
#define UZ_TORCH_PICKLE_VM_H

#include <unzero/limits.h>

#include "base/cursor.h"
#include "base/mem.h"
#include "torch/node.h"
#include "torch/pickle.h"

/*
 * Everything one pickle builds. The stack and the memo hold references, so that a container which
 * was memoized while empty is the same container after it has been filled.
 */
struct uz_vm {
    struct uz_cursor *cur;
    const struct uz_limits *limits;
    struct uz_arena *arena;
    struct uz_error *err;

    struct uz_node **stack;
    size_t n_stack, stack_cap;
    size_t *marks; /* stack heights; opcodes do not reach below the last one */
    size_t n_marks, marks_cap;
    struct uz_node **memo; /* NULL where nothing was stored */
    size_t memo_n, memo_cap;
    uint64_t memo_count;           /* entries that are not NULL */
    struct uz_pickle_lists *lists; /* NULL: nobody asks */

    uint64_t n_nodes;
    uint64_t frame_end; /* position in the cursor; 0: not inside a frame */
    uint8_t opcode;     /* the one at work, */
    uint64_t offset;    /* and where in the stream it stands */
    bool stopped;
};

/* Name of an opcode ("BINGET"), NULL if the byte is none. */
const char *uz_opcode_name(uint8_t opcode);

/* A failure of the opcode at work: its name goes before the message. */
int uz_vm_fail(struct uz_vm *vm, int status, const char *fmt, ...) UZ_PRINTF(3, 4);

/* A cleared node of this kind, made by the opcode at work. Not on the stack yet. */
int uz_vm_node(struct uz_vm *vm, enum uz_node_kind kind, struct uz_node **out);

int uz_vm_push(struct uz_vm *vm, struct uz_node *node);

/* Puts a PERSID or GLOBAL node on its list, if there are lists. */
int uz_vm_list(struct uz_vm *vm, struct uz_node *node);

/* A new node of this kind on the stack. */
int uz_vm_push_new(struct uz_vm *vm, enum uz_node_kind kind, struct uz_node **out);

/* Opcodes that bring a value in their argument (pickle_lex.c). */
int uz_op_none(struct uz_vm *vm);
int uz_op_bool(struct uz_vm *vm);
int uz_op_binint(struct uz_vm *vm);
int uz_op_long(struct uz_vm *vm);
int uz_op_binfloat(struct uz_vm *vm);
int uz_op_text(struct uz_vm *vm);
int uz_op_int_line(struct uz_vm *vm);
int uz_op_float_line(struct uz_vm *vm);
int uz_op_string_line(struct uz_vm *vm);
int uz_op_unicode_line(struct uz_vm *vm);

/* A terminated line of decimal digits: the memo index of PUT and GET. */
int uz_vm_line_index(struct uz_vm *vm, uint64_t *index);

/* A GLOBAL whose two names stand on the next two lines. Not on the stack yet. */
int uz_vm_line_global(struct uz_vm *vm, struct uz_node **out);

/* Opcodes that work on the stack and the memo (pickle_ops.c). */
int uz_op_mark(struct uz_vm *vm);
int uz_op_pop(struct uz_vm *vm);
int uz_op_pop_mark(struct uz_vm *vm);
int uz_op_dup(struct uz_vm *vm);
int uz_op_put(struct uz_vm *vm);
int uz_op_get(struct uz_vm *vm);
int uz_op_empty(struct uz_vm *vm);
int uz_op_sequence(struct uz_vm *vm);
int uz_op_small_tuple(struct uz_vm *vm);
int uz_op_append(struct uz_vm *vm);
int uz_op_appends(struct uz_vm *vm);
int uz_op_dict(struct uz_vm *vm);
int uz_op_setitem(struct uz_vm *vm);
int uz_op_setitems(struct uz_vm *vm);
int uz_op_global(struct uz_vm *vm);
int uz_op_stack_global(struct uz_vm *vm);
int uz_op_reduce(struct uz_vm *vm);
int uz_op_newobj_ex(struct uz_vm *vm);
int uz_op_inst(struct uz_vm *vm);
int uz_op_obj(struct uz_vm *vm);
int uz_op_build(struct uz_vm *vm);
int uz_op_binpersid(struct uz_vm *vm);

#endif
