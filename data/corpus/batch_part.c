#include "data/corpus/batch_part.h"

#include "core/rng.h"
#include "data/corpus/packing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// An epoch is all shards in a drawn order, each with its own contents in a drawn order. In units (tokens of a
// stream, fixed rows) all epochs are equally long, so that a place in the endless sequence gives its epoch by
// division. The orders are drawn anew when another epoch or shard is needed.
struct kv_part_rows {
    const kv_corpus *corpus;
    int64_t seq_len;
    uint64_t seed;
    bool fixed;
    int64_t n_units; // of an epoch
    int64_t epoch;   // whose order of shards is held, -1: none
    int64_t *order;  // [n_shards] which shard comes i-th
    int64_t *starts; // [n_shards + 1] where the i-th begins within the epoch, in units

    int64_t shard;       // whose content is held, -1: none
    kv_shard *held;      // stream: the shard
    int32_t *cut;        // fixed: its rows of seq_len + 1 tokens
    int64_t inner_shard; // whose inner order is held, and of which epoch
    int64_t inner_epoch;
    int64_t *inner_order;  // [most documents or rows of a shard]
    int64_t *inner_starts; // stream: [most documents + 1] where the i-th begins within the shard
};

static int64_t units(const kv_part_rows *rows, int64_t shard) {
    const int64_t n_tokens = rows->corpus->shards[shard].n_tokens;
    return rows->fixed ? kv_packed_rows(n_tokens, rows->seq_len) : n_tokens;
}

kv_status kv_part_rows_create(const kv_corpus *corpus, int64_t seq_len, uint64_t seed, bool fixed,
                              kv_part_rows **rows, kv_error *err) {
    *rows = NULL;
    kv_part_rows *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    *made = (kv_part_rows){.corpus = corpus, .seq_len = seq_len, .seed = seed, .fixed = fixed};
    made->epoch = made->shard = made->inner_shard = made->inner_epoch = -1;
    int64_t most = 0;
    for (int64_t i = 0; i < corpus->n_shards; i++) {
        const int64_t n = fixed ? units(made, i) : corpus->shards[i].n_documents;
        made->n_units += units(made, i);
        if (n > most) most = n;
    }
    made->order = malloc((size_t)corpus->n_shards * sizeof *made->order);
    made->starts = malloc(((size_t)corpus->n_shards + 1) * sizeof *made->starts);
    made->inner_order = malloc(((size_t)most + 1) * sizeof *made->inner_order);
    made->inner_starts = fixed ? NULL : malloc(((size_t)most + 1) * sizeof *made->inner_starts);
    kv_status status = KV_OK;
    if (!made->order || !made->starts || !made->inner_order || (!fixed && !made->inner_starts))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the order of %" PRIi64 " documents", most);
    else if (corpus->n_tokens < 1)
        status = kv_fail(err, KV_ERR_ARGUMENT, "the corpus has no tokens to train on");
    else if (made->n_units < 1)
        status = kv_fail(
            err, KV_ERR_ARGUMENT,
            "no shard of the corpus has more than %" PRIi64 " tokens: fixed packing finds no row", seq_len);
    if (status)
        kv_part_rows_free(made);
    else
        *rows = made;
    return status;
}

static void drop_content(kv_part_rows *rows) {
    kv_shard_free(rows->held);
    free(rows->cut);
    rows->held = NULL;
    rows->cut = NULL;
    rows->shard = -1;
}

void kv_part_rows_free(kv_part_rows *rows) {
    if (!rows) return;
    drop_content(rows);
    free(rows->order);
    free(rows->starts);
    free(rows->inner_order);
    free(rows->inner_starts);
    free(rows);
}

// ---- Which shard ---------------------------------------------------------------------------------------

static void draw_epoch(kv_part_rows *rows, int64_t epoch) {
    if (rows->epoch == epoch) return;
    const int64_t n = rows->corpus->n_shards;
    kv_packed_shard_order(rows->seed, epoch, n, rows->order);
    rows->starts[0] = 0;
    for (int64_t i = 0; i < n; i++) rows->starts[i + 1] = rows->starts[i] + units(rows, rows->order[i]);
    rows->epoch = epoch;
}

// The last i below n with starts[i] <= place: what holds it, as empty ones share their start with the one
// behind them.
static int64_t find(const int64_t *starts, int64_t n, int64_t place) {
    int64_t low = 0, high = n;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (starts[middle] <= place)
            low = middle;
        else
            high = middle;
    }
    return low;
}

// The shard that holds unit `place` of the endless sequence, and which of its units that is, in the order of
// the epoch.
static int64_t locate(kv_part_rows *rows, int64_t place, int64_t *within) {
    draw_epoch(rows, place / rows->n_units);
    const int64_t offset = place % rows->n_units, i = find(rows->starts, rows->corpus->n_shards, offset);
    *within = offset - rows->starts[i];
    return rows->order[i];
}

