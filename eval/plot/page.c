// gnuplot lays out one plot well and a page of them badly (its key has no room of its own, labels of one
// panel reach into the next): so margins, titles and the legend are placed here, in pixels.
#include "eval/plot/page.h"

#include "core/text.h"
#include "data/system/width.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Pixels: margins around the area between a panel's axes, and the legend's strip below all panels.
enum {
    LEFT = KV_PLOT_LEFT,
    RIGHT = 24,
    HEADING = 34,
    TOP = 44,
    BOTTOM = 70,
    LEGEND_ROW = 26,
    SIGN_WIDTH = 58,
    ENTRY_CHARACTERS = 30,
    PIXELS_PER_INCH = 96
};

// ---- Texts ---------------------------------------------------------------------------------------------

// From the mean widths of DejaVu Sans, in shares of its height; a wide character is a square.
static double character_width(char c, int columns) {
    if (columns != 1) return 0.5 * columns;
    return strchr(" -.,:;'!|()[]/ijltfr", c) ? 0.38
           : c >= '0' && c <= '9'            ? 0.64
           : c >= 'a' && c <= 'z'            ? 0.62
                                             : 0.72;
}

double kv_plot_text_width(const char *text) {
    double width = 0;
    size_t length;
    for (; *text; text += length) {
        const int columns = kv_text_character(text, &length);
        width += character_width(*text, columns);
    }
    return width * KV_PLOT_FONT;
}

char *kv_plot_clip(const char *text, int columns, char clipped[KV_PLOT_TEXT]) {
    static const char dots[] = "…";
    const size_t n = strlen(text), room = KV_PLOT_TEXT - sizeof dots;
    if (n < KV_PLOT_TEXT && kv_text_width(text) <= columns) return strcpy(clipped, text);
    size_t end = kv_text_fit(text, columns > 0 ? columns - 1 : 0);
    if (end > room) end = kv_text_whole(text, room);
    memcpy(clipped, text, end);
    return strcpy(clipped + end, dots), clipped;
}

void kv_plot_quoted(FILE *out, const char *text) {
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\'') fputc('\'', out);
        fputc((unsigned char)*text < 32 ? ' ' : *text, out);
    }
    fputc('\'', out);
}

void kv_plot_data_text(FILE *out, const char *text) {
    for (; *text; text++) fputc((unsigned char)*text < 32 ? ' ' : *text, out);
    fputc('\n', out);
}

// ---- Colours -------------------------------------------------------------------------------------------

char *kv_plot_mix(const char *colour, double share, int level, char mixed[8]) {
    const unsigned long rgb = strtoul(colour + 1, NULL, 16);
    unsigned sum = 0;
    for (int shift = 16; shift >= 0; shift -= 8)
        sum |= (unsigned)lround(share * (double)(rgb >> shift & 255) + (1 - share) * level) << shift;
    snprintf(mixed, 8, "#%06X", sum & 0xFFFFFF);
    return mixed;
}

// ---- Page ----------------------------------------------------------------------------------------------

void kv_plot_page_entry(kv_plot_page *page, kv_plot_entry entry) {
    page->entries[page->n_entries++] = entry;
}

static double panel_width(const kv_plot_page *page) {
    return LEFT + page->area_width + RIGHT;
}

static double panel_height(const kv_plot_page *page) {
    return TOP + page->area_height + BOTTOM;
}

static double heading_height(const kv_plot_page *page) {
    return page->heading ? HEADING : 0;
}

