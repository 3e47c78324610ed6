// The tables of keys in train/README.md against what kvtrain loads, and the comparison itself against tables
// that are wrong.
#include "tests/support/key_reference.h"

#include "data/file/content.h"
#include "tests/support/support.h"
#include "train/config/config.h"
#include "train/sweep/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kv_status load_training(const char *path, const char *const *overrides, size_t n_overrides,
                               kv_config **config, const void **data, kv_error *err) {
    const kv_train_config *train;
    const kv_status status = kv_train_config_load(path, overrides, n_overrides, config, &train, err);
    *data = train;
    return status;
}

#define STEPS "train: {steps: 10, lr: 1e-3}\n"
#define TEXT  "data: {train: t, seq_len: 8, batch_size: 4}\n"
#define KVP   "task: kvp\noutput: o\n" TEXT STEPS "base: b\n"

static const char *const trainings[] = {
    "task: lm\noutput: o\n" TEXT STEPS
    "model: {n_layers: 2, model_dim: 8, head_dim: 4, n_heads: 2, n_kv_heads: 1, ffn_dim: 8}\n",
    "task: lm\noutput: o\n" TEXT STEPS "model: {from: checkpoint, path: m}\n",
    "task: lm\noutput: o\n" TEXT STEPS "model: {from: pruned, path: m, keep: 0.5}\n",
    "task: lm\noutput: o\n" TEXT STEPS "model: {from: checkpoint, path: m}\nbase: b\nloss: {kl: 1}\n",
    KVP "aux: a\n",
    KVP "aux: a\npredictor: {mapping: explicit, layers: [0, 1]}\n",
    KVP "predictor: {mapping: pruned, keep: 0.5}\n",
    KVP "aux: prefix\nprefix_layers: 1\n",
    KVP "aux: prefix\nprefix_layers: 1\npredictor: {init: checkpoint, path: p}\n",
    KVP "aux: a\npredictor: {map: low_rank, width: 4, adapt: lora, adapt_rank: 2, sources: [k]}\n",
    "task: kvp\noutput: o\nbase: b\naux: a\ndata: {train: t, seq_len: 8, batch_size: 4, packing: fixed}\n" STEPS
    "teacher: cached\ncache: c\n",
    "task: kvp\nrecipe: ours\noutput: o\n" TEXT "train: {steps: 10}\nbase: b\naux: a\n",
    "task: kvp\noutput: o\nbase: b\naux: a\n" STEPS
    "data: {mixture: [{corpus: t, weight: 1}, {corpus: u, weight: 2}],\n"
    "       seq_len: 8, batch_size: 4, validation: v}\n",
    NULL};

static const key_reference training = {.readme = "train/README.md",
                                       .heading = "## Every key of a configuration",
                                       .schema = &kv_train_schema,
                                       .load = load_training,
                                       .paths = kv_train_paths,
                                       .examples = trainings};

static void test_trainings(void **state) {
    (void)state;
    assert_key_reference(&training, test_dir);
}

// ---- Sweeps --------------------------------------------------------------------------------------------

// As kvtrain does before it trains: every configuration that the file leads to is loaded.
static kv_status load_sweep(const char *path, const char *const *overrides, size_t n_overrides,
                            kv_config **config, const void **data, kv_error *err) {
    static kv_sweep sweep;
    const kv_sweep_args args = {.path = path, .jobs = 1};
    kv_sweep_close(&sweep);
    sweep = (kv_sweep){0};
    kv_status status = kv_sweep_open(&args, &sweep, err);
    if (status != KV_OK) return status;
    *data = &sweep.file;
    return kv_config_load(path, overrides, n_overrides, NULL, config, err);
}

static const char *const sweeps[] = {"output: o\ntrain: train.yaml\ngrid: {seed: [1, 2]}\n",
                                     "output: o\narms: [{name: a, train: train.yaml}]\n",
                                     "output: o\ntrain: train.yaml\narms: [{name: a, set: {seed: 2}}]\n",
                                     NULL};

static void test_sweeps(void **state) {
    (void)state;
    const key_reference sweep = {.readme = "train/README.md",
                                 .heading = "## Every key of a sweep",
                                 .schema = &kv_sweep_schema,
                                 .load = load_sweep,
                                 .examples = sweeps};
    kv_error err = {0};
    if (kv_write_file(test_path(test_dir, "train.yaml"), trainings[0], strlen(trainings[0]), &err) != KV_OK)
        fail_msg("%s", err.message);
    assert_key_reference(&sweep, test_dir);
}

// ---- The comparison itself -----------------------------------------------------------------------------

struct mistake {
    const char *from, *to, *problem;
};

