// The command line: what can be asked for, what goes together, and what each word means.
#include "infer/kvrun/kvrun.h"

#include "data/system/buffers.h"
#include "data/system/help.h"
#include "data/system/number.h"
#include "data/text/unicode.h"

#include <argp.h>
#include <string.h>
#include <unistd.h>

static const char doc[] =
    "Answers a prompt by a base model alone or with KV prediction, where a small auxiliary model reads the "
    "prompt and predictors fill the base's cache.\v"
    "DIR is a checkpoint directory (config.json and model.safetensors), or a name for random weights of a "
    "published shape: random:openelm-1.1b, random:openelm-450m:bf16, and random for a predictor (of the base's own "
    "first L layers random:prefix=L).\n"
    "\n"
    "The base alone; with KV prediction; both, side by side:\n"
    "  kvrun --base my/base/final/model \"Once upon a time\"\n"
    "  kvrun --base my/base/final/model --aux my/predictor/final/aux \\\n"
    "        --predictor my/predictor/final/predictor \"Once upon a time\"\n"
    "  kvrun --base my/base/final/model --aux my/predictor/final/aux \\\n"
    "        --predictor my/predictor/final/predictor \\\n"
    "        --compare --repeats 9 --file prompt.txt\n"
    "The base's own first layer reads the prompt, and maps (here random ones) fill in the others' caches:\n"
    "  kvrun --base my/base/final/model --predictor random:prefix=1 \\\n"
    "        --max-tokens 4 \"Once upon a time\"\n"
    "A question to a model that knows only questions:\n"
    "  kvrun --base runs/quickstart/base/final/model --stop $'\\n' \\\n"
    "        $'Question: In which country is Chaco?\\nAnswer:'\n"
    "A long beginning, read once; then what comes behind it, which alone is read:\n"
    "  kvrun --base my/base/final/model --save-prompt my/beginning.h5 \\\n"
    "        --file prompt.txt\n"
    "  kvrun --base my/base/final/model --load-prompt my/beginning.h5 \\\n"
    "        \" And what then?\"\n"
    "A chat model; without a prompt, on a terminal, it is a conversation:\n"
    "  kvrun --base models/SmolLM2-135M-Instruct --chat --temperature 0.7\n"
    "For scripts; the last two need nothing but random weights:\n"
    "  kvrun --base my/base/final/model --json \"Once upon a time\" | jq .text\n"
    "  kvrun --base random:smollm2-135m --prompt-ids \"5 17 9\" --ids -n 4\n"
    "  kvrun --base random:smollm2-135m --prompt-ids \"5 17 9\" --json -n 4\n"
    "\n"
    "The prompt is PROMPT (several are joined by spaces), or a file, or token ids, or else standard input; one "
    "new line at the end of a file or of standard input is dropped (CR LF counts as one). The answer goes to standard output, as it "
    "comes; figures go to standard error. The time to the first token is measured from the start of the "
    "prefill until the token is known; loading and tokenizing do not count, nor does disk: the weights have "
    "been read once before. Tokens per second are those behind the first.\n"
    "Sampling: temperature first, then of the tokens in the order of their probability the first K (--top-k), "
    "of those the fewest that have P of the mass (--top-p), of those the ones at least M times as probable as "
    "the first (--min-p).\n"
    "With --chat special tokens come from the template alone, whatever the prompt spells. ChatML, Llama-3 and "
    "Llama-2 templates are known.\n"
    "\n"
    "Ctrl-C ends an answer at its next token, and what there is of it stays; a second one ends the program at "
    "once.\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.";

