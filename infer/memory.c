// What a session takes, in bytes: what it keeps for every token, and what its tape holds at the worst moment.
// Each function counts what the one that it names allocates.
#include "infer/memory.h"

#include "core/gemm.h"
#include "infer/score/score.h"
#include "infer/session/engine.h"
#include "infer/session/session.h"

#include <omp.h>

static double larger(double a, double b) {
    return a > b ? a : b;
}

// A sum of floats a token over the layers, up to n_layers.
static double all_kv(const kv_model_spec *spec, int64_t n_layers) {
    double sum = 0;
    for (int64_t i = 0; i < n_layers; i++) sum += (double)kv_spec_kv_dim(spec, i);
    return sum;
}

// Sequences of a session: prompts of one length, and room for that and an answer.
struct batch {
    int64_t batch_size, prompt_tokens, capacity;
    bool ragged; // the prompts are of different lengths
    bool turns;  // a session for turns: prompts go on behind others
};

// What an arena holds at most: what is not enough for an allocation at the end of a chunk stays free, and is
// written to at another time, when the sizes are others. A part of 1/32 was seen.
static double arena_bytes(double in_use) {
    return in_use + in_use / 32;
}

// Where each pack is of another size than the one before, and the first was not the largest, what no longer fits into
// the chunks that are there goes to a new one as large as all of them. Three times as much was seen.
static double packs_bytes(double in_use, const kv_system *system, const struct batch *b) {
    const int64_t rows = kv_pack_limit(system, b->batch_size).rows;
    return b->ragged && b->batch_size * b->prompt_tokens > rows ? 3 * in_use : arena_bytes(in_use);
}

// Sequences that are read together, of one length each. See infer/session/pack.c.
struct together {
    double seqs, rows, keys; // of all sequences
    int64_t longest;         // keys of one
    double tapes;            // packs that are read side by side, each by one thread; 0: by all threads
};

static struct together pack_of(const kv_system *system, int64_t batch_size, int64_t n_new, int64_t n_cached) {
    const kv_pack_size limit = kv_pack_limit(system, batch_size);
    int64_t most = n_new > 0 ? limit.rows / n_new : batch_size, tapes = omp_get_max_threads();
    if (most > limit.seqs) most = limit.seqs;
    if (most > batch_size) most = batch_size;
    if (most < 1) most = 1;
    const int64_t packs = (batch_size + most - 1) / most;
    if (tapes > packs) tapes = packs;
    const double seqs = (double)most;
    const bool one = packs == 1 && kv_reads_alone(system, most * n_new);
    return (struct together){seqs, seqs * (double)n_new, seqs * (double)(n_new + n_cached), n_new + n_cached,
                             one                                   ? 1
                             : packs > 1 && kv_reads_apart(system) ? (double)tapes
                                                                   : 0};
}

// What the session's own tape holds at most, and each of the others where packs are read side by side.
struct tapes {
    double own, other, n_others;
};

static struct tapes tapes_of(const struct together *t, double bytes) {
    return t->tapes > 1 ? (struct tapes){bytes, bytes, t->tapes - 1} : (struct tapes){.own = bytes};
}

// Of one reading after another.
static struct tapes both(struct tapes a, struct tapes b) {
    return (struct tapes){larger(a.own, b.own), larger(a.other, b.other), larger(a.n_others, b.n_others)};
}

static double tapes_bytes(struct tapes t) {
    return t.own + t.n_others * t.other;
}

// What is done with a pack beside reading it.
struct manner {
    int64_t n_layers;              // the first ones
    bool lazy;                     // layers gather their rows and keys, and rank the keys
    bool ranked;                   // attention is asked for
    bool newest, nothing;          // of the last layer's output: only the newest rows, or none at all
    const kv_predictor *predictor; // whose adapted queries are used; NULL: none
};

// Of a row, beside the base's own queries: what the factors of a low-rank addition put out, and the sum.
static double adapted_floats(const kv_predictor *predictor, int64_t layer, double q) {
    const kv_query_adapter *a = predictor && predictor->adapters ? &predictor->adapters[layer] : NULL;
    return a && a->down ? (double)a->down->rows + 2 * q : 0;
}

