#include "infer/engine.h"

#include <stdlib.h>
#include <string.h>

// A prompt batch is read in packs of whole sequences of about this many tokens, which bounds activations.
enum { PACK_ROWS = 4096 };

struct kv_session {
    kv_system system;
    int64_t n_seq, capacity;
    int64_t *lengths; // [n_seq] tokens in the cache
    float **k, **v;   // [n_layers] of [n_seq · capacity, kv_dim]; sequence s starts at row s · capacity
    kv_tape *tape;
};

// New tokens of some sequences, one after the other without padding.
struct pack {
    const int32_t *ids; // [n_rows]
    int64_t n_rows, n_seqs;
    int64_t *sequence;    // [n_seqs] which sequence of the session
    kv_segment *segments; // [n_seqs] all new tokens of each
    kv_segment *newest;   // [n_seqs] only the last token of each, in rows of its own
    int64_t *newest_rows; // [n_seqs] where those rows were
};

// ---- Creation ------------------------------------------------------------------------------------------

static kv_status check_context(const char *which, const kv_model_spec *spec, int64_t capacity,
                               kv_error *err) {
    if (capacity <= spec->context_length) return KV_OK;
    return kv_fail(err, KV_ERR_RANGE, "%lld tokens do not fit the %s's context of %lld", (long long)capacity,
                   which, (long long)spec->context_length);
}

static kv_status check_system(const kv_system *system, int64_t n_seq, int64_t capacity, kv_error *err) {
    if (n_seq < 1 || capacity < 1)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a session needs at least one sequence of one token, not %lld of %lld",
                       (long long)n_seq, (long long)capacity);
    if (check_context("base", &system->base->spec, capacity, err) != KV_OK) return KV_ERR_RANGE;
    if (!system->aux) return KV_OK;
    if (check_context("aux", &system->aux->spec, capacity, err) != KV_OK) return KV_ERR_RANGE;
    if (!system->predictor) return kv_fail(err, KV_ERR_ARGUMENT, "an aux needs a predictor");
    if (system->aux->spec.vocab_size != system->base->spec.vocab_size)
        return kv_fail(err, KV_ERR_MISMATCH, "aux and base must share a vocabulary: %lld and %lld tokens",
                       (long long)system->aux->spec.vocab_size, (long long)system->base->spec.vocab_size);
    const kv_predictor *p = system->predictor;
    if (p->n_base_layers != system->base->spec.n_layers || p->n_aux_layers != system->aux->spec.n_layers)
        return kv_fail(
            err, KV_ERR_MISMATCH,
            "the predictor maps %lld aux layers to %lld base layers, the models have %lld and %lld",
            (long long)p->n_aux_layers, (long long)p->n_base_layers, (long long)system->aux->spec.n_layers,
            (long long)system->base->spec.n_layers);
    return KV_OK;
}

// Pages are touched, and so taken from the system, only when a token is written to them.
static bool allocate_caches(kv_session *session) {
    const kv_model_spec *spec = &session->system.base->spec;
    session->lengths = calloc((size_t)session->n_seq, sizeof *session->lengths);
    session->k = calloc((size_t)spec->n_layers, sizeof *session->k);
    session->v = calloc((size_t)spec->n_layers, sizeof *session->v);
    if (!session->lengths || !session->k || !session->v) return false;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        size_t rows, n;
        if (__builtin_mul_overflow((size_t)session->n_seq, (size_t)session->capacity, &rows) ||
            __builtin_mul_overflow(rows, (size_t)kv_spec_kv_dim(spec, i), &n))
            return false;
        session->k[i] = calloc(n, sizeof(float));
        session->v[i] = calloc(n, sizeof(float));
        if (!session->k[i] || !session->v[i]) return false;
    }
    return true;
}

