// Each operation stands here three times, for the three who read it: words, Python, and C that computes what
// Python would. What Python could not do within 64 bits or 256 elements is refused, so that C and Python
// never differ.
#include "data/synthetic/snippets_ops.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef kv_snippet_value value;

const char *kv_snippet_type_name(kv_snippet_type type) {
    static const char *const names[KV_SNIPPET_TYPES] = {"int", "str", "list"};
    return names[type];
}

const char *kv_snippet_variable(kv_snippet_type type) {
    static const char *const names[KV_SNIPPET_TYPES] = {"n", "s", "xs"};
    return names[type];
}

// ---- int -----------------------------------------------------------------------------------------------

static bool add(value *v, int64_t k) {
    return !__builtin_add_overflow(v->n, k, &v->n);
}

static bool subtract(value *v, int64_t k) {
    return !__builtin_sub_overflow(v->n, k, &v->n);
}

static bool multiply(value *v, int64_t k) {
    return !__builtin_mul_overflow(v->n, k, &v->n);
}

// C rounds towards zero, Python down; k > 0.
static bool divide(value *v, int64_t k) {
    v->n = v->n / k - (v->n % k < 0);
    return true;
}

static bool modulo(value *v, int64_t k) {
    int64_t rest = v->n % k;
    v->n = rest < 0 ? rest + k : rest;
    return true;
}

static bool square(value *v, int64_t k) {
    (void)k;
    return multiply(v, v->n);
}

static bool negate(value *v, int64_t k) {
    (void)k;
    return !__builtin_sub_overflow((int64_t)0, v->n, &v->n);
}

static bool absolute(value *v, int64_t k) {
    return v->n >= 0 || negate(v, k);
}

static bool at_least(value *v, int64_t k) {
    if (v->n < k) v->n = k;
    return true;
}

static bool at_most(value *v, int64_t k) {
    if (v->n > k) v->n = k;
    return true;
}

static bool to_text(value *v, int64_t k) {
    (void)k;
    v->length = snprintf(v->s, sizeof v->s, "%" PRIi64, v->n);
    return true;
}

static bool digits(value *v, int64_t k) {
    char text[32];
    if (!absolute(v, k)) return false;
    v->length = snprintf(text, sizeof text, "%" PRIi64, v->n);
    for (int64_t i = 0; i < v->length; i++) v->xs[i] = text[i] - '0';
    return true;
}

// ---- str -----------------------------------------------------------------------------------------------

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}

enum { CASE_BIT = 'a' ^ 'A' };

static bool upper(value *v, int64_t k) {
    (void)k;
    for (int64_t i = 0; i < v->length; i++)
        if (is_lower(v->s[i])) v->s[i] ^= CASE_BIT;
    return true;
}

static bool lower(value *v, int64_t k) {
    (void)k;
    for (int64_t i = 0; i < v->length; i++)
        if (is_upper(v->s[i])) v->s[i] ^= CASE_BIT;
    return true;
}

static bool swap_case(value *v, int64_t k) {
    (void)k;
    for (int64_t i = 0; i < v->length; i++)
        if (is_upper(v->s[i]) || is_lower(v->s[i])) v->s[i] ^= CASE_BIT;
    return true;
}

static bool reverse_str(value *v, int64_t k) {
    (void)k;
    for (int64_t i = 0, j = v->length - 1; i < j; i++, j--) {
        char c = v->s[i];
        v->s[i] = v->s[j];
        v->s[j] = c;
    }
    return true;
}

static bool repeat(value *v, int64_t k) {
    if (v->length * k > KV_SNIPPET_LENGTH) return false;
    for (int64_t i = v->length; i < v->length * k; i++) v->s[i] = v->s[i - v->length];
    v->length *= k;
    return true;
}

static bool drop_first_char(value *v, int64_t k) {
    (void)k;
    if (v->length == 0) return true;
    v->length--;
    memmove(v->s, v->s + 1, (size_t)v->length);
    return true;
}

static bool drop_last(value *v, int64_t k) {
    (void)k;
    if (v->length > 0) v->length--;
    return true;
}

static bool keep_first(value *v, int64_t k) {
    if (v->length > k) v->length = k;
    return true;
}

