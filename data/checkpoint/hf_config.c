#include "data/checkpoint/hf_config.h"

#include "data/checkpoint/hf_config_family.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"

#include <stdlib.h>
#include <string.h>

static const char config_name[] = "config.json";

static const struct hf_family {
    const char *model_type;
    kv_hf_read_fn *read;
    kv_hf_write_fn *write;
} families[] = {{"openelm", kv_hf_openelm_read, kv_hf_openelm_write},
                {"llama", kv_hf_llama_read, kv_hf_llama_write},
                {"mistral", kv_hf_llama_read, kv_hf_llama_write},
                {"qwen2", kv_hf_llama_read, kv_hf_llama_write},
                {"qwen3", kv_hf_llama_read, kv_hf_llama_write}};

json_t *kv_hf_float_json(float value) {
    char text[32];
    for (int digits = 6; digits <= 9; digits++) { // nine always do
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return json_real(strtod(text, NULL));
}

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
    *spec = (kv_model_spec){.bos_id = -1, .eos_id = -1};
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
    kv_status status = kv_json_open(dir, config_name, &file, err);
    if (!status) status = kv_mistaken(file.path, KV_FILE_MODEL_CONFIG, read_spec(&file, spec, err), err);
    status = kv_mistaken_dir(dir, config_name, "a model's directory (config.json, model.safetensors)", status,
                             err);
    if (!status) status = kv_hf_generation_read(dir, spec, err);
    kv_json_close(&file);
    return status;
}

kv_status kv_hf_config_parse(const char *name, const char *text, kv_model_spec *spec, kv_error *err) {
    kv_json_file file = {.root = kv_json_parse(text, strlen(text), 0, NULL)};
    snprintf(file.path, sizeof file.path, "%s", name);
    kv_status status = json_is_object(file.root) ? read_spec(&file, spec, err)
                                                 : kv_fail(err, KV_ERR_FORMAT, "%s: not a JSON object", name);
    kv_json_close(&file);
    return status;
}

static bool same_spec(const kv_model_spec *a, const kv_model_spec *b) {
    return strcmp(a->model_type, b->model_type) == 0 && a->vocab_size == b->vocab_size &&
           a->model_dim == b->model_dim && a->head_dim == b->head_dim && a->n_layers == b->n_layers &&
           a->context_length == b->context_length && a->qk_norm == b->qk_norm && a->qkv_bias == b->qkv_bias &&
           a->tied_head == b->tied_head && a->norm_eps == b->norm_eps && kv_same_rope(&a->rope, &b->rope) &&
           a->bos_id == b->bos_id && a->eos_id == b->eos_id && a->n_stop_ids == b->n_stop_ids &&
           memcmp(a->stop_ids, b->stop_ids, (size_t)a->n_stop_ids * sizeof a->stop_ids[0]) == 0 &&
           memcmp(a->layers, b->layers, (size_t)a->n_layers * sizeof a->layers[0]) == 0;
}

// Whether the text means the same model, down to the last width.
static bool means(const char *text, const kv_model_spec *spec) {
    kv_model_spec again;
    kv_json_file file = {.path = "config.json", .root = kv_json_parse(text, strlen(text), 0, NULL)};
    const bool same = file.root && read_spec(&file, &again, NULL) == KV_OK && same_spec(spec, &again);
    kv_json_close(&file);
    return same;
}

// The first family whose file means the model says it; every type whose files transformers reads of its own accord
// stands before OpenELM's.
void kv_hf_config_name(kv_model_spec *spec) {
    static const char *const types[] = {"llama", "qwen3", "qwen2", "openelm"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char *text;
        snprintf(spec->model_type, sizeof spec->model_type, "%s", types[i]);
        const kv_status status = kv_hf_config_write(spec, &text, NULL);
        free(text);
        if (status == KV_OK) return;
    }
}

kv_status kv_hf_config_write(const kv_model_spec *spec, char **text, kv_error *err) {
    *text = NULL;
    kv_status status = kv_model_spec_check(spec, err);
    if (status) return status;
    const struct hf_family *family = find_family(spec->model_type);
    if (!family)
        return kv_fail(err, KV_ERR_ARGUMENT, "cannot write a config.json of model type '%s'",
                       spec->model_type);
    json_t *root = family->write(spec);
    // As people write numbers, if that is exact enough: 1e-5 rather than 1.0000000000000001e-5.
    for (int digits = 15; digits <= 17 && !*text; digits += 2) {
        char *tried = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(digits));
        if (!tried) {
            status = kv_fail(err, KV_ERR_MEMORY, "out of memory for config.json");
            break;
        }
        if (means(tried, spec))
            *text = tried;
        else
            free(tried);
    }
    json_decref(root);
    if (!status && !*text)
        status = kv_fail(err, KV_ERR_ARGUMENT, "config.json of model type '%s' cannot describe this model",
                         spec->model_type);
    return status;
}
