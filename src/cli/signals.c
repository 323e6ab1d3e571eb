/* SPDX-License-Identifier: Apache-2.0 */
/* Signal handlers: they set a flag and do nothing else. */
#include "cli/signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_int pending; /* handlers may run on any thread */

static void note(int signal_number)
{
    atomic_store(&pending, signal_number);
}

void signals_start(void)
{
    signal(SIGXFSZ, SIG_IGN);
}

void signals_catch(void)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
        struct sigaction action;
        if (sigaction(caught[i], NULL, &action) < 0 || action.sa_handler == SIG_IGN)
            continue;
        action = (struct sigaction){.sa_handler = note, .sa_flags = SA_RESTART};
        sigaction(caught[i], &action, NULL);
    }
}

int signals_pending(void)
{
    return atomic_load(&pending);
}

void signals_die(void)
{
    int signal_number = signals_pending();
    if (!signal_number)
        return;
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}
