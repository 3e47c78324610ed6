// teacher: cached. Keys, values and logits come from files that kvdata cache made (data/cache/cache.h), and
// only models that something else needs are in memory.
#pragma once

#include "data/cache/cache.h"
#include "data/corpus/batches.h"
#include "train/config/config.h"

typedef struct kv_cached_teacher kv_cached_teacher;

// A run's text and what it is trained for.
typedef struct kv_cached_args {
    const kv_config *source;
    const kv_train_config *config;
    const kv_batch_part *parts; // [n_parts]; borrowed
    int64_t n_parts;
    const kv_model_spec *base, *aux;
    const kv_predictor
        *shape; // of which what it reads counts; borrowed. NULL, and no aux: only logits are read
    const kv_kvp_weights *weights;
} kv_cached_args;

// Opens config->cache. Reads no rows and no weights, but checks all that can be told without: that it holds
// every shard of the text, cut into rows of this length, for models of these shapes, and the logits where
// loss.kl has a weight. Errors name the config's key, what was found and expected. Free with
// kv_cached_teacher_free (accepts NULL).
kv_status kv_cached_teacher_open(const kv_cached_args *args, kv_cached_teacher **teacher, kv_error *err);
void kv_cached_teacher_free(kv_cached_teacher *teacher);

// Another predictor is read for from now on; borrowed.
void kv_cached_read_for(kv_cached_teacher *teacher, const kv_predictor *shape);

// What it holds, of all files.
const kv_cache_info *kv_cached_info(const kv_cached_teacher *teacher);
// Whether there is an aux's cache, of the shape of this run's.
bool kv_cached_has_aux(const kv_cached_teacher *teacher);

// KV_ERR_MISMATCH where the cache is another base's, or another aux's (fingerprint NULL: not looked at).
kv_status kv_cached_check(const kv_cached_teacher *teacher, const char *base_fingerprint,
                          const char *aux_fingerprint, kv_error *err);

// What the objective is given for a micro-batch made of rows[batch->n_seq]: tensors on the tape, of what the
// losses need; with `aux` also the aux's cache. The rows must hold the batch's tokens (KV_ERR_MISMATCH). Threads may ask at
// the same time, on tapes of their own, and wait for each other.
kv_status kv_cached_give(kv_cached_teacher *teacher, kv_tape *tape, const kv_row_ref *rows,
                         const kv_batch *batch, bool aux, kv_kvp_given *given, kv_error *err);

// The raw keys and the values of both models that the least-squares start needs: base_k and so on get tensors
// on the tape, those of layers that are not read NULL. aux_k may be NULL: only the base's.
kv_status kv_cached_raw(kv_cached_teacher *teacher, kv_tape *tape, const kv_row_ref *rows,
                        const kv_batch *batch, kv_tensor **base_k, kv_tensor **base_v, kv_tensor **aux_k,
                        kv_tensor **aux_v, kv_error *err);
