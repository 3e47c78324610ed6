// A benchmark file that is damaged, or a sandbox that is too tight, shows as a model that solves nothing. The
// file's own solutions tell these apart.
#include "eval/benchmark/check_tests.h"

#include "data/benchmark/problems.h"
#include "data/system/console.h"
#include "eval/benchmark/program.h"
#include "eval/benchmark/redefined.h"

#include <inttypes.h>
#include <stdlib.h>

struct checking {
    kv_problems problems;
    const kv_problem_kind *kind;
    const kv_problem **all; // [problems.n]
    const char **solutions;
    kv_sandbox_result *results;
    bool *base_passed;
    char **redefined;
    kv_progress progress;
    int64_t done, failed;
};

static void count(void *context, bool passed) {
    struct checking *c = context;
    char note[48];
    c->failed += !passed;
    snprintf(note, sizeof note, "%" PRIi64 " failed", c->failed);
    kv_progress_show(&c->progress, ++c->done, note);
}

static void count_looks(void *context, int64_t index, const kv_sandbox_result *result) {
    (void)index, (void)result;
    struct checking *c = context;
    kv_progress_show(&c->progress, ++c->done, "");
}

static bool allocate(struct checking *c) {
    const size_t n = (size_t)c->problems.n;
    c->all = calloc(n, sizeof *c->all);
    c->solutions = calloc(n, sizeof *c->solutions);
    c->results = calloc(n, sizeof *c->results);
    c->base_passed = calloc(n, sizeof *c->base_passed);
    c->redefined = calloc(n, sizeof *c->redefined);
    if (!c->all || !c->solutions || !c->results || !c->base_passed || !c->redefined) return false;
    for (size_t i = 0; i < n; i++) {
        c->all[i] = &c->problems.items[i];
        c->solutions[i] = c->problems.items[i].canonical_solution;
    }
    return true;
}

static void release(struct checking *c) {
    for (int64_t i = 0; c->redefined && i < c->problems.n; i++) free(c->redefined[i]);
    free(c->all);
    free(c->solutions);
    free(c->results);
    free(c->base_passed);
    free(c->redefined);
    kv_problems_free(&c->problems);
}

static void report(const struct checking *c, double seconds, FILE *out) {
    const int64_t n = c->problems.n;
    int64_t passed = 0, n_redefined = 0;
    for (int64_t i = 0; i < n; i++) {
        const bool failed = c->results[i].verdict != KV_VERDICT_PASSED,
                   base_failed = failed && kv_problem_has_base(c->all[i]) && !c->base_passed[i];
        if (failed)
            fprintf(out, "%s: %s%s\n", c->all[i]->task_id, base_failed ? "base tests: " : "",
                    c->results[i].text);
        passed += !failed;
    }
    fprintf(out, "%" PRIi64 " of %" PRIi64 " canonical solutions pass (%.1f s; read as %s)\n", passed, n,
            seconds, c->kind->title);
    // What solutions that pass had redefined: a file can hold one that would pass any tests.
    for (int64_t i = 0; i < n; i++)
        if (c->redefined[i]) {
            fprintf(out, "%s: redefines %s\n", c->all[i]->task_id, c->redefined[i]);
            n_redefined++;
        }
    if (n_redefined > 0)
        fprintf(out, "%" PRIi64 " of %" PRIi64 " programs redefine what their tests rely on\n", n_redefined,
                n);
}

static kv_status run(struct checking *c, const kv_sandbox_options *options, double *seconds, kv_error *err) {
    const int64_t n = c->problems.n;
    kv_sandbox *sandbox = NULL;
    kv_sandbox_options own = *options;
    if (own.limits.seconds <= 0) own.limits.seconds = c->kind->timeout;
    kv_status status = kv_sandbox_open(&own, &sandbox, err);
    if (status != KV_OK) return status;
    const double start = kv_now();
    kv_progress_begin(&c->progress, stderr, "solutions", n);
    status = kv_programs_run(sandbox, c->all, c->solutions, n, c->results, c->base_passed, count, c, err);
    kv_progress_end(&c->progress, status == KV_OK ? NULL : "stopped");
    *seconds = kv_now() - start;
    if (status == KV_OK) {
        c->done = 0;
        kv_progress_begin(&c->progress, stderr, "looked at", n - c->failed);
        status = kv_redefined_find(sandbox, c->all, c->solutions, c->results, n, c->redefined, count_looks, c,
                                   err);
        kv_progress_end(&c->progress, status == KV_OK ? NULL : "stopped");
    }
    kv_sandbox_free(sandbox);
    return status;
}

kv_status kv_check_tests(const char *path, const kv_sandbox_options *options, FILE *out, int64_t *n_problems,
                         int64_t *n_failed, kv_error *err) {
    struct checking c = {.done = 0};
    double seconds = 0;
    *n_problems = *n_failed = 0;
    kv_status status = kv_problems_read(path, NULL, &c.problems, &c.kind, err);
    if (status != KV_OK) return status;
    if (!allocate(&c))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " programs", c.problems.n);
    if (status == KV_OK) status = run(&c, options, &seconds, err);
    if (status == KV_OK) {
        report(&c, seconds, out);
        *n_problems = c.problems.n;
        *n_failed = c.failed;
    }
    release(&c);
    return status;
}
