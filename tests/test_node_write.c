/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of writing graphs back: what is read again has the same contents, sharing and cycles. */
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "check.h"
#include "same_graph.h"
#include "scratch.h"
#include "torch/file.h"
#include "torch/node_write.h"
#include "torch/pickle.h"

static struct uz_limits limits;

/* One pickle in a graph, another one out of it. */
struct trip {
    struct uz_arena *arena;
    const struct uz_node *root, *again;
    struct uz_bytes bytes;
    struct uz_error err;
};

static int read_into(struct uz_arena *arena, const void *data, size_t nbytes,
                     const struct uz_node **root, struct uz_error *err)
{
    struct uz_cursor cur;
    uz_cursor_init(&cur, data, nbytes, "pickle", 0);
    return uz_pickle_read(&cur, &limits, arena, root, err);
}

/* Writes the graph below `root` and reads it; true if both are the same. Free with trip_end. */
static bool go(struct trip *trip, const struct uz_node *root)
{
    const struct uz_node_write_options options = {.limits = &limits};
    trip->root = root;
    if (!CHECK_EQ_I64(uz_pickle_write_node(&trip->bytes, root, &options, &trip->err), UZ_OK))
        return false;
    if (!CHECK_F(read_into(trip->arena, trip->bytes.data, trip->bytes.n, &trip->again,
                           &trip->err) == UZ_OK,
                 "%s", trip->err.message))
        return false;
    return CHECK(same_graph(trip->root, trip->again));
}

static void trip_start(struct trip *trip)
{
    *trip = (struct trip){.arena = uz_arena_new(limits.max_pickle_arena)};
    if (!trip->arena)
        abort();
}

static void trip_end(struct trip *trip)
{
    uz_arena_free(trip->arena);
    uz_bytes_free(&trip->bytes);
}

/* Reads a pickle and writes it back; `want` NULL: the same bytes must come. */
static void check_bytes(const char *what, const void *data, size_t nbytes, const void *want,
                        size_t want_nbytes)
{
    struct trip trip;
    const struct uz_node *root;
    trip_start(&trip);
    if (CHECK_F(read_into(trip.arena, data, nbytes, &root, &trip.err) == UZ_OK, "%s: %s", what,
                trip.err.message) &&
        CHECK_F(go(&trip, root), "%s", what)) {
        const void *bytes = want ? want : data;
        size_t n = want ? want_nbytes : nbytes;
        CHECK_F(trip.bytes.n == n && !memcmp(trip.bytes.data, bytes, n), "%s: other bytes", what);
    }
    trip_end(&trip);
}

#define SAME(what, text) check_bytes((what), (text), sizeof(text) - 1, NULL, 0)
#define BECOMES(what, text, want)                                                                  \
    check_bytes((what), (text), sizeof(text) - 1, (want), sizeof(want) - 1)

