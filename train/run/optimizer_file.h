// The optimiser's moments on disk: HDF5 with /m/NAME and /v/NAME for every parameter, shaped like it, and the
// attribute `step` (updates done).
#pragma once

#include "core/optimizer.h"

kv_status kv_optimizer_save(const char *path, const kv_adamw *optimizer, kv_error *err);

// Fills the moments of an optimiser made for the same parameters; every dataset's presence and shape is
// checked.
kv_status kv_optimizer_load(const char *path, kv_adamw *optimizer, kv_error *err);
