// Predicted caches against the base's own: figures as plain double-precision loops over the reference's
// caches give them, and what has to hold whatever the numbers.
#include "data/corpus/shard.h"
#include "eval/evaluate/cache_errors.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SEQUENCES = 11, SEQ_LEN = 13, BINS = 21, SAMPLE = 8, TOKENS = SEQUENCES * SEQ_LEN };

static kv_analysis_text text_of(int32_t *rows, uint64_t seed) {
    tiny_ids(rows, SEQUENCES * (SEQ_LEN + 1), 61, seed);
    return (kv_analysis_text){.rows = rows, .sequences = SEQUENCES, .seq_len = SEQ_LEN};
}

static const kv_analysis settings = {.sequences = SEQUENCES, .seq_len = SEQ_LEN, .bins = BINS};

static kv_system system_of(const tiny_pair *pair) {
    return (kv_system){.base = pair->base, .aux = pair->aux, .predictor = pair->predictor};
}

static kv_cache_analysis measure(const kv_system *system, const kv_analysis_text *text, int64_t at_once) {
    kv_cache_analysis errors;
    kv_error err = {0};
    if (kv_analysis_measure(system, text, at_once, &settings, NULL, &errors, &err))
        fail_msg("%s", err.message);
    return errors;
}

// ---- Against plain loops -------------------------------------------------------------------------------

static double mean_error(const double *truth, const double *predicted, int64_t first, int64_t n) {
    double sum = 0;
    for (int64_t i = first; i < first + n; i++) sum += fabs(predicted[i] - truth[i]);
    return sum / (double)n;
}

// About each feature's mean, which is subtracted first.
static double explained(const double *truth, const double *predicted, int64_t dim) {
    double residual = 0, total = 0;
    for (int64_t d = 0; d < dim; d++) {
        double mean = 0;
        for (int64_t t = 0; t < TOKENS; t++) mean += truth[t * dim + d] / TOKENS;
        for (int64_t t = 0; t < TOKENS; t++) {
            const double x = truth[t * dim + d], e = predicted[t * dim + d] - x;
            residual += e * e, total += (x - mean) * (x - mean);
        }
    }
    return 1 - residual / total;
}

