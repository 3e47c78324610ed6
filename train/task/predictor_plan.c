// Layer maps of both kinds of pair that the paper has, and of those that it has not; and the parts of maps.
#include "train/task/predictor_plan.h"

#include "core/predictor/start_from_base.h"
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
    int64_t n_base, n_aux, prefix;
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

// Of a prefix the layer that its last one leads to.
static kv_status plan_mapping(struct rule *r, kv_error *err) {
    kv_status status = KV_OK;
    if (r->prefix > 0) {
        for (int64_t i = 0; i < r->n_base; i++) r->mapping[i] = (int32_t)r->prefix;
        return KV_OK;
    }
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

// ---- Sources -------------------------------------------------------------------------------------------

// So many layers of one kind of source, the nearest to that of the rule first.
static kv_status add_layers(const struct rule *r, const char *key, const char *name, kv_source_kind kind,
                            int64_t base_layer, kv_sources *sources, kv_error *err) {
    int32_t near[KV_MAX_LAYERS], j = r->mapping[base_layer];
    const int64_t n_there = kv_source_layers(kind, r->n_aux, r->prefix),
                  wanted = r->config->predictor.aux_layers;
    const int64_t n = wanted > 0 ? wanted : n_there;
    if (n > n_there)
        return kv_config_fail(r->source, err, "predictor.aux_layers",
                              "found maps that read %" PRIi64 " aux layers, expected at most %" PRIi64
                              ": there are no more %s to be read (%s)",
                              n, n_there, name, key);
    if (j >= n_there) j = (int32_t)n_there - 1;
    kv_layers_near(j, n, n_there, near);
    for (int64_t k = 0; k < n; k++) kv_sources_add(sources, kind, near[k]);
    return KV_OK;
}

// A source of a layer that is not there has its list to blame.
static kv_status add_named(const struct rule *r, const char *key, const char *name, kv_source source,
                           kv_sources *sources, kv_error *err) {
    const int64_t n = kv_source_of_token(source)
                          ? KV_MAX_LAYERS
                          : kv_source_layers((kv_source_kind)source.kind, r->n_aux, r->prefix);
    if (source.layer >= n)
        return kv_config_fail(r->source, err, key,
                              "found %s, expected at most layer %" PRIi64 " of the aux%s", name, n - 1,
                              r->prefix > 0 ? ", of which the prefix computes no more" : "");
    kv_sources_add(sources, (kv_source_kind)source.kind, source.layer);
    return KV_OK;
}

static kv_status fill_sources(const struct rule *r, kv_side side, int64_t layer, kv_sources *sources,
                              kv_error *err) {
    static const char *const usual[KV_SIDES] = {"k", "v"};
    kv_source_names names = kv_train_sources(&r->config->predictor, side);
    char *own = (char *)(r->prefix > 0 ? "h" : usual[side]);
    kv_status status = KV_OK;
    if (names.n_names == 0) names.names = &own, names.n_names = 1;
    sources->n = 0;
    for (unsigned i = 0; i < names.n_names && status == KV_OK; i++) {
        const char *name = names.names[i];
        kv_source source;
        kv_source_kind kind;
        if (kv_source_kind_parse(name, &kind))
            status = add_layers(r, names.key, name, kind, layer, sources, err);
        else if (kv_source_parse(name, &source))
            status = add_named(r, names.key, name, source, sources, err);
    }
    return status;
}

// ---- Plan ----------------------------------------------------------------------------------------------

// Which of the aux's layers are the best is not known before its text is read (train/task/source_choice.h): until then
// as many near ones stand for them.
static kv_status fill_spec(const struct rule *r, const kv_model_spec *base, const kv_model_spec *aux,
                           kv_predictor_spec *spec, kv_error *err) {
    const kv_predictor_config *p = &r->config->predictor;
    kv_status status = KV_OK;
    if (r->prefix > 0)
        kv_predictor_spec_prefix(base, r->prefix, spec);
    else
        kv_predictor_spec_paper(base, aux, r->mapping, spec);
    if (p->exact_layers > 0) kv_predictor_spec_exact_first(spec);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < base->n_layers && status == KV_OK; i++) {
            kv_output_spec *output = &spec->outputs[side][i];
            if (kv_output_exact(output)) continue;
            status = fill_sources(r, (kv_side)side, i, &output->sources, err);
            output->matched = p->heads == KV_HEADS_MATCHED;
        }
    kv_predictor_spec_set_map(spec, kv_train_map_kind(p), kv_train_map_width(p));
    kv_predictor_spec_set_table(spec, p->token_table);
    spec->adapt = p->adapt, spec->adapt_rank = p->adapt_rank;
    return status;
}

static kv_status check_prefix(const struct rule *r, kv_error *err) {
    if (r->prefix < r->n_base) return KV_OK;
    return kv_config_fail(r->source, err, "prefix_layers",
                          "found %" PRIi64 ", expected 1 to %" PRIi64 ": the base %s has %" PRIi64 " layers",
                          r->prefix, r->n_base - 1, r->config->base, r->n_base);
}

// The key that what does not go with this pair is most likely a matter of.
static const char *blamed(const kv_predictor_config *p, const char *message) {
    if (strstr(message, "heads")) return "predictor.heads";
    if (strstr(message, "adapted queries")) return "predictor.adapt_rank";
    if (strstr(message, "token table")) return "predictor.token_table";
    return p->width > 0 ? "predictor.width" : "predictor.rank";
}

static kv_status check_start(const struct rule *r, const kv_predictor_spec *spec, kv_error *err) {
    kv_error inner = {0};
    const int64_t n_passes = r->config->predictor.least_squares_passes, n_predicted = r->n_base - r->prefix;
    if (n_passes > n_predicted)
        return kv_config_fail(r->source, err, "predictor.least_squares_passes",
                              "found %" PRIi64 ", expected at most %" PRIi64
                              ": each is for a share of the base's layers%s",
                              n_passes, n_predicted, r->prefix > 0 ? " behind the prefix" : "");
    if (r->config->predictor.init != KV_START_BASE || kv_start_from_base_check(spec, &inner) == KV_OK)
        return KV_OK;
    return kv_config_fail(r->source, err, "predictor.init", "found base, but %s", inner.message);
}

kv_status kv_plan_predictor(const kv_config *source, const kv_train_config *config, const kv_model_spec *base,
                            const kv_model_spec *aux, kv_predictor **shape, kv_error *err) {
    struct rule rule = {.source = source,
                        .config = config,
                        .n_base = base->n_layers,
                        .n_aux = aux->n_layers,
                        .prefix = config->prefix_layers};
    kv_predictor_spec *spec = malloc(sizeof *spec);
    *shape = NULL;
    if (!spec) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_status status = check_prefix(&rule, err);
    if (status == KV_OK) status = plan_mapping(&rule, err);
    if (status == KV_OK) status = fill_spec(&rule, base, aux, spec, err);
    if (status == KV_OK) {
        kv_error inner = {0};
        status = kv_predictor_plan(base, aux, spec, shape, &inner);
        if (status != KV_OK)
            kv_config_fail(source, err, blamed(&config->predictor, inner.message), "found %s", inner.message);
    }
    if (status == KV_OK) status = check_start(&rule, spec, err);
    if (status != KV_OK) {
        kv_predictor_free(*shape);
        *shape = NULL;
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
