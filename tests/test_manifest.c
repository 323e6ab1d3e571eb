/* SPDX-License-Identifier: Apache-2.0 */
/* Digests: those of known bytes; of a checkpoint and of what was made of it; manifests that lie. */
#include <unzero/consolidate.h>
#include <unzero/verify.h>

#include "base/digest.h"
#include "check.h"
#include "fixtures.h"

/* ---- Digests ---- */

/* What xxhsum -H2 prints. */
static void test_known(void)
{
    static const struct {
        const char *bytes, *text;
    } known[] = {
        {"", "99aa06d3014798d86001c324468d497f"},
        {"abc", "06b05ab6733a618578af5f94892f3950"},
    };
    struct uz_digest *digest = uz_digest_new();
    char text[UZ_DIGEST_TEXT], again[UZ_DIGEST_TEXT];
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uz_digest_begin(digest);
        uz_digest_add(digest, known[i].bytes, strlen(known[i].bytes));
        uz_digest_text(digest, text);
        CHECK_F(!strcmp(text, known[i].text), "'%s': %s", known[i].bytes, text);
    }
    static unsigned char bytes[100000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * i >> 3);
    uz_digest_begin(digest);
    uz_digest_add(digest, bytes, sizeof bytes);
    uz_digest_text(digest, text);
    uz_digest_begin(digest);
    for (size_t at = 0, n; at < sizeof bytes; at += n) {
        n = sizeof bytes - at < 777 ? sizeof bytes - at : 777;
        uz_digest_add(digest, bytes + at, n);
    }
    uz_digest_text(digest, again);
    CHECK_F(!strcmp(text, again), "in parts: %s, at once: %s", again, text);
    uz_digest_free(digest);
}

/* ---- Checkpoints ---- */

static char manifest[PATH_NBYTES], out[PATH_NBYTES];

static struct uz_verification *verify(const char *path, enum uz_manifest_mode mode)
{
    struct uz_verify_options options;
    struct uz_verification *verification = NULL;
    struct uz_error err;
    uz_verify_options_default(&options);
    options.input.threads = 2;
    options.manifest_mode = mode;
    options.manifest = manifest;
    CHECK_F(uz_verify(&verification, path, &options, NULL, NULL, &err) == UZ_OK, "%s: %s", path,
            err.message);
    return verification;
}

static bool consolidate(const char *fixture, enum uz_format format, enum uz_precision precision)
{
    struct uz_consolidate_options options;
    struct uz_consolidation *job = NULL;
    struct uz_error err;
    uz_consolidate_options_default(&options);
    options.durability = UZ_DURABLE_NONE;
    options.input.threads = 1;
    options.max_shard_bytes = 1000;
    options.format = format;
    options.precision = precision;
    remove_tree(out);
    int rc = uz_consolidation_plan(&job, fixture, out, &options, &err);
    if (rc == UZ_OK)
        rc = uz_consolidation_run(job, NULL, NULL, &err);
    uz_consolidation_free(job);
    return CHECK_F(rc == UZ_OK, "%s: %s", fixture, err.message);
}

/* No finding of the manifest but notes; returns how many tensors are as it says. */
static uint64_t check_same(const char *path)
{
    struct uz_verification *verification = verify(path, UZ_MANIFEST_CHECK);
    if (!verification)
        return 0;
    const struct uz_verify_report *report = uz_verification_report(verification);
    for (size_t i = 0; i < report->n_findings; i++)
        CHECK_F(strncmp(report->findings[i].code, "UZV07", 5) != 0 ||
                    report->findings[i].severity == UZ_SEVERITY_NOTE,
                "%s: %s: %s: %s", path, report->findings[i].code,
                report->findings[i].tensor ? report->findings[i].tensor : "",
                report->findings[i].message);
    uint64_t n = report->n_manifest_tensors;
    uz_verification_free(verification);
    return n;
}

static void check_family(const char *fixture)
{
    struct uz_verification *verification = verify(fixture, UZ_MANIFEST_WRITE);
    if (!verification)
        return;
    uint64_t n = uz_verification_report(verification)->n_manifest_tensors;
    uz_verification_free(verification);
    CHECK(n > 0);
    CHECK_EQ_U64(check_same(fixture), n);
    if (consolidate(fixture, UZ_FORMAT_SAFETENSORS, UZ_PRECISION_FP32))
        CHECK(check_same(out) > 0);
    if (consolidate(fixture, UZ_FORMAT_PT, UZ_PRECISION_BF16))
        CHECK(check_same(out) > 0);
}

static void test_fixtures(void)
{
    each_fixture("good-*", check_family);
    each_fixture("uc-*", check_family);
}

/* A universal checkpoint has the states of the checkpoint it was made of. */
static void test_universal(void)
{
    char path[PATH_NBYTES];
    struct uz_verification *verification =
        verify(path_of(path, "%s/good-z2-bf16-w2-2groups-tiny", fixtures_dir), UZ_MANIFEST_WRITE);
    uint64_t n =
        verification ? uz_verification_report(verification)->n_manifest_tensors : UINT64_MAX;
    uz_verification_free(verification);
    CHECK_EQ_U64(check_same(path_of(path, "%s/uc-z2-bf16-w2-2groups-tiny", fixtures_dir)), n);
}

