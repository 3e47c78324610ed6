// Sums of normal equations on disk, from when a fit was stopped to when it goes on: OUT/sums.h5.
//
//   /                attribute tokens: how many were added
//   /depths          [n] int64: of which depths
//   /sums_04/17      array 17 of the sums of depth 4 (kv_least_squares_visit), float64
#pragma once

#include "core/predictor/least_squares.h"

typedef struct kv_curve_sums {
    int64_t n_layers; // the depth
    kv_least_squares *sums;
} kv_curve_sums;

// Whole or not at all; n >= 1 depths that n_tokens were added to.
kv_status kv_curve_sums_write(const char *output, const kv_curve_sums *depths, int64_t n, int64_t n_tokens,
                              kv_error *err);

// Takes what is there back into sums that nothing was added to. *n_tokens: how many were; 0 where there is no file, or one
// that lacks some of these depths. A file that cannot be read is warned of, and is as none; then sums are zeros again.
kv_status kv_curve_sums_read(const char *output, const kv_curve_sums *depths, int64_t n, int64_t *n_tokens,
                             kv_error *err);

void kv_curve_sums_remove(const char *output);
