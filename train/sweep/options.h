// The part of kvtrain's command line that concerns sweeps.
#pragma once

#include "data/table/format.h"
#include "train/sweep/sweep.h"

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kv_sweep_options {
    const char *path; // of the sweep's file, NULL: an ordinary training
    const char *only;
    kv_sweep_share share;
    bool no_eval;
    int64_t jobs;
    const kv_table_format *format;
    bool *no_config; // set when there is a sweep: no CONFIG is expected then
} kv_sweep_options;

// An argp child: the program's parser sets its child input to a kv_sweep_options with no_config.
extern const struct argp kv_sweep_argp;
