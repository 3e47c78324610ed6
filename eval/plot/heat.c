// gnuplot's own images know no empty cells and blur at their edges: cells are boxes, those that are empty boxes of another kind.
#include "eval/plot/heat.h"

#include "eval/plot/page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Pixels: of a cell as it should be, and of the area between the axes.
enum {
    CELL_WIDTH = 50,
    CELL_HEIGHT = 34,
    LEAST_WIDTH = 260,
    MOST_WIDTH = 640,
    LEAST_HEIGHT = 110,
    MOST_HEIGHT = 480
};
enum { STRIP = 62, BAR_WIDTH = 240, BAR_HEIGHT = 12, EMPTY_GAP = 60 };

static const char *const viridis[] = {"#440154", "#482878", "#3E4989", "#31688E", "#26828E",
                                      "#1F9E89", "#35B779", "#6DCD59", "#B4DE2C", "#FDE725"};
enum { N_COLOURS = sizeof viridis / sizeof *viridis };

char *kv_plot_viridis(double place, char colour[8]) {
    const double at = fmax(0, fmin(1, place)) * (N_COLOURS - 1);
    const int below = at < N_COLOURS - 1 ? (int)at : N_COLOURS - 2;
    const unsigned long low = strtoul(viridis[below] + 1, NULL, 16),
                        high = strtoul(viridis[below + 1] + 1, NULL, 16);
    unsigned sum = 0;
    for (int shift = 16; shift >= 0; shift -= 8) {
        const double a = (double)(low >> shift & 255), b = (double)(high >> shift & 255);
        sum |= (unsigned)lround(a + (b - a) * (at - below)) << shift;
    }
    snprintf(colour, 8, "#%06X", sum & 0xFFFFFF);
    return colour;
}

bool kv_plot_viridis_is_dark(double place) {
    return place < 0.6;
}

struct picture {
    const kv_plot_maps *plot;
    kv_plot_page page;
    double cell_width, cell_height; // pixels
    bool numbers;                   // fit into cells
    int64_t x_step, y_step;         // every so many ticks have room
};

static double value_at(const kv_plot_maps *plot, const kv_plot_map *map, int64_t x, int64_t y) {
    const double value = map->values[y * plot->n_x + x];
    return isfinite(value) ? value : NAN;
}

__attribute__((format(printf, 2, 0))) static const char *number(char text[32], const char *format,
                                                                double value) {
    snprintf(text, 32, format, value);
    return text;
}

// On dark colours text is white.
static bool is_dark(const kv_plot_maps *plot, double value) {
    const double place = (value - plot->low) / (plot->high - plot->low);
    return kv_plot_viridis_is_dark(plot->lower_is_better ? 1 - place : place);
}

// ---- Data ----------------------------------------------------------------------------------------------

static int64_t count_cells(const kv_plot_maps *plot, const kv_plot_map *map, bool empty) {
    int64_t n = 0;
    for (int64_t i = 0; i < plot->n_x * plot->n_y; i++) n += isfinite(map->values[i]) ? !empty : empty;
    return n;
}

static void write_cells(const kv_plot_maps *plot, const kv_plot_map *map, bool empty, FILE *out) {
    char text[32];
    for (int64_t y = 0; y < plot->n_y; y++)
        for (int64_t x = 0; x < plot->n_x; x++) {
            const double value = value_at(plot, map, x, y);
            if (isnan(value) != empty) continue;
            if (empty)
                fprintf(out, "%lld %lld", (long long)x, (long long)y);
            else
                fprintf(out, "%lld %lld %.9g %s %d", (long long)x, (long long)y, value,
                        number(text, plot->format, value), is_dark(plot, value));
            fprintf(out, " # %s, %s\n", plot->x_ticks[x], plot->y_ticks[y]);
        }
}

// Blocks for gnuplot's `index`: of each map those cells that are known, then those that are empty; one of none has a line
// that gnuplot passes over.
static void write_data(const void *context, FILE *out) {
    const kv_plot_maps *plot = ((const struct picture *)context)->plot;
    for (int64_t m = 0; m < plot->n_maps; m++)
        for (int empty = 0; empty < 2; empty++) {
            fputs("# panel: ", out);
            kv_plot_data_text(out, plot->maps[m].title);
            fputs(empty ? "# nothing known: column row\n" : "# column row value text dark\n", out);
            write_cells(plot, &plot->maps[m], empty, out);
            if (count_cells(plot, &plot->maps[m], empty) == 0) fputs("NaN NaN NaN NaN NaN\n", out);
            fputs("\n\n", out);
        }
}

