// kvtrain with several ranks: what one process computes, with the same bits wherever the ranks are and whichever MPI they speak,
// and runs that go on with another number of them.
#include "tests/support/launch.h"
#include "tests/support/shell.h"
#include "tests/support/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// What the issue of data parallel training asks for: the same curve over 200 steps.
static const double curve = 1e-5;

// "kvtrain ARGUMENTS" under n ranks.
static int ranks_of(int kind, int n, const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "%s $T %s", launch_with(kind, n), arguments);
    return shell(command);
}

static void train_with(int kind, int n, const char *arguments) {
    const int status = ranks_of(kind, n, arguments);
    if (status != 0)
        fail_msg("%d ranks of %s, kvtrain %s: exit status %d\n%s", n, launch_kind(kind), arguments, status,
                 shell_err);
}

static void alone(const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "$T %s", arguments);
    shell_succeed(command);
}

static void expect_same_curve(const char *run, const char *expected, int64_t from, int64_t to,
                              const char *const *terms) {
    for (int64_t step = from; step <= to; step++)
        for (int i = 0; terms[i]; i++) {
            const double x = metric(run, step, terms[i]), y = metric(expected, step, terms[i]);
            if (!(fabs(x - y) <= curve * fmax(1, fabs(y))))
                fail_msg("%s: %s of step %lld is %.9g, expected %.9g", run, terms[i], (long long)step, x, y);
        }
}

static void expect_same_bits(const char *a, const char *b, const char *file) {
    char x[256], y[256];
    snprintf(x, sizeof x, "%s/final/%s", a, file);
    snprintf(y, sizeof y, "%s/final/%s", b, file);
    if (!same_file(x, y)) fail_msg("%s differs from %s", x, y);
}

static const char model[] = "model/model.safetensors";
static const char *const lm_terms[] = {"loss", "grad_norm", "lr", NULL};
static const char *const kvp_terms[] = {"loss", "base", "aux", "consistency", "kl", "grad_norm", NULL};

// ---- The same curve ------------------------------------------------------------------------------------

#define LONG "base.yaml -s train.steps=200 -s train.lr=5e-3"

static void test_curve_of_a_language_model(void **state) {
    (void)state;
    launch_or_skip();
    alone(LONG " -o long");
    for (int n = 1; n <= 4; n++) {
        char arguments[128], run[16];
        snprintf(run, sizeof run, "long_%d", n);
        snprintf(arguments, sizeof arguments, LONG " -o %s", run);
        train_with(n % launch_n_kinds(), n, arguments);
        expect_same_curve(run, "long", 1, 200, lm_terms);
    }
    assert_true(metric("long", 200, "loss") < metric("long", 1, "loss"));
    expect_same_bits("long_1", "long", model);
}

// Shares and micro-batches that do not divide the step: of 8 sequences 3, 3 and 2, in pieces of 2.
static void test_curve_of_predictors(void **state) {
    (void)state;
    launch_or_skip();
    alone("kvp.yaml -o kvp_alone");
    for (int n = 2; n <= 4; n++) {
        char arguments[128], run[16];
        snprintf(run, sizeof run, "kvp_%d", n);
        snprintf(arguments, sizeof arguments, "kvp.yaml -s data.micro_batch_size=2 -o %s", run);
        train_with(0, n, arguments);
        expect_same_curve(run, "kvp_alone", 1, 20, kvp_terms);
    }
}

// Rows of a cache go with the sequences, of whichever rank.
static void test_curve_from_a_cache(void **state) {
    (void)state;
    launch_or_skip();
    shell_succeed(
        "$K cache --base base/final/model --seq-len 16 --dtype f32 --top-k 32 --out cache shard.h5");
    alone("kvp.yaml -o fixed -s data.packing=fixed");
    train_with(0, 3, "kvp.yaml -o fixed_3 -s data.packing=fixed -s teacher=cached -s cache=cache");
    expect_same_curve("fixed_3", "fixed", 1, 20, kvp_terms);
}

static void test_activation_checkpointing(void **state) {
    (void)state;
    launch_or_skip();
    train_with(0, 2, "kvp.yaml -o kept");
    train_with(0, 2, "kvp.yaml -o again -s train.activation_checkpointing=true");
    expect_same_bits("again", "kept", "aux/model.safetensors");
    expect_same_bits("again", "kept", "predictor/predictor.safetensors");
}

// ---- The same bits -------------------------------------------------------------------------------------

static void test_bits(void **state) {
    (void)state;
    launch_or_skip();
    train_with(0, 3, "base.yaml -o bits");
    train_with(0, 3, "base.yaml -o bits_again");
    train_with(0, 3, "base.yaml -o bits_sharded -s train.shard_optimizer=true");
    expect_same_bits("bits_again", "bits", model);
    expect_same_bits("bits_sharded", "bits", model);
    for (int kind = 1; kind < launch_n_kinds(); kind++) {
        train_with(kind, 3, "base.yaml -o bits_other --force");
        expect_same_bits("bits_other", "bits", model);
    }
}

// ---- Going on with others ------------------------------------------------------------------------------

// At a rate that does not depend on the plan twenty steps and twenty more are forty.
static void test_going_on(void **state) {
    (void)state;
    launch_or_skip();
    static const int ways[][2] = {{3, 2}, {1, 4}, {2, 1}};
    alone("base.yaml -o whole -s train.lr_end=1e-2");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char arguments[256];
        snprintf(arguments, sizeof arguments,
                 "base.yaml -o parts_%zu -s train.lr_end=1e-2 -s train.shard_optimizer=%s", i,
                 i == 1 ? "false" : "true");
        char first[300], then[300], run[16];
        snprintf(first, sizeof first, "%s -s train.steps=20", arguments);
        snprintf(then, sizeof then, "%s --resume", arguments);
        snprintf(run, sizeof run, "parts_%zu", i);
        train_with(0, ways[i][0], first);
        train_with(0, ways[i][1], then);
        expect_same_curve(run, "whole", 1, 40, lm_terms);
    }
}

// A finished run that goes on with as many is one that never stopped.
static void test_going_on_bits(void **state) {
    (void)state;
    launch_or_skip();
    train_with(0, 2, "base.yaml -o forty -s train.lr_end=1e-2");
    train_with(0, 2, "base.yaml -o twenty -s train.lr_end=1e-2 -s train.steps=20");
    train_with(0, 2, "base.yaml -o twenty -s train.lr_end=1e-2 --resume -s train.shard_optimizer=true");
    expect_same_bits("twenty", "forty", model);
}

// ---- What cannot be ------------------------------------------------------------------------------------

static void test_more_ranks_than_sequences(void **state) {
    (void)state;
    launch_or_skip();
    assert_int_equal(ranks_of(0, 3, "base.yaml -o few -s data.batch_size=2"), 1);
    if (!strstr(shell_err, "key `data.batch_size`: found 2, expected 3 or more"))
        fail_msg("found: %s", shell_err);
    assert_int_not_equal(access("few", F_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_curve_of_a_language_model),
                                       cmocka_unit_test(test_curve_of_predictors),
                                       cmocka_unit_test(test_curve_from_a_cache),
                                       cmocka_unit_test(test_activation_checkpointing),
                                       cmocka_unit_test(test_bits),
                                       cmocka_unit_test(test_going_on),
                                       cmocka_unit_test(test_going_on_bits),
                                       cmocka_unit_test(test_more_ranks_than_sequences)};
    return cmocka_run_group_tests(tests, train_shell_setup, train_teardown);
}
