// Layers that are computed again in backward: the same losses and gradients, bit by bit, as when everything
// is kept; memory for one layer instead of all; nothing allocated once the first step has been; failure
// reported.
//
// The linker sends the core's calls of aligned_alloc, which is how an arena grows, through the one below (see
// meson.build).
#include "core/objective.h"
#include "core/recompute.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/support.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int chunks, failing_chunk; // 0: none fails

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return ++chunks == failing_chunk ? NULL : __real_aligned_alloc(alignment, size);
}

enum { N_SEQ = 4, SEQ_LEN = 40, TOKENS = N_SEQ * SEQ_LEN, VOCABULARY = 50, BASE_LAYERS = 4, IGNORED = -1 };

static int32_t ids[TOKENS + 1], targets[TOKENS];

// Attention gives every thread tiles of its own: with many threads those outweigh the small layers of these
// models, and what is said here of memory is about layers.
enum { MAX_THREADS = 3 };

static int make_text(void **state) {
    (void)state;
    if (omp_get_max_threads() > MAX_THREADS) omp_set_num_threads(MAX_THREADS);
    for (int i = 0; i <= TOKENS; i++) ids[i] = (int32_t)test_below(4, i, VOCABULARY);
    for (int i = 0; i < TOKENS; i++) targets[i] = i % 7 == 3 ? IGNORED : ids[i + 1];
    return 0;
}

// Layers that differ; `kind` runs through all ways to make keys.
enum { N_KINDS = 3 };
static kv_model_spec spec_of(int64_t model_dim, int64_t head_dim, int64_t n_layers, int kind) {
    kv_model_spec spec = {.vocab_size = VOCABULARY,
                          .model_dim = model_dim,
                          .head_dim = head_dim,
                          .n_layers = n_layers,
                          .context_length = SEQ_LEN,
                          .qk_norm = kind == 1,
                          .qkv_bias = kind == 2,
                          .tied_head = kind > 0,
                          .norm_eps = 1e-6f,
                          .rope = {.theta = 10000}};
    for (int64_t i = 0; i < n_layers; i++)
        spec.layers[i] = (kv_layer_spec){
            .n_heads = 2 * (1 + i % 2), .n_kv_heads = 1 + i % 2, .ffn_dim = 3 * model_dim + i % 2};
    return spec;
}

// ---- The same bits -------------------------------------------------------------------------------------

struct run {
    kv_model *base, *aux; // task lm: aux alone, trained
    kv_predictor *predictor;
    kv_kvp_weights weights;
    kv_param *params[REF_PARAMS];
    int64_t n_params, n_micro; // sequences of a micro-batch
    kv_tape *tape;
};

