// What pruned prefills cost: counted and executed, and the reductions the papers print.
#include "core/flops.h"
#include "core/gemm.h"
#include "infer/cost.h"
#include "infer/session/engine.h"

#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 61, CONTEXT = 320 };

static int setup(void **state) {
    tiny_pair *pair = test_alloc(1, sizeof *pair);
    *pair = tiny_deep_pair_make(7, CONTEXT);
    *state = pair;
    return 0;
}

static int teardown(void **state) {
    tiny_pair_free(*state);
    free(*state);
    return 0;
}

// ---- Exact ---------------------------------------------------------------------------------------------

static uint64_t executed(const kv_system *system, int64_t n) {
    int32_t ids[CONTEXT];
    float logits[VOCABULARY];
    kv_session *session;
    kv_error err = {0};
    tiny_ids(ids, n, system->base->spec.vocab_size, 5);
    if (kv_session_create(system, 1, n, &session, &err) != KV_OK) fail_msg("%s", err.message);
    kv_gemm_flops_reset();
    if (kv_session_prefill(session, ids, &n, logits, &err) != KV_OK) fail_msg("%s", err.message);
    kv_session_free(session);
    return kv_gemm_flops();
}

static void test_prefill_equals_counter(void **state) {
    tiny_pair *m = *state;
    static const kv_pruning policies[] = {
        {.kind = KV_PRUNE_NONE},
        {.kind = KV_PRUNE_RANDOM, .keep = 0.25},
        {.kind = KV_PRUNE_RANDOM, .keep = 1},
        {.kind = KV_PRUNE_STATIC, .keep = 0.5},
        {.kind = KV_PRUNE_STATIC, .keep = 0.01},
        {.kind = KV_PRUNE_STATIC, .keep = 1},
        {.kind = KV_PRUNE_LAZY, .start = 0.75, .end = 0.05},
        {.kind = KV_PRUNE_LAZY, .start = 0.5, .end = 0.5},
        {.kind = KV_PRUNE_LAZY, .start = 1, .end = 1},
        {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.3},
        {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.5, .lookahead = 1, .window = 1, .chunk = 3},
        {.kind = KV_PRUNE_SPECULATIVE, .keep = 1},
    };
    static const int64_t lengths[] = {1, 2, 3, 4, 7, 31, 32, 59, 64, 130, 300};
    for (size_t p = 0; p < sizeof policies / sizeof *policies; p++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            const bool drafts = policies[p].kind == KV_PRUNE_SPECULATIVE;
            const kv_system system = {.base = m->base, .aux = drafts ? m->aux : NULL, .pruning = policies[p]};
            const uint64_t counted = kv_system_flops(&system, lengths[i]);
            const uint64_t real = executed(&system, lengths[i]);
            if (counted != real)
                fail_msg("policy %d, %d tokens: counted %llu, executed %llu", (int)p, (int)lengths[i],
                         (unsigned long long)counted, (unsigned long long)real);
        }
}

