// Files of one's own become questions: what templates make of lines, which choice is right, and what is said of a line
// that lacks something.
#include "tests/support/corpus.h"

#include "data/benchmark/custom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4 };

// Texts of templates.
struct keys {
    const char *prompt, *preamble, *target, *choices[MOST], *labels[MOST], *label;
};

static kv_template *parse(const char *text) {
    kv_template *made = NULL;
    kv_error err = {0};
    if (text && kv_template_parse(text, &made, &err)) fail_msg("%s", err.message);
    return made;
}

static int64_t parse_all(const char *const *texts, kv_template ***made) {
    int64_t n = 0;
    *made = calloc(MOST, sizeof **made);
    for (; n < MOST && texts[n]; n++) (*made)[n] = parse(texts[n]);
    return n;
}

static kv_status read_lines(const struct keys *keys, const char *lines, kv_custom_items *items,
                            kv_error *err) {
    kv_custom_format format = {.prompt = parse(keys->prompt),
                               .preamble = parse(keys->preamble),
                               .target = parse(keys->target),
                               .label = parse(keys->label)};
    format.n_choices = parse_all(keys->choices, &format.choices);
    format.n_labels = parse_all(keys->labels, &format.labels);
    const char *path = test_path(test_dir, "q.jsonl");
    test_write_text(path, lines);
    kv_status status = kv_custom_read(path, &format, items, err);
    kv_custom_format_free(&format);
    return status;
}

static kv_custom_items expect_items(const struct keys *keys, const char *lines) {
    kv_custom_items items;
    kv_error err = {0};
    if (read_lines(keys, lines, &items, &err)) fail_msg("%s", err.message);
    return items;
}

static void answers(void **state) {
    (void)state;
    const struct keys keys = {.prompt = "Q: {q}\nA:", .preamble = "About {about}.\n", .target = "{a}"};
    kv_custom_items items =
        expect_items(&keys, "{\"id\": \"x7\", \"q\": \"one?\", \"a\": \"1\", \"about\": \"numbers\"}\n\n"
                            "{\"id\": 12, \"q\": \"two?\", \"a\": [2, \"ii\"], \"about\": \"\"}\r\n"
                            "{\"q\": \"three?\", \"a\": 3.5, \"about\": 1}");
    assert_int_equal(items.n, 3);
    static const char *const ids[] = {"x7", "12", "4"}, // the line's number where there is none
        *const prompts[] = {"Q: one?\nA:", "Q: two?\nA:", "Q: three?\nA:"},
                             *const preambles[] = {"About numbers.\n", "About .\n", "About 1.\n"},
                             *const targets[][2] = {{"1"}, {"2", "ii"}, {"3.5"}},
                             *const wheres[] = {"q.jsonl:1", "q.jsonl:3", "q.jsonl:4"};
    for (int i = 0; i < 3; i++) {
        const kv_custom_item *item = &items.items[i];
        assert_string_equal(item->id, ids[i]);
        assert_string_equal(item->prompt, prompts[i]);
        assert_string_equal(item->preamble, preambles[i]);
        assert_non_null(strstr(item->where, wheres[i]));
        assert_int_equal(item->targets.n, targets[i][1] ? 2 : 1);
        for (int64_t t = 0; t < item->targets.n; t++)
            assert_string_equal(item->targets.items[t], targets[i][t]);
        assert_int_equal(item->choices.n, 0);
        assert_int_equal(item->gold, -1);
    }
    kv_custom_items_free(&items);
}

