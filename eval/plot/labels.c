// Greedy, in several orders, of which the best is taken: what is placed first gets the best place, and no
// order is right for all pictures. Costs are areas and squares of distances in pixels, found by looking at
// pictures.
#include "eval/plot/layout.h"

#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_CHARACTERS = 30, CROWDED = 12, MAX_BOXES = 6000 };
static const double marker_size = 14, text_height = 16, hard_tolerance = 2;

// What is drawn already. Weight 1: must not be covered; less: would rather not be.
struct box {
    double x0, y0, x1, y1, weight;
};

struct canvas {
    const kv_plot_frame *frame;
    int64_t n, n_points; // the first n_points are the markers of the plot's own points
    struct box boxes[MAX_BOXES];
};

// ---- What is in the way --------------------------------------------------------------------------------

static struct box centred(double x, double y, double width, double height, double weight) {
    return (struct box){x - width / 2, y - height / 2, x + width / 2, y + height / 2, weight};
}

static void add(struct canvas *canvas, struct box box) {
    if (canvas->n < MAX_BOXES) canvas->boxes[canvas->n++] = box;
}

// A line as a string of small boxes.
static void add_line(struct canvas *canvas, double x0, double y0, double x1, double y1, double weight) {
    const double pieces = ceil(hypot(x1 - x0, y1 - y0) / 12);
    for (double piece = 1; piece < pieces; piece++)
        add(canvas, centred(x0 + (x1 - x0) * piece / pieces, y0 + (y1 - y0) * piece / pieces, 6, 6, weight));
}

// Lines along the families and the front.
static void add_lines(struct canvas *canvas, const kv_plot_label *labels, const kv_plot_panel *sorted,
                      bool front, double weight) {
    int64_t before[2 * KV_PLOT_MAX_POINTS]; // of each family, and of the front
    for (int64_t f = 0; f <= sorted->n_families; f++) before[f] = -1;
    for (int64_t o = 0; o < sorted->n; o++) {
        const int64_t own = sorted->order[o];
        const kv_plot_label *to = &labels[own];
        if (front && !sorted->front[own]) continue;
        int64_t *last = &before[front ? sorted->n_families : sorted->family[own]];
        if (*last >= 0) add_line(canvas, labels[*last].px, labels[*last].py, to->px, to->py, weight);
        *last = own;
    }
}

static void add_markers(struct canvas *canvas, const kv_plot *plot, const kv_plot_point *points, int64_t n,
                        int64_t panel, kv_plot_label *labels, double size, double weight) {
    for (int64_t i = 0; i < n; i++) {
        kv_plot_label *label = &labels[i];
        *label = (kv_plot_label){.drawable = kv_plot_drawable(plot, &points[i], panel)};
        if (!label->drawable) continue;
        label->px = kv_plot_x_pixel(canvas->frame, points[i].x[panel]);
        label->py = kv_plot_y_pixel(canvas->frame, points[i].y[panel]);
        add(canvas, centred(label->px, label->py, size, size, weight));
    }
}

static void add_intervals(struct canvas *canvas, const kv_plot *plot, int64_t panel,
                          const kv_plot_label *labels) {
    for (int64_t i = 0; i < plot->n_points; i++) {
        const kv_plot_point *point = &plot->points[i];
        if (!labels[i].drawable || !point->low || !point->high) continue;
        const double low = kv_plot_y_pixel(canvas->frame, point->low[panel]),
                     high = kv_plot_y_pixel(canvas->frame, point->high[panel]), x = labels[i].px;
        if (isfinite(low) && isfinite(high)) add(canvas, (struct box){x - 2, low, x + 2, high, 0.4});
    }
}

// ---- One label -----------------------------------------------------------------------------------------

static double overlap(const struct box *a, const struct box *b) {
    const double w = fmin(a->x1, b->x1) - fmax(a->x0, b->x0), h = fmin(a->y1, b->y1) - fmax(a->y0, b->y0);
    return w > 0 && h > 0 ? w * h : 0;
}

// Area that a label would cover of what must not be covered, or lay outside the panel; *soft: of all else.
static double covered(const struct canvas *canvas, const struct box *label, double *soft) {
    const struct box inside = {10, 4, canvas->frame->width + 12, canvas->frame->height + 6, 1};
    double hard = (label->x1 - label->x0) * (label->y1 - label->y0) - overlap(label, &inside);
    *soft = 0;
    for (int64_t i = 0; i < canvas->n; i++) {
        const double area = overlap(label, &canvas->boxes[i]);
        if (canvas->boxes[i].weight >= 1)
            hard += area;
        else
            *soft += canvas->boxes[i].weight * area;
    }
    return hard;
}

