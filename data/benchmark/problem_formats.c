// What is pasted into programs is checked here: an entry_point is a name, tests are texts, inputs are lists. MBPP's prompt is
// the one of the BigCode evaluation harness, and of evalplus's own files: a docstring with the description and one test.
#include "data/benchmark/problems.h"

#include "core/text.h"
#include "data/file/json_value.h"
#include "data/system/buffers.h"
#include "data/text/unicode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char first_letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

// A line of a file that becomes a problem.
struct row {
    const json_t *entry;
    const char *text; // [size] the same as it stands there
    size_t size;
    const char *where;
    kv_problem *problem;
};

typedef kv_status row_fn(const struct row *row, kv_error *err);

static kv_status no_memory(const struct row *row, kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", row->where);
}

static bool has(const struct row *row, const char *key) {
    return json_object_get(row->entry, key) != NULL;
}

// ---- Fields --------------------------------------------------------------------------------------------

static kv_status get_text(const struct row *row, const char *key, const char **text, kv_error *err) {
    const json_t *value = json_object_get(row->entry, key);
    *text = json_string_value(value);
    if (*text) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\" is %s, expected a string", row->where, key,
                   kv_json_kind(value));
}

static kv_status copy_text(const struct row *row, const char *key, char **copy, kv_error *err) {
    const char *text;
    kv_status status = get_text(row, key, &text, err);
    if (status != KV_OK) return status;
    *copy = strdup(text);
    return *copy ? KV_OK : no_memory(row, err);
}

// A text of some characters.
static kv_status copy_some(const struct row *row, const char *key, char **copy, kv_error *err) {
    kv_status status = copy_text(row, key, copy, err);
    if (status == KV_OK && !**copy)
        return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\" is empty", row->where, key);
    return status;
}

// MBPP's are numbers.
static kv_status copy_task_id(const struct row *row, kv_error *err) {
    const json_t *value = json_object_get(row->entry, "task_id");
    if (!json_is_integer(value)) return copy_some(row, "task_id", &row->problem->task_id, err);
    return asprintf(&row->problem->task_id, "%" JSON_INTEGER_FORMAT, json_integer_value(value)) < 0
               ? no_memory(row, err)
               : KV_OK;
}

// ASCII names only: nothing else is in use, and Python normalises what is not ASCII.
static bool is_name(const char *text) {
    return *text && strchr(first_letters, *text) && text[strspn(text, letters)] == '\0';
}

static kv_status copy_entry_point(const struct row *row, kv_error *err) {
    kv_status status = copy_text(row, "entry_point", &row->problem->entry_point, err);
    if (status != KV_OK || is_name(row->problem->entry_point)) return status;
    return kv_fail(err, KV_ERR_FORMAT, "%s: \"entry_point\" is '%.*s', expected the name of a function",
                   row->where, KV_HEAD(row->problem->entry_point, 60));
}

// Adds the texts of a list, each a line, which may be missing where `least` is 0.
static kv_status add_lines(const struct row *row, const char *key, size_t least, kv_bytes *lines,
                           kv_error *err) {
    const json_t *list = json_object_get(row->entry, key);
    if (!list && least == 0) return KV_OK;
    if (!json_is_array(list))
        return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\" is %s, expected a list of strings", row->where, key,
                       kv_json_kind(list));
    if (json_array_size(list) < least)
        return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\" is an empty list, expected tests", row->where, key);
    kv_status status = KV_OK;
    for (size_t i = 0; i < json_array_size(list) && status == KV_OK; i++) {
        const json_t *line = json_array_get(list, i);
        if (!json_is_string(line))
            return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\"[%zu] is %s, expected a string", row->where, key, i,
                           kv_json_kind(line));
        status = kv_bytes_add(lines, json_string_value(line), json_string_length(line), err);
        if (status == KV_OK) status = kv_bytes_add(lines, "\n", 1, err);
    }
    return status;
}

// ---- HumanEval -----------------------------------------------------------------------------------------

static kv_status humaneval(const struct row *row, kv_error *err) {
    kv_problem *p = row->problem;
    kv_status status = copy_task_id(row, err);
    if (status == KV_OK) status = copy_some(row, "prompt", &p->prompt, err);
    if (status == KV_OK) status = copy_entry_point(row, err);
    if (status == KV_OK) status = copy_text(row, "canonical_solution", &p->canonical_solution, err);
    if (status == KV_OK) status = copy_text(row, "test", &p->test, err);
    p->calls_check = true;
    return status;
}

// ---- MBPP ----------------------------------------------------------------------------------------------

