/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a manifest, believing nothing. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "check/manifest.h"
#include "input/json_pull.h"
#include "torch/file.h"

struct reader {
    struct uz_manifest *m;
    const char *path;
    const struct uz_limits *limits;
    struct uz_json json;
};

#define fail(r, err, status, ...) uz_fail_at((err), (status), (r)->path, UZ_NO_OFFSET, __VA_ARGS__)

static bool key_is(const struct reader *r, const char *key)
{
    return !strcmp(r->json.text, key);
}

static int read_text(struct reader *r, const char **out, struct uz_error *err)
{
    UZ_TRY(uz_json_text(&r->json, err));
    if (memchr(r->json.text, '\0', r->json.text_nbytes))
        return fail(r, err, UZ_CORRUPT, "a text of the manifest holds a NUL character");
    return uz_arena_strndup(r->m->arena, r->json.text, r->json.text_nbytes, out, err);
}

static int read_digest(struct reader *r, char out[UZ_DIGEST_TEXT], struct uz_error *err)
{
    UZ_TRY(uz_json_text(&r->json, err));
    if (r->json.text_nbytes != UZ_DIGEST_TEXT - 1 ||
        strspn(r->json.text, "0123456789abcdef") != UZ_DIGEST_TEXT - 1)
        return fail(r, err, UZ_CORRUPT, "a digest of the manifest is not 32 hexadecimal digits");
    memcpy(out, r->json.text, UZ_DIGEST_TEXT);
    return UZ_OK;
}

static int read_dtype(struct reader *r, enum uz_dtype *dtype, struct uz_error *err)
{
    *dtype = memchr(r->json.text, '\0', r->json.text_nbytes) ? UZ_DTYPE_INVALID
                                                             : uz_dtype_parse(r->json.text);
    return *dtype == UZ_DTYPE_INVALID
               ? fail(r, err, UZ_UNSUPPORTED, "the manifest has an unknown dtype")
               : UZ_OK;
}

static int read_file(struct reader *r, struct uz_error *err)
{
    struct uz_manifest_file file = {0}, *slot;
    bool more;
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            break;
        if (key_is(r, "name"))
            UZ_TRY(read_text(r, &file.name, err));
        else if (key_is(r, "bytes"))
            UZ_TRY(uz_json_u64(&r->json, &file.nbytes, err));
        else if (key_is(r, "xxh3_128"))
            UZ_TRY(read_digest(r, file.text, err));
        else
            UZ_TRY(uz_json_skip(&r->json, err));
    }
    if (!file.name || !*file.text)
        return fail(r, err, UZ_CORRUPT, "a file of the manifest has no name or no digest");
    UZ_TRY(UZ_APPEND(r->m->files, r->m->n_files, r->m->cap_files, &slot, err));
    *slot = file;
    return UZ_OK;
}

static int read_digests(struct reader *r, struct uz_manifest_tensor *tensor, struct uz_error *err)
{
    bool more;
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            return UZ_OK;
        if (tensor->n_digests == UZ_MANIFEST_DTYPES)
            return fail(r, err, UZ_CORRUPT, "a tensor of the manifest has more than %d digests",
                        UZ_MANIFEST_DTYPES);
        struct uz_tensor_digest *digest = &tensor->digests[tensor->n_digests];
        UZ_TRY(read_dtype(r, &digest->dtype, err));
        UZ_TRY(read_digest(r, digest->text, err));
        tensor->n_digests++;
    }
}

static int read_shape(struct reader *r, uint64_t *shape, unsigned *ndim, struct uz_error *err)
{
    bool more;
    UZ_TRY(uz_json_open_list(&r->json, err));
    for (*ndim = 0;; (*ndim)++) {
        UZ_TRY(uz_json_next_item(&r->json, &more, err));
        if (!more)
            return UZ_OK;
        if (*ndim == UZ_MAX_NDIM)
            return fail(r, err, UZ_CORRUPT, "a shape of the manifest has more than %d sizes",
                        UZ_MAX_NDIM);
        UZ_TRY(uz_json_u64(&r->json, &shape[*ndim], err));
    }
}

/* true or false */
static int read_bool(struct reader *r, bool *value, struct uz_error *err)
{
    struct uz_cursor start = r->json.cur;
    UZ_TRY(uz_json_skip(&r->json, err));
    uint64_t n = r->json.cur.pos - start.pos;
    const uint8_t *text = start.data + start.pos;
    while (n > 0 && *text == ' ') {
        text++;
        n--;
    }
    *value = n == 4 && !memcmp(text, "true", 4);
    if (!*value && (n != 5 || memcmp(text, "false", 5) != 0))
        return fail(r, err, UZ_CORRUPT, "'state' of the manifest is neither true nor false");
    return UZ_OK;
}