// One layer a model, width 4, one head of 2, FFN 3, vocabulary 5; four tokens of which two are kept. Read to
// the end: K and V 2·(2·2·2·4) = 64, Q of the last 16, attention 2·(2·2·2) = 16, output 16, FFN 72, head 40.
static void test_by_hand(void **state) {
    (void)state;
    kv_model_spec spec = {.vocab_size = 5,
                          .model_dim = 4,
                          .head_dim = 2,
                          .n_layers = 1,
                          .context_length = 9,
                          .tied_head = true,
                          .norm_eps = 1e-6f,
                          .rope = {.theta = 10000}};
    spec.layers[0] = (kv_layer_spec){.n_heads = 1, .n_kv_heads = 1, .ffn_dim = 3};
    kv_model *model = tiny_model(&spec, 1);
    const uint64_t kept = 64 + 16 + 16 + 16 + 72 + 40;
    kv_system system = {.base = model, .pruning = {.kind = KV_PRUNE_RANDOM, .keep = 0.5}};
    assert_int_equal(kv_system_flops(&system, 4), kept);
    // Scores: Q and K of four tokens 2·(2·4·2·4) = 128, their products, the four in one block, 2·4·4·2 = 64.
    system.pruning.kind = KV_PRUNE_STATIC;
    assert_int_equal(kv_system_flops(&system, 4), 128 + 64 + kept);
    // The model as its own aux: a prompt of four K and V 128, Q 16, attention 32, output 16, FFN 72, head 40.
    // First look-ahead token: K and V 32, Q 16, scores twice and sums over five keys 3·20 = 60, 16, 72, 40;
    // second: Q and K 32, scores over six keys 24.
    system.aux = model, system.pruning.kind = KV_PRUNE_SPECULATIVE, system.pruning.lookahead = 2;
    assert_int_equal(kv_system_flops(&system, 4),
                     128 + 16 + 32 + 16 + 72 + 40 + 32 + 16 + 60 + 16 + 72 + 40 + 32 + 24 + kept);
    kv_model_free(model);
    // Two such layers, lazily, two of four tokens in the second: the first for all K and V 128, Q 64,
    // attention 2·64, output 64, FFN 4·72, ranking 16; then as above.
    spec.n_layers = 2, spec.layers[1] = spec.layers[0];
    model = tiny_model(&spec, 1);
    system = (kv_system){.base = model, .pruning = {.kind = KV_PRUNE_LAZY, .start = 0.5, .end = 0.5}};
    assert_int_equal(kv_system_flops(&system, 4), 128 + 64 + 128 + 64 + 288 + 16 + kept);
    assert_int_equal(executed(&system, 4), kv_system_flops(&system, 4));
    kv_model_free(model);
}

// ---- The papers' reductions ----------------------------------------------------------------------------

static const struct lazy_row {
    double start, end;
    const char *reduction;
} lazy_rows[] = {{0.75, 0.75, "1.21"}, {0.75, 0.50, "1.38"}, {0.75, 0.25, "1.60"}, {0.75, 0.10, "1.77"},
                 {0.75, 0.05, "1.83"}, {0.75, 0.01, "1.89"}, {0.50, 0.50, "1.54"}, {0.50, 0.25, "1.82"},
                 {0.50, 0.10, "2.04"}, {0.50, 0.05, "2.13"}, {0.50, 0.01, "2.20"}};
enum { N_LAZY_ROWS = sizeof lazy_rows / sizeof *lazy_rows };

static void expect_printed(const kv_pruning *pruning, const kv_model_spec *base, const kv_model_spec *aux,
                           const char *expected) {
    char printed[32];
    snprintf(printed, sizeof printed, "%.2f", kv_pruning_paper_reduction(pruning, base, aux));
    assert_string_equal(printed, expected);
}

static void test_paper_reductions(void **state) {
    (void)state;
    for (int i = 0; i < N_LAZY_ROWS; i++) {
        const kv_pruning lazy = {.kind = KV_PRUNE_LAZY, .start = lazy_rows[i].start, .end = lazy_rows[i].end};
        expect_printed(&lazy, NULL, NULL, lazy_rows[i].reduction);
    }
    expect_printed(&(kv_pruning){.kind = KV_PRUNE_RANDOM, .keep = 0.75}, NULL, NULL, "1.33");
    expect_printed(&(kv_pruning){.kind = KV_PRUNE_RANDOM, .keep = 0.25}, NULL, NULL, "4.00");
    expect_printed(&(kv_pruning){.kind = KV_PRUNE_STATIC, .keep = 0.5}, NULL, NULL, "1.33");
    expect_printed(&(kv_pruning){.kind = KV_PRUNE_STATIC, .keep = 0.25}, NULL, NULL, "2.00");
    expect_printed(&(kv_pruning){0}, NULL, NULL, "1.00");
    // 1.1B over 270M is 3.98: 1 / ((1 + 8/59) / 3.98 + 0.3) = 1.709; with one token ahead 1 / (0.2555 + 0.3).
    kv_model_spec *specs = test_alloc(2, sizeof *specs);
    assert_true(kv_published_spec("openelm-1.1b", &specs[0]));
    assert_true(kv_published_spec("openelm-270m", &specs[1]));
    kv_pruning ahead = {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.3};
    expect_printed(&ahead, &specs[0], &specs[1], "1.71");
    ahead.lookahead = 1;
    expect_printed(&ahead, &specs[0], &specs[1], "1.80");
    free(specs);
}

// Quotients of whole numbers of operations.
static void expect_equal(double x, double y) {
    expect_double("reduction", x, y, 12, y);
}

