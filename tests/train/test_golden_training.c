// Agreement with the paper's released code on training: the losses, the gradients and what they are made of,
// and the weights after a few AdamW steps.
#include "core/objective.h"
#include "core/optimizer.h"

#include "tests/support/golden.h"
#include "tests/support/numbers/adamw.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/predictors/paper.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kv_batch golden_batch(const golden_case *g) {
    return (kv_batch){.input_ids = g->input_ids,
                      .target_ids = g->target_ids,
                      .n_seq = g->n_seq,
                      .seq_len = g->seq_len,
                      .ignore_index = g->ignore_index};
}

// ---- Caches and logits ---------------------------------------------------------------------------------

static void assert_cache(const char *what, const float *got, const golden_array *expected,
                         const rounding_spread *spread, int64_t from) {
    golden_array laid = *expected;
    laid.data = malloc((size_t)expected->size * sizeof *laid.data);
    golden_lay_out(expected, expected->data, laid.data, true);
    golden_expect(what, got, &laid, spread, from);
    free(laid.data);
}

// Predicted and true keys and values of every layer, then logits of the base over the predicted cache and of
// the aux.
static void trace_results(const void *context, double *results) {
    const ref_kvp *r = context;
    const kv_model_spec *base = &r->base.model->spec, *aux = &r->aux.model->spec;
    const kv_batch *b = &r->batch;
    const int64_t n = b->n_seq * b->seq_len;
    ref_cache aux_cache, predicted, truth;
    ref_cache_make(aux, n, &aux_cache);
    ref_cache_make(base, n, &predicted);
    ref_cache_make(base, n, &truth);
    double *hidden = test_alloc(n * base->model_dim, sizeof(double));
    double *aux_hidden = test_alloc(n * aux->model_dim, sizeof(double));
    ref_forward(&r->aux, b->input_ids, b->n_seq, b->seq_len, NULL, &aux_cache, aux_hidden);
    ref_predict(r->predictor, &r->weights, &r->base, &r->aux, n, &aux_cache, &predicted);
    ref_forward(&r->base, b->input_ids, b->n_seq, b->seq_len, NULL, &truth, hidden);
    ref_forward(&r->base, b->input_ids, b->n_seq, b->seq_len, &predicted, NULL, hidden);
    for (int64_t i = 0; i < base->n_layers; i++) {
        const int64_t size = n * kv_spec_kv_dim(base, i);
        const double *arrays[] = {predicted.k[i], predicted.v[i], truth.k[i], truth.v[i]};
        for (int j = 0; j < 4; j++, results += size)
            memcpy(results, arrays[j], (size_t)size * sizeof *results);
    }
    const ref_model *models[] = {&r->base, &r->aux};
    double *states[] = {hidden, aux_hidden};
    for (int j = 0; j < 2; j++) {
        const kv_model_spec *spec = &models[j]->model->spec;
        ref_final_norm(models[j], n, states[j], states[j]);
        ref_linear(n, spec->vocab_size, spec->model_dim, states[j],
                   ref_value(&models[j]->params, kv_model_head(models[j]->model)), NULL, results);
        results += n * spec->vocab_size;
    }
    ref_cache_free(&aux_cache);
    ref_cache_free(&predicted);
    ref_cache_free(&truth);
    free(hidden);
    free(aux_hidden);
}

static rounding_spread trace_spread(const golden_case *g) {
    const kv_batch batch = golden_batch(g);
    ref_kvp r = ref_kvp_copy(g->base, g->aux, g->predictor, &batch, &g->weights);
    rounding_operands operands = {0};
    ref_add_operands(&operands, &r.base.params);
    ref_add_operands(&operands, &r.aux.params);
    ref_add_operands(&operands, &r.weights);
    rounding_add(&operands, r.base.inv_freq, g->base->spec.head_dim / 2);
    rounding_add(&operands, r.aux.inv_freq, g->aux->spec.head_dim / 2);
    int64_t n = g->base->spec.vocab_size + g->aux->spec.vocab_size;
    for (int64_t i = 0; i < g->base->spec.n_layers; i++) n += 4 * kv_spec_kv_dim(&g->base->spec, i);
    rounding_spread spread = rounding_measure(&operands, ref_terms_forward(&g->base->spec, g->seq_len),
                                              trace_results, &r, g->n_seq * g->seq_len * n);
    rounding_operands_free(&operands);
    ref_kvp_free(&r);
    return spread;
}

