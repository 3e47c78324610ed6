#include "data/console.h"
#include "data/documents.h"
#include "data/kvdata.h"
#include "data/shard.h"
#include "data/tokenizer.h"
#include "data/unicode.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *tokenizer, *out;
    char **inputs;
    int n_inputs;
    int64_t min_chars, min_tokens;
    bool nfc;
};

struct counts {
    int64_t documents, too_few_chars, too_few_tokens, tokens, bytes;
};

struct job {
    const struct options *options;
    kv_tokenizer *tokenizer;
    kv_shard_writer *writer;
    struct counts counts;
    int32_t *framed; // one document with BOS and EOS
    int64_t capacity;
    kv_bytes normal; // one document in normalisation form C
};

static const char doc[] =
    "Turns text into a token shard, which kvtrain reads. BOS and EOS, of those that the tokenizer has, are added "
    "to each document.\v"
    "An INPUT named .jsonl or .json holds one JSON object a line with the text under the key \"text\"; any "
    "other is "
    "plain text with blank lines between documents. Both may be gzipped (.gz). Ctrl-C leaves no shard "
    "behind.\n"
    "\n"
    "--nfc puts every document into Unicode's normalisation form C first (one spelling for each accented "
    "letter), as was done to what OpenELM was trained on; tokenizers that ask for it themselves, as Qwen's, do "
    "so anyway. --min-chars counts what comes of it.\n"
    "\n"
    "Example: kvdata tokenize --tokenizer runs/atlas/tokenizer.model --out runs/atlas/train.h5 "
    "runs/atlas/train.jsonl";

