// The ground floor of the core: arena, storage types, random numbers.
#include "core/arena.h"
#include "core/dtype.h"
#include "core/rng.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Arena ---------------------------------------------------------------------------------------------

static void test_arena_memory_is_aligned_and_separate(void **state) {
    (void)state;
    kv_arena *arena = kv_arena_create();
    unsigned char *blocks[200];
    size_t sizes[200];
    for (int i = 0; i < 200; i++) {
        sizes[i] = i == 150 ? (size_t)40 << 20 : (size_t)test_below(1, i, 20000) + 1;
        blocks[i] = kv_arena_alloc(arena, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 64, 0);
        memset(blocks[i], i, sizes[i]);
    }
    for (int i = 0; i < 200; i++)
        for (size_t b = 0; b < sizes[i]; b += 97) assert_int_equal(blocks[i][b], i);
    kv_arena_free(arena);
    kv_arena_free(NULL);
}

static void test_arena_refuses_absurd_sizes(void **state) {
    (void)state;
    kv_arena *arena = kv_arena_create();
    assert_null(kv_arena_alloc(arena, SIZE_MAX));
    assert_null(kv_arena_alloc(arena, SIZE_MAX - 63));
    assert_null(kv_arena_alloc(arena, SIZE_MAX / 2));
    assert_null(kv_arena_floats(arena, -1));
    assert_null(kv_arena_floats(arena, INT64_MAX));
    assert_null(kv_arena_floats(arena, INT64_MAX / 4));
    assert_non_null(kv_arena_floats(arena, 3)); // and goes on working
    kv_arena_free(arena);
}

static void test_arena_marks(void **state) {
    (void)state;
    kv_arena *arena = kv_arena_create();
    float *kept = kv_arena_floats(arena, 100);
    kept[99] = 5;
    kv_arena_mark outer = kv_arena_get_mark(arena);
    char *first = kv_arena_alloc(arena, 1000);
    kv_arena_mark inner = kv_arena_get_mark(arena);
    char *second = kv_arena_alloc(arena, 10);
    kv_arena_release(arena, inner);
    assert_ptr_equal(kv_arena_alloc(arena, 10), second);
    // Past the end of any chunk and back.
    for (int i = 0; i < 30; i++) assert_non_null(kv_arena_alloc(arena, (size_t)3 << 20));
    kv_arena_release(arena, outer);
    assert_ptr_equal(kv_arena_alloc(arena, 1000), first);
    assert_true(kept[99] == 5);
    kv_arena_free(arena);
}

enum { ARENA_BLOCKS = 40 };

// One step of a fixed pattern of allocations, with releases in between. The blocks it kept go to `kept`.
static void arena_step(kv_arena *arena, void *kept[ARENA_BLOCKS]) {
    for (int i = 0; i < ARENA_BLOCKS; i++) {
        kept[i] = kv_arena_alloc(arena, (size_t)(i * 70001));
        assert_non_null(kept[i]);
        kv_arena_mark mark = kv_arena_get_mark(arena);
        assert_non_null(kv_arena_alloc(arena, (size_t)(i % 5) << 21));
        kv_arena_release(arena, mark);
    }
    kv_arena_reset(arena);
}

static void test_arena_settles_after_one_step(void **state) {
    (void)state;
    kv_arena *arena = kv_arena_create();
    void *first[ARENA_BLOCKS], *again[ARENA_BLOCKS];
    arena_step(arena, first);
    const size_t settled = kv_arena_capacity(arena), peak = kv_arena_peak(arena);
    size_t least = 0;
    for (int i = 0; i < ARENA_BLOCKS; i++) least += (size_t)(i * 70001);
    assert_true(peak >= least && settled >= peak);
    for (int step = 0; step < 5; step++) {
        arena_step(arena, again);
        assert_memory_equal(again, first,
                            sizeof first); // no fresh memory: touching it first is what takes long
        assert_int_equal(kv_arena_capacity(arena), settled);
        assert_int_equal(kv_arena_peak(arena), peak);
    }
    kv_arena_free(arena);
}

// ---- Storage types -------------------------------------------------------------------------------------

static void test_dtype_names(void **state) {
    (void)state;
    assert_int_equal(kv_dtype_size(KV_F32), 4);
    assert_int_equal(kv_dtype_size(KV_BF16), 2);
    assert_int_equal(kv_dtype_size(KV_F16), 2);
    assert_string_equal(kv_dtype_name(KV_F32), "F32");
    assert_string_equal(kv_dtype_name(KV_BF16), "BF16");
    assert_string_equal(kv_dtype_name(KV_F16), "F16");
}

