// Maps are tables whose cells have a colour: they can be read out, copied, and need no script.
#include "eval/html/maps.h"

#include "core/text.h"
#include "eval/html/tables.h"
#include "eval/plot/heat.h"
#include "eval/results/grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// A cell's colour is that of the place from 0 (worst) to 1 (best); its text is what `format` shows.
static void put_cell(kv_html *html, double place, const char *text, const char *title) {
    char colour[8];
    if (!isfinite(place)) {
        kv_html_put(html, "<td class=\"none\" title=\"");
        kv_html_text(html, title);
        kv_html_put(html, "\">–</td>");
        return;
    }
    kv_html_put(html, "<td class=\"%s\" style=\"background:%s\" title=\"",
                kv_plot_viridis_is_dark(place) ? "dark" : "bright", kv_plot_viridis(place, colour));
    kv_html_text(html, title);
    kv_html_put(html, "\">");
    kv_html_text(html, text);
    kv_html_put(html, "</td>");
}

static void put_scale(kv_html *html, const char *low, const char *high) {
    char colour[8];
    kv_html_put(html, "<p class=\"scale\"><span>");
    kv_html_text(html, low);
    kv_html_put(html, "</span>");
    for (int i = 0; i < 12; i++)
        kv_html_put(html, "<i style=\"background:%s\"></i>", kv_plot_viridis(i / 11.0, colour));
    kv_html_put(html, "<span>");
    kv_html_text(html, high);
    kv_html_put(html, "</span></p>\n");
}

// ---- Predicted caches ----------------------------------------------------------------------------------

// One figure of every layer.
struct layer_map {
    const char *title;
    double (*value)(const kv_results *r, int64_t system, int64_t layer);
    double worst, best; // where the colours end
    const char *format;
    double unit; // of what is shown
};

static const kv_cache_analysis *errors_of(const kv_results *r, int64_t system) {
    return &r->analysis.systems[system];
}

static double keys_explained(const kv_results *r, int64_t s, int64_t l) {
    return errors_of(r, s)->key.explained[l];
}

static double values_explained(const kv_results *r, int64_t s, int64_t l) {
    return errors_of(r, s)->value.explained[l];
}

static double cosine(const kv_results *r, int64_t s, int64_t l) {
    return errors_of(r, s)->attention_cosine[l];
}

static double relative_error(const kv_results *r, const kv_error_figures *f, int64_t layer) {
    const int64_t n = r->analysis.seq_len;
    return kv_cache_analysis_mean(f->error + layer * n, n) / f->magnitude[layer];
}

static double keys_error(const kv_results *r, int64_t s, int64_t l) {
    return relative_error(r, &errors_of(r, s)->key, l);
}

static double values_error(const kv_results *r, int64_t s, int64_t l) {
    return relative_error(r, &errors_of(r, s)->value, l);
}

static void put_layer(kv_html *html, const kv_results *r, const struct layer_map *map, int64_t system,
                      int64_t layer) {
    const double value = map->value(r, system, layer);
    char text[32] = "-", title[320];
    if (errors_of(r, system)->predicted[layer] == 0) {
        kv_html_put(html, "<td class=\"own\" title=\"layer %lld: the base's own cache\">=</td>",
                    (long long)layer);
        return;
    }
    if (isfinite(value)) snprintf(text, sizeof text, map->format, map->unit * value);
    snprintf(title, sizeof title, "%.*s, layer %lld: %s", KV_HEAD(r->systems[system].name, 200),
             (long long)layer, text);
    put_cell(html, (value - map->worst) / (map->best - map->worst), text, title);
}

static void put_layers(kv_html *html, const kv_results *r, const struct layer_map *map) {
    int64_t n_layers = 0;
    for (int64_t s = 0; s < r->n_systems; s++)
        if (errors_of(r, s)->n_layers > n_layers) n_layers = errors_of(r, s)->n_layers;
    kv_html_put(
        html,
        "<div class=\"scroll\"><table class=\"map\"><caption><span>%s</span></caption><thead><tr><th scope=\"col\">layer of the "
        "base</th>",
        map->title);
    for (int64_t l = 0; l < n_layers; l++) kv_html_put(html, "<th scope=\"col\">%lld</th>", (long long)l);
    kv_html_put(html, "</tr></thead><tbody>\n");
    for (int64_t s = 0; s < r->n_systems; s++) {
        if (errors_of(r, s)->n_layers == 0) continue;
        kv_html_put(html, "<tr data-system=\"%lld\"><th scope=\"row\">", (long long)s);
        kv_html_text(html, r->systems[s].name);
        kv_html_put(html, "</th>");
        for (int64_t l = 0; l < errors_of(r, s)->n_layers; l++) put_layer(html, r, map, s, l);
        kv_html_put(html, "</tr>\n");
    }
    kv_html_put(html, "</tbody></table></div>\n");
}

