// config.json as it comes: the published files mean the published shapes, old and new ways of saying the same
// agree, and what is not supported is refused by name.
#include "core/flops.h"
#include "data/checkpoint/hf_config.h"
#include "data/checkpoint/random.h"
#include "data/file/content.h"
#include "tests/support/checkpoint.h"
#include "tests/support/published_configs.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char config[] = "config.json";

// ---- Goldens -------------------------------------------------------------------------------------------

static void test_openelm_golden(void **state) {
    (void)state;
    kv_model_spec spec;
    must(kv_checkpoint_spec(golden("kvp_c/base"), &spec, &err), &err);
    assert_string_equal(spec.model_type, "openelm");
    assert_true(spec.vocab_size == 97 && spec.model_dim == 64 && spec.head_dim == 16 && spec.n_layers == 5);
    assert_true(spec.context_length == 64 && spec.bos_id == 1 && spec.eos_id == 2 && spec.n_stop_ids == 0);
    assert_true(spec.qk_norm && spec.tied_head && !spec.qkv_bias);
    assert_true(spec.norm_eps == 1e-6f && spec.rope.theta == 10000 && spec.rope.factor == 0);
    const int64_t ffn[5] = {32, 96, 144, 192, 256};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(spec.layers[i].ffn_dim, ffn[i]);
        assert_int_equal(spec.layers[i].n_heads, i ? 4 : 2);
        assert_int_equal(spec.layers[i].n_kv_heads, i ? 2 : 1);
    }
}

static void test_transformers_goldens(void **state) {
    (void)state;
    static const struct {
        const char *dir, *type;
        bool tied, bias, norm;
        int64_t head_dim;
        double theta, factor;
    } goldens[] = {{"hf/llama-tied", "llama", true, false, false, 16, 10000, 0},
                   {"hf/llama-untied-bf16", "llama", false, false, false, 16, 10000, 0},
                   {"hf/llama-sharded-f16", "llama", false, false, false, 16, 10000, 0},
                   {"hf/llama3-rope", "llama", true, false, false, 16, 500000, 8},
                   {"hf/qwen2", "qwen2", true, true, false, 16, 10000, 0},
                   {"hf/qwen3", "qwen3", true, false, true, 24, 10000, 0}};
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        kv_model_spec spec;
        must(kv_checkpoint_spec(golden(goldens[i].dir), &spec, &err), &err);
        assert_string_equal(spec.model_type, goldens[i].type);
        assert_true(spec.vocab_size == 101 && spec.model_dim == 64 && spec.n_layers == 4);
        assert_true(spec.context_length == 128 && spec.bos_id == 1 && spec.eos_id == 2);
        assert_true(spec.norm_eps == 1e-5f && spec.n_stop_ids == 0);
        assert_true(spec.tied_head == goldens[i].tied && spec.qkv_bias == goldens[i].bias);
        assert_true(spec.qk_norm == goldens[i].norm && spec.head_dim == goldens[i].head_dim);
        assert_true(spec.rope.theta == goldens[i].theta && spec.rope.factor == goldens[i].factor);
        if (spec.rope.factor > 0)
            assert_true(spec.rope.low_freq_factor == 1 && spec.rope.high_freq_factor == 4 &&
                        spec.rope.original_context == 32);
        for (int l = 0; l < 4; l++)
            assert_true(spec.layers[l].n_heads == 4 && spec.layers[l].n_kv_heads == 2 &&
                        spec.layers[l].ffn_dim == 160);
    }
}

// ---- Published files -----------------------------------------------------------------------------------

static kv_model_spec shape(const char *name) {
    kv_model_spec spec;
    if (!kv_published_spec(name, &spec)) fail_msg("no published shape %s", name);
    return spec;
}

// What people download means the shapes that random: names stand for, down to every number.
static void test_published_files(void **state) {
    (void)state;
    for (int i = 0; i < N_PUBLISHED_CONFIGS; i++) {
        kv_model_spec spec, expected = shape(published_configs[i].name);
        write_text(config, published_configs[i].text);
        must(kv_checkpoint_spec(test_dir, &spec, &err), &err);
        assert_same_spec(&spec, &expected);
    }
}

