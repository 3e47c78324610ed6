// Where the items of a task lie on a grid: what results keep, so that eval/results/grid.h can work out the rest.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// All NULL: the items are no grid.
typedef struct kv_grid_items {
    int64_t *lengths; // [n_items] kv_item.length
    int64_t *tokens;  // [n_items] read before the answer; NULL: not known
    double *depths;   // [n_items] kv_item.depth
    int64_t *skipped; // [n_skipped] lengths of items left out as too long; NULL: none are
} kv_grid_items;

void kv_grid_items_free(kv_grid_items *items);

// False when out of memory; `to` then is for kv_grid_items_free all the same.
bool kv_grid_items_copy(kv_grid_items *to, const kv_grid_items *from, int64_t n_items, int64_t n_skipped);
