// Ranges, fronts and the places of labels are those of the pictures (eval/plot/layout.h); what stands on a point is said in words,
// too, for those who cannot point at it.
#include "eval/html/curve.h"

#include "eval/html/marker.h"
#include "eval/plot/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Of a panel, in units of its own: what lies around the area between the axes.
enum { WIDTH = 540, HEIGHT = 400, LEFT = 70, RIGHT = 14, TOP = 12, BOTTOM = 54 };
enum { AREA_WIDTH = WIDTH - LEFT - RIGHT, AREA_HEIGHT = HEIGHT - TOP - BOTTOM };
// Beyond so many points in all, other axes than those asked for would make the page too large.
enum { MOST_MARKS = 6000 };
// Of an axis whose ends are so large, or so near one another, that steps between them are lost in rounding.
enum { MOST_TICKS = 60 };

static const char *const counts[] = {"exact", "paper", "clock"};
static const char *const heights[] = {"accuracy", "retention"};
enum { N_COUNTS = 3, N_HEIGHTS = 2 };

struct drawing {
    kv_html *html;
    const kv_points *points;
    const kv_plot *plot;
    int64_t panel;
    kv_plot_frame frame;
    kv_plot_panel sorted;
    const kv_plot_style *styles; // [n_points + n_published]
    kv_plot_label *labels;       // [n_points]
};

static double x_of(const struct drawing *d, double x) {
    return LEFT + kv_plot_x_pixel(&d->frame, x);
}

static double y_of(const struct drawing *d, double y) {
    return TOP + AREA_HEIGHT - kv_plot_y_pixel(&d->frame, y);
}

// ---- Axes ----------------------------------------------------------------------------------------------

// 1, 2 or 5 times a power of ten, so that about n of them make the range.
static double step_of(double range, double n) {
    const double power = pow(10, floor(log10(range / n))), share = range / n / power;
    return power * (share < 1.5 ? 1 : share < 3.5 ? 2 : share < 7.5 ? 5 : 10);
}

static void x_tick(const struct drawing *d, double x) {
    if (x < d->frame.x_min || x > d->frame.x_max) return;
    kv_html_put(d->html,
                "<path class=\"grid\" d=\"M%.1f,%dV%d\"/><text x=\"%.1f\" y=\"%d\" class=\"mid\">%g×</text>",
                x_of(d, x), TOP, TOP + AREA_HEIGHT, x_of(d, x), TOP + AREA_HEIGHT + 19, x);
}

static void x_ticks(const struct drawing *d) {
    if (!d->frame.x_log) {
        const double step = step_of(d->frame.x_max - d->frame.x_min, 6);
        const double first = ceil(d->frame.x_min / step);
        for (int i = 0; i < MOST_TICKS && (first + i) * step <= d->frame.x_max; i++)
            x_tick(d, (first + i) * step);
        return;
    }
    static const double marks[] = {1, 2, 5};
    const double first = floor(log10(d->frame.x_min));
    for (int power = 0; power < MOST_TICKS && first + power <= log10(d->frame.x_max); power++)
        for (int i = 0; i < 3; i++) x_tick(d, marks[i] * pow(10, first + power));
}

static void y_ticks(const struct drawing *d) {
    const double step = step_of(d->frame.y_max - d->frame.y_min, 6);
    const double first = ceil(d->frame.y_min / step);
    for (int i = 0; i < MOST_TICKS && (first + i) * step <= d->frame.y_max; i++) {
        const double value = (first + i) * step, y = y_of(d, value);
        kv_html_put(
            d->html,
            "<path class=\"grid\" d=\"M%d,%.1fH%d\"/><text x=\"%d\" y=\"%.1f\" class=\"end\">%g</text>", LEFT,
            y, LEFT + AREA_WIDTH, LEFT - 8, y, fabs(first + i) < 1e-9 ? 0.0 : value);
    }
}

static void draw_axes(const struct drawing *d) {
    x_ticks(d);
    y_ticks(d);
    kv_html_put(d->html,
                "<path class=\"axis\" d=\"M%d,%dV%dH%d\"/><text x=\"%d\" y=\"%d\" class=\"mid label\">", LEFT,
                TOP, TOP + AREA_HEIGHT, LEFT + AREA_WIDTH, LEFT + AREA_WIDTH / 2, HEIGHT - 8);
    kv_html_text(d->html, d->plot->x_label);
    kv_html_put(d->html, "</text><text transform=\"translate(13,%d)rotate(-90)\" class=\"mid label\">",
                TOP + AREA_HEIGHT / 2);
    kv_html_text(d->html, kv_plot_y_label(d->plot, d->panel));
    kv_html_put(d->html, "</text>");
}

