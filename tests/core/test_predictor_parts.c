// Every part a predictor can be made of, in one table: values and gradients against central differences,
// products against the counter, adapted queries, exact layers and prefixes against the base itself.
#include "core/flops.h"
#include "core/gemm.h"
#include "core/objective.h"
#include "core/predictor/least_squares.h"
#include "core/predictor/token_fit.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SEQ = 2, SEQ_LEN = 7, TOKENS = N_SEQ * SEQ_LEN };

static int32_t ids[TOKENS], next_ids[TOKENS];
static const kv_sequence sequences[N_SEQ] = {{0, SEQ_LEN, 0, SEQ_LEN}, {SEQ_LEN, SEQ_LEN, SEQ_LEN, SEQ_LEN}};

// ---- Gradients -----------------------------------------------------------------------------------------

// The consistency has kinks, over which differences step.
static const kv_kvp_weights smooth = {.base = 1, .kl = 0.5f},
                            weights = {.base = 1, .consistency = 0.3f, .kl = 0.5f};

static kv_tensor *loss_of(const test_made *m, kv_tape *tape, const kv_kvp_weights *w) {
    const kv_batch batch = {
        .input_ids = ids, .target_ids = next_ids, .n_seq = N_SEQ, .seq_len = SEQ_LEN, .ignore_index = -100};
    kv_tensor *loss = kv_kvp_objective(tape, m->base, m->aux, m->predictor, &batch, w, NULL, NULL);
    if (!loss) {
        kv_error err = {0};
        kv_tape_status(tape, &err);
        fail_msg("%s", err.message);
    }
    return loss;
}

// A step along the gradient of a whole parameter has to change the loss by its squared length.
static void expect_gradient(const char *name, const test_made *m, kv_param *param) {
    const int64_t n = kv_param_size(param);
    float *data = param->data, *kept = test_alloc(n, sizeof *kept);
    double square = 0, found[2];
    memcpy(kept, data, (size_t)n * sizeof *kept);
    for (int64_t i = 0; i < n; i++) square += (double)param->grad[i] * (double)param->grad[i];
    const double step = square > 0 ? 4e-3 / sqrt(square) : 0;
    for (int side = 0; side < 2; side++) {
        kv_tape *tape = kv_tape_create();
        kv_tape_set_recording(tape, false);
        for (int64_t i = 0; i < n; i++)
            data[i] = kept[i] + (float)((side ? -step : step) * (double)param->grad[i]);
        found[side] = (double)*loss_of(m, tape, &smooth)->data;
        kv_tape_free(tape);
    }
    memcpy(data, kept, (size_t)n * sizeof *kept);
    free(kept);
    // float32 losses of about 6 differ by their rounding, 3e-7; the step's second order falls out.
    const double expected = 2 * step * square, off = fabs(found[0] - found[1] - expected);
    if (!(off <= 0.02 * expected + 4e-6))
        fail_msg("%s, %s: the loss changes by %g, expected %g", name, param->name, found[0] - found[1],
                 expected);
}

static void gradients_of(const test_part *part, bool aux_trained, bool checkpointing) {
    test_made m = test_part_make(part);
    kv_error err = {0};
    kv_tape *tape = kv_tape_create();
    kv_tape_set_checkpointing(tape, checkpointing);
    assert_int_equal(kv_predictor_set_trainable(m.predictor, true, &err), KV_OK);
    if (aux_trained) assert_int_equal(kv_model_set_trainable(m.aux, true, &err), KV_OK);
    if (kv_tape_backward(tape, loss_of(&m, tape, &smooth), &err) != KV_OK)
        fail_msg("%s: %s", part->name, err.message);
    const int64_t n = kv_predictor_params(m.predictor, NULL);
    kv_param **params = test_alloc(n, sizeof *params);
    kv_predictor_params(m.predictor, params);
    for (int64_t i = 0; i < n; i++) expect_gradient(part->name, &m, params[i]);
    if (aux_trained) expect_gradient(part->name, &m, &m.aux->layers[0].up);
    if (aux_trained) expect_gradient(part->name, &m, &m.aux->layers[1].k);
    free(params);
    kv_tape_free(tape);
    test_made_free(&m);
}