// The lists of the other two OpenELM files follow the family's rule: spaced evenly, to two decimals.
static void test_published_openelm_rule(void **state) {
    (void)state;
    const char *const names[] = {"openelm-450m", "openelm-3b"};
    for (int i = 0; i < 2; i++) {
        kv_model_spec spec, expected = shape(names[i]);
        write_text(config, published_config("openelm-1.1b"));
        const int64_t n = expected.n_layers;
        json_t *heads = json_array(), *kv_heads = json_array(), *multipliers = json_array();
        for (int64_t l = 0; l < n; l++) {
            json_array_append_new(heads, json_integer(expected.layers[l].n_heads));
            json_array_append_new(kv_heads, json_integer(expected.layers[l].n_kv_heads));
            const double even = 0.5 + 3.5 * (double)l / (double)(n - 1);
            json_array_append_new(multipliers, json_real(rint(even * 100) / 100));
        }
        json_t *root = json_load_file(test_path(test_dir, config), 0, NULL);
        json_object_set_new(root, "num_query_heads", heads);
        json_object_set_new(root, "num_kv_heads", kv_heads);
        json_object_set_new(root, "ffn_multipliers", multipliers);
        json_object_set_new(root, "num_transformer_layers", json_integer(n));
        json_object_set_new(root, "model_dim", json_integer(expected.model_dim));
        json_object_set_new(root, "head_dim", json_integer(expected.head_dim));
        assert_int_equal(json_dump_file(root, test_path(test_dir, config), 0), 0);
        json_decref(root);
        must(kv_checkpoint_spec(test_dir, &spec, &err), &err);
        assert_same_spec(&spec, &expected);
    }
}

// ---- Defaults and synonyms -----------------------------------------------------------------------------

// The spec after keys of a published file were set or, value NULL, removed.
static kv_status spec_with(const char *name, const char *const *changes, int n, kv_model_spec *spec) {
    write_text(config, published_config(name));
    for (int i = 0; i < n; i++) set_key(config, changes[2 * i], changes[2 * i + 1]);
    return kv_checkpoint_spec(test_dir, spec, &err);
}
#define SPEC_WITH(spec, name, ...)                                                                           \
    must(spec_with(name, (const char *const[]){__VA_ARGS__},                                                 \
                   sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *) / 2, spec),                   \
         &err)

static void test_absent_keys(void **state) {
    (void)state;
    kv_model_spec spec;
    const kv_model_spec smol = shape("smollm2-135m"), qwen3 = shape("qwen3-0.6b");
    SPEC_WITH(&spec, "smollm2-135m", "tie_word_embeddings", NULL, "rope_theta", NULL, "rope_scaling", NULL,
              "num_key_value_heads", NULL, "hidden_act", NULL, "rms_norm_eps", NULL, "bos_token_id", NULL,
              "eos_token_id", NULL);
    assert_true(!spec.tied_head && spec.rope.theta == 10000 && spec.rope.factor == 0);
    assert_true(spec.layers[29].n_kv_heads == 9 && spec.head_dim == 64 && spec.norm_eps == 1e-6f);
    assert_true(spec.bos_id == 1 && spec.eos_id == 2);
    SPEC_WITH(&spec, "smollm2-135m", "num_key_value_heads", "null", "head_dim", "null", "mlp_bias", "null",
              "bos_token_id", "null", "eos_token_id", "null", "pretraining_tp", "2");
    assert_true(spec.layers[0].n_kv_heads == 9 && spec.head_dim == 64 && spec.bos_id == -1 &&
                spec.eos_id == -1);
    SPEC_WITH(&spec, "smollm2-135m", "head_dim", "48");
    assert_int_equal(spec.head_dim, 48);
    SPEC_WITH(&spec, "smollm2-135m", "max_position_embeddings", NULL);
    assert_int_equal(spec.context_length, 2048);
    SPEC_WITH(&spec, "qwen3-0.6b", "head_dim", NULL, "bos_token_id", NULL, "eos_token_id", NULL);
    assert_true(spec.head_dim == 128 && spec.bos_id == -1 && spec.eos_id == -1);
    SPEC_WITH(&spec, "qwen3-0.6b", "head_dim", "null", "num_key_value_heads", "null");
    assert_true(spec.head_dim == 64 && spec.layers[0].n_kv_heads == 16);
    SPEC_WITH(&spec, "qwen3-0.6b", "sliding_window", "4096", "layer_types", "[\"full_attention\"]",
              "use_sliding_window", NULL, "num_experts", "0");
    assert_same_spec(&spec, &qwen3);
    SPEC_WITH(&spec, "smollm2-135m", "sliding_window", "4096", "use_sliding_window", "false");
    assert_same_spec(&spec, &smol);
}

