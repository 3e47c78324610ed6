// What is asked of MPI: all that data/ranks knows of it. A module implements it once for each MPI library
// (data/ranks/mpi.c), alone.c for a process that has no others.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kv_ranks_request kv_ranks_request;

// Where a process stands among the others.
typedef struct kv_ranks_place {
    int rank, n_ranks, node_rank, node_ranks;
} kv_ranks_place;

// Calls do not return when MPI fails: they hand a line to `fail`, which does not return.
typedef void kv_transport_fail(const char *line);

// A module of another build may have other calls: its size says so before one is made.
typedef struct kv_transport {
    size_t size;
    kv_ranks_place (*join)(kv_transport_fail *fail);
    void (*leave)(void);
    // Ends all, in disorder. Does not return.
    void (*give_up)(int code);
    const char *(*library)(void);
    // Of all ranks, or of those of this node.
    void (*barrier)(bool node);
    void (*broadcast)(bool node, void *data, size_t size, int from);
    void (*gather)(const void *mine, size_t size, void *all);
    void (*send)(const void *data, size_t size, int to);
    void (*receive)(void *data, size_t size, int from);
    // As kv_ranks_begin_scatter and its like.
    kv_ranks_request *(*begin_scatter)(const float *values, const int64_t *begins, float *received);
    kv_ranks_request *(*begin_spread)(float *values, const int64_t *begins);
    bool (*done)(kv_ranks_request *request);
    void (*wait)(kv_ranks_request *request);
    // Some time between two looks, of which there were *looks before; counts them.
    void (*rest)(int64_t *looks);
} kv_transport;

extern const kv_transport kv_transport_alone;
// What a module exports.
extern __attribute__((visibility("default"))) const kv_transport kv_transport_functions;
