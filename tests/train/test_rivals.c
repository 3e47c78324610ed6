// Rivals of predictors: language models that the base teaches, too. What is logged is the loss; logits from a cache
// teach as the base at hand does; a run goes on with the teacher it began with; their files may extend those of the
// predictors; and what cannot teach is refused by name.
#include "data/checkpoint/checkpoint.h"
#include "data/file/content.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/train.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static const char rival_yaml[] = "extends: kvp.yaml\n"
                                 "task: lm\n"
                                 "output: rival\n"
                                 "model: {from: checkpoint, path: aux/final/model}\n";

static int setup(void **state) {
    if (train_setup(state)) return -1;
    put_file("rival.yaml", rival_yaml);
    put_file("fixed.yaml", "extends: rival.yaml\ndata: {packing: fixed}\ntrain: {steps: 15}\n");
    return 0;
}

static void kvdata_cache(const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "%s cache --seq-len 16 --dtype f32 %s > printed.txt 2>&1",
             getenv("KVDATA"), arguments);
    const int status = system(command);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail_msg("kvdata %s failed", arguments);
}

static char *content(const char *path) {
    char *text;
    size_t size;
    kv_error err = {0};
    if (kv_read_file(path, 1 << 20, &text, &size, &err) != KV_OK) fail_msg("%s", err.message);
    return text;
}

// The terms logged of held-out text after that step.
static void held_out(const char *run, int64_t step, const char *const *terms, int n, double *values) {
    char path[PATH_MAX], line[4096];
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (int i = 0; i < n; i++) values[i] = (double)NAN;
    while (fgets(line, sizeof line, file)) {
        json_t *root = json_loads(line, 0, NULL);
        const json_t *found = json_object_get(root, "validation");
        if (found && json_integer_value(json_object_get(root, "step")) == step)
            for (int i = 0; i < n; i++) values[i] = json_number_value(json_object_get(found, terms[i]));
        json_decref(root);
    }
    fclose(file);
}

// kvp.yaml: loss {base: 1, kl: 1, z_loss: 1e-4}, the aux and everything of the predictors left behind.
static void test_the_predictors_file(void **state) {
    (void)state;
    train_expect(0, ARGS("rival.yaml"));
    for (int64_t step = 1; step <= 20; step += 19) {
        const double ce = metric("rival", step, "cross_entropy"), kl = metric("rival", step, "kl"),
                     z = metric("rival", step, "z_loss"), loss = metric("rival", step, "loss");
        assert_true(ce > 0 && kl > 0 && z > 0);
        rounding_expect("loss", loss, ce + kl + 1e-4 * z,
                        1e-5 * loss); // of numbers with 9 digits, in float32
        assert_true(isnan(metric("rival", step, "base")));
    }
    assert_true(metric("rival", 20, "kl") < metric("rival", 1, "kl"));
    char *text = content("rival/config.yaml");
    static const char *const gone[] = {"aux:", "predictor", "consistency", "freeze_aux", "hidden"};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        if (strstr(text, gone[i])) fail_msg("%s in %s", gone[i], text);
    assert_non_null(strstr(text, "base: base/final/model"));
    free(text);
    kv_model *model;
    kv_error err = {0};
    if (kv_checkpoint_load("rival/final/model", &model, &err) != KV_OK) fail_msg("%s", err.message);
    assert_int_equal(model->spec.n_layers, 2);
    kv_model_free(model);
    // The same by overrides alone; and back.
    train_expect(0, ARGS("kvp.yaml", "-o", "other", "-s", "task=lm", "-s",
                         "model={from: checkpoint, path: aux/final/model}"));
    assert_true(same_file("rival/final/model/model.safetensors", "other/final/model/model.safetensors"));
    train_expect(0, ARGS("rival.yaml", "--dry-run", "-s", "task=kvp", "-s", "aux=aux/final/model"));
    // What stands beside the task, or nearer, was meant.
    train_refuse("key `aux`: found a key without effect, expected it only with task: kvp",
                 ARGS("rival.yaml", "-o", "x", "-s", "aux=aux/final/model"));
    put_file("beside.yaml", "extends: rival.yaml\noutput: x\ntask: lm\npredictor: {rank: 2}\n");
    train_refuse("beside.yaml:4: key `predictor`: found a key without effect", ARGS("beside.yaml"));
}

// What is logged of held-out text is the same loss of it, wherever the logits of training come from.
static void test_held_out_text(void **state) {
    (void)state;
    kvdata_cache("--base base/final/model --top-k 32 --out cache shard.h5");
    put_file("held.yaml", "extends: fixed.yaml\ndata: {validation: shard.h5}\n"
                          "train: {validate_every: 5, validation_tokens: 832, steps: 5}\n");
    train_expect(0, ARGS("held.yaml", "--force", "-o", "online"));
    train_expect(0,
                 ARGS("held.yaml", "--force", "-o", "cached", "-s", "teacher=cached", "-s", "cache=cache"));
    static const char *const terms[] = {"loss", "cross_entropy", "kl", "z_loss"};
    double online[4], cached[4];
    held_out("online", 5, terms, 4, online);
    held_out("cached", 5, terms, 4, cached);
    rounding_expect("loss", online[0], online[1] + online[2] + 1e-4 * online[3], 1e-5 * online[0]);
    for (int i = 0; i < 4; i++)
        rounding_expect(terms[i], cached[i], online[i], train_allowed("online", 6, online[i]));
}

