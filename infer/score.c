// Sequences are packed one behind the other, and logits are folded into running sums tile by tile, so that
// neither the number of texts nor the vocabulary shows in the memory that scoring takes.
#include "infer/score.h"

#include "core/gemm.h"
#include "core/vecmath.h"
#include "data/system/console.h"
#include "infer/session/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Tokens of a pack, rows and columns of a tile of logits, sequences that share a session, and the bytes that their
// cache may have beyond that of PACK_ROWS tokens.
enum { PACK_ROWS = 1024, TILE_ROWS = 256, TILE_COLS = 2048, MAX_TOGETHER = 64, CACHE_BYTES = 256 << 20 };

// All sequences, and where their sums go.
struct scoring {
    const kv_system *system;
    const int32_t *ids;
    const int64_t *lengths, *n_scored;
    int64_t n_seq;
    double *log_likelihood;
    bool *greedy;           // may be NULL
    double *log_p;          // of each scored token; may be NULL
    int64_t *starts;        // [n_seq] of each sequence in ids
    int64_t *scored_starts; // [n_seq] of each sequence's in log_p
};

// ---- Log-probabilities ---------------------------------------------------------------------------------

// The logsumexp of a row of logits that comes in pieces, and its largest logit.
struct row_sum {
    float max, target;
    double sum;   // Σ e^(z - max)
    int64_t best; // the first of the largest
    bool finite;  // all logits are
};

static const struct row_sum empty_row = {.max = -INFINITY, .best = -1, .finite = true};

// Logits [first, first + n) of the row.
static void fold(struct row_sum *r, const float *z, int64_t first, int64_t n, int32_t target) {
    float top = -INFINITY, total = 0;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) top = z[j] > top ? z[j] : top;
    if (r->best < 0 || top > r->max) {
        int64_t at = 0;
        while (at < n && z[at] < top) at++;
        r->sum = r->best < 0 ? 0 : r->sum * exp((double)r->max - (double)top);
        r->max = top;
        r->best = first + at;
    }
    const float max = r->max;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) total += kv_expf(z[j] - max);
    r->sum += (double)total;
    r->finite = r->finite && kv_all_finite(z, n);
    if (target >= first && target < first + n) r->target = z[target - first];
}

static double log_p(const struct row_sum *r) {
    return ((double)r->target - (double)r->max) - log(r->sum);
}

static kv_status not_finite(const struct scoring *g, int64_t s, int64_t scored, kv_error *err) {
    g->log_likelihood[s] = NAN;
    return kv_fail(
        err, KV_ERR_NOT_FINITE,
        "token %lld: the logits are not finite: weights are NaN or infinite, or numbers grew too large "
        "for float32",
        (long long)(g->lengths[s] - g->n_scored[s] + scored));
}

// What one more scored token of sequence s, the `scored`-th of them, adds.
static kv_status add_token(const struct scoring *g, int64_t s, int64_t scored, const struct row_sum *row,
                           int32_t target, kv_error *err) {
    if (!row->finite) return not_finite(g, s, scored, err);
    g->log_likelihood[s] += log_p(row);
    if (g->log_p) g->log_p[g->scored_starts[s] + scored] = log_p(row);
    if (g->greedy) g->greedy[s] = g->greedy[s] && row->best == target;
    return KV_OK;
}

// Sums of rows[m] of logits = hidden[m, dim] · headᵀ, the vocabulary tile by tile.
static bool fold_logits(kv_arena *arena, const kv_param *head, const float *hidden, int64_t m,
                        const int32_t *targets, struct row_sum *rows) {
    kv_arena_mark mark = kv_arena_get_mark(arena);
    float *tile = kv_arena_floats(arena, TILE_ROWS * TILE_COLS);
    bool ok = tile != NULL;
    for (int64_t i = 0; i < m; i++) rows[i] = empty_row;
    for (int64_t row = 0; ok && row < m; row += TILE_ROWS) {
        const int64_t height = m - row < TILE_ROWS ? m - row : TILE_ROWS;
        for (int64_t col = 0; ok && col < head->rows; col += TILE_COLS) {
            const int64_t width = head->rows - col < TILE_COLS ? head->rows - col : TILE_COLS;
            ok = kv_gemm_weight_t(arena, height, hidden + row * head->cols, head->cols, head, col, width, 0,
                                  tile, width);
#pragma omp parallel for schedule(static) if (height * width > 1 << 13)
            for (int64_t i = 0; i < height; i++)
                if (ok) fold(&rows[row + i], tile + i * width, col, width, targets[row + i]);
        }
    }
    kv_arena_release(arena, mark);
    return ok;
}

