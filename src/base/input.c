/* SPDX-License-Identifier: Apache-2.0 */
/* The default way to read a checkpoint. */
#include <unzero/input.h>

void uz_input_options_default(struct uz_input_options *options)
{
    *options = (struct uz_input_options){.source = UZ_SOURCE_MASTERS};
    uz_limits_default(&options->limits);
}
