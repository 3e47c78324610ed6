// Recall from the prompt: a passage of statements and a question about one of them, greedy answers, exact match. Items
// lie on a grid: the passage's length, and how deep in it the answer stands.
#pragma once

#include "eval/benchmark/benchmark.h"

// Kind "recall". One unit a question; its record, which leaves the prompt out since that may be long:
// {"item": "FILE:LINE", "length", "depth", "answer", "generation", "verdict": "correct" or "wrong"}.
kv_status kv_recall_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err);

// See kv_benchmark_kind.
kv_status kv_recall_task_check(const kv_eval_task *config, char key[KV_TASK_KEY], kv_error *err);
