// Kind "custom": questions of one's own. Templates make prompts, answers or choices of the fields of JSON lines, and the
// configuration says what makes an answer right.
#pragma once

#include "eval/benchmark/benchmark.h"

// Written answers have one metric (of which "exact" is called exact_match in results) and are records as those of
// triviaqa without their question; choices have acc, acc_norm and acc_bytes and the records of multiple choice.
kv_status kv_custom_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err);

// Whether the templates, the pattern and the metric are ones and go together, without a look into any file. On failure
// *key is the key that is wrong.
kv_status kv_custom_check(const kv_eval_task *config, char key[KV_TASK_KEY], kv_error *err);
