/* SPDX-License-Identifier: Apache-2.0 */
/* Pickle opcodes that work on the stack and the memo: containers, references, objects. */
#include <string.h>

#include "torch/opcodes.h"
#include "torch/pickle_vm.h"

/* Values above the last mark: what an opcode may take. */
static size_t available(const struct uz_vm *vm)
{
    return vm->n_stack - (vm->n_marks ? vm->marks[vm->n_marks - 1] : 0);
}

static int pop(struct uz_vm *vm, struct uz_node **out)
{
    if (available(vm) < 1)
        return uz_vm_fail(vm, UZ_CORRUPT, "the stack holds too few values");
    *out = vm->stack[--vm->n_stack];
    return UZ_OK;
}

static int top(struct uz_vm *vm, struct uz_node **out)
{
    if (available(vm) < 1)
        return uz_vm_fail(vm, UZ_CORRUPT, "the stack holds too few values");
    *out = vm->stack[vm->n_stack - 1];
    return UZ_OK;
}

/*
 * Takes the last mark and all values above it off the stack. They stay readable at *items until
 * the next push.
 */
static int pop_to_mark(struct uz_vm *vm, struct uz_node ***items, size_t *n)
{
    if (vm->n_marks == 0)
        return uz_vm_fail(vm, UZ_CORRUPT, "no mark was set");
    size_t height = vm->marks[--vm->n_marks];
    *items = vm->stack + height;
    *n = vm->n_stack - height;
    vm->n_stack = height;
    return UZ_OK;
}

int uz_op_mark(struct uz_vm *vm)
{
    if (vm->n_marks >= vm->limits->max_pickle_stack)
        return uz_vm_fail(vm, UZ_LIMIT, "more than %llu open marks (max_pickle_stack)",
                          (unsigned long long)vm->limits->max_pickle_stack);
    UZ_TRY(uz_reserve(&vm->marks, &vm->marks_cap, (uint64_t)vm->n_marks + 1, sizeof *vm->marks,
                      vm->err));
    vm->marks[vm->n_marks++] = vm->n_stack;
    return UZ_OK;
}

/* As in CPython, POP right after MARK takes the mark. */
int uz_op_pop(struct uz_vm *vm)
{
    struct uz_node *node = NULL;
    if (vm->n_marks > 0 && available(vm) == 0) {
        vm->n_marks--;
        return UZ_OK;
    }
    return pop(vm, &node);
}

int uz_op_pop_mark(struct uz_vm *vm)
{
    struct uz_node **items = NULL;
    size_t n = 0;
    return pop_to_mark(vm, &items, &n);
}

int uz_op_dup(struct uz_vm *vm)
{
    struct uz_node *node = NULL;
    UZ_TRY(top(vm, &node));
    return uz_vm_push(vm, node);
}

/* The memo index of PUT, GET and their binary forms. */
static int memo_index(struct uz_vm *vm, uint64_t *index)
{
    uint8_t small;
    uint32_t large;

    switch (vm->opcode) {
    case UZ_OP_PUT:
    case UZ_OP_GET:
        return uz_vm_line_index(vm, index);
    case UZ_OP_BINPUT:
    case UZ_OP_BINGET:
        UZ_TRY(uz_get_u8(vm->cur, &small, vm->err));
        *index = small;
        return UZ_OK;
    case UZ_OP_LONG_BINPUT:
    case UZ_OP_LONG_BINGET:
        UZ_TRY(uz_get_le32(vm->cur, &large, vm->err));
        *index = large;
        return UZ_OK;
    default:
        *index = vm->memo_count; /* MEMOIZE */
        return UZ_OK;
    }
}

int uz_op_put(struct uz_vm *vm)
{
    struct uz_node *node = NULL;
    uint64_t index = 0;
    UZ_TRY(memo_index(vm, &index));
    UZ_TRY(top(vm, &node));
    if (index >= vm->limits->max_pickle_memo)
        return uz_vm_fail(vm, UZ_LIMIT, "memo index %llu, the cap is %llu (max_pickle_memo)",
                          (unsigned long long)index,
                          (unsigned long long)vm->limits->max_pickle_memo);
    /* Picklers count up from 0; one byte of input must not cost an array of 2^32 entries. */
    if (index > 2 * vm->memo_count + 1024)
        return uz_vm_fail(vm, UZ_LIMIT, "memo index %llu after only %llu entries",
                          (unsigned long long)index, (unsigned long long)vm->memo_count);
    UZ_TRY(uz_reserve(&vm->memo, &vm->memo_cap, index + 1, sizeof(struct uz_node *), vm->err));
    while (vm->memo_n <= index)
        vm->memo[vm->memo_n++] = NULL;
    if (!vm->memo[index])
        vm->memo_count++;
    vm->memo[index] = node;
    return UZ_OK;
}

