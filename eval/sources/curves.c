// Counts run downwards, what is read to the right; a row of the CSV file is one regression.
#include "eval/sources/curves.h"

#include "data/file/csv.h"
#include "data/file/path.h"

#include <math.h>
#include <stdlib.h>

const char *const kv_source_set_names[KV_SOURCE_SETS] = {"kv", "h"};
static const char *const side_names[2] = {"keys", "values"};
static const char *const read_labels[KV_SOURCE_SETS][2] = {{"from keys", "from values"},
                                                           {"from inputs", "from inputs"}};
// Families of their own (eval/plot/families.h).
static const char *const curve_labels[KV_SOURCE_SETS] = {"from keys or values", "from layers' inputs"};

bool kv_source_curves_make(kv_source_curves *c) {
    bool ok = true;
    for (int kind = 0; kind < KV_SOURCE_SETS; kind++)
        for (int side = 0; side < 2 && c->read[kind]; side++) {
            kv_source_curve *curve = &c->side[kind][side];
            const size_t n = (size_t)(c->n_layers * c->n_counts);
            curve->order = calloc((size_t)(c->n_layers * c->n_sources) + 1, sizeof *curve->order);
            curve->fit = calloc(n + 1, sizeof *curve->fit);
            curve->held_out = calloc(n + 1, sizeof *curve->held_out);
            ok = ok && curve->order && curve->fit && curve->held_out;
        }
    return ok;
}

void kv_source_curves_free(kv_source_curves *c) {
    for (int kind = 0; kind < KV_SOURCE_SETS; kind++)
        for (int side = 0; side < 2; side++) {
            kv_source_curve *curve = &c->side[kind][side];
            free(curve->order);
            free(curve->fit);
            free(curve->held_out);
            *curve = (kv_source_curve){0};
        }
}

// Mean over the base's layers, at counts[count].
static double mean_at(const kv_source_curves *c, const double *explained, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < c->n_layers; i++) sum += explained[i * c->n_counts + count];
    return sum / (double)c->n_layers;
}

static void find_span(const kv_source_curves *c, const double *explained, int64_t count, double *low,
                      double *high) {
    *low = INFINITY, *high = -INFINITY;
    for (int64_t i = 0; i < c->n_layers; i++) {
        *low = fmin(*low, explained[i * c->n_counts + count]);
        *high = fmax(*high, explained[i * c->n_counts + count]);
    }
}

// ---- Table ---------------------------------------------------------------------------------------------

static void curve_cells(kv_table *table, const kv_source_curves *c, const kv_source_curve *curve,
                        int64_t count) {
    double low, high;
    find_span(c, curve->held_out, count, &low, &high);
    kv_table_number(table, "%.1f %%", 100, mean_at(c, curve->held_out, count));
    kv_table_pair(table, low, high, "%.1f to %.1f", 100 * low, 100 * high);
    kv_table_number(table, "%.1f %%", 100, mean_at(c, curve->fit, count));
}

static void title(kv_table *table, const kv_source_curves *c) {
    kv_table_title(
        table,
        "variance of the base's keys (before k_norm) and values that ridge regression from so many layers of "
        "the aux explains,\nmean over the %lld layers of the base; %lld tokens of %s, and %lld held out; "
        "layers %s, ridge %g",
        (long long)c->n_layers, (long long)c->tokens, c->text, (long long)c->held_out, c->order, c->ridge);
}

// Numbers of layers downwards, what is read to the right.
static void add_curves(const kv_source_curves *c, kv_tables *tables) {
    kv_table *table = kv_tables_add(tables, KV_FOR_PEOPLE, "sources");
    kv_table_column(table, "", "aux layers", false);
    for (int kind = 0; kind < KV_SOURCE_SETS; kind++)
        for (int side = 0; side < 2 && c->read[kind]; side++) {
            char group[64];
            snprintf(group, sizeof group, "%s %s", side_names[side], read_labels[kind][side]);
            kv_table_column(table, group, "held out", false);
            kv_table_column(table, group, "by layer", false);
            kv_table_column(table, group, "fit", false);
        }
    for (int64_t i = 0; i < c->n_counts; i++) {
        kv_table_number(table, "%.0f", 1, (double)c->counts[i]);
        for (int kind = 0; kind < KV_SOURCE_SETS; kind++)
            for (int side = 0; side < 2 && c->read[kind]; side++)
                curve_cells(table, c, &c->side[kind][side], i);
    }
    title(table, c);
}

