// The optimiser's moments on disk: HDF5 with /m/NAME and /v/NAME for every parameter, shaped like it, and the
// attributes `step` (updates done) and `weights` (kv_params_fingerprint of all parameters, as they were saved with it). One
// file, which rank 0 writes and reads, however many ranks hold its parts: what n have written m can go on with.
#pragma once

#include "core/optimizer.h"

// Collective, and agreed on: what fails on rank 0 fails everywhere. path counts on rank 0 alone; another process may not read
// there. Where ranks hold parts (kv_adamw_create_part), gradients are lost: they are the room that parts are brought together in.
kv_status kv_optimizer_save(const char *path, const kv_adamw *optimizer, kv_error *err);

// Collective, and agreed on. Fills the moments of an optimiser made for the same parameters, in whatever parts; every
// dataset's presence and shape is checked, and that each rank's parameters are those it was saved with (KV_ERR_MISMATCH).
kv_status kv_optimizer_load(const char *path, kv_adamw *optimizer, kv_error *err);