// A layer at its worst moment: ranking, attention, or its end, when everything it made is
// there: norms, keys and values, queries, what attention makes of them, two sums, gate, up
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
    const double queries =
        f * rows *
        ((1 + norm) * q + adapted_floats(m->predictor, layer, q) + (last && m->newest ? 2 * dim : 0));
    const double pooled = f * t->keys * (double)l->n_kv_heads;
    const double part = t->tapes > 0 ? 1.0 / omp_get_max_threads() : 1; // of the tiles of all threads
    const double rank = pooled + part * (double)kv_attention_importance_scratch(l->n_heads, l->n_kv_heads,
                                                                                spec->head_dim, t->longest);
    if (last && m->nothing) return start + queries + rank;
    const double attend = part * (double)kv_attention_scratch(l->n_heads, l->n_kv_heads, spec->head_dim);
    const double end = f * rows * (3 * dim + 3 * ffn);
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
static struct tapes read_tapes_as(const kv_system *system, int64_t batch_size, int64_t n_new,
                                  int64_t n_cached, struct manner m) {
    const kv_model_spec *spec = &system->base->spec;
    const struct together t = pack_of(system, batch_size, n_new, n_cached);
    const double dim = (double)spec->model_dim, vocab = (double)spec->vocab_size;
    m.n_layers = spec->n_layers, m.newest = true;
    const double answer = sizeof(float) * (t.rows * dim + t.seqs * (dim + vocab));
    return tapes_of(&t, list_bytes(&t, m.lazy) + larger(walk_bytes(system->base, &t, &m), answer));
}

static struct tapes read_tapes(const kv_system *system, int64_t batch_size, int64_t n_new, int64_t n_cached,
                               bool lazy, bool ranked) {
    return read_tapes_as(system, batch_size, n_new, n_cached,
                         (struct manner){.lazy = lazy, .ranked = ranked});
}

// What of the aux's layers is handed out.
static double tap_floats(const kv_model_spec *aux, const uint8_t *reads, int64_t n_layers) {
    double sum = 0;
    for (int64_t i = 0; i < n_layers; i++) {
        const double kv = (double)kv_spec_kv_dim(aux, i);
        sum += reads[i] & KV_READ_K ? kv : 0;
        sum += reads[i] & KV_READ_V ? kv : 0;
        sum += reads[i] & KV_READ_H ? (double)aux->model_dim : 0;
    }
    return sum;
}

// The base's keys and values as the maps put them out, and the keys normed. What is exact is handed on.
static double made_floats(const kv_predictor *p, const kv_model_spec *base) {
    double sum = 0;
    for (int64_t i = 0; i < base->n_layers; i++) {
        const double kv = (double)kv_spec_kv_dim(base, i);
        for (int side = 0; side < KV_SIDES; side++)
            sum += kv_output_exact(&p->spec.outputs[side][i]) ? 0 : kv;
        sum += base->qk_norm ? kv : 0;
    }
    return sum;
}

// What the aux has of a layer as maps read it: its input normed, keys and values.
static double at_hand_floats(const kv_model_spec *aux, int64_t layer) {
    return (double)aux->model_dim + (2 + aux->qk_norm) * (double)kv_spec_kv_dim(aux, layer);
}

// The aux as far as it is read, what is kept of it, and one of the base's keys or values at a time. See
// infer/session/predict.c.
static struct tapes predict_tapes(const kv_system *system, const struct batch *b) {
    const kv_predictor *p = system->predictor;
    const kv_model_spec *base = &system->base->spec, *aux = &system->aux->spec;
    const struct together t = pack_of(system, b->batch_size, b->prompt_tokens - 1, 0);
    uint8_t reads[KV_MAX_LAYERS];
    const struct manner m = {.n_layers = kv_predictor_spec_reads(&p->spec, reads), .nothing = true};
    double made = kv_predictor_along_floats(p, base, -1);
    for (int64_t i = 0; i < m.n_layers; i++) {
        // Behind others the new rows are taken out of those that the aux reads.
        const double chosen = b->turns ? (double)aux->model_dim + 2 * (double)kv_spec_kv_dim(aux, i) : 0;
        made = larger(made, (double)aux->model_dim + at_hand_floats(aux, i) + chosen +
                                kv_predictor_along_floats(p, base, i));
    }
    const double read = m.n_layers > 0 ? walk_bytes(system->aux, &t, &m) : 0, f = sizeof(float) * t.rows;
    return tapes_of(&t,
                    list_bytes(&t, false) + f * kv_predictor_kept_floats(p, base) + larger(read, f * made));
}

// All of it at once: what of the aux is read, and the base's keys and values. See infer/score/whole.c.
static double predict_bytes(const kv_system *system, const struct together *t) {
    const kv_predictor *p = system->predictor;
    const kv_model_spec *base = &system->base->spec, *aux = &system->aux->spec;
    uint8_t reads[KV_MAX_LAYERS];
    double gradients;
    const struct manner m = {.n_layers = kv_predictor_spec_reads(&p->spec, reads), .nothing = true};
    const double made = made_floats(p, base) + kv_predictor_floats(p, base, false, &gradients);
    const double read = m.n_layers > 0 ? walk_bytes(system->aux, t, &m) : 0;
    const double f = sizeof(float), x = f * t->rows * (double)aux->model_dim;
    return list_bytes(t, false) + f * t->rows * tap_floats(aux, reads, m.n_layers) +
           larger(read, x + f * t->rows * made);
}

