// The text of a curve: a part that maps are fitted on, and another that they are judged on.
#pragma once

#include "data/tokenizer/tokenizer.h"
#include "eval/curve/options.h"

typedef struct kv_curve_text {
    int32_t *fit, *held_out; // [n_fit], [n_held_out]: none where --held-out names another text
    int64_t n_fit, n_held_out;
    int64_t *documents; // [n_documents] lengths of those in held_out
    int64_t n_documents;
    int64_t fit_documents;
    bool cut;      // held_out is the end of the text, since it has too few documents to keep some whole
    char hash[17]; // of both
} kv_curve_text;

// Reads as much of the text as is wanted. Documents go whole to one part or the other, whichever lacks the larger share of
// what it is to have; where they are too few for that, the text's end is held out. Of a text that is too short for both,
// a quarter is held out, in whole windows, and a warning says so. KV_ERR_RANGE where that leaves none to fit on or fewer than two windows
// to judge on. Free with kv_curve_text_free, also after a failure.
kv_status kv_curve_text_read(const kv_curve_options *options, const kv_tokenizer *tokenizer,
                             kv_curve_text *text, kv_error *err);
void kv_curve_text_free(kv_curve_text *text);

// What is held out as a token shard.
kv_status kv_curve_text_write(const kv_curve_text *text, const kv_curve_options *options,
                              const kv_tokenizer *tokenizer, const char *tokenizer_path, const char *path,
                              kv_error *err);
