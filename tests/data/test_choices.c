// Multiple-choice files: every format and way of wrapping it, the texts the evaluation harness makes of them,
// and what is said about broken ones.
#include "tests/support/corpus.h"

#include "data/benchmark/choices.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static kv_choice_items read_items(const char *path, const char *kind) {
    kv_error err = {0};
    kv_choice_items items;
    if (kv_choices_read(path, kv_choice_kind_find(kind), &items, &err)) fail_msg("%s", err.message);
    return items;
}

static void expect_item(const kv_choice_item *item, const char *id, const char *context, const char *ending,
                        int64_t gold, const char *const choices[]) {
    assert_string_equal(item->id, id);
    assert_string_equal(item->context, context);
    if (ending)
        assert_string_equal(item->ending, ending);
    else
        assert_null(item->ending);
    assert_int_equal(item->gold, gold);
    int64_t n = 0;
    for (; choices[n]; n++) {
        assert_true(n < item->n_choices);
        assert_string_equal(item->choices[n], choices[n]);
    }
    assert_int_equal(item->n_choices, n);
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

// ---- Formats -------------------------------------------------------------------------------------------

static void expect_arc(const char *path) {
    kv_choice_items items = read_items(path, "arc_easy");
    assert_int_equal(items.n, 2);
    expect_item(&items.items[0], "MADE_UP_1",
                "Question: Which tool of the made-up village of Orr measures rain?\nAnswer:", NULL, 2,
                TEXTS("a bucket", "a very long rope", "a tin cup with marks"));
    expect_item(&items.items[1], "MADE_UP_2", "Question: What does a lamp give?\nAnswer:", NULL, 0,
                TEXTS("light", "salt", "sand", "silence"));
    kv_choice_items_free(&items);
}

static void arc_in_every_wrapping(void **state) {
    (void)state;
    expect_arc(test_fixture("fixtures/choices/arc.jsonl"));
    expect_arc(test_fixture("fixtures/choices/arc_rows.jsonl")); // a wrapped row a line, and an empty line
    expect_arc(
        test_fixture("fixtures/choices/arc_viewer.json")); // one answer of the rows endpoint, over lines
    // The same gzipped; two answers of the endpoint, one a line.
    char *text = test_read_text(test_fixture("fixtures/choices/arc_viewer.json"));
    const char *packed = test_path(test_dir, "packed.gz"), *pages = test_path(test_dir, "pages.jsonl");
    gzFile file = gzopen(packed, "wb");
    assert_true(gzwrite(file, text, (unsigned)strlen(text)) > 0);
    gzclose(file);
    free(text);
    expect_arc(packed);
    test_write_text(
        pages,
        "{\"rows\":[{\"row_idx\":0,\"row\":{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":0}}]}\n"
        "{\"rows\":[{\"row_idx\":1,\"row\":{\"goal\":\"h\",\"sol1\":\"c\",\"sol2\":\"d\",\"label\":\"1\"}}]}");
    kv_choice_items items = read_items(pages, "piqa");
    assert_int_equal(items.n, 2);
    expect_item(&items.items[1], "2", "Question: h\nAnswer:", NULL, 1, TEXTS("c", "d"));
    assert_string_equal(strstr(items.items[1].where, ".jsonl") ? strstr(items.items[1].where, ".jsonl:2")
                                                               : "",
                        ".jsonl:2: rows[0]");
    kv_choice_items_free(&items);
}

