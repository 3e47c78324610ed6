// Text that might begin a stop string is held in the same buffer as what is given out, with one NUL between
// them.
#include "data/tokenizer/stop_filter.h"

#include "data/system/buffers.h"

#include <stdlib.h>
#include <string.h>

struct stops {
    const char *const *texts;
    size_t n;
};

struct kv_stop_filter {
    struct stops stops;
    size_t longest;
    kv_bytes text; // given out up to `given`, held from there on
    size_t given;
    bool stopped;
};

kv_stop_filter *kv_stop_filter_create(const char *const *stops, size_t n) {
    kv_stop_filter *filter = calloc(1, sizeof *filter);
    if (!filter) return NULL;
    filter->stops = (struct stops){stops, n};
    for (size_t i = 0; i < n; i++)
        if (strlen(stops[i]) > filter->longest) filter->longest = strlen(stops[i]);
    return filter;
}

void kv_stop_filter_free(kv_stop_filter *filter) {
    if (!filter) return;
    kv_bytes_free(&filter->text);
    free(filter);
}

// Bytes of the longest stop string that text[length] ends with, 0: none.
static size_t complete(const struct stops *stops, const char *text, size_t length) {
    size_t longest = 0;
    for (size_t i = 0; i < stops->n; i++) {
        const size_t n = strlen(stops->texts[i]);
        if (n > longest && n <= length && memcmp(text + length - n, stops->texts[i], n) == 0) longest = n;
    }
    return longest;
}

// Where the first stop string of text[length] begins that is complete only behind text[before]; *found:
// whether there is one, else the length.
static size_t first_stop(const struct stops *stops, const char *text, size_t length, size_t before,
                         bool *found) {
    for (size_t end = before + 1; end <= length; end++) {
        const size_t n = complete(stops, text, end);
        *found = n > 0;
        if (*found) return end - n;
    }
    *found = false;
    return length;
}

bool kv_cut_at_stop(char *text, const char *const *stops, size_t n) {
    bool found;
    text[first_stop(&(struct stops){stops, n}, text, strlen(text), 0, &found)] = '\0';
    return found;
}

// Bytes at the end of held[length] that begin a stop string, as many as possible.
static size_t undecided(const kv_stop_filter *filter, const char *held, size_t length) {
    for (size_t n = length < filter->longest ? length : filter->longest; n > 0; n--)
        for (size_t i = 0; i < filter->stops.n; i++) {
            const char *stop = filter->stops.texts[i];
            if (strlen(stop) >= n && memcmp(stop, held + length - n, n) == 0) return n;
        }
    return 0;
}

// What was given out before goes, what is held moves to the front and text[length] behind it.
// There is room for the byte that give_out puts in.
static kv_status append(kv_stop_filter *filter, const char *text, size_t length, kv_error *err) {
    kv_bytes *all = &filter->text;
    all->length -= filter->given;
    if (all->length > 0) memmove(all->data, all->data + filter->given, all->length);
    filter->given = 0;
    kv_status status = kv_bytes_reserve(all, length + 2, err);
    return status ? status : kv_bytes_add(all, text, length, err);
}

// text[from, …) is not given out: it moves on by one to make room for the end of what is.
static void give_out(kv_stop_filter *filter, size_t from, const char **out, size_t *n) {
    char *text = filter->text.data;
    memmove(text + from + 1, text + from, filter->text.length - from);
    text[from] = '\0';
    filter->text.length++;
    filter->given = from + 1;
    *out = text, *n = from;
}

// last: nothing comes behind text[length], so that nothing is held back.
static kv_status take(kv_stop_filter *filter, const char *text, size_t length, bool last, const char **out,
                      size_t *n, kv_error *err) {
    if (filter->stopped) length = 0;
    const size_t before = filter->text.length - filter->given;
    kv_status status = append(filter, text, length, err);
    if (status) return status;
    bool found;
    size_t upto = first_stop(&filter->stops, filter->text.data, filter->text.length, before, &found);
    if (found)
        filter->stopped = true, filter->text.length = upto;
    else if (!last)
        upto -= undecided(filter, filter->text.data, filter->text.length);
    give_out(filter, upto, out, n);
    return KV_OK;
}

kv_status kv_stop_filter_push(kv_stop_filter *filter, const char *text, size_t length, const char **out,
                              size_t *n, bool *stopped, kv_error *err) {
    kv_status status = take(filter, text, length, false, out, n, err);
    *stopped = filter->stopped;
    return status;
}

kv_status kv_stop_filter_finish(kv_stop_filter *filter, const char *text, size_t length, const char **out,
                                size_t *n, bool *stopped, kv_error *err) {
    kv_status status = take(filter, text, length, true, out, n, err);
    *stopped = filter->stopped;
    filter->stopped = false;
    return status;
}