// ---- Lines ---------------------------------------------------------------------------------------------

// Through the points of a family, or (-1) of the front, in order of x.
static void draw_line(const struct drawing *d, int64_t family, const char *colour) {
    int64_t n = 0;
    for (int64_t o = 0; o < d->sorted.n; o++) {
        const int64_t i = d->sorted.order[o];
        if (family < 0 ? !d->sorted.front[i] : d->sorted.family[i] != family) continue;
        if (n++ == 0 && family < 0) kv_html_put(d->html, "<path class=\"front\" d=\"M");
        if (n == 1 && family >= 0)
            kv_html_put(d->html, "<path class=\"line f%lld\" style=\"--c:%s\" d=\"M", (long long)family,
                        colour);
        kv_html_put(d->html, "%s%.1f,%.1f", n > 1 ? "L" : "", x_of(d, d->plot->points[i].x[d->panel]),
                    y_of(d, d->plot->points[i].y[d->panel]));
    }
    if (n > 0) kv_html_put(d->html, "\"/>");
}

static void draw_lines(const struct drawing *d) {
    bool done[KV_PLOT_MAX_POINTS] = {false};
    draw_line(d, -1, "");
    for (int64_t i = 0; i < d->plot->n_points; i++) {
        const int64_t family = d->sorted.family[i];
        if (!done[family]) draw_line(d, family, d->styles[i].colour);
        done[family] = true;
    }
    const kv_plot_point *line = d->plot->line;
    if (line && kv_plot_drawable(d->plot, line, d->panel))
        kv_html_put(d->html, "<path class=\"height\" style=\"--c:%s\" d=\"M%d,%.1fH%d\"/>",
                    d->styles[line - d->plot->points].colour, LEFT, y_of(d, line->y[d->panel]),
                    LEFT + AREA_WIDTH);
}

static void draw_published(const struct drawing *d) {
    for (int64_t i = 0; i < d->plot->n_published; i++) {
        const kv_plot_point *point = &d->plot->published[i];
        if (!kv_plot_drawable(d->plot, point, d->panel)) continue;
        kv_html_put(d->html, "<g class=\"published\" transform=\"translate(%.1f,%.1f)scale(.7)\"><title>",
                    x_of(d, point->x[d->panel]), y_of(d, point->y[d->panel]));
        kv_html_format(d->html, "%s (%s), %s", point->label, point->family, d->plot->published_name);
        kv_html_put(d->html, "</title>");
        kv_html_marker(d->html, &d->styles[d->plot->n_points + i], true);
        kv_html_put(d->html, "</g>");
    }
}

// ---- Points --------------------------------------------------------------------------------------------

static void say_reduction(kv_html *html, const char *what, double reduction) {
    if (isfinite(reduction)) kv_html_format(html, "\n%s: %.2f×", what, reduction);
}

static void say_interval(kv_html *html, const kv_metric *metric, double low, double high) {
    char text[KV_METRIC_TEXT];
    if (isfinite(low)) kv_html_format(html, "\n95 %%: %s", kv_metric_interval_text(metric, low, high, text));
}

static void say_figure(const struct drawing *d, int64_t system, const kv_points_panel *panel) {
    const kv_result_task *task = &d->points->results->tasks[panel->task];
    const kv_metric *metric = kv_metric_of(task->metrics[panel->metric]), share = {.share = true};
    const kv_figure *f = &kv_results_outcome(d->points->results, system, panel->task)->figures[panel->metric];
    char figure[KV_METRIC_TEXT];
    kv_html_format(d->html, "\n%s: %s", metric->label ? metric->label : task->metrics[panel->metric],
                   kv_metric_text(metric, f->accuracy, figure));
    say_interval(d->html, metric, f->low, f->high);
    if (isfinite(f->retention))
        kv_html_format(d->html, "\nkept of the base's: %s", kv_metric_text(&share, f->retention, figure));
    say_interval(d->html, &share, f->retention_low, f->retention_high);
    if (isfinite(f->p_value))
        kv_html_format(d->html,
                       f->p_value < 0.001 ? "\np against the base: <0.001" : "\np against the base: %.3f",
                       f->p_value);
}

