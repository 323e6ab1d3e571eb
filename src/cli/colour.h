/* SPDX-License-Identifier: Apache-2.0 */
/* Colour for words that should be seen: on a terminal only, and not against NO_COLOR. */
#ifndef UZ_CLI_COLOUR_H
#define UZ_CLI_COLOUR_H

enum colour { COLOUR_BOLD, COLOUR_RED, COLOUR_GREEN, COLOUR_YELLOW, COLOUR_CYAN };

/* What standard output must be sent to begin and to end a colour; "" where there are none. */
const char *colour_on(enum colour colour);
const char *colour_off(void);

#endif
