// predictor.least_squares_passes: a fit in several passes over the text, each for a share of the base's layers, leaves
// what one pass leaves, bit by bit; its products and its memory are those that are said beforehand. How ranks share a pass.
#include "core/gemm.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/train.h"
#include "train/run/training.h"
#include "train/task/least_squares_start.h"
#include "train/task/shared_work.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int setup(void **state) {
    if (train_setup(state)) return -1;
    put_file("fit.yaml", "extends: kvp.yaml\n"
                         "predictor: {init: least_squares, least_squares_tokens: 320}\n"
                         "train: {steps: 0}\n");
    put_file("best.yaml", "extends: fit.yaml\npredictor: {choose: best, aux_layers: 2, best_tokens: 320}\n");
    put_file("prefix.yaml", "extends: fit.yaml\naux: prefix\nprefix_layers: 1\n");
    return 0;
}

static void expect_said(const char *text) {
    if (!strstr(train_output(), text)) fail_msg("expected \"%s\" in\n%s", text, train_output());
}

// ---- What comes of it ----------------------------------------------------------------------------------

static void same_as_one_pass(void **state) {
    (void)state;
    static const struct {
        const char *file, *passes;
    } cases[] = {{"fit.yaml", "2"}, {"fit.yaml", "3"}, {"best.yaml", "3"}, {"prefix.yaml", "2"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char key[64], title[64];
        snprintf(key, sizeof key, "predictor.least_squares_passes=%s", cases[i].passes);
        train_expect(0, ARGS(cases[i].file, "--force", "-o", "one"));
        assert_null(strstr(train_output(), "pass 1 of"));
        train_expect(0, ARGS(cases[i].file, "--force", "-o", "some", "-s", key));
        snprintf(title, sizeof title, "pass %s of %s", cases[i].passes, cases[i].passes);
        expect_said(title);
        assert_true(same_file("one/final/predictor/predictor.safetensors",
                              "some/final/predictor/predictor.safetensors"));
        assert_true(same_file("one/least_squares.json", "some/least_squares.json"));
    }
}

// Sums of two layers of four: what they explain and the maps of the others stay as they were.
static void others_are_left_alone(void **state) {
    (void)state;
    enum { N = 4, ROWS = 60, DIM = 6 };
    kv_model_spec base = {.vocab_size = 9, .model_dim = 8, .head_dim = 2, .n_layers = N};
    for (int i = 0; i < N; i++) base.layers[i] = (kv_layer_spec){.n_heads = 3, .n_kv_heads = 3, .ffn_dim = 8};
    kv_predictor *p;
    kv_error err = {0};
    if (test_create(&base, &base, (int32_t[]){0, 1, 2, 3}, (test_kind){0, 1}, &p, &err) ||
        kv_predictor_init(p, NULL, 5, &err))
        fail_msg("%s", err.message);
    kv_tape *tape = kv_tape_create();
    kv_tensor *x[N], *y[N];
    double k_r2[N] = {7, 7, 7, 7}, v_r2[N] = {7, 7, 7, 7};
    float before[N];
    for (int i = 0; i < N; i++) {
        x[i] = kv_tape_tensor(tape, ROWS, DIM), y[i] = kv_tape_tensor(tape, ROWS, DIM);
        test_fill(x[i]->data, ROWS * DIM, 10 + (uint64_t)i, 1);
        test_fill(y[i]->data, ROWS * DIM, 20 + (uint64_t)i, 1);
        before[i] = *(float *)test_weight(p, KV_KEYS, i)->data;
    }
    const kv_taps taps = test_taps(p, x, x);
    kv_least_squares *ls;
    if (kv_least_squares_create_part(p, (kv_layer_range){1, 3}, &ls, &err) ||
        kv_least_squares_add(ls, tape, &taps, y, y, NULL, &err) ||
        kv_least_squares_solve(ls, 1e-3, p, k_r2, v_r2, &err))
        fail_msg("%s", err.message);
    for (int i = 0; i < N; i++) {
        const bool fitted = i == 1 || i == 2;
        assert_true((k_r2[i] != 7 && v_r2[i] != 7) == fitted);
        assert_true((*(float *)test_weight(p, KV_KEYS, i)->data != before[i]) == fitted);
    }
    kv_least_squares_free(ls);
    kv_predictor_free(p);
    kv_tape_free(tape);
}

// ---- What it takes -------------------------------------------------------------------------------------

// The base's layers but the prefix's, each once, and in shares that differ by one layer at most.
static void passes_share_the_layers(void **state) {
    (void)state;
    kv_predictor p = {0};
    for (int64_t n = 1; n <= 9; n++)
        for (int64_t prefix = 0; prefix < n; prefix++)
            for (int64_t n_passes = 1; n_passes <= n - prefix; n_passes++) {
                int64_t next = 0;
                p.spec.n_base_layers = n, p.spec.prefix_layers = prefix;
                for (int64_t i = 0; i < n_passes; i++) {
                    const kv_layer_range range = kv_least_squares_layers(&p, n_passes, i);
                    const int64_t share = range.end - (i ? range.first : prefix);
                    assert_int_equal(range.first, next);
                    assert_true(share == (n - prefix) / n_passes || share == (n - prefix) / n_passes + 1);
                    next = range.end;
                }
                assert_int_equal(next, n);
            }
}

static void products_are_said(void **state) {
    (void)state;
    kv_training run;
    kv_error err = {0};
    static const char *const overrides[] = {"predictor.least_squares_passes=2"};
    if (kv_training_open(&run, "fit.yaml", overrides, 1, &err) || run.task->ops->load(run.task, NULL, &err))
        fail_msg("%s", err.message);
    const double said = run.task->ops->start_flops(run.task);
    train_expect(0, ARGS("fit.yaml", "-o", "kvp")); // the start writes into the run's directory
    kv_gemm_flops_reset();
    if (run.task->ops->start(run.task, &err)) fail_msg("%s", err.message);
    assert_true((double)kv_gemm_flops() == said);
    kv_training_close(&run);
}

// In doubles, of four layers of 6 that read one layer of 6 each: for keys and for values (6 + 1)² + (6 + 2) · 6; the
// largest solution is 7 · (7 + 6).
static void memory_is_that_of_a_pass(void **state) {
    (void)state;
    enum { N = 4 };
    kv_model_spec base = {.vocab_size = 9, .model_dim = 8, .head_dim = 2, .n_layers = N};
    for (int i = 0; i < N; i++) base.layers[i] = (kv_layer_spec){.n_heads = 3, .n_kv_heads = 3, .ffn_dim = 8};
    kv_predictor *p = test_plan(&base, &base, (int32_t[]){0, 1, 2, 3}, (test_kind){0, 1});
    const double layer = 8 * 2 * (49 + 48), solving = 8 * 91;
    assert_float_equal(kv_least_squares_sum_bytes(p, 0), 4 * layer + solving, 0);
    for (int64_t i = 0; i < 2; i++)
        assert_float_equal(kv_least_squares_part_bytes(p, kv_least_squares_layers(p, 2, i), 0),
                           2 * layer + solving, 0);
    assert_int_equal(kv_flops_least_squares_part(p, (kv_layer_range){1, 4}, 10), 10 * 3 * 2 * 2 * (49 + 42));
    kv_predictor_free(p);
}

static void refused(void **state) {
    (void)state;
    train_refuse(
        "key `predictor.least_squares_passes`: found 4, expected at most 3: each is for a share of the "
        "base's layers",
        ARGS("fit.yaml", "-s", "predictor.least_squares_passes=4"));
    train_refuse("found 3, expected at most 2: each is for a share of the base's layers behind the prefix",
                 ARGS("prefix.yaml", "-s", "predictor.least_squares_passes=3"));
    train_refuse("key `predictor.least_squares_passes`: found 0, expected",
                 ARGS("fit.yaml", "-s", "predictor.least_squares_passes=0"));
}

// ---- Shares of ranks -----------------------------------------------------------------------------------

// Each piece once, by rank and round in their order; all ranks have as many rounds.
static void pieces_are_shared(void **state) {
    (void)state;
    for (int64_t n = 0; n <= 300; n += n < 20 ? 1 : 35)
        for (int n_ranks = 1; n_ranks <= 9; n_ranks++) {
            int64_t next = 0;
            const int64_t n_rounds = kv_share_rounds(n, n_ranks);
            assert_true(n_rounds <= 64 && n_rounds * n_ranks <= n + n_ranks - 1);
            for (int rank = 0; rank < n_ranks; rank++) {
                const int64_t begin = next;
                for (int64_t round = 0; round < n_rounds; round++) {
                    const kv_pieces own = kv_share_round(n, n_ranks, rank, round);
                    assert_true(own.first == next && own.end >= next);
                    assert_true(own.end - own.first <= n / n_ranks / n_rounds + 1);
                    next = own.end;
                }
                assert_true(next - begin == n / n_ranks || next - begin == n / n_ranks + 1);
            }
            assert_int_equal(next, n);
        }
}

static kv_status note_piece(void *context, int64_t piece, kv_error *err) {
    int64_t *next = context;
    assert_int_equal(piece, (*next)++);
    return piece == 70 ? kv_fail(err, KV_ERR_RANGE, "piece 70") : KV_OK;
}

// Alone: all pieces in their order, until one fails.
static void pieces_are_done(void **state) {
    (void)state;
    int64_t next = 0;
    kv_error err = {0};
    assert_int_equal(kv_share_work(70, note_piece, &next, &err), KV_OK);
    assert_int_equal(next, 70);
    next = 0;
    assert_int_equal(kv_share_work(90, note_piece, &next, &err), KV_ERR_RANGE);
    assert_int_equal(next, 71);
}

// Layer by layer all ranks have work.
static void solvers_differ(void **state) {
    (void)state;
    for (int n_ranks = 1; n_ranks < 9; n_ranks++) {
        int work[9] = {0};
        for (int64_t layer = 0; layer < 12; layer++)
            for (int side = 0; side < KV_SIDES; side++)
                work[kv_least_squares_solver((kv_side)side, layer, n_ranks)]++;
        for (int r = 0; r < n_ranks; r++) assert_true(work[r] == 24 / n_ranks || work[r] == 24 / n_ranks + 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_one_pass),         cmocka_unit_test(others_are_left_alone),
        cmocka_unit_test(passes_share_the_layers),  cmocka_unit_test(products_are_said),
        cmocka_unit_test(memory_is_that_of_a_pass), cmocka_unit_test(refused),
        cmocka_unit_test(pieces_are_shared),        cmocka_unit_test(pieces_are_done),
        cmocka_unit_test(solvers_differ),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
