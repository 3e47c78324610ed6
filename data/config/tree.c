#include "data/config/tree.h"

#include "data/config/scalar.h"
#include "data/system/buffers.h"

#include <stdlib.h>
#include <string.h>

// Aliases can make a small file describe an endless (or exponentially large) tree.
enum { MAX_DEPTH = 64, MAX_NODES = 1 << 17 };

// ---- Reading -------------------------------------------------------------------------------------------

static size_t line_at(const char *text, size_t size, size_t offset) {
    size_t line = 1;
    for (size_t i = 0; i < size && i < offset; i++) line += text[i] == '\n';
    return line;
}

static kv_status parse_failure(const yaml_parser_t *parser, const char *text, size_t size, const char *label,
                               kv_error *err) {
    if (parser->error == YAML_MEMORY_ERROR) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", label);
    size_t line = parser->error == YAML_READER_ERROR ? line_at(text, size, parser->problem_offset)
                                                     : parser->problem_mark.line + 1;
    return kv_fail(err, KV_ERR_FORMAT, "%s:%zu: not valid YAML: %s%s%s", label, line,
                   parser->problem ? parser->problem : "unreadable", parser->context ? ", " : "",
                   parser->context ? parser->context : "");
}

static kv_status check_root(yaml_document_t *doc, const char *label, bool any_root, kv_error *err) {
    const yaml_node_t *root = yaml_document_get_root_node(doc);
    if (!root) {
        if (any_root
                ? !yaml_document_add_scalar(doc, NULL, (const yaml_char_t *)"", 0, YAML_PLAIN_SCALAR_STYLE)
                : !yaml_document_add_mapping(doc, NULL, YAML_BLOCK_MAPPING_STYLE))
            return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", label);
    } else if (!any_root && root->type != YAML_MAPPING_NODE) {
        return kv_fail(err, KV_ERR_FORMAT, "%s:%zu: found %s, expected `key: value` lines", label,
                       root->start_mark.line + 1,
                       root->type == YAML_SEQUENCE_NODE ? "a list" : "a single value");
    }
    return KV_OK;
}

kv_status kv_yaml_parse(const char *text, size_t size, const char *label, bool any_root, yaml_document_t *doc,
                        kv_error *err) {
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", label);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    kv_status status;
    if (!yaml_parser_load(&parser, doc)) {
        status = parse_failure(&parser, text, size, label, err);
        yaml_parser_delete(&parser);
        return status;
    }
    // A document without content also marks the end of the stream; asking again would be an error.
    bool at_end = !yaml_document_get_root_node(doc);
    status = check_root(doc, label, any_root, err);
    if (status == KV_OK && !at_end) {
        yaml_document_t second;
        if (!yaml_parser_load(&parser, &second)) {
            status = parse_failure(&parser, text, size, label, err);
        } else {
            const yaml_node_t *root = yaml_document_get_root_node(&second);
            if (root)
                status = kv_fail(err, KV_ERR_FORMAT, "%s:%zu: found a second YAML document, expected one",
                                 label, root->start_mark.line + 1);
            yaml_document_delete(&second);
        }
    }
    if (status == KV_OK) status = kv_yaml_resolve(doc, label, err);
    if (status != KV_OK) yaml_document_delete(doc);
    yaml_parser_delete(&parser);
    return status;
}

static const char *scalar_text(yaml_document_t *doc, int id) {
    const yaml_node_t *node = yaml_document_get_node(doc, id);
    return node && node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

static yaml_node_pair_t *find_pair(yaml_document_t *doc, int mapping, const char *key) {
    const yaml_node_t *node = yaml_document_get_node(doc, mapping);
    if (!node || node->type != YAML_MAPPING_NODE) return NULL;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        const char *text = scalar_text(doc, pair->key);
        if (text && strcmp(text, key) == 0) return pair;
    }
    return NULL;
}

int kv_yaml_get(yaml_document_t *doc, int mapping, const char *key) {
    const yaml_node_pair_t *pair = find_pair(doc, mapping, key);
    return pair ? pair->value : 0;
}

// ---- Merging -------------------------------------------------------------------------------------------

kv_status kv_tree_create(kv_config_tree *tree, kv_error *err) {
    *tree = (kv_config_tree){0};
    if (!yaml_document_initialize(&tree->doc, NULL, NULL, NULL, 1, 1))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    tree->open = true;
    tree->origins = calloc(1, sizeof *tree->origins);
    if (!tree->origins || !yaml_document_add_mapping(&tree->doc, NULL, YAML_BLOCK_MAPPING_STYLE))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    tree->origins[0] = (kv_config_origin){.source = 0, .line = 1};
    tree->n_origins = 1;
    return KV_OK;
}

