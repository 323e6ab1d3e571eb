/* SPDX-License-Identifier: Apache-2.0 */
/* The value graph that a pickle describes: data, never code. */
#ifndef UZ_TORCH_NODE_H
#define UZ_TORCH_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What a pickle can hold. Objects of classes are inert: their class, arguments and state are kept
 * as values and nothing is ever called.
 */
enum uz_node_kind {
    UZ_NODE_NONE,
    UZ_NODE_BOOL,      /* u.boolean */
    UZ_NODE_INT,       /* u.integer: fits 64 bits */
    UZ_NODE_BIGINT,    /* u.text: little-endian two's complement, more than 64 bits */
    UZ_NODE_FLOAT,     /* u.real */
    UZ_NODE_STR,       /* u.text: UTF-8 (surrogates may occur, as pickle allows them) */
    UZ_NODE_BYTES,     /* u.text */
    UZ_NODE_BYTEARRAY, /* u.text */
    UZ_NODE_TUPLE,     /* u.seq */
    UZ_NODE_LIST,      /* u.seq */
    UZ_NODE_SET,       /* u.seq */
    UZ_NODE_FROZENSET, /* u.seq */
    UZ_NODE_DICT,      /* u.dict */
    UZ_NODE_GLOBAL,    /* u.global: a class or function by name */
    UZ_NODE_OBJECT,    /* u.object: what a class or function would have made */
    UZ_NODE_PERSID,    /* u.persid: a persistent id, in PyTorch files a storage */
};

/* Which opcode family made an object, so that the graph can be written back. */
enum uz_make { UZ_MAKE_REDUCE, UZ_MAKE_NEWOBJ, UZ_MAKE_NEWOBJ_EX, UZ_MAKE_INST };

struct uz_node;

struct uz_seq {
    const struct uz_node **items;
    size_t n, cap;
};

struct uz_pair {
    const struct uz_node *key, *value;
};

struct uz_dict {
    struct uz_pair *pairs; /* in the order of the file, a key that was set twice stands twice */
    size_t n, cap;
};

struct uz_object {
    const struct uz_node *callable; /* usually a GLOBAL */
    const struct uz_node *args;     /* a TUPLE */
    const struct uz_node *kwargs;   /* NEWOBJ_EX, else NULL */
    const struct uz_node *state;    /* argument of the last BUILD, else NULL */
    struct uz_seq list;             /* what APPEND(S) added */
    struct uz_dict dict;            /* what SETITEM(S) added: the content of an OrderedDict */
    enum uz_make make;
};

struct uz_text {
    const char *data; /* not terminated by contract; may hold any byte */
    size_t nbytes;
};

struct uz_global {
    struct uz_text module, name;
};

/* A node is identified by its address: two references to one object are one node. */
struct uz_node {
    enum uz_node_kind kind;
    uint8_t opcode;  /* the opcode that made it */
    uint64_t offset; /* of that opcode in the file (deflated: in the inflated pickle) */
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct uz_text text;
        struct uz_seq seq;
        struct uz_dict dict;
        struct uz_global global;
        struct uz_object *object;
        const struct uz_node *persid;
    } u;
};

/* Each takes NULL (and answers false/NULL), so that look-ups can be chained. */

bool uz_node_is_none(const struct uz_node *node);

/* True if the node is a STR equal to the terminated text. */
bool uz_node_is_str(const struct uz_node *node, const char *text);

/* True if the node is the GLOBAL module.name. */
bool uz_node_is_global(const struct uz_node *node, const char *module, const char *name);

/* The class or function of an OBJECT if it is a GLOBAL, else NULL. */
const struct uz_node *uz_node_class(const struct uz_node *node);

/* True if the node is an OBJECT whose callable is the GLOBAL module.name. */
bool uz_node_is_object(const struct uz_node *node, const char *module, const char *name);

/* The pairs of a DICT, or of an OBJECT of collections.OrderedDict or defaultdict; else NULL. */
const struct uz_dict *uz_node_dict(const struct uz_node *node);

/* The items of a LIST, TUPLE, SET or FROZENSET; else NULL. */
const struct uz_seq *uz_node_seq(const struct uz_node *node);

/* The items of a LIST or TUPLE; else NULL. */
const struct uz_seq *uz_node_list(const struct uz_node *node);

/* The value of the last pair whose key is the STR `key`, NULL if there is none or no dict. */
const struct uz_node *uz_node_get(const struct uz_node *dict, const char *key);

/* The value of the last pair whose key is the INT `key`. */
const struct uz_node *uz_node_get_int(const struct uz_node *dict, int64_t key);

/*
 * As uz_node_get, for dictionaries that are small in real files (one parameter group, one state):
 * NULL if there are more than 1,024 pairs. Shared nodes could else make a short file cost hours.
 */
const struct uz_node *uz_node_get_small(const struct uz_node *dict, const char *key);

/*
 * True and the value if the node is an INT, a BOOL, or an enum member: an OBJECT of an unknown
 * class with exactly one INT argument (ZeroStageEnum).
 */
bool uz_node_int(const struct uz_node *node, int64_t *value);

/* As uz_node_int, for values that must not be negative. */
bool uz_node_u64(const struct uz_node *node, uint64_t *value);

/* A word for messages: "a list", "an object of class torch.Size" -- escaped, cut to size. */
const char *uz_node_describe(const struct uz_node *node, char *buf, size_t size);

#endif
