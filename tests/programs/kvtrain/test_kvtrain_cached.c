// kvtrain with teacher: cached, and the least-squares start by itself: the same runs as with models at hand;
// caches of anything else refused.
#include "data/file/h5.h"
#include "data/file/path.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/train.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CACHED "-s", "teacher=cached", "-s", "cache=cache"
#define FORCE  "--force"

static void kvdata_cache(const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "%s cache %s > printed.txt 2>&1", getenv("KVDATA"), arguments);
    const int status = system(command);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail_msg("kvdata %s failed", arguments);
}

// Two shards cached in float32, all of the base's logits with them.
static int setup(void **state) {
    if (train_setup(state)) return -1;
    make_text("second.h5", 40, 6);
    kvdata_cache(
        "--base base/final/model --aux aux/final/model --seq-len 16 --dtype f32 --top-k 32 --out cache "
        "shard.h5 second.h5");
    train_expect(0, ARGS("aux.yaml", "-o", "aux2", "-s", "seed=2"));
    put_file("fixed.yaml", "extends: kvp.yaml\noutput: fixed\ndata: {packing: fixed}\ntrain: {steps: 15}\n");
    return 0;
}

// All terms of the first steps of two runs.
static void expect_same_terms(const char *a, const char *b, int64_t n_steps) {
    static const char *const terms[] = {"loss", "base", "aux", "consistency", "kl", "z_base", "grad_norm"};
    for (int64_t step = 1; step <= n_steps; step++)
        for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
            const double x = metric(a, step, terms[i]), y = metric(b, step, terms[i]);
            assert_int_equal(isnan(x), isnan(y));
            char what[64];
            snprintf(what, sizeof what, "%s at step %d", terms[i], (int)step);
            if (!isnan(x)) rounding_expect(what, y, x, train_allowed(a, step, x));
        }
    assert_true(metric(a, 15, "loss") != metric(a, 1, "loss"));
}

static void expect_same_losses(const char *a, const char *b) {
    expect_same_terms(a, b, 15);
    assert_true(metric(a, 15, "loss") < metric(a, 1, "loss"));
}

// Explained variances, parts of 1, of keys and values that went through a model's few operations in float32.
static void expect_variance(double found, double expected) {
    rounding_expect("explained variance", found, expected, rounding_of_sum(16, 1));
}

// The loss on held-out text after that step.
static double validation(const char *run, int64_t step) {
    char path[PATH_MAX], line[4096];
    double value = (double)NAN;
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        json_t *root = json_loads(line, 0, NULL);
        const json_t *found = json_object_get(json_object_get(root, "validation"), "loss");
        if (found && json_integer_value(json_object_get(root, "step")) == step)
            value = json_number_value(found);
        json_decref(root);
    }
    fclose(file);
    return value;
}

// ---- The same runs -------------------------------------------------------------------------------------

static void test_same_losses_as_online(void **state) {
    (void)state;
    static const char *const variants[][4] = {
        {"-s", "freeze_aux=true"},
        {"-s", "freeze_aux=false"},
        {"-s", "freeze_aux=true", "-s", "loss={base: 0, kl: 0}"},
        {"-s", "freeze_aux=false", "-s", "loss={base: 0, kl: 0, aux: 0.5}"},
        {"-s", "freeze_aux=true", "-s", "loss={consistency: 0}"},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const char *const *v = variants[i];
        const char *first = v[2] ? v[2] : "-s", *second = v[3] ? v[3] : "seed=1";
        train_expect(0, ARGS("fixed.yaml", FORCE, "-o", "online", v[0], v[1], first, second));
        train_expect(0, ARGS("fixed.yaml", FORCE, "-o", "cached", v[0], v[1], first, second, CACHED));
        expect_same_losses("online", "cached");
    }
}

