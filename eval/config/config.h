// What an evaluation config says: which systems answer which tasks, and how time to first token is measured.
#pragma once

#include "data/checkpoint/checkpoint.h"
#include "data/config/config.h"
#include "eval/benchmark/task.h"
#include "eval/report/pictures.h"

// One row of the comparison: a model alone (model), base + aux + predictor, or a model whose prompt is pruned
// (pruning: random, static or lazy with `model`; speculative with `base` and `aux`). Paths are directories as
// data/checkpoint/checkpoint.h takes them.
typedef struct kv_eval_system {
    char *name;   // shown in the table and beside the point
    char *family; // shares marker and colour in the picture; default: the name
    char *model;
    char *base, *aux, *predictor;
    char *tabulated;   // what kvdata tabulate made of it, or the directory of that; NULL: it is computed
    char *pruning;     // infer/session/prune.h has the policies
    double keep;       // random, static, speculative: fraction of the prompt that is kept
    double start, end; // lazy
    int64_t lookahead, window, chunk; // speculative
} kv_eval_system;

// Time to first token: prompt_tokens x batch_size stands in the tables; prompts x batches is the grid beside.
typedef struct kv_eval_ttft {
    int64_t prompt_tokens; // 0: the mean prompt of the tasks
    int64_t batch_size, repeats;
    int64_t *prompts, *batches;
    unsigned n_prompts, n_batches;
} kv_eval_ttft;

// Of predicted caches against the base's own, see eval/results/analysis.h.
typedef struct kv_eval_analysis {
    char *corpus;      // a token shard or a directory of them; NULL: no analysis
    int64_t sequences; // the first so many rows of fixed packing, or what there is
    int64_t seq_len;   // 0: what fits all systems, 256 at most
    int64_t bins;      // of each histogram
} kv_eval_analysis;

typedef struct kv_eval_config {
    char *output, *tokenizer;
    uint64_t seed;
    kv_frozen_dtype dtype; // that all weights are held in
    int64_t batch_size;    // units answered together, at most; 0: as is best
    int64_t bootstrap;     // resamples behind an interval
    int64_t limit;         // every task asks at most so many items; 0: as many as its own says
    kv_eval_system *systems;
    unsigned n_systems;
    kv_eval_task *tasks;
    unsigned n_tasks;
    double *budgets; // fractions of the base's FLOPs up to the first token
    unsigned n_budgets;
    kv_eval_ttft ttft;
    kv_eval_analysis analysis;
    kv_eval_picture picture;
} kv_eval_config;

extern const cyaml_schema_value_t kv_eval_schema;
extern const char *const kv_eval_paths[]; // keys of paths, in which {seed} is the seed; NULL ends them

enum { KV_EVAL_KEY = 64 };

// "LIST[i].FIELD", or "LIST[i]" when field is empty.
void kv_eval_list_key(char key[KV_EVAL_KEY], const char *list, unsigned i, const char *field);

// Puts the place in the config in front of an error about what stands there, whose code stays.
kv_status kv_eval_blame(const kv_config *config, const char *key, kv_error *err);

// Reads, checks and fills in defaults. *eval belongs to *config, which the caller frees with kv_config_free.
// On failure both are NULL.
kv_status kv_eval_config_load(const char *path, const char *const *overrides, size_t n_overrides,
                              kv_config **config, const kv_eval_config **eval, kv_error *err);
