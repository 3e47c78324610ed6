// Tabulated predictors: what is looked up and what is left predict what the whole did, to rounding; their products
// are counted exactly, and those of making the tables; the base's embedding is not read.
#include "core/gemm.h"
#include "core/predictor/tabulated.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_SEQ = 2, SEQ_LEN = 7, TOKENS = N_SEQ * SEQ_LEN, LAYERS = 3 };

static int32_t ids[TOKENS];
static const kv_sequence sequences[N_SEQ] = {{0, SEQ_LEN, 0, SEQ_LEN}, {SEQ_LEN, SEQ_LEN, SEQ_LEN, SEQ_LEN}};

// Calls check(part, made, f32 tables) for every part of which something depends on the token alone.
typedef void check_fn(const test_part *part, const test_made *made, kv_predictor *tabulated);
static int for_parts(check_fn *check) {
    int n = 0;
    for (int i = 0; i < TEST_PARTS; i++) {
        test_made made = test_part_make(&test_parts[i]);
        kv_predictor *tabulated = test_tabulated(&made, KV_F32);
        if (kv_predictor_token_tables(tabulated, NULL) > 0) check(&test_parts[i], &made, tabulated), n++;
        kv_predictor_free(tabulated);
        test_made_free(&made);
    }
    return n;
}

static void read_taps(const test_made *made, kv_predictor *p, kv_tape *tape, kv_taps *taps) {
    const kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ};
    kv_predictor_read(tape, p, made->base, made->aux, ids, TOKENS, &pass, false, taps);
}

// ---- Values ----------------------------------------------------------------------------------------------

struct run {
    const test_made *made;
    kv_predictor *predictor;
};

// All predicted keys and values, one after the other.
static void predict(const void *context, double *results) {
    const struct run *run = context;
    kv_tape *tape = kv_tape_create();
    kv_tensor *out[KV_SIDES][LAYERS];
    kv_key_norms norms;
    kv_taps taps;
    kv_tape_set_recording(tape, false);
    kv_model_key_norms(run->made->base, &norms);
    read_taps(run->made, run->predictor, tape, &taps);
    kv_predict(tape, run->predictor, &norms, &taps, out[KV_KEYS], out[KV_VALUES]);
    for (int64_t i = 0; i < LAYERS; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            const kv_tensor *y = out[side][i];
            for (int64_t k = 0; k < y->rows * y->cols; k++) *results++ = (double)y->data[k];
        }
    kv_tape_free(tape);
}

static int64_t n_results(const test_made *made) {
    int64_t n = 0;
    for (int64_t i = 0; i < LAYERS; i++) n += 2 * TOKENS * kv_spec_kv_dim(&made->base->spec, i);
    return n;
}

static void add_operands(rounding_operands *operands, int64_t n, kv_param **params) {
    rounding_add_params(operands, params, n);
    free(params);
}

static void same_values(const test_part *part, const test_made *made, kv_predictor *tabulated) {
    rounding_operands operands = {0};
    const int64_t n_base = kv_model_params(made->base, NULL), n = kv_predictor_params(made->predictor, NULL);
    kv_param **base = test_alloc(n_base, sizeof *base), **params = test_alloc(n, sizeof *params);
    kv_model_params(made->base, base);
    kv_predictor_params(made->predictor, params);
    add_operands(&operands, n_base, base);
    add_operands(&operands, n, params);
    const struct run whole = {made, made->predictor}, looked_up = {made, tabulated};
    rounding_spread spread = rounding_measure(&operands, 64, predict, &whole, n_results(made));
    double *found = test_alloc(spread.n, sizeof *found);
    predict(&looked_up, found);
    rounding_compare_results(part->name, found, spread.expected, &spread);
    free(found);
    rounding_spread_free(&spread);
    rounding_operands_free(&operands);
}

static void test_values_of_float32_are_those_of_the_whole(void **state) {
    (void)state;
    assert_int_equal(for_parts(same_values), 13);
}

