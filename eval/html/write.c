// Nothing goes into a page but through here.
#include "eval/html/write.h"

#include "data/system/console.h"
#include "data/system/width.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void kv_html_put(kv_html *html, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(html->out, format, args);
    va_end(args);
}

// ---- Text ----------------------------------------------------------------------------------------------

// U+2028 and U+2029, which some readers of scripts take for the ends of lines.
static bool is_separator(const char *text) {
    return !strncmp(text, "\xE2\x80\xA8", 3) || !strncmp(text, "\xE2\x80\xA9", 3);
}

static void escape(const char *text, FILE *out) {
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default:
            if (is_separator(text)) {
                fputs("\xEF\xBF\xBD", out);
                text += 2;
            } else
                fputc(*text, out);
        }
    }
}

static void put_text(kv_html *html, const char *text, bool lines) {
    char *clean = kv_text_printable(text, lines);
    if (clean) escape(clean, html->out);
    html->out_of_memory = html->out_of_memory || !clean;
    free(clean);
}

void kv_html_text(kv_html *html, const char *text) {
    put_text(html, text ? text : "", false);
}

void kv_html_lines(kv_html *html, const char *text) {
    put_text(html, text ? text : "", true);
}

void kv_html_format(kv_html *html, const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    const bool made = vasprintf(&text, format, args) >= 0;
    va_end(args);
    if (made)
        put_text(html, text, true);
    else
        html->out_of_memory = true;
    if (made) free(text);
}

// ---- Data for scripts ----------------------------------------------------------------------------------

json_t *kv_html_string(const char *text) {
    char *clean = kv_text_printable(text ? text : "", true);
    json_t *string = clean ? json_string(clean) : NULL;
    free(clean);
    return string;
}

// What HTML could take for markup stands in texts alone, where JSON has another way to write it.
static int write_data(const char *buffer, size_t size, void *context) {
    FILE *out = context;
    for (size_t i = 0; i < size; i++)
        if (strchr("<>&'", buffer[i]) && buffer[i])
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)buffer[i]);
        else
            fputc(buffer[i], out);
    return 0;
}

void kv_html_data(kv_html *html, const char *id, json_t *value) {
    kv_html_put(html, "<script type=\"application/json\" id=\"%s\">", id);
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    html->out_of_memory = html->out_of_memory || !text;
    // The separators of lines are three bytes, which a buffer of jansson's own might cut.
    for (const char *at = text, *next; at && *at; at = next) {
        next = strstr(at, "\xE2\x80");
        const bool found = next && is_separator(next);
        const size_t length = next ? (size_t)(next - at) : strlen(at);
        write_data(at, length, html->out);
        if (found) fprintf(html->out, "\\u202%c", next[2] == '\xA8' ? '8' : '9');
        if (next && !found) fwrite(next, 1, 2, html->out);
        next = next ? next + (found ? 3 : 2) : at + length;
    }
    kv_html_put(html, "</script>\n");
    free(text);
    json_decref(value);
}

// ---- The end -------------------------------------------------------------------------------------------

kv_status kv_html_check(const kv_html *html, const char *path, kv_error *err) {
    if (kv_console_interrupted())
        return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted: %s is not written", path);
    if (html->out_of_memory) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for the page", path);
    if (ferror(html->out))
        return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno ? errno : EIO));
    return KV_OK;
}
