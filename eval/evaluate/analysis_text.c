#include "data/corpus/corpus.h"
#include "data/corpus/packing.h"
#include "data/file/hash.h"
#include "eval/evaluate/analysis.h"

#include <stdlib.h>
#include <string.h>

// Rows of one shard behind those that are there.
static kv_status add_shard(const char *path, int64_t wanted, kv_analysis_text *text, kv_error *err) {
    kv_shard *shard;
    kv_status status = kv_shard_open(path, &shard, err);
    if (status != KV_OK) return status;
    const int64_t n_rows = kv_packed_rows(shard->n_tokens, text->seq_len), width = text->seq_len + 1;
    const int64_t n = n_rows < wanted - text->sequences ? n_rows : wanted - text->sequences;
    int32_t *cut = malloc((size_t)(n_rows * width) * sizeof *cut + 1);
    int32_t *rows = realloc(text->rows, (size_t)((text->sequences + n) * width) * sizeof *rows + 1);
    if (rows) text->rows = rows;
    if (cut && rows)
        status = kv_packed_cut(shard, text->seq_len, cut, err);
    else
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for %lld rows", path, (long long)n_rows);
    if (status == KV_OK && n > 0) {
        memcpy(text->rows + text->sequences * width, cut, (size_t)(n * width) * sizeof *cut);
        text->sequences += n;
    }
    free(cut);
    kv_shard_free(shard);
    return status;
}

kv_status kv_analysis_text_read(const char *path, int64_t sequences, int64_t seq_len, kv_analysis_text *text,
                                kv_error *err) {
    kv_corpus *corpus;
    *text = (kv_analysis_text){.seq_len = seq_len};
    kv_status status = kv_corpus_open(path, &corpus, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; i < corpus->n_shards && text->sequences < sequences && status == KV_OK; i++)
        status = add_shard(corpus->shards[i].path, sequences, text, err);
    if (status == KV_OK && text->sequences == 0)
        status = kv_fail(err, KV_ERR_RANGE, "%s: %lld tokens make not one row of %lld and its targets", path,
                         (long long)corpus->n_tokens, (long long)seq_len);
    kv_corpus_free(corpus);
    if (status == KV_OK)
        kv_hash_text(kv_hash64((uint64_t)seq_len, text->rows,
                               (size_t)(text->sequences * (seq_len + 1)) * sizeof *text->rows),
                     text->hash);
    else
        kv_analysis_text_free(text);
    return status;
}

void kv_analysis_text_free(kv_analysis_text *text) {
    free(text->rows);
    *text = (kv_analysis_text){0};
}
