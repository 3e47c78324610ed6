// The records are text: a stanza for each package in `status`, and a list of paths for each in `info`.
#include "data/text/dpkg.h"

#include "core/text.h"
#include "data/file/content.h"
#include "data/file/path.h"
#include "data/system/buffers.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS "/var/lib/dpkg"
static const size_t largest = (size_t)1 << 28;

void kv_dpkg_free(kv_dpkg_package *package) {
    for (int64_t i = 0; i < package->n_files; i++) free(package->files[i]);
    free(package->files);
    free(package->version);
    free(package->depends);
    *package = (kv_dpkg_package){0};
}

// ---- The stanza ----------------------------------------------------------------------------------------

// What stands behind "field: " in stanza[length]; NULL when it is not there. Caller frees.
static char *field_of(const char *stanza, size_t length, const char *field) {
    const size_t n = strlen(field);
    for (const char *line = stanza, *end = stanza + length; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        if ((size_t)(stop - line) > n + 1 && memcmp(line, field, n) == 0 && line[n] == ':') {
            const char *value = line + n + 1;
            while (value < stop && *value == ' ') value++;
            return strndup(value, (size_t)(stop - value));
        }
        line = stop + 1;
    }
    return NULL;
}

static bool field_is(const char *stanza, size_t length, const char *field, const char *expected) {
    char *value = field_of(stanza, length, field);
    const bool is = value && strcmp(value, expected) == 0;
    free(value);
    return is;
}

// The stanza of the installed package, and its length; NULL: there is none. A package may be there for several
// architectures; the first one counts.
static const char *find_stanza(const char *content, const char *name, size_t *length) {
    const char *stanza = content + strspn(content, "\n");
    for (; *stanza; stanza += *length + strspn(stanza + *length, "\n")) {
        const char *stop = strstr(stanza, "\n\n");
        *length = stop ? (size_t)(stop - stanza) : strlen(stanza);
        if (field_is(stanza, *length, "Package", name) &&
            field_is(stanza, *length, "Status", "install ok installed"))
            return stanza;
    }
    return NULL;
}

// ---- The list of files ---------------------------------------------------------------------------------

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static kv_status split_lines(char *content, kv_dpkg_package *package, kv_error *err) {
    char *rest = content;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (*line != '/' || strcmp(line, "/.") == 0) continue;
        char **more = kv_room_for_one(package->files, (size_t)package->n_files, sizeof *more);
        if (more) package->files = more;
        char *copy = more ? strdup(line) : NULL;
        if (!copy) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
        package->files[package->n_files++] = copy;
    }
    if (package->n_files) qsort(package->files, (size_t)package->n_files, sizeof *package->files, compare);
    return KV_OK;
}

// Packages that can be there for several architectures have the architecture in the name of their list.
static kv_status read_list(const char *root, const char *name, const char *architecture,
                           kv_dpkg_package *package, kv_error *err) {
    char *content = NULL;
    size_t size;
    for (int with = 1; with >= 0; with--) {
        if (snprintf(package->record, sizeof package->record, "%s" RECORDS "/info/%s%s%s.list", root, name,
                     with ? ":" : "", with ? architecture : "") >= (int)sizeof package->record)
            return kv_path_too_long(root, err);
        if (kv_path_exists(package->record)) break;
    }
    kv_status status = kv_read_file(package->record, largest, &content, &size, err);
    if (!status) status = split_lines(content, package, err);
    free(content);
    return status;
}

kv_status kv_dpkg_find(const char *root, const char *name, kv_dpkg_package *package, kv_error *err) {
    *package = (kv_dpkg_package){0};
    char path[PATH_MAX], *content = NULL;
    size_t size, length;
    if (snprintf(path, sizeof path, "%s" RECORDS "/status", root) >= (int)sizeof path)
        return kv_path_too_long(root, err);
    kv_status status = kv_read_file(path, largest, &content, &size, err);
    if (status) return kv_fail_within(err, status, "no records of Debian's packages");
    const char *stanza = find_stanza(content, name, &length);
    if (stanza) {
        char *architecture = field_of(stanza, length, "Architecture");
        package->depends = field_of(stanza, length, "Depends");
        status = read_list(root, name, architecture ? architecture : "", package, err);
        if (!status && !(package->version = field_of(stanza, length, "Version")))
            status = kv_fail(err, KV_ERR_FORMAT, "%s: package %s has no Version", path, name);
        free(architecture);
    }
    free(content);
    return status;
}
