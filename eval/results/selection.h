// Which systems of the results are worth having: the Pareto front, and the best of every family within a
// budget of FLOPs.
#pragma once

#include "eval/results/results.h"

// on_front[n_systems]: no other system has both a reduction of exact FLOPs at least as large and a figure (of the
// task's first metric) at least as good, and one of them larger or better. Systems that were not asked are not on it. False when
// out of memory.
bool kv_results_front(const kv_results *results, int64_t task, bool *on_front);

typedef struct kv_budget_choice {
    double budget; // fraction of the base's exact FLOPs up to the first token
    const kv_result_task *task;
    const char *family;
    const kv_result_system *system;
    const kv_figure *figure; // what it scores
    double fraction;         // of the base's FLOPs it takes
} kv_budget_choice;

typedef void kv_budget_choice_fn(const kv_budget_choice *choice, void *context);

// Calls `each` for every budget and every family that has a system within it, budgets in their order,
// families in the order of their first row.
kv_status kv_results_choose(const kv_results *results, int64_t task, kv_budget_choice_fn *each, void *context,
                            kv_error *err);
