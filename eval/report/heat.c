// Systems that are compared should be seen side by side: as many maps as can be read share a picture, and all of a task share
// colours and axes.
#include "eval/report/heat.h"

#include "core/text.h"
#include "eval/plot/heat.h"
#include "eval/results/grid.h"
#include "eval/statistics/metric.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TICK = 24, TITLE = 256 };
static const char heat_name[] = "heat", times_name[] = "grid-ttft";

char *kv_heat_name(const char *kind, int64_t i, char name[KV_HEAT_NAME]) {
    if (i == 0)
        snprintf(name, KV_HEAT_NAME, "%s", kind);
    else
        snprintf(name, KV_HEAT_NAME, "%s-%lld", kind, (long long)i + 1);
    return name;
}

// What the pictures of a task share.
struct drawing {
    const kv_grid *grid;
    const kv_metric *metric;
    int64_t n_systems, *systems; // [n_systems] rows that were asked
    char title[TITLE];           // of the task
    char label[96];              // of the metric, and its unit
    const char *dir;
};

static bool begin_drawing(struct drawing *d, const kv_grid *grid, const char *dir) {
    const kv_results *r = grid->results;
    const kv_result_task *t = &r->tasks[grid->task];
    *d = (struct drawing){.grid = grid, .metric = kv_metric_of(t->metrics[0]), .dir = dir};
    d->systems = calloc((size_t)r->n_systems + 1, sizeof *d->systems);
    for (int64_t s = 0; d->systems && s < r->n_systems; s++) {
        const kv_outcome *o = kv_results_outcome(r, s, grid->task);
        if (o->values || o->not_finite) d->systems[d->n_systems++] = s;
    }
    char items[KV_TASK_ITEMS];
    snprintf(d->title, TITLE, "%.*s, %.*s: %s", KV_HEAD(t->name, 70), KV_HEAD(t->split, 70),
             kv_task_items(t, items));
    snprintf(d->label, sizeof d->label, "%s%s", d->metric->label ? d->metric->label : t->metrics[0],
             d->metric->share ? " (%)" : "");
    return d->systems != NULL;
}

static double shown(const struct drawing *d, double figure) {
    return kv_metric_unit(d->metric) * figure;
}

// ---- Maps ----------------------------------------------------------------------------------------------

struct maps {
    kv_plot_map *maps;   // [n_maps]
    double *values;      // [n_maps, n_depths, n_lengths]
    char (*texts)[TICK]; // [n_lengths + n_depths]
    const char **ticks;  // the same
};

static bool make_maps(struct maps *m, const kv_grid_axes *axes, int64_t n_maps) {
    const size_t n_ticks = (size_t)(axes->n_lengths + axes->n_depths);
    m->maps = calloc((size_t)n_maps + 1, sizeof *m->maps);
    m->values = calloc((size_t)(n_maps * axes->n_lengths * axes->n_depths) + 1, sizeof *m->values);
    m->texts = calloc(n_ticks + 1, sizeof *m->texts);
    m->ticks = calloc(n_ticks + 1, sizeof *m->ticks);
    return m->maps && m->values && m->texts && m->ticks;
}

static void free_maps(struct maps *m) {
    free(m->maps);
    free(m->values);
    free(m->texts);
    free(m->ticks);
}

// Depths 0 and 1 say where that is.
static void write_ticks(struct maps *m, const kv_grid_axes *axes) {
    for (int64_t l = 0; l < axes->n_lengths; l++)
        snprintf(m->texts[l], TICK, "%lld", (long long)axes->lengths[l]);
    for (int64_t d = 0; d < axes->n_depths; d++) {
        const double depth = axes->depths[d];
        snprintf(m->texts[axes->n_lengths + d], TICK, "%s%.3g",
                 depth == 0   ? "start "
                 : depth == 1 ? "end "
                              : "",
                 depth);
    }
    for (int64_t i = 0; i < axes->n_lengths + axes->n_depths; i++) m->ticks[i] = m->texts[i];
}

static void fill_maps(const struct drawing *d, struct maps *m, int64_t first, int64_t n_maps) {
    const kv_grid_axes *axes = &d->grid->axes;
    for (int64_t i = 0; i < n_maps; i++) {
        const int64_t s = d->systems[first + i];
        double *values = m->values + i * axes->n_lengths * axes->n_depths;
        for (int64_t l = 0; l < axes->n_lengths; l++)
            for (int64_t k = 0; k < axes->n_depths; k++)
                values[k * axes->n_lengths + l] = shown(d, kv_grid_at(d->grid, s, l, k)->figure);
        const kv_results *r = d->grid->results;
        m->maps[i] = (kv_plot_map){
            .title = r->systems[s].name,
            .values = values,
            .remark = kv_results_outcome(r, s, d->grid->task)->not_finite ? KV_NOT_FINITE : NULL};
    }
}

