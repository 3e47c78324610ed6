// Sampling: the distribution drawn from, where the nucleus ends, and that a sample is nobody's business but
// its own.
#include "infer/generate.h"

#include "core/rng.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 6, DRAWS = 20000 };

static const float logits_of_six[SMALL] = {0.5f, -1, 2, 1, -3, 0};

// How often each token came in DRAWS draws from one stream.
static void count_draws(const float *logits, const kv_sampling *how, int64_t counts[SMALL]) {
    kv_token_candidate room[SMALL];
    memset(counts, 0, SMALL * sizeof *counts);
    for (uint64_t i = 0; i < DRAWS; i++) {
        int32_t id = kv_sample(logits, SMALL, how, 3, i, room);
        assert_in_range(id, 0, SMALL - 1);
        counts[id]++;
    }
}

// Σ (observed - expected)² / expected over tokens that can come; the others must not.
static double chi_square(const int64_t *counts, const double *p) {
    double sum = 0;
    for (int i = 0; i < SMALL; i++) {
        const double expected = p[i] * DRAWS, off = (double)counts[i] - expected;
        if (p[i] == 0)
            assert_int_equal(counts[i], 0);
        else
            sum += off * off / expected;
    }
    return sum;
}

static void softmax(const float *logits, double temperature, double *p) {
    double total = 0;
    for (int i = 0; i < SMALL; i++) total += p[i] = exp((double)logits[i] / temperature);
    for (int i = 0; i < SMALL; i++) p[i] /= total;
}

// 99.9th percentiles of χ² with 5 and 2 degrees of freedom.
static const double bound_five = 20.52, bound_two = 13.82;

static void test_distribution(void **state) {
    (void)state;
    static const double temperatures[] = {0.4, 1, 3};
    for (int t = 0; t < 3; t++) {
        const kv_sampling how = {.temperature = temperatures[t], .top_p = 1, .seed = 11};
        int64_t counts[SMALL];
        double p[SMALL];
        count_draws(logits_of_six, &how, counts);
        softmax(logits_of_six, how.temperature, p);
        assert_true(chi_square(counts, p) < bound_five);
    }
}

static void test_nucleus_distribution(void **state) {
    (void)state;
    // Tokens 2, 3 and 0 hold 0.56, 0.21 and 0.12 of the mass.
    const kv_sampling how = {.temperature = 1, .top_p = 0.85, .seed = 12};
    int64_t counts[SMALL];
    double p[SMALL];
    count_draws(logits_of_six, &how, counts);
    softmax(logits_of_six, 1, p);
    const double mass = p[2] + p[3] + p[0];
    assert_true(p[2] + p[3] < how.top_p && mass > how.top_p);
    for (int i = 0; i < SMALL; i++) p[i] = i == 2 || i == 3 || i == 0 ? p[i] / mass : 0;
    assert_true(chi_square(counts, p) < bound_two);
}

// Which tokens can come, as bits.
static unsigned reachable(const float *logits, double top_p) {
    const kv_sampling how = {.temperature = 1, .top_p = top_p, .seed = 13};
    int64_t counts[SMALL];
    unsigned bits = 0;
    count_draws(logits, &how, counts);
    for (unsigned i = 0; i < SMALL; i++) bits |= (counts[i] > 0) << i;
    return bits;
}

static void test_nucleus_ends_exactly(void **state) {
    (void)state;
    // Four equal tokens, a quarter of the mass each: sums of them are exact.
    static const float equal[SMALL] = {2, -INFINITY, 2, 2, -INFINITY, 2};
    assert_int_equal(reachable(equal, 1), 0x2D);
    assert_int_equal(reachable(equal, 0.75), 0x0D); // 0, 2, 3: ties in the order of ids
    assert_int_equal(reachable(equal, 0.750001), 0x2D);
    assert_int_equal(reachable(equal, 0.5), 0x05);
    assert_int_equal(reachable(equal, 0.25), 0x01);
    assert_int_equal(reachable(equal, 1e-9), 0x01); // never empty
    // Just under and just over the mass of the first two of six different ones.
    double p[SMALL];
    softmax(logits_of_six, 1, p);
    assert_int_equal(reachable(logits_of_six, p[2] + p[3] - 1e-12), 0x0C);
    assert_int_equal(reachable(logits_of_six, p[2] + p[3] + 1e-12), 0x0D);
}