// What a recipe says of the predictors' loss it says of their rival's; the rate is that of their aux.
static void test_recipe(void **state) {
    (void)state;
    put_file("ours.yaml",
             "recipe: ours\ntask: kvp\noutput: ours\nbase: base/final/model\naux: aux/final/model\n"
             "data: {train: shard.h5, seq_len: 16, batch_size: 8}\n"
             "train: {steps: 6, warmup_steps: 2, lr_aux: 7e-3, log_every: 1}\n");
    put_file("rival_of_ours.yaml", "extends: ours.yaml\ntask: lm\noutput: rival_of_ours\n"
                                   "model: {from: checkpoint, path: aux/final/model}\n");
    train_expect(0, ARGS("rival_of_ours.yaml"));
    assert_non_null(strstr(train_output(), "ours: loss.base 0, loss.kl 1, train.lr 1.0e-2\n"));
    const double loss = metric("rival_of_ours", 1, "loss");
    rounding_expect("loss", loss, metric("rival_of_ours", 1, "kl"), 1e-6 * loss);
    assert_true(metric("rival_of_ours", 1, "cross_entropy") > 0); // looked at, not learned from
    train_expect(0, ARGS("rival_of_ours.yaml", "-n", "-s", "recipe=paper", "-s", "train.lr=1e-3"));
    assert_non_null(
        strstr(train_output(), "recipe       paper: loss.base 1, loss.kl 0, train.lr 1e-3 (set)\n"));
}

static void test_dry_run(void **state) {
    (void)state;
    train_expect(0, ARGS("rival.yaml", "--dry-run", "-s", "loss.kl_temperature=2"));
    assert_non_null(strstr(train_output(), "teacher      base/final/model: 3 layers, dim 16"));
    assert_non_null(strstr(train_output(), "loss         1 · cross-entropy + 1 · kl (temperature 2)\n"));
    train_expect(0, ARGS("rival.yaml", "--dry-run", "-s", "loss.kl=0"));
    assert_null(strstr(train_output(), "teacher      "));
    assert_null(strstr(train_output(), "warning")); // the predictors' base
    train_expect(0,
                 ARGS("aux.yaml", "--dry-run", "-s", "base=base/final/model", "-s", "loss.kl_temperature=2"));
    assert_non_null(strstr(train_output(), "key `base`: without effect: only loss.kl above 0 teaches"));
    assert_non_null(strstr(train_output(), "key `loss.kl_temperature`: 2 without effect"));
}

// All terms of all steps of two runs.
static void expect_same_losses(const char *a, const char *b) {
    static const char *const terms[] = {"loss", "cross_entropy", "kl", "z_loss", "grad_norm"};
    for (int64_t step = 1; step <= 15; step++)
        for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
            const double x = metric(a, step, terms[i]), y = metric(b, step, terms[i]);
            rounding_expect(terms[i], y, x, train_allowed(a, step, x));
        }
    assert_true(metric(a, 15, "loss") < metric(a, 1, "loss"));
}

#define CACHED "-s", "teacher=cached", "-s", "cache=cache"

// All of the base's logits: what it would give itself. The predictors' cache will do, with all it holds besides.
static void test_cached_as_online(void **state) {
    (void)state;
    static const char *const temperatures[] = {"1", "2.5"};
    for (int i = 0; i < 2; i++) {
        char arguments[128], key[64];
        snprintf(arguments, sizeof arguments,
                 "--base base/final/model %s --top-k 32 --temperature %s --force --out cache shard.h5",
                 i ? "" : "--aux aux/final/model", temperatures[i]);
        snprintf(key, sizeof key, "loss.kl_temperature=%s", temperatures[i]);
        kvdata_cache(arguments);
        train_expect(0, ARGS("fixed.yaml", "--force", "-o", "online", "-s", key));
        train_expect(0, ARGS("fixed.yaml", "--force", "-o", "cached", "-s", key, CACHED));
        expect_same_losses("online", "cached");
        train_expect(0, ARGS("fixed.yaml", "--dry-run", "-s", key, CACHED));
        assert_non_null(strstr(train_output(), "32 logits a token; in memory: no teacher"));
        train_expect(0, ARGS("fixed.yaml", "--dry-run", "-s", key, "-s", "data.validation=shard.h5", CACHED));
        assert_non_null(strstr(train_output(), "in memory: the teacher"));
    }
    train_refuse("key `loss.kl_temperature`: found 1, expected 2.5", ARGS("fixed.yaml", "-o", "x", CACHED));
}

