// Windows scored behind several prefixes of one base, in any order, against what each system makes of them by itself:
// whole texts and tails behind a prompt; products against the counter; what cannot be scored so.
#include "infer/score/score.h"

#include "core/gemm.h"
#include "infer/cost.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 61, WINDOW = 20, TAIL = 6, N = 60, LAYERS = 5 }; // more windows than a pack has

// Prefixes of a base of five layers; `first`: maps read what enters layer 0 and the embedding, too.
static const struct kind {
    test_part part;
    bool first;
} kinds[] = {
    {{.name = "one layer", .prefix = 1}, false},
    {{.name = "two, and a table", .prefix = 2, .table = KV_TABLE_FULL}, false},
    {{.name = "two, and the embedding", .prefix = 2, .table = 3}, true},
    {{.name = "three, with queries", .prefix = 3, .adapt = KV_ADAPT_QUERIES}, false},
    {{.name = "all but one, with queries of low rank", .prefix = 4, .adapt = KV_ADAPT_LORA}, false},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

struct world {
    kv_model *base;
    kv_predictor *predictors[N_KINDS];
    int32_t ids[N * WINDOW];
};

static kv_predictor *make_predictor(const kv_model *base, const struct kind *kind) {
    kv_predictor_spec *spec = test_alloc(1, sizeof *spec);
    kv_predictor *p;
    kv_error err = {0};
    kv_predictor_spec_prefix(&base->spec, kind->part.prefix, spec);
    for (int side = 0; kind->first && side < KV_SIDES; side++)
        for (int64_t i = kind->part.prefix; i < base->spec.n_layers; i++) {
            kv_sources_add(&spec->outputs[side][i].sources, KV_SOURCE_HIDDEN, 0);
            kv_sources_add(&spec->outputs[side][i].sources, KV_SOURCE_EMBEDDING, 0);
        }
    kv_predictor_spec_set_table(spec, kind->part.table);
    spec->adapt = kind->part.adapt, spec->adapt_rank = spec->adapt == KV_ADAPT_LORA ? 3 : 0;
    if (kv_predictor_create(&base->spec, &base->spec, spec, &p, &err) || kv_predictor_init(p, base, 3, &err))
        fail_msg("%s: %s", kind->part.name, err.message);
    free(spec);
    // What starts at zero shows, too.
    const int64_t n = kv_predictor_params(p, NULL);
    kv_param **params = test_alloc(n, sizeof *params);
    kv_predictor_params(p, params);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < kv_param_size(params[i]); k++)
            ((float *)params[i]->data)[k] += (float)(0.1 * test_value(50 + (uint64_t)i, k));
    free(params);
    return p;
}

static int set_up(void **state) {
    struct world *w = test_alloc(1, sizeof *w);
    const kv_model_spec spec = tiny_deep_base(LAYERS);
    w->base = tiny_model(&spec, 1);
    for (int i = 0; i < N_KINDS; i++) w->predictors[i] = make_predictor(w->base, &kinds[i]);
    tiny_ids(w->ids, N * WINDOW, VOCABULARY, 4);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    struct world *w = *state;
    for (int i = 0; i < N_KINDS; i++) kv_predictor_free(w->predictors[i]);
    kv_model_free(w->base);
    free(w);
    return 0;
}

static kv_system system_of(const struct world *w, int kind) {
    return (kv_system){.base = w->base, .aux = w->base, .predictor = w->predictors[kind]};
}

static kv_prefix_states *make_states(const struct world *w) {
    kv_prefix_states *states;
    kv_error err = {0};
    if (kv_prefix_states_create(w->base, N, WINDOW, &states, &err)) fail_msg("%s", err.message);
    return states;
}

// ---- Scores --------------------------------------------------------------------------------------------

struct scores {
    double whole[N], tail[N];
};

static void score(const kv_system *system, kv_prefix_states *states, const struct world *w, int64_t first,
                  int64_t n, struct scores *s) {
    kv_error err = {0};
    if (kv_score_prefix(system, states, first, w->ids + first * WINDOW, n, TAIL, s->whole + first,
                        s->tail + first, &err))
        fail_msg("%s", err.message);
}

struct alone {
    kv_system system;
    const int32_t *ids;
};

// Whole and tail of a window as a system makes them that knows nothing of states: the two results of a spread.
static void score_alone(const void *context, double *results) {
    const struct alone *a = context;
    const int64_t n = WINDOW, whole = WINDOW - 1, tail = TAIL;
    kv_error err = {0};
    if (kv_score(&a->system, a->ids, &n, &whole, 1, &results[0], NULL, &err) ||
        kv_score_behind_prompt(&a->system, a->ids, &n, &tail, 1, &results[1], NULL, &err))
        fail_msg("%s", err.message);
}

static rounding_spread spread_of(const struct world *w, int kind, int64_t window) {
    struct alone a = {system_of(w, kind), w->ids + window * WINDOW};
    kv_param *params[1000];
    rounding_operands operands = {0};
    int64_t n = kv_model_params(w->base, params);
    n += kv_predictor_params(w->predictors[kind], params + n);
    assert_true(n <= 1000);
    rounding_add_params(&operands, params, n);
    rounding_spread s = rounding_measure(&operands, VOCABULARY, score_alone, &a, 2);
    rounding_operands_free(&operands);
    return s;
}

