/* SPDX-License-Identifier: Apache-2.0 */
/* Small values of a pickle as JSON. */
#ifndef UZ_CHECK_VALUE_JSON_H
#define UZ_CHECK_VALUE_JSON_H

#include <stdio.h>

#include "torch/file.h"

/*
 * Writes a scalar, a tensor of one element, or a short list of scalars as JSON; anything else as a
 * text that says what it is. Floats have the digits that are needed to read them back; what JSON
 * has no numbers for is a text.
 */
int uz_value_json(FILE *to, struct uz_torch_file *file, const struct uz_node *node,
                  struct uz_error *err);

/* The shortest of %.15g, %.16g, %.17g that reads back as the value: "0.1", "1e-08", "NaN". */
void uz_real_text(char buf[32], double value);

#endif
