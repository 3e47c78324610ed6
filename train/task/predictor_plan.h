// What the predictors of a run are like, from its configuration and the shapes of both models alone.
#pragma once

#include "train/config/config.h"

#include <stdio.h>

// Fills layer counts, kind and mapping of *shape; it gets no weights. Errors name the key that asks for what
// this pair of models cannot have.
kv_status kv_plan_predictor(const kv_config *source, const kv_train_config *config, const kv_model_spec *base,
                            const kv_model_spec *aux, kv_predictor *shape, kv_error *err);

// "151,040 parameters of rank 8; base layer reads aux layers: 0+1 0+1 1+0" without a line's end.
void kv_describe_predictor(const kv_predictor *shape, const kv_model_spec *base, const kv_model_spec *aux,
                           FILE *out);

// Floats a token that predictors of this kind keep on the tape beside the predicted keys and values: joined
// inputs, and what the first factor of a low-rank map makes; of each its gradient too, where it has one.
double kv_predictor_floats(const kv_predictor *shape, const kv_model_spec *aux, bool aux_trained);
