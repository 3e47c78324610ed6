// What kvdata tokenize keeps in the directory of a corpus: TOKENIZE_JOURNAL while it is being made, from which
// an interrupted run goes on; index.json (data/corpus/corpus.h) when it is done.
#pragma once

#include "data/kvdata/tokenize/tokenize.h"

#include <jansson.h>

typedef struct tokenize_shard {
    int64_t n_documents, n_tokens;
    char hash[17];
} tokenize_shard;

typedef struct tokenize_journal {
    json_t *options; // all that decides what comes of a text
    json_t *inputs;  // which text
    tokenize_shard *shards;
    int64_t n_shards;
    // Behind the last shard.
    tokenize_place place;
    tokenize_counts counts;
} tokenize_journal;

// Of a run that is to begin. Free with tokenize_journal_free, also after a failure.
kv_status tokenize_journal_begin(tokenize_journal *journal, const tokenize_options *options,
                                 const kv_text_files *files, const kv_tokenizer *tokenizer, kv_error *err);
void tokenize_journal_free(tokenize_journal *journal);

kv_status tokenize_journal_add(tokenize_journal *journal, const tokenize_shard *shard, kv_error *err);

// "shard-00012.h5"; the number of such a name, -1 for another.
enum { TOKENIZE_SHARD_NAME = 32 };
void tokenize_shard_name(int64_t number, char name[TOKENIZE_SHARD_NAME]);
int64_t tokenize_shard_number(const char *name);

kv_status tokenize_journal_save(const tokenize_journal *journal, const char *dir, kv_error *err);
// Takes shards, place and counts from dir. KV_ERR_MISMATCH, saying what differs, when they are of a run with
// other options or inputs.
kv_status tokenize_journal_load(tokenize_journal *journal, const char *dir, kv_error *err);

// index.json, with `counts` for the whole.
kv_status tokenize_index_save(const tokenize_journal *journal, const char *dir, const kv_shard_info *info,
                              const tokenize_counts *counts, kv_error *err);
