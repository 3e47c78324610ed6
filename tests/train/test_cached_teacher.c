// Losses and gradients from caches on disk against those of models at hand: the same to what rounding keys
// and values for storage can make of them, and not more.
#include "core/objective.h"
#include "data/cache/build.h"
#include "data/corpus/batches.h"
#include "data/corpus/packing.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"
#include "train/task/cached_teacher.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SEQ_LEN = 8, N_SEQ = 5, ROWS = N_SEQ * SEQ_LEN, N_LAYERS = 3, N_SHARDS = 2, VOCABULARY = 61 };

typedef struct setting {
    char dir[128];
    tiny_pair pair;
    kv_corpus *corpora[N_SHARDS]; // each a shard, a part of a mixture
    kv_batch_part parts[N_SHARDS];
    kv_train_config config;
    kv_kvp_weights weights;
    kv_cached_teacher *teacher;
    kv_batches *batches;
    int32_t ids[ROWS], targets[ROWS];
    kv_row_ref rows[N_SEQ];
    kv_tape *tape;
} setting;

static void make_shard(const char *path, uint64_t seed) {
    const kv_shard_info info = {
        .tokenizer = "0123456789abcdef", .vocab_size = VOCABULARY, .bos_id = -1, .eos_id = -1};
    kv_shard_writer *writer;
    int32_t ids[20];
    assert_int_equal(kv_shard_writer_open(path, &info, &writer, NULL), KV_OK);
    for (uint64_t i = 0; i < 9; i++) {
        tiny_ids(ids, 20, VOCABULARY, 100 * seed + i);
        assert_int_equal(kv_shard_writer_add(writer, ids, 9 + (int64_t)i, NULL), KV_OK);
    }
    assert_int_equal(kv_shard_writer_finish(writer, NULL), KV_OK);
    kv_shard_writer_free(writer);
}

static void build(const setting *s, int i, kv_dtype dtype, int64_t top_k) {
    static kv_cache_info info;
    kv_shard *shard;
    kv_error err = {0};
    char path[192];
    info =
        (kv_cache_info){.dtype = dtype, .seq_len = SEQ_LEN, .top_k = top_k, .tokenizer = "0123456789abcdef"};
    info.base.spec = s->pair.base->spec, info.aux.spec = s->pair.aux->spec;
    strcpy(info.base.fingerprint, "00000000000000ba"), strcpy(info.aux.fingerprint, "00000000000000a0");
    const kv_cache_build_args args = {.base = s->pair.base, .aux = s->pair.aux, .n_seq = N_SEQ};
    snprintf(path, sizeof path, "%s/cache-%05d.h5", s->dir, i);
    assert_int_equal(kv_shard_open(s->corpora[i]->shards[0].path, &shard, &err), KV_OK);
    if (kv_cache_build(path, shard, &info, &args, &err) != KV_OK) fail_msg("%s", err.message);
    kv_shard_free(shard);
}

static void setting_make(setting *s, kv_dtype dtype, int64_t top_k, kv_kvp_weights weights) {
    kv_error err = {0};
    *s = (setting){.pair = tiny_pair_make(), .weights = weights, .tape = kv_tape_create()};
    snprintf(s->dir, sizeof s->dir, "%s/cache", test_dir);
    mkdir(s->dir, 0777);
    for (int i = 0; i < N_SHARDS; i++) {
        const char *path = test_path(test_dir, i ? "b.h5" : "a.h5");
        make_shard(path, (uint64_t)i);
        assert_int_equal(kv_corpus_open(path, &s->corpora[i], &err), KV_OK);
        s->parts[i] = (kv_batch_part){s->corpora[i], 1 + i};
        build(s, i, dtype, top_k);
    }
    s->config = (kv_train_config){.cache = s->dir, .data = {.seq_len = SEQ_LEN}, .freeze_aux = true};
    const kv_cached_args args = {.config = &s->config,
                                 .parts = s->parts,
                                 .n_parts = N_SHARDS,
                                 .base = &s->pair.base->spec,
                                 .aux = &s->pair.aux->spec,
                                 .shape = s->pair.predictor,
                                 .weights = &s->weights};
    if (kv_cached_teacher_open(&args, &s->teacher, &err) != KV_OK) fail_msg("%s", err.message);
    const kv_batches_args batches = {
        .parts = s->parts, .n_parts = N_SHARDS, .n_seq = N_SEQ, .seq_len = SEQ_LEN, .seed = 4, .fixed = true};
    assert_int_equal(kv_batches_create(&batches, &s->batches, &err), KV_OK);
}

