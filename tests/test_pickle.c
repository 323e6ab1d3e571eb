/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the pickle machine on streams written out by hand; each says what it is in Python. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "check.h"
#include "torch/pickle.h"

/* One stream and its value; `arena` is freed by done(). */
struct reading {
    struct uz_arena *arena;
    const struct uz_node *root;
    struct uz_error err;
    int rc;
};

static struct reading read_limited(const void *data, size_t nbytes, const struct uz_limits *limits)
{
    struct reading reading = {.arena = uz_arena_new(limits->max_pickle_arena)};
    struct uz_cursor cur;
    /* A copy of its own, so that the address sanitizer sees a read past the end. */
    uint8_t *copy = malloc(nbytes ? nbytes : 1);
    if (!copy || !reading.arena)
        abort();
    memcpy(copy, data, nbytes);
    uz_error_clear(&reading.err);
    uz_cursor_init(&cur, copy, nbytes, "test.pkl", 1000);
    reading.rc = uz_pickle_read(&cur, limits, reading.arena, &reading.root, &reading.err);
    free(copy);
    return reading;
}

static struct reading read_pickle(const void *data, size_t nbytes)
{
    struct uz_limits limits;
    uz_limits_default(&limits);
    return read_limited(data, nbytes, &limits);
}

static void done(struct reading *reading)
{
    uz_arena_free(reading->arena);
}

#define READ(text) read_pickle((text), sizeof(text) - 1)

/* A stream in a table: bytes and their number. */
#define BYTES(text) (text), sizeof(text) - 1

static bool text_is(const struct uz_text *text, const char *want, size_t nbytes)
{
    return text->nbytes == nbytes && memcmp(text->data, want, nbytes) == 0;
}

