// What tests of attention build their cases from: heads, sequences laid out in rows, and rotation both as the
// core's table and as the double-precision frequencies it stands for.
#pragma once

#include "core/ops.h"
#include "tests/support/numbers/reference.h"
#include "tests/support/support.h"

enum { SETUP_SEQUENCES = 16, SETUP_POSITIONS = 20000 };

// Everything one case needs; the arrays behind `args` live here.
typedef struct setup {
    kv_attention_args args;
    kv_sequence sequences[SETUP_SEQUENCES];
    double *inv_freq; // NULL: no rotation
    kv_rope *rope;
    int64_t q_rows, k_rows;
} setup;

setup setup_make(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, bool rotated);
void setup_free(setup *s);

// Adds a sequence behind the ones there are, after `gap` key rows that belong to none.
void setup_add(setup *s, int64_t q_len, int64_t k_len, int64_t gap);

// The arguments, pointing into *s as it lies now (the struct may have been copied since).
const kv_attention_args *setup_args(setup *s);
