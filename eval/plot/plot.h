// The kinds of pictures, drawn by gnuplot: what systems keep of the answers against what they save (figures 3 and 4 of the
// paper) or against something else that is known of them, and curves: their time to the first token against the prompt's
// length (figure 5b), or figures of layers.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KV_PLOT_MAX_POINTS = 256, KV_PLOT_MAX_PANELS = 64, KV_PLOT_NOTE = 256 };

// ---- Scores against savings ----------------------------------------------------------------------------

typedef struct kv_plot_point {
    const char *label; // stands beside the point where there is room
    // Equal ones share marker and colour (eval/plot/families.h), an entry of the legend, and a line in order
    // of x.
    const char *family;
    const double *x, *y; // [n_panels], x > 0 (in a scatter any); points without such an x or a y are left out
    const double *low, *high; // [n_panels] ends of an interval; NULL or NAN: none
} kv_plot_point;

// What the height of a panel is.
typedef struct kv_plot_height {
    const char *label;
    bool lower_is_better; // and the axis need not begin at 0
} kv_plot_height;

typedef struct kv_plot {
    const kv_plot_point *points;
    int64_t n_points;
    const char *const *panels; // [n_panels] titles: tasks, or metrics
    int64_t n_panels;
    const char *heading; // above all panels; NULL: none
    const char *x_label, *y_label;
    // x is no saving but what is spent: less is better, and each panel has a logarithmic range of its own.
    bool times;
    bool whole; // y runs from 0 to 100 in all panels, whatever is there
    // [n_panels] of a scatter: x is something that is known of the systems, of which neither direction is better. It is linear
    // and has a label and a range in each panel; there is no front, and nothing is joined. NULL: it is none.
    const char *const *x_labels;
    int64_t columns; // of panels; 0: by their number
    const kv_plot_height
        *heights;         // [n_panels] of panels that differ; NULL: y_label is that of all, more is better
    const char *interval; // what the intervals are, for the legend; NULL: "95 % interval"
    // A point (borrowed) whose height is drawn through all of a panel, dashed and in its colour; NULL: none.
    const kv_plot_point *line;
    // Points of others: hollow, small and faint, in the colour of the family of the same name. Of their
    // labels and intervals nothing is drawn but the family's name beside its last point.
    const kv_plot_point *published;
    int64_t n_published;
    const char *published_name; // legend: "published (arXiv 2410.08391)"
} kv_plot;

// Writes NAME.gp, NAME.dat into dir, and has gnuplot draw NAME.svg, NAME.png and NAME.pdf there. In each panel the
// points that no other beats in both directions (kv_pareto_front; published ones take no part) wear a ring
// and are joined by a line. x is logarithmic when its ends lie more than a factor 5 apart, or with `times`; y starts at 0
// unless all values lie in the upper half or lower is better, and is the same in all panels of one y label
// unless that would squeeze one of them. Labels never lie over one another or over points: where it is crowded those inside a family's line
// are cut short ("KVP-C-450M" to "450M") or left out. Without gnuplot, or when it fails, the pictures are
// missing and `note` says why: that is no failure. note is empty when all went well. KV_ERR_RANGE: more
// points (256) or panels (64) than allowed, no panel; KV_ERR_IO; KV_ERR_MEMORY.
kv_status kv_plot_draw(const kv_plot *plot, const char *dir, const char *name, char note[KV_PLOT_NOTE],
                       kv_error *err);

// ---- Curves -------------------------------------------------------------------------------------------

typedef struct kv_plot_curve {
    const char *label;        // of the legend
    const char *family;       // colour and marker (eval/plot/families.h); its curves differ in their dashes
    const double *y;          // [n_panels, n_x], > 0 unless y is linear; what is not, or NAN, is left out
    const double *low, *high; // [n_panels, n_x] ends of the spread; NULL or NAN: none
} kv_plot_curve;

typedef struct kv_plot_curves {
    const kv_plot_curve *curves;
    int64_t n_curves;
    const double *x; // [n_x], > 0 unless x is linear, growing
    int64_t n_x;
    const char *const *panels; // [n_panels] titles: batch sizes
    int64_t n_panels;
    const char *heading; // above all panels; NULL: none
    const char *x_label, *y_label;
    bool linear_x, linear_y;
    double least_y;  // of a linear y: curves leave the panel below that
    int64_t columns; // of panels; 0: by their number
} kv_plot_curves;

// The same files as kv_plot_draw; both axes logarithmic unless linear, y in each panel for itself. At most 256 curves of
// 256 points.
kv_status kv_plot_draw_curves(const kv_plot_curves *plot, const char *dir, const char *name,
                              char note[KV_PLOT_NOTE], kv_error *err);
