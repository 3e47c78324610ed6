// A batch in slices is the batch as a whole: loss and gradients, on any number of threads the same bits; and what fails in one
// slice fails the batch.
#include "core/optimizer.h"
#include "core/slices.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { N_SEQ = 9, SEQ_LEN = 12, TOKENS = N_SEQ * SEQ_LEN, N_SLICES = 5, MAX_PARAMS = 256, VOCABULARY = 61 };

// A language model that learns, alone or as the aux of a pair whose predictors learn, too.
typedef struct setting {
    tiny_pair pair;
    kv_model *model; // of its own; NULL: the pair is trained
    kv_param *params[MAX_PARAMS];
    int64_t n_params, size;
    int32_t ids[TOKENS], targets[TOKENS];
} setting;

static void collect(setting *s) {
    s->n_params = kv_model_params(s->model ? s->model : s->pair.aux, s->params);
    if (!s->model) s->n_params += kv_predictor_params(s->pair.predictor, s->params + s->n_params);
    assert_true(s->n_params <= MAX_PARAMS);
    for (int64_t i = 0; i < s->n_params; i++) s->size += kv_param_size(s->params[i]);
    tiny_ids(s->ids, TOKENS, VOCABULARY, 3);
    tiny_ids(s->targets, TOKENS, VOCABULARY, 4);
    for (int i = 0; i < TOKENS; i += 7) s->targets[i] = -100;
}

static setting setting_lm(bool tied_head) {
    setting s = {0};
    kv_model_spec spec = tiny_base();
    kv_error err = {0};
    spec.tied_head = tied_head;
    s.model = tiny_model(&spec, 1);
    if (kv_model_set_trainable(s.model, true, &err) != KV_OK) fail_msg("%s", err.message);
    collect(&s);
    return s;
}

static setting setting_pair(void) {
    setting s = {.pair = tiny_pair_make()};
    kv_error err = {0};
    if (kv_model_set_trainable(s.pair.aux, true, &err) != KV_OK ||
        kv_predictor_set_trainable(s.pair.predictor, true, &err) != KV_OK)
        fail_msg("%s", err.message);
    collect(&s);
    return s;
}

static void setting_free(setting *s) {
    if (s->model)
        kv_model_free(s->model);
    else
        tiny_pair_free(&s->pair);
}

static kv_tensor *objective(void *context, kv_tape *tape, const kv_slice *slice) {
    setting *s = context;
    if (s->model)
        return kv_lm_objective(tape, s->model, NULL, &slice->batch, &(kv_lm_weights){.ce = 1}, NULL);
    const kv_kvp_weights weights = {.base = 1, .aux = 0.5f, .consistency = 0.25f, .kl = 1};
    return kv_kvp_objective(tape, s->pair.base, s->pair.aux, s->pair.predictor, &slice->batch, &weights, NULL,
                            NULL);
}

static kv_batch batch_of(const setting *s) {
    return (kv_batch){.input_ids = s->ids,
                      .target_ids = s->targets,
                      .n_seq = N_SEQ,
                      .seq_len = SEQ_LEN,
                      .ignore_index = -100};
}

// Gradients of all parameters, one behind the other; the caller frees them.
static float *gradients(const setting *s) {
    float *all = test_alloc(s->size, sizeof *all), *next = all;
    for (int64_t i = 0; i < s->n_params; i++) {
        memcpy(next, s->params[i]->grad, (size_t)kv_param_size(s->params[i]) * sizeof *next);
        next += kv_param_size(s->params[i]);
    }
    return all;
}

// `times` passes over the batch, whose gradients add up.
static float *run(setting *s, int64_t n_slices, int n_threads, int times, bool checkpointing, double *loss) {
    kv_slices *slices;
    kv_error err = {0};
    const kv_batch batch = batch_of(s);
    const int before = omp_get_max_threads();
    omp_set_num_threads(n_threads);
    if (kv_slices_create(s->params, s->n_params, n_slices, &slices, &err) != KV_OK)
        fail_msg("%s", err.message);
    kv_slices_set_checkpointing(slices, checkpointing);
    kv_grad_zero(s->params, s->n_params);
    for (int i = 0; i < times; i++)
        if (kv_slices_backward(slices, &batch, objective, s, loss, &err) != KV_OK)
            fail_msg("%s", err.message);
    assert_int_equal(omp_get_max_threads(), n_threads); // what a slice sets is the slice's
    assert_true(kv_slices_peak(slices) > 0);
    kv_slices_free(slices);
    omp_set_num_threads(before);
    return gradients(s);
}

