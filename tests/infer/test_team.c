// Packs of small models that threads read side by side: the same bits on any number of threads, by every way of reading
// a prompt; of several that fail the first one says why; and memory that runs out on any of the threads.
#include "core/gemm.h"
#include "infer/session/session.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/pruning.h"
#include "tests/support/support.h"

#include "infer/session/engine.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// Calls of aligned_alloc, which gets the chunks of arenas, until one is refused; negative: none is.
static atomic_int left = -1;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    if (atomic_load(&left) >= 0 && atomic_fetch_sub(&left, 1) == 0) return NULL;
    return __real_aligned_alloc(alignment, size);
}

// Many packs, of one sequence and of several.
enum { MANY = 19, LONGEST = 40, MORE = 2, ROOM = LONGEST + MORE, MOST_THREADS = 3, BAD_ID = 60 };

static int64_t lengths[MANY], n_ids;
static int32_t texts[MANY * LONGEST], more[MORE][MANY];
static const int64_t ones[MANY] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

typedef float answers[MORE + 1][MANY * VOCABULARY];

static kv_session *make_session(const kv_system *system, int64_t n_seq) {
    kv_session *session;
    kv_error err = {0};
    if (kv_session_create(system, n_seq, ROOM, &session, &err) != KV_OK) fail_msg("%s", err.message);
    return session;
}

static void read_all(kv_session *session, answers a) {
    kv_error err = {0};
    if (kv_session_prefill(session, texts, lengths, a[0], &err) != KV_OK) fail_msg("%s", err.message);
    for (int i = 0; i < MORE; i++)
        if (kv_session_decode(session, more[i], NULL, a[i + 1], &err) != KV_OK) fail_msg("%s", err.message);
}

// ---- Bits ----------------------------------------------------------------------------------------------

static void expect_same_bits(const char *name, const kv_system *system) {
    static answers expected, found;
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        omp_set_num_threads(threads);
        kv_session *session = make_session(system, MANY);
        read_all(session, threads == 1 ? expected : found);
        if (session->n_more_tapes != threads - 1) fail_msg("%s: packs are not read side by side", name);
        if (threads > 1 && memcmp(expected, found, sizeof expected) != 0)
            fail_msg("%s: %d threads have other bits than one", name, threads);
        kv_session_free(session);
    }
}

static void test_parts_on_threads(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        test_made m = test_part_make(&test_parts[p]);
        const kv_system system = {.base = m.base, .aux = m.aux, .predictor = m.predictor};
        expect_same_bits(test_parts[p].name, &system);
        test_made_free(&m);
    }
}

static void test_policies_on_threads(void **state) {
    for (int p = 0; p < N_POLICIES; p++) {
        const kv_system system = prune_system(*state, &prune_policies[p]);
        expect_same_bits(p == 0 ? "alone" : "pruned", &system);
    }
}

// What one pack has to itself is a row of a product as it would be among others, where that is asked for.
static void test_batch_invariance_on_threads(void **state) {
    enum { FEW = 5 }; // the last one is a pack of its own
    const kv_system system = prune_system(*state, &prune_policies[0]);
    static float together[FEW * VOCABULARY], alone[VOCABULARY];
    kv_error err;
    omp_set_num_threads(2);
    kv_gemm_batch_invariant(true);
    kv_session *all = make_session(&system, FEW);
    assert_int_equal(kv_session_prefill(all, more[0], ones, together, &err), KV_OK);
    assert_int_equal(all->n_more_tapes, 1);
    kv_session *one = make_session(&system, 1);
    for (int s = 0; s < FEW; s++) {
        kv_session_reset(one);
        assert_int_equal(kv_session_prefill(one, &more[0][s], ones, alone, &err), KV_OK);
        assert_memory_equal(alone, together + s * VOCABULARY, sizeof alone);
    }
    kv_gemm_batch_invariant(false);
    kv_session_free(all);
    kv_session_free(one);
}

// A pack with nothing beside it: one thread reads it, the others stay for whoever comes next.
static void test_one_pack_alone(void **state) {
    const kv_system system = prune_system(*state, &prune_policies[0]);
    static float logits[2][VOCABULARY];
    assert_true(kv_reads_alone(&system, LONGEST));
    assert_false(kv_reads_alone(&system, INT64_MAX / 2));
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        kv_error err;
        omp_set_num_threads(threads);
        kv_session *one = make_session(&system, 1);
        assert_int_equal(kv_session_prefill(one, texts, &lengths[5], logits[threads > 1], &err), KV_OK);
        assert_int_equal(omp_get_max_threads(), threads);
        assert_int_equal(one->n_more_tapes, 0);
        if (threads > 1) assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
        kv_session_free(one);
    }
}

