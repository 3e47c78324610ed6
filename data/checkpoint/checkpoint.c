#include "data/checkpoint/checkpoint.h"

#include "core/dtype.h"
#include "core/flops.h"
#include "core/gemm/packed.h"
#include "data/checkpoint/hf_config.h"
#include "data/checkpoint/hf_layout.h"
#include "data/checkpoint/hf_names.h"
#include "data/checkpoint/random.h"
#include "data/file/hash.h"
#include "data/system/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// ---- Loading -------------------------------------------------------------------------------------------

static const char config_name[] = "config.json", generation_name[] = "generation_config.json",
                  weights_name[] = "model.safetensors";

kv_status kv_checkpoint_spec(const char *dir, kv_model_spec *spec, kv_error *err) {
    if (!kv_is_random_model(dir)) return kv_hf_config_read(dir, spec, err);
    kv_random_name name;
    kv_status status = kv_random_parse(dir, &name, err);
    if (status == KV_OK) *spec = name.spec;
    return status;
}

static void close_set(void *storage) {
    kv_weights_set_close(storage);
}

// A directory's files, and what the model needs of them under the names it has there.
struct weights {
    kv_weights_set *set;
    kv_weights_tensor *tensors;
    kv_weights_request request;
};

static void close_weights(struct weights *w) {
    free(w->tensors);
    kv_weights_set_close(w->set);
}

static kv_status open_weights(const char *dir, kv_model *model, struct weights *w, kv_error *err) {
    *w = (struct weights){.request = {.expected_by = config_name,
                                      .if_refused =
                                          "without it these weights compute something else (adapters "
                                          "have to be merged, quantized weights restored first)",
                                      .judge = kv_hf_judge,
                                      .context = &model->spec}};
    kv_status status = kv_weights_set_open_model(dir, &w->set, err);
    if (!status) status = kv_hf_tensors(model, &w->tensors, &w->request.n, err);
    if (!status) kv_hf_rename(w->set, &model->spec, w->tensors, w->request.n);
    w->request.tensors = w->tensors;
    return status;
}

// Fills the model from the files in dir; when its parameters have no data of their own they become views of
// the files, which then belong to the model.
static kv_status take_weights(const char *dir, kv_model *model, kv_error *err) {
    const bool copy = model->storage != NULL;
    struct weights w;
    kv_status status = open_weights(dir, model, &w, err);
    if (!status) status = kv_weights_take(w.set, &w.request, copy, err);
    if (!status && !copy) {
        model->storage = w.set;
        model->release = close_set;
        w.set = NULL;
    }
    close_weights(&w);
    return status;
}

kv_status kv_checkpoint_load_known(const char *dir, const kv_model_spec *spec, bool trainable,
                                   kv_model **model, kv_error *err) {
    *model = NULL;
    if (kv_is_random_model(dir)) return kv_random_model(dir, trainable, model, err);
    kv_model *loaded;
    kv_status status = kv_model_create(spec, KV_F32, trainable, &loaded, err);
    if (status) return kv_fail_within(err, status, "%s", dir);
    status = take_weights(dir, loaded, err);
    if (status)
        kv_model_free(loaded);
    else
        *model = loaded;
    return status;
}

static kv_status load(const char *dir, bool trainable, kv_model **model, kv_error *err) {
    *model = NULL;
    kv_model_spec spec;
    kv_status status = kv_checkpoint_spec(dir, &spec, err);
    return status ? status : kv_checkpoint_load_known(dir, &spec, trainable, model, err);
}

kv_status kv_checkpoint_load(const char *dir, kv_model **model, kv_error *err) {
    return load(dir, false, model, err);
}

kv_status kv_checkpoint_load_trainable(const char *dir, kv_model **model, kv_error *err) {
    return load(dir, true, model, err);
}

// ---- Saving --------------------------------------------------------------------------------------------

kv_status kv_checkpoint_save(const char *dir, kv_model *model, kv_error *err) {
    char *config = NULL, *generation = NULL;
    kv_weights_tensor *tensors = NULL;
    int64_t n;
    kv_status status = kv_hf_config_write(&model->spec, &config, err);
    if (!status) status = kv_hf_generation_write(&model->spec, &generation, err);
    if (!status) status = kv_hf_tensors(model, &tensors, &n, err);
    const kv_weights_text texts[] = {{config_name, config}, {generation_name, generation}};
    if (status)
        kv_fail_within(err, status, "%s", dir);
    else
        status = kv_weights_write(dir, weights_name, tensors, n, texts, 2, err);
    free(tensors);
    free(generation);
    free(config);
    return status;
}