// ---- Whole sequences -----------------------------------------------------------------------------------

// Some sequences one after the other, each without its last token, whose logits nobody asks for.
struct pack {
    kv_sequence sequences[PACK_ROWS];
    int64_t members[PACK_ROWS]; // which of all sequences they are
    int64_t n_sequences, n_rows;
    int64_t n_scored;     // rows whose next token is scored
    int32_t *ids;         // [n_rows]
    int64_t *rows;        // [n_scored] which they are
    int32_t *targets;     // [n_scored] the tokens that follow
    struct row_sum *sums; // [n_scored]
};

// Takes sequences from *next on until the pack is full; at least one, however long.
static void take_sequences(const struct scoring *g, int64_t *next, struct pack *p) {
    p->n_sequences = p->n_rows = p->n_scored = 0;
    for (; *next < g->n_seq && p->n_sequences < PACK_ROWS; (*next)++) {
        const int64_t s = *next, n = g->lengths[s] - 1;
        if (g->n_scored[s] == 0) continue;
        if (p->n_sequences > 0 && p->n_rows + n > PACK_ROWS) return;
        p->sequences[p->n_sequences] = (kv_sequence){p->n_rows, n, p->n_rows, n};
        p->members[p->n_sequences++] = s;
        p->n_rows += n;
        p->n_scored += g->n_scored[s];
    }
}

static bool lay_out(const struct scoring *g, kv_arena *arena, struct pack *p) {
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
// but what the predictors make of the aux's keys and values.
//                                                                   [core/README.md §4, eq. 15]
static kv_tensor *read_pack(kv_tape *tape, const kv_system *system, const struct pack *p) {
    kv_tensor *aux_k[KV_MAX_LAYERS] = {0}, *aux_v[KV_MAX_LAYERS] = {0};
    kv_tensor *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS];
    kv_key_norms norms;
    kv_pass pass = {.sequences = p->sequences, .n_sequences = p->n_sequences};
    if (system->aux) {
        kv_pass aux = pass;
        aux.raw_k = aux_k, aux.v = aux_v, aux.only_kv = true;
        aux.n_layers = kv_predictor_depth(system->predictor);
        kv_model_forward(tape, system->aux, p->ids, p->n_rows, &aux);
        if (kv_tape_status(tape, NULL) != KV_OK) return NULL;
        kv_model_key_norms(system->base, &norms);
        kv_predict(tape, system->predictor, &norms, aux_k, aux_v, k, v);
        pass.given_k = k, pass.given_v = v;
    }
    return kv_tape_status(tape, NULL) == KV_OK
               ? kv_model_forward(tape, system->base, p->ids, p->n_rows, &pass)
               : NULL;
}

static kv_status score_pack(const struct scoring *g, kv_tape *tape, struct pack *p, kv_error *err) {
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
         fold_logits(arena, kv_model_head(system->base), hidden->data, p->n_scored, p->targets, p->sums);
    if (!ok)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld tokens", (long long)p->n_rows);
    const struct row_sum *sum = p->sums;
    const int32_t *target = p->targets;
    for (int64_t i = 0; i < p->n_sequences; i++)
        for (int64_t t = 0; t < g->n_scored[p->members[i]] && status == KV_OK; t++, sum++, target++)
            status = add_token(g, p->members[i], t, sum, *target, err);
    return status;
}

