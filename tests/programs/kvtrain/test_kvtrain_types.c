// kvtrain on checkpoints of every model type and stored type, as they come: what it saves is of the same
// type. And of what type models are that come from none.
#include "data/checkpoint/checkpoint.h"
#include "data/file/path.h"
#include "tests/support/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const models[] = {"llama-untied-bf16", "llama-sharded-f16", "llama3-rope", "qwen2",
                                     "qwen3"};
enum { N_MODELS = sizeof models / sizeof *models };

static const char *model_dir(const char *name) {
    return test_path(test_path(getenv("KV_TEST_DIR"), "golden/hf"), name);
}

static kv_model *load(const char *dir) {
    kv_model *model;
    kv_error err = {0};
    if (kv_checkpoint_load(dir, &model, &err) != KV_OK) fail_msg("%s", err.message);
    return model;
}

static void expect_type(const char *dir, const char *like, int64_t n_layers) {
    kv_model *model = load(dir), *original = load(model_dir(like));
    const kv_model_spec *a = &model->spec, *b = &original->spec;
    assert_string_equal(a->model_type, b->model_type);
    assert_int_equal(a->n_layers, n_layers);
    assert_true(a->qkv_bias == b->qkv_bias && a->qk_norm == b->qk_norm && a->tied_head == b->tied_head);
    assert_memory_equal(&a->rope, &b->rope, sizeof a->rope);
    kv_model_free(model);
    kv_model_free(original);
}

static void write_configs(const char *base) {
    char text[1024];
    const char data[] = "data: {train: hf.h5, seq_len: 16, batch_size: 4}\n"
                        "train: {steps: 4, lr: 1e-3, warmup_steps: 1, checkpoint_every: 2, log_every: 1}\n";
    snprintf(text, sizeof text, "task: lm\noutput: lm\n%smodel: {from: checkpoint, path: %s}\n", data,
             model_dir(base));
    put_file("hf_lm.yaml", text);
    snprintf(text, sizeof text,
             "task: kvp\noutput: kvp\n%sbase: %s\npredictor: {mapping: pruned, keep: 0.5}\n", data,
             model_dir(base));
    put_file("hf_kvp.yaml", text);
    snprintf(text, sizeof text,
             "task: kvp\noutput: kvp\n%sbase: %s\nloss: {kl: 1}\npredictor: {init: least_squares}\n", data,
             model_dir(base));
    put_file("hf_mixed.yaml", text);
}

static void test_language_models(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        char print[17], saved[17];
        write_configs(models[i]);
        // No step: the weights are those of the checkpoint, widened.
        train_expect(0, ARGS("hf_lm.yaml", "--force", "-s", "train.steps=0"));
        expect_type("lm/final/model", models[i], 4);
        kv_model *before = load(model_dir(models[i])), *after = load("lm/final/model");
        kv_checkpoint_fingerprint(before, print);
        kv_checkpoint_fingerprint(after, saved);
        assert_string_equal(print, saved);
        kv_model_free(before);
        kv_model_free(after);
        train_expect(0, ARGS("hf_lm.yaml", "--force"));
        assert_true(metric("lm", 4, "loss") < metric("lm", 1, "loss"));
        char pruned[256];
        snprintf(pruned, sizeof pruned, "model={from: pruned, keep: 0.25, path: %s}", model_dir(models[i]));
        train_expect(0, ARGS("hf_lm.yaml", "--force", "-s", pruned));
        expect_type("lm/final/model", models[i], 1);
    }
}

// A layer-pruned aux out of the base itself; stopped after a checkpoint, it goes on from files of its own.
static void test_pruned_pairs(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        kv_error err;
        write_configs(models[i]);
        train_expect(0, ARGS("hf_kvp.yaml", "--force"));
        expect_type("kvp/final/aux", models[i], 2);
        assert_int_equal(kv_remove_tree("whole", &err), KV_OK);
        assert_int_equal(rename("kvp/final", "whole"), 0);
        assert_int_equal(kv_remove_tree("kvp/checkpoints/step-000004", &err), KV_OK);
        train_expect(0, ARGS("hf_kvp.yaml", "--resume"));
        assert_true(same_file("whole/aux/model.safetensors", "kvp/final/aux/model.safetensors"));
        assert_true(
            same_file("whole/predictor/predictor.safetensors", "kvp/final/predictor/predictor.safetensors"));
    }
}

// Types may be mixed: heads of another width and number, norms and biases on one side only.
static void test_mixed_pairs(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        char aux[256];
        write_configs(models[i]);
        snprintf(aux, sizeof aux, "aux=%s", model_dir(models[(i + 1) % N_MODELS]));
        train_expect(0, ARGS("hf_mixed.yaml", "--force", "-s", aux));
        expect_type("kvp/final/aux", models[(i + 1) % N_MODELS], 4);
        assert_true(isfinite(metric("kvp", 1, "kl")) && isfinite(metric("kvp", 4, "loss")));
    }
}

