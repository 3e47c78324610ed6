// A sweep at work. Every training and evaluation is a program of its own: its memory is gone when it ends,
// its failure is not ours, and it ends with the same weights as if it had been started by hand.
#include "train/sweep/sweep.h"

#include "core/text.h"
#include "data/config/tree.h"
#include "data/file/content.h"
#include "data/file/path.h"
#include "data/system/console.h"
#include "train/sweep/child.h"
#include "train/task/task.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { MAX_JOBS = 64, MAX_ARGUMENTS = 600 };

struct sweeper {
    const kv_sweep_args *args;
    kv_sweep sweep;
    char program[PATH_MAX], kveval[PATH_MAX];
    bool evaluates;
    size_t n_wanted, n_to_do, n_failed, n_started; // runs
    int lock, told;                                // told: the signal that was passed on
};

// ---- Starting a training -------------------------------------------------------------------------------

// A training as it is started: of a run, or of what is prepared.
struct start {
    const char *config;
    const char *const *overrides; // [n]
    size_t n;
    bool anew;
    int threads;     // 0: all
    const char *log; // NULL: what it says goes where ours does
};

static kv_status start_training(const struct sweeper *s, const struct start *start, pid_t *child,
                                kv_error *err) {
    const char *argv[MAX_ARGUMENTS] = {s->program, start->config};
    size_t n = 2;
    if (2 * start->n + 5 > MAX_ARGUMENTS)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s: more than %d settings", start->config,
                       (MAX_ARGUMENTS - 5) / 2);
    for (size_t i = 0; i < start->n; i++) {
        argv[n++] = "-s";
        argv[n++] = start->overrides[i];
    }
    argv[n++] = start->anew ? "--force" : "--resume";
    argv[n] = "--quiet-hint";
    return kv_child_start(argv, start->log, start->threads, child, err);
}

static kv_status interrupted(kv_error *err) {
    return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
}

// ---- What must be there first --------------------------------------------------------------------------

static kv_status at_prepare(const kv_sweep *sweep, const kv_sweep_prepared *p, kv_status code,
                            const char *message, kv_error *err) {
    return kv_fail(err, code, "%s:%zu: key `prepare`: %s", sweep->file.path, p->line, message);
}

static kv_status look_at_prepared(const struct sweeper *s, const kv_sweep_prepared *p, bool *to_do,
                                  kv_error *err) {
    const kv_sweep *sweep = &s->sweep;
    kv_sweep_look look;
    kv_error inner = {0};
    *to_do = false;
    if (!p->wanted) return KV_OK;
    kv_status status = kv_sweep_look_at_prepared(p, &look, &inner);
    if (status != KV_OK) return at_prepare(sweep, p, status, inner.message, err);
    if (look.changed) return at_prepare(sweep, p, KV_ERR_MISMATCH, look.why_changed, err);
    *to_do = look.state != KV_SWEEP_DONE;
    if (!look.longer) return KV_OK;
    // Runs that are there may stand on the shorter one.
    snprintf(inner.message, sizeof inner.message,
             "%.*s, which other runs may stand on, expected as many (kvtrain %.*s --resume makes it longer)",
             KV_HEAD(look.why_changed, 400), KV_HEAD(p->path, 200));
    return at_prepare(sweep, p, KV_ERR_MISMATCH, inner.message, err);
}

// As log_path, below. NULL: it is alone at work, and tells of itself.
static const char *prepared_log(const struct sweeper *s, const kv_sweep_prepared *p, bool alone,
                                char path[PATH_MAX]) {
    const char *slash = strrchr(p->path, '/');
    char name[300];
    snprintf(name, sizeof name, "logs/prepare-%.*s-%s.log", KV_HEAD(slash ? slash + 1 : p->path, 200),
             p->override);
    return !alone && kv_path_join(s->sweep.output, name, path, NULL) == KV_OK ? path : NULL;
}

static kv_status start_prepared(const struct sweeper *s, size_t i, bool alone, pid_t *child, kv_error *err) {
    const kv_sweep_prepared *p = &s->sweep.prepared[i];
    char path[PATH_MAX];
    const int64_t threads = omp_get_max_threads() / s->args->jobs;
    const char *const overrides[] = {p->override};
    const struct start start = {.config = p->path,
                                .overrides = overrides,
                                .n = p->seed != NULL,
                                .threads = alone ? 0 : (int)(threads > 1 ? threads : 1),
                                .log = prepared_log(s, p, alone, path)};
    fprintf(stderr, "kvtrain: %s%s%s, which %s start from (%zu of %zu)\n", p->path, p->seed ? ", " : "",
            p->override, p->seed ? "the runs of this seed" : "the runs", i + 1, s->sweep.n_prepared);
    return start_training(s, &start, child, err);
}

