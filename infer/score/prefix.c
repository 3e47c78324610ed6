// Packs of whole windows: read on, predicted from, and the upper layers run twice behind the predictions.
#include "infer/score/scoring.h"

#include "data/system/console.h"

#include <stdlib.h>
#include <string.h>

// ---- States --------------------------------------------------------------------------------------------

double kv_prefix_states_bytes(const kv_model_spec *base, int64_t n, int64_t window) {
    return (double)n * (sizeof(int64_t) + sizeof(float) * (double)(window - 1) * (double)base->model_dim);
}

kv_status kv_prefix_states_create(kv_model *base, int64_t n, int64_t window, kv_prefix_states **states,
                                  kv_error *err) {
    kv_prefix_states *s = calloc(1, sizeof *s);
    *states = s;
    if (s) {
        *s = (kv_prefix_states){.base = base, .n = n, .rows = window - 1};
        s->n_layers = calloc((size_t)n, sizeof *s->n_layers);
        s->x = malloc((size_t)(n * s->rows * base->spec.model_dim) * sizeof *s->x);
    }
    if (s && s->n_layers && s->x) return KV_OK;
    kv_prefix_states_free(s);
    *states = NULL;
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the states of %lld windows", (long long)n);
}

void kv_prefix_states_free(kv_prefix_states *states) {
    if (!states) return;
    free(states->n_layers);
    free(states->x);
    free(states);
}

void kv_prefix_states_restart(kv_prefix_states *states) {
    memset(states->n_layers, 0, (size_t)states->n * sizeof *states->n_layers);
}

static bool reads_only(const kv_sources *sources, int64_t prefix) {
    for (int32_t k = 0; k < sources->n; k++) {
        const kv_source s = sources->at[k];
        const bool entering = s.kind == KV_SOURCE_HIDDEN && (s.layer == prefix || s.layer == 0);
        if (!entering && !kv_source_of_token(s)) return false;
    }
    return true;
}

bool kv_prefix_scorable(const kv_system *system) {
    const kv_predictor *p = system->predictor;
    const int64_t prefix = p ? p->spec.prefix_layers : 0;
    if (prefix < 1 || system->pruning.kind != KV_PRUNE_NONE) return false;
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < p->spec.n_base_layers; i++) {
            const int64_t input = p->outputs[side][i].input;
            if (i < prefix ? !kv_output_exact(&p->spec.outputs[side][i])
                           : input >= 0 && !reads_only(p->inputs[input].sources, prefix))
                return false;
        }
    return true;
}

// ---- A pack --------------------------------------------------------------------------------------------

// Some windows, all but the last token of each.
struct pack {
    const kv_system *system;
    kv_prefix_states *states;
    int64_t first, n, n_rows;  // windows of the states; rows of all
    int64_t prompt;            // entries that are predicted where the tail is scored
    int32_t *ids;              // [n_rows]
    kv_sequence *whole, *tail; // [n]
    kv_tensor *x;              // what enters the layer behind the prefix
    kv_tensor *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS];
};

static bool lay_out(kv_arena *arena, const int32_t *ids, struct pack *p) {
    const int64_t rows = p->states->rows, behind = rows - p->prompt;
    p->n_rows = p->n * rows;
    p->ids = kv_arena_alloc(arena, (size_t)p->n_rows * sizeof *p->ids);
    p->whole = kv_arena_alloc(arena, (size_t)p->n * sizeof *p->whole);
    p->tail = kv_arena_alloc(arena, (size_t)p->n * sizeof *p->tail);
    if (!p->ids || !p->whole || !p->tail) return false;
    for (int64_t s = 0; s < p->n; s++) {
        memcpy(p->ids + s * rows, ids + s * (rows + 1), (size_t)rows * sizeof *ids);
        p->whole[s] = (kv_sequence){s * rows, rows, s * rows, rows};
        p->tail[s] = (kv_sequence){s * behind, behind, s * rows, rows};
    }
    return true;
}

// What a walk over some of the layers carries along: they begin with layer `from`.
struct walk {
    struct pack *pack;
    int64_t from;
    kv_pass pass;
};

static kv_tensor *own_layer(kv_tape *tape, int64_t layer, kv_tensor *x, void *what) {
    const struct walk *w = what;
    kv_model *base = w->pack->system->base;
    kv_tensor *h = kv_layer_norm_in(tape, base, w->from + layer, x);
    const kv_layer_kv kv = kv_layer_keys_values(tape, base, w->from + layer, h);
    return kv_layer_attend(tape, base, w->from + layer, x, h, kv.k, kv.v, &w->pass);
}

// At every position nothing but predicted entries.                          [core/README.md §4, eq. 15]
static kv_tensor *whole_layer(kv_tape *tape, int64_t layer, kv_tensor *x, void *what) {
    const struct walk *w = what;
    const int64_t at = w->from + layer;
    kv_model *base = w->pack->system->base;
    kv_tensor *h = kv_layer_norm_in(tape, base, at, x);
    return kv_layer_attend(tape, base, at, x, h, w->pack->k[at], w->pack->v[at], &w->pass);
}

