#include "tests/support/numbers/reference_model.h"
#include "tests/support/predictors/paper.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double *ref_value(const ref_params *params, const kv_param *param) {
    for (int64_t i = 0; i < params->n; i++)
        if (params->param[i] == param) return params->value[i];
    return NULL;
}

void ref_params_free(ref_params *params) {
    for (int64_t i = 0; i < params->n; i++) free(params->value[i]);
    params->n = 0;
}

void ref_randomise(kv_param *const *params, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) {
        kv_param *p = params[i];
        const bool norm = strstr(p->name, "norm") != NULL;
        const double scale = norm ? 0.4 : p->rows == 1 ? 0.3 : 1.5 / sqrt((double)p->cols);
        for (int64_t e = 0; e < kv_param_size(p); e++) {
            const double value = (norm ? 1 : 0) + scale * test_value(seed + (uint64_t)i, e);
            if (p->dtype == KV_F32)
                ((float *)p->data)[e] = (float)value;
            else
                ((uint16_t *)p->data)[e] = test_half_nearest(p->dtype, value);
        }
    }
}

void ref_add_operands(rounding_operands *operands, const ref_params *params) {
    for (int64_t i = 0; i < params->n; i++)
        rounding_add(operands, params->value[i], kv_param_size(params->param[i]));
}

int64_t ref_gradient_count(const ref_params *params) {
    int64_t n = 0;
    for (int64_t i = 0; i < params->n; i++) n += kv_param_size(params->param[i]) + 1;
    return n;
}

double *ref_gradient_results(const ref_params *params, double *results) {
    for (int64_t i = 0; i < params->n; i++)
        results = numeric_gradient_results(params->param[i]->grad, kv_param_size(params->param[i]), results);
    return results;
}

int64_t ref_allow_sums(const ref_params *params, rounding_spread *spread, int64_t from) {
    for (int64_t i = 0; i < params->n; i++)
        from = numeric_allow_sums(spread, from, kv_param_size(params->param[i]));
    return from;
}