kv_status kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity, kv_session **session,
                            kv_error *err) {
    *session = NULL;
    kv_status status = check_system(system, n_seq, capacity, err);
    if (status != KV_OK) return status;
    kv_session *s = calloc(1, sizeof *s);
    if (s) {
        s->system = *system, s->n_seq = n_seq, s->capacity = capacity;
        s->tape = kv_tape_create();
    }
    if (!s || !s->tape || !allocate_caches(s)) {
        kv_session_free(s);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a cache of %lld x %lld tokens",
                       (long long)n_seq, (long long)capacity);
    }
    kv_tape_set_recording(s->tape, false);
    *session = s;
    return KV_OK;
}

void kv_session_free(kv_session *session) {
    if (!session) return;
    for (int64_t i = 0; i < session->system.base->spec.n_layers; i++) {
        if (session->k) free(session->k[i]);
        if (session->v) free(session->v[i]);
    }
    free(session->k);
    free(session->v);
    free(session->lengths);
    kv_tape_free(session->tape);
    free(session);
}

void kv_session_reset(kv_session *session) {
    memset(session->lengths, 0, (size_t)session->n_seq * sizeof *session->lengths);
}

// ---- Packing -------------------------------------------------------------------------------------------

// Takes sequences from *next on until the pack is full; sequences without new tokens are passed over. Its
// keys stand behind the tokens in the cache (in_cache), or are the pack's own rows.
static bool fill_pack(kv_session *session, const int32_t *ids, const int64_t *lengths, bool in_cache,
                      int64_t *next, struct pack *pack) {
    kv_arena *arena = kv_tape_arena(session->tape);
    int64_t most = session->n_seq - *next;
    *pack = (struct pack){.ids = ids};
    pack->sequence = kv_arena_alloc(arena, (size_t)most * sizeof *pack->sequence);
    pack->newest_rows = kv_arena_alloc(arena, (size_t)most * sizeof *pack->newest_rows);
    pack->segments = kv_arena_alloc(arena, (size_t)most * sizeof *pack->segments);
    pack->newest = kv_arena_alloc(arena, (size_t)most * sizeof *pack->newest);
    if (!pack->sequence || !pack->newest_rows || !pack->segments || !pack->newest) return false;
    for (; *next < session->n_seq; (*next)++) {
        int64_t s = *next, n = lengths[s], i = pack->n_seqs;
        if (n == 0) continue;
        if (pack->n_seqs > 0 && pack->n_rows + n > PACK_ROWS) break;
        kv_segment segment = {.q_row = pack->n_rows, .q_len = n, .k_row = pack->n_rows, .k_len = n};
        if (in_cache) segment.k_row = s * session->capacity, segment.k_len = session->lengths[s] + n;
        pack->sequence[i] = s;
        pack->segments[i] = segment;
        pack->newest_rows[i] = segment.q_row + n - 1;
        segment.q_row = i, segment.q_len = 1;
        pack->newest[i] = segment;
        pack->n_rows += n;
        pack->n_seqs++;
    }
    return true;
}

// Rows of a pack go behind the `behind` tokens a sequence has in the cache.
static void store_rows(kv_session *session, const struct pack *pack, float *cache, const kv_tensor *rows) {
    for (int64_t i = 0; i < pack->n_seqs; i++) {
        int64_t s = pack->sequence[i];
        const kv_segment *segment = &pack->segments[i];
        memcpy(cache + (s * session->capacity + session->lengths[s]) * rows->cols,
               rows->data + segment->q_row * rows->cols,
               (size_t)(segment->q_len * rows->cols) * sizeof(float));
    }
}

// ---- The base ------------------------------------------------------------------------------------------

