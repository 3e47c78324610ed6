// Costs come from divisions, so a budget of 0.5 must take what costs 0.5 but for rounding.
#include "eval/statistics/budget.h"

#include <math.h>
#include <string.h>

int64_t kv_budget_families(const kv_budget_candidate *candidates, int64_t n, int64_t *family_of) {
    int64_t n_families = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t first = 0;
        while (strcmp(candidates[first].family, candidates[i].family) != 0) first++;
        family_of[i] = first == i ? n_families++ : family_of[first];
    }
    return n_families;
}

static bool better(const kv_budget_candidate *a, const kv_budget_candidate *b) {
    return a->score > b->score || (a->score == b->score && a->cost < b->cost);
}

void kv_budget_best(const kv_budget_candidate *candidates, int64_t n, const int64_t *family_of,
                    int64_t n_families, double budget, int64_t *best) {
    for (int64_t f = 0; f < n_families; f++) best[f] = -1;
    for (int64_t i = 0; i < n; i++) {
        const kv_budget_candidate *own = &candidates[i];
        if (!isfinite(own->score) || !isfinite(own->cost) || own->cost > budget * (1 + 1e-9)) continue;
        int64_t *held = &best[family_of[i]];
        if (*held < 0 || better(own, &candidates[*held])) *held = i;
    }
}

void kv_pareto_front(const double *cost, const double *score, int64_t n, bool *on_front) {
    for (int64_t i = 0; i < n; i++) {
        on_front[i] = isfinite(cost[i]) && isfinite(score[i]);
        for (int64_t j = 0; on_front[i] && j < n; j++) {
            if (!isfinite(cost[j]) || !isfinite(score[j])) continue;
            const bool as_good = cost[j] <= cost[i] && score[j] >= score[i];
            on_front[i] = !(as_good && (cost[j] < cost[i] || score[j] > score[i]));
        }
    }
}