/* ---- One bit ---- */

/* Flips a bit of the file's end, where values are; the finding must name a tensor. */
static void flip_one(const char *path, const char *name)
{
    size_t nbytes = 0;
    char *data = slurp(path, &nbytes);
    bool told = false;
    if (!CHECK_F(data && nbytes > 8, "%s: cannot be read", path)) {
        free(data);
        return;
    }
    data[nbytes - 4] ^= 1;
    CHECK(write_file(path, data, nbytes));
    struct uz_verification *verification = verify(out, UZ_MANIFEST_CHECK);
    const struct uz_verify_report *report = uz_verification_report(verification);
    size_t n = 0;
    for (size_t i = 0; i < report->n_findings; i++) {
        const struct uz_finding *f = &report->findings[i];
        n += f->severity == UZ_SEVERITY_ERROR;
        told |= !strcmp(f->code, "UZV071") && f->tensor != NULL;
    }
    CHECK_F(told && n == 1, "%s: %zu errors", name, n);
    uz_verification_free(verification);
    data[nbytes - 4] ^= 1;
    CHECK(write_file(path, data, nbytes));
    free(data);
}

static void check_flips(const char *fixture)
{
    uz_verification_free(verify(fixture, UZ_MANIFEST_WRITE));
    if (!consolidate(fixture, UZ_FORMAT_SAFETENSORS, UZ_PRECISION_FP32))
        return;
    char pattern[PATH_NBYTES];
    glob_t found;
    if (!CHECK(glob(path_of(pattern, "%s/*.safetensors", out), 0, NULL, &found) == 0))
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        flip_one(found.gl_pathv[i], fixture);
    globfree(&found);
}

static void test_flips(void)
{
    each_fixture("good-z2-bf16-w2-2groups-tiny", check_flips);
    each_fixture("good-z3-bf16-w2-frozen-tied", check_flips);
}

/* ---- Manifests that are none ---- */

#define DIGEST "0123456789abcdef0123456789abcdef"
#define HEAD   "{\"format\": \"unzero-manifest\", \"version\": 1, "
#define TENSOR(name, shape, dtype)                                                                 \
    "{\"name\": \"" name "\", \"shape\": " shape ", \"dtype\": \"" dtype                           \
    "\", \"xxh3_128\": {\"fp32\": \"" DIGEST "\"}}"

static void test_bad_manifests(void)
{
    static const struct {
        const char *text;
        enum uz_status status;
    } bad[] = {
        {"", UZ_CORRUPT},
        {"[]", UZ_CORRUPT},
        {"{}", UZ_FORMAT},
        {"{\"format\": \"other\", \"version\": 1}", UZ_FORMAT},
        {"{\"format\": \"unzero-manifest\", \"version\": 2}", UZ_UNSUPPORTED},
        {HEAD "\"files\": [{\"name\": \"a\"}]}", UZ_CORRUPT},
        {HEAD "\"files\": [{\"name\": \"a\", \"xxh3_128\": \"0123\"}]}", UZ_CORRUPT},
        {HEAD "\"tensors\": [" TENSOR("a", "[1]", "fp33") "]}", UZ_UNSUPPORTED},
        {HEAD "\"tensors\": [" TENSOR("a", "[1]", "bf16") "]}", UZ_CORRUPT},
        {HEAD "\"tensors\": [" TENSOR("a", "[-1]", "fp32") "]}", UZ_CORRUPT},
        {HEAD "\"tensors\": [" TENSOR("a", "[1]", "fp32") "," TENSOR("a", "[1]", "fp32") "]}",
         UZ_CORRUPT},
        {HEAD "\"tensors\": [{\"name\": \"a\", \"state\": 1}]}", UZ_CORRUPT},
        {HEAD "\"aliases\": [{\"name\": \"a\"}]}", UZ_CORRUPT},
        {HEAD "\"aliases\": []} x", UZ_CORRUPT},
    };
    char path[PATH_NBYTES];
    struct uz_verify_options options;
    path_of(path, "%s/good-z2-bf16-w2-2groups-tiny", fixtures_dir);
    uz_verify_options_default(&options);
    options.manifest_mode = UZ_MANIFEST_CHECK;
    options.manifest = manifest;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct uz_verification *verification = NULL;
        struct uz_error err;
        CHECK(write_file(manifest, bad[i].text, strlen(bad[i].text)));
        int rc = uz_verify(&verification, path, &options, NULL, NULL, &err);
        CHECK_F(rc == (int)bad[i].status, "%s: %d: %s", bad[i].text, rc, err.message);
        CHECK_F(rc == UZ_OK || !strcmp(err.file, manifest), "%s: %s", bad[i].text, err.file);
        uz_verification_free(verification);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"digests of known bytes", test_known},
        {"a checkpoint and its children", test_fixtures},
        {"a universal checkpoint and its source", test_universal},
        {"one bit", test_flips},
        {"manifests that are none", test_bad_manifests},
        CU_TEST_INFO_NULL,
    };
    fixtures_find();
    scratch_make();
    path_of(manifest, "%s/manifest.json", scratch_dir);
    path_of(out, "%s/out", scratch_dir);
    return check_run("manifest", tests);
}
