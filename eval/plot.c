#include "eval/plot.h"

#include "eval/plot_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

// Pixels: margins around the area between a panel's axes, and the legend's strip below all panels.
enum { AREA_WIDTH = 560, AREA_HEIGHT = 400, LEFT = 84, RIGHT = 24, TOP = 44, BOTTOM = 70, LEGEND_ROW = 26 };
enum { PANEL_WIDTH = LEFT + AREA_WIDTH + RIGHT, PANEL_HEIGHT = TOP + AREA_HEIGHT + BOTTOM };

// Colours that people with colour blindness can tell apart [Okabe & Ito 2008], and markers that differ too.
static const char *const colours[] = {"#333333", "#0072B2", "#D55E00", "#009E73",
                                      "#CC79A7", "#E69F00", "#56B4E9", "#8B6F47"};
static const int markers[] = {7, 5, 9, 13, 11, 15, 4, 8};
enum { N_STYLES = 8 };

static const char front_name[] = "Pareto front";

struct layout {
    int64_t columns, rows, n_families, legend_rows;
    const char *families[KV_PLOT_MAX_POINTS];
    int family_of[KV_PLOT_MAX_POINTS];
    double width, height, entry; // entry: of the legend
};

void kv_plot_front(const kv_plot *plot, int64_t panel, bool on_front[]) {
    for (int64_t i = 0; i < plot->n_points; i++) {
        const kv_plot_point *a = &plot->points[i];
        on_front[i] = isfinite(a->x) && isfinite(a->y[panel]);
        for (int64_t j = 0; on_front[i] && j < plot->n_points; j++) {
            const kv_plot_point *b = &plot->points[j];
            const bool beaten =
                b->x >= a->x && b->y[panel] >= a->y[panel] && (b->x > a->x || b->y[panel] > a->y[panel]);
            if (beaten) on_front[i] = false;
        }
    }
}

static int64_t entries_per_row(const struct layout *l) {
    const int64_t n = (int64_t)((l->width - LEFT) / l->entry);
    return n > 0 ? n : 1;
}

static struct layout make_layout(const kv_plot *plot) {
    struct layout l = {.columns = plot->n_panels < 2 ? 1 : 2};
    l.rows = (plot->n_panels + l.columns - 1) / l.columns;
    for (int64_t i = 0; i < plot->n_points; i++) {
        int64_t f = 0;
        while (f < l.n_families && strcmp(l.families[f], plot->points[i].family) != 0) f++;
        if (f == l.n_families) l.families[l.n_families++] = plot->points[i].family;
        l.family_of[i] = (int)f;
    }
    l.entry = kv_plot_text_width(front_name);
    for (int64_t f = 0; f < l.n_families; f++) l.entry = fmax(l.entry, kv_plot_text_width(l.families[f]));
    l.entry += 50;
    l.width = (double)(l.columns * PANEL_WIDTH);
    l.legend_rows = (l.n_families + entries_per_row(&l)) / entries_per_row(&l); // one more for the front
    l.height = (double)(l.rows * PANEL_HEIGHT + l.legend_rows * LEGEND_ROW + 10);
    return l;
}

// ---- Data ----------------------------------------------------------------------------------------------

// gnuplot does nothing to a text in single quotes but read '' as one quote; control characters become blanks.
static void quoted(FILE *out, const char *text) {
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\'') fputc('\'', out);
        fputc((unsigned char)*text < 32 ? ' ' : *text, out);
    }
    fputc('\'', out);
}

static void data_text(FILE *out, const char *text) {
    for (; *text; text++) fputc((unsigned char)*text < 32 ? ' ' : *text, out);
    fputc('\n', out);
}

static int compare_x(const void *a, const void *b) {
    const kv_plot_point *p = *(const kv_plot_point *const *)a, *q = *(const kv_plot_point *const *)b;
    return (p->x > q->x) - (p->x < q->x);
}

