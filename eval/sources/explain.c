// The sums are of the paper's predictor with all layers of the aux in the place of one; a group of the base's layers is a base
// of its own to them.
#include "eval/sources/explain.h"

#include "core/predictor/ranking.h"
#include "data/system/console.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_TOKENS = 2048 };

struct run {
    const kv_explain_args *args;
    kv_source_curves *curves;
    kv_tape *tape;
    int64_t at_once;    // windows
    int64_t first, n;   // layers of the base that the sums are of
    kv_model_spec part; // a base of these alone
    kv_least_squares *fit[KV_SOURCE_SETS], *held_out[KV_SOURCE_SETS];
};

// ---- What is regressed ---------------------------------------------------------------------------------

// Layers [first, first + n) of the base.
static void take_layers(const kv_model_spec *base, int64_t first, int64_t n, kv_model_spec *part) {
    *part = *base;
    memmove(part->layers, base->layers + first, (size_t)n * sizeof *part->layers);
    part->n_layers = n;
}

// Without weights. NULL when out of memory.
static kv_predictor *plan(const kv_model_spec *part, const kv_model_spec *aux, kv_source_set set,
                          kv_error *err) {
    static const int32_t first[KV_MAX_LAYERS] = {0};
    kv_predictor *predictor = NULL;
    kv_predictor_spec *spec = malloc(sizeof *spec);
    if (!spec) {
        kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
        return NULL;
    }
    kv_predictor_spec_paper(part, aux, first, spec);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < part->n_layers; i++) {
            kv_sources *sources = &spec->outputs[side][i].sources;
            sources->n = 0;
            for (int64_t j = 0; j < aux->n_layers; j++)
                kv_sources_add(sources,
                               set == KV_SET_HIDDEN ? KV_SOURCE_HIDDEN
                               : side == KV_KEYS    ? KV_SOURCE_KEYS
                                                    : KV_SOURCE_VALUES,
                               j);
        }
    kv_predictor_plan(part, aux, spec, &predictor, err);
    free(spec);
    return predictor;
}

// Bytes that sums of these layers take, and a regression on all of them, of which two parts of the Gram matrix are made.
static kv_status measure_bytes(const struct run *r, const kv_model_spec *part, double *bytes, kv_error *err) {
    *bytes = 0;
    for (int set = 0; set < KV_SOURCE_SETS; set++) {
        if (!r->curves->read[set]) continue;
        kv_predictor *predictor = plan(part, &r->args->aux->spec, (kv_source_set)set, err);
        if (!predictor) return KV_ERR_MEMORY;
        double widest = 0;
        for (int64_t i = 0; i < predictor->n_inputs; i++)
            if ((double)predictor->inputs[i].dim > widest) widest = (double)predictor->inputs[i].dim;
        *bytes += 2 * kv_least_squares_sum_bytes(predictor, r->at_once * r->args->window);
        *bytes += 2 * sizeof(double) * widest * widest;
        kv_predictor_free(predictor);
    }
    return KV_OK;
}

// As many layers from r->first on as fit.
static kv_status choose_group(struct run *r, kv_error *err) {
    const kv_model_spec *base = &r->args->base->spec;
    double bytes = 0;
    for (r->n = base->n_layers - r->first; r->n > 0; r->n--) {
        take_layers(base, r->first, r->n, &r->part);
        kv_status status = measure_bytes(r, &r->part, &bytes, err);
        if (status != KV_OK) return status;
        if (bytes <= r->args->memory) return KV_OK;
    }
    return kv_fail(
        err, KV_ERR_MEMORY,
        "the sums of all layers of the aux take %.3g GB even for one layer of the base; found %.3g GB for "
        "them, half of what is left, expected fewer sources (--read kv or h) or more memory",
        bytes / 1e9, r->args->memory / 1e9);
}

static void free_sums(struct run *r) {
    for (int set = 0; set < KV_SOURCE_SETS; set++) {
        kv_least_squares_free(r->fit[set]);
        kv_least_squares_free(r->held_out[set]);
        r->fit[set] = r->held_out[set] = NULL;
    }
}

static kv_status make_sums(struct run *r, kv_error *err) {
    kv_status status = KV_OK;
    for (int set = 0; set < KV_SOURCE_SETS && status == KV_OK; set++) {
        if (!r->curves->read[set]) continue;
        kv_predictor *predictor = plan(&r->part, &r->args->aux->spec, (kv_source_set)set, err);
        status = predictor ? kv_least_squares_create(predictor, &r->fit[set], err) : KV_ERR_MEMORY;
        if (status == KV_OK) status = kv_least_squares_create(predictor, &r->held_out[set], err);
        kv_predictor_free(predictor);
    }
    return status;
}

// ---- Reading -------------------------------------------------------------------------------------------

static kv_sequence *lay_out(struct run *r, int64_t n) {
    const int64_t window = r->args->window;
    kv_sequence *sequences = kv_arena_alloc(kv_tape_arena(r->tape), (size_t)n * sizeof *sequences);
    for (int64_t s = 0; sequences && s < n; s++)
        sequences[s] = (kv_sequence){s * window, window, s * window, window};
    return sequences;
}

