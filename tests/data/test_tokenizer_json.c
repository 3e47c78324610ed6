// tokenizer.json: added tokens, normalisers, decoders, what begins and ends a text.
#include "tests/support/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MARK     "\xE2\x96\x81"
#define IDS(...) (const int32_t[]){__VA_ARGS__}, (int64_t)(sizeof(int32_t[]){__VA_ARGS__} / sizeof(int32_t))

static const char *path(void) {
    return test_path(test_dir, "tokenizer.json");
}

static json_t *model_of(json_t *root) {
    return json_object_get(root, "model");
}

static void expect_text(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, const char *text) {
    char *found = NULL;
    size_t length = 0;
    assert_int_equal(kv_tokenizer_decode(tokenizer, ids, n, &found, &length, NULL), KV_OK);
    assert_string_equal(found, text);
    assert_int_equal(length, strlen(text));
    free(found);
}

// ---- Merges --------------------------------------------------------------------------------------------

static const char *const merges[] = {"a b", "ab c", "\xC4\xA0 a"};

static void merges_of_both_spellings(void **state) {
    (void)state;
    json_t *root = test_byte_level(merges, 3);
    kv_tokenizer *spaced = test_open(root, path());
    test_set(model_of(root), "merges", "[[\"a\", \"b\"], [\"ab\", \"c\"], [\"\xC4\xA0\", \"a\"]]");
    kv_tokenizer *paired = test_open(root, path());
    test_expect_ids(spaced, "abc ab", IDS(257, ' ', 256));
    test_expect_ids(paired, "abc ab", IDS(257, ' ', 256));
    test_expect_ids(spaced, "", NULL, 0);
    assert_string_equal(kv_tokenizer_hash(spaced), kv_tokenizer_hash(paired));
    assert_int_equal(kv_tokenizer_vocab_size(spaced), 259);
    assert_string_equal(kv_tokenizer_piece(spaced, 258), "\xC4\xA0"
                                                         "a");
    assert_int_equal(kv_tokenizer_find(spaced, "abc"), 257);
    kv_tokenizer_free(spaced);
    kv_tokenizer_free(paired);
    json_decref(root);
}

static void other_pieces_another_hash(void **state) {
    (void)state;
    static const char *const others[] = {"a b", "ab c", "\xC4\xA0 b"};
    json_t *root = test_byte_level(merges, 3), *other = test_byte_level(others, 3);
    kv_tokenizer *one = test_open(root, path()), *two = test_open(other, path());
    assert_string_not_equal(kv_tokenizer_hash(one), kv_tokenizer_hash(two));
    kv_tokenizer_free(one);
    kv_tokenizer_free(two);
    json_decref(root);
    json_decref(other);
}

// Llama-3's: words that are pieces need no merges.
static void ignored_merges(void **state) {
    (void)state;
    json_t *root = test_byte_level(merges, 3);
    json_object_set_new(json_object_get(model_of(root), "vocab"), "cab", json_integer(259));
    kv_tokenizer *merged = test_open(root, path());
    test_set(model_of(root), "ignore_merges", "true");
    kv_tokenizer *whole = test_open(root, path());
    test_expect_ids(merged, "cab", IDS('c', 256));
    test_expect_ids(whole, "cab", IDS(259));
    test_expect_ids(whole, "cabb", IDS('c', 256, 'b'));
    kv_tokenizer_free(merged);
    kv_tokenizer_free(whole);
    json_decref(root);
}

// ---- Added tokens --------------------------------------------------------------------------------------

static kv_tokenizer *with_added(const char *list) {
    json_t *root = test_byte_level(merges, 3);
    test_set(root, "added_tokens", list);
    kv_tokenizer *tokenizer = test_open(root, path());
    json_decref(root);
    return tokenizer;
}

static void the_longest_at_the_leftmost_place(void **state) {
    (void)state;
    kv_tokenizer *tokenizer =
        with_added("[{\"id\": 300, \"content\": \"<|a|>\", \"special\": true},"
                   " {\"id\": 301, \"content\": \"<|a|>b\"}, {\"id\": 302, \"content\": \"|>b<\"},"
                   " {\"id\": 303, \"content\": \"\xC3\xA9\xC3\xA9\"}, {\"id\": 97, \"content\": \"a\"}]");
    assert_int_equal(kv_tokenizer_vocab_size(tokenizer), 304);
    assert_null(kv_tokenizer_piece(tokenizer, 299)); // a hole
    test_expect_ids(tokenizer, "x<|a|>c", IDS('x', 300, 'c'));
    test_expect_ids(tokenizer, "<|a|>b<", IDS(301, '<')); // not 302, which begins later
    test_expect_ids(tokenizer, "<|b|>b<", IDS('<', '|', 'b', 302));
    test_expect_ids(tokenizer, "\xC3\xA9\xC3\xA9\xC3\xA9", IDS(303, 0xC3, 0xA9));
    test_expect_ids(tokenizer, "ab", IDS(97, 'b')); // "a" is cut out of the text before merging
    test_expect_ids(tokenizer, "<|a|", IDS('<', '|', 97, '|'));
    test_round_trip(tokenizer, "\xFF<|a|>\xC3\xA9\xC3\xA9\xC3", 11);
    expect_text(tokenizer, IDS(300, 299, 'x', 303), "<|a|>x\xC3\xA9\xC3\xA9");
    kv_tokenizer_free(tokenizer);
}

