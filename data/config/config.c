#include "data/config/config.h"

#include "core/text.h"
#include "data/config/beside.h"
#include "data/config/check.h"
#include "data/config/seed.h"
#include "data/config/tree.h"
#include "data/file/content.h"
#include "data/file/mistaken.h"
#include "data/system/warning.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// libyaml takes time in the square of the nesting depth: a small limit keeps a broken file from looking like
// a hang.
enum { MAX_FILE_SIZE = 64 << 10, MAX_EXTENDS = 16 };

struct kv_config {
    kv_config_tree tree;
    char *path;
    int defaults;              // index of the defaults among the sources, -1 without
    const char *defaults_text; // borrowed while loading
    const cyaml_schema_value_t *schema;
    const char *const *paths; // keys of paths, NULL without
    void *data;
    kv_error cyaml_error; // what cyaml logged first
    cyaml_config_t cyaml;
};

// ---- Sources -------------------------------------------------------------------------------------------

// A key that somebody takes back by null is as if nobody had set it: its default holds again, and what comes later may set
// it anew.
static kv_status take_back(kv_config *config, kv_error *err) {
    if (!config->schema || !kv_tree_take_back(&config->tree) || !config->defaults_text) return KV_OK;
    yaml_document_t doc;
    kv_status status = kv_yaml_parse(config->defaults_text, strlen(config->defaults_text),
                                     "built-in defaults", false, &doc, err);
    if (status != KV_OK) return status;
    status = kv_tree_merge_missing(&config->tree, &doc, config->defaults, err);
    yaml_document_delete(&doc);
    return status;
}

static kv_status merge(kv_config *config, yaml_document_t *doc, const char *label, int *source,
                       kv_error *err) {
    *source = kv_tree_add_source(&config->tree, label);
    if (*source < 0) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", label);
    const kv_status status = kv_tree_merge(&config->tree, doc, *source, err);
    return status == KV_OK ? take_back(config, err) : status;
}

static kv_status add_defaults(kv_config *config, const char *defaults, kv_error *err) {
    config->defaults = -1;
    config->defaults_text = defaults;
    if (!defaults) return KV_OK;
    static const char label[] = "built-in defaults";
    yaml_document_t doc;
    kv_status status = kv_yaml_parse(defaults, strlen(defaults), label, false, &doc, err);
    if (status) return status;
    if (config->schema) status = kv_config_check(&doc, config->schema, label, "", false, err);
    if (status == KV_OK) status = merge(config, &doc, label, &config->defaults, err);
    yaml_document_delete(&doc);
    return status;
}

// The files from the one given to the last one it extends.
struct chain {
    char *path, *real;
    const struct chain *below;
};

// Takes `extends` out of the document: the file it names, or NULL.
static kv_status take_extends(yaml_document_t *doc, const char *path, char **target, size_t *line,
                              kv_error *err) {
    *target = NULL;
    yaml_node_t *root = yaml_document_get_root_node(doc);
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top;
         pair++) {
        const yaml_node_t *key = yaml_document_get_node(doc, pair->key);
        if (key->type != YAML_SCALAR_NODE || strcmp((const char *)key->data.scalar.value, "extends") != 0)
            continue;
        *line = key->start_mark.line + 1;
        const yaml_node_t *value = yaml_document_get_node(doc, pair->value);
        const bool none = kv_yaml_takes_back(doc, pair->value);
        if (value->type != YAML_SCALAR_NODE || value->data.scalar.length == 0)
            return kv_fail(err, KV_ERR_FORMAT, "%s:%zu: key `extends`: expected the name of one file", path,
                           *line);
        const kv_config_place place = {path, *line, "extends"};
        if (!none) {
            const kv_status status =
                kv_config_named(&place, (const char *)value->data.scalar.value, target, err);
            if (status != KV_OK) return status;
        }
        memmove(pair, pair + 1, (size_t)(root->data.mapping.pairs.top - pair - 1) * sizeof *pair);
        root->data.mapping.pairs.top--;
        return KV_OK;
    }
    return KV_OK;
}

static kv_status add_file(kv_config *config, const char *path, const struct chain *below, kv_error *err);

