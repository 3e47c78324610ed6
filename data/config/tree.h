// The merged YAML document behind kv_config: nodes that know which source and line they came from.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <yaml.h>

typedef struct kv_config_origin {
    int source; // index into tree->sources
    size_t line;
} kv_config_origin;

typedef struct kv_config_tree {
    yaml_document_t doc;
    bool open;
    kv_config_origin *origins; // of node id i at [i - 1]
    size_t n_origins;
    char **sources; // file names; an override is "-s key=value", the defaults "built-in defaults"
    int n_sources;
} kv_config_tree;

// One YAML document from text[size]; `label` (a file name, say) opens the error messages. An empty text is an
// empty mapping; a second document, or a root that is no mapping unless any_root, is refused. Merge keys are
// resolved. On KV_OK the caller deletes *doc with yaml_document_delete.
kv_status kv_yaml_parse(const char *text, size_t size, const char *label, bool any_root, yaml_document_t *doc,
                        kv_error *err);

// What kv_yaml_parse does of it: `<<: *name` and `<<: [*one, *other]` become the keys they stand for, where a
// group has none of that name itself; groups `x-...` at the top, which only hold anchors, go.
kv_status kv_yaml_resolve(yaml_document_t *doc, const char *label, kv_error *err);

// Value of `key` in mapping node `mapping`, 0 when absent.
int kv_yaml_get(yaml_document_t *doc, int mapping, const char *key);

// Node of "a.b[2].c", or 0. *deepest (may be NULL) is the last node on the way that exists.
int kv_yaml_find(yaml_document_t *doc, const char *key, int *deepest);
// The text of the single value there; NULL when there is none.
const char *kv_yaml_scalar(yaml_document_t *doc, const char *key);

// A node as YAML on one line. Caller frees; NULL when out of memory, or when aliases make it too long.
char *kv_yaml_line(yaml_document_t *doc, int id);
// A text as a YAML value on one line, in double quotes.
void kv_yaml_quote(FILE *out, const char *text);

// An empty mapping. kv_tree_free accepts a zeroed struct.
kv_status kv_tree_create(kv_config_tree *tree, kv_error *err);
void kv_tree_free(kv_config_tree *tree);

// Registers a source; its index, or -1 when out of memory.
int kv_tree_add_source(kv_config_tree *tree, const char *name);

// Merges a document's root mapping into the tree: mappings merge, everything else replaces.
kv_status kv_tree_merge(kv_config_tree *tree, yaml_document_t *from, int source, kv_error *err);

// Sets "a.b[2].c" to the root of `from`, creating mappings on the way. List entries must exist already.
kv_status kv_tree_set(kv_config_tree *tree, const char *key, yaml_document_t *from, int source,
                      kv_error *err);

// Whether a node is a written null (not an empty one: that is mostly a value that was forgotten).
bool kv_yaml_takes_back(yaml_document_t *doc, int id);

// Takes out every key whose value is a written null: nobody has set it then, whoever did before. Whether there was one.
bool kv_tree_take_back(kv_config_tree *tree);

// Merges what the tree has not.
kv_status kv_tree_merge_missing(kv_config_tree *tree, yaml_document_t *from, int source, kv_error *err);

// kv_yaml_find in the tree.
int kv_tree_find(kv_config_tree *tree, const char *key, int *deepest);

// One part of a dotted key: the name, or the index when *name is empty. Advances *key; false at the end or
// when the key is malformed.
enum { KV_KEY_PART = 128 };
bool kv_key_next(const char **key, char name[KV_KEY_PART], long *index);
// Whether all parts of `key` are well formed.
bool kv_key_valid(const char *key);

// As YAML text, NUL-terminated; caller frees. NULL when out of memory.
char *kv_tree_text(kv_config_tree *tree);
