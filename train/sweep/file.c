// The schema checks the shape of a sweep's file; the keys under `set` and `grid` are any training's. They are
// kept as YAML text with their lines, since the trainings themselves check them, and errors have to point
// here.
#include "train/sweep/file.h"

#include "core/text.h"
#include "data/config/beside.h"
#include "data/config/check.h"
#include "data/config/scalar.h"
#include "data/config/tree.h"
#include "data/file/content.h"
#include "data/file/mistaken.h"
#include "data/system/buffers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t max_file_size = (size_t)64 << 10;

// ---- Schema --------------------------------------------------------------------------------------------

#define OPTIONAL                CYAML_FLAG_OPTIONAL
#define TEXT(key, type, member) CYAML_FIELD_STRING_PTR(key, OPTIONAL, type, member, 1, 4000)

// `set` and `grid` hold keys of any training: read_axes looks at them.
static const cyaml_schema_field_t arm_fields[] = {
    TEXT("name", kv_sweep_arm, name),
    TEXT("train", kv_sweep_arm, train),
    CYAML_FIELD_IGNORE("set", OPTIONAL),
    CYAML_FIELD_IGNORE("grid", OPTIONAL),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t arm_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, kv_sweep_arm, arm_fields)};
static const cyaml_schema_value_t path_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, 4000)};
static const cyaml_strval_t keeps[] = {{"final", KV_SWEEP_KEEP_FINAL},
                                       {"checkpoints", KV_SWEEP_KEEP_CHECKPOINTS}};
static const cyaml_schema_field_t file_fields[] = {
    TEXT("output", kv_sweep_file, output),
    CYAML_FIELD_SEQUENCE_COUNT("prepare", CYAML_FLAG_POINTER | OPTIONAL, kv_sweep_file, prepare, n_prepare,
                               &path_entry, 0, 1000),
    TEXT("train", kv_sweep_file, train),
    CYAML_FIELD_IGNORE("set", OPTIONAL),
    CYAML_FIELD_IGNORE("grid", OPTIONAL),
    CYAML_FIELD_SEQUENCE_COUNT("arms", CYAML_FLAG_POINTER | OPTIONAL, kv_sweep_file, arms, n_arms, &arm_entry,
                               1, 1000),
    CYAML_FIELD_IGNORE("seeds", OPTIONAL),
    TEXT("eval", kv_sweep_file, eval),
    CYAML_FIELD_ENUM("keep", OPTIONAL | CYAML_FLAG_STRICT, kv_sweep_file, keep, keeps,
                     CYAML_ARRAY_LEN(keeps)),
    CYAML_FIELD_END,
};
const cyaml_schema_value_t kv_sweep_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, kv_sweep_file, file_fields)};

// The document while it is read.
struct reader {
    const char *path;
    yaml_document_t *doc;
    kv_error *err;
};

// ---- Pieces of the document ----------------------------------------------------------------------------

__attribute__((format(printf, 4, 5))) static kv_status wrong(const struct reader *r, size_t line,
                                                             const char *key, const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return kv_fail(r->err, KV_ERR_FORMAT, "%s:%zu: key `%s`: %s", r->path, line, key, message);
}

static kv_status no_memory(const struct reader *r) {
    return kv_fail(r->err, KV_ERR_MEMORY, "%s: out of memory", r->path);
}

static const yaml_node_t *node_of(const struct reader *r, int id) {
    return yaml_document_get_node(r->doc, id);
}

static size_t line_of(const struct reader *r, int id) {
    return node_of(r, id)->start_mark.line + 1;
}

