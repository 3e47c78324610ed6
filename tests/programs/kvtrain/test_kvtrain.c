// kvtrain as its users see it: runs that work, and runs that are stopped and go on.
#include "core/flops.h"
#include "data/checkpoint/checkpoint.h"
#include "data/file/content.h"
#include "data/file/path.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/train.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- Training ------------------------------------------------------------------------------------------

static void test_learns(void **state) {
    (void)state;
    assert_true(metric("base", 1, "loss") > 3);
    assert_true(metric("base", 40, "loss") < 0.6 * metric("base", 1, "loss"));
    expect_float("loss", metric("base", 40, "loss"), metric("base", 40, "cross_entropy"), 2, 5);
    assert_true(metric("base", 40, "grad_norm") > 0);
    assert_true(fabs(metric("base", 1, "lr") - 1e-6) < 1e-12);
    assert_true(fabs(metric("base", 6, "lr") - 1e-2) < 1e-12);
    assert_true(metric("base", 40, "tokens_per_second") > 0);
    // 128 tokens a step, as --dry-run counts them.
    const double flops = metric("base", 40, "gflops_per_second") / metric("base", 40, "tokens_per_second");
    const kv_model_spec spec = {.vocab_size = TEST_VOCAB,
                                .model_dim = 16,
                                .head_dim = 8,
                                .n_layers = 3,
                                .layers = {{2, 1, 32}, {2, 1, 32}, {2, 1, 32}}};
    assert_float_equal(flops, 1e-9 * (double)kv_flops_lm_step(&spec, NULL, 8, 16, false) / 128, 1e-4 * flops);
    assert_true(kv_path_exists("base/final/model/config.json"));
    assert_true(kv_path_exists("base/checkpoints/step-000015/optimizer.h5"));
    assert_true(kv_path_exists("base/checkpoints/step-000030/state.json"));
    assert_nothing_half_written();
}

static void test_same_seed_same_bits(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "again"));
    assert_true(same_file("base/final/model/model.safetensors", "again/final/model/model.safetensors"));
    train_expect(0, ARGS("base.yaml", "-o", "other", "-s", "seed=2"));
    assert_false(same_file("base/final/model/model.safetensors", "other/final/model/model.safetensors"));
    // The resolved configuration of a run says everything.
    train_expect(0, ARGS("again/config.yaml", "-o", "third"));
    assert_true(same_file("base/final/model/model.safetensors", "third/final/model/model.safetensors"));
}

static void test_keeps_last_checkpoints(void **state) {
    (void)state;
    train_expect(
        0, ARGS("base.yaml", "-o", "kept", "-s", "train.checkpoint_every=5", "-s", "train.keep_last=1"));
    assert_true(kv_path_exists("kept/checkpoints/step-000035"));
    assert_false(kv_path_exists("kept/checkpoints/step-000030"));
    assert_false(kv_path_exists("kept/checkpoints/step-000040")); // final/ takes its place
}

// Gradients of micro-batches add up to the batch's.
static void test_micro_batches(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "micro", "-s", "data.micro_batch_size=2", "-s", "train.steps=4"));
    train_expect(0, ARGS("base.yaml", "-o", "whole", "-s", "train.steps=4"));
    train_expect(0, ARGS("kvp.yaml", "-o", "kvp_micro", "-s", "train.steps=4"));
    train_expect(0,
                 ARGS("kvp.yaml", "-o", "kvp_whole", "-s", "train.steps=4", "-s", "data.micro_batch_size=8"));
    static const char *const keys[] = {"loss", "grad_norm", "consistency", "kl"};
    for (int64_t step = 1; step <= 4; step++) {
        for (int i = 0; i < 4; i++) {
            double a = metric("kvp_micro", step, keys[i]), b = metric("kvp_whole", step, keys[i]);
            rounding_expect(keys[i], a, b, train_allowed("kvp_whole", step, b));
            if (i >= 2) continue;
            a = metric("micro", step, keys[i]), b = metric("whole", step, keys[i]);
            rounding_expect(keys[i], a, b, train_allowed("whole", step, b));
        }
    }
}

