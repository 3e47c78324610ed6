// Predictor directories: predictor.json says which layers go where and which models it was trained between, the
// safetensors file has the maps. What both say is checked against both models before weights are taken.
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/predictor_json.h"
#include "data/checkpoint/random.h"
#include "data/checkpoint/weights_file.h"
#include "data/file/hash.h"
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

// Biases; a map of rank 1 is a matrix with one row all the same, as is a table.
static bool is_vector(const kv_param *param) {
    return !param->decay && param->rows == 1 && param->group == KV_GROUP_MAPS;
}

// Caller frees *params.
static kv_status list_params(kv_predictor *predictor, kv_param ***params, int64_t *n, kv_error *err) {
    *n = kv_predictor_params(predictor, NULL);
    *params = calloc((size_t)*n + 1, sizeof **params);
    if (!*params) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_predictor_params(predictor, *params);
    return KV_OK;
}

// One tensor per parameter, under the parameter's own name. Caller frees *tensors.
static kv_status list_tensors(kv_predictor *predictor, kv_weights_tensor **tensors, int64_t *n,
                              kv_error *err) {
    kv_param **params;
    kv_status status = list_params(predictor, &params, n, err);
    if (status) return status;
    *tensors = calloc((size_t)*n + 1, sizeof **tensors);
    if (!*tensors) status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    for (int64_t i = 0; !status && i < *n; i++) {
        kv_weights_tensor *tensor = &(*tensors)[i];
        memcpy(tensor->name, params[i]->name, sizeof tensor->name);
        tensor->n_dims = is_vector(params[i]) ? 1 : 2;
        kv_weights_add_part(tensor, params[i]);
    }
    free(params);
    return status;
}

static kv_status fingerprint(kv_predictor *predictor, char out[17], kv_error *err) {
    kv_param **params;
    int64_t n;
    kv_status status = list_params(predictor, &params, &n, err);
    if (status) return status;
    kv_params_fingerprint(params, n, out);
    free(params);
    return KV_OK;
}

void kv_predictor_fingerprint(kv_predictor *predictor, char out[17]) {
    const size_t size = kv_predictor_spec_describe(&predictor->spec, NULL, 0) + 1;
    char *text = malloc(size), weights[17];
    strcpy(out, "0000000000000000");
    if (text && fingerprint(predictor, weights, NULL) == KV_OK) {
        kv_predictor_spec_describe(&predictor->spec, text, size);
        kv_hash_text(kv_hash64(kv_hash64(0, text, size), weights, sizeof weights), out);
    }
    free(text);
}

// ---- Saving --------------------------------------------------------------------------------------------

// NULL when out of memory.
static char *describe(kv_predictor *predictor, const kv_fingerprints *made_for) {
    char own[17];
    if (fingerprint(predictor, own, NULL) != KV_OK) return NULL;
    json_t *root = json_pack("{s:s}", "format", format_name);
    json_t *whose = json_pack("{s:s, s:s*, s:s*}", own_key, own, base_key, made_for ? made_for->base : NULL,
                              aux_key, made_for ? made_for->aux : NULL);
    char *text = NULL;
    if (root && whose && kv_predictor_spec_write(&predictor->spec, root) &&
        json_object_update(root, whose) == 0)
        text = json_dumps(root, JSON_INDENT(1));
    json_decref(whose);
    json_decref(root);
    return text;
}

kv_status kv_predictor_save(const char *dir, kv_predictor *predictor, const kv_fingerprints *made_for,
                            kv_error *err) {
    kv_weights_tensor *tensors;
    int64_t n;
    if (predictor->tabulated)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s: a tabulated predictor is not saved: only a whole one is",
                       dir);
    kv_status status = list_tensors(predictor, &tensors, &n, err);
    if (status) return status;
    char *text = describe(predictor, made_for);
    const kv_weights_text described = {json_name, text};
    status = text ? kv_weights_write(dir, weights_name, tensors, n, &described, 1, err)
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

// What a predictor directory says. Large, so not on the stack.
struct found {
    kv_predictor_spec spec;
    char weights[17]; // fingerprint; "": it does not say
};

