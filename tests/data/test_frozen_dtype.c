// Frozen weights in another type than they are stored in: rounded to nearest, known by the fingerprint of
// what is stored, in no more memory than they then take; and what that does to a loss.
#include "core/gemm/packed.h"
#include "core/objective.h"
#include "data/system/memory.h"
#include "tests/support/checkpoint.h"
#include "tests/support/numbers/reference_model.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PARAMS = 200 };

static double value_of(const kv_param *param, int64_t i) {
    float value;
    kv_param_values(param, i, 1, &value);
    return (double)value;
}

// ---- Values --------------------------------------------------------------------------------------------

static void check_conversion(const char *dir, kv_frozen_dtype dtype) {
    kv_model *stored, *held;
    kv_param *a[MAX_PARAMS], *b[MAX_PARAMS];
    char expected[17], fingerprint[17];
    must(kv_checkpoint_load(dir, &stored, &err), &err);
    must(kv_checkpoint_load_frozen(dir, NULL, dtype, &held, fingerprint, &err), &err);
    kv_checkpoint_fingerprint(stored, expected);
    assert_string_equal(fingerprint, expected);
    const int64_t n = kv_model_params(stored, a);
    assert_int_equal(kv_model_params(held, b), n);
    assert_memory_equal(stored->spec.layers, held->spec.layers, sizeof stored->spec.layers);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(b[i]->dtype, dtype);
        assert_null(b[i]->grad);
        for (int64_t j = 0; j < kv_param_size(a[i]); j += 1 + kv_param_size(a[i]) / 40) {
            const double value = value_of(a[i], j);
            const kv_dtype type = b[i]->dtype;
            const double nearest =
                type == KV_F32 ? value : test_half_value(type, test_half_nearest(type, value));
            assert_true(value_of(b[i], j) == nearest);
        }
    }
    kv_model_free(stored);
    kv_model_free(held);
}

static void test_values_are_rounded_to_nearest(void **state) {
    (void)state;
    check_conversion(golden("kvp_c/base"), KV_FROZEN_BF16);
    check_conversion(golden("kvp_c/base"), KV_FROZEN_F16);
    check_conversion(golden("hf/llama-untied-bf16"), KV_FROZEN_F32);
    check_conversion(golden("hf/llama-untied-bf16"), KV_FROZEN_F16);
    check_conversion(golden("hf/llama-sharded-f16"), KV_FROZEN_BF16);
}

static kv_model_spec two_layers(int64_t vocab_size, int64_t dim, int64_t head_dim, kv_layer_spec layer) {
    return (kv_model_spec){.model_type = "llama",
                           .vocab_size = vocab_size,
                           .model_dim = dim,
                           .head_dim = head_dim,
                           .n_layers = 2,
                           .context_length = 8,
                           .layers = {layer, layer},
                           .norm_eps = 1e-5f,
                           .rope = {.theta = 10000},
                           .bos_id = -1,
                           .eos_id = -1};
}

// Views of a file go into panels; the model keeps its fingerprint there, and is saved as it was.
static void test_whoever_only_runs_it_gets_panels(void **state) {
    (void)state;
    const kv_model_spec spec = two_layers(64, 32, 8, (kv_layer_spec){4, 2, 40});
    kv_model *model;
    char expected[17], fingerprint[17];
    must(kv_model_create(&spec, KV_F32, true, &model, &err), &err);
    kv_model_fill_random(model, 5, NULL, 0);
    kv_checkpoint_fingerprint(model, expected);
    must(kv_checkpoint_save(test_dir, model, &err), &err);
    kv_model_free(model);
    must(kv_checkpoint_load_frozen(test_dir, NULL, KV_FROZEN_STORED, &model, NULL, &err), &err);
    assert_int_equal(model->layers[0].down.layout, KV_IN_PANELS); // 32 rows
    assert_int_equal(model->head.layout, KV_IN_PANELS);
    assert_int_equal(model->layers[1].gate.layout, KV_IN_ROWS); // 40 rows
    kv_checkpoint_fingerprint(model, fingerprint);
    assert_string_equal(fingerprint, expected);
    must(kv_checkpoint_save(test_dir, model, &err), &err);
    kv_model_free(model);
    must(kv_checkpoint_load(test_dir, &model, &err), &err);
    kv_checkpoint_fingerprint(model, fingerprint);
    assert_string_equal(fingerprint, expected);
    kv_model_free(model);
}