static void test_fine_tuning(void **state) {
    (void)state;
    put_file("tune.yaml", "task: lm\noutput: tuned\ndata: {train: shard.h5, seq_len: 16, batch_size: 8}\n"
                          "model: {from: checkpoint, path: base/final/model}\n"
                          "train: {steps: 2, lr: 1e-3, log_every: 1}\n");
    train_expect(0, ARGS("tune.yaml"));
    assert_true(metric("tuned", 1, "loss") < 0.6 * metric("base", 1, "loss"));
    train_expect(0, ARGS("tune.yaml", "-o", "pruned", "-s", "model={from: pruned, keep: 0.5}"));
    kv_model_spec spec;
    kv_error err;
    assert_int_equal(kv_checkpoint_spec("pruned/final/model", &spec, &err), KV_OK);
    assert_int_equal(spec.n_layers, 2);
    // The pruned model as aux, and the map that goes with it.
    train_expect(0, ARGS("kvp.yaml", "-o", "lp", "-s", "aux=pruned/final/model", "-s", "train.steps=2", "-s",
                         "predictor={mapping: pruned, keep: 0.5}"));
    assert_true(kv_path_exists("lp/final/predictor/predictor.json"));
}

// ---- KV prediction -------------------------------------------------------------------------------------

static void test_kvp(void **state) {
    (void)state;
    train_expect(0, ARGS("kvp.yaml", "-o", "kvp_a"));
    train_expect(0, ARGS("kvp.yaml", "-o", "kvp_b"));
    assert_true(metric("kvp_a", 20, "loss") < metric("kvp_a", 1, "loss"));
    double sum = metric("kvp_a", 7, "base") + metric("kvp_a", 7, "aux") + metric("kvp_a", 7, "kl") +
                 metric("kvp_a", 7, "consistency") / 3 +
                 1e-4 * (metric("kvp_a", 7, "z_base") + metric("kvp_a", 7, "z_aux"));
    expect_float("sum of the terms", metric("kvp_a", 7, "loss"), sum, 16, sum);
    assert_true(same_file("kvp_a/final/predictor/predictor.safetensors",
                          "kvp_b/final/predictor/predictor.safetensors"));
    assert_true(same_file("kvp_a/final/aux/model.safetensors", "kvp_b/final/aux/model.safetensors"));
    assert_false(same_file("kvp_a/final/aux/model.safetensors", "aux/final/model/model.safetensors"));
    // The base is not to be touched, and nothing of it is saved again.
    assert_false(kv_path_exists("kvp_a/final/base"));
}

static void test_frozen_aux(void **state) {
    (void)state;
    train_expect(0, ARGS("kvp.yaml", "-o", "frozen", "-s", "freeze_aux=true"));
    assert_true(same_file("frozen/final/aux/model.safetensors", "aux/final/model/model.safetensors"));
    assert_true(isnan(metric("frozen", 1, "aux")));
    assert_true(metric("frozen", 20, "loss") < metric("frozen", 1, "loss"));
    train_expect(0, ARGS("kvp.yaml", "-n", "-s", "freeze_aux=true"));
    assert_non_null(strstr(train_output(), "loss.aux 1 counts as 0"));
}

