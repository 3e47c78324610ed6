// The command line of kveval curve.
#include "eval/curve/options.h"

#include "data/system/help.h"
#include "data/system/number.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

static const char doc[] =
    "Is there a free lunch for your model? Lets the model's own first layers read the prompt and predicts what the other "
    "layers would have kept of it, by maps that one pass over a text gives: nothing is trained, and no second model is "
    "needed. Of every number of layers that is tried come the reduction of FLOPs, the perplexity of text that the maps were "
    "not fitted on, the measured time to the first token, and the predictor, ready for kvrun and kvtrain.\v"
    "  kveval curve --base my/base/final/model --text my/train.h5 \\\n"
    "         --tokens 2000 --window 64 --out my/curve\n"
    "  kvrun --base my/base/final/model \\\n"
    "         --predictor my/curve/prefix_02/predictor \"Once\"\n"
    "\n"
    "The directory gets curve.csv, curve.json, the files of an evaluation (results.csv, results.h5, pareto.svg, samples/, "
    "…), eval.yaml, with which kveval does that part again or differently, held_out.h5, and prefix_NN/predictor. The same "
    "command goes on where it was stopped: depths that are fitted and windows that are scored stay.\n"
    "\n"
    "The maps are fitted on --tokens tokens of the text and judged on --windows windows of others: of whole documents that "
    "no map was fitted on, where there are enough, or the text's end. With --held-out they are those of another text.\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C.";

enum { FIRST = 0x100, PROMPT, RIDGE, HELD_OUT, REPEATS, NO_TTFT, WINDOW, WINDOWS };

static const struct argp_option option_list[] = {
    {"base", 'b', "DIR", 0, "The model: a Hugging Face directory, or a random name as random:smollm2-135m",
     0},
    {"text", 't', "PATH", 0,
     "What maps are fitted on: text or JSON lines, a directory of them, a token shard or a corpus", 0},
    {"out", 'o', "DIR", 0, "Where everything goes", 0},
    {"depths", 'd', "LIST", 0,
     "Layers that read the prompt: 1,2,4, or all, or some: 6 at most, evenly spread (default some)", 0},
    {"tokens", 'n', "N", 0, "Tokens to fit on (default 25000)", 0},
    {"aux", 'a', "DIR", 0, "A smaller model alone, as a row: how far from it to the base the predictors come",
     0},
    {"held-out", HELD_OUT, "PATH", 0, "Judge on this text instead of on a part of --text", 0},
    {"window", WINDOW, "N", 0, "Tokens of a window that is scored (default 512)", 0},
    {"prompt", PROMPT, "N", 0, "Of these, tokens of the prompt (default three quarters)", 0},
    {"windows", WINDOWS, "N", 0, "Windows to judge on, if there are as many (default 24)", 0},
    {"first", FIRST, NULL, 0,
     "Maps read what enters layer 0, too: dearer, and a little better for few layers", 0},
    {"ridge", RIDGE, "X", 0, "Of the regression, times the mean diagonal (default 1e-3)", 0},
    {"tokenizer", 'T', "PATH", 0, "tokenizer.json, tokenizer.model or a directory (default: the base's)", 0},
    {"repeats", REPEATS, "N", 0, "Of the time to first token (default 5)", 0},
    {"no-ttft", NO_TTFT, NULL, 0, "Do not measure the time to first token", 0},
    {"dry-run", 'N', NULL, 0, "Say what it will take in time and memory, and write nothing", 0},
    {0},
};

static int64_t whole(struct argp_state *state, const char *option, const char *text, int64_t least) {
    int64_t value;
    if (!kv_read_whole(text, &value) || value < least)
        argp_error(state, "--%s: found %s, expected a whole number from %lld", option, text,
                   (long long)least);
    return value;
}

static double ridge(struct argp_state *state, const char *text) {
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= 1e6))
        argp_error(state, "--ridge: found %s, expected a number from 0 to 1e6", text);
    return value;
}

