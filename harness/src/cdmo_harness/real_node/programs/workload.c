/* What runs in every container of a real node: it waits, as its environment says, and does nothing else.
 *
 *   CDMO_RUN_SECONDS        ends by itself after this time; empty or absent: never
 *   CDMO_EXIT_CODE          with this status; 0 when absent
 *   CDMO_TERMINATE_SECONDS  time from SIGTERM to the end; 0 when absent
 */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ENDED_BY_SIGTERM = 128 + SIGTERM };

static double number(const char *name, double otherwise)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? strtod(value, NULL) : otherwise;
}

static struct timespec duration(double seconds)
{
    double whole = floor(seconds);
    return (struct timespec){.tv_sec = (time_t)whole, .tv_nsec = (long)((seconds - whole) * 1e9)};
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* Wait for SIGTERM (or SIGINT, which ends a sandbox), at most so long; whether it came. */
static int told_to_end(const sigset_t *signals, double seconds)
{
    double until = now() + seconds;
    for (;;) {
        double left = until - now();
        if (left <= 0)
            return 0;
        struct timespec limit = duration(left);
        if (sigtimedwait(signals, NULL, &limit) > 0)
            return 1;
    }
}

int main(void)
{
    const double for_ever = 1e9;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (!told_to_end(&signals, number("CDMO_RUN_SECONDS", for_ever)))
        return (int)number("CDMO_EXIT_CODE", 0);
    struct timespec rest = duration(number("CDMO_TERMINATE_SECONDS", 0));
    while (nanosleep(&rest, &rest) != 0)
        ;
    return ENDED_BY_SIGTERM;
}
