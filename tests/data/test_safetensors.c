// safetensors: what is written comes back, and no file, however damaged, does more than return an error.
#include "data/checkpoint/safetensors.h"
#include "data/file/content.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static const char *path;

static int set_up(void **state) {
    (void)state;
    test_dir_make(dir);
    path = test_path(dir, "x.safetensors");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

static const float floats[6] = {1, -2, 3.5f, 0, 1e30f, -0.0f};
static const uint16_t halves[5] = {0x3C00, 0xC000, 0x7BFF, 0x0001, 0xFC00};

// Five f16 values come first, so that only the order of writing keeps the floats aligned.
static kv_status write_sample(kv_error *err) {
    const kv_st_tensor tensors[] = {
        {.name = "half", .dtype = KV_F16, .n_dims = 1, .shape = {5}, .part = {halves}, .part_size = {10}},
        {.name = "fused",
         .dtype = KV_F32,
         .n_dims = 2,
         .shape = {3, 2},
         .part = {floats + 4, floats, floats + 2},
         .part_size = {8, 8, 8}},
        {.name = "brain", .dtype = KV_BF16, .n_dims = 2, .shape = {1, 3}, .part = {halves}, .part_size = {6}},
        {.name = "scalar", .dtype = KV_F32, .part = {floats + 2}, .part_size = {4}},
        {.name = "none", .dtype = KV_F32, .n_dims = 2, .shape = {0, 7}},
    };
    const char *const metadata[] = {"format", "pt", "quote\"d", "gr\xC3\xBC\xC3\x9F"};
    return kv_safetensors_write(path, tensors, 5, metadata, 2, err);
}

static void test_round_trip(void **state) {
    (void)state;
    kv_error err;
    kv_safetensors *file;
    assert_int_equal(write_sample(&err), KV_OK);
    assert_int_equal(test_dir_count(dir), 1);
    assert_int_equal(kv_safetensors_open(path, &file, &err), KV_OK);
    assert_int_equal(kv_safetensors_count(file), 5);
    assert_string_equal(kv_safetensors_metadata(file, "format"), "pt");
    assert_string_equal(kv_safetensors_metadata(file, "quote\"d"), "gr\xC3\xBC\xC3\x9F");
    assert_null(kv_safetensors_metadata(file, "absent"));
    assert_null(kv_safetensors_find(file, "absent"));
    assert_null(kv_safetensors_find(file, "__metadata__"));
    const kv_st_entry *fused = kv_safetensors_find(file, "fused"), *half = kv_safetensors_find(file, "half");
    const kv_st_entry *brain = kv_safetensors_find(file, "brain");
    assert_int_equal(fused->n_dims, 2);
    assert_int_equal(fused->shape[0], 3);
    assert_int_equal(fused->shape[1], 2);
    assert_int_equal((uintptr_t)fused->data % 4, 0);
    assert_true((const char *)fused->data < (const char *)half->data); // so no type ever needs padding
    assert_memory_equal(fused->data, floats + 4, 8);
    assert_memory_equal((const char *)fused->data + 8, floats, 16);
    assert_int_equal(half->dtype, KV_F16);
    assert_int_equal(half->size, 10);
    assert_memory_equal(half->data, halves, 10);
    assert_int_equal(brain->dtype, KV_BF16);
    assert_memory_equal(brain->data, halves, 6);
    assert_int_equal(kv_safetensors_find(file, "scalar")->n_dims, 0);
    assert_int_equal(kv_safetensors_find(file, "none")->size, 0);
    for (int64_t i = 0; i < 5; i++)
        assert_ptr_equal(kv_safetensors_at(file, i),
                         kv_safetensors_find(file, kv_safetensors_at(file, i)->name));
    assert_null(kv_safetensors_at(file, 5));
    kv_safetensors_close(file);
    kv_safetensors_close(NULL);
}

static void test_writing_refuses(void **state) {
    (void)state;
    kv_error err;
    kv_st_tensor two[2] = {
        {.name = "a", .dtype = KV_F32, .n_dims = 1, .shape = {2}, .part = {floats}, .part_size = {8}},
        {.name = "a", .dtype = KV_F32, .n_dims = 1, .shape = {2}, .part = {floats}, .part_size = {8}},
    };
    assert_int_equal(kv_safetensors_write(path, two, 2, NULL, 0, &err), KV_ERR_ARGUMENT);
    two[1].name = "b";
    two[1].shape[0] = 3;
    assert_int_equal(kv_safetensors_write(path, two, 2, NULL, 0, &err), KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "'b'"));
    two[1].shape[0] = 2;
    two[1].name = "\xFF";
    assert_int_equal(kv_safetensors_write(path, two, 2, NULL, 0, &err), KV_ERR_ARGUMENT);
    assert_int_equal(test_dir_count(dir), 0);
}

