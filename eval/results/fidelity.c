// One number a system of each kind; what they are means of is eval/results/analysis.h.
#include "eval/results/fidelity.h"

#include "data/file/csv.h"
#include "data/table/table.h"

#include <math.h>
#include <stdlib.h>

const kv_fidelity_kind kv_fidelity_kinds[KV_FIDELITIES] = {
    {"attention_cosine", "attention cosine", "cosine of attention outputs, mean over predicted layers"},
    {"explained", "explained variance", "explained variance of keys and values, mean over predicted layers"},
    {"key_explained", "of keys", "explained variance of keys, mean over predicted layers"},
    {"value_explained", "of values", "explained variance of values, mean over predicted layers"},
};

double kv_fidelity_of(const kv_results *r, int64_t system, kv_fidelity which) {
    const kv_cache_analysis *e = r->analysis.corpus ? &r->analysis.systems[system] : NULL;
    if (!e || e->n_layers == 0) return NAN;
    const double keys = kv_cache_analysis_layer_mean(e, e->key.explained, 1),
                 values = kv_cache_analysis_layer_mean(e, e->value.explained, 1);
    switch (which) {
    case KV_FIDELITY_COSINE: return kv_cache_analysis_layer_mean(e, e->attention_cosine, 1);
    case KV_FIDELITY_KEYS: return keys;
    case KV_FIDELITY_VALUES: return values;
    default: return 0.5 * (keys + values);
    }
}

static bool was_asked(const kv_results *r, int64_t system, int64_t task) {
    const kv_outcome *o = kv_results_outcome(r, system, task);
    return o->values || o->not_finite;
}

bool kv_results_have_fidelity(const kv_results *r) {
    for (int64_t s = 0; r->analysis.corpus && s < r->n_systems; s++)
        for (int64_t t = 0; t < r->n_tasks && r->analysis.systems[s].n_layers > 0; t++)
            if (was_asked(r, s, t)) return true;
    return false;
}

bool kv_fidelity_compares(const kv_results *r, int64_t task, int metric) {
    return metric == 0 || kv_metric_of(r->tasks[task].metrics[metric])->drawn;
}

kv_status kv_fidelity_link_of(const kv_results *r, int64_t task, int metric, kv_fidelity which,
                              kv_fidelity_link *link, kv_error *err) {
    double *pairs = calloc(2 * (size_t)r->n_systems + 1, sizeof *pairs), *kept = pairs + r->n_systems;
    *link = (kv_fidelity_link){0};
    if (!pairs) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld systems", (long long)r->n_systems);
    for (int64_t s = 0; s < r->n_systems; s++) {
        const double x = kv_fidelity_of(r, s, which),
                     y = kv_results_outcome(r, s, task)->figures[metric].retention;
        if (isfinite(x) && isfinite(y)) pairs[link->n] = x, kept[link->n++] = y;
    }
    link->pearson = kv_pearson(pairs, kept, link->n);
    link->spearman = kv_spearman(pairs, kept, link->n);
    link->interval = kv_pearson_interval(link->pearson, link->n);
    free(pairs);
    return KV_OK;
}

// ---- Table ---------------------------------------------------------------------------------------------

static void link_cells(kv_table *table, const kv_fidelity_link *link, int which) {
    kv_table_number(table, "%+.2f", 1, link->pearson);
    if (which < KV_FIDELITIES_DRAWN) {
        if (isnan(link->interval.low))
            kv_table_none(table);
        else
            kv_table_pair(table, link->interval.low, link->interval.high, "%+.2f to %+.2f",
                          link->interval.low, link->interval.high);
    }
    kv_table_number(table, "%+.2f", 1, link->spearman);
}

static void link_columns(kv_table *table, int which) {
    const char *heading = kv_fidelity_kinds[which].heading;
    char pearson[96], spearman[96];
    snprintf(pearson, sizeof pearson, "%s_pearson", kv_fidelity_kinds[which].name);
    snprintf(spearman, sizeof spearman, "%s_spearman", kv_fidelity_kinds[which].name);
    kv_table_field(table, heading, "r", KV_FIELD_NUMBER, pearson);
    if (which < KV_FIDELITIES_DRAWN) kv_table_field(table, heading, "95 %", KV_FIELD_INTERVAL, pearson);
    kv_table_field(table, heading, "ρ", KV_FIELD_NUMBER, spearman);
}

static kv_table *begin_table(kv_tables *tables) {
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "correlations");
    kv_table_title(
        table,
        "what systems with predicted caches keep of their base against how near these are to its own: "
        "correlation,\nr Pearson's, ρ Spearman's, over means of the predicted layers; a few systems say "
        "little");
    kv_table_hidden(table, KV_FIELD_TEXT, "task");
    kv_table_hidden(table, KV_FIELD_TEXT, "split");
    kv_table_column(table, "", "task", true);
    kv_table_field(table, "", "kept of", KV_FIELD_TEXT, "metric");
    kv_table_field(table, "", "systems", KV_FIELD_WHOLE, "n_systems");
    for (int which = 0; which < KV_FIDELITIES; which++) link_columns(table, which);
    return table;
}