// Both are sums of the same products in another order. A number of a gradient goes through at most three layers of ten
// products of 61 terms, forward and backward, and one sum over the tokens: each addition is off by half an epsilon of what
// has been added up, whose size is that of the parameter's largest gradients.
static void expect_close(const setting *s, const float *whole, const float *sliced, double times) {
    const double additions = 2 * 3 * 10 * 61 + TOKENS, off = additions * FLT_EPSILON / 2;
    for (int64_t i = 0; i < s->n_params; i++) {
        const int64_t size = kv_param_size(s->params[i]);
        double largest = 0;
        for (int64_t j = 0; j < size; j++) largest = fmax(largest, fabs((double)whole[j]));
        for (int64_t j = 0; j < size; j++)
            if (!(fabs((double)sliced[j] - times * (double)whole[j]) <= times * off * largest))
                fail_msg("%s: %g whole, %g in slices", s->params[i]->name, times * (double)whole[j],
                         (double)sliced[j]);
        whole += size, sliced += size;
    }
}

static void check_setting(setting s) {
    double whole_loss, loss, again;
    float *whole = run(&s, 1, 2, 1, false, &whole_loss), *sliced = run(&s, N_SLICES, 1, 1, false, &loss);
    assert_float_equal(loss, whole_loss, 1e-5 * whole_loss);
    expect_close(&s, whole, sliced, 1);
    for (int threads = 2; threads <= 3; threads++) {
        float *same = run(&s, N_SLICES, threads, 1, false, &again);
        assert_true(loss == again);
        assert_memory_equal(same, sliced, (size_t)s.size * sizeof *same);
        free(same);
    }
    // Places and rows are there anew for the next batch; a slice may be as small as one sequence; layers may run again.
    float *twice = run(&s, N_SLICES, 2, 2, false, &again), *each = run(&s, KV_MAX_SLICES, 2, 1, true, &again);
    expect_close(&s, whole, twice, 2);
    expect_close(&s, whole, each, 1);
    free(whole), free(sliced), free(twice), free(each);
    setting_free(&s);
}

// Tied, the embedding has a gradient everywhere; untied that of the rows that were looked up.
static void test_language_model(void **state) {
    (void)state;
    check_setting(setting_lm(true));
    check_setting(setting_lm(false));
}

static void test_predictors(void **state) {
    (void)state;
    check_setting(setting_pair());
}

static void test_forward(void **state) {
    (void)state;
    setting s = setting_lm(true);
    const kv_batch batch = batch_of(&s);
    kv_slices *slices;
    kv_error err = {0};
    double loss, same;
    free(run(&s, N_SLICES, 2, 1, false, &loss));
    kv_grad_zero(s.params, s.n_params);
    assert_int_equal(kv_slices_create(s.params, s.n_params, N_SLICES, &slices, &err), KV_OK);
    assert_int_equal(kv_slices_forward(slices, &batch, objective, &s, &same, &err), KV_OK);
    assert_float_equal(same, loss, 1e-6 * loss); // logits go through in other blocks
    assert_true(kv_grad_norm(s.params, s.n_params) == 0);
    // What has looked can learn.
    assert_int_equal(kv_slices_backward(slices, &batch, objective, &s, &same, &err), KV_OK);
    assert_true(same == loss && kv_grad_norm(s.params, s.n_params) > 0);
    kv_slices_free(slices);
    setting_free(&s);
}

