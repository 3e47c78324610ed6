// Tokenizer and documents: round trips, special ids, reproducible training, refusals.
#include "tests/support/tokenizer.h"

#include "data/text/documents.h"
#include "data/tokenizer/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static kv_tokenizer *tokenizer;

static int set_up(void **state) {
    (void)state;
    kv_error err = {0};
    test_dir_make(dir);
    test_small_corpus(dir);
    if (kv_tokenizer_open(test_path(dir, "tokenizer.model"), &tokenizer, &err)) fail_msg("%s", err.message);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    kv_tokenizer_free(tokenizer);
    test_dir_remove(dir);
    return 0;
}

static void expect_round_trip(const char *text, size_t length) {
    int32_t *ids = NULL;
    int64_t n = 0;
    char *back = NULL;
    size_t back_length = 0;
    assert_int_equal(kv_tokenizer_encode(tokenizer, text, length, &ids, &n, NULL), KV_OK);
    assert_int_equal(kv_tokenizer_decode(tokenizer, ids, n, &back, &back_length, NULL), KV_OK);
    assert_int_equal(back_length, length);
    assert_memory_equal(back, text, length);
    assert_int_equal(back[length], '\0');
    free(ids);
    free(back);
}

static void text_comes_back_as_it_was(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        "Question: In which country is Chobe?\nAnswer: Botswana\n",
                                        " leading and  double spaces  ",
                                        "\n\n\ttabs\r\n",
                                        "C\xC3\xB4te d'Ivoire \xE2\x82\xAC \xF0\x9F\x87\xA6\xF0\x9F\x87\xBC",
                                        "0123456789"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) expect_round_trip(texts[i], strlen(texts[i]));
}

static void any_bytes_come_back(void **state) {
    (void)state;
    char text[200];
    for (uint64_t seed = 0; seed < 300; seed++) {
        int64_t length = 1 + test_below(seed, -1, sizeof text - 1);
        test_bytes(seed, length, text);
        expect_round_trip(text, (size_t)length);
    }
    expect_round_trip("\0", 1);
    expect_round_trip(" \xFF  \xFF ", 6);
    static char long_text[4 * 80000 + 1]; // encoded in parts
    expect_round_trip(long_text, test_unicode(1, 80000, true, long_text));
}

// However often a number occurs.
static void digits_stand_alone(void **state) {
    (void)state;
    char text[4096] = "";
    for (int i = 0; i < 200; i++) strcat(text, i % 2 ? "in 1984\n\n" : "by 1984\n\n");
    const char *input = test_path(dir, "years.txt"), *model = test_path(dir, "years.model");
    kv_tokenizer *years = NULL;
    kv_error err = {0};
    test_write_text(input, text);
    if (kv_tokenizer_train(&input, 1, 270, model, &err)) fail_msg("%s", err.message);
    assert_int_equal(kv_tokenizer_open(model, &years, NULL), KV_OK);
    int32_t *ids = NULL;
    int64_t n = 0;
    assert_int_equal(kv_tokenizer_encode(years, "19841984", 8, &ids, &n, NULL), KV_OK);
    assert_int_equal(n, 8);
    assert_memory_equal(ids, ids + 4, 4 * sizeof *ids);
    free(ids);
    kv_tokenizer_free(years);
}

static void special_ids(void **state) {
    (void)state;
    assert_int_equal(kv_tokenizer_vocab_size(tokenizer), 400);
    assert_int_equal(kv_tokenizer_bos(tokenizer), 1);
    assert_int_equal(kv_tokenizer_eos(tokenizer), 2);
    int32_t framed[] = {1, 2};
    char *text = NULL;
    size_t length = 1;
    assert_int_equal(kv_tokenizer_decode(tokenizer, framed, 2, &text, &length, NULL), KV_OK);
    assert_int_equal(length, 0);
    free(text);
}

static void ids_outside_the_vocabulary(void **state) {
    (void)state;
    kv_error err = {0};
    char *text = NULL;
    size_t length = 0;
    int32_t beyond[] = {5, 400}, negative[] = {-1};
    assert_int_equal(kv_tokenizer_decode(tokenizer, beyond, 2, &text, &length, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "400"));
    assert_null(text);
    assert_int_equal(kv_tokenizer_decode(tokenizer, negative, 1, &text, &length, &err), KV_ERR_RANGE);
}

static void same_file_same_hash(void **state) {
    (void)state;
    kv_tokenizer *by_directory = NULL;
    assert_int_equal(kv_tokenizer_open(dir, &by_directory, NULL), KV_OK);
    assert_string_equal(kv_tokenizer_hash(by_directory), kv_tokenizer_hash(tokenizer));
    for (int32_t id = 0; id < kv_tokenizer_vocab_size(tokenizer); id++)
        assert_int_equal(kv_tokenizer_find(tokenizer, kv_tokenizer_piece(tokenizer, id)), id);
    assert_null(kv_tokenizer_piece(tokenizer, -1));
    assert_null(kv_tokenizer_piece(tokenizer, (int32_t)kv_tokenizer_vocab_size(tokenizer)));
    assert_int_equal(kv_tokenizer_find(tokenizer, "no such piece"), -1);
    assert_int_equal(strlen(kv_tokenizer_hash(tokenizer)), 16);
    kv_tokenizer_free(by_directory);
}