// ---- Fingerprint ---------------------------------------------------------------------------------------

enum { PIECE = 4096 };

// Hashed as float32, so that a model keeps its fingerprint when its weights are widened or saved anew.
static uint64_t hash_param(uint64_t hash, const kv_param *param) {
    float values[PIECE];
    const int64_t size = kv_param_size(param);
    for (int64_t i = 0; i < size; i += PIECE) {
        const int64_t n = size - i < PIECE ? size - i : PIECE;
        kv_param_values(param, i, n, values);
        hash = kv_hash64(hash, values, (size_t)n * sizeof(float));
    }
    return hash;
}

// Covers what the model computes, not its longest context or special tokens.
static uint64_t hash_spec(const kv_model_spec *s) {
    const int64_t sizes[] = {s->vocab_size, s->model_dim, s->head_dim, s->n_layers,
                             s->qk_norm,    s->qkv_bias,  s->tied_head};
    const double reals[] = {s->norm_eps,
                            s->rope.theta,
                            s->rope.factor,
                            s->rope.low_freq_factor,
                            s->rope.high_freq_factor,
                            s->rope.original_context};
    uint64_t hash = kv_hash64(0, sizes, sizeof sizes);
    hash = kv_hash64(hash, reals, sizeof reals);
    return kv_hash64(hash, s->layers, (size_t)s->n_layers * sizeof s->layers[0]);
}

enum { MAX_PARAMS = 3 + KV_MAX_LAYERS * sizeof(kv_layer) / sizeof(kv_param) };

static void hash_params(uint64_t hash, kv_param *const *params, int64_t n, char out[17]) {
    for (int64_t i = 0; i < n; i++) hash = hash_param(hash, params[i]);
    kv_hash_text(hash, out);
}

void kv_checkpoint_fingerprint(kv_model *model, char out[17]) {
    kv_param *params[MAX_PARAMS];
    const int64_t n = kv_model_params(model, params);
    hash_params(hash_spec(&model->spec), params, n, out);
}

void kv_params_fingerprint(kv_param *const *params, int64_t n, char out[17]) {
    hash_params(0, params, n, out);
}

// ---- Another type --------------------------------------------------------------------------------------

static bool too_large(const float *values, const char *narrow, kv_dtype dtype, int64_t n) {
    float back[PIECE];
    kv_widen(back, narrow, dtype, n);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(values[i]) && !isfinite(back[i])) return true;
    return false;
}

static kv_status convert_param(kv_param *to, const kv_param *from, kv_error *err) {
    const int64_t size = kv_param_size(from);
    const size_t from_size = kv_dtype_size(from->dtype), to_size = kv_dtype_size(to->dtype);
    bool failed = false;
#pragma omp parallel for schedule(static) reduction(|| : failed) if (size > 1 << 14)
    for (int64_t i = 0; i < size; i += PIECE) {
        float values[PIECE];
        const int64_t n = size - i < PIECE ? size - i : PIECE;
        char *narrow = (char *)to->data + (size_t)i * to_size;
        kv_widen(values, (const char *)from->data + (size_t)i * from_size, from->dtype, n);
        kv_narrow(narrow, values, to->dtype, n);
        failed = failed || too_large(values, narrow, to->dtype, n);
    }
    if (!failed) return KV_OK;
    return kv_fail(err, KV_ERR_RANGE, "%s: found a weight that is too large for %s, expected another type",
                   from->name, kv_dtype_name(to->dtype));
}

// Whole pages of what will not be read again, whether they are a file's or the process's own.
static void give_back(const kv_param *param) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)param->data;
    const uintptr_t end = begin + (size_t)kv_param_size(param) * kv_dtype_size(param->dtype);
    const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
    if (first < last) madvise((void *)first, last - first, MADV_DONTNEED);
}

static bool has_type(kv_param *const *params, int64_t n, kv_frozen_dtype dtype) {
    for (int64_t i = 0; i < n; i++)
        if ((int)params[i]->dtype != (int)dtype) return false;
    return true;
}

