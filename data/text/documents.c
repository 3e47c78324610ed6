// zlib reads plain and gzipped files alike, so all goes through it. Lines are found in one buffer that grows
// to the longest; a plain document is put together in another.
#include "data/text/documents.h"

#include "core/text.h"
#include "data/file/path.h"
#include "data/system/buffers.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
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
    int64_t read; // bytes so far, uncompressed
    bool json_lines;
    char *text_key;
    kv_bytes input; // read and not yet handed out, from `next` on
    size_t next;
    kv_bytes block; // a plain document
    json_t *entry;  // holds a JSON document's text
    char bad[200];
};

bool kv_documents_named_json(const char *path) {
    return kv_path_is_named(path, ".jsonl") || kv_path_is_named(path, ".json") ||
           kv_path_is_named(path, ".ndjson");
}

static kv_status open_file(kv_documents *documents, const char *path, kv_error *err) {
    struct stat info = {0};
    const bool standard = strcmp(path, "-") == 0;
    const int said = standard ? fstat(STDIN_FILENO, &info) : stat(path, &info);
    if (said != 0) return kv_fail(err, KV_ERR_IO, "%s: %s", documents->path, strerror(errno));
    if (S_ISDIR(info.st_mode)) return kv_fail(err, KV_ERR_IO, "%s: is a directory", documents->path);
    if (S_ISREG(info.st_mode)) documents->size = info.st_size;
    errno = 0;
    const int own = standard ? dup(STDIN_FILENO) : -1;
    documents->file = standard ? gzdopen(own, "rb") : gzopen(path, "rb");
    if (documents->file) return KV_OK;
    kv_status status =
        kv_fail(err, KV_ERR_IO, "%s: %s", documents->path, errno ? strerror(errno) : "out of memory");
    if (own >= 0) close(own);
    return status;
}

kv_status kv_documents_open_as(const char *path, const kv_documents_options *options,
                               kv_documents **documents, kv_error *err) {
    *documents = NULL;
    if (strlen(path) >= PATH_MAX) return kv_path_too_long(path, err);
    kv_documents *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    strcpy(made->path, strcmp(path, "-") == 0 ? "standard input" : path);
    made->json_lines =
        options->format == KV_TEXT_BY_NAME ? kv_documents_named_json(path) : options->format == KV_TEXT_JSONL;
    made->text_key = strdup(options->text_key ? options->text_key : "text");
    kv_status status =
        made->text_key ? open_file(made, path, err) : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    if (status)
        kv_documents_close(made);
    else
        *documents = made;
    return status;
}

kv_status kv_documents_open(const char *path, kv_documents **documents, kv_error *err) {
    return kv_documents_open_as(path, &(kv_documents_options){KV_TEXT_BY_NAME, NULL}, documents, err);
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
    input->length += (size_t)n;
    documents->read += n;
    *got = (size_t)n;
    return KV_OK;
}

// One line with its newline (the last may have none); *line is NULL at the end.
static kv_status next_line(kv_documents *documents, const char **line, size_t *length, kv_error *err) {
    kv_bytes *input = &documents->input;
    const char *newline = NULL;
    size_t searched = 0;
    while (!newline) {
        size_t waiting = input->length - documents->next;
        if (waiting > searched)
            newline = memchr(input->data + documents->next + searched, '\n', waiting - searched);
        if (newline) break;
        searched = waiting;
        size_t got = 0;
        kv_status status = read_more(documents, &got, err);
        if (status) return status;
        if (got == 0) break;
    }
    size_t waiting = input->length - documents->next;
    *line = waiting ? input->data + documents->next : NULL;
    *length = newline ? (size_t)(newline - *line) + 1 : waiting;
    documents->next += *length;
    documents->line += *length > 0;
    return KV_OK;
}

