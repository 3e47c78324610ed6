// Where the labels of a panel go so that they cover neither one another, nor the points, nor the front.
#pragma once

#include "eval/plot.h"

#include <stdbool.h>

// One panel in pixels, from its lower left corner.
typedef struct kv_plot_frame {
    double width, height; // of the area between the axes
    double x_min, x_max;  // axis ranges
    double y_min, y_max;
    bool x_log;
} kv_plot_frame;

typedef struct kv_plot_label {
    double px, py; // of the point, pixels
    double x, y;   // where the label is anchored, pixels
    int side;      // 1: its left end lies there, -1: its right end, 0: its middle
    bool shown;    // false: the point is outside or has no y
    bool leader;   // far enough from its point to want a line to it
} kv_plot_label;

enum { KV_PLOT_FONT = 13 }; // pixels high

// About as many pixels as text takes in that font.
double kv_plot_text_width(const char *text);

// Ranges that leave room around all points of the plot (every panel gets the same).
kv_plot_frame kv_plot_make_frame(const kv_plot *plot, double width, double height);

// labels[n_points]
void kv_plot_place_labels(const kv_plot *plot, int64_t panel, const kv_plot_frame *frame,
                          kv_plot_label *labels);
