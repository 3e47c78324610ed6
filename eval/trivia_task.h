// TriviaQA's protocol: closed-book questions, few-shot prompts, greedy answers, exact match.
//                                                        [method.md section 8; EleutherAI evaluation harness]
#pragma once

#include "data/console.h"
#include "data/tokenizer.h"
#include "data/triviaqa.h"
#include "eval/eval_config.h"
#include "infer/engine.h"

// The questions of one task as prompts, ready to be asked of any system with this tokenizer.
typedef struct kv_trivia_task {
    const kv_eval_task *config; // borrowed
    kv_questions questions;     // the whole file: shots are drawn from all of it
    int64_t n;                  // the first so many are asked
    char **prompts;             // [n]
    int32_t **ids;              // [n] tokens of each prompt, BOS first where the tokenizer has one
    int64_t *lengths;           // [n]
} kv_trivia_task;

// Free with kv_trivia_task_free (accepts NULL). On failure *task is NULL.
kv_status kv_trivia_task_create(const kv_eval_task *config, const kv_tokenizer *tokenizer, uint64_t seed,
                                kv_trivia_task **task, kv_error *err);
void kv_trivia_task_free(kv_trivia_task *task);

// KV_ERR_RANGE naming the question when a prompt and its answer do not fit a context.
kv_status kv_trivia_task_fits(const kv_trivia_task *task, int64_t context, const char *system, kv_error *err);

// What one system answered.
typedef struct kv_answers {
    int64_t n, n_correct;
    char **texts;   // [n] cut at the first stop string and stripped
    bool *correct;  // [n]
    int64_t tokens; // generated in all
} kv_answers;

// Asks all questions in batches. The title of the progress line is made of the two names. Free *answers with
// kv_answers_free (accepts an empty one); on failure it is empty.
kv_status kv_trivia_task_run(const kv_trivia_task *task, const kv_system *system, const char *system_name,
                             const kv_tokenizer *tokenizer, int64_t batch_size, kv_answers *answers,
                             kv_error *err);
void kv_answers_free(kv_answers *answers);

// ---- The parts -----------------------------------------------------------------------------------------

// shots[n_shots]: different questions among n, none of them `asked`; a pure function of the arguments.
// n_shots < n.
void kv_trivia_draw_shots(uint64_t seed, int64_t n, int64_t asked, int64_t n_shots, int64_t *shots);

// "Question: …\nAnswer: …\n" of each shot, then "Question: …\nAnswer:". Caller frees; NULL when out of
// memory.
char *kv_trivia_prompt(const kv_questions *questions, int64_t asked, const int64_t *shots, int64_t n_shots);

// Cuts text at its first "\n", "." or "," and strips white space from both ends, in place. Whether it was
// cut.
bool kv_trivia_cut(char *text);
