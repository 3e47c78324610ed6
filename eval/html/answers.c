// Answers to one question stand side by side, so all systems of a task have the same ones in the page: first those of the first
// sample of each question, then those of the second, up to the limit.
#include "eval/html/answers.h"

#include "data/system/console.h"
#include "eval/html/record.h"
#include "eval/html/tables.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// So many questions stand in the page as they are, with the answers of so many systems.
enum { SHOWN_FIRST = 3, SHOWN_SYSTEMS = 12 };

static const kv_metric *metric_of(const kv_result_task *task) {
    return kv_metric_of(task->metrics[0]);
}

// The unit that stands at place number `rank`.
static int64_t unit_at(const kv_result_task *task, int64_t rank) {
    const int64_t samples =
        task->n_items > 0 && task->n_units > task->n_items ? task->n_units / task->n_items : 1;
    const int64_t items = task->n_units / samples;
    return rank < items * samples ? rank % items * samples + rank / items : rank;
}

static const char *record_of(const kv_results *r, int64_t system, int64_t task, int64_t unit) {
    const kv_outcome *o = kv_results_outcome(r, system, task);
    return o->records ? o->records[unit] : NULL;
}

static bool has_answers(const kv_results *r, int64_t system, int64_t task) {
    return kv_results_outcome(r, system, task)->records != NULL;
}

// ---- How many ------------------------------------------------------------------------------------------

static size_t shown_bytes(const char *record) {
    const size_t n = record ? strlen(record) : 0;
    return n < 2 * KV_ANSWER_MOST ? n : 2 * KV_ANSWER_MOST;
}

// As many of each system and task as all together fit.
static int64_t fitting(const kv_results *r) {
    size_t bytes = 0;
    for (int64_t rank = 0; rank < KV_ANSWERS_DEFAULT; rank++) {
        for (int64_t t = 0; t < r->n_tasks; t++)
            for (int64_t s = 0; s < r->n_systems && rank < r->tasks[t].n_units; s++)
                bytes += shown_bytes(record_of(r, s, t, unit_at(&r->tasks[t], rank)));
        if (bytes > KV_ANSWERS_BYTES) return rank;
    }
    return KV_ANSWERS_DEFAULT;
}

// ---- For the script ------------------------------------------------------------------------------------

// What is asked, of the first system that has a record of it: [head, prompt, expected].
static json_t *question(const kv_results *r, int64_t task, int64_t unit) {
    const char *record = NULL;
    kv_answer answer;
    for (int64_t s = 0; s < r->n_systems && !record; s++) record = record_of(r, s, task, unit);
    if (!kv_answer_read(&r->tasks[task], unit, record, &answer)) return NULL;
    json_t *list = json_array();
    int failed = json_array_append_new(list, kv_html_string(answer.head));
    failed |= json_array_append_new(list, kv_html_string(answer.prompt));
    failed |= json_array_append_new(list, kv_html_string(answer.expected));
    kv_answer_free(&answer);
    if (!failed) return list;
    json_decref(list);
    return NULL;
}

// The value of the first metric, where a record itself is neither right nor wrong.
static json_t *value_of(const kv_results *r, int64_t system, int64_t task, int64_t unit) {
    const kv_outcome *o = kv_results_outcome(r, system, task);
    const kv_result_task *t = &r->tasks[task];
    if (!o->values || t->n_units != t->n_items || !isfinite(o->values[unit])) return json_null();
    return json_real(kv_metric_score(metric_of(t), o->values[unit]));
}

static json_t *answers_of(const kv_results *r, int64_t system, int64_t task, int64_t n) {
    json_t *texts = json_array(), *verdicts = json_array(), *all = json_object();
    int failed = !texts || !verdicts || !all;
    for (int64_t rank = 0; rank < n && !failed; rank++) {
        const int64_t unit = unit_at(&r->tasks[task], rank);
        kv_answer answer;
        failed = !kv_answer_read(&r->tasks[task], unit, record_of(r, system, task, unit), &answer);
        if (failed) break;
        failed |= json_array_append_new(texts, kv_html_string(answer.text));
        failed |= json_array_append_new(verdicts, answer.right < 0 ? value_of(r, system, task, unit)
                                                                   : json_integer(answer.right));
        kv_answer_free(&answer);
    }
    failed |= json_object_set_new(all, "system", json_integer(system));
    failed |= json_object_set(all, "texts", texts);
    failed |= json_object_set(all, "verdicts", verdicts);
    json_decref(texts);
    json_decref(verdicts);
    if (!failed) return all;
    json_decref(all);
    return NULL;
}

