// What is not as it must be is refused here, before a model has spent hours on it: a task_id that comes twice
// would mix up samples, and an entry_point is pasted into the program that is run.
#include "data/benchmark/humaneval.h"

#include "core/text.h"
#include "data/benchmark/seen.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/system/buffers.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t max_file_bytes = (size_t)1 << 30;

void kv_problems_free(kv_problems *problems) {
    for (int64_t i = 0; i < problems->n; i++) {
        kv_problem *p = &problems->items[i];
        free(p->where);
        free(p->task_id);
        free(p->prompt);
        free(p->entry_point);
        free(p->canonical_solution);
        free(p->test);
    }
    free(problems->items);
    *problems = (kv_problems){0};
}

static kv_problem *grow(kv_problems *problems) {
    kv_problem *more = kv_room_for_one(problems->items, (size_t)problems->n, sizeof *more);
    if (!more) return NULL;
    problems->items = more;
    more[problems->n] = (kv_problem){0};
    return &more[problems->n++];
}

// ASCII names only: nothing else is in use, and Python normalises what is not ASCII.
static bool is_name(const char *text) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return *text && strchr(letters, *text) && text[strspn(text, more)] == '\0';
}

static kv_status copy_text(const json_t *entry, const char *key, const char *where, char **text,
                           kv_error *err) {
    const json_t *value = json_object_get(entry, key);
    if (!json_is_string(value))
        return kv_fail(err, KV_ERR_FORMAT, "%s: \"%s\" is %s, expected a string", where, key,
                       kv_json_kind(value));
    *text = strdup(json_string_value(value));
    return *text ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", where);
}

struct reading {
    kv_problems *problems;
    kv_seen *task_ids;
};

static kv_status add_problem(void *context, const json_t *entry, const char *where, kv_error *err) {
    struct reading *r = context;
    kv_problems *problems = r->problems;
    if (!json_is_object(entry))
        return kv_fail(err, KV_ERR_FORMAT, "%s: found %s, expected an object, one problem a line", where,
                       kv_json_kind(entry));
    kv_problem *p = grow(problems);
    if (p) p->where = strdup(where);
    if (!p || !p->where) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", where);
    const struct {
        const char *key;
        char **text;
    } fields[] = {{"task_id", &p->task_id},
                  {"prompt", &p->prompt},
                  {"entry_point", &p->entry_point},
                  {"canonical_solution", &p->canonical_solution},
                  {"test", &p->test}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        kv_status status = copy_text(entry, fields[i].key, where, fields[i].text, err);
        if (status != KV_OK) return status;
    }
    if (!*p->task_id) return kv_fail(err, KV_ERR_FORMAT, "%s: \"task_id\" is empty", where);
    if (!*p->prompt) return kv_fail(err, KV_ERR_FORMAT, "%s: \"prompt\" is empty", where);
    if (!is_name(p->entry_point))
        return kv_fail(err, KV_ERR_FORMAT, "%s: \"entry_point\" is '%.*s', expected the name of a function",
                       where, KV_HEAD(p->entry_point, 60));
    int64_t before;
    kv_status status = kv_seen_add(&r->task_ids, p->task_id, problems->n - 1, &before, err);
    if (status != KV_OK || before < 0) return status;
    return kv_fail(err, KV_ERR_FORMAT, "%s: \"task_id\" '%.*s' is that of %s already, expected another one",
                   where, KV_HEAD(p->task_id, 60), problems->items[before].where);
}

static kv_status read_file(const char *path, kv_problems *problems, kv_error *err) {
    *problems = (kv_problems){0};
    char *content = NULL;
    size_t size = 0;
    kv_status status = kv_read_input(path, max_file_bytes, &content, &size, err);
    if (status != KV_OK) return status;
    struct reading reading = {.problems = problems};
    status = kv_json_lines(path, content, size, 0, "problem", add_problem, &reading, err);
    kv_seen_free(reading.task_ids);
    free(content);
    if (status == KV_OK && problems->n == 0)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: holds no problems", path);
    if (status != KV_OK) kv_problems_free(problems);
    return status;
}

kv_status kv_humaneval_read(const char *path, kv_problems *problems, kv_error *err) {
    return kv_mistaken(path, KV_FILE_QUESTIONS, read_file(path, problems, err), err);
}

char *kv_problem_program(const kv_problem *problem, const char *completion) {
    char *text = NULL;
    return asprintf(&text, "%s%s\n%s\ncheck(%s)\n", problem->prompt, completion, problem->test,
                    problem->entry_point) < 0
               ? NULL
               : text;
}
