// Chooses between the two kinds by the file's name and content, and keeps promises that hold for both: hashes
// over pieces, ids that are checked, errors that name the path.
#include "data/tokenizer/tokenizer.h"

#include "data/file/hash.h"
#include "data/tokenizer/json.h"
#include "data/tokenizer/spm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// One of the two.
struct kv_tokenizer {
    kv_spm_tokenizer *model;
    kv_json_tokenizer *json;
    char hash[17];
};

// ---- Opening -------------------------------------------------------------------------------------------

// By its name, or else by its first character, which no SentencePiece model begins with.
bool kv_tokenizer_is_json(const char *file) {
    const char *dot = strrchr(file, '.');
    if (dot && strcmp(dot, ".json") == 0) return true;
    FILE *stream = fopen(file, "rb");
    int first = stream ? fgetc(stream) : EOF;
    if (stream) fclose(stream);
    return first == '{';
}

void kv_tokenizer_hash_first(const kv_tokenizer *tokenizer, int64_t n, char out[17]) {
    uint64_t hash = 0;
    for (int32_t id = 0; id < n; id++) {
        const char *piece = kv_tokenizer_piece(tokenizer, id);
        hash = kv_hash64(hash, piece, piece ? strlen(piece) + 1 : 0);
    }
    kv_hash_text(hash, out);
}

kv_status kv_tokenizer_open_file(const char *file, kv_tokenizer **tokenizer, kv_error *err) {
    *tokenizer = NULL;
    kv_tokenizer *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", file);
    kv_status status = kv_tokenizer_is_json(file) ? kv_json_tokenizer_open(file, &made->json, err)
                                                  : kv_spm_tokenizer_open(file, &made->model, err);
    if (status) {
        kv_tokenizer_free(made);
        return status;
    }
    kv_tokenizer_hash_first(made, kv_tokenizer_vocab_size(made), made->hash);
    *tokenizer = made;
    return KV_OK;
}

void kv_tokenizer_free(kv_tokenizer *tokenizer) {
    if (!tokenizer) return;
    kv_spm_tokenizer_free(tokenizer->model);
    kv_json_tokenizer_free(tokenizer->json);
    free(tokenizer);
}

// ---- What it says about itself -------------------------------------------------------------------------

int64_t kv_tokenizer_vocab_size(const kv_tokenizer *tokenizer) {
    return tokenizer->json ? kv_vocabulary_size(tokenizer->json->vocabulary)
                           : kv_spm_vocab_size(tokenizer->model->spm);
}
int32_t kv_tokenizer_bos(const kv_tokenizer *tokenizer) {
    return tokenizer->json ? tokenizer->json->bos : kv_spm_bos(tokenizer->model->spm);
}
int32_t kv_tokenizer_eos(const kv_tokenizer *tokenizer) {
    return tokenizer->json ? tokenizer->json->eos : kv_spm_eos(tokenizer->model->spm);
}
const char *kv_tokenizer_piece(const kv_tokenizer *tokenizer, int32_t id) {
    return tokenizer->json ? kv_vocabulary_piece(tokenizer->json->vocabulary, id)
                           : kv_spm_piece(tokenizer->model->spm, id);
}
int32_t kv_tokenizer_find(const kv_tokenizer *tokenizer, const char *piece) {
    return tokenizer->json ? kv_vocabulary_find(tokenizer->json->vocabulary, piece, strlen(piece))
                           : kv_spm_find(tokenizer->model->spm, piece);
}
int64_t kv_tokenizer_words(const kv_tokenizer *tokenizer) {
    int64_t n = kv_tokenizer_vocab_size(tokenizer);
    while (tokenizer->json && n > 1 && tokenizer->json->only_added[n - 1]) n--;
    return n;
}
kv_status kv_tokenizer_speaks(const kv_tokenizer *tokenizer, kv_error *err) {
    if (!tokenizer->json || tokenizer->json->detokenizer) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s", tokenizer->json->no_decoder);
}
const char *kv_tokenizer_hash(const kv_tokenizer *tokenizer) {
    return tokenizer->hash;
}

