// Saved prompts: what is written comes back, files appear whole or not at all, and whatever is damaged - cut off,
// a bit of it another, of other shapes, not finite - is refused by name or is what it was.
#include "data/file/h5.h"
#include "data/prompt/saved_prompt.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS = 5, LAYERS = 2 };

static char path[256];
static kv_error err;

static float *numbers(int64_t n, int from) {
    float *all = test_alloc(n, sizeof *all);
    for (int64_t i = 0; i < n; i++) all[i] = (float)from + 0.25f * (float)i;
    return all;
}

static void fill_cache(kv_saved_cache *cache, int64_t n_layers, int64_t n_rows, int64_t dim) {
    cache->n_layers = n_layers, cache->n_rows = n_rows;
    for (int64_t i = 0; i < n_layers; i++) {
        cache->dims[i] = dim + i;
        cache->k[i] = numbers(n_rows * (dim + i), (int)i);
        cache->v[i] = numbers(n_rows * (dim + i), 100 + (int)i);
    }
}

static kv_saved_prompt *make_prompt(void) {
    kv_saved_prompt *p = test_alloc(1, sizeof *p);
    p->maker = (kv_saved_maker){.base = "0123456789abcdef",
                                .aux = "1123456789abcdef",
                                .predictor = "2123456789abcdef",
                                .weights = "f32",
                                .tokenizer = "3123456789abcdef",
                                .base_source = "my/base",
                                .aux_source = "my/aux",
                                .predictor_source = "my/predictor"};
    p->n_ids = TOKENS, p->n_rows = TOKENS - 1;
    p->ids = test_alloc(TOKENS, sizeof *p->ids);
    for (int32_t t = 0; t < TOKENS; t++) p->ids[t] = 10 + t;
    p->predicted = test_alloc(TOKENS - 1, 1);
    p->predicted[0] = p->predicted[2] = 1;
    p->text = strdup("Long ago");
    p->n_text = 8;
    fill_cache(&p->base, LAYERS, TOKENS - 1, 3);
    fill_cache(&p->aux, 1, 2, 4);
    return p;
}

static bool equal_caches(const kv_saved_cache *a, const kv_saved_cache *b) {
    if (a->n_layers != b->n_layers || a->n_rows != b->n_rows) return false;
    for (int64_t i = 0; i < a->n_layers; i++) {
        if (a->dims[i] != b->dims[i]) return false;
        const size_t size = (size_t)(a->n_rows * a->dims[i]) * sizeof(float);
        if (memcmp(a->k[i], b->k[i], size) != 0 || memcmp(a->v[i], b->v[i], size) != 0) return false;
    }
    return true;
}

static bool equal(const kv_saved_prompt *a, const kv_saved_prompt *b) {
    if (a->n_ids != b->n_ids || a->n_rows != b->n_rows || a->n_text != b->n_text) return false;
    if (memcmp(a->ids, b->ids, (size_t)a->n_ids * sizeof *a->ids) != 0) return false;
    if (memcmp(a->predicted, b->predicted, (size_t)a->n_rows) != 0) return false;
    if (!a->text != !b->text || (a->text && strcmp(a->text, b->text) != 0)) return false;
    return kv_saved_prompt_check(path, a, &b->maker, &err) == KV_OK && equal_caches(&a->base, &b->base) &&
           equal_caches(&a->aux, &b->aux);
}

static void write_prompt(const kv_saved_prompt *p) {
    if (kv_saved_prompt_write(path, p, &err) != KV_OK) fail_msg("%s", err.message);
}

static void test_comes_back(void **state) {
    (void)state;
    for (int with = 0; with < 2; with++) {
        kv_saved_prompt *p = make_prompt(), *read;
        if (!with) { // a base alone, of ids
            free(p->text);
            free(p->aux.k[0]);
            free(p->aux.v[0]);
            p->text = NULL, p->n_text = 0, p->aux = (kv_saved_cache){0};
            *p->maker.aux = *p->maker.predictor = *p->maker.tokenizer = '\0';
        }
        write_prompt(p);
        if (kv_saved_prompt_read(path, &read, &err) != KV_OK) fail_msg("%s", err.message);
        assert_true(equal(p, read));
        assert_string_equal(read->maker.base_source, "my/base");
        kv_saved_prompt_free(read);
        kv_saved_prompt_free(p);
    }
}

