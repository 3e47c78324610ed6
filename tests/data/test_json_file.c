// JSON as other programs write it: what Python's json reads is read, to the same values, and what it refuses is refused; what no
// value of jansson's holds is of no kind that a reader takes, and is called by its name.
#include "tests/support/corpus.h"

#include "data/file/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// What `text` is to kv_json_parse, as jansson writes it; NULL: an error.
static char *parsed(const char *text) {
    char *out = NULL;
    json_t *value = kv_json_parse(text, strlen(text), JSON_DECODE_ANY, NULL);
    if (value) out = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(12));
    json_decref(value);
    return out;
}

static void large_whole_numbers(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        // What 64 bits hold stays whole.
        {"[0,-7,9223372036854775807]", "[0,-7,9223372036854775807]"},
        {"[9223372036854775808,-99999999999999999999]", "[9.22337203685e18,-1e20]"},
        {"{\"model_max_length\":1000000000000000019884624838656}", "{\"model_max_length\":1e30}"},
        // Fractions, exponents and texts are left alone.
        {"[0.12345678901234567890123,12345678901234567890.5,1e0000000000000000000002]",
         "[0.123456789012,1.23456789012e19,100.0]"},
        {"[\"99999999999999999999\",\"\\\"99999999999999999999\",\"\\\\\",99999999999999999999]",
         "[\"99999999999999999999\",\"\\\"99999999999999999999\",\"\\\\\",1e20]"},
        {"99999999999999999999", "1e20"},
        {"[99999999999999999999", NULL},
        {"[\"99999999999999999999", NULL},
        {"[00000000000000000000001]", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *found = parsed(cases[i][0]);
        if (!cases[i][1])
            assert_null(found);
        else if (!found || strcmp(found, cases[i][1]) != 0)
            fail_msg("%s: %s", cases[i][0], found ? found : "refused");
        free(found);
    }
}

// ---- As Python reads it --------------------------------------------------------------------------------

// "7B7D {}": hexadecimal bytes, and what they are; "-": refused.
static void expect_as_python(char *line) {
    char *expected = strchr(line, ' ');
    assert_non_null(expected);
    *expected++ = '\0';
    expected[strcspn(expected, "\n")] = '\0';
    const size_t n = strlen(line) / 2;
    char *text = test_alloc((int64_t)n + 1, 1); // of just that size: nothing may be read behind it
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(line + 2 * i, "%2x", &byte), 1);
        text[i] = (char)byte;
    }
    text = realloc(text, n);
    assert_non_null(text);
    json_error_t why;
    json_t *value = kv_json_parse(text, n, JSON_DECODE_ANY, &why);
    char *found = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII) : strdup("-");
    if (strcasecmp(found, expected) != 0)
        fail_msg("%.*s\nis      %s\nexpected %s", (int)(n < 300 ? n : 300), text, found, expected);
    if (!value) assert_true(why.line >= 1 && why.position >= 0 && (size_t)why.position <= n);
    free(found);
    json_decref(value);
    free(text);
}

static void as_python_does(void **state) {
    (void)state;
    char command[512], *line = NULL;
    snprintf(command, sizeof command, "python3 %s 1 4000", test_fixture("data/python_json.py"));
    FILE *python = popen(command, "r");
    assert_non_null(python);
    size_t room = 0;
    int64_t n = 0, refused = 0;
    for (; getline(&line, &room, python) > 0; n++) {
        refused += strstr(line, " -\n") != NULL;
        expect_as_python(line);
    }
    free(line);
    assert_int_equal(pclose(python), 0);
    assert_true(n > 8000 && refused > 3000 && n - refused > 3000);
}

// ---- What there is no value for ------------------------------------------------------------------------

