// Whether a task is a chat is known here and nowhere else: kinds hand in text and get tokens.
#include "eval/benchmark/prompt.h"

#include "data/file/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kv_status plain_ids(const kv_tokenizer *tokenizer, const char *text, int32_t **ids, int64_t *n,
                           kv_error *err) {
    const int32_t bos = kv_tokenizer_bos(tokenizer);
    int32_t *encoded;
    kv_status status = kv_tokenizer_encode(tokenizer, text, strlen(text), &encoded, n, err);
    if (status != KV_OK) return status;
    const int64_t front = bos >= 0;
    *ids = malloc((size_t)(*n + front) * sizeof **ids + 1);
    if (*ids) {
        if (front) (*ids)[0] = bos;
        memcpy(*ids + front, encoded, (size_t)*n * sizeof *encoded);
        *n += front;
    }
    free(encoded);
    return *ids ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt");
}

struct conversation {
    kv_chat_message messages[2];
    int64_t n;
};

static struct conversation conversation_of(const kv_prompting *p, const char *text) {
    struct conversation c = {.n = 0};
    if (p->system) c.messages[c.n++] = (kv_chat_message){KV_CHAT_SYSTEM, p->system};
    c.messages[c.n++] = (kv_chat_message){KV_CHAT_USER, text};
    return c;
}

kv_status kv_prompt_ids(const kv_prompting *p, const char *text, int32_t **ids, int64_t *n, kv_error *err) {
    return kv_prompt_answer_ids(p, text, "", ids, n, err);
}

kv_status kv_prompt_answer_ids(const kv_prompting *p, const char *text, const char *answer, int32_t **ids,
                               int64_t *n, kv_error *err) {
    *ids = NULL;
    if (p->chat) {
        const struct conversation c = conversation_of(p, text);
        return kv_chat_encode_answer(p->chat, p->tokenizer, c.messages, c.n, answer, ids, n, err);
    }
    char *all;
    if (asprintf(&all, "%s%s", text, answer) < 0)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt");
    kv_status status = plain_ids(p->tokenizer, all, ids, n, err);
    free(all);
    return status;
}

// What two messages that share nothing have in common.
kv_status kv_prompt_frame(const kv_prompting *p, int64_t *front, int64_t *back, kv_error *err) {
    *front = kv_tokenizer_bos(p->tokenizer) >= 0, *back = 0;
    if (!p->chat) return KV_OK;
    int32_t *a = NULL, *b = NULL;
    int64_t n_a, n_b;
    kv_status status = kv_prompt_ids(p, "x", &a, &n_a, err);
    if (status == KV_OK) status = kv_prompt_ids(p, "7", &b, &n_b, err);
    if (status == KV_OK) {
        const int64_t least = n_a < n_b ? n_a : n_b;
        for (*front = 0; *front < least && a[*front] == b[*front];) ++*front;
        while (*front + *back < least && a[n_a - 1 - *back] == b[n_b - 1 - *back]) ++*back;
    }
    free(a);
    free(b);
    return status;
}

kv_status kv_prompt_hash(const kv_prompting *p, uint64_t *hash, kv_error *err) {
    *hash = 0;
    if (!p->chat) return KV_OK;
    const struct conversation c = conversation_of(p, "");
    kv_chat_parts parts;
    kv_status status = kv_chat_render(p->chat, c.messages, c.n, &parts, err);
    for (int64_t i = 0; i < parts.n; i++)
        *hash = kv_hash64(*hash, parts.items[i].text, strlen(parts.items[i].text) + 1);
    kv_chat_parts_free(&parts);
    return status;
}
