// The command line of it, and all that can be wrong before weights are read.
#include "eval/sources/sources.h"

#include "core/text.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/pair.h"
#include "data/file/made_by.h"
#include "data/file/whole_set.h"
#include "data/system/blas.h"
#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/help.h"
#include "data/system/limits.h"
#include "data/system/memory.h"
#include "data/system/number.h"
#include "data/table/format.h"
#include "eval/benchmark/text_tokens.h"
#include "eval/sources/explain.h"

#include <argp.h>
#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static const char doc[] =
    "How much of the variance of a base's keys and values do 1, 2, 4, ... layers of an auxiliary model explain? Answered by "
    "ridge regression on a text, without training anything, and measured on text that the regressions never saw.\v"
    "Two kinds of sources are read: `kv`, keys from keys and values from values, as the paper does; and `h`, both from the "
    "normed inputs of layers. For every layer of the base the layers of the aux are taken in an order of its own: `ranked`, by what "
    "each explains alone, or `greedy`, each time the one that adds most to those before it, which takes many more regressions.\n"
    "\n"
    "Into DIR: sources.csv (a row per kind, keys or values, layer of the base and number of layers, with the layers "
    "themselves), sources.svg, .png and .pdf, drawn by gnuplot. The same command may be given twice; nothing is left of one that was "
    "stopped.\n"
    "\n"
    "Text is a token shard, a corpus of several, or files of text as kvdata tokenize takes them. The last tokens are held "
    "out.\n"
    "\n"
    "  kveval sources --base my/base/final/model --aux my/aux/final/model \\\n"
    "    --text my/held_out.h5 --tokens 2000 --window 32 --out my/sources\n"
    "\n"
    "Explained variance need not say what a system keeps of its base: kveval's `analysis` compares the two.\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C.";

enum { KEY_HELD_OUT = 256, KEY_WINDOW, KEY_READ, KEY_ORDER, KEY_RIDGE, KEY_COUNTS, KEY_TOKENIZER };

static const struct argp_option option_list[] = {
    {"base", 'b', "DIR", 0, "the model whose keys and values are explained (needed)", 0},
    {"aux", 'a', "DIR", 0, "the model whose layers explain them (needed)", 0},
    {"text", 't', "PATH", 0, "what both read (needed)", 0},
    {"out", 'o', "DIR", 0, "where sources.csv and the picture go (default: only print)", 0},
    {"tokens", 'n', "N", 0, "tokens that the regressions are solved on, or what there is (default 50000)", 0},
    {"held-out", KEY_HELD_OUT, "N", 0,
     "tokens behind them that they are measured on (default a fifth as many)", 0},
    {"window", KEY_WINDOW, "N", 0, "tokens that are read at a stretch (default 256, or the shorter context)",
     0},
    {"read", KEY_READ, "kv|h|all", 0, "what is read of the aux's layers (default all)", 0},
    {"order", KEY_ORDER, "ranked|greedy", 0, "which layers are taken first (default ranked)", 0},
    {"counts", KEY_COUNTS, "LIST", 0, "numbers of layers, as in 1,2,4 (default 1,2,4,8,... and all)", 0},
    {"ridge", KEY_RIDGE, "X", 0,
     "penalty, as a part of the mean diagonal of the normal equations (default 0.01)", 0},
    {"tokenizer", KEY_TOKENIZER, "PATH", 0, "what turns text into tokens (default: the base's)", 0},
    {0},
};

struct options {
    const char *base, *aux, *text, *out, *tokenizer;
    int64_t tokens, held_out, window;
    bool greedy;
    kv_source_curves curves;
    const kv_table_format *format;
};

// ---- Options -------------------------------------------------------------------------------------------

static int64_t whole_option(struct argp_state *state, const char *name, const char *text, int64_t least) {
    int64_t value;
    if (!kv_read_whole(text, &value) || value < least)
        argp_error(state, "--%s: found '%s', expected a whole number from %lld", name, text,
                   (long long)least);
    return value;
}

