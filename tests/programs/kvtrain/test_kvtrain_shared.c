// Frozen models of kvtrain's ranks are in memory once a node, whatever they are made of, and train what they train alone.
// (tests/data/test_shared_weights.c looks at the memory itself.)
#include "tests/support/launch.h"
#include "tests/support/shell.h"
#include "tests/support/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char once[] = " GB of it once a node";

// kvp.yaml teaches both; a rival is taught by the base's logits.
static const char rival_yaml[] = "extends: kvp.yaml\n"
                                 "task: lm\n"
                                 "output: rival\n"
                                 "base: base/final/model\n"
                                 "model: {from: checkpoint, path: aux/final/model}\n"
                                 "loss: {base: 1, kl: 1}\n";

// Half of the base's layers.
static const char layers_yaml[] = "task: kvp\n"
                                  "data: {train: shard.h5, seq_len: 16, batch_size: 8, micro_batch_size: 4}\n"
                                  "base: base/final/model\n"
                                  "predictor: {keep: 0.5, mapping: pruned}\n"
                                  "loss: {kl: 1}\n"
                                  "train: {lr: 5e-3, warmup_steps: 1}\n";

static int setup(void **state) {
    if (train_shell_setup(state)) return -1;
    put_file("rival.yaml", rival_yaml);
    put_file("layers.yaml", layers_yaml);
    return 0;
}

// The bases are float32 in files: in another type they are nobody's views.
static const struct {
    const char *name, *arguments;
} cases[] = {{"base", "kvp.yaml -s frozen_dtype=bf16"},
             {"both", "kvp.yaml -s frozen_dtype=bf16 -s freeze_aux=true -s loss.aux=0"},
             {"prefix", "kvp.yaml -s frozen_dtype=f16 -s aux=prefix -s prefix_layers=1 -s loss.aux=0"},
             {"layers", "layers.yaml -s frozen_dtype=bf16"},
             {"frozen_layers", "layers.yaml -s freeze_aux=true -s loss.aux=0"},
             {"teacher", "rival.yaml -s frozen_dtype=bf16"}};

// Sums of two ranks are added in another order than those of one.
static void expect_same_losses(const char *run, const char *expected) {
    for (int64_t step = 1; step <= 3; step++) {
        const double x = metric(run, step, "loss"), y = metric(expected, step, "loss");
        if (!(fabs(x - y) <= train_allowed(expected, step, y)))
            fail_msg("%s: loss of step %lld is %.9g, expected %.9g", run, (long long)step, x, y);
    }
}

static void test_frozen_models_are_there_once(void **state) {
    (void)state;
    launch_or_skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char command[1024], run[64], alone[64];
        snprintf(run, sizeof run, "%s_2", cases[i].name);
        snprintf(alone, sizeof alone, "%s_1", cases[i].name);
        snprintf(command, sizeof command, "$T %s -s train.steps=3 -s train.log_every=1 -o %s",
                 cases[i].arguments, alone);
        shell_succeed(command);
        assert_null(strstr(shell_err, once));
        snprintf(command, sizeof command, "%s $T %s -s train.steps=3 -s train.log_every=1 -o %s",
                 launch_with((int)i % launch_n_kinds(), 2), cases[i].arguments, run);
        shell_succeed(command);
        if (!strstr(shell_err, once)) fail_msg("%s: '%s' expected in: %s", run, once, shell_err);
        expect_same_losses(run, alone);
    }
}

// As they are stored they are views of the file, and nothing is copied.
static void test_views_are_not_copied(void **state) {
    (void)state;
    char command[1024];
    launch_or_skip();
    snprintf(command, sizeof command, "%s $T kvp.yaml -s train.steps=1 -o views", launch(2));
    shell_succeed(command);
    assert_null(strstr(shell_err, once));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_frozen_models_are_there_once),
                                       cmocka_unit_test(test_views_are_not_copied)};
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
