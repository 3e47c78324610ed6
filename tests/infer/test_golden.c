// Agreement with other implementations on what models say: logits of whole texts, greedy decoding, and
// decoding behind a predicted cache.
#include "data/checkpoint/checkpoint.h"
#include "infer/session/engine.h"
#include "infer/session/sample.h"

#include "tests/support/golden.h"
#include "tests/support/numbers/reference_system.h"

#include <stdlib.h>
#include <string.h>

// ---- Logits --------------------------------------------------------------------------------------------

// Sequences of the same length, one after the other: logits of all tokens.
struct plain {
    const golden_case *g;
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
static rounding_spread plain_spread(const golden_case *g, kv_model *model, kv_dtype theirs) {
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

static void assert_plain_logits(golden_case *g, kv_model *model, const char *name) {
    golden_array expected = golden_read(g->expected, "%s", name);
    kv_sequence *sequences = calloc((size_t)g->n_seq, sizeof *sequences);
    for (int64_t s = 0; s < g->n_seq; s++)
        sequences[s] = (kv_sequence){s * g->seq_len, g->seq_len, s * g->seq_len, g->seq_len};
    kv_pass pass = {.sequences = sequences, .n_sequences = g->n_seq};
    kv_tape_reset(g->tape);
    kv_tensor *x = kv_model_forward(g->tape, model, g->input_ids, g->n_seq * g->seq_len, &pass);
    kv_tensor *logits = kv_model_logits(g->tape, model, x);
    golden_check(kv_tape_status(g->tape, err));
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

static void test_logits(void **state) {
    golden_case g = golden_open(*state);
    assert_plain_logits(&g, g.base, g.aux ? "base_only/logits" : "logits");
    if (g.aux) assert_plain_logits(&g, g.aux, "aux_only/logits");
    golden_close(&g);
}

// The same model as a float32 copy, which is what training starts from.
static void test_widened_logits(void **state) {
    golden_case g = golden_open(*state);
    kv_model *copy;
    golden_check(kv_checkpoint_load_trainable(g.dir, &copy, err));
    assert_plain_logits(&g, copy, "logits");
    kv_model_free(copy);
    golden_close(&g);
}

// ---- Inference -----------------------------------------------------------------------------------------

static kv_session *prefilled(golden_case *g, const kv_system *system, int64_t n_new, float *logits) {
    kv_session *session;
    int64_t *lengths = malloc((size_t)g->n_seq * sizeof *lengths);
    for (int64_t s = 0; s < g->n_seq; s++) lengths[s] = g->seq_len;
    golden_check(kv_session_create(system, g->n_seq, g->seq_len + n_new, &session, err));
    golden_check(kv_session_prefill(session, g->input_ids, lengths, logits, err));
    free(lengths);
    return session;
}

// Prompts and what is decoded behind each: ids[n_seq, seq_len + n_new].
static int32_t *continued(const golden_case *g, const int32_t *generated, int64_t n_new) {
    const int64_t n = g->seq_len + n_new;
    int32_t *ids = test_alloc(g->n_seq * n, sizeof *ids);
    for (int64_t s = 0; s < g->n_seq; s++) {
        memcpy(ids + s * n, g->input_ids + s * g->seq_len, (size_t)g->seq_len * sizeof *ids);
        if (n_new > 0) memcpy(ids + s * n + g->seq_len, generated + s * n_new, (size_t)n_new * sizeof *ids);
    }
    return ids;
}

// Logits of one sequence from its prompt's last token on, and its cache.
static rounding_spread spread_of(const golden_case *g, const ref_system *r, const int32_t *ids, int64_t n) {
    const int64_t predicted = r->system->predictor ? g->seq_len - 1 : 0;
    return ref_system_spread(&(ref_reading){r, ids, n, predicted, g->seq_len - 1, true});
}

// Greedy decoding gives the expected tokens [n_seq, n_new] and, where they are known, the logits that follow
// each.
static void assert_decoding(golden_case *g, const kv_system *system, const char *tokens_name,
                            const golden_array *step_logits) {
    int64_t rows, n_new, vocab = g->base->spec.vocab_size;
    int32_t *expected = golden_ids(g->expected, tokens_name, &rows, &n_new),
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
        golden_check(kv_session_decode(session, ids, NULL, logits, err));
        for (int64_t s = 0; s < rows && step_logits; s++) {
            golden_array row = {.data = step_logits->data + (s * n_new + t) * vocab, .size = vocab};
            golden_expect("infer/step_logits", logits + s * vocab, &row, &spreads[s], (t + 1) * vocab);
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
static void assert_prompt_cache(golden_case *g, const kv_session *session, const rounding_spread *spreads) {
    int64_t from = g->base->spec.vocab_size;
    for (int64_t i = 0; i < g->base->spec.n_layers; i++) {
        golden_array k = golden_read(g->expected, "infer/prompt_k/%lld", (long long)i);
        golden_array v = golden_read(g->expected, "infer/prompt_v/%lld", (long long)i);
        const int64_t len = k.shape[2], width = k.shape[1] * k.shape[3],
                      cached = kv_session_length(session, 0);
        float *got_k = test_alloc(cached * width, sizeof *got_k),
              *got_v = test_alloc(cached * width, sizeof *got_v);
        float *their_k = test_alloc(k.size, sizeof *their_k), *their_v = test_alloc(v.size, sizeof *their_v);
        golden_lay_out(&k, k.data, their_k, true);
        golden_lay_out(&v, v.data, their_v, true);
        assert_true(len <= cached);
        assert_int_equal(cached, g->seq_len);
        for (int64_t s = 0; s < g->n_seq; s++) {
            kv_session_copy_cache(session, i, s, got_k, got_v);
            golden_array own_k = {.data = their_k + s * len * width, .size = len * width};
            golden_array own_v = {.data = their_v + s * len * width, .size = len * width};
            golden_expect("infer/prompt_k", got_k, &own_k, &spreads[s], from);
            golden_expect("infer/prompt_v", got_v, &own_v, &spreads[s], from + cached * width);
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
    golden_case g = golden_open(*state);
    kv_system system = {.base = g.base, .aux = g.aux, .predictor = g.predictor};
    golden_array first = golden_read(g.expected, "infer/first_logits");
    golden_array steps = golden_read(g.expected, "infer/step_logits");
    const int64_t vocab = g.base->spec.vocab_size;
    float *logits = malloc((size_t)first.size * sizeof *logits);
    kv_session *session = prefilled(&g, &system, 0, logits);
    ref_system r = ref_system_copy(&system);
    rounding_spread *spreads = test_alloc(g.n_seq, sizeof *spreads);
    for (int64_t s = 0; s < g.n_seq; s++) {
        spreads[s] = spread_of(&g, &r, g.input_ids + s * g.seq_len, g.seq_len);
        golden_array row = {.data = first.data + s * vocab, .size = vocab};
        golden_expect("infer/first_logits", logits + s * vocab, &row, &spreads[s], 0);
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
    golden_close(&g);
}

static void test_plain_decoding(void **state) {
    golden_case g = golden_open(*state);
    kv_system system = {.base = g.base};
    assert_decoding(&g, &system, g.aux ? "infer/base_greedy_tokens" : "greedy_tokens", NULL);
    golden_close(&g);
}

static void add_tests(const char *dir, bool predicts) {
    golden_add_test(dir, "logits", test_logits);
    golden_add_test(dir, "plain decoding", test_plain_decoding);
    if (predicts)
        golden_add_test(dir, "predicted decoding", test_predicted_decoding);
    else
        golden_add_test(dir, "logits of a float32 copy", test_widened_logits);
}

int main(void) {
    return golden_run("golden", add_tests);
}
