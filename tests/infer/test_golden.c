// Agreement with other implementations on the files they left: tests/golden, or the directory KV_GOLDEN_DIR
// names.
//
// Every directory below it that holds an expected.h5 is a case: with base/ and aux/ beside it, KV prediction
// by the reference implementation; with a config.json beside it, a plain language model. All sizes come from
// the files.
#include "core/objective.h"
#include "core/optimizer.h"
#include "data/checkpoint/checkpoint.h"
#include "data/file/h5.h"
#include "data/file/path.h"
#include "infer/session/engine.h"
#include "infer/session/sample.h"

#include "tests/support/adamw.h"
#include "tests/support/reference_system.h"

#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_ELEMENTS = 1 << 26, PATH_SIZE = PATH_MAX + 64 };

// ---- Reading what is expected --------------------------------------------------------------------------

#define check(call)                                                                                          \
    do {                                                                                                     \
        kv_error error_;                                                                                     \
        error_.message[0] = 0;                                                                               \
        kv_error *err = &error_;                                                                             \
        if ((call) != KV_OK) fail_msg("%s", error_.message);                                                 \
    } while (0)

struct array {
    float *data;
    int n_dims;
    int64_t shape[8], size;
};

static struct array read_array(hid_t file, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    struct array a = {.size = 1};
    check(kv_h5_read_f32(file, name, MAX_ELEMENTS, &a.data, &a.n_dims, a.shape, err));
    for (int i = 0; i < a.n_dims; i++) a.size *= a.shape[i];
    return a;
}

static double read_number(hid_t file, const char *name) {
    struct array a = read_array(file, "%s", name);
    double value = (double)a.data[0];
    free(a.data);
    return value;
}

static int32_t *read_ids(hid_t file, const char *name, int64_t *rows, int64_t *cols) {
    int32_t *ids;
    int64_t shape[8];
    int n_dims;
    check(kv_h5_read_i32(file, name, MAX_ELEMENTS, &ids, &n_dims, shape, err));
    assert_int_equal(n_dims, 2);
    *rows = shape[0], *cols = shape[1];
    return ids;
}

static double attribute(hid_t file, const char *name) {
    double value = 0;
    check(kv_h5_attr_f64(file, "/", name, &value, err));
    return value;
}

// Theirs and ours are both float32: each has its own error.
static void assert_near(const char *what, const float *got, const struct array *expected,
                        const rounding_spread *spread, int64_t from) {
    rounding_compare(what, got, spread, from, expected->size);
    rounding_compare_both(what, got, expected->data, spread, from, expected->size);
}

static void assert_number(const char *what, double got, double expected, double allowed) {
    rounding_expect(what, got, expected, 2 * allowed);
}

// [tokens, heads · d] of n_seq sequences → [n_seq, heads, tokens per sequence, d], as the reference lays
// caches out, and back.
static void lay_out(const struct array *like, const float *from, float *to, bool back) {
    const int64_t heads = like->shape[1], len = like->shape[2], d = like->shape[3];
    for (int64_t s = 0; s < like->shape[0]; s++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t t = 0; t < len; t++) {
                const int64_t theirs = ((s * heads + h) * len + t) * d,
                              ours = ((s * len + t) * heads + h) * d;
                memcpy(to + (back ? ours : theirs), from + (back ? theirs : ours), (size_t)d * sizeof *to);
            }
}

static void assert_cache(const char *what, const float *got, const struct array *expected,
                         const rounding_spread *spread, int64_t from) {
    struct array laid = *expected;
    laid.data = malloc((size_t)expected->size * sizeof *laid.data);
    lay_out(expected, expected->data, laid.data, true);
    assert_near(what, got, &laid, spread, from);
    free(laid.data);
}

// ---- One case ------------------------------------------------------------------------------------------

struct golden {
    char dir[PATH_MAX];
    hid_t expected;
    kv_model *base, *aux;
    kv_predictor *predictor;
    kv_tape *tape;
    int32_t *input_ids, *target_ids;
    int64_t n_seq, seq_len;
    kv_kvp_weights weights;
    int32_t ignore_index;
};

