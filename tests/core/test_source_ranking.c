// What only some of a predictor's sources explain, against normal equations solved by elimination; and which of them are taken
// first.
#include "core/gemm.h"
#include "core/predictor/best.h"
#include "core/predictor/ranking.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 120, SOURCES = 3, LAYER = 1, MOST = 40 };
static const double ridge = 0.05;

// An aux of three layers that are 12, 6 (matched: 12) and 12 wide, all of which both sides of every base layer read; y of one base layer is
// what a test makes it, of the others nothing.
struct setup {
    kv_model_spec base, aux;
    kv_predictor *predictor;
    kv_tape *tape;
    kv_tensor *x[2][SOURCES]; // keys, values
    kv_tensor *y[2][3];
};

static kv_tensor *random_tensor(kv_tape *tape, int64_t cols, uint64_t seed) {
    kv_tensor *t = kv_tape_tensor(tape, TOKENS, cols);
    assert_non_null(t);
    for (int64_t i = 0; i < TOKENS * cols; i++) t->data[i] = (float)(test_value(seed, i) + 0.25);
    return t;
}

static struct setup set_up(bool matched) {
    static kv_predictor_spec spec;
    struct setup s = {.base = tiny_base(), .aux = tiny_aux(), .tape = kv_tape_create()};
    s.aux.layers[2] = s.aux.layers[0], s.aux.n_layers = SOURCES;
    s.aux.layers[1].n_kv_heads = matched ? 2 : 1;
    kv_predictor_spec_paper(&s.base, &s.aux, (const int32_t[]){0, 0, 0}, &spec);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < 3; i++) {
            for (int64_t j = 1; j < SOURCES; j++)
                kv_sources_add(&spec.outputs[side][i].sources, side ? KV_SOURCE_VALUES : KV_SOURCE_KEYS, j);
            spec.outputs[side][i].matched = matched;
        }
    kv_error err = {0};
    if (kv_predictor_create(&s.base, &s.aux, &spec, &s.predictor, &err)) fail_msg("%s", err.message);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < 3; i++) {
            const uint64_t seed = (uint64_t)(10 * side + i);
            s.x[side][i] = random_tensor(s.tape, kv_spec_kv_dim(&s.aux, i), seed);
            s.y[side][i] = random_tensor(s.tape, kv_spec_kv_dim(&s.base, i), 100 + seed);
        }
    return s;
}

static void tear_down(struct setup *s) {
    kv_predictor_free(s->predictor);
    kv_tape_free(s->tape);
}

// Sums of tokens [first, first + n).
static kv_least_squares *sums_of(const struct setup *s, int64_t first, int64_t n) {
    uint8_t keep[TOKENS];
    for (int64_t t = 0; t < TOKENS; t++) keep[t] = t >= first && t < first + n;
    kv_least_squares *ls;
    kv_error err = {0};
    const kv_taps taps = test_taps(s->predictor, s->x[0], s->x[1]);
    if (kv_least_squares_create(s->predictor, &ls, &err) ||
        kv_least_squares_add(ls, s->tape, &taps, s->y[0], s->y[1], keep, &err))
        fail_msg("%s", err.message);
    return ls;
}

static kv_explained explained_by(const kv_least_squares *ls, int side, const int32_t *use, int64_t n,
                                 const kv_least_squares *other) {
    kv_explained explained;
    kv_error err = {0};
    if (kv_least_squares_explain(ls, (kv_side)side, LAYER, use, n, ridge, other, &explained, &err))
        fail_msg("%s", err.message);
    return explained;
}

// ---- By elimination ------------------------------------------------------------------------------------

// Columns that a block of the output reads of these sources, and the constant.
static int64_t row_of(const struct setup *s, int side, const int32_t *use, int64_t n, int64_t block,
                      int64_t n_blocks, int64_t token, double *row) {
    int64_t width = 0;
    for (int64_t k = 0; k < n; k++) {
        const kv_tensor *x = s->x[side][use[k]];
        const int64_t cols = x->cols / n_blocks;
        for (int64_t c = 0; c < cols; c++) row[width++] = (double)x->data[token * x->cols + block * cols + c];
    }
    row[width++] = 1;
    return width;
}

// w [width] of a·w = b, by Gauss.
static void eliminate(int64_t width, double (*a)[MOST], double *b) {
    for (int64_t i = 0; i < width; i++)
        for (int64_t r = 0; r < width; r++) {
            const double factor = r == i ? 0 : a[r][i] / a[i][i];
            for (int64_t c = i; c < width; c++) a[r][c] -= factor * a[i][c];
            b[r] -= factor * b[i];
        }
    for (int64_t i = 0; i < width; i++) b[i] /= a[i][i];
}

struct variance {
    double residual, total;
};

