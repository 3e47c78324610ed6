// How programs are stopped. Whatever asks a program to end (Ctrl-C, a terminal that closes, a batch system) is one
// flag that its loops look at; a reader that goes away is an error of the write that meets it.
#include "data/system/console.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

// The signal that asked first, but that the others outrank Ctrl-C, which may be meant for one answer alone.
static atomic_int stopped_by;
static _Atomic double insisted; // when SIGINT or SIGTERM came first, 0: neither did
static atomic_bool is_printout;

// Those that come within this time are one: `timeout` sends two in a row, batch systems one to a sweep and one to each
// of its runs, to which the sweep passes on its own.
static const double one_request_seconds = 0.5;

// A person or an init system who asks twice means it. What a terminal or a batch system sends comes more than once by
// itself: SIGHUP from kernel and shell, SIGXCPU every second, SIGUSR1 before SIGTERM.
static bool insists(int number) {
    return number == SIGINT || number == SIGTERM;
}

static void on_stop(int number) {
    int before = 0;
    if (!atomic_compare_exchange_strong(&stopped_by, &before, number) && before == SIGINT && !insists(number))
        atomic_store(&stopped_by, number);
    if (!insists(number)) return;
    const double now = kv_now();
    double first = 0;
    if (!atomic_compare_exchange_strong(&insisted, &first, now) && now - first >= one_request_seconds) {
        // Blocked while this handler runs, so it takes effect on return.
        signal(number, SIG_DFL);
        raise(number);
    }
}

// Signals that are ignored when the program starts stay so: of a program under nohup, or in the background of a script.
static void catch_unless_ignored(int number, void (*handler)(int)) {
    const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct sigaction before;
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(number, &action, NULL);
}

// `ulimit -t` sets one limit for the warning (SIGXCPU) and for the end (SIGKILL), and the end comes first. A tenth
// before the end leaves time to write.
static void be_warned_of_cpu_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_CPU, &limit) != 0 || limit.rlim_max == RLIM_INFINITY ||
        limit.rlim_cur < limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max - (limit.rlim_max + 9) / 10;
    if (limit.rlim_cur > 0) setrlimit(RLIMIT_CPU, &limit);
}

void kv_console_catch_signals(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) catch_unless_ignored(numbers[i], on_stop);
    be_warned_of_cpu_limit();
}

bool kv_console_interrupted(void) {
    return atomic_load(&stopped_by) != 0;
}

int kv_console_signal(void) {
    return atomic_load(&stopped_by);
}

void kv_console_take_signal(int number) {
    atomic_store(&stopped_by, number);
}

void kv_console_forget_interrupt(void) {
    int interrupt = SIGINT;
    if (atomic_compare_exchange_strong(&stopped_by, &interrupt, 0)) atomic_store(&insisted, 0);
}

// In slices: a signal between the look at the flag and the wait, or one that the system hands to another thread,
// ends no wait, and a Ctrl-C would be lost until the next one, which kills.
int kv_console_poll(struct pollfd *fds, nfds_t n, double seconds) {
    static const double slice = 0.1;
    const double end = seconds < 0 ? (double)INFINITY : kv_now() + seconds;
    for (double left; !kv_console_interrupted() && (left = end - kv_now()) > 0;) {
        const int ready = poll(fds, n, (int)ceil(1e3 * fmin(left, slice)));
        if (ready > 0 || (ready < 0 && errno != EINTR)) return ready;
    }
    return 0;
}

// ---- Writes that nobody reads --------------------------------------------------------------------------

// It may also be standard error, or a pipe to a program of ours, whose reader has gone.
static void on_broken_pipe(int number) {
    const int saved = errno;
    struct pollfd out = {.fd = STDOUT_FILENO};
    if (atomic_load(&is_printout) && poll(&out, 1, 0) == 1 && out.revents & (POLLERR | POLLHUP))
        _exit(128 + number);
    errno = saved;
}

static void on_large_file(int number) {
    (void)number; // the write says EFBIG
}

// Handlers rather than SIG_IGN, which the programs that are started from here would inherit.
void kv_console_survive_writes(void) {
    struct sigaction action = {.sa_handler = on_broken_pipe, .sa_flags = SA_RESTART};
    sigaction(SIGPIPE, &action, NULL);
    action.sa_handler = on_large_file;
    sigaction(SIGXFSZ, &action, NULL);
}

void kv_console_printout(void) {
    atomic_store(&is_printout, true);
}