// Predictors of every part; of a prefix the base is in memory, whatever the losses. Rates that follow a fit move by more
// than its rounding where it is nearly perfect: they are left out. An error of keys and values has a kink at 0, where
// rounding decides on a gradient's sign: with that loss the first step is compared.
static void test_parts(void **state) {
    (void)state;
    static const struct {
        const char *config, *first, *second;
    } cases[] = {
        {"fixed.yaml", "freeze_aux=true",
         "predictor={sources: [h, embedding], aux_layers: 0, exact_layers: 1}"},
        {"fixed.yaml", "freeze_aux=true", "predictor={key_sources: [v, k], token_table: full, adapt: q}"},
        {"fixed.yaml", "freeze_aux=false",
         "predictor={map: mlp, width: 3, init: least_squares, least_squares_rates: full, sources: [h]}"},
        {"fixed.yaml", "freeze_aux=false",
         "predictor={init: least_squares, least_squares_rates: full, aux_layers: 0}"},
        {"prefix.yaml", "prefix_layers=1", "predictor={token_table: 2, adapt: q}"},
        {"prefix.yaml", "prefix_layers=2",
         "predictor={init: least_squares, least_squares_rates: full, adapt: lora, adapt_rank: 2}"},
        {"prefix.yaml", "loss={base: 0, kl: 0}", "predictor={sources: [k, h0, embedding]}"},
        {"prefix.yaml", "prefix_layers=2",
         "predictor={heads: matched, sources: [k], map: low_rank, width: 2}"},
    };
    put_file("prefix.yaml", "extends: fixed.yaml\naux: prefix\nprefix_layers: 1\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *config = cases[i].config, *first = cases[i].first, *second = cases[i].second;
        const bool smooth = strstr(first, "loss") == NULL;
        const char *loss = smooth ? "loss.consistency=0" : "seed=1";
        train_expect(0, ARGS(config, FORCE, "-o", "online", "-s", first, "-s", second, "-s", loss));
        train_expect(0, ARGS(config, FORCE, "-o", "cached", "-s", first, "-s", second, "-s", loss, CACHED));
        expect_same_terms("online", "cached", smooth ? 15 : 1);
    }
    // Adapted queries start from the base's, whatever the losses.
    train_expect(0, ARGS("fixed.yaml", FORCE, "-o", "cached", CACHED, "-s", "loss={base: 0, kl: 0}", "-s",
                         "predictor={adapt: q}"));
    train_expect(0, ARGS("prefix.yaml", "--dry-run", CACHED, "-s", "loss={base: 0, kl: 0}"));
    if (!strstr(train_output(), "the base's cache; in memory: the base\n")) fail_msg("%s", train_output());
}

// Several shards of a mixture; checkpointed activations; predictors of another kind.
static void test_mixture(void **state) {
    (void)state;
    put_file("mixed.yaml",
             "task: kvp\nbase: base/final/model\naux: aux/final/model\nfreeze_aux: true\noutput: mixed\n"
             "data: {packing: fixed, seq_len: 16, batch_size: 6, micro_batch_size: 3,\n"
             "       mixture: [{corpus: shard.h5, weight: 2}, {corpus: second.h5, weight: 1}]}\n"
             "predictor: {aux_layers: 2, rank: 3}\nloss: {kl: 1}\n"
             "train: {steps: 15, lr: 5e-3, warmup_steps: 5, log_every: 1, activation_checkpointing: true}\n");
    train_expect(0, ARGS("mixed.yaml"));
    train_expect(0, ARGS("mixed.yaml", "-o", "mixed_cached", CACHED));
    expect_same_losses("mixed", "mixed_cached");
}

static void test_layers_of_the_base(void **state) {
    (void)state;
    kvdata_cache("--base base/final/model --keep 0.5 --seq-len 16 --dtype f32 --out pruned shard.h5");
    put_file("pruned.yaml", "task: kvp\nbase: base/final/model\nfreeze_aux: true\noutput: pruned_online\n"
                            "data: {packing: fixed, seq_len: 16, batch_size: 8, train: shard.h5}\n"
                            "predictor: {mapping: pruned, keep: 0.5}\nloss: {base: 0}\n"
                            "train: {steps: 15, lr: 5e-3, warmup_steps: 5, log_every: 1}\n");
    train_expect(0, ARGS("pruned.yaml"));
    train_expect(0, ARGS("pruned.yaml", "-o", "pruned_cached", "-s", "teacher=cached", "-s", "cache=pruned"));
    expect_same_losses("pruned_online", "pruned_cached");
    // With neither model in memory the result still has both parts.
    assert_true(
        same_file("pruned_online/final/aux/model.safetensors", "pruned_cached/final/aux/model.safetensors"));
    assert_true(same_file("pruned_online/final/aux/config.json", "pruned_cached/final/aux/config.json"));
    assert_true(kv_path_exists("pruned_cached/final/predictor/predictor.safetensors"));
}

static void test_resumed(void **state) {
    (void)state;
    train_expect(0, ARGS("fixed.yaml", FORCE, "-o", "whole", "-s", "freeze_aux=true", CACHED));
    train_expect(0, ARGS("fixed.yaml", FORCE, "-o", "parts", "-s", "freeze_aux=true", CACHED));
    kv_error err = {0};
    assert_int_equal(kv_remove_tree("parts/final", &err), KV_OK);
    train_expect(0, ARGS("fixed.yaml", "--resume", "-o", "parts", "-s", "freeze_aux=true", CACHED));
    assert_non_null(strstr(train_output(), "resuming from parts/checkpoints/step-000008"));
    assert_true(same_file("whole/final/predictor/predictor.safetensors",
                          "parts/final/predictor/predictor.safetensors"));
}