// ---- By position ---------------------------------------------------------------------------------------

enum { MOST_BINS = 24 };

// Of a layer's errors, over magnitude, those of positions [first, end).
static double error_between(const kv_results *r, const kv_error_figures *f, int64_t layer, int64_t first,
                            int64_t end) {
    return kv_cache_analysis_mean(f->error + layer * r->analysis.seq_len + first, end - first) /
           f->magnitude[layer];
}

static void put_positions(kv_html *html, const kv_results *r, int64_t system, const kv_error_figures *f,
                          const char *what) {
    const int64_t n = r->analysis.seq_len, bins = n < MOST_BINS ? n : MOST_BINS;
    kv_html_put(
        html,
        "<div class=\"scroll\"><table class=\"map fine\"><caption><span>%s: mean |error| over mean |true| in %%</span></caption>"
        "<thead><tr><th scope=\"col\">layer, from position</th>",
        what);
    for (int64_t b = 0; b < bins; b++)
        kv_html_put(html, "<th scope=\"col\">%lld</th>", (long long)(b * n / bins));
    kv_html_put(html, "</tr></thead><tbody>\n");
    for (int64_t l = 0; l < errors_of(r, system)->n_layers; l++) {
        if (errors_of(r, system)->predicted[l] == 0) continue;
        kv_html_put(html, "<tr><th scope=\"row\">%lld</th>", (long long)l);
        for (int64_t b = 0; b < bins; b++) {
            const int64_t first = b * n / bins, end = (b + 1) * n / bins;
            const double error = error_between(r, f, l, first, end);
            char text[32] = "-", title[160];
            if (isfinite(error)) snprintf(text, sizeof text, "%.0f", 100 * error);
            snprintf(title, sizeof title, "layer %lld, positions %lld to %lld: %s %%", (long long)l,
                     (long long)first, (long long)end - 1, text);
            put_cell(html, 1 - error, text, title);
        }
        kv_html_put(html, "</tr>\n");
    }
    kv_html_put(html, "</tbody></table></div>\n");
}

// So many systems have a map of their own: each is large.
enum { MOST_SYSTEMS = 24 };

static void put_all_positions(kv_html *html, const kv_results *r) {
    int64_t n = 0;
    for (int64_t s = 0; s < r->n_systems; s++) {
        const kv_cache_analysis *errors = errors_of(r, s);
        if (errors->n_layers == 0 || n++ >= MOST_SYSTEMS) continue;
        kv_html_put(html, "<details><summary>");
        kv_html_text(html, r->systems[s].name);
        kv_html_put(html, ": layer by layer and position by position</summary>\n");
        put_positions(html, r, s, &errors->key, "keys");
        put_positions(html, r, s, &errors->value, "values");
        kv_html_put(html, "</details>\n");
    }
    if (n > MOST_SYSTEMS)
        kv_html_put(html, "<p class=\"note\">Position by position: the first %d systems of %lld.</p>\n",
                    MOST_SYSTEMS, (long long)n);
}

void kv_html_error_maps(kv_html *html, const kv_results *r) {
    static const struct layer_map near[] = {
        {"keys: explained variance in % (after k_norm)", keys_explained, 0, 1, "%.0f", 100},
        {"values: explained variance in %", values_explained, 0, 1, "%.0f", 100},
        {"attention: cosine of its outputs", cosine, 0, 1, "%.2f", 1}};
    static const struct layer_map far[] = {
        {"keys: mean |error| over mean |true| in %", keys_error, 1, 0, "%.0f", 100},
        {"values: mean |error| over mean |true| in %", values_error, 1, 0, "%.0f", 100}};
    const kv_analysis *a = &r->analysis;
    if (!a->corpus) return;
    kv_html_put(
        html,
        "<section id=\"errors\"><h2>Predicted caches, layer by layer</h2>\n<p>Against the base's own, over %lld "
        "sequences of %lld tokens of ",
        (long long)a->sequences, (long long)a->seq_len);
    kv_html_text(html, a->corpus);
    kv_html_put(
        html,
        ". Yellow is near, violet is far (0 or worse); = is a layer whose cache is the base's own.</p>\n");
    put_scale(html, "far", "near");
    kv_html_put(html, "<div class=\"maps wide\">\n");
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) put_layers(html, r, &near[i]);
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) put_layers(html, r, &far[i]);
    kv_html_put(html, "</div>\n");
    put_all_positions(html, r);
    kv_html_put(html, "</section>\n");
}

// ---- Grids ---------------------------------------------------------------------------------------------

struct range {
    double low, high;
};

