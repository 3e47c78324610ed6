// From results to the rows that eval/statistics/budget.h compares.
#include "eval/results/selection.h"

#include "eval/statistics/budget.h"

#include <stdlib.h>

// Every system as a candidate: what it costs of its own base's FLOPs, and what it scores. Caller frees.
static kv_budget_candidate *make_candidates(const kv_results *results, int64_t task) {
    kv_budget_candidate *all = calloc((size_t)results->n_systems + 1, sizeof *all);
    const kv_metric *metric = kv_metric_of(results->tasks[task].metrics[0]);
    for (int64_t s = 0; all && s < results->n_systems; s++) {
        const kv_outcome *o = kv_results_outcome(results, s, task);
        all[s] = (kv_budget_candidate){.family = results->systems[s].family,
                                       .cost = 1 / o->exact_reduction,
                                       .score = kv_metric_score(metric, o->figures[0].accuracy)};
    }
    return all;
}

bool kv_results_front(const kv_results *results, int64_t task, bool *on_front) {
    kv_budget_candidate *all = make_candidates(results, task);
    double *numbers = calloc(2 * (size_t)results->n_systems + 1, sizeof *numbers);
    const bool ok = all && numbers;
    for (int64_t s = 0; ok && s < results->n_systems; s++)
        numbers[s] = all[s].cost, numbers[results->n_systems + s] = all[s].score;
    if (ok) kv_pareto_front(numbers, numbers + results->n_systems, results->n_systems, on_front);
    free(all);
    free(numbers);
    return ok;
}

kv_status kv_results_choose(const kv_results *results, int64_t task, kv_budget_choice_fn *each, void *context,
                            kv_error *err) {
    const int64_t n = results->n_systems;
    kv_budget_candidate *all = make_candidates(results, task);
    int64_t *family_of = calloc(2 * (size_t)n + 1, sizeof *family_of);
    kv_status status =
        all && family_of ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the budgets");
    const int64_t n_families = status == KV_OK ? kv_budget_families(all, n, family_of) : 0;
    for (int64_t b = 0; status == KV_OK && b < results->n_budgets; b++) {
        int64_t *best = family_of + n;
        kv_budget_best(all, n, family_of, n_families, results->budgets[b], best);
        for (int64_t f = 0; f < n_families; f++) {
            if (best[f] < 0) continue;
            each(&(kv_budget_choice){.budget = results->budgets[b],
                                     .task = &results->tasks[task],
                                     .family = all[best[f]].family,
                                     .system = &results->systems[best[f]],
                                     .figure = &kv_results_outcome(results, best[f], task)->figures[0],
                                     .fraction = all[best[f]].cost},
                 context);
        }
    }
    free(all);
    free(family_of);
    return status;
}
