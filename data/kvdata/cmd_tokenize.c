// kvdata tokenize: its options, and what it says at the end. The work is in data/kvdata/tokenize/.
#include "data/file/path.h"
#include "data/kvdata/kvdata.h"
#include "data/kvdata/tokenize/tokenize.h"
#include "data/system/help.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const int64_t default_shard_tokens = INT64_C(1) << 24;

// ---- Options -------------------------------------------------------------------------------------------

static const char doc[] =
    "Turns text into tokens, which kvtrain reads: one shard (--out NAME.h5), or a corpus of as many as it takes "
    "(--out of any other name: a directory).\v"
    "An INPUT is a file, a directory, or - for standard input. A file whose first lines are JSON "
    "objects, whatever it is called, holds one a line, with the text under --text-key; any other is plain text with "
    "blank lines between documents; --format overrules that. JSON that is not in lines, and a file called .jsonl or "
    ".json without JSON objects, are errors. All may be gzipped. Of a directory all files in and below it "
    "are read that are called .txt, .text, .md, .jsonl, .json or .ndjson, or part-00000, with .gz or without, sorted by their "
    "paths; none that begin with a dot, and no directories behind links. BOS and EOS, of those that the tokenizer "
    "has, are added to each document.\n"
    "\n"
    "Left out are documents of fewer than 200 characters or 256 tokens, as in the paper; --min-chars 0 --min-tokens "
    "0 keep all. A line that is no JSON, or without a text under the key, is left out too: the first few are shown "
    "with file and line, all are counted. A warning says where more than a tenth is lost, of documents or of their text.\n"
    "\n"
    "A corpus is a directory with shard-00000.h5, shard-00001.h5, ... and, when all is done, index.json, which "
    "says what is in them. Stopped by Ctrl-C or worse, the same command goes on behind the last finished shard, "
    "and the corpus comes out the same to the byte; with other options or changed inputs it refuses to. What comes "
    "from standard input cannot be gone on with. One shard alone is there whole or not at all. The output does not "
    "depend on the number of threads, and memory not on the size of the input.\n"
    "\n"
    "--nfc puts every document into Unicode's normalisation form C first (one spelling for each accented "
    "letter), as was done to what OpenELM was trained on; tokenizers that ask for it themselves, as Qwen's, do "
    "so anyway. --min-chars counts what comes of it.\n"
    "\n"
    "A corpus of all texts in a directory, short ones, too; one shard of long ones\n"
    "from a pipe, with another key for the text; one shard of short documents:\n"
    "  kvdata tokenize -c 0 -m 0 -t my/tokenizer.model -o my/corpus texts/\n"
    "  sed 's/\"text\"/\"content\"/' corpus.jsonl | kvdata tokenize --format jsonl \\\n"
    "         --text-key content -t my/tokenizer.model -o my/piped.h5 -\n"
    "  kvdata tokenize -c 0 -m 0 -t runs/quickstart/data/tokenizer.model \\\n"
    "         -o my/short.h5 runs/quickstart/data/train.jsonl";

enum { KEY_TEXT_KEY = 256, KEY_FORMAT, KEY_SHARD_TOKENS, KEY_MAX_BAD, KEY_THREADS };

static const struct argp_option option_list[] = {
    {"tokenizer", 't', "PATH", 0,
     "a tokenizer.json, a SentencePiece tokenizer.model, or a directory with one of them (needed)", 0},
    {"out", 'o', "PATH", 0, "where to write: NAME.h5 for one shard, a directory for a corpus (needed)", 0},
    {"text-key", KEY_TEXT_KEY, "KEY", 0,
     "the key of the text in JSON lines (default text); a.b is the key b within a", 0},
    {"format", KEY_FORMAT, "text|jsonl", 0, "what all inputs are (default: as their first lines show)", 0},
    {"min-chars", 'c', "N", 0, "leave out documents of fewer characters (default 200; 0: none)", 0},
    {"min-tokens", 'm', "N", 0,
     "leave out documents of fewer tokens, BOS and EOS not counted (default 256; 0: none)", 0},
    {"nfc", 'n', 0, 0, "normalise documents to NFC", 0},
    {"shard-tokens", KEY_SHARD_TOKENS, "N", 0,
     "tokens a shard of a corpus: it ends with the document that reaches them (default 16777216). kvtrain has one "
     "shard of each corpus in memory, 4 bytes a token",
     0},
    {"max-bad", KEY_MAX_BAD, "N", 0, "fail at more than N lines without a text (default: any number will do)",
     0},
    {"threads", KEY_THREADS, "N", 0, "how many at a time (default: OMP_NUM_THREADS, or one for each core)",
     0},
    {"force", 'f', 0, 0, "replace a corpus that is in the directory, finished or not", 0},
    {0},
};

