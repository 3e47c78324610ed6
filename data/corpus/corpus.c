#include "data/corpus/corpus.h"

#include "data/file/hash.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void kv_corpus_free(kv_corpus *corpus) {
    if (!corpus) return;
    for (int64_t i = 0; corpus->shards && i < corpus->n_shards; i++) free(corpus->shards[i].path);
    free(corpus->shards);
    free(corpus);
}

// Takes shard i from its file, which must be as the index (or nothing, for a shard alone) says.
static kv_status add_shard(kv_corpus *corpus, int64_t i, const char *path, kv_error *err) {
    kv_corpus_shard *shard = &corpus->shards[i];
    kv_shard_summary found;
    shard->path = strdup(path);
    if (!shard->path) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_status status = kv_shard_read_summary(path, &found, err);
    if (status) return status;
    if (i == 0) corpus->info = found.info;
    shard->n_documents = found.n_documents;
    shard->n_tokens = found.n_tokens;
    memcpy(shard->hash, found.hash, sizeof shard->hash);
    if (__builtin_add_overflow(corpus->n_documents, found.n_documents, &corpus->n_documents) ||
        __builtin_add_overflow(corpus->n_tokens, found.n_tokens, &corpus->n_tokens))
        return kv_fail(err, KV_ERR_FORMAT, "%s: more tokens than can be counted", path);
    const kv_shard_info *a = &corpus->info, *b = &found.info;
    if (strcmp(a->tokenizer, b->tokenizer) != 0 || a->vocab_size != b->vocab_size || a->bos_id != b->bos_id ||
        a->eos_id != b->eos_id)
        return kv_fail(err, KV_ERR_MISMATCH,
                       "%s: made with tokenizer %s of %" PRIi64 " pieces, BOS %" PRIi32 ", EOS %" PRIi32
                       ", expected %s of %" PRIi64 ", BOS %" PRIi32 ", EOS %" PRIi32 " as in %s",
                       path, b->tokenizer, b->vocab_size, b->bos_id, b->eos_id, a->tokenizer, a->vocab_size,
                       a->bos_id, a->eos_id, corpus->shards[0].path);
    if (a->cuts[0] && b->cuts[0] && strcmp(a->cuts, b->cuts) != 0)
        return kv_fail(
            err, KV_ERR_MISMATCH,
            "%s: made with a tokenizer of the same pieces that cuts text in another way than that of %s",
            path, corpus->shards[0].path);
    return KV_OK;
}

static kv_status make_room(kv_corpus *corpus, int64_t n_shards, kv_error *err) {
    corpus->shards = calloc((size_t)n_shards, sizeof *corpus->shards);
    if (!corpus->shards) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " shards", n_shards);
    corpus->n_shards = n_shards;
    return KV_OK;
}

// ---- index.json ----------------------------------------------------------------------------------------

// Names of files in the corpus's own directory only.
static kv_status shard_name(const kv_json_file *index, const json_t *entry, int64_t i, const char **name,
                            kv_error *err) {
    *name = json_string_value(json_object_get(entry, "file"));
    if (!*name || !**name || strchr(*name, '/'))
        return kv_json_wrong(index, "shards", i, "an object whose \"file\" is the name of a shard", err);
    return KV_OK;
}

static kv_status compare(const kv_json_file *index, const json_t *entry, const kv_corpus_shard *shard,
                         kv_error *err) {
    const char *hash = json_string_value(json_object_get(entry, "hash"));
    if (json_integer_value(json_object_get(entry, "documents")) == shard->n_documents &&
        json_integer_value(json_object_get(entry, "tokens")) == shard->n_tokens && hash &&
        strcmp(hash, shard->hash) == 0)
        return KV_OK;
    return kv_fail(err, KV_ERR_MISMATCH,
                   "%s: not the shard that %s lists (%" PRIi64 " documents, %" PRIi64
                   " tokens, hash %s found); make the corpus again with kvdata tokenize --force",
                   shard->path, index->path, shard->n_documents, shard->n_tokens, shard->hash);
}