static bool append_char(value *v, int64_t k) {
    if (v->length == KV_SNIPPET_LENGTH) return false;
    v->s[v->length++] = (char)k;
    return true;
}

static bool prepend_char(value *v, int64_t k) {
    if (v->length == KV_SNIPPET_LENGTH) return false;
    memmove(v->s + 1, v->s, (size_t)v->length++);
    v->s[0] = (char)k;
    return true;
}

static bool remove_char(value *v, int64_t k) {
    int64_t kept = 0;
    for (int64_t i = 0; i < v->length; i++)
        if (v->s[i] != (char)k) v->s[kept++] = v->s[i];
    v->length = kept;
    return true;
}

static bool length(value *v, int64_t k) {
    (void)k;
    v->n = v->length;
    return true;
}

static bool count_char(value *v, int64_t k) {
    v->n = 0;
    for (int64_t i = 0; i < v->length; i++) v->n += v->s[i] == (char)k;
    return true;
}

static bool codes(value *v, int64_t k) {
    (void)k;
    for (int64_t i = 0; i < v->length; i++) v->xs[i] = (unsigned char)v->s[i];
    return true;
}

// ---- list ----------------------------------------------------------------------------------------------

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool sort(value *v, int64_t k) {
    (void)k;
    qsort(v->xs, (size_t)v->length, sizeof *v->xs, by_size);
    return true;
}

static bool unique(value *v, int64_t k) {
    sort(v, k);
    int64_t kept = 0;
    for (int64_t i = 0; i < v->length; i++)
        if (kept == 0 || v->xs[i] != v->xs[kept - 1]) v->xs[kept++] = v->xs[i];
    v->length = kept;
    return true;
}

static bool reverse_list(value *v, int64_t k) {
    (void)k;
    for (int64_t i = 0, j = v->length - 1; i < j; i++, j--) {
        int64_t x = v->xs[i];
        v->xs[i] = v->xs[j];
        v->xs[j] = x;
    }
    return true;
}

static bool add_each(value *v, int64_t k) {
    for (int64_t i = 0; i < v->length; i++)
        if (__builtin_add_overflow(v->xs[i], k, &v->xs[i])) return false;
    return true;
}

static bool multiply_each(value *v, int64_t k) {
    for (int64_t i = 0; i < v->length; i++)
        if (__builtin_mul_overflow(v->xs[i], k, &v->xs[i])) return false;
    return true;
}

static bool square_each(value *v, int64_t k) {
    (void)k;
    for (int64_t i = 0; i < v->length; i++)
        if (__builtin_mul_overflow(v->xs[i], v->xs[i], &v->xs[i])) return false;
    return true;
}

static bool keep_even(value *v, int64_t k) {
    (void)k;
    int64_t kept = 0;
    for (int64_t i = 0; i < v->length; i++)
        if (v->xs[i] % 2 == 0) v->xs[kept++] = v->xs[i];
    v->length = kept;
    return true;
}

static bool keep_above(value *v, int64_t k) {
    int64_t kept = 0;
    for (int64_t i = 0; i < v->length; i++)
        if (v->xs[i] > k) v->xs[kept++] = v->xs[i];
    v->length = kept;
    return true;
}

static bool drop_first_element(value *v, int64_t k) {
    (void)k;
    if (v->length == 0) return true;
    v->length--;
    memmove(v->xs, v->xs + 1, (size_t)v->length * sizeof *v->xs);
    return true;
}

static bool append_element(value *v, int64_t k) {
    if (v->length == KV_SNIPPET_LENGTH) return false;
    v->xs[v->length++] = k;
    return true;
}

static bool sum(value *v, int64_t k) {
    (void)k;
    v->n = 0;
    for (int64_t i = 0; i < v->length; i++)
        if (__builtin_add_overflow(v->n, v->xs[i], &v->n)) return false;
    return true;
}

static bool largest(value *v, int64_t k) {
    (void)k;
    v->n = v->length > 0 ? v->xs[0] : 0;
    for (int64_t i = 0; i < v->length; i++) at_least(v, v->xs[i]);
    return true;
}

