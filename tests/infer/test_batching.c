// Answers in batches: sequences that join, leave and are copied are read as each would be alone, to the bit where products are
// batch-invariant; answers are the same at any number of places, in any order and under any limit of memory.
#include "infer/batching.h"
#include "infer/memory.h"

#include "core/gemm.h"
#include "tests/support/pruning.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { N_SYSTEMS = N_POLICIES + 2, N_PROMPTS = 23, MAX_TOKENS = 9, LONGEST = 40 };

// ---- What is watched -----------------------------------------------------------------------------------

static struct {
    int64_t sessions, largest_seq, largest_tokens; // tokens: n_seq · capacity
    double most_bytes;
    int64_t steps, rows, read, joins;      // decoding steps, tokens of them; prompt tokens that were read
    int64_t interrupted_after, questioned; // -1: never
} seen;

kv_status __real_kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity,
                                   kv_session **session, kv_error *err);
kv_status __wrap_kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity,
                                   kv_session **session, kv_error *err);
kv_status __wrap_kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity,
                                   kv_session **session, kv_error *err) {
    seen.sessions++;
    if (n_seq > seen.largest_seq) seen.largest_seq = n_seq;
    if (n_seq * capacity > seen.largest_tokens) seen.largest_tokens = n_seq * capacity;
    const double bytes = kv_answer_bytes(system, n_seq, capacity - MAX_TOKENS, MAX_TOKENS);
    if (bytes > seen.most_bytes) seen.most_bytes = bytes;
    return __real_kv_session_create(system, n_seq, capacity, session, err);
}

kv_status __real_kv_session_join(kv_session *session, const int32_t *ids, const int64_t *lengths,
                                 float *logits, kv_error *err);
kv_status __wrap_kv_session_join(kv_session *session, const int32_t *ids, const int64_t *lengths,
                                 float *logits, kv_error *err);
kv_status __wrap_kv_session_join(kv_session *session, const int32_t *ids, const int64_t *lengths,
                                 float *logits, kv_error *err) {
    seen.joins++;
    for (int64_t s = 0; s < kv_session_n_seq(session); s++) seen.read += lengths[s];
    return __real_kv_session_join(session, ids, lengths, logits, err);
}

kv_status __real_kv_session_decode(kv_session *session, const int32_t *ids, const bool *active, float *logits,
                                   kv_error *err);
kv_status __wrap_kv_session_decode(kv_session *session, const int32_t *ids, const bool *active, float *logits,
                                   kv_error *err);
kv_status __wrap_kv_session_decode(kv_session *session, const int32_t *ids, const bool *active, float *logits,
                                   kv_error *err) {
    seen.steps++;
    for (int64_t s = 0; s < kv_session_n_seq(session); s++) seen.rows += !active || active[s];
    return __real_kv_session_decode(session, ids, active, logits, err);
}

bool __wrap_kv_console_interrupted(void);
bool __wrap_kv_console_interrupted(void) {
    return seen.interrupted_after >= 0 && seen.questioned++ >= seen.interrupted_after;
}

static void watch(void) {
    memset(&seen, 0, sizeof seen);
    seen.interrupted_after = -1;
}

// ---- Systems and prompts -------------------------------------------------------------------------------

struct world {
    prune_models *pruned;
    tiny_pair pair;
    kv_predictor *prefix; // of the pair's base, with adapted queries
    kv_system systems[N_SYSTEMS];
    int32_t texts[N_PROMPTS][LONGEST];
    int32_t *ids[N_PROMPTS];
    int64_t lengths[N_PROMPTS], ends[N_PROMPTS]; // ends: tokens of the answer
};

