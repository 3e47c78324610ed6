// The files that results become, whole or not at all.
#pragma once

#include "data/table/format.h"
#include "eval/report/pictures.h"

// results.csv, budgets.csv, ttft.csv, results.h5, errors.csv (where predicted caches were looked at),
// published.csv (the paper's figures, where the picture shows some), pareto.gp, pareto.dat and, with gnuplot,
// pareto.svg, pareto.png and pareto.pdf; the same five named ttft when a grid of prompts was timed. Where items are a grid (eval/results/grid.h),
// grid.csv, and the same five named heat and, with times, grid-ttft (heat-2, … where one is not enough). All
// together or none, as a kv_whole_set: files of an earlier evaluation are replaced or, where this one has no
// such file, removed; what else lies there (samples, models) stays. note: as of kv_plot_draw.
kv_status kv_output_write(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                          char note[KV_PLOT_NOTE], kv_error *err);

// All tables of results, as kveval and its report show them. Free with kv_tables_free; NULL after a failure.
kv_status kv_output_tables(const kv_results *results, kv_tables **tables, kv_error *err);
kv_status kv_output_print(const kv_results *results, const kv_table_format *format, FILE *stream,
                          kv_error *err);

// Whether kv_output_write could write there, before hours of work depend on it. Leaves nothing.
kv_status kv_output_probe(const char *dir, kv_error *err);
