// Choosing the next token from logits.
//
//   p_i = softmax(logits / temperature), of which stay, in this order (that of Hugging Face's generation):
//   top_k  the k most probable tokens
//   top_p  the nucleus: the fewest of the most probable of those whose share of their mass reaches top_p
//   min_p  those at least min_p times as probable as the most probable token
// and a token is drawn from what is left in proportion to p.
//                     [Fan et al. 2018, section 5; Holtzman et al. 2020, section 3.1; Nguyen et al. 2024]
#pragma once

#include "core/api.h"
#include "core/status.h"

#include <stdint.h>

KV_API_BEGIN

typedef struct kv_sampling {
    double temperature; // 0: the most probable token, and nothing else here matters
    double top_p;       // in (0, 1]; 1: all tokens
    uint64_t seed;
    int64_t top_k; // 0: all tokens
    double min_p;  // in [0, 1]; 0: all tokens
} kv_sampling;

// KV_ERR_ARGUMENT naming what is out of its range.
kv_status kv_sampling_check(const kv_sampling *how, kv_error *err);

// A token and its share, not normalised.
typedef struct kv_token_candidate {
    double weight;
    int32_t id;
} kv_token_candidate;

// A token of logits[vocab_size]: a pure function of the logits, `how` (checked), the stream and the position.
// Equal tokens count in the order of their ids. Of infinite logits the token is one of them; NaN and -inf are
// never drawn, unless nothing else is there: then it is what kv_argmax gives. candidates[vocab_size] is room
// to work in (not touched at temperature 0, may be NULL then).
int32_t kv_sample(const float *logits, int64_t vocab_size, const kv_sampling *how, uint64_t stream,
                  uint64_t position, kv_token_candidate *candidates);

// The most probable tokens: ids[n] gets the argmax of each row of logits [n, vocab_size], of equal ones the
// first.
void kv_argmax(const float *logits, int64_t n, int64_t vocab_size, int32_t *ids);

KV_API_END