// What is known of it, a line each: the first is its name.
static void say_point(const struct drawing *d, int64_t system) {
    const kv_results *r = d->points->results;
    const kv_points_panel *panel = &d->points->panels[d->panel];
    kv_html_format(d->html, "%s\nfamily: %s", r->systems[system].name, r->systems[system].family);
    say_figure(d, system, panel);
    say_reduction(d->html, "FLOPs saved, exact", kv_result_reduction(r, system, panel->task, false));
    say_reduction(d->html, "FLOPs saved, paper", kv_result_reduction(r, system, panel->task, true));
    if (r->n_timings > 0 && isfinite(r->timings[0].seconds[system])) {
        kv_html_format(d->html, "\nto the first token: %.2f ± %.2f ms", 1e3 * r->timings[0].seconds[system],
                       1e3 * r->timings[0].spread[system]);
        say_reduction(d->html, "saved by the clock", r->timings[0].reduction[system]);
    }
    if (d->sorted.front[system]) kv_html_format(d->html, "\nPareto front: yes");
}

static void draw_whisker(const struct drawing *d, const kv_plot_point *point, double y) {
    double low = point->low ? point->low[d->panel] : NAN, high = point->high ? point->high[d->panel] : NAN;
    if (!isfinite(low) || !isfinite(high)) return;
    kv_html_put(d->html, "<path class=\"whisker\" d=\"M0,%.1fV%.1fM-3,%.1fH3M-3,%.1fH3\"/>", y_of(d, low) - y,
                y_of(d, high) - y, y_of(d, low) - y, y_of(d, high) - y);
}

static void draw_point(const struct drawing *d, int64_t i) {
    const kv_plot_point *point = &d->plot->points[i];
    const double x = x_of(d, point->x[d->panel]), y = y_of(d, point->y[d->panel]);
    kv_html_put(d->html,
                "<g class=\"point f%lld\" tabindex=\"0\" role=\"img\" data-system=\"%lld\" style=\"--c:%s\" "
                "transform=\"translate(%.1f,%.1f)\"><title>",
                (long long)d->sorted.family[i], (long long)i, d->styles[i].colour, x, y);
    say_point(d, i);
    kv_html_put(d->html, "</title>");
    draw_whisker(d, point, y);
    kv_html_put(d->html, "<circle class=\"hit\" r=\"12\"/>");
    if (d->sorted.front[i]) kv_html_put(d->html, "<circle class=\"ring\" r=\"10.5\"/>");
    kv_html_marker(d->html, &d->styles[i], false);
    kv_html_put(d->html, "</g>\n");
}

static void draw_labels(const struct drawing *d) {
    for (int64_t i = 0; i < d->plot->n_points; i++) {
        const kv_plot_label *label = &d->labels[i];
        if (!label->drawable || !label->shown) continue;
        const double y = TOP + AREA_HEIGHT - label->y;
        if (label->leader)
            kv_html_put(d->html, "<path class=\"leader\" d=\"M%.1f,%.1fL%.1f,%.1f\"/>", LEFT + label->px,
                        TOP + AREA_HEIGHT - label->py, LEFT + label->x, y);
        kv_html_put(d->html, "<text class=\"name f%lld %s\" x=\"%.1f\" y=\"%.1f\">",
                    (long long)d->sorted.family[i],
                    label->side > 0   ? ""
                    : label->side < 0 ? "end"
                                      : "mid",
                    LEFT + label->x, y);
        kv_html_text(d->html, label->text);
        kv_html_put(d->html, "</text>");
    }
}

// ---- A pair of axes ------------------------------------------------------------------------------------

static kv_status draw_panel(struct drawing *d, const kv_plot_frame *frames, kv_error *err) {
    kv_html *html = d->html;
    d->frame = frames[d->panel];
    kv_plot_sort_panel(d->plot, d->panel, &d->sorted);
    kv_plot_label *published = calloc((size_t)d->plot->n_published + 1, sizeof *published);
    kv_status status = published
                           ? kv_plot_place_labels(d->plot, d->panel, &d->frame, d->labels, published, err)
                           : kv_fail(err, KV_ERR_MEMORY, "out of memory for the page's curves");
    free(published);
    if (status != KV_OK) return status;
    kv_html_put(html, "<figure><figcaption>");
    kv_html_text(html, d->plot->panels[d->panel]);
    kv_html_put(html, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"group\" aria-label=\"", WIDTH, HEIGHT);
    kv_html_text(html, d->plot->panels[d->panel]);
    kv_html_put(html, "\">\n");
    draw_axes(d);
    draw_published(d);
    draw_lines(d);
    for (int64_t o = 0; o < d->sorted.n; o++) draw_point(d, d->sorted.order[o]);
    draw_labels(d);
    kv_html_put(html, "</svg></figure>\n");
    return KV_OK;
}