static void odd_values_are_of_no_kind(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"NaN", "NaN"},
                                           {"-Infinity", "-Infinity"},
                                           {"1e999", "1e999, too large a number"},
                                           {"\"\\uDE00\"", "text with U+DE00, half a character"},
                                           {"\"a\\u0000b\"", "text with a NUL character"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_json_file file = {.path = "x.json"};
        char text[128];
        kv_error err;
        int64_t whole = 7, list[1];
        double real = 7;
        bool flag = true;
        snprintf(text, sizeof text, "{\"k\": %s, \"list\": [%s], \"after\": 1}", cases[i][0], cases[i][0]);
        file.root = kv_json_parse(text, strlen(text), 0, NULL);
        assert_true(kv_json_is_odd(json_object_get(file.root, "k")));
        assert_false(kv_json_is_odd(file.root));
        assert_string_equal(kv_json_kind(json_object_get(file.root, "k")), cases[i][1]);
        const kv_status wrong[] = {kv_json_int(&file, "k", 0, 9, &whole, &err),
                                   kv_json_real(&file, "k", -1e300, 1e300, &real, &err),
                                   kv_json_bool(&file, "k", &flag, &err)};
        for (int w = 0; w < 3; w++) assert_int_equal(wrong[w], KV_ERR_FORMAT);
        snprintf(text, sizeof text, "x.json: 'k' is %s, expected true or false", cases[i][1]);
        assert_string_equal(err.message, text);
        assert_int_equal(kv_json_ints(&file, "list", 1, 0, 9, list, &err), KV_ERR_FORMAT);
        snprintf(text, sizeof text, "x.json: 'list'[0] is %s, expected", cases[i][1]);
        assert_non_null(strstr(err.message, text));
        assert_int_equal(kv_json_int(&file, "after", 0, 9, &whole, &err), KV_OK);
        assert_true(whole == 1 && real == 7 && flag);
        char *shown = kv_json_show(json_object_get(file.root, "list")); // within other values as well
        snprintf(text, sizeof text, "[\"%s\"]", cases[i][1]);
        assert_string_equal(shown, text);
        free(shown);
        kv_json_spell_out(file.root);
        assert_string_equal(json_string_value(json_object_get(file.root, "k")), cases[i][1]);
        assert_string_equal(json_string_value(json_array_get(json_object_get(file.root, "list"), 0)),
                            cases[i][1]);
        kv_json_close(&file);
    }
}

// Whose texts may hold NULs gets them, but not as a part of a key.
static void nuls_where_they_are_wanted(void **state) {
    (void)state;
    const char *text = "{\"a\\u0000b\": 1, \"t\": \"x\\u0000y\", \"h\": \"\\u0000\\ud800\"}";
    json_t *value = kv_json_parse(text, strlen(text), JSON_ALLOW_NUL, NULL);
    const json_t *t = json_object_get(value, "t");
    assert_int_equal(json_string_length(t), 3);
    assert_memory_equal(json_string_value(t), "x\0y", 4);
    assert_null(json_object_get(value, "a"));
    assert_true(kv_json_is_odd(json_object_get(value, "h")));
    const char *key;
    json_t *one;
    int odd_keys = 0;
    json_object_foreach(value, key, one) odd_keys += kv_json_is_odd_key(key);
    assert_int_equal(odd_keys, 1);
    json_decref(value);
}

// Lines and bytes that are named are those of the file, not of what was made of it.
static void places_are_those_of_the_file(void **state) {
    (void)state;
    json_error_t why;
    const char *text =
        "\xEF\xBB\xBF{\"a\": NaN,\n\"b\": \"\\ud800\",\n\"c\": 123456789012345678901234567890,\n\"d\": oh}";
    assert_null(kv_json_parse(text, strlen(text), 0, &why));
    assert_int_equal(why.line, 4);
    const char *oh = strstr(text, "oh");
    assert_true(text + why.position >= oh && text + why.position <= oh + 3);
    const char *two = "\xEF\xBB\xBF [NaN, \"]\"] {\"second\": Infinity}";
    json_t *first = kv_json_parse(two, strlen(two), JSON_DISABLE_EOF_CHECK, &why);
    assert_int_equal(json_array_size(first), 2);
    assert_string_equal(two + why.position, " {\"second\": Infinity}");
    json_decref(first);
}