// One layer of the base on a pack: its keys and values join the cache, x becomes the layer's output. The last
// layer's output is wanted for the newest token of each sequence only, so x shrinks to those rows there.
static void read_layer(kv_session *session, const struct pack *pack, int64_t layer, kv_tensor *x) {
    kv_tape *tape = session->tape;
    kv_model *base = session->system.base;
    kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
    kv_tensor *h = kv_layer_norm_in(tape, base, layer, x);
    kv_layer_kv own = kv_layer_keys_values(tape, base, layer, h);
    if (own.k && own.v) {
        store_rows(session, pack, session->k[layer], own.k);
        store_rows(session, pack, session->v[layer], own.v);
        int64_t rows = session->n_seq * session->capacity;
        kv_tensor *k = kv_tape_view(tape, session->k[layer], rows, own.k->cols);
        kv_tensor *v = kv_tape_view(tape, session->v[layer], rows, own.v->cols);
        kv_tensor *in = x;
        kv_pass pass = {.segments = pack->segments, .n_segments = pack->n_seqs};
        if (layer + 1 == base->spec.n_layers) {
            pass.segments = pack->newest;
            in = kv_gather_rows(tape, x, pack->newest_rows, pack->n_seqs);
            h = kv_gather_rows(tape, h, pack->newest_rows, pack->n_seqs);
        }
        kv_tensor *y = k && v ? kv_layer_attend(tape, base, layer, in, h, k, v, &pass) : NULL;
        if (y) {
            x->rows = y->rows;
            memcpy(x->data, y->data, (size_t)(y->rows * y->cols) * sizeof(float));
        }
    }
    kv_arena_release(kv_tape_arena(tape), mark);
}

static kv_status read_pack(kv_session *session, const struct pack *pack, float *logits, kv_error *err) {
    kv_tape *tape = session->tape;
    kv_model *base = session->system.base;
    const int64_t vocab_size = base->spec.vocab_size;
    kv_tensor *x = kv_embedding(tape, &base->embed, pack->ids, pack->n_rows);
    for (int64_t layer = 0; x && layer < base->spec.n_layers && kv_tape_status(tape, err) == KV_OK; layer++)
        read_layer(session, pack, layer, x);
    kv_status status = kv_tape_status(tape, err);
    if (status != KV_OK) return status;
    kv_tensor *y = kv_model_logits(tape, base, x);
    if (!y) return kv_tape_status(tape, err);
    for (int64_t i = 0; i < pack->n_seqs; i++)
        memcpy(logits + pack->sequence[i] * vocab_size, y->data + i * vocab_size,
               (size_t)vocab_size * sizeof(float));
    return KV_OK;
}

// ids of all sequences one after the other, lengths[s] of them new (0: none). Lengths of the cache change
// only when every pack went well.
static kv_status read_tokens(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                             kv_error *err) {
    for (int64_t next = 0; next < session->n_seq;) {
        struct pack pack;
        kv_tape_reset(session->tape);
        if (!fill_pack(session, ids, lengths, true, &next, &pack))
            return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of sequences");
        kv_status status = pack.n_seqs ? read_pack(session, &pack, logits, err) : KV_OK;
        if (status != KV_OK) return status;
        ids += pack.n_rows;
    }
    for (int64_t s = 0; s < session->n_seq; s++) session->lengths[s] += lengths[s];
    return KV_OK;
}

// ---- The aux and its predictors ------------------------------------------------------------------------

// Nothing of the aux is wanted but its keys (before k_norm) and values, so it ends with the last layer's.
static void run_aux(kv_session *session, const struct pack *pack, kv_tensor **raw_k, kv_tensor **v) {
    kv_tape *tape = session->tape;
    kv_model *aux = session->system.aux;
    const int64_t n_layers = aux->spec.n_layers;
    for (int64_t layer = 0; layer < n_layers; layer++) {
        raw_k[layer] = kv_tape_tensor(tape, pack->n_rows, kv_spec_kv_dim(&aux->spec, layer));
        v[layer] = kv_tape_tensor(tape, pack->n_rows, kv_spec_kv_dim(&aux->spec, layer));
    }
    kv_pass pass = {.segments = pack->segments, .n_segments = pack->n_seqs};
    kv_tensor *x = kv_embedding(tape, &aux->embed, pack->ids, pack->n_rows);
    for (int64_t layer = 0; layer < n_layers && kv_tape_status(tape, NULL) == KV_OK; layer++) {
        kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
        kv_tensor *h = kv_layer_norm_in(tape, aux, layer, x);
        kv_layer_kv own = kv_layer_keys_values(tape, aux, layer, h);
        if (own.raw_k && own.k && own.v) {
            size_t bytes = (size_t)(own.v->rows * own.v->cols) * sizeof(float);
            memcpy(raw_k[layer]->data, own.raw_k->data, bytes);
            memcpy(v[layer]->data, own.v->data, bytes);
            kv_tensor *y = NULL;
            if (layer + 1 < n_layers) y = kv_layer_attend(tape, aux, layer, x, h, own.k, own.v, &pass);
            if (y) memcpy(x->data, y->data, (size_t)(y->rows * y->cols) * sizeof(float));
        }
        kv_arena_release(kv_tape_arena(tape), mark);
    }
}

