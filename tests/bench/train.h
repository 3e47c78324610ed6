// A training step, as the phases and the comparison with the paper's code time it.
#pragma once

#include "tests/bench/bench.h"

typedef struct bench_step_args {
    const char *name, *base, *aux; // shapes; aux NULL: the base itself is trained, as a language model
    bool ours; // with aux: our recipe (tables, the base's logits as teacher) or the paper's loss
    int64_t n_seq, seq_len;
} bench_step_args;

// A phase of it with models of random weights; free its context with bench_step_free.
void bench_step_phase(const bench_step_args *args, bool quick, bench_phase *phase);
void bench_step_free(void *context);
