// Small tokenizer.json files made by the tests, and texts to try tokenizers on.
#pragma once

#include "tests/support/corpus.h"

#include <jansson.h>

// A byte-level tokenizer.json: the 256 stand-ins for bytes have the ids of their bytes, then come the pieces
// that merges make, n of them, "a b" each. Pre-tokenizer and decoder are plain ByteLevel.
json_t *test_byte_level(const char *const *merges, size_t n);

// The same of SentencePiece's kind, as Llama-2's: <unk> is 0, then come the bytes if there are `bytes`, and
// in any case from 257 on U+2581, a, b, "U+2581 a" and ab; <s> is 300. U+2581 is put in front of all text.
json_t *test_spm_kind(bool bytes);

// Replaces the member of an object by JSON text.
void test_set(json_t *object, const char *key, const char *json);

// Writes the file and opens it; the test fails unless it opens. test_refused wants it refused with a message
// of one line that holds `words` and the file's name.
kv_tokenizer *test_open(const json_t *root, const char *path);
void test_refused(const json_t *root, const char *path, const char *words);

// Faster than test_write_text: nothing is flushed to disk. The directory must exist.
void test_write_bytes(const char *path, const char *bytes, size_t length);

// Ids of a text, *n of them; caller frees. test_expect_ids compares them with ids[n].
int32_t *test_encode(const kv_tokenizer *tokenizer, const char *text, size_t length, int64_t *n);
void test_expect_ids(const kv_tokenizer *tokenizer, const char *text, const int32_t *ids, int64_t n);
// The text must come back from its ids, byte by byte.
void test_round_trip(const kv_tokenizer *tokenizer, const char *text, size_t length);

// A text of n characters of UTF-8 in text[4 · n + 1], NUL-terminated; returns its length. Characters of all
// kinds that splitting looks at, which no version of Unicode is going to reclassify; no U+2581, and NUL only
// with `nul`.
size_t test_unicode(uint64_t seed, int64_t n, bool nul, char *text);
// n bytes, valid UTF-8 in places.
void test_bytes(uint64_t seed, int64_t n, char *text);

// Appends the UTF-8 of a code point; returns its length.
size_t test_put_utf8(int32_t point, char *text);
