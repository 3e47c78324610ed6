// Opens the corpora that a configuration names. All that can be wrong with them is told here, by the key,
// before weights are read: their tokenizers, and whether rows of this length can be cut from them at all.
#include "train/config/corpora.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *kv_train_text_key(const kv_train_config *config, int64_t part, char key[KV_TEXT_KEY]) {
    if (config->data.n_mixture)
        snprintf(key, KV_TEXT_KEY, "data.mixture[%" PRIi64 "].corpus", part);
    else
        snprintf(key, KV_TEXT_KEY, "data.train");
    return key;
}

const char *kv_train_text_path(const kv_train_config *config, int64_t part) {
    return config->data.n_mixture ? config->data.mixture[part].corpus : config->data.train;
}

void kv_train_text_close(kv_train_text *text) {
    for (int64_t i = 0; text->corpora && i < text->n_parts; i++) kv_corpus_free(text->corpora[i]);
    kv_corpus_free(text->validation);
    kv_bundle_free(&text->tokenizer);
    free(text->corpora);
    free(text->parts);
    *text = (kv_train_text){0};
}

kv_tokenizer_id kv_train_text_tokenizer(const kv_train_text *text) {
    kv_tokenizer_id id = {.vocab_size = text->info.vocab_size};
    memcpy(id.hash, text->info.tokenizer, sizeof id.hash);
    memcpy(id.cuts, text->info.cuts, sizeof id.cuts);
    return id;
}

// KV_OK where the corpus at `key` goes with the first part.
static kv_status check_agrees(const kv_config *source, const kv_train_text *text, const char *key,
                              const kv_corpus *corpus, kv_error *err) {
    const kv_shard_info *a = &text->info, *b = &corpus->info;
    char first[KV_TEXT_KEY];
    kv_train_text_key(text->config, 0, first);
    kv_status status = KV_OK;
    if (strcmp(a->tokenizer, b->tokenizer) != 0)
        kv_config_fail(source, err, key, "made with tokenizer %s, expected %s as in %s", b->tokenizer,
                       a->tokenizer, first);
    else if (a->vocab_size != b->vocab_size)
        kv_config_fail(source, err, key,
                       "made with a vocabulary of %" PRIi64 ", expected %" PRIi64 " as in %s", b->vocab_size,
                       a->vocab_size, first);
    else if (a->bos_id != b->bos_id || a->eos_id != b->eos_id)
        kv_config_fail(source, err, key,
                       "made with BOS %" PRIi32 " and EOS %" PRIi32 ", expected %" PRIi32 " and %" PRIi32
                       " as in %s",
                       b->bos_id, b->eos_id, a->bos_id, a->eos_id, first);
    else if (a->cuts[0] && b->cuts[0] && strcmp(a->cuts, b->cuts) != 0)
        kv_config_fail(
            source, err, key,
            "made with a tokenizer of the same pieces that cuts text in another way than that of %s "
            "(other merges, normalisation or splitting)",
            first);
    else
        return KV_OK;
    status = KV_ERR_MISMATCH;
    if (err) err->code = status;
    return status;
}

static kv_status open_corpus(const kv_config *source, const char *key, const char *path, kv_corpus **corpus,
                             kv_error *err) {
    kv_error inner = {0};
    kv_status status = kv_corpus_open(path, corpus, &inner);
    if (status == KV_OK) return KV_OK;
    kv_config_fail(source, err, key, "%s", inner.message);
    if (err) err->code = status;
    return status;
}

static kv_status try_batches(const kv_batches_args *args, kv_error *err) {
    kv_batches *batches;
    kv_status status = kv_batches_create(args, &batches, err);
    if (status == KV_OK) kv_batches_free(batches);
    return status;
}

// In memory, since the file may be gone when the run, days later, has a use for it.
static kv_status keep_tokenizer(const kv_config *source, kv_train_text *text, const char *key,
                                const kv_corpus *corpus, kv_error *err) {
    kv_error inner = {0};
    kv_status status = text->tokenizer.n > 0 ? KV_OK : kv_corpus_tokenizer(corpus, &text->tokenizer, &inner);
    if (status == KV_OK) return KV_OK;
    kv_config_fail(source, err, key, "%s", inner.message);
    if (err) err->code = status;
    return status;
}

