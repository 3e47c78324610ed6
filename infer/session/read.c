// Tokens through the layers of the base, against and into the cache.
//                                                                              [core/README.md §3 and §5]
#include "infer/session/session.h"

#include "core/vecmath.h"

#include <math.h>
#include <string.h>

// A layer's keys or values as attention reads them: the cache itself, or the rows of it that take part.
static kv_tensor *cached(kv_session *session, const kv_pack *pack, float *cache, int64_t cols) {
    kv_tensor *all = kv_tape_view(session->tape, cache, session->n_seq * session->capacity, cols);
    return pack->key_rows ? kv_gather_rows(session->tape, all, pack->key_rows, pack->n_keys) : all;
}

static bool rank_keys(kv_session *session, const kv_pack *pack, int64_t layer, const kv_tensor *q,
                      const kv_tensor *k) {
    const kv_ranking *r = &pack->ranking;
    if (r->n == 0) return true;
    const kv_pass pass = {.sequences = r->sequences,
                          .n_sequences = r->n,
                          .q_positions = pack->q_positions,
                          .k_positions = pack->k_positions};
    const kv_attention_args args = kv_layer_attention(session->system.base, layer, &pass);
    return kv_attention_importance(session->tape, q, k, &args, r->pooling, r->importance);
}

// What the walk over the layers of the base carries along.
struct reading {
    kv_session *session;
    kv_pack *pack;
    bool only_ranked; // of the last layer nothing is wanted but its attention
    bool all;         // every token's output is wanted, not only the newest ones'
};

// Keys and values of the pack's rows join the cache; the layer's output. From the last layer (unless `all`) only
// the output of the newest token of each sequence is wanted, or (only_ranked) none: then it is x.
static kv_tensor *read_rows(const struct reading *r, int64_t layer, kv_tensor *x) {
    kv_session *session = r->session;
    const kv_pack *pack = r->pack;
    kv_tape *tape = session->tape;
    kv_model *base = session->system.base;
    const bool last = layer + 1 == base->spec.n_layers, no_values = last && r->only_ranked;
    kv_tensor *h = kv_layer_norm_in(tape, base, layer, x);
    kv_layer_kv own = (no_values ? kv_layer_keys : kv_layer_keys_values)(tape, base, layer, h);
    if (!own.k || (!own.v && !no_values)) return NULL;
    kv_pack_store(pack, session->k[layer], own.k);
    kv_tensor *k = cached(session, pack, session->k[layer], own.k->cols);
    kv_pass pass = {.adapters = pack->predicted ? session->system.predictor->adapters : NULL};
    if (no_values) {
        kv_tensor *q = kv_layer_queries(tape, base, layer, h, &pass);
        return rank_keys(session, pack, layer, q, k) ? x : NULL;
    }
    kv_pack_store(pack, session->v[layer], own.v);
    kv_tensor *v = cached(session, pack, session->v[layer], own.v->cols);
    pass.sequences = pack->sequences, pass.n_sequences = pack->n_seqs;
    pass.q_positions = pack->q_positions, pass.k_positions = pack->k_positions, pass.visible = pack->visible;
    if (last && !r->all) {
        pass.sequences = pack->newest, pass.q_positions = pack->newest_positions, pass.visible = NULL;
        x = kv_gather_rows(tape, x, pack->newest_rows, pack->n_seqs);
        h = kv_gather_rows(tape, h, pack->newest_rows, pack->n_seqs);
    }
    kv_tensor *q = kv_layer_queries(tape, base, layer, h, &pass);
    if (!rank_keys(session, pack, layer, q, k)) return NULL;
    return kv_layer_block(tape, base, layer, x, q, k, v, &pass);
}

// Pruning inside the network (pack->lazy) has its say before and after each layer, and brings the layer's
// input itself: the walk's x then waits for the last layer's output.
static kv_tensor *read_layer(kv_tape *tape, int64_t layer, kv_tensor *x, void *what) {
    (void)tape;
    const struct reading *r = what;
    if (!r->pack->lazy) return read_rows(r, layer, x);
    kv_tensor *y = read_rows(r, layer, kv_lazy_enter(r->session, r->pack, layer));
    if (!y || !kv_lazy_leave(r->session, r->pack, layer, y)) return NULL;
    return layer + 1 == r->session->system.base->spec.n_layers ? y : x;
}

// The one door that logits leave by, whatever the system: a token chosen from what is no number would look
// like any other.
static kv_status hand_out(kv_session *session, int64_t s, const float *row, float *logits, kv_error *err) {
    const int64_t vocab_size = session->system.base->spec.vocab_size;
    if (kv_all_finite(row, vocab_size)) {
        memcpy(logits + s * vocab_size, row, (size_t)vocab_size * sizeof(float));
        return KV_OK;
    }
    int64_t id = 0;
    while (isfinite(row[id])) id++;
    session->not_finite = s;
    const char *found = isnan(row[id]) ? "nan" : row[id] > 0 ? "inf" : "-inf"; // printf tells signs of NaN
    return kv_fail(err, KV_ERR_NOT_FINITE,
                   "the logits are not finite (id %lld has %s): weights are NaN or infinite, or numbers grew "
                   "too large for float32",
                   (long long)id, found);
}

static kv_status hand_out_all(kv_session *session, const kv_pack *pack, const float *rows, float *logits,
                              kv_error *err) {
    const int64_t vocab_size = session->system.base->spec.vocab_size;
    kv_status status = KV_OK;
    for (int64_t i = 0; i < pack->n_seqs && status == KV_OK; i++)
        status = hand_out(session, pack->members[i], rows + i * vocab_size, logits, err);
    return status;
}

// A kv_pack_fn: what goes through the layers, and what is wanted of it. See kv_read_tokens.
static kv_status read_pack(kv_session *session, kv_pack *pack, const kv_reading *reading, float *logits,
                           kv_error *err) {
    kv_tape *tape = session->tape;
    kv_model *base = session->system.base;
    float *hidden = reading->hidden;
    struct reading r = {
        .session = session, .pack = pack, .only_ranked = !logits && !hidden, .all = hidden != NULL};
    kv_tensor *x = kv_embedding(tape, &base->embed, pack->ids, pack->n_new);
    if (x && (!session->depth || kv_lazy_begin(session, pack, x)))
        kv_walk_layers(tape, base->spec.n_layers, x, read_layer, &r);
    kv_status status = kv_tape_status(tape, err);
    if (status != KV_OK || r.only_ranked) return status;
    kv_tensor *y = hidden
                       ? kv_model_final_norm(tape, base, x)
                       : kv_model_logits(tape, base, x); // of the newest tokens, which is what is left in x
    if (!y) return kv_tape_status(tape, err);
    if (!hidden) return hand_out_all(session, pack, y->data, logits, err);
    memcpy(hidden, y->data, (size_t)(y->rows * y->cols) * sizeof *hidden);
    return KV_OK;
}

kv_status kv_read_tokens(kv_session *session, kv_reading reading, float *logits, kv_error *err) {
    kv_status status = kv_read_packs(session, &reading, true, read_pack, logits, err);
    const int32_t *ids = reading.ids;
    for (int64_t s = 0; s < session->n_seq && status == KV_OK; ids += reading.lengths[s++]) {
        kv_turns_note(session, s, ids, reading.lengths[s], false);
        session->lengths[s] += reading.lengths[s];
    }
    return status;
}