// Rising.
static void set_counts(struct argp_state *state, kv_source_curves *c, const char *text) {
    c->n_counts = 0;
    for (const char *rest = text;;) {
        int64_t count;
        const bool read = kv_take_whole(&rest, &count);
        if (!read || count < 1 || (c->n_counts > 0 && count <= c->counts[c->n_counts - 1]) ||
            (*rest && *rest != ','))
            argp_error(state, "--counts: found '%s', expected whole numbers from 1 that grow, as in 1,2,4",
                       text);
        if (c->n_counts == KV_SOURCE_COUNTS)
            argp_error(state, "--counts: more than %d of them", KV_SOURCE_COUNTS);
        c->counts[c->n_counts++] = count;
        if (!*rest++) return;
    }
}

static void set_read(struct argp_state *state, kv_source_curves *c, const char *text) {
    bool any = false;
    for (int kind = 0; kind < KV_SOURCE_SETS; kind++) {
        c->read[kind] = !strcmp(text, "all") || !strcmp(text, kv_source_set_names[kind]);
        any = any || c->read[kind];
    }
    if (!any) argp_error(state, "--read: found '%s', expected kv, h or all", text);
}

static void set_order(struct argp_state *state, struct options *o, const char *text) {
    o->greedy = !strcmp(text, "greedy");
    if (!o->greedy && strcmp(text, "ranked") != 0)
        argp_error(state, "--order: found '%s', expected ranked or greedy", text);
    o->curves.order = text;
}

static void set_ridge(struct argp_state *state, kv_source_curves *c, const char *text) {
    if (!kv_read_real(text, &c->ridge) || !(c->ridge >= 0))
        argp_error(state, "--ridge: found '%s', expected a number from 0", text);
}

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &o->format; return 0;
    case 'b': o->base = text; return 0;
    case 'a': o->aux = text; return 0;
    case 't': o->text = text; return 0;
    case 'o': o->out = text; return 0;
    case 'n': o->tokens = whole_option(state, "tokens", text, 1); return 0;
    case KEY_HELD_OUT: o->held_out = whole_option(state, "held-out", text, 1); return 0;
    case KEY_WINDOW: o->window = whole_option(state, "window", text, 1); return 0;
    case KEY_READ: set_read(state, &o->curves, text); return 0;
    case KEY_ORDER: set_order(state, o, text); return 0;
    case KEY_COUNTS: set_counts(state, &o->curves, text); return 0;
    case KEY_RIDGE: set_ridge(state, &o->curves, text); return 0;
    case KEY_TOKENIZER: o->tokenizer = text; return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s': everything is said by options", text); return 0;
    case ARGP_KEY_END:
        if (!o->base || !o->aux || !o->text) argp_error(state, "--base, --aux and --text are needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// ---- What is read --------------------------------------------------------------------------------------

struct opened {
    kv_model_spec base, aux;
    kv_tokenizer *tokenizer;
    kv_text_tokens text;
    int64_t n_windows, n_held_out;
};

static kv_status find_window(struct options *o, const struct opened *w, kv_error *err) {
    const int64_t a = w->base.context_length, b = w->aux.context_length, context = a < b ? a : b;
    if (o->window == 0) o->window = context < 256 ? context : 256;
    if (o->window <= context) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "--window: found %lld, expected at most the context of %s, %lld",
                   (long long)o->window,
                   a < b   ? "the base"
                   : b < a ? "the aux"
                           : "base and aux",
                   (long long)context);
}

// The numbers of layers that there are: 1, 2, 4, ... and all.
static kv_status find_counts(kv_source_curves *c, int64_t n_sources, kv_error *err) {
    if (c->n_counts == 0) {
        for (int64_t n = 1; n < n_sources; n *= 2) c->counts[c->n_counts++] = n;
        c->counts[c->n_counts++] = n_sources;
    }
    const int64_t most = c->counts[c->n_counts - 1];
    if (most <= n_sources) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "--counts: found %lld, but the aux has %lld layers", (long long)most,
                   (long long)n_sources);
}