void kv_tree_free(kv_config_tree *tree) {
    if (tree->open) yaml_document_delete(&tree->doc);
    for (int i = 0; i < tree->n_sources; i++) free(tree->sources[i]);
    free(tree->sources);
    free(tree->origins);
    *tree = (kv_config_tree){0};
}

int kv_tree_add_source(kv_config_tree *tree, const char *name) {
    char **sources = kv_room_for_one(tree->sources, (size_t)tree->n_sources, sizeof *sources);
    if (!sources) return -1;
    tree->sources = sources;
    char *copy = strdup(name);
    if (!copy) return -1;
    sources[tree->n_sources] = copy;
    return tree->n_sources++;
}

// One merge from `from` (of source `source`) into the tree.
struct merge {
    kv_config_tree *tree;
    yaml_document_t *from;
    int source;
    bool only_missing;
    kv_error *err;
};

static int merge_failure(const struct merge *m) {
    kv_fail(m->err, KV_ERR_MEMORY, "%s: out of memory", m->tree->sources[m->source]);
    return 0;
}

static int add_origin(const struct merge *m, int id, size_t line) {
    kv_config_tree *tree = m->tree;
    if (!id) return merge_failure(m);
    kv_config_origin *origins = kv_room_for_one(tree->origins, tree->n_origins, sizeof *origins);
    if (!origins) return merge_failure(m);
    tree->origins = origins;
    origins[tree->n_origins++] = (kv_config_origin){.source = m->source, .line = line};
    return id;
}

static int copy_node(const struct merge *m, int id, size_t line, int depth);

static bool copy_children(const struct merge *m, const yaml_node_t *node, int copy, int depth) {
    yaml_document_t *doc = &m->tree->doc;
    if (node->type == YAML_SEQUENCE_NODE) {
        for (const yaml_node_item_t *item = node->data.sequence.items.start;
             item < node->data.sequence.items.top; item++) {
            const yaml_node_t *child = yaml_document_get_node(m->from, *item);
            int entry = copy_node(m, *item, child->start_mark.line + 1, depth + 1);
            if (!entry) return false;
            if (!yaml_document_append_sequence_item(doc, copy, entry)) return merge_failure(m);
        }
    } else if (node->type == YAML_MAPPING_NODE) {
        for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
             pair < node->data.mapping.pairs.top; pair++) {
            size_t line = yaml_document_get_node(m->from, pair->key)->start_mark.line + 1;
            int key = copy_node(m, pair->key, line, depth + 1);
            int value = key ? copy_node(m, pair->value, line, depth + 1) : 0;
            if (!value) return false;
            if (!yaml_document_append_mapping_pair(doc, copy, key, value)) return merge_failure(m);
        }
    }
    return true;
}

// The id of a deep copy in the tree, 0 on failure.
static int copy_node(const struct merge *m, int id, size_t line, int depth) {
    yaml_document_t *doc = &m->tree->doc;
    if (depth > MAX_DEPTH || m->tree->n_origins > MAX_NODES) {
        kv_fail(m->err, KV_ERR_FORMAT, "%s:%zu: found a document nested or repeated (by aliases) without end",
                m->tree->sources[m->source], line);
        return 0;
    }
    const yaml_node_t *node = yaml_document_get_node(m->from, id);
    int copy = 0;
    if (node->type == YAML_SCALAR_NODE)
        copy = yaml_document_add_scalar(doc, node->tag, node->data.scalar.value,
                                        (int)node->data.scalar.length, node->data.scalar.style);
    else if (node->type == YAML_SEQUENCE_NODE)
        copy = yaml_document_add_sequence(doc, node->tag, node->data.sequence.style);
    else if (node->type == YAML_MAPPING_NODE)
        copy = yaml_document_add_mapping(doc, node->tag, YAML_BLOCK_MAPPING_STYLE); // one key a line
    if (!add_origin(m, copy, line) || !copy_children(m, node, copy, depth)) return 0;
    return copy;
}

static bool is_mapping(yaml_document_t *doc, int id) {
    const yaml_node_t *node = yaml_document_get_node(doc, id);
    return node && node->type == YAML_MAPPING_NODE;
}

