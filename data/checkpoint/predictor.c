// Predictor directories: predictor.json says which layers go where and which models it was trained between, the
// safetensors file has the maps. What both say is checked against both models before weights are taken.
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/random.h"
#include "data/checkpoint/weights_file.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char json_name[] = "predictor.json", weights_name[] = "predictor.safetensors";
static const char format_name[] = "kv-predictor";
static const char own_key[] = "fingerprint", base_key[] = "base_fingerprint", aux_key[] = "aux_fingerprint";
enum { FORMAT_VERSION = 1 };

// Biases; a map of rank 1 is a matrix with one row all the same.
static bool is_vector(const kv_param *param) {
    return !param->decay;
}

// One tensor per parameter, under the parameter's own name. Caller frees *tensors.
static kv_status list_tensors(kv_predictor *predictor, kv_weights_tensor **tensors, int64_t *n,
                              kv_error *err) {
    kv_param *params[KV_PREDICTOR_PARAMS];
    *n = kv_predictor_params(predictor, params);
    *tensors = calloc((size_t)*n + 1, sizeof **tensors);
    if (!*tensors) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    for (int64_t i = 0; i < *n; i++) {
        kv_weights_tensor *tensor = &(*tensors)[i];
        memcpy(tensor->name, params[i]->name, sizeof tensor->name);
        tensor->n_dims = is_vector(params[i]) ? 1 : 2;
        kv_weights_add_part(tensor, params[i]);
    }
    return KV_OK;
}

static void fingerprint(kv_predictor *predictor, char out[17]) {
    kv_param *params[KV_PREDICTOR_PARAMS];
    const int64_t n = kv_predictor_params(predictor, params);
    kv_params_fingerprint(params, n, out);
}

// ---- Saving --------------------------------------------------------------------------------------------

static char *describe(kv_predictor *predictor, const kv_fingerprints *made_for) {
    char own[17];
    fingerprint(predictor, own);
    json_t *mapping = json_array();
    for (int64_t i = 0; i < predictor->n_base_layers; i++)
        json_array_append_new(mapping, json_integer(predictor->mapping[i]));
    json_t *root =
        json_pack("{s:s, s:i, s:I, s:I, s:o, s:s, s:s*, s:s*}", "format", format_name, "version",
                  FORMAT_VERSION, "n_base_layers", (json_int_t)predictor->n_base_layers, "n_aux_layers",
                  (json_int_t)predictor->n_aux_layers, "mapping", mapping, own_key, own, base_key,
                  made_for ? made_for->base : NULL, aux_key, made_for ? made_for->aux : NULL);
    const kv_predictor_kind *kind = &predictor->kind; // said where it is not the usual one
    if (kind->rank > 0) json_object_set_new(root, "rank", json_integer(kind->rank));
    if (kind->aux_layers > 1) json_object_set_new(root, "aux_layers", json_integer(kind->aux_layers));
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    return text;
}

kv_status kv_predictor_save(const char *dir, kv_predictor *predictor, const kv_fingerprints *made_for,
                            kv_error *err) {
    kv_weights_tensor *tensors;
    int64_t n;
    kv_status status = list_tensors(predictor, &tensors, &n, err);
    if (status) return status;
    char *text = describe(predictor, made_for);
    status = text ? kv_weights_write(dir, weights_name, tensors, n, json_name, text, err)
                  : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", dir);
    free(text);
    free(tensors);
    return status;
}

// ---- Loading -------------------------------------------------------------------------------------------

static kv_status check_layers(const kv_json_file *file, const char *key, const char *model, int64_t n_layers,
                              kv_error *err) {
    int64_t found;
    kv_status status = kv_json_int(file, key, 1, KV_MAX_LAYERS, &found, err);
    if (status || found == n_layers) return status;
    return kv_fail(err, KV_ERR_MISMATCH, "%s: made for %s of %lld layers, this one has %lld", file->path,
                   model, (long long)found, (long long)n_layers);
}

// Directories from before fingerprints of all were recorded say nothing: "".
static kv_status read_fingerprint(const kv_json_file *file, const char *key, char out[17], kv_error *err) {
    const char *text = json_string_value(json_object_get(file->root, key));
    out[0] = '\0';
    if (!kv_json_has(file, key)) return KV_OK;
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return kv_json_wrong(file, key, -1, "16 hex digits", err);
    strcpy(out, text);
    return KV_OK;
}

