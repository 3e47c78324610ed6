// Multiple choice from file to score. With a tokenizer of single bytes and a model to which all tokens are
// equally probable everything can be worked out by hand: ln p of a text is -ln V times its bytes.
#include "tests/support/corpus.h"

#include "core/gemm.h"
#include "data/tokenizer/train.h"
#include "eval/benchmark/choice.h"
#include "infer/score/score.h"
#include "tests/support/numbers/reference_system.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// BOS, EOS, unknown, all bytes, "a" and the space's own piece: nothing is left for pieces of several letters.
enum { PIECES = 3 + 256 + 2, MOST = 4 };

static kv_tokenizer *bytes_tokenizer;
static kv_system uniform, predicted;

static int setup(void **state) {
    kv_error err = {0};
    test_dir_set_up(state);
    const char *text = test_path(test_dir, "a.jsonl"), *path = test_path(test_dir, "bytes.model");
    test_write_text(text, "{\"text\": \"a a\"}\n");
    if (kv_tokenizer_train(&text, 1, PIECES, path, &err)) fail_msg("%s", err.message);
    if (kv_tokenizer_open(path, &bytes_tokenizer, &err)) fail_msg("%s", err.message);
    kv_model_spec base = tiny_base(), aux = tiny_aux();
    base.vocab_size = aux.vocab_size = PIECES;
    base.context_length = aux.context_length = 256;
    uniform.base = tiny_model(&base, 1);
    memset(uniform.base->embed.data, 0, (size_t)kv_param_size(&uniform.base->embed) * sizeof(float));
    predicted = (kv_system){.base = tiny_model(&base, 2),
                            .aux = tiny_model(&aux, 3),
                            .predictor = tiny_predictor(&base, &aux, 4)};
    return 0;
}

static int teardown(void **state) {
    kv_model_free(uniform.base);
    kv_model_free(predicted.base);
    kv_model_free(predicted.aux);
    kv_predictor_free(predicted.predictor);
    kv_tokenizer_free(bytes_tokenizer);
    return test_dir_tear_down(state);
}

static kv_benchmark *create(const kv_eval_task *config) {
    kv_benchmark *benchmark;
    kv_error err = {0};
    if (kv_benchmark_create(config, &(kv_prompting){.tokenizer = bytes_tokenizer}, 1, &benchmark, &err))
        fail_msg("%s", err.message);
    return benchmark;
}

static void ask(kv_benchmark *b, const kv_system *system, int64_t first, int64_t n, json_t **records) {
    kv_asking asking = {.system = system, .tokenizer = bytes_tokenizer};
    kv_error err = {0};
    if (b->ops->answer(b, &asking, first, n, records, &err)) fail_msg("%s", err.message);
    kv_session_free(asking.session);
}

static double value_at(const json_t *record, const char *key, size_t i) {
    return json_number_value(json_array_get(json_object_get(record, key), i));
}

static const char *text_of(const json_t *record, const char *key) {
    return json_string_value(json_object_get(record, key));
}

// ---- Worked out by hand --------------------------------------------------------------------------------

struct expected {
    const char *kind, *file;
    int64_t n;
    const char *metrics[3];
    // Tokens scored of each choice: its bytes and the space in front; or the shared ending's.
    int64_t tokens[3][MOST];
    int64_t characters[3][MOST], bytes[3][MOST];
    int right[3][3]; // by metric and question
};