// How many of what must not be covered the line from a point to its label would cross.
static int crossed(const struct canvas *canvas, const kv_plot_label *label, double x, double y) {
    int n = 0;
    const double length = hypot(x - label->px, y - label->py);
    for (double along = 16; along < length; along += 6) {
        const double px = label->px + (x - label->px) * along / length,
                     py = label->py + (y - label->py) * along / length;
        for (int64_t i = 0; i < canvas->n; i++) {
            const struct box *box = &canvas->boxes[i];
            n += box->weight >= 1 && px > box->x0 && px < box->x1 && py > box->y0 && py < box->y1;
        }
    }
    return n;
}

// Other points' markers that lie nearer to the label than its own does: whose is it?
static int nearer(const struct canvas *canvas, const kv_plot_label *label, const struct box *box,
                  double distance) {
    int n = 0;
    for (int64_t i = 0; i < canvas->n_points; i++) {
        const struct box *marker = &canvas->boxes[i];
        const double px = (marker->x0 + marker->x1) / 2, py = (marker->y0 + marker->y1) / 2;
        if (hypot(px - label->px, py - label->py) < 1) continue; // its own, or one in the same place
        const double dx = fmax(fmax(box->x0 - px, px - box->x1), 0),
                     dy = fmax(fmax(box->y0 - py, py - box->y1), 0);
        n += hypot(dx, dy) < fmin(distance, 20);
    }
    return n;
}

// Tries places around the point, near ones first and right or left before above or below, and takes the best
// that covers nothing that must not be covered. The cost, or infinity when there is none within `reach`.
static double place(struct canvas *canvas, kv_plot_label *label, double reach, double height) {
    static const double directions[][2] = {{1, 0},       {-1, 0},       {0, 1},        {0, -1},
                                           {0.8, 0.8},   {0.8, -0.8},   {-0.8, 0.8},   {-0.8, -0.8},
                                           {0.95, 0.35}, {0.95, -0.35}, {-0.95, 0.35}, {-0.95, -0.35}};
    static const double distances[] = {13, 18, 28, 40, 54, 70, 88, 110};
    double best = INFINITY;
    struct box own = {0};
    for (size_t r = 0; r < sizeof distances / sizeof *distances && distances[r] <= reach; r++) {
        const double distance = distances[r];
        if (distance * distance >= best) break;
        for (size_t d = 0; d < sizeof directions / sizeof *directions; d++) {
            const double *way = directions[d];
            const int side = (way[0] > 0.1) - (way[0] < -0.1);
            const double x = label->px + distance * way[0],
                         y = label->py + (distance + (side ? 0 : 4)) * way[1];
            const struct box box = centred(x + side * label->width / 2, y, label->width, height, 1);
            double soft;
            if (covered(canvas, &box, &soft) > hard_tolerance) continue;
            const double cost = distance * distance + 8 * soft + 400 * nearer(canvas, label, &box, distance) +
                                (distance > 20 ? 1500 * crossed(canvas, label, x, y) : 0);
            if (cost >= best) continue;
            best = cost;
            label->x = x, label->y = y, label->side = side, label->leader = distance > 20;
            own = box;
        }
    }
    label->shown = isfinite(best);
    if (!label->shown) return best;
    add(canvas, own);
    if (label->leader) add_line(canvas, label->px, label->py, label->x, label->y, 0.6);
    return best;
}

// ---- Texts ---------------------------------------------------------------------------------------------

// Bytes that the labels of a family begin with alike, up to and with a separator.
static size_t common_start(const kv_plot *plot, const kv_plot_panel *sorted, int64_t own) {
    const char *text = plot->points[own].label;
    size_t n = strlen(text);
    bool alone = true;
    for (int64_t i = 0; i < plot->n_points; i++) {
        if (i == own || sorted->family[i] != sorted->family[own]) continue;
        size_t same = 0;
        while (same < n && plot->points[i].label[same] == text[same]) same++;
        n = same;
        alone = false;
    }
    while (n > 0 && !strchr("-_/ ", text[n - 1])) n--;
    return alone || !text[n] ? 0 : n;
}

static void set_text(kv_plot_label *label, const char *text, double scale) {
    kv_plot_clip(text, LABEL_CHARACTERS, label->text);
    label->width = scale * kv_plot_text_width(label->text) + 4;
}

// ---- All labels ----------------------------------------------------------------------------------------

