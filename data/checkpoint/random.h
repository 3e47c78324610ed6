// Names that stand for checkpoints nobody has to download: the published shapes with seeded random weights,
// for timing and counting.
//
//   random:SHAPE[-lp-FRACTION][:TYPE][@SEED]      SHAPE openelm-270m, -450m, -1.1b, -3b, smollm2-135m, -360m,
//                                                 -1.7b, llama-3.2-1b, -3b, qwen2.5-0.5b, -1.5b, -3b,
//                                                 qwen3-0.6b, -1.7b, -4b; FRACTION 0.75, 0.50, 0.25 (of the
//                                                 layers, core/README.md §2); TYPE f32 (default), bf16 or
//                                                 f16; SEED 0 to 2^64 - 1 (default 1)
//   random[:PART…][@SEED]                         a predictor (core/predictor/spec.h); PART rank=N, aux_layers=N,
//                                                 heads=matched, exact_layers=1, sources=k+v+h+own_h (some of
//                                                 these); or prefix=L: of the base's own first L layers, without
//                                                 an aux
//
// float32 is the default because it is read fastest by products of many rows: no widening. bf16 needs half
// the memory.
#pragma once

#include "core/api.h"
#include "core/predictor/predictor.h"

KV_API_BEGIN

typedef struct kv_random_name {
    kv_model_spec spec;
    kv_dtype dtype;
    uint64_t seed;
    int64_t n_origin;              // layers of the model it is a part of
    int32_t origin[KV_MAX_LAYERS]; // which of them its layers are
} kv_random_name;

// Whether a checkpoint directory's (a predictor directory's) name is one of these.
bool kv_is_random_model(const char *dir);
bool kv_is_random_predictor(const char *dir);

// KV_ERR_ARGUMENT, with the names there are, when it is none of them.
kv_status kv_random_parse(const char *dir, kv_random_name *name, kv_error *err);

// The model of that name. f32: as float32 that can be trained; values are those of the name's type all the
// same. A layer-pruned one has the weights of its base's layers.
kv_status kv_random_model(const char *dir, bool f32, kv_model **model, kv_error *err);

// Whether the name is a predictor's, and the pair can have one of that kind.
kv_status kv_random_predictor_check(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                                    const int32_t *mapping, kv_error *err);

// prefix=L of the name; 0: it has none.
kv_status kv_random_predictor_prefix(const char *dir, int64_t *n_layers, kv_error *err);

// A predictor for the pair, of that name; mapping NULL: kv_mapping_default. aux NULL: for a prefix.
kv_status kv_random_predictor(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                              const int32_t *mapping, kv_predictor **predictor, kv_error *err);
// The same without weights (kv_predictor_plan): for those who ask what it will take.
kv_status kv_random_predictor_shape(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                                    kv_predictor **predictor, kv_error *err);

KV_API_END
