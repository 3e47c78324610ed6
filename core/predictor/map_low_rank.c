// y = (x · Dᵀ) · Uᵀ + b, with D [rank, inputs] and U [outputs, rank].
//
// Of a regression it takes the best of its rank: the full solution projected onto the r leading principal
// directions of what that fits, W_r = V·Vᵀ·W with V the leading eigenvectors of W·(XᵀX + ridge)·Wᵀ, all
// centred; U is V, D is Vᵀ·W.
//                                                   [Mukherjee & Zhu 2011, reduced rank ridge regression]
#include "core/predictor/map.h"

#include <stdlib.h>
#include <string.h>

// Eigenvalues in rising order, and eigenvectors one after the other, of a symmetric matrix: OpenBLAS's
// LAPACK.
extern void dsyev_(const char *jobs, const char *uplo, const int *n, double *a, const int *lda,
                   double *values, double *work, const int *n_work, int *info, size_t jobs_length,
                   size_t uplo_length);

enum { DOWN, UP, BIAS };

static kv_status check(const kv_map_shape *shape, kv_error *err) {
    const int64_t in = shape->input_dim / shape->n_blocks, out = shape->output_dim / shape->n_blocks;
    const int64_t most = in < out ? in : out;
    if (shape->width >= 1 && shape->width <= most) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "rank %lld, expected 1 to %lld: the map makes %lld features of %lld",
                   (long long)shape->width, (long long)most, (long long)out, (long long)in);
}

static int64_t params(const kv_map_shape *shape, kv_map_param *params) {
    const int64_t in = shape->input_dim / shape->n_blocks, rank = shape->width;
    params[DOWN] =
        (kv_map_param){"down.weight", rank * shape->n_blocks, in, .matrix = true, .reads_input = true};
    params[UP] = (kv_map_param){"up.weight", shape->output_dim, rank, .matrix = true};
    params[BIAS] = (kv_map_param){.name = "bias", .rows = 1, .cols = shape->output_dim};
    return 3;
}

static kv_tensor *forward(kv_tape *tape, kv_map *map, const kv_map_input *input) {
    kv_tensor *low = kv_map_read(tape, map, input, DOWN, -1);
    return kv_linear_blocks(tape, low, &map->params[UP], &map->params[BIAS], map->shape.n_blocks);
}

static int64_t inner(const kv_map_shape *shape) {
    return shape->width * shape->n_blocks;
}

// ---- The best of a rank --------------------------------------------------------------------------------

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
static void fitted_moments(const kv_ridge_solution *s, double *moments) {
    const int64_t in = s->input_dim, dim = s->output_dim;
    const double *x_sum = s->gram + in * (in + 1), *y_sum = s->xty + in * dim;
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < dim; o++) {
        double *row = moments + o * dim, mean = 0;
        memset(row, 0, (size_t)dim * sizeof *row);
        for (int64_t i = 0; i < in; i++) {
            const double factor = s->weights[o * (in + 1) + i];
            for (int64_t c = 0; c < dim; c++) row[c] += factor * s->xty[i * dim + c];
            mean += factor * x_sum[i] / (double)s->n_tokens;
        }
        for (int64_t c = 0; c < dim; c++) row[c] -= mean * y_sum[c];
    }
}

// W becomes up·down, up [dim, rank] being the leading of `vectors` as columns and down [rank, in] its
// transpose times W; the constant follows, so that the mean is still met.
static void project(const kv_ridge_solution *s, const double *vectors, int64_t rank, float *up, float *down,
                    double *scratch) {
    const int64_t in = s->input_dim, dim = s->output_dim;
    const double *x_sum = s->gram + in * (in + 1), *y_sum = s->xty + in * dim;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rank; r++) {
        const double *vector = vectors + (dim - 1 - r) * dim;
        double *row = scratch + r * in;
        memset(row, 0, (size_t)in * sizeof *row);
        for (int64_t o = 0; o < dim; o++) {
            up[o * rank + r] = (float)vector[o];
            for (int64_t i = 0; i < in; i++) row[i] += vector[o] * s->weights[o * (in + 1) + i];
        }
        for (int64_t i = 0; i < in; i++) down[r * in + i] = (float)row[i];
    }
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < dim; o++) {
        double *row = s->weights + o * (in + 1), mean = 0;
        memset(row, 0, (size_t)in * sizeof *row);
        for (int64_t r = 0; r < rank; r++)
            for (int64_t i = 0; i < in; i++) row[i] += vectors[(dim - 1 - r) * dim + o] * scratch[r * in + i];
        for (int64_t i = 0; i < in; i++) mean += row[i] * x_sum[i];
        row[in] = (y_sum[o] - mean) / (double)s->n_tokens;
    }
}

static int64_t work(const kv_map_shape *shape) {
    const int64_t in = shape->input_dim / shape->n_blocks, out = shape->output_dim / shape->n_blocks;
    return out * out + out + shape->width * in;
}

static kv_status take(kv_map *map, int64_t block, const kv_ridge_solution *s, kv_error *err) {
    const size_t dim = (size_t)s->output_dim, rank = (size_t)map->shape.width, in = (size_t)s->input_dim;
    double *moments = malloc((dim * dim + dim + rank * in) * sizeof *moments);
    if (!moments) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the rank of a map");
    double *values = moments + dim * dim, *scratch = values + dim;
    fitted_moments(s, moments);
    kv_status status = eigenvectors(s->output_dim, moments, values, err);
    if (status == KV_OK) {
        float *up = (float *)map->params[UP].data + (size_t)block * dim * rank;
        float *down = (float *)map->params[DOWN].data + (size_t)block * rank * in;
        project(s, moments, map->shape.width, up, down, scratch);
        kv_ridge_store(s, block, NULL, &map->params[BIAS]);
    }
    free(moments);
    return status;
}

const kv_map_kind kv_map_low_rank = {.name = "low_rank",
                                     .width_name = "rank",
                                     .check = check,
                                     .params = params,
                                     .forward = forward,
                                     .inner = inner,
                                     .work = work,
                                     .take = take};
