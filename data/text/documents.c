// zlib reads plain and gzipped files alike, so all goes through it. Lines are found in one buffer that grows
// to the longest, which also holds the first lines while they are looked at: nothing is read twice. A plain document is
// put together in another.
#include "data/text/documents.h"

#include "core/text.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/file/plain.h"
#include "data/system/buffers.h"
#include "data/system/warning.h"
#include "data/text/first_lines.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { read_bytes = 1 << 16 };
// Nobody writes a longer line on purpose, and the tokenizer counts in int.
static const size_t max_line_bytes = (size_t)1 << 30;

struct kv_documents {
    char path[PATH_MAX]; // for messages
    gzFile file;
    int64_t size, line;
    int64_t began; // the line that the newest document began with
    int64_t read;  // bytes so far, uncompressed
    bool json_lines;
    const char *fault; // why it is neither JSON lines nor plain text; NULL: it is one of them
    bool over;         // and it was said
    char *text_key;
    kv_bytes input; // read and not yet handed out, from `next` on
    size_t next;
    kv_bytes block; // a plain document
    json_t *entry;  // holds a JSON document's text
    char bad[300], shape[KV_SHAPE];
    // Plain text that nobody said is plain: its lines, those that look like JSON objects.
    bool suspicious;
    bool begun; // a document has been asked for
    int64_t n_lines, n_like_json;
};

bool kv_documents_named_json(const char *path) {
    return kv_path_is_named(path, ".jsonl") || kv_path_is_named(path, ".json") ||
           kv_path_is_named(path, ".ndjson");
}

// ---- Opening -------------------------------------------------------------------------------------------

static kv_status open_file(kv_documents *documents, const char *path, kv_error *err) {
    struct stat info = {0};
    const bool standard = strcmp(path, "-") == 0;
    int fd = standard ? dup(STDIN_FILENO) : -1;
    kv_status status = standard ? KV_OK : kv_open_input(path, &fd, err);
    if (status) return kv_mistaken(path, KV_FILE_TEXT, status, err);
    if (fd < 0 || fstat(fd, &info) != 0)
        status = kv_fail(err, KV_ERR_IO, "%s: %s", documents->path, strerror(errno));
    else if (S_ISDIR(info.st_mode))
        status = kv_fail(err, KV_ERR_IO, "%s: is a directory", documents->path);
    if (S_ISREG(info.st_mode)) documents->size = info.st_size;
    if (!status) documents->file = gzdopen(fd, "rb");
    if (documents->file) return KV_OK;
    if (!status) status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", documents->path);
    if (fd >= 0) close(fd);
    return status;
}

void kv_documents_close(kv_documents *documents) {
    if (!documents) return;
    if (documents->file) gzclose_r(documents->file);
    json_decref(documents->entry);
    free(documents->text_key);
    kv_bytes_free(&documents->input);
    kv_bytes_free(&documents->block);
    free(documents);
}

bool kv_documents_are_json(const kv_documents *documents) {
    return documents->json_lines;
}

// A pipe has no place of its own.
int64_t kv_documents_position(const kv_documents *documents) {
    const int64_t offset = gzoffset(documents->file);
    return offset >= 0 ? offset : documents->read;
}

// Reads more input behind what is there; *got is 0 at the end of the file.
static kv_status read_more(kv_documents *documents, size_t *got, kv_error *err) {
    kv_bytes *input = &documents->input;
    if (documents->next > 0) {
        memmove(input->data, input->data + documents->next, input->length - documents->next);
        input->length -= documents->next;
        documents->next = 0;
    }
    if (input->length > max_line_bytes)
        return kv_fail(err, KV_ERR_FORMAT, "%s:%" PRIi64 ": a line of more than %zu bytes", documents->path,
                       documents->line + 1, max_line_bytes);
    if (kv_bytes_reserve(input, read_bytes, NULL) != KV_OK)
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", documents->path);
    int n = gzread(documents->file, input->data + input->length, read_bytes);
    int code = Z_OK;
    const char *reason = gzerror(documents->file, &code);
    if (n < 0 || (n == 0 && code == Z_BUF_ERROR))
        return kv_fail(err, code == Z_ERRNO ? KV_ERR_IO : KV_ERR_FORMAT, "%s: %s", documents->path,
                       code == Z_ERRNO       ? strerror(errno)
                       : code == Z_BUF_ERROR ? "the gzip data ends too early"
                                             : reason);
    // It would be read as a text of three lines.
    if (documents->read == 0 && kv_is_pointer(input->data + input->length, (size_t)n))
        return kv_mistaken(
            documents->path, KV_FILE_TEXT,
            kv_fail(err, KV_ERR_FORMAT, "%s: a pointer of git-lfs or git-annex", documents->path), err);
    input->length += (size_t)n;
    documents->read += n;
    *got = (size_t)n;
    return KV_OK;
}

