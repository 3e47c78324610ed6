// AdamW's moments where every rank holds some (train.shard_optimizer): brought together on rank 0 to be written, and handed
// out when they have been read. One parameter at a time, in the order of the parameters, first `m` and then `v` of it, so
// that nobody needs room for the moments of all.
//
//   rank 0: spans of params[i]  |--0--|     |--0--|     |
//   rank 1:                     |     |--1--|     |     |    sent one by one, received where they belong
//   rank 2:                     |     |     |     |--2--|
//
// Where every rank holds all of them, rank 0 has nothing to fetch, and what it has read is for all.
#pragma once

#include "core/optimizer.h"

typedef struct kv_moments kv_moments;
typedef enum kv_moment { KV_MOMENT_M, KV_MOMENT_V } kv_moment;

// Collective, and agreed on. KV_ERR_ARGUMENT where the parts of all ranks do not hold every element once. The optimiser is
// borrowed. Free with kv_moments_free (accepts NULL).
kv_status kv_moments_open(const kv_adamw *optimizer, kv_moments **moments, kv_error *err);
void kv_moments_free(kv_moments *moments);

// Collective. On rank 0 the moment of all of params[param], [its size], until the next call; elsewhere NULL. The parameter's
// gradient is the room for it: between two steps nobody reads it.
const float *kv_moments_gather(kv_moments *moments, int64_t param, kv_moment moment);
// Collective. all: on rank 0 the moment of all of params[param]; elsewhere not looked at.
void kv_moments_spread(kv_moments *moments, int64_t param, kv_moment moment, float *all);
