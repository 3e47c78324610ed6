// Whether a base, an aux and a predictor go together, said before any weights are read: from configs,
// safetensors headers and tokenizers, in milliseconds where tokenizers are the same files.
//
// Tokenizers. All that say what an id means - `tokenizer`, those in the directories of base and aux, the
// shard's - must agree: same piece for every id that two of them have. One may go on where another ends (as
// a chat model's with its added tokens) or have a hole there; a piece called <|reserved_special_token_...> is
// a hole, since no text holds it. What a shard's ids mean is known by its hash: the tokenizers in the
// directories must have it, or agree with the one that has. A model may also say which one it was trained with
// (tokenizer_hash.json, data/tokenizer/files.h): its own and the one used must be that, or go on where it ends.
// Tokenizers that agree but cut text in different ways are a warning, and refused where one of them has more tokens.
//
// Vocabulary. With n the words of the tokenizer that text is turned into ids with (kv_tokenizer_words), or the
// size of a shard of another one, both models' tables must have at least n rows: every id of a text can be read
// by both. Further rows are padding, of which base and aux may have different numbers. Where nothing tells n, the
// tables must be equal.
//
// Not checked here is what takes all weights to know: whether the predictor was trained between these very models
// (kv_predictor_load compares fingerprints).
#pragma once

#include "core/api.h"
#include "core/model.h"
#include "data/corpus/shard.h"
#include "data/tokenizer/files.h"

KV_API_BEGIN

typedef enum kv_pair_part {
    KV_PAIR_BASE,
    KV_PAIR_AUX,
    KV_PAIR_PREDICTOR,
    KV_PAIR_TOKENIZER,
    KV_PAIR_SHARD,
    KV_PAIR_MAPPING,
    KV_PAIR_CONTEXT
} kv_pair_part;

typedef struct kv_pair {
    // Directories or random names (data/checkpoint/random.h); aux and predictor may be NULL: a model alone. Predictors
    // of the base's own first layers come without an aux, all others with one.
    const char *base, *aux, *predictor;
    const char *tokenizer;      // what text is turned into ids with; NULL: the base's own, if it has one
    const kv_tokenizer *opened; // `tokenizer`, where the caller has it open already; else NULL
    bool ids_only;     // no text is read or written: a model's own tokenizer that cannot be read will do
    const char *shard; // token shard that is trained on, with what it says of itself; or NULL
    const kv_shard_info *shard_info;
    const int32_t *mapping; // [n_mapping] explicit layer map, or NULL: the predictor's own
    int64_t n_mapping;
    int64_t n_tokens; // length of context needed; 0: any
    // What the config.json of base and aux say, so that it is read once: taken as known where it says anything
    // (n_layers), else filled in. NULL: read, and forgotten.
    kv_model_spec *base_spec, *aux_spec;
    kv_pair_part *blamed; // on failure gets which of these is at fault; may be NULL
} kv_pair;

// KV_OK, or an error naming what is at fault (its role and its path), what was found and what was expected.
kv_status kv_pair_check(const kv_pair *pair, kv_error *err);

KV_API_END
