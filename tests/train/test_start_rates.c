// A start from least squares that training does not undo: each map, and the aux, moves at a rate by what the fit left
// unexplained; of a pair whose fit is good the loss does not rise above where it starts, as it does at full rates.
#include "data/checkpoint/checkpoint.h"
#include "data/file/content.h"
#include "tests/support/train.h"
#include "train/task/start_rates.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_LAYERS = 3 };

static const char full[] = "predictor.least_squares_rates=full";

// The aux is the base itself: what the layers read explains them. Of mixed.yaml layer 2 has to make do with layer 1.
static int set_up(void **state) {
    if (train_setup(state)) return -1;
    put_file("fit.yaml", "extends: kvp.yaml\noutput: fit\naux: base/final/model\n"
                         "data: {validation: shard.h5}\n"
                         "predictor: {mapping: explicit, layers: [0, 1, 2], init: least_squares}\n"
                         "loss: {base: 0, aux: 0, kl: 1, z_loss: 0}\n"
                         "train: {steps: 60, warmup_steps: 50, validate_every: 5, validation_tokens: 400}\n");
    put_file("mixed.yaml", "extends: fit.yaml\npredictor: {layers: [0, 1, 1]}\n");
    return 0;
}

static void assert_said(const char *text) {
    if (!strstr(train_output(), text)) fail_msg("expected \"%s\" in\n%s", text, train_output());
}

static void assert_not_said(const char *text) {
    if (strstr(train_output(), text)) fail_msg("did not expect \"%s\" in\n%s", text, train_output());
}

// ---- What it is for ------------------------------------------------------------------------------------

// The validation losses of a run: the first, and the highest of those behind.
static void read_losses(const char *run, double *first, double *highest) {
    char path[64], line[2048];
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    *first = (double)NAN, *highest = 0;
    while (fgets(line, sizeof line, file)) {
        json_t *root = json_loads(line, 0, NULL);
        const json_t *loss = json_object_get(json_object_get(root, "validation"), "loss");
        if (loss && isnan(*first))
            *first = json_number_value(loss);
        else if (loss)
            *highest = fmax(*highest, json_number_value(loss));
        json_decref(root);
    }
    fclose(file);
}

static void test_not_undone(void **state) {
    (void)state;
    static const char *const seeds[] = {"seed=1", "seed=2", "seed=3"}, *const configs[] = {"fit.yaml",
                                                                                           "mixed.yaml"};
    for (int i = 0; i < 6; i++) {
        double first, highest;
        const char *config = configs[i / 3], *seed = seeds[i % 3];
        train_expect(0, ARGS(config, "-o", "calm", "--force", "-s", seed));
        read_losses("calm", &first, &highest);
        if (!(highest <= first)) fail_msg("%s, %s: %g at first, then up to %g", config, seed, first, highest);
        if (i / 3 == 1) continue;
        train_expect(0, ARGS(config, "-o", "shaken", "--force", "-s", seed, "-s", full));
        read_losses("shaken", &first, &highest);
        if (!(highest > 5 * first)) fail_msg("%s: at full rates %g, then %g at most", seed, first, highest);
    }
}

// ---- How far weights move ------------------------------------------------------------------------------

// √(2 (1 - R²)) of every map, as least_squares.json has it, and of the aux.
struct scales {
    double map[2][N_LAYERS], aux;
};

static struct scales read_scales(const char *run) {
    struct scales s = {0};
    char path[64];
    double sum = 0;
    snprintf(path, sizeof path, "%s/least_squares.json", run);
    json_t *root = json_load_file(path, 0, NULL);
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < N_LAYERS; i++) {
            const json_t *list = json_object_get(root, side ? "values" : "keys");
            assert_int_equal(json_array_size(list), N_LAYERS);
            const double rest = 1 - json_number_value(json_array_get(list, i));
            s.map[side][i] = fmin(fmax(sqrt(2 * rest), KV_LEAST_RATE), 1);
            sum += rest;
        }
    s.aux = fmin(fmax(sqrt(sum / N_LAYERS), KV_LEAST_RATE), 1);
    json_decref(root);
    return s;
}

// The farthest that a weight of `name` moved from one checkpoint of predictors or models to another.
static double moved(kv_param *const *before, kv_param *const *after, int64_t n, const char *name) {
    double most = -1;
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(before[i]->name, name) != 0) continue;
        const float *a = before[i]->data, *b = after[i]->data;
        for (int64_t j = 0; j < kv_param_size(before[i]); j++)
            most = fmax(most, fabs((double)b[j] - (double)a[j]));
    }
    assert_true(most >= 0);
    return most;
}

// The rate, but for what float32 keeps of weights of about 1.
static void expect_moved(const char *name, double found, double rate) {
    if (fabs(found - rate) > 1e-3 * rate + 1e-6) fail_msg("%s moved by %g, expected %g", name, found, rate);
}

static kv_predictor *load_maps(const char *run, const kv_model_spec *spec) {
    char path[64];
    kv_predictor *predictor;
    kv_error err = {0};
    snprintf(path, sizeof path, "%s/final/predictor", run);
    if (kv_predictor_load(path, spec, spec, NULL, NULL, &predictor, &err) != KV_OK)
        fail_msg("%s", err.message);
    return predictor;
}

static kv_model *load_aux(const char *run) {
    char path[64];
    kv_model *model;
    kv_error err = {0};
    snprintf(path, sizeof path, "%s/final/aux", run);
    if (kv_checkpoint_load_trainable(path, &model, &err) != KV_OK) fail_msg("%s", err.message);
    return model;
}