static kv_status score_whole(const struct scoring *g, kv_error *err) {
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

// ---- Behind a prompt -----------------------------------------------------------------------------------

// Sequences that share a session: the context of each is its prompt.
struct group {
    int64_t members[MAX_TOGETHER], context[MAX_TOGETHER];
    bool active[MAX_TOGETHER];
    int32_t newest[MAX_TOGETHER];
    int64_t n, longest;
    int32_t *prompts; // [Σ context]
    float *logits;    // [n, vocab_size]
    kv_session *session;
};

// Tokens whose cache is small enough for one session.
static int64_t most_tokens(const kv_model_spec *spec) {
    double bytes = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) bytes += 2 * sizeof(float) * (double)kv_spec_kv_dim(spec, i);
    const double most = CACHE_BYTES / bytes;
    return most > PACK_ROWS ? (int64_t)most : PACK_ROWS;
}

static void take_group(const struct scoring *g, int64_t *next, struct group *p) {
    const int64_t most = most_tokens(&g->system->base->spec);
    p->n = p->longest = 0;
    for (; *next < g->n_seq && p->n < MAX_TOGETHER; (*next)++) {
        const int64_t s = *next, length = g->lengths[s];
        const int64_t longest = length > p->longest ? length : p->longest;
        if (g->n_scored[s] == 0) continue;
        if (p->n > 0 && longest * (p->n + 1) > most) return;
        p->members[p->n] = s;
        p->context[p->n++] = length - g->n_scored[s];
        p->longest = longest;
    }
}

// The scored token at `step` of every sequence that has one, from the logits before it. Whether any is left.
// (The session lets no logits out that are not finite.)
static bool score_step(const struct scoring *g, struct group *p, int64_t step) {
    const int64_t vocab_size = g->system->base->spec.vocab_size;
    bool more = false;
    for (int64_t i = 0; i < p->n; i++) {
        const int64_t s = p->members[i];
        if (step < g->n_scored[s]) {
            p->newest[i] = g->ids[g->starts[s] + p->context[i] + step];
            struct row_sum sum = empty_row;
            fold(&sum, p->logits + i * vocab_size, 0, vocab_size, p->newest[i]);
            add_token(g, s, step, &sum, p->newest[i], NULL);
        }
        p->active[i] = step + 1 < g->n_scored[s];
        more = more || p->active[i];
    }
    return more;
}

static kv_status read_prompts(const struct scoring *g, struct group *p, kv_error *err) {
    int32_t *end = p->prompts;
    for (int64_t i = 0; i < p->n; end += p->context[i++])
        memcpy(end, g->ids + g->starts[p->members[i]], (size_t)p->context[i] * sizeof *end);
    return kv_session_prefill(p->session, p->prompts, p->context, p->logits, err);
}

// Which token that is, of those that a session has no numbers for.
static kv_status explain(const struct scoring *g, const struct group *p, int64_t step, kv_status status,
                         kv_error *err) {
    return status == KV_ERR_NOT_FINITE
               ? not_finite(g, p->members[kv_session_not_finite(p->session)], step, err)
               : status;
}

static kv_status decode_group(const struct scoring *g, struct group *p, kv_error *err) {
    kv_status status = read_prompts(g, p, err);
    int64_t step = 0;
    for (; status == KV_OK && score_step(g, p, step); step++) {
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        status = kv_session_decode(p->session, p->newest, p->active, p->logits, err);
    }
    return explain(g, p, step, status, err);
}

// All scored tokens of a group but the last of each sequence, which nothing is asked behind.
struct chunk {
    int64_t lengths[MAX_TOGETHER], n;
    int32_t *ids, *targets; // [n] tokens, and those that follow them
    float *hidden;          // [n, model_dim]
    struct row_sum *sums;   // [n]
};

