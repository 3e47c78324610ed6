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
// Whoever reads its numbers afterwards has to ask kv_param_values. False when memory ran out, with the weight as it was.
bool kv_pack(kv_param *param);

// The same of one that can be packed, into other memory of its size: its data is there afterwards, and the old is left to
// the caller. Each page is first touched by a thread that will read it.
void kv_pack_into(kv_param *param, void *place);

// Numbers first .. first + n of a weight, counted row by row, in whatever layout and type it has, widened into dst[n].
void kv_param_values(const kv_param *param, int64_t first, int64_t n, float *dst);
