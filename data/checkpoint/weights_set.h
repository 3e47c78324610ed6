// The safetensors files of one checkpoint: model.safetensors, or the files that model.safetensors.index.json
// deals its tensors out to. They are mapped, not read.
#pragma once

#include "data/checkpoint/safetensors.h"

// Whether a file is called as they are: NAME.safetensors.
bool kv_weights_named(const char *file);

typedef struct kv_weights_set kv_weights_set;

// Opens dir/NAME.safetensors alone. Close with kv_weights_set_close (accepts NULL). On failure *set is NULL.
kv_status kv_weights_set_open(const char *dir, const char *name, kv_weights_set **set, kv_error *err);

// Opens dir/model.safetensors or, where there is none, what dir/model.safetensors.index.json names: plain
// file names, in dir, which together hold exactly the tensors the index lists, each where it says.
kv_status kv_weights_set_open_model(const char *dir, kv_weights_set **set, kv_error *err);

void kv_weights_set_close(kv_weights_set *set);

// What errors about the set as a whole name: the file, or the index.
const char *kv_weights_set_path(const kv_weights_set *set);

// A tensor and the file it lies in. False when there is none of that name.
typedef struct kv_weights_entry {
    const kv_safetensors *file;
    const kv_st_entry *entry;
} kv_weights_entry;
bool kv_weights_set_find(const kv_weights_set *set, const char *name, kv_weights_entry *found);

// The i-th tensor of all, 0 <= i < kv_weights_set_count.
int64_t kv_weights_set_count(const kv_weights_set *set);
kv_weights_entry kv_weights_set_at(const kv_weights_set *set, int64_t i);
