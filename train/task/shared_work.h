// Work in numbered pieces, such as the batches of a start or of a validation, shared among the ranks of a run
// (data/ranks/ranks.h).
//
// A rank has neighbouring pieces, as many as every other or one more, and does them in rounds. After each round all agree on
// whether they go on: what has stopped one of them, a failure or a signal that nobody else got, stops all within a
// round. Rounds are few, however many pieces there are, so that ranks seldom wait for each other.
#pragma once

#include "core/status.h"

#include <stdint.h>

// Does one piece. KV_ERR_INTERRUPTED ends the work like any other failure.
typedef kv_status kv_piece_fn(void *context, int64_t piece, kv_error *err);

// Collective: this rank's pieces of n, in their order. KV_OK on all ranks, or on all the failure of one of them.
// KV_ERR_INTERRUPTED where the user has stopped one of them before all was done.
kv_status kv_share_work(int64_t n, kv_piece_fn *piece, void *context, kv_error *err);

// Pieces [first, end).
typedef struct kv_pieces {
    int64_t first, end;
} kv_pieces;

// Rounds in which n pieces are done, and the pieces of a rank's round. Rounds of a rank follow on one another, and so do ranks.
int64_t kv_share_rounds(int64_t n, int n_ranks);
kv_pieces kv_share_round(int64_t n, int n_ranks, int rank, int64_t round);

// Pieces done by all ranks, as far as one can tell that has done so many.
int64_t kv_share_done(int64_t n, int64_t done);
