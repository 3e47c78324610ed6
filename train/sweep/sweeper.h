// A sweep at work: what sweep.c (the runs) and prepare.c (what must be there first) share.
#pragma once

#include "train/sweep/lock.h"
#include "train/sweep/sweep.h"

#include <sys/types.h>

typedef struct kv_sweeper {
    const kv_sweep_args *args;
    kv_sweep sweep;
    char program[PATH_MAX], kveval[PATH_MAX];
    bool evaluates;
    size_t n_wanted, n_to_do, n_failed; // runs
    size_t n_mine, n_started;           // of those to do: this rank's
    kv_sweep_lock lock;                 // rank 0's
    int told;                           // the signal that was passed on
} kv_sweeper;

// A training as it is started: of a run, or of what is prepared.
typedef struct kv_sweep_start {
    const char *config;
    const char *const *overrides; // [n]
    size_t n;
    bool anew;
    int threads;     // 0: all
    const char *log; // NULL: what it says goes where ours does
} kv_sweep_start;

kv_status kv_sweeper_start(const kv_sweeper *s, const kv_sweep_start *start, pid_t *child, kv_error *err);

// Collective. Trains what the runs start from and is not there yet. Among shares whoever comes first does, and the others wait.
kv_status kv_sweeper_prepare(kv_sweeper *s, kv_error *err);

// Ends a stage: all ranks go on, or none. A signal that one of them got is everybody's from then on.
kv_status kv_sweeper_agree(kv_status status, kv_error *err);
kv_status kv_sweeper_interrupted(kv_error *err);

// Whether several trainings may speak at a time: then each has a file of its own in logs/.
bool kv_sweeper_has_logs(const kv_sweeper *s);

// Collective. OUTPUT/sweep.yaml: what the file was expanded to, which has to be the same on all ranks.
kv_status kv_sweeper_write_list(kv_sweeper *s, kv_error *err);