static void boolq_in_both_formats(void **state) {
    (void)state;
    static const char *const files[] = {"fixtures/choices/boolq.jsonl",
                                        "fixtures/choices/boolq_super_glue.jsonl"};
    static const char *const ids[][2] = {{"1", "2"}, {"7", "8"}};
    for (int i = 0; i < 2; i++) {
        kv_choice_items items = read_items(test_fixture(files[i]), "boolq");
        assert_int_equal(items.n, 2);
        expect_item(&items.items[0], ids[i][0],
                    "The made-up lighthouse of Orr was painted blue.\n"
                    "Question: is the lighthouse of orr painted?\nAnswer:",
                    NULL, 1, TEXTS("no", "yes"));
        expect_item(&items.items[1], ids[i][1],
                    "Salt tastes of the sea.\nQuestion: is salt sweet?\nAnswer:", NULL, 0,
                    TEXTS("no", "yes"));
        kv_choice_items_free(&items);
    }
}

static void hellaswag(void **state) {
    (void)state;
    kv_choice_items items = read_items(test_fixture("fixtures/choices/hellaswag.jsonl"), "hellaswag");
    assert_int_equal(items.n, 3);
    expect_item(&items.items[0], "24", "Roof shingle removal: A man is sitting on a roof. He", NULL, 3,
                TEXTS("is using wrap to wrap a pair of skis.", "is ripping level tiles off.",
                      "is holding a rubik's cube.", "starts pulling up roofing on a roof."));
    // " [header]", "[step]" and the rest go, and leave two spaces that become one.
    expect_item(&items.items[1], "38", "Home and Garden: How to dry herbs. Hang them In a dry room.", NULL, 1,
                TEXTS("Wait two weeks.", " Shake them.. Store them", "Burn them.", "Boil them eat."));
    expect_item(&items.items[2], "41", "Sailing: A boat leaves. \xC3\x89mile mckay waves", NULL, 0,
                TEXTS("a", "bb", "ccc", "dddd"));
    kv_choice_items_free(&items);
}

static void piqa(void **state) {
    (void)state;
    kv_choice_items items = read_items(test_fixture("fixtures/choices/piqa.jsonl"), "piqa");
    assert_int_equal(items.n, 2);
    expect_item(&items.items[0], "1", "Question: keep bread fresh\nAnswer:", NULL, 1,
                TEXTS("leave it in the rain", "wrap it"));
    expect_item(&items.items[1], "2", "Question: cool soup\nAnswer:", NULL, 1,
                TEXTS("blow on it", "put it on the fire for an hour"));
    kv_choice_items_free(&items);
}

static void sciq(void **state) {
    (void)state;
    kv_choice_items items = read_items(test_fixture("fixtures/choices/sciq.jsonl"), "sciq");
    assert_int_equal(items.n, 2);
    expect_item(&items.items[0], "1",
                "Plants live on sun and water.\nQuestion: What do plants need?\nAnswer:", NULL, 3,
                TEXTS("plastic", "lead", "noise", "sun"));
    expect_item(&items.items[1], "2", "\nQuestion: What is ice?\nAnswer:", NULL, 3,
                TEXTS("a gas", "a metal", "a plant", "frozen water"));
    kv_choice_items_free(&items);
}

static void winogrande(void **state) {
    (void)state;
    kv_choice_items items = read_items(test_fixture("fixtures/choices/winogrande.jsonl"), "winogrande");
    assert_int_equal(items.n, 2);
    expect_item(&items.items[0], "1", "The rope was longer than the boat, so the ", "was cut.", 0,
                TEXTS("rope", "boat"));
    expect_item(&items.items[1], "2", "Orr gave Ann bread because ", "was hungry.", 1, TEXTS("Orr", "Ann"));
    kv_choice_items_free(&items);
}

// ---- Texts ---------------------------------------------------------------------------------------------

static void hellaswag_clean_up(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {" \n plain \t", "plain"},
        {"a [title] b", "a. b"}, // ". " and a space, then two spaces into one
        {"[title] b", " b"},     // only after a space
        {"a [x] b [y]", "a b "},
        {"a [b", "a [b"},
        {"a [b\nc] d", "a [b\nc] d"}, // not across lines
        {"[[a] b]", " b]"},           // up to the first bracket that closes
        {"]a[", "]a["},
        {"a    b   c", "a  b  c"}, // pairs, once
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[64];
        strcpy(text, pairs[i][0]);
        kv_hellaswag_clean(text);
        assert_string_equal(text, pairs[i][1]);
    }
}