// The models' own rounding may put what lies at an edge on its other side. Errors, and how far each may be
// off.
static void check_histogram(const double *histogram, const double *edges, const double *errors,
                            const double *allowed, int64_t n) {
    for (int64_t b = 0; b < BINS; b++) {
        const double low = b == 0 ? -INFINITY : edges[b], high = b == BINS - 1 ? INFINITY : edges[b + 1];
        int64_t surely = 0, maybe = 0;
        for (int64_t i = 0; i < n; i++) {
            surely += errors[i] >= low + allowed[i] && errors[i] < high - allowed[i];
            maybe += errors[i] >= low - allowed[i] && errors[i] < high + allowed[i];
        }
        if (histogram[b] < (double)surely || histogram[b] > (double)maybe)
            fail_msg("bin %d holds %g, expected %d to %d", (int)b, histogram[b], (int)surely, (int)maybe);
    }
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The least one that 99.5 % of the first n are not above.
static double large_error(const double *errors, int64_t n) {
    double *sizes = test_alloc(n, sizeof *sizes);
    for (int64_t i = 0; i < n; i++) sizes[i] = fabs(errors[i]);
    qsort(sizes, (size_t)n, sizeof *sizes, compare);
    const double found = sizes[(int64_t)ceil(0.995 * (double)n) - 1];
    free(sizes);
    return found;
}

// A layer's keys or values among the results of a spread: every error, then mean sizes by position, explained
// variance and the size of the truth.
static int64_t layer_results(int64_t dim) {
    return TOKENS * dim + SEQ_LEN + 2;
}

static double *put_layer(const double *truth, const double *predicted, int64_t dim, double *results) {
    for (int64_t i = 0; i < TOKENS * dim; i++) *results++ = predicted[i] - truth[i];
    for (int64_t p = 0; p < SEQ_LEN; p++, results++) {
        *results = 0;
        for (int64_t s = 0; s < SEQUENCES; s++)
            *results += mean_error(truth, predicted, (s * SEQ_LEN + p) * dim, dim) / SEQUENCES;
    }
    *results++ = explained(truth, predicted, dim);
    *results = 0;
    for (int64_t i = 0; i < TOKENS * dim; i++) *results += fabs(truth[i]) / (double)(TOKENS * dim);
    return results + 1;
}

static void check_layer(const kv_error_figures *f, int64_t layer, int64_t dim, const rounding_spread *spread,
                        int64_t from) {
    const double *edges = f->edges + layer * (BINS + 1), *errors = spread->expected + from;
    const double *allowed = spread->allowed + from;
    const int64_t n = TOKENS * dim, figures = from + n;
    for (int64_t p = 0; p < SEQ_LEN; p++)
        rounding_compare_one("mean |error|", f->error[layer * SEQ_LEN + p], spread, figures + p);
    rounding_compare_one("explained", f->explained[layer], spread, figures + SEQ_LEN);
    rounding_compare_one("magnitude", f->magnitude[layer], spread, figures + SEQ_LEN + 1);
    double off = 0;
    for (int64_t i = 0; i < n; i++) off = fmax(off, allowed[i]);
    const double half = edges[BINS], least = large_error(errors, SAMPLE * SEQ_LEN * dim);
    if (!(half > least - off && half < (least + off) * (1 + 1.0 / 64)))
        fail_msg("the range is %.9g, expected a little above %.9g", half, least);
    for (int64_t b = 0; b <= BINS; b++)
        expect_double("edge", edges[b], half * (2.0 * (double)b / BINS - 1), 4, half);
    check_histogram(f->histogram + layer * BINS, edges, errors, allowed, n);
}

// Attention outputs of a layer of the reference: from whole matrices, keys turned as they are read.
static void attend(const ref_model *m, int64_t layer, const double *q, const double *k, const double *v,
                   double *y) {
    const kv_model_spec *spec = &m->model->spec;
    kv_sequence sequences[SEQUENCES];
    for (int64_t s = 0; s < SEQUENCES; s++)
        sequences[s] = (kv_sequence){s * SEQ_LEN, SEQ_LEN, s * SEQ_LEN, SEQ_LEN};
    const kv_attention_args args = {.n_heads = spec->layers[layer].n_heads,
                                    .n_kv_heads = spec->layers[layer].n_kv_heads,
                                    .head_dim = spec->head_dim,
                                    .sequences = sequences,
                                    .n_sequences = SEQUENCES};
    ref_attention(&args, m->inv_freq, TOKENS, q, k, v, y);
}

// Mean over tokens and heads.
static double mean_cosine(const ref_model *m, int64_t layer, const ref_cache *truth,
                          const ref_cache *predicted) {
    const int64_t heads = m->model->spec.layers[layer].n_heads, dim = m->model->spec.head_dim;
    double *a = test_alloc(TOKENS * heads * dim, sizeof *a), *b = test_alloc(TOKENS * heads * dim, sizeof *b);
    double mean = 0;
    attend(m, layer, truth->q[layer], predicted->k[layer], predicted->v[layer], a);
    attend(m, layer, truth->q[layer], truth->k[layer], truth->v[layer], b);
    for (int64_t i = 0; i < TOKENS * heads; i++) {
        double ab = 0, aa = 0, bb = 0;
        for (int64_t d = i * dim; d < (i + 1) * dim; d++)
            ab += a[d] * b[d], aa += a[d] * a[d], bb += b[d] * b[d];
        mean += ab / sqrt(aa) / sqrt(bb) / (double)(TOKENS * heads);
    }
    free(a), free(b);
    return mean;
}

// The reference's caches of a text, and the figures of all layers: keys and values in turn, then the cosine.
struct exact {
    ref_kvp r;
    ref_cache truth, aux, predicted;
    const int32_t *ids;
    double *hidden;
};

static void figures_results(const void *context, double *results) {
    const struct exact *e = context;
    ref_cache truth = e->truth, aux = e->aux, predicted = e->predicted;
    ref_forward(&e->r.base, e->ids, SEQUENCES, SEQ_LEN, NULL, &truth, e->hidden);
    ref_forward(&e->r.aux, e->ids, SEQUENCES, SEQ_LEN, NULL, &aux, e->hidden);
    ref_predict(e->r.predictor, &e->r.weights, &e->r.base, &e->r.aux, TOKENS, &aux, &predicted);
    for (int64_t layer = 0; layer < 3; layer++) {
        const int64_t dim = kv_spec_kv_dim(&e->r.base.model->spec, layer);
        results = put_layer(truth.k[layer], predicted.k[layer], dim, results);
        results = put_layer(truth.v[layer], predicted.v[layer], dim, results);
        *results++ = mean_cosine(&e->r.base, layer, &truth, &predicted);
    }
}

static rounding_spread figures_spread(const tiny_pair *pair, const int32_t *ids) {
    struct exact e = {.r = ref_kvp_copy(pair->base, pair->aux, pair->predictor, NULL, &(kv_kvp_weights){0}),
                      .ids = ids};
    const kv_model_spec *spec = &pair->base->spec;
    e.hidden = test_alloc(TOKENS * 24, sizeof *e.hidden);
    ref_cache_make(spec, TOKENS, &e.truth);
    ref_cache_make(spec, TOKENS, &e.predicted);
    ref_cache_make(&pair->aux->spec, TOKENS, &e.aux);
    rounding_operands operands = {0};
    ref_add_operands(&operands, &e.r.base.params);
    ref_add_operands(&operands, &e.r.aux.params);
    ref_add_operands(&operands, &e.r.weights);
    int64_t n = 0;
    for (int64_t layer = 0; layer < 3; layer++) n += 2 * layer_results(kv_spec_kv_dim(spec, layer)) + 1;
    rounding_spread spread =
        rounding_measure(&operands, ref_terms_forward(spec, SEQ_LEN), figures_results, &e, n);
    rounding_operands_free(&operands);
    ref_cache_free(&e.truth), ref_cache_free(&e.predicted), ref_cache_free(&e.aux);
    ref_kvp_free(&e.r);
    free(e.hidden);
    return spread;
}

static void figures_are_the_reference_s(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)], ids[TOKENS];
    const kv_analysis_text text = text_of(rows, 5);
    for (int64_t t = 0; t < TOKENS; t++) ids[t] = rows[t / SEQ_LEN * (SEQ_LEN + 1) + t % SEQ_LEN];
    rounding_spread spread = figures_spread(&pair, ids);
    const kv_system system = system_of(&pair);
    static const int64_t at_once[] = {0, 1, 4, 100};
    for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++) {
        kv_cache_analysis errors = measure(&system, &text, at_once[i]);
        int64_t from = 0;
        assert_int_equal(errors.n_layers, 3);
        for (int64_t layer = 0; layer < 3; layer++) {
            const int64_t dim = kv_spec_kv_dim(&pair.base->spec, layer);
            check_layer(&errors.key, layer, dim, &spread, from);
            check_layer(&errors.value, layer, dim, &spread, from + layer_results(dim));
            from += 2 * layer_results(dim) + 1;
            rounding_compare_one("cosine", errors.attention_cosine[layer], &spread, from - 1);
            assert_true(fabs(errors.attention_cosine[layer]) < 0.99 && errors.predicted[layer] == 1);
        }
        kv_cache_analysis_free(&errors);
    }
    rounding_spread_free(&spread);
    tiny_pair_free(&pair);
}