static kv_status open_part(const kv_config *source, kv_train_text *text, int64_t i, kv_error *err) {
    const kv_data_config *d = &text->config->data;
    char key[KV_TEXT_KEY];
    kv_train_text_key(text->config, i, key);
    kv_status status = open_corpus(source, key, kv_train_text_path(text->config, i), &text->corpora[i], err);
    if (status != KV_OK) return status;
    const kv_corpus *corpus = text->corpora[i];
    text->parts[i] = (kv_batch_part){corpus, d->n_mixture ? d->mixture[i].weight : 1};
    text->n_documents += corpus->n_documents;
    text->n_tokens += corpus->n_tokens;
    if (i == 0) text->info = corpus->info;
    status = check_agrees(source, text, key, corpus, err);
    if (status == KV_OK) status = keep_tokenizer(source, text, key, corpus, err);
    if (status != KV_OK) return status;
    // Whether there are rows for this seq_len is known here, and so is the key.
    const kv_batches_args args = {&text->parts[i], 1, 1, d->seq_len, 0, d->packing == KV_PACKING_FIXED};
    kv_error inner = {0};
    status = try_batches(&args, &inner);
    if (status == KV_OK) return KV_OK;
    kv_config_fail(source, err, key, "%s: %s", kv_train_text_path(text->config, i), inner.message);
    if (err) err->code = status;
    return status;
}

// Whether the parts can be drawn from together.
static kv_status check_weights(const kv_config *source, const kv_train_text *text, kv_error *err) {
    const kv_batches_args args = kv_train_batches(text, text->config->data.batch_size);
    kv_error inner = {0};
    kv_status status = try_batches(&args, &inner);
    if (status == KV_OK) return KV_OK;
    kv_config_fail(source, err, text->config->data.n_mixture ? "data.mixture" : "data.train", "%s",
                   inner.message);
    if (err) err->code = status;
    return status;
}

kv_status kv_train_text_open(const kv_config *source, const kv_train_config *config, kv_train_text *text,
                             kv_error *err) {
    const kv_data_config *d = &config->data;
    *text = (kv_train_text){.config = config, .n_parts = d->n_mixture ? (int64_t)d->n_mixture : 1};
    text->corpora = calloc((size_t)text->n_parts, sizeof(kv_corpus *));
    text->parts = calloc((size_t)text->n_parts, sizeof *text->parts);
    if (!text->corpora || !text->parts) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_status status = KV_OK;
    for (int64_t i = 0; status == KV_OK && i < text->n_parts; i++) status = open_part(source, text, i, err);
    if (status == KV_OK) status = check_weights(source, text, err);
    if (status != KV_OK || !d->validation) return status;
    status = open_corpus(source, "data.validation", d->validation, &text->validation, err);
    return status == KV_OK ? check_agrees(source, text, "data.validation", text->validation, err) : status;
}

kv_batches_args kv_train_batches(const kv_train_text *text, int64_t n_seq) {
    const kv_data_config *d = &text->config->data;
    return (kv_batches_args){.parts = text->parts,
                             .n_parts = text->n_parts,
                             .n_seq = n_seq,
                             .seq_len = d->seq_len,
                             .seed = text->config->seed,
                             .fixed = d->packing == KV_PACKING_FIXED};
}

double kv_train_text_bytes(const kv_train_text *text) {
    const kv_data_config *d = &text->config->data;
    const bool fixed = d->packing == KV_PACKING_FIXED;
    double bytes = (double)kv_bundle_bytes(&text->tokenizer);
    for (int64_t i = 0; i < text->n_parts; i++) {
        const double tokens = (double)kv_corpus_largest_tokens(text->corpora[i]);
        const double documents = (double)kv_corpus_largest_documents(text->corpora[i]);
        const double rows = tokens / (double)d->seq_len;
        // The shard and the order of its documents; or, while its rows are cut, shard, text in order and
        // rows.
        bytes += fixed ? sizeof(int32_t) * (3 * tokens + rows) + 2 * sizeof(int64_t) * documents
                       : sizeof(int32_t) * tokens + 3 * sizeof(int64_t) * documents;
    }
    return bytes;
}
