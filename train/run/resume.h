// Whether, and from where, the run in a directory goes on.
//
// What has a part in the weights has to be as it was. Free are keys of logging, validation and memory; the place
// of files that are the same; data.micro_batch_size, which changes the last digits; and train.steps, down to what is
// done: the optimiser's state goes on, the schedule is the new one.
#pragma once

#include "train/run/directory.h"

// Looks at what is in config->output without changing anything. Refuses a directory that holds a run unless
// `mode` says what to do with it; when resuming, refuses a configuration, text or held-out text other than
// the run's (KV_ERR_MISMATCH, naming the key). validation: hash of the held-out rows, NULL: none.
kv_status kv_run_open(kv_run *run, const kv_config *source, const kv_train_config *config,
                      const kv_train_text *text, const char *validation, kv_run_mode mode, kv_error *err);

// Says where the run goes on from (nothing of one that begins), with a warning for what will not be as in a run of this
// configuration that was never stopped.
void kv_run_announce(const kv_run *run);
