// Merge keys of YAML 1.1 (`<<: *name`), which libyaml leaves as they stand: every group that has one gets the
// keys it names, as nodes of the same document, so that a message still names the line a key was set on.
//                                                              [yaml.org/type/merge.html; nearer keys win]
#include "core/text.h"
#include "data/config/tree.h"

#include <stdlib.h>
#include <string.h>

// A chain of groups, each merging the one before, could make a small file into a large one.
enum { MAX_MERGED = 1 << 14 };

enum progress { UNTOUCHED, AT_WORK, DONE };

struct resolve {
    yaml_document_t *doc;
    const char *label;
    unsigned char *progress; // of node id i at [i - 1]
    int n_merged;
    kv_error *err;
};

static kv_status no_memory(const struct resolve *r) {
    return kv_fail(r->err, KV_ERR_MEMORY, "%s: out of memory", r->label);
}

static kv_status wrong(const struct resolve *r, int id, const char *found) {
    const yaml_node_t *node = yaml_document_get_node(r->doc, id);
    return kv_fail(r->err, KV_ERR_FORMAT,
                   "%s:%zu: key `<<`: found %s, expected a group of keys, as in <<: *name, or a list of such",
                   r->label, node->start_mark.line + 1, found);
}

static bool is_merge_key(yaml_document_t *doc, int id) {
    const yaml_node_t *node = yaml_document_get_node(doc, id);
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           strcmp((const char *)node->data.scalar.value, "<<") == 0;
}

// Takes the merge key out of a group: what it names, 0 without one.
static kv_status take_merge_key(const struct resolve *r, yaml_node_t *group, int *source, int *key) {
    *source = 0;
    yaml_node_pair_t *pair = group->data.mapping.pairs.start;
    while (pair < group->data.mapping.pairs.top) {
        if (!is_merge_key(r->doc, pair->key)) {
            pair++;
            continue;
        }
        if (*source)
            return kv_fail(r->err, KV_ERR_FORMAT,
                           "%s:%zu: key `<<`: found twice, first on line %zu, expected a list, whose first "
                           "group wins: <<: [*one, *other]",
                           r->label, yaml_document_get_node(r->doc, pair->key)->start_mark.line + 1,
                           yaml_document_get_node(r->doc, *key)->start_mark.line + 1);
        *source = pair->value;
        *key = pair->key;
        memmove(pair, pair + 1, (size_t)(group->data.mapping.pairs.top - pair - 1) * sizeof *pair);
        group->data.mapping.pairs.top--;
    }
    return KV_OK;
}

static kv_status resolve_group(struct resolve *r, int id);

// A group that is merged is checked as one that stands where it is merged to: no key twice.
static kv_status check_once(const struct resolve *r, const yaml_node_t *group, const yaml_node_pair_t *pair) {
    const yaml_node_t *key = yaml_document_get_node(r->doc, pair->key);
    for (const yaml_node_pair_t *at = group->data.mapping.pairs.start; at < pair; at++) {
        const yaml_node_t *earlier = yaml_document_get_node(r->doc, at->key);
        if (strcmp((const char *)earlier->data.scalar.value, (const char *)key->data.scalar.value) == 0)
            return kv_fail(r->err, KV_ERR_FORMAT,
                           "%s:%zu: key `%.*s`: found twice, first on line %zu, expected once", r->label,
                           key->start_mark.line + 1, KV_HEAD((const char *)key->data.scalar.value, 128),
                           earlier->start_mark.line + 1);
    }
    return KV_OK;
}

// Keys of the group `from` that `into` has not.
static kv_status add_missing(struct resolve *r, int into, int from, int key) {
    const yaml_node_t *source = yaml_document_get_node(r->doc, from);
    if (source->type != YAML_MAPPING_NODE)
        return wrong(r, key, source->type == YAML_SEQUENCE_NODE ? "a list in a list" : "a single value");
    if (r->progress[from - 1] == AT_WORK) return wrong(r, key, "a group that merges itself");
    kv_status status = resolve_group(r, from);
    const size_t n =
        (size_t)(source->data.mapping.pairs.top - source->data.mapping.pairs.start); // nodes do not move
    for (size_t i = 0; status == KV_OK && i < n; i++) {
        const yaml_node_pair_t pair = source->data.mapping.pairs.start[i];
        const yaml_node_t *name = yaml_document_get_node(r->doc, pair.key);
        if (name->type != YAML_SCALAR_NODE) return wrong(r, key, "a group with a key that is no plain word");
        status = check_once(r, source, source->data.mapping.pairs.start + i);
        if (status != KV_OK) return status;
        if (kv_yaml_get(r->doc, into, (const char *)name->data.scalar.value)) continue;
        if (++r->n_merged > MAX_MERGED)
            return wrong(r, key, "more merged keys than a configuration can have");
        if (!yaml_document_append_mapping_pair(r->doc, into, pair.key, pair.value)) return no_memory(r);
    }
    return status;
}

static kv_status resolve_group(struct resolve *r, int id) {
    if (r->progress[id - 1] != UNTOUCHED) return KV_OK;
    r->progress[id - 1] = AT_WORK;
    int source, key = 0;
    kv_status status = take_merge_key(r, yaml_document_get_node(r->doc, id), &source, &key);
    const yaml_node_t *node = source ? yaml_document_get_node(r->doc, source) : NULL;
    if (status == KV_OK && node && node->type == YAML_SEQUENCE_NODE) {
        for (const yaml_node_item_t *item = node->data.sequence.items.start;
             status == KV_OK && item < node->data.sequence.items.top; item++)
            status = add_missing(r, id, *item, key);
    } else if (status == KV_OK && node) {
        status = add_missing(r, id, source, key);
    }
    r->progress[id - 1] = DONE;
    return status;
}

// Groups at the top whose names begin with `x-`, as other programs' files have them, are there for the
// anchors in them.
static void drop_anchor_groups(yaml_document_t *doc) {
    yaml_node_t *root = yaml_document_get_root_node(doc);
    if (root->type != YAML_MAPPING_NODE) return;
    yaml_node_pair_t *kept = root->data.mapping.pairs.start;
    for (const yaml_node_pair_t *pair = kept; pair < root->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(doc, pair->key);
        const bool only_anchors =
            key->type == YAML_SCALAR_NODE && strncmp((const char *)key->data.scalar.value, "x-", 2) == 0;
        if (!only_anchors) *kept++ = *pair;
    }
    root->data.mapping.pairs.top = kept;
}

kv_status kv_yaml_resolve(yaml_document_t *doc, const char *label, kv_error *err) {
    const int n = (int)(doc->nodes.top - doc->nodes.start);
    struct resolve r = {.doc = doc, .label = label, .err = err};
    r.progress = calloc((size_t)n + 1, 1);
    if (!r.progress) return no_memory(&r);
    kv_status status = KV_OK;
    for (int id = 1; status == KV_OK && id <= n; id++)
        if (yaml_document_get_node(doc, id)->type == YAML_MAPPING_NODE) status = resolve_group(&r, id);
    free(r.progress);
    if (status == KV_OK) drop_anchor_groups(doc);
    return status;
}
