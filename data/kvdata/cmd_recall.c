// kvdata recall: the passages of data/synthetic/recall.h.
#include "core/text.h"
#include "data/file/path.h"
#include "data/kvdata/kvdata.h"
#include "data/synthetic/recall.h"
#include "data/system/help.h"
#include "data/system/number.h"
#include "data/tokenizer/tokenizer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LENGTHS = 64, MAX_DEPTHS = 101 };

struct options {
    const char *out, *tokenizer;
    int64_t lengths[MAX_LENGTHS];
    double depths[MAX_DEPTHS];
    kv_recall_plan plan;
    int64_t words; // 0: all
    uint64_t seed;
};

static const char doc[] =
    "Makes up passages of statements that nobody can know beforehand (\"wolf is honey.\"), each with a question about "
    "one of them, for kveval's kind of task `recall`; and texts to train on.\v"
    "Into FILE (a name that ends in .jsonl): the questions. Into DIR\n"
    "  questions.jsonl  the questions, with a tokenizer\n"
    "  train.jsonl      with --texts: passages with all their questions and answers\n"
    "  held_out.jsonl   with --texts: a twentieth as many, to look at what is trained\n"
    "  recall.json      what is in it\n"
    "A prompt has as many statements as fit a length, BOS and question included. Words are drawn from those of the "
    "tokenizer that are one token each or, where it has fewer than 1000, from a list of 256; with more statements than "
    "keys of one word, keys have two. A line holds prompt, answer, length, depth, and the true number of tokens.\n"
    "\n"
    "Texts to train on are --seq-len tokens long, so that they fill training sequences one for one; without --tokenizer "
    "a word or a mark counts as a token, as with a tokenizer that is trained on them.\n"
    "\n"
    "Examples:\n"
    "  kvdata recall --texts 2000 --out recall\n"
    "  kvdata recall --tokenizer my/tokenizer.model --lengths 64..512,1000 \\\n"
    "         --items 10 --out recall/questions.jsonl";

enum { KEY_SEQ_LEN = 256, KEY_WORDS };

static const struct argp_option option_list[] = {
    {"out", 'o', "DIR|FILE", 0, "where to write (needed)", 0},
    {"tokenizer", 't', "PATH", 0,
     "whose tokens are counted: a tokenizer.json, a tokenizer.model, or a directory with one of them (needed for "
     "questions)",
     0},
    {"lengths", 'l', "LIST", 0,
     "lengths of prompts in tokens; 64..1024 stands for 64,128,256,512,1024 (default 64..1024)", 0},
    {"depths", 'd', "LIST", 0,
     "where the statement stands that is asked for: 0 first, 1 last (default 0,0.25,0.5,0.75,1)", 0},
    {"items", 'n', "N", 0, "questions of each length and depth (default 20)", 0},
    {"texts", 'x', "N", 0, "texts to train on (default none)", 0},
    {"seq-len", KEY_SEQ_LEN, "N", 0, "tokens of each of them, BOS and EOS included (default 256)", 0},
    {"words", KEY_WORDS, "N", 0, "how many words to draw from, half of them keys (default all)", 0},
    {"seed", 'S', "S", 0, "of all that is drawn (default 1)", 0},
    {0},
};

// ---- Lists ---------------------------------------------------------------------------------------------

static void add_length(struct argp_state *state, struct options *options, int64_t length) {
    for (int i = 0; i < options->plan.n_lengths; i++)
        if (options->lengths[i] == length) argp_error(state, "--lengths: %" PRIi64 " twice", length);
    if (options->plan.n_lengths == MAX_LENGTHS)
        argp_error(state, "--lengths: more than %d of them", MAX_LENGTHS);
    options->lengths[options->plan.n_lengths++] = length;
}

static int64_t read_length(struct argp_state *state, const char *text) {
    return kvdata_int_option(state, "lengths", text, 1, KV_RECALL_MAX_LENGTH);
}

// "64" or "64..1024", doubling.
static void add_lengths(struct argp_state *state, struct options *options, char *entry) {
    char *dots = strstr(entry, "..");
    if (dots) *dots = '\0';
    const int64_t first = read_length(state, entry), last = dots ? read_length(state, dots + 2) : first;
    if (last < first)
        argp_error(state, "--lengths: '%s..%s', expected the smaller one first", entry, dots + 2);
    for (int64_t length = first; length <= last; length *= 2) add_length(state, options, length);
}

static void add_depth(struct argp_state *state, struct options *options, char *entry) {
    const double depth = kvdata_real_option(state, "depths", entry, 0, 1);
    for (int i = 0; i < options->plan.n_depths; i++)
        if (options->depths[i] == depth) argp_error(state, "--depths: %g twice", depth);
    if (options->plan.n_depths == MAX_DEPTHS) argp_error(state, "--depths: more than %d of them", MAX_DEPTHS);
    options->depths[options->plan.n_depths++] = depth + 0.0; // -0 is 0
}

