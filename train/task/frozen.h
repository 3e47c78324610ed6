// What a model that is not trained takes.
#pragma once

#include "data/checkpoint/checkpoint.h"

// In bytes: as it is stored, and as it is held in the type chosen.
typedef struct kv_frozen_memory {
    double stored, held;
    bool converted;  // held in another type than it is stored in
    double while_it; // bytes more than held, while it is converted
} kv_frozen_memory;

// size: of the weights as they are stored. as_a_whole: they are made here, or were read before for something else, so
// that all of them are there before the first is converted; of a file's at most one tensor has not been given back.
kv_frozen_memory kv_frozen_model_memory(const kv_model_spec *spec, const kv_checkpoint_size *size,
                                        kv_frozen_dtype dtype, bool as_a_whole);

// What HDF5 holds of an open cache file, as measured.
#define KV_OPEN_CACHE_BYTES 5e6