static kv_status cut_rows(kv_part_rows *rows, int64_t shard, kv_error *err) {
    const size_t n = (size_t)units(rows, shard) * (size_t)(rows->seq_len + 1);
    rows->cut = malloc((n + 1) * sizeof *rows->cut);
    kv_status status = rows->cut ? kv_packed_cut(rows->held, rows->seq_len, rows->cut, err)
                                 : kv_fail(err, KV_ERR_MEMORY, "out of memory for the rows of %s",
                                           rows->corpus->shards[shard].path);
    kv_shard_free(rows->held);
    rows->held = NULL;
    return status;
}

static kv_status load(kv_part_rows *rows, int64_t shard, kv_error *err) {
    if (rows->shard == shard) return KV_OK;
    const kv_corpus_shard *listed = &rows->corpus->shards[shard];
    drop_content(rows);
    kv_status status = kv_shard_open(listed->path, &rows->held, err);
    if (!status && (strcmp(rows->held->hash, listed->hash) != 0 || rows->held->n_tokens != listed->n_tokens ||
                    rows->held->n_documents != listed->n_documents))
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: changed since the corpus was opened", listed->path);
    if (!status && rows->fixed) status = cut_rows(rows, shard, err);
    if (!status) rows->shard = shard;
    return status;
}

// ---- A stream of tokens --------------------------------------------------------------------------------

static void draw_documents(kv_part_rows *rows, int64_t epoch) {
    if (rows->inner_shard == rows->shard && rows->inner_epoch == epoch) return;
    const kv_shard *shard = rows->held;
    char name[96];
    // A corpus of one shard is drawn as if it were the shard.
    if (rows->corpus->n_shards == 1)
        snprintf(name, sizeof name, "documents of epoch %" PRIi64, epoch);
    else
        snprintf(name, sizeof name, "documents of shard %" PRIi64 " of epoch %" PRIi64, rows->shard, epoch);
    kv_rng_permutation(kv_rng_stream(rows->seed, name), shard->n_documents, rows->inner_order);
    rows->inner_starts[0] = 0;
    for (int64_t i = 0; i < shard->n_documents; i++) {
        const int64_t document = rows->inner_order[i];
        rows->inner_starts[i + 1] =
            rows->inner_starts[i] + shard->documents[document + 1] - shard->documents[document];
    }
    rows->inner_shard = rows->shard;
    rows->inner_epoch = epoch;
}

// At most n tokens from `offset` of the held shard on; how many there were.
static int64_t copy_tokens(const kv_part_rows *rows, int64_t offset, int64_t n, int32_t *out) {
    const kv_shard *shard = rows->held;
    const int64_t wanted = n;
    for (int64_t i = find(rows->inner_starts, shard->n_documents, offset); i < shard->n_documents && n > 0;
         i++) {
        int64_t count = rows->inner_starts[i + 1] - offset;
        if (count > n) count = n;
        const int64_t from = shard->documents[rows->inner_order[i]] + offset - rows->inner_starts[i];
        memcpy(out, shard->tokens + from, (size_t)count * sizeof *out);
        out += count;
        n -= count;
        offset += count;
    }
    return wanted - n;
}

static kv_status stream_row(kv_part_rows *rows, int64_t row, int32_t *tokens, kv_error *err) {
    int64_t position = row * rows->seq_len, left = rows->seq_len + 1;
    while (left > 0) {
        int64_t within;
        kv_status status = load(rows, locate(rows, position, &within), err);
        if (status) return status;
        draw_documents(rows, rows->epoch);
        const int64_t copied = copy_tokens(rows, within, left, tokens);
        tokens += copied;
        position += copied;
        left -= copied;
    }
    return KV_OK;
}

// ---- Fixed rows ----------------------------------------------------------------------------------------

void kv_part_rows_find(kv_part_rows *rows, int64_t row, int64_t *shard, int64_t *row_of_shard) {
    int64_t within;
    *shard = locate(rows, row, &within);
    if (rows->inner_shard != *shard || rows->inner_epoch != rows->epoch) {
        kv_packed_row_order(rows->seed, rows->epoch, *shard, units(rows, *shard), rows->inner_order);
        rows->inner_shard = *shard;
        rows->inner_epoch = rows->epoch;
    }
    *row_of_shard = rows->inner_order[within];
}

kv_status kv_part_rows_get(kv_part_rows *rows, int64_t row, int32_t *tokens, kv_error *err) {
    if (!rows->fixed) return stream_row(rows, row, tokens, err);
    int64_t shard, row_of_shard;
    kv_part_rows_find(rows, row, &shard, &row_of_shard);
    kv_status status = load(rows, shard, err);
    if (status) return status;
    const int64_t width = rows->seq_len + 1;
    memcpy(tokens, rows->cut + row_of_shard * width, (size_t)width * sizeof *tokens);
    return KV_OK;
}

double kv_part_rows_epochs(const kv_part_rows *rows, int64_t n_rows) {
    return (double)n_rows * (rows->fixed ? 1.0 : (double)rows->seq_len) / (double)rows->n_units;
}
