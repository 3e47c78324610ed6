// A tokenizer's files on their way: gathered, into a token shard and out of it, into a model's directory; what a shard
// that anybody made may not do on that way; and the identity that stands for a tokenizer.
#include "tests/support/tokenizer.h"

#include "data/corpus/shard.h"
#include "data/file/content.h"
#include "data/file/h5.h"
#include "data/file/path.h"
#include "data/tokenizer/files.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static kv_error err;

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

static void must(kv_status status) {
    if (status) fail_msg("%s", err.message);
}

static void write_file(const char *name, const char *text) {
    test_write_bytes(in_dir(name), text, strlen(text));
}

static void holds(const char *name, const char *text) {
    char *found = test_read_text(in_dir(name));
    assert_string_equal(found, text);
    free(found);
}

// ---- Gathering and scattering --------------------------------------------------------------------------

static void a_directory_and_a_file(void **state) {
    (void)state;
    kv_bundle bundle;
    mkdir(in_dir("model"), 0777), mkdir(in_dir("to"), 0777);
    write_file("model/tokenizer.model", "spm"), write_file("model/tokenizer.json", "{}");
    write_file("model/tokenizer_config.json", "{\"a\": 1}"),
        write_file("model/chat_template.jinja", "{{ x }}");
    write_file("model/config.json", "{\"not\": \"mine\"}"),
        write_file("to/config.json", "{\"it\": \"stays\"}");
    must(kv_tokenizer_gather(in_dir("model"), &bundle, &err));
    assert_int_equal(bundle.n, 4);
    must(kv_tokenizer_scatter(&bundle, in_dir("to"), &err));
    kv_bundle_free(&bundle);
    holds("to/tokenizer.model", "spm"), holds("to/tokenizer.json", "{}");
    holds("to/tokenizer_config.json", "{\"a\": 1}"), holds("to/chat_template.jinja", "{{ x }}");
    holds("to/config.json", "{\"it\": \"stays\"}");
    assert_int_equal(test_dir_count(in_dir("to")), 5);
    // A file by any name is what it is; the other tokenizer beside it is another.
    write_file("model/mine.json", "{\"own\": 1}");
    must(kv_tokenizer_gather(in_dir("model/mine.json"), &bundle, &err));
    assert_int_equal(bundle.n, 3);
    assert_string_equal(bundle.files[0].name, "tokenizer.json");
    assert_string_equal(bundle.files[0].bytes, "{\"own\": 1}");
    kv_bundle_free(&bundle);
    assert_int_equal(kv_tokenizer_gather(in_dir("gone.model"), &bundle, &err), KV_ERR_IO);
    assert_int_equal(bundle.n, 0);
    assert_int_equal(kv_tokenizer_copy(in_dir("gone"), in_dir("to"), &err), KV_OK);
    assert_int_equal(kv_tokenizer_scatter(&bundle, in_dir("never"), &err), KV_OK);
    assert_int_equal(test_dir_count(in_dir("never")), -1);
}

static kv_status write_shard(const char *name, const kv_bundle *files) {
    const kv_shard_info info = {.tokenizer = "0123456789abcdef",
                                .vocab_size = 9,
                                .bos_id = 1,
                                .eos_id = 2,
                                .cuts = "fedcba9876543210"};
    kv_shard_writer *writer = NULL;
    kv_status status = kv_shard_writer_open(in_dir(name), &info, &writer, &err);
    if (!status) status = kv_shard_writer_add_tokenizer(writer, files, &err);
    if (!status) status = kv_shard_writer_add(writer, (const int32_t[]){1, 3, 2}, 3, &err);
    if (!status) status = kv_shard_writer_finish(writer, &err);
    kv_shard_writer_free(writer);
    return status;
}

// Bytes of all values, more than a chunk of them.
static void through_a_shard(void **state) {
    (void)state;
    enum { SIZE = 200000 };
    kv_bundle bundle = {0}, found;
    kv_shard_summary summary;
    char *bytes = test_alloc(SIZE, 1);
    test_bytes(5, SIZE, bytes);
    must(kv_bundle_add(&bundle, "tokenizer.model", bytes, SIZE, &err));
    must(kv_bundle_add(&bundle, "tokenizer_config.json", strdup("{}"), 2, &err));
    must(write_shard("held.h5", &bundle));
    must(kv_shard_read_summary(in_dir("held.h5"), &summary, &err));
    assert_string_equal(summary.info.cuts, "fedcba9876543210");
    must(kv_shard_read_tokenizer(in_dir("held.h5"), &found, &err));
    assert_int_equal(found.n, 2);
    assert_int_equal(kv_bundle_bytes(&found), SIZE + 2);
    assert_string_equal(found.files[0].name, "tokenizer.model");
    assert_memory_equal(found.files[0].bytes, bytes, SIZE);
    kv_bundle_free(&found);
    kv_bundle_free(&bundle);
    must(write_shard("bare.h5", &bundle));
    must(kv_shard_read_tokenizer(in_dir("bare.h5"), &found, &err));
    assert_int_equal(found.n, 0);
}

// ---- Shards that anybody made --------------------------------------------------------------------------

static void refused(const char *name, const char *words) {
    kv_bundle found;
    assert_int_equal(kv_shard_read_tokenizer(in_dir(name), &found, &err), KV_ERR_FORMAT);
    if (!strstr(err.message, words) || !strstr(err.message, name) || strchr(err.message, '\n'))
        fail_msg("'%s' expected in '%s'", words, err.message);
    assert_int_equal(found.n, 0);
}

