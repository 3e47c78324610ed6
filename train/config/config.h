// The configuration of a training run: what `kvtrain CONFIG.yaml` understands.
#pragma once

#include "core/objective.h"
#include "core/optimizer.h"
#include "data/checkpoint/checkpoint.h"
#include "data/config/config.h"
#include "data/corpus/shard.h"

#include <stdio.h>

typedef enum kv_task_kind { KV_TASK_LM, KV_TASK_KVP } kv_task_kind;
typedef enum kv_recipe { KV_RECIPE_PAPER, KV_RECIPE_OURS } kv_recipe;
typedef enum kv_model_from { KV_FROM_SCRATCH, KV_FROM_CHECKPOINT, KV_FROM_PRUNED } kv_model_from;
typedef enum kv_mapping_kind {
    KV_MAPPING_SEPARATE,
    KV_MAPPING_PRUNED,
    KV_MAPPING_UNIFORM,
    KV_MAPPING_REVERSED,
    KV_MAPPING_EXPLICIT
} kv_mapping_kind;
typedef enum kv_predictor_start {
    KV_START_RANDOM,
    KV_START_LEAST_SQUARES,
    KV_START_BASE,
    KV_START_CHECKPOINT
} kv_predictor_start;
// How aux layers are chosen beside the one that the mapping has.
typedef enum kv_layer_choice { KV_CHOICE_NEAREST, KV_CHOICE_BEST } kv_layer_choice;
typedef enum kv_heads { KV_HEADS_FULL, KV_HEADS_MATCHED } kv_heads;
typedef enum kv_start_rate { KV_RATES_RESIDUAL, KV_RATES_FULL } kv_start_rate;
typedef enum kv_table_start { KV_TABLE_START_ZERO, KV_TABLE_START_FITTED } kv_table_start;
typedef enum kv_teacher { KV_TEACHER_ONLINE, KV_TEACHER_CACHED } kv_teacher;
typedef enum kv_packing { KV_PACKING_STREAM, KV_PACKING_FIXED } kv_packing;

typedef struct kv_mixture_config {
    char *corpus;
    double weight;
} kv_mixture_config;

typedef struct kv_data_config {
    char *train;                // a corpus: a token shard, or a directory of them
    kv_mixture_config *mixture; // or several, drawn by weight
    unsigned n_mixture;
    char *validation; // held-out corpus, NULL: none
    kv_packing packing;
    int64_t seq_len, batch_size, micro_batch_size;
} kv_data_config;

typedef struct kv_model_config {
    kv_model_from from;
    char *path;  // checkpoint, pruned: a directory or random:NAME
    double keep; // pruned: fraction of the layers
    int64_t n_layers, model_dim, head_dim, n_heads, n_kv_heads, ffn_dim, context_length; // scratch
    bool qk_norm;
} kv_model_config;

typedef struct kv_predictor_config {
    kv_mapping_kind mapping;
    int32_t *layers; // explicit
    unsigned n_layers;
    // pruned; uniform, reversed and explicit without aux: the part of the base's layers that is the aux;
    // reversed with aux: the part it was, so that the rule for pruned ones is meant
    double keep;
    kv_predictor_start init;
    char *path;                   // init: checkpoint: a predictor's directory
    int64_t least_squares_tokens; // 0: all
    int64_t least_squares_passes; // over that text, each for a share of the base's layers
    double ridge;
    kv_start_rate rates;
    int64_t aux_layers; // that each base layer reads; 0: all
    kv_layer_choice choose;
    int64_t best_tokens; // of the text that the best are chosen by; 0: all
    // Names as of core/predictor/spec.h; of both sides, or of one of them in its place. NULL: what is usual
    char **sources, **key_sources, **value_sources;
    unsigned n_sources, n_key_sources, n_value_sources;
    int64_t exact_layers; // of the base, computed instead of predicted: 0 or 1
    kv_heads heads;
    char *map;              // name of a kv_map_kind; NULL: linear, or low_rank with a rank
    int64_t rank;           // of low_rank; 0: none is asked for here
    int64_t width;          // of any kind; 0: none
    char *token_table_text; // "none", "full" or a number
    int64_t token_table;    // its value, KV_TABLE_NONE, KV_TABLE_FULL or a width
    kv_table_start table_start;
    kv_adapt adapt;
    int64_t adapt_rank;
} kv_predictor_config;