// ---- top_k, min_p, and all three together --------------------------------------------------------------

// What should be drawn how often, straight from the definition: tokens in order of probability (equal ones by
// id), cut after k, cut where the nucleus of those is full, cut below min_p of the first.
static void expected_shares(const float *logits, const kv_sampling *how, double *p) {
    int order[SMALL];
    softmax(logits, how->temperature, p);
    for (int i = 0; i < SMALL; i++) {
        int place = i;
        for (; place > 0 && p[order[place - 1]] < p[i]; place--) order[place] = order[place - 1];
        order[place] = i;
    }
    int kept = how->top_k > 0 && how->top_k < SMALL ? (int)how->top_k : SMALL;
    double total = 0, mass = 0;
    for (int i = 0; i < kept; i++) total += p[order[i]];
    int nucleus = 0;
    while (nucleus < kept && (nucleus == 0 || mass < how->top_p * total)) mass += p[order[nucleus++]];
    if (how->top_p < 1) kept = nucleus;
    while (p[order[kept - 1]] < how->min_p * p[order[0]]) kept--;
    double left = 0;
    for (int i = 0; i < kept; i++) left += p[order[i]];
    for (int i = 0; i < SMALL; i++) p[order[i]] = i < kept ? p[order[i]] / left : 0;
}

static void test_all_limits_together(void **state) {
    (void)state;
    static const float tied[SMALL] = {1, 0, 1, 1, 0, 0.5f};
    static const double nuclei[] = {1, 0.9, 0.6, 0.05}, floors[] = {0, 0.05, 0.3, 0.7, 1};
    // 99.99th percentiles of χ² with 1 to 5 degrees of freedom: there are 320 tries.
    static const double bounds[] = {0, 15.2, 18.5, 21.2, 23.6, 25.8};
    for (int64_t k = 0; k <= SMALL + 1; k++)
        for (int a = 0; a < 4; a++)
            for (int b = 0; b < 5; b++)
                for (int which = 0; which < 2; which++) {
                    const kv_sampling how = {
                        .temperature = 1.1, .top_p = nuclei[a], .seed = 14, .top_k = k, .min_p = floors[b]};
                    const float *logits = which ? tied : logits_of_six;
                    int64_t counts[SMALL];
                    double p[SMALL];
                    expected_shares(logits, &how, p);
                    int possible = 0;
                    for (int i = 0; i < SMALL; i++) possible += p[i] > 0;
                    count_draws(logits, &how, counts);
                    const double distance = chi_square(counts, p); // the others never come
                    if (distance > bounds[possible - 1] + 1e-9)
                        fail_msg("top_k %d, top_p %g, min_p %g: %g", (int)k, nuclei[a], floors[b], distance);
                }
}

static void test_limits_of_a_large_vocabulary(void **state) {
    (void)state;
    enum { VOCABULARY = 5000 };
    static float logits[VOCABULARY];
    static kv_token_candidate room[VOCABULARY];
    for (int i = 0; i < VOCABULARY; i++) logits[i] = (float)test_value(15, i) * 4;
    int64_t best[3] = {0};
    for (int n = 0; n < 3; n++) {
        for (int64_t i = 0; i < VOCABULARY; i++) {
            bool before = false;
            for (int m = 0; m < n; m++) before = before || best[m] == i;
            if (!before && (best[n] == 0 || logits[i] > logits[best[n]])) best[n] = i;
        }
    }
    int64_t seen[3] = {0};
    for (uint64_t i = 0; i < 300; i++) {
        const kv_sampling how = {.temperature = 2, .top_p = 1, .seed = 3, .top_k = 3};
        const int32_t id = kv_sample(logits, VOCABULARY, &how, 0, i, room);
        for (int m = 0; m < 3; m++) seen[m] += id == best[m];
        // Half as probable as the best at least, whatever comes.
        const kv_sampling half = {.temperature = 2, .top_p = 1, .seed = 3, .min_p = 0.5};
        const int32_t near = kv_sample(logits, VOCABULARY, &half, 0, i, room);
        assert_true(exp(((double)logits[near] - (double)logits[best[0]]) / 2) >= 0.5);
    }
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0 && seen[0] + seen[1] + seen[2] == 300);
}

