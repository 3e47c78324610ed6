// Which aux layers to read: those that explain most of a base layer's keys, or values, each taken alone, by
// ridge regression on a sample.
//                                              [arXiv 2608.03893; core/README.md §9: "best k"]
//   kv_predictor_spec_all_layers(spec, n_layers);       // every output reads every layer it may
//   kv_predictor_plan(base, aux, spec, &all, &err);
//   kv_best_create(all, &best, &err);
//   … kv_best_add(best, tape, &taps, base_raw_k, base_v, keep, &err) for some batches …
//   kv_best_choose(best, ridge, 8, spec, &err);   // spec now reads the best 8
//
// Explained variance is that of least_squares.h, in the sample itself. Of outputs of more than KV_BEST_DIM
// features as many random combinations stand for all of them, drawn as a pure function of the layer: the
// sums then take n_base · n_aux · dim · KV_BEST_DIM doubles whatever the base's width. (Where the sums of all
// layers side by side fit in memory, core/predictor/ranking.h also says what several explain together.)
#pragma once

#include "core/api.h"
#include "core/predictor/least_squares.h"

KV_API_BEGIN

enum { KV_BEST_DIM = 64 };

typedef struct kv_best kv_best;

// all: a predictor, perhaps without weights, whose outputs read all layers that are to be compared; what of
// each layer (keys, values, hidden states), its sources say. Free with kv_best_free (accepts NULL).
kv_status kv_best_create(const kv_predictor *all, kv_best **best, kv_error *err);
void kv_best_free(kv_best *best);

// As kv_least_squares_add.
kv_status kv_best_add(kv_best *best, kv_tape *tape, const kv_taps *taps, kv_tensor *const *base_raw_k,
                      kv_tensor *const *base_v, const uint8_t *keep, kv_error *err);

// As kv_least_squares_visit and kv_least_squares_tell_tokens.
bool kv_best_visit(kv_best *best, kv_sums_fn *visit, void *what);
void kv_best_tell_tokens(kv_best *best, int64_t n_tokens);

// r2[n_base_layers][n_aux_layers]: what each aux layer explains alone of one side; 0 where it is not compared,
// 1 everywhere for exact outputs.
kv_status kv_best_explained(const kv_best *best, double ridge, kv_side side, double *r2, kv_error *err);

// Leaves of every output that is not exact the sources of its `k` best layers, the best one first (of equal
// ones the lower), and what depends on the token alone. KV_ERR_ARGUMENT when there are fewer than k.
kv_status kv_best_choose(const kv_best *best, double ridge, int64_t k, kv_predictor_spec *spec,
                         kv_error *err);

// Products of adding n tokens (double precision); bytes of its sums and of adding n tokens at once.
uint64_t kv_flops_best(const kv_predictor *all, int64_t n);
double kv_best_bytes(const kv_predictor *all, int64_t n);

KV_API_END
