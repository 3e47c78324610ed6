// kvdata sample, in three parts: a store, which keeps what has been drawn so that nothing is drawn twice (store.c), the drawing
// (draw.c, by infer/draw.h), and the corpus that is made of it in the end (corpus.c).
#pragma once

#include "data/corpus/shard.h"
#include "infer/draw.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>

// Beside NAME.h5 while it is being drawn: NAME.h5 with this behind it, a directory of
//   settings.json              format "kv-sample", version 1, and all that decides what the documents are
//   piece-00000.h5, ...        token shards with the documents in their order
#define SAMPLE_UNFINISHED ".unfinished"
#define SAMPLE_SETTINGS   "settings.json"
#define SAMPLE_FORMAT     "kv-sample"

typedef struct sample_store {
    char dir[PATH_MAX];
    kv_shard_info info; // of the pieces
    int lock;           // descriptor of the locked directory; -1: none
    bool opened;        // it is this run's to go on with, and to remove
    int64_t n_pieces, n_documents, n_tokens;
    kv_shard_writer *writer; // of the piece that is being written; NULL: none
    double begun;            // when it was (kv_now)
} sample_store;

// "piece-00012.h5"; the number of such a name, -1 for another.
enum { SAMPLE_PIECE_NAME = 32 };
void sample_piece_name(int64_t number, char name[SAMPLE_PIECE_NAME]);
int64_t sample_piece_number(const char *name);

// The store of the corpus `out`: what an earlier run with the same settings left is gone on with, one of other settings
// is KV_ERR_MISMATCH naming the first that differs, unless `anew`. Close with sample_store_close, also after a failure.
kv_status sample_store_open(sample_store *store, const char *out, const kv_shard_info *info,
                            const json_t *settings, bool anew, kv_error *err);
// The next document. Every half a minute, and with sample_store_flush, all there are are on disk.
kv_status sample_store_add(sample_store *store, const int32_t *ids, int64_t n, kv_error *err);
kv_status sample_store_flush(sample_store *store, kv_error *err);
// Everything is forgotten; or kept, where there is anything.
kv_status sample_store_remove(sample_store *store, kv_error *err);
void sample_store_close(sample_store *store);

// Fills in how many pieces, documents and tokens the directory holds; for those who only look.
kv_status sample_store_count(sample_store *store, kv_error *err);

// A store that has been flushed, document by document, in their order. *enough ends it.
typedef kv_status sample_document_fn(void *context, const int32_t *ids, int64_t n, bool *enough,
                                     kv_error *err);
kv_status sample_store_read(const sample_store *store, sample_document_fn *each, void *context,
                            kv_error *err);

// ---- The corpus ----------------------------------------------------------------------------------------

typedef struct sample_goal {
    // How many are drawn: the first so many, or those that reach so many tokens; 0: the other counts.
    int64_t documents, tokens;
    int64_t min_count;   // those of them that were drawn at least so often, each once; 0: all as they are
    int64_t max_tokens;  // documents that end otherwise are counted as cut off
    const int32_t *ends; // [n_ends]
    int64_t n_ends;
} sample_goal;

typedef struct sample_counts {
    int64_t drawn, drawn_tokens, distinct; // distinct: with a min_count
    int64_t documents, tokens, cut;        // written
} sample_counts;

// Whether so many are all that are wanted.
bool sample_reached(const sample_goal *goal, int64_t documents, int64_t tokens);

// Collective. Draws what the store, which is rank 0's, lacks: documents from first + what it has on. KV_ERR_INTERRUPTED where
// that was not all; what is drawn is kept whatever ends it.
kv_status sample_draw(sample_store *store, const kv_document_plan *plan, const sample_goal *goal,
                      int64_t first, int64_t batch, kv_error *err);

// Writes what the goal asks for into the shard `out`. KV_ERR_ARGUMENT when that is nothing.
kv_status sample_write(const sample_store *store, const char *out, const kv_shard_info *info,
                       const kv_bundle *tokenizer_files, const sample_goal *goal, sample_counts *counts,
                       kv_error *err);
