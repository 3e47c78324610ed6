#include "data/config/check.h"

#include "core/text.h"
#include "data/config/scalar.h"
#include "data/config/tree.h"
#include "data/system/number.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 512 };

struct check {
    yaml_document_t *doc;
    const char *label;
    bool with_line;  // an override is one line: only files have line numbers
    bool takes_back; // a null is no value but the wish for none
    kv_error *err;
};

static kv_status check_node(const struct check *c, int id, size_t line, const cyaml_schema_value_t *schema,
                            const char *path);

static void where(const struct check *c, size_t line, char text[PATH_SIZE]) {
    if (c->with_line)
        snprintf(text, PATH_SIZE, "%s:%zu", c->label, line);
    else
        snprintf(text, PATH_SIZE, "%s", c->label);
}

static void describe(const yaml_node_t *node, char text[96]) {
    if (node->type == YAML_MAPPING_NODE)
        strcpy(text, "a group of keys");
    else if (node->type == YAML_SEQUENCE_NODE)
        strcpy(text, "a list");
    else if (node->data.scalar.length == 0)
        strcpy(text, "nothing");
    else
        snprintf(text, 96, "`%.*s`", KV_HEAD((const char *)node->data.scalar.value, 64));
}

static kv_status expected(const struct check *c, const yaml_node_t *node, size_t line, const char *path,
                          const char *what) {
    char place[PATH_SIZE], found[96];
    where(c, line, place);
    describe(node, found);
    // What begins with a brace is one of YAML's groups, unless it is quoted.
    const bool braces = node->type == YAML_MAPPING_NODE && !strcmp(what, "a text") &&
                        node->data.mapping.style == YAML_FLOW_MAPPING_STYLE;
    if (braces) what = "a text, in quotes where it begins with a brace";
    if (!*path) return kv_fail(c->err, KV_ERR_FORMAT, "%s: found %s, expected %s", place, found, what);
    return kv_fail(c->err, KV_ERR_FORMAT, "%s: key `%s`: found %s, expected %s", place, path, found, what);
}

// ---- Groups and lists ----------------------------------------------------------------------------------

static const cyaml_schema_field_t *find_field(const cyaml_schema_value_t *schema, const char *key) {
    for (const cyaml_schema_field_t *field = schema->mapping.fields; field->key; field++)
        if (strcmp(field->key, key) == 0) return field;
    return NULL;
}

static kv_status unknown_key(const struct check *c, const cyaml_schema_value_t *schema, size_t line,
                             const char *path) {
    char place[PATH_SIZE], known[640] = "";
    size_t used = 0;
    for (const cyaml_schema_field_t *field = schema->mapping.fields; field->key; field++) {
        int n = snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", field->key);
        used += n > 0 ? (size_t)n : 0;
        if (used >= sizeof known) break;
    }
    where(c, line, place);
    return kv_fail(c->err, KV_ERR_FORMAT, "%s: key `%s`: found an unknown key, expected one of: %s", place,
                   path, known);
}

static kv_status check_pair(const struct check *c, const yaml_node_t *mapping, const yaml_node_pair_t *pair,
                            const cyaml_schema_value_t *schema, const char *path) {
    const yaml_node_t *key = yaml_document_get_node(c->doc, pair->key);
    size_t line = key->start_mark.line + 1;
    if (key->type != YAML_SCALAR_NODE) return expected(c, key, line, path, "a plain word as key");
    const char *name = (const char *)key->data.scalar.value;
    char child[PATH_SIZE];
    snprintf(child, sizeof child, "%.*s%s%.*s", KV_HEAD(path, 300), *path ? "." : "", KV_HEAD(name, 128));
    const cyaml_schema_field_t *field = find_field(schema, name);
    if (!field) return unknown_key(c, schema, line, child);
    for (const yaml_node_pair_t *other = mapping->data.mapping.pairs.start; other < pair; other++) {
        const yaml_node_t *earlier = yaml_document_get_node(c->doc, other->key);
        if (earlier->type == YAML_SCALAR_NODE &&
            strcmp((const char *)earlier->data.scalar.value, name) == 0) {
            char place[PATH_SIZE];
            where(c, line, place);
            return kv_fail(c->err, KV_ERR_FORMAT,
                           "%s: key `%s`: found twice, first on line %zu, expected once", place, child,
                           earlier->start_mark.line + 1);
        }
    }
    if (c->takes_back && kv_yaml_takes_back(c->doc, pair->value)) return KV_OK;
    return check_node(c, pair->value, line, &field->value, child);
}

static kv_status check_mapping(const struct check *c, const yaml_node_t *node, size_t line,
                               const cyaml_schema_value_t *schema, const char *path) {
    if (node->type != YAML_MAPPING_NODE)
        return expected(c, node, line, path, "a group of `key: value` lines");
    kv_status status = KV_OK;
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         status == KV_OK && pair < node->data.mapping.pairs.top; pair++)
        status = check_pair(c, node, pair, schema, path);
    return status;
}