enum {
    opt_aux = 256,
    opt_predictor,
    opt_tabulated,
    opt_ids_in,
    opt_top_k,
    opt_top_p,
    opt_min_p,
    opt_stop,
    opt_ids,
    opt_json,
    opt_chat,
    opt_system,
    opt_no_bos,
    opt_repeats,
    opt_context,
    opt_prune,
    opt_dtype,
    opt_too_long,
    opt_no_history,
    opt_save_prompt,
    opt_load_prompt,
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Models:", 1},
    {"base", 'b', "DIR", 0, "The model that answers (needed)", 1},
    {"aux", opt_aux, "DIR", 0, "The small model that reads the prompt", 1},
    {"predictor", opt_predictor, "DIR", 0,
     "Predictors of the base's cache from what the aux makes of the prompt; or, without --aux, from what the "
     "base's own first layers do",
     1},
    {"tabulated", opt_tabulated, "FILE", 0,
     "Look up what of the predictors depends on the token alone in what kvdata tabulate made of them: the file, or the "
     "directory it is in",
     1},
    {"tokenizer", 't', "PATH", 0,
     "A tokenizer, or a directory that holds one (default: the base's own, or the aux's)", 1},
    {"prune", opt_prune, "POLICY", 0,
     "The base reads only some of the prompt: random:KEEP, static:KEEP, lazy:START-END, or (with --aux, "
     "without --predictor) speculative:KEEP; parts from 0 to 1, as in lazy:0.75-0.50",
     1},
    {"dtype", opt_dtype, "TYPE", 0,
     "Hold weights as bf16, f16 or f32 instead of as stored: half the memory, or the quickest long prompts",
     1},
    {"context", opt_context, "N", 0, "Room for N tokens in all (default: what the models have)", 1},
    {NULL, 0, NULL, 0, "Prompt:", 2},
    {"file", 'f', "FILE", 0, "The prompt is this file's text", 2},
    {"prompt-ids", opt_ids_in, "IDS", 0, "The prompt is these token ids, as they are: \"5 17 9\"", 2},
    {"no-bos", opt_no_bos, NULL, 0, "No BOS in front of the text, whatever the tokenizer's rule", 2},
    {"chat", opt_chat, NULL, 0, "The prompt is a message, put into the model's chat template", 2},
    {"system", opt_system, "TEXT", 0, "With --chat: the system message (default: the template's)", 2},
    {"too-long", opt_too_long, "WAY", 0,
     "Of a prompt that does not fit the context: refuse (default), or cut its beginning off, but for a BOS, so that it "
     "and the longest answer fit",
     2},
    {"save-prompt", opt_save_prompt, "FILE", 0,
     "Read the prompt, keep what was made of it in FILE, and answer nothing", 2},
    {"load-prompt", opt_load_prompt, "FILE", 0,
     "The prompt begins with the one in FILE, which is not read again; PROMPT, if any, comes behind it", 2},
    {NULL, 0, NULL, 0, "Answer:", 3},
    {"max-tokens", 'n', "N", 0, "At most N tokens (default: 128)", 3},
    {"stop", opt_stop, "TEXT", 0, "End before this text; may be given more than once", 3},
    {"temperature", 'T', "T", 0, "Draw tokens (default: 0, always the most probable one)", 3},
    {"top-k", opt_top_k, "K", 0, "Draw from the K most probable only (0: all)", 3},
    {"top-p", opt_top_p, "P", 0, "Draw from the fewest tokens that have P of the mass only (1: all)", 3},
    {"min-p", opt_min_p, "M", 0, "Draw from tokens at least M times as probable as the first (0: all)", 3},
    {"seed", 's', "N", 0, "Another seed draws other tokens (default: 0)", 3},
    {NULL, 0, NULL, 0, "Output:", 4},
    {"compare", 'c', NULL, 0, "Also by the base alone; both answers and what they took", 4},
    {"repeats", opt_repeats, "N", 0,
     "With --compare: both answer N times, in turn; times are medians ± half the distance between the quartiles "
     "(default: 5)",
     4},
    {"ids", opt_ids, NULL, 0, "Token ids instead of text", 4},
    {"json", opt_json, NULL, 0,
     "One JSON object with the answer, as text and as ids, and all figures; with --prompt-ids it needs no tokenizer (text "
     "is null)",
     4},
    {"quiet", 'q', NULL, 0, "No figures", 4},
    {"no-history", opt_no_history, NULL, 0, "Of a conversation: do not keep what is typed for the next run",
     4},
    {0}};

// ---- Values --------------------------------------------------------------------------------------------

static int64_t whole(struct argp_state *state, const char *name, const char *text, int64_t min) {
    int64_t value = 0;
    if (!kv_read_whole(text, &value) || value < min)
        argp_error(state, "--%s: '%s', expected a whole number from %lld on", name, text, (long long)min);
    return value;
}

// One time alone says nothing of how far it may be trusted.
static int64_t repeats(struct argp_state *state, const char *text) {
    int64_t value = 0;
    if (!kv_read_whole(text, &value) || value < 2 || value > 1000000)
        argp_error(state, "--repeats: '%s', expected a whole number from 2 on, of which times have a spread",
                   text);
    return value;
}

static double real(struct argp_state *state, const char *name, const char *text) {
    double value = 0;
    if (!kv_read_real(text, &value)) argp_error(state, "--%s: '%s', expected a number", name, text);
    return value;
}