// No copy of what has its type already, fingerprint or not.
static void test_stored_type_stays(void **state) {
    (void)state;
    static const struct {
        const char *dir;
        kv_frozen_dtype dtype;
    } cases[] = {{"kvp_c/base", KV_FROZEN_STORED},
                 {"kvp_c/base", KV_FROZEN_F32},
                 {"hf/llama-untied-bf16", KV_FROZEN_BF16},
                 {"hf/llama-untied-bf16", KV_FROZEN_STORED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_model *model;
        char expected[17], fingerprint[17];
        must(kv_checkpoint_load(golden(cases[i].dir), &model, &err), &err);
        const kv_model *before = model;
        kv_checkpoint_fingerprint(model, expected);
        must(kv_checkpoint_convert(&model, cases[i].dtype, fingerprint, &err), &err);
        assert_ptr_equal(model, before);
        assert_string_equal(fingerprint, expected);
        must(kv_checkpoint_convert(&model, cases[i].dtype, NULL, &err), &err);
        assert_ptr_equal(model, before);
        kv_model_free(model);
    }
}

// float16 ends at 65504; infinity would only be found when it has spoilt a loss.
static void test_too_large_for_the_type(void **state) {
    (void)state;
    const kv_model_spec spec = two_layers(9, 8, 4, (kv_layer_spec){2, 1, 6});
    kv_model *model;
    must(kv_model_create(&spec, KV_F32, true, &model, &err), &err);
    ((float *)model->layers[1].up.data)[17] = 65519; // still rounds down
    must(kv_checkpoint_save(test_dir, model, &err), &err);
    ((float *)model->layers[1].up.data)[17] = -65520;
    kv_model *held;
    must(kv_checkpoint_load_frozen(test_dir, NULL, KV_FROZEN_F16, &held, NULL, &err), &err);
    kv_model_free(held);
    must(kv_checkpoint_save(test_dir, model, &err), &err);
    kv_model_free(model);
    assert_refused(kv_checkpoint_load_frozen(test_dir, NULL, KV_FROZEN_F16, &held, NULL, &err), KV_ERR_RANGE,
                   test_dir, "layers.1.up", "too large for F16");
    assert_null(held);
    must(kv_checkpoint_load_frozen(test_dir, NULL, KV_FROZEN_BF16, &held, NULL, &err), &err);
    kv_model_free(held);
    assert_refused(kv_checkpoint_load_frozen("/nowhere", NULL, KV_FROZEN_BF16, &held, NULL, &err), KV_ERR_IO,
                   "/nowhere");
    assert_null(held);
}

// ---- Loss ----------------------------------------------------------------------------------------------

static double loss_of(kv_model *model, kv_tape *tape, bool backward) {
    enum { N_SEQ = 2, SEQ_LEN = 24, TOKENS = N_SEQ * SEQ_LEN };
    int32_t ids[TOKENS + 1];
    for (int i = 0; i <= TOKENS; i++) ids[i] = (int32_t)test_below(6, i, model->spec.vocab_size);
    const kv_batch batch = {
        .input_ids = ids, .target_ids = ids + 1, .n_seq = N_SEQ, .seq_len = SEQ_LEN, .ignore_index = -1};
    const kv_lm_weights weights = {.ce = 1};
    kv_lm_loss_terms terms;
    kv_tape_reset(tape);
    kv_tensor *loss = kv_lm_objective(tape, model, NULL, &batch, &weights, &terms);
    must(kv_tape_status(tape, &err), &err);
    if (backward) must(kv_tape_backward(tape, loss, &err), &err);
    return terms.cross_entropy;
}

// Rounding to the nearest bfloat16 changes a weight w by at most 2^-9·|w|, to the nearest float16 (of numbers
// that are not tiny) by 2^-12·|w|, so that to first order the loss changes by at most that times Σ |w·dL/dw|.
// All weights would have to err in the worst direction at once for that; beside it is the arithmetic's own
// error, twice.
struct run {
    kv_model *model;
    kv_tape *tape;
};

static void run_loss(const void *context, double *results) {
    const struct run *r = context;
    *results = loss_of(r->model, r->tape, false);
}

static void test_loss_within_rounding(void **state) {
    (void)state;
    static const struct {
        kv_frozen_dtype dtype;
        double unit;
    } types[] = {{KV_FROZEN_BF16, 0x1p-9}, {KV_FROZEN_F16, 0x1p-12}};
    kv_tape *tape = kv_tape_create();
    kv_model *exact;
    kv_param *params[MAX_PARAMS];
    must(kv_checkpoint_load_trainable(golden("kvp_c/base"), &exact, &err), &err);
    must(kv_model_set_trainable(exact, true, &err), &err);
    const double loss = loss_of(exact, tape, true);
    double slope = 0;
    const int64_t n = kv_model_params(exact, params);
    rounding_operands operands = {0};
    rounding_add_params(&operands, params, n);
    rounding_spread spread =
        rounding_measure(&operands, ref_terms_forward(&exact->spec, exact->spec.vocab_size), run_loss,
                         &(struct run){exact, tape}, 1);
    const double arithmetic = 2 * spread.allowed[0];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < kv_param_size(params[i]); j++)
            slope += fabs((double)params[i]->grad[j] * value_of(params[i], j));
    for (int i = 0; i < 2; i++) {
        kv_model *held;
        must(kv_checkpoint_load_frozen(golden("kvp_c/base"), NULL, types[i].dtype, &held, NULL, &err), &err);
        const double change = fabs(loss_of(held, tape, false) - loss),
                     bound = types[i].unit * slope + arithmetic;
        if (!(change <= bound)) fail_msg("the loss changed by %g, expected at most %g", change, bound);
        assert_true(types[i].dtype != KV_FROZEN_BF16 || change > arithmetic);
        kv_model_free(held);
    }
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
    kv_model_free(exact);
    kv_tape_free(tape);
}

