// Both sides of a comparison are brought into one form and then compared byte by byte.
#include "eval/benchmark/match.h"

#include "data/benchmark/triviaqa.h"
#include "data/text/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kv_matcher {
    kv_matching how;
    pcre2_code *pattern; // regex
    pcre2_match_context *limits;
};

// ---- Numbers -------------------------------------------------------------------------------------------

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// Whether a text begins with a letter or a digit, or ends with one.
static bool begins_word(const char *text) {
    int32_t point;
    return kv_utf8_next(text, strnlen(text, 4), &point) > 0 && kv_is_word(point);
}

static bool ends_word(const char *text, size_t length) {
    int32_t point;
    return kv_utf8_last(text, length, &point) > 0 && kv_is_word(point);
}

static size_t digits(const char *text) {
    size_t n = 0;
    while (is_digit(text[n])) n++;
    return n;
}

// The number that text begins with, without its sign: "1,234.50e3" in parts.
struct number {
    const char *whole, *fraction; // digits; the whole ones with commas
    size_t n_whole, n_fraction;
    long exponent;
    const char *end;
};

static bool read_number(const char *text, struct number *number) {
    *number = (struct number){.whole = text, .n_whole = digits(text)};
    const char *at = text + number->n_whole;
    if (number->n_whole >= 1 && number->n_whole <= 3)
        while (*at == ',' && digits(at + 1) == 3) at += 4;
    number->n_whole = (size_t)(at - text);
    if (*at == '.' && is_digit(at[1])) {
        number->fraction = at + 1, number->n_fraction = digits(at + 1);
        at += 1 + number->n_fraction;
    }
    if (at == text) return false;
    if (*at == 'e' || *at == 'E') {
        const char *power = at + 1 + (at[1] == '-' || at[1] == '+');
        const size_t n = digits(power);
        if (n >= 1 && n <= 6 && !begins_word(power + n))
            number->exponent = strtol(at + 1, NULL, 10), at = power + n;
    }
    number->end = at;
    return true;
}

// Whether what ends before `at` is a sign, a currency's between them allowed.
static bool is_negative(const char *text, const char *at) {
    static const char *const currencies[] = {"$", "€", "£", "¥"}, *const signs[] = {"-", "−"};
    for (size_t i = 0; i < sizeof currencies / sizeof *currencies; i++) {
        const size_t n = strlen(currencies[i]);
        if ((size_t)(at - text) >= n && !memcmp(at - n, currencies[i], n)) {
            at -= n;
            break;
        }
    }
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        const size_t n = strlen(signs[i]);
        if ((size_t)(at - text) < n || memcmp(at - n, signs[i], n) != 0) continue;
        return !ends_word(text, (size_t)(at - text) - n);
    }
    return false;
}

static kv_status put_digits(const char *from, size_t n, kv_bytes *out, kv_error *err) {
    kv_status status = KV_OK;
    for (size_t i = 0; i < n && status == KV_OK; i++)
        if (is_digit(from[i])) status = kv_bytes_add(out, from + i, 1, err);
    return status;
}

static kv_status put_number(const struct number *number, bool negative, kv_bytes *out, kv_error *err) {
    long exponent = number->exponent - (long)number->n_fraction;
    char power[32];
    out->length = 0;
    kv_status status = kv_bytes_add(out, "-", 1, err);
    if (status == KV_OK) status = put_digits(number->whole, number->n_whole, out, err);
    if (status == KV_OK) status = put_digits(number->fraction, number->n_fraction, out, err);
    if (status != KV_OK) return status;
    for (; out->length > 1 && out->data[out->length - 1] == '0'; out->length--) exponent++;
    size_t front = 1;
    while (front < out->length && out->data[front] == '0') front++;
    const size_t n = out->length - front;
    if (n == 0) exponent = 0, negative = false;
    memmove(out->data + negative, out->data + front, n);
    out->length = n + negative;
    const int length = snprintf(power, sizeof power, "%se%ld", n ? "" : "0", exponent);
    return kv_bytes_add(out, power, (size_t)length + 1, err);
}

kv_status kv_last_number(const char *text, kv_bytes *out, kv_error *err) {
    struct number number, last = {0};
    bool negative = false;
    for (const char *at = text; *at;) {
        const bool behind = at > text && is_digit(at[-1]); // ".5" behind a digit is no beginning
        if ((is_digit(*at) || (*at == '.' && !behind)) && read_number(at, &number)) {
            last = number, negative = is_negative(text, at);
            at = number.end;
        } else {
            at++;
        }
    }
    out->length = 0;
    kv_status status = last.end ? put_number(&last, negative, out, err) : kv_bytes_add(out, "", 1, err);
    if (status == KV_OK) out->length--;
    return status;
}

// ---- Patterns ------------------------------------------------------------------------------------------