// In full where that fits, else without what its family has in common, else not at all. The cost, with a fine
// for what the reader misses.
static double place_point(struct canvas *canvas, const kv_plot *plot, const kv_plot_panel *sorted, int64_t i,
                          kv_plot_label *label) {
    const bool crowded = sorted->n > CROWDED, inner = sorted->inner[i] && !sorted->front[i];
    const double reach = !crowded ? 110 : inner ? 28 : 70;
    set_text(label, plot->points[i].label, 1);
    double cost = place(canvas, label, reach, text_height);
    if (label->shown) return cost;
    set_text(label, plot->points[i].label + common_start(plot, sorted, i), 1);
    cost = place(canvas, label, crowded ? 54 : 110, text_height);
    if (label->shown) return cost + (inner ? 4e3 : 8e3);
    return inner ? 2e4 : sorted->front[i] ? 4e5 : 1e5;
}

// The front first, then the ends of the families, then what lies inside; in each class as drawn.
static double place_all(struct canvas *canvas, const kv_plot *plot, const kv_plot_panel *sorted,
                        const int64_t *drawn_order, kv_plot_label *labels) {
    double cost = 0;
    for (int rank = 0; rank < 3; rank++)
        for (int64_t o = 0; o < sorted->n; o++) {
            const int64_t i = sorted->order[drawn_order[o]];
            if (rank == (sorted->front[i] ? 0 : sorted->inner[i] ? 2 : 1))
                cost += place_point(canvas, plot, sorted, i, &labels[i]);
        }
    return cost;
}

// The names of the published families, each beside its last point where there is room.
static void place_published(struct canvas *canvas, const kv_plot *plot, const kv_plot_panel *sorted,
                            kv_plot_label *labels) {
    bool named[2 * KV_PLOT_MAX_POINTS] = {false};
    for (int64_t o = sorted->n - 1; o >= 0; o--) {
        const int64_t i = sorted->order[o];
        if (named[sorted->family[i]]) continue;
        set_text(&labels[i], plot->published[i].family, (double)KV_PLOT_SMALL_FONT / KV_PLOT_FONT);
        place(canvas, &labels[i], 18, text_height - 3); // no leaders
        named[sorted->family[i]] = true;
    }
}

kv_status kv_plot_place_labels(const kv_plot *plot, int64_t panel, const kv_plot_frame *frame,
                               kv_plot_label *labels, kv_plot_label *published, kv_error *err) {
    struct canvas *canvas = malloc(sizeof *canvas);
    kv_plot_label *trial = malloc((size_t)(plot->n_points + 1) * sizeof *trial);
    kv_plot_panel *sorted = malloc(2 * sizeof *sorted), *theirs = sorted + 1;
    kv_status status = KV_OK;
    if (!canvas || !trial || !sorted) {
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the labels of a picture");
        goto done;
    }
    canvas->frame = frame, canvas->n = 0;
    kv_plot_sort_panel(plot, panel, sorted);
    kv_plot_sort_published(plot, panel, theirs);
    add_markers(canvas, plot, plot->points, plot->n_points, panel, trial, marker_size, 1);
    canvas->n_points = canvas->n;
    add_markers(canvas, plot, plot->published, plot->n_published, panel, published, 8, 0.9);
    add_intervals(canvas, plot, panel, trial);
    add_lines(canvas, trial, sorted, true, 0.5);
    if (!plot->x_labels) add_lines(canvas, trial, sorted, false, 0.3);
    add_lines(canvas, published, theirs, false, 0.05);
    memcpy(labels, trial, (size_t)plot->n_points * sizeof *labels);
    // Several orders, as what is placed first takes the best place; the first is that of x.
    const int64_t n_fixed = canvas->n, n_orders = sorted->n > 64 ? 2 : sorted->n > CROWDED ? 12 : 40;
    int64_t order[KV_PLOT_MAX_POINTS];
    double best = INFINITY;
    for (int64_t attempt = 0; attempt < n_orders && best > 0; attempt++) {
        kv_rng_permutation((kv_rng){.seed = (uint64_t)attempt}, sorted->n, order);
        for (int64_t o = 0; attempt == 0 && o < sorted->n; o++) order[o] = o;
        canvas->n = n_fixed;
        const double cost = place_all(canvas, plot, sorted, order, trial);
        if (cost >= best) continue;
        best = cost;
        memcpy(labels, trial, (size_t)plot->n_points * sizeof *labels);
    }
    // Once more the best: what the names of the published must not cover.
    canvas->n = n_fixed;
    for (int64_t i = 0; i < plot->n_points; i++)
        if (labels[i].shown)
            add(canvas, centred(labels[i].x + labels[i].side * labels[i].width / 2, labels[i].y,
                                labels[i].width, text_height, 1));
    place_published(canvas, plot, theirs, published);
done:
    free(canvas);
    free(trial);
    free(sorted);
    return status;
}
