// Results of a metric of which less is better: what a system keeps, fronts, budgets, tables and files, worked out by hand; and what
// changes when the same numbers are one of which more is.
#include "tests/support/corpus.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/results.h"
#include "tests/support/shown.h"

#include "eval/results/selection.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_ITEMS = 4 };

// The perplexity of a text, of which each window has its bytes: base, and three that are cheaper, of which one is better than it.
static kv_results of_text(void) {
    static const char *const names[] = {"base", "small", "sharp", "blunt"}, *const metrics[] = {
                                                                                "tail_nll", "tail_perplexity",
                                                                                "bits_per_byte"};
    static const double values[4][3 * N_ITEMS] = {{2, 2, 4, 4, 2, 2, 4, 4, 1, 1, 2, 2},
                                                  {3, 2, 5, 4, 3, 2, 5, 4, 2, 2, 4, 4},
                                                  {1, 2, 3, 4, 1, 2, 3, 4, 0.5, 1, 1.5, 2},
                                                  {4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2}};
    static const double flops[] = {3000, 1000, 1500, 1200}, weights[N_ITEMS] = {1, 1, 2, 4};
    kv_results r;
    kv_error err = {0};
    if (kv_results_init(&r, 4, 1, &err)) fail_msg("%s", err.message);
    r.seed = 7, r.bootstrap = 500;
    r.configs = test_alloc(1, sizeof *r.configs);
    r.configs[0] = strdup("seed: 1\n");
    r.n_configs = 1;
    r.budgets = test_alloc(1, sizeof *r.budgets);
    r.budgets[0] = 0.5, r.n_budgets = 1;
    kv_result_task *t = &r.tasks[0];
    t->name = strdup("code"), t->split = strdup("held-out"), t->kind = strdup("text"), t->file = strdup("f");
    snprintf(t->hash, sizeof t->hash, "00000000000000dd");
    t->n_items = t->n_units = N_ITEMS, t->n_metrics = 3, t->prompt_tokens = 384;
    for (int m = 0; m < 3; m++) snprintf(t->metrics[m], KV_METRIC_NAME, "%s", metrics[m]);
    t->weights = test_alloc(N_ITEMS, sizeof *t->weights);
    memcpy(t->weights, weights, sizeof weights);
    for (int s = 0; s < 4; s++) {
        char hash[17];
        snprintf(hash, sizeof hash, "%016x", s + 1);
        test_name_system(&r, s, names[s], s == 0 ? "base" : "aux", hash, 3000 / flops[s]);
        test_fill_outcome(&r, s, 0, values[s], flops[s]);
    }
    kv_timing *timing = kv_results_add_timing(&r, 384, 1, 3);
    assert_non_null(timing);
    if (kv_results_derive(&r, &err)) fail_msg("%s", err.message);
    return r;
}

static void near(double found, double expected) {
    if (!(fabs(found - expected) <= rounding_bound_double(16, fabs(expected))))
        fail_msg("found %.17g, expected %.17g", found, expected);
}

static void figures_of_which_less_is_better(void **state) {
    (void)state;
    enum { NLL, PERPLEXITY, BITS };
    kv_results r = of_text();
    const kv_figure *base = kv_results_outcome(&r, 0, 0)->figures,
                    *small = kv_results_outcome(&r, 1, 0)->figures,
                    *sharp = kv_results_outcome(&r, 2, 0)->figures;
    near(base[NLL].accuracy, 3), near(small[NLL].accuracy, 3.5);
    near(base[PERPLEXITY].accuracy, exp(3)), near(small[PERPLEXITY].accuracy, exp(3.5));
    near(base[BITS].accuracy, (1 + 1 + 4 + 8) / 8.0), near(small[BITS].accuracy, (2 + 2 + 8 + 16) / 8.0);
    for (int m = 0; m < 3; m++) {
        near(base[m].retention, 1);
        assert_true(isnan(base[m].retention_low) && isnan(base[m].retention_high) && isnan(base[m].p_value));
    }
    // e^(base - system); what is better than the base keeps more than all of it. The four differences are -1, 0, -1, 0: of
    // 500 draws of four more than one in 40 hold nothing but the one or the other.
    for (int m = NLL; m <= PERPLEXITY; m++) {
        near(small[m].retention, exp(-0.5)), near(sharp[m].retention, exp(0.5));
        near(small[m].retention_low, exp(-1)), near(small[m].retention_high, 1);
        near(sharp[m].retention_low, 1), near(sharp[m].retention_high, exp(1));
        near(small[m].p_value, 0.5); // two differ, by as much, and both are worse
    }
    // The same draws: the perplexity's ends are those of the nats.
    near(small[PERPLEXITY].low, exp(small[NLL].low)), near(small[PERPLEXITY].high, exp(small[NLL].high));
    assert_true(small[NLL].low < 3.5 && small[NLL].high > 3.5);
    // Twice the bits in every window, whatever it weighs; the sums of weight and bits differ by 1, 1, 4 and 8.
    near(small[BITS].retention, 0.5), near(small[BITS].retention_low, 0.5),
        near(small[BITS].retention_high, 0.5);
    near(small[BITS].p_value, 2.0 / 16);
    assert_true(small[BITS].low >= 2 && small[BITS].low < 3.5 && small[BITS].high > 3.5 &&
                small[BITS].high <= 4);
    near(sharp[BITS].retention, 14 / (0.5 + 1 + 3 + 8));
    // Windows of the same number of bytes.
    kv_error err = {0};
    free(r.tasks[0].weights);
    r.tasks[0].weights = NULL;
    assert_int_equal(kv_results_derive(&r, &err), KV_OK);
    near(small[BITS].accuracy, 3), near(sharp[BITS].retention, 6 / 5.0);
    kv_results_free(&r);
}

