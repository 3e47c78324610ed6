// The fact corpus: unambiguous, plain, split as promised; on the real ISO lists and on small made-up ones.
#include "tests/support/corpus.h"

#include "data/benchmark/triviaqa.h"
#include "data/synthetic/atlas.h"
#include "data/text/documents.h"
#include "data/tokenizer/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char iso_codes[] = "/usr/share/iso-codes/json";
static char dir[64];
static kv_atlas whole; // all facts there are

static int set_up(void **state) {
    (void)state;
    kv_error err = {0};
    test_dir_make(dir);
    if (kv_atlas_build(iso_codes, -1, 0.2, 3, &whole, &err)) fail_msg("%s", err.message);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    kv_atlas_free(&whole);
    test_dir_remove(dir);
    return 0;
}

static int by_question(const void *a, const void *b) {
    return strcmp((*(const kv_fact *const *)a)->question, (*(const kv_fact *const *)b)->question);
}

static const kv_fact *find(const kv_atlas *atlas, const char *question) {
    for (int64_t i = 0; i < atlas->n; i++)
        if (strcmp(atlas->facts[i].question, question) == 0) return &atlas->facts[i];
    return NULL;
}

// ---- What the facts are --------------------------------------------------------------------------------

static void every_question_has_one_answer(void **state) {
    (void)state;
    const kv_fact **sorted = test_alloc(whole.n, sizeof *sorted);
    for (int64_t i = 0; i < whole.n; i++) sorted[i] = &whole.facts[i];
    qsort(sorted, (size_t)whole.n, sizeof *sorted, by_question);
    for (int64_t i = 1; i < whole.n; i++)
        assert_string_not_equal(sorted[i - 1]->question, sorted[i]->question);
    free(sorted);
}

static void questions_and_answers_are_plain(void **state) {
    (void)state;
    for (int64_t i = 0; i < whole.n; i++) {
        const kv_fact *fact = &whole.facts[i];
        size_t length = strlen(fact->question);
        assert_int_equal(fact->question[length - 1], '?');
        assert_null(strchr(fact->answer, '?'));
        assert_true(strpbrk(fact->answer, ".,\n()[]") == NULL && strlen(fact->answer) > 1);
        for (const char *c = fact->question; *c; c++) assert_in_range(*c, ' ', '~');
        for (const char *c = fact->answer; *c; c++) assert_in_range(*c, ' ', '~');
    }
}

static void known_facts(void **state) {
    (void)state;
    static const char *const facts[][2] = {
        {"In which country is Chobe?", "Botswana"},
        {"Which country has the code BW?", "Botswana"},
        {"What is the ISO number of Botswana?", "072"},
        {"Which currency has the code BWP?", "Pula"},
        {"What is the code of the currency Pula?", "BWP"},
        {"What is the ISO number of the currency Pula?", "072"},
        {"Which language has the code tsn?", "Tswana"},
        {"Which country has the code BO?", "Bolivia"}, // the common name
    };
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        const kv_fact *fact = find(&whole, facts[i][0]);
        if (!fact) fail_msg("no fact asks '%s'", facts[i][0]);
        assert_string_equal(fact->answer, facts[i][1]);
    }
    // In several countries, the name of a country itself, not ASCII.
    assert_null(find(&whole, "In which country is La Paz?"));
    assert_null(find(&whole, "In which country is Georgia?"));
    assert_null(find(&whole, "Which country has the code TR?"));
    const kv_fact *bolivia = find(&whole, "Which country has the code BO?");
    assert_int_equal(bolivia->n_aliases, 2);
    assert_string_equal(bolivia->aliases[1], "Plurinational State of Bolivia");
}

// ---- Choice and split ----------------------------------------------------------------------------------

