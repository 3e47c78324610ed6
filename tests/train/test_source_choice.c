// predictor.choose: best. The layers that explain most are found by running kvtrain, online and from a cache alike; the
// checkpoint keeps them, and a run that goes on has the bits of one that did not stop; what is asked for and is not
// there is refused by name; what it takes is what is said beforehand.
#include "core/flops.h"
#include "core/gemm.h"
#include "core/predictor/best.h"
#include "tests/support/train.h"
#include "train/run/training.h"
#include "train/task/kvp.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BASE_LAYERS = 3 };

// The base as its own aux: each layer explains itself. The near layers are other ones.
static const char own_yaml[] =
    "task: kvp\n"
    "output: own\n"
    "data: {train: shard.h5, seq_len: 16, batch_size: 4}\n"
    "base: base/final/model\n"
    "aux: base/final/model\n"
    "freeze_aux: true\n"
    "predictor: {mapping: explicit, layers: [1, 2, 0], choose: best, best_tokens: 320, ridge: 1e-9}\n"
    "loss: {aux: 0, kl: 1}\n"
    "train: {steps: 6, lr: 1e-3, warmup_steps: 1, log_every: 1, checkpoint_every: 3, keep_last: 3}\n";

static int setup(void **state) {
    if (train_setup(state)) return -1;
    put_file("own.yaml", own_yaml);
    return 0;
}

static json_t *load(const char *path) {
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);
    if (!root) fail_msg("%s: %s", path, why.text);
    return root;
}

// Entry k of the layers chosen for a base layer; -1: there is none.
static int chosen(const json_t *root, const char *side, size_t layer, size_t k) {
    const json_t *layers = json_array_get(json_object_get(json_object_get(root, side), "layers"), layer);
    const json_t *entry = json_array_get(layers, k);
    return entry ? (int)json_integer_value(entry) : -1;
}

static double explained(const json_t *root, const char *side, size_t layer, size_t aux_layer) {
    const json_t *all = json_object_get(json_object_get(root, side), "explained");
    return json_number_value(json_array_get(json_array_get(all, layer), aux_layer));
}

static void expect_said(const char *text) {
    if (!strstr(train_output(), text)) fail_msg("expected %s\nfound    %s", text, train_output());
}

// What the saved predictor reads.
static void expect_sources(const char *run, const char *const expected[BASE_LAYERS]) {
    char path[128], *text;
    snprintf(path, sizeof path, "%s/final/predictor/predictor.json", run);
    json_t *root = load(path);
    text = json_dumps(root, JSON_COMPACT);
    for (int i = 0; i < BASE_LAYERS; i++)
        if (!strstr(text, expected[i])) fail_msg("%s: expected %s\nfound    %s", path, expected[i], text);
    free(text);
    json_decref(root);
}

// ---- The choice ----------------------------------------------------------------------------------------

static void test_layers_explain_themselves(void **state) {
    (void)state;
    train_expect(0, ARGS("own.yaml", "-s", "train.steps=0"));
    expect_said("best aux layers      base layer  reads, and explains alone");
    expect_said("keys    1 (100.0 %)");
    json_t *root = load("own/best_layers.json");
    for (size_t i = 0; i < BASE_LAYERS; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            assert_int_equal(chosen(root, kv_side_names[side], i, 0), i);
            assert_int_equal(chosen(root, kv_side_names[side], i, 1), -1);
            assert_true(explained(root, kv_side_names[side], i, i) > 1 - 1e-5);
            for (size_t j = 0; j < BASE_LAYERS; j++)
                if (j != i) assert_true(explained(root, kv_side_names[side], i, j) < 1 - 1e-4);
        }
    assert_true(json_integer_value(json_object_get(root, "tokens")) == 320);
    json_decref(root);
    expect_sources("own", (const char *const[]){"\"mapping\":[0,1,2]", "", ""}); // as the paper's are written
    // All of the text, once.
    train_expect(0, ARGS("own.yaml", "--force", "-s", "train.steps=0", "-s", "predictor.best_tokens=0"));
    root = load("own/best_layers.json");
    assert_true(json_integer_value(json_object_get(root, "tokens")) > 800);
    json_decref(root);
}

// The fit reads the layers that were chosen; two of them explain no less than the better one.
static void test_fit_of_the_best(void **state) {
    (void)state;
    train_expect(0, ARGS("kvp.yaml", "-o", "best2", "-s", "train.steps=0", "-s",
                         "predictor={aux_layers: 2, choose: best, best_tokens: 320, init: least_squares, "
                         "least_squares_tokens: 320}"));
    json_t *best = load("best2/best_layers.json"), *fit = load("best2/least_squares.json");
    for (size_t i = 0; i < BASE_LAYERS; i++) {
        const int first = chosen(best, "keys", i, 0), second = chosen(best, "keys", i, 1);
        assert_true(first >= 0 && second >= 0 && first != second);
        const double alone = explained(best, "keys", i, (size_t)first);
        assert_true(alone >= explained(best, "keys", i, (size_t)second));
        assert_true(json_number_value(json_array_get(json_object_get(fit, "keys"), i)) >= alone - 1e-9);
        const json_t *read = json_array_get(json_object_get(fit, "aux_layers"), i);
        assert_int_equal(json_integer_value(json_array_get(read, 0)), first);
        assert_int_equal(json_integer_value(json_array_get(read, 1)), second);
    }
    json_decref(best);
    json_decref(fit);
}

