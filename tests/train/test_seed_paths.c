// {seed} in the paths of a training: every one of them, after all files and overrides have said which seed, and gone from
// what a run keeps of its configuration.
#include "train/config/config.h"

#include "tests/support/train.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char family[] = "task: kvp\n"
                             "output: runs/s{seed}/a\n"
                             "base: runs/s{seed}/base\n"
                             "aux: runs/s{seed}/aux\n"
                             "teacher: cached\n"
                             "cache: cache/{seed}\n"
                             "data: {train: 'text{seed}.h5', validation: \"held{seed}.h5\", seq_len: 8,\n"
                             "       batch_size: 4, packing: fixed}\n"
                             "predictor: {init: checkpoint, path: 'maps{seed}'}\n"
                             "train: {steps: 10, lr: 1e-3}\n";

struct loaded {
    kv_config *config;
    const kv_train_config *train;
};

static struct loaded load(const char *file, const char *const *overrides, size_t n) {
    struct loaded loaded;
    kv_error err = {0};
    if (kv_train_config_load(file, overrides, n, &loaded.config, &loaded.train, &err) != KV_OK)
        fail_msg("%s", err.message);
    return loaded;
}

// All paths of `family` with this seed.
static void expect_family(const kv_train_config *t, uint64_t seed) {
    char text[64];
    assert_true(t->seed == seed);
#define EXPECT(path, format)                                                                                 \
    do {                                                                                                     \
        snprintf(text, sizeof text, format, seed);                                                           \
        assert_string_equal(path, text);                                                                     \
    } while (0)
    EXPECT(t->output, "runs/s%" PRIu64 "/a");
    EXPECT(t->base, "runs/s%" PRIu64 "/base");
    EXPECT(t->aux, "runs/s%" PRIu64 "/aux");
    EXPECT(t->cache, "cache/%" PRIu64);
    EXPECT(t->data.train, "text%" PRIu64 ".h5");
    EXPECT(t->data.validation, "held%" PRIu64 ".h5");
    EXPECT(t->predictor.path, "maps%" PRIu64);
#undef EXPECT
}

static void test_paths(void **state) {
    (void)state;
    put_file("family.yaml", family);
    struct loaded l = load("family.yaml", NULL, 0);
    expect_family(l.train, 1); // the default
    kv_config_free(l.config);
    static const char *const two[] = {"seed=2"}, *const twice[] = {"seed=2", "seed=0x10"};
    l = load("family.yaml", two, 1);
    expect_family(l.train, 2);
    kv_config_free(l.config);
    l = load("family.yaml", twice, 2); // the last one wins
    expect_family(l.train, 16);
    kv_config_free(l.config);
}

// A nearer file's seed counts for the paths of the one it extends; an override may bring paths of its own.
static void test_sources(void **state) {
    (void)state;
    put_file("family.yaml", family);
    put_file("near.yaml", "extends: family.yaml\nseed: 7\n");
    struct loaded l = load("near.yaml", NULL, 0);
    expect_family(l.train, 7);
    kv_config_free(l.config);
    static const char *const overrides[] = {"output={seed}", "seed=3", "base=b-{seed}-{seed}/{step}/{SEED}",
                                            "output='{seed}/x'"};
    l = load("near.yaml", overrides + 1, 3);
    assert_string_equal(l.train->output, "3/x");
    assert_string_equal(l.train->base, "b-3-3/{step}/{SEED}"); // only {seed} is special
    kv_config_free(l.config);
    // In YAML, braces at a value's beginning make a group of keys.
    kv_error err = {0};
    assert_int_equal(kv_train_config_load("near.yaml", overrides, 1, &l.config, &l.train, &err),
                     KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "-s output={seed}: key `output`: found"));
}

static void test_models(void **state) {
    (void)state;
    put_file("lm.yaml", "task: lm\noutput: o\nseed: 4\nmodel: {from: checkpoint, path: 'm{seed}'}\n"
                        "data: {mixture: [{corpus: t, weight: 1}, {corpus: 'u{seed}', weight: 2}],\n"
                        "       seq_len: 8, batch_size: 4}\n"
                        "train: {steps: 10, lr: 1e-3}\n");
    struct loaded l = load("lm.yaml", NULL, 0);
    assert_string_equal(l.train->model.path, "m4");
    assert_string_equal(l.train->data.mixture[0].corpus, "t");
    assert_string_equal(l.train->data.mixture[1].corpus, "u4");
    kv_config_free(l.config);
}

// What a run directory keeps says which files were read, and loads as what it was.
static void test_round_trip(void **state) {
    (void)state;
    static const char *const two[] = {"seed=2"};
    put_file("family.yaml", family);
    struct loaded l = load("family.yaml", two, 1);
    char *text = kv_config_text(l.config);
    assert_non_null(text);
    assert_null(strstr(text, "{seed}"));
    assert_non_null(strstr(text, "runs/s2/base"));
    put_file("config.yaml", text);
    free(text);
    const struct loaded again = load("config.yaml", NULL, 0);
    expect_family(again.train, 2);
    kv_config_difference difference;
    assert_false(kv_config_compare(l.config, again.config, NULL, 0, &difference));
    kv_config_free(again.config);
    // A mistake is named where the path was written.
    kv_error err = {0};
    kv_config_fail(l.config, &err, "base", "not there");
    assert_string_equal(err.message, "family.yaml:3: key `base`: not there");
    kv_config_free(l.config);
}

static int set_up(void **state) {
    return test_dir_set_up(state) || chdir(test_dir);
}

static int tear_down(void **state) {
    return chdir("/") || test_dir_tear_down(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_paths), cmocka_unit_test(test_sources),
                                       cmocka_unit_test(test_models), cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
