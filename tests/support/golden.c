#include "tests/support/golden.h"

#include "data/checkpoint/checkpoint.h"
#include "data/file/path.h"
#include "tests/support/numbers/rounding.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_ELEMENTS = 1 << 26, PATH_SIZE = PATH_MAX + 64 };

// ---- Reading what is expected --------------------------------------------------------------------------

golden_array golden_read(hid_t file, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    golden_array a = {.size = 1};
    golden_check(kv_h5_read_f32(file, name, MAX_ELEMENTS, &a.data, &a.n_dims, a.shape, err));
    for (int i = 0; i < a.n_dims; i++) a.size *= a.shape[i];
    return a;
}

double golden_number(hid_t file, const char *name) {
    golden_array a = golden_read(file, "%s", name);
    double value = (double)a.data[0];
    free(a.data);
    return value;
}

int32_t *golden_ids(hid_t file, const char *name, int64_t *rows, int64_t *cols) {
    int32_t *ids;
    int64_t shape[8];
    int n_dims;
    golden_check(kv_h5_read_i32(file, name, MAX_ELEMENTS, &ids, &n_dims, shape, err));
    assert_int_equal(n_dims, 2);
    *rows = shape[0], *cols = shape[1];
    return ids;
}

double golden_attribute(hid_t file, const char *name) {
    double value = 0;
    golden_check(kv_h5_attr_f64(file, "/", name, &value, err));
    return value;
}

void golden_expect(const char *what, const float *got, const golden_array *expected,
                   const rounding_spread *spread, int64_t from) {
    rounding_compare(what, got, spread, from, expected->size);
    rounding_compare_both(what, got, expected->data, spread, from, expected->size);
}

void golden_expect_number(const char *what, double got, double expected, double allowed) {
    rounding_expect(what, got, expected, 2 * allowed);
}

void golden_lay_out(const golden_array *like, const float *from, float *to, bool back) {
    const int64_t heads = like->shape[1], len = like->shape[2], d = like->shape[3];
    for (int64_t s = 0; s < like->shape[0]; s++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t t = 0; t < len; t++) {
                const int64_t theirs = ((s * heads + h) * len + t) * d,
                              ours = ((s * len + t) * heads + h) * d;
                memcpy(to + (back ? ours : theirs), from + (back ? theirs : ours), (size_t)d * sizeof *to);
            }
}

// ---- One case ------------------------------------------------------------------------------------------

static void load_pair(golden_case *g) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/base", g->dir);
    golden_check(kv_checkpoint_load(path, &g->base, err));
    snprintf(path, sizeof path, "%s/aux", g->dir);
    golden_check(kv_checkpoint_load_trainable(path, &g->aux, err));
    golden_check(kv_model_set_trainable(g->aux, true, err));
    double values[KV_MAX_LAYERS];
    int64_t n = 0;
    int32_t mapping[KV_MAX_LAYERS];
    golden_check(kv_h5_attr_array(g->expected, "/", "mapping", KV_MAX_LAYERS, values, &n, err));
    for (int64_t i = 0; i < n; i++) mapping[i] = (int32_t)values[i];
    golden_check(kv_mapping_check(mapping, n, g->base->spec.n_layers, g->aux->spec.n_layers, err));
    golden_check(kv_predictor_load(g->dir, &g->base->spec, &g->aux->spec, NULL, mapping, &g->predictor, err));
    golden_check(kv_predictor_set_trainable(g->predictor, true, err));
}

golden_case golden_open(const char *dir) {
    golden_case g = {0};
    char path[PATH_SIZE];
    snprintf(g.dir, sizeof g.dir, "%s", dir);
    snprintf(path, sizeof path, "%s/expected.h5", g.dir);
    golden_check(kv_h5_open(path, &g.expected, err));
    g.input_ids = golden_ids(g.expected, "input_ids", &g.n_seq, &g.seq_len);
    g.tape = kv_tape_create();
    assert_non_null(g.tape);
    if (!kv_path_exists_in(dir, "aux")) {
        golden_check(kv_checkpoint_load(dir, &g.base, err));
        return g;
    }
    int64_t rows, cols;
    g.target_ids = golden_ids(g.expected, "target_ids", &rows, &cols);
    g.ignore_index = (int32_t)golden_attribute(g.expected, "ignore_index");
    g.weights = (kv_kvp_weights){.base = (float)golden_attribute(g.expected, "lambda_base"),
                                 .aux = (float)golden_attribute(g.expected, "lambda_aux"),
                                 .consistency = (float)golden_attribute(g.expected, "lambda_consistency"),
                                 .z_loss = (float)golden_attribute(g.expected, "z_loss_eps")};
    load_pair(&g);
    return g;
}

void golden_close(golden_case *g) {
    H5Fclose(g->expected);
    kv_model_free(g->base);
    kv_model_free(g->aux);
    kv_predictor_free(g->predictor);
    kv_tape_free(g->tape);
    free(g->input_ids);
    free(g->target_ids);
}

// ---- Finding the cases ---------------------------------------------------------------------------------

enum { MAX_TESTS = 1024 };
static struct CMUnitTest tests[MAX_TESTS];
static size_t n_tests;

void golden_add_test(const char *dir, const char *name, CMUnitTestFunction function) {
    char *label;
    if (n_tests == MAX_TESTS || asprintf(&label, "%s: %s", dir, name) < 0) return;
    tests[n_tests++] =
        (struct CMUnitTest){.name = label, .test_func = function, .initial_state = strdup(dir)};
}

static golden_add_fn *add_tests;
static int64_t n_cases;

static int visit(const char *path, const struct stat *info, int type, struct FTW *place) {
    (void)info;
    if (type != FTW_F || strcmp(path + place->base, "expected.h5")) return 0;
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%.*s", place->base - 1, path);
    n_cases++;
    add_tests(dir, kv_path_exists_in(dir, "aux"));
    return 0;
}

// KV_GOLDEN_DIR, from where the test runs or else from the project's root; without it tests/golden.
static void find_root(char root[PATH_SIZE]) {
    const char *given = getenv("KV_GOLDEN_DIR"), *tests_dir = getenv("KV_TEST_DIR");
    if (!tests_dir) tests_dir = "tests";
    if (!given)
        snprintf(root, PATH_SIZE, "%s/golden", tests_dir);
    else if (given[0] == '/' || kv_path_exists_in(".", given))
        snprintf(root, PATH_SIZE, "%s", given);
    else
        snprintf(root, PATH_SIZE, "%s/../%s", tests_dir, given);
}

int golden_run(const char *group, golden_add_fn *add) {
    enum { SKIPPED = 77 }; // as meson knows it
    char root[PATH_SIZE];
    find_root(root);
    add_tests = add;
    if (nftw(root, visit, 16, 0) != 0 || n_cases == 0) {
        fprintf(stderr, "no expected.h5 below %s\n", root);
        return 1;
    }
    if (n_tests == 0) return SKIPPED; // cases, but none for this test
    int failed = _cmocka_run_group_tests(group, tests, n_tests, NULL, NULL);
    for (size_t i = 0; i < n_tests; i++) {
        free((void *)(uintptr_t)tests[i].name);
        free(tests[i].initial_state);
    }
    return failed;
}
