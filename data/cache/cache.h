// Frozen caches: what a base, and an aux that is not trained, make of a shard's rows of fixed packing
// (data/corpus/packing.h), kept on disk. One file a shard, DIR/cache-00000.h5 and so on:
//
//   /tokens              int32 [rows, seq_len + 1]
//   /base/key/I          [rows, seq_len, kv_dim] of layer I, BEFORE k_norm and RoPE
//   /base/value/I        likewise
//   /base/k_norm/I       float32 [head_dim], of models with q/k norm
//   /aux/key/I, /aux/value/I    where an aux was given
//   /logits/ids          int32 [rows, seq_len, top_k], /logits/values float32 likewise, largest first,
//   /logits/logsumexp    float32 [rows, seq_len], of the logits divided by the temperature: where top_k is above 0
// Keys and values are 16- or 32-bit floats (bf16 is a float type of its own that HDF5 converts, so that h5py
// reads float32). All in chunks of whole rows, shuffle + deflate and a Fletcher-32 checksum. Attributes of
// the file: format = "kv-cache", version = 1, dtype ("bf16"), seq_len, top_k, tokenizer (hash), shard (hash
// of its content), source (its path); of /base and /aux: fingerprint (kv_checkpoint_fingerprint), config
// (text of a config.json), source. Where the temperature is not 1 there is an attribute temperature, and the version
// is 2.
#pragma once

#include "core/api.h"
#include "core/model.h"
#include "data/corpus/shard.h"

KV_API_BEGIN

// Of rows and of each token in a file before compression.
enum { KV_CACHE_MAX_TOP_K = 4096 };
#define KV_CACHE_MIN_TEMPERATURE 0.01
#define KV_CACHE_MAX_TEMPERATURE 100.0

typedef struct kv_cache_model {
    char source[256];     // where its weights came from, for people
    char fingerprint[17]; // empty: there is none (aux)
    kv_model_spec spec;
} kv_cache_model;

// What a file says of itself.
typedef struct kv_cache_info {
    kv_dtype dtype;
    int64_t n_rows, seq_len;
    int64_t top_k;      // 0: no logits
    double temperature; // of their logsumexp; 0: 1
    char tokenizer[17], shard[17];
    char source[256];
    kv_cache_model base, aux;
} kv_cache_info;

static inline double kv_cache_temperature(const kv_cache_info *info) {
    return info->temperature == 0 ? 1 : info->temperature;
}

// "f32", "bf16", "f16"; false when it is none of them.
const char *kv_cache_dtype_text(kv_dtype dtype);
bool kv_cache_dtype_parse(const char *text, kv_dtype *dtype);

// Bytes of a whole file of that kind before compression.
double kv_cache_bytes(const kv_cache_info *info);

// Whether both can be used as one: all but rows, shard and sources must be equal. KV_ERR_MISMATCH names what
// differs, found (in `found`) and expected; `path` is where `found` is from.
kv_status kv_cache_same_kind(const char *path, const kv_cache_info *found, const kv_cache_info *expected,
                             kv_error *err);

// ---- Writing -------------------------------------------------------------------------------------------

// Rows of keys and values as kv_model_forward leaves them (raw_k, v), n_rows · seq_len of them.
typedef struct kv_cache_rows {
    int64_t n_rows;
    const int32_t *tokens;                        // [n_rows, seq_len + 1]
    kv_tensor *const *base_raw_k, *const *base_v; // [base layers]
    kv_tensor *const *aux_raw_k, *const *aux_v;   // [aux layers] or NULL
    kv_topk_teacher topk;                         // k = info.top_k
} kv_cache_rows;

typedef struct kv_cache_writer kv_cache_writer;
// norms: of the base. finish() commits and wants all of info->n_rows, free() without it abandons. A value
// that the type cannot hold is KV_ERR_RANGE, one that is not finite, also of the logits, KV_ERR_NOT_FINITE.
kv_status kv_cache_writer_open(const char *path, const kv_cache_info *info, const kv_key_norms *norms,
                               kv_cache_writer **writer, kv_error *err);
