// Temperature, then top-k, top-p and min-p on a heap of candidates: few of a large vocabulary are ever looked
// at.
#include "infer/session/sample.h"

#include "core/rng.h"

#include <math.h>
#include <stdbool.h>

kv_status kv_sampling_check(const kv_sampling *how, kv_error *err) {
    if (!(how->temperature >= 0) || isinf(how->temperature))
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "temperature: found %g, expected 0 (greedy) or a positive number", how->temperature);
    if (how->temperature > 0 && !(how->top_p > 0 && how->top_p <= 1))
        return kv_fail(err, KV_ERR_ARGUMENT, "top_p: found %g, expected more than 0 and at most 1",
                       how->top_p);
    if (how->temperature > 0 && how->top_k < 0)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "top_k: found %lld, expected 0 (all tokens) or a positive number",
                       (long long)how->top_k);
    if (how->temperature > 0 && !(how->min_p >= 0 && how->min_p <= 1))
        return kv_fail(err, KV_ERR_ARGUMENT, "min_p: found %g, expected a number from 0 to 1", how->min_p);
    return KV_OK;
}

// e^((z - max) / temperature) of every token that can be drawn; returns their number.
static int64_t weigh(const float *logits, int64_t vocab_size, double temperature,
                     kv_token_candidate *candidates) {
    float max = -INFINITY;
    for (int64_t i = 0; i < vocab_size; i++) max = logits[i] > max ? logits[i] : max;
    int64_t n = 0;
    for (int64_t i = 0; i < vocab_size; i++) {
        if (!(logits[i] > -INFINITY)) continue; // NaN too
        double weight = 1;                      // of the maximum, which may be infinite
        if (logits[i] < max) weight = exp(((double)logits[i] - (double)max) / temperature);
        if (weight <= 0) continue;
        candidates[n++] = (kv_token_candidate){weight, (int32_t)i};
    }
    return n;
}

// ---- Who stays -----------------------------------------------------------------------------------------

static bool precedes(const kv_token_candidate *a, const kv_token_candidate *b) {
    return a->weight > b->weight || (a->weight == b->weight && a->id < b->id);
}

static void exchange(kv_token_candidate *a, kv_token_candidate *b) {
    const kv_token_candidate kept = *a;
    *a = *b;
    *b = kept;
}

// Lets candidate i of a heap of n sink to its place; the first is on top.
static void sink(kv_token_candidate *heap, int64_t n, int64_t i) {
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && precedes(&heap[child + 1], &heap[child])) child++;
        if (!precedes(&heap[child], &heap[i])) return;
        exchange(&heap[child], &heap[i]);
    }
}

// Takes the `most` most probable of the candidates: they end up, the last taken first, at the end of the
// array. A heap, because few are wanted and the vocabulary is large.
static void take_first(kv_token_candidate *candidates, int64_t n, int64_t most) {
    for (int64_t i = n / 2; i-- > 0;) sink(candidates, n, i);
    for (int64_t left = n; left > n - most;) {
        exchange(&candidates[0], &candidates[--left]);
        sink(candidates, left, 0);
    }
}

// The same for as many as it takes to have `enough` mass together, at least one. Returns their number.
static int64_t take_mass(kv_token_candidate *candidates, int64_t n, double enough) {
    for (int64_t i = n / 2; i-- > 0;) sink(candidates, n, i);
    int64_t left = n;
    for (double mass = 0; left > 0 && (left == n || mass < enough);) {
        mass += candidates[0].weight;
        exchange(&candidates[0], &candidates[--left]);
        sink(candidates, left, 0);
    }
    return n - left;
}

static double mass_of(const kv_token_candidate *candidates, int64_t n) {
    double mass = 0;
    for (int64_t i = 0; i < n; i++) mass += candidates[i].weight;
    return mass;
}

// Leaves those that top_k, top_p and min_p let pass in *candidates (moved on to the first); their number.
static int64_t keep(kv_token_candidate **candidates, int64_t n, const kv_sampling *how) {
    if (how->top_k > 0 && how->top_k < n) {
        take_first(*candidates, n, how->top_k);
        *candidates += n - how->top_k;
        n = how->top_k;
    }
    if (how->top_p < 1) {
        const int64_t kept = take_mass(*candidates, n, how->top_p * mass_of(*candidates, n));
        *candidates += n - kept;
        n = kept;
    }
    int64_t kept = 0; // weights are relative to the largest
    for (int64_t i = 0; i < n; i++)
        if ((*candidates)[i].weight >= how->min_p) (*candidates)[kept++] = (*candidates)[i];
    return kept;
}

// ---- Drawing -------------------------------------------------------------------------------------------

int32_t kv_sample(const float *logits, int64_t vocab_size, const kv_sampling *how, uint64_t stream,
                  uint64_t position, kv_token_candidate *candidates) {
    int32_t greedy;
    kv_argmax(logits, 1, vocab_size, &greedy);
    if (how->temperature == 0) return greedy;
    int64_t n = weigh(logits, vocab_size, how->temperature, candidates);
    if (n == 0) return greedy;
    n = keep(&candidates, n, how);
    const kv_rng rng = {.seed = how->seed, .stream = stream};
    double left = kv_rng_uniform(rng, position) * mass_of(candidates, n);
    for (int64_t i = 0; i + 1 < n; i++) {
        left -= candidates[i].weight;
        if (left < 0) return candidates[i].id;
    }
    return candidates[n - 1].id;
}

void kv_argmax(const float *logits, int64_t n, int64_t vocab_size, int32_t *ids) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = logits + i * vocab_size;
        int64_t best = 0;
        for (int64_t j = 1; j < vocab_size; j++)
            if (row[j] > row[best]) best = j;
        ids[i] = (int32_t)best;
    }
}