static void test_system_reductions(void **state) {
    tiny_pair *m = *state;
    const kv_system base = {.base = m->base};
    const double smaller = kv_paper_reduction(&m->base->spec, &m->aux->spec);
    kv_predictor *predictor = tiny_predictor(&m->base->spec, &m->aux->spec, 3);
    const kv_system predicted = {.base = m->base, .aux = m->aux, .predictor = predictor},
                    alone = {.base = m->aux};
    expect_equal(kv_system_paper_reduction(&base, &base), 1);
    expect_equal(kv_system_paper_reduction(&alone, &base), smaller);
    expect_equal(kv_system_paper_reduction(&predicted, &base), smaller);
    kv_system pruned = {.base = m->base, .pruning = {.kind = KV_PRUNE_RANDOM, .keep = 0.5}};
    expect_equal(kv_system_paper_reduction(&pruned, &base), 2);
    pruned.base = m->aux; // a smaller model that prunes
    expect_equal(kv_system_paper_reduction(&pruned, &base), 2 * smaller);
    pruned =
        (kv_system){.base = m->base, .aux = m->aux, .pruning = {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.5}};
    expect_equal(kv_system_paper_reduction(&pruned, &base), 1 / ((1 + 8.0 / 59) / smaller + 0.5));
    kv_predictor_free(predictor);
}

// A uniform model so deep and wide that attention, the head, and what the last layer leaves out hardly count;
// its weights do not exist.
static kv_model *make_uniform(int64_t n_layers, int64_t model_dim) {
    kv_model_spec *spec = test_alloc(1, sizeof *spec);
    *spec = (kv_model_spec){.vocab_size = 2,
                            .model_dim = model_dim,
                            .head_dim = 128,
                            .n_layers = n_layers,
                            .context_length = 1100,
                            .tied_head = true,
                            .norm_eps = 1e-6f,
                            .rope = {.theta = 10000}};
    for (int64_t i = 0; i < n_layers; i++)
        spec->layers[i] = (kv_layer_spec){
            .n_heads = model_dim / 128, .n_kv_heads = model_dim / 128, .ffn_dim = 4 * model_dim};
    kv_model *model;
    kv_error err = {0};
    if (kv_model_create(spec, KV_F32, false, &model, &err) != KV_OK) fail_msg("%s", err.message);
    free(spec);
    return model;
}

static void expect_exact_reduction(kv_model *base, kv_model *aux, kv_pruning pruning, int64_t n) {
    const kv_system whole = {.base = base}, pruned = {.base = base, .aux = aux, .pruning = pruning};
    const double exact = (double)kv_system_flops(&whole, n) / (double)kv_system_flops(&pruned, n);
    const double paper = kv_pruning_paper_reduction(&pruning, &base->spec, aux ? &aux->spec : NULL);
    if (fabs(exact - paper) > 0.0125)
        fail_msg("kind %d: %.4f exactly, %.4f in the paper", (int)pruning.kind, exact, paper);
}

static void test_uniform_model_gives_the_paper_reductions(void **state) {
    (void)state;
    kv_model *base = make_uniform(240, 65536), *aux = make_uniform(120, 32768);
    for (int i = 0; i < N_LAZY_ROWS; i++)
        expect_exact_reduction(
            base, NULL,
            (kv_pruning){.kind = KV_PRUNE_LAZY, .start = lazy_rows[i].start, .end = lazy_rows[i].end}, 1000);
    for (int i = 1; i < 4; i++) {
        expect_exact_reduction(base, NULL, (kv_pruning){.kind = KV_PRUNE_RANDOM, .keep = 0.25 * i}, 1000);
        expect_exact_reduction(base, NULL, (kv_pruning){.kind = KV_PRUNE_STATIC, .keep = 0.25 * i}, 1000);
    }
    // At the prompt length by which the look-ahead's share is charged; whole tokens, so that nothing is
    // rounded.
    for (int kept = 6; kept < 59; kept += 12)
        expect_exact_reduction(base, aux, (kv_pruning){.kind = KV_PRUNE_SPECULATIVE, .keep = kept / 59.0},
                               59);
    kv_model_free(base);
    kv_model_free(aux);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefill_equals_counter),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_paper_reductions),
        cmocka_unit_test(test_system_reductions),
        cmocka_unit_test(test_uniform_model_gives_the_paper_reductions),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