int64_t ref_check_gradients(const char *name, const ref_params *params, int64_t max_probes, double factor,
                            numeric_loss_fn *loss, const void *context, const rounding_spread *spread,
                            int64_t from) {
    for (int64_t i = 0; i < params->n; i++) {
        const int64_t size = kv_param_size(params->param[i]);
        numeric_slopes slopes = numeric_differentiate(params->value[i], size, max_probes, loss, context);
        numeric_compare_gradient(name, params->param[i]->name, params->param[i]->grad, &slopes, factor,
                                 spread, from, NULL);
        numeric_slopes_free(&slopes);
        from += size + 1;
    }
    return from;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

int64_t ref_terms_forward(const kv_model_spec *spec, int64_t keys) {
    int64_t terms = larger(spec->model_dim, keys);
    for (int64_t i = 0; i < spec->n_layers; i++)
        terms = larger(terms, larger(spec->layers[i].ffn_dim, spec->layers[i].n_heads * spec->head_dim));
    return terms;
}

int64_t ref_terms(const kv_model_spec *spec, int64_t rows) {
    return larger(ref_terms_forward(spec, rows), spec->vocab_size);
}

// params->param and params->n are set: copies what they hold now.
static void copy_values(ref_params *params) {
    assert_in_range(params->n, 1, REF_PARAMS);
    for (int64_t i = 0; i < params->n; i++) params->value[i] = numeric_param_doubles(params->param[i]);
}

// theta^(-2i/d), scaled where the spec asks for it. Linear: position p turns as p / factor would. llama3: long
// wavelengths are divided by `factor`, short ones kept, the ones between blended.
static void inverse_frequencies(const kv_model_spec *spec, double *inv_freq) {
    const kv_rope_spec *r = &spec->rope;
    ref_inv_freq(spec->head_dim, r->theta, inv_freq);
    for (int64_t i = 0; r->factor != 0 && i < spec->head_dim / 2; i++) {
        const double turns = r->original_context * inv_freq[i] / (2 * acos(-1.0));
        const double blend = (turns - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
        const double kept = r->original_context == 0 ? 0 : fmin(1, fmax(0, blend));
        inv_freq[i] *= kept + (1 - kept) / r->factor;
    }
}

kv_model *ref_random_model(const kv_model_spec *spec, kv_dtype dtype, uint64_t seed) {
    kv_model *model;
    kv_error err = {0};
    kv_param *params[REF_PARAMS];
    if (kv_model_create(spec, dtype, true, &model, &err) != KV_OK) fail_msg("%s", err.message);
    assert_in_range(kv_model_params(model, NULL), 1, REF_PARAMS);
    ref_randomise(params, kv_model_params(model, params), seed);
    return model;
}

ref_model ref_model_copy(kv_model *model) {
    ref_model m = {.model = model, .inv_freq = test_alloc(model->spec.head_dim / 2, sizeof(double))};
    assert_in_range(model->spec.n_layers, 1, REF_LAYERS);
    assert_in_range(kv_model_params(model, NULL), 1, REF_PARAMS);
    m.params.n = kv_model_params(model, m.params.param);
    copy_values(&m.params);
    inverse_frequencies(&model->spec, m.inv_freq);
    return m;
}

void ref_model_free(ref_model *model) {
    ref_params_free(&model->params);
    free(model->inv_freq);
}

void ref_cache_make(const kv_model_spec *spec, int64_t n, ref_cache *cache) {
    *cache = (ref_cache){0};
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const int64_t size = n * spec->layers[i].n_kv_heads * spec->head_dim;
        cache->raw_k[i] = test_alloc(size, sizeof(double));
        cache->k[i] = test_alloc(size, sizeof(double));
        cache->v[i] = test_alloc(size, sizeof(double));
        cache->q[i] = test_alloc(n * spec->layers[i].n_heads * spec->head_dim, sizeof(double));
        cache->x[i] = test_alloc(n * spec->model_dim, sizeof(double));
    }
}

void ref_cache_free(ref_cache *cache) {
    for (int i = 0; i < REF_LAYERS; i++) {
        free(cache->raw_k[i]);
        free(cache->k[i]);
        free(cache->v[i]);
        free(cache->q[i]);
        free(cache->x[i]);
    }
    *cache = (ref_cache){0};
}

// y = x·Wᵀ + bias with the copies of two parameters; bias without data: none.
static void project(const ref_model *m, int64_t n, const double *x, const kv_param *w, const kv_param *bias,
                    double *y) {
    ref_linear(n, w->rows, w->cols, x, ref_value(&m->params, w), bias ? ref_value(&m->params, bias) : NULL,
               y);
}

static void normalise_heads(const ref_model *m, int64_t n, int64_t heads, const kv_param *w, double *x) {
    const kv_model_spec *spec = &m->model->spec;
    if (spec->qk_norm)
        ref_rmsnorm(n, heads, spec->head_dim, x, ref_value(&m->params, w), (double)spec->norm_eps, x);
}

static void attend_sequences(const ref_model *m, int64_t layer, int64_t n_seq, int64_t seq_len,
                             const double *q, const double *k, const double *v, double *y) {
    const kv_layer_spec *l = &m->model->spec.layers[layer];
    kv_sequence *sequences = test_alloc(n_seq, sizeof *sequences);
    for (int64_t s = 0; s < n_seq; s++)
        sequences[s] = (kv_sequence){s * seq_len, seq_len, s * seq_len, seq_len};
    const kv_attention_args args = {.n_heads = l->n_heads,
                                    .n_kv_heads = l->n_kv_heads,
                                    .head_dim = m->model->spec.head_dim,
                                    .sequences = sequences,
                                    .n_sequences = n_seq};
    ref_attention(&args, m->inv_freq, n_seq * seq_len, q, k, v, y);
    free(sequences);
}

// x += attention(rmsnorm(x)) · Woᵀ
static void attention_part(const ref_model *m, int64_t layer, int64_t n_seq, int64_t seq_len,
                           const ref_cache *given, ref_cache *cache, double *x) {
    const kv_model_spec *spec = &m->model->spec;
    const kv_layer *p = &m->model->layers[layer];
    const kv_layer_spec *l = &spec->layers[layer];
    const int64_t n = n_seq * seq_len, dim = spec->model_dim, q_dim = l->n_heads * spec->head_dim;
    double *h = test_alloc(n * dim, sizeof *h), *q = test_alloc(n * q_dim, sizeof *q);
    double *y = test_alloc(n * q_dim, sizeof *y);
    ref_rmsnorm(n, 1, dim, x, ref_value(&m->params, &p->attn_norm), (double)spec->norm_eps, h);
    project(m, n, h, &p->q, &p->q_bias, q);
    normalise_heads(m, n, l->n_heads, &p->q_norm, q);
    memcpy(cache->q[layer], q, (size_t)(n * q_dim) * sizeof *q);
    project(m, n, h, &p->k, &p->k_bias, cache->raw_k[layer]);
    memcpy(cache->k[layer], cache->raw_k[layer], (size_t)(n * p->k.rows) * sizeof *h);
    normalise_heads(m, n, l->n_kv_heads, &p->k_norm, cache->k[layer]);
    project(m, n, h, &p->v, &p->v_bias, cache->v[layer]);
    const ref_cache *read = given && given->rows == 0 ? given : cache;
    for (int64_t e = 0; given && e < given->rows * p->k.rows; e++) {
        cache->k[layer][e] = given->k[layer][e];
        cache->v[layer][e] = given->v[layer][e];
    }
    attend_sequences(m, layer, n_seq, seq_len, q, read->k[layer], read->v[layer], y);
    project(m, n, y, &p->out, NULL, h);
    for (int64_t i = 0; i < n * dim; i++) x[i] += h[i];
    free(h);
    free(q);
    free(y);
}

// x += (silu(h·Wgateᵀ) ⊙ h·Wupᵀ)·Wdownᵀ,  h = rmsnorm(x)
static void feed_forward_part(const ref_model *m, int64_t layer, int64_t n, double *x) {
    const kv_layer *p = &m->model->layers[layer];
    const int64_t dim = m->model->spec.model_dim, width = p->gate.rows;
    double *h = test_alloc(n * dim, sizeof *h), *gate = test_alloc(n * width, sizeof *gate);
    double *up = test_alloc(n * width, sizeof *up);
    ref_rmsnorm(n, 1, dim, x, ref_value(&m->params, &p->ffn_norm), (double)m->model->spec.norm_eps, h);
    project(m, n, h, &p->gate, NULL, gate);
    project(m, n, h, &p->up, NULL, up);
    ref_swiglu(n * width, gate, up, gate);
    project(m, n, gate, &p->down, NULL, h);
    for (int64_t i = 0; i < n * dim; i++) x[i] += h[i];
    free(h);
    free(gate);
    free(up);
}

void ref_forward(const ref_model *m, const int32_t *ids, int64_t n_seq, int64_t seq_len,
                 const ref_cache *given, ref_cache *cache, double *hidden) {
    const kv_model_spec *spec = &m->model->spec;
    const int64_t n = n_seq * seq_len, dim = spec->model_dim;
    const double *table = ref_value(&m->params, &m->model->embed);
    ref_cache own = {0};
    if (!cache) ref_cache_make(spec, n, cache = &own);
    for (int64_t i = 0; i < n; i++)
        memcpy(hidden + i * dim, table + ids[i] * dim, (size_t)dim * sizeof *hidden);
    for (int64_t layer = 0; layer < spec->n_layers; layer++) {
        attention_part(m, layer, n_seq, seq_len, given, cache, hidden);
        feed_forward_part(m, layer, n, hidden);
        memcpy(cache->x[layer], hidden, (size_t)(n * dim) * sizeof *hidden);
    }
    ref_cache_free(&own);
}

void ref_final_norm(const ref_model *m, int64_t n, const double *hidden, double *y) {
    ref_rmsnorm(n, 1, m->model->spec.model_dim, hidden, ref_value(&m->params, &m->model->norm),
                (double)m->model->spec.norm_eps, y);
}

// y[n, out] = (up ·) weight applied to an aux layer of x[], or to two side by side, plus bias.
static void predict_one(const kv_predictor *p, const ref_params *weights, const kv_model_spec *aux, int64_t i,
                        int64_t n, double *const *x, const kv_param *weight, const kv_param *down,
                        const kv_param *bias, double *y) {
    const int64_t j = test_layer_read(p, i), next = j + 1 < aux->n_layers ? j + 1 : j - 1;
    const int64_t first = aux->layers[j].n_kv_heads * aux->head_dim;
    const bool two = p->spec.outputs[KV_KEYS][i].sources.n == 2;
    const int64_t second = two ? aux->layers[next].n_kv_heads * aux->head_dim : 0;
    const int64_t in = first + second, rank = down ? down->rows : 0;
    double *input = test_alloc(n * in, sizeof *input), *middle = test_alloc(n * (rank + 1), sizeof *middle);
    double *zero = test_alloc(rank + 1, sizeof *zero);
    for (int64_t t = 0; t < n; t++) {
        memcpy(input + t * in, x[j] + t * first, (size_t)first * sizeof *input);
        if (second) memcpy(input + t * in + first, x[next] + t * second, (size_t)second * sizeof *input);
    }
    if (rank > 0) ref_linear(n, rank, in, input, ref_value(weights, down), zero, middle);
    ref_linear(n, weight->rows, rank > 0 ? rank : in, rank > 0 ? middle : input, ref_value(weights, weight),
               ref_value(weights, bias), y);
    free(input);
    free(middle);
    free(zero);
}

void ref_predict(const kv_predictor *predictor, const ref_params *weights, const ref_model *base,
                 const ref_model *aux, int64_t n, const ref_cache *aux_cache, ref_cache *predicted) {
    const kv_predictor *p = predictor;
    const kv_model_spec *from = &aux->model->spec;
    for (int64_t i = 0; i < base->model->spec.n_layers; i++) {
        predict_one(p, weights, from, i, n, aux_cache->raw_k, test_weight(p, KV_KEYS, i),
                    test_down(p, KV_KEYS, i), test_bias(p, KV_KEYS, i), predicted->k[i]);
        normalise_heads(base, n, base->model->spec.layers[i].n_kv_heads, &base->model->layers[i].k_norm,
                        predicted->k[i]);
        predict_one(p, weights, from, i, n, aux_cache->v, test_weight(p, KV_VALUES, i),
                    test_down(p, KV_VALUES, i), test_bias(p, KV_VALUES, i), predicted->v[i]);
    }
}

// ---- Objectives ----------------------------------------------------------------------------------------

static double count_valid(const kv_batch *batch) {
    if (batch->n_valid != 0) return batch->n_valid;
    double n = 0;
    for (int64_t i = 0; i < batch->n_seq * batch->seq_len; i++)
        n += batch->target_ids[i] != batch->ignore_index;
    return n;
}

// ce, z and kl weighted, from hidden states before the final norm; teacher NULL without KL.
static double head_loss(const ref_model *m, const kv_batch *batch, kv_lm_loss_args args, const double *hidden,
                        const ref_model *teacher, const double *teacher_hidden, kv_lm_loss_terms *terms) {
    const int64_t n = batch->n_seq * batch->seq_len, dim = m->model->spec.model_dim;
    const int64_t teacher_dim = teacher ? teacher->model->spec.model_dim : 0;
    const double *head = ref_value(&m->params, kv_model_head(m->model));
    double *y = test_alloc(n * dim, sizeof *y), *taught = test_alloc(n * teacher_dim, sizeof *taught);
    ref_final_norm(m, n, hidden, y);
    if (teacher) ref_final_norm(teacher, n, teacher_hidden, taught);
    args.targets = batch->target_ids;
    args.ignore_index = batch->ignore_index;
    args.n_valid = count_valid(batch);
    const double loss =
        ref_lm_loss(&args, n, m->model->spec.vocab_size, dim, y, head, teacher_dim, teacher ? taught : NULL,
                    teacher ? ref_value(&teacher->params, kv_model_head(teacher->model)) : NULL, terms);
    free(y);
    free(taught);
    return loss;
}

double ref_lm_objective(const ref_model *m, const ref_model *teacher, const kv_batch *batch,
                        const kv_lm_weights *weights, kv_lm_loss_terms *terms) {
    const int64_t n = batch->n_seq * batch->seq_len;
    double *hidden = test_alloc(n * m->model->spec.model_dim, sizeof *hidden);
    double *taught = test_alloc(teacher ? n * teacher->model->spec.model_dim : 1, sizeof *taught);
    ref_forward(m, batch->input_ids, batch->n_seq, batch->seq_len, NULL, NULL, hidden);
    if (teacher) ref_forward(teacher, batch->input_ids, batch->n_seq, batch->seq_len, NULL, NULL, taught);
    const kv_lm_loss_args args = {.weight_ce = weights->ce,
                                  .weight_z = weights->ce * weights->z_loss,
                                  .weight_kl = weights->kl,
                                  .kl_temperature = weights->kl_temperature};
    const double loss = head_loss(m, batch, args, hidden, teacher, taught, terms);
    free(hidden);
    free(taught);
    return loss;
}

// L_C and its parts, on the rows whose target counts.
static double consistency(const ref_kvp *r, const ref_cache *predicted, const ref_cache *truth,
                          kv_kvp_terms *terms) {
    const kv_model_spec *spec = &r->base.model->spec;
    const int64_t n = r->batch.n_seq * r->batch.seq_len;
    uint8_t *keep = test_alloc(n, 1);
    for (int64_t i = 0; i < n; i++) keep[i] = r->batch.target_ids[i] != r->batch.ignore_index;
    double sum = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const int64_t cols = spec->layers[i].n_kv_heads * spec->head_dim;
        terms->k_l1[i] = ref_l1_loss(n, cols, predicted->k[i], truth->k[i], keep, count_valid(&r->batch));
        terms->v_l1[i] = ref_l1_loss(n, cols, predicted->v[i], truth->v[i], keep, count_valid(&r->batch));
        sum += terms->k_l1[i] + terms->v_l1[i];
    }
    free(keep);
    return sum;
}