static kv_status draw_all(kv_html *html, const kv_points *points, const kv_plot_style *styles,
                          kv_error *err) {
    kv_plot_frame *frames = calloc((size_t)points->n_panels, sizeof *frames);
    kv_plot_label *labels = calloc((size_t)points->n_points + 1, sizeof *labels);
    struct drawing *d = calloc(1, sizeof *d);
    kv_status status =
        frames && labels && d ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the page's curves");
    if (status == KV_OK) {
        *d = (struct drawing){
            .html = html, .points = points, .plot = &points->plot, .styles = styles, .labels = labels};
        kv_plot_make_frames(d->plot, AREA_WIDTH, AREA_HEIGHT, frames);
    }
    for (int64_t p = 0; p < points->n_panels && status == KV_OK; p++) {
        d->panel = p;
        status = draw_panel(d, frames, err);
    }
    free(frames);
    free(labels);
    free(d);
    return status;
}

// ---- The section ---------------------------------------------------------------------------------------

// Whether some point has a place with these axes.
static bool any_drawable(const kv_points *points) {
    for (int64_t p = 0; p < points->n_panels; p++)
        for (int64_t i = 0; i < points->n_points; i++)
            if (kv_plot_drawable(&points->plot, &points->points[i], p)) return true;
    return false;
}

// styles[n_points + n_published] of each point's family.
static bool find_styles(const kv_points *points, kv_plot_style *styles) {
    const int64_t n = points->n_points + points->n_published;
    const char **families = calloc((size_t)n + 1, sizeof *families);
    int64_t n_families = 0, *family_of = calloc((size_t)n + 1, sizeof *family_of);
    kv_plot_style *found = calloc((size_t)n + 1, sizeof *found);
    const bool ok = families && family_of && found;
    for (int64_t i = 0; ok && i < n; i++) {
        int64_t f = 0;
        while (f < n_families && strcmp(families[f], points->points[i].family) != 0) f++;
        if (f == n_families) families[n_families++] = points->points[i].family;
        family_of[i] = f;
    }
    if (ok) kv_plot_family_styles(families, n_families, found);
    for (int64_t i = 0; ok && i < n; i++) styles[i] = found[family_of[i]];
    free(families);
    free(family_of);
    free(found);
    return ok;
}

// Families in order of their first row, then what else is drawn.
static void write_legend(kv_html *html, const kv_points *points, const kv_plot_style *styles) {
    kv_plot_panel *sorted = calloc(1, sizeof *sorted);
    html->out_of_memory = html->out_of_memory || !sorted;
    if (!sorted) return;
    kv_plot_sort_panel(&points->plot, 0, sorted);
    kv_html_put(html, "<ul class=\"legend\">");
    for (int64_t i = 0, next = 0; i < points->n_points; i++) {
        if (sorted->family[i] != next) continue;
        kv_html_put(html, "<li data-family=\"%lld\">", (long long)next++);
        kv_html_marker_sign(html, &styles[i]);
        kv_html_text(html, points->points[i].family);
        kv_html_put(html, "</li>");
    }
    kv_html_put(
        html, "<li><svg class=\"sign\" viewBox=\"-9 -9 18 18\" aria-hidden=\"true\"><path class=\"front\" "
              "d=\"M-9,0H9\"/><circle class=\"ring\" r=\"6\"/></svg>Pareto front</li>"
              "<li><svg class=\"sign\" viewBox=\"-9 -9 18 18\" aria-hidden=\"true\"><path class=\"whisker\" "
              "d=\"M0,-8V8M-3,-8H3M-3,8H3\"/></svg>");
    kv_html_text(html, points->settings.interval ? points->settings.interval : "95 % interval");
    kv_html_put(html, "</li>");
    if (points->plot.line) {
        kv_html_put(
            html,
            "<li><svg class=\"sign\" viewBox=\"-9 -9 18 18\" aria-hidden=\"true\"><path class=\"height\" "
            "d=\"M-9,0H9\"/></svg>height of ");
        kv_html_text(html, points->plot.line->label);
        kv_html_put(html, "</li>");
    }
    if (points->n_published > 0) {
        kv_html_put(html, "<li class=\"published\">hollow, faint: ");
        kv_html_text(html, points->published_name);
        kv_html_put(html, "</li>");
    }
    kv_html_put(html, "</ul>\n");
    free(sorted);
}

static void write_choice(kv_html *html, const char *axis, const char *const *values, const char *const *texts,
                         int n, const bool *there, const char *chosen) {
    kv_html_put(html, "<fieldset><legend>%s</legend>", axis[0] == 'x' ? "across" : "upwards");
    for (int i = 0; i < n; i++)
        if (there[i])
            kv_html_put(html,
                        "<label><input type=\"radio\" name=\"%s\" id=\"%s-%s\"%s><span>%s</span></label>",
                        axis, axis, values[i], strcmp(values[i], chosen) == 0 ? " checked" : "", texts[i]);
    kv_html_put(html, "</fieldset>");
}

