// Reading, encoding and writing go on side by side in three blocks of documents. Everything that decides what comes
// out is in the order of documents, so that threads change only how long it takes.
#include "core/text.h"
#include "data/kvdata/tokenize/tokenize.h"
#include "data/system/console.h"
#include "data/system/limits.h"
#include "data/system/warning.h"

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

// Of bad documents the first so many are shown; all are counted.
enum { SHOWN_BAD = 5 };

// Text in a block, for each thread, and in what one thread encodes at a time.
enum { BLOCK_BYTES = 1 << 18, PIECE_BYTES = 1 << 14 };

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
    case TOKENIZE_CHARS:
        counts->too_few_chars++;
        counts->short_bytes += (int64_t)document->length;
        break;
    case TOKENIZE_TOKENS:
        counts->too_few_tokens++;
        counts->short_bytes += (int64_t)document->length;
        break;
    case TOKENIZE_BAD:
        counts->bad++;
        counts->bad_bytes += (int64_t)document->length;
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

// ---- What is lost --------------------------------------------------------------------------------------

static double percent(int64_t part, int64_t of) {
    return of > 0 ? 100 * (double)part / (double)of : 0;
}

// By documents or by their text, whichever is more.
static void warn_of_loss(const struct job *job) {
    const tokenize_counts *c = &job->counts;
    const tokenize_options *o = job->options;
    const int64_t n_short = c->too_few_chars + c->too_few_tokens, n = c->documents + n_short + c->bad,
                  bytes = c->bytes + c->short_bytes + c->bad_bytes;
    const bool filtered = o->min_chars > 0 || o->min_tokens > 0;
    if (kv_much_is_lost(n_short, n) || kv_much_is_lost(c->short_bytes, bytes))
        kv_warn("%" PRIi64 " of %" PRIi64 " documents (%.3g %%), %.3g %% of the text, are left out as %s%s",
                n_short, n, percent(n_short, n), percent(c->short_bytes, bytes),
                filtered ? "too short" : "empty", filtered ? "; --min-chars 0 --min-tokens 0 keep them" : "");
    if (kv_much_is_lost(c->bad, n) || kv_much_is_lost(c->bad_bytes, bytes))
        kv_warn("%" PRIi64 " of %" PRIi64
                " documents (%.3g %%), %.3g %% of the input, are left out as bad, the "
                "first: %.*s; see --text-key and --format",
                c->bad, n, percent(c->bad, n), percent(c->bad_bytes, bytes), KV_HEAD(job->first_bad, 300));
}

// ---- The whole -----------------------------------------------------------------------------------------

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
    const bool one = options->n_inputs == 1 && strcmp(options->inputs[0], "-") != 0;
    kv_progress_begin(&job->progress, stderr,
                      options->source ? options->source
                      : one           ? options->inputs[0]
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
    if (!status) warn_of_loss(job);
    return status;
}

kv_status tokenize_run(const tokenize_options *options, tokenize_result *result, kv_error *err) {
    struct job job = {.options = options};
    kv_status status = tokenize(&job, err);
    *result = (tokenize_result){.counts = job.counts};
    if (!status) {
        result->shards = tokenize_sink_shards(job.sink);
        result->has_eos = kv_tokenizer_eos(job.tokenizer) >= 0;
    }
    tokenize_reader_close(&job.reader);
    tokenize_sink_free(job.sink);
    kv_tokenizer_free(job.tokenizer);
    kv_bundle_free(&job.tokenizer_files);
    kv_text_files_free(&job.files);
    for (int i = 0; i < N_BLOCKS; i++) tokenize_block_free(&job.blocks[i]);
    return status;
}
