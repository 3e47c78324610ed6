// Token shards: what is written is read back, damaged files are refused by name.
#include "tests/support/support.h"

#include "data/corpus/shard.h"
#include "data/file/h5.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const kv_shard_info info = {
    .tokenizer = "0123456789abcdef", .vocab_size = 1000, .bos_id = 1, .eos_id = 2, .source = "a.txt b.txt"};

// n documents of 0 to 12 tokens whose ids count up, so that every token of the shard is recognisable.
static kv_status write_counting(const char *path, int n, int64_t *n_tokens, kv_error *err) {
    kv_shard_writer *writer = NULL;
    kv_status status = kv_shard_writer_open(path, &info, &writer, err);
    int32_t next = 0;
    for (int i = 0; !status && i < n; i++) {
        int32_t ids[12];
        int64_t length = test_below(7, i, 13);
        for (int64_t t = 0; t < length; t++) ids[t] = next++ % 1000;
        status = kv_shard_writer_add(writer, ids, length, err);
    }
    if (!status) status = kv_shard_writer_finish(writer, err);
    kv_shard_writer_free(writer);
    if (n_tokens) *n_tokens = next;
    return status;
}

// ---- The file ------------------------------------------------------------------------------------------

// Enough for several chunks of both datasets.
static void written_is_read_back(void **state) {
    (void)state;
    kv_error err = {0};
    const int n = 25000;
    int64_t n_tokens = 0;
    const char *path = test_path(test_dir, "many.h5");
    if (write_counting(path, n, &n_tokens, &err)) fail_msg("%s", err.message);
    kv_shard *shard = NULL;
    if (kv_shard_open(path, &shard, &err)) fail_msg("%s", err.message);
    assert_string_equal(shard->info.tokenizer, info.tokenizer);
    assert_string_equal(shard->info.source, info.source);
    assert_int_equal(shard->info.vocab_size, 1000);
    assert_int_equal(shard->info.bos_id, 1);
    assert_int_equal(shard->info.eos_id, 2);
    assert_int_equal(shard->n_documents, n);
    assert_int_equal(shard->n_tokens, n_tokens);
    assert_true(n_tokens > 2 * 65536);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(shard->documents[i + 1] - shard->documents[i], test_below(7, i, 13));
    for (int64_t i = 0; i < n_tokens; i++) assert_int_equal(shard->tokens[i], i % 1000);
    kv_shard_free(shard);
}

static void unfinished_leaves_nothing(void **state) {
    (void)state;
    kv_shard_writer *writer = NULL;
    const char *empty = test_path(test_dir, "empty");
    assert_int_equal(kv_shard_writer_open(test_path(test_dir, "empty/x.h5"), &info, &writer, NULL), KV_OK);
    int32_t id = 5;
    assert_int_equal(kv_shard_writer_add(writer, &id, 1, NULL), KV_OK);
    kv_shard_writer_free(writer);
    assert_int_equal(test_dir_count(empty), 0);
}

static void full_disk_leaves_nothing(void **state) {
    (void)state;
    kv_error err = {0};
    // Wherever the disk becomes full: in the header, while streaming, when closing.
    for (int64_t limit = 100; limit < 20000; limit = limit * 7 / 2) {
        test_limit_file_size(limit);
        kv_status status = write_counting(test_path(test_dir, "full/x.h5"), 25000, NULL, &err);
        test_limit_file_size(-1);
        assert_int_equal(status, KV_ERR_IO);
        assert_non_null(strstr(err.message, "x.h5"));
        assert_int_equal(test_dir_count(test_path(test_dir, "full")), 0);
    }
}

static void ids_outside_the_vocabulary_are_not_written(void **state) {
    (void)state;
    kv_error err = {0};
    kv_shard_writer *writer = NULL;
    int32_t ids[] = {3, 1000};
    assert_int_equal(kv_shard_writer_open(test_path(test_dir, "range.h5"), &info, &writer, NULL), KV_OK);
    assert_int_equal(kv_shard_writer_add(writer, ids, 2, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "1000"));
    kv_shard_writer_free(writer);
}

static void truncated_files_are_refused(void **state) {
    (void)state;
    const char *whole = test_path(test_dir, "whole.h5"), *cut = test_path(test_dir, "cut.h5");
    assert_int_equal(write_counting(whole, 3000, NULL, NULL), KV_OK);
    static char bytes[1 << 20];
    FILE *file = fopen(whole, "rb");
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    for (size_t length = 0; length < size; length += 1 + size / 23) {
        file = fopen(cut, "wb");
        fwrite(bytes, 1, length, file);
        fclose(file);
        kv_shard *shard = NULL;
        kv_error err = {0};
        assert_int_equal(kv_shard_open(cut, &shard, &err), KV_ERR_FORMAT);
        assert_null(shard);
        assert_non_null(strstr(err.message, "cut.h5"));
    }
}

