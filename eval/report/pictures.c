// The pictures of an evaluation, but those of grids and of predicted caches (heat.c, fidelity.c).
#include "eval/report/pictures.h"

#include "eval/report/fidelity.h"
#include "eval/report/heat.h"
#include "eval/results/points.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- Scores against savings ----------------------------------------------------------------------------

static kv_status draw_pareto(const kv_results *results, const kv_eval_picture *settings, const char *dir,
                             char note[KV_PLOT_NOTE], kv_error *err) {
    kv_published *table = NULL;
    kv_status status = KV_OK;
    // The figures are worth more than the picture: too much of them is no failure.
    if (!kv_points_fit(results)) {
        snprintf(note, KV_PLOT_NOTE,
                 "the picture is not drawn: %lld systems and %lld panels, at most %d and %d fit",
                 (long long)results->n_systems, (long long)kv_points_panels(results), KV_PLOT_MAX_POINTS,
                 KV_PLOT_MAX_PANELS);
        return KV_OK;
    }
    kv_points *points = calloc(1, sizeof *points);
    if (!points) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the picture");
    if (settings->published && settings->draw_published)
        status = kv_published_load(settings->published, &table, err);
    const kv_points_settings shown = {settings->x, settings->y, settings->line, settings->interval, table};
    if (status == KV_OK) status = kv_points_make(results, &shown, points, err);
    if (status == KV_OK) status = kv_plot_draw(&points->plot, dir, "pareto", note, err);
    kv_points_free(points);
    free(points);
    kv_published_free(table);
    return status;
}

// ---- Times against lengths -----------------------------------------------------------------------------