static void test_cold_limit(void **state) {
    (void)state;
    kv_token_candidate room[SMALL];
    static const float tied[SMALL] = {-1, 3, 3, 2.9999f, 0, 3};
    const kv_sampling greedy = {0};
    assert_int_equal(kv_sample(logits_of_six, SMALL, &greedy, 0, 0, NULL), 2);
    assert_int_equal(kv_sample(tied, SMALL, &greedy, 0, 0, NULL), 1);
    static const double cold[] = {1e-3, 1e-30, DBL_MIN};
    for (int t = 0; t < 3; t++)
        for (uint64_t i = 0; i < 200; i++) {
            const kv_sampling how = {.temperature = cold[t], .top_p = 1, .seed = i};
            assert_int_equal(kv_sample(logits_of_six, SMALL, &how, 0, i, room), 2);
        }
    // Hot: all alike.
    const kv_sampling hot = {.temperature = 1e30, .top_p = 1, .seed = 5};
    int64_t counts[SMALL];
    count_draws(logits_of_six, &hot, counts);
    assert_true(chi_square(counts, (const double[]){1 / 6., 1 / 6., 1 / 6., 1 / 6., 1 / 6., 1 / 6.}) <
                bound_five);
}

static void test_extreme_logits(void **state) {
    (void)state;
    static const struct {
        float logits[SMALL];
        unsigned allowed;
    } cases[] = {
        {{0, INFINITY, 1, INFINITY, -INFINITY, 2}, 0x0A},
        {{NAN, 1, NAN, NAN, NAN, 1}, 0x22},
        {{-INFINITY, -INFINITY, -INFINITY, 7, -INFINITY, -INFINITY}, 0x08},
        {{FLT_MAX, -FLT_MAX, 0, FLT_MAX, 1, 2}, 0x09},
        {{-FLT_MAX, -FLT_MAX, -INFINITY, -FLT_MAX, -FLT_MAX, -FLT_MAX}, 0x3B},
        {{NAN, INFINITY, 0, 0, 0, 0}, 0x02},
        // Nothing can be drawn: the argmax, the first.
        {{-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY}, 0x01},
        {{NAN, NAN, NAN, NAN, NAN, NAN}, 0x01},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        assert_int_equal(reachable(cases[c].logits, 1), cases[c].allowed);
        assert_int_equal(reachable(cases[c].logits, 0.9) & ~cases[c].allowed, 0);
    }
}

// ---- A large vocabulary --------------------------------------------------------------------------------

enum { LARGE = 5000 };

