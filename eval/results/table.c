// What a person reads first, and what programs get of it: their columns are called what results.csv calls them, in its
// units. A number that could not be had is a dash.
#include "data/table/table.h"
#include "core/text.h"
#include "eval/results/results.h"
#include "eval/results/selection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const kv_metric *metric_of(const kv_results *r, int64_t task, int metric) {
    return kv_metric_of(r->tasks[task].metrics[metric]);
}

// What its column is called, where it stands under the heading of its group or without one.
static const char *metric_word(const kv_results *r, int64_t task, int metric, bool grouped) {
    const kv_metric *known = metric_of(r, task, metric);
    return known->heading && (grouped || !known->group) ? known->heading : r->tasks[task].metrics[metric];
}

// ---- One task ------------------------------------------------------------------------------------------

// Systems that look something up, or could.
static bool has_lookups(const kv_results *r) {
    bool any = false;
    for (int64_t s = 0; s < r->n_systems; s++) any = any || r->systems[s].lookups > 0;
    return any;
}

static void cost_columns(kv_table *table, const kv_results *r) {
    static const char flops[] = "FLOPs reduction";
    kv_table_field(table, flops, "paper", KV_FIELD_NUMBER, "flops_reduction_paper");
    kv_table_field(table, flops, "exact", KV_FIELD_NUMBER, "flops_reduction_exact");
    if (has_lookups(r) && r->n_tasks > 0) {
        kv_table_field(table, flops, "computed", KV_FIELD_NUMBER, "flops_reduction_computed");
        kv_table_field(table, flops, "looked up", KV_FIELD_NUMBER, "flops_reduction_looked_up");
    }
    if (has_lookups(r)) kv_table_field(table, "lookups", "a token", KV_FIELD_WHOLE, "lookups");
    if (r->n_timings == 0) return;
    char heading[96];
    snprintf(heading, sizeof heading, "time to first token, %lld x %lld", (long long)r->timings[0].batch_size,
             (long long)r->timings[0].prompt_tokens);
    kv_table_field(table, heading, "ms", KV_FIELD_SPREAD, "ttft_seconds");
    kv_table_spread_name(table, "spread");
    kv_table_field(table, heading, "reduction", KV_FIELD_NUMBER, "ttft_reduction");
}

static void lookup_cells(kv_table *table, const kv_results *r, int64_t system, int64_t task) {
    const kv_result_system *s = &r->systems[system];
    if (r->n_tasks > 0) {
        const double base = kv_results_outcome(r, s->base, task)->flops;
        const kv_outcome *o = kv_results_outcome(r, system, task);
        kv_table_number(table, "%.2fx", 1, base / o->flops_computed);
        kv_table_number(table, "%.2fx", 1, base / o->flops_looked_up);
    }
    kv_table_number(table, "%.0f", 1, s->lookups);
}

static void cost_cells(kv_table *table, const kv_results *r, int64_t system, int64_t task) {
    kv_table_number(table, "%.2fx", 1, kv_result_reduction(r, system, task, true));
    kv_table_number(table, "%.2fx", 1, kv_result_reduction(r, system, task, false));
    if (has_lookups(r)) lookup_cells(table, r, system, task);
    if (r->n_timings == 0) return;
    const kv_timing *t = &r->timings[0];
    if (isfinite(t->seconds[system]))
        kv_table_pair(table, t->seconds[system], t->spread[system], "%.2f ± %.2f", 1e3 * t->seconds[system],
                      1e3 * t->spread[system]);
    else
        kv_table_none(table);
    kv_table_number(table, "%.2fx", 1, t->reduction[system]);
}

static void figure_cell(kv_table *table, const kv_metric *metric, const kv_outcome *o, double figure) {
    char text[KV_METRIC_TEXT];
    if (o->not_finite)
        kv_table_cell(table, KV_NOT_FINITE);
    else
        kv_table_value(table, figure, "%s", kv_metric_text(metric, figure, text));
}

static void interval_cell(kv_table *table, const kv_metric *metric, double low, double high) {
    char text[KV_METRIC_TEXT];
    kv_table_pair(table, low, high, "%s", kv_metric_interval_text(metric, low, high, text));
}

// The ends of a perplexity are e to those of the nats beside it: the table is wide enough without.
static bool shows_interval(const kv_metric *metric, int m) {
    return m == 0 || !metric->perplexity;
}