// Two float32 computations of the same.
static void expect_scores(const struct world *w, int kind, const struct scores *found, int64_t window) {
    rounding_spread s = spread_of(w, kind, window);
    rounding_expect(kinds[kind].part.name, found->whole[window], s.expected[0], 2 * s.allowed[0]);
    rounding_expect(kinds[kind].part.name, found->tail[window], s.expected[1], 2 * s.allowed[1]);
    assert_true(fabs(s.expected[0] - s.expected[1]) > 100 * (s.allowed[0] + s.allowed[1]));
    rounding_spread_free(&s);
}

// Deeper and deeper, back again, and a part of the windows first.
static void test_each_is_what_it_is_alone(void **state) {
    const struct world *w = *state;
    static const int order[] = {0, 1, 2, 3, 4, 1, 0, 3};
    kv_prefix_states *states = make_states(w);
    struct scores *s = test_alloc(1, sizeof *s);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const kv_system system = system_of(w, order[i]);
        assert_true(kv_prefix_scorable(&system));
        score(&system, states, w, 7, 3, s);
        expect_scores(w, order[i], s, 8);
        score(&system, states, w, 0, N, s);
        for (int64_t window = 0; window < N; window += 29) expect_scores(w, order[i], s, window);
    }
    kv_prefix_states_free(states);
    free(s);
}

static void test_products_are_announced(void **state) {
    const struct world *w = *state;
    static const struct {
        int kind;
        int64_t from;
    } steps[] = {{0, 0}, {2, 1}, {3, 2}, {3, 3}, {1, 0}, {4, 2}};
    kv_prefix_states *states = make_states(w);
    struct scores *s = test_alloc(1, sizeof *s);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const kv_system system = system_of(w, steps[i].kind);
        kv_gemm_flops_reset();
        score(&system, states, w, 0, N, s);
        assert_int_equal(kv_gemm_flops(), N * kv_system_prefix_flops(&system, steps[i].from, WINDOW, TAIL));
    }
    kv_prefix_states_restart(states);
    const kv_system system = system_of(w, 4);
    kv_gemm_flops_reset();
    score(&system, states, w, 0, N, s);
    assert_int_equal(kv_gemm_flops(), N * kv_system_prefix_flops(&system, 0, WINDOW, TAIL));
    kv_prefix_states_free(states);
    free(s);
}

// ---- What cannot be ------------------------------------------------------------------------------------

// Maps that read what lies below the prefix, another model's layers, or a prompt that is pruned.
static void test_others_are_scored_alone(void **state) {
    const struct world *w = *state;
    const test_made paper = test_part_make(&test_parts[0]);
    kv_system system = {.base = paper.base, .aux = paper.aux, .predictor = paper.predictor};
    assert_false(kv_prefix_scorable(&system));
    system = (kv_system){.base = w->base};
    assert_false(kv_prefix_scorable(&system));
    kv_predictor_spec *spec = test_alloc(1, sizeof *spec);
    static const kv_source_kind below[] = {KV_SOURCE_KEYS, KV_SOURCE_VALUES, KV_SOURCE_HIDDEN};
    for (int i = 0; i < 3; i++) {
        kv_predictor *p;
        kv_error err = {0};
        kv_predictor_spec_prefix(&w->base->spec, 2, spec);
        kv_sources_add(&spec->outputs[KV_VALUES][LAYERS - 1].sources, below[i], 1);
        assert_int_equal(kv_predictor_create(&w->base->spec, &w->base->spec, spec, &p, &err), KV_OK);
        system = (kv_system){.base = w->base, .aux = w->base, .predictor = p};
        assert_false(kv_prefix_scorable(&system));
        kv_predictor_free(p);
    }
    free(spec);
    test_made made = paper;
    test_made_free(&made);
}

static void test_refuses(void **state) {
    struct world *w = *state;
    kv_prefix_states *states = make_states(w);
    struct scores *s = test_alloc(1, sizeof *s);
    kv_error err = {0};
    const kv_system system = system_of(w, 0), alone = {.base = w->base};
    assert_int_equal(kv_score_prefix(&alone, states, 0, w->ids, 1, TAIL, s->whole, s->tail, &err),
                     KV_ERR_ARGUMENT);
    assert_int_equal(kv_score_prefix(&system, states, 0, w->ids, N + 1, TAIL, s->whole, s->tail, &err),
                     KV_ERR_ARGUMENT);
    assert_int_equal(kv_score_prefix(&system, states, 0, w->ids, 1, WINDOW - 1, s->whole, s->tail, &err),
                     KV_ERR_ARGUMENT);
    const int32_t kept = w->ids[WINDOW + 3];
    w->ids[WINDOW + 3] = VOCABULARY;
    assert_int_equal(kv_score_prefix(&system, states, 0, w->ids, 2, TAIL, s->whole, s->tail, &err),
                     KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "sequence 1, token 3: id 61"));
    w->ids[WINDOW + 3] = kept;
    // Weights that are no numbers.
    float *norm = w->base->norm.data, was = norm[0];
    norm[0] = NAN;
    assert_int_equal(kv_score_prefix(&system, states, 0, w->ids, 2, TAIL, s->whole, s->tail, &err),
                     KV_ERR_NOT_FINITE);
    assert_true(isnan(s->whole[0]));
    assert_non_null(strstr(err.message, "token 1: the logits are not finite"));
    norm[0] = was;
    kv_prefix_states_free(states);
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_what_it_is_alone),
        cmocka_unit_test(test_products_are_announced),
        cmocka_unit_test(test_others_are_scored_alone),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
