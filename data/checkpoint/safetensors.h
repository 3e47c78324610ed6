// The safetensors format: 8 bytes little-endian header length, a JSON header, raw tensor data.
// Reading maps the file; nothing is copied. Every size in the header is checked against the file before use.
// What a tensor is like - its type, its shape - matters to those who need it: a file may hold any others.
#pragma once

#include "core/api.h"
#include "core/dtype.h"
#include "core/status.h"

#include <stdbool.h>

KV_API_BEGIN

typedef struct kv_safetensors kv_safetensors;

typedef struct kv_st_entry {
    const char *name, *type; // the type as the file calls it: "BF16", "I64"
    bool is_float;           // whether the type is one that weights are computed with; then dtype says which
    kv_dtype dtype;
    int n_dims;
    const int64_t *shape; // [n_dims]
    const void *data;     // in the mapping, or a copy where it lies there at an address its type may not have
    size_t size;          // bytes
} kv_st_entry;

// Caller closes with kv_safetensors_close (accepts NULL). On failure *file is NULL.
kv_status kv_safetensors_open(const char *path, kv_safetensors **file, kv_error *err);
void kv_safetensors_close(kv_safetensors *file);

const char *kv_safetensors_path(const kv_safetensors *file);
int64_t kv_safetensors_count(const kv_safetensors *file);
const kv_st_entry *kv_safetensors_at(const kv_safetensors *file, int64_t i);
const kv_st_entry *kv_safetensors_find(const kv_safetensors *file, const char *name); // NULL when absent

// "[2, 3]"; of long shapes the beginning.
const char *kv_st_shape_text(int n_dims, const int64_t *shape, char text[96]);

// A tensor that has been copied need not stay in memory: its pages are given back to the system (and read
// again should they be needed).
void kv_safetensors_forget(const kv_safetensors *file, const kv_st_entry *entry);

const char *kv_safetensors_metadata(const kv_safetensors *file, const char *key); // NULL when absent

// One tensor to write, as consecutive parts (fused projections are written from their slices).
enum { KV_ST_PARTS = 3, KV_ST_WRITTEN_DIMS = 4 };
typedef struct kv_st_tensor {
    const char *name;
    kv_dtype dtype;
    int n_dims;
    int64_t shape[KV_ST_WRITTEN_DIMS];
    const void *part[KV_ST_PARTS];
    size_t part_size[KV_ST_PARTS];
} kv_st_tensor;

// Writes the file whole or not at all (kv_whole_file). metadata: n_metadata key, value pairs one after the
// other; NULL when none.
kv_status kv_safetensors_write(const char *path, const kv_st_tensor *tensors, int64_t n,
                               const char *const *metadata, int64_t n_metadata, kv_error *err);

// The same of tensors whose data come piece by piece: their parts are not looked at, all have one dtype. The file is
// there once kv_safetensors_end was given KV_OK, whole; whatever has not been put is zeros.
typedef struct kv_st_writer kv_st_writer;
kv_status kv_safetensors_begin(const char *path, const kv_st_tensor *tensors, int64_t n,
                               const char *const *metadata, int64_t n_metadata, kv_st_writer **writer,
                               kv_error *err);
// size bytes of tensor i, from byte `offset` of it on.
kv_status kv_safetensors_put(kv_st_writer *writer, int64_t i, size_t offset, const void *data, size_t size,
                             kv_error *err);
// What `status`, that of writing, asks for: the file, or nothing, and *err as it was. Frees the writer (NULL: none).
kv_status kv_safetensors_end(kv_st_writer *writer, kv_status status, kv_error *err);

KV_API_END
