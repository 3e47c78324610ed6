// The TTFT clock on a grid: who is measured when, what is made of the times, and what stops it. The linker
// puts the __wrap_ functions in place of the real ones, so that time is what the test says.
#include "core/flops.h"
#include "data/system/memory.h"
#include "infer/session/engine.h"
#include "infer/ttft.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 2, MAX_CALLS = 64, MAX_IDS = 64 };

// What happened since the last start().
static struct {
    double clock, durations[MAX_CALLS];       // of each prefill; 1 where 0
    int n_prefills, interrupt_after, fail_at; // negative: never
    int alive, most_alive, n_created;
    const kv_session *sessions[MAX_CALLS]; // in the order of creation
    struct {
        int session; // as created
        int64_t batch_size, prompt_tokens;
        int32_t ids[MAX_IDS];
    } prefills[MAX_CALLS];
} seen;

double __wrap_kv_now(void);
double __wrap_kv_now(void) {
    return seen.clock;
}

bool __wrap_kv_console_interrupted(void);
bool __wrap_kv_console_interrupted(void) {
    return seen.interrupt_after >= 0 && seen.n_prefills >= seen.interrupt_after;
}

kv_status __real_kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity,
                                   kv_session **session, kv_error *err);
kv_status __wrap_kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity,
                                   kv_session **session, kv_error *err);
kv_status __wrap_kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity,
                                   kv_session **session, kv_error *err) {
    kv_status status = __real_kv_session_create(system, n_seq, capacity, session, err);
    if (status != KV_OK) return status;
    assert_true(seen.n_created < MAX_CALLS);
    seen.sessions[seen.n_created++] = *session;
    if (++seen.alive > seen.most_alive) seen.most_alive = seen.alive;
    return KV_OK;
}

void __real_kv_session_free(kv_session *session);
void __wrap_kv_session_free(kv_session *session);
void __wrap_kv_session_free(kv_session *session) {
    seen.alive -= session != NULL;
    __real_kv_session_free(session);
}

kv_status __real_kv_session_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths,
                                    float *logits, kv_error *err);
kv_status __wrap_kv_session_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths,
                                    float *logits, kv_error *err);
kv_status __wrap_kv_session_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths,
                                    float *logits, kv_error *err) {
    const int i = seen.n_prefills++;
    assert_true(i < MAX_CALLS);
    if (i == seen.fail_at) return kv_fail(err, KV_ERR_MEMORY, "no luck");
    seen.prefills[i].session = seen.n_created - 1;
    while (seen.sessions[seen.prefills[i].session] != session) seen.prefills[i].session--;
    seen.prefills[i].batch_size = kv_session_n_seq(session);
    seen.prefills[i].prompt_tokens = lengths[0];
    int64_t n = 0;
    for (int64_t s = 0; s < kv_session_n_seq(session); s++) {
        assert_int_equal(lengths[s], lengths[0]);
        assert_int_equal(kv_session_length(session, s), 0); // starts from nothing every time
        n += lengths[s];
    }
    memcpy(seen.prefills[i].ids, ids, (size_t)(n < MAX_IDS ? n : MAX_IDS) * sizeof *ids);
    seen.clock += seen.durations[i] > 0 ? seen.durations[i] : 1;
    return __real_kv_session_prefill(session, ids, lengths, logits, err);
}

static void start(void) {
    memset(&seen, 0, sizeof seen);
    seen.interrupt_after = seen.fail_at = -1;
}

static kv_system systems[N];

static int setup(void **state) {
    (void)state;
    kv_model_spec base = tiny_base(), aux = tiny_aux();
    systems[0].base = systems[1].base = tiny_model(&base, 1);
    systems[1].aux = tiny_model(&aux, 2);
    systems[1].predictor = tiny_predictor(&base, &aux, 3);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kv_model_free(systems[1].base);
    kv_model_free(systems[1].aux);
    kv_predictor_free(systems[1].predictor);
    return 0;
}

static const kv_ttft_cell cells[] = {{5, 2}, {9, 1}, {3, 4}};
enum { N_CELLS = 3, REPEATS = 3, A_CELL = N * (REPEATS + 1) };
static const kv_ttft_grid_args three_cells = {
    .cells = cells, .n_cells = N_CELLS, .repeats = REPEATS, .seed = 1};

