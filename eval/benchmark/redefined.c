// The one who looks on is a Python program itself, which carries the source of the other: so it needs nothing of the
// sandbox but what every program has, and no run whose verdict counts is touched.
#include "eval/benchmark/redefined.h"

#include "data/file/embedded.h"
#include "eval/benchmark/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const kv_embedded kv_redefined_files[]; // redefined.py alone
static const char mark[] = "failed: redefined: ";

// NAME = bytes.fromhex('...')
static void put_bytes(FILE *out, const char *name, const char *text) {
    fprintf(out, "%s = bytes.fromhex('", name);
    for (const char *c = text; *c; c++) fprintf(out, "%02x", (unsigned char)*c);
    fputs("')\n", out);
}

static bool make_program(const kv_problem *problem, const char *completion, kv_program *program) {
    char *text = NULL, *tests = kv_problem_tests(problem, KV_TESTS_ALL);
    FILE *out = open_memstream(&text, &program->length);
    if (out && tests) {
        put_bytes(out, "PROMPT", problem->prompt);
        put_bytes(out, "COMPLETION", completion);
        put_bytes(out, "TESTS", tests);
        fprintf(out, "ENTRY = '%s'\n%s", problem->entry_point, kv_redefined_files[0].text);
    }
    const bool whole = out && fclose(out) == 0 && tests;
    free(tests);
    program->source = text;
    return whole;
}

static bool keep_names(const kv_sandbox_result *result, char **found) {
    if (strncmp(result->text, mark, strlen(mark)) != 0) return true;
    *found = strdup(result->text + strlen(mark));
    return *found;
}

kv_status kv_redefined_find(kv_sandbox *sandbox, const kv_problem *const *problems,
                            const char *const *completions, const kv_sandbox_result *results, int64_t n,
                            char **found, kv_sandbox_done_fn *done, void *context, kv_error *err) {
    kv_program *programs = calloc((size_t)n + 1, sizeof *programs);
    kv_sandbox_result *seen = calloc((size_t)n + 1, sizeof *seen);
    int64_t *index = calloc((size_t)n + 1, sizeof *index), n_passed = 0;
    bool ok = programs && seen && index;
    for (int64_t i = 0; i < n; i++) found[i] = NULL;
    for (int64_t i = 0; ok && i < n; i++) {
        if (results[i].verdict != KV_VERDICT_PASSED) continue;
        ok = make_program(problems[i], completions[i], &programs[n_passed]);
        index[n_passed++] = i;
    }
    kv_status status =
        ok ? kv_sandbox_run(sandbox, programs, n_passed, seen, done, context, err) : KV_ERR_MEMORY;
    for (int64_t p = 0; status == KV_OK && ok && p < n_passed; p++)
        ok = keep_names(&seen[p], &found[index[p]]);
    if (!ok)
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for another look at %lld programs", (long long)n);
    for (int64_t p = 0; programs && p < n_passed; p++) free((char *)programs[p].source);
    free(programs);
    free(seen);
    free(index);
    return status;
}