// The text of a scalar, NULL of anything else.
static const char *scalar(const struct reader *r, int id) {
    const yaml_node_t *node = node_of(r, id);
    return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

// The text at a key, NULL where there is none.
static kv_status read_text(const struct reader *r, const char *key, char **text) {
    const char *value = kv_yaml_scalar(r->doc, key);
    *text = value ? strdup(value) : NULL;
    return *text || !value ? KV_OK : no_memory(r);
}

static size_t line_at(const struct reader *r, const char *key) {
    const int id = kv_yaml_find(r->doc, key, NULL);
    return id ? line_of(r, id) : 1;
}

// The file named at a key.
static kv_status read_path(const struct reader *r, const char *key, char **path) {
    const char *name = kv_yaml_scalar(r->doc, key);
    const kv_config_place place = {r->path, line_at(r, key), key};
    *path = NULL;
    return name ? kv_config_named(&place, name, path, r->err) : KV_OK;
}

// Entries of the list at a key, 0 where there is none.
static size_t list_length(const struct reader *r, const char *key) {
    const yaml_node_t *node = node_of(r, kv_yaml_find(r->doc, key, NULL));
    if (!node || node->type != YAML_SEQUENCE_NODE) return 0;
    return (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
}

// ---- Axes ----------------------------------------------------------------------------------------------

static void free_axes(kv_sweep_axes *axes) {
    for (size_t i = 0; i < axes->n; i++) {
        for (size_t v = 0; v < axes->items[i].n_values; v++) free(axes->items[i].values[v]);
        for (size_t k = 0; k < axes->items[i].n_leaves; k++) free(axes->items[i].leaves[k]);
        free(axes->items[i].leaves);
        free(axes->items[i].values);
        free(axes->items[i].lines);
        free(axes->items[i].key);
    }
    free(axes->items);
}

static bool lies_below(const char *key, const char *above) {
    const size_t n = strlen(above);
    return strncmp(key, above, n) == 0 && (!key[n] || key[n] == '.' || key[n] == '[');
}

const kv_sweep_axis *kv_sweep_axes_touch(const kv_sweep_axes *axes, const char *key) {
    for (size_t i = 0; i < axes->n; i++)
        if (lies_below(key, axes->items[i].key) || lies_below(axes->items[i].key, key))
            return &axes->items[i];
    return NULL;
}

// What `id`, a value of the key, sets.
static kv_status add_leaves(const struct reader *r, const char *key, int id, kv_sweep_axis *axis) {
    const yaml_node_t *node = node_of(r, id);
    if (node->type != YAML_MAPPING_NODE) {
        for (size_t k = 0; k < axis->n_leaves; k++)
            if (strcmp(axis->leaves[k], key) == 0) return KV_OK;
        char **more = kv_room_for_one(axis->leaves, axis->n_leaves, sizeof *more);
        if (!more) return no_memory(r);
        axis->leaves = more;
        more[axis->n_leaves] = strdup(key);
        return more[axis->n_leaves++] ? KV_OK : no_memory(r);
    }
    kv_status status = KV_OK;
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         status == KV_OK && pair < node->data.mapping.pairs.top; pair++) {
        char below[256];
        const char *name = scalar(r, pair->key);
        const int n = snprintf(below, sizeof below, "%s.%s", key, name ? name : "");
        if (!name || n >= (int)sizeof below || !kv_key_valid(below))
            return wrong(r, line_of(r, pair->key), key, "expected a plain word as key");
        status = add_leaves(r, below, pair->value, axis);
    }
    return status;
}

static kv_status add_value(const struct reader *r, kv_sweep_axis *axis, int id) {
    char *value = kv_yaml_line(r->doc, id);
    if (!value) return wrong(r, line_of(r, id), axis->key, "found a value too long (or no memory for it)");
    axis->lines[axis->n_values] = line_of(r, id);
    axis->values[axis->n_values++] = value;
    for (size_t v = 0; v + 1 < axis->n_values; v++)
        if (strcmp(axis->values[v], value) == 0)
            return wrong(r, line_of(r, id), axis->key, "found %.*s twice, first on line %zu",
                         KV_HEAD(value, 80), axis->lines[v]);
    return add_leaves(r, axis->key, id, axis);
}

static kv_status read_axis(const struct reader *r, const yaml_node_pair_t *pair, bool grid,
                           kv_sweep_axes *axes) {
    const char *group = grid ? "grid" : "set", *key = scalar(r, pair->key);
    const size_t line = line_of(r, pair->key);
    if (!key || !kv_key_valid(key))
        return wrong(r, line, group, "found %.*s, expected keys such as loss.kl",
                     KV_HEAD(key ? key : "a list", 80));
    if (lies_below(key, "output"))
        return wrong(r, line, key, "every run has a directory of its own in the sweep's output");
    const kv_sweep_axis *other = kv_sweep_axes_touch(axes, key);
    if (other)
        return wrong(r, line, key, "found beside `%s` on line %zu, expected once", other->key,
                     other->lines[0]);
    const yaml_node_t *node = node_of(r, pair->value);
    const bool list = node->type == YAML_SEQUENCE_NODE;
    const yaml_node_item_t *items = list ? node->data.sequence.items.start : NULL;
    const size_t n = !grid ? 1 : list ? (size_t)(node->data.sequence.items.top - items) : 0;
    if (n == 0) return wrong(r, line, key, "expected a list of values, as in [0, 1]");
    kv_sweep_axis *axis = &axes->items[axes->n++];
    *axis = (kv_sweep_axis){.key = strdup(key),
                            .values = calloc(n, sizeof *axis->values),
                            .lines = calloc(n, sizeof *axis->lines)};
    if (!axis->key || !axis->values || !axis->lines) return no_memory(r);
    kv_status status = KV_OK;
    for (size_t v = 0; status == KV_OK && v < n; v++)
        status = add_value(r, axis, grid ? items[v] : pair->value);
    return status;
}

// The keys of a `set` or a `grid`, where there is one.
static kv_status read_axes(const struct reader *r, const char *key, bool grid, kv_sweep_axes *axes) {
    const int id = kv_yaml_find(r->doc, key, NULL);
    if (!id) return KV_OK;
    const yaml_node_t *node = node_of(r, id);
    if (node->type != YAML_MAPPING_NODE)
        return wrong(r, line_of(r, id), key, "expected `key: %s` lines", grid ? "[values]" : "value");
    const yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
    const size_t n = (size_t)(node->data.mapping.pairs.top - pairs);
    axes->items = calloc(n + 1, sizeof *axes->items);
    if (!axes->items) return no_memory(r);
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < n; i++) status = read_axis(r, &pairs[i], grid, axes);
    return status;
}