static int read_tensor(struct reader *r, struct uz_error *err)
{
    struct uz_manifest_tensor tensor = {0};
    uint64_t shape[UZ_MAX_NDIM];
    bool more, has_shape = false;
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            break;
        if (key_is(r, "name")) {
            UZ_TRY(read_text(r, &tensor.name, err));
        } else if (key_is(r, "dtype")) {
            UZ_TRY(uz_json_text(&r->json, err));
            UZ_TRY(read_dtype(r, &tensor.dtype, err));
        } else if (key_is(r, "shape")) {
            UZ_TRY(read_shape(r, shape, &tensor.ndim, err));
            has_shape = true;
        } else if (key_is(r, "state")) {
            UZ_TRY(read_bool(r, &tensor.is_state, err));
        } else if (key_is(r, "xxh3_128")) {
            UZ_TRY(read_digests(r, &tensor, err));
        } else {
            UZ_TRY(uz_json_skip(&r->json, err));
        }
    }
    if (!tensor.name || !has_shape || !uz_manifest_digest(&tensor, tensor.dtype))
        return fail(r, err, UZ_CORRUPT,
                    "a tensor of the manifest lacks name, shape, dtype or the digest in it");
    if (r->m->n_tensors >= r->limits->max_tensors)
        return fail(r, err, UZ_LIMIT, "the manifest has more than %zu tensors", r->m->n_tensors);
    UZ_TRY(uz_error_in_file(
        err, uz_manifest_add_tensor(r->m, tensor.name, tensor.dtype, tensor.ndim, shape, err),
        r->path));
    struct uz_manifest_tensor *kept = &r->m->tensors[r->m->n_tensors - 1];
    kept->is_state = tensor.is_state;
    r->m->has_states |= tensor.is_state;
    kept->n_digests = tensor.n_digests;
    memcpy(kept->digests, tensor.digests, sizeof kept->digests);
    return UZ_OK;
}

static int read_alias(struct reader *r, struct uz_error *err)
{
    struct uz_manifest_alias alias = {0}, *slot;
    bool more;
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            break;
        if (key_is(r, "name"))
            UZ_TRY(read_text(r, &alias.name, err));
        else if (key_is(r, "of"))
            UZ_TRY(read_text(r, &alias.of, err));
        else
            UZ_TRY(uz_json_skip(&r->json, err));
    }
    if (!alias.name || !alias.of)
        return fail(r, err, UZ_CORRUPT, "an alias of the manifest lacks a name");
    UZ_TRY(UZ_APPEND(r->m->aliases, r->m->n_aliases, r->m->cap_aliases, &slot, err));
    *slot = alias;
    return UZ_OK;
}

static int read_list(struct reader *r, int (*read)(struct reader *r, struct uz_error *err),
                     struct uz_error *err)
{
    bool more;
    UZ_TRY(uz_json_open_list(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_item(&r->json, &more, err));
        if (!more)
            return UZ_OK;
        UZ_TRY(read(r, err));
    }
}

static int parse(struct reader *r, struct uz_error *err)
{
    bool more;
    uint64_t version = 0;
    const char *format = "";
    UZ_TRY(uz_json_open_object(&r->json, err));
    for (;;) {
        UZ_TRY(uz_json_next_key(&r->json, &more, err));
        if (!more)
            break;
        if (key_is(r, "format"))
            UZ_TRY(read_text(r, &format, err));
        else if (key_is(r, "version"))
            UZ_TRY(uz_json_u64(&r->json, &version, err));
        else if (key_is(r, "kind"))
            UZ_TRY(read_text(r, &r->m->kind, err));
        else if (key_is(r, "files"))
            UZ_TRY(read_list(r, read_file, err));
        else if (key_is(r, "tensors"))
            UZ_TRY(read_list(r, read_tensor, err));
        else if (key_is(r, "aliases"))
            UZ_TRY(read_list(r, read_alias, err));
        else
            UZ_TRY(uz_json_skip(&r->json, err));
    }
    UZ_TRY(uz_json_end(&r->json, err));
    if (strcmp(format, "unzero-manifest") != 0)
        return fail(r, err, UZ_FORMAT, "is no manifest of unzero");
    if (version != UZ_MANIFEST_VERSION)
        return fail(r, err, UZ_UNSUPPORTED, "is a manifest of version %llu, this program knows %d",
                    (unsigned long long)version, UZ_MANIFEST_VERSION);
    return UZ_OK;
}

enum { MAX_NBYTES = 1 << 30 };

int uz_manifest_load(struct uz_manifest *manifest, const char *path, const struct uz_limits *limits,
                     struct uz_error *err)
{
    struct reader r = {.m = manifest, .path = path, .limits = limits};
    char *text;
    size_t nbytes;
    UZ_TRY(uz_manifest_init(manifest, err));
    UZ_TRY(uz_read_file(path, MAX_NBYTES, &text, &nbytes, err));
    uz_json_init(&r.json, text, nbytes, path, 0);
    int rc = parse(&r, err);
    uz_json_free(&r.json);
    free(text);
    return rc;
}
