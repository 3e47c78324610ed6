// Which aux layers a base layer reads: the paper's rules, ours, and lists that were asked for.
#pragma once

#include "core/api.h"
#include "core/model.h"

KV_API_BEGIN

// Default map when the aux is a separate, smaller model (KVP-C): with q = n_base div n_aux and r = n_base mod
// n_aux the first r aux layers serve q + 1 consecutive base layers each, the others q.
//                                                             [paper, table 1; core/README.md §3, eq. 13]
void kv_mapping_separate(int64_t n_base, int64_t n_aux, int32_t *mapping);

// Default map when the aux is the base with only layers kept[] (KVP-LP): nearest kept layer at or before i.
//                                                                             [core/README.md §3, eq. 14]
void kv_mapping_pruned(int64_t n_base, const int32_t *kept, int64_t n_kept, int32_t *mapping);

// The aux's layers spread evenly: base layer i reads floor(i · n_aux / n_base). n_aux may be larger.
void kv_mapping_uniform(int64_t n_base, int64_t n_aux, int32_t *mapping);

// Turns a map around: entry j becomes n_aux - 1 - j. The paper's rule read backwards is what an ablation of
// the layer map should do worst with.
void kv_mapping_reverse(int64_t n_base, int64_t n_aux, int32_t *mapping);

// The paper's rule for a pair: the second map where the aux has the shape of the base with every second,
// every fourth or three of four layers kept, the first one otherwise. mapping[base->n_layers].
void kv_mapping_default(const kv_model_spec *base, const kv_model_spec *aux, int32_t *mapping);

// KV_OK, or KV_ERR_ARGUMENT naming the entry of an explicit map that is outside [0, n_aux) or the wrong
// length.
kv_status kv_mapping_check(const int32_t *mapping, int64_t length, int64_t n_base, int64_t n_aux,
                           kv_error *err);

// The n <= n_aux aux layers nearest to j, j first, then by distance, the later of two equally near ones
// first: j, j + 1, j - 1, j + 2, … as far as there are.
void kv_layers_near(int32_t j, int64_t n, int64_t n_aux, int32_t *layers);

KV_API_END
