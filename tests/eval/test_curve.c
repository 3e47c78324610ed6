// kveval curve without its program: depths, what is held out, and predictors against a regression that is worked out here.
#include "eval/curve/fit.h"
#include "eval/curve/options.h"
#include "eval/curve/text.h"

#include "data/checkpoint/checkpoint.h"
#include "eval/benchmark/text_tokens.h"
#include "tests/support/corpus.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static kv_error err;

// ---- Depths --------------------------------------------------------------------------------------------

static void test_depths(void **state) {
    (void)state;
    const struct {
        const char *text;
        int64_t n_layers, n, depths[8];
    } cases[] = {
        {"all", 4, 3, {1, 2, 3}},
        {"some", 4, 3, {1, 2, 3}},
        {"some", 30, 6, {1, 6, 12, 17, 23, 29}},
        {"2,1,2,5", 6, 3, {1, 2, 5}},
        {"all", 2, 1, {1}},
        {"some", 2, 1, {1}},
        {"0", 6, 0, {0}},
        {"6", 6, 0, {0}},
        {"1,", 6, 0, {0}},
        {"1,two", 6, 0, {0}},
        {"", 6, 0, {0}},
        {"-1", 6, 0, {0}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int64_t depths[KV_CURVE_DEPTHS], n;
        const kv_status status = kv_curve_depths(cases[c].text, cases[c].n_layers, depths, &n, &err);
        assert_int_equal(status, cases[c].n ? KV_OK : KV_ERR_ARGUMENT);
        if (status != KV_OK) assert_non_null(strstr(err.message, "from 1 to 5"));
        assert_int_equal(n, cases[c].n);
        for (int64_t i = 0; i < n; i++) assert_int_equal(depths[i], cases[c].depths[i]);
    }
    int64_t depths[KV_CURVE_DEPTHS], n;
    assert_int_equal(kv_curve_depths("all", 1, depths, &n, &err), KV_ERR_ARGUMENT);
}

// ---- Text ----------------------------------------------------------------------------------------------

static bool holds(const int32_t *ids, int64_t n, const int32_t *part, int64_t n_part) {
    for (int64_t i = 0; i + n_part <= n; i++)
        if (!memcmp(ids + i, part, (size_t)n_part * sizeof *part)) return true;
    return false;
}

// Facts differ, so a document that was fitted on would be found.
static void test_whole_documents_are_held_out(void **state) {
    (void)state;
    kv_tokenizer *tokenizer;
    kv_curve_text text;
    if (kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, &err))
        fail_msg("%s", err.message);
    kv_curve_options o = {.text = test_path(test_dir, "train.jsonl"),
                          .tokens = 1200,
                          .window = 40,
                          .prompt = 30,
                          .windows = 12};
    if (kv_curve_text_read(&o, tokenizer, &text, &err)) fail_msg("%s", err.message);
    assert_false(text.cut);
    assert_int_equal(text.n_fit, 1200);
    assert_int_equal(text.n_held_out, 12 * 40);
    const int32_t *ids = text.held_out;
    int64_t total = 0;
    for (int64_t d = 0; d < text.n_documents; ids += text.documents[d], total += text.documents[d], d++)
        if (d + 1 < text.n_documents) assert_false(holds(text.fit, text.n_fit, ids, text.documents[d]));
    assert_int_equal(total, text.n_held_out);
    // The same from its shard, which a curve leaves.
    kv_text_tokens again;
    const char *shard = test_path(test_dir, "held_out.h5");
    if (kv_curve_text_write(&text, &o, tokenizer, test_path(test_dir, "tokenizer.model"), shard, &err) ||
        kv_text_tokens_read(shard, tokenizer, 0, &again, &err))
        fail_msg("%s", err.message);
    assert_int_equal(again.n, text.n_held_out);
    assert_int_equal(again.n_documents, text.n_documents);
    assert_memory_equal(again.ids, text.held_out, (size_t)again.n * sizeof *again.ids);
    kv_text_tokens_free(&again);
    kv_curve_text_free(&text);
    kv_tokenizer_free(tokenizer);
}

