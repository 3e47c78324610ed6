// Files of programming problems, JSON lines, plain or gzip: HumanEval and MBPP, and evalplus's editions of both with
// more tests, which exist in two formats each: with all tests as a program (Hugging Face), and with lists of inputs for
// which a program has to return what the problem's own solution returns (evalplus's own).
//                                        [Chen et al. 2021; Austin et al. 2021; Liu et al. 2023]
#pragma once

#include "core/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kv_problem {
    char *task_id;
    char *prompt;             // what is read, and what the program begins with
    char *entry_point;        // name of the function that is asked for; "" where it cannot be told (MBPP)
    char *canonical_solution; // what goes on from the prompt and passes
    // All tests: source that stands behind the program; NULL: the inputs below.
    char *test;
    bool calls_check; // the test defines check(candidate), which is to be called with the function
    // The tests of the benchmark that has been extended, apart; NULL: there are none, or they are inputs too.
    char *base_test;
    // JSON lists of argument lists, as the file has them: their numbers may have any number of digits. NULL: none.
    char *base_input, *plus_input;
    double atol; // by which numbers returned may differ
    char *where; // "FILE:LINE"
} kv_problem;

typedef struct kv_problems {
    kv_problem *items;
    int64_t n;
} kv_problems;

// Kinds of files: "humaneval", "humanevalplus", "mbpp", "mbppplus".
typedef struct kv_problem_kind {
    const char *name, *title; // title: as people write it
    bool whole;               // what is asked for is a whole program, and not a function's body
    bool splits;              // task_id says which split of MBPP a problem is of
    double timeout;           // seconds that a program may run, unless somebody says
} kv_problem_kind;

// NULL when there is none of that name.
const kv_problem_kind *kv_problem_kind_find(const char *name);
// The i-th, from 0 on; NULL behind the last.
const kv_problem_kind *kv_problem_kind_at(int i);
// The kind that a line of a file seems to be of; NULL: none.
const kv_problem_kind *kv_problem_kind_of(const json_t *line);

// Every task_id once, every entry_point a Python name. kind NULL: the one that the first line seems to be of; *found,
// unless NULL, is the kind taken. A bad line is KV_ERR_FORMAT naming file, line and key. Free with kv_problems_free
// (accepts an empty one); on failure it is empty.
kv_status kv_problems_read(const char *path, const kv_problem_kind *kind, kv_problems *problems,
                           const kv_problem_kind **found, kv_error *err);
void kv_problems_free(kv_problems *problems);

// Leaves only the problems whose task_id is of a split of MBPP: "test", "validation", "train", "prompt", or "all" of
// them. KV_ERR_RANGE when none is left, or there is no such split.
kv_status kv_problems_keep_split(kv_problems *problems, const char *split, kv_error *err);
// Whether there is one.
bool kv_problem_split_known(const char *split);

// Frees what it holds.
void kv_problem_free(kv_problem *problem);

// Whether a problem has tests of the benchmark that was extended, apart from all: then all problems of its file have.
static inline bool kv_problem_has_base(const kv_problem *problem) {
    return problem->base_test || problem->base_input;
}

// ---- The parts -----------------------------------------------------------------------------------------

// Fills an empty problem from a line of JSON, entry and text[size] alike; where is its place. On failure the problem
// may be half full.
kv_status kv_problem_row(const kv_problem_kind *kind, const json_t *entry, const char *text, size_t size,
                         const char *where, kv_problem *problem, kv_error *err);