// ---- Failures ------------------------------------------------------------------------------------------

// Two packs have a token whose embedding is infinite: the first of them is named, whoever comes first.
static void test_first_failure(void **state) {
    (void)state;
    static answers a;
    kv_model_spec spec = tiny_deep_base(N_LAYERS);
    spec.tied_head = false; // the embedding's row is not the head's, too
    kv_model *base = tiny_model(&spec, 1);
    const kv_system system = {.base = base};
    ((float *)base->embed.data)[BAD_ID * spec.model_dim] = INFINITY;
    texts[n_ids - 1] = BAD_ID; // of the last sequence
    texts[lengths[0] + lengths[1] + lengths[2] - 1] = BAD_ID;
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        kv_error err = {0};
        omp_set_num_threads(threads);
        kv_session *session = make_session(&system, MANY);
        assert_int_equal(kv_session_prefill(session, texts, lengths, a[0], &err), KV_ERR_NOT_FINITE);
        assert_int_equal(kv_session_not_finite(session), 2);
        assert_non_null(strstr(err.message, "not finite"));
        for (int s = 0; s < MANY; s++) assert_int_equal(kv_session_length(session, s), 0);
        kv_session_free(session);
    }
    kv_model_free(base);
    tiny_ids(texts, n_ids, BAD_ID, 4);
}

static void test_no_memory(void **state) {
    (void)state;
    static answers expected, found;
    test_made m = test_part_make(&test_parts[0]);
    const kv_system system = {.base = m.base, .aux = m.aux, .predictor = m.predictor};
    omp_set_num_threads(2);
    kv_session *session = make_session(&system, MANY);
    read_all(session, expected);
    kv_session_free(session);
    kv_status status = KV_ERR_MEMORY;
    int refused = 0;
    for (; status != KV_OK; refused++) {
        kv_error err = {0};
        session = make_session(&system, MANY);
        atomic_store(&left, refused);
        status = kv_session_prefill(session, texts, lengths, found[0], &err);
        atomic_store(&left, -1);
        if (status != KV_OK) assert_int_equal(status, KV_ERR_MEMORY);
        kv_session_reset(session);
        read_all(session, found); // nothing is left of it
        assert_memory_equal(found, expected, sizeof expected);
        kv_session_free(session);
    }
    assert_true(refused > 2); // on both threads
    test_made_free(&m);
}

// ---- Sizes ---------------------------------------------------------------------------------------------

static void test_large_models_share_operators(void **state) {
    const prune_models *m = *state;
    kv_model_spec spec;
    kv_model *large;
    assert_true(kv_published_spec("openelm-270m", &spec));
    assert_int_equal(kv_model_create(&spec, KV_F32, false, &large, NULL), KV_OK);
    assert_true(kv_reads_apart(&(kv_system){.base = m->base}));
    assert_true(kv_reads_apart(&(kv_system){.base = m->base, .aux = m->aux}));
    assert_false(kv_reads_apart(&(kv_system){.base = large}));
    assert_false(kv_reads_alone(&(kv_system){.base = large}, 1));
    assert_false(kv_reads_apart(&(kv_system){.base = large, .aux = m->aux}));
    assert_int_equal(kv_pack_limit(&(kv_system){.base = large}, 8).rows, KV_PACK_ROWS);
    kv_model_free(large);
}

static int setup(void **state) {
    for (int s = 0; s < MANY; s++) lengths[s] = 1 + s * 7 % LONGEST, n_ids += lengths[s];
    tiny_ids(texts, n_ids, BAD_ID, 4);
    tiny_ids(more[0], MORE * MANY, BAD_ID, 5);
    return prune_setup(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_on_threads),
        cmocka_unit_test(test_policies_on_threads),
        cmocka_unit_test(test_batch_invariance_on_threads),
        cmocka_unit_test(test_one_pack_alone),
        cmocka_unit_test(test_first_failure),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_large_models_share_operators),
    };
    return cmocka_run_group_tests(tests, setup, prune_teardown);
}
