// Which tokens of a sequence stay, once each has a score. Pure functions; scratch lies in the arena. They
// write the chosen places in rising order, the last token always among them, and return false when out of
// memory. Scores that are not numbers rank last; of equal ones the earlier wins.
#pragma once

#include "core/arena.h"

#include <stdbool.h>
#include <stdint.h>

// `kept` of n tokens at random, from the seed and the ids alone. The first one stays too when it is the
// model's bos_id (-1: it has none) and there is room for both.
bool kv_keep_random(kv_arena *arena, uint64_t seed, int32_t bos_id, const int32_t *ids, int64_t n,
                    int64_t kept, int32_t *places);

// The last token and the `kept` - 1 others with the highest scores[n].
bool kv_keep_best(kv_arena *arena, const float *scores, int64_t n, int64_t kept, int32_t *places);

// The first token, the last, and chunks of neighbours: scores[n] are smoothed by a centred mean over `window`
// (odd) tokens, at the ends over those there are; chunks of `chunk` tokens are taken in the order of their
// mean smoothed score until `kept` (>= 2, or n) tokens are. Of the chunk that does not fit whole the tokens
// with the highest smoothed scores are.
//                                                                   [arXiv 2502.02789; core/README.md §6]
bool kv_keep_chunks(kv_arena *arena, const float *scores, int64_t n, int64_t window, int64_t chunk,
                    int64_t kept, int32_t *places);
