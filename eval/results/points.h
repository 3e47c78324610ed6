// What the picture of an evaluation shows, as numbers: scores against savings (the paper's figures 3 and 4), a panel for each
// metric that has one, a point for each system, and the paper's own points.
#pragma once

#include "eval/plot/plot.h"
#include "eval/published/published.h"
#include "eval/results/results.h"

typedef struct kv_points_settings {
    const char *x;        // exact | paper: which reduction of FLOPs; clock: of the time that the tables give
    const char *y;        // accuracy | retention
    const char *line;     // name of a system at whose height a line is drawn; NULL: none
    const char *interval; // of kv_plot
    const kv_published *published; // drawn faintly among one's own; NULL: none
} kv_points_settings;

typedef struct kv_points_panel { // a metric of a task
    int64_t task;
    int metric;
} kv_points_panel;

enum { KV_POINTS_TITLE = 256 };

// Points into itself: not to be moved.
typedef struct kv_points {
    const kv_results *results; // borrowed, as what the settings point to
    kv_points_settings settings;
    kv_plot plot; // of all below; point i is system i
    kv_points_panel panels[KV_PLOT_MAX_PANELS];
    int64_t n_panels, n_points, n_published;
    kv_plot_point *points;                        // [n_points + n_published]
    double *numbers;                              // [n_points + n_published, 4, n_panels]: x, y, low, high
    char (*titles)[KV_POINTS_TITLE];              // [n_panels]
    const char *panel_titles[KV_PLOT_MAX_PANELS]; // the same
    char share_label[64];                         // of all panels in per cent
    char labels[KV_PLOT_MAX_PANELS][KV_METRIC_LABEL];
    kv_plot_height heights[KV_PLOT_MAX_PANELS];
    char published_name[96];
} kv_points;

// How many panels there would be, and whether so many panels and points can be drawn: else kv_points_make is not to be called.
int64_t kv_points_panels(const kv_results *results);
bool kv_points_fit(const kv_results *results);

// Of results with tasks. Free with kv_points_free, also after a failure (KV_ERR_MEMORY).
kv_status kv_points_make(const kv_results *results, const kv_points_settings *settings, kv_points *points,
                         kv_error *err);
void kv_points_free(kv_points *points);