// Calls `add` for what commas separate.
static void each_entry(struct argp_state *state, struct options *options, const char *text,
                       void add(struct argp_state *, struct options *, char *)) {
    char *copy = strdup(text), *rest = copy;
    if (!copy) argp_failure(state, 1, 0, "out of memory");
    for (char *entry; (entry = strsep(&rest, ","));) add(state, options, entry);
    free(copy);
}

static void set_lengths(struct argp_state *state, struct options *options, const char *text) {
    options->plan.n_lengths = 0;
    each_entry(state, options, text, add_lengths);
}

static void set_depths(struct argp_state *state, struct options *options, const char *text) {
    options->plan.n_depths = 0;
    each_entry(state, options, text, add_depth);
}

// ---- The command ---------------------------------------------------------------------------------------

static bool is_file(const char *out) {
    return kv_path_is_named(out, ".jsonl");
}

static void check(struct argp_state *state, struct options *options) {
    if (!options->out) argp_error(state, "--out DIR or FILE is needed");
    if (!options->tokenizer && !options->plan.n_texts)
        argp_error(state, "--tokenizer PATH is needed, or --texts N for training texts alone");
    if (options->plan.n_texts && is_file(options->out))
        argp_error(state, "--out: '%s', expected a directory for --texts", options->out);
}

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *options = state->input;
    kv_recall_plan *plan = &options->plan;
    switch (key) {
    case 'o': options->out = text; return 0;
    case 't': options->tokenizer = text; return 0;
    case 'l': set_lengths(state, options, text); return 0;
    case 'd': set_depths(state, options, text); return 0;
    case 'n': plan->n_items = kvdata_int_option(state, "items", text, 1, INT32_MAX); return 0;
    case 'x': plan->n_texts = kvdata_int_option(state, "texts", text, 0, INT32_MAX); return 0;
    case KEY_SEQ_LEN:
        plan->n_tokens = kvdata_int_option(state, "seq-len", text, 1, KV_RECALL_MAX_LENGTH);
        return 0;
    case KEY_WORDS: options->words = kvdata_int_option(state, "words", text, 4, INT32_MAX); return 0;
    case 'S': options->seed = (uint64_t)kvdata_int_option(state, "seed", text, 0, INT64_MAX); return 0;
    case ARGP_KEY_INIT:
        set_lengths(state, options, "64..1024");
        set_depths(state, options, "0,0.25,0.5,0.75,1");
        return 0;
    case ARGP_KEY_END: check(state, options); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_summary(const struct options *options, const kv_recall *recall) {
    const kv_recall_plan *plan = &options->plan;
    if (plan->n_items)
        printf("%" PRIi64 " questions: %d lengths, %d depths, %" PRIi64 " of each\n",
               plan->n_items * plan->n_lengths * plan->n_depths, plan->n_lengths, plan->n_depths,
               plan->n_items);
    if (plan->n_texts) printf("%" PRIi64 " texts of %" PRIi64 " tokens\n", plan->n_texts, plan->n_tokens);
    printf("of %" PRIi64 " words %s; written to %s\n", recall->n_words,
           recall->from_vocabulary ? "of the tokenizer" : "of the list", options->out);
}

static kv_status write_all(const struct options *options, const kv_tokenizer *tokenizer, kv_error *err) {
    kv_recall recall;
    kv_status status = kv_recall_open(tokenizer, options->words, options->seed, &recall, err);
    if (status) return options->tokenizer ? kv_fail_within(err, status, "%s", options->tokenizer) : status;
    if (is_file(options->out))
        status = kv_recall_write_items(&recall, &options->plan, options->out, err);
    else
        status = kv_recall_write(&recall, &options->plan, options->out, err);
    if (!status) print_summary(options, &recall);
    kv_recall_free(&recall);
    return status;
}

int kvdata_recall(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--out DIR|FILE",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    struct options options = {.plan = {.n_items = 20, .n_tokens = 256}, .seed = 1};
    options.plan.lengths = options.lengths, options.plan.depths = options.depths;
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    kv_tokenizer *tokenizer = NULL;
    kv_status status = KV_OK;
    if (options.tokenizer)
        status = kv_tokenizer_open(options.tokenizer, &tokenizer, &err);
    else
        options.plan.n_items = 0;
    if (!status) status = write_all(&options, tokenizer, &err);
    kv_tokenizer_free(tokenizer);
    return kvdata_result(status, &err);
}
