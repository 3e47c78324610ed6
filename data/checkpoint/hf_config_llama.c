// config.json of Llama and its kin: all layers alike. Mistral is Llama with another name and an attention window
// unless it says otherwise. Qwen2 adds a bias to the query, key and value projections, Qwen3 normalises the heads
// of queries and keys and has heads of any width.
#include "data/checkpoint/hf_config_family.h"

#include "data/system/warning.h"

#include <string.h>

// What the configuration classes of transformers assume where a key is absent.
static const struct kin {
    const char *model_type, *architecture;
    bool qkv_bias, qk_norm;
    bool kv_heads_said; // the class assumes so many KV heads whatever the model, so they must be said
    // Qwen's sliding_window lies idle unless use_sliding_window is true; Mistral's does not ask it.
    bool window_idle, window_always;
    int64_t context;  // max_position_embeddings
    int64_t window;   // where there is no sliding_window; 0: none
    int64_t head_dim; // 0: hidden_size / heads
    int32_t bos_id, eos_id;
} kins[] = {
    {.model_type = "llama", .architecture = "LlamaForCausalLM", .context = 2048, .bos_id = 1, .eos_id = 2},
    {.model_type = "mistral",
     .architecture = "MistralForCausalLM",
     .kv_heads_said = true,
     .window_always = true,
     .context = 131072,
     .window = 4096,
     .bos_id = 1,
     .eos_id = 2},
    {.model_type = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .qkv_bias = true,
     .kv_heads_said = true,
     .window_idle = true,
     .context = 32768,
     .window = 4096,
     .bos_id = -1,
     .eos_id = -1},
    {.model_type = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .qk_norm = true,
     .kv_heads_said = true,
     .window_idle = true,
     .context = 32768,
     .window = 4096,
     .head_dim = 128,
     .bos_id = -1,
     .eos_id = -1},
};

static const float default_norm_eps = 1e-6f;
static const double default_theta = 10000;

static const struct kin *find_kin(const char *model_type) {
    const struct kin *kin = kins;
    while (strcmp(kin->model_type, model_type) != 0) kin++; // the caller has one of them
    return kin;
}

// ---- Features that are refused by name -----------------------------------------------------------------

static bool is_said(const kv_json_file *file, const char *key) {
    const json_t *value = json_object_get(file->root, key);
    return value && !json_is_null(value);
}

// A switch that must be off; absent and null are off too.
static kv_status must_be_off(const kv_json_file *file, const char *key, kv_error *err) {
    bool on = false;
    if (!is_said(file, key)) return KV_OK;
    kv_status status = kv_json_bool(file, key, &on, err);
    return status || !on ? status : kv_json_wrong(file, key, -1, "false: it is not supported", err);
}

static kv_status check_experts(const kv_json_file *file, kv_error *err) {
    static const char *const keys[] = {"num_experts", "num_local_experts", "n_routed_experts"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *value = json_object_get(file->root, keys[i]);
        const bool none =
            json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) < 2;
        if (is_said(file, keys[i]) && !none)
            return kv_json_wrong(file, keys[i], -1, "none: mixtures of experts are not supported", err);
    }
    return KV_OK;
}

static kv_status check_activation(const kv_json_file *file, kv_error *err) {
    const char *found = json_string_value(json_object_get(file->root, "hidden_act"));
    if (!kv_json_has(file, "hidden_act")) return KV_OK;
    if (found && (strcmp(found, "silu") == 0 || strcmp(found, "swish") == 0)) return KV_OK;
    return kv_json_wrong(file, "hidden_act", -1, "\"silu\"", err);
}

static kv_status check_features(const kv_json_file *file, const struct kin *kin, kv_error *err) {
    const json_t *quantization = json_object_get(file->root, "quantization_config");
    if (is_said(file, "quantization_config") &&
        !(json_is_object(quantization) && !json_object_size(quantization)))
        return kv_json_wrong(file, "quantization_config", -1, "none: quantized weights are not supported",
                             err);
    kv_status status = check_activation(file, err);
    if (!status) status = check_experts(file, err);
    // Would put a bias on the output projection too.
    if (!status && !kin->qkv_bias) status = must_be_off(file, "attention_bias", err);
    if (!status) status = must_be_off(file, "mlp_bias", err);
    // Features 2i and 2i + 1 would turn together.
    if (!status) status = must_be_off(file, "rope_interleaved", err);
    return status;
}

