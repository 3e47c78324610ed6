// The HDF5 layer: what is written comes back; what is missing, damaged or of another shape is an error.
#include "data/file/content.h"
#include "data/file/h5.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64];
static const char *path;

static int set_up(void **state) {
    (void)state;
    test_dir_make(dir);
    path = test_path(dir, "x.h5");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

static const int64_t matrix_shape[2] = {300, 70};

// A compressed matrix, small integers of both widths, strings, attributes.
static kv_status write_sample(kv_error *err) {
    float *matrix = test_alloc(300 * 70, sizeof(float));
    const int64_t wide[3] = {-1, 5, INT64_MAX}, wide_shape[1] = {3}, none[2] = {0, 4};
    const int32_t narrow[2] = {7, -8}, narrow_shape = 2;
    const char *const strings[2] = {"", "gr\xC3\xBC\xC3\x9F"};
    hid_t file = H5I_INVALID_HID;
    test_fill(matrix, 300 * 70, 1, 1);
    kv_status status = kv_h5_create(path, &file, err);
    if (!status)
        status = kv_h5_write(file, "group/sub/matrix", H5T_NATIVE_FLOAT, matrix, 2, matrix_shape, err);
    if (!status) status = kv_h5_write(file, "wide", H5T_NATIVE_INT64, wide, 1, wide_shape, err);
    if (!status)
        status = kv_h5_write(file, "narrow", H5T_NATIVE_INT32, narrow, 1, &(int64_t){narrow_shape}, err);
    if (!status) status = kv_h5_write(file, "scalar", H5T_NATIVE_INT32, narrow, 0, NULL, err);
    if (!status) status = kv_h5_write(file, "none", H5T_NATIVE_INT32, narrow, 2, none, err);
    if (!status) status = kv_h5_write_strings(file, "strings", strings, 2, err);
    if (!status) status = kv_h5_set_f64(file, "/", "real", 0.1, err);
    if (!status) status = kv_h5_set_i64(file, "group", "whole", 1, err);
    if (!status) status = kv_h5_set_i64(file, "group", "whole", INT64_MIN, err);
    if (!status) status = kv_h5_set_string(file, "wide", "text", "kv", err);
    kv_status closed = kv_h5_close(&file, status ? NULL : err);
    free(matrix);
    return status ? status : closed;
}

static hid_t open_sample(void) {
    hid_t file;
    kv_error err;
    assert_int_equal(write_sample(&err), KV_OK);
    assert_int_equal(kv_h5_open(path, &file, &err), KV_OK);
    return file;
}

static void test_round_trip(void **state) {
    (void)state;
    kv_error err;
    hid_t file = open_sample();
    int n_dims;
    int64_t shape[8], *wide;
    int32_t *narrow;
    float *matrix;
    assert_int_equal(kv_h5_read_f32(file, "group/sub/matrix", 21000, &matrix, &n_dims, shape, &err), KV_OK);
    assert_int_equal(n_dims, 2);
    assert_int_equal(shape[0], 300);
    assert_int_equal(shape[1], 70);
    for (int64_t i = 0; i < 21000; i++) assert_true(matrix[i] == (float)test_value(1, i));
    free(matrix);
    assert_int_equal(kv_h5_read_i64(file, "wide", 3, &wide, NULL, NULL, &err), KV_OK);
    assert_true(wide[0] == -1 && wide[2] == INT64_MAX);
    free(wide);
    assert_int_equal(kv_h5_read_i64(file, "narrow", 3, &wide, NULL, shape, &err), KV_OK);
    assert_true(wide[0] == 7 && wide[1] == -8 && shape[0] == 2);
    free(wide);
    assert_int_equal(kv_h5_read_i32(file, "scalar", 1, &narrow, &n_dims, shape, &err), KV_OK);
    assert_true(narrow[0] == 7 && n_dims == 0);
    free(narrow);
    assert_int_equal(kv_h5_read_i32(file, "none", 1, &narrow, &n_dims, shape, &err), KV_OK);
    assert_true(n_dims == 2 && shape[0] == 0 && shape[1] == 4);
    free(narrow);
    assert_true(kv_h5_exists(file, "group/sub/matrix") && kv_h5_exists(file, "/group"));
    assert_false(kv_h5_exists(file, "group/other/matrix") || kv_h5_exists(file, "wide/x"));
    assert_int_equal(kv_h5_close(&file, &err), KV_OK);
    assert_int_equal(kv_h5_close(&file, &err), KV_OK);
}

static bool has_filter(hid_t file, const char *name, H5Z_filter_t filter) {
    unsigned flags, config;
    size_t n_values = 0;
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT), plist = H5Dget_create_plist(dataset);
    herr_t found = H5Pget_filter_by_id2(plist, filter, &flags, &n_values, NULL, 0, NULL, &config);
    H5Pclose(plist);
    H5Dclose(dataset);
    return found >= 0;
}