static void figure_cells(kv_table *table, const kv_metric *metric, const kv_outcome *o, int m) {
    static const kv_metric kept = {.share = true};
    const kv_figure *f = &o->figures[m];
    char text[KV_METRIC_TEXT];
    figure_cell(table, metric, o, f->accuracy);
    interval_cell(table, metric, f->low, f->high);
    if (m > 0) return;
    kv_table_value(table, f->retention, "%s", kv_metric_text(&kept, f->retention, text));
    interval_cell(table, &kept, f->retention_low, f->retention_high);
    kv_table_p(table, f->p_value);
}

static void name_columns(kv_table *table) {
    kv_table_field(table, "", "system", KV_FIELD_TEXT, "system");
    kv_table_field(table, "", "family", KV_FIELD_TEXT, "family");
}

static void name_cells(kv_table *table, const kv_result_system *system) {
    kv_table_cell(table, "%s", system->name);
    kv_table_cell(table, "%s", system->family);
}

static void front_cell(kv_table *table, bool on_front) {
    kv_table_value(table, on_front, "%s", on_front ? "*" : "");
    if (on_front) kv_table_mark(table);
}

// Why a row has no score, and that without the base's nothing can be compared.
static void note_not_finite(kv_table *table, const kv_results *r, int64_t task) {
    for (int64_t s = 0; s < r->n_systems; s++) {
        const kv_outcome *o = kv_results_outcome(r, s, task);
        if (!o->not_finite) continue;
        kv_table_note(table, "%s is not finite: %s%s", r->systems[s].name, o->not_finite,
                      r->systems[s].base == s ? "; it is the base: nothing can be compared with it" : "");
    }
}

// The first few names that differ of what programs redefine, in text[size].
static void redefined_text(const kv_outcome *o, int64_t n_units, char *text, size_t size) {
    enum { FEW = 3 };
    const char *shown[FEW];
    size_t lengths[FEW], length, used = 0;
    int n = 0;
    text[0] = '\0';
    for (int64_t u = 0; o->records && u < n_units && n < FEW; u++) {
        const char *names = kv_record_redefines(o->records[u], &length);
        bool fresh = names != NULL;
        for (int i = 0; fresh && i < n; i++) fresh = length != lengths[i] || memcmp(names, shown[i], length);
        if (!fresh) continue;
        used += (size_t)snprintf(text + used, size - used, "%s %.*s", n ? ";" : "", (int)length, names);
        if (used >= size) return;
        shown[n] = names, lengths[n++] = length;
    }
}

// How many programs of a system had changed the rules, and what.
static void note_redefined(kv_table *table, const kv_results *r, int64_t task) {
    for (int64_t s = 0; s < r->n_systems; s++) {
        const kv_outcome *o = kv_results_outcome(r, s, task);
        char names[1024];
        if (o->redefined == 0) continue;
        redefined_text(o, r->tasks[task].n_units, names, sizeof names);
        kv_table_note(
            table,
            "%s: %lld of %lld programs redefine what their tests rely on, which its score does not show:%s",
            r->systems[s].name, (long long)o->redefined, (long long)r->tasks[task].n_units, names);
    }
}

static void interval_column(kv_table *table, const char *group, const char *name, bool shown) {
    if (shown)
        kv_table_field(table, group, "95 %", KV_FIELD_INTERVAL, name);
    else
        kv_table_hidden(table, KV_FIELD_INTERVAL, name);
}

static void metric_columns(kv_table *table, const kv_results *r, int64_t task, int m) {
    const char *group = metric_of(r, task, m)->group ? metric_of(r, task, m)->group : "",
               *name = r->tasks[task].metrics[m];
    kv_table_field(table, group, metric_word(r, task, m, true), KV_FIELD_NUMBER, name);
    interval_column(table, group, name, shows_interval(metric_of(r, task, m), m));
    if (m > 0) return;
    kv_table_field(table, group, "kept", KV_FIELD_NUMBER, "retention");
    interval_column(table, group, "retention", true);
    kv_table_field(table, group, "p", KV_FIELD_NUMBER, "p_value");
}

static bool lower_is_better(const kv_results *r, int64_t task) {
    return metric_of(r, task, 0)->lower_is_better;
}

// What programs get beside: which task a row is of.
static void task_columns(kv_table *table) {
    kv_table_hidden(table, KV_FIELD_TEXT, "task");
    kv_table_hidden(table, KV_FIELD_TEXT, "split");
    kv_table_hidden(table, KV_FIELD_WHOLE, "n_items");
    kv_table_hidden(table, KV_FIELD_TEXT, "note");
}

