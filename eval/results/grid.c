// A cell's figure is that of its items alone, by the metric's own rule: means of means would weigh cells with few items as
// those with many.
#include "eval/results/grid.h"

#include "eval/statistics/metric.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- Axes ----------------------------------------------------------------------------------------------

static int compare_lengths(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int compare_depths(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Puts the value, of `size` bytes, in its place among values[*n], which rise, unless it is there; false: there is no room for it.
static bool place(void *values, int64_t *n, const void *value, size_t size,
                  int (*compare)(const void *, const void *)) {
    int64_t i = *n;
    while (i > 0 && compare((char *)values + (size_t)(i - 1) * size, value) >= 0) i--;
    char *at = (char *)values + (size_t)i * size;
    if (i < *n && compare(at, value) == 0) return true;
    if (*n == KV_GRID_MOST) return false;
    memmove(at + size, at, (size_t)(*n - i) * size);
    memcpy(at, value, size);
    ++*n;
    return true;
}

static bool place_length(kv_grid_axes *axes, int64_t length) {
    return place(axes->lengths, &axes->n_lengths, &length, sizeof length, compare_lengths);
}

static bool place_depth(kv_grid_axes *axes, double depth) {
    return place(axes->depths, &axes->n_depths, &depth, sizeof depth, compare_depths);
}

static int64_t mean_tokens(const kv_result_task *task, int64_t length) {
    int64_t sum = 0, n = 0;
    for (int64_t i = 0; i < task->n_items; i++)
        if (task->grid.lengths[i] == length) sum += task->grid.tokens ? task->grid.tokens[i] : length, n++;
    return n ? (sum + n / 2) / n : 0;
}

bool kv_grid_axes_of(const kv_result_task *task, kv_grid_axes *axes) {
    *axes = (kv_grid_axes){0};
    bool fits = task->grid.lengths && task->grid.depths;
    for (int64_t i = 0; i < task->n_items && fits; i++)
        fits = place_length(axes, task->grid.lengths[i]) && place_depth(axes, task->grid.depths[i]);
    for (int64_t i = 0; task->grid.skipped && i < task->n_skipped && fits; i++)
        fits = place_length(axes, task->grid.skipped[i]);
    for (int64_t l = 0; l < axes->n_lengths && fits; l++)
        axes->tokens[l] = mean_tokens(task, axes->lengths[l]);
    if (!fits) *axes = (kv_grid_axes){0};
    return fits && axes->n_lengths > 0;
}

bool kv_results_have_grid(const kv_results *results) {
    kv_grid_axes axes;
    for (int64_t t = 0; t < results->n_tasks; t++)
        if (kv_grid_axes_of(&results->tasks[t], &axes)) return true;
    return false;
}

// ---- Cells ---------------------------------------------------------------------------------------------

static const kv_result_task *task_of(const kv_grid *grid) {
    return &grid->results->tasks[grid->task];
}

static bool is_in(const kv_grid *grid, int64_t item, int64_t length, int64_t depth) {
    const kv_grid_axes *axes = &grid->axes;
    const kv_result_task *task = task_of(grid);
    return (length == axes->n_lengths || task->grid.lengths[item] == axes->lengths[length]) &&
           (depth == axes->n_depths || task->grid.depths[item] == axes->depths[depth]);
}

// Of a cell's items the values and weights; room for all items of both, the caller's to free. n 0: no items, or the system
// has no values.
struct gathered {
    double *values, *weights; // weights NULL: the task has none
    int64_t n;
};

static bool gather(const kv_grid *grid, int64_t system, int64_t length, int64_t depth, struct gathered *g) {
    const kv_result_task *task = task_of(grid);
    const double *values = kv_results_outcome(grid->results, system, grid->task)->values;
    *g = (struct gathered){.values = calloc((size_t)task->n_items + 1, sizeof *g->values)};
    if (task->weights) g->weights = calloc((size_t)task->n_items + 1, sizeof *g->weights);
    if (!g->values || (task->weights && !g->weights)) return false;
    for (int64_t i = 0; values && i < task->n_items; i++) {
        if (!is_in(grid, i, length, depth)) continue;
        if (g->weights) g->weights[g->n] = task->weights[i];
        g->values[g->n++] = values[i];
    }
    return true;
}

static void forget(struct gathered *g) {
    free(g->values);
    free(g->weights);
}

static const kv_metric *metric_of(const kv_grid *grid) {
    return kv_metric_of(task_of(grid)->metrics[0]);
}

static int64_t count_items(const kv_grid *grid, int64_t length, int64_t depth) {
    int64_t n = 0;
    for (int64_t i = 0; i < task_of(grid)->n_items; i++) n += is_in(grid, i, length, depth);
    return n;
}

static int64_t place_of(const kv_grid *grid, int64_t system, int64_t length, int64_t depth) {
    const kv_grid_axes *axes = &grid->axes;
    return (system * (axes->n_lengths + 1) + length) * (axes->n_depths + 1) + depth;
}

const kv_grid_cell *kv_grid_at(const kv_grid *grid, int64_t system, int64_t length, int64_t depth) {
    return &grid->cells[place_of(grid, system, length, depth)];
}

static bool fill_system(kv_grid *grid, int64_t system) {
    bool ok = true;
    for (int64_t l = 0; l <= grid->axes.n_lengths; l++)
        for (int64_t d = 0; d <= grid->axes.n_depths && ok; d++) {
            struct gathered g;
            ok = gather(grid, system, l, d, &g);
            grid->cells[place_of(grid, system, l, d)] = (kv_grid_cell){
                .n_items = count_items(grid, l, d),
                .figure = ok ? kv_metric_figure(metric_of(grid), g.values, g.weights, g.n) : NAN};
            forget(&g);
        }
    return ok;
}

kv_status kv_grid_make(const kv_results *results, int64_t task, kv_grid *grid, kv_error *err) {
    *grid = (kv_grid){.results = results, .task = task};
    if (!kv_grid_axes_of(&results->tasks[task], &grid->axes)) return KV_OK;
    const size_t n_cells = (size_t)((grid->axes.n_lengths + 1) * (grid->axes.n_depths + 1));
    grid->cells = calloc((size_t)results->n_systems * n_cells + 1, sizeof *grid->cells);
    bool ok = grid->cells != NULL;
    for (int64_t s = 0; s < results->n_systems && ok; s++) ok = fill_system(grid, s);
    if (ok) return KV_OK;
    kv_grid_free(grid);
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the grid of %s", results->tasks[task].name);
}

void kv_grid_free(kv_grid *grid) {
    free(grid->cells);
    *grid = (kv_grid){0};
}

kv_status kv_grid_interval(const kv_grid *grid, int64_t system, int64_t length, int64_t depth,
                           kv_interval *interval, kv_error *err) {
    struct gathered g;
    *interval = (kv_interval){NAN, NAN};
    kv_status status = gather(grid, system, length, depth, &g)
                           ? kv_metric_interval(metric_of(grid), g.values, g.weights, g.n,
                                                grid->results->bootstrap, grid->results->seed, interval, err)
                           : kv_fail(err, KV_ERR_MEMORY, "out of memory for a cell of the grid");
    forget(&g);
    return status;
}

// ---- Costs ---------------------------------------------------------------------------------------------

double kv_grid_reduction(const kv_grid *grid, int64_t system, int64_t length) {
    const kv_results *r = grid->results;
    const double *own = kv_results_outcome(r, system, grid->task)->item_flops;
    const double *base = kv_results_outcome(r, r->systems[system].base, grid->task)->item_flops;
    double sum = 0, base_sum = 0;
    for (int64_t i = 0; own && base && i < task_of(grid)->n_items; i++)
        if (is_in(grid, i, length, grid->axes.n_depths)) sum += own[i], base_sum += base[i];
    return sum > 0 ? base_sum / sum : NAN;
}

const kv_timing *kv_grid_timing(const kv_grid *grid, int64_t length) {
    const kv_results *r = grid->results;
    for (int64_t i = 0; length < grid->axes.n_lengths && i < r->n_timings; i++)
        if (r->timings[i].batch_size == KV_GRID_BATCH &&
            r->timings[i].prompt_tokens == grid->axes.tokens[length])
            return &r->timings[i];
    return NULL;
}

// ---- The worst of it -----------------------------------------------------------------------------------

bool kv_grid_find_worst(const kv_grid *grid, int64_t system, kv_grid_worst *worst) {
    const kv_metric *metric = metric_of(grid);
    int64_t n_cells = 0;
    *worst = (kv_grid_worst){.figure = NAN};
    for (int64_t l = 0; l < grid->axes.n_lengths; l++)
        for (int64_t d = 0; d < grid->axes.n_depths; d++) {
            const double figure = kv_grid_at(grid, system, l, d)->figure;
            if (isnan(figure)) continue;
            n_cells++;
            if (figure == worst->figure) worst->n_as_bad++;
            if (isnan(worst->figure) ||
                kv_metric_score(metric, figure) < kv_metric_score(metric, worst->figure))
                *worst = (kv_grid_worst){.length = l, .depth = d, .n_as_bad = 1, .figure = figure};
        }
    worst->n_cells = n_cells;
    return n_cells > 0;
}
