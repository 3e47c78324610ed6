// Batches are the rows that data/corpus/batches.h describes: against a reference that lays out whole epochs, with
// values kept from the first version, and by what must be true of any stream and any mixture.
#include "tests/support/support.h"

#include "core/rng.h"
#include "data/corpus/batches.h"
#include "data/corpus/packing.h"
#include "data/file/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const kv_shard_info info = {
    .tokenizer = "0123456789abcdef", .vocab_size = 100000, .bos_id = 1, .eos_id = 2, .source = "a.txt"};

typedef int64_t length_fn(int64_t document);
static int64_t up_to_12(int64_t document) {
    return test_below(7, document, 13);
}
static int64_t sevens(int64_t document) {
    return (document * 7 + 3) % 13;
}

// n documents whose ids count up from `first`, so that every token of the shard is recognisable.
static void write_shard(const char *path, int64_t n, int32_t first, length_fn *length) {
    kv_shard_writer *writer = NULL;
    assert_int_equal(kv_shard_writer_open(path, &info, &writer, NULL), KV_OK);
    for (int64_t i = 0; i < n; i++) {
        int32_t ids[64];
        const int64_t n_ids = length(i);
        for (int64_t t = 0; t < n_ids; t++) ids[t] = first++;
        assert_int_equal(kv_shard_writer_add(writer, ids, n_ids, NULL), KV_OK);
    }
    assert_int_equal(kv_shard_writer_finish(writer, NULL), KV_OK);
    kv_shard_writer_free(writer);
}

// A corpus of files a test wrote; the order of shards is the one given.
static kv_corpus *corpus_of(int n, const char *const *paths) {
    kv_corpus *corpus = test_alloc(1, sizeof *corpus);
    corpus->info = info;
    corpus->n_shards = n;
    corpus->shards = test_alloc(n, sizeof *corpus->shards);
    for (int i = 0; i < n; i++) {
        kv_shard_summary summary;
        kv_error err = {0};
        if (kv_shard_read_summary(paths[i], &summary, &err)) fail_msg("%s", err.message);
        kv_corpus_shard *shard = &corpus->shards[i];
        shard->path = strdup(paths[i]);
        shard->n_documents = summary.n_documents;
        shard->n_tokens = summary.n_tokens;
        strcpy(shard->hash, summary.hash);
        corpus->n_documents += summary.n_documents;
        corpus->n_tokens += summary.n_tokens;
    }
    return corpus;
}

static kv_corpus *one_shard(int64_t n_documents, length_fn *length) {
    const char *path = test_path(test_dir, "one.h5");
    write_shard(path, n_documents, 0, length);
    kv_corpus *corpus = NULL;
    assert_int_equal(kv_corpus_open(path, &corpus, NULL), KV_OK);
    return corpus;
}

// Shards of 20, 1, 0, 45 and 33 documents; the ids of shard s begin at 1000 s.
static kv_corpus *five_shards(void) {
    static const int64_t n_documents[] = {20, 1, 0, 45, 33};
    const char *paths[5];
    for (int s = 0; s < 5; s++) {
        char name[16];
        snprintf(name, sizeof name, "%d.h5", s);
        paths[s] = test_path(test_dir, name);
        write_shard(paths[s], n_documents[s], 1000 * s, sevens);
    }
    return corpus_of(5, paths);
}

static kv_batches_args args_of(const kv_batch_part *parts, int64_t n_parts, int64_t n_seq, int64_t seq_len,
                               bool fixed) {
    return (kv_batches_args){parts, n_parts, n_seq, seq_len, 42, fixed};
}

static kv_batches *create(const kv_batches_args *args) {
    kv_batches *batches = NULL;
    kv_error err = {0};
    if (kv_batches_create(args, &batches, &err)) fail_msg("%s", err.message);
    return batches;
}

static void get(kv_batches *batches, int64_t step, int32_t *ids, int32_t *targets) {
    kv_error err = {0};
    if (kv_batches_get(batches, step, ids, targets, &err)) fail_msg("%s", err.message);
}

// ---- One shard: the stream it always was ---------------------------------------------------------------

