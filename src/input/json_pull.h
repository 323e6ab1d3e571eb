/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads JSON (RFC 8259) value by value, without building a tree: what a caller does not ask for is
 * not kept, and what it asks for must be of the kind it names. Strict: UTF-8, no trailing bytes,
 * whole numbers exact to 64 bits, texts with every character they have.
 */
#ifndef UZ_INPUT_JSON_PULL_H
#define UZ_INPUT_JSON_PULL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"

enum { UZ_JSON_MAX_DEPTH = 64 };

/* One document in memory; the fields are private. */
struct uz_json {
    struct uz_cursor cur;
    char *text; /* the string read last */
    size_t text_nbytes, text_cap;
    unsigned depth;
    bool filled[UZ_JSON_MAX_DEPTH]; /* had an item, of each open object or list */
};

/* The bytes are borrowed; `file` and `file_offset` are for messages. Free with uz_json_free. */
void uz_json_init(struct uz_json *json, const void *data, uint64_t nbytes, const char *file,
                  uint64_t file_offset);
void uz_json_free(struct uz_json *json);

/* Enters an object, then goes from key to key; *more is false behind the last one. */
int uz_json_open_object(struct uz_json *json, struct uz_error *err);
int uz_json_next_key(struct uz_json *json, bool *more, struct uz_error *err);

/* The same with the items of a list. */
int uz_json_open_list(struct uz_json *json, struct uz_error *err);
int uz_json_next_item(struct uz_json *json, bool *more, struct uz_error *err);

/*
 * Reads a string into json->text (text_nbytes bytes, which may hold NUL, and a '\0' behind them),
 * where a key stands, too. Valid until the next string or key.
 */
int uz_json_text(struct uz_json *json, struct uz_error *err);

/* A whole number that is not negative: digits alone. */
int uz_json_u64(struct uz_json *json, uint64_t *value, struct uz_error *err);

/* Passes over a value of any kind, checking its form. */
int uz_json_skip(struct uz_json *json, struct uz_error *err);

/* Nothing but white space may follow. */
int uz_json_end(struct uz_json *json, struct uz_error *err);

#endif
