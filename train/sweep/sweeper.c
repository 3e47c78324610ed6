// A sweep at work. Every training and evaluation is a program of its own: its memory is gone when it ends,
// its failure is not ours, and it ends with the same weights as if it had been started by hand.
#include "train/sweep/sweeper.h"

#include "core/text.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "train/sweep/child.h"
#include "train/task/task.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARGUMENTS = 600 };

kv_status kv_sweeper_start(const kv_sweeper *s, const kv_sweep_start *start, pid_t *child, kv_error *err) {
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

kv_status kv_sweeper_interrupted(kv_error *err) {
    return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
}

kv_status kv_sweeper_agree(kv_status status, kv_error *err) {
    kv_ranks_interrupted();
    return kv_ranks_agree(status, err);
}

bool kv_sweeper_has_logs(const kv_sweeper *s) {
    return s->args->jobs > 1 || kv_n_ranks() > 1;
}

// ---- The runs ------------------------------------------------------------------------------------------

static kv_status no_such_run(const kv_sweeper *s, kv_error *err) {
    return kv_fail(err, KV_ERR_ARGUMENT, "--only %s: found no such run among the %zu of %s", s->args->only,
                   s->sweep.n_runs, s->args->path);
}

static kv_status check_changed(kv_sweeper *s, kv_error *err) {
    for (size_t i = 0; i < s->sweep.n_runs; i++) {
        kv_sweep_run *run = &s->sweep.runs[i];
        const bool to_do = run->wanted && run->look.state == KV_SWEEP_TO_DO;
        s->n_wanted += run->wanted;
        s->n_to_do += to_do;
        s->n_mine += to_do && run->rank == kv_rank();
        if (!run->wanted || !run->look.changed || s->args->force) continue;
        const kv_error inner = {.code = KV_ERR_MISMATCH};
        kv_error message = inner;
        snprintf(message.message, sizeof message.message, "%s; --force trains it anew",
                 run->look.why_changed);
        return kv_sweep_name_place(&s->sweep, run, KV_ERR_MISMATCH, &message, err);
    }
    return s->sweep.n_matched > 0 ? KV_OK : no_such_run(s, err);
}

// Rank 0 looks for all.
static kv_status look_at_runs(kv_sweeper *s, kv_error *err) {
    kv_sweep *sweep = &s->sweep;
    kv_status status = kv_sweeper_agree(kv_rank_leads() ? kv_sweep_look_at_runs(sweep, err) : KV_OK, err);
    for (size_t i = 0; status == KV_OK && i < sweep->n_runs; i++)
        kv_ranks_broadcast(&sweep->runs[i].look, sizeof sweep->runs[i].look, 0);
    if (status == KV_OK) status = kv_sweep_share_ranks(sweep, err);
    if (status == KV_OK) status = check_changed(s, err);
    return kv_sweeper_agree(status, err);
}

// The time left is known once a run has been timed. It is not measured here: see kv_child_start.
static void announce(kv_sweeper *s, const kv_sweep_run *run) {
    double seconds = 0;
    char text[32], step[48] = "", left[64] = "";
    for (size_t i = 0; i < s->sweep.n_runs; i++) {
        const kv_sweep_run *other = &s->sweep.runs[i];
        if (other->wanted && other->rank == kv_rank())
            seconds += kv_sweep_seconds_left(&s->sweep, &other->look, other->config->task);
    }
    if (run->look.steps_done > 0) snprintf(step, sizeof step, ", from step %" PRIi64, run->look.steps_done);
    if (!isnan(seconds))
        snprintf(left, sizeof left, "; about %s left for all",
                 kv_duration(seconds / (double)s->args->jobs, text));
    fprintf(stderr, "kvtrain: run %zu of %zu, %s%s%s\n", ++s->n_started, s->n_mine, run->name, step, left);
}

// Where a run's standard error goes when several write at once; NULL: to ours.
static const char *log_path(const kv_sweeper *s, const kv_sweep_run *run, char path[PATH_MAX]) {
    char name[300];
    snprintf(name, sizeof name, "logs/%s.log", run->name);
    return kv_sweeper_has_logs(s) && kv_path_join(s->sweep.output, name, path, NULL) == KV_OK ? path : NULL;
}

static void report_failure(const kv_sweeper *s, const kv_sweep_run *run) {
    char path[PATH_MAX], where[100] = "";
    const char *log = log_path(s, run, path);
    const int code = run->failure;
    if (kv_n_ranks() > 1)
        snprintf(where, sizeof where, " on rank %d (%s)", run->rank, kv_rank_host(run->rank));
    fprintf(stderr, "kvtrain: run %s failed%s with %s %d%s%s%s\n", run->name, where,
            code < 0 ? "signal" : "exit status", code < 0 ? -code : code, log ? ", see " : "", log ? log : "",
            s->n_started < s->n_mine ? "; the others go on" : "");
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

static void finish_run(kv_sweeper *s, kv_sweep_run *run, int code) {
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
    run->failure = code;
    report_failure(s, run);
}

static kv_status start_run(kv_sweeper *s, const kv_sweep_run *run, pid_t *child, kv_error *err) {
    char path[PATH_MAX];
    const int64_t threads = omp_get_max_threads() / s->args->jobs;
    const kv_sweep_start start = {.config = run->train,
                                  .overrides = (const char *const *)run->overrides,
                                  .n = run->n_overrides,
                                  .anew = run->look.changed || (run->look.longer && s->args->force),
                                  .threads = s->args->jobs > 1 ? (int)(threads > 1 ? threads : 1) : 0,
                                  .log = log_path(s, run, path)};
    announce(s, run);
    return kv_sweeper_start(s, &start, child, err);
}

static kv_sweep_run *next_run(kv_sweeper *s, size_t *at) {
    while (*at < s->sweep.n_runs) {
        kv_sweep_run *run = &s->sweep.runs[(*at)++];
        if (run->wanted && run->look.state == KV_SWEEP_TO_DO && run->rank == kv_rank()) return run;
    }
    return NULL;
}

// As many at a time as there are jobs.
static kv_status train_runs(kv_sweeper *s, kv_error *err) {
    pid_t pids[KV_SWEEP_MAX_JOBS] = {0};
    kv_sweep_run *runs[KV_SWEEP_MAX_JOBS] = {0};
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
    return status == KV_OK && kv_console_interrupted() ? kv_sweeper_interrupted(err) : status;
}

// What became of each run, from whose it was.
static void tell_all(kv_sweeper *s) {
    for (size_t i = 0; i < s->sweep.n_runs; i++) {
        kv_sweep_run *run = &s->sweep.runs[i];
        if (run->wanted) {
            kv_ranks_broadcast(&run->look, sizeof run->look, run->rank);
            kv_ranks_broadcast(&run->failure, sizeof run->failure, run->rank);
        }
        s->n_failed += run->look.state == KV_SWEEP_FAILED;
        if (run->look.state == KV_SWEEP_FAILED && run->rank != kv_rank()) report_failure(s, run);
    }
}

static kv_status train_all(kv_sweeper *s, kv_error *err) {
    if (s->n_to_do < s->n_wanted)
        fprintf(stderr, "kvtrain: %zu of %zu runs are done already\n", s->n_wanted - s->n_to_do, s->n_wanted);
    if (kv_n_ranks() > 1)
        fprintf(stderr, "kvtrain: %zu runs to be trained by %d ranks; what they say is in %s/logs\n",
                s->n_to_do, kv_n_ranks(), s->sweep.output);
    kv_status status = train_runs(s, err);
    if (kv_ranks_interrupted() && status == KV_OK) status = kv_sweeper_interrupted(err);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) tell_all(s);
    return status;
}

// ---- All of it -----------------------------------------------------------------------------------------

static kv_status open_sweep(kv_sweeper *s, kv_error *err) {
    const kv_sweep_args *args = s->args;
    if (args->jobs < 1 || args->jobs > KV_SWEEP_MAX_JOBS)
        return kv_fail(err, KV_ERR_ARGUMENT, "--jobs: expected 1 to %d", KV_SWEEP_MAX_JOBS);
    kv_status status = kv_own_program(s->program, sizeof s->program, err);
    if (status == KV_OK) status = kv_sweep_open(args, &s->sweep, err);
    if (status == KV_OK && s->sweep.file.eval && !args->no_eval) {
        status = kv_sweep_find_kveval(s->kveval, err);
        if (status == KV_OK) status = kv_sweep_check_tokenizer(&s->sweep, err);
    }
    s->evaluates = s->sweep.file.eval && !args->no_eval && args->share.n == 0;
    return status;
}

// Two sweeps in one directory would write over each other's tables. Ranks are one sweep, for which rank 0 holds the lock; of a
// share each waits for what it prepares.
static kv_status lock_output(kv_sweeper *s, kv_error *err) {
    const bool share = s->args->share.n > 0;
    char logs[PATH_MAX];
    kv_status status = kv_make_dirs(s->sweep.output, err);
    if (status == KV_OK && kv_sweeper_has_logs(s)) {
        status = kv_path_join(s->sweep.output, "logs", logs, err);
        if (status == KV_OK) status = kv_make_dirs(logs, err);
    }
    if (status == KV_OK && (share || kv_rank_leads()))
        status = kv_sweep_lock_open(s->sweep.output, share, &s->lock, err);
    for (size_t i = 0; status == KV_OK && share && kv_rank_leads() && i < s->sweep.n_runs; i++)
        if (s->sweep.runs[i].wanted) status = kv_sweep_lock_take(&s->lock, s->sweep.runs[i].name, err);
    return status;
}

// A mistake in the evaluation shows now rather than after hours; the answers are kept.
static kv_status evaluate_first(kv_sweeper *s, kv_error *err) {
    if (!kv_rank_leads() || !s->evaluates) return KV_OK;
    kv_status status = kv_sweep_check_tokenizer(&s->sweep, err);
    if (status != KV_OK || s->n_to_do == 0) return status;
    fprintf(stderr, "kvtrain: what is there already is evaluated first\n");
    return kv_sweep_evaluate(&s->sweep, s->kveval, false, err);
}

static kv_status get_ready(kv_sweeper *s, kv_error *err) {
    kv_status status = kv_sweeper_agree(open_sweep(s, err), err);
    if (status == KV_OK) status = kv_sweeper_agree(lock_output(s, err), err);
    if (status == KV_OK) status = kv_sweeper_write_list(s, err);
    if (status == KV_OK) status = kv_sweeper_prepare(s, err);
    // Now that all models are there, every run is looked at before the first is trained.
    if (status == KV_OK) status = look_at_runs(s, err);
    return status == KV_OK ? kv_sweeper_agree(evaluate_first(s, err), err) : status;
}

static kv_status evaluate(kv_sweeper *s, FILE *out, kv_error *err) {
    kv_status status = KV_OK;
    if (!kv_rank_leads()) return KV_OK;
    if (s->args->share.n) {
        fprintf(stderr,
                "kvtrain: share %" PRIi64 "/%" PRIi64
                " is done; without it in --only the same command evaluates and makes the table\n",
                s->args->share.i, s->args->share.n);
        return KV_OK;
    }
    if (s->evaluates) {
        fprintf(stderr, "kvtrain: evaluation\n");
        status = kv_sweep_evaluate(&s->sweep, s->kveval, true, err);
        if (status == KV_OK && s->sweep.file.n_seeds) status = kv_sweep_join_seeds(&s->sweep, s->kveval, err);
    }
    return status == KV_OK ? kv_sweep_table(&s->sweep, s->evaluates, s->args->format, out, err) : status;
}

kv_status kv_sweep_train(const kv_sweep_args *args, FILE *out, kv_error *err) {
    kv_sweeper s = {.args = args, .lock = {.fd = -1}};
    kv_status status = get_ready(&s, err);
    if (status == KV_OK) status = train_all(&s, err);
    if (status == KV_OK) status = kv_sweeper_agree(evaluate(&s, out, err), err);
    if (status == KV_OK && s.n_failed > 0)
        status = kv_fail(err, KV_ERR_MISMATCH,
                         "%zu of %zu runs failed (see above); the same command tries them again", s.n_failed,
                         s.n_wanted);
    status = kv_ranks_agree(status, err);
    kv_sweep_lock_close(&s.lock);
    kv_sweep_close(&s.sweep);
    return status;
}
