// The keys of a training configuration, their types and defaults.
#include "train/config/config.h"

// ---- Schema --------------------------------------------------------------------------------------------

#define OPTIONAL                CYAML_FLAG_OPTIONAL
#define WORD                    (CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT)
#define TEXT(key, type, member) CYAML_FIELD_STRING_PTR(key, OPTIONAL, type, member, 1, 4000)

static const cyaml_strval_t tasks[] = {{"lm", KV_TASK_LM}, {"kvp", KV_TASK_KVP}};
static const cyaml_strval_t recipes[] = {{"paper", KV_RECIPE_PAPER}, {"ours", KV_RECIPE_OURS}};
static const cyaml_strval_t model_froms[] = {
    {"scratch", KV_FROM_SCRATCH}, {"checkpoint", KV_FROM_CHECKPOINT}, {"pruned", KV_FROM_PRUNED}};
static const cyaml_strval_t mappings[] = {{"separate", KV_MAPPING_SEPARATE},
                                          {"pruned", KV_MAPPING_PRUNED},
                                          {"uniform", KV_MAPPING_UNIFORM},
                                          {"reversed", KV_MAPPING_REVERSED},
                                          {"explicit", KV_MAPPING_EXPLICIT}};
static const cyaml_strval_t teachers[] = {{"online", KV_TEACHER_ONLINE}, {"cached", KV_TEACHER_CACHED}};
static const cyaml_strval_t packings[] = {{"stream", KV_PACKING_STREAM}, {"fixed", KV_PACKING_FIXED}};
static const cyaml_strval_t frozen_dtypes[] = {
    {"stored", KV_FROZEN_STORED}, {"f32", KV_FROZEN_F32}, {"bf16", KV_FROZEN_BF16}, {"f16", KV_FROZEN_F16}};
static const cyaml_strval_t starts[] = {{"random", KV_START_RANDOM},
                                        {"least_squares", KV_START_LEAST_SQUARES},
                                        {"base", KV_START_BASE},
                                        {"checkpoint", KV_START_CHECKPOINT}};
static const cyaml_strval_t choices[] = {{"nearest", KV_CHOICE_NEAREST}, {"best", KV_CHOICE_BEST}};
static const cyaml_strval_t heads[] = {{"full", KV_HEADS_FULL}, {"matched", KV_HEADS_MATCHED}};
static const cyaml_strval_t adapts[] = {
    {"none", KV_ADAPT_NONE}, {"q", KV_ADAPT_QUERIES}, {"lora", KV_ADAPT_LORA}};

static const cyaml_strval_t table_starts[] = {{"zero", KV_TABLE_START_ZERO},
                                              {"fitted", KV_TABLE_START_FITTED}};
static const cyaml_strval_t start_rates[] = {{"residual", KV_RATES_RESIDUAL}, {"full", KV_RATES_FULL}};

static const cyaml_schema_field_t mixture_fields[] = {
    TEXT("corpus", kv_mixture_config, corpus),
    CYAML_FIELD_FLOAT("weight", OPTIONAL, kv_mixture_config, weight),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t mixture_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, kv_mixture_config, mixture_fields)};
