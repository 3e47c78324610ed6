// One walk over the tokens finds what jansson would refuse. Nothing is copied until there is such a thing, and lines
// stay where they are.
#include "data/file/json_text.h"

#include "data/system/buffers.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Tokens --------------------------------------------------------------------------------------------

struct walk {
    const char *text;
    size_t size, at;
    int64_t depth;
    bool nuls, first;
};

// What jansson would refuse, and what it is to read instead.
enum odd_kind { ODD_NONE, ODD_WHOLE, ODD_VALUE, ODD_KEY };
struct odd {
    enum odd_kind kind;
    size_t from, to;
    char what[64];
};

// Of the escape \uXXXX at `at`; -1: there is none.
static int escaped(const struct walk *w, size_t at) {
    int unit = 0;
    if (at + 6 > w->size || w->text[at] != '\\' || w->text[at + 1] != 'u') return -1;
    for (size_t i = at + 2; i < at + 6; i++) {
        const unsigned char c = (unsigned char)w->text[i];
        if (!isxdigit(c)) return -1;
        unit = unit * 16 + (isdigit(c) ? c - '0' : (c | 32) - 'a' + 10);
    }
    return unit;
}

// The NUL or half a pair that the escape at `at` stands for; -1: something else. *length: of it, with the second
// half of a pair.
static int odd_escape(const struct walk *w, size_t at, size_t *length) {
    const int unit = escaped(w, at);
    *length = unit < 0 ? 2 : 6;
    if (unit == 0) return 0;
    if (unit < 0xD800 || unit > 0xDFFF) return -1;
    const int second = unit < 0xDC00 ? escaped(w, at + 6) : -1;
    if (second < 0xDC00 || second > 0xDFFF) return unit;
    *length = 12;
    return -1;
}

static bool add(kv_bytes *out, const char *text, size_t size) {
    return kv_bytes_add(out, text, size, NULL) == KV_OK;
}

// The string of `odd` with U+FDD0 for what makes it odd.
static bool add_string(const struct walk *w, const struct odd *odd, kv_bytes *out) {
    size_t length;
    bool ok = true;
    for (size_t at = odd->from; ok && at < odd->to; at += length) {
        length = 1;
        const bool replaced = w->text[at] == '\\' && odd_escape(w, at, &length) >= 0;
        if (length > odd->to - at) length = odd->to - at;
        ok = replaced ? add(out, KV_JSON_ODD, strlen(KV_JSON_ODD)) : add(out, w->text + at, length);
    }
    return ok;
}

// Whether nothing else is wrong with it.
static bool is_string(const struct walk *w, const struct odd *odd) {
    kv_bytes text = {0};
    json_t *value = add_string(w, odd, &text)
                        ? json_loadb(text.data, text.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)
                        : NULL;
    const bool fine = json_is_string(value);
    json_decref(value);
    kv_bytes_free(&text);
    return fine;
}

static bool is_key(const struct walk *w) {
    size_t i = w->at;
    while (i < w->size && w->text[i] && strchr(" \t\r\n", w->text[i])) i++;
    return i < w->size && w->text[i] == ':';
}

// From behind the opening quote to behind the closing one.
static void take_string(struct walk *w, struct odd *odd) {
    const size_t from = w->at - 1;
    size_t length;
    int found = -1; // half a pair rather than a NUL
    for (;;) {
        const char *c = w->text + w->at, *end = w->text + w->size;
        while (c < end && *c != '"' && *c != '\\') c++;
        w->at = (size_t)(c - w->text);
        if (c >= end || *c == '"') break;
        const int unit = odd_escape(w, w->at, &length);
        if (found <= 0 && unit >= 0) found = unit;
        w->at += length;
    }
    if (w->at >= w->size) return; // without an end
    w->at++;
    if (found < 0) return;
    const bool key = is_key(w);
    if (found == 0 && w->nuls && !key) return;
    *odd = (struct odd){key ? ODD_KEY : ODD_VALUE, from, w->at, ""};
    if (!is_string(w, odd))
        odd->kind = ODD_NONE;
    else if (found)
        snprintf(odd->what, sizeof odd->what, "text with U+%04X, half a character", (unsigned)found);
    else
        snprintf(odd->what, sizeof odd->what, "text with a NUL character");
}

static size_t count_digits(struct walk *w) {
    const size_t from = w->at;
    while (w->at < w->size && isdigit((unsigned char)w->text[w->at])) w->at++;
    return w->at - from;
}

static bool accept(struct walk *w, const char *characters) {
    const bool found = w->at < w->size && w->text[w->at] && strchr(characters, w->text[w->at]);
    w->at += found;
    return found;
}

static bool is_infinite(const char *number, size_t n) {
    char *copy = strndup(number, n);
    const bool infinite = copy && isinf(strtod(copy, NULL));
    free(copy);
    return infinite;
}

static bool fits_64_bits(const char *digits, size_t n, bool negative) {
    const char *largest = negative ? "9223372036854775808" : "9223372036854775807";
    return n < strlen(largest) || (n == strlen(largest) && memcmp(digits, largest, n) <= 0);
}

