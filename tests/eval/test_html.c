// The page of results (eval/html) as text: that nothing from results is markup, that no number that is none gets into pictures, what
// of the answers is in it, and that it appears whole or not at all. What it does in a browser: tests/programs/test_kveval_page.c.
#include "tests/support/page_results.h"

#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/text/unicode.h"
#include "eval/html/page.h"
#include "eval/html/record.h"
#include "eval/report/output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kv_status write_to(const kv_results *results, int64_t answers, const char *path, kv_error *err) {
    static const char *const sources[] = {PAGE_NASTY};
    kv_tables *tables;
    kv_status status = kv_output_tables(results, &tables, err);
    const kv_html_page page = {.sources = sources,
                               .n_sources = 1,
                               .tables = tables,
                               .curve = {.x = "exact", .y = "accuracy"},
                               .answers = answers};
    if (status == KV_OK) status = kv_html_write(results, &page, path, err);
    kv_tables_free(tables);
    return status;
}

// The page as text; the caller frees it.
static char *page_of(const kv_results *results, int64_t answers, size_t *size) {
    const char *path = test_path(test_dir, "page.html");
    char *text;
    kv_error err = {0};
    if (write_to(results, answers, path, &err)) fail_msg("%s", err.message);
    if (kv_read_file(path, SIZE_MAX / 2, &text, size, &err)) fail_msg("%s", err.message);
    assert_int_equal(strlen(text), *size);
    return text;
}

static char *made_page(int64_t answers) {
    size_t size;
    kv_results r = test_page_results();
    char *page = page_of(&r, answers, &size);
    kv_results_free(&r);
    return page;
}

static int count(const char *text, const char *word) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word)) n++;
    return n;
}

static void expect(const char *page, const char *words) {
    if (!strstr(page, words)) fail_msg("'%s' is not in the page", words);
}

static void expect_none(const char *page, const char *words) {
    const char *at = strstr(page, words);
    if (at) fail_msg("'%s' is in the page: %.80s", words, at > page + 40 ? at - 40 : page);
}

// ---- What comes from results ---------------------------------------------------------------------------

static void nothing_from_results_is_markup(void **state) {
    (void)state;
    char *page = made_page(-1);
    expect_none(page, "id=\"owned\"");
    expect_none(page, "<!--");
    expect_none(page, "\xE2\x80\xA8");
    expect_none(page, "\x01");
    assert_int_equal(kv_utf8_valid(page, strlen(page)), strlen(page));
    // Names, a task's answers each, and the page's own.
    assert_int_equal(count(page, "<script"), 1 + PAGE_TASKS + 1);
    assert_int_equal(count(page, "</script"), 1 + PAGE_TASKS + 1);
    assert_int_equal(count(page, "<style"), 1);
    expect(page, "&lt;/script&gt;&lt;b id=&quot;owned&quot;&gt;&#39;&amp;amp;");
    expect(page, "atlas &amp; &lt;co&gt;");
    expect(page, "question 3 &lt;i&gt;");
    expect(page, "output: &lt;out&gt;");
    free(page);
}

static void nothing_leads_out_of_it(void **state) {
    (void)state;
    char *page = made_page(-1);
    static const char *const ways[] = {"http:",   "https:",  "src=",   "@import",   "url(", "<link",
                                       "<iframe", "<object", "fetch(", "innerHTML", "eval("};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) expect_none(page, ways[i]);
    for (const char *at = page; (at = strstr(at, "href=")); at++) assert_memory_equal(at, "href=\"#", 7);
    expect(page, "default-src 'none'");
    free(page);
}

// Paths and places hold finite numbers, whatever figures are.
static void pictures_hold_numbers(void **state) {
    (void)state;
    char *page = made_page(-1);
    for (const char *at = page; (at = strstr(at, "<svg ")); at++) {
        const char *end = strstr(at, "</svg>");
        assert_non_null(end);
        for (const char *c = at; c < end; c++)
            if (!strncmp(c, "nan", 3) || !strncmp(c, "inf", 3))
                if (c[-1] == ',' || c[-1] == '(' || c[-1] == '"' || c[-1] == 'M' || c[-1] == 'L' ||
                    c[-1] == '-')
                    fail_msg("no number in a picture: %.60s", c - 30);
    }
    // Families look as they do everywhere (eval/plot/families.csv).
    expect(page, "fill=\"#333333\"");
    expect(page, "fill=\"#E69F00\"");
    expect(page, "<path class=\"front\"");
    free(page);
}

