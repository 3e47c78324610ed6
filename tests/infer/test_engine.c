// Sessions: ragged prompts read as each would be alone, in one piece or in chunks, with and without a predicted
// cache; decoding from the cache gives what reading everything again gives.
#include "infer/generate.h"
#include "infer/session/engine.h"
#include "infer/session/sample.h"
#include "infer/ttft.h"

#include "tests/support/numbers/reference_system.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 61, N_SEQ = 4, LONGEST = 20 };

static const int64_t lengths[N_SEQ] = {7, 1, 20, 12};

struct pair {
    kv_system alone, predicted;
    int32_t ids[N_SEQ * LONGEST]; // the ragged prompts, one after the other
};

static void *make_pair(void) {
    struct pair *pair = test_alloc(1, sizeof *pair);
    const tiny_pair models = tiny_pair_make();
    pair->alone.base = models.base;
    pair->predicted = (kv_system){.base = models.base, .aux = models.aux, .predictor = models.predictor};
    tiny_ids(pair->ids, N_SEQ * LONGEST, VOCABULARY, 4);
    return pair;
}

static int setup(void **state) {
    *state = make_pair();
    return 0;
}

// Predictors of other kinds between the same models; the last one leaves the aux's last layer unread.
static const struct {
    test_kind kind;
    int32_t mapping[3];
} others[] = {{{4, 1}, {0, 0, 1}}, {{0, 2}, {0, 0, 1}}, {{5, 2}, {1, 0, 1}}, {{0, 1}, {0, 0, 0}}};
enum { N_OTHERS = sizeof others / sizeof *others };
static int other; // the group's

static int setup_other(void **state) {
    struct pair *pair = make_pair();
    kv_system *predicted = &pair->predicted;
    kv_predictor_free(predicted->predictor);
    predicted->predictor = tiny_predictor_of(&predicted->base->spec, &predicted->aux->spec,
                                             others[other].mapping, others[other].kind, 3);
    *state = pair;
    return 0;
}

static int teardown(void **state) {
    struct pair *pair = *state;
    tiny_pair_free(&(tiny_pair){pair->predicted.base, pair->predicted.aux, pair->predicted.predictor});
    free(pair);
    return 0;
}

static kv_session *make_session(const kv_system *system, int64_t n_seq, int64_t capacity) {
    kv_session *session;
    kv_error err = {0};
    if (kv_session_create(system, n_seq, capacity, &session, &err) != KV_OK) fail_msg("%s", err.message);
    return session;
}

