/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damages folders of weights and universal checkpoints; what is sound raises no alarm.
 *
 * usage: test_verify_trees [--table]; --table prints the second table of docs/verify.md.
 */
#include <unzero/consolidate.h>
#include <unzero/verify.h>

#include "check.h"
#include "fixtures.h"
#include "verify_tree.h"

static struct uz_verification *verify(const char *path, bool data)
{
    struct uz_verify_options options;
    struct uz_verification *verification = NULL;
    struct uz_error err;
    uz_verify_options_default(&options);
    options.data = data;
    options.input.threads = 2;
    CHECK_F(uz_verify(&verification, path, &options, NULL, NULL, &err) == UZ_OK, "%s: %s", path,
            err.message);
    return verification;
}

static bool consolidate(const char *fixture, const char *out, enum uz_format format,
                        uint64_t max_shard_bytes)
{
    struct uz_consolidate_options options;
    struct uz_consolidation *job = NULL;
    struct uz_error err;
    uz_consolidate_options_default(&options);
    options.durability = UZ_DURABLE_NONE;
    options.input.threads = 1;
    options.max_shard_bytes = max_shard_bytes;
    options.format = format;
    int rc = uz_consolidation_plan(&job, fixture, out, &options, &err);
    if (rc == UZ_OK)
        rc = uz_consolidation_run(job, NULL, NULL, &err);
    uz_consolidation_free(job);
    return CHECK_F(rc == UZ_OK, "%s: %s", fixture, err.message);
}

/* ---- Sound ones ---- */

static bool is_expected(const char *path, const char *code)
{
    return strstr(path, "special") && (!strcmp(code, "UZV052") || !strcmp(code, "UZV053"));
}

/* Values of one kind of input: all elements that the other kind has, too. */
static uint64_t check_sound(const char *name, const char *path, bool data)
{
    struct uz_verification *verification = verify(path, data);
    if (!verification)
        return 0;
    const struct uz_verify_report *report = uz_verification_report(verification);
    for (size_t i = 0; i < report->n_findings; i++) {
        const struct uz_finding *f = &report->findings[i];
        CHECK_F(f->severity == UZ_SEVERITY_NOTE || is_expected(name, f->code),
                "%s%s: false alarm: %s %s: %s", name, data ? ", --data" : "", f->code,
                f->file ? f->file : "", f->message);
    }
    CHECK_F(report->joined && report->fully_checked, "%s: not looked at in whole", name);
    CHECK(report->n_files > 0 && report->n_tensors > 0);
    uint64_t n = report->n_values;
    uz_verification_free(verification);
    return n;
}

static void check_outputs(const char *fixture)
{
    char path[PATH_NBYTES], only[PATH_NBYTES + 32];
    uint64_t n_values = 0;
    for (int format = 0; format < 2; format++) {
        bool torch = format == 1;
        const char *name = torch ? "pytorch_model.bin" : "model.safetensors";
        path_of(path, "%s/out", scratch_dir);
        for (int whole = 0; whole < 2; whole++) {
            uint64_t size = whole ? UINT64_C(1) << 40 : 100;
            remove_tree(path);
            if (!consolidate(fixture, path, torch ? UZ_FORMAT_PT : UZ_FORMAT_SAFETENSORS, size))
                return;
            check_sound(fixture, path, false);
            uint64_t n = check_sound(fixture, path, true);
            n_values = n_values ? n_values : n;
            CHECK_F(n > 0 && n == n_values, "%s: %llu values are looked at, not %llu", fixture,
                    (unsigned long long)n, (unsigned long long)n_values);
        }
        (void)snprintf(only, sizeof only, "%s/%s", path, name);
        CHECK_EQ_U64(check_sound(fixture, only, true), n_values);
    }
    remove_tree(path);
}

static void test_outputs(void)
{
    each_fixture("good-z2-bf16-w2-2groups-tiny", check_outputs);
    each_fixture("good-z1-fp16-w2-2groups-tied", check_outputs);
    each_fixture("good-z2-fp32-w3-frozen-special", check_outputs);
    each_fixture("good-z3-bf16-w2-frozen-tied", check_outputs);
    each_fixture("good-z2-bf16-w2-moe", check_outputs);
}

static void check_universal(const char *fixture)
{
    check_sound(fixture, fixture, false);
    CHECK(check_sound(fixture, fixture, true) > 0);
}

static void test_universal(void)
{
    each_fixture("uc-*", check_universal);
}

/* A file that holds no weights may be sound all the same. */
static void check_shard(const char *fixture)
{
    char pattern[PATH_NBYTES];
    glob_t found;
    if (!CHECK(glob(path_of(pattern, "%s/*/*_states.pt", fixture), 0, NULL, &found) == 0))
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct uz_verification *verification = verify(found.gl_pathv[i], true);
        const struct uz_verify_report *report =
            verification ? uz_verification_report(verification) : NULL;
        CHECK(report && report->n_findings == 0 && report->n_values > 0);
        CHECK(report && report->kind == UZ_INPUT_TORCH && report->n_checked_nbytes > 0);
        uz_verification_free(verification);
    }
    globfree(&found);
}

static void test_shards(void)
{
    each_fixture("good-z2-bf16-w2-2groups-tiny", check_shard);
}

/* ---- Damage ---- */

static bool is_blamed(const struct tree *tree, const struct uz_finding *f)
{
    size_t n = strlen(tree->blamed), length = f->file ? strlen(f->file) : 0;
    return n == 0 || (length >= n && !strcmp(f->file + length - n, tree->blamed));
}

