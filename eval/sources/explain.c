// The sums are of the paper's predictor with many layers of the aux in the place of one; a group of the base's layers is a base
// of its own to them.
#include "eval/sources/explain.h"

#include "core/predictor/best.h"
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
    kv_best *best[KV_SOURCE_SETS]; // while layers are compared one by one
    // Where the sums of all layers of the aux are too large: the best of them for each layer of the base. NULL: all are read.
    kv_predictor_spec *chosen[KV_SOURCE_SETS];
};

static int64_t most_layers(const struct run *r) {
    return r->curves->counts[r->curves->n_counts - 1];
}

static kv_status out_of_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
}

// ---- What is regressed ---------------------------------------------------------------------------------

// Layers [first, first + n) of the base.
static void take_layers(const kv_model_spec *base, int64_t first, int64_t n, kv_model_spec *part) {
    *part = *base;
    memmove(part->layers, base->layers + first, (size_t)n * sizeof *part->layers);
    part->n_layers = n;
}

// All layers of the aux for every output.
static void read_all_layers(const kv_model_spec *base, const kv_model_spec *aux, int set,
                            kv_predictor_spec *spec) {
    static const int32_t first[KV_MAX_LAYERS] = {0};
    kv_predictor_spec_paper(base, aux, first, spec);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < base->n_layers && set == KV_SET_HIDDEN; i++) {
            spec->outputs[side][i].sources.n = 0;
            kv_sources_add(&spec->outputs[side][i].sources, KV_SOURCE_HIDDEN, 0);
        }
    kv_predictor_spec_all_layers(spec, aux->n_layers);
}

// Of layers [first, ..) of the base, which `part` is; without weights.
static kv_status plan(const struct run *r, const kv_model_spec *part, int64_t first, int set,
                      kv_predictor **predictor, kv_error *err) {
    kv_predictor_spec *spec = malloc(sizeof *spec);
    *predictor = NULL;
    if (!spec) return out_of_memory(err);
    read_all_layers(part, &r->args->aux->spec, set, spec);
    for (int side = 0; side < KV_SIDES && r->chosen[set]; side++)
        for (int64_t i = 0; i < part->n_layers; i++)
            spec->outputs[side][i].sources = r->chosen[set]->outputs[side][first + i].sources;
    kv_status status = kv_predictor_plan(part, &r->args->aux->spec, spec, predictor, err);
    free(spec);
    return status;
}

