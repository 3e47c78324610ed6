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

uint64_t kv_system_turn_flops(const kv_system *system, int64_t n, int64_t cached, int64_t unread) {
    const kv_model_spec *base = &system->base->spec;
    if (cached == 0) return kv_system_flops(system, n);
    return system->predictor
               ? kv_flops_kvp_prefill_behind(base, &system->aux->spec, system->predictor, n, cached, unread)
               : kv_flops_prefill_behind(base, n, cached);
}

// No token goes through a layer twice: beside the new ones those of the prompt that stopped before it may come. The
// last step's context is the longest, and has the most keys.
static uint64_t lazy_steps(const kv_model_spec *spec, const kv_pruning *pruning, int64_t n_prompt,
                           int64_t n_steps) {
    const int64_t n = n_prompt + n_steps;
    uint64_t sum = (uint64_t)n_steps * kv_flops_head(spec);
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const int64_t active = kv_lazy_kept(pruning, spec->n_layers, i, n);
        const int64_t next =
            i + 1 < spec->n_layers ? kv_lazy_kept(pruning, spec->n_layers, i + 1, n) : active;
        const int64_t stopped = n_prompt - kv_lazy_kept(pruning, spec->n_layers, i, n_prompt);
        sum += (uint64_t)(n_steps + stopped) * kv_flops_layer(spec, i, 1, active - 1);
        if (next < active) sum += (uint64_t)n_steps * kv_flops_importance(spec, i, 1, active - 1);
    }
    return sum;
}

uint64_t kv_system_decode_flops(const kv_system *system, int64_t n_prompt, int64_t n_answer) {
    const kv_model_spec *base = &system->base->spec;
    const kv_pruning pruning = kv_pruning_resolved(&system->pruning);
    const int64_t steps = n_answer - 1, cached = kv_pruning_kept(&pruning, n_prompt);
    if (steps < 1) return 0;
    if (pruning.kind == KV_PRUNE_LAZY) return lazy_steps(base, &pruning, n_prompt, steps);
    // Each step costs as much more than the one before it.
    const kv_predictor *predictor = n_prompt > 1 ? system->predictor : NULL;
    return (uint64_t)steps *
           (kv_flops_kvp_decode(base, predictor, cached) +
            kv_flops_kvp_decode(base, predictor, cached + steps - 1)) /
           2;
}

uint64_t kv_system_score_flops(const kv_system *system, int64_t n, int64_t n_scored) {
    const kv_model_spec *base = &system->base->spec;
    if (n_scored < 1) return 0;
    if (system->pruning.kind != KV_PRUNE_NONE)
        return kv_system_flops(system, n - n_scored) + kv_system_decode_flops(system, n - n_scored, n_scored);
    const uint64_t read = system->predictor
                              ? kv_flops_kvp_read(base, &system->aux->spec, system->predictor, n - 1)
                              : kv_flops_read(base, n - 1, 0);
    return read + (uint64_t)n_scored * kv_flops_head(base);
}

uint64_t kv_system_behind_flops(const kv_system *system, int64_t n, int64_t n_scored) {
    const kv_model_spec *base = &system->base->spec;
    const kv_pruning pruning = kv_pruning_resolved(&system->pruning);
    const int64_t prompt = n - n_scored, behind = n_scored - 1;
    if (n_scored < 1) return 0;
    const uint64_t first = kv_system_flops(system, prompt);
    if (pruning.kind == KV_PRUNE_LAZY) return first + kv_system_decode_flops(system, prompt, n_scored);
    if (behind < 1) return first;
    const uint64_t queries = system->predictor && prompt > 1
                                 ? kv_flops_predictor_queries(system->predictor, base, base->n_layers, behind)
                                 : 0;
    return first + kv_flops_read(base, behind, kv_pruning_kept(&pruning, prompt)) + queries +
           (uint64_t)behind * kv_flops_head(base);
}

// The base reads on to the prefix; behind it layers run twice: without keys and values of their own on all tokens, with
// them on those of the tail.
uint64_t kv_system_prefix_flops(const kv_system *system, int64_t from, int64_t window, int64_t n_scored) {
    const kv_model_spec *base = &system->base->spec;
    const kv_predictor *p = system->predictor;
    const int64_t prefix = p->spec.prefix_layers, n = window - 1;
    uint64_t sum = kv_flops_predictor_maps(p, base, n) +
                   kv_flops_predictor_queries(p, base, base->n_layers, n + n_scored) +
                   (uint64_t)(n + n_scored) * kv_flops_head(base);
    for (int64_t i = from; i < prefix; i++) sum += kv_flops_layer(base, i, n, 0);
    for (int64_t i = prefix; i < base->n_layers; i++)
        sum += kv_flops_layer(base, i, n, 0) - kv_flops_layer_parts(base, i, n, KV_READ_K | KV_READ_V) +
               kv_flops_layer(base, i, n_scored, n - n_scored);
    return sum;
}

// What of a prompt's products depends on the token alone; of tabulated predictors, what of them is not executed.
static uint64_t token_flops(const kv_system *system, int64_t n, bool tabulated) {
    const kv_predictor *p = system->predictor;
    return p && n > 1 && p->tabulated == tabulated ? kv_flops_predictor_tokens(p, &system->base->spec, n - 1)
                                                   : 0;
}

uint64_t kv_system_flops_computed(const kv_system *system, int64_t n) {
    return kv_system_flops(system, n) + token_flops(system, n, true);
}

uint64_t kv_system_flops_looked_up(const kv_system *system, int64_t n) {
    return kv_system_flops(system, n) - token_flops(system, n, false);
}

int64_t kv_system_lookups(const kv_system *system) {
    return system->predictor ? kv_predictor_lookups(system->predictor, &system->base->spec) : 0;
}

double kv_system_paper_reduction(const kv_system *system, const kv_system *base) {
    const kv_model_spec *aux = system->aux ? &system->aux->spec : NULL;
    kv_model_spec reader = system->predictor ? *aux : system->base->spec;
    // Of a prefix the layers that read the prompt.
    if (system->predictor && system->predictor->spec.prefix_layers > 0)
        reader.n_layers = system->predictor->spec.prefix_layers;
    return kv_paper_reduction(&base->base->spec, &reader) *
           kv_pruning_paper_reduction(&system->pruning, &system->base->spec, aux);
}
