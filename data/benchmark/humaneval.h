// HumanEval's files: problems as JSON lines (task_id, prompt, entry_point, canonical_solution, test), plain
// or gzip.
//                                                                    [Chen et al. 2021]
#pragma once

#include "core/status.h"

#include <stdint.h>

typedef struct kv_problem {
    char *task_id;
    char *prompt;             // source up to the body that is asked for
    char *entry_point;        // name of the function
    char *canonical_solution; // a body that passes
    char *test;               // source that defines check(candidate)
    char *where;              // "FILE:LINE"
} kv_problem;

typedef struct kv_problems {
    kv_problem *items;
    int64_t n;
} kv_problems;

// Every task_id once, every entry_point a Python name. A bad line is an error naming file, line and key.
kv_status kv_humaneval_read(const char *path, kv_problems *problems, kv_error *err);
void kv_problems_free(kv_problems *problems);

// The program that tries a completion: prompt + completion + test + check(entry_point). Caller frees; NULL
// when out of memory.
char *kv_problem_program(const kv_problem *problem, const char *completion);
