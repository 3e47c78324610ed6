// Figures of one seed each, what they come to over the seeds, and two tests: one has as many values as there are seeds, the
// other as there are items.
#include "eval/seeds/seeds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const kv_result_task *kv_seeds_task(const kv_seeds *s, int64_t task) {
    return &s->runs[0].tasks[task];
}

static const kv_metric *metric_of(const kv_seeds *s, kv_seed_place place) {
    return kv_metric_of(kv_seeds_task(s, place.task)->metrics[place.metric]);
}

const kv_outcome *kv_seeds_outcome(const kv_seeds *s, int64_t system, int64_t task, int64_t run) {
    const int64_t at = system < 0 ? -1 : s->systems[system].at[run];
    return at < 0 ? NULL : kv_results_outcome(&s->runs[run], at, s->tasks[task * s->n + run]);
}

// ---- One seed ------------------------------------------------------------------------------------------

static double figure_of(const kv_outcome *outcome, int metric) {
    return outcome && outcome->values ? outcome->figures[metric].accuracy : (double)NAN;
}

bool kv_seeds_has_way(const kv_seeds *s, kv_seed_place place) {
    const kv_metric *metric = metric_of(s, place);
    return s->line >= 0 && metric->nats && !metric->perplexity;
}

static double way_of(const kv_seeds *s, int64_t system, kv_seed_place place, int64_t run) {
    if (!kv_seeds_has_way(s, place)) return (double)NAN;
    const int64_t base = s->systems[system].base;
    const double line = figure_of(kv_seeds_outcome(s, s->line, place.task, run), place.metric);
    const double whole = line - figure_of(kv_seeds_outcome(s, base, place.task, run), place.metric);
    return whole != 0 ? (line - figure_of(kv_seeds_outcome(s, system, place.task, run), place.metric)) / whole
                      : (double)NAN;
}

double kv_seeds_value(const kv_seeds *s, kv_seed_figure which, int64_t system, kv_seed_place place,
                      int64_t run) {
    const int64_t at = s->systems[system].at[run];
    const kv_results *results = &s->runs[run];
    if (at < 0) return (double)NAN;
    const kv_outcome *outcome = kv_seeds_outcome(s, system, place.task, run);
    switch (which) {
    case KV_SEED_FIGURE: return figure_of(outcome, place.metric);
    case KV_SEED_RETENTION: return outcome->values ? outcome->figures[place.metric].retention : (double)NAN;
    case KV_SEED_WAY: return way_of(s, system, place, run);
    case KV_SEED_PAPER: return results->systems[at].paper_reduction;
    case KV_SEED_EXACT: return outcome->exact_reduction;
    case KV_SEED_CLOCK: return results->n_timings ? results->timings[0].reduction[at] : (double)NAN;
    case KV_SEED_N_FIGURES: break;
    }
    return (double)NAN;
}

kv_spread kv_seeds_spread(const kv_seeds *s, kv_seed_figure which, int64_t system, kv_seed_place place) {
    kv_spread spread = {.mean = (double)NAN, .sd = (double)NAN};
    double *values = malloc((size_t)s->n * sizeof *values + 1);
    if (!values) return spread; // as of none: a figure that is not known
    for (int64_t i = 0; i < s->n; i++) values[i] = kv_seeds_value(s, which, system, place, i);
    spread = kv_spread_of(values, s->n);
    free(values);
    return spread;
}

// ---- Two systems ---------------------------------------------------------------------------------------

static kv_status no_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the seeds");
}

static kv_status compare_seeds(const kv_seeds *s, int64_t system, int64_t other, kv_seed_place place,
                               kv_student *test, kv_error *err) {
    double *values = malloc(2 * (size_t)s->n * sizeof *values + 1);
    if (!values) return no_memory(err);
    for (int64_t i = 0; i < s->n; i++) {
        values[i] = kv_seeds_value(s, KV_SEED_FIGURE, system, place, i);
        values[s->n + i] = kv_seeds_value(s, KV_SEED_FIGURE, other, place, i);
    }
    *test = kv_student_test(values, values + s->n, s->n);
    free(values);
    return KV_OK;
}

// values[n] of an outcome at a metric, times the items' weights where the metric has them weigh.
static void append(const kv_metric *metric, const kv_result_task *task, const kv_outcome *outcome, int index,
                   double *values) {
    const double *weights = metric->by_weight ? task->weights : NULL;
    for (int64_t i = 0; i < task->n_items; i++)
        values[i] = (weights ? weights[i] : 1) * outcome->values[index * task->n_items + i];
}

