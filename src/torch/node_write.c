/* SPDX-License-Identifier: Apache-2.0 */
/* A walk over the graph with a stack of its own, in the order of CPython's pickler. */
#include "torch/node_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "torch/node_memo.h"
#include "torch/pickle_write.h"

/* CPython's pickler hands items over in batches of that many. */
enum { BATCH = 1000 };

/* What an object's frame does next. */
enum phase { CALLABLE, ARGS, KWARGS, CREATE, ITEMS, PAIRS, STATE, BUILD };

/* A node whose parts are being written. */
struct frame {
    const struct uz_node *node;
    enum phase phase;
    size_t at; /* the next item; of pairs, keys and values count */
};

struct writer {
    struct uz_pickler pickler;
    const struct uz_node_write_options *options;
    struct uz_node_memo memo;
    struct frame *frames;
    size_t n_frames, cap_frames;
    size_t first; /* of the pickle */
    unsigned protocol;
    struct uz_error *err;
};

static void op(struct writer *w, enum uz_opcode opcode)
{
    uz_pickle_op(&w->pickler, opcode);
}

static void need_protocol(struct writer *w, unsigned protocol)
{
    if (w->protocol < protocol)
        w->protocol = protocol;
}

/* The protocol that an opcode came with. */
static unsigned protocol_of(uint8_t opcode)
{
    switch (opcode) {
    case UZ_OP_BINBYTES:
    case UZ_OP_SHORT_BINBYTES:
        return 3;
    case UZ_OP_SHORT_BINUNICODE:
    case UZ_OP_BINUNICODE8:
    case UZ_OP_BINBYTES8:
    case UZ_OP_EMPTY_SET:
    case UZ_OP_FROZENSET:
    case UZ_OP_NEWOBJ_EX:
    case UZ_OP_STACK_GLOBAL:
        return 4;
    case UZ_OP_BYTEARRAY8:
        return 5;
    default:
        return 2;
    }
}

/* Gives the value on top of the stack, which is the node's, a number. */
static int remember(struct writer *w, const struct uz_node *node)
{
    return uz_node_memo_put(&w->memo, node, uz_pickle_put(&w->pickler), w->err);
}

/* ---- Nodes without parts ---- */

/* A text with its length in as few bytes as one of the two opcodes takes. */
static void write_text(struct writer *w, enum uz_opcode small, enum uz_opcode large,
                       const struct uz_text *text)
{
    bool is_small = text->nbytes <= UINT8_MAX;
    if (text->nbytes > UINT32_MAX)
        w->pickler.to->failed = true; /* more than any pickle that was read */
    op(w, is_small ? small : large);
    uz_bytes_le(w->pickler.to, text->nbytes, is_small ? 1 : 4);
    uz_bytes_add(w->pickler.to, text->data, text->nbytes);
}

/* Strings of Python 2 stay what they are: text or bytes, as the reader's options say. */
static bool is_old_string(const struct uz_node *node)
{
    return node->opcode == UZ_OP_STRING || node->opcode == UZ_OP_BINSTRING ||
           node->opcode == UZ_OP_SHORT_BINSTRING;
}

static int write_string(struct writer *w, const struct uz_node *node)
{
    const struct uz_text *text = &node->u.text;
    if (is_old_string(node)) {
        write_text(w, UZ_OP_SHORT_BINSTRING, UZ_OP_BINSTRING, text);
    } else if (node->kind == UZ_NODE_STR) {
        uz_pickle_str(&w->pickler, text->data, text->nbytes);
    } else if (node->kind == UZ_NODE_BYTES) {
        need_protocol(w, 3);
        write_text(w, UZ_OP_SHORT_BINBYTES, UZ_OP_BINBYTES, text);
    } else {
        need_protocol(w, 5);
        op(w, UZ_OP_BYTEARRAY8);
        uz_bytes_le(w->pickler.to, text->nbytes, 8);
        uz_bytes_add(w->pickler.to, text->data, text->nbytes);
    }
    return remember(w, node);
}

static void write_line(struct writer *w, const struct uz_text *text)
{
    uz_bytes_add(w->pickler.to, text->data, text->nbytes);
    uz_bytes_text(w->pickler.to, "\n");
}

