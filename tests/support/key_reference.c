#include "tests/support/key_reference.h"

#include "data/config/tree.h"
#include "data/file/content.h"
#include "tests/support/key_table.h"
#include "tests/support/support.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY = 160 };

struct check {
    const key_reference *reference;
    const char *dir;
    FILE *problems;
    key_table table;
};

// ---- Walks through the schema --------------------------------------------------------------------------

// One key of the schema: as the table names it, and, of an example, as it stands there and where its value
// is.
struct leaf {
    const char *row_key, *key;
    const cyaml_schema_value_t *schema;
    const char *value; // NULL: without data, or a pointer that is NULL
    uint64_t count;    // of a list
};

typedef void leaf_fn(struct check *c, const struct leaf *leaf, void *context);

struct walk {
    struct check *check;
    leaf_fn *visit;
    void *context;
};

static void walk_mapping(const struct walk *w, const cyaml_schema_value_t *schema, const char *row_key,
                         const char *key, const char *data);

static void walk_entries(const struct walk *w, const struct leaf *list) {
    const cyaml_schema_value_t *entry = list->schema->sequence.entry;
    if (entry->type != CYAML_MAPPING) return;
    char row_key[KEY], key[KEY];
    snprintf(row_key, sizeof row_key, "%.150s[]", list->row_key);
    if (!list->value) walk_mapping(w, entry, row_key, row_key, NULL);
    for (uint64_t i = 0; list->value && i < list->count; i++) {
        snprintf(key, sizeof key, "%.130s[%" PRIu64 "]", list->key, i);
        walk_mapping(w, entry, row_key, key, list->value + i * entry->data_size);
    }
}

static uint64_t read_uint(const char *at, size_t size) {
    uint64_t value = 0;
    memcpy(&value, at, size); // little endian, as all machines that this runs on
    return value;
}

static void walk_field(const struct walk *w, const cyaml_schema_field_t *field, const char *row_key,
                       const char *key, const char *data) {
    const cyaml_schema_value_t *schema = &field->value;
    struct leaf leaf = {.row_key = row_key, .key = key, .schema = schema};
    if (data) {
        leaf.value = data + field->data_offset;
        if (schema->flags & CYAML_FLAG_POINTER) leaf.value = *(const char *const *)(const void *)leaf.value;
        if (schema->type == CYAML_SEQUENCE)
            leaf.count = read_uint(data + field->count_offset, field->count_size);
    }
    if (schema->type == CYAML_MAPPING) {
        walk_mapping(w, schema, row_key, key, leaf.value);
        return;
    }
    w->visit(w->check, &leaf, w->context);
    if (schema->type == CYAML_SEQUENCE && (!data || leaf.count > 0)) walk_entries(w, &leaf);
}

static void walk_mapping(const struct walk *w, const cyaml_schema_value_t *schema, const char *row_key,
                         const char *key, const char *data) {
    for (const cyaml_schema_field_t *field = schema->mapping.fields; field->key; field++) {
        char below_row[KEY], below[KEY];
        const char *dot = *row_key ? "." : "";
        snprintf(below_row, sizeof below_row, "%.90s%s%.60s", row_key, dot, field->key);
        snprintf(below, sizeof below, "%.90s%s%.60s", key, dot, field->key);
        walk_field(w, field, below_row, below, data);
    }
}

static void check_row(struct check *c, const struct leaf *leaf, void *context) {
    (void)context;
    char type[CELL];
    key_row *row = key_table_find(&c->table, leaf->row_key);
    if (!row) {
        fprintf(c->problems, "`%s`: no row, the schema has it: %s\n", leaf->row_key,
                key_type_of(leaf->schema, type));
        return;
    }
    row->known = true;
    if (!key_type_is(row->type, leaf->schema))
        fprintf(c->problems, "`%s`: type \"%s\", expected %s\n", row->key, row->type,
                key_type_of(leaf->schema, type));
}

// ---- Defaults ------------------------------------------------------------------------------------------

