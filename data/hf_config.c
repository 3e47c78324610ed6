#include "data/hf_config.h"

#include "data/json_file.h"

#include <stdlib.h>
#include <string.h>

// Widths above this cannot be meant; it also keeps what is computed from them in range before the whole spec
// is checked.
enum { MAX_WIDTH = 1 << 24 };

static const float openelm_norm_eps = 1e-6f;

// ---- OpenELM -------------------------------------------------------------------------------------------

// Features OpenELM's config.json can name and the model has in one form only.
static kv_status openelm_features(const kv_json_file *file, kv_error *err) {
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

static kv_status openelm_layers(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    int64_t heads[KV_MAX_LAYERS], kv_heads[KV_MAX_LAYERS], divisor, n = spec->n_layers;
    double multipliers[KV_MAX_LAYERS];
    kv_status status = kv_json_ints(file, "num_query_heads", n, 1, MAX_WIDTH, heads, err);
    if (!status) status = kv_json_ints(file, "num_kv_heads", n, 1, MAX_WIDTH, kv_heads, err);
    if (!status) status = kv_json_reals(file, "ffn_multipliers", n, 0, MAX_WIDTH, multipliers, err);
    if (!status) status = kv_json_int(file, "ffn_dim_divisor", 1, MAX_WIDTH, &divisor, err);
    for (int64_t i = 0; i < n && !status; i++) {
        double width = multipliers[i] * (double)spec->model_dim;
        if (width > MAX_WIDTH)
            return kv_json_wrong(file, "ffn_multipliers", i, "at most 2^24 feed-forward features", err);
        spec->layers[i] = (kv_layer_spec){heads[i], kv_heads[i], kv_make_divisible(width, divisor)};
    }
    return status;
}

// A token id, or null for none; `fallback` where the key is absent.
static kv_status token_id(const kv_json_file *file, const char *key, int64_t vocab_size, int32_t fallback,
                          int32_t *id, kv_error *err) {
    int64_t value = fallback;
    kv_status status = KV_OK;
    if (json_is_null(json_object_get(file->root, key)))
        value = -1;
    else if (kv_json_has(file, key))
        status = kv_json_int(file, key, 0, vocab_size - 1, &value, err);
    *id = (int32_t)value;
    return status;
}

static kv_status openelm_read(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    double eps = openelm_norm_eps;
    spec->tied_head = true;
    spec->qk_norm = true;
    kv_status status = openelm_features(file, err);
    if (!status) status = kv_json_int(file, "vocab_size", 1, MAX_WIDTH, &spec->vocab_size, err);
    if (!status) status = kv_json_int(file, "model_dim", 1, MAX_WIDTH, &spec->model_dim, err);
    if (!status) status = kv_json_int(file, "head_dim", 2, MAX_WIDTH, &spec->head_dim, err);
    if (!status) status = kv_json_int(file, "num_transformer_layers", 1, KV_MAX_LAYERS, &spec->n_layers, err);
    if (!status) status = kv_json_int(file, "max_context_length", 1, MAX_WIDTH, &spec->context_length, err);
    if (!status) status = openelm_layers(file, spec, err);
    if (!status) status = kv_json_bool(file, "normalize_qk_projections", &spec->qk_norm, err);
    if (!status) status = kv_json_bool(file, "share_input_output_layers", &spec->tied_head, err);
    if (!status) status = kv_json_real(file, "rope_freq_constant", 1e-3, 1e15, &spec->rope.theta, err);
    if (!status && kv_json_has(file, "rms_norm_eps"))
        status = kv_json_real(file, "rms_norm_eps", 1e-30, 1, &eps, err);
    spec->norm_eps = (float)eps;
    // What OpenELM's own configuration class assumes.
    if (!status) status = token_id(file, "bos_token_id", spec->vocab_size, 1, &spec->bos_id, err);
    if (!status) status = token_id(file, "eos_token_id", spec->vocab_size, 2, &spec->eos_id, err);
    return status;
}

static json_t *token_json(int32_t id) {
    return id < 0 ? json_null() : json_integer(id);
}

// A float as the shortest decimal that reads back as the same float.
static json_t *float_json(float value) {
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)value);
    return json_real(strtod(text, NULL));
}

