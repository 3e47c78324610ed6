// Axis ranges, and where the labels of a panel go so that they cover neither one another nor the points, and
// lines as little as can be.
#pragma once

#include "eval/plot/page.h"

// One panel in pixels, from its lower left corner.
typedef struct kv_plot_frame {
    double width, height; // of the area between the axes
    double x_min, x_max;  // axis ranges
    double y_min, y_max;
    bool x_log;
} kv_plot_frame;

// frames[n_panels] of ranges that leave room around all points, intervals and published points of the plot.
void kv_plot_make_frames(const kv_plot *plot, double width, double height, kv_plot_frame *frames);

// What the panel's height is called.
const char *kv_plot_y_label(const kv_plot *plot, int64_t panel);

double kv_plot_x_pixel(const kv_plot_frame *frame, double x);
double kv_plot_y_pixel(const kv_plot_frame *frame, double y);

// The point can be drawn in that panel.
bool kv_plot_drawable(const kv_plot *plot, const kv_plot_point *point, int64_t panel);

typedef struct kv_plot_label {
    double px, py; // of the point, pixels
    double x, y;   // where the label is anchored, pixels
    double width;  // of its text
    int side;      // 1: its left end lies there, -1: its right end, 0: its middle
    bool drawable; // the point
    bool shown;    // the label
    bool leader;   // far enough from its point to want a line to it
    char text[KV_PLOT_TEXT];
} kv_plot_label;

// The points of one panel in order of x, and what they are in it.
typedef struct kv_plot_panel {
    int64_t n;                         // drawable points
    int64_t order[KV_PLOT_MAX_POINTS]; // [n]
    int64_t family[KV_PLOT_MAX_POINTS];
    int64_t n_families;
    bool front[KV_PLOT_MAX_POINTS];
    bool inner[KV_PLOT_MAX_POINTS]; // neither the first nor the last of its family
} kv_plot_panel;

// Families are numbered in order of first appearance among all points, drawable or not.
void kv_plot_sort_panel(const kv_plot *plot, int64_t panel, kv_plot_panel *sorted);
// The same for the published points, whose families go on behind those of the plot's own; no front.
void kv_plot_sort_published(const kv_plot *plot, int64_t panel, kv_plot_panel *sorted);

// labels[n_points], published[n_published] (may be NULL when there are none): text, place, whether shown.
// KV_ERR_MEMORY.
kv_status kv_plot_place_labels(const kv_plot *plot, int64_t panel, const kv_plot_frame *frame,
                               kv_plot_label *labels, kv_plot_label *published, kv_error *err);
