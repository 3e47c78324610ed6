// Apart from grid.c, which needs results that hold these.
#include "eval/results/grid_items.h"

#include <stdlib.h>
#include <string.h>

void kv_grid_items_free(kv_grid_items *items) {
    free(items->lengths);
    free(items->tokens);
    free(items->depths);
    free(items->skipped);
    *items = (kv_grid_items){0};
}

static bool copy(void **to, const void *from, int64_t n, size_t size) {
    if (!from) return true;
    *to = malloc((size_t)n * size + 1);
    if (*to) memcpy(*to, from, (size_t)n * size);
    return *to != NULL;
}

bool kv_grid_items_copy(kv_grid_items *to, const kv_grid_items *from, int64_t n_items, int64_t n_skipped) {
    *to = (kv_grid_items){0};
    return copy((void **)&to->lengths, from->lengths, n_items, sizeof *to->lengths) &&
           copy((void **)&to->tokens, from->tokens, n_items, sizeof *to->tokens) &&
           copy((void **)&to->depths, from->depths, n_items, sizeof *to->depths) &&
           copy((void **)&to->skipped, from->skipped, n_skipped, sizeof *to->skipped);
}
