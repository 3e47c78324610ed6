// Prompts that have been read, on disk: what a session holds of one, so that it can go on without reading it again.
// One HDF5 file:
//
//   /ids          int32 [tokens], the whole prompt
//   /predicted    uint8 [rows], 1: a token's entries are predicted, 0: the base's own
//   /text         uint8 [bytes], what the ids are of, in UTF-8; only where they are all of a text
//   /base/key/I   float32 [rows, kv_dim] of layer I, behind k_norm and before RoPE; /base/value/I
//   /aux/key/I    float32 [read, kv_dim] of the aux's layers that go on from it; /aux/value/I
// rows: the tokens from the first on that have entries: all but the last, which is read when the prompt is used, or all
// (of a conversation). Attributes of the root: format = "kv-prompt", version = 1; base_layers, aux_layers; base, aux,
// predictor (fingerprints of the weights, "" where there is none), weights (the type that they were held in), tokenizer
// (hash, ""), base_source, aux_source, predictor_source (for people); checksum (XXH64 of all of this and of all datasets).
// Entries hardly get smaller: they lie uncompressed, in one piece each, so that loading them is reading a file.
#pragma once

#include "core/api.h"
#include "core/model.h"

KV_API_BEGIN

// Whose prompt it is.
typedef struct kv_saved_maker {
    char base[17], aux[17],
        predictor[17];  // kv_checkpoint_fingerprint, kv_predictor_fingerprint; "": there is none
    char weights[8];    // "f32", "bf16", "f16"
    char tokenizer[17]; // kv_tokenizer_hash; "": there is none
    char base_source[256], aux_source[256], predictor_source[256];
} kv_saved_maker;

// Keys and values of the first layers of a model.
typedef struct kv_saved_cache {
    int64_t n_layers, n_rows;
    int64_t dims[KV_MAX_LAYERS];
    float *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS]; // [n_rows, dims[i]]
} kv_saved_cache;

typedef struct kv_saved_prompt {
    kv_saved_maker maker;
    int64_t n_ids, n_rows;
    int32_t *ids;       // [n_ids]
    uint8_t *predicted; // [n_rows]
    char *text;         // [n_text], NUL-terminated; NULL: there is none
    int64_t n_text;
    kv_saved_cache base, aux; // base.n_rows = n_rows; aux.n_layers 0: nothing of one is kept
} kv_saved_prompt;

// Everything in it, and itself. Accepts NULL.
void kv_saved_prompt_free(kv_saved_prompt *prompt);
double kv_saved_prompt_bytes(const kv_saved_prompt *prompt); // of ids and entries

// Whole or not at all. Entries that are not finite are KV_ERR_NOT_FINITE.
kv_status kv_saved_prompt_write(const char *path, const kv_saved_prompt *prompt, kv_error *err);

// *prompt is the caller's to free. What is damaged, of another shape than it says or not finite is KV_ERR_FORMAT; never
// more memory than the file has bytes, for the arrays, is asked for.
kv_status kv_saved_prompt_read(const char *path, kv_saved_prompt **prompt, kv_error *err);

// KV_ERR_MISMATCH where `prompt`, read from path, is another's than the one expected: names the first difference.
kv_status kv_saved_prompt_check(const char *path, const kv_saved_prompt *prompt,
                                const kv_saved_maker *expected, kv_error *err);

KV_API_END
