// Parts are known here by their names alone: kinds of maps and of sources say themselves what they are called, so that
// a new one is a key's value without a line here.
#include "train/config/config.h"

#include "data/config/scalar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool kv_train_chooses(const kv_train_config *train) {
    return train->predictor.choose == KV_CHOICE_BEST && train->predictor.init != KV_START_CHECKPOINT;
}

bool kv_train_prefix(const kv_train_config *train) {
    return train->prefix_layers > 0;
}

const char *kv_train_aux(const kv_train_config *train) {
    return kv_train_prefix(train) ? NULL : train->aux;
}

// ---- Sources -------------------------------------------------------------------------------------------

kv_source_names kv_train_sources(const kv_predictor_config *p, kv_side side) {
    if (side == KV_KEYS && p->n_key_sources > 0)
        return (kv_source_names){p->key_sources, p->n_key_sources, "predictor.key_sources"};
    if (side == KV_VALUES && p->n_value_sources > 0)
        return (kv_source_names){p->value_sources, p->n_value_sources, "predictor.value_sources"};
    return (kv_source_names){p->sources, p->n_sources, "predictor.sources"};
}

static kv_status check_names(const kv_config *config, const kv_source_names *s, kv_error *err) {
    for (unsigned i = 0; i < s->n_names; i++) {
        char key[64], known[KV_SOURCE_NAMES];
        kv_source source;
        kv_source_kind kind;
        snprintf(key, sizeof key, "%s[%u]", s->key, i);
        if (!kv_source_parse(s->names[i], &source) && !kv_source_kind_parse(s->names[i], &kind))
            return kv_config_fail(config, err, key, "found `%s`, expected %s", s->names[i],
                                  kv_source_names_text(known));
        for (unsigned j = 0; j < i; j++)
            if (strcmp(s->names[i], s->names[j]) == 0)
                return kv_config_fail(config, err, key, "found `%s` a second time, expected each source once",
                                      s->names[i]);
    }
    return KV_OK;
}

// Whether the layers of any source are to be chosen.
static bool leaves_open(const kv_source_names *s) {
    kv_source_kind kind;
    for (unsigned i = 0; i < s->n_names; i++)
        if (kv_source_kind_parse(s->names[i], &kind)) return true;
    return s->n_names == 0;
}

static bool names_layer_of(const kv_source_names *s, unsigned i, kv_source_kind kind) {
    kv_source source;
    return kv_source_parse(s->names[i], &source) && !kv_source_of_token(source) && source.kind == kind;
}

// The best layers are found for keys and for values, and those that are named stand beside them: of what they are.
static kv_status check_choice(const kv_config *config, const kv_predictor_config *p, kv_side side,
                              kv_error *err) {
    const kv_source_names s = kv_train_sources(p, side);
    kv_source_kind kind;
    char key[64];
    if (p->aux_layers == 0)
        return kv_config_fail(config, err, "predictor.aux_layers",
                              "found 0 (all), expected 1 or more with predictor.choose: best");
    if (!leaves_open(&s))
        return kv_config_fail(config, err, "predictor.choose",
                              "found best, expected nearest: all of %s name their layer", s.key);
    for (unsigned i = 0; i < s.n_names; i++)
        for (unsigned j = 0; j < s.n_names; j++)
            if (kv_source_kind_parse(s.names[j], &kind) && names_layer_of(&s, i, kind)) {
                snprintf(key, sizeof key, "%s[%u]", s.key, i);
                return kv_config_fail(
                    config, err, key,
                    "found `%s` beside `%s`, expected one or the other with predictor.choose: best",
                    s.names[i], s.names[j]);
            }
    return KV_OK;
}

static kv_status check_sources(const kv_config *config, const kv_predictor_config *p, kv_error *err) {
    static const char *const both[] = {"predictor.sources"};
    kv_status status = KV_OK;
    bool open = false;
    if (p->n_key_sources > 0 && p->n_value_sources > 0)
        status = kv_config_forbid(config, both, 1,
                                  "only without predictor.key_sources or predictor.value_sources", err);
    for (int side = 0; side < KV_SIDES && status == KV_OK; side++) {
        const kv_source_names names = kv_train_sources(p, side);
        open = leaves_open(&names) || open;
        status = check_names(config, &names, err);
    }
    for (int side = 0; side < KV_SIDES && status == KV_OK && open && p->choose == KV_CHOICE_BEST; side++)
        status = check_choice(config, p, (kv_side)side, err);
    if (status != KV_OK || open) return status;
    if (p->aux_layers != 1)
        return kv_config_fail(config, err, "predictor.aux_layers",
                              "found %" PRIi64 ", expected 1: all sources name their layer", p->aux_layers);
    if (p->choose != KV_CHOICE_NEAREST)
        return kv_config_fail(config, err, "predictor.choose",
                              "found best, expected nearest: all sources name their layer");
    return KV_OK;
}

// ---- Maps ----------------------------------------------------------------------------------------------

const kv_map_kind *kv_train_map_kind(const kv_predictor_config *p) {
    if (p->map) return kv_map_kind_find(p->map);
    return p->rank > 0 ? &kv_map_low_rank : &kv_map_linear;
}

int64_t kv_train_map_width(const kv_predictor_config *p) {
    return p->width > 0 ? p->width : p->rank;
}

