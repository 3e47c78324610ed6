// The transformer, the predictors and both objectives in double precision, written straight from the formulas
// (core/model.h, predictor.h, objective.h) out of the loops of reference.h. Small models only.
#pragma once

#include "core/objective.h"
#include "tests/support/numeric.h"
#include "tests/support/reference.h"

enum { REF_LAYERS = 6, REF_PARAMS = 400 };

// Double copies of parameters, in the order kv_model_params or kv_predictor_params gives them.
typedef struct ref_params {
    kv_param *param[REF_PARAMS];
    double *value[REF_PARAMS];
    int64_t n;
} ref_params;

// The copy of `param`; NULL when it is not among them (it has no data).
double *ref_value(const ref_params *params, const kv_param *param);
void ref_params_free(ref_params *params);

// Fills parameters of any type: matrices of size 1/sqrt(fan_in), norms around 1, biases around 0.
void ref_randomise(kv_param *const *params, int64_t n, uint64_t seed);

// Every param->grad must be factor · dloss/dparam, with `loss` reading these copies (see numeric.h).
void ref_check_gradients(const char *name, const ref_params *params, int64_t max_probes, double factor,
                         numeric_loss_fn *loss, const void *context);

typedef struct ref_model {
    kv_model *model;
    ref_params params;
    double *inv_freq;
} ref_model;

// A model with random weights of any type, norms and biases included, so that nothing forgotten goes unseen.
kv_model *ref_random_model(const kv_model_spec *spec, kv_dtype dtype, uint64_t seed);

ref_model ref_model_copy(kv_model *model);
void ref_model_free(ref_model *model);

// Keys and values of every layer, [tokens, kv_dim]: keys before and after the key norm.
typedef struct ref_cache {
    double *raw_k[REF_LAYERS], *k[REF_LAYERS], *v[REF_LAYERS];
} ref_cache;
void ref_cache_make(const kv_model_spec *spec, int64_t n, ref_cache *cache);
void ref_cache_free(ref_cache *cache);

// hidden[n_seq · seq_len, model_dim] before the final norm. `cache` is filled; with `given`, attention reads
// that one's k and v instead of the layers' own. Either may be NULL.
void ref_forward(const ref_model *m, const int32_t *ids, int64_t n_seq, int64_t seq_len,
                 const ref_cache *given, ref_cache *cache, double *hidden);

// final_norm(hidden)[n, model_dim]
void ref_final_norm(const ref_model *m, int64_t n, const double *hidden, double *y);

// Predicted cache (k after the base's key norm, v) from the aux's.
void ref_predict(const kv_predictor *predictor, const ref_params *weights, const ref_model *base,
                 const ref_model *aux, int64_t n, const ref_cache *aux_cache, ref_cache *predicted);

double ref_lm_objective(const ref_model *m, const kv_batch *batch, const kv_lm_weights *weights,
                        kv_lm_loss_terms *terms);

// What kv_kvp_objective computes; terms may be NULL.
typedef struct ref_kvp {
    ref_model base, aux;
    kv_predictor *predictor;
    ref_params weights;
    kv_batch batch;
    kv_kvp_weights loss;
} ref_kvp;
double ref_kvp_objective(const ref_kvp *r, kv_kvp_terms *terms);
