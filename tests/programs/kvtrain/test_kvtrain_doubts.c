// Settings that cannot do what they say: kvtrain goes on, with a warning at the place where the key was set. One that is
// meant and comes true gets none.
#include "data/file/path.h"
#include "tests/support/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int count(const char *text) {
    int n = 0;
    for (const char *at = train_output(); (at = strstr(at, text)); at += strlen(text)) n++;
    return n;
}

// A dry run of `config` with one setting (and a second), which warns of this and of nothing else.
static void expect_doubt(const char *config, const char *set, const char *second, const char *text) {
    train_expect(0, ARGS(config, "-n", "-o", "none", "-s", set, "-s", second));
    if (!strstr(train_output(), text))
        fail_msg("%s %s: expected \"%s\" in\n%s", set, second, text, train_output());
    if (count("kvtrain: warning: ") != 1)
        fail_msg("%s %s: expected one warning in\n%s", set, second, train_output());
}

static void expect_none(const char *config, const char *set, const char *second) {
    train_expect(0, ARGS(config, "-n", "-o", "none", "-s", set, "-s", second));
    if (count("warning") != 0) fail_msg("%s %s: expected no warning in\n%s", set, second, train_output());
}

static const char same[] = "seed=1"; // changes nothing

static void test_tables(void **state) {
    (void)state;
    // 32 tokens a step for a vocabulary of 128.
    make_shard("many.h5", 128, 1);
    put_file("many.yaml",
             "task: lm\noutput: many\ndata: {train: many.h5, seq_len: 16, batch_size: 2}\n"
             "model: {n_layers: 2, model_dim: 8, head_dim: 4, n_heads: 2, n_kv_heads: 1, ffn_dim: 16}\n"
             "train: {steps: 0}\n");
    train_expect(0, ARGS("many.yaml"));
    put_file("table.yaml", "task: kvp\noutput: table\ndata: {train: many.h5, seq_len: 16, batch_size: 2}\n"
                           "base: many/final/model\naux: prefix\nprefix_layers: 1\n"
                           "predictor: {token_table: full}\ntrain: {steps: 1, lr: 1e-3, warmup_steps: 0}\n");
    expect_doubt(
        "table.yaml", same, same,
        "key `predictor.token_table`: full tables have 128 rows each, and the run sees 32 tokens: at least 96 "
        "rows stay 0");
    assert_int_equal(
        count("of which 1.02 k in token tables (1.64e-05 GB while they are trained), looked up: 8 numbers"),
        1);
    expect_none("table.yaml", "train.steps=2", same);
    expect_none("table.yaml", "predictor.token_table=4", same);
    // What is not there has no rate.
    expect_doubt("table.yaml", "train.steps=2", "train.lr_queries=1e-3",
                 "key `train.lr_queries`: without effect: predictor.adapt: none");
    expect_doubt("table.yaml", "train.steps=2", "train.lr_aux=1e-3",
                 "key `train.lr_aux`: without effect: aux: prefix is the base, which stays as it is");
    expect_none("table.yaml", "train.steps=2", "train.lr_table=1e-3");
    expect_doubt("table.yaml", "predictor={heads: matched, sources: [k], token_table: none}", same,
                 "key `predictor.heads`: matched without effect: the numbers of heads");
    expect_doubt("table.yaml", "predictor={map: low_rank, width: 4, token_table: none}", same,
                 "key `predictor.width`: maps of rank 4 have ");
    expect_doubt("table.yaml", "predictor={adapt: q, token_table: none}", "loss={base: 0}",
                 "key `predictor.adapt`: without effect: loss.base, loss.kl and loss.hidden are 0");
}