// All tokens alike, so the shortest choice is the most probable, the first of equal ones; and the longest is
// the most probable per byte, as (n + 1) / n falls.
static const struct expected by_hand[] = {
    {"arc_easy",
     "arc.jsonl",
     2,
     {"acc", "acc_norm", "acc_bytes"},
     {{9, 17, 21}, {6, 5, 5, 8}},
     {{8, 16, 20}, {5, 4, 4, 7}},
     {{8, 16, 20}, {5, 4, 4, 7}},
     {{0, 0}, {1, 0}, {1, 0}}},
    {"arc_challenge",
     "arc.jsonl",
     2,
     {"acc_norm", "acc", "acc_bytes"},
     {{9, 17, 21}, {6, 5, 5, 8}},
     {{8, 16, 20}, {5, 4, 4, 7}},
     {{8, 16, 20}, {5, 4, 4, 7}},
     {{1, 0}, {0, 0}, {1, 0}}},
    // "ééé" and "rope": 7/3 and 5/4 a character, 7/6 and 5/4 a byte. "東京", "Hà Nội" and "Rome": 7/2, 10/6 and
    // 5/4 a character, 7/6, 10/9 and 5/4 a byte. Per byte both answers are right, per character neither is.
    {"arc_challenge",
     "accents.jsonl",
     2,
     {"acc_norm", "acc", "acc_bytes"},
     {{7, 5}, {7, 10, 5}},
     {{3, 4}, {2, 6, 4}},
     {{6, 4}, {6, 9, 4}},
     {{0, 0}, {0, 0}, {1, 1}}},
    {"boolq", "boolq.jsonl", 2, {"acc"}, {{3, 4}, {3, 4}}, {{2, 3}, {2, 3}}, {{2, 3}, {2, 3}}, {{0, 1}}},
    {"hellaswag",
     "hellaswag.jsonl",
     3,
     {"acc_norm", "acc", "acc_bytes"},
     {{38, 28, 27, 37}, {16, 25, 11, 15}, {2, 3, 4, 5}},
     {{37, 27, 26, 36}, {15, 24, 10, 14}, {1, 2, 3, 4}},
     {{37, 27, 26, 36}, {15, 24, 10, 14}, {1, 2, 3, 4}},
     {{0, 1, 0}, {0, 0, 1}, {0, 1, 0}}},
    {"piqa",
     "piqa.jsonl",
     2,
     {"acc_norm", "acc", "acc_bytes"},
     {{21, 8}, {11, 31}},
     {{20, 7}, {10, 30}},
     {{20, 7}, {10, 30}},
     {{0, 1}, {1, 0}, {0, 1}}},
    {"sciq",
     "sciq.jsonl",
     2,
     {"acc", "acc_norm", "acc_bytes"},
     {{8, 5, 6, 4}, {6, 8, 8, 13}},
     {{7, 4, 5, 3}, {5, 7, 7, 12}},
     {{7, 4, 5, 3}, {5, 7, 7, 12}},
     {{1, 0}, {0, 1}, {0, 1}}},
    // The same ending behind both options: a tie, which is the first one's.
    {"winogrande",
     "winogrande.jsonl",
     2,
     {"acc"},
     {{9, 9}, {12, 12}},
     {{4, 4}, {3, 3}},
     {{4, 4}, {3, 3}},
     {{1, 0}}},
};

static int n_metrics_of(const struct expected *e) {
    int n = 0;
    while (n < 3 && e->metrics[n]) n++;
    return n;
}

static void expect_record(const json_t *record, const struct expected *e, int64_t i) {
    size_t n = 0;
    while (n < MOST && e->tokens[i][n]) n++;
    assert_int_equal(json_array_size(json_object_get(record, "choices")), n);
    for (size_t c = 0; c < n; c++) {
        const double expected = -(double)e->tokens[i][c] * log(PIECES);
        // All logits are 0: a logarithm of a whole number and a few sums, for every token.
        expect_float("log-likelihood", value_at(record, "loglikelihoods", c), expected, 8, expected);
        assert_int_equal((int64_t)value_at(record, "characters", c), e->characters[i][c]);
        assert_int_equal((int64_t)value_at(record, "bytes", c), e->bytes[i][c]);
    }
    for (int m = 0; m < n_metrics_of(e); m++)
        assert_int_equal(json_integer_value(json_object_get(record, e->metrics[m])), e->right[m][i]);
    assert_int_equal(json_object_get(record, "acc_norm") != NULL, e->metrics[1] != NULL);
}