// rope_scaling beside rope_theta, and rope_parameters with both in it, say the same.
static void test_rope_synonyms(void **state) {
    (void)state;
    static const char llama3[] = "{\"factor\":32,\"high_freq_factor\":4,\"low_freq_factor\":1,"
                                 "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\","
                                 "\"rope_theta\":500000}";
    const kv_model_spec llama = shape("llama-3.2-3b"), smol = shape("smollm2-135m");
    kv_model_spec spec;
    SPEC_WITH(&spec, "llama-3.2-3b", "rope_scaling", NULL, "rope_theta", NULL, "rope_parameters", llama3);
    assert_same_spec(&spec, &llama);
    SPEC_WITH(&spec, "llama-3.2-3b", "rope_scaling", "null", "rope_parameters", llama3);
    assert_same_spec(&spec, &llama);
    SPEC_WITH(&spec, "llama-3.2-3b", "rope_parameters", llama3);
    assert_same_spec(&spec, &llama);
    SPEC_WITH(&spec, "llama-3.2-3b", "rope_theta", NULL, "rope_parameters", llama3);
    assert_same_spec(&spec, &llama);
    SPEC_WITH(&spec, "smollm2-135m", "rope_scaling", "{}", "rope_parameters", "null");
    assert_same_spec(&spec, &smol);
    SPEC_WITH(&spec, "smollm2-135m", "rope_scaling", "{\"type\":\"default\",\"rope_type\":\"default\"}");
    assert_same_spec(&spec, &smol);
    SPEC_WITH(&spec, "smollm2-135m", "rope_theta", NULL, "partial_rotary_factor", "1.0", "rope_parameters",
              "{\"rope_theta\":100000.0,\"rope_type\":\"default\",\"partial_rotary_factor\":1}");
    assert_same_spec(&spec, &smol);
}

static void test_ends_of_text(void **state) {
    (void)state;
    kv_model_spec spec;
    SPEC_WITH(&spec, "llama-3.2-3b", "eos_token_id", "[128001,128008,128009,128008]");
    assert_true(spec.eos_id == 128001 && spec.n_stop_ids == 2);
    assert_true(spec.stop_ids[0] == 128008 && spec.stop_ids[1] == 128009);
    // generation_config.json adds to what config.json says.
    write_text("generation_config.json",
               "{\"bos_token_id\":7,\"eos_token_id\":[128009,128001,5],\"top_p\":0.9}");
    must(kv_checkpoint_spec(test_dir, &spec, &err), &err);
    assert_true(spec.bos_id == 128000 && spec.eos_id == 128001 && spec.n_stop_ids == 3);
    assert_int_equal(spec.stop_ids[2], 5);
    SPEC_WITH(&spec, "llama-3.2-3b", "eos_token_id", "null", "bos_token_id", "[9]");
    assert_true(spec.bos_id == 9 && spec.eos_id == 128009 && spec.n_stop_ids == 2 && kv_spec_ends(&spec, 5));
    write_text("generation_config.json", "{\"eos_token_id\":null}");
    SPEC_WITH(&spec, "openelm-270m", "eos_token_id", "[]", "bos_token_id", "0");
    assert_true(spec.bos_id == 0 && spec.eos_id == -1 && spec.n_stop_ids == 0);
    SPEC_WITH(&spec, "openelm-270m", "eos_token_id", "[2,3]");
    assert_true(spec.eos_id == 2 && spec.n_stop_ids == 1 && spec.stop_ids[0] == 3);
    // Hundreds of them are kept; none that could end a text is dropped in silence.
    char many[4096] = "{\"eos_token_id\":[10";
    for (int id = 11; id < 10 + KV_MAX_STOP_IDS; id++)
        snprintf(many + strlen(many), sizeof many - strlen(many), ",%d", id);
    snprintf(many + strlen(many), sizeof many - strlen(many), "%s", "]}");
    write_text("generation_config.json", many);
    SPEC_WITH(&spec, "openelm-270m", "eos_token_id", "2");
    assert_true(spec.eos_id == 2 && spec.n_stop_ids == KV_MAX_STOP_IDS);
    const char *const change[] = {"eos_token_id", "[2,3]"};
    assert_refused(spec_with("openelm-270m", change, 1, &spec), KV_ERR_FORMAT, "generation_config.json",
                   "more than 256 tokens that end a text");
}

