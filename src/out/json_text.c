/* SPDX-License-Identifier: Apache-2.0 */
/* cJSON escapes; its numbers are doubles, which offsets beyond 2^53 do not survive. */
#include "out/json_text.h"

#include <string.h>

#include <cjson/cJSON.h>

int uz_json_string(FILE *to, const char *text, struct uz_error *err)
{
    cJSON *value = cJSON_CreateStringReference(text);
    char *quoted = value ? cJSON_PrintUnformatted(value) : NULL;
    cJSON_Delete(value);
    if (!quoted)
        return uz_fail_nomem(err, strlen(text));
    fputs(quoted, to);
    cJSON_free(quoted);
    return UZ_OK;
}