static void test_full_disk(void **state) {
    (void)state;
    kv_error err;
    float *zeros = test_alloc(10000, sizeof(float));
    const kv_st_tensor tensor = {
        .name = "z", .dtype = KV_F32, .n_dims = 1, .shape = {10000}, .part = {zeros}, .part_size = {40000}};
    // In the header, in the data, and at the very last byte.
    const int64_t limits[] = {0, 9, 20000, 40071};
    for (int i = 0; i < 4; i++) {
        test_limit_file_size(limits[i]);
        kv_status status = kv_safetensors_write(path, &tensor, 1, NULL, 0, &err);
        test_limit_file_size(-1);
        assert_int_equal(status, KV_ERR_IO);
        assert_non_null(strstr(err.message, "File too large"));
        assert_int_equal(test_dir_count(dir), 0);
    }
    test_limit_file_size(40072);
    assert_int_equal(kv_safetensors_write(path, &tensor, 1, NULL, 0, &err), KV_OK);
    test_limit_file_size(-1);
    free(zeros);
}

// Opens the bytes as a file. Every entry that is handed out is read to its end.
static kv_status open_bytes(const void *bytes, size_t size, kv_error *err) {
    kv_safetensors *file;
    unlink(path); // a new file need not wait for the disk, one that is cut to nothing must
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
    kv_status status = kv_safetensors_open(path, &file, err);
    assert_true((status == KV_OK) == (file != NULL));
    volatile unsigned char sum = 0;
    for (int64_t i = 0; status == KV_OK && i < kv_safetensors_count(file); i++) {
        const kv_st_entry *entry = kv_safetensors_at(file, i);
        for (size_t b = 0; b < entry->size; b++) sum = sum + ((const unsigned char *)entry->data)[b];
    }
    kv_safetensors_close(file);
    return status;
}

// The same for a header given as text, before data_size bytes of data.
static kv_status open_header(const char *header, size_t data_size, kv_error *err) {
    size_t length = strlen(header);
    char *bytes = test_alloc((int64_t)(8 + length + data_size), 1);
    for (int i = 0; i < 8; i++) bytes[i] = (char)(length >> (8 * i));
    memcpy(bytes + 8, header, length);
    kv_status status = open_bytes(bytes, 8 + length + data_size, err);
    free(bytes);
    return status;
}

static char *sample_bytes(size_t *size) {
    char *bytes;
    kv_error err;
    assert_int_equal(write_sample(&err), KV_OK);
    assert_int_equal(kv_read_file(path, 1 << 20, &bytes, size, &err), KV_OK);
    return bytes;
}

static void test_truncated_anywhere(void **state) {
    (void)state;
    kv_error err;
    size_t size;
    char *bytes = sample_bytes(&size);
    for (size_t cut = 0; cut < size; cut++) {
        assert_int_equal(open_bytes(bytes, cut, &err), KV_ERR_FORMAT);
        assert_non_null(strstr(err.message, path));
    }
    assert_int_equal(open_bytes(bytes, size, &err), KV_OK);
    free(bytes);
    assert_int_equal(kv_safetensors_open(test_path(dir, "absent"), &(kv_safetensors *){NULL}, &err),
                     KV_ERR_IO);
    assert_int_equal(kv_safetensors_open(dir, &(kv_safetensors *){NULL}, &err), KV_ERR_IO);
}

static void test_header_length_lies(void **state) {
    (void)state;
    kv_error err;
    size_t size;
    char *bytes = sample_bytes(&size);
    const uint64_t lengths[] = {0,         1,          size - 8,       size - 7,  100000000,
                                100000001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (int b = 0; b < 8; b++) bytes[b] = (char)(lengths[i] >> (8 * b));
        assert_int_equal(open_bytes(bytes, size, &err), KV_ERR_FORMAT);
        assert_true(!strstr(err.message, "header of") == (lengths[i] <= size - 8));
    }
    free(bytes);
}