static void task_cells(kv_table *table, const kv_result_task *t, const kv_outcome *o) {
    kv_table_cell(table, "%s", t->name);
    kv_table_cell(table, "%s", t->split);
    kv_table_value(table, (double)t->n_items, "%lld", (long long)t->n_items);
    kv_table_cell(table, "%s", o->not_finite ? KV_NOT_FINITE : "");
}

static void add_task(const kv_results *r, int64_t task, kv_tables *tables) {
    const kv_result_task *t = &r->tasks[task];
    bool *front = calloc((size_t)r->n_systems + 1, sizeof *front);
    const bool ok = front && kv_results_front(r, task, front);
    kv_table *table = kv_tables_add(ok ? tables : NULL, KV_FOR_ALL, "results");
    if (!ok) kv_tables_fail(tables);
    task_columns(table);
    kv_table_field(table, "", "", KV_FIELD_FLAG, "pareto");
    name_columns(table);
    for (int m = 0; m < t->n_metrics; m++) metric_columns(table, r, task, m);
    cost_columns(table, r);
    for (int64_t s = 0; table && s < r->n_systems; s++) {
        const kv_outcome *o = kv_results_outcome(r, s, task);
        if (!o->values && !o->not_finite) continue;
        task_cells(table, t, o);
        front_cell(table, front[s]);
        name_cells(table, &r->systems[s]);
        for (int m = 0; m < t->n_metrics; m++) figure_cells(table, metric_of(r, task, m), o, m);
        cost_cells(table, r, s, task);
    }
    char items[KV_TASK_ITEMS];
    kv_table_title(table, "%s, %s: %s, %sprompts of %.0f tokens%s", t->name, t->split,
                   kv_task_items(t, items), t->chat ? "chat " : "", t->prompt_tokens,
                   lower_is_better(r, task) ? "; lower is better" : "");
    note_not_finite(table, r, task);
    note_redefined(table, r, task);
    free(front);
}

// Below the last task: what columns are.
static void note_columns(const kv_results *r, kv_table *table) {
    const char *kept[] = {"", "", ""};
    for (int64_t t = 0; t < r->n_tasks; t++) {
        if (!metric_of(r, t, 0)->nats) kept[0] = "share of the base's";
        if (metric_of(r, t, 0)->nats) kept[2] = "of nats the base's perplexity over the system's";
    }
    if (*kept[0] && *kept[2]) kept[1] = "; ";
    kv_table_note(table,
                  "* on the Pareto front of exact FLOPs and the first metric; kept: %s%s%s; p: paired test "
                  "against the base",
                  kept[0], kept[1], kept[2]);
}

// ---- All tasks at once ---------------------------------------------------------------------------------

static void add_costs(const kv_results *r, kv_tables *tables) {
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "costs");
    name_columns(table);
    cost_columns(table, r);
    for (int64_t s = 0; s < r->n_systems; s++) {
        name_cells(table, &r->systems[s]);
        cost_cells(table, r, s, 0);
    }
}

// The metric that stands for a task among others: the first, but of nats the perplexity that they are the logarithm of.
static int summary_metric(const kv_results *r, int64_t task) {
    const kv_result_task *t = &r->tasks[task];
    for (int m = 1; m < t->n_metrics && metric_of(r, task, 0)->nats; m++)
        if (metric_of(r, task, m)->perplexity) return m;
    return 0;
}

static bool any_nats(const kv_results *r) {
    for (int64_t t = 0; t < r->n_tasks; t++)
        if (metric_of(r, t, summary_metric(r, t))->perplexity) return true;
    return false;
}

static int64_t count_shares(const kv_results *r) {
    int64_t n = 0;
    for (int64_t t = 0; t < r->n_tasks; t++) n += metric_of(r, t, 0)->share;
    return n;
}