typedef struct kv_loss_config {
    double base, aux, kl, kl_temperature, hidden, z_loss;
    char *consistency_text;  // "auto", a number, or such as "2/n", n the layers of the base
    double consistency;      // its value; 1 for auto
    bool consistency_shared; // the value is yet to be divided by n
    char *hidden_layer_text; // "auto" or a number
    int64_t hidden_layer;    // its value, negative for auto
} kv_loss_config;

typedef struct kv_steps_config {
    int64_t steps, warmup_steps, checkpoint_every, keep_last, log_every;
    int64_t validate_every, validation_tokens;
    bool keep_best, activation_checkpointing;
    bool shard_optimizer; // each rank has the moments of its part of the weights
    double lr, lr_aux, lr_table, lr_queries, lr_end, warmup_init, weight_decay, beta1, beta2, eps, grad_clip;
    char *memory_text; // "auto" or a number
    double memory_gb;  // its value, negative for auto; 0: not checked
} kv_steps_config;

// Which of the keys that nothing stands for by itself somebody has set.
typedef struct kv_train_given {
    bool mixture, micro_batch_size;
    bool context_length, qk_norm, frozen_dtype;
    bool prefix_layers, predictor_keep, width, adapt_rank;
    bool lr_aux, lr_table, lr_queries, lr_end, validate_every, validation_tokens;
} kv_train_given;

typedef struct kv_train_config {
    kv_task_kind task;
    char *output;
    uint64_t seed;
    kv_data_config data;
    kv_model_config model; // task lm
    kv_recipe recipe;
    // Task kvp; base: also what teaches task lm; aux "prefix": see prefix_layers
    char *base, *aux;
    int64_t prefix_layers; // the base's own first layers are the aux; 0: they are not
    bool freeze_aux;
    kv_frozen_dtype frozen_dtype;
    kv_teacher teacher;
    char *cache; // of teacher: cached
    kv_predictor_config predictor;
    kv_loss_config loss;
    kv_steps_config train;
    kv_train_given given;
} kv_train_config;

// What `kvtrain CONFIG.yaml` is checked against, and what applies where it says nothing.
extern const cyaml_schema_value_t kv_train_schema;
extern const char *const kv_train_paths[];     // keys of paths, in which {seed} is the seed; NULL ends them
extern const char *const kv_lm_defaults[];     // by kv_recipe
extern const char *const kv_kvp_defaults[][2]; // by kv_recipe; [1]: of a prefix
extern const char *const kv_recipe_keys[]; // those that recipes have different defaults for; NULL ends them

// "ours: loss.base 0, loss.kl 2 (set), ...": what the recipe makes of its keys, and which of them somebody has set.
void kv_recipe_describe(const kv_config *config, const kv_train_config *train, FILE *out);

// Loads, fills in defaults and checks every range. The struct belongs to *config (kv_config_free).
kv_status kv_train_config_load(const char *path, const char *const *overrides, size_t n_overrides,
                               kv_config **config, const kv_train_config **train, kv_error *err);

kv_adamw_args kv_train_adamw(const kv_train_config *train);

// The shape of a model made from scratch; its vocabulary is the shard's.
kv_status kv_scratch_spec(const kv_config *config, const kv_train_config *train, const kv_shard_info *shard,
                          kv_model_spec *spec, kv_error *err);

// ---- The parts that predictors are made of (parts.c) -----------------------------------------------------

// Checks all that is said of them and needs no model, and reads what stands in texts; ranges of numbers were checked before.
kv_status kv_train_check_parts(const kv_config *config, kv_train_config *train, kv_error *err);

// The kind of all maps, and its width (0: it has none).
const kv_map_kind *kv_train_map_kind(const kv_predictor_config *predictor);
int64_t kv_train_map_width(const kv_predictor_config *predictor);

// Names of what one side, the keys or the values, of every layer reads, and the key that says so. n_names 0: what is
// usual.
typedef struct kv_source_names {
    char *const *names; // [n_names]
    unsigned n_names;
    const char *key; // "predictor.sources", …; of the usual ones, too
} kv_source_names;
kv_source_names kv_train_sources(const kv_predictor_config *predictor, kv_side side);

// Whether the aux is the base's own first layers; and the directory of an aux of its own, NULL: it has none.
bool kv_train_prefix(const kv_train_config *train);
const char *kv_train_aux(const kv_train_config *train);
// Whether the start compares aux layers; a predictor that is gone on from has its choice made.
bool kv_train_chooses(const kv_train_config *train);