static int by_probability(const void *left, const void *right) {
    const kv_token_candidate *a = left, *b = right;
    if (a->weight != b->weight) return a->weight > b->weight ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static double sum_of(const kv_token_candidate *c, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += c[i].weight;
    return sum;
}

// The least probable first, as those that were taken stand.
static void reverse(kv_token_candidate *c, int64_t n) {
    for (int64_t i = 0; i < n / 2; i++) {
        const kv_token_candidate kept = c[i];
        c[i] = c[n - 1 - i], c[n - 1 - i] = kept;
    }
}

// By sorting all of them.
static int32_t sample_by_sorting(const float *logits, const kv_sampling *how, uint64_t position) {
    static kv_token_candidate c[LARGE];
    float max = -INFINITY;
    int64_t n = LARGE, kept = 0;
    for (int i = 0; i < LARGE; i++) max = fmaxf(max, logits[i]);
    for (int i = 0; i < LARGE; i++)
        c[i] = (kv_token_candidate){exp(((double)logits[i] - (double)max) / how->temperature), i};
    if (how->top_k > 0 && how->top_k < n) {
        qsort(c, LARGE, sizeof *c, by_probability);
        reverse(c, n = how->top_k);
    }
    if (how->top_p < 1) {
        const double enough = how->top_p * sum_of(c, n);
        double mass = 0;
        qsort(c, (size_t)n, sizeof *c, by_probability);
        for (kept = 0; kept == 0 || mass < enough; kept++) mass += c[kept].weight;
        reverse(c, n = kept);
    }
    kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (c[i].weight >= how->min_p) c[kept++] = c[i];
    const kv_rng rng = {.seed = how->seed, .stream = 8};
    double left = kv_rng_uniform(rng, position) * sum_of(c, kept);
    for (int64_t i = 0; i + 1 < kept; i++)
        if ((left -= c[i].weight) < 0) return c[i].id;
    return c[kept - 1].id;
}

// What is drawn is what sorting the whole vocabulary gives, to the bit, however flat it is and wherever equals stand.
static void test_as_by_sorting(void **state) {
    (void)state;
    static float logits[LARGE];
    static kv_token_candidate room[LARGE];
    static const kv_sampling ways[] = {{.top_p = 1},
                                       {.top_p = 0.95},
                                       {.top_p = 0.3},
                                       {.top_p = 0.999999},
                                       {.top_p = 1, .top_k = 40},
                                       {.top_p = 0.9, .top_k = 3000},
                                       {.top_p = 1, .top_k = LARGE},
                                       {.top_p = 0.95, .min_p = 0.02},
                                       {.top_p = 0.5, .top_k = 1}};
    static const double temperatures[] = {0.05, 0.8, 30};
    const kv_rng rng = {.seed = 31};
    for (int i = 0; i < LARGE; i++) logits[i] = (float)(8 * kv_rng_normal(rng, (uint64_t)i));
    for (int i = 0; i < LARGE; i += 7) logits[i] = roundf(logits[i]); // many are equal
    for (int t = 0; t < 3; t++)
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            kv_sampling how = ways[w];
            how.temperature = temperatures[t], how.seed = 5;
            for (uint64_t position = 0; position < 40; position++)
                assert_int_equal(kv_sample(logits, LARGE, &how, 8, position, room),
                                 sample_by_sorting(logits, &how, position));
        }
    // The first of the largest, wherever it stands.
    for (int at = 0; at < 70; at++) {
        int32_t id;
        logits[at] = 100, logits[at + 9] = 100;
        kv_argmax(logits, 1, LARGE, &id);
        assert_int_equal(id, at);
        kv_argmax(logits, 1, at + 1, &id); // at the end of a row of any length
        assert_int_equal(id, at);
        logits[at] = -1;
    }
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        kv_sampling how;
        const char *message;
    } cases[] = {
        {{.temperature = -1, .top_p = 1}, "temperature: found -1, expected 0 (greedy) or a positive number"},
        {{.temperature = NAN, .top_p = 1},
         "temperature: found nan, expected 0 (greedy) or a positive number"},
        {{.temperature = INFINITY, .top_p = 1},
         "temperature: found inf, expected 0 (greedy) or a positive number"},
        {{.temperature = 1, .top_p = 0}, "top_p: found 0, expected more than 0 and at most 1"},
        {{.temperature = 1, .top_p = 1.5}, "top_p: found 1.5, expected more than 0 and at most 1"},
        {{.temperature = 1, .top_p = 1, .top_k = -3},
         "top_k: found -3, expected 0 (all tokens) or a positive number"},
        {{.temperature = 1, .top_p = 1, .min_p = 1.5}, "min_p: found 1.5, expected a number from 0 to 1"},
        {{.temperature = 1, .top_p = 1, .min_p = NAN}, "min_p: found nan, expected a number from 0 to 1"},
        {{.temperature = 1, .top_p = NAN}, "top_p: found nan, expected more than 0 and at most 1"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        kv_error err = {0};
        assert_int_equal(kv_sampling_check(&cases[c].how, &err), KV_ERR_ARGUMENT);
        assert_string_equal(err.message, cases[c].message);
    }
    assert_int_equal(kv_sampling_check(&(kv_sampling){0}, NULL), KV_OK);
}

// ---- Generation ----------------------------------------------------------------------------------------

enum { LONG = 8, PROMPT = 5, SEQUENCES = 3 };

