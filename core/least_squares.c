// Sums of the normal equations, gathered batch by batch, and their solution with LAPACK. Layers that read the
// same aux layer share a Gram matrix, which is most of the work.
#include "core/least_squares.h"

#include "core/gemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Cholesky solve of a symmetric positive definite system, from OpenBLAS's LAPACK.
extern void dposv_(const char *uplo, const int *n, const int *n_rhs, double *a, const int *lda, double *b,
                   const int *ldb, int *info, size_t uplo_length);

// Eigenvalues in rising order, and eigenvectors one after the other, of a symmetric matrix: likewise.
extern void dsyev_(const char *jobs, const char *uplo, const int *n, double *a, const int *lda,
                   double *values, double *work, const int *n_work, int *info, size_t jobs_length,
                   size_t uplo_length);

// Sums over tokens for one regression. The Gram matrix is shared by all base layers that read the same aux
// layer (or the same two).
struct target {
    int64_t dim;
    double *xty;    // [inputs + 1, dim]
    double *square; // [dim]: Σ y²; Σ y is the bias row of xty
};

struct side {                    // keys or values
    double *gram[KV_MAX_LAYERS]; // by the first aux layer that is read: [inputs + 1, inputs + 1], or NULL
    struct target target[KV_MAX_LAYERS];
};

struct kv_least_squares {
    int64_t n_base, n_aux, n_tokens;
    int32_t mapping[KV_MAX_LAYERS];
    int32_t second[KV_MAX_LAYERS]; // by the first aux layer that is read: the one beside it, or -1
    int64_t inputs[KV_MAX_LAYERS]; // likewise: kv_dim of all that is read
    struct side keys, values;
};

static bool allocate_side(struct kv_least_squares *ls, struct side *side, const kv_model_spec *base) {
    for (int64_t i = 0; i < ls->n_base; i++) {
        int64_t rows = ls->inputs[ls->mapping[i]] + 1, dim = kv_spec_kv_dim(base, i);
        double **gram = &side->gram[ls->mapping[i]];
        struct target *t = &side->target[i];
        if (!*gram) *gram = calloc((size_t)(rows * rows), sizeof **gram);
        t->dim = dim;
        t->xty = calloc((size_t)(rows * dim), sizeof *t->xty);
        t->square = calloc((size_t)dim, sizeof *t->square);
        if (!*gram || !t->xty || !t->square) return false;
    }
    return true;
}

static void free_side(struct side *side) {
    for (int64_t i = 0; i < KV_MAX_LAYERS; i++) {
        free(side->gram[i]);
        free(side->target[i].xty);
        free(side->target[i].square);
    }
}

kv_status kv_least_squares_create(const kv_model_spec *base, const kv_predictor *predictor,
                                  kv_least_squares **ls, kv_error *err) {
    *ls = NULL;
    kv_least_squares *s = calloc(1, sizeof *s);
    if (!s) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    s->n_base = predictor->n_base_layers, s->n_aux = predictor->n_aux_layers;
    memcpy(s->mapping, predictor->mapping, sizeof s->mapping);
    for (int64_t i = 0; i < s->n_base; i++) {
        int32_t read[2];
        const int64_t n = kv_predictor_inputs(predictor, i, read);
        s->inputs[read[0]] = (predictor->key_down ? predictor->key_down : predictor->key_w)[i].cols;
        s->second[read[0]] = n > 1 ? read[1] : -1;
    }
    if (!allocate_side(s, &s->keys, base) || !allocate_side(s, &s->values, base)) {
        kv_least_squares_free(s);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
    }
    *ls = s;
    return KV_OK;
}

void kv_least_squares_free(kv_least_squares *ls) {
    if (!ls) return;
    free_side(&ls->keys);
    free_side(&ls->values);
    free(ls);
}

// The kept rows of x as doubles, each at the beginning of `width` of them.
static void widen_rows(const kv_tensor *x, const int64_t *rows, int64_t n, int64_t width, double *out) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < x->cols; c++) out[r * width + c] = (double)x->data[rows[r] * x->cols + c];
}

