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

kv_status kv_hf_openelm_read(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    double eps = default_norm_eps;
    spec->tied_head = true;
    spec->qk_norm = true;
    kv_status status = check_features(file, err);
    if (!status) status = kv_json_int(file, "vocab_size", 1, KV_HF_MAX_WIDTH, &spec->vocab_size, err);
    if (!status) status = kv_json_int(file, "model_dim", 1, KV_HF_MAX_WIDTH, &spec->model_dim, err);
    if (!status) status = kv_json_int(file, "head_dim", 2, KV_HF_MAX_WIDTH, &spec->head_dim, err);
    if (!status) status = kv_json_int(file, "num_transformer_layers", 1, KV_MAX_LAYERS, &spec->n_layers, err);
    if (!status)
        status = kv_json_int(file, "max_context_length", 1, KV_HF_MAX_WIDTH, &spec->context_length, err);
    if (!status) status = read_layers(file, spec, err);
    if (!status) status = kv_json_bool(file, "normalize_qk_projections", &spec->qk_norm, err);
    if (!status) status = kv_json_bool(file, "share_input_output_layers", &spec->tied_head, err);
    if (!status) status = kv_json_real(file, "rope_freq_constant", 1e-3, 1e15, &spec->rope.theta, err);
    if (!status && kv_json_has(file, "rms_norm_eps"))
        status = kv_json_real(file, "rms_norm_eps", 1e-30, 1, &eps, err);
    spec->norm_eps = (float)eps;
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
        "{s:s, s:[s], s:s, s:o, s:o, s:i, s:o, s:b, s:I, s:f, s:I, s:I, s:s, s:b, s:I, s:o, s:o, s:I, s:f, "
        "s:I, s:b, s:s, s:b, s:I}",
        "model_type", "openelm", "architectures", "OpenELMForCausalLM", "activation_fn_name", "swish",
        "bos_token_id", kv_hf_bos_json(spec), "eos_token_id", kv_hf_eos_json(spec), "ffn_dim_divisor", 1,
        "ffn_multipliers", multipliers, "ffn_with_glu", true, "head_dim", (json_int_t)spec->head_dim,
        "initializer_range", 0.02, "max_context_length", (json_int_t)spec->context_length, "model_dim",
        (json_int_t)spec->model_dim, "normalization_layer_name", "rms_norm", "normalize_qk_projections",
        spec->qk_norm, "num_gqa_groups", (json_int_t)(spec->layers[0].n_heads / spec->layers[0].n_kv_heads),
        "num_kv_heads", kv_heads, "num_query_heads", heads, "num_transformer_layers",
        (json_int_t)spec->n_layers, "rope_freq_constant", spec->rope.theta, "rope_max_length",
        (json_int_t)(2 * spec->context_length), "share_input_output_layers", spec->tied_head, "torch_dtype",
        "float32", "use_cache", true, "vocab_size", (json_int_t)spec->vocab_size);
    if (root && spec->norm_eps != default_norm_eps)
        json_object_set_new(root, "rms_norm_eps", kv_hf_float_json(spec->norm_eps));
    return root;
}