// ---- Text and ids --------------------------------------------------------------------------------------

static kv_status encode(const kv_tokenizer *tokenizer, const char *text, size_t length, bool plain,
                        int32_t **ids, int64_t *n, kv_error *err) {
    kv_ids found = {0};
    *ids = NULL;
    *n = 0;
    kv_status status = kv_ids_reserve(&found, 1, err); // so that none is not NULL
    if (!status)
        status = tokenizer->json ? kv_json_tokenizer_encode(tokenizer->json, text, length, plain, &found, err)
                                 : kv_spm_tokenizer_encode(tokenizer->model, text, length, &found, err);
    if (status) {
        kv_ids_free(&found);
        return status;
    }
    *ids = found.data;
    *n = (int64_t)found.length;
    return KV_OK;
}

kv_status kv_tokenizer_encode(const kv_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                              int64_t *n, kv_error *err) {
    return encode(tokenizer, text, length, false, ids, n, err);
}

kv_status kv_tokenizer_encode_plain(const kv_tokenizer *tokenizer, const char *text, size_t length,
                                    int32_t **ids, int64_t *n, kv_error *err) {
    return encode(tokenizer, text, length, true, ids, n, err);
}

kv_status kv_tokenizer_decode(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, char **text,
                              size_t *length, kv_error *err) {
    kv_bytes found = {0};
    *text = NULL;
    *length = 0;
    int64_t vocab_size = kv_tokenizer_vocab_size(tokenizer);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab_size)
            return kv_fail(err, KV_ERR_RANGE,
                           "token %" PRIi64 " has id %" PRIi32 ", outside the vocabulary of %" PRIi64, i,
                           ids[i], vocab_size);
    kv_status status = tokenizer->json ? kv_json_tokenizer_decode(tokenizer->json, ids, n, &found, err)
                                       : kv_spm_tokenizer_decode(tokenizer->model, ids, n, &found, err);
    if (!status) status = kv_bytes_add(&found, "", 1, err);
    if (status) {
        kv_bytes_free(&found);
        return status;
    }
    *text = found.data;
    *length = found.length - 1;
    return KV_OK;
}

// ---- Text that goes on ---------------------------------------------------------------------------------

// Stands for the text before: visible, whole and the same for all, so that neither white space nor half a
// character can be lost at the seam, whatever the real text ends with.
static const char anchor[] = ".";

static kv_status decode_behind(const kv_tokenizer *tokenizer, const int32_t *front, int64_t n_front,
                               const int32_t *ids, int64_t n, char **text, size_t *length, kv_error *err) {
    int32_t *all = malloc((size_t)(n_front + n) * sizeof *all + 1);
    if (!all) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld tokens", (long long)n);
    memcpy(all, front, (size_t)n_front * sizeof *all);
    if (n > 0) memcpy(all + n_front, ids, (size_t)n * sizeof *all);
    char *before = NULL;
    size_t cut = 0;
    kv_status status = kv_tokenizer_decode(tokenizer, all, n_front, &before, &cut, err);
    if (status == KV_OK) status = kv_tokenizer_decode(tokenizer, all, n_front + n, text, length, err);
    if (status == KV_OK && (*length < cut || memcmp(*text, before, cut) != 0)) {
        free(*text);
        *text = NULL, *length = 0;
        status = kv_fail(err, KV_ERR_FORMAT, "the tokenizer changes a text that others follow");
    }
    if (status == KV_OK) {
        *length -= cut;
        memmove(*text, *text + cut, *length + 1);
    }
    free(before);
    free(all);
    return status;
}

kv_status kv_decode_continuation(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, char **text,
                                 size_t *length, kv_error *err) {
    *text = NULL;
    *length = 0;
    int32_t *front = NULL;
    int64_t n_front = 0;
    kv_status status = kv_tokenizer_encode(tokenizer, anchor, strlen(anchor), &front, &n_front, err);
    if (status == KV_OK) status = decode_behind(tokenizer, front, n_front, ids, n, text, length, err);
    free(front);
    return status;
}