// The line at `from` of the input, as far as it has been read; its end as well. *ended: there is one.
static size_t line_end(const kv_documents *documents, size_t from, size_t searched, bool *ended) {
    const kv_bytes *input = &documents->input;
    const size_t waiting = input->length - from;
    const size_t n = waiting > searched
                         ? searched + kv_line_length(input->data + from + searched, waiting - searched)
                         : waiting;
    // A CR at the end may be half of a line end.
    *ended = n < waiting && (input->data[from + n] == '\n' || n + 1 < waiting);
    return n;
}

// One line, without byte order mark; *line is NULL at the end. *ended: it had a line end.
static kv_status next_line(kv_documents *documents, const char **line, size_t *length, bool *ended,
                           kv_error *err) {
    const kv_bytes *input = &documents->input;
    size_t n = line_end(documents, documents->next, 0, ended);
    for (size_t got = 1; !*ended && got > 0;) {
        kv_status status = read_more(documents, &got, err);
        if (status) return status;
        n = line_end(documents, documents->next, n, ended);
    }
    const size_t waiting = input->length - documents->next;
    *line = waiting ? input->data + documents->next : NULL;
    *ended = n < waiting;
    documents->line += waiting > 0;
    documents->next += n;
    if (*ended) documents->next += n + 1 < waiting && (*line)[n] == '\r' && (*line)[n + 1] == '\n' ? 2 : 1;
    const size_t mark = *line ? kv_byte_order_mark(*line, n) : 0;
    *line = *line ? *line + mark : NULL;
    *length = n - mark;
    return KV_OK;
}

// ---- What it is ----------------------------------------------------------------------------------------

static const char *unread(const kv_documents *documents) {
    return documents->input.data + documents->next;
}

// Reads up to the end of the first line that is not blank, and on to what one step of reading gives.
static kv_status read_first_lines(kv_documents *documents, kv_first_lines *first, kv_error *err) {
    const char *line = NULL;
    size_t length = 0, got = 1;
    bool ended;
    kv_status status = KV_OK;
    int64_t before = 0;
    do {
        before = kv_documents_tell(documents).byte;
        status = next_line(documents, &line, &length, &ended, err);
    } while (!status && line && kv_is_blank(line, length));
    if (status || !line) return status;
    documents->next -= (size_t)(kv_documents_tell(documents).byte - before);
    documents->line--;
    if (documents->input.length - documents->next < read_bytes) status = read_more(documents, &got, err);
    *first = (kv_first_lines){.whole = got == 0};
    if (!status) kv_count_first_lines(unread(documents), documents->input.length - documents->next, first);
    return status;
}

// A page in the place of a text is text as well, and some mean it; one that is compressed or comes through a pipe is
// not looked at. Of many files the first few are named.
static void warn_of_page(const kv_documents *documents) {
    enum { ENOUGH = 3 };
    static atomic_int n_pages;
    kv_identity found;
    kv_identify(documents->path, false, &found);
    if (found.kind == KV_FILE_OTHER && *found.what && atomic_fetch_add(&n_pages, 1) < ENOUGH)
        kv_warn("%s: %s, read as plain text, tags and all (%s; --format text is for those who mean it)",
                documents->path, found.what, found.advice);
}

// Finds out about the format, as far as `asked` leaves it open.
static kv_status recognise(kv_documents *documents, kv_text_format asked, bool named_json, kv_error *err) {
    kv_first_lines first = {0};
    kv_status status = read_first_lines(documents, &first, err);
    const size_t size = documents->input.length - documents->next;
    if (status || size == 0) return status;
    const char *text = unread(documents), *wide = kv_wide_encoding(text, size);
    const bool most = first.begins && 2 * first.n_objects > first.n;
    documents->json_lines = asked == KV_TEXT_JSONL || (asked == KV_TEXT_BY_CONTENT && (named_json || most));
    documents->suspicious = asked == KV_TEXT_BY_CONTENT && !documents->json_lines;
    if (wide) {
        snprintf(documents->shape, sizeof documents->shape, KV_WIDE_ADVICE, wide, wide);
        documents->fault = documents->shape;
    } else if (asked != KV_TEXT_PLAIN && !most) {
        documents->fault = kv_json_not_lines(text, size, first.whole, documents->json_lines);
        if (!documents->fault && asked == KV_TEXT_BY_CONTENT && named_json && first.n_objects == 0 &&
            first.n > 0)
            documents->fault = kv_not_as_named(text, size, documents->shape);
        if (documents->suspicious && !documents->fault && documents->size > 0 && first.tag)
            warn_of_page(documents);
    }
    return KV_OK;
}