static const cyaml_schema_field_t data_fields[] = {
    TEXT("train", kv_data_config, train),
    CYAML_FIELD_SEQUENCE_COUNT("mixture", CYAML_FLAG_POINTER | OPTIONAL, kv_data_config, mixture, n_mixture,
                               &mixture_entry, 1, 1000),
    TEXT("validation", kv_data_config, validation),
    CYAML_FIELD_ENUM("packing", WORD, kv_data_config, packing, packings, CYAML_ARRAY_LEN(packings)),
    CYAML_FIELD_INT("seq_len", OPTIONAL, kv_data_config, seq_len),
    CYAML_FIELD_INT("batch_size", OPTIONAL, kv_data_config, batch_size),
    CYAML_FIELD_INT("micro_batch_size", OPTIONAL, kv_data_config, micro_batch_size),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t model_fields[] = {
    CYAML_FIELD_ENUM("from", WORD, kv_model_config, from, model_froms, CYAML_ARRAY_LEN(model_froms)),
    TEXT("path", kv_model_config, path),
    CYAML_FIELD_FLOAT("keep", OPTIONAL, kv_model_config, keep),
    CYAML_FIELD_INT("n_layers", OPTIONAL, kv_model_config, n_layers),
    CYAML_FIELD_INT("model_dim", OPTIONAL, kv_model_config, model_dim),
    CYAML_FIELD_INT("head_dim", OPTIONAL, kv_model_config, head_dim),
    CYAML_FIELD_INT("n_heads", OPTIONAL, kv_model_config, n_heads),
    CYAML_FIELD_INT("n_kv_heads", OPTIONAL, kv_model_config, n_kv_heads),
    CYAML_FIELD_INT("ffn_dim", OPTIONAL, kv_model_config, ffn_dim),
    CYAML_FIELD_INT("context_length", OPTIONAL, kv_model_config, context_length),
    CYAML_FIELD_BOOL("qk_norm", OPTIONAL, kv_model_config, qk_norm),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t layer_entry = {CYAML_VALUE_INT(CYAML_FLAG_DEFAULT, int32_t)};
static const cyaml_schema_value_t source_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 100)};
#define SOURCES(key, member, n_member)                                                                       \
    CYAML_FIELD_SEQUENCE_COUNT(key, CYAML_FLAG_POINTER | OPTIONAL, kv_predictor_config, member, n_member,    \
                               &source_entry, 1, KV_MAX_SOURCES)