static void load_pair(struct golden *g) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/base", g->dir);
    check(kv_checkpoint_load(path, &g->base, err));
    snprintf(path, sizeof path, "%s/aux", g->dir);
    check(kv_checkpoint_load_trainable(path, &g->aux, err));
    check(kv_model_set_trainable(g->aux, true, err));
    double values[KV_MAX_LAYERS];
    int64_t n = 0;
    int32_t mapping[KV_MAX_LAYERS];
    check(kv_h5_attr_array(g->expected, "/", "mapping", KV_MAX_LAYERS, values, &n, err));
    for (int64_t i = 0; i < n; i++) mapping[i] = (int32_t)values[i];
    check(kv_mapping_check(mapping, n, g->base->spec.n_layers, g->aux->spec.n_layers, err));
    check(kv_predictor_load(g->dir, &g->base->spec, &g->aux->spec, NULL, mapping, &g->predictor, err));
    check(kv_predictor_set_trainable(g->predictor, true, err));
}

static struct golden open_golden(const char *dir) {
    struct golden g = {0};
    char path[PATH_SIZE];
    snprintf(g.dir, sizeof g.dir, "%s", dir);
    snprintf(path, sizeof path, "%s/expected.h5", g.dir);
    check(kv_h5_open(path, &g.expected, err));
    g.input_ids = read_ids(g.expected, "input_ids", &g.n_seq, &g.seq_len);
    g.tape = kv_tape_create();
    assert_non_null(g.tape);
    if (!kv_path_exists_in(dir, "aux")) {
        check(kv_checkpoint_load(dir, &g.base, err));
        return g;
    }
    int64_t rows, cols;
    g.target_ids = read_ids(g.expected, "target_ids", &rows, &cols);
    g.ignore_index = (int32_t)attribute(g.expected, "ignore_index");
    g.weights = (kv_kvp_weights){.base = (float)attribute(g.expected, "lambda_base"),
                                 .aux = (float)attribute(g.expected, "lambda_aux"),
                                 .consistency = (float)attribute(g.expected, "lambda_consistency"),
                                 .z_loss = (float)attribute(g.expected, "z_loss_eps")};
    load_pair(&g);
    return g;
}

static void close_golden(struct golden *g) {
    H5Fclose(g->expected);
    kv_model_free(g->base);
    kv_model_free(g->aux);
    kv_predictor_free(g->predictor);
    kv_tape_free(g->tape);
    free(g->input_ids);
    free(g->target_ids);
}

static kv_batch golden_batch(const struct golden *g) {
    return (kv_batch){.input_ids = g->input_ids,
                      .target_ids = g->target_ids,
                      .n_seq = g->n_seq,
                      .seq_len = g->seq_len,
                      .ignore_index = g->ignore_index};
}

// Sequences of the same length, one after the other: logits of all tokens.
struct plain {
    const struct golden *g;
    ref_model model;
};

static void plain_results(const void *context, double *results) {
    const struct plain *p = context;
    const kv_model_spec *spec = &p->model.model->spec;
    const int64_t n = p->g->n_seq * p->g->seq_len;
    double *hidden = test_alloc(n * spec->model_dim, sizeof *hidden);
    ref_forward(&p->model, p->g->input_ids, p->g->n_seq, p->g->seq_len, NULL, NULL, hidden);
    ref_final_norm(&p->model, n, hidden, hidden);
    ref_linear(n, spec->vocab_size, spec->model_dim, hidden,
               ref_value(&p->model.params, kv_model_head(p->model.model)), NULL, results);
    free(hidden);
}

