// Rotary positions in config.json. Older files say rope_theta, and perhaps rope_scaling: {"rope_type" (once
// "type"): ..., its numbers}; newer ones put all of it into rope_parameters.
#include "data/checkpoint/hf_config_family.h"

#include "core/text.h"
#include "data/file/path.h"
#include "data/system/warning.h"

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

// ---- Scaling rules -------------------------------------------------------------------------------------

enum { MAX_KEYS = 8 };

typedef kv_status read_fn(const kv_json_file *file, double context, kv_rope_spec *rope, kv_error *err);
static read_fn read_none, read_linear, read_dynamic, read_yarn, read_llama3;

// What a rule is called, the keys it takes, and what reads them.
static const struct rule {
    const char *name, *keys[MAX_KEYS];
    read_fn *read;
} rules[] = {
    {"default", {NULL}, read_none},
    {"linear", {"factor"}, read_linear},
    {"dynamic", {"factor", "original_max_position_embeddings"}, read_dynamic},
    {"yarn",
     {"factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
      "mscale_all_dim", "truncate"},
     read_yarn},
    {"llama3",
     {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
     read_llama3},
};

static const struct rule *find_rule(const char *name) {
    for (size_t i = 0; name && i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].name, name) == 0) return &rules[i];
    return NULL;
}