// ---- Refusals ------------------------------------------------------------------------------------------

static void test_unsupported(void **state) {
    (void)state;
    static const struct {
        const char *name, *key, *value, *part;
    } cases[] = {
        {"smollm2-135m", "model_type", "\"gemma\"",
         "'model_type' is \"gemma\", expected a supported type: openelm llama mistral qwen2 qwen3"},
        {"smollm2-135m", "model_type", "\"mixtral\"", "'model_type' is \"mixtral\""},
        {"qwen3-0.6b", "model_type", "\"qwen3_moe\"", "'model_type' is \"qwen3_moe\""},
        {"smollm2-135m", "attention_bias", "true", "'attention_bias' is true, expected false"},
        {"smollm2-135m", "attention_bias", "0", "'attention_bias' is 0, expected true or false"},
        {"qwen3-0.6b", "attention_bias", "true", "'attention_bias' is true, expected false"},
        {"smollm2-135m", "mlp_bias", "true", "'mlp_bias' is true, expected false"},
        {"smollm2-135m", "hidden_act", "\"gelu\"", "'hidden_act' is \"gelu\", expected \"silu\""},
        {"smollm2-135m", "hidden_act", "null", "'hidden_act' is null"},
        {"smollm2-135m", "sliding_window", "0", "'sliding_window' is 0"},
        {"qwen3-0.6b", "layer_types", "[\"full_attention\",\"sliding_attention\"]",
         "'layer_types'[1] is \"sliding_attention\", expected \"full_attention\""},
        {"qwen3-0.6b", "layer_types", "[3]", "'layer_types'[0] is 3"},
        {"qwen3-0.6b", "layer_types", "3", "'layer_types' is 3"},
        {"qwen3-0.6b", "num_experts", "128", "'num_experts' is 128"},
        {"smollm2-135m", "num_local_experts", "8", "mixtures of experts are not supported"},
        {"smollm2-135m", "quantization_config", "{\"quant_method\":\"awq\"}", "{\"quant_method\":\"awq\"}"},
        {"smollm2-135m", "partial_rotary_factor", "0.5", "'partial_rotary_factor' is 0.5, expected 1"},
        {"qwen3-0.6b", "num_key_value_heads", NULL, "'num_key_value_heads' is missing"},
        {"smollm2-135m", "num_attention_heads", "10", "expected a divisor of hidden_size 576"},
        {"smollm2-135m", "num_attention_heads", "1000", "expected a divisor of hidden_size 576"},
        {"smollm2-135m", "num_key_value_heads", "4", "n_kv_heads is 4"},
        {"smollm2-135m", "head_dim", "7", "head_dim is 7"},
        {"smollm2-135m", "num_hidden_layers", "257", "from 1 to 256"},
        {"smollm2-135m", "max_position_embeddings", "null", "'max_position_embeddings' is null"},
        {"smollm2-135m", "max_position_embeddings", "16777217", "'max_position_embeddings' is 16777217"},
        {"smollm2-135m", "vocab_size", "\"many\"", "'vocab_size' is \"many\""},
        {"smollm2-135m", "tie_word_embeddings", "1", "'tie_word_embeddings' is 1"},
        {"smollm2-135m", "rms_norm_eps", "0", "'rms_norm_eps' is 0"},
        {"smollm2-135m", "rope_theta", "\"big\"", "'rope_theta' is \"big\""},
        {"smollm2-135m", "rope_scaling", "3", "'rope_scaling' is 3, expected an object or null"},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"linear\"}", "'factor' is missing"},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"linear\",\"factor\":0.5}", "'factor' is 0.5"},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"linear\",\"factor\":[2]}", "'factor' is [2]"},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"linear\",\"factor\":2,\"alpha\":1000}",
         "'alpha' is not supported for the rope type \"linear\""},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"dynamic\",\"factor\":2,\"alpha\":1000}",
         "'alpha' is not supported for the rope type \"dynamic\""},
        {"smollm2-135m", "rope_scaling",
         "{\"type\":\"dynamic\",\"factor\":2,\"original_max_position_embeddings\":4096}",
         "'type' is \"dynamic\""},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"dynamic\"}", "'factor' is missing"},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"yarn\",\"factor\":1,\"attention_factor\":1.2}",
         "'type' is \"yarn\""},
        {"smollm2-135m", "rope_scaling",
         "{\"type\":\"yarn\",\"factor\":1,\"original_max_position_embeddings\":4096}", "'type' is \"yarn\""},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"yarn\"}", "'type' is \"yarn\""},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"default\",\"mrope_section\":[16,24,24]}",
         "'mrope_section' is not supported"},
        {"smollm2-135m", "rope_scaling", "{\"type\":\"mrope\"}", "'type' is \"mrope\""},
        {"smollm2-135m", "rope_interleaved", "true", "'rope_interleaved' is true"},
        {"qwen2.5-0.5b", "rope_scaling", "{\"type\":\"yarn\",\"factor\":4}",
         "config.json: rope_scaling: 'type' is \"yarn\", expected \"default\", \"linear\" or \"llama3\""},
        {"qwen3-0.6b", "rope_parameters", "{\"rope_type\":\"ntk\"}", "'rope_type' is \"ntk\""},
        {"smollm2-135m", "rope_scaling", "{\"rope_type\":\"longrope\"}", "'rope_type' is \"longrope\""},
        {"smollm2-135m", "rope_scaling", "{\"rope_type\":\"default\",\"type\":\"llama3\"}",
         "'type' is \"llama3\", expected default"},
        {"smollm2-135m", "rope_scaling", "{\"rope_type\":7}", "'rope_type' is 7"},
        {"smollm2-135m", "rope_scaling", "{\"factor\":2}",
         "'factor' is not supported for the rope type \"default\""},
        {"smollm2-135m", "rope_parameters", "{\"full_attention\":{}}", "'full_attention' is not supported"},
        {"smollm2-135m", "rope_parameters", "{\"rope_theta\":10000}",
         "rope_parameters: 'rope_theta' is 10000, expected 100000 as elsewhere in the file"},
        {"smollm2-135m", "rope_parameters", "{\"partial_rotary_factor\":0.25}",
         "'partial_rotary_factor' is 0.25"},
        {"llama-3.2-3b", "rope_parameters", "{\"rope_type\":\"default\"}",
         "'rope_parameters' contradicts 'rope_scaling'"},
        {"llama-3.2-3b", "rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8}",
         "'low_freq_factor' is missing"},
        {"llama-3.2-3b", "rope_scaling",
         "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4,"
         "\"original_max_position_embeddings\":8192}",
         "'high_freq_factor' is 4, expected more than low_freq_factor"},
        {"llama-3.2-3b", "rope_scaling",
         "{\"rope_type\":\"llama3\",\"factor\":0.5,\"low_freq_factor\":1,\"high_freq_factor\":4,"
         "\"original_max_position_embeddings\":8192}",
         "'factor' is 0.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_model_spec spec;
        const char *const change[] = {cases[i].key, cases[i].value};
        assert_refused(spec_with(cases[i].name, change, 1, &spec), KV_ERR_FORMAT, cases[i].part,
                       "config.json");
    }
}

