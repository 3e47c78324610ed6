#include "data/kvdata.h"
#include "data/tokenizer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// kvdata encode and kvdata decode: one line each way, to look at what a tokenizer does.

struct options {
    const char *tokenizer;
    char **rest;
    int n_rest;
};

static const char encode_doc[] =
    "Prints the token ids of TEXT (without BOS and EOS) on one line.\v"
    "Example: kvdata encode --tokenizer runs/atlas/tokenizer.model \"Which country has the code BW?\"";

static const char decode_doc[] = "Prints the text of token ids.\v"
                                 "Example: kvdata decode --tokenizer runs/atlas/tokenizer.model 1 517 300 2";

static const struct argp_option option_list[] = {
    {"tokenizer", 't', "FILE", 0, "a SentencePiece model, or a directory with a tokenizer.model (needed)", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *options = state->input;
    switch (key) {
    case 't': options->tokenizer = text; return 0;
    case ARGP_KEY_ARGS:
        options->rest = state->argv + state->next;
        options->n_rest = state->argc - state->next;
        return 0;
    case ARGP_KEY_END:
        if (!options->tokenizer) argp_error(state, "--tokenizer FILE is needed");
        if (!options->n_rest) argp_error(state, "nothing to work on");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static kv_status encode(const kv_tokenizer *tokenizer, const struct options *options, kv_error *err) {
    for (int i = 0; i < options->n_rest; i++) {
        int32_t *ids = NULL;
        int64_t n = 0;
        kv_status status =
            kv_tokenizer_encode(tokenizer, options->rest[i], strlen(options->rest[i]), &ids, &n, err);
        if (status) return status;
        for (int64_t t = 0; t < n; t++) printf("%s%" PRIi32, t ? " " : "", ids[t]);
        putchar('\n');
        free(ids);
    }
    return KV_OK;
}

static kv_status decode(const kv_tokenizer *tokenizer, const struct options *options, kv_error *err) {
    int32_t *ids = malloc((size_t)options->n_rest * sizeof *ids);
    if (!ids) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %d tokens", options->n_rest);
    kv_status status = KV_OK;
    for (int i = 0; !status && i < options->n_rest; i++) {
        char *end = NULL;
        long long id = strtoll(options->rest[i], &end, 10);
        if (end == options->rest[i] || *end || id < INT32_MIN || id > INT32_MAX)
            status = kv_fail(err, KV_ERR_ARGUMENT, "'%s' is not a token id, expected a whole number",
                             options->rest[i]);
        ids[i] = (int32_t)id;
    }
    char *text = NULL;
    size_t length = 0;
    if (!status) status = kv_tokenizer_decode(tokenizer, ids, options->n_rest, &text, &length, err);
    if (!status) {
        fwrite(text, 1, length, stdout);
        putchar('\n');
    }
    free(text);
    free(ids);
    return status;
}

static int run(int argc, char **argv, const struct argp *argp,
               kv_status (*work)(const kv_tokenizer *, const struct options *, kv_error *)) {
    struct options options = {0};
    if (argp_parse(argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    kv_tokenizer *tokenizer = NULL;
    kv_status status = kv_tokenizer_open(options.tokenizer, &tokenizer, &err);
    if (!status) status = work(tokenizer, &options, &err);
    kv_tokenizer_free(tokenizer);
    return kvdata_result(status, &err);
}

int kvdata_encode(int argc, char **argv) {
    static const struct argp argp = {
        .options = option_list, .parser = parse, .args_doc = "--tokenizer FILE TEXT...", .doc = encode_doc};
    return run(argc, argv, &argp, encode);
}

int kvdata_decode(int argc, char **argv) {
    static const struct argp argp = {
        .options = option_list, .parser = parse, .args_doc = "--tokenizer FILE ID...", .doc = decode_doc};
    return run(argc, argv, &argp, decode);
}