// Whether what is said of both begins with the same key, or one of them says nothing of keys.
static bool about_the_same(const struct mistake *a, const struct mistake *b) {
    const size_t n = strcspn(a->problem, ":");
    return a->problem[0] != '`' || b->problem[0] != '`' || strncmp(a->problem, b->problem, n + 1) == 0;
}

static char *with_mistake(const char *text, const struct mistake *m) {
    const char *at = strstr(text, m->from);
    char *wrong = NULL;
    if (at)
        assert_true(asprintf(&wrong, "%.*s%s%s", (int)(at - text), text, m->to, at + strlen(m->from)) > 0);
    return wrong;
}

// The one at `first`, which has to be in the text, and of those behind it what is about other keys: a comparison takes a while.
static void make_mistakes(const char *text, const struct mistake *mistakes, size_t n, bool *made,
                          size_t first) {
    bool now[64] = {false};
    assert_true(n <= 64);
    char *wrong = strdup(text);
    for (size_t i = first; i < n; i++) {
        bool alone = !made[i];
        for (size_t k = first; k < i; k++)
            alone = alone && !(now[k] && about_the_same(&mistakes[k], &mistakes[i]));
        char *more = alone ? with_mistake(wrong, &mistakes[i]) : NULL;
        if (!more) continue;
        free(wrong);
        wrong = more;
        made[i] = now[i] = true;
    }
    if (!made[first]) fail_msg("not in the README: %s", mistakes[first].from);
    char *problems = key_reference_problems(&training, test_dir, wrong);
    for (size_t i = first; i < n; i++)
        if (now[i] && !strstr(problems, mistakes[i].problem))
            fail_msg("%s: expected %s, found: %s", mistakes[i].to, mistakes[i].problem, problems);
    free(problems);
    free(wrong);
}

// The README's own text with a few things changed, and what is said about them.
static void test_finds(void **state) {
    (void)state;
    static const struct mistake mistakes[] = {
        {"| `train.eps` |", "| `train.epsilon` |", "`train.eps`: no row"},
        {"| `train.eps` |", "| `train.epsilon` |", "`train.epsilon`: a row, but the schema has no such key"},
        {"| `train.eps` |", "| `train.lr` |", "`train.lr`: two rows"},
        {"| whole number from 0 | `50` |", "| whole number from 0 | `51` |", "`train.warmup_steps`: default"},
        {"| whole number from 0 | `50` |", "| number from 0 | `50` |", "`train.warmup_steps`: type"},
        {"| whole number from 0 | `50` |", "| whole number from 1 | `50` |", "`train.warmup_steps`: type"},
        {"| whole number from 0 | `50` |", "| whole number from 0 | required |",
         "`train.warmup_steps`: default"},
        {"| whole number from 0 | `50` |", "| whole number from 0 | 50 |", "`train.warmup_steps`: default"},
        {"| `train.lr` / 10 |", "| `train.lr` / 9 |", "`train.lr_end`: default"},
        {"| `train.lr` / 10 |", "| none |", "`train.lr_end`: default"},
        {"| number from 1e-9 to 1e9 | required |", "| number | none |", "`data.mixture[].weight`: default"},
        {"| number from 1e-9 to 1e9 |", "| number from 1e-9 to 1e8 |", "`data.mixture[].weight`: type"},
        {"`stream` or `fixed`", "`stream` or `fix`", "`data.packing`: type"},
        {"| `auto` or number | `auto` | What", "| `all` or number | `auto` | What",
         "`train.memory_gb`: type"},
        {"| `auto` or number | `auto` | What", "| text | `0` | What", "`train.memory_gb`: default"},
        {"| `false` | Keep the model", "| `true` | Keep the model", "`train.keep_best`: default"},
        {"| `cache` | path |", "| `cache` | text |", "`cache`: type \"text\", but {seed} is a seed there"},
        {"| `cache` | path |", "| `caches` | path |", "`cache`: no row, expected one of a path"},
        {"| Layers. |", "| |", "`model.n_layers`: no meaning"},
        {"## Every key of a configuration", "## Some keys", "no heading"},
    };
    enum { N = sizeof mistakes / sizeof *mistakes };
    bool made[N] = {false};
    char *text;
    size_t size;
    kv_error err = {0};
    const char *path = test_path(getenv("KV_TEST_DIR"), "../train/README.md");
    if (kv_read_file(path, 1 << 20, &text, &size, &err) != KV_OK) fail_msg("%s", err.message);
    for (size_t first = 0; first < N; first++)
        if (!made[first]) make_mistakes(text, mistakes, N, made, first);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_trainings), cmocka_unit_test(test_sweeps),
                                       cmocka_unit_test(test_finds)};
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
