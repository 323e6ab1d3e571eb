/* SPDX-License-Identifier: Apache-2.0 */
/* Whether there are colours is found out once. */
#include "cli/colour.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_colours(void)
{
    static int known = -1;
    if (known < 0) {
        const char *term = getenv("TERM"), *no = getenv("NO_COLOR"); /* https://no-color.org */
        known = isatty(STDOUT_FILENO) && !(no && *no) && term && *term && strcmp(term, "dumb") != 0;
    }
    return known > 0;
}

const char *colour_on(enum colour colour)
{
    static const char *const codes[] = {
        [COLOUR_BOLD] = "\033[1m",    [COLOUR_RED] = "\033[31m",  [COLOUR_GREEN] = "\033[32m",
        [COLOUR_YELLOW] = "\033[33m", [COLOUR_CYAN] = "\033[36m",
    };
    return has_colours() ? codes[colour] : "";
}

const char *colour_off(void)
{
    return has_colours() ? "\033[0m" : "";
}
