// Prefills against the clock, cell by cell of a grid, and what they take of memory, which is worked out
// before the first of them runs.
#include "infer/ttft.h"

#include "core/gemm.h"
#include "core/quantile.h"
#include "core/rng.h"
#include "data/system/memory.h"
#include "infer/session/engine.h"
#include "infer/session/sample.h"
#include "infer/session/session.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Summary -------------------------------------------------------------------------------------------

kv_ttft kv_ttft_summary(double *samples, int64_t n) {
    kv_sort_doubles(samples, n);
    return (kv_ttft){.seconds = kv_quantile(samples, n, 0.5),
                     .spread = (kv_quantile(samples, n, 0.75) - kv_quantile(samples, n, 0.25)) / 2};
}

// ---- One cell ------------------------------------------------------------------------------------------

struct bench {
    const kv_system *systems;
    int64_t n, repeats;
    uint64_t seed;
    const kv_ttft_cell *cell;
    bool together;         // every system keeps its session through all turns
    kv_session **sessions; // [n]
    int32_t *ids;          // [batch_size, prompt_tokens]
    int64_t *lengths;      // [batch_size]
    int32_t *first;        // [batch_size]
    float *logits;         // [batch_size, largest vocabulary]
    double *samples;       // [n, repeats]
    kv_progress *progress;
    int64_t done; // timed prefills of all cells so far
};

static void free_bench(struct bench *b) {
    for (int64_t i = 0; b->sessions && i < b->n; i++) kv_session_free(b->sessions[i]);
    free(b->sessions);
    free(b->ids);
    free(b->lengths);
    free(b->first);
    free(b->logits);
    free(b->samples);
}

static kv_status prepare_bench(struct bench *b, kv_error *err) {
    const int64_t n_seq = b->cell->batch_size, n_tokens = b->cell->prompt_tokens, n_ids = n_seq * n_tokens;
    int64_t vocab_size = 0, smallest = INT64_MAX;
    for (int64_t i = 0; i < b->n; i++) {
        const int64_t size = b->systems[i].base->spec.vocab_size;
        const int64_t readable = kv_system_vocab_size(&b->systems[i]);
        vocab_size = size > vocab_size ? size : vocab_size;
        smallest = readable < smallest ? readable : smallest;
    }
    b->sessions = calloc((size_t)b->n, sizeof *b->sessions);
    b->ids = calloc((size_t)n_ids, sizeof *b->ids);
    b->lengths = calloc((size_t)n_seq, sizeof *b->lengths);
    b->first = calloc((size_t)n_seq, sizeof *b->first);
    b->logits = calloc((size_t)n_seq, (size_t)vocab_size * sizeof *b->logits);
    b->samples = calloc((size_t)b->n, (size_t)b->repeats * sizeof *b->samples);
    if (!b->sessions || !b->ids || !b->lengths || !b->first || !b->logits || !b->samples)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of %" PRIi64 " x %" PRIi64 " tokens",
                       n_seq, n_tokens);
    const kv_rng rng = kv_rng_stream(b->seed, "ttft.prompts");
    for (int64_t i = 0; i < n_ids; i++)
        b->ids[i] = (int32_t)kv_rng_below(rng, (uint64_t)i, (uint64_t)smallest);
    for (int64_t s = 0; s < n_seq; s++) b->lengths[s] = n_tokens;
    return KV_OK;
}

static kv_status time_prefill(const struct bench *b, int64_t system, double *seconds, kv_error *err) {
    kv_session *session = b->sessions[system];
    kv_session_reset(session);
    const double start = kv_now();
    kv_status status = kv_session_prefill(session, b->ids, b->lengths, b->logits, err);
    *seconds = NAN;
    if (status == KV_ERR_NOT_FINITE) return KV_OK; // there is no first token to wait for
    if (status != KV_OK) return status;
    kv_argmax(b->logits, b->cell->batch_size, kv_session_vocab_size(session), b->first);
    *seconds = kv_now() - start;
    return KV_OK;
}