static void scalar_text(const cyaml_schema_value_t *schema, const char *at, char text[CELL]) {
    const uint64_t bits = at && schema->type != CYAML_STRING ? read_uint(at, schema->data_size) : 0;
    const int shift = 64 - 8 * (int)schema->data_size;
    double real = 0;
    float single;
    switch (schema->type) {
    case CYAML_INT: snprintf(text, CELL, "%" PRIi64, (int64_t)(bits << shift) >> shift); break;
    case CYAML_UINT: snprintf(text, CELL, "%" PRIu64, bits); break;
    case CYAML_BOOL: snprintf(text, CELL, "%s", bits ? "true" : "false"); break;
    case CYAML_STRING: snprintf(text, CELL, "%s", at ? at : ""); break;
    case CYAML_FLOAT:
        if (schema->data_size == sizeof single) memcpy(&single, at, sizeof single), real = (double)single;
        if (schema->data_size == sizeof real) memcpy(&real, at, sizeof real);
        snprintf(text, CELL, "%.17g", real);
        break;
    case CYAML_ENUM:
        for (uint32_t i = 0; i < schema->enumeration.count; i++)
            if ((uint64_t)schema->enumeration.strings[i].val == bits)
                snprintf(text, CELL, "%s", schema->enumeration.strings[i].str);
        break;
    default: break;
    }
}

static void value_text(const struct leaf *leaf, char text[CELL]) {
    *text = '\0';
    if (leaf->schema->type != CYAML_SEQUENCE) {
        scalar_text(leaf->schema, leaf->value, text);
        return;
    }
    const cyaml_schema_value_t *entry = leaf->schema->sequence.entry;
    if (entry->type == CYAML_MAPPING || entry->type == CYAML_STRING || leaf->count == 0) return;
    size_t n = 0;
    for (uint64_t i = 0; i < leaf->count && n < CELL - 40; i++) {
        char one[CELL];
        scalar_text(entry, leaf->value + i * entry->data_size, one);
        n += (size_t)snprintf(text + n, CELL - n, "%s%.30s", i ? ", " : "[", one);
    }
    snprintf(text + n, CELL - n, "]");
}

static bool is_empty(const char *text) {
    char *end;
    return !*text || strcmp(text, "false") == 0 || (strtod(text, &end) == 0 && !*end);
}

// Numbers by value, lists entry by entry, all else as it is written.
static bool same_value(const char *a, const char *b) {
    static const char between[] = "[], ";
    for (;;) {
        a += strspn(a, between), b += strspn(b, between);
        const size_t n = strcspn(a, between), m = strcspn(b, between);
        if (n == 0 || m == 0) return n == m;
        char x[CELL], y[CELL], *end_x, *end_y;
        snprintf(x, sizeof x, "%.*s", (int)n, a);
        snprintf(y, sizeof y, "%.*s", (int)m, b);
        const double p = strtod(x, &end_x), q = strtod(y, &end_y);
        const bool numbers = !*end_x && !*end_y;
        if (numbers ? fabs(p - q) > 1e-12 * fabs(q) : strcmp(x, y) != 0) return false;
        a += n, b += m;
    }
}

struct example {
    const char *text;
    const kv_config *config;
    const void *data;
};

struct lookup {
    const char *key;
    char text[CELL];
};

static void look_up(struct check *c, const struct leaf *leaf, void *context) {
    (void)c;
    struct lookup *lookup = context;
    if (strcmp(leaf->key, lookup->key) == 0) value_text(leaf, lookup->text);
}

// Whether a default of the table says `text`, in this example, for the key.
static bool part_says(struct check *c, const key_default *part, const struct leaf *leaf, const char *text,
                      const struct example *example) {
    if (part->kind == LITERAL) return same_value(part->text, text);
    if (part->kind != REFERENCE) return false;
    char key[KEY];
    snprintf(key, sizeof key, "%.150s", part->text);
    // Of the same entry: systems[].name beside systems[2].family.
    const char *dot = strrchr(leaf->key, '.'), *field = strrchr(key, '.');
    struct lookup lookup = {.key = key};
    char beside[2 * KEY];
    if (strstr(key, "[].") && dot && field) {
        snprintf(beside, sizeof beside, "%.*s%s", (int)(dot - leaf->key), leaf->key, field);
        lookup.key = beside;
    }
    walk_mapping(&(struct walk){c, look_up, &lookup}, c->reference->schema, "", "", example->data);
    if (part->divisor == 1) return same_value(lookup.text, text);
    char scaled[64];
    snprintf(scaled, sizeof scaled, "%.17g", strtod(lookup.text, NULL) / part->divisor);
    return same_value(scaled, text);
}