int uz_op_get(struct uz_vm *vm)
{
    uint64_t index = 0;
    UZ_TRY(memo_index(vm, &index));
    if (index >= vm->memo_n || !vm->memo[index])
        return uz_vm_fail(vm, UZ_CORRUPT, "memo entry %llu was never stored",
                          (unsigned long long)index);
    return uz_vm_push(vm, vm->memo[index]);
}

int uz_op_empty(struct uz_vm *vm)
{
    struct uz_node *node = NULL;
    switch (vm->opcode) {
    case UZ_OP_EMPTY_TUPLE:
        return uz_vm_push_new(vm, UZ_NODE_TUPLE, &node);
    case UZ_OP_EMPTY_LIST:
        return uz_vm_push_new(vm, UZ_NODE_LIST, &node);
    case UZ_OP_EMPTY_SET:
        return uz_vm_push_new(vm, UZ_NODE_SET, &node);
    default:
        return uz_vm_push_new(vm, UZ_NODE_DICT, &node);
    }
}

/* Room for `more` items, doubled so that what growing leaves behind in the arena stays bounded. */
static size_t grown(size_t n, size_t cap, size_t more)
{
    size_t need = n + more;
    return need > 2 * cap ? need : 2 * cap;
}

static int seq_add(struct uz_vm *vm, struct uz_seq *seq, struct uz_node *const *items, size_t n)
{
    if (n == 0)
        return UZ_OK;
    if (n > seq->cap - seq->n) {
        const struct uz_node **larger;
        size_t cap = grown(seq->n, seq->cap, n);
        UZ_TRY(uz_arena_alloc(vm->arena, cap, sizeof *larger, &larger, vm->err));
        if (seq->n)
            memcpy(larger, seq->items, seq->n * sizeof(*larger));
        seq->items = larger;
        seq->cap = cap;
    }
    for (size_t i = 0; i < n; i++)
        seq->items[seq->n++] = items[i];
    return UZ_OK;
}

/* Adds n / 2 pairs: keys and values take turns. */
static int dict_add(struct uz_vm *vm, struct uz_dict *dict, struct uz_node *const *items, size_t n)
{
    if (n % 2 != 0)
        return uz_vm_fail(vm, UZ_CORRUPT, "a key without a value");
    if (n == 0)
        return UZ_OK;
    if (n / 2 > dict->cap - dict->n) {
        struct uz_pair *larger;
        size_t cap = grown(dict->n, dict->cap, n / 2);
        UZ_TRY(uz_arena_alloc(vm->arena, cap, sizeof *larger, &larger, vm->err));
        if (dict->n)
            memcpy(larger, dict->pairs, dict->n * sizeof *larger);
        dict->pairs = larger;
        dict->cap = cap;
    }
    for (size_t i = 0; i < n; i += 2)
        dict->pairs[dict->n++] = (struct uz_pair){items[i], items[i + 1]};
    return UZ_OK;
}

int uz_op_sequence(struct uz_vm *vm)
{
    enum uz_node_kind kind = vm->opcode == UZ_OP_TUPLE  ? UZ_NODE_TUPLE
                             : vm->opcode == UZ_OP_LIST ? UZ_NODE_LIST
                                                        : UZ_NODE_FROZENSET;
    struct uz_node **items = NULL, *node;
    size_t n = 0;
    UZ_TRY(pop_to_mark(vm, &items, &n));
    UZ_TRY(uz_vm_node(vm, kind, &node));
    UZ_TRY(seq_add(vm, &node->u.seq, items, n));
    return uz_vm_push(vm, node);
}

