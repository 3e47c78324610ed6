// Sums of the normal equations, gathered batch by batch, and their solution with LAPACK. Outputs that read the
// same share a Gram matrix, which is most of the work.
#include "core/predictor/least_squares.h"

#include "core/gemm.h"
#include "core/predictor/least_squares_sums.h"
#include "core/predictor/token_fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool allocate_target(struct kv_least_squares *ls, const kv_predictor *p, int side, int64_t layer) {
    const kv_predictor_output *output = &p->outputs[side][layer];
    struct kv_target_sums *t = &ls->target[side][layer];
    struct kv_input_sums *input = &ls->inputs[output->input];
    if (output->map.kind->exact) return true;
    t->input = output->input;
    t->dim = output->map.shape.output_dim / input->n_blocks;
    if (!input->gram) input->gram = calloc((size_t)(input->n_blocks * kv_gram_size(input)), sizeof(double));
    t->xty = calloc((size_t)(input->n_blocks * (input->dim + 1) * t->dim), sizeof *t->xty);
    t->square = calloc((size_t)(input->n_blocks * t->dim), sizeof *t->square);
    return input->gram && t->xty && t->square;
}

static bool allocate(struct kv_least_squares *ls, const kv_predictor *p) {
    ls->n_inputs = p->n_inputs;
    ls->read = calloc((size_t)p->n_inputs, sizeof *ls->read);
    ls->sources = calloc((size_t)p->n_inputs, sizeof *ls->sources);
    ls->inputs = calloc((size_t)p->n_inputs, sizeof *ls->inputs);
    ls->dims = calloc((size_t)p->n_inputs * KV_MAX_SOURCES, sizeof *ls->dims);
    if (!ls->read || !ls->sources || !ls->inputs || !ls->dims) return false;
    for (int64_t i = 0; i < p->n_inputs; i++) {
        ls->sources[i] = *p->inputs[i].sources;
        ls->read[i] = p->inputs[i];
        ls->read[i].sources = &ls->sources[i];
        int64_t *dims = ls->dims + i * KV_MAX_SOURCES;
        memcpy(dims, p->inputs[i].dims, (size_t)ls->sources[i].n * sizeof *dims);
        ls->read[i].dims = dims;
        ls->inputs[i] = (struct kv_input_sums){p->inputs[i].n_blocks,
                                               p->inputs[i].dim / p->inputs[i].n_blocks, NULL, NULL};
    }
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = ls->layers.first; i < ls->layers.end; i++)
            if (!allocate_target(ls, p, side, i)) return false;
    return true;
}

static kv_layer_range all_layers(const kv_predictor *predictor) {
    return (kv_layer_range){0, predictor->spec.n_base_layers};
}

kv_status kv_least_squares_create(const kv_predictor *predictor, kv_least_squares **ls, kv_error *err) {
    return kv_least_squares_create_part(predictor, all_layers(predictor), ls, err);
}

kv_status kv_least_squares_create_part(const kv_predictor *predictor, kv_layer_range layers,
                                       kv_least_squares **ls, kv_error *err) {
    *ls = NULL;
    kv_least_squares *s = calloc(1, sizeof *s);
    if (s) s->layers = layers;
    if (!s || !allocate(s, predictor)) {
        kv_least_squares_free(s);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
    }
    *ls = s;
    return KV_OK;
}

static bool has_table(const kv_predictor *p, int side, int64_t layer) {
    return p->spec.outputs[side][layer].table == KV_TABLE_FULL && !p->outputs[side][layer].map.kind->exact;
}

kv_status kv_least_squares_tables(kv_least_squares *ls, const kv_predictor *predictor, kv_error *err) {
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = ls->layers.first; i < ls->layers.end; i++) {
            struct kv_target_sums *t = &ls->target[side][i];
            struct kv_input_sums *in = &ls->inputs[t->input];
            if (!has_table(predictor, side, i)) continue;
            ls->vocab_size = predictor->outputs[side][i].table.rows;
            const int64_t rows = in->n_blocks * ls->vocab_size;
            t->tokens = calloc((size_t)(rows * t->dim), sizeof *t->tokens);
            if (!in->tokens) in->tokens = calloc((size_t)(rows * (in->dim + 1)), sizeof *in->tokens);
            if (!t->tokens || !in->tokens)
                return kv_fail(err, KV_ERR_MEMORY, "out of memory for the sums of each token");
        }
    return KV_OK;
}

