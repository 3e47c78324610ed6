// How micro-batches of a run are cut into slices (core/slices.h).
#pragma once

#include "train/task/task.h"

// Slices of a micro-batch of choice->n_seq sequences; 1: it is run as a whole.
int64_t kv_task_slices(const kv_task *task, const kv_task_choice *choice);

// Products of one training step: of all its micro-batches of so many sequences, in their slices.
uint64_t kv_step_flops(const kv_task *task, const kv_task_choice *choice);
