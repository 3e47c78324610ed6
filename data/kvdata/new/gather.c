// Reads what kvdata tokenize would read. Text goes to a file, since there may be more of it than memory, and since
// standard input can be read once.
#include "core/text.h"
#include "data/file/hash.h"
#include "data/kvdata/new/new.h"
#include "data/kvdata/tokenize/tokenize.h"
#include "data/system/console.h"
#include "data/system/warning.h"
#include "data/text/unicode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// Without this uthash ends the program when out of memory.
#define HASH_NONFATAL_OOM              1
#define uthash_nonfatal_oom(new_entry) (new_entry)->unlisted = true
#include <uthash.h>

// Of bad documents the first so many are shown. A paragraph that is shorter than this may stand in a text twice.
enum { SHOWN_BAD = 5, LEAST_COPY = 20, POINTS = 0x110000 };

struct known {
    uint64_t hash;
    bool unlisted;
    UT_hash_handle hh;
};

struct gathering {
    const new_options *options;
    new_text *text;
    tokenize_reader reader;
    kv_text_files files;
    struct known *known;
    int64_t *counts; // [POINTS] how often each character occurs
    char first_bad[512];
    kv_progress progress;
};

static kv_status out_of_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory");
}

static const char *name_of(const struct gathering *g) {
    const char *path = g->files.items[g->reader.file].path;
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

// ---- What is left out ----------------------------------------------------------------------------------

static void leave_out(struct gathering *g, const kv_document *document, const char *why) {
    char text[512];
    snprintf(text, sizeof text, "%s:%" PRIi64 ": %s", name_of(g), document->line, why);
    if (g->text->bad == 0) snprintf(g->first_bad, sizeof g->first_bad, "%s", text);
    if (g->text->bad++ >= SHOWN_BAD) return;
    if (g->progress.terminal) fputs("\r\033[K", stderr);
    fprintf(stderr, "kvdata: %s; left out\n", text);
    if (g->text->bad == SHOWN_BAD) fprintf(stderr, "kvdata: more of these are only counted\n");
}

static kv_status look_up(struct gathering *g, uint64_t hash, bool *before, kv_error *err) {
    struct known *entry;
    HASH_FIND(hh, g->known, &hash, sizeof hash, entry);
    *before = entry != NULL;
    if (entry) return KV_OK;
    entry = calloc(1, sizeof *entry);
    if (!entry) return out_of_memory(err);
    entry->hash = hash;
    HASH_ADD(hh, g->known, hash, sizeof hash, entry);
    if (!entry->unlisted) return KV_OK;
    free(entry);
    return out_of_memory(err);
}

static void forget(struct gathering *g) {
    struct known *entry, *next;
    HASH_ITER(hh, g->known, entry, next) {
        HASH_DEL(g->known, entry);
        free(entry);
    }
}

// ---- What is kept --------------------------------------------------------------------------------------

static void count_characters(struct gathering *g, const char *text, size_t length) {
    int32_t point;
    for (size_t n; (n = kv_utf8_next(text, length, &point)) > 0; text += n, length -= n) g->counts[point]++;
}

static kv_status keep(struct gathering *g, const kv_document *document, uint64_t hash, kv_error *err) {
    new_text *t = g->text;
    new_piece *more = kv_room_for_one(t->pieces, (size_t)t->n, sizeof *more);
    if (!more) return out_of_memory(err);
    t->pieces = more;
    const bool plain = !kv_documents_are_json(g->reader.documents);
    new_piece *last = t->n > 0 ? &more[t->n - 1] : NULL;
    // Paragraphs of one file are laid down with the blank line that was between them.
    if (plain && last && last->joins && last->file == g->reader.file) {
        fputc('\n', t->spool);
        last->length++;
        t->bytes++;
    }
    const int64_t begin = last ? last->begin + last->length : 0;
    more[t->n++] = (new_piece){.begin = begin,
                               .length = (int64_t)document->length,
                               .file = g->reader.file,
                               .joins = plain,
                               .hash = hash};
    t->bytes += (int64_t)document->length;
    count_characters(g, document->text, document->length);
    if (fwrite(document->text, 1, document->length, t->spool) != document->length)
        return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", g->options->dir, strerror(errno));
    return KV_OK;
}

static kv_status add(struct gathering *g, const kv_document *document, kv_error *err) {
    const size_t valid = kv_utf8_valid(document->text, document->length);
    if (valid < document->length) {
        char why[160];
        snprintf(why, sizeof why,
                 "byte %02X is not UTF-8 (iconv -f latin1 -t utf-8 brings Western European text into it)",
                 (unsigned char)document->text[valid]);
        if (!g->files.items[g->reader.file].found)
            return kv_fail(err, KV_ERR_FORMAT, "%s:%" PRIi64 ": %s", name_of(g), document->line, why);
        leave_out(g, document, why);
        return KV_OK;
    }
    const char *stripped = document->text;
    if (kv_strip(&stripped, document->length) == 0) return KV_OK;
    bool before = false;
    const uint64_t hash = kv_hash64(document->length, document->text, document->length);
    g->text->documents++;
    const bool compared = kv_documents_are_json(g->reader.documents) || document->length >= LEAST_COPY;
    kv_status status = compared ? look_up(g, hash, &before, err) : KV_OK;
    if (!status && before) {
        g->text->copies++;
        g->text->copied_bytes += (int64_t)document->length;
        return KV_OK;
    }
    return status ? status : keep(g, document, hash, err);
}

// ---- The whole -----------------------------------------------------------------------------------------

static kv_status read_all(struct gathering *g, kv_error *err) {
    kv_status status = KV_OK;
    while (!status) {
        kv_document document;
        status = tokenize_next(&g->reader, &document, err);
        if (status || (!document.text && !document.bad)) break;
        if (document.bad)
            leave_out(g, &document, document.bad);
        else
            status = add(g, &document, err);
        kv_progress_show(&g->progress, tokenize_reader_position(&g->reader), "bytes");
        if (!status && kv_console_interrupted())
            status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted; %s was not written", g->options->dir);
    }
    return status;
}

static int most_frequent_first(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

// How many of the most frequent characters make 99.95 % of the text, as spm_train counts.
static void count_covering(struct gathering *g) {
    int64_t all = 0, covered = 0;
    for (int64_t i = 0; i < POINTS; i++) all += g->counts[i];
    qsort(g->counts, POINTS, sizeof *g->counts, most_frequent_first);
    while ((double)covered < 0.9995 * (double)all) covered += g->counts[g->text->characters++];
}

static void warn_of_loss(const struct gathering *g) {
    const new_text *t = g->text;
    const int64_t n = t->documents + t->bad, bytes = t->bytes + t->copied_bytes;
    if (kv_much_is_lost(t->copies, n) || kv_much_is_lost(t->copied_bytes, bytes))
        kv_warn("%" PRIi64 " of %" PRIi64
                " documents, %.3g %% of the text, are exact copies of others and are left out",
                t->copies, n, 100 * (double)t->copied_bytes / (double)bytes);
    if (kv_much_is_lost(t->bad, n))
        kv_warn("%" PRIi64 " of %" PRIi64 " documents are left out as bad, the first: %.*s", t->bad, n,
                KV_HEAD(g->first_bad, 300));
}

kv_status new_text_gather(const new_options *options, FILE *spool, new_text *text, kv_error *err) {
    *text = (new_text){.spool = spool};
    struct gathering g = {.options = options, .text = text};
    kv_status status = kv_text_files_list(options->inputs, options->n_inputs, &g.files, err);
    g.reader = (tokenize_reader){.files = &g.files, .options = options->text};
    g.counts = calloc(POINTS, sizeof *g.counts);
    if (!status && !g.counts) status = out_of_memory(err);
    if (!status) {
        int64_t bytes = 0;
        for (int64_t i = 0; i < g.files.n; i++) bytes += g.files.items[i].size;
        kv_progress_begin(&g.progress, stderr, "read", bytes);
        status = read_all(&g, err);
        kv_progress_end(&g.progress, "bytes");
    }
    if (!status && fflush(spool) != 0)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", options->dir, strerror(errno));
    if (!status) {
        count_covering(&g);
        warn_of_loss(&g);
    }
    if (!status && text->n == 0 && text->bad > 0)
        status = kv_fail(err, KV_ERR_FORMAT,
                         "no text in %s: %" PRIi64
                         " documents are bad, the first: %.*s; see --text-key and --format",
                         options->inputs[0], text->bad, KV_HEAD(g.first_bad, 300));
    tokenize_reader_close(&g.reader);
    kv_text_files_free(&g.files);
    forget(&g);
    free(g.counts);
    return status;
}

void new_text_free(new_text *text) {
    free(text->pieces);
    *text = (new_text){0};
}