static kv_status predict_pack(kv_session *session, const struct pack *pack, kv_error *err) {
    kv_tape *tape = session->tape;
    const kv_system *system = &session->system;
    kv_tensor *aux_raw_k[KV_MAX_LAYERS], *aux_v[KV_MAX_LAYERS], *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS];
    run_aux(session, pack, aux_raw_k, aux_v);
    kv_status status = kv_tape_status(tape, err);
    if (status != KV_OK) return status;
    kv_predict(tape, system->predictor, system->base, aux_raw_k, aux_v, k, v);
    status = kv_tape_status(tape, err);
    if (status != KV_OK) return status;
    for (int64_t layer = 0; layer < system->base->spec.n_layers; layer++) {
        store_rows(session, pack, session->k[layer], k[layer]);
        store_rows(session, pack, session->v[layer], v[layer]);
    }
    return KV_OK;
}

// All but the last token of each prompt, in `ids` as `lengths` says, become predicted entries of the cache.
static kv_status predict_tokens(kv_session *session, const int32_t *ids, const int64_t *lengths,
                                kv_error *err) {
    for (int64_t next = 0; next < session->n_seq;) {
        struct pack pack;
        kv_tape_reset(session->tape);
        if (!fill_pack(session, ids, lengths, false, &next, &pack))
            return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of sequences");
        kv_status status = pack.n_seqs ? predict_pack(session, &pack, err) : KV_OK;
        if (status != KV_OK) return status;
        ids += pack.n_rows;
    }
    for (int64_t s = 0; s < session->n_seq; s++) session->lengths[s] = lengths[s];
    return KV_OK;
}

// Splits each prompt into what the aux reads (`front`) and the last token, which the base reads. lengths[s]
// counts front tokens afterwards, ones[s] is 1.
static void split_prompts(const kv_session *session, const int32_t *ids, const int64_t *prompt_lengths,
                          int32_t *front, int32_t *newest, int64_t *lengths, int64_t *ones) {
    for (int64_t s = 0; s < session->n_seq; s++) {
        lengths[s] = prompt_lengths[s] - 1;
        ones[s] = 1;
        memcpy(front, ids, (size_t)lengths[s] * sizeof *front);
        newest[s] = ids[lengths[s]];
        front += lengths[s];
        ids += prompt_lengths[s];
    }
}

static kv_status predicted_prefill(kv_session *session, const int32_t *ids, const int64_t *prompt_lengths,
                                   int64_t n_ids, float *logits, kv_error *err) {
    const int64_t n_seq = session->n_seq;
    for (int64_t s = 0; s < n_seq; s++)
        if (session->lengths[s] > 0)
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "sequence %lld: a predicted prompt can only be read from the start", (long long)s);
    int32_t *front = malloc((size_t)n_ids * sizeof *front + (size_t)n_seq * sizeof *front);
    int64_t *lengths = malloc(2 * (size_t)n_seq * sizeof *lengths);
    kv_status status = KV_ERR_MEMORY;
    if (front && lengths) {
        int32_t *newest = front + n_ids;
        split_prompts(session, ids, prompt_lengths, front, newest, lengths, lengths + n_seq);
        status = predict_tokens(session, front, lengths, err);
        if (status == KV_OK) status = read_tokens(session, newest, lengths + n_seq, logits, err);
        if (status != KV_OK) kv_session_reset(session);
    } else {
        kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld prompt tokens", (long long)n_ids);
    }
    free(front);
    free(lengths);
    return status;
}