// The extended file first: what stands in this one wins over it.
static kv_status add_document(kv_config *config, yaml_document_t *doc, const struct chain *chain,
                              kv_error *err) {
    char *target;
    size_t line = 0;
    kv_status status = take_extends(doc, chain->path, &target, &line, err);
    if (status == KV_OK && config->schema)
        status = kv_config_check(doc, config->schema, chain->path, "", true, err);
    if (status == KV_OK && target) {
        kv_error inner;
        status = add_file(config, target, chain, &inner);
        char hint[KV_ELSEWHERE];
        kv_config_elsewhere(chain->path, target, hint);
        // A mistake inside the other file names its own place; what concerns the reference names this one.
        if (status == KV_ERR_FORMAT)
            kv_fail(err, status, "%s", inner.message);
        else if (status != KV_OK)
            kv_fail(err, status, "%s:%zu: key `extends`: %.*s%s", chain->path, line,
                    KV_HEAD(inner.message, 500), hint);
    }
    free(target);
    int source;
    return status == KV_OK ? merge(config, doc, chain->path, &source, err) : status;
}

static kv_status check_chain(const struct chain *chain, kv_error *err) {
    int length = 0;
    for (const struct chain *at = chain->below; at; at = at->below) {
        if (strcmp(at->real, chain->real) == 0)
            return kv_fail(err, KV_ERR_ARGUMENT, "%s extends itself", chain->path);
        if (++length > MAX_EXTENDS)
            return kv_fail(err, KV_ERR_ARGUMENT, "%s: more than %d files extend one another", chain->path,
                           MAX_EXTENDS);
    }
    return KV_OK;
}

static kv_status read_document(kv_config *config, const char *path, const struct chain *below,
                               kv_error *err) {
    char *text;
    size_t size;
    kv_status status = kv_read_file(path, MAX_FILE_SIZE, &text, &size, err);
    if (status) return status;
    struct chain chain = {.path = strdup(path), .real = realpath(path, NULL), .below = below};
    if (chain.path && chain.real)
        status = check_chain(&chain, err);
    else
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    yaml_document_t doc;
    if (status == KV_OK) status = kv_yaml_parse(text, size, path, false, &doc, err);
    if (status == KV_OK) {
        status = add_document(config, &doc, &chain, err);
        yaml_document_delete(&doc);
    }
    free(chain.path);
    free(chain.real);
    free(text);
    return status;
}

static kv_status add_file(kv_config *config, const char *path, const struct chain *below, kv_error *err) {
    return kv_mistaken(path, KV_FILE_YAML, read_document(config, path, below, err), err);
}

static kv_status add_override(kv_config *config, const char *override, kv_error *err) {
    char label[256];
    snprintf(label, sizeof label, "-s %.*s", KV_HEAD(override, 250));
    const char *equals = strchr(override, '='), *start = override, *end = equals;
    while (equals && start < end && isblank((unsigned char)*start)) start++;
    while (equals && end > start && isblank((unsigned char)end[-1])) end--;
    const char *value = equals ? equals + 1 + strspn(equals + 1, " \t") : NULL;
    char *key = equals ? strndup(start, (size_t)(end - start)) : NULL;
    if (!equals || (key && !kv_key_valid(key))) {
        free(key);
        return kv_fail(err, KV_ERR_FORMAT, "%s: expected key=value, for example train.lr=1e-3", label);
    }
    yaml_document_t doc;
    kv_status status = key ? kv_yaml_parse(value, strlen(value), label, true, &doc, err)
                           : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", label);
    if (status == KV_OK) {
        if (config->schema) status = kv_config_check(&doc, config->schema, label, key, true, err);
        int source = status == KV_OK ? kv_tree_add_source(&config->tree, label) : 0;
        if (source < 0) status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", label);
        if (status == KV_OK) status = kv_tree_set(&config->tree, key, &doc, source, err);
        if (status == KV_OK) status = take_back(config, err);
        yaml_document_delete(&doc);
    }
    free(key);
    return status;
}

// ---- Into the struct -----------------------------------------------------------------------------------

__attribute__((format(printf, 3, 0))) static void on_cyaml_log(cyaml_log_t level, void *context,
                                                               const char *format, va_list args) {
    kv_error *first = context;
    if (level < CYAML_LOG_ERROR || first->message[0]) return;
    vsnprintf(first->message, sizeof first->message, format, args);
    first->message[strcspn(first->message, "\n")] = 0;
}