#define TENSOR(name, shape, begin, end)                                                                      \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void test_bad_headers(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_size;
        const char *message;
    } cases[] = {
        {"", 0, "zeros"},
        {"[]", 0, "object"},
        {"not JSON", 0, "JSON"},
        {"{\"a\":", 0, "JSON"},
        {"{} {}", 0, "JSON"},
        {"{\"a\":\"\xFF\xFE\"}", 0, "JSON"},
        {"{" TENSOR("a\\n", "[2]", "0", "8") "}", 8, "control characters"},
        {"{\"a\":{\"dtype\":\"I\\n\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "no dtype"},
        {"{\"a\":3}", 0, "'a' has no dtype"},
        {"{\"a\":NaN}", 0, "'a' has no dtype"},
        {"{\"__metadata__\":{\"k\":\"\\ud800\"}}", 0, "nothing but strings"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "nothing but strings"},
        {"{" TENSOR("a", "[2]", "0", "8") "," TENSOR("a", "[2]", "8", "16") "}", 16, "duplicate"},
        {"{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "4 bytes, its shape and type need 8"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3,
         "3 bytes, its shape and type need 2"},
        {"{\"a\":{\"dtype\":\"NEW\",\"shape\":[1],\"data_offsets\":[0,9]}}", 8, "truncated"},
        {"{\"a\":{\"dtype\":\"NEW\",\"shape\":[1],\"data_offsets\":[0,7]}}", 8,
         "8 bytes of data, the header accounts for 7"},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "no dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets"},
        {"{" TENSOR("a", "[2]", "8", "0") "}", 8, "data_offsets"},
        {"{" TENSOR("a", "[2]", "-8", "0") "}", 8, "data_offsets"},
        {"{" TENSOR("a", "[2]", "0.0", "8.0") "}", 8, "data_offsets"},
        {"{" TENSOR("a", "[2]", "0", "8,9") "}", 8, "data_offsets"},
        {"{" TENSOR("a", "[3]", "0", "8") "}", 8, "8 bytes, its shape and type need 12"},
        {"{" TENSOR("a", "[3]", "0", "12") "}", 8, "truncated"},
        {"{" TENSOR("a", "[2]", "0", "8") "}", 9, "9 bytes of data, the header accounts for 8"},
        {"{" TENSOR("a", "[2]", "4", "12") "}", 12, "begins at byte 4 of the data, expected 0"},
        {"{" TENSOR("a", "[2]", "0", "8") "," TENSOR("b", "[2]", "4", "12") "}", 12, "'b' begins"},
        {"{" TENSOR("a", "[2]", "0", "8") "," TENSOR("b", "[2]", "0", "8") "}", 8, "begins at byte 0"},
        {"{" TENSOR("a", "[-1]", "0", "8") "}", 8, "shape"},
        {"{" TENSOR("a", "[4294967296,4294967296]", "0", "0") "}", 0, "shape"},
        {"{" TENSOR("a", "[4611686018427387905]", "0", "4") "}", 4, "shape"},
        {"{" TENSOR("a", "[4294967296,4294967296,0]", "0", "0") "}", 0, "shape"},
        {"{" TENSOR("a", "[99999999999999999999]", "0", "4") "}", 4, "shape"},
        {"{" TENSOR("a", "[2]", "9223372036854775800", "9223372036854775807") "}", 8, "truncated"},
    };
    kv_error err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kv_status status = open_header(cases[i].header, cases[i].data_size, &err);
        if (status != KV_ERR_FORMAT || !strstr(err.message, cases[i].message))
            fail_msg("%s: status %d, %s", cases[i].header, (int)status, status ? err.message : "accepted");
    }
    assert_int_equal(open_header("{" TENSOR("a", "[2]", "0", "8") "}", 8, &err), KV_OK);
    assert_int_equal(open_header("{}   ", 0, &err), KV_OK);
}

// What a tensor is like matters to those who need it: any type, any number of dimensions.
static void test_any_type_and_shape(void **state) {
    (void)state;
    static const struct {
        const char *type, *shape;
        int n_dims;
        size_t size;
    } cases[] = {
        {"I64", "[1]", 1, 8},         {"BOOL", "[1,1,2,4]", 4, 8},
        {"U8", "[]", 0, 1},           {"F64", "[2,1]", 2, 16},
        {"I32", "[]", 0, 4},          {"F8_E4M3", "[7]", 1, 7},
        {"F8_E5M2", "[7]", 1, 7},     {"F4", "[3,2]", 2, 3},
        {"F6_E2M3", "[4]", 1, 3},     {"C64", "[0]", 1, 0},
        {"NEW", "[5]", 1, 3},         {"I16", "[0,3]", 2, 0},
        {"F32", "[1,1,1,1,2]", 5, 8}, {"BF16", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", 24, 2}};
    kv_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[256], text[96];
        kv_safetensors *file;
        snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[0,%zu]}}",
                 cases[i].type, cases[i].shape, cases[i].size);
        if (open_header(header, cases[i].size, &err) != KV_OK) fail_msg("%s: %s", header, err.message);
        assert_int_equal(kv_safetensors_open(path, &file, &err), KV_OK);
        const kv_st_entry *entry = kv_safetensors_find(file, "a");
        assert_string_equal(entry->type, cases[i].type);
        assert_int_equal(entry->is_float, i >= 12);
        assert_int_equal(entry->n_dims, cases[i].n_dims);
        assert_int_equal(entry->size, cases[i].size);
        kv_st_shape_text(entry->n_dims, entry->shape, text);
        assert_int_equal(text[strlen(text) - 1], ']');
        kv_safetensors_close(file);
    }
    char text[96];
    assert_string_equal(kv_st_shape_text(0, NULL, text), "[]");
    assert_string_equal(kv_st_shape_text(3, (const int64_t[]){2, 0, 5}, text), "[2, 0, 5]");
    const int64_t long_one[12] = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};
    assert_non_null(strstr(kv_st_shape_text(12, long_one, text), ", ...]"));
}