// L_H, on the same rows.
static double hidden_loss(const ref_kvp *r, const ref_cache *student, const ref_cache *truth) {
    const int64_t n = r->batch.n_seq * r->batch.seq_len, dim = r->base.model->spec.model_dim;
    const double *x = student->x[r->loss.hidden_layer], *y = truth->x[r->loss.hidden_layer];
    double sum = 0;
    for (int64_t i = 0; i < n * dim; i++)
        if (r->batch.target_ids[i / dim] != r->batch.ignore_index) sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sum / (count_valid(&r->batch) * (double)dim);
}

double ref_kvp_objective(const ref_kvp *r, kv_kvp_terms *terms) {
    const kv_model_spec *base = &r->base.model->spec, *aux = &r->aux.model->spec;
    const kv_batch *b = &r->batch;
    const kv_kvp_weights *w = &r->loss;
    const int64_t n = b->n_seq * b->seq_len;
    double *aux_hidden = test_alloc(n * aux->model_dim, sizeof(double));
    double *hidden = test_alloc(n * base->model_dim, sizeof(double));
    double *true_hidden = test_alloc(n * base->model_dim, sizeof(double));
    ref_cache aux_cache = {0}, predicted = {0}, truth = {0}, student = {0};
    ref_cache_make(aux, n, &aux_cache);
    ref_cache_make(base, n, &predicted);
    ref_cache_make(base, n, &truth);
    ref_cache_make(base, n, &student);
    ref_forward(&r->aux, b->input_ids, b->n_seq, b->seq_len, NULL, &aux_cache, aux_hidden);
    ref_predict(r->predictor, &r->weights, &r->base, &r->aux, n, &aux_cache, &predicted);
    ref_forward(&r->base, b->input_ids, b->n_seq, b->seq_len, &predicted, &student, hidden);
    ref_forward(&r->base, b->input_ids, b->n_seq, b->seq_len, NULL, &truth, true_hidden);

    kv_kvp_terms t = {0};
    const kv_lm_loss_args base_args = {.weight_ce = w->base,
                                       .weight_z = w->base * w->z_loss,
                                       .weight_kl = w->kl,
                                       .kl_temperature = w->kl_temperature};
    const kv_lm_loss_args aux_args = {.weight_ce = w->aux, .weight_z = w->aux * w->z_loss};
    t.total = head_loss(&r->base, b, base_args, hidden, &r->base, true_hidden, &t.base);
    t.total += head_loss(&r->aux, b, aux_args, aux_hidden, NULL, NULL, &t.aux);
    t.consistency = consistency(r, &predicted, &truth, &t);
    t.total += (double)w->consistency * t.consistency;
    if (w->hidden != 0) t.hidden = hidden_loss(r, &student, &truth);
    t.total += (double)w->hidden * t.hidden;
    if (terms) *terms = t;
    free(aux_hidden);
    free(hidden);
    free(true_hidden);
    ref_cache_free(&aux_cache);
    ref_cache_free(&predicted);
    ref_cache_free(&truth);
    ref_cache_free(&student);
    return t.total;
}

