// What is open while an evaluation goes on: what its parts (evaluate.h, timing.h, analyse.h, plan.h) work on.
#pragma once

#include "eval/evaluate/cache_errors.h"
#include "eval/evaluate/systems.h"
#include "eval/results/results.h"

typedef struct kv_evaluation {
    kv_config *source;
    const kv_eval_config *config;
    const char *tokenizer_path; // the config's or, where it names none, the first of its models that has one
    kv_tokenizer *tokenizer;    // NULL when there are no tasks
    kv_tokenizer_id tokenizer_id;
    kv_chat_template chat; // of tasks that are chats
    kv_systems *systems;
    kv_benchmark **benchmarks; // [n_tasks]
    kv_analysis_text text;     // that predicted caches are looked at on; rows NULL: they are not
    bool unsafe_execution;     // programs may run without a sandbox
    bool measure;              // the time to first token
} kv_evaluation;