static void all_tables_are_in_it(void **state) {
    (void)state;
    char *page = made_page(-1);
    static const char *const titles[] = {"6 items",
                                         "all tasks, first metric of each",
                                         "the best of each family within a budget",
                                         "predicted caches against",
                                         "by the length of the prompt",
                                         "of all answers"};
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++) expect(page, titles[i]);
    expect(page, "not finite");
    expect(page, "∞");
    free(page);
}

static void says_what_made_it(void **state) {
    (void)state;
    char *page = made_page(0);
    expect(page, "<dt>commit</dt><dd>abc &lt;i&gt;</dd>");
    expect(page, "<dt>threads</dt><dd>3</dd>");
    expect(page, "<dt>memory</dt><dd>16 GB</dd>");
    expect(page, "<dt>machine</dt><dd>unknown</dd>");
    free(page);
    size_t size;
    kv_results r = test_page_results();
    free(r.made_by[0]);
    r.n_made_by = 0; // as in older files
    page = page_of(&r, 0, &size);
    expect(page, "<dt>threads</dt><dd>unknown</dd>");
    free(page);
    kv_results_free(&r);
}

// ---- Answers -------------------------------------------------------------------------------------------

static json_t *data_of(const char *page, int task) {
    char opening[80];
    snprintf(opening, sizeof opening, "<script type=\"application/json\" id=\"answers-%d\">", task);
    const char *begin = strstr(page, opening);
    assert_non_null(begin);
    begin += strlen(opening);
    json_t *data = kv_json_parse(begin, (size_t)(strstr(begin, "</script>") - begin), 0, NULL);
    assert_non_null(data);
    return data;
}

static const char *text_of(const json_t *data, const char *key, int i, int j) {
    return json_string_value(
        json_array_get(json_array_get(json_object_get(data, key), (size_t)i), (size_t)j));
}

static void so_many_answers_as_are_wanted(void **state) {
    (void)state;
    char *page = made_page(3);
    json_t *questions = data_of(page, PAGE_QUESTIONS), *code = data_of(page, PAGE_CODE);
    assert_int_equal(json_array_size(json_object_get(questions, "questions")), 3);
    assert_int_equal(json_integer_value(json_object_get(questions, "total")), 6);
    assert_string_equal(text_of(questions, "questions", 1, 0), "question 1");
    assert_string_equal(text_of(questions, "questions", 1, 2), "number 1 | 1");
    expect(page, "the first 3 of 6 answers of each system are in this page. kveval report --answers 6");
    // The first sample of each program before the second of any.
    assert_string_equal(text_of(code, "questions", 0, 0), "Made/0, sample 1");
    assert_string_equal(text_of(code, "questions", 2, 0), "Made/2, sample 1");
    json_decref(questions);
    json_decref(code);
    free(page);
    page = made_page(0);
    questions = data_of(page, PAGE_QUESTIONS);
    assert_int_equal(json_array_size(json_object_get(questions, "questions")), 0);
    expect_none(page, "class=\"item\"");
    json_decref(questions);
    free(page);
    page = made_page(-1);
    expect_none(page, "left-out");
    free(page);
}

// Both right, base alone, it alone, both wrong: 2, 2, 1, 1 of six questions.
static void agreement_counts_all_answers(void **state) {
    (void)state;
    char *page = made_page(1), *row = strstr(page, "id=\"agreement\"");
    assert_non_null(row);
    row = strstr(row, "<td class=\"text key\">ours</td>");
    assert_non_null(row);
    expect(
        row,
        "<td class=\"text key\">ours</td><td class=\"\" data-sort=\"2\">2</td><td class=\"\" data-sort=\"2\">2</td>"
        "<td class=\"\" data-sort=\"1\">1</td><td class=\"\" data-sort=\"1\">1</td></tr>");
    free(page);
}