// A row each. Names as in sources.csv, which has every layer's.
static void add_rows(const kv_source_curves *c, kv_tables *tables) {
    kv_table *table = kv_tables_add(tables, KV_FOR_PROGRAMS, "sources");
    kv_table_hidden(table, KV_FIELD_TEXT, "read");
    kv_table_hidden(table, KV_FIELD_TEXT, "kind");
    kv_table_hidden(table, KV_FIELD_WHOLE, "aux_layers");
    kv_table_hidden(table, KV_FIELD_NUMBER, "held_out");
    kv_table_hidden(table, KV_FIELD_INTERVAL, "held_out_by_layer");
    kv_table_hidden(table, KV_FIELD_NUMBER, "fit");
    for (int kind = 0; kind < KV_SOURCE_SETS; kind++)
        for (int side = 0; side < 2 && c->read[kind]; side++)
            for (int64_t i = 0; i < c->n_counts; i++) {
                kv_table_cell(table, "%s", kv_source_set_names[kind]);
                kv_table_cell(table, "%s", side_names[side]);
                kv_table_number(table, "%.0f", 1, (double)c->counts[i]);
                curve_cells(table, c, &c->side[kind][side], i);
            }
    title(table, c);
}

void kv_source_curves_tables(const kv_source_curves *c, kv_tables *tables) {
    add_curves(c, tables);
    add_rows(c, tables);
}

// ---- Files ---------------------------------------------------------------------------------------------

// "3 0 2": the layers that are read, in the order in which they were taken.
static void layers_text(const int32_t *order, int64_t n, char *text, size_t size) {
    size_t used = 0;
    for (int64_t i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%d", i ? " " : "", order[i]);
}

static kv_status write_csv(const kv_source_curves *c, const char *path, kv_error *err) {
    enum { LAYERS_TEXT = 5 * 256 };
    kv_csv *csv;
    kv_status status = kv_csv_create(path, "read,kind,layer,aux_layers,held_out,fit,order", &csv, err);
    if (status != KV_OK) return status;
    for (int kind = 0; kind < KV_SOURCE_SETS; kind++)
        for (int side = 0; side < 2 && c->read[kind]; side++)
            for (int64_t i = 0; i < c->n_layers * c->n_counts; i++) {
                const kv_source_curve *curve = &c->side[kind][side];
                const int64_t layer = i / c->n_counts, n = c->counts[i % c->n_counts];
                char layers[LAYERS_TEXT] = "";
                layers_text(curve->order + layer * c->n_sources, n, layers, sizeof layers);
                kv_csv_text(csv, kv_source_set_names[kind]);
                kv_csv_text(csv, side_names[side]);
                kv_csv_number(csv, (double)layer);
                kv_csv_number(csv, (double)n);
                kv_csv_number(csv, curve->held_out[i]);
                kv_csv_number(csv, curve->fit[i]);
                kv_csv_text(csv, layers);
                kv_csv_end_row(csv);
            }
    return kv_csv_close(csv, status, err);
}

// A curve for each kind; panels are keys and values.
static kv_status draw(const kv_source_curves *c, const char *dir, char note[KV_PLOT_NOTE], kv_error *err) {
    static const char *const panels[2] = {"keys, held-out text", "values, held-out text"};
    double x[KV_SOURCE_COUNTS], numbers[KV_SOURCE_SETS][3][2 * KV_SOURCE_COUNTS]; // mean, low, high
    kv_plot_curve curves[KV_SOURCE_SETS];
    int64_t n_curves = 0;
    for (int64_t i = 0; i < c->n_counts; i++) x[i] = (double)c->counts[i];
    for (int kind = 0; kind < KV_SOURCE_SETS; kind++) {
        if (!c->read[kind]) continue;
        for (int side = 0; side < 2; side++)
            for (int64_t i = 0, at = side * c->n_counts; i < c->n_counts; i++, at++) {
                const double *explained = c->side[kind][side].held_out;
                numbers[kind][0][at] = mean_at(c, explained, i);
                find_span(c, explained, i, &numbers[kind][1][at], &numbers[kind][2][at]);
            }
        curves[n_curves++] = (kv_plot_curve){.label = curve_labels[kind],
                                             .family = curve_labels[kind],
                                             .y = numbers[kind][0],
                                             .low = numbers[kind][1],
                                             .high = numbers[kind][2]};
    }
    const kv_plot_curves plot = {.curves = curves,
                                 .n_curves = n_curves,
                                 .x = x,
                                 .n_x = c->n_counts,
                                 .panels = panels,
                                 .n_panels = 2,
                                 .heading = "bars: from the worst layer of the base to the best",
                                 .x_label = "layers of the aux that are read",
                                 .y_label = "explained variance, mean over layers",
                                 .linear_y = true,
                                 .least_y = -1};
    return kv_plot_draw_curves(&plot, dir, "sources", note, err);
}

kv_status kv_source_curves_write(const kv_source_curves *c, const char *dir, char note[KV_PLOT_NOTE],
                                 kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, "sources.csv", path, err);
    if (status == KV_OK) status = write_csv(c, path, err);
    return status == KV_OK ? draw(c, dir, note, err) : status;
}
