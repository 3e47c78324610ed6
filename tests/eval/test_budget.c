// The best system of each family within a budget, and the Pareto front, on cases worked by hand.
#include "tests/support/support.h"

#include "eval/statistics/budget.h"
#include "eval/statistics/metric.h"

#include <math.h>

enum { BASE, OE, KVP, N_FAMILIES, N = 9 };

static const kv_budget_candidate rows[N] = {
    {"base", 1.00, 0.90}, {"OE", 0.40, 0.50}, {"KVP", 0.40, 0.70}, {"OE", 0.20, 0.30}, {"KVP", 0.25, 0.60},
    {"KVP", 0.75, 0.70},  {"OE", 0.10, NAN},  {"KVP", NAN, 0.99},  {"OE", 0.40, 0.50},
};

static void families_in_order(void **state) {
    (void)state;
    static const int64_t expected[N] = {BASE, OE, KVP, OE, KVP, KVP, OE, KVP, OE};
    int64_t family_of[N];
    assert_int_equal(kv_budget_families(rows, N, family_of), N_FAMILIES);
    assert_memory_equal(family_of, expected, sizeof expected);
    assert_int_equal(kv_budget_families(rows, 0, family_of), 0);
}

static void best_within_a_budget(void **state) {
    (void)state;
    static const struct {
        double budget;
        int64_t best[N_FAMILIES];
    } cases[] = {
        {1.00, {0, 1, 2}}, // rows 2 and 5 tie: the cheaper; rows 1 and 8 are the same: the earlier
        {0.75, {-1, 1, 2}}, {0.40, {-1, 1, 2}},  {0.39, {-1, 3, 4}},
        {0.25, {-1, 3, 4}}, {0.20, {-1, 3, -1}}, {0.10, {-1, -1, -1}}, // the only one that fits has no score
        {0, {-1, -1, -1}},
    };
    int64_t family_of[N], best[N_FAMILIES];
    kv_budget_families(rows, N, family_of);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        kv_budget_best(rows, N, family_of, N_FAMILIES, cases[c].budget, best);
        for (int f = 0; f < N_FAMILIES; f++)
            if (best[f] != cases[c].best[f])
                fail_msg("budget %g, family %d: found %d, expected %d", cases[c].budget, f, (int)best[f],
                         (int)cases[c].best[f]);
    }
}

// A cost that should be exactly the budget may lie above it by a rounding error, but by no more.
static void budget_tolerates_rounding(void **state) {
    (void)state;
    const kv_budget_candidate close[] = {{"a", 0.35 * (1 + 1e-12), 1}, {"b", 0.35 * (1 + 1e-6), 1}};
    int64_t family_of[2], best[2];
    kv_budget_families(close, 2, family_of);
    kv_budget_best(close, 2, family_of, 2, 0.35, best);
    assert_int_equal(best[0], 0);
    assert_int_equal(best[1], -1);
}

static void ties_go_to_the_cheaper_then_the_earlier(void **state) {
    (void)state;
    const kv_budget_candidate tied[] = {{"a", 0.5, 1}, {"a", 0.3, 1}, {"a", 0.3, 1}, {"a", 0.2, 0.9}};
    int64_t family_of[4], best[1];
    assert_int_equal(kv_budget_families(tied, 4, family_of), 1);
    kv_budget_best(tied, 4, family_of, 1, 1, best);
    assert_int_equal(best[0], 1);
}

static void front_is_what_nobody_beats(void **state) {
    (void)state;
    const double cost[] = {1, 0.5, 0.5, 0.4, 0.2, 0.2, 0.1, NAN, 0.05, 0.3, -INFINITY};
    const double score[] = {9, 9, 8, 8, 3, 3, 0, 10, NAN, 3, 7};
    const bool expected[] = {false, true, false, true, true, true, true, false, false, false, false};
    bool found[11];
    kv_pareto_front(cost, score, 11, found);
    for (int i = 0; i < 11; i++)
        if (found[i] != expected[i]) fail_msg("row %d", i);
    kv_pareto_front(cost, score, 0, found);
    kv_pareto_front((const double[]){1}, (const double[]){0}, 1, found);
    assert_true(found[0]);
}

// The same figures as something of which less is better: another front, and another best.
static void direction_decides(void **state) {
    (void)state;
    static const double cost[] = {1, 0.5, 0.4, 0.34}, figure[] = {3, 2.5, 4, 3.5};
    static const bool fronts[2][4] = {{false, false, true, true}, {false, true, false, true}};
    static const int64_t best_of[2][2] = {{0, 2}, {0, 1}};
    static const char *const names[] = {"acc", "tail_nll"};
    for (int lower = 0; lower < 2; lower++) {
        const kv_metric *metric = kv_metric_of(names[lower]);
        kv_budget_candidate all[4];
        double score[4];
        int64_t family_of[4], best[2];
        bool front[4];
        for (int i = 0; i < 4; i++) {
            score[i] = kv_metric_score(metric, figure[i]);
            all[i] = (kv_budget_candidate){i ? "small" : "base", cost[i], score[i]};
        }
        kv_pareto_front(cost, score, 4, front);
        assert_memory_equal(front, fronts[lower], sizeof front);
        kv_budget_families(all, 4, family_of);
        kv_budget_best(all, 4, family_of, 2, 1, best);
        assert_memory_equal(best, best_of[lower], sizeof best);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_in_order),
        cmocka_unit_test(best_within_a_budget),
        cmocka_unit_test(budget_tolerates_rounding),
        cmocka_unit_test(ties_go_to_the_cheaper_then_the_earlier),
        cmocka_unit_test(front_is_what_nobody_beats),
        cmocka_unit_test(direction_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
