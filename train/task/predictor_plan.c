// Layer maps of both kinds of pair that the paper has, and of those that it has not.
#include "train/task/predictor_plan.h"

#include "data/system/console.h"

#include "train/task/task.h"

#include <inttypes.h>
#include <string.h>

// ---- Layer map -----------------------------------------------------------------------------------------

static const char *rule_name(kv_mapping_kind kind) {
    return kind == KV_MAPPING_PRUNED ? "pruned" : kind == KV_MAPPING_REVERSED ? "reversed" : "separate";
}

// The paper's rule for an aux that is a part of the base's layers (KVP-LP).
//                                                                               [core/README.md §3, eq. 14]
static kv_status map_pruned(const kv_config *source, const kv_train_config *config, kv_predictor *shape,
                            kv_error *err) {
    int32_t kept[KV_MAX_LAYERS];
    const kv_predictor_config *p = &config->predictor;
    const int64_t n_base = shape->n_base_layers, n_kept = kv_pruned_layers(n_base, p->keep, kept);
    if (n_kept != shape->n_aux_layers)
        return kv_config_fail(source, err, "aux",
                              "%s has %" PRIi64 " layers, expected %" PRIi64 " (%g of the base's %" PRIi64
                              ") for predictor.mapping: %s%s",
                              config->aux, shape->n_aux_layers, n_kept, p->keep, n_base,
                              rule_name(p->mapping),
                              p->mapping == KV_MAPPING_PRUNED ? "" : " with predictor.keep");
    kv_mapping_pruned(n_base, kept, n_kept, shape->mapping);
    return KV_OK;
}

// The paper's rule for an aux of its own (KVP-C).
//                                                                               [core/README.md §3, eq. 13]
static kv_status map_separate(const kv_config *source, const kv_train_config *config, kv_predictor *shape,
                              kv_error *err) {
    if (shape->n_aux_layers > shape->n_base_layers)
        return kv_config_fail(
            source, err, "aux",
            "%s has %" PRIi64 " layers, expected at most the base's %" PRIi64 " for predictor.mapping: %s",
            config->aux, shape->n_aux_layers, shape->n_base_layers, rule_name(config->predictor.mapping));
    kv_mapping_separate(shape->n_base_layers, shape->n_aux_layers, shape->mapping);
    return KV_OK;
}

static kv_status map_explicit(const kv_config *source, const kv_predictor_config *p, kv_predictor *shape,
                              kv_error *err) {
    kv_error inner = {0};
    kv_status status =
        kv_mapping_check(p->layers, p->n_layers, shape->n_base_layers, shape->n_aux_layers, &inner);
    if (status != KV_OK) return kv_config_fail(source, err, "predictor.layers", "%s", inner.message);
    memcpy(shape->mapping, p->layers, p->n_layers * sizeof *p->layers);
    return KV_OK;
}

static kv_status plan_mapping(const kv_config *source, const kv_train_config *config, kv_predictor *shape,
                              kv_error *err) {
    const kv_predictor_config *p = &config->predictor;
    kv_status status = KV_OK;
    switch (p->mapping) {
    case KV_MAPPING_EXPLICIT: return map_explicit(source, p, shape, err);
    case KV_MAPPING_UNIFORM:
        kv_mapping_uniform(shape->n_base_layers, shape->n_aux_layers, shape->mapping);
        return KV_OK;
    case KV_MAPPING_PRUNED: return map_pruned(source, config, shape, err);
    case KV_MAPPING_SEPARATE: return map_separate(source, config, shape, err);
    case KV_MAPPING_REVERSED:
        // Which of the paper's rules is read backwards, predictor.keep says.
        status = (config->given.predictor_keep ? map_pruned : map_separate)(source, config, shape, err);
        if (status == KV_OK) kv_mapping_reverse(shape->n_base_layers, shape->n_aux_layers, shape->mapping);
        break;
    }
    return status;
}

// ---- Plan ----------------------------------------------------------------------------------------------

kv_status kv_plan_predictor(const kv_config *source, const kv_train_config *config, const kv_model_spec *base,
                            const kv_model_spec *aux, kv_predictor *shape, kv_error *err) {
    const kv_predictor_kind kind = {config->predictor.rank, config->predictor.aux_layers};
    *shape = (kv_predictor){.n_base_layers = base->n_layers, .n_aux_layers = aux->n_layers, .kind = kind};
    kv_status status = plan_mapping(source, config, shape, err);
    if (status != KV_OK) return status;
    const bool alone = kind.aux_layers > 1 && aux->n_layers == 1;
    kv_error inner = {0};
    status = kv_predictor_kind_check(base, aux, shape->mapping, &kind, &inner);
    if (status == KV_OK) return KV_OK;
    return kv_config_fail(source, err, alone ? "predictor.aux_layers" : "predictor.rank", "found %s",
                          inner.message);
}

void kv_describe_predictor(const kv_predictor *shape, const kv_model_spec *base, const kv_model_spec *aux,
                           FILE *out) {
    char text[32];
    fprintf(out, "%s parameters", kv_count_text((double)kv_predictor_planned_size(shape, base, aux), text));
    if (shape->kind.rank > 0) fprintf(out, " of rank %" PRIi64, shape->kind.rank);
    fprintf(out, "; base layer reads aux layer%s:", shape->kind.aux_layers > 1 ? "s" : "");
    for (int64_t i = 0; i < shape->n_base_layers; i++) {
        int32_t inputs[2];
        const int64_t n = kv_predictor_inputs(shape, i, inputs);
        fprintf(out, " %" PRIi32, inputs[0]);
        if (n > 1) fprintf(out, "+%" PRIi32, inputs[1]);
    }
}

double kv_predictor_floats(const kv_predictor *shape, const kv_model_spec *aux, bool aux_trained) {
    bool joined[KV_MAX_LAYERS] = {0};
    double sum = 2 * 2 * (double)(shape->kind.rank * shape->n_base_layers);
    for (int64_t i = 0; i < shape->n_base_layers && shape->kind.aux_layers > 1; i++) {
        const int32_t j = shape->mapping[i];
        if (!joined[j]) sum += (aux_trained ? 4 : 2) * (double)kv_predictor_input_dim(shape, aux, i);
        joined[j] = true;
    }
    return sum;
}
