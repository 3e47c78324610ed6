// What a line has is checked by making all of its texts at once, so that nothing is asked of a file whose last line is bad.
#include "data/benchmark/custom.h"

#include "core/text.h"
#include "data/benchmark/choices.h"
#include "data/file/content.h"
#include "data/file/mistaken.h"

#include <stdlib.h>
#include <string.h>

static const size_t max_file_bytes = (size_t)8 << 30;

void kv_custom_format_free(kv_custom_format *f) {
    kv_template_free(f->prompt);
    kv_template_free(f->preamble);
    kv_template_free(f->target);
    kv_template_free(f->label);
    for (int64_t i = 0; i < f->n_choices; i++) kv_template_free(f->choices[i]);
    for (int64_t i = 0; i < f->n_labels; i++) kv_template_free(f->labels[i]);
    free(f->choices);
    free(f->labels);
    *f = (kv_custom_format){0};
}

void kv_custom_items_free(kv_custom_items *items) {
    for (int64_t i = 0; i < items->n; i++) {
        kv_custom_item *item = &items->items[i];
        free(item->id);
        free(item->where);
        free(item->prompt);
        free(item->preamble);
        kv_texts_free(&item->targets);
        kv_texts_free(&item->choices);
    }
    free(items->items);
    *items = (kv_custom_items){0};
}

struct reading {
    const kv_custom_format *format;
    kv_custom_items *items;
};

// The line being read.
struct line {
    const json_t *entry;
    const char *where;
    kv_error *err;
};

// Says of an error about a field which line it is and which key of the configuration names it.
static kv_status blame(const struct line *l, const char *key, kv_status status) {
    if (status != KV_ERR_FORMAT) return status;
    const kv_error inner = *l->err;
    return kv_fail(l->err, status, "%s: %.*s, which `%s` names", l->where, KV_HEAD(inner.message, 400), key);
}

static kv_status render(const struct line *l, const char *key, const kv_template *made, char **text) {
    kv_bytes out = {0};
    if (!made) return KV_OK;
    kv_status status = kv_template_render(made, l->entry, &out, l->err);
    if (status == KV_OK) status = kv_bytes_add(&out, "", 1, l->err);
    *text = out.data;
    return blame(l, key, status);
}

static kv_status render_list(const struct line *l, const char *key, kv_template *const *made, int64_t n,
                             kv_texts *texts) {
    kv_status status = KV_OK;
    for (int64_t i = 0; i < n && status == KV_OK; i++)
        status = kv_template_render_all(made[i], l->entry, texts, l->err);
    return blame(l, key, status);
}

// ---- The right choice ----------------------------------------------------------------------------------

// The first from `from` on.
static int64_t find_text(const kv_texts *texts, int64_t from, const char *text) {
    for (int64_t i = from; i < texts->n; i++)
        if (!strcmp(texts->items[i], text)) return i;
    return -1;
}

// Without labels: by its text, a letter, or a number.
static int64_t find_choice(const kv_texts *choices, const char *label) {
    int64_t found = find_text(choices, 0, label);
    char *end;
    if (found < 0 && label[0] && !label[1] && (label[0] & ~0x20) >= 'A' && (label[0] & ~0x20) <= 'Z')
        found = (label[0] & ~0x20) - 'A';
    if (found < 0 && strspn(label, "0123456789") == strlen(label) && *label) found = strtol(label, &end, 10);
    return found < choices->n ? found : -1;
}

static kv_status find_gold(const struct line *l, const kv_custom_format *f, kv_custom_item *item) {
    kv_texts labels = {0};
    char *label = NULL;
    const json_t *value = NULL;
    kv_status status = render_list(l, "labels", f->labels, f->n_labels, &labels);
    if (status == KV_OK) status = render(l, "label", f->label, &label);
    if (status == KV_OK) status = kv_template_value(f->label, l->entry, &value, l->err);
    const bool number = f->n_labels == 0 && json_is_integer(value);
    if (status == KV_OK && f->n_labels > 0 && labels.n != item->choices.n)
        status = kv_fail(l->err, KV_ERR_FORMAT,
                         "%s: `labels` has %lld entries, expected as many as the %lld of `choices`", l->where,
                         (long long)labels.n, (long long)item->choices.n);
    if (status == KV_OK)
        item->gold = f->n_labels > 0 ? find_text(&labels, 0, label)
                     : number        ? json_integer_value(value)
                                     : find_choice(&item->choices, label);
    if (status == KV_OK && (item->gold < 0 || item->gold >= item->choices.n))
        status = kv_fail(l->err, KV_ERR_FORMAT, "%s: `label` is \"%.*s\", expected %s%lld", l->where,
                         KV_HEAD(label, 60),
                         f->n_labels ? "one of its labels, of which there are "
                                     : "the text of a choice, its letter, or its number from 0 to ",
                         (long long)(f->n_labels ? labels.n : item->choices.n - 1));
    if (status == KV_OK && f->n_labels > 0 && find_text(&labels, item->gold + 1, label) >= 0)
        status = kv_fail(l->err, KV_ERR_FORMAT, "%s: `labels` has \"%.*s\" twice, which `label` names",
                         l->where, KV_HEAD(label, 60));
    kv_texts_free(&labels);
    free(label);
    return status;
}

