// kvdata inspect: files of questions and problems.
#include "data/benchmark/choices.h"
#include "data/benchmark/problems.h"
#include "data/benchmark/recall.h"
#include "data/benchmark/triviaqa.h"
#include "data/kvdata/inspect/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool has_key(const json_t *object, const char *key) {
    return json_object_get(object, key) != NULL;
}

// A short text of one line as a fact.
static void report_text(inspect_report *report, const char *key, const char *text) {
    char shown[INSPECT_SHORT];
    inspect_fact(report, key, json_string(text), "%s", inspect_short(text, 300, shown));
}

// ---- TriviaQA ------------------------------------------------------------------------------------------

static bool is_triviaqa(const inspect_subject *s) {
    return json_is_array(json_object_get(s->json, "Data")) ||
           (has_key(s->line, "question") && json_is_object(json_object_get(s->line, "answer")));
}

static kv_status describe_triviaqa(const inspect_subject *s, inspect_report *report, kv_error *err) {
    kv_questions questions = {0};
    kv_status status = kv_triviaqa_read(s->path, &questions, err);
    if (status) return status;
    inspect_title(report, "TriviaQA questions", s->path);
    inspect_fact(report, "items", json_integer(questions.n), "%" PRIi64, questions.n);
    if (questions.n > 0) {
        const kv_question *first = &questions.items[0];
        report_text(report, "first", first->text);
        report_text(report, "answer", first->value);
        inspect_fact(report, "accepted", json_integer(first->n_aliases), "%" PRIi64 " answers",
                     first->n_aliases);
    }
    kv_questions_free(&questions);
    return KV_OK;
}

// ---- Programming problems ------------------------------------------------------------------------------

static bool is_problems(const inspect_subject *s) {
    return has_key(s->line, "task_id") && kv_problem_kind_of(s->line);
}

static kv_status describe_problems(const inspect_subject *s, inspect_report *report, kv_error *err) {
    char title[64];
    kv_problems problems = {0};
    const kv_problem_kind *kind;
    kv_status status = kv_problems_read(s->path, NULL, &problems, &kind, err);
    if (status) return status;
    snprintf(title, sizeof title, "%s problems", kind->title);
    inspect_title(report, title, s->path);
    inspect_fact(report, "items", json_integer(problems.n), "%" PRIi64, problems.n);
    if (problems.n > 0) {
        report_text(report, "first", problems.items[0].task_id);
        report_text(report, "prompt", problems.items[0].prompt);
    }
    kv_problems_free(&problems);
    return KV_OK;
}

// ---- Recall --------------------------------------------------------------------------------------------

static bool is_recall(const inspect_subject *s) {
    return has_key(s->line, "prompt") && has_key(s->line, "answer") && has_key(s->line, "length") &&
           has_key(s->line, "depth");
}

// The grid, as far as its ends: lengths and depths.
static void report_grid(inspect_report *report, const kv_recall_questions *questions) {
    const kv_recall_question *first = &questions->items[0];
    int64_t shortest = first->length, longest = first->length;
    double low = first->depth, high = first->depth;
    for (int64_t i = 1; i < questions->n; i++) {
        const kv_recall_question *q = &questions->items[i];
        if (q->length < shortest) shortest = q->length;
        if (q->length > longest) longest = q->length;
        if (q->depth < low) low = q->depth;
        if (q->depth > high) high = q->depth;
    }
    inspect_fact(report, "lengths", json_pack("[I, I]", (json_int_t)shortest, (json_int_t)longest),
                 "%" PRIi64 " to %" PRIi64, shortest, longest);
    inspect_fact(report, "depths", json_pack("[f, f]", low, high), "%g to %g", low, high);
}

static kv_status describe_recall(const inspect_subject *s, inspect_report *report, kv_error *err) {
    kv_recall_questions questions = {0};
    kv_status status = kv_recall_read(s->path, &questions, err);
    if (status) return status;
    inspect_title(report, "passages to recall from", s->path);
    inspect_fact(report, "items", json_integer(questions.n), "%" PRIi64, questions.n);
    report_grid(report, &questions);
    report_text(report, "first", questions.items[0].prompt);
    report_text(report, "answer", questions.items[0].answer);
    kv_recall_questions_free(&questions);
    return KV_OK;
}

// ---- Multiple choice -----------------------------------------------------------------------------------

// A row, bare or wrapped as the dataset viewer does.
static const json_t *first_row(const inspect_subject *s) {
    const json_t *value = s->line ? s->line : s->json, *rows = json_object_get(value, "rows");
    if (json_is_array(rows)) value = json_array_get(rows, 0);
    const json_t *row = json_object_get(value, "row");
    return row ? row : value;
}

// Both sets of ARC have the same format.
static const char *choice_kind(const inspect_subject *s) {
    static const struct {
        const char *keys[2], *kind;
    } known[] = {{{"choices", "answerKey"}, "arc_challenge"}, {{"passage", "question"}, "boolq"},
                 {{"endings", "ctx_a"}, "hellaswag"},         {{"goal", "sol1"}, "piqa"},
                 {{"distractor1", "correct_answer"}, "sciq"}, {{"option1", "sentence"}, "winogrande"}};
    const json_t *row = first_row(s);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (has_key(row, known[i].keys[0]) && has_key(row, known[i].keys[1])) return known[i].kind;
    return NULL;
}

static bool is_choices(const inspect_subject *s) {
    return choice_kind(s) != NULL;
}

static kv_status describe_choices(const inspect_subject *s, inspect_report *report, kv_error *err) {
    kv_choice_items items = {0};
    const char *kind = choice_kind(s),
               *shown = strcmp(kind, "arc_challenge") == 0 ? "arc_challenge or arc_easy" : kind;
    kv_status status = kv_choices_read(s->path, kv_choice_kind_find(kind), &items, err);
    if (status) return status;
    inspect_title(report, "multiple choice", s->path);
    inspect_fact(report, "format", json_string(kind), "%s", shown);
    inspect_fact(report, "items", json_integer(items.n), "%" PRIi64, items.n);
    if (items.n > 0) {
        const kv_choice_item *first = &items.items[0];
        report_text(report, "first", first->context);
        for (int64_t i = 0; i < first->n_choices; i++) {
            char text[INSPECT_SHORT];
            inspect_row(report, "choices", json_string(first->choices[i]), "  %c %s",
                        i == first->gold ? '*' : '-', inspect_short(first->choices[i], 200, text));
        }
    }
    kv_choice_items_free(&items);
    return KV_OK;
}

const inspect_kind inspect_benchmark_kinds[] = {
    {is_triviaqa, describe_triviaqa},
    {is_problems, describe_problems},
    {is_recall, describe_recall},
    {is_choices, describe_choices},
    {0},
};