static kv_status read_index(const char *dir, const kv_json_file *index, kv_corpus *corpus, kv_error *err) {
    const char *format = json_string_value(json_object_get(index->root, "format"));
    if (!format || strcmp(format, "kv-corpus") != 0)
        return kv_json_wrong(index, "format", -1, "\"kv-corpus\" (made by kvdata tokenize)", err);
    int64_t version = 0;
    kv_status status = kv_json_int(index, "version", INT32_MIN, INT32_MAX, &version, err);
    if (!status)
        status = kv_check_version(index->path, KV_FILE_CORPUS_INDEX, version, 1, 1,
                                  "kvdata tokenize --force makes it again", err);
    if (status) return status;
    const json_t *shards = json_object_get(index->root, "shards");
    const size_t n = json_array_size(shards);
    if (n < 1 || n > KV_CORPUS_MAX_SHARDS)
        return kv_json_wrong(index, "shards", -1, "a list of 1 to 100000 shards", err);
    status = make_room(corpus, (int64_t)n, err);
    for (size_t i = 0; !status && i < n; i++) {
        const json_t *entry = json_array_get(shards, i);
        const char *name = NULL;
        char path[PATH_MAX];
        status = shard_name(index, entry, (int64_t)i, &name, err);
        if (!status) status = kv_path_join(dir, name, path, err);
        if (!status) status = add_shard(corpus, (int64_t)i, path, err);
        if (!status) status = compare(index, entry, &corpus->shards[i], err);
    }
    return status;
}

static kv_status open_directory(const char *dir, kv_corpus *corpus, kv_error *err) {
    char path[PATH_MAX];
    struct stat info;
    kv_status status = kv_path_join(dir, KV_CORPUS_INDEX, path, err);
    if (!status && stat(path, &info) != 0)
        return kv_mistaken_dir(
            dir, KV_CORPUS_INDEX, "a corpus (index.json, which kvdata tokenize writes last)",
            kv_fail(err, KV_ERR_IO,
                    "%s: no index.json, which kvdata tokenize writes last: name one of its shards, or "
                    "make the corpus again",
                    dir),
            err);
    kv_json_file index = {0};
    if (!status) status = kv_json_open(dir, KV_CORPUS_INDEX, &index, err);
    if (!status)
        status = kv_mistaken(index.path, KV_FILE_CORPUS_INDEX, read_index(dir, &index, corpus, err), err);
    kv_json_close(&index);
    return status;
}

kv_status kv_corpus_open(const char *path, kv_corpus **corpus, kv_error *err) {
    *corpus = NULL;
    struct stat info;
    if (stat(path, &info) != 0) return kv_missing(path, err);
    kv_corpus *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    kv_status status;
    if (S_ISDIR(info.st_mode)) {
        status = open_directory(path, made, err);
    } else {
        status = make_room(made, 1, err);
        if (!status) status = add_shard(made, 0, path, err);
    }
    if (status)
        kv_corpus_free(made);
    else
        *corpus = made;
    return status;
}

// ---- Of all shards -------------------------------------------------------------------------------------

kv_status kv_corpus_tokenizer(const kv_corpus *corpus, kv_bundle *files, kv_error *err) {
    return kv_shard_read_tokenizer(corpus->shards[0].path, files, err);
}

void kv_corpus_hash(const kv_corpus *corpus, char out[17]) {
    uint64_t hash = 0;
    for (int64_t i = 0; i < corpus->n_shards; i++) hash = kv_hash64(hash, corpus->shards[i].hash, 16);
    kv_hash_text(hash, out);
}

int64_t kv_corpus_largest_tokens(const kv_corpus *corpus) {
    int64_t most = 0;
    for (int64_t i = 0; i < corpus->n_shards; i++)
        if (corpus->shards[i].n_tokens > most) most = corpus->shards[i].n_tokens;
    return most;
}

int64_t kv_corpus_largest_documents(const kv_corpus *corpus) {
    int64_t most = 0;
    for (int64_t i = 0; i < corpus->n_shards; i++)
        if (corpus->shards[i].n_documents > most) most = corpus->shards[i].n_documents;
    return most;
}