// That metric of every task and the mean of those that are shares, as the paper's tables 3 and 8 have it: what has another
// unit has no mean with them.
static void add_summary(const kv_results *r, kv_tables *tables) {
    const int64_t n_shares = count_shares(r);
    kv_table *table = kv_tables_add(tables, KV_FOR_PEOPLE, "summary");
    name_columns(table);
    for (int64_t t = 0; t < r->n_tasks; t++) {
        char title[160];
        snprintf(title, sizeof title, "%.*s%s%s", KV_HEAD(r->tasks[t].split, 100),
                 metric_of(r, t, 0)->share ? "" : ": ",
                 metric_of(r, t, 0)->share ? "" : metric_word(r, t, summary_metric(r, t), true));
        kv_table_column(table, r->tasks[t].name, title, false);
    }
    if (n_shares > 1) kv_table_column(table, "", "average", false);
    kv_table_column(table, "", "FLOPs reduction", false);
    for (int64_t s = 0; s < r->n_systems; s++) {
        double sum = 0;
        name_cells(table, &r->systems[s]);
        for (int64_t t = 0; t < r->n_tasks; t++) {
            const kv_outcome *o = kv_results_outcome(r, s, t);
            const int m = summary_metric(r, t);
            const kv_metric *metric = metric_of(r, t, m);
            const double figure = o->figures[m].accuracy;
            if (metric->share && !o->not_finite)
                kv_table_number(table, "%.1f", 100, figure);
            else
                figure_cell(table, metric, o, figure);
            sum += metric->share ? figure : 0;
        }
        if (n_shares > 1) kv_table_number(table, "%.1f", 100, sum / (double)n_shares);
        kv_table_number(table, "%.2fx", 1, kv_result_reduction(r, s, 0, true));
    }
    kv_table_title(table, "all tasks, first metric of each%s%s; the paper's reduction of FLOPs",
                   any_nats(r) ? ", of nats their perplexity" : "",
                   n_shares == r->n_tasks ? " in %"
                   : n_shares > 1         ? ": shares in %, and only they are averaged"
                   : n_shares > 0         ? ": shares in %"
                                          : "");
}

// Prompt lengths downwards, systems to the right would be too wide: one row a system and batch size.
static void add_lengths(const kv_results *r, kv_tables *tables) {
    kv_table *table = kv_tables_add(tables, KV_FOR_PEOPLE, "ttft");
    kv_table_column(table, "", "system", true);
    for (int64_t i = 1; i < r->n_timings; i++) {
        char group[48], title[32];
        const long long n = r->timings[i].batch_size;
        snprintf(group, sizeof group, "%lld prompt%s of", n, n == 1 ? "" : "s");
        snprintf(title, sizeof title, "%lld", (long long)r->timings[i].prompt_tokens);
        kv_table_column(table, group, title, false);
    }
    for (int64_t s = 0; s < r->n_systems; s++) {
        kv_table_cell(table, "%s", r->systems[s].name);
        for (int64_t i = 1; i < r->n_timings; i++) {
            const kv_timing *t = &r->timings[i];
            const double ms = 1e3 * t->seconds[s];
            const int decimals = ms < 10 ? 2 : ms < 100 ? 1 : 0;
            if (isfinite(ms) && isfinite(t->reduction[s]))
                kv_table_value(table, t->seconds[s], "%.*f (%.2fx)", decimals, ms, t->reduction[s]);
            else if (isfinite(ms))
                kv_table_value(table, t->seconds[s], "%.*f", decimals, ms);
            else
                kv_table_none(table);
        }
    }
    kv_table_title(table, "time to first token in ms (reduction)");
}

// A row each, the first of them too.
static void add_timings(const kv_results *r, kv_tables *tables) {
    kv_table *table = kv_tables_add(tables, KV_FOR_PROGRAMS, "ttft");
    kv_table_hidden(table, KV_FIELD_TEXT, "system");
    kv_table_hidden(table, KV_FIELD_TEXT, "family");
    kv_table_hidden(table, KV_FIELD_WHOLE, "batch_size");
    kv_table_hidden(table, KV_FIELD_WHOLE, "prompt_tokens");
    kv_table_hidden(table, KV_FIELD_SPREAD, "ttft_seconds");
    kv_table_spread_name(table, "spread");
    kv_table_hidden(table, KV_FIELD_NUMBER, "ttft_reduction");
    for (int64_t s = 0; s < r->n_systems; s++)
        for (int64_t i = 0; i < r->n_timings; i++) {
            const kv_timing *t = &r->timings[i];
            kv_table_cell(table, "%s", r->systems[s].name);
            kv_table_cell(table, "%s", r->systems[s].family);
            kv_table_number(table, "%.0f", 1, (double)t->batch_size);
            kv_table_number(table, "%.0f", 1, (double)t->prompt_tokens);
            kv_table_pair(table, t->seconds[s], t->spread[s], "%g", t->seconds[s]);
            kv_table_number(table, "%.2fx", 1, t->reduction[s]);
        }
    kv_table_title(table, "time to first token");
}

// ---- Budgets -------------------------------------------------------------------------------------------

struct choices {
    kv_budget_choice *items;
    size_t n, room;
};

static void collect(const kv_budget_choice *choice, void *context) {
    struct choices *c = context;
    if (c->n < c->room) c->items[c->n++] = *choice;
}

static const kv_budget_choice *find_choice(const struct choices *c, double budget, const char *family) {
    for (size_t i = 0; i < c->n; i++)
        if (c->items[i].budget == budget && !strcmp(c->items[i].family, family)) return &c->items[i];
    return NULL;
}

