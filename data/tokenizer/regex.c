// Patterns are translated from Oniguruma's language into PCRE2's where the two differ, since a difference
// would show as a wrong id in one text of thousands.
#include "data/tokenizer/regex.h"

#include "core/text.h"
#include "data/system/buffers.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct kv_regex {
    pcre2_code *code;
    char *pattern; // as given, for messages
};

struct kv_regex_work {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

enum { STACK_BYTES = 32 << 10, MAX_STACK_BYTES = 64 << 20 };

// ---- Oniguruma's words in PCRE2's ----------------------------------------------------------------------

static kv_status refuse(const char *pattern, size_t at, const char *what, kv_error *err) {
    return kv_fail(err, KV_ERR_FORMAT, "regular expression '%.*s': %s at byte %zu is not supported",
                   KV_HEAD(pattern, 200), what, at);
}

// \s: PCRE2's takes U+180E for white space, which it no longer is, so the property is named instead. \w:
// marks and all that is Alphabetic, numerals like U+2167 among it, belong to words there, and outside of a
// class six numbers of Latin-1 too. Both forms stand inside and outside of classes. NULL: the escape is the
// same to both.
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
static const char *translated(char escape, bool in_class) {
    switch (escape) {
    case 's': return "\\p{White_Space}";
    case 'S': return "\\P{White_Space}";
    case 'w': return in_class ? WORD : "[" WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}]";
    default: return NULL;
    }
}

// *n: bytes of the pattern that were read.
static kv_status translate_escape(const char *pattern, size_t at, bool in_class, kv_bytes *out, size_t *n,
                                  kv_error *err) {
    char escape = pattern[at + 1];
    if (escape && strchr("WbBhH", escape)) {
        char what[] = "\\?";
        what[1] = escape;
        return refuse(pattern, at, what, err);
    }
    const char *words = translated(escape, in_class);
    *n = 2 - (escape == '\0');
    if (words) return kv_bytes_add(out, words, strlen(words), err);
    const char *close =
        escape && strchr("pPx", escape) && pattern[at + 2] == '{' ? strchr(pattern + at, '}') : NULL;
    if (close) *n = (size_t)(close + 1 - (pattern + at)); // \p{L}
    return kv_bytes_add(out, pattern + at, *n, err);
}

// [:name:] within a class. *n: bytes of the pattern that were read.
static kv_status translate_named(const char *pattern, size_t at, kv_bytes *out, size_t *n, kv_error *err) {
    static const char *const names[][2] = {
        {"[:alpha:]", "\\p{Alphabetic}"}, {"[:digit:]", "\\p{Nd}"}, {"[:space:]", "\\p{White_Space}"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *n = strlen(names[i][0]);
        if (strncmp(pattern + at, names[i][0], *n) == 0)
            return kv_bytes_add(out, names[i][1], strlen(names[i][1]), err);
    }
    *n = 1;
    return refuse(pattern, at, "[:name:] but alpha, digit or space", err);
}

static kv_status translate(const char *pattern, kv_bytes *out, kv_error *err) {
    kv_status status = KV_OK;
    size_t class_start = 0; // behind its [ and ^; 0: outside
    for (size_t i = 0; pattern[i] && !status; i++) {
        char c = pattern[i];
        if (c == '\\') {
            size_t n = 1;
            status = translate_escape(pattern, i, class_start > 0, out, &n, err);
            i += n - 1;
            continue;
        }
        if (!class_start && c == '}' && pattern[i + 1] == '+') return refuse(pattern, i, "{...}+", err);
        if (class_start && c == '[' && pattern[i + 1] != ':')
            return refuse(pattern, i, "a class within a class", err);
        if (class_start && c == '&' && pattern[i + 1] == '&') return refuse(pattern, i, "&&", err);
        if (class_start && c == '[') {
            size_t n = 0;
            status = translate_named(pattern, i, out, &n, err);
            i += n - 1;
            continue;
        }
        status = kv_bytes_add(out, &c, 1, err);
        if (class_start) {
            if (c == ']' && i > class_start - 1) class_start = 0;
        } else if (c == '[') {
            class_start = i + 2 + (pattern[i + 1] == '^');
            if (pattern[i + 1] == '^' && !status) status = kv_bytes_add(out, &pattern[++i], 1, err);
        }
    }
    if (!status) status = kv_bytes_add(out, "", 1, err);
    return status;
}

// ---- Compiling -----------------------------------------------------------------------------------------

static kv_status compile(const char *pattern, const char *translation, kv_regex *regex, kv_error *err) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code = 0;
    PCRE2_SIZE offset = 0;
    regex->code = pcre2_compile((PCRE2_SPTR)translation, PCRE2_ZERO_TERMINATED,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (!regex->code) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return kv_fail(err, KV_ERR_FORMAT, "regular expression '%.*s': %s, at byte %zu of '%.*s'",
                       KV_HEAD(pattern, 200), why, offset, KV_HEAD(translation, 200));
    }
    pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE); // where there is none, matching is slower
    return KV_OK;
}

