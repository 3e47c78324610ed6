// kvdata new: from text to a project that trains and evaluates with four commands. The text is gathered and cut into
// pieces (gather.c, pieces.c), sizes are chosen by how much there is (sizes.c), files are written from templates
// (project.c). What comes out depends on the text and the options alone.
#pragma once

#include "core/status.h"
#include "data/text/documents.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct new_options {
    const char *dir;
    char **inputs;
    int n_inputs;
    kv_documents_options text;
    int64_t vocab_size;    // 0: by how much text there is
    double held_out;       // share of the text
    const char *tokenizer; // NULL: one is trained
    const char *questions; // as TriviaQA has them; NULL: none
} new_options;

// ---- Text ----------------------------------------------------------------------------------------------

// A part of the spool: a document or paragraph as it was read, then a piece of the corpus.
typedef struct new_piece {
    int64_t begin, length; // in the spool
    int64_t file;          // the input it is of
    bool joins; // a paragraph of plain text: what follows it in the file may stand in one piece with it
    bool held_out;
    uint64_t hash;
} new_piece;

typedef struct new_text {
    FILE *spool; // all text, in the order it was read
    new_piece *pieces;
    int64_t n;
    int64_t bytes;                                // of all pieces
    int64_t documents, copies, copied_bytes, bad; // read; exact copies of others; without text
    int64_t cut;                                  // documents in more than one piece
    int64_t held_out, held_out_bytes;             // pieces
    int64_t characters;                           // different ones that 99.95 % of the text is made of
    char opening[64];                             // a few words of held-out text that need no quoting
} new_text;

// Reads all inputs into spool, an open file for reading and writing, which stays the caller's. Free with
// new_text_free, also after a failure.
kv_status new_text_gather(const new_options *options, FILE *spool, new_text *text, kv_error *err);
void new_text_free(new_text *text);

// Documents become pieces: paragraphs of one file stand together, and what is a large part of all is cut. Then a share of
// the pieces is held out, chosen by their hashes.
kv_status new_text_cut(new_text *text, double held_out, kv_error *err);

// Writes those that are held out, or the others, as JSON lines; `every`: only each so-manieth.
kv_status new_text_write(const new_text *text, bool held_out, int64_t every, const char *path, kv_error *err);

// FLOP/s that two slow cores reach in a training of this size: what times are told by.
#define NEW_SLOW 20e9

// ---- Sizes ---------------------------------------------------------------------------------------------

typedef struct new_model {
    int64_t layers, dim, head_dim, heads, kv_heads, ffn, steps;
    double lr;
    double flops; // of its training
} new_model;

typedef struct new_sizes {
    int64_t vocab_size, train_tokens, held_out_tokens;
    int64_t seq_len, batch, window, prompt, context, windows;
    int64_t validation_tokens, fit_tokens, kvp_steps;
    int64_t questions; // that the evaluation asks
    bool large_vocabulary; // a table of every token is too much to learn
    new_model base, aux;
    double kvp_flops;
} new_sizes;

// Of a tokenizer that is to be trained.
int64_t new_vocab_size(const new_text *text);
// vocab_size, train_tokens and held_out_tokens are known. KV_ERR_RANGE where there is too little to work with.
kv_status new_sizes_choose(new_sizes *sizes, kv_error *err);

// ---- The whole -----------------------------------------------------------------------------------------

// Makes options->dir, which is new or empty, whole or not at all.
kv_status new_project(const new_options *options, new_text *text, new_sizes *sizes, kv_error *err);