static void test_bad_openelm(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *part;
    } cases[] = {
        {"model_type", "\"mamba\"", "'model_type' is \"mamba\", expected a supported type: openelm"},
        {"model_type", "3", "'model_type' is 3"},
        {"model_type", NULL, "'model_type' is missing"},
        {"model_dim", NULL, "'model_dim' is missing"},
        {"model_dim", "\"wide\"", "'model_dim' is \"wide\", expected a whole number"},
        {"model_dim", "64.5", "'model_dim' is 64.5"},
        {"model_dim", "-64", "'model_dim' is -64"},
        {"model_dim", "9223372036854775807", "'model_dim' is 9223372036854775807"},
        {"head_dim", "15", "head_dim is 15"},
        {"num_transformer_layers", "257", "from 1 to 256"},
        {"num_transformer_layers", "4", "'num_query_heads' has 5 entries, expected a list of 4"},
        {"num_query_heads", "7", "'num_query_heads' is 7, expected a list"},
        {"num_query_heads", "[2,4,\"x\",4,4]", "'num_query_heads'[2] is \"x\""},
        {"num_query_heads", "[3,4,4,4,5]", "layer 4"},
        {"ffn_multipliers", "[0.5,1,1,1,1e300]", "'ffn_multipliers'[4]"},
        {"ffn_multipliers", "[0.5,1,1,1,16000000]", "'ffn_multipliers'[4]"},
        {"ffn_dim_divisor", "0", "'ffn_dim_divisor' is 0"},
        {"rope_freq_constant", "0", "'rope_freq_constant' is 0"},
        {"activation_fn_name", "\"relu\"", "'activation_fn_name' is \"relu\", expected swish"},
        {"normalization_layer_name", "\"layer_norm\"", "expected rms_norm"},
        {"ffn_with_glu", "false", "'ffn_with_glu' is false, expected true"},
        {"share_input_output_layers", "1", "expected true or false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kv_model_spec spec;
        copy_golden("kvp_c/base");
        set_key("config.json", cases[i].key, cases[i].value);
        assert_refused(kv_checkpoint_spec(test_dir, &spec, &err), KV_ERR_FORMAT, "config.json",
                       cases[i].part);
    }
    kv_model_spec spec;
    must(kv_write_file(test_path(test_dir, "config.json"), "{\"a\":\n\n!}", 9, &err), &err);
    assert_refused(kv_checkpoint_spec(test_dir, &spec, &err), KV_ERR_FORMAT, "config.json:3: bad JSON");
    must(kv_write_file(test_path(test_dir, "config.json"), "[]", 2, &err), &err);
    assert_refused(kv_checkpoint_spec(test_dir, &spec, &err), KV_ERR_FORMAT, "expected a JSON object");
}

