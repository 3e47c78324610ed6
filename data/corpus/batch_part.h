// The rows of one corpus, epoch after epoch without an end: a part of what data/corpus/batches.h draws from.
// Row r is a pure function of (seed, r); one shard is in memory at a time.
#pragma once

#include "data/corpus/corpus.h"

#include <stdbool.h>

typedef struct kv_part_rows kv_part_rows;

// corpus: borrowed. fixed: rows as data/corpus/packing.h cuts them, otherwise a stream
// (data/corpus/batches.h). Reads nothing yet.
kv_status kv_part_rows_create(const kv_corpus *corpus, int64_t seq_len, uint64_t seed, bool fixed,
                              kv_part_rows **rows, kv_error *err);
void kv_part_rows_free(kv_part_rows *rows);

// tokens[seq_len + 1] of a row, which must be small enough for (row + 1) · seq_len + 1 to be a number of 64
// bits. Loads the shards it lies in.
kv_status kv_part_rows_get(kv_part_rows *rows, int64_t row, int32_t *tokens, kv_error *err);
// Where it comes from: fixed only.
void kv_part_rows_find(kv_part_rows *rows, int64_t row, int64_t *shard, int64_t *row_of_shard);
double kv_part_rows_epochs(const kv_part_rows *rows, int64_t n_rows);
