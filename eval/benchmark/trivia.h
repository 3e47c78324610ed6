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
char *kv_trivia_prompt(const kv_question *asked, const kv_questions *examples, const int64_t *shots,
                       int64_t n_shots);

// What an answer ends at: "\n", "." or ",".
enum { KV_TRIVIA_STOPS = 3 };
extern const char *const kv_trivia_stops[KV_TRIVIA_STOPS];
