// The rows of a sweep's table: what table.c puts together and writes, and table_print.c makes tables of.
#pragma once

#include "data/file/csv.h"
#include "data/table/table.h"
#include "train/sweep/sweep.h"

// Columns of kveval's results.csv.
enum {
    KV_SWEEP_ACCURACY,
    KV_SWEEP_LOW,
    KV_SWEEP_HIGH,
    KV_SWEEP_RETENTION,
    KV_SWEEP_RETENTION_LOW,
    KV_SWEEP_RETENTION_HIGH,
    KV_SWEEP_P_VALUE,
    KV_SWEEP_PAPER,
    KV_SWEEP_EXACT,
    KV_SWEEP_N_FIGURES,
    KV_SWEEP_SYSTEM = KV_SWEEP_N_FIGURES,
    KV_SWEEP_TASK,
    KV_SWEEP_SPLIT,
    KV_SWEEP_METRIC,
    KV_SWEEP_BETTER,
    KV_SWEEP_N_COLUMNS
};

// What one run of kveval has left: of all runs, or of one seed.
typedef struct kv_sweep_source {
    const uint64_t *seed; // NULL: of all
    kv_csv_table csv;     // empty where nothing was evaluated
    int64_t column[KV_SWEEP_N_COLUMNS];
} kv_sweep_source;

// One row: a run (or NULL: a system of the eval file's own) and a row of the source (-1: none).
typedef struct kv_sweep_row {
    const kv_sweep_run *run;
    const kv_sweep_source *source;
    int64_t result;
} kv_sweep_row;

typedef struct kv_sweep_rows {
    const kv_sweep *sweep;
    kv_sweep_source *sources;
    size_t n_sources;
    kv_sweep_row *rows; // the eval file's own systems first, then the runs in the sweep's order
    size_t n_rows;
    kv_csv_table tests;                   // kveval seeds' significance.csv; empty without
    double *train_loss, *validation_loss; // [n_runs], NAN where not known
} kv_sweep_rows;

// What results.csv has there; "" without a row, or a column.
const char *kv_sweep_row_text(const kv_sweep_row *row, int column);
// NAN of an empty one.
double kv_sweep_row_number(const kv_sweep_row *row, int column);
bool kv_sweep_row_lower_is_better(const kv_sweep_row *row);
// What the row is about: a run without its seed, or a system.
const char *kv_sweep_row_name(const kv_sweep_row *row);

// A table for each task, split and metric; of a sweep with seeds mean ± standard deviation of all rows of one name.
void kv_sweep_row_tables(const kv_sweep_rows *rows, kv_tables *tables);