static void setting_free(setting *s) {
    kv_cached_teacher_free(s->teacher);
    kv_batches_free(s->batches);
    for (int i = 0; i < N_SHARDS; i++) kv_corpus_free(s->corpora[i]);
    kv_tape_free(s->tape);
    tiny_pair_free(&s->pair);
}

static kv_batch batch_of(setting *s, int64_t step) {
    kv_error err = {0};
    if (kv_batches_get(s->batches, step, s->ids, s->targets, &err) != KV_OK ||
        kv_batches_rows(s->batches, step, s->rows, &err) != KV_OK)
        fail_msg("%s", err.message);
    return (kv_batch){.input_ids = s->ids,
                      .target_ids = s->targets,
                      .n_seq = N_SEQ,
                      .seq_len = SEQ_LEN,
                      .ignore_index = -100};
}

// Loss, terms and the predictors' gradient. `cached`: from files; `models`: with models at hand.
static double *run(setting *s, int64_t step, bool cached, bool models, kv_kvp_terms *terms,
                   kv_kvp_trace *trace) {
    kv_error err = {0};
    kv_kvp_given given;
    kv_batch batch = batch_of(s, step);
    kv_tape_reset(s->tape);
    assert_int_equal(kv_predictor_set_trainable(s->pair.predictor, true, &err), KV_OK); // zeroes
    if (cached) {
        if (kv_cached_give(s->teacher, s->tape, s->rows, &batch, true, &given, &err) != KV_OK)
            fail_msg("%s", err.message);
        batch.given = &given;
    }
    kv_tensor *loss =
        kv_kvp_objective(s->tape, models ? s->pair.base : NULL, models && !cached ? s->pair.aux : NULL,
                         s->pair.predictor, &batch, &s->weights, terms, trace);
    if (!loss || kv_tape_backward(s->tape, loss, &err) != KV_OK)
        fail_msg("step %d: %s", (int)step, err.message);
    return numeric_doubles(s->pair.predictor->grads, kv_predictor_size(s->pair.predictor));
}

// Gradients of the predictors, one after the other.
static void compare_gradients(const ref_params *predictor, const double *found, const double *expected,
                              const rounding_spread *spread) {
    int64_t from = 0;
    for (int64_t i = 0; i < predictor->n; i++, from++)
        for (int64_t e = 0; e < kv_param_size(predictor->param[i]); e++, from++)
            rounding_expect(predictor->param[i]->name, *found++, *expected++, 2 * spread->allowed[from]);
}