// ---- Memory --------------------------------------------------------------------------------------------

static bool is_measurable(void) {
    return !test_under_asan() && kv_memory_peak() > 0;
}

// What this program prints when it is started again to do nothing else: bytes that loading adds to the peak.
static int print_growth(const char *dir, const char *dtype) {
    kv_model *model;
    char fingerprint[17];
    const int64_t before = kv_memory_held();
    if (kv_checkpoint_load_frozen(dir, NULL, (kv_frozen_dtype)atoi(dtype), &model, fingerprint, &err))
        return 1;
    printf("%lld\n", (long long)(kv_memory_peak() - before));
    kv_model_free(model);
    return 0;
}

static double growth(const char *dir, kv_frozen_dtype dtype) {
    char program[PATH_MAX] = "", command[2 * PATH_MAX];
    assert_true(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    snprintf(command, sizeof command, "'%s' %s %d", program, dir, (int)dtype);
    FILE *out = popen(command, "r");
    double bytes = 0;
    assert_non_null(out);
    assert_int_equal(fscanf(out, "%lf", &bytes), 1);
    assert_int_equal(pclose(out), 0);
    return bytes;
}

static void test_memory_is_that_of_the_type(void **state) {
    (void)state;
    kv_model_spec spec = {.model_type = "llama",
                          .vocab_size = 4000,
                          .model_dim = 512,
                          .head_dim = 64,
                          .n_layers = 8,
                          .context_length = 64,
                          .norm_eps = 1e-5f,
                          .rope = {.theta = 10000},
                          .bos_id = -1,
                          .eos_id = -1,
                          .tied_head = true};
    for (int i = 0; i < 8; i++) spec.layers[i] = (kv_layer_spec){8, 4, 1536};
    kv_model *model;
    must(kv_model_create(&spec, KV_F32, true, &model, &err), &err);
    kv_model_fill_random(model, 1, NULL, 0);
    must(kv_checkpoint_save(test_dir, model, &err), &err);
    const double weights = (double)kv_model_size(model, true), table = 4.0 * 4000 * 512, slack = 6e6;
    kv_model_free(model);
    if (!is_measurable()) skip();
    const double f32 = growth(test_dir, KV_FROZEN_STORED), bf16 = growth(test_dir, KV_FROZEN_BF16);
    assert_true(f32 > 0.95 * 4 * weights);
    if (!(bf16 > 0.95 * 2 * weights && bf16 < 2 * weights + table + slack))
        fail_msg("%g bytes were taken for %g weights of 2 bytes", bf16, weights);
}

int main(int argc, char **argv) {
    if (argc == 3) return print_growth(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_rounded_to_nearest),
        cmocka_unit_test(test_stored_type_stays),
        cmocka_unit_test(test_values_are_rounded_to_nearest),
        cmocka_unit_test(test_whoever_only_runs_it_gets_panels),
        cmocka_unit_test(test_too_large_for_the_type),
        cmocka_unit_test(test_loss_within_rounding),
        cmocka_unit_test(test_memory_is_that_of_the_type),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
