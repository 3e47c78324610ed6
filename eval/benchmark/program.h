// Programs: prompt, completion, and the tests that try it; and what they come to.
#pragma once

#include "data/benchmark/problems.h"
#include "eval/sandbox/sandbox.h"

typedef enum kv_test_set {
    KV_TESTS_ALL,
    KV_TESTS_BASE, // those of the benchmark that was extended: kv_problem_has_base
} kv_test_set;

// What stands behind prompt + completion. Inputs are handed to the function and to the problem's own solution, run in a
// space of its own; what both return is compared as evalplus does (eval/benchmark/evalplus.py). Tests that import numpy
// get the little of it that they use where it is not installed (eval/benchmark/stand_in.py). Caller frees; NULL when out
// of memory.
char *kv_problem_tests(const kv_problem *problem, kv_test_set set);

// prompt + completion + a new line + the tests. Caller frees; NULL when out of memory.
char *kv_problem_program(const kv_problem *problem, const char *completion, kv_test_set set);

// Called after each program that needs no more runs: `passed` is its verdict.
typedef void kv_programs_done_fn(void *context, bool passed);

// Runs completions[n] of problems[n]. results[n]: of all tests. Where tests of the original benchmark stand apart they
// come first, and base_passed[n] is what they say; a program that fails them is not run with all, its result is theirs.
// Where none stand apart base_passed is the verdict. done may be NULL. Errors as of kv_sandbox_run.
kv_status kv_programs_run(kv_sandbox *sandbox, const kv_problem *const *problems,
                          const char *const *completions, int64_t n, kv_sandbox_result *results,
                          bool *base_passed, kv_programs_done_fn *done, void *context, kv_error *err);