// From its first character, a digit or a minus.
static void take_number(struct walk *w, struct odd *odd) {
    const size_t from = w->at;
    const bool negative = accept(w, "-");
    const char *digits = w->text + w->at;
    const size_t n = count_digits(w);
    const bool fraction = accept(w, "."), well_fraction = !fraction || count_digits(w) > 0;
    const bool exponent = accept(w, "eE");
    if (exponent) accept(w, "+-");
    const bool well_exponent = !exponent || count_digits(w) > 0;
    if (n == 0 || (n > 1 && *digits == '0') || !well_fraction || !well_exponent) return; // no JSON
    const size_t length = w->at - from;
    if ((exponent || n > 308) && is_infinite(w->text + from, length)) {
        *odd = (struct odd){ODD_VALUE, from, w->at, ""};
        const bool cut = length > 20;
        snprintf(odd->what, sizeof odd->what, "%.*s%s, too large a number", cut ? 20 : (int)length,
                 w->text + from, cut ? "..." : "");
    } else if (!fraction && !exponent && !fits_64_bits(digits, n, negative)) {
        *odd = (struct odd){ODD_WHOLE, from, w->at, ""};
    }
}

// NaN, Infinity and -Infinity, whole.
static bool take_word(struct walk *w, struct odd *odd) {
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t n = strlen(words[i]), end = w->at + n;
        if (end > w->size || memcmp(w->text + w->at, words[i], n) != 0) continue;
        if (end < w->size && isalnum((unsigned char)w->text[end])) continue;
        *odd = (struct odd){ODD_VALUE, w->at, end, ""};
        snprintf(odd->what, sizeof odd->what, "%s", words[i]);
        w->at = end;
        return true;
    }
    return false;
}

// Whether the first value, which the token just read has ended, was all that was asked for.
static bool is_over(const struct walk *w) {
    return w->first && w->depth <= 0;
}

// Moves on to the next odd token, and behind it; *over: there is none.
static void find_odd(struct walk *w, struct odd *odd, bool *over) {
    odd->kind = ODD_NONE;
    for (*over = false; odd->kind == ODD_NONE && !*over;) {
        if (w->at >= w->size) {
            *over = true;
            return;
        }
        const char c = w->text[w->at];
        switch (c) {
        case ' ':
        case '\t':
        case '\r':
        case '\n':
        case ',':
        case ':': w->at++; continue;
        case '{':
        case '[':
            w->at++;
            w->depth++;
            continue;
        case '}':
        case ']':
            w->at++;
            w->depth--;
            break;
        case '"':
            w->at++;
            take_string(w, odd);
            break;
        default:
            if (take_word(w, odd)) break;
            if (c == '-' || isdigit((unsigned char)c)) {
                take_number(w, odd);
                break;
            }
            // true, false, null, or what is no JSON.
            do w->at++;
            while (w->at < w->size && isalnum((unsigned char)w->text[w->at]));
        }
        *over = is_over(w);
    }
}

// ---- What is to be read instead ------------------------------------------------------------------------

static bool add_instead(const struct walk *w, const struct odd *odd, kv_bytes *out) {
    char object[128];
    switch (odd->kind) {
    case ODD_WHOLE: return add(out, w->text + odd->from, odd->to - odd->from) && add(out, ".0", 2);
    case ODD_KEY: return add_string(w, odd, out);
    case ODD_VALUE:
        snprintf(object, sizeof object, "{\"%s\":\"%s\"}", KV_JSON_ODD, odd->what);
        return add(out, object, strlen(object));
    case ODD_NONE: break;
    }
    return true;
}

bool kv_json_text_make(const char *text, size_t size, bool nuls, bool first, kv_json_text *made) {
    struct walk walk = {.text = text, .size = size, .nuls = nuls, .first = first};
    struct odd odd;
    kv_bytes out = {0};
    size_t copied = 0;
    bool over = false, ok = true;
    while (ok && !over) {
        find_odd(&walk, &odd, &over);
        if (odd.kind == ODD_NONE) continue;
        ok = add(&out, text + copied, odd.from - copied) && add_instead(&walk, &odd, &out);
        copied = odd.to;
    }
    const size_t end = walk.at < size ? walk.at : size;
    if (ok && out.data) ok = add(&out, text + copied, end - copied);
    if (!ok) kv_bytes_free(&out);
    *made = (kv_json_text){out.data ? out.data : text, out.data ? out.length : end, out.data, end};
    return ok;
}

size_t kv_json_text_origin(const char *text, size_t size, bool nuls, bool first, size_t position) {
    struct walk walk = {.text = text, .size = size, .nuls = nuls, .first = first};
    struct odd odd;
    kv_bytes instead = {0};
    size_t original = 0, made = 0; // both stand behind the last change
    for (bool over = false; !over;) {
        find_odd(&walk, &odd, &over);
        if (odd.kind == ODD_NONE || made + (odd.from - original) >= position) break;
        instead.length = 0;
        if (!add_instead(&walk, &odd, &instead)) break;
        made += odd.from - original + instead.length;
        original = odd.to;
        if (made > position) made = position; // within what stands for it
    }
    kv_bytes_free(&instead);
    original += position - made;
    return original < size ? original : size;
}
