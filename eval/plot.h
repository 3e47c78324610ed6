// The Pareto picture, drawn by gnuplot: what a system keeps of the answers against what it saves.
#pragma once

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct kv_plot_point {
    const char *label;  // stands beside the point
    const char *family; // equal ones share marker and colour, and one entry of the legend
    double x;
    const double *y; // [n_panels]; NAN is left out
} kv_plot_point;

typedef struct kv_plot {
    const kv_plot_point *points;
    int64_t n_points;
    const char *const *panels; // [n_panels] titles; at most two side by side
    int64_t n_panels;
    const char *x_label, *y_label;
} kv_plot;

enum { KV_PLOT_MAX_POINTS = 256, KV_PLOT_MAX_PANELS = 64, KV_PLOT_NOTE = 256 };

// Writes NAME.gp, NAME.dat into dir, and has gnuplot draw NAME.svg and NAME.png there. In each panel the
// points that no other beats in both directions are joined by a thin line. Without gnuplot, or when it fails,
// the pictures are missing and `note` says why: that is no failure. note is empty when all went well.
kv_status kv_plot_draw(const kv_plot *plot, const char *dir, const char *name, char note[KV_PLOT_NOTE],
                       kv_error *err);

// Marks the points of one panel that nobody beats: none has an x and a y at least as large and one of them
// larger.
void kv_plot_front(const kv_plot *plot, int64_t panel, _Bool on_front[]);
