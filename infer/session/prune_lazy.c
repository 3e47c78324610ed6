// LazyLLM: which tokens each layer works on.
//                                                           [arXiv 2407.14057; core/README.md §6, eq. 26]
//
// The newest token of a sequence is read against the tokens still active. All are, at the first layer; from
// one layer to the next go those to which the newest token pays the most attention (mean over heads), as many
// as the schedule says for all tokens of the context, the newest among them. A token that is left out keeps
// its input to the next layer. A later step may make it active at that layer again: it is then processed from
// there, so that a token goes through a layer once at most. A prompt is the case in which all tokens are new.
#include "infer/session/prune_select.h"
#include "infer/session/session.h"

#include <string.h>

struct kv_lazy {
    int32_t **active;  // [n_seqs] places in the sequence, rising
    int64_t *n_active; // [n_seqs]
    int64_t *n_all;    // [n_seqs] tokens of the context
    int64_t n_keys;    // of all sequences, at most
    int32_t *k_positions, *visible;
    int64_t *key_rows;
};

static bool no_memory(kv_session *session) {
    kv_tape_fail(session->tape, KV_ERR_MEMORY, "out of memory for lazy pruning");
    return false;
}

static bool allocate(kv_session *session, kv_pack *pack) {
    kv_arena *arena = kv_tape_arena(session->tape);
    struct kv_lazy *lazy = pack->lazy = kv_arena_alloc(arena, sizeof *lazy);
    if (!lazy) return false;
    const size_t n_seqs = (size_t)pack->n_seqs;
    *lazy = (struct kv_lazy){.active = kv_arena_alloc(arena, n_seqs * sizeof *lazy->active),
                             .n_active = kv_arena_alloc(arena, n_seqs * sizeof *lazy->n_active),
                             .n_all = kv_arena_alloc(arena, n_seqs * sizeof *lazy->n_all)};
    if (!lazy->active || !lazy->n_active || !lazy->n_all) return false;
    for (int64_t i = 0; i < pack->n_seqs; i++) {
        lazy->n_all[i] = pack->sequences[i].k_len;
        lazy->n_keys += lazy->n_all[i];
        lazy->active[i] = kv_arena_alloc(arena, (size_t)lazy->n_all[i] * sizeof **lazy->active);
        if (!lazy->active[i]) return false;
    }
    const size_t n_keys = (size_t)lazy->n_keys;
    lazy->k_positions = kv_arena_alloc(arena, n_keys * sizeof *lazy->k_positions);
    lazy->visible = kv_arena_alloc(arena, n_keys * sizeof *lazy->visible);
    lazy->key_rows = kv_arena_alloc(arena, n_keys * sizeof *lazy->key_rows);
    return lazy->k_positions && lazy->visible && lazy->key_rows;
}

// ---- Hidden states -------------------------------------------------------------------------------------

// Outputs of a layer become the inputs at which these tokens stand now.
static void keep_hidden(kv_session *session, const kv_pack *pack, int64_t depth, const kv_tensor *y) {
    for (int64_t r = 0; r < pack->n_rows; r++) {
        const int64_t row = pack->cache_rows[r];
        session->depth[row] = (int32_t)depth;
        if (y)
            memcpy(session->hidden + row * y->cols, y->data + r * y->cols, (size_t)y->cols * sizeof(float));
    }
}

bool kv_lazy_begin(kv_session *session, kv_pack *pack, const kv_tensor *x) {
    if (!allocate(session, pack)) return no_memory(session);
    struct kv_lazy *lazy = pack->lazy;
    for (int64_t i = 0; i < pack->n_seqs; i++) {
        lazy->n_active[i] = lazy->n_all[i];
        for (int64_t j = 0; j < lazy->n_all[i]; j++) lazy->active[i][j] = (int32_t)j;
    }
    keep_hidden(session, pack, 0, x);
    return true;
}

// ---- Before a layer ------------------------------------------------------------------------------------

