// The paper's tables as they are compiled in, and the reader they go through.
#include "tests/support/support.h"

#include "core/flops.h"
#include "data/checkpoint/checkpoint.h"
#include "eval/published/published.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static kv_published *load(const char *name) {
    kv_published *table;
    kv_error err = {0};
    if (kv_published_load(name, &table, &err)) fail_msg("%s", err.message);
    return table;
}

static double value_of(const kv_published *table, const char *model, const char *column) {
    const int64_t c = kv_published_column(table, column);
    if (c < 0) fail_msg("no column %s", column);
    for (int64_t i = 0; i < table->n_points; i++)
        if (!strcmp(table->points[i].model, model)) return table->points[i].values[c];
    fail_msg("no model %s", model);
    return NAN;
}

static void figures_as_printed_and_corrected(void **state) {
    (void)state;
    static const struct {
        const char *table, *model, *column;
        double value;
    } cases[] = {
        {"triviaqa-openelm-1.1b", "OE1.1B", "exact_match", 23.57},
        {"triviaqa-openelm-1.1b", "OE1.1B-KVP-C-450M", "ttft_s", 3.17},
        {"triviaqa-openelm-1.1b", "L0.50-0.01", "exact_match", 5.06},
        {"triviaqa-openelm-3b", "OE3B-KVP-C-270M", "exact_match", 16.70},
        {"humaneval-openelm-1.1b", "OE1.1B-KVP-LP-0.75", "pass@10", 19.83},
        {"humaneval-openelm-1.1b", "OE1.1B-LP-0.75", "pass@1", 11.30},
        {"mcqa-openelm-1.1b", "OE270M", "average", 54.37},
        {"mcqa-openelm-3b", "OE3B-KVP-LP-0.50", "sciq", 90.00},
        {"mcqa-openelm-3b", "OE3B-KVP-C-450M", "arc_challenge", 30.97},
        {"lambda-consistency", "OE1.1B-KVP-LP-0.50", "exact_match", 8.95},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_published *table = load(cases[i].table);
        const double found = value_of(table, cases[i].model, cases[i].column);
        if (found != cases[i].value) fail_msg("%s, %s: found %g", cases[i].table, cases[i].model, found);
        kv_published_free(table);
    }
    kv_published *table = load("lambda-consistency");
    assert_true(table->points[1].values[kv_published_column(table, "lambda_consistency")] == 1.0 / 28);
    kv_published_free(table);
}

// LazyLLM's schedule prunes more the further it goes: the reductions grow down the rows, which the print has
// swapped.
static void reductions_of_a_schedule_grow(void **state) {
    (void)state;
    static const char *const names[] = {"triviaqa-openelm-1.1b", "triviaqa-openelm-3b",
                                        "humaneval-openelm-1.1b"};
    for (int t = 0; t < 3; t++) {
        kv_published *table = load(names[t]);
        int pairs = 0;
        for (int64_t i = 1; i < table->n_points; i++) {
            const kv_published_point *a = &table->points[i - 1], *b = &table->points[i];
            if (b->family[0] != 'L' || strcmp(a->family, b->family) != 0) continue;
            assert_true(b->flops_reduction > a->flops_reduction);
            pairs++;
        }
        assert_int_equal(pairs, 9);
        kv_published_free(table);
    }
}

static void all_tables_parse(void **state) {
    (void)state;
    int n = 0;
    for (const kv_embedded *file = kv_published_files; file->name; file++, n++) {
        kv_published *table = load(file->name);
        assert_true(table->n_points >= 3 && table->n_columns >= 1);
        for (int64_t i = 0; i < table->n_points; i++) {
            const kv_published_point *point = &table->points[i];
            assert_true(*point->model && *point->family && point->flops_reduction >= 1);
            // A figure for every score; shares of 100.
            for (int64_t c = 0; c < table->n_columns; c++)
                assert_true(point->values[c] >= 0 && point->values[c] <= 100);
        }
        kv_published_free(table);
    }
    assert_int_equal(n, 7);
}

// Of Qwen3-1.7B's prompt of n tokens behind ridge regression from that many layers of Qwen3-0.6B (0: that alone).
static double reduction_of(int n_layers, int64_t n) {
    kv_model_spec base, aux;
    kv_predictor *shape = NULL;
    kv_error err = {0};
    char name[64];
    snprintf(name, sizeof name, "random:aux_layers=%d", n_layers);
    assert_true(kv_published_spec("qwen3-1.7b", &base) && kv_published_spec("qwen3-0.6b", &aux));
    if (n_layers && kv_predictor_shape(name, &base, &aux, &shape, &err)) fail_msg("%s", err.message);
    const uint64_t with = shape ? kv_flops_kvp_prefill(&base, &aux, shape, n) : kv_flops_prefill(&aux, n);
    kv_predictor_free(shape);
    return (double)kv_flops_prefill(&base, n) / (double)with;
}

