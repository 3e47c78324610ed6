// Several evaluations become one: rows and columns that are the same are laid over each other.
#include "eval/results/results.h"

#include "data/system/buffers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Where the rows and columns of both sides lie in the joined results.
struct plan {
    const kv_results *side[2];
    int64_t *system[2], *task[2]; // [n of that side]
    int64_t n_systems, n_tasks;
};

static bool same_task(const kv_result_task *a, const kv_result_task *b) {
    return !strcmp(a->name, b->name) && !strcmp(a->split, b->split) && !strcmp(a->hash, b->hash);
}

bool kv_result_tokenizers_differ(const kv_result_system *a, const kv_result_system *b) {
    return *a->tokenizer && *b->tokenizer && strcmp(a->tokenizer, b->tokenizer) != 0;
}

static bool same_system(const kv_results *a, int64_t i, const kv_results *b, int64_t j) {
    const kv_result_system *x = &a->systems[i], *y = &b->systems[j];
    return *x->hash && !strcmp(x->name, y->name) && !strcmp(x->hash, y->hash) &&
           !strcmp(a->systems[x->base].hash, b->systems[y->base].hash) && !kv_result_tokenizers_differ(x, y);
}

static bool make_plan(struct plan *p, const kv_results *first, const kv_results *second) {
    *p = (struct plan){.side = {first, second}};
    for (int side = 0; side < 2; side++) {
        p->system[side] = calloc((size_t)p->side[side]->n_systems + 1, sizeof(int64_t));
        p->task[side] = calloc((size_t)p->side[side]->n_tasks + 1, sizeof(int64_t));
        if (!p->system[side] || !p->task[side]) return false;
    }
    for (int64_t i = 0; i < first->n_systems; i++) p->system[0][i] = i;
    for (int64_t i = 0; i < first->n_tasks; i++) p->task[0][i] = i;
    p->n_systems = first->n_systems, p->n_tasks = first->n_tasks;
    for (int64_t j = 0; j < second->n_systems; j++) {
        int64_t i = 0;
        while (i < first->n_systems && !same_system(first, i, second, j)) i++;
        p->system[1][j] = i < first->n_systems ? i : p->n_systems++;
    }
    for (int64_t j = 0; j < second->n_tasks; j++) {
        int64_t i = 0;
        while (i < first->n_tasks && !same_task(&first->tasks[i], &second->tasks[j])) i++;
        p->task[1][j] = i < first->n_tasks ? i : p->n_tasks++;
    }
    return true;
}

static void free_plan(struct plan *p) {
    for (int side = 0; side < 2; side++) {
        free(p->system[side]);
        free(p->task[side]);
    }
}

// ---- Names ---------------------------------------------------------------------------------------------

// A copy of `name` with " (2)", " (3)", … behind it when one of the texts taken[n] is the same.
static char *fresh_name(const char *name, char *const *taken, int64_t n) {
    char *copy = strdup(name);
    for (int64_t number = 2; copy; number++) {
        int64_t i = 0;
        while (i < n && (!taken[i] || strcmp(taken[i], copy) != 0)) i++;
        if (i == n) return copy;
        free(copy);
        if (asprintf(&copy, "%s (%lld)", name, (long long)number) < 0) copy = NULL;
    }
    return NULL;
}

static bool copy_system(kv_results *joined, const kv_result_system *from, int64_t base, int64_t at) {
    kv_result_system *to = &joined->systems[at];
    if (to->name && !*to->tokenizer) memcpy(to->tokenizer, from->tokenizer, sizeof to->tokenizer);
    if (to->name) return true;
    char **taken = calloc((size_t)at + 1, sizeof *taken);
    if (!taken) return false;
    for (int64_t i = 0; i < at; i++) taken[i] = joined->systems[i].name;
    *to = *from;
    to->base = base;
    to->name = fresh_name(from->name, taken, at);
    to->family = strdup(from->family);
    free(taken);
    return to->name && to->family;
}

// NULL of NULL, and when out of memory.
static double *copy_numbers(const double *from, int64_t n) {
    double *to = from ? malloc((size_t)n * sizeof *to + 1) : NULL;
    return to ? memcpy(to, from, (size_t)n * sizeof *to) : NULL;
}

static bool copy_task(kv_results *joined, const kv_result_task *from, int64_t at) {
    kv_result_task *to = &joined->tasks[at];
    if (to->name) return true;
    char **taken = calloc((size_t)at + 1, sizeof *taken);
    if (!taken) return false;
    for (int64_t i = 0; i < at; i++)
        if (!strcmp(joined->tasks[i].name, from->name)) taken[i] = joined->tasks[i].split;
    *to = *from;
    to->weights = copy_numbers(from->weights, from->n_items);
    const bool grid = kv_grid_items_copy(&to->grid, &from->grid, from->n_items, from->n_skipped);
    to->split = fresh_name(from->split, taken, at);
    to->name = strdup(from->name), to->kind = strdup(from->kind), to->file = strdup(from->file);
    free(taken);
    return grid && to->name && to->split && to->kind && to->file && (to->weights || !from->weights);
}

// ---- Content -------------------------------------------------------------------------------------------

