// kvdata inspect: predictors.
#include "core/model.h"
#include "data/checkpoint/predictor_json.h"
#include "data/checkpoint/safetensors.h"
#include "data/file/json.h"
#include "data/kvdata/inspect/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
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

// What the first version of predictor.json says: the paper's maps and their first two variations.
static void report_simple(const json_t *root, inspect_report *report) {
    const json_int_t rank = json_integer_value(json_object_get(root, "rank"));
    const bool two = json_integer_value(json_object_get(root, "aux_layers")) == 2;
    report_mapping(root, two, report);
    inspect_value(report, "aux_layers", json_integer(two ? 2 : 1));
    if (rank > 0)
        inspect_fact(report, "rank", json_integer(rank), "%" JSON_INTEGER_FORMAT ", up · down", rank);
    else
        inspect_fact(report, "rank", json_integer(0), "full");
}

// The words of a description, a line for each of its parts.
static void report_words(char *text, inspect_report *report) {
    for (char *part = text, *next; part; part = next) {
        next = strstr(part, "; ");
        if (next) *next = '\0', next += 2;
        inspect_row(report, "parts", json_string(part), "%-12s %s", part == text ? "parts" : "", part);
    }
}

static void report_value(const json_t *root, const char *key, inspect_report *report) {
    json_t *value = json_object_get(root, key);
    if (value) inspect_value(report, key, json_deep_copy(value));
}

// What the second one says: every part.
static kv_status report_parts(const char *path, json_t *root, inspect_report *report, kv_error *err) {
    kv_json_file file = {.root = root};
    int64_t n_base = 0, n_aux = 0, prefix = 0;
    kv_predictor_spec *spec = malloc(sizeof *spec);
    snprintf(file.path, sizeof file.path, "%s", path);
    kv_status status = spec ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    if (!status) status = kv_json_int(&file, "n_base_layers", 1, KV_MAX_LAYERS, &n_base, err);
    if (!status) status = kv_json_int(&file, "n_aux_layers", 1, KV_MAX_LAYERS, &n_aux, err);
    const kv_model_spec base = {.n_layers = n_base}, aux = {.n_layers = n_aux};
    if (!status) status = kv_predictor_spec_read(&file, KV_PREDICTOR_VERSION, &base, &aux, spec, err);
    const size_t size = status ? 0 : kv_predictor_spec_describe(spec, NULL, 0) + 1;
    char *text = status ? NULL : malloc(size);
    if (!status && !text) status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    if (!status) {
        prefix = spec->prefix_layers;
        inspect_value(report, "prefix_layers", json_integer(prefix));
        kv_predictor_spec_describe(spec, text, size);
        report_words(text, report);
        report_value(root, "queries", report);
        for (int side = 0; side < KV_SIDES; side++) report_value(root, kv_side_names[side], report);
    }
    free(text);
    free(spec);
    return status;
}

static kv_status report_description(const char *path, json_t *root, inspect_report *report, kv_error *err) {
    const json_t *base = json_object_get(root, "n_base_layers"), *aux = json_object_get(root, "n_aux_layers");
    static const char *const models[] = {"base", "aux"}, *const keys[] = {"base_fingerprint",
                                                                          "aux_fingerprint"};
    const bool prefix = json_integer_value(json_object_get(root, "prefix_layers")) > 0;
    char shown[INSPECT_SHORT];
    inspect_fact(report, "layers",
                 json_pack("{s:I, s:I}", "base", json_integer_value(base), "aux", json_integer_value(aux)),
                 prefix ? "%" JSON_INTEGER_FORMAT " of the base"
                        : "%" JSON_INTEGER_FORMAT " of the base from %" JSON_INTEGER_FORMAT " of the aux",
                 json_integer_value(base), json_integer_value(aux));
    if (json_integer_value(json_object_get(root, "version")) >= KV_PREDICTOR_VERSION) {
        const kv_status status = report_parts(path, root, report, err);
        if (status) return status;
    } else {
        report_simple(root, report);
    }
    for (int i = 0; i < 2; i++) {
        const char *fingerprint = json_string_value(json_object_get(root, keys[i]));
        if (fingerprint)
            inspect_fact(report, models[i], json_string(fingerprint),
                         "fingerprint %s (kvdata inspect --hash)", inspect_short(fingerprint, 32, shown));
    }
    return KV_OK;
}

