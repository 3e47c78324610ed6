// Choosing among scored tokens, against choosing one by one; and the counts the policies go by.
#include "infer/session/prune.h"
#include "infer/session/prune_select.h"

#include "tests/support/prune_reference.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 130 };

struct room {
    kv_arena *arena;
    float scores[MOST];
    double wide[MOST];
    int32_t places[MOST];
    bool flags[MOST];
};

static int setup(void **state) {
    struct room *room = test_alloc(1, sizeof *room);
    room->arena = kv_arena_create();
    *state = room;
    return 0;
}

static int teardown(void **state) {
    struct room *room = *state;
    kv_arena_free(room->arena);
    free(room);
    return 0;
}

// coarse: few different values, so that many are equal.
static void make_scores(struct room *room, int64_t n, uint64_t seed, bool coarse) {
    for (int64_t i = 0; i < n; i++) {
        room->scores[i] =
            coarse ? (float)test_below(seed, i, 4) / 4 : (float)(0.5 + 0.5 * test_value(seed, i));
        room->wide[i] = (double)room->scores[i];
    }
}

static void expect_flags(const struct room *room, int64_t n, int64_t kept) {
    int64_t i = 0;
    for (int64_t j = 0; j < n; j++)
        if (room->flags[j]) assert_int_equal(room->places[i++], j);
    assert_int_equal(i, kept);
}

static void test_best(void **state) {
    struct room *room = *state;
    const int64_t lengths[] = {1, 2, 3, 17, MOST};
    for (int i = 0; i < 10; i++) {
        const int64_t n = lengths[i / 2];
        make_scores(room, n, 7, i % 2);
        for (int64_t kept = 1; kept <= n; kept++) {
            ref_keep_best(room->wide, n, kept, false, room->flags);
            assert_true(kv_keep_best(room->arena, room->scores, n, kept, room->places));
            expect_flags(room, n, kept);
        }
        kv_arena_reset(room->arena);
    }
}

static void test_not_a_number_ranks_last(void **state) {
    struct room *room = *state;
    const float scores[5] = {NAN, 0.1f, NAN, 0, NAN};
    assert_true(kv_keep_best(room->arena, scores, 5, 3, room->places));
    assert_memory_equal(room->places, ((int32_t[]){1, 3, 4}), 3 * sizeof(int32_t));
    assert_true(kv_keep_chunks(room->arena, scores, 5, 1, 2, 3, room->places));
    assert_memory_equal(room->places, ((int32_t[]){0, 1, 4}), 3 * sizeof(int32_t));
}

static void test_chunks(void **state) {
    struct room *room = *state;
    const int64_t lengths[] = {2, 3, 31, 64, 65, 100, MOST}, windows[] = {1, 3, 13, 999},
                  sizes[] = {1, 5, 32, 999};
    for (int i = 0; i < 7; i++)
        for (int w = 0; w < 4; w++)
            for (int c = 0; c < 4; c++) {
                const int64_t n = lengths[i];
                make_scores(room, n, 11 + (uint64_t)(w + 4 * c), false);
                for (int64_t kept = 2; kept <= n; kept += 1 + n / 9) {
                    ref_keep_chunks(room->wide, n, windows[w], sizes[c], kept, room->flags);
                    assert_true(kv_keep_chunks(room->arena, room->scores, n, windows[w], sizes[c], kept,
                                               room->places));
                    expect_flags(room, n, kept);
                }
                kv_arena_reset(room->arena);
            }
}

// Two chunks of four, window 1. The second has the higher mean, so it is taken whole before anything of the
// first, whose single best token then fills the last place.
static void test_chunks_by_hand(void **state) {
    struct room *room = *state;
    const float scores[9] = {0, 0.1f, 0.9f, 0.1f, 0.4f, 0.3f, 0.4f, 0.3f, 0};
    assert_true(kv_keep_chunks(room->arena, scores, 9, 1, 4, 7, room->places));
    assert_memory_equal(room->places, ((int32_t[]){0, 2, 4, 5, 6, 7, 8}), 7 * sizeof(int32_t));
    assert_true(kv_keep_chunks(room->arena, scores, 9, 1, 4, 4, room->places));
    assert_memory_equal(room->places, ((int32_t[]){0, 4, 6, 8}), 4 * sizeof(int32_t));
    // Smoothed over three, the peak spreads to its neighbours: 0.05 0.333 0.367 0.467 | 0.267 0.367 0.333
    // 0.233
    assert_true(kv_keep_chunks(room->arena, scores, 9, 3, 4, 5, room->places));
    assert_memory_equal(room->places, ((int32_t[]){0, 1, 2, 3, 8}), 5 * sizeof(int32_t));
}

