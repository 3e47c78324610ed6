// The programs on models with what nobody needs beside them: a tokenizer's [PAD] without a row, a decoder where
// only ids are asked for, stop ids and tensors of other models. The answers are those of the plain model. KVRUN,
// KVDATA and KVTRAIN name the programs.
#include "data/checkpoint/checkpoint.h"
#include "data/file/content.h"
#include "tests/support/checkpoint.h"
#include "tests/support/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const merges[] = {"a b", "ab c", "\xC4\xA0 a"};
static const char ids[] = "256 40 73 12 99 101 7";
enum { N_IDS = 259 };

static char out[1 << 16], said[1 << 16];

static int run(const char *program, const char *const *arguments) {
    const char *all[32] = {getenv(program)};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, -1, out, said, sizeof out);
}
#define RUN(program, ...) run(program, (const char *const[]){__VA_ARGS__, NULL})

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

// test_dir itself is the model: of Llama's kind, with a byte-level tokenizer of its 259 ids.
static void write_model(const char *model_type, double linear) {
    kv_model_spec spec = {.vocab_size = N_IDS,
                          .model_dim = 16,
                          .head_dim = 8,
                          .n_layers = 2,
                          .context_length = 64,
                          .layers = {{2, 1, 24}, {2, 1, 24}},
                          .norm_eps = 1e-5f,
                          .rope = {.theta = 10000, .factor = linear},
                          .bos_id = -1,
                          .eos_id = -1};
    kv_model *model;
    snprintf(spec.model_type, sizeof spec.model_type, "%s", model_type);
    must(kv_model_create(&spec, KV_F32, true, &model, &err), &err);
    kv_model_init(model, 11);
    must(kv_checkpoint_save(test_dir, model, &err), &err);
    kv_model_free(model);
}

static void write_tokenizer(const char *key, const char *value) {
    json_t *root = test_byte_level(merges, 3);
    if (key) test_set(root, key, value);
    assert_int_equal(json_dump_file(root, in_dir("tokenizer.json"), 0), 0);
    json_decref(root);
}

// The eight ids that follow the prompt, kept for comparison.
static char plain[256];

static void write_plain(void) {
    write_model("llama", 0);
    write_tokenizer(NULL, NULL);
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "--ids", "-n", "8", "--prompt-ids", ids), 0);
    snprintf(plain, sizeof plain, "%.*s", (int)sizeof plain - 1, out);
    assert_true(strlen(plain) > 8);
    assert_string_equal(said, "");
}

// The same ids, and a line of warning that holds `words`; NULL: none.
static void expect_plain(const char *words) {
    const int status = RUN("KVRUN", "--base", test_dir, "-q", "--ids", "-n", "8", "--prompt-ids", ids);
    if (status) fail_msg("%d: %s", status, said);
    assert_string_equal(out, plain);
    if (!words) assert_string_equal(said, "");
    if (!words) return;
    const char *newline = strchr(said, '\n');
    if (strncmp(said, "kvrun: warning: ", 16) || !strstr(said, words) || !newline || newline[1])
        fail_msg("expected a line with '%s', found %s", words, said);
}

static void test_model(void **state) {
    (void)state;
    write_plain();
    write_text("generation_config.json", "{\"eos_token_id\": [999, -1], \"top_p\": \"high\"}");
    expect_plain("generation_config.json: 'eos_token_id' has 999");
    write_text("generation_config.json", "{");
    expect_plain("generation_config.json:1: bad JSON");
    remove(in_dir("generation_config.json"));
    set_key("config.json", "rope_scaling", "{\"type\": \"dynamic\", \"factor\": 3}");
    set_key("config.json", "pad_token_id", "5000");
    set_key("config.json", "sliding_window", "64");
    expect_plain(NULL);
    change_tensor("model.safetensors", "model.norm.weight", ADD_COPY,
                  "model.layers.1.self_attn.rotary_emb.inv_freq");
    expect_plain(NULL);
    change_tensor("model.safetensors", "model.norm.weight", ADD_COPY, "score.weight");
    expect_plain("left out 1 tensor that config.json");
    set_key("config.json", "model_type", "\"mistral\"");
    expect_plain("left out 1 tensor");
    set_key("config.json", "sliding_window", "63");
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "--ids", "--prompt-ids", ids), 1);
    assert_non_null(strstr(said, "'sliding_window' is 63, expected null or at least the context of 64"));
}

static void test_tokenizer(void **state) {
    (void)state;
    write_plain();
    write_tokenizer("model", "{\"type\": \"Unigram\", \"vocab\": []}");
    expect_plain("its tokenizer is not compared");
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "ab"), 1); // text needs it
    assert_non_null(strstr(said, "model.type is \"Unigram\", expected BPE"));
    assert_int_equal(RUN("KVDATA", "inspect", test_dir), 0); // the model is described all the same
    assert_non_null(strstr(out, "vocabulary   259"));
    assert_non_null(strstr(said, "no text can be read or written with it"));
    write_tokenizer("decoder", "null");
    expect_plain(NULL);
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "--ids", "-n", "3", "abc"), 0);
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "-n", "3", "abc"), 1);
    assert_string_equal(out, "");
    assert_non_null(strstr(said, "tokenizer.json: decoder is null"));
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "--ids", "--stop", "x", "-n", "3", "abc"), 1);
    assert_int_equal(RUN("KVDATA", "encode", "-t", test_dir, "abc"), 0);
    assert_string_equal(out, "257\n");
    assert_int_equal(RUN("KVDATA", "decode", "-t", test_dir, "257"), 1);
    write_tokenizer(NULL, NULL);
    write_text("tokenizer_config.json", "{\"chat_template\": \"{% nonsense\", \"eos_token\": \"</none>\"}");
    expect_plain("tokenizer_config.json: 'eos_token' is \"</none>\"");
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "--chat", "abc"), 1);
    assert_non_null(strstr(said, "a chat template of an unknown kind"));
}