// The same text must give the same bytes, or a rerun would make all shards useless.
static void training_is_reproducible(void **state) {
    (void)state;
    const char *input = test_path(dir, "train.jsonl"), *again = test_path(dir, "sub,dir/again.model");
    assert_int_equal(kv_tokenizer_train(&input, 1, 400, again, NULL), KV_OK);
    kv_tokenizer *second = NULL;
    assert_int_equal(kv_tokenizer_open(again, &second, NULL), KV_OK);
    assert_string_equal(kv_tokenizer_hash(second), kv_tokenizer_hash(tokenizer));
    kv_tokenizer_free(second);
    assert_int_equal(test_dir_count(test_path(dir, "sub,dir")), 1);
}

// spm_train passes over long lines, and those with a character of its own, without a word.
static void training_reads_all_lines(void **state) {
    (void)state;
    const char *inputs[] = {test_path(dir, "train.jsonl"), test_path(dir, "long.txt")};
    const char *out = test_path(dir, "all.model");
    FILE *file = fopen(inputs[1], "wb");
    assert_non_null(file);
    for (int i = 0; i < 100000; i++) fputs("quadrilateral ", file);
    for (int i = 0; i < 2000; i++) fputs("\nhexagonal \xE2\x96\x85 hexagonal", file);
    assert_int_equal(fclose(file), 0);
    kv_tokenizer *made = NULL;
    assert_int_equal(kv_tokenizer_train(inputs, 2, 400, out, NULL), KV_OK);
    assert_int_equal(kv_tokenizer_open(out, &made, NULL), KV_OK);
    assert_true(kv_tokenizer_find(made, "quadrilateral") >= 0);
    assert_true(kv_tokenizer_find(made, "hexagonal") >= 0);
    kv_tokenizer_free(made);
    assert_int_equal(unlink(out), 0);
}

static void training_that_cannot_work(void **state) {
    (void)state;
    kv_error err = {0};
    int64_t before = test_dir_count(dir);
    const char *out = test_path(dir, "never.model"), *input = test_path(dir, "train.jsonl");
    const char *missing = test_path(dir, "missing.txt");
    assert_int_equal(kv_tokenizer_train(&input, 1, 100000, out, &err), KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "100000"));
    assert_null(strchr(err.message, '\n'));
    assert_int_equal(kv_tokenizer_train(&input, 1, 5, out, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_tokenizer_train(&missing, 1, 400, out, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "missing.txt"));
    char *path = strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    assert_int_equal(kv_tokenizer_train(&input, 1, 400, out, &err), KV_ERR_IO);
    setenv("PATH", path, 1);
    free(path);
    assert_non_null(strstr(err.message, "install the package sentencepiece"));
    assert_int_equal(test_dir_count(dir), before);
}

static void refused_files(void **state) {
    (void)state;
    kv_error err = {0};
    kv_tokenizer *none = NULL;
    const char *broken = test_path(dir, "broken.model");
    assert_int_equal(kv_tokenizer_open(test_path(dir, "missing.model"), &none, &err), KV_ERR_IO);
    assert_null(none);
    assert_non_null(strstr(err.message, "missing.model"));
    test_write_text(broken, "");
    assert_int_equal(kv_tokenizer_open(broken, &none, &err), KV_ERR_FORMAT);
    test_write_text(broken, "this is no model");
    assert_int_equal(kv_tokenizer_open(broken, &none, &err), KV_ERR_FORMAT);
    assert_null(strchr(err.message, '\n'));
}

// Cut at any length a model must be refused or, where the cut falls between two pieces, be a smaller one;
// never crash.
static void truncated_models(void **state) {
    (void)state;
    FILE *model = fopen(test_path(dir, "tokenizer.model"), "rb");
    static char bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, model);
    fclose(model);
    assert_in_range(size, 1000, sizeof bytes - 1);
    const char *path = test_path(dir, "cut.model");
    for (size_t length = 0; length < size; length += 1 + size / 40) {
        FILE *cut = fopen(path, "wb");
        fwrite(bytes, 1, length, cut);
        fclose(cut);
        kv_tokenizer *opened = NULL;
        kv_error err = {0};
        if (kv_tokenizer_open(path, &opened, &err))
            assert_non_null(strstr(err.message, "cut.model"));
        else
            assert_true(kv_tokenizer_vocab_size(opened) < 400);
        kv_tokenizer_free(opened);
    }
}

// ---- Documents -----------------------------------------------------------------------------------------