static void check(struct argp_state *state, kv_curve_options *o) {
    if (o->dry_run && o->format != &kv_format_text)
        argp_error(state, "--format beside --dry-run, which shows no results");
    if (!o->base || !o->text || !o->output) argp_error(state, "--base, --text and --out are needed");
    if (o->prompt == 0) o->prompt = o->window / 4 * 3 + o->window % 4 * 3 / 4;
    if (o->prompt >= o->window)
        argp_error(state, "--prompt: found %lld, expected less than the window's %lld tokens",
                   (long long)o->prompt, (long long)o->window);
}

static error_t parse(int key, char *text, struct argp_state *state) {
    kv_curve_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &o->format; return 0;
    case 'b': o->base = text; return 0;
    case 'a': o->aux = text; return 0;
    case 't': o->text = text; return 0;
    case 'o': o->output = text; return 0;
    case 'd': o->depths = text; return 0;
    case 'T': o->tokenizer = text; return 0;
    case 'N': o->dry_run = true; return 0;
    case 'n': o->tokens = whole(state, "tokens", text, 1); return 0;
    case HELD_OUT: o->held_out = text; return 0;
    case WINDOW: o->window = whole(state, "window", text, 2); return 0;
    case WINDOWS: o->windows = whole(state, "windows", text, 1); return 0;
    case PROMPT: o->prompt = whole(state, "prompt", text, 1); return 0;
    case REPEATS: o->repeats = whole(state, "repeats", text, 1); return 0;
    case RIDGE: o->ridge = ridge(state, text); return 0;
    case NO_TTFT: o->repeats = 0; return 0;
    case FIRST: o->first = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "found '%s', expected options alone", text); return 0;
    case ARGP_KEY_END: check(state, o); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

void kv_curve_options_parse(int argc, char **argv, kv_curve_options *options) {
    static const struct argp_child children[] = {{&kv_table_format_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {option_list, parse, NULL, doc, children, kv_help_filter, NULL};
    *options = (kv_curve_options){
        .depths = "some", .tokens = 25000, .window = 512, .windows = 24, .repeats = 5, .ridge = 1e-3};
    argp_parse(&argp, argc, argv, 0, NULL, options);
}

// ---- Depths --------------------------------------------------------------------------------------------

static kv_status out_of_range(const char *text, int64_t n_layers, kv_error *err) {
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "found %s, expected all, some, or numbers of layers from 1 to %lld, as 1,2,4", text,
                   (long long)n_layers - 1);
}

static void spread(int64_t n_layers, int64_t most, int64_t *depths, int64_t *n) {
    const int64_t last = n_layers - 1;
    *n = last < most ? last : most;
    for (int64_t i = 0; i < *n; i++) depths[i] = *n == 1 ? last : 1 + i * (last - 1) / (*n - 1);
}

kv_status kv_curve_depths(const char *text, int64_t n_layers, int64_t *depths, int64_t *n, kv_error *err) {
    *n = 0;
    if (n_layers < 2)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "found a base of %lld layer, expected at least 2: one that reads the "
                       "prompt and one to predict",
                       (long long)n_layers);
    if (!strcmp(text, "all")) spread(n_layers, KV_CURVE_DEPTHS, depths, n);
    if (!strcmp(text, "some")) spread(n_layers, 6, depths, n);
    if (*n > 0) return KV_OK;
    char *copy = strdup(text), *rest = copy;
    if (!copy) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    bool is_in[KV_CURVE_DEPTHS + 1] = {false}, ok = true;
    for (char *word; ok && (word = strsep(&rest, ","));) {
        int64_t depth;
        ok = kv_read_whole(word, &depth) && depth >= 1 && depth < n_layers && depth <= KV_CURVE_DEPTHS;
        if (ok) is_in[depth] = true;
    }
    free(copy);
    if (!ok) return out_of_range(text, n_layers, err);
    for (int64_t d = 1; d <= KV_CURVE_DEPTHS; d++)
        if (is_in[d]) depths[(*n)++] = d;
    return KV_OK;
}