static void expect(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

static void make_trainable(struct run *r, bool aux_trained) {
    kv_error err = {0};
    if (r->predictor) {
        r->n_params = kv_predictor_params(r->predictor, r->params);
        ref_randomise(r->params, r->n_params, 3);
        expect(kv_predictor_set_trainable(r->predictor, true, &err), &err);
    }
    if (!aux_trained) return;
    expect(kv_model_set_trainable(r->aux, true, &err), &err);
    r->n_params += kv_model_params(r->aux, r->params + r->n_params);
}

static struct run lm_make(int kind, int64_t n_layers) {
    const kv_model_spec spec = spec_of(16, 6, n_layers, kind);
    struct run r = {.aux = ref_random_model(&spec, KV_F32, 2), .n_micro = N_SEQ, .tape = kv_tape_create()};
    make_trainable(&r, true);
    return r;
}

static struct run kvp_make(int kind, int64_t base_layers, bool aux_trained, kv_dtype dtype) {
    const kv_model_spec base = spec_of(20, 8, base_layers, kind),
                        aux = spec_of(16, 6, 3, (kind + 1) % N_KINDS);
    int32_t mapping[REF_LAYERS * 4];
    // The last aux layer is read by none: without a loss of its own its output gets no gradient.
    for (int64_t i = 0; i < base_layers; i++) mapping[i] = (int32_t)(i % 2);
    struct run r = {.base = ref_random_model(&base, dtype, 1),
                    .aux = ref_random_model(&aux, KV_F32, 2),
                    .n_micro = N_SEQ,
                    .tape = kv_tape_create()};
    kv_error err = {0};
    expect(test_create(&base, &aux, mapping, (test_kind){0}, &r.predictor, &err), &err);
    make_trainable(&r, aux_trained);
    return r;
}

static void run_free(struct run *r) {
    kv_model_free(r->base);
    kv_model_free(r->aux);
    kv_predictor_free(r->predictor);
    kv_tape_free(r->tape);
}

static kv_status micro_step(struct run *r, int64_t start, double *loss, kv_error *err) {
    const kv_batch batch = {.input_ids = ids + start * SEQ_LEN,
                            .target_ids = targets + start * SEQ_LEN,
                            .n_seq = r->n_micro,
                            .seq_len = SEQ_LEN,
                            .ignore_index = IGNORED,
                            .n_valid = TOKENS};
    const kv_lm_weights lm = {.ce = 1, .z_loss = 1e-2f};
    kv_tape_reset(r->tape);
    kv_tensor *total =
        r->base ? kv_kvp_objective(r->tape, r->base, r->aux, r->predictor, &batch, &r->weights, NULL, NULL)
                : kv_lm_objective(r->tape, r->aux, NULL, &batch, &lm, NULL);
    kv_status status = kv_tape_status(r->tape, err);
    if (status != KV_OK) return status;
    *loss += (double)total->data[0];
    return kv_tape_backward(r->tape, total, err);
}

// The gradients of all micro-batches added up, one after the other, in a block the caller frees.
static float *gradients(struct run *r, bool checkpointing, double *loss, int64_t *n) {
    kv_error err = {0};
    *loss = 0, *n = 0;
    for (int64_t i = 0; i < r->n_params; i++) {
        memset(r->params[i]->grad, 0, (size_t)kv_param_size(r->params[i]) * sizeof(float));
        *n += kv_param_size(r->params[i]);
    }
    kv_tape_set_checkpointing(r->tape, checkpointing);
    for (int64_t s = 0; s < N_SEQ; s += r->n_micro) expect(micro_step(r, s, loss, &err), &err);
    float *all = test_alloc(*n, sizeof *all), *at = all;
    for (int64_t i = 0; i < r->n_params; at += kv_param_size(r->params[i++]))
        memcpy(at, r->params[i]->grad, (size_t)kv_param_size(r->params[i]) * sizeof(float));
    return all;
}

static void expect_same(struct run *r, const char *name) {
    double kept_loss, loss;
    int64_t n;
    float *kept = gradients(r, false, &kept_loss, &n), *again = gradients(r, true, &loss, &n);
    double size = 0;
    for (int64_t i = 0; i < n; i++) size += (double)(kept[i] * kept[i]);
    assert_true(size > 0);
    if (memcmp(&kept_loss, &loss, sizeof loss) != 0) fail_msg("%s: %.17g, not %.17g", name, loss, kept_loss);
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&kept[i], &again[i], sizeof *kept) != 0)
            fail_msg("%s: gradient %lld is %.9g, not %.9g", name, (long long)i, (double)again[i],
                     (double)kept[i]);
    free(kept);
    free(again);
}

static void test_language_model(void **state) {
    (void)state;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int64_t n_micro = 1; n_micro <= N_SEQ; n_micro *= 2) {
            char name[64];
            snprintf(name, sizeof name, "kind %d, micro-batches of %lld", kind, (long long)n_micro);
            struct run r = lm_make(kind, 5);
            r.n_micro = n_micro;
            expect_same(&r, name);
            run_free(&r);
        }
}

static const kv_kvp_weights losses[] = {
    {.base = 1, .aux = 1, .consistency = 0.25f},
    {.base = 0.8f, .aux = 0.3f, .consistency = 0.5f, .kl = 2, .z_loss = 0.01f},
    {.consistency = 1},
    {.base = 1},
    {.kl = 1, .consistency = 0.1f},
    {.kl = 1, .hidden = 0.5f, .hidden_layer = 0},
    {.hidden = 1, .hidden_layer = 1, .consistency = 0.1f},
};
enum { N_LOSSES = sizeof losses / sizeof *losses };

