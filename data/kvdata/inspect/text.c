// kvdata inspect: texts as kvdata tokenize reads them, descriptions in JSON, tables and pictures.
#include "data/file/content.h"
#include "data/file/csv.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/kvdata/inspect/inspect.h"
#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/text/documents.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A name that promises something else than text.
static bool is_named_otherwise(const inspect_subject *s) {
    return kv_path_is_named(s->path, ".json") || kv_path_is_named(s->path, ".jsonl");
}

// ---- Documents -----------------------------------------------------------------------------------------

static bool is_documents(const inspect_subject *s) {
    return json_is_string(json_object_get(s->line, "text")) ||
           (s->text && !s->json && !s->line && !is_named_otherwise(s));
}

static kv_status count_documents(const inspect_subject *s, inspect_report *report, kv_documents *documents,
                                 kv_error *err) {
    const bool lines = kv_documents_are_json(documents);
    int64_t n = 0;
    double bytes = 0;
    char size[32];
    const char *text;
    size_t length;
    for (;;) {
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        kv_status status = kv_documents_next(documents, &text, &length, err);
        if (status) return status;
        if (!text) break;
        if (n == 0) inspect_title(report, lines ? "JSON lines of text" : "plain text", s->path);
        if (n < s->options->n_documents) {
            char shown[INSPECT_SHORT];
            inspect_row(report, "first", json_stringn(text, length), "-- document %" PRIi64 ": %s", n,
                        inspect_excerpt(text, length, 300, shown));
        }
        n++, bytes += (double)length;
    }
    if (n == 0) return kv_fail(err, KV_ERR_FORMAT, "%s: a text without documents", s->path);
    kv_identity identity;
    kv_identify(s->path, true, &identity);
    if (identity.kind == KV_FILE_OTHER && *identity.what)
        inspect_fact(report, "content", json_string(identity.what), "%s", identity.what);
    inspect_fact(report, "documents", json_integer(n), "%" PRIi64 "%s", n,
                 lines ? "" : ", separated by blank lines");
    inspect_fact(report, "text", json_real(bytes), "%s%s", inspect_bytes(bytes, size),
                 s->gzip ? ", stored as gzip" : "");
    return KV_OK;
}

static kv_status describe_documents(const inspect_subject *s, inspect_report *report, kv_error *err) {
    kv_documents *documents;
    kv_status status = kv_documents_open(s->path, &documents, err);
    if (!status) status = count_documents(s, report, documents, err);
    kv_documents_close(documents);
    return status;
}

// ---- Descriptions in JSON ------------------------------------------------------------------------------

// Files whose keys tell what they are for; their values are shown as they stand there.
static const struct {
    const char *keys[2], *kind;
} descriptions[] = {
    {{"facts", "held_out"}, "description of the fact corpus"},
    {{"operations", "depth"}, "description of the code snippets"},
    {{"words_from", "text_tokens"}, "description of passages to recall from"},
    {{"ridge", "aux_layers"}, "least-squares start of a run"},
    {{"ridge", "values"}, "choice of a run's best aux layers"},
    {{"tokenizer_class", NULL}, "tokenizer settings"},
    {{"chat_template", NULL}, "tokenizer settings"},
    {{"eos_token_id", NULL}, "generation settings"},
    {{"eos_token", NULL}, "special tokens"},
};

static const char *description(const inspect_subject *s) {
    for (size_t i = 0; i < sizeof descriptions / sizeof *descriptions; i++) {
        const char *const *keys = descriptions[i].keys;
        if (json_object_get(s->json, keys[0]) && (!keys[1] || json_object_get(s->json, keys[1])))
            return descriptions[i].kind;
    }
    return NULL;
}

static bool is_description(const inspect_subject *s) {
    return description(s) != NULL;
}

static kv_status describe_description(const inspect_subject *s, inspect_report *report, kv_error *err) {
    (void)err;
    const char *key;
    json_t *value;
    inspect_title(report, description(s), s->path);
    json_object_foreach(s->json, key, value) {
        char shown[INSPECT_SHORT], name[INSPECT_SHORT], *dump = kv_json_show(value);
        inspect_fact(report, inspect_short(key, 60, name), json_incref(value), "%s",
                     inspect_short(dump ? dump : "", 200, shown));
        free(dump);
    }
    return KV_OK;
}

