// Whoever writes such a file by hand makes the same few mistakes, each of which would otherwise be a score of nothing.
#include "data/benchmark/recall.h"

#include "core/text.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/system/buffers.h"
#include "data/text/unicode.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const size_t max_file_bytes = (size_t)8 << 30;
static const int64_t max_length = INT64_C(1) << 40;

const char *const kv_recall_stops[KV_RECALL_STOPS] = {"\n", ".", ","};

void kv_recall_questions_free(kv_recall_questions *questions) {
    for (int64_t i = 0; i < questions->n; i++) {
        free(questions->items[i].prompt);
        free(questions->items[i].answer);
        free(questions->items[i].where);
    }
    free(questions->items);
    *questions = (kv_recall_questions){0};
}

static kv_status wrong(const char *where, const char *key, const json_t *found, const char *expected,
                       kv_error *err) {
    const bool value = json_is_string(found) || json_is_number(found);
    char *shown = value && !kv_json_is_odd(found) ? kv_json_show(found) : NULL;
    kv_status status = kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\" is %.*s, expected %s", where, key,
                               KV_HEAD(shown ? shown : kv_json_kind(found), 60), expected);
    free(shown);
    return status;
}

// What a model writes is cut at a stop and stripped before it is compared.
static kv_status check_answer(const char *where, const json_t *answer, kv_error *err) {
    const char *text = json_string_value(answer), *inner = text;
    bool can = text && !kv_json_is_odd(answer) && kv_strip(&inner, strlen(text)) == strlen(text) && *text;
    for (int i = 0; can && i < KV_RECALL_STOPS; i++) can = !strstr(text, kv_recall_stops[i]);
    return can ? KV_OK
               : wrong(where, "answer", answer,
                       "a string without \".\", \",\", line ends, and white space around it", err);
}

static kv_status check_entry(const json_t *entry, const char *where, kv_error *err) {
    if (!json_is_object(entry))
        return kv_fail(err, KV_ERR_FORMAT, "%s: found %s, expected an object with a prompt and its answer",
                       where, kv_json_kind(entry));
    const json_t *prompt = json_object_get(entry, "prompt"), *length = json_object_get(entry, "length"),
                 *depth = json_object_get(entry, "depth");
    const double d = json_is_number(depth) ? json_number_value(depth) : NAN;
    if (!json_is_string(prompt) || !json_string_length(prompt) || kv_json_is_odd(prompt))
        return wrong(where, "prompt", prompt, "a string, not empty", err);
    kv_status status = check_answer(where, json_object_get(entry, "answer"), err);
    if (status) return status;
    if (!json_is_integer(length) || json_integer_value(length) < 1 || json_integer_value(length) > max_length)
        return wrong(where, "length", length, "a whole number from 1", err);
    if (kv_json_is_odd(depth) || !(d >= 0 && d <= 1))
        return wrong(where, "depth", depth, "a number from 0 to 1", err);
    return KV_OK;
}

static kv_status add_line(void *context, const json_t *entry, const char *where, kv_error *err) {
    kv_recall_questions *questions = context;
    kv_status status = check_entry(entry, where, err);
    if (status) return status;
    kv_recall_question *more = kv_room_for_one(questions->items, (size_t)questions->n, sizeof *more);
    if (!more) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", where);
    questions->items = more;
    kv_recall_question *question = &more[questions->n++];
    *question = (kv_recall_question){
        .prompt = strdup(json_string_value(json_object_get(entry, "prompt"))),
        .answer = strdup(json_string_value(json_object_get(entry, "answer"))),
        .length = json_integer_value(json_object_get(entry, "length")),
        .depth = json_number_value(json_object_get(entry, "depth")),
        .where = strdup(where),
    };
    return question->prompt && question->answer && question->where
               ? KV_OK
               : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", where);
}

static kv_status read_file(const char *path, kv_recall_questions *questions, kv_error *err) {
    char *content = NULL;
    size_t size = 0;
    *questions = (kv_recall_questions){0};
    kv_status status = kv_read_input(path, max_file_bytes, &content, &size, err);
    if (!status) status = kv_json_lines(path, content, size, 0, "question", add_line, questions, err);
    free(content);
    if (!status && questions->n == 0) status = kv_fail(err, KV_ERR_FORMAT, "%s: holds no questions", path);
    if (status) kv_recall_questions_free(questions);
    return status;
}

kv_status kv_recall_read(const char *path, kv_recall_questions *questions, kv_error *err) {
    return kv_mistaken(path, KV_FILE_QUESTIONS, read_file(path, questions, err), err);
}