static void show(struct bench *b, uint64_t flops, double seconds) {
    b->done++;
    if (!b->progress) return;
    char note[96];
    snprintf(note, sizeof note, "%" PRIi64 " tokens x %" PRIi64 "  %.1f GFLOP/s", b->cell->prompt_tokens,
             b->cell->batch_size, seconds > 0 ? 1e-9 * (double)flops / seconds : 0);
    kv_progress_show(b->progress, b->done, note);
}

// A prefill that warms caches and memory up (repeat -1), or one that counts.
static kv_status run_prefill(struct bench *b, int64_t system, int64_t repeat, kv_error *err) {
    if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    double seconds;
    const uint64_t flops = kv_gemm_flops();
    kv_status status = time_prefill(b, system, &seconds, err);
    if (status != KV_OK || repeat < 0) return status;
    b->samples[system * b->repeats + repeat] = seconds;
    show(b, kv_gemm_flops() - flops, seconds);
    return KV_OK;
}

// Sessions that come and go have new memory, which the system hands out page by page at its first use: every
// turn then warms up for itself.
static kv_status take_turn(struct bench *b, int64_t system, int64_t repeat, kv_error *err) {
    kv_session **session = &b->sessions[system];
    const bool fresh = !*session;
    kv_status status = KV_OK;
    if (fresh)
        status =
            kv_session_create(&b->systems[system], b->cell->batch_size, b->cell->prompt_tokens, session, err);
    if (status == KV_OK && fresh) status = run_prefill(b, system, -1, err);
    if (status == KV_OK && repeat >= 0) status = run_prefill(b, system, repeat, err);
    if (b->together) return status;
    kv_session_free(*session);
    *session = NULL;
    return status;
}

static kv_status run_bench(struct bench *b, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t r = b->together ? -1 : 0; r < b->repeats; r++)
        for (int64_t i = 0; i < b->n && status == KV_OK; i++) status = take_turn(b, i, r, err);
    return status;
}

// ---- Memory --------------------------------------------------------------------------------------------
//
// What a session takes for a cell, in bytes: what it keeps for every token, and what its tape holds at the
// worst moment of a prefill. Each function counts what the one that it names allocates.

static double larger(double a, double b) {
    return a > b ? a : b;
}

// A sum of floats a token over the layers, up to n_layers.
static double all_kv(const kv_model_spec *spec, int64_t n_layers) {
    double sum = 0;
    for (int64_t i = 0; i < n_layers; i++) sum += (double)kv_spec_kv_dim(spec, i);
    return sum;
}

// Sequences that are read together, of one length each. See infer/session/pack.c.
struct together {
    double seqs, rows, keys; // of all sequences
    int64_t longest;         // keys of one
};

static struct together pack_of(int64_t batch_size, int64_t n_new, int64_t n_cached) {
    const int64_t fit = n_new > 0 ? KV_PACK_ROWS / n_new : batch_size, most = fit > 1 ? fit : 1;
    const double seqs = (double)(most < batch_size ? most : batch_size);
    return (struct together){seqs, seqs * (double)n_new, seqs * (double)(n_new + n_cached), n_new + n_cached};
}

// What is done with a pack beside reading it.
struct manner {
    int64_t n_layers;     // the first ones
    bool lazy;            // layers gather their rows and keys, and rank the keys
    bool ranked;          // attention is asked for
    bool newest, nothing; // of the last layer's output: only the newest rows, or none at all
};

// Of weights stored in 16 bits.
static double panel_bytes(double rows, const kv_param *w) {
    return sizeof(float) * (double)kv_gemm_panel((int64_t)rows, w);
}