static void observe(struct check *c, const struct leaf *leaf, void *context) {
    const struct example *example = context;
    key_row *row = key_table_find(&c->table, leaf->row_key);
    if (!row || kv_config_has(example->config, leaf->key)) return;
    char text[CELL], *set = kv_config_value(example->config, leaf->key);
    value_text(leaf, text);
    const bool empty = !set && (leaf->schema->type == CYAML_ENUM || is_empty(text));
    free(set);
    key_default *none = key_row_default(row, NONE);
    if (empty && none) none->seen = true;
    bool said = empty && (none || key_row_default(row, REQUIRED));
    for (size_t i = 0; i < row->n_parts; i++) {
        const bool says = part_says(c, &row->parts[i], leaf, text, example);
        row->parts[i].seen = row->parts[i].seen || says;
        said = said || says;
    }
    // Where nothing is set and nothing stands in the struct the key may belong to another kind of
    // configuration.
    if (!said && !empty)
        fprintf(c->problems, "`%s`: default \"%s\", found %s in the example\n%s", row->key, row->otherwise,
                text, example->text);
}

// ---- What the program refuses --------------------------------------------------------------------------

static const char *example_path(const struct check *c) {
    return test_path(c->dir, "key_reference.yaml");
}

static kv_status try_load(const struct check *c, const char *override, kv_error *err) {
    kv_config *config = NULL;
    const void *data = NULL;
    *err = (kv_error){0};
    const kv_status status =
        c->reference->load(example_path(c), &override, override ? 1 : 0, &config, &data, err);
    kv_config_free(config);
    return status;
}

