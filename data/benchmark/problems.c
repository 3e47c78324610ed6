// What is not as it must be is refused here, before a model has spent hours on it: a task_id that comes twice
// would mix up samples, and problems with and without tests of the original benchmark have no common score.
#include "data/benchmark/problems.h"

#include "core/text.h"
#include "data/benchmark/seen.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/plain.h"
#include "data/system/buffers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const size_t max_file_bytes = (size_t)1 << 30;

void kv_problem_free(kv_problem *p) {
    free(p->where);
    free(p->task_id);
    free(p->prompt);
    free(p->entry_point);
    free(p->canonical_solution);
    free(p->test);
    free(p->base_test);
    free(p->base_input);
    free(p->plus_input);
    *p = (kv_problem){0};
}

void kv_problems_free(kv_problems *problems) {
    for (int64_t i = 0; i < problems->n; i++) kv_problem_free(&problems->items[i]);
    free(problems->items);
    *problems = (kv_problems){0};
}

// ---- Splits --------------------------------------------------------------------------------------------

// Of MBPP, by task_id; its file comes whole.  [Austin et al. 2021]
static const struct {
    const char *name;
    int64_t first, last;
} splits[] = {
    {"prompt", 1, 10}, {"test", 11, 510}, {"validation", 511, 600}, {"train", 601, 974}, {"all", 1, 0}};
enum { N_SPLITS = sizeof splits / sizeof *splits, ALL = N_SPLITS - 1 };

static int find_split(const char *name) {
    int s = 0;
    while (s < N_SPLITS && strcmp(splits[s].name, name) != 0) s++;
    return s;
}

bool kv_problem_split_known(const char *split) {
    return find_split(split) < N_SPLITS;
}

// What is no number is of none.
static bool is_of(const kv_problem *problem, int split) {
    char *end;
    errno = 0;
    const int64_t id = strtoll(problem->task_id, &end, 10);
    return split == ALL || (!errno && !*end && id >= splits[split].first && id <= splits[split].last);
}

kv_status kv_problems_keep_split(kv_problems *problems, const char *name, kv_error *err) {
    const int split = find_split(name);
    if (split == N_SPLITS) return kv_fail(err, KV_ERR_RANGE, "MBPP has no split `%s`", name);
    kv_problem *items = problems->items;
    int64_t n = 0;
    for (int64_t i = 0; i < problems->n; i++) n += is_of(&items[i], split);
    if (n == 0)
        return kv_fail(err, KV_ERR_RANGE,
                       "%s and below: no \"task_id\" is of split `%s`, %" PRIi64 " to %" PRIi64
                       ", expected another `split`: `all` takes every problem",
                       items[0].where, name, splits[split].first, splits[split].last);
    n = 0;
    for (int64_t i = 0; i < problems->n; i++) {
        kv_problem problem = items[i];
        if (is_of(&problem, split))
            items[n++] = problem;
        else
            kv_problem_free(&problem);
    }
    problems->n = n;
    return KV_OK;
}

// ---- Reading -------------------------------------------------------------------------------------------

struct reading {
    const char *path;
    const kv_problem_kind *kind;
    kv_problems *problems;
    kv_seen *task_ids;
    const char *at, *end; // of the content, behind the lines that were read
};

static kv_problem *grow(kv_problems *problems) {
    kv_problem *more = kv_room_for_one(problems->items, (size_t)problems->n, sizeof *more);
    if (!more) return NULL;
    problems->items = more;
    more[problems->n] = (kv_problem){0};
    return &more[problems->n++];
}

// The text of the entry that kv_json_lines has come to: the next line that is not blank.
static bool next_line(struct reading *r, const char **text, size_t *size) {
    while (kv_take_line(&r->at, r->end, text, size))
        for (size_t i = 0; i < *size; i++)
            if (!strchr(" \t", (*text)[i])) return true;
    return false;
}

static kv_status check_base(const kv_problems *problems, const kv_problem *p, kv_error *err) {
    const kv_problem *first = &problems->items[0];
    if (kv_problem_has_base(first) == kv_problem_has_base(p)) return KV_OK;
    return kv_fail(
        err, KV_ERR_FORMAT,
        "%s: has %s, and %s %s: expected problems of one format, for their scores have no common "
        "meaning",
        p->where, kv_problem_has_base(p) ? "tests of the original benchmark apart" : "one set of tests alone",
        first->where,
        kv_problem_has_base(first) ? "has those of the original benchmark apart" : "has one set alone");
}

static kv_status add_problem(void *context, const json_t *entry, const char *where, kv_error *err) {
    struct reading *r = context;
    const char *text = NULL;
    size_t size = 0;
    if (!json_is_object(entry) || !next_line(r, &text, &size))
        return kv_fail(err, KV_ERR_FORMAT, "%s: found %s, expected an object, one problem a line", where,
                       kv_json_kind(entry));
    const kv_problem_kind *likely = kv_problem_kind_of(entry);
    if (!r->kind) r->kind = likely;
    if (!r->kind)
        return kv_fail(
            err, KV_ERR_FORMAT,
            "%s: neither \"test\" nor \"test_list\" nor \"base_input\" is there, expected a problem of "
            "HumanEval, MBPP or evalplus",
            where);
    kv_problem *p = grow(r->problems);
    if (!p) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", where);
    kv_status status = kv_problem_row(r->kind, entry, text, size, where, p, err);
    if (status == KV_ERR_FORMAT && likely && likely != r->kind) {
        const kv_error inner = *err;
        kv_fail(err, status, "%s; it looks like a problem of %s", inner.message, likely->title);
    }
    if (status == KV_OK) status = check_base(r->problems, p, err);
    if (status != KV_OK) return status;
    int64_t before;
    status = kv_seen_add(&r->task_ids, p->task_id, r->problems->n - 1, &before, err);
    if (status != KV_OK || before < 0) return status;
    return kv_fail(err, KV_ERR_FORMAT, "%s: \"task_id\" '%.*s' is that of %s already, expected another one",
                   where, KV_HEAD(p->task_id, 60), r->problems->items[before].where);
}

static kv_status read_file(struct reading *r, kv_error *err) {
    char *content = NULL;
    size_t size = 0;
    kv_status status = kv_read_input(r->path, max_file_bytes, &content, &size, err);
    if (status != KV_OK) return status;
    r->at = content, r->end = content + size;
    status = kv_json_lines(r->path, content, size, 0, "problem", add_problem, r, err);
    kv_seen_free(r->task_ids);
    free(content);
    if (status == KV_OK && r->problems->n == 0)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: holds no problems", r->path);
    if (status != KV_OK) kv_problems_free(r->problems);
    return status;
}

kv_status kv_problems_read(const char *path, const kv_problem_kind *kind, kv_problems *problems,
                           const kv_problem_kind **found, kv_error *err) {
    struct reading r = {.path = path, .kind = kind, .problems = problems};
    *problems = (kv_problems){0};
    kv_status status = kv_mistaken(path, KV_FILE_QUESTIONS, read_file(&r, err), err);
    if (found) *found = r.kind;
    return status;
}
