// The bytes that tokens stand for, against the texts that they were made of: real tokenizers of both kinds and one that
// was trained here.
#include "tests/support/tokenizer.h"

#include "data/tokenizer/token_bytes.h"

#include <stdlib.h>
#include <string.h>

static kv_tokenizer *open_tokenizer(const char *path) {
    kv_tokenizer *tokenizer = NULL;
    kv_error err = {0};
    if (kv_tokenizer_open(path, &tokenizer, &err)) fail_msg("%s", err.message);
    return tokenizer;
}

static kv_token_bytes *make_counter(const kv_tokenizer *tokenizer) {
    kv_token_bytes *counter = NULL;
    kv_error err = {0};
    if (kv_token_bytes_create(tokenizer, &counter, &err)) fail_msg("%s", err.message);
    return counter;
}

static void count(kv_token_bytes *counter, const int32_t *ids, int64_t n, int32_t *bytes) {
    kv_error err = {0};
    if (kv_token_bytes_count(counter, ids, n, bytes, &err)) fail_msg("%s", err.message);
}

// Up to every token they are the length of what decoding gives, so that it does not matter where a window begins; and
// all of them together are the text.
static void check_text(const kv_tokenizer *tokenizer, kv_token_bytes *counter, const char *text,
                       size_t length) {
    int64_t n;
    int32_t *ids = test_encode(tokenizer, text, length, &n);
    int32_t *bytes = test_alloc(n + 1, sizeof *bytes);
    size_t sum = 0, prefix;
    count(counter, ids, n, bytes);
    for (int64_t i = 0; i < n; i++) {
        kv_error err = {0};
        char *decoded;
        sum += (size_t)bytes[i];
        if (n > 60 && i + 1 < n) continue; // decoding all beginnings takes n²
        assert_int_equal(kv_tokenizer_decode(tokenizer, ids, i + 1, &decoded, &prefix, &err), KV_OK);
        assert_int_equal(sum, prefix);
        free(decoded);
    }
    assert_int_equal(sum, length);
    free(bytes);
    free(ids);
}

static void bytes_are_those_of_the_text(void **state) {
    (void)state;
    static const char *const fixtures[] = {"fixtures/tokenizers/gpt-2", "fixtures/tokenizers/llama-spm",
                                           "fixtures/tokenizers/starcoder", NULL};
    static const char *const texts[] = {
        "a",
        " ",
        "  two spaces, and at the end  ",
        "\n\n\tint main(void) {\n    return 0;\n}\n",
        "na\u00EFve caf\u00E9",
        "\u2615\U0001F600 \u4E2D\u6587",
        "x\u00A0y\u200Bz",
    };
    static char random[4 * 400 + 1];
    for (int f = 0; f < 4; f++) {
        kv_tokenizer *tokenizer =
            open_tokenizer(fixtures[f] ? test_fixture(fixtures[f]) : test_path(test_dir, "tokenizer.model"));
        kv_token_bytes *counter = make_counter(tokenizer);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            check_text(tokenizer, counter, texts[i], strlen(texts[i]));
        for (uint64_t seed = 0; seed < 60; seed++)
            check_text(tokenizer, counter, random, test_unicode(seed, 1 + (int64_t)seed % 40, true, random));
        check_text(tokenizer, counter, random, test_unicode(99, 400, true, random));
        kv_token_bytes_free(counter);
        kv_tokenizer_free(tokenizer);
    }
}

// What a tokenizer puts around a document is no text; the same piece within a document is what it spells.
static void frames_stand_for_nothing(void **state) {
    (void)state;
    kv_tokenizer *tokenizer = open_tokenizer(test_fixture("fixtures/tokenizers/llama-spm"));
    kv_token_bytes *counter = make_counter(tokenizer);
    const int32_t bos = kv_tokenizer_bos(tokenizer), eos = kv_tokenizer_eos(tokenizer);
    int64_t n;
    int32_t *ids = test_encode(tokenizer, "abc def", 7, &n);
    int32_t framed[16] = {bos}, bytes[16], sum = 0;
    assert_in_range(n, 1, 12);
    memcpy(framed + 1, ids, (size_t)n * sizeof *ids);
    framed[n + 1] = eos;
    count(counter, framed, n + 2, bytes);
    for (int64_t i = 0; i < n + 2; i++) sum += bytes[i];
    assert_int_equal(bytes[0], 0);
    assert_int_equal(bytes[n + 1], 0);
    assert_int_equal(sum, 7);
    const int32_t empty[] = {bos, eos};
    count(counter, empty, 2, bytes);
    assert_true(bytes[0] == 0 && bytes[1] == 0);
    count(counter, empty, 1, bytes);
    assert_int_equal(bytes[0], 0);
    count(counter, empty, 0, bytes);
    kv_token_bytes_free(counter);
    kv_tokenizer_free(tokenizer);
    free(ids);
    // GPT-2 has one piece for both.
    tokenizer = open_tokenizer(test_fixture("fixtures/tokenizers/gpt-2"));
    counter = make_counter(tokenizer);
    const int32_t end = kv_tokenizer_find(tokenizer, "<|endoftext|>");
    ids = test_encode(tokenizer, "x<|endoftext|>y", 15, &n);
    assert_true(n == 3 && ids[1] == end);
    count(counter, ids, n, bytes);
    assert_true(bytes[0] == 1 && bytes[1] == 13 && bytes[2] == 1);
    free(ids);
    kv_token_bytes_free(counter);
    kv_tokenizer_free(tokenizer);
}

static void ids_outside_are_refused(void **state) {
    (void)state;
    kv_tokenizer *tokenizer = open_tokenizer(test_path(test_dir, "tokenizer.model"));
    kv_token_bytes *counter = make_counter(tokenizer);
    const int32_t outside[] = {-1, (int32_t)kv_tokenizer_vocab_size(tokenizer)};
    int32_t bytes[2];
    for (int i = 0; i < 2; i++) {
        const int32_t behind[] = {5, outside[i]};
        kv_error err = {0};
        assert_int_equal(kv_token_bytes_count(counter, behind, 2, bytes, &err), KV_ERR_RANGE);
        assert_int_equal(kv_token_bytes_count(counter, &outside[i], 1, bytes, &err), KV_ERR_RANGE);
        assert_non_null(strstr(err.message, "outside the vocabulary of 400"));
    }
    kv_token_bytes_free(counter);
    kv_tokenizer_free(tokenizer);
}

static int set_up(void **state) {
    test_dir_set_up(state);
    test_small_corpus(test_dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_the_text),
        cmocka_unit_test(frames_stand_for_nothing),
        cmocka_unit_test(ids_outside_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
