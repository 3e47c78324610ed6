// Recipes of task kvp: the defaults they stand for, what wins over them, what a run says and keeps of them, and weights
// that are a part of the number of layers.
#include "train/config/config.h"

#include "data/file/content.h"
#include "tests/support/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN  "task: kvp\noutput: o\nbase: b\naux: a\ndata: {train: t, seq_len: 8, batch_size: 4}\n"
#define STEP "train: {steps: 10}\n"

static const kv_train_config *load(const char *yaml, const char *set, kv_config **config) {
    const kv_train_config *train;
    kv_error err = {0};
    put_file("recipe.yaml", yaml);
    if (kv_train_config_load("recipe.yaml", &set, set ? 1 : 0, config, &train, &err) != KV_OK)
        fail_msg("%s", err.message);
    return train;
}

static void test_defaults(void **state) {
    (void)state;
    kv_config *config;
    static const char *const papers[] = {RUN "train: {steps: 10, lr: 2e-3}\n",
                                         "recipe: paper\n" RUN "train: {steps: 10, lr: 2e-3}\n"};
    for (int i = 0; i < 2; i++) {
        const kv_train_config *t = load(papers[i], NULL, &config);
        assert_int_equal(t->recipe, KV_RECIPE_PAPER);
        assert_int_equal(t->predictor.init, KV_START_RANDOM);
        assert_true(t->loss.base == 1 && t->loss.aux == 1 && t->loss.kl == 0);
        assert_true(t->loss.consistency == 1 && t->loss.consistency_shared);
        assert_true(t->train.lr == 2e-3 && t->train.lr_aux == 2e-3 && t->train.lr_table == 2e-3);
        kv_config_free(config);
    }
    const kv_train_config *t = load("recipe: ours\n" RUN STEP, NULL, &config);
    assert_int_equal(t->recipe, KV_RECIPE_OURS);
    assert_int_equal(t->predictor.init, KV_START_LEAST_SQUARES);
    assert_int_equal(t->predictor.token_table, KV_TABLE_FULL);
    assert_true(t->loss.base == 0 && t->loss.aux == 0 && t->loss.kl == 1);
    assert_true(t->loss.consistency == 2 && t->loss.consistency_shared);
    assert_true(t->train.lr == 5e-3 && t->train.lr_aux == 1e-2 && t->train.lr_table == 1e-2);
    assert_true(t->train.lr_end == 5e-4);
    kv_config_free(config);
    // Of a prefix nothing is trained but what reads it.
    static const char prefix[] = "task: kvp\noutput: o\nbase: b\naux: prefix\nprefix_layers: 2\n"
                                 "data: {train: t, seq_len: 8, batch_size: 4}\n";
    char yaml[256];
    for (int ours = 0; ours < 2; ours++) {
        snprintf(yaml, sizeof yaml, "%s%strain: {steps: 10, lr: 2e-3}\n", ours ? "recipe: ours\n" : "",
                 prefix);
        t = load(yaml, NULL, &config);
        assert_true(t->freeze_aux && t->loss.aux == 0 && t->loss.base == !ours && t->train.lr == 2e-3);
        assert_int_equal(t->predictor.token_table, ours ? KV_TABLE_FULL : KV_TABLE_NONE);
        kv_config_free(config);
    }
}

static void test_what_is_set_wins(void **state) {
    (void)state;
    kv_config *config;
    put_file("parent.yaml", "recipe: ours\n" RUN "loss: {kl: 2}\ntrain: {steps: 10, lr_aux: 3e-3}\n");
    const kv_train_config *t = load("extends: parent.yaml\nloss: {aux: 0.3}\n", "train.lr=1e-3", &config);
    assert_true(t->loss.kl == 2 && t->loss.aux == 0.3 && t->loss.base == 0);
    assert_true(t->train.lr == 1e-3 && t->train.lr_aux == 3e-3 && t->train.lr_table == 1e-2);
    kv_config_free(config);
    t = load("extends: parent.yaml\nrecipe: paper\n", "train.lr=1e-3", &config);
    assert_true(t->loss.kl == 2 && t->loss.aux == 1 && t->loss.base == 1 && t->train.lr_table == 1e-3);
    kv_config_free(config);
    t = load("extends: parent.yaml\nrecipe: paper\ntrain: {lr: 1e-3}\n", "recipe=ours", &config);
    assert_true(t->loss.base == 0 && t->train.lr_table == 1e-2);
    kv_config_free(config);
}

