// The tokenizer.json that is made of a tokenizer.model: the same ids and the same text, for whatever text; which of the two
// is read where both lie in a directory; and what Hugging Face's own library made of one.
#include "data/file/path.h"
#include "data/tokenizer/directory.h"
#include "data/tokenizer/export.h"
#include "data/tokenizer/files.h"
#include "tests/support/tokenizer.h"
#include "tests/support/warnings.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static kv_error err;

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

static void must(kv_status status) {
    if (status) fail_msg("%s", err.message);
}

static kv_tokenizer *opened(const char *path) {
    kv_tokenizer *tokenizer = NULL;
    must(kv_tokenizer_open(path, &tokenizer, &err));
    return tokenizer;
}

// ---- Models to convert -----------------------------------------------------------------------------------

// Runs of one character, words that overlap with themselves, code, characters of all widths.
static void write_text(void) {
    FILE *file = fopen(in_dir("text.txt"), "w");
    assert_non_null(file);
    for (int i = 0; i < 60; i++) {
        fprintf(file, "def f%d(x):\n    return x + %d\n        if x > y: print(x)\n", i, i);
        fprintf(file, "%.*s %.*s abab%.*s abaaba =====%.*s\n", 3 + i % 9, "aaaaaaaaaaaaaaaa", 2 + i % 7,
                "                ", i % 6, "ababab", i % 5, "=====");
        fprintf(file, "caf\xC3\xA9 \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x98\x80 the  quick   brown    fox\n");
    }
    fclose(file);
}

// dir/tokenizer.model by spm_train, as `kvdata tokenizer` calls it but for what the options say otherwise; returns dir.
static const char *train_into(const char *dir, const char *options) {
    static char made[300];
    char command[2048], out[4096], failed[4096];
    snprintf(made, sizeof made, "%s", in_dir(dir));
    must(kv_make_dirs(made, &err));
    write_text();
    snprintf(
        command, sizeof command,
        "cd %s && spm_train --input=text.txt --model_prefix=%s/tokenizer --vocab_size=420 --model_type=bpe "
        "--byte_fallback=true --split_digits=true --normalization_rule_name=identity --add_dummy_prefix=false "
        "--remove_extra_whitespaces=false --allow_whitespace_only_pieces=true --unk_id=0 --bos_id=1 --eos_id=2 "
        "--pad_id=-1 --hard_vocab_limit=false --minloglevel=2 %s && rm %s/tokenizer.vocab",
        test_dir, dir, options, dir);
    const char *const arguments[] = {"/bin/sh", "-c", command, NULL};
    if (test_run(arguments, -1, out, failed, sizeof out) != 0) fail_msg("%s", failed);
    return made;
}

// ---- The same ids and the same text ----------------------------------------------------------------------

static void same_text(const kv_tokenizer *a, const kv_tokenizer *b, const int32_t *ids, int64_t n) {
    char *x, *y;
    size_t n_x, n_y;
    must(kv_tokenizer_decode(a, ids, n, &x, &n_x, &err));
    must(kv_tokenizer_decode(b, ids, n, &y, &n_y, &err));
    assert_int_equal(n_x, n_y);
    assert_memory_equal(x, y, n_x);
    free(x), free(y);
}

static void same(const kv_tokenizer *a, const kv_tokenizer *b, const char *text, size_t length) {
    int64_t n, m;
    int32_t *x = test_encode(a, text, length, &n), *y = test_encode(b, text, length, &m);
    if (n != m || memcmp(x, y, (size_t)n * sizeof *x) != 0)
        fail_msg("%lld ids and %lld of '%.*s'", (long long)n, (long long)m, (int)length, text);
    same_text(a, b, x, n);
    free(x), free(y);
}