// The tail's own entries take the place of those that were predicted for it.
static void replace(const struct pack *p, kv_tensor *predicted, const kv_tensor *own) {
    const int64_t rows = p->states->rows, behind = rows - p->prompt, cols = own->cols;
    for (int64_t s = 0; s < p->n; s++)
        memcpy(predicted->data + (s * rows + p->prompt) * cols, own->data + s * behind * cols,
               (size_t)(behind * cols) * sizeof(float));
}

static kv_tensor *tail_layer(kv_tape *tape, int64_t layer, kv_tensor *x, void *what) {
    const struct walk *w = what;
    const int64_t at = w->from + layer;
    kv_model *base = w->pack->system->base;
    kv_tensor *h = kv_layer_norm_in(tape, base, at, x);
    const kv_layer_kv own = kv_layer_keys_values(tape, base, at, h);
    if (!own.k || !own.v) return NULL;
    replace(w->pack, w->pack->k[at], own.k);
    replace(w->pack, w->pack->v[at], own.v);
    return kv_layer_attend(tape, base, at, x, h, w->pack->k[at], w->pack->v[at], &w->pass);
}

// From where all windows of the pack can go on.
static int64_t common_depth(const struct pack *p, int64_t prefix) {
    const int64_t *depths = p->states->n_layers + p->first, depth = depths[0];
    for (int64_t s = 1; s < p->n; s++)
        if (depths[s] != depth) return 0;
    return depth <= prefix ? depth : 0;
}

// The states, read on to the prefix.
static void read_on(kv_tape *tape, struct pack *p) {
    kv_model *base = p->system->base;
    const int64_t prefix = p->system->predictor->spec.prefix_layers, dim = base->spec.model_dim,
                  from = common_depth(p, prefix);
    const size_t size = (size_t)(p->n_rows * dim) * sizeof(float);
    float *kept = p->states->x + p->first * p->states->rows * dim;
    if (from == 0) {
        p->x = kv_embedding(tape, &base->embed, p->ids, p->n_rows);
    } else {
        p->x = kv_tape_tensor(tape, p->n_rows, dim);
        if (p->x) memcpy(p->x->data, kept, size);
    }
    struct walk w = {p, from, {.sequences = p->whole, .n_sequences = p->n}};
    if (!p->x || !kv_walk_layers(tape, prefix - from, p->x, own_layer, &w)) return;
    memcpy(kept, p->x->data, size);
    for (int64_t s = 0; s < p->n; s++) p->states->n_layers[p->first + s] = prefix;
}

static void predict(kv_tape *tape, struct pack *p) {
    kv_model *base = p->system->base;
    kv_predictor *predictor = p->system->predictor;
    const int64_t prefix = predictor->spec.prefix_layers;
    uint8_t reads[KV_MAX_LAYERS];
    kv_key_norms norms;
    kv_taps taps = {0};
    kv_predictor_spec_reads(&predictor->spec, reads);
    kv_predictor_read_base(tape, predictor, base, p->ids, p->n_rows, &taps);
    taps.h[prefix] = kv_layer_norm_in(tape, base, prefix, p->x);
    if (reads[0] & KV_READ_H)
        taps.h[0] = kv_layer_norm_in(tape, base, 0, kv_embedding(tape, &base->embed, p->ids, p->n_rows));
    kv_model_key_norms(base, &norms);
    if (kv_tape_status(tape, NULL) == KV_OK)
        kv_predict_from(tape, predictor, &norms, &taps, prefix, p->k, p->v);
}

// ---- Scores --------------------------------------------------------------------------------------------

// The last n_scored tokens of each window of the pack, of which x [n · n_scored] are the rows before.
static kv_status add_scores(const kv_scoring *g, const struct pack *p, kv_tape *tape, kv_tensor *x,
                            int64_t first, kv_error *err) {
    kv_arena *arena = kv_tape_arena(tape);
    kv_model *base = g->system->base;
    const int64_t each = g->n_scored[first], n = p->n * each;
    int32_t *targets = kv_arena_alloc(arena, (size_t)n * sizeof *targets);
    kv_row_sum *sums = kv_arena_alloc(arena, (size_t)n * sizeof *sums);
    const kv_tensor *hidden = kv_model_final_norm(tape, base, x);
    kv_status status = kv_tape_status(tape, err);
    if (status != KV_OK) return status;
    for (int64_t s = 0; targets && s < p->n; s++)
        memcpy(targets + s * each, g->ids + g->starts[first + s] + g->lengths[first + s] - each,
               (size_t)each * sizeof *targets);
    if (!targets || !sums || !kv_score_logits(arena, kv_model_head(base), hidden->data, n, targets, sums))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld tokens", (long long)n);
    for (int64_t i = 0; i < n && status == KV_OK; i++)
        status = kv_score_add(g, first + i / each, i % each, &sums[i], targets[i], err);
    return status;
}

