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

static const double default_norm_eps = 1e-6, default_theta = 10000;

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

static kv_status read_layers(const kv_json_file *file, const struct kin *kin, kv_model_spec *spec,
                             kv_error *err) {
    kv_layer_spec layer;
    const json_t *kv_heads = json_object_get(file->root, "num_key_value_heads");
    kv_status status = kv_json_int(file, "num_hidden_layers", 1, KV_MAX_LAYERS, &spec->n_layers, err);
    if (!status) status = kv_json_int(file, "num_attention_heads", 1, KV_HF_MAX_WIDTH, &layer.n_heads, err);
    if (!status) status = kv_json_int(file, "intermediate_size", 1, KV_HF_MAX_WIDTH, &layer.ffn_dim, err);
    if (status) return status;
    layer.n_kv_heads = layer.n_heads;
    if (kv_heads ? !json_is_null(kv_heads) : kin->kv_heads_said)
        status = kv_json_int(file, "num_key_value_heads", 1, KV_HF_MAX_WIDTH, &layer.n_kv_heads, err);
    if (!status) status = read_head_dim(file, kin, layer.n_heads, spec, err);
    for (int64_t i = 0; i < spec->n_layers; i++) spec->layers[i] = layer;
    return status;
}

kv_status kv_hf_llama_read(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    const struct kin *kin = find_kin(spec->model_type);
    double eps = default_norm_eps;
    spec->qkv_bias = kin->qkv_bias;
    spec->qk_norm = kin->qk_norm;
    kv_status status = check_features(file, kin, err);
    if (!status) status = kv_json_int(file, "vocab_size", 1, KV_HF_MAX_WIDTH, &spec->vocab_size, err);
    if (!status) status = kv_json_int(file, "hidden_size", 1, KV_HF_MAX_WIDTH, &spec->model_dim, err);
    spec->context_length = kin->context;
    if (!status && kv_json_has(file, "max_position_embeddings"))
        status = kv_json_int(file, "max_position_embeddings", 1, KV_HF_MAX_WIDTH, &spec->context_length, err);
    if (!status) status = read_layers(file, kin, spec, err);
    if (!status) status = check_attention(file, kin, spec, err);
    if (!status && is_said(file, "tie_word_embeddings"))
        status = kv_json_bool(file, "tie_word_embeddings", &spec->tied_head, err);
    if (!status && kv_json_has(file, "rms_norm_eps"))
        status = kv_json_real(file, "rms_norm_eps", 1e-30, 1, &eps, err);
    spec->norm_eps = (float)eps;
    if (!status) status = kv_hf_rope_read(file, default_theta, spec->context_length, &spec->rope, err);
    if (!status) status = kv_hf_tokens_read(file, kin->bos_id, kin->eos_id, spec, err);
    return status;
}

// ---- Writing -------------------------------------------------------------------------------------------

// All layers as the first, in the keys that old and new versions of transformers understand alike.
json_t *kv_hf_llama_write(const kv_model_spec *spec) {
    const kv_layer_spec *layer = &spec->layers[0];
    json_t *root = json_pack(
        "{s:s, s:[s], s:o, s:o, s:I, s:s, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:f, s:b, s:s, "
        "s:b, s:I}",
        "model_type", spec->model_type, "architectures", find_kin(spec->model_type)->architecture,
        "bos_token_id", kv_hf_bos_json(spec), "eos_token_id", kv_hf_eos_json(spec), "head_dim",
        (json_int_t)spec->head_dim, "hidden_act", "silu", "hidden_size", (json_int_t)spec->model_dim,
        "initializer_range", 0.02, "intermediate_size", (json_int_t)layer->ffn_dim, "max_position_embeddings",
        (json_int_t)spec->context_length, "num_attention_heads", (json_int_t)layer->n_heads,
        "num_hidden_layers", (json_int_t)spec->n_layers, "num_key_value_heads", (json_int_t)layer->n_kv_heads,
        "rms_norm_eps", kv_hf_float_json(spec->norm_eps), "rope_scaling",
        kv_hf_rope_scaling_json(&spec->rope), "rope_theta", spec->rope.theta, "tie_word_embeddings",
        spec->tied_head, "torch_dtype", "float32", "use_cache", true, "vocab_size",
        (json_int_t)spec->vocab_size);
    if (root && find_kin(spec->model_type)->window_always)
        json_object_set_new(root, "sliding_window", json_null());
    return root;
}