static kv_status check_sequence(const struct check *c, const yaml_node_t *node, size_t line,
                                const cyaml_schema_value_t *schema, const char *path) {
    if (node->type != YAML_SEQUENCE_NODE) return expected(c, node, line, path, "a list");
    size_t n = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    if (n < schema->sequence.min || n > schema->sequence.max) {
        char place[PATH_SIZE];
        where(c, line, place);
        return kv_fail(c->err, KV_ERR_FORMAT,
                       "%s: key `%s`: found a list of %zu, expected %" PRIu32 " to %" PRIu32, place, path, n,
                       schema->sequence.min, schema->sequence.max);
    }
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < n; i++) {
        char child[PATH_SIZE];
        snprintf(child, sizeof child, "%.*s[%zu]", KV_HEAD(path, 440), i);
        int id = node->data.sequence.items.start[i];
        status = check_node(c, id, yaml_document_get_node(c->doc, id)->start_mark.line + 1,
                            schema->sequence.entry, child);
    }
    return status;
}

// ---- Scalars -------------------------------------------------------------------------------------------

static bool valid_int(const char *text, uint32_t data_size) {
    int64_t value;
    if (!kv_yaml_whole(text, &value)) return false;
    if (data_size >= 8) return true;
    int64_t limit = INT64_C(1) << (8 * data_size - 1);
    return value >= -limit && value < limit;
}

static bool valid_uint(const char *text, uint32_t data_size) {
    uint64_t value;
    return kv_yaml_unsigned(text, &value) && (data_size >= 8 || value >> (8 * data_size) == 0);
}

static kv_status check_enum(const struct check *c, const yaml_node_t *node, size_t line,
                            const cyaml_schema_value_t *schema, const char *path) {
    char known[256] = "one of: ";
    size_t used = strlen(known);
    for (uint32_t i = 0; i < schema->enumeration.count; i++) {
        const char *word = schema->enumeration.strings[i].str;
        if (strcmp(word, (const char *)node->data.scalar.value) == 0) return KV_OK;
        int n = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", word);
        used += n > 0 ? (size_t)n : 0;
        if (used >= sizeof known) break;
    }
    return expected(c, node, line, path, known);
}

static kv_status check_string(const struct check *c, const yaml_node_t *node, size_t line,
                              const cyaml_schema_value_t *schema, const char *path) {
    size_t length = node->data.scalar.length;
    bool plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    const char *text = (const char *)node->data.scalar.value;
    if (plain && kv_yaml_null(text)) return expected(c, node, line, path, "a text");
    if (memchr(text, 0, length)) return expected(c, node, line, path, "a text without NUL characters");
    if (length < schema->string.min || length > schema->string.max) {
        char what[96];
        snprintf(what, sizeof what, "a text of %" PRIu32 " to %" PRIu32 " bytes", schema->string.min,
                 schema->string.max);
        return expected(c, node, line, path, what);
    }
    return KV_OK;
}

static bool is_null(const yaml_node_t *node) {
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           kv_yaml_null((const char *)node->data.scalar.value);
}

static kv_status check_number(const struct check *c, const yaml_node_t *node, size_t line,
                              const cyaml_schema_value_t *schema, const char *path) {
    const char *text = (const char *)node->data.scalar.value;
    double real;
    bool truth;
    if (schema->type == CYAML_INT && !valid_int(text, schema->data_size))
        return expected(c, node, line, path, "a whole number");
    if (schema->type == CYAML_UINT && !valid_uint(text, schema->data_size))
        return expected(c, node, line, path, "a whole number that is not negative");
    if (schema->type == CYAML_FLOAT && !kv_yaml_real(text, &real))
        return expected(c, node, line, path, "a number");
    if (schema->type == CYAML_BOOL && !kv_yaml_truth(text, &truth))
        return expected(c, node, line, path, "true or false");
    return KV_OK;
}

static kv_status check_node(const struct check *c, int id, size_t line, const cyaml_schema_value_t *schema,
                            const char *path) {
    const yaml_node_t *node = yaml_document_get_node(c->doc, id);
    if ((schema->flags & CYAML_FLAG_POINTER_NULL_STR) == CYAML_FLAG_POINTER_NULL_STR && is_null(node))
        return KV_OK;
    if (schema->type == CYAML_MAPPING) return check_mapping(c, node, line, schema, path);
    if (schema->type == CYAML_SEQUENCE || schema->type == CYAML_SEQUENCE_FIXED)
        return check_sequence(c, node, line, schema, path);
    switch (schema->type) {
    case CYAML_INT:
    case CYAML_UINT:
    case CYAML_FLOAT:
    case CYAML_BOOL:
        if (node->type != YAML_SCALAR_NODE)
            return expected(c, node, line, path, schema->type == CYAML_BOOL ? "true or false" : "a number");
        return check_number(c, node, line, schema, path);
    case CYAML_ENUM:
        if (node->type != YAML_SCALAR_NODE) return expected(c, node, line, path, "a single word");
        return check_enum(c, node, line, schema, path);
    case CYAML_STRING:
        if (node->type != YAML_SCALAR_NODE) return expected(c, node, line, path, "a text");
        return check_string(c, node, line, schema, path);
    default: return KV_OK; // the types the project's schemas do not use are left to cyaml
    }
}

