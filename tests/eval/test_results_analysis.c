// Predicted caches in results: to a file and back, joined, as table and CSV.
#include "data/file/h5.h"
#include "eval/results/fidelity.h"
#include "tests/support/corpus.h"
#include "tests/support/results.h"
#include "tests/support/shown.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SYSTEMS = 3, LAYERS = 2, SEQ_LEN = 3, BINS = 5 };

static void name_system(kv_results *r, int64_t i, const char *name, const char *hash) {
    r->systems[i].name = strdup(name), r->systems[i].family = strdup("family");
    snprintf(r->systems[i].hash, sizeof r->systems[i].hash, "%s", hash);
}

// Numbers that tell where they belong; one of them is not known.
static void fill(kv_analysis *a, int64_t system, int64_t n_layers, double from) {
    kv_cache_analysis *errors = &a->systems[system];
    assert_int_equal(kv_cache_analysis_init(errors, n_layers, a, NULL), KV_OK);
    for (int i = 0; i < KV_CACHE_ARRAYS; i++) {
        const kv_analysis_array array = kv_cache_analysis_array(errors, a, i);
        for (int64_t k = 0; k < array.size; k++)
            array.values[k] = array.counts ? from + (double)(10 * i + k) : from + i + 0.01 * (double)k;
    }
    errors->value.explained[0] = NAN;
    assert_string_equal(kv_cache_analysis_array(errors, a, KV_CACHE_ARRAYS - 1).name, "predicted");
}

static kv_results made_up(const char *second) {
    kv_results r;
    assert_int_equal(kv_results_init(&r, N_SYSTEMS, 0, NULL), KV_OK);
    r.configs = test_alloc(1, sizeof *r.configs);
    r.configs[0] = strdup("seed: 1\n"), r.n_configs = 1;
    r.budgets = test_alloc(1, sizeof *r.budgets);
    name_system(&r, 0, "base", "00000000000000aa");
    name_system(&r, 1, "A1", "00000000000000bb");
    name_system(&r, 2, second, "00000000000000cc");
    kv_analysis *a = &r.analysis;
    assert_int_equal(kv_analysis_init(a, N_SYSTEMS, NULL), KV_OK);
    a->corpus = strdup("held_out.h5");
    snprintf(a->hash, sizeof a->hash, "0123456789abcdef");
    a->sequences = 7, a->seq_len = SEQ_LEN, a->bins = BINS;
    fill(a, 2, LAYERS, 100);
    return r;
}

static void expect_equal(const kv_cache_analysis *a, const kv_analysis *in_a, const kv_cache_analysis *b,
                         const kv_analysis *in_b) {
    assert_int_equal(a->n_layers, b->n_layers);
    for (int i = 0; a->n_layers && i < KV_CACHE_ARRAYS; i++) {
        const kv_analysis_array x = kv_cache_analysis_array(a, in_a, i),
                                y = kv_cache_analysis_array(b, in_b, i);
        assert_int_equal(x.size, y.size);
        for (int64_t k = 0; k < x.size; k++)
            assert_true(x.values[k] == y.values[k] || (isnan(x.values[k]) && isnan(y.values[k])));
    }
}

static kv_results read_back(const char *path) {
    kv_results r;
    kv_error err = {0};
    if (kv_results_read_h5(path, &r, &err)) fail_msg("%s", err.message);
    return r;
}

// ---- results.h5 ----------------------------------------------------------------------------------------

static void h5_gives_back_what_it_got(void **state) {
    (void)state;
    kv_results r = made_up("A2");
    const char *path = test_path(test_dir, "r.h5");
    kv_error err = {0};
    fill(&r.analysis, 1, 4, 1); // of a deeper base
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    kv_results again = read_back(path);
    assert_string_equal(again.analysis.corpus, "held_out.h5");
    assert_true(kv_analysis_same(&again.analysis, &r.analysis));
    assert_int_equal(again.analysis.sequences, 7);
    for (int64_t s = 0; s < N_SYSTEMS; s++)
        expect_equal(&r.analysis.systems[s], &r.analysis, &again.analysis.systems[s], &again.analysis);
    kv_results_free(&again);
    kv_results_free(&r);
}

