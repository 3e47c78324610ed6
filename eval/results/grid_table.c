// Where does each system lose the needle? By length, by depth, and where it is worst: the map itself is a picture.
#include "data/file/csv.h"
#include "data/system/table.h"
#include "eval/results/grid.h"
#include "eval/statistics/metric.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool was_asked(const kv_outcome *o) {
    return o->values || o->not_finite;
}

// ---- The terminal --------------------------------------------------------------------------------------

// Without the sign of per cent, which the heading has.
static char *figure_text(const kv_metric *metric, double figure, char text[KV_METRIC_TEXT]) {
    static const char sign[] = " %";
    kv_metric_text(metric, figure, text);
    const size_t length = strlen(text), end = length > sizeof sign ? length - (sizeof sign - 1) : 0;
    if (!strcmp(text + end, sign)) text[end] = '\0';
    return text;
}

static void figure_cell(kv_table *table, const kv_metric *metric, double figure) {
    char text[KV_METRIC_TEXT];
    kv_table_cell(table, "%s", figure_text(metric, figure, text));
}

static void worst_cell(kv_table *table, const kv_grid *grid, const kv_metric *metric, int64_t system) {
    kv_grid_worst worst;
    if (!kv_grid_find_worst(grid, system, &worst)) {
        kv_table_cell(table, "%s",
                      kv_results_outcome(grid->results, system, grid->task)->not_finite ? KV_NOT_FINITE
                                                                                        : "-");
        return;
    }
    char figure[KV_METRIC_TEXT], more[48] = "";
    figure_text(metric, worst.figure, figure);
    if (worst.n_as_bad > 1) snprintf(more, sizeof more, " and %lld more", (long long)worst.n_as_bad - 1);
    if (worst.n_as_bad == worst.n_cells)
        kv_table_cell(table, "%s everywhere", figure);
    else
        kv_table_cell(table, "%s at %lld, depth %.3g%s", figure, (long long)grid->axes.lengths[worst.length],
                      grid->axes.depths[worst.depth], more);
}

static void print_columns(kv_table *table, const kv_grid *grid) {
    char title[32];
    kv_table_column(table, "", "system", true);
    for (int64_t l = 0; l < grid->axes.n_lengths; l++) {
        snprintf(title, sizeof title, "%lld", (long long)grid->axes.lengths[l]);
        kv_table_column(table, "length in tokens", title, false);
    }
    for (int64_t d = 0; d < grid->axes.n_depths && grid->axes.n_depths > 1; d++) {
        snprintf(title, sizeof title, "%.3g", grid->axes.depths[d]);
        kv_table_column(table, "depth", title, false);
    }
    kv_table_column(table, "", "worst", false);
}

static void print_grid(const kv_grid *grid, FILE *out) {
    const kv_results *r = grid->results;
    const kv_result_task *t = &r->tasks[grid->task];
    const kv_metric *metric = kv_metric_of(t->metrics[0]);
    const int64_t n_lengths = grid->axes.n_lengths, n_depths = grid->axes.n_depths;
    kv_table *table = kv_table_create();
    print_columns(table, grid);
    for (int64_t s = 0; s < r->n_systems; s++) {
        if (!was_asked(kv_results_outcome(r, s, grid->task))) continue;
        kv_table_cell(table, "%s", r->systems[s].name);
        for (int64_t l = 0; l < n_lengths; l++)
            figure_cell(table, metric, kv_grid_at(grid, s, l, n_depths)->figure);
        for (int64_t d = 0; d < n_depths && n_depths > 1; d++)
            figure_cell(table, metric, kv_grid_at(grid, s, n_lengths, d)->figure);
        worst_cell(table, grid, metric, s);
    }
    fprintf(
        out,
        "%s, %s: %s%s by the length of the prompt, and by the depth of the answer in it (0: its beginning)\n",
        t->name, t->split, metric->label ? metric->label : t->metrics[0], metric->share ? " in %" : "");
    kv_table_print(table, out);
    kv_table_free(table);
}