kv_status kv_cache_writer_add(kv_cache_writer *writer, const kv_cache_rows *rows, kv_error *err);
kv_status kv_cache_writer_finish(kv_cache_writer *writer, kv_error *err);
void kv_cache_writer_free(kv_cache_writer *writer);
int64_t kv_cache_writer_rows(const kv_cache_writer *writer);  // so far
int64_t kv_cache_writer_bytes(const kv_cache_writer *writer); // on disk so far

// Of parts (data/cache/parts.h): finish() takes as many rows as were added, up to info->n_rows. Messages about values speak of
// `file`, which the part at `path` is of.
#define KV_CACHE_FIRST_ROW "first_row"
kv_status kv_cache_writer_open_part(const char *path, const char *file, int64_t first_row,
                                    const kv_cache_info *info, const kv_key_norms *norms,
                                    kv_cache_writer **writer, kv_error *err);

// ---- One file ------------------------------------------------------------------------------------------

kv_status kv_cache_read_info(const char *path, kv_cache_info *info, kv_error *err);

typedef struct kv_cache kv_cache;
// Checks that every dataset is there, of the type and shape that the attributes tell; reads no rows.
kv_status kv_cache_open(const char *path, kv_cache **cache, kv_error *err);
void kv_cache_free(kv_cache *cache);
const kv_cache_info *kv_cache_about(const kv_cache *cache);

typedef enum kv_cache_part {
    KV_CACHE_BASE_KEY,
    KV_CACHE_BASE_VALUE,
    KV_CACHE_AUX_KEY,
    KV_CACHE_AUX_VALUE
} kv_cache_part;

// out[seq_len, kv_dim] of one row. A checksum that does not fit, or a value that is no finite number, is
// KV_ERR_FORMAT naming file, dataset and row.
kv_status kv_cache_read(kv_cache *cache, kv_cache_part part, int64_t layer, int64_t row, float *out,
                        kv_error *err);
kv_status kv_cache_read_tokens(kv_cache *cache, int64_t row, int32_t *out /* [seq_len + 1] */, kv_error *err);
// ids, logits [seq_len, top_k], logsumexp [seq_len].
kv_status kv_cache_read_topk(kv_cache *cache, int64_t row, int32_t *ids, float *logits, float *logsumexp,
                             kv_error *err);

// Reads all that is in a file, as it would be read row by row.
kv_status kv_cache_verify(const char *path, kv_error *err);
// Row `row` of another file of the same kind is the writer's next, to the byte as it is stored.
kv_status kv_cache_writer_copy(kv_cache_writer *writer, kv_cache *from, int64_t row, kv_error *err);

// ---- A directory of them -------------------------------------------------------------------------------

typedef struct kv_cache_file {
    int64_t number; // NNNNN of its name
    int64_t n_rows;
    char shard[17];
} kv_cache_file;

typedef struct kv_cache_dir {
    char *path;
    kv_cache_info info; // of the first file: all are of one kind
    int64_t n_files;
    kv_cache_file *files; // by number
    kv_param *k_norm;     // [base layers], float32; NULL without q/k norm
    kv_key_norms norms;   // the same as the core wants them
    kv_cache *open;       // one at a time
    int64_t open_file;
} kv_cache_dir;

// DIR/cache-NNNNN.h5 into path.
kv_status kv_cache_path(const char *dir, int64_t number, char *path, size_t size, kv_error *err);
// What is called DIR/cache-NNNNN.h5 and `ending`, by number, of which nothing else is known then; caller frees. "": the files.
// None when there is no such directory.
kv_status kv_cache_list(const char *dir, const char *ending, kv_cache_file **files, int64_t *n_files,
                        kv_error *err);
// KV_ERR_IO when there is no such directory, KV_ERR_FORMAT when it holds no cache.
kv_status kv_cache_dir_open(const char *path, kv_cache_dir **dir, kv_error *err);
void kv_cache_dir_free(kv_cache_dir *dir);
// Index of the file made from a shard of this content, -1: there is none.
int64_t kv_cache_dir_find(const kv_cache_dir *dir, const char *shard_hash);
// The open file of that index; the one before it is closed. Belongs to dir.
kv_status kv_cache_dir_file(kv_cache_dir *dir, int64_t file, kv_cache **cache, kv_error *err);

KV_API_END
