// The training loop: batches in, micro-batches accumulated, clipped, scheduled, AdamW; metrics, checkpoints
// and interruption on the way. What is trained is the task's business.
#pragma once

#include "train/run/directory.h"

// Runs the steps run->state.step .. train.steps - 1 of a loaded task, then writes final/. A run resumed from
// run->checkpoint takes its optimiser state from there. KV_ERR_INTERRUPTED after a signal to stop: the step
// under way was finished (but not its validation) and a checkpoint written.
// A gradient that is not finite ends the run (KV_ERR_NOT_FINITE, naming the step) before it touches the weights.
kv_status kv_train(kv_task *task, kv_run *run, kv_error *err);