// found NULL: it is not known which weights are at hand.
static kv_status check_fingerprint(const kv_json_file *file, const char *key, const char *model,
                                   const char *found, kv_error *err) {
    char expected[17];
    if (!found) return KV_OK;
    kv_status status = read_fingerprint(file, key, expected, err);
    if (status || !expected[0] || strcmp(found, expected) == 0) return status;
    return kv_fail(err, KV_ERR_MISMATCH, "%s: made for %s with fingerprint %s, this one has %s", file->path,
                   model, expected, found);
}

static kv_status check_weights(const kv_json_file *file, const kv_fingerprints *found, kv_error *err) {
    kv_status status = found ? check_fingerprint(file, base_key, "a base model", found->base, err) : KV_OK;
    if (status || !found) return status;
    return check_fingerprint(file, aux_key, "an auxiliary model", found->aux, err);
}

// What a predictor directory says its maps are like.
struct maps {
    int32_t mapping[KV_MAX_LAYERS];
    kv_predictor_kind kind;
    char weights[17]; // fingerprint; "": it does not say
};

static kv_status read_mapping(const kv_json_file *file, const kv_model_spec *base, const kv_model_spec *aux,
                              const int32_t *given, int32_t *mapping, kv_error *err) {
    int64_t entries[KV_MAX_LAYERS];
    kv_status status = kv_json_ints(file, "mapping", base->n_layers, 0, aux->n_layers - 1, entries, err);
    for (int64_t i = 0; i < base->n_layers && !status; i++) {
        mapping[i] = (int32_t)entries[i];
        if (given && given[i] != mapping[i])
            status = kv_fail(err, KV_ERR_MISMATCH,
                             "%s: base layer %lld reads auxiliary layer %d, the mapping asked for has %d",
                             file->path, (long long)i, (int)mapping[i], (int)given[i]);
    }
    return status;
}

// Directories from before there were kinds, and those of the usual kind, say nothing.
static kv_status read_kind(const kv_json_file *file, const kv_model_spec *base, const kv_model_spec *aux,
                           struct maps *maps, kv_error *err) {
    kv_predictor_kind *kind = &maps->kind;
    *kind = (kv_predictor_kind){.aux_layers = 1};
    kv_status status = KV_OK;
    if (kv_json_has(file, "rank")) status = kv_json_int(file, "rank", 0, INT32_MAX, &kind->rank, err);
    if (!status && kv_json_has(file, "aux_layers"))
        status = kv_json_int(file, "aux_layers", 1, 2, &kind->aux_layers, err);
    if (status) return status;
    status = kv_predictor_kind_check(base, aux, maps->mapping, kind, err);
    return status ? kv_fail_within(err, status, "%s", file->path) : KV_OK;
}

// What predictor.json says, compared with the pair of models and, when `given`, with the mapping asked for.
static kv_status check_json(const kv_json_file *file, const kv_model_spec *base, const kv_model_spec *aux,
                            const kv_fingerprints *found, const int32_t *given, struct maps *maps,
                            kv_error *err) {
    int64_t version;
    const char *format = json_string_value(json_object_get(file->root, "format"));
    if (!format || strcmp(format, format_name) != 0)
        return kv_json_wrong(file, "format", -1, "\"kv-predictor\"", err);
    kv_status status = kv_json_int(file, "version", INT32_MIN, INT32_MAX, &version, err);
    if (!status)
        status = kv_check_version(file->path, KV_FILE_PREDICTOR_JSON, version, FORMAT_VERSION, FORMAT_VERSION,
                                  "kvtrain makes it again", err);
    if (!status) status = check_layers(file, "n_base_layers", "a base model", base->n_layers, err);
    if (!status) status = check_layers(file, "n_aux_layers", "an auxiliary model", aux->n_layers, err);
    if (!status) status = read_mapping(file, base, aux, given, maps->mapping, err);
    if (!status) status = read_kind(file, base, aux, maps, err);
    if (!status) status = read_fingerprint(file, own_key, maps->weights, err);
    return status ? status : check_weights(file, found, err);
}

