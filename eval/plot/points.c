// Numbers go to a .dat file and everything else into a script beside it, so that a reader can change the
// picture without kveval. Layers are written from the back to the front.
#include "eval/plot/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// A plot, and all that its script needs and that can fail.
struct picture {
    const kv_plot *plot;
    kv_plot_page page;
    int64_t n_families, n_all_families;           // own; with those of published points
    kv_plot_style styles[2 * KV_PLOT_MAX_POINTS]; // [n_all_families]
    kv_plot_frame *frames;                        // [n_panels]
    kv_plot_label *labels, *published;            // [n_panels, n_points], [n_panels, n_published]
    char line_text[KV_PLOT_TEXT];                 // of the legend
};

// ---- Data ----------------------------------------------------------------------------------------------

static double at(const double *values, int64_t panel) {
    return values ? values[panel] : NAN;
}

static void write_point(const kv_plot_point *point, int64_t panel, FILE *out) {
    const double numbers[] = {point->x[panel], point->y[panel], at(point->low, panel),
                              at(point->high, panel)};
    for (int i = 0; i < 4; i++)
        if (isfinite(numbers[i]))
            fprintf(out, "%.9g ", numbers[i]);
        else
            fputs("NaN ", out);
    fputs("# ", out);
    kv_plot_data_text(out, point->label);
}

// One block of those points of the panel that are of the family (-1: on the front), in order of x.
static void write_block(const kv_plot_point *points, const kv_plot_panel *sorted, int64_t panel,
                        int64_t family, FILE *out) {
    int64_t n = 0;
    for (int64_t o = 0; o < sorted->n; o++) {
        const int64_t i = sorted->order[o];
        if (family < 0 ? !sorted->front[i] : sorted->family[i] != family) continue;
        write_point(&points[i], panel, out);
        n++;
    }
    if (n == 0) fputs("NaN NaN NaN NaN\n", out);
    fputs("\n\n", out);
}

static const char *family_name(const kv_plot_point *points, int64_t n, const kv_plot_panel *sorted,
                               int64_t family) {
    for (int64_t i = 0; i < n; i++)
        if (sorted->family[i] == family) return points[i].family;
    return "";
}

// Blocks for gnuplot's `index`: per panel the front, every family, then every family of published points
// (those that are not among them are empty).
static void write_data(const void *context, FILE *out) {
    const struct picture *picture = context;
    const kv_plot *plot = picture->plot;
    for (int64_t panel = 0; panel < plot->n_panels; panel++) {
        kv_plot_panel own, theirs;
        kv_plot_sort_panel(plot, panel, &own);
        kv_plot_sort_published(plot, panel, &theirs);
        fputs("# panel: ", out);
        kv_plot_data_text(out, plot->panels[panel]);
        fputs("# x y low high\n# front\n", out);
        write_block(plot->points, &own, panel, -1, out);
        for (int64_t f = 0; f < own.n_families; f++) {
            fputs("# family: ", out);
            kv_plot_data_text(out, family_name(plot->points, plot->n_points, &own, f));
            write_block(plot->points, &own, panel, f, out);
        }
        for (int64_t f = 0; plot->n_published && f < theirs.n_families; f++) {
            fputs("# published: ", out);
            kv_plot_data_text(out, family_name(plot->published, plot->n_published, &theirs, f));
            write_block(plot->published, &theirs, panel, f, out);
        }
    }
}

// ---- Script --------------------------------------------------------------------------------------------

static void write_label(const kv_plot_label *label, const kv_plot_frame *frame, const char *font,
                        const char *colour, FILE *out) {
    if (!label->shown) return;
    const double x = label->x / frame->width, y = label->y / frame->height;
    if (label->leader)
        fprintf(out,
                "set arrow from graph %.5f,%.5f to graph %.5f,%.5f nohead lw 0.7 lc rgb '#999999' back\n",
                label->px / frame->width, label->py / frame->height, x, y);
    fputs("set label ", out);
    kv_plot_quoted(out, label->text);
    fprintf(out, " at graph %.5f,%.5f %s noenhanced front%s textcolor rgb '%s'\n", x, y,
            label->side > 0   ? "left"
            : label->side < 0 ? "right"
                              : "center",
            font, colour);
}