static const char *const awkward[] = {"",
                                      " ",
                                      "  ",
                                      "   ",
                                      "    ",
                                      "a",
                                      " a",
                                      "  a",
                                      "a ",
                                      "a  ",
                                      "\n",
                                      "\n\n",
                                      "\t",
                                      "a\r\nb",
                                      " \n ",
                                      "aa",
                                      "aaa",
                                      "aaaa",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                      "abab",
                                      "ababa",
                                      "ababababab",
                                      "abaaba",
                                      "abaababaaba",
                                      "=============",
                                      "caf\xC3\xA9",
                                      "e\xCC\x81",
                                      "\xE4\xB8\xAD\xE6\x96\x87",
                                      "\xF0\x9F\x98\x80\xF0\x9F\x98\x80",
                                      "\xE2\x96\x81",
                                      "a\xE2\x96\x81\xE2\x96\x81 b",
                                      "<0x41>",
                                      "<0x0A>",
                                      "\xFF",
                                      "a\xC3",
                                      "\x80\x80 b",
                                      "\x01\x7F",
                                      "def f(x):\n    return x\n",
                                      "<sep>",
                                      "<sep><sep>",
                                      "a<sep> <sep>b",
                                      "<se<sep>p>",
                                      "x<sep",
                                      "the  quick<cls>   brown",
                                      "\xEF\xBF\xBD",
                                      "\xEF\xBB\xBF"};

// Pieces joined by chance meet in ways that no text of words does: runs, and words that overlap with themselves.
static size_t pieces_text(uint64_t seed, int64_t n, char *text) {
    static const char *const pieces[] = {"a", "b",  "ab", "aba", " ", "  ",
                                         "=", "aa", "\n", "f",   "x", "<sep>"};
    size_t length = 0;
    for (int64_t i = 0; i < n; i++) {
        const char *piece = pieces[test_below(seed, i, sizeof pieces / sizeof *pieces)];
        memcpy(text + length, piece, strlen(piece));
        length += strlen(piece);
    }
    return length;
}

static void same_on_many(const char *dir) {
    char model[PATH_MAX], json[PATH_MAX];
    static char text[4 * 400 + 1];
    must(kv_path_join(dir, "tokenizer.model", model, &err));
    must(kv_path_join(dir, "tokenizer.json", json, &err));
    kv_tokenizer *a = opened(model), *b = opened(json);
    kv_tokenizer_id x, y;
    kv_tokenizer_identify(a, &x), kv_tokenizer_identify(b, &y);
    assert_memory_equal(&x, &y, sizeof x);
    assert_int_equal(kv_tokenizer_bos(a), kv_tokenizer_bos(b));
    assert_int_equal(kv_tokenizer_eos(a), kv_tokenizer_eos(b));
    assert_int_equal(kv_tokenizer_words(a), kv_tokenizer_words(b));
    for (size_t i = 0; i < sizeof awkward / sizeof *awkward; i++) same(a, b, awkward[i], strlen(awkward[i]));
    for (uint64_t seed = 0; seed < 400; seed++) {
        same(a, b, text, pieces_text(seed, 1 + test_below(seed, -1, 60), text));
        same(a, b, text, test_unicode(seed, 1 + test_below(seed, -2, 200), true, text));
        const int64_t n = 1 + test_below(seed, -3, 60);
        test_bytes(seed, n, text);
        same(a, b, text, (size_t)n);
    }
    // Ids that no text has, and bytes that are none: all but the special ones, which read differently.
    for (uint64_t seed = 0; seed < 200; seed++) {
        int32_t ids[40];
        for (int i = 0; i < 40; i++) ids[i] = 3 + (int32_t)test_below(seed, i, x.vocab_size - 3);
        same_text(a, b, ids, 40);
    }
    kv_tokenizer_free(a), kv_tokenizer_free(b);
}

static void of_our_own_kind(void **state) {
    (void)state;
    const char *dir = train_into("own", "");
    must(kv_tokenizer_export(dir, 128, &err));
    assert_int_equal(test_dir_count(dir), 4);
    assert_int_equal(test_n_warnings, 0);
    same_on_many(dir);
}

static void with_symbols_of_the_users(void **state) {
    (void)state;
    const char *dir = train_into("symbols", "--user_defined_symbols='<sep>,<cls>,==,aba'");
    must(kv_tokenizer_export(dir, 128, &err));
    same_on_many(dir);
}

static void with_a_space_in_front(void **state) {
    (void)state;
    const char *dir = train_into("front", "--add_dummy_prefix=true");
    must(kv_tokenizer_export(dir, 128, &err));
    same_on_many(dir);
}