kv_status kv_documents_open_as(const char *path, const kv_documents_options *options,
                               kv_documents **documents, kv_error *err) {
    *documents = NULL;
    if (strlen(path) >= PATH_MAX) return kv_path_too_long(path, err);
    kv_documents *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    strcpy(made->path, strcmp(path, "-") == 0 ? "standard input" : path);
    made->text_key = strdup(options->text_key ? options->text_key : "text");
    kv_status status =
        made->text_key ? open_file(made, path, err) : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    if (!status)
        status = recognise(made, options->format,
                           options->format == KV_TEXT_BY_CONTENT && kv_documents_named_json(path), err);
    if (status)
        kv_documents_close(made);
    else
        *documents = made;
    return status;
}

kv_status kv_documents_open(const char *path, kv_documents **documents, kv_error *err) {
    return kv_documents_open_as(path, &(kv_documents_options){KV_TEXT_BY_CONTENT, NULL}, documents, err);
}

// ---- Places --------------------------------------------------------------------------------------------

kv_documents_place kv_documents_tell(const kv_documents *documents) {
    return (kv_documents_place){documents->read - (int64_t)(documents->input.length - documents->next),
                                documents->line};
}

// Reads and forgets.
static kv_status skip(kv_documents *documents, int64_t n, bool *ended, kv_error *err) {
    size_t got = documents->input.length - documents->next;
    kv_status status = KV_OK;
    const int64_t waiting = (int64_t)got < n ? (int64_t)got : n;
    documents->next += (size_t)waiting;
    n -= waiting;
    for (got = 1; !status && n > 0 && got > 0;) {
        status = read_more(documents, &got, err);
        documents->next = (int64_t)got < n ? got : (size_t)n;
        n -= (int64_t)documents->next;
    }
    *ended = got == 0;
    return status;
}

kv_status kv_documents_seek(kv_documents *documents, kv_documents_place place, bool *there, kv_error *err) {
    const int64_t at_once = (int64_t)32 << 20;
    const int64_t from = kv_documents_tell(documents).byte;
    bool ended = false;
    *there = false;
    if (place.byte < from) return kv_fail(err, KV_ERR_ARGUMENT, "%s: cannot go back", documents->path);
    if (gzdirect(documents->file) && documents->size > 0) {
        if (gzseek(documents->file, place.byte, SEEK_SET) < 0)
            return kv_fail(err, KV_ERR_IO, "%s: cannot go to byte %" PRIi64, documents->path, place.byte);
        documents->read = place.byte;
        documents->input.length = documents->next = 0;
        ended = place.byte > documents->size;
    } else {
        const int64_t left = place.byte - from;
        kv_status status = skip(documents, left < at_once ? left : at_once, &ended, err);
        if (status) return status;
    }
    if (ended)
        return kv_fail(err, KV_ERR_FORMAT, "%s: ends before byte %" PRIi64, documents->path, place.byte);
    *there = kv_documents_tell(documents).byte == place.byte;
    if (*there) documents->line = place.line, documents->over = documents->begun = true;
    return KV_OK;
}

// ---- Documents -----------------------------------------------------------------------------------------

// The member of that name, dots and all, or the way there through objects.
static const json_t *find_key(const json_t *entry, const char *key) {
    for (;;) {
        const json_t *whole = json_object_get(entry, key);
        const char *dot = strchr(key, '.');
        if (whole || !dot) return whole;
        char first[256];
        if ((size_t)(dot - key) >= sizeof first) return NULL;
        memcpy(first, key, (size_t)(dot - key));
        first[dot - key] = '\0';
        entry = json_object_get(entry, first);
        key = dot + 1;
    }
}

// Text of a line, or why there is none.
static void take_entry(kv_documents *documents, const char *line, size_t size, kv_document *document) {
    json_error_t fault;
    json_decref(documents->entry);
    documents->entry = kv_json_parse(line, size, JSON_ALLOW_NUL, &fault);
    const json_t *value = find_key(documents->entry, documents->text_key);
    document->bad = documents->bad;
    if (!documents->entry) {
        snprintf(documents->bad, sizeof documents->bad, "not valid JSON (%.*s)", KV_HEAD(fault.text, 160));
    } else if (!json_is_string(value)) {
        snprintf(documents->bad, sizeof documents->bad, "\"%.*s\" is %s", KV_HEAD(documents->text_key, 100),
                 kv_json_kind(value));
    } else {
        document->bad = NULL;
        document->text = json_string_value(value);
        document->length = json_string_length(value);
    }
}

static kv_status next_json(kv_documents *documents, kv_document *document, kv_error *err) {
    const char *line;
    size_t size;
    bool ended;
    do {
        kv_status status = next_line(documents, &line, &size, &ended, err);
        if (status) return status;
    } while (line && kv_is_blank(line, size));
    document->line = documents->line;
    if (line) take_entry(documents, line, size, document);
    return KV_OK;
}