// ---- What has to hold ----------------------------------------------------------------------------------

// KVP-LP that keeps every layer, with maps that change nothing.
static tiny_pair identical_pair(void) {
    const kv_model_spec spec = tiny_base();
    tiny_pair pair = {.base = tiny_model(&spec, 1), .aux = tiny_model(&spec, 1)};
    int32_t mapping[KV_MAX_LAYERS];
    const int32_t kept[] = {0, 1, 2};
    kv_mapping_pruned(3, kept, 3, mapping);
    assert_int_equal(test_create(&spec, &spec, mapping, (test_kind){0}, &pair.predictor, NULL), KV_OK);
    for (int64_t i = 0; i < 3; i++) {
        const int64_t dim = kv_spec_kv_dim(&spec, i);
        for (int64_t d = 0; d < dim; d++) {
            ((float *)test_weight(pair.predictor, KV_KEYS, i)->data)[d * dim + d] = 1;
            ((float *)test_weight(pair.predictor, KV_VALUES, i)->data)[d * dim + d] = 1;
        }
    }
    return pair;
}

static void nothing_is_wrong_with_the_same_model(void **state) {
    (void)state;
    tiny_pair pair = identical_pair();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 6);
    const kv_system system = system_of(&pair);
    kv_cache_analysis errors = measure(&system, &text, 3);
    const kv_error_figures *kinds[] = {&errors.key, &errors.value};
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < 3; i++) {
            for (int64_t p = 0; p < SEQ_LEN; p++) assert_true(kinds[k]->error[i * SEQ_LEN + p] == 0);
            assert_true(kinds[k]->explained[i] == 1);
            assert_true(kinds[k]->magnitude[i] > 0.01);
            assert_true(kinds[k]->edges[i * (BINS + 1)] < 0);
            const double all = (double)(TOKENS * kv_spec_kv_dim(&pair.base->spec, i));
            assert_true(kinds[k]->histogram[i * BINS + BINS / 2] == all);
        }
    for (int64_t i = 0; i < 3; i++) assert_true(errors.attention_cosine[i] == 1);
    kv_cache_analysis_free(&errors);
    tiny_pair_free(&pair);
}

