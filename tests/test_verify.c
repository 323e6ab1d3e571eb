/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damages checkpoints in every way that suits them: each must be told by the level that promises
 * it, with the right code, about the right file; and sound checkpoints raise no alarm.
 *
 * usage: test_verify [--all | --table]; --all takes all fixtures instead of some, --table prints
 * the table of docs/verify.md.
 */
#include <glob.h>

#include <unzero/verify.h>

#include "check.h"
#include "verify_subject.h"

static bool take_all;
static glob_t fixtures;

static const char *const sample[] = {
    "good-z2-bf16-w2-2groups-tiny", "good-z3-bf16-w2-tiny",       "good-z1-fp16-w2-2groups-tied",
    "good-container-no-crc",        "good-z1-bf16-w3-roundrobin", "good-z2-bf16-w2-sgd",
    "good-z3-bf16-w2-frozen-tied",  "good-z0-bf16-w1-flat",       "good-z2-bf16-w2-moe",
    "good-z2-bf16-w2-muon",         "good-z0-bf16-pp2-dp2-tied",
};

static bool is_taken(const char *fixture)
{
    const char *name = strrchr(fixture, '/') + 1;
    for (size_t i = 0; i < sizeof sample / sizeof sample[0]; i++)
        if (!strcmp(name, sample[i]))
            return true;
    return take_all;
}

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

/* ---- Sound checkpoints ---- */

/* What a sound fixture may warn of: it was made with that. */
static bool is_expected(const char *fixture, const char *code)
{
    if (strstr(fixture, "roundrobin"))
        return !strcmp(code, "UZV041");
    if (strstr(fixture, "special"))
        return !strcmp(code, "UZV052") || !strcmp(code, "UZV053");
    return false;
}

static void check_sound(const char *fixture, bool data)
{
    struct uz_verification *verification = verify(fixture, data);
    if (!verification)
        return;
    const struct uz_verify_report *report = uz_verification_report(verification);
    for (size_t i = 0; i < report->n_findings; i++) {
        const struct uz_finding *f = &report->findings[i];
        CHECK_F(f->severity == UZ_SEVERITY_NOTE || is_expected(fixture, f->code),
                "%s%s: false alarm: %s %s: %s", fixture, data ? ", --data" : "", f->code,
                f->file ? f->file : "", f->message);
    }
    CHECK_F(report->n_files > 0, "%s: no files", fixture);
    CHECK_F(!data || report->n_values > 0, "%s: no values", fixture);
    uz_verification_free(verification);
}

static void test_sound(void)
{
    for (size_t i = 0; i < fixtures.gl_pathc; i++) {
        check_sound(fixtures.gl_pathv[i], false);
        check_sound(fixtures.gl_pathv[i], true);
    }
}

/* ---- Damage ---- */

static bool is_blamed(const struct subject *subject, const struct uz_finding *f)
{
    const char *name = f->file ? strrchr(f->file, '/') : NULL;
    bool any = true;
    for (size_t i = 0; i < SUBJECT_MAX_BLAMED; i++) {
        any &= !subject->blamed[i];
        if (name && subject->blamed[i] && !strcmp(name + 1, subject->blamed[i]))
            return true;
    }
    return any;
}

static void check_told(const struct subject *subject, const struct harm *harm, bool data)
{
    const char *codes = data ? harm->data : harm->quick;
    struct uz_verification *verification = verify(subject->root, data);
    char seen[512] = "";
    bool told = false;
    if (!verification)
        return;
    const struct uz_verify_report *report = uz_verification_report(verification);
    for (size_t i = 0; i < report->n_findings; i++) {
        const struct uz_finding *f = &report->findings[i];
        bool counts = f->severity != UZ_SEVERITY_NOTE && !is_expected(subject->fixture, f->code);
        size_t used = strlen(seen);
        if (counts && used + 128 < sizeof seen)
            (void)snprintf(seen + used, sizeof seen - used, " %s", f->code);
        told |= counts && strstr(codes, f->code) && is_blamed(subject, f);
    }
    if (*codes)
        CHECK_F(told, "%s%s: %s: %s must tell it of %s; there are:%s", subject->fixture,
                data ? ", --data" : "", harm->what, codes,
                subject->blamed[0] ? subject->blamed[0] : "some file", seen);
    else
        CHECK_F(!*seen, "%s%s: %s: nothing must be told; there are:%s", subject->fixture,
                data ? ", --data" : "", harm->what, seen);
    uz_verification_free(verification);
}

static size_t harm_all(struct subject *subject, size_t *times)
{
    size_t n = 0;
    for (size_t h = 0; h < n_harms; h++) {
        if (harms[h].apply(subject)) {
            check_told(subject, &harms[h], false);
            check_told(subject, &harms[h], true);
            times[h]++;
            n++;
        }
        subject_restore(subject);
    }
    return n;
}

/* Damage is aimed at parts of zip archives. */
static bool is_zipped(const char *fixture)
{
    return !strstr(fixture, "legacy") && !strstr(fixture, "zst");
}

