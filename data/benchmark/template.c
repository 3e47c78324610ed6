// A template is a list of parts, each some text and then a field; what is wrong with it is known before any file is read.
#include "data/benchmark/template.h"

#include "core/text.h"
#include "data/file/json_value.h"
#include "data/text/unicode.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// One step from a value to one within it.
struct step {
    char *key; // of an object; NULL: of a list
    int64_t index;
};

struct part {
    char *text;         // in front, braces no longer doubled
    char *field;        // as the template spells it, without its braces; NULL: none follows
    struct step *steps; // [n_steps]
    int64_t n_steps;
};

struct kv_template {
    struct part *parts; // [n] the last without a field
    int64_t n;
};

// ---- Reading one ---------------------------------------------------------------------------------------

static void free_part(struct part *part) {
    for (int64_t i = 0; i < part->n_steps; i++) free(part->steps[i].key);
    free(part->steps);
    free(part->field);
    free(part->text);
}

void kv_template_free(kv_template *made) {
    for (int64_t i = 0; made && i < made->n; i++) free_part(&made->parts[i]);
    if (made) free(made->parts);
    free(made);
}

static kv_status out_of_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for a template");
}

struct reading {
    const char *text, *at;
    kv_template *made;
    kv_error *err;
};

static kv_status wrong(const struct reading *r, const char *at, const char *what) {
    return kv_fail(r->err, KV_ERR_FORMAT, "character %lld: %s",
                   (long long)kv_utf8_count(r->text, (size_t)(at - r->text)) + 1, what);
}

static struct part *add_part(kv_template *made) {
    struct part *more = kv_room_for_one(made->parts, (size_t)made->n, sizeof *more);
    if (!more) return NULL;
    made->parts = more;
    more[made->n] = (struct part){0};
    return &more[made->n++];
}

static struct step *add_step(struct part *part) {
    struct step *more = kv_room_for_one(part->steps, (size_t)part->n_steps, sizeof *more);
    if (!more) return NULL;
    part->steps = more;
    more[part->n_steps] = (struct step){0};
    return &more[part->n_steps++];
}

// The text up to the next field or the end.
static kv_status read_text(struct reading *r, struct part *part) {
    char *out = part->text = malloc(strlen(r->at) + 1);
    if (!out) return out_of_memory(r->err);
    for (; *r->at; r->at++) {
        const bool brace = *r->at == '{' || *r->at == '}', doubled = brace && r->at[1] == *r->at;
        if (*r->at == '{' && !doubled) break;
        if (brace && !doubled)
            return wrong(r, r->at, "found `}` without a field before it, expected `}}` for a brace");
        r->at += doubled;
        *out++ = *r->at;
    }
    *out = '\0';
    return KV_OK;
}

// "[0]" behind a name.
static kv_status read_index(struct reading *r, struct part *part) {
    const char *from = r->at++;
    char *end;
    const bool number =
        (*r->at >= '0' && *r->at <= '9') || (*r->at == '-' && r->at[1] >= '0' && r->at[1] <= '9');
    const long long index = number ? strtoll(r->at, &end, 10) : 0;
    if (!number || *end != ']' || index > INT32_MAX || index < -INT32_MAX)
        return wrong(r, from, "expected the number of a list's entry, as in `[0]`, or `[-1]` for the last");
    struct step *step = add_step(part);
    if (!step) return out_of_memory(r->err);
    step->index = index;
    r->at = end + 1;
    return KV_OK;
}

static kv_status read_name(struct reading *r, struct part *part) {
    const size_t n = strcspn(r->at, ".[]{}");
    if (n == 0) return wrong(r, r->at, "expected the name of a field, or `{{` for a brace");
    struct step *step = add_step(part);
    if (step) step->key = strndup(r->at, n);
    if (!step || !step->key) return out_of_memory(r->err);
    r->at += n;
    return KV_OK;
}

// From behind its brace to behind the other.
static kv_status read_field(struct reading *r, struct part *part) {
    const char *from = ++r->at;
    kv_status status = read_name(r, part);
    while (status == KV_OK && *r->at && *r->at != '}') {
        if (*r->at == '[') {
            status = read_index(r, part);
        } else if (*r->at == '.') {
            r->at++;
            status = read_name(r, part);
        } else {
            return wrong(r, r->at, "expected `}`, `.` or `[` behind the name of a field");
        }
    }
    if (status != KV_OK) return status;
    if (!*r->at)
        return wrong(r, from - 1, "found `{` that nothing closes, expected `}`, or `{{` for a brace");
    part->field = strndup(from, (size_t)(r->at++ - from));
    return part->field ? KV_OK : out_of_memory(r->err);
}

kv_status kv_template_parse(const char *text, kv_template **made, kv_error *err) {
    struct reading r = {.text = text, .at = text, .made = calloc(1, sizeof *r.made), .err = err};
    kv_status status = r.made ? KV_OK : out_of_memory(err);
    for (bool more = true; more && status == KV_OK;) {
        struct part *part = add_part(r.made);
        status = part ? read_text(&r, part) : out_of_memory(err);
        more = *r.at;
        if (status == KV_OK && more) status = read_field(&r, part);
    }
    *made = status == KV_OK ? r.made : NULL;
    if (status != KV_OK) kv_template_free(r.made);
    return status;
}

// ---- Putting fields in ---------------------------------------------------------------------------------