// float32 caches: rounding of sums whose order may differ, and no more. Batches take rows of both parts.
static void test_full_precision(void **state) {
    (void)state;
    static const kv_kvp_weights weights[] = {{.base = 1, .consistency = 0.5f, .kl = 2, .z_loss = 0.01f},
                                             {.consistency = 1},
                                             {.kl = 1},
                                             {.base = 1}};
    for (int w = 0; w < 4; w++) {
        static setting s;
        setting_make(&s, KV_F32, VOCABULARY, weights[w]);
        for (int64_t step = 0; step < 6; step++) {
            kv_kvp_terms online, cached;
            double *expected = run(&s, step, false, true, &online, NULL);
            double *found = run(&s, step, true, w != 1, &cached, NULL);
            const kv_batch batch = batch_of(&s, step);
            ref_kvp exact = ref_kvp_copy(s.pair.base, s.pair.aux, s.pair.predictor, &batch, &s.weights);
            rounding_spread terms = ref_kvp_spread(&exact), gradients = ref_kvp_gradient_spread(&exact);
            const double *off = terms.allowed;
            rounding_expect("total", cached.total, online.total, 2 * off[REF_TOTAL]);
            rounding_expect("KL", cached.base.kl, online.base.kl, 2 * off[REF_KL]);
            rounding_expect("CE", cached.base.cross_entropy, online.base.cross_entropy, 2 * off[REF_BASE_CE]);
            rounding_expect("L_C", cached.consistency, online.consistency, 2 * off[REF_CONSISTENCY]);
            assert_true(w == 3 || online.total > 0.01);
            compare_gradients(&exact.weights, found, expected, &gradients);
            rounding_spread_free(&terms);
            rounding_spread_free(&gradients);
            ref_kvp_free(&exact);
            free(expected);
            free(found);
        }
        setting_free(&s);
    }
}

// ---- 16 bits -------------------------------------------------------------------------------------------
//
// Storing multiplies every element by 1 + d, |d| <= u. Values: |V - V~| <= u |V|. Keys are normalised
// afterwards, k = y / rms(y) · w: to first order |k - k~| <= u |k| (its own change) + u |k| (that of the rms,
// a weighted mean of the d). Predicted ones are W x + b: |ŷ - ŷ~| <= e = u |W| |x|, and through the norm e w
// / rms + |k̂| mean(|ŷ| e) / rms². With the triangle inequality, L_C moves by at most the sum of the means of
// these. What is neglected is of order u².

static double mean_abs(const kv_tensor *x) {
    double sum = 0;
    for (int64_t i = 0; i < x->rows * x->cols; i++) sum += fabs((double)x->data[i]);
    return sum / (double)(x->rows * x->cols);
}

// Mean of e and, with a norm, of what becomes of it; x [rows, in].
static double predicted_bound(const kv_tensor *x, const kv_param *w, const kv_param *bias,
                              const kv_param *norm, double u) {
    const float *weight = w->data, *b = bias->data;
    const int64_t group = norm ? norm->cols : w->rows;
    double sum = 0, *y = test_alloc(w->rows, sizeof *y), *e = test_alloc(w->rows, sizeof *e);
    for (int64_t r = 0; r < x->rows; r++) {
        for (int64_t o = 0; o < w->rows; o++) {
            y[o] = (double)b[o], e[o] = 0;
            for (int64_t i = 0; i < w->cols; i++) {
                const double product = (double)weight[o * w->cols + i] * (double)x->data[r * x->cols + i];
                y[o] += product, e[o] += u * fabs(product);
            }
        }
        for (int64_t g = 0; g < w->rows; g += group) {
            double square = 0, inner = 0;
            for (int64_t o = g; o < g + group; o++)
                square += y[o] * y[o] / (double)group, inner += fabs(y[o]) * e[o] / (double)group;
            for (int64_t o = g; o < g + group; o++) {
                if (!norm) {
                    sum += e[o];
                    continue;
                }
                const double scale = fabs((double)((float *)norm->data)[o - g]) / sqrt(square);
                sum += scale * (e[o] + fabs(y[o]) * inner / square);
            }
        }
    }
    free(y);
    free(e);
    return sum / (double)(x->rows * w->rows);
}

static double consistency_bound(setting *s, const kv_kvp_trace *trace, kv_tensor *const *aux_k,
                                kv_tensor *const *aux_v, double u) {
    const kv_predictor *p = s->pair.predictor;
    double bound = 0;
    for (int64_t i = 0; i < N_LAYERS; i++) {
        const int32_t j = test_layer_read(p, i);
        bound += 2 * u * mean_abs(trace->base_k[i]) + u * mean_abs(trace->base_v[i]);
        bound += predicted_bound(aux_k[j], test_weight(p, KV_KEYS, i), test_bias(p, KV_KEYS, i),
                                 &s->pair.base->layers[i].k_norm, u);
        bound += predicted_bound(aux_v[j], test_weight(p, KV_VALUES, i), test_bias(p, KV_VALUES, i), NULL, u);
    }
    return bound;
}

