// Gradients of a step, summed over ranks while backward still makes them.
//
//   parameters, last to first:  | head | layer 11 | layer 10 | ...            | embed |
//   buckets:                    |   0    |    1    |    2    |  ...      |     n - 1  |
//   each of them, of 3 ranks:   | rank 0's | rank 1's | rank 2's |
//
// A bucket is begun when all its gradients are complete and those before it are begun, which is the same order on all ranks.
// Everybody sends everybody the piece that is theirs; the sum over ranks is added in the order of the ranks, whenever they
// arrive, so that it has the same bits wherever ranks are placed and whichever MPI carries them. Then the pieces go back to
// all; or, where each rank updates no more than its pieces (ZeRO-1), what goes to all is the updated parameters.
// Either way a rank sends and receives 2 · (N - 1) / N times the size of the gradients.
//                                                        [reduce-scatter and all-gather: Rajbhandari et al., arXiv 1910.02054, §7.1]
#pragma once

#include "core/optimizer.h"
#include "core/tape.h"

// Numbers of a bucket, and how many buckets are under way at most.
enum { KV_EXCHANGE_BUCKET = 1 << 20, KV_EXCHANGE_SLOTS = 4 };

typedef struct kv_exchange kv_exchange;

// For params[n], which are borrowed and the same on all ranks. sharded: gradients come back to their rank alone. Free with
// kv_exchange_free (accepts NULL).
kv_status kv_exchange_create(kv_param *const *params, int64_t n, bool sharded, kv_exchange **exchange,
                             kv_error *err);
void kv_exchange_free(kv_exchange *exchange);

// Elements that are this rank's: spans[*n_spans], sorted, which belong to the exchange.
const kv_param_span *kv_exchange_spans(const kv_exchange *exchange, int64_t *n_spans);

// Before the first backward pass of a step; and the watcher to run the last one with, which stays the same.
void kv_exchange_begin(kv_exchange *exchange);
const kv_grad_watcher *kv_exchange_watcher(const kv_exchange *exchange);
// After it, collective, even where the pass has failed: all ranks have sent what there is, so that none waits. From then on
// param->grad holds sums (sharded: in this rank's spans alone).
void kv_exchange_finish(kv_exchange *exchange);

// Collective, after an update of each rank's spans: all parameters of all ranks.
void kv_exchange_parameters(kv_exchange *exchange);

// Seconds of this step that were spent on waiting for other ranks, or for the network: in kv_exchange_finish what backward did not
// hide; and kv_exchange_parameters, behind which nothing hides.
double kv_exchange_waited(const kv_exchange *exchange);

// Bytes that the buffers take, for so many weights on so many ranks; and that a rank sends in a step.
double kv_exchange_bytes(double n_weights, int n_ranks);
double kv_exchange_traffic(double n_weights, int n_ranks);