// A shard with one thing wrong: `tokens` and `documents` as given, and an attribute changed.
static kv_status open_crafted(const int32_t tokens[4], const int64_t *documents, int64_t n_starts,
                              const char *attribute, int64_t value, kv_error *err) {
    const char *path = test_path(test_dir, "crafted.h5");
    int64_t four = 4;
    hid_t file = -1;
    assert_int_equal(kv_h5_create(path, &file, NULL), KV_OK);
    assert_int_equal(kv_h5_write(file, "tokens", H5T_NATIVE_INT32, tokens, 1, &four, NULL), KV_OK);
    assert_int_equal(kv_h5_write(file, "documents", H5T_NATIVE_INT64, documents, 1, &n_starts, NULL), KV_OK);
    kv_h5_set_string(file, "/", "format", "kv-tokens", NULL);
    kv_h5_set_string(file, "/", "tokenizer", "x", NULL);
    kv_h5_set_string(file, "/", "source", "", NULL);
    static const char *const names[] = {"version", "vocab_size", "bos_id", "eos_id"};
    static const int64_t values[] = {1, 10, 1, 2};
    for (int i = 0; i < 4; i++) {
        bool changed = attribute && strcmp(attribute, names[i]) == 0;
        kv_h5_set_i64(file, "/", names[i], changed ? value : values[i], NULL);
    }
    H5Fclose(file);
    kv_shard *shard = NULL;
    kv_status status = kv_shard_open(path, &shard, err);
    kv_shard_free(shard);
    if (status) assert_non_null(strstr(err->message, "crafted.h5"));
    return status;
}

static void lies_are_refused(void **state) {
    (void)state;
    const int32_t good[] = {1, 9, 0, 2}, beyond[] = {1, 10, 0, 2}, negative[] = {1, -1, 0, 2};
    const int64_t starts[] = {0, 3, 4}, past[] = {0, 3, 5}, back[] = {0, 5, 4}, late[] = {1, 3, 4};
    kv_error err = {0};
    assert_int_equal(open_crafted(good, starts, 3, NULL, 0, &err), KV_OK);
    assert_int_equal(open_crafted(beyond, starts, 3, NULL, 0, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "token 1 has id 10"));
    assert_int_equal(open_crafted(negative, starts, 3, NULL, 0, &err), KV_ERR_RANGE);
    assert_int_equal(open_crafted(good, past, 3, NULL, 0, &err), KV_ERR_FORMAT);
    assert_int_equal(open_crafted(good, back, 3, NULL, 0, &err), KV_ERR_FORMAT);
    assert_int_equal(open_crafted(good, late, 3, NULL, 0, &err), KV_ERR_FORMAT);
    assert_int_equal(open_crafted(good, starts, 3, "version", 2, &err), KV_ERR_FORMAT);
    assert_int_equal(open_crafted(good, starts, 3, "vocab_size", 0, &err), KV_ERR_FORMAT);
    assert_int_equal(open_crafted(good, starts, 3, "vocab_size", (int64_t)1 << 40, &err), KV_ERR_FORMAT);
    assert_int_equal(open_crafted(good, starts, 3, "eos_id", 10, &err), KV_ERR_FORMAT);
    assert_int_equal(open_crafted(good, starts, 3, "bos_id", -1, &err), KV_OK);
}

static void other_files_are_refused(void **state) {
    (void)state;
    kv_error err = {0};
    kv_shard *shard = NULL;
    assert_int_equal(kv_shard_open(test_path(test_dir, "missing.h5"), &shard, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "missing.h5"));
    hid_t file = -1;
    const char *other = test_path(test_dir, "other.h5");
    assert_int_equal(kv_h5_create(other, &file, NULL), KV_OK);
    H5Fclose(file);
    assert_int_equal(kv_shard_open(other, &shard, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "kvdata tokenize"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_is_read_back),
        cmocka_unit_test(unfinished_leaves_nothing),
        cmocka_unit_test(full_disk_leaves_nothing),
        cmocka_unit_test(ids_outside_the_vocabulary_are_not_written),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(other_files_are_refused),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
