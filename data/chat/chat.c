// A conversation is put together as parts, special tokens apart from text, so that nothing a user types can
// be taken for one.
#include "data/chat/chat.h"

#include "data/system/buffers.h"
#include "data/text/unicode.h"

#include <stdlib.h>
#include <string.h>

static const char *const role_names[] = {
    [KV_CHAT_SYSTEM] = "system", [KV_CHAT_USER] = "user", [KV_CHAT_ASSISTANT] = "assistant"};

const char *kv_chat_end(const kv_chat_template *chat) {
    static const char *const ends[] = {
        [KV_CHAT_CHATML] = "<|im_end|>", [KV_CHAT_LLAMA3] = "<|eot_id|>", [KV_CHAT_LLAMA2] = "</s>"};
    return ends[chat->kind];
}

// ---- Parts ---------------------------------------------------------------------------------------------

// Appending never stops half-way: after a failure `failed` stays true and the rest does nothing.
struct writer {
    kv_chat_parts *parts;
    bool failed;
};

static void put_special(struct writer *w, const char *piece) {
    kv_chat_parts *parts = w->parts;
    kv_chat_part *items = w->failed ? NULL : kv_room_for_one(parts->items, (size_t)parts->n, sizeof *items);
    char *text = items ? strdup(piece) : NULL;
    if (items) parts->items = items;
    if (text) parts->items[parts->n++] = (kv_chat_part){.special = true, .text = text};
    w->failed = w->failed || !text;
}

// Text behind text is one part, as it is tokenized together.
static void put_text(struct writer *w, const char *text, size_t length) {
    kv_chat_parts *parts = w->parts;
    if (parts->n == 0 || parts->items[parts->n - 1].special) {
        put_special(w, "");
        if (w->failed) return;
        parts->items[parts->n - 1].special = false;
    }
    kv_chat_part *last = &parts->items[parts->n - 1];
    const size_t before = strlen(last->text);
    char *longer = w->failed ? NULL : realloc(last->text, before + length + 1);
    w->failed = w->failed || !longer;
    if (!longer) return;
    memcpy(longer + before, text, length);
    longer[before + length] = '\0';
    last->text = longer;
}

static void put(struct writer *w, const char *text) {
    put_text(w, text, strlen(text));
}

static void put_trimmed(struct writer *w, const char *text) {
    const size_t length = kv_strip(&text, strlen(text)); // templates are run by Python
    put_text(w, text, length);
}

void kv_chat_parts_free(kv_chat_parts *parts) {
    for (int64_t i = 0; i < parts->n; i++) free(parts->items[i].text);
    free(parts->items);
    *parts = (kv_chat_parts){0};
}

// ---- Formats -------------------------------------------------------------------------------------------

static void chatml(struct writer *w, const char *role, const char *text) {
    put_special(w, "<|im_start|>");
    put(w, role);
    put(w, "\n");
    if (!text) return; // the answer to come
    put(w, text);
    put_special(w, "<|im_end|>");
    put(w, "\n");
}

// `preface` stands in front of a system message.
static void llama3(struct writer *w, const char *role, const char *preface, const char *text) {
    put_special(w, "<|start_header_id|>");
    put(w, role);
    put_special(w, "<|end_header_id|>");
    put(w, "\n\n");
    if (!text) return;
    put(w, preface);
    put_trimmed(w, text);
    put_special(w, "<|eot_id|>");
}

static void llama2_user(struct writer *w, const char *system, const char *text) {
    put_special(w, "<s>");
    put(w, "[INST] ");
    if (system) {
        put(w, "<<SYS>>\n");
        put(w, system);
        put(w, "\n<</SYS>>\n\n");
        put(w, text); // the template trims both together, and the front is no white space
        kv_chat_part *last = w->failed ? NULL : &w->parts->items[w->parts->n - 1];
        if (last) last->text[kv_strip_end(last->text, strlen(last->text))] = '\0';
    } else {
        put_trimmed(w, text);
    }
    put(w, " [/INST]");
}

static void llama2_answer(struct writer *w, const char *text) {
    put(w, " ");
    put_trimmed(w, text);
    put(w, " ");
    put_special(w, "</s>");
}

// An earlier answer without what was thought before it.
static const char *spoken(const kv_chat_template *chat, const char *text) {
    static const char end[] = "</think>";
    if (!chat->thinks) return text;
    for (const char *at; (at = strstr(text, end)) != NULL;) {
        text = at + sizeof end - 1;
        text += strspn(text, "\n");
    }
    return text;
}

static void write_message(const kv_chat_template *chat, struct writer *w, const char *system,
                          const kv_chat_message *message) {
    const char *role = role_names[message->role];
    const char *text = message->role == KV_CHAT_ASSISTANT ? spoken(chat, message->text) : message->text;
    switch (chat->kind) {
    case KV_CHAT_CHATML: chatml(w, role, text); return;
    case KV_CHAT_LLAMA3: llama3(w, role, "", text); return;
    case KV_CHAT_LLAMA2:
        if (message->role == KV_CHAT_USER)
            llama2_user(w, system, text);
        else
            llama2_answer(w, text);
        return;
    }
}

static void write_system(const kv_chat_template *chat, struct writer *w, const char *system) {
    if (chat->kind == KV_CHAT_CHATML && system) chatml(w, "system", system);
    if (chat->kind == KV_CHAT_LLAMA3 && (system || chat->preface))
        llama3(w, "system", chat->preface ? chat->preface : "", system ? system : "");
}