int uz_op_small_tuple(struct uz_vm *vm)
{
    size_t n = (size_t)vm->opcode - UZ_OP_TUPLE1 + 1;
    if (available(vm) < n)
        return uz_vm_fail(vm, UZ_CORRUPT, "the stack holds too few values");
    struct uz_node *node = NULL;
    UZ_TRY(uz_vm_node(vm, UZ_NODE_TUPLE, &node));
    vm->n_stack -= n;
    UZ_TRY(seq_add(vm, &node->u.seq, vm->stack + vm->n_stack, n));
    return uz_vm_push(vm, node);
}

/* Adds to the list, set or object on top of the stack. */
static int append_to_top(struct uz_vm *vm, enum uz_node_kind kind, struct uz_node *const *items,
                         size_t n)
{
    struct uz_node *target = NULL;
    UZ_TRY(top(vm, &target));
    if (target->kind == kind)
        return seq_add(vm, &target->u.seq, items, n);
    if (target->kind == UZ_NODE_OBJECT)
        return seq_add(vm, &target->u.object->list, items, n);
    char what[300];
    return uz_vm_fail(vm, UZ_CORRUPT, "%s takes no items",
                      uz_node_describe(target, what, sizeof what));
}

int uz_op_append(struct uz_vm *vm)
{
    struct uz_node *item = NULL;
    UZ_TRY(pop(vm, &item));
    return append_to_top(vm, UZ_NODE_LIST, &item, 1);
}

int uz_op_appends(struct uz_vm *vm)
{
    struct uz_node **items = NULL;
    size_t n = 0;
    UZ_TRY(pop_to_mark(vm, &items, &n));
    return append_to_top(vm, vm->opcode == UZ_OP_APPENDS ? UZ_NODE_LIST : UZ_NODE_SET, items, n);
}

static int set_in_top(struct uz_vm *vm, struct uz_node *const *items, size_t n)
{
    struct uz_node *target = NULL;
    UZ_TRY(top(vm, &target));
    if (target->kind == UZ_NODE_DICT)
        return dict_add(vm, &target->u.dict, items, n);
    if (target->kind == UZ_NODE_OBJECT)
        return dict_add(vm, &target->u.object->dict, items, n);
    char what[300];
    return uz_vm_fail(vm, UZ_CORRUPT, "%s takes no keys",
                      uz_node_describe(target, what, sizeof what));
}

int uz_op_setitem(struct uz_vm *vm)
{
    struct uz_node *pair[2] = {NULL, NULL};
    UZ_TRY(pop(vm, &pair[1]));
    UZ_TRY(pop(vm, &pair[0]));
    return set_in_top(vm, pair, 2);
}

int uz_op_setitems(struct uz_vm *vm)
{
    struct uz_node **items = NULL;
    size_t n = 0;
    UZ_TRY(pop_to_mark(vm, &items, &n));
    return set_in_top(vm, items, n);
}

int uz_op_dict(struct uz_vm *vm)
{
    struct uz_node **items = NULL, *node;
    size_t n = 0;
    UZ_TRY(pop_to_mark(vm, &items, &n));
    UZ_TRY(uz_vm_node(vm, UZ_NODE_DICT, &node));
    UZ_TRY(dict_add(vm, &node->u.dict, items, n));
    return uz_vm_push(vm, node);
}

int uz_op_global(struct uz_vm *vm)
{
    struct uz_node *node = NULL;
    UZ_TRY(uz_vm_line_global(vm, &node));
    return uz_vm_push(vm, node);
}

int uz_op_stack_global(struct uz_vm *vm)
{
    struct uz_node *module = NULL, *name = NULL, *node;
    UZ_TRY(pop(vm, &name));
    UZ_TRY(pop(vm, &module));
    if (module->kind != UZ_NODE_STR || name->kind != UZ_NODE_STR)
        return uz_vm_fail(vm, UZ_CORRUPT, "the name of a class that is not text");
    UZ_TRY(uz_vm_push_new(vm, UZ_NODE_GLOBAL, &node));
    node->u.global.module = module->u.text;
    node->u.global.name = name->u.text;
    return uz_vm_list(vm, node);
}

