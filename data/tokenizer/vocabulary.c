// A list by id, and uthash over the spellings. It is told not to end the program when out of memory; a piece
// then knows that it is in no table.
#include "data/tokenizer/vocabulary.h"

#include "core/text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// Without this uthash ends the program when out of memory.
#define HASH_NONFATAL_OOM              1
#define uthash_nonfatal_oom(new_piece) (new_piece)->unlisted = true
#include <uthash.h>

struct piece {
    char *text; // NULL: a hole
    bool unlisted;
    UT_hash_handle hh;
};

struct kv_vocabulary {
    int64_t size;
    struct piece *pieces; // by id
    struct piece *by_text;
};

kv_status kv_vocabulary_create(int64_t size, kv_vocabulary **vocabulary, kv_error *err) {
    *vocabulary = calloc(1, sizeof **vocabulary);
    if (*vocabulary) (*vocabulary)->pieces = calloc((size_t)size + 1, sizeof *(*vocabulary)->pieces);
    if (*vocabulary && (*vocabulary)->pieces) {
        (*vocabulary)->size = size;
        return KV_OK;
    }
    free(*vocabulary);
    *vocabulary = NULL;
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for a vocabulary of %" PRIi64 " pieces", size);
}

void kv_vocabulary_free(kv_vocabulary *vocabulary) {
    if (!vocabulary) return;
    HASH_CLEAR(hh, vocabulary->by_text);
    for (int64_t id = 0; id < vocabulary->size; id++) free(vocabulary->pieces[id].text);
    free(vocabulary->pieces);
    free(vocabulary);
}

kv_status kv_vocabulary_add(kv_vocabulary *vocabulary, int32_t id, const char *piece, size_t length,
                            kv_error *err) {
    if (id < 0 || id >= vocabulary->size)
        return kv_fail(err, KV_ERR_RANGE, "id %" PRIi32 " is outside the vocabulary of %" PRIi64, id,
                       vocabulary->size);
    struct piece *added = &vocabulary->pieces[id];
    int32_t other = kv_vocabulary_find(vocabulary, piece, length);
    if (other == id) return KV_OK;
    if (other >= 0)
        return kv_fail(err, KV_ERR_FORMAT, "'%.*s' has id %" PRIi32 " and id %" PRIi32, KV_HEAD(piece, 100),
                       other, id);
    if (added->text)
        return kv_fail(err, KV_ERR_FORMAT, "id %" PRIi32 " belongs to '%.*s' and to '%.*s'", id,
                       KV_HEAD(added->text, 100), KV_HEAD(piece, 100));
    added->text = malloc(length + 1);
    if (added->text) {
        memcpy(added->text, piece, length);
        added->text[length] = '\0';
        HASH_ADD_KEYPTR(hh, vocabulary->by_text, added->text, length, added);
    }
    if (added->text && !added->unlisted) return KV_OK;
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for a vocabulary of %" PRIi64 " pieces",
                   vocabulary->size);
}

int64_t kv_vocabulary_size(const kv_vocabulary *vocabulary) {
    return vocabulary->size;
}

const char *kv_vocabulary_piece(const kv_vocabulary *vocabulary, int32_t id) {
    return id < 0 || id >= vocabulary->size ? NULL : vocabulary->pieces[id].text;
}

int32_t kv_vocabulary_find(const kv_vocabulary *vocabulary, const char *piece, size_t length) {
    struct piece *found = NULL;
    HASH_FIND(hh, vocabulary->by_text, piece, length, found);
    return found ? (int32_t)(found - vocabulary->pieces) : -1;
}