static kv_status read_choices(const struct line *l, const kv_custom_format *f, kv_custom_item *item) {
    item->gold = -1;
    if (!f->n_choices) return KV_OK;
    kv_status status = render_list(l, "choices", f->choices, f->n_choices, &item->choices);
    if (status == KV_OK && (item->choices.n < 2 || item->choices.n > KV_MAX_CHOICES))
        status = kv_fail(l->err, KV_ERR_FORMAT, "%s: `choices` has %lld entries, expected 2 to %d", l->where,
                         (long long)item->choices.n, KV_MAX_CHOICES);
    return status == KV_OK ? find_gold(l, f, item) : status;
}

// ---- Lines ---------------------------------------------------------------------------------------------

static char *id_of(const json_t *entry, const char *where) {
    const json_t *id = json_object_get(entry, "id");
    const char *text = json_string_value(id);
    char number[32];
    if (json_is_integer(id)) snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    return strdup(text ? text : json_is_integer(id) ? number : strrchr(where, ':') + 1);
}

static kv_status fill(const struct line *l, const kv_custom_format *f, kv_custom_item *item) {
    item->id = id_of(l->entry, l->where);
    item->where = strdup(l->where);
    kv_status status =
        item->id && item->where ? KV_OK : kv_fail(l->err, KV_ERR_MEMORY, "%s: out of memory", l->where);
    if (status == KV_OK) status = render(l, "template", f->prompt, &item->prompt);
    if (status == KV_OK && !*item->prompt)
        status = kv_fail(l->err, KV_ERR_FORMAT, "%s: the prompt that `template` makes is empty", l->where);
    if (status == KV_OK) status = render(l, "preamble", f->preamble, &item->preamble);
    if (status == KV_OK) status = render_list(l, "target", &f->target, f->target != NULL, &item->targets);
    if (status == KV_OK && f->target && item->targets.n == 0)
        status = kv_fail(l->err, KV_ERR_FORMAT, "%s: `target` is an empty list, expected at least one answer",
                         l->where);
    return status == KV_OK ? read_choices(l, f, item) : status;
}

static kv_status add_line(void *context, const json_t *entry, const char *where, kv_error *err) {
    const struct reading *r = context;
    kv_custom_items *items = r->items;
    if (!json_is_object(entry) || kv_json_is_odd(entry))
        return kv_fail(err, KV_ERR_FORMAT, "%s: found %s, expected an object with the fields of a question",
                       where, kv_json_kind(entry));
    kv_custom_item *more = kv_room_for_one(items->items, (size_t)items->n, sizeof *more);
    if (!more) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", where);
    items->items = more;
    more[items->n] = (kv_custom_item){0};
    return fill(&(struct line){entry, where, err}, r->format, &more[items->n++]);
}

static kv_status read_file(const char *path, const kv_custom_format *format, kv_custom_items *items,
                           kv_error *err) {
    *items = (kv_custom_items){0};
    char *content = NULL;
    size_t size = 0;
    kv_status status = kv_read_input(path, max_file_bytes, &content, &size, err);
    if (status != KV_OK) return status;
    status =
        kv_json_lines(path, content, size, 0, "question", add_line, &(struct reading){format, items}, err);
    free(content);
    if (status == KV_OK && items->n == 0)
        status = kv_fail(err, KV_ERR_FORMAT,
                         "%s: holds no lines, expected questions as JSON objects, one a line", path);
    if (status != KV_OK) kv_custom_items_free(items);
    return status;
}

kv_status kv_custom_read(const char *path, const kv_custom_format *format, kv_custom_items *items,
                         kv_error *err) {
    return kv_mistaken(path, KV_FILE_QUESTIONS, read_file(path, format, items, err), err);
}