static kv_status compare_items(const kv_seeds *s, int64_t system, int64_t other, kv_seed_place place,
                               kv_seed_test *test, kv_error *err) {
    const kv_metric *metric = metric_of(s, place);
    int64_t room = 0;
    for (int64_t i = 0; i < s->n; i++) room += s->runs[i].tasks[s->tasks[place.task * s->n + i]].n_items;
    double *values = malloc(2 * (size_t)room * sizeof *values + 1);
    if (!values) return no_memory(err);
    for (int64_t i = 0; i < s->n; i++) {
        const kv_result_task *task = &s->runs[i].tasks[s->tasks[place.task * s->n + i]];
        const kv_outcome *a = kv_seeds_outcome(s, system, place.task, i),
                         *b = kv_seeds_outcome(s, other, place.task, i);
        if (!a || !b || !a->values || !b->values) continue;
        append(metric, task, a, place.metric, values + test->n_items);
        append(metric, task, b, place.metric, values + room + test->n_items);
        test->n_items += task->n_items;
    }
    const kv_status status = kv_paired_test(values, values + room, test->n_items, metric->lower_is_better,
                                            KV_RESAMPLES, s->runs[0].seed, &test->items, err);
    free(values);
    return status;
}

kv_status kv_seeds_compare(const kv_seeds *s, int64_t system, int64_t other, kv_seed_place place,
                           kv_seed_test *test, kv_error *err) {
    *test = (kv_seed_test){0};
    kv_status status = compare_seeds(s, system, other, place, &test->seeds, err);
    return status == KV_OK ? compare_items(s, system, other, place, test, err) : status;
}

// ---- As one evaluation ---------------------------------------------------------------------------------

static void spread_out(kv_spread spread, double *mean, double *low, double *high) {
    *mean = spread.mean;
    *low = spread.mean - spread.sd, *high = spread.mean + spread.sd; // NAN of one seed
}

static bool copy_task(kv_result_task *to, const kv_result_task *from) {
    *to = *from;
    to->grid = (kv_grid_items){0};
    to->weights = NULL;
    to->n_units = 0; // records are left behind
    to->name = strdup(from->name), to->split = strdup(from->split);
    to->kind = strdup(from->kind), to->file = strdup(from->file);
    return to->name && to->split && to->kind && to->file;
}

// The items of the first seed that the system and its base were both asked with, for what pictures ask of them.
static bool copy_values(const kv_seeds *s, int64_t system, int64_t task, kv_outcome *to) {
    const kv_outcome *from = kv_seeds_outcome(s, system, task, 0);
    const kv_result_task *t = kv_seeds_task(s, task);
    if (!from || !from->values) return true;
    const size_t n = (size_t)(t->n_metrics * t->n_items);
    to->values = malloc(n * sizeof *to->values + 1);
    if (to->values) memcpy(to->values, from->values, n * sizeof *to->values);
    return to->values != NULL;
}

static bool fill_system(const kv_seeds *s, int64_t system, kv_results *mean) {
    kv_result_system *own = &mean->systems[system];
    const kv_seed_place first = {0, 0};
    own->name = strdup(s->systems[system].name), own->family = strdup(s->systems[system].family);
    own->base = s->systems[system].base;
    own->paper_reduction = kv_seeds_spread(s, KV_SEED_PAPER, system, first).mean;
    bool ok = own->name && own->family;
    for (int64_t t = 0; ok && t < s->n_tasks; t++) {
        kv_outcome *o = kv_results_outcome(mean, system, t);
        o->exact_reduction = kv_seeds_spread(s, KV_SEED_EXACT, system, (kv_seed_place){t, 0}).mean;
        ok = copy_values(s, system, t, o);
        for (int m = 0; m < mean->tasks[t].n_metrics; m++) {
            const kv_seed_place place = {t, m};
            kv_figure *f = &o->figures[m];
            spread_out(kv_seeds_spread(s, KV_SEED_FIGURE, system, place), &f->accuracy, &f->low, &f->high);
            spread_out(kv_seeds_spread(s, KV_SEED_RETENTION, system, place), &f->retention, &f->retention_low,
                       &f->retention_high);
        }
    }
    return ok;
}

kv_status kv_seeds_mean(const kv_seeds *s, kv_results *mean, kv_error *err) {
    kv_status status = kv_results_init(mean, s->n_systems, s->n_tasks, err);
    bool ok = status == KV_OK;
    for (int64_t t = 0; ok && t < s->n_tasks; t++) ok = copy_task(&mean->tasks[t], kv_seeds_task(s, t));
    for (int64_t i = 0; ok && i < s->n_systems; i++) ok = fill_system(s, i, mean);
    if (ok && s->runs[0].n_timings > 0) {
        const kv_timing *from = &s->runs[0].timings[0];
        kv_timing *timing = kv_results_add_timing(mean, from->prompt_tokens, from->batch_size, 0);
        ok = timing != NULL;
        for (int64_t i = 0; ok && i < s->n_systems; i++)
            timing->reduction[i] = kv_seeds_spread(s, KV_SEED_CLOCK, i, (kv_seed_place){0, 0}).mean;
    }
    if (!ok && status == KV_OK) status = no_memory(err);
    if (status != KV_OK) kv_results_free(mean);
    return status;
}
