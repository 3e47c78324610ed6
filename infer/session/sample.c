// Temperature, then top-k, top-p and min-p on a heap of those that can be among them: few of a large vocabulary.
#include "infer/session/sample.h"

#include "core/rng.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

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

// NaN is never the largest; -inf when there is nothing else. Lane by lane, as a compiler may not reorder it by itself.
static float largest(const float *row, int64_t n) {
    enum { LANES = 16 };
    float lanes[LANES], max = -INFINITY;
    for (int l = 0; l < LANES; l++) lanes[l] = -INFINITY;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] = row[i + l] > lanes[l] ? row[i + l] : lanes[l];
    for (int l = 0; l < LANES; l++) max = lanes[l] > max ? lanes[l] : max;
    for (; i < n; i++) max = row[i] > max ? row[i] : max;
    return max;
}

// e^((z - max) / temperature) of every token that can be drawn; returns their number.
static int64_t weigh(const float *logits, int64_t vocab_size, double temperature,
                     kv_token_candidate *candidates) {
    const float max = largest(logits, vocab_size);
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

static double mass_of(const kv_token_candidate *candidates, int64_t n) {
    double mass = 0;
    for (int64_t i = 0; i < n; i++) mass += candidates[i].weight;
    return mass;
}

// Brings those of at least this weight to the front; returns how many they are.
static int64_t bring_forward(kv_token_candidate *candidates, int64_t n, double least) {
    int64_t front = 0;
    for (int64_t i = 0; i < n; i++)
        if (candidates[i].weight >= least) exchange(&candidates[front++], &candidates[i]);
    return front;
}

// Takes the most probable of the candidates, until there are `most` of them or they have `enough` mass together, at
// least one. Returns their number; they end up, the last taken first, behind those left over. A heap, because few are
// wanted and the vocabulary is large.
static int64_t take(kv_token_candidate *candidates, int64_t n, int64_t most, double enough) {
    for (int64_t i = n / 2; i-- > 0;) sink(candidates, n, i);
    int64_t left = n;
    for (double mass = 0; left > 0 && n - left < most && (left == n || mass < enough);) {
        mass += candidates[0].weight;
        exchange(&candidates[0], &candidates[--left]);
        sink(candidates, left, 0);
    }
    return n - left;
}

// The same, in *candidates, which moves on to the first of them. Those that it takes are the same and in the same order
// whatever the heap holds beside them, so it holds no more of the improbable ones than it has to.
static int64_t take_most(kv_token_candidate **candidates, int64_t n, int64_t most, double enough) {
    static const double steps[] = {1.0 / 16, 1.0 / 256, 1.0 / 4096, 1.0 / 65536};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const int64_t front = bring_forward(*candidates, n, steps[i]);
        // Summed in another order than they are taken, so that a little more has to be there.
        if (front < most && mass_of(*candidates, front) < enough * (1 + 1e-9)) continue;
        const int64_t taken = take(*candidates, front, most, enough);
        *candidates += front - taken;
        return taken;
    }
    const int64_t taken = take(*candidates, n, most, enough);
    *candidates += n - taken;
    return taken;
}

// Leaves those that top_k, top_p and min_p let pass in *candidates (moved on to the first); their number.
static int64_t keep(kv_token_candidate **candidates, int64_t n, const kv_sampling *how) {
    if (how->top_k > 0 && how->top_k < n) n = take_most(candidates, n, how->top_k, INFINITY);
    if (how->top_p < 1) n = take_most(candidates, n, n, how->top_p * mass_of(*candidates, n));
    if (how->min_p == 0) return n;
    int64_t kept = 0; // weights are relative to the largest
    for (int64_t i = 0; i < n; i++)
        if ((*candidates)[i].weight >= how->min_p) (*candidates)[kept++] = (*candidates)[i];
    return kept;
}

// ---- Drawing -------------------------------------------------------------------------------------------

int32_t kv_sample(const float *logits, int64_t vocab_size, const kv_sampling *how, uint64_t stream,
                  uint64_t position, kv_token_candidate *candidates) {
    int32_t greedy;
    int64_t n = how->temperature == 0 ? 0 : weigh(logits, vocab_size, how->temperature, candidates);
    if (n == 0) {
        kv_argmax(logits, 1, vocab_size, &greedy);
        return greedy;
    }
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
        const float *row = logits + i * vocab_size, max = largest(row, vocab_size);
        int64_t best = 0;
        while (best < vocab_size && !(row[best] == max)) best++;
        ids[i] = best < vocab_size ? (int32_t)best : 0; // of NaN alone the first
    }
}