static void add_residual(const struct setup *s, int side, const int32_t *use, int64_t n, int64_t block,
                         int64_t n_blocks, int64_t column, const double *w, int64_t first, int64_t n_tokens,
                         struct variance *v) {
    const kv_tensor *y = s->y[side][LAYER];
    double mean = 0, row[MOST];
    for (int64_t t = first; t < first + n_tokens; t++)
        mean += (double)y->data[t * y->cols + column] / (double)n_tokens;
    for (int64_t t = first; t < first + n_tokens; t++) {
        const double value = (double)y->data[t * y->cols + column];
        double error = value;
        const int64_t width = row_of(s, side, use, n, block, n_blocks, t, row);
        for (int64_t i = 0; i < width; i++) error -= w[i] * row[i];
        v->residual += error * error, v->total += (value - mean) * (value - mean);
    }
}

// On tokens [0, n_fit), and the same maps on those behind them.
static kv_explained by_elimination(const struct setup *s, int side, const int32_t *use, int64_t n,
                                   int64_t n_blocks, int64_t n_fit) {
    const kv_tensor *y = s->y[side][LAYER];
    struct variance fit = {0}, other = {0};
    for (int64_t column = 0; column < y->cols; column++) {
        double a[MOST][MOST] = {{0}}, b[MOST] = {0}, row[MOST], diagonal = 0;
        const int64_t block = column / (y->cols / n_blocks);
        int64_t width = 0;
        for (int64_t t = 0; t < n_fit; t++) {
            width = row_of(s, side, use, n, block, n_blocks, t, row);
            for (int64_t i = 0; i < width; i++) {
                for (int64_t j = 0; j < width; j++) a[i][j] += row[i] * row[j];
                b[i] += row[i] * (double)y->data[t * y->cols + column];
            }
        }
        for (int64_t i = 0; i < width - 1; i++) diagonal += a[i][i] / (double)(width - 1);
        for (int64_t i = 0; i < width - 1; i++) a[i][i] += ridge * diagonal;
        eliminate(width, a, b);
        add_residual(s, side, use, n, block, n_blocks, column, b, 0, n_fit, &fit);
        if (n_fit < TOKENS)
            add_residual(s, side, use, n, block, n_blocks, column, b, n_fit, TOKENS - n_fit, &other);
    }
    return (kv_explained){1 - fit.residual / fit.total,
                          n_fit < TOKENS ? 1 - other.residual / other.total : NAN};
}

// Sums of as many terms as there are tokens, in matrices whose condition the ridge keeps small.
static void near(const char *what, double found, double expected) {
    expect_double(what, found, expected, 40 * TOKENS * MOST, 1);
}

static void parts_are_regressions_of_their_own(void **state) {
    (void)state;
    static const int32_t uses[][SOURCES] = {{0}, {1}, {2}, {0, 1}, {2, 0}, {1, 2}, {0, 1, 2}, {2, 1, 0}};
    static const int64_t sizes[] = {1, 1, 1, 2, 2, 2, 3, 3};
    enum { FIT = 90 };
    for (int matched = 0; matched < 2; matched++) {
        struct setup s = set_up(matched);
        kv_least_squares *ls = sums_of(&s, 0, FIT), *other = sums_of(&s, FIT, TOKENS - FIT);
        const int64_t n_blocks = s.predictor->inputs[s.predictor->outputs[0][LAYER].input].n_blocks;
        assert_int_equal(n_blocks, 1 + matched);
        for (size_t u = 0; u < sizeof sizes / sizeof *sizes; u++)
            for (int side = 0; side < KV_SIDES; side++) {
                const kv_explained found = explained_by(ls, side, uses[u], sizes[u], other),
                                   alone = explained_by(ls, side, uses[u], sizes[u], NULL),
                                   expected = by_elimination(&s, side, uses[u], sizes[u], n_blocks, FIT);
                near("fit", found.fit, expected.fit);
                near("other text", found.other, expected.other);
                assert_true(alone.fit == found.fit && isnan(alone.other));
                assert_true(found.other < found.fit); // of noise nothing is to be learnt
            }
        // The whole of it is what the predictor's own regression says.
        double r2[2][3];
        kv_error err = {0};
        if (kv_least_squares_solve(ls, ridge, s.predictor, r2[0], r2[1], &err)) fail_msg("%s", err.message);
        for (int side = 0; side < KV_SIDES; side++)
            near("all", explained_by(ls, side, (const int32_t[]){0, 1, 2}, 3, NULL).fit, r2[side][LAYER]);
        assert_int_equal(kv_least_squares_sources(ls, KV_KEYS, LAYER)->n, SOURCES);
        kv_least_squares_free(ls), kv_least_squares_free(other);
        tear_down(&s);
    }
}

// ---- Ranking -------------------------------------------------------------------------------------------