static kv_status prepared_failed(const struct sweeper *s, const kv_sweep_prepared *p, bool alone,
                                 kv_error *err) {
    char path[PATH_MAX], message[PATH_MAX + 100];
    const char *log = prepared_log(s, p, alone, path);
    snprintf(message, sizeof message, "its training%s%s failed, so no run can begin%s%s",
             p->seed ? " with " : "", p->override, log ? ", see " : "", log ? log : "");
    return at_prepare(&s->sweep, p, KV_ERR_MISMATCH, message, err);
}

// One configuration, [first, end) of all: its seeds know nothing of each other, and as many are trained at a time as there are
// jobs.
static kv_status prepare_seeds(struct sweeper *s, size_t first, size_t end, kv_error *err) {
    pid_t pids[MAX_JOBS] = {0};
    size_t of[MAX_JOBS], next = first, busy = 0;
    const size_t n_jobs = (size_t)s->args->jobs;
    const bool alone = n_jobs == 1 || end == first + 1;
    kv_status status = KV_OK;
    for (;;) {
        for (size_t j = 0; j < n_jobs && status == KV_OK && !kv_console_interrupted(); j++) {
            bool to_do = pids[j] != 0;
            while (!to_do && status == KV_OK && next < end) {
                of[j] = next;
                status = look_at_prepared(s, &s->sweep.prepared[next++], &to_do, err);
                if (to_do && status == KV_OK) status = start_prepared(s, of[j], alone, &pids[j], err);
                busy += to_do && status == KV_OK;
            }
        }
        if (busy == 0) break;
        int code;
        const size_t j = kv_child_wait(pids, n_jobs, &s->told, &code);
        pids[j] = 0;
        busy--;
        if (code != 0 && status == KV_OK && !kv_console_interrupted())
            status = prepared_failed(s, &s->sweep.prepared[of[j]], alone, err);
    }
    return status == KV_OK && kv_console_interrupted() ? interrupted(err) : status;
}

// In order: they may stand on each other.
static kv_status prepare(struct sweeper *s, kv_error *err) {
    const kv_sweep *sweep = &s->sweep;
    kv_status status = KV_OK;
    for (size_t first = 0, end; status == KV_OK && first < sweep->n_prepared; first = end) {
        for (end = first + 1;
             end < sweep->n_prepared && sweep->prepared[end].path == sweep->prepared[first].path;)
            end++;
        status = prepare_seeds(s, first, end, err);
    }
    return status;
}

// ---- The runs ------------------------------------------------------------------------------------------

static kv_status check_changed(struct sweeper *s, kv_error *err) {
    for (size_t i = 0; i < s->sweep.n_runs; i++) {
        kv_sweep_run *run = &s->sweep.runs[i];
        if (!kv_sweep_wanted(s->args, run)) continue;
        s->n_wanted++;
        s->n_to_do += run->look.state == KV_SWEEP_TO_DO;
        if (!run->look.changed || s->args->force) continue;
        const kv_error inner = {.code = KV_ERR_MISMATCH};
        kv_error message = inner;
        snprintf(message.message, sizeof message.message, "%s; --force trains it anew",
                 run->look.why_changed);
        return kv_sweep_name_place(&s->sweep, run, KV_ERR_MISMATCH, &message, err);
    }
    if (s->n_wanted == 0)
        return kv_fail(err, KV_ERR_ARGUMENT, "--only %s: found no such run among the %zu of %s",
                       s->args->only, s->sweep.n_runs, s->args->path);
    return KV_OK;
}

// The time left is known once a run has been timed. It is not measured here: see kv_child_start.
static void announce(struct sweeper *s, const kv_sweep_run *run) {
    double seconds = 0;
    char text[32], step[48] = "", left[64] = "";
    for (size_t i = 0; i < s->sweep.n_runs; i++) {
        const kv_sweep_run *other = &s->sweep.runs[i];
        if (kv_sweep_wanted(s->args, other))
            seconds += kv_sweep_seconds_left(&s->sweep, &other->look, other->config->task);
    }
    if (run->look.steps_done > 0) snprintf(step, sizeof step, ", from step %" PRIi64, run->look.steps_done);
    if (!isnan(seconds))
        snprintf(left, sizeof left, "; about %s left for all",
                 kv_duration(seconds / (double)s->args->jobs, text));
    fprintf(stderr, "kvtrain: run %zu of %zu, %s%s%s\n", ++s->n_started, s->n_to_do, run->name, step, left);
}

// Where a run's standard error goes when several write at once; NULL: to ours.
static const char *log_path(const struct sweeper *s, const kv_sweep_run *run, char path[PATH_MAX]) {
    char name[300];
    snprintf(name, sizeof name, "logs/%s.log", run->name);
    return s->args->jobs > 1 && kv_path_join(s->sweep.output, name, path, NULL) == KV_OK ? path : NULL;
}