static void test_consistency(void **state) {
    (void)state;
    static const struct {
        const char *set;
        double value;
        bool shared;
    } good[] = {{"loss.consistency=auto", 1, true},     {"loss.consistency=2/n", 2, true},
                {"loss.consistency=0.5/n", 0.5, true},  {"loss.consistency=0", 0, false},
                {"loss.consistency=0.25", 0.25, false}, {"loss.consistency=1e6/n", 1e6, true}};
    static const char *const bad[] = {"2/m", "/n", "-1/n", "2/n/n", "n", "1e7/n", "2 n", "nan/n", "auto/n"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        kv_config *config;
        const kv_train_config *t = load(RUN "train: {steps: 10, lr: 1e-3}\n", good[i].set, &config);
        assert_true(t->loss.consistency == good[i].value);
        assert_int_equal(t->loss.consistency_shared, good[i].shared);
        kv_config_free(config);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char set[64], message[128];
        snprintf(set, sizeof set, "loss.consistency=%s", bad[i]);
        snprintf(message, sizeof message,
                 "key `loss.consistency`: found `%s`, expected auto, a number from 0 to 1e6, or", bad[i]);
        train_refuse(message, ARGS("kvp.yaml", "-n", "-s", set));
    }
    // The base has three layers.
    train_expect(0, ARGS("kvp.yaml", "-n", "-s", "loss.consistency=2/n"));
    assert_non_null(strstr(train_output(), " + 0.666667 · consistency"));
}

static void test_refusals(void **state) {
    (void)state;
    train_refuse("key `base`: found nothing, expected a value: with loss.kl: the model whose logits teach",
                 ARGS("base.yaml", "-o", "no", "-s", "recipe=ours"));
    train_refuse("`recipe`", ARGS("kvp.yaml", "-o", "no", "-s", "recipe=theirs"));
    put_file("no_rate.yaml", RUN STEP);
    train_refuse("key `train.lr`: found nothing", ARGS("no_rate.yaml", "-n"));
}

static bool holds(const char *path, const char *text) {
    char *found = NULL;
    size_t size;
    kv_error err = {0};
    if (kv_read_file(path, 1 << 20, &found, &size, &err) != KV_OK) fail_msg("%s", err.message);
    const bool there = strstr(found, text) != NULL;
    free(found);
    return there;
}

static void test_run(void **state) {
    (void)state;
    put_file("ours.yaml",
             "recipe: ours\ntask: kvp\noutput: ours\nbase: base/final/model\naux: aux/final/model\n"
             "data: {train: shard.h5, seq_len: 16, batch_size: 8}\n"
             "train: {steps: 6, warmup_steps: 2, checkpoint_every: 4}\n");
    static const char said[] =
        "ours: predictor.init least_squares, predictor.token_table full, loss.base 0, loss.aux 0, loss.consistency 2/n, "
        "loss.kl 1, train.lr 5.0e-3, train.lr_aux 3e-3 (set), train.lr_table 1.0e-2\n";
    train_expect(0, ARGS("ours.yaml", "-n", "-s", "train.lr_aux=3e-3"));
    assert_non_null(strstr(train_output(), said));
    train_expect(0, ARGS("ours.yaml", "-s", "train.lr_aux=3e-3"));
    assert_non_null(strstr(train_output(), "kvtrain: recipe ours: "));
    assert_non_null(strstr(train_output(), said));
    static const char *const keys[] = {
        "recipe: ours", "token_table: full", "consistency: 2/n", "init: least_squares",
        "lr: 5.0e-3",   "lr_aux: 3e-3",      "lr_table: 1.0e-2", "kl: 1"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) assert_true(holds("ours/config.yaml", keys[i]));
    // What a run keeps describes it: trained by that it is the same.
    train_expect(0, ARGS("ours/config.yaml", "-o", "again"));
    assert_true(same_file("ours/final/predictor/predictor.safetensors",
                          "again/final/predictor/predictor.safetensors"));
    assert_true(same_file("ours/final/aux/model.safetensors", "again/final/aux/model.safetensors"));
    // Nobody asked about a recipe.
    train_expect(0, ARGS("kvp.yaml"));
    assert_null(strstr(train_output(), "recipe"));
    assert_true(holds("kvp/config.yaml", "recipe: paper"));
}

// Runs from before there were recipes go on as what they were.
static void test_older_run(void **state) {
    (void)state;
    train_expect(0, ARGS("kvp.yaml", "-o", "older"));
    assert_int_equal(
        system("rm -r older/final && sed -i '/^recipe/d; /least_squares_rates/d' older/config.yaml"), 0);
    assert_false(holds("older/config.yaml", "recipe"));
    train_expect(0, ARGS("kvp.yaml", "-o", "older", "--resume"));
    assert_true(same_file("older/final/predictor/predictor.safetensors",
                          "kvp/final/predictor/predictor.safetensors"));
    train_refuse("key `recipe`: found `ours`, expected `paper`",
                 ARGS("kvp.yaml", "-o", "older", "--resume", "-s", "recipe=ours"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),    cmocka_unit_test(test_what_is_set_wins),
        cmocka_unit_test(test_consistency), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_run),         cmocka_unit_test(test_older_run),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}
