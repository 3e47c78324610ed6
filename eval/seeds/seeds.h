// Evaluations of the same systems and tasks that differ in their seed, as one: what each figure is on the average, how far
// the seeds lie apart, and whether two systems differ. `kveval seeds`; eval/README.md, "Over seeds".
//
//                 seed 1   seed 2   seed 3
//      base         [figures of every task and metric]
//      ours           …        …        -       a system may be missing where its training failed: n is 2 then
//
// Models are trained anew with each seed, and questions may be drawn anew: a task is the same when name, split, kind,
// metrics, shots, how they are drawn and chat are, whatever its items.
#pragma once

#include "core/spread.h"
#include "eval/results/results.h"
#include "eval/statistics/student.h"

typedef struct kv_seed_system {
    const char *name, *family; // borrowed from the first evaluation that has it
    int64_t base;              // the row it is compared with
    int64_t *at;               // [n] its row in each evaluation; -1: it has none there
} kv_seed_system;

typedef struct kv_seeds {
    int64_t n; // evaluations, one a seed
    kv_results *runs;
    char **paths;
    int64_t n_systems, n_tasks;
    kv_seed_system *systems; // in the order of the first evaluation, then of what only others have
    int64_t *tasks;          // [n_tasks, n] the task of the first evaluation in each
    int64_t line;            // the system that shares of the way begin at; -1: none
} kv_seeds;

// What is known of a system at a metric of a task with one seed.
typedef enum kv_seed_figure {
    KV_SEED_FIGURE,    // the metric's figure, in its own unit
    KV_SEED_RETENTION, // kv_figure.retention
    KV_SEED_WAY,   // (line - system) / (line - base), of nats: 0 as bad as the line, 1 as good as the base
    KV_SEED_PAPER, // the reduction of FLOPs, in the paper's convention
    KV_SEED_EXACT, // likewise, every product counted
    KV_SEED_CLOCK, // of the measured time to the first token
    KV_SEED_N_FIGURES
} kv_seed_figure;

// One metric of one task.
typedef struct kv_seed_place {
    int64_t task;
    int metric;
} kv_seed_place;

// Two systems, over seeds and over items: models vary by seed, questions by item.
typedef struct kv_seed_test {
    kv_student seeds; // pairs of figures of the same seed
    kv_paired
        items; // all items of all seeds that both were asked, as if they were one task; weighted as results.h says
    int64_t n_items;
} kv_seed_test;

// Reads results.h5 of each (a directory of one, or the file; a directory that kveval seeds has left is passed over with a note) and finds out what is the same in all; line NULL: none. Free with
// kv_seeds_close, also after a failure; *seeds must be zeroed before. KV_ERR_MISMATCH names what does not go together: a task
// that is missing, or of another kind, metrics, shots, how they are drawn or chat; a system with another base; no system in common; a file twice. The same
// models with the same answers from two files are warned of. KV_ERR_ARGUMENT: no system is called `line`.
kv_status kv_seeds_open(char *const *paths, int64_t n, const char *line, kv_seeds *seeds, kv_error *err);
void kv_seeds_close(kv_seeds *seeds);

// The row, or -1; the task's name, split, kind and metrics, as the first evaluation has it.
int64_t kv_seeds_find(const kv_seeds *seeds, const char *name);
const kv_result_task *kv_seeds_task(const kv_seeds *seeds, int64_t task);

// What a system came to at a task with one seed; NULL where it has no row.
const kv_outcome *kv_seeds_outcome(const kv_seeds *seeds, int64_t system, int64_t task, int64_t run);
// NAN where it is not known.
double kv_seeds_value(const kv_seeds *seeds, kv_seed_figure which, int64_t system, kv_seed_place place,
                      int64_t run);
// Over the seeds there are.
kv_spread kv_seeds_spread(const kv_seeds *seeds, kv_seed_figure which, int64_t system, kv_seed_place place);
// Whether shares of the way are known of that metric: of nats, with a line.
bool kv_seeds_has_way(const kv_seeds *seeds, kv_seed_place place);

kv_status kv_seeds_compare(const kv_seeds *seeds, int64_t system, int64_t other, kv_seed_place place,
                           kv_seed_test *test, kv_error *err);

// ---- What is shown and left ----------------------------------------------------------------------------

// Systems that all others are compared with, beside their bases.
typedef struct kv_seeds_against {
    const int64_t *systems;
    int64_t n;
} kv_seeds_against;

// A table for every task, one for each system they are compared with, and what is missing.
kv_status kv_seeds_tables(const kv_seeds *seeds, const kv_seeds_against *against, kv_tables *tables,
                          kv_error *err);

// seeds.csv: a row per system, task, split and metric. significance.csv: a row for each comparison. Written to `path` as it is.
kv_status kv_seeds_write_csv(const kv_seeds *seeds, const char *path, kv_error *err);
kv_status kv_seeds_write_tests(const kv_seeds *seeds, const kv_seeds_against *against, const char *path,
                               kv_error *err);

// Results whose figures are the means, with one sd to each side in place of the intervals: what a picture is drawn of.
// Items are those of one seed. Free with kv_results_free.
kv_status kv_seeds_mean(const kv_seeds *seeds, kv_results *mean, kv_error *err);