// One document: its end is held out. A short one is shared.
static void test_the_end_is_held_out(void **state) {
    (void)state;
    kv_tokenizer *tokenizer;
    kv_curve_text text;
    kv_text_tokens all;
    char line[4096] = "";
    for (int i = 0; i < 180; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "number %d is it, ", i);
    test_write_text(test_path(test_dir, "one.txt"), line);
    if (kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, &err))
        fail_msg("%s", err.message);
    const char *path = test_path(test_dir, "one.txt");
    if (kv_text_tokens_read(path, tokenizer, 0, &all, &err)) fail_msg("%s", err.message);
    kv_curve_options o = {.text = path, .tokens = 100000, .window = 40, .windows = 1000};
    if (kv_curve_text_read(&o, tokenizer, &text, &err)) fail_msg("%s", err.message);
    assert_true(text.cut);
    assert_int_equal(text.n_held_out, all.n / 4 / 40 * 40);
    assert_int_equal(text.n_fit + text.n_held_out, all.n);
    assert_memory_equal(text.fit, all.ids, (size_t)text.n_fit * sizeof *all.ids);
    assert_memory_equal(text.held_out, all.ids + text.n_fit, (size_t)text.n_held_out * sizeof *all.ids);
    kv_curve_text_free(&text);
    o.window = all.n / 2;
    assert_int_equal(kv_curve_text_read(&o, tokenizer, &text, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "one window"));
    kv_curve_text_free(&text);
    kv_text_tokens_free(&all);
    kv_tokenizer_free(tokenizer);
}

// ---- Fitting -------------------------------------------------------------------------------------------

enum { TOKENS = 1500, WINDOW = 32, LAYERS = 3 }; // more than are added at once

// What the base makes of the tokens, window by window.
struct seen {
    kv_tape *tape;
    kv_tensor *k[LAYERS], *v[LAYERS], *h[LAYERS];
};

static struct seen see(kv_model *base, const int32_t *ids) {
    struct seen s = {.tape = kv_tape_create()};
    kv_sequence sequences[TOKENS / WINDOW + 1];
    int64_t n = 0;
    for (int64_t at = 0; at < TOKENS; at += WINDOW) {
        const int64_t length = TOKENS - at < WINDOW ? TOKENS - at : WINDOW;
        sequences[n++] = (kv_sequence){at, length, at, length};
    }
    kv_tape_set_recording(s.tape, false);
    const kv_pass pass = {
        .sequences = sequences, .n_sequences = n, .raw_k = s.k, .v = s.v, .h = s.h, .only_kv = true};
    kv_model_forward(s.tape, base, ids, TOKENS, &pass);
    assert_int_equal(kv_tape_status(s.tape, &err), KV_OK);
    return s;
}

// a[n, n + 1] in place: Gauss-Jordan with pivots.
static void eliminate(double *a, int n) {
    for (int c = 0; c < n; c++) {
        int p = c;
        for (int i = c; i < n; i++)
            if (fabs(a[i * (n + 1) + c]) > fabs(a[p * (n + 1) + c])) p = i;
        for (int j = 0; j <= n; j++) {
            const double t = a[c * (n + 1) + j];
            a[c * (n + 1) + j] = a[p * (n + 1) + j], a[p * (n + 1) + j] = t;
        }
        for (int i = 0; i < n; i++) {
            const double f = a[i * (n + 1) + c] / a[c * (n + 1) + c];
            for (int j = c; j <= n && i != c; j++) a[i * (n + 1) + j] -= f * a[c * (n + 1) + j];
        }
        const double pivot = a[c * (n + 1) + c];
        for (int j = 0; j <= n; j++) a[c * (n + 1) + j] /= pivot;
    }
}

