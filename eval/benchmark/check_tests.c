// A benchmark file that is damaged, or a sandbox that is too tight, shows as a model that solves nothing. The
// file's own solutions tell these apart.
#include "eval/benchmark/check_tests.h"

#include "data/benchmark/humaneval.h"
#include "data/system/console.h"
#include "eval/benchmark/redefined.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct checking {
    kv_progress progress;
    int64_t done, failed;
};

static void count(void *context, int64_t index, const kv_sandbox_result *result) {
    (void)index;
    struct checking *c = context;
    char note[48];
    c->failed += result->verdict != KV_VERDICT_PASSED;
    snprintf(note, sizeof note, "%" PRIi64 " failed", c->failed);
    kv_progress_show(&c->progress, ++c->done, note);
}

static kv_status run_solutions(kv_sandbox *sandbox, const kv_problems *problems, kv_program *programs,
                               kv_sandbox_result *results, struct checking *c, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; i < problems->n && status == KV_OK; i++) {
        const kv_problem *problem = &problems->items[i];
        programs[i].source = kv_problem_program(problem, problem->canonical_solution);
        if (programs[i].source)
            programs[i].length = strlen(programs[i].source);
        else
            status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for a program", problem->where);
    }
    if (status != KV_OK) return status;
    kv_progress_begin(&c->progress, stderr, "solutions", problems->n);
    status = kv_sandbox_run(sandbox, programs, problems->n, results, count, c, err);
    kv_progress_end(&c->progress, status == KV_OK ? NULL : "stopped");
    return status;
}

static void report(const kv_problems *problems, const kv_sandbox_result *results, double seconds, FILE *out) {
    int64_t passed = 0;
    for (int64_t i = 0; i < problems->n; i++) {
        passed += results[i].verdict == KV_VERDICT_PASSED;
        if (results[i].verdict != KV_VERDICT_PASSED)
            fprintf(out, "%s: %s\n", problems->items[i].task_id, results[i].text);
    }
    fprintf(out, "%" PRIi64 " of %" PRIi64 " canonical solutions pass (%.1f s)\n", passed, problems->n,
            seconds);
}

// What solutions that pass had redefined: a file can hold one that would pass any tests.
static kv_status report_redefined(kv_sandbox *sandbox, const kv_problems *problems,
                                  const kv_sandbox_result *results, FILE *out, kv_error *err) {
    const int64_t n = problems->n;
    const kv_problem **all = calloc((size_t)n, sizeof *all);
    const char **solutions = calloc((size_t)n, sizeof *solutions);
    char **found = calloc((size_t)n, sizeof *found);
    kv_status status = all && solutions && found
                           ? KV_OK
                           : kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " programs", n);
    for (int64_t i = 0; status == KV_OK && i < n; i++)
        all[i] = &problems->items[i], solutions[i] = problems->items[i].canonical_solution;
    if (status == KV_OK) status = kv_redefined_find(sandbox, all, solutions, results, n, found, err);
    int64_t n_found = 0;
    for (int64_t i = 0; found && i < n; i++) {
        if (status == KV_OK && found[i]) {
            fprintf(out, "%s: redefines %s\n", problems->items[i].task_id, found[i]);
            n_found++;
        }
        free(found[i]);
    }
    if (n_found > 0)
        fprintf(out, "%" PRIi64 " of %" PRIi64 " programs redefine what their tests rely on\n", n_found, n);
    free(all);
    free(solutions);
    free(found);
    return status;
}

kv_status kv_check_tests(const char *path, const kv_sandbox_options *options, FILE *out, int64_t *n_problems,
                         int64_t *n_failed, kv_error *err) {
    kv_problems problems;
    kv_sandbox *sandbox = NULL;
    struct checking checking = {.done = 0};
    *n_problems = *n_failed = 0;
    kv_status status = kv_humaneval_read(path, &problems, err);
    if (status != KV_OK) return status;
    kv_program *programs = calloc((size_t)problems.n, sizeof *programs);
    kv_sandbox_result *results = calloc((size_t)problems.n, sizeof *results);
    if (!programs || !results)
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " programs", problems.n);
    if (status == KV_OK) status = kv_sandbox_open(options, &sandbox, err);
    const double start = kv_now();
    if (status == KV_OK) status = run_solutions(sandbox, &problems, programs, results, &checking, err);
    if (status == KV_OK) {
        report(&problems, results, kv_now() - start, out);
        status = report_redefined(sandbox, &problems, results, out, err);
        *n_problems = problems.n;
        *n_failed = checking.failed;
    }
    for (int64_t i = 0; programs && i < problems.n; i++) free((char *)programs[i].source);
    kv_sandbox_free(sandbox);
    free(programs);
    free(results);
    kv_problems_free(&problems);
    return status;
}
