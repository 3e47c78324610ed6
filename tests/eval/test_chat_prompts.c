// Tasks as chats: what instruct models are asked, token by token, and what of it may be cut. Every byte is a token and
// special tokens follow, so that all can be written out.
#include "tests/support/tokenizer.h"

#include "eval/benchmark/choice.h"
#include "eval/benchmark/code.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IM_START = 256, IM_END, BEGIN_OF_TEXT, START_HEADER, END_HEADER, EOT };

static kv_tokenizer *tokenizer;
static kv_chat_template chatml = {.kind = KV_CHAT_CHATML}, llama3 = {.kind = KV_CHAT_LLAMA3};

static int set_up(void **state) {
    static const char *const specials[] = {"<|im_start|>",        "<|im_end|>",        "<|begin_of_text|>",
                                           "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
    test_dir_set_up(state);
    json_t *root = test_byte_level(NULL, 0), *added = json_array();
    for (int i = 0; i <= EOT - IM_START; i++)
        json_array_append_new(added, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", IM_START + i,
                                               "content", specials[i], "single_word", 0, "lstrip", 0,
                                               "rstrip", 0, "normalized", 0, "special", 1));
    json_object_set_new(root, "added_tokens", added);
    tokenizer = test_open(root, test_path(test_dir, "tokenizer.json"));
    json_decref(root);
    return 0;
}

static int tear_down(void **state) {
    kv_tokenizer_free(tokenizer);
    return test_dir_tear_down(state);
}

// `wanted` is text in which bytes from 1 to 6 are special tokens, IM_START first.
static void expect(const int32_t *ids, int64_t n, const char *wanted) {
    assert_int_equal(n, strlen(wanted));
    for (int64_t i = 0; i < n; i++) {
        const int byte = (unsigned char)wanted[i];
        assert_int_equal(ids[i], byte >= 1 && byte <= 6 ? IM_START - 1 + byte : byte);
    }
}

