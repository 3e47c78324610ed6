// What an evaluation config says: which systems answer which tasks, and how time to first token is measured.
#pragma once

#include "data/config.h"

// One row of the comparison: a model alone (model), or base + aux + predictor. Paths are directories as
// data/checkpoint.h takes them.
typedef struct kv_eval_system {
    char *name;   // shown in the table and beside the point
    char *family; // shares marker and colour in the picture; default: the name
    char *model;
    char *base, *aux, *predictor;
} kv_eval_system;

typedef struct kv_eval_task {
    char *name, *split;
    char *kind;         // see eval/benchmark.h
    char *file;         // questions
    int64_t shots;      // solved examples in front of each question
    int64_t limit;      // only so many questions from the beginning; 0: all
    int64_t max_tokens; // of an answer
} kv_eval_task;

typedef struct kv_eval_ttft {
    int64_t prompt_tokens; // 0: the mean prompt of the tasks
    int64_t batch_size, repeats;
} kv_eval_ttft;

typedef struct kv_eval_config {
    char *output, *tokenizer;
    uint64_t seed;
    int64_t batch_size; // prompts answered together
    kv_eval_system *systems;
    unsigned n_systems;
    kv_eval_task *tasks;
    unsigned n_tasks;
    kv_eval_ttft ttft;
} kv_eval_config;

// Reads, checks and fills in defaults. *eval belongs to *config, which the caller frees with kv_config_free.
// On failure both are NULL.
kv_status kv_eval_config_load(const char *path, const char *const *overrides, size_t n_overrides,
                              kv_config **config, const kv_eval_config **eval, kv_error *err);
