// How many layers of an aux it takes: curves against regressions made one by one, and how they are shown.
#include "core/predictor/least_squares.h"
#include "eval/sources/explain.h"
#include "tests/support/corpus.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/shown.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 16, WINDOWS = 30, HELD_OUT = 7, LAYERS = 3, AUX_LAYERS = 2 };
static const double ridge = 0.02, plenty = 1e12;

static int32_t ids[WINDOWS * WINDOW];

static kv_explain_args args_of(const tiny_pair *pair, bool greedy, double memory) {
    tiny_ids(ids, WINDOWS * WINDOW, 61, 4);
    return (kv_explain_args){.base = pair->base,
                             .aux = pair->aux,
                             .ids = ids,
                             .n_windows = WINDOWS,
                             .window = WINDOW,
                             .n_held_out = HELD_OUT,
                             .greedy = greedy,
                             .memory = memory};
}

static kv_source_curves empty_curves(int64_t n_sources) {
    kv_source_curves c = {.n_layers = LAYERS,
                          .n_sources = n_sources,
                          .n_counts = 2,
                          .counts = {1, n_sources},
                          .read = {true, true},
                          .ridge = ridge,
                          .text = "text.h5",
                          .order = "ranked",
                          .tokens = (WINDOWS - HELD_OUT) * WINDOW,
                          .held_out = HELD_OUT * WINDOW};
    assert_true(kv_source_curves_make(&c));
    return c;
}

static kv_source_curves explain(const tiny_pair *pair, bool greedy, double memory) {
    const kv_explain_args args = args_of(pair, greedy, memory);
    kv_source_curves c = empty_curves(pair->aux->spec.n_layers);
    kv_error err = {0};
    if (kv_explain(&args, &c, &err)) fail_msg("%s", err.message);
    return c;
}

// ---- One by one ----------------------------------------------------------------------------------------

// What a predictor of the paper's kind that reads these layers, for both sides what the set says, explains of windows [first, end).
static void regress(const tiny_pair *pair, int set, const int32_t *read, int64_t n, double fit[2][LAYERS],
                    double held_out[2][LAYERS]) {
    static const int32_t zero[LAYERS] = {0};
    static kv_predictor_spec spec;
    kv_predictor *predictor;
    kv_least_squares *sums[2];
    kv_error err = {0};
    kv_predictor_spec_paper(&pair->base->spec, &pair->aux->spec, zero, &spec);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < LAYERS; i++) {
            spec.outputs[side][i].sources.n = 0;
            for (int64_t k = 0; k < n; k++)
                kv_sources_add(&spec.outputs[side][i].sources,
                               set    ? KV_SOURCE_HIDDEN
                               : side ? KV_SOURCE_VALUES
                                      : KV_SOURCE_KEYS,
                               read[k]);
        }
    if (kv_predictor_create(&pair->base->spec, &pair->aux->spec, &spec, &predictor, &err))
        fail_msg("%s", err.message);
    kv_tape *tape = kv_tape_create();
    kv_tape_set_recording(tape, false);
    for (int held = 0; held < 2; held++) {
        const int64_t first = held ? WINDOWS - HELD_OUT : 0, n_windows = held ? HELD_OUT : WINDOWS - HELD_OUT;
        assert_int_equal(kv_least_squares_create(predictor, &sums[held], &err), KV_OK);
        kv_sequence sequences[WINDOWS]; // as many at once as there, so that the models' own sums are the same
        for (int64_t w = 0; w < n_windows; w++)
            sequences[w] = (kv_sequence){w * WINDOW, WINDOW, w * WINDOW, WINDOW};
        kv_tensor *k[LAYERS], *v[LAYERS];
        kv_taps taps;
        const int32_t *own = ids + first * WINDOW;
        kv_tape_reset(tape);
        kv_pass pass = {.sequences = sequences, .n_sequences = n_windows};
        kv_predictor_read(tape, predictor, pair->base, pair->aux, own, n_windows * WINDOW, &pass, false,
                          &taps);
        pass.raw_k = k, pass.v = v;
        kv_model_forward(tape, pair->base, own, n_windows * WINDOW, &pass);
        if (kv_least_squares_add(sums[held], tape, &taps, k, v, NULL, &err)) fail_msg("%s", err.message);
    }
    static const int32_t use[] = {0, 1};
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < LAYERS; i++) {
            kv_explained explained;
            if (kv_least_squares_explain(sums[0], (kv_side)side, i, use, n, ridge, sums[1], &explained, &err))
                fail_msg("%s", err.message);
            fit[side][i] = explained.fit, held_out[side][i] = explained.other;
        }
    kv_least_squares_free(sums[0]), kv_least_squares_free(sums[1]);
    kv_tape_free(tape);
    kv_predictor_free(predictor);
}

