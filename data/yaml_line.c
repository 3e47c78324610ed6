// YAML nodes on one line, for messages, overrides and tables.
#include "data/config_tree.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 }; // as deep as a document is read

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

static bool put(FILE *out, yaml_document_t *doc, int id, int depth) {
    const yaml_node_t *node = yaml_document_get_node(doc, id);
    if (!node || depth > MAX_DEPTH) return false;
    bool ok = true;
    if (node->type == YAML_SCALAR_NODE) {
        if (plain(node))
            fputs((const char *)node->data.scalar.value, out);
        else
            kv_yaml_quote(out, (const char *)node->data.scalar.value);
    } else if (node->type == YAML_SEQUENCE_NODE) {
        fputc('[', out);
        for (const yaml_node_item_t *item = node->data.sequence.items.start;
             ok && item < node->data.sequence.items.top; item++) {
            if (item > node->data.sequence.items.start) fputs(", ", out);
            ok = put(out, doc, *item, depth + 1);
        }
        fputc(']', out);
    } else {
        fputc('{', out);
        for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
             ok && pair < node->data.mapping.pairs.top; pair++) {
            if (pair > node->data.mapping.pairs.start) fputs(", ", out);
            ok = put(out, doc, pair->key, depth + 1);
            fputs(": ", out);
            ok = ok && put(out, doc, pair->value, depth + 1);
        }
        fputc('}', out);
    }
    return ok;
}

char *kv_yaml_line(yaml_document_t *doc, int id) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    const bool ok = put(out, doc, id, 0) && !ferror(out);
    if (fclose(out) == 0 && ok) return text;
    free(text);
    return NULL;
}