static const struct argp_option option_list[] = {
    {"tokenizer", 't', "PATH", 0,
     "a tokenizer.json, a SentencePiece tokenizer.model, or a directory with one of them (needed)", 0},
    {"out", 'o', "SHARD.h5", 0, "where to write (needed)", 0},
    {"min-chars", 'c', "N", 0, "drop documents of fewer characters (default 0; the paper: 200)", 0},
    {"min-tokens", 'm', "N", 0,
     "drop documents of fewer tokens, BOS and EOS not counted (default 0; the paper: 256)", 0},
    {"nfc", 'n', 0, 0, "normalise documents to NFC", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *options = state->input;
    switch (key) {
    case 't': options->tokenizer = text; return 0;
    case 'o': options->out = text; return 0;
    case 'n': options->nfc = true; return 0;
    case 'c': options->min_chars = kvdata_int_option(state, "min-chars", text, 0, INT32_MAX); return 0;
    case 'm': options->min_tokens = kvdata_int_option(state, "min-tokens", text, 0, INT32_MAX); return 0;
    case ARGP_KEY_ARGS:
        options->inputs = state->argv + state->next;
        options->n_inputs = state->argc - state->next;
        return 0;
    case ARGP_KEY_END:
        if (!options->tokenizer) argp_error(state, "--tokenizer PATH is needed");
        if (!options->out) argp_error(state, "--out SHARD.h5 is needed");
        if (!options->n_inputs) argp_error(state, "at least one INPUT is needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// Characters of UTF-8 text: all bytes but those that continue a character.
static int64_t count_chars(const char *text, size_t length) {
    int64_t n = 0;
    for (size_t i = 0; i < length; i++) n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

static kv_status add_framed(struct job *job, const int32_t *ids, int64_t n, kv_error *err) {
    if (job->capacity < n + 2) {
        int32_t *larger = realloc(job->framed, (size_t)(2 * n + 2) * sizeof *larger);
        if (!larger)
            return kv_fail(err, KV_ERR_MEMORY, "out of memory for a document of %" PRIi64 " tokens", n);
        job->framed = larger;
        job->capacity = 2 * n + 2;
    }
    int32_t bos = kv_tokenizer_bos(job->tokenizer), eos = kv_tokenizer_eos(job->tokenizer);
    int64_t used = 0;
    if (bos >= 0) job->framed[used++] = bos;
    memcpy(job->framed + used, ids, (size_t)n * sizeof *ids);
    used += n;
    if (eos >= 0) job->framed[used++] = eos;
    job->counts.documents++;
    job->counts.tokens += used;
    return kv_shard_writer_add(job->writer, job->framed, used, err);
}

static kv_status add_document(struct job *job, const char *text, size_t length, kv_error *err) {
    if (job->options->nfc) {
        job->normal.length = 0;
        kv_status status = kv_nfc(text, length, &job->normal, err);
        if (status) return status;
        text = job->normal.data;
        length = job->normal.length;
    }
    if (length == 0 || count_chars(text, length) < job->options->min_chars) {
        job->counts.too_few_chars++;
        return KV_OK;
    }
    int32_t *ids = NULL;
    int64_t n = 0;
    kv_status status = kv_tokenizer_encode(job->tokenizer, text, length, &ids, &n, err);
    if (!status && n < job->options->min_tokens) {
        job->counts.too_few_tokens++;
    } else if (!status) {
        job->counts.bytes += (int64_t)length;
        status = add_framed(job, ids, n, err);
    }
    free(ids);
    return status;
}

static kv_status add_input(struct job *job, const char *path, kv_error *err) {
    kv_documents *documents = NULL;
    kv_status status = kv_documents_open(path, &documents, err);
    if (status) return status;
    kv_progress progress;
    kv_progress_begin(&progress, stderr, path, kv_documents_size(documents));
    char note[64] = "";
    int64_t n = 0;
    while (!status) {
        const char *text = NULL;
        size_t length = 0;
        status = kv_documents_next(documents, &text, &length, err);
        if (status || !text) break;
        status = add_document(job, text, length, err);
        n++;
        if (kv_console_interrupted())
            status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted; %s was not written", job->options->out);
        else if (status)
            status = kv_fail_within(err, status, "%s, document %" PRIi64, path, n);
        snprintf(note, sizeof note, "%" PRIi64 " tokens", job->counts.tokens);
        kv_progress_show(&progress, kv_documents_position(documents), note);
    }
    if (!status) kv_progress_show(&progress, kv_documents_size(documents), note);
    kv_progress_end(&progress, note);
    kv_documents_close(documents);
    return status;
}

static kv_status open_writer(struct job *job, kv_error *err) {
    kv_shard_info info = {.vocab_size = kv_tokenizer_vocab_size(job->tokenizer),
                          .bos_id = kv_tokenizer_bos(job->tokenizer),
                          .eos_id = kv_tokenizer_eos(job->tokenizer)};
    snprintf(info.tokenizer, sizeof info.tokenizer, "%s", kv_tokenizer_hash(job->tokenizer));
    size_t used = 0;
    for (int i = 0; i < job->options->n_inputs && used < sizeof info.source; i++)
        used += (size_t)snprintf(info.source + used, sizeof info.source - used, "%s%s", i ? " " : "",
                                 job->options->inputs[i]);
    return kv_shard_writer_open(job->options->out, &info, &job->writer, err);
}

static void print_counts(const struct job *job) {
    const struct options *options = job->options;
    const struct counts *counts = &job->counts;
    bool eos = kv_tokenizer_eos(job->tokenizer) >= 0;
    printf("documents        %" PRIi64 "\n", counts->documents);
    printf("  left out       %" PRIi64 " too short, %" PRIi64 " of too few tokens\n", counts->too_few_chars,
           counts->too_few_tokens);
    printf("tokens           %" PRIi64 "\n", counts->tokens);
    printf("  per document   %.1f\n", (double)counts->tokens / (double)counts->documents);
    printf("  bytes of text  %.2f a token\n", (double)counts->bytes / (double)counts->tokens);
    if (!eos) printf("the tokenizer has no EOS: documents follow each other with nothing between them\n");
    printf("written to %s\n", options->out);
}

static kv_status tokenize(struct job *job, kv_error *err) {
    kv_status status = kv_tokenizer_open(job->options->tokenizer, &job->tokenizer, err);
    if (!status) status = open_writer(job, err);
    for (int i = 0; !status && i < job->options->n_inputs; i++)
        status = add_input(job, job->options->inputs[i], err);
    if (!status && job->counts.documents == 0)
        status =
            kv_fail(err, KV_ERR_ARGUMENT,
                    "%s: no document is left to write (%" PRIi64 " too short, %" PRIi64 " of too few tokens)",
                    job->options->out, job->counts.too_few_chars, job->counts.too_few_tokens);
    if (!status) status = kv_shard_writer_finish(job->writer, err);
    return status;
}

int kvdata_tokenize(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--tokenizer PATH --out SHARD.h5 INPUT...",
                                     .doc = doc};
    struct options options = {0};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    struct job job = {.options = &options};
    kv_status status = tokenize(&job, &err);
    if (!status) print_counts(&job);
    kv_shard_writer_free(job.writer);
    kv_tokenizer_free(job.tokenizer);
    free(job.framed);
    kv_bytes_free(&job.normal);
    return kvdata_result(status, &err);
}