static void test_goes_on_with_its_teacher(void **state) {
    (void)state;
    kv_error err = {0};
    train_expect(0, ARGS("rival.yaml", "--force", "-o", "whole"));
    train_expect(0, ARGS("rival.yaml", "--force", "-o", "parts"));
    assert_int_equal(kv_remove_tree("parts/final", &err), KV_OK);
    train_expect(0, ARGS("aux.yaml", "--force", "-o", "base2", "-s", "model.n_layers=3"));
    train_refuse("parts/checkpoints/step-000016: taught by a base of fingerprint",
                 ARGS("rival.yaml", "--resume", "-o", "parts", "-s", "base=base2/final/model"));
    // The same under another name.
    assert_int_equal(system("cp -r base/final/model moved"), 0);
    train_expect(0, ARGS("rival.yaml", "--resume", "-o", "parts", "-s", "base=moved"));
    assert_non_null(strstr(train_output(), "other paths than before in base"));
    assert_true(same_file("whole/final/model/model.safetensors", "parts/final/model/model.safetensors"));
    assert_true(same_file("whole/final/teacher.json", "parts/final/teacher.json"));
    train_refuse("key `loss.kl`: found `2`, expected `1` as in parts/config.yaml",
                 ARGS("rival.yaml", "--resume", "-o", "parts", "-s", "loss.kl=2", "-s", "train.steps=30"));
}

static void test_refusals(void **state) {
    (void)state;
    put_file("alone.yaml", "extends: aux.yaml\noutput: x\n");
    train_refuse("key `base`: found nothing, expected a value: with loss.kl: the model whose logits teach",
                 ARGS("alone.yaml", "-s", "loss.kl=1"));
    train_refuse("key `base`: model: nowhere: No such file",
                 ARGS("rival.yaml", "-o", "x", "-s", "base=nowhere"));
    train_refuse("key `model.path`: model: nowhere: No such file",
                 ARGS("rival.yaml", "-o", "x", "-s", "model.path=nowhere"));
    train_refuse("key `loss`: found base and kl both 0, expected one above 0: the model would not learn",
                 ARGS("rival.yaml", "-o", "x", "-s", "loss={base: 0, kl: 0}"));
    train_refuse("key `loss.kl`: found -1, expected 0 to", ARGS("rival.yaml", "-o", "x", "-s", "loss.kl=-1"));
    train_refuse("key `cache`: found nothing", ARGS("rival.yaml", "-o", "x", "-s", "teacher=cached"));
    train_refuse("key `data.packing`: found stream, expected fixed", ARGS("rival.yaml", "-o", "x", CACHED));
    // 40 tokens are more than the text's 32, which the base may have and a rival of it needs, too.
    make_shard("wide.h5", 40, 1);
    train_expect(0, ARGS("base.yaml", "-o", "wide", "-s", "data.train=wide.h5", "-s", "train.steps=1"));
    train_refuse(
        "key `base`: wide/final/model has a vocabulary of 40 tokens, expected 32 as aux/final/model has",
        ARGS("rival.yaml", "-o", "x", "-s", "base=wide/final/model"));
    train_refuse(
        "key `base`: wide/final/model has a vocabulary of 40 tokens, expected 32 as the new model has",
        ARGS("alone.yaml", "-s", "loss.kl=1", "-s", "base=wide/final/model"));
    // A context shorter than the text's rows.
    train_expect(0, ARGS("base.yaml", "-o", "short", "-s", "model.context_length=16", "-s", "train.steps=1"));
    train_refuse(
        "key `data.seq_len`: found 20 tokens, expected at most the context of the model short/final/model",
        ARGS("rival.yaml", "-o", "x", "-s", "base=short/final/model", "-s", "data.seq_len=20"));
    kvdata_cache("--base base/final/model --out bare shard.h5");
    train_refuse("key `loss.kl`: found 1, but bare holds no logits",
                 ARGS("fixed.yaml", "-o", "x", CACHED, "-s", "cache=bare"));
    kvdata_cache("--base aux/final/model --top-k 4 --out small shard.h5");
    train_refuse("small was made with a base of another shape",
                 ARGS("fixed.yaml", "-o", "x", CACHED, "-s", "cache=small"));
    train_expect(0, ARGS("base.yaml", "-o", "twin", "-s", "seed=2", "-s", "train.steps=1"));
    kvdata_cache("--base twin/final/model --top-k 4 --out twins shard.h5");
    train_refuse("twins was made with a base of fingerprint",
                 ARGS("fixed.yaml", "-o", "x", CACHED, "-s", "cache=twins"));
    assert_false(kv_path_exists("x"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_predictors_file),
        cmocka_unit_test(test_recipe),
        cmocka_unit_test(test_dry_run),
        cmocka_unit_test(test_held_out_text),
        cmocka_unit_test(test_cached_as_online),
        cmocka_unit_test(test_goes_on_with_its_teacher),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
