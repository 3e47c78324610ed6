// Source is put together as text: what comes from files stands in it as it is (tests) or as a Python string. Programs that
// fail the few tests of the original benchmark are spared the many.
#include "eval/benchmark/program.h"

#include "data/file/embedded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Source --------------------------------------------------------------------------------------------

extern const kv_embedded kv_test_files[]; // evalplus.py, stand_in.py

static const char *file_named(const char *name) {
    const kv_embedded *file = kv_test_files;
    while (file->name && strcmp(file->name, name) != 0) file++;
    return file->text;
}

static void put_string(FILE *out, const char *text) {
    fputc('\'', out);
    for (const char *c = text; *c; c++)
        if (*c == '\n')
            fputs("\\n", out);
        else if (*c == '\r')
            fputs("\\r", out);
        else
            fprintf(out, *c == '\'' || *c == '\\' ? "\\%c" : "%c", *c);
    fputc('\'', out);
}

// Runs a file in a space of its own: whatever the program calls a function does not get in its way. No name leads to the
// space, so that the program, when its turn comes, finds nothing there to exchange.
static void put_file(FILE *out, const char *name, const char *space) {
    fputs("exec(", out);
    put_string(out, file_named(name));
    fprintf(out, ", %s)", space);
}

static void put_inputs(FILE *out, const kv_problem *p, kv_test_set set) {
    fputs("(lambda space: (", out);
    put_file(out, "evalplus", "space");
    fprintf(out, ", space['compare'](%s, '%s', ", p->entry_point, p->entry_point);
    put_string(out, p->task_id);
    fputs(", ", out);
    put_string(out, p->prompt);
    fputs(" + ", out);
    put_string(out, p->canonical_solution);
    fprintf(out, ", %.17g, ", p->atol);
    put_string(out, p->base_input);
    if (set == KV_TESTS_ALL) {
        fputs(", ", out);
        put_string(out, p->plus_input);
    }
    fputs(")))({})\n", out);
}

char *kv_problem_tests(const kv_problem *p, kv_test_set set) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    const char *test = set == KV_TESTS_BASE ? p->base_test : p->test;
    if (!test) {
        put_inputs(out, p, set);
    } else {
        if (strstr(test, "import numpy")) {
            put_file(out, "stand_in", "{}");
            fputc('\n', out);
        }
        fprintf(out, "%s\n", test);
        if (p->calls_check) fprintf(out, "check(%s)\n", p->entry_point);
    }
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

char *kv_problem_program(const kv_problem *p, const char *completion, kv_test_set set) {
    char *text = NULL, *tests = kv_problem_tests(p, set);
    if (!tests || asprintf(&text, "%s%s\n%s", p->prompt, completion, tests) < 0) text = NULL;
    free(tests);
    return text;
}

// ---- Runs ----------------------------------------------------------------------------------------------

// A run of some of the programs with one set of tests.
struct pass {
    kv_test_set set;
    kv_program *programs; // [n]
    kv_sandbox_result *results;
    int64_t *index, n; // which of all they are
    kv_programs_done_fn *done;
    void *context;
    bool last; // those that pass need no more runs
};

static void tell(void *context, int64_t index, const kv_sandbox_result *result) {
    (void)index;
    const struct pass *pass = context;
    const bool passed = result->verdict == KV_VERDICT_PASSED;
    if (pass->done && (pass->last || !passed)) pass->done(pass->context, passed);
}

static kv_status run_pass(kv_sandbox *sandbox, const kv_problem *const *problems,
                          const char *const *completions, struct pass *pass, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; i < pass->n && status == KV_OK; i++) {
        const int64_t p = pass->index[i];
        pass->programs[i].source = kv_problem_program(problems[p], completions[p], pass->set);
        if (pass->programs[i].source)
            pass->programs[i].length = strlen(pass->programs[i].source);
        else
            status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for a program", problems[p]->where);
    }
    if (status == KV_OK)
        status = kv_sandbox_run(sandbox, pass->programs, pass->n, pass->results, tell, pass, err);
    for (int64_t i = 0; i < pass->n; i++) {
        free((char *)pass->programs[i].source);
        pass->programs[i] = (kv_program){0};
    }
    return status;
}

static kv_status run_both(kv_sandbox *sandbox, const kv_problem *const *problems,
                          const char *const *completions, int64_t n, struct pass *pass,
                          kv_sandbox_result *results, bool *base_passed, kv_error *err) {
    pass->set = KV_TESTS_BASE;
    for (int64_t i = 0; i < n; i++)
        if (kv_problem_has_base(problems[i])) pass->index[pass->n++] = i;
    kv_status status = run_pass(sandbox, problems, completions, pass, err);
    for (int64_t i = 0; i < n; i++) base_passed[i] = true;
    for (int64_t i = 0; i < pass->n && status == KV_OK; i++) {
        results[pass->index[i]] = pass->results[i];
        base_passed[pass->index[i]] = pass->results[i].verdict == KV_VERDICT_PASSED;
    }
    if (status != KV_OK) return status;
    *pass = (struct pass){.set = KV_TESTS_ALL,
                          .programs = pass->programs,
                          .results = pass->results,
                          .index = pass->index,
                          .done = pass->done,
                          .context = pass->context,
                          .last = true};
    for (int64_t i = 0; i < n; i++)
        if (base_passed[i]) pass->index[pass->n++] = i;
    status = run_pass(sandbox, problems, completions, pass, err);
    for (int64_t i = 0; i < pass->n && status == KV_OK; i++) {
        const int64_t p = pass->index[i];
        results[p] = pass->results[i];
        if (!kv_problem_has_base(problems[p])) base_passed[p] = results[p].verdict == KV_VERDICT_PASSED;
    }
    return status;
}

kv_status kv_programs_run(kv_sandbox *sandbox, const kv_problem *const *problems,
                          const char *const *completions, int64_t n, kv_sandbox_result *results,
                          bool *base_passed, kv_programs_done_fn *done, void *context, kv_error *err) {
    struct pass pass = {.programs = calloc((size_t)n + 1, sizeof *pass.programs),
                        .results = calloc((size_t)n + 1, sizeof *pass.results),
                        .index = calloc((size_t)n + 1, sizeof *pass.index),
                        .done = done,
                        .context = context};
    kv_status status = KV_ERR_MEMORY;
    if (pass.programs && pass.results && pass.index)
        status = run_both(sandbox, problems, completions, n, &pass, results, base_passed, err);
    else
        kv_fail(err, status, "out of memory for %lld programs", (long long)n);
    free(pass.programs);
    free(pass.results);
    free(pass.index);
    return status;
}
