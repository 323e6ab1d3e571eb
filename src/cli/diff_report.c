/* SPDX-License-Identifier: Apache-2.0 */
/* The result of a comparison, as text and as JSON. */
#include "cli/diff_report.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli/colour.h"
#include "cli/json.h"
#include "cli/text.h"

static void print_operand(char *buf, size_t size, const struct uz_diff_operand *operand)
{
    if (!operand->dtype) {
        (void)snprintf(buf, size, "-");
        return;
    }
    size_t used = (size_t)snprintf(buf, size, "%s [", uz_dtype_name(operand->dtype));
    for (unsigned i = 0; i < operand->ndim && used + 24 < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%" PRIu64, i ? "," : "",
                                 operand->shape[i]);
    (void)snprintf(buf + used, size - used, "]");
}

/* Where and by how much elements differ. */
static void print_values(const struct uz_diff_tensor *t)
{
    printf(": %" PRIu64 " of %" PRIu64 " elements", t->n_differ, t->n_elems);
    if (t->n_beyond > 0 && t->n_beyond < t->n_differ)
        printf(", %" PRIu64 " beyond the tolerance", t->n_beyond);
    printf("; max abs %.6g, rel %.3g", t->max_abs, t->max_rel);
    if (t->has_ulp)
        printf(", %" PRIu64 " ulp", t->max_ulp);
    if (t->n_nan > 0)
        printf("; %" PRIu64 " with NaN", t->n_nan);
    printf("; first at %" PRIu64 ": %.9g, %.9g\n", t->first, t->first_a, t->first_b);
}

static void print_tensor(const struct uz_diff_tensor *t)
{
    char a[200], b[200];
    print_operand(a, sizeof a, &t->a);
    print_operand(b, sizeof b, &t->b);
    printf("%s%-8s%s ", colour_on(t->passes ? COLOUR_GREEN : COLOUR_RED),
           uz_diff_verdict_name(t->verdict), colour_off());
    text_print(stdout, t->name);
    if (t->n_differ > 0)
        print_values(t);
    else
        printf(": %s | %s\n", a, b);
}

static void print_count(uint64_t n, const char *what)
{
    if (n > 0)
        printf(", %" PRIu64 " %s", n, what);
}

void diff_text(const struct uz_diff_result *result, bool all, bool sum)
{
    for (size_t i = 0; i < result->n_tensors; i++)
        if (all || result->tensors[i].verdict != UZ_DIFF_EQUAL)
            print_tensor(&result->tensors[i]);
    if (!sum)
        return;
    printf("%s%s%s: %" PRIu64 " equal", colour_on(COLOUR_BOLD), result->same ? "same" : "different",
           colour_off(), result->n_equal);
    print_count(result->n_close, "close");
    print_count(result->n_rounded, "equal after rounding");
    print_count(result->n_differ, "different");
    print_count(result->n_only_a, "only in A");
    print_count(result->n_only_b, "only in B");
    printf("; %" PRIu64 " elements compared\n", result->n_elems);
}

static cJSON *make_operand(struct json *b, const struct uz_diff_operand *operand)
{
    if (!operand->dtype)
        return cJSON_CreateNull();
    cJSON *item = cJSON_CreateObject();
    json_put_text(b, item, "dtype", uz_dtype_name(operand->dtype));
    json_put_shape(b, item, "shape", operand->ndim, operand->shape);
    return item;
}

static cJSON *make_first(struct json *b, const struct uz_diff_tensor *t)
{
    if (t->n_differ == 0)
        return cJSON_CreateNull();
    cJSON *first = cJSON_CreateObject();
    json_put_number(b, first, "index", t->first);
    json_put_real(b, first, "a", t->first_a, -1);
    json_put_real(b, first, "b", t->first_b, -1);
    return first;
}

static cJSON *make_tensor(struct json *b, const struct uz_diff_tensor *t)
{
    cJSON *item = cJSON_CreateObject();
    json_put_text(b, item, "name", t->name);
    json_put_text(b, item, "verdict", uz_diff_verdict_name(t->verdict));
    json_put_bool(b, item, "passes", t->passes);
    json_put(b, item, "a", make_operand(b, &t->a));
    json_put(b, item, "b", make_operand(b, &t->b));
    json_put_number(b, item, "elements", t->n_elems);
    json_put_number(b, item, "differ", t->n_differ);
    json_put_number(b, item, "beyond", t->n_beyond);
    json_put_number(b, item, "nan", t->n_nan);
    json_put_real(b, item, "max_abs", t->max_abs, -1);
    json_put_real(b, item, "max_rel", t->max_rel, -1);
    if (t->has_ulp)
        json_put_number(b, item, "max_ulp", t->max_ulp);
    else
        json_put_text(b, item, "max_ulp", NULL);
    json_put(b, item, "first", make_first(b, t));
    return item;
}

int diff_json(const char *a, const char *b_path, const struct uz_diff_result *result, bool all)
{
    struct json b = {0};
    cJSON *root = json_start(&b, "diff"), *tensors = cJSON_CreateArray();
    json_put_text(&b, root, "a", a);
    json_put_text(&b, root, "b", b_path);
    json_put_text(&b, root, "kind_a", uz_input_kind_name(result->kind_a));
    json_put_text(&b, root, "kind_b", uz_input_kind_name(result->kind_b));
    json_put_bool(&b, root, "same", result->same);
    json_put_number(&b, root, "equal", result->n_equal);
    json_put_number(&b, root, "close", result->n_close);
    json_put_number(&b, root, "rounded", result->n_rounded);
    json_put_number(&b, root, "different", result->n_differ);
    json_put_number(&b, root, "only_a", result->n_only_a);
    json_put_number(&b, root, "only_b", result->n_only_b);
    json_put_number(&b, root, "tied", result->n_tied);
    json_put_number(&b, root, "elements", result->n_elems);
    for (size_t i = 0; i < result->n_tensors; i++)
        if (all || result->tensors[i].verdict != UZ_DIFF_EQUAL)
            json_put(&b, tensors, NULL, make_tensor(&b, &result->tensors[i]));
    json_put(&b, root, "tensors", tensors);
    json_put_texts(&b, root, "warnings", result->warnings, result->n_warnings);
    return json_finish(&b, root);
}
