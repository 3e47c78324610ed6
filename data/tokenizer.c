#include "data/tokenizer.h"

#include "data/hash.h"
#include "data/pending_file.h"
#include "data/sentencepiece_binding.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

// Real models are below 10 MiB; anything far beyond that is another file.
static const size_t max_model_bytes = (size_t)256 << 20;

struct kv_tokenizer {
    kv_spm *spm;
    char hash[17];
};

static kv_status model_path(const char *path, char out[PATH_MAX], kv_error *err) {
    struct stat info;
    bool directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    int n = snprintf(out, PATH_MAX, directory ? "%s/tokenizer.model" : "%s", path);
    if (n < 0 || n >= PATH_MAX) return kv_fail(err, KV_ERR_ARGUMENT, "%.200s...: the path is too long", path);
    return KV_OK;
}

static bool present(const char *dir, const char *name) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && n < PATH_MAX && access(path, F_OK) == 0;
}

bool kv_tokenizer_present(const char *dir) {
    return present(dir, "tokenizer.json") || present(dir, "tokenizer.model");
}

kv_status kv_tokenizer_open(const char *path, kv_tokenizer **tokenizer, kv_error *err) {
    *tokenizer = NULL;
    char file[PATH_MAX];
    kv_status status = model_path(path, file, err);
    if (status) return status;
    char *bytes = NULL;
    size_t size = 0;
    status = kv_read_file(file, max_model_bytes, &bytes, &size, err);
    if (status) return status;
    kv_tokenizer *made = calloc(1, sizeof *made);
    char message[256] = "";
    if (made) made->spm = kv_spm_load(bytes, size, message, sizeof message);
    if (!made) {
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", file);
    } else if (!made->spm || kv_spm_vocab_size(made->spm) < 1) {
        status = kv_fail(err, KV_ERR_FORMAT, "%s: not a SentencePiece model of %zu bytes (%s)", file, size,
                         message);
        kv_tokenizer_free(made);
    } else {
        kv_hash_text(kv_hash64(0, bytes, size), made->hash);
        *tokenizer = made;
    }
    free(bytes);
    return status;
}

void kv_tokenizer_free(kv_tokenizer *tokenizer) {
    if (!tokenizer) return;
    kv_spm_free(tokenizer->spm);
    free(tokenizer);
}

int64_t kv_tokenizer_vocab_size(const kv_tokenizer *tokenizer) {
    return kv_spm_vocab_size(tokenizer->spm);
}
int32_t kv_tokenizer_bos(const kv_tokenizer *tokenizer) {
    return kv_spm_bos(tokenizer->spm);
}
int32_t kv_tokenizer_eos(const kv_tokenizer *tokenizer) {
    return kv_spm_eos(tokenizer->spm);
}
const char *kv_tokenizer_piece(const kv_tokenizer *tokenizer, int32_t id) {
    return kv_spm_piece(tokenizer->spm, id);
}
int32_t kv_tokenizer_find(const kv_tokenizer *tokenizer, const char *piece) {
    return kv_spm_find(tokenizer->spm, piece);
}
const char *kv_tokenizer_hash(const kv_tokenizer *tokenizer) {
    return tokenizer->hash;
}

kv_status kv_tokenizer_encode(const kv_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                              int64_t *n, kv_error *err) {
    char message[256] = "";
    size_t count = 0;
    if (kv_spm_encode(tokenizer->spm, text, length, ids, &count, message, sizeof message))
        return kv_fail(err, KV_ERR_FORMAT, "cannot tokenize a text of %zu bytes: %s", length, message);
    *n = (int64_t)count;
    return KV_OK;
}

kv_status kv_tokenizer_encode_plain(const kv_tokenizer *tokenizer, const char *text, size_t length,
                                    int32_t **ids, int64_t *n, kv_error *err) {
    return kv_tokenizer_encode(tokenizer, text, length, ids, n, err);
}

kv_status kv_tokenizer_decode(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, char **text,
                              size_t *length, kv_error *err) {
    *text = NULL;
    *length = 0;
    int64_t vocab_size = kv_tokenizer_vocab_size(tokenizer);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab_size)
            return kv_fail(err, KV_ERR_RANGE,
                           "token %" PRIi64 " has id %" PRIi32 ", outside the vocabulary of %" PRIi64, i,
                           ids[i], vocab_size);
    char message[256] = "";
    if (kv_spm_decode(tokenizer->spm, ids, (size_t)n, text, length, message, sizeof message))
        return kv_fail(err, KV_ERR_FORMAT, "cannot turn %" PRIi64 " tokens into text: %s", n, message);
    return KV_OK;
}
