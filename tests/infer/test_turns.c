// Prompts behind prompts and answers, with every part a predictor can be made of: read in pieces as at once; behind
// answers as a cache put together entry by entry; taken back, copied, resting and failing; products against the
// counter.
#include "core/gemm.h"
#include "infer/cost.h"
#include "infer/session/engine.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 61, N_SEQ = 3, ROOM = 40 };

static int32_t texts[N_SEQ][ROOM];

static kv_system system_of(const test_made *m) {
    return (kv_system){.base = m->base, .aux = m->aux, .predictor = m->predictor};
}

static void must(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

static kv_session *make_session(const kv_system *system, int64_t n_seq) {
    kv_session *session;
    kv_error err = {0};
    must(kv_session_create_turns(system, n_seq, ROOM, &session, &err), &err);
    assert_true(kv_session_appends(session));
    return session;
}

// Float32 numbers of models as small as these, computed in another order.
static void expect_near(const char *name, const char *what, const float *found, const float *expected,
                        int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(found[i] - expected[i]) <= 2e-5f * (1 + fabsf(expected[i]))))
            fail_msg("%s, %s: number %d is %.7g, expected %.7g", name, what, (int)i, (double)found[i],
                     (double)expected[i]);
}

// ---- Entry by entry ------------------------------------------------------------------------------------

// A row of the predicted entries, or of the base's own, becomes the next of a layer's cache.
static void take_row(kv_tensor *cache, int64_t t, const kv_tensor *from, int64_t row) {
    memcpy(cache->data + t * cache->cols, from->data + row * cache->cols,
           (size_t)cache->cols * sizeof(float));
}

// One token of the base against the first t entries of `k` and `v`, to which it adds its own.
static void read_own(kv_tape *tape, const test_made *m, const int32_t *ids, int64_t t, bool adapted,
                     kv_tensor **k, kv_tensor **v, float *logits) {
    const kv_sequence one = {0, 1, 0, t + 1};
    const kv_pass pass = {
        .sequences = &one, .n_sequences = 1, .adapters = adapted ? m->predictor->adapters : NULL};
    kv_tensor *x = kv_embedding(tape, &m->base->embed, ids + t, 1);
    for (int64_t i = 0; i < m->base->spec.n_layers; i++) {
        kv_tensor *h = kv_layer_norm_in(tape, m->base, i, x);
        const kv_layer_kv own = kv_layer_keys_values(tape, m->base, i, h);
        take_row(k[i], t, own.k, 0);
        take_row(v[i], t, own.v, 0);
        x = kv_layer_attend(tape, m->base, i, x, h, k[i], v[i], &pass);
    }
    const kv_tensor *all = kv_model_logits(tape, m->base, x);
    assert_non_null(all);
    memcpy(logits, all->data, VOCABULARY * sizeof *logits);
}

// ids[n], of which those in `predicted` get the entries that the aux's reading of all tokens up to them gives, and the
// others are read by the base, one after the other: logits of the last of these.
static void entry_by_entry(const test_made *m, const int32_t *ids, const bool *predicted, int64_t n,
                           float *logits) {
    const kv_sequence all = {0, n, 0, n};
    const kv_pass pass = {.sequences = &all, .n_sequences = 1};
    kv_tensor *from_k[KV_MAX_LAYERS], *from_v[KV_MAX_LAYERS], *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS];
    kv_tape *tape = kv_tape_create();
    kv_key_norms norms;
    kv_taps taps;
    bool adapted = false;
    kv_tape_set_recording(tape, false);
    kv_model_key_norms(m->base, &norms);
    kv_predictor_read(tape, m->predictor, m->base, m->aux, ids, n, &pass, false, &taps);
    kv_predict(tape, m->predictor, &norms, &taps, from_k, from_v);
    for (int64_t i = 0; i < m->base->spec.n_layers; i++) {
        k[i] = kv_tape_tensor(tape, n, from_k[i]->cols);
        v[i] = kv_tape_tensor(tape, n, from_v[i]->cols);
    }
    for (int64_t t = 0; t < n; t++) {
        if (!predicted[t]) read_own(tape, m, ids, t, adapted, k, v, logits);
        for (int64_t i = 0; i < m->base->spec.n_layers && predicted[t]; i++) {
            take_row(k[i], t, from_k[i], t);
            take_row(v[i], t, from_v[i], t);
        }
        adapted = adapted || predicted[t];
    }
    kv_tape_free(tape);
}

// ---- In pieces -----------------------------------------------------------------------------------------

