// TriviaQA's protocol: closed-book questions, few-shot prompts, greedy answers, exact match.
//                                                      [core/README.md §8; EleutherAI evaluation harness]
#pragma once

#include "data/benchmark/triviaqa.h"
#include "eval/benchmark/benchmark.h"

// Kind "triviaqa". One unit a question; its record:
// {"id", "question", "prompt", "generation", "answers": [...], "verdict": "correct" or "wrong"}.
kv_status kv_trivia_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err);

// ---- The parts -----------------------------------------------------------------------------------------

// "Question: …\nAnswer: …\n" of each shot, then "Question: …\nAnswer:". Caller frees; NULL when out of
// memory.
char *kv_trivia_prompt(const kv_questions *questions, int64_t asked, const int64_t *shots, int64_t n_shots);

// Cuts text at its first "\n", "." or "," and strips white space from both ends, in place. Whether it was
// cut.
bool kv_trivia_cut(char *text);