// KVP-LP without a checkpoint for the aux: it starts as layers of the base, and resumes from its own.
static void test_aux_from_the_base(void **state) {
    (void)state;
    put_file("kvplp.yaml",
             "task: kvp\noutput: kvplp\ndata: {train: shard.h5, seq_len: 16, batch_size: 8}\n"
             "base: base/final/model\npredictor: {mapping: pruned, keep: 0.5}\n"
             "train: {steps: 4, lr: 5e-3, warmup_steps: 1, checkpoint_every: 2, log_every: 1}\n");
    train_expect(0, ARGS("kvplp.yaml", "-n"));
    assert_non_null(strstr(train_output(), "aux          layers of the base (trained)"));
    train_expect(
        0, ARGS("tune.yaml", "-o", "layers", "-s", "model={from: pruned, keep: 0.5}", "-s", "train.steps=0"));
    train_expect(0, ARGS("kvplp.yaml", "-o", "kvplp_0", "-s", "train.steps=0"));
    assert_true(same_file("kvplp_0/final/aux/model.safetensors", "layers/final/model/model.safetensors"));
    train_expect(0, ARGS("kvplp.yaml", "-o", "kvplp_frozen", "-s", "freeze_aux=true"));
    assert_true(
        same_file("kvplp_frozen/final/aux/model.safetensors", "layers/final/model/model.safetensors"));
    train_expect(0, ARGS("kvplp.yaml"));
    assert_false(same_file("kvplp/final/aux/model.safetensors", "layers/final/model/model.safetensors"));
    kv_error err;
    assert_int_equal(kv_remove_tree("kvplp/checkpoints/step-000004", &err), KV_OK);
    assert_int_equal(rename("kvplp/final", "kvplp_final"), 0);
    train_expect(0, ARGS("kvplp.yaml", "--resume"));
    assert_true(same_file("kvplp/final/aux/model.safetensors", "kvplp_final/aux/model.safetensors"));
    train_refuse("key `aux`: found nothing, expected a value: the model's directory",
                 ARGS("kvplp.yaml", "-o", "x", "-s", "predictor={mapping: separate}"));
    // The same map written out.
    train_expect(
        0, ARGS("kvplp.yaml", "-o", "written", "-s", "predictor={mapping: explicit, layers: [0, 0, 1]}"));
    assert_true(same_file("written/final/aux/model.safetensors", "kvplp_final/aux/model.safetensors"));
    assert_true(same_file("written/final/predictor/predictor.safetensors",
                          "kvplp_final/predictor/predictor.safetensors"));
    train_refuse("key `predictor.keep`: found a key without effect",
                 ARGS("kvplp.yaml", "-o", "x", "-s", "predictor={mapping: explicit, layers: [0, 0, 1]}", "-s",
                      "aux=aux/final/model"));
    train_refuse(
        "key `predictor.keep`: found 0.3, expected 0.25, 0.5 or 0.75",
        ARGS("kvplp.yaml", "-o", "x", "-s", "predictor={mapping: explicit, layers: [0, 0, 1], keep: 0.3}"));
}

static void expect_map(const char *run, const char *mapping) {
    char path[128], *text;
    size_t size;
    kv_error err = {0};
    snprintf(path, sizeof path, "%s/final/predictor/predictor.json", run);
    if (kv_read_file(path, 1 << 16, &text, &size, &err) != KV_OK) fail_msg("%s", err.message);
    json_t *root = json_loads(text, 0, NULL);
    char *found = json_dumps(json_object_get(root, "mapping"), JSON_COMPACT);
    assert_string_equal(found, mapping);
    free(found);
    json_decref(root);
    free(text);
}

