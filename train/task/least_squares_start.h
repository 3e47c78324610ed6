// The closed-form start of the predictors: both models read a part of the training text, or caches on disk
// say what they make of it, and the predictors are solved for by ridge regression (core/predictor/least_squares.h).
#pragma once

#include "core/predictor/least_squares.h"
#include "train/task/start_pass.h"

// Reads config->predictor.least_squares_tokens tokens of the text (0, or more than there are: all of them,
// each once). Prints on stderr how much of the base cache's variance the predictors explain, per layer, and
// leaves it in least_squares.json in config->output: tokens, ridge, and by base layer aux_layers, keys,
// values (fractions of 1). With config->predictor.least_squares_passes above 1 the text is read so often, each time for a
// share of the base's layers, whose sums alone are in memory. KV_ERR_INTERRUPTED when the user stops it: the predictor is
// then what earlier passes have left.
// Collective: ranks share the reading (start_pass.h) and then the solving; all end with the same bits, rank 0 writes the
// file. Errors are agreed on.
kv_status kv_least_squares_start(const kv_start_args *args, kv_predictor *predictor, kv_error *err);

// The layers of one pass, from 0, of n_passes: shares as equal as they can be of those that are predicted.
kv_layer_range kv_least_squares_layers(const kv_predictor *predictor, int64_t n_passes, int64_t pass);

// Which of n_ranks ranks solves for the keys or values of a layer.
int kv_least_squares_solver(kv_side side, int64_t layer, int n_ranks);

// Products of all its passes and sums, which is nearly all it takes. The predictor may be without weights.
double kv_least_squares_flops(const kv_start_args *args, const kv_predictor *shape);
