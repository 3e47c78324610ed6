// Packs: the tokens that go through the layers together, and where they stand in the cache.
#include "infer/session/session.h"

#include <string.h>

int64_t kv_next_position(const kv_session *session, int64_t s) {
    const int64_t n = session->lengths[s];
    return session->positions && n > 0 ? session->positions[s * session->capacity + n - 1] + 1 : n;
}

// Of models whose layers are no larger than this many weights a core keeps a layer in a cache of its own. Their packs
// are read side by side, each by one thread: operators of so few numbers cost less than dealing them out does. Such a
// pack has about so many tokens, and sequences enough that a batch falls into that many parts; nothing of it depends on
// threads.
enum { SMALL_LAYER = 1 << 20, SMALL_ROWS = 64, SMALL_SEQS = 4, SMALL_PARTS = 4 };

// A pack with nothing beside it is read by one thread, too, up to so many products of a row and a weight in a layer:
// below, waking the others for every operator takes longer than they save.
enum { ALONE = 1 << 27 };

static int64_t largest_layer(const kv_model_spec *spec) {
    int64_t most = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const kv_layer_spec *l = &spec->layers[i];
        const int64_t columns = 2 * (l->n_heads + l->n_kv_heads) * spec->head_dim + 3 * l->ffn_dim;
        if (columns > most) most = columns;
    }
    return most < SMALL_LAYER ? most * spec->model_dim : SMALL_LAYER + 1;
}

// Tokens of sequence s that a layer may have to work on: with lazy pruning any may be revived.
static int64_t most_rows(const kv_session *session, const kv_reading *reading, int64_t s) {
    return reading->lengths[s] + (session->depth ? session->lengths[s] : 0);
}

// Whether two sequences may have other queries: those are adapted to predicted entries, and a prompt of one token has
// none.
static bool read_apart(const kv_session *session, int64_t s, int64_t t) {
    const kv_predictor *predictor = session->system.predictor;
    return predictor && predictor->adapters && session->predicted[s] != session->predicted[t];
}

static int64_t largest_of(const kv_system *system) {
    const int64_t base = largest_layer(&system->base->spec),
                  aux = system->aux ? largest_layer(&system->aux->spec) : 0;
    return base > aux ? base : aux;
}

bool kv_reads_apart(const kv_system *system) {
    return largest_of(system) <= SMALL_LAYER;
}

bool kv_reads_alone(const kv_system *system, int64_t rows) {
    const int64_t layer = largest_of(system);
    return layer <= SMALL_LAYER && rows <= ALONE / layer;
}

kv_pack_size kv_pack_limit(const kv_system *system, int64_t n_reading) {
    if (!kv_reads_apart(system)) return (kv_pack_size){INT64_MAX, KV_PACK_ROWS};
    const int64_t part = (n_reading + SMALL_PARTS - 1) / SMALL_PARTS;
    return (kv_pack_size){part > SMALL_SEQS ? part : SMALL_SEQS, SMALL_ROWS};
}

kv_part kv_pack_part(const kv_session *session, const kv_reading *reading, const kv_pack_size *limit,
                     int64_t next) {
    kv_part part = {.first = next};
    int64_t n_seqs = 0, one = -1;
    for (; next < session->n_seq; next++) {
        if (reading->lengths[next] == 0) continue;
        const int64_t n = most_rows(session, reading, next);
        const bool full = n_seqs == limit->seqs || part.rows + n > limit->rows;
        if (one >= 0 && (full || read_apart(session, one, next))) break;
        if (one < 0) one = next;
        n_seqs++, part.rows += n, part.n_new += reading->lengths[next];
    }
    part.end = next;
    return part;
}

