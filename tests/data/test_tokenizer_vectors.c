// Real tokenizers give the ids that other implementations gave: tests/fixtures/tokenizers, or every directory
// below KV_TOKENIZERS_DIR that has a vectors.jsonl ({"text": ..., "ids": [...]} a line) and a tokenizer.
#include "tests/support/tokenizer.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TESTS = 256 };
static struct CMUnitTest tests[MAX_TESTS];
static size_t n_tests;

static kv_tokenizer *open_tokenizer(const char *path) {
    kv_tokenizer *tokenizer = NULL;
    kv_error err = {0};
    if (kv_tokenizer_open(path, &tokenizer, &err)) fail_msg("%s", err.message);
    return tokenizer;
}

// ---- What every tokenizer must do ----------------------------------------------------------------------

static void check_vector(const kv_tokenizer *tokenizer, const json_t *vector) {
    const json_t *list = json_object_get(vector, "ids");
    const char *text = json_string_value(json_object_get(vector, "text"));
    int64_t n = (int64_t)json_array_size(list);
    int32_t *ids = test_alloc(n + 1, sizeof *ids);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    assert_non_null(text);
    test_expect_ids(tokenizer, text, ids, n);
    test_round_trip(tokenizer, text, strlen(text));
    free(ids);
}

static void vectors(void **state) {
    char path[PATH_MAX];
    kv_tokenizer *tokenizer = open_tokenizer(*state);
    snprintf(path, sizeof path, "%s/vectors.jsonl", (const char *)*state);
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t size = 0;
    int64_t n = 0;
    assert_non_null(file);
    for (; getline(&line, &size, file) > 0; n++) {
        json_t *vector = json_loads(line, 0, NULL);
        assert_non_null(vector);
        check_vector(tokenizer, vector);
        json_decref(vector);
    }
    assert_true(n > 0);
    free(line);
    fclose(file);
    kv_tokenizer_free(tokenizer);
}

// What text comes back at all is up to the tokenizer: not all normalise nothing and have all bytes. The ones
// in tests/data do, but for some bytes that starcoder lacks.
static void random_text_comes_back(void **state) {
    kv_tokenizer *tokenizer = open_tokenizer(*state);
    static char text[4 * 4000 + 1];
    for (uint64_t seed = 0; seed < 300; seed++) {
        size_t length = test_unicode(seed, 1 + test_below(seed, -1, 200), true, text);
        test_round_trip(tokenizer, text, length);
    }
    test_round_trip(tokenizer, text, test_unicode(1000, 4000, true, text));
    kv_tokenizer_free(tokenizer);
}

static bool has_byte(const kv_tokenizer *tokenizer, char byte) {
    int32_t *ids = NULL;
    int64_t n = 0;
    kv_status status = kv_tokenizer_encode(tokenizer, &byte, 1, &ids, &n, NULL);
    free(ids);
    return status == KV_OK;
}

static void random_bytes_come_back(void **state) {
    kv_tokenizer *tokenizer = open_tokenizer(*state);
    char text[200];
    bool present[256];
    for (int b = 0; b < 256; b++) present[b] = has_byte(tokenizer, (char)b);
    for (uint64_t seed = 0; seed < 500; seed++) {
        int64_t length = 1 + test_below(seed, -2, sizeof text - 1);
        test_bytes(seed, length, text);
        for (int64_t i = 0; i < length; i++)
            if (!present[(unsigned char)text[i]]) text[i] = '\x80';
        test_round_trip(tokenizer, text, (size_t)length);
    }
    kv_tokenizer_free(tokenizer);
}

static void pieces_are_found(void **state) {
    kv_tokenizer *tokenizer = open_tokenizer(*state);
    for (int32_t id = 0; id < kv_tokenizer_vocab_size(tokenizer); id++)
        assert_int_equal(kv_tokenizer_find(tokenizer, kv_tokenizer_piece(tokenizer, id)), id);
    assert_int_equal(kv_tokenizer_find(tokenizer, "no such piece"), -1);
    assert_null(kv_tokenizer_piece(tokenizer, -1));
    assert_null(kv_tokenizer_piece(tokenizer, (int32_t)kv_tokenizer_vocab_size(tokenizer)));
    kv_tokenizer_free(tokenizer);
}

