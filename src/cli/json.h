/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the JSON that commands print: text made UTF-8, numbers exact, memory checked once. */
#ifndef UZ_CLI_JSON_H
#define UZ_CLI_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include <unzero/error.h>

/*
 * Remembers whether memory ran out; all zero to begin with. Every function below may be given NULL
 * where it did, and json_finish tells.
 */
struct json {
    bool failed;
};

/* An object {"schema": 1, "command": command}. */
cJSON *json_start(struct json *b, const char *command);

/* Adds item to an object (under key) or to an array (key NULL), which owns it then. */
void json_put(struct json *b, cJSON *to, const char *key, cJSON *item);

/* Text from files and command lines: bytes that are no UTF-8 become \xNN. NULL becomes null. */
void json_put_text(struct json *b, cJSON *to, const char *key, const char *text);

/* All 64 bits: cJSON's own numbers are doubles. */
void json_put_number(struct json *b, cJSON *to, const char *key, uint64_t n);

/* An array of ndim numbers. */
void json_put_shape(struct json *b, cJSON *to, const char *key, unsigned ndim,
                    const uint64_t *shape);

void json_put_bool(struct json *b, cJSON *to, const char *key, bool value);

/*
 * A number with so many digits behind the point, or (n_digits < 0) with all that are needed to read
 * it back; NaN and infinities, which JSON has no numbers for, become "NaN", "Infinity",
 * "-Infinity".
 */
void json_put_real(struct json *b, cJSON *to, const char *key, double value, int n_digits);

/* An array of n texts. */
void json_put_texts(struct json *b, cJSON *to, const char *key, const char *const *texts, size_t n);

/*
 * Prints the object in one line and frees it. Returns EXIT_DONE, or EXIT_TROUBLE after a message if
 * memory ran out anywhere.
 */
int json_finish(const struct json *b, cJSON *root);

/* The object of a failure on standard output: {..., "error": {status, message, file, offset}}. */
void json_print_failure(const char *command, const struct uz_error *err);

/*
 * Says what failed, on standard error and (`json`) also as JSON.
 * `interrupted` is what is said of UZ_CANCELLED.
 * Returns the exit code.
 */
int json_report_failure(const char *command, bool json, const char *interrupted,
                        const struct uz_error *err);

#endif
