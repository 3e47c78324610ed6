// What the base's attention makes of a predicted cache, beside what it makes of its own.
#pragma once

#include "core/model.h"

// Of n tokens, all layers of the base.
typedef struct kv_attended {
    kv_tensor *const *predicted_k, *const *predicted_v; // [n_layers] keys after k_norm, before RoPE
    kv_tensor **k, **v;                                 // [n_layers] filled in: the base's own
    // [n_layers, n] filled in: the mean over heads of cos(attention output with the predicted cache, with the
    // base's own), before the output projection, causal, with the queries of the base reading its own cache.
    // 1 where both are 0, 0 where one is; NAN where one is no number.
    double *cosine;
} kv_attended;

// The base reads ids[n], which sequences[n_sequences] lie in one after the other. Caches are on the tape; beside
// them it has the memory of one layer. Each cosine is in double precision, a function of its row alone. false
// when the tape failed.
bool kv_attend_both(kv_tape *tape, kv_model *base, const int32_t *ids, int64_t n,
                    const kv_sequence *sequences, int64_t n_sequences, const kv_attended *attended);

// Operations of its products beyond those of the base reading a sequence of n tokens up to the keys and values
// of its last layer; and bytes of a layer's attention outputs, beyond those of the pass, for n tokens in all.
uint64_t kv_attended_flops(const kv_model_spec *base, int64_t n);
double kv_attended_bytes(const kv_model_spec *base, int64_t n);
