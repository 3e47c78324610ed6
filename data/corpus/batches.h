// Training batches drawn from a corpus, or from several by weight.
//
// Rows. Each part is read for itself, epoch after epoch, in rows of seq_len + 1 tokens: seq_len inputs and as
// many next-token targets.
//   stream: epoch e is all documents laid end to end: the shards one after the other in an order drawn by
//     (seed, e), within each its documents in an order drawn by (seed, e, shard). The text is not cut where a
//     shard or an epoch ends: rows go on into the next one. They overlap by one token, so that each is a
//     target once an epoch.
//   fixed: as data/corpus/packing.h describes; rows never cross shards.
//
// Mixture. Weights are of sequences and, as all are equally long, of tokens: of any first R rows the first
// part has its share (weight / sum of weights) of R within half a row, each further part within half a row
// more than the one before it. The parts alternate as evenly as that allows, and each goes through its epochs
// at its own speed.
//
// The batch of a step is a pure function of (seed, step): resuming needs no state. One shard of each part is
// in memory at a time.
#pragma once

#include "core/api.h"
#include "data/corpus/corpus.h"

#include <stdbool.h>

KV_API_BEGIN

typedef struct kv_batch_part {
    const kv_corpus *corpus; // borrowed
    double weight;           // above 0
} kv_batch_part;

typedef struct kv_batches_args {
    const kv_batch_part *parts; // [n_parts]
    int64_t n_parts, n_seq, seq_len;
    uint64_t seed;
    bool fixed;
} kv_batches_args;

typedef struct kv_batches kv_batches;

// Reads no tokens yet.
kv_status kv_batches_create(const kv_batches_args *args, kv_batches **batches, kv_error *err);
void kv_batches_free(kv_batches *batches);

// input_ids, target_ids [n_seq · seq_len], all targets valid. Loads shards as they are needed.
kv_status kv_batches_get(kv_batches *batches, int64_t step, int32_t *input_ids, int32_t *target_ids,
                         kv_error *err);

// Where the rows of a batch come from (fixed packing only, otherwise KV_ERR_ARGUMENT): rows[n_seq]. Reads no
// tokens.
typedef struct kv_row_ref {
    int64_t part, shard, row;
} kv_row_ref;
kv_status kv_batches_rows(kv_batches *batches, int64_t step, kv_row_ref *rows, kv_error *err);

// How many epochs of a part that many steps are.
double kv_batches_epochs(const kv_batches *batches, int64_t part, int64_t steps);

KV_API_END