void kv_plot_page_arrange(kv_plot_page *page) {
    char text[KV_PLOT_TEXT];
    if (page->columns == 0) page->columns = page->n_panels < 2 ? 1 : page->n_panels < 5 ? 2 : 3;
    page->width = (double)page->columns * panel_width(page);
    page->entry_width = 0;
    for (int64_t e = 0; e < page->n_entries; e++)
        page->entry_width = fmax(
            page->entry_width,
            SIGN_WIDTH + kv_plot_text_width(kv_plot_clip(page->entries[e].text, ENTRY_CHARACTERS, text)));
    const int64_t fitting = page->n_entries ? (int64_t)((page->width - LEFT) / page->entry_width) : 1;
    page->entries_per_row = fitting > 0 ? fitting : 1;
    page->legend_rows = (page->n_entries + page->entries_per_row - 1) / page->entries_per_row;
    const int64_t rows = (page->n_panels + page->columns - 1) / page->columns;
    page->height = heading_height(page) + (double)rows * panel_height(page) +
                   (double)page->legend_rows * LEGEND_ROW + page->strip + 10;
}

static void line_on_page(const kv_plot_page *page, double x0, double y0, double x1, double y1,
                         const char *colour, int dash, FILE *out) {
    fprintf(out, "set arrow from screen %.5f,%.5f to screen %.5f,%.5f nohead lw 1.2 dt %d lc rgb '%s'\n",
            x0 / page->width, y0 / page->height, x1 / page->width, y1 / page->height, dash, colour);
}

static void marker_on_page(const kv_plot_page *page, double x, double y, int type, double size, double line,
                           const char *colour, FILE *out) {
    fprintf(out, "set label '' at screen %.5f,%.5f point pt %d ps %.2f*m lw %.1f lc rgb '%s'\n",
            x / page->width, y / page->height, type, size, line, colour);
}

static void write_sign(const kv_plot_page *page, const kv_plot_entry *entry, double x, double y, FILE *out) {
    static const char grey[] = "#888888";
    const kv_plot_style *style = &entry->style;
    switch (entry->sign) {
    case KV_PLOT_SIGN_CURVE: line_on_page(page, x - 17, y, x + 17, y, style->colour, entry->dash, out);
    // fall through
    case KV_PLOT_SIGN_MARKER:
        marker_on_page(page, x, y, style->filled, 1.4, 1.5, style->colour, out);
        if (style->dotted) marker_on_page(page, x, y, style->filled, 0.5, 1, "#FFFFFF", out);
        break;
    case KV_PLOT_SIGN_FRONT:
        line_on_page(page, x - 13, y, x + 13, y, grey, 1, out);
        marker_on_page(page, x, y, 6, 1.9, 1.2, "#666666", out);
        break;
    case KV_PLOT_SIGN_INTERVAL: line_on_page(page, x, y - 9, x, y + 9, grey, 1, out); break;
    case KV_PLOT_SIGN_LINE: line_on_page(page, x - 17, y, x + 17, y, style->colour, entry->dash, out); break;
    case KV_PLOT_SIGN_PUBLISHED: marker_on_page(page, x, y, 6, 0.9, 1, "#999999", out); break;
    }
}

// Side by side in the strip at the bottom.
static void write_legend(const kv_plot_page *page, FILE *out) {
    char text[KV_PLOT_TEXT];
    for (int64_t e = 0; e < page->n_entries; e++) {
        const double x = LEFT + (double)(e % page->entries_per_row) * page->entry_width;
        const double row = (double)(page->legend_rows - 1 - e / page->entries_per_row);
        const double y = page->strip + row * LEGEND_ROW + LEGEND_ROW / 2.0 + 5;
        write_sign(page, &page->entries[e], x, y, out);
        fputs("set label ", out);
        kv_plot_quoted(out, kv_plot_clip(page->entries[e].text, ENTRY_CHARACTERS, text));
        fprintf(out, " at screen %.5f,%.5f left noenhanced\n", (x + 25) / page->width, y / page->height);
    }
}