static bool family_is_new(const kv_results *r, int64_t system) {
    for (int64_t s = 0; s < system; s++)
        if (!strcmp(r->systems[s].family, r->systems[system].family)) return false;
    return true;
}

static kv_status find_choices(const kv_results *r, int64_t task, struct choices *c) {
    *c = (struct choices){.room = (size_t)(r->n_systems * r->n_budgets)};
    c->items = calloc(c->room + 1, sizeof *c->items);
    return c->items ? kv_results_choose(r, task, collect, c, NULL) : KV_ERR_MEMORY;
}

// Families downwards, budgets to the right.
static void add_budgets(const kv_results *r, int64_t task, const struct choices *c, kv_tables *tables) {
    kv_table *table = kv_tables_add(tables, KV_FOR_PEOPLE, "budgets");
    kv_table_column(table, "", "family", true);
    for (int64_t b = 0; b < r->n_budgets; b++) {
        char title[32];
        snprintf(title, sizeof title, "%g of the base", r->budgets[b]);
        kv_table_column(table, title, "system", true);
        kv_table_column(table, title, metric_word(r, task, 0, false), false);
    }
    for (int64_t s = 0; s < r->n_systems; s++) {
        if (!family_is_new(r, s)) continue;
        kv_table_cell(table, "%s", r->systems[s].family);
        for (int64_t b = 0; b < r->n_budgets; b++) {
            const kv_budget_choice *best = find_choice(c, r->budgets[b], r->systems[s].family);
            const double figure = best ? best->figure->accuracy : (double)NAN;
            char text[KV_METRIC_TEXT];
            kv_table_cell(table, "%s", best ? best->system->name : "-");
            kv_table_value(table, figure, "%s", kv_metric_text(metric_of(r, task, 0), figure, text));
        }
    }
    kv_table_title(table, "%s, %s: the best of each family within a budget of FLOPs to the first token%s",
                   r->tasks[task].name, r->tasks[task].split,
                   lower_is_better(r, task) ? "; lower is better" : "");
}

// A row each, as in budgets.csv.
static void add_choices(const kv_results *r, int64_t task, const struct choices *c, kv_tables *tables) {
    static const char *const texts[] = {"task", "split", "family", "system"};
    kv_table *table = kv_tables_add(tables, KV_FOR_PROGRAMS, "budgets");
    for (int i = 0; i < 4; i++) kv_table_hidden(table, KV_FIELD_TEXT, texts[i]);
    kv_table_hidden(table, KV_FIELD_NUMBER, "budget");
    kv_table_hidden(table, KV_FIELD_NUMBER, "flops_fraction");
    kv_table_hidden(table, KV_FIELD_NUMBER, r->tasks[task].metrics[0]);
    kv_table_hidden(table, KV_FIELD_NUMBER, "retention");
    kv_table_title(table, "%s, %s: the best of each family within a budget of FLOPs to the first token",
                   r->tasks[task].name, r->tasks[task].split);
    for (size_t i = 0; i < c->n; i++) {
        kv_table_cell(table, "%s", r->tasks[task].name);
        kv_table_cell(table, "%s", r->tasks[task].split);
        kv_table_cell(table, "%s", c->items[i].family);
        kv_table_cell(table, "%s", c->items[i].system->name);
        kv_table_number(table, "%g", 1, c->items[i].budget);
        kv_table_number(table, "%g", 1, c->items[i].fraction);
        kv_table_number(table, "%g", 1, c->items[i].figure->accuracy);
        kv_table_number(table, "%g", 1, c->items[i].figure->retention);
    }
}

void kv_results_tables(const kv_results *r, kv_tables *tables) {
    if (r->n_tasks == 0) add_costs(r, tables);
    for (int64_t t = 0; t < r->n_tasks; t++) add_task(r, t, tables);
    if (r->n_tasks > 0) note_columns(r, kv_tables_last(tables));
    if (r->n_tasks > 2) add_summary(r, tables);
    for (int64_t t = 0; r->n_budgets > 0 && t < r->n_tasks; t++) {
        struct choices choices;
        if (find_choices(r, t, &choices) == KV_OK) {
            add_budgets(r, t, &choices, tables);
            add_choices(r, t, &choices, tables);
        } else
            kv_tables_fail(tables);
        free(choices.items);
    }
    if (r->n_timings > 1) add_lengths(r, tables);
    if (r->n_timings > 0) add_timings(r, tables);
    kv_results_error_tables(r, tables);
}