// Rows of every window of x from its row `skip` on, which are `each`.
static kv_tensor *copy_rows(kv_tape *tape, const struct pack *p, int64_t skip, int64_t each) {
    kv_tensor *y = kv_tape_tensor(tape, p->n * each, p->x->cols);
    for (int64_t s = 0; y && s < p->n; s++)
        memcpy(y->data + s * each * y->cols, p->x->data + (s * p->states->rows + skip) * y->cols,
               (size_t)(each * y->cols) * sizeof(float));
    return y;
}

// The layers behind the prefix on these rows, and their scores. first: of the pack's windows in g.
static kv_status score_rows(const kv_scoring *g, struct pack *p, kv_tape *tape, int64_t skip,
                            kv_layer_fn *layer, int64_t first, kv_error *err) {
    const kv_predictor *predictor = p->system->predictor;
    const int64_t prefix = predictor->spec.prefix_layers;
    const kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
    kv_tensor *y = copy_rows(tape, p, skip, p->states->rows - skip);
    struct walk w = {p, prefix, {.sequences = skip ? p->tail : p->whole, .n_sequences = p->n}};
    w.pass.adapters = predictor->adapters;
    if (y) kv_walk_layers(tape, p->system->base->spec.n_layers - prefix, y, layer, &w);
    kv_status status = kv_tape_status(tape, err);
    if (status == KV_OK) status = add_scores(g, p, tape, y, first, err);
    kv_arena_release(kv_tape_arena(tape), mark);
    return status;
}

// The whole comes first: the tail changes what was predicted.
static kv_status score_pack(const kv_scoring *whole, const kv_scoring *tail, kv_tape *tape, struct pack *p,
                            int64_t first, kv_error *err) {
    if (!lay_out(kv_tape_arena(tape), whole->ids + whole->starts[first], p))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld windows", (long long)p->n);
    read_on(tape, p);
    kv_status status = kv_tape_status(tape, err);
    if (status != KV_OK) return status;
    predict(tape, p);
    status = kv_tape_status(tape, err);
    if (status == KV_OK) status = score_rows(whole, p, tape, 0, whole_layer, first, err);
    return status == KV_OK ? score_rows(tail, p, tape, p->prompt, tail_layer, first, err) : status;
}

static kv_status score_all(const kv_scoring *whole, const kv_scoring *tail, kv_prefix_states *states,
                           int64_t first, kv_error *err) {
    kv_tape *tape = kv_tape_create();
    struct pack *p = malloc(sizeof *p);
    kv_status status = tape && p ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring");
    if (tape) kv_tape_set_recording(tape, false);
    const int64_t fit = KV_SCORE_ROWS / states->rows, together = fit > 1 ? fit : 1;
    for (int64_t at = 0; at < whole->n_seq && status == KV_OK; at += p->n) {
        const int64_t left = whole->n_seq - at;
        *p = (struct pack){.system = whole->system,
                           .states = states,
                           .first = first + at,
                           .n = left < together ? left : together,
                           .prompt = states->rows - tail->n_scored[0]};
        kv_tape_reset(tape);
        status = kv_console_interrupted() ? kv_fail(err, KV_ERR_INTERRUPTED, "interrupted")
                                          : score_pack(whole, tail, tape, p, at, err);
    }
    free(p);
    kv_tape_free(tape);
    return status;
}

kv_status kv_score_prefix(const kv_system *system, kv_prefix_states *states, int64_t first,
                          const int32_t *ids, int64_t n, int64_t n_scored, double *whole, double *tail,
                          kv_error *err) {
    if (!kv_prefix_scorable(system) || system->base != states->base || n_scored < 1 ||
        n_scored >= states->rows || first < 0 || first + n > states->n)
        return kv_fail(err, KV_ERR_ARGUMENT, "these windows cannot be scored behind this prefix");
    int64_t *lengths = malloc(5 * (size_t)(n + 1) * sizeof *lengths);
    if (!lengths) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld windows", (long long)n);
    kv_scoring w = {system, ids, lengths, lengths + n, n, .log_likelihood = whole};
    w.starts = lengths + 2 * n, w.scored_starts = lengths + 3 * n;
    kv_scoring t = w;
    t.n_scored = lengths + 4 * n, t.log_likelihood = tail;
    for (int64_t s = 0; s < n; s++)
        lengths[s] = states->rows + 1, lengths[n + s] = states->rows, lengths[4 * n + s] = n_scored;
    kv_status status = n > 0 ? kv_score_check(&t, err) : KV_OK;
    if (status == KV_OK && n > 0) status = kv_score_check(&w, err);
    if (status == KV_OK) status = score_all(&w, &t, states, first, err);
    free(lengths);
    return status;
}
