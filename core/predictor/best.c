// One Gram matrix for each layer that is compared, and beside it the products with all keys, or all values, at once.
#include "core/predictor/best.h"

#include "core/gemm.h"

#include <stdlib.h>
#include <string.h>

// What an output looks like here: its own features, or random combinations of them.
struct target {
    int64_t dim, width, first; // features; columns here, at most KV_BEST_DIM; the first of them
    double *mix;               // [dim, width], NULL: the features themselves
};

// The sources of one layer side by side, as some output reads them.
struct regressor {
    kv_sources sources;
    int64_t dims[3];
    int64_t dim;
    bool reads[KV_SIDES];  // whose outputs read it
    double *gram;          // [dim + 1, dim + 1]
    double *xty[KV_SIDES]; // [dim + 1, n_columns]; NULL of a side whose outputs do not
};

struct kv_best {
    int64_t n_base, n_aux, n_tokens, n_regressors;
    int64_t n_columns[KV_SIDES];
    struct regressor *regressors;
    struct target targets[KV_SIDES][KV_MAX_LAYERS]; // width 0: an exact output
    int32_t *read[KV_SIDES]; // [n_base][n_aux]: the regressor of a layer for an output, or -1
    double *square[KV_SIDES], *sum[KV_SIDES]; // [n_columns]: Σ y², Σ y
};

// ---- Setting up ----------------------------------------------------------------------------------------

// What an output reads of one aux layer; n 0: nothing.
static void sources_of_layer(const kv_predictor_input *input, int64_t layer, struct regressor *r) {
    memset(r, 0, sizeof *r);
    for (int32_t k = 0; k < input->sources->n; k++) {
        const kv_source source = input->sources->at[k];
        if (kv_source_of_token(source) || source.layer != layer) continue;
        r->dims[r->sources.n] = input->dims[k];
        r->sources.at[r->sources.n++] = source;
        r->dim += input->dims[k];
    }
}

static int32_t find_regressor(const kv_best *best, const kv_sources *sources) {
    for (int64_t i = 0; i < best->n_regressors; i++)
        if (kv_sources_equal(&best->regressors[i].sources, sources)) return (int32_t)i;
    return -1;
}

static bool add_regressors(kv_best *best, const kv_predictor *all, int side, int64_t layer) {
    const kv_predictor_input *input = &all->inputs[all->outputs[side][layer].input];
    struct regressor *found = malloc(sizeof *found);
    for (int64_t j = 0; found && j < best->n_aux; j++) {
        int32_t *read = &best->read[side][layer * best->n_aux + j];
        sources_of_layer(input, j, found);
        *read = found->sources.n > 0 ? find_regressor(best, &found->sources) : -1;
        if (found->sources.n == 0) continue;
        if (*read < 0) {
            *read = (int32_t)best->n_regressors++;
            best->regressors[*read] = *found;
        }
        best->regressors[*read].reads[side] = true;
    }
    free(found);
    return found != NULL;
}

static bool make_target(kv_best *best, const kv_predictor *all, int side, int64_t layer) {
    struct target *t = &best->targets[side][layer];
    t->dim = all->outputs[side][layer].map.shape.output_dim;
    t->width = t->dim < KV_BEST_DIM ? t->dim : KV_BEST_DIM;
    t->first = best->n_columns[side];
    best->n_columns[side] += t->width;
    if (t->width == t->dim) return true;
    t->mix = malloc((size_t)(t->dim * t->width) * sizeof *t->mix);
    const kv_rng rng = {.seed = 1, .stream = (uint64_t)(2 * layer + side)};
    for (int64_t i = 0; t->mix && i < t->dim * t->width; i++) t->mix[i] = kv_rng_normal(rng, (uint64_t)i);
    return t->mix != NULL;
}