// Of shares all there can be; else what there is among the systems.
static void find_range(const struct drawing *d, kv_plot_maps *plot) {
    const kv_grid_axes *axes = &d->grid->axes;
    plot->low = 0, plot->high = 100;
    if (d->metric->share) return;
    plot->low = INFINITY, plot->high = -INFINITY;
    for (int64_t i = 0; i < d->n_systems; i++)
        for (int64_t l = 0; l < axes->n_lengths; l++)
            for (int64_t k = 0; k < axes->n_depths; k++) {
                const double figure = kv_grid_at(d->grid, d->systems[i], l, k)->figure;
                if (!isfinite(figure)) continue;
                plot->low = fmin(plot->low, figure), plot->high = fmax(plot->high, figure);
            }
    if (!(plot->low < plot->high))
        plot->low = isfinite(plot->low) ? plot->low - 0.5 : 0, plot->high = plot->low + 1;
}

static kv_status draw_page(const struct drawing *d, int64_t first, int64_t n_maps, const char *name,
                           char note[KV_PLOT_NOTE], kv_error *err) {
    const kv_grid_axes *axes = &d->grid->axes;
    struct maps m = {0};
    kv_status status =
        make_maps(&m, axes, n_maps) ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the heat maps");
    if (status == KV_OK) {
        write_ticks(&m, axes);
        fill_maps(d, &m, first, n_maps);
        kv_plot_maps plot = {.maps = m.maps,
                             .n_maps = n_maps,
                             .heading = d->title,
                             .x_ticks = m.ticks,
                             .n_x = axes->n_lengths,
                             .y_ticks = m.ticks + axes->n_lengths,
                             .n_y = axes->n_depths,
                             .x_label = "length (tokens)",
                             .y_label = "depth",
                             .bar_label = d->label,
                             .empty_text = "not asked, or no numbers",
                             .lower_is_better = d->metric->lower_is_better,
                             .format = d->metric->share ? "%.0f" : "%.2f"};
        find_range(d, &plot);
        status = kv_plot_draw_maps(&plot, d->dir, name, note, err);
    }
    free_maps(&m);
    return status;
}

// As evenly over as few pictures as may be.
static kv_status draw_maps(const struct drawing *d, int64_t *n_pictures, char note[KV_PLOT_NOTE],
                           kv_error *err) {
    const int64_t n_pages = (d->n_systems + KV_HEAT_SYSTEMS - 1) / KV_HEAT_SYSTEMS;
    const int64_t each = n_pages ? (d->n_systems + n_pages - 1) / n_pages : 0;
    kv_status status = KV_OK;
    for (int64_t first = 0; first < d->n_systems && status == KV_OK; first += each) {
        const int64_t left = d->n_systems - first;
        char name[KV_HEAT_NAME], own[KV_PLOT_NOTE];
        if (*n_pictures == KV_HEAT_PICTURES) {
            snprintf(note, KV_PLOT_NOTE,
                     "heat maps of more than %d pictures are not drawn; grid.csv has their figures",
                     KV_HEAT_PICTURES);
            break;
        }
        status = draw_page(d, first, left < each ? left : each,
                           kv_heat_name(heat_name, (*n_pictures)++, name), own, err);
        if (!*note) memcpy(note, own, sizeof own);
    }
    return status;
}

// ---- Scores against times ------------------------------------------------------------------------------

struct times {
    kv_plot_point *points; // [n_systems]
    double *numbers;       // [n_systems, 4, n_panels]: ms, score, low, high
    int64_t *lengths;      // [n_panels] of the grid's, those that were timed
    char (*titles)[64];    // [n_panels]
    const char **panels;   // the same
    int64_t n_panels;
};

static bool make_times(const struct drawing *d, struct times *t) {
    const size_t n = (size_t)d->n_systems, most = (size_t)d->grid->axes.n_lengths;
    t->points = calloc(n + 1, sizeof *t->points);
    t->numbers = calloc(4 * n * most + 1, sizeof *t->numbers);
    t->lengths = calloc(most + 1, sizeof *t->lengths);
    t->titles = calloc(most + 1, sizeof *t->titles);
    t->panels = calloc(most + 1, sizeof *t->panels);
    return t->points && t->numbers && t->lengths && t->titles && t->panels;
}