static void expect_ok(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

// ---- Order and numbers ---------------------------------------------------------------------------------

static void test_systems_take_turns(void **state) {
    (void)state;
    kv_ttft ttft[N_CELLS * N];
    kv_error err = {0};
    start();
    expect_ok(kv_ttft_grid(systems, N, &three_cells, NULL, ttft, NULL, &err), &err);
    assert_int_equal(seen.n_prefills, N_CELLS * A_CELL);
    for (int i = 0; i < seen.n_prefills; i++) {
        const int cell = i / A_CELL;
        assert_int_equal(seen.prefills[i].batch_size, cells[cell].batch_size);
        assert_int_equal(seen.prefills[i].prompt_tokens, cells[cell].prompt_tokens);
        assert_int_equal(seen.prefills[i].session, cell * N + i % N);
    }
    // Sessions of one cell at a time, and none afterwards.
    assert_int_equal(seen.n_created, N_CELLS * N);
    assert_int_equal(seen.most_alive, N);
    assert_int_equal(seen.alive, 0);
}

// With room for one session only (the larger one), each turn has its own, warmed up.
static void test_one_session_at_a_time(void **state) {
    (void)state;
    kv_ttft_grid_args args = three_cells;
    args.memory = kv_ttft_bytes(&systems[1], 1, &cells[2]);
    args.n_cells = 1, args.cells = &cells[2];
    if (kv_ttft_bytes(systems, 1, &cells[2]) > args.memory)
        args.memory = kv_ttft_bytes(systems, 1, &cells[2]);
    kv_ttft ttft[N];
    double samples[N * REPEATS];
    kv_error err = {0};
    start();
    for (int i = 0; i < 2 * N * REPEATS; i++) seen.durations[i] = 1 + i;
    expect_ok(kv_ttft_grid(systems, N, &args, NULL, ttft, samples, &err), &err);
    assert_int_equal(seen.n_prefills, 2 * N * REPEATS);
    assert_int_equal(seen.n_created, N * REPEATS);
    assert_int_equal(seen.most_alive, 1);
    assert_int_equal(seen.alive, 0);
    for (int i = 0; i < seen.n_prefills; i++) assert_int_equal(seen.prefills[i].session, i / 2);
    // The second prefill of every turn counts.
    static const double expected[N * REPEATS] = {2, 6, 10, 4, 8, 12};
    for (int i = 0; i < N * REPEATS; i++) assert_true(samples[i] == expected[i]);
    for (int after = 0; after < 2 * N * REPEATS; after++) {
        start();
        seen.interrupt_after = after;
        assert_int_equal(kv_ttft_grid(systems, N, &args, NULL, ttft, NULL, &err), KV_ERR_INTERRUPTED);
        assert_int_equal(seen.n_prefills, after);
        assert_int_equal(seen.alive, 0);
    }
    // Exactly what both need, and a byte less.
    const int64_t both = kv_ttft_bytes(systems, N, &cells[2]);
    for (int less = 0; less < 2; less++) {
        args.memory = both - less;
        start();
        expect_ok(kv_ttft_grid(systems, N, &args, NULL, ttft, NULL, &err), &err);
        assert_int_equal(seen.most_alive, less ? 1 : N);
    }
}

static void test_prompts(void **state) {
    (void)state;
    kv_ttft ttft[N_CELLS * N];
    kv_error err = {0};
    int32_t first[10];
    for (uint64_t seed = 1; seed <= 2; seed++) {
        kv_ttft_grid_args args = three_cells;
        args.seed = seed;
        start();
        expect_ok(kv_ttft_grid(systems, N, &args, NULL, ttft, NULL, &err), &err);
        for (int i = 1; i < A_CELL; i++) // everybody reads the same
            assert_memory_equal(seen.prefills[i].ids, seen.prefills[0].ids, sizeof seen.prefills[0].ids);
        assert_memory_not_equal(seen.prefills[0].ids, seen.prefills[0].ids + 5, 5 * sizeof(int32_t));
        if (seed == 2) assert_memory_not_equal(seen.prefills[0].ids, first, sizeof first);
        memcpy(first, seen.prefills[0].ids, sizeof first);
    }
}

static void test_medians_and_spread(void **state) {
    (void)state;
    kv_ttft ttft[N_CELLS * N];
    double samples[N_CELLS * N * REPEATS];
    kv_error err = {0};
    start();
    // The first two of each cell warm up and must not count. System 0 then has 5, 1, 3 and system 1 10, 70,
    // 20, a hundred times that in the second cell, and a thousand times it, always the same, in the third.
    static const double scales[] = {1, 100, 1000};
    static const double times[A_CELL] = {1e6, 1e6, 5, 10, 1, 70, 3, 20};
    for (int i = 0; i < N_CELLS * A_CELL; i++)
        seen.durations[i] = scales[i / A_CELL] * (i < 2 * A_CELL ? times[i % A_CELL] : times[2 + i % N]);
    expect_ok(kv_ttft_grid(systems, N, &three_cells, NULL, ttft, samples, &err), &err);
    static const double expected[N_CELLS * N * REPEATS] = {5,   1,   3,   10,   70,   20,   // cell 0
                                                           500, 100, 300, 1000, 7000, 2000, // cell 1
                                                           5e3, 5e3, 5e3, 1e4,  1e4,  1e4};
    for (int i = 0; i < N_CELLS * N * REPEATS; i++) assert_true(samples[i] == expected[i]);
    // Quartiles of 1, 3, 5 are 2 and 4; those of 10, 20, 70 are 15 and 45.
    static const kv_ttft summaries[N_CELLS * N] = {{3, 1},       {20, 15}, {300, 100},
                                                   {2000, 1500}, {5e3, 0}, {1e4, 0}};
    for (int i = 0; i < N_CELLS * N; i++)
        assert_true(ttft[i].seconds == summaries[i].seconds && ttft[i].spread == summaries[i].spread);
}

static void test_single_cell(void **state) {
    (void)state;
    const kv_ttft_cell cell = {.prompt_tokens = 7, .batch_size = 3};
    const kv_ttft_grid_args args = {.cells = &cell, .n_cells = 1, .repeats = 2, .seed = 1};
    kv_ttft ttft[N];
    double samples[N * 2];
    kv_error err = {0};
    start();
    for (int i = 0; i < 6; i++) seen.durations[i] = 1 + i;
    expect_ok(kv_ttft_grid(systems, N, &args, NULL, ttft, samples, &err), &err);
    assert_int_equal(seen.n_prefills, 6);
    assert_int_equal(seen.prefills[5].batch_size, 3);
    assert_int_equal(seen.prefills[5].prompt_tokens, 7);
    static const double expected[] = {3, 5, 4, 6};
    for (int i = 0; i < 4; i++) assert_true(samples[i] == expected[i]);
    assert_true(ttft[0].seconds == 4 && ttft[1].seconds == 5);
    assert_int_equal(kv_ttft_grid(systems, 0, &args, NULL, ttft, NULL, &err), KV_OK);
}

static void test_progress_over_the_whole_grid(void **state) {
    (void)state;
    kv_ttft ttft[N_CELLS * N];
    kv_error err = {0};
    FILE *out = tmpfile();
    assert_non_null(out);
    kv_progress progress;
    start();
    kv_progress_begin(&progress, out, "ttft", N_CELLS * N * REPEATS);
    progress.last_time = -1e9; // so that the first line comes at once, and then none for a while
    expect_ok(kv_ttft_grid(systems, N, &three_cells, &progress, ttft, NULL, &err), &err);
    assert_int_equal(progress.last_shown, N_CELLS * N * REPEATS);
    char line[256], expected[64];
    rewind(out);
    assert_non_null(fgets(line, sizeof line, out));
    // The first prefill that is timed: system 0 in one second by the test's clock.
    snprintf(expected, sizeof expected, "5 tokens x 2  %.1f GFLOP/s",
             2e-9 * (double)kv_flops_prefill(&systems[0].base->spec, 5));
    assert_non_null(strstr(line, "ttft: 1/18"));
    if (!strstr(line, expected)) fail_msg("expected %s in %s", expected, line);
    fclose(out);
}

// ---- Stopping ------------------------------------------------------------------------------------------

static void test_interruption(void **state) {
    (void)state;
    for (int after = 0; after <= N_CELLS * A_CELL; after++) {
        kv_ttft ttft[N_CELLS * N] = {0};
        kv_error err = {0};
        start();
        seen.interrupt_after = after;
        kv_status status = kv_ttft_grid(systems, N, &three_cells, NULL, ttft, NULL, &err);
        assert_int_equal(status, after < N_CELLS * A_CELL ? KV_ERR_INTERRUPTED : KV_OK);
        assert_int_equal(seen.n_prefills, after);
        assert_int_equal(seen.alive, 0);
        for (int i = 0; i < N_CELLS * N; i++) // whole cells only
            assert_true(ttft[i].seconds == (i / N < after / A_CELL ? 1 : 0));
    }
}

static void test_failure_is_passed_on(void **state) {
    (void)state;
    kv_ttft ttft[N_CELLS * N];
    kv_error err = {0};
    start();
    seen.fail_at = A_CELL + 1;
    assert_int_equal(kv_ttft_grid(systems, N, &three_cells, NULL, ttft, NULL, &err), KV_ERR_MEMORY);
    assert_string_equal(err.message, "no luck");
    assert_int_equal(seen.n_prefills, A_CELL + 2);
    assert_int_equal(seen.alive, 0);
}

// ---- What is refused, always before the first prefill --------------------------------------------------

static void expect_refusal(kv_ttft_cell second, int64_t repeats, int64_t memory, kv_status expected,
                           const char *part) {
    const kv_ttft_cell two[] = {{5, 2}, second};
    const kv_ttft_grid_args args = {
        .cells = two, .n_cells = 2, .repeats = repeats, .seed = 1, .memory = memory};
    kv_ttft ttft[2 * N];
    kv_error err = {0};
    start();
    assert_int_equal(kv_ttft_grid(systems, N, &args, NULL, ttft, NULL, &err), expected);
    if (!strstr(err.message, part)) fail_msg("expected %s in %s", part, err.message);
    assert_int_equal(seen.n_created, 0);
}

static void test_bad_arguments(void **state) {
    (void)state;
    expect_refusal((kv_ttft_cell){5, 2}, 0, 0, KV_ERR_ARGUMENT, "at least one repeat, not 0");
    expect_refusal((kv_ttft_cell){0, 2}, 1, 0, KV_ERR_ARGUMENT, "not 0 tokens x 2");
    expect_refusal((kv_ttft_cell){5, -1}, 1, 0, KV_ERR_ARGUMENT, "not 5 tokens x -1");
    expect_refusal((kv_ttft_cell){65, 1}, 1, 0, KV_ERR_RANGE,
                   "a prompt of 65 tokens: system 1 has a context of 64");
    expect_refusal((kv_ttft_cell){5, INT64_MAX}, 1, 0, KV_ERR_MEMORY,
                   "5 tokens x 9223372036854775807: system 1");
    expect_refusal((kv_ttft_cell){5, INT64_MAX}, 1, INT64_MAX, KV_ERR_MEMORY, "GB available");
}

static void test_context_of_the_aux(void **state) {
    (void)state;
    const int64_t before = systems[1].aux->spec.context_length;
    systems[1].aux->spec.context_length = 8;
    expect_refusal((kv_ttft_cell){9, 1}, 1, 0, KV_ERR_RANGE, "system 2 has a context of 8");
    systems[1].aux->spec.context_length = before;
}

// The look-ahead needs room in the aux's context behind the prompt, in both ways to give its length.
static void test_context_left_by_the_look_ahead(void **state) {
    (void)state;
    const kv_system whole = systems[1];
    for (int64_t ahead = 0; ahead <= 20; ahead += 20) {
        systems[1].predictor = NULL;
        systems[1].pruning = (kv_pruning){.kind = KV_PRUNE_SPECULATIVE, .keep = 0.5, .lookahead = ahead};
        const int64_t context = 64 - (ahead ? ahead : 8);
        char message[64];
        snprintf(message, sizeof message, "system 2 has a context of %lld, less the look-ahead",
                 (long long)context);
        expect_refusal((kv_ttft_cell){context + 1, 1}, 1, 0, KV_ERR_RANGE, message);
        const kv_ttft_cell most = {context, 1};
        const kv_ttft_grid_args fits = {.cells = &most, .n_cells = 1, .repeats = 1};
        kv_ttft ttft[N];
        kv_error err = {0};
        start();
        expect_ok(kv_ttft_grid(systems, N, &fits, NULL, ttft, NULL, &err), &err);
    }
    systems[1] = whole;
}

// Asked beforehand, of contexts and of the memory there is.
static void test_what_fits(void **state) {
    (void)state;
    assert_true(kv_ttft_fits(systems, N, &(kv_ttft_cell){64, 1}));
    assert_false(kv_ttft_fits(systems, N, &(kv_ttft_cell){65, 1}));
    assert_false(kv_ttft_fits(systems, N, &(kv_ttft_cell){64, INT64_MAX / 64}));
    assert_false(kv_ttft_fits(systems, N, &(kv_ttft_cell){0, 1}));
}

static void test_memory(void **state) {
    (void)state;
    const kv_ttft_cell large = {60, 50};
    const int64_t first = kv_ttft_bytes(systems, 1, &large), second = kv_ttft_bytes(systems + 1, 1, &large);
    assert_int_equal(kv_ttft_bytes(systems, N, &large), first + second);
    const int64_t larger = first > second ? first : second;
    char message[128];
    snprintf(message, sizeof message, "60 tokens x 50: system %d needs about %.1f GB beside the weights",
             first > second ? 1 : 2, 1e-9 * (double)larger);
    expect_refusal(large, 1, larger - 1, KV_ERR_MEMORY, message);
    const kv_ttft_grid_args fits = {.cells = &large, .n_cells = 1, .repeats = 1, .memory = larger};
    kv_ttft ttft[N];
    kv_error err = {0};
    start();
    expect_ok(kv_ttft_grid(systems, N, &fits, NULL, ttft, NULL, &err), &err);
    assert_true(kv_memory_available("") > 1 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_systems_take_turns),
        cmocka_unit_test(test_what_fits),
        cmocka_unit_test(test_one_session_at_a_time),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_medians_and_spread),
        cmocka_unit_test(test_single_cell),
        cmocka_unit_test(test_progress_over_the_whole_grid),
        cmocka_unit_test(test_interruption),
        cmocka_unit_test(test_failure_is_passed_on),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_context_of_the_aux),
        cmocka_unit_test(test_context_left_by_the_look_ahead),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
