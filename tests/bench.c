// Speeds, for `./kv bench`: every figure beside the matrix-product peak measured in the same run.
#include "core/flops.h"
#include "core/gemm.h"
#include "core/objective.h"
#include "core/optimizer.h"
#include "data/checkpoint.h"
#include "infer/engine.h"

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

// ---- Inference -----------------------------------------------------------------------------------------

static void print_speed(const char *name, double tokens, double flops, double seconds, double bytes,
                        double peak) {
    printf("%-42s %8.0f tokens/s  %6.1f GFLOP/s  %4.0f %% of peak  %5.0f MB\n", name, tokens / seconds,
           flops / seconds / 1e9, 100 * flops / seconds / 1e9 / peak, bytes / 1e6);
}

struct inference {
    kv_session *session;
    int32_t *ids;
    int64_t *lengths;
    float *logits;
};

static void prefill(struct inference *i) {
    kv_session_reset(i->session);
    if (kv_session_prefill(i->session, i->ids, i->lengths, i->logits, NULL) != KV_OK) exit(1);
}

// Median seconds of a prefill (and of a decoded token for every sequence behind it), and their operations.
static void time_inference(struct inference *i, double *read, uint64_t *read_flops, double *decoded,
                           uint64_t *decoded_flops) {
    double reading[REPEATS], decoding[REPEATS];
    prefill(i);
    for (int r = 0; r < REPEATS; r++) {
        kv_gemm_flops_reset();
        double start = now();
        prefill(i);
        reading[r] = now() - start;
        *read_flops = kv_gemm_flops();
        kv_gemm_flops_reset();
        start = now();
        if (kv_session_decode(i->session, i->ids, NULL, i->logits, NULL) != KV_OK) exit(1);
        decoding[r] = now() - start;
        *decoded_flops = kv_gemm_flops();
    }
    *read = median(reading, REPEATS), *decoded = median(decoding, REPEATS);
}

static void bench_inference(const char *type, kv_model *model, double bytes, int64_t n_seq, int64_t n_tokens,
                            double peak) {
    const int64_t vocab_size = model->spec.vocab_size, n = n_seq * n_tokens;
    struct inference i;
    if (kv_session_create(&(kv_system){.base = model}, n_seq, n_tokens + 1, &i.session, NULL) != KV_OK)
        exit(1);
    i.ids = malloc((size_t)n * sizeof *i.ids);
    i.lengths = malloc((size_t)n_seq * sizeof *i.lengths);
    i.logits = malloc((size_t)(n_seq * vocab_size) * sizeof *i.logits);
    if (!i.ids || !i.lengths || !i.logits) exit(1);
    const kv_rng rng = {.seed = 2};
    for (int64_t t = 0; t < n; t++) i.ids[t] = (int32_t)kv_rng_below(rng, (uint64_t)t, (uint64_t)vocab_size);
    for (int64_t s = 0; s < n_seq; s++) i.lengths[s] = n_tokens;
    double read, decoded;
    uint64_t read_flops, decoded_flops;
    time_inference(&i, &read, &read_flops, &decoded, &decoded_flops);
    char name[64];
    snprintf(name, sizeof name, "prefill 270M, %s, %lld tokens x %lld", type, (long long)n_tokens,
             (long long)n_seq);
    print_speed(name, (double)n, (double)read_flops, read, bytes, peak);
    snprintf(name, sizeof name, "decode 270M, %s, x %lld", type, (long long)n_seq);
    print_speed(name, (double)n_seq, (double)decoded_flops, decoded, bytes, peak);
    kv_session_free(i.session);
    free(i.ids);
    free(i.lengths);
    free(i.logits);
}

static void bench_published(const char *type, double peak) {
    char name[64];
    kv_model *model;
    kv_error err;
    snprintf(name, sizeof name, "random:openelm-270m:%s", type);
    const double start = now();
    if (kv_checkpoint_load(name, &model, &err) != KV_OK) {
        fprintf(stderr, "kvbench: %s\n", err.message);
        exit(1);
    }
    const double bytes = (double)kv_model_size(model, true) * (double)kv_dtype_size(model->embed.dtype);
    printf("%-42s %8.2f s\n", name, now() - start);
    bench_inference(type, model, bytes, 1, 128, peak);
    bench_inference(type, model, bytes, 8, 59, peak);
    kv_model_free(model);
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
    bench_published("f32", peak);
    bench_published("bf16", peak);
    return 0;
}
