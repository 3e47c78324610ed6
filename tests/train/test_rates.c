// Groups of weights and their learning rates: the schedules that a configuration describes, weights that move at their
// own group's rate, what the log, the status and a resumed run make of it.
#include "train/config/rates.h"

#include "tests/support/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Schedules -----------------------------------------------------------------------------------------

#define RUN "output: o\ndata: {train: t, seq_len: 8, batch_size: 4}\n"
#define KVP "task: kvp\nbase: b\naux: a\n" RUN
#define LM  "task: lm\nmodel: {from: checkpoint, path: m}\n" RUN

// The rates of some steps by the configuration `yaml`, of a group.
static void expect_rates(const char *yaml, kv_group group, const int64_t *steps, const double *rates, int n) {
    kv_config *config;
    const kv_train_config *train;
    kv_error err = {0};
    put_file("rates.yaml", yaml);
    if (kv_train_config_load("rates.yaml", NULL, 0, &config, &train, &err) != KV_OK)
        fail_msg("%s", err.message);
    const kv_schedule schedule = kv_train_schedule(train, group);
    for (int i = 0; i < n; i++) {
        const double found = kv_schedule_at(&schedule, steps[i]);
        if (fabs(found - rates[i]) > 1e-12 * fabs(rates[i]))
            fail_msg("%sgroup %d, step %d: rate %.17g, expected %.17g", yaml, (int)group, (int)steps[i],
                     found, rates[i]);
    }
    kv_config_free(config);
}
#define EXPECT_RATES(yaml, group, ...)                                                                       \
    expect_rates(yaml, group, (const int64_t[]){0, 5, 10, 20}, (const double[]){__VA_ARGS__}, 4)

static void test_schedules(void **state) {
    (void)state;
    static const char plain[] = KVP "train: {steps: 20, lr: 4e-3, warmup_steps: 10}\n";
    for (kv_group g = 0; g < KV_N_GROUPS; g++) EXPECT_RATES(plain, g, 1e-6, (1e-6 + 4e-3) / 2, 4e-3, 4e-4);
    // Stretched as a whole.
    static const char own[] =
        KVP "train: {steps: 20, lr: 4e-3, lr_aux: 8e-3, lr_table: 1e-2, lr_queries: 1e-3,\n"
            "        warmup_steps: 10, warmup_init: 2e-3, lr_end: 1e-3}\n";
    EXPECT_RATES(own, KV_GROUP_MAPS, 2e-3, 3e-3, 4e-3, 1e-3);
    EXPECT_RATES(own, KV_GROUP_MODEL, 4e-3, 6e-3, 8e-3, 2e-3);
    EXPECT_RATES(own, KV_GROUP_TABLES, 5e-3, 7.5e-3, 1e-2, 2.5e-3);
    EXPECT_RATES(own, KV_GROUP_QUERIES, 5e-4, 7.5e-4, 1e-3, 2.5e-4);
    // What stays, stays, whatever the warm-up starts from and the end is.
    static const char still[] =
        KVP "train: {steps: 20, lr: 0, lr_aux: 1e-2, warmup_steps: 10, lr_end: 1e-3}\n";
    EXPECT_RATES(still, KV_GROUP_MAPS, 0, 0, 0, 0);
    EXPECT_RATES(still, KV_GROUP_MODEL, 1e-6, (1e-6 + 1e-2) / 2, 1e-2, 1e-3);
    static const char lm[] = LM "train: {steps: 20, lr: 4e-3, warmup_steps: 10}\n";
    EXPECT_RATES(lm, KV_GROUP_MODEL, 1e-6, (1e-6 + 4e-3) / 2, 4e-3, 4e-4);
}

static void test_keys(void **state) {
    (void)state;
    put_file("lm.yaml", LM "train: {steps: 20, lr: 4e-3}\n");
    train_refuse("key `train.lr_aux`: found a key without effect, expected it only with task: kvp",
                 ARGS("lm.yaml", "-s", "train.lr_aux=1e-3"));
    train_refuse("key `train.lr_table`: found -1, expected 0 to 1000",
                 ARGS("kvp.yaml", "-s", "train.lr_table=-1"));
}

// ---- Training ------------------------------------------------------------------------------------------

static const char aux[] = "final/aux/model.safetensors", maps[] = "final/predictor/predictor.safetensors";

static bool same_in(const char *a, const char *b, const char *file) {
    char x[128], y[128];
    snprintf(x, sizeof x, "%s/%s", a, file);
    snprintf(y, sizeof y, "%s/%s", b, file);
    return same_file(x, y);
}