/* Streams as CPython's pickler writes them. */
static void test_same_bytes(void)
{
    SAME("numbers", "\x80\x02]q\0(K\0K\xffM\0\x01J\0\0\x01\0J\xff\xff\xff\xff\x8a\x05\0\0\0\x80\0"
                    "\x8a\x09\0\0\0\0\0\0\0\x80\0\x88\x89Ne.");
    SAME("floats", "\x80\x02]q\0(G\x7f\xf8\0\0\0\0\0\x01G\xff\xf0\0\0\0\0\0\0G\x80\0\0\0\0\0\0\0"
                   "G\0\0\0\0\0\0\0\x01"
                   "e.");
    SAME("a string twice", "\x80\x02]q\0(X\x01\0\0\0xq\x01h\x01X\x01\0\0\0xq\x02"
                           "e.");
    SAME("a lone surrogate", "\x80\x02X\x03\0\0\0\xed\xa0\x80q\0.");
    SAME("tuples", "\x80\x02(NK\x01\x85q\0NN\x86q\x01NNN\x87q\x02)tq\x03.");
    SAME("a list in itself", "\x80\x02]q\0h\0a.");
    SAME("a dict in itself", "\x80\x02}q\0X\x01\0\0\0kq\x01h\0s.");
    SAME("a tuple in its list", "\x80\x02]q\0h\0\x85q\x01"
                                "a0h\x01.");
    SAME("four in their list", "\x80\x02(NNN]q\0(NNNh\0tq\x01"
                               "a1h\x01.");
    SAME("state, list and dict of an object",
         "\x80\x02"
         "cm\nC\nq\0)\x81q\x01(K\x01K\x02"
         "e(K\x01K\x02K\x03K\x04u}q\x02X\x01\0\0\0sq\x03h\x01sb.");
    SAME("an object in its arguments", "\x80\x02"
                                       "cm\nC\nq\0]q\x01h\0h\x01\x85q\x02Rq\x03"
                                       "a0h\x02R0h\x03.");
    SAME("bytes of protocol 2", "\x80\x02"
                                "c_codecs\nencode\nq\0X\x02\0\0\0\xc3\xbfq\x01X\x06\0\0\0latin1q"
                                "\x02\x86q\x03Rq\x04.");
    SAME("persistent ids", "\x80\x02]q\0(X\x01\0\0\0aq\x01Qh\x01Qe.");
    SAME("strings of Python 2", "\x80\x02]q\0(U\x02\xff\xfeq\x01U\x01"
                                "aq\x02h\x01"
                                "e.");
    SAME("an instance of an old class", "\x80\x02(cm\nC\nq\0K\x01K\x02oq\x01.");
}

/* Streams of other protocols: what has no opcode in protocol 2 keeps its own. */
static void test_other_protocols(void)
{
    BECOMES("bytes",
            "\x80\x03"
            "C\x02\xff\0q\0.",
            "\x80\x03"
            "C\x02\xff\0q\0.");
    BECOMES("sets", "\x80\x04\x8f\x94(K\x01K\x02\x90.", "\x80\x04\x8fq\0(K\x01K\x02\x90.");
    BECOMES("a frozenset", "\x80\x04(K\x01\x91\x94.", "\x80\x04(K\x01\x91q\0.");
    BECOMES("a frozenset in its list",
            "\x80\x04(]\x94(h\0\x91\x94"
            "a1h\x01.",
            "\x80\x04(]q\0(h\0\x91q\x01"
            "a1h\x01.");
    BECOMES("an empty set", "\x80\x04\x8f\x94.", "\x80\x04\x8fq\0.");
    BECOMES("a bytearray", "\x80\x05\x96\x01\0\0\0\0\0\0\0x\x94.",
            "\x80\x05\x96\x01\0\0\0\0\0\0\0xq\0.");
    BECOMES("keyword arguments",
            "\x80\x04\x8c\x01m\x94\x8c\x01"
            "C\x94\x93\x94)}\x94\x92\x94.",
            "\x80\x04"
            "cm\nC\nq\0)}q\x01\x92q\x02.");
    BECOMES("a name of two lines",
            "\x80\x04\x8c\x01m\x94\x8c\x02"
            "C\n\x94\x93\x94.",
            "\x80\x04X\x01\0\0\0mX\x02\0\0\0C\n\x93q\0.");
    BECOMES("a class of protocol 4 is not renamed as those of Python 2 are",
            "\x80\x04\x8c\x03"
            "dbm\x94\x8c\x01"
            "x\x94\x93\x94.",
            "\x80\x04"
            "cdbm\nx\nq\0.");
    BECOMES("protocol 0", "(lp0\nI1\naI01\naF1.5\naVab\np1\na(i__m\nC\np2\na.",
            "\x80\x02]q\0(K\x01\x88G?\xf8\0\0\0\0\0\0X\x02\0\0\0"
            "abq\x01(c__m\nC\nq\x02oq\x03"
            "e.");
}