static void test_gradients(void **state) {
    (void)state;
    for (int i = 0; i < TEST_PARTS; i++) {
        gradients_of(&test_parts[i], false, false);
        gradients_of(&test_parts[i], false, true);
        if (test_parts[i].prefix == 0 && test_parts[i].keys) gradients_of(&test_parts[i], true, i % 2);
    }
}

// Without a loss of its own, just those weights of the aux get a gradient that what is read of it comes from.
static void test_what_of_the_aux_learns(void **state) {
    (void)state;
    for (int i = 0; i < TEST_PARTS; i++) {
        if (test_parts[i].prefix > 0) continue;
        test_made m = test_part_make(&test_parts[i]);
        kv_error err = {0};
        kv_tape *tape = kv_tape_create();
        kv_param *all[256], *learn[256];
        const int64_t n = kv_model_params(m.aux, all),
                      n_learn = kv_predictor_aux_params(m.predictor, m.aux, learn);
        assert_int_equal(kv_predictor_set_trainable(m.predictor, true, &err), KV_OK);
        assert_int_equal(kv_model_set_trainable(m.aux, true, &err), KV_OK);
        if (kv_tape_backward(tape, loss_of(&m, tape, &weights), &err) != KV_OK) fail_msg("%s", err.message);
        int64_t size = 0, at = 0;
        for (int64_t k = 0; k < n; k++) {
            double square = 0;
            for (int64_t e = 0; e < kv_param_size(all[k]); e++)
                square += (double)all[k]->grad[e] * (double)all[k]->grad[e];
            const bool listed = at < n_learn && learn[at] == all[k];
            if (listed != (square > 0))
                fail_msg("%s: %s %s", test_parts[i].name, all[k]->name,
                         listed ? "gets no gradient" : "learns");
            if (listed) size += kv_param_size(all[k]), at++;
        }
        assert_int_equal(at, n_learn);
        assert_int_equal(kv_predictor_aux_size(m.predictor, &m.aux->spec), size);
        kv_tape_free(tape);
        test_made_free(&m);
    }
}

// ---- Products ------------------------------------------------------------------------------------------

// A layer of the aux that no gradient reaches is counted as if one did: parts where it is.
static bool counts_exactly(const test_part *part) {
    return !part->keys || strstr(part->keys, "1") || !strcmp(part->keys, "embedding");
}

static void expect_products(const test_part *part, bool aux_trained, bool checkpointing) {
    test_made m = test_part_make(part);
    kv_error err = {0};
    kv_tape *tape = kv_tape_create();
    kv_tape_set_checkpointing(tape, checkpointing);
    assert_int_equal(kv_predictor_set_trainable(m.predictor, true, &err), KV_OK);
    if (aux_trained) assert_int_equal(kv_model_set_trainable(m.aux, true, &err), KV_OK);
    kv_gemm_flops_reset();
    kv_tensor *loss = loss_of(&m, tape, &weights);
    assert_int_equal(kv_tape_backward(tape, loss, &err), KV_OK);
    const uint64_t found = kv_gemm_flops(),
                   said = kv_flops_kvp_step(&m.base->spec, &m.aux->spec, m.predictor, N_SEQ, SEQ_LEN,
                                            &weights, aux_trained, checkpointing);
    if (found != said)
        fail_msg("%s%s%s: %llu products, said %llu", part->name, aux_trained ? ", aux trained" : "",
                 checkpointing ? ", twice" : "", (unsigned long long)found, (unsigned long long)said);
    kv_tape_free(tape);
    test_made_free(&m);
}

static void test_products(void **state) {
    (void)state;
    for (int i = 0; i < TEST_PARTS; i++)
        for (int twice = 0; twice < 2; twice++) {
            expect_products(&test_parts[i], false, twice);
            if (test_parts[i].prefix == 0 && counts_exactly(&test_parts[i]) &&
                strcmp(test_parts[i].name, "the embedding alone"))
                expect_products(&test_parts[i], true, twice);
        }
}

// ---- Exact layers --------------------------------------------------------------------------------------

