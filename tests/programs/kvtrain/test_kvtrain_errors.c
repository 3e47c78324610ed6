// What kvtrain refuses: one line that says what, where and what was expected; the right exit status; nothing
// half-written.
#include "data/corpus/shard.h"
#include "data/file/path.h"
#include "tests/support/spoil.h"
#include "tests/support/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_resume_refuses(void **state) {
    (void)state;
    train_refuse("key `train.lr`: found `1`, expected `1e-2` as in base/config.yaml",
                 ARGS("base.yaml", "--resume", "-s", "train.lr=1"));
    train_refuse("key `train.steps`: found 39, but 40 are done in base",
                 ARGS("base.yaml", "--resume", "-s", "train.steps=39"));
    train_refuse("key `loss.z_loss`", ARGS("base.yaml", "--resume", "-s", "loss.z_loss=1e-4"));
    train_expect(0, ARGS("base.yaml", "--resume", "-s", "train.lr=0.01", "-s", "train.keep_last=7"));
    // Another shard under the same name, and damaged checkpoints.
    train_expect(0, ARGS("base.yaml", "-o", "hurt"));
    kv_error err;
    assert_int_equal(kv_remove_tree("hurt/final", &err), KV_OK);
    assert_int_equal(rename("shard.h5", "kept.h5"), 0);
    kv_shard *shard;
    assert_int_equal(kv_shard_open("kept.h5", &shard, &err), KV_OK);
    kv_shard_writer *writer;
    assert_int_equal(kv_shard_writer_open("shard.h5", &shard->info, &writer, &err), KV_OK);
    assert_int_equal(kv_shard_writer_add(writer, shard->tokens, 140, &err), KV_OK);
    assert_int_equal(kv_shard_writer_finish(writer, &err), KV_OK);
    kv_shard_writer_free(writer);
    kv_shard_free(shard);
    train_refuse("key `data.train`: shard.h5 has 140 tokens, expected the 840",
                 ARGS("base.yaml", "-o", "hurt", "--resume"));
    assert_int_equal(rename("kept.h5", "shard.h5"), 0);
    put_file("hurt/checkpoints/step-000030/state.json", "{\"step\": 31}");
    train_refuse("hurt/checkpoints/step-000030/state.json", ARGS("base.yaml", "-o", "hurt", "--resume"));
    put_file("hurt/checkpoints/step-000030/state.json",
             "{\"step\": 30, \"seconds\": 1.0, \"shard_tokens\": 840, \"tokenizer\": \"0123456789abcdef\"}");
    assert_int_equal(truncate("hurt/checkpoints/step-000030/optimizer.h5", 3000), 0);
    train_refuse("hurt/checkpoints/step-000030/optimizer.h5", ARGS("base.yaml", "-o", "hurt", "--resume"));
    assert_int_equal(truncate("hurt/checkpoints/step-000030/model/model.safetensors", 3000), 0);
    train_refuse("model.safetensors", ARGS("base.yaml", "-o", "hurt", "--resume"));
}

// ---- Bad input -----------------------------------------------------------------------------------------