// Cut otherwise than for learning, more often or less, it finds the bits of slices that are always cut so; learning does not
// notice.
static void test_looks_in_other_slices(void **state) {
    (void)state;
    setting s = setting_lm(true);
    const kv_batch batch = batch_of(&s);
    const int64_t cuts[][2] = {{1, N_SLICES}, {N_SLICES, 1}, {2, N_SLICES}};
    bool shown = false;
    for (size_t i = 0; i < 12; i++) {
        const int64_t *cut = cuts[i % 3];
        *(float *)s.params[0]->data += 0.125f; // sums may have the same bits by chance
        kv_slices *slices = NULL, *others = NULL;
        kv_error err = {0};
        double before = 0, loss = 0, expected = 0, after = 0;
        if (kv_slices_create(s.params, s.n_params, cut[0], &slices, &err) ||
            kv_slices_create(s.params, s.n_params, cut[1], &others, &err) ||
            kv_slices_backward(slices, &batch, objective, &s, &before, &err) ||
            kv_slices_look_in(slices, cut[1], &err) ||
            kv_slices_forward(slices, &batch, objective, &s, &loss, &err) ||
            kv_slices_forward(others, &batch, objective, &s, &expected, &err) ||
            kv_slices_backward(slices, &batch, objective, &s, &after, &err))
            fail_msg("%s", err.message);
        assert_true(loss == expected && after == before);
        shown = shown || loss != before;
        kv_slices_free(slices);
        kv_slices_free(others);
    }
    assert_true(shown); // another cut has other bits
    setting_free(&s);
}

static void expect_failure(setting *s, kv_slices *slices, const char *expected) {
    const kv_batch batch = batch_of(s);
    kv_error err = {0};
    double loss;
    assert_int_equal(kv_slices_backward(slices, &batch, objective, s, &loss, &err), KV_ERR_RANGE);
    if (!strstr(err.message, expected)) fail_msg("%s instead of %s", err.message, expected);
}

// The first slice that fails says why, whoever is first in time; then all goes on as if nothing had been.
static void test_failure(void **state) {
    (void)state;
    setting s = setting_lm(true);
    kv_slices *slices;
    kv_error err = {0};
    double loss, before;
    free(run(&s, N_SLICES, 2, 1, false, &before));
    assert_int_equal(kv_slices_create(s.params, s.n_params, N_SLICES, &slices, &err), KV_OK);
    const int32_t last = s.ids[TOKENS - 1], middle = s.ids[TOKENS / 2];
    s.ids[TOKENS - 1] = 1000;
    expect_failure(&s, slices, "has id 1000");
    s.ids[TOKENS / 2] = 2000;
    for (int i = 0; i < 20; i++) expect_failure(&s, slices, "has id 2000");
    s.ids[TOKENS - 1] = last, s.ids[TOKENS / 2] = middle;
    const kv_batch batch = batch_of(&s);
    assert_int_equal(kv_slices_backward(slices, &batch, objective, &s, &loss, &err), KV_OK);
    assert_true(loss == before);
    kv_slices_free(slices);
    // A parameter that is trainable, but not among those that slices know.
    assert_int_equal(kv_slices_create(s.params + 1, s.n_params - 1, N_SLICES, &slices, &err), KV_OK);
    assert_int_not_equal(kv_slices_backward(slices, &batch, objective, &s, &loss, &err), KV_OK);
    assert_non_null(strstr(err.message, s.params[0]->name));
    kv_slices_free(slices);
    setting_free(&s);
}

static int64_t count(int64_t n_seq, int64_t seq_len, int64_t n_weights, int64_t n_trained) {
    return kv_slice_count(&(kv_slice_shape){n_seq, seq_len, n_weights, n_trained});
}

static void test_how_many(void **state) {
    (void)state;
    const int64_t small = 1000000;
    assert_int_equal(count(16, 96, small, small), 8);
    assert_int_equal(count(24, 96, small, small), 12);
    assert_int_equal(count(48, 96, small, small), 16);
    assert_int_equal(count(17, 512, small, small), 9); // two each, but for one
    assert_int_equal(count(4, 96, small, small), 4);
    assert_int_equal(count(3, 96, small, small), 1);   // too few to share
    assert_int_equal(count(8, 8192, small, small), 1); // angles would be worked out by several
    assert_int_equal(count(16, 96, 30 * small, small), 1);
    assert_int_equal(count(48, 96, 8 * small, 8 * small), 1); // gradients of 16 slices
    assert_int_equal(count(48, 96, 8 * small, small), 16);
    for (int64_t n = 1; n < 100; n++) {
        const int64_t slices = count(n, 100, small, small);
        assert_true(slices >= 1 && slices <= KV_MAX_SLICES);
        assert_int_equal(kv_slice_begin(n, slices, 0), 0);
        assert_int_equal(kv_slice_begin(n, slices, slices), n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_model), cmocka_unit_test(test_predictors),
        cmocka_unit_test(test_forward),        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_how_many),       cmocka_unit_test(test_looks_in_other_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
