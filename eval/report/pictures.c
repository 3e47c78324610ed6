// From results to what a picture shows: which metrics get panels, which numbers are the axes, which of the
// paper's points belong there.
#include "eval/report/pictures.h"

#include "core/text.h"
#include "eval/published/published.h"
#include "eval/report/fidelity.h"
#include "eval/report/heat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- Panels --------------------------------------------------------------------------------------------

// A metric of a task.
struct panel {
    int64_t task;
    int metric;
};

// The first metric of every task, and those that have a panel of their own: all pass@k (the paper's figure 4), nats of all
// positions beside those of the tail.
static int64_t choose_panels(const kv_results *results, struct panel *panels, int64_t room) {
    int64_t n = 0;
    for (int64_t t = 0; t < results->n_tasks; t++)
        for (int m = 0; m < results->tasks[t].n_metrics; m++)
            if ((m == 0 || kv_metric_of(results->tasks[t].metrics[m])->drawn) && n++ < room)
                panels[n - 1] = (struct panel){t, m};
    return n;
}

static const char *name_of(const kv_results *results, const struct panel *panel) {
    return results->tasks[panel->task].metrics[panel->metric];
}

static const kv_metric *metric_of(const kv_results *results, const struct panel *panel) {
    return kv_metric_of(name_of(results, panel));
}

enum { TITLE = 256 };

static void write_title(const kv_results *results, const struct panel *panel, char title[TITLE]) {
    const kv_result_task *task = &results->tasks[panel->task];
    const bool several = task->n_metrics > 1;
    char left_out[64] = "", cut[64] = "";
    if (task->n_skipped > 0)
        snprintf(left_out, sizeof left_out, " (%lld of %lld skipped)", (long long)task->n_skipped,
                 (long long)(task->n_items + task->n_skipped));
    if (task->n_cut > 0)
        snprintf(cut, sizeof cut, " (%lld of %lld cut)", (long long)task->n_cut, (long long)task->n_items);
    snprintf(title, TITLE, "%.*s, %.*s%s%s%s%s", KV_HEAD(task->name, 70), KV_HEAD(task->split, 70),
             several ? ": " : "", several ? name_of(results, panel) : "", left_out, cut);
}

// ---- Scores against savings ----------------------------------------------------------------------------

// All arrays of one picture in two blocks.
struct pareto {
    const kv_results *results;
    const kv_eval_picture *settings;
    struct panel panels[KV_PLOT_MAX_PANELS];
    int64_t n_panels, n_points, n_published;
    kv_plot_point *points;                        // [n_points + n_published]
    double *numbers;                              // [n_points + n_published, 4, n_panels]: x, y, low, high
    char (*titles)[TITLE];                        // [n_panels]
    const char *panel_titles[KV_PLOT_MAX_PANELS]; // the same
    char share_label[64];                         // of all panels in per cent
    char labels[KV_PLOT_MAX_PANELS][KV_METRIC_LABEL];
    kv_plot_height heights[KV_PLOT_MAX_PANELS];
    char published_name[96];
};

static double *numbers_of(const struct pareto *p, int64_t point, int which) {
    return p->numbers + (point * 4 + which) * p->n_panels;
}

static double reduction_of(const struct pareto *p, int64_t system, int64_t task) {
    const kv_results *results = p->results;
    if (strcmp(p->settings->x, "clock") != 0)
        return kv_result_reduction(results, system, task, !strcmp(p->settings->x, "paper"));
    return results->n_timings ? results->timings[0].reduction[system] : NAN;
}

static bool retention(const struct pareto *p) {
    return !strcmp(p->settings->y, "retention");
}

static void set_point(struct pareto *p, int64_t i, const char *label, const char *family) {
    p->points[i] = (kv_plot_point){.label = label,
                                   .family = family,
                                   .x = numbers_of(p, i, 0),
                                   .y = numbers_of(p, i, 1),
                                   .low = numbers_of(p, i, 2),
                                   .high = numbers_of(p, i, 3)};
}

// To show the panel's heights in: per cent where they are shares.
static double unit_of(const struct pareto *p, const struct panel *panel) {
    return retention(p) ? 100 : kv_metric_unit(metric_of(p->results, panel));
}

