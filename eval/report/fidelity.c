// From an analysis of predicted caches to its two pictures.
#include "eval/report/fidelity.h"

#include "core/text.h"
#include "eval/results/fidelity.h"

#include <math.h>
#include <stdlib.h>

// ---- Layer by layer ------------------------------------------------------------------------------------

enum { N_FIGURES = 3 };
static const char *const figure_titles[N_FIGURES] = {"attention outputs: cosine", "keys: explained variance",
                                                     "values: explained variance"};
static const double least_shown = -1; // worse than that is off the page

struct layers {
    kv_plot_curve *curves; // [n_curves]
    double *x, *numbers;   // [n_layers]; [n_curves, N_FIGURES, n_layers]
    int64_t n_curves, n_layers;
};

static const double *figure_of(const kv_cache_analysis *errors, int figure) {
    return figure == 0   ? errors->attention_cosine
           : figure == 1 ? errors->key.explained
                         : errors->value.explained;
}

static bool make_layers(const kv_results *r, struct layers *l) {
    for (int64_t s = 0; s < r->n_systems; s++) {
        const int64_t n = r->analysis.systems[s].n_layers;
        l->n_curves += n > 0;
        if (n > l->n_layers) l->n_layers = n;
    }
    l->curves = calloc((size_t)l->n_curves + 1, sizeof *l->curves);
    l->x = calloc((size_t)l->n_layers + 1, sizeof *l->x);
    l->numbers = calloc((size_t)(l->n_curves * N_FIGURES * l->n_layers) + 1, sizeof *l->numbers);
    return l->curves && l->x && l->numbers;
}

static void fill_layers(const kv_results *r, struct layers *l) {
    double *numbers = l->numbers;
    int64_t c = 0;
    for (int64_t i = 0; i < l->n_layers; i++) l->x[i] = (double)i;
    for (int64_t s = 0; s < r->n_systems; s++) {
        const kv_cache_analysis *errors = &r->analysis.systems[s];
        if (errors->n_layers == 0) continue;
        l->curves[c++] =
            (kv_plot_curve){.label = r->systems[s].name, .family = r->systems[s].family, .y = numbers};
        for (int f = 0; f < N_FIGURES; f++)
            for (int64_t i = 0; i < l->n_layers; i++)
                *numbers++ = i < errors->n_layers ? figure_of(errors, f)[i] : NAN;
    }
}

static bool leaves_the_page(const struct layers *l) {
    for (int64_t i = 0; i < l->n_curves * N_FIGURES * l->n_layers; i++)
        if (l->numbers[i] < least_shown) return true;
    return false;
}

static kv_status draw_layers(const kv_results *r, const char *dir, char note[KV_PLOT_NOTE], kv_error *err) {
    struct layers l = {0};
    kv_status status =
        make_layers(r, &l) ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for layers.svg");
    if (status == KV_OK) fill_layers(r, &l);
    char heading[96];
    snprintf(heading, sizeof heading, "predicted caches layer by layer; 1 is the base's own%s",
             status == KV_OK && leaves_the_page(&l) ? "; what is below -1 is not shown" : "");
    const kv_plot_curves plot = {.curves = l.curves,
                                 .n_curves = l.n_curves,
                                 .x = l.x,
                                 .n_x = l.n_layers,
                                 .panels = figure_titles,
                                 .n_panels = N_FIGURES,
                                 .columns = N_FIGURES,
                                 .heading = heading,
                                 .x_label = "layer of the base",
                                 .y_label = "",
                                 .linear_x = true,
                                 .linear_y = true,
                                 .least_y = least_shown};
    if (status == KV_OK && l.n_curves > KV_PLOT_MAX_POINTS)
        snprintf(note, KV_PLOT_NOTE, "the picture of layers is not drawn: %lld systems, at most %d fit",
                 (long long)l.n_curves, KV_PLOT_MAX_POINTS);
    else if (status == KV_OK && l.n_curves > 0)
        status = kv_plot_draw_curves(&plot, dir, "layers", note, err);
    free(l.curves);
    free(l.x);
    free(l.numbers);
    return status;
}

// ---- What is kept --------------------------------------------------------------------------------------

enum { TITLE = 256 };

// A metric and a kind of nearness.
struct panel {
    int64_t task;
    int metric;
    kv_fidelity which;
};

struct scatter {
    const kv_results *results;
    struct panel panels[KV_PLOT_MAX_PANELS];
    int64_t n_panels, n_points;
    int64_t *systems;      // [n_points] rows that were looked at
    kv_plot_point *points; // [n_points]
    double *numbers;       // [n_points, 4, n_panels]: x, y, low, high
    char titles[KV_PLOT_MAX_PANELS][TITLE], labels[KV_PLOT_MAX_PANELS][KV_METRIC_LABEL];
    const char *panel_titles[KV_PLOT_MAX_PANELS], *x_labels[KV_PLOT_MAX_PANELS];
    kv_plot_height heights[KV_PLOT_MAX_PANELS];
};