// theirs: as transformers has it, whose table of rotary frequencies is stored in 16 bits where the weights
// are.
static rounding_spread plain_spread(const struct golden *g, kv_model *model, kv_dtype theirs) {
    struct plain p = {g, ref_model_copy(model)};
    for (int64_t i = 0; theirs != KV_F32 && i < model->spec.head_dim / 2; i++)
        p.model.inv_freq[i] = test_half_value(theirs, test_half_nearest(theirs, p.model.inv_freq[i]));
    rounding_operands operands = {0};
    ref_add_operands(&operands, &p.model.params);
    rounding_add(&operands, p.model.inv_freq, model->spec.head_dim / 2); // the reference's angles are float32
    rounding_spread spread =
        rounding_measure(&operands, ref_terms_forward(&model->spec, g->seq_len), plain_results, &p,
                         g->n_seq * g->seq_len * model->spec.vocab_size);
    rounding_operands_free(&operands);
    ref_model_free(&p.model);
    return spread;
}

static void assert_plain_logits(struct golden *g, kv_model *model, const char *name) {
    struct array expected = read_array(g->expected, "%s", name);
    kv_sequence *sequences = calloc((size_t)g->n_seq, sizeof *sequences);
    for (int64_t s = 0; s < g->n_seq; s++)
        sequences[s] = (kv_sequence){s * g->seq_len, g->seq_len, s * g->seq_len, g->seq_len};
    kv_pass pass = {.sequences = sequences, .n_sequences = g->n_seq};
    kv_tape_reset(g->tape);
    kv_tensor *x = kv_model_forward(g->tape, model, g->input_ids, g->n_seq * g->seq_len, &pass);
    kv_tensor *logits = kv_model_logits(g->tape, model, x);
    check(kv_tape_status(g->tape, err));
    assert_int_equal(logits->rows * logits->cols, expected.size);
    rounding_spread spread = plain_spread(g, model, KV_F32);
    rounding_compare(name, logits->data, &spread, 0, spread.n);
    if (g->base->embed.dtype != KV_F32) {
        rounding_spread_free(&spread);
        spread = plain_spread(g, model, g->base->embed.dtype);
    }
    rounding_compare(name, expected.data, &spread, 0, spread.n);
    rounding_spread_free(&spread);
    free(sequences);
    free(expected.data);
}

// ---- Training ------------------------------------------------------------------------------------------

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