static int compare_lengths(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t sort_unique(int64_t *values, int64_t n) {
    int64_t kept = 0;
    qsort(values, (size_t)n, sizeof *values, compare_lengths);
    for (int64_t i = 0; i < n; i++)
        if (kept == 0 || values[i] != values[kept - 1]) values[kept++] = values[i];
    return kept;
}

// Sizes that stand alone (the one of the tables, as a rule) make no line.
static int64_t batches_with_lines(const kv_results *results, int64_t *batches) {
    int64_t n = 0;
    for (int64_t i = 0; i < results->n_timings; i++) {
        const kv_timing *own = &results->timings[i];
        bool line = false;
        for (int64_t j = 0; j < results->n_timings; j++)
            line = line || (results->timings[j].batch_size == own->batch_size &&
                            results->timings[j].prompt_tokens != own->prompt_tokens);
        if (line) batches[n++] = own->batch_size;
    }
    return sort_unique(batches, n);
}

static int64_t index_of(const int64_t *values, int64_t n, int64_t value) {
    for (int64_t i = 0; i < n; i++)
        if (values[i] == value) return i;
    return -1;
}

struct grid {
    int64_t n_batches, n_lengths;
    int64_t *batches, *lengths; // [n_timings] of room
    double *x, *numbers;        // [n_lengths]; [n_systems, 3, n_batches, n_lengths]: seconds, low, high
    kv_plot_curve *curves;      // [n_systems]
    char (*titles)[32];
    const char **panels; // [n_batches]
};

static void free_grid(struct grid *g) {
    free(g->batches);
    free(g->lengths);
    free(g->x);
    free(g->numbers);
    free(g->curves);
    free(g->titles);
    free(g->panels);
}

static kv_status make_grid(const kv_results *results, struct grid *g, kv_error *err) {
    const size_t n = (size_t)results->n_timings, n_systems = (size_t)results->n_systems;
    g->batches = calloc(n + 1, sizeof *g->batches);
    g->lengths = calloc(n + 1, sizeof *g->lengths);
    g->x = calloc(n + 1, sizeof *g->x);
    g->curves = calloc(n_systems + 1, sizeof *g->curves);
    g->titles = calloc(n + 1, sizeof *g->titles);
    g->panels = calloc(n + 1, sizeof *g->panels);
    if (!g->batches || !g->lengths || !g->x || !g->curves || !g->titles || !g->panels)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the picture of timings");
    g->n_batches = batches_with_lines(results, g->batches);
    for (size_t i = 0; i < n; i++)
        if (index_of(g->batches, g->n_batches, results->timings[i].batch_size) >= 0)
            g->lengths[g->n_lengths++] = results->timings[i].prompt_tokens;
    g->n_lengths = sort_unique(g->lengths, g->n_lengths);
    g->numbers = calloc(3 * n_systems * (size_t)(g->n_batches * g->n_lengths) + 1, sizeof *g->numbers);
    return g->numbers ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the picture of timings");
}

static void fill_grid(const kv_results *results, struct grid *g) {
    const int64_t cells = g->n_batches * g->n_lengths;
    for (int64_t i = 0; i < 3 * results->n_systems * cells; i++) g->numbers[i] = NAN;
    for (int64_t i = 0; i < results->n_timings; i++) {
        const kv_timing *t = &results->timings[i];
        const int64_t b = index_of(g->batches, g->n_batches, t->batch_size);
        if (b < 0) continue;
        const int64_t cell = b * g->n_lengths + index_of(g->lengths, g->n_lengths, t->prompt_tokens);
        for (int64_t s = 0; s < results->n_systems; s++) {
            double *numbers = g->numbers + 3 * s * cells + cell;
            numbers[0] = t->seconds[s];
            numbers[cells] = t->seconds[s] - t->spread[s];
            numbers[2 * cells] = t->seconds[s] + t->spread[s];
        }
    }
    for (int64_t s = 0; s < results->n_systems; s++) {
        const double *numbers = g->numbers + 3 * s * cells;
        g->curves[s] = (kv_plot_curve){results->systems[s].name, results->systems[s].family, numbers,
                                       numbers + cells, numbers + 2 * cells};
    }
    for (int64_t i = 0; i < g->n_lengths; i++) g->x[i] = (double)g->lengths[i];
    for (int64_t b = 0; b < g->n_batches; b++) {
        snprintf(g->titles[b], sizeof g->titles[b], "batch %lld", (long long)g->batches[b]);
        g->panels[b] = g->titles[b];
    }
}

static kv_status draw_timings(const kv_results *results, const char *dir, char note[KV_PLOT_NOTE],
                              kv_error *err) {
    struct grid g = {0};
    kv_status status = make_grid(results, &g, err);
    if (status == KV_OK && g.n_batches > 0) {
        fill_grid(results, &g);
        const kv_plot_curves plot = {.curves = g.curves,
                                     .n_curves = results->n_systems,
                                     .x = g.x,
                                     .n_x = g.n_lengths,
                                     .panels = g.panels,
                                     .n_panels = g.n_batches,
                                     .x_label = "prompt tokens",
                                     .y_label = "time to first token (s)"};
        if (plot.n_curves > KV_PLOT_MAX_POINTS || plot.n_x > KV_PLOT_MAX_POINTS ||
            plot.n_panels > KV_PLOT_MAX_PANELS)
            snprintf(note, KV_PLOT_NOTE, "the picture of timings is not drawn: too many systems or sizes");
        else
            status = kv_plot_draw_curves(&plot, dir, "ttft", note, err);
    }
    free_grid(&g);
    return status;
}

kv_status kv_pictures_draw(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                           char note[KV_PLOT_NOTE], kv_error *err) {
    char more[3][KV_PLOT_NOTE] = {"", "", ""};
    kv_status status = KV_OK;
    note[0] = '\0';
    if (results->n_tasks > 0) status = draw_pareto(results, picture, dir, note, err);
    if (status == KV_OK) status = draw_timings(results, dir, more[0], err);
    if (status == KV_OK) status = kv_heat_draw(results, dir, more[1], err);
    if (status == KV_OK) status = kv_fidelity_draw(results, dir, more[2], err);
    for (int i = 0; i < 3 && !*note; i++) memcpy(note, more[i], sizeof more[i]);
    return status;
}
