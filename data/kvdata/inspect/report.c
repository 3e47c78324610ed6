// Every fact is said once, with its value for JSON and its words for people, so that the two cannot drift
// apart.
#include "data/file/json.h"
#include "data/kvdata/inspect/inspect.h"

#include "core/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 4 };

struct inspect_report {
    bool json, lost;
    json_t *open[MAX_DEPTH]; // the object facts go to is the last
    int depth;
};

inspect_report *inspect_report_create(bool json) {
    inspect_report *report = calloc(1, sizeof *report);
    if (!report) return NULL;
    report->json = json;
    report->open[0] = json_object();
    report->lost = !report->open[0];
    return report;
}

void inspect_report_free(inspect_report *report) {
    if (!report) return;
    json_decref(report->open[0]); // the others belong to it
    free(report);
}

bool inspect_is_json(const inspect_report *report) {
    return report->json;
}

kv_status inspect_report_finish(inspect_report *report, kv_error *err) {
    if (!report->json) return KV_OK;
    kv_json_spell_out(report->open[0]);
    // What cannot be written is noticed when the program closes stdout.
    if (!report->lost)
        report->lost = json_dumpf(report->open[0], stdout, JSON_INDENT(1)) != 0 && !ferror(stdout);
    putchar('\n');
    return report->lost ? kv_fail(err, KV_ERR_MEMORY, "out of memory for the report") : KV_OK;
}

static void set(inspect_report *report, const char *key, json_t *value) {
    // What is not UTF-8 has no place in JSON.
    if (json_object_set_new(report->open[report->depth], key, value ? value : json_null()) != 0)
        report->lost = true;
}

void inspect_open(inspect_report *report, const char *key) {
    json_t *inner = json_object();
    set(report, key, inner);
    if (report->depth + 1 < MAX_DEPTH) report->open[++report->depth] = inner;
}

void inspect_close(inspect_report *report) {
    if (report->depth > 0) report->depth--;
}

void inspect_title(inspect_report *report, const char *kind, const char *path) {
    if (report->json) {
        set(report, "kind", json_string(kind));
        set(report, "path", json_string(path));
    } else {
        printf("%s %s\n", kind, path);
    }
}

void inspect_value(inspect_report *report, const char *key, json_t *value) {
    if (report->json)
        set(report, key, value);
    else
        json_decref(value);
}

// "kv_cache" is shown as "kv cache", in a column of its own.
static void print_label(const char *key) {
    int n = 0;
    printf("  ");
    for (; key[n]; n++) putchar(key[n] == '_' ? ' ' : key[n]);
    printf("%*s", n < 12 ? 13 - n : 1, "");
}

void inspect_fact(inspect_report *report, const char *key, json_t *value, const char *format, ...) {
    if (report->json) {
        set(report, key, value);
        return;
    }
    json_decref(value);
    va_list arguments;
    va_start(arguments, format);
    print_label(key);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

void inspect_row(inspect_report *report, const char *key, json_t *value, const char *format, ...) {
    if (report->json) {
        json_t *list = json_object_get(report->open[report->depth], key);
        if (!list) {
            set(report, key, json_array());
            list = json_object_get(report->open[report->depth], key);
        }
        if (json_array_append_new(list, value ? value : json_null()) != 0) report->lost = true;
        return;
    }
    json_decref(value);
    va_list arguments;
    va_start(arguments, format);
    printf("  ");
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

// ---- Numbers and texts ---------------------------------------------------------------------------------

const char *inspect_bytes(double bytes, char text[32]) {
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    int unit = 0;
    while (unit + 1 < 5 && bytes >= 1000) bytes /= 1000, unit++;
    snprintf(text, 32, unit ? "%.3g %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

const char *inspect_count(int64_t n, char text[32]) {
    char digits[24];
    const int length = snprintf(digits, sizeof digits, "%" PRIi64, n);
    int used = 0;
    for (int i = 0; i < length; i++) {
        text[used++] = digits[i];
        if ((length - 1 - i) % 3 == 0 && i + 1 < length && digits[i] != '-') text[used++] = ',';
    }
    text[used] = '\0';
    return text;
}

const char *inspect_short(const char *text, size_t most, char out[INSPECT_SHORT]) {
    return inspect_excerpt(text, strnlen(text, most + 1), most, out);
}

const char *inspect_excerpt(const char *text, size_t n, size_t most, char out[INSPECT_SHORT]) {
    const size_t cut = n <= most ? n : kv_text_whole(text, most);
    size_t used = 0;
    for (size_t i = 0; i < cut && used + 6 < INSPECT_SHORT; i++) {
        const unsigned char byte = (unsigned char)text[i];
        if (byte == '\n' || byte == '\t') {
            out[used++] = '\\';
            out[used++] = byte == '\n' ? 'n' : 't';
        } else {
            out[used++] = byte < ' ' || byte == 127 ? '?' : text[i];
        }
    }
    strcpy(out + used, cut < n ? "..." : "");
    return out;
}