// ---- Arms ----------------------------------------------------------------------------------------------

static kv_status check_arm_name(const struct reader *r, const char *key, const kv_sweep_arm *arm) {
    static const char fit[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
    const char *name = arm->name;
    if (!name) return wrong(r, arm->line, key, "found nothing, expected the name of the arm");
    if (name[strspn(name, fit)] || *name == '.' || strlen(name) > 60)
        return wrong(r, arm->line, key,
                     "found `%.60s`, expected a word fit for a directory's name: letters, digits, ._+-",
                     name);
    return KV_OK;
}

static kv_status read_arm(const struct reader *r, size_t i, kv_sweep_arm *arm) {
    char at[32], name[48], train[48], set[48], grid[48];
    snprintf(at, sizeof at, "arms[%zu]", i);
    snprintf(name, sizeof name, "%s.name", at);
    snprintf(train, sizeof train, "%s.train", at);
    snprintf(set, sizeof set, "%s.set", at);
    snprintf(grid, sizeof grid, "%s.grid", at);
    arm->line = line_at(r, at);
    kv_status status = read_text(r, name, &arm->name);
    if (status == KV_OK) status = check_arm_name(r, name, arm);
    if (status == KV_OK) status = read_path(r, train, &arm->train);
    if (status == KV_OK) status = read_axes(r, set, false, &arm->set);
    if (status == KV_OK) status = read_axes(r, grid, true, &arm->grid);
    return status;
}

static kv_status read_arms(const struct reader *r, kv_sweep_file *file) {
    const size_t n = list_length(r, "arms");
    if (n == 0) return KV_OK;
    file->arms = calloc(n, sizeof *file->arms);
    if (!file->arms) return no_memory(r);
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < n; i++) {
        kv_sweep_arm *arm = &file->arms[file->n_arms++];
        status = read_arm(r, i, arm);
        for (size_t j = 0; status == KV_OK && j < i; j++) {
            char key[48];
            snprintf(key, sizeof key, "arms[%zu].name", i);
            if (strcmp(file->arms[j].name, arm->name) == 0)
                status = wrong(r, arm->line, key, "found `%s` twice, first on line %zu", arm->name,
                               file->arms[j].line);
        }
    }
    return status;
}