// Named: what is another, what was found and what was expected.
static void test_another_model(void **state) {
    (void)state;
    kv_saved_prompt *p = make_prompt();
    const struct {
        size_t at;
        const char *part;
    } fields[] = {{offsetof(kv_saved_maker, base),
                   "the base 0123456789abcdef of my/base, expected x123456789abcdef of my/base"},
                  {offsetof(kv_saved_maker, aux), "the aux 1123456789abcdef of my/aux"},
                  {offsetof(kv_saved_maker, predictor), "the predictor 2123456789abcdef of my/predictor"},
                  {offsetof(kv_saved_maker, tokenizer), "the tokenizer 3123456789abcdef, expected"},
                  {offsetof(kv_saved_maker, weights), "weights held as f32, expected x32"}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        kv_saved_maker other = p->maker;
        ((char *)&other)[fields[i].at] = 'x';
        assert_int_equal(kv_saved_prompt_check("sys.h5", p, &other, &err), KV_ERR_MISMATCH);
        if (!strstr(err.message, fields[i].part) || strncmp(err.message, "sys.h5: ", 8) != 0)
            fail_msg("%s", err.message);
    }
    kv_saved_prompt_free(p);
}

// ---- Damage --------------------------------------------------------------------------------------------

static unsigned char *bytes_of_file(size_t *size) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = test_alloc(1 << 18, 1);
    assert_non_null(file);
    *size = fread(bytes, 1, 1 << 18, file);
    fclose(file);
    assert_in_range(*size, 1, (1 << 18) - 1);
    return bytes;
}

static void put_bytes(const unsigned char *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

// Refused with the file's name in one line; or, where nothing looks at the byte, the same prompt.
static bool refused(const kv_saved_prompt *expected, const char *how, size_t at) {
    kv_saved_prompt *read;
    const kv_status status = kv_saved_prompt_read(path, &read, &err);
    if (status == KV_OK) {
        if (!equal(read, expected)) fail_msg("%s at byte %zu: another prompt", how, at);
        kv_saved_prompt_free(read);
        return false;
    }
    assert_null(read);
    if (!strstr(err.message, path) || strchr(err.message, '\n')) fail_msg("%s: %s", how, err.message);
    return true;
}

static void test_damaged_bytes(void **state) {
    (void)state;
    kv_saved_prompt *p = make_prompt();
    size_t size, n_refused = 0, n = 0;
    write_prompt(p);
    unsigned char *bytes = bytes_of_file(&size);
    for (size_t cut = 0; cut < size; cut += cut + 1 < 64 ? 1 : 97) {
        put_bytes(bytes, cut);
        if (!refused(p, "cut off", cut)) fail_msg("%zu of %zu bytes were taken for a prompt", cut, size);
    }
    for (size_t at = 0; at < size; at += 29, n++) {
        bytes[at] ^= (unsigned char)(1 << at % 8);
        put_bytes(bytes, size);
        n_refused += refused(p, "a bit", at);
        bytes[at] ^= (unsigned char)(1 << at % 8);
    }
    assert_true(n_refused > n / 8); // free space of HDF5 is most of so small a file
    free(bytes);
    kv_saved_prompt_free(p);
}

static void refuse(const char *part) {
    kv_saved_prompt *read;
    assert_int_equal(kv_saved_prompt_read(path, &read, &err), KV_ERR_FORMAT);
    if (!strstr(err.message, part) || !strstr(err.message, path))
        fail_msg("expected %s\nfound    %s", part, err.message);
}

// Values and shapes of a file that is sound as HDF5.
static void rewrite(const char *name, hid_t type, const void *data, int n_dims, const int64_t *shape) {
    kv_saved_prompt *p = make_prompt();
    write_prompt(p);
    kv_saved_prompt_free(p);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    assert_true(H5Ldelete(file, name, H5P_DEFAULT) >= 0);
    if (data) assert_int_equal(kv_h5_write_plain(file, name, type, data, n_dims, shape, &err), KV_OK);
    H5Fclose(file);
}

static void test_damaged_values(void **state) {
    (void)state;
    float rows[64] = {0}, nan[12] = {0};
    int32_t ids[8] = {1, 2, 3, 4, -5};
    uint8_t marks[8] = {0, 1, 2};
    nan[7] = NAN;
    rewrite("/base/key/1", H5T_NATIVE_FLOAT, NULL, 0, NULL);
    refuse("'/base/key/1': missing dataset");
    rewrite("/base/value/0", H5T_NATIVE_FLOAT, rows, 2, (int64_t[]){4, 4});
    refuse("/base/value/0 is not of [4, 3]");
    rewrite("/base/key/0", H5T_NATIVE_FLOAT, rows, 1, (int64_t[]){12});
    refuse("/base/key/0 is not of");
    rewrite("/base/key/0", H5T_NATIVE_FLOAT, rows, 2, (int64_t[]){4, 3});
    refuse("its checksum is");
    rewrite("/base/key/0", H5T_NATIVE_FLOAT, nan, 2, (int64_t[]){4, 3});
    refuse("/base/key/0 has values that are not finite");
    rewrite("/aux/key/0", H5T_NATIVE_FLOAT, rows, 2, (int64_t[]){5, 4});
    refuse("/aux/value/0 is not of [5, 4]");
    rewrite("/ids", H5T_NATIVE_INT32, ids, 1, (int64_t[]){5});
    refuse("an id is negative");
    rewrite("/ids", H5T_NATIVE_INT32, ids, 1, (int64_t[]){3});
    refuse("more than the 3 elements");
    rewrite("/predicted", H5T_NATIVE_UINT8, marks, 1, (int64_t[]){4});
    refuse("a mark that is neither 0 nor 1");
    rewrite("/predicted", H5T_NATIVE_UINT8, marks, 1, (int64_t[]){2});
    refuse("entries of another number of tokens");
    rewrite("/text", H5T_NATIVE_UINT8, "Long", 1, (int64_t[]){4});
    refuse("its checksum is");
}

// A dataset of which nothing is written but its shape.
static void reshape(const char *name, hid_t type, int n_dims, const hsize_t *dims) {
    rewrite(name, type, NULL, 0, NULL);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), space = H5Screate_simple(n_dims, dims, NULL),
                list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(list, H5D_ALLOC_TIME_LATE);
    const hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(list);
    H5Fclose(file);
}