void kv_least_squares_fast(kv_least_squares *ls, bool fast) {
    ls->fast = fast;
}

void kv_least_squares_free(kv_least_squares *ls) {
    if (!ls) return;
    for (int64_t i = 0; ls->inputs && i < ls->n_inputs; i++) {
        free(ls->inputs[i].gram);
        free(ls->inputs[i].tokens);
    }
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = ls->layers.first; i < ls->layers.end; i++) {
            free(ls->target[side][i].xty);
            free(ls->target[side][i].square);
            free(ls->target[side][i].tokens);
        }
    free(ls->read);
    free(ls->sources);
    free(ls->dims);
    free(ls->inputs);
    free(ls);
}

// ---- Adding --------------------------------------------------------------------------------------------

// Rows that are added at once, and room to work in. With `fast` x, y and the product are floats.
struct chunk {
    const int64_t *rows; // [n]
    int64_t n;
    double *x, *y;  // [n, the widest] each
    float *product; // [the widest, the widest]; NULL unless fast
};

// Columns [first, first + cols) of the kept rows of x, each at the beginning of `width` of them.
static void take_rows(const struct chunk *chunk, const kv_tensor *x, int64_t first, int64_t cols,
                      int64_t width, double *out) {
    const bool fast = chunk->product;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < chunk->n; r++) {
        const float *from = x->data + chunk->rows[r] * x->cols + first;
        double *wide = out + r * width;
        float *narrow = (float *)out + r * width;
        if (fast)
            memcpy(narrow, from, (size_t)cols * sizeof *narrow);
        else
            for (int64_t c = 0; c < cols; c++) wide[c] = (double)from[c];
    }
}

// sums[m, cols] += xᵀ·y.
static void add_product(const struct chunk *chunk, int64_t m, const double *y, int64_t cols, double *sums) {
    if (!chunk->product) {
        kv_gemm_tn_f64(m, cols, chunk->n, chunk->x, y, sums);
        return;
    }
    kv_gemm_tn(m, cols, chunk->n, (const float *)chunk->x, m, (const float *)y, cols, 0, chunk->product,
               cols);
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < m * cols; i++) sums[i] += (double)chunk->product[i];
}

static void add_squares(const struct chunk *chunk, int64_t dim, double *square) {
    const float *narrow = (const float *)chunk->y;
    for (int64_t r = 0; r < chunk->n; r++)
        for (int64_t c = 0; c < dim; c++) {
            const double y = chunk->product ? (double)narrow[r * dim + c] : chunk->y[r * dim + c];
            square[c] += y * y;
        }
}

static void add_target(struct kv_target_sums *t, const kv_tensor *base, int64_t block,
                       const struct chunk *chunk, int64_t width) {
    take_rows(chunk, base, block * t->dim, t->dim, t->dim, chunk->y);
    add_product(chunk, width, chunk->y, t->dim, t->xty + block * width * t->dim);
    add_squares(chunk, t->dim, t->square + block * t->dim);
}

// The same sums of every token apart.
static void add_tokens(kv_least_squares *ls, int64_t i, const kv_tensor *input,
                       kv_tensor *const *const base[KV_SIDES], const int32_t *ids,
                       const struct chunk *chunk) {
    const struct kv_input_sums *in = &ls->inputs[i];
    for (int64_t block = 0; block < in->n_blocks; block++) {
        double *sums = in->tokens + block * ls->vocab_size * (in->dim + 1);
        kv_token_sums_add(sums, in->dim + 1, ids, chunk->rows, chunk->n, input, block * in->dim, in->dim,
                          true);
        for (int side = 0; side < KV_SIDES; side++)
            for (int64_t layer = ls->layers.first; layer < ls->layers.end; layer++) {
                struct kv_target_sums *t = &ls->target[side][layer];
                if (t->tokens && t->input == i)
                    kv_token_sums_add(t->tokens + block * ls->vocab_size * t->dim, t->dim, ids, chunk->rows,
                                      chunk->n, base[side][layer], block * t->dim, t->dim, false);
            }
    }
}

