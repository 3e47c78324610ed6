// What kvtrain says beforehand of a vocabulary that tables of tokens do not fit: Qwen3's 151 936 tokens, a pair of published
// shapes with random weights, of which none are made. Numbers are worked out here by hand.
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/tabulated.h"
#include "data/corpus/shard.h"
#include "tests/support/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VOCABULARY = 151936,
    LAYERS = 28,
    BASE_DIM = 2048,
    AUX_DIM = 1024,
    KV_DIM = 8 * 128,
    Q_DIM = 16 * 128
};

static const char ours[] = "{token_table: none, sources: [h, own_h], aux_layers: 2, exact_layers: 1}";

// Without BOS and EOS, so that any model of so many tokens goes with it.
static void make_wide(const char *path) {
    const kv_shard_info info = {
        .tokenizer = "0123456789abcdef", .vocab_size = VOCABULARY, .bos_id = -1, .eos_id = -1};
    kv_shard_writer *writer;
    int32_t ids[2048];
    kv_error err = {0};
    for (int i = 0; i < 2048; i++) ids[i] = i;
    if (kv_shard_writer_open(path, &info, &writer, &err) || kv_shard_writer_add(writer, ids, 2048, &err) ||
        kv_shard_writer_finish(writer, &err))
        fail_msg("%s", err.message);
    kv_shard_writer_free(writer);
}

static int setup(void **state) {
    if (train_setup(state)) return -1;
    make_wide("wide.h5");
    put_file("wide.yaml", "task: kvp\nrecipe: ours\noutput: wide\n"
                          "base: \"random:qwen3-1.7b:bf16\"\naux: \"random:qwen3-0.6b:bf16\"\n"
                          "data: {train: wide.h5, seq_len: 512, batch_size: 8, micro_batch_size: 1}\n"
                          "train: {steps: 300, memory_gb: 24}\n");
    return 0;
}

static void expect_said(const char *text) {
    if (!strstr(train_output(), text)) fail_msg("expected \"%s\" in\n%s", text, train_output());
}

// Behind `before` in what was said.
static double number_behind(const char *before) {
    const char *at = strstr(train_output(), before);
    if (!at) fail_msg("expected \"%s\" in\n%s", before, train_output());
    return strtod(at + strlen(before), NULL);
}

// A row of 2 · 28 · 1024 numbers for each of 151 936 tokens, and 16 bytes for each number: twice the machine that the
// run is allowed, for the weights of tables alone.
static void full_tables_are_refused(void **state) {
    (void)state;
    const double numbers = 2.0 * LAYERS * KV_DIM * VOCABULARY;
    assert_true(numbers > 8.7e9 && numbers < 8.72e9 && 16 * numbers > 139e9 && 16 * numbers < 140e9);
    train_expect(0, ARGS("wide.yaml", "--dry-run"));
    expect_said(
        "of which 8.71 G in token tables (139 GB while they are trained), looked up: 57344 numbers a token");
    expect_said(
        "less with own_h among predictor.sources, which kvdata tabulate turns into tables afterwards");
    expect_said("does not fit: 24 GB are allowed by train.memory_gb");
    train_refuse("does not fit in memory, 24 GB by train.memory_gb; it needs about 159 GB",
                 ARGS("wide.yaml"));
    expect_said("predictor.token_table: none (own_h among predictor.sources) or a width (");
    assert_false(kv_path_exists("wide"));
}

// Products of a prompt of n tokens, 2 a multiply-add, attention as a triangle (tiles of the real one are somewhat more).
static double layer_products(double dim, double ffn, double n) {
    return 2 * n * dim * (2 * KV_DIM + 2 * Q_DIM) + 2 * Q_DIM * n * (n + 1) + 6 * n * dim * ffn;
}

static double prefill_products(double dim, double ffn, double n) {
    const double last = 4 * n * dim * KV_DIM + 4 * dim * Q_DIM + 4 * Q_DIM * n + 6 * dim * ffn;
    return (LAYERS - 1) * layer_products(dim, ffn, n) + last + 2 * dim * VOCABULARY;
}

// The aux but for what follows its last layer's input; maps (27 layers, keys and values) and the base's first layer; the
// base's last token. table: the embedding's part is looked up.
static double ours_products(double n, bool table) {
    const double m = n - 1, inputs = 2 * AUX_DIM + (table ? 0 : BASE_DIM);
    const double aux = (LAYERS - 1) * layer_products(AUX_DIM, 3072, m);
    const double maps = 2 * m * 2 * KV_DIM * ((LAYERS - 1) * inputs + (table ? 0 : BASE_DIM));
    const double one =
        LAYERS * (2 * BASE_DIM * (2 * KV_DIM + 2 * Q_DIM) + 4 * Q_DIM * n + 6 * BASE_DIM * 6144.0);
    return aux + maps + one + 2.0 * BASE_DIM * VOCABULARY;
}

