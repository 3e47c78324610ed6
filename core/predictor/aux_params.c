// Which weights of the aux learn when it has no loss of its own: those that what is read of it comes from. Of the last
// layer that is read these are its norm and the projections that are read; of layers below it all; of what is above,
// of the last norm and the head none. The others would get no gradient, and weight decay all the same.
#include "core/flops.h"
#include "core/predictor/predictor.h"

static bool lies_in(const kv_layer *layer, const kv_param *param) {
    const char *begin = (const char *)layer, *at = (const char *)param;
    return at >= begin && at < begin + sizeof *layer;
}

static bool is_read(const kv_model *aux, const kv_param *param, int64_t depth, uint8_t last) {
    const kv_layer *top = depth > 0 ? &aux->layers[depth - 1] : NULL;
    if (!top) return false;
    if (param == &aux->embed || param == &top->attn_norm) return true;
    if (param == &top->k || param == &top->k_bias) return last & KV_READ_K;
    if (param == &top->v || param == &top->v_bias) return last & KV_READ_V;
    for (int64_t i = 0; i < depth - 1; i++)
        if (lies_in(&aux->layers[i], param)) return true;
    return false;
}

int64_t kv_predictor_aux_params(const kv_predictor *predictor, kv_model *aux, kv_param **params) {
    uint8_t reads[KV_MAX_LAYERS];
    const int64_t depth = kv_predictor_spec_reads(&predictor->spec, reads), n = kv_model_params(aux, params);
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (is_read(aux, params[i], depth, depth > 0 ? reads[depth - 1] : 0)) params[kept++] = params[i];
    return kept;
}

int64_t kv_predictor_aux_size(const kv_predictor *predictor, const kv_model_spec *aux) {
    uint8_t reads[KV_MAX_LAYERS];
    const int64_t depth = kv_predictor_spec_reads(&predictor->spec, reads);
    if (depth == 0) return 0;
    const int64_t dim = aux->model_dim, kv_dim = kv_spec_kv_dim(aux, depth - 1);
    const int64_t n_read = !!(reads[depth - 1] & KV_READ_K) + !!(reads[depth - 1] & KV_READ_V);
    kv_model_spec below = *aux;
    below.n_layers = depth - 1;
    // Where the size has the model's last norm, that of the last layer is meant.
    return kv_spec_size(&below, false) + aux->vocab_size * dim + n_read * kv_dim * (dim + aux->qkv_bias);
}
