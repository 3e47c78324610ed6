// seeds.csv and significance.csv: one row says everything about one figure or comparison; what is not known is empty.
#include "eval/seeds/seeds.h"

#include "data/file/csv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static void place_fields(kv_csv *csv, const kv_seeds *s, kv_seed_place place) {
    const kv_result_task *task = kv_seeds_task(s, place.task);
    kv_csv_text(csv, task->name);
    kv_csv_text(csv, task->split);
    kv_csv_text(csv, task->metrics[place.metric]);
}

static const char *better(const kv_seeds *s, kv_seed_place place) {
    return kv_metric_better(kv_metric_of(kv_seeds_task(s, place.task)->metrics[place.metric]));
}

// "1 3": those with a figure.
static void seeds_field(kv_csv *csv, const kv_seeds *s, int64_t system, kv_seed_place place) {
    char text[1024] = "";
    size_t n = 0;
    for (int64_t i = 0; i < s->n && n < sizeof text - 24; i++)
        if (isfinite(kv_seeds_value(s, KV_SEED_FIGURE, system, place, i)))
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%" PRIu64, n ? " " : "", s->runs[i].seed);
    kv_csv_text(csv, text);
}

static void figure_row(kv_csv *csv, const kv_seeds *s, int64_t system, kv_seed_place place) {
    kv_csv_text(csv, s->systems[system].name);
    kv_csv_text(csv, s->systems[system].family);
    place_fields(csv, s, place);
    kv_csv_text(csv, better(s, place));
    kv_csv_number(csv, (double)kv_seeds_spread(s, KV_SEED_FIGURE, system, place).n);
    seeds_field(csv, s, system, place);
    for (kv_seed_figure which = 0; which < KV_SEED_N_FIGURES; which++) {
        const kv_spread spread = kv_seeds_spread(s, which, system, place);
        kv_csv_number(csv, spread.mean);
        kv_csv_number(csv, spread.sd);
    }
    kv_csv_end_row(csv);
}

static bool has_row(const kv_seeds *s, int64_t system, int64_t task) {
    for (int64_t i = 0; i < s->n; i++) {
        const kv_outcome *o = kv_seeds_outcome(s, system, task, i);
        if (o && (o->values || o->not_finite)) return true;
    }
    return false;
}

kv_status kv_seeds_write_csv(const kv_seeds *s, const char *path, kv_error *err) {
    kv_csv *csv;
    const kv_status status = kv_csv_create(
        path,
        "system,family,task,split,metric,better,n,seeds,accuracy_mean,accuracy_sd,retention_mean,retention_sd,"
        "way_mean,way_sd,flops_reduction_paper_mean,flops_reduction_paper_sd,flops_reduction_exact_mean,"
        "flops_reduction_exact_sd,ttft_reduction_mean,ttft_reduction_sd",
        &csv, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; i < s->n_systems; i++)
        for (int64_t t = 0; t < s->n_tasks; t++)
            for (int m = 0; has_row(s, i, t) && m < kv_seeds_task(s, t)->n_metrics; m++)
                figure_row(csv, s, i, (kv_seed_place){t, m});
    return kv_csv_close(csv, status, err);
}

static kv_status test_row(kv_csv *csv, const kv_seeds *s, int64_t system, int64_t other, kv_seed_place place,
                          kv_error *err) {
    kv_seed_test test;
    const kv_status status = kv_seeds_compare(s, system, other, place, &test, err);
    if (status != KV_OK) return status;
    place_fields(csv, s, place);
    kv_csv_text(csv, better(s, place));
    kv_csv_text(csv, s->systems[system].name);
    kv_csv_text(csv, s->systems[other].name);
    const double numbers[] = {(double)test.seeds.difference.n,
                              test.seeds.difference.mean,
                              test.seeds.difference.sd,
                              test.seeds.t,
                              test.seeds.p,
                              (double)test.n_items,
                              (double)test.items.better,
                              (double)test.items.worse,
                              test.items.p};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) kv_csv_number(csv, numbers[i]);
    kv_csv_end_row(csv);
    return KV_OK;
}

static kv_status test_rows(kv_csv *csv, const kv_seeds *s, int64_t system, int64_t other, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t t = 0; t < s->n_tasks; t++)
        for (int m = 0; status == KV_OK && has_row(s, system, t) && has_row(s, other, t) &&
                        m < kv_seeds_task(s, t)->n_metrics;
             m++)
            status = test_row(csv, s, system, other, (kv_seed_place){t, m}, err);
    return status;
}

kv_status kv_seeds_write_tests(const kv_seeds *s, const kv_seeds_against *against, const char *path,
                               kv_error *err) {
    kv_csv *csv;
    kv_status status =
        kv_csv_create(path,
                      "task,split,metric,better,system,against,n_seeds,difference_mean,difference_sd,t,"
                      "p_seeds,n_items,items_better,items_worse,p_items",
                      &csv, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; status == KV_OK && i < s->n_systems; i++)
        if (s->systems[i].base != i) status = test_rows(csv, s, i, s->systems[i].base, err);
    for (int64_t a = 0; a < against->n; a++)
        for (int64_t i = 0; status == KV_OK && i < s->n_systems; i++)
            if (i != against->systems[a] && s->systems[i].base != against->systems[a])
                status = test_rows(csv, s, i, against->systems[a], err);
    return kv_csv_close(csv, status, err);
}
