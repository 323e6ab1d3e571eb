/* SPDX-License-Identifier: Apache-2.0 */
/* Text for people: names made harmless, sizes and times made short. */
#ifndef UZ_CLI_TEXT_H
#define UZ_CLI_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Copies text to buf so that it cannot disturb a terminal: control characters and bytes that are
 * no UTF-8 become \xNN. Cut to size - 1 bytes. Text that went through this stays as it is.
 */
const char *text_escape(char *buf, size_t size, const char *text);

enum { TEXT_SHAPE_NBYTES = 2048 }; /* of the longest shape: 64 sizes of 20 digits */

/* "[67, 24]"; cut to size - 1 bytes, with its bracket. Returns buf. */
const char *text_shape(char *buf, size_t size, unsigned ndim, const uint64_t *shape);

/* Prints text escaped in the same way. */
void text_print(FILE *to, const char *text);

/* A copy that is UTF-8 in any case: other bytes become \xNN. NULL: no memory. The caller frees. */
char *text_to_utf8(const char *text);

/* A number in words, by value so that it can stand right in an argument of printf. */
struct text_number {
    char text[32];
};

/* "512 B", "1.76 GB": powers of 1000, three digits. */
struct text_number text_nbytes(uint64_t nbytes);

/* "0.42 s", "12.3 s", "4 min 05 s", "2 h 07 min" */
struct text_number text_seconds(double seconds);

/* "0:09", "12:30", "2:07:03" */
struct text_number text_clock(double seconds);

/* "1.20 GB/s"; "-" if no time has passed. */
struct text_number text_rate(uint64_t nbytes, double seconds);

/* "1 tensor", "12 tensors" */
struct text_number text_count(uint64_t n, const char *noun);

#endif
