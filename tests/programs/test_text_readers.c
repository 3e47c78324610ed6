// Files as other programs and other systems write them, given to every program that reads text: byte order marks, CR LF and CR, JSON as
// Python writes it, names that say nothing. What is read is what stands there without them; what is no text is named.
// KVDATA, KVRUN and KVEVAL name the programs.
#include "tests/support/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char out[1 << 16], err[1 << 16], before[1 << 16];

static int set_up(void **state) {
    setenv("K", getenv("KVDATA"), 1);
    setenv("R", getenv("KVRUN"), 1);
    setenv("E", getenv("KVEVAL"), 1);
    return test_family_set_up(state);
}

// A shell command in the test's directory, in which $K is kvdata, $R kvrun and $E kveval.
static int shell(const char *command) {
    char all[8192];
    snprintf(all, sizeof all, "cd %s && %s", test_dir, command);
    return test_run((const char *const[]){"/bin/sh", "-c", all, NULL}, -1, out, err, sizeof out);
}

static void expect(const char *command, int status, const char *printed, const char *said) {
    const int found = shell(command);
    if (found != status || (printed && !strstr(out, printed)) || (said && !strstr(err, said)))
        fail_msg("%s\nexit status %d, expected %d; expected '%s' in: %s\nand '%s' in: %s", command, found,
                 status, printed ? printed : "", out, said ? said : "", err);
}

static void write_file(const char *name, const char *content) {
    test_write_text(test_path(test_dir, name), content);
}

// ---- Prompts -------------------------------------------------------------------------------------------

#define RUN "$R --base base -t tokenizer.model -n 1 --json "

static void prompts(void **state) {
    (void)state;
    static const char *const plain = "'Is it?\\nYes'";
    static const char *const spellings[] = {"'Is it?\\r\\nYes\\r\\n'", "'Is it?\\rYes\\r'",
                                            "'\\357\\273\\277Is it?\\nYes\\n'",
                                            "'\\357\\273\\277Is it?\\r\\nYes'", "'Is it?\\nYes\\n'"};
    char command[512];
    snprintf(command, sizeof command,
             "printf %s >p.txt && " RUN "-f p.txt | sed 's/.*prompt_ids//; s/,.made_by.*//'", plain);
    expect(command, 0, ":[", NULL);
    strcpy(before, out);
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        snprintf(command, sizeof command,
                 "printf %s >q.txt && " RUN "-f q.txt | sed 's/.*prompt_ids//; s/,.made_by.*//' && " RUN
                 "<q.txt | sed 's/.*prompt_ids//; s/,.made_by.*//'",
                 spellings[i]);
        expect(command, 0, NULL, NULL);
        const size_t n = strlen(before);
        if (strncmp(out, before, n) != 0 || strcmp(out + n, before) != 0)
            fail_msg("%s: %s, expected twice %s", spellings[i], out, before);
    }
    // What is typed as an argument is what was meant.
    expect(RUN "\"$(printf 'Is it?\\r\\nYes')\" | sed 's/.*prompt_ids//; s/,.made_by.*//'", 0, NULL, NULL);
    assert_string_not_equal(out, before);
    expect(RUN "--prompt-ids \"$(printf '5\\r\\n17\\r\\n')\"", 0, "\"prompt_ids\":[5,17]", NULL);
    expect("printf '\\377\\376I\\0s\\0' >w.txt && " RUN "-f w.txt", 1, NULL,
           "w.txt: found UTF-16 text, expected UTF-8");
    expect(RUN "<w.txt", 1, NULL, "standard input: found UTF-16 text, expected UTF-8");
}

// Byte by byte, and a word about it.
static void encode_and_decode(void **state) {
    (void)state;
    expect(
        "printf '\\357\\273\\277a\\r\\n' >e.txt && $K encode -t tokenizer.model <e.txt >e.ids && $K decode -t tokenizer.model <e.ids | "
        "cmp - e.txt",
        0, NULL, "kvdata: warning: standard input has a byte order mark or CR LF line ends");
    expect("printf 'a\\n' | $K encode -t tokenizer.model", 0, NULL, NULL);
    assert_string_equal(err, "");
    expect("$K decode -t tokenizer.model 5 17", 0, NULL, NULL);
    strcpy(before, out);
    expect("printf '\\357\\273\\2775\\r\\n17\\r' | $K decode -t tokenizer.model && echo", 0, before, NULL);
}

