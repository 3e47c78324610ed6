// kvdata inspect: predictors.
#include "core/model.h"
#include "data/checkpoint/safetensors.h"
#include "data/file/json.h"
#include "data/kvdata/inspect/inspect.h"

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

// "0 0 1", or "0+1 0+1 1+0" where each map reads two layers (core/predictor/predictor.h: the neighbour above, at the
// top the one below).
static void report_mapping(const json_t *root, bool two, inspect_report *report) {
    const json_t *mapping = json_object_get(root, "mapping");
    const json_int_t n_aux = json_integer_value(json_object_get(root, "n_aux_layers"));
    char text[24 * KV_MAX_LAYERS] = "";
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(mapping) && used + 48 < sizeof text; i++) {
        const json_int_t j = json_integer_value(json_array_get(mapping, i));
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" JSON_INTEGER_FORMAT, i ? " " : "", j);
        if (two)
            used += (size_t)snprintf(text + used, sizeof text - used, "+%" JSON_INTEGER_FORMAT,
                                     j + 1 < n_aux ? j + 1 : j - 1);
    }
    inspect_fact(report, "mapping", mapping ? json_deep_copy(mapping) : json_null(), "%s", text);
}

static void report_description(const json_t *root, inspect_report *report) {
    const json_t *base = json_object_get(root, "n_base_layers"), *aux = json_object_get(root, "n_aux_layers");
    static const char *const models[] = {"base", "aux"}, *const keys[] = {"base_fingerprint",
                                                                          "aux_fingerprint"};
    const json_int_t rank = json_integer_value(json_object_get(root, "rank"));
    const bool two = json_integer_value(json_object_get(root, "aux_layers")) == 2;
    char shown[INSPECT_SHORT];
    inspect_fact(report, "layers",
                 json_pack("{s:I, s:I}", "base", json_integer_value(base), "aux", json_integer_value(aux)),
                 "%" JSON_INTEGER_FORMAT " of the base from %" JSON_INTEGER_FORMAT " of the aux",
                 json_integer_value(base), json_integer_value(aux));
    report_mapping(root, two, report);
    inspect_value(report, "aux_layers", json_integer(two ? 2 : 1));
    if (rank > 0)
        inspect_fact(report, "rank", json_integer(rank), "%" JSON_INTEGER_FORMAT ", up · down", rank);
    else
        inspect_fact(report, "rank", json_integer(0), "full");
    for (int i = 0; i < 2; i++) {
        const char *fingerprint = json_string_value(json_object_get(root, keys[i]));
        if (fingerprint)
            inspect_fact(report, models[i], json_string(fingerprint),
                         "fingerprint %s (kvdata inspect --hash)", inspect_short(fingerprint, 32, shown));
    }
}

static kv_status describe_predictor_json(const inspect_subject *s, inspect_report *report, kv_error *err) {
    (void)err;
    inspect_title(report, "predictor description", s->path);
    report_description(s->json, report);
    return KV_OK;
}

// The matrices of a layer's key map: [up, down], or [weight, nothing].
struct map_shape {
    int64_t rows[2], cols[2];
};

static bool find_matrix(const kv_safetensors *file, int64_t layer, const char *part, int64_t *rows,
                        int64_t *cols) {
    char name[48];
    snprintf(name, sizeof name, "key.%" PRIi64 ".%s", layer, part);
    const kv_st_entry *entry = kv_safetensors_find(file, name);
    if (!entry || entry->n_dims != 2) return false;
    *rows = entry->shape[0], *cols = entry->shape[1];
    return true;
}

static bool find_map(const kv_safetensors *file, int64_t layer, struct map_shape *shape) {
    *shape = (struct map_shape){0};
    if (find_matrix(file, layer, "weight", &shape->rows[0], &shape->cols[0])) return true;
    return find_matrix(file, layer, "up.weight", &shape->rows[0], &shape->cols[0]) &&
           find_matrix(file, layer, "down.weight", &shape->rows[1], &shape->cols[1]);
}

static void report_run(int64_t first, int64_t last, const struct map_shape *s, inspect_report *report) {
    char down[64] = "";
    json_t *row = json_pack("{s:I, s:I, s:[I, I]}", "first", (json_int_t)first, "last", (json_int_t)last,
                            "shape", (json_int_t)s->rows[0], (json_int_t)s->cols[0]);
    if (s->rows[1] > 0) {
        json_object_set_new(row, "down", json_pack("[I, I]", (json_int_t)s->rows[1], (json_int_t)s->cols[1]));
        snprintf(down, sizeof down, " · [%" PRIi64 ", %" PRIi64 "]", s->rows[1], s->cols[1]);
    }
    inspect_row(report, "shapes", row,
                "%-12s layers %" PRIi64 " to %" PRIi64 ": [%" PRIi64 ", %" PRIi64
                "]%s for keys and for values",
                "maps", first, last, s->rows[0], s->cols[0], down);
}

// "layers 0 to 12: [512, 256] for keys and for values" for every run of layers of the same shapes.
static void report_shapes(const kv_safetensors *file, inspect_report *report) {
    struct map_shape shape, next;
    int64_t first = 0;
    bool known = find_map(file, 0, &shape);
    for (int64_t layer = 1; known; layer++) {
        known = layer < KV_MAX_LAYERS && find_map(file, layer, &next);
        if (known && memcmp(&next, &shape, sizeof shape) == 0) continue;
        report_run(first, layer - 1, &shape, report);
        first = layer, shape = next;
    }
}

static kv_status report_predictor_weights(const char *path, inspect_report *report, kv_error *err) {
    kv_safetensors *file;
    kv_status status = kv_safetensors_open(path, &file, err);
    if (status) return status;
    int64_t size = 0;
    char bytes[32], count[32];
    for (int64_t i = 0; i < kv_safetensors_count(file); i++) {
        const kv_st_entry *entry = kv_safetensors_at(file, i);
        int64_t n = entry->is_float; // others are not a predictor's
        for (int d = 0; entry->is_float && d < entry->n_dims; d++) n *= entry->shape[d];
        size += n;
    }
    inspect_fact(report, "parameters", json_integer(size), "%s, %s", inspect_count(size, count),
                 inspect_bytes(4.0 * (double)size, bytes));
    report_shapes(file, report);
    kv_safetensors_close(file);
    return KV_OK;
}

static kv_status describe_predictor(const inspect_subject *s, inspect_report *report, kv_error *err) {
    char path[PATH_MAX];
    inspect_title(report, "predictor", s->path);
    if (inspect_entry(s->path, "predictor.json", path, sizeof path)) {
        json_t *root;
        kv_status status = kv_json_read(path, INSPECT_MAX_JSON, &root, err);
        if (status) return status;
        report_description(root, report);
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