// What base layers read of aux layer j, and perhaps of the one beside it; each row is followed by a 1.
static void widen_input(const kv_least_squares *ls, int64_t j, kv_tensor *const *aux, const int64_t *rows,
                        int64_t n, double *x) {
    const int64_t width = ls->inputs[j] + 1;
    widen_rows(aux[j], rows, n, width, x);
    if (ls->second[j] >= 0) widen_rows(aux[ls->second[j]], rows, n, width, x + aux[j]->cols);
    for (int64_t r = 0; r < n; r++) x[r * width + width - 1] = 1;
}

static void add_side(const kv_least_squares *ls, struct side *side, kv_tensor *const *aux,
                     kv_tensor *const *base, const int64_t *rows, int64_t n, double *x, double *y) {
    for (int64_t j = 0; j < ls->n_aux; j++) {
        if (!side->gram[j]) continue;
        int64_t width = ls->inputs[j] + 1;
        widen_input(ls, j, aux, rows, n, x);
        kv_gemm_tn_f64(width, width, n, x, x, side->gram[j]);
        for (int64_t i = 0; i < ls->n_base; i++) {
            if (ls->mapping[i] != j) continue;
            struct target *t = &side->target[i];
            widen_rows(base[i], rows, n, t->dim, y);
            kv_gemm_tn_f64(width, t->dim, n, x, y, t->xty);
            for (int64_t r = 0; r < n; r++)
                for (int64_t c = 0; c < t->dim; c++) t->square[c] += y[r * t->dim + c] * y[r * t->dim + c];
        }
    }
}

kv_status kv_least_squares_add(kv_least_squares *ls, kv_tensor *const *aux_raw_k, kv_tensor *const *aux_v,
                               kv_tensor *const *base_raw_k, kv_tensor *const *base_v, const uint8_t *keep,
                               kv_error *err) {
    int64_t total = aux_raw_k[ls->mapping[0]]->rows, n = 0, widest = 0;
    for (int64_t i = 0; i < ls->n_base; i++) {
        int64_t in = ls->inputs[ls->mapping[i]] + 1, out = ls->keys.target[i].dim;
        widest = in > widest ? in : widest;
        widest = out > widest ? out : widest;
    }
    int64_t *rows = malloc((size_t)(total + 1) * sizeof *rows);
    double *x = malloc((size_t)(2 * (total + 1) * widest) * sizeof *x);
    if (!rows || !x) {
        free(rows);
        free(x);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
    }
    for (int64_t r = 0; r < total; r++)
        if (!keep || keep[r]) rows[n++] = r;
    add_side(ls, &ls->keys, aux_raw_k, base_raw_k, rows, n, x, x + total * widest);
    add_side(ls, &ls->values, aux_v, base_v, rows, n, x, x + total * widest);
    ls->n_tokens += n;
    free(rows);
    free(x);
    return KV_OK;
}

// 1 - residual / total, where residual = Σ y² - 2 W·XᵀY + W·XᵀX·Wᵀ and total = Σ y² - (Σ y)² / n.
static double explained_variance(const double *gram, const struct target *t, const double *w, int64_t rows,
                                 int64_t n_tokens) {
    double residual = 0, total = 0;
    for (int64_t c = 0; c < t->dim; c++) {
        const double *wc = w + c * rows; // dposv works column by column: one solution after the other
        double sum = t->xty[(rows - 1) * t->dim + c];
        residual += t->square[c];
        total += t->square[c] - sum * sum / (double)n_tokens;
        for (int64_t i = 0; i < rows; i++) {
            double gw = 0;
            for (int64_t j = 0; j < rows; j++) gw += gram[i * rows + j] * wc[j];
            residual += wc[i] * (gw - 2 * t->xty[i * t->dim + c]);
        }
    }
    return total > 0 ? 1 - residual / total : 0;
}

// ---- Low rank ------------------------------------------------------------------------------------------

// values[dim] and vectors (in place) of moments[dim, dim].
static kv_status eigenvectors(int64_t dim, double *moments, double *values, kv_error *err) {
    const int n = (int)dim, ask = -1;
    int info = 0, n_work;
    double best;
    dsyev_("V", "L", &n, moments, &n, values, &best, &ask, &info, 1, 1);
    n_work = (int)best;
    double *work = malloc((size_t)n_work * sizeof *work);
    if (!work) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the rank of a map");
    dsyev_("V", "L", &n, moments, &n, values, work, &n_work, &info, 1, 1);
    free(work);
    return info == 0
               ? KV_OK
               : kv_fail(err, KV_ERR_ARGUMENT, "the fitted values have no principal directions (%d)", info);
}