// ---- Entry points --------------------------------------------------------------------------------------

// lengths[s] new tokens each, checked before anything is computed. *n_ids: their sum.
static kv_status check_tokens(const kv_session *session, const int32_t *ids, const int64_t *lengths,
                              int64_t *n_ids, kv_error *err) {
    const int64_t vocab_size = session->system.base->spec.vocab_size;
    *n_ids = 0;
    for (int64_t s = 0; s < session->n_seq; s++) {
        if (lengths[s] > session->capacity - session->lengths[s])
            return kv_fail(
                err, KV_ERR_RANGE,
                "sequence %lld: %lld tokens after the %lld in the cache do not fit its room for %lld",
                (long long)s, (long long)lengths[s], (long long)session->lengths[s],
                (long long)session->capacity);
        for (int64_t t = 0; t < lengths[s]; t++, (*n_ids)++)
            if (ids[*n_ids] < 0 || ids[*n_ids] >= vocab_size)
                return kv_fail(err, KV_ERR_RANGE,
                               "sequence %lld, token %lld: id %d is outside the vocabulary of %lld",
                               (long long)s, (long long)t, ids[*n_ids], (long long)vocab_size);
    }
    return KV_OK;
}

kv_status kv_session_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                             kv_error *err) {
    for (int64_t s = 0; s < session->n_seq; s++)
        if (lengths[s] < 1)
            return kv_fail(err, KV_ERR_ARGUMENT, "sequence %lld: a prompt needs at least one token, not %lld",
                           (long long)s, (long long)lengths[s]);
    int64_t n_ids;
    kv_status status = check_tokens(session, ids, lengths, &n_ids, err);
    if (status != KV_OK) return status;
    if (session->system.aux) return predicted_prefill(session, ids, lengths, n_ids, logits, err);
    return read_tokens(session, ids, lengths, logits, err);
}

kv_status kv_session_decode(kv_session *session, const int32_t *ids, const bool *active, float *logits,
                            kv_error *err) {
    const size_t n_seq = (size_t)session->n_seq;
    int32_t *packed = malloc(n_seq * sizeof *packed);
    int64_t *lengths = malloc(n_seq * sizeof *lengths);
    kv_status status = KV_ERR_MEMORY;
    if (packed && lengths) {
        int64_t n = 0;
        for (int64_t s = 0; s < session->n_seq; s++) {
            lengths[s] = !active || active[s];
            if (lengths[s]) packed[n++] = ids[s];
        }
        status = check_tokens(session, packed, lengths, &n, err);
        if (status == KV_OK) status = read_tokens(session, packed, lengths, logits, err);
    } else {
        kv_fail(err, KV_ERR_MEMORY, "out of memory for one step of %lld sequences",
                (long long)session->n_seq);
    }
    free(packed);
    free(lengths);
    return status;
}

int64_t kv_session_n_seq(const kv_session *session) {
    return session->n_seq;
}
int64_t kv_session_capacity(const kv_session *session) {
    return session->capacity;
}
int64_t kv_session_vocab_size(const kv_session *session) {
    return session->system.base->spec.vocab_size;
}

int64_t kv_session_length(const kv_session *session, int64_t s) {
    return session->lengths[s];
}

void kv_session_copy_cache(const kv_session *session, int64_t layer, int64_t s, float *k, float *v) {
    const int64_t dim = kv_spec_kv_dim(&session->system.base->spec, layer);
    const int64_t start = s * session->capacity * dim;
    const size_t bytes = (size_t)(session->lengths[s] * dim) * sizeof(float);
    if (bytes == 0) return;
    memcpy(k, session->k[layer] + start, bytes);
    memcpy(v, session->v[layer] + start, bytes);
}

void kv_argmax(const float *logits, int64_t n, int64_t vocab_size, int32_t *ids) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = logits + i * vocab_size;
        int64_t best = 0;
        for (int64_t j = 1; j < vocab_size; j++)
            if (row[j] > row[best]) best = j;
        ids[i] = (int32_t)best;
    }
}