// The caches of two sequences, whose rows were made in other packs.
static void expect_same_cache(const char *name, const kv_session *a, int64_t s, const kv_session *b,
                              int64_t t) {
    static float k[2][ROOM * 64], v[2][ROOM * 64];
    const kv_model_spec *spec = &kv_session_system(a)->base->spec;
    assert_int_equal(kv_session_length(a, s), kv_session_length(b, t));
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const int64_t n = kv_session_length(a, s) * kv_spec_kv_dim(spec, i);
        assert_true(n <= ROOM * 64);
        kv_session_copy_cache(a, i, s, k[0], v[0]);
        kv_session_copy_cache(b, i, t, k[1], v[1]);
        expect_near(name, "keys", k[0], k[1], n);
        expect_near(name, "values", v[0], v[1], n);
    }
}

// Reads ids[n] up to `cuts` as prompts of their own, each taken back by its last token, which the base has read itself:
// then nothing stands in the cache but what reading all at once puts there.
static void read_in_pieces(kv_session *session, const int32_t *ids, const int64_t *cuts, int64_t n_cuts,
                           int64_t n, float *logits) {
    kv_error err = {0};
    int64_t from = 0;
    for (int64_t i = 0; i <= n_cuts; i++) {
        const int64_t to = i < n_cuts ? cuts[i] : n, length = to - from;
        must(kv_session_prefill(session, ids + from, &length, logits, &err), &err);
        if (i == n_cuts) return;
        kv_session_rewind(session, to - 1);
        from = to - 1;
    }
}

static void expect_pieces(const char *name, const kv_system *system) {
    static const int64_t cuts[] = {1, 2, 7, 8, 25};
    const int64_t n = 33;
    float expected[VOCABULARY], logits[VOCABULARY];
    kv_error err = {0};
    kv_session *whole = make_session(system, 1), *pieces = make_session(system, 1), *once;
    must(kv_session_create(system, 1, ROOM, &once, &err), &err);
    must(kv_session_prefill(once, texts[0], &n, expected, &err), &err);
    must(kv_session_prefill(whole, texts[0], &n, logits, &err), &err);
    assert_memory_equal(logits, expected, sizeof logits); // what is kept changes nothing
    read_in_pieces(pieces, texts[0], cuts, 5, n, logits);
    expect_near(name, "in pieces", logits, expected, VOCABULARY);
    expect_same_cache(name, pieces, 0, once, 0);
    kv_session_free(once);
    kv_session_free(whole);
    kv_session_free(pieces);
}

static void test_pieces_are_the_whole(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        test_made m = test_part_make(&test_parts[p]);
        kv_system system = system_of(&m);
        expect_pieces(test_parts[p].name, &system);
        kv_predictor *tabulated = test_tabulated(&m, KV_BF16);
        if (tabulated) {
            system.predictor = tabulated;
            expect_pieces(test_parts[p].name, &system);
        }
        kv_predictor_free(tabulated);
        if (p == 0) expect_pieces("a base alone", &(kv_system){.base = m.base});
        test_made_free(&m);
    }
}

// ---- Conversations -------------------------------------------------------------------------------------

// Each sequence's turns: tokens of a prompt, and of those behind it that the base reads. 0 of both: it rests.
typedef struct turn {
    int64_t prompt, answer;
} turn;
enum { TURNS = 4 };
static const turn turns[N_SEQ][TURNS] = {
    {{6, 3}, {5, 1}, {1, 2}, {8, 2}}, {{1, 4}, {0, 0}, {9, 0}, {3, 5}}, {{0, 0}, {11, 2}, {0, 0}, {7, 0}}};

// What of a sequence has been read, and which of it is predicted.
struct said {
    int64_t n;
    bool predicted[ROOM];
};

static void expect_last(const test_made *m, const char *what, int s, const struct said *said,
                        const float *logits) {
    float expected[VOCABULARY];
    entry_by_entry(m, texts[s], said->predicted, said->n, expected);
    expect_near(what, "behind what was said", logits + s * VOCABULARY, expected, VOCABULARY);
}

