// What an evaluation does where its config has `analysis`. Only evaluate.c needs it.
#pragma once

#include "eval/evaluate/evaluation.h"

// Settles how long the sequences are, checks that every system with a predictor can read the text
// (data/checkpoint/pair.h) and reads it, before any weights. Errors name the config's file, line and key.
kv_status kv_evaluation_open_analysis(kv_evaluation *evaluation, kv_error *err);

// Looks at the caches of every system with a predictor, into results->analysis. What is found out about a
// system goes to <output>/samples, and is taken from there when nothing that it depends on has changed.
kv_status kv_evaluation_analyse(kv_evaluation *evaluation, kv_results *results, kv_error *err);