ref_kvp ref_kvp_copy(kv_model *base, kv_model *aux, kv_predictor *predictor, const kv_batch *batch,
                     const kv_kvp_weights *loss) {
    ref_kvp r = {
        .base = ref_model_copy(base), .aux = ref_model_copy(aux), .predictor = predictor, .loss = *loss};
    if (batch) r.batch = *batch;
    r.weights.n = kv_predictor_params(predictor, r.weights.param);
    copy_values(&r.weights);
    return r;
}

void ref_kvp_free(ref_kvp *r) {
    ref_model_free(&r->base);
    ref_model_free(&r->aux);
    ref_params_free(&r->weights);
}

// ---- How far rounding may take them --------------------------------------------------------------------

void ref_kvp_results(const kv_kvp_terms *t, double *results) {
    results[REF_TOTAL] = t->total;
    results[REF_BASE_CE] = t->base.cross_entropy, results[REF_BASE_Z] = t->base.z,
    results[REF_KL] = t->base.kl;
    results[REF_AUX_CE] = t->aux.cross_entropy, results[REF_AUX_Z] = t->aux.z;
    results[REF_CONSISTENCY] = t->consistency;
    results[REF_HIDDEN] = t->hidden;
    for (int i = 0; i < REF_LAYERS; i++)
        results[REF_L1 + 2 * i] = t->k_l1[i], results[REF_L1 + 2 * i + 1] = t->v_l1[i];
}

