// The directory of a training run:
//   config.yaml                 the resolved configuration
//   metrics.jsonl               one JSON object per logged step
//   checkpoints/step-000500/    what the task saves, optimizer.h5, state.json
//   best/                       the same, of the step with the lowest validation loss so far
//                               (train.keep_best; state.json has the loss)
//   final/                      what the task saves, written when the last step is done; with optimizer.h5, from
//                               which a longer run goes on. It stays until the longer one's takes its place
//   starts.json                 how often it was started, and what time was lost (starts.h)
//   machines.jsonl              one JSON object per start: the step it went on from, how many ranks on how many nodes with how
//                               many threads in all, and on what rank 0 was (data/file/made_by.h)
//   stopped.json                why a run ended before its last step, unless it was killed
// Checkpoints, best and final appear whole or not at all.
#pragma once

#include "core/optimizer.h"
#include "train/task/task.h"

#include <limits.h>

typedef struct kv_run_state {
    int64_t step;              // done
    double seconds;            // spent training so far
    double validation_seconds; // and on held-out text
} kv_run_state;

// A run may be made longer (or shorter, down to what is done): what it was planned for, until which step.
typedef struct kv_run_plan {
    int64_t steps, until;
} kv_run_plan;

typedef enum kv_run_mode { KV_RUN_NEW, KV_RUN_RESUME, KV_RUN_FORCE } kv_run_mode;

typedef struct kv_run {
    char path[PATH_MAX];
    const kv_config *source;   // borrowed
    const kv_train_text *text; // borrowed
    char validation[17];       // hash of the held-out rows, empty: none
    int64_t steps, keep_last;
    bool keep_best;
    bool replace;              // a run that is there is to be removed first
    bool finished;             // resuming: nothing is left to do
    char checkpoint[PATH_MAX]; // resuming: where from; empty: from the beginning
    kv_run_state state;
    kv_run_plan *plans; // [n_plans] former ones, ascending; the last until state.step: just made longer
    size_t n_plans;
    char moved[256]; // resuming: keys whose files lie elsewhere than before
    int64_t micro_batch, former_micro_batch;
    int64_t validated; // the step that metrics.jsonl ends with a validation of, -1: none
    bool has_best;
    double best_loss; // the lowest validation loss so far
    FILE *metrics;
    bool locked; // the directory, by
    int lock;    // this descriptor
} kv_run;

// Names in a run's directory.
extern const char kv_run_config_name[], kv_run_final_name[], kv_run_best_name[];
// And in those of its checkpoints.
extern const char kv_run_state_name[], kv_run_optimizer_name[];

// Whether a directory holds anything of a run.
bool kv_run_is_there(const char *path);

// Makes the directory of a run that kv_run_open (resume.h) has looked at ready for the first (or next) step: locked against a second kvtrain, freed from what a
// killed one left unfinished, config.yaml written, metrics.jsonl cut back to the resumed step and opened.
kv_status kv_run_begin(kv_run *run, kv_error *err);
void kv_run_close(kv_run *run);

// Appends one line (no newline in it) to metrics.jsonl and flushes it.
kv_status kv_run_log(kv_run *run, const char *json, kv_error *err);

// Writes checkpoints/step-NNNNNN from run->state, then removes all but the last keep_last.
kv_status kv_run_checkpoint(kv_run *run, kv_task *task, const kv_adamw *optimizer, kv_error *err);

// Writes best/ with run->best_loss.
kv_status kv_run_keep_best(kv_run *run, kv_task *task, kv_error *err);

// Writes stopped.json of a run that kv_run_begin opened and that ended with an error; `message` says which.
// Does what can be done: a full disk may be the very reason.
void kv_run_stopped(const kv_run *run, kv_status status, const char *message);

// Steps of the checkpoints in a run's directory, ascending; the caller frees *steps. No directory of
// checkpoints is none.
kv_status kv_run_checkpoints(const char *run, int64_t **steps, size_t *n, kv_error *err);

// The directory of that checkpoint.
kv_status kv_run_checkpoint_path(const char *run, int64_t step, char path[PATH_MAX], kv_error *err);

// Writes final/.
kv_status kv_run_finish(kv_run *run, kv_task *task, const kv_adamw *optimizer, kv_error *err);