static void counts_add_up(void **state) {
    (void)state;
    kv_atlas atlas;
    assert_int_equal(kv_atlas_build(iso_codes, 1000, 0.2, 1, &atlas, NULL), KV_OK);
    int64_t chosen[KV_FACT_KINDS] = {0}, held_out[KV_FACT_KINDS] = {0}, all_held_out = 0;
    assert_int_equal(atlas.n, 1000);
    for (int64_t i = 0; i < atlas.n; i++) {
        chosen[atlas.facts[i].kind]++;
        held_out[atlas.facts[i].kind] += atlas.facts[i].held_out;
        all_held_out += atlas.facts[i].held_out;
    }
    assert_int_equal(all_held_out, 200);
    for (int k = 0; k < KV_FACT_KINDS; k++) {
        assert_int_equal(chosen[k], atlas.chosen[k]);
        assert_int_equal(held_out[k], atlas.held_out[k]);
        double share = 1000.0 * (double)whole.available[k] / (double)whole.n;
        assert_true(chosen[k] > share - 1 && chosen[k] < share + 1);
        assert_true(held_out[k] > 0.2 * share - 2 && held_out[k] < 0.2 * share + 2);
    }
    kv_atlas_free(&atlas);
}

// A smaller atlas of the same seed is a part of a larger one; another seed makes another choice.
static void choices_nest(void **state) {
    (void)state;
    kv_atlas small, large, other;
    assert_int_equal(kv_atlas_build(iso_codes, 300, 0.2, 1, &small, NULL), KV_OK);
    assert_int_equal(kv_atlas_build(iso_codes, 900, 0.2, 1, &large, NULL), KV_OK);
    assert_int_equal(kv_atlas_build(iso_codes, 300, 0.2, 2, &other, NULL), KV_OK);
    int64_t shared = 0;
    for (int64_t i = 0; i < small.n; i++) {
        assert_non_null(find(&large, small.facts[i].question));
        shared += find(&other, small.facts[i].question) != NULL;
    }
    assert_true(shared < 100);
    kv_atlas_free(&small);
    kv_atlas_free(&large);
    kv_atlas_free(&other);
}

static void impossible_choices(void **state) {
    (void)state;
    kv_error err = {0};
    kv_atlas atlas;
    assert_int_equal(kv_atlas_build(iso_codes, 1000000, 0.2, 1, &atlas, &err), KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "1000000"));
    assert_int_equal(kv_atlas_build(iso_codes, 0, 0.2, 1, &atlas, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_atlas_build(iso_codes, 10, 1.0, 1, &atlas, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_atlas_build(test_path(dir, "nowhere"), 10, 0.2, 1, &atlas, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "package iso-codes"));
    assert_null(atlas.facts);
}

// ---- The lists -----------------------------------------------------------------------------------------

// Small made-up lists; `countries` and `parts` as given.
static void write_lists(const char *countries, const char *parts) {
    test_write_text(test_path(dir, "lists/iso_3166-1.json"), countries);
    test_write_text(test_path(dir, "lists/iso_3166-2.json"), parts);
    test_write_text(test_path(dir, "lists/iso_4217.json"),
                    "{\"4217\": [{\"alpha_3\": \"ORA\", \"name\": \"Crown\", \"numeric\": \"100\"},"
                    " {\"alpha_3\": \"ORB\", \"name\": \"Crown\", \"numeric\": \"101\"}]}");
    test_write_text(test_path(dir, "lists/iso_639-2.json"),
                    "{\"639-2\": [{\"alpha_3\": \"orr\", \"name\": \"Orrish; Old Orr\"}]}");
}

static const char two_countries[] = "{\"3166-1\": [{\"alpha_2\": \"OR\", \"name\": \"Orr, Isle of\", "
                                    "\"common_name\": \"Orr\", \"numeric\": \"001\"},"
                                    " {\"alpha_2\": \"UR\", \"name\": \"Urr\", \"numeric\": \"002\"}]}";

static void ambiguity_in_the_lists(void **state) {
    (void)state;
    kv_error err = {0};
    kv_atlas atlas;
    write_lists(
        two_countries,
        "{\"3166-2\": [{\"code\": \"OR-1\", \"name\": \"North\"}, {\"code\": \"UR-1\", \"name\": \"north\"},"
        " {\"code\": \"OR-2\", \"name\": \"Tower\"}, {\"code\": \"OR-3\", \"name\": \"Tower\"},"
        " {\"code\": \"UR-4\", \"name\": \"Orr\"}, {\"code\": \"UR-5\", \"name\": \"St. Ann\"},"
        " {\"code\": \"UR-6\", \"name\": \"Harbour\"}]}");
    if (kv_atlas_build(test_path(dir, "lists"), -1, 0, 1, &atlas, &err)) fail_msg("%s", err.message);
    assert_int_equal(atlas.available[KV_FACT_SUBDIVISION], 2); // Tower once, and Harbour
    assert_string_equal(find(&atlas, "In which country is Tower?")->answer, "Orr");
    assert_string_equal(find(&atlas, "In which country is Tower?")->aliases[0], "Orr, Isle of");
    const kv_fact *language = find(&atlas, "Which language has the code orr?");
    assert_string_equal(language->answer, "Orrish");
    assert_int_equal(language->n_aliases, 1);
    assert_string_equal(language->aliases[0], "Old Orr");
    // Two currencies of one name: their codes lead to it, it leads to neither.
    assert_int_equal(atlas.available[KV_FACT_CURRENCY_NAME], 2);
    assert_int_equal(atlas.available[KV_FACT_CURRENCY_CODE], 0);
    assert_int_equal(atlas.available[KV_FACT_CURRENCY_NUMBER], 0);
    assert_int_equal(atlas.n, 9);
    kv_atlas_free(&atlas);
}

static void broken_lists_are_named(void **state) {
    (void)state;
    static const struct {
        const char *countries, *parts, *expected;
    } cases[] = {
        {"{", "{}", "iso_3166-1.json:1: not valid JSON"},
        {"{\"3166-1\": 4}", "{}", "iso_3166-1.json: expected a list \"3166-1\""},
        {"{\"3166-1\": [{\"name\": \"Orr\"}]}", "{}", "iso_3166-1.json: entry 0: expected \"alpha_2\""},
        {two_countries, "{\"3166-2\": [{\"code\": \"XX-1\", \"name\": \"North\"}]}",
         "iso_3166-2.json: entry 0"},
        {two_countries, "{\"3166-2\": [{\"code\": \"O\", \"name\": \"North\"}]}", "iso_3166-2.json: entry 0"},
        {two_countries, "{\"3166-2\": [7]}", "iso_3166-2.json: entry 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_error err = {0};
        kv_atlas atlas;
        write_lists(cases[i].countries, cases[i].parts);
        assert_int_equal(kv_atlas_build(test_path(dir, "lists"), -1, 0, 1, &atlas, &err), KV_ERR_FORMAT);
        if (!strstr(err.message, cases[i].expected))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].expected);
    }
}

