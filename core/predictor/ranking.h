// Which sources explain most of a base's keys or values by ridge regression: what "the best k layers" are.
#pragma once

#include "core/api.h"
#include "core/predictor/least_squares.h"

KV_API_BEGIN

typedef enum kv_ranking {
    KV_RANKED, // by what each explains alone: as many regressions as there are sources
    KV_GREEDY // each time the one that explains most together with those before it: about n regressions for each
} kv_ranking;

// The first n of what the sums' predictor reads for keys or values of a base layer, places in kv_least_squares_sources, in
// order[n]; of equals the earlier one. All that counts is what is explained of the tokens seen. Errors as of
// kv_least_squares_explain. Of an exact output nothing is done.
kv_status kv_rank_sources(const kv_least_squares *ls, kv_side side, int64_t layer, kv_ranking ranking,
                          double ridge, int64_t n, int32_t *order, kv_error *err);

KV_API_END
