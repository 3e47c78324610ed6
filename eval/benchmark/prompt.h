// How prompts become tokens, for all kinds of tasks: as text behind a BOS or, in a chat, as what a user says to a model
// that was trained for conversations.
#pragma once

#include "data/chat/chat.h"
#include "data/tokenizer/tokenizer.h"

typedef struct kv_prompting {
    const kv_tokenizer *tokenizer;
    const kv_chat_template *chat; // NULL: text behind a BOS
    const char *system;           // in a chat: the system message; NULL: what the template says without one
} kv_prompting;

// Tokens of a prompt, BOS first where the tokenizer has one. In a chat: of the conversation that the text is the user's
// only message of, up to where the answer begins, as `kvrun --chat` reads it. Caller frees *ids.
kv_status kv_prompt_ids(const kv_prompting *prompting, const char *text, int32_t **ids, int64_t *n,
                        kv_error *err);

// The same with an answer behind it that the model goes on from, or is asked for the probability of: text and answer as
// one text; in a chat the answer as the assistant has begun it. Caller frees *ids.
kv_status kv_prompt_answer_ids(const kv_prompting *prompting, const char *text, const char *answer,
                               int32_t **ids, int64_t *n, kv_error *err);

// Tokens of every prompt that are not its text's: *front of them before it (a BOS, a system message, the user's
// header), *back behind it (the end of the message, the assistant's header).
kv_status kv_prompt_frame(const kv_prompting *prompting, int64_t *front, int64_t *back, kv_error *err);

// Of what a chat puts around a text; 0 without a chat.
kv_status kv_prompt_hash(const kv_prompting *prompting, uint64_t *hash, kv_error *err);