// ---- Files ---------------------------------------------------------------------------------------------

static const char *const files[] = {"train.jsonl",    "predictor_train.jsonl",
                                    "held_out.jsonl", "questions_trained.jsonl",
                                    "atlas.json",     "questions_held_out.jsonl"};

static void same_seed_same_bytes(void **state) {
    (void)state;
    const char *names[] = {"first", "second"};
    for (int i = 0; i < 2; i++) {
        kv_atlas atlas;
        assert_int_equal(kv_atlas_build(iso_codes, 200, 0.25, 9, &atlas, NULL), KV_OK);
        assert_int_equal(kv_atlas_write(&atlas, test_path(dir, names[i]), NULL), KV_OK);
        kv_atlas_free(&atlas);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *first = test_read_text(test_path(test_path(dir, "first"), files[i]));
        char *second = test_read_text(test_path(test_path(dir, "second"), files[i]));
        assert_string_equal(first, second);
        free(first);
        free(second);
    }
    assert_int_equal(test_dir_count(test_path(dir, "first")), 6);
}

static int64_t count_documents(const char *path, const char *wanted) {
    kv_documents *documents = NULL;
    const char *text = NULL;
    size_t length = 0;
    int64_t n = 0;
    assert_int_equal(kv_documents_open(path, &documents, NULL), KV_OK);
    while (kv_documents_next(documents, &text, &length, NULL) == KV_OK && text)
        n += !wanted || (strlen(wanted) == length && memcmp(wanted, text, length) == 0);
    kv_documents_close(documents);
    return n;
}