/* Pushes what calling `callable` would have made. */
static int push_object(struct uz_vm *vm, enum uz_make make, struct uz_node *callable,
                       struct uz_node *args, struct uz_node *kwargs)
{
    char what[300];
    if (callable->kind != UZ_NODE_GLOBAL && callable->kind != UZ_NODE_OBJECT)
        return uz_vm_fail(vm, UZ_CORRUPT, "%s stands where a class must",
                          uz_node_describe(callable, what, sizeof what));
    if (args->kind != UZ_NODE_TUPLE)
        return uz_vm_fail(vm, UZ_CORRUPT, "%s stands where a tuple of arguments must",
                          uz_node_describe(args, what, sizeof what));
    if (kwargs && kwargs->kind != UZ_NODE_DICT)
        return uz_vm_fail(vm, UZ_CORRUPT, "%s stands where a dict of arguments must",
                          uz_node_describe(kwargs, what, sizeof what));
    struct uz_object *object;
    struct uz_node *node = NULL;
    UZ_TRY(uz_arena_alloc(vm->arena, 1, sizeof *object, &object, vm->err));
    memset(object, 0, sizeof *object);
    object->callable = callable;
    object->args = args;
    object->kwargs = kwargs;
    object->make = make;
    UZ_TRY(uz_vm_push_new(vm, UZ_NODE_OBJECT, &node));
    node->u.object = object;
    return UZ_OK;
}

/* REDUCE and NEWOBJ. */
int uz_op_reduce(struct uz_vm *vm)
{
    struct uz_node *callable = NULL, *args = NULL;
    UZ_TRY(pop(vm, &args));
    UZ_TRY(pop(vm, &callable));
    enum uz_make make = vm->opcode == UZ_OP_REDUCE ? UZ_MAKE_REDUCE : UZ_MAKE_NEWOBJ;
    return push_object(vm, make, callable, args, NULL);
}

int uz_op_newobj_ex(struct uz_vm *vm)
{
    struct uz_node *callable = NULL, *args = NULL, *kwargs = NULL;
    UZ_TRY(pop(vm, &kwargs));
    UZ_TRY(pop(vm, &args));
    UZ_TRY(pop(vm, &callable));
    return push_object(vm, UZ_MAKE_NEWOBJ_EX, callable, args, kwargs);
}

/* INST: the class stands in the stream, the arguments above the mark. */
int uz_op_inst(struct uz_vm *vm)
{
    struct uz_node **items = NULL, *callable, *args;
    size_t n = 0;
    UZ_TRY(uz_vm_line_global(vm, &callable));
    UZ_TRY(pop_to_mark(vm, &items, &n));
    UZ_TRY(uz_vm_node(vm, UZ_NODE_TUPLE, &args));
    UZ_TRY(seq_add(vm, &args->u.seq, items, n));
    return push_object(vm, UZ_MAKE_INST, callable, args, NULL);
}

/* OBJ: the class is the first value above the mark. */
int uz_op_obj(struct uz_vm *vm)
{
    struct uz_node **items = NULL, *callable, *args;
    size_t n = 0;
    UZ_TRY(pop_to_mark(vm, &items, &n));
    if (n == 0)
        return uz_vm_fail(vm, UZ_CORRUPT, "no class stands above the mark");
    callable = items[0];
    UZ_TRY(uz_vm_node(vm, UZ_NODE_TUPLE, &args));
    UZ_TRY(seq_add(vm, &args->u.seq, items + 1, n - 1));
    return push_object(vm, UZ_MAKE_INST, callable, args, NULL);
}

int uz_op_build(struct uz_vm *vm)
{
    struct uz_node *state = NULL, *target = NULL;
    UZ_TRY(pop(vm, &state));
    UZ_TRY(top(vm, &target));
    if (target->kind != UZ_NODE_OBJECT) {
        char what[300];
        return uz_vm_fail(vm, UZ_CORRUPT, "%s takes no state",
                          uz_node_describe(target, what, sizeof what));
    }
    target->u.object->state = state;
    return UZ_OK;
}

int uz_op_binpersid(struct uz_vm *vm)
{
    struct uz_node *id = NULL, *node;
    UZ_TRY(pop(vm, &id));
    UZ_TRY(uz_vm_push_new(vm, UZ_NODE_PERSID, &node));
    node->u.persid = id;
    return uz_vm_list(vm, node);
}
