// One row of `tasks` in an evaluation's config: which questions are asked, and how.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { KV_EVAL_MAX_K = 8 };

// What becomes of items that do not fit the context of every system: nothing is asked; they are left out; their
// prompts are cut from the left.
typedef enum kv_too_long { KV_TOO_LONG_REFUSE, KV_TOO_LONG_SKIP, KV_TOO_LONG_CUT } kv_too_long;

typedef struct kv_eval_task {
    char *name, *split;
    char *kind;          // see eval/benchmark/benchmark.h; default triviaqa
    char *file;          // questions or problems
    int64_t shots;       // solved examples in front of each question
    char *shots_file;    // that they are drawn from; NULL: `file`
    int64_t limit;       // only so many items from the beginning; 0: all
    int64_t max_tokens;  // of an answer
    bool chat;           // asked as a user would ask an instruct model
    char *system_prompt; // of a chat; NULL: what the template says without one
    kv_too_long too_long;
    // Text (kind text):
    char *corpus; // a token shard, a corpus of several, or text files; in the place of `file`
    int64_t window, prompt,
        stride; // tokens: of a window, of them read as a prompt, from one window to the next
    // Programs (kind humaneval and alike):
    int64_t samples; // of each problem
    double temperature, top_p;
    int64_t *k; // pass@k for each
    unsigned n_k;
    double timeout;    // seconds a program may run
    int64_t memory_mb; // it may use
    int64_t workers;   // programs that run at once; 0: as many as there are cores
} kv_eval_task;