static void report_failure(struct sweeper *s, const kv_sweep_run *run, int code) {
    char path[PATH_MAX];
    const char *log = log_path(s, run, path);
    fprintf(stderr, "kvtrain: run %s failed with %s %d%s%s%s\n", run->name,
            code < 0 ? "signal" : "exit status", code < 0 ? -code : code, log ? ", see " : "", log ? log : "",
            s->n_started < s->n_to_do ? "; the others go on" : "");
}

// What only a run that goes on would need.
static void remove_state(const kv_sweep_run *run) {
    static const char *const names[] = {"checkpoints", "final/optimizer.h5"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX];
        kv_error err = {0};
        if (kv_path_join(run->directory, names[i], path, NULL) == KV_OK &&
            kv_remove_tree(path, &err) != KV_OK)
            fprintf(stderr, "kvtrain: %s\n", err.message);
    }
}

static void finish_run(struct sweeper *s, kv_sweep_run *run, int code) {
    kv_sweep_look look;
    kv_error err = {0};
    if (kv_console_interrupted()) return;
    kv_status status = code == 0 ? kv_sweep_look_at(run->train, (const char *const *)run->overrides,
                                                    run->n_overrides, &look, &err)
                                 : KV_ERR_MISMATCH;
    if (status == KV_OK && look.state == KV_SWEEP_DONE) {
        run->look = look;
        if (s->sweep.file.keep == KV_SWEEP_KEEP_FINAL) remove_state(run);
        return;
    }
    run->look.state = KV_SWEEP_FAILED;
    s->n_failed++;
    report_failure(s, run, code);
}

static kv_status start_run(struct sweeper *s, const kv_sweep_run *run, pid_t *child, kv_error *err) {
    char path[PATH_MAX];
    const int64_t threads = omp_get_max_threads() / s->args->jobs;
    const struct start start = {.config = run->train,
                                .overrides = (const char *const *)run->overrides,
                                .n = run->n_overrides,
                                .anew = run->look.changed || (run->look.longer && s->args->force),
                                .threads = s->args->jobs > 1 ? (int)(threads > 1 ? threads : 1) : 0,
                                .log = log_path(s, run, path)};
    announce(s, run);
    return start_training(s, &start, child, err);
}

static kv_sweep_run *next_run(struct sweeper *s, size_t *at) {
    while (*at < s->sweep.n_runs) {
        kv_sweep_run *run = &s->sweep.runs[(*at)++];
        if (kv_sweep_wanted(s->args, run) && run->look.state == KV_SWEEP_TO_DO) return run;
    }
    return NULL;
}

// As many at a time as there are jobs.
static kv_status train_runs(struct sweeper *s, kv_error *err) {
    pid_t pids[MAX_JOBS] = {0};
    kv_sweep_run *runs[MAX_JOBS] = {0};
    const size_t n_jobs = (size_t)s->args->jobs;
    size_t at = 0, busy = 0;
    kv_status status = KV_OK;
    for (;;) {
        for (size_t j = 0; j < n_jobs && status == KV_OK && !kv_console_interrupted(); j++) {
            if (pids[j] || !(runs[j] = next_run(s, &at))) continue;
            status = start_run(s, runs[j], &pids[j], err);
            busy += status == KV_OK;
        }
        if (busy == 0) break;
        int code;
        const size_t j = kv_child_wait(pids, n_jobs, &s->told, &code);
        pids[j] = 0;
        busy--;
        finish_run(s, runs[j], code);
    }
    return status == KV_OK && kv_console_interrupted() ? interrupted(err) : status;
}

// ---- sweep.yaml: what the directory says about itself ---------------------------------------------------

static void put_text(FILE *out, const char *key, const char *text) {
    fprintf(out, "%s: ", key);
    kv_yaml_quote(out, text);
    fputc('\n', out);
}

// Without the last, which is the directory.
static void put_settings(FILE *out, const kv_sweep_run *run) {
    fputs("    set: [", out);
    for (size_t i = 0; i + 1 < run->n_overrides; i++) {
        if (i > 0) fputs(", ", out);
        kv_yaml_quote(out, run->overrides[i]);
    }
    fputs("]\n", out);
}

static void put_all(FILE *out, const kv_sweep *sweep) {
    fputs(
        "# Written by kvtrain --sweep: what it expanded its file to. Each run is a directory beside this file.\n",
        out);
    put_text(out, "sweep", sweep->file.path);
    put_text(out, "output", sweep->output);
    if (sweep->file.eval) put_text(out, "eval", sweep->file.eval);
    fputs("runs:\n", out);
    for (size_t i = 0; i < sweep->n_runs; i++) {
        const kv_sweep_run *run = &sweep->runs[i];
        put_text(out, "  - name", run->name);
        if (run->arm->name) put_text(out, "    arm", run->arm->name);
        if (run->seed) put_text(out, "    row", run->row);
        if (run->seed) fprintf(out, "    seed: %" PRIu64 "\n", *run->seed);
        fprintf(out, "    task: %s\n", run->config->task == KV_TASK_LM ? "lm" : "kvp");
        fprintf(out, "    steps: %" PRIi64 "\n", run->config->train.steps);
        put_text(out, "    train", run->train);
        put_settings(out, run);
    }
}

