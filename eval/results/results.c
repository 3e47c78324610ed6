// Figures are never taken over from a file: they are derived from the values each time, so that results
// joined from several evaluations follow the same rules.
#include "eval/results/results.h"

#include "data/system/buffers.h"
#include "eval/statistics/stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Creation ------------------------------------------------------------------------------------------

static void forget_figures(kv_outcome *outcome) {
    outcome->exact_reduction = NAN;
    for (int m = 0; m < KV_MAX_METRICS; m++)
        outcome->figures[m] = (kv_figure){NAN, NAN, NAN, NAN, NAN, NAN, NAN};
}

kv_status kv_results_init(kv_results *results, int64_t n_systems, int64_t n_tasks, kv_error *err) {
    *results = (kv_results){.n_systems = n_systems, .n_tasks = n_tasks, .seed = 1, .bootstrap = 1};
    results->systems = calloc((size_t)n_systems + 1, sizeof *results->systems);
    results->tasks = calloc((size_t)n_tasks + 1, sizeof *results->tasks);
    results->outcomes = calloc((size_t)(n_systems * n_tasks) + 1, sizeof *results->outcomes);
    if (!results->systems || !results->tasks || !results->outcomes) {
        results->n_systems = results->n_tasks = 0;
        kv_results_free(results);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the results");
    }
    for (int64_t s = 0; s < n_systems; s++)
        results->systems[s].paper_reduction = results->systems[s].lookups = NAN;
    for (int64_t i = 0; i < n_systems * n_tasks; i++) {
        kv_outcome *o = &results->outcomes[i];
        o->flops = o->flops_computed = o->flops_looked_up = NAN;
        forget_figures(&results->outcomes[i]);
    }
    return KV_OK;
}

static void free_outcome(kv_outcome *outcome, int64_t n_units) {
    for (int64_t u = 0; outcome->records && u < n_units; u++) free(outcome->records[u]);
    free(outcome->records);
    free(outcome->values);
    free(outcome->item_flops);
    free(outcome->not_finite);
}

static void free_timing(kv_timing *timing) {
    free(timing->seconds); // the other arrays lie behind it
    free(timing->samples);
}

void kv_results_free(kv_results *results) {
    kv_analysis_free(&results->analysis, results->n_systems);
    for (int64_t i = 0; i < results->n_systems * results->n_tasks; i++)
        free_outcome(&results->outcomes[i], results->tasks[i % results->n_tasks].n_units);
    for (int64_t s = 0; s < results->n_systems; s++) {
        free(results->systems[s].name);
        free(results->systems[s].family);
    }
    for (int64_t t = 0; t < results->n_tasks; t++) {
        kv_result_task *task = &results->tasks[t];
        char *const texts[] = {task->name, task->split, task->kind, task->file};
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
        free(task->weights);
        kv_grid_items_free(&task->grid);
    }
    for (int64_t i = 0; i < results->n_timings; i++) free_timing(&results->timings[i]);
    for (int64_t i = 0; i < results->n_configs; i++) free(results->configs[i]);
    for (int64_t i = 0; i < results->n_made_by; i++) free(results->made_by[i]);
    free(results->systems);
    free(results->tasks);
    free(results->outcomes);
    free(results->timings);
    free(results->configs);
    free(results->made_by);
    free(results->budgets);
    *results = (kv_results){0};
}

kv_timing *kv_results_add_timing(kv_results *results, int64_t prompt_tokens, int64_t batch_size,
                                 int64_t repeats) {
    const size_t n = (size_t)results->n_systems;
    kv_timing *all = kv_room_for_one(results->timings, (size_t)results->n_timings, sizeof *all);
    if (!all) return NULL;
    results->timings = all;
    kv_timing *timing = &all[results->n_timings];
    *timing = (kv_timing){.prompt_tokens = prompt_tokens, .batch_size = batch_size, .repeats = repeats};
    timing->seconds = calloc(4 * n + 1, sizeof *timing->seconds);
    timing->samples = calloc(n * (size_t)repeats + 1, sizeof *timing->samples);
    if (!timing->seconds || !timing->samples) {
        free_timing(timing);
        return NULL;
    }
    timing->spread = timing->seconds + n, timing->reduction = timing->spread + n;
    timing->flops = timing->reduction + n;
    for (size_t i = 0; i < 4 * n; i++) timing->seconds[i] = NAN;
    for (size_t i = 0; i < n * (size_t)repeats; i++) timing->samples[i] = NAN;
    results->n_timings++;
    return timing;
}

char *kv_task_items(const kv_result_task *t, char text[KV_TASK_ITEMS]) {
    size_t n = (size_t)snprintf(text, KV_TASK_ITEMS, "%lld items", (long long)t->n_items);
    if (t->n_skipped > 0)
        n += (size_t)snprintf(text + n, KV_TASK_ITEMS - n, " (%lld of %lld skipped: too long)",
                              (long long)t->n_skipped, (long long)(t->n_items + t->n_skipped));
    if (t->n_cut > 0)
        snprintf(text + n, KV_TASK_ITEMS - n, " (%lld of %lld cut from the left: too long)",
                 (long long)t->n_cut, (long long)t->n_items);
    return text;
}

// ---- Working out ---------------------------------------------------------------------------------------

double kv_result_reduction(const kv_results *results, int64_t system, int64_t task, bool paper) {
    const kv_result_system *s = &results->systems[system];
    if (paper) return s->paper_reduction;
    if (results->n_tasks > 0) return kv_results_outcome(results, system, task)->exact_reduction;
    if (results->n_timings == 0) return NAN;
    const double *flops = results->timings[0].flops;
    return flops[s->base] / flops[system];
}

