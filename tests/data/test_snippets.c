// Code snippets: operations that compute what Python computes, compositions split as promised, problems that
// Python agrees with, files that are whole or not there. KVDATA names the program.
#include "tests/support/corpus.h"

#include "data/synthetic/snippets.h"
#include "data/synthetic/snippets_ops.h"
#include "data/text/documents.h"
#include "data/tokenizer/train.h"

#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const kv_snippets_options usual = {
    .depth = 3, .n_train = 500, .n_held_out = 100, .n_texts = 2, .n_examples = 0, .seed = 3};
static const char *const files[] = {
    "train.jsonl",          "predictor_train.jsonl",   "held_out.jsonl", "problems_trained.jsonl",
    "problems_known.jsonl", "problems_held_out.jsonl", "snippets.json"};
enum { n_files = 7 };
static char out[1 << 16], err[1 << 16];

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

static void build(const kv_snippets_options *options, kv_snippets *snippets) {
    kv_error error = {0};
    if (kv_snippets_build(options, snippets, &error)) fail_msg("%s", error.message);
}

static void write_to(const kv_snippets_options *options, const char *directory) {
    kv_error error = {0};
    kv_snippets snippets;
    build(options, &snippets);
    if (kv_snippets_write(&snippets, directory, &error)) fail_msg("%s", error.message);
    kv_snippets_free(&snippets);
}

// ---- Operations ----------------------------------------------------------------------------------------

static const kv_snippet_op *op_named(const char *name) {
    for (int i = 0; i < kv_snippet_n_ops; i++)
        if (strcmp(kv_snippet_ops[i].name, name) == 0) return &kv_snippet_ops[i];
    fail_msg("no operation is called %s", name);
    return NULL;
}

static kv_snippet_value number(int64_t n) {
    return (kv_snippet_value){.type = KV_SNIPPET_INT, .n = n};
}

static kv_snippet_value some_text(const char *s) {
    kv_snippet_value value = {.type = KV_SNIPPET_STR, .length = (int64_t)strlen(s)};
    strcpy(value.s, s);
    return value;
}

static kv_snippet_value list(int64_t length, const int64_t *xs) {
    kv_snippet_value value = {.type = KV_SNIPPET_LIST, .length = length};
    memcpy(value.xs, xs, (size_t)length * sizeof *xs);
    return value;
}

// Every operation with every constant on values of its type, as one Python program of assertions.
static void operations_agree_with_python(void **state) {
    (void)state;
    static const int64_t xs[] = {3, -4, 3, 9, 0, 12, -5, 4, 4, 97};
    const int64_t numbers[] = {0, 1, -1, 7, -7, 8, -8, 100, -2000, INT64_C(3000000000)};
    const char *const texts[] = {"", "a", "abcdeABC", "-4,9,97", "eeZzEe"};
    const char *program = in_dir("operations.py");
    FILE *file = fopen(program, "w");
    assert_non_null(file);
    for (int i = 0; i < kv_snippet_n_ops; i++) {
        const kv_snippet_op *op = &kv_snippet_ops[i];
        int n = op->in == KV_SNIPPET_INT ? 10 : op->in == KV_SNIPPET_STR ? 5 : 11;
        for (int64_t c = op->low; c <= op->high; c++) {
            for (int k = 0; k < n; k++) {
                kv_snippet_value value = op->in == KV_SNIPPET_INT   ? number(numbers[k])
                                         : op->in == KV_SNIPPET_STR ? some_text(texts[k])
                                                                    : list(k, xs);
                char before[256], after[2048], code[128];
                assert_true(kv_snippet_repr(&value, before, sizeof before));
                assert_true(kv_snippet_apply(op, c, &value));
                assert_int_equal(value.type, op->out);
                assert_true(kv_snippet_repr(&value, after, sizeof after));
                kv_snippet_fill(op, op->code, c, code, sizeof code);
                fprintf(file, "%s = %s; assert repr(%s) == repr(%s), '%s'\n", kv_snippet_variable(op->in),
                        before, code, after, op->name);
            }
        }
    }
    fclose(file);
    const char *const arguments[] = {"/usr/bin/env", "python3", program, NULL};
    if (test_run(arguments, -1, out, err, sizeof out) != 0) fail_msg("%s", err);
}