static void test_large_ones_are_packed(void **state) {
    (void)state;
    hid_t file = open_sample();
    const H5Z_filter_t filters[] = {H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE, H5Z_FILTER_FLETCHER32};
    for (int i = 0; i < 3; i++) {
        assert_true(has_filter(file, "group/sub/matrix", filters[i]));
        assert_false(has_filter(file, "wide", filters[i]));
    }
    kv_h5_close(&file, NULL);
}

static kv_status read_matrix(kv_error *err) {
    hid_t file;
    float *matrix = NULL;
    kv_status status = kv_h5_open(path, &file, err);
    if (!status) status = kv_h5_read_f32(file, "group/sub/matrix", 21000, &matrix, NULL, NULL, err);
    kv_h5_close(&file, NULL);
    free(matrix);
    return status;
}

static void test_checked_ones_are_not_deflated(void **state) {
    (void)state;
    kv_error err;
    char *bytes;
    size_t size;
    float *matrix = test_alloc(300 * 70, sizeof(float));
    hid_t file;
    test_fill(matrix, 300 * 70, 1, 1);
    assert_int_equal(kv_h5_create(path, &file, &err), KV_OK);
    assert_int_equal(
        kv_h5_write_checked(file, "group/sub/matrix", H5T_NATIVE_FLOAT, matrix, 2, matrix_shape, &err),
        KV_OK);
    assert_true(has_filter(file, "group/sub/matrix", H5Z_FILTER_FLETCHER32));
    assert_false(has_filter(file, "group/sub/matrix", H5Z_FILTER_SHUFFLE));
    assert_false(has_filter(file, "group/sub/matrix", H5Z_FILTER_DEFLATE));
    assert_int_equal(kv_h5_close(&file, &err), KV_OK);
    assert_int_equal(read_matrix(&err), KV_OK);
    assert_int_equal(kv_read_file(path, 1 << 20, &bytes, &size, &err), KV_OK);
    bytes[size / 2] ^= 4;
    assert_int_equal(kv_write_file(path, bytes, size, &err), KV_OK);
    assert_int_equal(read_matrix(&err), KV_ERR_FORMAT);
    free(bytes);
    free(matrix);
}

static void test_attributes(void **state) {
    (void)state;
    kv_error err;
    hid_t file = open_sample();
    double real, reals[2];
    int64_t whole, n;
    char text[3];
    assert_int_equal(kv_h5_attr_f64(file, "/", "real", &real, &err), KV_OK);
    assert_true(real == 0.1);
    assert_int_equal(kv_h5_attr_i64(file, "group", "whole", &whole, &err), KV_OK);
    assert_true(whole == INT64_MIN);
    assert_int_equal(kv_h5_attr_array(file, "/", "real", 2, reals, &n, &err), KV_OK);
    assert_int_equal(n, 1);
    assert_int_equal(kv_h5_attr_string(file, "wide", "text", text, 3, &err), KV_OK);
    assert_string_equal(text, "kv");
    assert_int_equal(kv_h5_attr_string(file, "wide", "text", text, 2, &err), KV_ERR_FORMAT);
    assert_int_equal(kv_h5_attr_string(file, "/", "real", text, 3, &err), KV_ERR_FORMAT);
    assert_int_equal(kv_h5_attr_f64(file, "wide", "text", &real, &err), KV_ERR_FORMAT);
    assert_int_equal(kv_h5_attr_i64(file, "/", "real", &whole, &err), KV_ERR_FORMAT);
    assert_int_equal(kv_h5_attr_i64(file, "/", "absent", &whole, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "'absent': missing"));
    assert_int_equal(kv_h5_attr_i64(file, "no/such", "whole", &whole, &err), KV_ERR_FORMAT);
    kv_h5_close(&file, NULL);
}

// Files of other writers: variable-length strings, arrays of attributes, wider types.
static void test_golden_file(void **state) {
    (void)state;
    kv_error err;
    hid_t file;
    double betas[2];
    int64_t n, shape[8];
    int32_t *ids;
    const char *golden = test_path(getenv("KV_TEST_DIR"), "golden/kvp_c/expected.h5");
    assert_int_equal(kv_h5_open(golden, &file, &err), KV_OK);
    assert_int_equal(kv_h5_attr_array(file, "/", "betas", 2, betas, &n, &err), KV_OK);
    assert_true(n == 2 && betas[1] == 0.95);
    assert_int_equal(kv_h5_attr_array(file, "/", "betas", 1, betas, &n, &err), KV_ERR_FORMAT);
    assert_int_equal(kv_h5_attr_f64(file, "/", "betas", betas, &err), KV_ERR_FORMAT);
    assert_int_equal(kv_h5_read_i32(file, "input_ids", 100, &ids, NULL, shape, &err), KV_OK);
    assert_true(shape[0] == 3 && shape[1] == 12);
    free(ids);
    kv_h5_close(&file, NULL);
}

