// Every part a predictor can be made of, in sessions and in scoring: prompts of a batch as each alone and as the core
// computes them in one piece, steps behind them, whole texts as in training, products against the counter; what is
// exact against the base's own cache, and the base alone beside all of that.
#include "core/gemm.h"
#include "core/objective.h"
#include "infer/cost.h"
#include "infer/score/score.h"
#include "infer/session/engine.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 61, N_SEQ = 4, STEPS = 5, LONGEST = 20, ROOM = LONGEST + STEPS };

// Prompts of a batch, and the tokens that follow them.
static const int64_t lengths[N_SEQ] = {7, 1, 20, 12};
static int32_t texts[N_SEQ][ROOM];

static kv_system system_of(const test_made *m) {
    return (kv_system){.base = m->base, .aux = m->aux, .predictor = m->predictor};
}

static void must(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

static kv_session *make_session(const kv_system *system, int64_t n_seq, int64_t capacity) {
    kv_session *session;
    kv_error err = {0};
    must(kv_session_create(system, n_seq, capacity, &session, &err), &err);
    return session;
}

// Float32 logits of models as small as these, computed in another order.
static void expect_near(const char *name, const char *what, const float *found, const float *expected) {
    for (int i = 0; i < VOCABULARY; i++)
        if (!(fabsf(found[i] - expected[i]) <= 2e-5f * (1 + fabsf(expected[i]))))
            fail_msg("%s, %s: id %d has %.7g, expected %.7g", name, what, i, (double)found[i],
                     (double)expected[i]);
}

// ---- In one piece --------------------------------------------------------------------------------------

static kv_tensor *behind(kv_tape *tape, const kv_tensor *first, const kv_tensor *second) {
    if (!first) return (kv_tensor *)second;
    kv_tensor *both = kv_tape_tensor(tape, first->rows + second->rows, first->cols);
    const size_t size = (size_t)(first->rows * first->cols);
    memcpy(both->data, first->data, size * sizeof(float));
    memcpy(both->data + size, second->data, (size_t)(second->rows * second->cols) * sizeof(float));
    return both;
}

// The last token of a prompt and those behind it, each against the predicted entries of all before the prompt's last
// token and the base's own of the others: logits [n - n_prompt + 1, VOCABULARY]. Without the session's packs and
// caches.
static void in_one_piece(const test_made *m, const int32_t *ids, int64_t n_prompt, int64_t n, float *logits) {
    const int64_t front = n_prompt - 1, rows = n - front;
    const kv_sequence prompt = {0, front, 0, front}, rest = {0, rows, 0, n};
    kv_tensor *k[KV_MAX_LAYERS] = {0}, *v[KV_MAX_LAYERS] = {0};
    kv_tape *tape = kv_tape_create();
    kv_key_norms norms;
    kv_taps taps;
    kv_pass pass = {.sequences = &prompt, .n_sequences = 1};
    kv_tape_set_recording(tape, false);
    kv_model_key_norms(m->base, &norms);
    if (front > 0) {
        kv_predictor_read(tape, m->predictor, m->base, m->aux, ids, front, &pass, false, &taps);
        kv_predict(tape, m->predictor, &norms, &taps, k, v);
    }
    pass = (kv_pass){.sequences = &rest, .n_sequences = 1};
    if (front > 0) pass.adapters = m->predictor->adapters;
    kv_tensor *x = kv_embedding(tape, &m->base->embed, ids + front, rows);
    for (int64_t i = 0; i < m->base->spec.n_layers; i++) {
        kv_tensor *h = kv_layer_norm_in(tape, m->base, i, x);
        const kv_layer_kv own = kv_layer_keys_values(tape, m->base, i, h);
        x = kv_layer_attend(tape, m->base, i, x, h, behind(tape, k[i], own.k), behind(tape, v[i], own.v),
                            &pass);
    }
    const kv_tensor *all = kv_model_logits(tape, m->base, x);
    assert_non_null(all);
    memcpy(logits, all->data, (size_t)(rows * VOCABULARY) * sizeof *logits);
    kv_tape_free(tape);
}

// ---- Sessions ------------------------------------------------------------------------------------------

static void pack_prompts(int32_t *ids) {
    for (int s = 0; s < N_SEQ; ids += lengths[s++]) memcpy(ids, texts[s], (size_t)lengths[s] * sizeof *ids);
}

static void decode_together(const char *name, kv_session *session, float (*expected)[STEPS + 1][VOCABULARY],
                            int64_t n_seq) {
    float logits[N_SEQ * VOCABULARY];
    kv_error err = {0};
    for (int step = 0; step < STEPS; step++) {
        int32_t next[N_SEQ];
        for (int64_t s = 0; s < n_seq; s++) next[s] = texts[s][lengths[s] + step];
        must(kv_session_decode(session, next, NULL, logits, &err), &err);
        for (int64_t s = 0; s < n_seq; s++)
            expect_near(name, "a step", logits + s * VOCABULARY, expected[s][step + 1]);
    }
}

static void test_sessions(void **state) {
    (void)state;
    static float expected[N_SEQ][STEPS + 1][VOCABULARY];
    int32_t prompts[N_SEQ * LONGEST];
    kv_error err = {0};
    pack_prompts(prompts);
    for (int p = 0; p < TEST_PARTS; p++) {
        const char *name = test_parts[p].name;
        test_made m = test_part_make(&test_parts[p]);
        const kv_system system = system_of(&m);
        float logits[N_SEQ * VOCABULARY];
        for (int64_t s = 0; s < N_SEQ; s++)
            in_one_piece(&m, texts[s], lengths[s], lengths[s] + STEPS, expected[s][0]);
        kv_session *session = make_session(&system, N_SEQ, ROOM);
        must(kv_session_prefill(session, prompts, lengths, logits, &err), &err);
        for (int64_t s = 0; s < N_SEQ; s++)
            expect_near(name, "a prompt of a batch", logits + s * VOCABULARY, expected[s][0]);
        decode_together(name, session, expected, N_SEQ);
        kv_session_free(session);
        for (int64_t s = 0; s < N_SEQ; s++) {
            kv_session *one = make_session(&system, 1, lengths[s]);
            must(kv_session_prefill(one, texts[s], &lengths[s], logits, &err), &err);
            expect_near(name, "a prompt alone", logits, expected[s][0]);
            kv_session_free(one);
        }
        test_made_free(&m);
    }
}

// A prompt of one token has nothing to predict: the base reads it, and all behind it, as it always does.
static void test_one_token(void **state) {
    (void)state;
    const int64_t ones[N_SEQ] = {1, 1, 1, 1};
    int32_t ids[N_SEQ], next[N_SEQ];
    for (int s = 0; s < N_SEQ; s++) ids[s] = texts[s][0], next[s] = texts[s][1];
    for (int p = 0; p < TEST_PARTS; p++) {
        float logits[2][2][N_SEQ * VOCABULARY];
        test_made m = test_part_make(&test_parts[p]);
        const kv_system systems[2] = {{.base = m.base}, system_of(&m)};
        for (int i = 0; i < 2; i++) {
            kv_error err = {0};
            kv_session *session = make_session(&systems[i], N_SEQ, 2);
            must(kv_session_prefill(session, ids, ones, logits[i][0], &err), &err);
            must(kv_session_decode(session, next, NULL, logits[i][1], &err), &err);
            kv_session_free(session);
        }
        if (memcmp(logits[0], logits[1], sizeof logits[0]) != 0)
            fail_msg("%s: not what the base alone says", test_parts[p].name);
        test_made_free(&m);
    }
}

// Systems may take turns, as when they are compared: the base is never changed.
static void test_the_base_alone_stays_as_it_is(void **state) {
    (void)state;
    int32_t prompts[N_SEQ * LONGEST], next[N_SEQ];
    pack_prompts(prompts);
    for (int s = 0; s < N_SEQ; s++) next[s] = texts[s][lengths[s]];
    for (int p = 0; p < TEST_PARTS; p++) {
        float before[2][N_SEQ * VOCABULARY], after[2][N_SEQ * VOCABULARY], other[N_SEQ * VOCABULARY];
        kv_error err = {0};
        test_made m = test_part_make(&test_parts[p]);
        const kv_system alone = {.base = m.base}, system = system_of(&m);
        kv_session *a = make_session(&alone, N_SEQ, ROOM), *b = make_session(&system, N_SEQ, ROOM);
        must(kv_session_prefill(a, prompts, lengths, before[0], &err), &err);
        must(kv_session_decode(a, next, NULL, before[1], &err), &err);
        kv_session_reset(a);
        must(kv_session_prefill(b, prompts, lengths, other, &err), &err);
        must(kv_session_prefill(a, prompts, lengths, after[0], &err), &err);
        must(kv_session_decode(b, next, NULL, other, &err), &err);
        must(kv_session_decode(a, next, NULL, after[1], &err), &err);
        assert_memory_equal(before, after, sizeof before);
        assert_true(memcmp(other, after[1], sizeof other) != 0);
        kv_session_free(a);
        kv_session_free(b);
        test_made_free(&m);
    }
}

// What a session holds of layers that are not predicted has the bits of the base reading the same tokens alone. Behind
// the last of them entries are predicted, and others.
static void test_exact_layers(void **state) {
    (void)state;
    int32_t prompts[N_SEQ * LONGEST], fronts[N_SEQ * LONGEST];
    int64_t whole[3], n_prompts = 0, n_fronts = 0;
    static const int long_ones[3] = {0, 2, 3};
    int64_t front[3];
    for (int s = 0; s < 3; s++) {
        whole[s] = lengths[long_ones[s]], front[s] = whole[s] - 1;
        memcpy(prompts + n_prompts, texts[long_ones[s]], (size_t)whole[s] * sizeof *prompts);
        memcpy(fronts + n_fronts, texts[long_ones[s]], (size_t)front[s] * sizeof *fronts);
        n_prompts += whole[s], n_fronts += front[s];
    }
    for (int p = 0; p < TEST_PARTS; p++) {
        const int64_t n_exact = test_parts[p].prefix ? test_parts[p].prefix : test_parts[p].exact_first;
        float logits[N_SEQ * VOCABULARY], k[2][LONGEST * 64], v[2][LONGEST * 64];
        kv_error err = {0};
        test_made m = test_part_make(&test_parts[p]);
        const kv_system alone = {.base = m.base}, system = system_of(&m);
        kv_session *a = make_session(&alone, 3, ROOM), *b = make_session(&system, 3, ROOM);
        must(kv_session_prefill(a, fronts, front, logits, &err), &err);
        must(kv_session_prefill(b, prompts, whole, logits, &err), &err);
        for (int64_t i = 0; i < m.base->spec.n_layers; i++)
            for (int s = 0; s < 3; s++) {
                const size_t size = (size_t)(front[s] * kv_spec_kv_dim(&m.base->spec, i)) * sizeof(float);
                assert_true(size + 64 * sizeof(float) <= sizeof k[0]);
                kv_session_copy_cache(a, i, s, k[0], v[0]);
                kv_session_copy_cache(b, i, s, k[1], v[1]);
                const bool equal = !memcmp(k[0], k[1], size) && !memcmp(v[0], v[1], size);
                if (equal != (i < n_exact))
                    fail_msg("%s: layer %d is %sthe base's own", test_parts[p].name, (int)i,
                             equal ? "" : "not ");
            }
        kv_session_free(a);
        kv_session_free(b);
        test_made_free(&m);
    }
}

// ---- Whole texts ---------------------------------------------------------------------------------------

// What a training step says of the base on its predicted cache, and what scoring says of the same tokens.
static void test_scoring_is_the_training_step(void **state) {
    (void)state;
    const kv_kvp_weights weights = {.base = 1};
    enum { SEQ_LEN = ROOM - 1 };
    int32_t input[2 * SEQ_LEN], target[2 * SEQ_LEN], ids[2 * ROOM];
    for (int s = 0; s < 2; s++) {
        memcpy(input + s * SEQ_LEN, texts[s], SEQ_LEN * sizeof *input);
        memcpy(target + s * SEQ_LEN, texts[s] + 1, SEQ_LEN * sizeof *target);
        memcpy(ids + s * ROOM, texts[s], ROOM * sizeof *ids);
    }
    for (int p = 0; p < TEST_PARTS; p++) {
        kv_error err = {0};
        test_made m = test_part_make(&test_parts[p]);
        const kv_system system = system_of(&m);
        const kv_batch batch = {
            .input_ids = input, .target_ids = target, .n_seq = 2, .seq_len = SEQ_LEN, .ignore_index = -1};
        const int64_t n[2] = {ROOM, ROOM}, scored[2] = {SEQ_LEN, SEQ_LEN};
        double log_p[2];
        kv_kvp_terms terms;
        kv_tape *tape = kv_tape_create();
        assert_non_null(kv_kvp_objective(tape, m.base, m.aux, m.predictor, &batch, &weights, &terms, NULL));
        must(kv_score(&system, ids, n, scored, 2, log_p, NULL, &err), &err);
        const double found = -(log_p[0] + log_p[1]) / (2 * SEQ_LEN),
                     expected = (double)terms.base.cross_entropy;
        if (!(fabs(found - expected) <= 4e-6 * expected))
            fail_msg("%s: %.8g nats a token, in training %.8g", test_parts[p].name, found, expected);
        kv_tape_free(tape);
        test_made_free(&m);
    }
}

// Text behind a prompt: all at once, one by one, and what the core says of it.
static void test_behind_a_prompt(void **state) {
    (void)state;
    static float logits[STEPS + 1][VOCABULARY];
    int32_t ids[N_SEQ * ROOM], *end = ids;
    int64_t n[N_SEQ], scored[N_SEQ];
    for (int s = 0; s < N_SEQ; end += n[s++]) {
        n[s] = lengths[s] + STEPS, scored[s] = STEPS;
        memcpy(end, texts[s], (size_t)n[s] * sizeof *end);
    }
    for (int p = 0; p < TEST_PARTS; p++) {
        kv_error err = {0};
        double at_once[N_SEQ], decoded[N_SEQ];
        test_made m = test_part_make(&test_parts[p]);
        const kv_system system = system_of(&m);
        must(kv_score_behind_prompt(&system, ids, n, scored, N_SEQ, at_once, NULL, &err), &err);
        must(kv_score_by_decoding(&system, ids, n, scored, N_SEQ, decoded, NULL, &err), &err);
        for (int s = 0; s < N_SEQ; s++) {
            double expected = 0;
            in_one_piece(&m, texts[s], lengths[s], n[s], logits[0]);
            for (int t = 0; t < STEPS; t++) {
                double sum = 0;
                for (int i = 0; i < VOCABULARY; i++) sum += exp((double)logits[t][i]);
                expected += (double)logits[t][texts[s][lengths[s] + t]] - log(sum);
            }
            if (!(fabs(at_once[s] - expected) <= 1e-5 * -expected &&
                  fabs(decoded[s] - expected) <= 1e-5 * -expected))
                fail_msg("%s, text %d: %.8g at once, %.8g decoded, expected %.8g", test_parts[p].name, s,
                         at_once[s], decoded[s], expected);
        }
        test_made_free(&m);
    }
}

// ---- Products ------------------------------------------------------------------------------------------

static void expect_products(const char *name, const char *what, int64_t n, uint64_t said) {
    if (kv_gemm_flops() != said)
        fail_msg("%s, %s of %d tokens: %llu products, said %llu", name, what, (int)n,
                 (unsigned long long)kv_gemm_flops(), (unsigned long long)said);
}

static void products_of(const char *name, const kv_system *system, int64_t n) {
    float logits[VOCABULARY];
    double log_p;
    kv_error err = {0};
    kv_session *session = make_session(system, 1, n + STEPS);
    kv_gemm_flops_reset();
    must(kv_session_prefill(session, texts[0], &n, logits, &err), &err);
    expect_products(name, "a prompt", n, kv_system_flops(system, n));
    kv_gemm_flops_reset();
    for (int step = 0; step + 1 < STEPS; step++)
        must(kv_session_decode(session, &texts[0][n + step], NULL, logits, &err), &err);
    expect_products(name, "an answer", n, kv_system_decode_flops(system, n, STEPS));
    kv_session_free(session);
    const int64_t all = n + STEPS, scored = STEPS;
    kv_gemm_flops_reset();
    must(kv_score(system, texts[0], &all, &scored, 1, &log_p, NULL, &err), &err);
    expect_products(name, "a text", all, kv_system_score_flops(system, all, scored));
    kv_gemm_flops_reset();
    must(kv_score_behind_prompt(system, texts[0], &all, &scored, 1, &log_p, NULL, &err), &err);
    expect_products(name, "a tail", all, kv_system_behind_flops(system, all, scored));
}

static bool names_of_token(const char *sources) {
    return sources && (strstr(sources, "embedding") || strstr(sources, "own_"));
}

// Both counts of what depends on the token alone: the part is there where an embedding, the base's first layer or a table
// of a width is, and a lookup is none.
static void expect_lookups(const test_part *part, const kv_system *system) {
    enum { N = 9 };
    const uint64_t executed = kv_system_flops(system, N), computed = kv_system_flops_computed(system, N),
                   looked_up = kv_system_flops_looked_up(system, N);
    const uint64_t tokens = kv_flops_predictor_tokens(system->predictor, &system->base->spec, N - 1);
    assert_int_equal(computed - looked_up, tokens);
    assert_int_equal(executed, system->predictor->tabulated ? looked_up : computed);
    const bool of_token = part->exact_first || part->table != KV_TABLE_NONE || names_of_token(part->keys) ||
                          names_of_token(part->values);
    assert_int_equal(kv_system_lookups(system) > 0, of_token);
    assert_int_equal(kv_system_flops_computed(system, 1), kv_system_flops(system, 1));
}

static void test_products(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        test_made m = test_part_make(&test_parts[p]);
        const kv_system system = system_of(&m);
        for (int64_t n = 1; n <= LONGEST; n += n < 3 ? 1 : 17) products_of(test_parts[p].name, &system, n);
        expect_lookups(&test_parts[p], &system);
        test_made_free(&m);
    }
}

