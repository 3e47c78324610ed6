// Fixed packing: every row is a stretch of the documents in one drawn order, and epochs are permutations.
#include "data/corpus/packing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_DOCUMENTS = 7 };

// Document i has i + 1 tokens, all different.
static void fill(kv_shard *shard, int64_t *documents, int32_t *tokens) {
    int64_t n = 0;
    for (int64_t i = 0; i < N_DOCUMENTS; i++) {
        documents[i] = n;
        for (int64_t k = 0; k <= i; k++, n++) tokens[n] = (int32_t)(100 * i + k);
    }
    documents[N_DOCUMENTS] = n;
    *shard = (kv_shard){.n_documents = N_DOCUMENTS, .n_tokens = n, .documents = documents, .tokens = tokens};
}

static void rows_follow_each_other_and_keep_documents_whole(void **state) {
    (void)state;
    enum { SEQ_LEN = 5, N_TOKENS = N_DOCUMENTS * (N_DOCUMENTS + 1) / 2 };
    int64_t documents[N_DOCUMENTS + 1];
    int32_t tokens[N_TOKENS], rows[N_TOKENS * 2];
    kv_shard shard;
    fill(&shard, documents, tokens);
    const int64_t n_rows = kv_packed_rows(N_TOKENS, SEQ_LEN);
    assert_int_equal(n_rows, (N_TOKENS - 1) / SEQ_LEN);
    assert_int_equal(kv_packed_cut(&shard, SEQ_LEN, rows, NULL), KV_OK);
    int64_t seen[N_DOCUMENTS] = {0};
    bool in_order = true;
    int32_t before = -1;
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t i = 0; i <= SEQ_LEN; i++) {
            const int32_t id = rows[r * (SEQ_LEN + 1) + i];
            if (i == 0 && r > 0) {
                assert_int_equal(id, before); // rows overlap by one token
                continue;
            }
            seen[id / 100]++;
            if (id % 100 > 0) assert_int_equal(before, id - 1);
            in_order = in_order && id > before;
            before = id;
        }
    for (int64_t i = 0; i < N_DOCUMENTS; i++) assert_true(seen[i] <= i + 1);
    assert_false(in_order); // documents are shuffled
}

static void text_that_fills_no_row_has_none(void **state) {
    (void)state;
    assert_int_equal(kv_packed_rows(5, 5), 0);
    assert_int_equal(kv_packed_rows(6, 5), 1);
    assert_int_equal(kv_packed_rows(11, 5), 2);
}

static void is_permutation(const int64_t *order, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        bool found = false;
        for (int64_t k = 0; k < n; k++) found = found || order[k] == i;
        assert_true(found);
    }
}

static void epochs_are_different_permutations(void **state) {
    (void)state;
    enum { N = 40 };
    int64_t first[N], second[N], again[N], other_shard[N], other_seed[N];
    kv_packed_row_order(1, 0, 0, N, first);
    kv_packed_row_order(1, 1, 0, N, second);
    kv_packed_row_order(1, 0, 0, N, again);
    kv_packed_row_order(1, 0, 1, N, other_shard);
    kv_packed_row_order(2, 0, 0, N, other_seed);
    is_permutation(first, N);
    is_permutation(second, N);
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, second, sizeof first);
    assert_memory_not_equal(first, other_shard, sizeof first);
    assert_memory_not_equal(first, other_seed, sizeof first);
    kv_packed_shard_order(1, 0, N, second);
    is_permutation(second, N);
    assert_memory_not_equal(first, second, sizeof first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_follow_each_other_and_keep_documents_whole),
        cmocka_unit_test(text_that_fills_no_row_has_none),
        cmocka_unit_test(epochs_are_different_permutations),
    };
    return cmocka_run_group_tests_name("packing", tests, NULL, NULL);
}