// Nodes move when the tree grows: pointers into it are fetched again after every copy.
static bool merge_mapping(const struct merge *m, int into, int from, int depth) {
    yaml_document_t *doc = &m->tree->doc;
    const yaml_node_t *node = yaml_document_get_node(m->from, from);
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        const char *key = scalar_text(m->from, pair->key);
        if (!key) continue; // the schema check has refused it already
        size_t line = yaml_document_get_node(m->from, pair->key)->start_mark.line + 1;
        int old = kv_yaml_get(doc, into, key);
        if (old && is_mapping(doc, old) && is_mapping(m->from, pair->value) && depth < MAX_DEPTH) {
            if (!m->only_missing)
                m->tree->origins[old - 1] = (kv_config_origin){.source = m->source, .line = line};
            if (!merge_mapping(m, old, pair->value, depth + 1)) return false;
            continue;
        }
        if (old && m->only_missing) continue;
        int value = copy_node(m, pair->value, line, depth + 1);
        if (!value) return false;
        if (old) {
            find_pair(doc, into, key)->value = value;
        } else {
            int name = copy_node(m, pair->key, line, depth + 1);
            if (!name) return false;
            if (!yaml_document_append_mapping_pair(doc, into, name, value)) return merge_failure(m);
        }
    }
    return true;
}

static kv_status merge_status(const kv_error *inner, bool ok, kv_error *err) {
    return ok ? KV_OK : kv_fail(err, inner->code, "%s", inner->message);
}

kv_status kv_tree_merge(kv_config_tree *tree, yaml_document_t *from, int source, kv_error *err) {
    kv_error inner = {0};
    struct merge m = {.tree = tree, .from = from, .source = source, .err = &inner};
    return merge_status(&inner, merge_mapping(&m, 1, 1, 0), err);
}

kv_status kv_tree_merge_missing(kv_config_tree *tree, yaml_document_t *from, int source, kv_error *err) {
    kv_error inner = {0};
    struct merge m = {.tree = tree, .from = from, .source = source, .only_missing = true, .err = &inner};
    return merge_status(&inner, merge_mapping(&m, 1, 1, 0), err);
}

// ---- Taking back ---------------------------------------------------------------------------------------

bool kv_yaml_takes_back(yaml_document_t *doc, int id) {
    const yaml_node_t *node = yaml_document_get_node(doc, id);
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           node->data.scalar.length > 0 && kv_yaml_null((const char *)node->data.scalar.value);
}

static bool take_back(yaml_document_t *doc, int id) {
    yaml_node_t *node = yaml_document_get_node(doc, id);
    bool any = false;
    if (node->type == YAML_SEQUENCE_NODE) {
        for (const yaml_node_item_t *item = node->data.sequence.items.start;
             item < node->data.sequence.items.top; item++)
            any = take_back(doc, *item) || any;
    }
    if (node->type != YAML_MAPPING_NODE) return any;
    yaml_node_pair_t *kept = node->data.mapping.pairs.start;
    for (const yaml_node_pair_t *pair = kept; pair < node->data.mapping.pairs.top; pair++) {
        const bool taken = kv_yaml_takes_back(doc, pair->value);
        any = taken || take_back(doc, pair->value) || any;
        if (!taken) *kept++ = *pair;
    }
    node->data.mapping.pairs.top = kept;
    return any;
}

// The tree is a tree, at most MAX_DEPTH deep: whatever was repeated has been copied.
bool kv_tree_take_back(kv_config_tree *tree) {
    return take_back(&tree->doc, 1);
}

// ---- Keys ----------------------------------------------------------------------------------------------

bool kv_key_next(const char **key, char name[KV_KEY_PART], long *index) {
    const char *at = *key;
    *index = -1;
    name[0] = 0;
    if (!*at) return false;
    if (*at == '[') {
        char *end;
        if (at[1] < '0' || at[1] > '9') return false;
        *index = strtol(at + 1, &end, 10);
        if (*end != ']') return false;
        *key = end + 1;
        return **key == 0 || **key == '[' || **key == '.';
    }
    if (*at == '.') at++;
    size_t length = strcspn(at, ".[");
    if (length == 0 || length >= KV_KEY_PART) return false;
    memcpy(name, at, length);
    name[length] = 0;
    *key = at + length;
    return true;
}

bool kv_key_valid(const char *key) {
    char name[KV_KEY_PART];
    long index;
    if (*key == '.' || *key == '[' || !*key) return false;
    while (kv_key_next(&key, name, &index)) continue;
    return *key == 0;
}

static int list_entry(yaml_document_t *doc, int list, long index) {
    const yaml_node_t *node = yaml_document_get_node(doc, list);
    if (!node || node->type != YAML_SEQUENCE_NODE) return 0;
    long n = (long)(node->data.sequence.items.top - node->data.sequence.items.start);
    return index < n ? node->data.sequence.items.start[index] : 0;
}

