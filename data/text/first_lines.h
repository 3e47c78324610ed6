// What the first lines of a text say that it is: JSON lines, plain text, a page; the inner half of documents.c.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// The first lines that are not blank, and how many of them are JSON objects.
typedef struct kv_first_lines {
    int n, n_objects;
    bool begins; // the first is one, or the end of one that was cut in two
    bool tag;    // the first begins with one, as pages do
    bool whole;  // there are no more than have been read
} kv_first_lines;

bool kv_is_blank(const char *line, size_t length);

// Counts them in text[size], as far as it has been read; first->whole says whether that is all.
void kv_count_first_lines(const char *text, size_t size, kv_first_lines *first);

// Why a file called .jsonl that begins with text[size] holds no JSON lines; `shape` has room for what is returned.
enum { KV_SHAPE = 400 };
const char *kv_not_as_named(const char *text, size_t size, char shape[KV_SHAPE]);

// {"text": ...}, also as Python prints it or with the comma of a list behind it.
bool kv_looks_like_object(const char *line, size_t length);