// The same numbers as a share: another front, and another best within the budget.
static void direction_decides(void **state) {
    (void)state;
    static const bool fronts[2][4] = {{false, true, true, false}, {false, true, false, true}};
    static const char *const best[] = {"0.5,code,held-out,tail_nll,aux,sharp,2.5,",
                                       "0.5,code,held-out,acc,aux,blunt,4,"};
    kv_results r = of_text();
    kv_error err = {0};
    for (int higher = 0; higher < 2; higher++) {
        bool front[4];
        if (higher) snprintf(r.tasks[0].metrics[0], KV_METRIC_NAME, "acc");
        assert_int_equal(kv_results_derive(&r, &err), KV_OK);
        assert_true(kv_results_front(&r, 0, front));
        assert_memory_equal(front, fronts[higher], sizeof front);
        const char *path = test_path(test_dir, "directions.csv");
        if (kv_results_write_budgets(&r, path, &err)) fail_msg("%s", err.message);
        char *text = test_read_text(path);
        if (!strstr(text, best[higher])) fail_msg("expected '%s' in:\n%s", best[higher], text);
        assert_true(strstr(text, higher ? ",0.4,higher\n" : ",0.5,lower\n") != NULL);
        free(text);
    }
    kv_results_free(&r);
}

static char *printed(const kv_results *r) {
    kv_tables *tables = kv_tables_create();
    kv_results_tables(r, tables);
    return test_shown(tables);
}

static void expect_part(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("expected '%s' in:\n%s", part, text);
}

// e^800 is no number: it is shown as what it is, left out of files, and breaks nothing.
static void perplexities_may_be_too_large(void **state) {
    (void)state;
    kv_results r = of_text();
    kv_error err = {0};
    const kv_figure *small = kv_results_outcome(&r, 1, 0)->figures;
    for (int of_base = 0; of_base < 2; of_base++) {
        for (int i = 0; i < 2 * N_ITEMS; i++) {
            kv_results_outcome(&r, 0, 0)->values[i] = of_base ? 800 : 1;
            kv_results_outcome(&r, 1, 0)->values[i] = of_base ? 1 : 800;
        }
        assert_int_equal(kv_results_derive(&r, &err), KV_OK);
        assert_true(of_base ? isinf(small[0].retention) : small[0].retention == 0);
        char *text = printed(&r);
        expect_part(text, of_base ? "∞-∞" : "0.0-0.0");
        expect_part(text, "  ∞");
        free(text);
        const char *path = test_path(test_dir, "large.csv");
        if (kv_results_write_csv(&r, path, &err)) fail_msg("%s", err.message);
        text = test_read_text(path);
        expect_part(text, of_base ? "base,base,code,held-out,tail_perplexity,,1,"
                                  : "small,aux,code,held-out,tail_perplexity,,0,");
        expect_part(text, of_base ? "small,aux,code,held-out,tail_nll,1,,3,3," : "tail_nll,800,0,3,3,");
        assert_null(strstr(text, "inf"));
        assert_null(strstr(text, "nan"));
        free(text);
        path = test_path(test_dir, "large.h5");
        kv_results again;
        if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
        if (kv_results_read_h5(path, &again, &err)) fail_msg("%s", err.message);
        kv_results_free(&again);
    }
    kv_results_free(&r);
}

static void csv_says_which_way_is_better(void **state) {
    (void)state;
    kv_results r = of_text();
    kv_error err = {0};
    const char *path = test_path(test_dir, "text.csv");
    if (kv_results_write_csv(&r, path, &err)) fail_msg("%s", err.message);
    char *text = test_read_text(path);
    expect_part(text, "\nbase,base,code,held-out,tail_nll,3,1,1,1,");
    expect_part(text, "\nsmall,aux,code,held-out,tail_nll,3.5,0.60653066,3,3,");
    expect_part(text, "\nsharp,aux,code,held-out,bits_per_byte,1.5625,1.12,2,2,");
    int n_lower = 0;
    for (const char *at = text; (at = strstr(at, ",lower\n")); at++) n_lower++;
    assert_int_equal(n_lower, 4 * 3);
    assert_null(strstr(text, "higher"));
    free(text);
    kv_results_free(&r);
}

