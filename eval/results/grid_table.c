// Where does each system lose the needle? By length, by depth, and where it is worst: the map itself is a picture.
#include "data/file/csv.h"
#include "data/table/table.h"
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
    kv_table_value(table, figure, "%s", figure_text(metric, figure, text));
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
        kv_table_value(table, worst.figure, "%s everywhere", figure);
    else
        kv_table_value(table, worst.figure, "%s at %lld, depth %.3g%s", figure,
                       (long long)grid->axes.lengths[worst.length], grid->axes.depths[worst.depth], more);
}

static void columns(kv_table *table, const kv_grid *grid) {
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

static void title(kv_table *table, const kv_grid *grid) {
    const kv_result_task *t = &grid->results->tasks[grid->task];
    const kv_metric *metric = kv_metric_of(t->metrics[0]);
    kv_table_title(
        table,
        "%s, %s: %s%s by the length of the prompt, and by the depth of the answer in it (0: its beginning)",
        t->name, t->split, metric->label ? metric->label : t->metrics[0], metric->share ? " in %" : "");
}

static void add_grid(const kv_grid *grid, kv_tables *tables) {
    const kv_results *r = grid->results;
    const kv_metric *metric = kv_metric_of(r->tasks[grid->task].metrics[0]);
    const int64_t n_lengths = grid->axes.n_lengths, n_depths = grid->axes.n_depths;
    kv_table *table = kv_tables_add(tables, KV_FOR_PEOPLE, "grid");
    columns(table, grid);
    title(table, grid);
    for (int64_t s = 0; s < r->n_systems; s++) {
        if (!was_asked(kv_results_outcome(r, s, grid->task))) continue;
        kv_table_cell(table, "%s", r->systems[s].name);
        for (int64_t l = 0; l < n_lengths; l++)
            figure_cell(table, metric, kv_grid_at(grid, s, l, n_depths)->figure);
        for (int64_t d = 0; d < n_depths && n_depths > 1; d++)
            figure_cell(table, metric, kv_grid_at(grid, s, n_lengths, d)->figure);
        worst_cell(table, grid, metric, s);
    }
}

// ---- Programs ------------------------------------------------------------------------------------------

static void data_columns(kv_table *table, const kv_grid *grid) {
    static const char *const texts[] = {"task", "split", "system", "family"};
    const char *metric = grid->results->tasks[grid->task].metrics[0];
    for (int i = 0; i < 4; i++) kv_table_hidden(table, KV_FIELD_TEXT, texts[i]);
    kv_table_hidden(table, KV_FIELD_WHOLE, "length");
    kv_table_hidden(table, KV_FIELD_NUMBER, "depth");
    kv_table_hidden(table, KV_FIELD_WHOLE, "n_items");
    kv_table_hidden(table, KV_FIELD_NUMBER, metric);
    kv_table_hidden(table, KV_FIELD_INTERVAL, metric);
}

// Neither length nor depth of what is over all of them.
static kv_status data_row(kv_table *table, const kv_grid *grid, int64_t system, int64_t length, int64_t depth,
                          kv_error *err) {
    const kv_results *r = grid->results;
    const kv_grid_cell *cell = kv_grid_at(grid, system, length, depth);
    kv_interval interval;
    kv_status status = kv_grid_interval(grid, system, length, depth, &interval, err);
    if (status != KV_OK) return status;
    kv_table_cell(table, "%s", r->tasks[grid->task].name);
    kv_table_cell(table, "%s", r->tasks[grid->task].split);
    kv_table_cell(table, "%s", r->systems[system].name);
    kv_table_cell(table, "%s", r->systems[system].family);
    kv_table_number(table, "%.0f", 1,
                    length < grid->axes.n_lengths ? (double)grid->axes.lengths[length] : (double)NAN);
    kv_table_number(table, "%g", 1, depth < grid->axes.n_depths ? grid->axes.depths[depth] : (double)NAN);
    kv_table_number(table, "%.0f", 1, (double)cell->n_items);
    kv_table_number(table, "%g", 1, cell->figure);
    kv_table_pair(table, interval.low, interval.high, "%g-%g", interval.low, interval.high);
    return KV_OK;
}

static kv_status add_rows(const kv_grid *grid, kv_tables *tables, kv_error *err) {
    kv_table *table = kv_tables_add(tables, KV_FOR_PROGRAMS, "grid");
    kv_status status = KV_OK;
    data_columns(table, grid);
    title(table, grid);
    for (int64_t s = 0; s < grid->results->n_systems; s++)
        for (int64_t l = 0; l <= grid->axes.n_lengths && status == KV_OK; l++)
            for (int64_t d = 0; d <= grid->axes.n_depths && status == KV_OK; d++)
                if (was_asked(kv_results_outcome(grid->results, s, grid->task)))
                    status = data_row(table, grid, s, l, d, err);
    return status;
}

kv_status kv_grid_tables(const kv_results *results, kv_tables *tables, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t t = 0; status == KV_OK && t < results->n_tasks; t++) {
        kv_grid grid;
        if (kv_grid_make(results, t, &grid, NULL) == KV_OK && grid.cells) {
            add_grid(&grid, tables);
            status = add_rows(&grid, tables, err);
        } else if (results->tasks[t].grid.lengths)
            kv_table_title(kv_tables_add(tables, KV_FOR_ALL, "grid"),
                           "%s, %s: more than %d lengths or depths are no grid", results->tasks[t].name,
                           results->tasks[t].split, KV_GRID_MOST);
        kv_grid_free(&grid);
    }
    return status;
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