static void assert_traced(golden_case *g, const kv_kvp_trace *trace) {
    static const char *names[] = {"pred_k", "pred_v", "base_k", "base_v"};
    kv_tensor *const *traced[] = {trace->pred_k, trace->pred_v, trace->base_k, trace->base_v};
    rounding_spread spread = trace_spread(g);
    const int64_t n = g->n_seq * g->seq_len;
    int64_t from = 0;
    for (int64_t i = 0; i < g->base->spec.n_layers; i++)
        for (int j = 0; j < 4; j++, from += n * kv_spec_kv_dim(&g->base->spec, i)) {
            if (!traced[j][i]) continue; // no term of this case needed it
            golden_array expected = golden_read(g->expected, "train/%s/%lld", names[j], (long long)i);
            assert_cache(names[j], traced[j][i]->data, &expected, &spread, from);
            free(expected.data);
        }
    kv_tensor *hidden[] = {trace->hidden, trace->aux_hidden};
    kv_model *models[] = {g->base, g->aux};
    static const char *logit_names[] = {"train/logits", "train/aux_logits"};
    for (int j = 0; j < 2; from += n * models[j++]->spec.vocab_size) {
        if (!hidden[j]) continue;
        golden_array expected = golden_read(g->expected, "%s", logit_names[j]);
        kv_tensor *logits = kv_model_logits(g->tape, models[j], hidden[j]);
        golden_expect(logit_names[j], logits->data, &expected, &spread, from);
        free(expected.data);
    }
    rounding_spread_free(&spread);
}

// ---- Losses --------------------------------------------------------------------------------------------

// What the reference's z-losses are larger by: eps · n_ignored · ln²(vocabulary) / n_valid.
static double z_constant(const golden_case *g) {
    double ignored = 0, n = (double)(g->n_seq * g->seq_len), log_v = log((double)g->base->spec.vocab_size);
    for (int64_t i = 0; i < g->n_seq * g->seq_len; i++) ignored += g->target_ids[i] == g->ignore_index;
    return (double)g->weights.z_loss * ignored * log_v * log_v / (n - ignored);
}

static double total_constant(const golden_case *g) {
    return (double)(g->weights.base + g->weights.aux) * z_constant(g);
}

// spread: of the terms (ref_kvp_spread). Sums and the constants of the reference are as wrong as their parts.
static void assert_losses(golden_case *g, const kv_kvp_terms *terms, const rounding_spread *spread) {
    const double *off = spread->allowed;
    double k_total = 0, v_total = 0, k_off = 0, v_off = 0;
    char name[64];
    for (int64_t i = 0; i < g->base->spec.n_layers; i++) {
        const int at = REF_L1 + 2 * (int)i;
        snprintf(name, sizeof name, "train/loss/k_loss_%lld", (long long)i);
        golden_expect_number(name, terms->k_l1[i], golden_number(g->expected, name), off[at]);
        snprintf(name, sizeof name, "train/loss/v_loss_%lld", (long long)i);
        golden_expect_number(name, terms->v_l1[i], golden_number(g->expected, name), off[at + 1]);
        k_total += terms->k_l1[i], v_total += terms->v_l1[i];
        k_off += off[at], v_off += off[at + 1];
    }
    const double n = (double)g->base->spec.n_layers, eps = (double)g->weights.z_loss;
    const double constant = z_constant(g), total = total_constant(g);
    const struct {
        const char *name;
        double got, allowed;
    } losses[] = {
        {"train/loss/base_loss", terms->base.cross_entropy, off[REF_BASE_CE]},
        {"train/loss/auxiliary_loss", terms->aux.cross_entropy, off[REF_AUX_CE]},
        {"train/loss/k_loss_total", k_total, k_off},
        {"train/loss/v_loss_total", v_total, v_off},
        {"train/loss/k_loss_average", k_total / n, k_off / n},
        {"train/loss/v_loss_average", v_total / n, v_off / n},
        {"train/loss/total_loss", terms->total + total, off[REF_TOTAL] + rounding_bound(8, total)},
        {"train/loss/z_loss_base", eps * terms->base.z + constant,
         eps * off[REF_BASE_Z] + rounding_bound(8, constant)},
        {"train/loss/z_loss_auxiliary", eps * terms->aux.z + constant,
         eps * off[REF_AUX_Z] + rounding_bound(8, constant)},
    };
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++)
        if (kv_h5_exists(g->expected, losses[i].name))
            golden_expect_number(losses[i].name, losses[i].got, golden_number(g->expected, losses[i].name),
                                 losses[i].allowed);
}

