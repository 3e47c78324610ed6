// The sums are what it costs: of every depth a Gram matrix, and a product with the keys and values of all layers above it.
#include "eval/curve/fit.h"

#include "core/flops.h"
#include "core/gemm.h"
#include "core/predictor/least_squares.h"
#include "data/checkpoint/checkpoint.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/system/console.h"
#include "data/system/memory.h"
#include "data/system/warning.h"
#include "eval/curve/sums.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 1024 }; // that are read at once, in whole windows

kv_status kv_curve_place(const char *output, int64_t n_layers, const char *name, char path[PATH_MAX],
                         kv_error *err) {
    char last[64];
    snprintf(last, sizeof last, "prefix_%02lld%s%s", (long long)n_layers, name ? "/" : "", name ? name : "");
    return kv_path_join(output, last, path, err);
}

kv_status kv_curve_predictor(const kv_model_spec *base, int64_t n_layers, bool first, bool weights,
                             kv_predictor **predictor, kv_error *err) {
    kv_predictor_spec *spec = malloc(sizeof *spec);
    *predictor = NULL;
    if (!spec) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a predictor");
    kv_predictor_spec_prefix(base, n_layers, spec);
    for (int side = 0; first && side < KV_SIDES; side++)
        for (int64_t i = n_layers; i < base->n_layers; i++)
            kv_sources_add(&spec->outputs[side][i].sources, KV_SOURCE_HIDDEN, 0);
    const kv_status status = weights ? kv_predictor_create(base, base, spec, predictor, err)
                                     : kv_predictor_plan(base, base, spec, predictor, err);
    free(spec);
    return status;
}

bool kv_curve_fitted(const char *output, int64_t n_layers, const kv_model_spec *base) {
    char path[PATH_MAX];
    int64_t prefix;
    return kv_curve_place(output, n_layers, "fit.json", path, NULL) == KV_OK && kv_path_exists(path) &&
           kv_curve_place(output, n_layers, "predictor", path, NULL) == KV_OK &&
           kv_predictor_prefix(path, &prefix, NULL) == KV_OK && prefix == n_layers &&
           kv_predictor_check(path, base, NULL, NULL, NULL) == KV_OK;
}

static double mean(const json_t *list) {
    double sum = 0;
    for (size_t i = 0; i < json_array_size(list); i++) sum += json_number_value(json_array_get(list, i));
    return json_array_size(list) > 0 ? sum / (double)json_array_size(list) : NAN;
}

void kv_curve_explained(const char *output, int64_t n_layers, double explained[KV_SIDES]) {
    char path[PATH_MAX];
    json_t *root = NULL;
    explained[KV_KEYS] = explained[KV_VALUES] = NAN;
    if (kv_curve_place(output, n_layers, "fit.json", path, NULL) || kv_json_read(path, 1 << 20, &root, NULL))
        return;
    explained[KV_KEYS] = mean(json_object_get(root, "keys_explained"));
    explained[KV_VALUES] = mean(json_object_get(root, "values_explained"));
    json_decref(root);
}

// ---- What it takes -------------------------------------------------------------------------------------

static int64_t rows_at_once(const kv_curve_options *o) {
    return o->window >= ROWS ? o->window : ROWS / o->window * o->window;
}

// What is kept of every layer, and what the largest of them works on.
static double reading_bytes(const kv_curve_options *o, const kv_model_spec *base) {
    double kept = (double)base->model_dim, work = 0;
    for (int64_t i = 0; i < base->n_layers; i++) {
        const double layer = 4 * (double)base->model_dim + 4 * (double)base->layers[i].ffn_dim +
                             4 * (double)(base->layers[i].n_heads * base->head_dim);
        kept += (double)base->model_dim + 3 * (double)kv_spec_kv_dim(base, i);
        if (layer > work) work = layer;
    }
    return sizeof(float) * (double)rows_at_once(o) * (kept + work);
}

static double sums_bytes(const kv_curve_options *o, const kv_predictor *shape) {
    return kv_least_squares_sum_bytes(shape, rows_at_once(o)) +
           sizeof(float) * 2 * (double)kv_predictor_size(shape); // while it is written
}

kv_status kv_curve_fit_cost_of(const kv_curve_options *o, const kv_model_spec *base, const int64_t *depths,
                               int64_t n, int64_t n_tokens, kv_curve_fit_cost *cost, kv_error *err) {
    const double windows = (double)n_tokens / (double)o->window;
    *cost = (kv_curve_fit_cost){.bytes = reading_bytes(o, base), .least = reading_bytes(o, base)};
    cost->flops = windows * (double)kv_flops_read(base, o->window, 0);
    for (int64_t i = 0; i < n; i++) {
        kv_predictor *shape;
        kv_status status = kv_curve_predictor(base, depths[i], o->first, false, &shape, err);
        if (status != KV_OK) return status;
        const double own = sums_bytes(o, shape);
        cost->flops += (double)kv_flops_least_squares_sums(shape, n_tokens);
        cost->bytes += own;
        if (reading_bytes(o, base) + own > cost->least) cost->least = reading_bytes(o, base) + own;
        cost->predictors += sizeof(float) * (double)kv_predictor_size(shape);
        kv_predictor_free(shape);
    }
    return KV_OK;
}