// The published one, of which Hugging Face has made a tokenizer.json, too.
static void llamas(void **state) {
    (void)state;
    char dir[300];
    snprintf(dir, sizeof dir, "%s", in_dir("llama"));
    must(kv_tokenizer_copy(test_path(getenv("KV_TEST_DIR"), "fixtures/tokenizers/llama-spm"), dir, &err));
    must(kv_tokenizer_export(dir, 4096, &err));
    same_on_many(dir);
}

// ---- What cannot be said ---------------------------------------------------------------------------------

static void what_cannot_be_said(void **state) {
    (void)state;
    static const struct {
        const char *options, *words;
    } kinds[] = {{"--model_type=unigram", "not a BPE model"},
                 {"--normalization_rule_name=nmt_nfkc", "rewrites text"},
                 {"--remove_extra_whitespaces=true", "removes white space"},
                 {"--treat_whitespace_as_suffix=true", "spaces in another place"},
                 {"--add_dummy_prefix=true --user_defined_symbols='<sep>'", "pieces of the user's"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[16];
        snprintf(name, sizeof name, "odd%zu", i);
        const char *dir = train_into(name, kinds[i].options);
        test_n_warnings = 0;
        must(kv_tokenizer_export(dir, 128, &err));
        assert_int_equal(test_n_warnings, 1);
        if (!strstr(test_warned, kinds[i].words)) fail_msg("'%s', not '%s'", test_warned, kinds[i].words);
        assert_int_equal(test_dir_count(dir), 1);
    }
}

// ---- Which of two files is read --------------------------------------------------------------------------

static json_t *read_json(const char *name) {
    json_t *root = json_load_file(in_dir(name), 0, NULL);
    assert_non_null(root);
    return root;
}

static void expect_read(const char *dir, const char *name) {
    char file[PATH_MAX];
    assert_true(kv_tokenizer_file(in_dir(dir), file));
    assert_string_equal(strrchr(file, '/') + 1, name);
    kv_tokenizer_free(opened(in_dir(dir)));
}

static void which_is_read(void **state) {
    (void)state;
    kv_tokenizer_id id;
    train_into("two", "");
    must(kv_tokenizer_export(in_dir("two"), 128, &err));
    kv_tokenizer *tokenizer = opened(in_dir("two"));
    kv_tokenizer_identify(tokenizer, &id);
    kv_tokenizer_free(tokenizer);
    must(kv_tokenizer_id_write(in_dir("two"), &id, &err));
    test_n_warnings = 0;
    expect_read("two", "tokenizer.model");
    // What is no model does no harm.
    test_write_text(in_dir("two/tokenizer.model"), "version https://git-lfs.github.com/spec/v1\n");
    expect_read("two", "tokenizer.json");
    train_into("two", "");
    expect_read("two", "tokenizer.model");
    // Another program has saved it: it is the one that this program meant.
    json_t *root = read_json("two/tokenizer.json");
    json_dump_file(root, in_dir("two/tokenizer.json"), 0);
    expect_read("two", "tokenizer.json");
    assert_int_equal(test_n_warnings, 0);
    json_decref(root);
    // Another tokenizer than the model's in the place of either, whichever is read.
    train_into("other", "--vocab_size=380");
    must(kv_tokenizer_copy(in_dir("other"), in_dir("swapped"), &err));
    must(kv_tokenizer_export(in_dir("other"), 128, &err));
    for (int of_json = 0; of_json < 2; of_json++) {
        const char *name = of_json ? "tokenizer.json" : "tokenizer.model";
        char command[1024], out[256];
        snprintf(command, sizeof command, "cd %s && cp other/%s two/%s && rm two/%s", test_dir, name, name,
                 of_json ? "tokenizer.model" : "tokenizer.json");
        const char *const arguments[] = {"/bin/sh", "-c", command, NULL};
        assert_int_equal(test_run(arguments, -1, out, out, sizeof out), 0);
        assert_int_equal(kv_tokenizer_open(in_dir("two"), &tokenizer, &err), KV_ERR_MISMATCH);
        must(kv_tokenizer_copy(in_dir("other"), in_dir("two"), &err));
    }
}

// ---- A tokenizer.json alone, and what came whole -----------------------------------------------------------

static void what_came_as_json(void **state) {
    (void)state;
    char dir[300];
    snprintf(dir, sizeof dir, "%s", in_dir("gpt"));
    must(kv_tokenizer_copy(test_path(getenv("KV_TEST_DIR"), "fixtures/tokenizers/gpt-2"), dir, &err));
    kv_tokenizer *before = opened(dir);
    must(kv_tokenizer_export(dir, 77, &err));
    kv_tokenizer *after = opened(dir);
    assert_int_equal(kv_tokenizer_bos(before), kv_tokenizer_bos(after));
    assert_int_equal(kv_tokenizer_eos(before), kv_tokenizer_eos(after));
    kv_tokenizer_free(before), kv_tokenizer_free(after);
    json_t *config = read_json("gpt/tokenizer_config.json");
    assert_string_equal(json_string_value(json_object_get(config, "tokenizer_class")),
                        "PreTrainedTokenizerFast");
    assert_int_equal(json_integer_value(json_object_get(config, "model_max_length")), 77);
    json_decref(config);
    must(kv_tokenizer_export(dir, 99, &err)); // is whole
    config = read_json("gpt/tokenizer_config.json");
    assert_int_equal(json_integer_value(json_object_get(config, "model_max_length")), 77);
    json_decref(config);
    assert_int_equal(test_dir_count(dir), 2);
}

// ---- What Hugging Face's library makes of one ---------------------------------------------------------------

// But for U+2581, which reads as a space, text comes back there, too.
static void expect_line(const kv_tokenizer *model, const kv_tokenizer *json, const json_t *line) {
    const char *text = json_string_value(json_object_get(line, "text"));
    const size_t length = json_string_length(json_object_get(line, "text"));
    const json_t *list = json_object_get(line, "ids"), *with = json_object_get(line, "ids_special");
    const json_t *decoded = json_object_get(line, "decoded");
    const int64_t n = (int64_t)json_array_size(list);
    int32_t *ids = test_alloc(n + 1, sizeof *ids);
    bool special = false;
    for (int64_t i = 0; i < n; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
        special = special || ids[i] < 3;
        assert_int_equal(json_integer_value(json_array_get(with, (size_t)i + 1)), ids[i]);
    }
    assert_int_equal(json_array_size(with), n + 1);
    assert_int_equal(json_integer_value(json_array_get(with, 0)), kv_tokenizer_bos(json));
    for (int of_json = 0; of_json < 2; of_json++) {
        char *back;
        size_t n_back;
        int64_t n_found;
        if (special && !of_json) continue; // SentencePiece takes what is spelt in a text for text
        int32_t *found = test_encode(of_json ? json : model, text, length, &n_found);
        assert_int_equal(n_found, n);
        assert_memory_equal(found, ids, (size_t)n * sizeof *ids);
        must(kv_tokenizer_decode(of_json ? json : model, ids, n, &back, &n_back, &err));
        assert_int_equal(n_back, json_string_length(decoded));
        assert_memory_equal(back, json_string_value(decoded), n_back);
        free(found), free(back);
    }
    free(ids);
}

static void of_transformers(void **state) {
    (void)state;
    const char *dir = test_path(getenv("KV_TEST_DIR"), "golden/hf/scratch-qwen3");
    kv_tokenizer *model = opened(test_path(dir, "tokenizer.model")),
                 *json = opened(test_path(dir, "tokenizer.json"));
    FILE *file = fopen(test_path(dir, "texts.jsonl"), "r");
    char *line = NULL;
    size_t size = 0;
    int n = 0;
    assert_non_null(file);
    for (; getline(&line, &size, file) > 0; n++) {
        json_t *entry = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(entry);
        expect_line(model, json, entry);
        json_decref(entry);
    }
    assert_true(n > 50);
    free(line);
    fclose(file);
    kv_tokenizer_free(model), kv_tokenizer_free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_our_own_kind),       cmocka_unit_test(with_symbols_of_the_users),
        cmocka_unit_test(with_a_space_in_front), cmocka_unit_test(llamas),
        cmocka_unit_test(what_cannot_be_said),   cmocka_unit_test(which_is_read),
        cmocka_unit_test(what_came_as_json),     cmocka_unit_test(of_transformers)};
    return cmocka_run_group_tests_name("tokenizer_export", tests, test_dir_set_up, test_dir_tear_down);
}
