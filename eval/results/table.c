// What a person reads first: widths are those of the longest cell, and a number that could not be had is a
// dash.
#include "data/system/table.h"
#include "core/text.h"
#include "eval/results/results.h"
#include "eval/results/selection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// `format` prints one double; what could not be had is "-".
__attribute__((format(printf, 2, 0))) static void number_cell(kv_table *table, const char *format,
                                                              double value) {
    char text[32] = "-";
    if (isfinite(value)) snprintf(text, sizeof text, format, value);
    kv_table_cell(table, "%s", text);
}

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
    kv_table_column(table, "FLOPs reduction", "paper", false);
    kv_table_column(table, "FLOPs reduction", "exact", false);
    if (has_lookups(r) && r->n_tasks > 0) {
        kv_table_column(table, "FLOPs reduction", "computed", false);
        kv_table_column(table, "FLOPs reduction", "looked up", false);
    }
    if (has_lookups(r)) kv_table_column(table, "lookups", "a token", false);
    if (r->n_timings == 0) return;
    char heading[96];
    snprintf(heading, sizeof heading, "time to first token, %lld x %lld", (long long)r->timings[0].batch_size,
             (long long)r->timings[0].prompt_tokens);
    kv_table_column(table, heading, "ms", false);
    kv_table_column(table, heading, "reduction", false);
}

static void lookup_cells(kv_table *table, const kv_results *r, int64_t system, int64_t task) {
    const kv_result_system *s = &r->systems[system];
    if (r->n_tasks > 0) {
        const double base = kv_results_outcome(r, s->base, task)->flops;
        const kv_outcome *o = kv_results_outcome(r, system, task);
        number_cell(table, "%.2fx", base / o->flops_computed);
        number_cell(table, "%.2fx", base / o->flops_looked_up);
    }
    number_cell(table, "%.0f", s->lookups);
}

static void cost_cells(kv_table *table, const kv_results *r, int64_t system, int64_t task) {
    number_cell(table, "%.2fx", kv_result_reduction(r, system, task, true));
    number_cell(table, "%.2fx", kv_result_reduction(r, system, task, false));
    if (has_lookups(r)) lookup_cells(table, r, system, task);
    if (r->n_timings == 0) return;
    const kv_timing *t = &r->timings[0];
    if (isfinite(t->seconds[system]))
        kv_table_cell(table, "%.2f ± %.2f", 1e3 * t->seconds[system], 1e3 * t->spread[system]);
    else
        kv_table_cell(table, "-");
    number_cell(table, "%.2fx", t->reduction[system]);
}

static void figure_cell(kv_table *table, const kv_metric *metric, const kv_outcome *o, double figure) {
    char text[KV_METRIC_TEXT];
    kv_table_cell(table, "%s", o->not_finite ? KV_NOT_FINITE : kv_metric_text(metric, figure, text));
}

static void interval_cell(kv_table *table, const kv_metric *metric, double low, double high) {
    char text[KV_METRIC_TEXT];
    kv_table_cell(table, "%s", kv_metric_interval_text(metric, low, high, text));
}

// The ends of a perplexity are e to those of the nats beside it: the table is wide enough without.
static bool has_interval(const kv_metric *metric, int m) {
    return m == 0 || !metric->perplexity;
}

static void figure_cells(kv_table *table, const kv_metric *metric, const kv_outcome *o, int m) {
    static const kv_metric kept = {.share = true};
    const kv_figure *f = &o->figures[m];
    char text[KV_METRIC_TEXT];
    figure_cell(table, metric, o, f->accuracy);
    if (has_interval(metric, m)) interval_cell(table, metric, f->low, f->high);
    if (m > 0) return;
    kv_table_cell(table, "%s", kv_metric_text(&kept, f->retention, text));
    interval_cell(table, &kept, f->retention_low, f->retention_high);
    if (f->p_value < 0.001)
        kv_table_cell(table, "<0.001");
    else
        number_cell(table, "%.3f", f->p_value);
}

static void name_columns(kv_table *table) {
    kv_table_column(table, "", "", true);
    kv_table_column(table, "", "system", true);
    kv_table_column(table, "", "family", true);
}

static void name_cells(kv_table *table, const kv_result_system *system, bool on_front) {
    kv_table_cell(table, "%s", on_front ? "*" : "");
    kv_table_cell(table, "%s", system->name);
    kv_table_cell(table, "%s", system->family);
}