// ---- Seeds ---------------------------------------------------------------------------------------------

enum { MAX_SEEDS = 1000 };

// A list: these.
static kv_status read_seed_list(const struct reader *r, const yaml_node_t *node, kv_sweep_file *file) {
    const yaml_node_item_t *items = node->data.sequence.items.start;
    const size_t n = (size_t)(node->data.sequence.items.top - items);
    if (n == 0 || n > MAX_SEEDS)
        return wrong(r, file->seeds_line, "seeds", "found a list of %zu, expected 1 to %d seeds", n,
                     MAX_SEEDS);
    for (size_t i = 0; i < n; i++) {
        const char *text = scalar(r, items[i]);
        if (!text || !kv_yaml_unsigned(text, &file->seeds[i]))
            return wrong(r, line_of(r, items[i]), "seeds", "found %.*s, expected whole numbers from 0",
                         KV_HEAD(text ? text : "a list", 40));
        for (size_t j = 0; j < i; j++)
            if (file->seeds[j] == file->seeds[i])
                return wrong(r, line_of(r, items[i]), "seeds", "found %.*s twice, expected each seed once",
                             KV_HEAD(text, 40));
        file->n_seeds++;
    }
    return KV_OK;
}

// A number n: 1 to n.
static kv_status read_seeds(const struct reader *r, kv_sweep_file *file) {
    const int id = kv_yaml_find(r->doc, "seeds", NULL);
    int64_t n;
    if (!id) return KV_OK;
    file->seeds_line = line_of(r, id);
    file->seeds = calloc(MAX_SEEDS, sizeof *file->seeds);
    if (!file->seeds) return no_memory(r);
    if (node_of(r, id)->type == YAML_SEQUENCE_NODE) return read_seed_list(r, node_of(r, id), file);
    const char *text = scalar(r, id);
    if (!text || !kv_yaml_whole(text, &n) || n < 1 || n > MAX_SEEDS)
        return wrong(r, file->seeds_line, "seeds",
                     "found %.*s, expected a whole number from 1 to %d, or a list of seeds",
                     KV_HEAD(text ? text : "a group of keys", 40), MAX_SEEDS);
    for (; file->n_seeds < (size_t)n; file->n_seeds++) file->seeds[file->n_seeds] = file->n_seeds + 1;
    return KV_OK;
}

static kv_status check_seed_axes(const struct reader *r, const kv_sweep_file *file,
                                 const kv_sweep_axes *axes) {
    const kv_sweep_axis *axis = file->n_seeds ? kv_sweep_axes_touch(axes, "seed") : NULL;
    return axis ? wrong(r, axis->lines[0], "seed",
                        "found beside `seeds` on line %zu, expected one of the two", file->seeds_line)
                : KV_OK;
}

// What `seeds` gives nobody else may.
static kv_status check_seeds(const struct reader *r, const kv_sweep_file *file) {
    kv_status status = check_seed_axes(r, file, &file->set);
    if (status == KV_OK) status = check_seed_axes(r, file, &file->grid);
    for (size_t i = 0; status == KV_OK && i < file->n_arms; i++) {
        status = check_seed_axes(r, file, &file->arms[i].set);
        if (status == KV_OK) status = check_seed_axes(r, file, &file->arms[i].grid);
    }
    return status;
}

// ---- The file ------------------------------------------------------------------------------------------

static kv_status read_prepare(const struct reader *r, kv_sweep_file *file) {
    const size_t n = list_length(r, "prepare");
    file->prepare = calloc(n + 1, sizeof *file->prepare);
    file->prepare_lines = calloc(n + 1, sizeof *file->prepare_lines);
    if (!file->prepare || !file->prepare_lines) return no_memory(r);
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < n; i++) {
        char key[32];
        snprintf(key, sizeof key, "prepare[%zu]", i);
        file->prepare_lines[i] = line_at(r, key);
        status = read_path(r, key, &file->prepare[i]);
        file->n_prepare += status == KV_OK;
    }
    return status;
}

