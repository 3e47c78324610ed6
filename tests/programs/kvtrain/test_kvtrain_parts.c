// The parts that predictors are made of as keys of kvtrain: every combination trains, goes on after an interruption to
// the same bits, and its saved predictor makes of the text what the training step made; a prefix needs no second model;
// what does not go together is refused by name.
#include "data/checkpoint/checkpoint.h"
#include "data/file/content.h"
#include "infer/score/score.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/train.h"
#include "train/run/training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char parts[] = "extends: kvp.yaml\n"
                            "output: parts\n"
                            "train: {steps: 4, checkpoint_every: 2}\n";
static const char prefix[] = "extends: parts.yaml\n"
                             "aux: prefix\n"
                             "prefix_layers: 1\n";

static int setup(void **state) {
    if (train_setup(state)) return -1;
    put_file("parts.yaml", parts);
    put_file("prefix.yaml", prefix);
    return 0;
}

static bool exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

static void expect_said(const char *text) {
    const char *at = strstr(train_output(), "predictors   ");
    if (!strstr(train_output(), text))
        fail_msg("expected %s\nfound    %.700s", text, at ? at : train_output());
}

// ---- Every combination ---------------------------------------------------------------------------------

// Text of the first step, each sequence with the token behind it.
static void first_step(const char *config, const char *override, int64_t *n_seq, int64_t *length,
                       int32_t **ids) {
    kv_training run = {0};
    kv_batches *batches;
    kv_error err = {0};
    if (kv_training_open(&run, config, &override, 1, &err) != KV_OK) fail_msg("%s", err.message);
    const kv_data_config *d = &run.config->data;
    const kv_batches_args args = kv_train_batches(&run.text, d->batch_size);
    int32_t *inputs = test_alloc(d->batch_size * d->seq_len, sizeof *inputs),
            *targets = test_alloc(d->batch_size * d->seq_len, sizeof *targets);
    if (kv_batches_create(&args, &batches, &err) != KV_OK ||
        kv_batches_get(batches, 0, inputs, targets, &err) != KV_OK)
        fail_msg("%s", err.message);
    *n_seq = d->batch_size, *length = d->seq_len + 1;
    *ids = test_alloc(*n_seq * *length, sizeof **ids);
    for (int64_t s = 0; s < *n_seq; s++) {
        int32_t *to = *ids + s * *length;
        memcpy(to, inputs + s * d->seq_len, (size_t)d->seq_len * sizeof *to);
        to[d->seq_len] = targets[(s + 1) * d->seq_len - 1];
        for (int64_t t = 0; t < d->seq_len; t++) assert_int_equal(to[t + 1], targets[s * d->seq_len + t]);
    }
    free(inputs), free(targets);
    kv_batches_free(batches);
    kv_training_close(&run);
}

// The mean cross-entropy that inference finds with a saved predictor.
static double scored(const char *dir, bool has_aux, int64_t n_seq, int64_t length, const int32_t *ids) {
    char path[128];
    kv_model *base, *aux = NULL;
    kv_predictor *predictor = NULL;
    kv_error err = {0};
    kv_status status = kv_checkpoint_load("base/final/model", &base, &err);
    snprintf(path, sizeof path, "%s/final/aux", dir);
    if (status == KV_OK && has_aux) status = kv_checkpoint_load(path, &aux, &err);
    snprintf(path, sizeof path, "%s/final/predictor", dir);
    if (status == KV_OK)
        status = kv_predictor_load(path, &base->spec, aux ? &aux->spec : NULL, NULL, NULL, &predictor, &err);
    if (status != KV_OK) fail_msg("%s", err.message);
    const kv_system system = {.base = base, .aux = aux ? aux : base, .predictor = predictor};
    int64_t *lengths = test_alloc(n_seq, sizeof *lengths), *n_scored = test_alloc(n_seq, sizeof *n_scored);
    double *log_p = test_alloc(n_seq, sizeof *log_p), sum = 0;
    for (int64_t s = 0; s < n_seq; s++) lengths[s] = length, n_scored[s] = length - 1;
    if (kv_score(&system, ids, lengths, n_scored, n_seq, log_p, NULL, &err) != KV_OK)
        fail_msg("%s", err.message);
    for (int64_t s = 0; s < n_seq; s++) sum -= log_p[s];
    free(lengths), free(n_scored), free(log_p);
    kv_predictor_free(predictor);
    kv_model_free(aux);
    kv_model_free(base);
    return sum / (double)(n_seq * (length - 1));
}