static uint64_t seed(struct argp_state *state, const char *text) {
    uint64_t value = 0;
    if (!kv_read_unsigned(text, &value))
        argp_error(state, "--seed: '%s', expected a whole number from 0 on", text);
    return value;
}

static bool is_utf8(const char *text) {
    return kv_utf8_valid(text, strlen(text)) == strlen(text);
}

static void add_stop(struct argp_state *state, kvrun_options *o, const char *text) {
    if (!*text || !is_utf8(text)) argp_error(state, "--stop: expected text in UTF-8, not nothing");
    const char **more = kv_room_for_one(o->stops, o->n_stops, sizeof *more);
    if (!more) argp_failure(state, 1, 0, "out of memory");
    o->stops = more;
    o->stops[o->n_stops++] = text;
}

// KIND:KEEP, or lazy:START-END.
static bool parse_pruning(const char *text, uint64_t random_seed, kv_pruning *pruning) {
    static const struct {
        const char *name;
        kv_prune_kind kind;
    } kinds[] = {{"random:", KV_PRUNE_RANDOM},
                 {"static:", KV_PRUNE_STATIC},
                 {"lazy:", KV_PRUNE_LAZY},
                 {"speculative:", KV_PRUNE_SPECULATIVE}};
    *pruning = (kv_pruning){.seed = random_seed};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !pruning->kind; i++) {
        const size_t n = strlen(kinds[i].name);
        if (!strncmp(text, kinds[i].name, n)) pruning->kind = kinds[i].kind, text += n;
    }
    if (pruning->kind != KV_PRUNE_LAZY) return pruning->kind && kv_read_real(text, &pruning->keep);
    return kv_take_real(&text, &pruning->start) && *text++ == '-' && kv_read_real(text, &pruning->end);
}

// ---- Together ------------------------------------------------------------------------------------------

struct parsing {
    kvrun_options *options;
    const char *prune;
    bool limits;  // --top-k and its like
    bool repeats; // said how many
};

bool kvrun_is_interactive(const kvrun_options *o) {
    return !o->n_words && !o->file && !o->prompt_ids && !o->load_prompt && isatty(STDIN_FILENO);
}

static void check_models(struct argp_state *state, const struct parsing *p) {
    const kvrun_options *o = p->options;
    const bool drafts = o->pruning.kind == KV_PRUNE_SPECULATIVE;
    if (!o->base) argp_error(state, "--base is needed");
    if (o->predictor && p->prune)
        argp_error(state,
                   "--prune and --predictor exclude each other: a predicted cache has nothing to prune");
    if (drafts && !o->aux) argp_error(state, "--prune speculative needs --aux, the model that looks ahead");
    if (o->aux && !o->predictor && !drafts)
        argp_error(state, "--aux needs --predictor (or --prune speculative:KEEP)");
    if (o->tabulated && !o->predictor)
        argp_error(state, "--tabulated needs --predictor, which it is a part of");
    if (o->compare && !o->predictor && !p->prune)
        argp_error(state, "--compare needs something to compare the base with: --predictor or --prune");
}

static void check_saved(struct argp_state *state, const struct parsing *p) {
    const kvrun_options *o = p->options;
    const char *name = o->save_prompt ? "--save-prompt" : "--load-prompt";
    if (!o->save_prompt && !o->load_prompt) return;
    if (p->prune)
        argp_error(state, "%s and --prune exclude each other: what is left out hangs on the whole prompt",
                   name);
    if (o->compare) argp_error(state, "%s and --compare exclude each other", name);
    if (o->load_prompt && o->cut)
        argp_error(
            state,
            "--load-prompt and --too-long cut exclude each other: what is cut off would be what was loaded");
    if (o->save_prompt && (o->json || o->ids))
        argp_error(state, "--save-prompt answers nothing: it goes with neither --json nor --ids");
    if (o->save_prompt && kvrun_is_interactive(o)) argp_error(state, "--save-prompt needs a prompt");
}

static void check_rest(struct argp_state *state, const struct parsing *p) {
    const kvrun_options *o = p->options;
    kv_error err = {0};
    if (kv_pruning_check(&o->pruning, &err) || kv_sampling_check(&o->sampling, &err))
        argp_error(state, "%s", err.message);
    if (p->limits && o->sampling.temperature == 0)
        argp_error(state, "--top-k, --top-p and --min-p need --temperature");
    if ((o->n_words > 0) + (o->file != NULL) + (o->prompt_ids != NULL) > 1)
        argp_error(state, "the prompt is given more than once: as PROMPT, --file or --prompt-ids");
    if (o->chat && o->prompt_ids) argp_error(state, "--chat needs text, not --prompt-ids");
    if (o->system && !o->chat) argp_error(state, "--system needs --chat");
    if (o->cut && o->chat)
        argp_error(
            state,
            "--too-long cut and --chat exclude each other: what is cut off first would be the template");
    if (p->repeats && !o->compare) argp_error(state, "--repeats needs --compare");
    if (kvrun_is_interactive(o) && (o->compare || o->json || o->ids))
        argp_error(state, "--compare, --json and --ids need a prompt");
}