// The tokens of a batch of prompts and places, scores and ids of those chosen. See
// infer/session/prune_prompt.c.
static double choice_bytes(double tokens) {
    return 16 * tokens;
}

// The aux's own session: its cache, and a prompt read by it, then a token of each sequence at a time; what
// the tokens get of its attention. See infer/session/prune_speculative.c.
static double draft_bytes(const kv_system *system, const struct batch *b) {
    const kv_model_spec *aux = &system->aux->spec;
    const int64_t ahead = kv_pruning_lookahead(&system->pruning), room = b->capacity + ahead;
    const double rows = (double)b->batch_size * (double)room;
    const double cache = sizeof(float) * rows * (2 * all_kv(aux, aux->n_layers) + 1);
    if (kv_pruning_kept(&system->pruning, b->prompt_tokens) == b->prompt_tokens) return cache;
    const kv_system own = {.base = system->aux};
    const struct tapes read = read_tapes(&own, b->batch_size, b->prompt_tokens, 0, false, false),
                       step = read_tapes(&own, b->batch_size, 1, room - 1, false, true);
    return cache + sizeof(float) * (double)b->batch_size * (double)aux->vocab_size +
           packs_bytes(tapes_bytes(both(read, step)), &own, b);
}

// The first layers on whole prompts, and what the tokens get of their attention. See
// infer/session/prune_static.c.
static struct tapes static_tapes(const kv_system *system, const struct batch *b) {
    const struct together t = pack_of(system, b->batch_size, b->prompt_tokens, 0);
    const struct manner m = {
        .n_layers = kv_static_layers(system->base->spec.n_layers), .ranked = true, .nothing = true};
    return tapes_of(&t, list_bytes(&t, false) + walk_bytes(system->base, &t, &m));
}

static struct tapes prompt_tapes(const kv_system *system, const struct batch *b) {
    const int64_t n = b->prompt_tokens, kept = kv_pruning_kept(&system->pruning, n);
    if (system->predictor) {
        const struct manner m = {.predictor = n > 1 ? system->predictor : NULL};
        const struct tapes last = read_tapes_as(system, b->batch_size, 1, n - 1, m);
        return n > 1 ? both(predict_tapes(system, b), last) : last;
    }
    const struct tapes read =
        read_tapes(system, b->batch_size, kept, 0, system->pruning.kind == KV_PRUNE_LAZY, false);
    return system->pruning.kind == KV_PRUNE_STATIC && kept < n ? both(static_tapes(system, b), read) : read;
}

// The prompts, then a token of every sequence at a time, the last one behind all others.
static double tape_bytes(const kv_system *system, const struct batch *b) {
    const struct tapes prompt = prompt_tapes(system, b);
    if (b->capacity <= b->prompt_tokens) return tapes_bytes(prompt);
    const struct manner m = {.lazy = system->pruning.kind == KV_PRUNE_LAZY, .predictor = system->predictor};
    return tapes_bytes(both(prompt, read_tapes_as(system, b->batch_size, 1, b->capacity - 1, m)));
}

// What stays while the session does: keys and values, what pruning remembers of a token, ids and logits.
static double session_bytes(const kv_system *system, const struct batch *b) {
    const kv_model_spec *base = &system->base->spec;
    const double batch = (double)b->batch_size, tokens = (double)b->capacity * batch;
    double sum =
        sizeof(float) * (2 * tokens * all_kv(base, base->n_layers) + batch * (double)base->vocab_size);
    sum += sizeof(int32_t) * tokens + 128 * batch + packs_bytes(tape_bytes(system, b), system, b);
    if (b->turns) sum += (kv_turns_token_bytes(system) + sizeof(int32_t)) * tokens;
    if (system->predictor) return sum + sizeof(int32_t) * tokens;
    switch (system->pruning.kind) {
    case KV_PRUNE_NONE: return sum;
    case KV_PRUNE_RANDOM: return sum + choice_bytes(tokens);
    case KV_PRUNE_STATIC: return sum + choice_bytes(tokens) + sizeof(int32_t) * tokens;
    case KV_PRUNE_LAZY: return sum + tokens * (sizeof(float) * (double)base->model_dim + sizeof(int32_t));
    case KV_PRUNE_SPECULATIVE:
        return sum + choice_bytes(tokens) + sizeof(int32_t) * tokens + draft_bytes(system, b);
    }
    return sum;
}

static double bytes_of(const kv_system *system, struct batch b) {
    const kv_system resolved = {system->base, system->aux, system->predictor,
                                kv_pruning_resolved(&system->pruning)};
    return session_bytes(&resolved, &b);
}

