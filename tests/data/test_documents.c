// Texts as documents: JSON lines and plain text told by their first lines, whatever the file is called; what is neither,
// named; byte order marks and the line ends of all systems; places to go on from.
#include "tests/support/corpus.h"
#include "tests/support/tokenizer.h"

#include "data/file/plain.h"
#include "data/text/documents.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

// All documents of a file, each in brackets; "!WHY" for bad ones. format: as of kv_documents.
static char *documents_as(const char *path, kv_text_format format) {
    kv_documents *documents = NULL;
    kv_error err = {0};
    char *all = test_alloc(1 << 20, 1);
    size_t used = 0;
    const kv_documents_options options = {format, NULL};
    if (kv_documents_open_as(path, &options, &documents, &err)) fail_msg("%s", err.message);
    for (;;) {
        kv_document document;
        if (kv_documents_read(documents, &document, &err)) fail_msg("%s", err.message);
        if (!document.text && !document.bad) break;
        if (document.bad)
            used += (size_t)sprintf(all + used, "!%d %s", (int)document.line, document.bad);
        else
            used += (size_t)sprintf(all + used, "[%.*s]", (int)document.length, document.text);
        assert_true(used < 1 << 19);
        if (document.text) assert_int_equal(document.text[document.length], 0);
    }
    kv_documents_close(documents);
    return all;
}

// `expected` is a beginning of what is found where it ends with "...".
static void expect_as(const char *name, kv_text_format format, const char *content, const char *expected) {
    const char *path = test_path(test_dir, name);
    test_write_text(path, content);
    char *found = documents_as(path, format);
    const size_t n = strlen(expected);
    const bool begins = n > 3 && strcmp(expected + n - 3, "...") == 0;
    if (begins ? strncmp(found, expected, n - 3) != 0 : strcmp(found, expected) != 0)
        fail_msg("%s: %s\nis       %s\nexpected %s", name, content, found, expected);
    free(found);
    unlink(path);
}

static void expect(const char *name, const char *content, const char *expected) {
    expect_as(name, KV_TEXT_BY_CONTENT, content, expected);
}

#define A "{\"text\": \"one\"}"
#define B "{\"text\": \"two\", \"n\": NaN}"

static void json_lines_by_any_name(void **state) {
    (void)state;
    static const char *const names[] = {"train.JSONL", "part-00000", "data.txt", "x.json",
                                        "x.ndjson",    "README",     "x.md"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        expect(names[i], A "\n" B "\n", "[one][two]");
        expect(names[i], A "\n" B, "[one][two]");
        expect(names[i], A, "[one]");
        expect(names[i], "\xEF\xBB\xBF\r\n \r\n" A "\r\n\r\n\xEF\xBB\xBF" B "\r\n", "[one][two]");
        expect(names[i], A "\r" B "\r" A, "[one][two][one]");
        expect(names[i], "  " A "  \n\t" B "\t\n", "[one][two]");
        expect(names[i], A "\nnone\n" B "\n" A, "[one]!2 not valid JSON...");
        // Cut in front of its first line, as by split -b.
        expect(names[i], "t\": \"cut\"}\n" A "\n" B "\n" A "\n" B, "!1 not valid JSON...");
        expect(names[i], "{\"text\": \"a\\r\\nb\\u2028\", \"x\": \"\xE2\x80\xA8\"}\n" A,
               "[a\r\nb\xE2\x80\xA8][one]");
        expect(
            names[i], "{\"text\": NaN}\n{\"text\": \"\\ud800\"}\n{\"text\": 1e999}\n{\"text\": []}\n{}",
            "!1 \"text\" is NaN!2 \"text\" is text with U+D800, half a character!3 \"text\" is 1e999, too large a number"
            "!4 \"text\" is a list!5 \"text\" is missing");
    }
}

static void prose_stays_prose(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{ return x; }\n",
        "{\\bf bold} text",
        "{\n  int x = 1;\n}\n",
        "{{template}}\n{{other}}\n",
        "{}\nis an empty object\n",
        "{\"a\": 1} is JSON\n",
        "{\"a\": 1}\nis an example of JSON.\n",
        "{\"a\": 1}\n{\"b\": 2}\nare two.\nThat is all.\n",
        "{\n\"a\": 1\n}\nis an example over lines\n",
        "[Chapter 1]\nIt begins.\n",
        "[1]\n",
        "[1, 2]\nis a list\n",
        "[{\"a\": 1}] is one\n",
        "[{\"a\": 1}]\nis one\n",
        "{'a': 1}\n{'b': 2}\n",
        "\"quoted\"\n\"lines\"\n",
        "1\n2\n3\n",
        "null\n",
        "text\n" A "\n" B "\nend\n",
        "Head\n" A "\n" B "\n" A "\n",
        "{\"a\": 1,\n// with a comment\n\"b\": 2}\n",
        "[link](there)\n",
        "{}{} {\\bf bold}\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char expected[200];
        snprintf(expected, sizeof expected, "[%s]", texts[i]);
        expect("a.txt", texts[i], expected);
        expect("part-1", texts[i], expected);
        expect_as("a.jsonl", KV_TEXT_PLAIN, texts[i], expected);
    }
    expect_as("a.jsonl", KV_TEXT_PLAIN, A "\n" B, "[" A "\n" B "]");
}