static void write_front(const kv_plot *plot, int64_t panel, FILE *out) {
    const kv_plot_point *front[KV_PLOT_MAX_POINTS];
    bool on_front[KV_PLOT_MAX_POINTS];
    size_t n = 0;
    kv_plot_front(plot, panel, on_front);
    for (int64_t i = 0; i < plot->n_points; i++)
        if (on_front[i]) front[n++] = &plot->points[i];
    qsort(front, n, sizeof *front, compare_x);
    fputs("# front\n", out);
    for (size_t i = 0; i < n; i++) fprintf(out, "%.9g %.9g\n", front[i]->x, front[i]->y[panel]);
    if (n == 0) fputs("NaN NaN\n", out);
    fputs("\n\n", out);
}

// Blocks for gnuplot's `index`: per panel the front, then every family.
static void write_data(const kv_plot *plot, const struct layout *l, FILE *out) {
    for (int64_t panel = 0; panel < plot->n_panels; panel++) {
        fputs("# panel: ", out);
        data_text(out, plot->panels[panel]);
        write_front(plot, panel, out);
        for (int64_t f = 0; f < l->n_families; f++) {
            fputs("# family: ", out);
            data_text(out, l->families[f]);
            int64_t n = 0;
            for (int64_t i = 0; i < plot->n_points; i++) {
                const kv_plot_point *point = &plot->points[i];
                if (l->family_of[i] != f || !isfinite(point->x) || !isfinite(point->y[panel])) continue;
                n++;
                fprintf(out, "%.9g %.9g ", point->x, point->y[panel]);
                fputs("# ", out);
                data_text(out, point->label);
            }
            if (n == 0) fputs("NaN NaN\n", out);
            fputs("\n\n", out);
        }
    }
}

// ---- Script --------------------------------------------------------------------------------------------

static void write_style(FILE *out, int64_t family, double size) {
    fprintf(out, "pt %d ps %.2f lw 1.5 lc rgb '%s'", markers[family % N_STYLES], size,
            colours[family % N_STYLES]);
}

// Families side by side in the strip at the bottom, as labels that bring their marker, and the front at the
// end.
static void write_legend(const struct layout *l, FILE *out) {
    const int64_t per_row = entries_per_row(l);
    for (int64_t f = 0; f <= l->n_families; f++) {
        const double x = LEFT + (double)(f % per_row) * l->entry;
        const double y =
            ((double)(l->legend_rows - 1 - f / per_row) * LEGEND_ROW + LEGEND_ROW / 2.0 + 5) / l->height;
        if (f == l->n_families)
            fprintf(out, "set arrow from screen %.5f,%.5f to screen %.5f,%.5f nohead lw 1 lc rgb '#888888'\n",
                    (x - 12) / l->width, y, (x + 8) / l->width, y);
        fputs("set label ", out);
        quoted(out, f < l->n_families ? l->families[f] : front_name);
        fprintf(out, " at screen %.5f,%.5f left noenhanced ", (x + 16) / l->width, y);
        if (f < l->n_families) {
            fprintf(out, "\nset label at screen %.5f,%.5f '' point ", x / l->width, y);
            write_style(out, f, 1.4);
        }
        fputc('\n', out);
    }
}

static void write_labels(const kv_plot *plot, int64_t panel, const kv_plot_frame *frame, FILE *out) {
    kv_plot_label labels[KV_PLOT_MAX_POINTS];
    kv_plot_place_labels(plot, panel, frame, labels);
    for (int64_t i = 0; i < plot->n_points; i++) {
        const kv_plot_label *label = &labels[i];
        if (!label->shown) continue;
        const double x = label->x / frame->width, y = label->y / frame->height;
        if (label->leader)
            fprintf(out,
                    "set arrow from graph %.5f,%.5f to graph %.5f,%.5f nohead lw 0.7 lc rgb '#999999' back\n",
                    label->px / frame->width, label->py / frame->height, x, y);
        fputs("set label ", out);
        quoted(out, plot->points[i].label);
        fprintf(out, " at graph %.5f,%.5f %s noenhanced front\n", x, y,
                label->side > 0   ? "left"
                : label->side < 0 ? "right"
                                  : "center");
    }
}

