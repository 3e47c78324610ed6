// A model that is not trained: how it comes to be in memory, once for all ranks of a node (data/checkpoint/shared.h), and
// what it takes.
#pragma once

#include "data/checkpoint/checkpoint.h"

typedef struct kv_frozen {
    const char *dir; // where it is read from; what errors name
    const kv_model_spec *spec;
    kv_frozen_dtype dtype; // that it is held in
    bool kept;             // false: it is looked at, for its fingerprint alone
    // Makes it, as it is stored; NULL: it is read from dir.
    kv_status (*read)(void *context, kv_model **model, kv_error *err);
    void *context;
} kv_frozen;

// Collective; a failure is everybody's. *model: held; NULL when it is not kept, or on failure. fingerprint: of its weights as they
// are stored.
kv_status kv_hold_frozen(const kv_frozen *frozen, kv_model **model, char fingerprint[17], kv_error *err);

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
