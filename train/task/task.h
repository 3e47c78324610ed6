// What is trained: the loop (trainer.h), the run directory and the estimate see a task only through this.
//
// Made in two steps, so that a dry run needs no weights: create reads shapes and checks that everything fits
// together, load brings the weights.
#pragma once

#include "core/flops.h"
#include "data/checkpoint/checkpoint.h"
#include "train/config/corpora.h"

#include <limits.h>
#include <stdio.h>

enum { KV_MAX_TERMS = 8, KV_IGNORE_INDEX = -100 };

typedef struct kv_task kv_task;
typedef struct kv_validation kv_validation; // train/run/validation.h

// How far predicted caches are off: mean |K̂-K| and |V̂-V| of every base layer. No layers where nothing is
// predicted.
typedef struct kv_layer_errors {
    int64_t n_layers;
    double key[KV_MAX_LAYERS], value[KV_MAX_LAYERS];
} kv_layer_errors;

// What a task needs beside the program and the text, in bytes.
typedef struct kv_task_memory {
    double n_trained; // weights with gradients and moments (their number)
    double frozen;    // weights that stay, as stored
    double shared;    // of frozen what the ranks of a node have together: once a node, not once a rank
    double tape;      // the most that is on the tape during a step
    // What gradients of slices take (core/slices.h): weights of all models that a step runs; of the trained ones those in
    // tables of which a token looks up a row; the numbers in its rows.
    int64_t n_weights, n_looked_up, row_width;
    int64_t
        n_last; // of the trained ones: those whose gradients are complete no sooner than backward ends, the embedding
    double validation; // and while held-out text is looked at
    // More than the weights, at other times: while they are read, in ops->start, while the result is written.
    double loading, start, saving;
} kv_task_memory;

// What that depends on beside the models: what could be configured otherwise.
typedef struct kv_task_choice {
    int64_t n_seq; // sequences that are on a tape at the same time: of a micro-batch, or of a slice of it
    int n_threads; // that share a tape
    bool freeze_aux, checkpointing;
    bool no_tables;   // predictors without token tables
    int64_t n_passes; // of the least-squares start
    kv_frozen_dtype frozen_dtype;
    // Who shares the work (data/ranks/ranks.h): ranks in all, and of a node; each may have its part of the moments alone.
    int n_ranks, node_ranks;
    bool shard_optimizer;
} kv_task_choice;

typedef struct kv_task_ops {
    // Weights: as the config says, or from a checkpoint or final directory written by save when `from` is
    // given. Collective, as are frozen models (train/task/frozen.h); the last of what it does may fail on one rank alone.
    kv_status (*load)(kv_task *task, const char *from, kv_error *err);
    // Done once, before the first step of a run that is not resumed: collective, errors are agreed on. NULL: nothing to do.
    kv_status (*start)(kv_task *task, kv_error *err);
    // Loss of a micro-batch, ready for kv_tape_backward; adds each term to terms[n_terms]. rows[n_seq]: which rows of the
    // text it is made of, with fixed packing; NULL: of none. Threads may call it, and validate, at the same time on tapes of
    // their own.
    kv_tensor *(*objective)(kv_task *task, kv_tape *tape, const kv_batch *batch, const kv_row_ref *rows,
                            double *terms);
    // The same loss of held-out text, on a tape that does not record: adds each term to terms[n_terms] and,
    // for predictors, each layer's errors, also where the loss has no weight for them. Runs the models
    // themselves, wherever training has their caches from.
    kv_tensor *(*validate)(kv_task *task, kv_tape *tape, const kv_batch *batch, double *terms,
                           kv_layer_errors *errors);
    // Writes what was trained into dir (which exists); what `final` adds is only needed by those who use the
    // result.
    kv_status (*save)(kv_task *task, const char *dir, bool final, kv_error *err);
    // Lines about the models, for --dry-run.
    void (*describe)(const kv_task *task, FILE *out);
    // Products of one training step.
    uint64_t (*flops)(const kv_task *task, int64_t n_seq, int64_t seq_len);
    // Products of start. NULL: it has none.
    double (*start_flops)(const kv_task *task);
    // Products of one call of validate.
    uint64_t (*validation_flops)(const kv_task *task, int64_t n_seq, int64_t seq_len);
    void (*memory)(const kv_task *task, const kv_task_choice *choice, kv_task_memory *memory);
    void (*free)(kv_task *task);
} kv_task_ops;

