// Passages to recall from: as long as promised and no longer, the statement where it was promised to be, nothing that could
// be known beforehand. KVDATA is not needed.
#include "tests/support/corpus.h"

#include "data/synthetic/recall.h"

#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kv_tokenizer *open_fixture(const char *name) {
    char path[300];
    kv_error err = {0};
    kv_tokenizer *tokenizer;
    snprintf(path, sizeof path, "fixtures/tokenizers/%s", name);
    if (kv_tokenizer_open(test_fixture(path), &tokenizer, &err)) fail_msg("%s", err.message);
    return tokenizer;
}

static void open_recall(const kv_tokenizer *tokenizer, uint64_t seed, kv_recall *recall) {
    kv_error err = {0};
    if (kv_recall_open(tokenizer, 0, seed, recall, &err)) fail_msg("%s", err.message);
}

static kv_recall_item make(const kv_recall *recall, int64_t length, double depth, int64_t number) {
    kv_error err = {0};
    kv_recall_item item;
    if (kv_recall_make(recall, length, depth, number, &item, &err)) fail_msg("%s", err.message);
    return item;
}

// What the generator says is one token is counted here in the other way that there is: words, marks and line ends.
static int64_t count_marks(const char *text) {
    int64_t n = 0;
    for (; *text; text++) {
        if (isalpha((unsigned char)*text)) {
            n++;
            while (isalpha((unsigned char)text[1])) text++;
        } else {
            n += *text != ' ';
        }
    }
    return n;
}

static int64_t count(const kv_tokenizer *tokenizer, const char *text) {
    if (!tokenizer) return count_marks(text) + 1;
    int32_t *ids;
    int64_t n;
    assert_int_equal(kv_tokenizer_encode(tokenizer, text, strlen(text), &ids, &n, NULL), KV_OK);
    free(ids);
    return n + (kv_tokenizer_bos(tokenizer) >= 0);
}

// Statement i of a passage: key and value, and the text behind it; NULL: there is none.
static const char *next_statement(const char *text, char key[64], char value[64]) {
    int n = 0;
    char first[32], second[32] = "";
    if (sscanf(text, " %31[a-z] is %63[a-z].%n", first, value, &n) == 2 && n)
        snprintf(key, 64, "%s", first);
    else if (sscanf(text, " %31[a-z] %31[a-z] is %63[a-z].%n", first, second, value, &n) == 3 && n)
        snprintf(key, 64, "%s %s", first, second);
    return n ? text + n : NULL;
}

static const char *passage_of(const char *prompt) {
    static const char head[] = "Remember:";
    assert_int_equal(strncmp(prompt, head, strlen(head)), 0);
    return prompt + strlen(head);
}

// Everything that a prompt promises. Returns the number of statements.
static int64_t check_item(const kv_recall *recall, const kv_recall_item *item, int64_t length, double depth) {
    const char *at = passage_of(item->prompt), *next;
    char key[64], value[64], question[200], (*keys)[64] = test_alloc(item->n_statements, sizeof *keys);
    int64_t n = 0;
    for (; (next = next_statement(at, key, value)); at = next, n++) {
        assert_true(n < item->n_statements);
        strcpy(keys[n], key);
        for (int64_t i = 0; i < n && n < 300; i++) assert_string_not_equal(keys[i], key);
        if (n == item->asked) {
            assert_string_equal(key, item->key);
            assert_string_equal(value, item->answer);
        }
    }
    snprintf(question, sizeof question, "\nWhat is %s? %s is", item->key, item->key);
    assert_string_equal(at, question);
    assert_int_equal(n, item->n_statements);
    assert_int_equal(item->asked, (int64_t)(depth * (double)(n - 1) + 0.5));
    assert_int_equal(item->tokens, count(recall->tokenizer, item->prompt));
    assert_true(item->tokens <= length);
    free(keys);
    return n;
}

// ---- What fits -----------------------------------------------------------------------------------------