// Of shares all there can be; else what there is.
static struct range range_of(const kv_grid *grid, const kv_metric *metric) {
    struct range range = {0, 1};
    if (metric->share) return range;
    range = (struct range){INFINITY, -INFINITY};
    for (int64_t s = 0; s < grid->results->n_systems; s++)
        for (int64_t l = 0; l < grid->axes.n_lengths; l++)
            for (int64_t k = 0; k < grid->axes.n_depths; k++) {
                const double figure = kv_grid_at(grid, s, l, k)->figure;
                if (!isfinite(figure)) continue;
                range.low = fmin(range.low, figure), range.high = fmax(range.high, figure);
            }
    return range.low < range.high ? range : (struct range){range.low - 0.5, range.low + 0.5};
}

static void put_grid_cell(kv_html *html, const kv_grid *grid, const kv_metric *metric, struct range range,
                          int64_t system, int64_t length, int64_t depth) {
    const kv_grid_cell *cell = kv_grid_at(grid, system, length, depth);
    char text[KV_METRIC_TEXT], title[160];
    kv_metric_text(metric, cell->figure, text);
    snprintf(title, sizeof title, "%lld tokens, depth %.3g: %s of %lld items",
             (long long)grid->axes.lengths[length], grid->axes.depths[depth], text, (long long)cell->n_items);
    const double place = (cell->figure - range.low) / (range.high - range.low);
    if (metric->share && isfinite(cell->figure)) snprintf(text, sizeof text, "%.0f", 100 * cell->figure);
    put_cell(html, metric->lower_is_better ? 1 - place : place, text, title);
}

static void put_grid(kv_html *html, const kv_grid *grid, const kv_metric *metric, struct range range,
                     int64_t system) {
    const kv_grid_axes *axes = &grid->axes;
    kv_html_put(html, "<div class=\"scroll\"><table class=\"map\" data-system=\"%lld\"><caption><span>",
                (long long)system);
    kv_html_text(html, grid->results->systems[system].name);
    kv_html_put(html, "</span></caption><thead><tr><th scope=\"col\">depth \\ tokens</th>");
    for (int64_t l = 0; l < axes->n_lengths; l++)
        kv_html_put(html, "<th scope=\"col\">%lld</th>", (long long)axes->lengths[l]);
    kv_html_put(html, "</tr></thead><tbody>\n");
    for (int64_t k = 0; k < axes->n_depths; k++) {
        kv_html_put(html, "<tr><th scope=\"row\">%.3g</th>", axes->depths[k]);
        for (int64_t l = 0; l < axes->n_lengths; l++) put_grid_cell(html, grid, metric, range, system, l, k);
        kv_html_put(html, "</tr>\n");
    }
    kv_html_put(html, "</tbody></table></div>\n");
}

static void put_task(kv_html *html, const kv_grid *grid) {
    const kv_results *r = grid->results;
    const kv_result_task *task = &r->tasks[grid->task];
    const kv_metric *metric = kv_metric_of(task->metrics[0]);
    const struct range range = range_of(grid, metric);
    char ends[2][KV_METRIC_TEXT];
    kv_html_put(html, "<h3>");
    kv_html_format(html, "%s, %s: %s%s", task->name, task->split,
                   metric->label ? metric->label : task->metrics[0], metric->share ? " in %" : "");
    kv_html_put(html, "</h3>\n");
    kv_metric_text(metric, metric->lower_is_better ? range.high : range.low, ends[0]);
    kv_metric_text(metric, metric->lower_is_better ? range.low : range.high, ends[1]);
    put_scale(html, ends[0], ends[1]);
    kv_html_put(html, "<div class=\"maps\">\n");
    for (int64_t s = 0; s < r->n_systems; s++)
        if (kv_results_outcome(r, s, grid->task)->values) put_grid(html, grid, metric, range, s);
    kv_html_put(html, "</div>\n");
}

kv_status kv_html_grid_maps(kv_html *html, const kv_results *results, const kv_tables *tables,
                            kv_error *err) {
    kv_status status = KV_OK;
    if (!kv_results_have_grid(results)) return KV_OK;
    kv_html_put(
        html,
        "<section id=\"grid\"><h2>By length of the prompt and depth of the answer</h2>\n<p>Depth 0 is the "
        "beginning of the prompt, 1 its end.</p>\n");
    for (int64_t t = 0; t < results->n_tasks && status == KV_OK; t++) {
        kv_grid grid;
        status = kv_grid_make(results, t, &grid, err);
        if (status == KV_OK && grid.cells) put_task(html, &grid);
        kv_grid_free(&grid);
    }
    kv_html_tables_named(html, tables, results, "grid");
    kv_html_put(html, "</section>\n");
    return status;
}