static void table_of_text(void **state) {
    (void)state;
    kv_results r = of_text();
    char *text = printed(&r);
    expect_part(text, "code, held-out: 4 items, prompts of 384 tokens; lower is better\n");
    expect_part(text, "3.500");
    expect_part(text, "33.12");
    expect_part(text, "60.7 %");
    expect_part(text, "164.9 %");
    expect_part(text, "kept: of nats the base's perplexity over the system's; p:");
    expect_part(text, "the first token; lower is better\n");
    assert_null(strstr(text, "350.0"));
    free(text);
    kv_results_free(&r);
}

// A task more, and another: of shares and nats together only the shares have a mean.
static void nats_are_not_averaged_with_shares(void **state) {
    (void)state;
    kv_results r;
    kv_error err = {0};
    static const char *const metrics[] = {"exact_match", "tail_nll", "acc"};
    static const double values[2][3] = {{0.5, 2.25, 0.75}, {0.25, 3.125, 0.5}};
    if (kv_results_init(&r, 2, 3, &err)) fail_msg("%s", err.message);
    for (int t = 0; t < 3; t++) {
        kv_result_task *task = &r.tasks[t];
        task->name = strdup(metrics[t]), task->split = strdup("test"), task->kind = strdup("k");
        task->file = strdup("f");
        task->n_items = task->n_units = task->n_metrics = 1;
        snprintf(task->metrics[0], KV_METRIC_NAME, "%s", metrics[t]);
    }
    for (int s = 0; s < 2; s++) {
        test_name_system(&r, s, s ? "small" : "base", s ? "aux" : "base", "", 1 + s);
        for (int t = 0; t < 3; t++) test_fill_outcome(&r, s, t, &values[s][t], 100);
    }
    if (kv_results_derive(&r, &err)) fail_msg("%s", err.message);
    char *text = printed(&r);
    expect_part(text, "all tasks, first metric of each: shares in %, and only they are averaged;");
    const char *table = strstr(text, "all tasks"), *line = table ? strstr(table, "small") : NULL;
    char cells[4][16];
    if (!line) fail_msg("no line of the small system in:\n%s", text);
    assert_int_equal(sscanf(line, "small aux %15s %15s %15s %15s", cells[0], cells[1], cells[2], cells[3]),
                     4);
    assert_string_equal(cells[0], "25.0");
    assert_string_equal(cells[1], "3.125");
    assert_string_equal(cells[2], "50.0");
    assert_string_equal(cells[3], "37.5");
    free(text);
    kv_results_free(&r);
}

// Of nats the perplexity stands beside other tasks' shares.
static void perplexities_beside_shares(void **state) {
    (void)state;
    kv_results r;
    kv_error err = {0};
    static const double values[2][3][2] = {{{0.5}, {0, 0}, {0.75}},
                                           {{0.25}, {0.6931471805599453, 0.6931471805599453}, {0.5}}};
    if (kv_results_init(&r, 2, 3, &err)) fail_msg("%s", err.message);
    for (int t = 0; t < 3; t++) {
        kv_result_task *task = &r.tasks[t];
        task->name = strdup(t == 1 ? "text" : "q"), task->split = strdup("test"), task->kind = strdup("k");
        task->file = strdup("f");
        task->n_items = task->n_units = 1, task->n_metrics = t == 1 ? 2 : 1;
        snprintf(task->metrics[0], KV_METRIC_NAME, "%s", t == 1 ? "tail_nll" : "acc");
        snprintf(task->metrics[1], KV_METRIC_NAME, "tail_perplexity");
    }
    for (int s = 0; s < 2; s++) {
        test_name_system(&r, s, s ? "small" : "base", s ? "aux" : "base", "", 1 + s);
        for (int t = 0; t < 3; t++) test_fill_outcome(&r, s, t, values[s][t], 100);
    }
    if (kv_results_derive(&r, &err)) fail_msg("%s", err.message);
    char *text = printed(&r), cells[4][16];
    expect_part(text, "all tasks, first metric of each, of nats their perplexity: shares in %");
    expect_part(text, "test: perplexity");
    const char *table = strstr(text, "all tasks"), *line = table ? strstr(table, "small") : NULL;
    if (!line) fail_msg("no line of the small system in:\n%s", text);
    assert_int_equal(sscanf(line, "small aux %15s %15s %15s %15s", cells[0], cells[1], cells[2], cells[3]),
                     4);
    assert_string_equal(cells[1], "2.00");
    assert_string_equal(cells[3], "37.5");
    free(text);
    kv_results_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_of_which_less_is_better),
        cmocka_unit_test(direction_decides),
        cmocka_unit_test(perplexities_may_be_too_large),
        cmocka_unit_test(csv_says_which_way_is_better),
        cmocka_unit_test(table_of_text),
        cmocka_unit_test(nats_are_not_averaged_with_shares),
        cmocka_unit_test(perplexities_beside_shares),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