static void plain_text(void **state) {
    (void)state;
    kv_tokenizer *tokenizer = with_added(
        "[{\"id\": 300, \"content\": \"<|a|>\", \"special\": true}, {\"id\": 301, \"content\": \"  \"}]");
    int32_t *ids = NULL;
    int64_t n = 0;
    const int32_t expected[] = {'<', '|', 'a', '|', '>', 301, 'b'};
    assert_int_equal(kv_tokenizer_encode_plain(tokenizer, "<|a|>  b", 8, &ids, &n, NULL), KV_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(ids, expected, sizeof expected);
    free(ids);
    test_expect_ids(tokenizer, "<|a|>  b", IDS(300, 301, 'b'));
    kv_tokenizer_free(tokenizer);
}

static void what_added_tokens_take(void **state) {
    (void)state;
    kv_tokenizer *tokenizer =
        with_added("[{\"id\": 300, \"content\": \"<l>\", \"lstrip\": true},"
                   " {\"id\": 301, \"content\": \"<r>\", \"rstrip\": true},"
                   " {\"id\": 302, \"content\": \"word\", \"single_word\": true},"
                   " {\"id\": 303, \"content\": \"<lr>\", \"lstrip\": true, \"rstrip\": true}]");
    test_expect_ids(tokenizer, "x \t\xC2\xA0<l> y", IDS('x', 300, ' ', 'y'));
    test_expect_ids(tokenizer, "x <r> \n y", IDS('x', ' ', 301, 'y'));
    test_expect_ids(tokenizer, " <lr>  <lr> ", IDS(303, 303));
    test_expect_ids(tokenizer, "<r>  <l>", IDS(301, 300));
    test_expect_ids(tokenizer, "word", IDS(302));
    test_expect_ids(tokenizer, "(word)", IDS('(', 302, ')'));
    test_expect_ids(tokenizer, "words", IDS('w', 'o', 'r', 'd', 's'));
    test_expect_ids(tokenizer, "_word", IDS('_', 'w', 'o', 'r', 'd'));
    test_expect_ids(tokenizer, "\xC3\xA9word", IDS(0xC3, 0xA9, 'w', 'o', 'r', 'd'));
    test_expect_ids(tokenizer, "\xA9word", IDS(0xA9, 302));
    kv_tokenizer_free(tokenizer);
}

// Found in the text as it is normalised; the others before that.
static void normalized_added_tokens(void **state) {
    (void)state;
    json_t *root = test_byte_level(merges, 3);
    test_set(root, "normalizer",
             "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"},"
             " {\"type\": \"Replace\", \"pattern\": {\"String\": \"B\"}, \"content\": \"b\"}]}");
    test_set(root, "added_tokens",
             "[{\"id\": 300, \"content\": \"<e\xCC\x81>\", \"normalized\": true},"
             " {\"id\": 301, \"content\": \"[B]\", \"normalized\": true},"
             " {\"id\": 302, \"content\": \"{B}\", \"normalized\": false}]");
    kv_tokenizer *tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "<\xC3\xA9><e\xCC\x81>", IDS(300, 300));
    test_expect_ids(tokenizer, "[B][b]", IDS(301, 301));
    test_expect_ids(tokenizer, "{B}{b}", IDS(302, '{', 'b', '}'));
    test_expect_ids(tokenizer,
                    "e\xCC\x81"
                    "aB",
                    IDS(0xC3, 0xA9, 256));
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

// ---- SentencePiece's kind ------------------------------------------------------------------------------