// Within a text of JSON every quote has a backslash in front, so that the key is found nowhere else.
const char *kv_record_redefines(const char *record, size_t *length) {
    static const char key[] = "\"" KV_REDEFINES "\":\"";
    const char *found = strstr(record, key), *start = found ? found + strlen(key) : NULL;
    if (start) *length = strcspn(start, "\"");
    return start;
}

static int64_t count_redefined(const kv_outcome *outcome, int64_t n_units) {
    int64_t n = 0;
    size_t length;
    for (int64_t u = 0; outcome->records && u < n_units; u++)
        n += kv_record_redefines(outcome->records[u], &length) != NULL;
    return n;
}

// One metric of one system, and what it needs for it.
struct deriving {
    const kv_results *results;
    const kv_metric *metric;
    int64_t n;                   // items
    const double *weights;       // [n]; NULL: all alike, or of no matter to this metric
    const double *values, *base; // [n]; NULL: there is no base
    double *own, *other;         // [n] of room
};

// weight · value.
static const double *weighted(const struct deriving *d, const double *values, double *room) {
    if (!d->weights) return values;
    for (int64_t i = 0; i < d->n; i++) room[i] = d->weights[i] * values[i];
    return room;
}

static kv_interval raised(kv_interval interval) {
    return (kv_interval){exp(interval.low), exp(interval.high)};
}

// e to the mean of what the base has more per item. interval NULL: none is asked for; likewise below.
static kv_status keep_perplexity(const struct deriving *d, double *retention, kv_interval *interval,
                                 kv_error *err) {
    for (int64_t i = 0; i < d->n; i++) d->own[i] = d->base[i] - d->values[i];
    static const kv_metric mean = {.perplexity = true};
    *retention = kv_metric_figure(&mean, d->own, NULL, d->n);
    if (!interval) return KV_OK;
    kv_status status =
        kv_bootstrap_mean(d->own, d->n, d->results->bootstrap, d->results->seed, interval, err);
    *interval = raised(*interval);
    return status;
}

static kv_status keep_ratio(const struct deriving *d, double *retention, kv_interval *interval,
                            kv_error *err) {
    const double *own = weighted(d, d->values, d->own), *base = weighted(d, d->base, d->other);
    const bool lower = d->metric->lower_is_better;
    const double *over = lower ? base : own, *under = lower ? own : base;
    double sums[2] = {0, 0};
    for (int64_t i = 0; i < d->n; i++) sums[0] += over[i], sums[1] += under[i];
    *retention = sums[1] > 0 ? sums[0] / sums[1] : NAN;
    if (!interval) return KV_OK;
    return kv_bootstrap_ratio(over, under, d->n, d->results->bootstrap, d->results->seed, interval, err);
}

static kv_status derive_against_base(const struct deriving *d, bool is_base, kv_figure *figure,
                                     kv_error *err) {
    kv_interval interval;
    kv_paired paired;
    kv_interval *wanted = is_base ? NULL : &interval; // it keeps all of itself
    kv_status status = d->metric->nats ? keep_perplexity(d, &figure->retention, wanted, err)
                                       : keep_ratio(d, &figure->retention, wanted, err);
    if (status != KV_OK || is_base) return status;
    figure->retention_low = interval.low, figure->retention_high = interval.high;
    status = kv_paired_test(weighted(d, d->values, d->own), weighted(d, d->base, d->other), d->n,
                            d->metric->lower_is_better, KV_RESAMPLES, d->results->seed, &paired, err);
    if (status == KV_OK) figure->p_value = paired.p;
    return status;
}

static kv_status derive_figure(const kv_results *results, int64_t system, int64_t task, int metric,
                               kv_error *err) {
    const kv_result_task *t = &results->tasks[task];
    kv_outcome *own = kv_results_outcome(results, system, task);
    const kv_outcome *base = kv_results_outcome(results, results->systems[system].base, task);
    kv_figure *figure = &own->figures[metric];
    kv_interval interval;
    struct deriving d = {.results = results, .metric = kv_metric_of(t->metrics[metric]), .n = t->n_items};
    d.weights = d.metric->by_weight ? t->weights : NULL;
    d.values = own->values + metric * d.n;
    d.base = base->values ? base->values + metric * d.n : NULL;
    d.own = calloc(2 * (size_t)d.n + 1, sizeof *d.own);
    if (!d.own) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the figures of %s", t->name);
    d.other = d.own + d.n;
    figure->accuracy = kv_metric_figure(d.metric, d.values, d.weights, d.n);
    kv_status status = kv_metric_interval(d.metric, d.values, d.weights, d.n, results->bootstrap,
                                          results->seed, &interval, err);
    if (status == KV_OK) figure->low = interval.low, figure->high = interval.high;
    if (status == KV_OK && d.base)
        status = derive_against_base(&d, results->systems[system].base == system, figure, err);
    free(d.own);
    return status;
}

kv_status kv_results_derive(kv_results *results, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t t = 0; t < results->n_tasks; t++)
        for (int64_t s = 0; s < results->n_systems && status == KV_OK; s++) {
            kv_outcome *own = kv_results_outcome(results, s, t);
            forget_figures(own);
            own->redefined = count_redefined(own, results->tasks[t].n_units);
            own->exact_reduction =
                kv_results_outcome(results, results->systems[s].base, t)->flops / own->flops;
            for (int m = 0; m < results->tasks[t].n_metrics && own->values && status == KV_OK; m++)
                status = derive_figure(results, s, t, m, err);
        }
    return status;
}
