// Measures how far a system's predicted caches are from what its base makes of the same text.
#pragma once

#include "data/system/console.h"
#include "eval/results/analysis.h"
#include "infer/session/engine.h"

// The text: rows of fixed packing.
typedef struct kv_analysis_text {
    int32_t *rows;              // [sequences, seq_len + 1]
    int64_t sequences, seq_len; // each row is read without its last token, which is only a target
    char hash[17];              // of all of it
} kv_analysis_text;

// The first rows of the shard or, one shard after the other, of the directory of shards at `path`:
// `sequences` of them, or as many as there are. KV_ERR_RANGE when there is not a single one. Free with
// kv_analysis_text_free, which accepts zeros.
kv_status kv_analysis_text_read(const char *path, int64_t sequences, int64_t seq_len, kv_analysis_text *text,
                                kv_error *err);
void kv_analysis_text_free(kv_analysis_text *text);

// Both models of `system`, which has a predictor, read the text, at_once rows at a time (0: as many as make
// some 4096 tokens); *errors is made by this call (sizes as `analysis` has them) and the caller's to free.
//
// Two passes: a short one over the first 8 rows for the range of each layer's histogram, to either side what
// 99.5 % of the |errors| there stay below (to a 64th of an octave), and one over all. Sums are in double
// precision and in the order of the text, those of each batch by themselves, whatever number of threads; the models' own
// arithmetic may round differently. `progress` (may be NULL) is shown in rows, sequences + min(8, sequences)
// in all. KV_ERR_INTERRUPTED on a signal to stop, obeyed between batches.
//
// Collective: ranks (data/ranks/ranks.h) read a batch each, turn by turn, after rank 0 has read the first rows, and *errors
// is complete on rank 0 alone, with the bits that one process computes. What fails has been agreed on.
kv_status kv_analysis_measure(const kv_system *system, const kv_analysis_text *text, int64_t at_once,
                              const kv_analysis *analysis, kv_progress *progress, kv_cache_analysis *errors,
                              kv_error *err);

// How many rows kv_analysis_measure goes through, for its progress.
int64_t kv_analysis_work(const kv_analysis_text *text);