// One that says it has more than the file could hold asks for no memory; and one of nothing may be endlessly long.
static void test_impossible_sizes(void **state) {
    (void)state;
    const hsize_t large = (hsize_t)1 << 40;
    reshape("/base/key/0", H5T_NATIVE_FLOAT, 2, (hsize_t[]){4, large});
    refuse("elements that are accepted here");
    reshape("/ids", H5T_NATIVE_INT32, 2, (hsize_t[]){(hsize_t)1 << 61, 0});
    refuse("no list of ids");
    reshape("/text", H5T_NATIVE_UINT8, 3, (hsize_t[]){large, large, 0});
    refuse("its checksum is");
}

// Another kind of file, another version, no file; and nothing is left of what could not be written.
static void test_refusals(void **state) {
    (void)state;
    kv_saved_prompt *p = make_prompt(), *read;
    unlink(path);
    assert_int_equal(kv_saved_prompt_read(path, &read, &err), KV_ERR_IO);
    put_bytes((const unsigned char *)"Long ago\n", 9);
    refuse("expected a saved prompt (kvrun --save-prompt makes one)");
    write_prompt(p);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    H5Adelete(file, "version");
    assert_int_equal(kv_h5_set_i64(file, "/", "version", 2, &err), KV_OK);
    H5Fclose(file);
    refuse("a saved prompt of version 2");
    unlink(path);
    p->base.v[1][2] = INFINITY;
    assert_int_equal(kv_saved_prompt_write(path, p, &err), KV_ERR_NOT_FINITE);
    assert_int_equal(access(path, F_OK), -1);
    kv_saved_prompt_free(p);
}

static int setup(void **state) {
    const int status = test_dir_set_up(state);
    kv_h5_init();
    snprintf(path, sizeof path, "%s/prompt.h5", test_dir);
    return status;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_back),       cmocka_unit_test(test_another_model),
        cmocka_unit_test(test_damaged_bytes),    cmocka_unit_test(test_damaged_values),
        cmocka_unit_test(test_impossible_sizes), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, test_dir_tear_down);
}