// All that is regressed on input i.
static void add_input(kv_least_squares *ls, int64_t i, const kv_tensor *input,
                      kv_tensor *const *const base[KV_SIDES], const struct chunk *chunk) {
    struct kv_input_sums *in = &ls->inputs[i];
    const int64_t width = in->dim + 1;
    for (int64_t block = 0; block < in->n_blocks; block++) {
        take_rows(chunk, input, block * in->dim, in->dim, width, chunk->x);
        for (int64_t r = 0; r < chunk->n; r++) {
            const int64_t last = r * width + width - 1;
            if (chunk->product)
                ((float *)chunk->x)[last] = 1;
            else
                chunk->x[last] = 1;
        }
        add_product(chunk, width, chunk->x, width, in->gram + block * kv_gram_size(in));
        for (int side = 0; side < KV_SIDES; side++)
            for (int64_t layer = ls->layers.first; layer < ls->layers.end; layer++) {
                struct kv_target_sums *t = &ls->target[side][layer];
                if (t->xty && t->input == i) add_target(t, base[side][layer], block, chunk, width);
            }
    }
}

static int64_t widest(const kv_least_squares *ls) {
    int64_t most = 0;
    for (int64_t i = 0; i < ls->n_inputs; i++)
        if (ls->inputs[i].dim + 1 > most) most = ls->inputs[i].dim + 1;
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = ls->layers.first; i < ls->layers.end; i++)
            if (ls->target[side][i].dim > most) most = ls->target[side][i].dim;
    return most;
}

kv_status kv_least_squares_add(kv_least_squares *ls, kv_tape *tape, const kv_taps *taps,
                               kv_tensor *const *base_raw_k, kv_tensor *const *base_v, const uint8_t *keep,
                               kv_error *err) {
    kv_tensor *const *const base[KV_SIDES] = {base_raw_k, base_v};
    const int64_t total = taps->n, most = widest(ls);
    int64_t *rows = malloc((size_t)(total + 1) * sizeof *rows), n = 0;
    double *x = malloc((size_t)(2 * (total + 1) * most) * sizeof *x);
    float *product = ls->fast ? malloc((size_t)(most * most) * sizeof *product) : NULL;
    if (!rows || !x || (ls->fast && !product)) {
        free(rows);
        free(x);
        free(product);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
    }
    for (int64_t r = 0; r < total; r++)
        if (!keep || keep[r]) rows[n++] = r;
    const struct chunk chunk = {rows, n, x, x + total * most, product};
    for (int64_t i = 0; i < ls->n_inputs && kv_tape_status(tape, NULL) == KV_OK; i++) {
        if (!ls->inputs[i].gram) continue;
        const kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
        const kv_tensor *input = kv_predictor_input_tensor(tape, &ls->read[i], taps);
        if (input) add_input(ls, i, input, base, &chunk);
        if (input && ls->inputs[i].tokens) add_tokens(ls, i, input, base, taps->ids, &chunk);
        kv_arena_release(kv_tape_arena(tape), mark);
    }
    ls->n_tokens += n;
    free(rows);
    free(x);
    free(product);
    return kv_tape_status(tape, err);
}

bool kv_least_squares_visit(kv_least_squares *ls, kv_sums_fn *visit, void *what) {
    for (int64_t i = 0; i < ls->n_inputs; i++) {
        const struct kv_input_sums *in = &ls->inputs[i];
        if (in->gram && !visit(in->gram, in->n_blocks * kv_gram_size(in), what)) return false;
        const int64_t rows = in->n_blocks * ls->vocab_size;
        if (in->tokens && !visit(in->tokens, rows * (in->dim + 1), what)) return false;
    }
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t layer = 0; layer < KV_MAX_LAYERS; layer++) {
            const struct kv_target_sums *t = &ls->target[side][layer];
            if (!t->xty) continue;
            const struct kv_input_sums *in = &ls->inputs[t->input];
            if (!visit(t->xty, in->n_blocks * (in->dim + 1) * t->dim, what) ||
                !visit(t->square, in->n_blocks * t->dim, what) ||
                (t->tokens && !visit(t->tokens, in->n_blocks * ls->vocab_size * t->dim, what)))
                return false;
        }
    return true;
}