double kv_answer_bytes(const kv_system *system, int64_t n_seq, int64_t prompt_tokens, int64_t answer_tokens) {
    return bytes_of(system, (struct batch){n_seq, prompt_tokens, prompt_tokens + answer_tokens, true, false});
}

double kv_prefill_bytes(const kv_system *system, int64_t n_seq, int64_t n_tokens) {
    return bytes_of(system, (struct batch){n_seq, n_tokens, n_tokens, false, false});
}

double kv_turns_bytes(const kv_system *system, int64_t n_seq, int64_t prompt_tokens, int64_t capacity) {
    return bytes_of(system, (struct batch){n_seq, prompt_tokens, capacity, true, true});
}

// ---- Scoring -------------------------------------------------------------------------------------------

// Keys and values of the aux, and the base's that are made of them, stay while the base reads. See infer/score/whole.c.
static double whole_bytes(const kv_system *system, int64_t rows, int64_t longest) {
    const kv_model_spec *base = &system->base->spec;
    const double f = sizeof(float), n = (double)rows;
    const struct together t = {.seqs = n, .rows = n, .keys = n, .longest = longest};
    const struct manner all = {.n_layers = base->n_layers, .predictor = system->predictor};
    const double logits = f * (2 * n * (double)base->model_dim + KV_SCORE_TILE);
    const double read = list_bytes(&t, false) +
                        larger(walk_bytes(system->base, &t, &all), f * n * (double)base->model_dim + logits);
    if (!system->predictor) return read;
    return read + predict_bytes(system, &t);
}

double kv_score_bytes(const kv_system *system, int64_t tokens, int64_t longest, bool ragged) {
    if (system->pruning.kind != KV_PRUNE_NONE) {
        const int64_t together = kv_score_together(system, longest), all = tokens / longest + 1;
        return bytes_of(system,
                        (struct batch){together < all ? together : all, longest - 1, longest, ragged, false});
    }
    const int64_t most = longest > KV_SCORE_ROWS ? longest : KV_SCORE_ROWS;
    const double whole = whole_bytes(system, tokens < most ? tokens : most, longest);
    return ragged && tokens > most ? 2 * whole : arena_bytes(whole); // as packs_bytes
}

// All tokens behind the prompts at once, every row to the end; what the final norm gives for them is laid aside.
static double chunk_bytes(const kv_system *system, int64_t n_seq, int64_t n_prompt, int64_t n_behind) {
    const kv_model *base = system->base;
    const double dim = (double)base->spec.model_dim;
    const struct together t = pack_of(system, n_seq, n_behind, n_prompt);
    const struct manner all = {.n_layers = base->spec.n_layers, .predictor = system->predictor};
    const double read = tapes_bytes(
        tapes_of(&t, list_bytes(&t, false) + sizeof(float) * t.rows * dim + walk_bytes(base, &t, &all)));
    const double kept = (double)(n_seq * n_behind) * (sizeof(float) * dim + 48);
    return kept + larger(read, sizeof(float) * KV_SCORE_TILE);
}

double kv_behind_bytes(const kv_system *system, int64_t n_seq, int64_t n, int64_t n_scored) {
    const int64_t together = kv_score_together(system, n), seqs = together < n_seq ? together : n_seq;
    const double session = bytes_of(system, (struct batch){seqs, n - n_scored, n, true, false});
    return n_scored < 2 ? session
                        : session + arena_bytes(chunk_bytes(system, seqs, n - n_scored, n_scored - 1));
}

// What enters the layer behind the prefix, once more for those who change it, normed for the maps; what these make of it;
// the layers. Whole and tail are of different sizes, so that what the one leaves free at the ends of an arena's chunks
// the other writes to: two fifths more were seen. See infer/score/prefix.c.
double kv_prefix_bytes(const kv_system *system, int64_t window) {
    const kv_model_spec *base = &system->base->spec;
    const kv_predictor *p = system->predictor;
    const int64_t rows = window - 1, fit = KV_SCORE_ROWS / rows, n = (fit > 1 ? fit : 1) * rows;
    const double f = sizeof(float), dim = (double)base->model_dim;
    const struct together t = {
        .seqs = (double)(n / rows), .rows = (double)n, .keys = (double)n, .longest = rows};
    const struct manner all = {.n_layers = base->n_layers, .predictor = p};
    double gradients, made = kv_predictor_floats(p, base, false, &gradients) + 4 * dim;
    for (int64_t i = p->spec.prefix_layers; i < base->n_layers; i++)
        made += (2 + base->qk_norm) * (double)kv_spec_kv_dim(base, i);
    const double logits = f * (t.rows * dim + KV_SCORE_TILE) + t.rows * 64;
    return 1.5 *
           (list_bytes(&t, false) + f * t.rows * made + larger(walk_bytes(system->base, &t, &all), logits));
}
