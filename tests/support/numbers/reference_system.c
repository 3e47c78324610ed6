#include "tests/support/numbers/reference_system.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

ref_system ref_system_copy(const kv_system *system) {
    ref_system r = {.system = system, .base = ref_model_copy(system->base)};
    if (!system->predictor) return r;
    r.aux = ref_model_copy(system->aux);
    r.weights.n = kv_predictor_params(system->predictor, r.weights.param);
    for (int64_t i = 0; i < r.weights.n; i++) r.weights.value[i] = numeric_param_doubles(r.weights.param[i]);
    return r;
}

void ref_system_free(ref_system *r) {
    ref_model_free(&r->base);
    if (!r->system->predictor) return;
    ref_model_free(&r->aux);
    ref_params_free(&r->weights);
}

static void predict(const ref_reading *reading, ref_cache *predicted) {
    const ref_system *r = reading->r;
    const kv_model_spec *aux = &r->aux.model->spec;
    const int64_t n = reading->predicted;
    double *hidden = test_alloc(n * aux->model_dim, sizeof *hidden);
    ref_cache own;
    ref_cache_make(aux, n, &own);
    ref_cache_make(&r->base.model->spec, n, predicted);
    ref_forward(&r->aux, reading->ids, 1, n, NULL, &own, hidden);
    ref_predict(r->system->predictor, &r->weights, &r->base, &r->aux, n, &own, predicted);
    ref_cache_free(&own);
    free(hidden);
}

void ref_system_read(const ref_reading *reading, double *logits, ref_cache *cache) {
    const ref_model *base = &reading->r->base;
    const kv_model_spec *spec = &base->model->spec;
    const int64_t n = reading->n, dim = spec->model_dim;
    double *hidden = test_alloc(n * dim, sizeof *hidden);
    ref_cache predicted = {0};
    if (reading->predicted > 0) predict(reading, &predicted);
    predicted.rows = reading->predicted;
    ref_forward(base, reading->ids, 1, n, reading->predicted > 0 ? &predicted : NULL, cache, hidden);
    ref_final_norm(base, n, hidden, hidden);
    ref_linear(n - reading->from, spec->vocab_size, dim, hidden + reading->from * dim,
               ref_value(&base->params, kv_model_head(base->model)), NULL, logits);
    ref_cache_free(&predicted);
    free(hidden);
}

static void read_results(const void *context, double *results) {
    const ref_reading *reading = context;
    const kv_model_spec *spec = &reading->r->base.model->spec;
    ref_cache cache;
    ref_cache_make(spec, reading->n, &cache);
    ref_system_read(reading, results, &cache);
    results += (reading->n - reading->from) * spec->vocab_size;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const int64_t size = reading->n * kv_spec_kv_dim(spec, i);
        memcpy(results, cache.k[i], (size_t)size * sizeof *results);
        memcpy(results + size, cache.v[i], (size_t)size * sizeof *results);
        results += 2 * size;
    }
    ref_cache_free(&cache);
}

int64_t ref_system_terms(const ref_system *r, int64_t n) {
    const int64_t base = ref_terms_forward(&r->base.model->spec, n);
    const int64_t aux = r->system->predictor ? ref_terms_forward(&r->aux.model->spec, n) : 0;
    return base > aux ? base : aux;
}

void ref_system_operands(const ref_system *r, rounding_operands *operands) {
    ref_add_operands(operands, &r->base.params);
    if (!r->system->predictor) return;
    ref_add_operands(operands, &r->aux.params);
    ref_add_operands(operands, &r->weights);
}

rounding_spread ref_system_spread(const ref_reading *reading) {
    const kv_model_spec *spec = &reading->r->base.model->spec;
    rounding_operands operands = {0};
    int64_t n = (reading->n - reading->from) * spec->vocab_size;
    for (int64_t i = 0; i < spec->n_layers; i++) n += 2 * reading->n * kv_spec_kv_dim(spec, i);
    ref_system_operands(reading->r, &operands);
    if (reading->float_angles) rounding_add(&operands, reading->r->base.inv_freq, spec->head_dim / 2);
    if (reading->float_angles && reading->r->aux.inv_freq)
        rounding_add(&operands, reading->r->aux.inv_freq, reading->r->aux.model->spec.head_dim / 2);
    rounding_spread spread =
        rounding_measure(&operands, ref_system_terms(reading->r, reading->n), read_results, reading, n);
    rounding_operands_free(&operands);
    return spread;
}

static void question_results(const void *context, double *results) {
    const ref_question *q = context;
    const int64_t vocabulary = q->r->base.model->spec.vocab_size, from = q->n - q->scored - 1;
    const int64_t predicted = !q->r->system->predictor ? 0 : q->decoded ? from : q->n;
    const ref_reading reading = {.r = q->r, .ids = q->ids, .n = q->n, .predicted = predicted, .from = from};
    double *logits = test_alloc((q->n - from) * vocabulary, sizeof *logits);
    results[0] = results[1] = 0;
    if (q->scored > 0) ref_system_read(&reading, logits, NULL);
    for (int64_t t = 0; t < q->scored; t++) {
        const double *z = logits + t * vocabulary;
        const int32_t id = q->ids[from + 1 + t];
        double sum = 0, max = -INFINITY;
        for (int64_t j = 0; j < vocabulary; j++) max = fmax(max, z[j]);
        for (int64_t j = 0; j < vocabulary; j++) sum += exp(z[j] - max);
        results[0] += z[id] - max - log(sum);
        results[1] = fmax(results[1], max - z[id]);
    }
    free(logits);
}

rounding_spread ref_question_spread(const ref_question *question) {
    rounding_operands operands = {0};
    ref_system_operands(question->r, &operands);
    rounding_spread spread = rounding_measure(&operands, ref_system_terms(question->r, question->n),
                                              question_results, question, 2);
    rounding_operands_free(&operands);
    return spread;
}