static void expect_document(kv_documents *documents, const char *expected) {
    const char *text = NULL;
    size_t length = 0;
    assert_int_equal(kv_documents_next(documents, &text, &length, NULL), KV_OK);
    if (!expected) {
        assert_null(text);
        return;
    }
    assert_non_null(text);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(text, expected, length + 1); // the NUL behind it too
}

static void documents_of_both_kinds(void **state) {
    (void)state;
    static const char *const expected[] = {"one\ntwo\n", "three\n", "four", NULL};
    kv_documents *documents = NULL;
    const char *plain = test_path(dir, "plain.txt"), *lines = test_path(dir, "lines.jsonl");
    test_write_text(plain, "\n\none\ntwo\n \t\nthree\n\n\nfour");
    test_write_text(
        lines, "{\"text\": \"one\\ntwo\\n\"}\n\n{\"n\": 1, \"text\": \"three\\n\"}\n{\"text\":\"four\"}");
    const char *paths[] = {plain, lines};
    for (int kind = 0; kind < 2; kind++) {
        assert_int_equal(kv_documents_open(paths[kind], &documents, NULL), KV_OK);
        for (int i = 0; i < 4; i++) expect_document(documents, expected[i]);
        expect_document(documents, NULL);
        struct stat info;
        assert_int_equal(stat(paths[kind], &info), 0);
        assert_int_equal(kv_documents_position(documents), info.st_size);
        kv_documents_close(documents);
    }
}

// Longer than any buffer on the way, and with its end at the very end of one.
static void long_documents(void **state) {
    (void)state;
    static const size_t lengths[] = {65535, 65536, 65537, 131072, 300000};
    const char *path = test_path(dir, "long.txt");
    for (int i = 0; i < 5; i++) {
        char *text = test_alloc((int64_t)lengths[i] + 16, 1);
        memset(text, 'x', lengths[i]);
        strcpy(text + lengths[i], "\n\nnext\n");
        test_write_text(path, text);
        text[lengths[i] + 1] = '\0';
        kv_documents *documents = NULL;
        assert_int_equal(kv_documents_open(path, &documents, NULL), KV_OK);
        expect_document(documents, text);
        expect_document(documents, "next\n");
        expect_document(documents, NULL);
        kv_documents_close(documents);
        free(text);
    }
}

static void bad_documents_are_named_by_line(void **state) {
    (void)state;
    static const char *const contents[] = {"{\"text\": \"fine\"}\n\n{\"text\": 5}\n",
                                           "{\"text\": \"fine\"}\n\n{\"text\n",
                                           "{\"text\": \"fine\"}\n\n[1]\n"};
    const char *path = test_path(dir, "bad.jsonl");
    for (int i = 0; i < 3; i++) {
        kv_error err = {0};
        kv_documents *documents = NULL;
        const char *text = NULL;
        size_t length = 0;
        test_write_text(path, contents[i]);
        assert_int_equal(kv_documents_open(path, &documents, NULL), KV_OK);
        expect_document(documents, "fine");
        assert_int_equal(kv_documents_next(documents, &text, &length, &err), KV_ERR_FORMAT);
        assert_non_null(strstr(err.message, "bad.jsonl:3:"));
        kv_documents_close(documents);
    }
}

// In a child, under a limit on data that leaves hardly anything: the text is not to blame, as a document would be that is
// then left out.
static void out_of_memory_is_no_bad_text(void **state) {
    (void)state;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        enum { LENGTH = 60000 }; // the library needs a hundred times as much
        static char text[LENGTH];
        int32_t *ids = NULL;
        int64_t n = 0;
        kv_error err = {0};
        const struct rlimit hardly_any = {1 << 20, 1 << 20};
        memset(text, 'a', sizeof text);
        if (setrlimit(RLIMIT_DATA, &hardly_any)) _exit(2);
        const kv_status status = kv_tokenizer_encode(tokenizer, text, sizeof text, &ids, &n, &err);
        _exit(status == KV_ERR_MEMORY ? 0 : status == KV_OK ? 3 : 4);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
#if !defined(__SANITIZE_ADDRESS__) // whose allocator ends the program
    assert_int_equal(status, 0);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_back_as_it_was),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(digits_stand_alone),
        cmocka_unit_test(special_ids),
        cmocka_unit_test(out_of_memory_is_no_bad_text),
        cmocka_unit_test(ids_outside_the_vocabulary),
        cmocka_unit_test(same_file_same_hash),
        cmocka_unit_test(training_is_reproducible),
        cmocka_unit_test(training_reads_all_lines),
        cmocka_unit_test(training_that_cannot_work),
        cmocka_unit_test(refused_files),
        cmocka_unit_test(truncated_models),
        cmocka_unit_test(documents_of_both_kinds),
        cmocka_unit_test(long_documents),
        cmocka_unit_test(bad_documents_are_named_by_line),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