static kv_status describe_predictor_json(const inspect_subject *s, inspect_report *report, kv_error *err) {
    inspect_title(report, "predictor description", s->path);
    return report_description(s->path, s->json, report, err);
}

// ---- Weights -------------------------------------------------------------------------------------------

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
static void report_maps(const kv_safetensors *file, inspect_report *report) {
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

// "key.3.down.weight": the part of a layer's parameter, and its layer; NULL: it is none of a layer.
static const char *layer_part(const char *name, long *layer) {
    char *end;
    const char *dot = strchr(name, '.');
    if (!dot) return NULL;
    *layer = strtol(dot + 1, &end, 10);
    return end > dot + 1 && *end == '.' ? end + 1 : NULL;
}

// The same part of another layer, of the same shape; NULL: there is none.
static const kv_st_entry *same_of(const kv_safetensors *file, const kv_st_entry *entry, long layer) {
    char name[96];
    long own;
    const char *part = layer_part(entry->name, &own);
    snprintf(name, sizeof name, "%.*s.%ld.%.60s", (int)strcspn(entry->name, "."), entry->name, layer, part);
    const kv_st_entry *other = kv_safetensors_find(file, name);
    if (!other || other->n_dims != entry->n_dims) return NULL;
    return memcmp(other->shape, entry->shape, (size_t)entry->n_dims * sizeof *entry->shape) == 0 ? other
                                                                                                 : NULL;
}

static void report_part(const kv_st_entry *entry, long first, long last, inspect_report *report) {
    char shape[64] = "";
    json_t *dims = json_array();
    size_t n = 0;
    long own;
    const char *part = layer_part(entry->name, &own);
    for (int d = 0; d < entry->n_dims && n + 24 < sizeof shape; d++) {
        json_array_append_new(dims, json_integer(entry->shape[d]));
        n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%" PRIi64, d ? ", " : "", entry->shape[d]);
    }
    json_t *row = json_pack("{s:s, s:o}", "name", entry->name, "shape", dims);
    if (!part) {
        inspect_row(report, "shapes", row, "%-12s %.60s: [%s]", "weights", entry->name, shape);
        return;
    }
    json_object_set_new(row, "first", json_integer(first));
    json_object_set_new(row, "last", json_integer(last));
    inspect_row(report, "shapes", row, "%-12s %.*s.%.60s, layers %ld to %ld: [%s]", "weights",
                (int)strcspn(entry->name, "."), entry->name, part, first, last, shape);
}

// "key.weight, layers 3 to 7: [256, 512]" for every run of layers of the same shape, whatever they are made of.
static void report_all_parts(const kv_safetensors *file, inspect_report *report) {
    for (int64_t i = 0; i < kv_safetensors_count(file); i++) {
        const kv_st_entry *entry = kv_safetensors_at(file, i);
        long first = 0, last;
        if (!entry->is_float || strlen(entry->name) > 80) continue;
        if (layer_part(entry->name, &first) && first > 0 && same_of(file, entry, first - 1)) continue;
        for (last = first; layer_part(entry->name, &first) && last < KV_MAX_LAYERS; last++)
            if (!same_of(file, entry, last + 1)) break;
        report_part(entry, first, last, report);
    }
}

static kv_status report_predictor_weights(const char *path, bool simple, inspect_report *report,
                                          kv_error *err) {
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
    (simple ? report_maps : report_all_parts)(file, report);
    kv_safetensors_close(file);
    return KV_OK;
}

static kv_status describe_predictor(const inspect_subject *s, inspect_report *report, kv_error *err) {
    char path[PATH_MAX];
    bool simple = true;
    inspect_title(report, "predictor", s->path);
    if (inspect_entry(s->path, "predictor.json", path, sizeof path)) {
        json_t *root;
        kv_status status = kv_json_read(path, INSPECT_MAX_JSON, &root, err);
        if (status) return status;
        simple = json_integer_value(json_object_get(root, "version")) < KV_PREDICTOR_VERSION;
        status = report_description(path, root, report, err);
        json_decref(root);
        if (status) return status;
    }
    if (inspect_entry(s->path, "predictor.safetensors", path, sizeof path))
        return report_predictor_weights(path, simple, report, err);
    inspect_fact(report, "weights", json_null(), "missing: no predictor.safetensors");
    return KV_OK;
}

const inspect_kind inspect_predictor_kinds[] = {
    {is_predictor, describe_predictor},
    {is_predictor_json, describe_predictor_json},
    {0},
};
