// The loss curve in characters, and the learning rates where there are several, drawn by gnuplot's terminal for such.
#include "data/system/gnuplot.h"
#include "train/status/status.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { AXIS_COLUMNS = 8 }; // that the numbers beside the picture take, about

struct extent {
    double low, high;
};

static void include(struct extent *y, double value) {
    y->low = fmin(y->low, value);
    y->high = fmax(y->high, value);
}

// One point a column: the mean of what is logged for its steps.
static int64_t put_means(const kv_metrics_table *t, const double *values, int64_t columns, struct extent *y,
                         FILE *script) {
    const double last = (double)t->steps[t->n - 1], first = (double)t->steps[0];
    const double width = fmax(1, (last - first + 1) / (double)columns);
    int64_t n_points = 0;
    for (int64_t i = 0; i < t->n;) {
        const double column = floor(((double)t->steps[i] - first) / width);
        double steps = 0, sum = 0;
        int64_t n = 0;
        for (; i < t->n && (n == 0 || floor(((double)t->steps[i] - first) / width) == column); i++) {
            steps += (double)t->steps[i];
            sum += values[i];
            n++;
        }
        if (!isfinite(sum)) continue;
        fprintf(script, "%.9g %.9g\n", steps / (double)n, sum / (double)n);
        include(y, sum / (double)n);
        n_points++;
    }
    return n_points;
}

static int64_t put_data(const char *name, const kv_metrics_table *t, const char *column, int64_t columns,
                        struct extent *y, FILE *script) {
    const double *values = kv_metrics_values(t, column);
    if (!values) return 0;
    fprintf(script, "$%s << END\n", name);
    const int64_t n = put_means(t, values, columns, y, script);
    fputs("END\n", script);
    return n;
}

// 1, 2 or 5 times a power of ten: about four of them from the lowest to the highest.
static double tic_step(const struct extent *y) {
    const double wanted = (y->high - y->low) / 4;
    if (!(wanted > 0)) return 1;
    const double power = pow(10, floor(log10(wanted))), ratio = wanted / power;
    return power * (ratio < 1.5 ? 1 : ratio < 3.5 ? 2 : ratio < 7.5 ? 5 : 10);
}

static int64_t last_step(const kv_metrics_table *t) {
    return t->n > 0 ? t->steps[t->n - 1] : 0;
}

static void put_axes(const kv_run_status *s, const struct extent *y, FILE *script) {
    const int64_t trained = last_step(&s->metrics.training), validated = last_step(&s->metrics.validation);
    const int64_t last = trained > validated ? trained : validated;
    const double step = tic_step(y), low = step * floor(y->low / step), high = step * ceil(y->high / step);
    fprintf(script, "set xrange [0:%" PRIi64 "]\nset yrange [%.9g:%.9g]\nset ytics %.9g\n",
            last > 0 ? last : 1, low, high > low ? high : low + step, step);
    fputs("set border 3 back\nset tics nomirror out\nset key top right\nset xlabel 'step'\n", script);
}

static void put_plot(int64_t n_training, int64_t n_validation, bool utf8, FILE *script) {
    fputs("plot ", script);
    if (n_training > 0)
        fprintf(script, "$training with points pt '%s' title 'training loss'", utf8 ? "·" : "*");
    if (n_validation > 0)
        fprintf(script, "%s$validation with points pt '%s' title 'validation loss'",
                n_training > 0 ? ", " : "", utf8 ? "●" : "o");
    fputc('\n', script);
}

// Without the form feed, blanks at the ends of lines and empty lines above and below.
static void print_trimmed(const char *picture, FILE *out) {
    int blank = 0;
    bool begun = false;
    for (const char *line = picture; *line;) {
        const size_t length = strcspn(line, "\n");
        const char *text = line + (*line == '\f');
        size_t n = length - (size_t)(text - line);
        while (n > 0 && text[n - 1] == ' ') n--;
        for (; n > 0 && begun && blank > 0; blank--) fputc('\n', out);
        if (n > 0) fprintf(out, "%.*s\n", (int)n, text);
        begun = begun || n > 0;
        blank = n > 0 ? 0 : blank + 1;
        line += length + (line[length] == '\n');
    }
}

static FILE *begin_script(char **text, size_t *size, int width, int height, bool utf8) {
    FILE *script = open_memstream(text, size);
    if (script)
        fprintf(script, "set encoding %s\nset terminal dumb size %d,%d noenhanced\n",
                utf8 ? "utf8" : "default", width, height);
    return script;
}

// Draws what the script says, if it is wanted, and frees it.
static void draw(FILE *script, char **text, const size_t *size, bool wanted, const char *what, FILE *out) {
    kv_error err = {0};
    char *picture;
    wanted = fclose(script) == 0 && wanted;
    if (wanted && kv_gnuplot_text(*text, *size, &picture, &err) == KV_OK) {
        fputc('\n', out);
        print_trimmed(picture, out);
        free(picture);
    } else if (wanted) {
        fprintf(out, "\n(no %s: %s)\n", what, err.message);
    }
    free(*text);
}

static int64_t columns_of(int width) {
    return width > 2 * AXIS_COLUMNS ? width - AXIS_COLUMNS : AXIS_COLUMNS;
}

static bool rates_differ(const kv_metrics_table *t) {
    for (int i = 0; i < t->n_columns; i++) {
        const char *name = t->columns[i].name;
        const double value = kv_metrics_last(t, name), first = kv_metrics_last(t, "lr");
        if (kv_run_status_is_rate(name) && isfinite(value) && value != first) return true;
    }
    return false;
}

static void draw_rates(const kv_run_status *s, int width, int height, bool utf8, FILE *out) {
    static const char *const points[] = {"*", "o", "+", "x"};
    const kv_metrics_table *t = &s->metrics.training;
    struct extent y = {0, -(double)INFINITY};
    const char *drawn[sizeof points / sizeof *points];
    size_t n_drawn = 0, size = 0;
    char *text = NULL;
    FILE *script = begin_script(&text, &size, width, height, utf8);
    if (!script) return;
    for (int i = 0; i < t->n_columns && n_drawn < sizeof points / sizeof *points; i++) {
        const char *name = t->columns[i].name;
        if (kv_run_status_is_rate(name) && put_data(name, t, name, columns_of(width), &y, script) > 1)
            drawn[n_drawn++] = name;
    }
    put_axes(s, &y, script);
    fputs("set key outside top center horizontal\n", script);
    for (size_t i = 0; i < n_drawn; i++)
        fprintf(script, "%s$%s with points pt '%s' title '%s'", i ? ", " : "plot ", drawn[i], points[i],
                drawn[i]);
    fputc('\n', script);
    draw(script, &text, &size, n_drawn > 0, "curve of the rates", out);
}

void kv_run_status_curve(const kv_run_status *s, int width, int height, bool utf8, FILE *out) {
    const kv_metrics *m = &s->metrics;
    char *text = NULL;
    size_t size = 0;
    struct extent y = {(double)INFINITY, -(double)INFINITY};
    FILE *script = begin_script(&text, &size, width, height, utf8);
    if (!script) return;
    const int64_t columns = columns_of(width);
    const int64_t n_training = put_data("training", &m->training, "loss", columns, &y, script);
    const int64_t n_validation = put_data("validation", &m->validation, "loss", columns, &y, script);
    put_axes(s, &y, script);
    put_plot(n_training, n_validation, utf8, script);
    // With one point of each there is no curve to see.
    draw(script, &text, &size, n_training > 1 || n_validation > 1, "loss curve", out);
    if (n_training > 1 && rates_differ(&m->training)) draw_rates(s, width, height / 2, utf8, out);
}
