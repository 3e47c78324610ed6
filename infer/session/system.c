// Which parts make a system, and how long a text they can read.
#include "infer/session/system.h"

static kv_status check_parts(const kv_system *system, kv_error *err) {
    const bool drafts = system->pruning.kind == KV_PRUNE_SPECULATIVE;
    if (system->pruning.kind != KV_PRUNE_NONE && system->predictor)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a predicted cache has no prompt to prune: choose a predictor or pruning");
    if (drafts && !system->aux)
        return kv_fail(err, KV_ERR_ARGUMENT, "speculative pruning needs an aux that looks ahead");
    if (system->aux && !drafts && !system->predictor)
        return kv_fail(err, KV_ERR_ARGUMENT, "an aux needs a predictor");
    if (system->predictor && !system->aux)
        return kv_fail(err, KV_ERR_ARGUMENT, "a predictor needs an aux, whose cache it reads");
    return KV_OK;
}

static kv_status check_context(const kv_system *system, int64_t n_tokens, kv_error *err) {
    const int64_t base = system->base->spec.context_length, ahead = kv_pruning_lookahead(&system->pruning);
    if (n_tokens > base)
        return kv_fail(err, KV_ERR_RANGE, "%lld tokens do not fit the base's context of %lld",
                       (long long)n_tokens, (long long)base);
    if (n_tokens <= kv_system_context(system)) return KV_OK;
    const int64_t aux = system->aux->spec.context_length;
    if (ahead == 0)
        return kv_fail(err, KV_ERR_RANGE, "%lld tokens do not fit the aux's context of %lld",
                       (long long)n_tokens, (long long)aux);
    return kv_fail(err, KV_ERR_RANGE,
                   "%lld tokens and %lld to look ahead do not fit the aux's context of %lld",
                   (long long)n_tokens, (long long)ahead, (long long)aux);
}

static kv_status check_predictor(const kv_system *system, kv_error *err) {
    const kv_predictor *p = system->predictor;
    const kv_predictor_spec *spec = &p->spec;
    if (spec->prefix_layers > 0 && system->aux != system->base)
        return kv_fail(err, KV_ERR_MISMATCH,
                       "the predictor reads the base's own first %lld layers: expected no aux but the base",
                       (long long)spec->prefix_layers);
    if (spec->n_base_layers == system->base->spec.n_layers &&
        spec->n_aux_layers == system->aux->spec.n_layers)
        return KV_OK;
    return kv_fail(err, KV_ERR_MISMATCH,
                   "the predictor maps %lld aux layers to %lld base layers, the models have %lld and %lld",
                   (long long)spec->n_aux_layers, (long long)spec->n_base_layers,
                   (long long)system->aux->spec.n_layers, (long long)system->base->spec.n_layers);
}

kv_status kv_system_check(const kv_system *system, int64_t n_tokens, kv_error *err) {
    kv_status status = kv_pruning_check(&system->pruning, err);
    if (status == KV_OK) status = check_parts(system, err);
    if (status == KV_OK) status = check_context(system, n_tokens, err);
    return status == KV_OK && system->predictor ? check_predictor(system, err) : status;
}

int64_t kv_system_context(const kv_system *system) {
    const int64_t base = system->base->spec.context_length;
    if (!system->aux) return base;
    const int64_t ahead = kv_pruning_lookahead(&system->pruning), context = system->aux->spec.context_length;
    const int64_t aux = context > ahead ? context - ahead : 0;
    return aux < base ? aux : base;
}

int64_t kv_system_vocab_size(const kv_system *system) {
    const int64_t base = system->base->spec.vocab_size;
    const int64_t aux = system->aux ? system->aux->spec.vocab_size : base;
    return aux < base ? aux : base;
}
