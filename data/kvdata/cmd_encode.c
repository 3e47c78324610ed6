// kvdata encode and decode, which turn each other's output back byte by byte: for scripts, and to look at
// what a tokenizer does.
#include "data/file/plain.h"
#include "data/kvdata/kvdata.h"
#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/system/help.h"
#include "data/system/number.h"
#include "data/system/warning.h"
#include "data/tokenizer/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// kvdata encode and kvdata decode: texts to ids and back, to look at or in a pipe.

struct options {
    const char *tokenizer;
    bool bos, plain;
    char **rest;
    int n_rest;
};

static const char encode_doc[] =
    "Prints the token ids of standard input, all of it one text, on one line; or of each TEXT on a line of its "
    "own.\v"
    "Special tokens spelt in the text (<|endoftext|>) are recognised where a tokenizer.json says so. Any bytes "
    "will do: what is no UTF-8 is encoded byte by byte.\n"
    "\n"
    "Examples:\n"
    "  kvdata encode -t my/tokenizer.model --bos \"In which country is Chaco?\"\n"
    "  kvdata encode -t my/tokenizer.model <prompt.txt >prompt.ids";

static const char decode_doc[] =
    "Prints the text of the token ids in standard input, which white space separates, byte by byte and nothing "
    "behind it; or of the IDs given, with a line end.\v"
    "Examples; the second gives a file back byte by byte:\n"
    "  kvdata decode -t my/tokenizer.model 1 517 300 2\n"
    "  kvdata encode -t my/tokenizer.model <prompt.txt | \\\n"
    "    kvdata decode -t my/tokenizer.model >prompt.again";

#define TOKENIZER_OPTION                                                                                     \
    {                                                                                                        \
        "tokenizer", 't', "PATH", 0,                                                                         \
            "a tokenizer.json, a SentencePiece tokenizer.model, or a directory with one of them (needed)", 0 \
    }

