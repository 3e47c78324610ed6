// Means and standard deviations over seeds as tables for a person.
#include "eval/seeds/seeds.h"

#include "core/text.h"
#include "data/system/table.h"
#include "eval/statistics/budget.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const kv_metric share = {.share = true};

static const kv_metric *metric_of(const kv_seeds *s, kv_seed_place place) {
    return kv_metric_of(kv_seeds_task(s, place.task)->metrics[place.metric]);
}

static const char *metric_word(const kv_seeds *s, kv_seed_place place, bool grouped) {
    const kv_metric *metric = metric_of(s, place);
    return metric->heading && (grouped || !metric->group)
               ? metric->heading
               : kv_seeds_task(s, place.task)->metrics[place.metric];
}

static void spread_cell(kv_table *table, const kv_metric *metric, kv_spread spread) {
    char text[KV_METRIC_TEXT];
    kv_table_cell(table, "%s", kv_metric_spread_text(metric, spread, text));
}

static void p_cell(kv_table *table, double p) {
    if (isnan(p))
        kv_table_cell(table, "-");
    else if (p < 0.001)
        kv_table_cell(table, "<0.001");
    else
        kv_table_cell(table, "%.3f", p);
}

// A reduction that is the same with all seeds but for rounding has no spread.
static void reduction_cell(kv_table *table, kv_spread r) {
    if (isnan(r.mean))
        kv_table_cell(table, "-");
    else if (r.sd >= 0.005)
        kv_table_cell(table, "%.2f ± %.2fx", r.mean, r.sd);
    else
        kv_table_cell(table, "%.2fx", r.mean);
}

// ---- One task ------------------------------------------------------------------------------------------

static bool asked(const kv_seeds *s, int64_t system, int64_t task) {
    for (int64_t i = 0; i < s->n; i++) {
        const kv_outcome *o = kv_seeds_outcome(s, system, task, i);
        if (o && (o->values || o->not_finite)) return true;
    }
    return false;
}

static bool any_missing(const kv_seeds *s, int64_t task) {
    for (int64_t i = 0; i < s->n_systems; i++)
        if (asked(s, i, task) && kv_seeds_spread(s, KV_SEED_FIGURE, i, (kv_seed_place){task, 0}).n < s->n)
            return true;
    return false;
}

static void columns(kv_table *table, const kv_seeds *s, int64_t task) {
    kv_table_column(table, "", "", true);
    kv_table_column(table, "", "system", true);
    kv_table_column(table, "", "family", true);
    if (any_missing(s, task)) kv_table_column(table, "", "seeds", false);
    for (int m = 0; m < kv_seeds_task(s, task)->n_metrics; m++) {
        const kv_seed_place place = {task, m};
        const char *group = metric_of(s, place)->group ? metric_of(s, place)->group : "";
        kv_table_column(table, group, metric_word(s, place, true), false);
        if (m == 0) kv_table_column(table, group, "kept", false);
        if (kv_seeds_has_way(s, place)) kv_table_column(table, group, "of the way", false);
    }
    kv_table_column(table, "p", "seeds", false);
    kv_table_column(table, "p", "items", false);
    kv_table_column(table, "FLOPs reduction", "paper", false);
    kv_table_column(table, "FLOPs reduction", "exact", false);
}