static void test_integers(void)
{
    static const struct {
        const char *bytes;
        size_t nbytes;
        int64_t want;
    } cases[] = {
        {BYTES("K\x07."), 7},
        {BYTES("K\xff."), 255},
        {BYTES("M\x34\x12."), 0x1234},
        {BYTES("J\xfe\xff\xff\xff."), -2},
        {BYTES("\x8a\x00."), 0},
        {BYTES("\x8a\x01\xff."), -1},
        {BYTES("\x8a\x02\xff\x00."), 255},
        {BYTES("\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."), INT64_MIN},
        {BYTES("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."), INT64_MAX},
        {BYTES("\x8a\x0a\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00."),
         5}, /* more bytes than needed */
        {BYTES("\x8b\x01\x00\x00\x00\x80."), -128},
        {BYTES("I42\n."), 42},
        {BYTES("I-42\n."), -42},
        {BYTES("L42L\n."), 42},
        {BYTES("L-9223372036854775808L\n."), INT64_MIN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reading r = read_pickle(cases[i].bytes, cases[i].nbytes);
        int64_t value = 0;
        if (CHECK_F(r.rc == UZ_OK, "case %zu: %s", i, r.err.message)) {
            CHECK(r.root->kind == UZ_NODE_INT);
            CHECK(uz_node_int(r.root, &value));
            CHECK_EQ_I64(value, cases[i].want);
        }
        done(&r);
    }
}

static void test_other_numbers(void)
{
    struct reading r = READ("(I01\nI00\n\x88\x89N"
                            "G\x3f\xf8\x00\x00\x00\x00\x00\x00"
                            "F-2.5e3\nFnan\n"
                            "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01"
                            "t.");
    if (CHECK_F(r.rc == UZ_OK, "%s", r.err.message)) {
        const struct uz_seq *seq = uz_node_list(r.root);
        CHECK_EQ_U64(seq->n, 9);
        CHECK(seq->items[0]->kind == UZ_NODE_BOOL && seq->items[0]->u.boolean);
        CHECK(seq->items[1]->kind == UZ_NODE_BOOL && !seq->items[1]->u.boolean);
        CHECK(seq->items[2]->kind == UZ_NODE_BOOL && seq->items[2]->u.boolean);
        CHECK(seq->items[3]->kind == UZ_NODE_BOOL && !seq->items[3]->u.boolean);
        CHECK(uz_node_is_none(seq->items[4]));
        CHECK(seq->items[5]->kind == UZ_NODE_FLOAT && seq->items[5]->u.real >= 1.5 &&
              seq->items[5]->u.real <= 1.5);
        CHECK(seq->items[6]->u.real >= -2500 && seq->items[6]->u.real <= -2500);
        CHECK(isnan(seq->items[7]->u.real));
        CHECK(seq->items[8]->kind == UZ_NODE_BIGINT); /* 2**64 */
        CHECK(text_is(&seq->items[8]->u.text, "\0\0\0\0\0\0\0\0\1", 9));
    }
    done(&r);
}

static void test_texts(void)
{
    static const struct {
        const char *bytes;
        size_t nbytes;
        enum uz_node_kind kind;
        const char *want;
        size_t want_nbytes;
    } cases[] = {
        {BYTES("X\x02\x00\x00\x00hi."), UZ_NODE_STR, BYTES("hi")},
        {BYTES("\x8c\x00."), UZ_NODE_STR, BYTES("")},
        {BYTES("\x8c\x03"
               "a\0b."),
         UZ_NODE_STR, BYTES("a\0b")},
        {BYTES("\x8d\x01\x00\x00\x00\x00\x00\x00\x00x."), UZ_NODE_STR, BYTES("x")},
        {BYTES("\x8c\x03\xed\xa0\x80."), UZ_NODE_STR, BYTES("\xed\xa0\x80")}, /* '\ud800' */
        {BYTES("C\x02\xff\x00."), UZ_NODE_BYTES, BYTES("\xff\0")},
        {BYTES("B\x01\x00\x00\x00z."), UZ_NODE_BYTES, BYTES("z")},
        {BYTES("\x8e\x01\x00\x00\x00\x00\x00\x00\x00z."), UZ_NODE_BYTES, BYTES("z")},
        {BYTES("\x96\x01\x00\x00\x00\x00\x00\x00\x00z."), UZ_NODE_BYTEARRAY, BYTES("z")},
        {BYTES("U\x02hi."), UZ_NODE_STR, BYTES("hi")},
        {BYTES("U\x01\xff."), UZ_NODE_BYTES, BYTES("\xff")}, /* Python 2: not text */
        {BYTES("T\x01\x00\x00\x00q."), UZ_NODE_STR, BYTES("q")},
        {BYTES("S'a\\'\\n\\x41\\101\\\\'\n."), UZ_NODE_STR, BYTES("a'\nAA\\")},
        {BYTES("S\"\"\n."), UZ_NODE_STR, BYTES("")},
        {BYTES("S'\\xff'\n."), UZ_NODE_BYTES, BYTES("\xff")},
        {BYTES("Vh\xe9\\u20ac\\U0001f600\n."), UZ_NODE_STR,
         BYTES("h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reading r = read_pickle(cases[i].bytes, cases[i].nbytes);
        if (CHECK_F(r.rc == UZ_OK, "case %zu: %s", i, r.err.message)) {
            CHECK_F(r.root->kind == cases[i].kind, "case %zu: kind %d", i, (int)r.root->kind);
            CHECK_F(text_is(&r.root->u.text, cases[i].want, cases[i].want_nbytes),
                    "case %zu: other text", i);
        }
        done(&r);
    }
}

static void test_containers(void)
{
    /* {'l': [1, 2, 3], 't': (), 's': {1}, 'f': frozenset({2}), 'd': {1: 2}} in every way */
    struct reading r = READ("}(\x8c\x01l](K\x01K\x02"
                            "eK\x03"
                            "a\x8c\x01t)\x8c\x01s\x8f(K\x01\x90\x8c\x01"
                            "f(K\x02\x91\x8c\x01"
                            "d(K\x01K\x02"
                            "du\x8c\x01m(K\x01ls\x8c\x01"
                            "1K\x01\x85s\x8c\x01"
                            "2K\x01K\x02\x86s\x8c\x01"
                            "3K\x01K\x02K\x03\x87s.");
    if (CHECK_F(r.rc == UZ_OK, "%s", r.err.message)) {
        CHECK_EQ_U64(r.root->u.dict.n, 9);
        const struct uz_node *list = uz_node_get(r.root, "l"), *set = uz_node_get(r.root, "s");
        CHECK(list && list->kind == UZ_NODE_LIST && list->u.seq.n == 3);
        int64_t value = 0;
        CHECK(list && uz_node_int(list->u.seq.items[2], &value) && value == 3);
        CHECK(uz_node_get(r.root, "t")->kind == UZ_NODE_TUPLE);
        CHECK(set && set->kind == UZ_NODE_SET && uz_node_seq(set)->n == 1);
        CHECK(uz_node_list(set) == NULL);
        CHECK(uz_node_get(r.root, "f")->kind == UZ_NODE_FROZENSET);
        CHECK(uz_node_int(uz_node_get_int(uz_node_get(r.root, "d"), 1), &value) && value == 2);
        CHECK_EQ_U64(uz_node_list(uz_node_get(r.root, "m"))->n, 1);
        CHECK_EQ_U64(uz_node_list(uz_node_get(r.root, "1"))->n, 1);
        CHECK_EQ_U64(uz_node_list(uz_node_get(r.root, "2"))->n, 2);
        CHECK_EQ_U64(uz_node_list(uz_node_get(r.root, "3"))->n, 3);
    }
    done(&r);
}

/* d = {}; x = (d, d); d['a'] = 1: torch.save memoizes a dict before it fills it. */
static void test_memo_aliases(void)
{
    struct reading r = READ("(}q\x00\x8c\x01"
                            "aK\x01sh\x00j\x00\x00\x00\x00g0\nt.");
    if (CHECK_F(r.rc == UZ_OK, "%s", r.err.message)) {
        const struct uz_seq *seq = uz_node_list(r.root);
        CHECK_EQ_U64(seq->n, 4);
        CHECK(seq->items[0] == seq->items[1] && seq->items[1] == seq->items[2] &&
              seq->items[2] == seq->items[3]);
        CHECK(uz_node_get(seq->items[1], "a") != NULL);
    }
    done(&r);
    /* The same with MEMOIZE, where the second reference is taken while the dict is empty. */
    r = READ("(}\x94h\x00h\x00\x8c\x01"
             "aK\x01st.");
    if (CHECK_F(r.rc == UZ_OK, "%s", r.err.message))
        CHECK(uz_node_get(uz_node_list(r.root)->items[0], "a") != NULL);
    done(&r);
    /* x = []; x.append(x) */
    r = READ("]q\x00h\x00"
             "a.");
    if (CHECK_F(r.rc == UZ_OK, "%s", r.err.message))
        CHECK(r.root->u.seq.items[0] == r.root);
    done(&r);
}

static void test_stack_opcodes(void)
{
    struct reading r = READ("(K\x01K\x02"
                            "0K\x03"
                            "2(K\x09K\x09"
                            "1(0t."); /* (1, 3, 3) */
    if (CHECK_F(r.rc == UZ_OK, "%s", r.err.message)) {
        CHECK_EQ_U64(uz_node_list(r.root)->n, 3);
        CHECK(uz_node_list(r.root)->items[1] == uz_node_list(r.root)->items[2]);
    }
    done(&r);
}

static void test_objects(void)
{
    struct reading r = READ("("
                            "ccollections\nOrderedDict\n)R\x8c\x01"
                            "aK\x01s"                      /* 0: OrderedDict(a=1) */
                            "cmod\nEnum\nK\x02\x85R"       /* 1: Enum(2) */
                            "\x8c\x01m\x8c\x01n\x93)\x81}" /* 2: n.__new__(n), */
                            "\x8c\x01sK\x05sb"             /*    state {'s': 5} */
                            "cm\nk\n)}\x92"                /* 3: NEWOBJ_EX */
                            "(K\x01im\nold\n"              /* 4: INST */
                            "(cm\nold\nK\x01K\x02o"        /* 5: OBJ */
                            "cm\nlist\n)R(K\x01K\x02"      /* 6: an object with items */
                            "e\x8c\x02idQ"                 /* 7: a persistent id */
                            "t.");
    if (CHECK_F(r.rc == UZ_OK, "%s", r.err.message)) {
        const struct uz_seq *seq = uz_node_list(r.root);
        int64_t value = 0;
        CHECK_EQ_U64(seq->n, 8);
        CHECK(uz_node_int(uz_node_get(seq->items[0], "a"), &value) && value == 1);
        CHECK(uz_node_int(seq->items[1], &value) && value == 2);
        CHECK(uz_node_is_object(seq->items[2], "m", "n"));
        CHECK(seq->items[2]->u.object->make == UZ_MAKE_NEWOBJ);
        CHECK(uz_node_get(seq->items[2], "s") == NULL); /* not a dict: its state is */
        CHECK(uz_node_get(seq->items[2]->u.object->state, "s") != NULL);
        CHECK(seq->items[3]->u.object->make == UZ_MAKE_NEWOBJ_EX);
        CHECK(seq->items[3]->u.object->kwargs->kind == UZ_NODE_DICT);
        CHECK(uz_node_is_object(seq->items[4], "m", "old"));
        CHECK_EQ_U64(uz_node_list(seq->items[4]->u.object->args)->n, 1);
        CHECK_EQ_U64(uz_node_list(seq->items[5]->u.object->args)->n, 2);
        CHECK_EQ_U64(seq->items[6]->u.object->list.n, 2);
        CHECK(seq->items[7]->kind == UZ_NODE_PERSID);
        CHECK(uz_node_is_str(seq->items[7]->u.persid, "id"));
    }
    done(&r);
}

static void test_protocols(void)
{
    /* A frame that holds the value, and one that is empty. */
    struct reading r = READ("\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x01"
                            "\x95\x00\x00\x00\x00\x00\x00\x00\x00.");
    CHECK_F(r.rc == UZ_OK, "%s", r.err.message);
    done(&r);
    r = READ("\x80\x05N.");
    CHECK_F(r.rc == UZ_OK, "%s", r.err.message);
    done(&r);
}

static const struct {
    const char *bytes;
    size_t nbytes;
    int status;
    const char *part;  /* of the message */
    uint64_t position; /* in the stream */
} failures[] = {
    {BYTES(""), UZ_CORRUPT, "without a STOP", 0},
    {BYTES("K\x01"), UZ_CORRUPT, "without a STOP", 2},
    {BYTES("."), UZ_CORRUPT, "STOP: 0 values", 0},
    {BYTES("NN."), UZ_CORRUPT, "STOP: 2 values", 2},
    {BYTES("(N."), UZ_CORRUPT, "1 marks", 2},
    {BYTES("N\xf7."), UZ_CORRUPT, "byte 0xf7 is no pickle opcode", 1},
    {BYTES("0."), UZ_CORRUPT, "POP: the stack holds too few", 0},
    {BYTES("N(0\x85t."), UZ_CORRUPT, "TUPLE: no mark", 4},
    {BYTES("N(a."), UZ_CORRUPT, "APPEND", 2}, /* below the mark */
    {BYTES("N(\x86."), UZ_CORRUPT, "TUPLE2", 2},
    {BYTES("1."), UZ_CORRUPT, "POP_MARK: no mark", 0},
    {BYTES("2."), UZ_CORRUPT, "DUP", 0},
    {BYTES("Nh\x01."), UZ_CORRUPT, "BINGET: memo entry 1", 1},
    {BYTES("q\x01."), UZ_CORRUPT, "BINPUT", 0},
    {BYTES("Nr\xff\xff\xff\xff."), UZ_LIMIT, "memo index 4294967295", 1},
    {BYTES("Nr\x01\x04\x00\x00."), UZ_LIMIT, "after only 0 entries", 1},
    {BYTES("Np99999999999999999999\n."), UZ_CORRUPT, "memo index", 1},
    {BYTES("Np-1\n."), UZ_CORRUPT, "memo index", 1},
    {BYTES("]NNs."), UZ_CORRUPT, "SETITEM: a list takes no keys", 3},
    {BYTES("}Na."), UZ_CORRUPT, "APPEND: a dict takes no items", 2},
    {BYTES("}(Nu."), UZ_CORRUPT, "a key without a value", 3},
    {BYTES("](N\x90."), UZ_CORRUPT, "ADDITEMS: a list takes no items", 3},
    {BYTES("N)R."), UZ_CORRUPT, "None stands where a class must", 2},
    {BYTES("cm\nn\n]R."), UZ_CORRUPT, "a list stands where a tuple", 6},
    {BYTES("cm\nn\n)N\x92."), UZ_CORRUPT, "None stands where a dict", 7},
    {BYTES("(o."), UZ_CORRUPT, "no class", 1},
    {BYTES("}}b."), UZ_CORRUPT, "BUILD: a dict takes no state", 2},
    {BYTES("NK\x01\x93."), UZ_CORRUPT, "STACK_GLOBAL", 3},
    {BYTES("\x8c\x02\xc3\x28."), UZ_CORRUPT, "not UTF-8", 0},
    {BYTES("c\xff\nn\n."), UZ_CORRUPT, "not UTF-8", 0},
    {BYTES("cm."), UZ_CORRUPT, "GLOBAL: a line of text has no end", 0},
    {BYTES("X\xff\xff\xff\xff."), UZ_CORRUPT, "4294967295 bytes are needed", 0},
    {BYTES("T\xff\xff\xff\xff."), UZ_CORRUPT, "negative length", 0},
    {BYTES("\x8e\xff\xff\xff\xff\xff\xff\xff\xff."), UZ_CORRUPT, "are needed", 0},
    {BYTES("\x8b\xff\xff\xff\xff."), UZ_CORRUPT, "negative length", 0},
    {BYTES("I\n."), UZ_CORRUPT, "no number", 0},
    {BYTES("I1x\n."), UZ_CORRUPT, "no number", 0},
    {BYTES("I-\n."), UZ_CORRUPT, "no number", 0},
    {BYTES("LL\n."), UZ_CORRUPT, "no number", 0},
    {BYTES("F1,5\n."), UZ_CORRUPT, "no number", 0},
    {BYTES("S'a\n."), UZ_CORRUPT, "quotes", 0},
    {BYTES("S'\n."), UZ_CORRUPT, "quotes", 0},
    {BYTES("S'\\'\n."), UZ_CORRUPT, "escape", 0},
    {BYTES("S'\\xg0'\n."), UZ_CORRUPT, "escape", 0},
    {BYTES("V\\u12\n."), UZ_CORRUPT, "escape", 0},
    {BYTES("V\\Uffffffff\n."), UZ_CORRUPT, "escape", 0},
    {BYTES("\x95\x09\x00\x00\x00\x00\x00\x00\x00N."), UZ_CORRUPT, "FRAME: a frame of 9", 0},
    {BYTES("\x95\x02\x00\x00\x00\x00\x00\x00\x00M\x01\x00."), UZ_CORRUPT, "crosses", 9},
    {BYTES("\x95\x0b\x00\x00\x00\x00\x00\x00\x00N\x95\x00\x00\x00\x00\x00\x00\x00\x00."),
     UZ_CORRUPT, "frame inside", 10},
    {BYTES("\x80\x06N."), UZ_UNSUPPORTED, "pickle protocol 6", 0},
    {BYTES("\x82\x01."), UZ_UNSUPPORTED, "EXT1", 0},
    {BYTES("\x83\x01\x00."), UZ_UNSUPPORTED, "EXT2", 0},
    {BYTES("\x84\x01\x00\x00\x00."), UZ_UNSUPPORTED, "EXT4", 0},
    {BYTES("\x97."), UZ_UNSUPPORTED, "NEXT_BUFFER", 0},
    {BYTES("N\x98."), UZ_UNSUPPORTED, "READONLY_BUFFER", 1},
    {BYTES("Pid\n."), UZ_UNSUPPORTED, "PERSID", 0},
    {BYTES("L9223372036854775808L\n."), UZ_UNSUPPORTED, "64 bits", 0},
};

static void test_failures(void)
{
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        struct reading r = read_pickle(failures[i].bytes, failures[i].nbytes);
        CHECK_F(r.rc == failures[i].status, "case %zu: status %d", i, r.rc);
        CHECK_F(strstr(r.err.message, failures[i].part) != NULL, "case %zu: \"%s\"", i,
                r.err.message);
        CHECK_EQ_STR(r.err.file, "test.pkl");
        CHECK_F(r.err.offset >= 1000 + failures[i].position &&
                    r.err.offset <= 1000 + failures[i].nbytes,
                "case %zu: offset %llu", i, (unsigned long long)r.err.offset);
        done(&r);
    }
}

static void test_limits(void)
{
    static const char five[] = "(NNNNN"
                               "t.";
    struct uz_limits limits;
    uz_limits_default(&limits);
    limits.max_pickle_nodes = 5;
    struct reading r = read_limited(BYTES(five), &limits);
    CHECK_EQ_I64(r.rc, UZ_LIMIT);
    CHECK(strstr(r.err.message, "max_pickle_nodes") != NULL);
    done(&r);
    limits.max_pickle_nodes = 6;
    limits.max_pickle_stack = 4;
    r = read_limited(BYTES(five), &limits);
    CHECK_EQ_I64(r.rc, UZ_LIMIT);
    CHECK(strstr(r.err.message, "max_pickle_stack") != NULL);
    done(&r);
    r = read_limited(BYTES("((((((N."), &limits);
    CHECK_EQ_I64(r.rc, UZ_LIMIT);
    done(&r);
    limits.max_pickle_stack = 5;
    r = read_limited(BYTES(five), &limits);
    CHECK_EQ_I64(r.rc, UZ_OK);
    done(&r);
    limits.max_pickle_bytes = 7;
    r = read_limited(BYTES(five), &limits);
    CHECK_EQ_I64(r.rc, UZ_LIMIT);
    done(&r);
    limits.max_pickle_bytes = 8;
    limits.max_pickle_arena = 100;
    r = read_limited(BYTES(five), &limits);
    CHECK_EQ_I64(r.rc, UZ_LIMIT);
    CHECK_EQ_STR(r.err.file, "test.pkl");
    done(&r);
    uz_limits_default(&limits);
    limits.max_pickle_memo = 2;
    r = read_limited(BYTES("Nq\x01q\x02."), &limits);
    CHECK_EQ_I64(r.rc, UZ_LIMIT);
    CHECK(strstr(r.err.message, "max_pickle_memo") != NULL);
    done(&r);
}

/* Growing a container one by one must cost no more than a few times its size. */
static void test_growth(void)
{
    enum { N = 100000 };
    static char stream[2 + 3 * N];
    size_t n = 0;
    stream[n++] = ']';
    for (size_t i = 0; i < N; i++) {
        stream[n++] = 'N';
        stream[n++] = 'a';
    }
    stream[n++] = '.';
    struct reading r = read_pickle(stream, n);
    if (CHECK_F(r.rc == UZ_OK, "%s", r.err.message)) {
        CHECK_EQ_U64(r.root->u.seq.n, N);
        uint64_t nodes = (uint64_t)N * sizeof(struct uz_node);
        CHECK(uz_arena_used(r.arena) < nodes + (uint64_t)N * 4 * sizeof(void *) + 4096);
    }
    done(&r);
}

/* A stream with most opcodes, cut and damaged at every byte: it may fail, but with a reason. */
static void test_damage(void)
{
    static const char good[] = "\x80\x02}q\x00(X\x01\x00\x00\x00"
                               "aq\x01]q\x02(K\x01M\x01\x02J\x01\x02\x03\x04\x8a\x03\x01\x02\x03G"
                               "\x3f\xf0\x00\x00\x00\x00\x00\x00\x88\x89Ne\x8c\x01"
                               "bccollections\nOrderedDict\n)R(\x8c\x01xh\x02u\x8c\x01"
                               "c\x8f(K\x01K\x02\x90\x8c\x01"
                               "dcm\nn\n)\x81}\x8c\x01sK\x05sb\x8c\x01"
                               "e(\x8c\x07storageK\x01tQK\x01I5\nF1.5\nS'x'\nu.";
    const size_t nbytes = sizeof good - 1;
    char copy[sizeof good];
    struct reading r = READ(good);
    CHECK_F(r.rc == UZ_OK, "%s", r.err.message);
    done(&r);
    for (size_t i = 0; i < nbytes; i++) {
        r = read_pickle(good, i);
        CHECK_F(r.rc == UZ_CORRUPT && r.err.message[0], "cut at %zu: %d", i, r.rc);
        done(&r);
        for (unsigned value = 0; value < 256; value++) {
            memcpy(copy, good, nbytes);
            copy[i] = (char)value;
            r = read_pickle(copy, nbytes);
            if (r.rc != UZ_OK && (r.rc != r.err.status || !r.err.message[0]))
                CHECK_F(false, "byte %zu = %u: no reason", i, value);
            done(&r);
        }
    }
}

static void test_look_ups(void)
{
    char text[64], small[8];
    int64_t value = 7;
    uint64_t size = 7;

    CHECK(!uz_node_is_none(NULL) && !uz_node_is_str(NULL, "a"));
    CHECK(uz_node_get(NULL, "a") == NULL && uz_node_get_int(NULL, 1) == NULL);
    CHECK(uz_node_dict(NULL) == NULL && uz_node_seq(NULL) == NULL && uz_node_class(NULL) == NULL);
    CHECK(!uz_node_int(NULL, &value) && !uz_node_u64(NULL, &size));
    CHECK_EQ_STR(uz_node_describe(NULL, text, sizeof text), "nothing");
    /* {'a': 1, 'a': -2, 3: OrderedDict, 4: (x for x of class "m\x1b.n")} */
    struct reading r = READ("}(\x8c\x01"
                            "aK\x01\x8c\x01"
                            "aJ\xfe\xff\xff\xffK\x03"
                            "ccollections\nOrderedDict\nK\x04"
                            "cm\x1b\nn\n)Ru.");
    if (CHECK_F(r.rc == UZ_OK, "%s", r.err.message)) {
        CHECK(uz_node_int(uz_node_get(r.root, "a"), &value) && value == -2);
        CHECK(!uz_node_u64(uz_node_get(r.root, "a"), &size));
        CHECK(uz_node_get(r.root, "b") == NULL && uz_node_get_int(r.root, 5) == NULL);
        CHECK(uz_node_dict(uz_node_get_int(r.root, 3)) == NULL);
        CHECK_EQ_STR(uz_node_describe(uz_node_get_int(r.root, 3), text, sizeof text),
                     "collections.OrderedDict");
        CHECK_EQ_STR(uz_node_describe(uz_node_get_int(r.root, 4), text, sizeof text),
                     "an object of class m\\x1b.n");
        CHECK_EQ_STR(uz_node_describe(r.root, small, sizeof small), "a dict");
        CHECK_EQ_U64(r.root->offset, 1000);
        CHECK_EQ_U64(r.root->opcode, '}');
    }
    done(&r);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"integers", test_integers},
        {"other numbers", test_other_numbers},
        {"texts", test_texts},
        {"containers", test_containers},
        {"memo entries are references", test_memo_aliases},
        {"stack opcodes", test_stack_opcodes},
        {"objects", test_objects},
        {"protocols", test_protocols},
        {"failures", test_failures},
        {"limits", test_limits},
        {"growth", test_growth},
        {"damage", test_damage},
        {"look-ups", test_look_ups},
        CU_TEST_INFO_NULL,
    };
    return check_run("pickle", tests);
}