static bool copy_outcome(kv_outcome *to, const kv_outcome *from, const kv_result_task *task) {
    if (!isfinite(to->flops)) to->flops = from->flops;
    if (!isfinite(to->flops_computed)) to->flops_computed = from->flops_computed;
    if (!isfinite(to->flops_looked_up)) to->flops_looked_up = from->flops_looked_up;
    if (!to->item_flops) to->item_flops = copy_numbers(from->item_flops, task->n_items);
    if (from->item_flops && !to->item_flops) return false;
    if (to->values || to->not_finite) return true;
    if (from->not_finite) {
        to->not_finite = strdup(from->not_finite);
        return to->not_finite != NULL;
    }
    if (!from->values) return true;
    const size_t n_values = (size_t)(task->n_metrics * task->n_items);
    to->values = malloc(n_values * sizeof *to->values + 1);
    to->records = calloc((size_t)task->n_units + 1, sizeof *to->records);
    if (!to->values || !to->records) return false;
    memcpy(to->values, from->values, n_values * sizeof *to->values);
    for (int64_t u = 0; u < task->n_units; u++) {
        to->records[u] = strdup(from->records[u]);
        if (!to->records[u]) return false;
    }
    return true;
}

static kv_timing *find_timing(const kv_results *results, const kv_timing *like) {
    for (int64_t i = 0; i < results->n_timings; i++) {
        kv_timing *timing = &results->timings[i];
        if (timing->prompt_tokens == like->prompt_tokens && timing->batch_size == like->batch_size &&
            timing->repeats == like->repeats)
            return timing;
    }
    return NULL;
}

static bool copy_timing(kv_results *joined, const kv_results *side, const int64_t *place,
                        const kv_timing *from) {
    kv_timing *to = find_timing(joined, from);
    if (!to) to = kv_results_add_timing(joined, from->prompt_tokens, from->batch_size, from->repeats);
    if (!to) return false;
    for (int64_t s = 0; s < side->n_systems; s++) {
        const int64_t at = place[s];
        if (isfinite(to->seconds[at])) continue;
        to->seconds[at] = from->seconds[s], to->spread[at] = from->spread[s];
        to->reduction[at] = from->reduction[s], to->flops[at] = from->flops[s];
        memcpy(to->samples + at * to->repeats, from->samples + s * from->repeats,
               (size_t)to->repeats * sizeof *to->samples);
    }
    return true;
}

// Behind all[*n], unless it is among them.
static bool copy_once(char ***all, int64_t *n, const char *text) {
    for (int64_t i = 0; i < *n; i++)
        if (!strcmp((*all)[i], text)) return true;
    char **more = kv_room_for_one(*all, (size_t)*n, sizeof *more);
    if (!more) return false;
    *all = more;
    more[*n] = strdup(text);
    return more[*n] && ++*n;
}

static bool copy_side(kv_results *joined, const struct plan *p, int side) {
    const kv_results *from = p->side[side];
    bool ok = true;
    for (int64_t s = 0; s < from->n_systems && ok; s++)
        ok = copy_system(joined, &from->systems[s], p->system[side][from->systems[s].base],
                         p->system[side][s]);
    for (int64_t t = 0; t < from->n_tasks && ok; t++)
        ok = copy_task(joined, &from->tasks[t], p->task[side][t]);
    for (int64_t s = 0; s < from->n_systems; s++)
        for (int64_t t = 0; t < from->n_tasks && ok; t++)
            ok = copy_outcome(kv_results_outcome(joined, p->system[side][s], p->task[side][t]),
                              kv_results_outcome(from, s, t), &from->tasks[t]);
    for (int64_t i = 0; i < from->n_timings && ok; i++)
        ok = copy_timing(joined, from, p->system[side], &from->timings[i]);
    for (int64_t i = 0; i < from->n_configs && ok; i++)
        ok = copy_once(&joined->configs, &joined->n_configs, from->configs[i]);
    for (int64_t i = 0; i < from->n_made_by && ok; i++)
        ok = copy_once(&joined->made_by, &joined->n_made_by, from->made_by[i]);
    if (ok)
        ok = kv_analysis_merge(&joined->analysis, joined->n_systems, &from->analysis, from->n_systems,
                               p->system[side]);
    return ok;
}

kv_status kv_results_join(kv_results *results, const kv_results *more, kv_error *err) {
    struct plan p;
    kv_results joined = {0};
    bool ok = make_plan(&p, results, more);
    kv_status status = ok ? kv_results_init(&joined, p.n_systems, p.n_tasks, err)
                          : kv_fail(err, KV_ERR_MEMORY, "out of memory for the results");
    if (status == KV_OK) {
        joined.seed = results->seed, joined.bootstrap = results->bootstrap;
        joined.budgets = malloc((size_t)results->n_budgets * sizeof *joined.budgets + 1);
        ok = joined.budgets && copy_side(&joined, &p, 0) && copy_side(&joined, &p, 1);
        if (!ok) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the results");
    }
    if (status == KV_OK) {
        joined.n_budgets = results->n_budgets;
        memcpy(joined.budgets, results->budgets, (size_t)joined.n_budgets * sizeof *joined.budgets);
        status = kv_results_derive(&joined, err);
    }
    free_plan(&p);
    if (status == KV_OK) {
        kv_results_free(results);
        *results = joined;
    } else {
        kv_results_free(&joined);
    }
    return status;
}
