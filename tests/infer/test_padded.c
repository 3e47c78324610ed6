// Base and aux whose tables have different numbers of padding rows: the same results as without any, and ids
// that only one of them knows are refused where both would read them.
#include "tests/support/numbers/reference_system.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include "infer/score/score.h"
#include "infer/session/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 61, BASE_ROWS = 70, AUX_ROWS = 80, N_PROMPT = 40 };

// The same model with more rows in its table, which would win every choice if they were asked.
static kv_model *padded(const kv_model *model, int64_t rows) {
    kv_model_spec spec = model->spec;
    kv_model *wide;
    kv_error err = {0};
    spec.vocab_size = rows;
    if (kv_model_create(&spec, KV_F32, true, &wide, &err) != KV_OK) fail_msg("%s", err.message);
    kv_param *from[64], *to[64];
    const int64_t n = kv_model_params((kv_model *)(uintptr_t)model, from);
    assert_true(n <= 64);
    assert_int_equal(kv_model_params(wide, to), n);
    for (int64_t i = 0; i < n; i++)
        memcpy(to[i]->data, from[i]->data, (size_t)kv_param_size(from[i]) * sizeof(float));
    float *table = wide->embed.data;
    for (int64_t i = model->embed.rows * spec.model_dim; i < rows * spec.model_dim; i++)
        table[i] = 30 * table[i % (VOCAB * spec.model_dim)];
    return wide;
}

struct family {
    tiny_pair plain;
    kv_model *base, *aux; // padded
};

static int set_up(void **state) {
    static struct family f;
    f.plain = tiny_pair_make();
    f.base = padded(f.plain.base, BASE_ROWS);
    f.aux = padded(f.plain.aux, AUX_ROWS);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    struct family *f = *state;
    tiny_pair_free(&f->plain);
    kv_model_free(f->base);
    kv_model_free(f->aux);
    return 0;
}

static void prompt(int32_t ids[N_PROMPT]) {
    tiny_ids(ids, N_PROMPT, VOCAB, 7);
}

// The first VOCAB logits after the prompt.
static void first_logits(const kv_system *system, float logits[VOCAB]) {
    kv_session *session;
    kv_error err = {0};
    int32_t ids[N_PROMPT];
    const int64_t length = N_PROMPT;
    prompt(ids);
    if (kv_session_create(system, 1, N_PROMPT + 1, &session, &err) != KV_OK) fail_msg("%s", err.message);
    float *all = test_alloc(kv_session_vocab_size(session), sizeof *all);
    if (kv_session_prefill(session, ids, &length, all, &err) != KV_OK) fail_msg("%s", err.message);
    memcpy(logits, all, VOCAB * sizeof *logits);
    free(all);
    kv_session_free(session);
}

static void expect_same(const kv_system *a, const kv_system *b) {
    float x[VOCAB], y[VOCAB];
    int32_t ids[N_PROMPT];
    prompt(ids);
    first_logits(a, x);
    first_logits(b, y);
    ref_system exact = ref_system_copy(a);
    rounding_spread spread =
        ref_system_spread(&(ref_reading){&exact, ids, N_PROMPT, N_PROMPT - 1, N_PROMPT - 1, false});
    rounding_compare("padded logits", y, &spread, 0, VOCAB);
    rounding_compare_both("padded logits", y, x, &spread, 0,
                          VOCAB); // products of other sizes round differently
    rounding_spread_free(&spread);
    ref_system_free(&exact);
}

static void test_predicted_prefill(void **state) {
    const struct family *f = *state;
    const kv_system plain = {f->plain.base, f->plain.aux, f->plain.predictor, {0}};
    const kv_system systems[] = {{f->base, f->plain.aux, f->plain.predictor, {0}},
                                 {f->plain.base, f->aux, f->plain.predictor, {0}},
                                 {f->base, f->aux, f->plain.predictor, {0}}};
    const int64_t readable[] = {VOCAB, VOCAB, BASE_ROWS};
    for (int i = 0; i < 3; i++) {
        expect_same(&plain, &systems[i]);
        assert_int_equal(kv_system_vocab_size(&systems[i]), readable[i]);
    }
}

// The aux's padding would be what it says first: the look-ahead must not see it where the base has no such
// id, and must find each sequence's logits whatever the length of their rows.
static void test_speculative_prefill(void **state) {
    const struct family *f = *state;
    const kv_pruning pruning = {
        .kind = KV_PRUNE_SPECULATIVE, .keep = 0.5, .lookahead = 6, .window = 1, .chunk = 1};
    const kv_system plain = {f->plain.base, f->plain.aux, NULL, pruning};
    const kv_system wide_aux = {f->plain.base, f->aux, NULL, pruning};
    const kv_system wide_base = {f->base, f->plain.aux, NULL, pruning};
    kv_session *sessions[3];
    const kv_system *systems[] = {&plain, &wide_aux, &wide_base};
    const int64_t lengths[] = {N_PROMPT, 30};
    int32_t ids[N_PROMPT + 30];
    kv_error err = {0};
    tiny_ids(ids, N_PROMPT + 30, VOCAB, 8);
    float *logits = test_alloc(2 * AUX_ROWS, sizeof *logits);
    for (int i = 0; i < 3; i++) {
        if (kv_session_create(systems[i], 2, N_PROMPT + 1, &sessions[i], &err) != KV_OK)
            fail_msg("%s", err.message);
        if (kv_session_prefill(sessions[i], ids, lengths, logits, &err) != KV_OK) fail_msg("%s", err.message);
    }
    for (int64_t s = 0; s < 2; s++) {
        int32_t expected[N_PROMPT + 1], found[N_PROMPT + 1];
        const int64_t n = kv_session_cached(sessions[0], 0, s, expected);
        for (int i = 1; i < 3; i++) {
            assert_int_equal(kv_session_cached(sessions[i], 0, s, found), n);
            assert_memory_equal(found, expected, (size_t)n * sizeof *found);
        }
    }
    for (int i = 0; i < 3; i++) kv_session_free(sessions[i]);
    free(logits);
}

static void test_ids_that_one_does_not_know(void **state) {
    const struct family *f = *state;
    const kv_system pair = {f->base, f->plain.aux, f->plain.predictor, {0}}, alone = {.base = f->base};
    const int32_t ids[] = {3, VOCAB, 5};
    const int64_t length = 3, scored = 1;
    float logits[BASE_ROWS];
    double likelihood;
    kv_session *session;
    kv_error err = {0};
    assert_int_equal(kv_session_create(&pair, 1, 8, &session, &err), KV_OK);
    assert_int_equal(kv_session_prefill(session, ids, &length, logits, &err), KV_ERR_RANGE);
    assert_string_equal(err.message, "sequence 0, token 1: id 61 is outside the vocabulary of 61");
    assert_int_equal(kv_score(&pair, ids, &length, &scored, 1, &likelihood, NULL, &err), KV_ERR_RANGE);
    // What is decoded only the base reads.
    const int64_t one = 1;
    const int32_t late = BASE_ROWS - 1, beyond = BASE_ROWS;
    assert_int_equal(kv_session_prefill(session, ids, &one, logits, &err), KV_OK);
    assert_int_equal(kv_session_decode(session, &late, NULL, logits, &err), KV_OK);
    assert_int_equal(kv_session_decode(session, &beyond, NULL, logits, &err), KV_ERR_RANGE);
    kv_session_free(session);
    assert_int_equal(kv_score(&alone, ids, &length, &scored, 1, &likelihood, NULL, &err), KV_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_predicted_prefill),
        cmocka_unit_test(test_speculative_prefill),
        cmocka_unit_test(test_ids_that_one_does_not_know),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