// Of all positions of a text, a system that does nothing but to prompts reads none in another way than its base: what it saves
// elsewhere it does not save there. The two may come from runs of other numbers of threads, whose sums round otherwise.
static bool saves_nothing(const kv_results *results, int64_t system, const struct panel *panel) {
    const kv_outcome *own = kv_results_outcome(results, system, panel->task);
    const kv_outcome *base = kv_results_outcome(results, results->systems[system].base, panel->task);
    const int64_t n = results->tasks[panel->task].n_items;
    if (own == base || !own->values || !base->values || !metric_of(results, panel)->whole) return false;
    bool same = true;
    for (int64_t i = 0; i < n; i++) {
        const double x = own->values[panel->metric * n + i], y = base->values[panel->metric * n + i];
        same = same && fabs(x - y) <= 1e-4 * (1 + fabs(y));
    }
    return same;
}

static void fill_points(struct pareto *p) {
    const kv_results *results = p->results;
    for (int64_t s = 0; s < p->n_points; s++) {
        set_point(p, s, results->systems[s].name, results->systems[s].family);
        for (int64_t i = 0; i < p->n_panels; i++) {
            const struct panel *panel = &p->panels[i];
            const kv_figure *f = &kv_results_outcome(results, s, panel->task)->figures[panel->metric];
            const double unit = unit_of(p, panel);
            numbers_of(p, s, 0)[i] = saves_nothing(results, s, panel) ? NAN : reduction_of(p, s, panel->task);
            numbers_of(p, s, 1)[i] = unit * (retention(p) ? f->retention : f->accuracy);
            numbers_of(p, s, 2)[i] = unit * (retention(p) ? f->retention_low : f->low);
            numbers_of(p, s, 3)[i] = unit * (retention(p) ? f->retention_high : f->high);
        }
    }
}

// Tables of several tasks have a column for each, named as the kind; others one for the metric.
static int64_t published_column(const struct pareto *p, const struct panel *panel,
                                const kv_published *table) {
    const int64_t column = kv_published_column(table, p->results->tasks[panel->task].kind);
    return column >= 0 ? column : kv_published_column(table, name_of(p->results, panel));
}

// By the clock only where the paper has measured.
static double published_reduction(const struct pareto *p, const kv_published *table, int64_t i) {
    if (strcmp(p->settings->x, "clock") != 0) return table->points[i].flops_reduction;
    const int64_t column = kv_published_column(table, "ttft_reduction");
    return column < 0 ? NAN : table->points[i].values[column];
}

static void fill_published(struct pareto *p, const kv_published *table) {
    for (int64_t i = 0; i < p->n_published; i++) {
        const int64_t own = p->n_points + i;
        set_point(p, own, table->points[i].model, table->points[i].family);
        for (int64_t k = 0; k < p->n_panels; k++) {
            const int64_t column = published_column(p, &p->panels[k], table);
            const double value = column < 0 ? NAN : table->points[i].values[column];
            const double whole =
                column < 0 || !retention(p) ? 100 : table->points[0].values[column]; // the base's row
            numbers_of(p, own, 0)[k] = published_reduction(p, table, i);
            numbers_of(p, own, 1)[k] = 100 * value / whole;
            numbers_of(p, own, 2)[k] = numbers_of(p, own, 3)[k] = NAN;
        }
    }
    snprintf(p->published_name, sizeof p->published_name, "published (%s)", table->source);
}

// One name for all panels of shares.
static void write_share_label(struct pareto *p) {
    const char *name = NULL;
    bool same = true, pass = true;
    for (int64_t i = 0; i < p->n_panels; i++) {
        const char *own = name_of(p->results, &p->panels[i]);
        if (!metric_of(p->results, &p->panels[i])->share) continue;
        if (!name) name = own;
        same = same && !strcmp(own, name);
        pass = pass && !strncmp(own, "pass@", 5);
    }
    if (!name) return;
    if (!same) name = pass ? "pass@k" : "score";
    if (same && kv_metric_of(name)->label) name = kv_metric_of(name)->label;
    snprintf(p->share_label, sizeof p->share_label, retention(p) ? "%s, share of the base's (%%)" : "%s (%%)",
             name);
}