static rounding_spread trace_spread(const struct golden *g) {
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

static void assert_traced(struct golden *g, const kv_kvp_trace *trace) {
    static const char *names[] = {"pred_k", "pred_v", "base_k", "base_v"};
    kv_tensor *const *traced[] = {trace->pred_k, trace->pred_v, trace->base_k, trace->base_v};
    rounding_spread spread = trace_spread(g);
    const int64_t n = g->n_seq * g->seq_len;
    int64_t from = 0;
    for (int64_t i = 0; i < g->base->spec.n_layers; i++)
        for (int j = 0; j < 4; j++, from += n * kv_spec_kv_dim(&g->base->spec, i)) {
            if (!traced[j][i]) continue; // no term of this case needed it
            struct array expected = read_array(g->expected, "train/%s/%lld", names[j], (long long)i);
            assert_cache(names[j], traced[j][i]->data, &expected, &spread, from);
            free(expected.data);
        }
    kv_tensor *hidden[] = {trace->hidden, trace->aux_hidden};
    kv_model *models[] = {g->base, g->aux};
    static const char *logit_names[] = {"train/logits", "train/aux_logits"};
    for (int j = 0; j < 2; from += n * models[j++]->spec.vocab_size) {
        if (!hidden[j]) continue;
        struct array expected = read_array(g->expected, "%s", logit_names[j]);
        kv_tensor *logits = kv_model_logits(g->tape, models[j], hidden[j]);
        assert_near(logit_names[j], logits->data, &expected, &spread, from);
        free(expected.data);
    }
    rounding_spread_free(&spread);
}

// What the reference's z-losses are larger by: eps · n_ignored · ln²(vocabulary) / n_valid.
static double z_constant(const struct golden *g) {
    double ignored = 0, n = (double)(g->n_seq * g->seq_len), log_v = log((double)g->base->spec.vocab_size);
    for (int64_t i = 0; i < g->n_seq * g->seq_len; i++) ignored += g->target_ids[i] == g->ignore_index;
    return (double)g->weights.z_loss * ignored * log_v * log_v / (n - ignored);
}

static double total_constant(const struct golden *g) {
    return (double)(g->weights.base + g->weights.aux) * z_constant(g);
}

// spread: of the terms (ref_kvp_spread). Sums and the constants of the reference are as wrong as their parts.
static void assert_losses(struct golden *g, const kv_kvp_terms *terms, const rounding_spread *spread) {
    const double *off = spread->allowed;
    double k_total = 0, v_total = 0, k_off = 0, v_off = 0;
    char name[64];
    for (int64_t i = 0; i < g->base->spec.n_layers; i++) {
        const int at = REF_L1 + 2 * (int)i;
        snprintf(name, sizeof name, "train/loss/k_loss_%lld", (long long)i);
        assert_number(name, terms->k_l1[i], read_number(g->expected, name), off[at]);
        snprintf(name, sizeof name, "train/loss/v_loss_%lld", (long long)i);
        assert_number(name, terms->v_l1[i], read_number(g->expected, name), off[at + 1]);
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
            assert_number(losses[i].name, losses[i].got, read_number(g->expected, losses[i].name),
                          losses[i].allowed);
}

// The parameters that make up one tensor of the reference, whose projections are fused.
static int find_parts(struct golden *g, const char *name, kv_param *parts[3]) {
    int layer, consumed = 0;
    char kind[16], part[16];
    if (sscanf(name, "predicter.auxkv_to_basekv.%15[a-z]_transforms.%d.%15s", kind, &layer, part) == 3) {
        bool key = !strcmp(kind, "key"), weight = !strcmp(part, "weight");
        kv_predictor *p = g->predictor;
        parts[0] = key ? (weight ? &p->key_w[layer] : &p->key_b[layer])
                       : (weight ? &p->value_w[layer] : &p->value_b[layer]);
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
    struct golden *golden;
    const char *group;
    bool gradients; // of the parameters, rather than the parameters themselves
    const double *allowed;
    int64_t n_parts, n_compared, n_unclear;
};

// All trained parameters in that order.
static int64_t trained(const struct golden *g, kv_param **params) {
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
    struct array expected = read_array(c->golden->expected, "%s/%s", c->group, name);
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
static void assert_parameters(struct golden *g, const char *group_name, bool gradients,
                              const double *allowed) {
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

static kv_kvp_terms forward_backward(const struct golden *g, kv_kvp_trace *trace) {
    kv_kvp_terms terms;
    kv_batch batch = golden_batch(g);
    kv_tape_reset(g->tape);
    kv_tensor *loss =
        kv_kvp_objective(g->tape, g->base, g->aux, g->predictor, &batch, &g->weights, &terms, trace);
    check(kv_tape_status(g->tape, err));
    check(kv_tape_backward(g->tape, loss, err));
    return terms;
}

static void test_logits(void **state) {
    struct golden g = open_golden(*state);
    assert_plain_logits(&g, g.base, g.aux ? "base_only/logits" : "logits");
    if (g.aux) assert_plain_logits(&g, g.aux, "aux_only/logits");
    close_golden(&g);
}

// The same model as a float32 copy, which is what training starts from.
static void test_widened_logits(void **state) {
    struct golden g = open_golden(*state);
    kv_model *copy;
    check(kv_checkpoint_load_trainable(g.dir, &copy, err));
    assert_plain_logits(&g, copy, "logits");
    kv_model_free(copy);
    close_golden(&g);
}

static void test_training_step(void **state) {
    struct golden g = open_golden(*state);
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
    close_golden(&g);
}

// ---- Three steps ---------------------------------------------------------------------------------------

enum { MAX_STEPS = 8 };

// Training from the weights as they are, which it leaves as they were. Results of every step: total loss,
// norm of the gradient, and the gradient as it is clipped, laid out like ref_gradient_results.
struct training {
    const struct golden *g;
    kv_param *params[2 * REF_PARAMS];
    int64_t n_params, n_gradient;
    int n_steps;
    double lr, clip;
    kv_adamw_args adamw;
};

static struct training training_of(const struct golden *g) {
    struct training t = {.g = g, .n_steps = (int)attribute(g->expected, "steps")};
    int64_t n_betas = 0;
    double betas[2];
    t.n_params = trained(g, t.params);
    for (int64_t i = 0; i < t.n_params; i++) t.n_gradient += kv_param_size(t.params[i]) + 1;
    t.lr = attribute(g->expected, "lr"), t.clip = attribute(g->expected, "grad_clip");
    check(kv_h5_attr_array(g->expected, "/", "betas", 2, betas, &n_betas, err));
    t.adamw = (kv_adamw_args){.beta1 = (float)betas[0],
                              .beta2 = (float)betas[1],
                              .eps = (float)attribute(g->expected, "adam_eps"),
                              .weight_decay = (float)attribute(g->expected, "weight_decay")};
    assert_in_range(t.n_steps, 1, MAX_STEPS);
    return t;
}

static void train(const struct training *t, double *results) {
    kv_adamw *optimizer;
    check(kv_adamw_create((kv_param **)(uintptr_t)t->params, t->n_params, &t->adamw, &optimizer, err));
    for (int step = 0; step < t->n_steps; step++) {
        kv_grad_zero((kv_param **)(uintptr_t)t->params, t->n_params);
        *results++ = forward_backward(t->g, NULL).total;
        const double norm = *results++ = kv_grad_norm((kv_param **)(uintptr_t)t->params, t->n_params);
        const double scale = kv_clip_scale(norm, t->clip);
        for (int64_t i = 0; i < t->n_params; i++) {
            double *next = numeric_gradient_results(t->params[i]->grad, kv_param_size(t->params[i]), results);
            while (results < next) *results++ *= scale;
        }
        kv_adamw_step(optimizer, t->lr, scale);
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
    struct golden g = open_golden(*state), moved = g;
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
        assert_number(name, results[at] + total_constant(&g), read_number(g.expected, name),
                      spread.allowed[at] + rounding_bound(8, total_constant(&g)));
        snprintf(name, sizeof name, "steps/%d/grad_norm", step);
        assert_number(name, results[at + 1], read_number(g.expected, name), spread.allowed[at + 1]);
    }
    assert_parameters(&g, "after", false, allowed);
    free(allowed);
    free(results);
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
    ref_model_free(&stored);
    kv_model_free(moved.base);
    close_golden(&g);
}

// ---- Inference -----------------------------------------------------------------------------------------

static kv_session *prefilled(struct golden *g, const kv_system *system, int64_t n_new, float *logits) {
    kv_session *session;
    int64_t *lengths = malloc((size_t)g->n_seq * sizeof *lengths);
    for (int64_t s = 0; s < g->n_seq; s++) lengths[s] = g->seq_len;
    check(kv_session_create(system, g->n_seq, g->seq_len + n_new, &session, err));
    check(kv_session_prefill(session, g->input_ids, lengths, logits, err));
    free(lengths);
    return session;
}

// Prompts and what is decoded behind each: ids[n_seq, seq_len + n_new].
static int32_t *continued(const struct golden *g, const int32_t *generated, int64_t n_new) {
    const int64_t n = g->seq_len + n_new;
    int32_t *ids = test_alloc(g->n_seq * n, sizeof *ids);
    for (int64_t s = 0; s < g->n_seq; s++) {
        memcpy(ids + s * n, g->input_ids + s * g->seq_len, (size_t)g->seq_len * sizeof *ids);
        if (n_new > 0) memcpy(ids + s * n + g->seq_len, generated + s * n_new, (size_t)n_new * sizeof *ids);
    }
    return ids;
}

// Logits of one sequence from its prompt's last token on, and its cache.
static rounding_spread spread_of(const struct golden *g, const ref_system *r, const int32_t *ids, int64_t n) {
    const int64_t predicted = r->system->predictor ? g->seq_len - 1 : 0;
    return ref_system_spread(&(ref_reading){r, ids, n, predicted, g->seq_len - 1, true});
}

// Greedy decoding gives the expected tokens [n_seq, n_new] and, where they are known, the logits that follow
// each.
static void assert_decoding(struct golden *g, const kv_system *system, const char *tokens_name,
                            const struct array *step_logits) {
    int64_t rows, n_new, vocab = g->base->spec.vocab_size;
    int32_t *expected = read_ids(g->expected, tokens_name, &rows, &n_new),
            *ids = calloc((size_t)rows, sizeof *ids), *whole = continued(g, expected, n_new);
    float *logits = malloc((size_t)(rows * vocab) * sizeof *logits);
    kv_session *session = prefilled(g, system, n_new, logits);
    ref_system r = ref_system_copy(system);
    rounding_spread *spreads = test_alloc(rows, sizeof *spreads);
    for (int64_t s = 0; s < rows && step_logits; s++)
        spreads[s] = spread_of(g, &r, whole + s * (g->seq_len + n_new), g->seq_len + n_new);
    for (int64_t t = 0; t < n_new; t++) {
        kv_argmax(logits, rows, vocab, ids);
        for (int64_t s = 0; s < rows; s++) assert_int_equal(ids[s], expected[s * n_new + t]);
        check(kv_session_decode(session, ids, NULL, logits, err));
        for (int64_t s = 0; s < rows && step_logits; s++) {
            struct array row = {.data = step_logits->data + (s * n_new + t) * vocab, .size = vocab};
            assert_near("infer/step_logits", logits + s * vocab, &row, &spreads[s], (t + 1) * vocab);
        }
    }
    for (int64_t s = 0; s < rows; s++) rounding_spread_free(&spreads[s]);
    ref_system_free(&r);
    kv_session_free(session);
    free(spreads);
    free(logits);
    free(ids);
    free(whole);
    free(expected);
}

// Entries of a sequence as they lie among the results of spread_of, behind logits of n_logits tokens.
static void assert_prompt_cache(struct golden *g, const kv_session *session, const rounding_spread *spreads) {
    int64_t from = g->base->spec.vocab_size;
    for (int64_t i = 0; i < g->base->spec.n_layers; i++) {
        struct array k = read_array(g->expected, "infer/prompt_k/%lld", (long long)i);
        struct array v = read_array(g->expected, "infer/prompt_v/%lld", (long long)i);
        const int64_t len = k.shape[2], width = k.shape[1] * k.shape[3],
                      cached = kv_session_length(session, 0);
        float *got_k = test_alloc(cached * width, sizeof *got_k),
              *got_v = test_alloc(cached * width, sizeof *got_v);
        float *their_k = test_alloc(k.size, sizeof *their_k), *their_v = test_alloc(v.size, sizeof *their_v);
        lay_out(&k, k.data, their_k, true);
        lay_out(&v, v.data, their_v, true);
        assert_true(len <= cached);
        assert_int_equal(cached, g->seq_len);
        for (int64_t s = 0; s < g->n_seq; s++) {
            kv_session_copy_cache(session, i, s, got_k, got_v);
            struct array own_k = {.data = their_k + s * len * width, .size = len * width};
            struct array own_v = {.data = their_v + s * len * width, .size = len * width};
            assert_near("infer/prompt_k", got_k, &own_k, &spreads[s], from);
            assert_near("infer/prompt_v", got_v, &own_v, &spreads[s], from + cached * width);
        }
        from += 2 * cached * width;
        free(got_k);
        free(got_v);
        free(their_k);
        free(their_v);
        free(k.data);
        free(v.data);
    }
}

static void test_predicted_decoding(void **state) {
    struct golden g = open_golden(*state);
    kv_system system = {.base = g.base, .aux = g.aux, .predictor = g.predictor};
    struct array first = read_array(g.expected, "infer/first_logits");
    struct array steps = read_array(g.expected, "infer/step_logits");
    const int64_t vocab = g.base->spec.vocab_size;
    float *logits = malloc((size_t)first.size * sizeof *logits);
    kv_session *session = prefilled(&g, &system, 0, logits);
    ref_system r = ref_system_copy(&system);
    rounding_spread *spreads = test_alloc(g.n_seq, sizeof *spreads);
    for (int64_t s = 0; s < g.n_seq; s++) {
        spreads[s] = spread_of(&g, &r, g.input_ids + s * g.seq_len, g.seq_len);
        struct array row = {.data = first.data + s * vocab, .size = vocab};
        assert_near("infer/first_logits", logits + s * vocab, &row, &spreads[s], 0);
    }
    assert_prompt_cache(&g, session, spreads);
    assert_decoding(&g, &system, "infer/greedy_tokens", &steps);
    for (int64_t s = 0; s < g.n_seq; s++) rounding_spread_free(&spreads[s]);
    ref_system_free(&r);
    kv_session_free(session);
    free(spreads);
    free(logits);
    free(first.data);
    free(steps.data);
    close_golden(&g);
}

static void test_plain_decoding(void **state) {
    struct golden g = open_golden(*state);
    kv_system system = {.base = g.base};
    assert_decoding(&g, &system, g.aux ? "infer/base_greedy_tokens" : "greedy_tokens", NULL);
    close_golden(&g);
}

// ---- Finding the cases ---------------------------------------------------------------------------------

enum { MAX_TESTS = 1024 };
static struct CMUnitTest tests[MAX_TESTS];
static size_t n_tests;

static void add_test(const char *dir, const char *name, CMUnitTestFunction function) {
    char *label;
    if (n_tests == MAX_TESTS || asprintf(&label, "%s: %s", dir, name) < 0) return;
    tests[n_tests++] =
        (struct CMUnitTest){.name = label, .test_func = function, .initial_state = strdup(dir)};
}

static int visit(const char *path, const struct stat *info, int type, struct FTW *place) {
    (void)info;
    if (type != FTW_F || strcmp(path + place->base, "expected.h5")) return 0;
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%.*s", place->base - 1, path);
    add_test(dir, "logits", test_logits);
    add_test(dir, "plain decoding", test_plain_decoding);
    if (!kv_path_exists_in(dir, "aux")) add_test(dir, "logits of a float32 copy", test_widened_logits);
    if (kv_path_exists_in(dir, "aux")) {
        add_test(dir, "training step", test_training_step);
        add_test(dir, "AdamW steps", test_adamw_steps);
        add_test(dir, "predicted decoding", test_predicted_decoding);
    }
    return 0;
}

// KV_GOLDEN_DIR, from where the test runs or else from the project's root; without it tests/golden.
static void find_root(char root[PATH_SIZE]) {
    const char *given = getenv("KV_GOLDEN_DIR"), *tests_dir = getenv("KV_TEST_DIR");
    if (!tests_dir) tests_dir = "tests";
    if (!given)
        snprintf(root, PATH_SIZE, "%s/golden", tests_dir);
    else if (given[0] == '/' || kv_path_exists_in(".", given))
        snprintf(root, PATH_SIZE, "%s", given);
    else
        snprintf(root, PATH_SIZE, "%s/../%s", tests_dir, given);
}

int main(void) {
    char root[PATH_SIZE];
    find_root(root);
    if (nftw(root, visit, 16, 0) != 0 || n_tests == 0) {
        fprintf(stderr, "no expected.h5 below %s\n", root);
        return 1;
    }
    int failed = _cmocka_run_group_tests("golden", tests, n_tests, NULL, NULL);
    for (size_t i = 0; i < n_tests; i++) {
        free((void *)(uintptr_t)tests[i].name);
        free(tests[i].initial_state);
    }
    return failed;
}