// Bytes that sums of these layers take, and a regression on all of them, of which two parts of the Gram matrix are made.
static kv_status measure_bytes(const struct run *r, const kv_model_spec *part, double *bytes, kv_error *err) {
    *bytes = 0;
    for (int set = 0; set < KV_SOURCE_SETS; set++) {
        if (!r->curves->read[set]) continue;
        kv_predictor *predictor;
        kv_status status = plan(r, part, r->first, set, &predictor, err);
        if (status != KV_OK) return status;
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
        kv_predictor *predictor;
        status = plan(r, &r->part, r->first, set, &predictor, err);
        if (status == KV_OK) status = kv_least_squares_create(predictor, &r->fit[set], err);
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
        if (r->best[set])
            status = kv_best_add(r->best[set], r->tape, &taps, base_k, base_v, NULL, err);
        else if (r->curves->read[set])
            status = kv_least_squares_add(held_out ? r->held_out[set] : r->fit[set], r->tape, &taps,
                                          base_k + r->first, base_v + r->first, NULL, err);
    return status;
}

static kv_status interrupted(kv_error *err) {
    return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
}

static kv_status read_windows(struct run *r, const char *title, int64_t n_windows, kv_error *err) {
    const int64_t n_fit = r->args->n_windows - r->args->n_held_out;
    kv_progress progress;
    kv_status status = KV_OK;
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

static kv_status read_text(struct run *r, kv_error *err) {
    char title[96];
    snprintf(title, sizeof title, "reading, layers %" PRId64 " to %" PRId64 " of the base", r->first,
             r->first + r->n - 1);
    return read_windows(r, title, r->args->n_windows, err);
}

// ---- The best layers, where all are too many -----------------------------------------------------------

static kv_status begin_comparing(struct run *r, kv_error *err) {
    double bytes = 0;
    kv_status status = KV_OK;
    for (int set = 0; set < KV_SOURCE_SETS && status == KV_OK; set++) {
        kv_predictor *all;
        if (!r->curves->read[set]) continue;
        status = plan(r, &r->args->base->spec, 0, set, &all, err);
        if (status != KV_OK) break;
        bytes += kv_best_bytes(all, r->at_once * r->args->window);
        if (bytes > r->args->memory)
            status = kv_fail(
                err, KV_ERR_MEMORY,
                "comparing layers one by one takes %.3g GB; found %.3g GB for it, half of what is left",
                bytes / 1e9, r->args->memory / 1e9);
        if (status == KV_OK) status = kv_best_create(all, &r->best[set], err);
        kv_predictor_free(all);
    }
    return status;
}

static kv_status choose_layers(struct run *r, kv_error *err) {
    r->first = 0, r->n = r->args->base->spec.n_layers;
    kv_status status = begin_comparing(r, err);
    if (status == KV_OK)
        status = read_windows(r, "reading, layers of the aux one by one",
                              r->args->n_windows - r->args->n_held_out, err);
    for (int set = 0; set < KV_SOURCE_SETS && status == KV_OK; set++) {
        if (!r->best[set]) continue;
        r->chosen[set] = malloc(sizeof *r->chosen[set]);
        if (!r->chosen[set]) status = out_of_memory(err);
        if (status != KV_OK) break;
        read_all_layers(&r->args->base->spec, &r->args->aux->spec, set, r->chosen[set]);
        status = kv_best_choose(r->best[set], r->curves->ridge, most_layers(r), r->chosen[set], err);
    }
    for (int set = 0; set < KV_SOURCE_SETS; set++) {
        kv_best_free(r->best[set]);
        r->best[set] = NULL;
    }
    return status;
}

// ---- Solving -------------------------------------------------------------------------------------------

// The places of a layer's sources in the order in which they are taken, and the layers of the aux that they are of.
static kv_status rank_layer(struct run *r, int set, int side, int64_t layer, int32_t *places, int32_t *order,
                            kv_error *err) {
    const kv_sources *sources = kv_least_squares_sources(r->fit[set], (kv_side)side, layer);
    const int64_t most = most_layers(r);
    kv_status status = KV_OK;
    if (r->chosen[set]) // they are in that order
        for (int32_t i = 0; i < most; i++) places[i] = i;
    else
        status = kv_rank_sources(r->fit[set], (kv_side)side, layer, r->args->greedy ? KV_GREEDY : KV_RANKED,
                                 r->curves->ridge, most, places, err);
    for (int64_t i = 0; i < most && status == KV_OK; i++) order[i] = sources->at[places[i]].layer;
    return status;
}

// One layer's keys or values.
static kv_status solve_layer(struct run *r, int set, int side, int64_t layer, kv_error *err) {
    kv_source_curves *c = r->curves;
    kv_source_curve *curve = &c->side[set][side];
    const int64_t whole = r->first + layer;
    int32_t places[KV_MAX_LAYERS];
    kv_status status = rank_layer(r, set, side, layer, places, curve->order + whole * c->n_sources, err);
    for (int64_t i = 0; i < c->n_counts && status == KV_OK; i++) {
        kv_explained explained;
        if (kv_console_interrupted()) return interrupted(err);
        status = kv_least_squares_explain(r->fit[set], (kv_side)side, layer, places, c->counts[i], c->ridge,
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

static kv_status explain_groups(struct run *r, kv_error *err) {
    kv_status status = choose_group(r, err);
    if (status == KV_ERR_MEMORY && !r->args->greedy && most_layers(r) < r->args->aux->spec.n_layers)
        status = choose_layers(r, err);
    for (r->first = 0; status == KV_OK && r->first < r->args->base->spec.n_layers; r->first += r->n) {
        status = choose_group(r, err);
        if (status == KV_OK) status = make_sums(r, err);
        if (status == KV_OK) status = read_text(r, err);
        if (status == KV_OK) status = solve(r, err);
        free_sums(r);
    }
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
    if (status == KV_OK) status = explain_groups(r, err);
    for (int set = 0; r && set < KV_SOURCE_SETS; set++) free(r->chosen[set]);
    if (r) {
        free_sums(r);
        kv_tape_free(r->tape);
    }
    free(r);
    return status;
}