/* Lists, dicts and sets of sizes around a batch. */
static void test_batches(void)
{
    static const size_t sizes[] = {0, 1, 2, 999, 1000, 1001, 1002, 2000, 2001};
    for (size_t i = 0; i < 3 * sizeof sizes / sizeof sizes[0]; i++) {
        struct trip trip;
        const struct uz_node one = {.kind = UZ_NODE_INT, .u.integer = 1};
        size_t n = sizes[i / 3];
        struct uz_node node = {.kind = UZ_NODE_LIST};
        trip_start(&trip);
        const struct uz_node **items = calloc(n + 1, sizeof *items);
        struct uz_pair *pairs = calloc(n + 1, sizeof *pairs);
        if (!items || !pairs)
            abort();
        for (size_t k = 0; k < n; k++) {
            items[k] = &one;
            pairs[k] = (struct uz_pair){&one, &one};
        }
        if (i % 3 == 0) {
            node.kind = UZ_NODE_DICT;
            node.u.dict = (struct uz_dict){pairs, n, n};
        } else {
            node.kind = i % 3 == 1 ? UZ_NODE_LIST : UZ_NODE_SET;
            node.u.seq = (struct uz_seq){items, n, n};
        }
        CHECK_F(go(&trip, &node), "%zu of kind %d", n, (int)node.kind);
        trip_end(&trip);
        free(items);
        free(pairs);
    }
}

/* Far deeper than any call stack would go. */
static void test_depth(void)
{
    enum { DEPTH = 300000 };
    struct uz_node *nodes = calloc(DEPTH, sizeof *nodes);
    const struct uz_node **items = calloc(DEPTH, sizeof *items);
    struct trip trip;
    struct uz_limits shallow = limits;
    const struct uz_node_write_options options = {.limits = &shallow};
    if (!nodes || !items)
        abort();
    for (size_t i = 0; i < DEPTH; i++) {
        items[i] = i ? &nodes[i - 1] : NULL;
        nodes[i].kind = i % 2 ? UZ_NODE_LIST : UZ_NODE_TUPLE;
        nodes[i].u.seq = (struct uz_seq){&items[i], i > 0, 1};
    }
    trip_start(&trip);
    go(&trip, &nodes[DEPTH - 1]);
    trip_end(&trip);
    shallow.max_pickle_stack = DEPTH - 1;
    CHECK_EQ_I64(uz_pickle_write_node(&trip.bytes, &nodes[DEPTH - 1], &options, &trip.err),
                 UZ_LIMIT);
    shallow = limits;
    shallow.max_pickle_bytes = 1000;
    CHECK_EQ_I64(uz_pickle_write_node(&trip.bytes, &nodes[DEPTH - 1], &options, &trip.err),
                 UZ_LIMIT);
    uz_bytes_free(&trip.bytes);
    /* no pickle can hold a tuple in itself; nothing may run for ever */
    items[0] = &nodes[0];
    nodes[0].u.seq.n = 1;
    CHECK_EQ_I64(uz_pickle_write_node(&trip.bytes, &nodes[0], &options, &trip.err), UZ_LIMIT);
    uz_bytes_free(&trip.bytes);
    free(nodes);
    free(items);
}

static const struct uz_node *renumber(void *cookie, const struct uz_node *node)
{
    static const struct uz_node nine = {.kind = UZ_NODE_STR, .u.text = {"9", 1}};
    (*(unsigned *)cookie)++;
    return uz_node_is_str(node, "0") ? &nine : node;
}

