// Times are drawn with both axes logarithmic: time grows in proportion to the prompt, which is then a straight line, and
// small systems stay legible below large ones.
#include "eval/plot/page.h"

#include <math.h>
#include <string.h>

struct picture {
    const kv_plot_curves *plot;
    kv_plot_page page;
    kv_plot_style styles[KV_PLOT_MAX_POINTS]; // [n_curves]
    int dashes[KV_PLOT_MAX_POINTS];
};

enum { N_DASHES = 5 }; // that gnuplot has

struct range {
    double low, high;
};

static double value_at(const kv_plot_curves *plot, const double *values, int64_t panel, int64_t i) {
    const double value = values ? values[panel * plot->n_x + i] : NAN;
    return isfinite(value) && (plot->linear_y || value > 0) ? value : NAN;
}

// The spread's lower end lies below 0 when it is wider than the value: then the bar ends where the curve's
// own range would, at a tenth of it.
static double low_at(const kv_plot_curves *plot, const kv_plot_curve *curve, int64_t panel, int64_t i) {
    const double low = curve->low ? curve->low[panel * plot->n_x + i] : NAN;
    if (plot->linear_y) return low;
    return isfinite(low) ? fmax(low, 0.1 * curve->y[panel * plot->n_x + i]) : NAN;
}

static struct range linear_range(const kv_plot_curves *plot, struct range range) {
    if (!(range.low <= range.high)) return (struct range){0, 1};
    const double low = fmax(range.low, plot->least_y), high = fmax(range.high, low);
    const double margin = high > low ? 0.05 * (high - low) : fmax(0.05 * fabs(high), 0.01);
    return (struct range){low - margin, high + margin};
}

// Of a logarithmic one at least half as wide again as its lower end, so that there is a tick in it.
static struct range range_of(const kv_plot_curves *plot, int64_t panel) {
    struct range range = {INFINITY, plot->linear_y ? -INFINITY : 0};
    for (int64_t c = 0; c < plot->n_curves; c++)
        for (int64_t i = 0; i < plot->n_x; i++) {
            const kv_plot_curve *curve = &plot->curves[c];
            const double y = value_at(plot, curve->y, panel, i);
            if (isnan(y)) continue; // fmin and fmax leave out what is NAN
            range.low = fmin(fmin(range.low, y), low_at(plot, curve, panel, i));
            range.high = fmax(fmax(range.high, y), value_at(plot, curve->high, panel, i));
        }
    if (plot->linear_y) return linear_range(plot, range);
    return range.high > 0 ? (struct range){range.low / 1.25, range.high * 1.25} : (struct range){0.1, 10};
}

// A block per panel and curve.
static void write_data(const void *context, FILE *out) {
    const kv_plot_curves *plot = ((const struct picture *)context)->plot;
    for (int64_t panel = 0; panel < plot->n_panels; panel++) {
        fputs("# panel: ", out);
        kv_plot_data_text(out, plot->panels[panel]);
        fputs("# x y low high\n", out);
        for (int64_t c = 0; c < plot->n_curves; c++) {
            const kv_plot_curve *curve = &plot->curves[c];
            fputs("# curve: ", out);
            kv_plot_data_text(out, curve->label);
            for (int64_t i = 0; i < plot->n_x; i++) {
                const double numbers[] = {plot->x[i], value_at(plot, curve->y, panel, i),
                                          low_at(plot, curve, panel, i),
                                          value_at(plot, curve->high, panel, i)};
                for (int k = 0; k < 4; k++)
                    if (isnan(numbers[k]) || (k > 1 && isnan(numbers[1])))
                        fputs("NaN ", out);
                    else
                        fprintf(out, "%.9g ", numbers[k]);
                fputc('\n', out);
            }
            fputs("\n\n", out);
        }
    }
}

// ---- Script --------------------------------------------------------------------------------------------

static struct range x_range(const kv_plot_curves *plot) {
    if (plot->n_x == 0) return (struct range){0.1, 10};
    const double first = plot->x[0], last = plot->x[plot->n_x - 1];
    const double margin = last > first ? 0.04 * (last - first) : 0.5;
    return plot->linear_x ? (struct range){first - margin, last + margin}
                          : (struct range){first / 1.2, last * 1.2};
}

// Ticks at the lengths themselves, but for those too near to the one before.
static void write_x_ticks(const kv_plot_curves *plot, const struct range *x, double width, FILE *out) {
    double last = -INFINITY;
    const char *between = "set xtics (";
    for (int64_t i = 0; i < plot->n_x; i++) {
        const double pixel = plot->linear_x ? width * (plot->x[i] - x->low) / (x->high - x->low)
                                            : width * log(plot->x[i] / x->low) / log(x->high / x->low);
        if (pixel - last < 38) continue;
        fprintf(out, "%s%.9g", between, plot->x[i]);
        between = ", ";
        last = pixel;
    }
    fputs(")\n", out);
}

