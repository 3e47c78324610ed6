// What all pictures share: styles, panels on a page, the legend below them, texts that gnuplot takes as they
// are.
#pragma once

#include "eval/plot/families.h"
#include "eval/plot/plot.h"

#include <stdio.h>

// Pixels: heights of letters, and what lies left of a panel's area.
enum { KV_PLOT_FONT = 13, KV_PLOT_SMALL_FONT = 10, KV_PLOT_LEFT = 84 };

// ---- Texts ---------------------------------------------------------------------------------------------

// About as many pixels as text takes in the font of KV_PLOT_FONT.
double kv_plot_text_width(const char *text);

enum { KV_PLOT_TEXT = 192 };

// Cut to at most so many columns of a terminal (data/system/width.h), the last of them "…" where something
// was cut, into clipped, which is returned.
char *kv_plot_clip(const char *text, int columns, char clipped[KV_PLOT_TEXT]);

// In single quotes: gnuplot does nothing to that but read '' as one quote. Control characters become blanks.
void kv_plot_quoted(FILE *out, const char *text);

// To the end of a line of a data file.
void kv_plot_data_text(FILE *out, const char *text);

// ---- Colours -------------------------------------------------------------------------------------------

// `share` of the colour ("#RRGGBB") and the rest of it grey of the level 0 to 255, into mixed, which is
// returned.
char *kv_plot_mix(const char *colour, double share, int level, char mixed[8]);

// ---- Page ----------------------------------------------------------------------------------------------

typedef enum kv_plot_sign {
    KV_PLOT_SIGN_MARKER,
    KV_PLOT_SIGN_CURVE, // the marker on a piece of the line
    KV_PLOT_SIGN_FRONT,
    KV_PLOT_SIGN_INTERVAL,
    KV_PLOT_SIGN_LINE, // dashed, in the colour of the style
    KV_PLOT_SIGN_PUBLISHED
} kv_plot_sign;

typedef struct kv_plot_entry {
    kv_plot_sign sign;
    kv_plot_style style; // of a marker
    int dash;            // gnuplot's dash type of a curve
    const char *text;
} kv_plot_entry;

typedef struct kv_plot_page {
    double area_width, area_height; // pixels between a panel's axes
    int64_t n_panels, columns;      // columns 0: by their number
    const char *heading;            // above all panels; NULL: none
    double strip;                   // pixels to be left free at the bottom, below the legend
    double width, height;           // of all
    kv_plot_entry entries[KV_PLOT_MAX_POINTS + 3];
    int64_t n_entries, entries_per_row, legend_rows;
    double entry_width;
} kv_plot_page;

void kv_plot_page_entry(kv_plot_page *page, kv_plot_entry entry);

// Once n_panels, the area, heading, strip and all entries are set.
void kv_plot_page_arrange(kv_plot_page *page);

// The script up to the first panel and after the last: both pictures, one after the other.
void kv_plot_page_begin(const kv_plot_page *page, const char *name, FILE *out);
void kv_plot_page_end(FILE *out);

// A panel's place and title; the first one brings the legend. Forgets labels and arrows of the panel before.
void kv_plot_page_panel(const kv_plot_page *page, int64_t panel, const char *title, FILE *out);

// ---- Axes ----------------------------------------------------------------------------------------------

// Ticks of a logarithmic axis ('x' or 'y') from low to high: 1, 2 and 5 of every power of ten; 1 alone where they would be many,
// more where they would be few.
void kv_plot_log_ticks(char axis, double low, double high, FILE *out);

// ---- Files ---------------------------------------------------------------------------------------------

// How a picture writes itself; `name` is that of the data file.
typedef struct kv_plot_writer {
    const void *picture;
    void (*data)(const void *picture, FILE *out);
    void (*script)(const void *picture, const char *name, FILE *out);
} kv_plot_writer;

// dir/NAME.dat and .gp, then gnuplot; errors and note as of kv_plot_draw.
kv_status kv_plot_render(const kv_plot_writer *writer, const char *dir, const char *name,
                         char note[KV_PLOT_NOTE], kv_error *err);