// What the first lines did not tell, all of them may; `line` is NULL at the end.
static void suspect(kv_documents *documents, const char *line, size_t length) {
    enum { ENOUGH = 64 };
    if (line && kv_is_blank(line, length)) return;
    documents->n_lines += line != NULL;
    documents->n_like_json += line && kv_looks_like_object(line, length);
    if (line && documents->n_lines < ENOUGH) return;
    documents->suspicious = false;
    if (documents->n_like_json > 1 && 2 * documents->n_like_json > documents->n_lines)
        kv_warn(
            "%s: most lines look like JSON objects, but it is read as plain text, braces and all (kvdata's --format "
            "jsonl reads the texts in them, --format text is for those who mean it)",
            documents->path);
}

static kv_status next_block(kv_documents *documents, kv_document *document, kv_error *err) {
    kv_bytes *block = &documents->block;
    block->length = 0;
    for (;;) {
        const char *line;
        size_t size;
        bool ended;
        kv_status status = next_line(documents, &line, &size, &ended, err);
        if (status) return status;
        if (documents->suspicious) suspect(documents, line, size);
        bool separator = line && kv_is_blank(line, size);
        if (separator && block->length == 0) continue;
        if (!line || separator) break;
        if (block->length == 0) document->line = documents->line;
        if (block->length > max_line_bytes)
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s:%" PRIi64
                           ": a document of more than %zu bytes, expected blank lines between documents",
                           documents->path, documents->line, max_line_bytes);
        // With the NUL that ends the document.
        kv_status added = kv_bytes_reserve(block, size + 2, NULL);
        if (!added) added = kv_bytes_add(block, line, size, NULL);
        if (!added && ended) added = kv_bytes_add(block, "\n", 1, NULL);
        if (added) return kv_fail(err, added, "%s: out of memory", documents->path);
    }
    if (block->length == 0) return KV_OK;
    if (memchr(block->data, 0, block->length)) {
        document->bad = "a NUL byte, as binary files have";
        return KV_OK;
    }
    block->data[block->length] = '\0'; // the block before may have been longer
    document->text = block->data;
    document->length = block->length;
    return KV_OK;
}

// A file that is bad from its first document on may be no text at all, or in another encoding: to name every line of
// that would not help. Nothing of it is read then.
static void check_first(kv_documents *documents, kv_document *document) {
    kv_identity found;
    kv_error why;
    kv_identify(documents->path, true, &found);
    if (!*found.what || kv_file_kind_is(found.kind, KV_FILE_TEXT)) return;
    kv_fail(&why, KV_ERR_FORMAT, "%s", document->bad);
    kv_mistaken(documents->path, KV_FILE_TEXT, KV_ERR_FORMAT, &why);
    const size_t n = strlen(documents->path);
    const bool named = strncmp(why.message, documents->path, n) == 0 && why.message[n] == ':';
    snprintf(documents->shape, sizeof documents->shape, "%.*s",
             KV_HEAD(why.message + (named ? n + 2 : 0), KV_SHAPE - 1));
    documents->fault = document->bad = documents->shape;
    documents->over = document->whole = true;
}

kv_status kv_documents_read(kv_documents *documents, kv_document *document, kv_error *err) {
    const bool first = !documents->begun;
    documents->begun = true;
    *document = (kv_document){0};
    if (documents->fault) {
        if (!documents->over)
            *document = (kv_document){.line = documents->line + 1, .bad = documents->fault, .whole = true};
        documents->over = true;
        if (first && document->bad) check_first(documents, document);
        return KV_OK;
    }
    kv_status status =
        documents->json_lines ? next_json(documents, document, err) : next_block(documents, document, err);
    documents->began = document->line;
    if (first && !status && document->bad) check_first(documents, document);
    return status;
}

int64_t kv_documents_line(const kv_documents *documents) {
    return documents->began;
}

// What is no text, or of another kind, from its beginning on: that line 1 is bad says less.
static kv_status bad_document(const kv_documents *documents, const kv_document *document, kv_error *err) {
    if (document->whole)
        kv_fail(err, KV_ERR_FORMAT, "%s: %s", documents->path, document->bad);
    else if (documents->json_lines)
        kv_fail(err, KV_ERR_FORMAT, "%s:%" PRIi64 ": %s, expected one object a line with a string \"%s\"",
                documents->path, document->line, document->bad, documents->text_key);
    else
        kv_fail(err, KV_ERR_FORMAT, "%s:%" PRIi64 ": %s, expected plain text", documents->path,
                document->line, document->bad);
    return kv_mistaken(documents->path, KV_FILE_TEXT, KV_ERR_FORMAT, err);
}

kv_status kv_documents_next(kv_documents *documents, const char **text, size_t *length, kv_error *err) {
    kv_document document;
    kv_status status = kv_documents_read(documents, &document, err);
    *text = document.text;
    *length = document.length;
    return status || !document.bad ? status : bad_document(documents, &document, err);
}