static void run_aux(setting *s, const kv_batch *batch, kv_tape *tape, kv_tensor **k, kv_tensor **v) {
    kv_sequence sequences[N_SEQ];
    for (int i = 0; i < N_SEQ; i++) sequences[i] = (kv_sequence){i * SEQ_LEN, SEQ_LEN, i * SEQ_LEN, SEQ_LEN};
    kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ, .raw_k = k, .v = v};
    kv_tape_set_recording(tape, false);
    assert_non_null(kv_model_forward(tape, s->pair.aux, batch->input_ids, ROWS, &pass));
}

// Norm of the difference of two gradients, as a fraction of that of the second.
static double gradient_distance(const double *found, const double *expected, int64_t n) {
    double difference = 0, whole = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += (found[i] - expected[i]) * (found[i] - expected[i]);
        whole += expected[i] * expected[i];
    }
    return sqrt(difference / whole);
}

static void test_storage_types(void **state) {
    (void)state;
    const kv_kvp_weights weights = {.consistency = 1};
    for (kv_dtype dtype = KV_BF16; dtype <= KV_F16; dtype++) {
        static setting s;
        static kv_kvp_trace online_trace, cached_trace;
        setting_make(&s, dtype, 0, weights);
        const double u = rounding_of_type(dtype, 1);
        double largest = 0;
        for (int64_t step = 0; step < 6; step++) {
            kv_kvp_terms online, cached;
            kv_tensor *aux_k[2], *aux_v[2];
            const kv_batch batch = batch_of(&s, step);
            kv_tape *aux_tape = kv_tape_create(), *kept = kv_tape_create();
            run_aux(&s, &batch, aux_tape, aux_k, aux_v);
            double *expected = run(&s, step, false, true, &online, &online_trace);
            const double bound = consistency_bound(&s, &online_trace, aux_k, aux_v, u);
            kv_tape *first = s.tape;
            s.tape = kept; // the first one's tensors stay to compare with
            double *found = run(&s, step, true, false, &cached, &cached_trace);
            s.tape = first;
            const double off = fabs(cached.consistency - online.consistency);
            // A few factors of 1 + u in a row.
            rounding_expect("L_C", cached.consistency, online.consistency, (1 + 8 * u) * bound);
            largest = fmax(largest, off);
            // The gradient is made of signs: those that differ are where both sides are that close.
            int64_t flips = 0, n = 0;
            for (int64_t i = 0; i < N_LAYERS; i++) {
                const kv_tensor *v = online_trace.pred_v[i], *w = cached_trace.pred_v[i];
                const kv_tensor *t = online_trace.base_v[i], *z = cached_trace.base_v[i];
                for (int64_t e = 0; e < v->rows * v->cols; e++, n++)
                    flips += (v->data[e] > t->data[e]) != (w->data[e] > z->data[e]);
            }
            // An L1 gradient changes by 2 for a flip; rounding of what it is multiplied with adds u.
            const double allowed = 2 * sqrt((double)(flips + 2) / (double)n) + 4 * u;
            const double distance = gradient_distance(found, expected, kv_predictor_size(s.pair.predictor));
            if (!(distance <= 2 * allowed))
                fail_msg("gradient is off by %g, allowed %g", distance, 2 * allowed);
            assert_true(flips < n * 16 * u);
            free(expected);
            free(found);
            kv_tape_free(aux_tape);
            kv_tape_free(kept);
        }
        assert_true(largest > 0); // it was rounded
        setting_free(&s);
    }
}

// ---- Rows ----------------------------------------------------------------------------------------------