// What the README there says: nobody has printed them.
static void reductions_of_qwen3_are_counted(void **state) {
    (void)state;
    kv_published *table = load("hellaswag-qwen3-1.7b");
    assert_true(table->shares && table->points[0].values[0] == 100 && table->points[0].flops_reduction == 1);
    for (int64_t i = 1; i < table->n_points; i++) {
        int n_layers = 0;
        sscanf(table->points[i].model, "best %d", &n_layers);
        const double counted = reduction_of(n_layers, 128);
        if (fabs(counted - table->points[i].flops_reduction) > 0.005)
            fail_msg("%s: counted %.4f", table->points[i].model, counted);
    }
    assert_int_equal(table->n_points, 7);
    const double said[][2] = {{8, 1.49}, {4, 1.97}, {1, 2.61}, {0, 2.93}};
    for (int i = 0; i < 4; i++)
        if (fabs(reduction_of((int)said[i][0], 1024) - said[i][1]) > 0.005)
            fail_msg("%g layers: counted %.4f", said[i][0], reduction_of((int)said[i][0], 1024));
    const double eight = reduction_of(8, 32768), four = reduction_of(4, 32768);
    if (fabs(eight - 1.17) > 0.005 || fabs(four - 1.28) > 0.005)
        fail_msg("counted %.4f and %.4f", eight, four);
    kv_published_free(table);
}

// Shares go beside shares; who printed what is said of each table.
static void shares_go_with_shares(void **state) {
    (void)state;
    kv_error err = {0};
    kv_published *shares = load("hellaswag-qwen3-1.7b"), *paper = load("triviaqa-openelm-3b");
    assert_int_equal(kv_published_fits("it", shares, true, &err), KV_OK);
    assert_int_equal(kv_published_fits("it", shares, false, &err), KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "`it` has shares of the base's score alone"));
    for (int retention = 0; retention < 2; retention++)
        assert_int_equal(kv_published_fits("it", paper, retention, &err), KV_OK);
    assert_string_equal(paper->source, "arXiv 2410.08391");
    assert_string_equal(shares->source, "reproductions of arXiv 2608.03893");
    kv_published_free(shares);
    kv_published_free(paper);
}

// Where the average of the seven was printed, it is that.
static void averages_agree(void **state) {
    (void)state;
    static const char *const names[] = {"mcqa-openelm-1.1b", "mcqa-openelm-3b"};
    for (int t = 0; t < 2; t++) {
        kv_published *table = load(names[t]);
        assert_int_equal(table->n_columns, 8);
        for (int64_t i = 0; i < table->n_points; i++) {
            double sum = 0;
            for (int c = 0; c < 7; c++) sum += table->points[i].values[c];
            if (fabs(sum / 7 - table->points[i].values[7]) > 0.011)
                fail_msg("%s: average %g, printed %g", table->points[i].model, sum / 7,
                         table->points[i].values[7]);
        }
        kv_published_free(table);
    }
}

static void unknown_names_are_told_the_known(void **state) {
    (void)state;
    kv_published *table;
    kv_error err = {0};
    assert_int_equal(kv_published_load("triviaqa", &table, &err), KV_ERR_ARGUMENT);
    assert_null(table);
    assert_non_null(strstr(err.message, "no published table `triviaqa`"));
    for (const kv_embedded *file = kv_published_files; file->name; file++)
        assert_non_null(strstr(err.message, file->name));
}

static void reader_names_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "t:1: expected the columns model,family,flops_reduction"},
        {"model,family,flops_reduction\n", "t:1: expected the columns"},
        {"model,family,reduction,x\n", "t:1: expected the columns"},
        {"model,family,flops_reduction,x\na,b,1\n", "t:2: found 3 fields, expected 4"},
        {"model,family,flops_reduction,x\n\na,b,1,2,3\n", "t:3: found 5 fields, expected 4"},
        {"model,family,flops_reduction,x\na,b,1,2x\n", "t:2: x: found `2x`, expected a number"},
        {"model,family,flops_reduction,x\na,b,1,1/\n", "t:2: x: found `1/`"},
        {"model,family,flops_reduction,x\na,b,1,1/0\n", "t:2: x: found `1/0`"},
        {"model,family,flops_reduction,x\na,b,1,1e999\n", "t:2: x: found `1e999`"},
        {"model,family,flops_reduction,x\na,b,0,1\n", "t:2: flops_reduction: found `0`"},
        {"model,family,flops_reduction,x\na,b,,1\n", "t:2: flops_reduction: found ``"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_published *table;
        kv_error err = {0};
        assert_int_equal(kv_published_parse("t", cases[i].text, &table, &err), KV_ERR_FORMAT);
        assert_null(table);
        if (!strstr(err.message, cases[i].part))
            fail_msg("expected '%s', found: %s", cases[i].part, err.message);
    }
}

static void reader_takes_what_editors_leave(void **state) {
    (void)state;
    kv_published *table;
    kv_error err = {0};
    // Windows line ends, an empty line, a missing figure, no newline at the end.
    static const char text[] = "model,family,flops_reduction,x,y\r\na,b,2,3,\r\n\r\nc,d,4.5,1/4,-6";
    if (kv_published_parse("t", text, &table, &err)) fail_msg("%s", err.message);
    assert_int_equal(table->n_points, 2);
    assert_int_equal(table->n_columns, 2);
    assert_true(isnan(table->points[0].values[1]) && table->points[0].values[0] == 3);
    assert_true(table->points[1].values[0] == 0.25 && table->points[1].values[1] == -6);
    assert_string_equal(table->points[1].family, "d");
    assert_string_equal(table->columns[1], "y");
    kv_published_free(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_as_printed_and_corrected),
        cmocka_unit_test(reductions_of_a_schedule_grow),
        cmocka_unit_test(all_tables_parse),
        cmocka_unit_test(reductions_of_qwen3_are_counted),
        cmocka_unit_test(shares_go_with_shares),
        cmocka_unit_test(averages_agree),
        cmocka_unit_test(unknown_names_are_told_the_known),
        cmocka_unit_test(reader_names_what_is_wrong),
        cmocka_unit_test(reader_takes_what_editors_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
