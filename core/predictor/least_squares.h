// The closed-form start of the maps: ridge regression from what they read to the base's cache, per output.
//
//   W = argmin Σ_t |x_t W̃ᵀ - y_t|² + ridge · mean(diag XᵀX) · |W|²
//
// with x_t extended by 1 for the constant, which is not penalised.
//                                                                             [core/README.md §9, eq. 34]
// Normal equations are accumulated in double over any number of batches, then solved by Cholesky; what a map
// makes of the solution is its kind's affair (kv_map_kind.take). For keys, y is the base's key BEFORE its
// k_norm (which follows the map, see core/predictor/predictor.h). A map of matched heads is as many
// regressions as it has blocks. Outputs that are exact have none, token tables take no part unless they are asked to.
#pragma once

#include "core/api.h"
#include "core/predictor/predictor.h"

KV_API_BEGIN

typedef struct kv_least_squares kv_least_squares;

// Of the predictor, what it reads and the sizes of its outputs count; it may be without weights.
kv_status kv_least_squares_create(const kv_predictor *predictor, kv_least_squares **ls, kv_error *err);
// The same for keys and values of some layers of the base alone, those from first to end - 1: sums of all layers at once
// may be more than there is memory for. Everything below is then of these layers, and leaves all others as they are.
kv_status kv_least_squares_create_part(const kv_predictor *predictor, kv_layer_range layers,
                                       kv_least_squares **ls, kv_error *err);
// Tables with a row for each token are solved for together with their maps (core/predictor/token_fit.h); else they stay as
// they are. Before anything is added. On failure the sums are good for nothing but to be freed.
kv_status kv_least_squares_tables(kv_least_squares *ls, const kv_predictor *predictor, kv_error *err);
void kv_least_squares_free(kv_least_squares *ls);

// Products of the tokens added at once in float32, their sums over calls in double: two to three times as fast. An entry
// is off by what float32 rounds in one call, relative to Σ|x||y| of its tokens at most n · 2^-24, in practice a few
// 10^-7: far below what a ridge of 10^-3 of the mean diagonal adds. Off at first.
void kv_least_squares_fast(kv_least_squares *ls, bool fast);

// Adds tokens. taps: what the predictor reads of them; base_raw_k, base_v [n_base_layers] as
// kv_model_forward leaves them (entries of exact outputs are not looked at); rows with keep[row] == 0 are
// left out (keep NULL: all count). `tape` is where inputs are joined, and given back.
kv_status kv_least_squares_add(kv_least_squares *ls, kv_tape *tape, const kv_taps *taps,
                               kv_tensor *const *base_raw_k, kv_tensor *const *base_v, const uint8_t *keep,
                               kv_error *err);

// What has been added: `visit` is handed every array of sums, in an order that the predictor alone decides, until it
// returns false; then the whole is false. They may be written elsewhere, or read back: then the number of tokens is told.
typedef bool kv_sums_fn(double *sums, int64_t n, void *what);
bool kv_least_squares_visit(kv_least_squares *ls, kv_sums_fn *visit, void *what);
void kv_least_squares_tell_tokens(kv_least_squares *ls, int64_t n_tokens);

// Writes weights and biases into the predictor: the one it was created for, or one that reads the same.
// k_r2[n_base_layers], v_r2 (may be NULL): explained variance, 1 - Σ|residual|² / Σ|y - mean|², of the maps as
// written, on the tokens seen; 1 of exact outputs. Fails when fewer tokens than unknowns make it singular and
// ridge is 0; KV_ERR_NOT_FINITE names the model and the layer whose numbers were none.
kv_status kv_least_squares_solve(const kv_least_squares *ls, double ridge, kv_predictor *predictor,
                                 double *k_r2, double *v_r2, kv_error *err);
// The same of keys or values of one layer alone, of those that there are sums of: several may share the work. *r2 (may be
// NULL): its explained variance.
kv_status kv_least_squares_solve_one(const kv_least_squares *ls, kv_side side, int64_t layer, double ridge,
                                     kv_predictor *predictor, double *r2, kv_error *err);

// What regressions would explain that read only some sources.
typedef struct kv_explained {
    double fit;   // 1 - Σ|residual|² / Σ|y - mean|², of the tokens that they are solved on
    double other; // the same maps on other text, about its own mean; NAN without
} kv_explained;

// Of keys or values of a layer: the regressions on use[n] of the sources that the predictor reads there (places in
// kv_least_squares_sources, each once, n >= 1), of which nothing is kept. other: sums of other text, made for the same
// predictor; or NULL. 1 of exact outputs; else errors as of kv_least_squares_solve.
kv_status kv_least_squares_explain(const kv_least_squares *ls, kv_side side, int64_t layer,
                                   const int32_t *use, int64_t n, double ridge, const kv_least_squares *other,
                                   kv_explained *explained, kv_error *err);
// NULL of an exact output.
const kv_sources *kv_least_squares_sources(const kv_least_squares *ls, kv_side side, int64_t layer);

// Products of adding n tokens (in double precision, unless fast), and bytes of the sums, of one solution, and of
// adding n tokens at once.
uint64_t kv_flops_least_squares_sums(const kv_predictor *predictor, int64_t n);
double kv_least_squares_sum_bytes(const kv_predictor *predictor, int64_t n);
uint64_t kv_flops_least_squares_part(const kv_predictor *predictor, kv_layer_range layers, int64_t n);
double kv_least_squares_part_bytes(const kv_predictor *predictor, kv_layer_range layers, int64_t n);
// Bytes of the sums of tables beside them, of these layers.
double kv_least_squares_table_bytes(const kv_predictor *predictor, kv_layer_range layers);

KV_API_END