static void run_objective(const void *context, double *results) {
    kv_kvp_terms terms;
    ref_kvp_objective(context, &terms);
    ref_kvp_results(&terms, results);
}

static int64_t kvp_terms(const ref_kvp *r) {
    const int64_t rows = r->batch.n_seq * r->batch.seq_len;
    return larger(ref_terms(&r->base.model->spec, rows), ref_terms(&r->aux.model->spec, rows));
}

rounding_spread ref_kvp_spread(ref_kvp *r) {
    rounding_operands operands = {0};
    ref_add_operands(&operands, &r->base.params);
    ref_add_operands(&operands, &r->aux.params);
    ref_add_operands(&operands, &r->weights);
    rounding_spread spread = rounding_measure(&operands, kvp_terms(r), run_objective, r, REF_KVP_TERMS);
    rounding_operands_free(&operands);
    return spread;
}

kv_model *ref_model_widened(const ref_model *m) {
    kv_model *wide;
    kv_error err = {0};
    kv_param *params[REF_PARAMS];
    if (kv_model_create(&m->model->spec, KV_F32, true, &wide, &err) != KV_OK) fail_msg("%s", err.message);
    const int64_t n = kv_model_params(wide, params);
    for (int64_t i = 0; i < n; i++)
        for (int64_t e = 0; e < kv_param_size(params[i]); e++)
            ((float *)params[i]->data)[e] = (float)m->params.value[i][e];
    return wide;
}