static void expect_order(const kv_least_squares *ls, kv_ranking ranking, int64_t n, const int32_t *expected) {
    int32_t order[SOURCES + 1] = {-1, -1, -1, -1};
    kv_error err = {0};
    if (kv_rank_sources(ls, KV_VALUES, LAYER, ranking, ridge, n, order, &err)) fail_msg("%s", err.message);
    for (int64_t i = 0; i < n; i++)
        if (order[i] != expected[i])
            fail_msg("%s: place %d has source %d, expected %d", ranking ? "greedy" : "ranked", (int)i,
                     order[i], expected[i]);
    assert_int_equal(order[n], -1);
}

// Layers 0 and 2 say nearly the same, and more than layer 1 does alone; but that is what the other two have not.
static void the_best_are_not_the_best_together(void **state) {
    (void)state;
    struct setup s = set_up(false);
    kv_tensor *twin = s.x[1][0], *other = s.x[1][1], *best = s.x[1][2], *y = s.y[1][LAYER];
    for (int64_t i = 0; i < TOKENS * best->cols; i++)
        twin->data[i] = best->data[i] + (float)(0.1 * test_value(77, i));
    for (int64_t t = 0; t < TOKENS; t++)
        for (int64_t c = 0; c < y->cols; c++)
            y->data[t * y->cols + c] = best->data[t * best->cols + c % best->cols] +
                                       0.7f * other->data[t * other->cols + c % other->cols];
    kv_least_squares *ls = sums_of(&s, 0, TOKENS);
    expect_order(ls, KV_RANKED, 3, (const int32_t[]){2, 0, 1});
    expect_order(ls, KV_GREEDY, 3, (const int32_t[]){2, 1, 0});
    expect_order(ls, KV_RANKED, 2, (const int32_t[]){2, 0});
    expect_order(ls, KV_RANKED, 1, (const int32_t[]){2});
    expect_order(ls, KV_GREEDY, 2, (const int32_t[]){2, 1});
    const double ranked = explained_by(ls, 1, (const int32_t[]){2, 0}, 2, NULL).fit,
                 greedy = explained_by(ls, 1, (const int32_t[]){2, 1}, 2, NULL).fit;
    assert_true(greedy > ranked + 0.1);
    kv_least_squares_free(ls);
    // Of equals the earlier one.
    memcpy(twin->data, best->data, sizeof(float) * (size_t)(TOKENS * best->cols));
    ls = sums_of(&s, 0, TOKENS);
    expect_order(ls, KV_RANKED, 3, (const int32_t[]){0, 2, 1});
    expect_order(ls, KV_GREEDY, 3, (const int32_t[]){0, 1, 2});
    kv_least_squares_free(ls);
    tear_down(&s);
}

// ---- Where there is nothing to rank --------------------------------------------------------------------

static void exact_outputs_and_no_numbers(void **state) {
    (void)state;
    struct setup s = set_up(false);
    kv_explained explained;
    kv_error err = {0};
    int32_t order[SOURCES] = {7, 7, 7};
    kv_least_squares *ls = sums_of(&s, 0, 0);
    assert_int_equal(
        kv_least_squares_explain(ls, KV_KEYS, LAYER, (const int32_t[]){0}, 1, ridge, NULL, &explained, &err),
        KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "no tokens"));
    kv_least_squares_free(ls);
    s.x[0][2]->data[5] = NAN;
    ls = sums_of(&s, 0, TOKENS);
    assert_true(explained_by(ls, KV_KEYS, (const int32_t[]){0, 1}, 2, NULL).fit > 0); // does not read it
    assert_int_equal(kv_rank_sources(ls, KV_KEYS, LAYER, KV_RANKED, ridge, 1, order, &err),
                     KV_ERR_NOT_FINITE);
    assert_non_null(strstr(err.message, "the aux's keys of layer 2 are not finite"));
    kv_least_squares_free(ls);
    s.x[0][2]->data[5] = 0, s.y[0][LAYER]->data[3] = INFINITY;
    ls = sums_of(&s, 0, TOKENS);
    assert_int_equal(
        kv_least_squares_explain(ls, KV_KEYS, LAYER, (const int32_t[]){0}, 1, ridge, NULL, &explained, &err),
        KV_ERR_NOT_FINITE);
    assert_non_null(strstr(err.message, "the base's keys of layer 1 are not finite"));
    kv_least_squares_free(ls);
    tear_down(&s);

    static kv_predictor_spec spec;
    struct setup exact = set_up(false);
    spec = exact.predictor->spec;
    kv_predictor_spec_exact_first(&spec);
    kv_predictor_free(exact.predictor);
    assert_int_equal(kv_predictor_create(&exact.base, &exact.aux, &spec, &exact.predictor, &err), KV_OK);
    assert_int_equal(kv_least_squares_create(exact.predictor, &ls, &err), KV_OK);
    assert_null(kv_least_squares_sources(ls, KV_KEYS, 0));
    for (int i = 0; i < SOURCES; i++) order[i] = 7;
    assert_int_equal(kv_rank_sources(ls, KV_KEYS, 0, KV_GREEDY, ridge, 2, order, &err), KV_OK);
    assert_int_equal(order[0], 7);
    assert_int_equal(
        kv_least_squares_explain(ls, KV_KEYS, 0, (const int32_t[]){0}, 1, ridge, NULL, &explained, &err),
        KV_OK);
    assert_true(explained.fit == 1 && isnan(explained.other));
    kv_least_squares_free(ls);
    tear_down(&exact);
}