static void values_of_the_first_version(void **state) {
    (void)state;
    enum { N_SEQ = 3, SEQ_LEN = 8, SIZE = N_SEQ * SEQ_LEN };
    static const struct {
        int64_t step;
        int32_t ids[SIZE], last_target;
    } kept[] = {
        {0,
         {201, 202, 203, 204, 205, 206, 137, 138, 139, 140, 141, 142,
          143, 144, 59,  60,  61,  62,  63,  64,  65,  66,  136, 293},
         294},
        {1,
         {294, 295, 296, 297, 298, 299, 300, 45,  46,  47,  48,  49,
          50,  0,   1,   2,   173, 174, 175, 176, 177, 178, 179, 180},
         181},
        {14,
         {12,  91,  92,  93,  94,  279, 280, 281, 282, 283, 284, 129,
          130, 131, 132, 133, 134, 135, 225, 226, 227, 228, 229, 230},
         231},
        {15,
         {231, 232, 233, 312, 313, 314, 169, 170, 171, 172, 67,  68,
          340, 341, 342, 343, 344, 189, 190, 191, 192, 193, 194, 195},
         196},
        {1000,
         {192, 193, 194, 195, 196, 197, 198, 199, 200, 184, 185, 186,
          187, 188, 292, 67,  68,  247, 248, 249, 250, 3,   4,   5},
         6},
    };
    kv_corpus *corpus = one_shard(60, sevens);
    assert_int_equal(corpus->n_tokens, 363);
    const kv_batch_part part = {corpus, 1};
    const kv_batches_args args = args_of(&part, 1, N_SEQ, SEQ_LEN, false);
    kv_batches *batches = create(&args);
    int32_t ids[SIZE], targets[SIZE];
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        get(batches, kept[i].step, ids, targets);
        assert_memory_equal(ids, kept[i].ids, sizeof ids);
        assert_memory_equal(targets, ids + 1, sizeof ids - sizeof *ids);
        assert_int_equal(targets[SIZE - 1], kept[i].last_target);
    }
    uint64_t hash = 0;
    for (int64_t step = 0; step < 200; step++) {
        get(batches, step, ids, targets);
        hash = kv_hash64(kv_hash64(hash, ids, sizeof ids), targets, sizeof targets);
    }
    assert_true(hash == 0x3808613367c51cd5u);
    kv_batches_free(batches);
    kv_corpus_free(corpus);
}

// The stream of `count` tokens that batches of this size give: all inputs, and the last target behind them.
static int32_t *stream(const kv_corpus *corpus, int64_t n_seq, int64_t seq_len, int64_t count) {
    const kv_batch_part part = {corpus, 3};
    const kv_batches_args args = args_of(&part, 1, n_seq, seq_len, false);
    kv_batches *batches = create(&args);
    int64_t size = n_seq * seq_len, steps = (count + size - 1) / size;
    int32_t *all = test_alloc(steps * size + 1, sizeof *all), *targets = test_alloc(size, sizeof *targets);
    for (int64_t s = 0; s < steps; s++) {
        get(batches, s, all + s * size, targets);
        if (s > 0) assert_int_equal(all[s * size], all[steps * size]); // the last target comes next
        for (int64_t t = 0; t < size - 1; t++) assert_int_equal(targets[t], all[s * size + t + 1]);
        all[steps * size] = targets[size - 1];
    }
    kv_batches_free(batches);
    free(targets);
    return all;
}

// Every token of an epoch appears once, documents whole and in another order each epoch.
static void an_epoch_is_all_documents_shuffled(void **state) {
    (void)state;
    kv_corpus *corpus = one_shard(100, up_to_12);
    int64_t n = corpus->n_tokens;
    assert_true(n < 1000);
    int32_t *all = stream(corpus, 3, 7, 3 * n);
    for (int epoch = 0; epoch < 3; epoch++) {
        const int32_t *tokens = all + epoch * n;
        char seen[1000] = {0};
        int64_t breaks = 0;
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(seen[tokens[i]]++, 0);
            breaks += i > 0 && tokens[i] != tokens[i - 1] + 1;
        }
        assert_in_range(breaks, 60, 100); // between documents only, and nearly everywhere there
    }
    assert_memory_not_equal(all, all + n, (size_t)n * sizeof *all);
    assert_memory_not_equal(all + n, all + 2 * n, (size_t)n * sizeof *all);
    free(all);
    kv_corpus_free(corpus);
}

