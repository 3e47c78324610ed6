// Everything an evaluation found out, apart from the models and files it was found with: what results.h5
// holds, and what tables and pictures are made of. Several evaluations can be joined into one.
#pragma once

#include "data/table/table.h"
#include "eval/benchmark/kinds.h"
#include "eval/results/analysis.h"
#include "eval/results/grid_items.h"
#include "eval/statistics/metric.h"
#include "infer/ttft.h"

#include <string.h>

typedef struct kv_result_system {
    char *name, *family;
    char hash[17]; // of weights and pruning policy; "" when not known
    char tokenizer
        [34];     // that it was asked with, "HASH/CUTS" (kv_tokenizer_id); "" when not known, or not asked
    int64_t base; // the row it is compared with
    double paper_reduction; // of FLOPs up to the first token, in the paper's convention (core/README.md §7)
    double lookups;         // numbers read from tables for each predicted token; NAN: not known
} kv_result_system;

typedef struct kv_result_task {
    char *name, *split, *kind, *file;
    char hash[17];
    int64_t shots, n_items, n_units;
    int n_metrics;
    char metrics[KV_MAX_METRICS][KV_METRIC_NAME];
    bool shots_once;          // the same solved examples in front of all items (tasks[].shots_drawn)
    bool chat;                // asked as a user would ask an instruct model
    double *weights;          // [n_items] in means of metrics that weigh items; NULL: all alike
    double prompt_tokens;     // mean over the items
    int64_t n_skipped, n_cut; // items left out, which n_items does not count, and cut ones, as too long
    kv_grid_items grid;       // where they lie, of those that are one
} kv_result_task;

// Whether its answers are programs.
static inline bool kv_task_runs_programs(const kv_result_task *task) {
    return task->kind && (kv_benchmark_kind_find(task->kind).keys & KV_KEYS_PROGRAMS);
}

// What the values of one metric come to (eval/statistics/metric.h), in its own unit; NAN where there is no base, or the base
// scores 0.
typedef struct kv_figure {
    double accuracy, low, high; // kv_metric_figure, and its 95 % bootstrap interval
    // What the system keeps of the base: its figure over the base's, or, where lower is better, the base's over its own; of nats
    // the base's perplexity over its own, e^(base - system). More is better, and where lower is it may exceed 1.
    double retention;
    double retention_low,
        retention_high; // 95 % paired bootstrap interval of that; NAN for a base, which keeps
                        // all of itself; high may be INFINITY (eval/statistics/stats.h)
    double p_value;     // of the paired test against the base; of weighted items on weight · value
} kv_figure;

// One system on one task.
typedef struct kv_outcome {
    double *values;   // [n_metrics, n_items], as the metrics' rows have them; NULL: it was not asked, or is
    char *not_finite; // not finite: it was asked, but this question gave no numbers; NULL: it is
    char **records;   // [n_units], JSON; NULL where values are
    double flops;     // of all matrix products up to the first token, mean over the task's prompts
    // The same with nothing that depends on the token alone looked up, and with all of it; NAN: not known.
    double flops_computed, flops_looked_up;
    double *item_flops;     // [n_items] of each prompt's; NULL where the items are no grid
    double exact_reduction; // the base's over these
    int64_t redefined;      // records of programs that redefined what their tests rely on
    kv_figure figures[KV_MAX_METRICS];
} kv_outcome;

// The names in such a record, as JSON has them: *length bytes; NULL: it is none.
const char *kv_record_redefines(const char *record, size_t *length);

// Measured time to first token of all systems for one size of prompt and batch, in seconds; NAN: not
// measured.
typedef struct kv_timing {
    int64_t prompt_tokens, batch_size, repeats;
    double *seconds, *spread; // [n_systems] median, half the distance between the quartiles
    double *reduction;        // [n_systems] the base's median, of the same run, over its own
    double *flops;            // [n_systems] of one prompt's products
    double *samples;          // [n_systems, repeats]
} kv_timing;