// ---- Parameters and their gradients --------------------------------------------------------------------

// The parameters that make up one tensor of the reference, whose projections are fused.
static int find_parts(golden_case *g, const char *name, kv_param *parts[3]) {
    int layer, consumed = 0;
    char kind[16], part[16];
    if (sscanf(name, "predicter.auxkv_to_basekv.%15[a-z]_transforms.%d.%15s", kind, &layer, part) == 3) {
        bool key = !strcmp(kind, "key"), weight = !strcmp(part, "weight");
        kv_predictor *p = g->predictor;
        parts[0] = key ? (weight ? test_weight(p, KV_KEYS, layer) : test_bias(p, KV_KEYS, layer))
                       : (weight ? test_weight(p, KV_VALUES, layer) : test_bias(p, KV_VALUES, layer));
        return 1;
    }
    if (!strcmp(name, "auxiliary.token_embeddings.weight")) return parts[0] = &g->aux->embed, 1;
    if (!strcmp(name, "auxiliary.norm.weight")) return parts[0] = &g->aux->norm, 1;
    if (sscanf(name, "auxiliary.layers.%d.%n", &layer, &consumed) != 1 || consumed == 0) return 0;
    kv_layer *l = &g->aux->layers[layer];
    const struct {
        const char *name;
        kv_param *parts[3];
    } table[] = {{"attn_norm.weight", {&l->attn_norm}},     {"ffn_norm.weight", {&l->ffn_norm}},
                 {"attn.q_norm.weight", {&l->q_norm}},      {"attn.k_norm.weight", {&l->k_norm}},
                 {"attn.out_proj.weight", {&l->out}},       {"attn.qkv_proj.weight", {&l->q, &l->k, &l->v}},
                 {"ffn.proj_1.weight", {&l->gate, &l->up}}, {"ffn.proj_2.weight", {&l->down}}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(name + consumed, table[i].name)) continue;
        int n = 0;
        while (n < 3 && table[i].parts[n]) parts[n] = table[i].parts[n], n++;
        return n;
    }
    return 0;
}

// What is compared of every trained parameter: predictors first, then the aux, as ref_gradient_results lays
// them out.
struct comparison {
    golden_case *golden;
    const char *group;
    bool gradients; // of the parameters, rather than the parameters themselves
    const double *allowed;
    int64_t n_parts, n_compared, n_unclear;
};

// All trained parameters in that order.
static int64_t trained(const golden_case *g, kv_param **params) {
    const int64_t n = kv_predictor_params(g->predictor, params);
    return n + kv_model_params(g->aux, params ? params + n : NULL);
}

static const double *allowed_of(const struct comparison *c, const kv_param *param) {
    kv_param *params[2 * REF_PARAMS];
    const double *at = c->allowed;
    const int64_t n = trained(c->golden, params);
    for (int64_t i = 0; i < n && params[i] != param; i++) at += kv_param_size(params[i]) + 1;
    return at;
}

static herr_t compare_parameter(hid_t group, const char *name, const H5L_info_t *info, void *context) {
    (void)group;
    (void)info;
    struct comparison *c = context;
    golden_array expected = golden_read(c->golden->expected, "%s/%s", c->group, name);
    kv_param *parts[3];
    int n_parts = find_parts(c->golden, name, parts);
    if (n_parts == 0) fail_msg("%s/%s belongs to no parameter", c->group, name);
    int64_t at = 0;
    for (int i = 0; i < n_parts; i++) {
        const float *found = c->gradients ? parts[i]->grad : parts[i]->data;
        const double *allowed = allowed_of(c, parts[i]);
        assert_true(at + kv_param_size(parts[i]) <= expected.size);
        for (int64_t e = 0; e < kv_param_size(parts[i]); e++, at++) {
            c->n_compared++;
            if (isfinite(allowed[e]))
                rounding_expect(name, (double)found[e], (double)expected.data[at], allowed[e]);
            else
                c->n_unclear++;
        }
    }
    assert_int_equal(at, expected.size);
    c->n_parts += n_parts;
    free(expected.data);
    return 0;
}

