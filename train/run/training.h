// A training that was described, checked and planned: what kvtrain needs of it before anything is trained.
#pragma once

#include "train/run/directory.h"
#include "train/run/validation.h"

typedef struct kv_training {
    kv_config *source;
    const kv_train_config *config; // belongs to source
    kv_train_text text;
    kv_validation *validation; // NULL: none
    kv_task *task;
    kv_run run; // kv_training_run opens it
} kv_training;

// Loads the configuration, checks that its models go together and with the text, opens the text and plans the
// task. Reads no weights. Close with kv_training_close, also after a failure.
kv_status kv_training_open(kv_training *s, const char *path, const char *const *overrides, size_t n_overrides,
                           kv_error *err);
// kv_run_open of the training's run.
kv_status kv_training_run(kv_training *s, kv_run_mode mode, kv_error *err);
void kv_training_close(kv_training *s);