static kv_status load_struct(kv_config *config, const char *const *paths, kv_error *err) {
    kv_status status = kv_config_plain(&config->tree.doc, config->schema, err);
    if (status == KV_OK && paths) status = kv_seed_put(&config->tree.doc, paths, err);
    if (status != KV_OK) return status;
    char *text = kv_tree_text(&config->tree);
    if (!text) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->path);
    config->cyaml = (cyaml_config_t){.log_fn = on_cyaml_log,
                                     .log_ctx = &config->cyaml_error,
                                     .mem_fn = cyaml_mem,
                                     .log_level = CYAML_LOG_ERROR};
    cyaml_err_t result = cyaml_load_data((const uint8_t *)text, strlen(text), &config->cyaml, config->schema,
                                         &config->data, NULL);
    free(text);
    if (result == CYAML_OK) return KV_OK;
    config->data = NULL;
    const char *message =
        config->cyaml_error.message[0] ? config->cyaml_error.message : cyaml_strerror(result);
    return kv_fail(err, result == CYAML_ERR_OOM ? KV_ERR_MEMORY : KV_ERR_FORMAT, "%s: %s", config->path,
                   message);
}

kv_status kv_config_load_with_defaults(const char *defaults, const char *const *paths, const char *path,
                                       const char *const *overrides, size_t n_overrides,
                                       const cyaml_schema_value_t *schema, kv_config **out, kv_error *err) {
    *out = NULL;
    kv_config *config = calloc(1, sizeof *config);
    if (!config) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    config->schema = schema;
    config->paths = paths;
    config->path = strdup(path);
    kv_status status = config->path ? kv_tree_create(&config->tree, err)
                                    : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    if (status == KV_OK) status = add_defaults(config, defaults, err);
    if (status == KV_OK) status = add_file(config, path, NULL, err);
    for (size_t i = 0; status == KV_OK && i < n_overrides; i++)
        status = add_override(config, overrides[i], err);
    if (status == KV_OK && schema) status = load_struct(config, paths, err);
    if (status == KV_OK)
        *out = config;
    else
        kv_config_free(config);
    return status;
}

kv_status kv_config_load(const char *path, const char *const *overrides, size_t n_overrides,
                         const cyaml_schema_value_t *schema, kv_config **config, kv_error *err) {
    return kv_config_load_with_defaults(NULL, NULL, path, overrides, n_overrides, schema, config, err);
}

kv_status kv_config_read_text(const char *text, kv_config **out, kv_error *err) {
    kv_config *config = calloc(1, sizeof *config);
    kv_status status = config ? kv_tree_create(&config->tree, err) : KV_ERR_MEMORY;
    if (!config) return kv_fail(err, status, "out of memory for a configuration");
    if (status == KV_OK) status = add_defaults(config, text, err);
    *out = status == KV_OK ? config : NULL;
    if (status != KV_OK) kv_config_free(config);
    return status;
}

void kv_config_free(kv_config *config) {
    if (!config) return;
    if (config->data) cyaml_free(&config->cyaml, config->schema, config->data, 0);
    kv_tree_free(&config->tree);
    free(config->path);
    free(config);
}

// ---- Questions -----------------------------------------------------------------------------------------

void *kv_config_data(const kv_config *config) {
    return config->data;
}

// libyaml's document functions take non-const documents but only read here.
static kv_config_tree *tree_of(const kv_config *config) {
    return (kv_config_tree *)&config->tree;
}

bool kv_config_has(const kv_config *config, const char *key) {
    int id = kv_tree_find(tree_of(config), key, NULL);
    return id && config->tree.origins[id - 1].source != config->defaults;
}

static bool is_override(const char *source) {
    return strncmp(source, "-s ", 3) == 0;
}

// Sources are in the order in which they were put over each other. A group is made of what several of them say.
static bool is_below(const kv_config *config, int id, int over) {
    yaml_document_t *doc = &tree_of(config)->doc;
    const yaml_node_t *node = yaml_document_get_node(doc, id);
    const int source = config->tree.origins[id - 1].source;
    if (node->type != YAML_MAPPING_NODE || node->data.mapping.pairs.start == node->data.mapping.pairs.top)
        return source < over && !is_override(config->tree.sources[source]);
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++)
        if (!is_below(config, pair->value, over)) return false;
    return true;
}

