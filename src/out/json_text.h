/* SPDX-License-Identifier: Apache-2.0 */
/* Writing JSON as text: strings through cJSON, numbers exactly. */
#ifndef UZ_OUT_JSON_TEXT_H
#define UZ_OUT_JSON_TEXT_H

#include <stdio.h>

#include "base/error.h"

/* Writes a quoted, escaped JSON string. */
int uz_json_string(FILE *to, const char *text, struct uz_error *err);

#endif
