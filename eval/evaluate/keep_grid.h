// What results keep of items that lie on a grid: eval/results/grid.h makes tables and maps of it.
#pragma once

#include "eval/results/results.h"

// Lengths, depths and prompts of the items, and the lengths of skipped ones, into `task`, whose n_items and n_skipped are set.
// Nothing where an item has no length. False when out of memory.
bool kv_keep_grid(const kv_benchmark *benchmark, kv_result_task *task);

// FLOPs of every item's prompt up to the first token.
kv_status kv_keep_item_flops(const kv_system *system, const kv_benchmark *benchmark, kv_outcome *outcome,
                             kv_error *err);