static void test_bad_config(void **state) {
    (void)state;
    train_refuse("none.yaml", ARGS("none.yaml"));
    train_refuse("-s train.foo=1: key `train.foo`: found an unknown key",
                 ARGS("base.yaml", "-s", "train.foo=1"));
    train_refuse("key `train.lr`: found -1, expected 0 to 1000", ARGS("base.yaml", "-s", "train.lr=-1"));
    train_refuse("key `data.micro_batch_size`: found 3, expected a divisor of data.batch_size, 8",
                 ARGS("base.yaml", "-s", "data.micro_batch_size=3"));
    train_refuse("key `model.n_kv_heads`",
                 ARGS("base.yaml", "-s", "model.n_heads=3", "-s", "model.n_kv_heads=2"));
    train_refuse("key `model.head_dim`: found 7, expected an even number",
                 ARGS("base.yaml", "-s", "model.head_dim=7"));
    train_refuse("key `loss.consistency`: found `much`", ARGS("kvp.yaml", "-s", "loss.consistency=much"));
    train_refuse("found base, consistency, kl and hidden all 0",
                 ARGS("kvp.yaml", "-s", "loss={base: 0, consistency: 0, kl: 0}"));
    train_refuse("key `loss.hidden_layer`: found `last`, expected auto or a whole number from 0 to",
                 ARGS("kvp.yaml", "-s", "loss.hidden_layer=last"));
    train_refuse("key `loss.hidden_layer`: found 3, expected auto or a layer of the base, 0 to 2",
                 ARGS("kvp.yaml", "-s", "loss={hidden: 1, hidden_layer: 3}"));
    train_refuse(
        "key `loss.hidden`: found 1 and no other loss of the predicted cache, with which the maps of the "
        "layers above layer 1 would not learn; loss.hidden_layer: 2 reaches all",
        ARGS("kvp.yaml", "-s", "loss={base: 0, consistency: 0, kl: 0, hidden: 1}"));
    train_refuse("key `loss.hidden`: found a key without effect", ARGS("base.yaml", "-s", "loss.hidden=1"));
    train_refuse("key `loss.kl_temperature`: found 0, expected 0.01 to 100",
                 ARGS("kvp.yaml", "-s", "loss.kl_temperature=0"));
    train_refuse("key `predictor.layers`",
                 ARGS("kvp.yaml", "-s", "predictor={mapping: explicit, layers: [0, 2, 1]}"));
    train_refuse("key `predictor.layers`",
                 ARGS("kvp.yaml", "-s", "predictor={mapping: explicit, layers: [0, 1]}"));
    train_refuse("key `predictor.layers`", ARGS("kvp.yaml", "-s", "predictor.layers=[0, 1, 1]"));
    train_refuse("key `predictor.keep`", ARGS("kvp.yaml", "-s", "predictor={mapping: pruned, keep: 0.4}"));
    put_file("bad.yaml", "task: lm\ndata:\n  train: shard.h5\n  seq_len: 16\n  batch_size: 0\n"
                         "output: bad\ntrain: {steps: 1, lr: 1}\n");
    train_refuse("bad.yaml:5: key `data.batch_size`: found 0, expected 1 to",
                 ARGS("bad.yaml", "-s", "model.n_layers=1"));
    put_file("bad.yaml", "extends: base.yaml\noutput: bad\ntask: kvp\nmodel: {n_layers: 2}\n");
    train_refuse("bad.yaml:4: key `model`: found a key without effect, expected it only with task: lm",
                 ARGS("bad.yaml"));
    put_file("bad.yaml", "task: lm\noutput: bad\n");
    train_refuse("bad.yaml:1: key `data.train`: found nothing", ARGS("bad.yaml"));
    assert_false(kv_path_exists("bad"));
}

