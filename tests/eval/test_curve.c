// kveval curve without its program: depths, what is held out, and predictors against a regression that is worked out here;
// a fit that is stopped and goes on. The signal is a stand-in.
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
#include <unistd.h>

static kv_error err;

// Answers of kv_console_interrupted from now on, false first; -1: never.
static int before_signal = -1;

bool __wrap_kv_console_interrupted(void);
bool __wrap_kv_console_interrupted(void) {
    return before_signal >= 0 && before_signal-- == 0;
}

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

// 1 - Σ|residual|² / Σ|y - mean|² of what the maps put out, in plain loops; the mean over layers is what is told.
static double explained(const kv_predictor *p, kv_side side, int64_t layer, kv_tensor *const *x, int n_x,
                        const kv_tensor *y) {
    const kv_param *weight = test_weight(p, side, layer), *bias = test_bias(p, side, layer);
    double residual = 0, total = 0;
    for (int64_t c = 0; c < y->cols; c++) {
        double mean = 0;
        for (int64_t t = 0; t < TOKENS; t++) mean += (double)y->data[t * y->cols + c] / TOKENS;
        for (int64_t t = 0; t < TOKENS; t++) {
            const double own = (double)y->data[t * y->cols + c];
            double sum = (double)((float *)bias->data)[c];
            for (int64_t i = 0; i < weight->cols; i++)
                sum += (double)((float *)weight->data)[c * weight->cols + i] *
                       (double)x[i / x[0]->cols]->data[t * x[0]->cols + i % x[0]->cols];
            residual += (own - sum) * (own - sum), total += (own - mean) * (own - mean);
        }
    }
    assert_int_equal(n_x * x[0]->cols, weight->cols);
    return 1 - residual / total;
}

static void check_explained(const kv_curve_options *o, const struct seen *s, const kv_predictor *p,
                            int64_t depth) {
    kv_tensor *const x[2] = {s->h[depth], s->h[0]};
    double told[KV_SIDES];
    kv_curve_explained(o->output, depth, told);
    for (int side = 0; side < KV_SIDES; side++) {
        double mean = 0;
        for (int64_t i = depth; i < LAYERS; i++)
            mean += explained(p, (kv_side)side, i, x, o->first ? 2 : 1, side ? s->v[i] : s->k[i]) /
                    (double)(LAYERS - depth);
        if (!(fabs(told[side] - mean) < 1e-5 && mean > 0.05 && mean < 1 + 1e-5))
            fail_msg("depth %d side %d: %g explained, expected %g", (int)depth, side, told[side], mean);
    }
    kv_curve_explained("nowhere", depth, told);
    assert_true(isnan(told[0]) && isnan(told[1]));
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
    check_explained(o, s, p, depth);
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

// ---- Stopped -------------------------------------------------------------------------------------------

struct fitting {
    kv_model *base;
    kv_curve_text text;
    char fingerprint[17];
};

static const int64_t both[] = {1, 2};

// Stopped at the n-th look for a signal (-1: not), in the directory of this name.
static kv_status fit_until(const struct fitting *f, const char *name, const int64_t *depths, int64_t n,
                           int signal) {
    const kv_curve_options o = {.output = test_path(test_dir, name), .window = WINDOW, .ridge = 1e-3};
    before_signal = signal;
    const kv_status status = kv_curve_fit(&o, f->base, f->fingerprint, depths, n, &f->text, &err);
    before_signal = -1;
    return status;
}

static void expect_same_files(const char *one, const char *other) {
    static const char *const files[] = {"prefix_01/predictor/predictor.safetensors",
                                        "prefix_02/predictor/predictor.safetensors", "prefix_01/fit.json",
                                        "prefix_02/fit.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char command[600], path[256];
        snprintf(path, sizeof path, "%s/%s", one, files[i]);
        snprintf(command, sizeof command, "cmp %s %s/%s/%s", test_path(test_dir, path), test_dir, other,
                 files[i]);
        if (system(command)) fail_msg("%s", command);
    }
}

static bool has_sums(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/sums.h5", name);
    return access(test_path(test_dir, path), F_OK) == 0;
}

// Looks for a signal come before each thousand tokens and before each solution: a fit of 1500 tokens has four.
static void test_a_stopped_fit_goes_on(void **state) {
    (void)state;
    const kv_model_spec spec = tiny_base();
    int32_t ids[TOKENS];
    struct fitting f = {.base = tiny_model(&spec, 1), .text = {.fit = ids, .n_fit = TOKENS}};
    tiny_ids(ids, TOKENS, spec.vocab_size, 3);
    kv_checkpoint_fingerprint(f.base, f.fingerprint);
    assert_int_equal(fit_until(&f, "whole", both, 2, -1), KV_OK);
    assert_false(has_sums("whole"));
    static const struct {
        int signal;
        const char *name, *message;
        bool sums;
    } stops[] = {{0, "at once", "with 0 of 1500 tokens", false},
                 {1, "in the text", "with 1024 of 1500 tokens", true},
                 {2, "behind it", "with 0 of 2 depths", true},
                 {3, "in between", "with 1 of 2 depths", true}};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        char name[32];
        snprintf(name, sizeof name, "stop%d", (int)i);
        assert_int_equal(fit_until(&f, name, both, 2, stops[i].signal), KV_ERR_INTERRUPTED);
        if (!strstr(err.message, stops[i].message)) fail_msg("%s: %s", stops[i].name, err.message);
        assert_true(has_sums(name) == stops[i].sums);
        const char *dir = test_path(test_dir, name);
        const bool first = kv_curve_fitted(dir, 1, &spec);
        assert_true(first == (i == 3));
        // Nothing is read again: where all was added, no look comes before the first solution.
        if (i == 3) assert_int_equal(fit_until(&f, name, both + 1, 1, 1), KV_OK);
        assert_int_equal(fit_until(&f, name, both + first, 2 - first, -1), KV_OK);
        assert_false(has_sums(name));
        expect_same_files("whole", name);
    }
    // A file of fewer depths does not do, and a damaged one is as none.
    assert_int_equal(fit_until(&f, "other", both, 1, 1), KV_ERR_INTERRUPTED);
    assert_int_equal(fit_until(&f, "other", both, 2, 0), KV_ERR_INTERRUPTED);
    assert_non_null(strstr(err.message, "with 0 of 1500 tokens"));
    assert_int_equal(fit_until(&f, "other", both, 1, 0), KV_ERR_INTERRUPTED);
    assert_non_null(strstr(err.message, "with 1024 of 1500 tokens"));
    test_write_text(test_path(test_dir, "other/sums.h5"), "no such thing");
    assert_int_equal(fit_until(&f, "other", both, 2, -1), KV_OK);
    expect_same_files("whole", "other");
    kv_model_free(f.base);
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
        cmocka_unit_test(test_a_stopped_fit_goes_on),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