bool kv_config_overtaken(const kv_config *config, const char *key, const char *by) {
    const int id = kv_tree_find(tree_of(config), key, NULL), over = kv_tree_find(tree_of(config), by, NULL);
    return id && over && is_below(config, id, config->tree.origins[over - 1].source);
}

// Whether the key, "systems[2].base" say, is one of those patterns, "systems[].base", but for what is written.
static bool names_input(const kv_config *config, const char *key) {
    char pattern[128];
    size_t n = 0;
    for (; *key && n < sizeof pattern - 1; key++)
        if (!isdigit((unsigned char)*key)) pattern[n++] = *key;
    pattern[n] = '\0';
    for (const char *const *path = config->paths; path && *path; path++)
        if (strcmp(*path, pattern) == 0) return strcmp(pattern, "output") != 0;
    return false;
}

// What to add where the complaint may be that nothing is at the path which the node `id` names.
static void look_elsewhere(const kv_config *config, const char *key, int id, const char *file,
                           char hint[KV_ELSEWHERE]) {
    const yaml_node_t *node = id ? yaml_document_get_node(&tree_of(config)->doc, id) : NULL;
    *hint = '\0';
    if (node && node->type == YAML_SCALAR_NODE && names_input(config, key))
        kv_config_elsewhere(file, (const char *)node->data.scalar.value, hint);
}

static kv_status complain(const kv_config *config, kv_error *err, const char *key, const char *format,
                          va_list args) {
    char message[640], hint[KV_ELSEWHERE];
    vsnprintf(message, sizeof message, format, args);
    int deepest = 1;
    int id = kv_tree_find(tree_of(config), key, &deepest);
    const kv_config_origin *origin = &config->tree.origins[(id ? id : deepest) - 1];
    const char *source = config->tree.sources[origin->source];
    // A key that nobody set is missing from the file the user named.
    bool from_file = origin->source != config->defaults && !is_override(source) && (id || deepest > 1);
    look_elsewhere(config, key, id, from_file ? source : config->path, hint);
    if (*hint) message[kv_text_head(message, 420)] = '\0';
    if (id && is_override(source))
        return kv_fail(err, KV_ERR_FORMAT, "%.*s: key `%s`: %s%s", KV_HEAD(source, 240), key, message, hint);
    return kv_fail(err, KV_ERR_FORMAT, "%.*s:%zu: key `%s`: %s%s",
                   KV_HEAD(from_file ? source : config->path, 240), from_file ? origin->line : 1, key,
                   message, hint);
}

kv_status kv_config_fail(const kv_config *config, kv_error *err, const char *key, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const kv_status status = complain(config, err, key, format, args);
    va_end(args);
    return status;
}

void kv_config_warn(const kv_config *config, const char *key, const char *format, ...) {
    kv_error warning;
    va_list args;
    va_start(args, format);
    complain(config, &warning, key, format, args);
    va_end(args);
    kv_warn("%s", warning.message);
}

void kv_config_record(const kv_config *config, const kv_config_given *keys, size_t n) {
    for (size_t i = 0; i < n; i++) *keys[i].given = kv_config_has(config, keys[i].key);
}

kv_status kv_config_require(const kv_config *config, const char *const *keys, size_t n, const char *why,
                            kv_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!kv_config_has(config, keys[i]))
            return kv_config_fail(config, err, keys[i], "found nothing, expected a value: %s", why);
    return KV_OK;
}

kv_status kv_config_forbid(const kv_config *config, const char *const *keys, size_t n, const char *why,
                           kv_error *err) {
    for (size_t i = 0; i < n; i++)
        if (kv_config_has(config, keys[i]))
            return kv_config_fail(config, err, keys[i], "found a key without effect, expected it %s", why);
    return KV_OK;
}

char *kv_config_value(const kv_config *config, const char *key) {
    kv_config_tree *tree = tree_of(config);
    const int id = kv_tree_find(tree, key, NULL);
    const yaml_node_t *node = id ? yaml_document_get_node(&tree->doc, id) : NULL;
    if (!node) return NULL;
    if (node->type == YAML_SCALAR_NODE) return strdup((const char *)node->data.scalar.value);
    return kv_yaml_line(&tree->doc, id);
}