static kv_status compile(kv_matcher *m, kv_error *err) {
    enum { MOST_TRIES = 1000000 };
    const uint32_t options =
        PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | (m->how.ignore_case ? PCRE2_CASELESS : 0u);
    int code;
    PCRE2_SIZE at;
    m->pattern = pcre2_compile((PCRE2_SPTR)m->how.pattern, PCRE2_ZERO_TERMINATED, options, &code, &at, NULL);
    m->limits = pcre2_match_context_create(NULL);
    if (m->pattern && m->limits) {
        pcre2_set_match_limit(m->limits, MOST_TRIES);
        return KV_OK;
    }
    if (m->pattern || code == PCRE2_ERROR_NOMEMORY)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a pattern");
    PCRE2_UCHAR why[160];
    pcre2_get_error_message(code, why, sizeof why);
    return kv_fail(err, KV_ERR_FORMAT, "character %lld: %s", (long long)kv_utf8_count(m->how.pattern, at) + 1,
                   (const char *)why);
}

// *found NULL: no match. Part of `answer`.
static kv_status search(const kv_matcher *m, const char *answer, const char **found, size_t *length,
                        kv_error *err) {
    *found = NULL;
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(m->pattern, NULL);
    if (!data) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a pattern");
    const int n = pcre2_match(m->pattern, (PCRE2_SPTR)answer, strlen(answer), 0, 0, data, m->limits);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(data);
    int group = 1;
    while (group < n && at[2 * group] == PCRE2_UNSET) group++;
    if (group >= n) group = 0;
    if (n > 0 && at[2 * group] <= at[2 * group + 1])
        *found = answer + at[2 * group], *length = at[2 * group + 1] - at[2 * group];
    pcre2_match_data_free(data);
    return KV_OK;
}

// ---- Judging -------------------------------------------------------------------------------------------

kv_status kv_matcher_create(const kv_matching *how, kv_matcher **matcher, kv_error *err) {
    kv_matcher *m = calloc(1, sizeof *m);
    *matcher = NULL;
    if (!m) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a task");
    m->how = *how;
    kv_status status = how->kind == KV_MATCH_REGEX ? compile(m, err) : KV_OK;
    if (status == KV_OK)
        *matcher = m;
    else
        kv_matcher_free(m);
    return status;
}

void kv_matcher_free(kv_matcher *m) {
    if (!m) return;
    pcre2_code_free(m->pattern);
    pcre2_match_context_free(m->limits);
    free(m);
}

// In the form that is compared, NUL-terminated; empty: nothing can match.
static kv_status prepare(const kv_matcher *m, const char *text, size_t length, kv_bytes *out, kv_error *err) {
    if (m->how.kind == KV_MATCH_NUMERIC) return kv_last_number(text, out, err);
    length = kv_strip(&text, length);
    kv_status status =
        kv_simplify_answer(text, length, m->how.ignore_case, m->how.ignore_punctuation, out, err);
    const char *inner = out->data;
    if (status != KV_OK) return status;
    out->length = kv_strip(&inner, out->length); // where punctuation went from an end
    memmove(out->data, inner, out->length);
    out->data[out->length] = '\0';
    return KV_OK;
}

kv_status kv_matcher_can(const kv_matcher *m, const char *target, const char *const *stops, size_t n_stops,
                         bool *can, kv_error *err) {
    kv_bytes text = {0};
    kv_status status = prepare(m, target, strlen(target), &text, err);
    *can = status == KV_OK && text.length > 0;
    for (size_t i = 0; i < n_stops && *can && m->how.kind != KV_MATCH_NUMERIC; i++)
        *can = !strstr(text.data, stops[i]);
    kv_bytes_free(&text);
    return status;
}

static bool agree(const kv_matcher *m, const kv_bytes *said, const kv_bytes *wanted) {
    if (!said->length || !wanted->length) return false;
    return m->how.kind == KV_MATCH_CONTAINS ? strstr(said->data, wanted->data) != NULL
                                            : !strcmp(said->data, wanted->data);
}

kv_status kv_matcher_judge(const kv_matcher *m, const char *answer, char *const *targets, int64_t n,
                           bool *right, kv_error *err) {
    kv_bytes said = {0}, wanted = {0};
    const char *part = answer;
    size_t length = strlen(answer);
    kv_status status = m->pattern ? search(m, answer, &part, &length, err) : KV_OK;
    *right = status == KV_OK && part && n == 0;
    if (status == KV_OK && part) status = prepare(m, part, length, &said, err);
    for (int64_t i = 0; i < n && part && status == KV_OK && !*right; i++) {
        status = prepare(m, targets[i], strlen(targets[i]), &wanted, err);
        *right = status == KV_OK && agree(m, &said, &wanted);
    }
    kv_bytes_free(&said);
    kv_bytes_free(&wanted);
    return status;
}
