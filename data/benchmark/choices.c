// A file as a list of rows, whichever way Hugging Face or its viewer wrapped them; choice_formats.c makes
// items of them. Rows keep file and line with them, so that an error deep inside can name its place.
#include "data/benchmark/choices.h"

#include "core/text.h"
#include "data/file/content.h"
#include "data/file/mistaken.h"
#include "data/file/plain.h"
#include "data/system/buffers.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const size_t max_file_bytes = (size_t)1 << 30; // HellaSwag's largest split is 50 MB

struct reading {
    const char *path;
    const kv_choice_kind *kind;
    kv_choice_items *items;
    int64_t line;
    kv_json_file row; // the one being read, and where it is
};

void kv_choice_items_free(kv_choice_items *items) {
    for (int64_t i = 0; i < items->n; i++) kv_choice_item_free(&items->items[i]);
    free(items->items);
    *items = (kv_choice_items){0};
}

// ---- Rows ----------------------------------------------------------------------------------------------

static kv_choice_item *grow(kv_choice_items *items) {
    kv_choice_item *more = kv_room_for_one(items->items, (size_t)items->n, sizeof *more);
    if (!more) return NULL;
    items->items = more;
    more[items->n] = (kv_choice_item){0};
    return &more[items->n++];
}

// A row, maybe in the viewer's wrapping, which says when it has cut something out of a row.
static kv_status add_row(struct reading *r, json_t *value, kv_error *err) {
    r->row.root = value;
    if (json_array_size(json_object_get(value, "truncated_cells")) > 0)
        return kv_json_wrong(&r->row, "truncated_cells", -1, "none: a row with all its text", err);
    json_t *wrapped = json_object_get(value, "row");
    if (wrapped) r->row.root = wrapped;
    if (json_is_array(value))
        return kv_fail(
            err, KV_ERR_FORMAT,
            "%s: found a JSON array, expected rows of %s, one object a line (jq -c '.[]' FILE makes "
            "them)",
            r->row.path, r->kind->name);
    if (!json_is_object(r->row.root) || kv_json_is_odd(r->row.root))
        return kv_fail(err, KV_ERR_FORMAT, "%s: found %s, expected a row of %s, an object", r->row.path,
                       kv_json_kind(r->row.root), r->kind->name);
    kv_choice_item *item = grow(r->items);
    kv_status status = KV_ERR_MEMORY;
    if (item) item->where = strdup(r->row.path);
    if (item && item->where) status = kv_choice_row(r->kind, &r->row, item, err);
    if (status == KV_OK && !item->id) {
        char number[24];
        snprintf(number, sizeof number, "%" PRIi64, r->items->n);
        item->id = strdup(number);
    }
    if (status == KV_ERR_MEMORY || (status == KV_OK && !item->id))
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", r->row.path);
    return status;
}

static void say_where(struct reading *r, const char *list, size_t i) {
    if (list)
        snprintf(r->row.path, sizeof r->row.path, "%.*s:%" PRIi64 ": %s[%zu]", KV_HEAD(r->path, 4000),
                 r->line, list, i);
    else
        snprintf(r->row.path, sizeof r->row.path, "%.*s:%" PRIi64, KV_HEAD(r->path, 4000), r->line);
}

// A row, or an answer of the rows endpoint.
static kv_status add_value(struct reading *r, json_t *value, kv_error *err) {
    json_t *rows = json_object_get(value, "rows");
    say_where(r, NULL, 0);
    if (!rows) return add_row(r, value, err);
    r->row.root = value;
    if (!json_is_array(rows)) return kv_json_wrong(&r->row, "rows", -1, "a list of rows", err);
    kv_status status = KV_OK;
    for (size_t i = 0; i < json_array_size(rows) && status == KV_OK; i++) {
        say_where(r, "rows", i);
        status = add_row(r, json_array_get(rows, i), err);
    }
    return status;
}

// ---- The file ------------------------------------------------------------------------------------------

// Counts the lines up to `stop`; a CR ends one too, but not twice with its LF.
static void pass(struct reading *r, const char **text, const char *stop, const char *end) {
    for (; *text < stop; (*text)++)
        r->line += **text == '\n' || (**text == '\r' && (*text + 1 == end || (*text)[1] != '\n'));
}

// Moves *text to the next character that is neither white space nor of a byte order mark (of files put one behind the
// other).
static void skip_to_value(struct reading *r, const char **text, const char *end) {
    for (;;) {
        const char *stop = *text;
        while (stop < end && isspace((unsigned char)*stop)) stop++;
        pass(r, text, stop, end);
        const size_t mark = kv_byte_order_mark(*text, (size_t)(end - *text));
        if (!mark) return;
        *text += mark;
    }
}

// Values one after the other: lines of rows as well as one object over many lines.
static kv_status read_values(struct reading *r, const char *text, size_t size, kv_error *err) {
    const char *end = text + size;
    r->line = 1;
    for (skip_to_value(r, &text, end); text < end; skip_to_value(r, &text, end)) {
        json_error_t fault;
        json_t *value = kv_json_parse(text, (size_t)(end - text), JSON_DISABLE_EOF_CHECK, &fault);
        if (!value)
            return kv_fail(err, KV_ERR_FORMAT, "%s:%" PRIi64 ": not valid JSON (%s), expected rows of %s",
                           r->path, r->line, fault.text, r->kind->name);
        kv_status status = add_value(r, value, err);
        json_decref(value);
        if (status != KV_OK) return status;
        pass(r, &text, text + fault.position, end);
    }
    return KV_OK;
}

static kv_status read_file(const char *path, const kv_choice_kind *kind, kv_choice_items *items,
                           kv_error *err) {
    *items = (kv_choice_items){0};
    char *content = NULL;
    size_t size = 0;
    kv_status status = kv_read_input(path, max_file_bytes, &content, &size, err);
    if (status != KV_OK) return status;
    struct reading *reading = calloc(1, sizeof *reading);
    if (reading) {
        *reading = (struct reading){.path = path, .kind = kind, .items = items};
        status = read_values(reading, content, size, err);
    } else {
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    }
    free(reading);
    free(content);
    if (status == KV_OK && items->n == 0)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: holds no rows, expected those of %s", path, kind->name);
    if (status != KV_OK) kv_choice_items_free(items);
    return status;
}

kv_status kv_choices_read(const char *path, const kv_choice_kind *kind, kv_choice_items *items,
                          kv_error *err) {
    return kv_mistaken(path, KV_FILE_QUESTIONS, read_file(path, kind, items, err), err);
}