// Held-out facts are in the text of base and aux, not in that of the predictors, and in one of their own;
// training text agrees with prompt + " " + answer + "\n" to the byte.
static void files_keep_the_split(void **state) {
    (void)state;
    kv_atlas atlas;
    const char *out = test_path(dir, "split");
    assert_int_equal(kv_atlas_build(iso_codes, 60, 0.5, 4, &atlas, NULL), KV_OK);
    assert_int_equal(kv_atlas_write(&atlas, out, NULL), KV_OK);
    kv_atlas_free(&atlas);
    const char *all = test_path(out, "train.jsonl"), *seen = test_path(out, "predictor_train.jsonl");
    const char *unseen = test_path(out, "held_out.jsonl");
    assert_int_equal(count_documents(all, NULL), 60);
    assert_int_equal(count_documents(seen, NULL), 30);
    assert_int_equal(count_documents(unseen, NULL), 30);
    for (int held_out = 0; held_out < 2; held_out++) {
        kv_questions questions;
        const char *path = test_path(out, held_out ? "questions_held_out.jsonl" : "questions_trained.jsonl");
        assert_int_equal(kv_triviaqa_read(path, &questions, NULL), KV_OK);
        assert_int_equal(questions.n, 30);
        for (int64_t i = 0; i < questions.n; i++) {
            char text[512];
            snprintf(text, sizeof text, "Question: %s\nAnswer: %s\n", questions.items[i].text,
                     questions.items[i].value);
            assert_int_equal(count_documents(all, text), 1);
            assert_int_equal(count_documents(seen, text), held_out ? 0 : 1);
            assert_int_equal(count_documents(unseen, text), held_out ? 1 : 0);
        }
        kv_questions_free(&questions);
    }
}

static void full_disk_leaves_nothing(void **state) {
    (void)state;
    kv_error err = {0};
    const char *out = test_path(dir, "full");
    for (int64_t limit = 50; limit < 300000; limit *= 8) {
        test_limit_file_size(limit);
        kv_status status = kv_atlas_write(&whole, out, &err);
        test_limit_file_size(-1);
        assert_int_equal(status, KV_ERR_IO);
        assert_non_null(strstr(err.message, "File too large"));
        assert_int_equal(test_dir_count(out), -1);
    }
}

// A prompt is tokenized by itself, and what the model then says must be what it was trained to say: the
// tokens of every prompt begin the tokens of its fact.
static void prompts_begin_facts(void **state) {
    (void)state;
    kv_error err = {0};
    kv_tokenizer *tokenizer = NULL;
    const char *out = test_path(dir, "whole"), *model = test_path(dir, "whole.model");
    assert_int_equal(kv_atlas_write(&whole, out, NULL), KV_OK);
    const char *text = test_path(out, "train.jsonl");
    if (kv_tokenizer_train(&text, 1, 1024, model, &err)) fail_msg("%s", err.message);
    assert_int_equal(kv_tokenizer_open(model, &tokenizer, NULL), KV_OK);
    int64_t tokens = 0;
    for (int64_t i = 0; i < whole.n; i++) {
        char *fact = kv_fact_text(&whole.facts[i]);
        size_t prompt_length = (size_t)(strstr(fact, "\nAnswer:") - fact) + strlen("\nAnswer:");
        int32_t *prompt_ids = NULL, *fact_ids = NULL;
        int64_t n_prompt = 0, n_fact = 0;
        assert_int_equal(kv_tokenizer_encode(tokenizer, fact, prompt_length, &prompt_ids, &n_prompt, NULL),
                         KV_OK);
        assert_int_equal(kv_tokenizer_encode(tokenizer, fact, strlen(fact), &fact_ids, &n_fact, NULL), KV_OK);
        assert_true(n_prompt < n_fact);
        assert_memory_equal(prompt_ids, fact_ids, (size_t)n_prompt * sizeof *fact_ids);
        tokens += n_fact;
        free(prompt_ids);
        free(fact_ids);
        free(fact);
    }
    assert_in_range(tokens / whole.n, 15, 25);
    kv_tokenizer_free(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_question_has_one_answer),
        cmocka_unit_test(questions_and_answers_are_plain),
        cmocka_unit_test(known_facts),
        cmocka_unit_test(counts_add_up),
        cmocka_unit_test(choices_nest),
        cmocka_unit_test(impossible_choices),
        cmocka_unit_test(ambiguity_in_the_lists),
        cmocka_unit_test(broken_lists_are_named),
        cmocka_unit_test(same_seed_same_bytes),
        cmocka_unit_test(files_keep_the_split),
        cmocka_unit_test(full_disk_leaves_nothing),
        cmocka_unit_test(prompts_begin_facts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