// Why a row has no score, and that without the base's nothing can be compared.
static void print_not_finite(const kv_results *r, int64_t task, FILE *out) {
    for (int64_t s = 0; s < r->n_systems; s++) {
        const kv_outcome *o = kv_results_outcome(r, s, task);
        if (!o->not_finite) continue;
        fprintf(out, "%s is not finite: %s%s\n", r->systems[s].name, o->not_finite,
                r->systems[s].base == s ? "; it is the base: nothing can be compared with it" : "");
    }
}

// How many programs of a system had changed the rules, and what: the first few that differ.
static void print_redefined(const kv_results *r, int64_t task, FILE *out) {
    enum { FEW = 3 };
    for (int64_t s = 0; s < r->n_systems; s++) {
        const kv_outcome *o = kv_results_outcome(r, s, task);
        const char *shown[FEW];
        size_t lengths[FEW], length;
        int n = 0;
        if (o->redefined == 0) continue;
        fprintf(out,
                "%s: %lld of %lld programs redefine what their tests rely on, which its score does not show:",
                r->systems[s].name, (long long)o->redefined, (long long)r->tasks[task].n_units);
        for (int64_t u = 0; o->records && u < r->tasks[task].n_units && n < FEW; u++) {
            const char *names = kv_record_redefines(o->records[u], &length);
            bool fresh = names != NULL;
            for (int i = 0; fresh && i < n; i++)
                fresh = length != lengths[i] || memcmp(names, shown[i], length);
            if (!fresh) continue;
            fprintf(out, "%s %.*s", n ? ";" : "", (int)length, names);
            shown[n] = names, lengths[n++] = length;
        }
        fputc('\n', out);
    }
}

static void metric_columns(kv_table *table, const kv_results *r, int64_t task, int m) {
    const char *group = metric_of(r, task, m)->group ? metric_of(r, task, m)->group : "";
    kv_table_column(table, group, metric_word(r, task, m, true), false);
    if (has_interval(metric_of(r, task, m), m)) kv_table_column(table, group, "95 %", false);
    if (m > 0) return;
    kv_table_column(table, group, "kept", false);
    kv_table_column(table, group, "95 %", false);
    kv_table_column(table, group, "p", false);
}

static bool lower_is_better(const kv_results *r, int64_t task) {
    return metric_of(r, task, 0)->lower_is_better;
}

static void print_task(const kv_results *r, int64_t task, FILE *out) {
    const kv_result_task *t = &r->tasks[task];
    bool *front = calloc((size_t)r->n_systems + 1, sizeof *front);
    kv_table *table = front && kv_results_front(r, task, front) ? kv_table_create() : NULL;
    if (table) name_columns(table);
    for (int m = 0; m < t->n_metrics; m++) metric_columns(table, r, task, m);
    if (table) cost_columns(table, r);
    for (int64_t s = 0; table && s < r->n_systems; s++) {
        const kv_outcome *o = kv_results_outcome(r, s, task);
        if (!o->values && !o->not_finite) continue;
        name_cells(table, &r->systems[s], front[s]);
        for (int m = 0; m < t->n_metrics; m++) figure_cells(table, metric_of(r, task, m), o, m);
        cost_cells(table, r, s, task);
    }
    char items[KV_TASK_ITEMS];
    fprintf(out, "%s, %s: %s, %sprompts of %.0f tokens%s\n", t->name, t->split, kv_task_items(t, items),
            t->chat ? "chat " : "", t->prompt_tokens, lower_is_better(r, task) ? "; lower is better" : "");
    kv_table_print(table, out);
    print_not_finite(r, task, out);
    print_redefined(r, task, out);
    kv_table_free(table);
    free(front);
}

// ---- All tasks at once ---------------------------------------------------------------------------------