static void scores_by_hand(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof by_hand / sizeof *by_hand; k++) {
        const struct expected *e = &by_hand[k];
        char name[64];
        snprintf(name, sizeof name, "fixtures/choices/%s", e->file);
        const kv_eval_task config = {.kind = (char *)e->kind, .file = (char *)test_fixture(name)};
        kv_benchmark *b = create(&config);
        assert_int_equal(b->n_items, e->n);
        assert_int_equal(b->n_units, e->n);
        assert_int_equal(b->n_metrics, n_metrics_of(e));
        json_t *records[3];
        double values[3 * 3];
        kv_error err = {0};
        ask(b, &uniform, 0, e->n, records);
        for (int64_t i = 0; i < e->n; i++) expect_record(records[i], e, i);
        assert_int_equal(b->ops->score(b, records, values, &err), KV_OK);
        for (int m = 0; m < b->n_metrics; m++) {
            assert_string_equal(b->metrics[m], e->metrics[m]);
            for (int64_t i = 0; i < e->n; i++) assert_true(values[m * e->n + i] == e->right[m][i]);
        }
        kv_records_free(records, e->n);
        kv_benchmark_free(b);
    }
}

static void what_is_read(void **state) {
    (void)state;
    kv_eval_task config = {.kind = "boolq", .file = (char *)test_fixture("fixtures/choices/boolq.jsonl")};
    kv_benchmark *b = create(&config);
    json_t *record;
    ask(b, &uniform, 1, 1, &record);
    assert_string_equal(text_of(record, "id"), "2");
    assert_string_equal(text_of(record, "context"),
                        "Salt tastes of the sea.\nQuestion: is salt sweet?\nAnswer:");
    assert_int_equal(json_integer_value(json_object_get(record, "gold")), 0);
    assert_null(json_object_get(record, "ending"));
    // BOS and 23 + 11 + 13 + 9 bytes; 47 + 11 + 32 + 9 in the first question, and " yes".
    assert_int_equal(b->prompt_tokens[1], 57);
    assert_int_equal(b->prompt_tokens[0], 100);
    assert_int_equal(b->longest, 100 + 4);
    json_decref(record);
    kv_benchmark_free(b);

    config = (kv_eval_task){
        .kind = "winogrande", .file = (char *)test_fixture("fixtures/choices/winogrande.jsonl"), .limit = 1};
    b = create(&config);
    assert_int_equal(b->n_items, 1);
    ask(b, &uniform, 0, 1, &record);
    assert_string_equal(text_of(record, "context"), "The rope was longer than the boat, so the ");
    assert_string_equal(text_of(record, "ending"), "was cut.");
    assert_string_equal(json_string_value(json_array_get(json_object_get(record, "choices"), 1)), "boat");
    assert_int_equal(b->prompt_tokens[0], 1 + 42 + 4); // an option is part of what is read
    json_decref(record);
    kv_benchmark_free(b);
}

// ---- Records to scores ---------------------------------------------------------------------------------

