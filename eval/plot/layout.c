// gnuplot could choose ranges itself, but where a label fits is only known once they are.
#include "eval/plot/layout.h"

#include "eval/statistics/budget.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- Ranges --------------------------------------------------------------------------------------------

struct range {
    double low, high;
};

// Sums that were rounded in another order differ, too, but by less than axes could show.
static bool is_wide(struct range range) {
    return range.high - range.low > 1e-9 * fmax(fabs(range.low), fabs(range.high));
}

static void extend(struct range *range, double value) {
    if (!isfinite(value)) return;
    range->low = fmin(range->low, value);
    range->high = fmax(range->high, value);
}

bool kv_plot_drawable(const kv_plot *plot, const kv_plot_point *point, int64_t panel) {
    return isfinite(point->x[panel]) && (plot->x_labels || point->x[panel] > 0) && isfinite(point->y[panel]);
}

static void extend_by_points(const kv_plot *plot, const kv_plot_point *points, int64_t n, int64_t panel,
                             struct range *x, struct range *y) {
    for (int64_t i = 0; i < n; i++) {
        if (!kv_plot_drawable(plot, &points[i], panel)) continue;
        extend(x, points[i].x[panel]);
        extend(y, points[i].y[panel]);
        if (points[i].low) extend(y, points[i].low[panel]);
        if (points[i].high) extend(y, points[i].high[panel]);
    }
}

static void set_x(kv_plot_frame *frame, struct range x) {
    if (!isfinite(x.low)) x.low = x.high = 1;
    frame->x_log = x.high / x.low > 5;
    if (frame->x_log) {
        const double margin = pow(x.high / x.low, 0.12);
        frame->x_min = x.low / margin, frame->x_max = x.high * margin * margin;
    } else {
        const double margin = fmax(0.15 * (x.high - x.low), 0.1);
        frame->x_min = x.low - margin, frame->x_max = x.high + 2 * margin;
    }
}

// With ticks in it (kv_plot_log_ticks) also where all are alike.
static void set_times(kv_plot_frame *frame, struct range x) {
    if (!isfinite(x.low)) x.low = x.high = 1;
    const double margin = fmax(pow(x.high / x.low, 0.12), 1.3);
    frame->x_log = true;
    frame->x_min = x.low / margin, frame->x_max = x.high * margin * margin;
}

// With room for labels to the right, also where all are alike.
static void set_scatter(kv_plot_frame *frame, struct range x) {
    if (!isfinite(x.low)) x.low = x.high = 0;
    const double margin = is_wide(x) ? 0.08 * (x.high - x.low) : fmax(0.05 * fabs(x.low), 0.01);
    frame->x_min = x.low - margin, frame->x_max = x.high + 2 * margin;
}

static bool lower_is_better(const kv_plot *plot, int64_t panel) {
    return plot->heights && plot->heights[panel].lower_is_better;
}

const char *kv_plot_y_label(const kv_plot *plot, int64_t panel) {
    const char *label = plot->heights ? plot->heights[panel].label : plot->y_label;
    return label ? label : "";
}

// From 0, unless all values lie in the upper half: there differences would be squeezed. What is better the lower it is never
// comes near 0.
static bool from_zero(struct range y, bool lower) {
    return !lower && (!(y.low > 0.5 * y.high) || !is_wide(y));
}

static struct range shown_range(struct range y, bool lower) {
    if (!isfinite(y.low)) y.low = y.high = 0;
    if (from_zero(y, lower)) y.low = fmin(y.low, 0), y.high = fmax(y.high, 0);
    if (!is_wide(y) && lower) {
        const double room = fmax(0.05 * fabs(y.low), 1e-3); // of one value, or of equal ones: room around
        y.low -= room, y.high += room;
    }
    if (y.low >= y.high) y.high = y.low + 1;
    return y;
}

static void set_y(kv_plot_frame *frame, struct range y, bool lower) {
    y = shown_range(y, lower);
    frame->y_min = y.low - 0.06 * (y.high - y.low); // markers at 0 stay clear of the axis
    frame->y_max = y.high + 0.08 * (y.high - y.low);
}

// The range of all panels that show the same as this one, which shows at a glance where it is harder, unless one of them would
// get less than half of it: then its own.
static struct range shared_range(const kv_plot *plot, const struct range *own, int64_t panel) {
    struct range all = {INFINITY, -INFINITY};
    const bool lower = lower_is_better(plot, panel);
    double narrowest = INFINITY;
    if (plot->whole) return (struct range){0, 100};
    for (int64_t p = 0; p < plot->n_panels; p++) {
        if (lower_is_better(plot, p) != lower ||
            strcmp(kv_plot_y_label(plot, p), kv_plot_y_label(plot, panel)) != 0)
            continue;
        extend(&all, own[p].low);
        extend(&all, own[p].high);
        if (isfinite(own[p].low))
            narrowest = fmin(narrowest, shown_range(own[p], lower).high - shown_range(own[p], lower).low);
    }
    const bool shared =
        narrowest >= 0.5 * (all.high - (from_zero(all, lower) ? 0 : all.low)) || !isfinite(narrowest);
    return shared ? all : own[panel];
}

