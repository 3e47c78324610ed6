// Parts of a tokenizer.json, and files beside it, that say nothing about the ids of a text: whatever they hold, the
// ids are those of a tokenizer without them.
#include "tests/support/tokenizer.h"
#include "tests/support/warnings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const merges[] = {"a b", "ab c", "\xC4\xA0 a"};
static const char config[] = "tokenizer_config.json", map[] = "special_tokens_map.json";

static const char *path(void) {
    return test_path(test_dir, "tokenizer.json");
}

// 256 bytes, then "ab", "abc" and " a".
static void assert_plain_ids(const kv_tokenizer *tokenizer) {
    static const int32_t ids[] = {257, 258, 'x', 0xC3, 0xA9};
    test_expect_ids(tokenizer, "abc ax\xC3\xA9", ids, 5);
}

static void test_parts(void **state) {
    (void)state;
    static const struct {
        bool of_model;
        const char *key, *value;
    } parts[] = {
        {false, "truncation", "{\"max_length\": 1, \"strategy\": \"OnlySecond\"}"},
        {false, "padding", "{\"strategy\": {\"Fixed\": 99}, \"pad_id\": 123456}"},
        {false, "version", "7"},
        {false, "post_processor", "null"},
        {false, "post_processor",
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"A\"}}], \"pair\": 5,"
         " \"special_tokens\": {\"<y>\": 7}}"},
        {false, "decoder", "null"},
        {false, "decoder", "{\"type\": \"CTC\"}"},
        {false, "comment", "[[[1]]]"},
        {true, "dropout", "0.0"},
        {true, "dropout", "null"},
        {true, "continuing_subword_prefix", "\"\""},
        {true, "unk_token", "\"<unk>\""}, // bytes have pieces, all of them
        {true, "byte_fallback", "null"},
        {true, "whatever", "{}"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        json_t *root = test_byte_level(merges, 3);
        test_set(parts[i].of_model ? json_object_get(root, "model") : root, parts[i].key, parts[i].value);
        kv_tokenizer *tokenizer = test_open(root, path());
        assert_plain_ids(tokenizer);
        assert_int_equal(kv_tokenizer_bos(tokenizer), -1);
        kv_tokenizer_free(tokenizer);
        json_decref(root);
    }
}

static void test_empty_pieces(void **state) {
    (void)state;
    json_t *root = test_byte_level(merges, 3);
    json_object_set_new(json_object_get(json_object_get(root, "model"), "vocab"), "", json_integer(270));
    test_set(root, "added_tokens", "[{\"id\": 271, \"content\": \"\"}, {\"id\": 272, \"content\": \"<x>\"}]");
    kv_tokenizer *tokenizer = test_open(root, path());
    assert_plain_ids(tokenizer);
    test_expect_ids(tokenizer, "<x>", (const int32_t[]){272}, 1);
    assert_int_equal(kv_tokenizer_vocab_size(tokenizer), 273);
    assert_null(kv_tokenizer_piece(tokenizer, 270));
    char *text;
    size_t length;
    kv_error err;
    assert_int_equal(
        kv_tokenizer_decode(tokenizer, (const int32_t[]){270, 'x', 271}, 3, &text, &length, &err), KV_OK);
    assert_string_equal(text, "x");
    free(text);
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

// A character that the vocabulary lacks misses the unknown token that it lacks too.
static void test_unknown_token_that_is_needed(void **state) {
    (void)state;
    json_t *root = test_byte_level(merges, 3);
    test_set(root, "model", "{\"vocab\": {\"a\": 0}, \"merges\": [], \"unk_token\": \"<unk>\"}");
    kv_tokenizer *tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "aa", (const int32_t[]){0, 0}, 2);
    int32_t *ids;
    int64_t n;
    kv_error err;
    assert_int_equal(kv_tokenizer_encode(tokenizer, "ab", 2, &ids, &n, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "no piece for the byte 0x62"));
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

// What the files beside it say of the end of a text: EOS, and whether there was a warning that holds `words`.
static void expect_eos(const char *in_config, const char *in_map, int32_t eos, const char *words) {
    json_t *root = test_byte_level(merges, 3);
    test_set(root, "added_tokens", "[{\"id\": 300, \"content\": \"</s>\"}]");
    if (in_config) test_write_text(test_path(test_dir, config), in_config);
    if (in_map) test_write_text(test_path(test_dir, map), in_map);
    test_n_warnings = 0;
    kv_tokenizer *tokenizer = test_open(root, path());
    assert_plain_ids(tokenizer);
    assert_int_equal(kv_tokenizer_eos(tokenizer), eos);
    assert_int_equal(test_n_warnings, words ? 1 : 0);
    if (words && !strstr(test_warned, words)) fail_msg("'%s' not in '%s'", words, test_warned);
    kv_tokenizer_free(tokenizer);
    json_decref(root);
    if (in_config) unlink(test_path(test_dir, config));
    if (in_map) unlink(test_path(test_dir, map));
}

static void test_ends(void **state) {
    (void)state;
    static const char good[] = "{\"eos_token\": \"</s>\"}";
    expect_eos("{\"eos_token\": \"<none>\"}", NULL, -1, "tokenizer_config.json: 'eos_token' is \"<none>\"");
    expect_eos("{\"eos_token\": 5}", NULL, -1, "'eos_token' is 5");
    expect_eos("{\"eos_token\": {}}", good, 300, "'eos_token' is {}");
    expect_eos(good, "{\"eos", 300, NULL); // the map is not asked
    expect_eos(good, "{\"eos_token\": \"<none>\"}", 300, NULL);
    expect_eos(NULL, "{\"eos", -1, "special_tokens_map.json:1: bad JSON");
    expect_eos(NULL, "[]", -1, "special_tokens_map.json");
    expect_eos(NULL, "{\"eos_token\": \"<none>\"}", -1, "special_tokens_map.json: 'eos_token' is \"<none>\"");
    // Nobody reads these here.
    expect_eos("{\"eos_token\": \"</s>\", \"chat_template\": 5, \"pad_token\": \"<none>\", \"unk_token\": [],"
               " \"bos_token\": \"<none>\", \"model_max_length\": \"long\", \"added_tokens_decoder\": 7,"
               " \"tokenizer_class\": null}",
               NULL, 300, NULL);
    expect_eos("{\"chat_template\": \"{% broken\", \"additional_special_tokens\": {\"a\": 1}}", good, 300,
               NULL);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_set_up, test_dir_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_parts),
        TEST(test_empty_pieces),
        TEST(test_unknown_token_that_is_needed),
        TEST(test_ends),
    };
    return cmocka_run_group_tests_name("tokenizer_unneeded", tests, NULL, NULL);
}
