// Speeds, for `./kv bench`: every figure beside the matrix-product peak measured in the same run.
#include "core/flops.h"
#include "core/gemm.h"
#include "core/objective.h"
#include "core/optimizer.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[n / 2];
}

enum { REPEATS = 7 };

static double peak_gflops(void) {
    enum { N = 1536 };
    float *a = malloc(3 * N * N * sizeof *a);
    if (!a) return 0;
    for (int i = 0; i < 3 * N * N; i++) a[i] = (float)(i % 7) - 3;
    double seconds[REPEATS];
    for (int r = 0; r < REPEATS; r++) {
        double start = now();
        kv_gemm_nt(N, N, N, a, N, a + N * N, N, 0, a + 2 * N * N, N);
        seconds[r] = now() - start;
    }
    free(a);
    return 2.0 * N * N * N / median(seconds, REPEATS) / 1e9;
}

static kv_model_spec small_spec(int64_t layers, int64_t dim, int64_t head_dim, int64_t heads,
                                int64_t kv_heads, int64_t ffn) {
    kv_model_spec s = {.model_type = "openelm",
                       .vocab_size = 1024,
                       .model_dim = dim,
                       .head_dim = head_dim,
                       .n_layers = layers,
                       .context_length = 512,
                       .qk_norm = true,
                       .tied_head = true,
                       .norm_eps = 1e-6f,
                       .rope = {.theta = 10000},
                       .bos_id = 1,
                       .eos_id = 2};
    for (int64_t i = 0; i < layers; i++) s.layers[i] = (kv_layer_spec){heads, kv_heads, ffn};
    return s;
}

struct training {
    kv_model *base, *aux;
    kv_predictor *predictor;
    kv_tape *tape;
    kv_param *params[4096];
    int64_t n_params;
    kv_adamw *optimizer;
    int32_t *ids;
    int64_t n_seq, seq_len, micro;
};

static void step(struct training *t) {
    kv_grad_zero(t->params, t->n_params);
    for (int64_t s = 0; s < t->n_seq; s += t->micro) {
        kv_batch batch = {.input_ids = t->ids + s * t->seq_len,
                          .target_ids = t->ids + s * t->seq_len + 1,
                          .n_seq = t->micro,
                          .seq_len = t->seq_len,
                          .ignore_index = -1,
                          .n_valid = (double)(t->n_seq * t->seq_len)};
        kv_tape_reset(t->tape);
        kv_tensor *loss;
        if (t->predictor)
            loss = kv_kvp_objective(t->tape, t->base, t->aux, t->predictor, &batch,
                                    &(kv_kvp_weights){.base = 1, .aux = 0.3f, .consistency = 0.25f, .kl = 2},
                                    NULL, NULL);
        else
            loss = kv_lm_objective(t->tape, t->base, &batch, &(kv_lm_weights){.ce = 1}, NULL);
        if (kv_tape_backward(t->tape, loss, NULL) != KV_OK) exit(1);
    }
    double norm = kv_grad_norm(t->params, t->n_params);
    kv_adamw_step(t->optimizer, 1e-3, kv_clip_scale(norm, 1));
}

static void bench_training(const char *name, const kv_model_spec *base, const kv_model_spec *aux,
                           int64_t n_seq, int64_t seq_len, int64_t micro, double peak) {
    struct training t = {.n_seq = n_seq, .seq_len = seq_len, .micro = micro, .tape = kv_tape_create()};
    kv_error err;
    if (kv_model_create(base, KV_F32, true, &t.base, &err) != KV_OK) exit(1);
    kv_model_init(t.base, 1);
    if (aux) {
        int32_t mapping[KV_MAX_LAYERS];
        kv_mapping_separate(base->n_layers, aux->n_layers, mapping);
        if (kv_model_create(aux, KV_F32, true, &t.aux, &err) != KV_OK) exit(1);
        if (kv_predictor_create(base, aux, mapping, &t.predictor, &err) != KV_OK) exit(1);
        kv_model_init(t.aux, 2);
        kv_predictor_init(t.predictor, 3);
        kv_predictor_set_trainable(t.predictor, true, &err);
    }
    kv_model *trained = aux ? t.aux : t.base;
    kv_model_set_trainable(trained, true, &err);
    t.n_params = kv_model_params(trained, t.params);
    if (aux) t.n_params += kv_predictor_params(t.predictor, t.params + t.n_params);
    kv_adamw_create(t.params, t.n_params, &(kv_adamw_args){0.9f, 0.95f, 1e-8f, 0.1f}, &t.optimizer, &err);
    t.ids = malloc((size_t)(n_seq * seq_len + 1) * sizeof *t.ids);
    kv_rng rng = {.seed = 1};
    for (int64_t i = 0; i <= n_seq * seq_len; i++) t.ids[i] = (int32_t)kv_rng_below(rng, (uint64_t)i, 1024);
    step(&t);
    double seconds[REPEATS];
    kv_gemm_flops_reset();
    for (int r = 0; r < REPEATS; r++) {
        double start = now();
        step(&t);
        seconds[r] = now() - start;
    }
    double flops = (double)kv_gemm_flops() / REPEATS, s = median(seconds, REPEATS);
    printf("%-42s %8.0f tokens/s  %6.1f GFLOP/s  %4.0f %% of peak  %5.1f MB\n", name,
           (double)(n_seq * seq_len) / s, flops / s / 1e9, 100 * flops / s / 1e9 / peak,
           (double)kv_arena_peak(kv_tape_arena(t.tape)) / 1e6);
}

int main(void) {
    double peak = peak_gflops();
    printf("%-42s %27.1f GFLOP/s on %d threads\n", "matrix product, 1536 x 1536 x 1536", peak,
           omp_get_max_threads());
    kv_model_spec base = small_spec(4, 96, 24, 4, 2, 256), aux = small_spec(2, 24, 12, 2, 1, 64);
    bench_training("train base 4 x 96, 48 x 96 tokens", &base, NULL, 48, 96, 48, peak);
    bench_training("  in micro-batches of 16", &base, NULL, 48, 96, 16, peak);
    bench_training("  in micro-batches of 8", &base, NULL, 48, 96, 8, peak);
    bench_training("  in micro-batches of 4", &base, NULL, 48, 96, 4, peak);
    bench_training("train aux 2 x 24", &aux, NULL, 48, 96, 48, peak);
    bench_training("train predictors between them", &base, &aux, 48, 96, 48, peak);
    bench_training("  in micro-batches of 16", &base, &aux, 48, 96, 16, peak);
    bench_training("  in micro-batches of 8", &base, &aux, 48, 96, 8, peak);
    return 0;
}
