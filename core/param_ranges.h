// A loop over all elements of many parameters, or of spans of them, shared out evenly among threads however large each is.
#pragma once

#include "core/tensor.h"

// Parameters (or spans) end to end are cut into as many pieces of equal length, whatever the number of threads: what is added
// up piece by piece, and then over the pieces in their order, does not depend on it.
enum { KV_N_PIECES = 64 };

// Elements [begin, end) of params[index], or of the parameter of spans[index], which lie in that piece.
typedef void kv_range_fn(void *context, int piece, int64_t index, int64_t begin, int64_t end);

// Calls fn for every range of every piece, those of a piece in order and by one thread.
void kv_for_ranges(kv_param *const *params, int64_t n, kv_range_fn *fn, void *context);
// The same for spans alone, which count as they lie: begin and end are of the parameter, as the span's are.
void kv_for_spans(const kv_param_span *spans, int64_t n, kv_range_fn *fn, void *context);
