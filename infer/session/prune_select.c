// Choosing is the same for every policy: flags for those that stay anyway, then the best of the others.
#include "infer/session/prune_select.h"

#include "core/rng.h"

#include <stdlib.h>
#include <string.h>

struct scored {
    double score;
    int64_t place;
};

static int by_score(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->place > y->place) - (x->place < y->place);
}

static double number(double score) {
    return score == score ? score : -1; // every probability is above
}

// Places whose flag is set, rising.
static void list_flags(const bool *flags, int64_t n, int32_t *places) {
    for (int64_t j = 0, i = 0; j < n; j++)
        if (flags[j]) places[i++] = (int32_t)j;
}

static bool *make_flags(kv_arena *arena, int64_t n) {
    bool *flags = kv_arena_alloc(arena, (size_t)n * sizeof *flags);
    if (flags) memset(flags, false, (size_t)n * sizeof *flags);
    return flags;
}

// Sets up to `room` more flags among the places [from, to) in the order of their scores. Returns the number.
static int64_t flag_best(struct scored *order, const double *scores, int64_t from, int64_t to, int64_t room,
                         bool *flags) {
    int64_t n = 0;
    for (int64_t j = from; j < to; j++)
        if (!flags[j]) order[n++] = (struct scored){number(scores[j]), j};
    if (n > room) qsort(order, (size_t)n, sizeof *order, by_score);
    if (n > room) n = room;
    for (int64_t i = 0; i < n; i++) flags[order[i].place] = true;
    return n;
}

static bool keep_by_score(kv_arena *arena, const double *scores, int64_t n, bool first, int64_t kept,
                          int32_t *places) {
    bool *flags = make_flags(arena, n);
    struct scored *order = kv_arena_alloc(arena, (size_t)n * sizeof *order);
    if (!flags || !order) return false;
    flags[n - 1] = true;
    if (first && kept > 1) flags[0] = true;
    flag_best(order, scores, 0, n, kept - 1 - (n > 1 && flags[0]), flags);
    list_flags(flags, n, places);
    return true;
}

static double *widen(kv_arena *arena, const float *scores, int64_t n) {
    double *wide = kv_arena_alloc(arena, (size_t)n * sizeof *wide);
    for (int64_t j = 0; wide && j < n; j++) wide[j] = (double)scores[j];
    return wide;
}

bool kv_keep_best(kv_arena *arena, const float *scores, int64_t n, int64_t kept, int32_t *places) {
    const double *wide = widen(arena, scores, n);
    return wide && keep_by_score(arena, wide, n, false, kept, places);
}

// A stream of its own for every prompt: FNV-1a over the ids, 64 bit.
static kv_rng stream_of(uint64_t seed, const int32_t *ids, int64_t n) {
    kv_rng rng = kv_rng_stream(seed, "prune.random");
    for (int64_t i = 0; i < n; i++) rng.stream = (rng.stream ^ (uint32_t)ids[i]) * 0x100000001b3u;
    return rng;
}

bool kv_keep_random(kv_arena *arena, uint64_t seed, int32_t bos_id, const int32_t *ids, int64_t n,
                    int64_t kept, int32_t *places) {
    double *scores = kv_arena_alloc(arena, (size_t)n * sizeof *scores);
    if (!scores) return false;
    const kv_rng rng = stream_of(seed, ids, n);
    for (int64_t j = 0; j < n; j++) scores[j] = kv_rng_uniform(rng, (uint64_t)j);
    return keep_by_score(arena, scores, n, bos_id >= 0 && ids[0] == bos_id, kept, places);
}

// ---- Chunks --------------------------------------------------------------------------------------------

static void smooth(const float *scores, int64_t n, int64_t window, double *smoothed) {
    const int64_t reach = window / 2;
    for (int64_t j = 0; j < n; j++) {
        const int64_t from = j > reach ? j - reach : 0, to = j < n - reach ? j + reach + 1 : n;
        double sum = 0;
        for (int64_t i = from; i < to; i++) sum += number((double)scores[i]);
        smoothed[j] = sum / (double)(to - from);
    }
}

bool kv_keep_chunks(kv_arena *arena, const float *scores, int64_t n, int64_t window, int64_t chunk,
                    int64_t kept, int32_t *places) {
    const int64_t n_chunks = (n - 1) / chunk + 1;
    bool *flags = make_flags(arena, n);
    double *smoothed = kv_arena_alloc(arena, (size_t)n * sizeof *smoothed);
    struct scored *chunks = kv_arena_alloc(arena, (size_t)n_chunks * sizeof *chunks);
    struct scored *order = kv_arena_alloc(arena, (size_t)n * sizeof *order);
    if (!flags || !smoothed || !chunks || !order) return false;
    smooth(scores, n, window, smoothed);
    for (int64_t c = 0; c < n_chunks; c++) {
        const int64_t from = c * chunk, to = n - from > chunk ? from + chunk : n;
        double sum = 0;
        for (int64_t j = from; j < to; j++) sum += smoothed[j];
        chunks[c] = (struct scored){sum / (double)(to - from), c};
    }
    qsort(chunks, (size_t)n_chunks, sizeof *chunks, by_score);
    flags[0] = flags[n - 1] = true;
    int64_t room = kept - (n > 1 ? 2 : 1);
    for (int64_t c = 0; c < n_chunks && room > 0; c++) {
        const int64_t from = chunks[c].place * chunk, to = n - from > chunk ? from + chunk : n;
        room -= flag_best(order, smoothed, from, to, room, flags);
    }
    list_flags(flags, n, places);
    return true;
}