// Three base layers, from two of a separate aux (the paper: 0 0 1) and from the base's own.
static void test_layer_maps(void **state) {
    (void)state;
    put_file("own.yaml",
             "task: kvp\noutput: own\nbase: base/final/model\n"
             "data: {train: shard.h5, seq_len: 16, batch_size: 8}\ntrain: {steps: 2, lr: 1e-3}\n");
    static const struct {
        const char *config, *keys, *mapping;
    } cases[] = {{"kvp.yaml", "predictor={mapping: uniform}", "[0,0,1]"},
                 {"kvp.yaml", "predictor={mapping: reversed}", "[1,1,0]"},
                 {"own.yaml", "predictor={mapping: uniform, keep: 0.5}", "[0,0,1]"},
                 {"own.yaml", "predictor={mapping: uniform, keep: 0.75}", "[0,1,2]"},
                 {"own.yaml", "predictor={mapping: reversed, keep: 0.5}", "[1,1,0]"},
                 {"kvp.yaml", "predictor={mapping: reversed, keep: 0.5}", "[1,1,0]"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        train_expect(
            0, ARGS(cases[i].config, "-o", "mapped", "--force", "-s", cases[i].keys, "-s", "train.steps=2"));
        expect_map("mapped", cases[i].mapping);
    }
    // An aux made of the base's layers has their weights, whatever reads them.
    train_expect(0, ARGS("own.yaml", "-o", "backwards", "-s", "freeze_aux=true", "-s",
                         "predictor={mapping: reversed, keep: 0.5}"));
    train_expect(0, ARGS("own.yaml", "-o", "forwards", "-s", "freeze_aux=true", "-s",
                         "predictor={mapping: pruned, keep: 0.5}"));
    assert_true(same_file("backwards/final/aux/model.safetensors", "forwards/final/aux/model.safetensors"));
    expect_map("forwards", "[0,0,1]");
}

static void test_kinds_of_predictors(void **state) {
    (void)state;
    static const char kind[] = "predictor={rank: 3, aux_layers: 2}";
    train_expect(0, ARGS("kvp.yaml", "-o", "kind", "--dry-run", "-s", kind));
    assert_non_null(strstr(
        train_output(),
        "keys low_rank (rank 3) from k, values low_rank (rank 3) from v; base layer reads aux layers: 0+1 0+1 1+0\n"));
    train_expect(0, ARGS("kvp.yaml", "-o", "kind", "-s", kind));
    assert_true(metric("kind", 20, "loss") < 0.9 * metric("kind", 1, "loss"));
    // On from a checkpoint it ends with the same bits; another kind does not fit it.
    kv_error err;
    train_expect(0, ARGS("kvp.yaml", "-o", "rank3", "-s", kind));
    assert_int_equal(kv_remove_tree("rank3/final", &err), KV_OK);
    train_refuse("key `predictor.rank`: found `4`, expected `3`",
                 ARGS("kvp.yaml", "-o", "rank3", "--resume", "-s", "predictor={rank: 4, aux_layers: 2}"));
    train_expect(0, ARGS("kvp.yaml", "-o", "rank3", "--resume", "-s", kind));
    assert_non_null(strstr(train_output(), "step-000016"));
    assert_true(same_file("kind/final/predictor/predictor.safetensors",
                          "rank3/final/predictor/predictor.safetensors"));
    assert_true(same_file("kind/final/aux/model.safetensors", "rank3/final/aux/model.safetensors"));
    // Solved for: from two layers more is explained than from one, and that much is learned at once.
    train_expect(0, ARGS("kvp.yaml", "-o", "one", "-s", "predictor.init=least_squares"));
    train_expect(0, ARGS("kvp.yaml", "-o", "two", "-s", "predictor={init: least_squares, aux_layers: 2}"));
    train_expect(0, ARGS("kvp.yaml", "-o", "low", "-s", "predictor={init: least_squares, rank: 1}"));
    assert_true(metric("two", 1, "consistency") < metric("one", 1, "consistency"));
    assert_true(metric("one", 1, "consistency") < metric("low", 1, "consistency"));
}

static void test_least_squares_start(void **state) {
    (void)state;
    train_expect(
        0, ARGS("kvp.yaml", "-o", "closed", "-s", "predictor.init=least_squares", "-s", "train.steps=0"));
    assert_non_null(strstr(train_output(), "explained variance"));
    assert_true(kv_path_exists("closed/final/predictor/predictor.safetensors"));
    assert_true(same_file("closed/final/aux/model.safetensors", "aux/final/model/model.safetensors"));
    train_expect(0, ARGS("kvp.yaml", "-o", "solved", "-s", "predictor.init=least_squares"));
    train_expect(0, ARGS("kvp.yaml", "-o", "drawn"));
    assert_true(metric("solved", 1, "consistency") < 0.7 * metric("drawn", 1, "consistency"));
    assert_true(metric("solved", 1, "kl") < metric("drawn", 1, "kl"));
}

// ---- Stopping and going on -----------------------------------------------------------------------------

// Starts the run, sends the signal (so many times) after some steps, and resumes: the result is that of a run left alone.
static void interrupt(const char *config, const char *run, int number, int times,
                      const char *const *weights) {
    char metrics[128], whole[128], a[256], b[256];
    snprintf(whole, sizeof whole, "%s_whole", run);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", run);
    static const char steps[] = "train.steps=300";
    train_expect(0, ARGS(config, "-s", steps, "-o", whole));
    pid_t pid = train_start(ARGS(config, "-s", steps, "-o", run), 0);
    train_wait_for_file(pid, metrics, 2000);
    // A second one keeps its hands off.
    train_refuse("another kvtrain is at work", ARGS(config, "-s", steps, "-o", run, "--force"));
    for (int i = 0; i < times; i++) assert_int_equal(kill(pid, number), 0);
    int code = train_finish(pid);
    if (code != 128 + number) fail_msg("exit status %d: %s", code, train_output());
    assert_non_null(strstr(train_output(), "--resume"));
    snprintf(a, sizeof a, "%s/final", run);
    assert_false(kv_path_exists(a));
    assert_nothing_half_written();
    train_refuse("holds a run already", ARGS(config, "-s", steps, "-o", run));
    train_expect(0, ARGS(config, "-s", steps, "-o", run, "--resume"));
    assert_non_null(strstr(train_output(), "resuming from"));
    for (int i = 0; weights[i]; i++) {
        snprintf(a, sizeof a, "%s/final/%s", run, weights[i]);
        snprintf(b, sizeof b, "%s/final/%s", whole, weights[i]);
        assert_true(same_file(a, b));
    }
    for (int64_t step = 1; step <= 300; step += 23)
        assert_true(metric(run, step, "loss") == metric(whole, step, "loss"));
    train_expect(0, ARGS(config, "-s", steps, "-o", run, "--resume"));
    assert_non_null(strstr(train_output(), "is finished"));
}

static void test_interrupted_lm(void **state) {
    (void)state;
    interrupt("base.yaml", "stopped", SIGINT, 1, ARGS("model/model.safetensors"));
}

static void test_interrupted_kvp(void **state) {
    (void)state;
    // As a terminal does that closes: from the kernel and from the shell.
    interrupt("kvp.yaml", "stopped_kvp", SIGHUP, 2,
              ARGS("aux/model.safetensors", "predictor/predictor.safetensors"));
}

// A run that was killed: the newest checkpoint counts, and what was logged after it goes.
static void test_resume_from_checkpoint(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "killed"));
    kv_error err;
    assert_int_equal(kv_remove_tree("killed/final", &err), KV_OK);
    FILE *file = fopen("killed/metrics.jsonl", "a");
    assert_non_null(file);
    fputs("{\"step\": 41, \"lo", file);
    fclose(file);
    train_expect(0, ARGS("base.yaml", "-o", "killed", "--resume", "-s", "train.log_every=10", "-s",
                         "train.checkpoint_every=7"));
    assert_non_null(strstr(train_output(), "step-000030"));
    assert_true(same_file("killed/final/model/model.safetensors", "base/final/model/model.safetensors"));
    assert_true(metric("killed", 30, "loss") == metric("base", 30, "loss"));
    assert_true(isnan(metric("killed", 31, "loss")));
    assert_true(metric("killed", 40, "loss") == metric("base", 40, "loss"));
    // What a killed run was writing goes; what is not ours stays.
    assert_int_equal(kv_remove_tree("killed/final", &err), KV_OK);
    assert_int_equal(kv_make_dirs("killed/checkpoints/step-000040.tmp.1.2/model", &err), KV_OK);
    put_file("killed/notes.tmp.txt", "mine");
    train_expect(0, ARGS("base.yaml", "-o", "killed", "--resume"));
    assert_false(kv_path_exists("killed/checkpoints/step-000040.tmp.1.2"));
    assert_true(kv_path_exists("killed/notes.tmp.txt"));
    assert_int_equal(unlink("killed/notes.tmp.txt"), 0);
    // Before its first checkpoint it starts from the beginning.
    assert_int_equal(kv_remove_tree("killed/final", &err), KV_OK);
    assert_int_equal(kv_remove_tree("killed/checkpoints", &err), KV_OK);
    train_expect(0, ARGS("base.yaml", "-o", "killed", "--resume"));
    assert_true(same_file("killed/final/model/model.safetensors", "base/final/model/model.safetensors"));
    assert_true(metric("killed", 31, "loss") == metric("base", 31, "loss"));
    train_expect(0, ARGS("base.yaml", "-o", "killed", "--force", "-s", "train.steps=3"));
    assert_false(kv_path_exists("killed/checkpoints"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_same_seed_same_bits),
        cmocka_unit_test(test_keeps_last_checkpoints),
        cmocka_unit_test(test_micro_batches),
        cmocka_unit_test(test_fine_tuning),
        cmocka_unit_test(test_kvp),
        cmocka_unit_test(test_frozen_aux),
        cmocka_unit_test(test_aux_from_the_base),
        cmocka_unit_test(test_layer_maps),
        cmocka_unit_test(test_kinds_of_predictors),
        cmocka_unit_test(test_least_squares_start),
        cmocka_unit_test(test_interrupted_lm),
        cmocka_unit_test(test_interrupted_kvp),
        cmocka_unit_test(test_resume_from_checkpoint),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}