static void a_prompt_is_as_long_as_statements_allow(void **state) {
    (void)state;
    static const char *const names[] = {"gpt-2", "llama-spm", "starcoder", NULL};
    for (int t = 0; t < 4; t++) {
        kv_tokenizer *tokenizer = names[t] ? open_fixture(names[t]) : NULL;
        kv_recall recall;
        open_recall(tokenizer, 3, &recall);
        assert_int_equal(recall.from_vocabulary, t < 3);
        assert_true(t < 3 ? recall.n_words > 5000 : recall.n_words == 256);
        const int64_t lengths[] = {kv_recall_shortest(&recall), 40, 64, 99, 256, 501};
        for (int l = 0; l < 6; l++)
            for (int d = 0; d < 5; d++) {
                kv_recall_item item = make(&recall, lengths[l], 0.25 * d, 7);
                check_item(&recall, &item, lengths[l], 0.25 * d);
                assert_true(item.tokens > lengths[l] - 4); // a statement of single tokens
                kv_recall_item_free(&item);
            }
        kv_recall_free(&recall);
        kv_tokenizer_free(tokenizer);
    }
}

// A tokenizer that has none of the words as one token: the list's, each of several tokens, as near as they allow.
static void words_of_several_tokens_fit_too(void **state) {
    (void)state;
    kv_error err = {0};
    kv_tokenizer *tokenizer;
    kv_recall recall;
    test_small_corpus(test_dir);
    if (kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, &err))
        fail_msg("%s", err.message);
    open_recall(tokenizer, 3, &recall);
    assert_false(recall.from_vocabulary);
    assert_true(recall.most_extra > recall.least_extra);
    for (int64_t length = kv_recall_shortest(&recall); length < 700; length += 37)
        for (int64_t i = 0; i < 3; i++) {
            kv_recall_item item = make(&recall, length, 0.5, i);
            check_item(&recall, &item, length, 0.5);
            const int64_t dearest = recall.costs[0].statement + 2 * recall.most_extra;
            assert_true(item.tokens > length - dearest - 2 * (recall.most_extra - recall.least_extra));
            kv_recall_item_free(&item);
        }
    kv_recall_free(&recall);
    kv_tokenizer_free(tokenizer);
}

static void where_words_run_out_keys_have_two(void **state) {
    (void)state;
    kv_recall recall;
    open_recall(NULL, 3, &recall);
    kv_recall_item one = make(&recall, 500, 1, 0), two = make(&recall, 6000, 1, 0);
    assert_null(strchr(one.key, ' '));
    assert_non_null(strchr(two.key, ' '));
    assert_true(check_item(&recall, &one, 500, 1) <= 128);
    assert_true(check_item(&recall, &two, 6000, 1) > 1000);
    // All of them are different, also behind the first 128.
    char key[64], value[64], **keys = test_alloc(two.n_statements, sizeof *keys);
    const char *at = passage_of(two.prompt);
    for (int64_t n = 0; n < two.n_statements; n++) {
        at = next_statement(at, key, value);
        for (int64_t i = 0; i < n; i++) assert_string_not_equal(keys[i], key);
        keys[n] = strdup(key);
    }
    for (int64_t n = 0; n < two.n_statements; n++) free(keys[n]);
    free(keys);
    kv_recall_item_free(&one);
    kv_recall_item_free(&two);
    kv_recall_free(&recall);
}

// ---- What is drawn -------------------------------------------------------------------------------------

static void the_same_arguments_give_the_same_item_and_no_other(void **state) {
    (void)state;
    kv_recall recall, again, seeded;
    open_recall(NULL, 3, &recall);
    open_recall(NULL, 3, &again);
    open_recall(NULL, 4, &seeded);
    kv_recall_item items[] = {make(&recall, 128, 0.5, 1), make(&again, 128, 0.5, 1),
                              make(&seeded, 128, 0.5, 1), make(&recall, 132, 0.5, 1),
                              make(&recall, 128, 0.6, 1), make(&recall, 128, 0.5, 2)};
    assert_string_equal(items[0].prompt, items[1].prompt);
    for (int i = 0; i < 6; i++)
        for (int j = i + 1; j < 6; j++)
            if (i + j != 1) {
                // Not even the first statement.
                assert_memory_not_equal(items[i].prompt, items[j].prompt, 16);
            }
    for (int i = 0; i < 6; i++) kv_recall_item_free(&items[i]);
    kv_recall_free(&recall);
    kv_recall_free(&again);
    kv_recall_free(&seeded);
}

