// What data/checkpoint/hf_config.c needs of each family of model types, and what the families share.
#pragma once

#include "core/model.h"
#include "data/file/json.h"

// Widths above this cannot be meant; it also keeps what is computed from them in range before the whole spec
// is checked.
enum { KV_HF_MAX_WIDTH = 1 << 24 };

// Fills a spec that is zero but for model_type and the ids, which are -1.
typedef kv_status kv_hf_read_fn(const kv_json_file *file, kv_model_spec *spec, kv_error *err);
// What reads back as the spec, if the family can express it; NULL when out of memory.
typedef json_t *kv_hf_write_fn(const kv_model_spec *spec);

kv_hf_read_fn kv_hf_openelm_read, kv_hf_llama_read;
kv_hf_write_fn kv_hf_openelm_write, kv_hf_llama_write;

// ---- Plain values --------------------------------------------------------------------------------------

// A key of the file and where in the spec its value lies.
typedef struct kv_hf_field {
    const char *key;
    enum { KV_HF_INT, KV_HF_REAL, KV_HF_FLOAT, KV_HF_BOOL } kind;
    size_t offset;      // in kv_model_spec: of an int64_t, a double, a float, a bool
    double least, most; // of a number
    bool needed;        // or else an absent key leaves the spec as it is
    bool null_absent;   // null is the same as an absent key
} kv_hf_field;

#define KV_HF_AT(member) offsetof(kv_model_spec, member)
// Rows of a table: KV_HF_NUMBER(INT, "key", member, least, most, needed) and so on.
#define KV_HF_NUMBER(kind, key, member, least, most, needed)                                                 \
    { key, KV_HF_##kind, KV_HF_AT(member), least, most, needed, false }
#define KV_HF_FLAG(key, member, null_absent)                                                                 \
    { key, KV_HF_BOOL, KV_HF_AT(member), 0, 1, false, null_absent }
#define KV_HF_END                                                                                            \
    { NULL, KV_HF_INT, 0, 0, 0, false, false }

// All fields[] up to the one without a key, from the file and into `root`. false: out of memory.
kv_status kv_hf_fields_read(const kv_json_file *file, const kv_hf_field *fields, kv_model_spec *spec,
                            kv_error *err);
bool kv_hf_fields_write(const kv_model_spec *spec, const kv_hf_field *fields, json_t *root);

// ---- Special tokens ------------------------------------------------------------------------------------

// bos_token_id (an id, alone or in a list, or null) and eos_token_id (an id, a list of ids or null) → bos_id,
// eos_id and stop_ids. bos, eos: what an absent key means.
kv_status kv_hf_tokens_read(const kv_json_file *file, int32_t bos, int32_t eos, kv_model_spec *spec,
                            kv_error *err);

// Adds the eos_token_id of dir/generation_config.json, where there is such a file, to those of the spec.
kv_status kv_hf_generation_read(const char *dir, kv_model_spec *spec, kv_error *err);

// The values of bos_token_id and eos_token_id.
json_t *kv_hf_bos_json(const kv_model_spec *spec);
json_t *kv_hf_eos_json(const kv_model_spec *spec);

// ---- Rotary positions ----------------------------------------------------------------------------------

// rope_theta and rope_scaling, or rope_parameters with both in it. `theta`: what an absent one means. Scaling
// rules other than linear and llama3 are refused by name, unless they change nothing up to context_length.
kv_status kv_hf_rope_read(const kv_json_file *file, double theta, int64_t context_length, kv_rope_spec *rope,
                          kv_error *err);

// The value of rope_scaling.
json_t *kv_hf_rope_scaling_json(const kv_rope_spec *rope);

// ---- Numbers -------------------------------------------------------------------------------------------

// A float as the shortest decimal that reads back as the same float.
json_t *kv_hf_float_json(float value);