// An aux that the cache lacks is run; so is one that is trained, from where the cache has it.
static void test_aux_that_is_not_in_the_cache(void **state) {
    (void)state;
    kvdata_cache("--base base/final/model --seq-len 16 --dtype f32 --top-k 32 --out alone shard.h5");
    train_expect(0, ARGS("fixed.yaml", FORCE, "-o", "online", "-s", "freeze_aux=true"));
    train_expect(0, ARGS("fixed.yaml", FORCE, "-o", "cached", "-s", "freeze_aux=true", "-s", "teacher=cached",
                         "-s", "cache=alone"));
    expect_same_losses("online", "cached");
    train_expect(0, ARGS("fixed.yaml", "--dry-run", "-s", "freeze_aux=true", "-s", "teacher=cached", "-s",
                         "cache=alone"));
    assert_non_null(strstr(train_output(), "the base's cache; in memory: both models"));
    train_expect(
        0, ARGS("fixed.yaml", "--dry-run", "-s", "freeze_aux=true", "-s", "loss={base: 0, kl: 0}", CACHED));
    assert_non_null(strstr(train_output(), "caches of base and aux; in memory: neither model"));
}

// All 32 logits at the temperature of the training are what the base itself would give; at another they are not.
static void test_temperature(void **state) {
    (void)state;
    kvdata_cache("--base base/final/model --aux aux/final/model --seq-len 16 --dtype f32 --top-k 32 "
                 "--temperature 2 --out warm shard.h5");
    train_expect(0, ARGS("fixed.yaml", FORCE, "-o", "online", "-s", "loss.kl_temperature=2"));
    train_expect(0, ARGS("fixed.yaml", FORCE, "-o", "cached", "-s", "loss.kl_temperature=2", CACHED, "-s",
                         "cache=warm"));
    expect_same_losses("online", "cached");
    train_refuse("key `loss.kl_temperature`: found 1, expected 2, the temperature that warm holds",
                 ARGS("fixed.yaml", FORCE, "-o", "refused", CACHED, "-s", "cache=warm"));
    train_refuse("make it with kvdata cache --temperature 3",
                 ARGS("fixed.yaml", FORCE, "-o", "refused", CACHED, "-s", "loss.kl_temperature=3"));
    assert_false(kv_path_exists("refused"));
    // Where no KL is taken it does not matter.
    train_expect(0, ARGS("fixed.yaml", "--dry-run", CACHED, "-s", "cache=warm", "-s", "loss.kl=0"));
}

// Held-out text is not in the cache: models that no step needs are in memory for it.
static void test_validation(void **state) {
    (void)state;
    put_file("held.yaml", "extends: fixed.yaml\noutput: online\nfreeze_aux: true\nloss: {base: 0, kl: 0}\n"
                          "data: {validation: second.h5}\ntrain: {validate_every: 5}\n");
    train_expect(0, ARGS("held.yaml", FORCE));
    train_expect(0, ARGS("held.yaml", FORCE, "-o", "cached", CACHED));
    expect_same_losses("online", "cached");
    for (int64_t step = 5; step <= 15; step += 5)
        rounding_expect("validation", validation("cached", step), validation("online", step),
                        train_allowed("online", step + 1, validation("online", step)));
    train_expect(0, ARGS("held.yaml", "--dry-run", CACHED));
    assert_non_null(strstr(train_output(), "in memory: both models"));
}

// ---- Closed form ---------------------------------------------------------------------------------------

static double entry(const char *path, const char *key, size_t i) {
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);
    if (!root) fail_msg("%s: %s", path, why.text);
    const json_t *value = json_object_get(root, key);
    const double found = json_number_value(json_is_array(value) ? json_array_get(value, i) : value);
    json_decref(root);
    return found;
}

static void write_closed(void) {
    put_file("closed.yaml", "task: kvp\nbase: base/final/model\naux: aux/final/model\noutput: closed\n"
                            "data: {packing: fixed, seq_len: 16, batch_size: 5, train: shard.h5}\n"
                            "predictor: {init: least_squares, least_squares_tokens: 0}\n"
                            "train: {steps: 0}\n");
}