void kv_least_squares_tell_tokens(kv_least_squares *ls, int64_t n_tokens) {
    ls->n_tokens = n_tokens;
}

// ---- Solving -------------------------------------------------------------------------------------------

// residual [output_dim]: to work in.
static void add_variance(const kv_ridge_solution *s, const double *square, double *residual,
                         struct kv_variance *sum) {
    kv_ridge_residuals(s, square, residual);
    for (int64_t c = 0; c < s->output_dim; c++) {
        const double of_y = s->xty[s->input_dim * s->output_dim + c];
        sum->residual += residual[c];
        sum->total += square[c] - of_y * of_y / (double)s->n_tokens;
    }
}

// The first source of an input whose squares are no numbers.
static kv_source bad_source(const kv_least_squares *ls, int64_t input) {
    const struct kv_input_sums *in = &ls->inputs[input];
    const kv_sources *sources = &ls->sources[input];
    const int64_t *dims = ls->read[input].dims;
    for (int64_t block = 0; block < in->n_blocks; block++) {
        const double *gram = in->gram + block * kv_gram_size(in);
        for (int64_t c = 0, k = 0, end = dims[0] / in->n_blocks; c < in->dim; c++) {
            while (c >= end) end += dims[++k] / in->n_blocks;
            if (!isfinite(gram[c * (in->dim + 1) + c])) return sources->at[k];
        }
    }
    return sources->at[0];
}

static void name_source(kv_source source, char what[64]) {
    static const char *const of[KV_SOURCE_KINDS] = {
        "the aux's keys",  "the aux's values",  "the aux's inputs", "the base's embeddings",
        "the base's keys", "the base's values", "the base's inputs"};
    if (kv_source_of_token(source))
        snprintf(what, 64, "%s", of[source.kind]);
    else
        snprintf(what, 64, "%s of layer %d", of[source.kind], source.layer);
}

// LAPACK would solve sums that are no numbers as well, and a comparison with them call the result a zero.
kv_status kv_sums_check(const kv_least_squares *ls, int side, int64_t layer, kv_error *err) {
    const struct kv_target_sums *t = &ls->target[side][layer];
    const struct kv_input_sums *in = &ls->inputs[t->input];
    if (!kv_ridge_finite(in->gram, in->n_blocks * kv_gram_size(in))) {
        char what[64];
        name_source(bad_source(ls, t->input), what);
        return kv_fail(err, KV_ERR_NOT_FINITE,
                       "%s are not finite: its weights are NaN or infinite, or its numbers grew too large",
                       what);
    }
    if (!kv_ridge_finite(t->square, in->n_blocks * t->dim))
        return kv_fail(
            err, KV_ERR_NOT_FINITE,
            "the base's %s of layer %lld are not finite: its weights are NaN or infinite, or its numbers "
            "grew too large",
            kv_side_names[side], (long long)layer);
    return KV_OK;
}

kv_status kv_sums_solve(kv_ridge_solution *s, double ridge, double *room, int64_t layer, kv_error *err) {
    if (kv_ridge_solve(s, ridge, room)) return KV_OK;
    return kv_fail(
        err, KV_ERR_ARGUMENT,
        "least squares for base layer %lld is singular (%lld tokens for %lld unknowns per output): "
        "more tokens or a ridge above 0 are needed",
        (long long)layer, (long long)s->n_tokens, (long long)s->input_dim + 1);
}

static kv_token_fit fit_of(const kv_least_squares *ls, const struct kv_target_sums *t, int64_t block) {
    const struct kv_input_sums *in = &ls->inputs[t->input];
    return (kv_token_fit){.vocab_size = ls->vocab_size,
                          .input_dim = in->dim,
                          .output_dim = t->dim,
                          .x = in->tokens + block * ls->vocab_size * (in->dim + 1),
                          .y = t->tokens + block * ls->vocab_size * t->dim};
}