// ---- One pass ------------------------------------------------------------------------------------------

struct depth {
    int64_t n_layers;
    kv_predictor *shape;
    kv_least_squares *sums;
};

struct pass {
    const kv_curve_options *options;
    kv_model *base;
    const char *fingerprint;
    const kv_curve_text *text;
    kv_tape *tape;
    kv_sequence *sequences;
    struct depth *depths; // [n]
    int64_t n, n_added;   // tokens that the sums have
};

static void close_depth(struct depth *d) {
    kv_predictor_free(d->shape);
    kv_least_squares_free(d->sums);
    d->shape = NULL, d->sums = NULL;
}

static kv_status open_pass(struct pass *p, const int64_t *depths, int64_t n, kv_error *err) {
    p->tape = kv_tape_create();
    p->depths = calloc((size_t)n, sizeof *p->depths);
    p->sequences = calloc((size_t)rows_at_once(p->options), sizeof *p->sequences);
    if (!p->tape || !p->depths || !p->sequences)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a pass");
    kv_tape_set_recording(p->tape, false);
    kv_status status = KV_OK;
    for (p->n = 0; p->n < n && status == KV_OK; p->n++) {
        struct depth *d = &p->depths[p->n];
        d->n_layers = depths[p->n];
        status = kv_curve_predictor(&p->base->spec, d->n_layers, p->options->first, false, &d->shape, err);
        if (status == KV_OK) status = kv_least_squares_create(d->shape, &d->sums, err);
        if (status == KV_OK) kv_least_squares_fast(d->sums, true);
    }
    return status;
}

static void close_pass(struct pass *p) {
    for (int64_t i = 0; p->depths && i < p->n; i++) close_depth(&p->depths[i]);
    free(p->depths);
    free(p->sequences);
    kv_tape_free(p->tape);
}

// Tokens [from, from + n), cut into windows.
static kv_status add_rows(struct pass *p, int64_t from, int64_t n, kv_error *err) {
    const int64_t window = p->options->window;
    kv_tensor *v[KV_MAX_LAYERS];
    kv_taps taps = {.ids = p->text->fit + from, .n = n};
    int64_t n_sequences = 0;
    for (int64_t at = 0; at < n; at += window) {
        const int64_t length = n - at < window ? n - at : window;
        p->sequences[n_sequences++] = (kv_sequence){at, length, at, length};
    }
    kv_tape_reset(p->tape);
    const kv_pass pass = {.sequences = p->sequences,
                          .n_sequences = n_sequences,
                          .raw_k = taps.k,
                          .v = v,
                          .h = taps.h,
                          .only_kv = true};
    kv_model_forward(p->tape, p->base, taps.ids, n, &pass);
    kv_status status = kv_tape_status(p->tape, err);
    for (int64_t i = 0; i < p->n && status == KV_OK; i++)
        status = kv_least_squares_add(p->depths[i].sums, p->tape, &taps, taps.k, v, NULL, err);
    return status;
}

static kv_status add_text(struct pass *p, kv_error *err) {
    const int64_t n = p->text->n_fit, rows = rows_at_once(p->options);
    kv_status status = KV_OK;
    kv_progress progress;
    char title[64];
    snprintf(title, sizeof title, "sums of %lld depth%s", (long long)p->n, p->n == 1 ? "" : "s");
    kv_progress_begin(&progress, stderr, title, n);
    const uint64_t before = kv_gemm_flops();
    while (p->n_added < n && status == KV_OK) {
        if (kv_console_interrupted())
            status =
                kv_fail(err, KV_ERR_INTERRUPTED, "interrupted with %lld of %lld tokens added to the sums",
                        (long long)p->n_added, (long long)n);
        const int64_t left = n - p->n_added, own = left < rows ? left : rows;
        if (status == KV_OK) status = add_rows(p, p->n_added, own, err);
        if (status == KV_OK) p->n_added += own;
        char note[64];
        snprintf(note, sizeof note, "tokens  %.1f GFLOP/s",
                 1e-9 * (double)(kv_gemm_flops() - before) / (kv_now() - progress.started));
        if (status == KV_OK) kv_progress_show(&progress, p->n_added, note);
    }
    kv_progress_end(&progress, status == KV_OK ? "tokens" : "stopped");
    return status;
}

// The depths that are not solved yet. Returns how many.
static int64_t list_sums(const struct pass *p, kv_curve_sums list[KV_CURVE_DEPTHS]) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++)
        if (p->depths[i].sums) list[n++] = (kv_curve_sums){p->depths[i].n_layers, p->depths[i].sums};
    return n;
}

static kv_status take_sums(struct pass *p, kv_error *err) {
    kv_curve_sums list[KV_CURVE_DEPTHS];
    return kv_curve_sums_read(p->options->output, list, list_sums(p, list), &p->n_added, err);
}