// In the colours of the families, darker to be read.
static void write_labels(const struct picture *picture, int64_t panel, FILE *out) {
    const kv_plot *plot = picture->plot;
    const kv_plot_frame *frame = &picture->frames[panel];
    kv_plot_panel sorted;
    char dark[8];
    for (int64_t i = 0; i < plot->n_published; i++)
        write_label(&picture->published[panel * plot->n_published + i], frame, " font small_font", "#8A8A8A",
                    out);
    kv_plot_sort_panel(plot, panel, &sorted);
    for (int64_t i = 0; i < plot->n_points; i++)
        write_label(&picture->labels[panel * plot->n_points + i], frame, "",
                    kv_plot_mix(picture->styles[sorted.family[i]].colour, 0.65, 0, dark), out);
}

static void write_layer(FILE *out, int64_t block, const char *how) {
    fprintf(out, ", \\\n     '' index %lld using %s notitle", (long long)block, how);
}

static void write_published(const struct picture *picture, int64_t first, FILE *out) {
    char how[160], colour[8];
    if (!picture->plot->n_published) return;
    for (int64_t f = 0; f < picture->n_all_families; f++) {
        const kv_plot_style style = picture->styles[f];
        kv_plot_mix(style.colour, 0.35, 200, colour);
        snprintf(how, sizeof how, "1:2 with lines lw 0.7 dt 3 lc rgb '%s'", colour);
        write_layer(out, first + f, how);
        snprintf(how, sizeof how, "1:2 with points pt %d ps 0.8*m lw 1 lc rgb '%s'", style.hollow, colour);
        write_layer(out, first + f, how);
    }
}

// From the back to the front: published points, lines, intervals, markers, rings.
static void write_layers(const struct picture *picture, int64_t panel, const char *name, FILE *out) {
    const int64_t n = picture->n_families;
    const int64_t front = panel * (1 + n + (picture->plot->n_published ? picture->n_all_families : 0));
    char how[160], light[8];
    // The first layer names the file.
    fprintf(out, "plot '%s.dat' index %lld using 1:2 with lines lw 1.2 lc rgb '#888888' notitle", name,
            (long long)front);
    write_published(picture, front + 1 + n, out);
    for (int64_t f = 0; f < n && !picture->plot->x_labels; f++) {
        snprintf(how, sizeof how, "1:2 with lines lw 0.8 lc rgb '%s'", picture->styles[f].colour);
        write_layer(out, front + 1 + f, how);
    }
    for (int64_t f = 0; f < n; f++) {
        snprintf(how, sizeof how, "1:3:(0):($4-$3) with vectors nohead lw 1 lc rgb '%s'",
                 kv_plot_mix(picture->styles[f].colour, 0.5, 255, light));
        write_layer(out, front + 1 + f, how);
    }
    for (int64_t f = 0; f < n; f++) {
        const kv_plot_style style = picture->styles[f];
        snprintf(how, sizeof how, "1:2 with points pt %d ps 1.6*m lw 1.5 lc rgb '%s'", style.filled,
                 style.colour);
        write_layer(out, front + 1 + f, how);
        snprintf(how, sizeof how, "1:2 with points pt %d ps 0.55*m lw 1 lc rgb '#FFFFFF'", style.filled);
        if (style.dotted) write_layer(out, front + 1 + f, how);
    }
    write_layer(out, front, "1:2 with points pt 6 ps 2.2*m lw 1.2 lc rgb '#666666'");
    fputc('\n', out);
}

enum { LINE_DASH = 2 };

static kv_plot_style style_of(const struct picture *picture, const kv_plot_point *point) {
    const kv_plot *plot = picture->plot;
    kv_plot_panel sorted;
    kv_plot_sort_panel(plot, 0, &sorted);
    for (int64_t i = 0; i < plot->n_points; i++)
        if (!strcmp(plot->points[i].family, point->family)) return picture->styles[sorted.family[i]];
    return picture->styles[0];
}

static bool has_line(const kv_plot *plot, int64_t panel) {
    return plot->line && kv_plot_drawable(plot, plot->line, panel);
}

