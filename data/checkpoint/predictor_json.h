// Inside data/checkpoint: what predictor.json says of a predictor's parts.
//
// Two versions. The first knows the paper's predictors and their two variations, and is written for them, so
// that older programs read them: "mapping", a list of aux layers; "rank"; "aux_layers": 2. The second names
// every part:
//
//   "prefix_layers": 3,                            the base's own first layers are the aux; 0 or absent: not so
//   "queries": {"kind": "lora", "rank": 4},        "full" or "lora"; absent: the base's own
//   "keys": [{"sources": ["k0", "embedding"],      one entry for each base layer; core/predictor/spec.h
//             "map": "low_rank", "width": 8,       width where the kind has one
//             "heads": "matched",                  absent: all heads together
//             "table": "full"}, …],                or a width; absent: none
//   "values": […]
#pragma once

#include "core/predictor/predictor.h"
#include "data/file/json.h"

// Adds "version" and the rest to `root`. False when out of memory.
bool kv_predictor_spec_write(const kv_predictor_spec *spec, json_t *root);

// The other way, for this pair (the aux of a prefix is the base). KV_ERR_FORMAT names what of the file is
// wrong; whether the pair can have it is kv_predictor_spec_check's affair.
kv_status kv_predictor_spec_read(const kv_json_file *file, int64_t version, const kv_model_spec *base,
                                 const kv_model_spec *aux, kv_predictor_spec *spec, kv_error *err);

enum { KV_PREDICTOR_VERSION = 2 }; // the highest there is
