// Kinds of tasks leave different keys (eval/benchmark): each of them is looked for, and none is needed.
#include "eval/html/record.h"

#include "core/text.h"
#include "data/file/json.h"
#include "data/text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_at(const json_t *record, const char *key) {
    return json_string_value(json_object_get(record, key));
}

// The first of the keys that is a text; NULL: none.
static const char *first_text(const json_t *record, const char *const *keys) {
    for (int i = 0; keys[i]; i++)
        if (text_at(record, keys[i])) return text_at(record, keys[i]);
    return NULL;
}

// ---- Long texts ----------------------------------------------------------------------------------------

// A copy of at most about KV_ANSWER_MOST bytes, which says what is missing: its end, or of what is read last its beginning.
static char *shorten(const char *text, bool keep_end) {
    const size_t n = strlen(text);
    size_t room = KV_ANSWER_MOST;
    char *copy = NULL;
    if (n <= room) return strdup(text);
    if (keep_end)
        while (room > 0 && ((unsigned char)text[n - room] & 0xC0) == 0x80) room--;
    else
        while (room > 0 && ((unsigned char)text[room] & 0xC0) == 0x80) room--;
    const int printed =
        keep_end
            ? asprintf(&copy, "[%zu bytes before this are not in this page]\n%s", n - room, text + n - room)
            : asprintf(&copy, "%.*s\n[%zu bytes more are not in this page]", (int)room, text, n - room);
    return printed < 0 ? NULL : copy;
}

// ---- Lists ---------------------------------------------------------------------------------------------

// The texts of a list, one behind the other.
static char *join_texts(const json_t *list) {
    size_t room = 1;
    const json_t *entry;
    size_t i;
    json_array_foreach(list, i, entry) room += json_string_length(entry) + 3;
    char *joined = malloc(room), *end = joined;
    if (!joined) return NULL;
    json_array_foreach(list, i, entry) if (json_is_string(entry)) end +=
        sprintf(end, "%s%s", end > joined ? " | " : "", json_string_value(entry));
    *end = '\0';
    return joined;
}

// ---- Multiple choice -----------------------------------------------------------------------------------

enum { MOST_CHOICES = 64 };

static void read_numbers(const json_t *list, double *numbers, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const json_t *number = json_array_get(list, (size_t)i);
        numbers[i] = json_is_number(number) ? json_number_value(number) : NAN;
    }
}

// Which choice the task's first metric takes; -1: the record is none of them.
static int64_t chosen(const kv_result_task *task, const json_t *record, double *values, int64_t n) {
    const char *key = !strcmp(task->metrics[0], "acc_norm")    ? "characters"
                      : !strcmp(task->metrics[0], "acc_bytes") ? "bytes"
                                                               : NULL;
    double numbers[MOST_CHOICES]; // what log-likelihoods are divided by
    if (n < 1 || n > MOST_CHOICES || json_array_size(json_object_get(record, "loglikelihoods")) != (size_t)n)
        return -1;
    read_numbers(json_object_get(record, "loglikelihoods"), values, n);
    if (key) read_numbers(json_object_get(record, key), numbers, n);
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        if (!key) numbers[i] = 1;
        if (!isfinite(values[i]) || !(numbers[i] >= 0)) return -1;
        if (best < 0 || values[i] / numbers[i] > values[best] / numbers[best]) best = i;
    }
    return best;
}

// A to Z, numbers behind that.
static void put_letter(FILE *out, size_t choice) {
    if (choice < 26)
        fputc('A' + (int)choice, out);
    else
        fprintf(out, "%zu", choice + 1);
}

// The chosen one, then what each of them got.
static char *say_choice(const kv_result_task *task, const json_t *record) {
    const json_t *choices = json_object_get(record, "choices");
    const int64_t n = (int64_t)json_array_size(choices);
    double values[MOST_CHOICES];
    const int64_t best = chosen(task, record, values, n);
    char *said = NULL;
    size_t size;
    if (best < 0) return strdup("");
    FILE *out = open_memstream(&said, &size);
    if (!out) return NULL;
    const char *text = json_string_value(json_array_get(choices, (size_t)best));
    fprintf(out, "%s\n", text ? text : "");
    for (int64_t i = 0; i < n; i++) {
        fputs(i ? "  " : "log p: ", out);
        put_letter(out, (size_t)i);
        fprintf(out, " %.3f", values[i]);
    }
    fclose(out);
    return said;
}

static char *list_choices(const char *context, const json_t *choices) {
    char *said = NULL;
    size_t size, i;
    const json_t *entry;
    FILE *out = open_memstream(&said, &size);
    if (!out) return NULL;
    fputs(context ? context : "", out);
    json_array_foreach(choices, i, entry) {
        fputc('\n', out);
        put_letter(out, i);
        fprintf(out, ": %s", json_is_string(entry) ? json_string_value(entry) : "");
    }
    fclose(out);
    return said;
}

// ---- Text that is scored -------------------------------------------------------------------------------