kv_status kv_regex_compile(const char *pattern, kv_regex **regex, kv_error *err) {
    *regex = NULL;
    kv_bytes translation = {0};
    kv_status status = translate(pattern, &translation, err);
    kv_regex *made = calloc(1, sizeof *made);
    if (made) made->pattern = strdup(pattern);
    if (!status && (!made || !made->pattern))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for a regular expression");
    if (!status) status = compile(pattern, translation.data, made, err);
    kv_bytes_free(&translation);
    if (status)
        kv_regex_free(made);
    else
        *regex = made;
    return status;
}

void kv_regex_free(kv_regex *regex) {
    if (!regex) return;
    pcre2_code_free(regex->code);
    free(regex->pattern);
    free(regex);
}

// ---- Matching ------------------------------------------------------------------------------------------

kv_regex_work *kv_regex_work_create(void) {
    kv_regex_work *work = calloc(1, sizeof *work);
    if (!work) return NULL;
    work->match = pcre2_match_data_create(1, NULL);
    work->context = pcre2_match_context_create(NULL);
    work->stack = pcre2_jit_stack_create(STACK_BYTES, MAX_STACK_BYTES, NULL);
    if (work->match && work->context) {
        // Where there is no room for it (ulimit -v) long matches are slower.
        if (work->stack) pcre2_jit_stack_assign(work->context, NULL, work->stack);
        return work;
    }
    kv_regex_work_free(work);
    return NULL;
}

void kv_regex_work_free(kv_regex_work *work) {
    if (!work) return;
    pcre2_match_data_free(work->match);
    pcre2_match_context_free(work->context);
    pcre2_jit_stack_free(work->stack);
    free(work);
}

kv_status kv_regex_find(const kv_regex *regex, kv_regex_work *work, const char *text, size_t length,
                        size_t from, bool *found, size_t *start, size_t *end, kv_error *err) {
    // A run of n characters may be gone through several times, never n times.
    size_t limit = 10000000 + 64 * (length < UINT32_MAX / 128 ? length : UINT32_MAX / 128);
    pcre2_set_match_limit(work->context, (uint32_t)limit);
    // Checking the text's UTF-8 at each match would make a pass over it quadratic.
    int result = pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, work->match,
                             work->context);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) // more than the machine's own code may use: the slower way has
                                              // no such limit
        result = pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                             work->match, work->context);
    *found = result >= 0;
    if (*found) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(work->match);
        *start = ends[0];
        *end = ends[1];
        return KV_OK;
    }
    if (result == PCRE2_ERROR_NOMATCH) return KV_OK;
    char why[128];
    pcre2_get_error_message(result, (PCRE2_UCHAR *)why, sizeof why);
    return kv_fail(err, result == PCRE2_ERROR_NOMEMORY ? KV_ERR_MEMORY : KV_ERR_FORMAT,
                   "regular expression '%.*s' on a text of %zu bytes: %s", KV_HEAD(regex->pattern, 200),
                   length, why);
}