// What is made of a model has its tokenizer's files, so that it is as complete as the model was.
static void test_tokenizers_go_along(void **state) {
    (void)state;
    write_configs(models[0]);
    train_expect(0, ARGS("hf_lm.yaml", "--force", "-s", "train.steps=0"));
    put_file("lm/final/model/chat_template.jinja", "a template");
    put_file("lm/final/model/tokenizer_config.json", "{}");
    train_expect(0, ARGS("hf_kvp.yaml", "--force", "-s", "base=lm/final/model"));
    train_expect(0, ARGS("hf_lm.yaml", "--force", "-s", "output=next", "-s", "model.path=lm/final/model"));
    assert_true(same_file("lm/final/model/chat_template.jinja", "kvp/final/aux/chat_template.jinja"));
    assert_true(same_file("lm/final/model/chat_template.jinja", "next/final/model/chat_template.jinja"));
    assert_true(same_file("lm/final/model/tokenizer_config.json", "next/final/model/tokenizer_config.json"));
    assert_int_not_equal(access("next/final/model/tokenizer.json", F_OK), 0);
    assert_int_not_equal(access("next/checkpoints/step-000004/model/chat_template.jinja", F_OK), 0);
}

// ---- From scratch ----------------------------------------------------------------------------------------

static void expect_named(const char *dir, const char *type) {
    kv_model *model = load(dir);
    assert_string_equal(model->spec.model_type, type);
    kv_model_free(model);
}

static void put_openelm(const char *dir) {
    kv_error err = {0};
    kv_model *model;
    if (kv_checkpoint_load_trainable(dir, &model, &err) != KV_OK) fail_msg("%s", err.message);
    strcpy(model->spec.model_type, "openelm");
    if (kv_checkpoint_save(dir, model, &err) != KV_OK) fail_msg("%s", err.message);
    kv_model_free(model);
    expect_named(dir, "openelm");
}

// As what it is in transformers' terms, and so is what is made of it.
static void test_from_scratch(void **state) {
    (void)state;
    expect_named("base/final/model", "qwen3");
    train_expect(0, ARGS("base.yaml", "-o", "plain", "-s", "model.qk_norm=false", "-s", "train.steps=2"));
    expect_named("plain/final/model", "llama");
    train_expect(
        0, ARGS("base.yaml", "-o", "half", "-s",
                "model={from: pruned, keep: 0.5, path: base/final/model, n_layers: null, model_dim: null, "
                "head_dim: null, n_heads: null, n_kv_heads: null, ffn_dim: null, context_length: null}",
                "-s", "train.steps=2"));
    expect_named("half/final/model", "qwen3");
    assert_int_equal(access("half/final/model/generation_config.json", F_OK), 0);
}

// Runs of before models were named so: they go on, to the same bits, and predictors of before know their models.
static void test_openelm_of_before(void **state) {
    (void)state;
    static const char flat[] = "train.lr_end=1e-2", weights[] = "old/final/model/model.safetensors";
    train_expect(0, ARGS("base.yaml", "-o", "old", "-s", flat, "-s", "train.steps=6"));
    put_openelm("old/final/model");
    train_expect(0, ARGS("base.yaml", "-o", "old", "-s", flat, "-s", "train.steps=10", "--resume"));
    train_expect(0, ARGS("base.yaml", "-o", "new", "-s", flat, "-s", "train.steps=10"));
    assert_true(same_file(weights, "new/final/model/model.safetensors"));
    expect_named("old/final/model", "qwen3");
    // Its predictors, made while it was one, go on with it as the other.
    put_openelm("old/final/model");
    put_openelm("aux/final/model");
    train_expect(0, ARGS("kvp.yaml", "-o", "old_kvp", "-s", "base=old/final/model", "-s", "train.steps=2"));
    expect_named("old_kvp/final/aux", "openelm"); // what came from a checkpoint stays what it was
    train_expect(0, ARGS("kvp.yaml", "-o", "new_kvp", "-s", "base=new/final/model", "-s", "train.steps=2"));
    assert_true(same_file("old_kvp/final/predictor/predictor.safetensors",
                          "new_kvp/final/predictor/predictor.safetensors"));
    assert_true(
        same_file("old_kvp/final/predictor/predictor.json", "new_kvp/final/predictor/predictor.json"));
}

static int set_up(void **state) {
    if (train_setup(state)) return -1;
    make_shard("hf.h5", 101, 1);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_models), cmocka_unit_test(test_pruned_pairs),
        cmocka_unit_test(test_mixed_pairs),     cmocka_unit_test(test_tokenizers_go_along),
        cmocka_unit_test(test_from_scratch),    cmocka_unit_test(test_openelm_of_before),
    };
    return cmocka_run_group_tests(tests, set_up, train_teardown);
}