void kv_plot_make_frames(const kv_plot *plot, double width, double height, kv_plot_frame *frames) {
    struct range x = {INFINITY, -INFINITY}, own[KV_PLOT_MAX_PANELS], own_x[KV_PLOT_MAX_PANELS];
    for (int64_t p = 0; p < plot->n_panels; p++) {
        own[p] = own_x[p] = (struct range){INFINITY, -INFINITY};
        extend_by_points(plot, plot->points, plot->n_points, p, &own_x[p], &own[p]);
        extend_by_points(plot, plot->published, plot->n_published, p, &own_x[p], &own[p]);
        extend(&x, own_x[p].low);
        extend(&x, own_x[p].high);
    }
    for (int64_t p = 0; p < plot->n_panels; p++) {
        frames[p] = (kv_plot_frame){.width = width, .height = height};
        if (plot->x_labels)
            set_scatter(&frames[p], own_x[p]);
        else if (plot->times)
            set_times(&frames[p], own_x[p]);
        else
            set_x(&frames[p], x);
        set_y(&frames[p], shared_range(plot, own, p), lower_is_better(plot, p));
    }
}

double kv_plot_x_pixel(const kv_plot_frame *frame, double x) {
    if (frame->x_log) return frame->width * log(x / frame->x_min) / log(frame->x_max / frame->x_min);
    return frame->width * (x - frame->x_min) / (frame->x_max - frame->x_min);
}

double kv_plot_y_pixel(const kv_plot_frame *frame, double y) {
    return frame->height * (y - frame->y_min) / (frame->y_max - frame->y_min);
}

// ---- Order ---------------------------------------------------------------------------------------------

// Numbers families by appearance, behind those already in names[n_names]; returns how many there are then.
static int64_t number_families(const kv_plot_point *points, int64_t n, const char **names, int64_t n_names,
                               int64_t *family) {
    for (int64_t i = 0; i < n; i++) {
        int64_t f = 0;
        while (f < n_names && strcmp(names[f], points[i].family) != 0) f++;
        if (f == n_names) names[n_names++] = points[i].family;
        family[i] = f;
    }
    return n_names;
}

// By insertion, which keeps the order of equal ones.
static void sort_by_x(const kv_plot *plot, const kv_plot_point *points, int64_t n, int64_t panel,
                      kv_plot_panel *sorted) {
    sorted->n = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!kv_plot_drawable(plot, &points[i], panel)) continue;
        int64_t at = sorted->n++;
        for (; at > 0 && points[sorted->order[at - 1]].x[panel] > points[i].x[panel]; at--)
            sorted->order[at] = sorted->order[at - 1];
        sorted->order[at] = i;
    }
    for (int64_t o = 0; o < sorted->n; o++) {
        const int64_t own = sorted->order[o];
        bool before = false, after = false;
        for (int64_t other = 0; other < sorted->n; other++) {
            const bool same = sorted->family[sorted->order[other]] == sorted->family[own];
            before = before || (same && other < o);
            after = after || (same && other > o);
        }
        sorted->inner[own] = before && after;
    }
}

static void find_front(const kv_plot *plot, int64_t panel, bool *front) {
    double cost[KV_PLOT_MAX_POINTS], score[KV_PLOT_MAX_POINTS];
    for (int64_t i = 0; i < plot->n_points; i++) {
        const kv_plot_point *point = &plot->points[i];
        const double spent = plot->times ? point->x[panel] : 1 / point->x[panel];
        cost[i] = kv_plot_drawable(plot, point, panel) && !plot->x_labels ? spent : NAN;
        score[i] = lower_is_better(plot, panel) ? -point->y[panel] : point->y[panel];
    }
    kv_pareto_front(cost, score, plot->n_points, front);
}

void kv_plot_sort_panel(const kv_plot *plot, int64_t panel, kv_plot_panel *sorted) {
    const char *names[KV_PLOT_MAX_POINTS];
    sorted->n_families = number_families(plot->points, plot->n_points, names, 0, sorted->family);
    sort_by_x(plot, plot->points, plot->n_points, panel, sorted);
    find_front(plot, panel, sorted->front);
}

void kv_plot_sort_published(const kv_plot *plot, int64_t panel, kv_plot_panel *sorted) {
    const char *names[2 * KV_PLOT_MAX_POINTS];
    const int64_t own = number_families(plot->points, plot->n_points, names, 0, sorted->family);
    sorted->n_families = number_families(plot->published, plot->n_published, names, own, sorted->family);
    sort_by_x(plot, plot->published, plot->n_published, panel, sorted);
    memset(sorted->front, 0, sizeof sorted->front);
}