// The names and shapes that others read by.
static void h5_is_laid_out_as_promised(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t columns;
    } datasets[] = {{"key_error", SEQ_LEN},    {"key_histogram", BINS},   {"key_edges", BINS + 1},
                    {"key_explained", 0},      {"key_magnitude", 0},      {"value_error", SEQ_LEN},
                    {"value_histogram", BINS}, {"value_edges", BINS + 1}, {"value_explained", 0},
                    {"value_magnitude", 0},    {"attention_cosine", 0},   {"predicted", 0}};
    kv_results r = made_up("A2");
    const char *path = test_path(test_dir, "r.h5");
    kv_error err = {0};
    hid_t file;
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    assert_int_equal(kv_h5_open(path, &file, &err), KV_OK);
    for (int i = 0; i < KV_CACHE_ARRAYS; i++) {
        char name[64];
        double *values;
        int n_dims;
        int64_t shape[8];
        snprintf(name, sizeof name, "/analysis/2/%s", datasets[i].name);
        if (kv_h5_read_f64(file, name, 1000, &values, &n_dims, shape, &err)) fail_msg("%s", err.message);
        assert_int_equal(n_dims, datasets[i].columns ? 2 : 1);
        assert_int_equal(shape[0], LAYERS);
        if (datasets[i].columns) assert_int_equal(shape[1], datasets[i].columns);
        const bool counts = strstr(name, "histogram") || strstr(name, "predicted");
        assert_true(values[0] == (counts ? 100 + 10 * i : 100 + i) || i == 8);
        free(values);
    }
    int64_t number;
    assert_int_equal(kv_h5_attr_i64(file, "/analysis", "bins", &number, &err), KV_OK);
    assert_int_equal(number, BINS);
    assert_int_equal(kv_h5_attr_i64(file, "/analysis", "seq_len", &number, &err), KV_OK);
    assert_int_equal(number, SEQ_LEN);
    assert_false(kv_h5_exists(file, "/analysis/0"));
    kv_h5_close(&file, &err);
    kv_results_free(&r);
}

static void files_without_an_analysis_are_read(void **state) {
    (void)state;
    kv_results r = made_up("A2");
    const char *path = test_path(test_dir, "without.h5");
    kv_error err = {0};
    kv_analysis_free(&r.analysis, N_SYSTEMS);
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    kv_results again = read_back(path);
    assert_null(again.analysis.corpus);
    kv_results_free(&again);
    kv_results_free(&r);
}

// Those of before there was a cosine have all else, and knew no exact layers.
static void older_files_are_read(void **state) {
    (void)state;
    kv_results r = made_up("A2");
    const char *path = test_path(test_dir, "older.h5");
    kv_error err = {0};
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Ldelete(file, "/analysis/2/attention_cosine", H5P_DEFAULT) >= 0);
    assert_true(H5Ldelete(file, "/analysis/2/predicted", H5P_DEFAULT) >= 0);
    kv_h5_close(&file, &err);
    kv_results again = read_back(path);
    const kv_cache_analysis *errors = &again.analysis.systems[2];
    assert_true(errors->key.error[0] == 100);
    for (int64_t i = 0; i < LAYERS; i++)
        assert_true(isnan(errors->attention_cosine[i]) && errors->predicted[i] == 1);
    kv_results_free(&again);
    kv_results_free(&r);
}

static void expect_refused(const char *path, const char *part) {
    kv_results r;
    kv_error err = {0};
    if (kv_results_read_h5(path, &r, &err) == KV_OK || !strstr(err.message, part))
        fail_msg("expected '%s', found: %s", part, err.message);
}