// Every tensor of a group agrees, and the group covers every trained parameter.
static void assert_parameters(golden_case *g, const char *group_name, bool gradients, const double *allowed) {
    struct comparison c = {.golden = g, .group = group_name, .gradients = gradients, .allowed = allowed};
    hid_t group = H5Gopen2(g->expected, group_name, H5P_DEFAULT);
    assert_true(group >= 0);
    H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, compare_parameter, &c);
    H5Gclose(group);
    assert_int_equal(c.n_parts, trained(g, NULL));
    if (c.n_unclear * 20 > c.n_compared) // a few weights whose gradient is no more than rounding, and no more
        fail_msg("%s: of %lld numbers %lld cannot be compared", group_name, (long long)c.n_compared,
                 (long long)c.n_unclear);
}

static kv_kvp_terms forward_backward(const golden_case *g, kv_kvp_trace *trace) {
    kv_kvp_terms terms;
    kv_batch batch = golden_batch(g);
    kv_tape_reset(g->tape);
    kv_tensor *loss =
        kv_kvp_objective(g->tape, g->base, g->aux, g->predictor, &batch, &g->weights, &terms, trace);
    golden_check(kv_tape_status(g->tape, err));
    golden_check(kv_tape_backward(g->tape, loss, err));
    return terms;
}

static void test_training_step(void **state) {
    golden_case g = golden_open(*state);
    const kv_batch batch = golden_batch(&g);
    ref_kvp r = ref_kvp_copy(g.base, g.aux, g.predictor, &batch, &g.weights);
    rounding_spread losses = ref_kvp_spread(&r), gradients = ref_kvp_gradient_spread(&r);
    kv_kvp_trace trace;
    const kv_kvp_terms terms = forward_backward(&g, &trace);
    assert_losses(&g, &terms, &losses);
    assert_traced(&g, &trace);
    for (int64_t i = 0; i < gradients.n; i++) gradients.allowed[i] *= 2; // theirs and ours
    assert_parameters(&g, "train/grad", true, gradients.allowed);
    rounding_spread_free(&losses);
    rounding_spread_free(&gradients);
    ref_kvp_free(&r);
    golden_close(&g);
}

// ---- Three steps ---------------------------------------------------------------------------------------

enum { MAX_STEPS = 8 };

// Training from the weights as they are, which it leaves as they were. Results of every step: total loss,
// norm of the gradient, and the gradient as it is clipped, laid out like ref_gradient_results.
struct training {
    const golden_case *g;
    kv_param *params[2 * REF_PARAMS];
    int64_t n_params, n_gradient;
    int n_steps;
    double lr, clip;
    kv_adamw_args adamw;
};

static struct training training_of(const golden_case *g) {
    struct training t = {.g = g, .n_steps = (int)golden_attribute(g->expected, "steps")};
    int64_t n_betas = 0;
    double betas[2];
    t.n_params = trained(g, t.params);
    for (int64_t i = 0; i < t.n_params; i++) t.n_gradient += kv_param_size(t.params[i]) + 1;
    t.lr = golden_attribute(g->expected, "lr"), t.clip = golden_attribute(g->expected, "grad_clip");
    golden_check(kv_h5_attr_array(g->expected, "/", "betas", 2, betas, &n_betas, err));
    t.adamw = (kv_adamw_args){.beta1 = (float)betas[0],
                              .beta2 = (float)betas[1],
                              .eps = (float)golden_attribute(g->expected, "adam_eps"),
                              .weight_decay = (float)golden_attribute(g->expected, "weight_decay")};
    assert_in_range(t.n_steps, 1, MAX_STEPS);
    return t;
}

static void train(const struct training *t, double *results) {
    kv_adamw *optimizer;
    golden_check(kv_adamw_create((kv_param **)(uintptr_t)t->params, t->n_params, &t->adamw, &optimizer, err));
    for (int step = 0; step < t->n_steps; step++) {
        kv_grad_zero((kv_param **)(uintptr_t)t->params, t->n_params);
        *results++ = forward_backward(t->g, NULL).total;
        const double norm = *results++ = kv_grad_norm((kv_param **)(uintptr_t)t->params, t->n_params);
        const double scale = kv_clip_scale(norm, t->clip);
        for (int64_t i = 0; i < t->n_params; i++) {
            double *next = numeric_gradient_results(t->params[i]->grad, kv_param_size(t->params[i]), results);
            while (results < next) *results++ *= scale;
        }
        kv_adamw_step(optimizer, kv_same_rate(t->lr), scale);
    }
    kv_adamw_free(optimizer);
}

