// What the files of task: kvp share: kvp.c plans and steps, kvp_weights.c loads and saves, kvp_memory.c
// says what that takes.
#pragma once

#include "train/task/cached_teacher.h"
#include "train/task/task.h"

enum {
    KVP_TERM_BASE,
    KVP_TERM_AUX,
    KVP_TERM_CONSISTENCY,
    KVP_TERM_KL,
    KVP_TERM_HIDDEN,
    KVP_TERM_Z_BASE,
    KVP_TERM_Z_AUX,
    KVP_TERMS
};

typedef struct kvp_task {
    kv_task task; // first: ops get a kv_task *
    kv_model_spec base_spec, aux_spec;
    kv_checkpoint_size base_size, aux_size; // aux_size: of one that is read
    kv_predictor *shape;                    // without weights: enough to plan with
    kv_kvp_weights weights;
    int term[KVP_TERMS];       // which of them the task's terms are
    kv_cached_teacher *cached; // teacher: cached; else NULL
    bool cache_has_aux;        // what is read of the aux is in the cache, too
    bool aux_cached;           // steps read that
    // Models that are in memory after load; the other ones are only looked at then.
    bool keeps_base, keeps_aux;
    bool start_cached;    // after load: the cache is also that of the aux as it starts
    kv_model *base, *aux; // of a prefix one and the same
    kv_predictor *predictor;
    // As stored; of an aux that is trained: when last asked; of a prefix: none.
    char base_fingerprint[17], aux_fingerprint[17];
} kvp_task;

static inline bool kvp_aux_trained(const kvp_task *kvp) {
    return !kvp->task.config->freeze_aux;
}

static inline bool kvp_prefix(const kvp_task *kvp) {
    return kv_train_prefix(kvp->task.config);
}

// Of a trained aux the weights that learn, their number: all, or without a loss of its own those that are read.
static inline int64_t kvp_aux_learns(const kvp_task *kvp) {
    return kvp->weights.aux != 0 ? kv_spec_size(&kvp->aux_spec, true)
                                 : kv_predictor_aux_size(kvp->shape, &kvp->aux_spec);
}

// What batches are given from caches.
kv_kvp_known kvp_known_parts(const kvp_task *kvp);

// Another predictor, of this spec, as it starts: of the same text and models, in memory.
kv_status kvp_remake_predictor(kvp_task *kvp, const kv_predictor_spec *spec, kv_error *err);

// ops of the task.
kv_status kvp_load(kv_task *task, const char *from, kv_error *err);
kv_status kvp_save(kv_task *task, const char *dir, bool final, kv_error *err);
void kvp_memory(const kv_task *task, const kv_task_choice *choice, kv_task_memory *memory);