static int set_up(void **state) {
    struct world *w = test_alloc(1, sizeof *w);
    void *models;
    prune_setup(&models);
    w->pruned = models;
    w->pair = tiny_pair_make();
    for (int i = 0; i < N_POLICIES; i++) w->systems[i] = prune_system(w->pruned, &prune_policies[i]);
    w->prefix = tiny_prefix_predictor(&w->pair.base->spec, 1, 5);
    w->systems[N_POLICIES] =
        (kv_system){.base = w->pair.base, .aux = w->pair.aux, .predictor = w->pair.predictor};
    w->systems[N_POLICIES + 1] =
        (kv_system){.base = w->pair.base, .aux = w->pair.base, .predictor = w->prefix};
    for (int i = 0; i < N_PROMPTS; i++) {
        tiny_ids(w->texts[i], LONGEST, VOCABULARY, (uint64_t)(20 + i));
        w->ids[i] = w->texts[i];
        w->lengths[i] = i == 11 ? LONGEST : 1 + (i * 7) % 12; // one very long among short ones
        w->ends[i] = 1 + (i * 5) % MAX_TOKENS;
    }
    for (int i = 17; i < 21; i++) { // the same five times
        memcpy(w->texts[i], w->texts[16], sizeof w->texts[i]);
        w->lengths[i] = w->lengths[16];
    }
    omp_set_num_threads(1);
    *state = w;
    watch();
    return 0;
}

static int tear_down(void **state) {
    struct world *w = *state;
    void *models = w->pruned;
    prune_teardown(&models);
    kv_predictor_free(w->prefix);
    tiny_pair_free(&w->pair);
    free(w);
    omp_set_num_threads(2);
    return 0;
}