static kv_status row(kv_table *table, const kv_seeds *s, int64_t system, int64_t task, bool on_front,
                     kv_error *err) {
    const kv_seed_place first = {task, 0};
    const int64_t base = s->systems[system].base;
    kv_table_cell(table, "%s", on_front ? "*" : "");
    kv_table_cell(table, "%s", s->systems[system].name);
    kv_table_cell(table, "%s", s->systems[system].family);
    if (any_missing(s, task))
        kv_table_cell(table, "%" PRIi64, kv_seeds_spread(s, KV_SEED_FIGURE, system, first).n);
    for (int m = 0; m < kv_seeds_task(s, task)->n_metrics; m++) {
        const kv_seed_place place = {task, m};
        spread_cell(table, metric_of(s, place), kv_seeds_spread(s, KV_SEED_FIGURE, system, place));
        if (m == 0) spread_cell(table, &share, kv_seeds_spread(s, KV_SEED_RETENTION, system, place));
        if (kv_seeds_has_way(s, place))
            spread_cell(table, &share, kv_seeds_spread(s, KV_SEED_WAY, system, place));
    }
    kv_seed_test test = {.seeds.p = (double)NAN, .items.p = (double)NAN};
    const kv_status status = base == system ? KV_OK : kv_seeds_compare(s, system, base, first, &test, err);
    p_cell(table, test.seeds.p);
    p_cell(table, test.items.p);
    reduction_cell(table, kv_seeds_spread(s, KV_SEED_PAPER, system, first));
    reduction_cell(table, kv_seeds_spread(s, KV_SEED_EXACT, system, first));
    return status;
}

// "400 items", or "400, 380 items" where they are not as many with each seed.
static void print_items(const kv_seeds *s, int64_t task, FILE *out) {
    const int64_t *at = s->tasks + task * s->n;
    bool same = true;
    for (int64_t i = 1; i < s->n; i++)
        same = same && s->runs[i].tasks[at[i]].n_items == s->runs[0].tasks[at[0]].n_items;
    for (int64_t i = 0; i < (same ? 1 : s->n); i++)
        fprintf(out, "%s%" PRIi64, i ? ", " : "", s->runs[i].tasks[at[i]].n_items);
    fputs(" items", out);
}

// What a mean is without, and why.
static void print_missing(const kv_seeds *s, int64_t task, FILE *out) {
    for (int64_t i = 0; i < s->n_systems; i++)
        for (int64_t run = 0; run < s->n && asked(s, i, task); run++) {
            const kv_outcome *o = kv_seeds_outcome(s, i, task, run);
            if (o && o->values) continue;
            fprintf(out, "%s: without seed %" PRIu64 " (%s), %s%s\n", s->systems[i].name, s->runs[run].seed,
                    s->paths[run], o && o->not_finite ? "not finite: " : "where it has no row",
                    o && o->not_finite ? o->not_finite : "");
        }
}

// on_front[n_systems], of means; false when out of memory.
static bool find_front(const kv_seeds *s, int64_t task, bool *on_front) {
    const kv_seed_place place = {task, 0};
    double *numbers = calloc(2 * (size_t)s->n_systems + 1, sizeof *numbers);
    for (int64_t i = 0; numbers && i < s->n_systems; i++) {
        numbers[i] = 1 / kv_seeds_spread(s, KV_SEED_EXACT, i, place).mean;
        numbers[s->n_systems + i] =
            kv_metric_score(metric_of(s, place), kv_seeds_spread(s, KV_SEED_FIGURE, i, place).mean);
    }
    if (numbers) kv_pareto_front(numbers, numbers + s->n_systems, s->n_systems, on_front);
    const bool ok = numbers != NULL;
    free(numbers);
    return ok;
}

static kv_status print_task(const kv_seeds *s, int64_t task, FILE *out, kv_error *err) {
    const kv_result_task *t = kv_seeds_task(s, task);
    bool *front = calloc((size_t)s->n_systems + 1, sizeof *front);
    if (!front || !find_front(s, task, front)) {
        free(front);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the table");
    }
    kv_table *table = kv_table_create();
    kv_status status = KV_OK;
    columns(table, s, task);
    for (int64_t i = 0; status == KV_OK && i < s->n_systems; i++)
        if (asked(s, i, task)) status = row(table, s, i, task, front[i], err);
    if (status == KV_OK) {
        fprintf(out, "%s, %s: ", t->name, t->split);
        print_items(s, task, out);
        fprintf(out, "%s\n",
                metric_of(s, (kv_seed_place){task, 0})->lower_is_better ? "; lower is better" : "");
        kv_table_print(table, out);
        print_missing(s, task, out);
    }
    kv_table_free(table);
    free(front);
    return status;
}