// What looks like JSON and is none, or none of ours.
static bool is_other_json(const inspect_subject *s) {
    return s->text && (s->json || s->line || is_named_otherwise(s));
}

static kv_status other_json(const inspect_subject *s, kv_error *err) {
    const json_t *value = s->json ? s->json : s->line;
    char keys[200] = "", shown[INSPECT_SHORT];
    const char *key;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)value, key, entry) {
        if (strlen(keys) + 50 > sizeof keys) break;
        snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s'%s'", *keys ? ", " : "",
                 inspect_short(key, 40, shown));
    }
    if (!value)
        return kv_fail(err, KV_ERR_FORMAT, "%s: not valid JSON, or cut short: it begins with \"%s\"", s->path,
                       inspect_short((const char *)s->head, 40, shown));
    const char *shape = json_is_object(json_array_get(value, 0))
                            ? "a JSON array, expected one object a line (jq -c '.[]' FILE makes them)"
                            : NULL;
    if (shape) return kv_fail(err, KV_ERR_FORMAT, "%s: %s", s->path, shape);
    if (!*keys)
        return kv_fail(err, KV_ERR_FORMAT, "%s: JSON, but not a file of this project: no object in it",
                       s->path);
    return kv_fail(err, KV_ERR_FORMAT, "%s: JSON, but not a file of this project: it has the keys %s",
                   s->path, keys);
}

static kv_status refuse_json(const inspect_subject *s, inspect_report *report, kv_error *err) {
    (void)report;
    return kv_mistaken(s->path, KV_FILE_JSON, other_json(s, err), err);
}

// ---- Tables and pictures -------------------------------------------------------------------------------

static bool is_table(const inspect_subject *s) {
    return s->text && kv_path_is_named(s->path, ".csv");
}

static kv_status describe_table(const inspect_subject *s, inspect_report *report, kv_error *err) {
    kv_csv_table table;
    kv_status status = kv_csv_read(s->path, &table, err);
    if (status) return status;
    kv_bytes names = {0};
    for (int64_t i = 0; !status && i < table.n_columns; i++) {
        if (i > 0) status = kv_bytes_add(&names, ",", 1, err);
        if (!status) status = kv_bytes_add(&names, table.names[i], strlen(table.names[i]), err);
    }
    if (!status) status = kv_bytes_add(&names, "", 1, err);
    char shown[INSPECT_SHORT];
    if (!status) {
        inspect_title(report, "table", s->path);
        inspect_fact(report, "rows", json_integer(table.n_rows), "%" PRIi64, table.n_rows);
        inspect_fact(report, "columns", json_string(names.data), "%s", inspect_short(names.data, 380, shown));
    }
    kv_bytes_free(&names);
    kv_csv_table_free(&table);
    return status;
}

static bool is_png(const inspect_subject *s) {
    return s->n_head > 24 && memcmp(s->head, "\x89PNG\r\n\x1A\n", 8) == 0;
}

static bool is_svg(const inspect_subject *s) {
    return s->text && strstr((const char *)s->head, "<svg") != NULL;
}

static kv_status describe_picture(const inspect_subject *s, inspect_report *report, kv_error *err) {
    (void)err;
    const unsigned char *b = s->head;
    char size[32];
    inspect_title(report, "picture", s->path);
    inspect_fact(report, "bytes", json_integer(s->size), "%s", inspect_bytes((double)s->size, size));
    if (!s->text) {
        const int64_t width = (int64_t)b[16] << 24 | b[17] << 16 | b[18] << 8 | b[19],
                      height = (int64_t)b[20] << 24 | b[21] << 16 | b[22] << 8 | b[23];
        inspect_fact(report, "pixels", json_pack("[I, I]", (json_int_t)width, (json_int_t)height),
                     "%" PRIi64 " x %" PRIi64, width, height);
    }
    return KV_OK;
}

const inspect_kind inspect_text_kinds[] = {
    {is_png, describe_picture},
    {is_svg, describe_picture},
    {is_table, describe_table},
    {is_description, describe_description},
    {is_documents, describe_documents},
    {is_other_json, refuse_json},
    {0},
};
