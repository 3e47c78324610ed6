// Corpora: a shard alone or a directory of them; what the index says must be what is there.
#include "tests/support/support.h"

#include "data/corpus/corpus.h"
#include "data/file/h5.h"
#include "data/file/path.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const kv_shard_info info = {
    .tokenizer = "0123456789abcdef", .vocab_size = 1000, .bos_id = 1, .eos_id = 2, .source = "a.txt"};

// Three documents of 1, 2 and `last` tokens.
static void write_shard(const char *path, const kv_shard_info *said, int64_t last, char hash[17]) {
    kv_shard_writer *writer = NULL;
    int32_t ids[100];
    for (int i = 0; i < 100; i++) ids[i] = i;
    assert_int_equal(kv_shard_writer_open(path, said, &writer, NULL), KV_OK);
    assert_int_equal(kv_shard_writer_add(writer, ids, 1, NULL), KV_OK);
    assert_int_equal(kv_shard_writer_add(writer, ids, 2, NULL), KV_OK);
    assert_int_equal(kv_shard_writer_add(writer, ids, last, NULL), KV_OK);
    assert_int_equal(kv_shard_writer_finish(writer, NULL), KV_OK);
    strcpy(hash, kv_shard_writer_hash(writer));
    kv_shard_writer_free(writer);
}

static json_t *entry(const char *file, int64_t n_tokens, const char *hash) {
    return json_pack("{s:s, s:i, s:I, s:s}", "file", file, "documents", 3, "tokens", (json_int_t)n_tokens,
                     "hash", hash);
}

// test_dir/corpus with two shards of 13 and 23 tokens; its index, for the test to spoil.
static json_t *make_corpus(void) {
    char hashes[2][17];
    assert_int_equal(kv_make_dirs(test_path(test_dir, "corpus"), NULL), KV_OK);
    write_shard(test_path(test_dir, "corpus/a.h5"), &info, 10, hashes[0]);
    write_shard(test_path(test_dir, "corpus/b.h5"), &info, 20, hashes[1]);
    return json_pack("{s:s, s:i, s:[o, o]}", "format", "kv-corpus", "version", 1, "shards",
                     entry("a.h5", 13, hashes[0]), entry("b.h5", 23, hashes[1]));
}

static void put_index(json_t *index) {
    assert_int_equal(json_dump_file(index, test_path(test_dir, "corpus/index.json"), 0), 0);
    json_decref(index);
}

static void refuse(const char *path, kv_status expected, const char *what) {
    kv_corpus *corpus = NULL;
    kv_error err = {0};
    if (kv_corpus_open(path, &corpus, &err) != expected)
        fail_msg("not refused for '%s': %s", what, err.message);
    assert_null(corpus);
    if (!strstr(err.message, what)) fail_msg("'%s' does not say '%s'", err.message, what);
}

static void a_directory_is_all_its_shards(void **state) {
    (void)state;
    kv_corpus *corpus = NULL;
    kv_error err = {0};
    put_index(make_corpus());
    if (kv_corpus_open(test_path(test_dir, "corpus"), &corpus, &err)) fail_msg("%s", err.message);
    assert_int_equal(corpus->n_shards, 2);
    assert_int_equal(corpus->n_documents, 6);
    assert_int_equal(corpus->n_tokens, 36);
    assert_string_equal(corpus->info.tokenizer, info.tokenizer);
    assert_int_equal(corpus->shards[1].n_tokens, 23);
    assert_non_null(strstr(corpus->shards[1].path, "corpus/b.h5"));
    assert_int_equal(kv_corpus_largest_tokens(corpus), 23);
    assert_int_equal(kv_corpus_largest_documents(corpus), 3);
    kv_corpus_free(corpus);
}

static void a_shard_is_a_corpus(void **state) {
    (void)state;
    char hash[17];
    kv_corpus *corpus = NULL;
    const char *path = test_path(test_dir, "alone.h5");
    write_shard(path, &info, 5, hash);
    assert_int_equal(kv_corpus_open(path, &corpus, NULL), KV_OK);
    assert_int_equal(corpus->n_shards, 1);
    assert_int_equal(corpus->n_tokens, 8);
    assert_string_equal(corpus->shards[0].hash, hash);
    kv_corpus_free(corpus);
}