// ---- Random --------------------------------------------------------------------------------------------

static void keep_random(struct room *room, uint64_t seed, int32_t bos, const int32_t *ids, int64_t n,
                        int64_t kept) {
    assert_true(kv_keep_random(room->arena, seed, bos, ids, n, kept, room->places));
    for (int64_t i = 0; i < kept; i++)
        assert_in_range(room->places[i], i ? room->places[i - 1] + 1 : 0, n - 1);
    assert_int_equal(room->places[kept - 1], n - 1);
}

static void test_random(void **state) {
    struct room *room = *state;
    int32_t ids[MOST], first[MOST];
    for (int i = 0; i < MOST; i++) ids[i] = 3 + i;
    ids[0] = 1;
    for (int64_t kept = 1; kept <= MOST; kept++) keep_random(room, 5, -1, ids, MOST, kept);
    keep_random(room, 5, -1, ids, MOST, 40);
    memcpy(first, room->places, sizeof first);
    keep_random(room, 5, -1, ids, MOST, 40);
    assert_memory_equal(first, room->places, 40 * sizeof *first); // the same again
    keep_random(room, 6, -1, ids, MOST, 40);
    assert_memory_not_equal(first, room->places, 40 * sizeof *first); // another seed
    ids[60]++;
    keep_random(room, 5, -1, ids, MOST, 40);
    assert_memory_not_equal(first, room->places, 40 * sizeof *first); // another prompt
    for (uint64_t seed = 0; seed < 50; seed++) { // the beginning of text stays, if there is one and room
        keep_random(room, seed, 1, ids, MOST, 2);
        assert_int_equal(room->places[0], 0);
    }
    keep_random(room, 5, 1, ids, MOST, 1);
    keep_random(room, 5, 1, ids, 1, 1);
}