static const cyaml_schema_field_t predictor_fields[] = {
    CYAML_FIELD_ENUM("mapping", WORD, kv_predictor_config, mapping, mappings, CYAML_ARRAY_LEN(mappings)),
    CYAML_FIELD_SEQUENCE_COUNT("layers", CYAML_FLAG_POINTER | OPTIONAL, kv_predictor_config, layers, n_layers,
                               &layer_entry, 1, KV_MAX_LAYERS),
    CYAML_FIELD_FLOAT("keep", OPTIONAL, kv_predictor_config, keep),
    CYAML_FIELD_ENUM("init", WORD, kv_predictor_config, init, starts, CYAML_ARRAY_LEN(starts)),
    TEXT("path", kv_predictor_config, path),
    CYAML_FIELD_INT("least_squares_tokens", OPTIONAL, kv_predictor_config, least_squares_tokens),
    CYAML_FIELD_INT("least_squares_passes", OPTIONAL, kv_predictor_config, least_squares_passes),
    CYAML_FIELD_FLOAT("ridge", OPTIONAL, kv_predictor_config, ridge),
    CYAML_FIELD_ENUM("least_squares_rates", WORD, kv_predictor_config, rates, start_rates,
                     CYAML_ARRAY_LEN(start_rates)),
    CYAML_FIELD_INT("rank", OPTIONAL, kv_predictor_config, rank),
    CYAML_FIELD_INT("aux_layers", OPTIONAL, kv_predictor_config, aux_layers),
    CYAML_FIELD_ENUM("choose", WORD, kv_predictor_config, choose, choices, CYAML_ARRAY_LEN(choices)),
    CYAML_FIELD_INT("best_tokens", OPTIONAL, kv_predictor_config, best_tokens),
    SOURCES("sources", sources, n_sources),
    SOURCES("key_sources", key_sources, n_key_sources),
    SOURCES("value_sources", value_sources, n_value_sources),
    CYAML_FIELD_INT("exact_layers", OPTIONAL, kv_predictor_config, exact_layers),
    CYAML_FIELD_ENUM("heads", WORD, kv_predictor_config, heads, heads, CYAML_ARRAY_LEN(heads)),
    TEXT("map", kv_predictor_config, map),
    CYAML_FIELD_INT("width", OPTIONAL, kv_predictor_config, width),
    TEXT("token_table", kv_predictor_config, token_table_text),
    CYAML_FIELD_ENUM("table_start", WORD, kv_predictor_config, table_start, table_starts,
                     CYAML_ARRAY_LEN(table_starts)),
    CYAML_FIELD_ENUM("adapt", WORD, kv_predictor_config, adapt, adapts, CYAML_ARRAY_LEN(adapts)),
    CYAML_FIELD_INT("adapt_rank", OPTIONAL, kv_predictor_config, adapt_rank),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t loss_fields[] = {
    CYAML_FIELD_FLOAT("base", OPTIONAL, kv_loss_config, base),
    CYAML_FIELD_FLOAT("aux", OPTIONAL, kv_loss_config, aux),
    TEXT("consistency", kv_loss_config, consistency_text),
    CYAML_FIELD_FLOAT("kl", OPTIONAL, kv_loss_config, kl),
    CYAML_FIELD_FLOAT("hidden", OPTIONAL, kv_loss_config, hidden),
    TEXT("hidden_layer", kv_loss_config, hidden_layer_text),
    CYAML_FIELD_FLOAT("kl_temperature", OPTIONAL, kv_loss_config, kl_temperature),
    CYAML_FIELD_FLOAT("z_loss", OPTIONAL, kv_loss_config, z_loss),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t steps_fields[] = {
    CYAML_FIELD_INT("steps", OPTIONAL, kv_steps_config, steps),
    CYAML_FIELD_FLOAT("lr", OPTIONAL, kv_steps_config, lr),
    CYAML_FIELD_FLOAT("lr_aux", OPTIONAL, kv_steps_config, lr_aux),
    CYAML_FIELD_FLOAT("lr_table", OPTIONAL, kv_steps_config, lr_table),
    CYAML_FIELD_FLOAT("lr_queries", OPTIONAL, kv_steps_config, lr_queries),
    CYAML_FIELD_FLOAT("lr_end", OPTIONAL, kv_steps_config, lr_end),
    CYAML_FIELD_INT("warmup_steps", OPTIONAL, kv_steps_config, warmup_steps),
    CYAML_FIELD_FLOAT("warmup_init", OPTIONAL, kv_steps_config, warmup_init),
    CYAML_FIELD_FLOAT("weight_decay", OPTIONAL, kv_steps_config, weight_decay),
    CYAML_FIELD_FLOAT("beta1", OPTIONAL, kv_steps_config, beta1),
    CYAML_FIELD_FLOAT("beta2", OPTIONAL, kv_steps_config, beta2),
    CYAML_FIELD_FLOAT("eps", OPTIONAL, kv_steps_config, eps),
    CYAML_FIELD_FLOAT("grad_clip", OPTIONAL, kv_steps_config, grad_clip),
    CYAML_FIELD_INT("checkpoint_every", OPTIONAL, kv_steps_config, checkpoint_every),
    CYAML_FIELD_INT("keep_last", OPTIONAL, kv_steps_config, keep_last),
    CYAML_FIELD_INT("log_every", OPTIONAL, kv_steps_config, log_every),
    CYAML_FIELD_INT("validate_every", OPTIONAL, kv_steps_config, validate_every),
    CYAML_FIELD_INT("validation_tokens", OPTIONAL, kv_steps_config, validation_tokens),
    CYAML_FIELD_BOOL("keep_best", OPTIONAL, kv_steps_config, keep_best),
    CYAML_FIELD_BOOL("activation_checkpointing", OPTIONAL, kv_steps_config, activation_checkpointing),
    CYAML_FIELD_BOOL("shard_optimizer", OPTIONAL, kv_steps_config, shard_optimizer),
    TEXT("memory_gb", kv_steps_config, memory_text),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t root_fields[] = {
    CYAML_FIELD_ENUM("task", WORD, kv_train_config, task, tasks, CYAML_ARRAY_LEN(tasks)),
    TEXT("output", kv_train_config, output),
    CYAML_FIELD_UINT("seed", OPTIONAL, kv_train_config, seed),
    CYAML_FIELD_MAPPING("data", OPTIONAL, kv_train_config, data, data_fields),
    CYAML_FIELD_MAPPING("model", OPTIONAL, kv_train_config, model, model_fields),
    CYAML_FIELD_ENUM("recipe", WORD, kv_train_config, recipe, recipes, CYAML_ARRAY_LEN(recipes)),
    TEXT("base", kv_train_config, base),
    TEXT("aux", kv_train_config, aux),
    CYAML_FIELD_INT("prefix_layers", OPTIONAL, kv_train_config, prefix_layers),
    CYAML_FIELD_BOOL("freeze_aux", OPTIONAL, kv_train_config, freeze_aux),
    CYAML_FIELD_ENUM("frozen_dtype", WORD, kv_train_config, frozen_dtype, frozen_dtypes,
                     CYAML_ARRAY_LEN(frozen_dtypes)),
    CYAML_FIELD_ENUM("teacher", WORD, kv_train_config, teacher, teachers, CYAML_ARRAY_LEN(teachers)),
    TEXT("cache", kv_train_config, cache),
    CYAML_FIELD_MAPPING("predictor", OPTIONAL, kv_train_config, predictor, predictor_fields),
    CYAML_FIELD_MAPPING("loss", OPTIONAL, kv_train_config, loss, loss_fields),
    CYAML_FIELD_MAPPING("train", OPTIONAL, kv_train_config, train, steps_fields),
    CYAML_FIELD_END,
};
const cyaml_schema_value_t kv_train_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, kv_train_config, root_fields)};

const char *const kv_train_paths[] = {"output",
                                      "base",
                                      "aux",
                                      "cache",
                                      "model.path",
                                      "predictor.path",
                                      "data.train",
                                      "data.validation",
                                      "data.mixture[].corpus",
                                      NULL};

// What applies when neither file nor override says otherwise; the rest is required or follows from these.
#define COMMON_DEFAULTS(rates)                                                                               \
    "seed: 1\n"                                                                                              \
    "data: {packing: stream}\n"                                                                              \
    "train: {" rates "warmup_steps: 50, warmup_init: 1.0e-6, weight_decay: 0.1, beta1: 0.9, beta2: 0.95,\n"  \
    "        eps: 1.0e-8, grad_clip: 1.0, checkpoint_every: 500, keep_last: 2, log_every: 10,\n"             \
    "        activation_checkpointing: false, shard_optimizer: false, memory_gb: auto}\n"
#define LM_DEFAULTS(loss, rates)                                                                             \
    "task: lm\n" COMMON_DEFAULTS(rates) "model: {from: scratch}\n"                                           \
                                        "loss: {" loss ", kl_temperature: 1, z_loss: 0}\n"
// A rival of predictors is trained as their aux is.
const char *const kv_lm_defaults[] = {[KV_RECIPE_PAPER] = LM_DEFAULTS("base: 1, kl: 0", ""),
                                      [KV_RECIPE_OURS] = LM_DEFAULTS("base: 0, kl: 1", "lr: 1.0e-2, ")};

// Recipes differ in what PAPER and OURS have; kv_recipe_keys names the keys.
#define KVP_DEFAULTS(recipe, freeze, predictor, loss, rates)                                                                        \
    "task: kvp\n"                                                                                                                   \
    "recipe: " recipe "\n"                                                                                                          \
    "freeze_aux: " freeze "\n"                                                                                                      \
    "frozen_dtype: stored\n"                                                                                                        \
    "teacher: online\n"                                                                                                             \
    "predictor: {mapping: separate, " predictor ", least_squares_tokens: 200000,\n"                                                 \
    "            least_squares_passes: 1, ridge: 1.0e-3, least_squares_rates: residual, rank: 0, aux_layers: 1, choose: nearest,\n" \
    "            best_tokens: 20000, exact_layers: 0, heads: full, table_start: zero, adapt: none}\n"                               \
    "loss: {" loss ", kl_temperature: 1, hidden: 0, hidden_layer: auto, z_loss: 0}\n" COMMON_DEFAULTS(rates)
#define PAPER(freeze, aux_loss)                                                                              \
    KVP_DEFAULTS("paper", freeze, "init: random, token_table: none",                                         \
                 "base: 1, aux: " aux_loss ", consistency: auto, kl: 0", "")
#define OURS(freeze)                                                                                         \
    KVP_DEFAULTS("ours", freeze, "init: least_squares, token_table: full",                                   \
                 "base: 0, aux: 0, consistency: 2/n, kl: 1",                                                 \
                 "lr: 5.0e-3, lr_aux: 1.0e-2, lr_table: 1.0e-2, ")
// With the base's own first layers as aux there is nothing of it to train.
const char *const kv_kvp_defaults[][2] = {[KV_RECIPE_PAPER] = {PAPER("false", "1"), PAPER("true", "0")},
                                          [KV_RECIPE_OURS] = {OURS("false"), OURS("true")}};
const char *const kv_recipe_keys[] = {
    "predictor.init", "predictor.token_table", "loss.base",      "loss.aux", "loss.consistency", "loss.kl",
    "train.lr",       "train.lr_aux",          "train.lr_table", NULL};