// A [PAD] for which the table has no row is no matter until a text spells it; a word without a row is.
static void test_added_tokens(void **state) {
    (void)state;
    write_plain();
    write_tokenizer("added_tokens", "[{\"id\": 259, \"content\": \"[PAD]\", \"special\": true}]");
    expect_plain(NULL);
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "-n", "3", "abc"), 0);
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "-n", "3", "abc[PAD]"), 1);
    assert_non_null(strstr(said, "token 1 of the prompt has id 259, outside the vocabulary of 259"));
    assert_int_equal(RUN("KVDATA", "inspect", test_dir), 0);
    assert_non_null(strstr(out, "added ones, which no text may spell"));
    // Training on text of this tokenizer.
    char line[2048] = "{\"text\": \"";
    for (int i = 0; i < 150; i++) strcat(line, "abc ab a ");
    strcat(line, "\"}\n");
    write_text("text.jsonl", line);
    assert_int_equal(RUN("KVDATA", "tokenize", "-c", "0", "-m", "0", "-t", test_dir, "-o", in_dir("text.h5"),
                         in_dir("text.jsonl")),
                     0);
    snprintf(
        line, sizeof line,
        "task: lm\noutput: %s/run\nmodel: {from: checkpoint, path: %s}\ndata: {train: %s/text.h5, seq_len: 16, "
        "batch_size: 2}\ntrain: {steps: 2, lr: 1e-3, warmup_steps: 1}\n",
        test_dir, test_dir, test_dir);
    write_text("run.yaml", line);
    const int status = RUN("KVTRAIN", in_dir("run.yaml"));
    if (status) fail_msg("%s", said);
    json_t *root = test_byte_level(merges, 3); // one word more than the table has rows
    json_object_set_new(json_object_get(json_object_get(root, "model"), "vocab"), "zz", json_integer(259));
    assert_int_equal(json_dump_file(root, in_dir("tokenizer.json"), 0), 0);
    json_decref(root);
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "-n", "3", "abc"), 1);
    assert_non_null(strstr(said, "vocabulary of 259 tokens, expected at least the 260"));
}

// Mistral with linear scaling: trained on, saved and read again as what it is. Its ids differ from those without
// scaling, and are those of scaled positions whether said in the old way or the new one.
static void test_linear(void **state) {
    (void)state;
    write_plain();
    char unscaled[sizeof plain];
    strcpy(unscaled, plain);
    write_model("mistral", 2.5);
    assert_int_equal(RUN("KVRUN", "--base", test_dir, "-q", "--ids", "-n", "8", "--prompt-ids", ids), 0);
    strcpy(plain, out);
    assert_string_not_equal(plain, unscaled);
    set_key("config.json", "rope_scaling", NULL);
    set_key("config.json", "rope_theta", NULL);
    set_key("config.json", "rope_parameters",
            "{\"rope_type\": \"linear\", \"factor\": 2.5, \"rope_theta\": 10000}");
    expect_plain(NULL);
    assert_int_equal(RUN("KVDATA", "inspect", test_dir), 0);
    assert_non_null(strstr(out, "theta 10000, linear scaling by 2.5"));
    char text[1024];
    write_text("text.txt",
               "abc ab a abc ab a abc ab a abc ab a abc ab a abc ab a abc ab a abc ab a abc ab a abc ab a\n");
    assert_int_equal(RUN("KVDATA", "tokenize", "-c", "0", "-m", "0", "-t", test_dir, "-o", in_dir("text.h5"),
                         in_dir("text.txt")),
                     0);
    snprintf(
        text, sizeof text,
        "task: lm\noutput: %s/run\nmodel: {from: checkpoint, path: %s}\ndata: {train: %s/text.h5, seq_len: 8, "
        "batch_size: 2}\ntrain: {steps: 1, lr: 1e-9, warmup_steps: 0}\n",
        test_dir, test_dir, test_dir);
    write_text("run.yaml", text);
    const int status = RUN("KVTRAIN", in_dir("run.yaml"));
    if (status) fail_msg("%s", said);
    kv_model_spec before, after;
    must(kv_checkpoint_spec(test_dir, &before, &err), &err);
    must(kv_checkpoint_spec(in_dir("run/final/model"), &after, &err), &err);
    assert_same_spec(&before, &after);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_set_up, test_dir_tear_down)
    const struct CMUnitTest tests[] = {TEST(test_model), TEST(test_tokenizer), TEST(test_added_tokens),
                                       TEST(test_linear)};
    return cmocka_run_group_tests_name("unneeded", tests, NULL, NULL);
}
