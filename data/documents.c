#include "data/documents.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { read_bytes = 1 << 16 };
// Nobody writes a longer line on purpose, and the tokenizer counts in int.
static const size_t max_line_bytes = (size_t)1 << 30;

struct buffer {
    char *bytes;
    size_t used, capacity;
};

struct kv_documents {
    char path[PATH_MAX];
    gzFile file;
    int64_t size, line;
    bool json_lines;
    struct buffer input; // read and not yet handed out, from `next` on
    size_t next;
    struct buffer block; // a plain document
    json_t *entry;       // holds a JSON document's text
};

static bool ends_in(const char *text, size_t length, const char *ending) {
    size_t n = strlen(ending);
    return length >= n && strncmp(text + length - n, ending, n) == 0;
}

static bool names_json_lines(const char *path) {
    size_t length = strlen(path);
    if (ends_in(path, length, ".gz")) length -= 3;
    return ends_in(path, length, ".jsonl") || ends_in(path, length, ".json");
}

kv_status kv_documents_open(const char *path, kv_documents **documents, kv_error *err) {
    *documents = NULL;
    struct stat info;
    if (stat(path, &info) != 0) return kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) return kv_fail(err, KV_ERR_IO, "%s: not a regular file", path);
    if (strlen(path) >= PATH_MAX)
        return kv_fail(err, KV_ERR_ARGUMENT, "%.200s...: the path is too long", path);
    kv_documents *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    strcpy(made->path, path);
    made->size = info.st_size;
    made->json_lines = names_json_lines(path);
    errno = 0;
    made->file = gzopen(path, "rb");
    if (!made->file) {
        kv_documents_close(made);
        return kv_fail(err, KV_ERR_IO, "%s: %s", path, errno ? strerror(errno) : "out of memory");
    }
    *documents = made;
    return KV_OK;
}

void kv_documents_close(kv_documents *documents) {
    if (!documents) return;
    if (documents->file) gzclose_r(documents->file);
    json_decref(documents->entry);
    free(documents->input.bytes);
    free(documents->block.bytes);
    free(documents);
}

int64_t kv_documents_position(const kv_documents *documents) {
    return gzoffset(documents->file);
}
int64_t kv_documents_size(const kv_documents *documents) {
    return documents->size;
}

static bool reserve(struct buffer *buffer, size_t more) {
    if (buffer->capacity - buffer->used >= more) return true;
    size_t capacity = 2 * buffer->capacity + more;
    char *bytes = realloc(buffer->bytes, capacity);
    if (!bytes) return false;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return true;
}

// Reads more input behind what is there; *got is 0 at the end of the file.
static kv_status read_more(kv_documents *documents, size_t *got, kv_error *err) {
    struct buffer *input = &documents->input;
    if (documents->next > 0) {
        memmove(input->bytes, input->bytes + documents->next, input->used - documents->next);
        input->used -= documents->next;
        documents->next = 0;
    }
    if (input->used > max_line_bytes)
        return kv_fail(err, KV_ERR_FORMAT, "%s:%" PRIi64 ": a line of more than %zu bytes", documents->path,
                       documents->line + 1, max_line_bytes);
    if (!reserve(input, read_bytes)) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", documents->path);
    int n = gzread(documents->file, input->bytes + input->used, read_bytes);
    int code = Z_OK;
    const char *reason = gzerror(documents->file, &code);
    if (n < 0 || (n == 0 && code == Z_BUF_ERROR))
        return kv_fail(err, code == Z_ERRNO ? KV_ERR_IO : KV_ERR_FORMAT, "%s: %s", documents->path,
                       code == Z_ERRNO       ? strerror(errno)
                       : code == Z_BUF_ERROR ? "the gzip data ends too early"
                                             : reason);
    input->used += (size_t)n;
    *got = (size_t)n;
    return KV_OK;
}

// One line with its newline (the last may have none); *line is NULL at the end.
static kv_status next_line(kv_documents *documents, const char **line, size_t *length, kv_error *err) {
    struct buffer *input = &documents->input;
    const char *newline = NULL;
    size_t searched = 0;
    while (!newline) {
        size_t waiting = input->used - documents->next;
        if (waiting > searched)
            newline = memchr(input->bytes + documents->next + searched, '\n', waiting - searched);
        if (newline) break;
        searched = waiting;
        size_t got = 0;
        kv_status status = read_more(documents, &got, err);
        if (status) return status;
        if (got == 0) break;
    }
    size_t waiting = input->used - documents->next;
    *line = waiting ? input->bytes + documents->next : NULL;
    *length = newline ? (size_t)(newline - *line) + 1 : waiting;
    documents->next += *length;
    documents->line++;
    return KV_OK;
}

static bool is_blank(const char *line, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r\n", line[i]) || !line[i]) return false;
    return true;
}

static kv_status next_json(kv_documents *documents, const char **text, size_t *length, kv_error *err) {
    const char *line;
    size_t size;
    do {
        kv_status status = next_line(documents, &line, &size, err);
        if (status) return status;
    } while (line && is_blank(line, size));
    if (!line) return KV_OK;
    json_error_t fault;
    json_decref(documents->entry);
    documents->entry = json_loadb(line, size, JSON_ALLOW_NUL, &fault);
    if (!documents->entry)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s:%" PRIi64
                       ": not valid JSON (%s), expected one object a line with a string \"text\"",
                       documents->path, documents->line, fault.text);
    const json_t *value = json_object_get(documents->entry, "text");
    if (!json_is_string(value))
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s:%" PRIi64 ": expected one object a line with a string \"text\"", documents->path,
                       documents->line);
    *text = json_string_value(value);
    *length = json_string_length(value);
    return KV_OK;
}

static kv_status next_block(kv_documents *documents, const char **text, size_t *length, kv_error *err) {
    struct buffer *block = &documents->block;
    block->used = 0;
    for (;;) {
        const char *line;
        size_t size;
        kv_status status = next_line(documents, &line, &size, err);
        if (status) return status;
        bool separator = line && is_blank(line, size);
        if (separator && block->used == 0) continue;
        if (!line || separator) break;
        if (block->used > max_line_bytes)
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s:%" PRIi64
                           ": a document of more than %zu bytes, expected blank lines between documents",
                           documents->path, documents->line, max_line_bytes);
        if (!reserve(block, size)) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", documents->path);
        memcpy(block->bytes + block->used, line, size);
        block->used += size;
    }
    if (block->used == 0) return KV_OK;
    *text = block->bytes;
    *length = block->used;
    return KV_OK;
}

kv_status kv_documents_next(kv_documents *documents, const char **text, size_t *length, kv_error *err) {
    *text = NULL;
    *length = 0;
    return documents->json_lines ? next_json(documents, text, length, err)
                                 : next_block(documents, text, length, err);
}