// Keys before their norm and values of every layer of the aux.
struct aux_caches {
    ref_model model;
    const int32_t *ids;
};

static void aux_cache_results(const void *context, double *results) {
    const struct aux_caches *a = context;
    const kv_model_spec *spec = &a->model.model->spec;
    double *hidden = test_alloc(ROWS * spec->model_dim, sizeof *hidden);
    ref_cache cache;
    ref_cache_make(spec, ROWS, &cache);
    ref_forward(&a->model, a->ids, N_SEQ, SEQ_LEN, NULL, &cache, hidden);
    for (int64_t j = 0; j < spec->n_layers; j++) {
        const int64_t size = ROWS * kv_spec_kv_dim(spec, j);
        memcpy(results, cache.raw_k[j], (size_t)size * sizeof *results);
        memcpy(results + size, cache.v[j], (size_t)size * sizeof *results);
        results += 2 * size;
    }
    ref_cache_free(&cache);
    free(hidden);
}

// Raw keys and values are the models' own, for the least-squares start; layers nobody reads are not read.
static void test_raw_caches(void **state) {
    (void)state;
    static setting s;
    setting_make(&s, KV_F32, 0, (kv_kvp_weights){.consistency = 1});
    kv_tensor *base_k[N_LAYERS], *base_v[N_LAYERS], *aux_k[2], *aux_v[2], *true_k[2], *true_v[2];
    const kv_batch batch = batch_of(&s, 3);
    kv_error err = {0};
    kv_tape *tape = kv_tape_create();
    run_aux(&s, &batch, tape, true_k, true_v);
    assert_int_equal(kv_cached_raw(s.teacher, s.tape, s.rows, &batch, base_k, base_v, aux_k, aux_v, &err),
                     KV_OK);
    struct aux_caches exact = {ref_model_copy(s.pair.aux), batch.input_ids};
    rounding_operands operands = {0};
    ref_add_operands(&operands, &exact.model.params);
    int64_t n = 0;
    for (int j = 0; j < 2; j++) n += 2 * ROWS * true_k[j]->cols;
    rounding_spread spread = rounding_measure(&operands, ref_terms_forward(&s.pair.aux->spec, SEQ_LEN),
                                              aux_cache_results, &exact, n);
    for (int64_t j = 0, from = 0; j < 2; j++) {
        const int64_t size = ROWS * true_k[j]->cols;
        rounding_compare("aux keys", aux_k[j]->data, &spread, from, size);
        rounding_compare("aux values", aux_v[j]->data, &spread, from + size, size);
        rounding_compare_both("aux keys", aux_k[j]->data, true_k[j]->data, &spread, from, size);
        rounding_compare_both("aux values", aux_v[j]->data, true_v[j]->data, &spread, from + size, size);
        from += 2 * size;
    }
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
    ref_model_free(&exact.model);
    assert_int_equal(kv_cached_raw(s.teacher, s.tape, s.rows, &batch, base_k, base_v, NULL, NULL, &err),
                     KV_OK);
    kv_tape_free(tape);
    setting_free(&s);
}

static void test_other_tokens(void **state) {
    (void)state;
    static setting s;
    setting_make(&s, KV_BF16, 0, (kv_kvp_weights){.consistency = 1});
    kv_kvp_given given;
    for (int what = 0; what < 2; what++) {
        kv_error err = {0};
        const kv_batch batch = batch_of(&s, 1);
        kv_tape_reset(s.tape);
        if (what == 0)
            s.ids[ROWS - 3] ^= 1;
        else
            s.targets[ROWS - 1] ^= 1;
        assert_int_equal(kv_cached_give(s.teacher, s.tape, s.rows, &batch, true, &given, &err),
                         KV_ERR_MISMATCH);
        assert_non_null(strstr(err.message, "other tokens"));
    }
    setting_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_precision),
        cmocka_unit_test(test_storage_types),
        cmocka_unit_test(test_raw_caches),
        cmocka_unit_test(test_other_tokens),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
