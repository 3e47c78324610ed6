// Which tokens begin and end a text, as config.json and generation_config.json say.
#include "data/checkpoint/hf_config_family.h"

#include "data/file/path.h"

static const char bos_key[] = "bos_token_id", eos_key[] = "eos_token_id";

static bool is_id(const json_t *value, int64_t vocab_size) {
    return json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) < vocab_size;
}

static kv_status wrong_id(const kv_json_file *file, const char *key, int64_t index, int64_t vocab_size,
                          kv_error *err) {
    char expected[64];
    snprintf(expected, sizeof expected, "a whole number from 0 to %lld", (long long)vocab_size - 1);
    return kv_json_wrong(file, key, index, expected, err);
}

// An end that is known already stays where it is. False when there is no room.
static bool add_end(kv_model_spec *spec, int32_t id) {
    if (kv_spec_ends(spec, id)) return true;
    if (spec->eos_id < 0 && spec->n_stop_ids == 0)
        spec->eos_id = id;
    else if (spec->n_stop_ids < KV_MAX_STOP_IDS)
        spec->stop_ids[spec->n_stop_ids++] = id;
    else
        return false;
    return true;
}

static kv_status read_ends(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    const json_t *value = json_object_get(file->root, eos_key);
    const int64_t n = json_is_array(value) ? (int64_t)json_array_size(value) : 1;
    if (!value || json_is_null(value)) return KV_OK;
    for (int64_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, (size_t)i) : value;
        if (!is_id(id, spec->vocab_size))
            return wrong_id(file, eos_key, json_is_array(value) ? i : -1, spec->vocab_size, err);
        if (!add_end(spec, (int32_t)json_integer_value(id)))
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s: '%s' makes more than %d tokens that end a text, expected fewer", file->path,
                           eos_key, 1 + KV_MAX_STOP_IDS);
    }
    return KV_OK;
}

kv_status kv_hf_tokens_read(const kv_json_file *file, int32_t bos, int32_t eos, kv_model_spec *spec,
                            kv_error *err) {
    const json_t *value = json_object_get(file->root, bos_key);
    const json_t *id = json_array_size(value) == 1 ? json_array_get(value, 0) : value;
    if (!value)
        spec->bos_id = bos;
    else if (is_id(id, spec->vocab_size))
        spec->bos_id = (int32_t)json_integer_value(id);
    else if (!json_is_null(value))
        return wrong_id(file, bos_key, -1, spec->vocab_size, err);
    if (!kv_json_has(file, eos_key)) spec->eos_id = eos;
    return read_ends(file, spec, err);
}

kv_status kv_hf_generation_read(const char *dir, kv_model_spec *spec, kv_error *err) {
    static const char name[] = "generation_config.json";
    kv_json_file file;
    if (!kv_path_exists_in(dir, name)) return KV_OK;
    kv_status status = kv_json_open(dir, name, &file, err);
    if (!status) status = read_ends(&file, spec, err);
    kv_json_close(&file);
    return status;
}

json_t *kv_hf_bos_json(const kv_model_spec *spec) {
    return spec->bos_id < 0 ? json_null() : json_integer(spec->bos_id);
}

json_t *kv_hf_eos_json(const kv_model_spec *spec) {
    if (spec->eos_id < 0) return json_null();
    if (spec->n_stop_ids == 0) return json_integer(spec->eos_id);
    json_t *list = json_array();
    json_array_append_new(list, json_integer(spec->eos_id));
    for (int64_t i = 0; i < spec->n_stop_ids; i++)
        json_array_append_new(list, json_integer(spec->stop_ids[i]));
    return list;
}