// Whole windows, of which the last are held out.
static kv_status cut(struct options *o, struct opened *w, kv_error *err) {
    const int64_t window = o->window, wanted = (o->tokens + window - 1) / window;
    const int64_t held_out = o->held_out > 0 ? o->held_out : (o->tokens + 4) / 5;
    w->n_held_out = (held_out + window - 1) / window;
    kv_status status =
        kv_text_tokens_read(o->text, w->tokenizer, (wanted + w->n_held_out) * window, &w->text, err);
    if (status != KV_OK) return status;
    w->n_windows = w->text.n / window;
    if (w->n_windows < wanted + w->n_held_out) { // a smaller text in the same proportion
        w->n_held_out = w->n_windows * w->n_held_out / (wanted + w->n_held_out);
        if (w->n_held_out == 0) w->n_held_out = 1;
    }
    if (w->n_windows >= 2) return KV_OK;
    return kv_fail(
        err, KV_ERR_RANGE,
        "%s: found %lld tokens, expected two windows of %lld at least: one to solve on, one that is held "
        "out (--window N)",
        o->text, (long long)w->text.n, (long long)window);
}

static kv_status open_all(struct options *o, struct opened *w, kv_error *err) {
    const char *tokenizer = o->tokenizer ? o->tokenizer : o->base;
    const kv_pair pair = {.base = o->base,
                          .aux = o->aux,
                          .tokenizer = o->tokenizer,
                          .base_spec = &w->base,
                          .aux_spec = &w->aux};
    kv_status status = kv_pair_check(&pair, err);
    if (status == KV_OK) status = find_window(o, w, err);
    if (status == KV_OK) status = find_counts(&o->curves, w->aux.n_layers, err);
    if (status != KV_OK) return status;
    if (!o->tokenizer && !kv_tokenizer_present(tokenizer))
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%s: found no tokenizer, expected one there or with --tokenizer PATH", tokenizer);
    status = kv_tokenizer_open(tokenizer, &w->tokenizer, err);
    return status == KV_OK ? cut(o, w, err) : status;
}

// A text of one tokenizer may have ids that a model of another has not.
static kv_status check_ids(const struct options *o, const struct opened *w, kv_error *err) {
    const int64_t base = w->base.vocab_size, aux = w->aux.vocab_size, n_ids = base < aux ? base : aux;
    for (int64_t i = 0; i < w->text.n; i++)
        if (w->text.ids[i] < 0 || w->text.ids[i] >= n_ids)
            return kv_fail(err, KV_ERR_RANGE,
                           "%s: found the id %d, expected one below %lld, the vocabulary of %s", o->text,
                           w->text.ids[i], (long long)n_ids, base < aux ? o->base : o->aux);
    return KV_OK;
}

// ---- The command ---------------------------------------------------------------------------------------

static kv_status explain(struct options *o, const struct opened *w, kv_error *err) {
    kv_model *base = NULL, *aux = NULL;
    kv_source_curves *c = &o->curves;
    c->n_layers = w->base.n_layers, c->n_sources = w->aux.n_layers;
    c->tokens = (w->n_windows - w->n_held_out) * o->window, c->held_out = w->n_held_out * o->window;
    c->text = o->text;
    kv_status status = kv_source_curves_make(c) ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    if (status == KV_OK) status = kv_blas_reserve(err);
    if (status == KV_OK)
        status = kv_checkpoint_load_frozen(o->base, &w->base, KV_FROZEN_STORED, &base, NULL, err);
    if (status == KV_OK)
        status = kv_checkpoint_load_frozen(o->aux, &w->aux, KV_FROZEN_STORED, &aux, NULL, err);
    if (status == KV_OK) {
        const int64_t left = kv_memory_available("");
        const kv_explain_args args = {.base = base,
                                      .aux = aux,
                                      .ids = w->text.ids,
                                      .n_windows = w->n_windows,
                                      .window = o->window,
                                      .n_held_out = w->n_held_out,
                                      .greedy = o->greedy,
                                      .memory = left == INT64_MAX ? 1e300 : 0.5 * (double)left};
        status = kv_explain(&args, c, err);
        if (status == KV_ERR_ARGUMENT)
            kv_fail_within(err, status, "--ridge %g, --tokens %lld", c->ridge, (long long)o->tokens);
    }
    kv_model_free(base);
    kv_model_free(aux);
    return status;
}

