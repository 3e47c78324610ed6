// What `kvtrain --dry-run` says about a run before it costs anything.
#pragma once

#include "train/run/network.h"
#include "train/task/task.h"

// Ranks to say it of, which need not be there: node_ranks of them on each of n_nodes.
typedef struct kv_estimate_ranks {
    int n_nodes, node_ranks;
} kv_estimate_ranks;

// Prints, on `out`: the resolved configuration, the models, parameters, FLOPs per token, memory, and the time
// the matrix products alone will take at the rate this machine reaches now (measured in a fraction of a
// second); and, unless `network` is NULL, what a step would take on several such machines which that connects. ranks NULL: of
// those that are there.
kv_status kv_estimate_print(const kv_task *task, const kv_estimate_ranks *ranks, const kv_network *network,
                            FILE *out, kv_error *err);