// The layers that a mapping which was asked for has for the first source of each map.
static kv_status check_mapping(const kv_json_file *file, const kv_predictor_spec *spec, const int32_t *given,
                               kv_error *err) {
    for (int64_t i = 0; given && i < spec->n_base_layers; i++) {
        const kv_source read = spec->outputs[KV_KEYS][i].sources.at[0];
        if (given[i] != read.layer)
            return kv_fail(err, KV_ERR_MISMATCH,
                           "%s: base layer %lld reads auxiliary layer %d, the mapping asked for has %d",
                           file->path, (long long)i, (int)read.layer, (int)given[i]);
    }
    return KV_OK;
}

// Whose first layers a prefix is, so that an auxiliary model is one too many.
static kv_status check_prefix(const kv_json_file *file, bool has_aux, kv_error *err) {
    int64_t prefix = 0;
    kv_status status = KV_OK;
    if (kv_json_has(file, "prefix_layers"))
        status = kv_json_int(file, "prefix_layers", 0, KV_MAX_LAYERS, &prefix, err);
    if (status || (prefix > 0) != has_aux) return status;
    if (has_aux)
        return kv_fail(err, KV_ERR_MISMATCH,
                       "%s: made for the base's own first %lld layers (prefix_layers), expected no auxiliary "
                       "model beside it",
                       file->path, (long long)prefix);
    return kv_fail(err, KV_ERR_MISMATCH, "%s: made for an auxiliary model, found none", file->path);
}

// What predictor.json says, compared with the pair of models and, when `given`, with the mapping asked for. aux
// NULL: there is none.
static kv_status check_json(const kv_json_file *file, const kv_model_spec *base, const kv_model_spec *aux,
                            const kv_fingerprints *known, const int32_t *given, struct found *found,
                            kv_error *err) {
    int64_t version;
    const char *format = json_string_value(json_object_get(file->root, "format"));
    if (!format || strcmp(format, format_name) != 0)
        return kv_json_wrong(file, "format", -1, "\"kv-predictor\"", err);
    kv_status status = kv_json_int(file, "version", INT32_MIN, INT32_MAX, &version, err);
    if (!status)
        status = kv_check_version(file->path, KV_FILE_PREDICTOR_JSON, version, 1, KV_PREDICTOR_VERSION,
                                  "kvtrain makes it again", err);
    if (!status) status = check_prefix(file, aux != NULL, err);
    if (!aux) aux = base;
    if (!status) status = check_layers(file, "n_base_layers", "a base model", base->n_layers, err);
    if (!status) status = check_layers(file, "n_aux_layers", "an auxiliary model", aux->n_layers, err);
    if (!status) status = kv_predictor_spec_read(file, version, base, aux, &found->spec, err);
    if (!status) status = check_mapping(file, &found->spec, given, err);
    if (!status) {
        status = kv_predictor_spec_check(base, aux, &found->spec, err);
        if (status) kv_fail_within(err, status, "%s", file->path);
    }
    if (!status) status = read_fingerprint(file, own_key, found->weights, err);
    return status ? status : check_weights(file, known, err);
}

// What predictor.json says, or (the paper's maps) `given` where there is none. Caller frees *found.
static kv_status find_spec(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                           const kv_fingerprints *known, const int32_t *given, struct found **found,
                           kv_error *err) {
    struct stat info;
    kv_json_file file;
    *found = calloc(1, sizeof **found);
    if (!*found) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", dir);
    kv_status status = kv_json_open(dir, json_name, &file, err);
    if (!status)
        status = kv_mistaken(file.path, KV_FILE_PREDICTOR_JSON,
                             check_json(&file, base, aux, known, given, *found, err), err);
    else if (status == KV_ERR_IO && given && aux && stat(file.path, &info) != 0) {
        kv_predictor_spec_paper(base, aux, given, &(*found)->spec);
        status = KV_OK;
    }
    kv_json_close(&file);
    status = kv_mistaken_dir(dir, json_name,
                             "a predictor's directory (predictor.json, predictor.safetensors)", status, err);
    if (!status) return KV_OK;
    free(*found);
    *found = NULL;
    return status;
}

