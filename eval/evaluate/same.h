// Whether all ranks are about to do the same: what differs is refused by its fingerprint, before anything is asked. Each of them
// reads configuration, models and tasks from its own machine.
#pragma once

#include "eval/evaluate/evaluation.h"

// Collective, both of them, by ranks whose configurations are the same (data/config/same.h). Once everything is open: the
// tokenizer, what each task asks, the text of the analysis.
kv_status kv_same_questions(const kv_evaluation *evaluation, kv_error *err);
// Once weights are there: what each system computes.
kv_status kv_same_systems(const kv_evaluation *evaluation, kv_error *err);
