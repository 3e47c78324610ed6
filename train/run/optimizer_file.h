// The optimiser's moments on disk: HDF5 with /m/NAME and /v/NAME for every parameter, shaped like it, and the
// attributes `step` (updates done) and `weights` (kv_params_fingerprint of all parameters, as they were saved with it).
#pragma once

#include "core/optimizer.h"

kv_status kv_optimizer_save(const char *path, const kv_adamw *optimizer, kv_error *err);

// Fills the moments of an optimiser made for the same parameters; every dataset's presence and shape is
// checked, and that the parameters are those it was saved with (KV_ERR_MISMATCH).
kv_status kv_optimizer_load(const char *path, kv_adamw *optimizer, kv_error *err);
