// Documents come one by one from either source, so that no more of a corpus is looked at than is wanted.
#include "eval/benchmark/text_tokens.h"

#include "core/text.h"
#include "data/corpus/corpus.h"
#include "data/file/identify.h"
#include "data/file/path.h"
#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/system/memory.h"
#include "data/system/warning.h"
#include "data/text/documents.h"
#include "data/text/files.h"
#include "data/tokenizer/files.h"
#include "data/tokenizer/token_bytes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// What is being read, and where it goes.
struct reading {
    const char *path;
    const kv_tokenizer *tokenizer;
    kv_token_bytes *counter;
    int64_t most; // 0: all
    kv_ids ids, bytes;
    int64_t *documents; // [n_documents] where each begins
    size_t n_documents;
    kv_progress progress;
};

static bool enough(const struct reading *r) {
    return r->most > 0 && (int64_t)r->ids.length >= r->most;
}

static kv_status out_of_memory(const struct reading *r, kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for its tokens", r->path);
}

// A document with its BOS and EOS; what is beyond `most` is cut off at the end.
static kv_status add_document(struct reading *r, const int32_t *ids, int64_t n, kv_error *err) {
    if (n < 1) return KV_OK;
    if (kv_ids_reserve(&r->ids, (size_t)n, NULL) != KV_OK ||
        kv_ids_reserve(&r->bytes, (size_t)n, NULL) != KV_OK)
        return out_of_memory(r, err);
    kv_status status = kv_token_bytes_count(r->counter, ids, n, r->bytes.data + r->bytes.length, err);
    if (status != KV_OK) return kv_fail_within(err, status, "%s", r->path);
    int64_t *more = kv_room_for_one(r->documents, r->n_documents, sizeof *more);
    if (!more) return out_of_memory(r, err);
    r->documents = more;
    more[r->n_documents++] = (int64_t)r->ids.length;
    memcpy(r->ids.data + r->ids.length, ids, (size_t)n * sizeof *ids);
    r->ids.length += (size_t)n, r->bytes.length += (size_t)n;
    return KV_OK;
}

// Of what takes its time.
static void show(struct reading *r, int64_t done) {
    char note[48];
    if (r->progress.last_shown < 0 && kv_now() - r->progress.started < 1) return;
    snprintf(note, sizeof note, "%zu tokens", r->ids.length);
    kv_progress_show(&r->progress, done, note);
}

// ---- Shards --------------------------------------------------------------------------------------------

static kv_status check_tokenizer(const struct reading *r, const kv_shard_info *info, kv_error *err) {
    kv_tokenizer_id id = {.vocab_size = info->vocab_size}, used;
    memcpy(id.hash, info->tokenizer, sizeof id.hash);
    memcpy(id.cuts, info->cuts, sizeof id.cuts);
    kv_tokenizer_identify(r->tokenizer, &used);
    if (!kv_tokenizer_serves(r->tokenizer, &id))
        return kv_fail(
            err, KV_ERR_MISMATCH,
            "%s: made with another tokenizer, %s of %lld pieces, expected %s of %lld, which the systems "
            "are asked with",
            r->path, id.hash, (long long)id.vocab_size, used.hash, (long long)used.vocab_size);
    if (kv_tokenizer_cuts_differ(&id, &used))
        kv_warn(
            "%s: made with a tokenizer of the same pieces that cuts text in another way than the one the systems are "
            "asked with",
            r->path);
    return KV_OK;
}

