// Tokens that are recognised in the text itself, before it is split: special ones and other additions.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kv_added_token {
    int32_t id;
    const char *content; // as it reads in the text; as it reads after normalising where `normalized`
    size_t length;
    bool special;     // left alone when all text is to be text
    bool left, right; // takes the white space on that side
    bool single_word; // only where no letter, mark, digit or connector is next to it
} kv_added_token;

typedef struct kv_added_tokens kv_added_tokens;

// tokens[n], whose contents, none empty, are copied. Of several at one place the longest is found.
kv_status kv_added_tokens_create(const kv_added_token *tokens, size_t n, kv_added_tokens **added,
                                 kv_error *err);
void kv_added_tokens_free(kv_added_tokens *added);

// The first token in text[length] at or after *from, as Hugging Face's tokenizers find it: what it takes is
// text[*start, *end), and the search for the next one goes on at *from. Returns its id; -1: there is none
// left. With `plain` special ones are passed over.
int32_t kv_added_tokens_find(const kv_added_tokens *added, const char *text, size_t length, bool plain,
                             size_t *from, size_t *start, size_t *end);

// How the token with that id reads in the text, *length bytes; NULL: there is none.
const char *kv_added_tokens_content(const kv_added_tokens *added, int32_t id, size_t *length);
