// A benchmark knows its items only while it is open; what a heat map needs of them goes over into the results.
#include "eval/evaluate/keep_grid.h"

#include "infer/cost.h"

#include <stdlib.h>

static bool is_grid(const kv_benchmark *b) {
    bool grid = true;
    for (int64_t i = 0; i < b->n_items; i++) grid = grid && b->items[i].length > 0;
    return grid;
}

static bool keep_skipped(const kv_benchmark *b, kv_result_task *task) {
    if (task->n_skipped == 0) return true;
    task->grid.skipped = calloc((size_t)task->n_skipped, sizeof *task->grid.skipped);
    for (int64_t i = 0; task->grid.skipped && i < task->n_skipped; i++)
        task->grid.skipped[i] =
            json_integer_value(json_object_get(json_array_get(b->skipped, (size_t)i), "length"));
    return task->grid.skipped != NULL;
}

bool kv_keep_grid(const kv_benchmark *b, kv_result_task *task) {
    const size_t n = (size_t)b->n_items;
    if (!is_grid(b)) return true;
    task->grid.lengths = calloc(n + 1, sizeof *task->grid.lengths);
    task->grid.tokens = calloc(n + 1, sizeof *task->grid.tokens);
    task->grid.depths = calloc(n + 1, sizeof *task->grid.depths);
    if (!task->grid.lengths || !task->grid.tokens || !task->grid.depths) return false;
    for (size_t i = 0; i < n; i++) {
        task->grid.lengths[i] = b->items[i].length;
        task->grid.tokens[i] = b->prompt_tokens[i];
        task->grid.depths[i] = b->items[i].depth;
    }
    return keep_skipped(b, task);
}

kv_status kv_keep_item_flops(const kv_system *system, const kv_benchmark *b, kv_outcome *outcome,
                             kv_error *err) {
    outcome->item_flops = calloc((size_t)b->n_items + 1, sizeof *outcome->item_flops);
    if (!outcome->item_flops)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld items", (long long)b->n_items);
    for (int64_t i = 0; i < b->n_items; i++)
        outcome->item_flops[i] = (double)kv_system_flops(system, b->prompt_tokens[i]);
    return KV_OK;
}