static bool allocate_sums(kv_best *best) {
    bool ok = true;
    for (int side = 0; side < KV_SIDES; side++) {
        const size_t n = (size_t)best->n_columns[side] + 1;
        best->square[side] = calloc(n, sizeof(double));
        best->sum[side] = calloc(n, sizeof(double));
        ok = ok && best->square[side] && best->sum[side];
    }
    for (int64_t i = 0; ok && i < best->n_regressors; i++) {
        struct regressor *r = &best->regressors[i];
        const size_t rows = (size_t)r->dim + 1;
        r->gram = calloc(rows * rows, sizeof *r->gram);
        ok = r->gram != NULL;
        for (int side = 0; ok && side < KV_SIDES; side++) {
            if (!r->reads[side]) continue;
            r->xty[side] = calloc(rows * (size_t)best->n_columns[side], sizeof(double));
            ok = r->xty[side] != NULL;
        }
    }
    return ok;
}

static bool set_up(kv_best *best, const kv_predictor *all) {
    const size_t n = (size_t)all->spec.n_base_layers, m = (size_t)all->spec.n_aux_layers;
    best->n_base = all->spec.n_base_layers, best->n_aux = all->spec.n_aux_layers;
    best->regressors = calloc(KV_SIDES * n * m, sizeof *best->regressors);
    if (!best->regressors) return false;
    for (int side = 0; side < KV_SIDES; side++) {
        best->read[side] = malloc(n * m * sizeof *best->read[side]);
        if (!best->read[side]) return false;
        for (size_t i = 0; i < n * m; i++) best->read[side][i] = -1;
        for (int64_t layer = 0; layer < best->n_base; layer++)
            if (!kv_output_exact(&all->spec.outputs[side][layer]) &&
                (!make_target(best, all, side, layer) || !add_regressors(best, all, side, layer)))
                return false;
    }
    return allocate_sums(best);
}

kv_status kv_best_create(const kv_predictor *all, kv_best **best, kv_error *err) {
    *best = calloc(1, sizeof **best);
    if (*best && set_up(*best, all)) return KV_OK;
    kv_best_free(*best);
    *best = NULL;
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for comparing the aux's layers");
}

void kv_best_free(kv_best *best) {
    if (!best) return;
    for (int64_t i = 0; best->regressors && i < best->n_regressors; i++) {
        free(best->regressors[i].gram);
        for (int side = 0; side < KV_SIDES; side++) free(best->regressors[i].xty[side]);
    }
    for (int side = 0; side < KV_SIDES; side++) {
        free(best->square[side]);
        free(best->sum[side]);
        for (int64_t i = 0; i < best->n_base; i++) free(best->targets[side][i].mix);
        free(best->read[side]);
    }
    free(best->regressors);
    free(best);
}

// ---- Adding --------------------------------------------------------------------------------------------

// One output's columns of y [n, n_columns].
static void fill_target(const struct target *t, int64_t n_columns, const kv_tensor *base, const int64_t *rows,
                        int64_t n, double *y) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n; r++) {
        const float *from = base->data + rows[r] * base->cols;
        double *to = y + r * n_columns + t->first;
        for (int64_t c = 0; c < t->width; c++) to[c] = t->mix ? 0 : (double)from[c];
        for (int64_t i = 0; t->mix && i < t->dim; i++)
            for (int64_t c = 0; c < t->width; c++) to[c] += (double)from[i] * t->mix[i * t->width + c];
    }
}

// What all outputs of a side look like, and the sums of that alone.
static void fill_side(kv_best *best, int side, kv_tensor *const *base, const int64_t *rows, int64_t n,
                      double *y) {
    const int64_t n_columns = best->n_columns[side];
    for (int64_t i = 0; i < best->n_base; i++)
        if (best->targets[side][i].width > 0)
            fill_target(&best->targets[side][i], n_columns, base[i], rows, n, y);
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < n_columns; c++) {
            const double value = y[r * n_columns + c];
            best->square[side][c] += value * value, best->sum[side][c] += value;
        }
}