static void test_prediction(void **state) {
    (void)state;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int aux_trained = 0; aux_trained < 2; aux_trained++)
            for (int loss = 0; loss < N_LOSSES; loss++) {
                char name[64];
                if (!aux_trained && losses[loss].aux != 0) continue;
                snprintf(name, sizeof name, "kind %d, aux %d, loss %d", kind, aux_trained, loss);
                struct run r = kvp_make(kind, BASE_LAYERS, aux_trained, (kv_dtype)(loss % 3));
                r.weights = losses[loss];
                r.n_micro = loss % 2 ? 1 : N_SEQ;
                expect_same(&r, name);
                for (int64_t i = 0; r.base && i < r.base->spec.n_layers; i++)
                    assert_null(r.base->layers[i].q.grad);
                run_free(&r);
            }
}

// Not only the same, but right: against central differences in double precision.
static double reference_loss(const void *context) {
    return ref_kvp_objective(context, NULL);
}

static void test_central_differences(void **state) {
    (void)state;
    enum { SHORT = 6 };
    struct run r = kvp_make(1, 3, true, KV_F32);
    const kv_batch batch = {
        .input_ids = ids, .target_ids = targets, .n_seq = 2, .seq_len = SHORT, .ignore_index = IGNORED};
    kv_error err = {0};
    kv_tape_set_checkpointing(r.tape, true);
    kv_tensor *loss = kv_kvp_objective(r.tape, r.base, r.aux, r.predictor, &batch, &losses[1], NULL, NULL);
    expect(kv_tape_backward(r.tape, loss, &err), &err);
    ref_kvp reference = ref_kvp_copy(r.base, r.aux, r.predictor, &batch, &losses[1]);
    rounding_spread spread = ref_kvp_gradient_spread(&reference);
    const int64_t from =
        ref_check_gradients("predictors", &reference.weights, 10, 1, reference_loss, &reference, &spread, 0);
    ref_check_gradients("aux", &reference.aux.params, 10, 1, reference_loss, &reference, &spread, from);
    rounding_spread_free(&spread);
    ref_kvp_free(&reference);
    run_free(&r);
}

// A pass may be described by what is gone when backward comes.
static void test_pass_may_be_forgotten(void **state) {
    (void)state;
    float *grads[2];
    int64_t n = 0;
    struct run r = lm_make(1, 3);
    kv_error err = {0};
    for (int on = 0; on < 2; on++) {
        kv_sequence sequences[N_SEQ];
        kv_tensor *raw_k[3], *k[3], *v[3], *parts[9];
        for (int64_t s = 0; s < N_SEQ; s++)
            sequences[s] = (kv_sequence){s * SEQ_LEN, SEQ_LEN, s * SEQ_LEN, SEQ_LEN};
        kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ, .raw_k = raw_k, .k = k, .v = v};
        kv_tape_set_checkpointing(r.tape, on);
        kv_tape_reset(r.tape);
        kv_tensor *x = kv_model_forward(r.tape, r.aux, ids, TOKENS, &pass);
        memcpy(parts, (kv_tensor *[]){x, raw_k[0], k[0], v[0], k[1], raw_k[2], v[2]}, 7 * sizeof *parts);
        kv_tensor *four[2] = {numeric_dot(r.tape, parts, 4, 1), numeric_dot(r.tape, parts + 4, 3, 1)};
        kv_tensor *loss = kv_weighted_sum(r.tape, four, (float[]){1, 0.5f}, 2);
        memset(sequences, 0xff, sizeof sequences);
        memset(&pass, 0xff, sizeof pass);
        n = kv_model_size(r.aux, true);
        memset(r.aux->grads, 0, (size_t)n * sizeof(float));
        expect(kv_tape_backward(r.tape, loss, &err), &err);
        grads[on] = test_alloc(n, sizeof(float));
        memcpy(grads[on], r.aux->grads, (size_t)n * sizeof(float));
    }
    assert_memory_equal(grads[0], grads[1], (size_t)n * sizeof(float));
    free(grads[0]);
    free(grads[1]);
    run_free(&r);
}

// ---- A region by itself -----------------------------------------------------------------------------------

enum { ROWS = 6, DIM = 5, N_LEAVES = 2 };

