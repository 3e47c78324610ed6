// Multiple choice: which of the given answers is the most probable to a system.
//                                                      [core/README.md §8; EleutherAI evaluation harness]
#pragma once

#include "data/benchmark/choices.h"
#include "eval/benchmark/benchmark.h"

// Kinds: those of kv_choice_kind_find. One unit a question; its record:
// {"id", "context", "choices": [...], "ending" (partial evaluation only), "loglikelihoods": [...],
//  "characters": [...], "bytes": [...], "gold": index, "acc": 0 or 1}
// and, of kinds that have them, "acc_norm" and "acc_bytes".
//   acc        the most probable choice is the right one
//   acc_norm   the most probable one per character (code point) of the choice, as the harness has it: it
//              divides by len() of a Python string
//   acc_bytes  the most probable one per byte of its UTF-8
// Scores are worked out again from log-likelihoods, lengths and gold. prompt_tokens are those of the context,
// the longest one where choices are part of it.
kv_status kv_choice_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err);

// The same of items from elsewhere.
typedef struct kv_choice_task {
    kv_choice_kind kind;             // its name goes into the hash
    kv_choice_items items, examples; // examples: of `shots_file`, none without one
    const char *joint, *separator;   // between a context and its choice; behind an example
} kv_choice_task;

// Takes the items over, also on failure; joint and separator are borrowed.
kv_status kv_choice_benchmark_of(const kv_eval_task *config, kv_choice_task *task,
                                 const kv_prompting *prompting, uint64_t seed, kv_benchmark **benchmark,
                                 kv_error *err);

// ---- The parts -----------------------------------------------------------------------------------------

// What stands before all else, solved examples, the context of the question asked: item `asked` of the task. Caller frees;
// NULL when out of memory.
char *kv_choice_context(const kv_choice_task *task, int64_t asked, const int64_t *shots, int64_t n_shots);

// Tokens of context + continuation (kv_prompt_answer_ids), and how many of them are the continuation's: all but those of
// the context encoded alone, whose white space at the end counts as the continuation's. In a chat the context is what
// the user says and the continuation what the assistant begins with, without the blank in front. KV_ERR_FORMAT when either is left with none. Caller frees *ids.
kv_status kv_choice_encode(const kv_prompting *prompting, const char *context, const char *continuation,
                           int32_t **ids, int64_t *length, int64_t *n_scored, kv_error *err);

// The index of the largest log-likelihood, or with lengths (not NULL) of the largest one over its length; the
// first of equal ones. A choice of length 0 is never the largest over its length, unless all are.
int64_t kv_choice_best(const double *log_likelihoods, const int64_t *lengths, int64_t n);