static bool lay_out_chunk(const struct scoring *g, kv_arena *arena, const struct group *p, struct chunk *c) {
    c->n = 0;
    for (int64_t i = 0; i < p->n; i++) c->n += c->lengths[i] = g->n_scored[p->members[i]] - 1;
    c->ids = kv_arena_alloc(arena, (size_t)c->n * sizeof *c->ids + 1);
    c->targets = kv_arena_alloc(arena, (size_t)c->n * sizeof *c->targets + 1);
    c->sums = kv_arena_alloc(arena, (size_t)c->n * sizeof *c->sums + 1);
    c->hidden = kv_arena_floats(arena, c->n * g->system->base->spec.model_dim + 1);
    if (!c->ids || !c->targets || !c->sums || !c->hidden) return false;
    for (int64_t i = 0, at = 0; i < p->n; at += c->lengths[i++]) {
        const int32_t *ids = g->ids + g->starts[p->members[i]] + p->context[i];
        memcpy(c->ids + at, ids, (size_t)c->lengths[i] * sizeof *ids);
        memcpy(c->targets + at, ids + 1, (size_t)c->lengths[i] * sizeof *ids);
    }
    return true;
}

static kv_status score_chunk(const struct scoring *g, kv_arena *arena, struct group *p, kv_error *err) {
    struct chunk c;
    if (!lay_out_chunk(g, arena, p, &c))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld tokens", (long long)c.n);
    kv_status status = c.n ? kv_session_read(p->session, c.ids, c.lengths, c.hidden, err) : KV_OK;
    if (status != KV_OK) return status;
    if (!fold_logits(arena, kv_model_head(g->system->base), c.hidden, c.n, c.targets, c.sums))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld tokens", (long long)c.n);
    for (int64_t i = 0, at = 0; i < p->n; i++)
        for (int64_t t = 0; t < c.lengths[i] && status == KV_OK; t++, at++)
            status = add_token(g, p->members[i], t + 1, &c.sums[at], c.targets[at], err);
    return status;
}

// The prompt says how probable the first scored token is, the others are read at once.
static kv_status chunk_group(const struct scoring *g, struct group *p, kv_error *err) {
    kv_status status = explain(g, p, 0, read_prompts(g, p, err), err);
    if (status != KV_OK || !score_step(g, p, 0)) return status;
    kv_arena *arena = kv_arena_create();
    status = arena ? score_chunk(g, arena, p, err) : kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring");
    kv_arena_free(arena);
    return status;
}

// Lazy pruning looks at its cache anew with every token.
static bool in_chunks(const struct scoring *g) {
    return g->system->pruning.kind != KV_PRUNE_LAZY;
}

static kv_status score_group(const struct scoring *g, struct group *p, bool at_once, kv_error *err) {
    kv_status status = kv_session_create(g->system, p->n, p->longest, &p->session, err);
    if (status != KV_OK) return status;
    const size_t vocab_size = (size_t)g->system->base->spec.vocab_size;
    p->prompts = malloc((size_t)(p->n * p->longest) * sizeof *p->prompts);
    p->logits = malloc((size_t)p->n * vocab_size * sizeof *p->logits);
    if (p->prompts && p->logits)
        status = (at_once ? chunk_group : decode_group)(g, p, err);
    else
        status =
            kv_fail(err, KV_ERR_MEMORY, "out of memory for the logits of %lld sequences", (long long)p->n);
    free(p->prompts);
    free(p->logits);
    kv_session_free(p->session);
    return status;
}

static kv_status score_behind(const struct scoring *g, bool at_once, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t next = 0; status == KV_OK && next < g->n_seq;) {
        struct group group;
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        take_group(g, &next, &group);
        if (group.n > 0) status = score_group(g, &group, at_once, err);
    }
    return status;
}

static kv_status score_by_decoding(const struct scoring *g, kv_error *err) {
    return score_behind(g, false, err);
}

static kv_status score_behind_prompt(const struct scoring *g, kv_error *err) {
    return score_behind(g, in_chunks(g), err);
}

// ---- Entry points --------------------------------------------------------------------------------------

