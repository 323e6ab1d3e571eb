/* SPDX-License-Identifier: Apache-2.0 */
/* Draws the progress line. */
#include "cli/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/signals.h"
#include "cli/text.h"

#define REDRAW_SECONDS (1.0 / 6)

enum { USUAL_WIDTH = 80 };

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void progress_start(struct progress *progress, bool wanted)
{
    const char *term = getenv("TERM");
    double now = clock_seconds();
    *progress = (struct progress){
        .on = wanted && isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb") != 0,
        .started = now,
        .drawn = now, /* a run that ends at once draws nothing */
    };
}

static int terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
        return USUAL_WIDTH;
    return size.ws_col;
}

/* Draws `line` over the last one. The last column stays free: some terminals wrap there. */
static void redraw(struct progress *progress, const char *line)
{
    int room = terminal_width() - 1;
    int n = (int)strlen(line);
    int width = n < room ? n : room;
    int old = progress->width < room ? progress->width : room;
    fprintf(stderr, "\r%.*s%*s\r", width, line, old > width ? old - width : 0, "");
    progress->width = width;
}

static void word(char *line, size_t size, const struct progress *progress, uint64_t done,
                 uint64_t total)
{
    double spent = progress->drawn - progress->started;
    struct text_number rate = text_rate(done, spent);
    if (done >= total) {
        snprintf(line, size, "100%%  %s  %s  finishing", text_nbytes(total).text, rate.text);
        return;
    }
    double share = (double)done / (double)total;
    struct text_number left = {""};
    if (done > 0)
        left = text_clock(spent / share - spent);
    snprintf(line, size, "%3d%%  %s of %s  %s  %s%s", (int)(share * 100), text_nbytes(done).text,
             text_nbytes(total).text, rate.text, left.text, done > 0 ? " left" : "");
}

void progress_draw(struct progress *progress, uint64_t nbytes_done, uint64_t nbytes_total)
{
    char line[160];
    double now = clock_seconds();
    bool last = nbytes_done >= nbytes_total && progress->shown;
    if (!progress->on || (!last && now - progress->drawn < REDRAW_SECONDS))
        return;
    progress->drawn = now;
    word(line, sizeof line, progress, nbytes_done, nbytes_total);
    redraw(progress, line);
    progress->shown = true;
}

int progress_tick(void *cookie, uint64_t nbytes_done, uint64_t nbytes_total)
{
    progress_draw(cookie, nbytes_done, nbytes_total);
    return signals_pending() != 0;
}

void progress_clear(struct progress *progress)
{
    if (progress->shown)
        redraw(progress, "");
    progress->shown = false;
}
