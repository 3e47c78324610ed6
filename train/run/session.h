// A training that was described, checked and planned: what kvtrain needs of it before anything is trained.
#pragma once

#include "train/run/directory.h"
#include "train/run/validation.h"

typedef struct kv_train_session {
    kv_config *source;
    const kv_train_config *config; // belongs to source
    kv_train_text text;
    kv_validation *validation; // NULL: none
    kv_task *task;
    kv_run run; // kv_train_session_run opens it
} kv_train_session;

// Loads the configuration, checks that its models go together and with the text, opens the text and plans the
// task. Reads no weights. Close with kv_train_session_close, also after a failure; *s must be zeroed before.
kv_status kv_train_session_open(kv_train_session *s, const char *path, const char *const *overrides,
                                size_t n_overrides, kv_error *err);
// kv_run_open of the session's run.
kv_status kv_train_session_run(kv_train_session *s, kv_run_mode mode, kv_error *err);
void kv_train_session_close(kv_train_session *s);