static void write_line(const struct picture *picture, int64_t panel, FILE *out) {
    const kv_plot_point *line = picture->plot->line;
    if (!has_line(picture->plot, panel)) return;
    fprintf(
        out,
        "set arrow from graph 0, first %.9g to graph 1, first %.9g nohead lw 1.2 dt %d lc rgb '%s' back\n",
        line->y[panel], line->y[panel], LINE_DASH, style_of(picture, line).colour);
}

static void write_x_label(const char *label, FILE *out) {
    fputs("set xlabel ", out);
    kv_plot_quoted(out, label);
    fputs(" noenhanced\n", out);
}

static void write_axes(const kv_plot *plot, const kv_plot_frame *frame, FILE *out) {
    if (frame->x_log) fprintf(out, "set logscale x%s\n", plot->times ? "" : " 2");
    fprintf(out, "set format x '%s'\n", plot->times || plot->x_labels ? "%g" : "%g×");
    if (!plot->x_labels) write_x_label(plot->x_label, out);
}

// Once where all panels have the same.
static void write_y_label(const kv_plot *plot, int64_t panel, FILE *out) {
    if (panel > 0 && !strcmp(kv_plot_y_label(plot, panel), kv_plot_y_label(plot, panel - 1))) return;
    fputs("set ylabel ", out);
    kv_plot_quoted(out, kv_plot_y_label(plot, panel));
    fputs(" noenhanced\n", out);
}

static void write_script(const void *context, const char *name, FILE *out) {
    const struct picture *picture = context;
    const kv_plot *plot = picture->plot;
    write_axes(plot, &picture->frames[0], out);
    kv_plot_page_begin(&picture->page, name, out);
    for (int64_t panel = 0; panel < plot->n_panels; panel++) {
        const kv_plot_frame *frame = &picture->frames[panel];
        kv_plot_page_panel(&picture->page, panel, plot->panels[panel], out);
        fprintf(out, "set xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\n", frame->x_min, frame->x_max,
                frame->y_min, frame->y_max);
        if (plot->times) kv_plot_log_ticks('x', frame->x_min, frame->x_max, out);
        if (plot->x_labels) write_x_label(plot->x_labels[panel], out);
        write_y_label(plot, panel, out);
        write_line(picture, panel, out);
        write_labels(picture, panel, out);
        write_layers(picture, panel, name, out);
    }
    kv_plot_page_end(out);
}

// ---- All together --------------------------------------------------------------------------------------

static bool has_intervals(const kv_plot *plot) {
    for (int64_t i = 0; i < plot->n_points; i++)
        for (int64_t p = 0; p < plot->n_panels; p++)
            if (isfinite(at(plot->points[i].low, p)) && isfinite(at(plot->points[i].high, p))) return true;
    return false;
}

// Of all families there are, own and published.
static void choose_styles(struct picture *picture, const kv_plot_panel *own, const kv_plot_panel *theirs) {
    const kv_plot *plot = picture->plot;
    const char *names[2 * KV_PLOT_MAX_POINTS];
    picture->n_families = own->n_families, picture->n_all_families = theirs->n_families;
    for (int64_t f = 0; f < own->n_families; f++)
        names[f] = family_name(plot->points, plot->n_points, own, f);
    for (int64_t f = own->n_families; f < theirs->n_families; f++)
        names[f] = family_name(plot->published, plot->n_published, theirs, f);
    kv_plot_family_styles(names, theirs->n_families, picture->styles);
}

// A family of which no point has numbers needs no entry.
static bool is_drawn(const kv_plot *plot, const kv_plot_panel *sorted, int64_t family) {
    for (int64_t i = 0; i < plot->n_points; i++)
        for (int64_t p = 0; p < plot->n_panels && sorted->family[i] == family; p++)
            if (isfinite(plot->points[i].x[p]) && isfinite(plot->points[i].y[p])) return true;
    return false;
}

