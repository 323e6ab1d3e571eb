/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as values of a pickle. */
#ifndef UZ_CONVERT_JSON_NODE_H
#define UZ_CONVERT_JSON_NODE_H

#include "torch/node_make.h"

/*
 * What Python's json.load makes of a file, with numbers that are whole as integers. UZ_FORMAT if it
 * is no JSON object, UZ_LIMIT if it is larger than a configuration can be.
 */
int uz_json_to_node(struct uz_maker *maker, const char *path, const struct uz_node **node,
                    struct uz_error *err);

#endif