static void write_panel(const kv_plot *plot, const struct layout *l, int64_t panel,
                        const kv_plot_frame *frame, const char *name, FILE *out) {
    const double left = (double)(panel % l->columns * PANEL_WIDTH + LEFT);
    const double top = l->height - (double)(panel / l->columns * PANEL_HEIGHT + TOP);
    fputs("\nunset label\nunset arrow\n", out);
    if (panel == 0) write_legend(l, out);
    fprintf(out, "set lmargin at screen %.5f\nset rmargin at screen %.5f\n", left / l->width,
            (left + AREA_WIDTH) / l->width);
    fprintf(out, "set tmargin at screen %.5f\nset bmargin at screen %.5f\n", top / l->height,
            (top - AREA_HEIGHT) / l->height);
    fputs("set title ", out);
    quoted(out, plot->panels[panel]);
    fputs(" noenhanced font title_font\n", out);
    write_labels(plot, panel, frame, out);
    const int64_t block = panel * (l->n_families + 1);
    fputs("plot ", out);
    quoted(out, name);
    fprintf(out, " index %lld using 1:2 with lines lw 1 lc rgb '#888888' notitle", (long long)block);
    for (int64_t f = 0; f < l->n_families; f++) {
        fprintf(out, ", \\\n     '' index %lld using 1:2 with points ", (long long)(block + 1 + f));
        write_style(out, f, 1.6);
        fputs(" notitle", out);
    }
    fputc('\n', out);
}

static void write_axes(const kv_plot *plot, const kv_plot_frame *frame, FILE *out) {
    if (frame->x_log) fputs("set logscale x 2\n", out);
    fprintf(out, "set xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\n", frame->x_min, frame->x_max, frame->y_min,
            frame->y_max);
    fputs("set encoding utf8\nset format x '%g×'\nset grid lt 1 lw 0.6 lc rgb '#E4E4E4'\nset tics "
          "nomirror\nset border 3 lw 1\n",
          out);
    fputs("set xlabel ", out);
    quoted(out, plot->x_label);
    fputs("\nset ylabel ", out);
    quoted(out, plot->y_label);
    fputs("\nunset key\n", out);
}

static void write_script(const kv_plot *plot, const struct layout *l, const char *name, FILE *out) {
    const kv_plot_frame frame = kv_plot_make_frame(plot, AREA_WIDTH, AREA_HEIGHT);
    char data[NAME_MAX];
    snprintf(data, sizeof data, "%s.dat", name);
    fprintf(out, "# Draws %s.svg and %s.png from %s.dat:  gnuplot %s.gp\n", name, name, name, name);
    fprintf(out, "w = %.0f\nh = %.0f\n", l->width, l->height);
    write_axes(plot, &frame, out);
    fprintf(out,
            "do for [kind in 'svg png'] {\n"
            "if (kind eq 'svg') { set terminal svg size w,h font 'DejaVu Sans,%d' background '#FFFFFF' }\n"
            "if (kind eq 'png') { set terminal pngcairo size w,h font 'DejaVu Sans,%.2f' }\n"
            "title_font = kind eq 'svg' ? ',%d' : ',%.2f'\n"
            "set output '%s.'.kind\n"
            "set multiplot\n",
            KV_PLOT_FONT, KV_PLOT_FONT * 0.75, KV_PLOT_FONT + 2, (KV_PLOT_FONT + 2) * 0.75, name);
    for (int64_t panel = 0; panel < plot->n_panels; panel++) write_panel(plot, l, panel, &frame, data, out);
    fputs("unset multiplot\nunset output\n}\n", out);
}

// ---- Running gnuplot -----------------------------------------------------------------------------------