// A prefix of the base, and its first layer alone: what is computed as the base does it has no error, and is said to be no
// prediction.
static void exact_layers_are_known(void **state) {
    (void)state;
    static kv_predictor_spec spec;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 13);
    for (int prefix = 0; prefix < 2; prefix++) {
        kv_system system = system_of(&pair);
        if (prefix) {
            system.aux = pair.base;
            kv_predictor_spec_prefix(&pair.base->spec, 2, &spec);
        } else {
            spec = pair.predictor->spec;
            kv_predictor_spec_exact_first(&spec);
        }
        assert_int_equal(
            kv_predictor_create(&pair.base->spec, &system.aux->spec, &spec, &system.predictor, NULL), KV_OK);
        assert_int_equal(kv_predictor_init(system.predictor, pair.base, 3, NULL), KV_OK);
        kv_cache_analysis errors = measure(&system, &text, 4);
        const int64_t n_exact = prefix ? 2 : 1;
        for (int64_t i = 0; i < 3; i++) {
            const bool exact = i < n_exact;
            assert_true(errors.predicted[i] == !exact);
            assert_int_equal(errors.attention_cosine[i] == 1, exact);
            assert_int_equal(errors.key.explained[i] == 1 && errors.value.explained[i] == 1, exact);
        }
        assert_int_equal(kv_cache_analysis_n_predicted(&errors), 3 - n_exact);
        kv_cache_analysis_free(&errors);
        kv_predictor_free(system.predictor);
    }
    tiny_pair_free(&pair);
}

// Values predicted as 0 leave attention nothing to give, which has no direction; where the base's are 0 too, that is right.
static void outputs_of_nothing(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 12);
    const kv_system system = system_of(&pair);
    for (int64_t i = 0; i < 2; i++) {
        kv_param *weight = test_weight(pair.predictor, KV_VALUES, i),
                 *bias = test_bias(pair.predictor, KV_VALUES, i);
        memset(weight->data, 0, (size_t)kv_param_size(weight) * 4);
        memset(bias->data, 0, (size_t)kv_param_size(bias) * 4);
    }
    kv_layer *first = &pair.base->layers[0];
    memset(first->v.data, 0, (size_t)kv_param_size(&first->v) * 4);
    if (first->v_bias.data) memset(first->v_bias.data, 0, (size_t)kv_param_size(&first->v_bias) * 4);
    kv_cache_analysis errors = measure(&system, &text, 0);
    assert_true(errors.attention_cosine[0] == 1 && isnan(errors.value.explained[0]));
    assert_true(errors.attention_cosine[1] == 0 && errors.value.explained[1] <= 0);
    assert_true(errors.attention_cosine[2] != 0);
    kv_cache_analysis_free(&errors);
    tiny_pair_free(&pair);
}

static double total(const double *counts) {
    double sum = 0;
    for (int64_t b = 0; b < BINS; b++) sum += counts[b];
    return sum;
}

static void every_error_is_counted_once(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 7);
    const kv_system system = system_of(&pair);
    kv_cache_analysis errors = measure(&system, &text, 0);
    for (int64_t i = 0; i < 3; i++) {
        const double all = (double)(TOKENS * kv_spec_kv_dim(&pair.base->spec, i));
        assert_true(total(errors.key.histogram + i * BINS) == all);
        assert_true(total(errors.value.histogram + i * BINS) == all);
        for (int64_t b = 0; b <= BINS; b++)
            assert_true(errors.key.edges[i * (BINS + 1) + b] == -errors.key.edges[i * (BINS + 1) + BINS - b]);
    }
    kv_cache_analysis_free(&errors);
    tiny_pair_free(&pair);
}