// out = (a ⊙ silu(a·Wᵀ) + b, a·Wᵀ): the second is also used for the first, and b's gradient is the first's.
static void gate(kv_tape *tape, const void *what, kv_tensor *const *in, kv_tensor **out) {
    kv_param *const *w = what;
    out[1] = kv_linear(tape, in[0], *w, NULL);
    out[0] = kv_add(tape, in[2], kv_swiglu(tape, out[1], in[0]));
}

// The same, of a region within.
static void nested_gate(kv_tape *tape, const void *what, kv_tensor *const *in, kv_tensor **out) {
    kv_recompute region = {.run = gate, .what = what, .what_size = sizeof(kv_param *)};
    memcpy(region.in, in, sizeof region.in);
    out[0] = region.out[0] = kv_tape_tensor(tape, ROWS, DIM);
    out[1] = region.out[1] = kv_tape_tensor(tape, ROWS, DIM);
    kv_recompute_run(tape, &region,
                     kv_tape_wants(tape, (const kv_tensor *const *)in, 3, *(kv_param **)what, NULL));
}

// Inputs and outputs that others use before and after the region.
static float *region_gradients(kv_recompute_fn *run, kv_param *table, kv_param *w) {
    static const int32_t rows[N_LEAVES][ROWS] = {{0, 3, 2, 2, 1, 0}, {4, 1, 1, 3, 0, 2}};
    kv_tape *tape = kv_tape_create();
    kv_error err = {0};
    kv_tensor *a = kv_embedding(tape, table, rows[0], ROWS), *b = kv_embedding(tape, table, rows[1], ROWS);
    kv_tensor *before = kv_swiglu(tape, b, a), *out[KV_RECOMPUTE_OUTPUTS] = {0};
    if (run) {
        kv_recompute region = {.run = run, .what = &w, .what_size = sizeof w, .in = {a, NULL, b}};
        out[0] = region.out[0] = kv_tape_tensor(tape, ROWS, DIM);
        out[1] = region.out[1] = kv_tape_tensor(tape, ROWS, DIM);
        assert_true(kv_recompute_run(tape, &region, true));
    } else {
        gate(tape, &w, (kv_tensor *[]){a, NULL, b}, out);
    }
    kv_tensor *after = kv_swiglu(tape, a, out[1]);
    kv_tensor *loss = numeric_dot(tape, (kv_tensor *[]){before, out[0], after, a}, 4, 1);
    memset(table->grad, 0, (size_t)kv_param_size(table) * sizeof(float));
    memset(w->grad, 0, (size_t)kv_param_size(w) * sizeof(float));
    expect(kv_tape_backward(tape, loss, &err), &err);
    const int64_t n = kv_param_size(table), m = kv_param_size(w);
    float *all = test_alloc(n + m, sizeof *all);
    memcpy(all, table->grad, (size_t)n * sizeof *all);
    memcpy(all + n, w->grad, (size_t)m * sizeof *all);
    kv_tape_free(tape);
    return all;
}

static void test_region(void **state) {
    (void)state;
    kv_param table = test_param("table", 5, DIM, KV_F32, true), w = test_param("w", DIM, DIM, KV_F32, true);
    test_fill(table.data, 5 * DIM, 1, 1);
    test_fill(w.data, DIM * DIM, 2, 1);
    float *plain = region_gradients(NULL, &table, &w), *again = region_gradients(gate, &table, &w),
          *nested = region_gradients(nested_gate, &table, &w);
    assert_memory_equal(plain, again, 10 * DIM * sizeof *plain);
    assert_memory_equal(plain, nested, 10 * DIM * sizeof *plain);
    free(plain);
    free(again);
    free(nested);
    test_param_free(&table);
    test_param_free(&w);
}

// ---- Memory --------------------------------------------------------------------------------------------

static size_t peak(struct run *r, bool checkpointing) {
    double loss;
    int64_t n;
    free(gradients(r, checkpointing, &loss, &n));
    size_t bytes = kv_arena_peak(kv_tape_arena(r->tape));
    run_free(r);
    return bytes;
}