static bool count_element(value *v, int64_t k) {
    v->n = 0;
    for (int64_t i = 0; i < v->length; i++) v->n += v->xs[i] == k;
    return true;
}

static bool join(value *v, int64_t k) {
    (void)k;
    size_t used = 0;
    for (int64_t i = 0; i < v->length; i++) {
        used += (size_t)snprintf(v->s + used, sizeof v->s - used, "%s%" PRIi64, i ? "," : "", v->xs[i]);
        if (used >= sizeof v->s) return false;
    }
    v->length = (int64_t)used;
    return true;
}

// ---- All of them ---------------------------------------------------------------------------------------

// clang-format off
#define INT KV_SNIPPET_INT
#define STR KV_SNIPPET_STR
#define LIST KV_SNIPPET_LIST
const kv_snippet_op kv_snippet_ops[] = {
    {"add", INT, INT, 2, 9, {"add @", "increase it by @"}, "n + @", add},
    {"subtract", INT, INT, 2, 9, {"subtract @", "decrease it by @"}, "n - @", subtract},
    {"multiply", INT, INT, 2, 9, {"multiply it by @", "take it @ times"}, "n * @", multiply},
    {"divide", INT, INT, 2, 9, {"divide it by @ and round down", "floor divide it by @"}, "n // @", divide},
    {"modulo", INT, INT, 2, 9, {"reduce it modulo @", "take its remainder by @"}, "n % @", modulo},
    {"square", INT, INT, 0, 0, {"square it", "multiply it by itself"}, "n ** 2", square},
    {"negate", INT, INT, 0, 0, {"negate it", "flip its sign"}, "-n", negate},
    {"absolute", INT, INT, 0, 0, {"take its absolute value", "drop its sign"}, "abs(n)", absolute},
    {"at_least", INT, INT, 2, 9, {"raise it to at least @", "replace it by @ if it is smaller"}, "max(n, @)", at_least},
    {"at_most", INT, INT, 2, 9, {"cut it to at most @", "replace it by @ if it is larger"}, "min(n, @)", at_most},
    {"to_text", INT, STR, 0, 0, {"write it as text", "turn it into a string"}, "str(n)", to_text},
    {"digits", INT, LIST, 0, 0, {"list its digits", "split it into digits"}, "[int(d) for d in str(abs(n))]", digits},

    {"upper", STR, STR, 0, 0, {"make it upper case", "put it in capital letters"}, "s.upper()", upper},
    {"lower", STR, STR, 0, 0, {"make it lower case", "put it in small letters"}, "s.lower()", lower},
    {"swap_case", STR, STR, 0, 0, {"swap its upper and lower case", "change the case of every letter"}, "s.swapcase()", swap_case},
    {"reverse_str", STR, STR, 0, 0, {"reverse it", "turn it around"}, "s[::-1]", reverse_str},
    {"repeat", STR, STR, 2, 4, {"repeat it @ times", "join @ copies of it"}, "s * @", repeat},
    {"drop_first_char", STR, STR, 0, 0, {"drop the first character", "remove its first letter"}, "s[1:]", drop_first_char},
    {"drop_last_char", STR, STR, 0, 0, {"drop the last character", "remove its last letter"}, "s[:-1]", drop_last},
    {"first_chars", STR, STR, 2, 4, {"keep the first @ characters", "cut it after @ letters"}, "s[:@]", keep_first},
    {"append_char", STR, STR, 'a', 'e', {"append '@'", "add '@' at the end"}, "s + '@'", append_char},
    {"prepend_char", STR, STR, 'a', 'e', {"put '@' in front", "start it with '@'"}, "'@' + s", prepend_char},
    {"remove_char", STR, STR, 'a', 'e', {"remove every '@'", "leave out all '@'"}, "s.replace('@', '')", remove_char},
    {"length_str", STR, INT, 0, 0, {"count its characters", "take its length"}, "len(s)", length},
    {"count_char", STR, INT, 'a', 'e', {"count every '@'", "find how often '@' occurs"}, "s.count('@')", count_char},
    {"codes", STR, LIST, 0, 0, {"list its character codes", "turn its letters into codes"}, "[ord(c) for c in s]", codes},

    {"sort", LIST, LIST, 0, 0, {"sort it", "put it in order"}, "sorted(xs)", sort},
    {"unique", LIST, LIST, 0, 0, {"sort it without duplicates", "order its distinct elements"}, "sorted(set(xs))", unique},
    {"reverse_list", LIST, LIST, 0, 0, {"reverse it", "turn it around"}, "xs[::-1]", reverse_list},
    {"add_each", LIST, LIST, 2, 9, {"add @ to every element", "increase its elements by @"}, "[x + @ for x in xs]", add_each},
    {"multiply_each", LIST, LIST, 2, 9, {"multiply every element by @", "scale its elements by @"}, "[x * @ for x in xs]", multiply_each},
    {"square_each", LIST, LIST, 0, 0, {"square every element", "multiply its elements by themselves"}, "[x ** 2 for x in xs]", square_each},
    {"keep_even", LIST, LIST, 0, 0, {"keep the even elements", "leave out odd elements"}, "[x for x in xs if x % 2 == 0]", keep_even},
    {"keep_above", LIST, LIST, 2, 9, {"keep the elements above @", "leave out elements up to @"}, "[x for x in xs if x > @]", keep_above},
    {"drop_first", LIST, LIST, 0, 0, {"drop the first element", "remove its first item"}, "xs[1:]", drop_first_element},
    {"drop_last", LIST, LIST, 0, 0, {"drop the last element", "remove its last item"}, "xs[:-1]", drop_last},
    {"first_elements", LIST, LIST, 2, 4, {"keep the first @ elements", "cut it after @ items"}, "xs[:@]", keep_first},
    {"append", LIST, LIST, 2, 9, {"append @", "add @ at the end"}, "[*xs, @]", append_element},
    {"sum", LIST, INT, 0, 0, {"add up its elements", "take its sum"}, "sum(xs)", sum},
    {"length_list", LIST, INT, 0, 0, {"count its elements", "take its length"}, "len(xs)", length},
    {"count", LIST, INT, 2, 9, {"count every @", "find how often @ occurs"}, "sum(x == @ for x in xs)", count_element},
    {"largest", LIST, INT, 0, 0, {"take the largest element or 0", "find its maximum or 0"}, "max(xs, default=0)", largest},
    {"join", LIST, STR, 0, 0, {"join it with commas", "write its elements between commas"}, "','.join(map(str, xs))", join},
};
// clang-format on
const int kv_snippet_n_ops = sizeof kv_snippet_ops / sizeof *kv_snippet_ops;

