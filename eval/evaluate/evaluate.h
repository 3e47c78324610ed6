// One evaluation from its configuration to its results.
#pragma once

#include "eval/evaluate/evaluation.h"

// Opens everything a configuration names but weights and checks that it fits together, before anything is computed:
// the caller fills in `source`, `config` and the switches. Errors name file, line and key.
kv_status kv_evaluation_open(kv_evaluation *evaluation, kv_error *err);
kv_status kv_evaluation_load(kv_evaluation *evaluation, kv_error *err); // the weights
void kv_evaluation_close(kv_evaluation *evaluation);                    // source, too

// Asks and measures. Records go to <output>/samples as they come; those that are there already from the same
// systems, tasks and settings are not asked for again. KV_ERR_INTERRUPTED on a signal to stop: what was
// answered stays. *results are derived; free them with kv_results_free.
kv_status kv_evaluation_run(kv_evaluation *evaluation, kv_results *results, kv_error *err);