static kv_status read_keys(const struct reader *r, kv_sweep_file *file) {
    const char *keep = kv_yaml_scalar(r->doc, "keep");
    if (keep && strcmp(keep, "checkpoints") == 0) file->keep = KV_SWEEP_KEEP_CHECKPOINTS;
    file->eval_line = line_at(r, "eval");
    kv_status status = read_text(r, "output", &file->output);
    if (status == KV_OK) status = read_prepare(r, file);
    if (status == KV_OK) status = read_path(r, "train", &file->train);
    if (status == KV_OK) status = read_path(r, "eval", &file->eval);
    if (status == KV_OK) status = read_axes(r, "set", false, &file->set);
    if (status == KV_OK) status = read_axes(r, "grid", true, &file->grid);
    if (status == KV_OK) status = read_seeds(r, file);
    return status == KV_OK ? read_arms(r, file) : status;
}

// What only shows once all keys are there.
static kv_status complete(const struct reader *r, kv_sweep_file *file) {
    if (file->n_arms == 0) {
        if (file->grid.n == 0 && file->n_seeds == 0)
            return wrong(r, 1, "grid",
                         "found nothing to vary, expected `grid`, `arms`, `seeds` or several of them");
        file->arms = calloc(1, sizeof *file->arms);
        if (!file->arms) return no_memory(r);
        file->arms[file->n_arms++].line = 1;
    }
    for (size_t i = 0; i < file->n_arms; i++) {
        const kv_sweep_arm *arm = &file->arms[i];
        if (!arm->train && !file->train)
            return wrong(r, arm->line, "train", "found nothing, expected the configuration %s starts from",
                         arm->name ? arm->name : "every run");
        for (size_t g = 0; g < arm->grid.n; g++) {
            const kv_sweep_axis *axis = &arm->grid.items[g];
            const kv_sweep_axis *other = kv_sweep_axes_touch(&file->grid, axis->key);
            if (other)
                return wrong(r, axis->lines[0], axis->key,
                             "varies on line %zu already, for all arms, expected once", other->lines[0]);
        }
    }
    return check_seeds(r, file);
}

static kv_status read_sweep(const char *path, kv_sweep_file *file, kv_error *err) {
    char *text;
    size_t size;
    yaml_document_t doc;
    *file = (kv_sweep_file){0};
    kv_status status = kv_read_file(path, max_file_size, &text, &size, err);
    if (status != KV_OK) return status;
    status = kv_yaml_parse(text, size, path, false, &doc, err);
    free(text);
    if (status != KV_OK) return status;
    const struct reader r = {.path = path, .doc = &doc, .err = err};
    file->path = strdup(path);
    status = file->path ? kv_config_check(&doc, &kv_sweep_schema, path, "", false, err) : no_memory(&r);
    if (status == KV_OK) status = read_keys(&r, file);
    if (status == KV_OK) status = complete(&r, file);
    yaml_document_delete(&doc);
    return status;
}

kv_status kv_sweep_file_read(const char *path, kv_sweep_file *file, kv_error *err) {
    return kv_mistaken(path, KV_FILE_SWEEP, read_sweep(path, file, err), err);
}

void kv_sweep_file_free(kv_sweep_file *file) {
    for (size_t i = 0; i < file->n_prepare; i++) free(file->prepare[i]);
    for (size_t i = 0; i < file->n_arms; i++) {
        free(file->arms[i].name);
        free(file->arms[i].train);
        free_axes(&file->arms[i].set);
        free_axes(&file->arms[i].grid);
    }
    free_axes(&file->set);
    free_axes(&file->grid);
    free(file->prepare);
    free(file->prepare_lines);
    free(file->arms);
    free(file->seeds);
    free(file->path);
    free(file->output);
    free(file->train);
    free(file->eval);
    *file = (kv_sweep_file){0};
}
