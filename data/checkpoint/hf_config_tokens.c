// Which tokens begin and end a text, as config.json and generation_config.json say.
#include "data/checkpoint/hf_config.h"
#include "data/checkpoint/hf_config_family.h"

#include "core/text.h"
#include "data/file/path.h"
#include "data/system/warning.h"

#include <stdlib.h>

static const char bos_key[] = "bos_token_id", eos_key[] = "eos_token_id";

static bool is_id(const json_t *value, int64_t vocab_size) {
    return json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) < vocab_size;
}

// null and -1 are how programs say that there is none.
static bool says_none(const json_t *value) {
    return json_is_null(value) || (json_is_integer(value) && json_integer_value(value) == -1);
}

// No model says an id that its vocabulary does not have: nothing is lost, but whoever wrote it meant something.
static void warn_of_ids(const kv_json_file *file, const char *key, const json_t *first, int64_t n,
                        int64_t vocab_size, const char *what_then) {
    char *found = kv_json_show(first), others[48] = "";
    if (n > 1) snprintf(others, sizeof others, " (and %lld more such)", (long long)(n - 1));
    kv_warn("%s: '%s' has %.*s%s, which is no token of the vocabulary of %lld: it is left out, and %s",
            file->path, key, KV_HEAD(found ? found : "something", 60), others, (long long)vocab_size,
            what_then);
    free(found);
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

// What cannot end a text is left out; an end for which there is no room would be missed.
static kv_status read_ends(const kv_json_file *file, kv_model_spec *spec, kv_error *err) {
    const json_t *value = json_object_get(file->root, eos_key);
    const int64_t n = json_is_array(value) ? (int64_t)json_array_size(value) : 1;
    const json_t *no_token = NULL;
    int64_t n_none = 0;
    if (!value) return KV_OK;
    for (int64_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, (size_t)i) : value;
        if (says_none(id)) continue;
        if (!is_id(id, spec->vocab_size)) {
            if (n_none++ == 0) no_token = id;
        } else if (!add_end(spec, (int32_t)json_integer_value(id)))
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s: '%s' makes more than %d tokens that end a text, expected fewer", file->path,
                           eos_key, 1 + KV_MAX_STOP_IDS);
    }
    if (n_none > 0) warn_of_ids(file, eos_key, no_token, n_none, spec->vocab_size, "no text ends there");
    return KV_OK;
}

kv_status kv_hf_tokens_read(const kv_json_file *file, int32_t bos, int32_t eos, kv_model_spec *spec,
                            kv_error *err) {
    const json_t *value = json_object_get(file->root, bos_key);
    const json_t *id = json_array_size(value) == 1 ? json_array_get(value, 0) : value;
    if (!value)
        spec->bos_id = bos < spec->vocab_size ? bos : -1;
    else if (is_id(id, spec->vocab_size))
        spec->bos_id = (int32_t)json_integer_value(id);
    else if (!says_none(id))
        warn_of_ids(file, bos_key, id, 1, spec->vocab_size, "no text is known to begin with it");
    if (!kv_json_has(file, eos_key)) spec->eos_id = eos < spec->vocab_size ? eos : -1;
    return read_ends(file, spec, err);
}

// Asked for nothing but ends of a text, which config.json knows too: one that cannot be read is done without.
kv_status kv_hf_generation_read(const char *dir, kv_model_spec *spec, kv_error *err) {
    static const char name[] = "generation_config.json";
    kv_json_file file;
    kv_error why;
    if (!kv_path_exists_in(dir, name)) return KV_OK;
    kv_status status = kv_json_open(dir, name, &file, &why);
    if (status == KV_OK)
        status = read_ends(&file, spec, err);
    else {
        kv_warn("%s: left out; only config.json says where a text ends", why.message);
        status = KV_OK;
    }
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

kv_status kv_hf_generation_write(const kv_model_spec *spec, char **text, kv_error *err) {
    json_t *root = json_pack("{s:o, s:o}", bos_key, kv_hf_bos_json(spec), eos_key, kv_hf_eos_json(spec));
    *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    return *text ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
}