static void kinds(void **state) {
    (void)state;
    static const char *const first[][3] = {
        {"arc_challenge", "acc_norm", "acc"}, {"arc_easy", "acc", "acc_norm"}, {"boolq", "acc", NULL},
        {"hellaswag", "acc_norm", "acc"},     {"piqa", "acc_norm", "acc"},     {"sciq", "acc", "acc_norm"},
        {"winogrande", "acc", NULL}};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        const kv_choice_kind *kind = kv_choice_kind_find(first[i][0]);
        assert_non_null(kind);
        assert_ptr_equal(kv_choice_kind_at((int)i), kind);
        assert_string_equal(kind->metrics[0], first[i][1]);
        if (first[i][2]) {
            assert_string_equal(kind->metrics[1], first[i][2]);
            assert_string_equal(kind->metrics[2], "acc_bytes");
        } else {
            assert_null(kind->metrics[1]);
        }
    }
    assert_null(kv_choice_kind_at((int)(sizeof first / sizeof *first)));
    assert_null(kv_choice_kind_find("arc"));
}

// ---- Broken files --------------------------------------------------------------------------------------

#define ARC       "{\"question\":\"q\",\"answerKey\":\"A\",\"choices\":"
#define PIQA      "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":0}"
#define HELLASWAG "{\"activity_label\":\"a\",\"ctx_a\":\"b\",\"ctx_b\":\"c\",\"label\":\"0\",\"endings\":"

// What Python's json writes and reads, and what editors add.
static void files_of_every_writer(void **state) {
    (void)state;
    kv_choice_items items;
    kv_error err = {0};
    const char *path = test_path(test_dir, "odd.data");
    test_write_text(
        path,
        "\xEF\xBB\xBF\r\n{\"score\": [NaN, -Infinity, 1e999], \"\\ud800\": \"\\u0000]}\", \"goal\": \"one\", "
        "\"goal\": \"g1\", \"sol1\":\"a\",\"sol2\":\"b\",\"label\":0}\r\n\xEF\xBB\xBF" PIQA "\r" PIQA);
    if (kv_choices_read(path, kv_choice_kind_find("piqa"), &items, &err)) fail_msg("%s", err.message);
    assert_int_equal(items.n, 3);
    assert_non_null(strstr(items.items[0].context, "g1"));
    kv_choice_items_free(&items);
}

