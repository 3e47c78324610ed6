// What kvdata inspect finds out about a path before it asks which kind of thing is there.
#include "data/checkpoint/random.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/kvdata/inspect/inspect.h"
#include "data/text/unicode.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const size_t max_json_bytes = (size_t)1 << 28, max_first_line = (size_t)64 << 20;

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

// ---- JSON ----------------------------------------------------------------------------------------------

// The file's first line, without its end; *more: something follows that is not white space. NULL: there is
// no line of acceptable length, or no memory.
static char *first_line(gzFile file, bool *more) {
    size_t used = 0, capacity = 1 << 16;
    char *line = malloc(capacity), *bigger;
    while (line && gzgets(file, line + used, (int)(capacity - used))) {
        used += strlen(line + used);
        if (used > 0 && line[used - 1] == '\n') break;
        if (used + 1 < capacity) break; // the end of the file
        bigger = capacity < max_first_line ? realloc(line, capacity *= 2) : NULL;
        if (!bigger) free(line);
        line = bigger;
    }
    *more = false;
    for (int c; line && !*more && (c = gzgetc(file)) != -1;) *more = !strchr(" \t\r\n", c);
    return line;
}

static kv_status read_json(inspect_subject *s, kv_error *err) {
    size_t start = 0;
    while (start < s->n_head && strchr(" \t\r\n", s->head[start])) start++;
    if (start == s->n_head || (s->head[start] != '{' && s->head[start] != '[')) return KV_OK;
    gzFile file = gzopen(s->path, "rb");
    if (!file) return kv_fail(err, KV_ERR_IO, "%s: %s", s->path, errno ? strerror(errno) : "out of memory");
    bool more;
    char *line = first_line(file, &more);
    gzclose_r(file);
    json_t *value = line ? json_loads(line, 0, NULL) : NULL;
    free(line);
    if (value && json_is_object(value)) s->line = json_incref(value);
    if (value && !more) s->json = json_incref(value);
    json_decref(value);
    if (value) return KV_OK;
    char *text;
    size_t size;
    kv_status status = kv_read_file(s->path, max_json_bytes, &text, &size, err);
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
    if (stat(s->path, &info) != 0) return kv_fail(err, KV_ERR_IO, "%s: %s", s->path, strerror(errno));
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