// What of a prefix is exact has the bits of the base's own cache, and so have the first layer's.
static void test_exact_layers_are_the_bases_own(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        const test_part *part = &test_parts[p];
        const int64_t n_exact = part->prefix ? part->prefix : part->exact_first;
        if (n_exact == 0) continue;
        test_made m = test_part_make(part);
        kv_tape *tape = kv_tape_create();
        kv_tensor *k[3], *v[3], *own_k[3], *own_v[3];
        kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ};
        kv_key_norms norms;
        kv_taps taps;
        kv_model_key_norms(m.base, &norms);
        kv_predictor_read(tape, m.predictor, m.base, m.aux, ids, TOKENS, &pass, false, &taps);
        kv_predict(tape, m.predictor, &norms, &taps, k, v);
        pass.k = own_k, pass.v = own_v;
        kv_model_forward(tape, m.base, ids, TOKENS, &pass);
        for (int64_t i = 0; i < n_exact; i++) {
            const size_t size = (size_t)(k[i]->rows * k[i]->cols) * sizeof(float);
            assert_memory_equal(k[i]->data, own_k[i]->data, size);
            assert_memory_equal(v[i]->data, own_v[i]->data, size);
        }
        assert_true(memcmp(k[n_exact]->data, own_k[n_exact]->data, 64) != 0);
        kv_tape_free(tape);
        test_made_free(&m);
    }
}

// ---- While the aux reads -------------------------------------------------------------------------------

struct taken {
    kv_tensor *expected[KV_SIDES][3];
    int n[KV_SIDES][3];
};

static void take(void *what, int side, int64_t layer, const kv_tensor *entries) {
    struct taken *t = what;
    const kv_tensor *expected = t->expected[side][layer];
    t->n[side][layer]++;
    assert_int_equal(entries->rows, expected->rows);
    assert_int_equal(entries->cols, expected->cols);
    assert_memory_equal(entries->data, expected->data, (size_t)(TOKENS * expected->cols) * sizeof(float));
}

// Layer by layer is all at once: the same bits, each output once, the same products.
static void expect_along(const test_made *m, kv_predictor *predictor, kv_model *base) {
    kv_tape *tape = kv_tape_create();
    struct taken taken = {0};
    const kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ};
    kv_key_norms norms;
    kv_taps taps;
    kv_tape_set_recording(tape, false);
    kv_model_key_norms(m->base, &norms);
    const uint64_t before = kv_gemm_flops();
    kv_predictor_read(tape, predictor, base, m->aux, ids, TOKENS, &pass, false, &taps);
    kv_predict(tape, predictor, &norms, &taps, taken.expected[KV_KEYS], taken.expected[KV_VALUES]);
    const uint64_t products = kv_gemm_flops() - before;
    assert_true(kv_predict_along(tape, predictor, &norms, base, m->aux, ids, TOKENS, &pass, NULL, take, &taken));
    assert_int_equal(kv_gemm_flops() - before, 2 * products);
    for (int64_t i = 0; i < m->base->spec.n_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) assert_int_equal(taken.n[side][i], 1);
    kv_tape_free(tape);
}

static void test_along(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        test_made m = test_part_make(&test_parts[p]);
        expect_along(&m, m.predictor, m.base);
        kv_predictor *tabulated = test_tabulated(&m, KV_BF16);
        if (tabulated) expect_along(&m, tabulated, m.base);
        kv_predictor_free(tabulated);
        test_made_free(&m);
    }
}

// What layer 0 of the base reads is the same whether it comes of the token alone or of a prefix that was run.
static void test_own_first_input_is_the_prefixs(void **state) {
    (void)state;
    const kv_model_spec base = tiny_base();
    kv_model *model = tiny_model(&base, 1);
    kv_predictor_spec *spec = test_alloc(1, sizeof *spec);
    kv_predictor *predictor;
    kv_tape *tape = kv_tape_create();
    kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ};
    kv_taps taps;
    kv_predictor_spec_prefix(&base, 1, spec);
    for (int side = 0; side < KV_SIDES; side++) {
        kv_sources_add(&spec->outputs[side][1].sources, KV_SOURCE_HIDDEN, 0);
        kv_sources_add(&spec->outputs[side][1].sources, KV_SOURCE_OWN_HIDDEN, 0);
    }
    assert_int_equal(kv_predictor_create(&base, &base, spec, &predictor, NULL), KV_OK);
    assert_non_null(kv_predictor_read(tape, predictor, model, model, ids, TOKENS, &pass, false, &taps));
    assert_int_equal(taps.own_h->cols, base.model_dim);
    assert_memory_equal(taps.own_h->data, taps.h[0]->data, (size_t)(TOKENS * base.model_dim) * sizeof(float));
    kv_predictor_free(predictor);
    kv_model_free(model);
    kv_tape_free(tape);
    free(spec);
}

