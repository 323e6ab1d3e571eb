/* SPDX-License-Identifier: Apache-2.0 */
/* The summary of an inspection as JSON: docs/json.md describes it. */
#include "cli/inspect_report.h"
#include "cli/json.h"

/* A count of 0 that means "unknown" is null. */
static void put_known(struct json *b, cJSON *to, const char *key, uint64_t n)
{
    if (n > 0)
        json_put_number(b, to, key, n);
    else
        json_put_text(b, to, key, NULL);
}

static void put_signed(struct json *b, cJSON *to, const char *key, bool known, int64_t n)
{
    if (!known)
        json_put_text(b, to, key, NULL);
    else
        json_put(b, to, key, cJSON_CreateNumber((double)n));
}

static cJSON *make_world(struct json *b, const struct uz_inspect_summary *s)
{
    cJSON *world = cJSON_CreateObject();
    put_known(b, world, "dp", s->dp);
    put_known(b, world, "tp", s->tp);
    put_known(b, world, "pp", s->pp);
    put_known(b, world, "ep", s->ep);
    return world;
}

static cJSON *make_groups(struct json *b, const struct uz_inspect_summary *s)
{
    cJSON *groups = cJSON_CreateArray();
    for (size_t g = 0; g < s->n_groups; g++) {
        cJSON *group = cJSON_CreateObject();
        for (size_t i = 0; i < s->groups[g].n_values; i++)
            json_put(b, group, s->groups[g].values[i].name,
                     cJSON_CreateRaw(s->groups[g].values[i].json));
        json_put(b, groups, NULL, group);
    }
    return groups;
}

static void put_count(struct json *b, cJSON *to, const char *key,
                      const struct uz_tensor_count *count)
{
    cJSON *item = cJSON_CreateObject();
    json_put_number(b, item, "tensors", count->n_tensors);
    json_put_number(b, item, "elements", count->n_elems);
    json_put(b, to, key, item);
}

static cJSON *make_contents(struct json *b, const struct uz_inspect_summary *s)
{
    cJSON *contents = cJSON_CreateArray();
    for (size_t i = 0; i < s->n_contents; i++) {
        const struct uz_stored *c = &s->contents[i];
        cJSON *item = cJSON_CreateObject();
        json_put_text(b, item, "kind", uz_stored_kind_name(c->kind));
        json_put_text(b, item, "state", c->state);
        json_put_text(b, item, "dtype", uz_dtype_name(c->dtype));
        json_put_number(b, item, "tensors", c->n_tensors);
        json_put_number(b, item, "elements", c->n_elems);
        json_put_number(b, item, "bytes", c->nbytes);
        json_put(b, contents, NULL, item);
    }
    return contents;
}

static cJSON *make_classes(struct json *b, const struct uz_inspect_summary *s)
{
    cJSON *classes = cJSON_CreateArray();
    for (size_t i = 0; i < s->n_classes; i++) {
        cJSON *item = cJSON_CreateObject();
        json_put_text(b, item, "name", s->classes[i].name);
        json_put_text(b, item, "origin", uz_class_origin_name(s->classes[i].origin));
        json_put_number(b, item, "files", s->classes[i].n_files);
        json_put(b, classes, NULL, item);
    }
    return classes;
}

static cJSON *make_faults(struct json *b, const struct uz_inspect_summary *s)
{
    cJSON *faults = cJSON_CreateArray();
    for (size_t i = 0; i < s->n_faults; i++) {
        cJSON *item = cJSON_CreateObject();
        json_put_text(b, item, "file", s->faults[i].file);
        json_put_text(b, item, "message", s->faults[i].message);
        json_put(b, faults, NULL, item);
    }
    return faults;
}

static cJSON *make_tensor(struct json *b, const struct uz_inspect_tensor *tensor)
{
    cJSON *item = cJSON_CreateObject();
    json_put_text(b, item, "name", tensor->name);
    json_put_text(b, item, "kind", uz_stored_kind_name(tensor->kind));
    json_put_text(b, item, "dtype", tensor->dtype ? uz_dtype_name(tensor->dtype) : NULL);
    json_put_text(b, item, "lp_dtype", tensor->lp_dtype ? uz_dtype_name(tensor->lp_dtype) : NULL);
    json_put_shape(b, item, "shape", tensor->ndim, tensor->shape);
    json_put_number(b, item, "elements", tensor->n_elems);
    json_put_number(b, item, "bytes", tensor->nbytes);
    json_put_text(b, item, "tied_to", tensor->tied_to);
    json_put_text(b, item, "file", tensor->file);
    return item;
}

static cJSON *make_tensors(struct json *b, const struct uz_inspect_summary *s)
{
    cJSON *tensors = cJSON_CreateArray();
    for (size_t i = 0; i < s->n_tensors; i++)
        json_put(b, tensors, NULL, make_tensor(b, &s->tensors[i]));
    return tensors;
}

static cJSON *make_refusal(struct json *b, const struct uz_inspect_summary *s)
{
    if (!s->refusal)
        return cJSON_CreateNull();
    cJSON *refusal = cJSON_CreateObject();
    json_put_text(b, refusal, "status", uz_status_name(s->refusal_status));
    json_put_text(b, refusal, "message", s->refusal);
    return refusal;
}

static void put_head(struct json *b, cJSON *root, const struct uz_inspect_summary *s)
{
    json_put_text(b, root, "kind", uz_input_kind_name(s->kind));
    json_put_text(b, root, "tag", s->tag);
    put_signed(b, root, "zero_stage", s->zero_stage >= 0, s->zero_stage);
    json_put_text(b, root, "ds_version", s->ds_version);
    put_signed(b, root, "global_steps", s->has_steps, s->global_steps);
    put_signed(b, root, "skipped_steps", s->has_steps, s->skipped_steps);
    json_put(b, root, "world", make_world(b, s));
    json_put_text(b, root, "optimizer", s->optimizer);
    json_put(b, root, "param_groups", make_groups(b, s));
}

int inspect_json(const char *path, const struct uz_inspect_summary *s, bool tensors)
{
    struct json b = {0};
    cJSON *root = json_start(&b, "inspect");
    json_put_text(&b, root, "path", path);
    put_head(&b, root, s);
    put_count(&b, root, "trainable", &s->trainable);
    put_count(&b, root, "frozen", &s->frozen);
    put_count(&b, root, "buffers", &s->buffers);
    json_put_number(&b, root, "tied", s->n_tied);
    json_put_bool(&b, root, "joined", s->joined);
    json_put(&b, root, "stored", make_contents(&b, s));
    json_put_number(&b, root, "files", s->n_files);
    json_put_number(&b, root, "file_bytes", s->file_nbytes);
    if (s->has_padding)
        json_put_number(&b, root, "padding_bytes", s->padding_nbytes);
    else
        json_put_text(&b, root, "padding_bytes", NULL);
    json_put_number(&b, root, "dead_bytes", s->dead_nbytes);
    json_put_texts(&b, root, "client_state", s->client_keys, s->n_client_keys);
    json_put(&b, root, "classes", make_classes(&b, s));
    json_put(&b, root, "damaged", make_faults(&b, s));
    json_put(&b, root, "refusal", make_refusal(&b, s));
    json_put_texts(&b, root, "warnings", s->warnings, s->n_warnings);
    if (tensors)
        json_put(&b, root, "tensors", make_tensors(&b, s));
    return json_finish(&b, root);
}
