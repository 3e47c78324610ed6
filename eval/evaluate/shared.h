// What all prompts of a task begin with, read before (tasks[].prompt_cache): a saved prompt of each system.
#pragma once

#include "data/prompt/saved_prompt.h"
#include "eval/evaluate/evaluation.h"

// Whether every file that the config names is one of its system and the beginning of all its task's prompts; an error
// names the config's line, the file, and the item whose prompt begins otherwise. Systems are loaded, items are known.
kv_status kv_shared_prompts_check(const kv_evaluation *e, kv_error *err);

// That of one system on one task, checked; *prompt NULL: it has none. The caller frees it.
kv_status kv_shared_prompt_open(const kv_evaluation *e, int64_t system, int64_t task,
                                kv_saved_prompt **prompt, kv_error *err);
