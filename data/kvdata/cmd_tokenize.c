// kvdata tokenize: reading, encoding and writing go on side by side in three blocks of documents. Everything
// that decides what comes out is in the order of documents, so that threads change only how long it takes.
#include "core/text.h"
#include "data/kvdata/kvdata.h"
#include "data/kvdata/tokenize/tokenize.h"
#include "data/system/console.h"
#include "data/system/limits.h"

#include <inttypes.h>
#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Of bad documents the first so many are shown; all are counted.
enum { SHOWN_BAD = 5 };

// Text in a block, for each thread, and in what one thread encodes at a time.
enum { BLOCK_BYTES = 1 << 18, PIECE_BYTES = 1 << 14 };

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
    "with file and line, all are counted.\n"
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
    "A corpus of all texts in a directory; one shard from a pipe, with another key\n"
    "for the text; one shard of short documents:\n"
    "  kvdata tokenize -t my/tokenizer.model -o my/corpus texts/\n"
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
    if (kv_ends_with(options->out, ".h5") && options->shard_tokens)
        argp_error(state, "--shard-tokens is for a corpus, expected --out of a directory; found %s",
                   options->out);
    if (!kv_ends_with(options->out, ".h5") && !options->shard_tokens)
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

// ---- The run -------------------------------------------------------------------------------------------

enum { N_BLOCKS = 3 }; // one is read, one encoded, one written

struct job {
    const tokenize_options *options;
    kv_text_files files;
    kv_tokenizer *tokenizer;
    kv_bundle tokenizer_files;
    tokenize_reader reader;
    tokenize_sink *sink;
    tokenize_counts counts;
    int64_t shown_bad;
    char first_bad[512];
    tokenize_block blocks[N_BLOCKS];
    kv_progress progress;
};

static void report_bad(struct job *job, const tokenize_document *document) {
    const char *path = job->files.items[document->behind.file].path;
    char text[512];
    snprintf(text, sizeof text, "%s:%" PRIi64 ": %s", strcmp(path, "-") == 0 ? "standard input" : path,
             document->line, document->why);
    if (job->shown_bad == 0) snprintf(job->first_bad, sizeof job->first_bad, "%s", text);
    if (job->shown_bad++ >= SHOWN_BAD) return;
    if (job->progress.terminal) fputs("\r\033[K", stderr);
    fprintf(stderr, "kvdata: %s; left out\n", text);
    if (job->shown_bad == SHOWN_BAD) fprintf(stderr, "kvdata: more of these are only counted\n");
}

static kv_status write_document(struct job *job, const tokenize_document *document, kv_error *err) {
    tokenize_counts *counts = &job->counts;
    kv_status status = KV_OK;
    switch (document->outcome) {
    case TOKENIZE_CHARS: counts->too_few_chars++; break;
    case TOKENIZE_TOKENS: counts->too_few_tokens++; break;
    case TOKENIZE_BAD:
        counts->bad++;
        report_bad(job, document);
        if (job->options->max_bad >= 0 && counts->bad > job->options->max_bad)
            return kv_fail(err, KV_ERR_FORMAT,
                           "%" PRIi64 " documents are bad, expected at most %" PRIi64 " (--max-bad)",
                           counts->bad, job->options->max_bad);
        break;
    case TOKENIZE_KEPT:
        counts->documents++;
        counts->tokens += document->n_ids;
        counts->bytes += (int64_t)document->length;
        status = tokenize_sink_add(job->sink, document->ids, document->n_ids, err);
        break;
    }
    return status ? status : tokenize_sink_end_document(job->sink, document->behind, counts, err);
}

static void write_block(struct job *job, tokenize_block *block) {
    for (int64_t i = 0; !block->status && i < block->n; i++)
        block->status = write_document(job, &block->documents[i], &block->err);
}

static void encode_piece(const struct job *job, tokenize_block *block, int64_t first, int64_t last) {
    kv_error err = {0};
    kv_status status = tokenize_encode(job->options, job->tokenizer, block, first, last, &err);
    if (!status) return;
#pragma omp critical(tokenize_failed)
    if (!block->status) {
        block->status = status;
        block->err = err;
    }
}

