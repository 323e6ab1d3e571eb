/* SPDX-License-Identifier: Apache-2.0 */
/* A thin layer over cJSON. */
#include "cli/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"
#include "cli/message.h"
#include "cli/text.h"

enum { SCHEMA = 1, ALL_DIGITS = 17 };

void json_put(struct json *b, cJSON *to, const char *key, cJSON *item)
{
    bool added =
        item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item));
    if (!added) {
        cJSON_Delete(item);
        b->failed = true;
    }
}

void json_put_text(struct json *b, cJSON *to, const char *key, const char *text)
{
    if (!text) {
        json_put(b, to, key, cJSON_CreateNull());
        return;
    }
    char *utf8 = text_to_utf8(text);
    json_put(b, to, key, utf8 ? cJSON_CreateString(utf8) : NULL);
    free(utf8);
}

void json_put_number(struct json *b, cJSON *to, const char *key, uint64_t n)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, n);
    json_put(b, to, key, cJSON_CreateRaw(digits));
}

void json_put_shape(struct json *b, cJSON *to, const char *key, unsigned ndim,
                    const uint64_t *shape)
{
    cJSON *array = cJSON_CreateArray();
    for (unsigned j = 0; j < ndim; j++)
        json_put_number(b, array, NULL, shape[j]);
    json_put(b, to, key, array);
}

void json_put_bool(struct json *b, cJSON *to, const char *key, bool value)
{
    json_put(b, to, key, cJSON_CreateBool(value));
}

void json_put_real(struct json *b, cJSON *to, const char *key, double value, int n_digits)
{
    char digits[400];
    if (isnan(value) || isinf(value)) {
        json_put_text(b, to, key, isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
        return;
    }
    if (n_digits < 0)
        snprintf(digits, sizeof digits, "%.*g", ALL_DIGITS, value);
    else
        snprintf(digits, sizeof digits, "%.*f", n_digits, value);
    json_put(b, to, key, cJSON_CreateRaw(digits));
}

void json_put_texts(struct json *b, cJSON *to, const char *key, const char *const *texts, size_t n)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < n; i++)
        json_put_text(b, array, NULL, texts[i]);
    json_put(b, to, key, array);
}

cJSON *json_start(struct json *b, const char *command)
{
    cJSON *root = cJSON_CreateObject();
    json_put_number(b, root, "schema", SCHEMA);
    json_put_text(b, root, "command", command);
    return root;
}

int json_finish(const struct json *b, cJSON *root)
{
    char *text = b->failed ? NULL : cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (!text) {
        message("out of memory");
        return EXIT_TROUBLE;
    }
    puts(text);
    cJSON_free(text);
    return EXIT_DONE;
}

void json_print_failure(const char *command, const struct uz_error *err)
{
    struct json b = {0};
    cJSON *root = json_start(&b, command);
    cJSON *error = cJSON_CreateObject();
    json_put_text(&b, error, "status", uz_status_name(err->status));
    json_put_text(&b, error, "message", err->message);
    json_put_text(&b, error, "file", *err->file ? err->file : NULL);
    if (err->offset != UZ_NO_OFFSET)
        json_put_number(&b, error, "offset", err->offset);
    else
        json_put(&b, error, "offset", cJSON_CreateNull());
    json_put(&b, root, "error", error);
    (void)json_finish(&b, root); /* it failed already */
}

int json_report_failure(const char *command, bool json, const char *interrupted,
                        const struct uz_error *err)
{
    int code = EXIT_TROUBLE;
    if (err->status == UZ_CANCELLED)
        message("%s", interrupted);
    else
        code = message_failure(err);
    if (json)
        json_print_failure(command, err);
    return code;
}
