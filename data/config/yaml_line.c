// YAML nodes on one line, for messages, overrides and tables.
#include "data/config/tree.h"

#include <stdlib.h>
#include <string.h>

// Aliases can make a small file describe an endless (or exponentially long) line.
enum { MAX_DEPTH = 64, MAX_NODES = 1 << 14 };

void kv_yaml_quote(FILE *out, const char *text) {
    fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else if (*c == '\n')
            fputs("\\n", out);
        else if (*c < 0x20 || *c == 0x7F)
            fprintf(out, "\\x%02X", *c);
        else
            fputc(*c, out);
    }
    fputc('"', out);
}

// What stays a plain word also between brackets and commas. An empty one means nothing (null).
static bool plain(const yaml_node_t *node) {
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-/~";
    const char *text = (const char *)node->data.scalar.value;
    return node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && text[strspn(text, safe)] == '\0';
}

struct line {
    yaml_document_t *doc;
    FILE *out;
    int n_nodes;
};

static bool put(struct line *line, int id, int depth);

static bool put_list(struct line *line, const yaml_node_t *node, int depth) {
    bool ok = true;
    fputc('[', line->out);
    for (const yaml_node_item_t *item = node->data.sequence.items.start;
         ok && item < node->data.sequence.items.top; item++) {
        if (item > node->data.sequence.items.start) fputs(", ", line->out);
        ok = put(line, *item, depth + 1);
    }
    fputc(']', line->out);
    return ok;
}

static bool put_group(struct line *line, const yaml_node_t *node, int depth) {
    bool ok = true;
    fputc('{', line->out);
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         ok && pair < node->data.mapping.pairs.top; pair++) {
        if (pair > node->data.mapping.pairs.start) fputs(", ", line->out);
        ok = put(line, pair->key, depth + 1);
        fputs(": ", line->out);
        ok = ok && put(line, pair->value, depth + 1);
    }
    fputc('}', line->out);
    return ok;
}

static bool put(struct line *line, int id, int depth) {
    const yaml_node_t *node = yaml_document_get_node(line->doc, id);
    if (!node || depth > MAX_DEPTH || ++line->n_nodes > MAX_NODES) return false;
    if (node->type == YAML_SEQUENCE_NODE) return put_list(line, node, depth);
    if (node->type == YAML_MAPPING_NODE) return put_group(line, node, depth);
    if (plain(node))
        fputs((const char *)node->data.scalar.value, line->out);
    else
        kv_yaml_quote(line->out, (const char *)node->data.scalar.value);
    return true;
}

char *kv_yaml_line(yaml_document_t *doc, int id) {
    char *text = NULL;
    size_t size;
    struct line line = {.doc = doc, .out = open_memstream(&text, &size)};
    if (!line.out) return NULL;
    const bool ok = put(&line, id, 0) && !ferror(line.out);
    if (fclose(line.out) == 0 && ok) return text;
    free(text);
    return NULL;
}