struct gradient_run {
    const ref_kvp *r;
    kv_model *base; // in float32
    kv_tape *tape;
};

static void zero_gradients(const ref_params *params) {
    for (int64_t i = 0; i < params->n; i++)
        if (params->param[i]->grad)
            memset(params->param[i]->grad, 0, (size_t)kv_param_size(params->param[i]) * sizeof(float));
}

static bool is_trained(const ref_params *params) {
    return params->n > 0 && params->param[0]->grad;
}

static void run_gradients(const void *context, double *results) {
    const struct gradient_run *g = context;
    const ref_kvp *r = g->r;
    kv_error err = {0};
    kv_tape_reset(g->tape);
    zero_gradients(&r->weights);
    zero_gradients(&r->aux.params);
    kv_tensor *loss =
        kv_kvp_objective(g->tape, g->base, r->aux.model, r->predictor, &r->batch, &r->loss, NULL, NULL);
    if (!loss || kv_tape_backward(g->tape, loss, &err) != KV_OK) fail_msg("%s", err.message);
    if (is_trained(&r->weights)) results = ref_gradient_results(&r->weights, results);
    if (is_trained(&r->aux.params)) ref_gradient_results(&r->aux.params, results);
}

static float *keep_gradients(const ref_params *params, float *kept) {
    for (int64_t i = 0; i < params->n && params->param[i]->grad; i++) {
        memcpy(kept, params->param[i]->grad, (size_t)kv_param_size(params->param[i]) * sizeof *kept);
        kept += kv_param_size(params->param[i]);
    }
    return kept;
}