kv_status kv_checkpoint_convert(kv_model **model, kv_frozen_dtype dtype, char fingerprint[17],
                                kv_error *err) {
    kv_model *old = *model, *made;
    kv_param *from[MAX_PARAMS], *to[MAX_PARAMS];
    const int64_t n = kv_model_params(old, from);
    if (dtype == KV_FROZEN_STORED || has_type(from, n, dtype)) {
        if (fingerprint) kv_checkpoint_fingerprint(old, fingerprint);
        return KV_OK;
    }
    kv_status status = kv_model_create(&old->spec, (kv_dtype)dtype, true, &made, err); // NULL when it fails
    if (status == KV_OK) kv_model_params(made, to);
    uint64_t hash = hash_spec(&old->spec);
    for (int64_t i = 0; status == KV_OK && i < n; i++) {
        if (fingerprint) hash = hash_param(hash, from[i]);
        status = convert_param(to[i], from[i], err);
        give_back(from[i]);
    }
    if (status == KV_OK && fingerprint) kv_hash_text(hash, fingerprint);
    kv_model_free(old);
    *model = status == KV_OK ? made : NULL;
    if (status != KV_OK) kv_model_free(made);
    return status;
}

// Views of a file take no memory that the system could not take back. Of two types of 16 bits it is not known yet whether
// they differ.
static kv_status check_memory(const char *dir, const kv_model_spec *spec, kv_frozen_dtype dtype,
                              kv_error *err) {
    if (dtype == KV_FROZEN_STORED && !kv_is_random_model(dir)) return KV_OK;
    kv_checkpoint_size size;
    const int64_t n = kv_spec_size(spec, true);
    kv_status status = kv_checkpoint_measure(dir, spec, &size, err);
    if (status != KV_OK) return KV_OK; // whoever reads it says it better
    const double wanted = dtype == KV_FROZEN_STORED ? 0 : (double)n * (double)kv_dtype_size((kv_dtype)dtype);
    double owned = kv_is_random_model(dir) ? (double)size.bytes : 0;
    if ((dtype == KV_FROZEN_F32) != size.wide && wanted > owned) owned = wanted;
    return kv_memory_check(owned, dir, err);
}

// Where memory does not hold what views of a file become, these stay what they are: products then are slower.
static void pack(kv_model *model) {
    const int64_t bytes = kv_model_pack_bytes(model);
    if (bytes == 0 || kv_memory_check((double)bytes, "", NULL) == KV_OK) kv_model_pack(model, give_back);
}

kv_status kv_checkpoint_load_frozen(const char *dir, const kv_model_spec *spec, kv_frozen_dtype dtype,
                                    kv_model **model, char fingerprint[17], kv_error *err) {
    *model = NULL;
    kv_model_spec read;
    kv_status status = spec ? KV_OK : kv_checkpoint_spec(dir, &read, err);
    if (!spec) spec = &read;
    if (status == KV_OK) status = check_memory(dir, spec, dtype, err);
    if (status == KV_OK) status = kv_checkpoint_load_known(dir, spec, false, model, err);
    if (status != KV_OK) return status;
    status = kv_checkpoint_convert(model, dtype, fingerprint, err);
    if (status != KV_OK) return kv_fail_within(err, status, "%s", dir);
    pack(*model);
    return KV_OK;
}

// ---- Size ----------------------------------------------------------------------------------------------

static kv_status measure_files(const char *dir, const kv_model_spec *spec, int64_t *bytes, kv_error *err) {
    kv_model *model;
    struct weights w;
    kv_status status = kv_model_create(spec, KV_F32, false, &model, err);
    if (status) return kv_fail_within(err, status, "%s", dir);
    status = open_weights(dir, model, &w, err);
    if (!status) *bytes = kv_weights_bytes(w.set, &w.request);
    close_weights(&w);
    kv_model_free(model);
    return status;
}

kv_status kv_checkpoint_measure(const char *dir, const kv_model_spec *spec, kv_checkpoint_size *size,
                                kv_error *err) {
    const int64_t n_weights = kv_spec_size(spec, true);
    *size = (kv_checkpoint_size){0};
    kv_status status;
    if (kv_is_random_model(dir)) {
        kv_random_name name;
        status = kv_random_parse(dir, &name, err);
        if (status == KV_OK) size->bytes = n_weights * (int64_t)kv_dtype_size(name.dtype);
    } else {
        status = measure_files(dir, spec, &size->bytes, err);
    }
    size->wide = size->bytes / 3 >= n_weights;
    return status;
}