static void long_answers_say_what_is_missing(void **state) {
    (void)state;
    kv_results r = test_page_results();
    enum { LONG = 3 * KV_ANSWER_MOST };
    char *record = malloc(2 * LONG + 256), *end;
    assert_non_null(record);
    end = record + sprintf(record, "{\"id\":\"long\",\"verdict\":\"wrong\",\"prompt\":\"");
    for (int i = 0; i < LONG / 2; i++) end = stpcpy(end, "ü");
    end = stpcpy(end, "the end\",\"generation\":\"the beginning");
    for (int i = 0; i < LONG / 2; i++) end = stpcpy(end, "ü");
    strcpy(end, "\"}");
    kv_answer answer;
    assert_true(kv_answer_read(&r.tasks[PAGE_QUESTIONS], 0, record, &answer));
    assert_in_range(strlen(answer.prompt), KV_ANSWER_MOST, KV_ANSWER_MOST + 100);
    assert_in_range(strlen(answer.text), KV_ANSWER_MOST, KV_ANSWER_MOST + 100);
    assert_int_equal(kv_utf8_valid(answer.prompt, strlen(answer.prompt)), strlen(answer.prompt));
    assert_int_equal(kv_utf8_valid(answer.text, strlen(answer.text)), strlen(answer.text));
    assert_non_null(strstr(answer.prompt, "bytes before this are not in this page]\n"));
    assert_non_null(strstr(answer.prompt, "the end"));
    assert_memory_equal(answer.text, "the beginning", 13);
    assert_non_null(strstr(answer.text, "bytes more are not in this page]"));
    assert_int_equal(answer.right, 0);
    kv_answer_free(&answer);
    free(record);
    // Records that are none say nothing.
    static const char *const odd[] = {NULL,
                                      "",
                                      "{}",
                                      "[1]",
                                      "{\"verdict\":7,\"choices\":3,\"answers\":\"x\",\"tail\":\"y\"}",
                                      "{\"choices\":[1],\"loglikelihoods\":[\"a\"],\"gold\":-4}",
                                      "{\"prompt\":\"a\\u0000b\"}"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        assert_true(kv_answer_read(&r.tasks[PAGE_CHOICE], 3, odd[i], &answer));
        assert_int_equal(answer.right, -1);
        assert_string_equal(answer.text, "");
        kv_answer_free(&answer);
    }
    kv_results_free(&r);
}

static void many_choices_and_a_long_name_are_text(void **state) {
    (void)state;
    enum { MANY = 70 };
    kv_results r = test_page_results();
    char record[2048], *end = record + sprintf(record, "{\"id\":\"x");
    for (int i = 0; i < 150; i++) end = stpcpy(end, "ü");
    end = stpcpy(end, "\",\"context\":\"which?\",\"choices\":[\"first\"");
    for (int i = 1; i < MANY; i++) end += sprintf(end, ",\"c%d\"", i);
    strcpy(end, "]}");
    kv_answer answer;
    assert_true(kv_answer_read(&r.tasks[PAGE_CHOICE], 0, record, &answer));
    assert_int_equal(kv_utf8_valid(answer.head, strlen(answer.head)), strlen(answer.head));
    assert_int_equal(kv_utf8_valid(answer.prompt, strlen(answer.prompt)), strlen(answer.prompt));
    assert_non_null(strstr(answer.prompt, "\nA: first\n"));
    assert_non_null(strstr(answer.prompt, "\nZ: c25\n27: c26\n"));
    kv_answer_free(&answer);
    kv_results_free(&r);
}

// ---- The file ------------------------------------------------------------------------------------------

static void whole_or_not_at_all(void **state) {
    (void)state;
    kv_error err = {0};
    kv_results r = test_page_results();
    const char *path = test_path(test_dir, "limited.html");
    test_limit_file_size(4096);
    const kv_status status = write_to(&r, -1, path, &err);
    test_limit_file_size(-1);
    assert_int_equal(status, KV_ERR_IO);
    assert_non_null(strstr(err.message, path));
    assert_false(kv_path_exists(path));
    assert_int_equal(write_to(&r, -1, "/proc/all.html", &err), KV_ERR_IO);
    kv_results_free(&r);
}

static void times_alone_are_a_page(void **state) {
    (void)state;
    size_t size;
    kv_results r;
    assert_int_equal(kv_results_init(&r, 1, 0, NULL), KV_OK);
    test_name_system(&r, 0, "alone", "base", "a", 1);
    kv_timing *t = kv_results_add_timing(&r, 16, 1, 1);
    assert_non_null(t);
    t->seconds[0] = 0.5, t->spread[0] = 0, t->reduction[0] = 1, t->samples[0] = 0.5;
    char *page = page_of(&r, -1, &size);
    expect(page, "500.00");
    expect_none(page, "id=\"curve\"");
    expect_none(page, "id=\"answers\"");
    free(page);
    kv_results_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_from_results_is_markup),
                                       cmocka_unit_test(nothing_leads_out_of_it),
                                       cmocka_unit_test(pictures_hold_numbers),
                                       cmocka_unit_test(all_tables_are_in_it),
                                       cmocka_unit_test(says_what_made_it),
                                       cmocka_unit_test(so_many_answers_as_are_wanted),
                                       cmocka_unit_test(agreement_counts_all_answers),
                                       cmocka_unit_test(long_answers_say_what_is_missing),
                                       cmocka_unit_test(many_choices_and_a_long_name_are_text),
                                       cmocka_unit_test(whole_or_not_at_all),
                                       cmocka_unit_test(times_alone_are_a_page)};
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