// How many systems are compared at most; 0: that could not be found out.
static int64_t find_links(const kv_results *r, int64_t task, int metric,
                          kv_fidelity_link links[KV_FIDELITIES]) {
    int64_t most = 0;
    for (int which = 0; which < KV_FIDELITIES; which++) {
        if (kv_fidelity_link_of(r, task, metric, (kv_fidelity)which, &links[which], NULL) != KV_OK) return 0;
        if (links[which].n > most) most = links[which].n;
    }
    return most;
}

static void add_row(kv_table *table, const kv_result_task *t, int metric, int64_t n,
                    const kv_fidelity_link *links) {
    kv_table_cell(table, "%s", t->name);
    kv_table_cell(table, "%s", t->split);
    kv_table_cell(table, "%s%s%s", t->name, *t->split ? ", " : "", t->split);
    kv_table_cell(table, "%s", t->metrics[metric]);
    kv_table_number(table, "%.0f", 1, (double)n);
    for (int which = 0; which < KV_FIDELITIES; which++) link_cells(table, &links[which], which);
}

void kv_fidelity_tables(const kv_results *r, kv_tables *tables) {
    kv_table *table = NULL;
    for (int64_t t = 0; r->analysis.corpus && t < r->n_tasks; t++)
        for (int m = 0; m < r->tasks[t].n_metrics; m++) {
            kv_fidelity_link links[KV_FIDELITIES];
            if (!kv_fidelity_compares(r, t, m)) continue;
            const int64_t n = find_links(r, t, m, links);
            if (n < KV_CORRELATION_LEAST) continue;
            if (!table) table = begin_table(tables);
            add_row(table, &r->tasks[t], m, n, links);
        }
}

// ---- CSV -----------------------------------------------------------------------------------------------

static void task_cells(kv_csv *csv, const kv_result_task *task, int metric) {
    kv_csv_text(csv, task->name);
    kv_csv_text(csv, task->split);
    kv_csv_text(csv, task->metrics[metric]);
}

static void system_row(kv_csv *csv, const kv_results *r, int64_t system, int64_t task, int metric) {
    const kv_figure *f = &kv_results_outcome(r, system, task)->figures[metric];
    kv_csv_text(csv, r->systems[system].name);
    kv_csv_text(csv, r->systems[system].family);
    task_cells(csv, &r->tasks[task], metric);
    kv_csv_number(csv, f->retention);
    kv_csv_number(csv, f->retention_low);
    kv_csv_number(csv, f->retention_high);
    for (int which = 0; which < KV_FIDELITIES; which++)
        kv_csv_number(csv, kv_fidelity_of(r, system, (kv_fidelity)which));
    kv_csv_end_row(csv);
}

kv_status kv_fidelity_write_csv(const kv_results *r, const char *path, kv_error *err) {
    kv_csv *csv;
    kv_status status = kv_csv_create(path,
                                     "system,family,task,split,metric,retention,retention_low,retention_high,"
                                     "attention_cosine,explained,key_explained,value_explained",
                                     &csv, err);
    if (status != KV_OK) return status;
    for (int64_t s = 0; r->analysis.corpus && s < r->n_systems; s++)
        for (int64_t t = 0; t < r->n_tasks && r->analysis.systems[s].n_layers > 0; t++)
            for (int m = 0; m < r->tasks[t].n_metrics && was_asked(r, s, t); m++) system_row(csv, r, s, t, m);
    return kv_csv_close(csv, status, err);
}

kv_status kv_fidelity_write_correlations(const kv_results *r, const char *path, kv_error *err) {
    kv_csv *csv;
    kv_status status = kv_csv_create(
        path, "task,split,metric,kind,systems,pearson,pearson_low,pearson_high,spearman", &csv, err);
    if (status != KV_OK) return status;
    for (int64_t t = 0; t < r->n_tasks; t++)
        for (int m = 0; m < r->tasks[t].n_metrics; m++)
            for (int which = 0; which < KV_FIDELITIES && status == KV_OK; which++) {
                kv_fidelity_link link;
                status = kv_fidelity_link_of(r, t, m, (kv_fidelity)which, &link, err);
                task_cells(csv, &r->tasks[t], m);
                kv_csv_text(csv, kv_fidelity_kinds[which].name);
                const double numbers[] = {(double)link.n, link.pearson, link.interval.low, link.interval.high,
                                          link.spearman};
                for (int i = 0; i < 5; i++) kv_csv_number(csv, numbers[i]);
                kv_csv_end_row(csv);
            }
    return kv_csv_close(csv, status, err);
}
