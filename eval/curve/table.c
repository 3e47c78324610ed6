// Nats are what intervals are of; what people read are perplexities, e to them.
#include "eval/curve/table.h"

#include "data/file/csv.h"

#include <math.h>
#include <string.h>

static kv_figure figure_of(const kv_results *r, int64_t system, const char *metric) {
    for (int m = 0; m < r->tasks[0].n_metrics; m++)
        if (!strcmp(r->tasks[0].metrics[m], metric)) return kv_results_outcome(r, system, 0)->figures[m];
    return (kv_figure){NAN, NAN, NAN, NAN, NAN, NAN, NAN};
}

// Where the aux is no worse than the base there is no way.
static double way(double aux, double base, double own) {
    return aux > base ? (aux - own) / (aux - base) : NAN;
}

void kv_curve_rows(const kv_results *results, bool has_aux, const int64_t *depths, const double *bytes,
                   double (*explained)[2], kv_curve_row *rows) {
    const kv_timing *t = results->n_timings > 0 ? &results->timings[0] : NULL;
    for (int64_t s = 0; s < results->n_systems; s++) {
        kv_curve_row *row = &rows[s];
        *row = (kv_curve_row){.name = results->systems[s].name,
                              .n_layers = s == 0              ? 0
                                          : has_aux && s == 1 ? -1
                                                              : depths[s - 1 - has_aux],
                              .reduction = kv_result_reduction(results, s, 0, false),
                              .tail = figure_of(results, s, "tail_nll"),
                              .whole = figure_of(results, s, "whole_nll"),
                              .way = {NAN, NAN},
                              .seconds = t ? t->seconds[s] : NAN,
                              .spread = t ? t->spread[s] : NAN,
                              .time_reduction = t ? t->reduction[s] : NAN,
                              .bytes = bytes[s],
                              .explained = {explained[s][0], explained[s][1]}};
    }
    for (int64_t s = 0; has_aux && s < results->n_systems; s++) {
        rows[s].way[0] = way(rows[1].tail.accuracy, rows[0].tail.accuracy, rows[s].tail.accuracy);
        rows[s].way[1] = way(rows[1].whole.accuracy, rows[0].whole.accuracy, rows[s].whole.accuracy);
    }
}

// ---- Table ---------------------------------------------------------------------------------------------

static void columns(kv_table *table, bool ways, bool times) {
    static const char *const groups[] = {"tail", "whole"};
    kv_table_field(table, "", "layers", KV_FIELD_TEXT, "system");
    kv_table_hidden(table, KV_FIELD_WHOLE, "prefix_layers");
    kv_table_field(table, "", "FLOPs", KV_FIELD_NUMBER, "flops_reduction");
    for (int g = 0; g < 2; g++) {
        char perplexity[32], way[32];
        snprintf(perplexity, sizeof perplexity, "%s_perplexity", groups[g]);
        snprintf(way, sizeof way, "%s_of_the_way", groups[g]);
        kv_table_field(table, groups[g], "perplexity", KV_FIELD_NUMBER, perplexity);
        kv_table_field(table, groups[g], "95 %", KV_FIELD_INTERVAL, perplexity);
        if (ways) kv_table_field(table, groups[g], "of the way", KV_FIELD_NUMBER, way);
    }
    if (times) {
        kv_table_field(table, "time to first token", "ms", KV_FIELD_SPREAD, "ttft_seconds");
        kv_table_spread_name(table, "spread");
        kv_table_field(table, "time to first token", "reduction", KV_FIELD_NUMBER, "ttft_reduction");
    }
    kv_table_field(table, "explained", "keys", KV_FIELD_NUMBER, "keys_explained");
    kv_table_field(table, "explained", "values", KV_FIELD_NUMBER, "values_explained");
    kv_table_field(table, "", "MB", KV_FIELD_NUMBER, "predictor_bytes");
}

