// Rotary positions in config.json. Older files say rope_theta, and perhaps rope_scaling: {"rope_type" (once
// "type"): ..., its numbers}; newer ones put all of it into rope_parameters.
#include "data/checkpoint/hf_config_family.h"

#include "core/text.h"
#include "data/file/path.h"

#include <string.h>

static const char theta_key[] = "rope_theta", partial_key[] = "partial_rotary_factor";
static const double least_theta = 1e-3, most_theta = 1e15;

static bool is_null_or_absent(const kv_json_file *file, const char *key) {
    const json_t *value = json_object_get(file->root, key);
    return !value || json_is_null(value);
}

// *theta is 0 until some place has said it; places must agree.
static kv_status read_theta(const kv_json_file *file, double *theta, kv_error *err) {
    double said = *theta;
    char expected[64];
    if (is_null_or_absent(file, theta_key)) return KV_OK;
    kv_status status = kv_json_real(file, theta_key, least_theta, most_theta, theta, err);
    if (status || said == 0 || said == *theta) return status;
    snprintf(expected, sizeof expected, "%g as elsewhere in the file", said);
    return kv_json_wrong(file, theta_key, -1, expected, err);
}

// Heads that are turned in part only.
static kv_status check_partial(const kv_json_file *file, kv_error *err) {
    double factor = 1;
    if (is_null_or_absent(file, partial_key)) return KV_OK;
    kv_status status = kv_json_real(file, partial_key, 0, 1, &factor, err);
    return status || factor == 1 ? status : kv_json_wrong(file, partial_key, -1, "1", err);
}

static kv_status read_type(const kv_json_file *file, bool *llama3, kv_error *err) {
    static const char *const keys[] = {"rope_type", "type"};
    const char *type = NULL;
    for (int i = 0; i < 2; i++) {
        const json_t *value = json_object_get(file->root, keys[i]);
        const char *text = json_string_value(value);
        if (!value) continue;
        if (!text || (strcmp(text, "default") && strcmp(text, "llama3")) || (type && strcmp(type, text)))
            return kv_json_wrong(file, keys[i], -1, type ? type : "\"default\" or \"llama3\"", err);
        type = text;
    }
    *llama3 = type && strcmp(type, "llama3") == 0;
    return KV_OK;
}

// A key that is not known may change what is computed.
static kv_status check_keys(const kv_json_file *file, bool llama3, kv_error *err) {
    static const char *const known[] = {"rope_type",        "type",
                                        theta_key,          partial_key,
                                        "factor",           "low_freq_factor",
                                        "high_freq_factor", "original_max_position_embeddings"};
    const size_t n = llama3 ? sizeof known / sizeof *known : 4;
    const char *key;
    json_t *value;
    json_object_foreach(file->root, key, value) {
        size_t i = 0;
        while (i < n && strcmp(key, known[i])) i++;
        if (i == n)
            return kv_fail(err, KV_ERR_FORMAT, "%s: '%.*s' is not supported for the rope type \"%s\"",
                           file->path, KV_HEAD(key, 100), llama3 ? "llama3" : "default");
    }
    return KV_OK;
}

static kv_status read_llama3(const kv_json_file *file, kv_rope_spec *rope, kv_error *err) {
    kv_status status = kv_json_real(file, "factor", 1, 1e6, &rope->factor, err);
    if (!status) status = kv_json_real(file, "low_freq_factor", 1e-6, 1e6, &rope->low_freq_factor, err);
    if (!status) status = kv_json_real(file, "high_freq_factor", 1e-6, 1e6, &rope->high_freq_factor, err);
    if (!status)
        status = kv_json_real(file, "original_max_position_embeddings", 1, KV_HF_MAX_WIDTH,
                              &rope->original_context, err);
    if (!status && rope->high_freq_factor <= rope->low_freq_factor)
        status = kv_json_wrong(file, "high_freq_factor", -1, "more than low_freq_factor", err);
    return status;
}

// One of the two objects; *given tells whether it is there.
static kv_status read_section(const kv_json_file *file, const char *key, kv_rope_spec *rope, bool *given,
                              kv_error *err) {
    kv_json_file section = {.root = json_object_get(file->root, key)};
    bool llama3 = false;
    *given = !is_null_or_absent(file, key);
    if (!*given) return KV_OK;
    if (!json_is_object(section.root)) return kv_json_wrong(file, key, -1, "an object or null", err);
    if (snprintf(section.path, sizeof section.path, "%s: %s", file->path, key) >= (int)sizeof section.path)
        return kv_path_too_long(file->path, err);
    kv_status status = read_type(&section, &llama3, err);
    if (!status) status = check_keys(&section, llama3, err);
    if (!status) status = check_partial(&section, err);
    if (!status) status = read_theta(&section, &rope->theta, err);
    if (!status && llama3) status = read_llama3(&section, rope, err);
    return status;
}

static bool same_scaling(const kv_rope_spec *a, const kv_rope_spec *b) {
    return a->factor == b->factor && a->low_freq_factor == b->low_freq_factor &&
           a->high_freq_factor == b->high_freq_factor && a->original_context == b->original_context;
}

kv_status kv_hf_rope_read(const kv_json_file *file, double theta, kv_rope_spec *rope, kv_error *err) {
    kv_rope_spec newer = {0};
    bool has_older = false, has_newer = false;
    *rope = newer;
    kv_status status = check_partial(file, err);
    if (!status) status = read_theta(file, &rope->theta, err);
    if (!status) status = read_section(file, "rope_scaling", rope, &has_older, err);
    newer.theta = rope->theta;
    if (!status) status = read_section(file, "rope_parameters", &newer, &has_newer, err);
    if (status) return status;
    if (has_older && has_newer && !same_scaling(rope, &newer))
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: 'rope_parameters' contradicts 'rope_scaling', expected the same", file->path);
    if (has_newer) *rope = newer;
    if (rope->theta == 0) rope->theta = theta;
    return KV_OK;
}

json_t *kv_hf_rope_scaling_json(const kv_rope_spec *rope) {
    if (rope->factor == 0) return json_null();
    const json_int_t context = (json_int_t)rope->original_context;
    const bool whole = (double)context == rope->original_context;
    return json_pack("{s:s, s:f, s:f, s:f, s:o}", "rope_type", "llama3", "factor", rope->factor,
                     "low_freq_factor", rope->low_freq_factor, "high_freq_factor", rope->high_freq_factor,
                     "original_max_position_embeddings",
                     whole ? json_integer(context) : json_real(rope->original_context));
}
