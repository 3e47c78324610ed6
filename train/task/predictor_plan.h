// What the predictors of a run are like, from its configuration and the shapes of both models alone.
#pragma once

#include "train/config/config.h"

#include <stdio.h>

// A predictor without weights (kv_predictor_plan): free with kv_predictor_free. Errors name the key that asks for
// what this pair of models cannot have.
kv_status kv_plan_predictor(const kv_config *source, const kv_train_config *config, const kv_model_spec *base,
                            const kv_model_spec *aux, kv_predictor **shape, kv_error *err);

// "151,040 parameters; base layer 0: keys low_rank (rank 8) from k0+k1, …" without a line's end.
void kv_describe_predictor(const kv_predictor *shape, FILE *out);