// The stream is the same however it is cut, also where shards end.
static void rows_cut_one_stream(void **state) {
    (void)state;
    kv_corpus *corpora[] = {one_shard(50, up_to_12), five_shards()};
    for (int i = 0; i < 2; i++) {
        int64_t n = 3 * corpora[i]->n_tokens;
        int32_t *one = stream(corpora[i], 1, 1, n), *wide = stream(corpora[i], 4, 33, n),
                *longer = stream(corpora[i], 2, 5000, n);
        assert_memory_equal(one, wide, (size_t)n * sizeof *one);
        assert_memory_equal(one, longer, (size_t)n * sizeof *one);
        free(one), free(wide), free(longer);
        kv_corpus_free(corpora[i]);
    }
}

static void a_shard_shorter_than_a_row_wraps(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "short.h5");
    kv_shard_writer *writer = NULL;
    assert_int_equal(kv_shard_writer_open(path, &info, &writer, NULL), KV_OK);
    assert_int_equal(kv_shard_writer_add(writer, (int32_t[]){10}, 1, NULL), KV_OK);
    assert_int_equal(kv_shard_writer_add(writer, (int32_t[]){20, 21}, 2, NULL), KV_OK);
    assert_int_equal(kv_shard_writer_finish(writer, NULL), KV_OK);
    kv_shard_writer_free(writer);
    kv_corpus *corpus = NULL;
    assert_int_equal(kv_corpus_open(path, &corpus, NULL), KV_OK);
    int32_t *all = stream(corpus, 2, 10, 60);
    for (int epoch = 0; epoch < 20; epoch++) {
        const int32_t *t = all + 3 * epoch;
        assert_true((t[0] == 10 && t[1] == 20 && t[2] == 21) || (t[0] == 20 && t[1] == 21 && t[2] == 10));
    }
    free(all);
    kv_corpus_free(corpus);
}

// ---- Many shards ---------------------------------------------------------------------------------------

// Epochs laid out whole, by the words of data/corpus/batches.h: what the stream of a part is.
static int32_t *reference_stream(const kv_corpus *corpus, uint64_t seed, int64_t n_epochs) {
    int32_t *all = test_alloc(n_epochs * corpus->n_tokens + 1, sizeof *all), *out = all;
    int64_t *shards = test_alloc(corpus->n_shards, sizeof *shards);
    for (int64_t epoch = 0; epoch < n_epochs; epoch++) {
        kv_packed_shard_order(seed, epoch, corpus->n_shards, shards);
        for (int64_t s = 0; s < corpus->n_shards; s++) {
            kv_shard *shard = NULL;
            assert_int_equal(kv_shard_open(corpus->shards[shards[s]].path, &shard, NULL), KV_OK);
            int64_t *documents = test_alloc(shard->n_documents + 1, sizeof *documents);
            char name[96];
            snprintf(name, sizeof name, "documents of shard %lld of epoch %lld", (long long)shards[s],
                     (long long)epoch);
            kv_rng_permutation(kv_rng_stream(seed, name), shard->n_documents, documents);
            for (int64_t d = 0; d < shard->n_documents; d++)
                for (int64_t t = shard->documents[documents[d]]; t < shard->documents[documents[d] + 1]; t++)
                    *out++ = shard->tokens[t];
            free(documents);
            kv_shard_free(shard);
        }
    }
    assert_int_equal(out - all, n_epochs * corpus->n_tokens);
    free(shards);
    return all;
}

static void shards_follow_each_other(void **state) {
    (void)state;
    kv_corpus *corpus = five_shards();
    const int64_t n = 4 * corpus->n_tokens;
    int32_t *expected = reference_stream(corpus, 42, 4), *found = stream(corpus, 3, 19, n);
    assert_memory_equal(expected, found, (size_t)n * sizeof *found);
    // All orders of shards are drawn anew: not every epoch begins with the same one.
    int64_t same = 0;
    for (int64_t e = 1; e < 4; e++) same += expected[e * corpus->n_tokens] / 1000 == expected[0] / 1000;
    assert_true(same < 3);
    free(expected);
    free(found);
    kv_corpus_free(corpus);
}

