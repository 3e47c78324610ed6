// What ranks make of a step on many machines, by a model that can be worked out by hand. One rank on each node; a node sends and
// receives R bytes a second, and a message arrives L seconds after it was sent.
//
//   sent     2 · (N - 1) / N · 4 · W   bytes by each rank in a step, of W trained weights on N ranks: half of them to bring gradients
//                                      together, half to bring sums, or updated weights, to all (train/run/exchange.h).
//                                      [no all-reduce does with less: Patarasuk & Yuan 2009; ZeRO-1 sends as much: arXiv 1910.02054, §7.1]
//   buckets  n = ⌈W / 2^20⌉, of which each is under way for w + l: w = sent / R / n, and the latency l of a message from everybody to
//            everybody (L) and of a ring round which sums go (N - 1 times L).
//                                      [ring: Thakur et al. 2005, §4.1]
//   all      t(n) = max(n · w + l, n · (w + l) / S): either the wire is always busy, or S = 4 buckets are always under way.
//   a step   C + max(t(n) - B, t(m)) at best: C is what the step takes without a network, B its last backward pass, which hides what
//            is sent meanwhile; but m buckets, those of the embedding, are complete no sooner than it ends.
//            C + t(n) at worst: nothing is hidden. MPI sends while it is asked to, between the operators of backward.
//   sharded  (train.shard_optimizer) gradients take half of it, w / 2 and l = L, as above; then come the weights, w / 2 and
//            l = (N - 1) · L, with nothing to hide behind.
//
// It leaves out that ranks wait for the slowest of them, that switches may be crowded, and that sending takes cores' time.
#pragma once

#include <stdbool.h>

typedef struct kv_network {
    double bytes_per_second; // of a node, each way
    double latency;          // in seconds
} kv_network;

// A rank's step, on no network.
typedef struct kv_network_work {
    double n_weights;              // that are trained
    double n_last;                 // of them, whose gradients are complete no sooner than backward ends
    double seconds, last_backward; // of the step, and of the last micro-batch's backward pass
    bool sharded;
} kv_network_work;

typedef struct kv_network_step {
    double sent;        // bytes, by each rank
    double exchange;    // seconds that takes, t(n)
    double best, worst; // seconds of the step
} kv_network_step;

kv_network_step kv_network_predict(const kv_network *network, int n_nodes, const kv_network_work *work);

// "25" or "25,50": Gbit/s of each node, and microseconds (50 where nothing is said). False: it is no such text.
bool kv_network_parse(const char *text, kv_network *network);
