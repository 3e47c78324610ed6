// One thread waits for all programs with poll: starting and ending processes is slow enough, and signals to
// stop arrive in one place.
#include "eval/sandbox/sandbox.h"

#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "data/text/unicode.h"
#include "eval/sandbox/process.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TAIL = 8192, INFO = 1024, CHUNK = 65536, POLL_MS = 100 };
static const double start_seconds = 60; // for building a sandbox, on however busy a machine
static const double grace_seconds = 5;  // for bwrap to say whom to end

struct kv_sandbox {
    kv_sandbox_setup setup;
    int64_t workers;
};

// Why a program is being ended before its time.
enum cause { NO_CAUSE, TIME_UP, FLOOD, FORGERY, NEVER_BEGAN, STOPPED };

struct run {
    bool busy;
    int64_t index;
    kv_sandbox_process process;
    double started, began,
        ended_by; // when spawned; when its first line ran, 0: not yet; when we began to end it
    enum cause cause;
    bool self_gone, inner_gone;
    int64_t output;
    char tail[TAIL]; // of standard error
    size_t n_tail;
    char said[KV_SANDBOX_WORD + 2]; // on the result descriptor: "R" and the word, anything more is forged
    size_t n_said;
    char info[INFO];
    size_t n_info;
};

struct pool {
    kv_sandbox *sandbox;
    const kv_program *programs;
    kv_sandbox_result *results;
    kv_sandbox_done_fn *done;
    void *context;
    struct run *runs; // [workers]
    int64_t n, next, n_busy;
    char *chunk; // [CHUNK]
    kv_status status;
    kv_error *err;
};

// ---- What a program leaves -----------------------------------------------------------------------------

// The last line that is not blank, made fit to be shown: one line of whole characters.
static void last_line(const struct run *r, char line[KV_SANDBOX_TEXT - 16]) {
    const char *end = r->tail + r->n_tail;
    while (end > r->tail && strchr(" \t\r\n", end[-1])) end--;
    const char *start = end;
    while (start > r->tail && start[-1] != '\n') start--;
    size_t n = (size_t)(end - start), used = 0;
    if (n > KV_SANDBOX_TEXT - 17) n = KV_SANDBOX_TEXT - 17;
    for (size_t i = 0, length; i < n; i += length) {
        int32_t point;
        length = kv_utf8_next(start + i, n - i, &point);
        if (length == 0 || point < 32 || point == 127) {
            line[used++] = '?';
            length = 1;
        } else {
            memcpy(line + used, start + i, length);
            used += length;
        }
    }
    line[used] = '\0';
}

static bool word_came(const struct run *r) {
    return r->n_said == KV_SANDBOX_WORD + 1 && r->said[0] == 'R' &&
           memcmp(r->said + 1, r->process.word, KV_SANDBOX_WORD) == 0;
}

static void give_verdict(const struct run *r, int status, kv_sandbox_result *result) {
    char line[KV_SANDBOX_TEXT - 16];
    // bwrap passes on a signal as a shell does.
    const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    last_line(r, line);
    result->verdict = KV_VERDICT_FAILED;
    if (r->cause == FLOOD) {
        result->verdict = KV_VERDICT_FLOODED;
        strcpy(result->text, "output flood");
    } else if (r->cause == TIME_UP || code == 128 + SIGXCPU) {
        result->verdict = KV_VERDICT_TIMED_OUT;
        strcpy(result->text, "timed out");
    } else if (r->cause == FORGERY) {
        strcpy(result->text, "failed: wrote where only the end of the tests writes");
    } else if (code == 0 && word_came(r)) {
        result->verdict = KV_VERDICT_PASSED;
        strcpy(result->text, "passed");
    } else if (code == 0) {
        strcpy(result->text, "failed: ended before its tests did");
    } else if (code > 128 && code <= 128 + SIGRTMAX) {
        result->verdict = KV_VERDICT_KILLED;
        snprintf(result->text, sizeof result->text, "killed by signal %d", code - 128);
    } else if (strncmp(line, "MemoryError", 11) == 0) {
        result->verdict = KV_VERDICT_OUT_OF_MEMORY;
        strcpy(result->text, "out of memory");
    } else if (*line) {
        snprintf(result->text, sizeof result->text, "failed: %s", line);
    } else {
        snprintf(result->text, sizeof result->text, "failed: exit status %d", code);
    }
}

// ---- Reading -------------------------------------------------------------------------------------------

static void end_run(struct run *r, enum cause cause) {
    if (r->cause != NO_CAUSE) return;
    r->cause = cause;
    r->ended_by = kv_now();
    if (r->process.inner >= 0 || r->process.info < 0) kv_sandbox_process_kill(&r->process);
}