// Every row by brute force: all rows of an epoch in their order, cut by kv_packed_cut.
static void fixed_rows_follow_each_other(void **state) {
    (void)state;
    enum { N_SEQ = 3, SEQ_LEN = 6, WIDTH = SEQ_LEN + 1, STEPS = 120 };
    kv_corpus *corpus = five_shards();
    const kv_batch_part part = {corpus, 1};
    const kv_batches_args args = args_of(&part, 1, N_SEQ, SEQ_LEN, true);
    kv_batches *batches = create(&args);
    int32_t ids[N_SEQ * SEQ_LEN], targets[N_SEQ * SEQ_LEN];
    kv_row_ref refs[N_SEQ];
    int32_t *cut[5];
    int64_t n_rows[5], total = 0, order[5];
    for (int s = 0; s < 5; s++) {
        kv_shard *shard = NULL;
        assert_int_equal(kv_shard_open(corpus->shards[s].path, &shard, NULL), KV_OK);
        n_rows[s] = kv_packed_rows(shard->n_tokens, SEQ_LEN);
        cut[s] = test_alloc(n_rows[s] * WIDTH + 1, sizeof **cut);
        assert_int_equal(kv_packed_cut(shard, SEQ_LEN, cut[s], NULL), KV_OK);
        total += n_rows[s];
        kv_shard_free(shard);
    }
    assert_true(STEPS * N_SEQ > 3 * total); // several epochs
    int64_t row = 0;
    for (int64_t epoch = 0; row < STEPS * N_SEQ; epoch++) {
        kv_packed_shard_order(42, epoch, 5, order);
        for (int s = 0; s < 5; s++) {
            int64_t *rows = test_alloc(n_rows[order[s]] + 1, sizeof *rows);
            kv_packed_row_order(42, epoch, order[s], n_rows[order[s]], rows);
            for (int64_t r = 0; r < n_rows[order[s]] && row < STEPS * N_SEQ; r++, row++) {
                const int64_t i = row % N_SEQ;
                if (i == 0) {
                    get(batches, row / N_SEQ, ids, targets);
                    assert_int_equal(kv_batches_rows(batches, row / N_SEQ, refs, NULL), KV_OK);
                }
                const int32_t *expected = cut[order[s]] + rows[r] * WIDTH;
                assert_memory_equal(ids + i * SEQ_LEN, expected, SEQ_LEN * sizeof *ids);
                assert_memory_equal(targets + i * SEQ_LEN, expected + 1, SEQ_LEN * sizeof *ids);
                assert_int_equal(refs[i].part, 0);
                assert_int_equal(refs[i].shard, order[s]);
                assert_int_equal(refs[i].row, rows[r]);
            }
            free(rows);
        }
    }
    assert_true(kv_batches_epochs(batches, 0, STEPS) == (double)(STEPS * N_SEQ) / (double)total);
    for (int s = 0; s < 5; s++) free(cut[s]);
    kv_batches_free(batches);
    kv_corpus_free(corpus);
}

static void resuming_needs_no_state(void **state) {
    (void)state;
    enum { N_SEQ = 3, SEQ_LEN = 11, SIZE = N_SEQ * SEQ_LEN };
    kv_corpus *one = one_shard(40, up_to_12), *five = five_shards();
    const kv_batch_part parts[] = {{five, 0.7}, {one, 0.3}, {one, 1.5}};
    int32_t expected[SIZE], found[SIZE], targets[SIZE];
    for (int fixed = 0; fixed < 2; fixed++) {
        kv_batches_args args = args_of(parts, 3, N_SEQ, SEQ_LEN, fixed);
        kv_batches *straight = create(&args);
        for (int64_t step = 0; step < 60; step++) {
            get(straight, step, expected, targets);
            kv_batches *resumed = create(&args);
            get(resumed, step, found, targets);
            assert_memory_equal(expected, found, sizeof expected);
            kv_batches_free(resumed);
        }
        args.seed++;
        kv_batches *other = create(&args);
        get(other, 59, found, targets);
        assert_memory_not_equal(expected, found, sizeof expected);
        get(straight, 3, expected, targets); // back
        kv_batches *resumed = create(&(kv_batches_args){parts, 3, N_SEQ, SEQ_LEN, 42, fixed});
        get(resumed, 3, found, targets);
        assert_memory_equal(expected, found, sizeof expected);
        kv_batches_free(resumed);
        kv_batches_free(other);
        kv_batches_free(straight);
    }
    kv_corpus_free(one);
    kv_corpus_free(five);
}

