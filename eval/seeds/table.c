// Means and standard deviations over seeds as tables.
#include "eval/seeds/seeds.h"

#include "core/text.h"
#include "data/table/table.h"
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
    kv_table_pair(table, spread.mean, spread.sd, "%s", kv_metric_spread_text(metric, spread, text));
}

// A reduction that is the same with all seeds but for rounding has no spread to show.
static void reduction_cell(kv_table *table, kv_spread r) {
    if (isnan(r.mean))
        kv_table_none(table);
    else if (r.sd >= 0.005)
        kv_table_pair(table, r.mean, r.sd, "%.2f ± %.2fx", r.mean, r.sd);
    else
        kv_table_pair(table, r.mean, r.sd, "%.2fx", r.mean);
}

// What a row is about, for programs.
static void place_columns(kv_table *table) {
    kv_table_hidden(table, KV_FIELD_TEXT, "task");
    kv_table_hidden(table, KV_FIELD_TEXT, "split");
}

static void place_cells(kv_table *table, const kv_seeds *s, int64_t task) {
    kv_table_cell(table, "%s", kv_seeds_task(s, task)->name);
    kv_table_cell(table, "%s", kv_seeds_task(s, task)->split);
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

static void metric_columns(kv_table *table, const kv_seeds *s, kv_seed_place place) {
    const char *group = metric_of(s, place)->group ? metric_of(s, place)->group : "",
               *name = kv_seeds_task(s, place.task)->metrics[place.metric];
    char way[160];
    snprintf(way, sizeof way, "%s_way", name);
    kv_table_field(table, group, metric_word(s, place, true), KV_FIELD_SPREAD, name);
    if (place.metric == 0) kv_table_field(table, group, "kept", KV_FIELD_SPREAD, "retention");
    if (kv_seeds_has_way(s, place)) kv_table_field(table, group, "of the way", KV_FIELD_SPREAD, way);
}

static void columns(kv_table *table, const kv_seeds *s, int64_t task) {
    place_columns(table);
    kv_table_field(table, "", "", KV_FIELD_FLAG, "pareto");
    kv_table_field(table, "", "system", KV_FIELD_TEXT, "system");
    kv_table_field(table, "", "family", KV_FIELD_TEXT, "family");
    if (any_missing(s, task))
        kv_table_field(table, "", "seeds", KV_FIELD_WHOLE, "n_seeds");
    else
        kv_table_hidden(table, KV_FIELD_WHOLE, "n_seeds");
    for (int m = 0; m < kv_seeds_task(s, task)->n_metrics; m++)
        metric_columns(table, s, (kv_seed_place){task, m});
    kv_table_field(table, "p", "seeds", KV_FIELD_NUMBER, "p_seeds");
    kv_table_field(table, "p", "items", KV_FIELD_NUMBER, "p_items");
    kv_table_field(table, "FLOPs reduction", "paper", KV_FIELD_SPREAD, "flops_reduction_paper");
    kv_table_field(table, "FLOPs reduction", "exact", KV_FIELD_SPREAD, "flops_reduction_exact");
}

static kv_status row(kv_table *table, const kv_seeds *s, int64_t system, int64_t task, bool on_front,
                     kv_error *err) {
    const kv_seed_place first = {task, 0};
    const int64_t base = s->systems[system].base;
    place_cells(table, s, task);
    kv_table_value(table, on_front, "%s", on_front ? "*" : "");
    if (on_front) kv_table_mark(table);
    kv_table_cell(table, "%s", s->systems[system].name);
    kv_table_cell(table, "%s", s->systems[system].family);
    kv_table_number(table, "%.0f", 1, (double)kv_seeds_spread(s, KV_SEED_FIGURE, system, first).n);
    for (int m = 0; m < kv_seeds_task(s, task)->n_metrics; m++) {
        const kv_seed_place place = {task, m};
        spread_cell(table, metric_of(s, place), kv_seeds_spread(s, KV_SEED_FIGURE, system, place));
        if (m == 0) spread_cell(table, &share, kv_seeds_spread(s, KV_SEED_RETENTION, system, place));
        if (kv_seeds_has_way(s, place))
            spread_cell(table, &share, kv_seeds_spread(s, KV_SEED_WAY, system, place));
    }
    kv_seed_test test = {.seeds.p = (double)NAN, .items.p = (double)NAN};
    const kv_status status = base == system ? KV_OK : kv_seeds_compare(s, system, base, first, &test, err);
    kv_table_p(table, test.seeds.p);
    kv_table_p(table, test.items.p);
    reduction_cell(table, kv_seeds_spread(s, KV_SEED_PAPER, system, first));
    reduction_cell(table, kv_seeds_spread(s, KV_SEED_EXACT, system, first));
    return status;
}

// "400 items", or "400, 380 items" where they are not as many with each seed.
static void items_text(const kv_seeds *s, int64_t task, char *text, size_t size) {
    const int64_t *at = s->tasks + task * s->n;
    size_t used = 0;
    bool same = true;
    for (int64_t i = 1; i < s->n; i++)
        same = same && s->runs[i].tasks[at[i]].n_items == s->runs[0].tasks[at[0]].n_items;
    for (int64_t i = 0; i < (same ? 1 : s->n) && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRIi64, i ? ", " : "",
                                 s->runs[i].tasks[at[i]].n_items);
    if (used < size) snprintf(text + used, size - used, " items");
}

// What a mean is without, and why.
static void note_missing(kv_table *table, const kv_seeds *s, int64_t task) {
    for (int64_t i = 0; i < s->n_systems; i++)
        for (int64_t run = 0; run < s->n && asked(s, i, task); run++) {
            const kv_outcome *o = kv_seeds_outcome(s, i, task, run);
            if (o && o->values) continue;
            kv_table_note(table, "%s: without seed %" PRIu64 " (%s), %s%s", s->systems[i].name,
                          s->runs[run].seed, s->paths[run],
                          o && o->not_finite ? "not finite: " : "where it has no row",
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

static kv_status add_task(const kv_seeds *s, int64_t task, kv_tables *tables, kv_error *err) {
    const kv_result_task *t = kv_seeds_task(s, task);
    char items[1024];
    bool *front = calloc((size_t)s->n_systems + 1, sizeof *front);
    if (!front || !find_front(s, task, front)) {
        free(front);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the table");
    }
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "seeds");
    kv_status status = KV_OK;
    columns(table, s, task);
    for (int64_t i = 0; status == KV_OK && i < s->n_systems; i++)
        if (asked(s, i, task)) status = row(table, s, i, task, front[i], err);
    items_text(s, task, items, sizeof items);
    kv_table_title(table, "%s, %s: %s%s", t->name, t->split, items,
                   metric_of(s, (kv_seed_place){task, 0})->lower_is_better ? "; lower is better" : "");
    note_missing(table, s, task);
    free(front);
    return status;
}

// ---- Against one system --------------------------------------------------------------------------------

static kv_status against_row(kv_table *table, const kv_seeds *s, int64_t system, int64_t other,
                             kv_seed_place place, kv_error *err) {
    kv_seed_test test;
    const kv_status status = kv_seeds_compare(s, system, other, place, &test, err);
    if (status != KV_OK) return status;
    place_cells(table, s, place.task);
    kv_table_cell(table, "%s", kv_seeds_task(s, place.task)->metrics[place.metric]);
    kv_table_cell(table, "%s", s->systems[other].name);
    kv_table_cell(table, "%s", s->systems[system].name);
    spread_cell(table, metric_of(s, place), test.seeds.difference);
    kv_table_number(table, "%.0f", 1, (double)test.seeds.difference.n);
    kv_table_p(table, test.seeds.p);
    kv_table_number(table, "%.0f", 1, (double)test.items.better);
    kv_table_number(table, "%.0f", 1, (double)test.items.worse);
    kv_table_number(table, "%.0f", 1, (double)test.n_items);
    kv_table_p(table, test.items.p);
    return KV_OK;
}

static kv_status add_against(const kv_seeds *s, int64_t other, int64_t task, kv_tables *tables,
                             kv_error *err) {
    const kv_seed_place place = {task, 0};
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "against");
    kv_status status = KV_OK;
    place_columns(table);
    kv_table_hidden(table, KV_FIELD_TEXT, "metric");
    kv_table_hidden(table, KV_FIELD_TEXT, "against");
    kv_table_field(table, "", "system", KV_FIELD_TEXT, "system");
    kv_table_field(table, "over seeds", "difference", KV_FIELD_SPREAD, "difference");
    kv_table_field(table, "over seeds", "n", KV_FIELD_WHOLE, "n_seeds");
    kv_table_field(table, "over seeds", "p", KV_FIELD_NUMBER, "p_seeds");
    kv_table_field(table, "over items", "better", KV_FIELD_WHOLE, "items_better");
    kv_table_field(table, "over items", "worse", KV_FIELD_WHOLE, "items_worse");
    kv_table_field(table, "over items", "n", KV_FIELD_WHOLE, "n_items");
    kv_table_field(table, "over items", "p", KV_FIELD_NUMBER, "p_items");
    for (int64_t i = 0; status == KV_OK && i < s->n_systems; i++)
        if (i != other && asked(s, i, task)) status = against_row(table, s, i, other, place, err);
    kv_table_title(table, "%s, %s: %s, each minus %s", kv_seeds_task(s, task)->name,
                   kv_seeds_task(s, task)->split, metric_word(s, place, false), s->systems[other].name);
    return status;
}

// ---- All of it -----------------------------------------------------------------------------------------

static void add_head(const kv_seeds *s, kv_tables *tables) {
    char seeds[2048] = "";
    size_t used = 0;
    for (int64_t i = 0; i < s->n && used < sizeof seeds; i++)
        used +=
            (size_t)snprintf(seeds + used, sizeof seeds - used, "%s %" PRIu64, i ? "," : "", s->runs[i].seed);
    kv_table_title(kv_tables_add(tables, KV_FOR_ALL, "seeds"), "%" PRIi64 " evaluation%s, seed%s%s%s", s->n,
                   s->n == 1 ? "" : "s", s->n == 1 ? "" : "s", seeds,
                   s->n > 1 ? ": mean ± standard deviation (n - 1)" : ": no spread to show");
}

static void note_columns(const kv_seeds *s, kv_table *table) {
    kv_table_note(
        table,
        "* on the Pareto front of exact FLOPs and the first metric, both on the average; p: against the base, "
        "of the first metric. seeds: paired t-test over seeds (models vary); items: paired test over the items of all "
        "seeds (questions vary)");
    if (s->line >= 0)
        kv_table_note(table, "of the way: in nats, from %s to the base, with each seed for itself",
                      s->systems[s->line].name);
}

kv_status kv_seeds_tables(const kv_seeds *s, const kv_seeds_against *against, kv_tables *tables,
                          kv_error *err) {
    kv_status status = KV_OK;
    add_head(s, tables);
    for (int64_t t = 0; status == KV_OK && t < s->n_tasks; t++) status = add_task(s, t, tables, err);
    note_columns(s, kv_tables_last(tables));
    for (int64_t a = 0; a < against->n; a++)
        for (int64_t t = 0; status == KV_OK && t < s->n_tasks; t++)
            if (asked(s, against->systems[a], t))
                status = add_against(s, against->systems[a], t, tables, err);
    return status;
}