static void test_schedule(void **state) {
    (void)state;
    // The default of 50 steps is more than the run has: the line of train.steps is named, and the rate that is reached.
    put_file("short.yaml",
             "task: lm\noutput: short\ndata: {train: shard.h5, seq_len: 16, batch_size: 8}\n"
             "model: {n_layers: 1, model_dim: 8, head_dim: 4, n_heads: 2, n_kv_heads: 1, ffn_dim: 16}\n"
             "train:\n  lr: 1e-3\n  steps: 20\n");
    expect_doubt(
        "short.yaml", same, same,
        "kvtrain: warning: short.yaml:7: key `train.steps`: the run of 20 steps ends within its warm-up of 50: the "
        "learning rate gets to 0.000381 at most, never to train.lr, 0.001");
    assert_int_equal(
        count("schedule     lr 1e-06 to 0.000381: all 20 steps are of the warm-up to 0.001 in 50"), 1);
    expect_doubt(
        "short.yaml", "train.warmup_steps=20", same,
        "-s train.warmup_steps=20: key `train.warmup_steps`: the run of 20 steps ends within its warm-up of 20");
    expect_none("short.yaml", "train.warmup_steps=19", same);
    expect_none("short.yaml", "train.steps=51", same);
    expect_doubt("short.yaml", "train.steps=51", "train.lr_end=1e-5",
                 "key `train.lr_end`: the one step behind the warm-up of 50 has the rate train.lr, 0.001");
    expect_none("short.yaml", "train.steps=52", "train.lr_end=1e-5");
    expect_none("short.yaml", "train.steps=0", same);
    expect_none("short.yaml", "train.warmup_init=1e-3", same); // flat
    expect_none("base.yaml", "train.lr_end=1e-2", same);
    expect_doubt("base.yaml", "train.lr_end=2e-2", same,
                 "key `train.lr_end`: the rate rises to 0.02 after it was train.lr, 0.01");
    expect_doubt("base.yaml", "train.warmup_init=1", same,
                 "key `train.warmup_init`: the warm-up starts from a higher rate");
    expect_none("base.yaml", "train.warmup_init=1", "train.warmup_steps=0");
    expect_doubt("base.yaml", "train.lr=0", "train.warmup_steps=0",
                 "at a rate of 0 the weights stay as they are");
    // Said when it trains, too, and the training is done.
    train_expect(0, ARGS("short.yaml", "-o", "trained"));
    assert_int_equal(count("ends within its warm-up"), 1);
    assert_true(kv_path_exists("trained/final"));
    // What large numbers switch off is meant.
    expect_none("base.yaml", "train={checkpoint_every: 1000000, log_every: 1000}", "train.grad_clip=0");
}

static void test_text(void **state) {
    (void)state;
    make_text("held.h5", 10, 7); // 140 tokens: 8 rows of 16
    static const char held[] = "data.validation=held.h5";
    expect_none("base.yaml", held, same);
    expect_doubt(
        "base.yaml", held, "train.validation_tokens=1000",
        "key `train.validation_tokens`: found 1000, but data.validation has rows for 128 tokens only");
    expect_none("base.yaml", held, "train.validation_tokens=128");
    expect_none("base.yaml", held, "train.validation_tokens=143");
    expect_doubt("base.yaml", held, "train.validation_tokens=144", "rows for 128 tokens only");
    expect_doubt("base.yaml", held, "train.validation_tokens=5",
                 "found 5, but one row of 16 tokens (data.seq_len) is the least");
    expect_doubt(
        "base.yaml", held, "train={keep_best: True, validate_every: 40}",
        "key `train.keep_best`: with train.validate_every 40 and train.steps 40 only the model before the first step "
        "and the last one are looked at");
    expect_none("base.yaml", held, "train={keep_best: True, validate_every: 20}");
    expect_doubt("base.yaml", "train.keep_best=True", same,
                 "key `train.keep_best`: found true without data.validation: no best is kept");
    // What fills no row.
    make_text("few.h5", 3, 7); // 42 tokens: 2 rows
    expect_doubt("base.yaml", "data.validation=few.h5", same,
                 "key `data.validation`: 10 of its 42 tokens (23.8 %) fill no row of data.seq_len, 16");
    expect_none("base.yaml", "data.train=few.h5", "data.batch_size=4");
    expect_doubt(
        "base.yaml", "data={train: few.h5, packing: fixed}", "data.batch_size=4",
        "key `data.train`: 10 of its 42 tokens (23.8 %) fill no row of data.seq_len, 16, and are never read");
    expect_none("base.yaml", "data.packing=fixed", same);
    // The same text under another name.
    assert_int_equal(system("cp shard.h5 same.h5"), 0);
    expect_doubt("base.yaml", "data.validation=same.h5", same,
                 "key `data.validation`: same.h5 is text that is trained on, too");
    // 840 tokens: 128 a step.
    expect_none("base.yaml", "data.batch_size=64", same);
    expect_doubt("base.yaml", "data.batch_size=160", same,
                 "shard.h5 has 840 tokens, and every step reads it 3.05 times over");
    expect_doubt(
        "two.yaml", "data.mixture[1].weight=1e-6", same,
        "key `data.mixture[1].corpus`: 0.0001 % of the weights: in 40 steps not one sequence of it is read");
    expect_none("two.yaml", "data.mixture[1].weight=0.1", same);
}

