// The corpus that is made of what was drawn. Which documents came several times is seen from 128 bits of hash each, so
// that no more than that is in memory.
#include "data/kvdata/sample/sample.h"

#include "data/file/hash.h"
#include "data/system/buffers.h"
#include "data/system/console.h"

#include <inttypes.h>
#include <stdlib.h>

// A document by its hash; the first of each that came often enough is kept.
struct seen {
    uint64_t hash[2];
    int64_t number;
};

struct making {
    const sample_goal *goal;
    sample_counts *counts;
    struct seen *seen; // [drawn]
    const bool *kept;  // [drawn]; NULL: all are
    kv_shard_writer *writer;
};

bool sample_reached(const sample_goal *goal, int64_t documents, int64_t tokens) {
    return goal->documents ? documents >= goal->documents : tokens >= goal->tokens;
}

static kv_status goes_on(kv_error *err) {
    return kv_console_interrupted()
               ? kv_fail(err, KV_ERR_INTERRUPTED, "interrupted; the same command goes on from there")
               : KV_OK;
}

// ---- How often each came -------------------------------------------------------------------------------

static kv_status look_at(void *context, const int32_t *ids, int64_t n, bool *enough, kv_error *err) {
    struct making *m = context;
    sample_counts *c = m->counts;
    struct seen *more = kv_room_for_one(m->seen, (size_t)c->drawn, sizeof *more);
    if (!more) return kv_fail(err, KV_ERR_MEMORY, "out of memory to count %" PRIi64 " documents", c->drawn);
    m->seen = more;
    const size_t size = (size_t)n * sizeof *ids;
    more[c->drawn] = (struct seen){{kv_hash64(1, ids, size), kv_hash64(2, ids, size)}, c->drawn};
    c->drawn++;
    c->drawn_tokens += n;
    *enough = sample_reached(m->goal, c->drawn, c->drawn_tokens);
    return goes_on(err);
}

static int compare_seen(const void *a, const void *b) {
    const struct seen *x = a, *y = b;
    for (int i = 0; i < 2; i++)
        if (x->hash[i] != y->hash[i]) return x->hash[i] < y->hash[i] ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static bool same(const struct seen *a, const struct seen *b) {
    return a->hash[0] == b->hash[0] && a->hash[1] == b->hash[1];
}

// kept[drawn]: the first of those that came at least min_count times.
static void choose(const struct making *m, bool *kept) {
    const int64_t n = m->counts->drawn;
    qsort(m->seen, (size_t)n, sizeof *m->seen, compare_seen);
    for (int64_t first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && same(&m->seen[first], &m->seen[end]);) end++;
        kept[m->seen[first].number] = end - first >= m->goal->min_count;
        m->counts->distinct++;
    }
}

// ---- Writing -------------------------------------------------------------------------------------------

static bool is_cut(const sample_goal *goal, const int32_t *ids, int64_t n) {
    if (n < goal->max_tokens) return false;
    for (int64_t i = 0; i < goal->n_ends; i++)
        if (goal->ends[i] == ids[n - 1]) return false;
    return true;
}

static kv_status write_one(void *context, const int32_t *ids, int64_t n, bool *enough, kv_error *err) {
    struct making *m = context;
    sample_counts *c = m->counts;
    const bool kept = !m->kept || m->kept[c->drawn];
    c->drawn++;
    c->drawn_tokens += n;
    *enough = sample_reached(m->goal, c->drawn, c->drawn_tokens);
    if (kept) {
        c->documents++;
        c->tokens += n;
        c->cut += is_cut(m->goal, ids, n);
        kv_status status = kv_shard_writer_add(m->writer, ids, n, err);
        if (status) return status;
    }
    return goes_on(err);
}

static kv_status write_shard(struct making *m, const sample_store *store, const char *out,
                             const kv_shard_info *info, const kv_bundle *tokenizer_files, kv_error *err) {
    kv_status status = kv_shard_writer_open(out, info, &m->writer, err);
    if (!status) status = kv_shard_writer_add_tokenizer(m->writer, tokenizer_files, err);
    if (!status) status = sample_store_read(store, write_one, m, err);
    if (!status && m->counts->documents == 0)
        status = kv_fail(err, KV_ERR_ARGUMENT,
                         "%s: of %" PRIi64 " documents none was drawn %" PRIi64
                         " times; draw more, at a lower --temperature, or lower --min-count",
                         out, m->counts->drawn, m->goal->min_count);
    if (!status) status = kv_shard_writer_finish(m->writer, err);
    kv_shard_writer_free(m->writer);
    return status;
}

kv_status sample_write(const sample_store *store, const char *out, const kv_shard_info *info,
                       const kv_bundle *tokenizer_files, const sample_goal *goal, sample_counts *counts,
                       kv_error *err) {
    struct making m = {.goal = goal, .counts = counts};
    bool *kept = NULL;
    kv_status status = KV_OK;
    *counts = (sample_counts){0};
    if (goal->min_count > 0) {
        status = sample_store_read(store, look_at, &m, err);
        kept = status ? NULL : calloc((size_t)counts->drawn + 1, sizeof *kept);
        if (!status && !kept) status = kv_fail(err, KV_ERR_MEMORY, "out of memory to count documents");
        if (!status) choose(&m, kept);
        counts->drawn = counts->drawn_tokens = 0;
        m.kept = kept;
    }
    if (!status) status = write_shard(&m, store, out, info, tokenizer_files, err);
    free(m.seen);
    free(kept);
    return status;
}
