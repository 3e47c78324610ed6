// Predicted caches against the base's own: figures as plain double-precision loops over the reference's
// caches give them, and what has to hold whatever the numbers.
#include "data/corpus/shard.h"
#include "eval/evaluate/cache_errors.h"
#include "tests/support/reference_model.h"
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

static void near(const char *what, double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance * fmax(1e-3, fabs(expected))))
        fail_msg("%s is %.9g, expected %.9g", what, found, expected);
}

// ---- Against plain loops -------------------------------------------------------------------------------

static double mean_error(const double *truth, const double *predicted, int64_t first, int64_t n) {
    double sum = 0;
    for (int64_t i = first; i < first + n; i++) sum += fabs(predicted[i] - truth[i]);
    return sum / (double)n;
}

static void check_positions(const double *error, const double *truth, const double *predicted, int64_t dim) {
    for (int64_t p = 0; p < SEQ_LEN; p++) {
        double expected = 0;
        for (int64_t s = 0; s < SEQUENCES; s++)
            expected += mean_error(truth, predicted, (s * SEQ_LEN + p) * dim, dim) / SEQUENCES;
        near("mean |error|", error[p], expected, 2e-5);
    }
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

// The models' own rounding may put what lies at an edge on its other side.
static void check_histogram(const double *histogram, const double *edges, const double *truth,
                            const double *predicted, int64_t dim) {
    for (int64_t b = 0; b < BINS; b++) {
        const double low = b == 0 ? -INFINITY : edges[b], high = b == BINS - 1 ? INFINITY : edges[b + 1];
        const double slack = 1e-4 * (edges[1] - edges[0]);
        int64_t surely = 0, maybe = 0;
        for (int64_t i = 0; i < TOKENS * dim; i++) {
            const double e = predicted[i] - truth[i];
            surely += e >= low + slack && e < high - slack;
            maybe += e >= low - slack && e < high + slack;
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
static double large_error(const double *truth, const double *predicted, int64_t n) {
    double *sizes = test_alloc(n, sizeof *sizes);
    for (int64_t i = 0; i < n; i++) sizes[i] = fabs(predicted[i] - truth[i]);
    qsort(sizes, (size_t)n, sizeof *sizes, compare);
    const double found = sizes[(int64_t)ceil(0.995 * (double)n) - 1];
    free(sizes);
    return found;
}

static void check_layer(const kv_error_figures *f, int64_t layer, const double *truth,
                        const double *predicted, int64_t dim) {
    const double *edges = f->edges + layer * (BINS + 1);
    check_positions(f->error + layer * SEQ_LEN, truth, predicted, dim);
    near("explained", f->explained[layer], explained(truth, predicted, dim), 2e-5);
    double magnitude = 0;
    for (int64_t i = 0; i < TOKENS * dim; i++) magnitude += fabs(truth[i]) / (double)(TOKENS * dim);
    near("magnitude", f->magnitude[layer], magnitude, 2e-5);
    const double half = edges[BINS], least = large_error(truth, predicted, SAMPLE * SEQ_LEN * dim);
    if (!(half > least * 0.9999 && half < least * 1.0001 * (1 + 1.0 / 64)))
        fail_msg("the range is %.9g, expected a little above %.9g", half, least);
    for (int64_t b = 0; b <= BINS; b++) near("edge", edges[b], half * (2.0 * (double)b / BINS - 1), 1e-12);
    check_histogram(f->histogram + layer * BINS, edges, truth, predicted, dim);
}

static void figures_are_the_reference_s(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)], ids[TOKENS];
    const kv_analysis_text text = text_of(rows, 5);
    for (int64_t t = 0; t < TOKENS; t++) ids[t] = rows[t / SEQ_LEN * (SEQ_LEN + 1) + t % SEQ_LEN];
    ref_model base = ref_model_copy(pair.base), aux = ref_model_copy(pair.aux);
    ref_params weights = {.n = 0};
    weights.n = kv_predictor_params(pair.predictor, weights.param);
    for (int64_t i = 0; i < weights.n; i++) weights.value[i] = numeric_param_doubles(weights.param[i]);
    ref_cache truth = {0}, aux_cache = {0}, predicted = {0};
    ref_cache_make(&pair.base->spec, TOKENS, &truth);
    ref_cache_make(&pair.base->spec, TOKENS, &predicted);
    ref_cache_make(&pair.aux->spec, TOKENS, &aux_cache);
    double *hidden = test_alloc(TOKENS * 24, sizeof *hidden);
    ref_forward(&base, ids, SEQUENCES, SEQ_LEN, NULL, &truth, hidden);
    ref_forward(&aux, ids, SEQUENCES, SEQ_LEN, NULL, &aux_cache, hidden);
    ref_predict(pair.predictor, &weights, &base, &aux, TOKENS, &aux_cache, &predicted);

    const kv_system system = system_of(&pair);
    static const int64_t at_once[] = {0, 1, 4, 100};
    for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++) {
        kv_cache_analysis errors = measure(&system, &text, at_once[i]);
        assert_int_equal(errors.n_layers, 3);
        for (int64_t layer = 0; layer < 3; layer++) {
            const int64_t dim = kv_spec_kv_dim(&pair.base->spec, layer);
            check_layer(&errors.key, layer, truth.k[layer], predicted.k[layer], dim);
            check_layer(&errors.value, layer, truth.v[layer], predicted.v[layer], dim);
        }
        kv_cache_analysis_free(&errors);
    }
    free(hidden);
    ref_cache_free(&truth), ref_cache_free(&aux_cache), ref_cache_free(&predicted);
    ref_model_free(&base), ref_model_free(&aux);
    ref_params_free(&weights);
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
    assert_int_equal(kv_predictor_create(&spec, &spec, mapping, &pair.predictor, NULL), KV_OK);
    for (int64_t i = 0; i < 3; i++) {
        const int64_t dim = kv_spec_kv_dim(&spec, i);
        for (int64_t d = 0; d < dim; d++) {
            ((float *)pair.predictor->key_w[i].data)[d * dim + d] = 1;
            ((float *)pair.predictor->value_w[i].data)[d * dim + d] = 1;
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
    const int64_t dim = kv_spec_kv_dim(&pair.base->spec, 0);
    memset(pair.predictor->value_w[0].data, 0, (size_t)kv_param_size(&pair.predictor->value_w[0]) * 4);
    for (int64_t d = 0; d < dim; d++)
        ((float *)pair.predictor->value_b[0].data)[d] = (float)truth.v[0][d] + 1e-4f;
    const kv_system system = system_of(&pair);
    kv_cache_analysis errors = measure(&system, &text, 0);
    const double *counts = errors.value.histogram;
    near("edge", errors.value.edges[BINS], 1e-4, 0.02);
    // The sample's own errors are just below the last edge.
    const double sample = (double)(SAMPLE * SEQ_LEN * dim), rest = (double)(TOKENS * dim) - sample;
    assert_true(counts[0] > 0 && counts[BINS - 1] > sample);
    assert_true(counts[0] + counts[BINS - 1] == sample + rest);
    kv_cache_analysis_free(&errors);
    ref_cache_free(&truth);
    ref_model_free(&base);
    tiny_pair_free(&pair);
}

// Sums are in the order of the text: with the models' results equal, so is every figure, to the bit.
static void threads_change_nothing(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 9);
    const kv_system system = system_of(&pair);
    const int threads = omp_get_max_threads();
    kv_cache_analysis usual = measure(&system, &text, 0), again = measure(&system, &text, 0);
    omp_set_num_threads(1);
    kv_cache_analysis one = measure(&system, &text, 0);
    omp_set_num_threads(threads);
    for (int i = 0; i < KV_CACHE_ARRAYS; i++) {
        const kv_analysis_array a = kv_cache_analysis_array(&usual, &settings, i);
        const kv_analysis_array b = kv_cache_analysis_array(&again, &settings, i);
        const kv_analysis_array c = kv_cache_analysis_array(&one, &settings, i);
        assert_memory_equal(a.values, b.values, (size_t)a.size * sizeof *a.values);
        for (int64_t k = 0; k < a.size && !a.counts; k++) near(a.name, c.values[k], a.values[k], 1e-5);
    }
    kv_cache_analysis_free(&usual), kv_cache_analysis_free(&again), kv_cache_analysis_free(&one);
    tiny_pair_free(&pair);
}

static void what_is_no_number_stays_in_its_layer(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    int32_t rows[SEQUENCES * (SEQ_LEN + 1)];
    const kv_analysis_text text = text_of(rows, 10);
    const kv_system system = system_of(&pair);
    kv_cache_analysis before = measure(&system, &text, 0);
    ((float *)pair.predictor->value_b[1].data)[0] = INFINITY;
    kv_cache_analysis errors = measure(&system, &text, 0);
    const int64_t dim = kv_spec_kv_dim(&pair.base->spec, 1);
    assert_true(isnan(errors.value.explained[1]) && isnan(errors.value.error[SEQ_LEN]));
    assert_true(total(errors.value.histogram + BINS) == (double)(TOKENS * (dim - 1)));
    assert_true(errors.value.magnitude[1] == before.value.magnitude[1]);
    assert_true(errors.value.explained[0] == before.value.explained[0]);
    assert_true(errors.key.explained[1] == before.key.explained[1]);
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
