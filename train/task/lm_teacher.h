// What teaches a language model beside its text (loss.kl): the base's logits, made as they are needed or read from a
// cache. With it a model alone gets what predictors get, and can be compared with them.
#pragma once

#include "train/task/cached_teacher.h"
#include "train/task/task.h"

typedef struct lm_teacher {
    const kv_task *task; // borrowed
    kv_model_spec spec;  // n_layers 0: nothing teaches
    kv_checkpoint_size size;
    kv_cached_teacher *cached; // teacher: cached; else NULL
    bool kept;                 // the model is in memory after load
    kv_model *model;
    char fingerprint[17]; // after load: of its weights as stored
} lm_teacher;

static inline bool lm_teacher_is_there(const lm_teacher *teacher) {
    return teacher->spec.n_layers > 0;
}

// Where loss.kl has a weight: checks that base has the vocabulary of the model to be taught, and opens the cache.
// Reads no weights. Errors name the config's key.
kv_status lm_teacher_plan(lm_teacher *teacher, const kv_task *task, const kv_model_spec *base,
                          const kv_model_spec *model, kv_error *err);
void lm_teacher_free(lm_teacher *teacher); // what is in it

// Collective. Weights, as far as they are needed; with `from`, a checkpoint of lm_teacher_save, they have to be those that the run
// was taught by so far.
kv_status lm_teacher_load(lm_teacher *teacher, const char *from, kv_error *err);
// teacher.json in dir: whose logits the model there was taught by.
kv_status lm_teacher_save(const lm_teacher *teacher, const char *dir, kv_error *err);

// A line or two for --dry-run.
void lm_teacher_describe(const lm_teacher *teacher, FILE *out);
