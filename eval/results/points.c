// From results to what a picture shows: which metrics get panels, which numbers are the axes, which of the
// paper's points belong there.
#include "eval/results/points.h"

#include "core/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- Panels --------------------------------------------------------------------------------------------

// The first metric of every task, and those that have a panel of their own: all pass@k (the paper's figure 4), nats of all
// positions beside those of the tail.
static int64_t choose_panels(const kv_results *results, kv_points_panel *panels, int64_t room) {
    int64_t n = 0;
    for (int64_t t = 0; t < results->n_tasks; t++)
        for (int m = 0; m < results->tasks[t].n_metrics; m++)
            if ((m == 0 || kv_metric_of(results->tasks[t].metrics[m])->drawn) && n++ < room)
                panels[n - 1] = (kv_points_panel){t, m};
    return n;
}

static const char *name_of(const kv_results *results, const kv_points_panel *panel) {
    return results->tasks[panel->task].metrics[panel->metric];
}

static const kv_metric *metric_of(const kv_results *results, const kv_points_panel *panel) {
    return kv_metric_of(name_of(results, panel));
}

static void write_title(const kv_results *results, const kv_points_panel *panel,
                        char title[KV_POINTS_TITLE]) {
    const kv_result_task *task = &results->tasks[panel->task];
    const bool several = task->n_metrics > 1;
    char left_out[64] = "", cut[64] = "";
    if (task->n_skipped > 0)
        snprintf(left_out, sizeof left_out, " (%lld of %lld skipped)", (long long)task->n_skipped,
                 (long long)(task->n_items + task->n_skipped));
    if (task->n_cut > 0)
        snprintf(cut, sizeof cut, " (%lld of %lld cut)", (long long)task->n_cut, (long long)task->n_items);
    snprintf(title, KV_POINTS_TITLE, "%.*s, %.*s%s%s%s%s", KV_HEAD(task->name, 70), KV_HEAD(task->split, 70),
             several ? ": " : "", several ? name_of(results, panel) : "", left_out, cut);
}

// ---- Scores against savings ----------------------------------------------------------------------------

static double *numbers_of(const kv_points *p, int64_t point, int which) {
    return p->numbers + (point * 4 + which) * p->n_panels;
}

static double reduction_of(const kv_points *p, int64_t system, int64_t task) {
    const kv_results *results = p->results;
    if (strcmp(p->settings.x, "clock") != 0)
        return kv_result_reduction(results, system, task, !strcmp(p->settings.x, "paper"));
    return results->n_timings ? results->timings[0].reduction[system] : NAN;
}

static bool retention(const kv_points *p) {
    return !strcmp(p->settings.y, "retention");
}

static void set_point(kv_points *p, int64_t i, const char *label, const char *family) {
    p->points[i] = (kv_plot_point){.label = label,
                                   .family = family,
                                   .x = numbers_of(p, i, 0),
                                   .y = numbers_of(p, i, 1),
                                   .low = numbers_of(p, i, 2),
                                   .high = numbers_of(p, i, 3)};
}

// To show the panel's heights in: per cent where they are shares.
static double unit_of(const kv_points *p, const kv_points_panel *panel) {
    return retention(p) ? 100 : kv_metric_unit(metric_of(p->results, panel));
}

// Of all positions of a text, a system that does nothing but to prompts reads none in another way than its base: what it saves
// elsewhere it does not save there. The two may come from runs of other numbers of threads, whose sums round otherwise.
static bool saves_nothing(const kv_results *results, int64_t system, const kv_points_panel *panel) {
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

static void fill_points(kv_points *p) {
    const kv_results *results = p->results;
    for (int64_t s = 0; s < p->n_points; s++) {
        set_point(p, s, results->systems[s].name, results->systems[s].family);
        for (int64_t i = 0; i < p->n_panels; i++) {
            const kv_points_panel *panel = &p->panels[i];
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
static int64_t published_column(const kv_points *p, const kv_points_panel *panel, const kv_published *table) {
    const int64_t column = kv_published_column(table, p->results->tasks[panel->task].kind);
    return column >= 0 ? column : kv_published_column(table, name_of(p->results, panel));
}

// By the clock only where the paper has measured.
static double published_reduction(const kv_points *p, const kv_published *table, int64_t i) {
    if (strcmp(p->settings.x, "clock") != 0) return table->points[i].flops_reduction;
    const int64_t column = kv_published_column(table, "ttft_reduction");
    return column < 0 ? NAN : table->points[i].values[column];
}

static void fill_published(kv_points *p, const kv_published *table) {
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
static void write_share_label(kv_points *p) {
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

static void write_y_labels(kv_points *p) {
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

static kv_status make_room(kv_points *p, kv_error *err) {
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

// ---- All of it -----------------------------------------------------------------------------------------

static void set_plot(kv_points *p) {
    p->plot = (kv_plot){.points = p->points,
                        .interval = p->settings.interval,
                        .n_points = p->n_points,
                        .panels = p->panel_titles,
                        .n_panels = p->n_panels,
                        .x_label = x_label(p->settings.x),
                        .heights = p->heights,
                        .published = p->points + p->n_points,
                        .n_published = p->n_published,
                        .published_name = p->published_name};
    for (int64_t s = 0; p->settings.line && s < p->n_points; s++)
        if (!strcmp(p->points[s].label, p->settings.line)) p->plot.line = &p->points[s];
}

int64_t kv_points_panels(const kv_results *results) {
    return choose_panels(results, NULL, 0);
}

bool kv_points_fit(const kv_results *results) {
    return results->n_systems <= KV_PLOT_MAX_POINTS && kv_points_panels(results) <= KV_PLOT_MAX_PANELS;
}

kv_status kv_points_make(const kv_results *results, const kv_points_settings *settings, kv_points *p,
                         kv_error *err) {
    *p = (kv_points){.results = results, .settings = *settings, .n_points = results->n_systems};
    p->n_panels = choose_panels(results, p->panels, KV_PLOT_MAX_PANELS);
    if (settings->published) p->n_published = settings->published->n_points;
    kv_status status = make_room(p, err);
    if (status != KV_OK) return status;
    fill_points(p);
    if (settings->published) fill_published(p, settings->published);
    write_y_labels(p);
    set_plot(p);
    return KV_OK;
}

void kv_points_free(kv_points *p) {
    free(p->points);
    free(p->numbers);
    free(p->titles);
    p->points = NULL, p->numbers = NULL, p->titles = NULL;
}
