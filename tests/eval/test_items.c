// Items that are too long for a context: found before anything is computed, named by file and line, left out as if they
// had never been in the file, or cut on the left as one would by hand.
#include "tests/support/corpus.h"

#include "data/tokenizer/train.h"
#include "eval/benchmark/trivia.h"
#include "eval/benchmark/written.h"
#include "infer/score/score.h"
#include "tests/support/tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// BOS, EOS, unknown, all bytes, "a" and the space's own piece: a text has as many tokens as bytes.
enum { PIECES = 3 + 256 + 2, CONTEXT = 64, MOST = 4 };

static kv_tokenizer *tokenizer;
static kv_system model;

static int set_up(void **state) {
    kv_error err = {0};
    test_dir_set_up(state);
    const char *text = test_path(test_dir, "a.jsonl"), *path = test_path(test_dir, "bytes.model");
    test_write_text(text, "{\"text\": \"a a\"}\n");
    if (kv_tokenizer_train(&text, 1, PIECES, path, &err)) fail_msg("%s", err.message);
    if (kv_tokenizer_open(path, &tokenizer, &err)) fail_msg("%s", err.message);
    kv_model_spec spec = tiny_base();
    spec.vocab_size = PIECES, spec.context_length = CONTEXT;
    model.base = tiny_model(&spec, 5);
    return 0;
}

static int tear_down(void **state) {
    kv_model_free(model.base);
    kv_tokenizer_free(tokenizer);
    return test_dir_tear_down(state);
}

// ---- The files -----------------------------------------------------------------------------------------

#define LONG "0123456789abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// Of every kind four items, of which the second and the last are too long; a blank line stands between them.
struct kind {
    const char *name;
    int64_t max_tokens, samples;
    const char *lines[4];
    int64_t tokens[2]; // of the prompts of the two
};

