// kveval on questions of one's own, on examples of a file of their own and in chats, as users meet them. KVEVAL and KVRUN
// name the programs.
#include "tests/support/kvrun.h"

#include "eval/results/results.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char out[1 << 16], err[1 << 16];

#define EXPECT(status, ...)                                                                                  \
    test_expect_run("KVEVAL", status, (const char *const[]){__VA_ARGS__, NULL}, out, err, sizeof out)

static const char lines[] =
    "{\"q\": \"Is 2 more than 1?\", \"a\": [\"yes\", \"it is\"], \"n\": {\"two\": \"so it is 2\"}, \"o\": [\"no\", \"yes\"], \"l\": 1}\n"
    "{\"q\": \"Is {1} one?\", \"a\": \"yes\", \"n\": {\"two\": 3}, \"o\": [\"yes\", \"no\", \"perhaps\"], \"l\": \"A\"}\n"
    "{\"id\": \"last\", \"q\": \"Où?\", \"a\": \"là\", \"n\": {\"two\": \"1,000\"}, \"o\": [\"là\", \"ici\"], \"l\": \"ici\"}\n";

static const char head[] = "output: @/own\ntokenizer: @/tokenizer.model\nbootstrap: 50\n"
                           "systems:\n"
                           "  - {name: base, model: @/base}\n"
                           "  - {name: KVP, base: @/base, aux: @/aux, predictor: @/predictor}\n"
                           "tasks:\n";

static int set_up(void **state) {
    test_family_set_up(state);
    test_write_config(in_dir("own.jsonl"), lines);
    return 0;
}

static void write_tasks(const char *tasks) {
    char text[8192];
    snprintf(text, sizeof text, "%s%s", head, tasks);
    test_write_config(in_dir("own.yaml"), text);
}

static json_t *record(const kv_results *r, int64_t system, int64_t task, int64_t unit) {
    json_t *record = json_loads(kv_results_outcome(r, system, task)->records[unit], 0, NULL);
    assert_non_null(record);
    return record;
}

static kv_results results_of(const char *name) {
    kv_results r;
    kv_error error = {0};
    if (kv_results_read_h5(in_dir(name), &r, &error)) fail_msg("%s", error.message);
    return r;
}

static const char *text_of(const json_t *record, const char *key) {
    return json_string_value(json_object_get(record, key));
}

