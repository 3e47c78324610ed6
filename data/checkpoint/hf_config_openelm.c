// OpenELM's config.json: heads and feed-forward width differ from layer to layer.
#include "data/checkpoint/hf_config_family.h"

#include <string.h>

static const float default_norm_eps = 1e-6f;

// Features config.json can name and the model has in one form only.
static kv_status check_features(const kv_json_file *file, kv_error *err) {
    static const struct {
        const char *key, *value, *alias;
    } fixed[] = {{"activation_fn_name", "swish", "silu"},
                 {"normalization_layer_name", "rms_norm", "rms_norm"}};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        const char *found = json_string_value(json_object_get(file->root, fixed[i].key));
        if (!kv_json_has(file, fixed[i].key)) continue;
        if (!found || (strcmp(found, fixed[i].value) && strcmp(found, fixed[i].alias)))
            return kv_json_wrong(file, fixed[i].key, -1, fixed[i].value, err);
    }
    bool glu = true;
    kv_status status = kv_json_bool(file, "ffn_with_glu", &glu, err);
    return status || glu ? status : kv_json_wrong(file, "ffn_with_glu", -1, "true", err);
}

static kv_status read_layers(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    int64_t heads[KV_MAX_LAYERS], kv_heads[KV_MAX_LAYERS], divisor, n = spec->n_layers;
    double multipliers[KV_MAX_LAYERS];
    kv_status status = kv_json_ints(file, "num_query_heads", n, 1, KV_HF_MAX_WIDTH, heads, err);
    if (!status) status = kv_json_ints(file, "num_kv_heads", n, 1, KV_HF_MAX_WIDTH, kv_heads, err);
    if (!status) status = kv_json_reals(file, "ffn_multipliers", n, 0, KV_HF_MAX_WIDTH, multipliers, err);
    if (!status) status = kv_json_int(file, "ffn_dim_divisor", 1, KV_HF_MAX_WIDTH, &divisor, err);
    for (int64_t i = 0; i < n && !status; i++) {
        double width = multipliers[i] * (double)spec->model_dim;
        if (width > KV_HF_MAX_WIDTH)
            return kv_json_wrong(file, "ffn_multipliers", i, "at most 2^24 feed-forward features", err);
        spec->layers[i] = (kv_layer_spec){heads[i], kv_heads[i], kv_make_divisible(width, divisor)};
    }
    return status;
}

static const kv_hf_field fields[] = {
    KV_HF_NUMBER(INT, "vocab_size", vocab_size, 1, KV_HF_MAX_WIDTH, true),
    KV_HF_NUMBER(INT, "model_dim", model_dim, 1, KV_HF_MAX_WIDTH, true),
    KV_HF_NUMBER(INT, "head_dim", head_dim, 2, KV_HF_MAX_WIDTH, true),
    KV_HF_NUMBER(INT, "num_transformer_layers", n_layers, 1, KV_MAX_LAYERS, true),
    KV_HF_NUMBER(INT, "max_context_length", context_length, 1, KV_HF_MAX_WIDTH, true),
    KV_HF_FLAG("normalize_qk_projections", qk_norm, false),
    KV_HF_FLAG("share_input_output_layers", tied_head, false),
    KV_HF_NUMBER(REAL, "rope_freq_constant", rope.theta, 1e-3, 1e15, true),
    KV_HF_END,
};
// OpenELM itself has no such key: said where it is not its constant.
static const kv_hf_field eps_field[] = {KV_HF_NUMBER(FLOAT, "rms_norm_eps", norm_eps, 1e-30, 1, false),
                                        KV_HF_END};

kv_status kv_hf_openelm_read(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    spec->tied_head = true;
    spec->qk_norm = true;
    spec->norm_eps = default_norm_eps;
    kv_status status = check_features(file, err);
    if (!status) status = kv_hf_fields_read(file, fields, spec, err);
    if (!status) status = read_layers(file, spec, err);
    if (!status) status = kv_hf_fields_read(file, eps_field, spec, err);
    // What OpenELM's own configuration class assumes.
    if (!status) status = kv_hf_tokens_read(file, 1, 2, spec, err);
    return status;
}

json_t *kv_hf_openelm_write(const kv_model_spec *spec) {
    json_t *heads = json_array(), *kv_heads = json_array(), *multipliers = json_array();
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const kv_layer_spec *layer = &spec->layers[i];
        json_array_append_new(heads, json_integer(layer->n_heads));
        json_array_append_new(kv_heads, json_integer(layer->n_kv_heads));
        // With a divisor of 1 any width is the multiplier times model_dim, rounded.
        json_array_append_new(multipliers, json_real((double)layer->ffn_dim / (double)spec->model_dim));
    }
    json_t *root = json_pack(
        "{s:s, s:[s], s:s, s:o, s:o, s:i, s:o, s:b, s:f, s:s, s:I, s:o, s:o, s:I, s:s, s:b}", "model_type",
        "openelm", "architectures", "OpenELMForCausalLM", "activation_fn_name", "swish", "bos_token_id",
        kv_hf_bos_json(spec), "eos_token_id", kv_hf_eos_json(spec), "ffn_dim_divisor", 1, "ffn_multipliers",
        multipliers, "ffn_with_glu", true, "initializer_range", 0.02, "normalization_layer_name", "rms_norm",
        "num_gqa_groups", (json_int_t)(spec->layers[0].n_heads / spec->layers[0].n_kv_heads), "num_kv_heads",
        kv_heads, "num_query_heads", heads, "rope_max_length", (json_int_t)(2 * spec->context_length),
        "torch_dtype", "float32", "use_cache", true);
    bool ok = kv_hf_fields_write(spec, fields, root);
    if (ok && spec->norm_eps != default_norm_eps) ok = kv_hf_fields_write(spec, eps_field, root);
    if (ok) return root;
    json_decref(root);
    return NULL;
}