// Hidden states; those of a prefix, of which the last one is all that enters the next layer; a source that names its
// layer stays, and the embedding.
static void test_other_sources(void **state) {
    (void)state;
    train_expect(
        0, ARGS("own.yaml", "-o", "hidden", "-s", "train.steps=1", "-s", "predictor.sources=[h, embedding]"));
    expect_sources("hidden", (const char *const[]){"[\"h0\",\"embedding\"]", "[\"h1\",\"embedding\"]",
                                                   "[\"h2\",\"embedding\"]"});
    train_expect(
        0, ARGS("own.yaml", "-o", "named", "-s", "train.steps=1", "-s", "predictor.sources=[v0, k, h2]"));
    expect_sources("named", (const char *const[]){"[\"k0\",\"v0\",\"h2\"]", "[\"k1\",\"v0\",\"h2\"]",
                                                  "[\"k2\",\"v0\",\"h2\"]"});
    put_file("prefix.yaml",
             "task: kvp\noutput: prefix\nbase: base/final/model\naux: prefix\nprefix_layers: 2\n"
             "data: {train: shard.h5, seq_len: 16, batch_size: 4}\n"
             "predictor: {choose: best, init: least_squares, least_squares_tokens: 320}\n"
             "train: {steps: 0}\n");
    train_expect(0, ARGS("prefix.yaml"));
    json_t *root = load("prefix/best_layers.json");
    assert_int_equal(chosen(root, "keys", 0, 0), -1); // exact
    assert_int_equal(chosen(root, "keys", 2, 0), 2);  // what enters layer 2 itself
    assert_int_equal(chosen(root, "values", 2, 0), 2);
    assert_int_equal(
        json_array_size(json_array_get(json_object_get(json_object_get(root, "keys"), "explained"), 2)),
        3); // h0, h1, h2
    json_decref(root);
    train_expect(0, ARGS("prefix.yaml", "-o", "both", "-s", "predictor.sources=[k, h]", "-s",
                         "train={steps: 2, lr: 1e-3}"));
    train_expect(0, ARGS("both/config.yaml", "--resume", "-s", "train.steps=4"));
}

// ---- Checkpoints ---------------------------------------------------------------------------------------

static void test_goes_on(void **state) {
    (void)state;
    train_expect(0, ARGS("own.yaml", "-o", "whole"));
    train_expect(0, ARGS("own.yaml", "-o", "parts", "-s", "train.steps=6"));
    // As if it had been stopped behind step 3.
    assert_int_equal(system("rm -r parts/final"), 0);
    train_refuse("found `2`, expected `1` as in parts/config.yaml",
                 ARGS("own.yaml", "-o", "parts", "--resume", "-s", "predictor.aux_layers=2"));
    train_expect(0, ARGS("own.yaml", "-o", "parts", "--resume"));
    expect_said("resuming");
    assert_null(strstr(train_output(), "comparing layers"));
    assert_true(same_file("whole/final/predictor/predictor.safetensors",
                          "parts/final/predictor/predictor.safetensors"));
    assert_true(same_file("whole/final/predictor/predictor.json", "parts/final/predictor/predictor.json"));
}

// The choice of a predictor that a run goes on from is not made again, which would lose what it has learned.
static void test_begins_with_a_predictor(void **state) {
    (void)state;
    train_expect(0, ARGS("own.yaml", "-o", "before"));
    train_expect(0, ARGS("own.yaml", "-o", "after", "-s", "train.steps=0", "-s", "predictor.init=checkpoint",
                         "-s", "predictor.path=before/final/predictor"));
    assert_null(strstr(train_output(), "comparing layers"));
    assert_true(same_file("before/final/predictor/predictor.safetensors",
                          "after/final/predictor/predictor.safetensors"));
    train_refuse("key `predictor.path`: found nothing, expected a value: with predictor.init: checkpoint",
                 ARGS("own.yaml", "-o", "refused", "-s", "predictor.init=checkpoint"));
}

static void kvdata_cache(const char *arguments) {
    char command[512];
    snprintf(command, sizeof command, "%s cache --seq-len 16 --dtype f32 %s > printed.txt 2>&1",
             getenv("KVDATA"), arguments);
    if (system(command) != 0) fail_msg("kvdata %s failed", arguments);
}