// W·(XᵀX + ridge)·Wᵀ = W·XᵀY, centred.
static void fitted_moments(const double *gram, const struct target *t, const double *w, int64_t rows,
                           int64_t n_tokens, double *moments) {
    const double *x_sum = gram + (rows - 1) * rows, *y_sum = t->xty + (rows - 1) * t->dim;
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < t->dim; o++) {
        double *row = moments + o * t->dim, mean = 0;
        memset(row, 0, (size_t)t->dim * sizeof *row);
        for (int64_t i = 0; i < rows - 1; i++) {
            const double factor = w[o * rows + i];
            for (int64_t c = 0; c < t->dim; c++) row[c] += factor * t->xty[i * t->dim + c];
            mean += factor * x_sum[i] / (double)n_tokens;
        }
        for (int64_t c = 0; c < t->dim; c++) row[c] -= mean * y_sum[c];
    }
}

// W becomes up·down, up [dim, rank] being the leading of `vectors` as columns and down [rank, rows - 1] its
// transpose times W; the bias follows, so that the mean is still met.
static void project(const double *gram, const struct target *t, const double *vectors, int64_t rows,
                    int64_t rank, int64_t n_tokens, double *w, kv_param *up, kv_param *down,
                    double *scratch) {
    const double *x_sum = gram + (rows - 1) * rows, *y_sum = t->xty + (rows - 1) * t->dim;
    const int64_t dim = t->dim, in = rows - 1;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rank; r++) {
        const double *vector = vectors + (dim - 1 - r) * dim;
        double *row = scratch + r * in;
        memset(row, 0, (size_t)in * sizeof *row);
        for (int64_t o = 0; o < dim; o++) {
            ((float *)up->data)[o * rank + r] = (float)vector[o];
            for (int64_t i = 0; i < in; i++) row[i] += vector[o] * w[o * rows + i];
        }
        for (int64_t i = 0; i < in; i++) ((float *)down->data)[r * in + i] = (float)row[i];
    }
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < dim; o++) {
        double *row = w + o * rows, mean = 0;
        memset(row, 0, (size_t)in * sizeof *row);
        for (int64_t r = 0; r < rank; r++)
            for (int64_t i = 0; i < in; i++) row[i] += vectors[(dim - 1 - r) * dim + o] * scratch[r * in + i];
        for (int64_t i = 0; i < in; i++) mean += row[i] * x_sum[i];
        row[in] = (y_sum[o] - mean) / (double)n_tokens;
    }
}

static kv_status reduce_rank(const double *gram, const struct target *t, int64_t rows, int64_t n_tokens,
                             double *w, kv_param *up, kv_param *down, kv_error *err) {
    const size_t dim = (size_t)t->dim, rank = (size_t)down->rows;
    double *moments = malloc((dim * dim + dim + rank * (size_t)rows) * sizeof *moments);
    if (!moments) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the rank of a map");
    double *values = moments + dim * dim, *scratch = values + dim;
    fitted_moments(gram, t, w, rows, n_tokens, moments);
    kv_status status = eigenvectors(t->dim, moments, values, err);
    if (status == KV_OK) project(gram, t, moments, rows, down->rows, n_tokens, w, up, down, scratch);
    free(moments);
    return status;
}

// ---- Solving -------------------------------------------------------------------------------------------

// The map of one base layer, for keys or for values, as the predictor has it.
struct map {
    kv_param *weight, *bias, *down; // down NULL: of full rank
};

static void store_full(const double *w, int64_t rows, kv_param *weight) {
    float *out = weight->data;
    for (int64_t c = 0; c < weight->rows; c++)
        for (int64_t i = 0; i < weight->cols; i++) out[c * weight->cols + i] = (float)w[c * rows + i];
}

static kv_status store(const double *gram, const struct target *t, int64_t rows, int64_t n_tokens, double *w,
                       const struct map *map, kv_error *err) {
    kv_status status = KV_OK;
    if (map->down)
        status = reduce_rank(gram, t, rows, n_tokens, w, map->weight, map->down, err);
    else
        store_full(w, rows, map->weight);
    for (int64_t c = 0; c < t->dim; c++) ((float *)map->bias->data)[c] = (float)w[c * rows + rows - 1];
    return status;
}

