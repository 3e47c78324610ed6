// Frozen models that the ranks of a node have together (data/ranks/pages.h): one of them reads, converts and packs the
// weights, the others find them as they then are. Weights that are views of a file need none of this: mapped by all, its pages
// are in memory once.
#pragma once

#include "data/checkpoint/checkpoint.h"

KV_API_BEGIN

// Makes a frozen model as it is to be held. fingerprint: of the weights as they are stored; NULL: not asked for. *model
// is NULL on failure, and where the fingerprint was all that was wanted.
typedef kv_status kv_frozen_load(void *context, kv_model **model, char *fingerprint, kv_error *err);

// Collective; a failure is everybody's. What load makes of a model of this shape, in memory once a node: load is called by
// the node's first rank, and by others where it made views or where they cannot share (said once: kv_warn). fingerprint (may
// be NULL) is that of the rank which called load. Alone, or one rank a node, this is load and nothing else.
// No more memory is taken on the way than the model and its largest weight, beside what load takes.
kv_status kv_share_frozen(const kv_model_spec *spec, const char *name, kv_frozen_load *load, void *context,
                          kv_model **model, char fingerprint[17], kv_error *err);

// Collective. Whether all ranks are about to load models of the same shapes in the same order (NULL: none in that place), and so can
// call what follows together. Where not, they are not to compute together either, which whoever compares their weights will say.
bool kv_share_possible(const kv_model_spec *const *specs, int64_t n);

// Collective: kv_checkpoint_load_frozen, in memory once a node.
kv_status kv_checkpoint_load_shared(const char *dir, const kv_model_spec *spec, kv_frozen_dtype dtype,
                                    kv_model **model, char fingerprint[17], kv_error *err);

KV_API_END