static bool has_name(const char *const *names, size_t n, const char *name) {
    for (size_t i = 0; i < n && names[i]; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static kv_status refuse_type(const kv_json_file *file, kv_error *err) {
    return kv_json_wrong(file, is_null_or_absent(file, "rope_type") ? "type" : "rope_type", -1,
                         "\"default\", \"linear\" or \"llama3\"", err);
}

// *rule is NULL where the section does not say one.
static kv_status read_type(const kv_json_file *file, const struct rule **rule, kv_error *err) {
    static const char *const keys[] = {"rope_type", "type"};
    *rule = NULL;
    for (int i = 0; i < 2; i++) {
        if (is_null_or_absent(file, keys[i])) continue;
        const struct rule *said = find_rule(json_string_value(json_object_get(file->root, keys[i])));
        if (!said) return refuse_type(file, err);
        if (*rule && *rule != said) return kv_json_wrong(file, keys[i], -1, (*rule)->name, err);
        *rule = said;
    }
    return KV_OK;
}

// A key that is not known may change what is computed. One that belongs to another rule does nothing under the
// one that is said; where none is, it may be what was meant.
static kv_status check_keys(const kv_json_file *file, const struct rule *rule, kv_error *err) {
    static const char *const of_all[] = {"rope_type", "type", theta_key, partial_key};
    static const char *const of_some[] = {"factor",          "original_max_position_embeddings",
                                          "low_freq_factor", "high_freq_factor",
                                          "beta_fast",       "beta_slow",
                                          "mscale",          "mscale_all_dim",
                                          "truncate",        "attention_factor",
                                          "short_factor",    "long_factor"};
    const char *key;
    json_t *value;
    json_object_foreach(file->root, key, value) {
        if (json_is_null(value) || has_name(of_all, 4, key)) continue;
        if (rule && has_name(rule->keys, MAX_KEYS, key)) continue;
        if (strcmp(key, "factor") == 0 && json_number_value(value) == 1) continue;
        if (!rule || !has_name(of_some, sizeof of_some / sizeof *of_some, key))
            return kv_fail(err, KV_ERR_FORMAT, "%s: '%.*s' is not supported for the rope type \"%s\"",
                           file->path, KV_HEAD(key, 100), rule ? rule->name : "default");
        if (strcmp(key, "original_max_position_embeddings") != 0)
            kv_warn("%s: '%s' does nothing under the rope type \"%s\" and is left out", file->path, key,
                    rule->name);
    }
    return KV_OK;
}

static kv_status read_none(const kv_json_file *file, double context, kv_rope_spec *rope, kv_error *err) {
    (void)file, (void)context, (void)rope, (void)err;
    return KV_OK;
}

static const double most_factor = 1e6;

static kv_status read_linear(const kv_json_file *file, double context, kv_rope_spec *rope, kv_error *err) {
    (void)context;
    kv_status status = kv_json_real(file, "factor", 1, most_factor, &rope->factor, err);
    if (rope->factor == 1) rope->factor = 0;
    return status;
}

// Whether a number that may be absent is this one.
static bool is_absent_or(const kv_json_file *file, const char *key, double number) {
    const json_t *value = json_object_get(file->root, key);
    return is_null_or_absent(file, key) || (json_is_number(value) && json_number_value(value) == number);
}

// θ grows with the sequence, by (factor·n / context - (factor - 1))^(e/(e-2)), once n exceeds the context. No
// sequence does here, and at n = context the base of that power is 1.
static kv_status read_dynamic(const kv_json_file *file, double context, kv_rope_spec *rope, kv_error *err) {
    double factor;
    (void)rope;
    if (!is_absent_or(file, "original_max_position_embeddings", context)) return refuse_type(file, err);
    return kv_json_real(file, "factor", 1, most_factor, &factor, err);
}

// Between ω and ω / factor, times 0.1·ln(factor) + 1 (or attention_factor) in the attention: nothing for factor 1,
// which some versions take from the two contexts.
static kv_status read_yarn(const kv_json_file *file, double context, kv_rope_spec *rope, kv_error *err) {
    (void)rope;
    const bool neutral = !is_null_or_absent(file, "factor") && is_absent_or(file, "factor", 1) &&
                         is_absent_or(file, "attention_factor", 1) &&
                         is_absent_or(file, "original_max_position_embeddings", context);
    return neutral ? KV_OK : refuse_type(file, err);
}

static kv_status read_llama3(const kv_json_file *file, double context, kv_rope_spec *rope, kv_error *err) {
    (void)context;
    kv_status status = kv_json_real(file, "factor", 1, most_factor, &rope->factor, err);
    if (!status) status = kv_json_real(file, "low_freq_factor", 1e-6, 1e6, &rope->low_freq_factor, err);
    if (!status) status = kv_json_real(file, "high_freq_factor", 1e-6, 1e6, &rope->high_freq_factor, err);
    if (!status)
        status = kv_json_real(file, "original_max_position_embeddings", 1, KV_HF_MAX_WIDTH,
                              &rope->original_context, err);
    if (!status && rope->high_freq_factor <= rope->low_freq_factor)
        status = kv_json_wrong(file, "high_freq_factor", -1, "more than low_freq_factor", err);
    return status;
}

// ---- Where they are said -------------------------------------------------------------------------------

// One of the two objects; *given tells whether it is there.
static kv_status read_section(const kv_json_file *file, const char *key, double context, kv_rope_spec *rope,
                              bool *given, kv_error *err) {
    kv_json_file section = {.root = json_object_get(file->root, key)};
    const struct rule *rule = NULL;
    *given = !is_null_or_absent(file, key);
    if (!*given) return KV_OK;
    if (!json_is_object(section.root)) return kv_json_wrong(file, key, -1, "an object or null", err);
    if (snprintf(section.path, sizeof section.path, "%s: %s", file->path, key) >= (int)sizeof section.path)
        return kv_path_too_long(file->path, err);
    kv_status status = read_type(&section, &rule, err);
    if (!status) status = check_keys(&section, rule, err);
    if (!status) status = check_partial(&section, err);
    if (!status) status = read_theta(&section, &rope->theta, err);
    if (!status && rule) status = rule->read(&section, context, rope, err);
    return status;
}

kv_status kv_hf_rope_read(const kv_json_file *file, double theta, int64_t context_length, kv_rope_spec *rope,
                          kv_error *err) {
    const double context = (double)context_length;
    kv_rope_spec newer = {0};
    bool has_older = false, has_newer = false;
    *rope = newer;
    kv_status status = check_partial(file, err);
    if (!status) status = read_theta(file, &rope->theta, err);
    if (!status) status = read_section(file, "rope_scaling", context, rope, &has_older, err);
    newer.theta = rope->theta;
    if (!status) status = read_section(file, "rope_parameters", context, &newer, &has_newer, err);
    if (status) return status;
    rope->theta = newer.theta; // places agree
    if (has_older && has_newer && !kv_same_rope(rope, &newer))
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: 'rope_parameters' contradicts 'rope_scaling', expected the same", file->path);
    if (has_newer) *rope = newer;
    if (rope->theta == 0) rope->theta = theta;
    return KV_OK;
}

json_t *kv_hf_rope_scaling_json(const kv_rope_spec *rope) {
    if (rope->factor == 0) return json_null();
    if (rope->original_context == 0)
        return json_pack("{s:s, s:s, s:f}", "rope_type", "linear", "type", "linear", "factor", rope->factor);
    const json_int_t context = (json_int_t)rope->original_context;
    const bool whole = (double)context == rope->original_context;
    return json_pack("{s:s, s:f, s:f, s:f, s:o}", "rope_type", "llama3", "factor", rope->factor,
                     "low_freq_factor", rope->low_freq_factor, "high_freq_factor", rope->high_freq_factor,
                     "original_max_position_embeddings",
                     whole ? json_integer(context) : json_real(rope->original_context));
}
