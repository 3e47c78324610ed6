#include "tests/support/numbers/attention_setup.h"

#include <stdlib.h>

setup setup_make(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, bool rotated) {
    setup s = {.args = {.n_heads = n_heads, .n_kv_heads = n_kv_heads, .head_dim = head_dim}};
    if (!rotated) return s;
    s.inv_freq = test_alloc(head_dim / 2, sizeof(double));
    ref_inv_freq(head_dim, 10000, s.inv_freq);
    s.rope = kv_rope_create(head_dim, SETUP_POSITIONS, s.inv_freq);
    assert_non_null(s.rope);
    return s;
}

void setup_add(setup *s, int64_t q_len, int64_t k_len, int64_t gap) {
    assert_in_range(s->args.n_sequences, 0, SETUP_SEQUENCES - 1);
    s->sequences[s->args.n_sequences++] = (kv_sequence){s->q_rows, q_len, s->k_rows + gap, k_len};
    s->q_rows += q_len;
    s->k_rows += gap + k_len;
}

const kv_attention_args *setup_args(setup *s) {
    s->args.sequences = s->sequences;
    s->args.rope = s->rope;
    return &s->args;
}

void setup_free(setup *s) {
    free(s->inv_freq);
    kv_rope_free(s->rope);
}
