// The closed-form start of the predictors: both models read a part of the training text, and the predictors
// are solved for by ridge regression (core/least_squares.h).
#pragma once

#include "train/text.h"

// base, aux: with their weights. Reads config->predictor.least_squares_tokens tokens of the text (at most
// all of them, once). Prints on stderr how much of the base cache's variance the predictors explain, per
// layer. KV_ERR_INTERRUPTED when the user stops it: the predictor is then unchanged.
kv_status kv_least_squares_start(const kv_train_config *config, const kv_train_text *text, kv_model *base,
                                 kv_model *aux, kv_predictor *predictor, kv_error *err);