// ---- Task files ----------------------------------------------------------------------------------------

#define SYSTEMS                                                                                              \
    "tokenizer: tokenizer.model\nbootstrap: 10\nsystems:\n  - {name: base, family: base, model: base}\ntasks:\n"

static void ask(const char *task, const char *content, int status, const char *said) {
    char config[512];
    snprintf(config, sizeof config, SYSTEMS "  - {name: t, file: q, %s}\noutput: asked\n", task);
    write_file("ask.yaml", config);
    write_file("q", content);
    expect("rm -rf asked && $E -t ask.yaml", status, NULL, said);
}

#define QUESTION(more) "{" more "\"question\": \"Which?\", \"answer\": {\"value\": \"this\"}}"
#define ODD                                                                                                  \
    "\"score\": NaN, \"n\": 123456789012345678901234567890, \"s\": \"\\ud800\", \"z\": [\"\\u0000\", -1e999], "
#define PIQA "{" ODD "\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 0}"

static void questions(void **state) {
    (void)state;
    static const char trivia[] = "shots: 0, max_tokens: 2", piqa[] = "kind: piqa";
    ask(trivia, "\xEF\xBB\xBF" QUESTION(ODD) "\r\n\r\n" QUESTION("") "\r\n", 0, NULL);
    expect("cat asked/samples/t-*/base.jsonl | wc -l", 0, "2\n", NULL);
    ask(trivia, QUESTION("") "\r" QUESTION(ODD "\"question\": \"twice\", "), 0, NULL);
    expect("cat asked/samples/t-*/base.jsonl | wc -l", 0, "2\n", NULL);
    ask(piqa, "\xEF\xBB\xBF" PIQA "\r\n\xEF\xBB\xBF" PIQA, 0, NULL);
    expect("cat asked/samples/t-*/base.jsonl | wc -l", 0, "2\n", NULL);
    ask(trivia, "[" QUESTION("") "]", 1,
        "q: found a JSON array, expected one object a line (jq -c '.[]' FILE makes them)");
    ask(piqa, "[" PIQA "]", 1, "q:1: found a JSON array");
    ask(trivia, "{\n\"question\": \"Which?\",\n\"answer\": {\"value\": \"this\"}}\n", 1,
        "found a JSON object over several lines");
    ask(trivia, QUESTION("") "\n{\"question\": NaN, \"answer\": {\"value\": \"a\"}}", 1,
        "q:2: \"question\" is NaN, expected a string");
    ask(trivia, QUESTION("") "\n{\"question\": \"a\\u0000b\", \"answer\": {\"value\": \"a\"}}", 1,
        "q:2: \"question\" is text with a NUL character, expected a string");
    ask(piqa, PIQA "\n{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": Infinity}", 1,
        "q:2: 'label' is Infinity, expected");
    expect("iconv -t UTF-16 ask.yaml >q && $E -t ask.yaml", 1, NULL, "UTF-16");
}

// An interrupted evaluation whose samples somebody has looked at in an editor.
static void samples_of_an_editor(void **state) {
    (void)state;
    ask("shots: 0, max_tokens: 2", QUESTION("") "\n" QUESTION("") "\n", 0, NULL);
    expect("cp asked/results.csv first.csv && f=$(ls asked/samples/*/base.jsonl) && cp $f samples && "
           "{ printf '\\357\\273\\277'; sed 's/$/\\r/' samples; } >$f && $E -t ask.yaml && cmp samples $f",
           0, NULL, NULL);
}

// ---- Corpora -------------------------------------------------------------------------------------------

#define TOKENIZE "$K tokenize -t tokenizer.model -c0 -m0 -f -o x.h5 "

