// The safetensors files of one checkpoint: model.safetensors, or the files that model.safetensors.index.json
// deals its tensors out to. They are mapped, not read. What is wrong with a tensor that nobody asks for - with
// its type, its place in the index, the file it should be in - does not matter.
#pragma once

#include "data/checkpoint/safetensors.h"

// Whether a file is called as they are: NAME.safetensors.
bool kv_weights_named(const char *file);

typedef struct kv_weights_set kv_weights_set;

// Opens dir/NAME.safetensors alone. Close with kv_weights_set_close (accepts NULL). On failure *set is NULL.
kv_status kv_weights_set_open(const char *dir, const char *name, kv_weights_set **set, kv_error *err);
// Opens dir/model.safetensors or, where there is none, what dir/model.safetensors.index.json names: plain
// file names, in dir. A file that cannot be opened is missed by those who need a tensor in it.
kv_status kv_weights_set_open_model(const char *dir, kv_weights_set **set, kv_error *err);
void kv_weights_set_close(kv_weights_set *set);

// What errors about the set as a whole name: the file, or the index.
const char *kv_weights_set_path(const kv_weights_set *set);

// A tensor and the file it lies in: the one the index names or, where it has none of that name, the one other
// that has. False when there is none, or when it cannot be told which is meant.
typedef struct kv_weights_entry {
    const kv_safetensors *file;
    const kv_st_entry *entry;
} kv_weights_entry;
bool kv_weights_set_find(const kv_weights_set *set, const char *name, kv_weights_entry *found);

// Of a tensor that was not found: KV_OK when the index does not know it either, else why.
kv_status kv_weights_set_missed(const kv_weights_set *set, const char *name, kv_error *err);

// The i-th tensor of all, 0 <= i < kv_weights_set_count.
int64_t kv_weights_set_count(const kv_weights_set *set);
kv_weights_entry kv_weights_set_at(const kv_weights_set *set, int64_t i);