static void scores_of_given_numbers(void **state) {
    (void)state;
    const kv_eval_task config = {.kind = "piqa", .file = (char *)test_fixture("fixtures/choices/piqa.jsonl")};
    kv_benchmark *b = create(&config); // acc_norm, acc, acc_bytes
    static const struct {
        const char *records[2];
        double values[6];
    } cases[] = {
        // -10/5, -12/20 and -9.5/4 either way: the second is best for its length, the third as it is.
        {{"{\"loglikelihoods\":[-10,-12,-9.5],\"characters\":[5,20,4],\"bytes\":[5,20,4],\"gold\":1}",
          "{\"loglikelihoods\":[-10,-12,-9.5],\"characters\":[5,20,4],\"bytes\":[5,20,4],\"gold\":2}"},
         {1, 0, 0, 1, 1, 0}},
        // Ties go to the first; a choice of no length is not the best for it, however probable.
        {{"{\"loglikelihoods\":[-3,-3],\"characters\":[3,3],\"bytes\":[3,3],\"gold\":1,\"acc\":1}",
          "{\"loglikelihoods\":[-1,-30],\"characters\":[0,2],\"bytes\":[0,2],\"gold\":1}"},
         {0, 1, 0, 0, 0, 1}},
        // "Z9" and "é": two bytes each, two characters and one.
        {{"{\"loglikelihoods\":[-38.55,-31.45],\"characters\":[2,1],\"bytes\":[2,2],\"gold\":1}",
          "{\"loglikelihoods\":[-38.55,-31.45],\"characters\":[2,1],\"bytes\":[2,2],\"gold\":0}"},
         {0, 1, 1, 0, 1, 0}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        json_t *records[2];
        double values[6];
        for (int i = 0; i < 2; i++) assert_non_null(records[i] = json_loads(cases[c].records[i], 0, NULL));
        assert_int_equal(b->ops->score(b, records, values, NULL), KV_OK);
        for (int i = 0; i < 6; i++) assert_true(values[i] == cases[c].values[i]);
        kv_records_free(records, 2);
    }
    static const struct {
        const char *record, *missing;
    } broken[] = {
        {"{}", "`loglikelihoods`"},
        {"{\"loglikelihoods\":[],\"bytes\":[],\"gold\":0}", "`loglikelihoods`"},
        {"{\"loglikelihoods\":[-1,\"x\"],\"bytes\":[1,1],\"gold\":0}", "`loglikelihoods`"},
        {"{\"loglikelihoods\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"bytes\":[],\"gold\":0}",
         "`loglikelihoods`"},
        {"{\"loglikelihoods\":[-1,-2],\"bytes\":[1,1],\"gold\":0}", "`characters`"},
        {"{\"loglikelihoods\":[-1,-2],\"characters\":[1,-1],\"bytes\":[1,1],\"gold\":0}", "`characters`"},
        {"{\"loglikelihoods\":[-1,-2],\"characters\":[1,2],\"bytes\":[1],\"gold\":0}", "`bytes`"},
        {"{\"loglikelihoods\":[-1,-2],\"characters\":[1,2],\"bytes\":[1,-1],\"gold\":0}", "`bytes`"},
        {"{\"loglikelihoods\":[-1,-2],\"characters\":[1,2],\"bytes\":[1,2],\"gold\":2}", "`gold`"},
        {"{\"loglikelihoods\":[-1,-2],\"characters\":[1,2],\"bytes\":[1,2]}", "`gold`"},
    };
    for (size_t c = 0; c < sizeof broken / sizeof *broken; c++) {
        json_t *records[2] = {json_loads(cases[0].records[0], 0, NULL),
                              json_loads(broken[c].record, 0, NULL)};
        double values[6];
        char expected[64];
        kv_error err = {0};
        assert_int_equal(b->ops->score(b, records, values, &err), KV_ERR_FORMAT);
        snprintf(expected, sizeof expected, "piqa.jsonl:2: the record of this question has no usable %s",
                 broken[c].missing);
        if (!strstr(err.message, expected)) fail_msg("'%s' does not say '%s'", err.message, expected);
        kv_records_free(records, 2);
    }
    kv_benchmark_free(b);
}

// ---- A model with opinions -----------------------------------------------------------------------------

// The tokens of context and choice, encoded and scored right here.
static double score_text(const kv_system *system, const char *context, const char *continuation,
                         double *allowed) {
    char text[512];
    int32_t *ids, whole[513] = {kv_tokenizer_bos(bytes_tokenizer)};
    int64_t n;
    double log_likelihood;
    kv_error err = {0};
    snprintf(text, sizeof text, "%s%s", context, continuation);
    assert_int_equal(kv_tokenizer_encode(bytes_tokenizer, text, strlen(text), &ids, &n, &err), KV_OK);
    assert_int_equal(n, strlen(text));
    memcpy(whole + 1, ids, (size_t)n * sizeof *ids);
    free(ids);
    if (kv_score(system, whole, &(const int64_t){n + 1}, &(const int64_t){(int64_t)strlen(continuation)}, 1,
                 &log_likelihood, NULL, &err))
        fail_msg("%s", err.message);
    ref_system r = ref_system_copy(system);
    rounding_spread spread =
        ref_question_spread(&(ref_question){&r, whole, n + 1, (int64_t)strlen(continuation), false});
    *allowed = spread.allowed[0];
    rounding_spread_free(&spread);
    ref_system_free(&r);
    return log_likelihood;
}

// Behind a prompt of predicted entries the base reads the choice itself: what decoding it token by token gives. A model
// alone makes the same of both ways, and the tasks are two.
static void choices_behind_their_prompts(void **state) {
    (void)state;
    const char *file = test_fixture("fixtures/choices/hellaswag.jsonl");
    const kv_eval_task whole = {.kind = "hellaswag", .file = (char *)file},
                       behind = {.kind = "hellaswag", .file = (char *)file, .behind_prompt = true};
    kv_benchmark *both[2] = {create(&whole), create(&behind)};
    const kv_system alone = {.base = predicted.base};
    assert_true(both[0]->hash != both[1]->hash);
    for (int64_t i = 0; i < both[0]->n_items; i++) {
        json_t *records[2], *of_base[2];
        for (int w = 0; w < 2; w++)
            ask(both[w], &predicted, i, 1, &records[w]), ask(both[w], &alone, i, 1, &of_base[w]);
        const kv_item *item = &both[1]->items[i];
        const int32_t *ids = item->ids;
        bool differs = false;
        for (int64_t c = 0; c < item->n_seq; ids += item->lengths[c++]) {
            double decoded;
            kv_error err = {0};
            if (kv_score_by_decoding(&predicted, ids, &item->lengths[c], &item->n_scored[c], 1, &decoded,
                                     NULL, &err))
                fail_msg("%s", err.message);
            ref_system r = ref_system_copy(&predicted);
            rounding_spread spread =
                ref_question_spread(&(ref_question){&r, ids, item->lengths[c], item->n_scored[c], true});
            const double found = value_at(records[1], "loglikelihoods", (size_t)c);
            assert_float_equal(found, decoded, 2 * spread.allowed[0]);
            differs = differs || fabs(found - value_at(records[0], "loglikelihoods", (size_t)c)) > 1e-3;
            assert_true(value_at(of_base[0], "loglikelihoods", (size_t)c) ==
                        value_at(of_base[1], "loglikelihoods", (size_t)c));
            rounding_spread_free(&spread);
            ref_system_free(&r);
        }
        assert_true(differs);
        kv_records_free(records, 2), kv_records_free(of_base, 2);
    }
    kv_benchmark_free(both[0]), kv_benchmark_free(both[1]);
}

// What is said beforehand is executed, and the memory is there.
static void costs_of_both_ways(void **state) {
    (void)state;
    for (int behind = 0; behind < 2; behind++) {
        const kv_eval_task config = {.kind = "hellaswag",
                                     .file = (char *)test_fixture("fixtures/choices/hellaswag.jsonl"),
                                     .behind_prompt = behind};
        kv_benchmark *b = create(&config);
        for (int64_t i = 0; i < b->n_items; i++) {
            kv_unit_cost cost;
            json_t *record;
            kv_benchmark_cost(b, &predicted, 0, i, &cost);
            kv_gemm_flops_reset();
            ask(b, &predicted, i, 1, &record);
            assert_true((double)kv_gemm_flops() == cost.reading && cost.steps == 0);
            json_decref(record);
        }
        assert_true(kv_benchmark_bytes(b, &(kv_batching){.system = &predicted, .most = 3}) > 0);
        kv_benchmark_free(b);
    }
}

static void predicted_systems_in_any_batch(void **state) {
    (void)state;
    static const char *const kinds[] = {"piqa", "winogrande"};
    static const char *const files[] = {"fixtures/choices/piqa.jsonl", "fixtures/choices/winogrande.jsonl"};
    for (int k = 0; k < 2; k++) {
        const kv_eval_task config = {.kind = (char *)kinds[k], .file = (char *)test_fixture(files[k])};
        kv_benchmark *b = create(&config);
        json_t *together[2], *alone[2];
        ask(b, &predicted, 0, 2, together);
        for (int i = 0; i < 2; i++) {
            ask(b, &predicted, i, 1, &alone[i]);
            for (size_t c = 0; c < 2; c++) {
                const char *choice =
                    json_string_value(json_array_get(json_object_get(alone[i], "choices"), c));
                const char *ending = text_of(alone[i], "ending");
                char context[256], continuation[256];
                snprintf(context, sizeof context, "%s%s", text_of(alone[i], "context"), ending ? choice : "");
                snprintf(continuation, sizeof continuation, " %s", ending ? ending : choice);
                double allowed;
                const double expected = score_text(&predicted, context, continuation, &allowed);
                rounding_expect("alone", value_at(alone[i], "loglikelihoods", c), expected, 2 * allowed);
                rounding_expect("together", value_at(together[i], "loglikelihoods", c), expected,
                                2 * allowed);
            }
        }
        kv_records_free(together, 2);
        kv_records_free(alone, 2);
        kv_benchmark_free(b);
    }
}

// ---- Parts ---------------------------------------------------------------------------------------------

static void expect_encoded(const char *context, const char *continuation, int64_t n_scored) {
    int32_t *ids, *whole;
    int64_t length, scored, n;
    kv_error err = {0};
    if (kv_choice_encode(&(kv_prompting){.tokenizer = bytes_tokenizer}, context, continuation, &ids, &length,
                         &scored, &err))
        fail_msg("%s", err.message);
    char text[64];
    snprintf(text, sizeof text, "%s%s", context, continuation);
    assert_int_equal(kv_tokenizer_encode(bytes_tokenizer, text, strlen(text), &whole, &n, &err), KV_OK);
    assert_int_equal(length, n + 1);
    assert_int_equal(ids[0], kv_tokenizer_bos(bytes_tokenizer));
    assert_memory_equal(ids + 1, whole, (size_t)n * sizeof *ids);
    assert_int_equal(scored, n_scored);
    free(ids);
    free(whole);
}

static void boundaries(void **state) {
    (void)state;
    expect_encoded("Answer:", " yes", 4);
    expect_encoded("Answer:  ", " yes", 6); // white space goes over
    expect_encoded("Answer:\n", "yes", 4);
    expect_encoded("", "yes", 3); // after BOS
    expect_encoded("\xC3\xA9", " \xC3\xA9", 3);
    int32_t *ids;
    int64_t length, scored;
    kv_error err = {0};
    assert_int_equal(kv_choice_encode(&(kv_prompting){.tokenizer = bytes_tokenizer}, "Answer:", "", &ids,
                                      &length, &scored, &err),
                     KV_ERR_FORMAT);
    assert_string_equal(err.message, "the choice has no tokens of its own after its context");
    assert_null(ids);
}

static void shots(void **state) {
    (void)state;
    kv_choice_task task = {.joint = " ", .separator = "\n\n"};
    assert_int_equal(kv_choices_read(test_fixture("fixtures/choices/arc.jsonl"),
                                     kv_choice_kind_find("arc_easy"), &task.items, NULL),
                     KV_OK);
    char *context = kv_choice_context(&task, 1, (const int64_t[]){0}, 1);
    assert_string_equal(context, "Question: Which tool of the made-up village of Orr measures rain?\nAnswer: "
                                 "a tin cup with marks\n\nQuestion: What does a lamp give?\nAnswer:");
    free(context);
    kv_choice_items_free(&task.items);
    assert_int_equal(kv_choices_read(test_fixture("fixtures/choices/winogrande.jsonl"),
                                     kv_choice_kind_find("winogrande"), &task.items, NULL),
                     KV_OK);
    context = kv_choice_context(&task, 0, (const int64_t[]){1}, 1);
    assert_string_equal(context, "Orr gave Ann bread because Ann was hungry.\n\n"
                                 "The rope was longer than the boat, so the ");
    free(context);
    kv_choice_items_free(&task.items);
    // Of two questions each is the other's shot; asked differently, it is another task.
    kv_eval_task config = {.kind = "arc_easy", .file = (char *)test_fixture("fixtures/choices/arc.jsonl")};
    kv_benchmark *none = create(&config);
    config.shots = 1;
    kv_benchmark *one = create(&config);
    json_t *records[2];
    ask(one, &uniform, 0, 2, records);
    assert_non_null(
        strstr(text_of(records[0], "context"), "lamp give?\nAnswer: light\n\nQuestion: Which tool"));
    assert_non_null(strstr(text_of(records[1], "context"), "Answer: a tin cup with marks\n\nQuestion: What"));
    assert_string_not_equal(none->hash, one->hash);
    kv_records_free(records, 2);
    kv_benchmark_free(none);
    kv_benchmark_free(one);
}

static void refusals(void **state) {
    (void)state;
    kv_benchmark *b;
    kv_error err = {0};
    kv_eval_task config = {.kind = "arc", .file = (char *)test_fixture("fixtures/choices/arc.jsonl")};
    assert_int_equal(kv_choice_benchmark(&config, &(kv_prompting){.tokenizer = bytes_tokenizer}, 1, &b, &err),
                     KV_ERR_ARGUMENT);
    assert_null(b);
    assert_non_null(strstr(err.message, "`arc` is no kind of multiple choice"));
    config.kind = "arc_easy";
    config.shots = 2;
    assert_int_equal(kv_choice_benchmark(&config, &(kv_prompting){.tokenizer = bytes_tokenizer}, 1, &b, &err),
                     KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "2 shots asked for, expected fewer than its 2 questions"));
    config.shots = 0;
    config.kind = "piqa";
    assert_int_equal(kv_choice_benchmark(&config, &(kv_prompting){.tokenizer = bytes_tokenizer}, 1, &b, &err),
                     KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "arc.jsonl:1: 'goal' is missing, expected a string"));
    // A model that has diverged says so; one whose context is too short too.
    kv_model_spec spec = uniform.base->spec;
    spec.context_length = 12;
    const kv_system broken = {.base = tiny_model(&uniform.base->spec, 1)},
                    brief = {.base = tiny_model(&spec, 1)};
    ((float *)broken.base->norm.data)[0] = NAN;
    config.kind = "arc_easy";
    b = create(&config);
    json_t *records[2];
    kv_asking asking = {.system = &broken, .tokenizer = bytes_tokenizer};
    assert_int_equal(b->ops->answer(b, &asking, 0, 2, records, &err), KV_ERR_NOT_FINITE);
    assert_non_null(strstr(err.message, "choice 1: token "));
    assert_non_null(strstr(err.message, "the logits are not finite"));
    assert_int_equal(asking.not_finite, 0);
    assert_null(records[0]);
    asking.system = &brief;
    assert_int_equal(b->ops->answer(b, &asking, 0, 2, records, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "do not fit the base's context of 12"));
    kv_benchmark_free(b);
    kv_model_free(broken.base);
    kv_model_free(brief.base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_by_hand),
        cmocka_unit_test(what_is_read),
        cmocka_unit_test(scores_of_given_numbers),
        cmocka_unit_test(choices_behind_their_prompts),
        cmocka_unit_test(costs_of_both_ways),
        cmocka_unit_test(predicted_systems_in_any_batch),
        cmocka_unit_test(boundaries),
        cmocka_unit_test(shots),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