static void harm_fixture(const char *fixture, size_t *times)
{
    char root[PATH_NBYTES];
    struct subject *subject = calloc(1, sizeof *subject);
    if (!subject)
        abort();
    if (CHECK_F(subject_open(subject, fixture, path_of(root, "%s/subject", scratch_dir)),
                "%s: cannot be read", fixture)) {
        size_t n = harm_all(subject, times);
        bool usual = subject->optim1 >= 0 && !strstr(fixture, "container");
        CHECK_F(n >= 30 || !usual, "%s: %zu kinds of damage, expected 30 or more", fixture, n);
    }
    subject_close(subject);
    free(subject);
}

static void test_harms(void)
{
    size_t *times = calloc(n_harms, sizeof *times);
    if (!times)
        abort();
    for (size_t i = 0; i < fixtures.gl_pathc; i++)
        if (is_taken(fixtures.gl_pathv[i]) && is_zipped(fixtures.gl_pathv[i]))
            harm_fixture(fixtures.gl_pathv[i], times);
    for (size_t h = 0; h < n_harms; h++)
        CHECK_F(times[h] > 0, "%s: suits no fixture", harms[h].what);
    free(times);
}

/* ---- The table of docs/verify.md ---- */

static const char table_begin[] = "<!-- damage table: test_verify --table -->\n";
static const char table_end[] = "<!-- end of the damage table -->\n";

static char *make_table(void)
{
    size_t cap = 256 * (n_harms + 4), used = 0;
    char *text = malloc(cap);
    if (!text)
        abort();
    used += (size_t)snprintf(text, cap, "| damage | quick | `--data` |\n|---|---|---|\n");
    for (size_t h = 0; h < n_harms; h++)
        used += (size_t)snprintf(text + used, cap - used, "| %s | %s | %s |\n", harms[h].what,
                                 *harms[h].quick ? harms[h].quick : "-",
                                 *harms[h].data ? harms[h].data : "-");
    return text;
}

static void test_table(void)
{
    char path[PATH_NBYTES];
    const char *srcdir = getenv("srcdir");
    char *page = slurp(path_of(path, "%s/docs/verify.md", srcdir ? srcdir : "."), NULL);
    char *table = make_table();
    if (CHECK_F(page != NULL, "%s cannot be read", path)) {
        char *begin = strstr(page, table_begin), *end = strstr(page, table_end);
        if (CHECK_F(begin && end, "%s has no table", path)) {
            *end = '\0';
            CHECK_F(!strcmp(begin + strlen(table_begin), table),
                    "the table of %s is not that of test_verify --table", path);
        }
    }
    free(page);
    free(table);
}

/* ---- The codes of docs/verify.md ---- */

static void test_codes(void)
{
    static const struct {
        const char *code, *name, *severity, *advice;
    } codes[] = {
#define UZ_FINDING(SYMBOL, code, name, severity, advice) {code, name, #severity, advice},
#include "check/findings.def"
#undef UZ_FINDING
    };
    static const char *const severities[][2] = {
        {"NOTE", "note"}, {"WARNING", "warning"}, {"ERROR", "error"}};
    char path[PATH_NBYTES], row[1024];
    const char *srcdir = getenv("srcdir");
    char *page = slurp(path_of(path, "%s/docs/verify.md", srcdir ? srcdir : "."), NULL);
    for (size_t i = 0; page && i < sizeof codes / sizeof codes[0]; i++) {
        const char *severity = "";
        for (size_t k = 0; k < 3; k++)
            if (!strcmp(codes[i].severity, severities[k][0]))
                severity = severities[k][1];
        (void)snprintf(row, sizeof row, "| %s | %s | %s | %s |\n", codes[i].code, codes[i].name,
                       severity, codes[i].advice);
        CHECK_F(strstr(page, row) != NULL, "%s lacks the row %s", path, row);
        for (size_t k = 0; k < i; k++)
            CHECK_F(strcmp(codes[k].code, codes[i].code), "%s is given twice", codes[i].code);
    }
    free(page);
}

int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"sound checkpoints raise no alarm", test_sound},
        {"damage is told", test_harms},
        {"the table in docs/verify.md", test_table},
        {"the codes in docs/verify.md", test_codes},
        CU_TEST_INFO_NULL,
    };
    char pattern[PATH_NBYTES];
    const char *srcdir = getenv("srcdir"), *folder = getenv("FIXTURES");
    take_all = argc > 1 && !strcmp(argv[1], "--all");
    if (argc > 1 && !strcmp(argv[1], "--table")) {
        char *table = make_table();
        fputs(table, stdout);
        free(table);
        return 0;
    }
    path_of(pattern, "%s/%s",
            folder   ? folder
            : srcdir ? srcdir
                     : ".",
            folder ? "*" : "fixtures/good-*");
    if (glob(pattern, 0, NULL, &fixtures) != 0) {
        (void)fprintf(stderr, "no fixtures: %s\n", pattern);
        return 99;
    }
    scratch_make();
    int code = check_run("verify", tests);
    globfree(&fixtures);
    return code;
}