// What is saved before the first step is what that step is taken with.
static void expect_same_loss(const char *config, const char *override) {
    int64_t n_seq, length;
    int32_t *ids;
    train_expect(0, ARGS(config, "--force", "-o", "start", "-s", "train.steps=0", "-s", override));
    first_step(config, override, &n_seq, &length, &ids);
    const double found = scored("start", exists("start/final/aux"), n_seq, length, ids),
                 expected = metric("parts", 1, "base");
    rounding_expect(override, found, expected,
                    rounding_of_sum((double)n_seq * (double)length, expected * expected));
    free(ids);
}

static void expect_resumed(const char *config, const char *override) {
    train_expect(0, ARGS(config, "--force", "-o", "again", "-s", override));
    assert_int_equal(system("rm -rf again/final again/checkpoints/step-000004"), 0);
    train_expect(0, ARGS(config, "--resume", "-o", "again", "-s", override));
    expect_said("resuming");
    if (!same_file("parts/final/predictor/predictor.safetensors",
                   "again/final/predictor/predictor.safetensors"))
        fail_msg("%s: resumed, it ends elsewhere", override);
}

static void test_combinations(void **state) {
    (void)state;
    static const struct {
        const char *config, *parts, *told;
    } cases[] = {
        {"parts.yaml", "predictor={sources: [h]}", "keys linear from h, values linear from h"},
        {"parts.yaml", "predictor={key_sources: [k, v], value_sources: [h0, embedding], aux_layers: 0}",
         "base layers 0 to 1: keys linear from k0+k1+v0+v1, values linear from h0+embedding"},
        {"parts.yaml", "predictor={exact_layers: 1, init: least_squares, map: low_rank, width: 2}",
         "base layer 0: keys exact from own_k, values exact from own_v"},
        {"parts.yaml", "predictor={map: mlp, width: 5, token_table: full, heads: matched}",
         "keys mlp (hidden features 5) from k, heads matched, token table"},
        {"parts.yaml", "predictor={token_table: 3, adapt: q}", "token table of width 3"},
        {"parts.yaml", "predictor={adapt: lora, adapt_rank: 2, rank: 2}", "adapted queries of rank 2"},
        {"prefix.yaml", "predictor={init: base, adapt: q}", "the base's own first 1 layers as aux"},
        {"prefix.yaml", "predictor={init: least_squares, token_table: full}",
         "values linear from h1, token table"},
        {"prefix.yaml", "predictor={sources: [h, h0, k, embedding], map: mlp, width: 2}",
         "keys mlp (hidden features 2) from h1+h0+k0+embedding"},
        {"prefix.yaml", "prefix_layers=2", "the base's own first 2 layers as aux"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *config = cases[i].config, *override = cases[i].parts;
        train_expect(0, ARGS(config, "--dry-run", "-s", override));
        expect_said(cases[i].told);
        train_expect(0, ARGS(config, "--force", "-s", override));
        expect_same_loss(config, override);
        assert_false(same_file("start/final/predictor/predictor.safetensors",
                               "parts/final/predictor/predictor.safetensors"));
        expect_resumed(config, override);
    }
    assert_nothing_half_written();
}

// ---- A prefix ------------------------------------------------------------------------------------------

static void test_prefix(void **state) {
    (void)state;
    train_expect(0, ARGS("prefix.yaml", "--dry-run"));
    expect_said("aux          prefix: the base's own first 1 layers, no second model");
    expect_said("freeze_aux: true");
    train_expect(0, ARGS("prefix.yaml", "-o", "prefix"));
    assert_true(exists("prefix/final/predictor/predictor.json"));
    assert_false(exists("prefix/final/aux"));
    train_expect(0, ARGS("prefix.yaml", "-o", "prefix", "--force", "-s", "frozen_dtype=bf16", "-s",
                         "data.validation=shard.h5"));
    assert_false(exists("prefix/final/aux"));
    train_expect(0, ARGS("status", "prefix"));
    expect_said("aux prefix");
}

// With the base's own projections, untrained, and a layer left to predict the loss is near the base's; and never is the
// base's file touched.
static void test_base_start(void **state) {
    (void)state;
    assert_int_equal(system("cp base/final/model/model.safetensors before.safetensors"), 0);
    train_expect(0, ARGS("prefix.yaml", "--force", "-s", "predictor.init=base", "-s", "prefix_layers=2"));
    const double from_base = metric("parts", 1, "kl");
    train_expect(0, ARGS("prefix.yaml", "--force", "-s", "prefix_layers=2"));
    assert_true(from_base >= 0 && from_base < 0.1 * metric("parts", 1, "kl"));
    train_expect(0, ARGS("prefix.yaml", "--force", "-s", "predictor={adapt: q}"));
    assert_true(same_file("base/final/model/model.safetensors", "before.safetensors"));
}

// ---- Told again ----------------------------------------------------------------------------------------

static void inspect(const char *path, const char *const *expected) {
    char command[256], *text;
    size_t size;
    kv_error err = {0};
    snprintf(command, sizeof command, "%s inspect %s > inspected.txt 2>&1", getenv("KVDATA"), path);
    const int status = system(command);
    if (kv_read_file("inspected.txt", 1 << 20, &text, &size, &err) != KV_OK) fail_msg("%s", err.message);
    if (status != 0) fail_msg("%s", text);
    for (int i = 0; expected[i]; i++)
        if (!strstr(text, expected[i])) fail_msg("expected %s\nin %s", expected[i], text);
    free(text);
}

static void test_inspected(void **state) {
    (void)state;
    train_expect(0, ARGS("prefix.yaml", "--force", "-s",
                         "predictor={map: low_rank, width: 3, token_table: 2, adapt: lora, adapt_rank: 2}"));
    inspect("parts/final/predictor",
            ARGS("layers       3 of the base\n", "parts        the base's own first 1 layers as aux\n",
                 "base layer 0: keys exact from k0, values exact from v0\n",
                 "base layers 1 to 2: keys low_rank (rank 3) from h1, token table of width 2, values",
                 "adapted queries of rank 2\n", "base         fingerprint ",
                 "key.down.weight, layers 1 to 2: [3, 16]\n", "value.token.weight, layers 1 to 2: [8, 2]\n",
                 "query.up.weight, layers 1 to 2: [16, 2]\n", "token.embedding: [32, 2]\n"));
    inspect("parts/final/predictor/predictor.json",
            ARGS("predictor description", "the base's own first 1 layers"));
    inspect("--json parts/final/predictor",
            ARGS("\"prefix_layers\": 1", "\"kind\": \"lora\"", "\"map\": \"low_rank\"", "\"table\": 2"));
    train_expect(0, ARGS("parts.yaml", "--force", "-s", "predictor={exact_layers: 1}"));
    inspect("parts/final/predictor", ARGS("layers       3 of the base from 2 of the aux\n",
                                          "keys exact from own_k", "key.weight, layers 1 to 2: [8, 4]\n"));
}

// ---- Refusals ------------------------------------------------------------------------------------------

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *config, *override, *message;
    } cases[] = {
        {"prefix.yaml", "aux=aux/final/model",
         "key `prefix_layers`: found a key without effect, expected it only with aux: prefix"},
        {"parts.yaml", "aux=prefix", "key `prefix_layers`: found nothing, expected a value: of how many"},
        {"prefix.yaml", "prefix_layers=3", "key `prefix_layers`: found 3, expected 1 to 2: the base"},
        {"prefix.yaml", "prefix_layers=0", "key `prefix_layers`: found 0, expected 1 to 255"},
        {"prefix.yaml", "freeze_aux=false", "key `freeze_aux`: found false, expected true with aux: prefix"},
        {"prefix.yaml", "loss.aux=1",
         "key `loss.aux`: with aux: prefix nothing of the aux is trained: found 1"},
        {"prefix.yaml", "predictor.mapping=uniform", "key `predictor.mapping`: found a layer map"},
        {"prefix.yaml", "predictor.exact_layers=1", "key `predictor.exact_layers`: with aux: prefix all"},
        {"prefix.yaml", "predictor.sources=[h2]",
         "key `predictor.sources`: found h2, expected at most layer 1 of the aux, of which the prefix computes no more"},
        {"prefix.yaml", "predictor.aux_layers=3",
         "key `predictor.aux_layers`: found maps that read 3 aux layers, expected at most 2"},
        {"prefix.yaml", "predictor={init: base, sources: [h, h0]}",
         "key `predictor.init`: found base, but the keys of base layer 1 read h1 and others"},
        {"parts.yaml", "predictor.init=base",
         "key `predictor.init`: found base, expected random, least_squares or checkpoint"},
        {"parts.yaml", "predictor.sources=[k, q]",
         "key `predictor.sources[1]`: found `q`, expected k, v, h (or of aux layer 3: k3), embedding"},
        {"parts.yaml", "predictor.key_sources=[k, k]",
         "key `predictor.key_sources[1]`: found `k` a second time"},
        {"parts.yaml", "predictor.value_sources=[v2]",
         "key `predictor.value_sources`: found v2, expected at most layer 1 of the aux"},
        {"parts.yaml", "predictor={sources: [k], key_sources: [k], value_sources: [v]}",
         "key `predictor.sources`: found a key without effect"},
        {"parts.yaml", "predictor={sources: [h0], aux_layers: 2}",
         "key `predictor.aux_layers`: found 2, expected 1: all sources name their layer"},
        {"parts.yaml", "predictor={sources: [h0], choose: best}",
         "key `predictor.choose`: found best, expected"},
        {"parts.yaml", "predictor.map=exact",
         "key `predictor.map`: found `exact`, expected linear, low_rank or mlp"},
        {"parts.yaml", "predictor.map=low_rank", "key `predictor.width`: found nothing, expected a value"},
        {"parts.yaml", "predictor.width=3", "key `predictor.width`: found a key without effect"},
        {"parts.yaml", "predictor={map: low_rank, width: 9}",
         "key `predictor.width`: found the keys of base layer 0: rank 9"},
        {"parts.yaml", "predictor={map: mlp, width: 9, rank: 2}",
         "key `predictor.rank`: found 2, expected 0"},
        {"parts.yaml", "predictor={rank: 2, width: 3}", "key `predictor.width`: found a key without effect"},
        {"parts.yaml", "predictor.token_table=wide",
         "key `predictor.token_table`: found `wide`, expected none, full"},
        {"parts.yaml", "predictor.token_table=0", "key `predictor.token_table`: found `0`"},
        {"parts.yaml", "predictor={heads: matched, sources: [h]}",
         "key `predictor.heads`: found the keys of base layer 0 match heads with h0, which has none"},
        {"parts.yaml", "predictor.adapt=lora", "key `predictor.adapt_rank`: found nothing, expected a value"},
        {"parts.yaml", "predictor.adapt_rank=2", "key `predictor.adapt_rank`: found a key without effect"},
        {"parts.yaml", "predictor={adapt: lora, adapt_rank: 17}",
         "key `predictor.adapt_rank`: found adapted queries of rank 17, expected 1 to 16"},
        {"base.yaml", "prefix_layers=1",
         "key `prefix_layers`: found a key without effect, expected it only with task: kvp"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        train_refuse(cases[i].message,
                     ARGS(cases[i].config, "-o", "refused", "-s", cases[i].override, "--dry-run"));
        assert_false(exists("refused"));
    }
}

// What makes a regression unsolvable are the numbers of keys: they are told with it.
static void test_singular(void **state) {
    (void)state;
    train_expect(1, ARGS("parts.yaml", "-o", "singular", "-s",
                         "predictor={sources: [k, v, h], aux_layers: 2, init: least_squares, ridge: 0, "
                         "least_squares_tokens: 1}"));
    expect_said("kvtrain: least-squares start (predictor.ridge: 0, predictor.least_squares_tokens: 1): ");
    train_expect(
        1, ARGS("parts.yaml", "-o", "singular", "--force", "-s",
                "predictor={sources: [k, v, h], aux_layers: 2, choose: best, ridge: 0, best_tokens: 1}"));
    expect_said("predictor.choose: best (predictor.ridge: 0, predictor.best_tokens: 1): ");
    assert_false(exists("singular/final"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_combinations), cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_base_start),   cmocka_unit_test(test_inspected),
        cmocka_unit_test(test_refusals),     cmocka_unit_test(test_singular),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
