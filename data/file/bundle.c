// Names come out of files that others made: none may lead out of the directory that a bundle is written to.
#include "data/file/bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_file_name(const char *name) {
    const size_t n = strlen(name);
    if (n == 0 || n >= KV_BUNDLE_NAME || name[0] == '.') return false;
    for (const char *c = name; *c; c++)
        if (*c == '/' || (unsigned char)*c <= ' ' || *c == 127) return false;
    return true;
}

kv_status kv_bundle_add(kv_bundle *bundle, const char *name, char *bytes, size_t size, kv_error *err) {
    if (!is_file_name(name) || bundle->n == KV_BUNDLE_FILES) {
        free(bytes);
        return kv_fail(err, KV_ERR_FORMAT, "found %s, expected at most %d names of files",
                       is_file_name(name) ? "one file more" : "a name that is none of a file",
                       KV_BUNDLE_FILES);
    }
    kv_bundled *file = &bundle->files[bundle->n++];
    snprintf(file->name, sizeof file->name, "%s", name);
    file->bytes = bytes, file->size = size;
    return KV_OK;
}

size_t kv_bundle_bytes(const kv_bundle *bundle) {
    size_t bytes = 0;
    for (int i = 0; i < bundle->n; i++) bytes += bundle->files[i].size;
    return bytes;
}

void kv_bundle_free(kv_bundle *bundle) {
    for (int i = 0; i < bundle->n; i++) free(bundle->files[i].bytes);
    *bundle = (kv_bundle){0};
}
