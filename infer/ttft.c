#include "infer/ttft.h"

#include "core/rng.h"

#include <stdlib.h>
#include <string.h>

struct bench {
    const kv_system *systems;
    const kv_ttft_args *args;
    int64_t n;
    kv_session **sessions; // [n]
    int32_t *ids;          // [batch_size, prompt_tokens]
    int64_t *lengths;      // [batch_size]
    int32_t *first;        // [batch_size]
    float *logits;         // [batch_size, largest vocabulary]
    double *samples;       // [n, repeats]
};

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Between the samples: linear interpolation.
static double quantile(const double *sorted, int64_t n, double q) {
    const double place = q * (double)(n - 1);
    const int64_t below = (int64_t)place;
    const int64_t above = below + 1 < n ? below + 1 : below;
    return sorted[below] + (place - (double)below) * (sorted[above] - sorted[below]);
}

kv_ttft kv_ttft_summary(double *samples, int64_t n) {
    qsort(samples, (size_t)n, sizeof *samples, compare_doubles);
    return (kv_ttft){.seconds = quantile(samples, n, 0.5),
                     .spread = (quantile(samples, n, 0.75) - quantile(samples, n, 0.25)) / 2};
}

static void free_bench(struct bench *b) {
    for (int64_t i = 0; b->sessions && i < b->n; i++) kv_session_free(b->sessions[i]);
    free(b->sessions);
    free(b->ids);
    free(b->lengths);
    free(b->first);
    free(b->logits);
    free(b->samples);
}

static kv_status prepare_bench(struct bench *b, kv_error *err) {
    const int64_t n_seq = b->args->batch_size, n_tokens = b->args->prompt_tokens;
    int64_t vocab_size = 0, smallest = INT64_MAX, n_ids;
    for (int64_t i = 0; i < b->n; i++) {
        const int64_t size = b->systems[i].base->spec.vocab_size;
        vocab_size = size > vocab_size ? size : vocab_size;
        smallest = size < smallest ? size : smallest;
    }
    if (__builtin_mul_overflow(n_seq, n_tokens, &n_ids))
        return kv_fail(err, KV_ERR_ARGUMENT, "a batch of %lld x %lld tokens is too large", (long long)n_seq,
                       (long long)n_tokens);
    b->sessions = calloc((size_t)b->n, sizeof *b->sessions);
    b->ids = calloc((size_t)n_ids, sizeof *b->ids);
    b->lengths = calloc((size_t)n_seq, sizeof *b->lengths);
    b->first = calloc((size_t)n_seq, sizeof *b->first);
    b->logits = calloc((size_t)n_seq * (size_t)vocab_size, sizeof *b->logits);
    b->samples = calloc((size_t)(b->n * b->args->repeats), sizeof *b->samples);
    if (!b->sessions || !b->ids || !b->lengths || !b->first || !b->logits || !b->samples)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of %lld x %lld tokens",
                       (long long)n_seq, (long long)n_tokens);
    const kv_rng rng = kv_rng_stream(b->args->seed, "ttft.prompts");
    for (int64_t i = 0; i < n_ids; i++)
        b->ids[i] = (int32_t)kv_rng_below(rng, (uint64_t)i, (uint64_t)smallest);
    for (int64_t s = 0; s < n_seq; s++) b->lengths[s] = n_tokens;
    for (int64_t i = 0; i < b->n; i++) {
        kv_status status = kv_session_create(&b->systems[i], n_seq, n_tokens, &b->sessions[i], err);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

static kv_status time_prefill(const struct bench *b, int64_t system, double *seconds, kv_error *err) {
    kv_session *session = b->sessions[system];
    kv_session_reset(session);
    const double start = kv_now();
    kv_status status = kv_session_prefill(session, b->ids, b->lengths, b->logits, err);
    if (status != KV_OK) return status;
    kv_argmax(b->logits, b->args->batch_size, kv_session_vocab_size(session), b->first);
    *seconds = kv_now() - start;
    return KV_OK;
}

static kv_status run_bench(const struct bench *b, kv_progress *progress, kv_error *err) {
    int64_t done = 0;
    for (int64_t r = -1; r < b->args->repeats; r++) // -1 warms caches and memory up
        for (int64_t i = 0; i < b->n; i++) {
            if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
            double seconds;
            kv_status status = time_prefill(b, i, &seconds, err);
            if (status != KV_OK) return status;
            if (r < 0) continue;
            b->samples[i * b->args->repeats + r] = seconds;
            if (progress) kv_progress_show(progress, ++done, NULL);
        }
    return KV_OK;
}

kv_status kv_ttft_measure(const kv_system *systems, int64_t n, const kv_ttft_args *args,
                          kv_progress *progress, kv_ttft *ttft, double *samples, kv_error *err) {
    if (n < 1) return KV_OK;
    if (args->prompt_tokens < 1 || args->batch_size < 1 || args->repeats < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "timing needs at least one token, one sequence and one repeat");
    struct bench b = {.systems = systems, .args = args, .n = n};
    kv_status status = prepare_bench(&b, err);
    if (status == KV_OK) status = run_bench(&b, progress, err);
    if (status == KV_OK) {
        if (samples) memcpy(samples, b.samples, (size_t)(n * args->repeats) * sizeof *samples);
        for (int64_t i = 0; i < n; i++)
            ttft[i] = kv_ttft_summary(b.samples + i * args->repeats, args->repeats);
    }
    free_bench(&b);
    return status;
}
