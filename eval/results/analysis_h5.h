// The group /analysis of results.h5. Only h5.c and read.c beside it need it.
//   /analysis     attributes corpus, hash, sequences, seq_len, bins; absent where there was no analysis
//   /analysis/s   of system s (row of /systems), only where it was looked at:
//                 key_error, value_error [n_layers, seq_len];
//                 key_histogram, value_histogram [n_layers, bins] int64;
//                 key_edges, value_edges [n_layers, bins + 1];
//                 key_explained, value_explained, key_magnitude, value_magnitude [n_layers];
//                 attention_cosine [n_layers] (missing in older files: NaN);
//                 predicted [n_layers] int64, 0 of layers whose cache is the base's own (missing: 1).
//                 What they are: eval/results/analysis.h
#pragma once

#include "data/file/h5.h"
#include "eval/results/analysis.h"

kv_status kv_analysis_write_h5(const kv_analysis *analysis, int64_t n_systems, hid_t file, kv_error *err);

// Leaves zeros where there is no such group. On failure, KV_ERR_FORMAT naming `path` and the dataset for
// sizes that do not fit, it leaves what kv_analysis_free takes back.
kv_status kv_analysis_read_h5(const char *path, hid_t file, int64_t n_systems, kv_analysis *analysis,
                              kv_error *err);
