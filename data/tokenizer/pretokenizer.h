// How a tokenizer.json splits text into the words that are encoded one by one: ByteLevel, Split, Digits,
// Metaspace, and sequences of those.
#pragma once

#include "data/system/buffers.h"
#include "data/tokenizer/json_part.h"

// ---- The byte alphabet ---------------------------------------------------------------------------------

// Byte-level vocabularies spell each byte as one character: the visible ones of Latin-1 as themselves, the
// others, in order, as U+0100, U+0101, … Appends the stand-ins for text[length].
//                                                                    [Radford et al. 2019, GPT-2]
kv_status kv_byte_alphabet_encode(const char *text, size_t length, kv_bytes *out, kv_error *err);
// Appends the bytes that text[length] stands for; unless all of it are stand-ins, it is appended as it is.
kv_status kv_byte_alphabet_decode(const char *text, size_t length, kv_bytes *out, kv_error *err);

// ---- Splitting -----------------------------------------------------------------------------------------

typedef enum kv_prepend { KV_PREPEND_ALWAYS, KV_PREPEND_FIRST, KV_PREPEND_NEVER } kv_prepend;
// What Metaspace, which is both a way to split and a way to decode, says: the character that stands for a
// space, and which texts are given one in front (unless they begin with one).
kv_status kv_metaspace_read(const kv_json_part *part, const char **replacement, kv_prepend *prepend,
                            kv_error *err);

typedef struct kv_pretokenizer kv_pretokenizer;

// From the file's "pre_tokenizer", which may be absent: all text is one word. KV_ERR_FORMAT names what is not
// supported.
kv_status kv_pretokenizer_create(const kv_json_part *part, kv_pretokenizer **pretokenizer, kv_error *err);
void kv_pretokenizer_free(kv_pretokenizer *pretokenizer);

// Whether words come in the byte alphabet.
bool kv_pretokenizer_spells_bytes(const kv_pretokenizer *pretokenizer);

// What one thread needs for splitting.
typedef struct kv_pretokenizer_work kv_pretokenizer_work;
kv_pretokenizer_work *kv_pretokenizer_work_create(void); // NULL: out of memory
void kv_pretokenizer_work_free(kv_pretokenizer_work *work);

// Calls `each` for the words of text[length] in order. Every longest run of invalid bytes is a word of its
// own; what follows it gets no space put in front. at_start: the text begins what the user gave.
typedef kv_status kv_word_fn(void *context, const char *word, size_t length, kv_error *err);
kv_status kv_pretokenize(const kv_pretokenizer *pretokenizer, kv_pretokenizer_work *work, const char *text,
                         size_t length, bool at_start, kv_word_fn *each, void *context, kv_error *err);