static bool allocate(kv_session *session, const kv_reading *reading, int64_t n_seqs, int64_t rows,
                     kv_pack *pack) {
    kv_arena *arena = kv_tape_arena(session->tape);
    const size_t seqs = (size_t)n_seqs;
    pack->members = kv_arena_alloc(arena, seqs * sizeof *pack->members);
    pack->newest_rows = kv_arena_alloc(arena, seqs * sizeof *pack->newest_rows);
    pack->sequences = kv_arena_alloc(arena, seqs * sizeof *pack->sequences);
    pack->newest = kv_arena_alloc(arena, seqs * sizeof *pack->newest);
    pack->cache_rows = kv_arena_alloc(arena, (size_t)rows * sizeof *pack->cache_rows);
    bool ok = pack->members && pack->newest_rows && pack->sequences && pack->newest && pack->cache_rows;
    if (session->positions || session->depth) {
        pack->q_positions = kv_arena_alloc(arena, (size_t)rows * sizeof *pack->q_positions);
        pack->newest_positions = kv_arena_alloc(arena, seqs * sizeof *pack->newest_positions);
        ok = ok && pack->q_positions && pack->newest_positions;
    }
    if (session->depth || reading->importance) {
        pack->ranking.sequences = kv_arena_alloc(arena, seqs * sizeof *pack->ranking.sequences);
        pack->ranking.importance = kv_arena_alloc(arena, seqs * sizeof *pack->ranking.importance);
        ok = ok && pack->ranking.sequences && pack->ranking.importance;
    }
    return ok;
}

static void place_rows(kv_session *session, const kv_reading *reading, int64_t s, int64_t n, kv_pack *pack) {
    const int64_t first = s * session->capacity + kv_reading_behind(session, reading, s);
    const int64_t position = kv_next_position(session, s);
    for (int64_t t = 0; t < n; t++) {
        const int64_t row = pack->n_rows + t;
        pack->cache_rows[row] = first + t;
        if (!session->positions) continue;
        pack->q_positions[row] = reading->positions ? reading->positions[row] : (int32_t)(position + t);
        session->positions[first + t] = pack->q_positions[row];
    }
}

static void add_sequence(kv_session *session, const kv_reading *reading, bool in_cache, int64_t s,
                         kv_pack *pack) {
    const int64_t i = pack->n_seqs++, n = reading->lengths[s];
    kv_sequence sequence = {.q_row = pack->n_rows, .q_len = n, .k_row = pack->n_rows, .k_len = n};
    if (in_cache)
        sequence.k_row = s * session->capacity, sequence.k_len = kv_reading_behind(session, reading, s) + n;
    place_rows(session, reading, s, n, pack);
    pack->members[i] = s;
    pack->predicted = session->predicted[s];
    pack->sequences[i] = sequence;
    pack->newest_rows[i] = sequence.q_row = sequence.q_row + n - 1;
    sequence.q_len = 1;
    if (reading->importance) {
        pack->ranking.sequences[i] = sequence;
        pack->ranking.importance[i] = reading->importance[s];
        pack->ranking.n++;
    }
    if (session->positions) pack->newest_positions[i] = pack->q_positions[sequence.q_row];
    sequence.q_row = i;
    pack->newest[i] = sequence;
    pack->n_rows += n;
}

bool kv_pack_fill(kv_session *session, const kv_reading *reading, bool in_cache, const kv_part *part,
                  kv_pack *pack) {
    *pack = (kv_pack){.ids = reading->ids, .before = part->before, .ranking.pooling = KV_POOL_MAX};
    if (part->rows == 0) return true;
    if (!allocate(session, reading, part->end - part->first, part->rows, pack)) return false;
    for (int64_t s = part->first; s < part->end; s++)
        if (reading->lengths[s] > 0) add_sequence(session, reading, in_cache, s, pack);
    if (in_cache) pack->k_positions = session->positions;
    pack->n_new = pack->n_rows;
    return true;
}

// Rows that stand one behind the other in the cache, as those of a sequence do, go there together.
void kv_store_rows(const int64_t *places, float *cache, const kv_tensor *rows) {
    for (int64_t r = 0, n; r < rows->rows; r += n, places += n) {
        for (n = 1; r + n < rows->rows && places[n] == places[0] + n;) n++;
        memcpy(cache + places[0] * rows->cols, rows->data + r * rows->cols,
               (size_t)(n * rows->cols) * sizeof(float));
    }
}

void kv_pack_store(const kv_pack *pack, float *cache, const kv_tensor *rows) {
    kv_store_rows(pack->cache_rows, cache, rows);
}