// Sums in double precision.
static void near(const char *what, double found, double expected) {
    expect_double(what, found, expected, 1e5, 1);
}

static void curves_are_regressions(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    for (int greedy = 0; greedy < 2; greedy++) {
        kv_source_curves c = explain(&pair, greedy, plenty);
        for (int set = 0; set < KV_SOURCE_SETS; set++) {
            double fit[3][2][LAYERS], held_out[3][2][LAYERS];
            for (int32_t j = 0; j < AUX_LAYERS; j++) regress(&pair, set, &j, 1, fit[j], held_out[j]);
            regress(&pair, set, (const int32_t[]){0, 1}, 2, fit[2], held_out[2]);
            for (int side = 0; side < 2; side++)
                for (int64_t i = 0; i < LAYERS; i++) {
                    const kv_source_curve *curve = &c.side[set][side];
                    const int32_t best = fit[1][side][i] > fit[0][side][i],
                                  *order = curve->order + i * AUX_LAYERS;
                    assert_true(order[0] == best && order[1] == 1 - best);
                    near("fit of one", curve->fit[2 * i], fit[best][side][i]);
                    near("held out of one", curve->held_out[2 * i], held_out[best][side][i]);
                    near("fit of both", curve->fit[2 * i + 1], fit[2][side][i]);
                    near("held out of both", curve->held_out[2 * i + 1], held_out[2][side][i]);
                }
        }
        kv_source_curves_free(&c);
    }
    tiny_pair_free(&pair);
}

// With little memory the base's layers are looked at one after the other; with less, nothing is.
static void memory_is_bounded(void **state) {
    (void)state;
    tiny_pair pair = tiny_pair_make();
    kv_model_free(pair.aux);
    pair.aux = pair.base; // every layer of which is explained best by itself
    kv_source_curves all = explain(&pair, false, plenty);
    double fails = 1e3, least = 1e8;
    kv_error err = {0};
    while (least > 1.0005 * fails) { // just so much as one layer takes
        const double middle = sqrt(fails * least);
        kv_source_curves c = empty_curves(LAYERS);
        const kv_explain_args args = args_of(&pair, false, middle);
        const kv_status status = kv_explain(&args, &c, &err);
        kv_source_curves_free(&c);
        if (status == KV_OK) {
            least = middle;
            continue;
        }
        fails = middle;
        assert_int_equal(status, KV_ERR_MEMORY);
        assert_non_null(strstr(err.message, "even for one layer of the base; found "));
    }
    kv_source_curves few = explain(&pair, false, least);
    for (int set = 0; set < KV_SOURCE_SETS; set++)
        for (int side = 0; side < 2; side++) {
            const kv_source_curve *a = &all.side[set][side], *b = &few.side[set][side];
            assert_memory_equal(a->order, b->order, sizeof(int32_t) * LAYERS * LAYERS);
            for (int i = 0; i < 2 * LAYERS; i++) {
                near("fit", b->fit[i], a->fit[i]);
                near("held out", b->held_out[i], a->held_out[i]);
            }
        }
    // Of fewer layers than there are, those are looked for first, one by one, and only theirs are summed.
    kv_source_curves one = empty_curves(LAYERS);
    const kv_explain_args args = args_of(&pair, false, 0.95 * fails),
                          greedy = args_of(&pair, true, 0.95 * fails);
    one.n_counts = 1;
    assert_int_equal(kv_explain(&greedy, &one, &err), KV_ERR_MEMORY);
    if (kv_explain(&args, &one, &err)) fail_msg("%s", err.message);
    for (int set = 0; set < KV_SOURCE_SETS; set++)
        for (int side = 0; side < 2; side++)
            for (int i = 0; i < LAYERS; i++) {
                const kv_source_curve *a = &all.side[set][side], *b = &one.side[set][side];
                assert_true(a->order[i * LAYERS] == i && b->order[i * LAYERS] == i);
                near("fit of the best", b->fit[i], a->fit[2 * i]);
                near("held out of the best", b->held_out[i], a->held_out[2 * i]);
            }
    kv_source_curves_free(&all), kv_source_curves_free(&few), kv_source_curves_free(&one);
    pair.aux = NULL;
    tiny_pair_free(&pair);
}