// How far bf16 tables may move one number of an output: each number looked up is off by half the distance to its
// neighbour. What goes on through the map does so through a matrix, and before that through silu in a hidden layer,
// which is steep by at most 1.1.
static double moved_by(const kv_predictor *f32, int side, int64_t layer, int32_t id, int64_t col) {
    const kv_predictor_output *output = &f32->outputs[side][layer];
    const kv_map *map = &output->map;
    const int64_t dim = map->shape.output_dim;
    double sum = 0;
    if (output->table.rows > 0)
        sum = rounding_of_type(KV_BF16, (double)((const float *)output->table.data)[id * dim + col]);
    for (int64_t k = 0; k < map->n_params; k++) {
        const kv_param *table = &map->tokens[k];
        if (table->rows == 0) continue;
        const bool hidden = strcmp(map->kind->name, "mlp") == 0;
        const kv_param *next = &map->params[hidden ? 4 : 1];
        assert_int_equal(next->cols, table->cols);
        for (int64_t r = 0; r < table->cols; r++) {
            const double z = (double)((const float *)table->data)[id * table->cols + r],
                         w = (double)((const float *)next->data)[col * next->cols + r];
            sum += (hidden ? 1.1 : 1) * fabs(w) * rounding_of_type(KV_BF16, z);
        }
    }
    return sum;
}

static void bf16_values(const test_part *part, const test_made *made, kv_predictor *f32) {
    kv_predictor *bf16 = test_tabulated(made, KV_BF16);
    kv_tape *tape = kv_tape_create();
    kv_taps taps;
    double most = 0, moved = 0;
    kv_tape_set_recording(tape, false);
    read_taps(made, f32, tape, &taps);
    for (int64_t i = 0; i < LAYERS; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            const kv_tensor *x = kv_predict_one(tape, f32, side, i, &taps);
            const kv_tensor *y = kv_predict_one(tape, bf16, side, i, &taps);
            for (int64_t t = 0; t < TOKENS; t++)
                for (int64_t c = 0; c < x->cols; c++) {
                    const double a = (double)x->data[t * x->cols + c], b = (double)y->data[t * x->cols + c];
                    const double allowed = moved_by(f32, side, i, ids[t], c);
                    rounding_expect(part->name, b, a, allowed + rounding_bound(64, 4 + fabs(a)));
                    most += allowed, moved += fabs(a - b);
                }
        }
    assert_true(moved > 0.01 * most); // the bound is one of this rounding, and not of something else
    kv_tape_free(tape);
    kv_predictor_free(bf16);
}

static void test_values_of_bf16_are_off_by_its_rounding(void **state) {
    (void)state;
    for_parts(bf16_values);
}

// Nothing of the base is needed where an aux is read.
static void no_base(const test_part *part, const test_made *made, kv_predictor *tabulated) {
    if (part->prefix) return;
    kv_tape *tape = kv_tape_create();
    const kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ};
    kv_taps taps;
    kv_tape_set_recording(tape, false);
    assert_non_null(kv_predictor_read(tape, tabulated, NULL, made->aux, ids, TOKENS, &pass, false, &taps));
    assert_null(taps.embedding);
    assert_null(taps.own_v);
    kv_tape_free(tape);
}

static void test_the_base_is_not_read(void **state) {
    (void)state;
    for_parts(no_base);
}

// ---- Costs -----------------------------------------------------------------------------------------------

static uint64_t products_of(const test_made *made, kv_predictor *p) {
    double *results = test_alloc(n_results(made), sizeof *results);
    const struct run run = {made, p};
    kv_gemm_flops_reset();
    predict(&run, results);
    free(results);
    return kv_gemm_flops();
}

