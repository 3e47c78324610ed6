// Both ways are the same selection, in which the chosen ones are kept in the regression or are not.
#include "core/predictor/ranking.h"

#include <math.h>

static bool is_among(const int32_t *order, int64_t n, int32_t source) {
    for (int64_t i = 0; i < n; i++)
        if (order[i] == source) return true;
    return false;
}

// By insertion, which keeps the order of equals.
static void sort_falling(const double *explained, int32_t n_sources, int64_t n, int32_t *order) {
    int64_t known = 0;
    for (int32_t source = 0; source < n_sources; source++) {
        int64_t at = known;
        while (at > 0 && explained[order[at - 1]] < explained[source]) at--;
        if (at == n) continue;
        if (known < n) known++;
        for (int64_t i = known - 1; i > at; i--) order[i] = order[i - 1];
        order[at] = source;
    }
}

static kv_status rank(const kv_least_squares *ls, kv_side side, int64_t layer, double ridge, int64_t n,
                      int32_t *order, kv_error *err) {
    const int32_t n_sources = kv_least_squares_sources(ls, side, layer)->n;
    double alone[KV_MAX_SOURCES];
    for (int32_t source = 0; source < n_sources; source++) {
        kv_explained explained;
        kv_status status =
            kv_least_squares_explain(ls, side, layer, &source, 1, ridge, NULL, &explained, err);
        if (status != KV_OK) return status;
        alone[source] = explained.fit;
    }
    sort_falling(alone, n_sources, n, order);
    return KV_OK;
}

static kv_status choose(const kv_least_squares *ls, kv_side side, int64_t layer, double ridge, int64_t n,
                        int32_t *order, kv_error *err) {
    const int32_t n_sources = kv_least_squares_sources(ls, side, layer)->n;
    for (int64_t i = 0; i < n; i++) {
        double most = -INFINITY;
        int32_t best = -1;
        for (int32_t source = 0; source < n_sources; source++) {
            kv_explained explained;
            if (is_among(order, i, source)) continue;
            order[i] = source;
            kv_status status =
                kv_least_squares_explain(ls, side, layer, order, i + 1, ridge, NULL, &explained, err);
            if (status != KV_OK) return status;
            if (best < 0 || explained.fit > most) best = source, most = explained.fit;
        }
        order[i] = best;
    }
    return KV_OK;
}

kv_status kv_rank_sources(const kv_least_squares *ls, kv_side side, int64_t layer, kv_ranking ranking,
                          double ridge, int64_t n, int32_t *order, kv_error *err) {
    if (!kv_least_squares_sources(ls, side, layer)) return KV_OK;
    return ranking == KV_GREEDY ? choose(ls, side, layer, ridge, n, order, err)
                                : rank(ls, side, layer, ridge, n, order, err);
}