static kv_status check_kind(const kv_config *config, const kv_predictor_config *p, kv_error *err) {
    const kv_map_kind *kind = kv_train_map_kind(p);
    if (kind && !kind->exact) return KV_OK;
    char known[KV_MAP_KIND_NAMES];
    return kv_config_fail(config, err, "predictor.map", "found `%s`, expected %s", p->map,
                          kv_map_kind_names_text(known, false));
}

static kv_status check_map(const kv_config *config, const kv_train_config *t, kv_error *err) {
    static const char *const width_key[] = {"predictor.width"};
    const kv_predictor_config *p = &t->predictor;
    kv_status status = check_kind(config, p, err);
    if (status != KV_OK) return status;
    const kv_map_kind *kind = kv_train_map_kind(p);
    char why[120];
    if (p->rank > 0 && kind != &kv_map_low_rank)
        return kv_config_fail(config, err, "predictor.rank",
                              "found %" PRIi64 ", expected 0 with predictor.map: %s", p->rank, p->map);
    if (p->rank > 0) return kv_config_forbid(config, width_key, 1, "only without predictor.rank", err);
    snprintf(why, sizeof why, "with predictor.map: %s it is the %s", kind->name,
             kind->width_name ? kind->width_name : "");
    if (kind->width_name) return kv_config_require(config, width_key, 1, why, err);
    return kv_config_forbid(config, width_key, 1, "only with a predictor.map that has a width", err);
}

static kv_status check_table(const kv_config *config, kv_predictor_config *p, kv_error *err) {
    const char *text = p->token_table_text;
    p->token_table = KV_TABLE_NONE;
    if (strcmp(text, "none") == 0) return KV_OK;
    if (strcmp(text, "full") == 0) {
        p->token_table = KV_TABLE_FULL;
        return KV_OK;
    }
    if (kv_yaml_whole(text, &p->token_table) && p->token_table >= 1 && p->token_table <= 1 << 20)
        return KV_OK;
    return kv_config_fail(config, err, "predictor.token_table",
                          "found `%s`, expected none, full or a width from 1 to %d", text, 1 << 20);
}

static kv_status check_adapt(const kv_config *config, const kv_predictor_config *p, kv_error *err) {
    static const char *const rank[] = {"predictor.adapt_rank"};
    if (p->adapt == KV_ADAPT_LORA)
        return kv_config_require(config, rank, 1, "with predictor.adapt: lora its rank", err);
    return kv_config_forbid(config, rank, 1, "only with predictor.adapt: lora", err);
}

// ---- The aux is a prefix -------------------------------------------------------------------------------

static kv_status check_prefix(const kv_config *config, const kv_train_config *t, kv_error *err) {
    static const char *const key[] = {"prefix_layers"};
    const bool prefix = t->aux && strcmp(t->aux, "prefix") == 0;
    const kv_predictor_config *p = &t->predictor;
    if (!prefix)
        return kv_config_forbid(config, key, 1, "only with aux: prefix, the base's own first layers", err);
    kv_status status =
        kv_config_require(config, key, 1, "of how many of the base's layers aux: prefix is made", err);
    if (status != KV_OK) return status;
    if (!t->freeze_aux)
        return kv_config_fail(
            config, err, "freeze_aux",
            "found false, expected true with aux: prefix: it is the base, which stays as it is");
    if (t->loss.aux != 0)
        return kv_config_fail(config, err, "loss.aux",
                              "with aux: prefix nothing of the aux is trained: found %g, expected 0",
                              t->loss.aux);
    if (p->mapping != KV_MAPPING_SEPARATE)
        return kv_config_fail(
            config, err, "predictor.mapping",
            "found a layer map, expected none (separate) with aux: prefix: maps read what enters "
            "layer prefix_layers, or what predictor.sources says");
    if (p->exact_layers != 0)
        return kv_config_fail(config, err, "predictor.exact_layers",
                              "with aux: prefix all of its layers are exact: found %" PRIi64 ", expected 0",
                              p->exact_layers);
    return KV_OK;
}

static kv_status check_start(const kv_config *config, const kv_train_config *t, kv_error *err) {
    static const char *const path_key[] = {"predictor.path"};
    const bool goes_on = t->predictor.init == KV_START_CHECKPOINT;
    const kv_status status =
        goes_on ? kv_config_require(config, path_key, 1, "with predictor.init: checkpoint", err)
                : kv_config_forbid(config, path_key, 1, "only with predictor.init: checkpoint", err);
    if (status != KV_OK) return status;
    if (t->predictor.init != KV_START_BASE || kv_train_prefix(t)) return KV_OK;
    return kv_config_fail(
        config, err, "predictor.init",
        "found base, expected random, least_squares or checkpoint without aux: prefix: the base's own "
        "projections go with its own hidden states");
}

kv_status kv_train_check_parts(const kv_config *config, kv_train_config *t, kv_error *err) {
    kv_status status = check_prefix(config, t, err);
    if (status == KV_OK) status = check_sources(config, &t->predictor, err);
    if (status == KV_OK) status = check_map(config, t, err);
    if (status == KV_OK) status = check_table(config, &t->predictor, err);
    if (status == KV_OK) status = check_adapt(config, &t->predictor, err);
    return status == KV_OK ? check_start(config, t, err) : status;
}
