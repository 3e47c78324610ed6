// Fixed packing: the rows of training text are cut once, and epochs differ only in their order. What a model
// makes of a row can then be kept (a frozen cache), which a stream that is cut anew every epoch does not
// allow.
//
// The documents of a shard, in an order drawn once that depends on nothing but their number, are laid end to
// end and cut into rows of seq_len + 1 tokens that overlap by one (inputs and next-token targets). Tokens at
// the end that do not fill a row are left out. Rows never cross shards.
#pragma once

#include "core/api.h"
#include "data/corpus/shard.h"

KV_API_BEGIN

// Rows of a shard of n_tokens tokens.
int64_t kv_packed_rows(int64_t n_tokens, int64_t seq_len);

// tokens[kv_packed_rows, seq_len + 1] of the shard.
kv_status kv_packed_cut(const kv_shard *shard, int64_t seq_len, int32_t *tokens, kv_error *err);

// Order of an epoch over shards of n_rows[n_shards] rows: shards one after the other in an order drawn by
// (seed, epoch), within each its rows in an order drawn by (seed, epoch, shard). shard_order[n_shards];
// row_order[n_rows[shard]] of one of them.
void kv_packed_shard_order(uint64_t seed, int64_t epoch, int64_t n_shards, int64_t *shard_order);
void kv_packed_row_order(uint64_t seed, int64_t epoch, int64_t shard, int64_t n_rows, int64_t *row_order);

KV_API_END