static void expect_ok(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

// A sequence as the engine reads it: the prompt's keys and values, but its last token's, are predicted where
// they can be.
static rounding_spread spread_of(const ref_system *r, const int32_t *ids, int64_t n, int64_t prompt) {
    return ref_system_spread(&(ref_reading){r, ids, n, r->system->predictor ? prompt - 1 : 0, n - 1, false});
}

// Logits after a sequence against double precision, and against another way of getting them.
static void expect_logits(const kv_system *system, const int32_t *ids, int64_t n, int64_t prompt,
                          const float *found, const float *again) {
    ref_system r = ref_system_copy(system);
    rounding_spread spread = spread_of(&r, ids, n, prompt);
    rounding_compare("logits", found, &spread, 0, VOCABULARY);
    if (again) rounding_compare_both("logits", found, again, &spread, 0, VOCABULARY);
    rounding_spread_free(&spread);
    ref_system_free(&r);
}

// The training pass on one whole sequence: logits of its last token, and optionally every layer's cache.
static void uncached_logits(kv_model *model, const int32_t *ids, int64_t n, float *logits) {
    kv_tape *tape = kv_tape_create();
    kv_sequence sequence = {.q_len = n, .k_len = n};
    kv_pass pass = {.sequences = &sequence, .n_sequences = 1};
    kv_tensor *x = kv_model_forward(tape, model, ids, n, &pass);
    int64_t last = n - 1;
    kv_tensor *y = kv_model_logits(tape, model, kv_gather_rows(tape, x, &last, 1));
    assert_non_null(y);
    memcpy(logits, y->data, VOCABULARY * sizeof *logits);
    kv_tape_free(tape);
}

static void test_batch_equals_uncached(void **state) {
    struct pair *pair = *state;
    float logits[N_SEQ * VOCABULARY], expected[VOCABULARY];
    kv_error err = {0};
    kv_session *session = make_session(&pair->alone, N_SEQ, LONGEST);
    expect_ok(kv_session_prefill(session, pair->ids, lengths, logits, &err), &err);
    const int32_t *ids = pair->ids;
    for (int64_t s = 0; s < N_SEQ; ids += lengths[s++]) {
        uncached_logits(pair->alone.base, ids, lengths[s], expected);
        expect_logits(&pair->alone, ids, lengths[s], lengths[s], logits + s * VOCABULARY, expected);
        assert_int_equal(kv_session_length(session, s), lengths[s]);
    }
    kv_session_free(session);
}

static void test_alone_equals_row_of_batch(void **state) {
    struct pair *pair = *state;
    const kv_system *systems[] = {&pair->alone, &pair->predicted};
    for (int i = 0; i < 2; i++) {
        float logits[N_SEQ * VOCABULARY], own[VOCABULARY];
        kv_error err = {0};
        kv_session *batch = make_session(systems[i], N_SEQ, LONGEST);
        expect_ok(kv_session_prefill(batch, pair->ids, lengths, logits, &err), &err);
        const int32_t *ids = pair->ids;
        for (int64_t s = 0; s < N_SEQ; ids += lengths[s++]) {
            kv_session *one = make_session(systems[i], 1, lengths[s]);
            expect_ok(kv_session_prefill(one, ids, &lengths[s], own, &err), &err);
            expect_logits(systems[i], ids, lengths[s], lengths[s], logits + s * VOCABULARY, own);
            kv_session_free(one);
        }
        kv_session_free(batch);
    }
}

static void test_chunks_equal_whole(void **state) {
    struct pair *pair = *state;
    const int32_t *ids = pair->ids;
    const int64_t whole[2] = {12, 9}, first[2] = {5, 8}, second[2] = {7, 1};
    int32_t first_ids[13], second_ids[8];
    memcpy(first_ids, ids, 5 * sizeof *ids), memcpy(first_ids + 5, ids + 12, 8 * sizeof *ids);
    memcpy(second_ids, ids + 5, 7 * sizeof *ids), memcpy(second_ids + 7, ids + 20, sizeof *ids);
    float expected[2 * VOCABULARY], logits[2 * VOCABULARY];
    kv_error err = {0};
    kv_session *a = make_session(&pair->alone, 2, 12), *b = make_session(&pair->alone, 2, 12);
    expect_ok(kv_session_prefill(a, ids, whole, expected, &err), &err);
    expect_ok(kv_session_prefill(b, first_ids, first, logits, &err), &err);
    expect_ok(kv_session_prefill(b, second_ids, second, logits, &err), &err);
    float ka[12 * 16], va[12 * 16], kb[12 * 16], vb[12 * 16];
    ref_system r = ref_system_copy(&pair->alone);
    for (int64_t s = 0; s < 2; s++) {
        const kv_model_spec *spec = &pair->alone.base->spec;
        rounding_spread spread = spread_of(&r, ids + s * whole[0], whole[s], whole[s]);
        int64_t from = VOCABULARY;
        rounding_compare_both("logits", logits + s * VOCABULARY, expected + s * VOCABULARY, &spread, 0,
                              VOCABULARY);
        for (int64_t layer = 0; layer < 3; layer++) {
            const int64_t n = whole[s] * spec->layers[layer].n_kv_heads * spec->head_dim;
            kv_session_copy_cache(a, layer, s, ka, va);
            kv_session_copy_cache(b, layer, s, kb, vb);
            rounding_compare("keys", ka, &spread, from, n);
            rounding_compare("values", va, &spread, from + n, n);
            rounding_compare_both("keys", kb, ka, &spread, from, n);
            rounding_compare_both("values", vb, va, &spread, from + n, n);
            from += 2 * n;
        }
        rounding_spread_free(&spread);
    }
    ref_system_free(&r);
    kv_session_free(a);
    kv_session_free(b);
}

static void test_decode_equals_uncached(void **state) {
    struct pair *pair = *state;
    float logits[2 * VOCABULARY], expected[VOCABULARY], kept[VOCABULARY];
    const int64_t starts[2] = {3, 6};
    int32_t sequence[2][12];
    tiny_ids(sequence[0], 12, VOCABULARY, 8), tiny_ids(sequence[1], 12, VOCABULARY, 9);
    int32_t prompts[9];
    memcpy(prompts, sequence[0], 3 * sizeof *prompts), memcpy(prompts + 3, sequence[1], 6 * sizeof *prompts);
    kv_error err = {0};
    kv_session *session = make_session(&pair->alone, 2, 12);
    expect_ok(kv_session_prefill(session, prompts, starts, logits, &err), &err);
    for (int64_t step = 0; step < 5; step++) {
        const bool active[2] = {true, step != 2}; // the second rests once
        const int64_t at = 6 + step - (step > 2);
        const int32_t next[2] = {sequence[0][3 + step], sequence[1][at]};
        memcpy(kept, logits + VOCABULARY, sizeof kept);
        expect_ok(kv_session_decode(session, next, active, logits, &err), &err);
        uncached_logits(pair->alone.base, sequence[0], 4 + step, expected);
        expect_logits(&pair->alone, sequence[0], 4 + step, 3, logits, expected);
        if (!active[1]) {
            assert_memory_equal(logits + VOCABULARY, kept, sizeof kept);
            continue;
        }
        uncached_logits(pair->alone.base, sequence[1], at + 1, expected);
        expect_logits(&pair->alone, sequence[1], at + 1, 6, logits + VOCABULARY, expected);
    }
    assert_int_equal(kv_session_length(session, 0), 8);
    assert_int_equal(kv_session_length(session, 1), 10);
    kv_session_free(session);
}

// The definition, from whole passes: aux over the prompt but its last token, predictors, and the base's last
// token attending to the predicted entries and its own.
static void composed_logits(const kv_system *system, const int32_t *ids, int64_t n, float *logits) {
    kv_tape *tape = kv_tape_create();
    kv_tape_set_recording(tape, false);
    kv_tensor *raw_k[2], *aux_v[2], *k[3] = {0}, *v[3] = {0};
    kv_key_norms norms;
    kv_sequence front = {.q_len = n - 1, .k_len = n - 1}, newest = {.q_len = 1, .k_len = n};
    kv_pass pass = {.sequences = &front, .n_sequences = 1, .raw_k = raw_k, .v = aux_v};
    if (n > 1) {
        assert_non_null(kv_model_forward(tape, system->aux, ids, n - 1, &pass));
        kv_model_key_norms(system->base, &norms);
        const kv_taps taps = test_taps(system->predictor, raw_k, aux_v);
        kv_predict(tape, system->predictor, &norms, &taps, k, v);
    }
    kv_tensor *x = kv_embedding(tape, &system->base->embed, ids + n - 1, 1);
    pass = (kv_pass){.sequences = &newest, .n_sequences = 1};
    for (int64_t i = 0; i < 3; i++) {
        kv_tensor *h = kv_layer_norm_in(tape, system->base, i, x);
        kv_layer_kv own = kv_layer_keys_values(tape, system->base, i, h);
        kv_tensor *all_k = kv_tape_tensor(tape, n, own.k->cols),
                  *all_v = kv_tape_tensor(tape, n, own.v->cols);
        const size_t row = (size_t)own.k->cols;
        if (n > 1) {
            memcpy(all_k->data, k[i]->data, (size_t)(n - 1) * row * sizeof(float));
            memcpy(all_v->data, v[i]->data, (size_t)(n - 1) * row * sizeof(float));
        }
        memcpy(all_k->data + (size_t)(n - 1) * row, own.k->data, row * sizeof(float));
        memcpy(all_v->data + (size_t)(n - 1) * row, own.v->data, row * sizeof(float));
        x = kv_layer_attend(tape, system->base, i, x, h, all_k, all_v, &pass);
    }
    memcpy(logits, kv_model_logits(tape, system->base, x)->data, VOCABULARY * sizeof *logits);
    kv_tape_free(tape);
}

static void test_predicted_prefill_equals_composition(void **state) {
    struct pair *pair = *state;
    float logits[N_SEQ * VOCABULARY], expected[VOCABULARY];
    kv_error err = {0};
    kv_session *session = make_session(&pair->predicted, N_SEQ, LONGEST);
    expect_ok(kv_session_prefill(session, pair->ids, lengths, logits, &err), &err);
    const int32_t *ids = pair->ids;
    for (int64_t s = 0; s < N_SEQ; ids += lengths[s++]) { // the second is a prompt of one token
        composed_logits(&pair->predicted, ids, lengths[s], expected);
        expect_logits(&pair->predicted, ids, lengths[s], lengths[s], logits + s * VOCABULARY, expected);
        assert_int_equal(kv_session_length(session, s), lengths[s]);
    }
    kv_session_free(session);
}

// More tokens than one pack holds give what each sequence gives alone.
static void test_many_packs(void **state) {
    struct pair *pair = *state;
    enum { MANY = 150, EACH = 60 };
    const kv_system *systems[] = {&pair->alone, &pair->predicted};
    int32_t *ids = test_alloc(MANY * EACH, sizeof *ids);
    int64_t *each = test_alloc(MANY, sizeof *each);
    float *logits = test_alloc(MANY * VOCABULARY, sizeof *logits), own[VOCABULARY];
    tiny_ids(ids, MANY * EACH, VOCABULARY, 12);
    for (int64_t s = 0; s < MANY; s++) each[s] = EACH;
    for (int i = 0; i < 2; i++) {
        kv_error err = {0};
        kv_session *session = make_session(systems[i], MANY, EACH);
        expect_ok(kv_session_prefill(session, ids, each, logits, &err), &err);
        for (int64_t s = 0; s < MANY; s += 149) {
            kv_session *one = make_session(systems[i], 1, EACH);
            expect_ok(kv_session_prefill(one, ids + s * EACH, each, own, &err), &err);
            expect_logits(systems[i], ids + s * EACH, EACH, EACH, logits + s * VOCABULARY, own);
            kv_session_free(one);
        }
        kv_session_free(session);
    }
    free(ids), free(each), free(logits);
}

static void expect_message(kv_status status, kv_status expected, const kv_error *err, const char *message) {
    assert_int_equal(status, expected);
    assert_string_equal(err->message, message);
}

static void test_refusals(void **state) {
    struct pair *pair = *state;
    kv_session *session;
    kv_error err = {0};
    float logits[2 * VOCABULARY];
    expect_message(kv_session_create(&pair->alone, 1, 65, &session, &err), KV_ERR_RANGE, &err,
                   "65 tokens do not fit the base's context of 64");
    assert_null(session);
    session = make_session(&pair->alone, 2, 8);
    const int32_t ids[12] = {1, 2, 3, 61, 5, 6, 7, 8, 9, 10, 11, 12};
    expect_message(kv_session_prefill(session, ids, (const int64_t[]){2, 9}, logits, &err), KV_ERR_RANGE,
                   &err, "sequence 1: 9 tokens after the 0 in the cache do not fit its room for 8");
    expect_message(kv_session_prefill(session, ids, (const int64_t[]){2, 3}, logits, &err), KV_ERR_RANGE,
                   &err, "sequence 1, token 1: id 61 is outside the vocabulary of 61");
    expect_message(kv_session_prefill(session, ids, (const int64_t[]){2, 0}, logits, &err), KV_ERR_ARGUMENT,
                   &err, "sequence 1: a prompt needs at least one token, not 0");
    expect_message(kv_session_decode(session, (const int32_t[]){0, -1}, NULL, logits, &err), KV_ERR_RANGE,
                   &err, "sequence 1, token 0: id -1 is outside the vocabulary of 61");
    assert_int_equal(kv_session_length(session, 0), 0); // refusals leave the session as it was
    kv_session_free(session);

    session = make_session(&pair->predicted, 1, 8);
    expect_ok(kv_session_prefill(session, ids, (const int64_t[]){3}, logits, &err), &err);
    expect_message(kv_session_prefill(session, ids, (const int64_t[]){3}, logits, &err), KV_ERR_ARGUMENT,
                   &err, "sequence 0: a predicted prompt can only be read from the start");
    kv_session_free(session);
}

struct stops {
    int64_t at[2];
    int64_t calls[2];
};

static kv_status stop_at(void *context, int64_t sequence, const int32_t *generated, int64_t n, bool *stop,
                         kv_error *err) {
    struct stops *stops = context;
    stops->calls[sequence]++;
    if (stops->at[sequence] < 0) return kv_fail(err, KV_ERR_IO, "no luck with %d", generated[n - 1]);
    *stop = n >= stops->at[sequence];
    return KV_OK;
}

static void test_greedy_generation(void **state) {
    struct pair *pair = *state;
    const kv_system *systems[] = {&pair->alone, &pair->predicted};
    for (int i = 0; i < 2; i++) {
        const int64_t prompt[2] = {4, 5};
        struct stops stops = {.at = {2, 9}};
        int32_t generated[2 * 6];
        int64_t n[2];
        kv_error err = {0};
        kv_session *session = make_session(systems[i], 2, 16);
        const kv_generation how = {.max_tokens = 6, .stop = stop_at, .context = &stops};
        expect_ok(kv_generate(session, pair->ids, prompt, &how, generated, n, &err), &err);
        assert_int_equal(n[0], 2);
        assert_int_equal(n[1], 6);
        assert_int_equal(stops.calls[0], 2);
        // The same by hand, one sequence at a time.
        float logits[VOCABULARY];
        kv_session *one = make_session(systems[i], 1, 16);
        expect_ok(kv_session_prefill(one, pair->ids + 4, &prompt[1], logits, &err), &err);
        for (int64_t t = 0; t < 6; t++) {
            int32_t best;
            kv_argmax(logits, 1, VOCABULARY, &best);
            assert_int_equal(generated[6 + t], best);
            if (t < 5) expect_ok(kv_session_decode(one, &best, NULL, logits, &err), &err);
        }
        stops.at[1] = -1;
        assert_int_equal(kv_generate(session, pair->ids, prompt, &how, generated, n, &err), KV_ERR_IO);
        kv_session_free(one);
        kv_session_free(session);
    }
}

static void test_generation_ends_with_the_cache(void **state) {
    struct pair *pair = *state;
    int32_t generated[10];
    int64_t n, prompt = 4;
    kv_error err = {0};
    kv_session *session = make_session(&pair->alone, 1, 6);
    const kv_generation how = {.max_tokens = 10};
    expect_ok(kv_generate(session, pair->ids, &prompt, &how, generated, &n, &err), &err);
    assert_int_equal(n, 3); // two of them in the cache behind the prompt, the third needs no room
    kv_session_free(session);
}

static void test_ttft(void **state) {
    struct pair *pair = *state;
    const kv_system systems[] = {pair->alone, pair->predicted};
    kv_ttft ttft[2];
    double samples[2 * 3];
    kv_error err = {0};
    kv_ttft_cell cell = {.prompt_tokens = 9, .batch_size = 2};
    const kv_ttft_grid_args args = {.cells = &cell, .n_cells = 1, .repeats = 3, .seed = 1};
    expect_ok(kv_ttft_grid(systems, 2, &args, NULL, ttft, samples, &err), &err);
    for (int i = 0; i < 2; i++) assert_true(ttft[i].seconds > 0 && ttft[i].spread >= 0);
    for (int i = 0; i < 6; i++) assert_true(samples[i] > 0);
    cell.prompt_tokens = 65;
    assert_int_equal(kv_ttft_grid(systems, 2, &args, NULL, ttft, NULL, &err), KV_ERR_RANGE);

    double odd[] = {5, 1, 2, 9, 3}, even[] = {4, 1};
    kv_ttft summary = kv_ttft_summary(odd, 5);
    assert_true(summary.seconds == 3 && summary.spread == 1.5); // quartiles 2 and 5
    summary = kv_ttft_summary(even, 2);
    assert_true(summary.seconds == 2.5 && summary.spread == 0.75);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_equals_uncached),
        cmocka_unit_test(test_alone_equals_row_of_batch),
        cmocka_unit_test(test_chunks_equal_whole),
        cmocka_unit_test(test_decode_equals_uncached),
        cmocka_unit_test(test_predicted_prefill_equals_composition),
        cmocka_unit_test(test_many_packs),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_greedy_generation),
        cmocka_unit_test(test_generation_ends_with_the_cache),
        cmocka_unit_test(test_ttft),
    };
    const struct CMUnitTest predicted_tests[] = {
        cmocka_unit_test(test_alone_equals_row_of_batch),
        cmocka_unit_test(test_predicted_prefill_equals_composition),
        cmocka_unit_test(test_many_packs),
        cmocka_unit_test(test_greedy_generation),
    };
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    for (other = 0; other < N_OTHERS; other++)
        failed += cmocka_run_group_tests_name("other predictors", predicted_tests, setup_other, teardown);
    return failed;
}