static kv_status read_shard(struct reading *r, const char *path, kv_error *err) {
    kv_shard *shard;
    kv_status status = kv_shard_open(path, &shard, err);
    if (status != KV_OK) return status;
    for (int64_t d = 0; d < shard->n_documents && status == KV_OK && !enough(r); d++) {
        if (kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        if (status == KV_OK)
            status = add_document(r, shard->tokens + shard->documents[d],
                                  shard->documents[d + 1] - shard->documents[d], err);
    }
    kv_shard_free(shard);
    return status;
}

static kv_status read_shards(struct reading *r, kv_error *err) {
    kv_corpus *corpus;
    kv_status status = kv_corpus_open(r->path, &corpus, err);
    if (status != KV_OK) return status;
    const int64_t wanted = r->most > 0 && r->most < corpus->n_tokens ? r->most : corpus->n_tokens;
    char what[128];
    snprintf(what, sizeof what, "the tokens of %.*s", KV_HEAD(r->path, 100));
    status = check_tokenizer(r, &corpus->info, err);
    if (status == KV_OK) status = kv_memory_check(2.0 * sizeof(int32_t) * (double)wanted, what, err);
    kv_progress_begin(&r->progress, stderr, r->path, wanted);
    for (int64_t i = 0; i < corpus->n_shards && status == KV_OK && !enough(r); i++) {
        status = read_shard(r, corpus->shards[i].path, err);
        if (i + 1 < corpus->n_shards) show(r, (int64_t)r->ids.length);
    }
    kv_corpus_free(corpus);
    return status;
}

// ---- Text files ----------------------------------------------------------------------------------------

// line: of `path`, where the text begins.
static kv_status add_text(struct reading *r, const char *path, int64_t line, const char *text, size_t length,
                          kv_error *err) {
    const int32_t bos = kv_tokenizer_bos(r->tokenizer), eos = kv_tokenizer_eos(r->tokenizer);
    int32_t *ids = NULL;
    int64_t n = 0;
    if (length == 0) return KV_OK;
    kv_status status = kv_tokenizer_encode(r->tokenizer, text, length, &ids, &n, err);
    if (status == KV_ERR_FORMAT) kv_fail_within(err, status, "%s:%lld", path, (long long)line);
    int32_t *framed = status == KV_OK ? malloc(((size_t)n + 2) * sizeof *framed) : NULL;
    if (status == KV_OK && !framed) status = out_of_memory(r, err);
    if (status == KV_OK) {
        int64_t end = 0;
        if (bos >= 0) framed[end++] = bos;
        memcpy(framed + end, ids, (size_t)n * sizeof *ids);
        end += n;
        if (eos >= 0) framed[end++] = eos;
        status = add_document(r, framed, end, err);
    }
    free(framed);
    free(ids);
    return status;
}

static kv_status read_file(struct reading *r, const char *path, int64_t before, kv_error *err) {
    kv_documents *documents;
    kv_status status = kv_documents_open(path, &documents, err);
    while (status == KV_OK && !enough(r)) {
        const char *text;
        size_t length;
        if (kv_console_interrupted()) {
            status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
            break;
        }
        status = kv_documents_next(documents, &text, &length, err);
        if (status != KV_OK || !text) break;
        status = add_text(r, path, kv_documents_line(documents), text, length, err);
        show(r, before + kv_documents_position(documents));
    }
    kv_documents_close(documents);
    return status;
}

static kv_status read_files(struct reading *r, kv_error *err) {
    kv_text_files files = {0};
    char *path = (char *)r->path;
    kv_status status = kv_text_files_list(&path, 1, &files, err);
    int64_t total = 0, before = 0;
    for (int64_t i = 0; i < files.n; i++) total += files.items[i].size;
    kv_progress_begin(&r->progress, stderr, r->path, total);
    for (int64_t i = 0; i < files.n && status == KV_OK && !enough(r); before += files.items[i++].size)
        status = read_file(r, files.items[i].path, before, err);
    kv_text_files_free(&files);
    return status;
}

// ---- Both ----------------------------------------------------------------------------------------------

// Whether it is to be read as what kvdata tokenize makes; what is neither that nor text is told of as text.
static bool is_tokenized(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) return false;
    if (S_ISDIR(info.st_mode))
        return kv_path_exists_in(path, KV_CORPUS_INDEX) || kv_path_exists_in(path, "shard-00000.h5");
    kv_identity found;
    kv_identify(path, false, &found);
    return kv_file_kind_is(found.kind, KV_FILE_HDF5);
}

kv_status kv_text_tokens_read(const char *path, const kv_tokenizer *tokenizer, int64_t most,
                              kv_text_tokens *tokens, kv_error *err) {
    *tokens = (kv_text_tokens){0};
    struct reading r = {.path = path, .tokenizer = tokenizer, .most = most, .progress.last_shown = -1};
    kv_status status = kv_token_bytes_create(tokenizer, &r.counter, err);
    if (status != KV_OK) return status;
    status = (is_tokenized(path) ? read_shards : read_files)(&r, err);
    if (r.progress.last_shown >= 0) kv_progress_end(&r.progress, status == KV_OK ? "tokens" : "stopped");
    kv_token_bytes_free(r.counter);
    *tokens = (kv_text_tokens){r.ids.data, r.bytes.data, (int64_t)r.ids.length, r.documents,
                               (int64_t)r.n_documents};
    if (most > 0 && tokens->n > most) tokens->n = most;
    int64_t *more = kv_room_for_one(r.documents, r.n_documents, sizeof *more);
    if (more) tokens->documents = more, more[r.n_documents] = tokens->n;
    if (!more && status == KV_OK) status = out_of_memory(&r, err);
    if (status != KV_OK) kv_text_tokens_free(tokens);
    return status;
}

void kv_text_tokens_free(kv_text_tokens *tokens) {
    free(tokens->ids);
    free(tokens->bytes);
    free(tokens->documents);
    *tokens = (kv_text_tokens){0};
}
