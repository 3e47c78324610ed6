// What kvdata inspect finds out about a path before it asks which kind of thing is there.
#include "data/checkpoint/random.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/file/plain.h"
#include "data/kvdata/inspect/inspect.h"
#include "data/system/buffers.h"
#include "data/text/documents.h"
#include "data/text/unicode.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const size_t max_json_bytes = INSPECT_MAX_JSON, max_first_line = (size_t)64 << 20;

bool inspect_entry(const char *dir, const char *name, char *path, size_t size) {
    return snprintf(path, size, "%s/%s", dir, name) < (int)size && kv_path_exists(path);
}

const char *inspect_directory_of(const char *path, char dir[PATH_MAX]) {
    snprintf(dir, PATH_MAX, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        *(slash == dir ? slash + 1 : slash) = '\0';
    else
        strcpy(dir, ".");
    return dir;
}

static bool is_white(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// ---- JSON ----------------------------------------------------------------------------------------------

// Reads up to the end of the first line that is not blank: [*length] at *from. False: there is no such line of
// acceptable length, or no memory.
static bool read_first_line(gzFile file, kv_bytes *read, size_t *from, size_t *length) {
    int got = 1;
    *from = *length = 0;
    while (got > 0 && *from + *length >= read->length && read->length < max_first_line) {
        if (kv_bytes_reserve(read, 1 << 16, NULL) != KV_OK) return false;
        got = gzread(file, read->data + read->length, 1 << 16);
        if (got > 0) read->length += (size_t)got;
        *from += *from ? 0 : kv_byte_order_mark(read->data, read->length);
        while (*length == 0 && *from < read->length && is_white(read->data[*from])) ++*from;
        const size_t searched = *from + *length;
        *length += kv_line_length(read->data + searched, read->length - searched);
    }
    return *length > 0 && (got == 0 || *from + *length < read->length);
}

static bool only_white_follows(gzFile file, const kv_bytes *read, size_t at) {
    for (; at < read->length; at++)
        if (!is_white(read->data[at])) return false;
    for (int c; (c = gzgetc(file)) != -1;)
        if (!is_white((char)c)) return false;
    return true;
}

// Whether kvdata tokenize would read it as JSON lines: a text that begins with an example of JSON is a text.
static bool is_json_lines(const inspect_subject *s) {
    kv_documents *documents = NULL;
    const bool lines =
        kv_documents_open(s->path, &documents, NULL) == KV_OK && kv_documents_are_json(documents);
    kv_documents_close(documents);
    return lines;
}

static kv_status read_line(inspect_subject *s, kv_error *err) {
    gzFile file = gzopen(s->path, "rb");
    if (!file) return kv_fail(err, KV_ERR_IO, "%s: %s", s->path, errno ? strerror(errno) : "out of memory");
    kv_bytes read = {0};
    size_t from, length;
    if (read_first_line(file, &read, &from, &length)) {
        json_t *value = kv_json_parse(read.data + from, length, 0, NULL);
        const bool alone = value && only_white_follows(file, &read, from + length);
        if (alone) s->json = json_incref(value);
        if (json_is_object(value) && (alone || is_json_lines(s))) s->line = json_incref(value);
        s->plain = value && !s->json && !s->line;
        json_decref(value);
    }
    kv_bytes_free(&read);
    gzclose_r(file);
    return KV_OK;
}

static kv_status read_json(inspect_subject *s, kv_error *err) {
    const char *head = (const char *)s->head;
    size_t start = kv_byte_order_mark(head, s->n_head);
    while (start < s->n_head && is_white(head[start])) start++;
    if (start == s->n_head || (head[start] != '{' && head[start] != '[')) return KV_OK;
    kv_status status = read_line(s, err);
    if (status || s->json || s->line || s->plain) return status;
    char *text;
    size_t size;
    status = kv_read_file(s->path, max_json_bytes, &text, &size, err);
    if (status) return status;
    s->json = kv_json_parse(text, size, 0, NULL);
    free(text);
    return KV_OK;
}

// ---- Beginnings ----------------------------------------------------------------------------------------

static bool is_control(unsigned char byte) {
    return byte == 127 || (byte < ' ' && (!byte || !strchr("\t\n\r\f", byte)));
}

// UTF-8 without control characters; the end of the head may cut a character in two.
static bool is_text(const inspect_subject *s) {
    for (size_t i = 0; i < s->n_head;) {
        const int n = kv_utf8_character((const char *)s->head + i, s->n_head - i);
        if (n == 0) return s->n_head == INSPECT_HEAD;
        if (n < 0 || is_control(s->head[i])) return false;
        i += (size_t)n;
    }
    return s->n_head > 0;
}

static kv_status read_head(inspect_subject *s, kv_error *err) {
    FILE *raw = fopen(s->path, "rb");
    if (!raw) return kv_fail(err, KV_ERR_IO, "%s: %s", s->path, strerror(errno));
    s->n_head = fread(s->head, 1, INSPECT_HEAD, raw);
    const bool failed = ferror(raw);
    fclose(raw);
    if (failed) return kv_fail(err, KV_ERR_IO, "%s: cannot be read", s->path);
    s->gzip = s->n_head > 2 && s->head[0] == 0x1F && s->head[1] == 0x8B;
    if (s->gzip) {
        gzFile file = gzopen(s->path, "rb");
        const int n = file ? gzread(file, s->head, INSPECT_HEAD) : -1;
        if (file) gzclose_r(file);
        if (n < 0) return kv_fail(err, KV_ERR_FORMAT, "%s: damaged gzip data", s->path);
        s->n_head = (size_t)n;
    }
    s->head[s->n_head] = '\0';
    s->text = is_text(s);
    return KV_OK;
}

kv_status inspect_subject_open(inspect_subject *s, const inspect_options *options, kv_error *err) {
    *s = (inspect_subject){.path = options->path, .options = options};
    s->random = kv_is_random_model(s->path);
    if (s->random) return KV_OK;
    struct stat info;
    if (stat(s->path, &info) != 0) return kv_missing(s->path, err);
    if (strlen(s->path) + 64 > PATH_MAX) return kv_path_too_long(s->path, err);
    s->is_dir = S_ISDIR(info.st_mode);
    if (s->is_dir) return KV_OK;
    if (!S_ISREG(info.st_mode)) return kv_fail(err, KV_ERR_IO, "%s: neither a file nor a directory", s->path);
    s->size = info.st_size;
    kv_status status = read_head(s, err);
    return status || !s->text ? status : read_json(s, err);
}

void inspect_subject_free(inspect_subject *s) {
    json_decref(s->json);
    json_decref(s->line);
    s->json = s->line = NULL;
}