static const struct argp_option encode_options[] = {
    TOKENIZER_OPTION,
    {"bos", 'b', 0, 0, "begin with the token that prompts begin with", 0},
    {"plain", 'p', 0, 0, "take special tokens spelt in the text for text", 0},
    {0},
};
static const struct argp_option decode_options[] = {TOKENIZER_OPTION, {0}};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *options = state->input;
    switch (key) {
    case 't': options->tokenizer = text; return 0;
    case 'b': options->bos = true; return 0;
    case 'p': options->plain = true; return 0;
    case ARGP_KEY_ARGS:
        options->rest = state->argv + state->next;
        options->n_rest = state->argc - state->next;
        return 0;
    case ARGP_KEY_END:
        if (!options->tokenizer) argp_error(state, "--tokenizer PATH is needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// All of standard input. Waiting for it is ended by the first Ctrl-C.
static kv_status read_input(kv_bytes *input, kv_error *err) {
    for (;;) {
        struct pollfd wait = {.fd = STDIN_FILENO, .events = POLLIN};
        const int ready = kv_console_poll(&wait, 1, -1); // a signal would not end read()
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        if (ready < 0) return kv_fail(err, KV_ERR_IO, "cannot read standard input: %s", strerror(errno));
        kv_status status = kv_bytes_reserve(input, 1 << 16, err);
        if (status) return status;
        ssize_t n = read(STDIN_FILENO, input->data + input->length, 1 << 16);
        if (n == 0) return KV_OK;
        if (n < 0 && errno != EINTR)
            return kv_fail(err, KV_ERR_IO, "cannot read standard input: %s", strerror(errno));
        if (n > 0) input->length += (size_t)n;
    }
}

// ---- encode --------------------------------------------------------------------------------------------

static kv_status encode_text(const kv_tokenizer *tokenizer, const struct options *options, const char *text,
                             size_t length, kv_error *err) {
    int32_t *ids = NULL;
    int64_t n = 0;
    kv_status status = options->plain ? kv_tokenizer_encode_plain(tokenizer, text, length, &ids, &n, err)
                                      : kv_tokenizer_encode(tokenizer, text, length, &ids, &n, err);
    if (status) return status;
    if (options->bos) printf("%" PRIi32 "%s", kv_tokenizer_bos(tokenizer), n ? " " : "");
    for (int64_t t = 0; t < n; t++) printf("%s%" PRIi32, t ? " " : "", ids[t]);
    putchar('\n');
    free(ids);
    return KV_OK;
}

static kv_status encode(const kv_tokenizer *tokenizer, const struct options *options, kv_error *err) {
    if (options->bos && kv_tokenizer_bos(tokenizer) < 0)
        return kv_fail(err, KV_ERR_ARGUMENT, "--bos: prompts begin with no such token in %s",
                       options->tokenizer);
    kv_bytes input = {0};
    kv_status status = options->n_rest ? KV_OK : read_input(&input, err);
    if (!status && input.length > 0 &&
        (kv_byte_order_mark(input.data, input.length) || memmem(input.data, input.length, "\r\n", 2)))
        kv_warn(
            "standard input has a byte order mark or CR LF line ends, and they are encoded too; kvrun and kvdata "
            "tokenize read such text without them (dos2unix takes them away)");
    if (!status && !options->n_rest) status = encode_text(tokenizer, options, input.data, input.length, err);
    for (int i = 0; i < options->n_rest && !status; i++)
        status = encode_text(tokenizer, options, options->rest[i], strlen(options->rest[i]), err);
    kv_bytes_free(&input);
    return status;
}

// ---- decode --------------------------------------------------------------------------------------------

// The ids in a NUL-terminated text.
static kv_status parse_ids(const char *text, kv_ids *ids, kv_error *err) {
    static const char white_space[] = " \t\n\v\f\r";
    kv_status status = KV_OK;
    for (text += strspn(text, white_space); *text && !status; text += strspn(text, white_space)) {
        const char *end = text;
        int64_t id;
        size_t length = strcspn(text, white_space);
        if (!kv_take_whole(&end, &id) || end != text + length || id < INT32_MIN || id > INT32_MAX)
            return kv_fail(err, KV_ERR_ARGUMENT, "'%.*s' is not a token id, expected a whole number",
                           (int)(length < 60 ? length : 60), text);
        status = kv_ids_add(ids, (int32_t)id, err);
        text = end;
    }
    return status;
}

static kv_status read_ids(const struct options *options, kv_ids *ids, kv_error *err) {
    kv_status status = KV_OK;
    for (int i = 0; i < options->n_rest && !status; i++) status = parse_ids(options->rest[i], ids, err);
    if (options->n_rest) return status;
    kv_bytes input = {0};
    status = read_input(&input, err);
    if (!status && input.length > 0 && memchr(input.data, '\0', input.length))
        status = kv_fail(err, KV_ERR_ARGUMENT, "a NUL byte in standard input, expected token ids");
    if (!status) status = kv_bytes_add(&input, "", 1, err);
    if (!status) status = parse_ids(input.data + kv_byte_order_mark(input.data, input.length), ids, err);
    kv_bytes_free(&input);
    return status;
}

static kv_status decode(const kv_tokenizer *tokenizer, const struct options *options, kv_error *err) {
    kv_ids ids = {0};
    char *text = NULL;
    size_t length = 0;
    kv_status status = read_ids(options, &ids, err);
    if (!status) status = kv_tokenizer_decode(tokenizer, ids.data, (int64_t)ids.length, &text, &length, err);
    if (!status) {
        fwrite(text, 1, length, stdout);
        if (options->n_rest) putchar('\n');
    }
    free(text);
    kv_ids_free(&ids);
    return status;
}

// ---- Both ----------------------------------------------------------------------------------------------

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
    static const struct argp argp = {.options = encode_options,
                                     .parser = parse,
                                     .args_doc = "--tokenizer PATH [TEXT...]",
                                     .doc = encode_doc,
                                     .help_filter = kv_help_filter};
    return run(argc, argv, &argp, encode);
}

int kvdata_decode(int argc, char **argv) {
    static const struct argp argp = {.options = decode_options,
                                     .parser = parse,
                                     .args_doc = "--tokenizer PATH [ID...]",
                                     .doc = decode_doc,
                                     .help_filter = kv_help_filter};
    return run(argc, argv, &argp, decode);
}