char *kv_config_text(const kv_config *config) {
    return kv_tree_text(tree_of(config));
}

// ---- Comparison ----------------------------------------------------------------------------------------

struct comparison {
    kv_config_tree *a, *b;
    const char *const *ignored;
    size_t n_ignored;
    kv_config_difference *difference;
};

static void node_text(const yaml_node_t *node, char text[96]) {
    if (!node)
        strcpy(text, "nothing");
    else if (node->type == YAML_SCALAR_NODE)
        snprintf(text, 96, "`%.*s`", KV_HEAD((const char *)node->data.scalar.value, 80));
    else
        strcpy(text, node->type == YAML_SEQUENCE_NODE ? "a list" : "a group of keys");
}

static bool same_scalar(const char *a, const char *b) {
    if (strcmp(a, b) == 0) return true;
    char *end_a, *end_b;
    double x = strtod(a, &end_a), y = strtod(b, &end_b);
    return *a && *b && !*end_a && !*end_b && x == y;
}

static bool same_node(const struct comparison *c, int a, int b, const char *path);

// Every entry of mapping or list `a` that `b` has differently or not at all.
static bool same_entries(const struct comparison *c, const yaml_node_t *a, int b, const char *path) {
    char child[160];
    if (a->type == YAML_MAPPING_NODE) {
        for (const yaml_node_pair_t *pair = a->data.mapping.pairs.start; pair < a->data.mapping.pairs.top;
             pair++) {
            const char *key = (const char *)yaml_document_get_node(&c->a->doc, pair->key)->data.scalar.value;
            snprintf(child, sizeof child, "%.*s%s%.*s", KV_HEAD(path, 80), *path ? "." : "",
                     KV_HEAD(key, 70));
            if (!same_node(c, pair->value, b ? kv_yaml_get(&c->b->doc, b, key) : 0, child)) return false;
        }
        return true;
    }
    const yaml_node_t *other = yaml_document_get_node(&c->b->doc, b);
    size_t n = (size_t)(a->data.sequence.items.top - a->data.sequence.items.start);
    size_t n_other = (size_t)(other->data.sequence.items.top - other->data.sequence.items.start);
    for (size_t i = 0; i < n; i++) {
        snprintf(child, sizeof child, "%.*s[%zu]", KV_HEAD(path, 130), i);
        int entry = i < n_other ? other->data.sequence.items.start[i] : 0;
        if (!same_node(c, a->data.sequence.items.start[i], entry, child)) return false;
    }
    return true;
}

static bool same_node(const struct comparison *c, int a, int b, const char *path) {
    for (size_t i = 0; i < c->n_ignored; i++)
        if (strcmp(c->ignored[i], path) == 0) return true;
    const yaml_node_t *x = yaml_document_get_node(&c->a->doc, a);
    const yaml_node_t *y = b ? yaml_document_get_node(&c->b->doc, b) : NULL;
    // A group that the other side lacks differs only in the keys it holds.
    if (x->type == YAML_MAPPING_NODE && (!y || y->type == YAML_MAPPING_NODE))
        return same_entries(c, x, b, path);
    if (y && x->type == y->type) {
        if (x->type == YAML_SEQUENCE_NODE) return same_entries(c, x, b, path);
        if (same_scalar((const char *)x->data.scalar.value, (const char *)y->data.scalar.value)) return true;
    }
    snprintf(c->difference->key, sizeof c->difference->key, "%s", path);
    node_text(x, c->difference->a);
    node_text(y, c->difference->b);
    return false;
}

bool kv_config_compare(const kv_config *a, const kv_config *b, const char *const *ignored, size_t n_ignored,
                       kv_config_difference *difference) {
    struct comparison c = {tree_of(a), tree_of(b), ignored, n_ignored, difference};
    if (!same_node(&c, 1, 1, "")) return true;
    c = (struct comparison){tree_of(b), tree_of(a), ignored, n_ignored, difference};
    if (same_node(&c, 1, 1, "")) return false;
    char swap[sizeof difference->a];
    memcpy(swap, difference->a, sizeof swap);
    memcpy(difference->a, difference->b, sizeof swap);
    memcpy(difference->b, swap, sizeof swap);
    return true;
}