// Whether the text calls the function of that name[n].
static bool calls(const char *text, const char *name, size_t n) {
    for (const char *at = text; *at;) {
        const size_t length = strspn(at, letters);
        if (length == n && memcmp(at, name, n) == 0 && at[n + strspn(at + n, " ")] == '(') return true;
        at += length > 0 ? length : 1;
    }
    return false;
}

// The function that the solution defines and the test calls, or "".
static char *find_entry_point(const char *solution, const char *test) {
    for (const char *line = solution; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, "def ", 4) != 0) continue;
        const char *name = line + 4 + strspn(line + 4, " ");
        const size_t n = strspn(name, letters);
        if (n > 0 && calls(test, name, n)) return strndup(name, n);
    }
    return strdup("");
}

static kv_status mbpp_prompt(const struct row *row, kv_error *err) {
    const char *description, *key = has(row, "text") ? "text" : "prompt";
    kv_status status = get_text(row, key, &description, err);
    if (status != KV_OK) return status;
    if (!*description) return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\" is empty", row->where, key);
    const char *test = json_string_value(json_array_get(json_object_get(row->entry, "test_list"), 0));
    kv_problem *p = row->problem;
    p->entry_point = find_entry_point(p->canonical_solution, test);
    if (asprintf(&p->prompt, "\"\"\"\n%s\n%s\n\"\"\"\n", description, test) < 0) p->prompt = NULL;
    return p->prompt && p->entry_point ? KV_OK : no_memory(row, err);
}

// What tests need, and the tests.
static kv_status mbpp_tests(const struct row *row, char **tests, kv_error *err) {
    kv_bytes lines = {0};
    kv_status status = KV_OK;
    if (has(row, "test_setup_code")) {
        const char *code;
        status = get_text(row, "test_setup_code", &code, err);
        if (status == KV_OK) status = kv_bytes_add(&lines, code, strlen(code), err);
        if (status == KV_OK && *code) status = kv_bytes_add(&lines, "\n", 1, err);
    }
    if (status == KV_OK) status = add_lines(row, "test_imports", 0, &lines, err);
    if (status == KV_OK) status = add_lines(row, "test_list", 1, &lines, err);
    if (status == KV_OK) status = kv_bytes_add(&lines, "", 1, err);
    *tests = lines.data;
    return status;
}

static kv_status mbpp_with(const struct row *row, char **tests, kv_error *err) {
    kv_status status = copy_task_id(row, err);
    if (status == KV_OK) status = copy_text(row, "code", &row->problem->canonical_solution, err);
    if (status == KV_OK) status = mbpp_tests(row, tests, err);
    return status == KV_OK ? mbpp_prompt(row, err) : status;
}

static kv_status mbpp(const struct row *row, kv_error *err) {
    return mbpp_with(row, &row->problem->test, err);
}

// ---- evalplus's own ------------------------------------------------------------------------------------

// Where the JSON value at text[size] ends that is known to be one.
static size_t value_end(const char *text, size_t size) {
    int64_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        const char c = text[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if ((c == ']' || c == '}' || c == ',') && depth == 0) {
            return i;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return size;
}

// The value of a key of the object text[size] as it is written there: jansson would round its long numbers. The last
// one of that name; keys that are written with escapes are not found.
static char *copy_value(const char *text, size_t size, const char *key) {
    const size_t n = strlen(key);
    const char *value = NULL, *const end = text + size, *at = memchr(text, '{', size);
    size_t length = 0;
    while (at && ++at < end) {
        at += strspn(at, " \t");
        const bool is_it =
            (size_t)(end - at) > n + 2 && *at == '"' && !memcmp(at + 1, key, n) && at[n + 1] == '"';
        const char *colon = at + 1;
        while (colon < end && *colon != '"') colon += 1 + (*colon == '\\');
        colon = colon < end ? memchr(colon, ':', (size_t)(end - colon)) : NULL;
        if (!colon) break;
        const size_t size_left = (size_t)(end - colon - 1), value_length = value_end(colon + 1, size_left);
        if (is_it) value = colon + 1, length = value_length;
        at = colon + 1 + value_length;
    }
    return value ? strndup(value, length) : NULL;
}

static kv_status copy_inputs(const struct row *row, const char *key, char **copy, kv_error *err) {
    const json_t *list = json_object_get(row->entry, key);
    if (!json_is_array(list))
        return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\" is %s, expected a list of lists of arguments",
                       row->where, key, kv_json_kind(list));
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_array(json_array_get(list, i)))
            return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\"[%zu] is %s, expected a list of arguments",
                           row->where, key, i, kv_json_kind(json_array_get(list, i)));
    *copy = copy_value(row->text, row->size, key);
    if (*copy) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s: the name \"%s\" is written with escapes, expected it plain",
                   row->where, key);
}

