// What a token stands for does not depend on the tokens before it, but for the first of a text: so one number for each
// id is enough, found out when the id comes for the first time.
#include "data/tokenizer/token_bytes.h"

#include <stdlib.h>

struct kv_token_bytes {
    const kv_tokenizer *tokenizer;
    int64_t vocab_size;
    int32_t *known; // [vocab_size] behind other text; -1: not asked yet
};

kv_status kv_token_bytes_create(const kv_tokenizer *tokenizer, kv_token_bytes **counter, kv_error *err) {
    *counter = NULL;
    kv_status status = kv_tokenizer_speaks(tokenizer, err);
    if (status != KV_OK) return status;
    kv_token_bytes *made = calloc(1, sizeof *made);
    if (made) {
        made->tokenizer = tokenizer, made->vocab_size = kv_tokenizer_vocab_size(tokenizer);
        made->known = malloc((size_t)made->vocab_size * sizeof *made->known + 1);
    }
    if (!made || !made->known) {
        kv_token_bytes_free(made);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the bytes of tokens");
    }
    for (int64_t i = 0; i < made->vocab_size; i++) made->known[i] = -1;
    *counter = made;
    return KV_OK;
}

void kv_token_bytes_free(kv_token_bytes *counter) {
    if (!counter) return;
    free(counter->known);
    free(counter);
}

static kv_status behind_text(kv_token_bytes *counter, int32_t id, int32_t *bytes, kv_error *err) {
    if (id >= 0 && id < counter->vocab_size && counter->known[id] >= 0) {
        *bytes = counter->known[id];
        return KV_OK;
    }
    char *text;
    size_t length;
    kv_status status = kv_decode_continuation(counter->tokenizer, &id, 1, &text, &length, err);
    if (status != KV_OK) return status;
    free(text);
    *bytes = counter->known[id] = (int32_t)length;
    return KV_OK;
}

static kv_status at_beginning(const kv_token_bytes *counter, int32_t id, int32_t *bytes, kv_error *err) {
    char *text;
    size_t length;
    kv_status status = kv_tokenizer_decode(counter->tokenizer, &id, 1, &text, &length, err);
    if (status != KV_OK) return status;
    free(text);
    *bytes = (int32_t)length;
    return KV_OK;
}

kv_status kv_token_bytes_count(kv_token_bytes *counter, const int32_t *ids, int64_t n, int32_t *bytes,
                               kv_error *err) {
    const int32_t bos = kv_tokenizer_bos(counter->tokenizer), eos = kv_tokenizer_eos(counter->tokenizer);
    const int64_t first = n > 0 && bos >= 0 && ids[0] == bos;
    const int64_t end = n > first && eos >= 0 && ids[n - 1] == eos ? n - 1 : n;
    kv_status status = KV_OK;
    if (first) bytes[0] = 0;
    if (end < n) bytes[n - 1] = 0;
    for (int64_t i = first; i < end && status == KV_OK; i++)
        status = i == first ? at_beginning(counter, ids[i], &bytes[i], err)
                            : behind_text(counter, ids[i], &bytes[i], err);
    return status;
}
