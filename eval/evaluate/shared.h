// What all prompts of a task begin with, read before (tasks[].prompt_cache): a saved prompt of each system.
#pragma once

#include "data/prompt/saved_prompt.h"
#include "eval/evaluate/evaluation.h"

#include <limits.h>

// Where that of one system on one task is, or will be.
typedef struct kv_shared_file {
    char path[PATH_MAX]; // "": the task has none
    int64_t n_tokens;    // that all prompts begin with, fewer than the shortest has
    bool there;
    bool used; // it is there, or will be made: the system reads whole prompts, and these tokens are worth it
} kv_shared_file;

// Items are known, shapes of systems or their weights are there. An error names the config's line.
kv_status kv_shared_file_find(const kv_evaluation *e, int64_t system, int64_t task, kv_shared_file *file,
                              kv_error *err);

// Whether every file that is there is one of its system (once weights are there) and the beginning of all its task's
// prompts, and others can be made; an error names the config's line, the file, and the item whose prompt begins
// otherwise. Warns of tasks whose prompts do not begin alike.
kv_status kv_shared_prompts_check(const kv_evaluation *e, kv_error *err);

// Makes those that are not there, each whole or not at all, and says so on stderr. Systems are loaded. Collective: rank 0
// makes them, the others wait until they see what it has made; what fails has been agreed on.
kv_status kv_shared_prompts_make(const kv_evaluation *e, kv_error *err);

// That of one system on one task, checked; *prompt NULL: it has none. The caller frees it.
kv_status kv_shared_prompt_open(const kv_evaluation *e, int64_t system, int64_t task,
                                kv_saved_prompt **prompt, kv_error *err);