// ---- Shown ---------------------------------------------------------------------------------------------

static kv_source_curves made_up(void) {
    kv_source_curves c = empty_curves(AUX_LAYERS);
    c.read[KV_SET_HIDDEN] = false;
    for (int side = 0; side < 2; side++)
        for (int64_t i = 0; i < LAYERS; i++) {
            kv_source_curve *curve = &c.side[KV_SET_KV][side];
            curve->order[2 * i] = 1, curve->order[2 * i + 1] = 0;
            for (int k = 0; k < 2; k++) {
                curve->held_out[2 * i + k] = 0.25 + 0.125 * (double)i - 0.5 * side + 0.25 * k;
                curve->fit[2 * i + k] = 0.75;
            }
        }
    return c;
}

static void expect(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("no '%s' in\n%s", part, text);
}

static void table_csv_and_picture(void **state) {
    (void)state;
    kv_source_curves c = made_up();
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    kv_tables *tables = kv_tables_create();
    kv_source_curves_tables(&c, tables);
    char *text = test_shown(tables);
    expect(
        text,
        "mean over the 3 layers of the base; 368 tokens of text.h5, and 112 held out; layers ranked, ridge 0.02");
    expect(text, "         1    37.5 %  25.0 to 50.0  75.0 %   -12.5 %  -25.0 to 0.0  75.0 %");
    assert_null(strstr(text, "inputs"));
    free(text);
    if (kv_source_curves_write(&c, test_dir, note, &err)) fail_msg("%s", err.message);
    text = test_read_text(test_path(test_dir, "sources.csv"));
    expect(
        text,
        "read,kind,layer,aux_layers,held_out,fit,order\nkv,keys,0,1,0.25,0.75,1\nkv,keys,0,2,0.5,0.75,1 0\n"
        "kv,keys,1,1,0.375,0.75,1\n");
    expect(text, "\nkv,values,2,2,0.25,0.75,1 0\n");
    free(text);
    text = test_read_text(test_path(test_dir, "sources.dat"));
    expect(text,
           "# panel: keys, held-out text\n# x y low high\n# curve: from keys or values\n1 0.375 0.25 0.5 \n"
           "2 0.625 0.5 0.75 \n");
    expect(
        text,
        "# panel: values, held-out text\n# x y low high\n# curve: from keys or values\n1 -0.125 -0.25 0 \n");
    free(text);
    text = test_read_text(test_path(test_dir, "sources.gp"));
    expect(text, "set logscale x\n");
    expect(text, "set xtics (1, 2)");
    free(text);
    kv_source_curves_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curves_are_regressions),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(table_csv_and_picture),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