// Python's json writes these; kvdata tokenizer, tokenize and inspect read the same.
static void corpora(void **state) {
    (void)state;
    char text[1 << 14];
    size_t used = (size_t)sprintf(text, "\xEF\xBB\xBF");
    for (int i = 0; i < 40; i++)
        used += (size_t)sprintf(text + used,
                                "{" ODD "\"text\": \"Line %d of some text, 0 to 9 and a to z\"}\r\n", i);
    static const char *const names[] = {"train.JSONL", "part-00000", "train.txt", "train.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char command[300];
        write_file(names[i], text);
        snprintf(command, sizeof command, TOKENIZE "%s && $K inspect %s && cat %s | " TOKENIZE "-", names[i],
                 names[i], names[i]);
        expect(command, 0, "documents        40\n", NULL);
        assert_non_null(strstr(out, "JSON lines of text "));
        assert_non_null(strstr(out, "  documents    40\n"));
        snprintf(command, sizeof command,
                 "$K tokenizer -i %s -v 300 -o made && $K encode -t made.model '{score' | wc -w", names[i]);
        expect(command, 0, "made.model: 300 pieces", NULL);
    }
    expect("mkdir -p spark && cp part-00000 spark/part-00001 && touch spark/_SUCCESS && " TOKENIZE "spark", 0,
           "documents        40\n", NULL);
    expect("printf '[{\"text\": \"one\"},\\n {\"text\": \"two\"}]' >list && " TOKENIZE "list", 1, NULL,
           "kvdata: list: a JSON array, expected one object a line (jq -c '.[]' FILE makes them)\n");
    expect("$K tokenizer -i list -v 300 -o made", 1, NULL,
           "kvdata: list: a JSON array, expected one object a line");
    expect("$K inspect list", 1, NULL, "list: a JSON array, expected one object a line");
    // Of a directory one file does not end all.
    expect(
        "mkdir -p in && cp list in/list.json && cp part-00000 in/a.txt && " TOKENIZE "in", 0,
        "documents        40\n",
        "kvdata: in/list.json:1: a JSON array, expected one object a line (jq -c '.[]' FILE makes them); left out\n");
    expect(TOKENIZE "--max-bad 0 in", 1, NULL, "1 documents are bad, expected at most 0");
    expect(TOKENIZE "--format text list", 0, "documents        1\n", NULL);
    expect("$K tokenizer --format text -i list -i part-00000 -v 300 -o made && $K encode -t made.model x", 0,
           NULL, NULL);
    expect("sed 's/text\":/body\":/' part-00000 >body && $K tokenizer -i body -v 300 -o made", 1, NULL,
           "body:1: \"text\" is missing");
    expect("$K tokenizer --text-key body -i body -v 300 -o made", 0, "300 pieces", NULL);
    expect("printf 'Prose\\n' >prose.jsonl && " TOKENIZE "prose.jsonl", 1, NULL,
           "prose.jsonl: its name promises JSON");
    expect(
        "printf 'A head\\n{\"text\": \"a\"}\\n{\"text\": \"b\"},\\n{\"text\": \"c\"}\\n' >late && " TOKENIZE
        "late",
        0, "documents        1\n",
        "kvdata: warning: late: most lines look like JSON objects, but it is read as plain text");
    expect(TOKENIZE "--format text late", 0, "documents        1\n", NULL);
    assert_null(strstr(err, "warning"));
    expect("printf '{ int x = 1; }\\n\\n{\"a\": 1} is JSON\\n' | " TOKENIZE "-", 0, "documents        2\n",
           NULL);
    assert_null(strstr(err, "warning"));
}

// ---- Models --------------------------------------------------------------------------------------------

// A model whose files have been through an editor, and whose configuration holds what nobody reads.
static void models(void **state) {
    (void)state;
    expect(RUN "x", 0, "\"ids\"", NULL);
    expect(
        "cp -r base edited && sed -e '1s/^{/{\"extra\": [NaN, Infinity, 1e999, \"\\\\\\\\ud800\"], \"vocab_size\": 1,/' -e 's/$/\\r/' base/config.json "
        "| { printf '\\357\\273\\277'; cat; } >edited/config.json && head -c 30 edited/config.json && "
        "$R --base edited -t tokenizer.model -n 1 --json x",
        0, "[NaN, Infinity", NULL);
    expect("$K inspect --json edited | python3 -m json.tool", 0, "\"vocab", NULL);
    expect("sed 's/\"vocab_size\": [0-9]*/\"vocab_size\": NaN/' base/config.json >edited/config.json && "
           "$R --base edited -t tokenizer.model -n 1 --json x",
           1, NULL, "config.json: 'vocab_size' is NaN, expected a whole number");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts),   cmocka_unit_test(encode_and_decode),
        cmocka_unit_test(questions), cmocka_unit_test(samples_of_an_editor),
        cmocka_unit_test(corpora),   cmocka_unit_test(models),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
