// What regressions on a part of the sources would explain, from the sums of all.
#include "core/predictor/least_squares.h"

#include "core/gemm.h"
#include "core/predictor/least_squares_sums.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const kv_sources *kv_least_squares_sources(const kv_least_squares *ls, kv_side side, int64_t layer) {
    const struct kv_target_sums *t = &ls->target[side][layer];
    return t->xty ? &ls->sources[t->input] : NULL;
}

// Columns of one block that these sources have, and behind them the constant's. Returns how many.
static int64_t list_columns(const kv_least_squares *ls, int64_t input, const int32_t *use, int64_t n,
                            int64_t *columns) {
    const int64_t n_blocks = ls->inputs[input].n_blocks, *dims = ls->read[input].dims;
    int64_t n_columns = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t first = 0;
        for (int32_t j = 0; j < use[k]; j++) first += dims[j] / n_blocks;
        for (int64_t c = 0; c < dims[use[k]] / n_blocks; c++) columns[n_columns++] = first + c;
    }
    columns[n_columns++] = ls->inputs[input].dim;
    return n_columns;
}

// The rows and columns of a block's sums that a part of its sources has.
struct part {
    int64_t rows, *columns;    // [rows]
    double *gram, *work;       // [rows, rows]
    double *xty, *turned;      // [rows, dim]: turned is the weights, transposed
    double *weights, *by_gram; // [dim, rows]: W and W·XᵀX
};

static bool make_part(const kv_least_squares *ls, const struct kv_target_sums *t, const int32_t *use,
                      int64_t n, struct part *p) {
    p->columns = malloc((size_t)(ls->inputs[t->input].dim + 1) * sizeof *p->columns);
    if (!p->columns) return false;
    p->rows = list_columns(ls, t->input, use, n, p->columns);
    const int64_t square = p->rows * p->rows, size = p->rows * t->dim;
    p->gram = malloc((size_t)(2 * square + 4 * size) * sizeof *p->gram);
    if (!p->gram) return false;
    p->work = p->gram + square, p->xty = p->work + square, p->turned = p->xty + size;
    p->weights = p->turned + size, p->by_gram = p->weights + size;
    return true;
}

static void take_part(const kv_least_squares *ls, const struct kv_target_sums *t, int64_t block,
                      struct part *p) {
    const struct kv_input_sums *in = &ls->inputs[t->input];
    const double *gram = in->gram + block * kv_gram_size(in), *xty = t->xty + block * (in->dim + 1) * t->dim;
    for (int64_t i = 0; i < p->rows; i++) {
        for (int64_t j = 0; j < p->rows; j++)
            p->gram[i * p->rows + j] = gram[p->columns[i] * (in->dim + 1) + p->columns[j]];
        memcpy(p->xty + i * t->dim, xty + p->columns[i] * t->dim, (size_t)t->dim * sizeof *xty);
    }
}

// What add_variance does, of weights that may solve other sums, by products that do not mind how many rows there are.
static void add_part_variance(const kv_least_squares *ls, const struct kv_target_sums *t, int64_t block,
                              const struct part *p, struct kv_variance *sum) {
    const int64_t rows = p->rows, dim = t->dim;
    const double *square = t->square + block * dim, *of_y = p->xty + (rows - 1) * dim;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < dim; c++) p->turned[i * dim + c] = p->weights[c * rows + i];
    memset(p->by_gram, 0, (size_t)(dim * rows) * sizeof *p->by_gram);
    kv_gemm_tn_f64(dim, rows, rows, p->turned, p->gram, p->by_gram);
    for (int64_t c = 0; c < dim; c++) {
        sum->residual += square[c];
        sum->total += square[c] - of_y[c] * of_y[c] / (double)ls->n_tokens;
    }
    for (int64_t i = 0; i < rows * dim; i++)
        sum->residual += p->by_gram[i] * p->weights[i] - 2 * p->turned[i] * p->xty[i];
}

static double explained_of(const struct kv_variance *sum) {
    return sum->total > 0 ? 1 - sum->residual / sum->total : 0;
}

static kv_status explain(const kv_least_squares *ls, kv_side side, int64_t layer, double ridge,
                         const kv_least_squares *other, struct part *p, kv_explained *explained,
                         kv_error *err) {
    const struct kv_target_sums *t = &ls->target[side][layer];
    struct kv_variance fit = {0}, beyond = {0};
    for (int64_t block = 0; block < ls->inputs[t->input].n_blocks; block++) {
        take_part(ls, t, block, p);
        // What is not finite is looked for in all of it only where there is something.
        kv_status status =
            kv_ridge_finite(p->gram, p->rows * p->rows) && kv_ridge_finite(p->xty, p->rows * t->dim)
                ? KV_OK
                : kv_sums_check(ls, side, layer, err);
        kv_ridge_solution s = {.n_tokens = ls->n_tokens,
                               .input_dim = p->rows - 1,
                               .output_dim = t->dim,
                               .gram = p->gram,
                               .xty = p->xty,
                               .weights = p->weights};
        if (status == KV_OK) status = kv_sums_solve(&s, ridge, p->work, layer, err);
        if (status != KV_OK) return status;
        add_part_variance(ls, t, block, p, &fit);
        if (!other) continue;
        take_part(other, &other->target[side][layer], block, p);
        add_part_variance(other, &other->target[side][layer], block, p, &beyond);
    }
    explained->fit = explained_of(&fit);
    explained->other = other ? explained_of(&beyond) : NAN;
    return KV_OK;
}

kv_status kv_least_squares_explain(const kv_least_squares *ls, kv_side side, int64_t layer,
                                   const int32_t *use, int64_t n, double ridge, const kv_least_squares *other,
                                   kv_explained *explained, kv_error *err) {
    const struct kv_target_sums *t = &ls->target[side][layer];
    struct part part = {0};
    *explained = (kv_explained){1, other ? 1 : NAN};
    if (!t->xty) return KV_OK;
    if (ls->n_tokens == 0 || (other && other->n_tokens == 0))
        return kv_fail(err, KV_ERR_ARGUMENT, "least squares was given no tokens");
    kv_status status = make_part(ls, t, use, n, &part)
                           ? explain(ls, side, layer, ridge, other, &part, explained, err)
                           : kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
    free(part.columns);
    free(part.gram);
    return status;
}
