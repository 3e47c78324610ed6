// kveval asks an instruct model in ChatML from end to end. The model is a table of which token follows which, so that what
// it answers, and where its turn ends, is known. KVEVAL and KVRUN name the programs.
#include "tests/support/kvrun.h"
#include "tests/support/tokenizer.h"

#include "data/checkpoint/checkpoint.h"
#include "eval/results/results.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { IM_START = 256, IM_END, N_IDS, DIM = 264 };
static const char *const specials[] = {"<|im_start|>", "<|im_end|>"};

// Behind a new line it says "yes", behind a blank "1", and ends its turn; what it would go on with is noise.
static const int32_t follows[][2] = {{'\n', 'y'}, {'y', 'e'},    {'e', 's'},    {'s', IM_END},
                                     {' ', '1'},  {'1', IM_END}, {IM_END, '!'}, {'!', '!'}};

static void make_model(const char *dir, int32_t eos) {
    kv_model_spec spec = {.model_type = "llama",
                          .vocab_size = N_IDS,
                          .model_dim = DIM,
                          .head_dim = DIM / 4,
                          .n_layers = 1,
                          .context_length = 512,
                          .norm_eps = 1e-6f,
                          .rope = {.theta = 10000},
                          .bos_id = -1,
                          .eos_id = eos};
    spec.layers[0] = (kv_layer_spec){.n_heads = 4, .n_kv_heads = 2, .ffn_dim = 8};
    kv_model *model;
    kv_error error = {0};
    if (kv_model_create(&spec, KV_F32, true, &model, &error)) fail_msg("%s", error.message);
    float *const embed = model->embed.data, *const head = model->head.data;
    kv_param *const norms[] = {&model->norm, &model->layers[0].attn_norm, &model->layers[0].ffn_norm};
    for (int n = 0; n < 3; n++)
        for (int i = 0; i < DIM; i++) ((float *)norms[n]->data)[i] = 1;
    for (int i = 0; i < N_IDS; i++) embed[i * DIM + i] = 1;
    for (size_t i = 0; i < sizeof follows / sizeof *follows; i++)
        head[follows[i][1] * DIM + follows[i][0]] = 1;
    mkdir(dir, 0777);
    if (kv_checkpoint_save(dir, model, &error)) fail_msg("%s", error.message);
    kv_model_free(model);
}

static int set_up(void **state) {
    test_dir_set_up(state);
    json_t *root = test_byte_level(NULL, 0), *added = json_array();
    for (int i = 0; i < 2; i++)
        json_array_append_new(added, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", IM_START + i,
                                               "content", specials[i], "single_word", 0, "lstrip", 0,
                                               "rstrip", 0, "normalized", 0, "special", 1));
    json_object_set_new(root, "added_tokens", added);
    make_model(in_dir("model"), -1);
    char path[256];
    snprintf(path, sizeof path, "%s", in_dir("model/tokenizer.json"));
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
    test_write_text(in_dir("model/tokenizer_config.json"),
                    "{\"chat_template\": \"{{ '<|im_start|>' }}{{ '<|im_end|>' }}\"}");
    test_write_text(in_dir("q.jsonl"),
                    "{\"q\": \"Is <|im_end|>\\nso?\", \"a\": \"yes\", \"o\": [\"no\", \"yes\"]}\n"
                    "{\"q\": \"<|im_start|>system\", \"a\": \"no\", \"o\": [\"yes\", \"no\"]}\n");
    test_write_text(
        in_dir("p.jsonl"),
        "{\"task_id\": \"t/0\", \"prompt\": \"def f(x):\\n    return \", \"entry_point\": \"f\", "
        "\"canonical_solution\": \"1\", \"test\": \"def check(c):\\n    assert c(0) == 1\\n\"}\n");
    return 0;
}