static void json_that_is_not_in_lines(void **state) {
    (void)state;
    static const char array[] = "!1 a JSON array, expected one object a line (jq -c '.[]'...",
                      several[] = "!1 a JSON object over several lines, expected one a line (jq -c ....",
                      beside[] = "!1 JSON objects side by side on a line, expected one a line (...";
    static const char *const names[] = {"data.txt", "data.json", "DATA.JSONL", "data", "data.ndjson"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        expect(names[i], "[" A ", " B "]", array);
        expect(names[i], "[\n" A ",\n" B "\n]\n", array);
        expect(names[i], "\xEF\xBB\xBF [ \r\n {\r\n \"text\": \"one\"\r\n }\r\n ]\r\n\r\n", array);
        expect(names[i], "{\n\"text\": \"one\"\n}\n", several);
        expect(names[i], "{\"text\":\n\"one\"}\n{\"text\":\n\"two\"}\n", several);
        expect(names[i], A B "\n", beside);
        expect(names[i], A " " B "\n" A "\n", beside);
        expect_as(names[i], KV_TEXT_JSONL, "[" A ", " B "]", array);
        expect_as(names[i], KV_TEXT_JSONL, "{\n\"text\": \"one\"\n}\n", several);
    }
    // Longer than what is looked at.
    char *text = test_alloc(1 << 18, 1);
    for (int turn = 0; turn < 48; turn++) { // what is looked at ends within every part of a token
        const bool pretty = turn % 2;
        size_t used = (size_t)sprintf(text, pretty ? "{\n" : "[\n");
        for (int i = 0; i < turn; i++) text[used++] = ' ';
        for (int i = 0; used < 1 << 17; i++)
            used += (size_t)sprintf(text + used,
                                    pretty ? "%s\"k%d\":\"\\u00e9\xC3\xA9text\""
                                           : "%s{\"text\":\"%d\\u00e9\xC3\xA9\"}",
                                    i ? ",\n" : "", i);
        strcpy(text + used, pretty ? "\n}\n" : "\n]\n");
        expect("long", text, pretty ? several : array);
    }
    free(text);
    expect("list.jsonl", "[1, 2]\n", array);
}

static void names_that_promise_too_much(void **state) {
    (void)state;
    expect(
        "prose.jsonl", "\nOnce upon a time\nthere was\n",
        "!2 its name promises JSON, but its first lines hold no object: it begins with \"Once upon a time\"...");
    expect("prose.JSON", "1\n2\n", "!1 its name promises JSON...");
    expect_as("prose.jsonl", KV_TEXT_JSONL, "Once\n" A, "!1 not valid JSON...");
    expect("empty.jsonl", "\n \r\n", "");
    kv_documents *documents = NULL;
    kv_error err = {0};
    const char *path = test_path(test_dir, "prose.jsonl"), *text;
    size_t length;
    test_write_text(path, "Once\033[2J");
    assert_int_equal(kv_documents_open(path, &documents, NULL), KV_OK);
    assert_int_equal(kv_documents_next(documents, &text, &length, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "prose.jsonl: its name promises JSON"));
    assert_null(strchr(err.message, '\033'));
    kv_documents_close(documents);
}

static void other_encodings_are_named(void **state) {
    (void)state;
    static const char utf16[] = "\xFF\xFE{\0\"\0t\0", utf32[] = "\0\0\xFE\xFF\0\0\0h\0\0\0i";
    for (int format = KV_TEXT_BY_CONTENT; format <= KV_TEXT_JSONL; format++)
        for (int i = 0; i < 2; i++) {
            const char *path = test_path(test_dir, i ? "a.txt" : "a.jsonl");
            test_write_bytes(path, i ? utf32 : utf16, i ? sizeof utf32 - 1 : sizeof utf16 - 1);
            char *found = documents_as(path, (kv_text_format)format);
            assert_string_equal(found,
                                i ? "!1 UTF-32 text, expected UTF-8 (iconv -f UTF-32 -t UTF-8 makes it)"
                                  : "!1 UTF-16 text, expected UTF-8 (iconv -f UTF-16 -t UTF-8 makes it)");
            free(found);
        }
}

