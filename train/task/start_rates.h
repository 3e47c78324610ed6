// How fast predictors are trained that start from a fit.
//
// AdamW moves every weight by about its rate, however small the gradient: at a rate that suits random weights it first
// shakes a good fit loose. So a map's rate is multiplied by what its fit left unexplained,
//
//   s = √(2 (1 - R²)), from KV_LEAST_RATE to 1,
//
// and the aux's, from which all maps read, by the same of the mean of 1 - R² over all of them. A fit that explains less
// than half changes nothing.
#pragma once

#include "train/task/task.h"

#define KV_LEAST_RATE 0.02

// Sets task->rate_scales of a kvp task whose parameters are there, by least_squares.json in its output; leaves it NULL
// where the config wants no such thing, and in a run from before that file said so.
kv_status kv_start_rates_read(kv_task *task, int64_t n_base_layers, kv_error *err);
// The same once the fit is made; what came of it is printed on stderr. Collective: rank 0 reads the file for all. Errors are
// agreed on.
kv_status kv_start_rates(kv_task *task, int64_t n_base_layers, kv_error *err);