static void test_wrong_datasets(void **state) {
    (void)state;
    kv_error err;
    hid_t file = open_sample();
    int32_t *narrow;
    int64_t *wide;
    float *real;
    assert_int_equal(kv_h5_read_f32(file, "group/absent", 9, &real, NULL, NULL, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "'group/absent': missing dataset"));
    assert_int_equal(kv_h5_read_f32(file, "group", 9, &real, NULL, NULL, &err), KV_ERR_FORMAT);
    assert_int_equal(kv_h5_read_f32(file, "strings", 9, &real, NULL, NULL, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "expected numbers"));
    assert_int_equal(kv_h5_read_i64(file, "group/sub/matrix", 21000, &wide, NULL, NULL, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "expected integers"));
    assert_int_equal(kv_h5_read_f32(file, "group/sub/matrix", 20999, &real, NULL, NULL, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "20999 elements"));
    // A value that the narrower type cannot hold must not be bent into one that it can.
    assert_int_equal(kv_h5_read_i32(file, "wide", 3, &narrow, NULL, NULL, &err), KV_ERR_FORMAT);
    assert_null(narrow);
    kv_h5_close(&file, NULL);
}

static void test_not_hdf5(void **state) {
    (void)state;
    kv_error err;
    hid_t file;
    assert_int_equal(kv_h5_open(test_path(dir, "absent.h5"), &file, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(kv_h5_open(dir, &file, &err), KV_ERR_IO);
    assert_int_equal(kv_write_file(path, "plain text", 10, &err), KV_OK);
    assert_int_equal(kv_h5_open(path, &file, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "not an HDF5 file"));
    assert_int_equal(kv_write_file(path, "", 0, &err), KV_OK);
    assert_int_equal(kv_h5_open(path, &file, &err), KV_ERR_FORMAT);
}

static void test_truncated_and_damaged(void **state) {
    (void)state;
    kv_error err;
    char *bytes;
    size_t size;
    assert_int_equal(write_sample(&err), KV_OK);
    assert_int_equal(kv_read_file(path, 1 << 20, &bytes, &size, &err), KV_OK);
    for (int tenth = 0; tenth < 10; tenth++) {
        assert_int_equal(kv_write_file(path, bytes, size * (size_t)tenth / 10, &err), KV_OK);
        assert_int_equal(read_matrix(&err), KV_ERR_FORMAT);
        assert_null(strchr(err.message, '\n'));
    }
    // One bit within the compressed values: the checksum notices.
    bytes[size / 2] ^= 4;
    assert_int_equal(kv_write_file(path, bytes, size, &err), KV_OK);
    assert_int_equal(read_matrix(&err), KV_ERR_FORMAT);
    bytes[size / 2] ^= 4;
    assert_int_equal(kv_write_file(path, bytes, size, &err), KV_OK);
    assert_int_equal(read_matrix(&err), KV_OK);
    free(bytes);
}

// HDF5 writes late, so the error may come with any call or only when the file is closed; after it the library
// must still work.
static void test_full_disk(void **state) {
    (void)state;
    kv_error err;
    char *bytes;
    size_t size;
    assert_int_equal(write_sample(&err), KV_OK);
    assert_int_equal(kv_read_file(path, 1 << 20, &bytes, &size, &err), KV_OK);
    free(bytes);
    for (size_t limit = 0; limit < size; limit += limit < 4096 ? 509 : 4999) {
        test_limit_file_size((int64_t)limit);
        kv_status status = write_sample(&err);
        test_limit_file_size(-1);
        assert_int_equal(status, KV_ERR_IO);
        assert_null(strchr(err.message, '\n'));
        unlink(path);
    }
    assert_int_equal(write_sample(&err), KV_OK);
    assert_int_equal(read_matrix(&err), KV_OK);
}

static void test_writing_refuses(void **state) {
    (void)state;
    kv_error err;
    hid_t file;
    const int64_t negative[1] = {-1}, huge[2] = {INT64_MAX, 2};
    assert_int_equal(kv_h5_create(test_path(dir, "no/such/dir.h5"), &file, &err), KV_ERR_IO);
    assert_int_equal(kv_h5_create(path, &file, &err), KV_OK);
    assert_int_equal(kv_h5_write(file, "x", H5T_NATIVE_FLOAT, NULL, 1, negative, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_h5_write(file, "x", H5T_NATIVE_FLOAT, NULL, 2, huge, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_h5_write(file, "x", H5T_NATIVE_FLOAT, NULL, 9, huge, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_h5_write(file, "x", H5T_NATIVE_FLOAT, &(float){1}, 0, NULL, &err), KV_OK);
    assert_int_equal(kv_h5_write(file, "x", H5T_NATIVE_FLOAT, &(float){1}, 0, NULL, &err), KV_ERR_IO);
    assert_int_equal(kv_h5_close(&file, &err), KV_OK);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_large_ones_are_packed),
        TEST(test_checked_ones_are_not_deflated),
        TEST(test_attributes),
        TEST(test_golden_file),
        TEST(test_wrong_datasets),
        TEST(test_not_hdf5),
        TEST(test_truncated_and_damaged),
        TEST(test_full_disk),
        TEST(test_writing_refuses),
    };
    return cmocka_run_group_tests_name("h5", tests, NULL, NULL);
}