// Windows [first, first + n), all of which are held out or are not.
static kv_status add_batch(struct run *r, int64_t first, int64_t n, bool held_out, kv_error *err) {
    kv_tensor *base_k[KV_MAX_LAYERS] = {0}, *base_v[KV_MAX_LAYERS] = {0};
    const int64_t window = r->args->window;
    const int32_t *ids = r->args->ids + first * window;
    kv_tape_reset(r->tape);
    kv_pass pass = {.sequences = lay_out(r, n), .n_sequences = n, .only_kv = true};
    if (!pass.sequences) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRId64 " windows", n);
    kv_taps taps = {.ids = ids, .n = n * window};
    pass.raw_k = taps.k, pass.v = taps.v, pass.h = taps.h;
    kv_model_forward(r->tape, r->args->aux, ids, n * window, &pass);
    pass.raw_k = base_k, pass.v = base_v, pass.h = NULL, pass.n_layers = r->first + r->n;
    kv_model_forward(r->tape, r->args->base, ids, n * window, &pass);
    kv_status status = kv_tape_status(r->tape, err);
    for (int set = 0; set < KV_SOURCE_SETS && status == KV_OK; set++)
        if (r->curves->read[set])
            status = kv_least_squares_add(held_out ? r->held_out[set] : r->fit[set], r->tape, &taps,
                                          base_k + r->first, base_v + r->first, NULL, err);
    return status;
}

static kv_status interrupted(kv_error *err) {
    return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
}

static kv_status read_text(struct run *r, kv_error *err) {
    const int64_t n_windows = r->args->n_windows, n_fit = n_windows - r->args->n_held_out;
    char title[96];
    kv_progress progress;
    kv_status status = KV_OK;
    snprintf(title, sizeof title, "reading, layers %" PRId64 " to %" PRId64 " of the base", r->first,
             r->first + r->n - 1);
    kv_progress_begin(&progress, stderr, title, n_windows * r->args->window);
    for (int64_t at = 0; at < n_windows && status == KV_OK;) {
        const int64_t end = at < n_fit ? n_fit : n_windows;
        const int64_t n = end - at < r->at_once ? end - at : r->at_once;
        status = kv_console_interrupted() ? interrupted(err) : add_batch(r, at, n, at >= n_fit, err);
        if (status != KV_OK) break;
        at += n;
        kv_progress_show(&progress, at * r->args->window, "tokens");
    }
    kv_progress_end(&progress, status == KV_OK ? "tokens" : "stopped");
    return status;
}

// ---- Solving -------------------------------------------------------------------------------------------

// One layer's keys or values.
static kv_status solve_layer(struct run *r, int set, int side, int64_t layer, kv_error *err) {
    kv_source_curves *c = r->curves;
    kv_source_curve *curve = &c->side[set][side];
    const int64_t whole = r->first + layer, most = c->counts[c->n_counts - 1];
    int32_t *order = curve->order + whole * c->n_sources;
    kv_status status = kv_rank_sources(r->fit[set], (kv_side)side, layer,
                                       r->args->greedy ? KV_GREEDY : KV_RANKED, c->ridge, most, order, err);
    for (int64_t i = 0; i < c->n_counts && status == KV_OK; i++) {
        kv_explained explained;
        if (kv_console_interrupted()) return interrupted(err);
        status = kv_least_squares_explain(r->fit[set], (kv_side)side, layer, order, c->counts[i], c->ridge,
                                          r->held_out[set], &explained, err);
        curve->fit[whole * c->n_counts + i] = explained.fit;
        curve->held_out[whole * c->n_counts + i] = explained.other;
    }
    return status;
}

static kv_status solve(struct run *r, kv_error *err) {
    int64_t n_sets = 0, done = 0;
    kv_progress progress;
    kv_status status = KV_OK;
    for (int set = 0; set < KV_SOURCE_SETS; set++) n_sets += r->curves->read[set];
    kv_progress_begin(&progress, stderr, "solving", n_sets * KV_SIDES * r->n);
    for (int set = 0; set < KV_SOURCE_SETS; set++)
        for (int side = 0; side < KV_SIDES && r->curves->read[set]; side++)
            for (int64_t i = 0; i < r->n && status == KV_OK; i++) {
                status = kv_console_interrupted() ? interrupted(err) : solve_layer(r, set, side, i, err);
                if (status == KV_OK) kv_progress_show(&progress, ++done, "keys and values of layers");
            }
    kv_progress_end(&progress, status == KV_OK ? "keys and values of layers" : "stopped");
    return status;
}

kv_status kv_explain(const kv_explain_args *args, kv_source_curves *curves, kv_error *err) {
    struct run *r = calloc(1, sizeof *r);
    kv_status status = KV_OK;
    if (r) *r = (struct run){.args = args, .curves = curves, .tape = kv_tape_create()};
    if (!r || !r->tape) status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    if (status == KV_OK) {
        kv_tape_set_recording(r->tape, false);
        r->at_once = BATCH_TOKENS / args->window > 0 ? BATCH_TOKENS / args->window : 1;
    }
    while (status == KV_OK && r->first < args->base->spec.n_layers) {
        status = choose_group(r, err);
        if (status == KV_OK) status = make_sums(r, err);
        if (status == KV_OK) status = read_text(r, err);
        if (status == KV_OK) status = solve(r, err);
        free_sums(r);
        r->first += r->n;
    }
    if (r) {
        free_sums(r);
        kv_tape_free(r->tape);
    }
    free(r);
    return status;
}
