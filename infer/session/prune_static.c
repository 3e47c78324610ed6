// Static pruning: the attention that tokens receive in the first quarter of the base's layers, from all
// queries and heads, summed over those layers. What comes after the last of them is not computed.
//                                                                                   [method.md section 6]
#include "infer/session/session.h"

#include <string.h>

// One layer on whole prompts; *x becomes its output, unless it is the last one asked.
static void score_layer(kv_session *session, const kv_pass *pass, int64_t layer, bool last, kv_tensor *x,
                        float *const *received) {
    kv_tape *tape = session->tape;
    kv_model *base = session->system.base;
    kv_tensor *h = kv_layer_norm_in(tape, base, layer, x);
    kv_layer_kv own = (last ? kv_layer_keys : kv_layer_keys_values)(tape, base, layer, h);
    kv_tensor *q = kv_layer_queries(tape, base, layer, h);
    const kv_attention_args args = kv_layer_attention(base, layer, pass);
    if (!kv_attention_importance(tape, q, own.k, &args, KV_POOL_MEAN, received) || last) return;
    kv_tensor *y = kv_layer_block(tape, base, layer, x, q, own.k, own.v, pass);
    if (y) memcpy(x->data, y->data, (size_t)(y->rows * y->cols) * sizeof(float));
}

static kv_status score_pack(kv_session *session, const kv_pack *pack, float *scores, kv_error *err) {
    kv_tape *tape = session->tape;
    kv_arena *arena = kv_tape_arena(tape);
    const int64_t n_layers = kv_static_layers(session->system.base->spec.n_layers);
    float **received = kv_arena_alloc(arena, (size_t)pack->n_seqs * sizeof *received);
    if (!received) return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring a batch of sequences");
    for (int64_t i = 0; i < pack->n_seqs; i++) received[i] = scores + pack->sequences[i].k_row;
    const kv_pass pass = {.sequences = pack->sequences, .n_sequences = pack->n_seqs};
    kv_tensor *x = kv_embedding(tape, &session->system.base->embed, pack->ids, pack->n_new);
    for (int64_t layer = 0; layer < n_layers && kv_tape_status(tape, NULL) == KV_OK; layer++) {
        kv_arena_mark mark = kv_arena_get_mark(arena);
        score_layer(session, &pass, layer, layer + 1 == n_layers, x, received);
        kv_arena_release(arena, mark);
    }
    return kv_tape_status(tape, err);
}

kv_status kv_static_scores(kv_session *session, const int32_t *ids, const int64_t *lengths, float *scores,
                           kv_error *err) {
    kv_reading reading = {.ids = ids, .lengths = lengths};
    for (int64_t next = 0; next < session->n_seq;) {
        kv_pack pack;
        kv_tape_reset(session->tape);
        if (!kv_pack_fill(session, &reading, false, &next, &pack))
            return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of sequences");
        kv_status status = pack.n_seqs ? score_pack(session, &pack, scores, err) : KV_OK;
        if (status != KV_OK) return status;
        reading.ids += pack.n_new;
        scores += pack.n_new;
    }
    return KV_OK;
}