// The first layer's values of one row.
struct one {
    const ref_model *model;
    const int32_t *ids;
};

static void first_values(const void *context, double *results) {
    const struct one *o = context;
    const kv_model_spec *spec = &o->model->model->spec;
    double hidden[SEQ_LEN * 24];
    ref_cache cache;
    ref_cache_make(spec, SEQ_LEN, &cache);
    ref_forward(o->model, o->ids, 1, SEQ_LEN, NULL, &cache, hidden);
    memcpy(results, cache.v[0], (size_t)(SEQ_LEN * kv_spec_kv_dim(spec, 0)) * sizeof *results);
    ref_cache_free(&cache);
}

// By how much they are predicted wrong: well above rounding, far below other errors.
#define OFFSET 1e-2f

// The rows that the range comes from hold one token only, for which the first layer's values are predicted
// well; errors of what follows lie far outside.
static void errors_beyond_the_edges_are_in_the_outermost_bins(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 8);
    for (int64_t i = 0; i < SAMPLE * (SEQ_LEN + 1); i++) rows[i] = 5;
    for (int64_t i = SAMPLE * (SEQ_LEN + 1); i < SEQUENCES * (SEQ_LEN + 1); i++) rows[i] = 9;
    ref_model base = ref_model_copy(pair.base);
    ref_cache truth = {0};
    ref_cache_make(&pair.base->spec, SEQ_LEN, &truth);
    double hidden[SEQ_LEN * 24];
    const int32_t ids[SEQ_LEN] = {5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5};
    ref_forward(&base, ids, 1, SEQ_LEN, NULL, &truth, hidden);
    rounding_operands operands = {0};
    ref_add_operands(&operands, &base.params);
    rounding_spread exact = rounding_measure(&operands, 24, first_values, &(struct one){&base, ids},
                                             SEQ_LEN * kv_spec_kv_dim(&pair.base->spec, 0));
    rounding_operands_free(&operands);
    const int64_t dim = kv_spec_kv_dim(&pair.base->spec, 0);
    memset(test_weight(pair.predictor, KV_VALUES, 0)->data, 0,
           (size_t)kv_param_size(test_weight(pair.predictor, KV_VALUES, 0)) * 4);
    for (int64_t d = 0; d < dim; d++)
        ((float *)test_bias(pair.predictor, KV_VALUES, 0)->data)[d] = (float)truth.v[0][d] + OFFSET;
    const kv_system system = system_of(&pair);
    kv_cache_analysis errors = measure(&system, &text, 0);
    const double *counts = errors.value.histogram;
    // The bias and what it is compared with are floats near the truth, which has an error of its own; the
    // range is up to a 64th wider than the errors.
    double off = 0;
    for (int64_t d = 0; d < SEQ_LEN * dim; d++)
        off = fmax(off, exact.allowed[d] + rounding_bound(2, exact.expected[d]));
    rounding_spread_free(&exact);
    assert_true(off < 0.01 * (double)OFFSET);
    rounding_expect("edge", errors.value.edges[BINS], (double)OFFSET * (1 + 1.0 / 128),
                    off + (double)OFFSET / 128);
    // The sample's own errors are just below the last edge.
    const double sample = (double)(SAMPLE * SEQ_LEN * dim), rest = (double)(TOKENS * dim) - sample;
    assert_true(counts[0] > 0 && counts[BINS - 1] > sample);
    assert_true(counts[0] + counts[BINS - 1] == sample + rest);
    kv_cache_analysis_free(&errors);
    ref_cache_free(&truth);
    ref_model_free(&base);
    tiny_pair_free(&pair);
}

// All arrays that are no counts, one after the other.
struct whole {
    const kv_system *system;
    const kv_analysis_text *text;
};

static int64_t all_figures(const kv_cache_analysis *analysis, double *results) {
    int64_t n = 0;
    for (int i = 0; i < KV_CACHE_ARRAYS; i++) {
        const kv_analysis_array a = kv_cache_analysis_array(analysis, &settings, i);
        for (int64_t k = 0; k < a.size && !a.counts; k++, n++)
            if (results) results[n] = a.values[k];
    }
    return n;
}

