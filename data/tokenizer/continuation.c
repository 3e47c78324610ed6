#include "data/tokenizer/continuation.h"

#include <stdlib.h>
#include <string.h>

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
