// What programs show and how they are stopped.
#pragma once

#include "core/api.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

KV_API_BEGIN

// What asks a program to end sets a flag instead of ending it: Ctrl-C (SIGINT), SIGTERM, a terminal that is gone
// (SIGHUP), the limit on CPU time (SIGXCPU; also where `ulimit -t` would kill without warning), a batch system's
// warning (SIGUSR1, SIGUSR2). A second SIGINT or SIGTERM, half a second later or more, ends it at once; the others
// may come as often as they like. Those that are ignored when the program starts (nohup, `&` in a script) stay ignored.
void kv_console_catch_signals(void);
bool kv_console_interrupted(void);
int kv_console_signal(void); // which one it was, 0: none
// As if this signal had come: one that reached another process of the same work.
void kv_console_take_signal(int number);
// What Ctrl-C was meant for has ended, the program goes on: as if there had been none. Nothing but Ctrl-C is
// forgotten.
void kv_console_forget_interrupt(void);

// poll() on n descriptors for so many seconds (negative: without end; n = 0: no more than a pause) that the
// first signal to end ends too, be it one that came just before. As poll: how many are ready, 0 when the time
// is over or a signal came, -1 (errno) when it failed.
int kv_console_poll(struct pollfd *fds, nfds_t n, double seconds);

// What this program prints on standard output is all that it is for: once nobody reads that any more it ends,
// without a word, with status 128 + SIGPIPE. Others go on, and their writes fail with EPIPE.
void kv_console_printout(void);

// Part of kv_console_start: neither a reader that goes away (SIGPIPE) nor `ulimit -f` (SIGXFSZ) kills the
// program; the write fails. Programs started from here know nothing of it.
void kv_console_survive_writes(void);

// To be called first in main.
// Of the descriptors 0, 1 and 2 those that are closed lead to /dev/null from here on, so that no file gets
// such a number: what is said on stderr would end up in it. Reading and writing there still fails.
// OpenMP's waiting threads spin for microseconds rather than, as GCC's runtime does by default, for
// milliseconds, which on a machine shared with others slows every parallel loop several times over. For that
// the program starts itself again, once, unless OMP_WAIT_POLICY or GOMP_SPINCOUNT is set already: with a spin of
// 5000 rounds where there is a CPU for each thread just then, else of 1000.
// Standard output, and standard error where it is no terminal, are written line by line: in a log of both no
// message stands inside a row of a table.
// A write that fails does not kill: kv_console_survive_writes.
void kv_console_start(char **argv);

// Lets this thread, and programs that it starts from now on, run wherever OpenMP's threads may (OMP_PROC_BIND keeps a
// program's first thread, and so what it starts, in its first place). For programs that leave the work to others.
void kv_console_leave_place(void);

// At the end of main: whether all of standard output could be written, or at least all that somebody was there to read
// (a pipe's reader may have had enough); else errno says why not. Who does not ask is asked at exit: a program that
// would have ended with 0 ends with 1, and says so.
bool kv_console_flush(void);

// Whether what this descriptor shows can be written over: a terminal, and none that calls itself dumb, or nothing at all (TERM).
bool kv_console_redraws(int fd);

// A progress line: redrawn in place on a terminal, a plain line every few seconds (and at the end) elsewhere.
typedef struct kv_progress {
    FILE *stream; // stderr as a rule
    bool terminal;
    const char *title;
    int64_t total, last_shown;
    double started, last_time;
    double left; // seconds, by whoever knows better than by proportion; 0: nobody does
} kv_progress;

void kv_progress_begin(kv_progress *progress, FILE *stream, const char *title, int64_t total);
// `note` is shown behind the bar ("loss 1.234  31 k tokens/s"). Cheap enough to call at every step.
void kv_progress_show(kv_progress *progress, int64_t done, const char *note);
// A line of its own that stays, above the bar on a terminal.
void kv_progress_line(kv_progress *progress, const char *text);
void kv_progress_end(kv_progress *progress, const char *note);

// Seconds from an arbitrary start (monotonic clock).
double kv_now(void);

// "3m 12s", "48 s", "1h 02m" into text.
char *kv_duration(double seconds, char text[32]);

// "12.4 k", "1.28 G" into text.
char *kv_count_text(double count, char text[32]);

KV_API_END
