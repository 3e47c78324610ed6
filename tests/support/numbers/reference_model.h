// The transformer, the predictors and both objectives in double precision, written straight from the formulas
// (core/model.h, predictor.h, objective.h) out of the loops of reference.h. Small models only.
#pragma once

#include "core/objective.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"

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

// The copies as what a computation reads (see rounding.h).
void ref_add_operands(rounding_operands *operands, const ref_params *params);

// Every param->grad among the results of a rounding_spread: so many, in the order of the parameters.
int64_t ref_gradient_count(const ref_params *params);
double *ref_gradient_results(const ref_params *params, double *results);
int64_t ref_allow_sums(const ref_params *params, rounding_spread *spread,
                       int64_t from); // see numeric_allow_sums

// Every param->grad must be factor · dloss/dparam, with `loss` reading these copies (see numeric.h), as far
// as the spread allows; params' own results begin at `from`. Returns the first place behind them.
int64_t ref_check_gradients(const char *name, const ref_params *params, int64_t max_probes, double factor,
                            numeric_loss_fn *loss, const void *context, const rounding_spread *spread,
                            int64_t from);

// Additions in the longest sum of a model: over so many keys, and over so many rows with backward, which adds
// them and the vocabulary up.
int64_t ref_terms_forward(const kv_model_spec *spec, int64_t keys);
int64_t ref_terms(const kv_model_spec *spec, int64_t rows);

typedef struct ref_model {
    kv_model *model;
    ref_params params;
    double *inv_freq;
} ref_model;

// A model with random weights of any type, norms and biases included, so that nothing forgotten goes unseen.
kv_model *ref_random_model(const kv_model_spec *spec, kv_dtype dtype, uint64_t seed);

ref_model ref_model_copy(kv_model *model);
void ref_model_free(ref_model *model);

// The same values in float32 in memory of their own, which can be moved by less than a step of 16 bits.
kv_model *ref_model_widened(const ref_model *m);

// Keys and values of every layer, [tokens, kv_dim]: keys before and after the key norm; and the queries of a model that
// was run, [tokens, heads · head_dim], after theirs, and what its layers put out, x [tokens, model_dim].
typedef struct ref_cache {
    double *raw_k[REF_LAYERS], *k[REF_LAYERS], *v[REF_LAYERS], *q[REF_LAYERS], *x[REF_LAYERS];
    int64_t
        rows; // of one that is given: only its first rows are, before the layers' own; 0: it is all that is read
} ref_cache;
void ref_cache_make(const kv_model_spec *spec, int64_t n, ref_cache *cache);
void ref_cache_free(ref_cache *cache);

// hidden[n_seq · seq_len, model_dim] before the final norm. `cache` is filled; with `given`, attention reads
// that one's k and v instead of the layers' own, or before them (of one sequence: `cache` then holds what was
// read). Either may be NULL.
void ref_forward(const ref_model *m, const int32_t *ids, int64_t n_seq, int64_t seq_len,
                 const ref_cache *given, ref_cache *cache, double *hidden);

// final_norm(hidden)[n, model_dim]
void ref_final_norm(const ref_model *m, int64_t n, const double *hidden, double *y);

// Predicted cache (k after the base's key norm, v) from the aux's.
void ref_predict(const kv_predictor *predictor, const ref_params *weights, const ref_model *base,
                 const ref_model *aux, int64_t n, const ref_cache *aux_cache, ref_cache *predicted);

// teacher: NULL without KL.
double ref_lm_objective(const ref_model *m, const ref_model *teacher, const kv_batch *batch,
                        const kv_lm_weights *weights, kv_lm_loss_terms *terms);

// What kv_kvp_objective computes; terms may be NULL.
typedef struct ref_kvp {
    ref_model base, aux;
    kv_predictor *predictor;
    ref_params weights;
    kv_batch batch;
    kv_kvp_weights loss;
} ref_kvp;
ref_kvp ref_kvp_copy(kv_model *base, kv_model *aux, kv_predictor *predictor, const kv_batch *batch,
                     const kv_kvp_weights *loss);
void ref_kvp_free(ref_kvp *r);
double ref_kvp_objective(const ref_kvp *r, kv_kvp_terms *terms);

// Its terms, as the results of a spread: kvp_results writes them into results[REF_KVP_TERMS].
enum {
    REF_TOTAL,
    REF_BASE_CE,
    REF_BASE_Z,
    REF_KL,
    REF_AUX_CE,
    REF_AUX_Z,
    REF_CONSISTENCY,
    REF_HIDDEN,
    REF_L1,
    REF_KVP_TERMS = REF_L1 + 2 * REF_LAYERS
}; // k_l1 and v_l1 in turn
void ref_kvp_results(const kv_kvp_terms *terms, double *results);
rounding_spread ref_kvp_spread(ref_kvp *r);

// The spread of the gradients that kv_kvp_objective gives the predictors and, where it is trained, the aux:
// laid out as ref_gradient_results does, the predictors first. Gradients that are there stay.
rounding_spread ref_kvp_gradient_spread(ref_kvp *r);
