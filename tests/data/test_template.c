// Templates of prompts: what they put in, and what is said of a wrong one or of a line that has not what it names.
#include "tests/support/corpus.h"

#include "data/benchmark/template.h"
#include "data/file/json_value.h"

#include <stdlib.h>
#include <string.h>

static const char line[] =
    "{\"q\": \"Où?\", \"n\": 12, \"x\": 0.1, \"y\": 5.0, \"z\": 1e-9, \"yes\": true, \"none\": null, \"empty\": \"\", "
    "\"a\": {\"value\": \"b\", \"deep\": [{\"er\": \"c\"}]}, \"l\": [\"one\", 2, \"three\"], \"no\": [], "
    "\"mixed\": [\"a\", [1]], \"two words\": \"w\", \"nan\": NaN, \"long\": 12345678901234567890}";

static json_t *parsed(void) {
    json_t *object = kv_json_parse(line, strlen(line), 0, NULL);
    assert_non_null(object);
    return object;
}

static kv_template *make(const char *text) {
    kv_template *made;
    kv_error err = {0};
    if (kv_template_parse(text, &made, &err)) fail_msg("%s: %s", text, err.message);
    return made;
}

static void fields_are_put_in(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"Q: {q}\nA:", "Q: Où?\nA:"},
        {"", ""},
        {"no field", "no field"},
        {"{q}", "Où?"},
        {"{q}{n}{q}", "Où?12Où?"},
        {"{{{q}}} {{q}} }}{{", "{Où?} {q} }{"},
        {"{a.value} {a.deep[0].er}", "b c"},
        {"{l[0]}, {l[1]}, {l[2]}, {l[-1]}, {l[-3]}", "one, 2, three, three, one"},
        {"{two words}", "w"},
        {"<{empty}>", "<>"},
        {"{n} {x} {y} {z} {yes}", "12 0.1 5.0 1e-09 true"},
    };
    json_t *object = parsed();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_template *made = make(cases[i][0]);
        kv_bytes text = {0};
        kv_error err = {0};
        if (kv_template_render(made, object, &text, &err)) fail_msg("%s: %s", cases[i][0], err.message);
        assert_int_equal(text.length, strlen(cases[i][1]));
        assert_memory_equal(text.length ? text.data : "", cases[i][1], text.length);
        kv_bytes_free(&text);
        kv_template_free(made);
    }
    json_decref(object);
}

static void wrong_templates(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"Q: {question", "character 4: found `{` that nothing closes"},
        {"{a.", "character 4: expected the name of a field"},
        {"Où: }", "character 5: found `}` without a field before it"}, // characters, not bytes
        {"{}", "character 2: expected the name of a field, or `{{` for a brace"},
        {"{a..b}", "character 4: expected the name of a field"},
        {"{a[}", "character 3: expected the number of a list's entry"},
        {"{a[x]}", "character 3: expected the number"},
        {"{a[0}", "character 3: expected the number"},
        {"{a[99999999999999999999]}", "character 3: expected the number"},
        {"{a[0]b}", "character 6: expected `}`, `.` or `[`"},
        {"{a{b}}", "character 3: expected `}`, `.` or `[`"},
        {"{[0]}", "character 2: expected the name of a field"},
        {"{{a}", "character 4: found `}` without a field"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_template *made;
        kv_error err = {0};
        assert_int_equal(kv_template_parse(cases[i][0], &made, &err), KV_ERR_FORMAT);
        assert_null(made);
        if (!strstr(err.message, cases[i][1])) fail_msg("%s: %s", cases[i][0], err.message);
    }
    kv_template_free(NULL);
}

static void what_a_line_lacks(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{who}", "there is no field \"who\""},
        {"{who.is}", "there is no field \"who\""},
        {"{a.who}", "{a.who}: there is no field \"who\" in it"},
        {"{q.value}", "{q.value}: found a string, expected an object"},
        {"{q[0]}", "{q[0]}: found a string, expected a list"},
        {"{a[0]}", "{a[0]}: found an object, expected a list"},
        {"{l[3]}", "{l[3]}: there is no entry [3] in a list of 3"},
        {"{l[-4]}", "{l[-4]}: there is no entry [-4] in a list of 3"},
        {"{no[-1]}", "there is no entry [-1] in a list of 0"},
        {"{l.first}", "{l.first}: found a list, expected an object"},
        {"{none}", "{none} is null, expected text or a number"},
        {"{nan}", "{nan} is NaN, expected text or a number"},
        {"{nan.a}", "{nan.a}: found NaN, expected an object"},
        {"{long}", "{long} is a number that may have lost digits, expected it as text"},
        {"<{l}>", "{l} is a list, expected text or a number"},
        {"{a}", "{a} is an object, expected text or a number"},
    };
    json_t *object = parsed();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_template *made = make(cases[i][0]);
        kv_bytes text = {0};
        kv_error err = {0};
        assert_int_equal(kv_template_render(made, object, &text, &err), KV_ERR_FORMAT);
        if (!strstr(err.message, cases[i][1])) fail_msg("%s: %s", cases[i][0], err.message);
        kv_bytes_free(&text);
        kv_template_free(made);
    }
    json_decref(object);
}

static void lists_of_texts(void **state) {
    (void)state;
    static const struct {
        const char *text, *items[3];
        int64_t n;
    } cases[] = {{"{l}", {"one", "2", "three"}, 3},
                 {"{no}", {NULL}, 0},
                 {"{q}", {"Où?"}, 1},
                 {"{a.value}!", {"b!"}, 1},
                 {"{l[0]}", {"one"}, 1},
                 {"plain", {"plain"}, 1},
                 {"", {""}, 1}};
    json_t *object = parsed();
    kv_texts all = {0};
    kv_error err = {0};
    int64_t before = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_template *made = make(cases[i].text);
        if (kv_template_render_all(made, object, &all, &err)) fail_msg("%s", err.message);
        assert_int_equal(all.n, before + cases[i].n);
        for (int64_t t = 0; t < cases[i].n; t++)
            assert_string_equal(all.items[before + t], cases[i].items[t]);
        before = all.n;
        kv_template_free(made);
    }
    kv_template *made = make("{mixed}");
    assert_int_equal(kv_template_render_all(made, object, &all, &err), KV_ERR_FORMAT);
    assert_string_equal(err.message, "{mixed[1]} is a list, expected text or a number");
    kv_template_free(made);
    made = make(" {l}"); // something stands around it
    assert_int_equal(kv_template_render_all(made, object, &all, &err), KV_ERR_FORMAT);
    kv_template_free(made);
    kv_texts_free(&all);
    json_decref(object);
}

static void values_of_lone_fields(void **state) {
    (void)state;
    json_t *object = parsed();
    const json_t *value;
    kv_template *made = make("{n}");
    assert_int_equal(kv_template_value(made, object, &value, NULL), KV_OK);
    assert_int_equal(json_integer_value(value), 12);
    kv_template_free(made);
    made = make("{n} ");
    assert_int_equal(kv_template_value(made, object, &value, NULL), KV_OK);
    assert_null(value);
    kv_template_free(made);
    json_decref(object);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_put_in),     cmocka_unit_test(wrong_templates),
        cmocka_unit_test(what_a_line_lacks),     cmocka_unit_test(lists_of_texts),
        cmocka_unit_test(values_of_lone_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