static json_t *task_data(const kv_results *r, int64_t task, int64_t n) {
    json_t *questions = json_array(), *systems = json_array(), *all = json_object();
    int failed = !questions || !systems || !all;
    for (int64_t rank = 0; rank < n && !failed; rank++)
        failed |= json_array_append_new(questions, question(r, task, unit_at(&r->tasks[task], rank)));
    for (int64_t s = 0; s < r->n_systems && !failed && !kv_console_interrupted(); s++)
        if (has_answers(r, s, task)) failed |= json_array_append_new(systems, answers_of(r, s, task, n));
    failed |= json_object_set_new(all, "share", json_boolean(metric_of(&r->tasks[task])->share));
    failed |= json_object_set_new(all, "total", json_integer(r->tasks[task].n_units));
    failed |= json_object_set(all, "questions", questions);
    failed |= json_object_set(all, "systems", systems);
    json_decref(questions);
    json_decref(systems);
    if (!failed) return all;
    json_decref(all);
    return NULL;
}

static void put_names(kv_html *html, const kv_results *r) {
    json_t *systems = json_array(), *tasks = json_array(), *all = json_object();
    int failed = !systems || !tasks || !all;
    for (int64_t s = 0; s < r->n_systems; s++)
        failed |= json_array_append_new(systems, kv_html_string(r->systems[s].name));
    for (int64_t t = 0; t < r->n_tasks; t++) {
        char *name = NULL;
        if (asprintf(&name, "%s, %s", r->tasks[t].name, r->tasks[t].split) < 0) name = NULL;
        failed |= json_array_append_new(tasks, name ? kv_html_string(name) : NULL);
        free(name);
    }
    failed |= json_object_set(all, "systems", systems);
    failed |= json_object_set(all, "tasks", tasks);
    json_decref(systems);
    json_decref(tasks);
    if (failed) json_decref(all);
    kv_html_data(html, "names", failed ? NULL : all);
}

// ---- As they are ---------------------------------------------------------------------------------------

static void put_verdict(kv_html *html, int right) {
    if (right >= 0)
        kv_html_put(html, "<span class=\"%s\">%s</span>", right ? "right" : "wrong",
                    right ? "✓ right" : "✗ wrong");
}

static void put_answer(kv_html *html, const kv_results *r, int64_t system, int64_t task, int64_t unit) {
    kv_answer answer;
    if (!kv_answer_read(&r->tasks[task], unit, record_of(r, system, task, unit), &answer)) {
        html->out_of_memory = true;
        return;
    }
    kv_html_put(html, "<div class=\"answer\"><h5>");
    kv_html_text(html, r->systems[system].name);
    kv_html_put(html, " ");
    put_verdict(html, answer.right);
    kv_html_put(html, "</h5><pre>");
    kv_html_lines(html, answer.text);
    kv_html_put(html, "</pre></div>\n");
    kv_answer_free(&answer);
}

static void put_question(kv_html *html, const kv_results *r, int64_t task, int64_t unit) {
    const char *record = NULL;
    kv_answer answer;
    int64_t shown = 0;
    for (int64_t s = 0; s < r->n_systems && !record; s++) record = record_of(r, s, task, unit);
    if (!kv_answer_read(&r->tasks[task], unit, record, &answer)) {
        html->out_of_memory = true;
        return;
    }
    kv_html_put(html, "<article class=\"item\"><h4>");
    kv_html_text(html, answer.head);
    kv_html_put(html, "</h4>");
    if (*answer.prompt) {
        kv_html_put(html, "<pre class=\"prompt\">");
        kv_html_lines(html, answer.prompt);
        kv_html_put(html, "</pre>");
    }
    if (*answer.expected) {
        kv_html_put(html, "<p class=\"expected\">expected: ");
        kv_html_lines(html, answer.expected);
        kv_html_put(html, "</p>");
    }
    kv_html_put(html, "<div class=\"sides\">\n");
    for (int64_t s = 0; s < r->n_systems && shown < SHOWN_SYSTEMS; s++)
        if (has_answers(r, s, task)) {
            put_answer(html, r, s, task, unit);
            shown++;
        }
    kv_html_put(html, "</div></article>\n");
    kv_answer_free(&answer);
}

static void put_first(kv_html *html, const kv_results *r, int64_t task, int64_t most) {
    const kv_result_task *t = &r->tasks[task];
    int64_t n = t->n_units < SHOWN_FIRST ? t->n_units : SHOWN_FIRST;
    if (n > most) n = most;
    kv_html_put(html, "<h3>");
    kv_html_format(html, "%s, %s", t->name, t->split);
    kv_html_put(html, "</h3>\n<p class=\"note\">The first %lld of %lld%s.</p>\n", (long long)n,
                (long long)t->n_units, r->n_systems > SHOWN_SYSTEMS ? ", of the first systems" : "");
    for (int64_t rank = 0; rank < n; rank++) put_question(html, r, task, unit_at(t, rank));
}

// ---- Agreement -----------------------------------------------------------------------------------------

// Units that both answered, by who was right: [the base][the system].
struct agreement {
    int64_t n[2][2];
};

// verdicts[n_systems, n_units]: 1, 0, or -1 where there is none. NULL: out of memory.
static signed char *read_verdicts(const kv_results *r, int64_t task) {
    const int64_t n = r->tasks[task].n_units;
    signed char *verdicts = malloc((size_t)(r->n_systems * n) + 1);
    for (int64_t s = 0; verdicts && s < r->n_systems && !kv_console_interrupted(); s++)
        for (int64_t u = 0; u < n; u++)
            verdicts[s * n + u] = (signed char)kv_answer_right(&r->tasks[task], record_of(r, s, task, u));
    return verdicts;
}