// One task for each few documents.
static void encode_block(const struct job *job, tokenize_block *block) {
    for (int64_t first = 0, last; first < block->n; first = last) {
        size_t bytes = 0;
        for (last = first; last < block->n && bytes < PIECE_BYTES; last++)
            bytes += block->documents[last].length + 64;
#pragma omp task firstprivate(first, last)
        encode_piece(job, block, first, last);
    }
}

static void show(struct job *job, int64_t position) {
    char note[96], shards[32] = "";
    if (job->options->shard_tokens)
        snprintf(shards, sizeof shards, "%" PRIi64 " shards, ", tokenize_sink_shards(job->sink));
    snprintf(note, sizeof note, "%s%" PRIi64 " tokens", shards, job->counts.tokens);
    kv_progress_show(&job->progress, position, note);
}

static kv_status interrupted(const struct job *job, kv_error *err) {
    const char *out = job->options->out;
    if (!job->options->shard_tokens)
        return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted; %s was not written", out);
    if (tokenize_sink_shards(job->sink) == 0)
        return kv_fail(err, KV_ERR_INTERRUPTED,
                       "interrupted before the first shard was full; nothing was written");
    for (int64_t i = 0; i < job->files.n; i++)
        if (job->files.items[i].stream)
            return kv_fail(err, KV_ERR_INTERRUPTED,
                           "interrupted; standard input cannot be read again: begin anew with --force");
    return kv_fail(err, KV_ERR_INTERRUPTED,
                   "interrupted, %" PRIi64 " shards are finished; the same command goes on from there",
                   tokenize_sink_shards(job->sink));
}

// Reading, encoding and writing go on side by side, each at another block. A block that failed is handed on
// too, so that all before it is written and the first to fail, in the order of documents, is what is
// reported.
static kv_status run_blocks(struct job *job, size_t block_bytes, kv_error *err) {
    bool more = true;
    for (int64_t turn = 0;; turn++) {
        tokenize_block *read = &job->blocks[turn % N_BLOCKS], *encoded = &job->blocks[(turn + 2) % N_BLOCKS],
                       *written = &job->blocks[(turn + 1) % N_BLOCKS];
        tokenize_block_clear(read);
#pragma omp task
        write_block(job, written);
        if (more) {
#pragma omp task
            tokenize_read(&job->reader, block_bytes, read);
        }
        if (!encoded->status) encode_block(job, encoded);
#pragma omp taskwait
        if (!written->status && written->last) return KV_OK;
        if (kv_console_interrupted()) return interrupted(job, err);
        if (written->status) return kv_fail(err, written->status, "%s", written->err.message);
        if (more) show(job, read->position);
        more = more && !read->last && !read->status;
    }
}

static kv_status run_threads(struct job *job, kv_error *err) {
    const int threads = job->options->threads ? job->options->threads : omp_get_max_threads();
    kv_status status = kv_limits_try_threads(threads, err);
    if (status != KV_OK) return status;
#pragma omp parallel num_threads(threads)
#pragma omp single
    status = run_blocks(job, (size_t)threads * BLOCK_BYTES, err);
    return status;
}

// Behind what an earlier run has finished.
static kv_status go_on(struct job *job, tokenize_place place, kv_error *err) {
    bool there = false;
    if (tokenize_sink_shards(job->sink) > 0)
        fprintf(stderr, "kvdata: going on behind %" PRIi64 " finished shards\n",
                tokenize_sink_shards(job->sink));
    while (!there) {
        kv_status status = tokenize_reader_seek(&job->reader, place, &there, err);
        if (status) return status;
        if (kv_console_interrupted()) return interrupted(job, err);
        show(job, tokenize_reader_position(&job->reader));
    }
    return KV_OK;
}

