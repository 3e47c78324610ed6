// Predicted caches against the base's own, for the terminal and as CSV.
#include "data/file/csv.h"
#include "data/table/table.h"
#include "eval/results/results.h"

#include <math.h>

struct kind {
    const char *name;
    const kv_error_figures *figures;
};

static void error_cells(kv_table *table, const kv_cache_analysis *errors, const kv_error_figures *f,
                        int64_t seq_len) {
    const double error = kv_cache_analysis_layer_mean(errors, f->error, seq_len);
    kv_table_number(table, "%.1f %%", 100, kv_cache_analysis_layer_mean(errors, f->explained, 1));
    if (isnan(error))
        kv_table_cell(table, KV_NOT_FINITE);
    else
        kv_table_number(table, "%.4f", 1, error);
    kv_table_number(table, "%.1f %%", 100, error / kv_cache_analysis_layer_mean(errors, f->magnitude, 1));
}

static void columns(kv_table *table, const char *group) {
    static const char *const titles[] = {"explained", "|error|", "of |true|"}, *const names[] = {
                                                                                   "explained", "error",
                                                                                   "error_relative"};
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_%s", group, names[i]);
        kv_table_field(table, group, titles[i], KV_FIELD_NUMBER, name);
    }
}

void kv_results_error_tables(const kv_results *r, kv_tables *tables) {
    const kv_analysis *a = &r->analysis;
    if (!a->corpus) return;
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "caches");
    kv_table_field(table, "", "system", KV_FIELD_TEXT, "system");
    kv_table_field(table, "", "family", KV_FIELD_TEXT, "family");
    columns(table, "keys");
    columns(table, "values");
    kv_table_field(table, "attention", "cosine", KV_FIELD_NUMBER, "attention_cosine");
    kv_table_field(table, "layers", "predicted", KV_FIELD_WHOLE, "layers_predicted");
    kv_table_hidden(table, KV_FIELD_WHOLE, "layers");
    for (int64_t s = 0; s < r->n_systems; s++) {
        const kv_cache_analysis *errors = &a->systems[s];
        if (errors->n_layers == 0) continue;
        const int64_t predicted = kv_cache_analysis_n_predicted(errors);
        kv_table_cell(table, "%s", r->systems[s].name);
        kv_table_cell(table, "%s", r->systems[s].family);
        error_cells(table, errors, &errors->key, a->seq_len);
        error_cells(table, errors, &errors->value, a->seq_len);
        kv_table_number(table, "%.4f", 1, kv_cache_analysis_layer_mean(errors, errors->attention_cosine, 1));
        kv_table_value(table, (double)predicted, "%lld of %lld", (long long)predicted,
                       (long long)errors->n_layers);
        kv_table_number(table, "%.0f", 1, (double)errors->n_layers);
    }
    kv_table_title(
        table,
        "predicted caches against the base's own: explained variance and mean |error| of keys (after k_norm) "
        "and values,\ncosine of attention outputs; mean over the layers that are predicted; %lld sequences of "
        "%lld tokens of %s",
        (long long)a->sequences, (long long)a->seq_len, a->corpus);
}

static void begin_row(kv_csv *csv, const kv_result_system *system, const char *kind, int64_t layer) {
    kv_csv_text(csv, system->name);
    kv_csv_text(csv, system->family);
    kv_csv_text(csv, kind);
    kv_csv_number(csv, (double)layer);
}

static void end_row(kv_csv *csv, const double *numbers, size_t n) {
    for (size_t i = 0; i < n; i++) kv_csv_number(csv, numbers[i]);
    kv_csv_end_row(csv);
}

static void layer_row(kv_csv *csv, const kv_result_system *system, const kv_cache_analysis *errors,
                      const struct kind *kind, int64_t layer, int64_t seq_len) {
    const double numbers[] = {kind->figures->explained[layer],
                              kv_cache_analysis_mean(kind->figures->error + layer * seq_len, seq_len),
                              kind->figures->magnitude[layer], NAN, errors->predicted[layer]};
    begin_row(csv, system, kind->name, layer);
    end_row(csv, numbers, sizeof numbers / sizeof *numbers);
}

static void attention_row(kv_csv *csv, const kv_result_system *system, const kv_cache_analysis *errors,
                          int64_t layer) {
    const double numbers[] = {NAN, NAN, NAN, errors->attention_cosine[layer], errors->predicted[layer]};
    begin_row(csv, system, "attention", layer);
    end_row(csv, numbers, sizeof numbers / sizeof *numbers);
}

kv_status kv_results_write_errors(const kv_results *r, const char *path, kv_error *err) {
    const kv_analysis *a = &r->analysis;
    kv_csv *csv;
    kv_status status =
        kv_csv_create(path, "system,family,kind,layer,explained,error,magnitude,cosine,predicted", &csv, err);
    if (status != KV_OK) return status;
    for (int64_t s = 0; a->corpus && s < r->n_systems; s++) {
        const kv_cache_analysis *errors = &a->systems[s];
        const struct kind kinds[] = {{"keys", &errors->key}, {"values", &errors->value}};
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            for (int64_t i = 0; i < errors->n_layers; i++)
                layer_row(csv, &r->systems[s], errors, &kinds[k], i, a->seq_len);
        for (int64_t i = 0; i < errors->n_layers; i++) attention_row(csv, &r->systems[s], errors, i);
    }
    return kv_csv_close(csv, status, err);
}
