#include "data/checkpoint.h"

#include "data/hash.h"
#include "data/hf_config.h"
#include "data/hf_layout.h"
#include "data/random_checkpoint.h"

#include <stdlib.h>
#include <string.h>

// ---- Loading -------------------------------------------------------------------------------------------

static const char config_name[] = "config.json", weights_name[] = "model.safetensors";

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

// Fills the model from the files in dir; when its parameters have no data of their own they become views of
// the files, which then belong to the model.
static kv_status take_weights(const char *dir, kv_model *model, kv_error *err) {
    bool copy = model->storage != NULL;
    kv_weights_set *set;
    kv_weights_tensor *tensors = NULL;
    int64_t n;
    kv_status status = kv_weights_set_open_model(dir, &set, err);
    if (status) return status;
    status = kv_hf_tensors(model, &tensors, &n, err);
    if (!status) status = kv_weights_take(set, tensors, n, copy, config_name, err);
    free(tensors);
    if (copy || status)
        kv_weights_set_close(set);
    else {
        model->storage = set;
        model->release = close_set;
    }
    return status;
}

static kv_status load(const char *dir, bool trainable, kv_model **model, kv_error *err) {
    *model = NULL;
    if (kv_is_random_model(dir)) return kv_random_model(dir, trainable, model, err);
    kv_model_spec spec;
    kv_status status = kv_checkpoint_spec(dir, &spec, err);
    if (status) return status;
    kv_model *loaded;
    status = kv_model_create(&spec, KV_F32, trainable, &loaded, err);
    if (status) return kv_fail_within(err, status, "%s", dir);
    status = take_weights(dir, loaded, err);
    if (status)
        kv_model_free(loaded);
    else
        *model = loaded;
    return status;
}

kv_status kv_checkpoint_load(const char *dir, kv_model **model, kv_error *err) {
    return load(dir, false, model, err);
}

kv_status kv_checkpoint_load_trainable(const char *dir, kv_model **model, kv_error *err) {
    return load(dir, true, model, err);
}

// ---- Saving --------------------------------------------------------------------------------------------

kv_status kv_checkpoint_save(const char *dir, kv_model *model, kv_error *err) {
    char *text = NULL;
    kv_weights_tensor *tensors = NULL;
    int64_t n;
    kv_status status = kv_hf_config_write(&model->spec, &text, err);
    if (!status) status = kv_hf_tensors(model, &tensors, &n, err);
    if (status)
        kv_fail_within(err, status, "%s", dir);
    else
        status = kv_weights_write(dir, weights_name, tensors, n, config_name, text, err);
    free(tensors);
    free(text);
    return status;
}

// ---- Fingerprint ---------------------------------------------------------------------------------------

// Hashed as float32, so that a model keeps its fingerprint when its weights are widened or saved anew.
static uint64_t hash_param(uint64_t hash, const kv_param *param) {
    enum { PIECE = 4096 };
    float values[PIECE];
    int64_t size = kv_param_size(param), element = (int64_t)kv_dtype_size(param->dtype);
    for (int64_t i = 0; i < size; i += PIECE) {
        int64_t n = size - i < PIECE ? size - i : PIECE;
        const char *data = (const char *)param->data + i * element;
        if (param->dtype != KV_F32) {
            kv_widen(values, data, param->dtype, n);
            data = (const char *)values;
        }
        hash = kv_hash64(hash, data, (size_t)n * sizeof(float));
    }
    return hash;
}

// Covers what the model computes, not its longest context or special tokens.
void kv_checkpoint_fingerprint(kv_model *model, char out[17]) {
    const kv_model_spec *s = &model->spec;
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
    hash = kv_hash64(hash, s->layers, (size_t)s->n_layers * sizeof s->layers[0]);
    kv_param *params[3 + KV_MAX_LAYERS * sizeof(kv_layer) / sizeof(kv_param)];
    int64_t n = kv_model_params(model, params);
    for (int64_t i = 0; i < n; i++) hash = hash_param(hash, params[i]);
    kv_hash_text(hash, out);
}