void kv_grid_print(const kv_results *results, FILE *out) {
    for (int64_t t = 0; t < results->n_tasks; t++) {
        kv_grid grid;
        if (kv_grid_make(results, t, &grid, NULL) == KV_OK && grid.cells) {
            fputc('\n', out);
            print_grid(&grid, out);
        } else if (results->tasks[t].grid.lengths)
            fprintf(out, "\n%s, %s: more than %d lengths or depths are no grid\n", results->tasks[t].name,
                    results->tasks[t].split, KV_GRID_MOST);
        kv_grid_free(&grid);
    }
}

// ---- grid.csv ------------------------------------------------------------------------------------------

static void length_cells(kv_csv *csv, const kv_grid *grid, int64_t system, int64_t length) {
    const bool one = length < grid->axes.n_lengths;
    const kv_timing *timing = kv_grid_timing(grid, length);
    kv_csv_number(csv, kv_grid_reduction(grid, system, length));
    kv_csv_number(csv, one && grid->axes.tokens[length] ? (double)grid->axes.tokens[length] : NAN);
    kv_csv_number(csv, timing ? timing->seconds[system] : NAN);
    kv_csv_number(csv, timing ? timing->spread[system] : NAN);
    kv_csv_number(csv, timing ? timing->reduction[system] : NAN);
}

static kv_status cell_row(kv_csv *csv, const kv_grid *grid, int64_t system, int64_t length, int64_t depth,
                          kv_error *err) {
    const kv_results *r = grid->results;
    const kv_result_task *t = &r->tasks[grid->task];
    const kv_grid_cell *cell = kv_grid_at(grid, system, length, depth);
    kv_interval interval;
    kv_status status = kv_grid_interval(grid, system, length, depth, &interval, err);
    if (status != KV_OK) return status;
    kv_csv_text(csv, r->systems[system].name);
    kv_csv_text(csv, r->systems[system].family);
    kv_csv_text(csv, t->name);
    kv_csv_text(csv, t->split);
    kv_csv_text(csv, t->metrics[0]);
    kv_csv_number(csv, length < grid->axes.n_lengths ? (double)grid->axes.lengths[length] : NAN);
    kv_csv_number(csv, depth < grid->axes.n_depths ? grid->axes.depths[depth] : NAN);
    kv_csv_number(csv, (double)cell->n_items);
    kv_csv_number(csv, cell->figure);
    kv_csv_number(csv, interval.low);
    kv_csv_number(csv, interval.high);
    length_cells(csv, grid, system, length);
    kv_csv_text(csv, kv_metric_better(kv_metric_of(t->metrics[0])));
    kv_csv_text(csv, kv_results_outcome(r, system, grid->task)->not_finite ? KV_NOT_FINITE : "");
    kv_csv_end_row(csv);
    return KV_OK;
}

// All cells, then each length over all depths, then each depth over all lengths.
static kv_status system_rows(kv_csv *csv, const kv_grid *grid, int64_t system, kv_error *err) {
    const int64_t n_lengths = grid->axes.n_lengths, n_depths = grid->axes.n_depths;
    kv_status status = KV_OK;
    for (int64_t l = 0; l < n_lengths; l++)
        for (int64_t d = 0; d < n_depths && status == KV_OK; d++)
            status = cell_row(csv, grid, system, l, d, err);
    for (int64_t l = 0; l < n_lengths && status == KV_OK; l++)
        status = cell_row(csv, grid, system, l, n_depths, err);
    for (int64_t d = 0; d < n_depths && status == KV_OK; d++)
        status = cell_row(csv, grid, system, n_lengths, d, err);
    return status;
}

kv_status kv_grid_write_csv(const kv_results *r, const char *path, kv_error *err) {
    kv_csv *csv;
    kv_status status =
        kv_csv_create(path,
                      "system,family,task,split,metric,length,depth,n_items,accuracy,accuracy_low,"
                      "accuracy_high,flops_reduction_exact,prompt_tokens,ttft_seconds,ttft_spread,"
                      "ttft_reduction,better,note",
                      &csv, err);
    if (status != KV_OK) return status;
    for (int64_t t = 0; t < r->n_tasks && status == KV_OK; t++) {
        kv_grid grid;
        status = kv_grid_make(r, t, &grid, err);
        for (int64_t s = 0; s < r->n_systems && grid.cells && status == KV_OK; s++)
            if (was_asked(kv_results_outcome(r, s, t))) status = system_rows(csv, &grid, s, err);
        kv_grid_free(&grid);
    }
    return kv_csv_close(csv, status, err);
}
