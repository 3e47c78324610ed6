// tokenizer.json files that are not supported, make no sense or are damaged: refused by name, or good to work
// with.
#include "tests/support/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK "\xE2\x96\x81"

static const char *const merges[] = {"a b", "ab c", "\xC4\xA0 a"};

static const char *path(void) {
    return test_path(test_dir, "tokenizer.json");
}

static json_t *model_of(json_t *root) {
    return json_object_get(root, "model");
}

// ---- Refusals ------------------------------------------------------------------------------------------

static void refused_parts(void **state) {
    (void)state;
    // Part of the file, its new content, what the message says.
    static const char *const wrong[][3] = {
        {"model", "5", "model is 5, expected an object"},
        {"model", "{\"type\": \"Unigram\"}", "model.type is \"Unigram\", expected BPE"},
        {"model", "{\"type\": \"WordPiece\"}", "WordPiece"},
        {"model", "{}", "model.vocab is missing"},
        {"model", "{\"vocab\": {\"a\": 0}}", "model.merges is missing"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": {}}", "model.merges is an object, expected a list"},
        {"model", "{\"vocab\": {\"a\": -1}, \"merges\": []}", "the id of 'a' is not a whole number"},
        {"model", "{\"vocab\": {\"a\": 2147483648}, \"merges\": []}", "the id of 'a' is not"},
        {"model", "{\"vocab\": {\"a\": 4194304}, \"merges\": []}", "the id of 'a' is not"},
        {"model", "{\"vocab\": {\"a\": 1.0}, \"merges\": []}", "the id of 'a' is not"},
        {"model", "{\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}", "id 0 belongs to 'a' and to 'b'"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [\"a\"]}",
         "model.merges[0] is \"a\", expected two pieces"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [\"a a a\"]}", "model.merges[0]"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [\"a \"]}", "model.merges[0]"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [[\"a\", \"\"]]}", "model.merges[0]"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [[\"a\", \"a\", \"a\"]]}", "model.merges[0]"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [7]}", "model.merges[0] is 7"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [\"a a\"]}",
         "'a' and 'a', but the vocabulary lacks the result"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}", "lacks the second"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [\"b a\"]}", "lacks the first"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [], \"unk_token\": 5}", "model.unk_token is 5"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [], \"dropout\": 0.1}", "model.dropout is 0.1"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [], \"end_of_word_suffix\": \"</w>\"}",
         "model.end_of_word_suffix is"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [], \"continuing_subword_prefix\": \"##\"}",
         "continuing_subword_prefix"},
        {"model", "{\"vocab\": {\"a\": 0}, \"merges\": [], \"byte_fallback\": 1}",
         "model.byte_fallback is 1"},
        {"added_tokens", "{}", "added_tokens is an object, expected a list"},
        {"added_tokens", "[5]", "added_tokens[0].content is missing"},
        {"added_tokens", "[{\"content\": \"x\"}]", "added_tokens[0]: the id of 'x'"},
        {"added_tokens", "[{\"id\": 300, \"content\": \"a\"}]", "added_tokens[0]: 'a' has id 97 and id 300"},
        {"added_tokens", "[{\"id\": 97, \"content\": \"<x>\"}]",
         "added_tokens[0]: id 97 belongs to 'a' and to '<x>'"},
        {"added_tokens", "[{\"id\": 300, \"content\": \"x<\"}, {\"id\": 300, \"content\": \"x<\"}]",
         "id 300 is added twice"},
        {"added_tokens", "[{\"id\": 300, \"content\": \"<x>\", \"lstrip\": 1}]",
         "added_tokens[0].lstrip is 1"},
        {"normalizer", "{\"type\": \"Lowercase\"}",
         "normalizer.type is \"Lowercase\", expected NFC, Prepend or Replace"},
        {"normalizer", "{\"type\": \"Sequence\"}", "normalizer.normalizers is missing, expected a list"},
        {"normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}]}",
         "normalizer.normalizers[0].type is \"NFKC\""},
        {"normalizer", "{\"type\": \"Prepend\"}", "normalizer.prepend is missing"},
        {"normalizer", "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a\"}, \"content\": \"\"}",
         "replaces a Regex"},
        {"normalizer", "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"\"}",
         "normalizer.pattern"},
        {"normalizer", "[]", "normalizer.type is missing"},
        {"pre_tokenizer", "{\"type\": \"BertPreTokenizer\"}",
         "pre_tokenizer.type is \"BertPreTokenizer\", expected ByteLevel"},
        {"pre_tokenizer", "{\"type\": \"ByteLevel\", \"use_regex\": \"yes\"}",
         "pre_tokenizer.use_regex is \"yes\""},
        {"pre_tokenizer", "{\"type\": \"Split\", \"behavior\": \"Kept\"}",
         "pre_tokenizer.behavior is \"Kept\", expected Removed,"},
        {"pre_tokenizer", "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": \"a\"}",
         "pre_tokenizer.pattern is \"a\""},
        {"pre_tokenizer", "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"String\": \"\"}}",
         "pre_tokenizer.pattern"},
        {"pre_tokenizer",
         "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"Regex\": \"(a\"}}",
         "regular expression '(a': missing closing parenthesis, at byte 2"},
        {"pre_tokenizer",
         "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"Regex\": \"[a[b]]\"}}",
         "a class within a class at byte 2"},
        {"pre_tokenizer",
         "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"Regex\": \"[a&&b]\"}}",
         "&& at byte 2"},
        {"pre_tokenizer",
         "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"Regex\": \"[[:upper:]]\"}}",
         "[:name:] but alpha, digit or space at byte 1"},
        {"pre_tokenizer",
         "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"Regex\": \"[a[\"}}", "at byte 2"},
        {"pre_tokenizer",
         "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"Regex\": \"a\\\\b\"}}",
         "\\b at byte 1"},
        {"pre_tokenizer",
         "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"Regex\": \"a{1,2}+\"}}", "{...}+"},
        {"pre_tokenizer",
         "{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"Regex\": \"a\\\\\"}}",
         "regular expression"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\"}", "pre_tokenizer.replacement is missing"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"ab\"}", "expected one character"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"last\"}",
         "is \"last\""},
        {"pre_tokenizer",
         "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\", \"add_prefix_space\": false}",
         "expected never, since add_prefix_space is false"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *root = test_byte_level(merges, 3);
        test_set(root, wrong[i][0], wrong[i][1]);
        test_refused(root, path(), wrong[i][2]);
        json_decref(root);
    }
}

// A Sequence in a Sequence in a ..., n of them; and one of n steps.
// What is wrong with a decoder is said when text is asked for.
static void refused_decoder(const json_t *root, const char *words) {
    kv_tokenizer *tokenizer = test_open(root, path());
    char *text = NULL;
    size_t length = 0;
    kv_error err = {0};
    assert_int_equal(kv_tokenizer_decode(tokenizer, (const int32_t[]){97}, 1, &text, &length, &err),
                     KV_ERR_FORMAT);
    assert_null(text);
    if (!strstr(err.message, words) || !strstr(err.message, path())) fail_msg("%s", err.message);
    kv_tokenizer_free(tokenizer);
}

static void nested(const char *key, const char *list, const char *step, int depth, int n, const char *words) {
    json_t *root = test_byte_level(merges, 3), *inner = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(inner, json_loads(step, 0, NULL));
    json_t *value = json_pack("{s:s,s:o}", "type", "Sequence", list, inner);
    for (int i = 1; i < depth; i++) value = json_pack("{s:s,s:[o]}", "type", "Sequence", list, value);
    json_object_set_new(root, key, value);
    if (words && strcmp(key, "decoder") == 0)
        refused_decoder(root, words);
    else if (words)
        test_refused(root, path(), words);
    else
        kv_tokenizer_free(test_open(root, path()));
    json_decref(root);
}

static void nested_sequences(void **state) {
    (void)state;
    static const char *const parts[][3] = {
        {"normalizer", "normalizers", "{\"type\": \"NFC\"}"},
        {"pre_tokenizer", "pretokenizers", "{\"type\": \"Digits\"}"},
        {"decoder", "decoders", "{\"type\": \"Fuse\"}"},
        {"post_processor", "processors", "{\"type\": \"ByteLevel\"}"},
    };
    for (int i = 0; i < 4; i++) {
        nested(parts[i][0], parts[i][1], parts[i][2], 16, 1, NULL);
        nested(parts[i][0], parts[i][1], parts[i][2], 17, 1, "nested too deeply");
        nested(parts[i][0], parts[i][1], parts[i][2], 500, 1, "nested too deeply");
        nested(parts[i][0], parts[i][1], parts[i][2], 1, 20, NULL);
        if (i < 3) nested(parts[i][0], parts[i][1], parts[i][2], 1, 100, "one step too many");
    }
}

static void refused_decoders(void **state) {
    (void)state;
    static const char *const wrong[][2] = {
        {"null", "decoder is null, expected how pieces become text"},
        {"{\"type\": \"WordPiece\"}", "decoder.type is \"WordPiece\""},
        {"5", "decoder.type is missing"},
        {"{\"type\": \"Strip\", \"content\": \"\", \"start\": 1, \"stop\": 0}", "decoder.content is empty"},
        {"{\"type\": \"Strip\", \"content\": \" \", \"start\": -1, \"stop\": 0}", "decoder.start is -1"},
        {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}}", "decoder.content is missing"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *root = test_byte_level(merges, 3);
        test_set(root, "decoder", wrong[i][0]);
        refused_decoder(root, wrong[i][1]);
        json_decref(root);
    }
}

// A pattern that takes exponential time is given up, not waited for.
static void an_endless_pattern(void **state) {
    (void)state;
    json_t *root = test_byte_level(merges, 3);
    test_set(
        root, "pre_tokenizer",
        "{\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"Regex\": \"(a+)+(a+)+(a+)+c\"}}");
    kv_tokenizer *tokenizer = test_open(root, path());
    char text[201];
    int32_t *ids = NULL;
    int64_t n = 0;
    kv_error err = {0};
    memset(text, 'a', 200);
    text[199] = 'c', text[198] = 'b'; // so that it has to be tried
    assert_int_equal(kv_tokenizer_encode(tokenizer, text, 200, &ids, &n, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "(a+)+"));
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

// ---- Damaged files -------------------------------------------------------------------------------------

// All kinds of parts in one file of a few KB.
static char *full_file(void) {
    json_t *root = test_spm_kind(false);
    test_set(model_of(root), "merges", "[\"" MARK " a\", [\"a\", \"b\"]]");
    test_set(
        root, "pre_tokenizer",
        "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+(?!\\\\S)|[^\\\\s]+\"},"
        " \"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"Digits\", \"individual_digits\": true},"
        " {\"type\": \"Metaspace\", \"replacement\": \"" MARK
        "\", \"prepend_scheme\": \"always\", \"split\": true},"
        " {\"type\": \"Split\", \"pattern\": {\"String\": \"b\"}, \"behavior\": \"MergedWithNext\", \"invert\": true}]}");
    test_set(
        root, "post_processor",
        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}],"
        " \"special_tokens\": {\"<s>\": {\"ids\": [300]}}}");
    test_set(root, "added_tokens",
             "[{\"id\": 300, \"content\": \"<s>\", \"special\": true, \"lstrip\": true},"
             " {\"id\": 301, \"content\": \"</s>\", \"normalized\": true, \"single_word\": true}]");
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    assert_non_null(text);
    return text;
}

// Refused with a line that names the file, or good to work with.
static bool opens(const char *file) {
    kv_tokenizer *tokenizer = NULL;
    kv_error err = {0};
    if (kv_tokenizer_open(file, &tokenizer, &err)) {
        assert_null(tokenizer);
        assert_null(strchr(err.message, '\n'));
        if (!strstr(err.message, "damaged.json") && err.code != KV_ERR_MEMORY)
            fail_msg("which file? %s", err.message);
        return false;
    }
    static const char text[] = "ab 12 <s> a</s>\xFF\xC3\xA9 bb a  b\n";
    int32_t *ids = NULL;
    int64_t n = 0;
    char *back = NULL;
    size_t length = 0;
    if (kv_tokenizer_encode(tokenizer, text, sizeof text - 1, &ids, &n, &err) == KV_OK &&
        kv_tokenizer_decode(tokenizer, ids, n, &back, &length, &err) != KV_OK &&
        !strstr(err.message, "damaged.json: decoder"))
        fail_msg("%s", err.message);
    free(ids);
    free(back);
    kv_tokenizer_free(tokenizer);
    return true;
}

static void truncated_files(void **state) {
    (void)state;
    char *text = full_file();
    const char *file = test_path(test_dir, "damaged.json");
    test_write_text(file, text);
    assert_true(opens(file));
    for (size_t length = strlen(text); length-- > 0; length -= length > 2 ? 2 : 0) {
        test_write_bytes(file, text, length);
        assert_false(opens(file));
    }
    free(text);
}

static void mutated_files(void **state) {
    (void)state;
    static const char *const values[] = {"null", "-1",   "2147483648", "[]",    "{}",
                                         "\"\"", "true", "1e99",       "\"a\"", "[[[[]]]]"};
    char *text = full_file();
    const size_t length = strlen(text);
    char *changed = test_alloc((int64_t)length + 64, 1);
    const char *file = test_path(test_dir, "damaged.json");
    for (int64_t i = 0; i < 1200; i++) {
        size_t at = (size_t)test_below(1, 3 * i, (int64_t)length), n = length;
        memcpy(changed, text, length);
        if (i % 3 == 0) { // one byte
            changed[at] = (char)test_below(1, 3 * i + 1, 256);
        } else { // what stands between two signs becomes another value
            const char *value = values[test_below(1, 3 * i + 1, sizeof values / sizeof *values)];
            at += strcspn(text + at, ":,[{");
            if (at == length) continue;
            size_t end =
                at + 1 + (text[at + 1] == '"') + strcspn(text + at + 1 + (text[at + 1] == '"'), "\",]}");
            end += text[at + 1] == '"' && end < length;
            n = at + 1 + (size_t)sprintf(changed + at + 1, "%s", value);
            memcpy(changed + n, text + end, length - end);
            n += length - end;
        }
        test_write_bytes(file, changed, n);
        opens(file);
    }
    free(changed);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_parts),    cmocka_unit_test(refused_decoders),
        cmocka_unit_test(nested_sequences), cmocka_unit_test(an_endless_pattern),
        cmocka_unit_test(truncated_files),  cmocka_unit_test(mutated_files),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