static void test_deep_nesting(void **state) {
    (void)state;
    kv_error err;
    char *header = test_alloc(2000001, 1);
    memset(header, '[', 2000000);
    assert_int_equal(open_header(header, 0, &err), KV_ERR_FORMAT);
    for (int i = 0; i + 5 <= 2000000; i += 5) memcpy(header + i, "{\"a\":", 5);
    assert_int_equal(open_header(header, 0, &err), KV_ERR_FORMAT);
    free(header);
}

// The format knows no padding: a float may lie at any byte of the file.
static void test_misaligned(void **state) {
    (void)state;
    kv_error err;
    kv_safetensors *file;
    char bytes[256] = {0};
    int length = snprintf(bytes + 8, sizeof bytes - 8, "{%s}", TENSOR("a", "[2]", "0", "8"));
    while (length % 4 != 1) bytes[8 + length++] = ' ';
    bytes[0] = (char)length;
    memcpy(bytes + 8 + length, floats, 8);
    assert_int_equal(open_bytes(bytes, (size_t)length + 16, &err), KV_OK);
    assert_int_equal(kv_safetensors_open(path, &file, &err), KV_OK);
    const kv_st_entry *entry = kv_safetensors_find(file, "a");
    assert_int_equal((uintptr_t)entry->data % 4, 0);
    assert_memory_equal(entry->data, floats, 8);
    kv_safetensors_close(file);
}

static void test_random_damage(void **state) {
    (void)state;
    kv_error err;
    size_t size;
    int64_t refused = 0, draw = 0;
    char *bytes = sample_bytes(&size), *damaged = test_alloc((int64_t)size, 1);
    for (int64_t round = 0; round < 5000; round++) {
        memcpy(damaged, bytes, size);
        for (int64_t flips = 1 + test_below(7, draw++, 4); flips > 0; flips--) {
            int64_t at = test_below(8, draw, (int64_t)size);
            damaged[at] ^= (char)(1 << test_below(9, draw++, 8));
        }
        size_t cut = round % 5 ? size : (size_t)test_below(10, draw++, (int64_t)size);
        refused += open_bytes(damaged, cut, &err) != KV_OK;
    }
    assert_true(refused > 3000);
    free(damaged);
    free(bytes);
}

// Cut to nothing in another's hands: the page that is read next is gone.
static void use_shortened(int stderr_to) {
    kv_error err;
    kv_safetensors *file;
    unsigned sum = 0;
    dup2(stderr_to, STDERR_FILENO);
    if (kv_safetensors_open(path, &file, &err) || truncate(path, 0)) _exit(3);
    const volatile unsigned char *bytes = kv_safetensors_find(file, "half")->data;
    for (int i = 0; i < 10; i++) sum += bytes[i];
    _exit(sum ? 4 : 5);
}

static void test_shortened_while_in_use(void **state) {
    (void)state;
    kv_error err;
    char said[512] = "", expected[160];
    int ends[2], status = 0;
    assert_int_equal(write_sample(&err), KV_OK);
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) use_shortened(ends[1]);
    close(ends[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(read(ends[0], said, sizeof said - 1) > 0);
    close(ends[0]);
    snprintf(expected, sizeof expected, "test_safetensors: %s: cannot be read any more: another program",
             path);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1 || strncmp(said, expected, strlen(expected)) != 0)
        fail_msg("status %x: %s", (unsigned)status, said);
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),         TEST(test_writing_refuses),        TEST(test_full_disk),
        TEST(test_truncated_anywhere), TEST(test_header_length_lies),     TEST(test_bad_headers),
        TEST(test_any_type_and_shape), TEST(test_deep_nesting),           TEST(test_misaligned),
        TEST(test_random_damage),      TEST(test_shortened_while_in_use),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