// Kinds of predictors and layer maps: keys that make no sense for this pair (3 layers of 8 from 2 of 4).
static void test_bad_predictors(void **state) {
    (void)state;
    train_refuse("key `predictor.rank`: found -1, expected 0 to",
                 ARGS("kvp.yaml", "-s", "predictor.rank=-1"));
    train_refuse("key `predictor.aux_layers`: found 257, expected 0 to 256",
                 ARGS("kvp.yaml", "-s", "predictor.aux_layers=257"));
    train_refuse("key `predictor.aux_layers`: found -1, expected 0 to 256",
                 ARGS("kvp.yaml", "-s", "predictor.aux_layers=-1"));
    train_refuse(
        "key `predictor.rank`: found the keys of base layer 0: rank 5, expected 1 to 4: the map makes 8 "
        "features of 4",
        ARGS("kvp.yaml", "-s", "predictor.rank=5"));
    train_refuse(
        "key `predictor.rank`: found the keys of base layer 0: rank 9, expected 1 to 8: the map makes 8 "
        "features of 8",
        ARGS("kvp.yaml", "-s", "predictor={rank: 9, aux_layers: 2}"));
    train_expect(0, ARGS("aux.yaml", "-o", "thin", "-s", "model.n_layers=1", "-s", "train.steps=1"));
    train_refuse(
        "key `predictor.aux_layers`: found maps that read 2 aux layers, expected at most 1",
        ARGS("kvp.yaml", "-s", "aux=thin/final/model", "-s", "predictor.aux_layers=2"));
    train_refuse("key `predictor`: found a key without effect, expected it only with task: kvp",
                 ARGS("base.yaml", "-s", "predictor.rank=1"));
    // An aux as deep as the base is uniform's business, not that of the paper's rule.
    train_refuse(
        "key `predictor.mapping`: found `even`, expected one of: separate, pruned, uniform, reversed, explicit",
        ARGS("kvp.yaml", "-s", "predictor.mapping=even"));
    train_expect(0, ARGS("aux.yaml", "-o", "deep", "-s", "model.n_layers=5", "-s", "train.steps=1"));
    train_refuse("expected at most the base's 3 for predictor.mapping: reversed",
                 ARGS("kvp.yaml", "-s", "aux=deep/final/model", "-s", "predictor.mapping=reversed"));
    train_expect(0, ARGS("kvp.yaml", "-o", "dry", "--dry-run", "-s", "aux=deep/final/model", "-s",
                         "predictor.mapping=uniform"));
    assert_non_null(strstr(train_output(), "base layer reads aux layer: 0 1 3\n"));
    // Without aux, its part of the base's layers is needed; with one it means nothing but to reversed.
    put_file("own.yaml",
             "task: kvp\noutput: own\nbase: base/final/model\n"
             "data: {train: shard.h5, seq_len: 16, batch_size: 8}\ntrain: {steps: 1, lr: 1e-3}\n");
    static const char *const maps[] = {"uniform", "reversed"};
    for (int i = 0; i < 2; i++) {
        char map[64], keep[64];
        snprintf(map, sizeof map, "predictor.mapping=%s", maps[i]);
        snprintf(keep, sizeof keep, "predictor={mapping: %s, keep: 0.3}", maps[i]);
        train_refuse("key `aux`: found nothing, expected a value", ARGS("own.yaml", "-s", map));
        train_refuse("key `predictor.keep`: found 0.3, expected 0.25, 0.5 or 0.75",
                     ARGS("own.yaml", "-s", keep));
    }
    train_refuse("key `predictor.keep`: found 0.3, expected 0.25, 0.5 or 0.75",
                 ARGS("kvp.yaml", "-s", "predictor={mapping: reversed, keep: 0.3}"));
    train_refuse("key `predictor.keep`: found a key without effect, expected it only without aux",
                 ARGS("kvp.yaml", "-s", "predictor={mapping: uniform, keep: 0.5}"));
    train_refuse("key `predictor.keep`: found a key without effect, expected it only",
                 ARGS("kvp.yaml", "-s", "predictor={mapping: separate, keep: 0.5}"));
    train_refuse(
        "aux/final/model has 2 layers, expected 1 (0.25 of the base's 3) for predictor.mapping: reversed",
        ARGS("kvp.yaml", "-s", "predictor={mapping: reversed, keep: 0.25}"));
}

