/* A wall clock of a process's own, for tests: loaded before the C library, it shows what the file in WALL_CLOCK says.
 *
 * The file holds `s` (stands) and a time since 1970, or `r` (runs) and how far it is ahead of the machine's clock, both
 * in microseconds. It is read at every look, so a change holds from the next one on. The monotonic clock stays the
 * machine's, and so does the length of every wait.
 *
 * Allocators look at the clock before anything is set up: nothing here allocates, and nothing is looked up. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const int64_t NANOS = 1000000000;

static int machine(clockid_t clock, struct timespec *at) {
    return (int)syscall(SYS_clock_gettime, clock, at);
}

static int64_t nanos(const struct timespec *at) {
    return at->tv_sec * NANOS + at->tv_nsec;
}

static struct timespec timespec_of(int64_t nanos) {
    int64_t rest = nanos % NANOS;
    if (rest < 0) {
        rest += NANOS;
    }
    struct timespec at = {.tv_sec = (nanos - rest) / NANOS, .tv_nsec = rest};
    return at;
}

/* What the clock shows, in nanoseconds since 1970. */
static int64_t shown(void) {
    struct timespec now;
    machine(CLOCK_REALTIME, &now);
    int saved = errno;
    int64_t at = nanos(&now);
    const char *path = getenv("WALL_CLOCK");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file != -1) {
        char text[32] = {0};
        if (read(file, text, sizeof text - 1) > 1) {
            int64_t told = strtoll(text + 1, NULL, 10) * 1000;
            at = text[0] == 's' ? told : at + told;
        }
        close(file);
    }
    errno = saved;
    return at;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) {
        return machine(clock, at);
    }
    *at = timespec_of(shown());
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now = timespec_of(shown());
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    time_t now = timespec_of(shown()).tv_sec;
    if (at != NULL) {
        *at = now;
    }
    return now;
}

int timespec_get(struct timespec *at, int base) {
    *at = timespec_of(shown());
    return base;
}

/* A wait until a time of this clock: as long as that is away now, whatever the clock does meanwhile. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    struct timespec now;
    machine(CLOCK_MONOTONIC, &now);
    struct timespec end = timespec_of(nanos(&now) + nanos(until) - shown());
    return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &end);
}

/* The same by C11's name: glibc's conditions and mutexes are POSIX's. */
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
    switch (pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until)) {
    case 0:
        return thrd_success;
    case ETIMEDOUT:
        return thrd_timedout;
    default:
        return thrd_error;
    }
}
