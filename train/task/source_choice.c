// The choice itself, and what a predictor must have in common with what was planned to have come of it.
#include "train/task/source_choice.h"

#include <stdlib.h>

kv_status kv_choose_sources(const kv_least_squares_args *args, const kv_predictor *plan,
                            kv_predictor_spec *spec, kv_error *err) {
    (void)plan, (void)spec;
    kv_config_fail(args->source, err, "predictor.choose",
                   "found best, which this version only plans with, expected nearest");
    return KV_ERR_ARGUMENT;
}

// As many sources of each kind.
static bool same_kinds(const kv_sources *a, const kv_sources *b) {
    int64_t balance[KV_SOURCE_KINDS] = {0};
    for (int32_t k = 0; k < a->n; k++) balance[a->at[k].kind]++;
    for (int32_t k = 0; k < b->n; k++) balance[b->at[k].kind]--;
    for (int kind = 0; kind < KV_SOURCE_KINDS; kind++)
        if (balance[kind] != 0) return false;
    return true;
}

bool kv_choice_of(const kv_predictor_spec *plan, const kv_predictor_spec *made) {
    kv_predictor_spec *same = malloc(sizeof *same);
    bool is = same && plan->n_base_layers == made->n_base_layers;
    if (is) *same = *made;
    for (int64_t i = 0; is && i < plan->n_base_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            kv_sources *sources = &same->outputs[side][i].sources;
            is = is && same_kinds(sources, &plan->outputs[side][i].sources);
            *sources = plan->outputs[side][i].sources;
        }
    is = is && kv_predictor_spec_equal(plan, same);
    free(same);
    return is;
}