// ---- Writing -------------------------------------------------------------------------------------------

static void write_config(const kv_model_spec *spec) {
    char *text;
    must(kv_hf_config_write(spec, &text, &err), &err);
    write_text(config, text);
    free(text);
}

// Every published shape and its layer-pruned parts come back as they were.
static void test_written_shapes(void **state) {
    (void)state;
    for (int64_t i = 0; kv_published_name(i); i++)
        for (int pruned = 0; pruned < 4; pruned++) {
            kv_model_spec spec = shape(kv_published_name(i)), again;
            int32_t kept[KV_MAX_LAYERS];
            if (pruned) kv_spec_prune(&spec, kept, kv_pruned_layers(spec.n_layers, 0.25 * pruned, kept));
            if (pruned == 3) spec.stop_ids[spec.n_stop_ids++] = 17;
            if (pruned == 2) spec.bos_id = spec.eos_id = -1;
            const bool llama = strcmp(spec.model_type, "llama") == 0;
            if (pruned == 1 && llama) spec.rope = (kv_rope_spec){.theta = 10000, .factor = 3.7};
            if (pruned > 1 && llama) strcpy(spec.model_type, "mistral");
            write_config(&spec);
            must(kv_checkpoint_spec(test_dir, &again, &err), &err);
            assert_same_spec(&spec, &again);
        }
}