static void right_choices(void **state) {
    (void)state;
    static const struct {
        struct keys keys;
        const char *line;
        int64_t gold;
    } cases[] = {
        // A whole number from 0 on, a text, a letter, a number as text.
        {{.prompt = "p", .choices = {"{o}"}, .label = "{l}"}, "{\"o\": [\"a\", \"b\", \"c\"], \"l\": 2}", 2},
        {{.prompt = "p", .choices = {"{o}"}, .label = "{l}"},
         "{\"o\": [\"a\", \"b\", \"c\"], \"l\": \"b\"}",
         1},
        {{.prompt = "p", .choices = {"{o}"}, .label = "{l}"},
         "{\"o\": [\"x\", \"y\", \"z\"], \"l\": \"C\"}",
         2},
        {{.prompt = "p", .choices = {"{o}"}, .label = "{l}"},
         "{\"o\": [\"x\", \"y\", \"z\"], \"l\": \"b\"}",
         1},
        {{.prompt = "p", .choices = {"{o}"}, .label = "{l}"},
         "{\"o\": [\"x\", \"y\", \"z\"], \"l\": \"0\"}",
         0},
        // A text before a letter or a number as text; a number before both.
        {{.prompt = "p", .choices = {"{o}"}, .label = "{l}"}, "{\"o\": [\"B\", \"A\"], \"l\": \"B\"}", 0},
        {{.prompt = "p", .choices = {"{o}"}, .label = "{l}"}, "{\"o\": [\"1\", \"0\"], \"l\": \"0\"}", 1},
        {{.prompt = "p", .choices = {"{o}"}, .label = "{l}"}, "{\"o\": [\"1\", \"0\"], \"l\": 0}", 0},
        // One's own labels, and templates each.
        {{.prompt = "p", .choices = {"{c.text}"}, .labels = {"{c.label}"}, .label = "{l}"},
         "{\"c\": {\"text\": [\"a\", \"b\"], \"label\": [\"1\", \"2\"]}, \"l\": 1}",
         0},
        {{.prompt = "p", .choices = {"{c.text}"}, .labels = {"1", "2"}, .label = "{l}"},
         "{\"c\": {\"text\": [\"a\", \"b\"]}, \"l\": \"2\"}",
         1},
        {{.prompt = "p", .choices = {"no", "yes"}, .labels = {"false", "true"}, .label = "{l}"},
         "{\"l\": true}",
         1},
        {{.prompt = "p", .choices = {"{x}", "{y} too"}, .label = "0"}, "{\"x\": 1, \"y\": 2}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_custom_items items = expect_items(&cases[i].keys, cases[i].line);
        if (items.items[0].gold != cases[i].gold)
            fail_msg("%zu: %lld, not %lld", i, (long long)items.items[0].gold, (long long)cases[i].gold);
        kv_custom_items_free(&items);
    }
}

static void what_is_wrong_is_named(void **state) {
    (void)state;
#define GOOD "{\"q\": \"a\", \"a\": \"b\", \"o\": [\"x\", \"y\"], \"l\": 0, \"d\": {\"v\": 1}}\n"
    static const struct {
        struct keys keys;
        const char *line, *said;
    } cases[] = {
        {{.prompt = "{q}"}, "{\"p\": 1}", "q.jsonl:2: there is no field \"q\", which `template` names"},
        {{.prompt = "{q}"},
         "{\"q\": [1]}",
         "q.jsonl:2: {q} is a list, expected text or a number, which `template` names"},
        {{.prompt = "{q}"}, "{\"q\": null}", "q.jsonl:2: {q} is null"},
        {{.prompt = "{q}"}, "{\"q\": \"\"}", "q.jsonl:2: the prompt that `template` makes is empty"},
        {{.prompt = "{q}", .preamble = "{o[5]}"},
         GOOD,
         "q.jsonl:1: {o[5]}: there is no entry [5] in a list of 2, which `preamble` names"},
        {{.prompt = "{q}", .target = "{d.v.w}"},
         GOOD,
         "q.jsonl:1: {d.v.w}: found a number, expected an object, which `target` names"},
        {{.prompt = "{q}", .target = "{a}"},
         "{\"q\": \"a\", \"a\": []}",
         "q.jsonl:2: `target` is an empty list"},
        {{.prompt = "{q}", .target = "{a}"},
         "{\"q\": \"a\", \"a\": {\"b\": 1}}",
         "{a} is an object, expected text or a number"},
        {{.prompt = "{q}", .choices = {"{o}"}, .label = "{l}"},
         "{\"q\": \"a\", \"o\": [\"x\"], \"l\": 0}",
         "q.jsonl:2: `choices` has 1 entries, expected 2 to 16"},
        {{.prompt = "{q}", .choices = {"{o}"}, .label = "{l}"},
         "{\"q\": \"a\", \"o\": [\"x\", \"y\"], \"l\": 2}",
         "q.jsonl:2: `label` is \"2\", expected the text of a choice, its letter, or its number from 0 to 1"},
        {{.prompt = "{q}", .choices = {"{o}"}, .label = "{l}"},
         "{\"q\": \"a\", \"o\": [\"x\", \"y\"], \"l\": -1}",
         "`label` is \"-1\""},
        {{.prompt = "{q}", .choices = {"{o}"}, .label = "{l}"},
         "{\"q\": \"a\", \"o\": [\"x\", \"y\"], \"l\": \"C\"}",
         "`label` is \"C\""},
        {{.prompt = "{q}", .choices = {"{o}"}, .label = "{l}"},
         "{\"q\": \"a\", \"o\": [\"x\", \"y\"], \"l\": \"99999999999999999999\"}",
         "`label` is \"9999"},
        {{.prompt = "{q}", .choices = {"{o}"}, .labels = {"A"}, .label = "{l}"},
         GOOD,
         "q.jsonl:1: `labels` has 1 entries, expected as many as the 2 of `choices`"},
        {{.prompt = "{q}", .choices = {"{o}"}, .labels = {"A", "B"}, .label = "{l}"},
         GOOD,
         "q.jsonl:1: `label` is \"0\", expected one of its labels"},
        {{.prompt = "{q}", .choices = {"{o}"}, .labels = {"A", "A"}, .label = "A"},
         "{\"q\": \"a\", \"o\": [\"a\", \"b\"]}\n",
         "q.jsonl:1: `labels` has \"A\" twice, which `label` names"},
        {{.prompt = "{q}"}, "[1]", "q.jsonl:2: found a list, expected an object"},
        {{.prompt = "{q}"}, "{\"q\": \"a\"", "q.jsonl:2: not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_custom_items items;
        kv_error err = {0};
        char lines[512];
        snprintf(lines, sizeof lines, "%s%s", GOOD, cases[i].line);
        assert_int_equal(read_lines(&cases[i].keys, lines, &items, &err), KV_ERR_FORMAT);
        assert_int_equal(items.n, 0);
        if (!strstr(err.message, cases[i].said)) fail_msg("%zu: %s", i, err.message);
    }
    kv_custom_items items;
    kv_error err = {0};
    const struct keys keys = {.prompt = "{q}"};
    assert_int_equal(read_lines(&keys, "\n\n", &items, &err), KV_ERR_FORMAT);
    assert_non_null(
        strstr(err.message, "q.jsonl: holds no lines, expected questions as JSON objects, one a line"));
    assert_int_equal(read_lines(&keys, "[{\"q\": \"a\"}]", &items, &err), KV_ERR_FORMAT);
    assert_non_null(
        strstr(err.message, "a JSON array, expected one object a line (jq -c '.[]' FILE makes them)"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(right_choices),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
