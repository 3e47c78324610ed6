// Static pruning: the attention that tokens receive in the first quarter of the base's layers, from all
// queries and heads, summed over those layers. What comes after the last of them is not computed.
//                                                                             [core/README.md §6, eq. 25]
#include "infer/session/session.h"

struct scoring {
    kv_model *base;
    kv_pass pass;
    int64_t last;             // layer that is asked
    float *const *importance; // [n_seqs] of each sequence's tokens
};

static kv_tensor *score_layer(kv_tape *tape, int64_t layer, kv_tensor *x, void *what) {
    const struct scoring *s = what;
    const bool last = layer == s->last;
    kv_tensor *h = kv_layer_norm_in(tape, s->base, layer, x);
    kv_layer_kv own = (last ? kv_layer_keys : kv_layer_keys_values)(tape, s->base, layer, h);
    kv_tensor *q = kv_layer_queries(tape, s->base, layer, h, &s->pass);
    const kv_attention_args args = kv_layer_attention(s->base, layer, &s->pass);
    if (!kv_attention_importance(tape, q, own.k, &args, KV_POOL_MEAN, s->importance) || last) return x;
    return kv_layer_block(tape, s->base, layer, x, q, own.k, own.v, &s->pass);
}

// A kv_pack_fn, with the scores of all packs.
static kv_status score_pack(kv_session *session, kv_pack *pack, const kv_reading *reading, float *scores,
                            kv_error *err) {
    (void)reading;
    kv_tape *tape = session->tape;
    kv_model *base = session->system.base;
    const int64_t n_layers = kv_static_layers(base->spec.n_layers);
    float **importance = kv_arena_alloc(kv_tape_arena(tape), (size_t)pack->n_seqs * sizeof *importance);
    if (!importance) return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring a batch of sequences");
    for (int64_t i = 0; i < pack->n_seqs; i++)
        importance[i] = scores + pack->before + pack->sequences[i].k_row;
    struct scoring s = {.base = base,
                        .pass = {.sequences = pack->sequences, .n_sequences = pack->n_seqs},
                        .last = n_layers - 1,
                        .importance = importance};
    kv_walk_layers(tape, n_layers, kv_embedding(tape, &base->embed, pack->ids, pack->n_new), score_layer, &s);
    return kv_tape_status(tape, err);
}

kv_status kv_static_scores(kv_session *session, const int32_t *ids, const int64_t *lengths, float *scores,
                           kv_error *err) {
    const kv_reading reading = {.ids = ids, .lengths = lengths};
    return kv_read_packs(session, &reading, false, score_pack, scores, err);
}
