#include "train/sweep/file.h"

#include "core/text.h"
#include "data/config/tree.h"
#include "data/file/content.h"
#include "data/system/buffers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t max_file_size = (size_t)64 << 10;

// The document while it is read.
struct reader {
    const char *path;
    yaml_document_t *doc;
    kv_error *err;
};

static const char arm_keys[] = "name, train, set, grid";
static const char file_keys[] = "output, prepare, train, set, grid, arms, eval, keep";

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

static kv_status read_text(const struct reader *r, const char *key, int id, char **text) {
    const char *value = scalar(r, id);
    if (!value || !*value) return wrong(r, line_of(r, id), key, "expected a text");
    *text = strdup(value);
    return *text ? KV_OK : no_memory(r);
}

// A file named beside the sweep's own, as a path from where the program was started.
static kv_status read_path(const struct reader *r, const char *key, int id, char **path) {
    char *name = NULL;
    kv_status status = read_text(r, key, id, &name);
    if (status != KV_OK) return status;
    const char *slash = *name == '/' ? NULL : strrchr(r->path, '/');
    if (asprintf(path, "%.*s%s", slash ? (int)(slash - r->path) + 1 : 0, r->path, name) < 0) *path = NULL;
    free(name);
    return *path ? KV_OK : no_memory(r);
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

static kv_status read_axes(const struct reader *r, int id, bool grid, kv_sweep_axes *axes) {
    const yaml_node_t *node = node_of(r, id);
    if (node->type != YAML_MAPPING_NODE)
        return wrong(r, line_of(r, id), grid ? "grid" : "set", "expected `key: %s` lines",
                     grid ? "[values]" : "value");
    const yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
    const size_t n = (size_t)(node->data.mapping.pairs.top - pairs);
    axes->items = calloc(n + 1, sizeof *axes->items);
    if (!axes->items) return no_memory(r);
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < n; i++) status = read_axis(r, &pairs[i], grid, axes);
    return status;
}

// ---- Arms ----------------------------------------------------------------------------------------------

typedef kv_status pair_fn(const struct reader *r, const char *key, int value, void *into);

// Every key of a mapping once.
static kv_status each_pair(const struct reader *r, int id, const char *what, pair_fn *take, void *into) {
    const yaml_node_t *node = node_of(r, id);
    if (node->type != YAML_MAPPING_NODE) return wrong(r, line_of(r, id), what, "expected `key: value` lines");
    kv_status status = KV_OK;
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         status == KV_OK && pair < node->data.mapping.pairs.top; pair++) {
        const char *key = scalar(r, pair->key);
        if (!key) return wrong(r, line_of(r, pair->key), what, "expected a plain word as key");
        if (kv_yaml_get(r->doc, id, key) != pair->value)
            return wrong(r, line_of(r, pair->key), key, "found twice, expected once");
        status = take(r, key, pair->value, into);
    }
    return status;
}

static kv_status read_arm_name(const struct reader *r, int id, char **name) {
    static const char fit[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
    kv_status status = read_text(r, "name", id, name);
    if (status != KV_OK) return status;
    if ((*name)[strspn(*name, fit)] || **name == '.' || strlen(*name) > 60)
        return wrong(r, line_of(r, id), "name",
                     "found `%.*s`, expected a word fit for a directory's name: letters, digits, ._+-",
                     KV_HEAD(*name, 60));
    return KV_OK;
}

static kv_status take_arm_key(const struct reader *r, const char *key, int value, void *into) {
    kv_sweep_arm *arm = into;
    if (!strcmp(key, "name")) return read_arm_name(r, value, &arm->name);
    if (!strcmp(key, "train")) return read_path(r, key, value, &arm->train);
    if (!strcmp(key, "set")) return read_axes(r, value, false, &arm->set);
    if (!strcmp(key, "grid")) return read_axes(r, value, true, &arm->grid);
    return wrong(r, line_of(r, value), key, "found an unknown key, expected one of: %s", arm_keys);
}

static kv_status read_arms(const struct reader *r, int id, kv_sweep_file *file) {
    const yaml_node_t *node = node_of(r, id);
    const bool list = node->type == YAML_SEQUENCE_NODE;
    const size_t n = list ? (size_t)(node->data.sequence.items.top - node->data.sequence.items.start) : 0;
    if (n == 0) return wrong(r, line_of(r, id), "arms", "expected a list, as in [{name: ours, set: {...}}]");
    file->arms = calloc(n, sizeof *file->arms);
    if (!file->arms) return no_memory(r);
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < n; i++) {
        kv_sweep_arm *arm = &file->arms[file->n_arms++];
        const int entry = node_of(r, id)->data.sequence.items.start[i];
        arm->line = line_of(r, entry);
        status = each_pair(r, entry, "arms", take_arm_key, arm);
        if (status == KV_OK && !arm->name) return wrong(r, arm->line, "arms", "expected a `name`");
        for (size_t j = 0; status == KV_OK && j < i; j++)
            if (strcmp(file->arms[j].name, arm->name) == 0)
                return wrong(r, arm->line, "name", "found `%s` twice, first on line %zu", arm->name,
                             file->arms[j].line);
    }
    return status;
}

