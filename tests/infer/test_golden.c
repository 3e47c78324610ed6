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

#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { MAX_ELEMENTS = 1 << 26, PATH_SIZE = PATH_MAX + 64 };
static const double LOGIT_TOLERANCE = 1e-4, GRADIENT_TOLERANCE = 1e-3;

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

// Largest difference relative to the largest expected magnitude.
static double distance(const float *got, const float *expected, int64_t n) {
    double worst = 0, scale = 1e-12;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)expected[i]);
        if (!(d <= worst)) worst = d; // a NaN counts as worst
        scale = fmax(scale, fabs((double)expected[i]));
    }
    return worst / scale;
}

static void assert_near(const char *what, const float *got, const struct array *expected, double tolerance) {
    double d = distance(got, expected->data, expected->size);
    if (!(d <= tolerance)) fail_msg("%s: off by %.2e relative, allowed %.0e", what, d, tolerance);
}

static void assert_number(const char *what, double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance * fmax(1e-12, fabs(expected))))
        fail_msg("%s: got %.8g, expected %.8g", what, got, expected);
}

// [tokens, heads · d] of n_seq sequences → [n_seq, heads, tokens per sequence, d], as the reference lays
// caches out.
static void assert_cache(const char *what, const float *got, const struct array *expected) {
    int64_t n_seq = expected->shape[0], heads = expected->shape[1], len = expected->shape[2],
            d = expected->shape[3];
    float *laid = malloc((size_t)expected->size * sizeof *laid);
    for (int64_t s = 0; s < n_seq; s++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t t = 0; t < len; t++)
                memcpy(laid + ((s * heads + h) * len + t) * d, got + ((s * len + t) * heads + h) * d,
                       (size_t)d * sizeof *laid);
    assert_near(what, laid, expected, LOGIT_TOLERANCE);
    free(laid);
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
    assert_near(name, logits->data, &expected, LOGIT_TOLERANCE);
    free(sequences);
    free(expected.data);
}

// ---- Training ------------------------------------------------------------------------------------------