static void test_kvp(void **state) {
    (void)state;
    expect_none("kvp.yaml", same, same);
    expect_none("kvp.yaml", "freeze_aux=true", same);
    expect_doubt("kvp.yaml", "freeze_aux=true", "loss.aux=0.5",
                 "-s loss.aux=0.5: key `loss.aux`: 0.5 counts as 0");
    // In one file it is a mistake; an inherited one that somebody overtakes, as in the arms of a sweep, is not.
    put_file("frozen.yaml", "extends: kvp.yaml\nfreeze_aux: true\nloss: {aux: 0.5}\n");
    put_file("learns.yaml", "extends: kvp.yaml\nloss: {aux: 0.5}\n");
    put_file("fitted.yaml", "extends: kvp.yaml\npredictor: {init: least_squares, ridge: 0.1}\n");
    expect_doubt("frozen.yaml", same, same, "frozen.yaml:3: key `loss.aux`: 0.5 counts as 0");
    expect_none("learns.yaml", "freeze_aux=true", same);
    expect_none("fitted.yaml", "predictor.init=random", same);
    expect_doubt("kvp.yaml", "loss={base: 0, kl: 0, aux: 0}", same,
                 "key `loss.z_loss`: 0.0001 without effect");
    expect_doubt("kvp.yaml", "loss={base: 0, aux: 0}", same, "key `loss.z_loss`: 0.0001 without effect");
    expect_none("kvp.yaml", "loss={base: 0, kl: 0}", same);
    expect_none("kvp.yaml", "loss.kl_temperature=2", same);
    expect_none("kvp.yaml", "loss={hidden: 1, hidden_layer: 0}", same);
    expect_doubt("kvp.yaml", "loss.hidden_layer=1", same, "key `loss.hidden_layer`: 1 without effect");
    expect_doubt("kvp.yaml", "loss={kl: 0, kl_temperature: 2}", same,
                 "key `loss.kl_temperature`: 2 without effect: it belongs to loss.kl");
    expect_doubt("kvp.yaml", "predictor.ridge=0.1", same,
                 "key `predictor.ridge`: without effect: only predictor.init: least_squares");
    expect_none("kvp.yaml", "predictor={init: least_squares, ridge: 0.1, least_squares_tokens: 0}", same);
    expect_doubt("kvp.yaml", "train.steps=0", same,
                 "key `train.steps`: 0 with predictor.init: random leaves the predictors random");
    expect_none("kvp.yaml", "train.steps=0", "predictor.init=least_squares");
    // Keys and values of the aux are 4 wide, those of the base 8.
    expect_none("kvp.yaml", "predictor.rank=2", same);
    expect_doubt("kvp.yaml", "predictor.rank=3", same, "key `predictor.rank`: maps of rank 3 have ");
    // The second of two aux layers feeds nobody. While it learns language itself that is another matter.
    expect_none("kvp.yaml", "predictor={mapping: explicit, layers: [0, 0, 0]}", same);
    expect_doubt("kvp.yaml", "predictor={mapping: explicit, layers: [0, 0, 0]}", "loss.aux=0",
                 "key `predictor.layers`: no base layer reads aux layer 1: of no use; an aux of 1 layers");
}

// Each once, however many runs have it, and whether it is looked at or trained.
static void test_sweep(void **state) {
    (void)state;
    put_file("sweep.yaml", "output: swept\ntrain: kvp.yaml\nset: {train.steps: 3, train.warmup_steps: 7}\n"
                           "grid: {loss.kl: [0, 1], seed: [1, 2]}\n");
    train_expect(0, ARGS("--sweep", "sweep.yaml", "--dry-run"));
    assert_int_equal(count("warning"), 1);
    assert_int_equal(count("the run of 3 steps ends within its warm-up of 7"), 1);
    train_expect(0, ARGS("--sweep", "sweep.yaml"));
    assert_int_equal(count("the run of 3 steps ends within its warm-up of 7"), 1);
}

static int setup(void **state) {
    if (train_setup(state)) return -1;
    make_text("more.h5", 60, 8);
    put_file("two.yaml",
             "task: lm\noutput: two\n"
             "data: {mixture: [{corpus: shard.h5, weight: 1}, {corpus: more.h5, weight: 1}],\n"
             "       seq_len: 16, batch_size: 8}\n"
             "model: {n_layers: 1, model_dim: 8, head_dim: 4, n_heads: 2, n_kv_heads: 1, ffn_dim: 16}\n"
             "train: {lr: 1e-3, steps: 40, warmup_steps: 2}\n");
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables), cmocka_unit_test(test_schedule), cmocka_unit_test(test_text),
        cmocka_unit_test(test_kvp),    cmocka_unit_test(test_sweep),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
