// Layer maps of both kinds of pair that the paper has, and of those that it has not.
#include "train/task/predictor_plan.h"

#include "data/system/console.h"

#include "train/task/task.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// ---- Layer map -----------------------------------------------------------------------------------------

static const char *rule_name(kv_mapping_kind kind) {
    return kind == KV_MAPPING_PRUNED ? "pruned" : kind == KV_MAPPING_REVERSED ? "reversed" : "separate";
}

// The rules of a map are of layer counts alone.
struct rule {
    const kv_config *source;
    const kv_train_config *config;
    int64_t n_base, n_aux;
    int32_t mapping[KV_MAX_LAYERS];
};

// The paper's rule for an aux that is a part of the base's layers (KVP-LP).
//                                                                               [core/README.md §3, eq. 14]
static kv_status map_pruned(struct rule *r, kv_error *err) {
    int32_t kept[KV_MAX_LAYERS];
    const kv_predictor_config *p = &r->config->predictor;
    const int64_t n_kept = kv_pruned_layers(r->n_base, p->keep, kept);
    if (n_kept != r->n_aux)
        return kv_config_fail(r->source, err, "aux",
                              "%s has %" PRIi64 " layers, expected %" PRIi64 " (%g of the base's %" PRIi64
                              ") for predictor.mapping: %s%s",
                              r->config->aux, r->n_aux, n_kept, p->keep, r->n_base, rule_name(p->mapping),
                              p->mapping == KV_MAPPING_PRUNED ? "" : " with predictor.keep");
    kv_mapping_pruned(r->n_base, kept, n_kept, r->mapping);
    return KV_OK;
}

// The paper's rule for an aux of its own (KVP-C).
//                                                                               [core/README.md §3, eq. 13]
static kv_status map_separate(struct rule *r, kv_error *err) {
    if (r->n_aux > r->n_base)
        return kv_config_fail(r->source, err, "aux",
                              "%s has %" PRIi64 " layers, expected at most the base's %" PRIi64
                              " for predictor.mapping: %s",
                              r->config->aux, r->n_aux, r->n_base, rule_name(r->config->predictor.mapping));
    kv_mapping_separate(r->n_base, r->n_aux, r->mapping);
    return KV_OK;
}

static kv_status map_explicit(struct rule *r, kv_error *err) {
    const kv_predictor_config *p = &r->config->predictor;
    kv_error inner = {0};
    kv_status status = kv_mapping_check(p->layers, p->n_layers, r->n_base, r->n_aux, &inner);
    if (status != KV_OK) return kv_config_fail(r->source, err, "predictor.layers", "%s", inner.message);
    memcpy(r->mapping, p->layers, p->n_layers * sizeof *p->layers);
    return KV_OK;
}

static kv_status plan_mapping(struct rule *r, kv_error *err) {
    kv_status status = KV_OK;
    switch (r->config->predictor.mapping) {
    case KV_MAPPING_EXPLICIT: return map_explicit(r, err);
    case KV_MAPPING_UNIFORM: kv_mapping_uniform(r->n_base, r->n_aux, r->mapping); return KV_OK;
    case KV_MAPPING_PRUNED: return map_pruned(r, err);
    case KV_MAPPING_SEPARATE: return map_separate(r, err);
    case KV_MAPPING_REVERSED:
        // Which of the paper's rules is read backwards, predictor.keep says.
        status = (r->config->given.predictor_keep ? map_pruned : map_separate)(r, err);
        if (status == KV_OK) kv_mapping_reverse(r->n_base, r->n_aux, r->mapping);
        break;
    }
    return status;
}

// ---- Plan ----------------------------------------------------------------------------------------------

// What the configuration says of the maps' parts, for the layers that the rule has.
static kv_status fill_spec(const struct rule *r, const kv_model_spec *base, const kv_model_spec *aux,
                           kv_predictor_spec *spec, kv_error *err) {
    const kv_predictor_config *p = &r->config->predictor;
    kv_predictor_spec_paper(base, aux, r->mapping, spec);
    if (p->aux_layers > aux->n_layers)
        return kv_config_fail(r->source, err, "predictor.aux_layers",
                              "found maps that read %" PRIi64 " aux layers, expected %" PRIi64
                              ": the aux has no more",
                              p->aux_layers, aux->n_layers);
    kv_predictor_spec_neighbours(spec, p->aux_layers);
    if (p->rank > 0) kv_predictor_spec_set_map(spec, &kv_map_low_rank, p->rank);
    return KV_OK;
}

kv_status kv_plan_predictor(const kv_config *source, const kv_train_config *config, const kv_model_spec *base,
                            const kv_model_spec *aux, kv_predictor **shape, kv_error *err) {
    struct rule rule = {.source = source, .config = config, .n_base = base->n_layers, .n_aux = aux->n_layers};
    kv_predictor_spec *spec = malloc(sizeof *spec);
    *shape = NULL;
    if (!spec) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_status status = plan_mapping(&rule, err);
    if (status == KV_OK) status = fill_spec(&rule, base, aux, spec, err);
    if (status == KV_OK) {
        kv_error inner = {0};
        status = kv_predictor_plan(base, aux, spec, shape, &inner);
        if (status != KV_OK) kv_config_fail(source, err, "predictor.rank", "found %s", inner.message);
    }
    free(spec);
    return status;
}

void kv_describe_predictor(const kv_predictor *shape, FILE *out) {
    char number[32], *text;
    const size_t size = kv_predictor_spec_describe(&shape->spec, NULL, 0) + 1;
    fprintf(out, "%s parameters", kv_count_text((double)kv_predictor_size(shape), number));
    text = malloc(size);
    if (!text) return;
    kv_predictor_spec_describe(&shape->spec, text, size);
    fprintf(out, "; %s", text);
    free(text);
}
