// kvdata tokenize, in three parts that hand on documents in their order: a reader (this file's
// tokenize_read), encoders on all cores, and a sink, which writes one shard or a corpus
// (data/kvdata/tokenize/sink.c). What comes out depends on the input and the options alone, not on the number of
// threads.
#pragma once

#include "data/corpus/shard.h"
#include "data/system/buffers.h"
#include "data/text/documents.h"
#include "data/text/files.h"
#include "data/tokenizer/files.h"

// In a corpus that is still being made (data/kvdata/tokenize/journal.h).
#define TOKENIZE_JOURNAL "unfinished.json"

typedef struct tokenize_options {
    const char *tokenizer, *out;
    const char *source; // what to call the inputs, in the shards and on the way; NULL: as they are named
    char **inputs;
    int n_inputs;
    kv_documents_options text;
    int64_t min_chars, min_tokens;
    int64_t shard_tokens; // 0: all in the one shard `out`; otherwise `out` is a directory
    int64_t max_bad;      // -1: any number
    int threads;          // 0: as many as OpenMP takes
    bool nfc, force;
} tokenize_options;

// Of all input up to some document.
typedef struct tokenize_counts {
    int64_t documents, tokens, bytes; // written
    int64_t too_few_chars, too_few_tokens, bad;
    int64_t short_bytes, bad_bytes; // of those left out; of bad ones as they stand in the file
} tokenize_counts;

// Where a document ends: which file, and where in it.
typedef struct tokenize_place {
    int64_t file;
    kv_documents_place within;
} tokenize_place;

typedef struct tokenize_result {
    tokenize_counts counts;
    int64_t shards;
    bool has_eos; // the tokenizer
} tokenize_result;

// All of it. Warns where more than a tenth of the documents, or of their text, is left out.
kv_status tokenize_run(const tokenize_options *options, tokenize_result *result, kv_error *err);

// ---- Blocks of documents -------------------------------------------------------------------------------

typedef enum tokenize_outcome {
    TOKENIZE_KEPT,
    TOKENIZE_CHARS,
    TOKENIZE_TOKENS,
    TOKENIZE_BAD
} tokenize_outcome;

typedef struct tokenize_document {
    size_t start, length; // in the block's text; of a bad one the bytes it takes in its file
    tokenize_place behind;
    int64_t line;
    tokenize_outcome outcome;
    char *why;    // bad
    int32_t *ids; // kept: [n_ids], with BOS and EOS
    int64_t n_ids;
} tokenize_document;

typedef struct tokenize_block {
    kv_bytes text;
    tokenize_document *documents; // [n]
    int64_t n;
    bool last;        // nothing comes behind it
    int64_t position; // of the reader behind it, in bytes of the files
    kv_status status; // of whoever worked on it last
    kv_error err;
} tokenize_block;

void tokenize_block_clear(tokenize_block *block); // ready for other documents
void tokenize_block_free(tokenize_block *block);

// ---- Reader --------------------------------------------------------------------------------------------

typedef struct tokenize_reader {
    const kv_text_files *files; // borrowed
    kv_documents_options options;
    int64_t file; // that is read
    int64_t done; // bytes of the files before it
    int64_t read; // bytes of it (unpacked) up to the last document
    kv_documents *documents;
} tokenize_reader;

// Goes behind `place`; a call does a part of it, until *there.
kv_status tokenize_reader_seek(tokenize_reader *reader, tokenize_place place, bool *there, kv_error *err);
int64_t tokenize_reader_position(const tokenize_reader *reader);
// The next document of all files; a file that the user named and that is no text is an error, one that lay in a
// directory a bad document. Neither text nor bad: there is none.
kv_status tokenize_next(tokenize_reader *reader, kv_document *document, kv_error *err);
// Fills an empty block with documents of about so many bytes of text. block->status says how it went.
void tokenize_read(tokenize_reader *reader, size_t bytes, tokenize_block *block);
void tokenize_reader_close(tokenize_reader *reader);

// ---- Encoder -------------------------------------------------------------------------------------------

// Documents first to last (excluded) of a block. Different documents may be encoded by different threads at a
// time.
kv_status tokenize_encode(const tokenize_options *options, const kv_tokenizer *tokenizer,
                          tokenize_block *block, int64_t first, int64_t last, kv_error *err);

// ---- Sink ----------------------------------------------------------------------------------------------

typedef struct tokenize_sink tokenize_sink;

// Opens options->out: a shard (shard_tokens 0), or a directory, in which an earlier run's work is gone on
// with when options and files are the same. *begin: where to go on, and what was counted up to there.
kv_status tokenize_sink_open(const tokenize_options *options, const kv_text_files *files,
                             const kv_tokenizer *tokenizer, const kv_bundle *tokenizer_files,
                             tokenize_sink **sink, tokenize_place *begin, tokenize_counts *counts,
                             kv_error *err);
// One document, and then, kept or not, where it ended and what was counted up to there.
kv_status tokenize_sink_add(tokenize_sink *sink, const int32_t *ids, int64_t n, kv_error *err);
kv_status tokenize_sink_end_document(tokenize_sink *sink, tokenize_place behind,
                                     const tokenize_counts *counts, kv_error *err);
// Everything is written. Without it tokenize_sink_free leaves no shard, or a directory that can be gone on
// with.
kv_status tokenize_sink_finish(tokenize_sink *sink, const tokenize_counts *counts, kv_error *err);
int64_t tokenize_sink_shards(const tokenize_sink *sink); // finished ones
// Nothing is to be gone on with: the directory is left as if there had been no run.
void tokenize_sink_forget(tokenize_sink *sink);
void tokenize_sink_free(tokenize_sink *sink);