// How many there are, of which those that fit are listed.
static int64_t choose_panels(const kv_results *r, struct panel *panels) {
    int64_t n = 0;
    for (int64_t t = 0; t < r->n_tasks; t++)
        for (int m = 0; m < r->tasks[t].n_metrics; m++)
            for (int which = 0; which < KV_FIDELITIES_DRAWN && kv_fidelity_compares(r, t, m); which++)
                if (n++ < KV_PLOT_MAX_PANELS) panels[n - 1] = (struct panel){t, m, (kv_fidelity)which};
    return n;
}

static bool make_scatter(struct scatter *s) {
    const kv_results *r = s->results;
    s->systems = calloc((size_t)r->n_systems + 1, sizeof *s->systems);
    for (int64_t i = 0; s->systems && i < r->n_systems; i++)
        if (r->analysis.systems[i].n_layers > 0) s->systems[s->n_points++] = i;
    s->points = calloc((size_t)s->n_points + 1, sizeof *s->points);
    s->numbers = calloc(4 * (size_t)(s->n_points * s->n_panels) + 1, sizeof *s->numbers);
    return s->systems && s->points && s->numbers;
}

static void fill_points(struct scatter *s) {
    for (int64_t i = 0; i < s->n_points; i++) {
        const int64_t system = s->systems[i], n = s->n_panels;
        double *x = s->numbers + 4 * i * n, *y = x + n, *low = y + n, *high = low + n;
        for (int64_t p = 0; p < n; p++) {
            const struct panel *panel = &s->panels[p];
            const kv_figure *f = &kv_results_outcome(s->results, system, panel->task)->figures[panel->metric];
            x[p] = kv_fidelity_of(s->results, system, panel->which);
            y[p] = 100 * f->retention, low[p] = 100 * f->retention_low, high[p] = 100 * f->retention_high;
        }
        const kv_result_system *own = &s->results->systems[system];
        s->points[i] = (kv_plot_point){own->name, own->family, x, y, low, high};
    }
}

static kv_status write_titles(struct scatter *s, kv_error *err) {
    for (int64_t p = 0; p < s->n_panels; p++) {
        const struct panel *panel = &s->panels[p];
        const kv_result_task *t = &s->results->tasks[panel->task];
        const char *metric = t->metrics[panel->metric];
        char found[64] = "";
        kv_fidelity_link link;
        kv_status status =
            kv_fidelity_link_of(s->results, panel->task, panel->metric, panel->which, &link, err);
        if (status != KV_OK) return status;
        if (isfinite(link.pearson) && isfinite(link.spearman))
            snprintf(found, sizeof found, ": r %+.2f, ρ %+.2f", link.pearson, link.spearman);
        snprintf(s->titles[p], TITLE, "%.*s, %.*s%s", KV_HEAD(t->name, 70), KV_HEAD(t->split, 70), found);
        s->heights[p].label = kv_metric_kept_label(kv_metric_of(metric), metric, s->labels[p]);
        s->panel_titles[p] = s->titles[p];
        s->x_labels[p] = kv_fidelity_kinds[panel->which].label;
    }
    return KV_OK;
}

static kv_status draw_scatter(struct scatter *s, const char *dir, char note[KV_PLOT_NOTE], kv_error *err) {
    const int64_t n = choose_panels(s->results, s->panels);
    s->n_panels = n;
    if (n > KV_PLOT_MAX_PANELS || s->results->n_systems > KV_PLOT_MAX_POINTS) {
        snprintf(note, KV_PLOT_NOTE,
                 "fidelity.svg is not drawn: %lld systems and %lld panels, at most %d and %d fit",
                 (long long)s->results->n_systems, (long long)n, KV_PLOT_MAX_POINTS, KV_PLOT_MAX_PANELS);
        return KV_OK;
    }
    kv_status status =
        make_scatter(s) ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for fidelity.svg");
    if (status == KV_OK) status = write_titles(s, err);
    if (status != KV_OK) return status;
    fill_points(s);
    const kv_plot plot = {.points = s->points,
                          .n_points = s->n_points,
                          .panels = s->panel_titles,
                          .n_panels = s->n_panels,
                          .columns = KV_FIDELITIES_DRAWN,
                          .heading =
                              "what is kept of the base against how near predicted caches are to its own",
                          .x_labels = s->x_labels,
                          .heights = s->heights};
    return kv_plot_draw(&plot, dir, "fidelity", note, err);
}

kv_status kv_fidelity_draw(const kv_results *results, const char *dir, char note[KV_PLOT_NOTE],
                           kv_error *err) {
    note[0] = '\0';
    if (!results->analysis.corpus) return KV_OK;
    kv_status status = draw_layers(results, dir, note, err);
    if (status != KV_OK || !kv_results_have_fidelity(results)) return status;
    char own[KV_PLOT_NOTE] = "";
    struct scatter *s = calloc(1, sizeof *s);
    if (!s) return kv_fail(err, KV_ERR_MEMORY, "out of memory for fidelity.svg");
    s->results = results;
    status = draw_scatter(s, dir, own, err);
    if (!*note) memcpy(note, own, sizeof own);
    free(s->systems);
    free(s->points);
    free(s->numbers);
    free(s);
    return status;
}