static void every_metric(void **state) {
    (void)state;
    write_tasks(
        "  - {name: exact, kind: custom, file: @/own.jsonl, template: \"Q: {q}\\nA:\", target: \"{a}\", max_tokens: 4,\n"
        "     preamble: \"{{Short}} answers.\\n\", shots: 2, target_delimiter: \" = \", shots_delimiter: \";\\n\"}\n"
        "  - {name: contains, kind: custom, file: @/own.jsonl, template: \"{q}\", target: \"{a}\", metric: contains, max_tokens: 4}\n"
        "  - {name: numeric, kind: custom, file: @/own.jsonl, template: \"{q}\", target: \"{n.two}\", metric: numeric, max_tokens: 4}\n"
        "  - {name: any, kind: custom, file: @/own.jsonl, template: \"{q}\", metric: regex, pattern: '(?s).*', max_tokens: 4, stop: []}\n"
        "  - {name: choice, kind: custom, file: @/own.jsonl, template: \"{q}\", choices: [\"{o}\"], label: \"{l}\"}\n");
    EXPECT(0, in_dir("own.yaml"), "--no-ttft");
    kv_results r = results_of("own/results.h5");
    static const char *const metrics[] = {"exact_match", "contains", "numeric", "regex", "acc"};
    assert_int_equal(r.n_tasks, 5);
    for (int64_t t = 0; t < 5; t++) {
        assert_string_equal(r.tasks[t].metrics[0], metrics[t]);
        assert_string_equal(r.tasks[t].kind, "custom");
        assert_int_equal(r.tasks[t].n_items, 3);
    }
    for (int64_t s = 0; s < 2; s++)
        for (int64_t i = 0; i < 3; i++) assert_true(kv_results_outcome(&r, s, 3)->values[i] == 1);
    json_t *first = record(&r, 1, 0, 0), *last = record(&r, 0, 0, 2), *choice = record(&r, 0, 4, 1);
    assert_string_equal(text_of(first, "id"), "1");
    assert_string_equal(text_of(last, "id"), "last");
    const char *prompt = text_of(first, "prompt");
    if (strcmp(prompt,
               "{Short} answers.\nQ: Où?\nA: = là;\nQ: Is {1} one?\nA: = yes;\nQ: Is 2 more than 1?\nA:") !=
        0)
        assert_string_equal(
            prompt,
            "{Short} answers.\nQ: Is {1} one?\nA: = yes;\nQ: Où?\nA: = là;\nQ: Is 2 more than 1?\nA:");
    assert_int_equal(json_array_size(json_object_get(first, "answers")), 2);
    assert_int_equal(json_array_size(json_object_get(choice, "loglikelihoods")), 3);
    assert_int_equal(json_integer_value(json_object_get(choice, "gold")), 0);
    json_decref(first), json_decref(last), json_decref(choice);
    kv_results_free(&r);
    // The same again asks nothing; another way to judge is another task.
    EXPECT(0, in_dir("own.yaml"), "--no-ttft");
    assert_non_null(strstr(err, "3 answered before"));
    kv_results again = results_of("own/results.h5");
    EXPECT(0, in_dir("own.yaml"), "--no-ttft", "-s", "tasks[0].ignore_case=true", "-s",
           "tasks[1].stop=[\"x\"]", "-s", "tasks[2].target=7{n.two}");
    kv_results other = results_of("own/results.h5");
    for (int64_t t = 0; t < 5; t++)
        assert_true((t < 3) == (strcmp(again.tasks[t].hash, other.tasks[t].hash) != 0));
    kv_results_free(&again);
    kv_results_free(&other);
}

// Templates that say what kinds of the house say ask, and judge, the same.
static void as_the_kinds_of_the_house(void **state) {
    (void)state;
    char text[4096];
    static const char tasks[] =
        "  - {name: t, file: @/questions_trained.jsonl, shots: 2, max_tokens: 5, limit: 9, too_long: skip}\n"
        "  - {name: own t, kind: custom, file: @/questions_trained.jsonl, shots: 2, max_tokens: 5, limit: 9, too_long: skip,\n"
        "     template: \"Question: {question}\\nAnswer:\", target: \"{answer.aliases}\", stop: [\"\\n\", \".\", \",\"],\n"
        "     ignore_case: true, ignore_punctuation: true, shots_delimiter: \"\\n\"}\n"
        "  - {name: arc, kind: arc_easy, file: %s/fixtures/choices/arc.jsonl, shots: 1}\n"
        "  - {name: own arc, kind: custom, file: %s/fixtures/choices/arc.jsonl, shots: 1, template: \"Question: {question}\\nAnswer:\",\n"
        "     choices: [\"{choices.text}\"], labels: [\"{choices.label}\"], label: \"{answerKey}\"}\n";
    snprintf(text, sizeof text, tasks, getenv("KV_TEST_DIR"), getenv("KV_TEST_DIR"));
    write_tasks(text);
    EXPECT(0, in_dir("own.yaml"), "--no-ttft");
    kv_results r = results_of("own/results.h5");
    static const char *const keys[][5] = {{"prompt", "generation", "verdict", "answers"},
                                          {"context", "choices", "loglikelihoods", "gold", "id"}};
    for (int64_t t = 0; t < 4; t += 2)
        for (int64_t u = 0; u < r.tasks[t].n_units; u++) {
            json_t *known = record(&r, 1, t, u), *own = record(&r, 1, t + 1, u);
            for (int k = 0; k < 5 && keys[t / 2][k]; k++)
                assert_true(
                    json_equal(json_object_get(known, keys[t / 2][k]), json_object_get(own, keys[t / 2][k])));
            json_decref(known), json_decref(own);
        }
    kv_results_free(&r);
}