static void keep_tail(struct run *r, const char *text, size_t n) {
    if (n > TAIL) text += n - TAIL, n = TAIL;
    const size_t kept = r->n_tail + n > TAIL ? TAIL - n : r->n_tail;
    memmove(r->tail, r->tail + r->n_tail - kept, kept);
    memcpy(r->tail + kept, text, n);
    r->n_tail = kept + n;
}

static void take(struct pool *p, struct run *r, int fd, const char *text, size_t n) {
    kv_sandbox_process *process = &r->process;
    if (fd == process->info) {
        const size_t fits = n < INFO - 1 - r->n_info ? n : INFO - 1 - r->n_info;
        memcpy(r->info + r->n_info, text, fits);
        r->info[r->n_info += fits] = '\0';
        kv_sandbox_process_told(process, r->info);
        if (process->inner >= 0 && r->cause != NO_CAUSE) kv_sandbox_process_kill(process);
    } else if (fd == process->result) {
        const size_t room = sizeof r->said - r->n_said, fits = n < room ? n : room;
        memcpy(r->said + r->n_said, text, fits);
        r->n_said += fits;
        if (r->began == 0) r->began = kv_now();
        if (r->n_said > KV_SANDBOX_WORD + 1) end_run(r, FORGERY);
    } else {
        r->output += (int64_t)n;
        if (fd == process->error) keep_tail(r, text, n);
        if (r->output > p->sandbox->setup.options.limits.output_bytes) end_run(r, FLOOD);
    }
}

// One chunk, or as many as are there when the program has ended: no more than the pipe holds then.
static void read_from(struct pool *p, struct run *r, int *fd, bool all) {
    while (*fd >= 0) {
        const ssize_t n = read(*fd, p->chunk, CHUNK);
        if (n > 0) {
            take(p, r, *fd, p->chunk, (size_t)n);
        } else if (n == 0) {
            close(*fd);
            *fd = -1;
        } else if (errno != EINTR) {
            return;
        }
        if (!all) return;
    }
}

// ---- One program ---------------------------------------------------------------------------------------

static void fail_pool(struct pool *p, kv_status status, const kv_error *why) {
    if (p->status != KV_OK) return;
    p->status = status;
    if (p->err && why) *p->err = *why;
}

static void start_run(struct pool *p, int64_t worker) {
    struct run *r = &p->runs[worker];
    kv_error why = {0};
    *r = (struct run){.index = p->next++, .started = kv_now()};
    kv_status status =
        kv_sandbox_process_start(&p->sandbox->setup, worker, &p->programs[r->index], &r->process, &why);
    if (status != KV_OK) {
        fail_pool(p, status, &why);
        return;
    }
    r->busy = true;
    r->inner_gone = r->process.info < 0;
    p->n_busy++;
}

// A program that never began tells of the sandbox, not of the program.
static void blame_sandbox(struct pool *p, const struct run *r, int status) {
    char line[KV_SANDBOX_TEXT - 16];
    kv_error why;
    last_line(r, line);
    if (*line)
        kv_fail(&why, KV_ERR_IO, "a program could not be started: %s", line);
    else
        kv_fail(&why, KV_ERR_IO, "a program could not be started (status %d%s)", status,
                r->cause == NEVER_BEGAN ? ", after a long wait" : "");
    fail_pool(p, KV_ERR_IO, &why);
}

static void finish_run(struct pool *p, struct run *r) {
    read_from(p, r, &r->process.out, true);
    read_from(p, r, &r->process.error, true);
    read_from(p, r, &r->process.result, true);
    const int status = kv_sandbox_process_finish(&r->process);
    r->busy = false;
    p->n_busy--;
    if (r->cause == STOPPED || p->status != KV_OK) return;
    if (r->began == 0) {
        blame_sandbox(p, r, status);
        return;
    }
    kv_sandbox_result *result = &p->results[r->index];
    result->seconds = kv_now() - r->began;
    give_verdict(r, status, result);
    if (p->done) p->done(p->context, r->index, result);
}

static void check_clock(struct pool *p, struct run *r, double now) {
    if (r->cause == NO_CAUSE && r->began > 0 && now - r->began > p->sandbox->setup.options.limits.seconds)
        end_run(r, TIME_UP);
    if (r->cause == NO_CAUSE && r->began == 0 && now - r->started > start_seconds) end_run(r, NEVER_BEGAN);
    if (r->cause != NO_CAUSE && r->process.inner < 0 && now - r->ended_by > grace_seconds)
        kv_sandbox_process_kill(&r->process);
}

