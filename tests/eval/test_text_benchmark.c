// kind: text from corpus to figures. With a tokenizer of single bytes and a model to which all tokens are equally probable
// everything can be worked out by hand: ln V nats a token, and a byte for each but BOS and EOS.
#include "eval/benchmark/text.h"

#include "data/corpus/shard.h"
#include "data/tokenizer/train.h"
#include "eval/benchmark/kinds.h"
#include "eval/benchmark/text_tokens.h"
#include "eval/statistics/metric.h"
#include "infer/score/score.h"
#include "tests/support/corpus.h"
#include "tests/support/pruning.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// BOS, EOS, unknown, all bytes, "a" and the space's own piece.
enum { PIECES = 3 + 256 + 2, MOST = 64 };

static kv_tokenizer *bytes_tokenizer;
static kv_system uniform, predicted;
static kv_error err;

static int setup(void **state) {
    test_dir_set_up(state);
    const char *text = test_path(test_dir, "a.jsonl"), *path = test_path(test_dir, "bytes.model");
    test_write_text(text, "{\"text\": \"a a\"}\n");
    if (kv_tokenizer_train(&text, 1, PIECES, path, &err)) fail_msg("%s", err.message);
    if (kv_tokenizer_open(path, &bytes_tokenizer, &err)) fail_msg("%s", err.message);
    kv_model_spec base = tiny_deep_base(6), aux = tiny_aux();
    base.vocab_size = aux.vocab_size = PIECES, base.context_length = aux.context_length = 96;
    uniform.base = tiny_model(&base, 1);
    memset(uniform.base->embed.data, 0, (size_t)kv_param_size(&uniform.base->embed) * sizeof(float));
    predicted = (kv_system){.base = tiny_model(&base, 2),
                            .aux = tiny_model(&aux, 3),
                            .predictor = tiny_predictor(&base, &aux, 4)};
    // Two documents of 40 and 30 bytes; with BOS and EOS 42 and 32 tokens.
    test_write_text(test_path(test_dir, "text.txt"),
                    "b23456789 b23456789 b23456789 b23456789\n\n\nc2345678\u00E9 c23456789 \u2615cdefgh");
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

static char kind[] = "text";

static kv_eval_task task(const char *corpus, int64_t window, int64_t prompt, int64_t stride, int64_t limit) {
    static char paths[4][128];
    static int n;
    char *path = paths[n++ % 4];
    snprintf(path, sizeof paths[0], "%s", test_path(test_dir, corpus));
    return (kv_eval_task){
        .kind = kind, .corpus = path, .window = window, .prompt = prompt, .stride = stride, .limit = limit};
}

static kv_benchmark *create(const kv_eval_task *config) {
    kv_benchmark *benchmark;
    if (kv_benchmark_create(config, &(kv_prompting){.tokenizer = bytes_tokenizer}, 1, &benchmark, &err))
        fail_msg("%s", err.message);
    return benchmark;
}

static void ask(kv_benchmark *b, const kv_system *system, int64_t first, int64_t n, json_t **records) {
    kv_asking asking = {.system = system, .tokenizer = bytes_tokenizer};
    if (b->ops->answer(b, &asking, first, n, records, &err)) fail_msg("%s", err.message);
    kv_session_free(asking.session);
}

static double number(const json_t *record, const char *key) {
    const json_t *value = json_object_get(record, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

// ---- By hand -------------------------------------------------------------------------------------------

static void test_windows(void **state) {
    (void)state;
    const struct {
        int64_t window, prompt, stride, limit, n, bytes[MOST];
    } cases[] = {
        // Tails: 12..15, 28..31, 44..47 (BOS is 42), 60..63.
        {16, 12, 16, 0, 4, {4, 4, 4, 4}},
        {16, 12, 16, 2, 2, {4, 4}},
        {16, 12, 16, 9, 4, {4, 4, 4, 4}},
        {74, 70, 74, 0, 1, {3}},             // EOS is no byte
        {20, 1, 18, 0, 4, {19, 19, 17, 18}}, // the third has an EOS and a BOS
        {44, 40, 15, 0, 3, {2, 4, 3}},       // 40 to 43, 55 to 58, 70 to 73
        {2, 1, 40, 0, 2, {1, 0}},            // the second is EOS alone
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const kv_eval_task config =
            task("text.txt", cases[c].window, cases[c].prompt, cases[c].stride, cases[c].limit);
        kv_benchmark *b = create(&config);
        json_t *records[MOST];
        double values[5 * MOST];
        assert_int_equal(b->n_items, cases[c].n);
        assert_int_equal(b->n_units, cases[c].n);
        assert_int_equal(b->longest, config.window);
        ask(b, &uniform, 0, b->n_units, records);
        const double ln = log(PIECES), tail = (double)(config.window - config.prompt);
        for (int64_t i = 0; i < b->n_items; i++) {
            assert_int_equal(b->prompt_tokens[i], config.prompt);
            assert_true(number(records[i], "first") == (double)(i * config.stride));
            assert_true(number(records[i], "bytes") == (double)cases[c].bytes[i]);
            assert_true(floor(b->items[i].weight) == (double)cases[c].bytes[i]);
            assert_true(number(records[i], "tail_tokens") == tail);
            assert_true(number(records[i], "whole_tokens") == (double)(config.window - 1));
            expect_float("tail", number(records[i], "tail"), tail * ln, PIECES, tail * ln);
            expect_float("whole", number(records[i], "whole"), (double)(config.window - 1) * ln, PIECES,
                         (double)config.window * ln);
        }
        if (b->ops->score(b, records, values, &err)) fail_msg("%s", err.message);
        // None but bits depends on bytes, and of those it is the sum over all windows that counts.
        double weights[MOST], bytes = 0;
        for (int64_t i = 0; i < b->n_items; i++)
            weights[i] = b->items[i].weight, bytes += (double)cases[c].bytes[i];
        for (int m = 0; m < b->n_metrics; m++) {
            const bool bits = !strcmp(b->metrics[m], "bits_per_byte");
            const double expected = (double)b->n_items * tail * ln / M_LN2 / bytes;
            for (int64_t i = 0; i < b->n_items && !bits; i++)
                expect_float(b->metrics[m], values[m * b->n_items + i], ln, PIECES, ln);
            if (bits)
                expect_float("bits",
                             kv_metric_figure(kv_metric_of("bits_per_byte"), values + m * b->n_items, weights,
                                              b->n_items),
                             expected, PIECES, expected);
        }
        kv_records_free(records, b->n_units);
        kv_benchmark_free(b);
    }
}

// All bytes of a text are there, however it is cut.
static void test_bytes_add_up(void **state) {
    (void)state;
    kv_text_tokens tokens;
    if (kv_text_tokens_read(test_path(test_dir, "text.txt"), bytes_tokenizer, 0, &tokens, &err))
        fail_msg("%s", err.message);
    assert_int_equal(tokens.n, 42 + 32);
    int64_t sum = 0;
    for (int64_t i = 0; i < tokens.n; i++) sum += tokens.bytes[i];
    assert_int_equal(sum, 40 + 30);
    kv_text_tokens_free(&tokens);
}

// ---- Forms of a corpus ---------------------------------------------------------------------------------

static void run(const char *const *arguments) {
    char out[4096], said[4096];
    if (test_run(arguments, -1, out, said, sizeof out) != 0) fail_msg("%s", said);
}

// A shard, a corpus of several, a text, JSON lines of its documents, a directory: the same windows, known again.
static void test_forms_are_equal(void **state) {
    (void)state;
    char tokenizer[128], text[128], shard[128], corpus[128], hash[17] = "";
    snprintf(tokenizer, sizeof tokenizer, "%s", test_path(test_dir, "bytes.model"));
    snprintf(text, sizeof text, "%s", test_path(test_dir, "text.txt"));
    snprintf(shard, sizeof shard, "%s", test_path(test_dir, "shard.h5"));
    snprintf(corpus, sizeof corpus, "%s", test_path(test_dir, "corpus"));
    run((const char *const[]){getenv("KVDATA"), "tokenize", "--min-chars", "0", "--min-tokens", "0", "-t",
                              tokenizer, "-o", shard, text, NULL});
    run((const char *const[]){getenv("KVDATA"), "tokenize", "--min-chars", "0", "--min-tokens", "0", "-t",
                              tokenizer, "-o", corpus, "--shard-tokens", "20", text, NULL});
    test_write_text(test_path(test_dir, "lines.jsonl"),
                    "{\"text\": \"b23456789 b23456789 b23456789 b23456789\\n\"}\n{\"text\": \"\"}\n"
                    "{\"text\": \"c2345678\\u00e9 c23456789 \\u2615cdefgh\"}\n");
    static const char *const forms[] = {"text.txt", "shard.h5", "corpus", "lines.jsonl"};
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        const kv_eval_task config = task(forms[f], 16, 12, 16, 0);
        kv_benchmark *b = create(&config);
        if (f == 0) memcpy(hash, b->hash, sizeof hash);
        assert_string_equal(b->hash, hash);
        kv_benchmark_free(b);
    }
    // Other windows are another task; fewer of them are known again one by one.
    const kv_eval_task others[] = {task("text.txt", 16, 11, 16, 0), task("text.txt", 17, 12, 16, 0),
                                   task("text.txt", 16, 12, 15, 0), task("text.txt", 16, 12, 16, 3)};
    const kv_eval_task all = task("shard.h5", 16, 12, 16, 0);
    kv_benchmark *whole = create(&all);
    for (int i = 0; i < 4; i++) {
        kv_benchmark *b = create(&others[i]);
        assert_string_not_equal(b->hash, hash);
        const bool same = b->way == whole->way && kv_item_key(&b->items[1]) == kv_item_key(&whole->items[1]);
        assert_int_equal(same, i == 3);
        kv_benchmark_free(b);
    }
    kv_benchmark_free(whole);
    // The same words at another place are another window, whose record says where it is.
    test_write_text(test_path(test_dir, "twice.txt"), "b2345678901234\n\nb2345678901234\n\nb2345678901234\n");
    const kv_eval_task twice = task("twice.txt", 17, 12, 17, 0);
    kv_benchmark *b = create(&twice);
    assert_int_equal(b->n_items, 3);
    assert_true(kv_item_key(&b->items[0]) != kv_item_key(&b->items[1]));
    kv_benchmark_free(b);
}

// ---- Systems -------------------------------------------------------------------------------------------

// What is scored is what infer/score says of the same tokens, for every kind of system; and a window by itself has the
// figures it has in a batch.
static void test_systems(void **state) {
    (void)state;
    enum { WINDOW = 24, PROMPT = 18 };
    const kv_eval_task config = task("text.txt", WINDOW, PROMPT, WINDOW, 0);
    kv_text_tokens tokens;
    if (kv_text_tokens_read(config.corpus, bytes_tokenizer, 0, &tokens, &err)) fail_msg("%s", err.message);
    const kv_system alone = {.base = predicted.base};
    for (int p = -1; p < N_POLICIES; p++) {
        kv_benchmark *b = create(&config); // so that nothing is known yet
        kv_system system = p < 0 ? predicted : alone;
        if (p >= 0) system.pruning = prune_policies[p];
        if (p >= 0 && system.pruning.kind == KV_PRUNE_SPECULATIVE) system.aux = predicted.aux;
        json_t *records[MOST], *own;
        ask(b, &system, 0, b->n_units, records);
        for (int64_t i = 0; i < b->n_items; i++) {
            const int64_t length = WINDOW, tail = WINDOW - PROMPT, whole = WINDOW - 1;
            double expected[2];
            const int32_t *ids = tokens.ids + i * WINDOW;
            if (kv_score_by_decoding(&system, ids, &length, &tail, 1, &expected[0], NULL, &err) ||
                kv_score(p < 0 ? &system : &alone, ids, &length, &whole, 1, &expected[1], NULL, &err))
                fail_msg("%s", err.message);
            // Thousands of roundings, of numbers that are exact to about six digits.
            expect_float("tail", number(records[i], "tail"), -expected[0], 4096, -expected[0]);
            expect_float("whole", number(records[i], "whole"), -expected[1], 4096, -expected[1]);
            ask(b, &system, i, 1, &own);
            expect_float("own tail", number(own, "tail"), number(records[i], "tail"), 4096, -expected[0]);
            expect_float("own whole", number(own, "whole"), number(records[i], "whole"), 4096, -expected[1]);
            json_decref(own);
        }
        kv_records_free(records, b->n_units);
        kv_benchmark_free(b);
    }
    kv_text_tokens_free(&tokens);
}

// What a base was found to say of whole windows serves those that prune it, bit for bit.
static void test_wholes_are_shared(void **state) {
    (void)state;
    const kv_eval_task config = task("text.txt", 24, 18, 24, 0);
    const kv_system alone = {.base = predicted.base}, other = {.base = uniform.base};
    kv_system pruned = alone, pruned_other = other;
    pruned.pruning = pruned_other.pruning = prune_policies[KV_PRUNE_RANDOM];
    kv_benchmark *one = create(&config), *two = create(&config);
    json_t *of_base[MOST], *shared[MOST], *own[MOST], *others[MOST];
    ask(one, &alone, 0, one->n_units, of_base);
    ask(one, &pruned, 0, one->n_units, shared);
    ask(one, &pruned_other, 0, one->n_units, others);
    ask(two, &pruned, 0, two->n_units, own);
    for (int64_t i = 0; i < one->n_units; i++) {
        assert_true(number(shared[i], "whole") == number(of_base[i], "whole"));
        assert_true(number(own[i], "whole") == number(of_base[i], "whole"));
        assert_true(number(own[i], "tail") == number(shared[i], "tail"));
        assert_true(number(shared[i], "tail") != number(of_base[i], "tail"));
        assert_true(number(others[i], "whole") != number(of_base[i], "whole"));
    }
    kv_records_free(of_base, one->n_units), kv_records_free(shared, one->n_units);
    kv_records_free(own, one->n_units), kv_records_free(others, one->n_units);
    kv_benchmark_free(one), kv_benchmark_free(two);
}

// Which window has no numbers.
static void test_not_finite(void **state) {
    (void)state;
    const kv_eval_task config = task("text.txt", 10, 5, 10, 0);
    kv_benchmark *b = create(&config);
    json_t *records[MOST];
    kv_asking asking = {.system = &predicted, .tokenizer = bytes_tokenizer};
    const int32_t id = kv_tokenizer_find(bytes_tokenizer, "<0x63>"); // "c", from token 43 on
    float *row = (float *)predicted.base->embed.data + id * predicted.base->spec.model_dim, kept = row[0];
    assert_true(id >= 0);
    const bool tied = predicted.base->spec.tied_head;
    row[0] = NAN;
    assert_int_equal(b->ops->answer(b, &asking, 0, b->n_units, records, &err), KV_ERR_NOT_FINITE);
    assert_int_equal(asking.not_finite, tied ? 0 : 4);
    assert_null(records[0]);
    row[0] = kept;
    kv_benchmark_free(b);
}

// ---- Refusals ------------------------------------------------------------------------------------------

static void refuse(const kv_eval_task *config, kv_status status, const char *text) {
    kv_benchmark *b;
    assert_int_equal(kv_benchmark_create(config, &(kv_prompting){.tokenizer = bytes_tokenizer}, 1, &b, &err),
                     status);
    assert_null(b);
    if (!strstr(err.message, text) || strchr(err.message, '\n'))
        fail_msg("expected '%s' in '%s'", text, err.message);
}

static void test_refusals(void **state) {
    (void)state;
    kv_eval_task config = task("text.txt", 75, 70, 75, 0);
    refuse(&config, KV_ERR_RANGE,
           "text.txt: found 74 tokens, expected at least the 75 of one window: a longer text, or a smaller "
           "`window`");
    config = task("missing.txt", 16, 12, 16, 0);
    refuse(&config, KV_ERR_IO, "missing.txt: No such file or directory");
    test_write_text(test_path(test_dir, "empty.txt"), "");
    config = task("empty.txt", 16, 12, 16, 0);
    refuse(&config, KV_ERR_RANGE, "empty.txt: found 0 tokens");
    test_write_text(test_path(test_dir, "bad.jsonl"), "{\"text\": \"a\"}\n{\"text\": 3}\n");
    config = task("bad.jsonl", 16, 12, 16, 0);
    refuse(&config, KV_ERR_FORMAT, "bad.jsonl:2: \"text\" is a number, expected one object a line");
    config = task("bytes.model", 16, 12, 16, 0);
    refuse(&config, KV_ERR_FORMAT, "bytes.model: ");
    // Of another tokenizer.
    kv_shard_info info = {.tokenizer = "0123456789abcdef", .vocab_size = 300, .bos_id = 1, .eos_id = 2};
    kv_shard_writer *writer;
    int32_t ids[40] = {1};
    assert_int_equal(kv_shard_writer_open(test_path(test_dir, "other.h5"), &info, &writer, &err), KV_OK);
    assert_int_equal(kv_shard_writer_add(writer, ids, 40, &err), KV_OK);
    assert_int_equal(kv_shard_writer_finish(writer, &err), KV_OK);
    kv_shard_writer_free(writer);
    config = task("other.h5", 16, 12, 16, 0);
    refuse(&config, KV_ERR_MISMATCH,
           "other.h5: made with another tokenizer, 0123456789abcdef of 300 pieces, expected ");
}

// A character that the tokenizer has no piece for is found where it stands.
static void test_what_has_no_token(void **state) {
    (void)state;
    kv_tokenizer *poor;
    kv_text_tokens tokens;
    test_write_text(test_path(test_dir, "poor.json"),
                    "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \".\": 1}, \"merges\": []},"
                    " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false},"
                    " \"decoder\": {\"type\": \"ByteLevel\"}}");
    test_write_text(test_path(test_dir, "one_b.jsonl"), "{\"text\": \"aa\"}\n\n\n\n{\"text\": \"ab\"}\n");
    if (kv_tokenizer_open(test_path(test_dir, "poor.json"), &poor, &err)) fail_msg("%s", err.message);
    assert_int_equal(kv_text_tokens_read(test_path(test_dir, "one_b.jsonl"), poor, 0, &tokens, &err),
                     KV_ERR_FORMAT);
    if (!strstr(err.message, "one_b.jsonl:5: the vocabulary has no piece for the byte 0x62"))
        fail_msg("%s", err.message);
    kv_tokenizer_free(poor);
}

static void test_fit(void **state) {
    (void)state;
    const kv_eval_task config = task("text.txt", 32, 12, 16, 0);
    kv_benchmark *b = create(&config);
    kv_fit fit = {.context = 32, .whose = "`base`", .key = "tasks[0]", .n_ids = PIECES, .whose_ids = "aux"};
    assert_int_equal(kv_benchmark_fit(b, &fit, &err), KV_OK);
    fit.context = 31;
    assert_int_equal(kv_benchmark_fit(b, &fit, &err), KV_ERR_RANGE);
    assert_string_equal(err.message,
                        "windows of 32 tokens do not fit the context of 31 tokens of `base`: expected a "
                        "smaller `window`");
    fit.context = 32, fit.n_ids = 100;
    assert_int_equal(kv_benchmark_fit(b, &fit, &err), KV_ERR_RANGE);
    if (!strstr(err.message, "text.txt: token 1 is 101, outside the vocabulary of 100 of aux"))
        fail_msg("%s", err.message);
    kv_benchmark_free(b);
}

// Records of an older program, or of somebody's editor.
static void test_records_that_lack_something(void **state) {
    (void)state;
    static const char *const keys[] = {"tail", "tail_tokens", "whole", "whole_tokens", "bytes"};
    const kv_eval_task config = task("text.txt", 16, 12, 16, 1);
    kv_benchmark *b = create(&config);
    for (int k = 0; k < 5; k++)
        for (int bad = 0; bad < 3; bad++) {
            json_t *record;
            double values[5];
            char message[64];
            ask(b, &uniform, 0, 1, &record);
            assert_int_equal(b->ops->score(b, &record, values, &err), KV_OK);
            if (bad == 0)
                json_object_del(record, keys[k]);
            else
                json_object_set_new(record, keys[k], bad == 1 ? json_string("x") : json_integer(-1));
            snprintf(message, sizeof message, "the record of this window has no usable `%s`", keys[k]);
            const kv_status status = b->ops->score(b, &record, values, &err);
            if (bad == 2 && (k == 0 || k == 2)) {
                assert_int_equal(status, KV_OK); // where rounding makes 0 of less
            } else {
                assert_int_equal(status, KV_ERR_FORMAT);
                assert_non_null(strstr(err.message, message));
            }
            json_decref(record);
        }
    kv_benchmark_free(b);
}

// Every key belongs to some kind, every kind can be found by its name.
static void test_kinds(void **state) {
    (void)state;
    char names[KV_KIND_NAMES];
    int n = 0;
    for (; kv_benchmark_kind_at(n).name; n++) {
        const kv_benchmark_kind at = kv_benchmark_kind_at(n), found = kv_benchmark_kind_find(at.name);
        assert_string_equal(found.name, at.name);
        assert_true(found.create == at.create && found.keys == at.keys && at.keys != 0);
    }
    assert_true(n >= 10);
    assert_null(kv_benchmark_kind_find("quiz").name);
    for (int k = 0; kv_benchmark_key_at(k).name; k++) {
        kv_benchmark_kind_names(kv_benchmark_key_at(k).group, names);
        assert_true(*names);
    }
    kv_benchmark_kind_names(KV_KEYS_TEXT, names);
    assert_string_equal(names, "text");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_bytes_add_up),
        cmocka_unit_test(test_forms_are_equal),
        cmocka_unit_test(test_systems),
        cmocka_unit_test(test_wholes_are_shared),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_what_has_no_token),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_records_that_lack_something),
        cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