// ---- Against one system --------------------------------------------------------------------------------

static kv_status against_row(kv_table *table, const kv_seeds *s, int64_t system, int64_t other,
                             kv_seed_place place, kv_error *err) {
    kv_seed_test test;
    const kv_status status = kv_seeds_compare(s, system, other, place, &test, err);
    if (status != KV_OK) return status;
    kv_table_cell(table, "%s", s->systems[system].name);
    spread_cell(table, metric_of(s, place), test.seeds.difference);
    kv_table_cell(table, "%" PRIi64, test.seeds.difference.n);
    p_cell(table, test.seeds.p);
    kv_table_cell(table, "%" PRIi64, test.items.better);
    kv_table_cell(table, "%" PRIi64, test.items.worse);
    kv_table_cell(table, "%" PRIi64, test.n_items);
    p_cell(table, test.items.p);
    return KV_OK;
}

static kv_status print_against(const kv_seeds *s, int64_t other, int64_t task, FILE *out, kv_error *err) {
    static const char *const titles[] = {"difference", "n", "p"}, *const counts[] = {"better", "worse", "n",
                                                                                     "p"};
    const kv_seed_place place = {task, 0};
    kv_table *table = kv_table_create();
    kv_status status = KV_OK;
    kv_table_column(table, "", "system", true);
    for (int i = 0; i < 3; i++) kv_table_column(table, "over seeds", titles[i], false);
    for (int i = 0; i < 4; i++) kv_table_column(table, "over items", counts[i], false);
    for (int64_t i = 0; status == KV_OK && i < s->n_systems; i++)
        if (i != other && asked(s, i, task)) status = against_row(table, s, i, other, place, err);
    if (status == KV_OK) {
        fprintf(out, "\n%s, %s: %s, each minus %s\n", kv_seeds_task(s, task)->name,
                kv_seeds_task(s, task)->split, metric_word(s, place, false), s->systems[other].name);
        kv_table_print(table, out);
    }
    kv_table_free(table);
    return status;
}

// ---- All of it -----------------------------------------------------------------------------------------

static void print_head(const kv_seeds *s, FILE *out) {
    fprintf(out, "%" PRIi64 " evaluation%s, seed%s", s->n, s->n == 1 ? "" : "s", s->n == 1 ? "" : "s");
    for (int64_t i = 0; i < s->n; i++) fprintf(out, "%s %" PRIu64, i ? "," : "", s->runs[i].seed);
    fprintf(out, "%s\n\n", s->n > 1 ? ": mean ± standard deviation (n - 1)" : ": no spread to show");
}

static void print_foot(const kv_seeds *s, FILE *out) {
    fputs(
        "* on the Pareto front of exact FLOPs and the first metric, both on the average; p: against the base, "
        "of the first metric. seeds: paired t-test over seeds (models vary); items: paired test over the items of all "
        "seeds (questions vary)\n",
        out);
    if (s->line >= 0)
        fprintf(out, "of the way: in nats, from %s to the base, with each seed for itself\n",
                s->systems[s->line].name);
}

kv_status kv_seeds_print(const kv_seeds *s, const kv_seeds_against *against, FILE *out, kv_error *err) {
    kv_status status = KV_OK;
    print_head(s, out);
    for (int64_t t = 0; status == KV_OK && t < s->n_tasks; t++) {
        if (t > 0) fputc('\n', out);
        status = print_task(s, t, out, err);
    }
    print_foot(s, out);
    for (int64_t a = 0; a < against->n; a++)
        for (int64_t t = 0; status == KV_OK && t < s->n_tasks; t++)
            if (asked(s, against->systems[a], t)) status = print_against(s, against->systems[a], t, out, err);
    return status;
}