static void print_costs(const kv_results *r, FILE *out) {
    kv_table *table = kv_table_create();
    name_columns(table);
    cost_columns(table, r);
    for (int64_t s = 0; s < r->n_systems; s++) {
        name_cells(table, &r->systems[s], false);
        cost_cells(table, r, s, 0);
    }
    kv_table_print(table, out);
    kv_table_free(table);
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
static void print_summary(const kv_results *r, FILE *out) {
    const int64_t n_shares = count_shares(r);
    kv_table *table = kv_table_create();
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
        name_cells(table, &r->systems[s], false);
        for (int64_t t = 0; t < r->n_tasks; t++) {
            const kv_outcome *o = kv_results_outcome(r, s, t);
            const int m = summary_metric(r, t);
            const kv_metric *metric = metric_of(r, t, m);
            const double figure = o->figures[m].accuracy;
            if (metric->share && !o->not_finite)
                number_cell(table, "%.1f", 100 * figure);
            else
                figure_cell(table, metric, o, figure);
            sum += metric->share ? figure : 0;
        }
        if (n_shares > 1) number_cell(table, "%.1f", 100 * sum / (double)n_shares);
        number_cell(table, "%.2fx", kv_result_reduction(r, s, 0, true));
    }
    fprintf(out, "all tasks, first metric of each%s%s; the paper's reduction of FLOPs\n",
            any_nats(r) ? ", of nats their perplexity" : "",
            n_shares == r->n_tasks ? " in %"
            : n_shares > 1         ? ": shares in %, and only they are averaged"
            : n_shares > 0         ? ": shares in %"
                                   : "");
    kv_table_print(table, out);
    kv_table_free(table);
}

// Prompt lengths downwards, systems to the right would be too wide: one row a system and batch size.
static void print_grid(const kv_results *r, FILE *out) {
    kv_table *table = kv_table_create();
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
                kv_table_cell(table, "%.*f (%.2fx)", decimals, ms, t->reduction[s]);
            else if (isfinite(ms))
                kv_table_cell(table, "%.*f", decimals, ms);
            else
                kv_table_cell(table, "-");
        }
    }
    fputs("time to first token in ms (reduction)\n", out);
    kv_table_print(table, out);
    kv_table_free(table);
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

// Families downwards, budgets to the right.
static void print_budgets(const kv_results *r, int64_t task, FILE *out) {
    struct choices c = {.room = (size_t)(r->n_systems * r->n_budgets)};
    c.items = calloc(c.room + 1, sizeof *c.items);
    kv_table *table =
        c.items && kv_results_choose(r, task, collect, &c, NULL) == KV_OK ? kv_table_create() : NULL;
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
            const kv_budget_choice *best = find_choice(&c, r->budgets[b], r->systems[s].family);
            char text[KV_METRIC_TEXT];
            kv_table_cell(table, "%s", best ? best->system->name : "-");
            kv_table_cell(table, "%s",
                          kv_metric_text(metric_of(r, task, 0), best ? best->figure->accuracy : NAN, text));
        }
    }
    fprintf(out, "%s, %s: the best of each family within a budget of FLOPs to the first token%s\n",
            r->tasks[task].name, r->tasks[task].split, lower_is_better(r, task) ? "; lower is better" : "");
    kv_table_print(table, out);
    kv_table_free(table);
    free(c.items);
}

void kv_results_print(const kv_results *r, FILE *out) {
    if (r->n_tasks == 0) print_costs(r, out);
    for (int64_t t = 0; t < r->n_tasks; t++) {
        if (t > 0) fputc('\n', out);
        print_task(r, t, out);
    }
    if (r->n_tasks > 0) {
        const char *kept[] = {"", "", ""};
        for (int64_t t = 0; t < r->n_tasks; t++) {
            if (!metric_of(r, t, 0)->nats) kept[0] = "share of the base's";
            if (metric_of(r, t, 0)->nats) kept[2] = "of nats the base's perplexity over the system's";
        }
        if (*kept[0] && *kept[2]) kept[1] = "; ";
        fprintf(
            out,
            "* on the Pareto front of exact FLOPs and the first metric; kept: %s%s%s; p: paired test against the "
            "base\n",
            kept[0], kept[1], kept[2]);
    }
    if (r->n_tasks > 2) {
        fputc('\n', out);
        print_summary(r, out);
    }
    for (int64_t t = 0; r->n_budgets > 0 && t < r->n_tasks; t++) {
        fputc('\n', out);
        print_budgets(r, t, out);
    }
    if (r->n_timings > 1) {
        fputc('\n', out);
        print_grid(r, out);
    }
    if (r->analysis.corpus) {
        fputc('\n', out);
        kv_results_print_errors(r, out);
    }
}