static void prepended_and_in_bytes(void **state) {
    (void)state;
    json_t *root = test_spm_kind(true);
    kv_tokenizer *tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "ab a", IDS(260, 259, 260));
    test_expect_ids(tokenizer, " ab", IDS(257, 260, 259));
    test_expect_ids(tokenizer,
                    "b\xFF"
                    "ab",
                    IDS(257, 259, 1 + 0xFF, 261));
    test_expect_ids(tokenizer, "\xC3\xA9", IDS(257, 1 + 0xC3, 1 + 0xA9));
    test_expect_ids(tokenizer, "<s>a<s>", IDS(300, 260, 300));
    expect_text(tokenizer, IDS(260, 1 + 0xFF, 260), "a\xFF a");
    static char text[4 * 200 + 1];
    for (uint64_t seed = 0; seed < 500; seed++) {
        test_bytes(seed, 100, text);
        test_round_trip(tokenizer, text, 100);
        test_round_trip(tokenizer, text, test_unicode(seed, 200, true, text));
    }
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

// Added tokens go through the decoder as all pieces do, and those that are found in normalised text come back
// with what the normalizer had put in front: Llama's first files, Yi's.
static void added_to_sentencepiece(void **state) {
    (void)state;
    json_t *root = test_spm_kind(true);
    test_set(root, "added_tokens",
             "[{\"id\": 300, \"content\": \"<s>\", \"normalized\": true, \"special\": true},"
             " {\"id\": 301, \"content\": \"" MARK MARK "\"}, {\"id\": 66, \"content\": \"<0x41>\"}]");
    kv_tokenizer *tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "a <s>b", IDS(260, 300, 259));
    expect_text(tokenizer, IDS(260, 300, 259), "a <s>b");
    test_expect_ids(tokenizer, "<s>a", IDS(300, 258));
    expect_text(tokenizer, IDS(300, 258), "<s>a");
    expect_text(tokenizer, IDS(260, 301, 258), "a  a");
    expect_text(tokenizer, IDS(260, 66), "aA");
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

// A character that is an added token, but no piece of the model's, is one only where the token is found.
static void words_have_no_added_pieces(void **state) {
    (void)state;
    int32_t *ids;
    int64_t n;
    json_t *root = test_spm_kind(true);
    test_set(root, "added_tokens",
             "[{\"id\": 300, \"content\": \"A\", \"special\": true}, {\"id\": 301, \"content\": \"B\", "
             "\"single_word\": true}]");
    kv_tokenizer *tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "A", IDS(300));
    test_expect_ids(tokenizer, "aB", IDS(260, 1 + 'B'));
    test_expect_ids(tokenizer, "+B", IDS(257, 1 + '+', 301));
    test_expect_ids(tokenizer,
                    "\xE2\x92\xB6"
                    "B",
                    IDS(257, 1 + 0xE2, 1 + 0x92, 1 + 0xB6, 1 + 'B')); // a circled A
    assert_int_equal(kv_tokenizer_encode_plain(tokenizer, "A", 1, &ids, &n, NULL), KV_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[1], 1 + 'A');
    free(ids);
    kv_tokenizer_free(tokenizer);
    // Neither as a whole word.
    test_set(model_of(root), "ignore_merges", "true");
    test_set(root, "normalizer", "null");
    tokenizer = test_open(root, path());
    assert_int_equal(kv_tokenizer_encode_plain(tokenizer, "A", 1, &ids, &n, NULL), KV_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 1 + 'A');
    free(ids);
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

static void with_metaspace(void **state) {
    (void)state;
    json_t *root = test_spm_kind(true);
    test_set(root, "normalizer", "null");
    test_set(root, "pre_tokenizer",
             "{\"type\": \"Metaspace\", \"replacement\": \"" MARK "\", \"prepend_scheme\": \"first\","
             " \"split\": false}");
    test_set(root, "decoder",
             "{\"type\": \"Metaspace\", \"replacement\": \"" MARK "\", \"prepend_scheme\": \"first\"}");
    kv_tokenizer *tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "ab a", IDS(260, 259, 260));
    test_expect_ids(tokenizer, "<s>ab", IDS(300, 261)); // not the first
    kv_tokenizer_free(tokenizer);
    test_set(root, "added_tokens", "[{\"id\": 300, \"content\": \"<s>\", \"normalized\": true}]");
    tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "ab<s>ab", IDS(260, 259, 300, 261));
    expect_text(tokenizer, IDS(260, 259, 260), "ab a");
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

// Words are encoded one by one where that is the same: not where whole texts are looked up.
static void whole_texts_are_looked_up(void **state) {
    (void)state;
    json_t *root = test_spm_kind(true);
    json_object_set_new(json_object_get(model_of(root), "vocab"), MARK "b" MARK "b", json_integer(262));
    test_set(model_of(root), "ignore_merges", "true");
    kv_tokenizer *tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "b b", IDS(262));
    test_expect_ids(tokenizer, "b b b", IDS(257, 259, 257, 259, 257, 259));
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