// No step, no learning rate: the least-squares start is the result. 52 rows of 16 tokens, each once.
static void test_no_steps(void **state) {
    (void)state;
    write_closed();
    train_expect(0, ARGS("closed.yaml"));
    assert_non_null(strstr(train_output(), "explained variance"));
    assert_non_null(strstr(train_output(), "closed/final"));
    assert_true(kv_path_exists("closed/final/aux/model.safetensors"));
    assert_true(entry("closed/least_squares.json", "tokens", 0) == 832);
    for (size_t i = 0; i < 3; i++) {
        const double keys = entry("closed/least_squares.json", "keys", i);
        const double values = entry("closed/least_squares.json", "values", i);
        assert_true(keys > 0 && keys <= 1 && values > 0 && values <= 1);
    }
    train_expect(0, ARGS("closed.yaml", "--dry-run"));
    assert_non_null(strstr(train_output(), "steps        0"));
    if (strstr(train_output(), "nan") || strstr(train_output(), "inf"))
        fail_msg("makes no sense: %s", train_output());
    train_expect(0, ARGS("closed.yaml", "--resume"));
    assert_non_null(strstr(train_output(), "nothing to resume"));
    // From caches, with the aux frozen and trained (it starts as the cache has it): the same sums.
    for (int frozen = 0; frozen < 2; frozen++) {
        train_expect(0, ARGS("closed.yaml", FORCE, "-o", "closed_cached", CACHED, "-s",
                             frozen ? "freeze_aux=true" : "freeze_aux=false"));
        for (size_t i = 0; i < 3; i++) {
            expect_variance(entry("closed_cached/least_squares.json", "keys", i),
                            entry("closed/least_squares.json", "keys", i));
            expect_variance(entry("closed_cached/least_squares.json", "values", i),
                            entry("closed/least_squares.json", "values", i));
        }
        assert_true(entry("closed_cached/least_squares.json", "tokens", 0) == 832);
    }
    train_expect(0, ARGS("closed.yaml", FORCE, "-o", "few", "-s", "predictor.least_squares_tokens=100"));
    assert_true(entry("few/least_squares.json", "tokens", 0) == 160); // whole batches
}

// An aux that is trained may start from other weights than the cache's: its own are solved with.
static void test_start_of_another_aux(void **state) {
    (void)state;
    write_closed();
    train_expect(0, ARGS("closed.yaml", FORCE, "-o", "own", "-s", "aux=aux2/final/model"));
    train_expect(0, ARGS("closed.yaml", FORCE, "-o", "own_cached", "-s", "aux=aux2/final/model", CACHED));
    train_expect(0, ARGS("closed.yaml", FORCE, "-o", "others", CACHED));
    for (size_t i = 0; i < 3; i++) {
        const double own = entry("own/least_squares.json", "values", i);
        expect_variance(entry("own_cached/least_squares.json", "values", i), own);
        assert_true(fabs(entry("others/least_squares.json", "values", i) - own) >
                    10 * rounding_of_sum(16, 1));
    }
}

// How the text is cut into batches changes nothing but rounding; text read twice would.
static void test_streams_each_token_once(void **state) {
    (void)state;
    write_closed();
    train_expect(0, ARGS("closed.yaml", FORCE, "-o", "whole", "-s", "data.batch_size=52"));
    train_expect(0, ARGS("closed.yaml", FORCE, "-o", "batches", "-s", "data.batch_size=7", "-s",
                         "predictor.least_squares_tokens=1000000"));
    for (size_t i = 0; i < 3; i++) {
        expect_variance(entry("batches/least_squares.json", "keys", i),
                        entry("whole/least_squares.json", "keys", i));
        expect_variance(entry("batches/least_squares.json", "values", i),
                        entry("whole/least_squares.json", "values", i));
    }
    assert_true(entry("batches/least_squares.json", "tokens", 0) == 832);
}

// ---- Refusals ------------------------------------------------------------------------------------------

static void refuse(const char *message, const char *a, const char *b) {
    train_refuse(message, ARGS("fixed.yaml", FORCE, "-o", "refused", "-s", "freeze_aux=true", CACHED, "-s", a,
                               "-s", b));
    assert_false(kv_path_exists("refused"));
}

static void test_refused_configs(void **state) {
    (void)state;
    refuse("key `data.packing`: found stream, expected fixed", "data.packing=stream", "seed=1");
    refuse("key `data.seq_len`: found 12, expected 16, which cache was made with", "data.seq_len=12",
           "seed=1");
    refuse("key `cache`: nowhere: No such file or directory, expected a directory of frozen caches",
           "cache=nowhere", "seed=1");
    refuse("key `cache`", "cache=base", "seed=1");
    train_refuse("key `cache`: found nothing", ARGS("fixed.yaml", "-s", "teacher=cached"));
    train_refuse("key `cache`: found a key without effect", ARGS("fixed.yaml", "-s", "cache=cache"));
    train_refuse("key `cache`: found nothing", ARGS("base.yaml", "-s", "teacher=cached"));
    kvdata_cache("--base base/final/model --seq-len 16 --out bare shard.h5");
    refuse("key `loss.hidden`: found 0.5, expected 0 with teacher: cached: caches hold no hidden states",
           "loss.hidden=0.5", "seed=1");
    refuse("key `loss.kl`: found 1, but bare holds no logits", "cache=bare", "seed=1");
}