static void test_every_half_widens_and_comes_back(void **state) {
    (void)state;
    enum { ALL = 65536 };
    uint16_t *bits = test_alloc(ALL, sizeof *bits), *back = test_alloc(ALL, sizeof *back);
    float *wide = test_alloc(ALL, sizeof *wide);
    for (int i = 0; i < ALL; i++) bits[i] = (uint16_t)i;
    for (kv_dtype dtype = KV_BF16; dtype <= KV_F16; dtype++) {
        kv_widen(wide, bits, dtype, ALL);
        kv_narrow(back, wide, dtype, ALL);
        for (int i = 0; i < ALL; i++) {
            const double value = test_half_value(dtype, bits[i]);
            if (isnan(value)) {
                assert_true(isnan(wide[i]) && isnan(test_half_value(dtype, back[i])));
                continue;
            }
            if ((double)wide[i] != value || !signbit(wide[i]) != !signbit(value) || back[i] != bits[i])
                fail_msg("%s %04x is %.9g, widened to %.9g, back to %04x", kv_dtype_name(dtype), bits[i],
                         value, (double)wide[i], back[i]);
        }
    }
    float copy[3] = {1.5f, -0.0f, INFINITY}, same[3];
    kv_widen(same, copy, KV_F32, 3);
    assert_memory_equal(same, copy, sizeof copy);
    kv_narrow(same, copy, KV_F32, 3);
    assert_memory_equal(same, copy, sizeof copy);
    free(bits);
    free(back);
    free(wide);
}

// Values that make rounding decide: halfway between neighbours, a hair off it, subnormals, the edge of
// overflow, and random ones of every size.
static int64_t rounding_cases(kv_dtype dtype, float *x) {
    int64_t n = 0;
    for (int i = 0; i < 3000; i++) {
        const uint16_t at = (uint16_t)test_below(31, i, dtype == KV_BF16 ? 0x7F7F : 0x7BFF);
        const float low = (float)test_half_value(dtype, at), high = (float)test_half_value(dtype, at + 1);
        const float middle = low + (high - low) / 2;
        x[n++] = middle;
        x[n++] = nextafterf(middle, 0);
        x[n++] = -nextafterf(middle, INFINITY);
        x[n++] = (float)ldexp(test_value(32, i), (int)test_below(33, i, 250) - 140);
    }
    const float special[] = {0,       -0.0f,    INFINITY, -INFINITY, 65504,  65519.99f, 65520, -65520,  65536,
                             3.4e38f, 3.39e38f, FLT_MAX,  FLT_MIN,   1e-45f, -1e-45f,   6e-8f, 2.98e-8f};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) x[n++] = special[i];
    return n;
}

static void test_narrowing_rounds_to_nearest_even(void **state) {
    (void)state;
    float *x = test_alloc(20000, sizeof *x);
    uint16_t *narrow = test_alloc(20000, sizeof *narrow);
    for (kv_dtype dtype = KV_BF16; dtype <= KV_F16; dtype++) {
        const int64_t n = rounding_cases(dtype, x);
        kv_narrow(narrow, x, dtype, n);
        for (int64_t i = 0; i < n; i++) {
            const uint16_t expected = test_half_nearest(dtype, (double)x[i]);
            if (narrow[i] != expected)
                fail_msg("%.9g (%a) became %s %04x, expected %04x", (double)x[i], (double)x[i],
                         kv_dtype_name(dtype), narrow[i], expected);
        }
        // All-ones payloads must not carry into infinity or zero.
        const uint32_t patterns[] = {0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x7FFFFFFF, 0x7F80FFFF, 0xFF800001};
        for (int i = 0; i < 6; i++) {
            memcpy(x, &patterns[i], 4);
            kv_narrow(narrow, x, dtype, 1);
            assert_true(isnan(test_half_value(dtype, narrow[0])));
        }
    }
    free(x);
    free(narrow);
}

// ---- Random numbers ------------------------------------------------------------------------------------

// Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors): counter, key → output. The
// key is the seed, the counter (index, stream), low word first.
static void test_philox_known_answers(void **state) {
    (void)state;
    const struct {
        kv_rng rng;
        uint64_t index;
        uint32_t out[4];
    } known[] = {
        {{0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{UINT64_MAX, UINT64_MAX}, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x299f31d0a4093822, 0x0370734413198a2e},
         0x85a308d3243f6a88,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        kv_rng_block(known[i].rng, known[i].index, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static void test_many_blocks_equal_single_ones(void **state) {
    (void)state;
    static const uint64_t starts[] = {0, 5, 0xffffffffu - 20, UINT64_MAX - 60};
    const kv_rng rng = {.seed = 0x123456789abcdefu, .stream = 0xfedcba987654321u};
    for (int s = 0; s < 4; s++)
        for (int64_t n = 0; n < 50; n++) {
            uint32_t many[4 * 50], one[4];
            kv_rng_blocks(rng, starts[s], n, many);
            for (int64_t b = 0; b < n; b++) {
                kv_rng_block(rng, starts[s] + (uint64_t)b, one);
                assert_memory_equal(many + 4 * b, one, sizeof one);
            }
        }
}

static void test_streams_differ_and_repeat(void **state) {
    (void)state;
    const kv_rng a = kv_rng_stream(1, "layers.0.attn.q"), again = kv_rng_stream(1, "layers.0.attn.q");
    const kv_rng others[] = {kv_rng_stream(1, "layers.1.attn.q"), kv_rng_stream(2, "layers.0.attn.q"),
                             kv_rng_stream(1, ""), kv_rng_stream(1, "layers.0.attn.k")};
    for (uint64_t i = 0; i < 50; i++) {
        assert_true(kv_rng_uniform(a, i) == kv_rng_uniform(again, i));
        assert_true(kv_rng_normal(a, i) == kv_rng_normal(again, i));
        for (int o = 0; o < 4; o++) assert_true(kv_rng_uniform(a, i) != kv_rng_uniform(others[o], i));
    }
}

// With 10^5 draws the mean of anything with unit variance is within 0.02 of the truth but once in 10^9.
static void test_uniform_and_normal(void **state) {
    (void)state;
    enum { N = 100000 };
    const kv_rng rng = kv_rng_stream(7, "moments");
    double u1 = 0, u2 = 0, lag = 0, n1 = 0, n2 = 0, n4 = 0, beyond = 0, before = 0.5;
    int fine_bits = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double u = kv_rng_uniform(rng, i), z = kv_rng_normal(rng, i);
        assert_true(u >= 0 && u < 1 && isfinite(z));
        u1 += u - 0.5;
        u2 += (u - 0.5) * (u - 0.5);
        lag += (u - 0.5) * (before - 0.5);
        before = u;
        n1 += z;
        n2 += z * z;
        n4 += z * z * z * z;
        beyond += fabs(z) > 1.959964;
        fine_bits += fmod(u * 0x1p53, 2) != 0;
    }
    rounding_expect("mean of uniforms", u1 / N, 0, chance_of_mean(1.0 / 12, N));
    rounding_expect("variance", u2 / N, 1.0 / 12, chance_of_mean(1.0 / 180, N));
    rounding_expect("covariance with the one before", lag / N, 0, chance_of_mean(1.0 / 144, N));
    rounding_expect("mean of normals", n1 / N, 0, chance_of_mean(1, N));
    rounding_expect("variance", n2 / N, 1, chance_of_mean(2, N));
    rounding_expect("fourth moment", n4 / N, 3, chance_of_mean(96, N));
    rounding_expect("part beyond 1.96", beyond / N, 0.05, chance_of_mean(0.05 * 0.95, N));
    assert_in_range(fine_bits, N * 48 / 100, N * 52 / 100); // the 53rd bit is random too
}

static void test_bounded(void **state) {
    (void)state;
    const kv_rng rng = kv_rng_stream(3, "below");
    const uint64_t bounds[] = {1, 2, 3, 10, 1000, (uint64_t)1 << 40, UINT64_MAX};
    for (int b = 0; b < 7; b++)
        for (uint64_t i = 0; i < 2000; i++) assert_true(kv_rng_below(rng, i, bounds[b]) < bounds[b]);
    int count[10] = {0};
    for (uint64_t i = 0; i < 50000; i++) count[kv_rng_below(rng, i, 10)]++;
    for (int i = 0; i < 10; i++) assert_in_range(count[i], 4600, 5400); // 5000 ± 6 standard deviations
    // The top of a range wider than 32 bits is reached.
    uint64_t greatest = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        const uint64_t x = kv_rng_below(rng, i, (uint64_t)1 << 40);
        greatest = x > greatest ? x : greatest;
    }
    assert_true(greatest > ((uint64_t)1 << 40) / 10 * 9);
}

static void test_permutation(void **state) {
    (void)state;
    const int64_t sizes[] = {0, 1, 2, 5, 1000};
    for (int s = 0; s < 5; s++) {
        const int64_t n = sizes[s];
        int64_t *p = test_alloc(n, sizeof *p);
        uint8_t *seen = test_alloc(n, 1);
        kv_rng_permutation(kv_rng_stream(1, "order"), n, p);
        for (int64_t i = 0; i < n; i++) {
            assert_in_range(p[i], 0, n - 1);
            assert_false(seen[p[i]]);
            seen[p[i]] = 1;
        }
        free(p);
        free(seen);
    }
    // All six orders of three come up, about as often.
    int count[27] = {0};
    for (uint64_t seed = 0; seed < 6000; seed++) {
        int64_t p[3];
        kv_rng_permutation((kv_rng){.seed = seed}, 3, p);
        count[p[0] * 9 + p[1] * 3 + p[2]]++;
    }
    const int orders[] = {5, 7, 11, 15, 19, 21};
    for (int i = 0; i < 6; i++) assert_in_range(count[orders[i]], 820, 1180);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_memory_is_aligned_and_separate),
        cmocka_unit_test(test_arena_refuses_absurd_sizes),
        cmocka_unit_test(test_arena_marks),
        cmocka_unit_test(test_arena_settles_after_one_step),
        cmocka_unit_test(test_dtype_names),
        cmocka_unit_test(test_every_half_widens_and_comes_back),
        cmocka_unit_test(test_narrowing_rounds_to_nearest_even),
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_many_blocks_equal_single_ones),
        cmocka_unit_test(test_streams_differ_and_repeat),
        cmocka_unit_test(test_uniform_and_normal),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_permutation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
