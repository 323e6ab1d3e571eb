/* SPDX-License-Identifier: Apache-2.0 */
/* Lets SIGINT, SIGTERM and SIGHUP end a run in good order. */
#ifndef UZ_CLI_SIGNALS_H
#define UZ_CLI_SIGNALS_H

/*
 * A file that grows beyond the limit on its size (ulimit -f) is then a write that fails, with an
 * error that tells it and everything tidied up, and no longer the end of the process.
 */
void signals_start(void);

/*
 * From here on these signals only leave a note, which the progress callback looks for. Signals
 * that are ignored (nohup) stay so.
 */
void signals_catch(void);

/* The signal that came, 0 if none. */
int signals_pending(void);

/* Ends the process by the signal that came, so that the parent sees it; returns if none came. */
void signals_die(void);

#endif
