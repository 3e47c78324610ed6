// Each way to read a prompt, layer by layer as infer/session reads it. A test counts the products of real
// prefills and finds the same numbers.
#include "infer/cost.h"

#include "core/flops.h"

// The first quarter of the layers on all of the prompt, ranking included; the last of them up to its
// attention's probabilities.
static uint64_t static_scores(const kv_model_spec *spec, int64_t n) {
    const int64_t last = kv_static_layers(spec->n_layers) - 1;
    uint64_t sum = kv_flops_queries_keys(spec, last, n) + kv_flops_importance(spec, last, n, 0);
    for (int64_t i = 0; i < last; i++)
        sum += kv_flops_layer(spec, i, n, 0) + kv_flops_importance(spec, i, n, 0);
    return sum;
}

// The aux's prefill, and its look-ahead: each token is decoded, but for the last one's way beyond the last
// layer's probabilities.
static uint64_t speculative_scores(const kv_model_spec *aux, int64_t lookahead, int64_t n) {
    const int64_t last = aux->n_layers - 1;
    uint64_t sum = kv_flops_prefill(aux, n);
    for (int64_t step = 0; step < lookahead; step++) {
        const int64_t cached = n + step;
        const bool whole = step + 1 < lookahead;
        for (int64_t i = 0; i <= last; i++) {
            sum += kv_flops_importance(aux, i, 1, cached);
            sum += i < last || whole ? kv_flops_layer(aux, i, 1, cached) : kv_flops_queries_keys(aux, i, 1);
        }
        if (whole) sum += kv_flops_head(aux);
    }
    return sum;
}

// Layer by layer as many tokens as are still active; where some go, the newest one's attention to all of them
// is worked out once more for the ranking.
static uint64_t lazy_prefill(const kv_model_spec *spec, const kv_pruning *pruning, int64_t n) {
    const int64_t last = spec->n_layers - 1;
    uint64_t sum = kv_flops_head(spec);
    for (int64_t i = 0; i < last; i++) {
        const int64_t active = kv_lazy_kept(pruning, spec->n_layers, i, n);
        const int64_t next = kv_lazy_kept(pruning, spec->n_layers, i + 1, n);
        sum += kv_flops_layer(spec, i, active, 0);
        if (next < active) sum += kv_flops_importance(spec, i, 1, active - 1);
    }
    return sum + kv_flops_last_layer(spec, kv_lazy_kept(pruning, spec->n_layers, last, n));
}

uint64_t kv_system_flops(const kv_system *system, int64_t n) {
    const kv_model_spec *base = &system->base->spec;
    const kv_pruning pruning = kv_pruning_resolved(&system->pruning);
    const int64_t kept = kv_pruning_kept(&pruning, n);
    if (system->predictor) return kv_flops_kvp_prefill(base, &system->aux->spec, system->predictor, n);
    if (pruning.kind == KV_PRUNE_LAZY) return lazy_prefill(base, &pruning, n);
    uint64_t sum = kv_flops_prefill(base, kept);
    if (kept == n) return sum; // nothing to choose
    if (pruning.kind == KV_PRUNE_STATIC) sum += static_scores(base, n);
    if (pruning.kind == KV_PRUNE_SPECULATIVE)
        sum += speculative_scores(&system->aux->spec, pruning.lookahead, n);
    return sum;
}

double kv_system_paper_reduction(const kv_system *system, const kv_system *base) {
    const kv_model_spec *aux = system->aux ? &system->aux->spec : NULL;
    const kv_model_spec *reader = system->predictor ? aux : &system->base->spec;
    return kv_paper_reduction(&base->base->spec, reader) *
           kv_pruning_paper_reduction(&system->pruning, &system->base->spec, aux);
}