static void nothing_stays_nothing(void **state) {
    (void)state;
    json_t *root = test_spm_kind(true);
    test_set(
        root, "normalizer",
        "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"x\"}, \"content\": \"\"},"
        " {\"type\": \"Prepend\", \"prepend\": \"" MARK "\"}]}");
    kv_tokenizer *tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "xx", NULL, 0);
    test_expect_ids(tokenizer, "xbx", IDS(257, 259));
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

static void without_bytes(void **state) {
    (void)state;
    json_t *root = test_spm_kind(false);
    kv_tokenizer *tokenizer = test_open(root, path());
    test_expect_ids(tokenizer, "xyz a", IDS(257, 0, 260));
    kv_tokenizer_free(tokenizer);
    test_set(model_of(root), "unk_token", "null");
    tokenizer = test_open(root, path());
    kv_error err = {0};
    int32_t *ids = NULL;
    int64_t n = 0;
    assert_int_equal(kv_tokenizer_encode(tokenizer, "ax", 2, &ids, &n, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "no piece for the character 'x'"));
    assert_int_equal(kv_tokenizer_encode(tokenizer, "a\n", 2, &ids, &n, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "no piece for the byte 0x0A")); // a message is one line
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

// ---- What begins and ends a text -----------------------------------------------------------------------

#define TEMPLATE(single)                                                                                                          \
    "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, {\"type\": \"TemplateProcessing\", \"single\": " single \
    ", \"special_tokens\": {\"<s>\": {\"ids\": [300]}, \"</s>\": {\"ids\": [301]}, \"<x>\": {\"ids\": [999]}}}]}"
#define SPECIAL(name) "{\"SpecialToken\": {\"id\": \"" name "\", \"type_id\": 0}}"
#define TEXT          "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}"

static json_t *with_ends(const char *processor) {
    json_t *root = test_byte_level(merges, 3);
    test_set(root, "added_tokens",
             "[{\"id\": 300, \"content\": \"<s>\", \"special\": true},"
             " {\"id\": 301, \"content\": \"</s>\", \"special\": true},"
             " {\"id\": 302, \"content\": \"<end>\", \"special\": true}]");
    test_set(root, "post_processor", processor);
    return root;
}

// config and map: "" for no such file.
static void expect_ends(const char *processor, const char *config, const char *map, int32_t bos,
                        int32_t eos) {
    json_t *root = with_ends(processor);
    const char *config_path = test_path(test_dir, "tokenizer_config.json");
    const char *map_path = test_path(test_dir, "special_tokens_map.json");
    if (*config) test_write_text(config_path, config);
    if (*map) test_write_text(map_path, map);
    kv_tokenizer *tokenizer = test_open(root, path());
    assert_int_equal(kv_tokenizer_bos(tokenizer), bos);
    assert_int_equal(kv_tokenizer_eos(tokenizer), eos);
    kv_tokenizer_free(tokenizer);
    unlink(config_path);
    unlink(map_path);
    json_decref(root);
}

static void bos_and_eos(void **state) {
    (void)state;
    const char *const whole = TEMPLATE("[" SPECIAL("<s>") ", " TEXT ", " SPECIAL("</s>") "]");
    const char *const front = TEMPLATE("[" SPECIAL("<s>") ", " TEXT "]");
    expect_ends("null", "", "", -1, -1);
    expect_ends("{\"type\": \"ByteLevel\"}", "", "", -1, -1);
    expect_ends(front, "", "", 300, -1);
    expect_ends(whole, "", "", 300, 301);
    expect_ends(whole, "{\"eos_token\": \"<end>\"}", "{\"eos_token\": \"<s>\"}", 300, 302);
    expect_ends(whole, "{\"eos_token\": {\"content\": \"<end>\", \"lstrip\": false}}", "", 300, 302);
    // Llama's file says that there is no limit with a number of 31 digits.
    expect_ends(front, "{\"model_max_length\": 1000000000000000019884624838656, \"eos_token\": \"<end>\"}",
                "", 300, 302);
    expect_ends(front, "{\"eos_token\": null}", "{\"eos_token\": \"</s>\"}", 300, 301);
    expect_ends("null", "", "{\"eos_token\": {\"content\": \"</s>\"}}", -1, 301);
    // Only the classes that make their post-processor from it heed the flag.
    expect_ends(front, "{\"add_bos_token\": false}", "", 300, -1);
    expect_ends(front, "{\"add_bos_token\": false, \"tokenizer_class\": \"LlamaTokenizerFast\"}", "", -1, -1);
    expect_ends("null",
                "{\"add_bos_token\": true, \"tokenizer_class\": \"LlamaTokenizer\", \"bos_token\": \"<s>\"}",
                "", 300, -1);
    expect_ends(front, "{\"tokenizer_class\": \"LlamaTokenizer\", \"bos_token\": \"<end>\"}", "", 300, -1);
}

static void refused_ends(void **state) {
    (void)state;
    static const char *const wrong[][2] = {
        {TEMPLATE("[" SPECIAL("<s>") ", " SPECIAL("</s>") ", " TEXT "]"), "several tokens in front"},
        {TEMPLATE("[" SPECIAL("<y>") ", " TEXT "]"), "special_tokens.<y>.ids is missing"},
        {TEMPLATE("[" SPECIAL("<x>") ", " TEXT "]"), "999"},
        {TEMPLATE("5"), "single is 5, expected a list"},
        {TEMPLATE("[5]"), "SpecialToken.id is missing"},
        {"{\"type\": \"BertProcessing\"}", "BertProcessing"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *root = with_ends(wrong[i][0]);
        test_refused(root, path(), wrong[i][1]);
        json_decref(root);
    }
    // Which token a text begins with is asked of tokenizer_config.json.
    static const char *const configs[][2] = {
        {"{\"eos_token\":", "tokenizer_config.json:1: bad JSON"},
        {"{\"add_bos_token\": true, \"tokenizer_class\": \"LlamaTokenizer\", \"bos_token\": \"<none>\"}",
         "tokenizer_config.json: 'bos_token' is \"<none>\", expected a piece"},
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        json_t *root = with_ends("null");
        kv_tokenizer *tokenizer = NULL;
        kv_error err = {0};
        kv_tokenizer_free(test_open(root, path()));
        test_write_text(test_path(test_dir, "tokenizer_config.json"), configs[i][0]);
        assert_int_equal(kv_tokenizer_open(path(), &tokenizer, &err), KV_ERR_FORMAT);
        if (!strstr(err.message, configs[i][1])) fail_msg("%s", err.message);
        unlink(test_path(test_dir, "tokenizer_config.json"));
        json_decref(root);
    }
}

// ---- Which file ----------------------------------------------------------------------------------------

static void files_and_directories(void **state) {
    (void)state;
    const char *dir = test_path(test_dir, "both"), *json = test_path(test_dir, "both/tokenizer.json");
    kv_tokenizer *tokenizer = NULL;
    kv_error err = {0};
    assert_false(kv_tokenizer_present(dir));
    assert_int_equal(kv_tokenizer_open(dir, &tokenizer, &err), KV_ERR_IO);
    test_write_text(test_path(test_dir, "both/other.txt"), "");
    assert_false(kv_tokenizer_present(dir));
    assert_int_equal(kv_tokenizer_open(dir, &tokenizer, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "expected a tokenizer (tokenizer.json or tokenizer.model)"));
    assert_true(kv_tokenizer_present(test_fixture("fixtures/tokenizers/llama-spm")));
    assert_true(kv_tokenizer_present(test_fixture("fixtures/tokenizers/gpt-2")));
    // A tokenizer.json comes first, whatever lies beside it.
    test_write_text(test_path(test_dir, "both/tokenizer.model"), "no model");
    assert_true(kv_tokenizer_present(dir));
    assert_int_equal(kv_tokenizer_open(dir, &tokenizer, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "expected a tokenizer"));
    json_t *root = test_byte_level(merges, 3);
    kv_tokenizer_free(test_open(root, json));
    assert_int_equal(kv_tokenizer_open(dir, &tokenizer, NULL), KV_OK);
    kv_tokenizer_free(tokenizer);
    // By its content where the name says nothing.
    kv_tokenizer_free(test_open(root, test_path(test_dir, "both/any.name")));
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_of_both_spellings),
        cmocka_unit_test(other_pieces_another_hash),
        cmocka_unit_test(ignored_merges),
        cmocka_unit_test(the_longest_at_the_leftmost_place),
        cmocka_unit_test(plain_text),
        cmocka_unit_test(what_added_tokens_take),
        cmocka_unit_test(normalized_added_tokens),
        cmocka_unit_test(prepended_and_in_bytes),
        cmocka_unit_test(added_to_sentencepiece),
        cmocka_unit_test(with_metaspace),
        cmocka_unit_test(words_have_no_added_pieces),
        cmocka_unit_test(whole_texts_are_looked_up),
        cmocka_unit_test(nothing_stays_nothing),
        cmocka_unit_test(without_bytes),
        cmocka_unit_test(bos_and_eos),
        cmocka_unit_test(refused_ends),
        cmocka_unit_test(files_and_directories),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