// A layer at its worst moment: ranking, attention (with turned keys), or its end, when everything it made is
// there: norms, keys and values, queries, what attention makes of them, two projections, two sums, gate, up
// and their product. See core/transformer.c.
static double layer_bytes(const kv_model *model, int64_t layer, const struct together *t,
                          const struct manner *m) {
    const kv_model_spec *spec = &model->spec;
    const kv_layer_spec *l = &spec->layers[layer];
    const bool last = layer + 1 == m->n_layers;
    const double f = sizeof(float), norm = spec->qk_norm, dim = (double)spec->model_dim,
                 q = (double)(l->n_heads * spec->head_dim), kv = (double)kv_spec_kv_dim(spec, layer),
                 ffn = (double)l->ffn_dim;
    const double gathered = m->lazy ? t->rows * dim + 2 * t->keys * kv : 0;
    const double start = f * (gathered + t->rows * (dim + (2 + norm) * kv));
    if (last && m->nothing && !m->ranked) return start;
    const double rows = last && m->newest ? t->seqs : t->rows;
    const double queries = f * rows * ((1 + norm) * q + (rows < t->rows ? 2 * dim : 0));
    const double turned = f * t->keys * kv, pooled = f * t->keys * (double)l->n_kv_heads;
    const double rank =
        turned + pooled +
        (double)kv_attention_importance_scratch(l->n_heads, l->n_kv_heads, spec->head_dim, t->longest);
    if (last && m->nothing) return start + queries + rank;
    const double attend = turned + (double)kv_attention_scratch(l->n_heads, l->n_kv_heads, spec->head_dim);
    const kv_layer *weights = &model->layers[layer];
    const double end = f * rows * (5 * dim + 3 * ffn) +
                       larger(panel_bytes(rows, &weights->out), panel_bytes(rows, &weights->down));
    // The importance of every key, and the list in which kv_keep_best sorts it.
    const double chosen = m->lazy ? t->keys * (sizeof(double) + 2 * sizeof(double) + f) : 0;
    return start + queries +
           larger(m->ranked || m->lazy ? rank : 0, f * rows * q + larger(attend, end + chosen));
}

// Lists of sequences and of what the threads do with them, and the tensors themselves, which are small.
static const double per_sequence = 256, small_things = 1 << 16;

static double list_bytes(const struct together *t, bool lazy) {
    return small_things + t->seqs * per_sequence + t->rows * 16 + (lazy ? t->keys * 20 : 0);
}

// The layers one after the other. See infer/session/read.c.
static double walk_bytes(const kv_model *model, const struct together *t, const struct manner *m) {
    double most = 0;
    for (int64_t i = 0; i < m->n_layers; i++) most = larger(most, layer_bytes(model, i, t, m));
    return sizeof(float) * t->rows * (double)model->spec.model_dim + most;
}

// n_new tokens of every sequence behind n_cached ones, and the logits.
static double read_bytes(const kv_model *model, int64_t batch_size, int64_t n_new, int64_t n_cached,
                         bool lazy, bool ranked) {
    const kv_model_spec *spec = &model->spec;
    const struct together t = pack_of(batch_size, n_new, n_cached);
    const double dim = (double)spec->model_dim, vocab = (double)spec->vocab_size;
    const struct manner m = {.n_layers = spec->n_layers, .lazy = lazy, .ranked = ranked, .newest = true};
    const kv_param *table = spec->tied_head ? &model->embed : &model->head;
    const double answer =
        sizeof(float) * (t.rows * dim + t.seqs * (dim + vocab)) + panel_bytes(t.seqs, table);
    return list_bytes(&t, lazy) + larger(walk_bytes(model, &t, &m), answer);
}

// Keys and values of the aux, and the base's that are made of them. See infer/session/predict.c.
static double predict_bytes(const kv_system *system, const kv_ttft_cell *cell) {
    const kv_predictor *p = system->predictor;
    const kv_model_spec *base = &system->base->spec, *aux = &system->aux->spec;
    const struct together t = pack_of(cell->batch_size, cell->prompt_tokens - 1, 0);
    const struct manner m = {.n_layers = kv_predictor_depth(p), .nothing = true};
    double made = (2 + (double)base->qk_norm) * all_kv(base, base->n_layers) +
                  2 * (double)(p->kind.rank * p->n_base_layers);
    bool joined[KV_MAX_LAYERS] = {false};
    for (int64_t i = 0; i < p->n_base_layers && p->kind.aux_layers > 1; i++) {
        if (!joined[p->mapping[i]]) made += 2 * (double)kv_predictor_input_dim(p, aux, i);
        joined[p->mapping[i]] = true;
    }
    const double read = walk_bytes(system->aux, &t, &m);
    const double f = sizeof(float), x = f * t.rows * (double)aux->model_dim;
    return list_bytes(&t, false) + f * t.rows * 2 * all_kv(aux, m.n_layers) +
           larger(read, x + f * t.rows * made);
}