// A map of a layer that the pair has not is another pair's; what else there may be is nobody's.
static kv_weights_verdict judge(const void *context, const char *name) {
    (void)context;
    const bool map = strncmp(name, "key.", 4) == 0 || strncmp(name, "value.", 6) == 0 ||
                     strncmp(name, "query.", 6) == 0 || strncmp(name, "token.", 6) == 0;
    return map ? KV_WEIGHTS_REFUSED : KV_WEIGHTS_LEFT_OUT;
}

// The weights of a predictor of this shape: looked at, or taken.
static kv_status read_weights(const char *dir, kv_predictor *predictor, bool taken, kv_error *err) {
    kv_weights_set *set;
    kv_weights_tensor *tensors = NULL;
    kv_weights_request request = {.expected_by = "the base and auxiliary models",
                                  .if_refused = "it belongs to a part that predictor.json does not have",
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
    kv_status status = fingerprint(predictor, found, err);
    if (status || strcmp(found, expected) == 0) return status;
    return kv_fail(
        err, KV_ERR_MISMATCH,
        "%s: %s holds weights of fingerprint %s, expected %s as in the %s beside it: two predictors' "
        "files (if the weights were changed on purpose, delete \"%s\" from %s)",
        dir, weights_name, found, expected, json_name, own_key, json_name);
}

kv_status kv_predictor_load(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                            const kv_fingerprints *known, const int32_t *mapping, kv_predictor **predictor,
                            kv_error *err) {
    struct found *found;
    kv_predictor *loaded = NULL;
    *predictor = NULL;
    kv_status status = kv_model_spec_check(base, err);
    if (!status && aux) status = kv_model_spec_check(aux, err);
    if (!status && kv_is_random_predictor(dir))
        return kv_random_predictor(dir, base, aux, mapping, predictor, err);
    if (!status) status = find_spec(dir, base, aux, known, mapping, &found, err);
    if (status) return status;
    status = kv_predictor_create(base, aux ? aux : base, &found->spec, &loaded, err);
    if (!status) status = read_weights(dir, loaded, true, err);
    if (!status) status = check_own(dir, loaded, found->weights, err);
    free(found);
    if (status)
        kv_predictor_free(loaded);
    else
        *predictor = loaded;
    return status;
}

kv_status kv_predictor_shape(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                             kv_predictor **predictor, kv_error *err) {
    struct found *found;
    *predictor = NULL;
    if (kv_is_random_predictor(dir)) return kv_random_predictor_shape(dir, base, aux, predictor, err);
    kv_status status = find_spec(dir, base, aux, NULL, NULL, &found, err);
    if (!status) status = kv_predictor_plan(base, aux ? aux : base, &found->spec, predictor, err);
    free(found);
    return status;
}

kv_status kv_predictor_prefix(const char *dir, int64_t *n_layers, kv_error *err) {
    kv_json_file file;
    *n_layers = 0;
    if (kv_is_random_predictor(dir)) return kv_random_predictor_prefix(dir, n_layers, err);
    kv_status status = kv_json_open(dir, json_name, &file, err);
    if (!status && kv_json_has(&file, "prefix_layers"))
        status = kv_json_int(&file, "prefix_layers", 0, KV_MAX_LAYERS, n_layers, err);
    kv_json_close(&file);
    return kv_mistaken_dir(dir, json_name, "a predictor's directory (predictor.json, predictor.safetensors)",
                           status, err);
}

// ---- Checking ------------------------------------------------------------------------------------------

kv_status kv_predictor_check(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                             const int32_t *mapping, kv_error *err) {
    struct found *found;
    kv_predictor *shape = NULL;
    if (kv_is_random_predictor(dir)) return kv_random_predictor_check(dir, base, aux, mapping, err);
    kv_status status = find_spec(dir, base, aux, NULL, mapping, &found, err);
    if (!status) status = kv_predictor_plan(base, aux ? aux : base, &found->spec, &shape, err);
    if (!status) status = read_weights(dir, shape, false, err);
    kv_predictor_free(shape);
    free(found);
    return status;
}