static void broken_files_are_named(void **state) {
    (void)state;
    static const struct {
        const char *kind, *content, *expected;
    } cases[] = {
        {"piqa", "", "bad.jsonl: an empty file, expected a task's questions"},
        {"piqa", "\n \n", "bad.jsonl: holds no rows, expected those of piqa"},
        {"piqa", "{\"rows\": []}", "bad.jsonl: holds no rows"},
        {"piqa", "goal,sol1", "bad.jsonl: nothing but the text \"goal,sol1\""},
        {"piqa", PIQA "\n\n{\"goal\": \"cut of", "bad.jsonl:3: not valid JSON ("},
        {"piqa", "{\"goal\":\"g\",\n\n\"sol1\":\"a\",\"sol2\":\"b\",\"label\":0}\n{}",
         "bad.jsonl:4: 'goal' is missing"},
        {"piqa", PIQA "\n{\"goal\": \"a\\u0000b\"}",
         "bad.jsonl:2: 'goal' is text with a NUL character, expected a string"},
        {"piqa", PIQA "\r" PIQA "\r\n{\"goal\": NaN}", "bad.jsonl:3: 'goal' is NaN, expected a string"},
        {"piqa", "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":1e999}",
         "bad.jsonl:1: 'label' is 1e999, too large a number, expected the right answer"},
        {"piqa", PIQA "\n{\"goal\": \"\xC3\"}", "bad.jsonl:2: not valid JSON ("},
        {"piqa", "3", "bad.jsonl: nothing but the text \"3\""}, // jansson wants an array or an object here
        {"piqa", "[" PIQA "]",
         "bad.jsonl:1: found a JSON array, expected rows of piqa, one object a line (jq -c '.[]' FILE"},
        {"piqa", "{\"row\": 4}", "bad.jsonl:1: found a number, expected a row of piqa, an object"},
        {"piqa", "{\"rows\": 4}", "bad.jsonl:1: 'rows' is 4, expected a list of rows"},
        {"piqa", PIQA "\n{\"rows\": [{\"row\": " PIQA "}, {\"row\": {\"goal\": 1}}]}",
         "bad.jsonl:2: rows[1]: 'goal' is 1, expected a string"},
        {"piqa", "{\"row_idx\": 0, \"row\": " PIQA ", \"truncated_cells\": [\"goal\"]}",
         "bad.jsonl:1: 'truncated_cells' is [\"goal\"], expected none: a row with all its text"},
        {"piqa", PIQA "\n{\"goal\":\"g\",\"sol1\":\"a\",\"label\":0}",
         "bad.jsonl:2: 'sol2' is missing, expected a string"},
        {"piqa", "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":-1}",
         "bad.jsonl:1: 'label' is -1, expected the right answer, a number from 0 to 1 (a split with answers)"},
        {"piqa", "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":\"2\"}",
         "bad.jsonl:1: 'label' is \"2\", expected the right answer, a number from 0 to 1"},
        {"piqa", "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":9223372036854775807}",
         "bad.jsonl:1: 'label' is 9223372036854775807, expected the right answer"},
        {"piqa", "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":-9223372036854775808}",
         "bad.jsonl:1: 'label' is -9223372036854775808, expected the right answer"},
        {"piqa", "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":0.0}",
         "bad.jsonl:1: 'label' is 0.0, expected the right answer"},
        {"arc_easy", PIQA, "bad.jsonl:1: 'question' is missing, expected a string"},
        {"arc_easy", ARC "[]}",
         "bad.jsonl:1: 'choices' is [], expected an object with lists 'text' and 'label'"},
        {"arc_easy", ARC "{\"text\":[\"a\"],\"label\":[\"A\"]}}",
         "bad.jsonl:1: 'choices': 'text' is [\"a\"], expected a list of at least two strings"},
        {"arc_easy", ARC "{\"text\":[\"a\",\"b\"],\"label\":[\"A\"]}}",
         "bad.jsonl:1: 'choices': 'label' is [\"A\"], expected a list of as many labels as texts"},
        {"arc_easy", ARC "{\"text\":[\"a\",5],\"label\":[\"A\",\"B\"]}}",
         "bad.jsonl:1: 'choices': 'text'[1] is 5, expected a string"},
        {"arc_easy", ARC "{\"text\":[\"a\",\"b\"],\"label\":[\"B\",\"C\"]}}",
         "bad.jsonl:1: 'answerKey' is \"A\", expected one of the choices' labels"},
        {"arc_easy",
         ARC
         "{\"text\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
         "\"a\"],\"label\":[\"A\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
         "\"a\"]}}",
         "bad.jsonl:1: 17 choices, expected at most 16"},
        {"boolq", "{\"passage\":\"p\",\"question\":\"q\",\"answer\":1}",
         "bad.jsonl:1: 'answer' is 1, expected"},
        {"boolq", "{\"passage\":\"p\",\"question\":\"q\"}", "bad.jsonl:1: 'label' is missing, expected"},
        {"boolq", "{\"passage\":\"p\",\"question\":\"q\",\"label\":-1}",
         "bad.jsonl:1: 'label' is -1, expected"},
        {"hellaswag", HELLASWAG "[\"a\",\"b\",\"c\"]}",
         "bad.jsonl:1: 'endings' is [\"a\",\"b\",\"c\"], expected a list of four strings"},
        {"hellaswag", HELLASWAG "[\"a\",\"b\",\"c\",null]}",
         "bad.jsonl:1: 'endings'[3] is null, expected a string"},
        {"hellaswag",
         "{\"activity_label\":\"a\",\"ctx_a\":\"b\",\"ctx_b\":\"c\",\"label\":\"\",\"endings\":"
         "[\"a\",\"b\",\"c\",\"d\"]}",
         "bad.jsonl:1: 'label' is \"\", expected the right answer"},
        {"sciq", "{\"question\":\"q\",\"support\":null}",
         "bad.jsonl:1: 'support' is null, expected a string"},
        {"winogrande", "{\"sentence\":\"no blank\",\"option1\":\"a\",\"option2\":\"b\",\"answer\":\"1\"}",
         "bad.jsonl:1: 'sentence' is \"no blank\", expected a sentence that goes on after a blank '_'"},
        {"winogrande", "{\"sentence\":\"It is _ \",\"option1\":\"a\",\"option2\":\"b\",\"answer\":\"1\"}",
         "bad.jsonl:1: 'sentence' is \"It is _ \", expected a sentence that goes on after a blank '_'"},
        {"winogrande", "{\"sentence\":\"a _ b\",\"option1\":\"a\",\"option2\":\"b\",\"answer\":\"\"}",
         "bad.jsonl:1: 'answer' is \"\", expected the right answer, a number from 1 to 2"},
    };
    const char *path = test_path(test_dir, "bad.jsonl");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_error err = {0};
        kv_choice_items items;
        test_write_text(path, cases[i].content);
        assert_int_equal(kv_choices_read(path, kv_choice_kind_find(cases[i].kind), &items, &err),
                         KV_ERR_FORMAT);
        if (!strstr(err.message, cases[i].expected))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].expected);
        assert_int_equal(items.n, 0);
        assert_null(items.items);
    }
    kv_error err = {0};
    kv_choice_items items;
    assert_int_equal(
        kv_choices_read(test_path(test_dir, "missing"), kv_choice_kind_find("piqa"), &items, &err),
        KV_ERR_IO);
    assert_non_null(strstr(err.message, "missing"));
}