static void read_prompts(const test_made *m, const char *name, kv_session *session, int t,
                         struct said *said) {
    float logits[N_SEQ * VOCABULARY];
    int32_t ids[N_SEQ * ROOM], *end = ids;
    int64_t lengths[N_SEQ];
    uint64_t flops = 0;
    kv_error err = {0};
    for (int s = 0; s < N_SEQ; s++) {
        const int64_t n = lengths[s] = turns[s][t].prompt, cached = said[s].n;
        const bool any = n > 1 || memchr(said[s].predicted, true, (size_t)cached);
        memcpy(end, texts[s] + cached, (size_t)n * sizeof *end);
        for (int64_t i = 0; i < n; i++) said[s].predicted[said[s].n++] = i + 1 < n;
        const kv_system how = any ? system_of(m) : (kv_system){.base = m->base};
        if (n > 0) flops += kv_system_turn_flops(&how, n, cached, kv_session_unread(session, s));
        end += n;
    }
    kv_gemm_flops_reset();
    must(kv_session_append(session, ids, lengths, logits, &err), &err);
    if (kv_gemm_flops() != flops)
        fail_msg("%s, turn %d: %llu products, said %llu", name, t, (unsigned long long)kv_gemm_flops(),
                 (unsigned long long)flops);
    for (int s = 0; s < N_SEQ; s++)
        if (lengths[s] > 0) expect_last(m, name, s, &said[s], logits);
}

static void decode_answers(const test_made *m, const char *name, kv_session *session, int t,
                           struct said *said) {
    float logits[N_SEQ * VOCABULARY];
    kv_error err = {0};
    for (int64_t step = 0; step < 5; step++) {
        int32_t ids[N_SEQ] = {0};
        bool active[N_SEQ], any = false;
        for (int s = 0; s < N_SEQ; s++) {
            any |= active[s] = step < turns[s][t].answer;
            if (!active[s]) continue;
            ids[s] = texts[s][said[s].n];
            said[s].predicted[said[s].n++] = false;
        }
        if (any) must(kv_session_decode(session, ids, active, logits, &err), &err);
        for (int s = 0; s < N_SEQ; s++)
            if (active[s]) expect_last(m, name, s, &said[s], logits);
    }
}

static void converse(const test_made *m, const char *name, kv_session *session, struct said *said) {
    for (int t = 0; t < TURNS; t++) {
        read_prompts(m, name, session, t, said);
        decode_answers(m, name, session, t, said);
    }
}

static void test_conversations(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        test_made m = test_part_make(&test_parts[p]);
        const kv_system system = system_of(&m);
        struct said said[N_SEQ] = {0};
        kv_session *session = make_session(&system, N_SEQ);
        converse(&m, test_parts[p].name, session, said);
        kv_session_reset(session);
        memset(said, 0, sizeof said);
        converse(&m, test_parts[p].name, session, said); // nothing is left of the first
        kv_session_free(session);
        test_made_free(&m);
    }
}

// A turn taken back, up to within a prompt or an answer, and another text read in its place; a copy of it; one sequence
// forgotten, whose place another takes.
static void test_rewind_copy_forget(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        const char *name = test_parts[p].name;
        test_made m = test_part_make(&test_parts[p]);
        const kv_system system = system_of(&m);
        for (int64_t kept = 1; kept < 17; kept += 3) {
            float logits[N_SEQ * VOCABULARY];
            struct said said[N_SEQ] = {0};
            kv_error err = {0};
            kv_session *session = make_session(&system, N_SEQ);
            converse(&m, name, session, said);
            kv_session_rewind(session, kept);
            int64_t lengths[N_SEQ] = {0, 9, 0};
            kv_session_copy(session, 0, 1);
            kv_session_forget(session, 2);
            assert_int_equal(kv_session_unread(session, 1), kv_session_unread(session, 0));
            said[0].n = kept, said[1] = said[0];
            int32_t mixed[ROOM]; // the first text, and then the second
            memcpy(mixed, texts[0], sizeof mixed);
            memcpy(mixed + kept, texts[1] + kept, (size_t)(ROOM - kept) * sizeof *mixed);
            must(kv_session_append(session, mixed + kept, lengths, logits, &err), &err);
            for (int i = 0; i < 9; i++) said[1].predicted[said[1].n++] = i < 8;
            float expected[VOCABULARY];
            entry_by_entry(&m, mixed, said[1].predicted, said[1].n, expected);
            expect_near(name, "behind what was taken back", logits + VOCABULARY, expected, VOCABULARY);
            assert_int_equal(kv_session_length(session, 0), kept);
            const int32_t next[N_SEQ] = {texts[0][kept]};
            must(kv_session_decode(session, next, (bool[N_SEQ]){true}, logits, &err), &err);
            said[0].predicted[said[0].n++] = false;
            expect_last(&m, name, 0, &said[0], logits);
            lengths[1] = 0, lengths[2] = 5;
            must(kv_session_join(session, texts[2], lengths, logits, &err), &err);
            said[2] = (struct said){5, {true, true, true, true}};
            expect_last(&m, name, 2, &said[2], logits);
            kv_session_free(session);
        }
        test_made_free(&m);
    }
}

