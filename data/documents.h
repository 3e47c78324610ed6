// Text files as a stream of documents, whatever their size; gzip is read transparently.
//
// NAME.jsonl or NAME.json (also with .gz): JSON lines, one document a line, its text under the key "text".
// Any other name: plain text, documents separated by blank lines; every line keeps its newline.
#pragma once

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct kv_documents kv_documents;

// On failure *documents is NULL. Close with kv_documents_close (accepts NULL).
kv_status kv_documents_open(const char *path, kv_documents **documents, kv_error *err);
void kv_documents_close(kv_documents *documents);

// The next document; *text is NULL at the end. It stays valid until the next call. Errors name file and line.
kv_status kv_documents_next(kv_documents *documents, const char **text, size_t *length, kv_error *err);

// Bytes of the file read so far and in all (compressed ones, for a .gz), for showing progress.
int64_t kv_documents_position(const kv_documents *documents);
int64_t kv_documents_size(const kv_documents *documents);
