// Choosing the next token from logits.
//
//   p_i = softmax(logits / temperature); the nucleus is the smallest set of most probable tokens whose mass
//   reaches top_p, and a token is drawn from it in proportion to p.           [Holtzman et al. 2020, section
//   3.1]
#pragma once

#include "core/status.h"

#include <stdint.h>

typedef struct kv_sampling {
    double temperature; // 0: the most probable token, and nothing else here matters
    double top_p;       // in (0, 1]; 1: all tokens
    uint64_t seed;
} kv_sampling;

// KV_ERR_ARGUMENT naming what is out of its range.
kv_status kv_sampling_check(const kv_sampling *how, kv_error *err);

// A token and its share, not normalised.
typedef struct kv_candidate {
    double weight;
    int32_t id;
} kv_candidate;

// A token of logits[vocab_size]: a pure function of the logits, `how` (checked), the stream and the position.
// Equal tokens count in the order of their ids. Of infinite logits the token is one of them; NaN and -inf are
// never drawn, unless nothing else is there: then it is what kv_argmax gives. candidates[vocab_size] is room
// to work in (not touched at temperature 0, may be NULL then).
int32_t kv_sample(const float *logits, int64_t vocab_size, const kv_sampling *how, uint64_t stream,
                  uint64_t position, kv_candidate *candidates);