static void training_results(const void *context, double *results) {
    const struct training *t = context;
    float *kept[2 * REF_PARAMS];
    for (int64_t i = 0; i < t->n_params; i++) {
        const size_t bytes = (size_t)kv_param_size(t->params[i]) * sizeof(float);
        kept[i] = malloc(bytes);
        memcpy(kept[i], t->params[i]->data, bytes);
    }
    train(t, results);
    for (int64_t i = 0; i < t->n_params; i++) {
        memcpy(t->params[i]->data, kept[i], (size_t)kv_param_size(t->params[i]) * sizeof(float));
        free(kept[i]);
    }
}

// How far each weight may be from the reference's after all steps: both are float32, and both follow
// gradients that are only known so well, which step by step the spread says.
static double *weights_allowed(const struct training *t, const rounding_spread *spread) {
    double *allowed = test_alloc(t->n_gradient, sizeof *allowed), *at = allowed;
    int64_t from = 0;
    for (int64_t i = 0; i < t->n_params;
         at += kv_param_size(t->params[i]) + 1, from += kv_param_size(t->params[i++]) + 1) {
        const int64_t n = kv_param_size(t->params[i]);
        adamw_twin twin = adamw_twin_make(t->params[i]->data, n);
        float *gradient = test_alloc(n, sizeof *gradient);
        for (int step = 0; step < t->n_steps; step++) {
            const int64_t first = step * (t->n_gradient + 2) + 2 + from;
            for (int64_t e = 0; e < n; e++) gradient[e] = (float)spread->expected[first + e];
            adamw_twin_step(&twin, gradient, spread->allowed + first, &t->adamw, t->params[i]->decay, t->lr,
                            1, step + 1);
        }
        for (int64_t e = 0; e < n; e++) at[e] = 2 * twin.p_off[e];
        adamw_twin_free(&twin);
        free(gradient);
    }
    return allowed;
}

static void test_adamw_steps(void **state) {
    golden_case g = golden_open(*state), moved = g;
    ref_model stored = ref_model_copy(g.base);
    moved.base = ref_model_widened(&stored);
    struct training t = training_of(&moved);
    rounding_operands operands = {0};
    kv_param *base[REF_PARAMS];
    rounding_add_params(&operands, t.params, t.n_params);
    rounding_add_params(&operands, base, kv_model_params(moved.base, base));
    rounding_spread spread = rounding_measure(&operands, ref_terms(&g.base->spec, g.n_seq * g.seq_len),
                                              training_results, &t, t.n_steps * (t.n_gradient + 2));
    for (int step = 0; step < t.n_steps; step++) {
        int64_t from = step * (t.n_gradient + 2) + 2;
        for (int64_t i = 0; i < t.n_params; i++)
            from = numeric_allow_sums(&spread, from, kv_param_size(t.params[i]));
    }
    double *allowed = weights_allowed(&t, &spread), *results = test_alloc(spread.n, sizeof *results);
    t.g = &g;
    train(&t, results);
    for (int step = 0; step < t.n_steps; step++) {
        const int64_t at = step * (t.n_gradient + 2);
        char name[64];
        snprintf(name, sizeof name, "steps/%d/total_loss", step);
        golden_expect_number(name, results[at] + total_constant(&g), golden_number(g.expected, name),
                             spread.allowed[at] + rounding_bound(8, total_constant(&g)));
        snprintf(name, sizeof name, "steps/%d/grad_norm", step);
        golden_expect_number(name, results[at + 1], golden_number(g.expected, name), spread.allowed[at + 1]);
    }
    assert_parameters(&g, "after", false, allowed);
    free(allowed);
    free(results);
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
    ref_model_free(&stored);
    kv_model_free(moved.base);
    golden_close(&g);
}

static void add_tests(const char *dir, bool predicts) {
    if (!predicts) return;
    golden_add_test(dir, "training step", test_training_step);
    golden_add_test(dir, "AdamW steps", test_adamw_steps);
}

int main(void) {
    return golden_run("golden_training", add_tests);
}