static void whole_results(const void *context, double *results) {
    const struct whole *w = context;
    kv_cache_analysis analysis = measure(w->system, w->text, 0);
    all_figures(&analysis, results);
    kv_cache_analysis_free(&analysis);
}

// Sums are in the order of the text: with the models' results equal, so is every figure, to the bit. With
// another number of threads the models' own sums may be in another.
static void threads_change_nothing(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 9);
    const kv_system system = system_of(&pair);
    const int threads = omp_get_max_threads();
    kv_cache_analysis usual = measure(&system, &text, 0), again = measure(&system, &text, 0);
    kv_param *params[3 * REF_PARAMS];
    int64_t n_params = kv_model_params(pair.base, params);
    n_params += kv_model_params(pair.aux, params + n_params);
    n_params += kv_predictor_params(pair.predictor, params + n_params);
    rounding_operands operands = {0};
    rounding_add_params(&operands, params, n_params);
    const int64_t n = all_figures(&usual, NULL);
    rounding_spread spread = rounding_measure(&operands, ref_terms_forward(&pair.base->spec, SEQ_LEN),
                                              whole_results, &(struct whole){&system, &text}, n);
    double *one = test_alloc(n, sizeof *one);
    omp_set_num_threads(1);
    whole_results(&(struct whole){&system, &text}, one);
    omp_set_num_threads(threads);
    rounding_compare_results("figures of one thread", one, spread.expected, &spread);
    for (int i = 0; i < KV_CACHE_ARRAYS; i++) {
        const kv_analysis_array a = kv_cache_analysis_array(&usual, &settings, i);
        const kv_analysis_array b = kv_cache_analysis_array(&again, &settings, i);
        assert_memory_equal(a.values, b.values, (size_t)a.size * sizeof *a.values);
    }
    free(one);
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
    kv_cache_analysis_free(&usual), kv_cache_analysis_free(&again);
    tiny_pair_free(&pair);
}

static void what_is_no_number_stays_in_its_layer(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 10);
    const kv_system system = system_of(&pair);
    kv_cache_analysis before = measure(&system, &text, 0);
    ((float *)test_bias(pair.predictor, KV_VALUES, 1)->data)[0] = INFINITY;
    kv_cache_analysis errors = measure(&system, &text, 0);
    const int64_t dim = kv_spec_kv_dim(&pair.base->spec, 1);
    assert_true(isnan(errors.value.explained[1]) && isnan(errors.value.error[SEQ_LEN]));
    assert_true(total(errors.value.histogram + BINS) == (double)(TOKENS * (dim - 1)));
    assert_true(errors.value.magnitude[1] == before.value.magnitude[1]);
    assert_true(errors.value.explained[0] == before.value.explained[0]);
    assert_true(errors.key.explained[1] == before.key.explained[1]);
    assert_true(isnan(errors.attention_cosine[1]));
    assert_true(errors.attention_cosine[0] == before.attention_cosine[0]);
    assert_true(errors.attention_cosine[2] == before.attention_cosine[2]);
    // The range is that of the errors that are numbers.
    const double half = errors.value.edges[2 * BINS + 1], usual = before.value.edges[2 * BINS + 1];
    assert_true(half > 0.7 * usual && half < 1.3 * usual);
    kv_cache_analysis_free(&before), kv_cache_analysis_free(&errors);
    tiny_pair_free(&pair);
}

static void text_beyond_the_vocabulary_is_an_error(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 11);
    rows[3] = 61;
    const kv_system system = system_of(&pair);
    kv_cache_analysis errors;
    kv_error err = {0};
    assert_int_equal(kv_analysis_measure(&system, &text, 0, &settings, NULL, &errors, &err), KV_ERR_RANGE);
    assert_int_equal(errors.n_layers, 0);
    tiny_pair_free(&pair);
}

// ---- The text ------------------------------------------------------------------------------------------

static void write_shard(const char *path, int64_t n_documents, int32_t first, char hash[17]) {
    const kv_shard_info info = {
        .tokenizer = "0123456789abcdef", .vocab_size = 1000, .bos_id = 1, .eos_id = 2, .source = "test"};
    kv_shard_writer *writer;
    kv_error err = {0};
    if (kv_shard_writer_open(path, &info, &writer, &err)) fail_msg("%s", err.message);
    for (int64_t i = 0; i < n_documents; i++) {
        int32_t ids[7];
        for (int t = 0; t < 7; t++) ids[t] = first + (int32_t)(7 * i) + t;
        assert_int_equal(kv_shard_writer_add(writer, ids, 7, &err), KV_OK);
    }
    if (kv_shard_writer_finish(writer, &err)) fail_msg("%s", err.message);
    snprintf(hash, 17, "%s", kv_shard_writer_hash(writer));
    kv_shard_writer_free(writer);
}

