// configs/methods: each published method is what its name says, its evaluation reads what its trainings write, and POP with
// all layers but the last is the base.
#include "data/checkpoint/checkpoint.h"
#include "eval/config/config.h"
#include "tests/support/train.h"
#include "train/config/config.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void config_path(const char *name, char path[512]) {
    snprintf(path, 512, "configs/methods/%s.yaml", name);
}

static const kv_train_config *load(const char *name, kv_config **source) {
    const kv_train_config *train;
    kv_error err = {0};
    char path[512];
    config_path(name, path);
    if (kv_train_config_load(path, NULL, 0, source, &train, &err)) fail_msg("%s", err.message);
    return train;
}

// ---- What they say -------------------------------------------------------------------------------------

static void test_prefixes(void **state) {
    (void)state;
    static const char *const names[] = {"pop", "swiftkv", "prefix_ridge"};
    for (int i = 0; i < 3; i++) {
        kv_config *source;
        const kv_train_config *c = load(names[i], &source);
        const bool trained = i == 1, solved = i == 2;
        assert_true(c->prefix_layers == 4 && kv_train_prefix(c) && c->predictor.n_sources == 0);
        assert_int_equal(c->predictor.init, solved ? KV_START_LEAST_SQUARES : KV_START_BASE);
        assert_int_equal(c->predictor.adapt, trained ? KV_ADAPT_QUERIES : KV_ADAPT_NONE);
        assert_int_equal(c->predictor.token_table, KV_TABLE_NONE);
        assert_true((c->train.steps > 0) == trained);
        if (trained)
            assert_true(c->loss.base == 0 && c->loss.consistency == 0 && c->loss.kl == 1 &&
                        c->loss.kl_temperature == 2 && c->loss.hidden == 1);
        kv_config_free(source);
    }
}

static void test_other_models(void **state) {
    (void)state;
    static const char *const names[] = {"ridge_best8", "head_matched"};
    for (int i = 0; i < 2; i++) {
        kv_config *source;
        const kv_train_config *c = load(names[i], &source);
        const kv_predictor_config *p = &c->predictor;
        assert_true(p->aux_layers == 8 && p->choose == KV_CHOICE_BEST && p->ridge == 0.01);
        assert_true(p->init == KV_START_LEAST_SQUARES && c->train.steps == 0 && c->freeze_aux);
        assert_true(p->n_sources == 0 && !p->map && p->rank == 0 && p->adapt == KV_ADAPT_NONE);
        assert_int_equal(p->heads, i == 1 ? KV_HEADS_MATCHED : KV_HEADS_FULL);
        kv_config_free(source);
    }
}

static void expect_text(const char *found, const char *start, const char *end) {
    char expected[256];
    snprintf(expected, sizeof expected, "%s%s", start, end);
    assert_string_equal(found, expected);
}

static void expect_row(const kv_eval_system *row) {
    kv_config *source;
    char name[64], output[128];
    assert_int_equal(sscanf(row->predictor, "runs/methods/%63[^/]/final/predictor", name), 1);
    const kv_train_config *c = load(name, &source);
    snprintf(output, sizeof output, "runs/methods/%s", name);
    assert_string_equal(c->output, output);
    assert_string_equal(c->base, row->base);
    if (kv_train_prefix(c))
        assert_null(row->aux);
    else
        expect_text(row->aux, output, "/final/aux");
    kv_config_free(source);
}

static void test_evaluation(void **state) {
    (void)state;
    kv_config *source;
    const kv_eval_config *eval;
    kv_error err = {0};
    char path[512];
    glob_t found;
    unsigned rows = 0;
    config_path("eval", path);
    if (kv_eval_config_load(path, NULL, 0, &source, &eval, &err)) fail_msg("%s", err.message);
    for (unsigned i = 0; i < eval->n_systems; i++)
        if (eval->systems[i].predictor) expect_row(&eval->systems[i]), rows++;
    config_path("*", path);
    assert_int_equal(glob(path, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, rows + 2); // common and eval itself
    globfree(&found);
    kv_config_free(source);
}

// ---- POP of all layers but the last --------------------------------------------------------------------

enum { TOKENS = 12 };

// What reads the base's own state by the base's own projections is the base's own cache, to the last bit.
static void test_pop_is_exact(void **state) {
    (void)state;
    static const int32_t ids[TOKENS] = {1, 7, 3, 9, 9, 4, 20, 31, 2, 5, 17, 8};
    const kv_sequence sequence = {0, TOKENS, 0, TOKENS};
    char path[512];
    kv_error err = {0};
    config_path("pop", path);
    train_expect(0, ARGS(path, "-o", "pop", "-s", "base=base/final/model", "-s", "prefix_layers=2", "-s",
                         "data.train=shard.h5", "-s", "data.seq_len=16"));
    kv_model *base;
    kv_predictor *predictor = NULL;
    if (kv_checkpoint_load("base/final/model", &base, &err) ||
        kv_predictor_load("pop/final/predictor", &base->spec, NULL, NULL, NULL, &predictor, &err))
        fail_msg("%s", err.message);
    kv_tape *tape = kv_tape_create();
    kv_tensor *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS], *own_k[KV_MAX_LAYERS], *own_v[KV_MAX_LAYERS];
    kv_pass pass = {.sequences = &sequence, .n_sequences = 1};
    kv_taps taps;
    kv_key_norms norms;
    kv_model_key_norms(base, &norms);
    kv_predictor_read(tape, predictor, base, base, ids, TOKENS, &pass, false, &taps);
    kv_predict(tape, predictor, &norms, &taps, k, v);
    pass = (kv_pass){.sequences = &sequence, .n_sequences = 1, .k = own_k, .v = own_v, .only_kv = true};
    kv_model_forward(tape, base, ids, TOKENS, &pass);
    if (kv_tape_status(tape, &err)) fail_msg("%s", err.message);
    for (int64_t i = 0; i < base->spec.n_layers; i++) {
        const size_t n = (size_t)(TOKENS * kv_spec_kv_dim(&base->spec, i)) * sizeof(float);
        assert_memory_equal(k[i]->data, own_k[i]->data, n);
        assert_memory_equal(v[i]->data, own_v[i]->data, n);
    }
    kv_tape_free(tape);
    kv_predictor_free(predictor);
    kv_model_free(base);
}

static int setup(void **state) {
    return train_setup(state) || test_link_configs();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_other_models),
        cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_pop_is_exact),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
