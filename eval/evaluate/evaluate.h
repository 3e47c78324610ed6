// One evaluation from its configuration to its results.
#pragma once

#include "eval/evaluate/cache_errors.h"
#include "eval/evaluate/systems.h"
#include "eval/results/results.h"

typedef struct kv_evaluation {
    kv_config *source;
    const kv_eval_config *config;
    const char *tokenizer_path; // the config's or, where it names none, the first of its models that has one
    kv_tokenizer *tokenizer;    // NULL when there are no tasks
    kv_chat_template chat;      // of tasks that are chats
    kv_systems *systems;
    kv_benchmark **benchmarks; // [n_tasks]
    kv_analysis_text text;     // that predicted caches are looked at on; rows NULL: they are not
    bool unsafe_execution;     // programs may run without a sandbox
    bool measure;              // the time to first token
    bool dry_run;              // weights are not loaded: all else is checked, and nothing can be run
} kv_evaluation;

// Opens everything a configuration names and checks that it fits together, before anything is computed: the
// caller fills in `source`, `config` and the switches. Errors name file, line and key.
kv_status kv_evaluation_open(kv_evaluation *evaluation, kv_error *err);
void kv_evaluation_close(kv_evaluation *evaluation); // source, too

// Asks and measures. Records go to <output>/samples as they come; those that are there already from the same
// systems, tasks and settings are not asked for again. KV_ERR_INTERRUPTED on a signal to stop: what was
// answered stays. *results are derived; free them with kv_results_free.
kv_status kv_evaluation_run(kv_evaluation *evaluation, kv_results *results, kv_error *err);