// Cut anywhere, a file is either refused or whole up to the cut; it never brings the reader down.
static void files_cut_anywhere(void **state) {
    (void)state;
    static const char *const files[][2] = {{"fixtures/choices/arc_viewer.json", "arc_easy"},
                                           {"fixtures/choices/hellaswag.jsonl", "hellaswag"},
                                           {"fixtures/choices/winogrande.jsonl", "winogrande"}};
    const char *path = test_path(test_dir, "cut.jsonl");
    for (int f = 0; f < 3; f++) {
        char *text = test_read_text(test_fixture(files[f][0]));
        for (size_t n = strlen(text); n-- > 0;) {
            kv_choice_items items;
            kv_error err = {0};
            text[n] = '\0';
            if (n % 7) continue;
            test_write_text(path, text);
            if (kv_choices_read(path, kv_choice_kind_find(files[f][1]), &items, &err) == KV_OK)
                assert_in_range(items.n, 1, 3);
            else
                assert_int_equal(err.code, KV_ERR_FORMAT);
            kv_choice_items_free(&items);
        }
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arc_in_every_wrapping),
        cmocka_unit_test(boolq_in_both_formats),
        cmocka_unit_test(hellaswag),
        cmocka_unit_test(piqa),
        cmocka_unit_test(sciq),
        cmocka_unit_test(winogrande),
        cmocka_unit_test(hellaswag_clean_up),
        cmocka_unit_test(kinds),
        cmocka_unit_test(files_of_every_writer),
        cmocka_unit_test(broken_files_are_named),
        cmocka_unit_test(files_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
