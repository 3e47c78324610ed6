#include "data/cache/build.h"

#include "data/cache/top_logits.h"
#include "data/corpus/packing.h"

#include <stdlib.h>
#include <string.h>

// One batch on its way.
struct build {
    const kv_cache_build_args *args;
    kv_cache_info info;
    kv_tape *tape;
    kv_cache_writer *writer;
    int32_t *tokens; // [n_rows, seq_len + 1] of the whole shard
    int32_t *inputs; // [n_seq, seq_len]
    kv_sequence *sequences;
    int32_t *ids;
    float *logits, *logsumexp;
};

static kv_status allocate(struct build *b, kv_error *err) {
    const size_t n = (size_t)(b->args->n_seq * b->info.seq_len), k = (size_t)b->info.top_k;
    b->tape = kv_tape_create();
    b->tokens = malloc((size_t)(b->info.n_rows * (b->info.seq_len + 1)) * sizeof *b->tokens);
    b->inputs = malloc(n * sizeof *b->inputs);
    b->sequences = malloc((size_t)b->args->n_seq * sizeof *b->sequences);
    b->ids = malloc((n * k + 1) * sizeof *b->ids);
    b->logits = malloc((n * k + 1) * sizeof *b->logits);
    b->logsumexp = malloc((n + 1) * sizeof *b->logsumexp);
    if (!b->tape || !b->tokens || !b->inputs || !b->sequences || !b->ids || !b->logits || !b->logsumexp)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a cache");
    kv_tape_set_recording(b->tape, false);
    const int64_t len = b->info.seq_len;
    for (int64_t s = 0; s < b->args->n_seq; s++) b->sequences[s] = (kv_sequence){s * len, len, s * len, len};
    return KV_OK;
}

static void clean_up(struct build *b) {
    kv_cache_writer_free(b->writer);
    kv_tape_free(b->tape);
    free(b->tokens);
    free(b->inputs);
    free(b->sequences);
    free(b->ids);
    free(b->logits);
    free(b->logsumexp);
}

static kv_status add_rows(struct build *b, int64_t first, int64_t n, kv_error *err) {
    const kv_cache_build_args *a = b->args;
    const int64_t len = b->info.seq_len, n_tokens = n * len;
    kv_tensor *base_k[KV_MAX_LAYERS], *base_v[KV_MAX_LAYERS], *aux_k[KV_MAX_LAYERS], *aux_v[KV_MAX_LAYERS];
    const int32_t *tokens = b->tokens + first * (len + 1);
    for (int64_t r = 0; r < n; r++)
        memcpy(b->inputs + r * len, tokens + r * (len + 1), (size_t)len * sizeof *b->inputs);
    kv_tape_reset(b->tape);
    kv_pass pass = {.sequences = b->sequences,
                    .n_sequences = n,
                    .raw_k = base_k,
                    .v = base_v,
                    .only_kv = b->info.top_k == 0};
    kv_tensor *hidden = kv_model_forward(b->tape, a->base, b->inputs, n_tokens, &pass);
    pass.raw_k = aux_k, pass.v = aux_v, pass.only_kv = true;
    if (a->aux) kv_model_forward(b->tape, a->aux, b->inputs, n_tokens, &pass);
    kv_status status = kv_tape_status(b->tape, err);
    if (status == KV_OK && b->info.top_k > 0)
        status = kv_top_logits(b->tape, a->base, hidden, b->info.top_k, kv_cache_temperature(&b->info),
                               b->ids, b->logits, b->logsumexp, err);
    if (status != KV_OK) return status;
    const kv_cache_rows rows = {.n_rows = n,
                                .tokens = tokens,
                                .base_raw_k = base_k,
                                .base_v = base_v,
                                .aux_raw_k = a->aux ? aux_k : NULL,
                                .aux_v = a->aux ? aux_v : NULL,
                                .topk = {b->info.top_k, b->ids, b->logits, b->logsumexp}};
    return kv_cache_writer_add(b->writer, &rows, err);
}

kv_status kv_cache_build(const char *path, const kv_shard *shard, const kv_cache_info *info,
                         const kv_cache_build_args *args, kv_error *err) {
    struct build b = {.args = args, .info = *info};
    kv_key_norms norms;
    kv_model_key_norms(args->base, &norms);
    b.info.n_rows = kv_packed_rows(shard->n_tokens, info->seq_len);
    memcpy(b.info.shard, shard->hash, sizeof b.info.shard);
    kv_status status = allocate(&b, err);
    if (status == KV_OK) status = kv_packed_cut(shard, info->seq_len, b.tokens, err);
    if (status == KV_OK) status = kv_cache_writer_open(path, &b.info, &norms, &b.writer, err);
    for (int64_t row = 0; status == KV_OK && row < b.info.n_rows; row += args->n_seq) {
        const int64_t n = b.info.n_rows - row < args->n_seq ? b.info.n_rows - row : args->n_seq;
        status = add_rows(&b, row, n, err);
        if (status == KV_OK && args->progress)
            status = args->progress(args->context, row + n, kv_cache_writer_bytes(b.writer), err);
    }
    if (status == KV_OK) status = kv_cache_writer_finish(b.writer, err);
    clean_up(&b);
    return status;
}
