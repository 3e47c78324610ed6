// Two formats that differ in the names of their keys, and the harness's way to compare an answer with them.
#include "data/benchmark/triviaqa.h"

#include "data/benchmark/seen.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/plain.h"
#include "data/system/buffers.h"
#include "data/text/unicode.h"

#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

// The original release's largest file is 2.5 GB.
static const size_t max_file_bytes = (size_t)8 << 30;

// The two formats differ in the names of their keys and in nothing else that matters here.
struct key_names {
    const char *id, *question, *answer, *value, *aliases;
};
static const struct key_names hugging_face = {"question_id", "question", "answer", "value", "aliases"};
static const struct key_names original = {"QuestionId", "Question", "Answer", "Value", "Aliases"};

// ---- Building the list ---------------------------------------------------------------------------------

static void free_question(kv_question *question) {
    for (int64_t i = 0; i < question->n_aliases; i++) free(question->aliases[i]);
    free(question->aliases);
    free(question->where);
    free(question->id);
    free(question->text);
    free(question->value);
}

void kv_questions_free(kv_questions *questions) {
    for (int64_t i = 0; i < questions->n; i++) free_question(&questions->items[i]);
    free(questions->items);
    *questions = (kv_questions){0};
}

static kv_question *grow(kv_questions *questions) {
    kv_question *more = kv_room_for_one(questions->items, (size_t)questions->n, sizeof *more);
    if (!more) return NULL;
    questions->items = more;
    more[questions->n] = (kv_question){0};
    return &more[questions->n++];
}

static bool add_alias(kv_question *question, const char *alias, kv_seen **seen) {
    int64_t before;
    if (kv_seen_add(seen, alias, 0, &before, NULL) != KV_OK) return false;
    if (before >= 0) return true;
    char *copy = strdup(alias);
    if (copy) question->aliases[question->n_aliases++] = copy;
    return copy != NULL;
}

static bool fill_question(kv_question *question, const char *where, const char *id, const char *text,
                          const char *value, const json_t *aliases) {
    question->where = strdup(where);
    question->id = strdup(id);
    question->text = strdup(text);
    question->value = strdup(value);
    question->aliases = calloc(json_array_size(aliases) + 1, sizeof *question->aliases);
    if (!question->where || !question->id || !question->text || !question->value || !question->aliases)
        return false;
    kv_seen *seen = NULL;
    bool ok = add_alias(question, value, &seen);
    for (size_t i = 0; ok && i < json_array_size(aliases); i++)
        ok = add_alias(question, json_string_value(json_array_get(aliases, i)), &seen);
    kv_seen_free(seen);
    return ok;
}

// `where` and the keys lead to what was found.
static kv_status wrong(const char *where, const char *key, const char *member, const json_t *found,
                       const char *expected, kv_error *err) {
    return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\"%s%s%s is %s, expected %s", where, key, member ? ".\"" : "",
                   member ? member : "", member ? "\"" : "", kv_json_kind(found), expected);
}

// A list of strings; `member` of the answer, or (NULL) the answer itself.
static kv_status check_aliases(const json_t *aliases, const struct key_names *keys, const char *member,
                               const char *where, kv_error *err) {
    size_t i;
    const json_t *alias;
    if (!json_is_array(aliases)) return wrong(where, keys->answer, member, aliases, "a list of strings", err);
    json_array_foreach((json_t *)(uintptr_t)aliases, i, alias) {
        if (!json_is_string(alias))
            return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\"%s%s%s[%zu] is %s, expected a string", where,
                           keys->answer, member ? ".\"" : "", member ? member : "", member ? "\"" : "", i,
                           kv_json_kind(alias));
    }
    return KV_OK;
}

// Plain text and a list of texts, the first of which is shown in examples, say the same as the object that TriviaQA has.
static kv_status read_answer(const json_t *answer, const struct key_names *keys, const char *where,
                             const char **value, const json_t **aliases, kv_error *err) {
    const bool list = json_is_array(answer);
    const json_t *shown = json_is_string(answer) ? answer
                          : list                 ? json_array_get(answer, 0)
                                                 : json_object_get(answer, keys->value);
    *aliases = list ? answer : json_object_get(answer, keys->aliases);
    if (list && json_array_size(answer) == 0)
        return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\" is an empty list, expected at least one answer", where,
                       keys->answer);
    if (!json_is_string(answer) && !list && (!json_is_object(answer) || kv_json_is_odd(answer)))
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: \"%s\" is %s, expected a string, a list of strings, or an object with \"%s\"",
                       where, keys->answer, kv_json_kind(answer), keys->value);
    kv_status status =
        *aliases ? check_aliases(*aliases, keys, list ? NULL : keys->aliases, where, err) : KV_OK;
    if (status == KV_OK && !json_is_string(shown))
        status = wrong(where, keys->answer, keys->value, shown, "a string", err);
    *value = json_string_value(shown);
    return status;
}

static kv_status check_entry(const json_t *entry, const struct key_names *keys, const char *where,
                             kv_error *err) {
    if (!json_is_object(entry))
        return kv_fail(err, KV_ERR_FORMAT, "%s: found %s, expected an object with a question and its answer",
                       where, kv_json_kind(entry));
    const json_t *id = json_object_get(entry, keys->id), *question = json_object_get(entry, keys->question);
    if (!json_is_string(question)) return wrong(where, keys->question, NULL, question, "a string", err);
    return kv_json_is_odd(id) ? wrong(where, keys->id, NULL, id, "a string", err) : KV_OK;
}