static int write_global(struct writer *w, const struct uz_node *node)
{
    const struct uz_text *module = &node->u.global.module, *name = &node->u.global.name;
    if (memchr(module->data, '\n', module->nbytes) || memchr(name->data, '\n', name->nbytes)) {
        need_protocol(w, 4); /* no line can hold it */
        uz_pickle_str(&w->pickler, module->data, module->nbytes);
        uz_pickle_str(&w->pickler, name->data, name->nbytes);
        op(w, UZ_OP_STACK_GLOBAL);
    } else {
        op(w, UZ_OP_GLOBAL);
        write_line(w, module);
        write_line(w, name);
    }
    return remember(w, node);
}

static void write_float(struct writer *w, double real)
{
    uint64_t bits;
    memcpy(&bits, &real, sizeof bits);
    op(w, UZ_OP_BINFLOAT);
    uz_bytes_le(w->pickler.to, __builtin_bswap64(bits),
                8); /* the only big-endian number there is */
}

/* True if the node was one that has no parts; it is written then. */
static bool write_leaf(struct writer *w, const struct uz_node *node, int *rc)
{
    switch (node->kind) {
    case UZ_NODE_NONE:
        op(w, UZ_OP_NONE);
        return true;
    case UZ_NODE_BOOL:
        uz_pickle_bool(&w->pickler, node->u.boolean);
        return true;
    case UZ_NODE_INT:
        uz_pickle_int(&w->pickler, node->u.integer);
        return true;
    case UZ_NODE_BIGINT:
        write_text(w, UZ_OP_LONG1, UZ_OP_LONG4, &node->u.text);
        return true;
    case UZ_NODE_FLOAT:
        write_float(w, node->u.real);
        return true;
    case UZ_NODE_STR:
    case UZ_NODE_BYTES:
    case UZ_NODE_BYTEARRAY:
        *rc = write_string(w, node);
        return true;
    case UZ_NODE_GLOBAL:
        *rc = write_global(w, node);
        return true;
    default:
        return false;
    }
}

/* ---- Nodes with parts ---- */

/* What stands before the parts. Mutable containers get their number now: parts may name them. */
static int open_node(struct writer *w, const struct uz_node *node)
{
    switch (node->kind) {
    case UZ_NODE_TUPLE:
        uz_pickle_open_tuple(&w->pickler, node->u.seq.n);
        return UZ_OK;
    case UZ_NODE_FROZENSET:
        need_protocol(w, 4);
        op(w, UZ_OP_MARK);
        return UZ_OK;
    case UZ_NODE_SET:
        need_protocol(w, 4);
        op(w, UZ_OP_EMPTY_SET);
        return remember(w, node);
    case UZ_NODE_LIST:
        op(w, UZ_OP_EMPTY_LIST);
        return remember(w, node);
    case UZ_NODE_DICT:
        op(w, UZ_OP_EMPTY_DICT);
        return remember(w, node);
    case UZ_NODE_OBJECT:
        if (node->u.object->make == UZ_MAKE_INST)
            op(w, UZ_OP_MARK);
        return UZ_OK;
    default:
        return UZ_OK; /* a persistent id */
    }
}

/* Writes a node that has no parts or a number; else puts it on the stack of frames. */
static int begin(struct writer *w, const struct uz_node *node)
{
    const struct uz_limits *limits = w->options->limits;
    uint64_t number;
    int rc = UZ_OK;
    struct frame *frame;
    if (w->options->replace)
        node = w->options->replace(w->options->cookie, node);
    need_protocol(w, protocol_of(node->opcode));
    if (uz_node_memo_get(&w->memo, node, &number)) {
        uz_pickle_get(&w->pickler, number);
        return UZ_OK;
    }
    if (write_leaf(w, node, &rc))
        return rc;
    if (w->n_frames >= limits->max_pickle_stack)
        return uz_fail(w->err, UZ_LIMIT, "more than %llu nested values (max_pickle_stack)",
                       (unsigned long long)limits->max_pickle_stack);
    UZ_TRY(UZ_APPEND(w->frames, w->n_frames, w->cap_frames, &frame, w->err));
    *frame = (struct frame){.node = node};
    return open_node(w, node);
}

/*
 * What cannot be named before it is made may have been made by its own parts, if they name it: then
 * what stands on the stack for it goes, and the one that was made takes its place.
 */
