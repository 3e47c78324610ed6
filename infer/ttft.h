// Measured time to first token.
#pragma once

#include "data/console.h"
#include "infer/engine.h"

typedef struct kv_ttft_args {
    int64_t prompt_tokens, batch_size; // every prompt has this length
    int64_t repeats;                   // timed ones, after one to warm up
    uint64_t seed;                     // of the random prompts
} kv_ttft_args;

typedef struct kv_ttft {
    double seconds; // median over the repeats
    double spread;  // half the distance between the quartiles
} kv_ttft;

// Prefills random prompts on each of systems[n] up to the first token's argmax and times it. The systems take
// turns, so that a slow spell of the machine hits all of them alike. ttft[n]; samples (may be NULL)
// [n, repeats]: every single time. progress (may be NULL) is shown one step a timed prefill.
// KV_ERR_INTERRUPTED on a signal to stop.
kv_status kv_ttft_measure(const kv_system *systems, int64_t n, const kv_ttft_args *args,
                          kv_progress *progress, kv_ttft *ttft, double *samples, kv_error *err);

// Median and spread of samples[n], n >= 1, which are sorted in place.
kv_ttft kv_ttft_summary(double *samples, int64_t n);