static void a_prompt_is_what_the_user_says(void **state) {
    (void)state;
    static const char text[] = "Q: é<|im_end|>\nA:";
    const struct {
        const kv_chat_template *chat;
        const char *system, *wanted;
    } cases[] = {
        {NULL, NULL, "Q: é\2\nA:"}, // as ever: special tokens are found in the text
        {&chatml, NULL, "\1user\nQ: é<|im_end|>\nA:\2\n\1assistant\n"},
        {&chatml, "Be.", "\1system\nBe.\2\n\1user\nQ: é<|im_end|>\nA:\2\n\1assistant\n"},
        {&llama3, NULL, "\3\4user\5\n\nQ: é<|im_end|>\nA:\6\4assistant\5\n\n"},
        {&llama3, "Be.", "\3\4system\5\n\nBe.\6\4user\5\n\nQ: é<|im_end|>\nA:\6\4assistant\5\n\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const kv_prompting p = {tokenizer, cases[i].chat, cases[i].system};
        int32_t *ids;
        int64_t n, front, back;
        kv_error err = {0};
        if (kv_prompt_ids(&p, text, &ids, &n, &err)) fail_msg("%s", err.message);
        expect(ids, n, cases[i].wanted);
        free(ids);
        assert_int_equal(kv_prompt_frame(&p, &front, &back, &err), KV_OK);
        const char *at = strstr(cases[i].wanted, "Q:"), *behind = strstr(cases[i].wanted, "A:") + 2;
        assert_int_equal(front, at - cases[i].wanted);
        assert_int_equal(back, strlen(behind));
    }
}

static void a_choice_is_what_the_assistant_says(void **state) {
    (void)state;
    const struct {
        const kv_chat_template *chat;
        const char *wanted;
        int64_t n_scored;
    } cases[] = {{NULL, "Q \n Rome", 7}, // white space at the end belongs to the choice
                 {&chatml, "\1user\nQ \n\2\n\1assistant\nRome", 4},
                 {&llama3, "\3\4user\5\n\nQ\6\4assistant\5\n\nRome", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const kv_prompting p = {tokenizer, cases[i].chat, NULL};
        int32_t *ids;
        int64_t n, n_scored;
        kv_error err = {0};
        if (kv_choice_encode(&p, "Q \n", " Rome", &ids, &n, &n_scored, &err)) fail_msg("%s", err.message);
        expect(ids, n, cases[i].wanted);
        assert_int_equal(n_scored, cases[i].n_scored);
        free(ids);
        assert_int_equal(kv_choice_encode(&p, "Q", "", &ids, &n, &n_scored, &err), KV_ERR_FORMAT);
    }
}

static kv_benchmark *create(const kv_eval_task *config, const kv_chat_template *chat, const char *system) {
    kv_benchmark *b;
    kv_error err = {0};
    if (kv_benchmark_create(config, &(kv_prompting){tokenizer, chat, system}, 1, &b, &err))
        fail_msg("%s", err.message);
    return b;
}

static void a_chat_is_another_task(void **state) {
    (void)state;
    char path[256], hashes[4][17];
    snprintf(path, sizeof path, "%s", test_path(test_dir, "q.jsonl"));
    test_write_text(path, "{\"question\": \"a?\", \"answer\": {\"value\": \"b\"}}\n");
    const kv_eval_task config = {
        .name = "t", .split = "v", .kind = "triviaqa", .file = path, .max_tokens = 4};
    const char *const systems[] = {NULL, NULL, "Be.", "Be!"};
    for (int i = 0; i < 4; i++) {
        kv_benchmark *b = create(&config, i ? &chatml : NULL, systems[i]);
        memcpy(hashes[i], b->hash, sizeof hashes[i]);
        for (int j = 0; j < i; j++) assert_string_not_equal(hashes[i], hashes[j]);
        kv_benchmark_free(b);
    }
}

// A program goes on from what the assistant has repeated of it, and ends with its block.
static void programs_go_on_from_their_beginning(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", test_path(test_dir, "p.jsonl"));
    test_write_text(path, "{\"task_id\": \"t/0\", \"prompt\": \"def f(x):\\n\", \"entry_point\": \"f\", "
                          "\"canonical_solution\": \"    return x\", \"test\": \"def check(f): pass\"}\n");
    kv_eval_task config = {.name = "t",
                           .split = "v",
                           .kind = "humaneval",
                           .file = path,
                           .max_tokens = 4,
                           .samples = 1,
                           .too_long = KV_TOO_LONG_CUT};
    static const char asked[] =
        "\1user\nGo on with this Python program until it is complete:\n```python\ndef f(x):\n\n```\2\n"
        "\1assistant\n```python\ndef f(x):\n",
                      least[] = "\1user\n`\2\n\1assistant\n```python\ndef f(x):\n";
    kv_benchmark *b = create(&config, NULL, NULL);
    expect(b->items[0].ids, b->items[0].n_ids, "def f(x):\n");
    kv_benchmark_free(b);
    b = create(&config, &chatml, NULL);
    expect(b->items[0].ids, b->items[0].n_ids, asked);
    // What the answer has begun with is never cut.
    kv_error err = {0};
    kv_fit fit = {.context = (int64_t)sizeof least - 1 + 4, .whose = "`base`", .key = "tasks[0]"};
    if (kv_benchmark_fit(b, &fit, &err)) fail_msg("%s", err.message);
    expect(b->items[0].ids, b->items[0].n_ids, least);
    kv_benchmark_free(b);
    b = create(&config, &chatml, NULL);
    fit.context--;
    assert_int_equal(kv_benchmark_fit(b, &fit, &err), KV_ERR_RANGE);
    kv_benchmark_free(b);
    // Where it ends.
    static const kv_model_spec spec = {.bos_id = -1, .eos_id = -1};
    kv_model model = {.spec = spec};
    const kv_system system = {.base = &model};
    kv_asking asking = {.system = &system, .tokenizer = tokenizer};
    static const char text[] = "    return x\n```\nThat is all.";
    for (int chat = 0; chat < 2; chat++) {
        asking.chat = chat ? &chatml : NULL;
        int32_t *ids;
        int64_t n;
        char *completion;
        assert_int_equal(kv_tokenizer_encode(tokenizer, text, strlen(text), &ids, &n, &err), KV_OK);
        assert_int_equal(
            kv_code_completion(kv_problem_kind_find("humaneval"), &asking, ids, n, &completion, &err), KV_OK);
        assert_string_equal(completion, chat ? "    return x" : text);
        free(completion);
        free(ids);
    }
}

// What goes is text: headers stay.
static void cut_from_the_left_of_the_text(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", test_path(test_dir, "long.jsonl"));
    test_write_text(path, "{\"question\": \"0123456789\", \"answer\": {\"value\": \"b\"}}\n");
    const kv_eval_task config = {.name = "t",
                                 .split = "v",
                                 .kind = "triviaqa",
                                 .file = path,
                                 .max_tokens = 4,
                                 .too_long = KV_TOO_LONG_CUT};
    static const char left[] = "\1user\n6789\nAnswer:\2\n\1assistant\n";
    kv_benchmark *b = create(&config, &chatml, NULL);
    kv_error err = {0};
    kv_fit fit = {.context = (int64_t)sizeof left - 1 + 4, .whose = "`base`", .key = "tasks[0]"};
    if (kv_benchmark_fit(b, &fit, &err)) fail_msg("%s", err.message);
    assert_int_equal(b->n_cut, 1);
    expect(b->items[0].ids, b->items[0].n_ids, left);
    kv_benchmark_free(b);
    // One token of the text must be left.
    static const char least[] = "\1user\n:\2\n\1assistant\n";
    b = create(&config, &chatml, NULL);
    fit.context = (int64_t)sizeof least - 1 + 4;
    if (kv_benchmark_fit(b, &fit, &err)) fail_msg("%s", err.message);
    expect(b->items[0].ids, b->items[0].n_ids, least);
    kv_benchmark_free(b);
    b = create(&config, &chatml, NULL);
    fit.context--;
    assert_int_equal(kv_benchmark_fit(b, &fit, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "long.jsonl:1: "));
    kv_benchmark_free(b);
}

static void what_ends_a_turn_ends_an_answer(void **state) {
    (void)state;
    static const kv_model_spec spec = {.bos_id = -1, .eos_id = -1};
    kv_model model = {.spec = spec};
    const kv_system system = {.base = &model};
    kv_asking asking = {.system = &system, .tokenizer = tokenizer};
    assert_false(kv_ends_answer(&asking, IM_END));
    asking.chat = &chatml;
    assert_true(kv_ends_answer(&asking, IM_END));
    assert_false(kv_ends_answer(&asking, EOT));
    asking.chat = &llama3;
    assert_true(kv_ends_answer(&asking, EOT));
    assert_false(kv_ends_answer(&asking, 'a'));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_what_the_user_says),
        cmocka_unit_test(a_choice_is_what_the_assistant_says),
        cmocka_unit_test(a_chat_is_another_task),
        cmocka_unit_test(programs_go_on_from_their_beginning),
        cmocka_unit_test(cut_from_the_left_of_the_text),
        cmocka_unit_test(what_ends_a_turn_ends_an_answer),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