static void same_products(const test_part *part, const test_made *made, kv_predictor *tabulated) {
    const kv_model_spec *base = &made->base->spec, *aux = &made->aux->spec;
    const uint64_t spared = kv_flops_predictor_tokens(made->predictor, base, TOKENS),
                   left = kv_flops_predictor_maps(tabulated, base, TOKENS),
                   of_aux = kv_flops_predictor_aux(tabulated, aux, N_SEQ, TOKENS, 0);
    assert_int_equal(products_of(made, tabulated), of_aux + left);
    assert_int_equal(products_of(made, made->predictor), of_aux + left + spared);
    assert_int_equal(kv_flops_predictor_maps(made->predictor, base, TOKENS), left + spared);
    assert_int_equal(kv_flops_predictor_tokens(tabulated, base, TOKENS), spared);
    // Making the tables takes what each token is then spared.
    kv_gemm_flops_reset();
    kv_predictor_free(test_tabulated(made, KV_BF16));
    if (kv_gemm_flops() != kv_flops_predictor_tokens(made->predictor, base, base->vocab_size))
        fail_msg("%s: tables took %llu products", part->name, (unsigned long long)kv_gemm_flops());
    // A table of full width is looked up as it was.
    kv_token_table *tables = test_alloc(KV_MAX_TOKEN_TABLES, sizeof *tables);
    const int64_t n = kv_predictor_token_tables(tabulated, tables);
    int64_t width = 0;
    for (int64_t i = 0; i < n; i++) width += tables[i].param->cols;
    assert_int_equal(kv_predictor_lookups(tabulated, base), width);
    free(tables);
}

static void test_products(void **state) {
    (void)state;
    for_parts(same_products);
}

// What a session's memory is estimated by: floats a token beside what is read and what is predicted.
static void same_floats(const test_part *part, const test_made *made, kv_predictor *tabulated) {
    const kv_model_spec *base = &made->base->spec;
    kv_tape *tape = kv_tape_create();
    kv_tensor *k[LAYERS], *v[LAYERS];
    kv_key_norms norms;
    kv_taps taps;
    double gradients, predicted = 0;
    enum { LONG = 60, MANY = 20 * LONG };
    int32_t many[MANY];
    kv_sequence rows[MANY / LONG];
    tiny_ids(many, MANY, base->vocab_size, 8);
    for (int64_t i = 0; i < MANY / LONG; i++) rows[i] = (kv_sequence){i * LONG, LONG, i * LONG, LONG};
    kv_tape_set_recording(tape, false);
    kv_model_key_norms(made->base, &norms);
    const kv_pass pass = {.sequences = rows, .n_sequences = MANY / LONG};
    kv_predictor_read(tape, tabulated, made->base, made->aux, many, MANY, &pass, false, &taps);
    kv_tape *own = kv_tape_create();
    kv_tape_set_recording(own, false);
    kv_predict(own, tabulated, &norms, &taps, k, v);
    for (int64_t i = 0; i < LAYERS; i++) {
        const double dim = (double)kv_spec_kv_dim(base, i);
        // What a prefix has is handed on as it was read.
        if (i >= part->prefix) predicted += 2 * dim;
        predicted += base->qk_norm ? dim : 0;
    }
    const double said = 4.0 * MANY * (kv_predictor_floats(tabulated, base, false, &gradients) + predicted);
    const double taken = (double)kv_arena_peak(kv_tape_arena(own));
    if (!(taken <= said + 16384 && taken >= 0.95 * said))
        fail_msg("%s: %.0f bytes, said %.0f", part->name, taken, said);
    kv_tape_free(own);
    kv_tape_free(tape);
}

static void test_floats(void **state) {
    (void)state;
    for_parts(same_floats);
}

static void test_what_is_left_is_not_trained(void **state) {
    (void)state;
    test_made made = test_part_make(&test_parts[2]);
    kv_predictor *tabulated = test_tabulated(&made, KV_F32);
    kv_error err = {0};
    assert_int_equal(kv_predictor_set_trainable(tabulated, true, &err), KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "only a whole one"));
    assert_int_equal(kv_predictor_set_trainable(tabulated, false, &err), KV_OK);
    kv_predictor_free(tabulated);
    test_made_free(&made);
}

static int setup(void **state) {
    (void)state;
    tiny_ids(ids, TOKENS, 61, 4);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_of_float32_are_those_of_the_whole),
        cmocka_unit_test(test_values_of_bf16_are_off_by_its_rounding),
        cmocka_unit_test(test_the_base_is_not_read),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_what_is_left_is_not_trained),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
