// What a session keeps so that prompts can be read behind others: tokens, which of them have predicted entries, and
// the keys and values of an aux as far as it has read.
//                                                                                     [core/README.md §9, eq. 41]
#include "infer/session/session.h"

#include <stdlib.h>
#include <string.h>

// Layers of the aux that attend to its cache: those before the last one that is read.
static int64_t attending_layers(const kv_predictor *predictor) {
    uint8_t reads[KV_MAX_LAYERS];
    const int64_t depth = kv_predictor_spec_reads(&predictor->spec, reads);
    return depth > 0 ? depth - 1 : 0;
}

// Whether the base's cache is, in those layers, what its own first layers go on from.
static bool goes_on_from_base(const kv_system *system, int64_t n_layers) {
    bool exact = system->aux == system->base;
    for (int64_t i = 0; i < n_layers; i++) exact = exact && !kv_layer_predicted(&system->predictor->spec, i);
    return exact;
}

double kv_turns_token_bytes(const kv_system *system) {
    double sum = sizeof(int32_t) + sizeof(bool);
    if (system->pruning.kind != KV_PRUNE_NONE) return 0;
    const int64_t n_layers = system->predictor ? attending_layers(system->predictor) : 0;
    if (n_layers == 0 || goes_on_from_base(system, n_layers)) return sum;
    for (int64_t i = 0; i < n_layers; i++)
        sum += 2 * sizeof(float) * (double)kv_spec_kv_dim(&system->aux->spec, i);
    return sum;
}

static void *allocate(size_t rows, int64_t cols, size_t size) {
    size_t n;
    return __builtin_mul_overflow(rows, (size_t)cols, &n) ? NULL : calloc(n, size);
}

// Pages are touched, and so taken from the system, only when a token is written to them.
static bool allocate_aux(const kv_session *session, kv_turns *turns, size_t rows) {
    turns->k = calloc((size_t)turns->n_layers + 1, sizeof *turns->k);
    turns->v = calloc((size_t)turns->n_layers + 1, sizeof *turns->v);
    if (!turns->k || !turns->v) return false;
    for (int64_t i = 0; i < turns->n_layers; i++) {
        const int64_t dim = kv_spec_kv_dim(&session->system.aux->spec, i);
        turns->k[i] = turns->of_base ? session->k[i] : allocate(rows, dim, sizeof(float));
        turns->v[i] = turns->of_base ? session->v[i] : allocate(rows, dim, sizeof(float));
        if (!turns->k[i] || !turns->v[i]) return false;
    }
    return true;
}

bool kv_turns_create(kv_session *session) {
    const kv_system *system = &session->system;
    if (system->pruning.kind != KV_PRUNE_NONE) return true;
    const size_t rows = (size_t)session->n_seq * (size_t)session->capacity;
    kv_turns *turns = session->turns = calloc(1, sizeof *turns);
    if (!turns) return false;
    turns->ids = allocate(rows, 1, sizeof *turns->ids);
    turns->predicted = allocate(rows, 1, sizeof *turns->predicted);
    turns->n_read = calloc((size_t)session->n_seq, sizeof *turns->n_read);
    if (!turns->ids || !turns->predicted || !turns->n_read) return false;
    if (!system->predictor) return true;
    turns->n_layers = attending_layers(system->predictor);
    turns->of_base = goes_on_from_base(system, turns->n_layers);
    return allocate_aux(session, turns, rows);
}

void kv_turns_free(kv_session *session) {
    kv_turns *turns = session->turns;
    if (!turns) return;
    for (int64_t i = 0; i < turns->n_layers && !turns->of_base; i++) {
        if (turns->k) free(turns->k[i]);
        if (turns->v) free(turns->v[i]);
    }
    free(turns->k);
    free(turns->v);
    free(turns->n_read);
    free(turns->predicted);
    free(turns->ids);
    free(turns);
    session->turns = NULL;
}

int64_t kv_turns_read(const kv_session *session, int64_t s) {
    const kv_turns *turns = session->turns;
    const bool apart = turns && session->system.predictor && turns->n_layers > 0 && !turns->of_base;
    return apart ? turns->n_read[s] : session->lengths[s];
}

void kv_turns_rewind(kv_session *session, int64_t s) {
    kv_turns *turns = session->turns;
    const int64_t n = session->lengths[s];
    if (!turns) return;
    if (turns->n_read[s] > n) turns->n_read[s] = n;
    const bool *predicted = turns->predicted + s * session->capacity;
    session->predicted[s] = n > 0 && memchr(predicted, true, (size_t)n);
}

static void copy_rows(float *cache, int64_t to, int64_t from, int64_t n, int64_t cols) {
    memcpy(cache + to * cols, cache + from * cols, (size_t)(n * cols) * sizeof *cache);
}

void kv_turns_copy(kv_session *session, int64_t from, int64_t to) {
    kv_turns *turns = session->turns;
    if (!turns) return;
    const int64_t row = from * session->capacity, at = to * session->capacity, n = session->lengths[from];
    memcpy(turns->ids + at, turns->ids + row, (size_t)n * sizeof *turns->ids);
    memcpy(turns->predicted + at, turns->predicted + row, (size_t)n * sizeof *turns->predicted);
    turns->n_read[to] = turns->n_read[from];
    for (int64_t i = 0; i < turns->n_layers && !turns->of_base; i++) {
        const int64_t cols = kv_spec_kv_dim(&session->system.aux->spec, i);
        copy_rows(turns->k[i], at, row, turns->n_read[from], cols);
        copy_rows(turns->v[i], at, row, turns->n_read[from], cols);
    }
}

void kv_turns_note(kv_session *session, int64_t s, const int32_t *ids, int64_t n, bool predicted) {
    kv_turns *turns = session->turns;
    if (!turns || n < 1) return;
    const int64_t row = s * session->capacity + session->lengths[s];
    memcpy(turns->ids + row, ids, (size_t)n * sizeof *ids);
    memset(turns->predicted + row, predicted, (size_t)n * sizeof *turns->predicted);
}