// ---- Mixtures ------------------------------------------------------------------------------------------

// Three shards whose ids tell them apart.
static void three_parts(kv_batch_part parts[3], const double weights[3]) {
    for (int p = 0; p < 3; p++) {
        const char *path = test_path(test_dir, (const char *[]){"p0.h5", "p1.h5", "p2.h5"}[p]);
        kv_corpus *corpus = NULL;
        write_shard(path, 20 + 15 * p, 1000 * p, sevens);
        assert_int_equal(kv_corpus_open(path, &corpus, NULL), KV_OK);
        parts[p] = (kv_batch_part){corpus, weights[p]};
    }
}

// Each part has its share of every first rows, as near as data/corpus/batches.h says, and its rows are those that it
// would give alone, one after the other.
static void shares_are_kept(void **state) {
    (void)state;
    enum { SEQ_LEN = 9, N_SEQ = 4, STEPS = 500 };
    static const double all_weights[][3] = {{1, 1, 1}, {5, 0.2, 3}, {0.001, 1, 0.5}, {1e6, 2e6, 3e5}};
    for (size_t w = 0; w < sizeof all_weights / sizeof *all_weights; w++) {
        const double *weights = all_weights[w], sum = weights[0] + weights[1] + weights[2];
        kv_batch_part parts[3];
        three_parts(parts, weights);
        const kv_batches_args args = args_of(parts, 3, N_SEQ, SEQ_LEN, false);
        kv_batches *batches = create(&args), *alone[3];
        for (int p = 0; p < 3; p++) {
            kv_batches_args single = args_of(&parts[p], 1, 1, SEQ_LEN, false);
            const int64_t number = p;
            if (p > 0) single.seed = kv_hash64(args.seed, &number, sizeof number);
            alone[p] = create(&single);
        }
        int64_t counts[3] = {0};
        int32_t ids[N_SEQ * SEQ_LEN], targets[N_SEQ * SEQ_LEN], row[SEQ_LEN], row_targets[SEQ_LEN];
        for (int64_t r = 0; r < N_SEQ * STEPS; r++) {
            const int64_t i = r % N_SEQ;
            if (i == 0) get(batches, r / N_SEQ, ids, targets);
            const int p = ids[i * SEQ_LEN] / 1000;
            get(alone[p], counts[p]++, row, row_targets);
            assert_memory_equal(row, ids + i * SEQ_LEN, sizeof row);
            assert_memory_equal(row_targets, targets + i * SEQ_LEN, sizeof row);
            for (int q = 0; q < 3; q++) {
                const double off = (double)counts[q] - weights[q] / sum * (double)(r + 1);
                if (!(off <= 0.5 * (q + 1) + 1e-6 && off >= -0.5 * (q + 1) - 1e-6))
                    fail_msg("part %d of %zu: %g rows off after %lld", q, w, off, (long long)r + 1);
            }
        }
        for (int p = 0; p < 3; p++) {
            const double expected = (double)counts[p] * SEQ_LEN / (double)parts[p].corpus->n_tokens;
            assert_true(kv_batches_epochs(batches, p, STEPS) == expected);
            kv_batches_free(alone[p]);
            kv_corpus_free((kv_corpus *)parts[p].corpus);
        }
        kv_batches_free(batches);
    }
}

// The same corpus twice: two readers that go their own ways.
static void parts_draw_independently(void **state) {
    (void)state;
    enum { SEQ_LEN = 40 };
    kv_corpus *corpus = one_shard(50, up_to_12);
    const kv_batch_part parts[] = {{corpus, 1}, {corpus, 1}};
    const kv_batches_args args = args_of(parts, 2, 2, SEQ_LEN, false);
    kv_batches *batches = create(&args);
    int32_t ids[2 * SEQ_LEN], targets[2 * SEQ_LEN];
    get(batches, 0, ids, targets);
    assert_memory_not_equal(ids, ids + SEQ_LEN, SEQ_LEN * sizeof *ids);
    kv_batches_free(batches);
    kv_corpus_free(corpus);
}