static void damaged_groups_are_refused(void **state) {
    (void)state;
    kv_results r = made_up("A2");
    const char *path = test_path(test_dir, "bad.h5");
    kv_error err = {0};
    static const struct {
        const char *attribute;
        int64_t value;
        const char *part;
    } cases[] = {{"seq_len", SEQ_LEN + 1, "/analysis/2/key_error"},
                 {"bins", BINS - 1, "/analysis/2/key_histogram"},
                 {"bins", 0, "/analysis/bins"},
                 {"sequences", -1, "/analysis/sequences"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(H5Adelete_by_name(file, "/analysis", cases[i].attribute, H5P_DEFAULT) >= 0);
        assert_int_equal(kv_h5_set_i64(file, "/analysis", cases[i].attribute, cases[i].value, &err), KV_OK);
        kv_h5_close(&file, &err);
        expect_refused(path, cases[i].part);
    }
    // An array that is missing, and one of another number of layers.
    for (int damage = 0; damage < 2; damage++) {
        if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(H5Ldelete(file, "/analysis/2/value_explained", H5P_DEFAULT) >= 0);
        const int64_t n = LAYERS + 1;
        if (damage)
            assert_int_equal(kv_h5_write(file, "/analysis/2/value_explained", H5T_NATIVE_DOUBLE,
                                         (const double[]){1, 1, 1}, 1, &n, &err),
                             KV_OK);
        kv_h5_close(&file, &err);
        expect_refused(path, "value_explained");
    }
    kv_results_free(&r);
}

// ---- Joining -------------------------------------------------------------------------------------------

static void joining_lays_the_same_text_together(void **state) {
    (void)state;
    kv_results a = made_up("A2"), b = made_up("A2");
    kv_error err = {0};
    // The second knows another system, in the place of the first's A2, and A1.
    snprintf(b.systems[2].hash, sizeof b.systems[2].hash, "00000000000000dd");
    fill(&b.analysis, 1, 4, 500);
    if (kv_results_join(&a, &b, &err)) fail_msg("%s", err.message);
    assert_int_equal(a.n_systems, 4);
    assert_string_equal(a.systems[3].name, "A2 (2)");
    assert_int_equal(a.analysis.systems[0].n_layers, 0);
    for (int64_t s = 1; s < 4; s++) {
        kv_results fresh = made_up("A2");
        const kv_cache_analysis *expected =
            s == 2 ? &fresh.analysis.systems[2] : &b.analysis.systems[s == 1 ? 1 : 2];
        expect_equal(&a.analysis.systems[s], &a.analysis, expected, &b.analysis);
        kv_results_free(&fresh);
    }
    kv_results_free(&a);
    kv_results_free(&b);
}

static void joining_keeps_what_was_there_first(void **state) {
    (void)state;
    kv_results a = made_up("A2"), b = made_up("A2");
    kv_error err = {0};
    b.analysis.systems[2].key.explained[0] = -1;
    if (kv_results_join(&a, &b, &err)) fail_msg("%s", err.message);
    assert_true(a.analysis.systems[2].key.explained[0] > 0);
    // Other text, other bins: nothing of it is taken, also not for systems that had none.
    fill(&b.analysis, 1, LAYERS, 0);
    snprintf(b.analysis.hash, sizeof b.analysis.hash, "other");
    if (kv_results_join(&a, &b, &err)) fail_msg("%s", err.message);
    assert_int_equal(a.analysis.systems[1].n_layers, 0);
    assert_string_equal(a.analysis.hash, "0123456789abcdef");
    // Where there was none, the second's is taken.
    kv_analysis_free(&a.analysis, a.n_systems);
    if (kv_results_join(&a, &b, &err)) fail_msg("%s", err.message);
    assert_string_equal(a.analysis.hash, "other");
    assert_int_equal(a.analysis.systems[1].n_layers, LAYERS);
    kv_results_free(&a);
    kv_results_free(&b);
}

// ---- For people ----------------------------------------------------------------------------------------

static char *printed(const kv_results *r) {
    kv_tables *tables = kv_tables_create();
    kv_results_error_tables(r, tables);
    return test_shown(tables);
}

static void expect_printed(const kv_results *r, const char *part) {
    char *text = printed(r);
    if (!strstr(text, part)) fail_msg("no '%s' in\n%s", part, text);
    free(text);
}

static void table_and_csv(void **state) {
    (void)state;
    kv_results r = made_up("A2, \"quoted\"");
    static const char *const parts[] = {
        "7 sequences of 3 tokens of held_out.h5", "explained", "10300.5 %", "100.0250", "110.0050", "2 of 2"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) expect_printed(&r, parts[i]);
    char *text = printed(&r);
    assert_null(strstr(text, "not finite"));
    free(text);
    // One number that was none makes no mean.
    kv_cache_analysis *errors = &r.analysis.systems[2];
    const double kept = errors->key.error[1];
    errors->key.error[1] = NAN;
    expect_printed(&r, "not finite");
    errors->key.error[1] = kept;
    errors->predicted[0] = 0, errors->predicted[1] = 1;
    const char *path = test_path(test_dir, "errors.csv");
    kv_error err = {0};
    if (kv_results_write_errors(&r, path, &err)) fail_msg("%s", err.message);
    char *csv = test_read_text(path);
    assert_string_equal(csv, "system,family,kind,layer,explained,error,magnitude,cosine,predicted\n"
                             "\"A2, \"\"quoted\"\"\",family,keys,0,103,100.01,104,,0\n"
                             "\"A2, \"\"quoted\"\"\",family,keys,1,103.01,100.04,104.01,,1\n"
                             "\"A2, \"\"quoted\"\"\",family,values,0,,105.01,109,,0\n"
                             "\"A2, \"\"quoted\"\"\",family,values,1,108.01,105.04,109.01,,1\n"
                             "\"A2, \"\"quoted\"\"\",family,attention,0,,,,110,0\n"
                             "\"A2, \"\"quoted\"\"\",family,attention,1,,,,110.01,1\n");
    free(csv);
    kv_results_free(&r);
}

// A layer whose cache is the base's own says nothing of what was predicted, be it perfect or no number.
static void exact_layers_are_no_part_of_means(void **state) {
    (void)state;
    kv_results r = made_up("A2");
    kv_cache_analysis *errors = &r.analysis.systems[2];
    errors->predicted[0] = 0, errors->predicted[1] = 1;
    assert_int_equal(kv_cache_analysis_n_predicted(errors), 1);
    assert_true(kv_cache_analysis_layer_mean(errors, errors->value.explained, 1) == 108.01);
    assert_true(fabs(kv_cache_analysis_layer_mean(errors, errors->key.error, SEQ_LEN) - 100.04) < 1e-9);
    static const char *const parts[] = {"10301.0 %", "100.0400", "10801.0 %", "110.0100", "1 of 2"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) expect_printed(&r, parts[i]);
    errors->predicted[1] = 0;
    assert_true(isnan(kv_cache_analysis_layer_mean(errors, errors->attention_cosine, 1)));
    expect_printed(&r, "0 of 2");
    kv_results_free(&r);
}

// ---- Beside what is kept -------------------------------------------------------------------------------

enum { ROWS = 5 };

// A base and four systems; nats of one text, and a share.
static kv_results with_tasks(void) {
    static const double nats[ROWS] = {1, 1.5, 2, 2.5, 3}, shares[ROWS] = {1, 0, 1, 0.5, NAN};
    static const double cosine[ROWS] = {0, 0.75, 0.5, 0.25, 0.125};
    kv_results r;
    kv_error err = {0};
    assert_int_equal(kv_results_init(&r, ROWS, 2, NULL), KV_OK);
    r.seed = 1, r.bootstrap = 10;
    r.configs = test_alloc(1, sizeof *r.configs);
    r.configs[0] = strdup("seed: 1\n"), r.n_configs = 1;
    static const char *const metrics[] = {"tail_nll", "exact_match"};
    for (int t = 0; t < 2; t++) {
        kv_result_task *task = &r.tasks[t];
        task->name = strdup(t ? "facts" : "text"), task->split = strdup(t ? "" : "held-out");
        task->kind = strdup(t ? "triviaqa" : "text"), task->file = strdup("f");
        task->n_items = task->n_units = 1, task->n_metrics = 1;
        snprintf(task->metrics[0], KV_METRIC_NAME, "%s", metrics[t]);
    }
    for (int64_t s = 0; s < ROWS; s++) {
        char name[8];
        snprintf(name, sizeof name, "s%d", (int)s);
        test_name_system(&r, s, name, s ? "f" : "base", "", 1);
        test_fill_outcome(&r, s, 0, &nats[s], 1);
        if (s < 4) test_fill_outcome(&r, s, 1, &shares[s], 1);
    }
    assert_int_equal(kv_analysis_init(&r.analysis, ROWS, NULL), KV_OK);
    r.analysis.corpus = strdup("held_out.h5"), r.analysis.sequences = 7;
    r.analysis.seq_len = SEQ_LEN, r.analysis.bins = BINS;
    for (int64_t s = 1; s < ROWS; s++) {
        kv_cache_analysis *e = &r.analysis.systems[s];
        assert_int_equal(kv_cache_analysis_init(e, 2, &r.analysis, NULL), KV_OK);
        // The first layer is exact, and would be wrong in a mean.
        e->attention_cosine[1] = cosine[s], e->key.explained[1] = -cosine[s],
        e->value.explained[1] = 3 * cosine[s];
        e->attention_cosine[0] = e->key.explained[0] = e->value.explained[0] = 1;
        e->predicted[1] = 1;
    }
    if (kv_results_derive(&r, &err)) fail_msg("%s", err.message);
    return r;
}

static void one_number_a_system(void **state) {
    (void)state;
    kv_results r = with_tasks();
    for (int which = 0; which < KV_FIDELITIES; which++)
        assert_true(isnan(kv_fidelity_of(&r, 0, (kv_fidelity)which)));
    assert_true(kv_fidelity_of(&r, 2, KV_FIDELITY_COSINE) == 0.5);
    assert_true(kv_fidelity_of(&r, 2, KV_FIDELITY_EXPLAINED) == 0.5);
    assert_true(kv_fidelity_of(&r, 2, KV_FIDELITY_KEYS) == -0.5);
    assert_true(kv_fidelity_of(&r, 2, KV_FIDELITY_VALUES) == 1.5);
    assert_true(kv_results_have_fidelity(&r));
    // What is kept: e^-½, e^-1, e^-1½, e^-2.
    kv_fidelity_link link;
    assert_int_equal(kv_fidelity_link_of(&r, 0, 0, KV_FIDELITY_COSINE, &link, NULL), KV_OK);
    const double x[] = {0.75, 0.5, 0.25, 0.125}, y[] = {exp(-0.5), exp(-1), exp(-1.5), exp(-2)};
    assert_int_equal(link.n, 4);
    assert_true(fabs(link.pearson - kv_pearson(x, y, 4)) < 1e-12 && link.spearman == 1);
    assert_int_equal(kv_fidelity_link_of(&r, 0, 0, KV_FIDELITY_KEYS, &link, NULL), KV_OK);
    assert_true(fabs(link.pearson + kv_pearson(x, y, 4)) < 1e-12 && link.spearman == -1);
    // Three were asked the second: 0, 1, ½ of it.
    assert_int_equal(kv_fidelity_link_of(&r, 1, 0, KV_FIDELITY_COSINE, &link, NULL), KV_OK);
    assert_int_equal(link.n, 3);
    assert_true(fabs(link.pearson + 0.5) < 1e-12 && isnan(link.interval.low));
    kv_results_free(&r);
}

static char *correlations(const kv_results *r) {
    kv_tables *tables = kv_tables_create();
    kv_fidelity_tables(r, tables);
    return test_shown(tables);
}

static void correlations_as_table_and_csv(void **state) {
    (void)state;
    kv_results r = with_tasks();
    kv_error err = {0};
    char *text = correlations(&r);
    static const char *const parts[] = {"text, held-out  tail_nll           4  +0.99",
                                        "facts           exact_match        3  -0.50",
                                        "attention cosine",
                                        "explained variance",
                                        "of values",
                                        "-0.99  -1.00"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(text, parts[i])) fail_msg("no '%s' in\n%s", parts[i], text);
    free(text);
    const char *path = test_path(test_dir, "fidelity.csv");
    if (kv_fidelity_write_csv(&r, path, &err)) fail_msg("%s", err.message);
    char *csv = test_read_text(path);
    static const char *const lines[] = {
        "system,family,task,split,metric,retention,retention_low,retention_high,",
        "high,attention_cosine,explained,key_explained,value_explained\n",
        "\ns1,f,text,held-out,tail_nll,0.60653066,0.60653066,0.60653066,0.75,0.75,-0.75,2.25\n",
        "\ns2,f,facts,,exact_match,1,1,1,0.5,0.5,-0.5,1.5\n", "\ns4,f,text,"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(csv, lines[i])) fail_msg("no '%s' in\n%s", lines[i], csv);
    assert_null(strstr(csv, "s4,f,facts"));
    assert_null(strstr(csv, "base"));
    free(csv);
    path = test_path(test_dir, "correlations.csv");
    if (kv_fidelity_write_correlations(&r, path, &err)) fail_msg("%s", err.message);
    csv = test_read_text(path);
    assert_non_null(strstr(csv, "task,split,metric,kind,systems,pearson,pearson_low,pearson_high,spearman\n"
                                "text,held-out,tail_nll,attention_cosine,4,0.993"));
    assert_non_null(strstr(csv, "\nfacts,,exact_match,attention_cosine,3,-0.5,,,-0.5\n"));
    free(csv);
    // Of two systems nothing can be said.
    kv_cache_analysis_free(&r.analysis.systems[1]);
    kv_cache_analysis_free(&r.analysis.systems[2]);
    text = correlations(&r);
    assert_string_equal(text, "");
    free(text);
    kv_results_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(h5_gives_back_what_it_got),
        cmocka_unit_test(h5_is_laid_out_as_promised),
        cmocka_unit_test(files_without_an_analysis_are_read),
        cmocka_unit_test(older_files_are_read),
        cmocka_unit_test(damaged_groups_are_refused),
        cmocka_unit_test(joining_lays_the_same_text_together),
        cmocka_unit_test(joining_keeps_what_was_there_first),
        cmocka_unit_test(table_and_csv),
        cmocka_unit_test(exact_layers_are_no_part_of_means),
        cmocka_unit_test(one_number_a_system),
        cmocka_unit_test(correlations_as_table_and_csv),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