// ---- Failures ------------------------------------------------------------------------------------------

// A failure leaves what was there, with which it goes on.
static void test_failures_leave_what_was_there(void **state) {
    (void)state;
    const test_part part = {.name = "a table", .keys = "h1", .values = "v1", .table = KV_TABLE_FULL};
    test_made m = test_part_make(&part);
    const kv_system system = system_of(&m);
    kv_session *session = make_session(&system, 1);
    float logits[VOCABULARY], expected[VOCABULARY];
    kv_error err = {0};
    const int64_t first = 6, second = 5;
    must(kv_session_prefill(session, texts[0], &first, logits, &err), &err);
    must(kv_session_decode(session, &texts[0][6], NULL, logits, &err), &err);
    float *weight = (float *)m.base->layers[2].out.data, good = *weight;
    assert_int_equal(kv_session_unread(session, 0), 2);
    *weight = NAN;
    assert_int_equal(kv_session_append(session, texts[0] + 7, &second, logits, &err), KV_ERR_NOT_FINITE);
    *weight = good;
    assert_int_equal(kv_session_length(session, 0), 7);
    assert_int_equal(kv_session_unread(session, 0), 0); // what the aux has read it need not read again
    const int32_t wrong[2] = {0, VOCABULARY};
    assert_int_equal(kv_session_append(session, wrong, (int64_t[]){2}, logits, &err), KV_ERR_RANGE);
    assert_int_equal(kv_session_append(session, texts[0], (int64_t[]){ROOM - 6}, logits, &err), KV_ERR_RANGE);
    assert_int_equal(kv_session_join(session, texts[0] + 7, &second, logits, &err), KV_ERR_ARGUMENT);
    must(kv_session_append(session, texts[0] + 7, &second, logits, &err), &err);
    entry_by_entry(&m, texts[0], (bool[12]){1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0}, 12, expected);
    expect_near(part.name, "after failures", logits, expected, VOCABULARY);
    kv_session_free(session);
    test_made_free(&m);
}

// The base may have drawn an id that only it knows.
static void test_ids_that_the_aux_does_not_know(void **state) {
    (void)state;
    const test_part part = {.name = "keys", .keys = "k1", .values = "v1"};
    const kv_model_spec base = tiny_base();
    kv_model_spec aux = tiny_aux();
    aux.vocab_size = VOCABULARY - 4;
    test_made m = test_part_make_of(&part, &base, &aux);
    const kv_system system = system_of(&m);
    kv_session *session = make_session(&system, 1);
    const int32_t ids[4] = {1, 2, 3, VOCABULARY - 1};
    float logits[VOCABULARY];
    kv_error err = {0};
    must(kv_session_prefill(session, ids, (int64_t[]){3}, logits, &err), &err);
    must(kv_session_decode(session, ids + 3, NULL, logits, &err), &err);
    assert_int_equal(kv_session_append(session, ids, (int64_t[]){3}, logits, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "token 3: id 60 is outside the aux's vocabulary of 57"));
    must(kv_session_append(session, ids, (int64_t[]){1}, logits, &err), &err); // the aux reads nothing
    kv_session_free(session);
    test_made_free(&m);
}

// One that prunes, and one that was made for a single prompt, take no second one.
static void test_refusals(void **state) {
    (void)state;
    test_made m = test_part_make(&test_parts[0]);
    const kv_system pruned = {.base = m.base, .pruning = {.kind = KV_PRUNE_RANDOM, .keep = 0.5}};
    const kv_system predicted = system_of(&m);
    float logits[VOCABULARY];
    kv_error err = {0};
    kv_session *sessions[2];
    must(kv_session_create_turns(&pruned, 1, ROOM, &sessions[0], &err), &err);
    must(kv_session_create(&predicted, 1, ROOM, &sessions[1], &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_false(kv_session_appends(sessions[i]));
        must(kv_session_append(sessions[i], texts[0], (int64_t[]){5}, logits, &err), &err);
        assert_int_equal(kv_session_append(sessions[i], texts[0], (int64_t[]){5}, logits, &err),
                         KV_ERR_ARGUMENT);
        kv_session_free(sessions[i]);
    }
    test_made_free(&m);
}

static int setup(void **state) {
    (void)state;
    for (int s = 0; s < N_SEQ; s++) tiny_ids(texts[s], ROOM, VOCABULARY, 4 + (uint64_t)s);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_the_whole),
        cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_rewind_copy_forget),
        cmocka_unit_test(test_failures_leave_what_was_there),
        cmocka_unit_test(test_ids_that_the_aux_does_not_know),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