static void check_options(struct argp_state *state, tokenize_options *options) {
    if (!options->tokenizer) argp_error(state, "--tokenizer PATH is needed");
    if (!options->out) argp_error(state, "--out PATH is needed");
    if (!options->n_inputs) argp_error(state, "at least one INPUT is needed");
    int n_standard = 0;
    for (int i = 0; i < options->n_inputs; i++) n_standard += strcmp(options->inputs[i], "-") == 0;
    if (n_standard > 1)
        argp_error(state, "standard input (-) can be read once, found it %d times", n_standard);
    if (kv_path_ends(options->out, ".h5") && options->shard_tokens)
        argp_error(state, "--shard-tokens is for a corpus, expected --out of a directory; found %s",
                   options->out);
    if (!kv_path_ends(options->out, ".h5") && !options->shard_tokens)
        options->shard_tokens = default_shard_tokens;
}

static error_t parse(int key, char *text, struct argp_state *state) {
    tokenize_options *options = state->input;
    switch (key) {
    case 't': options->tokenizer = text; return 0;
    case 'o': options->out = text; return 0;
    case 'n': options->nfc = true; return 0;
    case 'f': options->force = true; return 0;
    case 'c': options->min_chars = kvdata_int_option(state, "min-chars", text, 0, INT32_MAX); return 0;
    case 'm': options->min_tokens = kvdata_int_option(state, "min-tokens", text, 0, INT32_MAX); return 0;
    case KEY_TEXT_KEY: options->text.text_key = text; return 0;
    case KEY_SHARD_TOKENS:
        options->shard_tokens = kvdata_int_option(state, "shard-tokens", text, 1, INT64_C(1) << 40);
        return 0;
    case KEY_MAX_BAD: options->max_bad = kvdata_int_option(state, "max-bad", text, 0, INT64_MAX); return 0;
    case KEY_THREADS: options->threads = (int)kvdata_int_option(state, "threads", text, 1, 1024); return 0;
    case KEY_FORMAT: options->text.format = kvdata_format_option(state, text); return 0;
    case ARGP_KEY_ARGS:
        options->inputs = state->argv + state->next;
        options->n_inputs = state->argc - state->next;
        return 0;
    case ARGP_KEY_END: check_options(state, options); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_result(const tokenize_options *options, const tokenize_result *result) {
    const tokenize_counts *counts = &result->counts;
    printf("documents        %" PRIi64 "\n", counts->documents);
    printf("  left out       %" PRIi64 " too short, %" PRIi64 " of too few tokens, %" PRIi64 " bad\n",
           counts->too_few_chars, counts->too_few_tokens, counts->bad);
    printf("tokens           %" PRIi64 "\n", counts->tokens);
    printf("  per document   %.1f\n", (double)counts->tokens / (double)counts->documents);
    printf("  bytes of text  %.2f a token\n", (double)counts->bytes / (double)counts->tokens);
    if (options->shard_tokens) printf("shards           %" PRIi64 "\n", result->shards);
    if (!result->has_eos)
        printf("the tokenizer has no EOS: documents follow each other with nothing between them\n");
    printf("written to %s\n", options->out);
}

int kvdata_tokenize(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--tokenizer PATH --out PATH INPUT...",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    tokenize_options options = {.min_chars = 200, .min_tokens = 256, .max_bad = -1};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    tokenize_result result;
    kv_status status = tokenize_run(&options, &result, &err);
    if (!status) print_result(&options, &result);
    return kvdata_result(status, &err);
}