static kv_status write_list(const kv_sweep *sweep, kv_error *err) {
    char path[PATH_MAX], *text = NULL;
    size_t size;
    kv_status status = kv_path_join(sweep->output, "sweep.yaml", path, err);
    if (status != KV_OK) return status;
    FILE *out = open_memstream(&text, &size);
    if (out) put_all(out, sweep);
    if (!out || fclose(out) != 0) {
        free(text);
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    }
    status = kv_write_file(path, text, size, err);
    free(text);
    return status;
}

// ---- All of it -----------------------------------------------------------------------------------------

// Two sweeps in one directory would write over each other's tables.
static kv_status lock_output(struct sweeper *s, kv_error *err) {
    char logs[PATH_MAX];
    kv_status status = kv_make_dirs(s->sweep.output, err);
    if (status == KV_OK && s->args->jobs > 1) {
        status = kv_path_join(s->sweep.output, "logs", logs, err);
        if (status == KV_OK) status = kv_make_dirs(logs, err);
    }
    if (status != KV_OK) return status;
    s->lock = open(s->sweep.output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->lock < 0) return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", s->sweep.output, strerror(errno));
    if (flock(s->lock, LOCK_EX | LOCK_NB) == 0) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: another kvtrain is at work there", s->sweep.output);
}

static kv_status get_ready(struct sweeper *s, kv_error *err) {
    kv_status status = kv_own_program(s->program, sizeof s->program, err);
    if (status == KV_OK) status = kv_sweep_open(s->args, &s->sweep, err);
    s->evaluates = s->sweep.file.eval && !s->args->no_eval;
    if (status == KV_OK && s->evaluates) status = kv_sweep_find_kveval(s->kveval, err);
    if (status == KV_OK && s->evaluates) status = kv_sweep_check_tokenizer(&s->sweep, err);
    if (status == KV_OK) status = lock_output(s, err);
    if (status == KV_OK) status = write_list(&s->sweep, err);
    if (status == KV_OK) status = prepare(s, err);
    // Now that all models are there, every run is looked at before the first is trained.
    if (status == KV_OK) status = kv_sweep_look_at_runs(s->args, &s->sweep, err);
    if (status == KV_OK && s->evaluates) status = kv_sweep_check_tokenizer(&s->sweep, err);
    if (status == KV_OK) status = check_changed(s, err);
    // A mistake in the evaluation shows now rather than after hours; the answers are kept.
    if (status == KV_OK && s->evaluates && s->n_to_do > 0) {
        fprintf(stderr, "kvtrain: what is there already is evaluated first\n");
        status = kv_sweep_evaluate(s->args, &s->sweep, s->kveval, false, err);
    }
    return status;
}

static kv_status evaluate(struct sweeper *s, FILE *out, kv_error *err) {
    kv_status status = KV_OK;
    if (s->evaluates) {
        fprintf(stderr, "kvtrain: evaluation\n");
        status = kv_sweep_evaluate(s->args, &s->sweep, s->kveval, true, err);
        if (status == KV_OK && s->sweep.file.n_seeds) status = kv_sweep_join_seeds(&s->sweep, s->kveval, err);
    }
    return status == KV_OK ? kv_sweep_table(&s->sweep, s->evaluates, s->args->format, out, err) : status;
}

kv_status kv_sweep_train(const kv_sweep_args *args, FILE *out, kv_error *err) {
    struct sweeper s = {.args = args, .lock = -1};
    kv_status status = args->jobs >= 1 && args->jobs <= MAX_JOBS
                           ? get_ready(&s, err)
                           : kv_fail(err, KV_ERR_ARGUMENT, "--jobs: expected 1 to %d", MAX_JOBS);
    if (status == KV_OK) {
        if (s.n_to_do < s.n_wanted)
            fprintf(stderr, "kvtrain: %zu of %zu runs are done already\n", s.n_wanted - s.n_to_do,
                    s.n_wanted);
        status = train_runs(&s, err);
    }
    if (status == KV_OK) status = evaluate(&s, out, err);
    if (status == KV_OK && s.n_failed > 0)
        status = kv_fail(err, KV_ERR_MISMATCH,
                         "%zu of %zu runs failed (see above); the same command tries them again", s.n_failed,
                         s.n_wanted);
    if (s.lock >= 0) close(s.lock);
    kv_sweep_close(&s.sweep);
    return status;
}
