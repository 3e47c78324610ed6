// One row of `tasks` in an evaluation's config: which questions are asked, and how.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { KV_EVAL_MAX_K = 8, KV_TASK_KEY = 32 }; // of pass@k; bytes of a key's name

// What becomes of items that do not fit the context of every system: nothing is asked; they are left out; their
// prompts are cut from the left.
typedef enum kv_too_long { KV_TOO_LONG_REFUSE, KV_TOO_LONG_SKIP, KV_TOO_LONG_CUT } kv_too_long;

// Which solved examples stand in front of a question: others for each, or for all of a task the same.
typedef enum kv_shots_drawn { KV_SHOTS_EACH, KV_SHOTS_ONCE } kv_shots_drawn;

typedef struct kv_eval_task {
    char *name, *split;
    char *kind;                 // see eval/benchmark/benchmark.h; default triviaqa
    char *file;                 // questions or problems
    int64_t shots;              // solved examples in front of each question
    char *shots_file;           // that they are drawn from; NULL: `file`
    kv_shots_drawn shots_drawn; // once: only with shots_file
    char *prompt_cache; // what all prompts begin with, read before: a saved prompt; {system}: a system's name
    int64_t limit;      // only so many items from the beginning; 0: all
    int64_t max_tokens; // of an answer
    bool chat;          // asked as a user would ask an instruct model
    char *system_prompt; // of a chat; NULL: what the template says without one
    kv_too_long too_long;
    // Multiple choice: the context is read as a prompt, and choices are scored behind it; false: all at once, as in training.
    bool behind_prompt;
    // Text (kind text):
    char *corpus; // a token shard, a corpus of several, or text files; in the place of `file`
    int64_t window, prompt,
        stride; // tokens: of a window, of them read as a prompt, from one window to the next
    // Questions of one's own (kind custom), templates of data/benchmark/template.h:
    char *template, *preamble; // what is asked, what stands before all examples
    char *target, *label;      // the accepted answers; the right choice
    char **choices, **labels, **stop;
    unsigned n_choices, n_labels, n_stop;
    char *metric, *pattern; // see eval/benchmark/custom.h; a metric always
    bool ignore_case, ignore_punctuation;
    char *target_delimiter, *shots_delimiter; // between prompt and answer; behind an example
    // Programs (kind humaneval and alike):
    int64_t samples; // of each problem
    double temperature, top_p;
    int64_t *k; // pass@k for each
    unsigned n_k;
    double timeout;    // seconds a program may run
    int64_t memory_mb; // it may use
    int64_t workers;   // programs that run at once; 0: as many as there are cores
} kv_eval_task;
