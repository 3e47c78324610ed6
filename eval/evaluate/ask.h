// All questions of an evaluation to all of its systems. Only evaluate.c needs it.
#pragma once

#include "eval/evaluate/evaluation.h"

// Fills in values, records and not_finite of every outcome; results->tasks are described. Collective; outcomes are rank 0's
// alone. What has failed has been agreed on, but for what only one rank failed at while it asked: that one returns, and is to
// end the others (kv_ranks_end). KV_ERR_INTERRUPTED on a signal to stop, which counts once it has reached all ranks.
kv_status kv_ask(kv_evaluation *evaluation, const kv_results *results, kv_error *err);