// AdamW's first step is the rate, whatever the gradient.
static void test_first_step(void **state) {
    (void)state;
    static const char *const common[] = {"train={lr: 1e-2, lr_aux: 2e-2, warmup_steps: 0, weight_decay: 0}"};
    kv_param *a[64], *b[64];
    train_expect(0, ARGS("mixed.yaml", "-o", "none", "-s", common[0], "-s", "train.steps=0"));
    train_expect(0, ARGS("mixed.yaml", "-o", "one", "-s", common[0], "-s", "train.steps=1"));
    const struct scales s = read_scales("one");
    assert_true(s.map[0][0] < 0.1 && s.map[0][2] > 0.4 && s.map[0][2] != s.map[1][2]);
    kv_model *aux_a = load_aux("none"), *aux_b = load_aux("one");
    kv_predictor *maps_a = load_maps("none", &aux_a->spec), *maps_b = load_maps("one", &aux_a->spec);
    const int64_t n = kv_predictor_params(maps_a, a);
    kv_predictor_params(maps_b, b);
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < N_LAYERS; i++)
            for (int bias = 0; bias < 2; bias++) {
                char name[32];
                snprintf(name, sizeof name, "%s.%d.%s", side ? "value" : "key", i, bias ? "bias" : "weight");
                expect_moved(name, moved(a, b, n, name), 1e-2 * s.map[side][i]);
            }
    const int64_t n_aux = kv_model_params(aux_a, a);
    kv_model_params(aux_b, b);
    expect_moved("aux", moved(a, b, n_aux, "layers.0.k"), 2e-2 * s.aux);
    char text[160];
    snprintf(text, sizeof text, "maps %.3g to %.3g, aux %.3g at most; warm-up of 0 steps\n",
             1e-2 * s.map[0][0], 1e-2 * fmax(s.map[0][2], s.map[1][2]), 2e-2 * s.aux);
    train_expect(0, ARGS("mixed.yaml", "-o", "one", "--force", "-s", common[0], "-s", "train.steps=1"));
    assert_said(text);
    kv_predictor_free(maps_a);
    kv_predictor_free(maps_b);
    kv_model_free(aux_a);
    kv_model_free(aux_b);
}

// ---- Going on ------------------------------------------------------------------------------------------

static bool same_maps(const char *a, const char *b) {
    char x[96], y[96];
    snprintf(x, sizeof x, "%s/final/predictor/predictor.safetensors", a);
    snprintf(y, sizeof y, "%s/final/predictor/predictor.safetensors", b);
    return same_file(x, y);
}

static void cut(const char *run, const char *command) {
    char all[256];
    snprintf(all, sizeof all, "rm -rf %s && cp -r whole %s && rm -r %s/final && %s", run, run, run, command);
    assert_int_equal(system(all), 0);
}

static void test_going_on(void **state) {
    (void)state;
    train_expect(0, ARGS("mixed.yaml", "-o", "whole", "-s", "train.steps=20"));
    cut("cut", "true");
    train_expect(0, ARGS("mixed.yaml", "-o", "cut", "--resume", "-s", "train.steps=20"));
    assert_said("resuming from cut/checkpoints/step-000016");
    assert_not_said("explained variance");
    assert_true(same_maps("cut", "whole"));
    // A run from before there were such rates goes on at those it had.
    cut("older", "true");
    json_t *fit = json_load_file("older/least_squares.json", 0, NULL);
    assert_int_equal(json_object_del(fit, "rates"), 0);
    assert_int_equal(json_dump_file(fit, "older/least_squares.json", 0), 0);
    json_decref(fit);
    train_expect(0, ARGS("mixed.yaml", "-o", "older", "--resume", "-s", "train.steps=20"));
    assert_false(same_maps("older", "whole"));
    cut("lost", "rm lost/least_squares.json");
    train_refuse("lost/least_squares.json",
                 ARGS("mixed.yaml", "-o", "lost", "--resume", "-s", "train.steps=20"));
    cut("short",
        "echo '{\"rates\": \"residual\", \"keys\": [1], \"values\": [1, 1, 1]}' > short/least_squares.json");
    train_refuse("short/least_squares.json: 'keys'",
                 ARGS("mixed.yaml", "-o", "short", "--resume", "-s", "train.steps=20"));
    train_refuse("key `predictor.least_squares_rates`: found `full`, expected `residual`",
                 ARGS("mixed.yaml", "-o", "whole", "--resume", "-s", full, "-s", "train.steps=20"));
}

// ---- Telling -------------------------------------------------------------------------------------------

static void test_telling(void **state) {
    (void)state;
    static const char line[] = "             after the fit times √(2 (1 - R²)) of each map, ";
    train_expect(0, ARGS("fit.yaml", "-n"));
    assert_said(line);
    assert_said("of the aux by the mean of all, from 0.02 to 1\n");
    train_expect(0, ARGS("fit.yaml", "-n", "-s", "freeze_aux=true"));
    assert_said(line);
    assert_not_said("of the aux by");
    train_expect(0, ARGS("fit.yaml", "-n", "-s", full));
    assert_not_said(line);
    train_expect(0, ARGS("fit.yaml", "-n", "-s", "predictor.init=random"));
    assert_not_said(line);
    train_expect(0, ARGS("fit.yaml", "-o", "plain", "-s", full, "-s", "train.steps=2"));
    assert_not_said("by what the fit left unexplained");
    train_expect(0, ARGS("kvp.yaml", "-n", "-s", full));
    assert_said("key `predictor.least_squares_rates`: without effect: only predictor.init: least_squares");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_not_undone), cmocka_unit_test(test_first_step),
                                       cmocka_unit_test(test_going_on), cmocka_unit_test(test_telling)};
    return cmocka_run_group_tests(tests, set_up, train_teardown);
}