int kv_yaml_find(yaml_document_t *doc, const char *key, int *deepest) {
    int at = 1, next = 1;
    char name[KV_KEY_PART];
    long index;
    while (next && kv_key_next(&key, name, &index)) {
        at = next;
        next = *name ? kv_yaml_get(doc, at, name) : list_entry(doc, at, index);
    }
    if (deepest) *deepest = next ? next : at;
    return *key ? 0 : next;
}

int kv_tree_find(kv_config_tree *tree, const char *key, int *deepest) {
    return kv_yaml_find(&tree->doc, key, deepest);
}

const char *kv_yaml_scalar(yaml_document_t *doc, const char *key) {
    return scalar_text(doc, kv_yaml_find(doc, key, NULL));
}

// The node for the next part below `at`, made as an empty mapping when missing.
static int descend(const struct merge *m, int at, const char *name, long index, const char *key) {
    yaml_document_t *doc = &m->tree->doc;
    int next = *name ? kv_yaml_get(doc, at, name) : list_entry(doc, at, index);
    if (next) return next;
    if (!*name || !is_mapping(doc, at)) {
        kv_fail(m->err, KV_ERR_FORMAT,
                "%s: key `%s`: found no such entry to change, expected one set in the file",
                m->tree->sources[m->source], key);
        return 0;
    }
    int value = add_origin(m, yaml_document_add_mapping(doc, NULL, YAML_BLOCK_MAPPING_STYLE), 1);
    int key_node = value ? add_origin(m,
                                      yaml_document_add_scalar(doc, NULL, (const yaml_char_t *)name,
                                                               (int)strlen(name), YAML_ANY_SCALAR_STYLE),
                                      1)
                         : 0;
    if (!key_node) return 0;
    return yaml_document_append_mapping_pair(doc, at, key_node, value) ? value : merge_failure(m);
}

static bool set_at(const struct merge *m, const char *key) {
    yaml_document_t *doc = &m->tree->doc;
    int at = 1, parent = 0;
    char name[KV_KEY_PART] = "";
    long index = -1;
    for (const char *rest = key; *rest;) {
        if (!kv_key_next(&rest, name, &index)) break; // checked by kv_key_valid before
        parent = at;
        at = descend(m, at, name, index, key);
        if (!at) return false;
    }
    if (is_mapping(doc, at) && is_mapping(m->from, 1)) return merge_mapping(m, at, 1, 0);
    int value = copy_node(m, 1, 1, 0);
    if (!value) return false;
    if (*name)
        find_pair(doc, parent, name)->value = value;
    else
        yaml_document_get_node(doc, parent)->data.sequence.items.start[index] = value;
    return true;
}

kv_status kv_tree_set(kv_config_tree *tree, const char *key, yaml_document_t *from, int source,
                      kv_error *err) {
    kv_error inner = {0};
    struct merge m = {.tree = tree, .from = from, .source = source, .err = &inner};
    return merge_status(&inner, set_at(&m, key), err);
}

// ---- Writing -------------------------------------------------------------------------------------------

static int append_text(void *into, unsigned char *bytes, size_t size) {
    return kv_bytes_add(into, (const char *)bytes, size, NULL) == KV_OK;
}

char *kv_tree_text(kv_config_tree *tree) {
    // The emitter destroys what it prints, so it gets a copy.
    kv_config_tree copy;
    bool ok = kv_tree_create(&copy, NULL) == KV_OK && kv_tree_add_source(&copy, "copy") == 0 &&
              kv_tree_merge(&copy, &tree->doc, 0, NULL) == KV_OK;
    kv_bytes text = {0};
    yaml_emitter_t emitter;
    if (ok && yaml_emitter_initialize(&emitter)) {
        yaml_emitter_set_output(&emitter, append_text, &text);
        yaml_emitter_set_unicode(&emitter, 1);
        yaml_emitter_set_width(&emitter, -1);
        copy.open = false;
        ok = yaml_emitter_open(&emitter) && yaml_emitter_dump(&emitter, &copy.doc) &&
             yaml_emitter_close(&emitter);
        yaml_emitter_delete(&emitter);
    }
    kv_tree_free(&copy);
    if (ok && text.length > 0 && text.data[text.length - 1] != '\n')
        ok = kv_bytes_add(&text, "\n", 1, NULL) == KV_OK;
    if (ok && kv_bytes_add(&text, "", 1, NULL) == KV_OK) return text.data;
    kv_bytes_free(&text);
    return NULL;
}
