// Whole sequences, packed one behind the other, so that their number does not show in the memory that scoring takes.
#include "infer/score/scoring.h"

#include "core/predictor/predictor.h"
#include "data/system/console.h"

#include <stdlib.h>
#include <string.h>

// Some sequences one after the other, each without its last token, whose logits nobody asks for.
struct pack {
    kv_sequence sequences[KV_SCORE_ROWS];
    int64_t members[KV_SCORE_ROWS]; // which of all sequences they are
    int64_t n_sequences, n_rows;
    int64_t n_scored; // rows whose next token is scored
    int32_t *ids;     // [n_rows]
    int64_t *rows;    // [n_scored] which they are
    int32_t *targets; // [n_scored] the tokens that follow
    kv_row_sum *sums; // [n_scored]
};

// Takes sequences from *next on until the pack is full; at least one, however long.
static void take_sequences(const kv_scoring *g, int64_t *next, struct pack *p) {
    p->n_sequences = p->n_rows = p->n_scored = 0;
    for (; *next < g->n_seq && p->n_sequences < KV_SCORE_ROWS; (*next)++) {
        const int64_t s = *next, n = g->lengths[s] - 1;
        if (g->n_scored[s] == 0) continue;
        if (p->n_sequences > 0 && p->n_rows + n > KV_SCORE_ROWS) return;
        p->sequences[p->n_sequences] = (kv_sequence){p->n_rows, n, p->n_rows, n};
        p->members[p->n_sequences++] = s;
        p->n_rows += n;
        p->n_scored += g->n_scored[s];
    }
}

static bool lay_out(const kv_scoring *g, kv_arena *arena, struct pack *p) {
    p->ids = kv_arena_alloc(arena, (size_t)p->n_rows * sizeof *p->ids);
    p->rows = kv_arena_alloc(arena, (size_t)p->n_scored * sizeof *p->rows);
    p->targets = kv_arena_alloc(arena, (size_t)p->n_scored * sizeof *p->targets);
    p->sums = kv_arena_alloc(arena, (size_t)p->n_scored * sizeof *p->sums);
    if (!p->ids || !p->rows || !p->targets || !p->sums) return false;
    int64_t at = 0;
    for (int64_t i = 0; i < p->n_sequences; i++) {
        const kv_sequence *sequence = &p->sequences[i];
        const int32_t *ids = g->ids + g->starts[p->members[i]];
        memcpy(p->ids + sequence->q_row, ids, (size_t)sequence->q_len * sizeof *ids);
        for (int64_t t = sequence->q_len - g->n_scored[p->members[i]]; t < sequence->q_len; t++, at++) {
            p->rows[at] = sequence->q_row + t;
            p->targets[at] = ids[t + 1];
        }
    }
    return true;
}

// A model alone reads the pack as it is. With a predicted cache the base attends to nothing
// but what the predictors make of what the aux reads.
//                                                                   [core/README.md §4, eq. 15]
static kv_tensor *read_pack(kv_tape *tape, const kv_system *system, const struct pack *p) {
    kv_tensor *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS];
    kv_key_norms norms;
    kv_taps taps;
    kv_pass pass = {.sequences = p->sequences, .n_sequences = p->n_sequences};
    if (system->predictor) {
        kv_predictor_read(tape, system->predictor, system->base, system->aux, p->ids, p->n_rows, &pass, false,
                          &taps);
        if (kv_tape_status(tape, NULL) != KV_OK) return NULL;
        kv_model_key_norms(system->base, &norms);
        kv_predict(tape, system->predictor, &norms, &taps, k, v);
        pass.given_k = k, pass.given_v = v, pass.adapters = system->predictor->adapters;
    }
    return kv_tape_status(tape, NULL) == KV_OK
               ? kv_model_forward(tape, system->base, p->ids, p->n_rows, &pass)
               : NULL;
}

static kv_status score_pack(const kv_scoring *g, kv_tape *tape, struct pack *p, kv_error *err) {
    const kv_system *system = g->system;
    kv_arena *arena = kv_tape_arena(tape);
    bool ok = lay_out(g, arena, p);
    kv_tensor *x = NULL;
    if (ok) x = read_pack(tape, system, p);
    x = x ? kv_gather_rows(tape, x, p->rows, p->n_scored) : NULL;
    kv_tensor *hidden = x ? kv_model_final_norm(tape, system->base, x) : NULL;
    kv_status status = kv_tape_status(tape, err);
    if (status != KV_OK) return status;
    ok = ok && hidden &&
         kv_score_logits(arena, kv_model_head(system->base), hidden->data, p->n_scored, p->targets, p->sums);
    if (!ok)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld tokens", (long long)p->n_rows);
    const kv_row_sum *sum = p->sums;
    const int32_t *target = p->targets;
    for (int64_t i = 0; i < p->n_sequences; i++)
        for (int64_t t = 0; t < g->n_scored[p->members[i]] && status == KV_OK; t++, sum++, target++)
            status = kv_score_add(g, p->members[i], t, sum, *target, err);
    return status;
}

kv_status kv_score_whole(const kv_scoring *g, kv_error *err) {
    kv_tape *tape = kv_tape_create();
    struct pack *pack = malloc(sizeof *pack);
    kv_status status = KV_OK;
    if (!tape || !pack) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring");
    if (tape) kv_tape_set_recording(tape, false);
    for (int64_t next = 0; status == KV_OK && next < g->n_seq;) {
        if (kv_console_interrupted()) {
            status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
            break;
        }
        kv_tape_reset(tape);
        take_sequences(g, &next, pack);
        if (pack->n_sequences > 0) status = score_pack(g, tape, pack, err);
    }
    free(pack);
    kv_tape_free(tape);
    return status;
}
