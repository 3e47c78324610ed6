// The half of attention.c that runs in backward.
#pragma once

#include "core/ops/attention_blocks.h"

struct kv_attention_saved {
    kv_attention_args args;
    struct kv_attention_lse *lse; // [n_heads, rows of q]
};

// The gradients of q, k and v (a record's inputs in this order).
void kv_attention_backward(kv_tape *tape, const kv_record *r);
