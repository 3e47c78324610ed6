// Results of one or more evaluations as one.
#pragma once

#include "eval/results/results.h"

// inputs[n_inputs], at least one: files results.h5, or directories with one. Joins them (kv_results_join) and warns of what goes
// by one name and is not the same. On failure *results is still for kv_results_free, which it has to be zeroed for.
kv_status kv_report_read(const char *const *inputs, int n_inputs, kv_results *results, kv_error *err);
