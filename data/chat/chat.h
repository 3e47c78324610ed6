// Conversations, as the models that were trained for them expect to read them.
//
// Three formats are known, told apart by their markers in the model's own chat template (Jinja source, which
// is not run):
//
//   ChatML    <|im_start|> and <|im_end|> (without <|im_sep|>), as Qwen and SmolLM2:
//                 <|im_start|>ROLE\nTEXT<|im_end|>\n …  <|im_start|>assistant\n
//   Llama-3   <|start_header_id|>, as Llama 3 to 3.3; no white space around TEXT:
//                 <|begin_of_text|>  <|start_header_id|>ROLE<|end_header_id|>\n\nTEXT<|eot_id|> …
//                 <|start_header_id|>assistant<|end_header_id|>\n\n
//   Llama-2   [INST] and <<SYS>>:
//                 <s>[INST] <<SYS>>\nSYSTEM\n<</SYS>>\n\nUSER [/INST] ANSWER </s><s>[INST] USER [/INST]
//
// What stands outside the texts comes from here; special tokens are looked up in the vocabulary, and none can
// come from a text (of Llama-2 [INST] and <<SYS>> are plain text and can). Where the template puts in a
// system message of its own if there is none, as Qwen 2.5's and SmolLM2's do, that is used where it stands in
// the source as one literal, there or in a variable; Llama 3.1's and later ones' lines on the cutting date
// and today's are put in with the fixed date of the template. What <think> … </think> holds is left out of
// earlier answers by templates that know of it, and those of models that always think (Qwen 3's of July 2025,
// QwQ) begin the answer with it.
#pragma once

#include "core/api.h"
#include "data/tokenizer/tokenizer.h"

#include <stdbool.h>

KV_API_BEGIN

typedef enum kv_chat_kind { KV_CHAT_CHATML, KV_CHAT_LLAMA3, KV_CHAT_LLAMA2 } kv_chat_kind;

typedef struct kv_chat_template {
    kv_chat_kind kind;
    char *system;       // what the system message is when nobody gives one; NULL: there is none then
    char *preface;      // what stands before it in any case (Llama 3.1 and later); NULL: nothing
    bool begins;        // ChatML: the template writes the tokenizer's BOS first
    bool thinks;        // <think> … </think> is taken out of earlier answers
    bool opens_thought; // ChatML: the answer begins with <think> and a new line, which are part of the prompt
} kv_chat_template;

typedef enum kv_chat_role { KV_CHAT_SYSTEM, KV_CHAT_USER, KV_CHAT_ASSISTANT } kv_chat_role;

// UTF-8, borrowed.
typedef struct kv_chat_message {
    kv_chat_role role;
    const char *text;
} kv_chat_message;

// The template of a model or tokenizer directory: chat_template.jinja, or "chat_template" in
// tokenizer_config.json (of a list of named ones the one called default). *found false: there is none. One
// that is none of the above is KV_ERR_FORMAT. Free with kv_chat_template_free (accepts an empty one).
kv_status kv_chat_template_read(const char *dir, kv_chat_template *chat, bool *found, kv_error *err);
void kv_chat_template_free(kv_chat_template *chat);

// The template that goes with a tokenizer, a file or directory, which is open: it lies beside it, or in the directory of
// the model that answers. KV_ERR_ARGUMENT when there is none; KV_ERR_MISMATCH when the tokenizer lacks the token that
// ends answers.
kv_status kv_chat_template_find(const char *tokenizer, const kv_tokenizer *opened, const char *model,
                                kv_chat_template *chat, kv_error *err);

// The piece that ends an answer.
const char *kv_chat_end(const kv_chat_template *chat);

// A part of a conversation: a special token, by its piece, or text that is tokenized as one.
typedef struct kv_chat_part {
    bool special;
    char *text;
} kv_chat_part;

typedef struct kv_chat_parts {
    kv_chat_part *items;
    int64_t n;
} kv_chat_parts;

// The conversation messages[n], a system message at most as the first, then user and assistant in turns with
// the user's last, and what the answer begins with. Free with kv_chat_parts_free, also after a failure.
kv_status kv_chat_render(const kv_chat_template *chat, const kv_chat_message *messages, int64_t n,
                         kv_chat_parts *parts, kv_error *err);
void kv_chat_parts_free(kv_chat_parts *parts);

// The same as ids; caller frees *ids. KV_ERR_MISMATCH when the vocabulary lacks a special token.
kv_status kv_chat_encode(const kv_chat_template *chat, const kv_tokenizer *tokenizer,
                         const kv_chat_message *messages, int64_t n, int32_t **ids, int64_t *n_ids,
                         kv_error *err);

// The same with the beginning of the answer, which is tokenized together with what the answer begins with.
kv_status kv_chat_encode_answer(const kv_chat_template *chat, const kv_tokenizer *tokenizer,
                                const kv_chat_message *messages, int64_t n, const char *answer, int32_t **ids,
                                int64_t *n_ids, kv_error *err);

KV_API_END