// In `dir`, without a shell, silent. 0, or an errno value; *exit_status as waitpid gives it.
static int run_gnuplot(const char *dir, const char *script, int *exit_status) {
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) return ENOMEM;
    char program[] = "gnuplot", argument[NAME_MAX];
    snprintf(argument, sizeof argument, "%s", script);
    char *const argv[] = {program, argument, NULL};
    int failure = posix_spawn_file_actions_addchdir_np(&actions, dir);
    if (!failure)
        failure = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!failure)
        failure = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (!failure)
        failure = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t child;
    if (!failure) failure = posix_spawnp(&child, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure) return failure;
    while (waitpid(child, exit_status, 0) < 0)
        if (errno != EINTR) return errno;
    return 0;
}

// A picture cut short by a full disk lacks its end.
static bool ends_with(const char *path, const char *end, size_t size) {
    char tail[16];
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    const bool whole = fseek(file, -(long)size, SEEK_END) == 0 && fread(tail, 1, size, file) == size &&
                       memcmp(tail, end, size) == 0;
    fclose(file);
    return whole;
}

static void check_pictures(const char *dir, const char *name, const char *why, char note[KV_PLOT_NOTE]) {
    static const char png_end[] = "IEND\xAE\x42\x60\x82", svg_end[] = "</svg>\n\n";
    char svg[PATH_MAX], png[PATH_MAX];
    snprintf(svg, sizeof svg, "%s/%s.svg", dir, name);
    snprintf(png, sizeof png, "%s/%s.png", dir, name);
    const bool svg_whole =
        ends_with(svg, svg_end, 8) || ends_with(svg, svg_end, 7) || ends_with(svg, svg_end, 6);
    const bool png_whole = ends_with(png, png_end, 8);
    if (!svg_whole) unlink(svg);
    if (!png_whole) unlink(png);
    if (svg_whole && png_whole) return;
    snprintf(note, KV_PLOT_NOTE, "%s%s%s not drawn: %s", svg_whole ? "" : "the SVG picture",
             svg_whole || png_whole ? "" : " and ", png_whole ? "" : "the PNG picture",
             *why ? why : "gnuplot failed");
}

// ---- All together --------------------------------------------------------------------------------------

static FILE *create(const char *dir, const char *name, const char *ending, kv_error *err) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, ending);
    FILE *file = fopen(path, "w");
    if (!file) kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    return file;
}

static kv_status finish(FILE *file, const char *dir, const char *name, const char *ending, kv_error *err) {
    const bool failed = ferror(file) != 0;
    if (fclose(file) == 0 && !failed) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s/%s.%s: cannot write: %s", dir, name, ending,
                   strerror(errno ? errno : EIO));
}

kv_status kv_plot_draw(const kv_plot *plot, const char *dir, const char *name, char note[KV_PLOT_NOTE],
                       kv_error *err) {
    note[0] = '\0';
    if (plot->n_points > KV_PLOT_MAX_POINTS || plot->n_panels < 1 || plot->n_panels > KV_PLOT_MAX_PANELS)
        return kv_fail(
            err, KV_ERR_RANGE, "a picture of %lld points in %lld panels, expected at most %d in 1 to %d",
            (long long)plot->n_points, (long long)plot->n_panels, KV_PLOT_MAX_POINTS, KV_PLOT_MAX_PANELS);
    const struct layout l = make_layout(plot);
    FILE *file = create(dir, name, "dat", err);
    if (!file) return KV_ERR_IO;
    write_data(plot, &l, file);
    kv_status status = finish(file, dir, name, "dat", err);
    if (status != KV_OK) return status;
    file = create(dir, name, "gp", err);
    if (!file) return KV_ERR_IO;
    write_script(plot, &l, name, file);
    status = finish(file, dir, name, "gp", err);
    if (status != KV_OK) return status;
    char script[NAME_MAX], why[128] = "";
    int exit_status = 0;
    snprintf(script, sizeof script, "%s.gp", name);
    const int failure = run_gnuplot(dir, script, &exit_status);
    if (failure == ENOENT)
        snprintf(why, sizeof why, "gnuplot is not installed (package gnuplot-nox)");
    else if (failure)
        snprintf(why, sizeof why, "gnuplot did not start: %s", strerror(failure));
    check_pictures(dir, name, why, note);
    return KV_OK;
}