static void make_legend(struct picture *picture) {
    const kv_plot *plot = picture->plot;
    kv_plot_panel own, theirs;
    kv_plot_sort_panel(plot, 0, &own);
    kv_plot_sort_published(plot, 0, &theirs);
    choose_styles(picture, &own, &theirs);
    for (int64_t f = 0; f < own.n_families; f++)
        if (is_drawn(plot, &own, f))
            kv_plot_page_entry(&picture->page,
                               (kv_plot_entry){.sign = KV_PLOT_SIGN_MARKER,
                                               .style = picture->styles[f],
                                               .text = family_name(plot->points, plot->n_points, &own, f)});
    if (!plot->x_labels)
        kv_plot_page_entry(&picture->page,
                           (kv_plot_entry){.sign = KV_PLOT_SIGN_FRONT, .text = "Pareto front"});
    bool line = false;
    for (int64_t p = 0; p < plot->n_panels; p++) line = line || has_line(plot, p);
    if (line) {
        snprintf(picture->line_text, sizeof picture->line_text, "%s as a line", plot->line->label);
        kv_plot_page_entry(&picture->page, (kv_plot_entry){.sign = KV_PLOT_SIGN_LINE,
                                                           .style = style_of(picture, plot->line),
                                                           .dash = LINE_DASH,
                                                           .text = picture->line_text});
    }
    if (has_intervals(plot))
        kv_plot_page_entry(&picture->page,
                           (kv_plot_entry){.sign = KV_PLOT_SIGN_INTERVAL,
                                           .text = plot->interval ? plot->interval : "95 % interval"});
    if (plot->n_published)
        kv_plot_page_entry(&picture->page, (kv_plot_entry){.sign = KV_PLOT_SIGN_PUBLISHED,
                                                           .text = plot->published_name ? plot->published_name
                                                                                        : "published"});
}

// More points get more room.
static kv_status lay_out(struct picture *picture, kv_error *err) {
    const kv_plot *plot = picture->plot;
    const int64_t n = plot->n_points + plot->n_published / 3;
    picture->page.n_panels = plot->n_panels;
    picture->page.heading = plot->heading, picture->page.columns = plot->columns;
    picture->page.area_width = n <= 12 ? 560 : n <= 24 ? 680 : 800;
    picture->page.area_height = n <= 12 ? 400 : n <= 24 ? 480 : 560;
    make_legend(picture);
    kv_plot_page_arrange(&picture->page);
    const size_t n_panels = (size_t)plot->n_panels;
    picture->frames = malloc(n_panels * sizeof *picture->frames);
    picture->labels = malloc((n_panels * (size_t)plot->n_points + 1) * sizeof *picture->labels);
    picture->published = malloc((n_panels * (size_t)plot->n_published + 1) * sizeof *picture->published);
    if (!picture->frames || !picture->labels || !picture->published)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a picture");
    kv_plot_make_frames(plot, picture->page.area_width, picture->page.area_height, picture->frames);
    kv_status status = KV_OK;
    for (int64_t p = 0; status == KV_OK && p < plot->n_panels; p++)
        status = kv_plot_place_labels(plot, p, &picture->frames[p], picture->labels + p * plot->n_points,
                                      picture->published + p * plot->n_published, err);
    return status;
}

kv_status kv_plot_draw(const kv_plot *plot, const char *dir, const char *name, char note[KV_PLOT_NOTE],
                       kv_error *err) {
    note[0] = '\0';
    if (plot->n_points > KV_PLOT_MAX_POINTS || plot->n_published > KV_PLOT_MAX_POINTS || plot->n_panels < 1 ||
        plot->n_panels > KV_PLOT_MAX_PANELS)
        return kv_fail(
            err, KV_ERR_RANGE,
            "a picture of %lld points and %lld published ones in %lld panels, expected at most %d of either "
            "in 1 to %d",
            (long long)plot->n_points, (long long)plot->n_published, (long long)plot->n_panels,
            KV_PLOT_MAX_POINTS, KV_PLOT_MAX_PANELS);
    struct picture picture = {.plot = plot};
    kv_status status = lay_out(&picture, err);
    const kv_plot_writer writer = {&picture, write_data, write_script};
    if (status == KV_OK) status = kv_plot_render(&writer, dir, name, note, err);
    free(picture.frames);
    free(picture.labels);
    free(picture.published);
    return status;
}