// Column `out` of y on [x..., 1], in plain loops: the map's row and its constant in w[n].
static void regress(kv_tensor *const *x, int n_x, const kv_tensor *y, int64_t out, double ridge, double *w) {
    const int dim = (int)x[0]->cols, n = n_x * dim + 1;
    double *a = calloc((size_t)(n * (n + 1)), sizeof *a), *row = calloc((size_t)n, sizeof *row), mean = 0;
    for (int64_t t = 0; t < TOKENS; t++) {
        for (int i = 0; i < n - 1; i++) row[i] = (double)x[i / dim]->data[t * dim + i % dim];
        row[n - 1] = 1;
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < n; j++) a[i * (n + 1) + j] += row[i] * row[j];
            a[i * (n + 1) + n] += row[i] * (double)y->data[t * y->cols + out];
        }
    }
    for (int i = 0; i < n - 1; i++) mean += a[i * (n + 1) + i] / (n - 1);
    for (int i = 0; i < n - 1; i++) a[i * (n + 1) + i] += ridge * mean;
    eliminate(a, n);
    for (int i = 0; i < n; i++) w[i] = a[i * (n + 1) + n];
    free(a);
    free(row);
}

static void check_depth(const kv_curve_options *o, kv_model *base, const struct seen *s, int64_t depth) {
    char path[4096];
    kv_predictor *p;
    assert_true(kv_curve_fitted(o->output, depth, &base->spec));
    if (kv_curve_place(o->output, depth, "predictor", path, &err) ||
        kv_predictor_load(path, &base->spec, NULL, NULL, NULL, &p, &err))
        fail_msg("%s", err.message);
    for (int64_t layer = depth; layer < LAYERS; layer++)
        for (int side = 0; side < KV_SIDES; side++) {
            kv_tensor *const h[2] = {s->h[o->first ? 0 : depth], s->h[depth]};
            const kv_tensor *y = side == KV_KEYS ? s->k[layer] : s->v[layer];
            const kv_param *weight = test_weight(p, (kv_side)side, layer),
                           *bias = test_bias(p, (kv_side)side, layer);
            const int64_t n = (o->first ? 2 : 1) * base->spec.model_dim;
            double *w = malloc((size_t)(n + 1) * sizeof *w), largest = 0;
            assert_int_equal(weight->cols, n);
            // Sources stand in the order they were named: h_depth, then h_0.
            kv_tensor *const x[2] = {h[1], h[0]};
            regress(x, o->first ? 2 : 1, y, 1, o->ridge, w);
            for (int64_t i = 0; i <= n; i++) largest = fmax(largest, fabs(w[i]));
            for (int64_t i = 0; i <= n; i++) {
                const double found =
                    i < n ? (double)((float *)weight->data)[n + i] : (double)((float *)bias->data)[1];
                if (!(fabs(found - w[i]) <= 2e-5 * largest))
                    fail_msg("depth %d layer %d side %d weight %d: %g, expected %g", (int)depth, (int)layer,
                             side, (int)i, found, w[i]);
            }
            free(w);
        }
    kv_predictor_free(p);
}

static void test_every_depth_is_its_regression(void **state) {
    (void)state;
    const int64_t depths[] = {1, 2};
    const kv_model_spec spec = tiny_base();
    kv_model *base = tiny_model(&spec, 1);
    int32_t ids[TOKENS];
    char fingerprint[17];
    tiny_ids(ids, TOKENS, spec.vocab_size, 3);
    kv_checkpoint_fingerprint(base, fingerprint);
    const kv_curve_text text = {.fit = ids, .n_fit = TOKENS};
    struct seen s = see(base, ids);
    for (int first = 0; first < 2; first++) {
        const kv_curve_options o = {.output = test_path(test_dir, first ? "first" : "plain"),
                                    .window = WINDOW,
                                    .ridge = 1e-3,
                                    .first = first};
        assert_false(kv_curve_fitted(o.output, 1, &spec));
        if (kv_curve_fit(&o, base, fingerprint, depths, 2, &text, &err)) fail_msg("%s", err.message);
        for (int i = 0; i < 2; i++) check_depth(&o, base, &s, depths[i]);
    }
    kv_tape_free(s.tape);
    kv_model_free(base);
}

static int set_up(void **state) {
    test_dir_set_up(state);
    test_small_corpus(test_dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depths),
        cmocka_unit_test(test_whole_documents_are_held_out),
        cmocka_unit_test(test_the_end_is_held_out),
        cmocka_unit_test(test_every_depth_is_its_regression),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