static kv_frozen_dtype dtype(struct argp_state *state, const char *text) {
    static const struct {
        const char *text;
        kv_frozen_dtype dtype;
    } types[] = {{"stored", KV_FROZEN_STORED},
                 {"f32", KV_FROZEN_F32},
                 {"bf16", KV_FROZEN_BF16},
                 {"f16", KV_FROZEN_F16}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(text, types[i].text)) return types[i].dtype;
    argp_error(state, "--dtype: '%s', expected stored, f32, bf16 or f16", text);
    return KV_FROZEN_STORED;
}

static bool cut(struct argp_state *state, const char *text) {
    const bool cut = !strcmp(text, "cut");
    if (!cut && strcmp(text, "refuse") != 0)
        argp_error(state, "--too-long: '%s', expected refuse or cut", text);
    return cut;
}

static error_t parse_more(int key, char *text, struct argp_state *state) {
    struct parsing *p = state->input;
    kvrun_options *o = p->options;
    switch (key) {
    case 'T': o->sampling.temperature = real(state, "temperature", text); return 0;
    case opt_top_k: o->sampling.top_k = whole(state, "top-k", text, 0), p->limits = true; return 0;
    case opt_top_p: o->sampling.top_p = real(state, "top-p", text), p->limits = true; return 0;
    case opt_min_p: o->sampling.min_p = real(state, "min-p", text), p->limits = true; return 0;
    case 's': o->sampling.seed = seed(state, text); return 0;
    case 'n': o->max_tokens = whole(state, "max-tokens", text, 1); return 0;
    case opt_repeats: o->repeats = repeats(state, text), p->repeats = true; return 0;
    case opt_context: o->context = whole(state, "context", text, 1); return 0;
    case opt_dtype: o->dtype = dtype(state, text); return 0;
    case opt_too_long: o->cut = cut(state, text); return 0;
    case opt_stop: add_stop(state, o, text); return 0;
    case opt_prune: p->prune = text; return 0;
    case opt_save_prompt: o->save_prompt = text; return 0;
    case opt_load_prompt: o->load_prompt = text; return 0;
    case ARGP_KEY_ARGS:
        o->words = state->argv + state->next, o->n_words = state->argc - state->next;
        return 0;
    case ARGP_KEY_END:
        if (p->prune && !parse_pruning(p->prune, o->sampling.seed, &o->pruning))
            argp_error(state,
                       "--prune: '%s', expected random:KEEP, static:KEEP, lazy:START-END or speculative:KEEP",
                       p->prune);
        check_models(state, p);
        check_rest(state, p);
        check_saved(state, p);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse(int key, char *text, struct argp_state *state) {
    kvrun_options *o = ((struct parsing *)state->input)->options;
    switch (key) {
    case 'b': o->base = text; return 0;
    case opt_aux: o->aux = text; return 0;
    case opt_predictor: o->predictor = text; return 0;
    case opt_tabulated: o->tabulated = text; return 0;
    case 't': o->tokenizer = text; return 0;
    case 'f': o->file = text; return 0;
    case opt_ids_in: o->prompt_ids = text; return 0;
    case opt_system: o->system = text; return 0;
    case opt_no_bos: o->no_bos = true; return 0;
    case opt_chat: o->chat = true; return 0;
    case 'c': o->compare = true; return 0;
    case opt_ids: o->ids = true; return 0;
    case opt_json: o->json = true; return 0;
    case 'q': o->quiet = true; return 0;
    case opt_no_history: o->no_history = true; return 0;
    default: return parse_more(key, text, state);
    }
}

void kvrun_options_parse(int argc, char **argv, kvrun_options *o) {
    static const struct argp argp = {options, parse, "[PROMPT...]", doc, NULL, kv_help_filter, NULL};
    *o =
        (kvrun_options){.max_tokens = 128, .repeats = 5, .dtype = KV_FROZEN_STORED, .sampling = {.top_p = 1}};
    struct parsing p = {.options = o};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &p);
}