// Of the aux's cache as of the aux itself, also of layers that were not planned to be read; and where a cache has not what is compared, the aux is run.
static void test_from_a_cache(void **state) {
    (void)state;
    static const char *const sources[] = {"predictor.sources=[k]", "predictor.sources=[h]"};
    kvdata_cache("--base base/final/model --aux aux/final/model --out cache shard.h5");
    put_file(
        "cached.yaml",
        "extends: kvp.yaml\noutput: cached\ndata: {packing: fixed}\nfreeze_aux: true\n"
        "loss: {kl: 0}\npredictor: {mapping: explicit, layers: [0, 0, 0], choose: best, best_tokens: 320}\ntrain: {steps: 2}\n");
    for (int i = 0; i < 2; i++) {
        train_expect(0, ARGS("cached.yaml", "--force", "-o", "online", "-s", sources[i]));
        train_expect(
            0, ARGS("cached.yaml", "--force", "-s", sources[i], "-s", "teacher=cached", "-s", "cache=cache"));
        json_t *online = load("online/best_layers.json"), *cached = load("cached/best_layers.json");
        for (size_t layer = 0; layer < BASE_LAYERS; layer++)
            for (int side = 0; side < KV_SIDES; side++)
                for (size_t j = 0; j < 2; j++) {
                    const double a = explained(online, kv_side_names[side], layer, j),
                                 b = explained(cached, kv_side_names[side], layer, j);
                    if (fabs(a - b) > 1e-4 || !(a > 0)) fail_msg("%s: %g and %g", sources[i], a, b);
                }
        assert_true(json_equal(json_object_get(online, "tokens"), json_object_get(cached, "tokens")));
        json_decref(online);
        json_decref(cached);
    }
}

// ---- What is not there; what it takes ------------------------------------------------------------------

static void refuse(const char *message, const char *predictor) {
    train_refuse(message, ARGS("own.yaml", "-o", "refused", "-s", predictor));
    assert_int_equal(access("refused", F_OK), -1);
}

static void test_refusals(void **state) {
    (void)state;
    refuse("key `predictor.aux_layers`: found maps that read 4 aux layers, expected at most 3",
           "predictor.aux_layers=4");
    refuse("key `predictor.aux_layers`: found 0 (all), expected 1 or more with predictor.choose: best",
           "predictor.aux_layers=0");
    refuse("key `predictor.choose`: found best, expected nearest: all of predictor.key_sources name their "
           "layer",
           "predictor.key_sources=[k0, h1]");
    refuse("key `predictor.sources[1]`: found `h1` beside `h`, expected one or the other",
           "predictor.sources=[h, h1]");
    refuse("key `predictor.best_tokens`: found -1", "predictor.best_tokens=-1");
    train_refuse("key `predictor.aux_layers`: found maps that read 4 aux layers, expected at most 3",
                 ARGS("own.yaml", "--dry-run", "-s", "predictor.aux_layers=4"));
    train_expect(0, ARGS("own.yaml", "--dry-run", "-s", "predictor.choose=nearest", "-s",
                         "predictor.best_tokens=100"));
    expect_said("key `predictor.best_tokens`: without effect");
}

// Ctrl-C while it reads leaves nothing that is half a run.
static void test_interrupted(void **state) {
    (void)state;
    make_text("long.h5", 60000, 3);
    const pid_t child = train_start(
        ARGS("own.yaml", "-o", "stopped", "-s", "data.train=long.h5", "-s", "predictor.best_tokens=0"), 0);
    train_wait_for_file(child, "stopped/config.yaml", 1);
    kill(child, SIGINT);
    const int code = train_finish(child);
    if (code != 130) fail_msg("exit status %d: %s", code, train_output());
    expect_said("interrupted before the first step");
    assert_int_equal(access("stopped/best_layers.json", F_OK), -1);
    assert_nothing_half_written();
}

// What the start executes is what --dry-run has counted beforehand.
static void test_cost(void **state) {
    (void)state;
    kv_training run = {0};
    kv_error err = {0};
    const char *const overrides[] = {"predictor.init=least_squares", "predictor.least_squares_tokens=64"};
    if (kv_training_open(&run, "own.yaml", overrides, 2, &err)) fail_msg("%s", err.message);
    const double said = run.task->ops->start_flops(run.task);
    if (run.task->ops->load(run.task, NULL, &err)) fail_msg("%s", err.message);
    assert_int_equal(system("mkdir -p own"), 0);
    kv_gemm_flops_reset();
    if (run.task->ops->start(run.task, &err)) fail_msg("%s", err.message);
    assert_true((double)kv_gemm_flops() == said);
    const kvp_task *kvp = (const kvp_task *)run.task;
    assert_int_equal(kvp->predictor->spec.outputs[KV_KEYS][0].sources.at[0].layer, 0);
    assert_true(kv_predictor_spec_equal(&kvp->predictor->spec, &kvp->shape->spec));
    kv_training_close(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_explain_themselves),
        cmocka_unit_test(test_fit_of_the_best),
        cmocka_unit_test(test_other_sources),
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_begins_with_a_predictor),
        cmocka_unit_test(test_from_a_cache),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