// Every further layer costs its output, and for a predicted cache that with its gradient; nothing of what it
// works on.
static void test_memory_is_one_layer(void **state) {
    (void)state;
    enum { FEW = 6, MANY = 14, RECORD = 1024 };
    struct run few = lm_make(1, FEW), many = lm_make(1, MANY);
    const size_t a = peak(&few, true), b = peak(&many, true), layer = TOKENS * 16 * sizeof(float) + RECORD;
    assert_true(b > a && b - a <= (MANY - FEW) * layer);
    few = lm_make(1, FEW), many = lm_make(1, MANY);
    const size_t kept_a = peak(&few, false), kept_b = peak(&many, false);
    assert_true(kept_b - kept_a > 10 * (b - a) && kept_b > 3 * b);

    few = kvp_make(1, FEW, false, KV_F32), many = kvp_make(1, MANY, false, KV_F32);
    few.weights = many.weights = losses[3];
    // Predicted keys (before and after their norm) and values of 1.5 heads of 8, each with a gradient.
    const size_t predicted = TOKENS * 2 * 3 * 12 * sizeof(float);
    const size_t c = peak(&few, true), d = peak(&many, true);
    assert_true(d - c <= (MANY - FEW) * (TOKENS * 20 * sizeof(float) + predicted + 4 * RECORD));
}

static void test_nothing_is_allocated_later(void **state) {
    (void)state;
    for (int kind = 0; kind < N_KINDS; kind++) {
        struct run runs[2] = {lm_make(kind, 6), kvp_make(kind, 6, true, KV_BF16)};
        for (int i = 0; i < 2; i++) {
            double loss;
            int64_t n;
            runs[i].weights = losses[1];
            runs[i].n_micro = 2;
            free(gradients(&runs[i], true, &loss, &n));
            chunks = 0;
            free(gradients(&runs[i], true, &loss, &n));
            free(gradients(&runs[i], true, &loss, &n));
            assert_int_equal(chunks, 0);
            run_free(&runs[i]);
        }
    }
}

// ---- Failure -------------------------------------------------------------------------------------------

static kv_status step_without_memory(struct run *r, size_t filled, bool *in_backward) {
    const kv_batch batch = {
        .input_ids = ids, .target_ids = targets, .n_seq = 1, .seq_len = SEQ_LEN, .ignore_index = IGNORED};
    const kv_lm_weights weights = {.ce = 1};
    kv_error err = {0};
    chunks = 0, failing_chunk = 2;
    assert_non_null(kv_arena_alloc(kv_tape_arena(r->tape), filled));
    kv_tensor *loss = kv_lm_objective(r->tape, r->aux, NULL, &batch, &weights, NULL);
    kv_status status = kv_tape_status(r->tape, &err);
    *in_backward = status == KV_OK;
    if (status == KV_OK) status = kv_tape_backward(r->tape, loss, &err);
    failing_chunk = 0;
    if (status != KV_OK) assert_non_null(strstr(err.message, "out of memory"));
    return status;
}

// A first chunk that is full more or less, and no second one: whether memory ends in the forward pass or
// while a layer is run again, the step says so, and the next one, with memory, does its work.
static void test_out_of_memory(void **state) {
    (void)state;
    int failures[2] = {0};
    for (size_t filled = 1 << 14; filled < 1 << 20; filled += 1 << 14) {
        struct run r = lm_make(1, 3);
        double expected = 0, loss = 0;
        kv_error err = {0};
        bool in_backward;
        r.n_micro = 1;
        kv_tape_set_checkpointing(r.tape, true);
        const kv_status status = step_without_memory(&r, filled, &in_backward);
        if (status != KV_OK) {
            assert_int_equal(status, KV_ERR_MEMORY);
            failures[in_backward]++;
        }
        expect(micro_step(&r, 0, &loss, &err), &err);
        expect(micro_step(&r, 0, &expected, &err), &err);
        assert_memory_equal(&loss, &expected, sizeof loss);
        run_free(&r);
    }
    assert_true(failures[0] > 0 && failures[1] > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_model),
        cmocka_unit_test(test_prediction),
        cmocka_unit_test(test_central_differences),
        cmocka_unit_test(test_pass_may_be_forgotten),
        cmocka_unit_test(test_region),
        cmocka_unit_test(test_memory_is_one_layer),
        cmocka_unit_test(test_nothing_is_allocated_later),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, make_text, NULL);
}
