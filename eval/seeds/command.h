// `kveval seeds`: evaluations that differ in seed become one table, one picture and two files.
#pragma once

#include "data/table/format.h"
#include "eval/report/pictures.h"
#include "eval/seeds/seeds.h"

typedef struct kv_seeds_options {
    char **inputs; // [n_inputs] directories of evaluations, or their results.h5
    int64_t n_inputs;
    const char *output;         // where files go; NULL: nowhere
    const char *const *against; // [n_against] names of systems that all others are compared with
    int64_t n_against;
    kv_eval_picture picture; // line: also where shares of the way begin
    const kv_table_format *format;
} kv_seeds_options;

// Prints the tables on `out` and writes seeds.csv, significance.csv and pareto.* to the output, whole or not at all. note: see
// eval/plot/plot.h. KV_ERR_MISMATCH where evaluations do not go together; KV_ERR_ARGUMENT: there is no such system.
kv_status kv_seeds_join(const kv_seeds_options *options, FILE *out, char note[KV_PLOT_NOTE], kv_error *err);

// The command line; argv[0] is "kveval seeds". Returns the exit status.
int kv_seeds_main(int argc, char **argv);