static json_t *openelm_write(const kv_model_spec *spec) {
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
        "s:I, "
        "s:b, s:s, s:b, s:I}",
        "model_type", "openelm", "architectures", "OpenELMForCausalLM", "activation_fn_name", "swish",
        "bos_token_id", token_json(spec->bos_id), "eos_token_id", token_json(spec->eos_id), "ffn_dim_divisor",
        1, "ffn_multipliers", multipliers, "ffn_with_glu", true, "head_dim", (json_int_t)spec->head_dim,
        "initializer_range", 0.02, "max_context_length", (json_int_t)spec->context_length, "model_dim",
        (json_int_t)spec->model_dim, "normalization_layer_name", "rms_norm", "normalize_qk_projections",
        spec->qk_norm, "num_gqa_groups", (json_int_t)(spec->layers[0].n_heads / spec->layers[0].n_kv_heads),
        "num_kv_heads", kv_heads, "num_query_heads", heads, "num_transformer_layers",
        (json_int_t)spec->n_layers, "rope_freq_constant", spec->rope.theta, "rope_max_length",
        (json_int_t)(2 * spec->context_length), "share_input_output_layers", spec->tied_head, "torch_dtype",
        "float32", "use_cache", true, "vocab_size", (json_int_t)spec->vocab_size);
    if (root && spec->norm_eps != openelm_norm_eps)
        json_object_set_new(root, "rms_norm_eps", float_json(spec->norm_eps));
    return root;
}

// ---- All model types -----------------------------------------------------------------------------------

static const struct hf_family {
    const char *model_type;
    kv_status (*read)(const kv_json_file *file, kv_model_spec *spec, kv_error *err);
    json_t *(*write)(const kv_model_spec *spec);
} families[] = {{"openelm", openelm_read, openelm_write}};

static const struct hf_family *find_family(const char *model_type) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i].model_type, model_type) == 0) return &families[i];
    return NULL;
}

static kv_status unsupported(const kv_json_file *file, kv_error *err) {
    char expected[128] = "a supported type:";
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        strncat(expected, " ", sizeof expected - strlen(expected) - 1);
        strncat(expected, families[i].model_type, sizeof expected - strlen(expected) - 1);
    }
    return kv_json_wrong(file, "model_type", -1, expected, err);
}

static kv_status read_spec(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    *spec = (kv_model_spec){.bos_id = -1};
    const char *model_type = json_string_value(json_object_get(file->root, "model_type"));
    const struct hf_family *family = model_type ? find_family(model_type) : NULL;
    if (!family) return unsupported(file, err);
    snprintf(spec->model_type, sizeof spec->model_type, "%s", family->model_type);
    kv_status status = family->read(file, spec, err);
    if (status) return status;
    status = kv_model_spec_check(spec, err);
    return status ? kv_fail_within(err, KV_ERR_FORMAT, "%s", file->path) : KV_OK;
}

kv_status kv_hf_config_read(const char *dir, kv_model_spec *spec, kv_error *err) {
    kv_json_file file;
    kv_status status = kv_json_open(dir, "config.json", &file, err);
    if (!status) status = read_spec(&file, spec, err);
    kv_json_close(&file);
    return status;
}

static bool same_rope(const kv_rope_spec *a, const kv_rope_spec *b) {
    return a->theta == b->theta && a->factor == b->factor && a->low_freq_factor == b->low_freq_factor &&
           a->high_freq_factor == b->high_freq_factor && a->original_context == b->original_context;
}

static bool same_spec(const kv_model_spec *a, const kv_model_spec *b) {
    return strcmp(a->model_type, b->model_type) == 0 && a->vocab_size == b->vocab_size &&
           a->model_dim == b->model_dim && a->head_dim == b->head_dim && a->n_layers == b->n_layers &&
           a->context_length == b->context_length && a->qk_norm == b->qk_norm && a->qkv_bias == b->qkv_bias &&
           a->tied_head == b->tied_head && a->norm_eps == b->norm_eps && same_rope(&a->rope, &b->rope) &&
           a->bos_id == b->bos_id && a->eos_id == b->eos_id &&
           memcmp(a->layers, b->layers, (size_t)a->n_layers * sizeof a->layers[0]) == 0;
}

kv_status kv_hf_config_write(const kv_model_spec *spec, char **text, kv_error *err) {
    *text = NULL;
    kv_status status = kv_model_spec_check(spec, err);
    if (status) return status;
    const struct hf_family *family = find_family(spec->model_type);
    if (!family)
        return kv_fail(err, KV_ERR_ARGUMENT, "cannot write a config.json of model type '%s'",
                       spec->model_type);
    kv_json_file file = {.path = "config.json", .root = family->write(spec)};
    *text = json_dumps(file.root, JSON_INDENT(1));
    if (!*text) {
        kv_json_close(&file);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for config.json");
    }
    // What was written must mean the same model, down to the last width.
    json_error_t why;
    kv_model_spec again;
    json_decref(file.root);
    file.root = json_loads(*text, 0, &why);
    status = file.root ? read_spec(&file, &again, err) : KV_ERR_ARGUMENT;
    if (status || !same_spec(spec, &again))
        status = kv_fail(err, KV_ERR_ARGUMENT, "config.json of model type '%s' cannot describe this model",
                         spec->model_type);
    kv_json_close(&file);
    if (status) free(*text);
    if (status) *text = NULL;
    return status;
}
