// The models behind the rows of an evaluation, loaded once each and checked against one another.
#pragma once

#include "data/checkpoint/pair.h"
#include "data/prompt/saved_prompt.h"
#include "eval/config/config.h"
#include "infer/cost.h"

typedef struct kv_systems {
    int64_t n;
    const kv_config *config; // borrowed, as is the next
    const kv_eval_config *eval;
    kv_system *items;  // [n], in the order of the config
    kv_system *shapes; // [n] the same without weights (kv_systems_shapes); NULL: nobody asked
    int64_t *contexts; // [n] the shortest context among a system's models, less what a speculative aux looks
                       // ahead
    const char **limited_by; // [n] whose that is: "" of a model alone, "the aux of ", …
    struct kv_known_model *models;
    int64_t n_models; // distinct directories
    bool together;    // ranks load them together
} kv_systems;

// Checks that all systems can be what the config says (data/checkpoint/pair.h) and finds their contexts,
// without any weights: items[] is filled by kv_systems_load. tokenizer: that of tokenizer_path, opened (NULL: there
// are no tasks). Errors name the config's file, line and key. Free with kv_systems_free (accepts NULL).
kv_status kv_systems_open(const kv_config *config, const kv_eval_config *eval, const char *tokenizer_path,
                          const kv_tokenizer *tokenizer, kv_systems **systems, kv_error *err);

// Fills in what is known of the models of row i, for those who check it once more (kv_pair_check).
void kv_systems_known(kv_systems *systems, int64_t i, kv_pair *pair);

// Collective; a failure is everybody's. Loads the weights. Rows that name the same directory share a model, and so do the ranks of
// a node (data/checkpoint/shared.h). The models belong to the systems.
kv_status kv_systems_load(kv_systems *systems, kv_error *err);
void kv_systems_free(kv_systems *systems);

// Fills in shapes[]: specs, types and predictors whose weights have not been read, enough to work out what each row will
// cost (infer/cost.h, infer/memory.h). Weights that are not there count as float32.
kv_status kv_systems_shapes(kv_systems *systems, kv_error *err);

// What weights will take, in bytes, once shapes are known: all of them, and of these what is no file that is mapped, and
// so cannot be given back.
typedef struct kv_systems_size {
    double weights, owned;
    double predictors; // of these what each rank of a node has for itself: models they have together
} kv_systems_size;
kv_systems_size kv_systems_measure(const kv_systems *systems);

// The shortest context of all rows, and whose it is, as in "the aux of `SPF` (less 8 to look ahead)".
enum { KV_SYSTEM_LIMIT = 160 };
int64_t kv_systems_shortest(const kv_systems *systems, char whose[KV_SYSTEM_LIMIT]);
// The smallest vocabulary of all models, and whose it is: its directory.
int64_t kv_systems_fewest_ids(const kv_systems *systems, char whose[KV_SYSTEM_LIMIT]);

// Tells what row i computes from what any other does: a hash of weights, mapping and pruning policy. Reads
// all weights of a model the first time.
void kv_systems_hash(const kv_systems *systems, int64_t i, char out[17]);

// Whose prompts are row i's, as kvrun --save-prompt has it. Reads all weights of a model the first time.
void kv_systems_maker(const kv_systems *systems, int64_t i, const kv_tokenizer *tokenizer,
                      kv_saved_maker *maker);