// ---- Of the ones in tests/data -------------------------------------------------------------------------

static void a_missing_byte_is_named(void **state) {
    (void)state;
    kv_tokenizer *tokenizer = open_tokenizer(test_fixture("fixtures/tokenizers/starcoder"));
    int32_t *ids = NULL;
    int64_t n = 0;
    kv_error err = {0};
    assert_int_equal(kv_tokenizer_encode(tokenizer, "a\xFA", 2, &ids, &n, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "0xFA"));
    assert_null(ids);
    kv_tokenizer_free(tokenizer);
}

// Llama-2's tokenizer.json, as it is made from the model: every way to make a piece of two is a merge, in the
// order of the pieces' scores. That is the order of their ids, but that those of white space alone come last.
static const int32_t first_piece = 259; // behind <unk>, <s>, </s> and the bytes

static bool is_white_space(const char *piece) {
    while (strncmp(piece, "\xE2\x96\x81", 3) == 0) piece += 3;
    return !*piece;
}

static void add_merges(const kv_tokenizer *model, const char *piece, json_t *merges) {
    char left[128];
    for (size_t cut = 1; cut < strlen(piece); cut++) {
        snprintf(left, sizeof left, "%.*s", (int)cut, piece);
        if ((piece[cut] & 0xC0) == 0x80) continue;
        if (kv_tokenizer_find(model, left) >= first_piece &&
            kv_tokenizer_find(model, piece + cut) >= first_piece)
            json_array_append_new(merges, json_pack("[s,s]", left, piece + cut));
    }
}

static json_t *converted(const kv_tokenizer *model) {
    json_t *vocab = json_object(), *merges = json_array();
    for (int32_t id = 0; id < kv_tokenizer_vocab_size(model); id++)
        json_object_set_new(vocab, kv_tokenizer_piece(model, id), json_integer(id));
    for (int last = 0; last < 2; last++)
        for (int32_t id = first_piece; id < kv_tokenizer_vocab_size(model); id++)
            if (is_white_space(kv_tokenizer_piece(model, id)) == last)
                add_merges(model, kv_tokenizer_piece(model, id), merges);
    json_t *root =
        json_pack("{s:{s:s,s:b,s:b,s:s,s:o,s:o},s:n}", "model", "type", "BPE", "byte_fallback", 1, "fuse_unk",
                  1, "unk_token", "<unk>", "vocab", vocab, "merges", merges, "pre_tokenizer");
    test_set(
        root, "normalizer",
        "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xE2\x96\x81\"},"
        " {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}]}");
    test_set(root, "decoder",
             "{\"type\": \"Sequence\", \"decoders\": ["
             "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xE2\x96\x81\"}, \"content\": \" \"},"
             "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"},"
             "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}");
    test_set(
        root, "added_tokens",
        "[{\"id\": 0, \"content\": \"<unk>\", \"special\": true}, {\"id\": 1, \"content\": \"<s>\", \"special\": true},"
        " {\"id\": 2, \"content\": \"</s>\", \"special\": true}]");
    test_set(
        root, "post_processor",
        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}},"
        " {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"special_tokens\":"
        " {\"<s>\": {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}}}");
    return root;
}

static void same_ids(const kv_tokenizer *one, const kv_tokenizer *other, const char *text, size_t length) {
    int64_t n = 0, n_other = 0;
    int32_t *ids = test_encode(one, text, length, &n),
            *ids_other = test_encode(other, text, length, &n_other);
    if (n != n_other || memcmp(ids, ids_other, (size_t)n * sizeof *ids) != 0)
        fail_msg("two kinds of ids for '%s'", text);
    free(ids);
    free(ids_other);
}