static int finish_immutable(struct writer *w, const struct uz_node *node, enum uz_opcode opcode,
                            size_t n_values)
{
    uint64_t number;
    if (!uz_node_memo_get(&w->memo, node, &number)) {
        if (node->kind == UZ_NODE_TUPLE)
            uz_pickle_close_tuple(&w->pickler, n_values);
        else
            op(w, opcode);
        /* the empty tuple is one of a kind */
        return node->kind == UZ_NODE_TUPLE && n_values == 0 ? UZ_OK : remember(w, node);
    }
    if (n_values > 3 || node->kind == UZ_NODE_FROZENSET)
        op(w, UZ_OP_POP_MARK);
    else
        for (size_t i = 0; i < n_values; i++)
            op(w, UZ_OP_POP);
    uz_pickle_get(&w->pickler, number);
    return UZ_OK;
}

static int end_frame(struct writer *w)
{
    w->n_frames--;
    return UZ_OK;
}

static int step_immutable(struct writer *w, struct frame *frame)
{
    const struct uz_node *node = frame->node;
    const struct uz_seq *seq = &node->u.seq;
    if (frame->at < seq->n)
        return begin(w, seq->items[frame->at++]);
    UZ_TRY(finish_immutable(w, node, UZ_OP_FROZENSET, seq->n));
    return end_frame(w);
}

/* How n_units things, each of `width` values, are added to what stands below them. */
struct adding {
    size_t n_units, width;
    enum uz_opcode one, many; /* one 0: there is no opcode for a single one */
};

/*
 * Opcodes before value number `at`: those that end a batch, and that begin the next one. True if
 * there is such a value.
 */
static bool step_batch(struct writer *w, const struct adding *adding, size_t at)
{
    size_t unit = at / adding->width;
    if (at % adding->width != 0)
        return true;
    if (at > 0 && (unit % BATCH == 0 || unit == adding->n_units)) {
        size_t n_batch = unit % BATCH ? unit % BATCH : BATCH;
        op(w, n_batch == 1 && adding->one ? adding->one : adding->many);
    }
    if (unit == adding->n_units)
        return false;
    if (unit % BATCH == 0 && (adding->n_units - unit > 1 || !adding->one))
        op(w, UZ_OP_MARK);
    return true;
}

/* The next item of a list or set; *done when there is none. */
static int step_items(struct writer *w, struct frame *frame, const struct uz_seq *seq, bool *done)
{
    bool set = frame->node->kind == UZ_NODE_SET;
    const struct adding adding = {seq->n, 1, set ? (enum uz_opcode)0 : UZ_OP_APPEND,
                                  set ? UZ_OP_ADDITEMS : UZ_OP_APPENDS};
    *done = !step_batch(w, &adding, frame->at);
    return *done ? UZ_OK : begin(w, seq->items[frame->at++]);
}

static int step_pairs(struct writer *w, struct frame *frame, const struct uz_dict *dict, bool *done)
{
    const struct adding adding = {dict->n, 2, UZ_OP_SETITEM, UZ_OP_SETITEMS};
    *done = !step_batch(w, &adding, frame->at);
    if (*done)
        return UZ_OK;
    const struct uz_pair *pair = &dict->pairs[frame->at / 2];
    return begin(w, frame->at++ % 2 ? pair->value : pair->key);
}

/* ---- Objects ---- */

static int step_args(struct writer *w, struct frame *frame)
{
    const struct uz_object *object = frame->node->u.object;
    if (object->make != UZ_MAKE_INST) {
        frame->phase = KWARGS;
        return begin(w, object->args);
    }
    const struct uz_seq *args = &object->args->u.seq; /* above the mark, not in a tuple */
    if (frame->at < args->n)
        return begin(w, args->items[frame->at++]);
    frame->phase = CREATE;
    return UZ_OK;
}

static int step_kwargs(struct writer *w, struct frame *frame)
{
    const struct uz_object *object = frame->node->u.object;
    frame->phase = CREATE;
    return object->make == UZ_MAKE_NEWOBJ_EX ? begin(w, object->kwargs) : UZ_OK;
}