static void test_replace(void)
{
    static const char pickle[] = "\x80\x02(X\x01\0\0\0"
                                 "0q\0X\x01\0\0\0"
                                 "1q\1h\0Ntq\2.";
    static const char want[] = "\x80\x02(X\x01\0\0\0"
                               "9q\0X\x01\0\0\0"
                               "1q\1h\0Ntq\2.";
    unsigned n_calls = 0;
    struct trip trip;
    const struct uz_node *root;
    const struct uz_node_write_options options = {&limits, renumber, &n_calls};
    trip_start(&trip);
    CHECK_EQ_I64(read_into(trip.arena, pickle, sizeof pickle - 1, &root, &trip.err), UZ_OK);
    CHECK_EQ_I64(uz_pickle_write_node(&trip.bytes, root, &options, &trip.err), UZ_OK);
    CHECK_EQ_U64(trip.bytes.n, sizeof want - 1);
    CHECK(!memcmp(trip.bytes.data, want, sizeof want - 1));
    CHECK_EQ_U64(n_calls, 5);
    trip_end(&trip);
}

/* ---- The pickles of all checkpoints ---- */

/* The pickle of an archive, to be freed; NULL if there is none. */
static char *archived_pickle(const char *path, size_t *nbytes)
{
    char *data = NULL;
    zip_stat_t st;
    zip_t *zip = zip_open(path, ZIP_RDONLY, NULL);
    for (zip_int64_t i = 0; zip && !data && i < zip_get_num_entries(zip, 0); i++) {
        const char *name = zip_get_name(zip, (zip_uint64_t)i, 0);
        const char *slash = name ? strchr(name, '/') : NULL;
        if (!slash || strcmp(slash, "/data.pkl") || zip_stat_index(zip, (zip_uint64_t)i, 0, &st))
            continue;
        zip_file_t *entry = zip_fopen_index(zip, (zip_uint64_t)i, 0);
        data = malloc(st.size + 1);
        if (!entry || !data || zip_fread(entry, data, st.size) != (zip_int64_t)st.size)
            abort();
        *nbytes = st.size;
        zip_fclose(entry);
    }
    zip_discard(zip);
    return data;
}

/* True if the same bytes come out, or the container is the old one. */
static bool rewrite_file(const char *path, struct uz_torch_file *file)
{
    struct trip trip;
    size_t nbytes = 0;
    char *original = archived_pickle(path, &nbytes);
    trip_start(&trip);
    CHECK_F(go(&trip, uz_torch_root(file)), "%s", path);
    bool same = !original || (trip.bytes.n == nbytes && !memcmp(trip.bytes.data, original, nbytes));
    trip_end(&trip);
    free(original);
    return same;
}

static void test_fixtures(void)
{
    const char *dir = getenv("UNZERO_FIXTURES"), *srcdir = getenv("srcdir");
    char pattern[PATH_NBYTES];
    size_t n = 0, n_same = 0;
    glob_t found;
    if (dir)
        path_of(pattern, "%s/*/*/*.pt", dir);
    else
        path_of(pattern, "%s/fixtures/*/*/*.pt", srcdir ? srcdir : ".");
    int rc = glob(pattern, 0, NULL, &found);
    for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++) {
        struct uz_torch_file *file;
        if (uz_torch_open(&file, found.gl_pathv[i], &limits, NULL) < 0)
            continue; /* damaged on purpose */
        n++;
        bool same = rewrite_file(found.gl_pathv[i], file);
        n_same += same;
        /* folders of generators that made pickles by hand or in another way */
        bool by_hand = strstr(found.gl_pathv[i], "-pickle-") || strstr(found.gl_pathv[i], "/bad-");
        CHECK_F(same || by_hand, "%s: other bytes", found.gl_pathv[i]);
        uz_torch_close(file);
    }
    CHECK(n > 100);
    printf("%zu pickles, %zu to the byte ", n, n_same);
    globfree(&found);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"what CPython wrote comes back to the byte", test_same_bytes},
        {"other protocols", test_other_protocols},
        {"batches", test_batches},
        {"depth without recursion, and limits", test_depth},
        {"nodes in the place of others", test_replace},
        {"pickles of all fixtures", test_fixtures},
        CU_TEST_INFO_NULL,
    };
    uz_limits_default(&limits);
    return check_run("node_write", tests);
}
