// How many pieces a round has depends on numbers that all ranks know, so that all of them agree equally often.
#include "train/task/shared_work.h"

#include "data/ranks/ranks.h"
#include "data/system/console.h"

// An agreement takes as long as a small message does: some dozens are nothing beside the work, and let the last few percent
// of it at most be done in vain.
enum { MOST_ROUNDS = 64 };

int64_t kv_share_rounds(int64_t n, int n_ranks) {
    const int64_t largest = (n + n_ranks - 1) / n_ranks;
    return largest < MOST_ROUNDS ? largest : MOST_ROUNDS;
}

kv_pieces kv_share_round(int64_t n, int n_ranks, int rank, int64_t round) {
    const int64_t n_rounds = kv_share_rounds(n, n_ranks), first = kv_share_begin_of(n, n_ranks, rank),
                  own = kv_share_begin_of(n, n_ranks, rank + 1) - first;
    return (kv_pieces){first + kv_share_begin_of(own, (int)n_rounds, (int)round),
                       first + kv_share_begin_of(own, (int)n_rounds, (int)round + 1)};
}

int64_t kv_share_done(int64_t n, int64_t done) {
    const int64_t all = done * kv_n_ranks();
    return all < n ? all : n;
}

static kv_status do_round(kv_pieces own, kv_piece_fn *piece, void *context, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = own.first; i < own.end && status == KV_OK; i++)
        status = kv_console_interrupted() ? kv_fail(err, KV_ERR_INTERRUPTED, "interrupted")
                                          : piece(context, i, err);
    return status;
}

kv_status kv_share_work(int64_t n, kv_piece_fn *piece, void *context, kv_error *err) {
    const int64_t n_rounds = kv_share_rounds(n, kv_n_ranks());
    kv_status status = KV_OK;
    for (int64_t round = 0; round < n_rounds && status == KV_OK; round++) {
        status = do_round(kv_share_round(n, kv_n_ranks(), kv_rank(), round), piece, context, err);
        // A signal in the last round is too late for those who are done with it.
        const bool stop = kv_ranks_interrupted() && round + 1 < n_rounds;
        if (stop && status == KV_OK) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        status = kv_ranks_agree(status, err);
    }
    return status;
}