static void write_y_labels(struct pareto *p) {
    write_share_label(p);
    for (int64_t i = 0; i < p->n_panels; i++) {
        const kv_metric *metric = metric_of(p->results, &p->panels[i]);
        const char *label = metric->label ? metric->label : name_of(p->results, &p->panels[i]);
        p->heights[i] = (kv_plot_height){p->labels[i], metric->lower_is_better && !retention(p)};
        if (metric->share)
            p->heights[i].label = p->share_label;
        else if (!retention(p))
            snprintf(p->labels[i], sizeof p->labels[i], "%s%s", label,
                     metric->lower_is_better ? " (lower is better)" : "");
        else
            kv_metric_kept_label(metric, name_of(p->results, &p->panels[i]), p->labels[i]);
    }
}

static kv_status make_room(struct pareto *p, kv_error *err) {
    const size_t n = (size_t)(p->n_points + p->n_published), n_panels = (size_t)p->n_panels;
    p->points = calloc(n + 1, sizeof *p->points);
    p->numbers = calloc(4 * n * n_panels + 1, sizeof *p->numbers);
    p->titles = calloc(n_panels, sizeof *p->titles);
    if (!p->points || !p->numbers || !p->titles)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the picture");
    for (size_t i = 0; i < n_panels; i++) {
        write_title(p->results, &p->panels[i], p->titles[i]);
        p->panel_titles[i] = p->titles[i];
    }
    return KV_OK;
}

static const char *x_label(const char *x) {
    return !strcmp(x, "paper")   ? "reduction of FLOPs to the first token (paper's convention)"
           : !strcmp(x, "clock") ? "reduction of the time to first token (measured)"
                                 : "reduction of FLOPs to the first token (exact)";
}

static kv_status draw_points(struct pareto *p, const char *dir, char note[KV_PLOT_NOTE], kv_error *err) {
    const kv_plot_point *line = NULL;
    for (int64_t s = 0; p->settings->line && s < p->n_points; s++)
        if (!strcmp(p->points[s].label, p->settings->line)) line = &p->points[s];
    const kv_plot plot = {.points = p->points,
                          .line = line,
                          .interval = p->settings->interval,
                          .n_points = p->n_points,
                          .panels = p->panel_titles,
                          .n_panels = p->n_panels,
                          .x_label = x_label(p->settings->x),
                          .heights = p->heights,
                          .published = p->points + p->n_points,
                          .n_published = p->n_published,
                          .published_name = p->published_name};
    return kv_plot_draw(&plot, dir, "pareto", note, err);
}

static kv_status draw_pareto(const kv_results *results, const kv_eval_picture *settings, const char *dir,
                             char note[KV_PLOT_NOTE], kv_error *err) {
    struct pareto p = {.results = results, .settings = settings, .n_points = results->n_systems};
    kv_published *table = NULL;
    kv_status status = KV_OK;
    p.n_panels = choose_panels(results, p.panels, KV_PLOT_MAX_PANELS);
    // The figures are worth more than the picture: too much of them is no failure.
    if (p.n_points > KV_PLOT_MAX_POINTS || p.n_panels > KV_PLOT_MAX_PANELS) {
        snprintf(note, KV_PLOT_NOTE,
                 "the picture is not drawn: %lld systems and %lld panels, at most %d and %d fit",
                 (long long)p.n_points, (long long)p.n_panels, KV_PLOT_MAX_POINTS, KV_PLOT_MAX_PANELS);
        return KV_OK;
    }
    if (settings->published && settings->draw_published)
        status = kv_published_load(settings->published, &table, err);
    if (table) p.n_published = table->n_points;
    if (status == KV_OK) status = make_room(&p, err);
    if (status == KV_OK) {
        fill_points(&p);
        if (table) fill_published(&p, table);
        write_y_labels(&p);
        status = draw_points(&p, dir, note, err);
    }
    free(p.points);
    free(p.numbers);
    free(p.titles);
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