// ---- What cannot be ------------------------------------------------------------------------------------

static void refuse(const kv_batches_args *args, const char *what) {
    kv_batches *batches = NULL;
    kv_error err = {0};
    assert_int_equal(kv_batches_create(args, &batches, &err), KV_ERR_ARGUMENT);
    assert_null(batches);
    if (!strstr(err.message, what)) fail_msg("'%s' does not say '%s'", err.message, what);
}

static void impossible_batches(void **state) {
    (void)state;
    kv_error err = {0};
    kv_corpus *corpus = one_shard(5, up_to_12), empty = {.info = info};
    const kv_batch_part part = {corpus, 1}, none = {&empty, 1}, light[] = {{corpus, 1e-12}, {corpus, 1}};
    const kv_batch_part heavy[] = {{corpus, 1}, {corpus, 1e-12}}, negative = {corpus, -1};
    kv_batches_args args = args_of(&part, 1, 0, 4, false);
    refuse(&args, "0 sequences");
    refuse(&(kv_batches_args){&part, 1, 1, -4, 1, false}, "-4 tokens");
    refuse(&(kv_batches_args){&part, 1, INT64_MAX / 2, INT64_MAX / 9, 1, false}, "makes no sense");
    refuse(&(kv_batches_args){&none, 1, 1, 4, 1, false}, "no tokens");
    refuse(&(kv_batches_args){&part, 0, 1, 4, 1, false}, "no corpus");
    refuse(&(kv_batches_args){&negative, 1, 1, 4, 1, false}, "weight -1");
    refuse(&(kv_batches_args){light, 2, 1, 4, 1, false}, "part 0 has weight 1e-12");
    refuse(&(kv_batches_args){heavy, 2, 1, 4, 1, false}, "too far");
    refuse(&(kv_batches_args){&part, 1, 1, corpus->n_tokens, 1, true}, "fixed packing finds no row");
    int32_t ids[4], targets[4];
    kv_row_ref ref;
    args.n_seq = 1;
    kv_batches *batches = create(&args);
    assert_int_equal(kv_batches_get(batches, -1, ids, targets, &err), KV_ERR_RANGE);
    assert_int_equal(kv_batches_get(batches, INT64_MAX / 4, ids, targets, &err), KV_ERR_RANGE);
    assert_int_equal(kv_batches_get(batches, INT64_MAX / 5, ids, targets, &err), KV_OK);
    assert_int_equal(kv_batches_rows(batches, 0, &ref, &err), KV_ERR_ARGUMENT);
    kv_batches_free(batches);
    kv_corpus_free(corpus);
}

// Shards are read when they are needed: one that is another by then is not trained on.
static void a_changed_shard_is_refused(void **state) {
    (void)state;
    kv_error err = {0};
    kv_corpus *corpus = one_shard(30, up_to_12);
    const kv_batch_part part = {corpus, 1};
    const kv_batches_args args = args_of(&part, 1, 1, 4, false);
    kv_batches *batches = create(&args);
    write_shard(corpus->shards[0].path, 30, 1, up_to_12);
    int32_t ids[4], targets[4];
    assert_int_equal(kv_batches_get(batches, 0, ids, targets, &err), KV_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "one.h5: changed"));
    remove(corpus->shards[0].path);
    assert_int_equal(kv_batches_get(batches, 0, ids, targets, &err), KV_ERR_IO);
    kv_batches_free(batches);
    kv_corpus_free(corpus);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_the_first_version), cmocka_unit_test(an_epoch_is_all_documents_shuffled),
        cmocka_unit_test(rows_cut_one_stream),         cmocka_unit_test(a_shard_shorter_than_a_row_wraps),
        cmocka_unit_test(shards_follow_each_other),    cmocka_unit_test(fixed_rows_follow_each_other),
        cmocka_unit_test(resuming_needs_no_state),     cmocka_unit_test(shares_are_kept),
        cmocka_unit_test(parts_draw_independently),    cmocka_unit_test(impossible_batches),
        cmocka_unit_test(a_changed_shard_is_refused),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