static void ours_is_what_it_says(void **state) {
    (void)state;
    char override[128];
    snprintf(override, sizeof override, "predictor=%s", ours);
    train_expect(0,
                 ARGS("wide.yaml", "--dry-run", "-s", override, "-s", "train.activation_checkpointing=true"));
    // 27 layers, keys and values: (2 · 1024 + 2048) · 1024 weights and 1024 constants.
    const double weights = 27.0 * 2 * (4096.0 * 1024 + 1024);
    assert_true(weights > 226.5e6 && weights < 226.6e6);
    expect_said(
        "predictors   227 M parameters; base layer 0: keys exact from own_k, values exact from own_v;");
    expect_said("fits: 24 GB are allowed by train.memory_gb");
    // 2 bytes for each number of a full table.
    expect_said("tables of kvdata tabulate: 17.4 GB in bf16, 57344 numbers a token");
    const double whole = prefill_products(BASE_DIM, 6144, 128);
    const double said = number_behind("reduction    of FLOPs to the first token: "),
                 looked_up = number_behind("(tabulated ");
    if (fabs(said * ours_products(128, false) / whole - 1) > 0.01 ||
        fabs(looked_up * ours_products(128, true) / whole - 1) > 0.01)
        fail_msg("said %g and %g, by hand %g and %g", said, looked_up, whole / ours_products(128, false),
                 whole / ours_products(128, true));
}

// kvdata tabulate, the same predictors by their name, and the shapes say the same.
static void tables_are_as_large_as_said(void **state) {
    (void)state;
    kv_model_spec base, aux;
    kv_predictor *shape = NULL;
    kv_tabulated_size size;
    kv_error err = {0};
    if (kv_checkpoint_spec("random:qwen3-1.7b", &base, &err) ||
        kv_checkpoint_spec("random:qwen3-0.6b", &aux, &err) ||
        kv_predictor_shape("random:sources=h+own_h:aux_layers=2:exact_layers=1", &base, &aux, &shape, &err) ||
        kv_tabulated_measure(shape, &base, &aux, KV_BF16, &size, &err))
        fail_msg("%s", err.message);
    assert_int_equal(size.width, 2 * LAYERS * KV_DIM);
    assert_true(size.bytes == 2.0 * 2 * LAYERS * KV_DIM * VOCABULARY);
    kv_predictor_free(shape);
}

// In doubles, for keys and for values of 28 layers: (8 · 1024 + 1)² and (8 · 1024 + 2) · 1024. That is more than the
// machine has; of a quarter of the layers at a time it is not.
static void sums_of_eight_layers_want_passes(void **state) {
    (void)state;
    const double sums = 2e-9 * LAYERS * sizeof(double) * (8193.0 * 8193 + 8194.0 * KV_DIM);
    const char *const ridge =
        "predictor={token_table: none, aux_layers: 8, choose: best, least_squares_tokens: 1000}";
    assert_true(sums > 33 && sums < 34);
    train_refuse("does not fit in memory, 24 GB by train.memory_gb; it needs about 4",
                 ARGS("wide.yaml", "-s", ridge, "-s", "freeze_aux=true", "-s", "train.steps=0"));
    const double needed = number_behind("it needs about "),
                 less = number_behind("predictor.least_squares_passes: 4 (");
    if (fabs(needed - less - 0.75 * sums) > 0.1) fail_msg("%g and %g GB, %g GB of sums", needed, less, sums);
    train_expect(0, ARGS("wide.yaml", "--dry-run", "-s", ridge, "-s", "freeze_aux=true", "-s",
                         "train.steps=0", "-s", "predictor.least_squares_passes=4"));
    expect_said("while the predictors are solved for");
    expect_said("fits: 24 GB are allowed by train.memory_gb");
}

// Nothing of these depends on the token alone.
static void paper_has_nothing_to_tabulate(void **state) {
    (void)state;
    train_expect(0, ARGS("wide.yaml", "--dry-run", "-s", "recipe=paper", "-s", "train.lr=1e-4"));
    expect_said("predictors   58.8 M parameters;"); // 28 · 2 · (1024 + 1) · 1024
    expect_said(
        "reduction    of FLOPs to the first token: 2.73 times for 128 tokens, 2.61 times for 1024 tokens\n");
    assert_null(strstr(train_output(), "tabulate"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_tables_are_refused),       cmocka_unit_test(ours_is_what_it_says),
        cmocka_unit_test(tables_are_as_large_as_said),   cmocka_unit_test(sums_of_eight_layers_want_passes),
        cmocka_unit_test(paper_has_nothing_to_tabulate),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