// ---- Least squares -------------------------------------------------------------------------------------

// Maps that were solved for are at a minimum: going a little in any direction of a weight makes the squared
// error larger. Ridge 0, so that nothing else is minimised.
static double squared_error(const test_made *m, int side, int64_t layer, kv_tensor *const *raw_k,
                            kv_tensor *const *v, const kv_taps *taps, kv_tape *tape) {
    static const kv_key_norms none;
    const kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
    kv_tensor *k_made[3], *v_made[3];
    kv_predict(tape, m->predictor, &none, taps, k_made, v_made);
    const kv_tensor *found = side ? v_made[layer] : k_made[layer], *expected = side ? v[layer] : raw_k[layer];
    double sum = 0;
    for (int64_t i = 0; i < found->rows * found->cols; i++) {
        const double off = (double)found->data[i] - (double)expected->data[i];
        sum += off * off;
    }
    kv_arena_release(kv_tape_arena(tape), mark);
    return sum;
}

// A hidden layer adds nothing then, and has no part in it: its last matrix is zero.
static void expect_minimum(const char *name, const test_made *m, int side, int64_t layer,
                           kv_tensor *const *raw_k, kv_tensor *const *v, const kv_taps *taps, kv_tape *tape) {
    kv_map *map = &m->predictor->outputs[side][layer].map;
    kv_map_param params[KV_MAP_PARAMS];
    const double least = squared_error(m, side, layer, raw_k, v, taps, tape);
    map->kind->params(&map->shape, params);
    for (int64_t w = 0; w < map->n_params; w++) {
        const bool solved = strcmp(params[w].name, "weight") == 0 || strcmp(params[w].name, "bias") == 0;
        for (int64_t at = 0; at < kv_param_size(&map->params[w]); at += solved ? 17 : 1) {
            float *value = (float *)map->params[w].data + at;
            const float kept = *value;
            if (params[w].zero) assert_true(kept == 0);
            if (!solved) continue;
            *value = kept + 0.05f;
            const double up = squared_error(m, side, layer, raw_k, v, taps, tape);
            *value = kept - 0.05f;
            const double down = squared_error(m, side, layer, raw_k, v, taps, tape);
            *value = kept;
            if (!(up > least && down > least))
                fail_msg("%s: %s[%lld] is no minimum: %g, %g and %g", name, map->params[w].name,
                         (long long)at, down, least, up);
        }
    }
}

static void test_least_squares_is_a_minimum(void **state) {
    (void)state;
    enum { MANY = 60 * 2 };
    int32_t many[MANY];
    tiny_ids(many, MANY, 61, 9);
    const kv_sequence two[2] = {{0, 60, 0, 60}, {60, 60, 60, 60}};
    for (int p = 0; p < TEST_PARTS; p++) {
        const test_part *part = &test_parts[p];
        // Few enough inputs for the tokens; a table shifts what is regressed, low rank is no minimum of this.
        if (part->table || (part->map && strcmp(part->map, "low_rank") == 0)) continue;
        test_made m = test_part_make(part);
        kv_error err = {0};
        kv_tape *tape = kv_tape_create();
        kv_tape_set_recording(tape, false);
        kv_tensor *raw_k[3], *v[3];
        kv_taps taps;
        kv_least_squares *ls;
        double k_r2[3], v_r2[3];
        kv_pass pass = {.sequences = two, .n_sequences = 2};
        kv_predictor_read(tape, m.predictor, m.base, m.aux, many, MANY, &pass, false, &taps);
        pass.raw_k = raw_k, pass.v = v;
        kv_model_forward(tape, m.base, many, MANY, &pass);
        assert_int_equal(kv_least_squares_create(m.predictor, &ls, &err), KV_OK);
        kv_gemm_flops_reset();
        if (kv_least_squares_add(ls, tape, &taps, raw_k, v, NULL, &err) != KV_OK) fail_msg("%s", err.message);
        assert_int_equal(kv_gemm_flops(), kv_flops_least_squares_sums(m.predictor, MANY));
        if (kv_least_squares_solve(ls, 1e-9, m.predictor, k_r2, v_r2, &err) != KV_OK)
            fail_msg("%s: %s", part->name, err.message);
        for (int64_t i = 0; i < 3; i++)
            for (int side = 0; side < KV_SIDES; side++) {
                kv_map *map = &m.predictor->outputs[side][i].map;
                const double r2 = side ? v_r2[i] : k_r2[i];
                if (map->kind->exact) {
                    assert_true(r2 == 1);
                    continue;
                }
                assert_true(r2 > 0 && r2 <= 1 + 1e-9);
                expect_minimum(part->name, &m, side, i, raw_k, v, &taps, tape);
            }
        kv_least_squares_free(ls);
        kv_tape_free(tape);
        test_made_free(&m);
    }
}