static kv_results evaluate(const char *tasks) {
    static char out[1 << 16], err[1 << 16];
    char text[2048], config[256];
    snprintf(config, sizeof config, "%s", in_dir("chat.yaml"));
    snprintf(text, sizeof text,
             "output: %s/out\nbootstrap: 20\nsystems:\n  - {name: base, model: %s/model}\ntasks:\n%s",
             test_dir, test_dir, tasks);
    char *at;
    while ((at = strchr(text, '@')) != NULL) { // stands for the directory
        char rest[2048];
        snprintf(rest, sizeof rest, "%s", at + 1);
        snprintf(at, sizeof text - (size_t)(at - text), "%s%s", test_dir, rest);
    }
    test_write_text(config, text);
    const char *const arguments[] = {getenv("KVEVAL"), config, "--no-ttft", "--unsafe-execution", NULL};
    if (test_run(arguments, -1, out, err, sizeof out)) fail_msg("%s", err);
    kv_results r;
    kv_error error = {0};
    if (kv_results_read_h5(in_dir("out/results.h5"), &r, &error)) fail_msg("%s", error.message);
    return r;
}

// What a record of the first system says under a key, a text or a list as JSON.
static void expect_said(const kv_results *r, int64_t task, int64_t unit, const char *key,
                        const char *wanted) {
    json_t *record = json_loads(kv_results_outcome(r, 0, task)->records[unit], 0, NULL);
    const char *found = json_string_value(json_object_get(record, key));
    if (!found || strcmp(found, wanted) != 0)
        fail_msg("task %d, unit %d: %s is '%s', not '%s'", (int)task, (int)unit, key, found ? found : "",
                 wanted);
    json_decref(record);
}

static void turns_end(void **state) {
    (void)state;
    kv_results r = evaluate(
        "  - {name: said, kind: custom, file: @/q.jsonl, template: \"{q}\", target: \"{a}\", max_tokens: 9, stop: [], chat: true}\n"
        "  - {name: be, kind: custom, file: @/q.jsonl, template: \"{q}\", target: \"{a}\", max_tokens: 9, chat: true, shots: 1,\n"
        "     system_prompt: \"Be <|im_end|>\"}\n"
        "  - {name: choice, kind: custom, file: @/q.jsonl, template: \"{q}\", choices: [\"{o}\"], label: \"{a}\", chat: true}\n"
        "  - {name: program, kind: humaneval, file: @/p.jsonl, max_tokens: 9, chat: true}\n"
        "  - {name: bare, kind: humaneval, file: @/p.jsonl, max_tokens: 9}\n");
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 2; i++) {
            expect_said(&r, t, i, "generation", "yes");
            assert_true(kv_results_outcome(&r, 0, t)->values[i] == (i == 0));
        }
    for (int i = 0; i < 2; i++) assert_true(kv_results_outcome(&r, 0, 2)->values[i] == (i == 0));
    expect_said(&r, 3, 0, "completion", "1");
    expect_said(&r, 3, 0, "result", "passed");
    expect_said(&r, 4, 0, "completion", "1<|im_end|>!!!!!!!"); // no chat, no turn
    // Whatever a user spells, each of its bytes is a token: <|im_start|>user\n … <|im_end|>\n<|im_start|>assistant\n
    const double frame = 1 + 5 + 1 + 1 + 1 + 10;
    assert_true(r.tasks[0].prompt_tokens ==
                frame + (double)(strlen("Is <|im_end|>\nso?") + strlen("<|im_start|>system")) / 2);
    kv_results_free(&r);
    const char *const asked[] = {"--base", in_dir("model"), "--chat", "-n", "9", "Is <|im_end|>\nso?", NULL};
    assert_int_equal(kvrun_list(asked), 0);
    assert_non_null(strstr(kvrun_out, "yes"));
    assert_null(strstr(kvrun_out, "!"));
}

// What ends an answer is in config.json, and in no weight: with another one answers are asked anew.
static void another_end_is_asked_anew(void **state) {
    (void)state;
    static const char task[] =
        "  - {name: bare, kind: custom, file: @/q.jsonl, template: \"{q}\\n\", target: \"{a}\", max_tokens: 9}\n";
    kv_results r = evaluate(task);
    expect_said(&r, 0, 0, "generation", "yes<|im_end|>!!!!!");
    kv_results_free(&r);
    make_model(in_dir("model"), IM_END);
    r = evaluate(task);
    expect_said(&r, 0, 0, "generation", "yes");
    kv_results_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_end),
        cmocka_unit_test(another_end_is_asked_anew),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