struct variants {
    bool there[N_HEIGHTS][N_COUNTS];
    bool x[N_COUNTS], y[N_HEIGHTS];
};

static void write_choices(kv_html *html, const struct variants *v, const kv_points_settings *settings) {
    static const char *const count_texts[] = {"FLOPs, exact", "FLOPs, as the paper counts", "the clock"};
    static const char *const height_texts[] = {"score", "share of the base's"};
    kv_html_put(html, "<form class=\"choices\">");
    write_choice(html, "x", counts, count_texts, N_COUNTS, v->x, settings->x);
    write_choice(html, "y", heights, height_texts, N_HEIGHTS, v->y, settings->y);
    kv_html_put(html, "</form>\n");
}

typedef kv_status variant_fn(kv_html *html, const kv_points *points, bool chosen, int y, int x,
                             struct variants *v, kv_error *err);

// Calls `each` for every pair of axes that is wanted.
static kv_status for_each(kv_html *html, const kv_results *results, const kv_points_settings *settings,
                          variant_fn *each, struct variants *v, kv_error *err) {
    const bool all = results->n_systems * kv_points_panels(results) <= MOST_MARKS;
    kv_points *points = calloc(1, sizeof *points);
    kv_status status = points ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the page's curves");
    for (int y = 0; y < N_HEIGHTS; y++)
        for (int x = 0; x < N_COUNTS && status == KV_OK; x++) {
            const bool chosen = !strcmp(counts[x], settings->x) && !strcmp(heights[y], settings->y);
            kv_points_settings own = *settings;
            if (!chosen && !all) continue;
            own.x = counts[x], own.y = heights[y];
            status = kv_points_make(results, &own, points, err);
            if (status == KV_OK) status = each(html, points, chosen, y, x, v, err);
            kv_points_free(points);
        }
    free(points);
    return status;
}

static kv_status look(kv_html *html, const kv_points *points, bool chosen, int y, int x, struct variants *v,
                      kv_error *err) {
    (void)html, (void)err;
    if (!chosen && !any_drawable(points)) return KV_OK;
    v->there[y][x] = v->x[x] = v->y[y] = true;
    return KV_OK;
}

static kv_status draw(kv_html *html, const kv_points *points, bool chosen, int y, int x, struct variants *v,
                      kv_error *err) {
    if (!v->there[y][x]) return KV_OK;
    kv_plot_style *styles = calloc((size_t)(points->n_points + points->n_published) + 1, sizeof *styles);
    kv_status status = styles && find_styles(points, styles)
                           ? KV_OK
                           : kv_fail(err, KV_ERR_MEMORY, "out of memory for the page's curves");
    kv_html_put(html, "<div class=\"variant v-%s-%s%s\">", counts[x], heights[y], chosen ? " chosen" : "");
    if (status == KV_OK) status = draw_all(html, points, styles, err);
    kv_html_put(html, "</div>\n");
    if (status == KV_OK && chosen) write_legend(html, points, styles);
    free(styles);
    return status;
}

kv_status kv_html_curve(kv_html *html, const kv_results *results, const kv_points_settings *settings,
                        kv_error *err) {
    struct variants variants = {0};
    kv_html_put(html, "<section id=\"curve\"><h2>What is kept, and what it saves</h2>\n");
    if (!kv_points_fit(results)) {
        kv_html_put(
            html,
            "<p>Not drawn: %lld systems and %lld panels, at most %d and %d fit. The tables have all of them.</p>"
            "</section>\n",
            (long long)results->n_systems, (long long)kv_points_panels(results), KV_PLOT_MAX_POINTS,
            KV_PLOT_MAX_PANELS);
        return KV_OK;
    }
    kv_status status = for_each(html, results, settings, look, &variants, err);
    if (status == KV_OK) {
        write_choices(html, &variants, settings);
        kv_html_put(
            html,
            "<p class=\"hint\">Point at a marker, or go there with the Tab key, to read its figures; a click keeps "
            "them in sight until Escape. A click on a family of the legend hides it.</p>\n");
        kv_html_put(html, "<div class=\"stage\"><div class=\"panels\">\n");
        status = for_each(html, results, settings, draw, &variants, err);
        kv_html_put(html, "</div><aside id=\"details\" aria-live=\"polite\"></aside></div>\n");
    }
    kv_html_put(html, "</section>\n");
    return status;
}
