// What saves memory in training changes nothing else: layers computed again leave the same bits, in a run of
// its own or in parts of one; frozen weights in 16 bits are those of a checkpoint that was stored so.
#include "data/checkpoint/checkpoint.h"
#include "data/file/path.h"
#include "tests/support/corpus.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN "train.activation_checkpointing=true"

static void expect_same_result(const char *a, const char *b) {
    static const char *const files[] = {"final/model/model.safetensors", "final/aux/model.safetensors",
                                        "final/predictor/predictor.safetensors"};
    char x[128], y[128];
    int n = 0;
    for (int i = 0; i < 3; i++) {
        snprintf(x, sizeof x, "%s/%s", a, files[i]);
        snprintf(y, sizeof y, "%s/%s", b, files[i]);
        if (!kv_path_exists(x)) continue;
        assert_true(same_file(x, y));
        n++;
    }
    assert_true(n > 0);
}

static void test_checkpointing_leaves_the_same_bits(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "base_again", "-s", AGAIN));
    expect_same_result("base", "base_again");
    train_expect(0, ARGS("kvp.yaml"));
    train_expect(0, ARGS("kvp.yaml", "-o", "kvp_again", "-s", AGAIN));
    expect_same_result("kvp", "kvp_again");
    assert_true(metric("kvp", 20, "loss") == metric("kvp_again", 20, "loss"));
    // What it costs is said, and counted.
    train_expect(0, ARGS("base.yaml", "-o", "x", "-n", "-s", AGAIN));
    const double rate = metric("base_again", 40, "gflops_per_second") /
                        metric("base_again", 40, "tokens_per_second"),
                 kept = metric("base", 40, "gflops_per_second") / metric("base", 40, "tokens_per_second");
    assert_true(rate > 1.1 * kept && rate < 1.4 * kept);
}

// A run may go on with or without it.
static void test_checkpointing_may_change(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "parts"));
    train_expect(0, ARGS("base.yaml", "-o", "parts_again", "-s", AGAIN));
    assert_int_equal(system("rm -r parts/final parts_again/final"), 0);
    train_expect(0, ARGS("base.yaml", "-o", "parts", "--resume", "-s", AGAIN));
    train_expect(0, ARGS("base.yaml", "-o", "parts_again", "--resume"));
    expect_same_result("base", "parts");
    expect_same_result("base", "parts_again");
}

static void narrow(const char *from, const char *to) {
    kv_model *model;
    kv_error err = {0};
    if (kv_checkpoint_load_frozen(from, NULL, KV_FROZEN_BF16, &model, NULL, &err) || kv_make_dirs(to, &err) ||
        kv_checkpoint_save(to, model, &err))
        fail_msg("%s", err.message);
    kv_model_free(model);
}

// Whether the predictors of two runs say that they were made for one base.
static bool same_base(const char *run, const char *other) {
    const char *const runs[] = {run, other};
    char found[2][40];
    for (int i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/final/predictor/predictor.json", runs[i]);
        char *text = test_read_text(path);
        const char *at = strstr(text, "\"base_fingerprint\": \"");
        assert_non_null(at);
        snprintf(found[i], sizeof found[i], "%.38s", at);
        free(text);
    }
    return strcmp(found[0], found[1]) == 0;
}

// The same losses as with checkpoints of the rounded weights; the predictor is one for the base as it is
// stored.
static void test_frozen_dtype(void **state) {
    (void)state;
    narrow("base/final/model", "base_bf16");
    narrow("aux/final/model", "aux_bf16");
    train_expect(0, ARGS("kvp.yaml", "-o", "frozen", "-s", "freeze_aux=true", "-s", "frozen_dtype=bf16"));
    train_expect(0, ARGS("kvp.yaml", "-o", "rounded", "-s", "freeze_aux=true", "-s", "base=base_bf16", "-s",
                         "aux=aux_bf16"));
    train_expect(0, ARGS("kvp.yaml", "-o", "stored", "-s", "freeze_aux=true"));
    for (int64_t step = 1; step <= 20; step += 19) {
        const double a = metric("frozen", step, "loss"), b = metric("rounded", step, "loss"),
                     c = metric("stored", step, "loss");
        const double allowed = train_allowed("frozen", step, b);
        rounding_expect("loss", a, b, allowed);
        assert_true(fabs(a - c) > allowed && fabs(a - c) < 0.05 * c);
    }
    assert_true(same_base("frozen", "stored"));
    assert_false(same_base("frozen", "rounded"));
    // final/ has the aux as it was.
    assert_true(same_file("frozen/final/aux/model.safetensors", "aux/final/model/model.safetensors"));
    // Weights are not to change on the way.
    assert_int_equal(system("rm -r frozen/final"), 0);
    train_refuse("key `frozen_dtype`: found `stored`, expected `bf16`",
                 ARGS("kvp.yaml", "-o", "frozen", "--resume", "-s", "freeze_aux=true"));
    train_expect(0, ARGS("base.yaml", "--dry-run", "-s", "frozen_dtype=bf16")); // nothing is frozen there
    assert_non_null(strstr(train_output(), "key `frozen_dtype`: without effect"));
    train_refuse("key `frozen_dtype`", ARGS("kvp.yaml", "-o", "x", "-s", "frozen_dtype=f64"));
}

// An aux of the base's layers starts from them as they are stored, frozen or not.
static void test_frozen_dtype_of_layers(void **state) {
    (void)state;
    put_file("layers.yaml", "task: kvp\noutput: layers\ndata: {train: shard.h5, seq_len: 16, batch_size: 8}\n"
                            "base: base/final/model\npredictor: {mapping: pruned, keep: 0.5}\n"
                            "train: {steps: 0, lr: 5e-3, log_every: 1}\n");
    train_expect(0, ARGS("layers.yaml"));
    train_expect(0, ARGS("layers.yaml", "-o", "layers_bf16", "-s", "frozen_dtype=bf16"));
    train_expect(
        0, ARGS("layers.yaml", "-o", "layers_frozen", "-s", "frozen_dtype=f16", "-s", "freeze_aux=true"));
    assert_true(same_file("layers/final/aux/model.safetensors", "layers_bf16/final/aux/model.safetensors"));
    assert_true(same_file("layers/final/aux/model.safetensors", "layers_frozen/final/aux/model.safetensors"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpointing_leaves_the_same_bits),
        cmocka_unit_test(test_checkpointing_may_change),
        cmocka_unit_test(test_frozen_dtype),
        cmocka_unit_test(test_frozen_dtype_of_layers),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}
