// How a process finds out whether it has others: signs in the environment that MPI launchers leave.
#pragma once

#include "core/status.h"
#include "data/ranks/transport.h"

// The transport for this process: alone, or that of a module which is loaded now. From then on programs that are started from
// here take themselves to be alone (KV_MPI in the environment).
kv_status kv_launch_transport(const kv_transport **transport, kv_error *err);

// What the signs in the environment say, without loading anything.
typedef struct kv_launch_signs {
    const char *names[2]; // modules to try, in this order; NULL: none
    int n_processes;      // as far as the launcher says; 1: alone
    const char *launcher; // for people
} kv_launch_signs;
kv_launch_signs kv_launch_look(void);
// The rank that the launcher has told this process it has; -1: none.
int kv_launch_rank(void);
// How many ranks the launcher says it has started on this machine; 0: it does not say.
int kv_launch_local_size(void);