// What an arena holds at most: what is not enough for an allocation at the end of a chunk stays free, and is
// written to at another time, when the sizes are others. A part of 1/32 was seen.
static double arena_bytes(double in_use) {
    return in_use + in_use / 32;
}

// The tokens of a batch of prompts and places, scores and ids of those chosen. See
// infer/session/prune_prompt.c.
static double choice_bytes(double tokens) {
    return 16 * tokens;
}

static double read_whole_bytes(const kv_model *model, const kv_ttft_cell *cell, bool lazy) {
    return read_bytes(model, cell->batch_size, cell->prompt_tokens, 0, lazy, false);
}

// The aux's own session: its cache, and a prompt read by it, then a token of each sequence at a time; what
// the tokens get of its attention. See infer/session/prune_speculative.c.
static double draft_bytes(const kv_system *system, const kv_ttft_cell *cell) {
    const kv_model_spec *aux = &system->aux->spec;
    const int64_t ahead = kv_pruning_lookahead(&system->pruning), room = cell->prompt_tokens + ahead;
    const double rows = (double)cell->batch_size * (double)room;
    const double cache = sizeof(float) * rows * (2 * all_kv(aux, aux->n_layers) + 1);
    if (kv_pruning_kept(&system->pruning, cell->prompt_tokens) == cell->prompt_tokens) return cache;
    const double step = read_bytes(system->aux, cell->batch_size, 1, room - 1, false, true);
    return cache + sizeof(float) * (double)cell->batch_size * (double)aux->vocab_size +
           arena_bytes(larger(read_whole_bytes(system->aux, cell, false), step));
}

// The first layers on whole prompts, and what the tokens get of their attention. See
// infer/session/prune_static.c.
static double static_bytes(const kv_model *base, const kv_ttft_cell *cell) {
    const struct together t = pack_of(cell->batch_size, cell->prompt_tokens, 0);
    const struct manner m = {
        .n_layers = kv_static_layers(base->spec.n_layers), .ranked = true, .nothing = true};
    return list_bytes(&t, false) + walk_bytes(base, &t, &m);
}

static double tape_bytes(const kv_system *system, const kv_ttft_cell *cell) {
    const kv_model *base = system->base;
    const int64_t n = cell->prompt_tokens, kept = kv_pruning_kept(&system->pruning, n);
    if (system->predictor)
        return larger(predict_bytes(system, cell),
                      read_bytes(base, cell->batch_size, 1, n - 1, false, false));
    const double read =
        read_bytes(base, cell->batch_size, kept, 0, system->pruning.kind == KV_PRUNE_LAZY, false);
    return system->pruning.kind == KV_PRUNE_STATIC && kept < n ? larger(static_bytes(base, cell), read)
                                                               : read;
}

// What stays while the session does: keys and values, what pruning remembers of a token, ids and logits.
static double session_bytes(const kv_system *system, const kv_ttft_cell *cell) {
    const kv_model_spec *base = &system->base->spec;
    const double batch = (double)cell->batch_size, tokens = (double)cell->prompt_tokens * batch;
    double sum =
        sizeof(float) * (2 * tokens * all_kv(base, base->n_layers) + batch * (double)base->vocab_size);
    sum += sizeof(int32_t) * tokens + 64 * batch + arena_bytes(tape_bytes(system, cell));
    if (system->predictor) return sum + sizeof(int32_t) * tokens;
    switch (system->pruning.kind) {
    case KV_PRUNE_NONE: return sum;
    case KV_PRUNE_RANDOM: return sum + choice_bytes(tokens);
    case KV_PRUNE_STATIC: return sum + choice_bytes(tokens) + sizeof(int32_t) * tokens;
    case KV_PRUNE_LAZY: return sum + tokens * (sizeof(float) * (double)base->model_dim + sizeof(int32_t));
    case KV_PRUNE_SPECULATIVE:
        return sum + choice_bytes(tokens) + sizeof(int32_t) * tokens + draft_bytes(system, cell);
    }
    return sum;
}

int64_t kv_ttft_bytes(const kv_system *systems, int64_t n, const kv_ttft_cell *cell) {
    double bytes = 0;
    for (int64_t i = 0; i < n; i++) bytes += session_bytes(&systems[i], cell);
    return bytes < 0x1p62 ? (int64_t)bytes : INT64_MAX;
}

