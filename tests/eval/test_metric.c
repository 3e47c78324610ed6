// What is known of metrics: which way is better, how values become a figure, and how it is shown.
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

#include "eval/statistics/metric.h"

#include <math.h>
#include <string.h>

static void near(double found, double expected, double within) {
    if (!(fabs(found - expected) <= within)) fail_msg("found %.17g, expected %.17g", found, expected);
}

static void names_say_which_way_is_better(void **state) {
    (void)state;
    static const char *const lower[] = {"tail_nll", "tail_perplexity", "bits_per_byte", "whole_nll",
                                        "whole_perplexity"};
    static const char *const higher[] = {"exact_match", "acc", "acc_norm", "acc_bytes", "pass@1",
                                         "pass@100",    "",    "tail",     "tail_nll2"};
    for (size_t i = 0; i < sizeof lower / sizeof *lower; i++) {
        const kv_metric *metric = kv_metric_of(lower[i]);
        assert_true(metric->lower_is_better && !metric->share && kv_metric_unit(metric) == 1);
        assert_string_equal(kv_metric_better(metric), "lower");
        assert_true(kv_metric_score(metric, 2) > kv_metric_score(metric, 3));
        assert_int_equal(metric->whole, !strncmp(lower[i], "whole", 5));
    }
    for (size_t i = 0; i < sizeof higher / sizeof *higher; i++) {
        const kv_metric *metric = kv_metric_of(higher[i]);
        assert_true(!metric->lower_is_better && metric->share && kv_metric_unit(metric) == 100);
        assert_string_equal(kv_metric_better(metric), "higher");
        assert_true(kv_metric_score(metric, 2) < kv_metric_score(metric, 3));
    }
    assert_true(kv_metric_of("pass@1")->drawn && kv_metric_of("whole_nll")->drawn);
    assert_false(kv_metric_of("acc_norm")->drawn || kv_metric_of("whole_perplexity")->drawn);
}

static void values_become_figures(void **state) {
    (void)state;
    const double values[] = {2, 3, 7}, weights[] = {1, 3, 0};
    near(kv_metric_figure(kv_metric_of("acc"), values, weights, 3), 4, 0);
    near(kv_metric_figure(kv_metric_of("tail_nll"), values, weights, 3), 4, 0);
    near(kv_metric_figure(kv_metric_of("tail_perplexity"), values, weights, 3), exp(4), 0);
    near(kv_metric_figure(kv_metric_of("whole_perplexity"), values, NULL, 2), exp(2.5), 0);
    near(kv_metric_figure(kv_metric_of("bits_per_byte"), values, weights, 3), 11.0 / 4,
         rounding_bound_double(4, 3));
    near(kv_metric_figure(kv_metric_of("bits_per_byte"), values, NULL, 3), 4, 0);
    assert_true(isnan(kv_metric_figure(kv_metric_of("tail_perplexity"), values, NULL, 0)));
    assert_true(isinf(kv_metric_figure(kv_metric_of("tail_perplexity"), (const double[]){800}, NULL, 1)));
}

static void expect_text(const char *name, double figure, const char *expected) {
    char text[KV_METRIC_TEXT];
    assert_string_equal(kv_metric_text(kv_metric_of(name), figure, text), expected);
}

static void expect_spread(const char *name, double mean, double sd, const char *expected) {
    char text[KV_METRIC_TEXT];
    const kv_spread spread = {.mean = mean, .sd = sd, .n = 2};
    assert_string_equal(kv_metric_spread_text(kv_metric_of(name), spread, text), expected);
}

static void expect_interval(const char *name, double low, double high, const char *expected) {
    char text[KV_METRIC_TEXT];
    assert_string_equal(kv_metric_interval_text(kv_metric_of(name), low, high, text), expected);
}

static void figures_have_their_unit(void **state) {
    (void)state;
    expect_text("exact_match", 0.5731, "57.3 %");
    expect_text("acc", 0, "0.0 %");
    expect_text("tail_nll", 2.33149, "2.331");
    expect_text("bits_per_byte", 1.0 / 3, "0.333");
    expect_text("tail_perplexity", 10.289, "10.29");
    expect_text("tail_perplexity", 157.04, "157.0");
    expect_text("whole_perplexity", 50257.3, "50257");
    expect_text("whole_perplexity", exp(700), "1.01e+304");
    expect_text("whole_perplexity", INFINITY, "∞");
    expect_text("tail_nll", NAN, "-");
    expect_text("acc", NAN, "-");
    expect_interval("acc", 0.5, 0.625, "50.0-62.5");
    expect_interval("acc", 0.5, INFINITY, "50.0-∞");
    expect_interval("acc", NAN, NAN, "-");
    expect_interval("acc", 0.5, NAN, "-");
    expect_interval("tail_nll", 2.25, 2.5, "2.250-2.500");
    expect_interval("tail_perplexity", 9.5, 120, "9.50-120.0");
    expect_interval("tail_perplexity", exp(709), INFINITY, "8.22e+307-∞");
    expect_spread("exact_match", 0.5731, 0.0109, "57.3 ± 1.1 %");
    expect_spread("tail_nll", 2.3312, 0.012, "2.331 ± 0.012");
    expect_spread("tail_perplexity", 10.294, 0.1, "10.29 ± 0.10");
    expect_spread("exact_match", 0.5731, (double)NAN, "57.3 %"); // of one seed
    expect_spread("exact_match", (double)NAN, (double)NAN, "-");
    expect_spread("tail_perplexity", 1e300, 1e299, "1e+300 ± 1e+299");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_say_which_way_is_better),
        cmocka_unit_test(values_become_figures),
        cmocka_unit_test(figures_have_their_unit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
