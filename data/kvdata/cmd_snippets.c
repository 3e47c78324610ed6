// kvdata snippets: the Python tasks of data/synthetic/snippets.h.
#include "data/kvdata/kvdata.h"
#include "data/synthetic/snippets.h"
#include "data/system/help.h"

#include <inttypes.h>
#include <stdio.h>

struct options {
    const char *out;
    kv_snippets_options snippets;
};

static const char doc[] =
    "Makes up small Python tasks in HumanEval's format: functions over numbers, texts and lists, each a "
    "composition of DEPTH operations that its docstring states in words.\v"
    "Writes into DIR\n"
    "  train.jsonl              solved prompts, for tokenizer, base and aux\n"
    "  predictor_train.jsonl    the same without a fifth of the compositions\n"
    "  held_out.jsonl           texts of compositions that nobody is trained on\n"
    "  problems_trained.jsonl   problems of compositions that are in both texts\n"
    "  problems_known.jsonl     of that fifth, which the predictors never see\n"
    "  problems_held_out.jsonl  of compositions that are in no training text\n"
    "  snippets.json            what is in it\n"
    "A composition is a sequence of operations; constants, wording and examples differ from text to text.\n"
    "\n"
    "Example:\n"
    "  kvdata snippets --train 500 --out snippets";

static const struct argp_option option_list[] = {
    {"out", 'o', "DIR", 0, "where to write (needed)", 0},
    {"depth", 'd', "D", 0, "operations in a composition, 2 to 4 (default 3)", 0},
    {"train", 'n', "N", 0, "compositions in the training text (default 3000)", 0},
    {"held-out", 'f', "N", 0, "compositions in no training text (default 600)", 0},
    {"texts", 't', "N", 0, "texts of each composition (default 6)", 0},
    {"examples", 'e', "N", 0, "examples in a docstring, 0 to 3 (default 0)", 0},
    {"seed", 'S', "S", 0, "of choice, constants, wording and examples (default 1)", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *options = state->input;
    kv_snippets_options *o = &options->snippets;
    switch (key) {
    case 'o': options->out = text; return 0;
    case 'd': o->depth = kvdata_int_option(state, "depth", text, 2, KV_SNIPPET_MAX_DEPTH); return 0;
    case 'n': o->n_train = kvdata_int_option(state, "train", text, 1, INT32_MAX); return 0;
    case 'f': o->n_held_out = kvdata_int_option(state, "held-out", text, 0, INT32_MAX); return 0;
    case 't': o->n_texts = kvdata_int_option(state, "texts", text, 1, INT32_MAX); return 0;
    case 'e': o->n_examples = kvdata_int_option(state, "examples", text, 0, 3); return 0;
    case 'S': o->seed = (uint64_t)kvdata_int_option(state, "seed", text, 0, INT64_MAX); return 0;
    case ARGP_KEY_END:
        if (!options->out) argp_error(state, "--out DIR is needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_table(const kv_snippets *snippets, const char *directory) {
    const kv_snippets_options *o = &snippets->options;
    printf("%-10s %12s %12s %18s\n", "split", "compositions", "base's texts", "predictors' texts");
    for (int s = 0; s < KV_SNIPPET_SPLITS; s++) {
        int64_t begin, end, texts = o->n_texts;
        kv_snippets_range(snippets, (kv_snippet_split)s, &begin, &end);
        texts *= s == KV_SNIPPET_HELD_OUT ? 0 : end - begin;
        printf("%-10s %12" PRIi64 " %12" PRIi64 " %18" PRIi64 "\n",
               kv_snippet_split_name((kv_snippet_split)s), end - begin, texts,
               s == KV_SNIPPET_KNOWN ? 0 : texts);
    }
    printf("of %" PRIi64 " compositions of %" PRIi64 " operations; written to %s\n", snippets->n_available,
           snippets->options.depth, directory);
}

int kvdata_snippets(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--out DIR",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    struct options options = {
        .snippets = {
            .depth = 3, .n_train = 3000, .n_held_out = 600, .n_texts = 6, .n_examples = 0, .seed = 1}};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    kv_snippets snippets = {0};
    kv_status status = kv_snippets_build(&options.snippets, &snippets, &err);
    if (!status) status = kv_snippets_write(&snippets, options.out, &err);
    if (!status) print_table(&snippets, options.out);
    kv_snippets_free(&snippets);
    return kvdata_result(status, &err);
}