// Shards made before they said their hash have the same one.
static void old_shards_have_a_hash(void **state) {
    (void)state;
    char hash[17], other[17];
    kv_corpus *corpus = NULL;
    const char *path = test_path(test_dir, "old.h5");
    write_shard(path, &info, 6, other);
    write_shard(path, &info, 5, hash);
    assert_string_not_equal(hash, other);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Adelete(file, "hash") >= 0);
    H5Fclose(file);
    assert_int_equal(kv_corpus_open(path, &corpus, NULL), KV_OK);
    assert_string_equal(corpus->shards[0].hash, hash);
    kv_corpus_free(corpus);
}

// Tokens that move from one document to the next are another content.
static void documents_are_part_of_the_hash(void **state) {
    (void)state;
    char hash[2][17];
    for (int i = 0; i < 2; i++) {
        kv_shard_writer *writer = NULL;
        const int32_t ids[] = {3, 4, 5};
        assert_int_equal(kv_shard_writer_open(test_path(test_dir, "cut.h5"), &info, &writer, NULL), KV_OK);
        assert_int_equal(kv_shard_writer_add(writer, ids, 1 + i, NULL), KV_OK);
        assert_int_equal(kv_shard_writer_add(writer, ids + 1 + i, 2 - i, NULL), KV_OK);
        assert_int_equal(kv_shard_writer_finish(writer, NULL), KV_OK);
        strcpy(hash[i], kv_shard_writer_hash(writer));
        kv_shard_writer_free(writer);
    }
    assert_string_not_equal(hash[0], hash[1]);
}

static void damage_is_noticed(void **state) {
    (void)state;
    char hash[17];
    kv_shard *shard = NULL;
    kv_error err = {0};
    const char *path = test_path(test_dir, "changed.h5");
    write_shard(path, &info, 5, hash);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), tokens = H5Dopen2(file, "tokens", H5P_DEFAULT);
    const int32_t ids[] = {9, 9, 9, 9, 9, 9, 9, 9};
    assert_true(H5Dwrite(tokens, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids) >= 0);
    H5Dclose(tokens);
    H5Fclose(file);
    assert_int_equal(kv_shard_open(path, &shard, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, hash));
}

static void wrong_indexes(void **state) {
    (void)state;
    char hash[17], dir[128];
    snprintf(dir, sizeof dir, "%s/corpus", test_dir);
    json_t *index = make_corpus();
    remove(test_path(test_dir, "corpus/index.json"));
    refuse(dir, KV_ERR_IO, "expected a corpus (index.json");
    json_object_set_new(json_array_get(json_object_get(index, "shards"), 1), "tokens", json_integer(24));
    put_index(index);
    refuse(dir, KV_ERR_MISMATCH, "b.h5: not the shard that");

    // Other text of the same length.
    index = make_corpus();
    json_object_set_new(json_array_get(json_object_get(index, "shards"), 0), "hash",
                        json_string("0123456789abcdef"));
    put_index(index);
    refuse(dir, KV_ERR_MISMATCH, "a.h5: not the shard that");
    put_index(make_corpus());
    write_shard(test_path(test_dir, "corpus/a.h5"), &info, 9, hash);
    refuse(dir, KV_ERR_MISMATCH, "a.h5: not the shard that");
    index = make_corpus();
    put_index(index);
    remove(test_path(test_dir, "corpus/b.h5"));
    refuse(dir, KV_ERR_IO, "b.h5");

    kv_shard_info other = info;
    other.eos_id = 3;
    index = make_corpus();
    write_shard(test_path(test_dir, "corpus/b.h5"), &other, 20, hash);
    put_index(index);
    refuse(dir, KV_ERR_MISMATCH, "EOS 3, expected 0123456789abcdef");

    index = make_corpus();
    json_object_set_new(json_array_get(json_object_get(index, "shards"), 0), "file", json_string("../a.h5"));
    put_index(index);
    refuse(dir, KV_ERR_FORMAT, "'shards'[0]");
    index = make_corpus();
    json_object_set_new(index, "shards", json_array());
    put_index(index);
    refuse(dir, KV_ERR_FORMAT, "a list of 1 to 100000 shards");
    index = make_corpus();
    json_object_set_new(index, "version", json_integer(2));
    put_index(index);
    refuse(dir, KV_ERR_FORMAT, "version");
    index = make_corpus();
    json_object_set_new(index, "format", json_string("kv-other"));
    put_index(index);
    refuse(dir, KV_ERR_FORMAT, "kv-corpus");
    refuse(test_path(test_dir, "nowhere"), KV_ERR_IO, "nowhere");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_is_all_its_shards),
        cmocka_unit_test(a_shard_is_a_corpus),
        cmocka_unit_test(old_shards_have_a_hash),
        cmocka_unit_test(documents_are_part_of_the_hash),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(wrong_indexes),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
