// `{seed}` in paths, see seed.h.
#include "data/config/seed.h"

#include "data/config/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char mark[] = "{seed}";
enum { MARK = sizeof mark - 1 };

bool kv_seed_in(const char *path) {
    return strstr(path, mark) != NULL;
}

char *kv_seed_path(const char *path, const char *seed) {
    size_t n = 0;
    for (const char *at = path; (at = strstr(at, mark)); at += MARK) n++;
    char *whole = malloc(strlen(path) + n * strlen(seed) + 1), *end = whole;
    if (!whole) return NULL;
    for (const char *next; (next = strstr(path, mark)); path = next + MARK)
        end += sprintf(end, "%.*s%s", (int)(next - path), path, seed);
    strcpy(end, path);
    return whole;
}

// A node keeps its id, and with it the place that errors name.
static bool put_at(yaml_document_t *doc, int id, const char *seed) {
    yaml_node_t *node = id ? yaml_document_get_node(doc, id) : NULL;
    if (!node || node->type != YAML_SCALAR_NODE || !kv_seed_in((const char *)node->data.scalar.value))
        return true;
    char *path = kv_seed_path((const char *)node->data.scalar.value, seed);
    if (!path) return false;
    free(node->data.scalar.value); // libyaml's own allocator is malloc
    node->data.scalar.value = (yaml_char_t *)path;
    node->data.scalar.length = strlen(path);
    return true;
}

static bool put_all(yaml_document_t *doc, const char *key, const char *seed) {
    const char *list = strstr(key, "[]");
    if (!list) return put_at(doc, kv_yaml_find(doc, key, NULL), seed);
    for (size_t i = 0;; i++) {
        char entry[128];
        const int n = snprintf(entry, sizeof entry, "%.*s[%zu]", (int)(list - key), key, i);
        if (!kv_yaml_find(doc, entry, NULL)) return true;
        snprintf(entry + n, sizeof entry - (size_t)n, "%s", list + 2);
        if (!put_at(doc, kv_yaml_find(doc, entry, NULL), seed)) return false;
    }
}

kv_status kv_seed_put(yaml_document_t *doc, const char *const *keys, kv_error *err) {
    const char *found = kv_yaml_scalar(doc, "seed");
    if (!found) return KV_OK;
    char *seed = strdup(found); // the document's texts change
    bool ok = seed != NULL;
    for (size_t i = 0; ok && keys[i]; i++) ok = put_all(doc, keys[i], seed);
    free(seed);
    return ok ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
}