// Of a file of their own: never the task's items, all of them if need be, and another file is another task.
static void examples_of_their_own_file(void **state) {
    (void)state;
    static const struct {
        const char *kind, *file, *shown, *wanted;
    } cases[] = {
        {"kind: custom, template: \"{q}\", target: \"{a}\"", "{\"q\": \"a?\", \"a\": \"b\"}\n",
         "{\"q\": \"shown?\", \"a\": \"so\"}\n", "shown? so\n\na?"},
        {"kind: triviaqa", "{\"question\": \"a?\", \"answer\": \"b\"}\n",
         "{\"question\": \"shown?\", \"answer\": [\"so\", \"or\"]}\n",
         "Question: shown?\nAnswer: so\nQuestion: a?\nAnswer:"},
        {"kind: piqa", "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 0}\n",
         "{\"goal\": \"shown\", \"sol1\": \"so\", \"sol2\": \"or\", \"label\": 1}\n",
         "Question: shown\nAnswer: or\n\nQuestion: a\nAnswer:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char task[512], hash[17];
        test_write_config(in_dir("asked.jsonl"), cases[i].file);
        test_write_config(in_dir("shown.jsonl"), cases[i].shown);
        snprintf(
            task, sizeof task,
            "  - {name: t, file: @/asked.jsonl, shots: 1, shots_file: @/shown.jsonl, max_tokens: 2, %s}\n",
            cases[i].kind);
        write_tasks(task);
        EXPECT(0, in_dir("own.yaml"), "--no-ttft");
        kv_results r = results_of("own/results.h5");
        json_t *one = record(&r, 0, 0, 0);
        const char *prompt = text_of(one, "prompt");
        assert_string_equal(prompt ? prompt : text_of(one, "context"), cases[i].wanted);
        json_decref(one);
        snprintf(hash, sizeof hash, "%s", r.tasks[0].hash);
        kv_results_free(&r);
        char *at = strstr(strcpy(task, cases[i].shown), "shown");
        memcpy(at, "SHOWN", 5);
        test_write_config(in_dir("shown.jsonl"), task);
        EXPECT(0, in_dir("own.yaml"), "--no-ttft");
        r = results_of("own/results.h5");
        assert_string_not_equal(hash, r.tasks[0].hash);
        kv_results_free(&r);
    }
}

static void what_is_wrong_is_one_line(void **state) {
    (void)state;
    test_write_config(in_dir("empty.jsonl"), "");
    test_write_config(in_dir("shown.jsonl"), lines);
    write_tasks(
        "  - {name: t, kind: custom, file: @/own.jsonl, template: \"{q}\", target: \"{a}\", max_tokens: 4}\n");
    static const char *const cases[][3] = {
        {"tasks[0].template=\"{who}\"", NULL,
         "own.jsonl:1: there is no field \"who\", which `template` names"},
        {"tasks[0].template=\"{q\"", NULL,
         "key `tasks[0].template`: character 1: found `{` that nothing closes"},
        {"tasks[0].template={q}", NULL, "expected a text, in quotes where it begins with a brace"},
        {"tasks[0].target=\"{n.two.x}\"", NULL,
         "own.jsonl:1: {n.two.x}: found a string, expected an object, which `target` names"},
        {"tasks[0].target=\"{n}\"", NULL,
         "own.jsonl:1: {n} is an object, expected text or a number, which `target` names"},
        {"tasks[0].metric=fuzzy", NULL,
         "key `tasks[0].metric`: found `fuzzy`, expected exact, contains, regex, numeric or choice"},
        {"tasks[0].metric=regex", NULL, "own.yaml:8: key `tasks[0].pattern`: expected a regular expression"},
        {"tasks[0].metric=regex", "tasks[0].pattern=a(",
         "key `tasks[0].pattern`: character 3: missing closing parenthesis"},
        {"tasks[0].pattern=a", NULL, "key `tasks[0].pattern`: belongs to metric: regex"},
        {"tasks[0].metric=choice", NULL, "key `tasks[0].choices`: expected texts to choose from"},
        {"tasks[0].metric=numeric", NULL, "own.jsonl:1: there is no number in \"yes\", which `target` names"},
        {"tasks[0].file=@/empty.jsonl", NULL, "empty.jsonl: an empty file"},
        {"tasks[0].shots=3", NULL,
         "key `tasks[0].file`: @/own.jsonl: 3 shots asked for, expected fewer than its 3 questions"},
        {"tasks[0].shots=4", "tasks[0].shots_file=@/shown.jsonl",
         "key `tasks[0].shots_file`: @/shown.jsonl: 4 shots asked for, expected at most its 3 examples"},
        {"tasks[0].shots=1", "tasks[0].shots_file=@/own.jsonl",
         "key `tasks[0].shots_file`: found the task's own file"},
        {"tasks[0].max_tokens=90", NULL, "own.jsonl:1: prompt and answer of"},
        {"tasks[0].chat=true", NULL, "key `tasks[0].chat`: there is no chat template"},
        {"tasks[0].kind=text", "tasks[0].chat=true", "expected a `corpus`"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char texts[3][600];
        for (int k = 0; k < 3; k++) {
            const char *text = cases[i][k] ? cases[i][k] : "tasks[0].limit=0", *at = strchr(text, '@');
            snprintf(texts[k], sizeof texts[k], "%.*s%s%s", at ? (int)(at - text) : 400, text,
                     at ? test_dir : "", at ? at + 1 : "");
        }
        EXPECT(1, in_dir("own.yaml"), "--dry-run", "-s", texts[0], "-s", texts[1]);
        const char *line = strstr(err, "kveval: ");
        while (line && strncmp(line, "kveval: warning", 15) == 0) line = strstr(line + 8, "kveval: ");
        assert_non_null(line);
        assert_true(strchr(line, '\n') == line + strlen(line) - 1);
        if (!strstr(line, texts[2])) fail_msg("%zu: %s", i, line);
        assert_string_equal(out, "");
    }
}

// Without what is not ASCII, which a record may show as "?".
static void keep_ascii(const char *from, char *to) {
    while (*from == ' ' || *from == '\n') from++;
    for (; *from; from++)
        if (!(*from & 0x80) && *from != '?') *to++ = *from;
    *to = '\0';
}

// A chat is what kvrun --chat reads and answers.
static void a_chat_answers_as_kvrun_does(void **state) {
    (void)state;
    test_write_config(in_dir("tokenizer_config.json"), "{\"chat_template\": \"{{ '[INST] ' }} <<SYS>>\"}");
    write_tasks(
        "  - {name: t, kind: custom, file: @/own.jsonl, template: \"Q: {q}\", target: \"{a}\", max_tokens: 6, stop: [], chat: true}\n"
        "  - {name: be, kind: custom, file: @/own.jsonl, template: \"Q: {q}\", target: \"{a}\", max_tokens: 6, stop: [], chat: true,\n"
        "     system_prompt: Be kind.}\n"
        "  - {name: bare, kind: custom, file: @/own.jsonl, template: \"Q: {q}\", target: \"{a}\", max_tokens: 6, stop: []}\n"
        "  - {name: choice, kind: custom, file: @/own.jsonl, template: \"{q}\", choices: [\"{o}\"], label: \"{l}\", chat: true}\n");
    EXPECT(0, in_dir("own.yaml"), "--no-ttft");
    assert_non_null(strstr(out, "t, validation: 3 items, chat prompts of "));
    assert_non_null(strstr(out, "bare, validation: 3 items, prompts of "));
    kv_results r = results_of("own/results.h5");
    static const char *const questions[] = {"Q: Is 2 more than 1?", "Q: Is {1} one?", "Q: Où?"};
    double tokens[3] = {0};
    for (int64_t t = 0; t < 3; t++)
        for (int i = 0; i < 3; i++) {
            const char *const arguments[] = {BASE,
                                             "-n",
                                             "6",
                                             "--json",
                                             t == 2 ? "--" : "--chat",
                                             t == 1   ? "--system"
                                             : t == 2 ? questions[i]
                                                      : "--",
                                             t == 1   ? "Be kind."
                                             : t == 2 ? NULL
                                                      : questions[i],
                                             t == 1 ? questions[i] : NULL,
                                             NULL};
            assert_int_equal(kvrun_list(arguments), 0);
            json_t *said = json_loads(kvrun_out, 0, NULL), *own = record(&r, 0, t, i);
            assert_non_null(said);
            tokens[t] += (double)json_array_size(json_object_get(said, "prompt_ids")) / 3;
            char a[512], b[512];
            keep_ascii(text_of(said, "text"), a), keep_ascii(text_of(own, "generation"), b);
            if (strncmp(a, b, strlen(b)) != 0)
                fail_msg("%s: kvrun says '%s', kveval '%s'", questions[i], a, b);
            json_decref(said), json_decref(own);
        }
    for (int64_t t = 0; t < 3; t++)
        assert_true(r.tasks[t].prompt_tokens > tokens[t] - 1e-9 &&
                    r.tasks[t].prompt_tokens < tokens[t] + 1e-9);
    assert_true(r.tasks[0].chat && r.tasks[1].chat && !r.tasks[2].chat && r.tasks[3].chat);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < i; j++) assert_string_not_equal(r.tasks[i].hash, r.tasks[j].hash);
    kv_results_free(&r);
    unlink(in_dir("tokenizer_config.json"));
}

// What is too long is named, left out, or cut, and the table says so.
static void too_long_as_everywhere(void **state) {
    (void)state;
    char text[700], question[400] = "";
    for (int i = 0; i < 30; i++) strcat(question, "0123456789");
    snprintf(text, sizeof text,
             "%s{\"q\": \"%s\", \"a\": \"b\", \"n\": {}, \"o\": [\"c\", \"d\"], \"l\": 0}\n",
             "{\"q\": \"short\", \"a\": \"b\", \"o\": [\"c\", \"d\"], \"l\": 0}\n", question);
    test_write_config(in_dir("long.jsonl"), text);
    static const char *const kinds[] = {"target: \"{a}\", max_tokens: 4",
                                        "choices: [\"{o}\"], label: \"{l}\""};
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text,
                 "  - {name: t, kind: custom, file: @/long.jsonl, template: \"{q}\", %s}\n", kinds[i]);
        write_tasks(text);
        EXPECT(1, in_dir("own.yaml"), "--no-ttft");
        assert_non_null(strstr(err, "long.jsonl:2: "));
        EXPECT(0, in_dir("own.yaml"), "--no-ttft", "-s", "tasks[0].too_long=skip");
        assert_non_null(strstr(out, "(1 of 2 skipped: too long)"));
        EXPECT(0, in_dir("own.yaml"), "--no-ttft", "-s", "tasks[0].too_long=cut");
        assert_non_null(strstr(out, "2 items (1 of 2 cut from the left: too long)"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric),
        cmocka_unit_test(as_the_kinds_of_the_house),
        cmocka_unit_test(examples_of_their_own_file),
        cmocka_unit_test(what_is_wrong_is_one_line),
        cmocka_unit_test(a_chat_answers_as_kvrun_does),
        cmocka_unit_test(too_long_as_everywhere),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