static void free_times(struct times *t) {
    free(t->points);
    free(t->numbers);
    free(t->lengths);
    free(t->titles);
    free(t->panels);
}

static void find_timed(const struct drawing *d, struct times *t) {
    const kv_grid_axes *axes = &d->grid->axes;
    for (int64_t l = 0; l < axes->n_lengths; l++) {
        if (!kv_grid_timing(d->grid, l)) continue;
        snprintf(t->titles[t->n_panels], sizeof t->titles[0], "length %lld (prompts of %lld tokens)",
                 (long long)axes->lengths[l], (long long)axes->tokens[l]);
        t->panels[t->n_panels] = t->titles[t->n_panels];
        t->lengths[t->n_panels++] = l;
    }
}

static kv_status fill_times(const struct drawing *d, struct times *t, kv_error *err) {
    const int64_t all = d->grid->axes.n_depths;
    kv_status status = KV_OK;
    for (int64_t i = 0; i < d->n_systems; i++) {
        const int64_t s = d->systems[i];
        double *own = t->numbers + 4 * i * t->n_panels, *x = own, *y = own + t->n_panels,
               *low = y + t->n_panels, *high = low + t->n_panels;
        for (int64_t p = 0; p < t->n_panels && status == KV_OK; p++) {
            const int64_t l = t->lengths[p];
            kv_interval interval;
            status = kv_grid_interval(d->grid, s, l, all, &interval, err);
            x[p] = 1e3 * kv_grid_timing(d->grid, l)->seconds[s];
            y[p] = shown(d, kv_grid_at(d->grid, s, l, all)->figure);
            low[p] = shown(d, interval.low), high[p] = shown(d, interval.high);
        }
        const kv_result_system *system = &d->grid->results->systems[s];
        t->points[i] = (kv_plot_point){system->name, system->family, x, y, low, high};
    }
    return status;
}

static kv_status draw_times(const struct drawing *d, int64_t *n_pictures, char note[KV_PLOT_NOTE],
                            kv_error *err) {
    struct times t = {0};
    char name[KV_HEAT_NAME], own[KV_PLOT_NOTE] = "";
    kv_status status =
        make_times(d, &t) ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the times of lengths");
    if (status == KV_OK) find_timed(d, &t);
    if (status == KV_OK && t.n_panels > 0) status = fill_times(d, &t, err);
    if (status == KV_OK && t.n_panels > 0) {
        kv_plot_height heights[KV_GRID_MOST];
        for (int64_t p = 0; p < t.n_panels; p++)
            heights[p] = (kv_plot_height){d->label, d->metric->lower_is_better};
        const kv_plot plot = {.points = t.points,
                              .n_points = d->n_systems,
                              .panels = t.panels,
                              .n_panels = t.n_panels,
                              .heading = d->title,
                              .x_label = "time to first token of one prompt (ms)",
                              .times = true,
                              .whole = d->metric->share,
                              .heights = heights};
        if (d->n_systems > KV_PLOT_MAX_POINTS || *n_pictures == KV_HEAT_PICTURES)
            snprintf(own, sizeof own,
                     "the picture of times by length is not drawn: too many systems or tasks");
        else
            status = kv_plot_draw(&plot, d->dir, kv_heat_name(times_name, (*n_pictures)++, name), own, err);
    }
    if (!*note) memcpy(note, own, sizeof own);
    free_times(&t);
    return status;
}

// ---- All of them ---------------------------------------------------------------------------------------

kv_status kv_heat_draw(const kv_results *results, const char *dir, char note[KV_PLOT_NOTE], kv_error *err) {
    int64_t n_maps = 0, n_times = 0;
    kv_status status = KV_OK;
    note[0] = '\0';
    for (int64_t t = 0; t < results->n_tasks && status == KV_OK; t++) {
        kv_grid grid;
        struct drawing d = {0};
        status = kv_grid_make(results, t, &grid, err);
        if (grid.cells && status == KV_OK) {
            if (!begin_drawing(&d, &grid, dir))
                status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the heat maps");
            if (status == KV_OK) status = draw_maps(&d, &n_maps, note, err);
            if (status == KV_OK) status = draw_times(&d, &n_times, note, err);
        }
        free(d.systems);
        kv_grid_free(&grid);
    }
    return status;
}