// ---- Sliding windows -----------------------------------------------------------------------------------

// Attention to nothing but the last tokens. One that holds the whole context hides nothing.
static bool holds_all(int64_t window, const kv_model_spec *spec) {
    return window >= spec->context_length;
}

// Whether attention would have a window that hides something where a layer has one at all.
static bool has_window(const kv_json_file *file, const struct kin *kin, const kv_model_spec *spec) {
    const json_t *value = json_object_get(file->root, "sliding_window");
    if (!value) return kin->window > 0 && !holds_all(kin->window, spec);
    return !json_is_null(value) && !(json_is_integer(value) && holds_all(json_integer_value(value), spec));
}

// Whether Qwen's first layer with a window would lie behind the last. Its class assumes 28.
static bool begins_behind(const kv_json_file *file, const kv_model_spec *spec) {
    const json_t *first = json_object_get(file->root, "max_window_layers");
    if (!first) return spec->n_layers <= 28;
    return json_is_integer(first) && json_integer_value(first) >= spec->n_layers;
}

// Llama's code has no window, whatever config.json says (so transformers 5.17).
static bool asks_no_window(const struct kin *kin) {
    return !kin->window_idle && !kin->window_always;
}

static kv_status check_window(const kv_json_file *file, const struct kin *kin, const kv_model_spec *spec,
                              kv_error *err) {
    static const char switch_key[] = "use_sliding_window";
    char expected[128];
    bool used = !kin->window_idle;
    const bool told = !kin->window_always && is_said(file, switch_key);
    kv_status status = told ? kv_json_bool(file, switch_key, &used, err) : KV_OK;
    if (status || !used || !has_window(file, kin, spec)) return status;
    if (kin->window_idle && begins_behind(file, spec)) return KV_OK;
    if (asks_no_window(kin) && json_integer_value(json_object_get(file->root, "sliding_window")) > 0) {
        kv_warn("%s: 'sliding_window' does nothing in a model of type %s and is left out", file->path,
                spec->model_type);
        return KV_OK;
    }
    if (told) return kv_json_wrong(file, switch_key, -1, "false: sliding windows are not supported", err);
    snprintf(expected, sizeof expected, "null or at least the context of %lld: %s",
             (long long)spec->context_length,
             kv_json_has(file, "sliding_window") ? "sliding windows are not supported"
                                                 : "an absent one means 4096 here");
    return kv_json_wrong(file, "sliding_window", -1, expected, err);
}

static kv_status check_attention(const kv_json_file *file, const struct kin *kin, const kv_model_spec *spec,
                                 kv_error *err) {
    const json_t *types = json_object_get(file->root, "layer_types");
    const json_t *window = json_object_get(file->root, "sliding_window");
    kv_status status = check_window(file, kin, spec, err);
    if (status || !is_said(file, "layer_types")) return status;
    if (!json_is_array(types)) return kv_json_wrong(file, "layer_types", -1, "a list", err);
    for (size_t i = 0; i < json_array_size(types) && i < (size_t)spec->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        const bool slides = type && strcmp(type, "sliding_attention") == 0;
        if (slides && json_is_integer(window) && holds_all(json_integer_value(window), spec)) continue;
        if (!type || strcmp(type, "full_attention") != 0)
            return kv_json_wrong(file, "layer_types", (int64_t)i, "\"full_attention\"", err);
    }
    return KV_OK;
}

// ---- Sizes ---------------------------------------------------------------------------------------------

static kv_status read_head_dim(const kv_json_file *file, const struct kin *kin, int64_t n_heads,
                               kv_model_spec *spec, kv_error *err) {
    char expected[96];
    if (is_said(file, "head_dim"))
        return kv_json_int(file, "head_dim", 2, KV_HF_MAX_WIDTH, &spec->head_dim, err);
    spec->head_dim = kv_json_has(file, "head_dim") ? 0 : kin->head_dim;
    if (spec->head_dim > 0) return KV_OK;
    spec->head_dim = spec->model_dim / n_heads;
    if (spec->head_dim * n_heads == spec->model_dim) return KV_OK;
    snprintf(expected, sizeof expected, "a divisor of hidden_size %lld where head_dim is not given",
             (long long)spec->model_dim);
    return kv_json_wrong(file, "num_attention_heads", -1, expected, err);
}

