// What answers cost: FLOPs of a task's prompts, worked out, and the time to the first token, by the clock.
#pragma once

#include "eval/evaluate/evaluation.h"
#include "infer/ttft.h"

// Of a prompt's products up to the first token (kv_system_flops or its like, infer/cost.h), mean over the items of the task.
typedef uint64_t kv_flops_fn(const kv_system *system, int64_t n);
double kv_task_flops(const kv_system *system, const kv_benchmark *benchmark, kv_flops_fn *flops);

// The size of prompt that the tables give the time for: `ttft.prompt_tokens`, or the mean prompt of the tasks.
int64_t kv_timing_prompt(const kv_evaluation *evaluation);

// The sizes that are measured. tasks[n_tasks]: of them what says whether their items are a grid (n_items, n_skipped, grid);
// systems: their shapes will do. Caller frees *cells. KV_ERR_MEMORY.
kv_status kv_timing_cells(const kv_evaluation *evaluation, const kv_system *systems,
                          const kv_result_task *tasks, int64_t n_tasks, kv_ttft_cell **cells, int64_t *n,
                          kv_error *err);

// Measures all systems: that size, the grid of `ttft.prompts` and `ttft.batches`, and of every task whose items are a grid
// its lengths, one prompt at a time. Of these, sizes that fit no context or not into memory are left out; all others are an
// error then. The timings are added to the results in that order, each size once.
kv_status kv_evaluation_measure(const kv_evaluation *evaluation, kv_results *results, kv_error *err);
