// Text with fields of a JSON object put in: "Q: {question}\nA:". Fields of fields and entries of lists are named as in
// "{answer.value}" and "{choices[0]}" ("[-1]": the last); "{{" and "}}" are braces.
#pragma once

#include "data/system/buffers.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct kv_template kv_template;

// KV_ERR_FORMAT saying what is wrong at which character of the text, from 1 on. Free with kv_template_free (accepts
// NULL).
kv_status kv_template_parse(const char *text, kv_template **made, kv_error *err);
void kv_template_free(kv_template *made);

// Appends the text. Strings are put in as they are, numbers, true and false as JSON has them; anything else is
// KV_ERR_FORMAT naming the field, what was found and what was expected.
kv_status kv_template_render(const kv_template *made, const json_t *object, kv_bytes *out, kv_error *err);

// What a template that is one field and no more stands for; borrowed, and NULL of any other template. KV_ERR_FORMAT when
// the object has no such field.
kv_status kv_template_value(const kv_template *made, const json_t *object, const json_t **value,
                            kv_error *err);

// A list of texts, NUL-terminated. All zeros is an empty one.
typedef struct kv_texts {
    char **items; // [n]
    int64_t n;
} kv_texts;

// Appends the text, or those of all entries when the template is one field and that a list.
kv_status kv_template_render_all(const kv_template *made, const json_t *object, kv_texts *texts,
                                 kv_error *err);
void kv_texts_free(kv_texts *texts);
