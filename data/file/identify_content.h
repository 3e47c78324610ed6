// The beginning of a file, and what it says about it: the inner half of identify.c.
#pragma once

#include "data/file/identify.h"

#include <stdint.h>

typedef struct kv_head {
    const char *path;
    unsigned char *bytes; // [size], with a NUL behind
    size_t size;
    int64_t file_size; // of the whole, -1 where only reading it would tell (gzip)
    bool whole;        // bytes are all of it
} kv_head;

// Fills *identity, or leaves it empty.
void kv_identify_content(const kv_head *head, kv_identity *identity);

// Of texts: JSON, configurations, web pages, answers of servers, other encodings. False where it is no text.
bool kv_identify_text(const kv_head *head, kv_identity *identity);

// Fills in both texts; for identities of no kind of ours.
void kv_identity_set(kv_identity *identity, const char *advice, const char *what, ...)
    __attribute__((format(printf, 3, 4)));
// A kind of ours, by its own words.
void kv_identity_kind(kv_identity *identity, kv_file_kind kind);

// At most `most` bytes of text[length], whole characters, white space as single blanks, without what moves the cursor,
// "..." where it was cut.
enum { KV_EXCERPT = 160 };
const char *kv_excerpt(const char *text, size_t length, size_t most, char out[KV_EXCERPT]);