static void what_is_no_text_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t size;
        const char *words;
    } cases[] = {{"\xFF\xFE{\0}\0", 6, "UTF-16 text, expected UTF-8"},
                 {"\xFE\xFF\0{\0}", 6, "UTF-16"},
                 {"{\0}\0", 4, "UTF-16"},
                 {"\0{\0}", 4, "UTF-16"},
                 {"\xFF\xFE\0\0{\0\0\0", 8, "UTF-32"},
                 {"{}\0\0\0\0", 6, "a NUL byte"},
                 {"{\"a\xFF\": 1}", 9, "byte 0xff"},
                 {"{'a': 1}", 8, "single quotes, as Python's str() writes them"},
                 {"{\"a\": 'it'}", 11, "single quotes"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_error_t why;
        assert_null(kv_json_parse(cases[i].text, cases[i].size, 0, &why));
        if (!strstr(why.text, cases[i].words)) fail_msg("%s: %s", cases[i].words, why.text);
    }
}

// Neither the stack nor the clock.
static void deep_and_long(void **state) {
    (void)state;
    enum { N = 3000000 };
    char *text = test_alloc(N, 1);
    memset(text, '[', N);
    assert_null(kv_json_parse(text, N, 0, NULL));
    for (int i = 0; i + 6 <= N; i += 6) memcpy(text + i, "\"\\ud80", 6);
    assert_null(kv_json_parse(text, N, 0, NULL));
    memset(text, '9', N);
    text[0] = '[', text[N - 1] = ']';
    json_t *value = kv_json_parse(text, N, 0, NULL);
    assert_true(kv_json_is_odd(json_array_get(value, 0)));
    json_decref(value);
    free(text);
}

// ---- Lines ---------------------------------------------------------------------------------------------

static kv_status note_line(void *context, const json_t *entry, const char *where, kv_error *err) {
    (void)err;
    char *seen = context;
    const size_t used = strlen(seen);
    snprintf(seen + used, 200 - used, "%s=%lld ", where,
             (long long)json_integer_value(json_object_get(entry, "n")));
    return KV_OK;
}

static void lines_of_every_system(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{\"n\":1}\n{\"n\":2}\n", "f:1=1 f:2=2 "},
        {"\xEF\xBB\xBF{\"n\":1}\r\n\r\n{\"n\":2}", "f:1=1 f:3=2 "},
        {"{\"n\":1}\r{\"n\":2}\r", "f:1=1 f:2=2 "},
        {"\n \t\n{\"n\":1}  \n\xEF\xBB\xBF{\"n\":2}\n\xEF\xBB\xBF\n", "f:3=1 f:4=2 "},
        {"{\"n\":1,\"x\":\"\xE2\x80\xA8\"}\n{\"n\":2,\"x\":NaN}\n", "f:1=1 f:2=2 "},
        {"", ""},
        {"\xEF\xBB\xBF", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char seen[200] = "";
        kv_error err;
        if (kv_json_lines("f", cases[i][0], strlen(cases[i][0]), 0, "thing", note_line, seen, &err))
            fail_msg("%s", err.message);
        assert_string_equal(seen, cases[i][1]);
    }
    static const char *const wrong[][2] = {
        {"{\"n\":1}\n{\"n\":\n", "f:2: not valid JSON ("},
        {"{\"n\":1} 2\n", "f:1: not valid JSON ("},
        {"{\"n\":1}{\"n\":2}\n", "f:1: found JSON objects side by side on a line, expected one a line"},
        {"\n[{\"n\":1},\n{\"n\":2}]\n", "f:2: found a JSON array, expected one object a line (jq -c '.[]'"},
        {"[{\"n\":1}]", "f:1: found a JSON array"},
        {"{\r\n\"n\": NaN\r\n}\r\n{\r\n\"n\": 2\r\n}", "f:1: found a JSON object over several lines"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char seen[200] = "";
        kv_error err;
        assert_int_equal(
            kv_json_lines("f", wrong[i][0], strlen(wrong[i][0]), 0, "thing", note_line, seen, &err),
            KV_ERR_FORMAT);
        if (!strstr(err.message, wrong[i][1])) fail_msg("%s: %s", wrong[i][1], err.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_whole_numbers),
        cmocka_unit_test(as_python_does),
        cmocka_unit_test(odd_values_are_of_no_kind),
        cmocka_unit_test(nuls_where_they_are_wanted),
        cmocka_unit_test(places_are_those_of_the_file),
        cmocka_unit_test(what_is_no_text_is_named),
        cmocka_unit_test(deep_and_long),
        cmocka_unit_test(lines_of_every_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
