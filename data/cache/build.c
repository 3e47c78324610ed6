#include "data/cache/build.h"

#include "data/cache/top_logits.h"
#include "data/corpus/packing.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

// Rows on their way.
struct build {
    const kv_cache_build_args *args;
    const char *path; // of the file that they will be in
    kv_cache_info info;
    kv_key_norms norms;
    int64_t n_done, bytes; // by this call: rows, and what the parts take that are complete
    double begun;          // when the part was that is being written
    kv_tape *tape;
    kv_cache_writer *writer; // of a part; NULL: none is begun
    int32_t *tokens;         // [n_rows, seq_len + 1] of the whole shard
    int32_t *inputs;         // [n_seq, seq_len]
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

// ---- Parts ---------------------------------------------------------------------------------------------

static kv_status begin_part(struct build *b, kv_cache_range rows, kv_error *err) {
    kv_cache_info info = b->info;
    info.n_rows = rows.n;
    char path[PATH_MAX];
    b->begun = kv_now();
    kv_status status = kv_cache_part_path(b->path, rows.first, path, err);
    if (status != KV_OK) return status;
    return kv_cache_writer_open_part(path, b->path, rows.first, &info, &b->norms, &b->writer, err);
}

// What there is of it is kept.
static kv_status end_part(struct build *b, kv_error *err) {
    kv_status status = KV_OK;
    if (b->writer && kv_cache_writer_rows(b->writer) > 0) {
        const int64_t bytes = kv_cache_writer_bytes(b->writer);
        status = kv_cache_writer_finish(b->writer, err);
        if (status == KV_OK) b->bytes += bytes;
    }
    kv_cache_writer_free(b->writer);
    b->writer = NULL;
    return status;
}

static kv_status report(const struct build *b, kv_error *err) {
    if (!b->args->progress) return KV_OK;
    const int64_t bytes = b->bytes + (b->writer ? kv_cache_writer_bytes(b->writer) : 0);
    return b->args->progress(b->args->context, b->n_done, bytes, err);
}

static kv_status build_range(struct build *b, kv_cache_range rows, kv_error *err) {
    kv_status status = KV_OK;
    const int64_t end = rows.first + rows.n;
    for (int64_t row = rows.first; status == KV_OK && row < end;) {
        const int64_t n_seq = b->args->n_seq - row % b->args->n_seq;
        const int64_t n = end - row < n_seq ? end - row : n_seq;
        if (!b->writer) status = begin_part(b, (kv_cache_range){row, end - row}, err);
        if (status == KV_OK) status = add_rows(b, row, n, err);
        if (status != KV_OK) break;
        row += n, b->n_done += n;
        if (row == end || kv_now() - b->begun >= b->args->seconds) status = end_part(b, err);
        if (status == KV_OK) status = report(b, err);
    }
    // Whatever ended it: the rows before are sound.
    end_part(b, NULL);
    return status;
}

// ---- All of it -----------------------------------------------------------------------------------------

static kv_status begin(struct build *b, const char *path, const kv_shard *shard, const kv_cache_info *info,
                       const kv_cache_build_args *args, kv_error *err) {
    *b = (struct build){.args = args, .path = path, .info = *info};
    kv_model_key_norms(args->base, &b->norms);
    b->info.n_rows = kv_packed_rows(shard->n_tokens, info->seq_len);
    memcpy(b->info.shard, shard->hash, sizeof b->info.shard);
    kv_status status = allocate(b, err);
    return status == KV_OK ? kv_packed_cut(shard, info->seq_len, b->tokens, err) : status;
}

kv_status kv_cache_build_rows(const char *path, const kv_shard *shard, const kv_cache_info *info,
                              kv_cache_range rows, const kv_cache_build_args *args, kv_error *err) {
    struct build b;
    kv_status status = begin(&b, path, shard, info, args, err);
    if (status == KV_OK) status = build_range(&b, rows, err);
    clean_up(&b);
    return status;
}

// The rows that no part has.
static kv_status find_missing(const struct build *b, kv_cache_range **missing, int64_t *n, kv_error *err) {
    kv_cache_range *parts = NULL;
    int64_t n_parts;
    kv_status status = kv_cache_parts_list(b->path, &parts, &n_parts, err);
    for (int64_t i = 0; status == KV_OK && i < n_parts; i++)
        status = kv_cache_part_check(b->path, &b->info, &parts[i], err);
    if (status == KV_OK) status = kv_cache_parts_missing(parts, n_parts, b->info.n_rows, missing, n, err);
    free(parts);
    return status;
}

static kv_status report_join(void *context, int64_t n_rows, kv_error *err) {
    (void)n_rows;
    return report(context, err);
}

kv_status kv_cache_build(const char *path, const kv_shard *shard, const kv_cache_info *info,
                         const kv_cache_build_args *args, kv_error *err) {
    struct build b;
    kv_cache_range *missing = NULL;
    int64_t n = 0;
    kv_status status = begin(&b, path, shard, info, args, err);
    if (status == KV_OK) status = find_missing(&b, &missing, &n, err);
    for (int64_t i = 0; status == KV_OK && i < n; i++) status = build_range(&b, missing[i], err);
    if (status == KV_OK) status = kv_cache_join(path, &b.info, &b.norms, report_join, &b, err);
    if (status != KV_OK) kv_cache_parts_tidy(path, false, NULL); // an empty directory, where there is no part
    clean_up(&b);
    free(missing);
    return status;
}
