// Tabulated predictors on disk (core/predictor/tabulated.h): a safetensors file with a tensor [vocab_size, cols] for
// each token table, "key.3.table" or "key.3.down.weight.table", all bf16 or all f32; and in its metadata
//
//   format "kv-tabulated", version "1"
//   base_fingerprint, predictor_fingerprint      whose weights it was worked out from
//
// It is mapped, not read: processes that use it share its pages, and hold those of tokens that occurred.
#pragma once

#include "core/api.h"
#include "data/checkpoint/checkpoint.h"

KV_API_BEGIN

// What it is called in a predictor's directory, where kvdata tabulate puts it unless told otherwise.
extern const char kv_tabulated_name[]; // "tabulated.safetensors"

// What one of this predictor, a plan or not, will be: bytes of all tables, numbers looked up for a token, and
// products of a token's maps with and without it. KV_ERR_ARGUMENT when nothing of it depends on the token alone.
typedef struct kv_tabulated_size {
    double bytes;
    int64_t width;
    uint64_t products, products_left;
} kv_tabulated_size;
kv_status kv_tabulated_measure(const kv_predictor *predictor, const kv_model_spec *base,
                               const kv_model_spec *aux, kv_dtype dtype, kv_tabulated_size *size,
                               kv_error *err);

// Works it out and writes it, whole or not at all. base_fingerprint: kv_checkpoint_fingerprint of the base. aux: the spec of its aux, the base's for a prefix. go_on (may be
// NULL) is called with tokens done, every few hundred; false ends it with KV_ERR_INTERRUPTED.
typedef bool kv_tabulated_go_on(void *context, int64_t n_tokens);
kv_status kv_tabulated_write(const char *path, kv_predictor *predictor, kv_model *base,
                             const char *base_fingerprint, const kv_model_spec *aux, kv_dtype dtype,
                             kv_tabulated_go_on *go_on, void *context, kv_error *err);

// What a file says of itself.
typedef struct kv_tabulated_info {
    kv_dtype dtype;
    int64_t vocab_size, width, n_tables;
    char base[17], predictor[17]; // fingerprints
} kv_tabulated_info;
kv_status kv_tabulated_read_info(const char *path, kv_tabulated_info *info, kv_error *err);

// Replaces a predictor by what is left of it beside that file, which stays mapped as long as it. path: the file, or a
// directory it is in by its name. base_fingerprint: of the base at hand, NULL: not known. A plan, without weights, is
// replaced by a plan and its weights are not asked about. KV_ERR_MISMATCH when the file was made for another vocabulary, from other
// weights or another kind of predictor: *predictor is then as it was.
kv_status kv_tabulated_use(const char *path, const kv_model_spec *base, const kv_model_spec *aux,
                           const char *base_fingerprint, kv_predictor **predictor, kv_error *err);

KV_API_END