// How far counts[n] are from even ones: chi squared over its n - 1 degrees of freedom, about 1 for even draws.
static double unevenness(const int64_t *counts, int64_t n) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)counts[i];
    for (int64_t i = 0; i < n; i++) {
        const double away = (double)counts[i] - sum / (double)n;
        squares += away * away / (sum / (double)n);
    }
    return squares / (double)(n - 1);
}

static int64_t place(const char *word) {
    int64_t i = 0;
    while (strcmp(kv_recall_list[i], word) != 0) assert_non_null(kv_recall_list[++i]);
    return i;
}

// Neither by what answers there are, nor by the key, nor by the depth can one be guessed.
static void answers_cannot_be_guessed(void **state) {
    (void)state;
    enum { N_WORDS = 128, N_ITEMS = 40 * N_WORDS };
    int64_t answers[N_WORDS] = {0}, keys[N_WORDS] = {0}, apart[N_WORDS] = {0};
    kv_recall recall;
    open_recall(NULL, 3, &recall);
    for (int64_t i = 0; i < N_ITEMS; i++) {
        kv_recall_item item = make(&recall, 48, 0.25 * (double)(i % 5), i);
        const int64_t key = place(item.key), answer = place(item.answer);
        assert_true(key % 2 == 0 && answer % 2 == 1);
        keys[key / 2]++, answers[answer / 2]++, apart[(answer - key + 2 * N_WORDS) / 2 % N_WORDS]++;
        kv_recall_item_free(&item);
    }
    // Six standard deviations of chi squared on 127 degrees: 6 · sqrt(2 / 127).
    assert_true(unevenness(keys, N_WORDS) < 1.76);
    assert_true(unevenness(answers, N_WORDS) < 1.76);
    assert_true(unevenness(apart, N_WORDS) < 1.76);
    kv_recall_free(&recall);
}

static void fewer_words_are_the_first_ones(void **state) {
    (void)state;
    kv_recall recall;
    assert_int_equal(kv_recall_open(NULL, 8, 3, &recall, NULL), KV_OK);
    assert_int_equal(recall.n_words, 8);
    for (int64_t i = 0; i < 50; i++) {
        kv_recall_item item = make(&recall, 20, 0.5, i);
        assert_true(place(item.key) < 8 && place(item.answer) < 8);
        kv_recall_item_free(&item);
    }
    kv_recall_free(&recall);
}

static void the_list_is_of_different_plain_words(void **state) {
    (void)state;
    for (int i = 0; kv_recall_list[i]; i++) {
        assert_true(strlen(kv_recall_list[i]) >= 3);
        for (const char *c = kv_recall_list[i]; *c; c++) assert_true(*c >= 'a' && *c <= 'z');
        for (int j = 0; j < i; j++) assert_string_not_equal(kv_recall_list[i], kv_recall_list[j]);
    }
}

// ---- Training texts ------------------------------------------------------------------------------------

// A passage, and questions with their answers: each about another statement until all have been asked about once, then
// again. Returns the number of statements.
static int64_t check_text(const char *text) {
    enum { MOST = 300 };
    char keys[MOST][64], values[MOST][64], key[64], value[64], asked_for[64];
    int64_t asked[MOST] = {0}, n = 0, n_asked = 0;
    const char *at = passage_of(text), *next;
    for (; (next = next_statement(at, keys[n], values[n])); at = next, n++)
        for (int64_t i = 0; i < n; i++) assert_string_not_equal(keys[i], keys[n]);
    assert_true(n > 1);
    for (; *at; n_asked++) {
        int end = 0;
        int64_t i = 0;
        if (sscanf(at, "\nWhat is %63[a-z]?%n", asked_for, &end) != 1 || !end ||
            !(next = next_statement(at + end, key, value))) {
            assert_true(count_marks(at) < 9); // the beginning of a question, where the text is full
            break;
        }
        assert_string_equal(asked_for, key);
        while (i < n && strcmp(keys[i], key) != 0) i++;
        assert_true(i < n && asked[i] == n_asked / n);
        assert_string_equal(values[i], value);
        asked[i]++;
        at = next;
    }
    assert_true(n_asked > 0);
    return n;
}

