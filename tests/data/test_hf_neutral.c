// Settings of config.json and generation_config.json that change nothing of what is computed: they mean the same
// model as without them. Beside each stands its sibling that would change something, and is refused or means
// another model.
#include "data/checkpoint/hf_config.h"
#include "tests/support/checkpoint.h"
#include "tests/support/published_configs.h"
#include "tests/support/warnings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char config[] = "config.json", generation[] = "generation_config.json";

// What a published file means with keys set or, value NULL, removed.
#define MAX_CHANGES 4
typedef struct change_case {
    const char *name;
    const char *keys[MAX_CHANGES][2]; // key, value; up to one without a key
} change_case;

static kv_status read_changed(const change_case *c, kv_model_spec *spec) {
    write_text(config, published_config(c->name));
    for (int i = 0; i < MAX_CHANGES && c->keys[i][0]; i++) set_key(config, c->keys[i][0], c->keys[i][1]);
    test_n_warnings = 0;
    return kv_checkpoint_spec(test_dir, spec, &err);
}

// The same model as the published file's, without a word.
static void assert_neutral(const change_case *c) {
    kv_model_spec plain, spec;
    write_text(config, published_config(c->name));
    must(kv_checkpoint_spec(test_dir, &plain, &err), &err);
    must(read_changed(c, &spec), &err);
    assert_same_spec(&spec, &plain);
    if (test_n_warnings) fail_msg("%s", test_warned);
}

// ---- Rotary positions ------------------------------------------------------------------------------------