static void test_bad_files(void **state) {
    (void)state;
    train_refuse("-s data.train=gone.h5: key `data.train`: gone.h5",
                 ARGS("base.yaml", "-o", "bad", "-s", "data.train=gone.h5"));
    train_refuse("base.yaml", ARGS("base.yaml", "-o", "bad", "-s", "data.train=base.yaml"));
    train_refuse("gone/final", ARGS("kvp.yaml", "-o", "bad", "-s", "base=gone/final"));
    train_refuse("unknown shape", ARGS("kvp.yaml", "-o", "bad", "-s", "base=random:openelm-9b"));
    make_shard("wide.h5", TEST_VOCAB + 8, 1);
    make_shard("odd.h5", TEST_VOCAB, 4);
    train_refuse(
        "base base/final/model: vocabulary of 32 tokens, expected at least the 40 of the shard wide.h5",
        ARGS("kvp.yaml", "-o", "bad", "-s", "data.train=wide.h5"));
    train_refuse("key `base`: base base/final/model: bos_id 1, expected 4 as in the shard odd.h5",
                 ARGS("kvp.yaml", "-o", "bad", "-s", "data.train=odd.h5"));
    train_refuse("found 33, expected at most 32, the context of the model",
                 ARGS("base.yaml", "-o", "bad", "-s", "data.seq_len=33"));
    train_expect(0, ARGS("aux.yaml", "-o", "wide", "-s", "data.train=wide.h5", "-s", "train.steps=1"));
    train_refuse(
        "key `data.seq_len`: found 33 tokens, expected at most the context of the base base/final/model, 32",
        ARGS("kvp.yaml", "-o", "bad", "-s", "data.seq_len=33"));
    // An aux with padding rows that the base has not: no text has their ids.
    train_expect(0, ARGS("kvp.yaml", "-o", "padded", "-s", "aux=wide/final/model", "-s", "train.steps=2"));
    assert_true(isfinite(metric("padded", 2, "loss")));
    // config.json and weights that do not belong together.
    put_file("tune.yaml", "task: lm\noutput: bad\ndata: {train: wide.h5, seq_len: 16, batch_size: 8}\n"
                          "model: {from: checkpoint, path: wide/final/model}\ntrain: {steps: 2, lr: 1e-3}\n");
    assert_int_equal(rename("wide/final/model/model.safetensors", "wide.safetensors"), 0);
    assert_int_equal(link("base/final/model/model.safetensors", "wide/final/model/model.safetensors"), 0);
    train_refuse("wide/final/model/model.safetensors", ARGS("tune.yaml"));
    assert_false(kv_path_exists("bad"));
    assert_nothing_half_written();
}

static void test_unwritable_output(void **state) {
    (void)state;
    train_refuse("base.yaml", ARGS("base.yaml", "-o", "base.yaml/run"));
    train_refuse("/proc/run", ARGS("base.yaml", "-o", "/proc/run"));
}

static void test_full_disk(void **state) {
    (void)state;
    // Enough for config.yaml and the metrics, not for a checkpoint.
    int code = train_finish(train_start(ARGS("base.yaml", "-o", "full", "-s", "train.log_every=40"), 2048));
    assert_int_equal(code, 1);
    const char *last = strstr(train_output(), "kvtrain: ");
    assert_non_null(last);
    assert_ptr_equal(strchr(last, '\n'), last + strlen(last) - 1);
    assert_true(kv_path_exists("full/config.yaml"));
    assert_false(kv_path_exists("full/checkpoints/step-000015"));
    assert_false(kv_path_exists("full/final"));
    assert_nothing_half_written();
    // With room again it goes on.
    train_expect(0, ARGS("base.yaml", "-o", "full", "--resume", "-s", "train.log_every=40"));
    assert_true(same_file("full/final/model/model.safetensors", "base/final/model/model.safetensors"));
    // The metrics alone fill it.
    code = train_finish(
        train_start(ARGS("base.yaml", "-o", "full2", "-s", "train.checkpoint_every=1000"), 1500));
    assert_int_equal(code, 1);
    assert_non_null(strstr(train_output(), "full2/metrics.jsonl: cannot write"));
}

static void test_not_a_number(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "nan", "-s", "train.steps=1"));
    FILE *file = fopen("nan/final/model/model.safetensors", "r+");
    assert_non_null(file);
    const float nan = (float)NAN;
    assert_int_equal(fseek(file, -4, SEEK_END), 0);
    assert_int_equal(fwrite(&nan, 4, 1, file), 1);
    fclose(file);
    put_file("nan.yaml", "task: lm\noutput: lost\ndata: {train: shard.h5, seq_len: 16, batch_size: 8}\n"
                         "model: {from: checkpoint, path: nan/final/model}\ntrain: {steps: 9, lr: 1e-3}\n");
    train_refuse(", which training would start from", ARGS("nan.yaml"));
    assert_false(kv_path_exists("lost"));
}