static kv_analysis_text read_text(const char *path, int64_t sequences, int64_t seq_len) {
    kv_analysis_text text;
    kv_error err = {0};
    if (kv_analysis_text_read(path, sequences, seq_len, &text, &err)) fail_msg("%s", err.message);
    return text;
}

static void text_is_the_first_rows(void **state) {
    (void)state;
    char hash[17];
    const char *path = test_path(test_dir, "text.h5");
    write_shard(path, 10, 100, hash); // 70 tokens: 17 rows of 4 and their targets
    kv_analysis_text all = read_text(path, 1000, 4), some = read_text(path, 5, 4),
                     other = read_text(path, 5, 3);
    assert_int_equal(all.sequences, 17);
    assert_int_equal(some.sequences, 5);
    assert_memory_equal(all.rows, some.rows, 5 * 5 * sizeof(int32_t));
    assert_string_not_equal(all.hash, some.hash);
    assert_string_not_equal(some.hash, other.hash);
    bool seen[70] = {0};
    for (int64_t r = 0; r < 17; r++)
        for (int64_t t = 0; t < 4; t++) {
            const int32_t id = all.rows[r * 5 + t] - 100;
            assert_in_range(id, 0, 69);
            assert_false(seen[id]);
            seen[id] = true;
        }
    kv_analysis_text_free(&all), kv_analysis_text_free(&some), kv_analysis_text_free(&other);
    kv_analysis_text none;
    kv_error err = {0};
    assert_int_equal(kv_analysis_text_read(path, 5, 70, &none, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "text.h5: 70 tokens make not one row of 70 and its targets"));
    assert_null(none.rows);
    assert_int_equal(kv_analysis_text_read("/nowhere.h5", 5, 7, &none, &err), KV_ERR_IO);
}

// Shard after shard, each cut for itself.
static void text_of_several_shards(void **state) {
    (void)state;
    char a[17], b[17], *dir = strdup(test_path(test_dir, "corpus"));
    assert_int_equal(mkdir(dir, 0777), 0);
    write_shard(test_path(dir, "a.h5"), 2, 100, a); // 14 tokens: 3 rows of 4 and their targets
    write_shard(test_path(dir, "b.h5"), 3, 500, b); // 21: 5 rows
    FILE *index = fopen(test_path(dir, "index.json"), "w");
    assert_non_null(index);
    fprintf(index,
            "{\"format\": \"kv-corpus\", \"version\": 1, \"shards\": ["
            "{\"file\": \"a.h5\", \"documents\": 2, \"tokens\": 14, \"hash\": \"%s\"},"
            "{\"file\": \"b.h5\", \"documents\": 3, \"tokens\": 21, \"hash\": \"%s\"}]}",
            a, b);
    assert_int_equal(fclose(index), 0);
    kv_analysis_text all = read_text(dir, 100, 4), some = read_text(dir, 4, 4),
                     second = read_text(test_path(dir, "b.h5"), 100, 4);
    assert_int_equal(all.sequences, 8);
    assert_int_equal(some.sequences, 4);
    assert_memory_equal(all.rows, some.rows, 4 * 5 * sizeof(int32_t));
    assert_memory_equal(all.rows + 3 * 5, second.rows, 5 * 5 * sizeof(int32_t));
    kv_analysis_text_free(&all), kv_analysis_text_free(&some), kv_analysis_text_free(&second);
    free(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_the_reference_s),
        cmocka_unit_test(nothing_is_wrong_with_the_same_model),
        cmocka_unit_test(exact_layers_are_known),
        cmocka_unit_test(outputs_of_nothing),
        cmocka_unit_test(every_error_is_counted_once),
        cmocka_unit_test(errors_beyond_the_edges_are_in_the_outermost_bins),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(what_is_no_number_stays_in_its_layer),
        cmocka_unit_test(text_beyond_the_vocabulary_is_an_error),
        cmocka_unit_test(text_is_the_first_rows),
        cmocka_unit_test(text_of_several_shards),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