// The active tokens of a sequence are the keys; those that have not been through the layer are its rows.
static void enter_sequence(const kv_session *session, kv_pack *pack, int64_t layer, int64_t i) {
    struct kv_lazy *lazy = pack->lazy;
    kv_sequence sequence = {.q_row = pack->n_rows, .k_row = pack->n_keys, .k_len = lazy->n_active[i]};
    for (int64_t j = 0; j < lazy->n_active[i]; j++) {
        const int32_t place = lazy->active[i][j];
        const int64_t row = pack->members[i] * session->capacity + place;
        lazy->key_rows[pack->n_keys] = row;
        lazy->k_positions[pack->n_keys++] = place;
        if (session->depth[row] > layer) continue;
        pack->cache_rows[pack->n_rows] = row;
        pack->q_positions[pack->n_rows] = place;
        lazy->visible[pack->n_rows++] = (int32_t)j + 1;
    }
    sequence.q_len = pack->n_rows - sequence.q_row;
    pack->sequences[i] = sequence;
    pack->newest_rows[i] = pack->n_rows - 1;
    pack->newest_positions[i] = pack->q_positions[pack->n_rows - 1];
    sequence.q_row = i, sequence.q_len = 1;
    pack->newest[i] = sequence;
}

static int64_t kept_next(const kv_session *session, const kv_pack *pack, int64_t layer, int64_t i) {
    const int64_t n_layers = session->system.base->spec.n_layers;
    if (layer + 1 == n_layers) return pack->lazy->n_active[i];
    return kv_lazy_kept(&session->system.pruning, n_layers, layer + 1, pack->lazy->n_all[i]);
}

// Sequences that lose tokens after this layer ask what the newest token attends to.
static bool ask_ranking(kv_session *session, kv_pack *pack, int64_t layer) {
    kv_ranking *ranking = &pack->ranking;
    ranking->pooling = KV_POOL_MEAN;
    ranking->n = 0;
    for (int64_t i = 0; i < pack->n_seqs; i++) {
        const int64_t n = pack->lazy->n_active[i];
        if (kept_next(session, pack, layer, i) >= n) continue;
        float *importance = kv_arena_floats(kv_tape_arena(session->tape), n);
        if (!importance) return no_memory(session);
        memset(importance, 0, (size_t)n * sizeof *importance);
        ranking->sequences[ranking->n] = pack->newest[i];
        ranking->sequences[ranking->n].q_row = pack->newest_rows[i];
        ranking->importance[ranking->n++] = importance;
    }
    return true;
}

kv_tensor *kv_lazy_enter(kv_session *session, kv_pack *pack, int64_t layer) {
    pack->n_rows = pack->n_keys = 0;
    for (int64_t i = 0; i < pack->n_seqs; i++) enter_sequence(session, pack, layer, i);
    pack->key_rows = pack->lazy->key_rows;
    pack->k_positions = pack->lazy->k_positions;
    pack->visible = pack->lazy->visible;
    if (!ask_ranking(session, pack, layer)) return NULL;
    kv_tensor *hidden = kv_tape_view(session->tape, session->hidden, session->n_seq * session->capacity,
                                     session->system.base->spec.model_dim);
    return kv_gather_rows(session->tape, hidden, pack->cache_rows, pack->n_rows);
}

// ---- After a layer -------------------------------------------------------------------------------------

bool kv_lazy_leave(kv_session *session, kv_pack *pack, int64_t layer, const kv_tensor *y) {
    struct kv_lazy *lazy = pack->lazy;
    kv_arena *arena = kv_tape_arena(session->tape);
    const bool last = layer + 1 == session->system.base->spec.n_layers;
    keep_hidden(session, pack, layer + 1, last ? NULL : y);
    for (int64_t i = 0, ranked = 0; i < pack->n_seqs; i++) {
        const int64_t n = lazy->n_active[i], kept = kept_next(session, pack, layer, i);
        if (kept >= n) continue;
        int32_t *places = kv_arena_alloc(arena, (size_t)kept * sizeof *places);
        if (!places || !kv_keep_best(arena, pack->ranking.importance[ranked++], n, kept, places))
            return no_memory(session);
        for (int64_t j = 0; j < kept; j++) lazy->active[i][j] = lazy->active[i][places[j]]; // j <= places[j]
        lazy->n_active[i] = kept;
    }
    return true;
}