// ---- All of them ---------------------------------------------------------------------------------------

enum { FDS = 6 };

static void watch(const struct run *r, struct pollfd fds[FDS]) {
    const kv_sandbox_process *s = &r->process;
    const int all[FDS] = {
        s->info, s->out, s->error, s->result, r->self_gone ? -1 : s->self, r->inner_gone ? -1 : s->inner};
    for (int i = 0; i < FDS; i++) fds[i] = (struct pollfd){.fd = r->busy ? all[i] : -1, .events = POLLIN};
}

static void serve(struct pool *p, struct run *r, const struct pollfd fds[FDS], double now) {
    kv_sandbox_process *s = &r->process;
    int *const streams[] = {&s->info, &s->out, &s->error, &s->result};
    r->self_gone = r->self_gone || fds[4].revents;
    r->inner_gone = r->inner_gone || fds[5].revents;
    for (int i = 0; i < 4; i++)
        if (fds[i].revents) read_from(p, r, streams[i], false);
    check_clock(p, r, now);
    if (!r->self_gone) return;
    // What bwrap wrote last may still be on its way to us; and who is left inside when it has gone shall go
    // too.
    read_from(p, r, &s->info, true);
    if (s->inner < 0) r->inner_gone = true;
    if (r->inner_gone)
        finish_run(p, r);
    else
        kv_sandbox_process_kill(s);
}

static int64_t milliseconds_left(const struct pool *p, double now) {
    double least = POLL_MS / 1e3;
    for (int64_t w = 0; w < p->sandbox->workers; w++) {
        const struct run *r = &p->runs[w];
        if (r->busy && r->began > 0 && r->cause == NO_CAUSE)
            least = fmin(least, r->began + p->sandbox->setup.options.limits.seconds - now);
    }
    return least > 0 ? (int64_t)ceil(1e3 * least) : 0;
}

static void run_all(struct pool *p, struct pollfd *fds) {
    const int64_t workers = p->sandbox->workers;
    while (p->n_busy > 0 || (p->status == KV_OK && p->next < p->n)) {
        if (p->status == KV_OK && kv_console_interrupted()) {
            kv_error why;
            fail_pool(p, kv_fail(&why, KV_ERR_INTERRUPTED, "interrupted"), &why);
        }
        for (int64_t w = 0; w < workers; w++) {
            if (p->status == KV_OK && !p->runs[w].busy && p->next < p->n) start_run(p, w);
            if (p->status != KV_OK && p->runs[w].busy) end_run(&p->runs[w], STOPPED);
            watch(&p->runs[w], fds + w * FDS);
        }
        if (poll(fds, (nfds_t)(workers * FDS), (int)milliseconds_left(p, kv_now())) < 0) {
            if (errno != EINTR) usleep(1000); // short of memory: the clock still runs
            for (int64_t i = 0; i < workers * FDS; i++) fds[i].revents = 0;
        }
        const double now = kv_now();
        for (int64_t w = 0; w < workers; w++)
            if (p->runs[w].busy) serve(p, &p->runs[w], fds + w * FDS, now);
    }
}

kv_status kv_sandbox_run(kv_sandbox *sandbox, const kv_program *programs, int64_t n,
                         kv_sandbox_result *results, kv_sandbox_done_fn *done, void *context, kv_error *err) {
    struct pool pool = {.sandbox = sandbox,
                        .programs = programs,
                        .results = results,
                        .done = done,
                        .context = context,
                        .n = n,
                        .err = err};
    pool.runs = calloc((size_t)sandbox->workers, sizeof *pool.runs);
    pool.chunk = malloc(CHUNK);
    struct pollfd *fds = calloc((size_t)sandbox->workers * FDS, sizeof *fds);
    // Processes that outlive their parents become our children, so that no other has to sweep them up.
    int reaper = 1;
    prctl(PR_GET_CHILD_SUBREAPER, &reaper);
    if (!reaper) prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (pool.runs && pool.chunk && fds)
        run_all(&pool, fds);
    else
        pool.status = kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld programs", (long long)n);
    if (!reaper) prctl(PR_SET_CHILD_SUBREAPER, 0);
    free(pool.runs);
    free(pool.chunk);
    free(fds);
    return pool.status;
}

// ---- Opening -------------------------------------------------------------------------------------------

kv_sandbox_options kv_sandbox_defaults(void) {
    return (kv_sandbox_options){.limits = {.seconds = 10,
                                           .memory_bytes = (int64_t)512 << 20,
                                           .file_bytes = (int64_t)16 << 20,
                                           .tmp_bytes = (int64_t)32 << 20,
                                           .output_bytes = (int64_t)1 << 20,
                                           .descriptors = 64,
                                           .tasks = 16}};
}

