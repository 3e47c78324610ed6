// Predictors of every depth from one pass over a text: the base reads it once, and the normal equations of all depths are
// added to from the same tensors.
//
//   base   h_0 ─ layer 0 ─ h_1 ─ layer 1 ─ h_2 ─ layer 2 ─ h_3 ─ …            keys and values of every layer
//          depth 1:        h_1 ─────────────────────────────────▶ keys and values of layers 1, 2, 3, …
//          depth 2:                        h_2 ─────────────────▶ of layers 2, 3, …
//                                                                                   [core/README.md §9, eq. 34]
#pragma once

#include "core/predictor/predictor.h"
#include "eval/curve/text.h"

#include <limits.h>

// Where depth `n_layers` goes, "OUT/prefix_04", or "OUT/prefix_04/predictor" with that name behind.
kv_status kv_curve_place(const char *output, int64_t n_layers, const char *name, char path[PATH_MAX],
                         kv_error *err);

// The predictor of a depth, with weights that are zero or without any (kv_predictor_plan).
kv_status kv_curve_predictor(const kv_model_spec *base, int64_t n_layers, bool first, bool weights,
                             kv_predictor **predictor, kv_error *err);

// Whether the directory has it already, whole.
bool kv_curve_fitted(const char *output, int64_t n_layers, const kv_model_spec *base);

// What its maps explain of the variance of keys and of values on the text they were fitted on, mean over the layers; NAN
// where fit.json does not say.
void kv_curve_explained(const char *output, int64_t n_layers, double explained[KV_SIDES]);

typedef struct kv_curve_fit_cost {
    double flops;      // of one pass with all depths: reading, and the sums
    double bytes;      // of the sums of all depths, and at work
    double least;      // bytes with one depth at a time, the largest
    double predictors; // bytes on disk
} kv_curve_fit_cost;
kv_status kv_curve_fit_cost_of(const kv_curve_options *options, const kv_model_spec *base,
                               const int64_t *depths, int64_t n, int64_t n_tokens, kv_curve_fit_cost *cost,
                               kv_error *err);

// Fits and writes depths[n], each as soon as it is solved. Where the sums of all do not fit into memory the text is read
// several times, with as many depths at a time as do: KV_ERR_MEMORY where one alone does not. fingerprint: the base's.
// KV_ERR_INTERRUPTED on a signal to stop: depths that are written stay, and so do the sums of the others
// (eval/curve/sums.h), with which the next call goes on.
kv_status kv_curve_fit(const kv_curve_options *options, kv_model *base, const char *fingerprint,
                       const int64_t *depths, int64_t n, const kv_curve_text *text, kv_error *err);
