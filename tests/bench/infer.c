// Prefill and decoding of a published shape, in float32 and bf16, one prompt and eight: tokens a second and the
// share of the peak that the matrix products reach.
#include "tests/bench/bench.h"

#include "core/gemm.h"
#include "data/checkpoint/checkpoint.h"
#include "infer/session/engine.h"

#include <stdio.h>
#include <stdlib.h>

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
    double reading[BENCH_REPEATS], decoding[BENCH_REPEATS];
    prefill(i);
    for (int r = 0; r < BENCH_REPEATS; r++) {
        kv_gemm_flops_reset();
        double start = bench_now();
        prefill(i);
        reading[r] = bench_now() - start;
        *read_flops = kv_gemm_flops();
        kv_gemm_flops_reset();
        start = bench_now();
        if (kv_session_decode(i->session, i->ids, NULL, i->logits, NULL) != KV_OK) exit(1);
        decoding[r] = bench_now() - start;
        *decoded_flops = kv_gemm_flops();
    }
    *read = bench_median(reading, BENCH_REPEATS), *decoded = bench_median(decoding, BENCH_REPEATS);
}

static void time_prompts(const char *type, kv_model *model, double bytes, int64_t n_seq, int64_t n_tokens,
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
    bench_print(name, (double)n, (double)read_flops, read, bytes, peak);
    snprintf(name, sizeof name, "decode 270M, %s, x %lld", type, (long long)n_seq);
    bench_print(name, (double)n_seq, (double)decoded_flops, decoded, bytes, peak);
    kv_session_free(i.session);
    free(i.ids);
    free(i.lengths);
    free(i.logits);
}

void bench_inference(const char *type, double peak) {
    char name[64];
    kv_model *model;
    kv_error err;
    snprintf(name, sizeof name, "random:openelm-270m:%s", type);
    const double start = bench_now();
    if (kv_checkpoint_load(name, &model, &err) != KV_OK) bench_fail(&err);
    const double bytes = (double)kv_model_size(model, true) * (double)kv_dtype_size(model->embed.dtype);
    printf("%-42s %8.2f s\n", name, bench_now() - start);
    time_prompts(type, model, bytes, 1, 128, peak);
    time_prompts(type, model, bytes, 8, 59, peak);
    kv_model_free(model);
}