// ---- Refusals ------------------------------------------------------------------------------------------

static void refuse(const kv_system *system, int64_t n, kv_status expected, const char *part) {
    kv_error err = {0};
    assert_int_equal(kv_system_check(system, n, &err), expected);
    if (!strstr(err.message, part)) fail_msg("expected %s\nfound    %s", part, err.message);
}

static void test_refusals(void **state) {
    (void)state;
    const test_part prefix = {.name = "a prefix", .prefix = 2};
    const kv_model_spec other = tiny_base();
    test_made m = test_part_make(&prefix);
    kv_model *copy = tiny_model(&other, 1);
    kv_system system = system_of(&m);
    assert_int_equal(kv_system_check(&system, 64, NULL), KV_OK);
    assert_int_equal(kv_system_context(&system), 64);
    assert_int_equal(kv_system_vocab_size(&system), VOCABULARY);
    refuse(&system, 65, KV_ERR_RANGE, "65 tokens do not fit the base's context of 64");
    // As good as the base, but another model.
    system.aux = copy;
    refuse(&system, 64, KV_ERR_MISMATCH, "the base's own first 2 layers: expected no aux but the base");
    system.aux = NULL;
    refuse(&system, 64, KV_ERR_ARGUMENT, "a predictor needs an aux");
    kv_model_free(copy);
    test_made_free(&m);
}

static int setup(void **state) {
    (void)state;
    for (int s = 0; s < N_SEQ; s++) tiny_ids(texts[s], ROOM, VOCABULARY, 4 + (uint64_t)s);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_one_token),
        cmocka_unit_test(test_the_base_alone_stays_as_it_is),
        cmocka_unit_test(test_exact_layers),
        cmocka_unit_test(test_scoring_is_the_training_step),
        cmocka_unit_test(test_behind_a_prompt),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
