#include "infer/cost.h"

#include "core/flops.h"

uint64_t kv_system_flops(const kv_system *system, int64_t n) {
    if (!system->aux) return kv_flops_prefill(&system->base->spec, n);
    return kv_flops_kvp_prefill(&system->base->spec, &system->aux->spec, system->predictor, n);
}

double kv_system_paper_reduction(const kv_system *system, const kv_system *base) {
    const kv_model_spec *aux = system->aux ? &system->aux->spec : NULL;
    const kv_model_spec *reader = system->predictor ? aux : &system->base->spec;
    return kv_paper_reduction(&base->base->spec, reader) *
           kv_pruning_paper_reduction(&system->pruning, &system->base->spec, aux);
}
