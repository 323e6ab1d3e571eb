/* SPDX-License-Identifier: Apache-2.0 */
/* Checks text that must be UTF-8 (RFC 3629: no surrogates, no overlong forms). */
#ifndef UZ_BASE_UTF8_H
#define UZ_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed character at the start of text (1 to 4), 0 if it is not well-formed. */
size_t uz_utf8_char(const unsigned char *text, size_t nbytes);

/* How many bytes at the start of text are ASCII: what most names consist of. */
size_t uz_ascii_prefix(const unsigned char *text, size_t nbytes);

/* True if all nbytes are well-formed UTF-8. */
bool uz_utf8_valid(const char *text, size_t nbytes);

#endif