static kv_status check_turns(const kv_chat_message *messages, int64_t n, int64_t first, kv_error *err) {
    for (int64_t i = first; i < n; i++)
        if (messages[i].role != ((i - first) % 2 ? KV_CHAT_ASSISTANT : KV_CHAT_USER))
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "message %lld of the conversation is the %s's, expected the %s's", (long long)i,
                           role_names[messages[i].role],
                           role_names[(i - first) % 2 ? KV_CHAT_ASSISTANT : KV_CHAT_USER]);
    if ((n - first) % 2 == 1) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "a conversation to be answered ends with the user's message");
}

kv_status kv_chat_render(const kv_chat_template *chat, const kv_chat_message *messages, int64_t n,
                         kv_chat_parts *parts, kv_error *err) {
    *parts = (kv_chat_parts){0};
    struct writer w = {.parts = parts};
    const bool given = n > 0 && messages[0].role == KV_CHAT_SYSTEM;
    const char *system = given ? messages[0].text : chat->system;
    kv_status status = check_turns(messages, n, given, err);
    if (status != KV_OK) return status;
    if (chat->kind == KV_CHAT_LLAMA3) put_special(&w, "<|begin_of_text|>");
    write_system(chat, &w, system);
    for (int64_t i = given; i < n; i++) write_message(chat, &w, i == given ? system : NULL, &messages[i]);
    if (chat->kind == KV_CHAT_CHATML) chatml(&w, "assistant", NULL);
    if (chat->kind == KV_CHAT_CHATML && chat->opens_thought) put(&w, "<think>\n");
    if (chat->kind == KV_CHAT_LLAMA3) llama3(&w, "assistant", NULL, NULL);
    return w.failed ? kv_fail(err, KV_ERR_MEMORY, "out of memory for a conversation") : KV_OK;
}

// ---- Ids -----------------------------------------------------------------------------------------------

// What users type is text, whatever it spells.
static kv_status encode_text(const kv_tokenizer *tokenizer, const char *text, int32_t **ids, int64_t *n,
                             kv_error *err) {
    return kv_tokenizer_encode_plain(tokenizer, text, strlen(text), ids, n, err);
}

static kv_status encode_part(const kv_tokenizer *tokenizer, const kv_chat_part *part, int32_t **ids,
                             int64_t *n, kv_error *err) {
    if (!part->special) return encode_text(tokenizer, part->text, ids, n, err);
    const int32_t id = kv_tokenizer_find(tokenizer, part->text);
    if (id < 0)
        return kv_fail(err, KV_ERR_MISMATCH, "the chat template needs the token %s, the tokenizer has none",
                       part->text);
    *ids = malloc(sizeof **ids);
    if (!*ids) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a conversation");
    **ids = id, *n = 1;
    return KV_OK;
}

static kv_status append(int32_t **ids, int64_t *n_ids, const int32_t *more, int64_t n, kv_error *err) {
    int32_t *longer = realloc(*ids, (size_t)(*n_ids + n) * sizeof **ids + 1);
    if (!longer) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a conversation");
    if (n > 0) memcpy(longer + *n_ids, more, (size_t)n * sizeof *more);
    *ids = longer, *n_ids += n;
    return KV_OK;
}

// Behind the assistant's header, as part of the same text.
static kv_status begin_answer(const kv_chat_template *chat, kv_chat_parts *parts, const char *answer,
                              kv_error *err) {
    struct writer w = {.parts = parts};
    if (*answer && chat->kind == KV_CHAT_LLAMA2) put(&w, " ");
    if (*answer) put(&w, answer);
    return w.failed ? kv_fail(err, KV_ERR_MEMORY, "out of memory for a conversation") : KV_OK;
}

kv_status kv_chat_encode(const kv_chat_template *chat, const kv_tokenizer *tokenizer,
                         const kv_chat_message *messages, int64_t n, int32_t **ids, int64_t *n_ids,
                         kv_error *err) {
    return kv_chat_encode_answer(chat, tokenizer, messages, n, "", ids, n_ids, err);
}

kv_status kv_chat_encode_answer(const kv_chat_template *chat, const kv_tokenizer *tokenizer,
                                const kv_chat_message *messages, int64_t n, const char *answer, int32_t **ids,
                                int64_t *n_ids, kv_error *err) {
    kv_chat_parts parts;
    *ids = NULL, *n_ids = 0;
    const int32_t bos = kv_tokenizer_bos(tokenizer);
    kv_status status = kv_chat_render(chat, messages, n, &parts, err);
    if (status == KV_OK) status = begin_answer(chat, &parts, answer, err);
    if (status == KV_OK && chat->kind == KV_CHAT_CHATML && chat->begins && bos >= 0)
        status = append(ids, n_ids, &bos, 1, err);
    for (int64_t i = 0; i < parts.n && status == KV_OK; i++) {
        int32_t *more = NULL;
        int64_t n_more = 0;
        status = encode_part(tokenizer, &parts.items[i], &more, &n_more, err);
        if (status == KV_OK) status = append(ids, n_ids, more, n_more, err);
        free(more);
    }
    kv_chat_parts_free(&parts);
    if (status == KV_OK) return KV_OK;
    free(*ids);
    *ids = NULL, *n_ids = 0;
    return status;
}