static struct agreement count_agreement(const signed char *base, const signed char *own, int64_t n) {
    struct agreement a = {0};
    for (int64_t u = 0; u < n; u++)
        if (base[u] >= 0 && own[u] >= 0) a.n[base[u]][own[u]]++;
    return a;
}

static void add_agreement(kv_tables *tables, const kv_results *r, int64_t task) {
    static const char *const titles[] = {"both right", "base alone right", "it alone right", "both wrong"};
    static const char *const names[] = {"both_right", "base_right", "own_right", "both_wrong"};
    const int64_t n = r->tasks[task].n_units;
    signed char *verdicts = read_verdicts(r, task);
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "agreement");
    if (!verdicts) kv_tables_fail(tables);
    kv_table_title(table, "%s, %s: of all answers", r->tasks[task].name, r->tasks[task].split);
    kv_table_field(table, "", "system", KV_FIELD_TEXT, "system");
    for (int i = 0; i < 4; i++) kv_table_field(table, "", titles[i], KV_FIELD_WHOLE, names[i]);
    for (int64_t s = 0; verdicts && s < r->n_systems && !kv_console_interrupted(); s++) {
        const int64_t base = r->systems[s].base;
        if (base == s || !has_answers(r, s, task) || !has_answers(r, base, task)) continue;
        const struct agreement a = count_agreement(verdicts + base * n, verdicts + s * n, n);
        kv_table_cell(table, "%s", r->systems[s].name);
        for (int i = 3; i >= 0; i--) kv_table_number(table, "%.0f", 1, (double)a.n[i >> 1][i & 1]);
    }
    free(verdicts);
}

// Of tasks whose answers are right or wrong: what the filter below counts, of all that was asked.
static void put_agreement(kv_html *html, const kv_results *r) {
    kv_tables *tables = kv_tables_create();
    for (int64_t t = 0; t < r->n_tasks && tables; t++)
        if (metric_of(&r->tasks[t])->share) add_agreement(tables, r, t);
    kv_html_put(html,
                "<details id=\"agreement\"><summary>How often each system and its base agree</summary>\n");
    kv_html_tables_named(html, tables, r, "agreement");
    kv_html_put(html, "</details>\n");
    kv_tables_free(tables);
}

// ---- The section ---------------------------------------------------------------------------------------

static void put_systems_not_asked(kv_html *html, const kv_results *r) {
    for (int64_t t = 0; t < r->n_tasks; t++)
        for (int64_t s = 0; s < r->n_systems; s++) {
            const kv_outcome *o = kv_results_outcome(r, s, t);
            if (!o->not_finite) continue;
            kv_html_put(html, "<p class=\"note\">");
            kv_html_format(html, "%s, %s: %s is not finite (%s) and has no answers here.", r->tasks[t].name,
                           r->tasks[t].split, r->systems[s].name, o->not_finite);
            kv_html_put(html, "</p>\n");
        }
}

static void put_left_out(kv_html *html, const kv_results *r, int64_t most) {
    for (int64_t t = 0; t < r->n_tasks; t++) {
        const kv_result_task *task = &r->tasks[t];
        if (task->n_units <= most) continue;
        kv_html_put(html, "<p class=\"note left-out\">");
        kv_html_format(
            html,
            "%s, %s: the first %lld of %lld answers of each system are in this page%s. kveval report --answers %lld "
            "takes all of them; samples/ beside results.h5 has them, too.",
            task->name, task->split, (long long)most, (long long)task->n_units,
            task->n_units > task->n_items ? ", those of the first samples of all questions first" : "",
            (long long)task->n_units);
        kv_html_put(html, "</p>\n");
    }
}

kv_status kv_html_answers(kv_html *html, const kv_results *r, int64_t most, kv_error *err) {
    char id[32];
    if (r->n_tasks == 0) return KV_OK;
    if (most < 0) most = fitting(r);
    kv_html_put(html, "<section id=\"answers\"><h2>Answers side by side</h2>\n");
    put_agreement(html, r);
    put_left_out(html, r, most);
    put_systems_not_asked(html, r);
    kv_html_put(html, "<div id=\"browser\" hidden></div>\n<div id=\"first-answers\">\n");
    for (int64_t t = 0; t < r->n_tasks && most > 0; t++) put_first(html, r, t, most);
    kv_html_put(html, "</div>\n</section>\n");
    put_names(html, r);
    for (int64_t t = 0; t < r->n_tasks && !html->out_of_memory; t++) {
        const int64_t n = r->tasks[t].n_units < most ? r->tasks[t].n_units : most;
        snprintf(id, sizeof id, "answers-%lld", (long long)t);
        kv_html_data(html, id, task_data(r, t, n));
    }
    return html->out_of_memory ? kv_fail(err, KV_ERR_MEMORY, "out of memory for the answers in the page")
                               : KV_OK;
}