static void cells(kv_table *table, const kv_curve_row *row, bool ways, bool times) {
    const kv_figure *const figures[] = {&row->tail, &row->whole};
    const bool prefix = row->n_layers > 0;
    kv_table_cell(table, "%s", row->name);
    kv_table_number(table, "%.0f", 1, prefix ? (double)row->n_layers : (double)NAN);
    kv_table_number(table, "%.2fx", 1, row->reduction);
    for (int g = 0; g < 2; g++) {
        const double low = exp(figures[g]->low), high = exp(figures[g]->high);
        kv_table_number(table, "%.3f", 1, exp(figures[g]->accuracy));
        if (isfinite(low))
            kv_table_pair(table, low, high, "%.3f-%.3f", low, high);
        else
            kv_table_none(table);
        if (ways) kv_table_number(table, "%.0f %%", 100, row->way[g]);
    }
    if (times && isfinite(row->seconds))
        kv_table_pair(table, row->seconds, row->spread, "%.2f ± %.2f", 1e3 * row->seconds, 1e3 * row->spread);
    else if (times)
        kv_table_none(table);
    if (times) kv_table_number(table, "%.2fx", 1, row->time_reduction);
    for (int side = 0; side < 2; side++) kv_table_number(table, "%.1f %%", 100, row->explained[side]);
    kv_table_number(table, "%.3g", 1e-6, prefix ? row->bytes : (double)NAN);
}

void kv_curve_tables(const kv_curve_row *rows, int64_t n, kv_tables *tables) {
    bool ways = false, times = false;
    for (int64_t i = 0; i < n; i++) {
        ways |= isfinite(rows[i].way[0]) || isfinite(rows[i].way[1]);
        times |= isfinite(rows[i].seconds);
    }
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "curve");
    columns(table, ways, times);
    for (int64_t i = 0; i < n; i++) cells(table, &rows[i], ways, times);
    kv_table_note(
        table,
        "FLOPs: reduction up to the first token of the prompt; tail: behind the prompt; whole: with the predicted "
        "cache at every position; explained: of the variance of what is "
        "predicted, where maps were fitted; MB: of the maps");
    if (ways)
        kv_table_note(table,
                      "of the way: from the auxiliary model alone (0 %%) to the base (100 %%), in nats");
}

// ---- Files ---------------------------------------------------------------------------------------------

enum { N_FIELDS = 20 };
static const char *const names[N_FIELDS] = {
    "prefix_layers",   "flops_reduction",  "tail_nll",        "tail_nll_low",     "tail_nll_high",
    "tail_perplexity", "tail_p",           "tail_of_the_way", "whole_nll",        "whole_nll_low",
    "whole_nll_high",  "whole_perplexity", "whole_p",         "whole_of_the_way", "ttft_seconds",
    "ttft_spread",     "ttft_reduction",   "predictor_bytes", "keys_explained",   "values_explained"};

static void fields(const kv_curve_row *r, double values[N_FIELDS]) {
    const double own[N_FIELDS] = {r->n_layers > 0 ? (double)r->n_layers : NAN,
                                  r->reduction,
                                  r->tail.accuracy,
                                  r->tail.low,
                                  r->tail.high,
                                  exp(r->tail.accuracy),
                                  r->tail.p_value,
                                  r->way[0],
                                  r->whole.accuracy,
                                  r->whole.low,
                                  r->whole.high,
                                  exp(r->whole.accuracy),
                                  r->whole.p_value,
                                  r->way[1],
                                  r->seconds,
                                  r->spread,
                                  r->time_reduction,
                                  r->n_layers > 0 ? r->bytes : NAN,
                                  r->explained[0],
                                  r->explained[1]};
    memcpy(values, own, sizeof own);
}

kv_status kv_curve_write_csv(const kv_curve_row *rows, int64_t n, const char *path, kv_error *err) {
    kv_csv *csv;
    char header[512] = "system";
    for (int i = 0; i < N_FIELDS; i++)
        snprintf(header + strlen(header), sizeof header - strlen(header), ",%s", names[i]);
    kv_status status = kv_csv_create(path, header, &csv, err);
    if (status != KV_OK) return status;
    for (int64_t r = 0; r < n; r++) {
        double values[N_FIELDS];
        fields(&rows[r], values);
        kv_csv_text(csv, rows[r].name);
        for (int i = 0; i < N_FIELDS; i++) kv_csv_number(csv, values[i]);
        kv_csv_end_row(csv);
    }
    return kv_csv_close(csv, KV_OK, err);
}

json_t *kv_curve_json(const kv_curve_row *rows, int64_t n) {
    json_t *list = json_array();
    for (int64_t r = 0; r < n && list; r++) {
        double values[N_FIELDS];
        json_t *row = json_object();
        fields(&rows[r], values);
        json_object_set_new(row, "system", json_string(rows[r].name));
        for (int i = 0; i < N_FIELDS; i++)
            json_object_set_new(row, names[i], isfinite(values[i]) ? json_real(values[i]) : json_null());
        json_array_append_new(list, row);
    }
    return list;
}
