// What a budget of FLOPs to the first token buys: the best system of each family within it, and the systems
// that no other beats.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_budget_candidate {
    const char *family;
    double cost;  // FLOPs to the first token over the base's
    double score; // more is better
} kv_budget_candidate;

// Numbers the families in order of first appearance into family_of[n] and returns how many there are.
int64_t kv_budget_families(const kv_budget_candidate *candidates, int64_t n, int64_t *family_of);

// best[n_families]: the row with the highest score of those with cost <= budget (up to a rounding error, 1e-9
// of it), of equal ones the cheaper, then the earlier; -1 where nothing fits. Rows whose cost or score is not
// finite never do.
void kv_budget_best(const kv_budget_candidate *candidates, int64_t n, const int64_t *family_of,
                    int64_t n_families, double budget, int64_t *best);

// Marks the rows that nobody beats: none costs at most as much and scores at least as high, and is better in
// one of the two. Equal rows are marked both; rows whose cost or score is not finite neither are marked nor
// beat any.
void kv_pareto_front(const double *cost, const double *score, int64_t n, bool *on_front);
