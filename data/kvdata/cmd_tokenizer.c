// kvdata tokenizer: a SentencePiece model by spm_train (data/tokenizer/train.h).
#include "data/file/path.h"
#include "data/kvdata/kvdata.h"
#include "data/system/help.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

enum { max_inputs = 256 };

struct options {
    const char *inputs[max_inputs], *out;
    size_t n_inputs;
    int64_t vocab_size;
    kv_documents_options text;
};

static const char doc[] =
    "Trains a SentencePiece tokenizer (byte-pair encoding with byte fallback) by running the program "
    "spm_train (package sentencepiece).\v"
    "The model is written to PREFIX.model. Inputs are read as by kvdata tokenize.\n"
    "\n"
    "Example:\n"
    "  kvdata tokenizer --input corpus.jsonl --vocab-size 640 --out my/tokenizer";

enum { KEY_TEXT_KEY = 256, KEY_FORMAT };

static const struct argp_option option_list[] = {
    {"input", 'i', "FILE", 0, "text to train on; may be given several times (needed)", 0},
    {"text-key", KEY_TEXT_KEY, "KEY", 0,
     "the key of the text in JSON lines (default text); a.b is the key b within a", 0},
    {"format", KEY_FORMAT, "text|jsonl", 0, "what all inputs are (default: as their first lines show)", 0},
    {"vocab-size", 'v', "N", 0, "number of pieces, with 3 special ones and 256 bytes (default 1024)", 0},
    {"out", 'o', "PREFIX", 0, "write PREFIX.model (needed)", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *options = state->input;
    switch (key) {
    case 'i':
        if (options->n_inputs == max_inputs) argp_error(state, "more than %d inputs", max_inputs);
        options->inputs[options->n_inputs++] = text;
        return 0;
    case KEY_TEXT_KEY: options->text.text_key = text; return 0;
    case KEY_FORMAT: options->text.format = kvdata_format_option(state, text); return 0;
    case 'v': options->vocab_size = kvdata_int_option(state, "vocab-size", text, 260, 1 << 24); return 0;
    case 'o': options->out = text; return 0;
    case ARGP_KEY_END:
        if (!options->n_inputs) argp_error(state, "--input FILE is needed");
        if (!options->out) argp_error(state, "--out PREFIX is needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static kv_status describe(const char *path, kv_error *err) {
    kv_tokenizer *tokenizer = NULL;
    kv_status status = kv_tokenizer_open(path, &tokenizer, err);
    if (status) return status;
    printf("%s: %" PRIi64 " pieces, hash %s\n", path, kv_tokenizer_vocab_size(tokenizer),
           kv_tokenizer_hash(tokenizer));
    kv_tokenizer_free(tokenizer);
    return KV_OK;
}

int kvdata_tokenizer(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--input FILE --out PREFIX",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    struct options options = {.vocab_size = 1024};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    char path[PATH_MAX];
    const bool has_ending = kv_path_ends(options.out, ".model");
    kv_status status = KV_OK;
    if (snprintf(path, sizeof path, "%s%s", options.out, has_ending ? "" : ".model") >= (int)sizeof path)
        status = kv_path_too_long(options.out, &err);
    if (!status)
        status = kv_tokenizer_train_as(options.inputs, options.n_inputs, &options.text, options.vocab_size,
                                       path, &err);
    if (!status) status = describe(path, &err);
    return kvdata_result(status, &err);
}