// What maps and tables are solved for together: squared errors, and what holds the rows of rare tokens down.
static double penalised(const test_made *m, int side, int64_t layer, kv_tensor *const *raw_k,
                        kv_tensor *const *v, const kv_taps *taps, kv_tape *tape) {
    const kv_param *table = &m->predictor->outputs[side][layer].table;
    double sum = squared_error(m, side, layer, raw_k, v, taps, tape);
    for (int64_t i = 0; i < kv_param_size(table); i++) {
        const double row = (double)((float *)table->data)[i];
        sum += KV_TABLE_PRIOR * row * row;
    }
    return sum;
}

static void expect_least(const char *name, kv_param *param, const test_made *m, int side, int64_t layer,
                         kv_tensor *const *raw_k, kv_tensor *const *v, const kv_taps *taps, kv_tape *tape) {
    const double least = penalised(m, side, layer, raw_k, v, taps, tape);
    for (int64_t at = 0; at < kv_param_size(param); at += 17) {
        float *value = (float *)param->data + at;
        const float kept = *value;
        *value = kept + 0.05f;
        const double up = penalised(m, side, layer, raw_k, v, taps, tape);
        *value = kept - 0.05f;
        const double down = penalised(m, side, layer, raw_k, v, taps, tape);
        *value = kept;
        if (!(up > least && down > least))
            fail_msg("%s: %s[%lld] is no minimum: %g, %g and %g", name, param->name, (long long)at, down,
                     least, up);
    }
}

static double variance_of(const kv_tensor *y) {
    double sum = 0;
    for (int64_t c = 0; c < y->cols; c++) {
        double mean = 0, square = 0;
        for (int64_t r = 0; r < y->rows; r++) {
            const double value = (double)y->data[r * y->cols + c];
            mean += value / (double)y->rows, square += value * value;
        }
        sum += square - mean * mean * (double)y->rows;
    }
    return sum;
}

// Tables are at the same minimum as their maps, no weight of either can move; and the variance that is said to be explained
// is what the predictor, applied, leaves nothing of.
static void test_tables_are_fitted_with_their_maps(void **state) {
    (void)state;
    enum { MANY = 90 };
    int32_t many[MANY];
    int n_parts = 0;
    tiny_ids(many, MANY, 61, 9);
    const kv_sequence two[2] = {{0, 45, 0, 45}, {45, 45, 45, 45}};
    for (int p = 0; p < TEST_PARTS; p++) {
        const test_part *part = &test_parts[p];
        if (part->table != KV_TABLE_FULL || (part->map && strcmp(part->map, "linear") != 0)) continue;
        test_made m = test_part_make(part);
        kv_tape *tape = kv_tape_create();
        kv_tensor *raw_k[3], *v[3];
        kv_taps taps;
        kv_least_squares *ls;
        double r2[KV_SIDES][3];
        kv_pass pass = {.sequences = two, .n_sequences = 2};
        kv_tape_set_recording(tape, false);
        kv_predictor_read(tape, m.predictor, m.base, m.aux, many, MANY, &pass, false, &taps);
        pass.raw_k = raw_k, pass.v = v;
        kv_model_forward(tape, m.base, many, MANY, &pass);
        assert_int_equal(kv_least_squares_create(m.predictor, &ls, NULL), KV_OK);
        assert_int_equal(kv_least_squares_tables(ls, m.predictor, NULL), KV_OK);
        assert_int_equal(kv_least_squares_add(ls, tape, &taps, raw_k, v, NULL, NULL), KV_OK);
        assert_int_equal(kv_least_squares_solve(ls, 1e-9, m.predictor, r2[KV_KEYS], r2[KV_VALUES], NULL),
                         KV_OK);
        for (int64_t i = 0; i < 3; i++)
            for (int side = 0; side < KV_SIDES; side++) {
                kv_predictor_output *output = &m.predictor->outputs[side][i];
                if (output->map.kind->exact) continue;
                expect_least(part->name, &output->table, &m, side, i, raw_k, v, &taps, tape);
                expect_least(part->name, &output->map.params[0], &m, side, i, raw_k, v, &taps, tape);
                expect_least(part->name, &output->map.params[1], &m, side, i, raw_k, v, &taps, tape);
                const double left = squared_error(&m, side, i, raw_k, v, &taps, tape);
                const double all = variance_of(side ? v[i] : raw_k[i]);
                assert_true(fabs(r2[side][i] - (1 - left / all)) < 1e-4);
            }
        kv_least_squares_free(ls);
        kv_tape_free(tape);
        test_made_free(&m);
        n_parts++;
    }
    assert_int_equal(n_parts, 2);
}

