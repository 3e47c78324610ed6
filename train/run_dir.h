// The directory of a training run:
//   config.yaml                 the resolved configuration
//   metrics.jsonl               one JSON object per logged step
//   checkpoints/step-000500/    what the task saves, optimizer.h5, state.json
//   final/                      what the task saves, written when the last step is done
// Checkpoints and final appear whole or not at all.
#pragma once

#include "core/optimizer.h"
#include "train/task.h"

#include <limits.h>

typedef struct kv_run_state {
    int64_t step;   // done
    double seconds; // spent training so far
} kv_run_state;

typedef enum kv_run_mode { KV_RUN_NEW, KV_RUN_RESUME, KV_RUN_FORCE } kv_run_mode;

typedef struct kv_run {
    char path[PATH_MAX];
    const kv_config *source;   // borrowed
    const kv_train_text *text; // borrowed
    int64_t keep_last;
    bool replace;              // a run that is there is to be removed first
    bool finished;             // resuming: nothing is left to do
    char checkpoint[PATH_MAX]; // resuming: where from; empty: from the beginning
    kv_run_state state;
    FILE *metrics;
    int lock; // descriptor of the locked directory, 0: none
} kv_run;

// Looks at what is in config->output without changing anything. Refuses a directory that holds a run unless
// `mode` says what to do with it; when resuming, refuses a configuration or text other than the run's
// (KV_ERR_MISMATCH, naming the key).
kv_status kv_run_open(kv_run *run, const kv_config *source, const kv_train_config *config,
                      const kv_train_text *text, kv_run_mode mode, kv_error *err);

// Makes the directory ready for the first (or next) step: locked against a second kvtrain, freed from what a
// killed one left unfinished, config.yaml written, metrics.jsonl cut back to the resumed step and opened.
kv_status kv_run_begin(kv_run *run, kv_error *err);
void kv_run_close(kv_run *run);

// Appends one line (no newline in it) to metrics.jsonl and flushes it.
kv_status kv_run_log(kv_run *run, const char *json, kv_error *err);

// Writes checkpoints/step-NNNNNN from run->state, then removes all but the last keep_last.
kv_status kv_run_checkpoint(kv_run *run, kv_task *task, const kv_adamw *optimizer, kv_error *err);

// Writes final/.
kv_status kv_run_finish(kv_run *run, kv_task *task, kv_error *err);