// The cache is another base's, aux's, text's or tokenizer's: named, with what was found and expected.
static void test_refused_caches(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "base2", "-s", "seed=2"));
    train_expect(0, ARGS("base.yaml", "-o", "wide", "-s", "model.n_kv_heads=2"));
    refuse("was made with a base of fingerprint", "base=base2/final/model", "seed=1");
    refuse("was made with an aux of fingerprint", "aux=aux2/final/model", "seed=1");
    refuse("was made with a base of another shape, from base/final/model, expected one as wide/final/model",
           "base=wide/final/model", "seed=1");
    refuse("was made with an aux of another shape, from aux/final/model", "aux=base/final/model", "seed=1");
    make_text("third.h5", 40, 9);
    refuse("cache holds none of its 2 files for third.h5: found the content", "data.train=third.h5",
           "seed=1");
    assert_non_null(strstr(train_output(), "expected "));
}

static void edit(const char *path, int what) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    if (what == 0) kv_h5_set_string(file, "/", "tokenizer", "fedcba9876543210", NULL);
    if (what == 1) kv_h5_set_string(file, "/base", "fingerprint", "0000000000000000", NULL);
    if (what == 2) kv_h5_set_string(file, "/aux", "fingerprint", "0000000000000000", NULL);
    if (what == 3) kv_h5_set_string(file, "/", "shard", "0000000000000000", NULL);
    if (what == 4) { // other tokens, with their checksum
        hid_t set = H5Dopen2(file, "/tokens", H5P_DEFAULT);
        int32_t *tokens = test_alloc(52 * 17, sizeof *tokens);
        assert_true(H5Dwrite(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, tokens) >= 0);
        free(tokens);
        H5Dclose(set);
    }
    H5Fclose(file);
}

static void copy_cache(void) {
    assert_int_equal(system("rm -rf edited && mkdir edited && cp cache/cache-00000.h5 edited"), 0);
}

static void test_refused_files(void **state) {
    (void)state;
    static const char *const named[] = {
        "of tokenizer fedcba9876543210, expected 0123456789abcdef", "a base of fingerprint 0000000000000000",
        "an aux of fingerprint 0000000000000000", "found the content 0000000000000000"};
    for (int what = 0; what < 4; what++) {
        copy_cache();
        edit("edited/cache-00000.h5", what);
        refuse(named[what], "cache=edited", "seed=1");
    }
    // What only shows when rows are read ends the run without a step.
    copy_cache();
    edit("edited/cache-00000.h5", 4);
    train_expect(
        1, ARGS("fixed.yaml", FORCE, "-o", "stopped", "-s", "freeze_aux=true", CACHED, "-s", "cache=edited"));
    assert_non_null(strstr(train_output(), "step 1: "));
    assert_non_null(strstr(train_output(), "other tokens"));
    copy_cache();
    assert_int_equal(truncate("edited/cache-00000.h5", 20000), 0);
    refuse("edited/cache-00000.h5", "cache=edited", "seed=1");
    // A byte in the middle of the data, which is most of the file.
    copy_cache();
    FILE *file = fopen("edited/cache-00000.h5", "r+b");
    assert_non_null(file);
    for (long at = 30000; at < 90000; at += 997) {
        fseek(file, at, SEEK_SET);
        fputc(0x5a, file);
    }
    fclose(file);
    train_expect(
        1, ARGS("fixed.yaml", FORCE, "-o", "stopped", "-s", "freeze_aux=true", CACHED, "-s", "cache=edited"));
    assert_non_null(strstr(train_output(), "edited/cache-00000.h5"));
    assert_false(kv_path_exists("stopped/final"));
    assert_nothing_half_written();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_losses_as_online),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_mixture),
        cmocka_unit_test(test_layers_of_the_base),
        cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_aux_that_is_not_in_the_cache),
        cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_validation),
        cmocka_unit_test(test_no_steps),
        cmocka_unit_test(test_start_of_another_aux),
        cmocka_unit_test(test_streams_each_token_once),
        cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_refused_caches),
        cmocka_unit_test(test_refused_files),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
