// Speeds, for `./kv bench`.
#include "tests/bench/bench.h"

#include "core/gemm.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[n / 2];
}

void bench_fail(const kv_error *err) {
    fprintf(stderr, "kvbench: %s\n", err->message);
    exit(1);
}

void bench_print(const char *name, double tokens, double flops, double seconds, double bytes, double peak) {
    printf("%-42s %8.*f tokens/s  %6.1f GFLOP/s  %4.0f %% of peak  %5.0f MB\n", name,
           tokens / seconds < 100 ? 1 : 0, tokens / seconds, flops / seconds / 1e9,
           100 * flops / seconds / 1e9 / peak, bytes / 1e6);
    fflush(stdout);
}

double bench_peak(void) {
    enum { N = 1536 };
    float *a = malloc(3 * N * N * sizeof *a);
    if (!a) return 0;
    for (int i = 0; i < 3 * N * N; i++) a[i] = (float)(i % 7) - 3;
    double least = INFINITY;
    for (int r = 0; r < BENCH_REPEATS; r++) {
        const double start = bench_now();
        kv_gemm_nt(N, N, N, a, N, a + N * N, N, 0, a + 2 * N * N, N);
        least = fmin(least, bench_now() - start);
    }
    free(a);
    return 2.0 * N * N * N / least / 1e9;
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

static void bench_small_training(double peak) {
    const kv_model_spec base = small_spec(4, 96, 24, 4, 2, 256), aux = small_spec(2, 24, 12, 2, 1, 64);
    const struct {
        const char *name;
        const kv_model_spec *base, *aux;
        int64_t micro;
    } rows[] = {{"train base 4 x 96, 48 x 96 tokens", &base, NULL, 48},
                {"  in micro-batches of 16", &base, NULL, 16},
                {"  in micro-batches of 8", &base, NULL, 8},
                {"  in micro-batches of 4", &base, NULL, 4},
                {"train aux 2 x 24", &aux, NULL, 48},
                {"train predictors between them", &base, &aux, 48},
                {"  in micro-batches of 16", &base, &aux, 16},
                {"  in micro-batches of 8", &base, &aux, 8}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        bench_training(
            rows[i].name,
            &(bench_training_args){.base = rows[i].base,
                                   .aux = rows[i].aux,
                                   .weights = {.base = 1, .aux = 0.3f, .consistency = 0.25f, .kl = 2},
                                   .n_seq = 48,
                                   .seq_len = 96,
                                   .micro = rows[i].micro,
                                   .repeats = BENCH_REPEATS},
            peak);
}

int main(int argc, char **argv) {
    const bool paper = argc == 2 && !strcmp(argv[1], "--paper");
    if (argc > 1 && !paper) {
        fprintf(stderr,
                "usage: ./kv bench [--paper]   (--paper: only the comparison with the paper's code)\n");
        return 2;
    }
    const double peak = bench_peak();
    printf("%-42s %27.1f GFLOP/s on %d threads\n", "matrix product, 1536 x 1536 x 1536", peak,
           omp_get_max_threads());
    if (!paper) {
        bench_small_training(peak);
        bench_inference("f32", peak);
        bench_inference("bf16", peak);
    }
    bench_paper(peak);
    return 0;
}