// No config.json of its type means such a model.
static void test_inexpressible(void **state) {
    (void)state;
    kv_model_spec bad[10];
    char *text;
    bad[9] = shape("openelm-270m");
    bad[9].rope.factor = 2;
    for (int i = 0; i < 9; i++)
        bad[i] = shape(i < 5 ? "smollm2-135m" : i < 7 ? "qwen2.5-0.5b" : "qwen3-0.6b");
    bad[0].layers[7].ffn_dim++;
    bad[1].layers[29].n_kv_heads = 9;
    bad[2].qkv_bias = true;
    bad[3].qk_norm = true;
    bad[4].eos_id = -1, bad[4].stop_ids[0] = 0, bad[4].n_stop_ids = 1;
    bad[5].qkv_bias = false;
    bad[6].rope.theta = 1e18;
    bad[7].qk_norm = false;
    bad[8].qkv_bias = true;
    for (int i = 0; i < 10; i++) {
        assert_refused(kv_hf_config_write(&bad[i], &text, &err), KV_ERR_ARGUMENT,
                       "cannot describe this model", bad[i].model_type);
        assert_null(text);
    }
}

// ---- New models ----------------------------------------------------------------------------------------

static void expect_name(kv_model_spec spec, const char *type) {
    kv_hf_config_name(&spec);
    assert_string_equal(spec.model_type, type);
    write_config(&spec);
    kv_model_spec again;
    must(kv_checkpoint_spec(test_dir, &again, &err), &err);
    assert_same_spec(&spec, &again);
}

// What all layers share is said in the terms of a type that transformers has; what differs anywhere only OpenELM's can say.
static void test_names(void **state) {
    (void)state;
    kv_model_spec plain = {.vocab_size = 350,
                           .model_dim = 96,
                           .head_dim = 20,
                           .n_layers = 3,
                           .context_length = 77,
                           .layers = {{4, 2, 101}, {4, 2, 101}, {4, 2, 101}},
                           .tied_head = true,
                           .norm_eps = 1e-6f,
                           .rope = {.theta = 10000},
                           .bos_id = -1,
                           .eos_id = 2};
    expect_name(plain, "llama");
    kv_model_spec other = plain;
    other.qk_norm = true;
    expect_name(other, "qwen3");
    other.tied_head = false, other.bos_id = 0, other.norm_eps = 3e-5f, other.rope.theta = 1234.5;
    expect_name(other, "qwen3");
    other.stop_ids[other.n_stop_ids++] = 17;
    expect_name(other, "qwen3");
    other = plain, other.qkv_bias = true;
    expect_name(other, "qwen2");
    for (int i = 0; i < 3; i++) {
        other = plain, other.qk_norm = i == 1;
        if (i == 0) other.layers[2].ffn_dim++;
        if (i == 1) other.layers[1].n_kv_heads = 4;
        if (i == 2) other.layers[0].n_heads = 8;
        expect_name(other, "openelm");
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_set_up, test_dir_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_openelm_golden),         TEST(test_transformers_goldens), TEST(test_published_files),
        TEST(test_published_openelm_rule), TEST(test_absent_keys),          TEST(test_rope_synonyms),
        TEST(test_ends_of_text),           TEST(test_unsupported),          TEST(test_bad_openelm),
        TEST(test_written_shapes),         TEST(test_inexpressible),        TEST(test_names),
    };
    return cmocka_run_group_tests_name("hf_config", tests, NULL, NULL);
}
