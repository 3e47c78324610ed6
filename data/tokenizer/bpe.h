// Byte-pair encoding of one word.
//                                                                    [Sennrich, Haddow & Birch 2016]
//
// A word's characters become pieces; then, as long as a merge applies to two neighbours, the merge of lowest
// rank is applied, the leftmost of equal ones first. Time is n log n in the word's length.
#pragma once

#include "data/system/buffers.h"
#include "data/tokenizer/vocabulary.h"

#include <stdbool.h>

typedef struct kv_merge {
    int32_t left, right, result; // ids
} kv_merge;

typedef struct kv_bpe_options {
    bool byte_fallback; // characters without a piece are spelt in bytes, "<0x00>" to "<0xFF>"
    bool fuse_unknown;  // neighbouring unknown characters are one
    bool ignore_merges; // a whole word that is a piece is that piece, whatever the merges say
    bool byte_alphabet; // characters stand for bytes (data/tokenizer/pretokenizer.h): for messages
    int32_t unknown;    // the id of what has no piece; -1: that is an error
    const bool *hidden; // by id: pieces of the vocabulary that no word has; lives as long. NULL: none
} kv_bpe_options;

typedef struct kv_bpe kv_bpe;

// merges[n] in order of their rank; the last of equal pairs counts. The vocabulary must outlive the result,
// which never changes: threads may share it.
kv_status kv_bpe_create(const kv_vocabulary *vocabulary, const kv_merge *merges, size_t n,
                        const kv_bpe_options *options, kv_bpe **bpe, kv_error *err);
void kv_bpe_free(kv_bpe *bpe);

// What encoding needs besides: memory, and the ids of words seen before. One for each thread and bpe.
typedef struct kv_bpe_work kv_bpe_work;
kv_bpe_work *kv_bpe_work_create(void); // NULL: out of memory
void kv_bpe_work_free(kv_bpe_work *work);

// Appends the ids of word[length], of any bytes; an invalid one is a character of its own.
// KV_ERR_FORMAT: a character has no piece, and there is none for unknown ones.
kv_status kv_bpe_encode(const kv_bpe *bpe, kv_bpe_work *work, const char *word, size_t length, kv_ids *ids,
                        kv_error *err);