// `where` names the file and the line or entry.
static kv_status add_entry(kv_questions *questions, const json_t *entry, const struct key_names *keys,
                           const char *where, kv_error *err) {
    kv_status status = check_entry(entry, keys, where, err);
    const char *value = NULL;
    const json_t *aliases = NULL;
    if (!status)
        status = read_answer(json_object_get(entry, keys->answer), keys, where, &value, &aliases, err);
    if (status) return status;
    const char *id = json_string_value(json_object_get(entry, keys->id));
    kv_question *question = grow(questions);
    if (!question ||
        !fill_question(question, where, id ? id : "",
                       json_string_value(json_object_get(entry, keys->question)), value, aliases))
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", where);
    return KV_OK;
}

// ---- The two formats -----------------------------------------------------------------------------------

static kv_status add_line(void *context, const json_t *entry, const char *where, kv_error *err) {
    return add_entry(context, entry, &hugging_face, where, err);
}

#define EXPECTED                                                                                             \
    "expected TriviaQA questions: JSON lines with \"question\" and \"answer\", or one object with a list "   \
    "\"Data\""

static kv_status read_original(kv_questions *questions, const char *path, const char *content, size_t size,
                               kv_error *err) {
    json_error_t fault;
    json_t *root = kv_json_parse(content, size, 0, &fault);
    const json_t *data = json_object_get(root, "Data");
    const char *shape = json_is_array(data) ? NULL : kv_json_not_lines(content, size, true, true);
    kv_status status = KV_OK;
    if (shape && !data)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: found %s; " EXPECTED, path, shape);
    else if (!root)
        status = kv_fail(err, KV_ERR_FORMAT, "%s:%d: not valid JSON (%s), " EXPECTED, path, fault.line,
                         fault.text);
    else if (!json_is_array(data))
        status = kv_fail(err, KV_ERR_FORMAT, "%s: \"Data\" is %s, " EXPECTED, path, kv_json_kind(data));
    for (size_t i = 0; !status && i < json_array_size(data); i++) {
        char where[PATH_MAX + 32];
        snprintf(where, sizeof where, "%s: Data[%zu]", path, i);
        status = add_entry(questions, json_array_get(data, i), &original, where, err);
    }
    json_decref(root);
    return status;
}

// JSON lines are recognised by their first line, which is a whole object with no "Data" in it.
static bool is_json_lines(const char *content, size_t size) {
    const char *line = "";
    size_t length = 0;
    for (const char *at = content; kv_take_line(&at, content + size, &line, &length);)
        if (strspn(line, " \t") < length) break;
    json_t *first = kv_json_parse(line, length, 0, NULL);
    bool lines = json_is_object(first) && !json_object_get(first, "Data");
    json_decref(first);
    return lines;
}

static kv_status read_file(const char *path, kv_questions *questions, kv_error *err) {
    *questions = (kv_questions){0};
    char *content = NULL;
    size_t size = 0;
    kv_status status = kv_read_input(path, max_file_bytes, &content, &size, err);
    if (status) return status;
    if (is_json_lines(content, size))
        status = kv_json_lines(path, content, size, 0, "question", add_line, questions, err);
    else
        status = read_original(questions, path, content, size, err);
    free(content);
    if (!status && questions->n == 0) status = kv_fail(err, KV_ERR_FORMAT, "%s: holds no questions", path);
    if (status) kv_questions_free(questions);
    return status;
}

kv_status kv_triviaqa_read(const char *path, kv_questions *questions, kv_error *err) {
    return kv_mistaken(path, KV_FILE_QUESTIONS, read_file(path, questions, err), err);
}

// ---- Exact match ---------------------------------------------------------------------------------------

kv_status kv_normalize_answer(const char *text, size_t length, kv_bytes *out, kv_error *err) {
    return kv_simplify_answer(text, length, true, true, out, err);
}

kv_status kv_simplify_answer(const char *text, size_t length, bool ignore_case, bool ignore_punctuation,
                             kv_bytes *out, kv_error *err) {
    out->length = 0;
    kv_status status = ignore_case ? kv_lower(text, length, out, err) : kv_bytes_add(out, text, length, err);
    size_t n = 0;
    for (size_t i = 0; i < out->length; i++) {
        const unsigned char c = (unsigned char)out->data[i];
        if (!ignore_punctuation || c >= 0x80 || !ispunct(c)) out->data[n++] = out->data[i];
    }
    out->length = n;
    if (status == KV_OK) status = kv_bytes_add(out, "", 1, err);
    if (status == KV_OK) out->length--;
    return status;
}

kv_status kv_exact_match(const char *generation, const kv_question *question, bool *match, kv_error *err) {
    kv_bytes said = {0}, alias = {0};
    *match = false;
    const size_t length = kv_strip(&generation, strlen(generation));
    kv_status status = kv_normalize_answer(generation, length, &said, err);
    // An empty generation is no answer, even where an alias is nothing but punctuation.
    const bool empty = status == KV_OK && said.length == 0;
    for (int64_t i = 0; i < question->n_aliases && status == KV_OK && !empty && !*match; i++) {
        status = kv_normalize_answer(question->aliases[i], strlen(question->aliases[i]), &alias, err);
        *match = status == KV_OK && strcmp(said.data, alias.data) == 0;
    }
    kv_bytes_free(&said);
    kv_bytes_free(&alias);
    return status;
}