static void add_regressor(const kv_best *best, struct regressor *r, const kv_tensor *input,
                          const int64_t *rows, int64_t n, double *x, double *const y[KV_SIDES]) {
    const int64_t width = r->dim + 1;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < n; t++) {
        for (int64_t c = 0; c < r->dim; c++) x[t * width + c] = (double)input->data[rows[t] * r->dim + c];
        x[t * width + r->dim] = 1;
    }
    kv_gemm_tn_f64(width, width, n, x, x, r->gram);
    for (int side = 0; side < KV_SIDES; side++)
        if (r->reads[side]) kv_gemm_tn_f64(width, best->n_columns[side], n, x, y[side], r->xty[side]);
}

static int64_t widest(const kv_best *best) {
    int64_t most = 0;
    for (int64_t i = 0; i < best->n_regressors; i++)
        if (best->regressors[i].dim + 1 > most) most = best->regressors[i].dim + 1;
    return most;
}

static kv_status add_all(kv_best *best, kv_tape *tape, const kv_taps *taps, const int64_t *rows, int64_t n,
                         double *x, double *const y[KV_SIDES], kv_error *err) {
    for (int64_t i = 0; i < best->n_regressors; i++) {
        struct regressor *r = &best->regressors[i];
        const kv_predictor_input read = {&r->sources, 1, r->dim, r->dims};
        const kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
        const kv_tensor *input = kv_predictor_input_tensor(tape, &read, taps);
        if (input) add_regressor(best, r, input, rows, n, x, y);
        kv_arena_release(kv_tape_arena(tape), mark);
        if (!input) break;
    }
    best->n_tokens += n;
    return kv_tape_status(tape, err);
}

kv_status kv_best_add(kv_best *best, kv_tape *tape, const kv_taps *taps, kv_tensor *const *base_raw_k,
                      kv_tensor *const *base_v, const uint8_t *keep, kv_error *err) {
    const int64_t total = taps->n + 1, most = widest(best), n_keys = best->n_columns[KV_KEYS];
    int64_t *rows = malloc((size_t)total * sizeof *rows), n = 0;
    double *x = malloc((size_t)(total * (most + n_keys + best->n_columns[KV_VALUES])) * sizeof *x);
    kv_status status = KV_ERR_MEMORY;
    if (rows && x) {
        double *const y[KV_SIDES] = {x + total * most, x + total * (most + n_keys)};
        for (int64_t r = 0; r < taps->n; r++)
            if (!keep || keep[r]) rows[n++] = r;
        fill_side(best, KV_KEYS, base_raw_k, rows, n, y[KV_KEYS]);
        fill_side(best, KV_VALUES, base_v, rows, n, y[KV_VALUES]);
        status = add_all(best, tape, taps, rows, n, x, y, err);
    } else {
        kv_fail(err, KV_ERR_MEMORY, "out of memory for comparing the aux's layers");
    }
    free(rows);
    free(x);
    return status;
}

bool kv_best_visit(kv_best *best, kv_sums_fn *visit, void *what) {
    for (int side = 0; side < KV_SIDES; side++)
        if (!visit(best->square[side], best->n_columns[side], what) ||
            !visit(best->sum[side], best->n_columns[side], what))
            return false;
    for (int64_t i = 0; i < best->n_regressors; i++) {
        const struct regressor *r = &best->regressors[i];
        const int64_t rows = r->dim + 1;
        if (!visit(r->gram, rows * rows, what)) return false;
        for (int side = 0; side < KV_SIDES; side++)
            if (r->reads[side] && !visit(r->xty[side], rows * best->n_columns[side], what)) return false;
    }
    return true;
}

void kv_best_tell_tokens(kv_best *best, int64_t n_tokens) {
    best->n_tokens = n_tokens;
}

// ---- Comparing -----------------------------------------------------------------------------------------

