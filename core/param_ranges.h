// A loop over all elements of many parameters, shared out evenly among threads however large each parameter is.
#pragma once

#include "core/tensor.h"

// Parameters end to end are cut into as many pieces of equal length, whatever the number of threads: what is added up
// piece by piece, and then over the pieces in their order, does not depend on it.
enum { KV_N_PIECES = 64 };

// Elements [begin, end) of params[param], which lie in that piece.
typedef void kv_range_fn(void *context, int piece, int64_t param, int64_t begin, int64_t end);

// Calls fn for every range of every piece, those of a piece in order and by one thread.
void kv_for_ranges(kv_param *const *params, int64_t n, kv_range_fn *fn, void *context);