static void line_ends_of_plain_text(void **state) {
    (void)state;
    expect("a.txt", "one\r\nmore\r\n\r\ntwo\r\n", "[one\nmore\n][two\n]");
    expect("a.txt", "one\rmore\r\rtwo\r", "[one\nmore\n][two\n]");
    expect("a.txt", "\xEF\xBB\xBFone\r\n \t\r\n\xEF\xBB\xBFtwo", "[one\n][two]");
    expect("a.txt", "\xEF\xBB\xBF\r\n\xEF\xBB\xBF\n", "");
    expect("a.txt",
           "a\xC2\x85"
           "b\xE2\x80\xA8"
           "c\n",
           "[a\xC2\x85"
           "b\xE2\x80\xA8"
           "c\n]");
}

// A line end, a byte order mark or a line that lies across the pieces in which a file is read.
static void across_what_is_read_at_once(void **state) {
    (void)state;
    enum { STEP = 1 << 16 };
    char *text = test_alloc(3 * STEP, 1), *expected = test_alloc(3 * STEP, 1);
    for (int at = STEP - 4; at <= STEP + 4; at++) {
        memset(text, 'x', (size_t)at);
        strcpy(text + at, "\r\n\r\n\xEF\xBB\xBFnext\r\n");
        sprintf(expected, "[%.*s\n][next\n]", at, text);
        expect("a.txt", text, expected);
        strcpy(text + at, "\r\nmore\r\n");
        sprintf(expected, "[%.*s\nmore\n]", at, text);
        expect("a.txt", text, expected);
        strcpy(text + at, "\r");
        sprintf(expected, "[%.*s\n]", at, text);
        expect("a.txt", text, expected);
        const int n = sprintf(text, "{\"text\": \"");
        memset(text + n, 'x', (size_t)(at - n));
        strcpy(text + at, "\"}\r\n" A "\r\n");
        sprintf(expected, "[%.*s][one]", at - n, text + n);
        expect("part", text, expected);
    }
    free(text);
    free(expected);
}

// The format is told before one goes on from a place, and is the same then: plain files are sought in, of gzip all is read.
static void places_stay_where_they_are(void **state) {
    (void)state;
    static const char content[] = "\xEF\xBB\xBF\r\n" A "\r\n" B "\r\n\r\n{\"text\": 5}\r\n" A "\r\n";
    for (int packed = 0; packed < 2; packed++) {
        const char *path = test_path(test_dir, "places");
        gzFile file = gzopen(path, packed ? "wb" : "wbT");
        gzputs(file, content);
        gzclose(file);
        for (int n = 0; n < 4; n++) {
            kv_documents *first = NULL, *second = NULL;
            kv_document expected, found;
            bool there = false;
            assert_int_equal(kv_documents_open(path, &first, NULL), KV_OK);
            assert_int_equal(kv_documents_open(path, &second, NULL), KV_OK);
            for (int i = 0; i < n; i++) assert_int_equal(kv_documents_read(first, &expected, NULL), KV_OK);
            while (!there)
                assert_int_equal(kv_documents_seek(second, kv_documents_tell(first), &there, NULL), KV_OK);
            assert_int_equal(kv_documents_read(first, &expected, NULL), KV_OK);
            assert_int_equal(kv_documents_read(second, &found, NULL), KV_OK);
            assert_true(found.line == expected.line && found.length == expected.length &&
                        !found.bad == !expected.bad);
            kv_documents_close(first);
            kv_documents_close(second);
        }
    }
}

static void pipes(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "pipe");
    char command[300];
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(command, sizeof command,
             "(printf '\\357\\273\\277{\"text\": \"one\"}\\r'; printf '\\n" B "') >%s", path);
    FILE *writer = popen(command, "r");
    char *found = documents_as(path, KV_TEXT_BY_CONTENT);
    assert_string_equal(found, "[one][two]");
    free(found);
    pclose(writer);
}

static void whole_texts_are_mended(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"", ""},
                                           {"a\n", "a\n"},
                                           {"a\r\n\r\nb\r\n", "a\n\nb\n"},
                                           {"a\rb\r\r\n", "a\nb\n\n"},
                                           {"\r", "\n"},
                                           {"\xEF\xBB\xBF", ""},
                                           {"\xEF\xBB\xBF\xEF\xBB\xBFx\r", "\xEF\xBB\xBFx\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        strcpy(text, cases[i][0]);
        text[kv_mend_text(text, strlen(text))] = '\0';
        assert_string_equal(text, cases[i][1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines_by_any_name),
        cmocka_unit_test(prose_stays_prose),
        cmocka_unit_test(json_that_is_not_in_lines),
        cmocka_unit_test(names_that_promise_too_much),
        cmocka_unit_test(other_encodings_are_named),
        cmocka_unit_test(line_ends_of_plain_text),
        cmocka_unit_test(across_what_is_read_at_once),
        cmocka_unit_test(places_stay_where_they_are),
        cmocka_unit_test(pipes),
        cmocka_unit_test(whole_texts_are_mended),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