static void test_weights_move_at_their_rate(void **state) {
    (void)state;
    train_expect(0, ARGS("kvp.yaml", "-o", "begin", "-s", "train.steps=0"));
    train_expect(0, ARGS("kvp.yaml", "-o", "both", "-s", "train.lr_aux=1e-2"));
    train_expect(0, ARGS("kvp.yaml", "-o", "aux_only", "-s", "train.lr_aux=1e-2", "-s", "train.lr=0"));
    train_expect(0, ARGS("kvp.yaml", "-o", "maps_only", "-s", "train.lr_aux=0"));
    assert_true(same_in("begin", "aux_only", maps) && !same_in("begin", "aux_only", aux));
    assert_true(same_in("begin", "maps_only", aux) && !same_in("begin", "maps_only", maps));
    assert_false(same_in("begin", "both", maps) || same_in("begin", "both", aux));
    for (int64_t step = 1; step <= 20; step++) {
        const double lr = metric("both", step, "lr");
        assert_true(lr == metric("maps_only", step, "lr"));
        assert_true(fabs(metric("both", step, "lr_aux") - 2 * lr) < 1e-8 * lr);
        assert_true(metric("aux_only", step, "lr") == 0 && metric("maps_only", step, "lr_aux") == 0);
        assert_true(isnan(metric("both", step, "lr_table")));
    }
    // Stopped and gone on with, bit by bit.
    train_expect(0, ARGS("kvp.yaml", "-o", "cut", "-s", "train.lr_aux=1e-2"));
    kv_error err = {0};
    assert_int_equal(kv_remove_tree("cut/final", &err), KV_OK);
    train_expect(0, ARGS("kvp.yaml", "-o", "cut", "-s", "train.lr_aux=1e-2", "--resume"));
    assert_non_null(strstr(train_output(), "resuming from cut/checkpoints/step-000016"));
    assert_true(same_in("cut", "both", maps) && same_in("cut", "both", aux));
    train_refuse("key `train.lr_aux`: found `2e-2`, expected `1e-2` as in both/config.yaml",
                 ARGS("kvp.yaml", "-o", "both", "-s", "train.lr_aux=2e-2", "--resume"));
}

// ---- Telling -------------------------------------------------------------------------------------------

static void assert_said(const char *text) {
    if (!strstr(train_output(), text)) fail_msg("expected \"%s\" in\n%s", text, train_output());
}

static void assert_not_said(const char *text) {
    if (strstr(train_output(), text)) fail_msg("did not expect \"%s\" in\n%s", text, train_output());
}

static void test_telling(void **state) {
    (void)state;
    train_expect(0, ARGS("kvp.yaml", "-o", "told", "-n", "-s", "train.lr_aux=1e-2"));
    assert_said("schedule     lr 1e-06 to 0.005 in 5 steps, then to 0.0005\n"
                "             lr_aux 2e-06 to 0.01 in 5 steps, then to 0.001\n");
    assert_not_said("lr_table");
    assert_not_said("warning");
    train_expect(0, ARGS("kvp.yaml", "-o", "told", "-n", "-s", "freeze_aux=true"));
    assert_not_said("lr_aux");
    train_expect(0, ARGS("status", "both"));
    assert_said("speed        lr 0.000");
    assert_said(", lr_aux 0.00");
    assert_said(" lr_aux    o"); // the second picture
    assert_not_said("terms        lr");
    train_expect(0, ARGS("status", "--json", "both"));
    assert_said("\"rates\": {\"lr\": 0.000");
    train_expect(0, ARGS("kvp.yaml", "-o", "plain"));
    train_expect(0, ARGS("status", "plain"));
    assert_not_said("lr_aux    o"); // the same for all is no picture
}

static void expect_doubt(const char *set, const char *second, const char *text) {
    train_expect(0, ARGS("kvp.yaml", "-n", "-o", "none", "-s", set, "-s", second));
    assert_said(text);
    const char *first = strstr(train_output(), "warning");
    assert_true(first && !strstr(first + 1, "warning"));
}

static void test_doubts(void **state) {
    (void)state;
    expect_doubt("freeze_aux=true", "train.lr_aux=1e-2",
                 "key `train.lr_aux`: without effect: freeze_aux: true leaves the aux as it is");
    expect_doubt("train.lr_table=1e-2", "seed=1",
                 "key `train.lr_table`: without effect: predictor.token_table: none");
    expect_doubt("train.lr_queries=1e-2", "seed=1", "key `train.lr_queries`: without effect");
    expect_doubt(
        "train.lr_aux=0", "seed=1",
        "key `train.lr_aux`: at a rate of 0 the aux stays as it is; freeze_aux: true spares the work");
    expect_doubt("train.lr_aux=0", "train.lr=0",
                 "key `train.lr`: at a rate of 0 the weights stay as they are");
    train_expect(0, ARGS("kvp.yaml", "-n", "-o", "none", "-s", "train.lr_aux=1", "-s", "train.lr=0"));
    assert_not_said("warning");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_weights_move_at_their_rate),
        cmocka_unit_test(test_telling),
        cmocka_unit_test(test_doubts),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}