static const struct kind kinds[] = {
    {"triviaqa",
     4,
     1,
     {"{\"question\": \"a?\", \"answer\": {\"value\": \"b\"}}",
      "{\"question\": \"" LONG "\", \"answer\": {\"value\": \"b\"}}",
      "{\"question\": \"c?\", \"answer\": {\"value\": \"d\"}}",
      "{\"question\": \"" LONG LONG "\", \"answer\": {\"value\": \"b\"}}"},
     {1 + 10 + 72 + 8, 1 + 10 + 144 + 8}},
    {"piqa",
     0,
     1,
     {"{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"cc\", \"label\": 0}",
      "{\"goal\": \"" LONG "\", \"sol1\": \"b\", \"sol2\": \"cc\", \"label\": 1}",
      "{\"goal\": \"c\", \"sol1\": \"bb\", \"sol2\": \"c\", \"label\": 0}",
      "{\"goal\": \"" LONG LONG "\", \"sol1\": \"b\", \"sol2\": \"cc\", \"label\": 1}"},
     {1 + 10 + 72 + 8, 1 + 10 + 144 + 8}},
    {"humaneval",
     4,
     2,
     {"{\"task_id\": \"t/0\", \"prompt\": \"#\", \"entry_point\": \"f\", \"canonical_solution\": \"\", \"test\": \"\"}",
      "{\"task_id\": \"t/1\", \"prompt\": \"#" LONG
      "\", \"entry_point\": \"f\", \"canonical_solution\": \"\", \"test\": \"\"}",
      "{\"task_id\": \"t/2\", \"prompt\": \"##\", \"entry_point\": \"f\", \"canonical_solution\": \"\", \"test\": \"\"}",
      "{\"task_id\": \"t/3\", \"prompt\": \"#" LONG LONG
      "\", \"entry_point\": \"f\", \"canonical_solution\": \"\", \"test\": \"\"}"},
     {1 + 1 + 72, 1 + 1 + 144}},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static char file[300];

// Lines that `which` has a bit for, a blank one behind the first.
static kv_eval_task write_task(const struct kind *k, unsigned which, kv_too_long too_long) {
    snprintf(file, sizeof file, "%s", test_path(test_dir, "items.jsonl"));
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    for (int i = 0; i < 4; i++)
        if (which & 1u << i) fprintf(out, "%s\n%s", k->lines[i], i ? "" : "\n");
    assert_int_equal(fclose(out), 0);
    return (kv_eval_task){.name = (char *)"made up",
                          .split = (char *)"",
                          .kind = (char *)k->name,
                          .file = file,
                          .max_tokens = k->max_tokens,
                          .samples = k->samples,
                          .temperature = k->samples > 1,
                          .top_p = 1,
                          .too_long = too_long};
}

static const kv_fit fit = {.context = CONTEXT, .whose = "the aux of `KVP`", .key = "tasks[7]"};

static kv_benchmark *create(const kv_eval_task *config) {
    kv_benchmark *b;
    kv_error err = {0};
    if (kv_benchmark_create(config, &(kv_prompting){.tokenizer = tokenizer}, 1, &b, &err))
        fail_msg("%s", err.message);
    return b;
}

static kv_benchmark *fitted(const kv_eval_task *config) {
    kv_benchmark *b = create(config);
    kv_error err = {0};
    if (kv_benchmark_fit(b, &fit, &err)) fail_msg("%s", err.message);
    return b;
}

static void expect_failure(const kv_eval_task *config, const kv_fit *how, const char *const *parts) {
    kv_benchmark *b = create(config);
    kv_error err = {0};
    assert_int_equal(kv_benchmark_fit(b, how, &err), KV_ERR_RANGE);
    for (int i = 0; parts[i]; i++)
        if (!strstr(err.message, parts[i])) fail_msg("no '%s' in '%s'", parts[i], err.message);
    kv_benchmark_free(b);
}

#define EXPECT_FAILURE(config, how, ...) expect_failure(config, how, (const char *const[]){__VA_ARGS__, NULL})

// ---- Tests ---------------------------------------------------------------------------------------------

static void nothing_changes_where_all_fit(void **state) {
    (void)state;
    for (int k = 0; k < N_KINDS; k++) {
        char hash[17] = "";
        for (int way = KV_TOO_LONG_REFUSE; way <= KV_TOO_LONG_CUT; way++) {
            const kv_eval_task config = write_task(&kinds[k], 1 | 4, (kv_too_long)way);
            kv_benchmark *b = fitted(&config);
            assert_int_equal(b->n_items, 2);
            assert_int_equal(b->n_skipped + b->n_cut, 0);
            assert_null(b->skipped);
            if (way) assert_string_equal(b->hash, hash); // answers of a run without the switch stay good
            memcpy(hash, b->hash, sizeof hash);
            kv_benchmark_free(b);
        }
    }
}

static void the_longest_is_named(void **state) {
    (void)state;
    for (int k = 0; k < N_KINDS; k++) {
        const bool choices = kinds[k].max_tokens == 0;
        const int64_t answer = choices ? 3 : kinds[k].max_tokens, prompt = kinds[k].tokens[1];
        const kv_eval_task config = write_task(&kinds[k], 15, KV_TOO_LONG_REFUSE);
        char sum[160];
        snprintf(sum, sizeof sum,
                 "items.jsonl:5: %s of %lld tokens (%lld + %lld) do not fit the context of 64 tokens",
                 choices ? "context and choice" : "prompt and answer", (long long)(prompt + answer),
                 (long long)prompt, (long long)answer);
        EXPECT_FAILURE(&config, &fit, sum, "of the aux of `KVP`", "2 of 4 items", "`too_long: skip`",
                       "`too_long: cut`", "-s 'tasks[7].too_long=skip'");
    }
}

// Records of all units at once.
static void ask(kv_benchmark *b, json_t **records) {
    kv_asking asking = {.system = &model, .tokenizer = tokenizer, .seed = 3};
    kv_error err = {0};
    if (b->ops->answer(b, &asking, 0, b->n_units, records, &err)) fail_msg("%s", err.message);
    kv_session_free(asking.session);
}

// Programs are not run here: what they are asked with is all that could differ.
static void skipping_is_a_file_without_those_lines(void **state) {
    (void)state;
    for (int k = 0; k < N_KINDS; k++) {
        const kv_eval_task config = write_task(&kinds[k], 15, KV_TOO_LONG_SKIP);
        kv_benchmark *b = fitted(&config);
        const kv_eval_task without = write_task(&kinds[k], 1 | 4, KV_TOO_LONG_REFUSE);
        kv_benchmark *c = create(&without);
        assert_int_equal(b->n_items, 2);
        assert_int_equal(b->n_units, c->n_units);
        assert_int_equal(b->n_skipped, 2);
        assert_int_equal(b->longest, c->longest);
        assert_string_not_equal(b->hash, c->hash);
        for (int64_t i = 0; i < 2; i++) {
            assert_int_equal(b->items[i].row, 2 * i);
            assert_int_equal(b->prompt_tokens[i], c->prompt_tokens[i]);
            assert_int_equal(b->items[i].n_ids, c->items[i].n_ids);
            assert_memory_equal(b->items[i].ids, c->items[i].ids,
                                (size_t)b->items[i].n_ids * sizeof(int32_t));
        }
        const json_t *first = json_array_get(b->skipped, 0);
        assert_int_equal(json_array_size(b->skipped), 2);
        assert_non_null(strstr(json_string_value(json_object_get(first, "item")), "items.jsonl:3"));
        assert_true(json_integer_value(json_object_get(first, "tokens")) > CONTEXT);
        if (strcmp(kinds[k].name, "humaneval") != 0) {
            json_t *some[2], *all[2];
            double a[2 * 3], e[2 * 3];
            ask(b, some), ask(c, all);
            for (int i = 0; i < 2; i++) {
                // A row without an id of its own is called by its number.
                json_object_del(some[i], "id"), json_object_del(all[i], "id");
                assert_true(json_equal(some[i], all[i]));
            }
            assert_int_equal(b->ops->score(b, some, a, NULL), KV_OK);
            assert_int_equal(c->ops->score(c, all, e, NULL), KV_OK);
            assert_memory_equal(a, e, (size_t)(2 * b->n_metrics) * sizeof *a);
            kv_records_free(some, 2), kv_records_free(all, 2);
        }
        kv_benchmark_free(b), kv_benchmark_free(c);
    }
}

// BOS, then what of the text's tokens fits.
static int64_t cut_by_hand(const char *text, int64_t room, int32_t *ids) {
    int32_t *all;
    int64_t n;
    assert_int_equal(kv_tokenizer_encode(tokenizer, text, strlen(text), &all, &n, NULL), KV_OK);
    assert_true(n > room - 1);
    ids[0] = kv_tokenizer_bos(tokenizer);
    memcpy(ids + 1, all + n - (room - 1), (size_t)(room - 1) * sizeof *ids);
    free(all);
    return room;
}

static void cutting_is_what_one_would_do_by_hand(void **state) {
    (void)state;
    int32_t ids[CONTEXT];
    // Questions and programs: room for the answer is kept.
    for (int k = 0; k < N_KINDS; k += 2) {
        const kv_eval_task config = write_task(&kinds[k], 15, KV_TOO_LONG_CUT);
        kv_benchmark *b = fitted(&config);
        assert_int_equal(b->n_items, 4);
        assert_int_equal(b->n_cut, 2);
        assert_int_equal(b->longest, CONTEXT);
        for (int i = 0; i < 2; i++) {
            const kv_item *item = &b->items[1 + 2 * i];
            const char *text = k ? (i ? "#" LONG LONG : "#" LONG)
                                 : (i ? "Question: " LONG LONG "\nAnswer:" : "Question: " LONG "\nAnswer:");
            assert_int_equal(cut_by_hand(text, CONTEXT - 4, ids), item->n_ids);
            assert_memory_equal(item->ids, ids, (size_t)item->n_ids * sizeof *ids);
            assert_int_equal(item->cut, kinds[k].tokens[i] - (CONTEXT - 4));
            assert_int_equal(b->prompt_tokens[1 + 2 * i], CONTEXT - 4);
        }
        assert_int_equal(b->items[0].cut, 0);
        kv_benchmark_free(b);
    }
    // A record says that its prompt was cut, and shows all of it.
    const kv_eval_task config = write_task(&kinds[0], 15, KV_TOO_LONG_CUT);
    kv_benchmark *b = fitted(&config);
    json_t *records[4];
    ask(b, records);
    assert_null(json_object_get(records[0], "cut"));
    assert_int_equal(json_integer_value(json_object_get(records[3], "cut")),
                     kinds[0].tokens[1] - (CONTEXT - 4));
    assert_non_null(strstr(json_string_value(json_object_get(records[3], "prompt")), "Question: 0123"));
    // Its answer is that to the prompt cut by hand.
    kv_asking asking = {.system = &model, .tokenizer = tokenizer, .seed = 3};
    const int64_t n = cut_by_hand("Question: " LONG LONG "\nAnswer:", CONTEXT - 4, ids);
    int32_t *prompt = ids, generated[4];
    int64_t n_generated;
    static const char *const stops[] = {"\n", ".", ","};
    char *text;
    size_t length;
    assert_int_equal(kv_asking_generate(&asking, &(kv_prompts){.ids = &prompt, .lengths = &n, .n = 1}, stops, 3,
                                        (kv_generation){.max_tokens = 4}, generated, &n_generated, NULL),
                     KV_OK);
    assert_int_equal(kv_tokenizer_decode(tokenizer, generated, n_generated, &text, &length, NULL), KV_OK);
    kv_written_cut(text, stops, 3);
    json_t *expected = kv_record_text(text);
    assert_true(json_equal(json_object_get(records[3], "generation"), expected));
    json_decref(expected);
    free(text);
    kv_session_free(asking.session);
    kv_records_free(records, 4);
    kv_benchmark_free(b);
}

// All choices lose as many tokens as the longest of them has to.
static void choices_share_the_cut_context(void **state) {
    (void)state;
    const kv_eval_task config = write_task(&kinds[1], 15, KV_TOO_LONG_CUT);
    kv_benchmark *b = fitted(&config);
    json_t *records[4];
    int32_t ids[2 * CONTEXT];
    const int64_t lengths[2] = {CONTEXT - 1, CONTEXT}, scored[2] = {2, 3};
    double expected[2];
    ask(b, records);
    assert_int_equal(b->n_cut, 2);
    assert_int_equal(b->items[3].n_ids, 2 * CONTEXT - 1);
    cut_by_hand("Question: " LONG LONG "\nAnswer: b", CONTEXT - 1, ids);
    cut_by_hand("Question: " LONG LONG "\nAnswer: cc", CONTEXT, ids + CONTEXT - 1);
    assert_memory_equal(b->items[3].ids, ids, (2 * CONTEXT - 1) * sizeof *ids);
    assert_memory_equal(ids, ids + CONTEXT - 1, (CONTEXT - 3) * sizeof *ids); // the context is one
    assert_memory_equal(b->items[3].n_scored, scored, sizeof scored);
    assert_int_equal(b->prompt_tokens[3], CONTEXT - 3);
    assert_int_equal(kv_score(&model, ids, lengths, scored, 2, expected, NULL, NULL), KV_OK);
    json_t *alone;
    kv_asking asking = {.system = &model, .tokenizer = tokenizer};
    assert_int_equal(b->ops->answer(b, &asking, 3, 1, &alone, NULL), KV_OK);
    for (size_t c = 0; c < 2; c++)
        assert_true(json_real_value(json_array_get(json_object_get(alone, "loglikelihoods"), c)) ==
                    expected[c]);
    json_decref(alone);
    kv_records_free(records, 4);
    kv_benchmark_free(b);
}

static void each_way_is_a_task_of_its_own(void **state) {
    (void)state;
    for (int k = 0; k < N_KINDS; k++) {
        kv_eval_task config = write_task(&kinds[k], 15, KV_TOO_LONG_SKIP);
        kv_benchmark *skipped = fitted(&config);
        config.too_long = KV_TOO_LONG_CUT;
        kv_benchmark *cut = fitted(&config), *longer = create(&config);
        const kv_fit more = {.context = CONTEXT + 1, .whose = "`base`", .key = "tasks[0]"};
        assert_int_equal(kv_benchmark_fit(longer, &more, NULL), KV_OK);
        assert_string_not_equal(skipped->hash, cut->hash);
        assert_string_not_equal(longer->hash, cut->hash); // other tokens are read
        kv_benchmark_free(skipped), kv_benchmark_free(cut), kv_benchmark_free(longer);
    }
}

static void what_leaves_nothing_is_refused(void **state) {
    (void)state;
    kv_eval_task config = write_task(&kinds[0], 2 | 8, KV_TOO_LONG_SKIP);
    EXPECT_FAILURE(
        &config, &fit, "items.jsonl:2: ", "167 tokens",
        "so it is with all 2 items: skipped, none is left; expected a model with a longer context, or "
        "`too_long: cut`");
    // No way is offered that is none.
    config.too_long = KV_TOO_LONG_REFUSE;
    EXPECT_FAILURE(&config, &fit,
                   "so it is with 2 of 2 items: `too_long: cut` cuts prompts from the left, as in -s "
                   "'tasks[7].too_long=cut'");
    config = write_task(&kinds[0], 15, KV_TOO_LONG_SKIP);
    config.shots = 3;
    EXPECT_FAILURE(&config, &fit, "none is left; expected fewer `shots`, or `too_long: cut`");
    config = write_task(&kinds[0], 1 | 8, KV_TOO_LONG_CUT);
    config.max_tokens = CONTEXT - 1; // BOS and the answer
    EXPECT_FAILURE(&config, &fit, "items.jsonl:1: ", "nothing of the prompt would be left (2 of 2 items)",
                   "a smaller `max_tokens`");
    config.too_long = KV_TOO_LONG_REFUSE;
    EXPECT_FAILURE(&config, &fit, "so it is with all 2 items: expected a smaller `max_tokens`");
    config.too_long = KV_TOO_LONG_CUT;
    config.max_tokens = CONTEXT - 2;
    kv_benchmark *b = fitted(&config);
    assert_int_equal(b->items[0].n_ids, 2);
    assert_int_equal(b->items[0].ids[0], kv_tokenizer_bos(tokenizer));
    assert_int_equal(b->items[0].ids[1], 3 + ':'); // behind the three control pieces come the bytes
    kv_benchmark_free(b);
    // A choice that is longer than the context.
    const struct kind wide = {
        .name = "piqa",
        .samples = 1,
        .lines = {"{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"" LONG "\", \"label\": 0}"}};
    config = write_task(&wide, 1, KV_TOO_LONG_CUT);
    EXPECT_FAILURE(&config, &fit, "items.jsonl:1: context and choice of 93 tokens (20 + 73)",
                   "expected shorter choices");
    config.too_long = KV_TOO_LONG_REFUSE;
    EXPECT_FAILURE(&config, &fit, "so it is with all 1 items: expected shorter choices");
    const struct kind narrow = {.name = "piqa",
                                .samples = 1,
                                .lines = {wide.lines[0],
                                          "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", "
                                          "\"label\": 0}"}};
    config = write_task(&narrow, 3, KV_TOO_LONG_REFUSE);
    EXPECT_FAILURE(&config, &fit, "so it is with 1 of 2 items: `too_long: skip` leaves them out, as in -s ");
    // An aux that has no room to look ahead.
    config = write_task(&kinds[0], 1, KV_TOO_LONG_REFUSE);
    const kv_fit none = {.context = -4, .whose = "the aux of `SPF`", .key = "tasks[0]"};
    EXPECT_FAILURE(&config, &none, "context of 0 tokens");
}

// What just fits is neither skipped nor cut.
static void an_item_of_just_the_context(void **state) {
    (void)state;
    for (int k = 0; k < N_KINDS; k++) {
        const int64_t answer = kinds[k].max_tokens ? kinds[k].max_tokens : 3;
        const kv_fit just = {.context = kinds[k].tokens[0] + answer, .whose = "`base`", .key = "tasks[0]"};
        for (int way = KV_TOO_LONG_SKIP; way <= KV_TOO_LONG_CUT; way++) {
            const kv_eval_task config = write_task(&kinds[k], 15, (kv_too_long)way);
            kv_benchmark *b = create(&config);
            assert_int_equal(kv_benchmark_fit(b, &just, NULL), KV_OK);
            assert_int_equal(b->n_skipped + b->n_cut, 1);
            assert_int_equal(b->items[1].row, 1);
            assert_int_equal(b->items[1].cut, 0);
            assert_int_equal(b->longest, just.context);
            kv_benchmark_free(b);
        }
    }
}

// Only what `limit` leaves counts.
static void the_limit_comes_first(void **state) {
    (void)state;
    kv_eval_task config = write_task(&kinds[0], 15, KV_TOO_LONG_SKIP);
    config.limit = 2;
    kv_benchmark *b = fitted(&config);
    assert_int_equal(b->n_items, 1);
    assert_int_equal(b->n_skipped, 1);
    kv_benchmark_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_where_all_fit),
        cmocka_unit_test(the_longest_is_named),
        cmocka_unit_test(skipping_is_a_file_without_those_lines),
        cmocka_unit_test(cutting_is_what_one_would_do_by_hand),
        cmocka_unit_test(choices_share_the_cut_context),
        cmocka_unit_test(each_way_is_a_task_of_its_own),
        cmocka_unit_test(what_leaves_nothing_is_refused),
        cmocka_unit_test(an_item_of_just_the_context),
        cmocka_unit_test(the_limit_comes_first),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