// ---- Entry ---------------------------------------------------------------------------------------------

// The schema at `key`, or NULL with the error said.
static const cyaml_schema_value_t *descend(const struct check *c, const cyaml_schema_value_t *schema,
                                           const char *key) {
    char name[KV_KEY_PART];
    long index;
    for (const char *rest = key; kv_key_next(&rest, name, &index);) {
        if (!*name && (schema->type == CYAML_SEQUENCE || schema->type == CYAML_SEQUENCE_FIXED)) {
            schema = schema->sequence.entry;
            continue;
        }
        if (!*name || schema->type != CYAML_MAPPING) {
            kv_fail(c->err, KV_ERR_FORMAT, "%s: key `%s`: found a part below a single value, expected none",
                    c->label, key);
            return NULL;
        }
        const cyaml_schema_field_t *field = find_field(schema, name);
        if (!field) {
            unknown_key(c, schema, 1, key);
            return NULL;
        }
        schema = &field->value;
    }
    return schema;
}

kv_status kv_config_check(yaml_document_t *doc, const cyaml_schema_value_t *schema, const char *label,
                          const char *prefix, bool takes_back, kv_error *err) {
    kv_error inner = {0};
    struct check c = {
        .doc = doc, .label = label, .with_line = !*prefix, .takes_back = takes_back, .err = &inner};
    const cyaml_schema_value_t *at = descend(&c, schema, prefix);
    const size_t length = strlen(prefix);
    const bool of_a_group = length > 0 && prefix[length - 1] != ']'; // a list has no place for nothing
    kv_status status = at ? KV_OK : inner.code;
    if (at && !(of_a_group && takes_back && kv_yaml_takes_back(doc, 1)))
        status = check_node(&c, 1, 1, at, prefix);
    return status == KV_OK ? KV_OK : kv_fail(err, status, "%s", inner.message);
}

// ---- One form for each value ---------------------------------------------------------------------------

static bool replace_text(yaml_node_t *node, const char *text) {
    char *copy = strdup(text);
    if (!copy) return false;
    free(node->data.scalar.value); // libyaml's own allocator is malloc
    node->data.scalar.value = (yaml_char_t *)copy;
    node->data.scalar.length = strlen(copy);
    node->data.scalar.style = YAML_PLAIN_SCALAR_STYLE;
    return true;
}

// A real number as it was written, unless strtod does not know the form: no digit may be lost on the way.
static bool plain_scalar(yaml_node_t *node, cyaml_type_e type) {
    const char *text = (const char *)node->data.scalar.value;
    char plain[32];
    int64_t whole;
    uint64_t natural;
    double real;
    bool truth;
    if (type == CYAML_BOOL && kv_yaml_truth(text, &truth))
        return replace_text(node, truth ? "true" : "false");
    if (type == CYAML_INT && kv_yaml_whole(text, &whole))
        snprintf(plain, sizeof plain, "%" PRIi64, whole);
    else if (type == CYAML_UINT && kv_yaml_unsigned(text, &natural))
        snprintf(plain, sizeof plain, "%" PRIu64, natural);
    else if (type == CYAML_FLOAT && !kv_read_real(text, &real) && kv_yaml_real(text, &real))
        snprintf(plain, sizeof plain, "%.17g", real);
    else
        return true;
    return replace_text(node, plain);
}

static bool plain_node(yaml_document_t *doc, int id, const cyaml_schema_value_t *schema) {
    yaml_node_t *node = yaml_document_get_node(doc, id);
    bool ok = true;
    if (node->type == YAML_SCALAR_NODE) return plain_scalar(node, schema->type);
    if (node->type == YAML_SEQUENCE_NODE) {
        if (schema->type != CYAML_SEQUENCE && schema->type != CYAML_SEQUENCE_FIXED) return true;
        for (const yaml_node_item_t *item = node->data.sequence.items.start;
             ok && item < node->data.sequence.items.top; item++)
            ok = plain_node(doc, *item, schema->sequence.entry);
    } else if (node->type == YAML_MAPPING_NODE && schema->type == CYAML_MAPPING) {
        for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
             ok && pair < node->data.mapping.pairs.top; pair++) {
            const yaml_node_t *key = yaml_document_get_node(doc, pair->key);
            const cyaml_schema_field_t *field = find_field(schema, (const char *)key->data.scalar.value);
            ok = !field || plain_node(doc, pair->value, &field->value);
        }
    }
    return ok;
}

kv_status kv_config_plain(yaml_document_t *doc, const cyaml_schema_value_t *schema, kv_error *err) {
    return plain_node(doc, 1, schema) ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
}
