// Ranks of one run compute one thing: what each of them has read is the same, by content, or none begins. Paths may differ (a copy
// of the text on every node's own disk), what lies there may not.
#pragma once

#include "train/run/training.h"

// All are collective and succeed alone. KV_ERR_MISMATCH, on all ranks, names a rank whose part is not rank 0's.

// What kv_training_open has opened: the configuration, the tokenizer, every shard of text, the held-out rows.
kv_status kv_same_inputs(const kv_training *training, kv_error *err);
// What kv_training_run goes on from.
kv_status kv_same_beginning(const kv_run *run, kv_error *err);
// What kv_task_load has loaded: frozen models and weights that are trained.
kv_status kv_same_weights(const kv_task *task, kv_error *err);
