// A start of maps that read a hidden state of the base's own first layers: the base's own projections of the layers
// above, applied to that state as if the layers between had not changed it.
//
//   K_i = W_K,i · norm_i(x_i) + b,  with x_j, which enters layer j, for x_i:  norm_i(x_j) = diag(w_i / w_j) · h_j
//   W = W_K,i · diag(w_i / w_j)   and likewise of values; w: weights of the layers' norms, h_j = norm_j(x_j)
//                                                                     [core/README.md §9, eq. 38]
// Untrained it is what POP does (arXiv 2602.03295), trained what SwiftKV begins with (arXiv 2410.03960).
#pragma once

#include "core/api.h"
#include "core/predictor/predictor.h"

KV_API_BEGIN

// KV_OK, or KV_ERR_ARGUMENT saying which layer's keys or values read something else than one hidden state, or that the
// aux is no prefix, or that a kind of map has nothing to learn.
kv_status kv_start_from_base_check(const kv_predictor_spec *spec, kv_error *err);

// Writes the maps' weights and biases (tables and queries stay); base: the model, stored in any type. A map that cannot
// be all of W is what its kind makes of it (kv_map_kind.take), as if every direction of h_j were as frequent.
// Arguments as above; KV_ERR_MEMORY.
kv_status kv_start_from_base(kv_predictor *predictor, const kv_model *base, kv_error *err);

KV_API_END