// ---- Using them ----------------------------------------------------------------------------------------

bool kv_snippet_apply(const kv_snippet_op *op, int64_t constant, kv_snippet_value *v) {
    assert(v->type == op->in);
    if (!op->apply(v, constant)) return false;
    v->type = op->out;
    if (v->type == KV_SNIPPET_STR) v->s[v->length] = '\0';
    return true;
}

void kv_snippet_fill(const kv_snippet_op *op, const char *text, int64_t constant, char *out, size_t size) {
    size_t used = 0;
    char number[24];
    snprintf(number, sizeof number, op->low >= 'a' ? "%c" : "%d", (int)constant);
    for (; *text && used + 1 < size; text++) {
        if (*text != '@') {
            out[used++] = *text;
            continue;
        }
        for (const char *c = number; *c && used + 1 < size; c++) out[used++] = *c;
    }
    out[used] = '\0';
}

bool kv_snippet_repr(const kv_snippet_value *v, char *out, size_t size) {
    size_t used = 0;
    if (v->type == KV_SNIPPET_INT) return (size_t)snprintf(out, size, "%" PRIi64, v->n) < size;
    // No value ever holds a quote or a backslash: there is nothing to escape.
    if (v->type == KV_SNIPPET_STR) return (size_t)snprintf(out, size, "'%s'", v->s) < size;
    if (v->length == 0) return (size_t)snprintf(out, size, "[]") < size;
    for (int64_t i = 0; i < v->length && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%" PRIi64, i ? ", " : "[", v->xs[i]);
    if (used < size) used += (size_t)snprintf(out + used, size - used, "]");
    return used < size;
}
