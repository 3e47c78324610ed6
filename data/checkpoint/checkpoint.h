// Models and predictors on disk, in the Hugging Face directory layout: config.json + model.safetensors, or
// the files that model.safetensors.index.json names. Model types openelm, llama, mistral, qwen2 and qwen3;
// float32, bfloat16 and float16. Wherever a directory is asked for, a name as in data/checkpoint/random.h will do:
// random:openelm-1.1b for a model, random for a predictor.
#pragma once

#include "core/api.h"
#include "core/predictor/predictor.h"

#include <stdbool.h>
#include <stdint.h>

KV_API_BEGIN

// config.json (and generation_config.json for the tokens that end a text) → spec. Unsupported model types and
// features are refused by name (KV_ERR_FORMAT).
kv_status kv_checkpoint_spec(const char *dir, kv_model_spec *spec, kv_error *err);

// Loads a frozen model. Weights stay in their stored type and are views of the mapped file (no copy). Every
// tensor that the model needs is checked for presence, type and shape against config.json. What becomes of
// others: data/checkpoint/hf_names.h.
kv_status kv_checkpoint_load(const char *dir, kv_model **model, kv_error *err);

// The same, as an owned float32 copy that can be made trainable. The files' pages are given back tensor by
// tensor, so that the copy is about all the memory it takes.
kv_status kv_checkpoint_load_trainable(const char *dir, kv_model **model, kv_error *err);

// Either, of a directory whose config.json has been read (kv_checkpoint_spec, kv_pair_check): it is not read
// again.
kv_status kv_checkpoint_load_known(const char *dir, const kv_model_spec *spec, bool trainable,
                                   kv_model **model, kv_error *err);

// Type that frozen weights are held in; KV_FROZEN_STORED: as they are on disk.
typedef enum kv_frozen_dtype {
    KV_FROZEN_F32 = KV_F32,
    KV_FROZEN_BF16 = KV_BF16,
    KV_FROZEN_F16 = KV_F16,
    KV_FROZEN_STORED
} kv_frozen_dtype;

// Brings a frozen model into that type, tensor by tensor, giving back what the old weights took as it goes:
// at no time more memory than the new weights and one old tensor, of weights that are views of a file, or
// than the larger of both, of others. A model that has it already stays as it is. Weights are rounded to
// nearest even; KV_ERR_RANGE, naming the parameter, when one is too large for the type. fingerprint (may be
// NULL) gets kv_checkpoint_fingerprint of the weights as they were, which takes reading them once in any
// case. *model is another one afterwards; on failure it is freed and NULL.
kv_status kv_checkpoint_convert(kv_model **model, kv_frozen_dtype dtype, char fingerprint[17], kv_error *err);

// kv_checkpoint_load (spec NULL) or kv_checkpoint_load_known, kv_checkpoint_convert, and kv_model_pack where memory allows
// it: for those who only run a model. KV_ERR_MEMORY before anything is read when what will not be a view of the file does
// not fit in memory.
kv_status kv_checkpoint_load_frozen(const char *dir, const kv_model_spec *spec, kv_frozen_dtype dtype,
                                    kv_model **model, char fingerprint[17], kv_error *err);

// Writes config.json, generation_config.json and model.safetensors (float32; of openelm fused projections joined) into
// dir: all or none, as a kv_whole_set. To replace a directory with all that is in it, write under kv_whole_dir_begin. A spec that
// config.json cannot express is KV_ERR_ARGUMENT.
kv_status kv_checkpoint_save(const char *dir, kv_model *model, kv_error *err);

// Tells one set of weights from another: a 64-bit hash over all weights, as float32, and over what
// config.json says about their use (not the longest context or the special tokens), as 16 hex digits plus
// NUL.
void kv_checkpoint_fingerprint(kv_model *model, char out[17]);
// The same of a predictor: of its parts as kv_predictor_spec_describe tells them, and their weights. Zeros when out of
// memory.
void kv_predictor_fingerprint(kv_predictor *predictor, char out[17]);

// The same of weights alone, for files that lie beside them to say whose they are.
void kv_params_fingerprint(kv_param *const *params, int64_t n, char out[17]);

// The weights that a predictor belongs to, each by its kv_checkpoint_fingerprint: those of the base it was made for,
// and of the aux as it was when the predictor was saved. NULL: not known.
typedef struct kv_fingerprints {
    const char *base, *aux;
} kv_fingerprints;

// Predictor directory: predictor.json (layer counts, what every map reads and is: data/checkpoint/predictor_json.h;
// base_fingerprint and aux_fingerprint; fingerprint of the weights beside it) + predictor.safetensors (one tensor a
// parameter, by its name: kv_predictor_params). The two files are a kv_whole_set.
// Fingerprints that are not known are not recorded; NULL: neither is. A prefix has no aux: only the base's is.
kv_status kv_predictor_save(const char *dir, kv_predictor *predictor, const kv_fingerprints *made_for,
                            kv_error *err);

// Checks every shape against both specs. found: the models at hand; those of them that predictor.json knows
// another fingerprint of are KV_ERR_MISMATCH. NULL skips that check. Weights beside a predictor.json of others are
// KV_ERR_MISMATCH, too (one from before it had their fingerprint goes with any of its shape). mapping: NULL takes the one in predictor.json;
// given, it must agree with it, and predictor.json may be missing (weights of other programs). A random one is of
// the right shape for any pair. aux NULL: there is none, for the predictors of a prefix; with an aux these are
// KV_ERR_MISMATCH, as others are without.
kv_status kv_predictor_load(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                            const kv_fingerprints *found, const int32_t *mapping, kv_predictor **predictor,
                            kv_error *err);

// Whether kv_predictor_load could load it for any base of this shape: predictor.json, and shapes from the
// header of the weights, none of which are read.
kv_status kv_predictor_check(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                             const int32_t *mapping, kv_error *err);

// A predictor of the shape that predictor.json says, without weights (kv_predictor_plan): what is needed to
// work out what it will cost. On failure *predictor is NULL.
kv_status kv_predictor_shape(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                             kv_predictor **predictor, kv_error *err);

// How many of the base's own first layers stand for the aux; 0: it is a model of its own. Looks at nothing else.
kv_status kv_predictor_prefix(const char *dir, int64_t *n_layers, kv_error *err);

// ---- Size, before anything is read ---------------------------------------------------------------------

typedef struct kv_checkpoint_size {
    int64_t bytes; // of weights as they are stored
    bool wide;     // float32, as far as bytes and number of weights say
} kv_checkpoint_size;

// dir: a directory or a random name; spec: of the model in it. Of a directory's weights only those count that the
// model needs; what is wrong with them is said when they are loaded. KV_ERR_IO when there are none.
kv_status kv_checkpoint_measure(const char *dir, const kv_model_spec *spec, kv_checkpoint_size *size,
                                kv_error *err);

KV_API_END