static bool is_blank(const char *line, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r\n", line[i]) || !line[i]) return false;
    return true;
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
    if (documents->input.length == documents->next && gzdirect(documents->file) && documents->size > 0) {
        if (gzseek(documents->file, place.byte, SEEK_SET) < 0)
            return kv_fail(err, KV_ERR_IO, "%s: cannot go to byte %" PRIi64, documents->path, place.byte);
        documents->read = place.byte;
        ended = place.byte > documents->size;
    } else {
        const int64_t left = place.byte - from;
        kv_status status = skip(documents, left < at_once ? left : at_once, &ended, err);
        if (status) return status;
    }
    if (ended)
        return kv_fail(err, KV_ERR_FORMAT, "%s: ends before byte %" PRIi64, documents->path, place.byte);
    *there = kv_documents_tell(documents).byte == place.byte;
    if (*there) documents->line = place.line;
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

static const char *type_name(const json_t *value) {
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list",  [JSON_STRING] = "a string",
        [JSON_INTEGER] = "a number", [JSON_REAL] = "a number", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "null"};
    return value ? names[json_typeof(value)] : "missing";
}

// Text of a line, or why there is none.
static void take_entry(kv_documents *documents, const char *line, size_t size, kv_document *document) {
    json_error_t fault;
    json_decref(documents->entry);
    // What some editors put in front of UTF-8.
    const size_t mark = documents->line == 1 && size >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    documents->entry = json_loadb(line + mark, size - mark, JSON_ALLOW_NUL, &fault);
    const json_t *value = find_key(documents->entry, documents->text_key);
    document->bad = documents->bad;
    if (!documents->entry) {
        snprintf(documents->bad, sizeof documents->bad, "not valid JSON (%.*s)", KV_HEAD(fault.text, 100));
    } else if (!json_is_string(value)) {
        snprintf(documents->bad, sizeof documents->bad, "\"%.*s\" is %s", KV_HEAD(documents->text_key, 100),
                 type_name(value));
    } else {
        document->bad = NULL;
        document->text = json_string_value(value);
        document->length = json_string_length(value);
    }
}

static kv_status next_json(kv_documents *documents, kv_document *document, kv_error *err) {
    const char *line;
    size_t size;
    do {
        kv_status status = next_line(documents, &line, &size, err);
        if (status) return status;
    } while (line && is_blank(line, size));
    document->line = documents->line;
    if (line) take_entry(documents, line, size, document);
    return KV_OK;
}

static kv_status next_block(kv_documents *documents, kv_document *document, kv_error *err) {
    kv_bytes *block = &documents->block;
    block->length = 0;
    for (;;) {
        const char *line;
        size_t size;
        kv_status status = next_line(documents, &line, &size, err);
        if (status) return status;
        bool separator = line && is_blank(line, size);
        if (separator && block->length == 0) continue;
        if (!line || separator) break;
        if (block->length == 0) document->line = documents->line;
        if (block->length > max_line_bytes)
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s:%" PRIi64
                           ": a document of more than %zu bytes, expected blank lines between documents",
                           documents->path, documents->line, max_line_bytes);
        // With the NUL that ends the document.
        kv_status added = kv_bytes_reserve(block, size + 1, NULL);
        if (!added) added = kv_bytes_add(block, line, size, NULL);
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

kv_status kv_documents_read(kv_documents *documents, kv_document *document, kv_error *err) {
    *document = (kv_document){0};
    return documents->json_lines ? next_json(documents, document, err) : next_block(documents, document, err);
}

kv_status kv_documents_next(kv_documents *documents, const char **text, size_t *length, kv_error *err) {
    kv_document document;
    kv_status status = kv_documents_read(documents, &document, err);
    *text = document.text;
    *length = document.length;
    if (status || !document.bad) return status;
    if (!documents->json_lines)
        return kv_fail(err, KV_ERR_FORMAT, "%s:%" PRIi64 ": %s, expected plain text", documents->path,
                       document.line, document.bad);
    return kv_fail(err, KV_ERR_FORMAT, "%s:%" PRIi64 ": %s, expected one object a line with a string \"%s\"",
                   documents->path, document.line, document.bad, documents->text_key);
}