static void assert_traced(struct golden *g, const kv_kvp_trace *trace) {
    static const char *names[] = {"pred_k", "pred_v", "base_k", "base_v"};
    kv_tensor *const *traced[] = {trace->pred_k, trace->pred_v, trace->base_k, trace->base_v};
    for (int64_t i = 0; i < g->base->spec.n_layers; i++)
        for (int j = 0; j < 4; j++) {
            if (!traced[j][i]) continue; // no term of this case needed it
            struct array expected = read_array(g->expected, "train/%s/%lld", names[j], (long long)i);
            assert_cache(names[j], traced[j][i]->data, &expected);
            free(expected.data);
        }
    kv_tensor *hidden[] = {trace->hidden, trace->aux_hidden};
    kv_model *models[] = {g->base, g->aux};
    static const char *logit_names[] = {"train/logits", "train/aux_logits"};
    for (int j = 0; j < 2; j++) {
        if (!hidden[j]) continue;
        struct array expected = read_array(g->expected, "%s", logit_names[j]);
        kv_tensor *logits = kv_model_logits(g->tape, models[j], hidden[j]);
        assert_near(logit_names[j], logits->data, &expected, LOGIT_TOLERANCE);
        free(expected.data);
    }
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

static void assert_losses(struct golden *g, const kv_kvp_terms *terms) {
    double k_total = 0, v_total = 0;
    char name[64];
    for (int64_t i = 0; i < g->base->spec.n_layers; i++) {
        snprintf(name, sizeof name, "train/loss/k_loss_%lld", (long long)i);
        assert_number(name, terms->k_l1[i], read_number(g->expected, name), LOGIT_TOLERANCE);
        snprintf(name, sizeof name, "train/loss/v_loss_%lld", (long long)i);
        assert_number(name, terms->v_l1[i], read_number(g->expected, name), LOGIT_TOLERANCE);
        k_total += terms->k_l1[i];
        v_total += terms->v_l1[i];
    }
    double n = (double)g->base->spec.n_layers, eps = (double)g->weights.z_loss;
    const struct {
        const char *name;
        double got;
    } losses[] = {
        {"train/loss/base_loss", terms->base.cross_entropy},
        {"train/loss/auxiliary_loss", terms->aux.cross_entropy},
        {"train/loss/k_loss_total", k_total},
        {"train/loss/v_loss_total", v_total},
        {"train/loss/k_loss_average", k_total / n},
        {"train/loss/v_loss_average", v_total / n},
        {"train/loss/total_loss", terms->total + total_constant(g)},
        {"train/loss/z_loss_base", eps * terms->base.z + z_constant(g)},
        {"train/loss/z_loss_auxiliary", eps * terms->aux.z + z_constant(g)},
    };
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++)
        if (kv_h5_exists(g->expected, losses[i].name))
            assert_number(losses[i].name, losses[i].got, read_number(g->expected, losses[i].name),
                          LOGIT_TOLERANCE);
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

struct comparison {
    struct golden *golden;
    const char *group;
    bool gradients; // of the parameters, rather than the parameters themselves
    int64_t n_parts;
};

static herr_t compare_parameter(hid_t group, const char *name, const H5L_info_t *info, void *context) {
    (void)group;
    (void)info;
    struct comparison *c = context;
    struct array expected = read_array(c->golden->expected, "%s/%s", c->group, name);
    kv_param *parts[3];
    int n_parts = find_parts(c->golden, name, parts);
    if (n_parts == 0) fail_msg("%s/%s belongs to no parameter", c->group, name);
    float *joined = malloc((size_t)expected.size * sizeof *joined);
    int64_t size = 0;
    for (int i = 0; i < n_parts; i++) {
        assert_true(size + kv_param_size(parts[i]) <= expected.size);
        memcpy(joined + size, c->gradients ? parts[i]->grad : parts[i]->data,
               (size_t)kv_param_size(parts[i]) * sizeof *joined);
        size += kv_param_size(parts[i]);
    }
    assert_int_equal(size, expected.size);
    assert_near(name, joined, &expected, GRADIENT_TOLERANCE);
    c->n_parts += n_parts;
    free(joined);
    free(expected.data);
    return 0;
}

// Every tensor of a group agrees, and the group covers every trained parameter.
static void assert_parameters(struct golden *g, const char *group_name, bool gradients) {
    struct comparison c = {.golden = g, .group = group_name, .gradients = gradients};
    hid_t group = H5Gopen2(g->expected, group_name, H5P_DEFAULT);
    assert_true(group >= 0);
    H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, compare_parameter, &c);
    H5Gclose(group);
    assert_int_equal(c.n_parts, kv_model_params(g->aux, NULL) + kv_predictor_params(g->predictor, NULL));
}

static kv_kvp_terms forward_backward(struct golden *g, bool compare) {
    kv_kvp_terms terms;
    kv_kvp_trace trace;
    kv_batch batch = golden_batch(g);
    kv_tape_reset(g->tape);
    kv_tensor *loss =
        kv_kvp_objective(g->tape, g->base, g->aux, g->predictor, &batch, &g->weights, &terms, &trace);
    check(kv_tape_status(g->tape, err));
    if (compare) assert_losses(g, &terms);
    check(kv_tape_backward(g->tape, loss, err));
    if (compare) {
        assert_traced(g, &trace);
        assert_parameters(g, "train/grad", true);
    }
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
    forward_backward(&g, true);
    close_golden(&g);
}

