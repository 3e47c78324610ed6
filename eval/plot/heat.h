// Maps: a panel for each system, a cell for each length and depth, its colour what the system scores there. From dark to
// light is from worse to better, in steps that look alike, in grey and to colour-blind eyes, too: viridis.
//                                                                    [van der Walt & Smith, SciPy 2015]
#pragma once

#include "eval/plot/plot.h"

enum { KV_PLOT_MAX_CELLS = 64 }; // along an axis

typedef struct kv_plot_map {
    const char *title;
    const double *values; // [n_y, n_x]; NAN: nothing is known, and the cell stays grey with a line through it
    const char *remark;   // across the map, such as "not finite"; NULL: none
} kv_plot_map;

typedef struct kv_plot_maps {
    const kv_plot_map *maps;
    int64_t n_maps;
    const char *heading;        // of all; NULL: none
    const char *const *x_ticks; // [n_x]
    const char *const *y_ticks; // [n_y], from the top
    int64_t n_x, n_y;
    const char *x_label, *y_label;
    const char *bar_label, *empty_text; // what colours are, and what a grey cell means
    double low, high;                   // the ends of the colour bar; low < high
    bool lower_is_better;
    const char *format; // of the numbers in cells, for one double, as "%.0f"; they stand there where they fit
} kv_plot_maps;

// The colour of a place from 0 (worst) to 1 (best), "#RRGGBB" into colour, which is returned; beyond them the nearer end. Whether
// text on it is white.
char *kv_plot_viridis(double place, char colour[8]);
bool kv_plot_viridis_is_dark(double place);

// The same files as kv_plot_draw, errors and note likewise: at most KV_PLOT_MAX_PANELS maps of KV_PLOT_MAX_CELLS each way.
kv_status kv_plot_draw_maps(const kv_plot_maps *plot, const char *dir, const char *name,
                            char note[KV_PLOT_NOTE], kv_error *err);
