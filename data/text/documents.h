// Text files as a stream of documents, whatever their size; gzip is read transparently.
//
// JSON lines: one object a line, its text under a key. Plain text: documents separated by blank lines; every
// line keeps its line end, as one LF. Which of the two, the first lines say unless the caller does: JSON lines where most of
// them are JSON objects. JSON that is not in lines, and a file called .jsonl, .json or .ndjson without an object in
// its first lines, are neither: one bad document, and the end. CR LF and CR end lines too (data/file/plain.h).
#pragma once

#include "core/api.h"
#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

KV_API_BEGIN

typedef struct kv_documents kv_documents;

typedef enum kv_text_format { KV_TEXT_BY_CONTENT, KV_TEXT_PLAIN, KV_TEXT_JSONL } kv_text_format;

typedef struct kv_documents_options {
    kv_text_format format;
    // Borrowed; NULL: "text". "a.b" is the key of that name or, if there is none, b within a.
    const char *text_key;
} kv_documents_options;

// Whether a file's name promises JSON.
bool kv_documents_named_json(const char *path);

// path: a file, a named pipe, or "-", standard input. On failure *documents is NULL. Close with
// kv_documents_close (accepts NULL). Opening reads the first lines. The second goes by content and takes the key
// "text".
kv_status kv_documents_open_as(const char *path, const kv_documents_options *options,
                               kv_documents **documents, kv_error *err);
kv_status kv_documents_open(const char *path, kv_documents **documents, kv_error *err);
void kv_documents_close(kv_documents *documents);
// Whether they are read as JSON lines.
bool kv_documents_are_json(const kv_documents *documents);

typedef struct kv_document {
    // [length], then a NUL (JSON may hold others within); NULL at the end, and when it is bad.
    const char *text;
    size_t length;
    int64_t line;    // its first
    const char *bad; // why a line holds no text
    bool whole;      // with bad: nothing of the file does
} kv_document;

// The next document, valid until the next call. Files that cannot be read to their end (damaged or cut gzip)
// are errors; a line that is not as expected is a document that is bad, as is plain text with a NUL byte.
kv_status kv_documents_read(kv_documents *documents, kv_document *document, kv_error *err);
// The same where a bad line is an error, naming file and line; *text is NULL at the end.
kv_status kv_documents_next(kv_documents *documents, const char **text, size_t *length, kv_error *err);
// The first line of the document that was read last.
int64_t kv_documents_line(const kv_documents *documents);

// A place between two documents: bytes (uncompressed) and lines in front of it.
typedef struct kv_documents_place {
    int64_t byte, line;
} kv_documents_place;

// Behind the document that was read last.
kv_documents_place kv_documents_tell(const kv_documents *documents);
// Moves on towards a place told by another reader of the same file; *there when it is reached. Through gzip
// one has to read, and each call does so for a fraction of a second: call again until there.
kv_status kv_documents_seek(kv_documents *documents, kv_documents_place place, bool *there, kv_error *err);

// Bytes of the file read so far (compressed ones, for a .gz), for showing progress.
int64_t kv_documents_position(const kv_documents *documents);

KV_API_END
