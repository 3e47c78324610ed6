// Text of any kind inside a page: what comes from results (names, paths, answers) can be no markup, end no script, and turn no
// text around.
#pragma once

#include "core/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

// A page as it is written. What fails is remembered; nobody asks before the end.
typedef struct kv_html {
    FILE *out;
    bool out_of_memory; // something is missing
} kv_html;

// Markup of our own, as printf.
void kv_html_put(kv_html *html, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Text as kv_text_printable makes it, between tags or in a quoted attribute. lines: new lines stay.
void kv_html_text(kv_html *html, const char *text);
void kv_html_lines(kv_html *html, const char *text);
void kv_html_format(kv_html *html, const char *format, ...) __attribute__((format(printf, 2, 3)));

// <script type="application/json" id="ID"> with the value, which is taken over (NULL: out of memory). No character of it is one
// that HTML knows.
void kv_html_data(kv_html *html, const char *id, json_t *value);

// A JSON string of such a text. NULL: out of memory.
json_t *kv_html_string(const char *text);

// KV_ERR_MEMORY or KV_ERR_IO naming the path, where something went wrong; KV_ERR_INTERRUPTED where a signal came.
kv_status kv_html_check(const kv_html *html, const char *path, kv_error *err);