static void test_usage(void **state) {
    (void)state;
    const char *const none[] = {NULL};
    train_expect(2, none);
    train_expect(2, ARGS("base.yaml", "aux.yaml"));
    train_expect(2, ARGS("base.yaml", "-s", "train.lr"));
    train_expect(2, ARGS("base.yaml", "--resume", "--force"));
    train_expect(2, ARGS("base.yaml", "--nonsense"));
    train_expect(0, ARGS("--help"));
    assert_non_null(strstr(train_output(), "Exit status"));
    train_expect(0, ARGS("--version"));
    assert_non_null(strstr(train_output(), "kvtrain " KV_VERSION));
}

static void test_dry_run(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "dry", "--dry-run", "-s", "data.micro_batch_size=2"));
    static const char *const says[] = {"warmup_init: 1.0e-6\n",
                                       "lr 1e-06 to 0.01 in 5 steps, then to 0.001",
                                       "4 micro-batches",
                                       "parameters",
                                       "60 documents",
                                       "FLOPs",
                                       "memory",
                                       "time"};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        if (!strstr(train_output(), says[i])) fail_msg("no %s in: %s", says[i], train_output());
    train_expect(0, ARGS("kvp.yaml", "-o", "dry", "--dry-run"));
    assert_non_null(strstr(train_output(), "base layer reads aux layer: 0 0 1"));
    assert_false(kv_path_exists("dry"));
}

// Models that are damaged are found before anything is made of them: by the closed-form start, or at the first step.
static void test_models_that_are_not_finite(void **state) {
    (void)state;
    assert_int_equal(system("cp -r base/final/model sick && cp -r base/final/model sick_keys && "
                            "cp -r aux/final/model sick_aux && cp -r aux/final/model sick_row"),
                     0);
    test_spoil("sick", "model.safetensors", "model.norm.weight", 1, NAN);
    test_spoil("sick_keys", "model.safetensors", "layers.1.input_layernorm.weight", 0, INFINITY);
    test_spoil("sick_aux", "model.safetensors", "layers.1.input_layernorm.weight", 0, NAN);
    test_spoil("sick_row", "model.safetensors", "model.embed_tokens.weight", 0, NAN); // of no text
    static const struct {
        const char *part, *override, *init, *freeze;
    } cases[] = {
        {"the base's keys of layer 1 are not finite", "base=sick_keys", "least_squares", "false"},
        {"the aux's keys of layer 1 are not finite", "aux=sick_aux", "least_squares", "true"},
        {"nothing has been trained yet, so a model or cache that it starts from holds NaN", "base=sick",
         "least_squares", "false"},
        {"kvtrain: step 1: found loss nan and gradient norm nan", "aux=sick_aux", "random", "true"},
        {"found NaN or infinite weights in layers.1.attn_norm, which training would start from",
         "aux=sick_aux", "least_squares", "false"},
        {"found NaN or infinite weights in embed, which training would start from", "aux=sick_row", "random",
         "false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char init[64], freeze[32];
        snprintf(init, sizeof init, "predictor.init=%s", cases[i].init);
        snprintf(freeze, sizeof freeze, "freeze_aux=%s", cases[i].freeze);
        train_expect(1, ARGS("kvp.yaml", "-o", "damaged", "--force", "-s", cases[i].override, "-s", init,
                             "-s", freeze));
        if (!strstr(train_output(), cases[i].part))
            fail_msg("expected %s in %s", cases[i].part, train_output());
    }
    assert_false(kv_path_exists("damaged/final"));
    assert_int_equal(test_dir_count("damaged/checkpoints"), -1);
    assert_nothing_half_written();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume_refuses),    cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_bad_predictors),    cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_unwritable_output), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_not_a_number),      cmocka_unit_test(test_usage),
        cmocka_unit_test(test_dry_run),           cmocka_unit_test(test_models_that_are_not_finite),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}