// Somebody who stops a fit wants to stop: what cannot be kept is said, and no error of its own.
static void keep_sums(const struct pass *p) {
    kv_curve_sums list[KV_CURVE_DEPTHS];
    kv_error err = {0};
    const int64_t n = list_sums(p, list);
    if (n > 0 && p->n_added > 0 && kv_curve_sums_write(p->options->output, list, n, p->n_added, &err))
        kv_warn("%s: the text will be read again", err.message);
}

// ---- Solutions -----------------------------------------------------------------------------------------

// Beside the predictor, and behind it: what has this file is whole.
// r2: what the maps explain of each layer's keys and values, of the text that they are fitted on.
static kv_status write_fit(const struct pass *p, const struct depth *d, double r2[KV_SIDES][KV_MAX_LAYERS],
                           kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_curve_place(p->options->output, d->n_layers, "fit.json", path, err);
    if (status != KV_OK) return status;
    json_t *root = json_pack("{s:I, s:I, s:f, s:b, s:s}", "prefix_layers", (json_int_t)d->n_layers, "tokens",
                             (json_int_t)p->text->n_fit, "ridge", p->options->ridge, "first",
                             p->options->first, "base_fingerprint", p->fingerprint);
    for (int side = 0; side < KV_SIDES && root; side++) {
        json_t *list = json_array();
        for (int64_t i = d->n_layers; i < p->base->spec.n_layers; i++)
            json_array_append_new(list, json_real(r2[side][i]));
        json_object_set_new(root, side == KV_KEYS ? "keys_explained" : "values_explained", list);
    }
    return kv_json_write(path, root, JSON_INDENT(1) | JSON_REAL_PRECISION(9), err);
}

static kv_status solve(const struct pass *p, struct depth *d, kv_error *err) {
    kv_predictor *predictor = NULL;
    char path[PATH_MAX];
    double r2[KV_SIDES][KV_MAX_LAYERS];
    const kv_fingerprints made_for = {p->fingerprint, NULL};
    kv_status status =
        kv_curve_predictor(&p->base->spec, d->n_layers, p->options->first, true, &predictor, err);
    if (status == KV_OK) {
        const double ridge = p->options->ridge;
        status = kv_least_squares_solve(d->sums, ridge, predictor, r2[KV_KEYS], r2[KV_VALUES], err);
        if (status == KV_ERR_ARGUMENT)
            kv_fail_within(err, status, "--ridge %g, --tokens %lld", ridge, (long long)p->options->tokens);
    }
    if (status == KV_OK) status = kv_curve_place(p->options->output, d->n_layers, "predictor", path, err);
    if (status == KV_OK) status = kv_make_dirs(path, err);
    if (status == KV_OK) status = kv_predictor_save(path, predictor, &made_for, err);
    if (status == KV_OK) status = write_fit(p, d, r2, err);
    kv_predictor_free(predictor);
    close_depth(d); // its memory is another one's
    return status;
}

static kv_status solve_all(struct pass *p, kv_error *err) {
    kv_status status = KV_OK;
    kv_progress progress;
    kv_progress_begin(&progress, stderr, "solving", p->n);
    for (int64_t i = 0; i < p->n && status == KV_OK; i++) {
        if (kv_console_interrupted())
            status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted with %lld of %lld depths fitted",
                             (long long)i, (long long)p->n);
        if (status == KV_OK) status = solve(p, &p->depths[i], err);
        if (status == KV_OK) kv_progress_show(&progress, i + 1, "depths");
    }
    kv_progress_end(&progress, status == KV_OK ? "depths" : "stopped");
    return status;
}

// As many of depths[n] as fit into memory together, at least one.
static kv_status choose_group(const kv_curve_options *o, const kv_model_spec *base, const int64_t *depths,
                              int64_t n, int64_t *group, kv_error *err) {
    kv_curve_fit_cost cost;
    const double room = 0.8 * (double)kv_memory_available("");
    kv_status status = KV_OK;
    for (*group = n; *group > 0 && status == KV_OK; --*group) {
        status = kv_curve_fit_cost_of(o, base, depths, *group, 1, &cost, err);
        if (status != KV_OK || cost.bytes <= room || *group == 1) break;
    }
    return status == KV_OK ? kv_memory_check(cost.bytes, "the normal equations of a prefix", err) : status;
}

kv_status kv_curve_fit(const kv_curve_options *options, kv_model *base, const char *fingerprint,
                       const int64_t *depths, int64_t n, const kv_curve_text *text, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t done = 0, group; done < n && status == KV_OK; done += group) {
        struct pass pass = {.options = options, .base = base, .fingerprint = fingerprint, .text = text};
        status = choose_group(options, &base->spec, depths + done, n - done, &group, err);
        if (status == KV_OK) status = open_pass(&pass, depths + done, group, err);
        if (status == KV_OK) status = take_sums(&pass, err);
        if (status == KV_OK) status = add_text(&pass, err);
        if (status == KV_OK) status = solve_all(&pass, err);
        if (status == KV_ERR_INTERRUPTED) keep_sums(&pass);
        if (status == KV_OK) kv_curve_sums_remove(options->output);
        close_pass(&pass);
    }
    return status;
}