static void say_nats(FILE *out, const json_t *record, const char *key, const char *count) {
    const double nats = json_number_value(json_object_get(record, key));
    const double tokens = json_number_value(json_object_get(record, count));
    if (tokens > 0) fprintf(out, "%s: %.2f nats, %.4f a token of %.0f\n", key, nats, nats / tokens, tokens);
}

static char *say_scores(const json_t *record) {
    char *said = NULL;
    size_t size;
    FILE *out = open_memstream(&said, &size);
    if (!out) return NULL;
    say_nats(out, record, "tail", "tail_tokens");
    say_nats(out, record, "whole", "whole_tokens");
    fclose(out);
    return said;
}

// ---- All of it -----------------------------------------------------------------------------------------

static char *say_head(const json_t *record, int64_t unit) {
    static const char *const keys[] = {"task_id", "id", "item", NULL};
    const json_t *sample = json_object_get(record, "sample"), *first = json_object_get(record, "first"),
                 *length = json_object_get(record, "length"), *depth = json_object_get(record, "depth");
    const char *name = first_text(record, keys);
    char number[48], more[96] = "", *head = NULL;
    snprintf(number, sizeof number, json_is_integer(first) ? "window from token %lld" : "question %lld",
             json_is_integer(first) ? (long long)json_integer_value(first) : (long long)unit + 1);
    if (json_is_integer(sample))
        snprintf(more, sizeof more, ", sample %lld", (long long)json_integer_value(sample) + 1);
    if (json_is_integer(length) && json_is_number(depth))
        snprintf(more, sizeof more, ": %lld tokens, depth %.3g", (long long)json_integer_value(length),
                 json_number_value(depth));
    return asprintf(&head, "%.*s%s", KV_HEAD(name ? name : number, 200), more) < 0 ? NULL : head;
}

static char *say_prompt(const json_t *record) {
    static const char *const keys[] = {"prompt", "context", "question", NULL};
    const json_t *choices = json_object_get(record, "choices");
    const char *prompt = first_text(record, keys);
    char *all = choices ? list_choices(prompt, choices) : strdup(prompt ? prompt : ""), *cut = NULL;
    if (all) cut = shorten(all, true);
    free(all);
    return cut;
}

static char *say_expected(const json_t *record) {
    const json_t *choices = json_object_get(record, "choices"), *gold = json_object_get(record, "gold"),
                 *answers = json_object_get(record, "answers");
    const char *text = text_at(record, "answer");
    char *all = NULL, *cut = NULL;
    if (choices && json_is_integer(gold) && json_integer_value(gold) >= 0)
        text = json_string_value(json_array_get(choices, (size_t)json_integer_value(gold)));
    all = json_is_array(answers) ? join_texts(answers) : strdup(text ? text : "");
    if (all) cut = shorten(all, false);
    free(all);
    return cut;
}

static char *say_answer(const kv_result_task *task, const json_t *record) {
    static const char *const keys[] = {"generation", "completion", NULL};
    const char *text = first_text(record, keys), *result = text_at(record, "result"),
               *redefines = text_at(record, KV_REDEFINES);
    char *all = NULL, *cut = NULL;
    if (text && (result || redefines)) {
        if (asprintf(&all, "%s\n%s%s%s%s", text, result ? "→ " : "", result ? result : "",
                     redefines ? "\nredefines what its tests rely on: " : "", redefines ? redefines : "") < 0)
            all = NULL;
    } else if (text)
        all = strdup(text);
    else if (json_object_get(record, "choices"))
        all = say_choice(task, record);
    else
        all = say_scores(record);
    if (all) cut = shorten(all, false);
    free(all);
    return cut;
}

static int verdict_of(const kv_result_task *task, const json_t *record) {
    const char *verdict = text_at(record, "verdict");
    const json_t *passed = json_object_get(record, "passed"),
                 *metric = task->n_metrics ? json_object_get(record, task->metrics[0]) : NULL;
    if (verdict) return !strcmp(verdict, "correct");
    if (json_is_boolean(passed)) return json_is_true(passed);
    return json_is_integer(metric) ? json_integer_value(metric) != 0 : -1;
}

static json_t *parse(const char *text) {
    return text ? kv_json_parse(text, strlen(text), JSON_ALLOW_NUL, NULL) : NULL;
}

int kv_answer_right(const kv_result_task *task, const char *text) {
    json_t *record = parse(text);
    const int right = verdict_of(task, record);
    json_decref(record);
    return right;
}

bool kv_answer_read(const kv_result_task *task, int64_t unit, const char *text, kv_answer *answer) {
    json_t *record = parse(text);
    *answer = (kv_answer){.head = say_head(record, unit),
                          .prompt = say_prompt(record),
                          .expected = say_expected(record),
                          .text = say_answer(task, record),
                          .right = verdict_of(task, record)};
    json_decref(record);
    if (answer->head && answer->prompt && answer->expected && answer->text) return true;
    kv_answer_free(answer);
    return false;
}

void kv_answer_free(kv_answer *answer) {
    free(answer->head);
    free(answer->prompt);
    free(answer->expected);
    free(answer->text);
    *answer = (kv_answer){.right = -1};
}