static kv_status check_sums(const kv_best *best, const struct regressor *r, int side, kv_error *err) {
    const int64_t rows = r->dim + 1;
    if (kv_ridge_finite(r->gram, rows * rows) && kv_ridge_finite(r->xty[side], rows * best->n_columns[side]))
        return KV_OK;
    return kv_fail(
        err, KV_ERR_NOT_FINITE,
        "what aux layer %d makes of the text, or the base's %s, are not finite: weights are NaN or "
        "infinite, or numbers grew too large",
        r->sources.at[0].layer, kv_side_names[side]);
}

static kv_status solve(kv_ridge_solution *s, double ridge, double *room, kv_error *err) {
    if (kv_ridge_solve(s, ridge, room)) return KV_OK;
    return kv_fail(
        err, KV_ERR_ARGUMENT,
        "comparing the aux's layers is singular (%lld tokens for %lld unknowns): more tokens or a ridge "
        "above 0 are needed",
        (long long)s->n_tokens, (long long)s->input_dim + 1);
}

// What a layer leaves of the squares of every column of a side.
static kv_status residuals(const kv_best *best, const struct regressor *r, int side, double ridge,
                           double *left, kv_error *err) {
    const int64_t rows = r->dim + 1, n_columns = best->n_columns[side];
    kv_status status = check_sums(best, r, side, err);
    if (status) return status;
    double *room = malloc((size_t)(rows * (rows + n_columns)) * sizeof *room);
    if (!room) return kv_fail(err, KV_ERR_MEMORY, "out of memory for comparing the aux's layers");
    kv_ridge_solution s = {.n_tokens = best->n_tokens,
                           .input_dim = r->dim,
                           .output_dim = n_columns,
                           .gram = r->gram,
                           .xty = r->xty[side],
                           .weights = room + rows * rows};
    status = solve(&s, ridge, room, err);
    if (status == KV_OK) kv_ridge_residuals(&s, best->square[side], left);
    free(room);
    return status;
}

static double explained(const kv_best *best, int side, const struct target *t, const double *left) {
    double residual = 0, total = 0;
    for (int64_t c = t->first; c < t->first + t->width; c++) {
        const double sum = best->sum[side][c];
        residual += left[c];
        total += best->square[side][c] - sum * sum / (double)best->n_tokens;
    }
    return total > 0 ? 1 - residual / total : 0;
}

kv_status kv_best_explained(const kv_best *best, double ridge, kv_side side, double *r2, kv_error *err) {
    double *left = malloc((size_t)(best->n_columns[side] + 1) * sizeof *left);
    kv_status status = left ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for comparing layers");
    if (!status && best->n_tokens == 0) status = kv_fail(err, KV_ERR_ARGUMENT, "no tokens to compare by");
    for (int64_t i = 0; !status && i < best->n_base; i++)
        for (int64_t j = 0; j < best->n_aux; j++)
            r2[i * best->n_aux + j] = best->targets[side][i].width > 0 ? 0 : 1;
    for (int64_t r = 0; !status && r < best->n_regressors; r++) {
        if (!best->regressors[r].reads[side]) continue;
        status = residuals(best, &best->regressors[r], side, ridge, left, err);
        for (int64_t at = 0; !status && at < best->n_base * best->n_aux; at++)
            if (best->read[side][at] == r)
                r2[at] = explained(best, side, &best->targets[side][at / best->n_aux], left);
    }
    free(left);
    return status;
}

// Leaves the sources of the k best layers of r2[n_aux].
static kv_status leave_best(const kv_best *best, const int32_t *read, const double *r2, int64_t k,
                            int64_t layer, int side, kv_sources *sources, kv_error *err) {
    kv_sources chosen = {0};
    bool taken[KV_MAX_LAYERS] = {false};
    for (int64_t n = 0; n < k; n++) {
        int64_t found = -1;
        for (int64_t j = 0; j < best->n_aux; j++)
            if (read[j] >= 0 && !taken[j] && (found < 0 || r2[j] > r2[found])) found = j;
        if (found < 0)
            return kv_fail(
                err, KV_ERR_ARGUMENT,
                "the best %lld aux layers for the %s of base layer %lld, expected at most the %lld "
                "there are",
                (long long)k, kv_side_names[side], (long long)layer, (long long)n);
        taken[found] = true;
        const kv_sources *own = &best->regressors[read[found]].sources;
        for (int32_t s = 0; s < own->n; s++) kv_sources_add(&chosen, (kv_source_kind)own->at[s].kind, found);
    }
    for (int32_t s = 0; s < sources->n; s++)
        if (kv_source_of_token(sources->at[s]))
            kv_sources_add(&chosen, (kv_source_kind)sources->at[s].kind, 0);
    *sources = chosen;
    return KV_OK;
}