static kv_status get_atol(const struct row *row, kv_error *err) {
    const json_t *value = json_object_get(row->entry, "atol");
    row->problem->atol = json_number_value(value);
    if (json_is_number(value) && row->problem->atol >= 0) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s: \"atol\" is %s, expected 0 or more", row->where,
                   json_is_number(value) ? "below 0" : kv_json_kind(value));
}

static kv_status inputs(const struct row *row, kv_error *err) {
    kv_problem *p = row->problem;
    kv_status status = copy_task_id(row, err);
    if (status == KV_OK) status = copy_some(row, "prompt", &p->prompt, err);
    if (status == KV_OK) status = copy_entry_point(row, err);
    if (status == KV_OK) status = copy_text(row, "canonical_solution", &p->canonical_solution, err);
    if (status == KV_OK) status = copy_inputs(row, "base_input", &p->base_input, err);
    if (status == KV_OK) status = copy_inputs(row, "plus_input", &p->plus_input, err);
    if (status == KV_OK && json_array_size(json_object_get(row->entry, "base_input")) == 0)
        status =
            kv_fail(err, KV_ERR_FORMAT, "%s: \"base_input\" is an empty list, expected inputs", row->where);
    return status == KV_OK ? get_atol(row, err) : status;
}

static kv_status humanevalplus(const struct row *row, kv_error *err) {
    return has(row, "base_input") || has(row, "plus_input") ? inputs(row, err) : humaneval(row, err);
}

// Without the white space around it, and with the new line that its docstring ends.
static kv_status mend_prompt(const struct row *row, kv_error *err) {
    kv_problem *p = row->problem;
    const char *start = p->prompt;
    const size_t n = kv_strip(&start, strlen(start));
    char *mended = NULL;
    if (asprintf(&mended, "%.*s\n", (int)n, start) < 0) return no_memory(row, err);
    free(p->prompt);
    p->prompt = mended;
    return KV_OK;
}

static kv_status mbppplus(const struct row *row, kv_error *err) {
    if (has(row, "base_input") || has(row, "plus_input")) {
        kv_status status = inputs(row, err);
        return status == KV_OK ? mend_prompt(row, err) : status;
    }
    kv_status status = mbpp_with(row, &row->problem->base_test, err);
    return status == KV_OK ? copy_some(row, "test", &row->problem->test, err) : status;
}

// ---- Kinds ---------------------------------------------------------------------------------------------

static const struct {
    kv_problem_kind kind;
    row_fn *read;
} kinds[] = {
    {{.name = "humaneval", .title = "HumanEval", .timeout = 10}, humaneval},
    {{.name = "humanevalplus", .title = "HumanEval+", .timeout = 30}, humanevalplus},
    {{.name = "mbpp", .title = "MBPP", .whole = true, .splits = true, .timeout = 10}, mbpp},
    {{.name = "mbppplus", .title = "MBPP+", .whole = true, .timeout = 30}, mbppplus},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

const kv_problem_kind *kv_problem_kind_at(int i) {
    return i < N_KINDS ? &kinds[i].kind : NULL;
}

const kv_problem_kind *kv_problem_kind_find(const char *name) {
    for (int i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].kind.name, name) == 0) return &kinds[i].kind;
    return NULL;
}

const kv_problem_kind *kv_problem_kind_of(const json_t *line) {
    const char *task_id = json_string_value(json_object_get(line, "task_id"));
    const bool plus = json_object_get(line, "base_input") || json_object_get(line, "plus_input");
    if (plus)
        return kv_problem_kind_find(json_object_get(line, "assertion") ||
                                            (task_id && !strncmp(task_id, "Mbpp/", 5))
                                        ? "mbppplus"
                                        : "humanevalplus");
    const bool test = json_object_get(line, "test");
    if (json_object_get(line, "test_list")) return kv_problem_kind_find(test ? "mbppplus" : "mbpp");
    return test ? kv_problem_kind_find("humaneval") : NULL;
}

kv_status kv_problem_row(const kv_problem_kind *kind, const json_t *entry, const char *text, size_t size,
                         const char *where, kv_problem *problem, kv_error *err) {
    const struct row row = {entry, text, size, where, problem};
    problem->where = strdup(where);
    if (!problem->where) return no_memory(&row, err);
    for (int i = 0; i < N_KINDS; i++)
        if (&kinds[i].kind == kind) return kinds[i].read(&row, err);
    return kv_fail(err, KV_ERR_ARGUMENT, "%s: no kind of problems", where);
}
