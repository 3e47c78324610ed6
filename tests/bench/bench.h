// What the parts of `./kv bench` share. Every figure stands beside the matrix-product peak measured in the
// same run.
#pragma once

#include "core/objective.h"

enum { BENCH_REPEATS = 7 };

double bench_now(void);                         // seconds
double bench_median(double *values, int n);     // sorts them
_Noreturn void bench_fail(const kv_error *err); // says why and exits

// GFLOP/s of the largest square product that fits the caches well, the fastest of a few.
double bench_peak(void);

// One line: what runs, how fast, and its share of the peak.
void bench_print(const char *name, double tokens, double flops, double seconds, double bytes, double peak);

typedef struct bench_training_args {
    const kv_model_spec *base, *aux; // aux NULL: the base itself is trained, as a language model
    kv_kvp_weights weights;          // with aux
    int64_t n_seq, seq_len, micro;
    int repeats; // at most BENCH_REPEATS
} bench_training_args;

// Trains random models of these shapes. Returns the median's tokens a second.
//                                                                                   [tests/bench/train.c]
double bench_training(const char *name, const bench_training_args *args, double peak);

// Prefill and decoding of OpenELM-270M with weights of that type.
//                                                                                   [tests/bench/infer.c]
void bench_inference(const char *type, double peak);

// The paper's own code on one machine, and this one on this, both beside their peaks. The peak is measured
// again at the end, and the larger counts: a slow spell must not flatter us.
//                                                                                   [tests/bench/paper.c]
void bench_paper(double peak);