static void both_kinds_of_one_tokenizer_agree(void **state) {
    (void)state;
    kv_tokenizer *model = open_tokenizer(test_fixture("fixtures/tokenizers/llama-spm"));
    json_t *root = converted(model);
    kv_tokenizer *json = test_open(root, test_path(test_dir, "tokenizer.json"));
    static char text[4 * 100000 + 1];
    assert_string_equal(kv_tokenizer_hash(model), kv_tokenizer_hash(json));
    assert_int_equal(kv_tokenizer_bos(json), 1);
    for (uint64_t seed = 0; seed < 2000; seed++) {
        same_ids(model, json, text, test_unicode(seed, 1 + test_below(seed, -1, 60), true, text));
        int64_t length = 1 + test_below(seed, -2, 100);
        test_bytes(seed, length, text);
        same_ids(model, json, text, (size_t)length);
        test_round_trip(json, text, (size_t)length);
    }
    // Long enough to be given to the library in parts.
    same_ids(model, json, text, test_unicode(1, 100000, true, text));
    size_t length = 0; // words with many spaces between them
    for (int64_t i = 0; length < 200000; i++)
        length += (size_t)sprintf(text + length, "w%d       ", (int)(i % 97));
    same_ids(model, json, text, length);
    char *facts = test_read_text(test_fixture("fixtures/trivia_original.json"));
    same_ids(model, json, facts, strlen(facts));
    free(facts);
    json_decref(root);
    kv_tokenizer_free(model);
    kv_tokenizer_free(json);
}

// ---- The list of tests ---------------------------------------------------------------------------------

static void add_test(const char *dir, const char *what, CMUnitTestFunction run) {
    char name[PATH_MAX + 64];
    const char *short_name = strrchr(dir, '/');
    snprintf(name, sizeof name, "%s: %s", short_name ? short_name + 1 : dir, what);
    if (n_tests < MAX_TESTS)
        tests[n_tests++] = (struct CMUnitTest){strdup(name), run, NULL, NULL, strdup(dir)};
}

static bool given;

static int visit(const char *path, const struct stat *info, int type, struct FTW *place) {
    (void)info;
    if (type != FTW_F || strcmp(path + place->base, "vectors.jsonl") != 0) return 0;
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%.*s", place->base - 1, path);
    if (!kv_tokenizer_present(dir)) return 0;
    add_test(dir, "vectors", vectors);
    add_test(dir, "pieces", pieces_are_found);
    if (given) return 0; // who knows what they normalise
    add_test(dir, "random Unicode", random_text_comes_back);
    add_test(dir, "random bytes", random_bytes_come_back);
    return 0;
}

// From where the test runs or else from the project's root, as KV_GOLDEN_DIR.
static void find_root(char root[PATH_MAX]) {
    const char *asked = getenv("KV_TOKENIZERS_DIR"), *tests_dir = getenv("KV_TEST_DIR");
    given = asked != NULL;
    if (!asked)
        snprintf(root, PATH_MAX, "%s", test_fixture("fixtures/tokenizers"));
    else if (asked[0] == '/' || access(asked, F_OK) == 0)
        snprintf(root, PATH_MAX, "%s", asked);
    else
        snprintf(root, PATH_MAX, "%s/../%s", tests_dir ? tests_dir : "tests", asked);
}

int main(void) {
    char root[PATH_MAX];
    find_root(root);
    if (nftw(root, visit, 16, 0) != 0 || n_tests == 0) {
        fprintf(stderr, "no tokenizer with a vectors.jsonl below %s\n", root);
        return 1;
    }
    add_test("starcoder", "a missing byte is named", a_missing_byte_is_named);
    add_test("llama-spm", "both kinds of one tokenizer agree", both_kinds_of_one_tokenizer_agree);
    int failed =
        _cmocka_run_group_tests("tokenizer vectors", tests, n_tests, test_dir_set_up, test_dir_tear_down);
    for (size_t i = 0; i < n_tests; i++) {
        free((void *)(uintptr_t)tests[i].name);
        free(tests[i].initial_state);
    }
    return failed;
}
