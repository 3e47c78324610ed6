#include "eval/plot_layout.h"

#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct box {
    double x0, y0, x1, y1;
};

static const double marker_size = 14, text_height = 17, character_width = 0.58 * KV_PLOT_FONT;

// ---- Ranges --------------------------------------------------------------------------------------------

// The next of 1, 2, 5, 10, 20, … at or above value.
static double round_up(double value) {
    const double power = pow(10, floor(log10(value)));
    const double steps[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (value <= steps[i] * power * (1 + 1e-9)) return steps[i] * power;
    return 10 * power;
}

kv_plot_frame kv_plot_make_frame(const kv_plot *plot, double width, double height) {
    double x_low = INFINITY, x_high = -INFINITY, y_high = 0;
    for (int64_t i = 0; i < plot->n_points; i++) {
        const kv_plot_point *point = &plot->points[i];
        if (!(isfinite(point->x) && point->x > 0)) continue;
        x_low = fmin(x_low, point->x);
        x_high = fmax(x_high, point->x);
        for (int64_t p = 0; p < plot->n_panels; p++)
            if (isfinite(point->y[p])) y_high = fmax(y_high, point->y[p]);
    }
    if (!isfinite(x_low)) x_low = x_high = 1;
    if (y_high <= 0) y_high = 1;
    kv_plot_frame frame = {.width = width, .height = height, .x_log = x_high / x_low > 5};
    if (frame.x_log) {
        const double margin = pow(x_high / x_low, 0.12);
        frame.x_min = x_low / margin, frame.x_max = x_high * margin * margin;
    } else {
        const double margin = fmax(0.15 * (x_high - x_low), 0.1);
        frame.x_min = x_low - margin, frame.x_max = x_high + 2 * margin;
    }
    const double step = round_up(y_high / 5);
    frame.y_min = -0.3 * step; // markers at 0 stay clear of the axis
    frame.y_max = step * ceil(y_high / step) + 0.4 * step;
    return frame;
}

// ---- Labels --------------------------------------------------------------------------------------------

static double x_pixel(const kv_plot_frame *frame, double x) {
    if (frame->x_log) return frame->width * log(x / frame->x_min) / log(frame->x_max / frame->x_min);
    return frame->width * (x - frame->x_min) / (frame->x_max - frame->x_min);
}

static double y_pixel(const kv_plot_frame *frame, double y) {
    return frame->height * (y - frame->y_min) / (frame->y_max - frame->y_min);
}

static double overlap(const struct box *a, const struct box *b) {
    const double w = fmin(a->x1, b->x1) - fmax(a->x0, b->x0), h = fmin(a->y1, b->y1) - fmax(a->y0, b->y0);
    return w > 0 && h > 0 ? w * h : 0;
}

static struct box centred(double x, double y, double width, double height) {
    return (struct box){x - width / 2, y - height / 2, x + width / 2, y + height / 2};
}

// Area that a label would cover of what is drawn already, or lay outside the panel.
static double penalty(const struct box *label, const struct box *taken, int64_t n_taken,
                      const kv_plot_frame *frame) {
    const struct box inside = {8, 4, frame->width - 2, frame->height - 2};
    double sum = 4 * ((label->x1 - label->x0) * (label->y1 - label->y0) - overlap(label, &inside));
    for (int64_t i = 0; i < n_taken; i++) sum += overlap(label, &taken[i]);
    return sum;
}

double kv_plot_text_width(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n * character_width;
}

// Tries places around the point, near ones first and right or left before above or below, and takes the first
// that covers nothing, or else what covers least.
static double place(kv_plot_label *label, double width, const struct box *taken, int64_t n_taken,
                    const kv_plot_frame *frame, struct box *own) {
    static const double directions[][2] = {{1, 0},     {-1, 0},     {0, 1},      {0, -1},
                                           {0.8, 0.8}, {0.8, -0.8}, {-0.8, 0.8}, {-0.8, -0.8}};
    static const double distances[] = {12, 18, 28, 40, 54, 70, 88, 110};
    double best = INFINITY, distance = 0;
    for (size_t r = 0; r < sizeof distances / sizeof *distances && best > 0; r++)
        for (size_t d = 0; d < sizeof directions / sizeof *directions && best > 0; d++) {
            const double *way = directions[d], reach = distances[r];
            const int side = (way[0] > 0.1) - (way[0] < -0.1);
            const double x = label->px + reach * way[0], y = label->py + (reach + (side ? 0 : 4)) * way[1];
            const struct box box = centred(x + side * width / 2, y, width, text_height);
            const double cost = penalty(&box, taken, n_taken, frame);
            if (cost >= best) continue;
            best = cost;
            label->x = x, label->y = y, label->side = side, label->leader = reach > 20;
            *own = box;
            distance = reach;
        }
    return 20 * best + distance * distance;
}

static int compare_px(const void *a, const void *b) {
    const kv_plot_label *p = *(const kv_plot_label *const *)a, *q = *(const kv_plot_label *const *)b;
    return (p->px > q->px) - (p->px < q->px);
}

enum { LINE_BOXES = 256 };

// The line along the front as a string of small boxes.
static int64_t cover_front(const kv_plot *plot, int64_t panel, const kv_plot_frame *frame,
                           const kv_plot_label *labels, struct box *taken) {
    const kv_plot_label *front[KV_PLOT_MAX_POINTS];
    bool on_front[KV_PLOT_MAX_POINTS];
    size_t n = 0;
    int64_t n_boxes = 0;
    kv_plot_front(plot, panel, on_front);
    for (int64_t i = 0; i < plot->n_points; i++)
        if (on_front[i] && labels[i].shown) front[n++] = &labels[i];
    qsort(front, n, sizeof *front, compare_px);
    const double step = fmax(8, 2 * (frame->width + frame->height) / LINE_BOXES);
    for (size_t i = 1; i < n; i++) {
        const double dx = front[i]->px - front[i - 1]->px, dy = front[i]->py - front[i - 1]->py;
        const double pieces = ceil(hypot(dx, dy) / step);
        for (double piece = 1; piece < pieces && n_boxes < LINE_BOXES; piece++)
            taken[n_boxes++] =
                centred(front[i - 1]->px + dx * piece / pieces, front[i - 1]->py + dy * piece / pieces, 5, 5);
    }
    return n_boxes;
}

// Places all labels in the order given; the cost is what they cover and how far they are from their points.
static double place_all(const kv_plot *plot, const kv_plot_frame *frame, const int64_t *order,
                        struct box *taken, int64_t n_taken, kv_plot_label *labels) {
    double cost = 0;
    for (int64_t o = 0; o < plot->n_points; o++) {
        const int64_t i = order[o];
        if (!labels[i].shown) continue;
        struct box own = {0};
        cost += place(&labels[i], kv_plot_text_width(plot->points[i].label), taken, n_taken, frame, &own);
        taken[n_taken++] = own;
    }
    return cost;
}

enum { ORDERS = 60 };

void kv_plot_place_labels(const kv_plot *plot, int64_t panel, const kv_plot_frame *frame,
                          kv_plot_label *labels) {
    struct box taken[2 * KV_PLOT_MAX_POINTS + LINE_BOXES];
    kv_plot_label trial[KV_PLOT_MAX_POINTS];
    int64_t order[KV_PLOT_MAX_POINTS], n_taken = 0;
    for (int64_t i = 0; i < plot->n_points; i++) {
        const kv_plot_point *point = &plot->points[i];
        trial[i] = (kv_plot_label){.shown = isfinite(point->x) && point->x > 0 && isfinite(point->y[panel])};
        if (!trial[i].shown) continue;
        trial[i].px = x_pixel(frame, point->x);
        trial[i].py = y_pixel(frame, point->y[panel]);
        taken[n_taken++] = centred(trial[i].px, trial[i].py, marker_size, marker_size);
    }
    n_taken += cover_front(plot, panel, frame, trial, taken + n_taken);
    double best = INFINITY;
    for (uint64_t attempt = 0; attempt < ORDERS; attempt++) {
        kv_rng_permutation((kv_rng){.seed = attempt}, plot->n_points, order);
        const double cost = place_all(plot, frame, order, taken, n_taken, trial);
        if (cost >= best) continue;
        best = cost;
        memcpy(labels, trial, (size_t)plot->n_points * sizeof *labels);
    }
    if (!isfinite(best)) memcpy(labels, trial, (size_t)plot->n_points * sizeof *labels);
}
