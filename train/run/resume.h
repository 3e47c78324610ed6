// Whether, and from where, the run in a directory goes on.
//
// What has a part in the weights has to be as it was. Free are keys of logging, validation and memory; the place
// of files that are the same; data.micro_batch_size, which changes the last digits; and train.steps, down to what is
// done: the optimiser's state goes on, the schedule is the new one.
#pragma once

#include "train/run/directory.h"

// Names in a run's directory.
extern const char kv_run_config_name[], kv_run_final_name[], kv_run_best_name[];
// And in those of its checkpoints.
extern const char kv_run_state_name[], kv_run_optimizer_name[];

// For kv_run_open of a directory with a config.yaml: run->finished, or run->checkpoint with its state. KV_ERR_MISMATCH
// names the key that differs.
kv_status kv_run_resume(kv_run *run, const kv_train_config *config, kv_error *err);

// Says where the run goes on from (nothing of one that begins), with a warning for what will not be as in a run of this
// configuration that was never stopped.
void kv_run_announce(const kv_run *run);