// ---- Script --------------------------------------------------------------------------------------------

static void write_palette(const kv_plot_maps *plot, FILE *out) {
    fputs("set palette defined (", out);
    for (int i = 0; i < N_COLOURS; i++)
        fprintf(out, "%s%d '%s'", i ? ", " : "", i, viridis[plot->lower_is_better ? N_COLOURS - 1 - i : i]);
    fprintf(out, ")\nset cbrange [%.9g:%.9g]\n", plot->low, plot->high);
}

static void write_ticks(char axis, const char *const *texts, int64_t n, int64_t step, FILE *out) {
    fprintf(out, "set %ctics scale 0 (", axis);
    for (int64_t i = 0; i < n; i += step) {
        fputs(i ? ", " : "", out);
        kv_plot_quoted(out, texts[i]);
        fprintf(out, " %lld", (long long)i);
    }
    fputs(") noenhanced\n", out);
}

static void write_label(const char *which, const char *text, FILE *out) {
    fprintf(out, "set %slabel ", which);
    kv_plot_quoted(out, text);
    fputs(" noenhanced\n", out);
}

static void write_axes(const struct picture *picture, FILE *out) {
    const kv_plot_maps *plot = picture->plot;
    write_label("x", plot->x_label, out);
    write_label("y", plot->y_label, out);
    write_ticks('x', plot->x_ticks, plot->n_x, picture->x_step, out);
    write_ticks('y', plot->y_ticks, plot->n_y, picture->y_step, out);
    fprintf(out, "set xrange [-0.5:%.1f]\nset yrange [%.1f:-0.5]\n", (double)plot->n_x - 0.5,
            (double)plot->n_y - 0.5);
    write_palette(plot, out);
}

static bool has_empty(const kv_plot_maps *plot) {
    for (int64_t m = 0; m < plot->n_maps; m++)
        if (count_cells(plot, &plot->maps[m], true) > 0) return true;
    return false;
}

// In the strip at the bottom: the colours with their numbers, and what a grey cell means.
static void write_bar(const struct picture *picture, FILE *out) {
    const kv_plot_maps *plot = picture->plot;
    const kv_plot_page *page = &picture->page;
    const double left = KV_PLOT_LEFT, y = STRIP - BAR_HEIGHT - 4, right = left + BAR_WIDTH + EMPTY_GAP;
    fprintf(out,
            "set colorbox horizontal user origin screen %.5f,%.5f size screen %.5f,%.5f noborder\n"
            "set cbtics scale 0.4 offset 0,0.3\n",
            left / page->width, y / page->height, BAR_WIDTH / page->width, BAR_HEIGHT / page->height);
    fputs("set label ", out);
    kv_plot_quoted(out, plot->bar_label);
    fprintf(out, " at screen %.5f,%.5f center noenhanced\n", (left + BAR_WIDTH / 2.0) / page->width,
            12 / page->height);
    if (!has_empty(plot)) return;
    fprintf(
        out,
        "set object rectangle from screen %.5f,%.5f to screen %.5f,%.5f fc rgb '#E4E4E4' fs solid noborder\n"
        "set arrow from screen %.5f,%.5f to screen %.5f,%.5f nohead lw 1 lc rgb '#999999' front\n",
        right / page->width, y / page->height, (right + 24) / page->width, (y + BAR_HEIGHT) / page->height,
        right / page->width, y / page->height, (right + 24) / page->width, (y + BAR_HEIGHT) / page->height);
    fputs("set label ", out);
    kv_plot_quoted(out, plot->empty_text);
    fprintf(out, " at screen %.5f,%.5f left noenhanced\n", (right + 32) / page->width,
            (y + BAR_HEIGHT / 2.0) / page->height);
}

