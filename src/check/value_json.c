/* SPDX-License-Identifier: Apache-2.0 */
/* Scalars and short lists as JSON. */
#include "check/value_json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "out/json_text.h"

enum { MAX_LISTED = 16 };

void uz_real_text(char buf[32], double value)
{
    if (isnan(value) || isinf(value)) {
        (void)snprintf(buf, 32, "%s", isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(buf, 32, "%.*g", digits, value);
        double back = strtod(buf, NULL);
        if (memcmp(&back, &value, sizeof value) == 0)
            return;
    }
}

static int print_text(FILE *to, const struct uz_text *text, struct uz_error *err)
{
    char shown[512];
    uz_printable(shown, sizeof shown, text->data, text->nbytes);
    return uz_json_string(to, shown, err);
}

static int print_real(FILE *to, double value)
{
    char text[32];
    uz_real_text(text, value);
    (void)fprintf(to, isfinite(value) ? "%s" : "\"%s\"", text);
    return UZ_OK;
}

static int print_scalar(FILE *to, struct uz_torch_file *file, const struct uz_node *node,
                        struct uz_error *err)
{
    char what[300];
    double number;
    switch (node->kind) {
    case UZ_NODE_NONE:
        (void)fputs("null", to);
        return UZ_OK;
    case UZ_NODE_BOOL:
        (void)fputs(node->u.boolean ? "true" : "false", to);
        return UZ_OK;
    case UZ_NODE_INT:
        (void)fprintf(to, "%" PRId64, node->u.integer);
        return UZ_OK;
    case UZ_NODE_FLOAT:
        return print_real(to, node->u.real);
    case UZ_NODE_STR:
        return print_text(to, &node->u.text, err);
    default:
        if (uz_torch_is_tensor(node) &&
            uz_torch_number(file, node, "a number", &number, NULL) == UZ_OK)
            return print_real(to, number);
        return uz_json_string(to, uz_node_describe(node, what, sizeof what), err);
    }
}

int uz_value_json(FILE *to, struct uz_torch_file *file, const struct uz_node *node,
                  struct uz_error *err)
{
    const struct uz_seq *list = uz_node_list(node);
    if (!list || list->n > MAX_LISTED)
        return print_scalar(to, file, node, err);
    (void)fputc('[', to);
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0)
            (void)fputc(',', to);
        UZ_TRY(print_scalar(to, file, list->items[i], err));
    }
    (void)fputc(']', to);
    return UZ_OK;
}
