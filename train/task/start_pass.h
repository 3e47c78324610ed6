// One pass over the beginning of the training text before the first step: both models read it, or caches on disk say
// what they make of it. What comes of that, whoever asks for the pass says.
//
// Ranks share the batches, which are those of a run alone: each reads its own, and what they have made of them is added up.
#pragma once

#include "core/predictor/least_squares.h"
#include "train/config/corpora.h"
#include "train/task/cached_teacher.h"

typedef struct kv_start_args {
    const kv_config *source; // for errors
    const kv_train_config *config;
    const kv_train_text *text;
    const kv_model_spec *base_spec, *aux_spec;
    kv_model *base, *aux; // with their weights; NULL where a cache stands for them
    // The base's cache, or NULL; it reads for `reads` of the pass (kv_cached_read_for).
    kv_cached_teacher *cached;
    bool aux_cached; // it also is that of the aux as it is now
} kv_start_args;

typedef struct kv_start_pass {
    const char *title;         // of its progress
    const kv_predictor *reads; // what of the models is read; it may be without weights
    int64_t n_tokens;          // 0, or more than there are: all of them, each once
    // Takes a batch into the sums, as kv_least_squares_add does.
    kv_status (*add)(void *sums, kv_tape *tape, const kv_taps *taps, kv_tensor *const *base_raw_k,
                     kv_tensor *const *base_v, const uint8_t *keep, kv_error *err);
    // As kv_least_squares_visit and kv_least_squares_tell_tokens: what ranks add up.
    bool (*visit)(void *sums, kv_sums_fn *fn, void *what);
    void (*tell_tokens)(void *sums, int64_t n_tokens);
    void *sums;
    uint64_t flops; // products of adding a batch (kv_start_rows)
} kv_start_pass;

// Tokens of a batch.
int64_t kv_start_rows(const kv_start_args *args);

// Collective. The sums are then those of all ranks, the same bits on each of them; *n_read: their tokens. Errors are
// agreed on. KV_ERR_INTERRUPTED when the user stops it.
kv_status kv_start_read(const kv_start_args *args, const kv_start_pass *pass, int64_t *n_read, kv_error *err);

// Products of all of it, whoever makes them; `sums` and the functions may be NULL.
double kv_start_flops(const kv_start_args *args, const kv_start_pass *pass);