static kv_status nothing_left(const struct job *job, kv_error *err) {
    const tokenize_counts *counts = &job->counts;
    const tokenize_options *options = job->options;
    char advice[160] = "the input is empty";
    if (counts->too_few_chars + counts->too_few_tokens > 0)
        snprintf(advice, sizeof advice, "--min-chars 0 --min-tokens 0 keep short ones");
    else if (counts->bad > 0)
        snprintf(advice, sizeof advice, "the first: %.*s (see --text-key and --format)",
                 KV_HEAD(job->first_bad, 100));
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "%s: no document is left to write: %" PRIi64 " of fewer than %" PRIi64
                   " characters, %" PRIi64 " of fewer than %" PRIi64 " tokens, %" PRIi64 " bad; %s",
                   options->out, counts->too_few_chars, options->min_chars, counts->too_few_tokens,
                   options->min_tokens, counts->bad, advice);
}

static int64_t total_bytes(const kv_text_files *files) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < files->n; i++) {
        if (files->items[i].stream) return 0; // not known
        bytes += files->items[i].size;
    }
    return bytes;
}

static kv_status tokenize(struct job *job, kv_error *err) {
    const tokenize_options *options = job->options;
    tokenize_place begin;
    kv_status status = kv_text_files_list(options->inputs, options->n_inputs, &job->files, err);
    if (!status) status = kv_tokenizer_open(options->tokenizer, &job->tokenizer, err);
    if (!status) status = kv_tokenizer_gather(options->tokenizer, &job->tokenizer_files, err);
    if (!status)
        status = tokenize_sink_open(options, &job->files, job->tokenizer, &job->tokenizer_files, &job->sink,
                                    &begin, &job->counts, err);
    if (status) return status;
    job->reader = (tokenize_reader){.files = &job->files, .options = options->text};
    kv_progress_begin(&job->progress, stderr,
                      options->n_inputs == 1 && strcmp(options->inputs[0], "-") != 0 ? options->inputs[0]
                                                                                     : "tokenize",
                      total_bytes(&job->files));
    status = go_on(job, begin, err);
    if (!status) status = run_threads(job, err);
    if (!status && job->counts.documents == 0) {
        status = nothing_left(job, err);
        tokenize_sink_forget(job->sink);
    }
    if (!status) status = tokenize_sink_finish(job->sink, &job->counts, err);
    char note[64];
    snprintf(note, sizeof note, "%" PRIi64 " tokens", job->counts.tokens);
    kv_progress_end(&job->progress, note);
    return status;
}

static void print_counts(const struct job *job) {
    const tokenize_options *options = job->options;
    const tokenize_counts *counts = &job->counts;
    printf("documents        %" PRIi64 "\n", counts->documents);
    printf("  left out       %" PRIi64 " too short, %" PRIi64 " of too few tokens, %" PRIi64 " bad\n",
           counts->too_few_chars, counts->too_few_tokens, counts->bad);
    printf("tokens           %" PRIi64 "\n", counts->tokens);
    printf("  per document   %.1f\n", (double)counts->tokens / (double)counts->documents);
    printf("  bytes of text  %.2f a token\n", (double)counts->bytes / (double)counts->tokens);
    if (options->shard_tokens) printf("shards           %" PRIi64 "\n", tokenize_sink_shards(job->sink));
    if (kv_tokenizer_eos(job->tokenizer) < 0)
        printf("the tokenizer has no EOS: documents follow each other with nothing between them\n");
    printf("written to %s\n", options->out);
}

int kvdata_tokenize(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--tokenizer PATH --out PATH INPUT...",
                                     .doc = doc};
    tokenize_options options = {.min_chars = 200, .min_tokens = 256, .max_bad = -1};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    struct job job = {.options = &options};
    kv_status status = tokenize(&job, &err);
    if (!status) print_counts(&job);
    tokenize_reader_close(&job.reader);
    tokenize_sink_free(job.sink);
    kv_tokenizer_free(job.tokenizer);
    kv_bundle_free(&job.tokenizer_files);
    kv_text_files_free(&job.files);
    for (int i = 0; i < N_BLOCKS; i++) tokenize_block_free(&job.blocks[i]);
    return kvdata_result(status, &err);
}
