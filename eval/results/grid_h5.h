// What results.h5 keeps of items on a grid (eval/results/grid.h), in the group of their task /tasks/i, only where there is one:
//   item_lengths, item_tokens, item_depths [N]; skipped_lengths [n_skipped], where items were skipped;
//   item_flops [S, N], NaN: not known
#pragma once

#include "data/file/h5.h"
#include "eval/results/results.h"

kv_status kv_grid_write_h5(const kv_results *results, int64_t task, hid_t file, kv_error *err);

// Sizes of the task are known; nothing where the group has no grid. KV_ERR_FORMAT naming file and dataset where a size is another
// one, a length below 1 or a depth not from 0 to 1. path: for messages.
kv_status kv_grid_read_h5(const char *path, hid_t file, int64_t task, kv_results *results, kv_error *err);