static void generate(const kv_system *system, const int32_t *ids, int64_t n_seq, const uint64_t *streams,
                     const kv_sampling *sampling, int32_t *generated) {
    kv_error err = {0};
    kv_session *session;
    int64_t lengths[SEQUENCES], n[SEQUENCES];
    for (int64_t s = 0; s < n_seq; s++) lengths[s] = PROMPT;
    if (kv_session_create(system, n_seq, 2 * LONG, &session, &err)) fail_msg("%s", err.message);
    const kv_generation how = {.max_tokens = LONG, .sampling = *sampling, .streams = streams};
    for (int again = 0; again < 2; again++) { // what was drawn before leaves no trace
        if (kv_generate(session, ids, lengths, &how, generated, n, &err)) fail_msg("%s", err.message);
        for (int64_t s = 0; s < n_seq; s++) assert_int_equal(n[s], LONG);
    }
    kv_session_free(session);
}

static void test_batch_independence(void **state) {
    (void)state;
    kv_model_spec spec = tiny_base();
    const kv_system system = {.base = tiny_model(&spec, 1)};
    const kv_sampling sampling = {.temperature = 1.3, .top_p = 0.95, .seed = 21};
    int32_t ids[SEQUENCES * PROMPT], batch[SEQUENCES * LONG], own[LONG], other[LONG];
    tiny_ids(ids, PROMPT, spec.vocab_size, 4); // the same prompt thrice
    for (int s = 1; s < SEQUENCES; s++) memcpy(ids + s * PROMPT, ids, PROMPT * sizeof *ids);
    const uint64_t streams[SEQUENCES] = {40, 7, 40};
    generate(&system, ids, SEQUENCES, streams, &sampling, batch);
    for (int s = 0; s < SEQUENCES; s++) {
        generate(&system, ids, 1, &streams[s], &sampling, own);
        assert_memory_equal(own, batch + s * LONG, sizeof own);
    }
    assert_memory_equal(batch, batch + 2 * LONG, sizeof own);     // one stream, one sample
    assert_memory_not_equal(batch, batch + 1 * LONG, sizeof own); // and another
    // No streams: 0, 1, …; another seed is another sample.
    generate(&system, ids, SEQUENCES, NULL, &sampling, batch);
    generate(&system, ids, 1, &(const uint64_t){2}, &sampling, own);
    assert_memory_equal(own, batch + 2 * LONG, sizeof own);
    const kv_sampling reseeded = {.temperature = 1.3, .top_p = 0.95, .seed = 22};
    generate(&system, ids, 1, &(const uint64_t){2}, &reseeded, other);
    assert_memory_not_equal(own, other, sizeof own);
    // Cold sampling is greedy decoding.
    const kv_sampling cold = {.temperature = 1e-6, .top_p = 1, .seed = 3}, greedy = {0};
    generate(&system, ids, 1, NULL, &cold, own);
    generate(&system, ids, 1, NULL, &greedy, other);
    assert_memory_equal(own, other, sizeof own);

    kv_error err = {0};
    kv_session *session;
    int64_t n = 5;
    assert_int_equal(kv_session_create(&system, 1, 8, &session, &err), KV_OK);
    const kv_generation bad = {.max_tokens = 2, .sampling = {.temperature = 1, .top_p = 2}};
    assert_int_equal(kv_generate(session, ids, &n, &bad, own, &n, &err), KV_ERR_ARGUMENT);
    assert_int_equal(n, 0);
    kv_session_free(session);
    kv_model_free(system.base);
}

