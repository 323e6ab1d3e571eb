/* SPDX-License-Identifier: Apache-2.0 */
/* The line on a terminal that tells how far a run is. */
#ifndef UZ_CLI_PROGRESS_H
#define UZ_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown;     /* is there a line to clear */
    bool on;        /* is there a terminal to draw on */
    int width;      /* columns drawn last */
    double started; /* seconds, of clock_seconds */
    double drawn;   /* when the line was drawn last */
};

/* Seconds of a clock that only goes forward. */
double clock_seconds(void);

/* Draws only if it is wanted and standard error is a terminal that can go back in a line. */
void progress_start(struct progress *progress, bool wanted);

/* Redraws, six times a second at most, and always when all is done. */
void progress_draw(struct progress *progress, uint64_t nbytes_done, uint64_t nbytes_total);

/*
 * A uz_progress_fn for a struct progress: draws it, and stops the run if a signal came (see
 * cli/signals.h).
 */
int progress_tick(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total);

/* Takes the line away. */
void progress_clear(struct progress *progress);

#endif
