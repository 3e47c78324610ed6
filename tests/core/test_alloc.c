// From the second step on, training asks the system for no memory: the linker sends the core's calls of
// malloc and its kin through the counters below (see meson.build).
#include "core/objective.h"
#include "core/optimizer.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/support.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_int calls;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

void *__wrap_malloc(size_t size) {
    atomic_fetch_add(&calls, 1);
    return __real_malloc(size);
}
void *__wrap_calloc(size_t n, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __real_calloc(n, size);
}
void *__wrap_realloc(void *old, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __real_realloc(old, size);
}
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __real_aligned_alloc(alignment, size);
}
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __real_posix_memalign(memory, alignment, size);
}

// Large enough for several blocks and tiles of every operator, and for the loops that run in parallel.
enum { N_SEQ = 3, SEQ_LEN = 150, TOKENS = N_SEQ * SEQ_LEN, VOCABULARY = 1200 };

static kv_model_spec spec_of(int64_t model_dim, int64_t head_dim, int64_t n_layers) {
    kv_model_spec spec = {.vocab_size = VOCABULARY,
                          .model_dim = model_dim,
                          .head_dim = head_dim,
                          .n_layers = n_layers,
                          .context_length = SEQ_LEN,
                          .qk_norm = true,
                          .tied_head = true,
                          .norm_eps = 1e-6f,
                          .rope = {.theta = 10000}};
    for (int64_t i = 0; i < n_layers; i++)
        spec.layers[i] = (kv_layer_spec){.n_heads = 4, .n_kv_heads = 2, .ffn_dim = 3 * model_dim};
    return spec;
}

typedef struct training {
    kv_model *base, *aux;
    kv_predictor *predictor;
    kv_adamw *optimizer;
    kv_param *params[REF_PARAMS];
    int64_t n_params;
    kv_tape *tape;
    int32_t ids[TOKENS + 1];
} training;

static void training_make(training *t, kv_dtype base_dtype) {
    const kv_model_spec base = spec_of(48, 12, 4), aux = spec_of(32, 8, 2);
    const kv_adamw_args args = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f};
    int32_t mapping[4];
    kv_error err = {0};
    kv_mapping_separate(4, 2, mapping);
    t->base = ref_random_model(&base, base_dtype, 1);
    t->aux = ref_random_model(&aux, KV_F32, 2);
    t->tape = kv_tape_create();
    if (test_create(&base, &aux, mapping, (test_kind){0}, &t->predictor, &err) != KV_OK ||
        kv_predictor_set_trainable(t->predictor, true, &err) != KV_OK ||
        kv_model_set_trainable(t->aux, true, &err) != KV_OK)
        fail_msg("%s", err.message);
    kv_predictor_init(t->predictor, NULL, 3, NULL);
    t->n_params = kv_predictor_params(t->predictor, t->params);
    t->n_params += kv_model_params(t->aux, t->params + t->n_params);
    if (kv_adamw_create(t->params, t->n_params, &args, &t->optimizer, &err) != KV_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i <= TOKENS; i++) t->ids[i] = (int32_t)test_below(4, i, VOCABULARY);
}

static void training_free(training *t) {
    kv_model_free(t->base);
    kv_model_free(t->aux);
    kv_predictor_free(t->predictor);
    kv_adamw_free(t->optimizer);
    kv_tape_free(t->tape);
}

// One step as a training program does it; the loss.
static double training_step(training *t) {
    const kv_batch batch = {.input_ids = t->ids,
                            .target_ids = t->ids + 1,
                            .n_seq = N_SEQ,
                            .seq_len = SEQ_LEN,
                            .ignore_index = -1};
    const kv_kvp_weights weights = {.base = 1, .aux = 1, .consistency = 0.25f, .kl = 1, .z_loss = 1e-4f};
    kv_kvp_terms terms;
    kv_error err = {0};
    kv_tape_reset(t->tape);
    kv_grad_zero(t->params, t->n_params);
    kv_tensor *loss =
        kv_kvp_objective(t->tape, t->base, t->aux, t->predictor, &batch, &weights, &terms, NULL);
    if (kv_tape_backward(t->tape, loss, &err) != KV_OK) fail_msg("%s", err.message);
    kv_adamw_step(t->optimizer, kv_same_rate(1e-2), kv_clip_scale(kv_grad_norm(t->params, t->n_params), 1));
    return terms.total;
}

static void test_training_steps_allocate_nothing(void **state) {
    (void)state;
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++) {
        training t = {0};
        atomic_store(&calls, 0);
        training_make(&t, dtype);
        const double first = training_step(&t);
        assert_true(atomic_load(&calls) > 10); // the counters are at work
        atomic_store(&calls, 0);
        double last = 0;
        for (int step = 2; step <= 4; step++) last = training_step(&t);
        assert_int_equal(atomic_load(&calls), 0);
        assert_true(last < first); // it does train
        training_free(&t);
    }
}

static void test_inference_allocates_nothing(void **state) {
    (void)state;
    training t = {0};
    training_make(&t, KV_BF16);
    const kv_sequence sequence = {0, TOKENS / N_SEQ, 0, TOKENS / N_SEQ};
    const kv_pass pass = {.sequences = &sequence, .n_sequences = 1};
    kv_tape_set_recording(t.tape, false);
    for (int round = 1; round <= 4; round++) {
        if (round == 3) atomic_store(&calls, 0);
        kv_tape_reset(t.tape);
        kv_tensor *x = kv_model_forward(t.tape, t.base, t.ids, SEQ_LEN, &pass);
        assert_non_null(kv_model_logits(t.tape, t.base, x));
    }
    assert_int_equal(atomic_load(&calls), 0);
    training_free(&t);
}

// Same seed, same threads: the same bits, loss after loss and weight after weight.
static void test_training_repeats_bit_for_bit(void **state) {
    (void)state;
    training t[2] = {0};
    double losses[2][4];
    for (int run = 0; run < 2; run++) {
        training_make(&t[run], KV_F32);
        for (int step = 0; step < 4; step++) losses[run][step] = training_step(&t[run]);
    }
    assert_memory_equal(losses[0], losses[1], sizeof losses[0]);
    for (int64_t i = 0; i < t[0].n_params; i++)
        assert_memory_equal(t[0].params[i]->data, t[1].params[i]->data,
                            (size_t)kv_param_size(t[0].params[i]) * sizeof(float));
    training_free(&t[0]);
    training_free(&t[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_steps_allocate_nothing),
        cmocka_unit_test(test_inference_allocates_nothing),
        cmocka_unit_test(test_training_repeats_bit_for_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