// Names the part of the field that leads to what was found.
static kv_status lacks(const struct part *part, int64_t step, const json_t *found, kv_error *err) {
    const struct step *s = &part->steps[step];
    if (step == 0) return kv_fail(err, KV_ERR_FORMAT, "there is no field \"%.*s\"", KV_HEAD(s->key, 60));
    if (s->key && json_is_object(found) && !kv_json_is_odd(found))
        return kv_fail(err, KV_ERR_FORMAT, "{%.*s}: there is no field \"%.*s\" in it",
                       KV_HEAD(part->field, 80), KV_HEAD(s->key, 60));
    if (!s->key && json_is_array(found))
        return kv_fail(err, KV_ERR_FORMAT, "{%.*s}: there is no entry [%" PRIi64 "] in a list of %zu",
                       KV_HEAD(part->field, 80), s->index, json_array_size(found));
    return kv_fail(err, KV_ERR_FORMAT, "{%.*s}: found %s, expected %s", KV_HEAD(part->field, 80),
                   kv_json_kind(found), s->key ? "an object" : "a list");
}

static kv_status find(const struct part *part, const json_t *object, const json_t **value, kv_error *err) {
    *value = object;
    for (int64_t i = 0; i < part->n_steps; i++) {
        const struct step *s = &part->steps[i];
        const json_t *from = *value;
        const int64_t index = s->index < 0 ? s->index + (int64_t)json_array_size(from) : s->index;
        *value = s->key       ? json_object_get(from, s->key)
                 : index >= 0 ? json_array_get(from, (size_t)index)
                              : NULL;
        if (!*value || kv_json_is_odd(from)) return lacks(part, i, from, err);
    }
    return KV_OK;
}

// As few digits as say the same number, and a point, so that it stays a real one.
static void spell_real(double value, char text[40]) {
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, 40, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    if (!strpbrk(text, ".e")) strcat(text, ".0");
}

// NULL: it is nothing that can be put into a text.
static const char *spell(const json_t *value, char text[40]) {
    if (json_is_string(value)) return json_string_value(value);
    if (json_is_boolean(value)) return json_is_true(value) ? "true" : "false";
    if (!json_is_number(value)) return NULL;
    if (json_is_real(value))
        spell_real(json_real_value(value), text);
    else
        snprintf(text, 40, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    return text;
}

// From here on whole numbers are read as real ones.
static const double most = 0x1p63;

static kv_status put_value(const struct part *part, const json_t *value, int64_t entry, kv_bytes *out,
                           kv_error *err) {
    char number[40], place[32] = "";
    const char *text = spell(value, number);
    if (entry >= 0) snprintf(place, sizeof place, "[%" PRIi64 "]", entry);
    if (json_is_real(value) && fabs(json_real_value(value)) >= most)
        return kv_fail(err, KV_ERR_FORMAT,
                       "{%.*s%s} is a number that may have lost digits, expected it as text",
                       KV_HEAD(part->field, 80), place);
    if (text) return kv_bytes_add(out, text, strlen(text), err);
    return kv_fail(err, KV_ERR_FORMAT, "{%.*s%s} is %s, expected text or a number", KV_HEAD(part->field, 80),
                   place, kv_json_kind(value));
}

kv_status kv_template_render(const kv_template *made, const json_t *object, kv_bytes *out, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; i < made->n && status == KV_OK; i++) {
        const struct part *part = &made->parts[i];
        const json_t *value = NULL;
        status = kv_bytes_add(out, part->text, strlen(part->text), err);
        if (status == KV_OK && part->field) status = find(part, object, &value, err);
        if (status == KV_OK && part->field) status = put_value(part, value, -1, out, err);
    }
    return status;
}

static const struct part *lone_field(const kv_template *made) {
    const bool lone = made->n == 2 && made->parts[0].field && !*made->parts[0].text && !*made->parts[1].text;
    return lone ? &made->parts[0] : NULL;
}

kv_status kv_template_value(const kv_template *made, const json_t *object, const json_t **value,
                            kv_error *err) {
    const struct part *part = lone_field(made);
    *value = NULL;
    return part ? find(part, object, value, err) : KV_OK;
}

// ---- Lists ---------------------------------------------------------------------------------------------

void kv_texts_free(kv_texts *texts) {
    for (int64_t i = 0; i < texts->n; i++) free(texts->items[i]);
    free(texts->items);
    *texts = (kv_texts){0};
}

// Takes the text over.
static kv_status add_text(kv_texts *texts, kv_bytes *text, kv_error *err) {
    char **more = kv_room_for_one(texts->items, (size_t)texts->n, sizeof *more);
    if (more) texts->items = more;
    if (!more || kv_bytes_add(text, "", 1, err) != KV_OK) return out_of_memory(err);
    more[texts->n++] = text->data;
    *text = (kv_bytes){0};
    return KV_OK;
}

static kv_status add_entries(const struct part *part, const json_t *list, kv_texts *texts, kv_error *err) {
    kv_status status = KV_OK;
    for (size_t i = 0; i < json_array_size(list) && status == KV_OK; i++) {
        kv_bytes text = {0};
        status = put_value(part, json_array_get(list, i), (int64_t)i, &text, err);
        if (status == KV_OK) status = add_text(texts, &text, err);
        kv_bytes_free(&text);
    }
    return status;
}

kv_status kv_template_render_all(const kv_template *made, const json_t *object, kv_texts *texts,
                                 kv_error *err) {
    const json_t *value;
    kv_bytes text = {0};
    kv_status status = kv_template_value(made, object, &value, err);
    if (status != KV_OK) return status;
    if (json_is_array(value)) return add_entries(lone_field(made), value, texts, err);
    status = kv_template_render(made, object, &text, err);
    if (status == KV_OK) status = add_text(texts, &text, err);
    kv_bytes_free(&text);
    return status;
}