// ---- The grid ------------------------------------------------------------------------------------------

static kv_status check_context(const kv_system *systems, int64_t n, int64_t prompt_tokens, kv_error *err) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t context = kv_system_context(&systems[i]);
        if (prompt_tokens > context)
            return kv_fail(err, KV_ERR_RANGE,
                           "timing a prompt of %" PRIi64 " tokens: system %" PRIi64
                           " has a context of %" PRIi64 "%s",
                           prompt_tokens, i + 1, context,
                           kv_pruning_lookahead(&systems[i].pruning) ? ", less the look-ahead" : "");
    }
    return KV_OK;
}

static kv_status check_cell(const kv_system *systems, int64_t n, const kv_ttft_cell *cell, int64_t available,
                            const char *by, kv_error *err) {
    if (cell->prompt_tokens < 1 || cell->batch_size < 1)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "timing needs at least one token and one sequence, not %" PRIi64 " tokens x %" PRIi64,
                       cell->prompt_tokens, cell->batch_size);
    kv_status status = check_context(systems, n, cell->prompt_tokens, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; i < n; i++) {
        const int64_t needed = kv_ttft_bytes(&systems[i], 1, cell);
        if (needed > available)
            return kv_fail(
                err, KV_ERR_MEMORY,
                "timing %" PRIi64 " tokens x %" PRIi64 ": system %" PRIi64
                " needs about %.1f GB beside the weights, expected at most the %.1f GB available%s%s",
                cell->prompt_tokens, cell->batch_size, i + 1, 1e-9 * (double)needed, 1e-9 * (double)available,
                by ? ": so much is left by " : "", by ? by : "");
    }
    return KV_OK;
}

static kv_status check_grid(const kv_system *systems, int64_t n, const kv_ttft_grid_args *args,
                            int64_t available, const char *by, kv_error *err) {
    if (args->repeats < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "timing needs at least one repeat, not %" PRIi64, args->repeats);
    kv_status status = KV_OK;
    for (int64_t c = 0; status == KV_OK && c < args->n_cells; c++)
        status = check_cell(systems, n, &args->cells[c], available, by, err);
    return status;
}

// What all say together is never as much as INT64_MAX, which stands for "too much to count". *by: NULL when the caller
// said how much there is.
static int64_t available_memory(const kv_ttft_grid_args *args, const char **by) {
    const kv_memory_limit limit =
        args->memory > 0 ? (kv_memory_limit){args->memory, NULL} : kv_memory_left("");
    *by = limit.by;
    return limit.left < INT64_MAX ? limit.left : INT64_MAX - 1;
}

bool kv_ttft_fits(const kv_system *systems, int64_t n, const kv_ttft_cell *cell) {
    const char *by;
    const int64_t available = available_memory(&(kv_ttft_grid_args){0}, &by);
    return check_cell(systems, n, cell, available - available / 16, by, NULL) == KV_OK;
}

kv_status kv_ttft_grid(const kv_system *systems, int64_t n, const kv_ttft_grid_args *args,
                       kv_progress *progress, kv_ttft *ttft, double *samples, kv_error *err) {
    if (n < 1) return KV_OK;
    const char *by;
    const int64_t repeats = args->repeats, available = available_memory(args, &by);
    int64_t done = 0;
    kv_status status = check_grid(systems, n, args, available, by, err);
    for (int64_t c = 0; status == KV_OK && c < args->n_cells; c++) {
        struct bench b = {.systems = systems,
                          .n = n,
                          .repeats = repeats,
                          .seed = args->seed,
                          .cell = &args->cells[c],
                          .together = kv_ttft_bytes(systems, n, &args->cells[c]) <= available,
                          .progress = progress,
                          .done = done};
        status = prepare_bench(&b, err);
        if (status == KV_OK) status = run_bench(&b, err);
        done = b.done;
        for (int64_t i = 0; status == KV_OK && i < n; i++) {
            double *own = b.samples + i * repeats;
            if (samples) memcpy(samples + (c * n + i) * repeats, own, (size_t)repeats * sizeof *own);
            ttft[c * n + i] = kv_ttft_summary(own, repeats);
        }
        free_bench(&b);
    }
    return status;
}
