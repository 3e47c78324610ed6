// Byte-pair encoding against merging by hand: all pairs looked at, the first of lowest rank merged, from the
// start.
#include "tests/support/tokenizer.h"

#include "data/tokenizer/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PIECES = 400, MAX_MERGES = 600 };

struct rules {
    char pieces[MAX_PIECES][32];
    int32_t n_pieces;
    kv_merge merges[MAX_MERGES];
    size_t n_merges;
    kv_vocabulary *vocabulary;
    kv_bpe *bpe;
};

static int32_t find(const struct rules *rules, const char *piece) {
    for (int32_t i = 0; i < rules->n_pieces; i++)
        if (strcmp(rules->pieces[i], piece) == 0) return i;
    return -1;
}

static void add_piece(struct rules *rules, const char *piece) {
    snprintf(rules->pieces[rules->n_pieces++], sizeof rules->pieces[0], "%s", piece);
}

static void finish(struct rules *rules, const kv_bpe_options *options) {
    assert_int_equal(kv_vocabulary_create(rules->n_pieces, &rules->vocabulary, NULL), KV_OK);
    for (int32_t i = 0; i < rules->n_pieces; i++)
        assert_int_equal(
            kv_vocabulary_add(rules->vocabulary, i, rules->pieces[i], strlen(rules->pieces[i]), NULL), KV_OK);
    assert_int_equal(
        kv_bpe_create(rules->vocabulary, rules->merges, rules->n_merges, options, &rules->bpe, NULL), KV_OK);
}

static void drop(struct rules *rules) {
    kv_bpe_free(rules->bpe);
    kv_vocabulary_free(rules->vocabulary);
}

// Random merges of random pieces over the letters, the same piece by several ways and the same pair twice
// among them.
static void make_rules(uint64_t seed, int n_letters, size_t n_merges, struct rules *rules) {
    char joined[64];
    *rules = (struct rules){.n_merges = 0};
    for (int i = 0; i < n_letters; i++) add_piece(rules, (char[]){(char)('a' + i), 0});
    for (int64_t i = 0; rules->n_merges < n_merges; i++) {
        int32_t left = (int32_t)test_below(seed, 2 * i, rules->n_pieces);
        int32_t right = (int32_t)test_below(seed, 2 * i + 1, rules->n_pieces);
        snprintf(joined, sizeof joined, "%s%s", rules->pieces[left], rules->pieces[right]);
        if (strlen(joined) >= sizeof rules->pieces[0]) continue;
        if (find(rules, joined) < 0) add_piece(rules, joined);
        rules->merges[rules->n_merges++] = (kv_merge){left, right, find(rules, joined)};
    }
    const kv_bpe_options options = {.unknown = -1};
    finish(rules, &options);
}

static int32_t rank_of(const struct rules *rules, int32_t left, int32_t right) {
    for (size_t i = rules->n_merges; i-- > 0;) // the last of equal pairs counts
        if (rules->merges[i].left == left && rules->merges[i].right == right) return (int32_t)i;
    return INT32_MAX;
}

static int64_t merge_by_hand(const struct rules *rules, int32_t *ids, int64_t n) {
    for (;;) {
        int32_t lowest = INT32_MAX;
        int64_t at = 0;
        for (int64_t i = 0; i + 1 < n; i++) {
            int32_t rank = rank_of(rules, ids[i], ids[i + 1]);
            if (rank < lowest) lowest = rank, at = i;
        }
        if (lowest == INT32_MAX) return n;
        ids[at] = rules->merges[lowest].result;
        memmove(ids + at + 1, ids + at + 2, (size_t)(n - at - 2) * sizeof *ids);
        n--;
    }
}

static void check_word(const struct rules *rules, kv_bpe_work *work, const char *word, int64_t length) {
    int32_t *expected = test_alloc(length + 1, sizeof *expected);
    kv_ids found = {0};
    for (int64_t i = 0; i < length; i++) expected[i] = word[i] - 'a';
    int64_t n = merge_by_hand(rules, expected, length);
    assert_int_equal(kv_bpe_encode(rules->bpe, work, word, (size_t)length, &found, NULL), KV_OK);
    if ((int64_t)found.length != n || memcmp(found.data, expected, (size_t)n * sizeof *expected) != 0)
        fail_msg("'%.*s' is merged differently", (int)length, word);
    kv_ids_free(&found);
    free(expected);
}

static void random_rules_on_random_words(void **state) {
    (void)state;
    static struct rules rules;
    static char word[2000];
    for (uint64_t seed = 0; seed < 60; seed++) {
        const int letters = 1 + (int)test_below(seed, -3, 5);
        make_rules(seed, letters, (size_t)test_below(seed, -1, 150), &rules);
        kv_bpe_work *work = kv_bpe_work_create();
        for (int64_t w = 0; w < 60; w++) {
            // Short words come again, and so from memory; the last one is long.
            int64_t length = w == 59 ? 700 : 1 + test_below(seed + 7, w, w % 2 ? 6 : 80);
            for (int64_t i = 0; i < length; i++)
                word[i] = (char)('a' + test_below(seed * 100 + (uint64_t)w, i, letters));
            check_word(&rules, work, word, length);
        }
        kv_bpe_work_free(work);
        drop(&rules);
    }
}

// ---- Options -------------------------------------------------------------------------------------------

static void expect(const struct rules *rules, const char *word, const char *const *pieces, size_t n) {
    kv_bpe_work *work = kv_bpe_work_create();
    kv_ids found = {0};
    for (int again = 0; again < 2; again++) { // the second time from memory
        found.length = 0;
        assert_int_equal(kv_bpe_encode(rules->bpe, work, word, strlen(word), &found, NULL), KV_OK);
        assert_int_equal(found.length, n);
        for (size_t i = 0; i < n; i++) assert_string_equal(rules->pieces[found.data[i]], pieces[i]);
    }
    kv_ids_free(&found);
    kv_bpe_work_free(work);
}
#define EXPECT(rules, word, ...)                                                                             \
    expect(rules, word, (const char *const[]){__VA_ARGS__},                                                  \
           sizeof(const char *const[]){__VA_ARGS__} / sizeof(const char *))