typedef struct kv_results {
    int64_t n_systems, n_tasks, n_timings, n_configs, n_budgets, n_made_by;
    kv_result_system *systems;
    kv_result_task *tasks;
    kv_outcome *outcomes; // [n_systems, n_tasks]
    kv_timing *timings;   // the first is the one that stands in the tables
    kv_analysis analysis; // of predicted caches
    char **configs;       // the resolved configuration of every evaluation in here
    char **made_by;       // what made each of them (data/file/made_by.h); none of older ones
    double *budgets;      // fractions of the base's FLOPs
    uint64_t seed;        // of intervals and tests
    int64_t bootstrap;    // resamples
} kv_results;

// "3 items (2 of 5 skipped: too long)".
enum { KV_TASK_ITEMS = 160 };
char *kv_task_items(const kv_result_task *task, char text[KV_TASK_ITEMS]);

// Empty results of so many systems and tasks: names NULL, numbers NAN, nothing asked. Free with
// kv_results_free.
kv_status kv_results_init(kv_results *results, int64_t n_systems, int64_t n_tasks, kv_error *err);
void kv_results_free(kv_results *results);

// Appends an empty timing. NULL when out of memory.
kv_timing *kv_results_add_timing(kv_results *results, int64_t prompt_tokens, int64_t batch_size,
                                 int64_t repeats);

// What stands where a score would, when the system's numbers were none.
#define KV_NOT_FINITE "not finite"

static inline kv_outcome *kv_results_outcome(const kv_results *results, int64_t system, int64_t task) {
    return &results->outcomes[system * results->n_tasks + task];
}

// The reduction of FLOPs up to the first token: the paper's or the exact one on `task` (or, when there are no
// tasks, at the first timing). NAN when not known.
double kv_result_reduction(const kv_results *results, int64_t system, int64_t task, bool paper);

// Works out figures and exact reductions from values and FLOPs, and counts in records.
kv_status kv_results_derive(kv_results *results, kv_error *err);

// Joins `more` to `results`, which must be derived; both stay the caller's. A task is the same when name,
// split and content are; a system when its name, what it computes, its base and, as far as both are known, the tokenizer
// it was asked with are. A system that both asked
// the same task keeps what `results` says. Names that mean different things get "(2)" behind them. Timings of
// the same size are joined too: reductions, which come from one run each, stay comparable, seconds only as
// far as the machine was the same. Analyses of predicted caches are joined when they are of the same text,
// else the one of `results` stays alone.
kv_status kv_results_join(kv_results *results, const kv_results *more, kv_error *err);
// Whether both are known to have been asked with a tokenizer, and not with the same.
bool kv_result_tokenizers_differ(const kv_result_system *a, const kv_result_system *b);

// ---- Files and the terminal ----------------------------------------------------------------------------

// A table for every task, one over all of them when there are several, one for the budgets, one for predicted
// caches. What programs call their columns is told in eval/README.md.
void kv_results_tables(const kv_results *results, kv_tables *tables);
// The last of them alone; nothing where there was no analysis.
void kv_results_error_tables(const kv_results *results, kv_tables *tables);

// results.csv: a row per system, task, split and metric; shares as fractions of 1, other figures in their own unit, `better` says
// which way; fields empty where a number could not be had, or is infinite. budgets.csv: the best system of every family within each budget. ttft.csv: all timings.
// errors.csv: predicted caches, a row per system, keys or values, and layer. Written to `path` as it is: the
// caller sees to it that they appear whole.
kv_status kv_results_write_csv(const kv_results *results, const char *path, kv_error *err);
kv_status kv_results_write_budgets(const kv_results *results, const char *path, kv_error *err);
kv_status kv_results_write_timings(const kv_results *results, const char *path, kv_error *err);
kv_status kv_results_write_errors(const kv_results *results, const char *path, kv_error *err);

// results.h5 holds all of it, with configuration and versions. Reading gives back what was written, and
// refuses other files and other versions by name.
kv_status kv_results_write_h5(const kv_results *results, const char *path, kv_error *err);
kv_status kv_results_read_h5(const char *path, kv_results *results, kv_error *err);