/* Makes the object; if its arguments have made it already, all is done. */
static int step_create(struct writer *w, struct frame *frame)
{
    static const enum uz_opcode opcodes[] = {
        [UZ_MAKE_REDUCE] = UZ_OP_REDUCE,
        [UZ_MAKE_NEWOBJ] = UZ_OP_NEWOBJ,
        [UZ_MAKE_NEWOBJ_EX] = UZ_OP_NEWOBJ_EX,
        [UZ_MAKE_INST] = UZ_OP_OBJ,
    };
    const struct uz_node *node = frame->node;
    uint64_t number;
    frame->phase = ITEMS;
    frame->at = 0;
    if (node->u.object->make == UZ_MAKE_NEWOBJ_EX)
        need_protocol(w, 4);
    op(w, opcodes[node->u.object->make]);
    if (!uz_node_memo_get(&w->memo, node, &number))
        return remember(w, node);
    op(w, UZ_OP_POP);
    uz_pickle_get(&w->pickler, number);
    return end_frame(w);
}

static int step_state(struct writer *w, struct frame *frame)
{
    const struct uz_node *state = frame->node->u.object->state;
    if (!state)
        return end_frame(w);
    frame->phase = BUILD;
    return begin(w, state);
}

static int step_object(struct writer *w, struct frame *frame)
{
    const struct uz_object *object = frame->node->u.object;
    bool done = false;
    switch (frame->phase) {
    case CALLABLE:
        frame->phase = ARGS;
        return begin(w, object->callable);
    case ARGS:
        return step_args(w, frame);
    case KWARGS:
        return step_kwargs(w, frame);
    case CREATE:
        return step_create(w, frame);
    case ITEMS:
    case PAIRS:
        break;
    case STATE:
        return step_state(w, frame);
    case BUILD:
        op(w, UZ_OP_BUILD);
        return end_frame(w);
    }
    const bool items = frame->phase == ITEMS;
    UZ_TRY(items ? step_items(w, frame, &object->list, &done)
                 : step_pairs(w, frame, &object->dict, &done));
    if (done) {
        frame->phase = items ? PAIRS : STATE;
        frame->at = 0;
    }
    return UZ_OK;
}

static int step_persid(struct writer *w, struct frame *frame)
{
    if (frame->at++ == 0)
        return begin(w, frame->node->u.persid);
    op(w, UZ_OP_BINPERSID);
    return end_frame(w);
}

/* Writes the next part of the topmost node. The frame may move when a part gets one. */
static int step(struct writer *w)
{
    struct frame *frame = &w->frames[w->n_frames - 1];
    bool done = false;
    switch (frame->node->kind) {
    case UZ_NODE_TUPLE:
    case UZ_NODE_FROZENSET:
        return step_immutable(w, frame);
    case UZ_NODE_OBJECT:
        return step_object(w, frame);
    case UZ_NODE_PERSID:
        return step_persid(w, frame);
    case UZ_NODE_DICT:
        UZ_TRY(step_pairs(w, frame, &frame->node->u.dict, &done));
        break;
    default:
        UZ_TRY(step_items(w, frame, &frame->node->u.seq, &done));
        break;
    }
    return done ? end_frame(w) : UZ_OK;
}

static int write_graph(struct writer *w, const struct uz_node *root)
{
    const struct uz_limits *limits = w->options->limits;
    UZ_TRY(begin(w, root));
    while (w->n_frames > 0) {
        UZ_TRY(step(w));
        UZ_TRY(uz_bytes_check(w->pickler.to, w->err));
        if (w->pickler.to->n - w->first > limits->max_pickle_bytes)
            return uz_fail(w->err, UZ_LIMIT, "a pickle of more than %llu bytes (max_pickle_bytes)",
                           (unsigned long long)limits->max_pickle_bytes);
    }
    op(w, UZ_OP_STOP);
    return uz_bytes_check(w->pickler.to, w->err);
}

int uz_pickle_write_node(struct uz_bytes *to, const struct uz_node *root,
                         const struct uz_node_write_options *options, struct uz_error *err)
{
    struct writer w = {.options = options, .first = to->n, .protocol = 2, .err = err};
    uz_pickle_start(&w.pickler, to);
    int rc = write_graph(&w, root);
    if (rc == UZ_OK)
        to->data[w.first + 1] = (char)w.protocol; /* the argument of PROTO */
    uz_node_memo_free(&w.memo);
    free(w.frames);
    return rc;
}