static kv_status write_files(const struct options *o, char note[KV_PLOT_NOTE], kv_error *err) {
    static const char *const stale[] = {"sources.svg", "sources.png", "sources.pdf"};
    kv_whole_set set;
    kv_status status = kv_whole_set_begin(&set, o->out, err);
    if (status == KV_OK) status = kv_source_curves_write(&o->curves, set.staged.path, note, err);
    char *made_by = kv_made_by_text(true);
    if (status == KV_OK) status = kv_made_by_write(set.staged.path, &made_by, made_by != NULL, err);
    free(made_by);
    return kv_whole_set_end(&set, stale, 3, status, err);
}

// Before the work: nobody wants to hear of a directory after it.
static kv_status probe(const char *dir, kv_error *err) {
    kv_whole_set set;
    kv_status status = dir ? kv_whole_set_begin(&set, dir, err) : KV_OK;
    if (dir) kv_whole_set_abandon(&set);
    return status;
}

static kv_status print(const struct options *o, kv_error *err) {
    kv_tables *tables = kv_tables_create();
    kv_source_curves_tables(&o->curves, tables);
    char *made_by = kv_made_by_text(true);
    kv_tables_made_by(tables, &made_by, made_by != NULL);
    kv_tables_fact(tables, "made_by", kv_made_by_list(&made_by, made_by != NULL));
    free(made_by);
    const kv_status status = kv_tables_write(tables, o->format, stdout, err);
    kv_tables_free(tables);
    return status;
}

static kv_status run(struct options *o, char note[KV_PLOT_NOTE], kv_error *err) {
    struct opened opened = {0};
    kv_status status = kv_limits_try_threads(omp_get_max_threads(), err);
    if (status == KV_OK) status = open_all(o, &opened, err);
    if (status == KV_OK) status = check_ids(o, &opened, err);
    if (status == KV_OK) status = probe(o->out, err);
    if (status == KV_OK) status = explain(o, &opened, err);
    kv_text_tokens_free(&opened.text);
    kv_tokenizer_free(opened.tokenizer);
    if (status != KV_OK) return status;
    status = print(o, err);
    return status == KV_OK && o->out ? write_files(o, note, err) : status;
}

int kv_sources_main(int argc, char **argv) {
    static const struct argp_child children[] = {{&kv_table_format_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {option_list, parse, "", doc, children, kv_help_filter, NULL};
    struct options options = {.tokens = 50000,
                              .curves = {.read = {true, true}, .ridge = 0.01, .order = "ranked"}};
    kv_error err = {0};
    char note[KV_PLOT_NOTE] = "", reason[KV_LIMITS_TEXT];
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    kv_console_catch_signals();
    if (!options.out) kv_console_printout();
    kv_status status = run(&options, note, &err);
    if (status == KV_OK && !kv_console_flush())
        status = kv_fail(&err, KV_ERR_IO, "standard output: cannot write the table: %s", strerror(errno));
    kv_source_curves_free(&options.curves);
    if (status != KV_OK) kv_fold_complaint("%s%s", err.message, kv_limits_reason(&err, reason));
    if (status == KV_OK && *note) fprintf(stderr, "kveval: note: %s\n", note);
    return status == KV_OK ? 0 : status == KV_ERR_INTERRUPTED ? 128 + kv_console_signal() : 1;
}