// smollm2-135m has a context of 8192.
static void test_rope(void **state) {
    (void)state;
#define SCALING(text)                                                                                        \
    {                                                                                                        \
        "smollm2-135m", {                                                                                    \
            { "rope_scaling", text }                                                                         \
        }                                                                                                    \
    }
    static const change_case cases[] = {
        SCALING("null"),
        SCALING("{}"),
        SCALING("{\"type\":\"default\"}"),
        SCALING("{\"rope_type\":\"default\",\"factor\":1.0}"),
        SCALING("{\"rope_type\":\"default\",\"original_max_position_embeddings\":2048,\"mscale\":null}"),
        SCALING("{\"factor\":1}"),
        SCALING("{\"type\":null,\"rope_type\":null,\"factor\":null}"),
        SCALING("{\"type\":\"linear\",\"factor\":1.0}"),
        SCALING("{\"type\":\"linear\",\"rope_type\":\"linear\",\"factor\":1}"),
        SCALING("{\"type\":\"dynamic\",\"factor\":1.0}"),
        SCALING("{\"type\":\"dynamic\",\"factor\":4.5}"),
        SCALING("{\"rope_type\":\"dynamic\",\"factor\":2,\"original_max_position_embeddings\":8192}"),
        SCALING("{\"type\":\"yarn\",\"factor\":1.0}"),
        SCALING(
            "{\"rope_type\":\"yarn\",\"factor\":1,\"original_max_position_embeddings\":8192,"
            "\"attention_factor\":1,\"beta_fast\":32,\"beta_slow\":1,\"mscale\":0.7,\"mscale_all_dim\":1}"),
        {"smollm2-135m", {{"rope_interleaved", "false"}, {"partial_rotary_factor", "1.0"}}},
        {"smollm2-135m", {{"rope_parameters", "{\"rope_theta\":100000,\"rope_type\":\"default\"}"}}},
        {"smollm2-135m",
         {{"rope_theta", NULL},
          {"rope_parameters", "{\"rope_theta\":100000,\"rope_type\":\"dynamic\",\"factor\":8}"}}},
        {"smollm2-135m", {{"rope_theta", "100000.0"}, {"rope_scaling", NULL}}},
        {"llama-3.2-3b",
         {{"rope_scaling",
           "{\"rope_type\":\"llama3\",\"type\":\"llama3\",\"factor\":32,\"low_freq_factor\":1,"
           "\"high_freq_factor\":4,\"original_max_position_embeddings\":8192,"
           "\"attention_factor\":null}"}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) assert_neutral(&cases[i]);
    // A number that does nothing under the rule that is said is pointed out.
    static const change_case idle = SCALING("{\"type\":\"default\",\"factor\":4}");
    kv_model_spec spec;
    must(read_changed(&idle, &spec), &err);
    assert_true(spec.rope.factor == 0 && test_n_warnings == 1);
    assert_non_null(
        strstr(test_warned, "rope_scaling: 'factor' does nothing under the rope type \"default\""));
}

// Positions divided by a factor are another model, in either place the same one.
static void test_linear(void **state) {
    (void)state;
    static const change_case cases[] = {
        SCALING("{\"type\":\"linear\",\"factor\":4.0}"),
        SCALING("{\"rope_type\":\"linear\",\"factor\":4,\"original_max_position_embeddings\":2048}"),
        {"smollm2-135m",
         {{"rope_parameters", "{\"rope_theta\":100000,\"rope_type\":\"linear\",\"factor\":4}"}}},
        {"smollm2-135m",
         {{"rope_scaling", "{\"type\":\"linear\",\"factor\":4}"},
          {"rope_parameters", "{\"rope_theta\":100000,\"rope_type\":\"linear\",\"factor\":4}"}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_model_spec spec;
        must(read_changed(&cases[i], &spec), &err);
        assert_true(spec.rope.theta == 100000 && spec.rope.factor == 4 && spec.rope.original_context == 0);
        assert_true(spec.rope.low_freq_factor == 0 && spec.rope.high_freq_factor == 0 &&
                    test_n_warnings == 0);
    }
    static const change_case contradiction = {
        "smollm2-135m",
        {{"rope_scaling", "{\"type\":\"linear\",\"factor\":4}"},
         {"rope_parameters", "{\"rope_theta\":100000,\"rope_type\":\"linear\",\"factor\":2}"}}};
    kv_model_spec spec;
    assert_refused(read_changed(&contradiction, &spec), KV_ERR_FORMAT, "contradicts 'rope_scaling'");
}

// ---- Windows ---------------------------------------------------------------------------------------------

static void test_windows(void **state) {
    (void)state;
    static const change_case neutral[] = {
        {"smollm2-135m", {{"sliding_window", "null"}}},
        {"smollm2-135m", {{"sliding_window", "8192"}}},
        {"smollm2-135m", {{"sliding_window", "4096"}, {"use_sliding_window", "false"}}},
        {"qwen2.5-0.5b", {{"sliding_window", "\"odd\""}, {"use_sliding_window", "null"}}},
        {"qwen2.5-0.5b",
         {{"sliding_window", "32768"}, {"use_sliding_window", "true"}, {"max_window_layers", "0"}}},
        {"qwen2.5-0.5b",
         {{"sliding_window", "64"}, {"use_sliding_window", "true"}, {"max_window_layers", "24"}}},
        {"qwen2.5-0.5b",
         {{"sliding_window", "64"}, {"use_sliding_window", "true"}, {"max_window_layers", NULL}}},
        {"qwen2.5-0.5b",
         {{"sliding_window", "null"}, {"use_sliding_window", "true"}, {"max_window_layers", "0"}}},
        {"qwen3-0.6b", {{"max_window_layers", "0"}, {"sliding_window", NULL}}},
        {"qwen3-0.6b", {{"layer_types", "[\"full_attention\",\"full_attention\"]"}}},
        {"qwen3-0.6b", {{"layer_types", "[\"sliding_attention\"]"}, {"sliding_window", "40960"}}},
    };
    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++) assert_neutral(&neutral[i]);
    // Llama's code has none, so one that is said is left out with a word.
    static const change_case unasked = {"smollm2-135m", {{"sliding_window", "64"}}};
    kv_model_spec windowless;
    must(read_changed(&unasked, &windowless), &err);
    assert_int_equal(windowless.context_length, 8192);
    assert_non_null(strstr(test_warned, "'sliding_window' does nothing in a model of type llama"));
    test_n_warnings = 0;
    static const struct {
        change_case c;
        const char *part;
    } refused[] = {
        {{"smollm2-135m", {{"sliding_window", "0"}}}, "'sliding_window' is 0"},
        {{"smollm2-135m", {{"sliding_window", "-1"}}}, "'sliding_window' is -1"},
        {{"smollm2-135m", {{"sliding_window", "\"all\""}}}, "'sliding_window' is \"all\""},
        {{"smollm2-135m", {{"sliding_window", "9000.5"}}}, "'sliding_window' is 9000.5"},
        {{"qwen2.5-0.5b",
          {{"sliding_window", "32767"}, {"use_sliding_window", "true"}, {"max_window_layers", "23"}}},
         "'use_sliding_window' is true, expected false"},
        {{"qwen2.5-0.5b",
          {{"sliding_window", NULL}, {"use_sliding_window", "true"}, {"max_window_layers", "23"}}},
         "'use_sliding_window' is true, expected false"},
        {{"qwen2.5-0.5b", {{"use_sliding_window", "1"}}},
         "'use_sliding_window' is 1, expected true or false"},
        {{"qwen3-0.6b", {{"layer_types", "[\"sliding_attention\"]"}, {"sliding_window", "40959"}}},
         "'layer_types'[0] is \"sliding_attention\""},
        {{"qwen3-0.6b", {{"layer_types", "[\"chunked_attention\"]"}, {"sliding_window", "40960"}}},
         "'layer_types'[0] is \"chunked_attention\""},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        kv_model_spec spec;
        assert_refused(read_changed(&refused[i].c, &spec), KV_ERR_FORMAT, config, refused[i].part);
    }
}

// Mistral is Llama where its window hides nothing; where there is none, its class assumes 4096 tokens.
static void test_mistral(void **state) {
    (void)state;
#define MISTRAL(context, ...)                                                                                \
    {                                                                                                        \
        "smollm2-135m", {                                                                                    \
            {"model_type", "\"mistral\""}, {"max_position_embeddings", context}, __VA_ARGS__                 \
        }                                                                                                    \
    }
    static const change_case taken[] = {
        MISTRAL("8192", {"sliding_window", "null"}),
        MISTRAL("8192", {"sliding_window", "8192"}),
        MISTRAL("8192", {"sliding_window", "131072"}, {"use_sliding_window", "true"}),
        MISTRAL("4096", {"torch_dtype", "\"bfloat16\""}),
    };
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        kv_model_spec plain, spec, again;
        must(read_changed(&(change_case){"smollm2-135m", {{"pretraining_tp", "1"}}}, &plain), &err);
        must(read_changed(&taken[i], &spec), &err);
        assert_string_equal(spec.model_type, "mistral");
        // What is written says that there is no window.
        char *text;
        must(kv_hf_config_write(&spec, &text, &err), &err);
        write_text(config, text);
        must(kv_checkpoint_spec(test_dir, &again, &err), &err);
        assert_same_spec(&spec, &again);
        free(text);
        if (i == 3) plain.context_length = 4096;
        strcpy(spec.model_type, plain.model_type);
        assert_same_spec(&spec, &plain);
        assert_int_equal(test_n_warnings, 0);
    }
    static const struct {
        change_case c;
        const char *part;
    } refused[] = {
        {MISTRAL("32768", {"sliding_window", "4096"}),
         "'sliding_window' is 4096, expected null or at least the context of 32768"},
        {MISTRAL("4097", {"hidden_act", "\"silu\""}),
         "'sliding_window' is missing, expected null or at least the context of 4097: an absent one means 4096"},
        {MISTRAL("8192", {"sliding_window", "4096"},
                 {"use_sliding_window", "false"}), // which Mistral does not ask
         "'sliding_window' is 4096"},
        {MISTRAL("8192", {"sliding_window", "null"}, {"num_key_value_heads", NULL}),
         "'num_key_value_heads' is missing"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        kv_model_spec spec;
        assert_refused(read_changed(&refused[i].c, &spec), KV_ERR_FORMAT, config, refused[i].part);
    }
}

// ---- Other keys ------------------------------------------------------------------------------------------

static void test_other_keys(void **state) {
    (void)state;
    static const change_case cases[] = {
        {"smollm2-135m",
         {{"hidden_act", "\"swish\""}, {"quantization_config", "null"}, {"attention_dropout", "0.5"}}},
        {"smollm2-135m",
         {{"quantization_config", "{}"}, {"num_experts", "1"}, {"num_local_experts", "null"}}},
        {"smollm2-135m",
         {{"architectures", "[\"LlamaModel\"]"}, {"is_decoder", "true"}, {"use_cache", "\"no\""}}},
        {"smollm2-135m", {{"torch_dtype", NULL}, {"dtype", "\"float8\""}, {"auto_map", "{\"AutoModel\":1}"}}},
        {"smollm2-135m", {{"pad_token_id", "9999999"}, {"torchscript", "{}"}, {"_attn_implementation", "3"}}},
        {"smollm2-135m", {{"mlp_bias", "false"}, {"attention_bias", "null"}, {"pretraining_tp", "4"}}},
        {"smollm2-135m", {{"unk_token_id", "-7"}, {"architectures", "{}"}, {"transformers_version", "null"}}},
        {"openelm-270m", {{"pad_token_id", "-5"}, {"torch_dtype", "7"}, {"use_cache", "null"}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) assert_neutral(&cases[i]);
    kv_model_spec spec;
    must(read_changed(&(change_case){"smollm2-135m", {{"tie_word_embeddings", "null"}}}, &spec), &err);
    assert_false(spec.tied_head);
}

// ---- Ends of a text --------------------------------------------------------------------------------------

// An id that no text can have is left out with a word; none and -1 say that there is none.
static void test_stop_ids(void **state) {
    (void)state;
    static const struct {
        const char *file, *key, *value;
        const char *warning;    // NULL: none
        int32_t bos, eos, stop; // -1: none
    } cases[] = {
        {config, "eos_token_id", "49152",
         "'eos_token_id' has 49152, which is no token of the vocabulary of 49152", 0, -1, -1},
        {config, "eos_token_id", "[0,49153,2]", "'eos_token_id' has 49153", 0, 0, 2},
        {config, "eos_token_id", "[60000,60001,7,60002]",
         "'eos_token_id' has 60000 (and 2 more such), which is no token", 0, 7, -1},
        {config, "eos_token_id", "[-1,7]", NULL, 0, 7, -1},
        {config, "eos_token_id", "-1", NULL, 0, -1, -1},
        {config, "eos_token_id", "-2", "'eos_token_id' has -2", 0, -1, -1},
        {config, "eos_token_id", "[null,7,7,7]", NULL, 0, 7, -1},
        {config, "eos_token_id", "\"7\"", "'eos_token_id' has \"7\"", 0, -1, -1},
        {config, "eos_token_id", "[[7],8]", "'eos_token_id' has [7]", 0, 8, -1},
        {config, "eos_token_id", "1e300", "'eos_token_id' has 1", 0, -1, -1},
        {config, "eos_token_id", "[]", NULL, 0, -1, -1},
        {config, "bos_token_id", "49152", "'bos_token_id' has 49152", -1, 0, -1},
        {config, "bos_token_id", "[1,2]", "'bos_token_id' has [1,2]", -1, 0, -1},
        {config, "bos_token_id", "-1", NULL, -1, 0, -1},
        {generation, "eos_token_id", "[5,50000]", "generation_config.json: 'eos_token_id' has 50000", 0, 0,
         5},
        {generation, "eos_token_id", "\"</s>\"", "'eos_token_id' has \"</s>\"", 0, 0, -1},
        {generation, "eos_token_id", "-1", NULL, 0, 0, -1},
        {generation, "bos_token_id", "\"odd\"", NULL, 0, 0, -1},
        {generation, "temperature", "{\"a\":[]}", NULL, 0, 0, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_model_spec spec;
        write_text(config, published_config("smollm2-135m"));
        write_text(generation, "{\"do_sample\":true}");
        set_key(cases[i].file, cases[i].key, cases[i].value);
        test_n_warnings = 0;
        must(kv_checkpoint_spec(test_dir, &spec, &err), &err);
        assert_int_equal(test_n_warnings, cases[i].warning != NULL);
        if (cases[i].warning && !strstr(test_warned, cases[i].warning)) fail_msg("'%s'", test_warned);
        assert_int_equal(spec.bos_id, cases[i].bos);
        assert_int_equal(spec.eos_id, cases[i].eos);
        assert_int_equal(spec.n_stop_ids, cases[i].stop >= 0);
        if (cases[i].stop >= 0) assert_int_equal(spec.stop_ids[0], cases[i].stop);
    }
}

// generation_config.json can be anything: nothing but ends of a text is asked of it.
static void test_unusable_generation_config(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{", "[]", "3", "{\"eos_token_id\":2", "<!doctype html>"};
    kv_model_spec plain, spec;
    write_text(config, published_config("smollm2-135m"));
    must(kv_checkpoint_spec(test_dir, &plain, &err), &err);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_text(generation, texts[i]);
        test_n_warnings = 0;
        must(kv_checkpoint_spec(test_dir, &spec, &err), &err);
        assert_same_spec(&spec, &plain);
        assert_int_equal(test_n_warnings, 1);
        assert_non_null(strstr(test_warned, generation));
        assert_non_null(strstr(test_warned, "only config.json says where a text ends"));
    }
    remove(test_path(test_dir, generation));
    assert_int_equal(mkdir(test_path(test_dir, generation), 0777), 0);
    must(kv_checkpoint_spec(test_dir, &spec, &err), &err);
    assert_same_spec(&spec, &plain);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_set_up, test_dir_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_rope),
        TEST(test_linear),
        TEST(test_windows),
        TEST(test_mistral),
        TEST(test_other_keys),
        TEST(test_stop_ids),
        TEST(test_unusable_generation_config),
    };
    return cmocka_run_group_tests_name("hf_neutral", tests, NULL, NULL);
}