static void test_adamw_steps(void **state) {
    struct golden g = open_golden(*state);
    int64_t n_aux = kv_model_params(g.aux, NULL), n = n_aux + kv_predictor_params(g.predictor, NULL),
            n_betas = 0;
    kv_param **params = malloc((size_t)n * sizeof *params);
    kv_model_params(g.aux, params);
    kv_predictor_params(g.predictor, params + n_aux);
    double betas[2], lr = attribute(g.expected, "lr"), clip = attribute(g.expected, "grad_clip");
    check(kv_h5_attr_array(g.expected, "/", "betas", 2, betas, &n_betas, err));
    kv_adamw_args args = {.beta1 = (float)betas[0],
                          .beta2 = (float)betas[1],
                          .eps = (float)attribute(g.expected, "adam_eps"),
                          .weight_decay = (float)attribute(g.expected, "weight_decay")};
    kv_adamw *optimizer;
    check(kv_adamw_create(params, n, &args, &optimizer, err));
    for (int step = 0; step < (int)attribute(g.expected, "steps"); step++) {
        char name[64];
        kv_grad_zero(params, n);
        kv_kvp_terms terms = forward_backward(&g, false);
        double norm = kv_grad_norm(params, n);
        snprintf(name, sizeof name, "steps/%d/total_loss", step);
        assert_number(name, terms.total + total_constant(&g), read_number(g.expected, name), LOGIT_TOLERANCE);
        snprintf(name, sizeof name, "steps/%d/grad_norm", step);
        assert_number(name, norm, read_number(g.expected, name), GRADIENT_TOLERANCE);
        kv_adamw_step(optimizer, lr, kv_clip_scale(norm, clip));
    }
    assert_parameters(&g, "after", false);
    kv_adamw_free(optimizer);
    free(params);
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

// Greedy decoding gives the expected tokens [n_seq, n_new] and, where they are known, the logits that follow
// each.
static void assert_decoding(struct golden *g, const kv_system *system, const char *tokens_name,
                            const struct array *step_logits) {
    int64_t rows, n_new, vocab = g->base->spec.vocab_size;
    int32_t *expected = read_ids(g->expected, tokens_name, &rows, &n_new),
            *ids = calloc((size_t)rows, sizeof *ids);
    float *logits = malloc((size_t)(rows * vocab) * sizeof *logits);
    kv_session *session = prefilled(g, system, n_new, logits);
    for (int64_t t = 0; t < n_new; t++) {
        kv_argmax(logits, rows, vocab, ids);
        for (int64_t s = 0; s < rows; s++) assert_int_equal(ids[s], expected[s * n_new + t]);
        check(kv_session_decode(session, ids, NULL, logits, err));
        for (int64_t s = 0; s < rows && step_logits; s++) {
            struct array row = {.data = step_logits->data + (s * n_new + t) * vocab, .size = vocab};
            assert_near("infer/step_logits", logits + s * vocab, &row, LOGIT_TOLERANCE);
        }
    }
    kv_session_free(session);
    free(logits);
    free(ids);
    free(expected);
}

static void assert_prompt_cache(struct golden *g, const kv_session *session) {
    for (int64_t i = 0; i < g->base->spec.n_layers; i++) {
        struct array k = read_array(g->expected, "infer/prompt_k/%lld", (long long)i);
        struct array v = read_array(g->expected, "infer/prompt_v/%lld", (long long)i);
        int64_t len = k.shape[2], width = k.shape[1] * k.shape[3], cached = kv_session_length(session, 0);
        float *got_k = malloc((size_t)(g->n_seq * cached * width) * sizeof *got_k);
        float *got_v = malloc((size_t)(g->n_seq * cached * width) * sizeof *got_v);
        assert_true(len <= cached);
        for (int64_t s = 0; s < g->n_seq; s++)
            kv_session_copy_cache(session, i, s, got_k + s * cached * width, got_v + s * cached * width);
        for (int64_t s = 1; s < g->n_seq; s++) {
            memmove(got_k + s * len * width, got_k + s * cached * width,
                    (size_t)(len * width) * sizeof *got_k);
            memmove(got_v + s * len * width, got_v + s * cached * width,
                    (size_t)(len * width) * sizeof *got_v);
        }
        assert_cache("infer/prompt_k", got_k, &k);
        assert_cache("infer/prompt_v", got_v, &v);
        free(got_k);
        free(got_v);
        free(k.data);
        free(v.data);
    }
}

static void test_predicted_decoding(void **state) {
    struct golden g = open_golden(*state);
    kv_system system = {.base = g.base, .aux = g.aux, .predictor = g.predictor};
    struct array first = read_array(g.expected, "infer/first_logits");
    struct array steps = read_array(g.expected, "infer/step_logits");
    float *logits = malloc((size_t)first.size * sizeof *logits);
    kv_session *session = prefilled(&g, &system, 0, logits);
    assert_near("infer/first_logits", logits, &first, LOGIT_TOLERANCE);
    assert_prompt_cache(&g, session);
    assert_decoding(&g, &system, "infer/greedy_tokens", &steps);
    kv_session_free(session);
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
