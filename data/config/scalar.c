// The C library and libcyaml know fewer forms of a number or a truth value than YAML does, and others besides
// (to libcyaml 010 is eight, and whatever is not among its words for false is true).
#include "data/config/scalar.h"

#include "data/system/number.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 64 };

static bool among(const char *text, const char *const *words, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(text, words[i]) == 0) return true;
    return false;
}

#define LENGTH(array) (sizeof(array) / sizeof *(array))

//                                                                [yaml.org/type/bool.html; YAML 1.2.2 §10.3.2]
bool kv_yaml_truth(const char *text, bool *value) {
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES",
                                      "on",   "On",   "ON",   "y",   "Y"};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO",
                                     "off",   "Off",   "OFF",   "n",  "N"};
    *value = among(text, yes, LENGTH(yes));
    return *value || among(text, no, LENGTH(no));
}

bool kv_yaml_null(const char *text) {
    static const char *const nothing[] = {"", "~", "null", "Null", "NULL"};
    return among(text, nothing, LENGTH(nothing));
}

// Without the underscores that part digits; false where one stands elsewhere.
static bool without_underscores(const char *text, char plain[LONGEST]) {
    size_t n = 0;
    for (const char *at = text; *at; at++) {
        if (n + 1 == LONGEST) return false;
        const bool parts =
            *at == '_' && at > text && isxdigit((unsigned char)at[-1]) && isxdigit((unsigned char)at[1]);
        if (*at == '_' && !parts) return false;
        if (*at != '_') plain[n++] = *at;
    }
    plain[n] = '\0';
    return true;
}

// Digits of the base that 0x and 0o name, up to the end.
static bool prefixed(const char *text, uint64_t *value) {
    if (text[0] != '0' || (text[1] != 'x' && text[1] != 'o')) return false;
    const bool hex = text[1] == 'x';
    if (!text[2] || text[2 + strspn(text + 2, hex ? "0123456789abcdefABCDEF" : "01234567")]) return false;
    errno = 0;
    *value = strtoull(text + 2, NULL, hex ? 16 : 8);
    return !errno;
}

static bool in_other_form(const char *text, double *value) {
    static const double exact = 9007199254740992.0; // 2^53: beyond, neighbours are the same number
    return kv_read_real(text, value) && fabs(*value) < exact && *value == floor(*value);
}

static bool ambiguous(const char *text) {
    if (*text == '-' || *text == '+') text++;
    return *text == '0' && isdigit((unsigned char)text[1]);
}

bool kv_yaml_whole(const char *text, int64_t *value) {
    char plain[LONGEST];
    double real;
    uint64_t bits;
    if (!without_underscores(text, plain) || ambiguous(plain)) return false;
    if (kv_read_whole(plain, value)) return true;
    if (prefixed(plain, &bits) && bits <= INT64_MAX)
        *value = (int64_t)bits;
    else if (in_other_form(plain, &real))
        *value = (int64_t)real;
    else
        return false;
    return true;
}

bool kv_yaml_unsigned(const char *text, uint64_t *value) {
    char plain[LONGEST];
    double real;
    if (!without_underscores(text, plain) || ambiguous(plain)) return false;
    if (kv_read_unsigned(plain, value) || prefixed(plain, value)) return true;
    if (!in_other_form(plain, &real) || real < 0) return false;
    *value = (uint64_t)real;
    return true;
}

bool kv_yaml_real(const char *text, double *value) {
    char plain[LONGEST];
    int64_t whole;
    if (kv_read_real(text, value)) return true;
    if (!without_underscores(text, plain)) return false;
    if (kv_read_real(plain, value)) return true;
    if (!kv_yaml_whole(plain, &whole)) return false;
    *value = (double)whole;
    return true;
}