static kv_status check_length(const kv_system *system, int64_t s, int64_t length, int64_t n_scored,
                              kv_error *err) {
    if (length < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "sequence %lld: expected at least one token, not %lld",
                       (long long)s, (long long)length);
    if (n_scored < 0 || n_scored >= length)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "sequence %lld: %lld scored tokens of %lld, expected fewer: the first has nothing "
                       "before it",
                       (long long)s, (long long)n_scored, (long long)length);
    const kv_status status = kv_system_check(system, length, err);
    return status == KV_OK ? KV_OK : kv_fail_within(err, status, "sequence %lld", (long long)s);
}

// Checks everything before anything is computed, and fills g->starts.
static kv_status check_sequences(const struct scoring *g, kv_error *err) {
    const int64_t vocab_size = kv_system_vocab_size(g->system);
    int64_t start = 0, scored = 0;
    for (int64_t s = 0; s < g->n_seq; s++) {
        kv_status status = check_length(g->system, s, g->lengths[s], g->n_scored[s], err);
        if (status != KV_OK) return status;
        g->starts[s] = start, g->scored_starts[s] = scored;
        for (int64_t t = 0; t < g->lengths[s]; t++) {
            const int32_t id = g->ids[start + t];
            if (id < 0 || id >= vocab_size)
                return kv_fail(err, KV_ERR_RANGE,
                               "sequence %lld, token %lld: id %d is outside the vocabulary of %lld",
                               (long long)s, (long long)t, id, (long long)vocab_size);
        }
        start += g->lengths[s], scored += g->n_scored[s];
        g->log_likelihood[s] = 0;
        if (g->greedy) g->greedy[s] = true;
    }
    return KV_OK;
}

typedef kv_status score_fn(const struct scoring *g, kv_error *err);

static kv_status score(struct scoring g, score_fn *way, kv_error *err) {
    kv_status status = kv_system_check(g.system, 1, err);
    if (status != KV_OK || g.n_seq < 1) return status;
    g.starts = malloc(2 * (size_t)g.n_seq * sizeof *g.starts);
    if (!g.starts)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld sequences", (long long)g.n_seq);
    g.scored_starts = g.starts + g.n_seq;
    status = check_sequences(&g, err);
    if (status == KV_OK) status = way(&g, err);
    free(g.starts);
    return status;
}

static score_fn *whole_of(const kv_system *system) {
    return system->pruning.kind == KV_PRUNE_NONE ? score_whole : score_by_decoding;
}

kv_status kv_score(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                   const int64_t *n_scored, int64_t n_seq, double *log_likelihood, bool *greedy,
                   kv_error *err) {
    const struct scoring g = {.system = system,
                              .ids = ids,
                              .lengths = lengths,
                              .n_scored = n_scored,
                              .n_seq = n_seq,
                              .log_likelihood = log_likelihood,
                              .greedy = greedy};
    return score(g, whole_of(system), err);
}

kv_status kv_score_tokens(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                          const int64_t *n_scored, int64_t n_seq, double *log_p, double *log_likelihood,
                          kv_error *err) {
    const struct scoring g = {.system = system,
                              .ids = ids,
                              .lengths = lengths,
                              .n_scored = n_scored,
                              .n_seq = n_seq,
                              .log_likelihood = log_likelihood,
                              .log_p = log_p};
    return score(g, whole_of(system), err);
}

kv_status kv_score_by_decoding(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                               const int64_t *n_scored, int64_t n_seq, double *log_likelihood, bool *greedy,
                               kv_error *err) {
    const struct scoring g = {.system = system,
                              .ids = ids,
                              .lengths = lengths,
                              .n_scored = n_scored,
                              .n_seq = n_seq,
                              .log_likelihood = log_likelihood,
                              .greedy = greedy};
    return score(g, score_by_decoding, err);
}

kv_status kv_score_behind_prompt(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                                 const int64_t *n_scored, int64_t n_seq, double *log_likelihood, bool *greedy,
                                 kv_error *err) {
    const struct scoring g = {.system = system,
                              .ids = ids,
                              .lengths = lengths,
                              .n_scored = n_scored,
                              .n_seq = n_seq,
                              .log_likelihood = log_likelihood,
                              .greedy = greedy};
    return score(g, score_behind_prompt, err);
}
