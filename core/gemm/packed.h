// Weights that nobody differentiates, in the layout that products read fastest.
//
//   in rows:    w[r][c], r < rows, c < cols
//   in panels:  w[r / 16][c][r % 16]
//
// A panel takes the place of its 16 rows exactly, so that packing needs no memory beside the weight's own.
#pragma once

#include "core/tensor.h"

// Whether a weight can lie in panels: a matrix of whole panels.
bool kv_can_pack(const kv_param *param);

// Brings a weight's data into panels, in place; nothing happens to one that is there already, or that cannot be packed.
// Whoever reads rows of it afterwards has to ask kv_param_row. False when memory ran out, with the weight as it was.
bool kv_pack(kv_param *param);

// Row `row` of a weight in either layout, widened, into dst[cols].
void kv_param_row(const kv_param *param, int64_t row, float *dst);