struct kv_task {
    const kv_task_ops *ops;
    const kv_config *source; // borrowed, as are the next two
    const kv_train_config *config;
    const kv_train_text *text;
    const kv_validation *validation; // borrowed; NULL: none. Set by whoever made the task
    int n_terms;
    const char *term_names[KV_MAX_TERMS];
    int64_t n_trainable; // weights
    int64_t n_params;    // after load: the trainable parameters
    kv_param **params;
    char frozen_base[17], frozen_aux[17]; // after load: fingerprints of the models that stay; empty: none
    double *
        rate_scales; // after load, or ops->start: [n_params] times the rate of each one's group; NULL: as that is
};

// What the config.json of the models say that the config names: base, aux and model.path. Those that have no part in
// the task are not looked at.
typedef struct kv_train_specs {
    kv_model_spec base, aux, model; // n_layers 0: there is none
} kv_train_specs;

// Whether the config's models go together, with the text and with the length of its sequences
// (data/checkpoint/pair.h), and what they are. Reads neither weights nor tokens. An error names the config's
// key. begins: there is no run yet; one that goes on has predictors of its own, and predictor.path may be gone.
kv_status kv_train_check_models(const kv_config *source, const kv_train_config *config,
                                const kv_train_text *text, bool begins, kv_train_specs *specs, kv_error *err);

// task: lm and task: kvp, of models that kv_train_check_models lets pass. On failure *task is NULL. Free with
// kv_task_free (accepts NULL).
kv_status kv_lm_task_create(const kv_config *source, const kv_train_config *config, const kv_train_text *text,
                            const kv_train_specs *specs, kv_task **task, kv_error *err);
kv_status kv_kvp_task_create(const kv_config *source, const kv_train_config *config,
                             const kv_train_text *text, const kv_train_specs *specs, kv_task **task,
                             kv_error *err);
void kv_task_free(kv_task *task);

// ops->load, of weights to be trained that are all finite: KV_ERR_NOT_FINITE names one that is not. What the data never
// touch (the row of a rare token) would show only when hours later the first checkpoint is not saved.
kv_status kv_task_load(kv_task *task, const char *checkpoint, kv_error *err);
// ops->save after `step` steps, of weights that are all finite: KV_ERR_NOT_FINITE names one that is not, before
// anything is written. An update can overflow that came of gradients that did not.
kv_status kv_task_save(kv_task *task, int64_t step, const char *dir, bool final, kv_error *err);

// Size of the weights in `dir`, which has that shape.
kv_status kv_task_measure(const kv_task *task, const char *key, const char *dir, const kv_model_spec *spec,
                          kv_checkpoint_size *size, kv_error *err);
// Whether weights of one fit the other.
bool kv_task_same_shape(const kv_model_spec *a, const kv_model_spec *b);
// What tells those who use the model in `dir` what its ids mean: the identity of the text's tokenizer and, of a
// `final` one, where the text is not too old to hold it, that tokenizer. But a final model that was made from others has
// what they have: that of the first of origins[n] (their directories, or NULL) with a tokenizer; where none has one, what
// they say of its special tokens and of conversations. Beside a
// final one lies what transformers wants (data/tokenizer/export.h). spec: of the model in dir.
kv_status kv_task_save_tokenizer(const kv_task *task, const char *const *origins, int n,
                                 const kv_model_spec *spec, const char *dir, bool final, kv_error *err);
// "4 layers, dim 96, ... 407 k parameters" and a newline.
void kv_task_describe_model(const kv_model_spec *spec, FILE *out);