// Fills *maps from predictor.json, or (the usual kind) from `given` where there is none.
static kv_status find_maps(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                           const kv_fingerprints *found, const int32_t *given, struct maps *maps,
                           kv_error *err) {
    struct stat info;
    kv_json_file file;
    kv_status status = kv_json_open(dir, json_name, &file, err);
    if (!status)
        status = kv_mistaken(file.path, KV_FILE_PREDICTOR_JSON,
                             check_json(&file, base, aux, found, given, maps, err), err);
    else if (status == KV_ERR_IO && given && stat(file.path, &info) != 0) {
        *maps = (struct maps){.kind.aux_layers = 1};
        memcpy(maps->mapping, given, (size_t)base->n_layers * sizeof *given);
        status = KV_OK;
    }
    kv_json_close(&file);
    return kv_mistaken_dir(dir, json_name, "a predictor's directory (predictor.json, predictor.safetensors)",
                           status, err);
}

// A map of a layer that the pair has not is another pair's; what else there may be is nobody's.
static kv_weights_verdict judge(const void *context, const char *name) {
    (void)context;
    const bool map = strncmp(name, "key.", 4) == 0 || strncmp(name, "value.", 6) == 0;
    return map ? KV_WEIGHTS_REFUSED : KV_WEIGHTS_LEFT_OUT;
}

// The weights of a predictor of this shape: looked at, or taken.
static kv_status read_weights(const char *dir, kv_predictor *predictor, bool taken, kv_error *err) {
    kv_weights_set *set;
    kv_weights_tensor *tensors = NULL;
    kv_weights_request request = {.expected_by = "the base and auxiliary models",
                                  .if_refused = "it maps a layer that this base does not have",
                                  .judge = judge};
    kv_status status = kv_weights_set_open(dir, weights_name, &set, err);
    if (!status) status = list_tensors(predictor, &tensors, &request.n, err);
    request.tensors = tensors;
    if (!status)
        status = taken ? kv_weights_take(set, &request, true, err) : kv_weights_check(set, &request, err);
    free(tensors);
    kv_weights_set_close(set);
    return status;
}

// Whether these are the weights that predictor.json was written with.
static kv_status check_own(const char *dir, kv_predictor *predictor, const char expected[17], kv_error *err) {
    char found[17];
    if (!expected[0]) return KV_OK;
    fingerprint(predictor, found);
    if (strcmp(found, expected) == 0) return KV_OK;
    return kv_fail(
        err, KV_ERR_MISMATCH,
        "%s: %s holds weights of fingerprint %s, expected %s as in the %s beside it: two predictors' "
        "files (if the weights were changed on purpose, delete \"%s\" from %s)",
        dir, weights_name, found, expected, json_name, own_key, json_name);
}

kv_status kv_predictor_load(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                            const kv_fingerprints *found, const int32_t *mapping, kv_predictor **predictor,
                            kv_error *err) {
    struct maps maps;
    kv_predictor *loaded;
    *predictor = NULL;
    kv_status status = kv_model_spec_check(base, err);
    if (!status) status = kv_model_spec_check(aux, err);
    if (!status && kv_is_random_predictor(dir))
        return kv_random_predictor(dir, base, aux, mapping, predictor, err);
    if (!status) status = find_maps(dir, base, aux, found, mapping, &maps, err);
    if (!status) status = kv_predictor_create_kind(base, aux, maps.mapping, &maps.kind, &loaded, err);
    if (status) return status;
    status = read_weights(dir, loaded, true, err);
    if (!status) status = check_own(dir, loaded, maps.weights, err);
    if (status)
        kv_predictor_free(loaded);
    else
        *predictor = loaded;
    return status;
}

kv_status kv_predictor_shape(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                             kv_predictor **predictor, kv_error *err) {
    struct maps maps;
    *predictor = NULL;
    if (kv_is_random_predictor(dir)) return kv_random_predictor_shape(dir, base, aux, predictor, err);
    kv_status status = find_maps(dir, base, aux, NULL, NULL, &maps, err);
    // Memory that is never touched is never taken from the system.
    return status ? status : kv_predictor_create_kind(base, aux, maps.mapping, &maps.kind, predictor, err);
}

// ---- Checking ------------------------------------------------------------------------------------------

kv_status kv_predictor_check(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                             const int32_t *mapping, kv_error *err) {
    struct maps maps;
    kv_predictor *shape;
    if (kv_is_random_predictor(dir)) return kv_random_predictor_check(dir, base, aux, mapping, err);
    kv_status status = find_maps(dir, base, aux, NULL, mapping, &maps, err);
    // Memory that is never touched is never taken from the system.
    if (!status) status = kv_predictor_create_kind(base, aux, maps.mapping, &maps.kind, &shape, err);
    if (status) return status;
    status = read_weights(dir, shape, false, err);
    kv_predictor_free(shape);
    return status;
}