// ---- Each layer alone, in small sums -------------------------------------------------------------------

static kv_best *best_of(const struct setup *s) {
    kv_best *best;
    kv_error err = {0};
    const kv_taps taps = test_taps(s->predictor, s->x[0], s->x[1]);
    if (kv_best_create(s->predictor, &best, &err)) fail_msg("%s", err.message);
    kv_gemm_flops_reset();
    if (kv_best_add(best, s->tape, &taps, s->y[0], s->y[1], NULL, &err)) fail_msg("%s", err.message);
    assert_int_equal(kv_gemm_flops(), kv_flops_best(s->predictor, TOKENS));
    return best;
}

// What each layer explains is what the regression on it alone does, and the best are the first of that order.
static void test_best_layers(void **state) {
    (void)state;
    struct setup s = set_up(false);
    kv_least_squares *ls = sums_of(&s, 0, TOKENS);
    kv_best *best = best_of(&s);
    static kv_predictor_spec spec;
    kv_error err = {0};
    double r2[3 * SOURCES];
    spec = s.predictor->spec;
    if (kv_best_choose(best, ridge, 2, &spec, &err)) fail_msg("%s", err.message);
    for (int side = 0; side < KV_SIDES; side++) {
        if (kv_best_explained(best, ridge, (kv_side)side, r2, &err)) fail_msg("%s", err.message);
        for (int32_t j = 0; j < SOURCES; j++) {
            const double expected = explained_by(ls, side, &j, 1, NULL).fit;
            assert_true(fabs(r2[LAYER * SOURCES + j] - expected) < 1e-9);
        }
        int32_t order[2];
        assert_int_equal(kv_rank_sources(ls, (kv_side)side, LAYER, KV_RANKED, ridge, 2, order, &err), KV_OK);
        const kv_sources *chosen = &spec.outputs[side][LAYER].sources;
        assert_int_equal(chosen->n, 2);
        for (int k = 0; k < 2; k++) assert_int_equal(chosen->at[k].layer, order[k]);
    }
    assert_int_equal(kv_best_choose(best, ridge, 4, &spec, &err), KV_ERR_ARGUMENT);
    assert_non_null(
        strstr(err.message, "the best 4 aux layers for the keys of base layer 0, expected at most the 3"));
    kv_best_free(best);
    kv_least_squares_free(ls);
    tear_down(&s);
}

// Outputs wider than the combinations that stand for them: a base layer that is made of one aux layer, with
// some noise, and of no other reads that one.
static void test_best_of_wide_outputs(void **state) {
    (void)state;
    enum { WIDE = 2 * KV_BEST_DIM };
    struct setup s = set_up(false);
    s.base.head_dim = WIDE / 2;
    for (int64_t i = 0; i < 3; i++) s.base.layers[i].n_kv_heads = 2, s.base.layers[i].n_heads = 2;
    static kv_predictor_spec spec;
    kv_error err = {0};
    spec = s.predictor->spec;
    kv_predictor_free(s.predictor);
    if (kv_predictor_plan(&s.base, &s.aux, &spec, &s.predictor, &err)) fail_msg("%s", err.message);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < 3; i++) {
            const kv_tensor *x = s.x[side][(i + side) % 3];
            kv_tensor *y = s.y[side][i] = random_tensor(s.tape, WIDE, 200 + (uint64_t)(10 * side + i));
            for (int64_t t = 0; t < TOKENS; t++)
                for (int64_t c = 0; c < WIDE; c++)
                    for (int64_t k = 0; k < x->cols; k++)
                        y->data[t * WIDE + c] +=
                            x->data[t * x->cols + k] * (float)test_value(300, c * x->cols + k);
        }
    kv_best *best = best_of(&s);
    if (kv_best_choose(best, ridge, 1, &spec, &err)) fail_msg("%s", err.message);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < 3; i++)
            assert_int_equal(spec.outputs[side][i].sources.at[0].layer, (i + side) % 3);
    kv_best_free(best);
    tear_down(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_best_layers),
        cmocka_unit_test(test_best_of_wide_outputs),
        cmocka_unit_test(parts_are_regressions_of_their_own),
        cmocka_unit_test(the_best_are_not_the_best_together),
        cmocka_unit_test(exact_outputs_and_no_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
