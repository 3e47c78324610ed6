// The parts that predictors are made of as keys of kvtrain: every combination trains, goes on after an interruption with
// the same bits, and its saved predictor gives what the training step had; a prefix needs no second model; what does
// not go together is refused by name.
#include "tests/support/train.h"

#include "data/checkpoint/checkpoint.h"
#include "infer/score/score.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char prefix[] = "task: kvp\n"
                             "output: prefix\n"
                             "data: {train: shard.h5, seq_len: 16, batch_size: 4}\n"
                             "base: base/final/model\n"
                             "aux: prefix\n"
                             "prefix_layers: 1\n"
                             "loss: {kl: 1}\n"
                             "train: {steps: 6, lr: 1e-3, warmup_steps: 1, log_every: 1, checkpoint_every: 3}\n";

static bool exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

static void expect_said(const char *text) {
    if (!strstr(train_output(), text)) fail_msg("expected %s\nfound    %s", text, train_output());
}

// ---- A prefix ------------------------------------------------------------------------------------------

static void test_prefix(void **state) {
    (void)state;
    put_file("prefix.yaml", prefix);
    train_expect(0, ARGS("prefix.yaml", "--dry-run"));
    expect_said("aux          prefix: the base's own first 1 layers, no second model");
    expect_said("freeze_aux: true");
    train_expect(0, ARGS("prefix.yaml"));
    assert_true(exists("prefix/final/predictor/predictor.json"));
    assert_false(exists("prefix/final/aux"));
    assert_true(metric("prefix", 6, "loss") < metric("prefix", 1, "loss"));
    train_expect(0, ARGS("status", "prefix"));
    expect_said("aux prefix");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefix),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}
