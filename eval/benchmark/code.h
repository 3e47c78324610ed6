// HumanEval, MBPP and evalplus's editions of both: programs written by a model, tried by the problem's own tests.
//        [core/README.md §8; Chen et al. 2021; Austin et al. 2021; Liu et al. 2023; EleutherAI and BigCode evaluation harness]
//
// Units are problems x samples. A record: {"task_id", "completion", "passed", "result", "sample"}; lines of
// them are a samples file that OpenAI's own scorer reads. One that passed and had redefined what its tests rely on
// (eval/benchmark/redefined.h) says what as "redefines". Metrics: "pass@K" for each k of the config. Where tests of
// the original benchmark stand apart, records have "base_passed" too, and "base_pass@K" comes behind all "pass@K".
#pragma once

#include "data/benchmark/problems.h"
#include "eval/benchmark/benchmark.h"
#include "eval/sandbox/sandbox.h"

// Kinds: those of kv_problem_kind_find. Uses of the config: split (mbpp: the problems that MBPP counts to it), limit, max_tokens, samples, temperature (0: greedy, one sample), top_p, k (none: 1),
// timeout, memory_mb (0 for either: the usual), workers. shots must be 0. Errors name the task and
// the key.
kv_status kv_code_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                            kv_benchmark **benchmark, kv_error *err);

// See kv_benchmark_kind.
kv_status kv_code_check(const kv_eval_task *config, char key[KV_TASK_KEY], kv_error *err);

// Opens the sandbox, unless it is open; the first answer does so too. To be called before hours of work on
// other tasks.
kv_status kv_code_benchmark_prepare(kv_benchmark *benchmark, bool unsafe_execution, kv_error *err);

// ---- The parts -----------------------------------------------------------------------------------------

// What ends a completion, stops[*n]; in a chat the end of the block that it stands in, too.
const char *const *kv_code_stops(const kv_problem_kind *kind, bool chat, size_t *n);

// The completion that a generation ids[n] stands for: its text as it goes on from the prompt, white space
// included, without EOS, cut at the first of the kind's stops. A NUL, which no program may hold and which would hide what
// comes behind it, becomes "?". Caller frees *text (NULL on failure).
kv_status kv_code_completion(const kv_problem_kind *kind, const kv_asking *asking, const int32_t *ids,
                             int64_t n, char **text, kv_error *err);