// What all layers share is the first one's.
static const kv_hf_field fields[] = {
    KV_HF_NUMBER(INT, "vocab_size", vocab_size, 1, KV_HF_MAX_WIDTH, true),
    KV_HF_NUMBER(INT, "hidden_size", model_dim, 1, KV_HF_MAX_WIDTH, true),
    KV_HF_NUMBER(INT, "max_position_embeddings", context_length, 1, KV_HF_MAX_WIDTH, false),
    KV_HF_NUMBER(INT, "num_hidden_layers", n_layers, 1, KV_MAX_LAYERS, true),
    KV_HF_NUMBER(INT, "num_attention_heads", layers[0].n_heads, 1, KV_HF_MAX_WIDTH, true),
    KV_HF_NUMBER(INT, "intermediate_size", layers[0].ffn_dim, 1, KV_HF_MAX_WIDTH, true),
    KV_HF_FLAG("tie_word_embeddings", tied_head, true),
    KV_HF_NUMBER(FLOAT, "rms_norm_eps", norm_eps, 1e-30, 1, false),
    KV_HF_END,
};
// Of these an absent one means what others say, or depends on the type.
static const kv_hf_field derived[] = {
    KV_HF_NUMBER(INT, "num_key_value_heads", layers[0].n_kv_heads, 1, KV_HF_MAX_WIDTH, true),
    KV_HF_NUMBER(INT, "head_dim", head_dim, 2, KV_HF_MAX_WIDTH, true),
    KV_HF_END,
};
static const kv_hf_field *const kv_heads_field = &derived[0];

static kv_status read_layers(const kv_json_file *file, const struct kin *kin, kv_model_spec *spec,
                             kv_error *err) {
    kv_layer_spec *first = &spec->layers[0];
    const json_t *kv_heads = json_object_get(file->root, kv_heads_field->key);
    kv_status status = KV_OK;
    first->n_kv_heads = first->n_heads;
    if (kv_heads ? !json_is_null(kv_heads) : kin->kv_heads_said)
        status = kv_json_int(file, kv_heads_field->key, 1, KV_HF_MAX_WIDTH, &first->n_kv_heads, err);
    if (!status) status = read_head_dim(file, kin, first->n_heads, spec, err);
    for (int64_t i = 1; i < spec->n_layers; i++) spec->layers[i] = *first;
    return status;
}

kv_status kv_hf_llama_read(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    const struct kin *kin = find_kin(spec->model_type);
    spec->qkv_bias = kin->qkv_bias;
    spec->qk_norm = kin->qk_norm;
    spec->context_length = kin->context;
    spec->norm_eps = default_norm_eps;
    kv_status status = check_features(file, kin, err);
    if (!status) status = kv_hf_fields_read(file, fields, spec, err);
    if (!status) status = read_layers(file, kin, spec, err);
    if (!status) status = check_attention(file, kin, spec, err);
    if (!status) status = kv_hf_rope_read(file, default_theta, spec->context_length, &spec->rope, err);
    if (!status) status = kv_hf_tokens_read(file, kin->bos_id, kin->eos_id, spec, err);
    return status;
}

// ---- Writing -------------------------------------------------------------------------------------------

// All layers as the first, in the keys that old and new versions of transformers understand alike.
json_t *kv_hf_llama_write(const kv_model_spec *spec) {
    const struct kin *kin = find_kin(spec->model_type);
    json_t *root = json_pack("{s:s, s:[s], s:o, s:o, s:s, s:f, s:o, s:f, s:s, s:b}", "model_type",
                             spec->model_type, "architectures", kin->architecture, "bos_token_id",
                             kv_hf_bos_json(spec), "eos_token_id", kv_hf_eos_json(spec), "hidden_act", "silu",
                             "initializer_range", 0.02, "rope_scaling", kv_hf_rope_scaling_json(&spec->rope),
                             "rope_theta", spec->rope.theta, "torch_dtype", "float32", "use_cache", true);
    bool ok = kv_hf_fields_write(spec, fields, root) && kv_hf_fields_write(spec, derived, root);
    if (ok && kin->window_always) ok = json_object_set_new(root, "sliding_window", json_null()) == 0;
    if (ok) return root;
    json_decref(root);
    return NULL;
}