// The same regression with what tokens explain taken out of it; and then their rows. `less`: what these explain.
static kv_status solve_with_table(const kv_least_squares *ls, const struct kv_target_sums *t, int64_t block,
                                  const kv_ridge_solution *all, double ridge, double *room, int64_t layer,
                                  kv_predictor_output *output, double *less, kv_error *err) {
    const kv_token_fit fit = fit_of(ls, t, block);
    const int64_t rows = all->input_dim + 1;
    double *gram = malloc((size_t)(rows * (rows + t->dim)) * sizeof *gram), *xty = gram + rows * rows;
    kv_ridge_solution s = *all;
    s.gram = gram, s.xty = xty;
    if (gram) {
        memcpy(gram, all->gram, (size_t)(rows * rows) * sizeof *gram);
        memcpy(xty, all->xty, (size_t)(rows * t->dim) * sizeof *xty);
    }
    kv_status status = gram && kv_token_fit_reduce(&fit, gram, xty)
                           ? kv_sums_solve(&s, ridge, room, layer, err)
                           : kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
    if (status == KV_OK) status = output->map.kind->take(&output->map, block, &s, err);
    if (status == KV_OK)
        *less = kv_token_fit_rows(&fit, s.weights, (float *)output->table.data + block * t->dim,
                                  output->table.cols);
    free(gram);
    return status;
}

static kv_status solve_output(const kv_least_squares *ls, int side, int64_t layer, double ridge,
                              kv_predictor_output *output, double *r2, kv_error *err) {
    const struct kv_target_sums *t = &ls->target[side][layer];
    const struct kv_input_sums *in = &ls->inputs[t->input];
    const int64_t rows = in->dim + 1;
    double *a = malloc((size_t)(rows * (rows + t->dim) + t->dim) * sizeof *a);
    if (!a) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the normal equations");
    struct kv_variance variance = {0};
    kv_status status = KV_OK;
    for (int64_t block = 0; block < in->n_blocks && status == KV_OK; block++) {
        kv_ridge_solution s = {.n_tokens = ls->n_tokens,
                               .input_dim = in->dim,
                               .output_dim = t->dim,
                               .gram = in->gram + block * kv_gram_size(in),
                               .xty = t->xty + block * rows * t->dim,
                               .weights = a + rows * rows};
        double less = 0;
        if (t->tokens)
            status = solve_with_table(ls, t, block, &s, ridge, a, layer, output, &less, err);
        else
            status = kv_sums_solve(&s, ridge, a, layer, err);
        if (status == KV_OK && !t->tokens) status = output->map.kind->take(&output->map, block, &s, err);
        if (status == KV_OK && r2)
            add_variance(&s, t->square + block * t->dim, a + rows * (rows + t->dim), &variance);
        variance.residual -= less;
    }
    if (r2) *r2 = variance.total > 0 ? 1 - variance.residual / variance.total : 0;
    free(a);
    return status;
}

kv_status kv_least_squares_solve_one(const kv_least_squares *ls, kv_side side, int64_t layer, double ridge,
                                     kv_predictor *predictor, double *r2, kv_error *err) {
    if (ls->n_tokens == 0) return kv_fail(err, KV_ERR_ARGUMENT, "least squares was given no tokens");
    if (r2) *r2 = 1;
    if (!ls->target[side][layer].xty) return KV_OK;
    const kv_status status = kv_sums_check(ls, side, layer, err);
    if (status != KV_OK) return status;
    return solve_output(ls, side, layer, ridge, &predictor->outputs[side][layer], r2, err);
}

kv_status kv_least_squares_solve(const kv_least_squares *ls, double ridge, kv_predictor *predictor,
                                 double *k_r2, double *v_r2, kv_error *err) {
    double *const r2[KV_SIDES] = {k_r2, v_r2};
    kv_status status = KV_OK;
    for (int64_t i = ls->layers.first; i < ls->layers.end && status == KV_OK; i++)
        for (int side = 0; side < KV_SIDES && status == KV_OK; side++)
            status = kv_least_squares_solve_one(ls, (kv_side)side, i, ridge, predictor,
                                                r2[side] ? r2[side] + i : NULL, err);
    return status;
}