// Hundreds of times: a file that need not survive a crash.
static void write_example(const struct check *c, const char *text) {
    FILE *file = fopen(example_path(c), "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

// The example without one key.
static char *text_without(const char *example, const char *key) {
    kv_config_tree tree;
    yaml_document_t doc;
    kv_error err = {0};
    char parent[KEY];
    const char *dot = strrchr(key, '.'), *name = dot ? dot + 1 : key;
    snprintf(parent, sizeof parent, "%.*s", dot ? (int)(dot - key) : 0, key);
    assert_int_equal(kv_tree_create(&tree, &err), KV_OK);
    assert_int_equal(kv_yaml_parse(example, strlen(example), "example", false, &doc, &err), KV_OK);
    assert_int_equal(kv_tree_add_source(&tree, "example"), 0);
    assert_int_equal(kv_tree_merge(&tree, &doc, 0, &err), KV_OK);
    yaml_document_delete(&doc);
    yaml_node_t *node = yaml_document_get_node(&tree.doc, *parent ? kv_tree_find(&tree, parent, NULL) : 1);
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        const yaml_node_t *at = yaml_document_get_node(&tree.doc, pair->key);
        if (strcmp((const char *)at->data.scalar.value, name) != 0) continue;
        *pair = *--node->data.mapping.pairs.top;
        break;
    }
    char *text = kv_tree_text(&tree);
    kv_tree_free(&tree);
    assert_non_null(text);
    return text;
}

// An example without a key that it sets.
static void check_required(struct check *c, const struct leaf *leaf, const struct example *example) {
    key_row *row = key_table_find(&c->table, leaf->row_key);
    if (!row || !kv_config_has(example->config, leaf->key)) return;
    key_default *required = key_row_default(row, REQUIRED), *none = key_row_default(row, NONE);
    if (!required && !none) return;
    kv_error err;
    char *text = text_without(example->text, leaf->key);
    write_example(c, text);
    free(text);
    const bool refused = try_load(c, NULL, &err) != KV_OK;
    write_example(c, example->text);
    if (refused && required) required->seen = true;
    if (refused && !required)
        fprintf(c->problems, "`%s`: default \"%s\", but without it: %s\n", row->key, row->otherwise,
                err.message);
}

enum { WORDS, LOWER, UPPER };

// The example with key=value. Whether it is refused because of this value, not because the example may not
// have such a key or something else does not go with it.
static bool refuses(const struct check *c, const char *key, const char *value, kv_error *err) {
    char override[2 * KEY], named[2 * KEY];
    snprintf(override, sizeof override, "%s=%s", key, value);
    snprintf(named, sizeof named, "key `%s`: found ", key);
    if (try_load(c, override, err) == KV_OK) return false;
    const char *found = strstr(err->message, named);
    if (!found) return false;
    found += strlen(named);
    found += *found == '`';
    char shown[64];
    snprintf(shown, sizeof shown, "%.6g", strtod(value, NULL));
    return strncmp(found, value, strlen(value)) == 0 || strncmp(found, shown, strlen(shown)) == 0;
}

// Words of a text that the schema lets be anything: the program names them all when it refuses another.
static void check_words(struct check *c, key_row *row, const char *key) {
    char words[MAX_WORDS][64];
    const size_t n = key_type_words(row->type, words);
    kv_error err;
    row->asked[WORDS] = true;
    if (!refuses(c, key, "no_such_word", &err)) return;
    row->seen[WORDS] = true;
    for (size_t i = 0; i < n; i++)
        if (!strstr(err.message, words[i]))
            fprintf(c->problems, "`%s`: type \"%s\", but: %s\n", row->key, row->type, err.message);
}

// Values on both sides of a bound.
static void check_bound(struct check *c, key_row *row, const char *key, int bound, double inside,
                        double outside) {
    char in[32], out[32];
    kv_error err;
    snprintf(in, sizeof in, "%.17g", inside);
    snprintf(out, sizeof out, "%.17g", outside);
    row->asked[bound] = true;
    if (refuses(c, key, out, &err)) row->seen[bound] = true;
    if (err.code == KV_OK)
        fprintf(c->problems, "`%s`: type \"%s\", but %s is taken\n", row->key, row->type, out);
    if (refuses(c, key, in, &err))
        fprintf(c->problems, "`%s`: type \"%s\", but %s is refused: %s\n", row->key, row->type, in,
                err.message);
}

static void check_range(struct check *c, const struct leaf *leaf) {
    key_row *row = key_table_find(&c->table, leaf->row_key);
    if (!row) return;
    char words[MAX_WORDS][64];
    const cyaml_type_e type = leaf->schema->type;
    if (type == CYAML_STRING && key_type_words(row->type, words) > 0) check_words(c, row, leaf->key);
    const bool whole = type == CYAML_INT || type == CYAML_UINT;
    if (!whole && type != CYAML_FLOAT) return;
    const char *from = strstr(row->type, " from "), *above = strstr(row->type, " above ");
    const char *to = strstr(row->type, " to ");
    const double low = from ? strtod(from + 6, NULL) : above ? strtod(above + 7, NULL) : 0;
    const double high = to ? strtod(to + 4, NULL) : 0;
    const double step = whole ? 1 : 1e-6;
    if (from) check_bound(c, row, leaf->key, LOWER, low, low - (whole ? 1 : low ? step * fabs(low) : step));
    if (above) check_bound(c, row, leaf->key, LOWER, low + step, low);
    if (to) check_bound(c, row, leaf->key, UPPER, high, high + (whole ? 1 : step * fabs(high)));
}

// ---- All of it -----------------------------------------------------------------------------------------

enum { MAX_LEAVES = 400 };

// The keys of an example, kept beyond its struct: it is loaded again and again with something changed.
struct leaves {
    struct {
        char row_key[KEY], key[KEY];
        const cyaml_schema_value_t *schema;
    } items[MAX_LEAVES];
    size_t n;
};

static void collect(struct check *c, const struct leaf *leaf, void *context) {
    (void)c;
    struct leaves *leaves = context;
    assert_true(leaves->n < MAX_LEAVES);
    snprintf(leaves->items[leaves->n].row_key, KEY, "%s", leaf->row_key);
    snprintf(leaves->items[leaves->n].key, KEY, "%s", leaf->key);
    leaves->items[leaves->n++].schema = leaf->schema;
}

static void check_example(struct check *c, const char *text) {
    struct example example = {.text = text};
    kv_config *config = NULL;
    kv_error err = {0};
    write_example(c, text);
    const kv_status status = c->reference->load(example_path(c), NULL, 0, &config, &example.data, &err);
    if (status != KV_OK) {
        fprintf(c->problems, "%s, in the example\n%s", err.message, text);
        return;
    }
    example.config = config;
    struct leaves *leaves = test_alloc(1, sizeof *leaves);
    const cyaml_schema_value_t *schema = c->reference->schema;
    walk_mapping(&(struct walk){c, collect, leaves}, schema, "", "", example.data);
    walk_mapping(&(struct walk){c, observe, &example}, schema, "", "", example.data);
    for (size_t i = 0; i < leaves->n; i++) {
        const struct leaf leaf = {.row_key = leaves->items[i].row_key,
                                  .key = leaves->items[i].key,
                                  .schema = leaves->items[i].schema};
        check_required(c, &leaf, &example);
        check_range(c, &leaf);
    }
    free(leaves);
    kv_config_free(config);
}

static void check_all_seen(struct check *c) {
    for (size_t r = 0; r < c->table.n_rows; r++) {
        const key_row *row = &c->table.rows[r];
        for (int i = 0; i < 3; i++)
            if (row->asked[i] && !row->seen[i])
                fprintf(c->problems, "`%s`: type \"%s\", but no example shows that other %s refused\n",
                        row->key, row->type, i == WORDS ? "words are" : "numbers are");
        for (size_t i = 0; row->known && i < row->n_parts; i++)
            if (!row->parts[i].seen)
                fprintf(c->problems, "`%s`: default \"%s\", of which the %zu. shows in no example\n",
                        row->key, row->otherwise, i + 1);
    }
}

static void check_paths(struct check *c) {
    const char *const *paths = c->reference->paths;
    for (size_t i = 0; paths[i]; i++)
        if (!key_table_find(&c->table, paths[i]))
            fprintf(c->problems, "`%s`: no row, expected one of a path\n", paths[i]);
    for (size_t r = 0; r < c->table.n_rows; r++) {
        const key_row *row = &c->table.rows[r];
        bool listed = false;
        for (size_t i = 0; paths[i]; i++) listed = listed || strcmp(paths[i], row->key) == 0;
        if (listed != (strncmp(row->type, "path", 4) == 0))
            fprintf(c->problems, "`%s`: type \"%s\", but {seed} %s a seed there\n", row->key, row->type,
                    listed ? "is" : "is not");
    }
}

char *key_reference_problems(const key_reference *reference, const char *dir, const char *text) {
    struct check *c = test_alloc(1, sizeof *c);
    char *found = NULL, *read = NULL, path[PATH_MAX];
    size_t size;
    kv_error err = {0};
    c->reference = reference;
    c->dir = dir;
    c->problems = open_memstream(&found, &size);
    assert_non_null(c->problems);
    snprintf(path, sizeof path, "%s/../%s", getenv("KV_TEST_DIR"), reference->readme);
    if (!text && kv_read_file(path, 1 << 20, &read, &size, &err) != KV_OK) fail_msg("%s", err.message);
    c->table.problems = c->problems;
    key_table_read(&c->table, text ? text : read, reference->heading);
    walk_mapping(&(struct walk){c, check_row, NULL}, reference->schema, "", "", NULL);
    for (size_t r = 0; r < c->table.n_rows; r++)
        if (!c->table.rows[r].known)
            fprintf(c->problems, "`%s`: a row, but the schema has no such key\n", c->table.rows[r].key);
    if (reference->paths) check_paths(c);
    for (size_t i = 0; reference->load && reference->examples[i]; i++)
        check_example(c, reference->examples[i]);
    if (reference->load) check_all_seen(c);
    fclose(c->problems);
    free(read);
    free(c);
    return found;
}

void assert_key_reference(const key_reference *reference, const char *dir) {
    char *problems = key_reference_problems(reference, dir, NULL);
    if (*problems) fail_msg("%s\n%s", reference->readme, problems);
    free(problems);
}
