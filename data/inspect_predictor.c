// kvdata inspect: predictors.
#include "core/model.h"
#include "data/inspect.h"
#include "data/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool has(const inspect_subject *s, const char *name) {
    char path[PATH_MAX];
    return s->is_dir && inspect_entry(s->path, name, path, sizeof path);
}

static bool is_predictor(const inspect_subject *s) {
    return has(s, "predictor.json") || has(s, "predictor.safetensors");
}

static bool is_predictor_json(const inspect_subject *s) {
    const char *format = json_string_value(json_object_get(s->json, "format"));
    return format && strcmp(format, "kv-predictor") == 0;
}

static void report_mapping(const json_t *root, inspect_report *report) {
    const json_t *mapping = json_object_get(root, "mapping"), *base = json_object_get(root, "n_base_layers"),
                 *aux = json_object_get(root, "n_aux_layers");
    const char *fingerprint = json_string_value(json_object_get(root, "base_fingerprint"));
    char text[8 * KV_MAX_LAYERS] = "", shown[INSPECT_SHORT];
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(mapping) && used + 24 < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" JSON_INTEGER_FORMAT, i ? " " : "",
                                 json_integer_value(json_array_get(mapping, i)));
    inspect_fact(report, "layers",
                 json_pack("{s:I, s:I}", "base", json_integer_value(base), "aux", json_integer_value(aux)),
                 "%" JSON_INTEGER_FORMAT " of the base from %" JSON_INTEGER_FORMAT " of the aux",
                 json_integer_value(base), json_integer_value(aux));
    inspect_fact(report, "mapping", mapping ? json_deep_copy(mapping) : json_null(), "%s", text);
    if (fingerprint)
        inspect_fact(report, "base", json_string(fingerprint), "fingerprint %s (kvdata inspect --hash)",
                     inspect_short(fingerprint, 32, shown));
}

static kv_status describe_predictor_json(const inspect_subject *s, inspect_report *report, kv_error *err) {
    (void)err;
    inspect_title(report, "predictor description", s->path);
    report_mapping(s->json, report);
    return KV_OK;
}

// "0-12   key [512, 256], value [512, 256]" for every run of layers of the same shapes.
static kv_status report_predictor_weights(const char *path, inspect_report *report, kv_error *err) {
    kv_safetensors *file;
    kv_status status = kv_safetensors_open(path, &file, err);
    if (status) return status;
    int64_t size = 0, shape[2] = {0}, first = 0;
    char bytes[32], count[32];
    for (int64_t i = 0; i < kv_safetensors_count(file); i++) {
        const kv_st_entry *entry = kv_safetensors_at(file, i);
        int64_t n = 1;
        for (int d = 0; d < entry->n_dims; d++) n *= entry->shape[d];
        size += n;
    }
    inspect_fact(report, "parameters", json_integer(size), "%s, %s", inspect_count(size, count),
                 inspect_bytes(4.0 * (double)size, bytes));
    for (int64_t layer = 0; layer <= KV_MAX_LAYERS; layer++) {
        char name[48];
        snprintf(name, sizeof name, "key.%" PRIi64 ".weight", layer);
        const kv_st_entry *entry = kv_safetensors_find(file, name);
        const bool usable = entry && entry->n_dims == 2;
        if (layer > first && (!usable || entry->shape[0] != shape[0] || entry->shape[1] != shape[1])) {
            json_t *row =
                json_pack("{s:I, s:I, s:[I, I]}", "first", (json_int_t)first, "last", (json_int_t)(layer - 1),
                          "shape", (json_int_t)shape[0], (json_int_t)shape[1]);
            inspect_row(report, "shapes", row,
                        "%-12s layers %" PRIi64 " to %" PRIi64 ": [%" PRIi64 ", %" PRIi64
                        "] for keys and for values",
                        "maps", first, layer - 1, shape[0], shape[1]);
            first = layer;
        }
        if (!usable) break;
        shape[0] = entry->shape[0], shape[1] = entry->shape[1];
    }
    kv_safetensors_close(file);
    return KV_OK;
}

static kv_status describe_predictor(const inspect_subject *s, inspect_report *report, kv_error *err) {
    char path[PATH_MAX];
    inspect_title(report, "predictor", s->path);
    if (inspect_entry(s->path, "predictor.json", path, sizeof path)) {
        json_error_t why;
        json_t *root = json_load_file(path, 0, &why);
        if (!json_is_object(root)) {
            json_decref(root);
            return kv_fail(err, KV_ERR_FORMAT, "%s:%d: bad JSON: %s", path, why.line, why.text);
        }
        report_mapping(root, report);
        json_decref(root);
    }
    if (inspect_entry(s->path, "predictor.safetensors", path, sizeof path))
        return report_predictor_weights(path, report, err);
    inspect_fact(report, "weights", json_null(), "missing: no predictor.safetensors");
    return KV_OK;
}

const inspect_kind inspect_predictor_kinds[] = {
    {is_predictor, describe_predictor},
    {is_predictor_json, describe_predictor_json},
    {0},
};