// Ends well when one task too many could not be had.
static const char probe[] = "import _thread\n"
                            "_thread.stack_size(1 << 16)\n"
                            "gate = _thread.allocate_lock()\n"
                            "gate.acquire()\n"
                            "try:\n"
                            "    for _ in range(%lld): _thread.start_new_thread(gate.acquire, ())\n"
                            "except RuntimeError:\n"
                            "    pass\n"
                            "else:\n"
                            "    raise SystemExit('the limit on processes does not hold')\n";

static kv_status try_out(kv_sandbox *sandbox, kv_error *err) {
    char source[sizeof probe + 24];
    const kv_sandbox_limits *limits = &sandbox->setup.options.limits;
    snprintf(source, sizeof source, probe, (long long)limits->tasks);
    const kv_program program = {.source = sandbox->setup.options.unsafe ? "" : source,
                                .length = sandbox->setup.options.unsafe ? 0 : strlen(source)};
    kv_sandbox_result result;
    kv_error why = {0};
    // A limit that is too short for any program is the user's affair.
    const double seconds = limits->seconds;
    sandbox->setup.options.limits.seconds = fmax(seconds, start_seconds);
    kv_status status = kv_sandbox_run(sandbox, &program, 1, &result, NULL, NULL, &why);
    sandbox->setup.options.limits.seconds = seconds;
    if (status == KV_OK && result.verdict == KV_VERDICT_PASSED) return KV_OK;
    if (status == KV_ERR_INTERRUPTED || status == KV_ERR_MEMORY)
        return kv_fail(err, status, "%s", why.message);
    const char *found = status == KV_OK ? result.text : why.message;
    if (sandbox->setup.options.unsafe)
        return kv_fail(err, KV_ERR_IO, "programs cannot be run here: %s", found);
    if (status == KV_OK)
        return kv_fail(err, KV_ERR_IO,
                       "the sandbox for programs does not hold here (%s): try as another user, or give "
                       "--unsafe-execution to run programs without one",
                       found);
    return kv_fail(
        err, KV_ERR_IO,
        "bubblewrap cannot make a sandbox for programs here (%s): it needs user namespaces (sysctl "
        "user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1 and "
        "kernel.apparmor_restrict_unprivileged_userns=0 where these exist; in a container, leave to "
        "make namespaces and to mount /proc). Or give --unsafe-execution to run programs without one",
        found);
}

static kv_status check_options(const kv_sandbox_options *o, kv_error *err) {
    const kv_sandbox_limits *l = &o->limits;
    if (!(l->seconds > 0 && l->seconds <= 86400))
        return kv_fail(err, KV_ERR_RANGE,
                       "time limit of a program: found %g s, expected more than 0, at most a day",
                       l->seconds);
    if (l->memory_bytes < (int64_t)64 << 20)
        return kv_fail(err, KV_ERR_RANGE, "memory of a program: found %lld bytes, expected at least 64 MiB",
                       (long long)l->memory_bytes);
    if (o->workers < 0 || o->workers > KV_MAX_WORKERS)
        return kv_fail(err, KV_ERR_RANGE, "programs at once: found %lld, expected 0 to %d",
                       (long long)o->workers, KV_MAX_WORKERS);
    if (l->file_bytes < 1 || l->tmp_bytes < 4096 || l->output_bytes < 1 || l->descriptors < 8 || l->tasks < 2)
        return kv_fail(err, KV_ERR_RANGE, "limits of a program are too small to run any");
    return KV_OK;
}

kv_status kv_sandbox_open(const kv_sandbox_options *options, kv_sandbox **sandbox, kv_error *err) {
    *sandbox = NULL;
    kv_status status = check_options(options, err);
    if (status != KV_OK) return status;
    kv_sandbox *s = calloc(1, sizeof *s);
    if (!s) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a sandbox");
    // Ranks of one machine run programs at the same time.
    const long cores = sysconf(_SC_NPROCESSORS_ONLN) / kv_node_ranks();
    s->workers = options->workers ? options->workers : cores > 64 ? 64 : cores;
    if (s->workers < 1) s->workers = 1;
    status = kv_sandbox_setup_find(options, &s->setup, err);
    if (status == KV_OK) status = try_out(s, err);
    if (status == KV_OK)
        *sandbox = s;
    else
        free(s);
    return status;
}

void kv_sandbox_free(kv_sandbox *sandbox) {
    free(sandbox);
}