// Rows that pad the vocabulary are never drawn, however probable the model thinks them.
static void test_padding_is_never_drawn(void **state) {
    (void)state;
    kv_model_spec spec = tiny_base();
    const kv_system system = {.base = tiny_model(&spec, 1)};
    kv_error err = {0};
    kv_session *session;
    int32_t ids[PROMPT], free_run[LONG], kept[LONG];
    int64_t length = PROMPT, n;
    tiny_ids(ids, PROMPT, 20, 4);
    assert_int_equal(kv_session_create(&system, 1, 2 * LONG, &session, &err), KV_OK);
    for (int sampled = 0; sampled < 2; sampled++) {
        kv_generation how = {.max_tokens = LONG,
                             .sampling = {.temperature = sampled ? 2 : 0, .top_p = 1, .seed = 5}};
        assert_int_equal(kv_generate(session, ids, &length, &how, free_run, &n, &err), KV_OK);
        int32_t largest = 0;
        for (int i = 0; i < LONG; i++) largest = free_run[i] > largest ? free_run[i] : largest;
        how.n_ids = largest; // the largest one itself may not come any more
        assert_int_equal(kv_generate(session, ids, &length, &how, kept, &n, &err), KV_OK);
        assert_int_equal(n, LONG);
        for (int i = 0; i < LONG; i++) assert_true(kept[i] < largest);
        how.n_ids = largest + 1;
        if (!sampled) { // greedy: those that were left out had not been chosen anyway
            assert_int_equal(kv_generate(session, ids, &length, &how, kept, &n, &err), KV_OK);
            assert_memory_equal(kept, free_run, sizeof kept);
        }
    }
    static const int64_t wrong[] = {-1, 62};
    for (int i = 0; i < 2; i++) {
        const kv_generation how = {.max_tokens = 1, .n_ids = wrong[i]};
        assert_int_equal(kv_generate(session, ids, &length, &how, kept, &n, &err), KV_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "expected at most the vocabulary's 61"));
    }
    kv_session_free(session);
    kv_model_free(system.base);
}

// A conversation read turn by turn, each behind what is in the cache already, gives what reading it whole
// from the start gives; also when its end is taken back and told anew.
static void test_turns_equal_reading_anew(void **state) {
    (void)state;
    enum { FIRST = 5, SECOND = 7, TURN = 4 };
    kv_model_spec spec = tiny_base();
    const kv_system system = {.base = tiny_model(&spec, 1)};
    kv_error err = {0};
    kv_session *session, *anew;
    int32_t ids[FIRST + TURN + SECOND], turn[TURN], whole[TURN];
    const int64_t first = FIRST, all = FIRST + TURN + SECOND;
    int64_t n;
    const kv_generation how = {.max_tokens = TURN};
    const kv_generation on = {.max_tokens = TURN, .append = true};
    tiny_ids(ids, FIRST, spec.vocab_size, 4);
    tiny_ids(ids + FIRST + TURN, SECOND, spec.vocab_size, 5);
    assert_int_equal(kv_session_create(&system, 1, 32, &session, &err), KV_OK);
    assert_int_equal(kv_session_create(&system, 1, 32, &anew, &err), KV_OK);
    assert_int_equal(kv_generate(session, ids, &first, &how, ids + FIRST, &n, &err), KV_OK);
    assert_int_equal(kv_session_length(session, 0), FIRST + TURN - 1); // the newest one has not been read
    assert_int_equal(kv_generate(anew, ids, &all, &how, whole, &n, &err), KV_OK);
    for (int64_t kept = FIRST + TURN - 1; kept >= 1; kept -= 3) {
        const int64_t rest = all - kept;
        kv_session_rewind(session, kept);
        assert_int_equal(kv_session_length(session, 0), kept);
        assert_int_equal(kv_generate(session, ids + kept, &rest, &on, turn, &n, &err), KV_OK);
        assert_memory_equal(turn, whole, sizeof turn);
        assert_int_equal(kv_session_length(session, 0), all + TURN - 1);
    }
    kv_session_rewind(session, 100); // longer than it is: nothing happens
    assert_int_equal(kv_session_length(session, 0), all + TURN - 1);
    kv_session_free(session);
    kv_session_free(anew);
    kv_model_free(system.base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_nucleus_distribution),
        cmocka_unit_test(test_nucleus_ends_exactly),
        cmocka_unit_test(test_all_limits_together),
        cmocka_unit_test(test_limits_of_a_large_vocabulary),
        cmocka_unit_test(test_cold_limit),
        cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_as_by_sorting),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_batch_independence),
        cmocka_unit_test(test_padding_is_never_drawn),
        cmocka_unit_test(test_turns_equal_reading_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