static hid_t change(const char *name, const char *file, const void *bytes, int64_t n) {
    hid_t h5;
    const kv_bundle nothing = {0};
    must(write_shard(name, &nothing));
    h5 = H5Fopen(in_dir(name), H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(h5 >= 0);
    if (file) must(kv_h5_write(h5, file, H5T_NATIVE_UINT8, bytes, 1, &n, &err));
    return h5;
}

static void hostile_shards(void **state) {
    (void)state;
    kv_bundle found;
    // What is no tokenizer's is not written over a model's files.
    H5Fclose(change("weights.h5", "/tokenizer_files/config.json", "{}", 2));
    must(kv_shard_read_tokenizer(in_dir("weights.h5"), &found, &err));
    mkdir(in_dir("victim"), 0777);
    write_file("victim/config.json", "{\"it\": \"stays\"}");
    must(kv_tokenizer_scatter(&found, in_dir("victim"), &err));
    kv_bundle_free(&found);
    holds("victim/config.json", "{\"it\": \"stays\"}");
    assert_int_equal(test_dir_count(in_dir("victim")), 1);
    // Names that lead elsewhere, too many, no files.
    H5Fclose(change("hidden.h5", "/tokenizer_files/..x", "{}", 2));
    refused("hidden.h5", "a name that is none of a file");
    char name[96] = "/tokenizer_files/";
    memset(name + strlen(name), 'n', 70);
    H5Fclose(change("long.h5", name, "{}", 2));
    refused("long.h5", "whose name has 70 letters, expected 1 to 63");
    H5Fclose(change("flat.h5", "/tokenizer_files", "{}", 2));
    refused("flat.h5", "no group of files");
    hid_t h5 = change("deep.h5", "/tokenizer_files/tokenizer.model/inner", "{}", 2);
    H5Fclose(h5);
    refused("deep.h5", "tokenizer.model");
    h5 = change("many.h5", NULL, NULL, 0);
    for (int i = 0; i < 9; i++) {
        char file[64];
        const int64_t one = 1;
        snprintf(file, sizeof file, "/tokenizer_files/file%d", i);
        must(kv_h5_write(h5, file, H5T_NATIVE_UINT8, "x", 1, &one, &err));
    }
    H5Fclose(h5);
    refused("many.h5", "expected at most 8");
}

// ---- Identities ----------------------------------------------------------------------------------------

static void identities(void **state) {
    (void)state;
    static const char *const merges[] = {"h e", "l l"}, *const longer[] = {"h e", "l l", "he ll"};
    json_t *two = test_byte_level(merges, 2), *three = test_byte_level(longer, 3),
           *turned = test_byte_level(merges, 2);
    test_set(turned, "pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}");
    kv_tokenizer *a = test_open(two, in_dir("a.json")), *b = test_open(three, in_dir("b.json")),
                 *c = test_open(turned, in_dir("c.json"));
    kv_tokenizer_id of_a, of_b, of_c, read;
    bool found;
    kv_tokenizer_identify(a, &of_a), kv_tokenizer_identify(b, &of_b), kv_tokenizer_identify(c, &of_c);
    assert_true(kv_tokenizer_is(a, &of_a));
    assert_true(kv_tokenizer_is(b, &of_a)); // goes on where a ends
    assert_false(kv_tokenizer_is(a, &of_b));
    // The same pieces, but c puts a space in front of what has none.
    assert_true(kv_tokenizer_is(c, &of_a));
    assert_true(kv_tokenizer_cuts_differ(&of_a, &of_c));
    assert_false(kv_tokenizer_cuts_differ(&of_a, &of_a));
    read = of_a, read.cuts[0] = 0;
    assert_false(kv_tokenizer_cuts_differ(&read, &of_c));
    mkdir(in_dir("id"), 0777);
    must(kv_tokenizer_id_read(in_dir("id"), &read, &found, &err));
    assert_false(found);
    must(kv_tokenizer_id_write(in_dir("id"), &of_a, &err));
    must(kv_tokenizer_id_read(in_dir("id"), &read, &found, &err));
    assert_true(found);
    assert_memory_equal(&read, &of_a, sizeof read);
    // Files hold them: they stay what they are.
    assert_string_equal(of_a.hash, "53a79652ce970c8d");
    assert_string_equal(of_a.cuts, "fff0d303d0bdc7ea");
    kv_tokenizer_free(a), kv_tokenizer_free(b), kv_tokenizer_free(c);
    json_decref(two), json_decref(three), json_decref(turned);
}

static void damaged_identities(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"format\": \"kv-tokenizer-hash\", \"version\": 2}",
        "{\"format\": \"kv-tokenizer-hash\", \"version\": 1, \"vocab_size\": 0, \"hash\": \"0123456789abcdef\"}",
        "{\"format\": \"kv-tokenizer-hash\", \"version\": 1, \"vocab_size\": 5, \"hash\": \"0123456789abcde\"}",
        "{\"format\": \"kv-tokenizer-hash\", \"version\": 1, \"vocab_size\": 5, \"hash\": 7}",
        ("{\"format\": \"kv-tokenizer-hash\", \"version\": 1, \"vocab_size\": 5, \"hash\": \"0123456789abcdef\", "
         "\"cuts\": \"x\"}")};
    mkdir(in_dir("damaged"), 0777);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        kv_tokenizer_id id;
        bool found;
        write_file("damaged/tokenizer_hash.json", texts[i]);
        assert_int_equal(kv_tokenizer_id_read(in_dir("damaged"), &id, &found, &err), KV_ERR_FORMAT);
        assert_non_null(strstr(err.message, "damaged/tokenizer_hash.json"));
        assert_null(strchr(err.message, '\n'));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_and_a_file), cmocka_unit_test(through_a_shard),
        cmocka_unit_test(hostile_shards),         cmocka_unit_test(identities),
        cmocka_unit_test(damaged_identities),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