static void check_told(const struct tree *tree, const struct tree_harm *harm, bool data)
{
    const char *code = data ? harm->data : harm->quick;
    struct uz_verification *verification = verify(tree->root, data);
    char seen[512] = "";
    bool told = false;
    if (!verification)
        return;
    const struct uz_verify_report *report = uz_verification_report(verification);
    for (size_t i = 0; i < report->n_findings; i++) {
        const struct uz_finding *f = &report->findings[i];
        size_t used = strlen(seen);
        if (f->severity == UZ_SEVERITY_NOTE)
            continue;
        if (used + 64 < sizeof seen)
            (void)snprintf(seen + used, sizeof seen - used, " %s", f->code);
        told |= !strcmp(code, f->code) && is_blamed(tree, f);
    }
    if (*code)
        CHECK_F(told, "kind %d%s: %s: %s must tell it of '%s'; there are:%s", (int)tree->kind,
                data ? ", --data" : "", harm->what, code, tree->blamed, seen);
    else
        CHECK_F(!*seen, "kind %d%s: %s: nothing must be told; there are:%s", (int)tree->kind,
                data ? ", --data" : "", harm->what, seen);
    uz_verification_free(verification);
}

static void harm_tree(const char *from, enum tree_kind kind)
{
    char root[PATH_NBYTES];
    struct tree *tree = calloc(1, sizeof *tree);
    if (!tree)
        abort();
    tree->kind = kind;
    if (CHECK_F(tree_open(tree, from, path_of(root, "%s/tree", scratch_dir)), "%s: cannot be read",
                from))
        for (size_t h = 0; h < n_tree_harms; h++) {
            const struct tree_harm *harm = &tree_harms[h];
            if (!(harm->kinds & (unsigned)kind))
                continue;
            if (CHECK_F(harm->apply(tree), "kind %d: %s: cannot be done", (int)kind, harm->what)) {
                check_told(tree, harm, false);
                check_told(tree, harm, true);
            }
            tree_restore(tree);
        }
    tree_close(tree);
    free(tree);
}

static void test_harms(void)
{
    char fixture[PATH_NBYTES], out[PATH_NBYTES];
    path_of(fixture, "%s/good-z2-bf16-w2-2groups-tiny", fixtures_dir);
    path_of(out, "%s/base", scratch_dir);
    if (consolidate(fixture, out, UZ_FORMAT_SAFETENSORS, 200))
        harm_tree(out, TREE_SAFETENSORS);
    remove_tree(out);
    if (consolidate(fixture, out, UZ_FORMAT_PT, 200))
        harm_tree(out, TREE_TORCH);
    remove_tree(out);
    harm_tree(path_of(fixture, "%s/uc-z2-bf16-w2-2groups-tiny", fixtures_dir), TREE_UNIVERSAL);
    harm_tree(path_of(fixture, "%s/uc-z3-bf16-w2-tiny", fixtures_dir), TREE_UNIVERSAL3);
}

/* ---- The table of docs/verify.md ---- */

static const char table_begin[] = "<!-- second damage table: test_verify_trees --table -->\n";
static const char table_end[] = "<!-- end of the second damage table -->\n";

static const char *kinds_text(unsigned kinds)
{
    switch (kinds) {
    case TREE_SAFETENSORS:
        return "safetensors";
    case TREE_TORCH:
        return "PyTorch";
    case TREE_SAFETENSORS | TREE_TORCH:
        return "weights";
    case TREE_UNIVERSAL:
    case TREE_UNIVERSAL | TREE_UNIVERSAL3:
        return "universal";
    case TREE_TORCH | TREE_UNIVERSAL | TREE_UNIVERSAL3:
        return "PyTorch, universal";
    default:
        return "all";
    }
}

static char *make_table(void)
{
    size_t cap = 256 * (n_tree_harms + 4), used = 0;
    char *text = malloc(cap);
    if (!text)
        abort();
    used += (size_t)snprintf(text, cap, "| damage | to | quick | `--data` |\n|---|---|---|---|\n");
    for (size_t h = 0; h < n_tree_harms; h++)
        used += (size_t)snprintf(text + used, cap - used, "| %s | %s | %s | %s |\n",
                                 tree_harms[h].what, kinds_text(tree_harms[h].kinds),
                                 *tree_harms[h].quick ? tree_harms[h].quick : "-",
                                 *tree_harms[h].data ? tree_harms[h].data : "-");
    return text;
}

static void test_table(void)
{
    char path[PATH_NBYTES];
    const char *srcdir = getenv("srcdir");
    char *page = slurp(path_of(path, "%s/docs/verify.md", srcdir ? srcdir : "."), NULL);
    char *table = make_table();
    char *begin = page ? strstr(page, table_begin) : NULL;
    char *end = page ? strstr(page, table_end) : NULL;
    if (CHECK_F(begin && end, "%s has no second table", path)) {
        *end = '\0';
        CHECK_F(!strcmp(begin + strlen(table_begin), table),
                "the second table of %s is not that of test_verify_trees --table", path);
    }
    free(page);
    free(table);
}

int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"outputs of consolidate are sound", test_outputs},
        {"universal checkpoints are sound", test_universal},
        {"a PyTorch file that holds no weights", test_shards},
        {"damage is told", test_harms},
        {"the second table in docs/verify.md", test_table},
        CU_TEST_INFO_NULL,
    };
    if (argc > 1 && !strcmp(argv[1], "--table")) {
        char *table = make_table();
        (void)fputs(table, stdout);
        free(table);
        return 0;
    }
    fixtures_find();
    scratch_make();
    return check_run("verify_trees", tests);
}