static void write_layers(const struct picture *picture, int64_t panel, const char *name, FILE *out) {
    const kv_plot_curves *plot = picture->plot;
    const char *between = "plot ";
    for (int layer = 0; layer < 4; layer++)
        for (int64_t c = 0; c < plot->n_curves; c++) {
            const kv_plot_style style = picture->styles[c];
            if (layer == 3 && !style.dotted) continue;
            fprintf(out, "%s'%s.dat' index %lld using ", between, name,
                    (long long)(panel * plot->n_curves + c));
            between = " notitle, \\\n     ";
            switch (layer) {
            case 0:
                fprintf(out, "1:2 with lines lw 1.4 dt %d lc rgb '%s'", picture->dashes[c], style.colour);
                break;
            case 1: fprintf(out, "1:3:(0):($4-$3) with vectors nohead lw 1 lc rgb '%s'", style.colour); break;
            case 2:
                fprintf(out, "1:2 with points pt %d ps 1.2*m lc rgb '%s'", style.filled, style.colour);
                break;
            case 3: fprintf(out, "1:2 with points pt %d ps 0.4*m lc rgb '#FFFFFF'", style.filled); break;
            }
        }
    fputs(plot->n_curves ? " notitle\n" : "plot NaN notitle\n", out);
}

static void write_script(const void *context, const char *name, FILE *out) {
    const struct picture *picture = context;
    const kv_plot_curves *plot = picture->plot;
    const struct range x = x_range(plot);
    const char *logarithmic = &"xy"[plot->linear_x];
    if (!plot->linear_x || !plot->linear_y)
        fprintf(out, "set logscale %.*s\n", 1 + (!plot->linear_x && !plot->linear_y), logarithmic);
    fputs("set format x '%g'\nset xlabel ", out);
    kv_plot_quoted(out, plot->x_label);
    fputs(" noenhanced\nset ylabel ", out);
    kv_plot_quoted(out, plot->y_label);
    fprintf(out, " noenhanced\nset xrange [%.9g:%.9g]\n", x.low, x.high);
    if (plot->n_x) write_x_ticks(plot, &x, picture->page.area_width, out);
    kv_plot_page_begin(&picture->page, name, out);
    for (int64_t panel = 0; panel < plot->n_panels; panel++) {
        const struct range y = range_of(plot, panel);
        kv_plot_page_panel(&picture->page, panel, plot->panels[panel], out);
        fprintf(out, "set yrange [%.9g:%.9g]\n", y.low, y.high);
        if (!plot->linear_y) kv_plot_log_ticks('y', y.low, y.high, out);
        write_layers(picture, panel, name, out);
    }
    kv_plot_page_end(out);
}

static void choose_styles(struct picture *picture) {
    const kv_plot_curves *plot = picture->plot;
    const char *names[KV_PLOT_MAX_POINTS];
    int64_t family_of[KV_PLOT_MAX_POINTS], n = 0;
    kv_plot_style styles[KV_PLOT_MAX_POINTS];
    int members[KV_PLOT_MAX_POINTS] = {0};
    for (int64_t c = 0; c < plot->n_curves; c++) {
        int64_t f = 0;
        while (f < n && strcmp(names[f], plot->curves[c].family) != 0) f++;
        if (f == n) names[n++] = plot->curves[c].family;
        family_of[c] = f;
        picture->dashes[c] = 1 + members[f]++ % N_DASHES;
    }
    kv_plot_family_styles(names, n, styles);
    for (int64_t c = 0; c < plot->n_curves; c++) picture->styles[c] = styles[family_of[c]];
}

kv_status kv_plot_draw_curves(const kv_plot_curves *plot, const char *dir, const char *name,
                              char note[KV_PLOT_NOTE], kv_error *err) {
    note[0] = '\0';
    if (plot->n_curves > KV_PLOT_MAX_POINTS || plot->n_x > KV_PLOT_MAX_POINTS || plot->n_panels < 1 ||
        plot->n_panels > KV_PLOT_MAX_PANELS)
        return kv_fail(
            err, KV_ERR_RANGE,
            "a picture of %lld curves of %lld points in %lld panels, expected at most %d of %d in 1 to %d",
            (long long)plot->n_curves, (long long)plot->n_x, (long long)plot->n_panels, KV_PLOT_MAX_POINTS,
            KV_PLOT_MAX_POINTS, KV_PLOT_MAX_PANELS);
    struct picture picture = {.plot = plot,
                              .page = {.n_panels = plot->n_panels,
                                       .columns = plot->columns,
                                       .heading = plot->heading,
                                       .area_width = 480,
                                       .area_height = 360}};
    choose_styles(&picture);
    for (int64_t c = 0; c < plot->n_curves; c++)
        kv_plot_page_entry(&picture.page, (kv_plot_entry){.sign = KV_PLOT_SIGN_CURVE,
                                                          .style = picture.styles[c],
                                                          .dash = picture.dashes[c],
                                                          .text = plot->curves[c].label});
    kv_plot_page_arrange(&picture.page);
    const kv_plot_writer writer = {&picture, write_data, write_script};
    return kv_plot_render(&writer, dir, name, note, err);
}