static void must(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

static kv_session *open_session(const kv_system *system, int64_t n_seq, int64_t capacity) {
    kv_session *session;
    kv_error err = {0};
    must(kv_session_create(system, n_seq, capacity, &session, &err), &err);
    return session;
}

// ---- Sequences that join -------------------------------------------------------------------------------

enum { PLACES = 4, N_STEPS = 4, TEXT = 30 };

struct alone {
    float logits[N_STEPS + 1][VOCABULARY];
};

// A prompt and what comes after it, read by nobody else.
static struct alone read_alone(const kv_system *system, const int32_t *ids, int64_t n, const int32_t *next) {
    struct alone a;
    kv_error err = {0};
    kv_session *session = open_session(system, 1, TEXT);
    must(kv_session_prefill(session, ids, &n, a.logits[0], &err), &err);
    for (int i = 0; i < N_STEPS; i++)
        must(kv_session_decode(session, &next[i], NULL, a.logits[i + 1], &err), &err);
    kv_session_free(session);
    return a;
}

// Two read on, a third joins, one of the first leaves, a fourth takes its place, a fifth is a copy of it.
static void check_joining(struct world *w, const kv_system *system) {
    static const int64_t n[] = {9, 4, 12, 1, 5};
    float logits[PLACES * VOCABULARY];
    struct alone alone[5];
    kv_error err = {0};
    kv_session *session = open_session(system, PLACES, TEXT);
    const int32_t *next = w->texts[22];
    for (int i = 0; i < 5; i++) alone[i] = read_alone(system, w->texts[i], n[i], next);
#define EXPECT(place, text, step)                                                                            \
    assert_memory_equal(logits + (place)*VOCABULARY, alone[text].logits[step], sizeof alone[0].logits[0])
    int32_t ids[TEXT];
    memcpy(ids, w->texts[0], sizeof *ids * 9), memcpy(ids + 9, w->texts[1], sizeof *ids * 4);
    must(kv_session_join(session, ids, (const int64_t[]){9, 0, 4, 0}, logits, &err), &err);
    EXPECT(0, 0, 0), EXPECT(2, 1, 0);
    must(kv_session_decode(session, (const int32_t[]){next[0], 0, next[0], 0},
                           (const bool[]){true, false, true, false}, logits, &err),
         &err);
    EXPECT(0, 0, 1), EXPECT(2, 1, 1);
    must(kv_session_join(session, w->texts[2], (const int64_t[]){0, 12, 0, 0}, logits, &err), &err);
    EXPECT(0, 0, 1), EXPECT(1, 2, 0), EXPECT(2, 1, 1); // rows of those that rest are left alone
    must(kv_session_decode(session, (const int32_t[]){next[1], next[0], next[1], 0},
                           (const bool[]){true, true, true, false}, logits, &err),
         &err);
    EXPECT(0, 0, 2), EXPECT(1, 2, 1), EXPECT(2, 1, 2);
    // Whoever is there cannot join once more, and nothing happens to anybody.
    assert_int_equal(kv_session_join(session, w->texts[3], (const int64_t[]){0, 0, 1, 0}, logits, &err),
                     KV_ERR_ARGUMENT);
    kv_session_forget(session, 2);
    memcpy(ids, w->texts[3], sizeof *ids);
    memcpy(ids + 1, w->texts[4], sizeof *ids * 5);
    must(kv_session_join(session, ids, (const int64_t[]){0, 0, 1, 5}, logits, &err), &err);
    EXPECT(2, 3, 0), EXPECT(3, 4, 0);
    kv_session_copy(session, 3, 0);
    assert_int_equal(kv_session_length(session, 0), kv_session_length(session, 3));
    must(
        kv_session_decode(session, (const int32_t[]){next[0], next[1], next[0], next[0]}, NULL, logits, &err),
        &err);
    EXPECT(0, 4, 1), EXPECT(1, 2, 2), EXPECT(2, 3, 1), EXPECT(3, 4, 1);
#undef EXPECT
    kv_session_free(session);
}

static void test_joining(void **state) {
    struct world *w = *state;
    const bool before = kv_gemm_batch_invariant(true);
    for (int i = 0; i < N_SYSTEMS; i++) check_joining(w, &w->systems[i]);
    kv_gemm_batch_invariant(before);
}

// A prompt that cannot be read leaves nothing behind, and nobody else loses anything.
static void test_failing_to_join(void **state) {
    struct world *w = *state;
    float logits[2 * VOCABULARY], before[VOCABULARY];
    kv_error err = {0};
    for (int i = 0; i < N_SYSTEMS; i++) {
        kv_session *session = open_session(&w->systems[i], 2, 12);
        must(kv_session_join(session, w->texts[0], (const int64_t[]){7, 0}, logits, &err), &err);
        memcpy(before, logits, sizeof before);
        assert_int_equal(kv_session_join(session, w->texts[1], (const int64_t[]){0, 13}, logits, &err),
                         KV_ERR_RANGE);
        const int32_t beyond[] = {1, VOCABULARY};
        assert_int_equal(kv_session_join(session, beyond, (const int64_t[]){0, 2}, logits, &err),
                         KV_ERR_RANGE);
        assert_int_equal(kv_session_join(session, beyond, (const int64_t[]){0, -1}, logits, &err),
                         KV_ERR_ARGUMENT);
        assert_int_equal(kv_session_length(session, 1), 0);
        assert_memory_equal(before, logits, sizeof before);
        must(kv_session_join(session, w->texts[1], (const int64_t[]){0, 12}, logits, &err), &err);
        kv_session_free(session);
    }
}

// ---- Answers -------------------------------------------------------------------------------------------

static kv_status stop_at(void *context, int64_t sequence, const int32_t *generated, int64_t n, bool *stop,
                         kv_error *err) {
    const struct world *w = context;
    (void)generated, (void)err;
    *stop = n == w->ends[sequence];
    return KV_OK;
}

struct said {
    int32_t ids[N_PROMPTS * MAX_TOKENS];
    int64_t n[N_PROMPTS];
};

static kv_generation manner(struct world *w, bool sampled) {
    kv_generation how = {.max_tokens = MAX_TOKENS, .stop = stop_at, .context = w};
    if (sampled) how.sampling = (kv_sampling){.temperature = 1.2, .top_p = 0.9, .seed = 4};
    return how;
}

static struct said answer(struct world *w, const kv_batching *b, bool sampled) {
    struct said said = {{0}, {0}};
    kv_session *session = NULL;
    kv_error err = {0};
    kv_answers answers = {.generated = said.ids, .n_generated = said.n};
    const kv_generation how = manner(w, sampled);
    const kv_prompts prompts = {.ids = w->ids, .lengths = w->lengths, .n = N_PROMPTS};
    must(kv_generate_batched(b, &session, &prompts, &how, &answers, &err), &err);
    kv_session_free(session);
    return said;
}

// Each prompt in a session of its own.
static struct said answer_alone(struct world *w, const kv_system *system, bool sampled) {
    struct said said = {{0}, {0}};
    kv_error err = {0};
    for (int64_t i = 0; i < N_PROMPTS; i++) {
        kv_session *session = open_session(system, 1, LONGEST + MAX_TOKENS);
        kv_generation how = manner(w, sampled);
        const uint64_t stream = (uint64_t)i;
        how.streams = &stream, how.max_tokens = w->ends[i], how.stop = NULL;
        must(kv_generate(session, w->ids[i], &w->lengths[i], &how, said.ids + i * MAX_TOKENS, &said.n[i],
                         &err),
             &err);
        kv_session_free(session);
    }
    return said;
}

static void expect_same(const struct said *a, const struct said *b) {
    assert_memory_equal(a->n, b->n, sizeof a->n);
    assert_memory_equal(a->ids, b->ids, sizeof a->ids);
}

// Random models seldom come near a tie; products are batch-invariant, so that nothing hangs on that.
static void test_same_answers_in_any_batch(void **state) {
    struct world *w = *state;
    const bool before = kv_gemm_batch_invariant(true);
    for (int i = 0; i < 2 * N_SYSTEMS; i++) {
        const kv_system *system = &w->systems[i / 2];
        const struct said alone = answer_alone(w, system, i % 2);
        for (int64_t p = 0; p < N_PROMPTS; p++) assert_int_equal(alone.n[p], w->ends[p]);
        static const int64_t most[] = {1, 2, 3, 8, N_PROMPTS, 0};
        for (size_t m = 0; m < sizeof most / sizeof *most; m++) {
            const struct said said = answer(w, &(kv_batching){.system = system, .most = most[m]}, i % 2);
            expect_same(&said, &alone);
        }
    }
    kv_gemm_batch_invariant(before);
}

static void test_same_answers_in_any_order(void **state) {
    struct world *w = *state;
    const kv_system *system = &w->systems[N_POLICIES];
    const bool before = kv_gemm_batch_invariant(true);
    const struct said alone = answer_alone(w, system, true);
    int64_t order[N_PROMPTS];
    for (int64_t i = 0; i < N_PROMPTS; i++) order[i] = i * 10 % N_PROMPTS;
    struct said said = {{0}, {0}};
    kv_error err = {0};
    kv_session *session = open_session(system, 5, LONGEST + MAX_TOKENS);
    kv_answers answers = {.generated = said.ids, .n_generated = said.n};
    const kv_generation how = manner(w, true);
    kv_prompts prompts = {w->ids, w->lengths, order, N_PROMPTS, 0};
    must(kv_generate_in_turn(session, &prompts, &how, &answers, &err), &err);
    expect_same(&said, &alone);
    // Some of them alone: the others' answers are left as they are.
    memset(said.n, 77, sizeof said.n);
    prompts.n = 6;
    must(kv_generate_in_turn(session, &prompts, &how, &answers, &err), &err);
    for (int64_t i = 0, asked = 0; i < N_PROMPTS; i++, asked = 0) {
        for (int64_t at = 0; at < 6; at++) asked |= order[at] == i;
        assert_int_equal(said.n[i] == alone.n[i], asked);
    }
    kv_session_free(session);
    kv_gemm_batch_invariant(before);
}

static void set_invariant(bool on) {
#pragma omp parallel
    kv_gemm_batch_invariant(on);
}

// Where there are many logits, threads share the choosing of tokens out among them.
static void test_many_logits(void **state) {
    struct world *w = *state;
    kv_model_spec spec = tiny_base();
    spec.vocab_size = 1 << 14;
    const kv_system system = {.base = tiny_model(&spec, 3)};
    omp_set_num_threads(2);
    set_invariant(true);
    for (int sampled = 0; sampled < 2; sampled++) {
        const struct said alone = answer_alone(w, &system, sampled);
        const struct said said = answer(w, &(kv_batching){.system = &system}, sampled);
        expect_same(&said, &alone);
    }
    set_invariant(false);
    omp_set_num_threads(1);
    kv_model_free(system.base);
}

// Places that are left are taken: at least half of them go on in a step while prompts wait.
static void test_places_are_taken(void **state) {
    struct world *w = *state;
    const kv_system *system = &w->systems[0];
    int64_t tokens = 0, distinct = 0, all = 0;
    for (int64_t i = 0; i < N_PROMPTS; i++) {
        tokens += w->ends[i] - 1; // the first comes with the prompt
        all += w->lengths[i];
        if (i <= 16 || i > 20) distinct += w->lengths[i];
    }
    watch();
    answer(w, &(kv_batching){.system = system, .most = 4}, false);
    assert_int_equal(seen.sessions, 1);
    assert_int_equal(seen.rows, tokens); // those that have ended cost nothing
    // Were nobody to join before all have left, steps would be the sum over six batches of their longest answer.
    assert_in_range(seen.steps, tokens / 4, tokens / 4 + MAX_TOKENS + 2);
    assert_in_range(seen.read, distinct, all); // the five that are the same may come one by one
    watch();
    answer(w, &(kv_batching){.system = system}, false); // all at once
    assert_int_equal(seen.joins, 1);
    assert_int_equal(seen.read, distinct);
    assert_int_equal(seen.steps, MAX_TOKENS - 1);
}

// ---- Memory --------------------------------------------------------------------------------------------

static void test_memory_limits_a_batch(void **state) {
    struct world *w = *state;
    const bool before = kv_gemm_batch_invariant(true);
    for (int i = 0; i < N_SYSTEMS; i++) {
        const kv_system *system = &w->systems[i];
        const double one = kv_answer_bytes(system, 1, LONGEST, MAX_TOKENS);
        const double eight = kv_answer_bytes(system, 8, LONGEST, MAX_TOKENS);
        const struct said alone = answer_alone(w, system, false);
        kv_batching b = {.system = system, .most = 16, .memory = eight};
        assert_int_equal(kv_batching_fit(&b, LONGEST, MAX_TOKENS), 8);
        assert_int_equal(kv_batching_fit(&b, 3, MAX_TOKENS), 16);
        assert_true(kv_batching_bytes(&b, N_PROMPTS, LONGEST, MAX_TOKENS) == eight);
        watch();
        struct said said = answer(w, &b, false);
        expect_same(&said, &alone);
        assert_true(seen.most_bytes <= eight);  // the long one does not make the others' places long
        assert_int_equal(seen.largest_seq, 16); // none of them has half as many tokens
        assert_true(seen.largest_tokens < 16 * (LONGEST + MAX_TOKENS));
        assert_in_range(seen.sessions, 2, 4);
        b.memory = one / 2; // not even one: it is tried all the same, and the session says what is missing
        watch();
        said = answer(w, &b, false);
        expect_same(&said, &alone);
        assert_true(seen.most_bytes <= one);
        b.memory = 1e15;
        watch();
        said = answer(w, &b, false);
        expect_same(&said, &alone);
        assert_int_equal(seen.sessions, 1);
        assert_int_equal(seen.largest_seq, 16);
    }
    kv_gemm_batch_invariant(before);
    assert_true(kv_batching_memory(&w->systems[0]) > 1);
}

// A session that is there already is used again.
static void test_one_session_for_many_calls(void **state) {
    struct world *w = *state;
    kv_session *session = NULL;
    kv_error err = {0};
    struct said said;
    kv_answers answers = {.generated = said.ids, .n_generated = said.n};
    const kv_generation how = manner(w, false);
    const kv_batching b = {.system = &w->systems[0], .most = 8};
    kv_prompts prompts = {.ids = w->ids, .lengths = w->lengths, .n = N_PROMPTS};
    watch();
    for (int again = 0; again < 3; again++, prompts.n /= 2)
        must(kv_generate_batched(&b, &session, &prompts, &how, &answers, &err), &err);
    assert_int_equal(seen.sessions, 2); // the last five are all short
    kv_session_free(session);
}

// ---- What ends it --------------------------------------------------------------------------------------

static void test_interruption(void **state) {
    struct world *w = *state;
    struct said said;
    kv_answers answers = {.generated = said.ids, .n_generated = said.n};
    const kv_generation how = manner(w, false);
    const kv_batching b = {.system = &w->systems[0], .most = 3};
    const kv_prompts prompts = {.ids = w->ids, .lengths = w->lengths, .n = N_PROMPTS};
    for (int64_t after = 0; after < 12; after += 3) {
        kv_session *session = NULL;
        kv_error err = {0};
        watch();
        seen.interrupted_after = after;
        assert_int_equal(kv_generate_batched(&b, &session, &prompts, &how, &answers, &err),
                         KV_ERR_INTERRUPTED);
        assert_int_equal(seen.steps, after);
        kv_session_free(session);
    }
    watch();
}

// Whose logits are no numbers is told by the prompt, not by its place. (An aux that knows nothing of one token.)
static void test_not_finite(void **state) {
    struct world *w = *state;
    kv_model *aux = w->pair.aux;
    const kv_system *system = &w->systems[N_POLICIES];
    float *row = (float *)aux->embed.data + 60 * aux->spec.model_dim, kept = row[0];
    int32_t odd[4] = {30, 2, 60, 3};
    struct said said;
    kv_answers answers = {.generated = said.ids, .n_generated = said.n};
    const kv_generation how = {.max_tokens = 1};
    int32_t *ids[N_PROMPTS];
    int64_t lengths[N_PROMPTS];
    for (int i = 0; i < N_PROMPTS; i++) {
        ids[i] = w->ids[i], lengths[i] = 4;
        for (int t = 0; t < 4; t++) ids[i][t] %= 60;
    }
    ids[13] = odd;
    row[0] = NAN;
    for (int64_t most = 1; most < 9; most += 3) {
        kv_session *session = NULL;
        kv_error err = {0};
        answers.failed = -1;
        assert_int_equal(kv_generate_batched(&(kv_batching){.system = system, .most = most}, &session,
                                             &(kv_prompts){.ids = ids, .lengths = lengths, .n = N_PROMPTS},
                                             &how, &answers, &err),
                         KV_ERR_NOT_FINITE);
        assert_int_equal(answers.failed, 13);
        kv_session_free(session);
    }
    row[0] = kept;
    lengths[2] = 0;
    kv_session *session = NULL;
    kv_error err = {0};
    assert_int_equal(kv_generate_batched(&(kv_batching){.system = system}, &session,
                                         &(kv_prompts){.ids = ids, .lengths = lengths, .n = N_PROMPTS}, &how,
                                         &answers, &err),
                     KV_ERR_ARGUMENT);
    assert_string_equal(err.message, "prompt 2: expected at least one token, found 0");
    kv_session_free(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joining),
        cmocka_unit_test(test_failing_to_join),
        cmocka_unit_test(test_same_answers_in_any_batch),
        cmocka_unit_test(test_same_answers_in_any_order),
        cmocka_unit_test(test_many_logits),
        cmocka_unit_test(test_places_are_taken),
        cmocka_unit_test(test_memory_limits_a_batch),
        cmocka_unit_test(test_one_session_for_many_calls),
        cmocka_unit_test(test_interruption),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests_name("batching", tests, set_up, tear_down);
}