static void write_map(const struct picture *picture, int64_t m, const char *name, FILE *out) {
    static const char box[] = "(column(1)-0.5):(column(1)+0.5):(column(2)-0.5):(column(2)+0.5)";
    static const char solid[] = "fs solid border lc rgb '#FFFFFF'"; // cells stand apart
    const kv_plot_map *map = &picture->plot->maps[m];
    const char *between = "plot ";
    if (map->remark) {
        fputs("set label ", out);
        kv_plot_quoted(out, map->remark);
        fputs(" at graph 0.5,0.5 center noenhanced front\n", out);
    }
    if (count_cells(picture->plot, map, true) > 0) {
        fprintf(out,
                "plot '%s.dat' index %lld using 1:2:%s with boxxyerror fillcolor rgb '#E4E4E4' %s notitle",
                name, (long long)(2 * m + 1), box, solid);
        if (!map->remark)
            fprintf(
                out,
                ", \\\n     '' index %lld using (column(1)-0.4):(column(2)+0.4):(0.8):(-0.8) with vectors nohead "
                "lw 1 lc rgb '#999999' notitle",
                (long long)(2 * m + 1));
        between = ", \\\n     ";
    }
    if (count_cells(picture->plot, map, false) > 0) {
        fprintf(out, "%s'%s.dat' index %lld using 1:2:%s:3 with boxxyerror fillcolor palette %s notitle",
                between, name, (long long)(2 * m), box, solid);
        for (int dark = 0; dark < 2 && picture->numbers; dark++)
            fprintf(
                out,
                ", \\\n     '' index %lld using 1:(column(5)==%d?column(2):NaN):4 with labels font small_font "
                "textcolor rgb '%s' notitle",
                (long long)(2 * m), dark, dark ? "#FFFFFF" : "#000000");
    }
    fputc('\n', out);
}

static void write_script(const void *context, const char *name, FILE *out) {
    const struct picture *picture = context;
    const kv_plot_maps *plot = picture->plot;
    write_axes(picture, out);
    kv_plot_page_begin(&picture->page, name, out);
    fputs("unset grid\nset border 0\n", out);
    for (int64_t m = 0; m < plot->n_maps; m++) {
        kv_plot_page_panel(&picture->page, m, plot->maps[m].title, out);
        if (m == 0) write_bar(picture, out);
        if (m == 1) fputs("unset colorbox\nunset object\n", out);
        write_map(picture, m, name, out);
    }
    kv_plot_page_end(out);
}

// ---- All together --------------------------------------------------------------------------------------

static double widest(const char *const *texts, int64_t n) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, kv_plot_text_width(texts[i]));
    return most;
}

static double widest_number(const kv_plot_maps *plot) {
    const double scale = (double)KV_PLOT_SMALL_FONT / KV_PLOT_FONT;
    double most = 0;
    char text[32];
    for (int64_t m = 0; m < plot->n_maps; m++)
        for (int64_t i = 0; i < plot->n_x * plot->n_y; i++)
            if (isfinite(plot->maps[m].values[i]))
                most = fmax(most,
                            kv_plot_text_width(number(text, plot->format, plot->maps[m].values[i])) * scale);
    return most;
}

static double within(double value, double least, double most) {
    return fmin(fmax(value, least), most);
}

static void lay_out(struct picture *picture) {
    const kv_plot_maps *plot = picture->plot;
    kv_plot_page *page = &picture->page;
    *page = (kv_plot_page){.n_panels = plot->n_maps, .heading = plot->heading, .strip = STRIP};
    page->area_width = within((double)plot->n_x * CELL_WIDTH, LEAST_WIDTH, MOST_WIDTH);
    page->area_height = within((double)plot->n_y * CELL_HEIGHT, LEAST_HEIGHT, MOST_HEIGHT);
    picture->cell_width = page->area_width / (double)plot->n_x;
    picture->cell_height = page->area_height / (double)plot->n_y;
    picture->numbers =
        picture->cell_height >= 1.3 * KV_PLOT_SMALL_FONT && picture->cell_width >= widest_number(plot) + 6;
    picture->x_step = (int64_t)ceil((widest(plot->x_ticks, plot->n_x) + 8) / picture->cell_width);
    picture->y_step = (int64_t)ceil(1.2 * KV_PLOT_FONT / picture->cell_height);
    kv_plot_page_arrange(page);
}

kv_status kv_plot_draw_maps(const kv_plot_maps *plot, const char *dir, const char *name,
                            char note[KV_PLOT_NOTE], kv_error *err) {
    note[0] = '\0';
    if (plot->n_maps < 1 || plot->n_maps > KV_PLOT_MAX_PANELS || plot->n_x < 1 ||
        plot->n_x > KV_PLOT_MAX_CELLS || plot->n_y < 1 || plot->n_y > KV_PLOT_MAX_CELLS)
        return kv_fail(err, KV_ERR_RANGE,
                       "a picture of %lld maps of %lld x %lld cells, expected 1 to %d of 1 to %d each way",
                       (long long)plot->n_maps, (long long)plot->n_x, (long long)plot->n_y,
                       KV_PLOT_MAX_PANELS, KV_PLOT_MAX_CELLS);
    struct picture picture = {.plot = plot};
    lay_out(&picture);
    const kv_plot_writer writer = {&picture, write_data, write_script};
    return kv_plot_render(&writer, dir, name, note, err);
}