// ---- The file ------------------------------------------------------------------------------------------

static kv_status read_prepare(const struct reader *r, int id, kv_sweep_file *file) {
    const yaml_node_t *node = node_of(r, id);
    if (node->type != YAML_SEQUENCE_NODE)
        return wrong(r, line_of(r, id), "prepare", "expected a list of configurations");
    const yaml_node_item_t *items = node->data.sequence.items.start;
    const size_t n = (size_t)(node->data.sequence.items.top - items);
    file->prepare = calloc(n + 1, sizeof *file->prepare);
    file->prepare_lines = calloc(n + 1, sizeof *file->prepare_lines);
    if (!file->prepare || !file->prepare_lines) return no_memory(r);
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < n; i++) {
        file->prepare_lines[i] = line_of(r, items[i]);
        status = read_path(r, "prepare", items[i], &file->prepare[i]);
        file->n_prepare += status == KV_OK;
    }
    return status;
}

static kv_status read_keep(const struct reader *r, int id, bool *keep_checkpoints) {
    const char *word = scalar(r, id);
    *keep_checkpoints = word && !strcmp(word, "checkpoints");
    if (*keep_checkpoints || (word && !strcmp(word, "final"))) return KV_OK;
    return wrong(r, line_of(r, id), "keep", "found %.*s, expected final or checkpoints",
                 KV_HEAD(word ? word : "a list", 40));
}

static kv_status take_file_key(const struct reader *r, const char *key, int value, void *into) {
    kv_sweep_file *file = into;
    if (!strcmp(key, "output")) return read_text(r, key, value, &file->output);
    if (!strcmp(key, "prepare")) return read_prepare(r, value, file);
    if (!strcmp(key, "train")) return read_path(r, key, value, &file->train);
    if (!strcmp(key, "set")) return read_axes(r, value, false, &file->set);
    if (!strcmp(key, "grid")) return read_axes(r, value, true, &file->grid);
    if (!strcmp(key, "arms")) return read_arms(r, value, file);
    if (!strcmp(key, "keep")) return read_keep(r, value, &file->keep_checkpoints);
    if (!strcmp(key, "eval")) {
        file->eval_line = line_of(r, value);
        return read_path(r, key, value, &file->eval);
    }
    return wrong(r, line_of(r, value), key, "found an unknown key, expected one of: %s", file_keys);
}

// What only shows once all keys are there.
static kv_status complete(const struct reader *r, kv_sweep_file *file) {
    if (file->n_arms == 0) {
        if (file->grid.n == 0)
            return wrong(r, 1, "grid", "found nothing to vary, expected `grid`, `arms` or both");
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
    return KV_OK;
}

kv_status kv_sweep_file_read(const char *path, kv_sweep_file *file, kv_error *err) {
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
    status = file->path ? each_pair(&r, 1, "sweep", take_file_key, file) : no_memory(&r);
    if (status == KV_OK) status = complete(&r, file);
    yaml_document_delete(&doc);
    return status;
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
    free(file->path);
    free(file->output);
    free(file->train);
    free(file->eval);
    *file = (kv_sweep_file){0};
}