static bool all_finite(const double *sums, int64_t n) {
    bool finite = true;
    for (int64_t i = 0; i < n; i++) finite = finite && isfinite(sums[i]);
    return finite;
}

// LAPACK would solve sums that are no numbers as well, and a comparison with them call the result a zero.
static kv_status check_sums(const kv_least_squares *ls, const struct side *side, int64_t layer,
                            kv_error *err) {
    const int64_t rows = ls->inputs[ls->mapping[layer]] + 1;
    const struct target *t = &side->target[layer];
    const char *what = side == &ls->keys ? "keys" : "values";
    if (!all_finite(side->gram[ls->mapping[layer]], rows * rows))
        return kv_fail(
            err, KV_ERR_NOT_FINITE,
            "the aux's %s of layer %d are not finite: its weights are NaN or infinite, or its numbers "
            "grew too large",
            what, ls->mapping[layer]);
    if (!all_finite(t->square, t->dim))
        return kv_fail(
            err, KV_ERR_NOT_FINITE,
            "the base's %s of layer %lld are not finite: its weights are NaN or infinite, or its numbers "
            "grew too large",
            what, (long long)layer);
    return KV_OK;
}

static kv_status solve_layer(const kv_least_squares *ls, const struct side *side, int64_t layer, double ridge,
                             struct map map, double *r2, kv_error *err) {
    int64_t rows = ls->inputs[ls->mapping[layer]] + 1;
    const double *gram = side->gram[ls->mapping[layer]];
    const struct target *t = &side->target[layer];
    double *a = malloc((size_t)(rows * rows) * sizeof *a), *w = malloc((size_t)(rows * t->dim) * sizeof *w);
    kv_status status = KV_OK;
    if (!a || !w) {
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
    } else {
        memcpy(a, gram, (size_t)(rows * rows) * sizeof *a);
        double mean = 0;
        for (int64_t i = 0; i < rows - 1; i++) mean += gram[i * rows + i] / (double)(rows - 1);
        for (int64_t i = 0; i < rows - 1; i++) a[i * rows + i] += ridge * mean;
        for (int64_t c = 0; c < t->dim; c++)
            for (int64_t i = 0; i < rows; i++) w[c * rows + i] = t->xty[i * t->dim + c];
        int n = (int)rows, n_rhs = (int)t->dim, info = 0;
        dposv_("L", &n, &n_rhs, a, &n, w, &n, &info, 1);
        if (info != 0)
            status = kv_fail(
                err, KV_ERR_ARGUMENT,
                "least squares for base layer %lld is singular (%lld tokens for %lld unknowns per output): "
                "more tokens or a ridge above 0 are needed",
                (long long)layer, (long long)ls->n_tokens, (long long)rows);
    }
    if (status == KV_OK) status = store(gram, t, rows, ls->n_tokens, w, &map, err);
    if (status == KV_OK && r2) *r2 = explained_variance(gram, t, w, rows, ls->n_tokens);
    free(a);
    free(w);
    return status;
}

kv_status kv_least_squares_solve(const kv_least_squares *ls, double ridge, kv_predictor *predictor,
                                 double *k_r2, double *v_r2, kv_error *err) {
    if (ls->n_tokens == 0) return kv_fail(err, KV_ERR_ARGUMENT, "least squares was given no tokens");
    const kv_predictor *p = predictor;
    for (int64_t i = 0; i < ls->n_base; i++) {
        const struct map keys = {&p->key_w[i], &p->key_b[i], p->key_down ? &p->key_down[i] : NULL};
        const struct map values = {&p->value_w[i], &p->value_b[i], p->value_down ? &p->value_down[i] : NULL};
        kv_status status = check_sums(ls, &ls->keys, i, err);
        if (status == KV_OK) status = check_sums(ls, &ls->values, i, err);
        if (status == KV_OK) status = solve_layer(ls, &ls->keys, i, ridge, keys, k_r2 ? k_r2 + i : NULL, err);
        if (status == KV_OK)
            status = solve_layer(ls, &ls->values, i, ridge, values, v_r2 ? v_r2 + i : NULL, err);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}