// Every token but the last has the same chance: over 4000 seeds 3 of 9 are kept 1333 ± 30 times each (one
// standard deviation); 5 of them is what no fair choice reaches.
static void test_random_is_fair(void **state) {
    struct room *room = *state;
    const int32_t ids[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    int64_t times[10] = {0};
    for (uint64_t seed = 0; seed < 4000; seed++) {
        keep_random(room, seed, -1, ids, 10, 4);
        for (int i = 0; i < 4; i++) times[room->places[i]]++;
        kv_arena_reset(room->arena);
    }
    for (int i = 0; i < 9; i++) assert_in_range(times[i], 1333 - 150, 1333 + 150);
}

// ---- Counts --------------------------------------------------------------------------------------------

static void test_counts(void **state) {
    (void)state;
    const kv_pruning random = {.kind = KV_PRUNE_RANDOM, .keep = 0.25},
                     fixed = {.kind = KV_PRUNE_STATIC, .keep = 0.5},
                     ahead = {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.1},
                     lazy = {.kind = KV_PRUNE_LAZY, .start = 0.5, .end = 0.1}, none = {0};
    assert_int_equal(kv_pruning_kept(&random, 59), 15); // 14.75
    assert_int_equal(kv_pruning_kept(&random, 1), 1);
    assert_int_equal(kv_pruning_kept(&fixed, 8), 4);
    assert_int_equal(kv_pruning_kept(&ahead, 59), 6);
    assert_int_equal(kv_pruning_kept(&ahead, 4), 2); // the first and the last
    assert_int_equal(kv_pruning_kept(&ahead, 1), 1);
    assert_int_equal(kv_pruning_kept(&none, 7), 7);
    assert_int_equal(kv_pruning_kept(&lazy, 7), 7);
    // Ten layers: middles at 0.05, 0.15, 0.25, then 0.35 to 0.85 where 0.5 has fallen by 1/12, 3/12, … of
    // 0.4.
    static const int64_t expected[10] = {300, 300, 300, 140, 120, 100, 80, 60, 40, 30};
    for (int64_t i = 0; i < 10; i++) {
        if (i > 2 && i < 9) assert_int_equal(kv_lazy_kept(&lazy, 10, i, 300), 150 - (2 * (i - 3) + 1) * 10);
        assert_int_equal(kv_lazy_kept(&lazy, 10, i, 300), expected[i]);
    }
    assert_int_equal(kv_lazy_kept(&lazy, 1, 0, 300), 300); // nothing has been ranked before the first layer
    assert_int_equal(kv_lazy_kept(&lazy, 10, 9, 2), 1);
    assert_int_equal(kv_static_layers(28), 7);
    assert_int_equal(kv_static_layers(1), 1);
    assert_int_equal(kv_static_layers(3), 1);
    assert_int_equal(kv_static_layers(6), 2);
}

static void test_counts_never_rise(void **state) {
    (void)state;
    for (int64_t layers = 1; layers < 40; layers++)
        for (int64_t n = 1; n < 40; n++)
            for (int which = 0; which < 4; which++) {
                static const double ends[] = {0.75, 0.25, 0.05, 0.01};
                const kv_pruning lazy = {.kind = KV_PRUNE_LAZY, .start = 0.75, .end = ends[which]};
                for (int64_t i = 1; i < layers; i++)
                    assert_in_range(kv_lazy_kept(&lazy, layers, i, n), 1,
                                    kv_lazy_kept(&lazy, layers, i - 1, n));
            }
}

static void expect_refusal(kv_pruning pruning, const char *message) {
    kv_error err = {0};
    assert_int_equal(kv_pruning_check(&pruning, &err), KV_ERR_ARGUMENT);
    assert_string_equal(err.message, message);
}

static void test_refusals(void **state) {
    (void)state;
    static const double bad[] = {0, -0.5, 1.5, (double)NAN, (double)INFINITY};
    static const char *const written[] = {"0", "-0.5", "1.5", "nan", "inf"};
    for (int i = 0; i < 5; i++) {
        char message[100];
        static const char *const says = "pruning: %s is a part of the tokens above 0 and up to 1, not %s";
        snprintf(message, sizeof message, says, "keep", written[i]);
        expect_refusal((kv_pruning){.kind = KV_PRUNE_RANDOM, .keep = bad[i]}, message);
        expect_refusal((kv_pruning){.kind = KV_PRUNE_STATIC, .keep = bad[i]}, message);
        expect_refusal((kv_pruning){.kind = KV_PRUNE_SPECULATIVE, .keep = bad[i]}, message);
        snprintf(message, sizeof message, says, "start", written[i]);
        expect_refusal((kv_pruning){.kind = KV_PRUNE_LAZY, .start = bad[i], .end = 0.5}, message);
        snprintf(message, sizeof message, says, "end", written[i]);
        expect_refusal((kv_pruning){.kind = KV_PRUNE_LAZY, .start = 1, .end = bad[i]}, message);
    }
    expect_refusal((kv_pruning){.kind = KV_PRUNE_LAZY, .start = 0.5, .end = 0.75},
                   "pruning: end (0.75) must not be above start (0.5)");
    const kv_pruning ahead = {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.5};
    kv_pruning p = ahead;
    assert_int_equal(kv_pruning_check(&p, NULL), KV_OK);
    p.lookahead = -1;
    expect_refusal(p, "pruning: lookahead needs at least one token, not -1");
    p = ahead, p.window = 4;
    expect_refusal(p, "pruning: window is an odd number of tokens, not 4");
    p = ahead, p.window = -3;
    expect_refusal(p, "pruning: window is an odd number of tokens, not -3");
    p = ahead, p.chunk = -1;
    expect_refusal(p, "pruning: a chunk needs at least one token, not -1");
    expect_refusal((kv_pruning){.kind = (kv_prune_kind)9}, "pruning: unknown kind 9");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_best),     cmocka_unit_test(test_not_a_number_ranks_last),
        cmocka_unit_test(test_chunks),   cmocka_unit_test(test_chunks_by_hand),
        cmocka_unit_test(test_random),   cmocka_unit_test(test_random_is_fair),
        cmocka_unit_test(test_counts),   cmocka_unit_test(test_counts_never_rise),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