// a, b, ab, <unk>, <0x00> to <0xFF>, and "abb", which no merge leads to.
static void small_rules(const kv_bpe_options *options, bool bytes, struct rules *rules) {
    *rules = (struct rules){.n_merges = 1, .merges = {{0, 1, 2}}};
    add_piece(rules, "a"), add_piece(rules, "b"), add_piece(rules, "ab"), add_piece(rules, "<unk>"),
        add_piece(rules, "abb");
    for (int b = 0; b < 256 && bytes; b++) {
        char piece[8];
        snprintf(piece, sizeof piece, "<0x%02X>", b);
        add_piece(rules, piece);
    }
    finish(rules, options);
}

static void what_has_no_piece(void **state) {
    (void)state;
    static struct rules rules;
    const kv_bpe_options unknown = {.unknown = 3}, fused = {.unknown = 3, .fuse_unknown = true};
    const kv_bpe_options bytes = {.unknown = 3, .byte_fallback = true}, none = {.unknown = -1};
    small_rules(&unknown, true, &rules);
    EXPECT(&rules,
           "abxyz\xC3\xA9"
           "b",
           "ab", "<unk>", "<unk>", "<unk>", "<unk>", "b");
    drop(&rules);
    small_rules(&fused, true, &rules);
    EXPECT(&rules,
           "abxyz\xC3\xA9"
           "b",
           "ab", "<unk>", "b");
    drop(&rules);
    small_rules(&bytes, true, &rules);
    EXPECT(&rules,
           "x\xC3\xA9"
           "ab\xFF",
           "<0x78>", "<0xC3>", "<0xA9>", "ab", "<0xFF>");
    drop(&rules);
    small_rules(&bytes, false, &rules); // no bytes to fall back to
    EXPECT(&rules, "xab", "<unk>", "ab");
    drop(&rules);

    small_rules(&none, false, &rules);
    kv_bpe_work *work = kv_bpe_work_create();
    kv_ids ids = {0};
    kv_error err = {0};
    assert_int_equal(kv_bpe_encode(rules.bpe, work, "a\xC3\xA9", 3, &ids, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "the character '\xC3\xA9'"));
    assert_int_equal(kv_bpe_encode(rules.bpe, work, "a\xC3", 2, &ids, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "the byte 0xC3"));
    kv_ids_free(&ids);
    kv_bpe_work_free(work);
    drop(&rules);
}

static void whole_words(void **state) {
    (void)state;
    static struct rules rules;
    const kv_bpe_options merged = {.unknown = -1}, whole = {.unknown = -1, .ignore_merges = true};
    small_rules(&merged, false, &rules);
    EXPECT(&rules, "abb", "ab", "b");
    drop(&rules);
    small_rules(&whole, false, &rules);
    EXPECT(&rules, "abb", "abb");
    EXPECT(&rules, "abba", "ab", "b", "a");
    drop(&rules);
}

// One word of a million letters, all alike and of all kinds: quadratic time would be hours.
static void a_very_long_word(void **state) {
    (void)state;
    enum { N = 1000000 };
    static struct rules rules;
    make_rules(5, 3, 100, &rules);
    kv_bpe_work *work = kv_bpe_work_create();
    char *word = test_alloc(N + 1, 1);
    for (int same = 0; same < 2; same++) {
        for (int64_t i = 0; i < N; i++) word[i] = same ? 'a' : (char)('a' + test_below(1, i, 3));
        kv_ids ids = {0};
        assert_int_equal(kv_bpe_encode(rules.bpe, work, word, N, &ids, NULL), KV_OK);
        size_t at = 0;
        for (size_t i = 0; i < ids.length; i++) {
            const char *piece = rules.pieces[ids.data[i]];
            assert_memory_equal(word + at, piece, strlen(piece));
            at += strlen(piece);
        }
        assert_int_equal(at, N);
        kv_ids_free(&ids);
    }
    free(word);
    kv_bpe_work_free(work);
    drop(&rules);
}

static void pieces_and_ids_are_unique(void **state) {
    (void)state;
    kv_vocabulary *vocabulary = NULL;
    kv_error err = {0};
    assert_int_equal(kv_vocabulary_create(3, &vocabulary, NULL), KV_OK);
    assert_int_equal(kv_vocabulary_add(vocabulary, 0, "a", 1, NULL), KV_OK);
    assert_int_equal(kv_vocabulary_add(vocabulary, 0, "a", 1, NULL), KV_OK);
    assert_int_equal(kv_vocabulary_add(vocabulary, 1, "a", 1, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "'a' has id 0 and id 1"));
    assert_int_equal(kv_vocabulary_add(vocabulary, 0, "b", 1, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "id 0 belongs to 'a' and to 'b'"));
    assert_int_equal(kv_vocabulary_add(vocabulary, 3, "c", 1, &err), KV_ERR_RANGE);
    assert_int_equal(kv_vocabulary_add(vocabulary, -1, "c", 1, &err), KV_ERR_RANGE);
    assert_null(kv_vocabulary_piece(vocabulary, 2));
    assert_null(kv_vocabulary_piece(vocabulary, 3));
    kv_vocabulary_free(vocabulary);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_rules_on_random_words),
        cmocka_unit_test(what_has_no_piece),
        cmocka_unit_test(whole_words),
        cmocka_unit_test(a_very_long_word),
        cmocka_unit_test(pieces_and_ids_are_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