// ---- Refusals ------------------------------------------------------------------------------------------

static void refuse(const char *expected, void (*spoil)(kv_predictor_spec *spec), bool prefix) {
    const kv_model_spec base = tiny_base(), aux = tiny_aux();
    static kv_predictor_spec spec;
    kv_predictor *predictor;
    kv_error err = {0};
    if (prefix)
        kv_predictor_spec_prefix(&base, 1, &spec);
    else
        kv_predictor_spec_paper(&base, &aux, (int32_t[]){0, 0, 1}, &spec);
    spoil(&spec);
    assert_true(kv_predictor_create(&base, prefix ? &base : &aux, &spec, &predictor, &err) != KV_OK);
    assert_null(predictor);
    if (!strstr(err.message, expected)) fail_msg("expected %s\nfound    %s", expected, err.message);
}

static void no_source(kv_predictor_spec *spec) {
    spec->outputs[KV_VALUES][1].sources.n = 0;
}
static void no_layer(kv_predictor_spec *spec) {
    spec->outputs[KV_VALUES][2].sources.at[0].layer = 2;
}
static void above_prefix(kv_predictor_spec *spec) {
    spec->outputs[KV_KEYS][2].sources.at[0].layer = 2;
}
static void keys_above_prefix(kv_predictor_spec *spec) {
    spec->outputs[KV_KEYS][2].sources.at[0] = (kv_source){KV_SOURCE_KEYS, 1};
}
static void no_heads(kv_predictor_spec *spec) {
    kv_sources_add(&spec->outputs[KV_KEYS][0].sources, KV_SOURCE_EMBEDDING, 0);
    spec->outputs[KV_KEYS][0].matched = true;
}
static void two_widths(kv_predictor_spec *spec) {
    spec->outputs[KV_KEYS][0].table = 4, spec->outputs[KV_KEYS][1].table = 5;
}
static void no_rank(kv_predictor_spec *spec) {
    spec->adapt = KV_ADAPT_LORA;
}

static void test_refusals(void **state) {
    (void)state;
    refuse("the values of base layer 1 read nothing", no_source, false);
    refuse("the values of base layer 2 read v2, expected an aux layer from 0 to 1", no_layer, false);
    refuse("the keys of base layer 2 read h2, expected at most layer 1: a prefix of 1 layers", above_prefix,
           true);
    refuse("the keys of base layer 2 read k1, expected at most layer 0", keys_above_prefix, true);
    refuse("the keys of base layer 0 match heads with embedding, which has none", no_heads, false);
    refuse("the keys of base layer 1 have a token table of width 5, expected 4", two_widths, false);
    refuse("adapted queries of rank 0, expected 1 to", no_rank, false);
}

static int setup(void **state) {
    (void)state;
    tiny_ids(ids, TOKENS, 61, 4);
    tiny_ids(next_ids, TOKENS, 61, 5);
    next_ids[3] = next_ids[9] = -100;
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_what_of_the_aux_learns),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_exact_layers_are_the_bases_own),
        cmocka_unit_test(test_along),
        cmocka_unit_test(test_own_first_input_is_the_prefixs),
        cmocka_unit_test(test_least_squares_is_a_minimum),
        cmocka_unit_test(test_tables_are_fitted_with_their_maps),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