// As Python rounds and signs, spelled out.
static void negative_numbers(void **state) {
    (void)state;
    static const int64_t cases[][4] = {
        {-7, 2, -4, 1}, {7, 2, 3, 1}, {-8, 2, -4, 0}, {-1, 9, -1, 8}, {0, 5, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_snippet_value quotient = number(cases[i][0]), rest = number(cases[i][0]);
        assert_true(kv_snippet_apply(op_named("divide"), cases[i][1], &quotient));
        assert_true(kv_snippet_apply(op_named("modulo"), cases[i][1], &rest));
        assert_int_equal(quotient.n, cases[i][2]);
        assert_int_equal(rest.n, cases[i][3]);
    }
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    kv_snippet_value value = number(INT64_MAX);
    assert_false(kv_snippet_apply(op_named("add"), 2, &value));
    value = number(INT64_MIN);
    assert_false(kv_snippet_apply(op_named("negate"), 0, &value));
    value = number(INT64_MIN);
    assert_false(kv_snippet_apply(op_named("digits"), 0, &value));
    value = number(INT64_C(1) << 32);
    assert_false(kv_snippet_apply(op_named("square"), 0, &value));
    value = (kv_snippet_value){.type = KV_SNIPPET_STR, .length = KV_SNIPPET_LENGTH};
    memset(value.s, 'a', KV_SNIPPET_LENGTH);
    kv_snippet_value full = value;
    assert_false(kv_snippet_apply(op_named("append_char"), 'a', &value));
    value = full;
    assert_false(kv_snippet_apply(op_named("prepend_char"), 'a', &value));
    value = full;
    assert_false(kv_snippet_apply(op_named("repeat"), 2, &value));
    value = full;
    assert_true(kv_snippet_apply(op_named("codes"), 0, &value));
    kv_snippet_value codes = value;
    assert_false(kv_snippet_apply(op_named("append"), 2, &value));
    assert_false(kv_snippet_apply(op_named("join"), 0, &codes)); // 256 times "97,"
    char small[8];
    assert_false(kv_snippet_repr(&full, small, sizeof small));
    assert_false(kv_snippet_repr(&codes, small, sizeof small));
}

// ---- Compositions --------------------------------------------------------------------------------------

static int by_content(const void *a, const void *b) {
    return memcmp(a, b, sizeof(kv_composition));
}

static void compositions_fit_and_differ(void **state) {
    (void)state;
    for (int64_t depth = 2; depth <= KV_SNIPPET_MAX_DEPTH; depth++) {
        kv_snippets snippets;
        kv_snippets_options options = usual;
        options.depth = depth;
        build(&options, &snippets);
        assert_int_equal(snippets.n, 600);
        bool trained[256] = {false};
        int64_t begin, end, next = 0;
        for (int s = 0; s < KV_SNIPPET_SPLITS; s++) {
            kv_snippets_range(&snippets, (kv_snippet_split)s, &begin, &end);
            assert_int_equal(begin, next);
            next = end;
            for (int64_t i = begin; i < end; i++) {
                const uint8_t *ops = snippets.compositions[i].ops;
                for (int64_t d = 0; d < depth; d++) {
                    assert_true(ops[d] < kv_snippet_n_ops);
                    if (d) assert_int_equal(kv_snippet_ops[ops[d - 1]].out, kv_snippet_ops[ops[d]].in);
                    trained[ops[d]] |= s == KV_SNIPPET_TRAINED;
                }
            }
        }
        assert_int_equal(next, 600);
        kv_snippets_range(&snippets, KV_SNIPPET_KNOWN, &begin, &end);
        assert_int_equal(begin, 400);
        assert_int_equal(end, 500);
        for (int i = 0; i < kv_snippet_n_ops; i++) assert_true(trained[i]);
        qsort(snippets.compositions, 600, sizeof *snippets.compositions, by_content);
        for (int64_t i = 1; i < 600; i++)
            assert_true(by_content(&snippets.compositions[i - 1], &snippets.compositions[i]) < 0);
        kv_snippets_free(&snippets);
    }
}

// All that there are: nothing is left over, and there is not one more.
static void all_compositions(void **state) {
    (void)state;
    kv_snippets snippets;
    kv_error error = {0};
    kv_snippets_options options = usual;
    options.depth = 2;
    build(&options, &snippets);
    int64_t available = snippets.n_available, pairs = 0;
    for (int i = 0; i < kv_snippet_n_ops; i++)
        for (int j = 0; j < kv_snippet_n_ops; j++) pairs += kv_snippet_ops[i].out == kv_snippet_ops[j].in;
    assert_int_equal(available, pairs);
    kv_snippets_free(&snippets);
    options.n_held_out = available - options.n_train;
    build(&options, &snippets);
    kv_snippets_free(&snippets);
    options.n_held_out++;
    assert_int_equal(kv_snippets_build(&options, &snippets, &error), KV_ERR_ARGUMENT);
    assert_non_null(strstr(error.message, "of depth 2"));
    assert_null(snippets.compositions);
}

static void impossible_choices(void **state) {
    (void)state;
    const kv_snippets_options wrong[] = {
        {1, 500, 10, 1, 0, 1},  {5, 500, 10, 1, 0, 1},
        {3, 0, 10, 1, 0, 1},    {3, 500, -1, 1, 0, 1},
        {3, 500, 10, 0, 0, 1},  {3, 500, 10, 1, 4, 1},
        {3, 500, 10, 1, -1, 1}, {3, INT64_MAX, INT64_MAX, 1, 0, 1},
    };
    kv_error error = {0};
    kv_snippets snippets;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(kv_snippets_build(&wrong[i], &snippets, &error), KV_ERR_ARGUMENT);
        assert_null(snippets.compositions);
    }
    // Too few to hold all operations: what it says would be enough is, and one less is not.
    kv_snippets_options few = usual;
    few.n_train = 3;
    assert_int_equal(kv_snippets_build(&few, &snippets, &error), KV_ERR_ARGUMENT);
    const char *expected = strstr(error.message, "at least ");
    assert_non_null(expected);
    few.n_train = atoi(expected + strlen("at least "));
    build(&few, &snippets);
    int64_t begin, end;
    bool trained[256] = {false};
    kv_snippets_range(&snippets, KV_SNIPPET_TRAINED, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        for (int64_t d = 0; d < few.depth; d++) trained[snippets.compositions[i].ops[d]] = true;
    for (int i = 0; i < kv_snippet_n_ops; i++) assert_true(trained[i]);
    kv_snippets_free(&snippets);
    few.n_train--;
    assert_int_equal(kv_snippets_build(&few, &snippets, &error), KV_ERR_ARGUMENT);
}

// ---- Texts ---------------------------------------------------------------------------------------------

// A solution without its constants: what stands for its composition in the text.
static void shape_of(const char *solution, char shape[1024]) {
    size_t used = 0;
    for (const char *c = solution; *c; c++) {
        bool letter = c > solution && c[-1] == '\'' && c[1] == '\'';
        shape[used++] = (*c >= '2' && *c <= '9') || (letter && *c != ',') ? '@' : *c;
    }
    shape[used] = '\0';
}

static bool text_has(const char *path, const char *wanted) {
    kv_documents *documents = NULL;
    const char *text = NULL;
    size_t length = 0;
    bool found = false;
    char shape[1024], document[2048];
    assert_int_equal(kv_documents_open(path, &documents, NULL), KV_OK);
    while (!found && kv_documents_next(documents, &text, &length, NULL) == KV_OK && text) {
        snprintf(document, sizeof document, "%.*s", (int)length, text);
        const char *body = strstr(document, "\"\"\"\n");
        assert_non_null(body);
        shape_of(body + 4, shape);
        found = strcmp(shape, wanted) == 0;
    }
    kv_documents_close(documents);
    return found;
}

// As the files have it, whatever the generator believes: the predictors' text lacks the known compositions,
// both training texts lack the held-out ones, which have a text of their own.
static void texts_keep_the_split(void **state) {
    (void)state;
    char directory[96], all[128], seen[128], unseen[128];
    snprintf(directory, sizeof directory, "%s", in_dir("split"));
    snprintf(all, sizeof all, "%s/train.jsonl", directory);
    snprintf(seen, sizeof seen, "%s/predictor_train.jsonl", directory);
    snprintf(unseen, sizeof unseen, "%s/held_out.jsonl", directory);
    kv_snippets snippets;
    kv_snippets_options options = usual;
    options.n_train = 150;
    options.n_held_out = 40;
    write_to(&options, directory);
    build(&options, &snippets);
    for (int s = 0; s < KV_SNIPPET_SPLITS; s++) {
        int64_t begin, end;
        kv_snippets_range(&snippets, (kv_snippet_split)s, &begin, &end);
        for (int64_t i = begin; i < end; i++) {
            static kv_snippet snippet;
            char shape[1024];
            kv_snippet_make(&snippets, i, 0, &snippet);
            shape_of(snippet.solution, shape);
            assert_int_equal(text_has(all, shape), s != KV_SNIPPET_HELD_OUT);
            assert_int_equal(text_has(seen, shape), s == KV_SNIPPET_TRAINED);
            assert_int_equal(text_has(unseen, shape), s == KV_SNIPPET_HELD_OUT);
        }
    }
    kv_snippets_free(&snippets);
}

static void same_seed_same_bytes(void **state) {
    (void)state;
    const char *names[] = {"first", "second", "other"};
    for (int i = 0; i < 3; i++) {
        kv_snippets_options options = usual;
        options.seed += i == 2;
        write_to(&options, in_dir(names[i]));
        assert_int_equal(test_dir_count(in_dir(names[i])), n_files);
    }
    for (int i = 0; i < n_files; i++) {
        char *content[3];
        for (int k = 0; k < 3; k++) content[k] = test_read_text(test_path(in_dir(names[k]), files[i]));
        assert_string_equal(content[0], content[1]);
        assert_string_not_equal(content[0], content[2]);
        for (int k = 0; k < 3; k++) free(content[k]);
    }
}

// Constants and wording of one composition: other ones in another variant and with another seed.
static void texts_of_a_composition_differ(void **state) {
    (void)state;
    static kv_snippet one, two, other;
    kv_snippets snippets;
    int64_t same_variant = 0, same_seed = 0;
    build(&usual, &snippets);
    for (int64_t i = 0; i < 100; i++) {
        snippets.options.seed = usual.seed;
        kv_snippet_make(&snippets, i, 1, &one);
        kv_snippet_make(&snippets, i, 2, &two);
        snippets.options.seed++;
        kv_snippet_make(&snippets, i, 1, &other);
        same_variant += strcmp(one.prompt, two.prompt) == 0;
        same_seed += strcmp(one.prompt, other.prompt) == 0;
        assert_string_equal(one.test, "");
    }
    // Of three operations without constants one wording in eight is the same.
    assert_true(same_variant < 13 && same_seed < 13);
    kv_snippets_free(&snippets);
}

static void the_summary_counts(void **state) {
    (void)state;
    write_to(&usual, in_dir("counts"));
    json_t *root = json_load_file(in_dir("counts/snippets.json"), 0, NULL);
    assert_non_null(root);
    const json_t *compositions = json_object_get(root, "compositions"), *operation;
    assert_int_equal(json_integer_value(json_object_get(compositions, "trained")), 400);
    assert_int_equal(json_integer_value(json_object_get(compositions, "known")), 100);
    assert_int_equal(json_integer_value(json_object_get(compositions, "held_out")), 100);
    assert_int_equal(json_integer_value(json_object_get(root, "seed")), 3);
    const char *name;
    json_t *operations = json_object_get(root, "operations");
    assert_int_equal(json_object_size(operations), kv_snippet_n_ops);
    json_object_foreach(operations, name, operation)
        assert_true(json_integer_value(json_object_get(operation, "trained")) > 0);
    json_decref(root);
}

// ---- What Python says ----------------------------------------------------------------------------------

static void run_checks(const char *const *arguments, const char *format, int64_t *counts) {
    const char *all[8] = {"/usr/bin/env", "python3", test_fixture("programs/check_snippets.py")};
    for (int i = 0; arguments[i]; i++) all[3 + i] = arguments[i];
    if (test_run(all, -1, out, err, sizeof out) != 0) fail_msg("%s", err);
    if (sscanf(out, format, &counts[0], &counts[1], &counts[2], &counts[3]) < 3) fail_msg("%s", out);
}

static void solutions_pass_and_wrong_ones_fail(void **state) {
    (void)state;
    for (int64_t depth = 2; depth <= KV_SNIPPET_MAX_DEPTH; depth++) {
        kv_snippets_options options = usual;
        options.depth = depth;
        const char *directory = in_dir("python");
        write_to(&options, directory);
        const char *const arguments[] = {test_path(directory, files[3]), test_path(directory, files[4]),
                                         test_path(directory, files[5]), NULL};
        int64_t counts[4];
        run_checks(arguments, "problems %" SCNi64 " right %" SCNi64 " wrong %" SCNi64 " caught %" SCNi64,
                   counts);
        assert_int_equal(counts[0], 600);
        assert_int_equal(counts[1], 600);
        assert_true(counts[2] > 3 * counts[0]);
        // The rest changes nothing: a letter removed from a number's text, the order before a sum.
        assert_true((double)counts[3] > 0.85 * (double)counts[2]);
    }
}

static void docstrings_tell_the_truth(void **state) {
    (void)state;
    kv_snippets_options options = usual;
    options.n_examples = 2;
    write_to(&options, in_dir("examples"));
    const char *const arguments[] = {"--texts", in_dir("examples/train.jsonl"), NULL};
    int64_t counts[4];
    run_checks(arguments, "texts %" SCNi64 " examples %" SCNi64 " failed %" SCNi64, counts);
    assert_int_equal(counts[0], 1000);
    assert_int_equal(counts[1], 2000);
    assert_int_equal(counts[2], 0);
}

// ---- Tokens --------------------------------------------------------------------------------------------

// Texts survive the tokenizer to the byte, new lines and indentation included; a prompt's tokens begin its
// text's tokens; prompts are short.
static void tokens_keep_the_layout(void **state) {
    (void)state;
    kv_error error = {0};
    kv_tokenizer *tokenizer = NULL;
    kv_snippets snippets;
    static kv_snippet snippet;
    write_to(&usual, in_dir("tokens"));
    const char *text = in_dir("tokens/train.jsonl"), *model = in_dir("tokens/tokenizer.model");
    if (kv_tokenizer_train(&text, 1, 640, model, &error)) fail_msg("%s", error.message);
    assert_int_equal(kv_tokenizer_open(model, &tokenizer, NULL), KV_OK);
    build(&usual, &snippets);
    for (int64_t i = 0; i < snippets.n; i++) {
        kv_snippet_make(&snippets, i, 0, &snippet);
        char whole[2048], *back = NULL;
        size_t length = (size_t)snprintf(whole, sizeof whole, "%s%s", snippet.prompt, snippet.solution),
               n_back;
        int32_t *prompt_ids = NULL, *whole_ids = NULL;
        int64_t n_prompt = 0, n_whole = 0;
        assert_int_equal(kv_tokenizer_encode(tokenizer, snippet.prompt, strlen(snippet.prompt), &prompt_ids,
                                             &n_prompt, NULL),
                         KV_OK);
        assert_int_equal(kv_tokenizer_encode(tokenizer, whole, length, &whole_ids, &n_whole, NULL), KV_OK);
        assert_int_equal(kv_tokenizer_decode(tokenizer, whole_ids, n_whole, &back, &n_back, NULL), KV_OK);
        assert_string_equal(back, whole);
        assert_in_range(n_prompt, 15, 80);
        assert_memory_equal(prompt_ids, whole_ids, (size_t)n_prompt * sizeof *prompt_ids);
        free(prompt_ids);
        free(whole_ids);
        free(back);
    }
    kv_snippets_free(&snippets);
    kv_tokenizer_free(tokenizer);
}

// ---- The program ---------------------------------------------------------------------------------------

static int run_kvdata(const char *const *arguments) {
    const char *all[24] = {getenv("KVDATA"), "snippets"};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[2 + i] = arguments[i];
    return test_run(all, -1, out, err, sizeof out);
}

#define kvdata(...) run_kvdata((const char *const[]){__VA_ARGS__, NULL})

static void usage(void **state) {
    (void)state;
    const char *never = in_dir("never");
    assert_int_equal(kvdata("--help"), 0);
    assert_non_null(strstr(out, "\n  kvdata snippets "));
    assert_int_equal(kvdata("--depth", "2"), 2);
    assert_non_null(strstr(err, "--out DIR is needed"));
    assert_int_equal(kvdata("--out", never, "--depth", "1"), 2);
    assert_non_null(strstr(err, "--depth: '1', expected a whole number from 2 to 4"));
    assert_int_equal(kvdata("--out", never, "--depth", "5"), 2);
    assert_int_equal(kvdata("--out", never, "--train", "0"), 2);
    assert_int_equal(kvdata("--out", never, "--train", "many"), 2);
    assert_int_equal(kvdata("--out", never, "--held-out", "-1"), 2);
    assert_int_equal(kvdata("--out", never, "--texts", "0"), 2);
    assert_int_equal(kvdata("--out", never, "--examples", "4"), 2);
    assert_int_equal(kvdata("--out", never, "--seed", "-1"), 2);
    assert_int_equal(kvdata("--out", never, "--frobnicate"), 2);
    assert_int_equal(kvdata("--out", never, "surplus"), 2);
    assert_int_equal(kvdata("--out", never, "--train", "9000"), 1);
    assert_string_equal(err, "kvdata: 9000 + 600 compositions asked for, but there are 8675 of depth 3\n");
    assert_int_equal(kvdata("--out", never, "--train", "5"), 1);
    assert_non_null(strstr(err, "fewer do not hold all 43 operations"));
    assert_int_equal(access(never, F_OK), -1);
}

static void the_program_writes_what_the_functions_write(void **state) {
    (void)state;
    write_to(&usual, in_dir("by_function"));
    assert_int_equal(kvdata("-o", in_dir("by_program"), "-d", "3", "-n", "500", "-f", "100", "-t", "2", "-e",
                            "0", "-S", "3"),
                     0);
    assert_non_null(strstr(out, "known "));
    for (int i = 0; i < n_files; i++) {
        char *one = test_read_text(test_path(in_dir("by_function"), files[i]));
        char *two = test_read_text(test_path(in_dir("by_program"), files[i]));
        assert_string_equal(one, two);
        free(one);
        free(two);
    }
}

static void unwritable_places(void **state) {
    (void)state;
    kv_error error = {0};
    kv_snippets snippets;
    test_write_text(in_dir("file"), "not a directory");
    assert_int_equal(kvdata("-o", in_dir("file/below")), 1);
    assert_non_null(strstr(err, "file: exists but is not a directory"));
    assert_int_equal(kvdata("-o", "/proc/nowhere"), 1);
    assert_int_equal(strncmp(err, "kvdata: /proc/nowhere", 21), 0);
    build(&usual, &snippets);
    for (int64_t limit = 50; limit < 500000; limit *= 9) {
        test_limit_file_size(limit);
        kv_status status = kv_snippets_write(&snippets, in_dir("full"), &error);
        test_limit_file_size(-1);
        if (status == KV_OK) break;
        assert_int_equal(status, KV_ERR_IO);
        assert_non_null(strstr(error.message, "File too large"));
        assert_int_equal(test_dir_count(in_dir("full")), -1);
    }
    kv_snippets_free(&snippets);
}

// Stopped in the middle of work that takes seconds; what was there before stays.
static void an_interrupted_run_leaves_nothing(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM};
    const char *stopped = in_dir("stopped");
    for (int i = 0; i < 2; i++) {
        if (i == 1) write_to(&usual, stopped);
        const int64_t before = i == 1 ? n_files : -1, n_beside = test_dir_count(test_dir);
        char *old = i == 1 ? test_read_text(in_dir("stopped/train.jsonl")) : NULL;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            if (!freopen("/dev/null", "w", stderr)) _exit(126);
            execl(getenv("KVDATA"), "kvdata", "snippets", "-o", stopped, "-d", "4", "-n", "90000", "-t",
                  "100", NULL);
            _exit(127);
        }
        // At work: in the directory where there is one, else beside where it will be.
        const char *at_work = i == 1 ? stopped : test_dir;
        const int64_t quiet = i == 1 ? n_files : n_beside;
        while (test_alive(child) && test_dir_count(at_work) < quiet + 1) usleep(1000);
        assert_int_equal(test_dir_count(at_work), quiet + 1);
        kill(child, signals[i]);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        assert_int_equal(test_dir_count(stopped), before);
        if (!old) continue;
        char *now = test_read_text(in_dir("stopped/train.jsonl"));
        assert_string_equal(now, old);
        free(now);
        free(old);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_agree_with_python),
        cmocka_unit_test(negative_numbers),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(compositions_fit_and_differ),
        cmocka_unit_test(all_compositions),
        cmocka_unit_test(impossible_choices),
        cmocka_unit_test(texts_keep_the_split),
        cmocka_unit_test(same_seed_same_bytes),
        cmocka_unit_test(texts_of_a_composition_differ),
        cmocka_unit_test(the_summary_counts),
        cmocka_unit_test(solutions_pass_and_wrong_ones_fail),
        cmocka_unit_test(docstrings_tell_the_truth),
        cmocka_unit_test(tokens_keep_the_layout),
        cmocka_unit_test(usage),
        cmocka_unit_test(the_program_writes_what_the_functions_write),
        cmocka_unit_test(unwritable_places),
        cmocka_unit_test(an_interrupted_run_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
