#include "tests/support/published_configs.h"

#include <string.h>

#define OPENELM(layers, dim, kv_heads, heads, multipliers)                                                   \
    "{\"activation_fn_name\":\"swish\",\"architectures\":[\"OpenELMForCausalLM\"],"                          \
    "\"auto_map\":{\"AutoConfig\":\"configuration_openelm.OpenELMConfig\","                                  \
    "\"AutoModelForCausalLM\":\"modeling_openelm.OpenELMForCausalLM\"},"                                     \
    "\"bos_token_id\":1,\"eos_token_id\":2,\"ffn_dim_divisor\":256,\"ffn_multipliers\":" multipliers         \
    ",\"ffn_with_glu\":true,\"head_dim\":64,\"initializer_range\":0.02,\"max_context_length\":2048,"         \
    "\"model_dim\":" dim ",\"model_type\":\"openelm\",\"normalization_layer_name\":\"rms_norm\","            \
    "\"normalize_qk_projections\":true,\"num_gqa_groups\":4,\"num_kv_heads\":" kv_heads                      \
    ",\"num_query_heads\":" heads ",\"num_transformer_layers\":" layers                                      \
    ",\"qkv_multipliers\":[0.5,1.0],\"rope_freq_constant\":10000,\"rope_max_length\":4096,"                  \
    "\"share_input_output_layers\":true,\"torch_dtype\":\"float32\",\"transformers_version\":\"4.39.3\","    \
    "\"use_cache\":true,\"vocab_size\":32000}"

const struct published_config published_configs[N_PUBLISHED_CONFIGS] = {
    {"openelm-270m", OPENELM("16", "1280", "[3,3,3,3,3,4,4,4,4,4,4,4,5,5,5,5]",
                             "[12,12,12,12,12,16,16,16,16,16,16,16,20,20,20,20]",
                             "[0.5,0.73,0.97,1.2,1.43,1.67,1.9,2.13,2.37,2.6,2.83,3.07,3.3,3.53,3.77,4.0]")},
    {"openelm-1.1b",
     OPENELM("28", "2048", "[4,4,4,5,5,5,5,5,5,5,6,6,6,6,6,6,6,6,7,7,7,7,7,7,8,8,8,8]",
             "[16,16,16,20,20,20,20,20,20,20,24,24,24,24,24,24,24,24,28,28,28,28,28,28,32,32,32,32]",
             "[0.5,0.63,0.76,0.89,1.02,1.15,1.28,1.41,1.54,1.67,1.8,1.93,2.06,2.19,2.31,2.44,2.57,2.7,2.83,"
             "2.96,3.09,3.22,3.35,3.48,3.61,3.74,3.87,4.0]")},
    {"smollm2-135m",
     "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
     "\"bos_token_id\":0,\"eos_token_id\":0,\"hidden_act\":\"silu\",\"hidden_size\":576,"
     "\"initializer_range\":0.041666666666666664,\"intermediate_size\":1536,\"is_llama_config\":true,"
     "\"max_position_embeddings\":8192,\"model_type\":\"llama\",\"num_attention_heads\":9,"
     "\"num_hidden_layers\":30,\"num_key_value_heads\":3,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,"
     "\"rope_interleaved\":false,\"rope_scaling\":null,\"rope_theta\":100000,\"tie_word_embeddings\":true,"
     "\"torch_dtype\":\"bfloat16\",\"transformers_version\":\"4.40.1\",\"use_cache\":true,"
     "\"vocab_size\":49152}"},
    {"llama-3.2-3b",
     "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
     "\"bos_token_id\":128000,\"eos_token_id\":128001,\"head_dim\":128,\"hidden_act\":\"silu\","
     "\"hidden_size\":3072,\"initializer_range\":0.02,\"intermediate_size\":8192,"
     "\"max_position_embeddings\":131072,\"mlp_bias\":false,\"model_type\":\"llama\","
     "\"num_attention_heads\":24,\"num_hidden_layers\":28,\"num_key_value_heads\":8,\"pretraining_tp\":1,"
     "\"rms_norm_eps\":1e-05,\"rope_scaling\":{\"factor\":32.0,\"high_freq_factor\":4.0,"
     "\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},"
     "\"rope_theta\":500000.0,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\","
     "\"transformers_version\":\"4.45.0.dev0\",\"use_cache\":true,\"vocab_size\":128256}"},
    {"qwen2.5-0.5b",
     "{\"architectures\":[\"Qwen2ForCausalLM\"],\"attention_dropout\":0.0,\"bos_token_id\":151643,"
     "\"eos_token_id\":151643,\"hidden_act\":\"silu\",\"hidden_size\":896,\"initializer_range\":0.02,"
     "\"intermediate_size\":4864,\"max_position_embeddings\":32768,\"max_window_layers\":24,"
     "\"model_type\":\"qwen2\",\"num_attention_heads\":14,\"num_hidden_layers\":24,"
     "\"num_key_value_heads\":2,\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,\"sliding_window\":32768,"
     "\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\",\"transformers_version\":\"4.40.1\","
     "\"use_cache\":true,\"use_mrope\":false,\"use_sliding_window\":false,\"vocab_size\":151936}"},
    {"qwen3-0.6b",
     "{\"architectures\":[\"Qwen3ForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
     "\"bos_token_id\":151643,\"eos_token_id\":151645,\"head_dim\":128,\"hidden_act\":\"silu\","
     "\"hidden_size\":1024,\"initializer_range\":0.02,\"intermediate_size\":3072,"
     "\"max_position_embeddings\":40960,\"max_window_layers\":28,\"model_type\":\"qwen3\","
     "\"num_attention_heads\":16,\"num_hidden_layers\":28,\"num_key_value_heads\":8,\"rms_norm_eps\":1e-06,"
     "\"rope_scaling\":null,\"rope_theta\":1000000,\"sliding_window\":null,\"tie_word_embeddings\":true,"
     "\"torch_dtype\":\"bfloat16\",\"transformers_version\":\"4.51.0\",\"use_cache\":true,"
     "\"use_sliding_window\":false,\"vocab_size\":151936}"},
    {"qwen3-1.7b",
     "{\"architectures\":[\"Qwen3ForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
     "\"bos_token_id\":151643,\"eos_token_id\":151645,\"head_dim\":128,\"hidden_act\":\"silu\","
     "\"hidden_size\":2048,\"initializer_range\":0.02,\"intermediate_size\":6144,"
     "\"max_position_embeddings\":40960,\"max_window_layers\":28,\"model_type\":\"qwen3\","
     "\"num_attention_heads\":16,\"num_hidden_layers\":28,\"num_key_value_heads\":8,\"rms_norm_eps\":1e-06,"
     "\"rope_scaling\":null,\"rope_theta\":1000000,\"sliding_window\":null,\"tie_word_embeddings\":true,"
     "\"torch_dtype\":\"bfloat16\",\"transformers_version\":\"4.51.0\",\"use_cache\":true,"
     "\"use_sliding_window\":false,\"vocab_size\":151936}"},
};

const char *published_config(const char *name) {
    int i = 0;
    while (strcmp(published_configs[i].name, name) != 0) i++;
    return published_configs[i].text;
}