// `m`: markers of the same size come out larger in an SVG file. No comments below: the block is one line to
// gnuplot.
void kv_plot_page_begin(const kv_plot_page *page, const char *name, FILE *out) {
    fprintf(
        out,
        "set encoding utf8\nset grid lt 1 lw 0.6 lc rgb '#E4E4E4'\nset tics nomirror\nset border 3 lw 1\nunset key\n"
        "do for [kind in 'svg png pdf'] {\n"
        "if (kind eq 'svg') { set terminal svg size %.0f,%.0f font 'DejaVu Sans,%d' background '#FFFFFF' }\n"
        "if (kind eq 'png') { set terminal pngcairo size %.0f,%.0f font 'DejaVu Sans,%.2f' }\n"
        "if (kind eq 'pdf') { set terminal pdfcairo size %.4fin,%.4fin font 'DejaVu Sans,%.2f' fontscale 0.75 linewidth 1.5 }\n"
        "title_font = kind eq 'svg' ? ',%d' : ',%.2f'\n"
        "small_font = kind eq 'svg' ? ',%d' : ',%.2f'\n"
        "m = kind eq 'svg' ? 0.65 : kind eq 'pdf' ? 0.8 : 1\n"
        "set output '%s.'.kind\n"
        "set multiplot\n",
        page->width, page->height, KV_PLOT_FONT, page->width, page->height, KV_PLOT_FONT * 0.75,
        page->width / PIXELS_PER_INCH, page->height / PIXELS_PER_INCH, KV_PLOT_FONT * 0.75, KV_PLOT_FONT + 2,
        (KV_PLOT_FONT + 2) * 0.75, KV_PLOT_SMALL_FONT, KV_PLOT_SMALL_FONT * 0.75, name);
}

void kv_plot_page_end(FILE *out) {
    fputs("unset multiplot\nunset output\n}\n", out);
}

// As wide as fits, in the font of titles.
static const char *clip_title(const char *title, double width, char text[KV_PLOT_TEXT]) {
    return kv_plot_clip(title, (int)(width / (0.56 * (KV_PLOT_FONT + 2))), text);
}

static void write_heading(const kv_plot_page *page, FILE *out) {
    char text[KV_PLOT_TEXT];
    if (!page->heading) return;
    fputs("set label ", out);
    kv_plot_quoted(out, clip_title(page->heading, page->width - LEFT, text));
    fprintf(out, " at screen %.5f,%.5f left noenhanced font title_font\n", LEFT / page->width,
            (page->height - HEADING / 2.0 - 4) / page->height);
}

void kv_plot_page_panel(const kv_plot_page *page, int64_t panel, const char *title, FILE *out) {
    char text[KV_PLOT_TEXT];
    const double left = (double)(panel % page->columns) * panel_width(page) + LEFT;
    const double top =
        page->height - (heading_height(page) + (double)(panel / page->columns) * panel_height(page) + TOP);
    fputs("\nunset label\nunset arrow\n", out);
    if (panel == 0) write_heading(page, out);
    if (panel == 0) write_legend(page, out);
    fprintf(out, "set lmargin at screen %.5f\nset rmargin at screen %.5f\n", left / page->width,
            (left + page->area_width) / page->width);
    fprintf(out, "set tmargin at screen %.5f\nset bmargin at screen %.5f\n", top / page->height,
            (top - page->area_height) / page->height);
    fputs("set title ", out);
    kv_plot_quoted(out, clip_title(title, page->area_width, text));
    fputs(" noenhanced font title_font\n", out);
}

// ---- Axes ----------------------------------------------------------------------------------------------

void kv_plot_log_ticks(char axis, double low, double high, FILE *out) {
    static const double steps[] = {1, 2, 5, 1.5, 3, 4, 6, 7, 8, 9};
    const double wide = high / low;
    const int n_steps = wide > 1e4 ? 1 : wide > 6 ? 3 : 10;
    const char *between = "";
    fprintf(out, "set %ctics (", axis);
    for (int power = (int)floor(log10(low)); power <= (int)ceil(log10(high)); power++)
        for (int k = 0; k < n_steps; k++) {
            const double tick = steps[k] * pow(10, power);
            if (tick < low || tick > high) continue;
            fprintf(out, "%s\"%g\" %.9g", between, tick, tick);
            between = ", ";
        }
    fputs(")\n", out);
}
