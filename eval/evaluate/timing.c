// Sizes that somebody asked for must be measured; those that follow from a task's items are a gift, and left out where they
// would fail.
#include "eval/evaluate/timing.h"

#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/system/warning.h"
#include "eval/results/grid.h"
#include "infer/cost.h"
#include "infer/ttft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- FLOPs ---------------------------------------------------------------------------------------------

double kv_task_flops(const kv_system *system, const kv_benchmark *b, kv_flops_fn *flops) {
    double sum = 0;
    for (int64_t i = 0; i < b->n_items; i++) sum += (double)flops(system, b->prompt_tokens[i]);
    return sum / (double)b->n_items;
}

// ---- Sizes ---------------------------------------------------------------------------------------------

static int64_t mean_prompt(const kv_evaluation *e) {
    int64_t n = 0, tokens = 0;
    for (unsigned t = 0; t < e->config->n_tasks; t++) {
        const kv_benchmark *b = e->benchmarks[t];
        n += b->n_items;
        for (int64_t i = 0; i < b->n_items; i++) tokens += b->prompt_tokens[i];
    }
    return (tokens + n / 2) / n;
}

int64_t kv_timing_prompt(const kv_evaluation *e) {
    return e->config->ttft.prompt_tokens ? e->config->ttft.prompt_tokens : mean_prompt(e);
}

struct cells {
    kv_ttft_cell *items;
    int64_t n;
};

static bool add_cell(struct cells *cells, kv_ttft_cell cell) {
    kv_ttft_cell *items = kv_room_for_one(cells->items, (size_t)cells->n, sizeof *items);
    if (!items) return false;
    cells->items = items;
    items[cells->n++] = cell;
    return true;
}

static bool has_cell(const struct cells *cells, const kv_ttft_cell *cell) {
    for (int64_t i = 0; i < cells->n; i++)
        if (cells->items[i].prompt_tokens == cell->prompt_tokens &&
            cells->items[i].batch_size == cell->batch_size)
            return true;
    return false;
}

// What a prompt of each length takes, asked one at a time: the heat map's columns.
static bool add_lengths(const kv_system *systems, int64_t n_systems, const kv_result_task *task,
                        struct cells *cells) {
    kv_grid_axes axes;
    bool ok = true;
    if (!kv_grid_axes_of(task, &axes)) return true;
    for (int64_t l = 0; l < axes.n_lengths && ok; l++) {
        const kv_ttft_cell cell = {.prompt_tokens = axes.tokens[l], .batch_size = KV_GRID_BATCH};
        if (cell.prompt_tokens == 0 || has_cell(cells, &cell)) continue;
        if (kv_ttft_fits(systems, n_systems, &cell))
            ok = add_cell(cells, cell);
        else
            kv_warn(
                "%s, %s: a prompt of %lld tokens does not fit a context or the memory that is left: the time to its "
                "first token is not measured",
                task->name, task->split, (long long)cell.prompt_tokens);
    }
    return ok;
}

// The cell that the tables show, then the grid, then the tasks' own lengths.
static bool list_cells(const kv_evaluation *e, const kv_system *systems, const kv_result_task *tasks,
                       int64_t n_tasks, struct cells *cells) {
    const kv_eval_ttft *ttft = &e->config->ttft;
    bool ok =
        add_cell(cells, (kv_ttft_cell){.prompt_tokens = kv_timing_prompt(e), .batch_size = ttft->batch_size});
    for (unsigned b = 0; b < ttft->n_batches && ok; b++)
        for (unsigned p = 0; p < ttft->n_prompts && ok; p++)
            ok = add_cell(cells,
                          (kv_ttft_cell){.prompt_tokens = ttft->prompts[p], .batch_size = ttft->batches[b]});
    for (int64_t t = 0; t < n_tasks && ok; t++) ok = add_lengths(systems, e->systems->n, &tasks[t], cells);
    return ok;
}

kv_status kv_timing_cells(const kv_evaluation *e, const kv_system *systems, const kv_result_task *tasks,
                          int64_t n_tasks, kv_ttft_cell **cells, int64_t *n, kv_error *err) {
    struct cells all = {0};
    const bool listed = list_cells(e, systems, tasks, n_tasks, &all);
    *cells = all.items, *n = all.n;
    return listed ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the sizes that are timed");
}

// ---- The clock -----------------------------------------------------------------------------------------

static kv_status keep_timing(const kv_evaluation *e, kv_results *results, const kv_ttft_cell *cell,
                             const kv_ttft *measured, const double *samples, kv_error *err) {
    const int64_t n = e->systems->n, repeats = e->config->ttft.repeats;
    kv_timing *timing = kv_results_add_timing(results, cell->prompt_tokens, cell->batch_size, repeats);
    if (!timing)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld timings", (long long)(n * repeats));
    memcpy(timing->samples, samples, (size_t)(n * repeats) * sizeof *samples);
    for (int64_t s = 0; s < n; s++) {
        if (!isfinite(measured[s].seconds))
            kv_warn("`%s` is not finite on random prompts: there is no time to its first token",
                    e->config->systems[s].name);
        timing->seconds[s] = measured[s].seconds, timing->spread[s] = measured[s].spread;
        timing->reduction[s] = measured[0].seconds / measured[s].seconds;
        timing->flops[s] = (double)kv_system_flops(&e->systems->items[s], cell->prompt_tokens);
    }
    return KV_OK;
}

static kv_status measure_cells(const kv_evaluation *e, const struct cells *cells, kv_results *results,
                               kv_error *err) {
    const int64_t n = e->systems->n, repeats = e->config->ttft.repeats;
    kv_ttft *measured = calloc((size_t)(cells->n * n), sizeof *measured);
    double *samples = calloc((size_t)(cells->n * n), (size_t)repeats * sizeof *samples);
    kv_status status = KV_OK;
    if (!measured || !samples)
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld timings", (long long)repeats);
    if (status == KV_OK) {
        const kv_ttft_grid_args args = {
            .cells = cells->items, .n_cells = cells->n, .repeats = repeats, .seed = e->config->seed};
        kv_progress progress;
        kv_progress_begin(&progress, stderr, "time to first token", cells->n * n * repeats);
        status = kv_ttft_grid(e->systems->items, n, &args, &progress, measured, samples, err);
        kv_progress_end(&progress, status == KV_OK ? NULL : "stopped");
        for (int64_t c = 0; c < cells->n && status == KV_OK; c++)
            status =
                keep_timing(e, results, &cells->items[c], measured + c * n, samples + c * n * repeats, err);
    }
    free(measured);
    free(samples);
    return status;
}

kv_status kv_evaluation_measure(const kv_evaluation *e, kv_results *results, kv_error *err) {
    struct cells cells = {0};
    kv_status status =
        kv_timing_cells(e, e->systems->items, results->tasks, results->n_tasks, &cells.items, &cells.n, err);
    if (status == KV_OK) status = measure_cells(e, &cells, results, err);
    free(cells.items);
    return status;
}
