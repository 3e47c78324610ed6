#include "data/tokenizer/stop_filter.h"

#include <stdlib.h>
#include <string.h>

struct kv_stop_filter {
    const char *const *stops;
    size_t n_stops, longest;
    char *text; // given out up to `given`, held from there on
    size_t given, length, capacity;
    bool stopped;
};

kv_stop_filter *kv_stop_filter_create(const char *const *stops, size_t n) {
    kv_stop_filter *filter = calloc(1, sizeof *filter);
    if (!filter) return NULL;
    filter->stops = stops, filter->n_stops = n;
    for (size_t i = 0; i < n; i++)
        if (strlen(stops[i]) > filter->longest) filter->longest = strlen(stops[i]);
    filter->text = calloc(1, 1);
    if (filter->text) return filter;
    free(filter);
    return NULL;
}

void kv_stop_filter_free(kv_stop_filter *filter) {
    if (!filter) return;
    free(filter->text);
    free(filter);
}

// Bytes of the longest stop string that held[length] ends with, 0: none.
static size_t complete(const kv_stop_filter *filter, const char *held, size_t length) {
    size_t longest = 0;
    for (size_t i = 0; i < filter->n_stops; i++) {
        const size_t n = strlen(filter->stops[i]);
        if (n > longest && n <= length && memcmp(held + length - n, filter->stops[i], n) == 0) longest = n;
    }
    return longest;
}

// Bytes at the end of held[length] that begin a stop string, as many as possible.
static size_t undecided(const kv_stop_filter *filter, const char *held, size_t length) {
    for (size_t n = length < filter->longest ? length : filter->longest; n > 0; n--)
        for (size_t i = 0; i < filter->n_stops; i++)
            if (strlen(filter->stops[i]) >= n && memcmp(filter->stops[i], held + length - n, n) == 0)
                return n;
    return 0;
}

// What was given out before goes, what is held moves to the front and text[length] behind it.
static bool append(kv_stop_filter *filter, const char *text, size_t length) {
    filter->length -= filter->given;
    memmove(filter->text, filter->text + filter->given, filter->length);
    filter->given = 0;
    if (filter->length + length + 2 > filter->capacity) {
        const size_t capacity = 2 * (filter->length + length) + 64;
        char *larger = realloc(filter->text, capacity);
        if (!larger) return false;
        filter->text = larger, filter->capacity = capacity;
    }
    memcpy(filter->text + filter->length, text, length);
    filter->length += length;
    return true;
}

// text[from, …) is not given out: it moves on by one to make room for the end of what is.
static void give_out(kv_stop_filter *filter, size_t from, const char **out, size_t *n) {
    memmove(filter->text + from + 1, filter->text + from, filter->length - from);
    filter->text[from] = '\0';
    filter->length++;
    filter->given = from + 1;
    *out = filter->text, *n = from;
}

kv_status kv_stop_filter_push(kv_stop_filter *filter, const char *text, size_t length, const char **out,
                              size_t *n, bool *stopped, kv_error *err) {
    if (filter->stopped) length = 0;
    const size_t before = filter->length - filter->given;
    if (!append(filter, text, length))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu bytes of text", length);
    size_t upto = filter->length, stop = 0;
    for (size_t end = before + 1; end <= filter->length && stop == 0; end++) {
        stop = complete(filter, filter->text, end);
        if (stop > 0) upto = end - stop;
    }
    if (stop > 0)
        filter->stopped = true, filter->length = upto;
    else
        upto -= undecided(filter, filter->text, filter->length);
    give_out(filter, upto, out, n);
    *stopped = filter->stopped;
    return KV_OK;
}

void kv_stop_filter_finish(kv_stop_filter *filter, const char **out, size_t *n) {
    *n = filter->length - filter->given;
    memmove(filter->text, filter->text + filter->given, *n);
    filter->text[*n] = '\0';
    *out = filter->text;
    filter->given = filter->length = 0;
    filter->stopped = false;
}