static const float *put_gradients(const ref_params *params, const float *kept) {
    for (int64_t i = 0; i < params->n && params->param[i]->grad; i++) {
        memcpy(params->param[i]->grad, kept, (size_t)kv_param_size(params->param[i]) * sizeof *kept);
        kept += kv_param_size(params->param[i]);
    }
    return kept;
}

rounding_spread ref_kvp_gradient_spread(ref_kvp *r) {
    const int64_t n_predictor = ref_gradient_count(&r->weights), n_aux = ref_gradient_count(&r->aux.params);
    struct gradient_run g = {r, ref_model_widened(&r->base), kv_tape_create()};
    float *kept = test_alloc(n_predictor + n_aux, sizeof *kept);
    rounding_operands operands = {0};
    kv_param *base[REF_PARAMS];
    rounding_add_params(&operands, base, kv_model_params(g.base, base));
    rounding_add_params(&operands, r->aux.params.param, r->aux.params.n);
    rounding_add_params(&operands, r->weights.param, r->weights.n);
    keep_gradients(&r->aux.params, keep_gradients(&r->weights, kept));
    rounding_spread spread = rounding_measure(&operands, kvp_terms(r), run_gradients, &g,
                                              (is_trained(&r->weights) ? n_predictor : 0) +
                                                  (is_trained(&r->aux.params) ? n_aux : 0));
    int64_t from = is_trained(&r->weights) ? ref_allow_sums(&r->weights, &spread, 0) : 0;
    if (is_trained(&r->aux.params)) ref_allow_sums(&r->aux.params, &spread, from);
    put_gradients(&r->aux.params, put_gradients(&r->weights, kept));
    rounding_operands_free(&operands);
    kv_model_free(g.base);
    kv_tape_free(g.tape);
    free(kept);
    return spread;
}