static void texts_fill_training_sequences(void **state) {
    (void)state;
    kv_recall recall;
    open_recall(NULL, 3, &recall);
    const int64_t lengths[] = {128, 256, 500};
    int64_t few = 0, many = 0;
    for (int l = 0; l < 3; l++)
        for (int64_t i = 0; i < 200; i++) {
            char *text, *other;
            kv_error err = {0};
            if (kv_recall_text(&recall, "train", lengths[l], i, &text, &err)) fail_msg("%s", err.message);
            assert_int_equal(count_marks(text) + 2, lengths[l]);
            const int64_t n = check_text(text);
            few += n<5, many += n> lengths[l] / 10;
            assert_int_equal(kv_recall_text(&recall, "held_out", lengths[l], i, &other, NULL), KV_OK);
            assert_string_not_equal(text, other);
            free(text);
            free(other);
        }
    assert_true(few > 100 && many > 60);
    kv_recall_free(&recall);
}

// ---- Files ---------------------------------------------------------------------------------------------

static void files_hold_what_they_say(void **state) {
    (void)state;
    kv_error err = {0};
    kv_recall recall;
    open_recall(NULL, 3, &recall);
    const int64_t lengths[] = {32, 64};
    const double depths[] = {0, 0.5, 1};
    const kv_recall_plan plan = {lengths, 2, depths, 3, 4, 40, 128};
    char directory[300];
    snprintf(directory, sizeof directory, "%s", test_path(test_dir, "out"));
    if (kv_recall_write(&recall, &plan, directory, &err)) fail_msg("%s", err.message);
    assert_int_equal(test_dir_count(directory), 4);
    char *text = test_read_text(test_path(directory, "questions.jsonl")), *rest = text;
    int64_t n = 0;
    for (char *line; (line = strsep(&rest, "\n")) && *line; n++) {
        json_t *entry = json_loads(line, 0, NULL);
        const double depth = depths[n / 4 % 3];
        assert_int_equal(json_integer_value(json_object_get(entry, "length")), lengths[n / 12]);
        assert_true(json_number_value(json_object_get(entry, "depth")) == depth);
        kv_recall_item item = make(&recall, lengths[n / 12], depth, n % 4);
        assert_string_equal(json_string_value(json_object_get(entry, "prompt")), item.prompt);
        assert_string_equal(json_string_value(json_object_get(entry, "answer")), item.answer);
        assert_int_equal(json_integer_value(json_object_get(entry, "tokens")), item.tokens);
        kv_recall_item_free(&item);
        json_decref(entry);
    }
    assert_int_equal(n, 24);
    free(text);
    // Too short for the shortest passage: nothing is touched.
    const int64_t short_length = 8;
    const kv_recall_plan bad = {&short_length, 1, depths, 3, 4, 0, 0};
    assert_int_equal(kv_recall_write(&recall, &bad, test_path(test_dir, "none"), &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "passages of 8 tokens: too short"));
    assert_int_equal(test_dir_count(test_path(test_dir, "none")), -1);
    kv_recall_free(&recall);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_as_long_as_statements_allow),
        cmocka_unit_test(words_of_several_tokens_fit_too),
        cmocka_unit_test(where_words_run_out_keys_have_two),
        cmocka_unit_test(the_same_arguments_give_the_same_item_and_no_other),
        cmocka_unit_test(answers_cannot_be_guessed),
        cmocka_unit_test(fewer_words_are_the_first_ones),
        cmocka_unit_test(the_list_is_of_different_plain_words),
        cmocka_unit_test(texts_fill_training_sequences),
        cmocka_unit_test(files_hold_what_they_say),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