kv_status kv_best_choose(const kv_best *best, double ridge, int64_t k, kv_predictor_spec *spec,
                         kv_error *err) {
    double *r2 = malloc((size_t)(best->n_base * best->n_aux) * sizeof *r2);
    kv_status status = r2 ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for comparing layers");
    for (int side = 0; !status && side < KV_SIDES; side++) {
        status = kv_best_explained(best, ridge, (kv_side)side, r2, err);
        for (int64_t i = 0; !status && i < best->n_base; i++)
            if (best->targets[side][i].width > 0)
                status = leave_best(best, best->read[side] + i * best->n_aux, r2 + i * best->n_aux, k, i,
                                    side, &spec->outputs[side][i].sources, err);
    }
    free(r2);
    return status;
}

// ---- What it costs -------------------------------------------------------------------------------------

// All regressors' widths, and all columns, without sums.
static bool measure(const kv_predictor *all, kv_best **best) {
    *best = calloc(1, sizeof **best);
    kv_best *r = *best;
    const size_t n = (size_t)all->spec.n_base_layers, m = (size_t)all->spec.n_aux_layers;
    if (!r) return false;
    r->n_base = all->spec.n_base_layers, r->n_aux = all->spec.n_aux_layers;
    r->regressors = calloc(KV_SIDES * n * m, sizeof *r->regressors);
    bool ok = r->regressors != NULL;
    for (int side = 0; ok && side < KV_SIDES; side++) {
        r->read[side] = malloc(n * m * sizeof *r->read[side]);
        ok = r->read[side] != NULL;
        for (int64_t i = 0; ok && i < r->n_base; i++) {
            const int64_t dim = all->outputs[side][i].map.shape.output_dim;
            if (kv_output_exact(&all->spec.outputs[side][i])) continue;
            r->n_columns[side] += dim < KV_BEST_DIM ? dim : KV_BEST_DIM;
            ok = add_regressors(r, all, side, i);
        }
    }
    return ok;
}

// Of all sides that read it.
static int64_t columns_of(const kv_best *best, const struct regressor *r) {
    int64_t n = 0;
    for (int side = 0; side < KV_SIDES; side++) n += r->reads[side] ? best->n_columns[side] : 0;
    return n;
}

uint64_t kv_flops_best(const kv_predictor *all, int64_t n) {
    kv_best *best;
    uint64_t sum = 0;
    if (measure(all, &best))
        for (int64_t i = 0; i < best->n_regressors; i++) {
            const uint64_t width = (uint64_t)best->regressors[i].dim + 1;
            sum += 2 * (uint64_t)n * width * (width + (uint64_t)columns_of(best, &best->regressors[i]));
        }
    kv_best_free(best);
    return sum;
}

double kv_best_bytes(const kv_predictor *all, int64_t n) {
    kv_best *best;
    double sums = 0, solving = 0, columns = 0, most = 0;
    if (measure(all, &best)) {
        columns = (double)(best->n_columns[KV_KEYS] + best->n_columns[KV_VALUES]);
        for (int64_t i = 0; i < best->n_regressors; i++) {
            const double width = (double)best->regressors[i].dim + 1;
            const double own = width * (width + (double)columns_of(best, &best->regressors[i]));
            sums += own;
            if (own > solving) solving = own;
            if (width > most) most = width;
        }
    }
    kv_best_free(best);
    return sizeof(double) * (sums + solving + (double)n * (most + columns));
}
