// Of a task whose items lie on a grid (how long the prompt is × how deep in it the answer stands): what each system scores
// on each cell of it, and what a prompt of each length costs.
#pragma once

#include "eval/results/results.h"
#include "eval/statistics/stats.h"

// More lengths or depths are no grid: nobody could read the map. Times of the lengths are those of one prompt.
enum { KV_GRID_MOST = 64, KV_GRID_BATCH = 1 };

// Lengths and depths that there are, in rising order, those of skipped items included.
typedef struct kv_grid_axes {
    int64_t n_lengths, n_depths;
    int64_t lengths[KV_GRID_MOST];
    int64_t
        tokens[KV_GRID_MOST]; // of a prompt of that length, mean over the items asked; 0: all were skipped
    double depths[KV_GRID_MOST];
} kv_grid_axes;

// False: the items are no grid, or more of one than KV_GRID_MOST.
bool kv_grid_axes_of(const kv_result_task *task, kv_grid_axes *axes);

typedef struct kv_grid_cell {
    int64_t n_items; // 0: nothing was asked there
    double figure;   // of the task's first metric (eval/statistics/metric.h), NAN where there is none
} kv_grid_cell;

typedef struct kv_grid {
    const kv_results *results; // borrowed
    int64_t task;
    kv_grid_axes axes;
    kv_grid_cell
        *cells; // [n_systems, n_lengths + 1, n_depths + 1]; the last length and the last depth stand for all
} kv_grid;

// Does not fail for a task without a grid: *grid then has no lengths. Free with kv_grid_free (accepts zeros).
kv_status kv_grid_make(const kv_results *results, int64_t task, kv_grid *grid, kv_error *err);
void kv_grid_free(kv_grid *grid);

// length from 0 to n_lengths (all of them), depth likewise.
const kv_grid_cell *kv_grid_at(const kv_grid *grid, int64_t system, int64_t length, int64_t depth);
// The cell's 95 % bootstrap interval, as an accuracy has it; NAN where there is no figure.
kv_status kv_grid_interval(const kv_grid *grid, int64_t system, int64_t length, int64_t depth,
                           kv_interval *interval, kv_error *err);

// FLOPs of the base up to the first token of the prompts of this length, over the system's; NAN: not known.
double kv_grid_reduction(const kv_grid *grid, int64_t system, int64_t length);
// The timing of one prompt as long as those of this length; NULL: not measured.
const kv_timing *kv_grid_timing(const kv_grid *grid, int64_t length);

// The cell where the system is worst, of equally bad ones that with the shortest length and then the smallest depth; how
// many are as bad, of those that have a figure. False: none has.
typedef struct kv_grid_worst {
    int64_t length, depth, n_as_bad, n_cells;
    double figure;
} kv_grid_worst;
bool kv_grid_find_worst(const kv_grid *grid, int64_t system, kv_grid_worst *worst);

// ---- Files and the terminal ----------------------------------------------------------------------------

bool kv_results_have_grid(const kv_results *results);

// A table for every such task: systems downwards, lengths and depths to the right; for programs a row each, as in grid.csv.
kv_status kv_grid_tables(const kv_results *results, kv_tables *tables, kv_error *err);
// grid.csv: a row per system, length and depth; length or depth empty in those over all of them.
kv_status kv_grid_write_csv(const kv_results *results, const char *path, kv_error *err);
